"""The life of a session in the simulated Talon.One: merging, states, dry calls, returning and reopening."""

from typing import Any

import orjson
import pytest

from proxy.simulator import payload, world
from proxy.simulator.problems import Problem
from proxy.simulator.sessions import merge
from proxy.simulator.unknowns import Unknowns
from proxy.simulator.world import Application
from tests.talon_world import SHOP, Talon, effects, of_type

OUTLET = Application("outlet", 2)
SANDBOX = Application("sandbox", 3, environment="sandbox")
CART = [{"sku": "shoe", "quantity": 2, "price": 30.25}]
BIG_CART = [{"sku": "coat", "quantity": 1, "price": 200}]
SOCKS = [{"sku": "sock", "quantity": 3, "price": 4}, {"sku": "mug", "quantity": 1, "price": 8}]


@pytest.fixture
def talon() -> Talon:
    return Talon()


def give_back(talon: Talon, *items: dict[str, Any], session: str = "cart", query: str = "", expect: int = 200) -> Any:
    body = {"return": {"returnedCartItems": list(items)}, "responseContent": ["customerSession", "previousReturns"]}
    return talon.call("POST", f"/v2/customer_sessions/{session}/returns{query}", body, expect=expect)


def test_sent_properties_replace_and_absent_ones_stay(talon: Talon) -> None:
    talon.put(cartItems=CART, couponCodes=["WELCOME10"], referralCode="friend")

    talon.put(cartItems=BIG_CART)

    session = talon.session()
    assert [item["sku"] for item in session["cartItems"]] == ["coat"]
    assert (session["couponCodes"], session["referralCode"]) == (["WELCOME10"], "friend")


def test_an_empty_list_of_coupons_clears_and_null_keeps(talon: Talon) -> None:
    talon.put(couponCodes=["WELCOME10"])

    talon.put(couponCodes=None)
    assert talon.session()["couponCodes"] == ["WELCOME10"]

    talon.put(couponCodes=[])
    assert talon.session()["couponCodes"] == []


@pytest.mark.parametrize(
    ("name", "switch", "by_default"),
    [("attributes", "attributes_merge", True), ("additionalCosts", "additional_costs_merge", False)],
)
@pytest.mark.parametrize("one_by_one", [True, False])
def test_maps_are_merged_or_replaced_as_switched(name: str, switch: str, by_default: bool, one_by_one: bool) -> None:
    stored, sent = {name: {"a": 1, "b": 1}}, {name: {"b": 2}}
    both, latest = {name: {"a": 1, "b": 2}}, {name: {"b": 2}}

    assert merge(stored, sent, Unknowns(**{switch: one_by_one})) == (both if one_by_one else latest)  # type: ignore[arg-type]
    assert merge(stored, sent, Unknowns()) == (both if by_default else latest)


def test_a_session_follows_its_profile_from_guest_to_customer_to_anonymous(talon: Talon) -> None:
    talon.put(profileId="guest")
    talon.put(couponCodes=[])
    assert talon.session()["profileId"] == "guest"

    talon.put(profileId="jane")
    assert talon.session()["profileId"] == "jane"

    talon.put(profileId="")
    assert talon.session()["profileId"] == ""


def test_profiles_are_shared_within_an_environment_and_sessions_are_not(talon: Talon) -> None:
    one = talon.put(profileId="jane")
    two = talon.put(profileId="jane", at=OUTLET)
    three = talon.put(profileId="jane", at=SANDBOX)

    assert one["customerProfile"]["id"] == two["customerProfile"]["id"] != three["customerProfile"]["id"]
    assert three["customerProfile"]["sandbox"] is True
    assert one["customerSession"]["id"] != two["customerSession"]["id"]


def test_points_earned_in_one_application_can_be_seen_in_another(talon: Talon) -> None:
    talon.put(profileId="jane", cartItems=BIG_CART, state="closed")

    seen = talon.inventory("jane", at=OUTLET)

    assert seen["loyalty"]["programs"]["1"]["ledger"]["currentBalance"] == 200


