"""What an operator reads first. Each test changes one thing of a proxy that is well."""

import copy
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import pytest

from proxy.observe.summary import span, summary

NOW = datetime(2026, 11, 26, 12, tzinfo=UTC)
WELL: Mapping[str, Any] = {
    "stage": "serving",
    "uptime_seconds": 7_260.0,
    "reload": {"successful": True},
    "upstream": {
        "url": "https://shop.europe-west1.talon.one",
        "name": {"host": "shop.europe-west1.talon.one", "failing": False},
        "connections": {"active": 1, "idle": 2},
    },
    "downstream": {"listen": ["127.0.0.1:7410", "unix:/run/p.sock"], "in_flight": 1},
    "calls": {"answered": 12_000},
    "last_minute": {
        "seconds": 60.0,
        "answered": 630,
        "by_proxy": 2,
        "failed": 0,
        "unknown": 0,
        "coalesced": 100,
        "exchanges": 500,
        "upstream_seconds": 12.5,
        "overhead_seconds": 0.18,
        "lane_seconds": 1.2,
        "pool_seconds": 0.06,
        "conflicts_returned": 0,
        "unauthorised": 0,
        "slowest_seconds": 0.05,
    },
    "traffic": {
        "circuit": {"state": "closed", "since_seconds": 7_200.0, "last_error": None},
        "conflicts_avoided": 1_204,
        "conflicts": {"resolved": {"session": 3}, "returned": {}},
    },
    "keys": {"eu": "…9999", "us": "…1111"},
    "expiries": {"eu": "2027-03-31T00:00:00+00:00", "us": "2027-06-30T00:00:00+00:00"},
}


def told(**changes: Any) -> Mapping[str, Any]:
    """Sum up a proxy that is well but for these: `section__key=value`, or `section=value`."""
    status = copy.deepcopy(dict(WELL))
    for name, value in changes.items():
        *path, last = name.split("__")
        section = status
        for step in path:
            section = section[step]
        section[last] = value
    return summary(status, NOW)


def test_a_proxy_that_is_well() -> None:
    assert told() == {
        "level": "ok",
        "headline": "All is well",
        "reasons": ["In the last minute 10.5 calls a second were answered, none of them with a 5xx."],
        "time": {
            "short": "Talon.One takes 25.0 ms, we add 0.20 ms",
            "more": "In the last minute a call took 27.3 ms on average: Talon.One 25.0 ms, waiting in line 2.00 ms,"
            " waiting for a connection 0.10 ms, the proxy itself 0.20 ms. 99 of 100 calls took Talon.One at most 50.0"
            " ms.",
        },
        "keys": {
            "short": "No",
            "more": "The key of eu expires on 31 March 2027, in 124 days. The key of us expires on 30 June 2027, in 215"
            " days.",
        },
        "conflicts": {
            "short": "At most 1,204, since the start 2 h 1 min ago",
            "more": "So many writes came while three or more of the same session or profile were unfinished. 3"
            " conflicts came all the same, and went away when the call was tried again. No 409 reached the shop.",
        },
    }


@pytest.mark.parametrize(
    ("changes", "level", "headline", "reason"),
    [
        ({"stage": "draining"}, "attention", "This proxy is shutting down", "1 call under way"),
        (
            {"calls__answered": 0, "downstream__in_flight": 0, "last_minute__answered": 0},
            "idle",
            "No call has come yet",
            "at http://127.0.0.1:7410 or unix:/run/p.sock.",
        ),
        (
            {"traffic__circuit": {"state": "open", "since_seconds": 65.0, "last_error": "timeout"}},
            "broken",
            "Talon.One cannot be reached",
            "For 1 min 5 s calls have been refused",
        ),
        (
            {"traffic__circuit": {"state": "trial", "since_seconds": 5.0, "last_error": "timeout"}},
            "broken",
            "Talon.One cannot be reached",
            "Last error: timeout",
        ),
        (
            {
                "upstream__unreachable": "No way: the name has no address",
                "upstream__connections": {"active": 0, "idle": 0},
            },
            "broken",
            "Talon.One cannot be reached",
            "No way: the name has no address.",
        ),
        ({"upstream__unreachable": "Why"}, "attention", "Connections to Talon.One cannot be opened", "Why."),
        (
            {"upstream__name__failing": True},
            "attention",
            "The name of Talon.One's host is not found now",
            "shop.europe",
        ),
        ({"upstream__moved": {"advice": "Switch"}}, "attention", "Talon.One may have moved", "Switch."),
        ({"upstream__override": "set at run time"}, "attention", "The URL of Talon.One was set by hand", "at run time"),
        ({"last_minute__failed": 32}, "attention", "Some calls fail", "32 of 630 calls"),
        ({"last_minute__failed": 400}, "broken", "Most calls fail", "400 of 630 calls"),
        ({"last_minute__failed": 1, "last_minute__answered": 1}, "broken", "Most calls fail", "1 of 1 call ended"),
        ({"last_minute__unknown": 1}, "attention", "Of some calls nobody knows whether they were executed", "1 call"),
        ({"last_minute__conflicts_returned": 2}, "attention", "Conflicts reach the shop", "2 409s"),
        ({"last_minute__upstream_seconds": 300.0}, "attention", "Talon.One is slow", "600 ms"),
        ({"last_minute__overhead_seconds": 12.06}, "attention", "This proxy is slow", "20.0 ms"),
        ({"expiries__eu": "2026-12-01T00:00:00+00:00"}, "attention", "A key expires soon", "of eu expires in 4 days"),
        (
            {"expiries__eu": "2026-11-27T00:00:00+00:00"},
            "attention",
            "A key expires soon",
            "of eu expires within a day",
        ),
        (
            {"expiries__eu": "2026-11-25T00:00:00+00:00"},
            "broken",
            "A key has expired",
            "of eu expired 25 November 2026",
        ),
        ({"last_minute__unauthorised": 3}, "attention", "Talon.One refuses a key", "3 calls of 630 got its 401"),
        ({"last_minute__unauthorised": 600}, "broken", "Talon.One refuses a key", "600 calls of 630"),
        (
            {"reload": {"successful": False, "reason": "lanes.depth: too small"}},
            "attention",
            "New settings could not be taken over",
            "lanes.depth: too small",
        ),
    ],
)
def test_what_stands_out_is_the_headline(changes: Mapping[str, Any], level: str, headline: str, reason: str) -> None:
    found = told(**changes)

    assert (found["level"], found["headline"]) == (level, headline)
    assert reason in found["reasons"][0]


