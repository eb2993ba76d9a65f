"""The inventory: what a shop sends and gets, by name, so that it can be listed. Pure."""

import re
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any, Final, NamedTuple

from proxy.talon.checklist import names
from proxy.talon.checklist.answers import error_name, rejections
from proxy.talon.checklist.facts import Facts, props
from proxy.talon.checklist.past import SESSION_WRITES, STATES, Past


class Note(NamedTuple):
    """One thing that was met. `kind` is a list of the inventory."""

    kind: str
    name: str
    seconds: float = 0.0


_ENTITIES: Mapping[str, str] = {
    "updateCustomerSessionV2": "CustomerSession",
    "updateCustomerSession": "CustomerSession",
    "updateCustomerProfileV2": "CustomerProfile",
    "updateCustomerProfilesV2": "CustomerProfile",
    "updateCustomerProfile": "CustomerProfile",
    "trackEventV2": "Event",
    "trackEventV3": "Event",
    "trackEvent": "Event",
}
_MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d")
UNKNOWN = "not known"  # of customers
MOST_ITEMS = 20  # of a cart, or profiles of an import, that are looked at
MOST_ATTRIBUTES = 50  # of one entity


def notes(facts: Facts, past: Past) -> Iterator[Note]:
    """Give what a call adds."""
    yield Note("callers", facts.caller.family)
    entity = _ENTITIES.get(facts.operation)
    if entity is not None:
        yield from _attributes(entity, facts.content)
    if facts.state and not facts.dry:
        yield Note("states", _state(facts))
    if facts.event:
        yield Note("events", names.name(facts.event))
    if facts.status >= 400 and facts.upstream:
        yield Note("errors", error_name(facts))
    if facts.operation in SESSION_WRITES and not facts.dry and not facts.unread:
        session = past.session(facts)
        before = "known from before" if session is not None and session.profile else UNKNOWN
        yield Note("customers", "named in the call" if facts.profile_named else before)
    # One answer that several calls shared is one.
    if facts.reply is not None and not facts.timeline.joined:
        yield from _effects(facts)


def _state(facts: Facts) -> str:
    state = facts.content.get("state", "(none)")
    return state if state in _STATES else "(not a state)"


_STATES = ("(none)", *STATES)


def _attributes(entity: str, content: Mapping[str, Any]) -> Iterator[Note]:
    # Each once a call, for the items of a cart have the same.
    met = dict.fromkeys(_of(entity, content.get("attributes")))
    met.update(dict.fromkeys(_of_items("CartItem", content.get("cartItems"))))
    met.update(dict.fromkeys(_of_items(entity, content.get("customerProfiles"))))
    for owner, name, kind in met:
        yield Note("attributes", f"{owner}.{names.name(name)}: {kind}")


def _of_items(owner: str, items: object) -> Iterator[tuple[str, str, str]]:
    if isinstance(items, list):
        for item in items[:MOST_ITEMS]:
            if isinstance(item, dict):
                yield from _of(owner, item.get("attributes"))


def _of(owner: str, attributes: object) -> list[tuple[str, str, str]]:
    if not isinstance(attributes, dict):
        return []
    return [(owner, name, _type(value)) for name, value in islice(attributes.items(), MOST_ATTRIBUTES)]


_TYPES: Final[Mapping[type, str]] = {bool: "boolean", int: "number", float: "number", type(None): "null"}


def _type(value: object) -> str:
    """Name the type as the Campaign Manager does."""
    if isinstance(value, str):
        return "time" if _MOMENT.match(value) else "string"
    if isinstance(value, list):
        first = value[0] if value else ""
        return "object" if isinstance(first, list) else f"(list {_type(first)})"
    if isinstance(value, dict):
        return "location" if "latitude" in value else "object"
    return _TYPES[type(value)]


def _effects(facts: Facts) -> Iterator[Note]:
    for effect in facts.effects:
        kind = names.name(effect.get("effectType"))
        yield Note("effects", kind)
        if kind == "customEffect":
            yield Note("custom effects", names.name(props(effect).get("name")))
    for reason in rejections(facts):
        yield Note("rejections", reason)
