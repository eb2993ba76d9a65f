"""The way of a call's bytes through the whole proxy without a socket: thousands a second, and the same each time.

    through = Through()
    caller = through.caller()
    await caller.send(b"GET /v2/customer_sessions/s HTTP/1.1\r\nHost: localhost\r\n\r\n")
    (answer,) = caller.answers()

Real is everything between two transports: the connection of the caller, the pipeline and all it asks, lanes, attempts,
the connection to Talon.One. Fake are transports, time, and the pool, which has an open connection for whoever asks.
Talon.One is a strict reader (`canonical`): what it cannot read fails the test. It numbers the requests and says the
number in its answer, so that an answer tells whose it is.
"""

import asyncio
from collections.abc import Callable
from typing import Any, cast

from proxy.callers import Callers
from proxy.credentials import Application, Credentials
from proxy.errors import ProxyError
from proxy.fields import reply_table, request_table
from proxy.keyset import KeyPair, KeySet, Ledger
from proxy.messages import Call, Reply, Sent
from proxy.pipeline import Pipeline
from proxy.pipeline import Rules as PipelineRules
from proxy.secret import Secret
from proxy.talon.routes import Routes
from proxy.traffic.attempts import Rules as AttemptRules
from proxy.traffic.traffic import Rules as TrafficRules
from proxy.traffic.traffic import Traffic
from proxy.upstream import State as Serving
from proxy.upstream import Upstream
from proxy.wire import connection, downstream, http1
from proxy.wire.buffers import Buffers
from proxy.wire.downstream import House, Limits, Phase, Timeouts
from proxy.wire.heads import ReplyParser, RequestLimits
from proxy.wire.wheel import Wheel
from tests.canonical import Answer, Request, read_answers, read_request
from tests.clock import Time
from tests.harness import KEY, PLAIN
from tests.upstream_fakes import FakeTransport

TURNS = 3  # of the loop, in which everything that a piece sets off has happened
HOST = b"Host: upstream.example\r\n"
LIMITS = RequestLimits(head=65536, fields=128, target=8192, body=1 << 16)


def numbered(number: int, request: Request) -> bytes:
    """Answer as Talon.One does, with the number of the request."""
    body = b"" if request.method == b"HEAD" else b"answer %d" % number
    return b"HTTP/1.1 200 OK\r\nX-Number: %d\r\nContent-Length: %d\r\n\r\n%b" % (number, len(body), body)


class TalonOne:
    """A generation whose pool has an open connection for whoever asks; also that pool, and who holds the generation."""

    def __init__(self, wheel: Wheel, answer: Callable[[int, Request], bytes]) -> None:
        self.current = self
        self.pool = self
        self.state = Serving.SERVING
        self.keys = KeySet({"default": KeyPair(Secret(KEY))}, None, Ledger())
        self.host_line = HOST
        self.requests: list[Request] = []
        self._wheel = wheel
        self._answer = answer
        self._parser = ReplyParser(reply_table(allow_browsers=False))
        self._free: list[http1.Connection] = []
        self._owed: list[tuple[http1.Connection, int]] = []  # requests that are not answered yet
        # What was wrong with a request. Raised by `settle`: where it is found, the proxy's own net would catch it.
        self.wrong: list[Exception] = []

    # --- the pool ---

    def take(self) -> http1.Connection:
        """Give a connection that is idle."""
        return self._free.pop() if self._free else self._open()

    def _open(self) -> http1.Connection:
        opened = http1.Connection(
            self._wheel,
            reply_limit=1 << 20,
            buffers=Buffers(1 << 30),
            parser=self._parser,
            freed=self._freed,
            lost=lambda _: None,
        )
        opened.connection_made(_Wire(lambda data: self._hear(opened, data)))
        return opened

    def _freed(self, freed: connection.Connection) -> None:
        self._free.append(cast("http1.Connection", freed))

    def release(self, unused: http1.Connection) -> None:
        """Take back what was not used."""
        self._free.append(unused)

    def may_hold(self) -> bool:
        """No."""
        return False

    # --- Talon.One ---

    def _hear(self, line: http1.Connection, data: bytes) -> None:
        try:
            request = self._read(data)
        except Exception as error:
            self.wrong.append(error)
            return
        self._owed.append((line, len(self.requests)))
        self.requests.append(request)

    def _read(self, data: bytes) -> Request:
        """A request leaves in one piece, with the key of ours and the host of ours, and nothing behind it."""
        request, rest = read_request(data)
        assert request is not None, data
        assert not rest, rest
        assert request.head.split(b"\r\n", 2)[1] + b"\r\n" == HOST
        assert request.field(b"authorization") == b"ApiKey-v1 %b" % KEY.encode()
        return request

    def answer_all(self) -> bool:
        """Answer what was asked, in order; tells whether there was anything."""
        owed, self._owed = self._owed, []
        for line, number in owed:
            line.data_received(self._answer(number, self.requests[number]))
        return bool(owed)


