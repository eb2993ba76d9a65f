"""Sharing: a profile that many sessions name within ten minutes has a gate, until ten minutes without that."""

from collections.abc import Iterable

import pytest

from proxy.traffic.sharing import WINDOW, Profile, Sharing
from tests.clock import Time

GUEST: Profile = ("default", "guest")


class Shops:
    """Sharing with two sessions as the most, and what it says."""

    def __init__(self, *, listed: Iterable[str] = (), after: int = 2, size: int = 100) -> None:
        self.time = Time()
        self.began: list[Profile] = []
        self.sharing = Sharing(self.time, listed=listed, after=after, size=size, began=self.began.append)

    def name(self, *sessions: str, profile: Profile = GUEST) -> bool:
        """Have a profile named by these sessions; tells whether it is shared then."""
        for session in sessions:
            self.sharing.named(profile, session)
        return self.sharing.shared(profile)


@pytest.fixture
def shops() -> Shops:
    return Shops()


def test_a_profile_that_nobody_named_is_not_shared(shops: Shops) -> None:
    assert not shops.sharing.shared(GUEST)
    assert shops.sharing.detected() == []


def test_more_sessions_than_so_many_make_a_profile_shared(shops: Shops) -> None:
    """B15."""
    assert [shops.name(session) for session in "abc"] == [False, False, True]
    assert shops.began == [GUEST]
    assert shops.sharing.detected() == [GUEST]


def test_one_more_than_eight_do_by_default() -> None:
    shops = Shops(after=8)

    assert [shops.name(str(session)) for session in range(10)] == [False] * 8 + [True] * 2


def test_one_session_may_name_its_profile_as_often_as_it_likes(shops: Shops) -> None:
    assert not shops.name(*"ababababab")


def test_it_is_told_once(shops: Shops) -> None:
    shops.name(*"abcdefgh")

    assert shops.began == [GUEST]


def test_a_listed_profile_is_shared_in_every_environment_and_nothing_is_told() -> None:
    shops = Shops(listed=["guest"])

    assert shops.sharing.shared(GUEST)
    assert shops.name(*"abcd", profile=("sandbox", "guest"))
    assert not shops.name("a", profile=("default", "Guest"))
    assert shops.began == []
    assert shops.sharing.detected() == []


def test_the_same_profile_id_in_two_environments_are_two(shops: Shops) -> None:
    assert not shops.name(*"ab")
    assert not shops.name(*"cd", profile=("sandbox", "guest"))


# --- time ---


@pytest.mark.parametrize(("seconds", "shared"), [(WINDOW, True), (WINDOW + 1, False)])
def test_sessions_count_that_named_it_within_ten_minutes(shops: Shops, seconds: float, shared: bool) -> None:
    shops.name("a")
    shops.time.now += seconds
    assert shops.name("b", "c") is shared


def test_a_session_counts_by_its_latest_call(shops: Shops) -> None:
    shops.name("a", "b")
    shops.time.now += WINDOW - 1
    shops.name("a")
    shops.time.now += 2

    assert not shops.name("c")  # b was too long ago
    assert shops.name("d")


@pytest.mark.parametrize(("seconds", "shared"), [(WINDOW, True), (WINDOW + 1, False)])
def test_it_stays_shared_until_ten_minutes_without_that(shops: Shops, seconds: float, shared: bool) -> None:
    shops.name(*"abc")
    shops.time.now += seconds

    assert shops.sharing.shared(GUEST) is shared
    assert shops.sharing.detected() == ([GUEST] if shared else [])


def test_each_session_more_makes_it_last(shops: Shops) -> None:
    shops.name(*"abc")
    for session in "defghi":
        shops.time.now += WINDOW / 2
        assert shops.name(session)
    assert shops.began == [GUEST]


def test_few_sessions_do_not_make_it_last(shops: Shops) -> None:
    shops.name(*"abc")
    told = []
    for _ in range(3):
        shops.time.now += WINDOW / 2 + 1
        told.append(shops.name("a"))

    assert told == [True, True, False]


def test_when_it_begins_anew_it_is_told_anew(shops: Shops) -> None:
    shops.name(*"abc")
    shops.time.now += 2 * WINDOW
    told = [shops.name("d"), shops.name("e"), shops.name("f")]

    assert told == [False, False, True]
    assert shops.began == [GUEST, GUEST]


# --- bounds ---


def test_of_each_profile_no_more_sessions_are_kept_than_are_needed(shops: Shops) -> None:
    shops.name(*map(str, range(1000)))

    assert len(shops.sharing._profiles[GUEST].sessions) == 3


@pytest.mark.parametrize("again", [True, False])
def test_the_profile_named_least_recently_is_forgotten(again: bool) -> None:
    shops = Shops(size=2)
    shops.name(*"abc")
    shops.name("a", profile=("default", "x"))
    if again:
        shops.name("a")
    shops.name("a", profile=("default", "y"))

    assert shops.sharing.shared(GUEST) is again
    assert shops.sharing.detected() == ([GUEST] if again else [])
    assert len(shops.sharing._profiles) == 2


def test_profiles_that_nobody_names_any_more_go_two_with_each_new_one(shops: Shops) -> None:
    shops.name(*"abc")
    for number in range(9):
        shops.name("a", profile=("default", str(number)))
    shops.time.now += WINDOW + 1
    told = []
    for number in range(5):
        shops.name("a", profile=("default", f"new{number}"))
        told.append(len(shops.sharing._profiles))

    assert told == [9, 8, 7, 6, 5]
    assert not shops.sharing.shared(GUEST)


def test_no_repr_tells_an_id(shops: Shops) -> None:
    shops.name(*"abc")

    assert repr(shops.sharing) == "<Sharing listed=0 detected=1>"
