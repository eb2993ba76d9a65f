"""Fakes at the border of the upstream side: a clock that moves when told, a transport without a socket."""

import asyncio
import functools
import gc
import heapq
import itertools
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Self

from proxy.errors import ProxyError, ResponseTimeout
from proxy.keyset import KeyPair, KeySet, Ledger
from proxy.messages import Reply, Sent, Source, Timeline
from proxy.secret import Secret
from proxy.upstream import State as Serving
from proxy.wire import http1
from proxy.wire.connection import HTTP1, Connection, Exchange
from proxy.wire.dialing import Opened
from proxy.wire.pool import Waiter
from proxy.wire.wheel import Wheel
from tests.harness import KEY


class FakeTimer:
    def __init__(self, callback: Callable[[], None]) -> None:
        self.callback: Callable[[], None] | None = callback

    def cancel(self) -> None:
        self.callback = None


class FakeClock:
    """Time passes when a test says so; timers fire at their moment, in order."""

    def __init__(self) -> None:
        self.now = 1000.0
        self._timers: list[tuple[float, int, FakeTimer]] = []
        self._order = itertools.count()
        self.waking = 0  # timers fired

    def __call__(self) -> float:
        return self.now

    def call_later(self, delay: float, callback: Callable[[], None]) -> FakeTimer:
        timer = FakeTimer(callback)
        heapq.heappush(self._timers, (self.now + delay, next(self._order), timer))
        return timer

    def advance(self, seconds: float) -> None:
        end = self.now + seconds
        while self._timers and self._timers[0][0] <= end:
            due, _, timer = heapq.heappop(self._timers)
            self.now = max(self.now, due)
            if timer.callback is not None:
                self.waking += 1
                timer.callback()
        self.now = end

    def wheel(self) -> Wheel:
        return Wheel(self, self.call_later)


class FakeSocket:
    """Something `poll` can look at: a pipe, whose other end a test may write to or close."""

    def __init__(self) -> None:
        self._read, self._write = os.pipe()

    def fileno(self) -> int:
        return self._read

    def say(self) -> None:
        os.write(self._write, b"x")

    def finish(self) -> None:
        os.close(self._write)
        self._write = -1

    def close(self) -> None:
        os.close(self._read)
        if self._write >= 0:
            os.close(self._write)


@functools.cache
def _quiet() -> FakeSocket:
    return FakeSocket()


class FakeTransport(asyncio.Transport):
    """Keeps what is written; `unsent` is what the kernel has not taken yet."""

    def __init__(self, socket: FakeSocket | None = None) -> None:
        super().__init__()
        self.written = b""
        self.unsent = 0
        self.reading = True
        self.ended: str | None = None  # how it was closed: "close" or "abort"
        self._socket = socket
        self.tls = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        assert self.ended is None, "written to after its end"
        self.written += bytes(data)

    def writelines(self, pieces: Any) -> None:
        for piece in pieces:
            self.write(piece)

    def get_write_buffer_size(self) -> int:
        return self.unsent

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        if name == "sslcontext" and self.tls:
            return True
        return (self._socket or _quiet()) if name == "socket" else default

    def pause_reading(self) -> None:
        assert self.reading
        self.reading = False

    def resume_reading(self) -> None:
        assert not self.reading
        self.reading = True

    def is_closing(self) -> bool:
        return self.ended is not None

    def close(self) -> None:
        self.ended = self.ended or "close"

    def abort(self) -> None:
        self.ended = "abort"


