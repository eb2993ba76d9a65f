from datetime import UTC, datetime, timedelta

import pytest

from proxy.simulator.clock import Clock, Mode, moment

NEW_YEAR = datetime(2026, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)


class Real:
    """The real time, in the hand of a test."""

    def __init__(self) -> None:
        self.now = datetime(2030, 5, 5, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now


def test_without_a_start_it_tells_the_real_time() -> None:
    real = Real()
    clock = Clock(real=real)

    assert (clock(), clock.mode) == (real.now, Mode.REAL)


def test_a_start_makes_it_stand_still() -> None:
    real = Real()
    clock = Clock(NEW_YEAR, real=real)

    real.now += HOUR

    assert clock() == NEW_YEAR
    assert repr(clock) == "<Clock standing at 2026-01-01T00:00:00+00:00>"


def test_it_can_go_on_from_a_moment() -> None:
    real = Real()
    clock = Clock(real=real)
    clock.set(NEW_YEAR, runs=True)

    real.now += HOUR

    assert clock() == NEW_YEAR + HOUR


def test_advancing_a_standing_clock_leaves_it_standing() -> None:
    clock = Clock(NEW_YEAR)

    clock.advance(HOUR)

    assert (clock(), clock.mode) == (NEW_YEAR + HOUR, Mode.STANDING)


def test_advancing_the_real_time_makes_it_run_ahead() -> None:
    real = Real()
    clock = Clock(real=real)

    clock.advance(HOUR)
    real.now += HOUR

    assert (clock(), clock.mode) == (real.now + HOUR, Mode.RUNNING)


def test_let_go_it_tells_the_real_time_again() -> None:
    real = Real()
    clock = Clock(NEW_YEAR, real=real)

    clock.let_go()

    assert clock() == real.now


def test_moments_need_a_time_zone() -> None:
    assert moment("2026-01-01T01:00:00+01:00") == NEW_YEAR
    assert moment("2026-01-01T00:00:00Z") == NEW_YEAR
    with pytest.raises(ValueError, match="no time zone"):
        moment("2026-01-01T00:00:00")
    with pytest.raises(ValueError):
        moment("tomorrow")
