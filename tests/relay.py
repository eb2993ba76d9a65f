"""A relay between callers and the proxy: it keeps what callers sent."""

import asyncio
import contextlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tests.process import Serve


class Request(NamedTuple):
    """One request of a caller, as it left it."""

    method: str
    target: str
    head: bytes
    body: bytes


class Relay:
    """Passes bytes on, both ways; knows what callers sent on each of their connections."""

    def __init__(self, proxy: Serve) -> None:
        self._proxy = proxy
        self.connections: list[bytearray] = []  # what callers sent on each
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self, folder: Path) -> dict[str, str]:
        """Listen; gives what commands need to know."""
        path = str(folder / "relay")
        self._servers = [
            await asyncio.start_server(lambda *line: self._pass(line, self._proxy.address), "127.0.0.1", 0),
            await asyncio.start_unix_server(lambda *line: self._pass(line, self._socket), path),
        ]
        port = self._servers[0].sockets[0].getsockname()[1]
        return {"url": f"http://127.0.0.1:{port}", "socket": path}

    def requests(self) -> list[Request]:
        """What callers sent, connection by connection."""
        return [request for sent in self.connections for request in _requests(bytes(sent))]

    def clear(self) -> None:
        """Forget what was sent so far."""
        self.connections.clear()

    async def stop(self) -> None:
        """Close everything."""
        for server in self._servers:
            server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _pass(self, line: tuple[asyncio.StreamReader, asyncio.StreamWriter], to: str | tuple[str, int]) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        sent = bytearray()
        self.connections.append(sent)
        opening = asyncio.open_unix_connection(to) if isinstance(to, str) else asyncio.open_connection(*to)
        reader, writer = await opening
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._copy(line[0], writer, sent))
                group.create_task(self._copy(reader, line[1], bytearray()))
        finally:
            self._tasks.discard(task)
            for end in (writer, line[1]):
                end.close()

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, seen: bytearray) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65536):
                seen += data
                writer.write(data)
                await writer.drain()
            writer.write_eof()

    @property
    def _socket(self) -> str:
        return next(text.removeprefix("unix:") for text in self._proxy.addresses if text.startswith("unix:"))


def _requests(rest: bytes) -> Iterator[Request]:
    while rest:
        head, _, rest = rest.partition(b"\r\n\r\n")
        found = re.search(rb"\r\ncontent-length: *(\d+)", head, re.IGNORECASE)
        length = int(found[1]) if found else 0
        method, target, _ = head.decode("latin-1").split(" ", 2)
        yield Request(method, target, head, rest[:length])
        rest = rest[length:]
