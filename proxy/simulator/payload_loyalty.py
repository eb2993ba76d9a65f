"""The bodies of calls about loyalty, codes, audiences and catalogs, checked as far as the schema goes."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from proxy.simulator import catalogs, checks
from proxy.simulator.catalogs import Action
from proxy.simulator.checks import maybe, optional, required
from proxy.simulator.codes import LETTERS
from proxy.simulator.problems import invalid

MAX_BULK = 1000
MAX_TRANSACTIONS = 50
MAX_USAGE = 999_999
_CARD = re.compile(r"[A-Za-z0-9._%+@-]{4,108}")
_OPERATORS = ("EQ", "LT", "LE", "GT", "GE", "IN")


@dataclass(frozen=True, slots=True)
class NewCard:
    """A loyalty card to be made; an empty `identifier` is made up."""

    status: str = "active"
    profiles: tuple[str, ...] = ()
    identifier: str = ""


@dataclass(frozen=True, slots=True)
class NewReferrals:
    """Referral codes to be made, one for each advocate."""

    campaign: int
    advocates: tuple[str, ...]
    friend: str
    usage_limit: int
    start: datetime | None
    expiry: datetime | None
    attributes: Mapping[str, Any]
    pattern: str
    letters: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class NewAudience:
    """An audience to be made."""

    name: str
    description: str
    integration: str
    integration_id: str
    third_party: bool


@dataclass(frozen=True, slots=True)
class Activation:
    """Points to be activated: of a session, or of transactions."""

    session: str
    transactions: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PriceQuestion:
    """What was the best price of items in a time. `kind` is strict, price or sale."""

    skus: tuple[str, ...]
    end: datetime
    days: int
    kind: str
    audience: int | None


def customer(body: bytes) -> str:
    """Read the body of linking and unlinking a card: a profile."""
    return required(checks.document(body), "integrationId", checks.name)


def new_card(body: bytes) -> NewCard:
    """Read the body of POST …/cards."""
    document = checks.document(body or b"{}")
    identifier = optional(document, "cardIdentifier", checks.text, "")
    if identifier and not _CARD.fullmatch(identifier):
        raise invalid("pattern", "4 to 108 letters, digits and ._%+@-", pointer="/cardIdentifier")
    return NewCard(
        status=optional(document, "status", checks.one_of(("active", "inactive")), "active"),
        profiles=tuple(optional(document, "customerProfileIds", checks.names(MAX_BULK), [])),
        identifier=identifier,
    )


def activation(body: bytes) -> Activation:
    """Read the body of POST …/activate_points: either a session or transactions."""
    document = checks.document(body)
    session = maybe(document, "sessionId", checks.name) or ""
    listed = maybe(document, "transactionUUIDs", checks.names(MAX_TRANSACTIONS, 1)) or []
    if bool(session) == bool(listed):
        raise invalid("Invalid value", "give either sessionId or transactionUUIDs", pointer="/sessionId")
    for index, uuid in enumerate(listed):
        try:
            UUID(uuid)
        except ValueError as error:
            raise checks.wrong_type("a UUID", f"/transactionUUIDs/{index}") from error
    return Activation(session, tuple(dict.fromkeys(listed)))


def deletion(body: bytes) -> tuple[str, ...] | None:
    """Read the body of POST …/delete_transactions: subledgers, or None for all."""
    document = checks.document(body)
    scope = required(document, "scope", checks.one_of(("AllSubledgers", "SelectedSubledgers")))
    return None if scope == "AllSubledgers" else tuple(required(document, "subledgerIds", checks.texts))


def reservation(body: bytes) -> list[str]:
    """Read the body of a coupon reservation: profiles."""
    return required(checks.document(body), "integrationIDs", checks.names(MAX_BULK))


def new_referral(body: bytes) -> NewReferrals:
    """Read the body of POST /v1/referrals."""
    document = checks.document(body)
    advocate = required(document, "advocateProfileIntegrationId", checks.name)
    return _referrals(document, (advocate,))


def new_referrals(body: bytes) -> NewReferrals:
    """Read the body of POST /v1/referrals_for_multiple_advocates."""
    document = checks.document(body)
    advocates = required(document, "advocateProfileIntegrationIds", checks.names(MAX_BULK, 1))
    return _referrals(document, tuple(dict.fromkeys(advocates)))


def new_audience(body: bytes) -> NewAudience:
    """Read the body of POST /v2/audiences."""
    document = checks.document(body)
    return NewAudience(
        name=required(document, "name", checks.name),
        description=optional(document, "description", checks.text, ""),
        integration=optional(document, "integration", checks.text, ""),
        integration_id=maybe(document, "integrationId", checks.name) or "",
        third_party=optional(document, "createdIn3rdParty", checks.flag, False),
    )


def audience_name(body: bytes) -> str:
    """Read the body of PUT /v2/audiences/{id}."""
    return required(checks.document(body), "name", checks.name)


def price_question(body: bytes) -> PriceQuestion:
    """Read the body of POST /v1/best_prior_price, with `strictEndDate` of SDKs before mid-2026 too."""
    document = checks.document(body)
    kind = maybe(document, "timeframeEndDateType", checks.one_of(("strict", "price", "sale")))
    if kind is None:
        kind = "strict" if required(document, "strictEndDate", checks.flag) else "price"
    days = required(document, "timeframe", checks.text)
    if not (days.isascii() and days.isdigit() and len(days) < 5):
        raise checks.wrong_type("a number of days", "/timeframe")
    target = optional(document, "target", checks.an_object, {})
    optional(target, "targetType", checks.one_of(("NONE", "AUDIENCE")), "NONE", "/target")
    return PriceQuestion(
        skus=tuple(required(document, "skus", checks.names(MAX_BULK, 1))),
        end=required(document, "timeframeEndDate", checks.moment),
        days=int(days),
        kind=kind,
        audience=maybe(target, "audienceID", checks.whole(0), "/target"),
    )


def catalog_sync(body: bytes) -> tuple[list[Action], int | None]:
    """Read the body of PUT /v1/catalogs/{id}/sync: actions, and the version they are meant for."""
    document = checks.document(body)
    listed = checks.at_most(MAX_BULK, required(document, "actions", checks.array), "/actions")
    if not listed:
        raise invalid("minItems", "at least one action", pointer="/actions")
    actions = [_action(item, f"/actions/{index}") for index, item in enumerate(listed)]
    return actions, maybe(document, "version", checks.whole(1))


def _action(value: object, pointer: str) -> Action:
    action = checks.an_object(value, pointer)
    kind = required(action, "type", checks.one_of(catalogs.TYPES), pointer)
    content = required(action, "payload", checks.an_object, pointer)
    place = f"{pointer}/payload"
    if not kind.endswith("_MANY"):
        required(content, "sku", checks.name, place)
    optional(content, "price", checks.amount, 0.0, place)
    optional(content, "attributes", checks.an_object, {}, place)
    for index, item in enumerate(optional(content, "filters", checks.array, [], place)):
        condition = checks.an_object(item, f"{place}/filters/{index}")
        required(condition, "attr", checks.text, f"{place}/filters/{index}")
        required(condition, "op", checks.one_of(_OPERATORS), f"{place}/filters/{index}")
        condition.setdefault("value", None)
    if kind == "ADD_PRICE_ADJUSTMENT":
        for index, item in enumerate(required(content, "adjustments", checks.array, place)):
            adjustment = checks.an_object(item, f"{place}/adjustments/{index}")
            required(adjustment, "priceType", checks.name, f"{place}/adjustments/{index}")
            required(adjustment, "referenceId", checks.name, f"{place}/adjustments/{index}")
            optional(adjustment, "price", checks.amount, 0.0, f"{place}/adjustments/{index}")
            optional(adjustment, "contextId", checks.text, "", f"{place}/adjustments/{index}")
    return Action(kind, content, pointer)


def _referrals(document: Mapping[str, Any], advocates: tuple[str, ...]) -> NewReferrals:
    usage_limit = optional(document, "usageLimit", checks.whole(0), 0)
    if usage_limit > MAX_USAGE:
        raise invalid("maximum", f"must be at most {MAX_USAGE}", pointer="/usageLimit")
    pattern = optional(document, "referralPattern", checks.short_text, "") or "############"
    letters = optional(document, "validCharacters", checks.texts, []) or list(LETTERS)
    if len(pattern) < 4 or any(len(letter) != 1 for letter in letters):
        raise invalid("minLength", "at least 4 characters, made of single letters", pointer="/referralPattern")
    return NewReferrals(
        campaign=required(document, "campaignId", checks.whole(0)),
        advocates=advocates,
        friend=optional(document, "friendProfileIntegrationId", checks.text, ""),
        usage_limit=usage_limit,
        start=maybe(document, "startDate", checks.moment),
        expiry=maybe(document, "expiryDate", checks.moment),
        attributes=optional(document, "attributes", checks.an_object, {}),
        pattern=pattern,
        letters=tuple(letters),
    )
