"""Gates: so many at a time and no more, first come first served, all of a flight's gates in one step or none."""

from collections.abc import Callable, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.traffic.gates import PROFILE_WIDTH, Gate, Gates, Key

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
    for end in (
        lambda: hall.finish(first),
        lambda: hall.finish(second),
        lambda: hall.gates.finished([early]),
    ):
        end()
        told.append((len(hall.gates), hall.gates.unfinished(GUEST)))

    assert told == [(1, 2), (1, 1), (0, 0)]


def test_no_repr_tells_an_id(hall: Hall) -> None:
    passenger = hall.come()

    assert repr(hall.gates) == "<Gates 1>"
    assert repr(passenger.gates[0]) == "<Gate inside=1 waiting=0 unfinished=1>"


KEYS = [GUEST, OTHER, ("profile", "default", "third")]


@settings(deadline=None, max_examples=200)
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
