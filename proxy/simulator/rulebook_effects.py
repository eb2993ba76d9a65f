"""Effect rules say what a rule gives. Each has the type of the effect that Talon.One answers with."""

from decimal import Decimal
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Percent = Annotated[Decimal, Field(gt=0, le=100)]
Positive = Annotated[Decimal, Field(gt=0)]
Name = Annotated[str, Field(min_length=1)]
Pattern = Annotated[str, Field(min_length=4, max_length=100)]  # every # becomes a letter or digit


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _Discount(_Part):
    name: str = ""  # the name of the rule where none is given
    percent: Percent | None = None
    amount: Positive | None = None

    @model_validator(mode="after")
    def _one_of_both(self) -> "_Discount":
        if (self.percent is None) == (self.amount is None):
            raise ValueError("give either percent or amount")
        return self


class SetDiscount(_Discount):
    """Off the cart items, at most the whole session. A percentage is one of the items before any discount."""

    type: Literal["setDiscount"]


class SetDiscountPerItem(_Discount):
    """Off every unit of the items with one of `skus` or `categories`, or of all; at most its price."""

    type: Literal["setDiscountPerItem"]
    skus: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()


class SetDiscountPerAdditionalCost(_Discount):
    """Off one additional cost of the session, at most that."""

    type: Literal["setDiscountPerAdditionalCost"]
    cost: Name


class AddLoyaltyPoints(_Part):
    """So many points, or so many per currency unit of the session (`per_item`: of every cart item)."""

    type: Literal["addLoyaltyPoints"]
    name: str = ""
    program: Name
    subledger: str = ""
    points: Positive | None = None
    per_unit: Positive | None = None
    per_item: bool = False
    skus: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _one_of_both(self) -> "AddLoyaltyPoints":
        if (self.points is None) == (self.per_unit is None):
            raise ValueError("give either points or per_unit")
        return self


class DeductLoyaltyPoints(_Part):
    """Spend points. The rule fails where the customer has fewer."""

    type: Literal["deductLoyaltyPoints"]
    name: str = ""
    program: Name
    subledger: str = ""
    points: Positive


class AddFreeItem(_Part):
    """An item to put into the cart for nothing."""

    type: Literal["addFreeItem"]
    sku: Name
    name: str = ""


class AwardGiveaway(_Part):
    """A code of a pool; told as `willAwardGiveaway` until the session is closed. An empty pool fails the rule."""

    type: Literal["awardGiveaway"]
    pool: Name


class IncreaseAchievementProgress(_Part):
    """Steps towards an achievement."""

    type: Literal["increaseAchievementProgress"]
    achievement: Name
    by: Positive = Decimal(1)


class CouponCreated(_Part):
    """A new coupon of the same campaign for this customer alone, once per session or event."""

    type: Literal["couponCreated"]
    pattern: Pattern = "########"


class ReferralCreated(_Part):
    """A new referral code of this customer, once per session or event."""

    type: Literal["referralCreated"]
    pattern: Pattern = "########"
    usage_limit: int = Field(default=1, ge=0)


class ReserveCoupon(_Part):
    """A coupon of the book reserved for this customer."""

    type: Literal["reserveCoupon"]
    code: Name


class ShowNotification(_Part):
    """Something to tell the customer."""

    type: Literal["showNotification"]
    kind: Literal["Info", "Offer", "Error", "Misc"] = "Info"
    title: Name
    body: str = ""


class UpdateAttribute(_Part):
    """A new value of an attribute of the customer or the session."""

    type: Literal["updateAttribute"]
    entity: Literal["CustomerProfile", "CustomerSession"]
    attribute: Name
    value: Any


class TriggerWebhook(_Part):
    """Told to the caller only: the simulator calls nobody."""

    type: Literal["triggerWebhook"]
    id: int = Field(default=1, ge=1)
    name: Name


class CustomEffect(_Part):
    """Anything."""

    type: Literal["customEffect"]
    id: int = Field(default=1, ge=1)
    name: Name
    payload: dict[str, Any] = {}


class AddToAudience(_Part):
    """The customer joins an audience."""

    type: Literal["addToAudience"]
    audience: Name


class RemoveFromAudience(_Part):
    """The customer leaves an audience."""

    type: Literal["removeFromAudience"]
    audience: Name


EffectRule = Annotated[
    SetDiscount
    | SetDiscountPerItem
    | SetDiscountPerAdditionalCost
    | AddLoyaltyPoints
    | DeductLoyaltyPoints
    | AddFreeItem
    | AwardGiveaway
    | IncreaseAchievementProgress
    | CouponCreated
    | ReferralCreated
    | ReserveCoupon
    | ShowNotification
    | UpdateAttribute
    | TriggerWebhook
    | CustomEffect
    | AddToAudience
    | RemoveFromAudience,
    Field(discriminator="type"),
]
