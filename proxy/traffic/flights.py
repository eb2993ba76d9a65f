"""A flight is one exchange with Talon.One and the callers who share it. It belongs to none of them, and lands once.

QUEUED ⇒ SENT ⇒ ANSWERED ⇒ DONE. A failure before any byte was written, or a 409 that says "not now", puts a SENT one
back to QUEUED, its place kept. ANSWERED: its callers have their answer, nobody can join, and it may hold its lanes for
a while, where it is not known whether Talon.One is through with it. DONE: its lanes go on.

Callers come and go: one who leaves, or whose time is over, disturbs nobody. A flight has no time of its own; it goes on
while a caller waits.

A flight has no task: it moves in the steps in which something happens to it (its turn comes, a connection is granted,
an answer is complete, an alarm rings). A task, its future and their turns of the loop cost 6 µs per call.
"""

from collections.abc import Callable, Sequence
from enum import Enum, auto
from typing import TYPE_CHECKING

from proxy.credentials import Grant
from proxy.errors import ProxyError
from proxy.keyset import ApiKey, Ring
from proxy.messages import Answer, Call, Reply, Sent
from proxy.talon.conflicts import Kind
from proxy.talon.keys import Names
from proxy.talon.routes import Route
from proxy.traffic.gates import Gate, Key
from proxy.traffic.retries import UNKNOWN
from proxy.upstream import Generation
from proxy.upstream import State as Serving
from proxy.wire.connection import Connection
from proxy.wire.dialing import Opened
from proxy.wire.wheel import Deadline, Wheel

if TYPE_CHECKING:
    from proxy.traffic.lanes import Lane

# What two calls have in common that may share an answer.
Fingerprint = tuple[object, ...]


class State(Enum):
    """Of a flight."""

    QUEUED = auto()
    SENT = auto()
    ANSWERED = auto()
    DONE = auto()


class Place(Enum):
    """Where a flight is that has gates to pass."""

    OUTSIDE = auto()
    WAITING = auto()
    INSIDE = auto()


class Permit(Enum):
    """What a flight has of the limit on exchanges."""

    NONE = auto()
    WAITING = auto()
    HELD = auto()


class Crew:
    """Who makes a flight's attempts. A base class: compiled, a protocol's methods would be looked up by name."""

    def begin(self, flight: "Flight") -> None:
        """Its turn has come."""
        raise NotImplementedError

    def attempt(self, flight: "Flight") -> None:
        """It has passed its gates, or waited long enough: make an attempt."""
        raise NotImplementedError

    def start(self, flight: "Flight") -> None:
        """There is room for its attempt."""
        raise NotImplementedError

    def send(self, flight: "Flight", connection: Connection) -> None:
        """Use a connection that the flight waited for."""
        raise NotImplementedError

    def failed(self, flight: "Flight", error: ProxyError) -> None:
        """An attempt failed."""
        raise NotImplementedError

    def answered(self, flight: "Flight", reply: Reply) -> None:
        """An attempt succeeded."""
        raise NotImplementedError

    def reconsider(self, flight: "Flight", reply: Reply) -> None:
        """An attempt whose answer was kept back: what becomes of it is known now."""
        raise NotImplementedError

    def overdue(self, flight: "Flight") -> float:
        """There is no answer in time. Gives the seconds for which the connection is kept, to see the end of it."""
        raise NotImplementedError

    def ended(self, flight: "Flight", *, seen: bool) -> None:
        """A connection that was kept is closed; `seen`: the exchange ended on it."""
        raise NotImplementedError

    def done(self, flight: "Flight") -> None:
        """Its lanes have been held long enough."""
        raise NotImplementedError


