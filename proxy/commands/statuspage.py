"""What `/status` tells, as a page and as a line for people. Pure.

The JSON grows with the proxy. What is known here has a row of its own and words; what is not is shown as it is, and
what is missing is left out: a page from another version is still a page.
"""

import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

Json = Mapping[str, object]
Row = tuple[str, str]

LABEL = 14  # columns
NARROWEST = 24  # columns; below that a page is cut by the terminal
_NOTHING: Json = {}


@dataclass(frozen=True, slots=True)
class Pace:
    """How it went between two looks. Milliseconds are means of the calls that reached Talon.One, if there were any."""

    seconds: float
    answered: float
    failed: float
    upstream_ms: float | None
    overhead_ms: float | None

    @property
    def per_second(self) -> float:
        """Calls answered in a second."""
        return self.answered / self.seconds if self.seconds else 0.0

    @classmethod
    def between(cls, earlier: Json | None, later: Json) -> "Pace":
        """Compare two looks at one proxy; without an earlier one, or after a restart: since its start."""
        if earlier is None or _number(earlier, "uptime_seconds") > _number(later, "uptime_seconds"):
            earlier = _NOTHING
        calls, before = _section(later, "calls"), _section(earlier, "calls")

        def grown(name: str) -> float:
            return _number(calls, name) - _number(before, name)

        exchanges = grown("exchanges")
        return cls(
            seconds=_number(later, "uptime_seconds") - _number(earlier, "uptime_seconds"),
            answered=grown("answered"),
            failed=grown("failed"),
            upstream_ms=grown("upstream_seconds") / exchanges * 1000 if exchanges > 0 else None,
            overhead_ms=grown("overhead_seconds") / exchanges * 1000 if exchanges > 0 else None,
        )


def line(status: Json, pace: Pace) -> str:
    """Give one line, for a log or a pipe."""
    connections = _section(_section(status, "upstream"), "connections")
    parts = [
        str(status.get("stage", "?")),
        f"{pace.per_second:.1f} calls/s",
        f"{pace.failed:.0f} failed",
        f"{_number(_section(status, 'downstream'), 'in_flight'):.0f} in flight",
        f"connections {_number(connections, 'active'):.0f} active {_number(connections, 'idle'):.0f} idle",
        *_times(pace),
    ]
    return _plain(", ".join(parts))


def page(status: Json, pace: Pace) -> Iterator[Row]:
    """Give the rows of a page: a label and a text. A row without a label goes on with the one before."""
    rest = dict(status)
    yield (
        "talon-proxy",
        _listed(
            rest.pop("version", None),
            rest.pop("stage", None),
            _told("up {}", _span(rest.pop("uptime_seconds", None))),
            _told("settings {}", rest.pop("settings", None)),
        ),
    )
    short = _take(rest, "summary")
    if short:
        reasons = short.get("reasons")
        yield (
            "in short",
            " ".join(map(str, (f"{short.get('headline')}.", *(reasons if isinstance(reasons, list) else ())))),
        )
    rest.pop("last_minute", None)  # the pace tells it, of the time between two looks
    yield from _calls(_take(rest, "calls"), pace)
    yield from _upstream(_take(rest, "upstream"))
    yield from _downstream(_take(rest, "downstream"))
    yield from _applications(_take(rest, "keys"), _take(rest, "expiries"))
    rest.pop("keys_used", None)  # metrics and the page in the browser show it
    yield from _failures(rest.pop("failures", None))
    yield from _others(rest)


def _calls(calls: dict[str, object], pace: Pace) -> Iterator[Row]:
    if calls:
        yield (
            "calls",
            _listed(
                f"{pace.per_second:.1f}/s",
                _told("{} answered", _count(calls.pop("answered", None))),
                _told("{} of them by the proxy itself", _count(calls.pop("by_proxy", None))),
                _told("{} failed (5xx)", _count(calls.pop("failed", None))),
                _told("{} with an unknown outcome", _count(calls.pop("unknown", None))),
            ),
        )
        for known in ("exchanges", "upstream_seconds", "overhead_seconds", "lane_seconds", "pool_seconds"):
            calls.pop(known, None)
        yield from _others({"calls": calls})
        yield "time per call", ", ".join(_times(pace)) or "none was sent to Talon.One meanwhile"


