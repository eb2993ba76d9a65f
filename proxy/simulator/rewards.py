"""Rewards turn an effect rule into effects: type and properties as the API has them, and what they are about.

They see what the same evaluation has planned so far, so that the same points are not spent twice and the same
giveaway is not promised twice. Nothing is booked here.
"""

from collections.abc import Iterator, Sequence
from decimal import Decimal
from itertools import count
from typing import Any

from proxy.simulator import achievements, codes
from proxy.simulator.amounts import ZERO, money, whole
from proxy.simulator.cart import Line
from proxy.simulator.coupons import Coupon
from proxy.simulator.effects import Effect
from proxy.simulator.ledger import Ledger
from proxy.simulator.profiles import Profile
from proxy.simulator.referrals import Referral
from proxy.simulator.rulebook import CouponTerms, Program, ReferralTerms
from proxy.simulator.rulebook_effects import (
    AddFreeItem,
    AddLoyaltyPoints,
    AddToAudience,
    AwardGiveaway,
    CouponCreated,
    CustomEffect,
    DeductLoyaltyPoints,
    EffectRule,
    IncreaseAchievementProgress,
    ReferralCreated,
    RemoveFromAudience,
    ReserveCoupon,
    SetDiscount,
    SetDiscountPerAdditionalCost,
    SetDiscountPerItem,
    ShowNotification,
    TriggerWebhook,
    UpdateAttribute,
)
from proxy.simulator.scene import CannotApply, Place, Scene

Given = tuple[str, dict[str, Any], object]  # type, properties, subject
Key = tuple[int, int, int]  # campaign, rule, effect
HUNDRED = Decimal(100)


