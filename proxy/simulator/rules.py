"""Rules say which effects a cart earns. Pure: the same cart and the same past redemptions, the same effects.

Three campaigns run in every Application: coupons (`WELCOME10`, 10 % of the cart; `SHIP5`, 5.00 off, once per
profile), 5 % off carts of 100 and more, and one loyalty point per whole currency unit. Discounts are reckoned
from the undiscounted cart, each on its own.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import NAMESPACE_URL, uuid5

BEGINNING = datetime(2026, 1, 1, tzinfo=UTC)  # when campaigns and coupons were created
PROGRAM_ID = 1
VOLUME_FROM = 100
VOLUME_RATE = 0.05


@dataclass(frozen=True, slots=True)
class Campaign:
    """A campaign with its only ruleset."""

    id: int
    ruleset: int
    name: str
    feature: str | None


@dataclass(frozen=True, slots=True)
class Coupon:
    """A code and what it is worth. `per_profile` 0 = no limit."""

    id: int
    code: str
    rule: int
    rate: float = 0.0
    amount: float = 0.0
    per_profile: int = 0


@dataclass(frozen=True, slots=True)
class Effect:
    """One thing Talon.One tells the shop to do."""

    campaign: Campaign
    rule: int
    rule_name: str
    type: str
    props: Mapping[str, Any]
    coupon: int | None = None


@dataclass(frozen=True, slots=True)
class Cart:
    """What rules look at. An empty `profile` is anonymous; `transaction` names the cart in the ledger."""

    items_total: float
    costs_total: float
    codes: tuple[str, ...]
    profile: str
    transaction: str

    @classmethod
    def of(cls, content: Mapping[str, Any], *, profile: str, transaction: str) -> "Cart":
        """The cart of a session's content."""
        items: Sequence[Mapping[str, Any]] = content.get("cartItems", ())
        costs: Mapping[str, Mapping[str, Any]] = content.get("additionalCosts", {})
        return cls(
            # An item without a price would have it from a catalog, and none exists here.
            items_total=money(sum((item.get("price") or 0) * item["quantity"] for item in items)),
            costs_total=money(sum(cost["price"] for cost in costs.values())),
            codes=tuple(dict.fromkeys(content.get("couponCodes", ()))),
            profile=profile,
            transaction=transaction,
        )

    @property
    def total(self) -> float:
        """Items and additional costs, before any discount."""
        return money(self.items_total + self.costs_total)


COUPONS_CAMPAIGN = Campaign(id=1, ruleset=1, name="Coupons", feature="coupons")
VOLUME_CAMPAIGN = Campaign(id=2, ruleset=2, name="5 % off from 100", feature=None)
POINTS_CAMPAIGN = Campaign(id=3, ruleset=3, name="Points", feature="loyalty")
CAMPAIGNS = (COUPONS_CAMPAIGN, VOLUME_CAMPAIGN, POINTS_CAMPAIGN)

COUPONS = {
    coupon.code: coupon
    for coupon in (
        Coupon(id=1, code="WELCOME10", rule=0, rate=0.10),
        Coupon(id=2, code="SHIP5", rule=1, amount=5.0, per_profile=1),
    )
}


def money(amount: float) -> float:
    """An amount in whole cents."""
    return round(amount, 2)


def evaluate(cart: Cart, redeemed: Mapping[str, int]) -> tuple[Effect, ...]:
    """The effects of a cart; `redeemed` counts, by code, what its profile has redeemed before."""
    return (*_coupons(cart, redeemed), *_volume(cart), *_points(cart))


def roll_back(effects: Sequence[Effect]) -> tuple[Effect, ...]:
    """The effects that undo those of a closed session, the last one first."""
    return tuple(undone for effect in reversed(effects) for undone in _undo(effect))


def _coupons(cart: Cart, redeemed: Mapping[str, int]) -> Iterator[Effect]:
    for code in cart.codes:
        coupon = COUPONS.get(code)
        reason = _rejection(coupon, cart, redeemed)
        if coupon is None or reason is not None:
            yield _of_coupon("rejectCoupon", coupon, {"value": code, "rejectionReason": reason})
            continue
        yield _of_coupon("acceptCoupon", coupon, {"value": code})
        discount = money(min(coupon.amount + coupon.rate * cart.items_total, cart.total))
        if discount > 0:
            yield _of_coupon("setDiscount", coupon, _discount(code, discount))


def _rejection(coupon: Coupon | None, cart: Cart, redeemed: Mapping[str, int]) -> str | None:
    if coupon is None:
        return "CouponNotFound"
    if coupon.per_profile and not cart.profile:
        return "ProfileRequired"
    if coupon.per_profile and redeemed.get(coupon.code, 0) >= coupon.per_profile:
        return "ProfileLimitReached"
    return None


def _of_coupon(kind: str, coupon: Coupon | None, props: Mapping[str, Any]) -> Effect:
    # The API wants a campaign in every effect, also where no campaign knows the code.
    rule, name, coupon_id = (coupon.rule, coupon.code, coupon.id) if coupon else (0, "", None)
    return Effect(COUPONS_CAMPAIGN, rule, name, kind, props, coupon_id)


def _volume(cart: Cart) -> Iterator[Effect]:
    if cart.items_total >= VOLUME_FROM:
        props = _discount(VOLUME_CAMPAIGN.name, money(cart.items_total * VOLUME_RATE))
        yield Effect(VOLUME_CAMPAIGN, 0, VOLUME_CAMPAIGN.name, "setDiscount", props)


def _points(cart: Cart) -> Iterator[Effect]:
    points = math.floor(cart.total)
    if cart.profile and points > 0:
        props = {
            "name": "1 point per currency unit",
            "programId": PROGRAM_ID,
            "subLedgerId": "",
            "value": points,
            "recipientIntegrationId": cart.profile,
            "transactionUUID": str(uuid5(NAMESPACE_URL, cart.transaction)),
        }
        yield Effect(POINTS_CAMPAIGN, 0, "1 point per currency unit", "addLoyaltyPoints", props)


def _discount(name: str, value: float) -> dict[str, Any]:
    return {"name": name, "value": value, "scope": "sessionTotal"}


def _undo(effect: Effect) -> Iterator[Effect]:
    match effect.type:
        case "acceptCoupon":
            yield _undoing(effect, "rollbackCoupon", effect.props)
        case "setDiscount":
            yield _undoing(effect, "rollbackDiscount", effect.props)
        case "addLoyaltyPoints":
            props = {name: value for name, value in effect.props.items() if name != "name"}
            # The deduction is an entry of its own in the ledger.
            props["transactionUUID"] = str(uuid5(NAMESPACE_URL, f"undo {effect.props['transactionUUID']}"))
            yield _undoing(effect, "rollbackAddedLoyaltyPoints", props)


def _undoing(effect: Effect, kind: str, props: Mapping[str, Any]) -> Effect:
    return Effect(effect.campaign, effect.rule, effect.rule_name, kind, props, effect.coupon)
