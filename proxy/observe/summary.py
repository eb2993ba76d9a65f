"""The summary: what `/status` says, in words. Pure.

One headline, what speaks for it, and the answers to three questions: who takes the time, is a key about to expire,
and how many conflicts were avoided. Whoever reads only that knows what to do next.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from enum import Enum
from typing import Any, NamedTuple

Status = Mapping[str, Any]

EXPIRES_SOON = 14  # days, as deploy/prometheus/alerts.yml warns
MANY_FAIL, SOME_FAIL = 0.5, 0.05  # shares of the calls of the last minute
FEW = 5  # failed calls that say little
ENOUGH = 20  # calls whose average says something
SLOW_TALON_ONE = 0.5  # seconds on average
SLOW_PROXY = 0.01
SHORTEST = 0.00005  # seconds worth a word


class Level(Enum):
    """How it stands, the worst last."""

    OK = "ok"
    IDLE = "idle"
    ATTENTION = "attention"
    BROKEN = "broken"


class Finding(NamedTuple):
    """What stands out."""

    level: Level
    headline: str
    reason: str


class Times(NamedTuple):
    """What an average call of the last minute took, in seconds; Talon.One's part of those that were sent."""

    talon_one: float
    in_line: float
    connecting: float
    proxy: float


class Answer(NamedTuple):
    """The answer to a question, short and with what is behind it."""

    short: str
    more: str


def summary(status: Status, now: datetime) -> Mapping[str, object]:
    """Sum up a status."""
    findings = sorted(_findings(status, now), key=lambda finding: -list(Level).index(finding.level))
    level = findings[0].level if findings else Level.OK
    calm = "All is well" if status["last_minute"]["answered"] else "All is well; no call came in the last minute"
    return {
        "level": level.value,
        "headline": findings[0].headline if findings else calm,
        "reasons": [*(finding.reason for finding in findings), *_pulse(status["last_minute"])],
        "time": _time(status["last_minute"])._asdict(),
        "keys": _keys(status, now)._asdict(),
        "conflicts": _conflicts(status)._asdict(),
    }


def _pulse(recent: Status) -> Iterator[str]:
    if recent["answered"] and not _failing(recent):
        rate = recent["answered"] / max(recent["seconds"], 1.0)
        failed = f"{recent['failed']:,}" if recent["failed"] else "none"
        speed = f"{rate:,.{0 if rate >= 100 else 1}f}"
        yield f"In the last minute {speed} calls a second were answered, {failed} of them with a 5xx."


def _failing(recent: Status) -> bool:
    """Tell whether so many calls fail that it matters: all of few, or a share of many."""
    failed, answered = recent["failed"], recent["answered"]
    return bool(failed) and (failed == answered or (failed >= FEW and failed >= SOME_FAIL * answered))


# --- what stands out ------------------------------------------------------------------------------------------


def _findings(status: Status, now: datetime) -> Iterator[Finding]:
    yield from _of_stage(status)
    yield from _of_upstream(status)
    yield from _of_calls(status["last_minute"])
    yield from _of_keys(status, now)
    yield from _of_settings(status)


def _of_stage(status: Status) -> Iterator[Finding]:
    stage = status["stage"]
    if stage != "serving":
        headline = "This proxy is shutting down" if stage == "draining" else f"This proxy is {stage}"
        under_way = status["downstream"]["in_flight"]
        yield Finding(Level.ATTENTION, headline, f"Callers are sent elsewhere; {_some(under_way, 'call')} under way.")
    elif not status["calls"]["answered"] and not status["downstream"]["in_flight"]:
        where = " or ".join(_address(address) for address in status["downstream"]["listen"])
        yield Finding(Level.IDLE, "No call has come yet", f"Point the base URL of your SDK at {where}.")


def _address(address: str) -> str:
    return address if address.startswith("unix:") else f"http://{address}"