class Tower:
    """Who watches over flights and their callers."""

    def landed(self, flight: "Flight", reply: Reply, error: ProxyError | None) -> None:
        """It has its reply: answer its callers. `error`: what the reply is made of."""
        raise NotImplementedError

    def done(self, flight: "Flight") -> None:
        """It is over."""
        raise NotImplementedError

    def overdue(self, caller: "Caller") -> None:
        """The caller's time is over."""
        raise NotImplementedError

    def left(self, caller: "Caller") -> bool:
        """The caller is gone; True: there will be no answer for it."""
        raise NotImplementedError

    def crashed(self, flight: "Flight") -> None:
        """A defect of ours ended the flight; called while the exception is handled."""
        raise NotImplementedError


class Caller(Deadline):
    """One call, and who waits for its answer; as an alarm, the end of its time."""

    __slots__ = ("_answer", "call", "flight", "gone", "joined")

    def __init__(self, call: Call, answer: Answer, wheel: Wheel) -> None:
        super().__init__(wheel)
        self.call = call
        self.flight: Flight
        self.joined = False
        self.gone = False  # it left when it was too late to take its call back
        self._answer = answer

    def answer(self, reply: Reply, lines: bytes) -> None:
        """Give the one answer."""
        self.clear()
        answer, self._answer = self._answer, _answered
        answer(reply, lines)

    def leave(self) -> bool:
        """See `wire.downstream.Waiter`."""
        return self.flight.tower.left(self)

    def ring(self) -> None:
        """See `wire.wheel.Deadline`. No callback: it would be a cycle for the collector."""
        self.flight.overdue_for(self)


def _answered(_reply: Reply, _lines: bytes) -> None:
    """Stand where the way to a caller stood: whoever waits holds the caller, and the two would be a cycle."""
    raise AssertionError("answered twice")


