"""The ledger of the traffic machine: what was asked, sent and answered, and what design.md §5 to §7 say of that.

It is told what can be seen from outside (calls and their answers, requests and their ends) and keeps its own idea of
lanes, gates, open reads and remembered profiles, written from the design and not from the code. Of a flight it knows
who shares it, whether it still holds a place (`pipeline.flights`), and its state, where the outside cannot tell.

What is wrong is noted and not raised, because much of it shows deep inside a step, where an exception would be taken
for a defect of the proxy's own; `audit` raises, after every step.
"""

import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from proxy.errors import ConnectionLost, IncompleteReply
from proxy.messages import Call, Reply, Sent, Source
from proxy.traffic.attempts import Abandoned
from proxy.traffic.flights import Caller, Flight, State
from proxy.upstream import State as Serving
from tests.generation_fakes import FakeGeneration, Request, Stream
from tests.traffic_calls import APPLICATIONS, Manner, Shape

ENVIRONMENTS = {application.name: application.environment for application in APPLICATIONS}
PROFILE_WIDTH = 3  # what Talon.One takes of one profile
MOST = 4  # lanes and gates of one call
MOMENT = 0.1  # seconds within which alarms ring
BACK_OFF = 1.0  # seconds, the longest
WINDOW = 600.0  # seconds within which sessions are counted that name a profile
QUICK = 0.25  # seconds within which an idle connection turns out to be closed
MANAGEMENT_KEY = b"ManagementKey-v1 " + b"m" * 64

# Its sort, where the id belongs, the id.
Key = tuple[str, str, str]


@dataclass(frozen=True, slots=True)
class Rules:
    """The settings that the machine drew; times in seconds."""

    depth: int
    max_callers: int
    dry_width: int
    quarantine: float
    conflict_tries: int
    abandoned: Abandoned
    generate_keys: bool
    shared: frozenset[str]
    shared_after: int
    total: float


class Scene(Protocol):
    """What the ledger may look at."""

    @property
    def now(self) -> float:
        """The moment."""
        ...

    @property
    def current(self) -> FakeGeneration:
        """Where an attempt goes that begins now."""
        ...

    @property
    def places(self) -> set[Flight]:
        """Flights that hold a place, as the proxy tells it."""
        ...

    def queues(self, flight: Flight) -> bool:
        """It waits for a connection."""
        ...

    def authorization(self, application: str) -> bytes:
        """The credentials of this moment."""
        ...


class CallRecord:
    """One call, from its arrival to its answer."""

    def __init__(self, ledger: "Ledger", number: int, shape: Shape, manner: Manner, call: Call) -> None:
        self._ledger = ledger
        self.number = number
        self.shape = shape
        self.manner = manner
        self.call = call
        total = ledger.rules.total
        self.due = call.timeline.complete + min(manner.seconds or total, total)
        self.waiter: Caller | None = None
        self.flight: FlightRecord
        self.replies: list[Reply] = []
        self.left = False
        self.silent = False  # it left in time: there will be no answer
        self.then: Callable[[], None] = lambda: None

    def __repr__(self) -> str:
        return f"<call {self.number} {self.shape.name}, {self.manner.name}: {self.replies}>"

    @property
    def waiting(self) -> bool:
        """Somebody waits for its answer."""
        return not self.replies and not self.left

    @property
    def owed(self) -> bool:
        """There is an answer to come, whether somebody waits or not."""
        return not self.replies and not self.silent

    @property
    def shares(self) -> bool:
        """Identical calls may share its answer."""
        return not self.manner.alone and (
            self.shape.reads or self.shape.method in (b"PUT", b"DELETE") or self.manner.key is not None
        )

    @property
    def fingerprint(self) -> tuple[object, ...]:
        """All that identical calls have in common."""
        shape, manner = self.shape, self.manner
        return manner.application, shape.method, shape.target, shape.body, shape.fields, manner.key, manner.language

    def answer(self, reply: Reply, lines: bytes) -> None:
        self._ledger.answered(self, reply, lines)
        self.then()