class Asked:
    """An exchange that keeps what it is told, and insists on being told in order and once."""

    def __init__(
        self,
        method: bytes = b"GET",
        body: bytes = b"",
        *,
        timeout: float = 10.0,
        may_stream: bool = True,
        on_sent: Callable[[], object] = lambda: None,
        on_end: Callable[[], object] = lambda: None,
    ) -> None:
        self.method = method
        self.body = body
        self.timeout = timeout
        self.may_stream = may_stream
        self.timeline = Timeline(0.0, 0.0)
        self.hold = 0.0  # seconds that are given when there is no answer in time
        self.asked_to_hold = 0
        self._on_sent = on_sent
        self._on_end = on_end
        self._sent = False
        self._reply: Reply | None = None
        self._error: ProxyError | None = None

    def send_on(self, connection: Connection) -> Self:
        head = b"%b / HTTP/1.1\r\n\r\n" % self.method
        connection.send(self, head, self.body, timeout=self.timeout)
        return self

    @property
    def done(self) -> bool:
        return self._reply is not None or self._error is not None

    @property
    def reply(self) -> Reply:
        assert self._reply is not None, self._error
        return self._reply

    @property
    def error(self) -> ProxyError:
        assert self._error is not None, self._reply
        return self._error

    def sent(self) -> None:
        assert not self._sent
        self._sent = True
        self._on_sent()

    def answered(self, reply: Reply) -> None:
        assert self._sent
        assert not self.done, "told twice"
        self._reply = reply
        self._on_end()

    def failed(self, error: ProxyError) -> None:
        assert self._sent
        assert not self.done, "told twice"
        self._error = error
        self._on_end()

    def overdue(self) -> float:
        assert self._sent
        assert not self.done, "told twice"
        self.asked_to_hold += 1
        return self.hold


class FakeWaiter:
    """Who waits for a connection, keeps what it is told, and uses it as the test says."""

    def __init__(self, use: Callable[[Any], object] = lambda _: None) -> None:
        self._use = use
        self._connection: Connection | None = None
        self._error: ProxyError | None = None
        self.opened: Opened | None = None

    @property
    def done(self) -> bool:
        return self._connection is not None or self._error is not None

    @property
    def given(self) -> Connection:
        assert self._connection is not None, self._error
        return self._connection

    @property
    def connection(self) -> http1.Connection:
        """What it was given, where that speaks HTTP/1.1."""
        assert isinstance(self.given, http1.Connection)
        return self.given

    @property
    def error(self) -> ProxyError:
        assert self._error is not None, self._connection
        return self._error

    def granted(self, connection: Connection, opened: Opened | None) -> None:
        assert not self.done, "told twice"
        assert 0 < connection.lent <= connection.slots
        self._connection = connection
        self.opened = opened
        self._use(connection)

    def refused(self, error: ProxyError) -> None:
        assert not self.done, "told twice"
        self._error = error


class FakeDial:
    """One opening that a test ends as it likes."""

    def __init__(self, connection: Any) -> None:
        self.connection = connection
        self.transport = FakeTransport()
        self.outcome: asyncio.Future[Opened] = asyncio.get_running_loop().create_future()

    def succeed(self) -> None:
        opened = Opened()
        opened.connect, opened.tls = 0.25, 0.5
        self.connection.connection_made(self.transport)
        self.outcome.set_result(opened)

    def fail(self, error: Exception) -> None:
        self.outcome.set_exception(error)


class FakeDialer:
    """Opens connections when the test says so, or with `at_once` by itself."""

    def __init__(self, protocol: str = HTTP1) -> None:
        self.dials: list[FakeDial] = []
        self.at_once = False
        self.scheme = b"https"
        self.expected = HTTP1
        self.protocol = protocol  # what peers turn out to speak

    async def open(self, make: Callable[[str], Connection]) -> tuple[Connection, Opened]:
        connection = make(self.protocol)
        dial = FakeDial(connection)
        self.dials.append(dial)
        if self.at_once:
            dial.succeed()
        try:
            opened = await dial.outcome
            await connection.ready()
        except BaseException:
            # As a loop does it: an opening that is given up takes its transport along.
            if dial.outcome.done() and not dial.outcome.cancelled() and dial.outcome.exception() is None:
                dial.transport.abort()
                connection.connection_lost(None)
            raise
        return connection, opened

    @property
    def pending(self) -> list[FakeDial]:
        return [dial for dial in self.dials if not dial.outcome.done()]


async def turns(count: int = 6) -> None:
    """Let every callback that is ready run, and what becomes ready by it."""
    for _ in range(count):
        await asyncio.sleep(0)


class Silence:
    """Nothing was reported to the loop: no exception lost, no task forgotten."""

    def __init__(self) -> None:
        self.reports: list[dict[str, Any]] = []

    @classmethod
    @asynccontextmanager
    async def kept(cls) -> AsyncIterator[Self]:
        silence = cls()
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, report: silence.reports.append(report))
        yield silence
        await turns()
        gc.collect()
        await turns()
        loop.set_exception_handler(None)
        assert not silence.reports


