"""The pool under random use: whatever happens in whatever order, nobody is passed over and nothing leaks."""

import asyncio
from typing import Any

import uvloop
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from proxy.errors import ConnectionRefused, ProxyError, UpstreamError
from proxy.fields import reply_table
from proxy.wire.http1 import Connection, State
from proxy.wire.pool import Pool, PoolLimits
from tests.upstream_fakes import Asked, FakeClock, FakeDialer, FakeWaiter, turns

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nOK"
LAST = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nOK"
BRIEF = b"HTTP/1.1 200 OK\r\nKeep-Alive: timeout=2\r\nContent-Length: 2\r\n\r\nOK"
PICK = st.integers(0, 1_000_000)


class Waiting(FakeWaiter):
    """One in the queue: what it does with a connection, and how often it waits again where there is none."""

    def __init__(self, machine: "PoolMachine", use: str, again: int) -> None:
        super().__init__(self._use_it)
        self._machine = machine
        self._how = use
        self._again = again

    def _use_it(self, connection: Connection) -> None:
        self._machine.dequeue(self)
        assert connection not in self._machine.held
        if self._how == "release":
            self._machine.pool.release(connection)
            return
        self._machine.held.append(connection)
        if self._how == "send":
            Asked(timeout=8.0).send_on(connection)

    def refused(self, error: ProxyError) -> None:
        assert isinstance(error, UpstreamError), error
        self._machine.dequeue(self)
        if self._again:
            self._again -= 1
            self._machine.queue.append(self)
            self._machine.pool.wait(self)
        else:
            super().refused(error)


