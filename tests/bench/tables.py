"""Tables in Markdown out of a result: what was not measured is in none of them. Pure."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from tests.bench.budgets import Conflicts, verdicts
from tests.bench.contenders import Contender
from tests.bench.ourselves import ourselves
from tests.bench.parts import burst, callers, cpu, growth, idle, latency, scrape, sharing, startup
from tests.bench.peers import peers
from tests.bench.result import Result
from tests.bench.samples import Samples, Spread
from tests.bench.workload import EVENT, LARGE, READ, UPDATE, Workload
from tests.conflicts.figures import Figures
from tests.conflicts.figures import table as conflicts_table

Cell = Callable[[Samples, str, str], str | None]
"""What stands in a column for a case and a contender; None: it was not measured."""
NOT_MEASURED = "–"
_CONTENDERS: Mapping[str, Contender] = {contender.name: contender for contender in (*peers(), *ourselves({}))}
_TITLES = {
    "direct-pooled": "directly, connections kept",
    "direct-new": "directly, a connection for each call",
    latency.ITSELF: latency.ITSELF,
}


@dataclass(frozen=True, slots=True)
class Column:
    """Of a table."""

    head: str
    cell: Cell


def title(contender: str) -> str:
    """For a reader."""
    return _TITLES.get(contender) or _CONTENDERS[contender].title


def tables(result: Result, conflicts: Conflicts) -> str:
    """All of them, each under its heading."""
    sections = [
        ("Budgets", budgets(result.samples, conflicts)),
        *cpu_tables(result.samples),
        ("Latency at a fixed rate", added_latency(result.samples)),
        ("Latency by rate, upstream that answers at once", latency_by_rate(result.samples)),
        (
            f"A connection for every call: {EVENT.title}, {callers.RATE:,}/s, times without connecting",
            each_its_connection(result.samples),
        ),
        (f"{burst.SIZE} calls at once", bursts(result.samples)),
        (f"Memory with {idle.CASE}, each having made a call", idle_connections(result.samples)),
        ("Start", start(result.samples)),
        (f"{sharing.CALLS} identical calls at a time: calls that reach the upstream", shared(result.samples)),
        ("A scrape of the metrics", scraped(result.samples)),
        ("Growth", grown(result.samples)),
        ("Parallel updates: `make conflicts`", parallel_updates(conflicts)),
        ("Turns that went wrong, whose contenders have no figure there", _wrong(result.samples)),
    ]
    return "\n".join(f"## {heading}\n\n{text}\n" for heading, text in sections if text)


def parallel_updates(conflicts: Conflicts) -> str:
    """What `make conflicts` found, each way a row."""
    return conflicts_table([Figures(**row) for row in conflicts["rows"]]) if conflicts else ""


def _wrong(samples: Samples) -> str:
    return "\n".join(f"- {problem}" for problem in samples.problems())


def budgets(samples: Samples, conflicts: Conflicts) -> str:
    """Each with its verdict."""
    rows = [
        (verdict.budget.text, verdict.limit, verdict.shown, verdict.word)
        for verdict in verdicts(samples, conflicts)
        if verdict.figure is not None
    ]
    return markdown(("", "budget", "measured", ""), rows)


def cpu_tables(samples: Samples) -> Iterable[tuple[str, str]]:
    """CPU per call, by workload and way to the upstream."""
    for workload in (UPDATE, READ, LARGE):
        yield f"CPU per call: {workload.title}, TLS 1.3 upstream", cpu_by_tls(samples, workload)
    yield f"CPU per call: {UPDATE.title}, cleartext upstream", cpu_table(samples, UPDATE, cpu.CLEAR, "nginx-clear")
    yield "CPU per call: what parts of it cost", cpu_table(samples, UPDATE, ("proxy", *cpu.VARIANTS), "proxy")


def cpu_by_tls(samples: Samples, workload: Workload = UPDATE) -> str:
    """Everyone with a TLS upstream."""
    return cpu_table(samples, workload, (*cpu.DIRECT, *cpu.TLS, *cpu.H2), "nginx")


def cpu_table(samples: Samples, workload: Workload, contenders: Sequence[str], reference: str) -> str:
    """CPU per call beside a reference's."""
    columns = [
        Column("CPU µs per call", _spread(cpu.PART, "cpu_us", 1)),
        Column(f"× {title(reference)}", _ratio(cpu.PART, "cpu_us", reference)),
        Column("calls/s", _median(cpu.PART, "rate", "{:,.0f}")),
        Column("of its core", _median(cpu.PART, "busy", "{:.0%}")),
        Column("connections opened", _median(cpu.PART, "opened", "{:,.0f}")),
        Column("RSS MB", _median(cpu.PART, "rss_bytes", "{:.0f}", 1e6)),
        Column("caller's CPU µs", _median(cpu.PART, "caller_us", "{:.1f}")),
    ]
    return table(samples, workload.name, contenders, columns)


