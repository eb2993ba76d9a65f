"""Gates: so many at a time and no more, first come first served, all of a flight's gates in one step or none."""

from collections.abc import Callable, Iterator, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.errors import ConnectionLost
from proxy.messages import Sent
from proxy.traffic.gates import PROFILE_WIDTH, Gate, Gates, Key
from proxy.traffic.lanes import GATED_PER_DEPTH
from proxy.traffic.lanes import Rules as LaneRules
from tests.traffic_rig import Shop, dry_calls, ended, in_turn, open_shop, went

GUEST: Key = ("profile", "default", "guest")
OTHER: Key = ("profile", "default", "other")


class Passenger:
    """Somebody before gates, who does what the test says once inside."""

    def __init__(self, gates: Sequence[Gate], name: str = "", told: list[str] | None = None) -> None:
        self.gates = gates
        self.inside = False
        self.name = name
        self.told = [] if told is None else told
        self.then: Callable[[], object] = lambda: None

    def passed(self) -> None:
        assert not self.inside
        self.inside = True
        self.told.append(self.name)
        self.then()


class Hall:
    """Gates, and passengers who come one after the other."""

    def __init__(self) -> None:
        self.gates = Gates()
        self.told: list[str] = []  # names of those who passed later, in their order

    def come(self, *keys: Key, width: int = 1, name: str = "") -> Passenger:
        """Bring one more, who enters or waits."""
        passenger = Passenger([self.gates.at(key, width) for key in keys or (GUEST,)], name, self.told)
        passenger.inside = self.gates.enter(passenger)
        return passenger

    def leave(self, passenger: Passenger) -> None:
        assert passenger.inside
        passenger.inside = False
        self.gates.leave(passenger.gates)

    def finish(self, *passengers: Passenger) -> None:
        for passenger in passengers:
            if passenger.inside:
                self.leave(passenger)
            self.gates.finished(passenger.gates)


@pytest.fixture
def hall() -> Hall:
    return Hall()


def test_a_profile_takes_one_that_runs_and_two_that_wait() -> None:
    """Talon.One's own limit (talon-one-facts.md §2)."""
    assert PROFILE_WIDTH == 3


@pytest.mark.parametrize("width", [1, 2, 3])
def test_so_many_pass_at_once_and_no_more(hall: Hall, width: int) -> None:
    passengers = [hall.come(width=width) for _ in range(5)]

    assert [passenger.inside for passenger in passengers] == [True] * width + [False] * (5 - width)


def test_who_waits_is_let_in_in_the_order_of_coming(hall: Hall) -> None:
    """B2."""
    first = hall.come(name="a")
    waiting = [hall.come(name=name) for name in "bcd"]
    for passenger in (first, *waiting):
        hall.leave(passenger)

    assert hall.told == ["b", "c", "d"]


def test_a_newcomer_does_not_slip_in_before_those_who_wait(hall: Hall) -> None:
    """B2: not even in the step in which there is room."""
    first = hall.come(name="a")
    second = hall.come(name="b")
    newcomers: list[Passenger] = []
    second.then = lambda: newcomers.append(hall.come(name="c"))

    hall.leave(first)

    assert second.inside
    assert not newcomers[0].inside


def test_who_waits_at_two_gates_passes_both_in_one_step_or_none(hall: Hall) -> None:
    guest, other = hall.come(GUEST), hall.come(OTHER)
    both = hall.come(GUEST, OTHER)
    told = [both.inside]
    hall.leave(guest)
    told.append(both.inside)
    assert [gate.inside for gate in both.gates] == [0, 1]
    hall.leave(other)
    told.append(both.inside)

    assert told == [False, False, True]
    assert [gate.inside for gate in both.gates] == [1, 1]


def test_two_who_need_the_same_gates_the_other_way_round_do_not_wait_for_each_other(hall: Hall) -> None:
    first = hall.come(GUEST, OTHER, name="a")
    hall.come(OTHER, GUEST, name="b")
    last = hall.come(GUEST, name="c")
    hall.leave(first)

    assert hall.told == ["b"]
    assert not last.inside


def test_one_who_passes_makes_way_for_those_behind_at_other_gates(hall: Hall) -> None:
    guest = hall.come(GUEST)
    both = hall.come(GUEST, OTHER, width=2)
    behind = hall.come(OTHER, width=2)
    assert not behind.inside  # first come, first served
    hall.leave(guest)

    assert both.inside
    assert behind.inside


