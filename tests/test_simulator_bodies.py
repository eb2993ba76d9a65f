"""Whatever a caller sends, the simulator answers, and never with a fault of its own."""

import json
from collections.abc import Iterator
from copy import deepcopy
from typing import Any

import pytest

from proxy.simulator.operations import OPERATIONS
from tests.talon_world import Talon

ITEM = {"name": "Shoe", "sku": "sock", "quantity": 2, "price": 4, "category": "c", "attributes": {"a": 1}}
SESSION = {
    "profileId": "jane",
    "state": "closed",
    "couponCodes": ["WELCOME10", "NOPE"],
    "referralCode": "FRIEND-OF-JANE",
    "cartItems": [{**ITEM, "additionalCosts": {"shipping": {"price": 1}}}, {"sku": "shoe", "quantity": 1}],
    "additionalCosts": {"shipping": {"price": 4.99}},
    "identifiers": ["i"],
    "loyaltyCards": ["card-1"],
    "storeIntegrationId": "s",
    "attributes": {"SpendPoints": True, "ShippingCity": "Rome"},
    "evaluableCampaignIds": [1],
    "experimentVariantAllocations": [{"experimentID": 1, "variantID": 2}],
}
EVENT = {
    "type": "newsletter_signup",
    "profileId": "jane",
    "integrationId": "e-1",
    "connectedSessionId": "cart",
    "sessionId": "cart",
    "attributes": {"a": 1},
    "loyaltyCards": ["card-1"],
    "evaluableCampaignIds": [7],
    "responseContent": ["customerProfile", "loyalty"],
}
REFERRAL = {
    "campaignId": 5,
    "advocateProfileIntegrationId": "jane",
    "friendProfileIntegrationId": "john",
    "usageLimit": 1,
    "startDate": "2026-01-01T00:00:00Z",
    "expiryDate": "2027-01-01",
    "attributes": {"a": 1},
    "referralPattern": "REF-####",
    "validCharacters": ["A", "B"],
}
SELECTED = {"attributes": {"a": 1}, "price": 1, "filters": [{"attr": "colour", "op": "EQ", "value": "black"}]}
ADJUSTMENT = {"priceType": "member", "referenceId": "r", "price": 3, "contextId": "sale"}
BODIES: dict[str, list[Any]] = {
    "updateCustomerSessionV2": [{"customerSession": SESSION, "responseContent": ["customerSession", "loyalty"]}],
    "updateCustomerSession": [{**SESSION, "coupon": "WELCOME10", "referral": "R"}],
    "returnCartItems": [{"return": {"returnedCartItems": [{"position": 0, "quantity": 1}, {"sku": "mug"}]}}],
    "updateCustomerProfileV2": [{"attributes": {"Name": "J"}, "audiencesChanges": {"adds": [1], "deletes": [1]}}],
    "updateCustomerProfile": [{"attributes": {"Name": "J"}}],
    "updateCustomerProfilesV2": [{"customerProfiles": [{"integrationId": "ann", "attributes": {"Name": "A"}}]}],
    "trackEventV2": [EVENT],
    "trackEventV3": [EVENT],
    "trackEvent": [EVENT],
    "createAudienceV2": [{"name": "n", "integration": "i", "integrationId": "1", "createdIn3rdParty": True}],
    "updateAudienceV2": [{"name": "n"}],
    "updateCustomerProfileAudiences": [{"data": [{"action": "add", "profileIntegrationId": "ann", "audienceId": 1}]}],
    "updateAudienceCustomersAttributes": [{"Name": "A"}],
    "linkLoyaltyCardToProfile": [{"integrationId": "ann"}],
    "unlinkLoyaltyCardFromProfile": [{"integrationId": "jane"}],
    "createReferral": [REFERRAL],
    "createReferralsForMultipleAdvocates": [{**REFERRAL, "advocateProfileIntegrationIds": ["jane"]}],
    "createCouponReservation": [{"integrationIDs": ["jane"]}],
    "deleteCouponReservation": [{"integrationIDs": ["jane"]}],
    "deleteLoyaltyTransactionsFromLedgers": [{"scope": "SelectedSubledgers", "subledgerIds": [""]}],
    "activateLoyaltyPoints": [
        {"sessionId": "cart"},
        {"transactionUUIDs": ["00000000-0000-0000-0000-000000000000"]},
    ],
    "generateLoyaltyCard": [{"status": "active", "customerProfileIds": ["ann"], "cardIdentifier": "card-2"}],
    "bestPriorPrice": [
        {
            "skus": ["shoe"],
            "timeframe": "30",
            "timeframeEndDate": "2026-05-01T00:00:00Z",
            "timeframeEndDateType": "sale",
            "strictEndDate": True,
            "target": {"targetType": "AUDIENCE", "audienceID": 1},
        }
    ],
    "syncCatalog": [
        {"actions": [{"type": "ADD", "payload": {"sku": "a", "price": 1, "attributes": {"b": 1}}}], "version": 1},
        {
            "actions": [
                {"type": "PATCH", "payload": {"sku": "shoe", "createIfNotExists": True, "product": {"name": "p"}}}
            ]
        },
        {"actions": [{"type": "PATCH_MANY", "payload": SELECTED}]},
        {"actions": [{"type": "REMOVE_MANY", "payload": SELECTED}]},
        {"actions": [{"type": "ADD_PRICE_ADJUSTMENT", "payload": {"sku": "shoe", "adjustments": [ADJUSTMENT]}}]},
    ],
}
WITHOUT_BODY = set(OPERATIONS) - set(BODIES)
IDS = {"customer_sessions": "cart", "customer_profiles": "jane", "profile": "jane", "cards": "card-1"}
ODD: tuple[Any, ...] = (
    None,
    True,
    -1,
    0,
    3.5,
    1e300,
    10**30,
    "",
    "x" * 2000,
    "\u0000/~ü",
    [],
    [[]],
    {},
    {"a": None},
    [1],
)


