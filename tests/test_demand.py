"""Demand: what was needed is expected again, less and less."""

from proxy.wire.demand import Demand


def test_what_was_needed_is_expected() -> None:
    demand = Demand()

    for needed in (3, 64, 10):
        demand.rise(needed)

    assert repr(demand) == "<Demand expected=64 peak=64>"


def test_a_burst_is_expected_for_a_minute_more_and_then_by_halves_less() -> None:
    demand = Demand()
    demand.rise(64)

    seen = []
    for _ in range(9):
        demand.ebb(0)
        seen.append(demand.expected)

    assert seen == [64, 32, 16, 8, 4, 2, 1, 0, 0]


def test_what_is_needed_all_the_time_is_never_forgotten() -> None:
    demand = Demand()
    demand.rise(40)

    for _ in range(20):
        demand.ebb(10)
        demand.rise(12)

    assert demand.expected == 12
