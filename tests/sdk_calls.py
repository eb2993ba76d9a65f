"""Calls by Talon.One's own Python SDK: at least one for each operation, and a shop where they find something.

A drive is one call, made with an `IntegrationApi`. Each is one that answers with as much as the operation can; all can
be made alone, in the shop that `furnished` gives.
"""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
import talon_one
from talon_one.api.integration_api import IntegrationApi

from tests.talon_world import START, Talon

Drive = Callable[[IntegrationApi], Any]

JANE = "jane"
POINTS, BONUS, STAMPS = 1, 2, 3  # loyalty programs of the built-in rule book
CARD = "stamp-card-1"
SOCKS = [{"sku": "sock", "quantity": 3, "price": 4}, {"sku": "shoe", "quantity": 10, "attributes": {"colour": "black"}}]
EVERYTHING = ["customerSession", "customerProfile", "coupons", "triggeredCampaigns", "referral", "loyalty", "event"]
OF_RULES = ["awardedGiveaways", "ruleFailureReasons"]


def furnished() -> Talon:
    """A shop in which everything has happened that answers can tell of."""
    talon = Talon()
    talon.call("POST", f"/v1/loyalty_programs/{STAMPS}/cards", {"cardIdentifier": CARD, "customerProfileIds": [JANE]})
    talon.call("POST", "/v1/coupon_reservations/VIPONLY", {"integrationIDs": [JANE]}, expect=201)
    for kind in ("newsletter_signup", "share", "review"):
        talon.call("POST", "/v2/events", {"type": kind, "profileId": JANE}, expect=204)
    codes = ["WELCOME10", "SHIP5", "VIPONLY", "FREEMUG", "NOPE", "LASTYEAR"]
    content: dict[str, Any] = {
        "cartItems": SOCKS,
        "couponCodes": codes,
        "loyaltyCards": [CARD],
        "attributes": {"SpendPoints": True},
    }
    talon.put("before", profileId=JANE, cartItems=SOCKS, state="closed")
    talon.put("closed", profileId=JANE, state="closed", additionalCosts={"shipping": {"price": 4.99}}, **content)
    talon.put("friend", profileId="john", referralCode="FRIEND-OF-JANE", cartItems=SOCKS, state="closed")
    return talon


def session_request(state: str = "open", **more: Any) -> Any:
    """Jane's cart, and the wish to be told everything."""
    content = {"profileId": JANE, "cartItems": SOCKS, "couponCodes": ["WELCOME10", "NOPE"], "state": state, **more}
    return talon_one.IntegrationRequest.from_dict(
        {"customerSession": content, "responseContent": EVERYTHING + OF_RULES + ["previousReturns"]}
    )


def made(model: str, **content: Any) -> Any:
    """What a call takes: one of the SDK's models, checked by it."""
    return getattr(talon_one, model).from_dict(content)


def _event(*, dry: bool) -> Drive:
    wanted = ["customerProfile", "event", "loyalty", "triggeredCampaigns", *OF_RULES]
    event = made("IntegrationEventV2Request", type="newsletter_signup", profileId="ann", responseContent=wanted)
    return lambda api: api.track_event_v2(event, silent="no", dry=dry)


def _profile(*, run_rules: bool) -> Drive:
    update = made(
        "CustomerProfileIntegrationRequestV2",
        attributes={"Name": "Jane"},
        audiencesChanges={"adds": [1], "deletes": []},
        responseContent=["customerProfile", "event", "loyalty", "triggeredCampaigns", *OF_RULES],
    )
    return lambda api: api.update_customer_profile_v2(JANE, update, run_rule_engine=run_rules)


def _profiles(*, silent: str) -> Drive:
    updates = made("MultipleCustomerProfileIntegrationRequest", customerProfiles=[{"integrationId": "ann"}])
    return lambda api: api.update_customer_profiles_v2(updates, silent=silent)


def _referrals(*, silent: str) -> Drive:
    new = {"campaignId": 5, "advocateProfileIntegrationIds": [JANE, "john"], "usageLimit": 1}
    advocates = made("NewReferralsForMultipleAdvocates", **new)
    return lambda api: api.create_referrals_for_multiple_advocates(advocates, silent=silent)


_REGISTRATION = {"integrationId": "john"}
_PRICES = {"skus": ["shoe", "sock", "none"], "timeframe": "30", "timeframeEndDate": START, "strictEndDate": True}
AUDIENCE = {"name": "VIP", "integration": "mparticle", "integrationId": "42"}
_REFERRAL = {"campaignId": 5, "advocateProfileIntegrationId": JANE, "usageLimit": 3}
_SYNC = {"actions": [{"type": "ADD", "payload": {"sku": "hat", "price": 20}}]}

