"""Two Talon.Ones and a shop that writes all the time: for tests of switches, rotations and reloads.

Each host notes every write in one sequence with the others, so that order can be judged across hosts. Each session of
the shop has a connection of its own on which it does not wait for answers: its writes are admitted in the order of
their numbers, several of them unfinished, and must arrive in that order, on whichever host.
"""

import asyncio
import contextlib
import itertools
import re
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Self

import orjson

from tests.harness import PATIENCE, patiently
from tests.process import Answer, Serve

PROBE = b"/v1/integration/campaigns"
TOKEN = "the-token-of-operators"
SIGNED = {"Authorization": f"Bearer {TOKEN}"}


@dataclass(frozen=True)
class Arrival:
    """A write at a host."""

    order: int
    host: str
    session: str
    number: int
    key: str


class Arrivals:
    """What arrived, wherever."""

    def __init__(self) -> None:
        self._orders = itertools.count()
        self.all: list[Arrival] = []

    def note(self, host: str, session: str, number: int, key: str) -> None:
        self.all.append(Arrival(next(self._orders), host, session, number, key))

    def at(self, host: str) -> list[Arrival]:
        return [arrival for arrival in self.all if arrival.host == host]

    def out_of_order(self) -> list[Arrival]:
        """Writes that arrived after a later one of their session, or twice."""
        latest: dict[str, int] = {}
        wrong = []
        for arrival in self.all:
            if arrival.number <= latest.get(arrival.session, -1):
                wrong.append(arrival)
            latest[arrival.session] = max(arrival.number, latest.get(arrival.session, -1))
        return wrong


class Host:
    """A Talon.One that answers every call after a while, and takes the keys it is told to."""

    def __init__(self, name: str, arrivals: Arrivals, keys: Iterable[str], *, latency: float = 0.005) -> None:
        self.name = name
        self.keys = set(keys)
        self.seen: set[str] = set()  # keys, taken or not
        self.connections = 0
        self.bytes = 0  # of requests
        self.port = 0
        self._arrivals = arrivals
        self._latency = latency
        self._server: asyncio.Server
        self._tasks: set[asyncio.Task[None]] = set()
        self.script: Callable[[str], bytes | None] = lambda path: None  # an answer other than the usual one

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def start(self, address: str = "127.0.0.1") -> Self:
        self._server = await asyncio.start_server(self._serve, address, 0, limit=1 << 20)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def stop(self) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
                body = await reader.readexactly(int(length[1]) if length else 0)
                self.bytes += len(head) + len(body)
                answer = self._answer(head, body)
                await asyncio.sleep(self._latency)
                writer.write(answer)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            self._tasks.discard(task)
            writer.close()

    def _answer(self, head: bytes, body: bytes) -> bytes:
        path = head.split(b" ", 2)[1]
        found = re.search(rb"(?im)^authorization: ApiKey-v1 (.*?)\r$", head)
        key = found[1].decode() if found else ""
        self.seen.add(key)
        scripted = self.script(path.decode())
        if scripted is not None:
            return scripted
        if key not in self.keys:
            return message(401, b'{"message": "Unauthorized"}')
        if not path.startswith(PROBE) and body:
            number = orjson.loads(body)["customerSession"]["attributes"]["number"]
            self._arrivals.note(self.name, path.rpartition(b"/")[2].decode(), number, key)
        return message(200, b'{"host": "%b"}' % self.name.encode())


def message(status: int, body: bytes, *lines: str) -> bytes:
    head = [f"HTTP/1.1 {status} X", f"Content-Length: {len(body)}", "Content-Type: application/json", *lines]
    return "\r\n".join((*head, "", "")).encode() + body


