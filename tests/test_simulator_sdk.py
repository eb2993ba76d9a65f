"""Every answer of the simulator satisfies the models of Talon.One's own Python SDK, driven by that SDK.

The SDK's transport is replaced: its requests go to the simulated Talon.One without a socket. Every answer is read
twice: by the SDK as it does, and again from the raw JSON by the model that the SDK names for that status, which
knows required properties, strict types, patterns and lists of words.
"""

import inspect
import json
from collections.abc import Callable
from datetime import timedelta
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

import pydantic
import pytest
import talon_one
from talon_one import rest
from talon_one.api.integration_api import IntegrationApi

from tests.talon_world import START, Talon

Drive = Callable[[IntegrationApi], Any]

JANE = "jane"
POINTS, BONUS, STAMPS = 1, 2, 3  # loyalty programs of the built-in rule book
CARD = "stamp-card-1"
SOCKS = [{"sku": "sock", "quantity": 3, "price": 4}, {"sku": "shoe", "quantity": 10, "attributes": {"colour": "black"}}]
EVERYTHING = ["customerSession", "customerProfile", "coupons", "triggeredCampaigns", "referral", "loyalty", "event"]
OF_RULES = ["awardedGiveaways", "ruleFailureReasons"]


class Answer:
    """What the SDK sees of an HTTP answer."""

    def __init__(self, status: int, body: bytes) -> None:
        self.status = status
        self.reason = HTTPStatus(status).phrase
        self.data = body
        self.headers = {"content-type": "application/json"} if body else {}


class Transport(rest.RESTClientObject):
    """Takes the place of the SDK's connection pool."""

    def __init__(self, talon: Talon) -> None:
        # The parent would open a pool.
        self.talon = talon

    def request(
        self,
        method: str,
        url: str,
        headers: Any = None,
        body: Any = None,
        post_params: Any = None,
        _request_timeout: Any = None,
    ) -> rest.RESTResponse:
        target = urlsplit(url)
        answer = self.talon.answer(method, target.path + (f"?{target.query}" if target.query else ""), body)
        return rest.RESTResponse(Answer(answer.status, answer.body))


class Client(talon_one.ApiClient):
    """The SDK's client, which also holds every answer against the model that the SDK names for it."""

    def __init__(self, talon: Talon) -> None:
        super().__init__(talon_one.Configuration(host="http://talon.invalid"))
        self.rest_client = Transport(talon)
        self.answers: list[tuple[int, str | None]] = []

    def response_deserialize(self, response_data: Any, response_types_map: Any = None) -> Any:
        status = str(response_data.status)
        # A 204 is documented where a call can be silent; SDK 26.2 does not list it everywhere, and takes it.
        assert status in response_types_map or status == "204", f"the SDK knows no {status}: {response_data.data!r}"
        named = response_types_map.get(status)
        self.answers.append((response_data.status, named))
        if named is None:
            assert response_data.data == b""
        else:
            pydantic.TypeAdapter(_model(named)).validate_json(response_data.data)
        return super().response_deserialize(response_data, response_types_map)


def _model(named: str) -> Any:
    if named.startswith("List["):
        return list[_model(named[5:-1])]  # type: ignore[misc]
    return getattr(talon_one, named)


@pytest.fixture
def talon() -> Talon:
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


@pytest.fixture
def client(talon: Talon) -> Client:
    return Client(talon)


def _session(state: str = "open", **more: Any) -> Any:
    content = {"profileId": JANE, "cartItems": SOCKS, "couponCodes": ["WELCOME10", "NOPE"], "state": state, **more}
    return talon_one.IntegrationRequest.from_dict(
        {"customerSession": content, "responseContent": EVERYTHING + OF_RULES + ["previousReturns"]}
    )


def _of(model: str, **content: Any) -> Any:
    return getattr(talon_one, model).from_dict(content)


def _event(*, dry: bool) -> Drive:
    wanted = ["customerProfile", "event", "loyalty", "triggeredCampaigns", *OF_RULES]
    event = _of("IntegrationEventV2Request", type="newsletter_signup", profileId="ann", responseContent=wanted)
    return lambda api: api.track_event_v2(event, silent="no", dry=dry)


def _profile(*, run_rules: bool) -> Drive:
    update = _of(
        "CustomerProfileIntegrationRequestV2",
        attributes={"Name": "Jane"},
        audiencesChanges={"adds": [1], "deletes": []},
        responseContent=["customerProfile", "event", "loyalty", "triggeredCampaigns", *OF_RULES],
    )
    return lambda api: api.update_customer_profile_v2(JANE, update, run_rule_engine=run_rules)


