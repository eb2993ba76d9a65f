"""The attempts of flights: when to send, what is sent, when to try again, and when a lane may go on.

Before every attempt it is seen, with no await in between, that somebody still waits and has time left. What is signed
is signed at the last moment: a call that waited across a rotation or a switch leaves with the key and to the host of
that moment. `retries` says what may be tried again; design.md §6 says why.

After an outcome that nobody knows, a write keeps its lanes: until the end of the exchange is seen on the connection it
was sent on (`lanes.hold`), or for `lanes.quarantine`. The next write would be refused, or be executed before it.
"""

import logging
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from proxy.errors import (
    CallTimeout,
    Category,
    CircuitOpen,
    ConnectionLost,
    Draining,
    PacedOut,
    ProxyError,
    ResponseTimeout,
    Unauthorized,
    UpstreamError,
    to_reply,
)
from proxy.messages import Reply, Sent, Source
from proxy.talon import conflicts
from proxy.talon.conflicts import Kind
from proxy.talon.keys import decides_fate, is_harmless_twice
from proxy.talon.operations import OTHER
from proxy.talon.routes import Surface
from proxy.traffic import retries
from proxy.traffic.circuit import Circuit
from proxy.traffic.circuit import State as Circuits
from proxy.traffic.flights import Crew, Flight, Permit, Place, State
from proxy.traffic.gates import Gates
from proxy.traffic.hold import Hold
from proxy.traffic.lanes import Ending, Lanes
from proxy.traffic.pacing import Pacing
from proxy.traffic.retries import Budget, Reason
from proxy.traffic.retries import Rules as RetryRules
from proxy.traffic.signs import PAGE, Signs, Suspicion
from proxy.traffic.trials import UNAUTHORIZED, Trials, Verdict
from proxy.upstream import Generation, Upstream
from proxy.upstream import State as Serving
from proxy.wire.connection import Connection

_LOG: Final = logging.getLogger(__name__)
# Failures that say something of Talon.One, or of the way to it.
_FELT: Final = frozenset({Category.DNS, Category.CONNECT, Category.TLS, Category.TIMEOUT})

REFUSAL_EVERY: Final = 60.0  # seconds between two complaints about the keys of one Application (U21)


class Abandoned(Enum):
    """Setting `lanes.abandoned`: what becomes of a write that nobody waits for any more when its turn comes."""

    AUTO = "auto"  # sent, if it decides what becomes of an order
    SEND = "send"
    DROP = "drop"


@dataclass(frozen=True, slots=True)
class Rules:
    """Settings `upstream.timeouts.response`, `lanes.*` and `retries.*`; times in seconds, `inspect` in bytes."""

    response_timeout: float
    response_timeouts: Mapping[str, float] = field(default_factory=dict)  # of operations that have their own
    hold: float = 5.0
    quarantine: float = 1.0
    abandoned: Abandoned = Abandoned.AUTO
    inspect: int = 256 * 1024
    generate_keys: bool = False
    management_rate: float = 3.0  # calls a second of each endpoint; 0: not limited
    retries: RetryRules = field(default_factory=RetryRules)