class _Wire(FakeTransport):
    """Hands on what is written, each piece or pair of pieces as one."""

    def __init__(self, hear: Callable[[bytes], None]) -> None:
        super().__init__()
        self._hear = hear

    def write(self, data: bytes | bytearray | memoryview) -> None:
        assert self.ended is None, "written to after its end"
        self._hear(bytes(data))

    def writelines(self, pieces: Any) -> None:
        self.write(b"".join(pieces))


class _Ears(FakeTransport):
    """The transport to a caller: it may be half-closed."""

    def __init__(self) -> None:
        super().__init__()
        self.said_all = False

    def write_eof(self) -> None:
        assert not self.said_all
        self.said_all = True

    def write(self, data: bytes | bytearray | memoryview) -> None:
        assert not self.said_all, "written to after its end"
        super().write(data)


class CallerConnection:
    """A caller: its bytes, and what it gets."""

    def __init__(self, through: "Through") -> None:
        self._through = through
        self.ended: list[Call] = []  # calls that were answered, in the order of their answers
        self.refusals = 0  # messages that never became a call
        self.transport = _Ears()
        self.connection = downstream.Connection(through.house)
        self.connection.connection_made(self.transport)

    @property
    def closed(self) -> bool:
        """Nothing more is taken from it."""
        return self.connection.phase in (Phase.LAST, Phase.LINGER, Phase.CLOSED) or self.transport.is_closing()

    async def send(self, *pieces: bytes) -> None:
        """Let pieces arrive, each when all that the one before set off has happened."""
        for piece in pieces:
            if self.transport.is_closing():
                return
            self._through.speaking = self
            if piece:
                self.connection.data_received(piece)
            await self._through.settle()
        # What was read while it was full of calls, it takes by and by.
        while not self.transport.reading and not self.transport.is_closing():
            before = len(self.ended)
            await self._through.settle()
            assert len(self.ended) > before, "it stands still"

    async def leave(self) -> None:
        """Half-close, and see what comes of it."""
        if not self.transport.is_closing() and not self.connection.eof_received():
            self.transport.close()
        await self._through.settle()
        self.connection.connection_lost(None)

    def answers(self) -> list[Answer]:
        """Read what came back: every byte of it must be of an answer."""
        methods = [call.method for call in self.ended] + [b"GET"] * self.refusals
        found = read_answers(self.transport.written, lambda number: methods[number] != b"HEAD")
        assert sum(not answer.interim for answer in found) == len(methods)
        return found


class Through:
    """The proxy between callers and Talon.One; also the observer of both."""

    def __init__(
        self,
        *,
        answer: Callable[[int, Request], bytes] = numbered,
        limits: RequestLimits = LIMITS,
        pipeline: int = 32,
    ) -> None:
        self.time = Time()
        wheel = Wheel(self.time, self.time.call_later)
        self.talon_one = TalonOne(wheel, answer)
        traffic = Traffic(
            cast("Upstream", self.talon_one), TrafficRules(AttemptRules(10.0), lanes=PLAIN), clock=self.time
        )
        self.pipeline = Pipeline(
            Routes(),
            Callers(),
            Credentials([Application("default")], ["default"]),
            traffic,
            self,
            wheel,
            rules=PipelineRules(15.0, coalescing=False),
        )
        self.house = House(
            self.pipeline,
            wheel,
            request_table(),
            Buffers(1 << 30),
            Limits(limits, pipeline, 1000),
            Timeouts(10.0, 10.0, 30.0, 3600.0),
        )
        self.speaking: CallerConnection | None = None

    @property
    def requests(self) -> list[Request]:
        """Those that reached Talon.One, in order."""
        return self.talon_one.requests

    def caller(self) -> CallerConnection:
        """Let somebody connect."""
        return CallerConnection(self)

    async def settle(self) -> None:
        """Let everything happen that can."""
        while True:
            for _ in range(TURNS):
                await asyncio.sleep(0)
            if self.talon_one.wrong:
                raise self.talon_one.wrong[0]
            if not self.talon_one.answer_all():
                return

    # --- the observer ---

    def finished(self, call: Call, reply: Reply, *, whole: bool) -> None:
        """See `pipeline.Observer`."""
        assert whole
        assert self.speaking is not None
        self.speaking.ended.append(call)

    def rejected(self, reply: Reply, error: ProxyError) -> None:
        """See `pipeline.Observer`."""
        assert self.speaking is not None
        self.speaking.refusals += 1

    def abandoned(self, call: Call, sent: Sent) -> None:
        """See `pipeline.Observer`."""