class Shopper:
    """One session, whose writes do not wait for each other's answers."""

    def __init__(self, session: str, *, every: float) -> None:
        self.session = session
        self.statuses: list[int] = []
        self.bodies: list[bytes] = []
        self._every = every
        self._sent = 0
        self._over = asyncio.Event()
        self._news = asyncio.Event()

    async def run(self, address: tuple[str, int]) -> None:
        """Write until told to stop, then read what is left."""
        reader, writer = await asyncio.open_connection(*address, limit=1 << 20)
        reading = asyncio.create_task(self._read(reader), name=f"answers of {self.session}")
        try:
            while not self._over.is_set():
                if self._sent - len(self.statuses) < 24:  # of limits.pipeline
                    writer.write(self._next())
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._over.wait(), self._every)
            while len(self.statuses) < self._sent and not reading.done():
                self._news.clear()
                await self._news.wait()
        finally:
            reading.cancel()
            writer.close()

    def stop(self) -> None:
        self._over.set()

    def _next(self) -> bytes:
        document = {"customerSession": {"attributes": {"number": self._sent}}}
        body = orjson.dumps(document)
        self._sent += 1
        head = f"PUT /v2/customer_sessions/{self.session} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}"
        return f"{head}\r\nContent-Type: application/json\r\n\r\n".encode() + body

    async def _read(self, reader: asyncio.StreamReader) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
                self.bodies.append(await reader.readexactly(int(length[1]) if length else 0))
                self.statuses.append(int(head[9:12]))
                self._news.set()
        finally:
            self._news.set()


class Crowd:
    """Shoppers at one or several proxies."""

    def __init__(self, shoppers: list[Shopper]) -> None:
        self.shoppers = shoppers

    @property
    def answered(self) -> int:
        return sum(len(shopper.statuses) for shopper in self.shoppers)

    @property
    def failed(self) -> list[tuple[str, int, bytes]]:
        return [
            (shopper.session, status, body)
            for shopper in self.shoppers
            for status, body in zip(shopper.statuses, shopper.bodies, strict=True)
            if status != 200
        ]

    async def more(self, count: int) -> None:
        """Wait until so many more calls are answered."""
        goal = self.answered + count
        await until(lambda: self.answered >= goal)


@asynccontextmanager
async def shopping(proxies: Iterable[Serve], *, sessions: int, rate: float) -> AsyncIterator[Crowd]:
    """Let shoppers write to each proxy, `rate` writes a second in all; at the end every write has its answer."""
    places = list(proxies)
    crowd = Crowd(
        [Shopper(f"s{number}", every=sessions * len(places) / rate) for number in range(sessions * len(places))]
    )
    tasks = [
        asyncio.create_task(shopper.run(places[number % len(places)].address), name=shopper.session)
        for number, shopper in enumerate(crowd.shoppers)
    ]
    try:
        yield crowd
        for shopper in crowd.shoppers:
            shopper.stop()
        await patiently(asyncio.gather(*tasks))
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def switch(proxy: Serve, url: str, **options: Any) -> Answer:
    """Ask for a switch."""
    return await proxy.change("PUT", "/-/upstream", orjson.dumps({"url": url, **options}), **SIGNED)


async def reload(proxy: Serve) -> Answer:
    """Ask for a reload."""
    return await proxy.change("POST", "/-/reload", **SIGNED)


async def left(proxy: Serve) -> None:
    """Wait until the old upstream is left for good."""
    await until_status(proxy, lambda status: "leaving" not in status["upstream"])


async def until_status(proxy: Serve, true: Callable[[Any], bool]) -> None:
    """Wait until `/status` says so; it has to be asked."""
    async with asyncio.timeout(PATIENCE * 3):
        while not true(await proxy.status()):  # noqa: ASYNC110 - another process
            await asyncio.sleep(0.02)


async def until(true: Callable[[], bool]) -> None:
    """Wait until something is so that others bring about."""
    async with asyncio.timeout(PATIENCE * 3):
        while not true():  # noqa: ASYNC110 - it changes far more often than it is looked at
            await asyncio.sleep(0.01)
