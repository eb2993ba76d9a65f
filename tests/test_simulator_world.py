import itertools
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest

from proxy.simulator import payload
from proxy.simulator.problems import Problem
from proxy.simulator.world import Application, Evaluation, World, merge

SHOP = Application("shop", 1)
OUTLET = Application("outlet", 2)
SANDBOX = Application("sandbox", 3, environment="sandbox")
CART = [{"sku": "shoe", "quantity": 2, "price": 30.25}]
BIG_CART = [{"sku": "coat", "quantity": 1, "price": 200}]


@pytest.fixture
def world() -> World:
    ticks = itertools.count()
    return World(clock=lambda: datetime(2026, 5, 1, tzinfo=UTC) + timedelta(seconds=next(ticks)))


def put(world: World, session: str = "cart", *, application: Application = SHOP, **sent: Any) -> Evaluation:
    return world.update_session(application, session, _update(sent))


def dry(world: World, session: str = "cart", **sent: Any) -> Evaluation:
    return world.try_session(SHOP, session, _update(sent))


def _update(sent: dict[str, Any]) -> payload.SessionUpdate:
    return payload.session_update(orjson.dumps({"customerSession": sent}))


def effects(evaluation: Evaluation) -> list[tuple[str, Any]]:
    return [(effect.type, effect.props.get("rejectionReason", effect.props["value"])) for effect in evaluation.effects]


def test_sent_properties_replace_and_absent_ones_stay(world: World) -> None:
    put(world, cartItems=CART, couponCodes=["WELCOME10"], referralCode="friend")

    put(world, cartItems=BIG_CART)

    content = world.session(SHOP, "cart").content
    assert content == {"cartItems": BIG_CART, "couponCodes": ["WELCOME10"], "referralCode": "friend"}


def test_an_empty_list_of_coupons_clears_and_null_keeps(world: World) -> None:
    put(world, couponCodes=["WELCOME10"])

    put(world, couponCodes=None)
    assert world.session(SHOP, "cart").content["couponCodes"] == ["WELCOME10"]

    put(world, couponCodes=[])
    assert world.session(SHOP, "cart").content["couponCodes"] == []


def test_attributes_are_merged_one_by_one() -> None:
    merged = merge({"attributes": {"city": "Berlin", "vip": True}}, {"attributes": {"city": "Rome"}})

    assert merged == {"attributes": {"city": "Rome", "vip": True}}


def test_a_session_follows_its_profile_from_guest_to_customer_to_anonymous(world: World) -> None:
    put(world, profileId="guest")
    put(world, couponCodes=[])
    assert world.linked_profile(SHOP, "cart") == "guest"

    put(world, profileId="jane")
    assert world.linked_profile(SHOP, "cart") == "jane"

    put(world, profileId="")
    assert world.linked_profile(SHOP, "cart") == ""


def test_an_unknown_profile_is_created(world: World) -> None:
    put(world, profileId="jane")

    assert world.profile(SHOP, "jane") is not None


def test_profiles_are_shared_within_an_environment_and_sessions_are_not(world: World) -> None:
    put(world, profileId="jane")
    put(world, application=OUTLET, profileId="jane")

    assert world.profile(SHOP, "jane") is world.profile(OUTLET, "jane")
    assert world.profile(SANDBOX, "jane") is None
    assert world.session(SHOP, "cart") is not world.session(OUTLET, "cart")


def test_only_the_first_session_of_a_profile_is_its_first(world: World) -> None:
    put(world, "one", profileId="jane")
    put(world, "two", profileId="jane")
    put(world, "anonymous")

    assert [world.session(SHOP, name).first_session for name in ("one", "two", "anonymous")] == [True, False, True]


def test_updates_are_counted_and_dated(world: World) -> None:
    put(world)
    put(world)

    session = world.session(SHOP, "cart")
    assert session.update_count == 2
    assert session.created < session.updated


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
def test_states_change_only_where_talon_one_allows_it(world: World, path: list[str | None], allowed: bool) -> None:
    *before, last = path
    for state in before:
        put(world, state=state)

    if allowed:
        put(world, state=last)
        assert world.session(SHOP, "cart").state == last
    else:
        with pytest.raises(Problem) as refused:
            put(world, state=last)
        assert refused.value.status == 400


def test_an_update_without_state_leaves_an_open_session_open(world: World) -> None:
    put(world, state="open")
    put(world, cartItems=CART)

    assert world.session(SHOP, "cart").state == "open"


def test_a_refused_update_leaves_no_trace(world: World) -> None:
    with pytest.raises(Problem):
        put(world, state="cancelled", profileId="jane")

    assert repr(world) == "<World of 0 sessions and 0 profiles>"


def test_a_dry_update_sees_only_what_was_sent_and_stores_nothing(world: World) -> None:
    put(world, cartItems=BIG_CART, profileId="jane")

    tried = dry(world, couponCodes=["WELCOME10"], profileId="john")

    assert effects(tried) == [("acceptCoupon", "WELCOME10")]
    assert world.session(SHOP, "cart").content == {"cartItems": BIG_CART}
    assert world.linked_profile(SHOP, "cart") == "jane"
    assert world.profile(SHOP, "john") is None


