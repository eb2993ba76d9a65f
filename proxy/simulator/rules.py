"""The Rule Engine: which effects a session or an event earns. It looks, and changes nothing; `booking` changes.

Codes come first, in the order in which they were entered, each with what it gives; then the referral; then the other
rules in the order of the rule book. Discounts are reckoned from the undiscounted cart, each on its own.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from proxy.simulator.coupons import Coupon
from proxy.simulator.effects import Effect
from proxy.simulator.referrals import Referral
from proxy.simulator.rewards import Rewards
from proxy.simulator.rulebook import Campaign, Rule, When
from proxy.simulator.scene import CannotApply, Place, Scene


@dataclass(slots=True, eq=False)  # not frozen, as effects
class Failure:
    """A rule that was looked at and gave nothing. Counted from 0: the condition, or the effect, that failed."""

    campaign: Campaign
    rule: int
    why: str
    condition: int | None = None
    effect: int | None = None
    coupon: Coupon | None = None
    referral: Referral | None = None

    @property
    def rule_name(self) -> str:
        """What the rule is called."""
        return self.campaign.rules[self.rule].name

    @property
    def details(self) -> str:
        """Why, in words."""
        return _WHY.get(self.why, self.why).format(self.campaign.rules[self.rule].when)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of it. `campaigns` are those that were looked at."""

    effects: tuple[Effect, ...] = ()
    failures: tuple[Failure, ...] = ()
    campaigns: tuple[Campaign, ...] = ()


def evaluate(place: Place, scene: Scene) -> Outcome:
    """Run the rules of an Application."""
    return _Engine(place, scene).run()


