"""The figures of one way to Talon.One: out of what callers met, what Talon.One's journal says and what was admitted.

Pure. The three are joined by the calls' ids (`X-Request-Id`).
"""

import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from tests.conflicts.callers import Outcome

Entry = Mapping[str, Any]  # of the journal, as `/-/journal` gives it


@dataclass(frozen=True, slots=True)
class Figures:
    """What one round one way came to. Times in seconds."""

    way: str
    calls: int
    failed: int  # never succeeded
    conflicts: int  # 409s that callers saw
    p50: float  # until success, repetitions and their waits included
    p99: float
    upstream_calls: int
    refused: int  # of these, with a 409, whoever saw it
    clicks: int  # upstream calls for one group of identical calls: the most
    clicks_mean: float
    late: int  # writes executed after one of the same session or profile that was sent after them
    late_admitted: int | None  # the same by order of admission; None: nobody admitted in one order


def figures(way: str, outcomes: Sequence[Outcome], journal: Sequence[Entry], admitted: Mapping[str, int]) -> Figures:
    """Reckon. `admitted`: numbers of admission by request id, empty where there was no one order."""
    seconds = sorted(outcome.seconds for outcome in outcomes)
    groups = {outcome.request.id: outcome.request.group for outcome in outcomes if outcome.request.group}
    clicks = Counter(groups[entry["request_id"]] for entry in journal if entry["request_id"] in groups)
    return Figures(
        way=way,
        calls=len(outcomes),
        failed=sum(not outcome.succeeded for outcome in outcomes),
        conflicts=sum(outcome.conflicts for outcome in outcomes),
        p50=percentile(seconds, 50),
        p99=percentile(seconds, 99),
        upstream_calls=len(journal),
        refused=sum(entry["outcome"] == "refused" for entry in journal),
        clicks=max(clicks.values()),
        clicks_mean=statistics.mean(clicks.values()),
        late=late(journal, {outcome.request.id: outcome.order for outcome in outcomes}),
        late_admitted=late(journal, admitted) if admitted else None,
    )


def percentile(ordered: Sequence[float], share: int) -> float:
    """Give the value that so many per cent do not exceed."""
    return ordered[min(len(ordered) * share // 100, len(ordered) - 1)]


def late(journal: Iterable[Entry], order: Mapping[str, int]) -> int:
    """Count the writes that were executed after one of the same session or profile that comes later in `order`."""
    executed = sorted((entry for entry in journal if entry["outcome"] == "applied"), key=lambda one: one["start_order"])
    latest: defaultdict[tuple[str, str], int] = defaultdict(int)
    found = 0
    for entry in executed:
        number = order[entry["request_id"]]
        keys = [(sort, entry[sort]) for sort in ("session", "profile") if entry[sort]]
        found += any(latest[key] > number for key in keys)
        for key in keys:
            latest[key] = max(latest[key], number)
    return found


def summed(rounds: Sequence[Figures]) -> Figures:
    """Make one of several rounds one way: the medians of times, the sums of counts."""
    first = rounds[0]
    admitted = [each.late_admitted for each in rounds if each.late_admitted is not None]
    return Figures(
        way=first.way,
        calls=sum(each.calls for each in rounds),
        failed=sum(each.failed for each in rounds),
        conflicts=sum(each.conflicts for each in rounds),
        p50=statistics.median(each.p50 for each in rounds),
        p99=statistics.median(each.p99 for each in rounds),
        upstream_calls=sum(each.upstream_calls for each in rounds),
        refused=sum(each.refused for each in rounds),
        clicks=max(each.clicks for each in rounds),
        clicks_mean=statistics.mean(each.clicks_mean for each in rounds),
        late=sum(each.late for each in rounds),
        late_admitted=sum(admitted) if admitted else None,
    )


HEADS = (
    "",
    "409s seen by callers",
    "p50 until success",
    "p99 until success",
    "calls to Talon.One",
    "of these refused (409)",
    "calls per 10 identical, mean (most)",
    "writes out of order, as sent (as admitted)",
)


def table(rows: Iterable[Figures]) -> str:
    """Give the rows as Markdown."""
    lines = [HEADS, ("---",) * len(HEADS), *map(_cells, rows)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _cells(row: Figures) -> tuple[str, ...]:
    return (
        row.way,
        f"{row.conflicts:,}",
        f"{row.p50 * 1000:,.0f} ms",
        f"{row.p99 * 1000:,.0f} ms",
        f"{row.upstream_calls:,}",
        f"{row.refused:,}",
        f"{row.clicks_mean:.1f} ({row.clicks})",
        f"{row.late:,}" + ("" if row.late_admitted is None else f" ({row.late_admitted:,})"),
    )


def misses(row: Figures, *, proxies: int, direct: Figures | None) -> list[str]:
    """Say what this way does not keep of what is promised of so many proxies."""
    wrong = []
    if row.failed:
        wrong.append(f"{row.failed} calls failed")
    if proxies <= 4 and row.conflicts:
        wrong.append(f"{row.conflicts} conflicts were returned to callers")
    if proxies == 1:
        if row.late_admitted != 0:
            wrong.append(f"{row.late_admitted} writes were executed out of order")
        if row.clicks != 1:
            wrong.append(f"{row.clicks} upstream calls for one group of identical calls")
        if direct is not None and row.p99 > direct.p99:
            wrong.append(f"p99 until success is {row.p99 * 1000:.0f} ms, directly {direct.p99 * 1000:.0f} ms")
    return [f"{row.way}: {what}" for what in wrong]


def as_json(rounds: Sequence[Figures], rows: Sequence[Figures]) -> dict[str, object]:
    """Everything, for machines."""
    return {"rows": [asdict(row) for row in rows], "rounds": [asdict(each) for each in rounds]}