class Attempts(Crew):
    """Makes the attempts of all flights, and lands them."""

    def __init__(
        self,
        upstream: Upstream,
        lanes: Lanes,
        gates: Gates,
        rules: Rules,
        *,
        clock: Callable[[], float],
        suspected: Callable[[Suspicion | None], None] = lambda _: None,
        rekeyed: Callable[[str, str], None] = lambda _, __: None,
        refused: Callable[[str], None] = lambda _: None,
    ) -> None:
        """`suspected`: see `Signs`. `rekeyed` is told when another key of an Application leads: its name, and which.

        `refused` is told, once a minute, of an Application whose calls are answered with 401.
        """
        self._upstream = upstream
        self._lanes = lanes
        self._gates = gates
        self._rules = rules
        self._clock = clock
        self.budget = Budget(rules.retries.budget, clock)
        self.signs = Signs(clock, suspected)
        self._trials = Trials(clock)
        self._rekeyed = rekeyed
        self._tell_refused = refused
        self._refusals: dict[str, float] = {}  # when it was told last, by Application
        self._hold: Hold | None = None
        self.retried = dict.fromkeys(Reason, 0)
        self.unaffordable = dict.fromkeys(Reason, 0)
        self.conflicts = {(kind, returned): 0 for kind in Kind for returned in (False, True)}
        self._limit = lanes.limit
        self._pacing = Pacing(rules.management_rate, clock)
        self._circuit_of: Generation | None = None
        self.circuit = Circuit(clock)
        self._hurried = False
        self._stopping = False

    def follow(self, rules: Rules) -> None:
        """Make every attempt from now on by these rules."""
        self._rules = rules
        self.budget.share = rules.retries.budget
        self._pacing.follow(rules.management_rate)

    # --- holding writes ---

    def hold(self, hold: Hold) -> None:
        """Let writes wait there from its moment on."""
        self._hold = hold

    def unhold(self) -> None:
        """Let them go on."""
        hold, self._hold = self._hold, None
        if hold is not None:
            hold.end()

    def _held(self, flight: Flight) -> bool:
        """Let a write wait, where writes are held now."""
        hold = self._hold
        if hold is None or flight.route.reads or self._stopping or not hold.begun():
            return False
        flight.park()
        hold.take(flight)
        self._leave(flight)  # it passes the limit again when it goes on
        return True

    # --- an attempt ---

    def begin(self, flight: Flight) -> None:
        """See `flights.Crew`."""
        if self._rules.generate_keys and flight.route.operation.idempotency_key and not flight.repeatable:
            flight.repeatable = True
            flight.key_line = _new_key()
        if flight.grant.surface is Surface.MANAGEMENT:
            self._pace(flight)
        elif not flight.gates or not self._goes(flight):
            self.attempt(flight)
        elif self._gates.enter(flight):
            flight.place = Place.INSIDE
            self.attempt(flight)
        else:
            flight.stand()

    def _pace(self, flight: Flight) -> None:
        wait = self._pacing.wait(flight.call.method, flight.call.target)
        if wait is None:
            error = PacedOut("Too many calls of this endpoint of the Management API wait already (management.rate)")
            self.land(flight, to_reply(error), error)
        elif wait:
            flight.rest(wait)
        else:
            self.attempt(flight)

    def attempt(self, flight: Flight) -> None:
        """See `flights.Crew`: the flight is sent in this step, or waits for room or a connection, or ends unsent."""
        if not self._goes(flight):
            self._end_unsent(flight)
        elif not self._circuit().lets_through():
            self._refuse(flight)
        elif self._limit.enter(flight):
            flight.permit = Permit.HELD
            self._start(flight)
        else:
            flight.queue_up()

    def start(self, flight: Flight) -> None:
        """See `flights.Crew`."""
        if self._goes(flight):
            self._start(flight)
        else:
            self._end_unsent(flight)

    def _start(self, flight: Flight) -> None:
        if self._hold is not None and self._held(flight):
            return
        flight.timeline.tries += 1
        generation = flight.generation
        if generation is None or not _bound(flight):
            generation = flight.generation = self._upstream.current
        connection = generation.pool.take()
        if connection is None:
            flight.wait()
        else:
            self._send(flight, generation, connection)

    def send(self, flight: Flight, connection: Connection) -> None:
        """See `flights.Crew`."""
        generation = flight.generation
        assert generation is not None
        if not self._goes(flight):
            generation.pool.release(connection)
            self._end_unsent(flight)
        elif self._hold is not None and self._held(flight):
            generation.pool.release(connection)
        else:
            self._send(flight, generation, connection)

    def _send(self, flight: Flight, generation: Generation, connection: Connection) -> None:
        call = flight.call
        try:
            line = self._line(flight, generation)
            if line is None:
                generation.pool.release(connection)
                self._end_keyless(flight)
                return
            head = b"%b %b HTTP/1.1\r\n%b%b%b%b\r\n" % (
                call.method,
                call.target,
                generation.host_line,
                flight.lines,
                flight.key_line,
                line,
            )
        except BaseException:
            generation.pool.release(connection)
            raise
        connection.send(flight, head, call.body, timeout=self._response_timeout(flight))

    def _response_timeout(self, flight: Flight) -> float:
        rules = self._rules
        return rules.response_timeouts.get(flight.route.operation.name, rules.response_timeout)

    def _line(self, flight: Flight, generation: Generation) -> bytes | None:
        """Give the `Authorization` line, with a key of this generation; None: there is no key for it any more."""
        grant = flight.grant
        if grant.passed is not None:
            return grant.own_line
        key = generation.keys.leading(grant)
        ring = flight.trial
        if ring is not None:
            if generation.keys.ring(grant) is ring:
                key = ring.other
            else:
                # It was to try a key of a host that was left meanwhile: that key goes nowhere else.
                self._end_trial(flight, accepted=None)
        flight.key = key
        return None if key is None else key.line

    def _goes(self, flight: Flight) -> bool:
        """Tell whether there is anybody to send it for."""
        return not self._stopping and (flight.in_time or self.insists(flight))

    def insists(self, flight: Flight) -> bool:
        """Tell whether a flight is sent though nobody waits: a direct call would have been on the wire by then."""
        if flight.insists is None:
            abandoned = self._rules.abandoned
            flight.insists = not flight.route.reads and (
                abandoned is Abandoned.SEND
                or (
                    abandoned is Abandoned.AUTO
                    and decides_fate(flight.route, flight.call.body, encoded=flight.encoded, limit=self._rules.inspect)
                )
            )
        return flight.insists and not self._stopping

    def forsaken(self, flight: Flight) -> None:
        """Its last caller has gone, while it was QUEUED. Behind others it keeps its place, and may be joined again."""
        if not flight.ahead and not self.insists(flight):
            self._end_unsent(flight)

    def _end_unsent(self, flight: Flight) -> None:
        error: ProxyError
        if self._stopping:
            error = Draining("The proxy is shutting down", sent=flight.outcome)
        else:
            error = CallTimeout("Its time was over before it could be sent", sent=flight.outcome)
        self.land(flight, to_reply(error), error)

    def _end_keyless(self, flight: Flight) -> None:
        """The settings changed while it waited: its Application has no key any more, or is none."""
        error = Unauthorized("No API key is configured for this Application any more", parameter="Authorization")
        error.sent = flight.outcome
        self.land(flight, to_reply(error), error)

    # --- its end ---

    def failed(self, flight: Flight, error: ProxyError) -> None:
        """See `flights.Crew`."""
        timeline = flight.timeline
        self._leave(flight)
        if isinstance(error, UpstreamError) and error.category in _FELT:
            self._feel(flight, error.category.value, connecting=error.sent is Sent.NO)
        reason = None
        if error.sent is Sent.NO:
            moved_on = self._moved_on(flight)
            if not moved_on:
                flight.failures += 1
                self.signs.failed(flight.route.operation.name, error)
            if moved_on or retries.after_unsent(error, flight.failures, self._rules.retries):
                reason = Reason.CONNECTION
        else:
            timeline.upstream += timeline.answered - timeline.sent
            if error.sent is Sent.MAYBE and not flight.repeats:
                flight.doubt = True
                reason = retries.after_loss(
                    error, timeline, repeatable=flight.repeatable, harmless=lambda: self._harmless(flight)
                )
        if reason is not None:
            # The peer closed, or left with a GOAWAY, before it took the call: nothing has failed.
            if self._again(flight, reason, free=isinstance(error, ConnectionLost) and reason is Reason.CONNECTION):
                return
            if not flight.in_time and flight.wanted:
                error = CallTimeout("No attempt succeeded in time", sent=error.sent)
        if flight.doubt and error.sent is Sent.NO:
            error.sent = Sent.MAYBE  # of an attempt before
        self.land(flight, to_reply(error), error)

    def answered(self, flight: Flight, reply: Reply) -> None:
        """See `flights.Crew`."""
        timeline = flight.timeline
        timeline.upstream += timeline.answered - timeline.sent
        self._leave(flight)
        status = reply.status
        if status in retries.UNAVAILABLE:
            self._feel(flight, str(status), connecting=False)
        elif flight.generation is self._circuit_of:
            self.circuit.succeeded()
        key = flight.key
        if key is not None:
            if status == UNAUTHORIZED:
                key.uses.rejected += 1
            else:
                key.uses.accepted += 1
            if flight.trial is not None:
                self._end_trial(flight, accepted=status != UNAUTHORIZED)
        signs = self.signs
        # Found, and not asked for with `in`: of bytes, that first takes what is sought for a number (0.3 µs).
        odd = status >= 300 or reply.block.find(PAGE) >= 0 or signs.suspicion is not None
        if odd and not self._moved_on(flight):
            signs.answered(flight.route.operation.name, reply)
        if status < 400:
            self.land(flight, _masked(flight, reply) if status >= 300 else reply, None)
            return
        if status in retries.UNKNOWN and not flight.route.reads:
            flight.doubt = True
        if status == UNAUTHORIZED and self._refused(flight, reply):
            return
        self._judge(flight, reply)

    def _count_refusal(self, flight: Flight) -> None:
        application, now = flight.grant.application.name, self._clock()
        if now - self._refusals.get(application, now - REFUSAL_EVERY) >= REFUSAL_EVERY:
            self._refusals[application] = now
            self._tell_refused(application)

    def _judge(self, flight: Flight, reply: Reply) -> None:
        """Try again after an error of Talon.One's, or hand it on."""
        status = reply.status
        if status == UNAUTHORIZED and flight.key is not None:
            self._count_refusal(flight)
        reason = self._reason(flight, reply)
        if reason is not None and self._again(flight, reason):
            if reply.stream is not None:
                reply.stream.abandon()
            return
        if status == retries.CONFLICT:
            self.conflicts[conflicts.classify(reply.block, reply.body), True] += 1
        reply = _masked(flight, reply)
        # A 409 may be the doing of an attempt before, of which nobody knows what became.
        unsettled = status in retries.UNAVAILABLE or status == retries.CONFLICT
        if flight.doubt and unsettled and not flight.route.reads:
            reply = reply.doubted()
        self.land(flight, reply, None)

    # --- a key that is refused ---

    def _refused(self, flight: Flight, reply: Reply) -> bool:
        """Send a flight once more whose key was refused, or keep it back; False: the refusal is its answer."""
        key, generation = flight.key, flight.generation
        if key is None or flight.rekeyed or flight.route.operation is OTHER or generation is None:
            return False
        ring = generation.keys.ring(flight.grant)
        if ring is None:
            return False
        if generation is not self._upstream.current:
            # It was sent before the keys, or the host, were changed.
            verdict = Verdict.AGAIN
        else:
            verdict = self._trials.judge(flight, ring, key)
        if verdict is Verdict.ANSWER:
            return False
        if verdict is Verdict.WAIT:
            flight.park()
            self._trials.wait(flight, ring, reply)
            return True
        if verdict is Verdict.TRY:
            self._trials.begin(flight, ring)
        flight.rekeyed = True
        if self._again(flight, Reason.KEY):
            if reply.stream is not None:
                reply.stream.abandon()
            return True
        if flight.trial is not None:
            self._end_trial(flight, accepted=None)
        return False

    def reconsider(self, flight: Flight, reply: Reply) -> None:
        """See `flights.Crew`: the trial for which a refused flight was kept back has ended."""
        if not self._refused(flight, reply):
            self._judge(flight, reply)

    def _end_trial(self, flight: Flight, *, accepted: bool | None) -> None:
        ring = flight.trial
        waiting = self._trials.end(flight, accepted)
        if accepted and ring is not None:
            self._rekeyed(ring.application, ring.leading.role.value)
        for other, reply in waiting:
            other.reconsider(reply)

    def _reason(self, flight: Flight, reply: Reply) -> Reason | None:
        """Tell why an attempt with this answer is made again; None: it is the answer."""
        if reply.status == retries.CONFLICT:
            kind = conflicts.classify(reply.block, reply.body)
            if not kind.parallel or flight.conflicts >= self._rules.retries.conflict_tries:
                return None
            flight.conflicts += 1
            flight.timeline.conflicts += 1
            flight.conflict = kind
            return Reason.CONFLICT
        if flight.repeats:
            return None
        reads = flight.route.reads
        management = flight.grant.surface is Surface.MANAGEMENT
        return retries.after_status(reply.status, reads=reads, repeatable=flight.repeatable, management=management)

    def _again(self, flight: Flight, reason: Reason, *, free: bool = False) -> bool:
        """Make the flight's next attempt, now or later; False: there is no time for it, or no budget.

        `free`: it costs nobody anything, and so no budget.
        """
        generation = flight.generation
        if self._stopping or (self._circuit().state is Circuits.OPEN and reason is not Reason.CONFLICT):
            return False
        if generation is not None and generation.state is not Serving.SERVING and _bound(flight):
            return False
        delay = retries.back_off(reason, flight.conflicts, self._rules.retries)
        if flight.deadline <= self._clock() + delay and (flight.wanted or not self.insists(flight)):
            return False
        if reason is Reason.CONFLICT:
            if flight.key_line and not flight.doubt:
                # The one before may have been stored with the refusal (talon-one-facts.md §3). But under the one of
                # an attempt that was lost, the call may have been executed.
                flight.key_line = _new_key()
        elif reason is not Reason.KEY and not free and not self.budget.spend():
            self.unaffordable[reason] += 1
            return False
        if reason not in _KNOWN_UNEXECUTED:
            flight.repeats += 1
        self.retried[reason] += 1
        if self._hold is not None:
            self._hold.news()
        if delay:
            flight.rest(delay)
        else:
            flight.state = State.QUEUED
            self.attempt(flight)
        return True

    def _moved_on(self, flight: Flight) -> bool:
        """Tell whether the attempt failed because its generation was left: the next one costs nobody anything."""
        return flight.generation is not self._upstream.current and not _bound(flight)

    def _harmless(self, flight: Flight) -> bool:
        return is_harmless_twice(flight.route, flight.call.body, encoded=flight.encoded, limit=self._rules.inspect)

    def land(self, flight: Flight, reply: Reply, error: ProxyError | None) -> None:
        """⇒ ANSWERED, and DONE, unless its lanes are held for a while."""
        self._answer(flight, reply, error)
        if reply.outcome is Sent.MAYBE and flight.lanes:
            self._quarantine(flight)
        else:
            self.done(flight)

    def _answer(self, flight: Flight, reply: Reply, error: ProxyError | None) -> None:
        flight.state = State.ANSWERED
        flight.clear()
        flight.withdraw()
        if flight.trial is not None:
            self._end_trial(flight, accepted=None)
        if flight.place is Place.WAITING:
            self._gates.withdraw(flight)
        elif flight.place is Place.INSIDE:
            self._gates.leave(flight.gates)
        flight.place = Place.OUTSIDE
        self._leave(flight)
        if flight.conflict is not None and reply.source is Source.UPSTREAM and reply.status != retries.CONFLICT:
            self.conflicts[flight.conflict, False] += 1
        self._lanes.landed(flight, _ending(reply))
        flight.tower.landed(flight, reply, error)
        self._lanes.recount(flight)

    def _quarantine(self, flight: Flight) -> None:
        """Hold its lanes for a while: what was sent may still be running."""
        if self._rules.quarantine and not self._hurried:
            flight.set(self._clock() + self._rules.quarantine)
        else:
            self.done(flight)

    def done(self, flight: Flight) -> None:
        """⇒ DONE: those behind it go on."""
        flight.state = State.DONE
        flight.clear()
        if flight.gates:
            self._gates.finished(flight.gates)
        self._lanes.release(flight)
        flight.tower.done(flight)
        if self._hold is not None:
            self._hold.news()

    # --- what took too long ---

    def overdue(self, flight: Flight) -> float:
        """See `flights.Crew`: a write's connection is kept aside for a while, so that its end may be seen."""
        generation = flight.generation
        assert generation is not None
        if not flight.lanes or self._hurried or not generation.pool.may_hold():
            return 0.0
        timeline = flight.timeline
        timeline.answered = self._clock()
        timeline.upstream += timeline.answered - timeline.sent
        flight.doubt = True
        self._feel(flight, Category.TIMEOUT.value, connecting=False)
        error = ResponseTimeout("No complete answer within upstream.timeouts.response", sent=Sent.MAYBE)
        self._answer(flight, to_reply(error), error)
        return self._rules.hold

    def ended(self, flight: Flight, *, seen: bool) -> None:
        """See `flights.Crew`."""
        if flight.state is State.DONE:
            return
        if seen:
            self.done(flight)
        else:
            self._quarantine(flight)

    # --- room, and the circuit ---

    def _leave(self, flight: Flight) -> None:
        """Its attempt is over: make room for another."""
        permit, flight.permit = flight.permit, Permit.NONE
        if permit is Permit.HELD:
            self._limit.leave()
        elif permit is Permit.WAITING:
            self._limit.withdraw(flight)

    def _circuit(self) -> Circuit:
        """Give the circuit of the current generation."""
        if self._circuit_of is not self._upstream.current:
            self._circuit_of = self._upstream.current
            self.circuit = Circuit(self._clock, self._circuit_changed)
        return self.circuit

    def _feel(self, flight: Flight, error: str, *, connecting: bool) -> None:
        """Let the circuit know of a failure, if that is of its generation."""
        if flight.generation is self._circuit_of:
            self.circuit.failed(flight.keys[0] if flight.keys else flight.call.target, error, connecting=connecting)

    def _circuit_changed(self, state: Circuits) -> None:
        level = logging.WARNING if state is Circuits.OPEN else logging.INFO
        fields = {"last_error": self.circuit.last_error}
        _LOG.log(level, "circuit %s", "open" if state is Circuits.OPEN else "closed", extra={"fields": fields})
        if state is Circuits.OPEN:
            # Those who wait would only wait for their time to be over (A19).
            for passenger in self._limit.queue():
                assert isinstance(passenger, Flight)
                if passenger.permit is Permit.WAITING:  # not ended by the one before
                    self._refuse(passenger)
            if self._circuit_of is not None:
                self._circuit_of.pool.turn_away(_circuit_open(Sent.NO))

    def _refuse(self, flight: Flight) -> None:
        error = _circuit_open(flight.outcome)
        self.land(flight, to_reply(error), error)

    # --- shutting down ---

    def hurry(self, flights: Iterable[Flight]) -> None:
        """Hold no lane any longer for what is not known: what waits behind it shall go while there is time."""
        self._hurried = True
        for flight in flights:
            if flight.state is State.ANSWERED:
                self.done(flight)

    def stop(self) -> None:
        """Send nothing more."""
        self._stopping = self._hurried = True


_KNOWN_UNEXECUTED: Final = frozenset({Reason.CONFLICT, Reason.CONNECTION, Reason.KEY})


def _bound(flight: Flight) -> bool:
    """Tell whether a flight stays with its generation: what may have been executed is not repeated anywhere else."""
    return flight.doubt and not flight.route.reads


def _masked(flight: Flight, reply: Reply) -> Reply:
    """Take our keys out of an answer that repeats them."""
    generation = flight.generation
    return reply if generation is None else generation.keys.mask(flight.grant, reply)


def _ending(reply: Reply) -> Ending:
    if reply.outcome is Sent.MAYBE or (reply.source is Source.PROXY and reply.outcome is None):
        return Ending.UNKNOWN  # or executed, with an answer that is too large to be told
    return Ending.EXECUTED if reply.status < 300 else Ending.REFUSED


def _new_key() -> bytes:
    return b"Idempotency-Key: %b\r\n" % str(uuid.uuid4()).encode()


def _circuit_open(sent: Sent) -> CircuitOpen:
    return CircuitOpen("Talon.One could not be reached lately; the next call that is tried will show", sent=sent)
