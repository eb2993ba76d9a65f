"""The simulator over real sockets, and a caller of it. Calls are held by a gate instead of a clock."""

import asyncio
import io
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import orjson
from yarl import URL

from proxy.simulator.server import Simulator
from tests.harness import Line

KEY = {"Authorization": "ApiKey-v1 simulator"}


class Gate:
    """Holds running calls until they are let through, and tells when one has come."""

    def __init__(self) -> None:
        self._arrivals: asyncio.Queue[asyncio.Future[None]] = asyncio.Queue()
        self._open = False

    async def __call__(self) -> None:
        if not self._open:
            held: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._arrivals.put_nowait(held)
            await held

    async def next(self) -> "asyncio.Future[None]":
        return await self._arrivals.get()

    def open(self) -> None:
        self._open = True
        while not self._arrivals.empty():
            self._arrivals.get_nowait().set_result(None)


class Talon:
    """A running simulator and a caller."""

    def __init__(self, simulator: Simulator, port: int, client: aiohttp.ClientSession) -> None:
        self.simulator = simulator
        self.port = port
        self.lines: list[Line] = []
        self._client = client

    @property
    def key(self) -> dict[str, str]:
        """The header that opens it."""
        return KEY

    async def call(
        self, method: str, target: str, body: object = None, headers: dict[str, str] | None = None
    ) -> tuple[int, Any]:
        encoded = body if isinstance(body, bytes) or body is None else orjson.dumps(body)
        # aiohttp warns of large bytes, but not of a stream.
        sent = None if encoded is None else io.BytesIO(encoded)
        async with self._client.request(method, self.url(target), data=sent, headers=headers or KEY) as reply:
            assert reply.headers["Server"] == "talon-proxy-simulator"
            text = await reply.read()
            return reply.status, orjson.loads(text) if text else None

    def url(self, target: str) -> URL:
        # Encoded as it stands, so that %2F goes out as %2F.
        return URL(f"http://127.0.0.1:{self.port}{target}", encoded=True)

    async def line(self) -> Line:
        """A raw connection; it is closed at the end of the test."""
        line = Line(*await asyncio.open_connection("127.0.0.1", self.port))
        self.lines.append(line)
        return line

    def begin(self, *arguments: Any, **options: Any) -> "asyncio.Task[tuple[int, Any]]":
        return asyncio.create_task(self.call(*arguments, **options))

    async def journal(self, query: str = "") -> list[dict[str, Any]]:
        status, entries = await self.call("GET", f"/-/journal{query}", headers={"X-No-Key": "needed"})
        assert status == 200
        assert isinstance(entries, list)
        return entries

    async def stats(self) -> dict[str, Any]:
        """The counts of the main world."""
        status, stats = await self.call("GET", "/-/stats")
        assert status == 200
        assert isinstance(stats, dict)
        return stats

    async def arrived(self, count: int) -> list[dict[str, Any]]:
        """The journal once it has `count` calls. Each look is a round trip that lets the others go on."""
        while len(entries := await self.journal()) < count:
            pass
        return entries


@asynccontextmanager
async def running(simulator: Simulator) -> AsyncIterator[Talon]:
    port = await simulator.start("127.0.0.1", 0)
    connector = aiohttp.TCPConnector(limit=0)
    try:
        async with aiohttp.ClientSession(connector=connector) as client:
            talon = Talon(simulator, port, client)
            yield talon
    finally:
        await simulator.stop()
        for line in talon.lines:
            await line.close()


def session(**sent: Any) -> dict[str, Any]:
    return {"customerSession": sent}