def test_who_waits_no_more_is_passed_over(hall: Hall) -> None:
    """B4."""
    first = hall.come(name="a")
    second, _ = hall.come(name="b"), hall.come(name="c")
    hall.gates.withdraw(second)
    hall.leave(first)

    assert hall.told == ["c"]


def test_who_waits_no_more_makes_way_at_the_gates_that_were_open(hall: Hall) -> None:
    hall.come(GUEST)
    both = hall.come(GUEST, OTHER)
    behind = hall.come(OTHER)
    assert not behind.inside
    hall.gates.withdraw(both)

    assert behind.inside


def test_one_who_leaves_at_once_lets_the_next_in(hall: Hall) -> None:
    """A thousand of them: no step within a step within a step."""
    first = hall.come(name="first")
    for number in range(1000):
        passenger = hall.come(name=str(number))
        passenger.then = lambda passenger=passenger: hall.leave(passenger)  # type: ignore[misc]
    last = hall.come(name="last")

    hall.leave(first)

    assert hall.told == [*map(str, range(1000)), "last"]
    assert last.inside


def test_one_who_is_let_in_may_end_the_waiting_of_the_next(hall: Hall) -> None:
    """B5: there is no moment in which somebody has passed and does not know it."""
    first, also = hall.come(width=2), hall.come(width=2)
    second, third, fourth = (hall.come(width=2, name=name) for name in "bcd")
    second.then = lambda: hall.gates.withdraw(third)
    also.inside = False
    gate = first.gates[0]
    gate.inside -= 1  # two places become free in one step
    hall.leave(first)

    assert hall.told == ["b", "d"]
    assert not third.inside
    assert fourth.inside
    assert gate.inside == 2


def test_a_crash_of_one_does_not_shut_the_gates_for_ever(hall: Hall) -> None:
    def crash() -> None:
        raise RuntimeError

    first, second = hall.come(name="a"), hall.come(name="b")
    third = hall.come(name="c")
    second.then = crash
    with pytest.raises(RuntimeError):
        hall.leave(first)
    hall.leave(second)

    assert third.inside


def test_a_gate_vanishes_with_the_last_who_has_business_there(hall: Hall) -> None:
    """B4: those count who are not there yet, too."""
    first, second = hall.come(), hall.come()
    early = hall.gates.at(GUEST, 1)
    assert hall.gates.unfinished(GUEST) == 3
    told = []
    ends: list[Callable[[], None]] = [
        lambda: hall.finish(first),
        lambda: hall.finish(second),
        lambda: hall.gates.finished([early]),
    ]
    for end in ends:
        end()
        told.append((len(hall.gates), hall.gates.unfinished(GUEST)))

    assert told == [(1, 2), (1, 1), (0, 0)]


def test_no_repr_tells_an_id(hall: Hall) -> None:
    passenger = hall.come()

    assert repr(hall.gates) == "<Gates 1>"
    assert repr(passenger.gates[0]) == "<Gate inside=1 waiting=0 unfinished=1>"


KEYS = [GUEST, OTHER, ("profile", "default", "third")]


@settings(deadline=None, max_examples=100)
@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("come"), st.sets(st.sampled_from(KEYS), min_size=1)),
            st.tuples(st.sampled_from(["leave", "withdraw"]), st.integers(0, 20)),
        ),
        max_size=60,
    )
)
def test_whatever_happens_no_gate_is_too_full_nobody_waits_in_vain_and_nothing_is_left(
    steps: list[tuple[str, object]],
) -> None:
    hall = Hall()
    there: list[Passenger] = []
    for what, which in steps:
        if what == "come":
            assert isinstance(which, set)
            there.append(hall.come(*sorted(which), width=2))
            continue
        able = [passenger for passenger in there if passenger.inside is (what == "leave")]
        if able:
            assert isinstance(which, int)
            passenger = able[which % len(able)]
            if what == "withdraw":
                hall.gates.withdraw(passenger)
            hall.finish(passenger)
            there.remove(passenger)
        for key in KEYS:
            inside = [passenger for passenger in there if passenger.inside and _has(passenger, key)]
            waiting = [passenger for passenger in there if not passenger.inside and _has(passenger, key)]
            assert len(inside) <= 2
            # Who is first in all its queues waits because a gate is full, and for no other reason.
            if waiting and all(gate.queue[0] is waiting[0] for gate in waiting[0].gates):
                assert any(not gate.open for gate in waiting[0].gates)
    while there:
        passenger = next(passenger for passenger in there if passenger.inside)
        hall.finish(passenger)
        there.remove(passenger)
    assert not len(hall.gates)


