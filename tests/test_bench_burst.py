"""Bursts of the benchmark: what their figures are made of."""

import pytest

from tests.bench.burst import BurstRow, Turn, burst_table, percentile, summarise_bursts

FAST = [0.001] * 63


def turn(contender: str, number: int, slowest: float, *, opened: int = 0, problem: str = "") -> Turn:
    return Turn(contender, number, [*FAST, 2 * slowest], [*FAST, slowest], opened, problem)


def test_the_99th_percentile_of_a_burst_is_its_slowest_call_and_the_median_is_not() -> None:
    burst = [*FAST, 0.5]

    assert percentile(burst, 0.99) == 0.5
    assert percentile(burst, 0.5) == 0.001
    assert percentile([0.2], 0.99) == 0.2


def test_the_ratio_is_taken_round_by_round() -> None:
    turns = [
        turn("nginx", 1, 0.010),
        turn("proxy", 1, 0.020),
        turn("nginx", 2, 0.100),
        turn("proxy", 2, 0.300, opened=4),
    ]

    nginx, ours = summarise_bursts(turns)

    assert isinstance(nginx, BurstRow)
    assert isinstance(ours, BurstRow)
    assert nginx.ratio is not None
    assert ours.ratio is not None
    assert (nginx.ratio.median, ours.ratio.low, ours.ratio.high) == pytest.approx((1.0, 2.0, 3.0))
    assert (ours.later.median, ours.first.median) == pytest.approx((160.0, 320.0))
    assert ours.opened == 2


def test_a_burst_that_was_not_answered_makes_its_row_invalid() -> None:
    turns = [turn("nginx", 1, 0.010), Turn("proxy", 1, (), (), 0, problem="it took too long")]

    table = burst_table(summarise_bursts(turns), idle=8.0)

    assert table.splitlines()[-1] == "proxy: INVALID, round 1: it took too long"
    assert "after 8 s idle, p99 ms" in table


def test_without_the_reference_there_is_no_ratio() -> None:
    (row,) = summarise_bursts([turn("proxy", 1, 0.010)])

    assert isinstance(row, BurstRow)
    assert row.ratio is None
    assert burst_table([row], idle=8.0).splitlines()[1].split() == [
        "proxy",
        "20.0",
        "(20.0–20.0)",
        "10.0",
        "(10.0–10.0)",
        "-",
        "0",
    ]
