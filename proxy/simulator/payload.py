"""Payloads are the bodies of calls, checked as far as Talon.One's published schema allows.

A property that is null counts as absent, as it does for a Go program like Talon.One. Attributes are not
checked against definitions: a simulated Talon.One knows none, so every attribute exists.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import orjson

from proxy.simulator.problems import Problem, invalid

MAX_CART_ITEMS = 1000
MAX_QUANTITY = 10_000
MAX_AMOUNT = 1e12  # keeps sums finite, which Talon.One's schema does not ask for
Sized = TypeVar("Sized", str, list[Any])

STATES = ("open", "closed", "partially_returned", "cancelled")

_OF_EVERY_CALL = {"customerProfile", "loyalty", "triggeredCampaigns", "event", "awardedGiveaways"}
_OF_RULES = _OF_EVERY_CALL | {"achievements", "ruleFailureReasons", "campaignEligibility"}
SESSION_CONTENT = _OF_RULES | {"customerSession", "coupons", "referral", "previousReturns"}
PROFILE_CONTENT = _OF_RULES
EVENT_CONTENT = _OF_RULES


@dataclass(frozen=True, slots=True)
class SessionUpdate:
    """What a session PUT says; `state` and `profile` are None where it says nothing of them."""

    content: Mapping[str, Any]
    state: str | None
    profile: str | None
    wanted: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ProfileUpdate:
    """What a profile PUT says."""

    attributes: Mapping[str, Any]
    wanted: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TrackedEvent:
    """What an event says; an empty `profile` is anonymous."""

    type: str
    profile: str
    session: str
    attributes: Mapping[str, Any]
    wanted: tuple[str, ...]


def session_update(body: bytes) -> SessionUpdate:
    """Read the body of PUT /v2/customer_sessions/{id}."""
    document = _document(body)
    if "customerSession" not in document:
        raise invalid("required", "customerSession is required", pointer="/customerSession")
    session = _present(_object(document["customerSession"], "/customerSession"))
    profile = session.get("profileId")
    return SessionUpdate(
        content={name: check(session[name], f"/{name}") for name, check in _CONTENT.items() if name in session},
        state=_state(session.get("state")),
        profile=None if profile is None else _text(profile, "/profileId"),
        wanted=_wanted(document, SESSION_CONTENT),
    )


def profile_update(body: bytes) -> ProfileUpdate:
    """Read the body of PUT /v2/customer_profiles/{id}; an empty one changes nothing."""
    document = _document(body or b"{}")
    # Checked but not kept: no audience exists here.
    _object(document.get("audiencesChanges", {}), "/audiencesChanges")
    return ProfileUpdate(
        attributes=_object(document.get("attributes", {}), "/attributes"),
        wanted=_wanted(document, PROFILE_CONTENT),
    )


def tracked_event(body: bytes) -> TrackedEvent:
    """Read the body of POST /v2/events."""
    document = _document(body)
    kind = _text(document.get("type", ""), "/type")
    if not kind:
        raise invalid("required", "type is required", pointer="/type")
    if kind.startswith("talon_"):
        raise invalid("Invalid value", "this event name is reserved", pointer="/type")
    return TrackedEvent(
        type=kind,
        profile=_text(document.get("profileId", ""), "/profileId"),
        session=_text(document.get("sessionId", ""), "/sessionId"),
        attributes=_object(document.get("attributes", {}), "/attributes"),
        wanted=_wanted(document, EVENT_CONTENT),
    )


def _document(body: bytes) -> dict[str, Any]:
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        entry = {"title": "Malformed JSON", "details": "the body is not JSON", "source": {"pointer": ""}}
        raise Problem(400, "The request body could not be parsed", [entry]) from error
    return _present(_object(document, ""))


def _present(document: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in document.items() if value is not None}


def _wanted(document: Mapping[str, Any], known: set[str]) -> tuple[str, ...]:
    wanted = _texts(document.get("responseContent", []), "/responseContent")
    for name in wanted:
        if name not in known:
            raise invalid("enum", f"must be one of {', '.join(sorted(known))}", pointer="/responseContent")
    return tuple(wanted)


def _state(value: object) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str) or value not in STATES:
        raise invalid("enum", f"must be one of {', '.join(STATES)}", pointer="/state")
    return value


def _object(value: object, pointer: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _wrong_type("an object", pointer)
    return value


def _text(value: object, pointer: str) -> str:
    if not isinstance(value, str):
        raise _wrong_type("a string", pointer)
    return value


def _array(value: object, pointer: str) -> list[Any]:
    if not isinstance(value, list):
        raise _wrong_type("an array", pointer)
    return value


def _texts(value: object, pointer: str) -> list[str]:
    return [_text(item, f"{pointer}/{index}") for index, item in enumerate(_array(value, pointer))]


def _check_number(value: object, pointer: str) -> None:
    # bool is an int to Python, but not to JSON.
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _wrong_type("a number", pointer)
    if abs(value) > MAX_AMOUNT:
        raise invalid("maximum", "the amount is too large", pointer=pointer)


def _check_whole(value: object, pointer: str) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise _wrong_type("an integer", pointer)
    if value < 1:
        raise invalid("minimum", "must be at least 1", pointer=pointer)


def _short_text(value: object, pointer: str) -> str:
    return _at_most(100, _text(value, pointer), pointer)


def _name(value: object, pointer: str) -> str:
    if not _text(value, pointer):
        raise invalid("minLength", "must not be empty", pointer=pointer)
    return _at_most(1000, str(value), pointer)


def _coupon_codes(value: object, pointer: str) -> list[str]:
    return [_short_text(code, f"{pointer}/{index}") for index, code in enumerate(_array(value, pointer))]


def _identifiers(value: object, pointer: str) -> list[str]:
    return _at_most(5, _texts(value, pointer), pointer)


def _loyalty_cards(value: object, pointer: str) -> list[str]:
    return _at_most(1, _texts(value, pointer), pointer)


def _costs(value: object, pointer: str) -> dict[str, Any]:
    costs = _object(value, pointer)
    for name, cost in costs.items():
        _check_number(_object(cost, f"{pointer}/{name}").get("price"), f"{pointer}/{name}/price")
    return costs


def _cart_items(value: object, pointer: str) -> list[Any]:
    items = _at_most(MAX_CART_ITEMS, _array(value, pointer), pointer)
    quantity = 0
    for index, item in enumerate(items):
        if not _plain_item(item):
            _check_item(item, f"{pointer}/{index}")
        quantity += item["quantity"]
    if quantity > MAX_QUANTITY:
        raise invalid("maximum", f"all quantities together exceed {MAX_QUANTITY}", pointer=pointer)
    return items


def _plain_item(item: object) -> bool:
    """Whether an item is what nearly all are. Carts are long, and the words of a complaint are seldom needed."""
    return (
        type(item) is dict
        and type(sku := item.get("sku")) is str
        and sku != ""
        and type(quantity := item.get("quantity")) is int
        and quantity >= 1
        and type(price := item.get("price", "")) in (int, float)
        and abs(price) <= MAX_AMOUNT
    )


def _check_item(value: object, pointer: str) -> None:
    item = _object(value, pointer)
    if not _text(item.get("sku", ""), f"{pointer}/sku"):
        raise invalid("required", "sku is required", pointer=f"{pointer}/sku")
    if item.get("price") is not None:
        _check_number(item["price"], f"{pointer}/price")
    _check_whole(item.get("quantity"), f"{pointer}/quantity")


def _at_most(limit: int, value: Sized, pointer: str) -> Sized:
    if len(value) > limit:
        raise invalid("maximum", f"longer than {limit}", pointer=pointer)
    return value


def _wrong_type(expected: str, pointer: str) -> Problem:
    return invalid("Invalid type", f"must be {expected}", pointer=pointer)


_CONTENT: dict[str, Callable[[object, str], Any]] = {
    "cartItems": _cart_items,
    "couponCodes": _coupon_codes,
    "referralCode": _short_text,
    "additionalCosts": _costs,
    "identifiers": _identifiers,
    "loyaltyCards": _loyalty_cards,
    "storeIntegrationId": _name,
    "attributes": _object,
}
