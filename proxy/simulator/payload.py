"""Payloads are the bodies of calls about sessions, customers and events, checked as far as the schema goes.

Whether attributes are declared is another question (`attributes`).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from proxy.simulator import checks
from proxy.simulator.checks import maybe, optional, required
from proxy.simulator.problems import invalid
from proxy.simulator.sessions import State

MAX_CART_ITEMS = 1000
MAX_QUANTITY = 10_000
MAX_BULK = 1000

_OF_RULES = frozenset(
    {"customerProfile", "triggeredCampaigns", "loyalty", "event", "awardedGiveaways", "ruleFailureReasons"}
    | {"campaignEligibility", "achievements"}
)
_OF_SESSION = frozenset({"customerSession", "coupons", "referral", "previousReturns"})
SESSION_CONTENT = _OF_RULES | _OF_SESSION
RETURN_CONTENT = _OF_SESSION | {"customerProfile", "triggeredCampaigns", "loyalty", "event"}
PROFILE_CONTENT = EVENT_CONTENT = _OF_RULES
ADVANCED_EVENT_CONTENT = _OF_RULES - {"event", "campaignEligibility", "achievements"} | {"advancedEvent"}


@dataclass(frozen=True, slots=True)
class SessionUpdate:
    """What a session PUT says; None where it says nothing. `campaigns` are for dry calls."""

    content: Mapping[str, Any]
    state: State | None = None
    profile: str | None = None
    wanted: tuple[str, ...] = ()
    campaigns: frozenset[int] | None = None


@dataclass(frozen=True, slots=True)
class ReturnedItem:
    """Units of the cart item at a position, or of those with a SKU."""

    quantity: int
    position: int | None
    sku: str


@dataclass(frozen=True, slots=True)
class ReturnRequest:
    """What a return says."""

    items: tuple[ReturnedItem, ...]
    wanted: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ProfileUpdate:
    """What a profile PUT says. `joins` and `leaves` are audiences."""

    attributes: Mapping[str, Any]
    joins: tuple[int, ...] = ()
    leaves: tuple[int, ...] = ()
    wanted: tuple[str, ...] = ()
    campaigns: frozenset[int] | None = None


@dataclass(frozen=True, slots=True)
class TrackedEvent:
    """What an event says; an empty `profile` is anonymous. `integration_id` is that of an advanced event."""

    type: str
    profile: str
    session: str = ""
    attributes: Mapping[str, Any] = field(default_factory=dict)
    wanted: tuple[str, ...] = ()
    campaigns: frozenset[int] | None = None
    card: str = ""
    integration_id: str = ""


@dataclass(frozen=True, slots=True)
class AudienceChange:
    """A customer joins (`adds`) or leaves an audience."""

    adds: bool
    profile: str
    audience: int


def session_update(body: bytes) -> SessionUpdate:
    """Read the body of PUT /v2/customer_sessions/{id}."""
    document = checks.document(body)
    session = checks.present(required(document, "customerSession", checks.an_object))
    return _session(session, _wanted(document, SESSION_CONTENT), _campaigns(session))


def legacy_session_update(body: bytes) -> SessionUpdate:
    """Read the body of PUT /v1/customer_sessions/{id}: the session itself, with one `coupon` and one `referral`."""
    session = checks.document(body)
    coupon = maybe(session, "coupon", checks.short_text)
    if coupon is not None:
        session["couponCodes"] = [coupon] if coupon else []
    referral = maybe(session, "referral", checks.short_text)
    if referral is not None:
        session["referralCode"] = referral
    return _session(session, (), None)


def returned_items(body: bytes) -> ReturnRequest:
    """Read the body of POST /v2/customer_sessions/{id}/returns."""
    document = checks.document(body)
    request = required(document, "return", checks.an_object)
    listed = checks.at_most(MAX_CART_ITEMS, required(request, "returnedCartItems", checks.array), "/returnedCartItems")
    items = tuple(_returned(item, f"/returnedCartItems/{index}") for index, item in enumerate(listed))
    return ReturnRequest(items, _wanted(document, RETURN_CONTENT))


def profile_update(body: bytes) -> ProfileUpdate:
    """Read the body of PUT /v2/customer_profiles/{id}; an empty one changes nothing."""
    document = checks.document(body or b"{}")
    changes = optional(document, "audiencesChanges", checks.an_object, {})
    return ProfileUpdate(
        attributes=optional(document, "attributes", checks.an_object, {}),
        joins=tuple(optional(changes, "adds", checks.wholes, [], "/audiencesChanges")),
        leaves=tuple(optional(changes, "deletes", checks.wholes, [], "/audiencesChanges")),
        wanted=_wanted(document, PROFILE_CONTENT),
        campaigns=_campaigns(document),
    )


def profile_updates(body: bytes) -> list[tuple[str, dict[str, Any]]]:
    """Read the body of PUT /v2/customer_profiles: integration ids and attributes."""
    listed = optional(checks.document(body), "customerProfiles", checks.array, [])
    updates = []
    for index, item in enumerate(checks.at_most(MAX_BULK, listed, "/customerProfiles")):
        pointer = f"/customerProfiles/{index}"
        profile = checks.an_object(item, pointer)
        profile_id = required(profile, "integrationId", checks.name, pointer)
        updates.append((profile_id, optional(profile, "attributes", checks.an_object, {}, pointer)))
    return updates


def tracked_event(body: bytes) -> TrackedEvent:
    """Read the body of POST /v2/events. Its profile is required, though the schema does not say so."""
    document = checks.document(body)
    required(document, "profileId", checks.name)
    return _event(document, _wanted(document, EVENT_CONTENT), session="sessionId")


def legacy_event(body: bytes) -> TrackedEvent:
    """Read the body of POST /v1/events."""
    return _event(checks.document(body), (), session="sessionId")


def advanced_event(body: bytes) -> TrackedEvent:
    """Read the body of POST /v3/events."""
    document = checks.document(body)
    required(document, "profileId", checks.name)
    required(document, "integrationId", checks.name)
    # SDKs of early 2026 write it with a capital D.
    document.setdefault("connectedSessionId", document.get("connectedSessionID"))
    return _event(document, _wanted(document, ADVANCED_EVENT_CONTENT), session="connectedSessionId")


def audience_changes(body: bytes) -> list[AudienceChange]:
    """Read the body of POST /v2/customer_audiences."""
    listed = optional(checks.document(body), "data", checks.array, [])
    action = checks.one_of(("add", "delete"))
    changes = []
    for index, item in enumerate(checks.at_most(MAX_BULK, listed, "/data")):
        pointer = f"/data/{index}"
        change = checks.an_object(item, pointer)
        adds = required(change, "action", action, pointer) == "add"
        profile = required(change, "profileIntegrationId", checks.name, pointer)
        changes.append(AudienceChange(adds, profile, required(change, "audienceId", checks.whole(0), pointer)))
    return changes


def attributes(body: bytes) -> dict[str, Any]:
    """Read the body of PUT /v2/audience_customers/{id}/attributes."""
    return checks.document(body)


def _session(session: Mapping[str, Any], wanted: tuple[str, ...], campaigns: frozenset[int] | None) -> SessionUpdate:
    return SessionUpdate(
        content={name: check(session[name], f"/{name}") for name, check in _CONTENT.items() if name in session},
        state=State(checks.one_of(tuple(State))(session["state"], "/state")) if "state" in session else None,
        profile=maybe(session, "profileId", checks.text),
        wanted=wanted,
        campaigns=campaigns,
    )


def _returned(value: object, pointer: str) -> ReturnedItem:
    item = checks.an_object(value, pointer)
    position = maybe(item, "position", checks.whole(0), pointer)
    sku = maybe(item, "sku", checks.name, pointer) or ""
    if position is None and not sku:
        raise invalid("required", "name the item by position or sku", pointer=pointer)
    return ReturnedItem(optional(item, "quantity", checks.whole(1), 1, pointer), position, sku)


def _event(document: Mapping[str, Any], wanted: tuple[str, ...], *, session: str) -> TrackedEvent:
    kind = required(document, "type", checks.name)
    if kind.startswith("talon_"):
        raise invalid("Invalid value", "this event name is reserved", pointer="/type")
    cards = optional(document, "loyaltyCards", _loyalty_cards, [])
    return TrackedEvent(
        type=kind,
        profile=optional(document, "profileId", checks.text, ""),
        session=optional(document, session, checks.text, ""),
        attributes=optional(document, "attributes", checks.an_object, {}),
        wanted=wanted,
        campaigns=_campaigns(document),
        card=cards[0] if cards else "",
        integration_id=maybe(document, "integrationId", checks.name) or "",
    )


def _campaigns(document: Mapping[str, Any]) -> frozenset[int] | None:
    listed = maybe(document, "evaluableCampaignIds", checks.wholes)
    return None if listed is None else frozenset(listed)


def _wanted(document: Mapping[str, Any], known: frozenset[str]) -> tuple[str, ...]:
    wanted = optional(document, "responseContent", checks.texts, [])
    for name in wanted:
        if name not in known:
            raise invalid("enum", f"must be one of {', '.join(sorted(known))}", pointer="/responseContent")
    return tuple(dict.fromkeys(wanted))


def _coupon_codes(value: object, pointer: str) -> list[str]:
    codes = enumerate(checks.array(value, pointer))
    return [checks.short_text(code, f"{pointer}/{index}") for index, code in codes]


def _identifiers(value: object, pointer: str) -> list[str]:
    return checks.at_most(5, checks.texts(value, pointer), pointer)


def _loyalty_cards(value: object, pointer: str) -> list[str]:
    return checks.at_most(1, checks.texts(value, pointer), pointer)


def _allocations(value: object, pointer: str) -> list[Any]:
    return [checks.an_object(item, f"{pointer}/{index}") for index, item in enumerate(checks.array(value, pointer))]


def _costs(value: object, pointer: str) -> dict[str, Any]:
    costs = checks.an_object(value, pointer)
    for name, cost in costs.items():
        checks.amount(checks.an_object(cost, f"{pointer}/{name}").get("price"), f"{pointer}/{name}/price")
    return costs


def _cart_items(value: object, pointer: str) -> list[Any]:
    items = checks.at_most(MAX_CART_ITEMS, checks.array(value, pointer), pointer)
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
        and abs(price) <= checks.MAX_AMOUNT
        and "additionalCosts" not in item
        and type(item.get("attributes", _NONE)) is dict
        and type(item.get("category", "")) is str
    )


_NONE: dict[str, Any] = {}


def _check_item(value: object, pointer: str) -> None:
    item = checks.an_object(value, pointer)
    required(item, "sku", checks.text, pointer)
    if not item["sku"]:
        raise invalid("required", "sku is required", pointer=f"{pointer}/sku")
    optional(item, "price", checks.amount, 0.0, pointer)
    checks.whole(1)(item.get("quantity"), f"{pointer}/quantity")
    optional(item, "additionalCosts", _costs, {}, pointer)
    optional(item, "attributes", checks.an_object, {}, pointer)
    optional(item, "category", checks.text, "", pointer)


_CONTENT: dict[str, Callable[[object, str], Any]] = {
    "cartItems": _cart_items,
    "couponCodes": _coupon_codes,
    "referralCode": checks.short_text,
    "additionalCosts": _costs,
    "identifiers": _identifiers,
    "loyaltyCards": _loyalty_cards,
    "storeIntegrationId": checks.name,
    "attributes": checks.an_object,
    "experimentVariantAllocations": _allocations,
}
