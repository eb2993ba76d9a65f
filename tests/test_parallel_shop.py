"""The short form of `python -m tests.conflicts`, and how its figures are reckoned. Counts only, no times."""

from dataclasses import replace
from typing import Any

import pytest

from tests.conflicts.callers import Outcome
from tests.conflicts.figures import Figures, figures, late, misses, percentile, summed, table
from tests.conflicts.hotkey import Turn, costs_too_much
from tests.conflicts.shop import CLICKS, Kind, Request, customers
from tests.conflicts.ways import DIRECT, round_on

# Calls that take long beside the moment in which a step is sent, also where a busy machine stretches that.
LATENCY = "100ms"


async def test_a_shop_behind_one_proxy_meets_no_conflict_and_its_writes_keep_their_order() -> None:
    shoppers = customers(sessions=6, profiles=4)

    found = await round_on("1", shoppers, seconds=0.1, latency=LATENCY)

    assert found.calls == sum(len(step) for customer in shoppers for step in customer.steps)
    assert (found.failed, found.conflicts, found.refused) == (0, 0, 0)
    assert found.late_admitted == 0
    assert (found.clicks, found.clicks_mean) == (1, 1)
    assert found.upstream_calls == found.calls - 6 * (CLICKS - 1)


async def test_the_same_shop_meets_conflicts_directly() -> None:
    found = await round_on(DIRECT, customers(sessions=2, profiles=1), seconds=0.1, latency="20ms")

    assert found.failed == 0
    assert found.conflicts == found.refused > 0
    assert found.upstream_calls == found.calls + found.conflicts


def test_calls_of_a_session_differ_but_for_the_clicks() -> None:
    requests = [request for customer in customers(200, 120) for step in customer.steps for request in step]
    said = [(request.method, request.target, request.body) for request in requests]
    clicks = [request for request in requests if request.kind is Kind.CLICK]

    assert len({request.id for request in requests}) == len(requests)
    assert len(clicks) == 200 * CLICKS
    assert len(set(said)) == len(requests) - 200 * (CLICKS - 1)


def outcome(id_: str, order: int, *, group: str = "", **more: Any) -> Outcome:
    given = {"conflicts": 0, "status": 200, "seconds": 0.1, **more}
    return Outcome(Request(id_, Kind.UPDATE, "PUT", "/", b"", group), order, **given)


def entry(id_: str, start: int | None, outcome: str = "applied", **keys: str) -> dict[str, Any]:
    return {"request_id": id_, "start_order": start, "outcome": outcome, "session": None, "profile": None, **keys}


@pytest.mark.parametrize(
    ("journal", "found"),
    [
        ([entry("a", 1, session="s"), entry("b", 2, session="s"), entry("c", 3, session="s")], 0),
        ([entry("b", 1, session="s"), entry("a", 2, session="s"), entry("c", 3, session="s")], 1),
        ([entry("c", 1, session="s"), entry("a", 2, session="s"), entry("b", 3, session="s")], 2),
        ([entry("b", 1, session="s"), entry("a", 2, session="t"), entry("c", 3, session="s")], 0),
        ([entry("b", 1, session="s", profile="p"), entry("a", 2, session="t", profile="p")], 1),
        ([entry("b", 2, session="s"), entry("a", 1, session="s")], 0),
        ([entry("b", None, "refused", session="s"), entry("a", 1, session="s"), entry("b", 2, session="s")], 0),
        ([entry("b", 1, "dry", session="s"), entry("a", 2, session="s")], 0),
    ],
)
def test_a_write_is_late_if_a_later_one_of_a_key_of_its_was_executed_before(
    journal: list[dict[str, Any]], found: int
) -> None:
    assert late(journal, {"a": 1, "b": 2, "c": 3}) == found


def test_figures_are_joined_by_the_ids_of_calls() -> None:
    outcomes = [
        outcome("a", 1, conflicts=2, seconds=0.3),
        outcome("x", 2, group="g"),
        outcome("y", 3, group="g"),
        outcome("b", 4, status=500),
    ]
    journal = [
        entry("b", 1, "error"),
        entry("a", None, "refused"),
        entry("a", None, "refused"),
        entry("a", 2),
        entry("x", 3),
    ]

    found = figures("directly", outcomes, journal, {})

    assert (found.calls, found.failed, found.conflicts) == (4, 1, 2)
    assert (found.upstream_calls, found.refused, found.clicks) == (5, 2, 1)
    assert (found.p50, found.p99) == (0.1, 0.3)
    assert (found.late, found.late_admitted) == (0, None)


ROW = Figures("through 1 talon-proxy", 100, 0, 0, 0.03, 0.3, 90, 0, 1, 1.0, 3, 0)


def test_rounds_become_one_row() -> None:
    row = summed([ROW, replace(ROW, conflicts=2, p99=0.5, clicks=3), replace(ROW, p99=0.4, late_admitted=4)])

    assert (row.calls, row.conflicts, row.p99, row.clicks, row.late_admitted) == (300, 2, 0.4, 3, 4)
    assert "| 2 | 30 ms | 400 ms | 270 | 0 | 1.0 (3) | 9 (4) |" in table([row])


@pytest.mark.parametrize(
    ("row", "proxies", "wrong"),
    [
        (ROW, 1, []),
        (replace(ROW, failed=1), 1, ["1 calls failed"]),
        (replace(ROW, conflicts=1), 1, ["1 conflicts were returned to callers"]),
        (replace(ROW, conflicts=1), 4, ["1 conflicts were returned to callers"]),
        (replace(ROW, conflicts=1), 8, []),
        (replace(ROW, late_admitted=2), 1, ["2 writes were executed out of order"]),
        (replace(ROW, late_admitted=None), 4, []),
        (replace(ROW, clicks=2), 1, ["2 upstream calls for one group of identical calls"]),
        (replace(ROW, clicks=4), 4, []),
        (replace(ROW, p99=0.6), 1, ["p99 until success is 600 ms, directly 500 ms"]),
        (replace(ROW, p99=0.6), 2, []),
    ],
)
def test_what_is_promised_is_judged(row: Figures, proxies: int, wrong: list[str]) -> None:
    found = misses(row, proxies=proxies, direct=replace(ROW, way="directly", p99=0.5))

    assert found == [f"through 1 talon-proxy: {what}" for what in wrong]


def test_percentiles_are_of_what_happened() -> None:
    assert [percentile([1.0, 2.0, 3.0, 4.0], share) for share in (0, 50, 99)] == [1.0, 3.0, 4.0]


@pytest.mark.parametrize(
    ("without", "with_line", "too_much"),
    [
        ([0.030, 0.031, 0.500], [0.030, 0.032, 0.032], False),
        ([0.030, 0.030, 0.030], [0.032, 0.0319, 0.500], False),  # 2 ms
        ([0.100, 0.100, 0.100], [0.109, 0.109, 0.109], False),  # 10 %
        ([0.030, 0.030, 0.030], [0.034, 0.034, 0.030], True),
    ],
)
def test_what_a_line_costs_others_is_judged_by_medians(
    without: list[float], with_line: list[float], too_much: bool
) -> None:
    turns = [Turn(line, [p99]) for line, found in ((False, without), (True, with_line)) for p99 in found]

    assert costs_too_much(turns) is too_much
