"""One flight: what moves it, that its caller is answered once, and that no defect on its way reaches another."""

from collections.abc import AsyncIterator

import pytest

from proxy.credentials import Application, Grant
from proxy.errors import ConnectionLost, ConnectionRefused, ProxyError
from proxy.messages import Call, Fields, Reply, Sent, Source, Timeline
from proxy.talon.routes import Surface
from proxy.traffic.flights import Flight, State
from proxy.wire.connection import Connection
from proxy.wire.dialing import Opened
from tests.upstream_fakes import FakeClock, FakeStream, FakeUpstream, Silence


class Rig:
    """A flight with its crew and its tower; the crew sends whatever it can, and crashes if told so."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.upstream = FakeUpstream(self.clock)
        self.answers: list[Reply] = []
        self.rung: list[Flight] = []
        self.gone: list[Flight] = []
        self.crashes: list[tuple[Flight, BaseException]] = []
        self.failures: list[ProxyError] = []
        self.replies: list[Reply] = []
        self.begun = 0
        self.crashing = ""
        self.handling: BaseException | None = None
        call = Call(b"GET", b"/", Fields(b"", []), b"", Timeline(0.0, 0.0))
        grant = Grant(Application("default"), Surface.INTEGRATION)
        self.flight = Flight(call, grant, b"", self.answer, crew=self, tower=self, wheel=self.clock.wheel())
        self.flight.set(self.clock.now + 15)

    def answer(self, reply: Reply, lines: bytes) -> None:
        self.answers.append(reply)

    # --- its crew ---

    def begin(self, flight: Flight) -> None:
        self.begun += 1
        flight.generation = self.upstream  # type: ignore[assignment]
        flight.wait()
        self._crash("begin")

    def send(self, flight: Flight, connection: Connection) -> None:
        self._crash("send")
        connection.send(flight, b"", b"", timeout=10.0)

    def failed(self, flight: Flight, error: ProxyError) -> None:
        self._crash("failed")
        self.failures.append(error)

    def answered(self, flight: Flight, reply: Reply) -> None:
        self._crash("answered")
        self.replies.append(reply)

    # --- its tower ---

    def overdue(self, flight: Flight) -> None:
        self._crash("overdue")
        self.rung.append(flight)

    def left(self, flight: Flight) -> bool:
        self.gone.append(flight)
        return flight.state is State.QUEUED

    def crashed(self, flight: Flight) -> None:
        assert self.handling is not None
        self.crashes.append((flight, self.handling))
        flight.land()

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
    rig.flight.land()

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


async def test_its_caller_is_answered_once(rig: Rig) -> None:
    first, late = reply(), reply()
    assert rig.flight.waited_for

    rig.flight.answer(first, b"")
    rig.flight.answer(late, b"")

    assert rig.answers == [first]
    assert not rig.flight.waited_for


async def test_the_stream_of_a_late_answer_is_abandoned(rig: Rig) -> None:
    first, late = FakeStream(), FakeStream()
    rig.flight.answer(reply(first), b"")
    rig.flight.answer(reply(late), b"")

    assert (first.abandoned, late.abandoned) == (0, 1)


async def test_landed_while_it_waits_it_waits_no_more(rig: Rig) -> None:
    rig.flight.begin()
    rig.clock.advance(3)
    rig.flight.land()
    rig.flight.land()

    assert rig.flight.state is State.DONE
    assert not rig.upstream.waiting
    assert rig.flight.call.timeline.pool == 3.0
    rig.clock.advance(100)
    assert not rig.rung


async def test_a_caller_who_leaves_tells_the_tower(rig: Rig) -> None:
    rig.flight.begin()
    told = [rig.flight.leave()]
    rig.upstream.admit()
    told.append(rig.flight.leave())

    assert told == [True, False]
    assert rig.gone == [rig.flight, rig.flight]


async def test_its_deadline_is_told_once_at_its_moment(rig: Rig) -> None:
    rig.clock.advance(14.9)
    assert not rig.rung
    assert not rig.flight.late
    rig.clock.advance(0.2)
    assert rig.rung == [rig.flight]
    rig.clock.advance(100)
    assert len(rig.rung) == 1


async def test_it_is_late_before_the_alarm_has_rung_where_the_loop_was_blocked(rig: Rig) -> None:
    rig.clock.now += 15

    assert rig.flight.late
    assert not rig.rung


async def test_landed_it_has_no_deadline(rig: Rig) -> None:
    rig.flight.land()
    rig.clock.advance(100)

    assert not rig.rung


# --- defects ---


@pytest.mark.parametrize("step", ["begin", "send", "failed", "answered", "overdue"])
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
