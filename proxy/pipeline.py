"""The straight line: a complete call is understood, authorised, sent, answered.

`submit` awaits nothing: from the last byte of a request to its place among the flights there is no other turn of
the loop (invariant 1). Everything that can be refused is refused there.
"""

import asyncio
import logging
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from proxy import fields
from proxy.callers import Callers
from proxy.credentials import Credentials, Grant
from proxy.errors import (
    CallTimeout,
    Draining,
    InternalError,
    PoolTimeout,
    ProxyError,
    ReplyTooLarge,
    to_reply,
)
from proxy.messages import Answer, Call, Reply, Sent, Source
from proxy.reception import Reception, may_share
from proxy.talon import keys
from proxy.talon.routes import Route, Routes
from proxy.traffic.flights import Caller, Crew, Flight, State, Tower
from proxy.traffic.traced import Tracer
from proxy.traffic.traffic import Traffic
from proxy.wire.wheel import Wheel

_LOG: Final = logging.getLogger(__name__)


class Observer(Protocol):
    """Who is told how calls ended."""

    def finished(self, call: Call, reply: Reply, *, whole: bool) -> None:
        """See `wire.downstream.Handler`."""
        ...

    def rejected(self, reply: Reply, error: ProxyError) -> None:
        """See `wire.downstream.Handler`."""
        ...

    def abandoned(self, call: Call, sent: Sent) -> None:
        """A caller left before its answer."""
        ...


@dataclass(frozen=True, slots=True)
class Rules:
    """Settings that concern a call as a whole; times in seconds, `inspect` in bytes."""

    total_timeout: float
    total_timeouts: Mapping[str, float] = field(default_factory=dict)  # of operations that have their own
    base_path: str | None = None
    inspect: int = 256 * 1024
    coalescing: bool = True
    never_join: frozenset[str] = frozenset()  # operations