def _of_upstream(status: Status) -> Iterator[Finding]:
    circuit, upstream = status["traffic"]["circuit"], status["upstream"]
    if circuit["state"] != "closed":
        yield Finding(
            Level.BROKEN,
            "Talon.One cannot be reached",
            f"For {span(circuit['since_seconds'])} calls have been refused at once, and one a second is let through to"
            f" see whether it is over. {upstream.get('unreachable') or 'Last error: ' + circuit['last_error']}.",
        )
    elif "unreachable" in upstream:
        some = upstream["connections"]["active"] + upstream["connections"]["idle"]
        yield Finding(
            Level.ATTENTION if some else Level.BROKEN,
            "Connections to Talon.One cannot be opened" if some else "Talon.One cannot be reached",
            f"{upstream['unreachable']}.",
        )
    if upstream["name"]["failing"]:
        yield Finding(
            Level.ATTENTION,
            "The name of Talon.One's host is not found now",
            f"{upstream['name']['host']} cannot be looked up; the addresses known from before are used.",
        )
    if "moved" in upstream:
        yield Finding(Level.ATTENTION, "Talon.One may have moved", f"{upstream['moved']['advice']}.")


def _of_calls(recent: Status) -> Iterator[Finding]:
    answered, failed = recent["answered"], recent["failed"]
    if _failing(recent):
        many = failed >= MANY_FAIL * answered
        yield Finding(
            Level.BROKEN if many else Level.ATTENTION,
            "Most calls fail" if many else "Some calls fail",
            f"In the last minute {failed:,} of {_some(answered, 'call')} ended with a 5xx; what failed is listed.",
        )
    if recent["unknown"]:
        yield Finding(
            Level.ATTENTION,
            "Of some calls nobody knows whether they were executed",
            f"In the last minute {_some(recent['unknown'], 'call')} ended with an unknown outcome: look at the order"
            " before it is repeated.",
        )
    if recent["conflicts_returned"]:
        yield Finding(
            Level.ATTENTION,
            "Conflicts reach the shop",
            f"In the last minute {_some(recent['conflicts_returned'], '409')} came back, although they were tried"
            " again: somebody else updates the same sessions or profiles, past this proxy.",
        )
    yield from _of_times(recent)


def _of_times(recent: Status) -> Iterator[Finding]:
    times = times_of(recent)
    if times is None or recent["exchanges"] < ENOUGH:
        return
    if times.talon_one >= SLOW_TALON_ONE:
        yield Finding(
            Level.ATTENTION,
            "Talon.One is slow",
            f"It takes {_milliseconds(times.talon_one)} for a call on average.",
        )
    if times.proxy >= SLOW_PROXY:
        yield Finding(
            Level.ATTENTION,
            "This proxy is slow",
            f"It adds {_milliseconds(times.proxy)} to a call: too little CPU, or too many calls for one process.",
        )


def _of_keys(status: Status, now: datetime) -> Iterator[Finding]:
    for name, days in _days_left(status, now):
        if days < 0:
            yield Finding(Level.BROKEN, "A key has expired", f"The key of {name} expired {_day(status, name)}.")
        elif days < EXPIRES_SOON:
            yield Finding(
                Level.ATTENTION,
                "A key expires soon",
                f"The key of {name} expires {_in(days)}: add its successor as next_api_key.",
            )
    recent = status["last_minute"]
    if recent["unauthorised"]:
        yield Finding(
            Level.BROKEN if recent["unauthorised"] >= MANY_FAIL * recent["answered"] else Level.ATTENTION,
            "Talon.One refuses a key",
            f"In the last minute {_some(recent['unauthorised'], 'call')} of {recent['answered']:,} got its 401.",
        )


def _of_settings(status: Status) -> Iterator[Finding]:
    if not status["reload"]["successful"]:
        yield Finding(
            Level.ATTENTION,
            "New settings could not be taken over",
            f"The ones before are in use. {status['reload'].get('reason', '')}".strip(),
        )
    if "override" in status["upstream"]:
        yield Finding(
            Level.ATTENTION,
            "The URL of Talon.One was set by hand",
            f"{status['upstream']['url']} is {status['upstream']['override']}.",
        )


# --- the three questions --------------------------------------------------------------------------------------


def _time(recent: Status) -> Answer:
    times = times_of(recent)
    if times is None:
        return Answer("Nobody knows yet", "No call went to Talon.One in the last minute.")
    whole = times.talon_one + times.in_line + times.connecting + times.proxy
    parts = [f"Talon.One {_milliseconds(times.talon_one)}"]
    if times.in_line >= SHORTEST:
        parts.append(f"waiting in line {_milliseconds(times.in_line)}")
    if times.connecting >= SHORTEST:
        parts.append(f"waiting for a connection {_milliseconds(times.connecting)}")
    parts.append(f"the proxy itself {_milliseconds(times.proxy)}")
    slowest = recent.get("slowest_seconds")
    tail = f" 99 of 100 calls took Talon.One at most {_milliseconds(slowest)}." if slowest else ""
    return Answer(
        _blame(times), f"In the last minute a call took {_milliseconds(whole)} on average: {', '.join(parts)}.{tail}"
    )


