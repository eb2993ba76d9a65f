"""Booking is what effects do to the world: coupons redeemed, points credited, steps counted; and undoing it.

Some effects last from the moment they are given, in an open session too, and are never undone: what was created,
reserved, joined, set. The others are booked when the session is closed (an event's at once), and undone when it is
cancelled, reopened or, item by item, returned.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from proxy.simulator import achievements, codes
from proxy.simulator.amounts import ZERO
from proxy.simulator.audiences import Audience
from proxy.simulator.coupons import Coupon
from proxy.simulator.effects import Effect
from proxy.simulator.evaluation import Created
from proxy.simulator.giveaways import Giveaway
from proxy.simulator.ledger import Cause, Ledger, Transaction
from proxy.simulator.profiles import Profile
from proxy.simulator.referrals import Referral
from proxy.simulator.rulebook_effects import UpdateAttribute
from proxy.simulator.sessions import Session
from proxy.simulator.world import Site


@dataclass(frozen=True, slots=True)
class Booker:
    """Books for one session or event of one customer. `session` is None for an event."""

    site: Site
    moment: datetime
    profile: Profile | None
    session: Session | None = None
    event: int | None = None

    def lasting(self, effects: Iterable[Effect]) -> Created:
        """Book what lasts at once. What a session has created before is not created again."""
        coupons: list[Coupon] = []
        referrals: list[Referral] = []
        for effect in effects:
            match effect.type, effect.subject:
                case "couponCreated", Coupon() as coupon if not coupon.id:
                    coupon.id = self.site.next_id()
                    self.site.coupons.create(coupon)
                    self._made(effect, coupon)
                    coupons.append(coupon)
                case "referralCreated", Referral() as referral if not referral.id:
                    referral.id = self.site.next_id()
                    self.site.referrals.create(referral)
                    self._made(effect, referral)
                    referrals.append(referral)
                case "reserveCoupon", Coupon() as coupon:
                    coupon.reservations[self._customer.integration_id] = None
                case "addToAudience", Audience() as audience:
                    audience.members[self._customer.integration_id] = None
                    audience.last_update = self.moment
                case "removeFromAudience", Audience() as audience:
                    audience.members.pop(self._customer.integration_id, None)
                    audience.last_update = self.moment
                case "updateAttribute", UpdateAttribute() as update:
                    self._update(update)
        return Created(tuple(coupons), tuple(referrals))

    def settle(self, effects: Iterable[Effect]) -> None:
        """Book what a closed session, or an event, has earned."""
        for effect in effects:
            match effect.type, effect.subject:
                case "acceptCoupon", _:
                    self._redeem(effect.props["value"], +1)
                case "acceptReferral", _:
                    if referral := self.site.referrals.find(effect.props["value"]):
                        self.site.referrals.redeem(referral, self._friend)
                case "addLoyaltyPoints", _:
                    if ledger := self._ledger(effect):
                        ledger.joined = ledger.joined or self.moment
                        ledger.add(self._transaction(effect, effect.props, addition=True))
                case "deductLoyaltyPoints", _:
                    if ledger := self._ledger(effect):
                        ledger.deduct(self._transaction(effect, effect.props, addition=False), self.moment)
                case "increaseAchievementProgress", achievements.Step() as step:
                    rounds = self._customer.rounds_of(step.achievement.id)
                    achievements.book([step], rounds, self.moment)
                case "awardGiveaway", Giveaway() as giveaway:
                    self.site.environment.giveaways.award(giveaway, self._customer.integration_id)
                    self._customer.giveaways.append(giveaway)

    def undo(self, effects: Iterable[Effect]) -> tuple[Effect, ...]:
        """Undo what was booked, the last one first. Returns the effects that tell of it."""
        undone = [self._undo(effect) for effect in reversed(tuple(effects)) if effect.undone_by]
        return tuple(effect for effect in undone if effect is not None)

    def undo_share(self, effect: Effect, share: Decimal) -> Effect | None:
        """Undo part of the points, or of the discount, of a whole session: `share` is an amount."""
        if effect.type == "addLoyaltyPoints":
            return self._take_back(effect, share)
        return effect.undoing(value=share) if share else None

    def _undo(self, effect: Effect) -> Effect | None:
        match effect.type, effect.subject:
            case "acceptCoupon", _:
                self._redeem(effect.props["value"], -1)
            case "acceptReferral", _:
                if referral := self.site.referrals.find(effect.props["value"]):
                    self.site.referrals.release(referral, self._friend)
            case "addLoyaltyPoints", _:
                return self._take_back(effect, effect.props["value"])
            case "deductLoyaltyPoints", _:
                return self._give_back(effect)
            case "increaseAchievementProgress", achievements.Step() as step:
                if not achievements.take_back(step.achievement, step.round, step.delta):
                    return None
                return effect.undoing(currentProgress=step.round.progress)
        return effect.undoing()

    def _take_back(self, effect: Effect, amount: Decimal) -> Effect | None:
        ledger = self._ledger(effect)
        source = ledger.find(effect.props["transactionUUID"]) if ledger else None
        if ledger is None or source is None:
            return None
        undone = effect.undoing(transactionUUID=self._undoing_uuid(effect), value=amount)
        entry = self._transaction(undone, undone.props, addition=False)
        allowed = self.site.book.program_by_id[effect.props["programId"]].negative_balance
        covered = ledger.take_back(source, entry, self.moment, allow_debt=allowed)
        entry.amount = covered
        return effect.undoing(transactionUUID=entry.uuid, value=covered) if covered else None

    def _give_back(self, effect: Effect) -> Effect | None:
        ledger = self._ledger(effect)
        spent = ledger.find(effect.props["transactionUUID"]) if ledger else None
        if ledger is None or spent is None:
            return None
        customer = self.profile.integration_id if self.profile else ""
        undone = effect.undoing(transactionUUID=self._undoing_uuid(effect), recipientIntegrationId=customer)
        ledger.give_back(spent, self._transaction(undone, undone.props, addition=True))
        return undone

    def _undoing_uuid(self, effect: Effect) -> str:
        count = self.session.update_count if self.session else 0
        return codes.transaction(f"undo {effect.props['transactionUUID']}/{count}")

    def _transaction(self, effect: Effect, props: Mapping[str, Any], *, addition: bool) -> Transaction:
        session = self.session.integration_id if self.session else ""
        name = props.get("name") or effect.rule_name
        return Transaction(
            self.site.next_id(),
            props["transactionUUID"],
            self.moment,
            addition,
            props["subLedgerId"],
            props["value"],
            Cause(name, session, self.event, effect.campaign.id, effect.rule_name),
            start=props.get("startDate"),
            expiry=props.get("expiryDate"),
            awaits_action=props.get("awaitsActivation", False),
        )

    def _ledger(self, effect: Effect) -> Ledger | None:
        """Where the points of an effect are; None if the card is forgotten."""
        program = self.site.book.program_by_id[effect.props["programId"]]
        if program.cards:
            card = self.site.environment.cards.find(effect.props["cardIdentifier"])
            return card.ledger if card else None
        return self._customer.ledger(program.id)

    def _redeem(self, code: str, sign: int) -> None:
        if coupon := self.site.coupons.find(code):
            self.site.coupons.redeem(coupon, sign)
        if self.profile is not None:
            self.profile.redeemed[self.site.application.name, code] += sign

    def _update(self, effect: UpdateAttribute) -> None:
        if effect.entity == "CustomerProfile":
            self._customer.attributes[effect.attribute] = effect.value
        elif self.session is not None:
            attributes = {**self.session.content.get("attributes", {}), effect.attribute: effect.value}
            self.session.content["attributes"] = attributes

    def _made(self, effect: Effect, thing: object) -> None:
        if self.session is not None:
            self.session.made[effect.key] = thing

    @property
    def _customer(self) -> Profile:
        assert self.profile is not None, "the reward was given to a customer"
        return self.profile

    @property
    def _friend(self) -> str:
        return self.profile.integration_id if self.profile else ""


def share_of(value: Decimal, part: Decimal, whole: Decimal) -> Decimal:
    """`value` times part ÷ whole; nothing of nothing."""
    return value * part / whole if whole else ZERO