class Pipeline(Tower):
    """Answers calls; the `Handler` of the listener."""

    def __init__(
        self,
        routes: Routes,
        callers: Callers,
        credentials: Credentials,
        traffic: Traffic,
        observer: Observer,
        wheel: Wheel,
        *,
        rules: Rules,
        tracer: Tracer | None = None,
    ) -> None:
        """`tracer` is told who shares whose answer, if there is one."""
        self.follow(routes, callers, credentials, rules)
        self._lanes = traffic.lanes
        self._attempts = traffic.attempts
        self._observer = observer
        self._tracer = tracer
        self._wheel = wheel
        self._prefix = secrets.token_hex(6).encode()
        self._count = 0
        self._admitted = 0
        self._flights: set[Flight] = set()
        self._empty: asyncio.Event | None = None  # while somebody waits for the last flight
        self.last_arrival = wheel.clock()

    def follow(self, routes: Routes, callers: Callers, credentials: Credentials, rules: Rules) -> None:
        """Take calls by these from now on; those that were taken keep what they were granted."""
        self._reception = Reception(routes, callers, credentials, rules.base_path)
        self._rules = rules

    def __repr__(self) -> str:
        return f"<Pipeline flights={len(self._flights)}>"

    @property
    def in_flight(self) -> int:
        """Calls that are not answered yet, and exchanges that their callers have given up."""
        return sum(
            len(flight.callers) or (flight.state is State.SENT) or (flight.state is State.QUEUED)
            for flight in self._flights
        )

    def writing(self) -> bool:
        """A write was sent whose end is not known yet."""
        return any(not flight.route.reads and flight.state in (State.SENT, State.ANSWERED) for flight in self._flights)

    @property
    def flights(self) -> Sequence[Flight]:
        """Give all flights that hold a place."""
        return list(self._flights)

    # --- the Handler of the listener ---

    def submit(self, call: Call, answer: Answer) -> Caller | None:
        """See `wire.downstream.Handler`."""
        self.last_arrival = call.timeline.complete
        try:
            found = self._read(call)
            if self._reception.asks_health(call):
                self._answer(call, answer, Reply(200, b"", b"", source=Source.PROXY, length=0))
                return None
            route, grant = self._reception.understand(call, found)
            flight = make_flight(
                call, found, route, grant, self._rules, crew=self._attempts, tower=self, wheel=self._wheel
            )
            timeout = self._rules.total_timeouts.get(call.operation, self._rules.total_timeout)
            if found.timeout is not None and found.timeout < timeout:
                timeout = found.timeout
            due = call.timeline.complete + timeout
            place = self._lanes.admit(flight)
        except ProxyError as error:
            call.error = error.category.value
            self._answer(call, answer, to_reply(error))
            return None
        except Exception:
            # Here, and not in the loop: there it would take the connection along, and the calls on it.
            _report(call)
            call.error = InternalError.category.value
            self._answer(call, answer, to_reply(InternalError(sent=Sent.NO)))
            return None
        self._admitted += 1
        call.admission = self._admitted
        caller = Caller(call, answer, self._wheel)
        caller.set(due)
        self._attempts.budget.call(call.timeline.complete)
        place.board(caller)
        if place is not flight:
            caller.joined = call.timeline.joined = True
            call.timeline.leader = place.call.request_id
            if self._tracer is not None:
                self._tracer.joined(call, place.call)
            self._lanes.recount(place)
            return caller
        self._flights.add(flight)
        if not flight.ahead:
            flight.begin()
        return caller

    def own_lines(self, request_id: bytes | None) -> bytes:
        """See `wire.downstream.Handler`."""
        return fields.own_lines(request_id or self._new_id())

    def finished(self, call: Call, reply: Reply, *, whole: bool) -> None:
        """See `wire.downstream.Handler`."""
        self._observer.finished(call, reply, whole=whole)

    def rejected(self, reply: Reply, error: ProxyError) -> None:
        """See `wire.downstream.Handler`."""
        self._observer.rejected(reply, error)

    # --- the walk ---

    def _read(self, call: Call) -> fields.CallFields:
        """Read a call's fields; it has an id then, whatever is wrong with them."""
        call.request_id = self._new_id()
        found = self._reception.read(call)
        call.trace = found.trace
        if found.request_id is not None:
            call.request_id = found.request_id
        return found

    # --- the Tower of flights ---

    def landed(self, flight: Flight, reply: Reply, error: ProxyError | None) -> None:
        """See `traffic.flights.Tower`."""
        callers, flight.callers = flight.callers, []
        if reply.stream is not None and len(callers) != 1:
            callers = self._stream_to_one(flight, callers, reply)
        for caller in callers:
            self._tell(flight, caller, reply, error)

    def _tell(self, flight: Flight, caller: Caller, reply: Reply, error: ProxyError | None) -> None:
        call = caller.call
        if error is not None:
            call.error = error.category.value
        if caller.joined:
            timeline = call.timeline
            timeline.answered = self._wheel.clock()
            timeline.upstream = timeline.answered - timeline.complete
        self._give(caller, reply)

    def _stream_to_one(self, flight: Flight, callers: list[Caller], reply: Reply) -> list[Caller]:
        """Choose who reads an answer too large to hold. The others of a read share a new one.

        Those of a write are told: it is never executed twice for this.
        """
        assert reply.stream is not None
        first = next((caller for caller in callers if not caller.gone), None)
        if first is None:
            reply.stream.abandon()
            return callers
        waiting = [caller for caller in callers if caller is not first and not caller.gone]
        if flight.route.reads and waiting:
            self._read_again(flight, waiting)
            waiting = []
        error = ReplyTooLarge("Larger than limits.reply, and shared with another call")
        for caller in callers:
            if caller.gone or caller in waiting:
                self._tell(flight, caller, to_reply(error), error)
        return [first]

    def _read_again(self, flight: Flight, callers: list[Caller]) -> None:
        """Let a new flight read for those whom the answer of this one did not reach."""
        leader = callers[0]
        again = Flight(
            leader.call,
            flight.route,
            flight.names,
            flight.grant,
            flight.lines,
            crew=self._attempts,
            tower=self,
            wheel=self._wheel,
        )
        again.ordered = flight.ordered
        try:
            self._lanes.admit(again)
        except ProxyError as error:
            for caller in callers:
                self._end(caller, error)
            return
        for caller in callers:
            again.board(caller)
        leader.joined = leader.call.timeline.joined = False
        for caller in callers[1:]:
            caller.call.timeline.leader = leader.call.request_id
            if self._tracer is not None:
                self._tracer.joined(caller.call, leader.call)
        self._flights.add(again)
        again.begin()

    def done(self, flight: Flight) -> None:
        """See `traffic.flights.Tower`."""
        self._flights.discard(flight)
        if self._empty is not None and not self._flights:
            self._empty.set()
            self._empty = None

    def left(self, caller: Caller) -> bool:
        """See `traffic.flights.Tower`."""
        flight = caller.flight
        outcome = flight.outcome
        if caller.call is flight.call:
            flight.account()
        self._observer.abandoned(caller.call, outcome)
        caller.gone = True
        if outcome is Sent.NO:
            caller.clear()
            flight.callers.remove(caller)
        self._lost(flight)
        return outcome is Sent.NO

    def overdue(self, caller: Caller) -> None:
        """See `traffic.flights.Tower`: what was sent goes on without its caller."""
        flight = caller.flight
        waits = flight.waits
        if caller.call is flight.call:
            flight.account()
        flight.callers.remove(caller)
        outcome = flight.outcome
        if outcome is Sent.NO and (flight.wanted or self._attempts.insists(flight)):
            outcome = Sent.MAYBE  # it will be, for others or for its own sake
        error: ProxyError
        if waits and outcome is Sent.NO:
            error = PoolTimeout("No connection became free in the time the call had", sent=Sent.NO)
        else:
            error = CallTimeout("Not answered within upstream.timeouts.total or Talon-Proxy-Timeout-Ms", sent=outcome)
        self._end(caller, error)
        self._lost(flight)

    def _lost(self, flight: Flight) -> None:
        """A flight has a caller less."""
        if not flight.wanted:
            self._lanes.recount(flight)
            if flight.state is State.QUEUED:
                self._attempts.forsaken(flight)

    def crashed(self, flight: Flight) -> None:
        """See `traffic.flights.Tower`."""
        _report(flight.call)
        error = InternalError(sent=flight.outcome)
        if flight.ahead:
            # Its place stays, or those behind it would not wait for those ahead of it.
            flight.insists = False
            callers, flight.callers = flight.callers, []
            for caller in callers:
                self._end(caller, error)
            self._lost(flight)
        elif flight.state is not State.DONE:
            self._attempts.land(flight, to_reply(error), error)

    # --- the end ---

    async def drained(self) -> None:
        """Wait until every flight has landed. None holds its lanes any longer for what is not known."""
        self._attempts.hurry(self.flights)
        while self._flights:
            if self._empty is None:
                self._empty = asyncio.Event()
            await self._empty.wait()

    def refuse_unsent(self) -> None:
        """Shutting down: answer every call that was not sent yet, and send no other."""
        self._attempts.stop()
        unsent = [flight for flight in self._flights if flight.state is State.QUEUED]
        for flight in unsent:
            callers, flight.callers = flight.callers, []
            for caller in callers:
                self._end(caller, Draining("The proxy is shutting down", sent=flight.outcome))
        for flight in unsent:
            if flight.state is State.QUEUED:
                self._lost(flight)

    def _end(self, caller: Caller, error: ProxyError) -> None:
        """Answer one caller, whatever becomes of its flight."""
        caller.call.error = error.category.value
        self._give(caller, to_reply(error))

    def _give(self, caller: Caller, reply: Reply) -> None:
        """Answer a caller; where that crashes, it is felt by no other caller of the flight."""
        try:
            self._answer(caller.call, caller.answer, reply)
        except Exception:
            _report(caller.call)
            if reply.stream is not None:
                reply.stream.abandon()

    def _answer(self, call: Call, answer: Answer, reply: Reply) -> None:
        if not call.timeline.ready:
            call.timeline.ready = self._wheel.clock()
        answer(reply, fields.timed_lines(call))

    def _new_id(self) -> bytes:
        self._count += 1
        return b"%b-%x" % (self._prefix, self._count)


def make_flight(
    call: Call,
    found: fields.CallFields,
    route: Route,
    grant: Grant,
    rules: Rules,
    *,
    crew: Crew,
    tower: Tower,
    wheel: Wheel,
) -> Flight:
    """Make the flight that a call has if it joins none."""
    encoded = found.content_encoding != b""
    names = keys.names(route, call.body, encoded=encoded, limit=rules.inspect)
    flight = Flight(call, route, names, grant, fields.outbound(call, found), crew=crew, tower=tower, wheel=wheel)
    flight.encoded = encoded
    flight.ordered = not found.unordered
    flight.idempotency_key = found.idempotency_key
    if found.idempotency_key is not None and route.operation.idempotency_key:
        flight.repeatable = True
    if rules.coalescing and route.operation.name not in rules.never_join and may_share(route, call, found):
        flight.shares = True
        application = grant.application.name
        flight.fingerprint = (call.target, call.body, call.method, application, grant.caller, found.identity)
    return flight


def _report(call: Call) -> None:
    """Log the defect of ours that is being handled."""
    _LOG.exception("a call failed", extra={"fields": {"request_id": call.request_id.decode("latin-1")}})
