"""Coupons are the codes of one Application: those of the rule book, and those that rules created.

`refusal` is the one place that decides whether a code may be used, with the reasons of the API.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from proxy.simulator.bounded import Bounded
from proxy.simulator.rulebook import Campaign, CouponTerms

CREATED_LIMIT = 100_000


@dataclass(slots=True, eq=False)
class Coupon:
    """A code, what was agreed for it, and what became of it. `reservations` are customers in order."""

    id: int
    created: datetime
    campaign: Campaign
    terms: CouponTerms
    redeemed: int = 0
    reservations: dict[str, None] = field(default_factory=dict)

    @property
    def code(self) -> str:
        """What the customer types."""
        return self.terms.code

    def state(self, moment: datetime, redeemed_by_profile: int) -> str:
        """What the inventory of a customer calls it."""
        if self.campaign.state == "disabled":
            return "disabled"
        limit = self.terms.per_profile
        exhausted = self.terms.usage_limit and self.redeemed >= self.terms.usage_limit
        if exhausted or (limit and redeemed_by_profile >= limit):
            return "used"
        if self.terms.start is not None and moment < self.terms.start:
            return "pending"
        if self.terms.expiry is not None and self.terms.expiry <= moment:
            return "used" if redeemed_by_profile else "expired"
        return "active"


class Coupons:
    """The codes of one Application, and how often the coupons of each campaign were redeemed."""

    def __init__(self, campaigns: Sequence[Campaign], beginning: datetime) -> None:
        self._of_book: dict[str, Coupon] = {}
        self._created: Bounded[str, Coupon] = Bounded(CREATED_LIMIT)
        self._redeemed: Counter[int] = Counter()
        for campaign in campaigns:
            for terms in campaign.coupons:
                self._of_book[terms.code] = Coupon(len(self._of_book) + 1, beginning, campaign, terms)

    def __iter__(self) -> Iterator[Coupon]:
        yield from self._of_book.values()
        yield from self._created

    def find(self, code: str) -> Coupon | None:
        """The coupon of a code."""
        return self._of_book.get(code) or self._created.get(code)

    def create(self, coupon: Coupon) -> None:
        """Remember a coupon that a rule created."""
        self._created[coupon.code] = coupon

    def redeem(self, coupon: Coupon, sign: int) -> None:
        """Count a redemption (+1), or take it back (-1)."""
        coupon.redeemed += sign
        self._redeemed[coupon.campaign.id] += sign

    def refusal(
        self, coupon: Coupon | None, profile: str, redeemed: Mapping[str, int], moment: datetime, *, forced: bool
    ) -> str | None:
        """Why a code may not be used by a profile (empty: nobody), or None. `forced` runs a campaign that is off."""
        if coupon is None:
            return "CouponNotFound"
        terms = coupon.terms
        needs_profile = terms.per_profile or terms.reservation_mandatory
        checks = (
            (terms.reject is not None, terms.reject),
            (not forced and not coupon.campaign.running(moment), "CouponPartOfNotRunningCampaign"),
            (terms.start is not None and moment < terms.start, "CouponStartDateInFuture"),
            (terms.expiry is not None and terms.expiry <= moment, "CouponExpired"),
            (bool(terms.recipient) and terms.recipient != profile, "CouponRecipientDoesNotMatch"),
            (needs_profile and not profile, "ProfileRequired"),
            (terms.reservation_mandatory and profile not in coupon.reservations, "CouponReservationRequired"),
            (0 < terms.usage_limit <= coupon.redeemed, "CouponLimitReached"),
            (0 < coupon.campaign.coupon_limit <= self._redeemed[coupon.campaign.id], "CampaignLimitReached"),
            (0 < terms.per_profile <= redeemed.get(terms.code, 0), "ProfileLimitReached"),
        )
        return next((reason for refused, reason in checks if refused), None)
