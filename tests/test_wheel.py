"""The wheel: alarms ring once, never early, at most a tick late."""

import sys
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.wire.wheel import STALL, TICK, Alarm, Wheel
from tests.clock import Time

EPSILON = 1e-6


@dataclass
class Bench:
    time: Time = field(default_factory=Time)
    rung: list[tuple[str, float]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.wheel = Wheel(self.time, self.time.call_later)

    def alarm(self, name: str = "a") -> Alarm:
        return self.wheel.alarm(lambda: self.rung.append((name, self.time.now)))

    @property
    def names(self) -> list[str]:
        return [name for name, _ in self.rung]


def test_an_alarm_rings_once_at_most_a_tick_late() -> None:
    bench = Bench()
    bench.alarm().set(1001.005)

    bench.time.pass_by(1.004)
    assert not bench.rung
    bench.time.pass_by(0.5)

    assert bench.names == ["a"]
    assert 1001.005 <= bench.rung[0][1] <= 1001.005 + TICK + EPSILON


def test_a_cleared_alarm_does_not_ring() -> None:
    bench = Bench()
    alarm = bench.alarm()
    alarm.set(1001.0)
    alarm.clear()

    bench.time.pass_by(5)

    assert not bench.rung
    assert repr(alarm) == "<Alarm clear>"


def test_a_postponed_alarm_rings_at_its_new_moment_only() -> None:
    bench = Bench()
    alarm = bench.alarm()
    alarm.set(1001.0)
    alarm.set(1003.0)

    bench.time.pass_by(2.9)
    assert not bench.rung
    bench.time.pass_by(1)

    assert bench.names == ["a"]


def test_an_alarm_that_is_brought_forward_rings_earlier_and_not_again() -> None:
    bench = Bench()
    alarm = bench.alarm()
    alarm.set(1010.0)
    alarm.set(1001.0)

    bench.time.pass_by(1.1)
    assert bench.names == ["a"]
    bench.time.pass_by(20)

    assert bench.names == ["a"]


def test_an_alarm_may_be_set_again_by_its_own_ring() -> None:
    bench = Bench()
    rung: list[float] = []

    def ring() -> None:
        rung.append(bench.time.now)
        if len(rung) < 3:
            alarm.set(bench.time.now + 1)

    alarm = bench.wheel.alarm(ring)
    alarm.set(1001.0)
    bench.time.pass_by(10)

    assert len(rung) == 3


def test_a_ring_may_clear_another_that_is_due_with_it() -> None:
    bench = Bench()
    alarms: list[Alarm] = []
    rung: list[int] = []

    def ring(mine: int) -> None:
        rung.append(mine)
        alarms[1 - mine].clear()

    alarms.append(bench.wheel.alarm(lambda: ring(0)))
    alarms.append(bench.wheel.alarm(lambda: ring(1)))
    for alarm in alarms:
        alarm.set(1001.0)
    bench.time.pass_by(5)

    assert len(rung) == 1


def test_an_idle_wheel_keeps_no_timer() -> None:
    bench = Bench()
    bench.alarm().set(1001.0)
    bench.time.pass_by(2)

    assert bench.time.pending == []


def test_after_a_stall_the_loop_reads_once_before_anything_rings() -> None:
    """B26."""
    bench = Bench()
    bench.alarm().set(1001.0)

    bench.time.stall(1.0 + STALL + 1.0)
    bench.time.run_due()
    assert not bench.rung
    assert [timer.due - bench.time.now for timer in bench.time.pending] == [pytest.approx(TICK)]
    bench.time.pass_by(TICK)

    assert bench.names == ["a"]


def test_what_a_stalled_loop_reads_saves_the_alarm() -> None:
    """B26."""
    bench = Bench()
    alarm = bench.alarm()
    alarm.set(1001.0)

    bench.time.stall(5.0)
    bench.time.run_due()
    alarm.set(bench.time.now + 10)
    bench.time.pass_by(9)

    assert not bench.rung


def test_a_little_lateness_is_no_stall() -> None:
    bench = Bench()
    bench.alarm().set(1001.0)

    bench.time.stall(1.0 + STALL - 0.1)
    bench.time.run_due()

    assert bench.names == ["a"]


def test_a_stopped_wheel_is_silent() -> None:
    bench = Bench()
    bench.alarm().set(1001.0)
    bench.wheel.stop()

    bench.time.pass_by(5)

    assert not bench.rung
    assert bench.time.pending == []


@pytest.mark.parametrize("count", [1, 1000])
def test_alarms_of_one_tick_share_one_timer(count: int) -> None:
    bench = Bench()
    for number in range(count):
        bench.alarm(str(number)).set(1001.0 + number * 1e-6)

    assert len(bench.time.pending) == 1
    bench.time.pass_by(2)
    assert len(bench.rung) == count


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("set"), st.integers(0, 4), st.floats(0, 3)),
        st.tuples(st.just("clear"), st.integers(0, 4), st.just(0.0)),
        st.tuples(st.just("pass"), st.just(0), st.floats(0, 2)),
    ),
    max_size=40,
)


def test_an_alarm_that_has_ended_never_rings_again_and_holds_nobody() -> None:
    bench, rung = Bench(), list[str]()

    def ring() -> None:
        rung.append("rung")

    held = sys.getrefcount(ring)
    alarm = bench.wheel.alarm(ring)
    alarm.set(1001.0)
    alarm.end()
    alarm.set(1003.0)
    bench.time.pass_by(5)

    assert rung == []
    assert sys.getrefcount(ring) == held


@settings(deadline=None)
@given(STEPS)
def test_whatever_is_set_and_cleared_rings_when_due_and_at_no_other_time(
    steps: list[tuple[str, int, float]],
) -> None:
    bench = Bench()
    alarms = [bench.alarm(str(number)) for number in range(5)]
    expected: dict[str, float] = {}
    ended: list[tuple[str, float]] = []

    def judge() -> None:
        """Compare what rang since the last look with what was due."""
        for name, at in bench.rung[len(ended) :]:
            due = expected.pop(name)
            assert due - EPSILON <= at <= due + TICK + EPSILON
            ended.append((name, at))
        assert all(due + TICK + EPSILON >= bench.time.now for due in expected.values())

    for what, number, seconds in steps:
        if what == "set":
            expected[str(number)] = bench.time.now + seconds
            alarms[number].set(bench.time.now + seconds)
        elif what == "clear":
            expected.pop(str(number), None)
            alarms[number].clear()
        else:
            bench.time.pass_by(seconds)
            judge()
    bench.time.pass_by(10)
    judge()

    assert not expected
    assert bench.time.pending == []


def test_a_deadline_that_fails_takes_no_other_with_it(caplog: pytest.LogCaptureFixture) -> None:
    bench = Bench()
    for name in "ab":
        bench.alarm(name).set(1001.0)
    bench.wheel.alarm(lambda: 1 / 0).set(1001.0)  # type: ignore[arg-type]
    for name in "cd":
        bench.alarm(name).set(1001.0)

    bench.time.pass_by(2)

    assert sorted(bench.names) == ["a", "b", "c", "d"]
    assert "a deadline failed" in caplog.text
