"""Effects are what Talon.One tells the shop to do, and what it tells when they are undone.

`props` hold JSON values and exact decimals. An effect that was undone no longer stands; some are never undone.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from proxy.simulator.rulebook import Campaign


# Not frozen: a session makes many, and freezing triples what each costs. Nobody changes one.
@dataclass(slots=True, eq=False)
class Effect:
    """One effect. `subject` is what booking it needs; `key` names the effect rule: campaign, rule, position in it."""

    campaign: Campaign
    rule: int
    rule_name: str
    type: str
    props: Mapping[str, Any]
    coupon: int | None = None
    subject: object = None
    key: tuple[int, int, int] = (0, 0, 0)

    @property
    def position(self) -> int | None:
        """The cart item it is for; None: the session."""
        position = self.props.get("position", self.props.get("cartItemPosition"))
        return None if position is None else int(position)

    @property
    def unit(self) -> int:
        """The unit of that item, from 0."""
        return int(self.props.get("subPosition", self.props.get("cartItemSubPosition", 0)))

    @property
    def undone_by(self) -> str | None:
        """The type of the effect that undoes it; None: it stays whatever becomes of the session."""
        return _UNDONE_BY.get(self.type)

    def undoing(self, **changes: Any) -> "Effect":
        """The effect that undoes this one, with other or further properties."""
        kind = _UNDONE_BY[self.type]
        return replace(self, type=kind, props={**_PROPS[kind](self.props), **changes})


def _same(props: Mapping[str, Any]) -> dict[str, Any]:
    return {"value": props["value"]}


def _discount(props: Mapping[str, Any]) -> dict[str, Any]:
    names = {"position": "cartItemPosition", "subPosition": "cartItemSubPosition"}
    kept = ("name", "value", "scope", "position", "subPosition", "additionalCostId", "additionalCost")
    return {names.get(name, name): props[name] for name in kept if name in props}


def _points(props: Mapping[str, Any]) -> dict[str, Any]:
    dropped = {"name", "ruleTitle", "awaitsActivation", "validityDuration", "startDate", "expiryDate"}
    return {"recipientIntegrationId": "", **{name: value for name, value in props.items() if name not in dropped}}


def _progress(props: Mapping[str, Any]) -> dict[str, Any]:
    kept = ("achievementId", "achievementName", "progressTrackerId", "target")
    return {
        **{name: props[name] for name in kept},
        "decreaseProgressBy": props["delta"],
        "currentProgress": props["value"] - props["delta"],
    }


_UNDONE_BY = {
    "acceptCoupon": "rollbackCoupon",
    "acceptReferral": "rollbackReferral",
    "setDiscount": "rollbackDiscount",
    "setDiscountPerItem": "rollbackDiscount",
    "setDiscountPerAdditionalCost": "rollbackDiscount",
    "addLoyaltyPoints": "rollbackAddedLoyaltyPoints",
    "deductLoyaltyPoints": "rollbackDeductedLoyaltyPoints",
    "increaseAchievementProgress": "rollbackIncreasedAchievementProgress",
}
_PROPS: dict[str, Callable[[Mapping[str, Any]], dict[str, Any]]] = {
    "rollbackCoupon": _same,
    "rollbackReferral": _same,
    "rollbackDiscount": _discount,
    "rollbackAddedLoyaltyPoints": _points,
    "rollbackDeductedLoyaltyPoints": _points,
    "rollbackIncreasedAchievementProgress": _progress,
}