class SentRequest:
    """What a fake connection was given to send."""

    def __init__(self, exchange: Exchange, head: bytes, body: bytes, timeout: float) -> None:
        self.exchange = exchange
        self.head = head
        self.body = body
        self.timeout = timeout
        self.ended = False


class FakeConnection:
    """Takes one exchange after another; the test answers them."""

    def __init__(self, clock: FakeClock) -> None:
        self._clock = clock
        self.sent: list[SentRequest] = []

    def send(self, exchange: Exchange, head: bytes, body: bytes, *, timeout: float) -> None:
        exchange.timeline.sent = self._clock()
        self.sent.append(SentRequest(exchange, head, body, timeout))
        exchange.sent()


class FakeUpstream:
    """An upstream, its generation and its pool: the test admits calls by giving them connections, or failures."""

    def __init__(self, clock: FakeClock, host: bytes = b"upstream.example") -> None:
        self._clock = clock
        self.current = self
        self.pool = self
        self.state = Serving.SERVING
        self.keys = KeySet({"default": KeyPair(Secret(KEY))}, None, Ledger())
        self.holds = True  # connections may be held
        self.host_line = b"Host: %b\r\n" % host
        self.connection = FakeConnection(clock)
        self.ready = False  # connections are idle: nobody needs to wait
        self.waiting: list[Waiter] = []
        self.waited = 0
        self.released = 0  # connections given and not used

    def take(self) -> FakeConnection | None:
        return self.connection if self.ready else None

    def wait(self, waiter: Waiter) -> None:
        self.waited += 1
        self.waiting.append(waiter)

    def withdraw(self, waiter: Waiter) -> None:
        if waiter in self.waiting:
            self.waiting.remove(waiter)

    def may_hold(self) -> bool:
        return self.holds

    def turn_away(self, error: ProxyError) -> None:
        for waiter in list(self.waiting):
            if waiter in self.waiting:
                self.waiting.remove(waiter)
                waiter.refused(error)

    def release(self, connection: FakeConnection) -> None:
        assert connection is self.connection
        self.released += 1

    def admit(self, opened: Opened | None = None) -> SentRequest:
        """Give who waits longest a connection; gives what is sent in that very step."""
        before = len(self.connection.sent)
        self.grant(opened)
        assert len(self.connection.sent) == before + 1
        return self.connection.sent[-1]

    def grant(self, opened: Opened | None = None) -> None:
        """Give who waits longest a connection, whatever comes of it."""
        self.waiting.pop(0).granted(self.connection, opened)  # type: ignore[arg-type]

    def fail(self, error: ProxyError) -> None:
        """Fail who waits longest."""
        self.waiting.pop(0).refused(error)

    def answer(self, status: int = 200, body: bytes = b"OK", stream: Any = None) -> None:
        """Answer what was sent last."""
        self.end(self.connection.sent[-1], status, body, stream=stream)

    def break_off(self, error: ProxyError) -> None:
        """Fail what was sent last."""
        self.break_off_of(self.connection.sent[-1], error)

    def end(
        self, asked: SentRequest, status: int = 200, body: bytes = b"OK", *, block: bytes = b"", stream: Any = None
    ) -> None:
        """Answer one request."""
        self._end(asked)
        asked.exchange.answered(Reply(status, block, body, source=Source.UPSTREAM, length=len(body), stream=stream))

    def break_off_of(self, asked: SentRequest, error: ProxyError) -> None:
        """Fail one request."""
        self._end(asked)
        asked.exchange.failed(error)

    def time_out(self, asked: SentRequest) -> float:
        """No answer in time, as a connection tells it: gives the seconds for which it is held."""
        hold = asked.exchange.overdue()
        if not hold:
            self.break_off_of(asked, ResponseTimeout("x", sent=Sent.MAYBE))
        return hold

    def _end(self, asked: SentRequest) -> None:
        assert not asked.ended
        asked.ended = True
        asked.exchange.timeline.answered = self._clock()


class FakeStream:
    """A stream that only knows whether it was abandoned."""

    def __init__(self) -> None:
        self.abandoned = 0

    def abandon(self) -> None:
        self.abandoned += 1

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield b""
