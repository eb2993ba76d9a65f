"""Records: what a proxy has counted, as its file says it. Pure.

Files come from other proxies, other versions and other hands: `check` gives one that can be added up, judged and
shown as it is, in XML too.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

from proxy.talon.checklist.rule import Verdict

FORMAT: Final = 1
LONGEST: Final = 1_000  # characters of a text
LAST_MOMENT: Final = 253_402_300_799  # of the year 9999, as Unix time
Json = Mapping[str, Any]


class NotARecord(Exception):
    """What was given is not what a proxy tells; the text says why."""


def check(record: object) -> Json:
    """Give a record that can be judged. Raises NotARecord."""
    if not isinstance(record, dict) or record.get("format") != FORMAT:
        raise NotARecord(f"it is not the checklist of a proxy that writes format {FORMAT}")
    if not record.get("proxies"):
        raise NotARecord("it has no proxies")
    for name, shape in _RECORD.items():
        if not _fits(record, {name: shape}):
            raise NotARecord(f"its {name} are not as a proxy of this version writes them")
    return record


def check_judged(record: object) -> Json:
    """Give a record with its verdicts. Raises NotARecord."""
    found = check(record)
    if not _fits(found, {"rules": [{"id": _text, "verdict": _verdict}]}):
        raise NotARecord("its rules are not as `talon-proxy checklist --format json` writes them")
    return found


def _text(value: object) -> bool:
    # What can be printed has no place for control characters, which XML does not take in any form.
    return isinstance(value, str) and len(value) <= LONGEST and value.isprintable()


def _number(value: object) -> bool:
    # NaN and infinity, which Python reads in JSON, are in no range.
    return isinstance(value, int | float) and 0 <= value < 1e15


def _integer(value: object) -> bool:
    return isinstance(value, int) and -1e15 < value < 1e15


def _moment(value: object) -> bool:
    return isinstance(value, int | float) and 0 <= value <= LAST_MOMENT


def _moment_or_none(value: object) -> bool:
    return value is None or _moment(value)


def _text_or_none(value: object) -> bool:
    return value is None or _text(value)


def _verdict(value: object) -> bool:
    return value in [verdict.value for verdict in Verdict]


def _fits(value: object, shape: object) -> bool:
    """Whether it has this shape: a test; a list of such; a row of these; a map with these, or by any name (`...`)."""
    match shape:
        case list():
            return isinstance(value, list) and all(_fits(each, shape[0]) for each in value)
        case tuple():
            return (
                isinstance(value, list)
                and len(value) == len(shape)
                and all(_fits(each, wanted) for each, wanted in zip(value, shape, strict=True))
            )
        case dict() if ... in shape:
            return isinstance(value, dict) and all(
                _text(name) and _fits(each, shape[...]) for name, each in value.items()
            )
        case dict():
            return isinstance(value, dict) and all(
                name in value and _fits(value[name], wanted) for name, wanted in shape.items()
            )
    test: Callable[[object], bool] = shape  # type: ignore[assignment]
    return test(value)


_ROW = (_number, _number, _moment, _moment)
_NUMBERS = ("looked_at", "waiting", "thinned", "dropped", "sessions", "sent", "turned_away", "conflicts_avoided")
_PROXY = {
    **dict.fromkeys(_NUMBERS, _number),
    "name": _text,
    "since": _moment,
    "seconds": _number,
    "hindrances": [_text],
}
_TALLY = {
    "checked": _number,
    "broken": _number,
    "first": _moment_or_none,
    "last": _moment_or_none,
    "groups": [(_text, _text, _text, _number)],
    "examples": [_text],
    "names": {...: _ROW},
}
_RECORD = {
    "taken": _moment,
    "hashes": _text_or_none,
    "proxies": [_PROXY],
    "tallies": {...: _TALLY},
    "inventory": {...: {...: _ROW}},
    "counts": {...: (_integer, _integer, _integer, _integer)},
    "acknowledged": {...: _text},
    "effects_handled": [_text],
}
