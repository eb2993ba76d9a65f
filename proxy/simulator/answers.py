"""Answers are the world in the JSON of the Integration API.

The entities of `responseContent` are given where they exist; `effects`, `createdCoupons` and
`createdReferrals` are always there. Entities that are not simulated are empty lists, or absent where the API
allows no empty one.
"""

from collections.abc import Callable, Sequence
from typing import Any

from proxy.simulator import rules
from proxy.simulator.rules import Campaign, Effect
from proxy.simulator.world import Application, CouponUse, Evaluation, Event, Profile, Session

Json = dict[str, Any]
ACCOUNT_ID = 1
USER_ID = 1


def state(evaluation: Evaluation, wanted: Sequence[str]) -> Json:
    """The answer of a call that runs the rules (IntegrationStateV2 and its smaller relatives)."""
    content: Json = {}
    for name in wanted:
        entity = _ENTITIES[name](evaluation)
        if entity is not None:
            content[name] = entity
    content["effects"] = effects(evaluation.effects)
    content["createdCoupons"] = []
    content["createdReferrals"] = []
    return content


def session_state(session: Session) -> Json:
    """The answer of GET /v2/customer_sessions/{id}."""
    return {"customerSession": customer_session(session), "effects": effects(session.effects)}


def campaigns(application: Application, *, skip: int, page_size: int) -> Json:
    """The answer of GET /v1/integration/campaigns."""
    page = rules.CAMPAIGNS[skip : skip + page_size]
    return {
        "hasMore": skip + page_size < len(rules.CAMPAIGNS),
        "data": [_integration_campaign(application, campaign) for campaign in page],
    }


def effects(given: Sequence[Effect]) -> list[Json]:
    """Effects in the order the rules gave them."""
    return [_effect(effect) for effect in given]


def customer_session(session: Session) -> Json:
    """A session, with empty values for what the shop never set."""
    cart = session.cart
    return {
        "id": session.id,
        "created": session.created,
        "updated": session.updated,
        "integrationId": session.integration_id,
        "applicationId": session.application.id,
        "profileId": session.profile,
        "state": session.state,
        "couponCodes": [],
        "referralCode": "",
        "loyaltyCards": [],
        "cartItems": [],
        "additionalCosts": {},
        "identifiers": [],
        "attributes": {},
        **session.content,
        "firstSession": session.first_session,
        "updateCount": session.update_count,
        "total": cart.total,
        "cartItemTotal": cart.items_total,
        "additionalCostTotal": cart.costs_total,
    }


def customer_profile(profile: Profile) -> Json:
    """A profile; no audiences exist here."""
    return {
        "id": profile.id,
        "created": profile.created,
        "integrationId": profile.integration_id,
        "attributes": profile.attributes,
        "accountId": ACCOUNT_ID,
        "closedSessions": profile.closed_sessions,
        "totalSales": profile.total_sales,
        "loyaltyMemberships": None,
        "audienceMemberships": [],
        "lastActivity": profile.last_activity,
        "sandbox": False,
    }


def _effect(effect: Effect) -> Json:
    content: Json = {
        "campaignId": effect.campaign.id,
        "rulesetId": effect.campaign.ruleset,
        "ruleIndex": effect.rule,
        "ruleName": effect.rule_name,
        "effectType": effect.type,
        "props": effect.props,
    }
    if effect.coupon is not None:
        content["triggeredByCoupon"] = effect.coupon
    return content


def _loyalty(evaluation: Evaluation) -> Json:
    profile = evaluation.profile
    if profile is None:
        return {"cards": [], "programs": {}}
    session = evaluation.session
    pending_close = session.effects if session and session.state == "open" else ()
    added = sum(effect.props["value"] for effect in pending_close if effect.type == "addLoyaltyPoints")
    ledger = {
        "currentBalance": profile.points,
        "pendingBalance": 0,
        "negativeBalance": 0,
        "expiredBalance": 0,
        "spentBalance": 0,
        "tentativeCurrentBalance": profile.points + added,
        "tentativePendingBalance": 0,
        "tentativeNegativeBalance": 0,
    }
    program = {
        "id": rules.PROGRAM_ID,
        "title": "Points",
        "name": "points",
        "joinDate": profile.created,
        "ledger": ledger,
        "subLedgers": {},
    }
    return {"cards": [], "programs": {str(rules.PROGRAM_ID): program}}


def _coupon(use: CouponUse) -> Json:
    limit = {"action": "redeemCoupon", "limit": use.coupon.per_profile, "entities": ["Coupon", "Profile"]}
    return {
        "id": use.coupon.id,
        "created": rules.BEGINNING,
        "campaignId": rules.COUPONS_CAMPAIGN.id,
        "value": use.coupon.code,
        "usageLimit": 0,
        "limits": [limit] if use.coupon.per_profile else [],
        "usageCounter": use.count,
        "profileRedemptionCount": use.count_of_profile,
        "attributes": {},
    }


def _triggered_campaigns(evaluation: Evaluation) -> list[Json]:
    triggered = dict.fromkeys(effect.campaign for effect in evaluation.effects if effect.type != "rejectCoupon")
    return [_campaign(evaluation.application, campaign) for campaign in triggered]


def _campaign(application: Application, campaign: Campaign) -> Json:
    return {
        **_integration_campaign(application, campaign),
        "created": rules.BEGINNING,
        "userId": USER_ID,
        "activeRulesetId": campaign.ruleset,
        "limits": [],
        "type": "advanced",
        "frontendState": "running",
        "storesImported": False,
    }


def _integration_campaign(application: Application, campaign: Campaign) -> Json:
    return {
        "id": campaign.id,
        "applicationId": application.id,
        "name": campaign.name,
        "description": "",
        "attributes": {},
        "state": "enabled",
        "tags": [],
        "features": [campaign.feature] if campaign.feature else [],
    }


def _event(event: Event, given: Sequence[Effect]) -> Json:
    return {
        "id": event.id,
        "created": event.created,
        "applicationId": event.application.id,
        "profileId": event.profile,
        "sessionId": event.session,
        "type": event.type,
        "attributes": event.attributes,
        "effects": effects(given),
        "ledgerEntries": [],
    }


_ENTITIES: dict[str, Callable[[Evaluation], object]] = {
    "customerSession": lambda given: customer_session(given.session) if given.session else None,
    "customerProfile": lambda given: customer_profile(given.profile) if given.profile else None,
    "event": lambda given: _event(given.event, given.effects) if given.event else None,
    "loyalty": _loyalty,
    "coupons": lambda given: [_coupon(use) for use in given.coupons],
    "triggeredCampaigns": _triggered_campaigns,
    "referral": lambda _: None,
    "awardedGiveaways": lambda _: [],
    "achievements": lambda _: [],
    "previousReturns": lambda _: [],
    "ruleFailureReasons": lambda _: [],
    "campaignEligibility": lambda _: None,
}