def _upstream(upstream: dict[str, object]) -> Iterator[Row]:
    if not upstream:
        return
    connections = _take(upstream, "connections")
    yield (
        "Talon.One",
        _listed(
            upstream.pop("url", None),
            upstream.pop("protocol", None),
            upstream.pop("state", None),
            _told("generation {}", upstream.pop("generation", None)),
        ),
    )
    if connections:
        closed = _listed(*(f"{count} {reason}" for reason, count in _take(connections, "closed").items() if count))
        yield (
            "connections",
            _listed(
                *(
                    _told(f"{{}} {state}", _count(connections.pop(state, None)))
                    for state in ("active", "idle", "opening")
                ),
                _told("{} opened", _count(connections.pop("opened", None))),
                _told("closed: {}", closed or None),
                _told("idle at most {} s", connections.pop("idle_limit_seconds", None)),
            ),
        )
        yield from _others({"connections": connections})
    yield from _others(upstream)


def _downstream(downstream: dict[str, object]) -> Iterator[Row]:
    if not downstream:
        return
    listen = downstream.pop("listen", None)
    yield (
        "callers",
        _listed(
            _told("{} connections", _count(downstream.pop("connections", None))),
            _told("{} calls in flight", _count(downstream.pop("in_flight", None))),
            _told("on {}", " and ".join(map(str, listen)) if isinstance(listen, list) else listen),
        ),
    )
    yield from _others(downstream)


def _applications(keys: Json, expiries: Json) -> Iterator[Row]:
    label = "Applications"
    for name, hint in keys.items():
        yield label, _listed(name, f"key {hint}", _told("expires {:.10}", _text(expiries.get(name))))
        label = ""


def _failures(failures: object) -> Iterator[Row]:
    label = "failures"
    for failure in failures if isinstance(failures, list) else ():
        if not isinstance(failure, Mapping):
            continue
        last = _told("last {} ago", _span(failure.get("last_seconds")))
        yield label, _listed(f"{failure.get('count')} {failure.get('category')}", failure.get("meaning"), last)
        label = ""


def _others(rest: Json) -> Iterator[Row]:
    """Show what this module has no words for."""
    for name, value in rest.items():
        if value not in (None, {}, []):
            yield name.replace("_", " "), _anything(value)


def _anything(value: object) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_anything(inner)}" for name, inner in value.items())
    if isinstance(value, list):
        return "; ".join(map(_anything, value)) or "none"
    return str(value)


# --- lines ----------------------------------------------------------------------------------------------------


def laid_out(rows: Iterable[Row], width: int) -> Iterator[str]:
    """Lay rows out in so many columns."""
    room = max(width, NARROWEST) - LABEL
    for label, text in rows:
        first, *more = textwrap.wrap(_plain(text), room, break_on_hyphens=False) or [""]
        # A label too long for its column has a line of its own.
        if len(label) >= LABEL:
            yield _plain(label)
            label = ""
        yield f"{_plain(label):{LABEL}}{first}"
        yield from (" " * LABEL + line for line in more)


def _plain(text: str) -> str:
    """Take out what would steer a terminal."""
    return "".join(character if character.isprintable() else " " for character in text)


def _times(pace: Pace) -> Iterator[str]:
    if pace.upstream_ms is not None:
        yield f"Talon.One {pace.upstream_ms:.1f} ms"
    if pace.overhead_ms is not None:
        yield f"the proxy {pace.overhead_ms:.2f} ms"


def _listed(*parts: object) -> str:
    return ", ".join(str(part) for part in parts if part is not None)


def _told(words: str, value: object) -> str | None:
    return None if value is None else words.format(value)


def _count(value: object) -> str | None:
    return f"{value:,}" if isinstance(value, int) else None if value is None else str(value)


def _span(seconds: object) -> str | None:
    """Tell how long something is in its two largest units."""
    if not isinstance(seconds, int | float):
        return None
    whole = int(seconds)
    units = [(whole // 86400, "d"), (whole // 3600 % 24, "h"), (whole // 60 % 60, "min"), (whole % 60, "s")]
    while len(units) > 1 and not units[0][0]:
        del units[0]
    return " ".join(f"{count} {unit}" for count, unit in units[:2])


# --- reading --------------------------------------------------------------------------------------------------


def _take(rest: dict[str, object], name: str) -> dict[str, object]:
    """Take a section out; one that is not a section stays, and is shown as it is."""
    value = rest.get(name)
    if not isinstance(value, Mapping):
        return {}
    del rest[name]
    return dict(value)


def _section(status: Json, name: str) -> Json:
    value = status.get(name)
    return value if isinstance(value, Mapping) else _NOTHING


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _number(section: Json, name: str) -> float:
    value = section.get(name)
    return value if isinstance(value, int | float) else 0.0


def fitting(lines: Sequence[str], height: int) -> Sequence[str]:
    """Give the lines that a terminal of this height can show and draw over again."""
    return lines if len(lines) < height else [*lines[: max(height - 2, 0)], "…"]