def _has(passenger: Passenger, key: Key) -> bool:
    return any(gate.key == key for gate in passenger.gates)


# --- as a shop sees it: dry calls, and profiles that the whole shop uses ---


DRY = b"/v2/customer_sessions/s?dry=true"


def test_dry_calls_go_two_at_a_time(shop: Shop) -> None:
    """B20: they may count towards Talon.One's limit."""
    write = shop.session("s", "p")
    calls = dry_calls(shop, *[("s", "p")] * 5)
    told = [went(shop, *calls)]
    shop.clock.advance(0.5)
    for shopper in (calls[1], calls[0]):
        shop.reply_to(shopper)
        told.append(went(shop, *calls))

    assert told == [[True, True, False, False, False], [True, True, True, False, False], [True] * 4 + [False]]
    assert calls[2].call.timeline.gate == pytest.approx(0.5)
    assert went(shop, write) == [True]


def test_dry_calls_count_for_their_session_and_for_their_profile(shop: Shop) -> None:
    calls = dry_calls(shop, ("a", "p"), ("b", "p"), ("c", "p"), ("c", "q"), ("a", None))

    assert went(shop, *calls) == [True, True, False, False, True]
    shop.reply_to(calls[0])
    assert went(shop, *calls) == [True] * 5


@pytest.mark.parametrize("width", [1, 3])
def test_how_many_dry_calls_go_at_a_time_is_a_setting(width: int) -> None:
    with ended(open_shop(lanes=LaneRules(dry_width=width))) as shop:
        assert went(shop, *dry_calls(shop, *[("s", "p")] * 4)) == [True] * width + [False] * (4 - width)


def test_identical_dry_calls_are_one(shop: Shop) -> None:
    calls = [shop.submit(b"PUT", DRY, b"{}") for _ in range(10)]

    assert went(shop, *calls) == [True] + [False] * 9
    assert all(shopper.joined for shopper in calls[1:])


def test_a_dry_call_that_asks_for_no_order_waits_for_nobody(shop: Shop) -> None:
    fields = (b"Talon-Proxy-Order", b"no")
    calls = [shop.submit(b"PUT", DRY, b"%d" % number, fields) for number in range(4)]

    assert went(shop, *calls) == [True] * 4


@pytest.fixture
def guests() -> Iterator[Shop]:
    with ended(open_shop(shared=("guest", "visitor"))) as shop:
        yield shop


def test_a_shared_profile_takes_three_at_a_time(guests: Shop) -> None:
    """B15."""
    shoppers = [guests.session(f"s{number}", "guest") for number in range(6)]
    told = [went(guests, *shoppers)]
    for shopper in (shoppers[1], shoppers[0]):
        guests.reply_to(shopper)
        told.append(went(guests, *shoppers))

    assert told == [[True] * 3 + [False] * 3, [True] * 4 + [False] * 2, [True] * 5 + [False]]


def test_the_sessions_of_a_shared_profile_are_in_order_all_the_same(guests: Shop) -> None:
    first, second = guests.session("s", "guest"), guests.session("s", "guest", number=2)
    other = guests.session("t", "guest")

    assert went(guests, first, second, other) == [True, False, True]


def test_its_gate_is_entered_when_the_lanes_are_passed(guests: Shop) -> None:
    """FIFO among those who are ready: one that waits for its session keeps nobody out."""
    first = guests.session("s", "guest")
    waiting = guests.session("s", "guest", number=2)
    others = [guests.session(f"t{number}", "guest") for number in range(3)]
    assert went(guests, waiting, *others) == [False, True, True, False]
    guests.reply_to(first)
    assert went(guests, waiting, *others) == [False, True, True, True]
    guests.reply_to(others[0])

    assert went(guests, waiting) == [True]


