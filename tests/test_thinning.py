"""Which sessions are left out while more calls come than there is time to look at."""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.observe.thinning import EASY, MOST, WINDOW, Thinning

SESSIONS = [b"cart-%d" % number for number in range(40_000)]


def thinning(left_out: int = 0) -> Thinning:
    made = Thinning(Random(5).random)
    made.left_out = left_out
    return made


def share(made: Thinning) -> float:
    return sum(not made.leaves_out(session) for session in SESSIONS) / len(SESSIONS)


def test_nobody_is_left_out_while_there_is_time() -> None:
    made = thinning()

    assert {made.relax(0.0) for _ in range(10 * WINDOW)} == {False}

    assert share(made) == 1.0
    assert not made.leaves_out(b"")


@pytest.mark.parametrize(
    ("came", "looked", "left_out"), [(11, 10, 1), (20, 10, 1), (44, 10, 7), (1500, 10, 255), (10**6, 1, MOST)]
)
def test_as_many_are_left_out_as_there_is_no_time_for(came: int, looked: int, left_out: int) -> None:
    made = thinning()

    made.tighten(came, looked)

    assert made.left_out == left_out
    assert share(made) == pytest.approx(1 / (left_out + 1), rel=0.4)


@given(st.integers(1, 10**7), st.integers(1, 1000), st.sampled_from([0, 1, 7, 511, MOST]))
def test_what_is_left_can_be_looked_at(came: int, looked: int, before: int) -> None:
    made = thinning(before)

    made.tighten(came, looked)

    assert made.left_out in (2**bits - 1 for bits in range(1, 11)), "a mask"
    assert made.left_out >= before
    times = (made.left_out + 1) // (before + 1)
    assert came // times <= looked or made.left_out == MOST


def test_who_is_looked_at_among_few_is_so_among_more() -> None:
    few, more = thinning(63), thinning(31)

    assert {session for session in SESSIONS if not few.leaves_out(session)} < {
        session for session in SESSIONS if not more.leaves_out(session)
    }


def test_calls_of_no_session_are_left_out_by_chance() -> None:
    made = thinning(7)

    assert 2000 < sum(not made.leaves_out(b"") for _ in range(20_000)) < 3000


def test_after_many_easy_slices_twice_as_many_are_looked_at() -> None:
    made = thinning(7)
    for _ in range(WINDOW - 1):
        made.relax(0.0)
    assert made.left_out == 7

    assert made.relax(0.0)

    assert made.left_out == 3


def test_a_slice_that_was_not_easy_counts_with_the_others() -> None:
    made = thinning(7)

    for number in range(WINDOW * 9):
        made.relax(1.0 if number % 2 else 0.0)
    assert made.left_out == 7, "half of the time is needed: for twice as many there is none"

    for number in range(WINDOW):
        made.relax(EASY * 1.5 if number % 2 else 0.0)
    assert made.left_out == 3


def test_who_was_just_left_out_stays_so_for_a_while() -> None:
    made = thinning()
    for _ in range(WINDOW - 1):
        made.relax(0.0)
    made.tighten(20, 10)

    made.relax(0.0)

    assert made.left_out == 1
