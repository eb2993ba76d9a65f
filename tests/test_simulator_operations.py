import re
from typing import Any

import orjson
import pytest

from proxy.simulator import rulebook_file
from proxy.simulator.operations import OPERATIONS, Call, Kind, Operation, answer_problem, find
from proxy.simulator.problems import Problem, invalid
from proxy.simulator.turns import Key
from proxy.simulator.unknowns import Unknowns
from proxy.simulator.world import Application, World
from proxy.talon.operations import LISTED

SHOP = Application("shop", 7, environment="live")
ALL_ENTITIES = [
    "customerSession",
    "customerProfile",
    "event",
    "loyalty",
    "coupons",
    "triggeredCampaigns",
    "referral",
    "awardedGiveaways",
    "achievements",
    "previousReturns",
    "ruleFailureReasons",
    "campaignEligibility",
]


@pytest.fixture
def world() -> World:
    return World()


def understand(world: World, method: str, target: str, body: object = None) -> Operation:
    encoded = b"" if body is None else orjson.dumps(body)
    return find(Call(method, target, encoded, SHOP), world)


def call(world: World, method: str, target: str, body: object = None) -> Any:
    answer = understand(world, method, target, body).perform()
    return orjson.loads(answer.body) if answer.body else answer.status


def session(**sent: Any) -> dict[str, Any]:
    return {"customerSession": sent}


def test_an_encoded_slash_is_part_of_the_id(world: World) -> None:
    operation = understand(world, "PUT", "/v2/customer_sessions/s%2F1%20%C3%BC%252F", session())

    assert operation.session == "s/1 ü%2F"


def test_a_session_update_occupies_the_session_and_the_named_profile(world: World) -> None:
    operation = understand(world, "PUT", "/v2/customer_sessions/cart", session(profileId="jane"))

    assert operation.kind is Kind.APPLIED
    assert operation.keys == (Key("session", "shop", "cart"), Key("profile", "live", "jane"))


def test_a_session_update_that_names_no_profile_occupies_the_linked_one(world: World) -> None:
    call(world, "PUT", "/v2/customer_sessions/cart", session(profileId="jane"))

    operation = understand(world, "PUT", "/v2/customer_sessions/cart", session())

    assert operation.keys[1:] == (Key("profile", "live", "jane"),)


def test_an_anonymous_session_update_occupies_no_profile(world: World) -> None:
    call(world, "PUT", "/v2/customer_sessions/cart", session(profileId="jane"))

    operation = understand(world, "PUT", "/v2/customer_sessions/cart", session(profileId=""))

    assert operation.keys == (Key("session", "shop", "cart"),)


def test_profile_updates_and_events_occupy_the_profile(world: World) -> None:
    jane = (Key("profile", "live", "jane"),)

    assert understand(world, "PUT", "/v2/customer_profiles/jane", {}).keys == jane
    assert understand(world, "POST", "/v2/events", {"type": "viewed", "profileId": "jane"}).keys == jane


@pytest.mark.parametrize(
    ("method", "target", "body", "kind"),
    [
        ("PUT", "/v2/customer_sessions/cart?dry=true", session(profileId="jane"), Kind.DRY),
        ("PUT", "/v2/customer_profiles/jane?runRuleEngine=true&dry=1", {}, Kind.DRY),
        ("POST", "/v2/events?dry=true", {"type": "viewed", "profileId": "jane"}, Kind.DRY),
        ("GET", "/v2/customer_sessions/cart", None, Kind.READ),
        ("GET", "/v1/integration/campaigns", None, Kind.READ),
    ],
)
def test_dry_calls_and_reads_occupy_nothing(world: World, method: str, target: str, body: object, kind: Kind) -> None:
    operation = understand(world, method, target, body)

    assert (operation.kind, operation.keys) == (kind, ())


def test_a_dry_profile_update_without_the_rule_engine_is_a_real_one(world: World) -> None:
    operation = understand(world, "PUT", "/v2/customer_profiles/jane?dry=true", {})

    assert operation.kind is Kind.APPLIED


