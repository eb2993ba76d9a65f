import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.simulator.turns import PLACES, CrowdedError, Key, State, Turn, Turns

SESSION = Key("session", "default", "cart")
PROFILE = Key("profile", "default", "jane")
KEYS = [
    Key("session", "default", "a"),
    Key("session", "other", "a"),
    Key("profile", "default", "a"),
    Key("profile", "default", "b"),
]


def test_one_runs_two_wait_and_the_fourth_is_refused() -> None:
    turns = Turns()

    states = [turns.arrive([SESSION]).state for _ in range(3)]

    assert states == [State.RUNNING, State.WAITING, State.WAITING]
    with pytest.raises(CrowdedError) as refused:
        turns.arrive([SESSION])
    assert refused.value.key == SESSION


def test_waiting_calls_run_in_order_of_arrival() -> None:
    turns = Turns()
    first, second, third = (turns.arrive([SESSION]) for _ in range(3))

    first.end()
    assert (second.running, third.running) == (True, False)
    second.end()
    assert third.running


def test_a_call_refused_at_one_key_occupies_nothing_at_the_other() -> None:
    turns = Turns()
    for _ in range(3):
        turns.arrive([PROFILE])

    with pytest.raises(CrowdedError):
        turns.arrive([SESSION, PROFILE])

    assert turns.at(SESSION) == ()
    assert turns.arrive([SESSION]).running


def test_two_sessions_of_one_profile_take_turns() -> None:
    turns = Turns()
    other = Key("session", "default", "other cart")
    first = turns.arrive([SESSION, PROFILE])
    second = turns.arrive([other, PROFILE])
    third = turns.arrive([other])

    # The third is behind the second at the session, though the session itself rests.
    assert (second.running, third.running) == (False, False)

    first.end()

    assert (second.running, third.running) == (True, False)


def test_one_key_named_twice_is_one_place() -> None:
    turns = Turns()

    turn = turns.arrive([SESSION, SESSION])

    assert turns.at(SESSION) == (turn,)


def test_ending_twice_does_no_harm() -> None:
    turns = Turns()
    first, second, third = (turns.arrive([SESSION]) for _ in range(3))

    first.end()
    first.end()

    assert (second.state, third.state) == (State.RUNNING, State.WAITING)


async def test_begun_wakes_when_the_turn_comes() -> None:
    turns = Turns()
    first, second = turns.arrive([SESSION]), turns.arrive([SESSION])
    waiter = asyncio.create_task(second.begun())
    await asyncio.sleep(0)

    first.end()

    assert await waiter is True
    assert await second.begun() is True


async def test_begun_says_when_the_caller_left_instead() -> None:
    turns = Turns()
    turns.arrive([SESSION])
    second = turns.arrive([SESSION])
    waiter = asyncio.create_task(second.begun())
    await asyncio.sleep(0)

    second.end()

    assert await waiter is False


async def test_a_cancelled_wait_gives_up_the_place() -> None:
    turns = Turns()
    first, second, third = (turns.arrive([SESSION]) for _ in range(3))
    waiter = asyncio.create_task(second.begun())
    await asyncio.sleep(0)

    waiter.cancel()
    await asyncio.gather(waiter, return_exceptions=True)

    assert turns.at(SESSION) == (first, third)


def test_repr_tells_state_and_places() -> None:
    turns = Turns()

    turn = turns.arrive([SESSION, PROFILE])

    assert repr(turn) == "<Turn running at session cart, profile jane>"
    assert repr(turns) == "<Turns at 2 keys>"


arrivals = st.lists(st.sampled_from(KEYS), max_size=3, unique=True)
steps = st.lists(st.one_of(arrivals, st.integers(min_value=0, max_value=20)), max_size=60)


@settings(max_examples=300, deadline=None)
@given(steps)
def test_the_rule_holds_whatever_arrives_and_leaves(script: list[list[Key] | int]) -> None:
    """A list of keys is an arrival; a number ends one of the present turns, running or waiting."""
    turns = Turns()
    present: list[Turn] = []  # in order of arrival

    for step in script:
        if isinstance(step, int):
            if present:
                present.pop(step % len(present)).end()
        else:
            crowded = any(len(turns.at(key)) == PLACES for key in step)
            try:
                present.append(turns.arrive(step))
            except CrowdedError:
                assert crowded
            else:
                assert not crowded
        _check(turns, present)

    # Whatever runs ends; everybody gets a turn, nobody waits for ever.
    while present:
        running = next(turn for turn in present if turn.running)
        present.remove(running)
        running.end()
        _check(turns, present)
    assert len(turns) == 0


def _check(turns: Turns, present: list[Turn]) -> None:
    for key in KEYS:
        line = [turn for turn in present if key in turn.keys]
        assert list(turns.at(key)) == line
        assert len(line) <= PLACES
        assert not any(turn.running for turn in line[1:])
    for turn in present:
        assert turn.running == all(turns.at(key)[0] is turn for key in turn.keys)
    assert len(turns) == len({key for turn in present for key in turn.keys})
