"""One flight: what moves it, that its caller is answered once, and that no defect on its way reaches another."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from proxy.credentials import Application, Grant
from proxy.errors import ConnectionLost, ConnectionRefused, ProxyError
from proxy.messages import Call, Fields, Reply, Sent, Source, Timeline
from proxy.talon.keys import NOTHING
from proxy.talon.routes import Routes, Surface
from proxy.traffic.flights import Caller, Crew, Flight, State, Tower
from proxy.upstream import State as Serving
from proxy.wire.connection import Connection
from proxy.wire.dialing import Opened
from tests.upstream_fakes import FakeClock, FakeStream, FakeUpstream, Silence


class Rig(Crew, Tower):
    """A flight with its crew, its tower and one caller; the crew sends whatever it can, and crashes if told so."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.upstream = FakeUpstream(self.clock)
        self.answers: list[Reply] = []
        self.rung: list[Caller] = []
        self.gone: list[Caller] = []
        self.crashes: list[tuple[Flight, BaseException]] = []
        self.failures: list[ProxyError] = []
        self.replies: list[Reply] = []
        self.ends: list[bool] = []
        self.begun = 0
        self.attempted = 0
        self.started = 0
        self.dones = 0
        self.hold = 0.0
        self.crashing = ""
        self.handling: BaseException | None = None
        call = Call(b"GET", b"/v2/x", Fields(b"", []), b"", Timeline(0.0, 0.0))
        route = Routes().classify(b"GET", b"/v2/x")
        grant = Grant(Application("default"), Surface.INTEGRATION)
        self.wheel = self.clock.wheel()
        self.flight = Flight(call, route, NOTHING, grant, b"", crew=self, tower=self, wheel=self.wheel)
        self.caller = self.board()

    def board(self, seconds: float = 15.0) -> Caller:
        caller = Caller(self.flight.call, self.answer, self.wheel)
        caller.set(self.clock.now + seconds)
        self.flight.board(caller)
        return caller

    def answer(self, reply: Reply, lines: bytes) -> None:
        self.answers.append(reply)

    # --- its crew ---

    def begin(self, flight: Flight) -> None:
        self.begun += 1
        flight.generation = self.upstream  # type: ignore[assignment]
        flight.wait()
        self._crash("begin")

    def attempt(self, flight: Flight) -> None:
        self.attempted += 1
        self._crash("attempt")

    def start(self, flight: Flight) -> None:
        self.started += 1
        self._crash("start")

    def send(self, flight: Flight, connection: Connection) -> None:
        self._crash("send")
        connection.send(flight, b"", b"", timeout=10.0)

    def failed(self, flight: Flight, error: ProxyError) -> None:
        self._crash("failed")
        self.failures.append(error)

    def answered(self, flight: Flight, reply: Reply) -> None:
        self._crash("answered")
        self.replies.append(reply)

    def reconsider(self, flight: Flight, reply: Reply) -> None:
        self._crash("reconsider")
        self.replies.append(reply)

    def overdue_exchange(self, flight: Flight) -> float:
        self._crash("hold")
        if self.hold:
            flight.state = State.ANSWERED
        return self.hold

    def ended(self, flight: Flight, *, seen: bool) -> None:
        self._crash("ended")
        self.ends.append(seen)

    def done(self, flight: Flight) -> None:
        self._crash("done")
        self.dones += 1

    # --- its tower ---

    def landed(self, flight: Flight, reply: Reply, error: ProxyError | None) -> None:
        raise AssertionError("the crew's to tell")

    def overdue(self, whose: Any) -> Any:
        if isinstance(whose, Flight):
            return self.overdue_exchange(whose)
        self._crash("overdue")
        self.rung.append(whose)
        return None

    def left(self, caller: Caller) -> bool:
        self.gone.append(caller)
        return caller.flight.state is State.QUEUED

    def crashed(self, flight: Flight) -> None:
        assert self.handling is not None
        self.crashes.append((flight, self.handling))
        self.land()

    def land(self) -> None:
        """As the crew does it."""
        self.flight.state = State.DONE
        self.flight.clear()
        self.flight.withdraw()

    def _crash(self, step: str) -> None:
        if step == self.crashing:
            self.handling = RuntimeError(step)
            raise self.handling


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    async with Silence.kept():
        yield Rig()


def reply(stream: FakeStream | None = None) -> Reply:
    return Reply(200, b"", b"", source=Source.UPSTREAM, length=0, stream=stream)


async def test_it_goes_from_queued_to_sent_to_done(rig: Rig) -> None:
    assert repr(rig.flight).startswith("<Flight QUEUED ")
    told = [rig.flight.outcome]
    rig.flight.begin()
    rig.upstream.admit()
    assert rig.flight.state is State.SENT
    told.append(rig.flight.outcome)
    rig.land()

    assert told == [Sent.NO, Sent.MAYBE]
    assert repr(rig.flight).startswith("<Flight DONE ")


