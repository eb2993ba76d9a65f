"""The short form of `make soak`, and what it would find."""

from collections import Counter
from dataclasses import replace

import pytest

from tests.endurance import LOST, STRAY, Endured, Sight, endure, lag, mixed, own_errors


async def test_some_seconds_of_mixed_calls_lose_nothing_and_leave_nothing_behind() -> None:
    found = await endure(5.0, warm_up=1.0, rate=100.0, settle=1.0)

    assert found.calls + found.unmade == 500
    assert found.failures == Counter()
    assert found.own == 0
    assert found.lost == []
    assert found.quiet_after.tasks - found.quiet_before.tasks <= STRAY
    assert found.quiet_after.others - found.quiet_before.others <= STRAY
    assert len(found.sights) > 3


def test_calls_are_of_every_kind_and_some_are_the_same() -> None:
    calls = [mixed(number) for number in range(200)]

    assert {request.split(b" ", 1)[0] for request in calls} == {b"PUT", b"GET", b"POST"}
    assert sum(b"dry=true" in request for request in calls) == 40
    reads = [request for request in calls if request.startswith(b"GET")]
    assert len(reads) == 2 * len(set(reads))


GOOD = Endured(
    calls=10_000,
    seconds=3600.0,
    rate=100.0,
    failures=Counter(),
    quiet_before=Sight(0.0, 60 << 20, 100, 4),
    quiet_after=Sight(3600.0, 62 << 20, 103, 5),
    sights=[Sight(10.0 * number, (62 << 20) + number * 1000, 110, 4) for number in range(360)],
    unmade=0,
    opened=25,
    renewed=20,
    own=0,
    lag=0.005,
    lost=[],
)
STEEP = [Sight(10.0 * number, (62 << 20) + number * 4000, 110, 4) for number in range(360)]
GROWN = [Sight(10.0 * number, 1_000_000 + number * 1000, 110, 4) for number in range(360)]


@pytest.mark.parametrize(
    ("found", "wrong"),
    [
        (GOOD, None),
        (replace(GOOD, failures=Counter({"502": 1})), "calls that failed: {'502': 1}"),
        (replace(GOOD, sights=STEEP), "memory grows by 1.4 MiB an hour"),
        (replace(GOOD, sights=STEEP, seconds=600.0), None),
        (replace(GOOD, sights=GROWN, seconds=600.0), "memory grew by 31.8%"),
        (replace(GOOD, quiet_after=Sight(0.0, 0, 106, 4)), "descriptors 100 ⇒ 106"),
        (replace(GOOD, quiet_after=Sight(0.0, 0, 100, 10)), "tasks 4 ⇒ 10"),
        (replace(GOOD, opened=31), "reuse 99.890%"),
        (replace(GOOD, renewed=40), None),
        (replace(GOOD, own=2), "answers of the proxy's own: 2"),
        (replace(GOOD, lag=0.025), "the loop was late by 25 ms"),
        (replace(GOOD, lost=["Task was destroyed"]), "in the log: ['Task was destroyed']"),
    ],
)
def test_what_must_not_be_is_found(found: Endured, wrong: str | None) -> None:
    assert list(found.wrong()) == ([] if wrong is None else [wrong])


def test_what_the_last_quarter_added_is_told_apart_from_the_slope() -> None:
    steady = [Sight(float(number), 1000 + min(number, 60) * 10, 0, 0) for number in range(100)]
    found = replace(GOOD, sights=steady)

    assert found.latest == 0
    assert found.slope > 0


METRICS = """
talon_proxy_requests_total{operation="o",status="200",source="upstream",application="default"} 90.0
talon_proxy_requests_total{operation="o",status="502",source="upstream",application="default"} 7.0
talon_proxy_requests_total{operation="o",status="503",source="proxy",application="default"} 2.0
talon_proxy_requests_total{operation="o",status="404",source="proxy",application=""} 5.0
talon_proxy_event_loop_lag_seconds_bucket{le="0.005"} 97.0
talon_proxy_event_loop_lag_seconds_bucket{le="0.01"} 99.0
talon_proxy_event_loop_lag_seconds_bucket{le="+Inf"} 100.0
"""


def test_metrics_are_read() -> None:
    assert own_errors(METRICS) == 2
    assert lag(METRICS) == 0.01
    assert lag(METRICS, 0.95) == 0.005
    assert lag(METRICS, 1.0) == float("inf")


@pytest.mark.parametrize(
    "line",
    [
        "Task exception was never retrieved",
        "Task was destroyed but it is pending!",
        "Unclosed client session",
        "ResourceWarning: unclosed <socket",
        "coroutine 'x' was never awaited",
        "Traceback (most recent call last):",
    ],
)
def test_lines_that_tell_of_a_loss_are_known(line: str) -> None:
    assert LOST.search(line)