class FlightRecord:
    """One exchange, who shares it, and what was sent for it."""

    def __init__(
        self, leader: CallRecord, keys: tuple[Key, ...], lanes: tuple[Key, ...], gates: tuple[Key, ...]
    ) -> None:
        self.leader = leader
        self.shape = leader.shape
        self.calls = [leader]
        self.keys = keys
        self.lanes = lanes
        self.gates = gates
        self.environment = None if self.shape.management else ENVIRONMENTS[leader.manner.application]
        self.flight: Flight | None = None
        self.began = 0  # event
        self.shares = leader.shares
        self.ahead: list[FlightRecord] = []
        self.requests: list[Request] = []
        self.unknown_since: float | None = None
        self.touched = leader.call.timeline.complete  # when something last happened to it
        self.linked: tuple[tuple[str, str], str] | None = None  # session and profile, not settled yet
        self.seen_landed = False
        self.told = False  # that it landed
        self.unsent_told = -1  # number of the latest call at the time that somebody was told "not-sent"

    def __repr__(self) -> str:
        return f"<flight of {self.calls} {self.requests} {self.flight!r}>"

    @property
    def waiting(self) -> bool:
        return any(call.waiting for call in self.calls)

    @property
    def under_way(self) -> Request | None:
        """What was sent and has no end yet."""
        return self.requests[-1] if self.requests and self.requests[-1].ended is None else None

    @property
    def held(self) -> bool:
        """Only the end of what was sent is waited for."""
        request = self.under_way
        return request is not None and request.held

    @property
    def landed(self) -> bool:
        """Its answer is decided."""
        return self.flight is not None and self.flight.state in (State.ANSWERED, State.DONE)

    @property
    def over(self) -> bool:
        return self.flight is not None and self.flight.state is State.DONE

    @property
    def exposed(self) -> bool:
        """It may have been executed, or may be being executed."""
        return any(may_be_executed(request) for request in self.requests)

    @property
    def doubtful(self) -> bool:
        """Nobody knows whether it was executed, or it is being executed."""
        return any(request.ended is None or self.is_unknown(request) for request in self.requests)

    def is_unknown(self, request: Request) -> bool:
        """It ended, and nobody knows whether it was executed; with an answer to a read that means nothing."""
        if request.error is not None:
            return request.error.sent is Sent.MAYBE
        return request.reply is not None and not self.shape.reads and request.reply.status in (502, 504)


def is_parallel(reply: Reply) -> bool:
    """A full queue: the call was not executed."""
    return reply.status == 409 and b"Too many requests are updating this" in reply.body


def may_be_executed(request: Request) -> bool:
    return request.reply is None or not is_parallel(request.reply)


class Remembered:
    """Which profiles a session may belong to (design.md §5, Memory)."""

    def __init__(self) -> None:
        self._possible: dict[tuple[str, str], list[str]] = {}
        self.pending: dict[tuple[str, str], list[str]] = {}

    def profiles(self, session: tuple[str, str]) -> list[str]:
        return list(dict.fromkeys([*self._possible.get(session, []), *self.pending.get(session, [])]))

    def admitted(self, session: tuple[str, str], profile: str) -> None:
        self.pending.setdefault(session, []).append(profile)

    def settled(self, session: tuple[str, str], profile: str, executed: bool | None) -> None:
        """The call that named it is over. None: nobody knows how."""
        self.pending[session].remove(profile)
        if executed:
            self._possible[session] = [profile]
        elif executed is None:
            others = self._possible.get(session, [])
            if profile not in others:
                # The third before is forgotten: with more a call would stand in no lane at all.
                self._possible[session] = [*others[-2:], profile]


class Crowds:
    """Which profiles are shared (design.md §5, Shared guest profiles)."""

    def __init__(self, listed: frozenset[str], after: int) -> None:
        self._listed = listed
        self._after = after
        self._named: dict[tuple[str, str], dict[str, float]] = {}
        self._until: dict[tuple[str, str], float] = {}

    def named(self, profile: tuple[str, str], session: str, now: float) -> None:
        sessions = self._named.setdefault(profile, {})
        sessions[session] = now
        if sum(when >= now - WINDOW for when in sessions.values()) > self._after:
            self._until[profile] = now + WINDOW

    def shared(self, profile: tuple[str, str], now: float) -> bool:
        return profile[1] in self._listed or self._until.get(profile, 0.0) >= now


