"""Every test runs on uvloop, as the proxy does, no generated one is timed, no error of ours shows a key.

And what tests of several modules are given.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import uvloop
from hypothesis import HealthCheck, settings

from proxy.errors import ProxyError
from tests.harness import KEY, Upstream
from tests.traffic_rig import APPLICATIONS, Shop, ended, open_shop
from tests.upstream_fakes import Silence

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


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    """A scripted Talon.One."""
    upstream = await Upstream().start()
    yield upstream
    await upstream.stop()


@pytest.fixture
async def silence() -> AsyncIterator[None]:
    """See `Silence`."""
    async with Silence.kept():
        yield


@pytest.fixture
def shop() -> Iterator[Shop]:
    """The traffic room with callers before it and nobody's sockets behind it."""
    with ended(open_shop()) as shop:
        yield shop


@pytest.fixture
def mall() -> Iterator[Shop]:
    """Two Applications of one environment, and one of another."""
    with ended(open_shop(applications=APPLICATIONS)) as shop:
        yield shop