def test_the_worst_comes_first_and_nothing_is_left_out() -> None:
    found = told(
        stage="draining",
        traffic__circuit={"state": "open", "since_seconds": 5.0, "last_error": "dns"},
        expiries__us="2026-11-30T00:00:00+00:00",
    )

    assert (found["level"], found["headline"]) == ("broken", "Talon.One cannot be reached")
    assert len(found["reasons"]) == 4


@pytest.mark.parametrize("failed", [1, 4, 31])
def test_a_few_failures_among_many_calls_are_told_and_alarm_nobody(failed: int) -> None:
    found = told(last_minute__failed=failed)

    assert found["level"] == "ok"
    assert found["reasons"] == [f"In the last minute 10.5 calls a second were answered, {failed} of them with a 5xx."]


def test_a_slow_call_or_two_alarm_nobody() -> None:
    found = told(last_minute__exchanges=19, last_minute__upstream_seconds=40.0, last_minute__overhead_seconds=40.0)

    assert found["level"] == "ok"


@pytest.mark.parametrize(
    ("changes", "short"),
    [
        ({"last_minute__exchanges": 0}, "Nobody knows yet"),
        ({"last_minute__lane_seconds": 60.0}, "Neither: writes of the same session or profile wait for each other"),
        (
            {"last_minute__pool_seconds": 60.0, "last_minute__overhead_seconds": 60.1},
            "We are: calls wait for connections",
        ),
        ({"last_minute__overhead_seconds": 60.06}, "We are: the proxy adds 100 ms"),
        # Those who never got a connection waited for one, and added nothing else.
        ({"last_minute__pool_seconds": 0.2}, "Talon.One takes 25.0 ms, we add 0.00 ms"),
    ],
)
def test_who_takes_the_time(changes: Mapping[str, Any], short: str) -> None:
    assert told(**changes)["time"]["short"].startswith(short)


@pytest.mark.parametrize(
    ("changes", "short", "more"),
    [
        ({"expiries": {}}, "Not that we know", "Of eu, us it is not known here"),
        ({"expiries": {"eu": "2026-12-01T00:00:00+00:00"}}, "Yes: that of eu in 4 days", "Of us it is not known here"),
        ({"expiries__us": "2026-11-24T00:00:00+00:00"}, "Yes: that of us is over", "us expired on 24 November 2026"),
        ({"keys": {}, "expiries": {}}, "There is none", "callers bring their own"),
    ],
)
def test_whether_a_key_is_about_to_expire(changes: Mapping[str, Any], short: str, more: str) -> None:
    keys = told(**changes)["keys"]

    assert keys["short"] == short
    assert more in keys["more"]


def test_conflicts_that_reached_the_shop_are_not_hidden() -> None:
    conflicts = told(
        traffic__conflicts={"resolved": {}, "returned": {"profile": 1, "session": 1}}, traffic__conflicts_avoided=0
    )["conflicts"]

    assert conflicts["short"] == "At most 0, since the start 2 h 1 min ago"
    assert conflicts["more"] == (
        "No write came while three or more of the same session or profile were unfinished. 2 409s reached the shop."
    )


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.4, "0 s"),
        (59, "59 s"),
        (60, "1 min 0 s"),
        (3_725, "1 h 2 min"),
        (90_000, "1 d 1 h"),
        (3_600 * 24 * 40, "40 d 0 h"),
    ],
)
def test_spans(seconds: float, words: str) -> None:
    assert span(seconds) == words