def _profiles(*, silent: str) -> Drive:
    updates = _of("MultipleCustomerProfileIntegrationRequest", customerProfiles=[{"integrationId": "ann"}])
    return lambda api: api.update_customer_profiles_v2(updates, silent=silent)


def _referrals(*, silent: str) -> Drive:
    new = {"campaignId": 5, "advocateProfileIntegrationIds": [JANE, "john"], "usageLimit": 1}
    advocates = _of("NewReferralsForMultipleAdvocates", **new)
    return lambda api: api.create_referrals_for_multiple_advocates(advocates, silent=silent)


_REGISTRATION = {"integrationId": "john"}
_PRICES = {"skus": ["shoe", "sock", "none"], "timeframe": "30", "timeframeEndDate": START, "strictEndDate": True}
_AUDIENCE = {"name": "VIP", "integration": "mparticle", "integrationId": "42"}
_REFERRAL = {"campaignId": 5, "advocateProfileIntegrationId": JANE, "usageLimit": 3}
_SYNC = {"actions": [{"type": "ADD", "payload": {"sku": "hat", "price": 20}}]}

# Calls by the SDK's own names. Each is one that answers with as much as the operation can.
DRIVES: dict[str, list[Drive]] = {
    "update_customer_session_v2": [
        lambda api: api.update_customer_session_v2("cart", _session()),
        lambda api: api.update_customer_session_v2("cart", _session(referralCode="FRIEND-OF-JANE")),
        lambda api: api.update_customer_session_v2("cart", _session("closed", loyaltyCards=[CARD])),
        lambda api: api.update_customer_session_v2("closed", _session("cancelled")),
        lambda api: api.update_customer_session_v2("cart", _session(), dry=True, now=START + timedelta(days=1)),
    ],
    "get_customer_session": [lambda api: api.get_customer_session("closed")],
    "return_cart_items": [
        lambda api: api.return_cart_items(
            "closed",
            _of(
                "ReturnIntegrationRequest",
                **{"return": {"returnedCartItems": [{"position": 0, "quantity": 1}]}},
                responseContent=[*EVERYTHING, "previousReturns"],
            ),
        )
    ],
    "reopen_customer_session": [lambda api: api.reopen_customer_session("closed")],
    "update_customer_profile_v2": [_profile(run_rules=True), _profile(run_rules=False)],
    "update_customer_profiles_v2": [_profiles(silent="yes"), _profiles(silent="no")],
    "create_audience_v2": [lambda api: api.create_audience_v2(_of("NewAudience", **_AUDIENCE))],
    "update_audience_v2": [lambda api: api.update_audience_v2(1, _of("UpdateAudience", name="Readers"))],
    "delete_audience_v2": [lambda api: api.delete_audience_v2(1)],
    "delete_audience_memberships_v2": [lambda api: api.delete_audience_memberships_v2(1)],
    "update_customer_profile_audiences": [
        lambda api: api.update_customer_profile_audiences(
            _of(
                "CustomerProfileAudienceRequest",
                data=[{"action": "add", "profileIntegrationId": "ann", "audienceId": 1}],
            )
        )
    ],
    "update_audience_customers_attributes": [
        lambda api: api.update_audience_customers_attributes(1, {"Language": "de"})
    ],
    "link_loyalty_card_to_profile": [
        lambda api: api.link_loyalty_card_to_profile(STAMPS, CARD, _of("LoyaltyCardRegistration", **_REGISTRATION))
    ],
    "unlink_loyalty_card_from_profile": [
        lambda api: api.unlink_loyalty_card_from_profile(
            STAMPS, CARD, _of("LoyaltyCardRegistration", integrationId=JANE)
        )
    ],
    "track_event_v2": [_event(dry=False), _event(dry=True)],
    "create_referral": [lambda api: api.create_referral(_of("NewReferral", **_REFERRAL))],
    "create_referrals_for_multiple_advocates": [_referrals(silent="yes"), _referrals(silent="no")],
    "delete_customer_data": [lambda api: api.delete_customer_data(JANE)],
    "create_coupon_reservation": [
        lambda api: api.create_coupon_reservation("VIPONLY", _of("CouponReservations", integrationIDs=["ann"]))
    ],
    "delete_coupon_reservation": [
        lambda api: api.delete_coupon_reservation("VIPONLY", _of("CouponReservations", integrationIDs=[JANE]))
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
            POINTS, JANE, _of("DeleteLoyaltyTransactionsRequest", scope="AllSubledgers")
        )
    ],
    "activate_loyalty_points": [
        lambda api: api.activate_loyalty_points(BONUS, _of("ActivateLoyaltyPoints", sessionId="closed"))
    ],
    "generate_loyalty_card": [
        lambda api: api.generate_loyalty_card(STAMPS, _of("GenerateLoyaltyCard", customerProfileIds=[JANE]))
    ],
    "best_prior_price": [lambda api: api.best_prior_price(_of("BestPriorPriceRequest", **_PRICES))],
    "sync_catalog": [lambda api: api.sync_catalog(1, _of("CatalogSyncRequest", **_SYNC))],
}