class Rewards:
    """What one evaluation gives."""

    def __init__(self, place: Place, scene: Scene) -> None:
        self.place = place
        self.scene = scene
        self._uuids = (codes.transaction(f"{scene.token}/{number}") for number in count())
        self._spent: dict[tuple[int, str], Decimal] = {}
        self._promised: set[int] = set()

    def give(self, effect: EffectRule, rule: str, key: Key) -> Iterator[Given]:
        """The effects of one effect rule; may be none. CannotApply fails the whole rule."""
        match effect:
            case SetDiscount():
                yield from self._discount(effect, rule)
            case SetDiscountPerItem():
                yield from self._discount_per_item(effect, rule)
            case SetDiscountPerAdditionalCost():
                yield from self._discount_cost(effect, rule)
            case AddLoyaltyPoints():
                yield from self._add_points(effect, rule)
            case DeductLoyaltyPoints():
                yield self._deduct_points(effect, rule)
            case AddFreeItem():
                yield "addFreeItem", {"sku": effect.sku, "name": effect.name or rule, "desiredQuantity": 1}, None
            case AwardGiveaway():
                yield self._giveaway(effect)
            case IncreaseAchievementProgress():
                yield from self._progress(effect)
            case CouponCreated():
                yield self._new_coupon(effect, key)
            case ReferralCreated():
                yield self._new_referral(effect, key)
            case ReserveCoupon():
                yield self._reserve(effect)
            case ShowNotification():
                props = {"notificationType": effect.kind, "title": effect.title, "body": effect.body}
                yield "showNotification", props, None
            case UpdateAttribute():
                yield self._update(effect)
            case TriggerWebhook():
                yield "triggerWebhook", {"webhookId": effect.id, "webhookName": effect.name}, None
            case CustomEffect():
                yield "customEffect", {"effectId": effect.id, "name": effect.name, "payload": effect.payload}, None
            case AddToAudience() | RemoveFromAudience():
                yield self._audience(effect)

    def tiers(self, given: Sequence[Effect]) -> Iterator[Effect]:
        """A `changeLoyaltyTierLevel` for every program in which the points given reach a higher tier."""
        last = {
            effect.props["programId"]: effect
            for effect in given
            if effect.type == "addLoyaltyPoints" and not effect.props["subLedgerId"]
        }
        for number, effect in last.items():
            program = self.place.book.program_by_id[number]
            owner = self.scene.card if program.cards else self.scene.profile
            if not program.tiers or program.pending is not None or owner is None:
                continue
            ledger = self._ledger(program)
            active = ledger.balance(self.scene.moment).active if ledger else ZERO
            gained = sum(
                (
                    one.props["value"] if one.type == "addLoyaltyPoints" else -one.props["value"]
                    for one in given
                    if one.type in ("addLoyaltyPoints", "deductLoyaltyPoints")
                    and (one.props["programId"], one.props["subLedgerId"]) == (number, "")
                ),
                ZERO,
            )
            before, after = tier_of(program, active), tier_of(program, active + gained)
            if after is None or (before is not None and before[0] >= after[0]):
                continue
            props = {"ruleTitle": effect.rule_name, "programId": number, "subLedgerId": "", "newTierName": after[1]}
            if before is not None:
                props["previousTierName"] = before[1]
            yield Effect(effect.campaign, effect.rule, effect.rule_name, "changeLoyaltyTierLevel", props)

    def _discount(self, effect: SetDiscount, rule: str) -> Iterator[Given]:
        cart = self.scene.cart
        value = money(min(_off(effect.percent, effect.amount, cart.items_total), cart.total))
        if value > 0:
            yield "setDiscount", {"name": effect.name or rule, "value": value, "scope": "sessionTotal"}, None

    def _discount_per_item(self, effect: SetDiscountPerItem, rule: str) -> Iterator[Given]:
        for line in self._lines(effect.skus, effect.categories):
            value = money(min(_off(effect.percent, effect.amount, line.price), line.price))
            if value <= 0:
                continue
            # One effect for every unit: cart items are flattened.
            for unit in range(line.quantity):
                props = {"name": f"{effect.name or rule}#{line.position}", "value": value, "scope": "price"}
                yield "setDiscountPerItem", {**props, "position": line.position, "subPosition": unit}, None

    def _discount_cost(self, effect: SetDiscountPerAdditionalCost, rule: str) -> Iterator[Given]:
        cost = self.scene.cart.costs.get(effect.cost, ZERO)
        value = money(min(_off(effect.percent, effect.amount, cost), cost))
        if value > 0:
            # Costs have no ids here; their position among those of the session stands for one.
            number = list(self.scene.cart.costs).index(effect.cost) + 1
            props = {"additionalCostId": number, "additionalCost": effect.cost}
            yield "setDiscountPerAdditionalCost", {"name": effect.name or rule, "value": value, **props}, None

    def _add_points(self, effect: AddLoyaltyPoints, rule: str) -> Iterator[Given]:
        program = self.place.book.program_by_name[effect.program]
        name, cart = effect.name or rule, self.scene.cart
        if not effect.per_item:
            value = effect.points if effect.points is not None else whole((effect.per_unit or ZERO) * cart.total)
            if value > 0:
                yield "addLoyaltyPoints", self._points(program, effect.subledger, name, value), None
            return
        for line in self._lines(effect.skus, ()):
            value = effect.points if effect.points is not None else whole((effect.per_unit or ZERO) * line.price)
            for unit in range(line.quantity if value > 0 else 0):
                where = {"cartItemPosition": line.position, "cartItemSubPosition": unit}
                yield "addLoyaltyPoints", {**self._points(program, effect.subledger, name, value), **where}, None

    def _points(self, program: Program, subledger: str, name: str, value: Decimal) -> dict[str, Any]:
        props: dict[str, Any] = {
            "name": name,
            "programId": program.id,
            "subLedgerId": subledger,
            "value": value,
            "recipientIntegrationId": self.scene.profile_id,
            "transactionUUID": next(self._uuids),
        }
        if program.cards:
            if self.scene.card is None or self.scene.card.program is not program:
                raise CannotApply("the session has no card of the loyalty program")
            props["cardIdentifier"] = self.scene.card.identifier
        elif self.scene.profile is None:
            raise CannotApply("there is no customer profile to give points to")
        if program.pending == "on_action":
            props["awaitsActivation"] = True
        elif program.pending is not None:
            props["startDate"] = self.scene.moment + program.pending
        if program.expiry is not None and program.pending != "on_action":
            props["expiryDate"] = props.get("startDate", self.scene.moment) + program.expiry
        return props

    def _deduct_points(self, effect: DeductLoyaltyPoints, rule: str) -> Given:
        program = self.place.book.program_by_name[effect.program]
        ledger = self._ledger(program)
        place = (program.id, effect.subledger)
        active = ledger.balance(self.scene.moment, effect.subledger).active if ledger else ZERO
        if active - self._spent.get(place, ZERO) < effect.points:
            raise CannotApply("there are not enough points")
        self._spent[place] = self._spent.get(place, ZERO) + effect.points
        props: dict[str, Any] = {
            "ruleTitle": rule,
            "programId": program.id,
            "subLedgerId": effect.subledger,
            "value": effect.points,
            "transactionUUID": next(self._uuids),
            "name": effect.name or rule,
        }
        if program.cards and self.scene.card is not None:
            props["cardIdentifier"] = self.scene.card.identifier
        return "deductLoyaltyPoints", props, None

    def _giveaway(self, effect: AwardGiveaway) -> Given:
        pool = self.place.book.pool_by_name[effect.pool]
        self._customer()
        giveaway = self.place.giveaways.next_of(pool, self._promised)
        if giveaway is None:
            raise CannotApply("no giveaway is left")
        self._promised.add(giveaway.id)
        props: dict[str, Any] = {
            "poolId": pool.id,
            "poolName": pool.name,
            "recipientIntegrationId": self.scene.profile_id,
        }
        if not self.scene.closed and not self.scene.event:
            return "willAwardGiveaway", props, None
        return "awardGiveaway", {**props, "giveawayId": giveaway.id, "code": giveaway.code}, giveaway

    def _progress(self, effect: IncreaseAchievementProgress) -> Iterator[Given]:
        achievement = self.place.book.achievement_by_name[effect.achievement]
        rounds = self._customer().rounds.get(achievement.id, [])
        for step in achievements.plan(achievement, rounds, effect.by, self.scene.moment, len(rounds) + 1):
            about = {
                "achievementId": achievement.id,
                "achievementName": achievement.name,
                "progressTrackerId": step.round.id,
                "target": achievement.target,
            }
            if step.starts:
                ends = {"endDate": step.round.end} if step.round.end else {}
                yield "startAchievementProgress", {**about, "startDate": step.round.start, **ends}, None
            yield (
                "increaseAchievementProgress",
                {**about, "delta": step.delta, "value": step.value, "isJustCompleted": step.completes},
                step,
            )

    def _new_coupon(self, effect: CouponCreated, key: Key) -> Given:
        customer = self._customer().integration_id
        coupon = self.scene.made.get(key)
        if not isinstance(coupon, Coupon):
            code = codes.fill(effect.pattern, f"{self.scene.token}/{key}", self.place.coupons.find)
            campaign = self.place.book.campaign_by_id[key[0]]
            coupon = Coupon(0, self.scene.moment, campaign, CouponTerms(code=code, usage_limit=1, recipient=customer))
        return "couponCreated", {"value": coupon.code, "profileId": customer}, coupon

    def _new_referral(self, effect: ReferralCreated, key: Key) -> Given:
        customer = self._customer().integration_id
        referral = self.scene.made.get(key)
        if not isinstance(referral, Referral):
            code = codes.fill(effect.pattern, f"{self.scene.token}/{key}", self.place.referrals.find)
            terms = ReferralTerms(code=code, advocate=customer, usage_limit=effect.usage_limit)
            referral = Referral(0, self.scene.moment, self.place.book.campaign_by_id[key[0]], terms)
        return "referralCreated", {"value": referral.code}, referral

    def _reserve(self, effect: ReserveCoupon) -> Given:
        customer = self._customer().integration_id
        coupon = self.place.coupons.find(effect.code)
        if coupon is None:
            raise CannotApply("the coupon does not exist in this Application")
        props = {
            "couponValue": effect.code,
            "profileIntegrationId": customer,
            "isNewReservation": customer not in coupon.reservations,
        }
        return "reserveCoupon", props, coupon

    def _update(self, effect: UpdateAttribute) -> Given:
        if effect.entity == "CustomerProfile":
            self._customer()
        path = {"CustomerProfile": "Profile", "CustomerSession": "Session"}[effect.entity]
        return "updateAttribute", {"path": f"{path}.Attributes.{effect.attribute}", "value": effect.value}, effect

    def _audience(self, effect: AddToAudience | RemoveFromAudience) -> Given:
        profile = self._customer()
        audience = self.place.audiences.named(effect.audience)
        if audience is None:
            raise CannotApply("the audience does not exist any more")
        props = {
            "audienceId": audience.id,
            "audienceName": audience.name,
            "profileIntegrationId": profile.integration_id,
            "profileId": profile.id,
        }
        return effect.type, props, audience

    def _customer(self) -> Profile:
        if self.scene.profile is None:
            raise CannotApply("there is no customer profile")
        return self.scene.profile

    def _ledger(self, program: Program) -> Ledger | None:
        if program.cards:
            card = self.scene.card
            return card.ledger if card and card.program is program else None
        return self.scene.profile.ledgers.get(program.id) if self.scene.profile else None

    def _lines(self, skus: Sequence[str], categories: Sequence[str]) -> Iterator[Line]:
        for line in self.scene.cart.lines:
            if not (skus or categories) or line.sku in skus or line.category in categories:
                yield line


def tier_of(program: Program, points: Decimal) -> tuple[int, str] | None:
    """Id and name of the tier that so many active points reach."""
    reached = [(number, tier.name) for number, tier in program.ladder if tier.points_from <= points]
    return reached[-1] if reached else None


def _off(percent: Decimal | None, amount: Decimal | None, of: Decimal) -> Decimal:
    return of * percent / HUNDRED if percent is not None else (amount or ZERO)
