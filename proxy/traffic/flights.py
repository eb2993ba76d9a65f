"""A flight is one call's way to Talon.One and back. It belongs to no caller, and lands once.

QUEUED ⇄ SENT ⇒ DONE, or QUEUED ⇒ DONE. A caller who leaves, or whose time is over, ends a flight only while it is
QUEUED: nothing was sent then. A SENT one lands, whoever waits, so that its connection and its outcome stay known.

A flight has no task: it moves in the steps in which something happens to it (a connection is granted, an answer is
complete, its alarm rings). A task, its future and their turns of the loop cost 6 µs per call.
"""

from collections.abc import Callable
from enum import Enum, auto
from typing import Protocol

from proxy.credentials import Grant
from proxy.errors import ProxyError
from proxy.messages import Answer, Call, Reply, Sent
from proxy.upstream import Generation
from proxy.wire.connection import Connection
from proxy.wire.dialing import Opened
from proxy.wire.wheel import Deadline, Wheel


class State(Enum):
    """Of a flight."""

    QUEUED = auto()
    SENT = auto()
    DONE = auto()


class Crew(Protocol):
    """Who makes a flight's attempts."""

    def begin(self, flight: "Flight") -> None:
        """Make the first attempt."""
        ...

    def send(self, flight: "Flight", connection: Connection) -> None:
        """Use a connection that the flight waited for."""
        ...

    def failed(self, flight: "Flight", error: ProxyError) -> None:
        """An attempt failed."""
        ...

    def answered(self, flight: "Flight", reply: Reply) -> None:
        """An attempt succeeded."""
        ...


class Tower(Protocol):
    """Who watches over flights and their callers."""

    def overdue(self, flight: "Flight") -> None:
        """The caller's time is over."""
        ...

    def left(self, flight: "Flight") -> bool:
        """The caller is gone; True: so is the flight."""
        ...

    def crashed(self, flight: "Flight") -> None:
        """A defect of ours ended it; called while the exception is handled."""
        ...


class Flight(Deadline):
    """One call under way, and the caller who waits for it; as an alarm, the caller's deadline."""

    __slots__ = (
        "_answer",
        "_crew",
        "_tower",
        "_waiting_since",
        "call",
        "failures",
        "generation",
        "grant",
        "lines",
        "may_stream",
        "method",
        "state",
        "timeline",
        "waits",
    )

    def __init__(
        self, call: Call, grant: Grant, lines: bytes, answer: Answer, *, crew: Crew, tower: Tower, wheel: Wheel
    ) -> None:
        super().__init__(wheel)
        self.call = call
        self.method = call.method
        self.timeline = call.timeline
        self.grant = grant
        self.lines = lines  # of the request, but for host and key
        self.state = State.QUEUED
        self.may_stream = True
        self.failures = 0
        self.generation: Generation | None = None  # of the attempt under way
        self.waits = False  # for a connection of that
        self._waiting_since = 0.0
        self._answer: Answer | None = answer
        self._crew = crew
        self._tower = tower

    def __repr__(self) -> str:
        return f"<Flight {self.state.name} {self.call!r}>"

    @property
    def outcome(self) -> Sent:
        """What a caller who gives up now may be told."""
        return Sent.NO if self.state is State.QUEUED else Sent.MAYBE

    @property
    def waited_for(self) -> bool:
        """A caller has had no answer yet."""
        return self._answer is not None

    @property
    def late(self) -> bool:
        """The caller's time is over, and the alarm has not rung yet."""
        return self.due <= self._wheel.clock()

    def answer(self, reply: Reply, lines: bytes) -> None:
        """Give the caller its one answer; a reply that comes after it is dropped."""
        answer, self._answer = self._answer, None
        if answer is not None:
            answer(reply, lines)
        elif reply.stream is not None:
            reply.stream.abandon()

    def land(self) -> None:
        """⇒ DONE."""
        self.state = State.DONE
        self.clear()
        if self.waits:
            assert self.generation is not None
            self._stop_waiting()
            self.generation.pool.withdraw(self)

    def leave(self) -> bool:
        """See `wire.downstream.Waiter`."""
        return self._tower.left(self)

    def ring(self) -> None:
        """See `wire.wheel.Deadline`: the caller's time is over. No callback: it would be a cycle for the collector."""
        self._step(self._tower.overdue)

    # --- moving ---

    def begin(self) -> None:
        """Set off."""
        self._step(self._crew.begin)

    def _step(self, move: Callable[..., None], *what: object) -> bool:
        """Move; False: that crashed, and the flight has landed."""
        try:
            move(self, *what)
        except Exception:
            # Here, and not in the loop: there it would close the connection of another call.
            self._tower.crashed(self)
            return False
        return True

    def wait(self) -> None:
        """Stand in the queue for a connection of its generation."""
        assert self.generation is not None
        self.waits = True
        self._waiting_since = self._wheel.clock()
        self.generation.pool.wait(self)

    def granted(self, connection: Connection, opened: Opened | None) -> None:
        """See `wire.pool.Waiter`."""
        if opened is not None:
            self.timeline.connect, self.timeline.tls = opened.connect, opened.tls
        self._stop_waiting()
        self._step(self._crew.send, connection)

    def refused(self, error: ProxyError) -> None:
        """See `wire.pool.Waiter`."""
        self._stop_waiting()
        self._step(self._crew.failed, error)

    def _stop_waiting(self) -> None:
        self.waits = False
        self.timeline.pool += self._wheel.clock() - self._waiting_since

    # --- an exchange: see `wire.connection.Exchange` ---

    def sent(self) -> None:
        """QUEUED ⇒ SENT."""
        self.state = State.SENT

    def answered(self, reply: Reply) -> None:
        """The exchange is over."""
        if not self._step(self._crew.answered, reply) and reply.stream is not None:
            reply.stream.abandon()  # its connection would wait for a reader

    def failed(self, error: ProxyError) -> None:
        """The exchange is over."""
        self._step(self._crew.failed, error)
