"""Coupons, referrals, giveaways and achievements in the JSON of the Integration API."""

from collections.abc import Sequence
from datetime import datetime

from proxy.simulator import achievements
from proxy.simulator.achievements import Round
from proxy.simulator.amounts import ZERO
from proxy.simulator.answers_setup import Json
from proxy.simulator.coupons import Coupon
from proxy.simulator.giveaways import Giveaway
from proxy.simulator.profiles import Profile
from proxy.simulator.referrals import Referral
from proxy.simulator.rulebook import Achievement


def coupon(one: Coupon) -> Json:
    """A coupon."""
    terms = one.terms
    limit = {"action": "redeemCoupon", "limit": terms.per_profile, "entities": ["Coupon", "Profile"]}
    optional = {"startDate": terms.start, "expiryDate": terms.expiry, "recipientIntegrationId": terms.recipient}
    return {
        "id": one.id,
        "created": one.created,
        "campaignId": one.campaign.id,
        "value": one.code,
        "usageLimit": terms.usage_limit,
        "limits": [limit] if terms.per_profile else [],
        "usageCounter": one.redeemed,
        "reservationCounter": len(one.reservations),
        "attributes": terms.attributes,
        "reservation": not terms.recipient,
        "isReservationMandatory": terms.reservation_mandatory,
        "implicitlyReserved": terms.visible,
        **{name: value for name, value in optional.items() if value},
    }


def coupon_of_session(one: Coupon, redeemed_by_profile: int) -> Json:
    """A coupon as `responseContent` gives it."""
    return {**coupon(one), "profileRedemptionCount": redeemed_by_profile}


def coupon_of_inventory(one: Coupon, redeemed_by_profile: int, moment: datetime) -> Json:
    """A coupon as the inventory of a customer gives it."""
    return {**coupon_of_session(one, redeemed_by_profile), "state": one.state(moment, redeemed_by_profile)}


def referral(one: Referral) -> Json:
    """A referral code."""
    terms = one.terms
    optional = {"startDate": terms.start, "expiryDate": terms.expiry, "friendProfileIntegrationId": terms.friend}
    return {
        "id": one.id,
        "created": one.created,
        "campaignId": one.campaign.id,
        "advocateProfileIntegrationId": terms.advocate,
        "code": one.code,
        "usageLimit": terms.usage_limit,
        "usageCounter": len(one.friends),
        "attributes": one.attributes,
        **{name: value for name, value in optional.items() if value},
    }


def referral_of_inventory(one: Referral) -> Json:
    """A referral code, with the friends it brought."""
    return {**referral(one), "referredCustomers": one.friends}


def giveaway(one: Giveaway, profile: Profile) -> Json:
    """A giveaway that a customer was awarded."""
    return {
        "id": one.id,
        "created": one.created,
        "code": one.code,
        "poolId": one.pool.id,
        "used": True,
        "attributes": {},
        "profileIntegrationId": one.profile,
        "profileId": profile.id,
    }


def progress(one: Round | None, moment: datetime) -> Json:
    """How far a customer has come in a round; None: no round yet."""
    if one is None:
        return {"status": "not_started", "progress": ZERO}
    dates = {"startDate": one.start, "completionDate": one.completed, "endDate": one.end}
    return {
        "status": one.status(moment),
        "progress": one.progress,
        **{name: date for name, date in dates.items() if date},
    }


def achievement(one: Achievement, rounds: Sequence[Round], campaign: int, moment: datetime) -> Json:
    """An achievement with a customer's progress, as the list of achievements gives it."""
    return {
        **_definition(one),
        "id": one.id,
        "created": one.start or moment,
        "campaignId": campaign,
        "status": "active" if achievements.available(one, moment) else "scheduled",
        "currentProgress": current_progress(one, rounds, moment),
    }


def achievement_of_call(one: Achievement, rounds: Sequence[Round], moment: datetime) -> Json:
    """The same as `responseContent` gives it."""
    return {
        **_definition(one),
        "id": one.id,
        "isCappedByTarget": one.recurrence == "on_completion",
        "currentProgress": current_progress(one, rounds, moment),
    }


def achievement_of_inventory(one: Achievement, rounds: Sequence[Round], campaign: int, moment: datetime) -> Json:
    """The same as the inventory of a customer gives it, which has other names."""
    given = _definition(one)
    renamed = {
        "achievementRecurrencePolicy": given["recurrencePolicy"],
        "achievementActivationPolicy": given["activationPolicy"],
        "achievementAllowRollbackAfterCompletion": given["allowRollbackAfterCompletion"],
        **({"achievementFixedStartDate": one.start} if one.start else {}),
        **({"achievementEndDate": one.end} if one.end else {}),
    }
    kept = {name: given[name] for name in ("name", "title", "description", "target")}
    current = current_progress(one, rounds, moment)
    return {**kept, **renamed, **current, "achievementId": one.id, "campaignId": campaign}


def current_progress(one: Achievement, rounds: Sequence[Round], moment: datetime) -> Json:
    """How far a customer has come in the round that counts now."""
    return progress(achievements.current(one, rounds, moment), moment)


def _definition(one: Achievement) -> Json:
    dates = {"fixedStartDate": one.start, "endDate": one.end}
    return {
        "name": one.name,
        "title": one.title,
        "description": one.description,
        "target": one.target,
        "recurrencePolicy": one.recurrence,
        "activationPolicy": "fixed_schedule" if one.start else "user_action",
        "allowRollbackAfterCompletion": one.rollback_after_completion,
        **({"period": _period(one)} if one.period else {}),
        **{name: date for name, date in dates.items() if date},
    }


def _period(one: Achievement) -> str:
    assert one.period is not None
    return f"{int(one.period.total_seconds())}s"
