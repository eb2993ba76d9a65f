"""Real generations whose connections are the test's: made, answered and watched without a socket or a clock."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta

from proxy.keyset import KeyPair, KeySet, Ledger
from proxy.secret import Secret
from proxy.settings import Origin, Settings
from proxy.target import Target
from proxy.upstream import Generation
from proxy.wire.connection import HTTP1, Connection
from proxy.wire.dialing import Opened
from proxy.wire.fieldtable import FieldTable
from proxy.wire.pool import PoolLimits
from tests.given import NOW
from tests.harness import KEY, OK
from tests.upstream_fakes import FakeClock, FakeDial, FakeDialer, FakeTransport, turns


def generation(
    clock: FakeClock, host: str, key: str = KEY, *, most: int = 100, keys: KeySet | None = None
) -> tuple[Generation, FakeDialer]:
    made = Generation(
        Origin.parse(f"https://{host}"),
        keys or KeySet({"default": KeyPair(Secret(key))}, None, Ledger()),
        None,
        clock.wheel(),
        PoolLimits(0, most, 50.0, 300.0, 8 << 20),
        table=FieldTable(),
        connect_timeout=3.0,
    )
    dialer = FakeDialer()
    dialer.at_once = True
    made.pool._dialer = dialer  # type: ignore[assignment]
    return made, dialer


def answer(dial: FakeDial, text: bytes = OK) -> None:
    dial.connection.data_received(text)


class _Talking(FakeTransport):
    """Answers what is written to it, a turn later; None: never."""

    def __init__(self, connection: Connection, script: Callable[[bytes], bytes | Exception | None]) -> None:
        super().__init__()
        self._connection = connection
        self._script = script

    def write(self, data: bytes | bytearray | memoryview) -> None:
        super().write(data)
        said = self._script(bytes(data))
        if isinstance(said, bytes):
            asyncio.get_running_loop().call_soon(self._connection.data_received, said)


class TalkingDialer:
    """Opens connections that answer by a script, or fails as `refuses` says."""

    def __init__(self, script: Callable[[bytes], bytes | Exception | None] = lambda _: OK) -> None:
        self.script = script
        self.refuses: Exception | None = None
        self.opened = 0
        self.said: list[bytes] = []

    async def open(self, make: Callable[[str], Connection]) -> tuple[Connection, Opened]:
        await asyncio.sleep(0)
        if self.refuses is not None:
            raise self.refuses
        self.opened += 1
        connection = make(HTTP1)
        connection.connection_made(_Talking(connection, self._answer))
        return connection, Opened()

    def _answer(self, request: bytes) -> bytes | Exception | None:
        self.said.append(request)
        return self.script(request)


class Hosts:
    """Makes generations, by host; each host talks as its dialer is told."""

    def __init__(self, clock: FakeClock) -> None:
        self._clock = clock
        self.ledger = Ledger()
        self.dialers: dict[str, TalkingDialer] = {}
        self.made: list[Generation] = []

    def at(self, host: str) -> TalkingDialer:
        return self.dialers.setdefault(host, TalkingDialer())

    def make(self, settings: Settings, wanted: Target) -> Generation:
        keys = KeySet(wanted.pairs, wanted.management, self.ledger)
        made, _ = generation(self._clock, wanted.origin.host, keys=keys)
        made.pool._dialer = self.at(wanted.origin.host)  # type: ignore[assignment]
        self.made.append(made)
        return made


class Wall:
    """A wall clock and a monotonic one that go on together, and what sleeps by them."""

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.began = clock.now
        self.set = 0.0  # seconds by which the wall clock was set
        self._sleeping: list[tuple[float, asyncio.Future[None]]] = []

    def now(self) -> datetime:
        return NOW + timedelta(seconds=self.clock.now - self.began + self.set)

    def unix(self) -> float:
        return self.now().timestamp()

    def sleep(self, seconds: float) -> Awaitable[None]:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._sleeping.append((self.clock.now + seconds, future))
        return future

    async def pass_by(self, seconds: float) -> None:
        """Let time go on; who sleeps wakes at its moment."""
        await turns(20)
        end = self.clock.now + seconds
        while True:
            self._sleeping = [(due, future) for due, future in self._sleeping if not future.done()]
            due = [moment for moment, _ in self._sleeping if moment <= end]
            if not due:
                break
            self.clock.advance(max(min(due) - self.clock.now, 0.0))
            for moment, future in self._sleeping:
                if moment <= self.clock.now and not future.done():
                    future.set_result(None)
            await turns(20)
        self.clock.advance(max(end - self.clock.now, 0.0))
        await turns(20)
