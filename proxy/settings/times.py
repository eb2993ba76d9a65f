"""Kinds of times: how long (`Duration`, in seconds) and when (`Moment` and `Day`, in UTC)."""

import re
from collections.abc import Callable
from datetime import UTC, date, datetime, time
from typing import Annotated

from proxy.settings.kinds import Kind

DURATION = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)(ms|s|min|h)")
SECONDS = {"ms": 0.001, "s": 1.0, "min": 60.0, "h": 3600.0}


def _duration(*, zero: bool) -> Callable[[object], float]:
    def read(value: object) -> float:
        match = DURATION.fullmatch(value) if isinstance(value, str) else None
        if match is None:
            raise ValueError('needs a number with a unit: "250ms", "10s", "5min" or "1h"')
        number, unit = float(match[1]), match[2]
        seconds = number / 1000 if unit == "ms" else number * SECONDS[unit]
        if seconds == 0 and not zero:
            raise ValueError("must be longer than zero")
        return seconds

    return read


def print_duration(seconds: float) -> str:
    """Give the shortest spelling in the largest unit that divides it: `1h`, `90s`, `250ms`."""
    for unit in ("h", "min", "s"):
        if seconds and seconds % SECONDS[unit] == 0:
            return f"{seconds / SECONDS[unit]:.0f}{unit}"
    return f"{round(seconds * 1000, 6):.15g}ms" if seconds else "0s"


MOMENT = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,6})?(Z|[+-][0-9]{2}:[0-9]{2})")
DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")


def _moment(value: object) -> datetime:
    """Read RFC 3339, as a text or as TOML has it. Without an offset it would be another moment on another machine."""
    if isinstance(value, str) and MOMENT.fullmatch(value):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            raise ValueError("is not a moment of any calendar") from None
    if not isinstance(value, datetime) or value.tzinfo is None:
        raise ValueError('needs a moment with its offset: "2027-03-31T03:00:00Z" or "2027-03-31T05:00:00+02:00"')
    try:
        return value.astimezone(UTC)
    except OverflowError:
        raise ValueError("is not a moment of any calendar") from None


def _day(value: object) -> datetime:
    if isinstance(value, str) and DAY.fullmatch(value):
        try:
            value = date.fromisoformat(value)
        except ValueError:
            raise ValueError("is not a day of any calendar") from None
    if isinstance(value, date) and not isinstance(value, datetime):
        return datetime.combine(value, time(), UTC)
    try:
        return _moment(value)
    except ValueError as problem:
        raise ValueError(str(problem).replace("needs a moment", 'needs a day, "2027-03-31", or a moment')) from None


def print_moment(moment: datetime) -> str:
    """Give RFC 3339 in UTC."""
    return moment.isoformat().replace("+00:00", "Z")


def print_day(moment: datetime) -> str:
    """Give the day alone where it is meant from its beginning."""
    return moment.date().isoformat() if moment.time() == time() else print_moment(moment)


_DURATION = {"type": "string", "pattern": f"^{DURATION.pattern}$"}

Duration = Annotated[float, Kind("duration", _duration(zero=False), print_duration, schema=_DURATION)]
DurationOrZero = Annotated[float, Kind("duration", _duration(zero=True), print_duration, schema=_DURATION)]
Moment = Annotated[
    datetime | None, Kind("moment", _moment, print_moment, schema={"type": "string", "format": "date-time"})
]
Day = Annotated[
    datetime | None,
    Kind(
        "day or moment",
        _day,
        print_day,
        schema={"type": "string", "anyOf": [{"format": "date"}, {"format": "date-time"}]},
    ),
]