def _blame(times: Times) -> str:
    parts = {
        f"Talon.One takes {_milliseconds(times.talon_one)}, we add {_milliseconds(times.proxy)}": times.talon_one,
        "Neither: writes of the same session or profile wait for each other": times.in_line,
        "We are: calls wait for connections to Talon.One": times.connecting,
        f"We are: the proxy adds {_milliseconds(times.proxy)}": times.proxy,
    }
    return max(parts, key=parts.__getitem__)


def times_of(recent: Status) -> Times | None:
    """Give what an average call took; None where none was sent."""
    exchanges = recent["exchanges"]
    calls = exchanges + recent["coalesced"]
    if not exchanges:
        return None
    return Times(
        recent["upstream_seconds"] / exchanges,
        recent["lane_seconds"] / calls,
        recent["pool_seconds"] / calls,
        # Of calls that failed before they were sent the wait for a connection counts, and nothing else.
        max(recent["overhead_seconds"] - recent["pool_seconds"], 0.0) / calls,
    )


def _keys(status: Status, now: datetime) -> Answer:
    keys, left = status["keys"], _days_left(status, now)
    if not keys:
        return Answer("There is none", "No key is configured: callers bring their own.")
    told = [
        f"The key of {name} {'expires' if days >= 0 else 'expired'} on {_day(status, name)}, {_in(days)}."
        for name, days in left
    ]
    silent = [name for name in keys if name not in status["expiries"]]
    if silent:
        told.append(
            f"Of {', '.join(silent)} it is not known here: set applications.<name>.expires to the day that the Campaign"
            " Manager shows."
        )
    return Answer(_soonest(left, all_known=not silent), " ".join(told))


def _soonest(left: Sequence[tuple[str, int]], *, all_known: bool) -> str:
    name, days = left[0] if left else ("", EXPIRES_SOON)
    if days < 0:
        return f"Yes: that of {name} is over"
    if days < EXPIRES_SOON:
        return f"Yes: that of {name} {_in(days)}"
    return "No" if all_known else "Not that we know"


def _conflicts(status: Status) -> Answer:
    traffic = status["traffic"]
    resolved, returned = (sum(traffic["conflicts"][outcome].values()) for outcome in ("resolved", "returned"))
    many = "So many writes" if traffic["conflicts_avoided"] else "No write"
    told = [f"{many} came while three or more of the same session or profile were unfinished."]
    if resolved:
        told.append(f"{_some(resolved, 'conflict')} came all the same, and went away when the call was tried again.")
    told.append(f"{_some(returned, '409')} reached the shop." if returned else "No 409 reached the shop.")
    return Answer(
        f"At most {traffic['conflicts_avoided']:,}, since the start {span(status['uptime_seconds'])} ago",
        " ".join(told),
    )


def _days_left(status: Status, now: datetime) -> list[tuple[str, int]]:
    """Give whole days until keys expire, the first to expire first; negative once they have."""
    return sorted(
        ((name, int((_moment(text) - now).total_seconds() // 86400)) for name, text in status["expiries"].items()),
        key=lambda pair: pair[1],
    )


def _day(status: Status, name: str) -> str:
    moment = _moment(status["expiries"][name])
    return f"{moment.day} {moment:%B %Y}"


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


def _in(days: int) -> str:
    if days < 0:
        return "a day ago" if days == -1 else f"{-days} days ago"
    return {0: "within a day", 1: "in a day"}.get(days, f"in {days} days")


# --- words ----------------------------------------------------------------------------------------------------


def _some(count: float, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def _milliseconds(seconds: float) -> str:
    number = seconds * 1000
    return f"{number:.{0 if number >= 100 else 1 if number >= 10 else 2}f} ms"


def span(seconds: float) -> str:
    """Tell how long something is in its two largest units."""
    whole = round(seconds)
    units = [(whole // 86400, "d"), (whole // 3600 % 24, "h"), (whole // 60 % 60, "min"), (whole % 60, "s")]
    while len(units) > 1 and not units[0][0]:
        del units[0]
    return " ".join(f"{count} {unit}" for count, unit in units[:2])
