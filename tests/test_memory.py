"""The memory of which profiles a session may belong to: pending, confirmed, refused, in doubt; and its bounds."""

import pytest

from proxy.traffic.memory import FRESH, IDLE, Memory, Session
from tests.clock import Time

SESSION = ("default", "s")


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def memory(time: Time) -> Memory:
    return Memory(3, time)


def know(memory: Memory, session: str, profile: str) -> None:
    memory.admitted(("default", session), profile)
    memory.confirmed(("default", session), profile)


def profiles(memory: Memory, session: Session = SESSION) -> tuple[str, ...]:
    links = memory.find(session)
    return () if links is None else links.profiles


def knows(memory: Memory, time: Time, profile: str) -> bool:
    links = memory.find(SESSION)
    return links is not None and links.knows(profile, time())


def test_nothing_is_known_of_a_session_that_was_never_seen(memory: Memory) -> None:
    assert profiles(memory) == ()
    assert len(memory) == 0


def test_a_profile_counts_from_the_admission_of_the_call_that_names_it(memory: Memory) -> None:
    memory.admitted(SESSION, "p")

    assert profiles(memory) == ("p",)


def test_a_call_that_succeeded_makes_its_profile_the_only_one(memory: Memory) -> None:
    know(memory, "s", "guest")
    memory.admitted(SESSION, "jane")
    told = [profiles(memory)]
    memory.confirmed(SESSION, "jane")
    told.append(profiles(memory))

    assert told == [("guest", "jane"), ("jane",)]


def test_a_call_that_was_refused_leaves_the_profile_that_was_before(memory: Memory) -> None:
    know(memory, "s", "guest")
    memory.admitted(SESSION, "jane")
    memory.refused(SESSION, "jane")

    assert profiles(memory) == ("guest",)


def test_a_call_of_which_nobody_knows_the_outcome_leaves_both(memory: Memory) -> None:
    know(memory, "s", "guest")
    memory.admitted(SESSION, "jane")
    memory.doubted(SESSION, "jane")
    told = [profiles(memory)]
    memory.admitted(SESSION, "jane")
    memory.confirmed(SESSION, "jane")
    told.append(profiles(memory))

    assert told == [("guest", "jane"), ("jane",)]


def test_doubt_about_the_profile_that_was_known_changes_nothing(memory: Memory) -> None:
    know(memory, "s", "p")
    memory.admitted(SESSION, "p")
    memory.doubted(SESSION, "p")

    assert profiles(memory) == ("p",)


def test_doubts_do_not_add_up_without_end(memory: Memory) -> None:
    for number in range(10):
        memory.admitted(SESSION, f"p{number}")
        memory.doubted(SESSION, f"p{number}")

    assert profiles(memory) == ("p7", "p8", "p9")


def test_for_a_minute_naming_the_only_known_profile_again_says_nothing(memory: Memory, time: Time) -> None:
    know(memory, "s", "jane")
    time.pass_by(FRESH)
    told = [knows(memory, time, "jane")]
    time.pass_by(1.0)
    told.append(knows(memory, time, "jane"))

    assert told == [True, False]


def test_naming_a_profile_says_something_while_it_is_not_the_only_known_one(memory: Memory, time: Time) -> None:
    told = [knows(memory, time, "jane")]
    memory.admitted(SESSION, "jane")
    told.append(knows(memory, time, "jane"))
    memory.confirmed(SESSION, "jane")
    told += [knows(memory, time, "jane"), knows(memory, time, "guest")]
    memory.admitted(SESSION, "guest")
    told.append(knows(memory, time, "jane"))
    memory.doubted(SESSION, "guest")
    told.append(knows(memory, time, "jane"))

    assert told == [False, False, True, False, False, False]


@pytest.mark.parametrize("end", ["refused", "doubted", "confirmed"])
def test_a_profile_that_two_calls_name_is_pending_until_both_have_ended(memory: Memory, end: str) -> None:
    know(memory, "s", "guest")
    memory.admitted(SESSION, "jane")
    memory.admitted(SESSION, "jane")
    memory.refused(SESSION, "jane")
    told = [profiles(memory)]
    getattr(memory, end)(SESSION, "jane")
    told.append(profiles(memory))

    assert told == [
        ("guest", "jane"),
        {"refused": ("guest",), "doubted": ("guest", "jane"), "confirmed": ("jane",)}[end],
    ]


def test_calls_that_name_different_profiles_end_each_for_itself(memory: Memory) -> None:
    for profile in "abc":
        memory.admitted(SESSION, profile)
    told = [profiles(memory)]
    for end, profile in ((memory.confirmed, "a"), (memory.refused, "b"), (memory.confirmed, "c")):
        end(SESSION, profile)
        told.append(profiles(memory))

    assert told == [("a", "b", "c"), ("a", "b", "c"), ("a", "c"), ("c",)]


def test_the_same_session_id_of_two_applications_are_two_sessions(memory: Memory) -> None:
    """B16."""
    know(memory, "s", "p")

    assert profiles(memory, ("other", "s")) == ()


# --- bounds ---


def test_the_session_that_was_used_least_recently_is_forgotten(memory: Memory) -> None:
    for session in "abc":
        know(memory, session, "p")
    assert profiles(memory, ("default", "a")) == ("p",)
    know(memory, "d", "p")

    assert len(memory) == 3
    assert [profiles(memory, ("default", session)) for session in "abcd"] == [("p",), (), ("p",), ("p",)]


@pytest.mark.parametrize("end", ["confirmed", "refused", "doubted"])
def test_the_end_of_a_call_whose_session_was_forgotten_is_no_error(memory: Memory, end: str) -> None:
    memory.admitted(SESSION, "p")
    for session in "abc":
        know(memory, session, "p")
    getattr(memory, end)(SESSION, "p")

    assert profiles(memory) == ()
    assert len(memory) == 3


@pytest.mark.parametrize(("seconds", "kept"), [(IDLE, True), (IDLE + 1, False)])
def test_a_session_that_nobody_names_for_an_hour_is_forgotten(
    memory: Memory, time: Time, seconds: float, kept: bool
) -> None:
    know(memory, "s", "p")
    time.now += seconds

    assert profiles(memory) == (("p",) if kept else ())
    assert len(memory) == kept


def test_being_asked_for_keeps_a_session(memory: Memory, time: Time) -> None:
    know(memory, "s", "p")
    for _ in range(3):
        time.now += IDLE - 1
        assert profiles(memory) == ("p",)


def test_a_call_under_way_keeps_its_session_however_long_it_takes(memory: Memory, time: Time) -> None:
    memory.admitted(SESSION, "p")
    time.now += IDLE + 1

    assert profiles(memory) == ("p",)


def test_sessions_that_are_not_asked_for_go_too_two_with_each_new_one(time: Time) -> None:
    """There is no sweep, and so nothing that blocks."""
    memory = Memory(100, time)
    for number in range(10):
        know(memory, f"old{number}", "p")
    time.now += IDLE + 1
    told = []
    for number in range(5):
        know(memory, f"new{number}", "p")
        told.append(len(memory))

    assert told == [9, 8, 7, 6, 5]


def test_no_repr_tells_an_id(memory: Memory) -> None:
    know(memory, "s", "jane")

    assert repr(memory) == "<Memory sessions=1>"