class PoolMachine(RuleBasedStateMachine):
    """Rules only let things happen; the loop turns where `turn` says so, so that races are found too.

    `queue` is who should be waiting, in order: nobody else may be told anything, and nobody out of turn.
    """

    @initialize(warm=st.integers(0, 2), limit=st.integers(1, 4))
    def begin(self, warm: int, limit: int) -> None:
        self.loop = uvloop.new_event_loop()
        self.reports: list[dict[str, Any]] = []
        self.loop.set_exception_handler(lambda _, report: self.reports.append(report))
        self.clock = FakeClock()
        self.dialer = FakeDialer()
        self.limit = limit
        limits = PoolLimits(warm=warm, max=limit, idle_timeout=5.0, max_age=20.0, reply=1024)
        table = reply_table(allow_browsers=False)
        self.pool = Pool(self.dialer, self.clock.wheel(), limits, table=table)  # type: ignore[arg-type]
        self.held: list[Connection] = []  # taken or granted, not yet given back
        self.queue: list[Waiting] = []
        self.inside(self.pool.start)

    def inside(self, action: Any) -> Any:
        """Do something as a callback of the loop would."""

        async def act() -> Any:
            return action()

        return self.loop.run_until_complete(act())

    def dequeue(self, waiting: Waiting) -> None:
        assert self.queue[0] is waiting, "told out of turn"
        del self.queue[0]

    def get(self, use: str = "send", again: int = 0) -> None:
        """As a call does it: a look at the idle ones, or the place in the queue, in one step."""
        waiting = Waiting(self, use, again)
        self.queue.append(waiting)
        connection = self.pool.take()
        if connection is None:
            self.pool.wait(waiting)
        else:
            waiting.granted(connection, None)

    @property
    def connections(self) -> list[Connection]:
        return [dial.connection for dial in self.dialer.dials if dial.connection.state is not State.OPENING]

    # --- what may happen ---

    @rule()
    def take(self) -> None:
        connection = self.inside(self.pool.take)
        if connection is not None:
            assert connection.state is State.IDLE
            self.held.append(connection)

    @rule(count=st.integers(1, 3), use=st.sampled_from(["send", "hold", "release"]), again=st.integers(0, 2))
    def wait(self, count: int, use: str, again: int) -> None:
        def queue() -> None:
            for _ in range(count):
                self.get(use, again)

        self.inside(queue)

    @precondition(lambda self: self.queue)
    @rule(pick=PICK)
    def withdraw(self, pick: int) -> None:
        waiting = self.queue.pop(pick % len(self.queue))
        self.inside(lambda: self.pool.withdraw(waiting))

    @precondition(lambda self: self.held)
    @rule(pick=PICK, said=st.sampled_from([OK, LAST, BRIEF, OK + OK]), sets_off=st.booleans())
    def finish(self, pick: int, said: bytes, sets_off: bool) -> None:
        connection = self.held.pop(pick % len(self.held))

        def serve() -> None:
            if connection.state is State.IDLE:
                Asked(on_end=self.get if sets_off else lambda: None).send_on(connection)
            if connection.state is State.ACTIVE:
                connection.data_received(said)

        self.inside(serve)

    @precondition(lambda self: self.held)
    @rule(pick=PICK)
    def send(self, pick: int) -> None:
        connection = self.held[pick % len(self.held)]
        if connection.state is State.IDLE:
            self.inside(lambda: Asked(timeout=8.0).send_on(connection))

    @precondition(lambda self: self.held)
    @rule(pick=PICK)
    def give_back(self, pick: int) -> None:
        connection = self.held[pick % len(self.held)]
        if connection.state is State.IDLE:
            self.held.remove(connection)
            self.inside(lambda: self.pool.release(connection))

    @precondition(lambda self: self.connections)
    @rule(pick=PICK, how=st.sampled_from(["close", "reset", "say"]))
    def peer(self, pick: int, how: str) -> None:
        connection = self.connections[pick % len(self.connections)]
        if how == "close":
            self.inside(connection.eof_received)
        elif how == "reset":
            self.inside(lambda: connection.connection_lost(ConnectionResetError()))
        else:
            self.inside(lambda: connection.data_received(b"HTTP/1.1 408 Request Timeout\r\n\r\n"))

    @precondition(lambda self: self.dialer.pending)
    @rule(pick=PICK, well=st.booleans())
    def dial(self, pick: int, well: bool) -> None:
        pending = self.dialer.pending
        dial = pending[pick % len(pending)]
        self.inside(dial.succeed if well else lambda: dial.fail(ConnectionRefused("no")))

    @rule(seconds=st.floats(0.01, 12.0))
    def pass_time(self, seconds: float) -> None:
        self.inside(lambda: self.clock.advance(seconds))

    @rule()
    def turn(self) -> None:
        self.loop.run_until_complete(turns())

    # --- what must hold ---

    @invariant()
    def never_more_than_the_maximum(self) -> None:
        assert self.pool._total <= self.limit

    @invariant()
    def each_connection_is_in_one_place(self) -> None:
        free = self.pool._free
        assert len(set(free)) == len(free)
        assert set(free) == {connection for connection in self.pool._open if connection.lent < connection.slots}
        for connection in self.connections:
            if connection.state is State.CLOSED:
                assert connection not in self.pool._open
            elif connection.state is State.ACTIVE:
                assert connection in self.pool._open
                assert connection.lent == 1

    @invariant()
    def nobody_waits_without_need(self) -> None:
        waiting = len(self.pool._waiting)
        if waiting:
            assert not self.pool.idle
            assert self.pool.opening >= min(waiting, self.limit - self.pool.active)

    @invariant()
    def those_wait_who_should(self) -> None:
        assert list(self.pool._waiting) == self.queue
        assert not any(waiting.done for waiting in self.queue)

    @invariant()
    def an_idle_connection_is_looked_after_in_time(self) -> None:
        for connection in self.pool._free:
            assert self.pool._care.due <= self.pool._due(connection)

    def teardown(self) -> None:
        if not hasattr(self, "loop"):
            return
        for _ in range(200):
            for dial in self.dialer.pending:
                self.inside(dial.succeed)
            self.turn()
            self.held.clear()
            for connection in self.pool._open - set(self.pool._free):
                self.inside(lambda connection=connection: self._serve(connection))
            if not self.queue and not self.dialer.pending and not self.pool.active:
                break
        self.turn()
        assert not self.queue
        assert repr(self.pool) == f"<Pool idle={self.pool.idle} active=0 opening=0 waiting=0>"
        self.loop.run_until_complete(self.pool.close())
        self.turn()
        assert all(connection.state is State.CLOSED for connection in self.connections)
        assert not asyncio.all_tasks(self.loop)
        assert self.reports == []
        self.loop.close()

    def _serve(self, connection: Connection) -> None:
        if connection.state is State.IDLE:
            Asked().send_on(connection)
        if connection.state is State.ACTIVE:
            connection.data_received(OK)
        if connection.state is State.ACTIVE:
            connection.eof_received()  # in the midst of a body that has no other end


PoolMachine.TestCase.settings = settings(
    max_examples=100,
    stateful_step_count=40,
    deadline=None,
    derandomize=True,
    report_multiple_bugs=False,
    suppress_health_check=[HealthCheck.too_slow],
)
TestPool = PoolMachine.TestCase
