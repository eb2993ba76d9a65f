"""The report: medians, ratios and the table, out of rounds. Pure functions."""

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass

REFERENCE = "nginx"  # by default
# Below this share of a core a contender waits now and then, wakes up more often per call, and looks more expensive.
SATURATED = 0.9


@dataclass(frozen=True, slots=True)
class Round:
    """One turn of one contender."""

    contender: str
    number: int
    calls: int
    seconds: float
    cpu_seconds: float
    upstream_connections: int
    rss: int
    problem: str = ""
    """Why it does not count, or nothing."""

    @property
    def cpu_per_call(self) -> float:
        """In microseconds."""
        return self.cpu_seconds / self.calls * 1e6


@dataclass(frozen=True, slots=True)
class Spread:
    """A median with its extremes."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        """The spread of at least one value."""
        return cls(statistics.median(values), min(values), max(values))


@dataclass(frozen=True, slots=True)
class Row:
    """One contender's figures over all its rounds."""

    contender: str
    cpu_per_call: Spread
    """Microseconds."""
    ratio: Spread | None
    """To the reference, round by round; None where the reference has no valid round."""
    calls_per_second: float
    busy: float
    """Share of a core that it used."""
    upstream_connections: int
    rss: int


@dataclass(frozen=True, slots=True)
class Invalid:
    """A contender of which a round went wrong: it has no figures."""

    contender: str
    problem: str


def summarise(rounds: Sequence[Round], reference: str = REFERENCE) -> list[Row | Invalid]:
    """One row per contender, in the order of their first rounds."""
    by_contender: dict[str, list[Round]] = {}
    for turn in rounds:
        by_contender.setdefault(turn.contender, []).append(turn)
    paid = {turn.number: turn.cpu_per_call for turn in by_contender.get(reference, []) if not turn.problem}
    return [_row(turns, paid) for turns in by_contender.values()]


def table(rows: Sequence[Row | Invalid], reference: str = REFERENCE) -> str:
    """The rows as aligned text."""
    head = ("", "CPU µs per call", f"× {reference}", "calls/s", "busy", "upstream conns", "RSS MB")
    lines = [head, *(_cells(row) for row in rows if isinstance(row, Row))]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    text = ["  ".join(_aligned(line, widths)).rstrip() for line in lines]
    text += [f"{row.contender}: INVALID, {row.problem}" for row in rows if isinstance(row, Invalid)]
    text += [
        f"{row.contender} had work for {row.busy:.0%} of its core only: wrk, the origin or other programs held it up"
        for row in rows
        if isinstance(row, Row) and row.busy < SATURATED
    ]
    return "\n".join(text)


def verdict(
    rows: Sequence[Row | Invalid], budget: float | None, *, judged: str = "proxy", reference: str = REFERENCE
) -> list[str]:
    """What is wrong with this run: nothing if all rows are valid and the judged one is within the budget."""
    wrong = [f"{row.contender} is invalid" for row in rows if isinstance(row, Invalid)]
    if budget is None:
        return wrong
    ratios = [row.ratio for row in rows if isinstance(row, Row) and row.contender == judged and row.ratio]
    if not ratios:
        wrong.append(f"the budget cannot be judged: no ratio of {judged} to {reference}")
    wrong += [
        f"{judged} takes {ratio.median:.2f} × {reference}, the budget is {budget:.2f} ×"
        for ratio in ratios
        if ratio.median > budget
    ]
    return wrong


def as_json(
    rounds: Sequence[Round], rows: Sequence[Row | Invalid], about: dict[str, dict[str, str]]
) -> dict[str, object]:
    """Everything, for machines: microseconds per call, else seconds; sizes in bytes."""
    return {**about, "rows": [asdict(row) for row in rows], "rounds": [asdict(turn) for turn in rounds]}


def _row(turns: Sequence[Round], reference: dict[int, float]) -> Row | Invalid:
    problems = [f"round {turn.number}: {turn.problem}" for turn in turns if turn.problem]
    if problems:
        return Invalid(turns[0].contender, "; ".join(problems))
    # Both took their turn within seconds of each other, so that a slow spell of the machine falls on both.
    ratios = [turn.cpu_per_call / reference[turn.number] for turn in turns if turn.number in reference]
    return Row(
        contender=turns[0].contender,
        cpu_per_call=Spread.of([turn.cpu_per_call for turn in turns]),
        ratio=Spread.of(ratios) if ratios else None,
        calls_per_second=statistics.median(turn.calls / turn.seconds for turn in turns),
        busy=statistics.median(turn.cpu_seconds / turn.seconds for turn in turns),
        upstream_connections=max(turn.upstream_connections for turn in turns),
        rss=max(turn.rss for turn in turns),
    )


def _cells(row: Row) -> tuple[str, ...]:
    return (
        row.contender,
        _spread(row.cpu_per_call, 1),
        _spread(row.ratio, 2) if row.ratio else "-",
        f"{row.calls_per_second:,.0f}",
        f"{row.busy:.0%}",
        str(row.upstream_connections),
        f"{row.rss / 1e6:.1f}",
    )


def _spread(spread: Spread, digits: int) -> str:
    return f"{spread.median:.{digits}f} ({spread.low:.{digits}f}–{spread.high:.{digits}f})"


def _aligned(cells: Sequence[str], widths: Sequence[int]) -> list[str]:
    name, *figures = cells
    return [
        name.ljust(widths[0]),
        *(cell.rjust(width) for cell, width in zip(figures, widths[1:], strict=True)),
    ]