def test_only_the_first_session_of_a_profile_is_its_first(talon: Talon) -> None:
    sessions = [talon.put("one", profileId="jane"), talon.put("two", profileId="jane"), talon.put("anonymous")]

    assert [answer["customerSession"]["firstSession"] for answer in sessions] == [True, False, True]


def test_updates_are_counted_and_dated(talon: Talon) -> None:
    talon.put()
    talon.pass_by(seconds=1)
    talon.put()

    session = talon.session()
    assert session["updateCount"] == 2
    assert session["created"] < session["updated"]


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        (["open", "open"], True),
        (["open", "closed"], True),
        (["open", "cancelled"], True),
        (["closed", "cancelled"], True),
        (["closed"], True),
        (["cancelled"], False),
        (["closed", "open"], False),
        (["closed", None], False),
        (["closed", "closed"], False),
        (["open", "cancelled", "open"], False),
        (["open", "partially_returned"], False),
        (["closed", "partially_returned"], False),
    ],
)
def test_states_change_only_where_talon_one_allows_it(talon: Talon, path: list[str | None], allowed: bool) -> None:
    *before, last = path
    for state in before:
        talon.put(state=state)

    if allowed:
        talon.put(state=last)
        assert talon.session()["state"] == last
    else:
        answer = talon.put(state=last, expect=400)
        assert answer["errors"][0]["source"] == {"pointer": "/state"}


def test_a_put_on_a_closed_session_may_be_ignored_instead() -> None:
    talon = Talon(update_of_closed="ignore")
    talon.put(cartItems=CART, couponCodes=["WELCOME10"], state="closed")

    answer = talon.put(cartItems=BIG_CART, state="open")

    assert of_type(answer, "setDiscount") == [("setDiscount", 6.05)]
    assert talon.session()["state"] == "closed"
    assert talon.session()["updateCount"] == 1


def test_a_refused_update_leaves_no_trace(talon: Talon) -> None:
    talon.put(state="cancelled", profileId="jane", expect=400)

    assert repr(talon.world) == "<World of 0 sessions and 0 profiles>"


def test_a_dry_update_sees_only_what_was_sent_and_stores_nothing(talon: Talon) -> None:
    talon.put(cartItems=BIG_CART, profileId="jane")

    tried = talon.put(couponCodes=["WELCOME10"], profileId="john", query="?dry=true")

    assert effects(tried) == [("acceptCoupon", "WELCOME10")]
    assert talon.session()["couponCodes"] == []
    talon.call("GET", "/v1/customer_profiles/john/inventory", expect=404)


def test_a_dry_close_books_nothing(talon: Talon) -> None:
    tried = talon.put(cartItems=BIG_CART, profileId="jane", state="closed", query="?dry=true")

    assert tried["customerSession"]["state"] == "closed"
    talon.put("other", profileId="jane")
    assert talon.points()["activePoints"] == 0


def test_dry_calls_do_not_shift_the_ids_of_what_comes_after() -> None:
    def ids(*, dry: bool) -> tuple[int, int]:
        talon = Talon()
        if dry:
            talon.put("tried", profileId="jane", cartItems=BIG_CART, query="?dry=true")
            talon.call("POST", "/v2/events?dry=true", {"type": "share", "profileId": "jane"}, expect=204)
        answer = talon.put(profileId="jane", cartItems=BIG_CART)
        return answer["customerSession"]["id"], answer["customerProfile"]["id"]

    assert ids(dry=True) == ids(dry=False)


def test_the_same_calls_give_the_same_answers() -> None:
    def answers() -> list[Any]:
        talon = Talon()
        talon.call("POST", "/v2/events", {"type": "newsletter_signup", "profileId": "jane"}, expect=204)
        return [talon.put(profileId="jane", cartItems=SOCKS, state="closed"), talon.inventory("jane")]

    assert answers() == answers()


