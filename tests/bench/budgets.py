"""Budgets (figures that every release must hold), and whether a run holds them. Pure."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tests.bench.parts import cpu, idle, latency, scrape, sharing, startup
from tests.bench.samples import Samples, Spread
from tests.bench.workload import READ, UPDATE
from tests.conflicts.ways import title

Conflicts = Mapping[str, Any] | None
"""What `make conflicts` found, if there is a file of it."""


@dataclass(frozen=True, slots=True)
class Budget:
    """A figure and what it may be at most."""

    text: str
    most: float
    unit: str
    figure: Callable[[Samples, Conflicts], float | None]
    """None where it was not measured."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a budget holds."""

    budget: Budget
    figure: float | None

    @property
    def holds(self) -> bool | None:
        """None where it was not measured."""
        return None if self.figure is None else self.figure <= self.budget.most

    @property
    def word(self) -> str:
        """For a reader."""
        return {True: "holds", False: "does not hold", None: "not measured"}[self.holds]

    @property
    def shown(self) -> str:
        """The figure with its unit."""
        return "–" if self.figure is None else f"{_number(self.figure)} {self.budget.unit}".strip()

    @property
    def limit(self) -> str:
        """What it may be, with its unit."""
        return f"≤ {_number(self.budget.most)} {self.budget.unit}".strip()

    def __str__(self) -> str:
        return f"{self.word:<14} {self.shown:>10}  {self.limit:>10}  {self.budget.text}"


def verdicts(samples: Samples, conflicts: Conflicts) -> list[Verdict]:
    """One for each budget."""
    return [Verdict(budget, budget.figure(samples, conflicts)) for budget in BUDGETS]


def _number(value: float) -> str:
    return f"{value:,.0f}" if value == int(value) or abs(value) >= 100 else f"{value:,.2f}"


def _cpu(contender: str, reference: str) -> Callable[[Samples, Conflicts], float | None]:
    return lambda samples, _: _median(samples.ratio(cpu.PART, UPDATE.name, contender, reference, "cpu_us"))


def _added(share: str) -> Callable[[Samples, Conflicts], float | None]:
    # What both add to a direct call of the same round is subtracted from each other: direct calls drop out.
    return lambda samples, _: _median(
        samples.difference(latency.PART, latency.SLOW, "proxy", "nginx", f"{share}_ms"),
    )


def _measured(part: str, case: str, contender: str, figure: str, per: float = 1.0) -> Callable[..., float | None]:
    def median(samples: Samples, _: Conflicts) -> float | None:
        found = _median(samples.spread(part, case, contender, figure))
        return None if found is None else found / per

    return median


def _conflict(figure: str) -> Callable[[Samples, Conflicts], float | None]:
    def of_one_proxy(_: Samples, conflicts: Conflicts) -> float | None:
        rows = [row for row in (conflicts or {}).get("rows", ()) if row["way"] == title("1")]
        return float(rows[0][figure]) if rows else None

    return of_one_proxy


def _median(spread: Spread | None) -> float | None:
    return None if spread is None else spread.median


BUDGETS: Sequence[Budget] = (
    Budget("CPU per call, without lanes and coalescing, to nginx's", 1.8, "×", _cpu("proxy-bare", "nginx")),
    Budget("CPU per call, all on, to nginx's", 2.0, "×", _cpu("proxy", "nginx")),
    Budget("CPU per call, all on, to that without the checklist", 1.05, "×", _cpu("proxy", "proxy-checklist-off")),
    Budget("CPU per call, all on, to Caddy's", 0.75, "×", _cpu("proxy", "caddy")),
    Budget("CPU per call, HTTP/2 upstream, to HAProxy's with HTTP/2", 3.0, "×", _cpu("proxy-h2", "haproxy-h2")),
    Budget("added latency beyond nginx's, p50, 500 calls/s, upstream of 25 ms", 1.0, "ms", _added("p50")),
    Budget("added latency beyond nginx's, p99, 500 calls/s, upstream of 25 ms", 1.0, "ms", _added("p99")),
    Budget("409s of parallel updates that reach callers (make conflicts)", 0, "", _conflict("conflicts")),
    Budget("writes out of the order of admission (make conflicts)", 0, "", _conflict("late_admitted")),
    Budget(
        "calls to Talon.One for 10 identical reads", 1, "", _measured(sharing.PART, READ.name, "proxy", "exchanges")
    ),
    Budget(
        "calls to Talon.One for 10 identical updates", 1, "", _measured(sharing.PART, UPDATE.name, "proxy", "exchanges")
    ),
    Budget("from exec to ready", 0.5, "s", _measured(startup.PART, startup.CASE, "proxy", "ready_ms", 1e3)),
    Budget("memory (RSS), idle", 64, "MB", _measured(startup.PART, startup.CASE, "proxy", "rss_bytes", 1e6)),
    Budget(
        "memory (RSS) per idle connection of a caller",
        8,
        "KB",
        _measured(idle.PART, idle.CASE, "proxy-wide", "each_bytes", 1e3),
    ),
    Budget(
        "a scrape of the metrics blocks, at a stretch",
        5,
        "ms",
        _measured(scrape.PART, scrape.CASE, "proxy", "longest_ms"),
    ),
)
