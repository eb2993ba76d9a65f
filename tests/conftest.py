"""Every test runs on uvloop, as the proxy does, no generated one is timed, no error of ours shows a key; some files."""

import asyncio
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import uvloop
from hypothesis import HealthCheck, settings

from proxy.errors import ProxyError
from tests.harness import KEY

# A busy machine is no defect.
settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy")


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """See the module."""
    return {"uvloop": uvloop.new_event_loop}


@pytest.fixture(scope="session", autouse=True)
def _no_error_shows_a_key() -> Iterator[None]:
    """T10: of all errors of ours that any test raises, none has a piece of the key that tests use."""
    made = ProxyError.__init__
    telling: list[str] = []

    def make(error: ProxyError, *args: Any, **options: Any) -> None:
        made(error, *args, **options)
        if KEY[:12] in f"{error!r}{vars(error)}":
            telling.append(type(error).__name__)

    ProxyError.__init__ = make  # type: ignore[assignment, method-assign]
    yield
    ProxyError.__init__ = made  # type: ignore[method-assign]
    assert telling == []


@pytest.fixture
def toml(tmp_path: Path) -> Callable[[str], str]:
    """Write a configuration file; gives its path."""

    def write(text: str) -> str:
        path = tmp_path / "talon-proxy.toml"
        path.write_text(text)
        path.chmod(0o600)
        return str(path)

    return write


@pytest.fixture
def keyfile(tmp_path: Path) -> Callable[..., str]:
    """Write a file that holds a key; gives its path."""

    def write(content: str | bytes, name: str = "key", mode: int = 0o600) -> str:
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        path.chmod(mode)
        return str(path)

    return write