def test_a_future_moment_is_for_dry_calls_alone(talon: Talon) -> None:
    in_summer = "now=2099-07-01T00:00:00Z"

    assert effects(talon.put(couponCodes=["SUMMER"])) == [("rejectCoupon", "CouponPartOfNotRunningCampaign")]
    tried = talon.put(cartItems=CART, couponCodes=["SUMMER"], query=f"?dry=true&{in_summer}")
    assert of_type(tried, "acceptCoupon", "setDiscount") == [("acceptCoupon", "SUMMER"), ("setDiscount", 15.13)]
    talon.put(query=f"?{in_summer}", expect=400)
    talon.put(query="?dry=true&now=2020-01-01T00:00:00Z", expect=400)


def test_dry_calls_may_choose_the_campaigns_even_those_that_are_off(talon: Talon) -> None:
    off = next(campaign.id for campaign in talon.world.book.campaigns if campaign.name == "Switched off")
    sent: dict[str, Any] = {"cartItems": BIG_CART, "couponCodes": ["OFF"], "evaluableCampaignIds": [off]}

    assert effects(talon.put(query="?dry=true", **sent)) == [("acceptCoupon", "OFF"), ("setDiscount", 50)]
    assert ("rejectCoupon", "CouponPartOfNotRunningCampaign") in effects(talon.put(**sent))


def test_points_and_coupons_are_booked_when_the_session_closes(talon: Talon) -> None:
    opened = talon.put(profileId="jane", cartItems=CART, couponCodes=["SHIP5"])
    assert (opened["coupons"][0]["usageCounter"], talon.points()["activePoints"]) == (0, 0)
    assert opened["loyalty"]["programs"]["1"]["ledger"]["tentativeCurrentBalance"] == 60

    closed = talon.put(state="closed")

    profile = closed["customerProfile"]
    assert (talon.points()["activePoints"], profile["closedSessions"], profile["totalSales"]) == (60, 1, 60.5)
    assert (closed["coupons"][0]["usageCounter"], closed["coupons"][0]["profileRedemptionCount"]) == (1, 1)


def test_cancelling_a_closed_session_takes_back_what_was_booked(talon: Talon) -> None:
    talon.put(profileId="jane", cartItems=CART, couponCodes=["SHIP5"], state="closed")

    revoked = talon.put(state="cancelled", profileId="john", cartItems=[])

    profile = revoked["customerProfile"]
    assert (talon.points()["activePoints"], profile["closedSessions"], profile["totalSales"]) == (0, 0, 0)
    assert revoked["coupons"][0]["usageCounter"] == 0
    assert effects(revoked) == [
        ("rollbackIncreasedAchievementProgress", 1),
        ("rollbackAddedLoyaltyPoints", 60),
        ("rollbackDiscount", 5),
        ("rollbackCoupon", "SHIP5"),
    ]
    assert talon.session()["profileId"] == "jane"


def test_cancelling_an_open_session_has_nothing_to_take_back(talon: Talon) -> None:
    talon.put(profileId="jane", cartItems=CART)

    assert talon.put(state="cancelled")["effects"] == []


def test_every_update_raises_its_built_in_event(talon: Talon) -> None:
    answers = [talon.put(), talon.put(), talon.put(state="closed"), talon.put(state="cancelled")]

    assert [answer["event"]["type"] for answer in answers] == [
        "talon_session_created",
        "talon_session_updated",
        "talon_session_closed",
        "talon_session_revoked",
    ]


def test_events_that_are_not_known_for_sure_can_be_switched() -> None:
    talon = Talon(born_closed_event="talon_session_closed", cancelled_after_return_event="talon_session_cancelled")

    born = talon.put(cartItems=CART, state="closed")
    give_back(talon, {"position": 0})
    cancelled = talon.put(state="cancelled")

    assert (born["event"]["type"], cancelled["event"]["type"]) == ("talon_session_closed", "talon_session_cancelled")
    assert Talon().put(state="closed")["event"]["type"] == "talon_session_created"