class Flight(Deadline):
    """One exchange; as an alarm, the end of a back-off while it is QUEUED, of a quarantine once it is ANSWERED."""

    __slots__ = (
        "_waiting_since",
        "ahead",
        "call",
        "callers",
        "conflict",
        "conflicts",
        "counted",
        "crew",
        "doubt",
        "encoded",
        "failures",
        "fingerprint",
        "followers",
        "gates",
        "generation",
        "grant",
        "idempotency_key",
        "insists",
        "key",
        "key_line",
        "keys",
        "lanes",
        "lines",
        "linked",
        "may_stream",
        "method",
        "names",
        "ordered",
        "permit",
        "place",
        "rekeyed",
        "repeatable",
        "repeats",
        "route",
        "shares",
        "state",
        "timeline",
        "tower",
        "trial",
        "waits",
    )

    def __init__(
        self,
        call: Call,
        route: Route,
        names: Names,
        grant: Grant,
        lines: bytes,
        *,
        crew: Crew,
        tower: Tower,
        wheel: Wheel,
    ) -> None:
        super().__init__(wheel)
        # What it carries: its first caller's call.
        self.call = call
        self.method = call.method
        self.timeline = call.timeline
        self.route = route
        self.names = names
        self.grant = grant
        self.lines = lines  # of the request, but for host and key
        self.idempotency_key: bytes | None = None  # its caller's
        self.key_line = b""  # with one of ours
        self.repeatable = route.reads  # executed twice it does no harm; or Talon.One heeds its Idempotency-Key
        self.encoded = False  # its body has a Content-Encoding
        # Who waits.
        self.callers: list[Caller] = []
        self.shares = False  # others may join it, and it others
        self.fingerprint: Fingerprint = ()
        # Its place; the lanes' and gates'.
        self.ordered = True  # its caller did not ask for no order
        self.keys: tuple[Key, ...] = ()  # sessions and profiles that it reads or writes
        self.lanes: Sequence[Lane] = ()
        self.followers: list[Flight] = []
        self.ahead = 0  # flights that must be DONE first
        self.counted = False  # among the flights of its lanes that somebody waits for
        self.gates: Sequence[Gate] = ()
        self.place = Place.OUTSIDE  # of these
        self.linked = False  # the memory knows that it may give its session a profile
        # Its way.
        self.state = State.QUEUED
        self.may_stream = True
        self.generation: Generation | None = None  # of the latest attempt
        self.key: ApiKey | None = None  # of ours, that signed it
        self.trial: Ring | None = None  # it finds out whether the other key of this ring is better
        self.rekeyed = False  # it was sent once more because its key was refused
        self.waits = False  # for a connection of that
        self.permit = Permit.NONE
        self.doubt = False  # an attempt ended with nobody knowing whether it was executed
        self.failures = 0  # attempts that failed before anything was sent
        self.conflicts = 0  # attempts that met a full queue
        self.conflict: Kind | None = None  # whose queue that was, the last time
        self.repeats = 0  # attempts made again for another reason
        self.insists: bool | None = None  # goes on without a caller; None: not asked yet
        self.tower = tower
        self.crew = crew
        self._waiting_since = 0.0

    def __repr__(self) -> str:
        return f"<Flight {self.state.name} callers={len(self.callers)} ahead={self.ahead} {self.call!r}>"

    # --- its callers ---

    @property
    def outcome(self) -> Sent:
        """What a caller who gives up now may be told."""
        return Sent.NO if self.state is State.QUEUED and not self.doubt else Sent.MAYBE

    @property
    def wanted(self) -> bool:
        """A caller waits."""
        for caller in self.callers:  # noqa: SIM110 - a generator costs more than the answer
            if not caller.gone:
                return True
        return False

    @property
    def joinable(self) -> bool:
        """One more identical call may share it."""
        if not self.shares:
            return False
        # A lost attempt of a read says nothing of its next one, which goes to the current generation.
        if self.state is State.QUEUED and (not self.doubt or self.route.reads):
            return True
        generation = self.generation
        return (
            (self.state is State.SENT or self.state is State.QUEUED)
            and generation is not None
            and generation.state is Serving.SERVING
        )

    @property
    def deadline(self) -> float:
        """The moment at which the last caller stops waiting; in the past where nobody does."""
        latest = 0.0
        for caller in self.callers:
            if not caller.gone and caller.due > latest:
                latest = caller.due
        return latest

    @property
    def in_time(self) -> bool:
        """A caller waits whose time is not over, whether its alarm has rung or not."""
        return self.deadline > self._wheel.clock()

    def board(self, caller: Caller) -> None:
        """One more caller waits for it."""
        caller.flight = self
        self.callers.append(caller)

    def overdue_for(self, caller: Caller) -> None:
        """The caller's time is over."""
        try:
            self.tower.overdue(caller)
        except Exception:
            self.tower.crashed(self)

    # --- moving ---

    def ring(self) -> None:
        """See `wire.wheel.Deadline`."""
        if self.state is State.QUEUED:
            self.timeline.backoff += self._wheel.clock() - self._waiting_since
            self._step(self.crew.attempt)
        elif self.state is State.ANSWERED:
            self._step(self.crew.done)

    def begin(self) -> None:
        """Nobody is ahead."""
        try:  # every call comes this way, and through `answered`: without `_step` each is 0.15 µs cheaper
            self.crew.begin(self)
        except Exception:
            self.tower.crashed(self)

    def _step(self, move: Callable[["Flight"], None]) -> None:
        """Move; a crash is felt here, and not in the loop: there it would close the connection of another call."""
        try:
            move(self)
        except Exception:
            self.tower.crashed(self)

    def rest(self, seconds: float) -> None:
        """SENT ⇒ QUEUED, and an attempt again after this time. Its place and its gates are kept."""
        self.state = State.QUEUED
        self._waiting_since = self._wheel.clock()
        self.set(self._waiting_since + seconds)

    def park(self) -> None:
        """⇒ QUEUED, until somebody says that it may go on. Its place and its gates are kept."""
        self.state = State.QUEUED
        self._waiting_since = self._wheel.clock()

    def _unpark(self) -> bool:
        """Go on; False: it came to its end meanwhile."""
        if self.state is not State.QUEUED:
            return False
        self.timeline.backoff += self._wheel.clock() - self._waiting_since
        return True

    def resume(self) -> None:
        """See `hold.Held`."""
        if self._unpark():
            self._step(self.crew.attempt)

    def reconsider(self, reply: Reply) -> None:
        """The trial is over for which its answer was kept back."""
        if self._unpark():
            self._step(lambda flight: self.crew.reconsider(flight, reply))
        elif reply.stream is not None:
            reply.stream.abandon()

    def stand(self) -> None:
        """Wait at its gates."""
        self.place = Place.WAITING
        self._waiting_since = self._wheel.clock()

    def passed(self) -> None:
        """See `gates.Passenger`."""
        self.place = Place.INSIDE
        self.timeline.gate += self._wheel.clock() - self._waiting_since
        self._step(self.crew.attempt)

    def queue_up(self) -> None:
        """Wait for room."""
        self.permit = Permit.WAITING
        self._waiting_since = self._wheel.clock()

    def admitted(self) -> None:
        """See `limit.Passenger`."""
        self.permit = Permit.HELD
        self.timeline.gate += self._wheel.clock() - self._waiting_since
        self._step(self.crew.start)

    def wait(self) -> None:
        """Stand in the queue for a connection of its generation."""
        assert self.generation is not None
        self.waits = True
        self._waiting_since = self._wheel.clock()
        self.generation.pool.wait(self)

    def withdraw(self) -> None:
        """Leave the queue for a connection."""
        if self.waits:
            assert self.generation is not None
            self._stop_waiting()
            self.generation.pool.withdraw(self)

    def granted(self, connection: Connection, opened: Opened | None) -> None:
        """See `wire.pool.Waiter`."""
        if opened is not None:
            self.timeline.connect, self.timeline.tls = opened.connect, opened.tls
        self._stop_waiting()
        self._step(lambda flight: self.crew.send(flight, connection))

    def refused(self, error: ProxyError) -> None:
        """See `wire.pool.Waiter`."""
        self._stop_waiting()
        self._step(lambda flight: self.crew.failed(flight, error))

    def account(self) -> None:
        """Its first caller goes: tell the time it has waited so far, for whatever it waits."""
        if self.state is not State.QUEUED:
            return
        now, timeline = self._wheel.clock(), self.timeline
        if self.ahead:
            timeline.lane = now - timeline.complete
            return
        waited, self._waiting_since = now - self._waiting_since, now
        if self.waits:
            timeline.pool += waited
        elif self.place is Place.WAITING or self.permit is Permit.WAITING:
            timeline.gate += waited
        else:
            timeline.backoff += waited

    def _stop_waiting(self) -> None:
        self.waits = False
        self.timeline.pool += self._wheel.clock() - self._waiting_since

    # --- an exchange: see `wire.connection.Exchange` ---

    def sent(self) -> None:
        """QUEUED ⇒ SENT."""
        self.state = State.SENT

    def answered(self, reply: Reply) -> None:
        """The exchange is over."""
        if self.state is not State.SENT:
            # Too late: the callers have had their answer, and only the end was waited for.
            if reply.stream is not None:
                reply.stream.abandon()
            self._end(seen=reply.status not in UNKNOWN)
            return
        try:
            self.crew.answered(self, reply)
        except Exception:
            self.tower.crashed(self)
            if reply.stream is not None:
                reply.stream.abandon()  # its connection would wait for a reader

    def failed(self, error: ProxyError) -> None:
        """The exchange is over."""
        if self.state is not State.SENT:
            self._end(seen=False)
        else:
            self._step(lambda flight: self.crew.failed(flight, error))

    def overdue(self) -> float:
        """See `wire.http1.Exchange`."""
        try:
            return self.crew.overdue(self)
        except Exception:
            self.tower.crashed(self)
            return 0.0

    def _end(self, *, seen: bool) -> None:
        try:
            self.crew.ended(self, seen=seen)
        except Exception:
            self.tower.crashed(self)
