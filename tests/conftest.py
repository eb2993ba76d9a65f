"""Every test runs on uvloop, as the proxy does; files for those that need some."""

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import uvloop


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """See the module."""
    return {"uvloop": uvloop.new_event_loop}


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