class _Engine:
    """One evaluation."""

    def __init__(self, place: Place, scene: Scene) -> None:
        self.place = place
        self.scene = scene
        self.rewards = Rewards(place, scene)
        self.effects: list[Effect] = []
        self.failures: list[Failure] = []
        only, moment = scene.only, scene.moment
        self.campaigns = tuple(
            campaign
            for campaign in place.book.campaigns_of(place.application)
            if (campaign.always or campaign.running(moment) if only is None else campaign.id in only)
        )
        self.ids = {campaign.id for campaign in self.campaigns}

    def run(self) -> Outcome:
        scene = self.scene
        if not scene.event:
            for code in scene.cart.codes:
                self._coupon(code)
            if scene.cart.referral:
                self._referral(scene.cart.referral)
        for campaign, index, rule in self.place.book.rules_for(self.place.application, scene.event):
            if campaign.id in self.ids:
                self.effects += self._try(campaign, index, rule) or ()
        self.effects += self.rewards.tiers(self.effects)
        return Outcome(tuple(self.effects), tuple(self.failures), self.campaigns)

    def _coupon(self, code: str) -> None:
        scene = self.scene
        coupon = self.place.coupons.find(code)
        forced = coupon is not None and scene.only is not None and coupon.campaign.id in scene.only
        redeemed = scene.profile.redeemed_in(self.place.application) if scene.profile else {}
        reason = self.place.coupons.refusal(coupon, scene.profile_id, redeemed, scene.moment, forced=forced)
        if coupon is not None and reason is None and coupon.campaign.id not in self.ids:
            reason = "CouponPartOfNotTriggeredCampaign"
        if coupon is None or reason is not None:
            self._reject("rejectCoupon", coupon, code, reason or "CouponNotFound")
            return
        granted: list[Effect] = []
        passed: int | None = None
        for index, rule in enumerate(coupon.campaign.rules):
            if _takes(rule.when, code):
                given = self._try(coupon.campaign, index, rule, coupon=coupon)
                if given is not None:
                    granted += given
                    passed = index if passed is None else passed
        if passed is None:
            failed = [failure for failure in self.failures if failure.coupon is coupon]
            of_effect = any(failure.effect is not None for failure in failed)
            self._reject("rejectCoupon", coupon, code, "EffectCouldNotBeApplied" if of_effect else _BY_CONDITION)
            return
        name = coupon.campaign.rules[passed].name
        self.effects.append(Effect(coupon.campaign, passed, name, "acceptCoupon", {"value": code}, coupon.id))
        self.effects += granted

    def _referral(self, code: str) -> None:
        scene = self.scene
        referral = self.place.referrals.find(code)
        forced = referral is not None and scene.only is not None and referral.campaign.id in scene.only
        reason = self.place.referrals.refusal(referral, scene.profile_id, scene.moment, forced=forced)
        if referral is not None and reason is None and referral.campaign.id not in self.ids:
            reason = "ReferralPartOfNotTriggeredCampaign"
        if referral is None or reason is not None:
            self._reject("rejectReferral", referral, code, reason or "ReferralNotFound")
            return
        granted: list[Effect] = []
        passed: int | None = None
        for index, rule in enumerate(referral.campaign.rules):
            if rule.when.referral:
                given = self._try(referral.campaign, index, rule, referral=referral)
                if given is not None:
                    granted += given
                    passed = index if passed is None else passed
        if passed is None:
            self._reject("rejectReferral", referral, code, "ReferralRejectedByCondition")
            return
        name = referral.campaign.rules[passed].name
        self.effects.append(Effect(referral.campaign, passed, name, "acceptReferral", {"value": code}))
        self.effects += granted

    def _reject(self, kind: str, subject: Coupon | Referral | None, code: str, reason: str) -> None:
        # The API wants a campaign in every effect, also where no campaign knows the code.
        campaign = subject.campaign if subject else _NO_CAMPAIGN
        coupon_id = subject.id if isinstance(subject, Coupon) else None
        props = {"value": code, "rejectionReason": reason}
        self.effects.append(Effect(campaign, 0, "", kind, props, coupon_id))

    def _try(
        self,
        campaign: Campaign,
        index: int,
        rule: Rule,
        *,
        coupon: Coupon | None = None,
        referral: Referral | None = None,
    ) -> list[Effect] | None:
        """The effects of a rule, or None and a failure."""
        for number, (holds, why) in enumerate(self._conditions(rule.when)):
            if not holds:
                self.failures.append(Failure(campaign, index, why, number, None, coupon, referral))
                return None
        given: list[Effect] = []
        try:
            for column, effect in enumerate(rule.then):
                key = (campaign.id, index, column)
                kinds = self.rewards.give(effect, rule.name, key)
                coupon_id = coupon.id if coupon else None
                given += (
                    Effect(campaign, index, rule.name, kind, props, coupon_id, subject, key)
                    for kind, props, subject in kinds
                )
        except CannotApply as problem:
            number = len({effect.key for effect in given})
            self.failures.append(Failure(campaign, index, str(problem), None, number, coupon, referral))
            return None
        return given

    def _conditions(self, when: When) -> Iterator[tuple[bool, str]]:
        """Whether each stated condition holds, in the order of the rule book's keys."""
        scene, cart = self.scene, self.scene.cart
        if when.total_from is not None:
            yield cart.items_total >= when.total_from, "total_from"
        if when.total_below is not None:
            yield cart.items_total < when.total_below, "total_below"
        if when.skus:
            yield any(line.sku in when.skus and line.quantity for line in cart.lines), "skus"
        if when.categories:
            yield any(line.category in when.categories and line.quantity for line in cart.lines), "categories"
        if when.profile:
            yield scene.profile is not None, "profile"
        if when.first_session is not None:
            yield scene.first_session is when.first_session, "first_session"
        if when.card:
            yield scene.card is not None, "card"
        if when.audience is not None:
            audience = self.place.audiences.named(when.audience)
            yield audience is not None and scene.profile_id in audience.members, "audience"
        if when.attributes:
            yield all(self._attribute(path) == wanted for path, wanted in when.attributes.items()), "attributes"

    def _attribute(self, path: str) -> object:
        entity, _, name = path.partition(".")
        values: Mapping[str, Any] = {}
        match entity:
            case "CustomerProfile" if self.scene.profile is not None:
                values = self.scene.profile.attributes
            case "CustomerSession":
                values = self.scene.cart.attributes
            case "Event":
                values = self.scene.event_attributes
        return values.get(name)


_WHY = {
    "total_from": "the items cost less than {0.total_from}",
    "total_below": "the items cost {0.total_below} or more",
    "skus": "no item has one of the SKUs",
    "categories": "no item is of one of the categories",
    "profile": "there is no customer profile",
    "first_session": "whether it is the first session differs",
    "card": "there is no loyalty card",
    "audience": "the customer is not in the audience {0.audience}",
    "attributes": "an attribute has another value",
}
_BY_CONDITION = "CouponRejectedByCondition"
_NO_CAMPAIGN = Campaign.model_construct(id=0, name="")


def _takes(when: When, code: str) -> bool:
    """Whether a rule is for a coupon of its campaign."""
    return when.coupon if isinstance(when.coupon, bool) else code in when.coupon
