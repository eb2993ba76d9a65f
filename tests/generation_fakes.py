"""Fake generations of the upstream, whose pools treat flights as the real one does.

A free connection goes to who waits longest, before the answer that freed it is told; one that was handed out and not
used comes back in a turn of its own; a pool that closes refuses those who wait, one by one, in that very step.
Whether connections can be opened, and what becomes of what is sent, is for the test to say; time-outs come by
themselves.
"""

from collections import deque
from collections.abc import Iterator
from typing import Protocol

from proxy.errors import ConnectionLost, IncompleteReply, ProxyError, ResponseTimeout
from proxy.keyset import KeySet, Ledger
from proxy.messages import Reply, Sent, Source
from proxy.upstream import State
from proxy.wire.connection import Exchange
from proxy.wire.pool import Waiter
from proxy.wire.wheel import Deadline, Wheel
from tests.upstream_fakes import FakeStream


class Request:
    """What was sent, and what became of it."""

    def __init__(self, number: int, connection: "FakeConnection", exchange: Exchange, head: bytes, body: bytes) -> None:
        self.number = number
        self.connection = connection
        self.generation = connection.generation
        self.exchange = exchange
        self.head = head
        self.body = body
        self.at = connection.clock()
        self.reused = connection.served > 1
        self.held = False  # its connection is kept only to see its end
        self.ended: float | None = None
        self.reply: Reply | None = None
        self.error: ProxyError | None = None

    def __repr__(self) -> str:
        return f"<Request {self.number} {self.head.split(b' HTTP')[0]!r} {self.error or self.reply}>"

    def field(self, name: bytes) -> bytes | None:
        """Give the value of a header field that stands there at most once."""
        values = [line for line in self.head.split(b"\r\n") if line.startswith(name + b": ")]
        assert len(values) <= 1, values
        return values[0].partition(b": ")[2] if values else None


class Watcher(Protocol):
    """Who is told what crosses to the upstream and back."""

    def sent(self, request: Request) -> None:
        """It is being sent, in this step."""
        ...

    def ended(self, request: Request) -> None:
        """It has its end, and nobody was told yet."""
        ...


class Stream(FakeStream):
    """The rest of an answer too large to hold."""

    def __init__(self, request: Request) -> None:
        super().__init__()
        self.request = request


class FakeConnection(Deadline):
    """One connection: one request at a time, and its time-out."""

    def __init__(self, generation: "FakeGeneration") -> None:
        super().__init__(generation.wheel)
        self.generation = generation
        self.clock = generation.wheel.clock
        self.served = 0
        self.request: Request | None = None

    def send(self, exchange: Exchange, head: bytes, body: bytes, *, timeout: float) -> None:
        assert self.request is None, "one at a time"
        timeline = exchange.timeline
        timeline.reused = self.served > 0
        timeline.sent = self.clock()
        timeline.first_byte = 0.0
        self.served += 1
        self.request = Request(next(self.generation.numbers), self, exchange, head, body)
        self.set(self.clock() + timeout)
        self.generation.watcher.sent(self.request)
        exchange.sent()

    def answer(self, status: int, body: bytes, *, stream: bool = False) -> None:
        """Answer what was sent."""
        request = self._end()
        length = None if stream else len(body)
        request.reply = Reply(status, b"", b"" if stream else body, source=Source.UPSTREAM, length=length)
        if stream:
            request.reply.stream = Stream(request)
        self.generation.watcher.ended(request)
        if not stream and not request.held:
            self.generation.freed(self)
        request.exchange.answered(request.reply)

    def lose(self, *, begun: bool = False) -> None:
        """Lose the connection. `begun`: within the answer."""
        assert self.request is not None
        if begun:
            self.request.exchange.timeline.first_byte = self.clock()
            self.fail(IncompleteReply("lost within the answer", sent=Sent.MAYBE))
        else:
            self.fail(ConnectionLost("lost before the answer", sent=Sent.MAYBE))

    def fail(self, error: ProxyError) -> None:
        """End what was sent, and the connection with it."""
        request = self._end()
        request.error = error
        self.generation.watcher.ended(request)
        request.exchange.failed(error)

    def ring(self) -> None:
        """There is no answer in time."""
        request = self.request
        assert request is not None
        hold = 0.0 if request.held else request.exchange.overdue()
        if hold:
            request.held = True
            self.set(self.clock() + hold)
        else:
            self.fail(ResponseTimeout("no answer", sent=Sent.MAYBE))

    def _end(self) -> Request:
        request = self.request
        assert request is not None
        self.clear()
        self.request = None
        self.generation.busy.remove(self)
        request.ended = request.exchange.timeline.answered = self.clock()
        return request


class FakeGeneration:
    """One target, and its pool."""

    def __init__(self, number: int, wheel: Wheel, watcher: Watcher, numbers: Iterator[int]) -> None:
        self.wheel = wheel
        self.watcher = watcher
        self.numbers = numbers
        self.host = b"upstream%d.example" % number
        self.host_line = b"Host: %b\r\n" % self.host
        self.keys = KeySet({}, None, Ledger())
        self.state = State.SERVING
        self.pool = self
        self.holds = True
        self.idle: list[FakeConnection] = []
        self.busy: list[FakeConnection] = []
        self.returned: list[FakeConnection] = []  # unused, on their way back
        self.waiting: deque[Waiter] = deque()

    @property
    def requests(self) -> list[Request]:
        """Give what is under way, held ones included."""
        return [connection.request for connection in self.busy if connection.request is not None]

    # --- what attempts see of it: see `wire.pool.Pool` ---

    def take(self) -> FakeConnection | None:
        if not self.idle or self.waiting:
            return None
        connection = self.idle.pop()
        self.busy.append(connection)
        return connection

    def wait(self, waiter: Waiter) -> None:
        if self.state is State.SERVING:
            self.waiting.append(waiter)
        else:
            waiter.refused(_given_up())

    def withdraw(self, waiter: Waiter) -> None:
        if waiter in self.waiting:
            self.waiting.remove(waiter)

    def may_hold(self) -> bool:
        return self.holds

    def release(self, connection: FakeConnection) -> None:
        self.busy.remove(connection)
        self.returned.append(connection)

    # --- what the test does with it ---

    def open(self) -> None:
        """A connection is open: it goes to who waits longest."""
        self.freed(FakeConnection(self))

    def refuse(self, error: ProxyError) -> None:
        """None can be opened."""
        self.waiting.popleft().refused(error)

    def freed(self, connection: FakeConnection) -> None:
        if self.state is not State.SERVING:
            return
        if self.waiting:
            self.busy.append(connection)
            self.waiting.popleft().granted(connection, None)  # type: ignore[arg-type]
        else:
            self.idle.append(connection)

    def turn(self) -> None:
        """A turn of the loop: what was not used is free."""
        returned, self.returned = self.returned, []
        for connection in returned:
            self.freed(connection)

    def drain(self) -> None:
        """No new exchange; who waits is told to go elsewhere."""
        self.state = State.DRAINING
        self.idle.clear()
        while self.waiting:
            self.waiting.popleft().refused(_given_up())

    def abort(self) -> None:
        """Its time to drain is over."""
        self.state = State.CLOSED
        for request in self.requests:
            request.connection.lose()


def _given_up() -> ConnectionLost:
    return ConnectionLost("the connections to this upstream are being closed", sent=Sent.NO)