async def test_it_begins_in_the_very_step(rig: Rig) -> None:
    rig.flight.begin()

    assert rig.begun == 1
    assert rig.upstream.waiting == [rig.flight]
    assert rig.flight.waits


async def test_it_is_sent_in_the_step_in_which_it_is_granted_a_connection(rig: Rig) -> None:
    rig.flight.begin()
    rig.clock.advance(2)
    opened = Opened()
    opened.connect, opened.tls = 0.25, 0.5

    asked = rig.upstream.admit(opened)

    assert asked.exchange is rig.flight
    assert not rig.flight.waits
    timeline = rig.flight.call.timeline
    assert (timeline.pool, timeline.connect, timeline.tls) == (2.0, 0.25, 0.5)


async def test_a_connection_that_was_not_opened_for_it_took_no_time_to_open(rig: Rig) -> None:
    rig.flight.begin()
    rig.upstream.admit()

    timeline = rig.flight.call.timeline
    assert (timeline.pool, timeline.connect, timeline.tls) == (0.0, 0.0, 0.0)


async def test_what_it_waited_before_it_was_refused_counts(rig: Rig) -> None:
    rig.flight.begin()
    rig.clock.advance(2)
    failure = ConnectionRefused("x")
    rig.upstream.fail(failure)

    assert rig.failures == [failure]
    assert not rig.flight.waits
    assert rig.flight.call.timeline.pool == 2.0


async def test_its_exchange_tells_its_crew(rig: Rig) -> None:
    rig.flight.begin()
    rig.upstream.admit()
    rig.upstream.answer(201)
    assert [answer.status for answer in rig.replies] == [201]

    lost = ConnectionLost("x", sent=Sent.MAYBE)
    rig.flight.failed(lost)
    assert rig.failures == [lost]


async def test_an_answer_takes_the_alarm_of_its_caller_away(rig: Rig) -> None:
    rig.caller.answer(reply(), b"")
    rig.clock.advance(100)

    assert len(rig.answers) == 1
    assert not rig.rung


async def test_it_is_wanted_as_long_as_one_caller_waits_and_as_long_as_the_last_of_them_has_time(rig: Rig) -> None:
    longer = rig.board(20.0)
    assert rig.flight.deadline == rig.clock.now + 20

    told = []
    for gone in (longer, rig.caller):
        gone.gone = True
        told.append((rig.flight.deadline - rig.clock.now, rig.flight.wanted, rig.flight.in_time))
    assert told == [(15.0, True, True), (-1000.0, False, False)]


async def test_who_may_join_it(rig: Rig) -> None:
    flight = rig.flight
    told = [flight.joinable]
    flight.shares = True
    told.append(flight.joinable)
    flight.begin()
    rig.upstream.admit()
    told.append(flight.joinable)
    rig.upstream.state = Serving.DRAINING
    told.append(flight.joinable)
    flight.doubt, flight.state = True, State.QUEUED
    told.append(flight.joinable)  # a read: it goes to the new upstream
    flight.route = Routes().classify(b"PUT", b"/v2/x")
    told.append(flight.joinable)
    rig.upstream.state = Serving.SERVING
    told.append(flight.joinable)
    for state in (State.ANSWERED, State.DONE):
        flight.state = state
        told.append(flight.joinable)

    assert told == [False, True, True, False, True, False, True, False, False]


async def test_after_a_rest_it_makes_another_attempt(rig: Rig) -> None:
    rig.flight.begin()
    rig.upstream.admit()
    rig.flight.rest(0.5)
    assert rig.flight.state is State.QUEUED
    told = []
    for seconds in (0.49, 0.05):
        rig.clock.advance(seconds)
        told.append(rig.attempted)

    assert told == [0, 1]
    assert rig.flight.timeline.backoff == pytest.approx(0.5, abs=0.05)


async def test_what_comes_on_a_connection_that_was_held_is_only_its_end(rig: Rig) -> None:
    rig.hold = 5.0
    rig.flight.begin()
    asked = rig.upstream.admit()
    assert rig.flight.overdue() == 5.0
    stream = FakeStream()
    rig.upstream.end(asked, stream=stream)
    rig.flight.failed(ConnectionLost("x", sent=Sent.MAYBE))

    assert rig.ends == [True, False]
    assert stream.abandoned == 1
    assert not rig.replies
    assert not rig.failures


async def test_the_alarm_of_an_answered_one_says_that_its_lanes_were_held_long_enough(rig: Rig) -> None:
    rig.flight.state = State.ANSWERED
    rig.flight.set(rig.clock.now + 1)
    rig.clock.advance(1.1)

    assert rig.dones == 1
    assert not rig.attempted


async def test_landed_while_it_waits_it_waits_no_more(rig: Rig) -> None:
    rig.flight.begin()
    rig.clock.advance(3)
    rig.land()
    rig.land()

    assert rig.flight.state is State.DONE
    assert not rig.upstream.waiting
    assert rig.flight.call.timeline.pool == 3.0