def test_effects_and_created_things_are_always_answered_and_entities_on_request(world: World) -> None:
    plain = call(world, "PUT", "/v2/customer_sessions/cart", session(profileId="jane"))
    assert plain == {"effects": [], "createdCoupons": [], "createdReferrals": []}

    body = {**session(cartItems=[{"sku": "a", "quantity": 1, "price": 10}]), "responseContent": ["customerSession"]}
    wanted = call(world, "PUT", "/v2/customer_sessions/cart", body)
    assert list(wanted) == ["customerSession", "effects", "createdCoupons", "createdReferrals"]
    assert wanted["customerSession"]["profileId"] == "jane"
    assert wanted["customerSession"]["updateCount"] == 2
    assert wanted["customerSession"]["cartItemTotal"] == 10
    assert wanted["customerSession"]["created"].endswith("Z")


def test_everything_there_is_can_be_requested(world: World) -> None:
    cart = [{"sku": "a", "quantity": 1, "price": 100}]
    body = {
        **session(profileId="jane", cartItems=cart, couponCodes=["SHIP5", "NOPE"]),
        "responseContent": ALL_ENTITIES,
    }

    answer = call(world, "PUT", "/v2/customer_sessions/cart", body)

    assert set(ALL_ENTITIES) - set(answer) == {"referral", "campaignEligibility"}
    assert answer["loyalty"]["programs"]["1"]["ledger"]["currentBalance"] == 0
    assert answer["loyalty"]["programs"]["1"]["ledger"]["tentativeCurrentBalance"] == 100
    assert [campaign["name"] for campaign in answer["triggeredCampaigns"]] == [
        "Coupons",
        "5 % off from 100",
        "Points",
        "Regulars",
    ]
    assert [coupon["value"] for coupon in answer["coupons"]] == ["SHIP5"]
    assert answer["event"]["type"] == "talon_session_created"
    effect = answer["effects"][0]
    assert set(effect) >= {"campaignId", "rulesetId", "ruleIndex", "ruleName", "effectType", "props"}


def test_a_stored_session_is_read_with_its_effects(world: World) -> None:
    call(world, "PUT", "/v2/customer_sessions/cart", session(couponCodes=["NOPE"]))

    answer = call(world, "GET", "/v2/customer_sessions/cart")

    assert answer["customerSession"]["couponCodes"] == ["NOPE"]
    assert answer["effects"][0]["props"] == {"value": "NOPE", "rejectionReason": "CouponNotFound"}


def test_the_id_of_a_session_names_one_session_however_it_is_encoded(world: World) -> None:
    call(world, "PUT", "/v2/customer_sessions/j%40x", session())

    assert call(world, "GET", "/v2/customer_sessions/j@x")["customerSession"]["integrationId"] == "j@x"


def test_an_event_is_silent_unless_asked_to_speak(world: World) -> None:
    event = {"type": "viewed", "profileId": "jane", "responseContent": ["event", "customerProfile"]}

    assert call(world, "POST", "/v2/events", event) == 204
    spoken = call(world, "POST", "/v2/events?silent=no", event)
    assert spoken["event"]["type"] == "viewed"
    assert spoken["customerProfile"]["integrationId"] == "jane"
    assert spoken["effects"] == []


def test_a_profile_is_shown_only_when_the_rule_engine_runs(world: World) -> None:
    body = {"attributes": {"Name": "Jane"}, "responseContent": ["customerProfile"]}

    assert "customerProfile" not in call(world, "PUT", "/v2/customer_profiles/jane", body)
    shown = call(world, "PUT", "/v2/customer_profiles/jane?runRuleEngine=true", body)
    assert shown["customerProfile"]["attributes"] == {"Name": "Jane"}


def test_campaigns_are_listed_in_pages(world: World) -> None:
    everything = call(world, "GET", "/v1/integration/campaigns")
    assert {campaign["applicationId"] for campaign in everything["data"]} == {7}
    assert everything["hasMore"] is False

    page = call(world, "GET", "/v1/integration/campaigns?pageSize=1&skip=1")
    assert [campaign["id"] for campaign in page["data"]] == [2]
    assert page["hasMore"] is True


@pytest.mark.parametrize(
    ("method", "target"),
    [
        ("GET", "/v2/customer_sessions/unknown"),
        ("PUT", "/v2/customer_sessions/"),
        ("PUT", "/v2/customer_sessions/a/b"),
        ("PUT", "/v2/customer_sessions/unknown/reopen"),
        ("POST", "/v1/events/a"),
        ("GET", "/v3/events/unknown"),
        ("DELETE", "/v2/customer_sessions/a"),
        ("GET", "/elsewhere"),
    ],
)
def test_what_does_not_exist_is_404(world: World, method: str, target: str) -> None:
    with pytest.raises(Problem) as refused:
        understand(world, method, target).perform()

    assert refused.value.status == 404