def test_reopening_undoes_what_was_booked_and_the_session_goes_on(talon: Talon) -> None:
    talon.put(profileId="jane", cartItems=CART, couponCodes=["SHIP5"], state="closed")

    reopened = talon.call("PUT", "/v2/customer_sessions/cart/reopen")

    assert list(reopened) == ["effects"]
    assert ("rollbackCoupon", "SHIP5") in effects(reopened)
    assert (talon.session()["state"], talon.points()["activePoints"]) == ("open", 0)
    closed = talon.put(state="closed")
    assert ("acceptCoupon", "SHIP5") in effects(closed)
    assert (talon.points()["activePoints"], closed["customerProfile"]["closedSessions"]) == (60, 1)


@pytest.mark.parametrize("states", [["open"], ["open", "cancelled"]])
def test_only_a_closed_session_can_be_reopened_or_returned(talon: Talon, states: list[str]) -> None:
    for state in states:
        talon.put(cartItems=CART, state=state)

    talon.call("PUT", "/v2/customer_sessions/cart/reopen", expect=400)
    give_back(talon, {"position": 0}, expect=400)


@pytest.mark.parametrize("status", [404, 400])
def test_an_unknown_session_has_the_switched_status(status: int) -> None:
    talon = Talon(unknown_session=status)

    talon.call("GET", "/v2/customer_sessions/none", expect=status)
    talon.call("PUT", "/v2/customer_sessions/none/reopen", expect=status)
    give_back(talon, {"position": 0}, session="none", expect=status)


def test_what_is_never_undone_stands_after_a_cancellation() -> None:
    talon = Talon()
    talon.put(profileId="jane", cartItems=[{"sku": "car", "quantity": 1, "price": 500}], state="closed")

    revoked = talon.put(state="cancelled")

    standing = [kind for kind, _ in effects(talon.call("GET", "/v2/customer_sessions/cart"))]
    assert standing == [
        "startAchievementProgress",
        "awardGiveaway",
        "triggerWebhook",
        "customEffect",
        "changeLoyaltyTierLevel",
    ]
    assert all(kind.startswith("rollback") for kind, _ in effects(revoked))
    assert [one["code"] for one in talon.inventory("jane")["giveaways"]] == ["TICKET-0001"]


def test_a_return_undoes_what_the_items_earned_and_nothing_else(talon: Talon) -> None:
    closed = talon.put(profileId="jane", cartItems=SOCKS, couponCodes=["WELCOME10"], state="closed")
    assert of_type(closed, "setDiscountPerItem") == [("setDiscountPerItem", 2)] * 3
    assert talon.points(program=2)["pendingPoints"] == 24

    answer = give_back(talon, {"position": 0, "quantity": 2})

    assert effects(answer) == [("rollbackAddedLoyaltyPoints", 8)] * 2 + [("rollbackDiscount", 2)] * 2
    units = [effect["props"]["cartItemSubPosition"] for effect in answer["effects"]]
    assert units == [2, 1, 2, 1]
    assert talon.points(program=2)["pendingPoints"] == 8
    assert talon.points()["activePoints"] == 20
    session = talon.session()
    assert session["state"] == "partially_returned"
    assert [(item["returnedQuantity"], item["remainingQuantity"]) for item in session["cartItems"]] == [(2, 1), (0, 1)]
    assert talon.inventory("jane")["profile"]["totalSales"] == 12


def test_a_return_names_items_by_sku_or_position_and_is_told_in_the_answer(talon: Talon) -> None:
    twice = [{"sku": "sock", "quantity": 1, "price": 4}, {"sku": "sock", "quantity": 2, "price": 4}]
    talon.put(profileId="jane", cartItems=twice, state="closed")

    first = give_back(talon, {"sku": "sock", "quantity": 2})
    second = give_back(talon, {"position": 1})

    assert first["return"]["returnedCartItems"] == [
        {"position": 0, "quantity": 1, "sku": "sock"},
        {"position": 1, "quantity": 1, "sku": "sock"},
    ]
    assert first["previousReturns"] == []
    assert second["previousReturns"] == [first["return"]]