# By the SDK's own names.
DRIVES: dict[str, list[Drive]] = {
    "update_customer_session_v2": [
        lambda api: api.update_customer_session_v2("cart", session_request()),
        lambda api: api.update_customer_session_v2("cart", session_request(referralCode="FRIEND-OF-JANE")),
        lambda api: api.update_customer_session_v2("cart", session_request("closed", loyaltyCards=[CARD])),
        lambda api: api.update_customer_session_v2("closed", session_request("cancelled")),
        lambda api: api.update_customer_session_v2("cart", session_request(), dry=True, now=START + timedelta(days=1)),
    ],
    "get_customer_session": [lambda api: api.get_customer_session("closed")],
    "return_cart_items": [
        lambda api: api.return_cart_items(
            "closed",
            made(
                "ReturnIntegrationRequest",
                **{"return": {"returnedCartItems": [{"position": 0, "quantity": 1}]}},
                responseContent=[*EVERYTHING, "previousReturns"],
            ),
        )
    ],
    "reopen_customer_session": [lambda api: api.reopen_customer_session("closed")],
    "update_customer_profile_v2": [_profile(run_rules=True), _profile(run_rules=False)],
    "update_customer_profiles_v2": [_profiles(silent="yes"), _profiles(silent="no")],
    "create_audience_v2": [lambda api: api.create_audience_v2(made("NewAudience", **AUDIENCE))],
    "update_audience_v2": [lambda api: api.update_audience_v2(1, made("UpdateAudience", name="Readers"))],
    "delete_audience_v2": [lambda api: api.delete_audience_v2(1)],
    "delete_audience_memberships_v2": [lambda api: api.delete_audience_memberships_v2(1)],
    "update_customer_profile_audiences": [
        lambda api: api.update_customer_profile_audiences(
            made(
                "CustomerProfileAudienceRequest",
                data=[{"action": "add", "profileIntegrationId": "ann", "audienceId": 1}],
            )
        )
    ],
    "update_audience_customers_attributes": [
        lambda api: api.update_audience_customers_attributes(1, {"Language": "de"})
    ],
    "link_loyalty_card_to_profile": [
        lambda api: api.link_loyalty_card_to_profile(STAMPS, CARD, made("LoyaltyCardRegistration", **_REGISTRATION))
    ],
    "unlink_loyalty_card_from_profile": [
        lambda api: api.unlink_loyalty_card_from_profile(
            STAMPS, CARD, made("LoyaltyCardRegistration", integrationId=JANE)
        )
    ],
    "track_event_v2": [_event(dry=False), _event(dry=True)],
    "create_referral": [lambda api: api.create_referral(made("NewReferral", **_REFERRAL))],
    "create_referrals_for_multiple_advocates": [_referrals(silent="yes"), _referrals(silent="no")],
    "delete_customer_data": [lambda api: api.delete_customer_data(JANE)],
    "create_coupon_reservation": [
        lambda api: api.create_coupon_reservation("VIPONLY", made("CouponReservations", integrationIDs=["ann"]))
    ],
    "delete_coupon_reservation": [
        lambda api: api.delete_coupon_reservation("VIPONLY", made("CouponReservations", integrationIDs=[JANE]))
    ],
    "get_reserved_customers": [lambda api: api.get_reserved_customers("VIPONLY")],
    "get_customer_inventory": [
        lambda api: api.get_customer_inventory(
            JANE, profile=True, referrals=True, coupons=True, loyalty=True, giveaways=True, achievements=True
        )
    ],
    "get_customer_achievements": [lambda api: api.get_customer_achievements(JANE)],
    "get_customer_achievement_history": [lambda api: api.get_customer_achievement_history(JANE, 1)],
    "get_loyalty_card_balances": [lambda api: api.get_loyalty_card_balances(STAMPS, CARD)],
    "get_loyalty_card_transactions": [lambda api: api.get_loyalty_card_transactions(STAMPS, CARD)],
    "get_loyalty_card_points": [lambda api: api.get_loyalty_card_points(STAMPS, CARD)],
    "get_loyalty_balances": [
        lambda api: api.get_loyalty_balances(POINTS, JANE, include_tiers=True, include_projected_tier=True)
    ],
    "get_loyalty_program_profile_transactions": [
        lambda api: api.get_loyalty_program_profile_transactions(POINTS, JANE),
        lambda api: api.get_loyalty_program_profile_transactions(BONUS, JANE, awaits_activation=True),
    ],
    "get_loyalty_program_profile_points": [lambda api: api.get_loyalty_program_profile_points(POINTS, JANE)],
    "delete_loyalty_transactions_from_ledgers": [
        lambda api: api.delete_loyalty_transactions_from_ledgers(
            POINTS, JANE, made("DeleteLoyaltyTransactionsRequest", scope="AllSubledgers")
        )
    ],
    "activate_loyalty_points": [
        lambda api: api.activate_loyalty_points(BONUS, made("ActivateLoyaltyPoints", sessionId="closed"))
    ],
    "generate_loyalty_card": [
        lambda api: api.generate_loyalty_card(STAMPS, made("GenerateLoyaltyCard", customerProfileIds=[JANE]))
    ],
    "best_prior_price": [lambda api: api.best_prior_price(made("BestPriorPriceRequest", **_PRICES))],
    "sync_catalog": [lambda api: api.sync_catalog(1, made("CatalogSyncRequest", **_SYNC))],
}


PARAMETERS = [
    pytest.param(drive, id=f"{name}-{number}") for name, drives in DRIVES.items() for number, drive in enumerate(drives)
]
