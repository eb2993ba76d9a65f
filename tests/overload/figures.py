"""What came of it, and what of that must not be. Pure. Times in seconds, memory in bytes."""

import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from tests.conflicts.figures import percentile
from tests.overload.open_loop import Turn

GOODPUT = 0.9  # of the peak, at twice the capacity
REFUSED_WITHIN = 0.050
SHARE, ABSOLUTE = 1.10, 0.002  # what a crowd may cost others: this much, or so many seconds more
CLOSED_WITHIN = 1.0  # after the deadline of a head
# What a connection, a call under way and a remembered session may take.
CONNECTION, CALL, SESSION, SLACK = 8 << 10, 32 << 10, 1 << 10, 8 << 20


def p99(seconds: Sequence[float]) -> float:
    """Give the 99th percentile; 0.0 of nothing."""
    return percentile(sorted(seconds), 99) if seconds else 0.0


def row(name: str, turn: Turn) -> str:
    """Give one line of the table below."""
    ms = [f"{seconds * 1000:8.1f}" for seconds in (p99(turn.done), p99(turn.refused), p99(turn.late))]
    rates = [f"{count / turn.seconds:8.0f}" for count in (turn.offered, len(turn.done), len(turn.refused))]
    others = f"{sum(turn.failures.values()) + turn.starved:7}"
    return f"{name:12}{rates[0]}{rates[1]}{ms[0]}{rates[2]}{ms[1]}{others}{ms[2]}"


HEADING = f"{'':12}{'offered':>8}{'done/s':>8}{'p99 ms':>8}{'503/s':>8}{'p99 ms':>8}{'others':>7}{'late':>8}"


@dataclass(frozen=True, slots=True)
class Overload:
    """Peak, capacity, twice that, and a half of it right behind."""

    concurrency: int
    callers: int
    sessions: int
    peak: Turn
    once: Turn
    twice: Turn
    after: Turn
    rss_before: int
    rss_most: int

    @property
    def goodput(self) -> float:
        """At twice the capacity, as a share of the peak."""
        return (len(self.twice.done) / self.twice.seconds) / (len(self.peak.done) / self.peak.seconds)

    @property
    def bound(self) -> int:
        """Memory that it may take."""
        calls = 2 * self.concurrency * CALL
        return self.rss_before + self.callers * CONNECTION + calls + self.sessions * SESSION + SLACK

    def wrong(self) -> Sequence[str]:
        """Say what must not be."""
        others = sum((turn.failures for turn in (self.peak, self.once, self.twice, self.after)), Counter[str]())
        found = {
            f"goodput {self.goodput:.0%} of the peak": self.goodput < GOODPUT,
            "nothing was refused: this was no overload": not self.twice.refused,
            f"refused in {p99(self.twice.refused) * 1000:.0f} ms": p99(self.twice.refused) >= REFUSED_WITHIN,
            f"refused after it was over: {len(self.after.refused)}": bool(self.after.refused),
            f"other answers: {dict(others)}": bool(others),
            f"memory {self.rss_most / 1e6:.0f} MB, bound {self.bound / 1e6:.0f} MB": self.rss_most > self.bound,
        }
        return [what for what, holds in found.items() if holds]


@dataclass(frozen=True, slots=True)
class Crowded:
    """The p99 of others, in turns without the crowd and with it."""

    name: str
    without: Sequence[float]
    beside: Sequence[float]
    failures: int

    @property
    def medians(self) -> tuple[float, float]:
        """Of both."""
        return statistics.median(self.without), statistics.median(self.beside)

    def wrong(self) -> Sequence[str]:
        """Say what must not be."""
        without, beside = self.medians
        found = {
            f"{self.name}: {self.failures} calls of others failed": self.failures > 0,
            f"{self.name}: p99 of others {without * 1000:.1f} ⇒ {beside * 1000:.1f} ms": beside
            > max(without * SHARE, without + ABSOLUTE),
        }
        return [what for what, holds in found.items() if holds]