@dataclass(frozen=True, slots=True)
class Write:
    """A write that was admitted, or whose end was told. `keys`: None where it may concern anything."""

    event: int
    environment: str | None  # None: all
    keys: frozenset[Key] | None


class Ledger:
    """Sees everything, and judges it."""

    def __init__(self, rules: Rules, scene: Scene) -> None:
        self.rules = rules
        self.calls: list[CallRecord] = []
        self.live: list[FlightRecord] = []  # in order of admission
        self.problems: list[str] = []
        self.rung = scene.now  # alarms up to this moment have rung
        self.hurried = False
        self.stopping = False
        self.before_stop = 0  # calls that had arrived by then
        self.streams: list[Stream] = []
        self.remembered = Remembered()
        self._scene = scene
        self._crowds = Crowds(rules.shared, rules.shared_after)
        self._events = 0
        self._writes: list[Write] = []
        self._last_write = 0  # event at which something happened to any write
        self._by_flight: dict[Flight, FlightRecord] = {}
        self._latest: dict[tuple[object, ...], FlightRecord] = {}  # by fingerprint
        self._by_body: dict[bytes, Request] = {}
        self._arriving: list[CallRecord] = []  # being admitted, the innermost last
        self._depth = 0  # answers that are being told

    def claim(self, truth: object, problem: str, *of: object) -> None:
        """Note that something is wrong unless this is true."""
        if not truth:
            where = "".join(traceback.format_stack(limit=14)[:-1])
            self.problems.append(f"{problem}: {' '.join(map(repr, of))}\n{where}")

    # --- a call arrives ---

    def arrive(
        self, shape: Shape, manner: Manner, call: Call, submit: Callable[[CallRecord], Caller | None]
    ) -> CallRecord:
        """Let the pipeline have a call, and see what it makes of it."""
        record = CallRecord(self, len(self.calls), shape, manner, call)
        self.calls.append(record)
        self._settle()
        nested = self._depth > 0
        own = record.flight = self._place(record)
        expected = self._may_join(record, own)
        full = expected is None and self._is_full(own)
        self._arriving.append(record)
        record.waiter = submit(record)
        self._arriving.pop()
        if record.waiter is None:
            self.claim(record.replies and record.call.error == "depth", "neither placed nor refused", record)
            self.claim(full or nested, "refused, though there is room", record)
            return record
        flight = self._by_flight.get(record.waiter.flight)
        if flight is None or flight is own:
            self.claim(
                nested or expected is None or not self._must_join(own, expected), "shares nothing", record, expected
            )
            self.claim(nested or not full, "a lane is too deep", record)
            self._admitted(own, record.waiter.flight)
        else:
            self._joined(record, flight, expected, nested=nested)
        return record

    def _place(self, record: CallRecord) -> FlightRecord:
        """Say where a call stands if it shares nothing."""
        shape, manner = record.shape, record.manner
        environment = ENVIRONMENTS[manner.application]
        orders = not manner.unordered
        if shape.session and orders and not shape.reads:
            for profile in shape.profiles:
                self._crowds.named((environment, profile), shape.session, self._scene.now)
        profiles = list(shape.profiles)
        keys: list[Key] = []
        if shape.session:
            keys.append(("session", manner.application, shape.session))
            if not profiles or shape.links:
                profiles += self.remembered.profiles((manner.application, shape.session))
        keys += [("profile", environment, profile) for profile in dict.fromkeys(profiles)]
        lanes: list[Key] = []
        gates: list[Key] = []
        if shape.dry and orders:
            gates = [("dry " + sort, whose, name) for sort, whose, name in keys[:MOST]]
        elif not shape.reads and orders and len(keys) <= MOST:
            gates = [key for key in keys if key[0] == "profile" and self._crowds.shared(key[1:], self._scene.now)]
            lanes = [key for key in keys if key not in gates]
            if not keys and manner.key:
                lanes = [("idempotency", manner.application, manner.key.decode())]
        flight = FlightRecord(record, tuple(keys), tuple(lanes), tuple(gates))
        tails = {id(tail): tail for key in lanes if (tail := self._tail(key))}
        flight.ahead = list(tails.values())
        return flight

    def _tail(self, key: Key) -> FlightRecord | None:
        """Give the last flight that has a place in this lane."""
        for flight in reversed(self.live):
            if key in flight.lanes and (self.holds(flight) or not flight.over):
                return flight
        return None

    def _may_join(self, record: CallRecord, own: FlightRecord) -> FlightRecord | None:
        """Give the one flight that a call may share (invariant 3)."""
        if not record.shares:
            return None
        if record.shape.reads:
            same = [
                flight
                for flight in self.live
                if flight.shape.reads and flight.shares and flight.leader.fingerprint == record.fingerprint
            ]
            flight = same[-1] if same else None
            return flight if flight is not None and self._joinable(flight) and not self._is_sealed(flight) else None
        tails = [self._tail(key) for key in own.lanes]
        if not tails or tails[0] is None or any(tail is not tails[0] for tail in tails):
            return None
        tail = tails[0]
        # Its lanes may be more than the call names; fewer they cannot be.
        same_bytes = tail.shares and tail.leader.fingerprint == record.fingerprint
        return tail if same_bytes and self._joinable(tail) else None

    def _joinable(self, flight: FlightRecord) -> bool:
        if flight.landed or sum(call.owed for call in flight.calls) >= self.rules.max_callers:
            return False
        if not flight.doubtful:
            return True
        latest = flight.requests[-1]
        # A read that was lost is sent again wherever calls go now.
        return (flight.shape.reads and latest.ended is not None) or latest.generation.state is Serving.SERVING

    def _is_sealed(self, flight: FlightRecord) -> bool:
        """Tell whether a write on what an open read tells of was admitted or acknowledged since that began."""
        for write in reversed(self._writes):
            if write.event <= flight.began:
                return False
            if write.environment is not None and flight.environment not in (write.environment, None):
                continue
            if write.keys is None or not flight.keys or write.keys & set(flight.keys):
                return True
        return False

    def _must_join(self, own: FlightRecord, expected: FlightRecord) -> bool:
        """Tell whether a call must share what it may: a read may be sealed with more caution than the design asks.

        One that had no room is closed by the next like it, and stays so when a caller of its leaves.
        """
        if not own.shape.reads:
            return True
        return self._last_write < expected.began and self._latest[own.leader.fingerprint] is expected

    def _is_full(self, own: FlightRecord) -> bool:
        for key in own.lanes:
            waiting = sum(key in flight.lanes and self.holds(flight) and flight.waiting for flight in self.live)
            if waiting >= self.rules.depth:
                return True
        return False

    def _admitted(self, own: FlightRecord, flight: Flight) -> None:
        self._bind(own, flight)
        shape, manner = own.shape, own.leader.manner
        if shape.reads:
            return
        self._wrote(own)
        if shape.links and shape.session and shape.profiles:
            own.linked = (manner.application, shape.session), shape.profiles[0]
            self.remembered.admitted(*own.linked)
            self._settle()  # it may be over already

    def _bind(self, own: FlightRecord, flight: Flight) -> None:
        """A flight is seen for the first time."""
        if own.flight is None:
            own.flight = flight
            own.began = self._event()
            self._by_flight[flight] = own
            self._latest[own.leader.fingerprint] = own
            self.live.append(own)

    def _joined(self, record: CallRecord, flight: FlightRecord, expected: FlightRecord | None, *, nested: bool) -> None:
        if nested and not record.shape.reads:
            # While answers are told, those before may be over or not.
            self.claim(flight.leader.fingerprint == record.fingerprint and flight.lanes, "shares another's", record)
        else:
            self.claim(flight is expected, "may not share this", record, flight)
        self.claim(record.call.timeline.joined, "is not told to share", record)
        record.flight = flight
        flight.calls.append(record)

    # --- a call ends ---

    def leave(self, record: CallRecord) -> None:
        """The caller is gone."""
        assert record.waiter is not None
        record.left = True
        record.flight.touched = self._scene.now
        record.silent = record.waiter.leave()

    def answered(self, record: CallRecord, reply: Reply, lines: bytes) -> None:
        """See `messages.Answer`."""
        self.claim(record.owed, "answered twice, or after it had left", record, reply)
        record.replies.append(reply)
        self._find(record)
        flight = record.flight
        flight.touched = self._scene.now
        self._settle()
        if reply.source is Source.UPSTREAM:
            self._from_upstream(record, flight, reply, lines)
        else:
            self._from_proxy(record, flight, reply)

    def told(self, tell: Callable[[], None]) -> None:
        """Do what an answer sets off: in the midst of telling it."""
        self._depth += 1
        tell()
        self._depth -= 1

    def _from_upstream(self, record: CallRecord, flight: FlightRecord, reply: Reply, lines: bytes) -> None:
        """Invariant 5: it is the answer to this call's own bytes, and the last there was."""
        stream = reply.stream
        request = stream.request if isinstance(stream, Stream) else self._by_body.get(reply.body)
        if request is None or not flight.requests or request is not flight.requests[-1]:
            self.claim(False, "the answer of another exchange", record, request)
            return
        call = record.call
        self.claim(request.head.startswith(b"%b %b HTTP/1.1\r\n" % (call.method, call.target)), "another's", record)
        self.claim(request.body == call.body, "answer to another body", record)
        self.claim(flight.leader.fingerprint == record.fingerprint, "the answer to another call", record, flight)
        self.claim(request.reply is not None and request.reply.status == reply.status, "another status", record)
        self.claim((b"; collapsed" in lines) == (record is not flight.leader), "shared or not", record, lines)
        if request.reply is not None and is_parallel(request.reply) and not record.left:
            self._must_be_worth_it(record, flight)
        if flight.shape.reads:
            return
        self._wrote_and_landed(flight)
        unknown = flight.is_unknown(request)
        told = b"Talon-Proxy-Outcome: unknown\r\n" in reply.block and reply.outcome is Sent.MAYBE
        # A 503 says nothing of an attempt before, and a 409 may be its doing.
        may_be_told = unknown or (reply.status in (409, 503) and any(map(flight.is_unknown, flight.requests)))
        self.claim(unknown <= told <= may_be_told, "a write's outcome", record, reply.block)

    def _must_be_worth_it(self, record: CallRecord, flight: FlightRecord) -> None:
        """A full queue is told only when it was tried often enough, or there was no time (§6).

        Or where one that may have been executed would have to be sent to another upstream.
        """
        tries = sum(not may_be_executed(request) for request in flight.requests)
        latest = max((call.due for call in flight.calls if not call.left), default=0.0)
        left = flight.requests[-1].generation.state is not Serving.SERVING
        bound = left and not flight.shape.reads and any(map(flight.is_unknown, flight.requests))
        self.claim(
            tries > self.rules.conflict_tries or latest <= self._scene.now + BACK_OFF or self.stopping or bound,
            "a 409 that should have been tried again",
            record,
        )

    def _from_proxy(self, record: CallRecord, flight: FlightRecord, reply: Reply) -> None:
        error = record.call.error
        self.claim(error != "internal", "a defect", record)
        self.claim((error == "draining") <= self.stopping, "refused though nothing stops", record)
        self.claim((error == "depth") <= (record in self._arriving), "refused after it had a place", record)
        out_of_time = b"error=http_response_timeout" in reply.block or b"error=connection_limit_reached" in reply.block
        early = out_of_time and record.due > self._scene.now
        self.claim(not early or record.left, "out of time too early", record)
        if reply.outcome is Sent.NO:
            self.claim(flight.shape.reads or not flight.doubtful, "told that it was not sent", record, flight)
            flight.unsent_told = len(self.calls)
        elif reply.outcome is Sent.MAYBE:
            will_be = not flight.landed and (flight.waiting or self.insists(flight))
            self.claim(flight.exposed or will_be, "told that it may have been sent", record, flight)
        else:
            self.claim(error == "too_large" and (record.left or not flight.shape.reads), "no outcome", record)
        if not flight.shape.reads and flight.landed:
            self._wrote_and_landed(flight)

    # --- what crosses to the upstream: a `generation_fakes.Watcher` ---

    def sent(self, request: Request) -> None:
        """See `generation_fakes.Watcher`."""
        flight = self._flight_of(request)
        now = self._scene.now
        self.claim(not self.stopping, "sent after the stop", flight)
        wanted = any(call.waiting and call.due > now for call in flight.calls)
        self.claim(wanted or self.insists(flight), "sent though nobody wants it", flight)
        self.claim(
            flight.unsent_told < 0 or any(call.waiting and call.number >= flight.unsent_told for call in flight.calls),
            "told that it was not sent, and then it was",
            flight,
        )
        for older in flight.ahead:
            self.claim(not self.holds(older), "sent before one ahead was over", flight, older)
        self.claim(not flight.under_way, "sent twice at once", flight)
        self._check_bytes(flight, request)
        self._check_repeat(flight, request)
        flight.requests.append(request)
        flight.touched = now
        self._check_gates(flight)

    def ended(self, request: Request) -> None:
        """See `generation_fakes.Watcher`."""
        flight = self._flight_of(request)
        flight.touched = self._scene.now
        if may_be_executed(request):  # a full queue tells nothing of an attempt before
            flight.unknown_since = self._scene.now if flight.is_unknown(request) else None
        reply = request.reply
        if reply is not None:
            if isinstance(reply.stream, Stream):
                self.streams.append(reply.stream)
            else:
                self._by_body[reply.body] = request

    def _flight_of(self, request: Request) -> FlightRecord:
        """Give the record of what sends. It may be new, and be sent before anybody could be told of it."""
        flight = request.exchange
        assert isinstance(flight, Flight)
        record = self._by_flight.get(flight)
        if record is not None:
            return record
        if self._arriving and self._arriving[-1].call.timeline is flight.timeline:
            own = self._arriving[-1].flight
        else:
            own = self._read_again(flight)
        self._bind(own, flight)
        return own

    def _find(self, record: CallRecord) -> None:
        """See whether a caller was given to another flight."""
        if record.waiter is not None and record.waiter.flight not in self._by_flight:
            self._bind(self._read_again(record.waiter.flight), record.waiter.flight)

    def _read_again(self, flight: Flight) -> FlightRecord:
        """A read whose answer was too large to share is made again, for those who did not get it."""
        callers = [call for call in self.calls if call.waiter is not None and call.waiter.flight is flight]
        assert callers, "a flight out of nowhere"
        old = callers[0].flight
        self.claim(old.shape.reads and old.requests[-1].reply is not None, "made again", old)
        again = self._place(callers[0])
        again.shares = False
        again.calls = callers
        for call in callers:
            call.flight = again
            old.calls.remove(call)
        return again

    def _check_bytes(self, flight: FlightRecord, request: Request) -> None:
        """Invariant 8, and that it goes to where it belongs under the credentials of the moment."""
        shape, manner = flight.shape, flight.leader.manner
        self.claim(request.head.startswith(b"%b %b HTTP/1.1\r\n" % (shape.method, shape.target)), "head", request)
        self.claim(request.body == shape.body, "body", request)
        self.claim(request.field(b"Host") == request.generation.host, "host", request)
        here = request.generation is self._scene.current
        self.claim(here or any(map(flight.is_unknown, flight.requests)), "not where attempts go now", request)
        expected = MANAGEMENT_KEY if shape.management else self._scene.authorization(manner.application)
        self.claim(request.field(b"Authorization") == expected, "credentials", request)
        key = request.field(b"Idempotency-Key")
        ours = self.rules.generate_keys and shape.keyable and not shape.reads and manner.key is None
        self.claim(key is not None if ours else key == manner.key, "Idempotency-Key", request)

    def _check_repeat(self, flight: FlightRecord, request: Request) -> None:
        """Nothing is executed twice but by the retries of §6."""
        executed = [earlier for earlier in flight.requests if may_be_executed(earlier)]
        self.claim(len(executed) <= 1, "repeated more than once", flight)
        for earlier in executed:
            self.claim(self._is_repeatable(flight, earlier, request), "executed twice", flight, request)
        conflicts = len(flight.requests) - len(executed)
        self.claim(conflicts <= self.rules.conflict_tries, "tried for ever", flight)
        last = flight.requests[-1] if flight.requests else None
        if last is not None and not executed and flight.leader.manner.key is None:
            key = request.field(b"Idempotency-Key")
            self.claim(key is None or key != last.field(b"Idempotency-Key"), "a key that may be used up", flight)

    def _is_repeatable(self, flight: FlightRecord, earlier: Request, request: Request) -> bool:
        shape = flight.shape
        if not shape.reads and flight.is_unknown(earlier) and earlier.generation is not request.generation:
            return False
        key = earlier.field(b"Idempotency-Key")
        keyed = shape.keyable and key is not None and key == request.field(b"Idempotency-Key")
        if earlier.error is not None:
            if not isinstance(earlier.error, ConnectionLost | IncompleteReply):
                return False
            assert earlier.ended is not None
            quick = earlier.reused and isinstance(earlier.error, ConnectionLost) and earlier.ended - earlier.at <= QUICK
            return shape.reads or keyed or (quick and shape.harmless)
        assert earlier.reply is not None
        status = earlier.reply.status
        return (status in (502, 503, 504) and (shape.reads or keyed)) or (
            status == 429 and shape.management and shape.reads
        )

    # --- places ---

    def insists(self, flight: FlightRecord) -> bool:
        """Tell whether it is sent though nobody waits."""
        if flight.shape.reads or self.stopping:
            return False
        abandoned = self.rules.abandoned
        return abandoned is Abandoned.SEND or (abandoned is Abandoned.AUTO and flight.shape.fate)

    def holds(self, flight: FlightRecord) -> bool:
        """Tell whether it must keep its place (invariant 4)."""
        if flight.waiting:
            return True
        if flight.under_way and not (self.hurried and flight.held):
            return True
        since = flight.unknown_since
        if since is not None and flight.lanes and not self.hurried and self._scene.now < since + self.rules.quarantine:
            return True
        if self.insists(flight) and not flight.landed:
            return True
        return any(self.holds(older) for older in flight.ahead)

    def _inside(self, flight: FlightRecord) -> bool:
        """Tell whether it has passed its gates."""
        if flight.flight is None or flight.landed:
            return False
        return bool(flight.requests) or self._scene.queues(flight.flight)

    def _width(self, gate: Key) -> int:
        return PROFILE_WIDTH if gate[0] == "profile" else self.rules.dry_width

    def _is_open(self, gate: Key) -> bool:
        return sum(gate in flight.gates and self._inside(flight) for flight in self.live) < self._width(gate)

    def _check_gates(self, flight: FlightRecord) -> None:
        for gate in flight.gates:
            inside = [other for other in self.live if gate in other.gates and self._inside(other)]
            self.claim(len(inside) <= self._width(gate), "too many inside a gate", inside)

    # --- what is remembered ---

    def _event(self) -> int:
        self._events += 1
        return self._events

    def _wrote(self, flight: FlightRecord) -> None:
        """A write is admitted, or is told to be over: older reads are not to be joined."""
        shape = flight.shape
        known = flight.keys and not shape.unreadable and not shape.management
        self._last_write = self._event()
        self._writes.append(Write(self._last_write, flight.environment, frozenset(flight.keys) if known else None))

    def _wrote_and_landed(self, flight: FlightRecord) -> None:
        """The first of its callers is told; what is read from then on knows of it."""
        if not flight.told:
            flight.told = True
            self._wrote(flight)

    def _settle(self) -> None:
        """Note which profile a session has, for each write that is over."""
        for flight in self.live:
            if flight.linked is not None and flight.landed:
                session, profile = flight.linked
                flight.linked = None
                self.remembered.settled(session, profile, _executed(flight))

    # --- after every step ---

    def audit(self) -> None:
        """Raise what was noted, and see that everybody is where they should be."""
        self._settle()
        places = self._scene.places
        for call in [call for flight in self.live for call in flight.calls if call.waiting]:
            self._find(call)
        for flight in self.live:
            if flight.landed and not flight.seen_landed:
                flight.seen_landed = True
                flight.touched = self._scene.now
                if not flight.shape.reads:
                    self._last_write = self._event()
            self._check_place(flight, places)
            self._check_way(flight)
            self._check_gates(flight)
        for flight in [flight for flight in self.live if flight.flight not in places]:
            self.live.remove(flight)
            assert flight.flight is not None
            if not flight.shape.reads:
                self._last_write = self._event()
        known = {flight.flight for flight in self.live}
        self.claim(places <= known, "out of nowhere", places - known)
        assert not self.problems, "\n\n".join(self.problems)

    def _check_place(self, flight: FlightRecord, places: set[Flight]) -> None:
        for call in flight.calls:
            self.claim(not call.owed or call.due >= self.rung, "should have been told that its time is over", call)
        if self.holds(flight):
            self.claim(flight.flight in places, "lost its place", flight)
        elif flight.flight in places and all(older.over for older in flight.ahead):
            quarantined = flight.lanes and self.rung <= flight.touched + self.rules.quarantine
            doubt = any(map(flight.is_unknown, flight.requests))
            self.claim(doubt and quarantined, "keeps a place for nothing", flight)

    def _check_way(self, flight: FlightRecord) -> None:
        """Nobody waits without need: for one ahead, for a gate, a connection, an answer, another attempt."""
        if self.stopping:
            late = any(call.waiting and call.number < self.before_stop for call in flight.calls)
            self.claim(not late or flight.under_way, "still waits after the stop", flight)
            return
        if flight.landed or not (flight.waiting or self.insists(flight)):
            return
        if any(not older.over for older in flight.ahead):
            return
        assert flight.flight is not None
        if flight.under_way or self._scene.queues(flight.flight):
            return
        if flight.requests:
            self.claim(self.rung <= flight.touched + BACK_OFF, "forgotten in a back-off", flight)
        else:
            self.claim(self._is_gated(flight), "waits for nothing", flight)

    def _is_gated(self, flight: FlightRecord) -> bool:
        """Tell whether a gate keeps it out, or another that waits at one of its gates, and so on."""
        seen = {flight}
        ahead = [flight]
        while ahead:
            one = ahead.pop()
            for gate in one.gates:
                if not self._is_open(gate):
                    return True
                others = {other for other in self.live if gate in other.gates and not self._inside(other)} - seen
                seen |= others
                ahead.extend(others)
        return False

    def counts(self) -> tuple[int, int, int]:
        """Give the lanes and gates that there must be, and the flights with one ahead."""
        lanes = {key for flight in self.live for key in flight.lanes}
        gates = {key for flight in self.live for key in flight.gates}
        behind = sum(any(not older.over for older in flight.ahead) for flight in self.live)
        return len(lanes), len(gates), behind

    def close(self) -> None:
        """Everything is over: each call was answered once, each stream was read by one, or given up."""
        for call in self.calls:
            self.claim(len(call.replies) == (0 if call.silent else 1), "was not answered once", call)
        for stream in self.streams:
            told = [call for call in self.calls if any(reply.stream is stream for reply in call.replies)]
            readers = [call for call in told if not call.left]
            self.claim(len(readers) <= 1, "several readers of one stream", readers)
            self.claim(not readers or not stream.abandoned, "taken from its reader", readers)
            # The listener gives up what is told to one who has left.
            self.claim(told or stream.abandoned, "left open", stream.request)
        self.claim(not any(self.remembered.pending.values()), "a profile is pending, and nothing is under way")
        assert not self.problems, "\n\n".join(self.problems)


def _executed(flight: FlightRecord) -> bool | None:
    """Tell whether a write that is over was executed; None: nobody knows."""
    for request in reversed(flight.requests):
        if request.ended is None or flight.is_unknown(request):
            return None
        if may_be_executed(request):
            return request.reply is not None and request.reply.status < 300
    return False
