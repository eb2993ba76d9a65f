"""Charts as SVG: lines over even steps, and bars with their spread. Small on purpose; knows nothing of benchmarks."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

INK, FAINT, PAPER = "#222222", "#d9d9d9", "#ffffff"
FONT = "font-family='system-ui, -apple-system, Segoe UI, Helvetica, Arial, sans-serif'"
LINE = 18  # height of a line of text


@dataclass(frozen=True, slots=True)
class Point:
    """A value with its spread; `step` is its place on the x-axis."""

    step: int
    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Series:
    """A line of a chart."""

    name: str
    colour: str
    points: Sequence[Point]
    dashed: bool = False


@dataclass(frozen=True, slots=True)
class Lines:
    """A chart of lines: `steps` label the x-axis evenly, `unit` the y-axis."""

    title: str
    steps: Sequence[str]
    axis: str
    unit: str
    series: Sequence[Series]

    def draw(self, left: float, top: float, width: float, height: float) -> str:
        """Within this frame."""
        inner = Frame(left + 56, top + 3 * LINE, width - 76, height - 5 * LINE - 4)
        values = [edge for line in self.series for point in line.points for edge in (point.low, point.high)]
        scale = Scale.over(values)
        parts = [text(left, top + LINE - 4, self.title, size=14, bold=True)]
        for tick in scale.ticks():
            y = inner.y(scale.share(tick))
            parts.append(rule(inner.left, y, inner.right, y, FAINT))
            parts.append(text(inner.left - 8, y + 4, _short(tick), anchor="end"))
        for number, step in enumerate(self.steps):
            parts.append(text(inner.x(self._share(number)), inner.bottom + LINE, step, anchor="middle"))
        parts.append(text((inner.left + inner.right) / 2, inner.bottom + 2 * LINE, self.axis, anchor="middle"))
        parts.append(text(left, top + 2 * LINE, f"{self.unit}{', logarithmic' if scale.log else ''}", size=11))
        parts += [self._line(series, inner, scale) for series in self.series if series.points]
        return "".join(parts)

    def _share(self, step: int) -> float:
        # Half a step of air at both ends.
        return (step + 0.5) / len(self.steps)

    def _line(self, series: Series, inner: "Frame", scale: "Scale") -> str:
        places = [(inner.x(self._share(each.step)), inner.y(scale.share(each.value))) for each in series.points]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        dashes = " stroke-dasharray='5 4'" if series.dashed else ""
        parts = [f"<polyline points='{path}' fill='none' stroke='{series.colour}' stroke-width='2'{dashes}/>"]
        for (x, y), point in zip(places, series.points, strict=True):
            low, high = inner.y(scale.share(point.low)), inner.y(scale.share(point.high))
            parts.append(rule(x, low, x, high, series.colour, opacity=0.45))
            parts.append(f"<circle cx='{x:.1f}' cy='{y:.1f}' r='3.2' fill='{series.colour}'/>")
        return "".join(parts)


@dataclass(frozen=True, slots=True)
class Bar:
    """A bar with its spread; `note` stands behind its value."""

    name: str
    colour: str
    value: float
    low: float
    high: float
    note: str = ""


@dataclass(frozen=True, slots=True)
class Bars:
    """A chart of horizontal bars."""

    title: str
    unit: str
    bars: Sequence[Bar]

    HEIGHT = 30

    @property
    def height(self) -> float:
        """What it takes."""
        return 2 * LINE + 12 + self.HEIGHT * len(self.bars)

    def draw(self, left: float, top: float, width: float, height: float) -> str:
        """Within this frame."""
        label, value = 210, 110
        most = max(bar.high for bar in self.bars)
        inner = Frame(left + label, top + 2 * LINE + 4, width - label - value, height - 2 * LINE - 8)
        parts = [
            text(left, top + LINE - 4, self.title, size=14, bold=True),
            text(left, top + 2 * LINE, self.unit, size=11),
        ]
        for number, bar in enumerate(self.bars):
            y = inner.top + number * self.HEIGHT
            middle = y + self.HEIGHT / 2
            parts.append(text(inner.left - 10, middle + 4, bar.name, anchor="end"))
            parts.append(
                f"<rect x='{inner.left}' y='{y + 5:.1f}' width='{inner.width * bar.value / most:.1f}'"
                f" height='{self.HEIGHT - 10}' rx='2' fill='{bar.colour}'/>"
            )
            low, high = (inner.left + inner.width * edge / most for edge in (bar.low, bar.high))
            parts.append(rule(low, middle, high, middle, INK))
            shown = f"{bar.value:.1f}{' · ' + bar.note if bar.note else ''}"
            parts.append(text(high + 8, middle + 4, shown, bold=True))
        return "".join(parts)


@dataclass(frozen=True, slots=True)
class Frame:
    """A rectangle; shares run from the left, and from below."""

    left: float
    top: float
    width: float
    height: float

    @property
    def right(self) -> float:
        """Its edge."""
        return self.left + self.width

    @property
    def bottom(self) -> float:
        """Its edge."""
        return self.top + self.height

    def x(self, share: float) -> float:
        """A place across."""
        return self.left + self.width * share

    def y(self, share: float) -> float:
        """A place upwards."""
        return self.bottom - self.height * share


@dataclass(frozen=True, slots=True)
class Scale:
    """Values to shares of the height; logarithmic where values differ thirtyfold."""

    low: float
    high: float
    log: bool

    @classmethod
    def over(cls, values: Sequence[float]) -> "Scale":
        """A scale on which all have a place."""
        least, most = min(values), max(values)
        if least > 0 and most / least > 30:
            # What is a little above a power of ten may stand out above the frame.
            return cls(10 ** math.floor(math.log10(least)), 10 ** math.ceil(math.log10(most) - 0.1), True)
        step = _step(most or 1.0)
        return cls(0.0, math.ceil((most or 1.0) / step * 1.05) * step, False)

    def share(self, value: float) -> float:
        """Where a value lies, from 0 to 1."""
        if self.log:
            return math.log(max(value, self.low) / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)

    def ticks(self) -> Iterable[float]:
        """Round values to label."""
        if self.log:
            return [10.0**power for power in range(round(math.log10(self.low)), round(math.log10(self.high)) + 1)]
        step = _step(self.high)
        return [number * step for number in range(round(self.high / step) + 1)]


def _step(most: float) -> float:
    """A round step of which some five make up the height."""
    raw = most / 5
    power: float = 10.0 ** math.floor(math.log10(raw))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= raw)


def _short(value: float) -> str:
    return f"{value:,.0f}" if value == int(value) else f"{value:g}"


def legend(series: Sequence[tuple[str, str, bool]], left: float, top: float) -> str:
    """Names and colours in a row; the last says whether the line is dashed."""
    parts, x = [], left
    for name, colour, dashed in series:
        dashes = " stroke-dasharray='5 4'" if dashed else ""
        parts.append(
            f"<line x1='{x}' y1='{top - 4}' x2='{x + 22}' y2='{top - 4}' stroke='{colour}' stroke-width='3'{dashes}/>"
        )
        parts.append(text(x + 28, top, name))
        x += 28 + 7.2 * len(name) + 22
    return "".join(parts)


def text(x: float, y: float, content: str, *, anchor: str = "start", size: int = 12, bold: bool = False) -> str:
    """A line of text."""
    weight = " font-weight='600'" if bold else ""
    return (
        f"<text x='{x:.1f}' y='{y:.1f}' text-anchor='{anchor}' font-size='{size}' fill='{INK}'{weight}>"
        f"{escape(content)}</text>"
    )


def rule(x1: float, y1: float, x2: float, y2: float, colour: str, *, opacity: float = 1.0) -> str:
    """A straight line."""
    return (
        f"<line x1='{x1:.1f}' y1='{y1:.1f}' x2='{x2:.1f}' y2='{y2:.1f}' stroke='{colour}' stroke-width='1.5'"
        f" stroke-opacity='{opacity:g}'/>"
    )


def document(width: float, height: float, content: str) -> str:
    """The whole file; on paper of its own, so that it can be read on a dark page."""
    return (
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {width:g} {height:g}' width='{width:g}' {FONT}>"
        f"<rect width='{width:g}' height='{height:g}' rx='8' fill='{PAPER}'/>{content}</svg>\n"
    )