def targets(name: str) -> str:
    """The path of an operation on things that exist."""
    segments = OPERATIONS[name][0].split(" ")[1].split("/")
    program = {"loyalty_programs": "3"} if "cards" in segments else {}
    ids = [{**IDS, **program}.get(before, "1") for before in segments]
    return "/".join(ids[at - 1] if segment == "{}" else segment for at, segment in enumerate(segments))


def variants(body: Any) -> Iterator[Any]:
    """The body with every value in it, one after the other, gone or odd."""
    for path in list(paths(body)):
        for odd in (*ODD, ...):
            changed = deepcopy(body)
            parent = changed
            for step in path[:-1]:
                parent = parent[step]
            if odd is ...:
                del parent[path[-1]]
            else:
                parent[path[-1]] = odd
            yield changed


def paths(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    steps = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for step, inner in steps:
        yield (*at, step)
        yield from paths(inner, (*at, step))


def shop() -> Talon:
    talon = Talon()
    talon.call("POST", "/v1/loyalty_programs/3/cards", {"cardIdentifier": "card-1", "customerProfileIds": ["jane"]})
    talon.put(profileId="jane", cartItems=[ITEM], state="closed")
    return talon


@pytest.mark.parametrize("name", sorted(BODIES))
def test_a_body_with_anything_odd_in_it_is_answered(name: str) -> None:
    method, target = OPERATIONS[name][0].split(" ")[0], targets(name)

    for body in BODIES[name]:
        talon = shop()
        statuses = set()
        for number, changed in enumerate((body, *variants(body))):
            # An update needs a session that is not closed yet.
            session = f"cart-{number}"
            path = target.replace("/cart", f"/{session}") if name.startswith("updateCustomerSession") else target
            answer = talon.answer(method, path, json.dumps(changed).encode())
            assert answer.status in (200, 201, 204, 400, 404, 409), changed
            statuses.add(answer.status)
            if answer.status == 200 and path is not target:
                talon.call("GET", f"/v2/customer_sessions/{session}")
                talon.put(session, state="cancelled")
        assert statuses - {400}, "some of them are right"


@pytest.mark.parametrize("query", ["?dry=true", "?dry=true&runRuleEngine=true", "?silent=no&pageSize=1&skip=9"])
@pytest.mark.parametrize("name", sorted(OPERATIONS))
def test_every_operation_is_answered_with_a_query_it_may_not_know(name: str, query: str) -> None:
    method, target = OPERATIONS[name][0].split(" ")[0], targets(name)
    body = BODIES[name][0] if name in BODIES else None

    assert shop().answer(method, target + query, body).status in (200, 201, 204, 400, 404)


@pytest.mark.parametrize("body", [b"", b"{", b"null", b"[]", b'"x"', b"\xff", b"{}"])
def test_a_body_that_is_none_is_answered(body: bytes) -> None:
    talon = shop()

    for name in BODIES:
        assert talon.answer(OPERATIONS[name][0].split(" ")[0], targets(name), body).status in (200, 204, 400, 404), name


def test_every_operation_is_tried_here() -> None:
    assert {OPERATIONS[name][0].split(" ")[0] for name in WITHOUT_BODY} == {"GET", "DELETE", "PUT", "POST"}
    assert {name for name in WITHOUT_BODY if not OPERATIONS[name][0].startswith(("GET", "DELETE"))} == {
        "reopenCustomerSession",
        "joinLoyaltyProgram",
    }