def added_latency(samples: Samples) -> str:
    """Beyond direct calls of the same rounds."""
    columns = [
        *(Column(f"{share} ms", _spread(latency.PART, f"{share}_ms", 2)) for share in ("p50", "p99")),
        *(
            Column(f"added {share} ms", _difference(latency.PART, f"{share}_ms", latency.DIRECT))
            for share in ("p50", "p99")
        ),
        Column("sent late, p99 ms", _median(latency.PART, "late_p99_ms", "{:.2f}")),
    ]
    return table(samples, latency.SLOW, (latency.DIRECT, *latency.COMPARED), columns)


def latency_by_rate(samples: Samples) -> str:
    """p50 and p99 of everyone at every rate."""
    rows = []
    for contender in (latency.ITSELF, *latency.RATED):
        cells = [_rated(samples, f"{rate}/s", contender) for rate in latency.RATES]
        if any(cells):
            rows.append((title(contender), *(cell or NOT_MEASURED for cell in cells)))
    return markdown(("p50 · p99 ms", *(f"{rate:,}/s" for rate in latency.RATES)), rows)


def _rated(samples: Samples, case: str, contender: str) -> str | None:
    found = [samples.spread(latency.PART, case, contender, f"{share}_ms") for share in ("p50", "p99")]
    return " · ".join(f"{spread.median:.2f}" for spread in found if spread) or None


def each_its_connection(samples: Samples) -> str:
    """TCP and Unix socket."""
    columns = [
        Column(f"{case}: {head}", _of_case(case, cell))
        for case in (callers.TCP, callers.UNIX)
        for head, cell in (
            ("CPU µs per call", _spread(callers.PART, "cpu_us", 0)),
            ("× nginx", _ratio(callers.PART, "cpu_us", "nginx")),
            ("p99 ms", _median(callers.PART, "p99_ms", "{:.2f}")),
        )
    ]
    return table(samples, "", callers.COMPARED, columns)


def bursts(samples: Samples) -> str:
    """The slowest call of each."""
    columns = [
        Column(f"{case}: {head}", _of_case(case, cell))
        for case in (burst.FIRST, burst.LATER)
        for head, cell in (
            ("slowest call, ms", _spread(burst.PART, "slowest_ms", 1)),
            ("connections opened", _median(burst.PART, "opened", "{:,.0f}")),
        )
    ]
    return table(samples, "", burst.COMPARED, columns)


def idle_connections(samples: Samples) -> str:
    """Memory before, with, and of each."""
    columns = [
        Column("before, MB", _median(idle.PART, "before_bytes", "{:.0f}", 1e6)),
        Column("with them, MB", _median(idle.PART, "after_bytes", "{:.0f}", 1e6)),
        Column("each, KB", _median(idle.PART, "each_bytes", "{:.1f}", 1e3)),
    ]
    return table(samples, idle.CASE, idle.COMPARED, columns)


