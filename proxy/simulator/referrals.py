"""Referrals are codes that customers (advocates) hand to others (friends), kept by Application."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from proxy.simulator.bounded import Bounded
from proxy.simulator.rulebook import Campaign, ReferralTerms

CREATED_LIMIT = 100_000


@dataclass(slots=True, eq=False)
class Referral:
    """A code, and the friends it brought, in order."""

    id: int
    created: datetime
    campaign: Campaign
    terms: ReferralTerms
    attributes: dict[str, Any] = field(default_factory=dict)
    friends: list[str] = field(default_factory=list)

    @property
    def code(self) -> str:
        """What the friend types."""
        return self.terms.code


class Referrals:
    """The codes of one Application."""

    def __init__(self, campaigns: Sequence[Campaign], beginning: datetime) -> None:
        self._of_book: dict[str, Referral] = {}
        self._created: Bounded[str, Referral] = Bounded(CREATED_LIMIT)
        self._used: Counter[int] = Counter()
        for campaign in campaigns:
            for terms in campaign.referrals:
                self._of_book[terms.code] = Referral(len(self._of_book) + 1, beginning, campaign, terms)

    def __iter__(self) -> Iterator[Referral]:
        yield from self._of_book.values()
        yield from self._created

    def find(self, code: str) -> Referral | None:
        """The referral of a code."""
        return self._of_book.get(code) or self._created.get(code)

    def create(self, referral: Referral) -> None:
        """Remember a new code."""
        self._created[referral.code] = referral

    def redeem(self, referral: Referral, friend: str) -> None:
        """The friend came."""
        referral.friends.append(friend)
        self._used[referral.campaign.id] += 1

    def release(self, referral: Referral, friend: str) -> None:
        """The friend's order was taken back."""
        if friend in referral.friends:
            referral.friends.remove(friend)
            self._used[referral.campaign.id] -= 1

    def refusal(self, referral: Referral | None, friend: str, moment: datetime, *, forced: bool) -> str | None:
        """Why a friend (empty: nobody) may not use a code, or None. `forced` runs a campaign that is off."""
        if referral is None:
            return "ReferralNotFound"
        terms = referral.terms
        checks = (
            (not forced and not referral.campaign.running(moment), "ReferralPartOfNotRunningCampaign"),
            (terms.start is not None and moment < terms.start, "ReferralStartDateInFuture"),
            (terms.expiry is not None and terms.expiry <= moment, "ReferralExpired"),
            (friend == terms.advocate, "ReferralRecipientIdSameAsAdvocate"),
            (bool(terms.friend) and terms.friend != friend, "ReferralRecipientDoesNotMatch"),
            (friend in referral.friends, "ReferralCustomerAlreadyReferred"),
            (0 < terms.usage_limit <= len(referral.friends), "ReferralLimitReached"),
            (0 < referral.campaign.referral_limit <= self._used[referral.campaign.id], "CampaignLimitReached"),
        )
        return next((reason for refused, reason in checks if refused), None)
