"""Campaigns, audiences, catalogs and prices in the JSON of the Integration API."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from proxy.simulator.audiences import Audience
from proxy.simulator.catalogs import Catalog, Item, Price
from proxy.simulator.rulebook import Campaign
from proxy.simulator.rules import Outcome
from proxy.simulator.world import BEGINNING, Application

Json = dict[str, Any]
ACCOUNT_ID = 1
USER_ID = 1


def campaign(application: Application, one: Campaign, moment: datetime) -> Json:
    """A campaign as `responseContent` gives it."""
    return {
        **_base(application, one),
        "state": one.state,
        "created": BEGINNING,
        "userId": USER_ID,
        "activeRulesetId": one.id,
        "limits": [
            {"action": action, "limit": limit, "entities": []}
            for action, limit in (("redeemCoupon", one.coupon_limit), ("redeemReferral", one.referral_limit))
            if limit
        ],
        "type": "advanced",
        "frontendState": one.frontend_state(moment),
        "storesImported": False,
    }


def integration_campaign(application: Application, one: Campaign) -> Json:
    """A campaign as the list of running campaigns gives it."""
    rules = [{"title": rule.name, "displayName": rule.name} for rule in one.rules]
    return {
        **_base(application, one),
        "state": "enabled",
        "rules": rules,
        "linkedStoreIds": [],
        "linkedAudienceIds": [],
    }


def eligibility(application: Application, outcome: Outcome) -> list[Json]:
    """Which campaigns and rules a dry call would have passed."""
    passed = {(effect.campaign.id, effect.rule) for effect in outcome.effects if not effect.type.startswith("reject")}
    return [_eligibility(application, one, passed) for one in outcome.campaigns]


def failures(outcome: Outcome) -> list[Json]:
    """Why rules gave nothing."""
    return [
        {
            "campaignID": failure.campaign.id,
            "campaignName": failure.campaign.name,
            "rulesetID": failure.campaign.id,
            "ruleIndex": failure.rule,
            "ruleName": failure.rule_name,
            "details": failure.details,
            **({"conditionIndex": failure.condition} if failure.condition is not None else {}),
            **({"effectIndex": failure.effect} if failure.effect is not None else {}),
            **({"couponID": failure.coupon.id, "couponValue": failure.coupon.code} if failure.coupon else {}),
            **({"referralID": failure.referral.id, "referralValue": failure.referral.code} if failure.referral else {}),
        }
        for failure in outcome.failures
    ]


def audience(one: Audience, *, sandbox: bool) -> Json:
    """An audience."""
    optional = {
        "description": one.description,
        "integration": one.integration,
        "integrationId": one.integration_id,
        "lastUpdate": one.last_update,
    }
    return {
        "accountId": ACCOUNT_ID,
        "id": one.id,
        "created": one.created,
        "name": one.name,
        "sandbox": sandbox,
        "createdIn3rdParty": one.third_party,
        **{name: value for name, value in optional.items() if value},
    }


def catalog(one: Catalog, applications: Sequence[Application]) -> Json:
    """A catalog without its items."""
    return {
        "id": one.terms.id,
        "created": one.created,
        "accountId": ACCOUNT_ID,
        "modified": one.modified,
        "name": one.terms.name,
        "description": one.terms.description,
        "subscribedApplicationsIds": [application.id for application in applications],
        "version": one.version,
        "createdBy": USER_ID,
    }


def best_price(item: Item, price: Price) -> Json:
    """The lowest of the prices that an item had. Names of early 2026 stand beside the present ones."""
    adjustment = {"referenceId": price.reference, "selectedPriceType": price.kind, "value": price.value}
    return {
        "id": price.id,
        "sku": item.sku,
        "observedAt": price.observed,
        "contextIds": [price.context] if price.context else [],
        "contextId": "",
        "price": price.value,
        "metadata": {
            "influencingCampaignDetails": [],
            "influencingCampaignIDs": [],
            **({"adjustmentDetails": adjustment, "adjustmentReferenceID": price.reference} if price.reference else {}),
        },
        "target": {"type": "NONE"},
    }


def _base(application: Application, one: Campaign) -> Json:
    times = {"startTime": one.start, "endTime": one.end}
    return {
        "id": one.id,
        "applicationId": application.id,
        "name": one.name,
        "description": one.description,
        "attributes": one.attributes,
        "tags": one.tags,
        "features": one.features,
        **{name: time for name, time in times.items() if time},
    }


def _eligibility(application: Application, one: Campaign, passed: set[tuple[int, int]]) -> Json:
    rules = [
        {"title": rule.name, "displayName": rule.name, "eligibility": [_verdict((one.id, index) in passed, _RULE)]}
        for index, rule in enumerate(one.rules)
    ]
    any_passed = any((one.id, index) in passed for index in range(len(one.rules)))
    verdict = _verdict(any_passed, {"failureCode": "ALL_RULES_FAILED"})
    return {**_base(application, one), "state": "enabled", "eligibility": [verdict], "rules": rules}


_RULE = {"failureCode": "CONDITION_NOT_MET", "details": "a condition or an effect failed"}


def _verdict(passed: bool, details: Json) -> Json:
    return {"passed": True} if passed else {"passed": False, "details": details}
