"""Attributes must be declared before they are sent, and have the declared type; all that are wrong are told at once."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from proxy.simulator import checks
from proxy.simulator.problems import INVALID, Problem

Declared = Mapping[str, Mapping[str, str]]


def check(declared: Declared, *sent: tuple[str, Mapping[str, Any], str]) -> None:
    """Check attributes, given as entity, values and pointer; raise one Problem for all that are wrong."""
    if errors := [error for entity, values, pointer in sent for error in _wrong(declared, entity, values, pointer)]:
        raise Problem(400, INVALID, errors)


def check_session(declared: Declared, content: Mapping[str, Any]) -> None:
    """Check those of a session and of its cart items."""
    sent = [("CustomerSession", content.get("attributes", {}), "/attributes")]
    if "CartItem" in declared:
        items: Sequence[Mapping[str, Any]] = content.get("cartItems", ())
        sent += [
            ("CartItem", item.get("attributes") or {}, f"/cartItems/{position}/attributes")
            for position, item in enumerate(items)
        ]
    check(declared, *sent)


def _wrong(declared: Declared, entity: str, values: Mapping[str, Any], pointer: str) -> Iterator[dict[str, Any]]:
    types = declared.get(entity)
    if types is None:
        return
    for name, value in values.items():
        place = f"{pointer}/{name.replace('~', '~0').replace('/', '~1')}"
        if name not in types:
            details = f"{entity} has no attribute of this name; rule books declare them in [[attributes]]"
            yield {"title": "Unknown", "details": details, "source": {"pointer": place}}
        # null takes a value away, whatever its type.
        elif value is not None and not _TYPES[types[name]](value):
            yield {"title": "Invalid type", "details": f"must be {types[name]}", "source": {"pointer": place}}


def _number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _time(value: object) -> bool:
    return isinstance(value, str) and checks.timestamp(value) is not None


def _location(value: object) -> bool:
    return isinstance(value, dict) and _number(value.get("latitude")) and _number(value.get("longitude"))


def _text(value: object) -> bool:
    return isinstance(value, str)


def _list_of(check_item: Callable[[object], bool]) -> Callable[[object], bool]:
    return lambda value: isinstance(value, list) and all(map(check_item, value))


_TYPES: dict[str, Callable[[object], bool]] = {
    "string": _text,
    "number": _number,
    "boolean": lambda value: isinstance(value, bool),
    "time": _time,
    "location": _location,
    "(list string)": _list_of(_text),
    "(list number)": _list_of(_number),
    "(list time)": _list_of(_time),
}
