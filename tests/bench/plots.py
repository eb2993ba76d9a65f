"""Plots out of a result: what was not measured is not drawn."""

from collections.abc import Iterator, Mapping, Sequence

from tests.bench.parts import cpu, growth, latency
from tests.bench.samples import Samples
from tests.bench.svg import Bar, Bars, Lines, Point, Series, document, legend
from tests.bench.tables import title
from tests.bench.workload import UPDATE, size

# Okabe and Ito's colours, which the colour-blind can tell apart.
COLOURS = {
    "nginx": "#009e73",
    "haproxy": "#0072b2",
    "caddy": "#cc79a7",
    "aiohttp": "#e69f00",
    "proxy": "#d55e00",
    "direct-pooled": "#555555",
}
EDGE = 20.0
WIDTH = 760.0


def plots(samples: Samples) -> Mapping[str, str]:
    """All that can be drawn, by the name of the file."""
    drawn = {"cpu.svg": _cpu(samples), "latency.svg": _latency(samples), "growth.svg": _growth(samples)}
    return {name: content for name, content in drawn.items() if content}


def _colour(contender: str) -> str:
    return COLOURS[contender] if contender in COLOURS else COLOURS[contender.partition("-")[0]]


def _cpu(samples: Samples) -> str:
    bars = []
    for name in (*cpu.TLS, *cpu.H2):
        spread = samples.spread(cpu.PART, UPDATE.name, name, "cpu_us")
        ratio = samples.ratio(cpu.PART, UPDATE.name, name, "nginx", "cpu_us")
        if spread:
            note = f"{ratio.median:.1f} ×" if ratio else ""
            bars.append(Bar(title(name), _colour(name), spread.median, spread.low, spread.high, note))
    if not bars:
        return ""
    chart = Bars("CPU time per call, TLS 1.3 upstream", "µs, and × nginx; the line is the spread of the rounds", bars)
    content = chart.draw(EDGE, EDGE, WIDTH - 2 * EDGE, chart.height)
    return document(WIDTH, chart.height + 2 * EDGE, content)


def _latency(samples: Samples) -> str:
    steps = [f"{rate:,}" for rate in latency.RATES]
    cases = [f"{rate}/s" for rate in latency.RATES]
    charts = [
        Lines(
            f"Latency, {share}",
            steps,
            "calls a second, arriving at random",
            "ms",
            list(_series(samples, latency.PART, latency.RATED, cases, f"{share}_ms")),
        )
        for share in ("p50", "p99")
    ]
    return _row(charts)


def _growth(samples: Samples) -> str:
    through = [
        Lines(
            heading,
            [label(count) for count in counts],
            axis,
            "CPU µs per call",
            list(
                _series(samples, growth.PART, growth.COMPARED, [f"{kind} {count}" for count in counts], "cpu_us"),
            ),
        )
        for heading, kind, counts, label, axis in (
            ("Connections", "connections", growth.CONNECTIONS, str, "connections of callers"),
            ("Bodies", "body", growth.BODIES, size, "bytes sent"),
        )
    ]
    admission = Lines(
        "Sessions",
        [f"{count:,}" for count in growth.LIVE],
        "other sessions",
        "CPU µs per call, all but the wire, not compiled",
        [
            Series(
                name,
                colour,
                _points(samples, growth.PART, growth.ADMISSION, [f"{kind} {n}" for n in growth.LIVE], "call_us"),
                dashed,
            )
            for kind, name, colour, dashed in (
                ("live", "sessions under way", "#882255", False),
                ("remembered", "sessions remembered", "#56b4e9", True),
            )
        ],
    )
    return _row([*through, admission])


def _row(charts: Sequence[Lines]) -> str:
    """Charts side by side, under one legend."""
    drawn = [chart for chart in charts if any(series.points for series in chart.series)]
    if not drawn:
        return ""
    each, height = (380.0, 300.0) if len(drawn) < 3 else (340.0, 300.0)
    width = each * len(drawn) + 2 * EDGE
    names = {series.name: (series.name, series.colour, series.dashed) for chart in drawn for series in chart.series}
    parts = [legend(list(names.values()), EDGE, EDGE + 14)]
    parts += [chart.draw(EDGE + each * number, EDGE + 34, each, height) for number, chart in enumerate(drawn)]
    return document(width, height + 34 + 2 * EDGE, "".join(parts))


def _series(
    samples: Samples, part: str, contenders: Sequence[str], cases: Sequence[str], figure: str
) -> Iterator[Series]:
    for name in contenders:
        points = _points(samples, part, name, cases, figure)
        if points:
            yield Series(title(name).partition(",")[0], _colour(name), points)


def _points(samples: Samples, part: str, contender: str, cases: Sequence[str], figure: str) -> list[Point]:
    found = [samples.spread(part, case, contender, figure) for case in cases]
    return [
        Point(step, spread.median, spread.low, spread.high) for step, spread in enumerate(found) if spread is not None
    ]