def test_every_operation_that_the_sdk_has_is_driven() -> None:
    variants = ("_with_http_info", "_without_preload_content")
    known = {
        name
        for name, _ in inspect.getmembers(IntegrationApi, inspect.isfunction)
        if not name.startswith("_") and not name.endswith(variants)
    }

    assert set(DRIVES) == known


@pytest.mark.parametrize(
    "drive",
    [
        pytest.param(drive, id=f"{name}-{number}")
        for name, drives in DRIVES.items()
        for number, drive in enumerate(drives)
    ],
)
def test_an_answer_satisfies_the_models_of_the_sdk(client: Client, drive: Drive) -> None:
    drive(IntegrationApi(client))

    (answer,) = client.answers
    assert 200 <= answer[0] <= 204


@pytest.mark.parametrize(
    ("drive", "error", "title"),
    [
        (
            lambda api: api.update_customer_session_v2("cart", _session(attributes={"Unheard": 1})),
            talon_one.exceptions.BadRequestException,
            "Unknown",
        ),
        (
            lambda api: api.update_customer_profile_v2(
                JANE, _of("CustomerProfileIntegrationRequestV2", attributes={"Name": 1})
            ),
            talon_one.exceptions.BadRequestException,
            "Invalid type",
        ),
        (lambda api: api.reopen_customer_session("friend-of-nobody"), talon_one.exceptions.NotFoundException, None),
        (lambda api: api.get_customer_inventory("nobody"), talon_one.exceptions.NotFoundException, None),
        (
            lambda api: [api.create_audience_v2(_of("NewAudience", **_AUDIENCE)) for _ in range(2)],
            talon_one.exceptions.ConflictException,
            None,
        ),
    ],
    ids=["unknown attribute", "mistyped attribute", "unknown session", "unknown customer", "audience exists"],
)
def test_an_error_raises_the_exception_of_the_sdk(
    talon: Talon, drive: Drive, error: type[talon_one.ApiException], title: str | None
) -> None:
    class Lenient(Client):
        def response_deserialize(self, response_data: Any, response_types_map: Any = None) -> Any:
            # Of an unknown session the SDK knows no 404.
            return super().response_deserialize(response_data, {"404": "ErrorResponseWithStatus", **response_types_map})

    with pytest.raises(error) as raised:
        drive(IntegrationApi(Lenient(talon)))

    envelope = json.loads(raised.value.body or "")
    assert envelope["message"]
    assert title is None or envelope["errors"][0]["title"] == title


# What SDK 26.2 lacks is held against the shapes of the published description of the API.


def test_an_advanced_event_has_the_published_shape(talon: Talon) -> None:
    wanted = ["advancedEvent", "customerProfile", "loyalty", "triggeredCampaigns", *OF_RULES]
    sent = {"type": "review", "profileId": JANE, "integrationId": "e-1", "connectedSessionId": "closed"}

    answer = talon.call("POST", "/v3/events?silent=no", {**sent, "responseContent": wanted})

    event = answer["advancedEvent"]
    assert {**sent, "applicationId": 1} == {name: event[name] for name in (*sent, "applicationId")}
    assert {"id", "created", "attributes", "effects"} <= set(event)
    assert talon.call("GET", "/v3/events/e-1") == event
    talon_one.TrackEventV2Response.model_validate_json(json.dumps(answer))


def test_joining_a_loyalty_program_answers_with_nothing_and_works_once(talon: Talon) -> None:
    target = f"/v1/loyalty_programs/{BONUS}/profile/new/join"

    assert talon.call("POST", target) is None
    assert talon.call("POST", target, expect=400)["StatusCode"] == 400


def test_the_list_of_campaigns_has_the_published_shape(talon: Talon) -> None:
    page = talon.call("GET", "/v1/integration/campaigns?pageSize=2")

    assert page["hasMore"] is True
    for campaign in page["data"]:
        assert {"id", "applicationId", "name", "state", "tags", "features", "rules"} <= set(campaign)
        assert campaign["state"] == "enabled"
        assert all(rule["title"] for rule in campaign["rules"])