def start(samples: Samples) -> str:
    """Time and memory."""
    columns = [
        Column("from exec to ready, ms", _spread(startup.PART, "ready_ms", 0)),
        Column("of it CPU, ms", _median(startup.PART, "cpu_ms", "{:.0f}")),
        Column("RSS MB, not called yet", _median(startup.PART, "rss_bytes", "{:.0f}", 1e6)),
    ]
    return table(samples, startup.CASE, startup.COMPARED, columns)


def shared(samples: Samples) -> str:
    """How many of the identical calls were made."""
    columns = [
        Column(f"{workload.method}", _of_case(workload.name, _median(sharing.PART, "exchanges", "{:,.0f}")))
        for workload in (READ, UPDATE)
    ]
    return table(samples, "", sharing.COMPARED, columns)


def scraped(samples: Samples) -> str:
    """How long it blocks."""
    columns = [
        Column("series", _median(scrape.PART, "series", "{:,.0f}")),
        Column("longest stretch, ms of CPU", _spread(scrape.PART, "longest_ms", 1)),
    ]
    return table(samples, scrape.CASE, ("proxy",), columns)


def grown(samples: Samples) -> str:
    """Every case as a row."""
    rows = [
        (_grown_title(case), *(_grown(samples, case, contender) for contender in (*growth.COMPARED, growth.ADMISSION)))
        for case in samples.cases(growth.PART)
        if case
    ]
    return markdown(("µs per call", *map(title, growth.COMPARED), "all of our code but the wire, not compiled"), rows)


def _grown_title(case: str) -> str:
    what, _, count = case.rpartition(" ")
    return growth.WORDS[what].format(f"{int(count):,}")


def _grown(samples: Samples, case: str, contender: str) -> str:
    figure = "call_us" if contender == growth.ADMISSION else "cpu_us"
    spread = samples.spread(growth.PART, case, contender, figure)
    return _shown(spread, 1) or NOT_MEASURED


def table(samples: Samples, case: str, contenders: Sequence[str], columns: Sequence[Column]) -> str:
    """A row for every contender of which something was measured, a column for what was measured of any."""
    cells = {name: [column.cell(samples, case, name) for column in columns] for name in contenders}
    used = [number for number in range(len(columns)) if any(row[number] is not None for row in cells.values())]
    rows = [
        (title(name), *(row[number] or NOT_MEASURED for number in used))
        for name, row in cells.items()
        if any(cell is not None for cell in row)
    ]
    return markdown(("", *(columns[number].head for number in used)), rows)


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table, or nothing where it would have no rows."""
    lines = [head, ("---", *("--:",) * (len(head) - 1)), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) if rows else ""


# --- cells ---


def _spread(part: str, figure: str, digits: int) -> Cell:
    return lambda samples, case, name: _shown(samples.spread(part, case, name, figure), digits)


def _ratio(part: str, figure: str, reference: str) -> Cell:
    return lambda samples, case, name: _shown(samples.ratio(part, case, name, reference, figure), 2)


def _difference(part: str, figure: str, reference: str) -> Cell:
    return lambda samples, case, name: _shown(samples.difference(part, case, name, reference, figure), 2)


def _median(part: str, figure: str, form: str, per: float = 1.0) -> Cell:
    def cell(samples: Samples, case: str, name: str) -> str | None:
        spread = samples.spread(part, case, name, figure)
        return None if spread is None else form.format(spread.median / per)

    return cell


def _of_case(case: str, cell: Cell) -> Cell:
    return lambda samples, _, name: cell(samples, case, name)


def _shown(spread: Spread | None, digits: int) -> str | None:
    if spread is None:
        return None
    if spread.low == spread.high:
        return f"{spread.median:,.{digits}f}"
    return f"{spread.median:,.{digits}f} ({spread.low:,.{digits}f}–{spread.high:,.{digits}f})"
