from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest

from proxy.observe.history import EVERY, KEPT, History, Look, quantile
from tests.clock import Time

BOUNDS = (0.01, 0.1, 1.0)


class Proxy:
    """What a history looks at, and its timer, which fires when a test says so."""

    def __init__(self) -> None:
        self.clock = Time()
        self.calls = 0
        self.times = [0, 0, 0, 0]
        self.due: Callable[[], None] | None = None
        self.history = History(self._look, bounds=BOUNDS, clock=self.clock, call_later=self._call_later)

    def _look(self, moment: float) -> Look:
        return Look(moment, {"answered": self.calls}, {"idle": 2}, tuple(self.times))

    def _call_later(self, delay: float, call: Callable[[], None]) -> "Proxy":
        assert delay == EVERY
        self.due = call
        return self

    def cancel(self) -> None:
        self.due = None

    def go_on(self, steps: int, *, calls: int = 0, bucket: int = 0) -> None:
        for _ in range(steps):
            self.calls += calls
            self.times[bucket] += calls
            self.clock.now += EVERY
            assert self.due is not None
            self.due()


@pytest.fixture
def proxy() -> Proxy:
    made = Proxy()
    made.history.start()
    return made


def test_it_tells_totals_of_the_last_quarter_of_an_hour(proxy: Proxy) -> None:
    proxy.go_on(3, calls=10)
    proxy.clock.now += 2.0

    assert proxy.history.columns() == {
        "ago_seconds": [17.0, 12.0, 7.0, 2.0],
        "answered": [0, 10, 20, 30],
        "idle": [2, 2, 2, 2],
    }


def test_it_forgets(proxy: Proxy) -> None:
    proxy.go_on(KEPT + 20, calls=1)

    columns: Mapping[str, Any] = proxy.history.columns()
    assert len(columns["ago_seconds"]) == len(columns["answered"]) == KEPT
    assert columns["answered"][-1] == KEPT + 20


def test_recent_is_a_minute_of_what_was_added(proxy: Proxy) -> None:
    proxy.go_on(20, calls=7)
    proxy.clock.now += 1.0
    proxy.calls += 3

    recent = proxy.history.recent()

    # The youngest look that is a minute old.
    assert (recent["seconds"], recent["answered"]) == (61.0, 12 * 7 + 3)


def test_before_a_minute_is_over_recent_is_since_the_start(proxy: Proxy) -> None:
    proxy.go_on(2, calls=4)

    recent = proxy.history.recent()

    assert (recent["seconds"], recent["answered"]) == (10.0, 8)


def test_before_its_first_look_nothing_was_added() -> None:
    proxy = Proxy()
    proxy.calls = 5

    assert proxy.history.recent() == {"seconds": 0.0, "answered": 0}
    assert proxy.history.columns() == {"ago_seconds": []}


def test_the_slowest_are_those_of_the_last_minute(proxy: Proxy) -> None:
    proxy.go_on(4, calls=50, bucket=2)
    proxy.go_on(13, calls=50, bucket=0)

    assert proxy.history.recent()["slowest_seconds"] == 0.01


def test_stopped_it_looks_no_more(proxy: Proxy) -> None:
    proxy.history.stop()

    assert proxy.due is None


@pytest.mark.parametrize(
    ("counts", "found"),
    [
        ((100, 0, 0, 0), 0.01),
        ((99, 1, 0, 0), 0.01),
        ((98, 2, 0, 0), 0.1),
        ((98, 0, 0, 2), None),  # above all bounds
        ((0, 0, 19, 0), None),  # too few
        ((0, 0, 20, 0), 1.0),
        ((0, 0, 0, 0), None),
    ],
)
def test_a_quantile_is_a_bound(counts: Sequence[int], found: float | None) -> None:
    assert quantile(counts, BOUNDS, 0.99) == found
