"""Connections that take room and make no call: those who say nothing between calls, and those who never end a head."""

import asyncio
import time
from typing import cast

DRIBBLE = 1.0  # seconds between two bytes of a head without end
TOGETHER = 200  # openings at a time
HEAD = b"PUT /v2/customer_sessions/slow HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Slow: "
CALL = b"GET /.health HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"


class Crowd:
    """So many connections. `slow`: each has begun a head, and sends a byte of it now and then; else each is idle."""

    def __init__(self, size: int, *, slow: bool) -> None:
        self.members: set[_Member] = set()
        self.stayed: list[float] = []  # seconds from the first byte until the proxy closed
        self.gone = asyncio.Event()
        self._size = size
        self._slow = slow
        self._dribbling: asyncio.Task[None] | None = None

    async def gather(self, address: tuple[str, int]) -> None:
        """Connect them all."""
        loop = asyncio.get_running_loop()
        first = HEAD if self._slow else CALL
        for begin in range(0, self._size, TOGETHER):
            openings = [
                loop.create_connection(lambda: _Member(self, first), *address)
                for _ in range(min(TOGETHER, self._size - begin))
            ]
            await asyncio.gather(*openings)
        if self._slow:
            self._dribbling = loop.create_task(self._dribble(), name="dribble")

    async def _dribble(self) -> None:
        while True:
            await asyncio.sleep(DRIBBLE)
            for member in self.members:
                member.transport.write(b"a")

    async def disperse(self) -> None:
        """Close those who are left."""
        if self._dribbling is not None:
            self._dribbling.cancel()
        for member in list(self.members):
            member.transport.abort()
        await asyncio.wait_for(self.gone.wait(), 30.0)

    def lost(self, member: "_Member") -> None:
        """One is gone."""
        self.members.discard(member)
        self.stayed.append(time.perf_counter() - member.began)
        if not self.members:
            self.gone.set()


class _Member(asyncio.Protocol):
    def __init__(self, crowd: Crowd, first: bytes) -> None:
        self.transport: asyncio.Transport
        self.began = 0.0
        self._crowd = crowd
        self._first = first

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.began = time.perf_counter()
        self._crowd.members.add(self)
        self.transport.write(self._first)

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._crowd.lost(self)
