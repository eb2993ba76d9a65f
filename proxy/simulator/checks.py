"""Checks of what a caller sent: each takes a JSON value and where it stands, and gives it back or raises a 400.

Pointers are relative to the session, profile or event. A property that is null counts as absent, as it does for a Go
program like Talon.One.
"""

from collections.abc import Callable, Collection, Mapping
from datetime import UTC, datetime
from typing import Any, TypeVar

import orjson

from proxy.simulator.problems import Problem, invalid

MAX_AMOUNT = 1e12  # keeps sums finite, which Talon.One's schema does not ask for
# Answers nest what was sent a few levels deeper, and the JSON encoder gives up at 254.
MAX_DEPTH = 100
Sized = TypeVar("Sized", str, list[Any])
Value = TypeVar("Value")
Check = Callable[[object, str], Value]


def document(body: bytes) -> dict[str, Any]:
    """The JSON object of a body."""
    try:
        parsed = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        entry = {"title": "Malformed JSON", "details": "the body is not JSON", "source": {"pointer": ""}}
        raise Problem(400, "The request body could not be parsed", [entry]) from error
    # Nothing is nested deeper than it has brackets; few bodies have so many that it must be looked at.
    if body.count(b"[") + body.count(b"{") > MAX_DEPTH and _depth(parsed) > MAX_DEPTH:
        raise invalid("maximum", f"nested deeper than {MAX_DEPTH}", pointer="")
    return present(an_object(parsed, ""))


def present(values: Mapping[str, Any]) -> dict[str, Any]:
    """What is not null."""
    return {name: value for name, value in values.items() if value is not None}


def required(values: Mapping[str, Any], name: str, check: Check[Value], pointer: str = "") -> Value:
    """A property that must be there."""
    if values.get(name) is None:
        raise invalid("required", f"{name} is required", pointer=f"{pointer}/{name}")
    return check(values[name], f"{pointer}/{name}")


def optional(values: Mapping[str, Any], name: str, check: Check[Value], default: object, pointer: str = "") -> Value:
    """A property that may be absent; then it is as if `default` had been sent."""
    value = values.get(name)
    return check(default if value is None else value, f"{pointer}/{name}")


def maybe(values: Mapping[str, Any], name: str, check: Check[Value], pointer: str = "") -> Value | None:
    """A property that may be absent; then it is None."""
    value = values.get(name)
    return None if value is None else check(value, f"{pointer}/{name}")


def an_object(value: object, pointer: str) -> dict[str, Any]:
    """A JSON object."""
    if not isinstance(value, dict):
        raise wrong_type("an object", pointer)
    return value


def text(value: object, pointer: str) -> str:
    """A string."""
    if not isinstance(value, str):
        raise wrong_type("a string", pointer)
    return value


def short_text(value: object, pointer: str) -> str:
    """A string of at most 100 characters."""
    return at_most(100, text(value, pointer), pointer)


def name(value: object, pointer: str) -> str:
    """A string of 1 to 1000 characters."""
    if not text(value, pointer):
        raise invalid("minLength", "must not be empty", pointer=pointer)
    return at_most(1000, str(value), pointer)


def flag(value: object, pointer: str) -> bool:
    """true or false."""
    if not isinstance(value, bool):
        raise wrong_type("a boolean", pointer)
    return value


def array(value: object, pointer: str) -> list[Any]:
    """A JSON array."""
    if not isinstance(value, list):
        raise wrong_type("an array", pointer)
    return value


def texts(value: object, pointer: str) -> list[str]:
    """An array of strings."""
    return [text(item, f"{pointer}/{index}") for index, item in enumerate(array(value, pointer))]


def names(limit: int, least: int = 0) -> Check[list[str]]:
    """An array of `least` to `limit` names."""

    def check(value: object, pointer: str) -> list[str]:
        items = at_most(limit, array(value, pointer), pointer)
        if len(items) < least:
            raise invalid("minItems", f"fewer than {least}", pointer=pointer)
        return [name(item, f"{pointer}/{index}") for index, item in enumerate(items)]

    return check


def amount(value: object, pointer: str) -> float:
    """A number."""
    # bool is an int to Python, but not to JSON.
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise wrong_type("a number", pointer)
    if abs(value) > MAX_AMOUNT:
        raise invalid("maximum", "the amount is too large", pointer=pointer)
    return value


def whole(least: int) -> Check[int]:
    """An integer of at least so much."""

    def check(value: object, pointer: str) -> int:
        if isinstance(value, bool) or not isinstance(value, int):
            raise wrong_type("an integer", pointer)
        if value < least:
            raise invalid("minimum", f"must be at least {least}", pointer=pointer)
        if value > MAX_AMOUNT:
            raise invalid("maximum", "the number is too large", pointer=pointer)
        return value

    return check


def wholes(value: object, pointer: str) -> list[int]:
    """An array of integers."""
    check = whole(0)
    return [check(item, f"{pointer}/{index}") for index, item in enumerate(array(value, pointer))]


def one_of(allowed: Collection[str]) -> Check[str]:
    """One of a few words."""

    def check(value: object, pointer: str) -> str:
        if not isinstance(value, str) or value not in allowed:
            raise invalid("enum", f"must be one of {', '.join(allowed)}", pointer=pointer)
        return value

    return check


def moment(value: object, pointer: str) -> datetime:
    """An RFC 3339 timestamp."""
    parsed = timestamp(text(value, pointer))
    if parsed is None:
        raise wrong_type("an RFC 3339 timestamp", pointer)
    return parsed


def timestamp(written: str) -> datetime | None:
    """The moment of an RFC 3339 timestamp; a day alone is its start in UTC, as the API documents."""
    if not written[:4].isdigit() or len(written) < 10:
        return None
    try:
        parsed = datetime.fromisoformat(written)
        return parsed.replace(tzinfo=UTC) if parsed.tzinfo is None else parsed.astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def at_most(limit: int, value: Sized, pointer: str) -> Sized:
    """Something that is not longer than that."""
    if len(value) > limit:
        raise invalid("maximum", f"longer than {limit}", pointer=pointer)
    return value


def wrong_type(expected: str, pointer: str) -> Problem:
    """A value of another type was expected."""
    return invalid("Invalid type", f"must be {expected}", pointer=pointer)


def _depth(value: object) -> int:
    """How deep objects and arrays are nested; without recursion, since callers choose the depth."""
    depth = 0
    level = [value]
    while level := [one for one in level if isinstance(one, dict | list)]:
        depth += 1
        level = [inner for one in level for inner in (one.values() if isinstance(one, dict) else one)]
    return depth