@pytest.mark.parametrize("item", [{"position": 0, "quantity": 3}, {"position": 5}, {"sku": "none"}, {"quantity": 1}])
def test_more_than_was_bought_cannot_be_returned(talon: Talon, item: dict[str, Any]) -> None:
    talon.put(cartItems=CART, state="closed")

    answer = give_back(talon, item, expect=400)

    assert answer["errors"][0]["source"]["pointer"].startswith("/returnedCartItems/0")
    assert talon.session()["state"] == "closed"


def test_a_dry_return_tells_and_does_nothing(talon: Talon) -> None:
    talon.put(profileId="jane", cartItems=SOCKS, state="closed")

    tried = give_back(talon, {"position": 0}, query="?dry=true")

    assert effects(tried) == [("rollbackAddedLoyaltyPoints", 8), ("rollbackDiscount", 2)]
    assert talon.session()["state"] == "closed"
    assert talon.points(program=2)["pendingPoints"] == 24


def test_cancelling_after_a_return_undoes_the_rest(talon: Talon) -> None:
    talon.put(profileId="jane", cartItems=SOCKS, state="closed")
    give_back(talon, {"position": 0, "quantity": 2})

    cancelled = talon.put(state="cancelled")

    assert of_type(cancelled, "rollbackDiscount") == [("rollbackDiscount", 2)]
    assert (talon.points(program=2)["pendingPoints"], talon.points()["activePoints"]) == (0, 0)
    assert talon.inventory("jane")["profile"]["totalSales"] == 0


def test_further_returns_can_be_switched_off() -> None:
    talon = Talon(further_returns=False)
    talon.put(cartItems=CART, state="closed")
    give_back(talon, {"position": 0})

    give_back(talon, {"position": 0}, expect=400)


def test_a_return_can_take_back_its_share_of_the_whole_session() -> None:
    talon = Talon(returns_scale_session_effects=True)
    talon.put(profileId="jane", cartItems=CART, couponCodes=["WELCOME10"], state="closed")

    answer = give_back(talon, {"position": 0})
    rest = talon.put(state="cancelled")

    # Half of 60 points, and half of 6.05, half a cent up.
    assert effects(answer) == [("rollbackAddedLoyaltyPoints", 30), ("rollbackDiscount", 3.03)]
    assert of_type(rest, "rollbackAddedLoyaltyPoints", "rollbackDiscount") == [
        ("rollbackAddedLoyaltyPoints", 30),
        ("rollbackDiscount", 3.02),
    ]


def test_a_return_looks_again_at_campaigns_that_are_set_up_for_it(talon: Talon) -> None:
    talon.put(profileId="jane", cartItems=SOCKS, state="closed")

    answer = give_back(talon, {"position": 0, "quantity": 2}, query="?runRuleEngine=true")

    assert of_type(answer, "rollbackDiscount", "setDiscountPerItem") == [
        *[("rollbackDiscount", 2)] * 3,
        ("setDiscountPerItem", 2),
    ]
    assert talon.points(program=2)["pendingPoints"] == 8