@pytest.mark.parametrize(
    "target",
    [
        "/v2/events?silent=maybe",
        "/v2/events?dry=perhaps",
        "/v1/integration/campaigns?pageSize=0",
        "/v1/integration/campaigns?pageSize=1001",
        "/v1/integration/campaigns?skip=x",
    ],
)
def test_a_bad_parameter_is_named(world: World, target: str) -> None:
    method = "POST" if "events" in target else "GET"

    with pytest.raises(Problem) as refused:
        understand(world, method, target, {"type": "viewed", "profileId": "jane"})

    assert refused.value.errors is not None
    assert refused.value.errors[0]["source"]["parameter"] in target


@pytest.mark.parametrize(
    ("event", "title"),
    [
        ({"profileId": "jane"}, "required"),
        ({"type": "viewed"}, "required"),
        ({"profileId": "jane", "type": "talon_session_closed"}, "Invalid value"),
        ({"profileId": "jane", "type": 1}, "Invalid type"),
    ],
)
def test_a_bad_event_is_refused(world: World, event: object, title: str) -> None:
    with pytest.raises(Problem) as refused:
        understand(world, "POST", "/v2/events", event)

    assert refused.value.errors is not None
    assert refused.value.errors[0]["title"] == title


def test_an_unknown_entity_is_refused(world: World) -> None:
    with pytest.raises(Problem):
        understand(world, "PUT", "/v2/customer_sessions/cart", {**session(), "responseContent": ["everything"]})


def test_session_operations_leave_the_status_out_of_a_400() -> None:
    problem = invalid("enum", "must be one of open", pointer="/state")

    of_session = orjson.loads(answer_problem(problem, "/v2/customer_sessions/cart").body)
    of_profile = orjson.loads(answer_problem(problem, "/v2/customer_profiles/jane").body)

    assert list(of_session) == ["message", "errors"]
    assert of_profile["StatusCode"] == 400
    assert of_session["errors"] == [
        {"title": "enum", "details": "must be one of open", "source": {"pointer": "/state"}}
    ]


def test_every_listed_operation_is_there_under_its_name(world: World) -> None:
    listed = {operation.name: (operation.method.decode(), operation.template) for operation in LISTED}

    assert set(OPERATIONS) == set(listed)
    for name, (line, _) in OPERATIONS.items():
        method, template = listed[name]
        assert line == f"{method} {re.sub(r'{[^}]+}', '{}', template)}"


def test_an_operation_bears_its_name(world: World) -> None:
    assert understand(world, "GET", "/v2/customer_sessions/cart").name == "getCustomerSession"
    assert understand(world, "GET", "/v1/coupon_reservations/customerprofiles/A").name == "getReservedCustomers"


JANE = {"type": "viewed", "profileId": "jane"}
PROFILE = Key("profile", "live", "jane")


@pytest.mark.parametrize(
    ("switch", "method", "target", "body", "keys"),
    [
        ("dry_counts", "POST", "/v2/events?dry=true", JANE, (PROFILE,)),
        ("reads_count", "GET", "/v1/customer_profiles/jane/inventory", None, (PROFILE,)),
        ("reads_count", "GET", "/v2/customer_sessions/cart", None, (Key("session", "shop", "cart"), PROFILE)),
        ("events_v3_count", "POST", "/v3/events", {**JANE, "integrationId": "e"}, (PROFILE,)),
        ("returns_count", "PUT", "/v2/customer_sessions/cart/reopen", None, (Key("session", "shop", "cart"), PROFILE)),
        ("legacy_counts", "POST", "/v1/events", {"type": "viewed", "sessionId": "cart"}, (PROFILE,)),
    ],
)
@pytest.mark.parametrize("counts", [True, False])
def test_what_counts_as_parallel_can_be_switched(
    switch: str, method: str, target: str, body: object, keys: tuple[Key, ...], counts: bool
) -> None:
    unknowns = Unknowns.model_validate({switch: counts})
    world = World(book=rulebook_file.default().model_copy(update={"unknowns": unknowns}))
    call(world, "PUT", "/v2/customer_sessions/cart", session(profileId="jane"))

    assert understand(world, method, target, body).keys == (keys if counts else ())