def test_welcome10_takes_ten_per_cent_of_the_cart(world: World) -> None:
    evaluation = put(world, cartItems=CART, couponCodes=["WELCOME10"])

    assert effects(evaluation) == [("acceptCoupon", "WELCOME10"), ("setDiscount", 6.05)]
    assert {effect.coupon for effect in evaluation.effects} == {1}


def test_an_unknown_coupon_is_not_found(world: World) -> None:
    assert effects(put(world, couponCodes=["NOPE"])) == [("rejectCoupon", "CouponNotFound")]


def test_carts_of_a_hundred_get_five_per_cent_and_customers_get_points(world: World) -> None:
    evaluation = put(world, profileId="jane", cartItems=BIG_CART, additionalCosts={"shipping": {"price": 4.99}})

    assert effects(evaluation) == [("setDiscount", 10.0), ("addLoyaltyPoints", 204)]


def test_ship5_is_once_per_profile_and_needs_one(world: World) -> None:
    sent: dict[str, Any] = {"cartItems": [{"sku": "sock", "quantity": 1, "price": 3}], "couponCodes": ["SHIP5"]}

    assert effects(put(world, "one", **sent)) == [("rejectCoupon", "ProfileRequired")]
    first = put(world, "two", profileId="jane", state="closed", **sent)
    second = put(world, "three", profileId="jane", **sent)

    assert effects(first)[:2] == [("acceptCoupon", "SHIP5"), ("setDiscount", 3)]
    assert effects(second)[0] == ("rejectCoupon", "ProfileLimitReached")
    assert effects(put(world, "four", profileId="john", **sent))[0] == ("acceptCoupon", "SHIP5")


def test_points_and_coupons_are_booked_when_the_session_closes(world: World) -> None:
    opened = put(world, profileId="jane", cartItems=CART, couponCodes=["SHIP5"])
    jane = world.profile(SHOP, "jane")
    assert jane is not None
    assert (jane.points, jane.closed_sessions, opened.coupons[0].count) == (0, 0, 0)

    closed = put(world, state="closed")

    assert (jane.points, jane.closed_sessions, jane.total_sales) == (60, 1, 60.5)
    assert (closed.coupons[0].count, closed.coupons[0].count_of_profile) == (1, 1)


def test_cancelling_a_closed_session_takes_back_what_was_booked(world: World) -> None:
    put(world, profileId="jane", cartItems=CART, couponCodes=["SHIP5"], state="closed")

    revoked = put(world, state="cancelled", profileId="john", cartItems=[])

    jane = world.profile(SHOP, "jane")
    assert jane is not None
    assert (jane.points, jane.closed_sessions, jane.total_sales) == (0, 0, 0)
    assert revoked.coupons[0].count == 0
    assert effects(revoked) == [
        ("rollbackAddedLoyaltyPoints", 60),
        ("rollbackDiscount", 5.0),
        ("rollbackCoupon", "SHIP5"),
    ]
    assert world.linked_profile(SHOP, "cart") == "jane"


def test_cancelling_an_open_session_has_nothing_to_take_back(world: World) -> None:
    put(world, profileId="jane", cartItems=CART)

    assert put(world, state="cancelled").effects == ()


def test_every_update_raises_its_built_in_event(world: World) -> None:
    types = [
        evaluation.event.type
        for evaluation in (put(world), put(world), put(world, state="closed"), put(world, state="cancelled"))
        if evaluation.event
    ]

    assert types == [
        "talon_session_created",
        "talon_session_updated",
        "talon_session_closed",
        "talon_session_revoked",
    ]


def test_profile_attributes_are_merged_and_a_dry_update_is_not_kept(world: World) -> None:
    def update(attributes: dict[str, Any]) -> payload.ProfileUpdate:
        return payload.profile_update(orjson.dumps({"attributes": attributes}))

    world.update_profile(SHOP, "jane", update({"a": 1, "b": 1}), run_rules=False)
    tried = world.try_profile(SHOP, "jane", update({"b": 3}))
    world.update_profile(SHOP, "jane", update({"b": 2}), run_rules=True)

    jane = world.profile(SHOP, "jane")
    assert jane is not None
    assert jane.attributes == {"a": 1, "b": 2}
    assert tried.profile is not None
    assert tried.profile.attributes == {"a": 1, "b": 3}


def test_an_event_creates_its_customer_unless_it_is_dry(world: World) -> None:
    event = payload.tracked_event(b'{"type": "viewed", "profileId": "jane"}')

    world.try_event(SHOP, event)
    assert world.profile(SHOP, "jane") is None

    world.track_event(SHOP, event)
    assert world.profile(SHOP, "jane") is not None


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
        _update(session)

    assert refused.value.errors is not None
    assert refused.value.errors[0]["title"] == title
    assert refused.value.errors[0]["source"] == {"pointer": pointer}


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b"[]", b"{}", b'{"customerSession": null}'])
def test_a_body_without_a_session_is_refused(body: bytes) -> None:
    with pytest.raises(Problem) as refused:
        payload.session_update(body)

    assert refused.value.status == 400
