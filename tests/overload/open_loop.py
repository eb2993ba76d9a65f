"""Calls at a rate, whatever becomes of those before them: as a shop's customers come."""

import asyncio
import itertools
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.load import FILLING, Wire

TICK = 0.001  # seconds between two looks at the clock
SESSIONS = 20_000  # in turn, each with a profile of its own, so that no two calls of one are under way
BODY = b'{"customerSession": {"profileId": "p%d", "cartItems": [{"sku": "shoe", "quantity": 2, "price": 60}]}}'
PATIENCE = 30.0  # seconds for the last answers


@dataclass(slots=True)
class Turn:
    """What became of the calls of one stretch of time. Seconds; `done` and `refused` from the call to its answer."""

    seconds: float
    offered: int = 0
    done: list[float] = field(default_factory=list)
    refused: list[float] = field(default_factory=list)  # 503 before anything was sent
    failures: Counter[str] = field(default_factory=Counter)
    late: list[float] = field(default_factory=list)  # how much later than it should the generator made each call
    starved: int = 0  # calls that had no connection left to be made on


def update(number: int) -> bytes:
    """Make the update of a session that has a profile of its own."""
    number %= SESSIONS
    return call(b"PUT", b"/v2/customer_sessions/s%d" % number, BODY % number)


def call(method: bytes, target: bytes, body: bytes) -> bytes:
    """Make a call."""
    framing = b"Content-Type: application/json\r\nContent-Length: %d\r\n" % len(body) if body else b""
    return b"%b %b HTTP/1.1\r\nHost: 127.0.0.1\r\n%b\r\n%b" % (method, target, framing, body)


class OpenLoop:
    """Makes calls on so many connections, one at a time on each; the answer must be `tests.load.Origin`'s to it."""

    def __init__(self, address: tuple[str, int], callers: int, make: Callable[[int], bytes] = update) -> None:
        """`make`: gives the bytes of a call by its number."""
        self.make = make
        self.idle: list[_Caller] = []
        self.turn = Turn(0.0)
        self.numbers = itertools.count()
        self.saturating = False
        self._address = address
        self._size = callers

    async def connect(self) -> None:
        """Connect all callers."""
        loop = asyncio.get_running_loop()
        for _ in range(self._size):
            _, caller = await loop.create_connection(lambda: _Caller(self), *self._address)
            self.idle.append(caller)

    def close(self) -> None:
        """Close all."""
        idle, self.idle = self.idle, []
        for caller in idle:
            caller.transport.abort()

    def lost(self, caller: "_Caller", *, busy: bool) -> None:
        """A connection has ended."""
        if busy or caller in self.idle:
            self.turn.failures[f"a connection ended {'with a call' if busy else 'between calls'}"] += 1
            self._size -= 1
        if caller in self.idle:
            self.idle.remove(caller)

    async def play(self, rate: float, seconds: float) -> Turn:
        """Make so many calls a second for so long, and wait for the answers to all of them."""
        turn = self.turn = Turn(seconds)
        began = time.perf_counter()
        total = round(rate * seconds)
        while turn.offered < total:
            now = time.perf_counter()
            due = min(round((now - began) * rate) + 1, total)
            while turn.offered < due:
                turn.late.append(max(now - began - turn.offered / rate, 0.0))
                turn.offered += 1
                if self.idle:
                    self.idle.pop().call()
                else:
                    turn.starved += 1
            await asyncio.sleep(TICK)
        turn.seconds = time.perf_counter() - began
        await self._settled()
        return turn

    async def saturate(self, callers: int, seconds: float) -> Turn:
        """Let so many callers call without a pause for so long: the most that can be had."""
        turn = self.turn = Turn(seconds)
        self.saturating = True
        began = time.perf_counter()
        for caller in [self.idle.pop() for _ in range(callers)]:
            caller.call()
        await asyncio.sleep(seconds)
        self.saturating = False
        turn.seconds = time.perf_counter() - began
        await self._settled()
        return turn

    async def _settled(self) -> None:
        async with asyncio.timeout(PATIENCE):
            while len(self.idle) < self._size:  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0.01)


class _Caller(Wire):
    def __init__(self, load: OpenLoop) -> None:
        super().__init__()
        self._load = load
        self._called = 0.0
        self._target = b""
        self._turn = load.turn

    def call(self) -> None:
        self._turn = self._load.turn
        self._called = time.perf_counter()
        request = self._load.make(next(self._load.numbers))
        self._target = request.split(b" ", 2)[1]
        self.transport.write(request)

    def take(self, message: bytes) -> None:
        took = time.perf_counter() - self._called
        self._called = 0.0
        if message.startswith(b"HTTP/1.1 200 "):
            self._turn.done.append(took)
            if not message.endswith(b"\r\n\r\n" + self._target + FILLING):
                self._turn.failures["an answer to another call"] += 1
        elif message.startswith(b"HTTP/1.1 503 ") and b"\r\nTalon-Proxy-Outcome: not-sent\r\n" in message:
            self._turn.refused.append(took)
        else:
            self._turn.failures[message.split(b"\r\n", 1)[0].decode("latin-1")] += 1
        if self._load.saturating:
            self.call()
        else:
            self._load.idle.append(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._load.lost(self, busy=self._called > 0)