async def test_a_caller_who_leaves_tells_the_tower(rig: Rig) -> None:
    rig.flight.begin()
    told = [rig.caller.leave()]
    rig.upstream.admit()
    told.append(rig.caller.leave())

    assert told == [True, False]
    assert rig.gone == [rig.caller, rig.caller]


async def test_its_deadline_is_told_once_at_its_moment(rig: Rig) -> None:
    rig.clock.advance(14.9)
    assert not rig.rung
    assert rig.flight.in_time
    rig.clock.advance(0.2)
    assert rig.rung == [rig.caller]
    rig.clock.advance(100)
    assert len(rig.rung) == 1


async def test_it_is_late_before_the_alarm_has_rung_where_the_loop_was_blocked(rig: Rig) -> None:
    rig.clock.now += 15

    assert not rig.flight.in_time
    assert not rig.rung


# --- defects ---


@pytest.mark.parametrize(
    "step", ["begin", "attempt", "start", "send", "failed", "answered", "overdue", "hold", "ended", "done"]
)
async def test_a_crash_in_any_step_goes_to_the_tower_and_no_further(rig: Rig, step: str) -> None:
    rig.crashing = step
    rig.flight.begin()
    if step == "send":
        rig.upstream.grant()
    elif step == "failed":
        rig.upstream.fail(ConnectionRefused("x"))
    elif step == "answered":
        rig.upstream.admit()
        rig.upstream.answer()
    elif step == "overdue":
        rig.clock.advance(15.1)
    elif step == "attempt":
        rig.flight.passed()
    elif step == "start":
        rig.flight.admitted()
    elif step == "hold":
        rig.upstream.admit()
        assert rig.flight.overdue() == 0.0
    elif step in ("ended", "done"):
        rig.upstream.admit()
        rig.flight.state = State.ANSWERED
        if step == "done":
            rig.flight.ring()
        else:
            rig.upstream.answer()

    assert [(flight, str(error)) for flight, error in rig.crashes] == [(rig.flight, step)]
    assert rig.flight.state is State.DONE
    assert not rig.upstream.waiting


async def test_a_crash_of_one_deadline_keeps_no_other_from_ringing(rig: Rig) -> None:
    rung: list[str] = []
    others = [rig.flight._wheel.alarm(lambda: rung.append("other")) for _ in range(20)]
    for other in others:
        other.set(rig.clock.now + 15)
    rig.crashing = "overdue"

    rig.clock.advance(15.1)

    assert len(rung) == 20
    assert len(rig.crashes) == 1


async def test_the_stream_of_an_answer_on_which_a_step_crashed_is_abandoned(rig: Rig) -> None:
    rig.crashing = "answered"
    rig.flight.begin()
    rig.upstream.admit()
    stream = FakeStream()

    rig.upstream.answer(stream=stream)

    assert stream.abandoned == 1


# --- what it waited for, when its caller goes ---------------------------------------------------------------------


def waited(flight: Flight) -> dict[str, float]:
    timeline = flight.timeline
    spans = {"lane": timeline.lane, "gate": timeline.gate, "backoff": timeline.backoff, "pool": timeline.pool}
    return {name: seconds for name, seconds in spans.items() if seconds}


def test_a_flight_that_has_others_ahead_has_waited_for_them(rig: Rig) -> None:
    rig.flight.timeline.complete = rig.clock.now
    rig.flight.ahead = 1
    rig.clock.now += 2.0

    rig.flight.account()

    assert waited(rig.flight) == {"lane": 2.0}


def test_a_flight_that_waits_for_a_connection_has_waited_for_it_and_goes_on_waiting(rig: Rig) -> None:
    rig.flight.begin()
    rig.clock.now += 2.0

    rig.flight.account()
    rig.clock.now += 3.0
    rig.flight.withdraw()

    assert waited(rig.flight) == {"pool": 5.0}


def test_a_flight_at_a_gate_or_for_want_of_room_has_waited_there(rig: Rig) -> None:
    rig.flight.stand()
    rig.clock.now += 2.0
    rig.flight.account()
    rig.flight.passed()
    rig.flight.queue_up()
    rig.clock.now += 3.0
    rig.flight.account()

    assert waited(rig.flight) == {"gate": 5.0}


def test_a_flight_that_rests_has_waited_for_its_next_attempt(rig: Rig) -> None:
    rig.flight.rest(10.0)
    rig.clock.now += 2.0

    rig.flight.account()

    assert waited(rig.flight) == {"backoff": 2.0}


def test_a_flight_that_was_sent_waits_for_nothing_of_ours(rig: Rig) -> None:
    rig.flight.state = State.SENT
    rig.clock.now += 2.0

    rig.flight.account()

    assert waited(rig.flight) == {}