@pytest.mark.parametrize(
    ("session", "title", "pointer"),
    [
        ({"state": "paid"}, "enum", "/state"),
        ({"state": 1}, "enum", "/state"),
        ({"profileId": 1}, "Invalid type", "/profileId"),
        ({"couponCodes": "A"}, "Invalid type", "/couponCodes"),
        ({"couponCodes": ["A", 1]}, "Invalid type", "/couponCodes/1"),
        ({"couponCodes": ["A" * 101]}, "maximum", "/couponCodes/0"),
        ({"cartItems": [{"quantity": 1}]}, "required", "/cartItems/0/sku"),
        ({"cartItems": [{"sku": "a", "quantity": 0}]}, "minimum", "/cartItems/0/quantity"),
        ({"cartItems": [{"sku": "a", "quantity": True}]}, "Invalid type", "/cartItems/0/quantity"),
        ({"cartItems": [{"sku": "a", "quantity": 1, "price": "1"}]}, "Invalid type", "/cartItems/0/price"),
        ({"cartItems": [{"sku": "a", "quantity": 1, "price": 1e300}]}, "maximum", "/cartItems/0/price"),
        ({"cartItems": [{"sku": "a", "quantity": 1, "attributes": []}]}, "Invalid type", "/cartItems/0/attributes"),
        (
            {"cartItems": [{"sku": "a", "quantity": 1, "price": 1, "additionalCosts": {"x": 1}}]},
            "Invalid type",
            "/cartItems/0/additionalCosts/x",
        ),
        ({"cartItems": [{"sku": "a", "quantity": 6000}] * 2}, "maximum", "/cartItems"),
        ({"cartItems": [{"sku": "a", "quantity": 1}] * 1001}, "maximum", "/cartItems"),
        ({"additionalCosts": {"x": {}}}, "Invalid type", "/additionalCosts/x/price"),
        ({"identifiers": ["a"] * 6}, "maximum", "/identifiers"),
        ({"loyaltyCards": ["a", "b"]}, "maximum", "/loyaltyCards"),
        ({"storeIntegrationId": ""}, "minLength", "/storeIntegrationId"),
        ({"attributes": []}, "Invalid type", "/attributes"),
    ],
)
def test_a_bad_property_is_named(session: dict[str, Any], title: str, pointer: str) -> None:
    with pytest.raises(Problem) as refused:
        payload.session_update(orjson.dumps({"customerSession": session}))

    assert refused.value.errors is not None
    assert refused.value.errors[0]["title"] == title
    assert refused.value.errors[0]["source"] == {"pointer": pointer}


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b"[]", b"{}", b'{"customerSession": null}'])
def test_a_body_without_a_session_is_refused(body: bytes) -> None:
    with pytest.raises(Problem) as refused:
        payload.session_update(body)

    assert refused.value.status == 400


@pytest.mark.parametrize(("depth", "status"), [(90, 200), (100, 400), (240, 400), (1000, 400), (5000, 400)])
def test_deeply_nested_attributes_are_stored_or_refused_but_never_break_an_answer(depth: int, status: int) -> None:
    talon = Talon("")  # a book that declares no attributes
    nested = b'{"customerSession": {"attributes": {"a": ' + b"[" * depth + b"]" * depth + b"}}}"

    talon.call("PUT", "/v2/customer_sessions/cart", nested, expect=status)

    if status == 200:
        assert talon.session()["attributes"]["a"]


def test_what_was_used_longest_ago_is_forgotten_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(world, "SESSIONS", 2)
    talon = Talon()
    talon.put("one")
    talon.put("two")
    talon.put("one")

    talon.put("three")

    talon.session("one")
    talon.session("three")
    talon.call("GET", "/v2/customer_sessions/two", expect=404)


def test_a_forgotten_customer_does_not_break_the_session(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(world, "PROFILES", 1)
    talon = Talon()
    talon.put(profileId="jane", cartItems=SOCKS, state="closed")
    talon.put("other", profileId="john")

    give_back(talon, {"position": 0})
    cancelled = talon.put(state="cancelled")

    assert ("rollbackDiscount", 2) in effects(cancelled)


def test_sessions_of_an_application_are_of_that_application(talon: Talon) -> None:
    talon.put(at=OUTLET)

    assert talon.session(at=OUTLET)["applicationId"] == OUTLET.id
    talon.call("GET", "/v2/customer_sessions/cart", at=SHOP, expect=404)