def test_two_shared_profiles_are_two_gates_passed_in_one_step(guests: Shop) -> None:
    body = {"advocateProfileIntegrationId": "guest", "friendProfileIntegrationId": "visitor"}
    guest, visitor = [[guests.session(f"{name}{n}", name) for n in range(3)] for name in ("guest", "visitor")]
    both = guests.submit(b"POST", b"/v1/referrals", body)
    told = []
    for shopper in (guest[0], visitor[0]):
        guests.reply_to(shopper)
        told.append(went(guests, both))

    assert told == [[False], [True]]


def test_a_gate_is_ignored_for_joins(guests: Shop) -> None:
    first = guests.session("s", "guest")
    guests.session("t", "guest")
    again = guests.session("s", "guest")

    assert again.joined
    assert again.flight is first.flight


def test_a_write_of_nothing_but_a_shared_profile_is_not_joined(guests: Shop) -> None:
    """It stands in no lane: nothing says that no other update came in between."""
    shoppers = [guests.profile("guest") for _ in range(2)]

    assert went(guests, *shoppers) == [True, True]


def test_no_quarantine_holds_a_gate(guests: Shop) -> None:
    shoppers = [guests.profile("guest", number=number) for number in range(4)]
    guests.lose(shoppers[0], ConnectionLost("x", sent=Sent.MAYBE))

    assert went(guests, shoppers[3]) == [True]


def test_a_session_in_quarantine_has_left_the_gate(guests: Shop) -> None:
    shoppers = [guests.session(f"s{number}", "guest", state="closed") for number in range(4)]
    behind = guests.session("s0", "guest", number=2)
    guests.lose(shoppers[0], ConnectionLost("x", sent=Sent.MAYBE))

    assert went(guests, shoppers[3], behind) == [True, False]


def test_one_who_leaves_while_it_stands_at_a_gate_is_passed_over(guests: Shop) -> None:
    shoppers = [guests.session(f"s{number}", "guest") for number in range(5)]
    shoppers[3].waiter.leave()
    guests.reply_to(shoppers[0])

    assert went(guests, *shoppers) == [True, True, True, False, True]


def test_a_gate_takes_many_and_not_endlessly_many() -> None:
    with ended(open_shop(lanes=LaneRules(depth=1), shared=("guest",))) as shop:
        shoppers = [shop.session(f"s{number}", "guest") for number in range(GATED_PER_DEPTH + 1)]

        assert [shopper.waiter is None for shopper in shoppers] == [False] * GATED_PER_DEPTH + [True]
        assert shoppers[-1].failure == (503, b"http_request_denied", b"not-sent")


def test_writes_that_talon_one_would_have_refused_at_a_gate_are_counted(guests: Shop) -> None:
    for number in range(5):
        guests.session(f"s{number}", "guest")

    assert guests.lanes.conflicts_avoided == 2


def test_a_profile_that_many_sessions_name_turns_out_to_be_shared() -> None:
    """B15: until ten minutes without that."""
    with ended(open_shop(shared_after=2)) as shop:
        for number in range(2):
            in_turn(shop, shop.session(f"s{number}", "guest"))
        apart = [shop.session("s0", "guest"), shop.session("s1", "guest")]
        assert went(shop, *apart) == [True, False]
        in_turn(shop)
        assert shop.newly_shared == []

        shoppers = [shop.session(f"s{number}", "guest") for number in range(2, 6)]
        assert shop.newly_shared == [("default", "guest")]
        assert went(shop, *shoppers) == [True, True, True, False]
        in_turn(shop)

        shop.clock.advance(601)
        later = [shop.session("s0", "guest"), shop.session("s1", "guest")]
        assert went(shop, *later) == [True, False]


def test_what_stood_in_the_lane_when_the_profile_turned_out_to_be_shared_keeps_its_place() -> None:
    with ended(open_shop(shared_after=2)) as shop:
        first, second = shop.session("a", "guest"), shop.session("b", "guest")
        third = shop.session("c", "guest")
        assert went(shop, first, second, third) == [True, False, True]
        shop.reply_to(first)

        assert went(shop, second) == [True]


def test_a_session_of_its_own_profile_is_never_shared(shop: Shop) -> None:
    for number in range(30):
        in_turn(shop, shop.session("s", "p", number=number))

    assert shop.newly_shared == []
