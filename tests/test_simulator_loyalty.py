"""Loyalty, codes, achievements, audiences and catalogs of the simulated Talon.One, as callers see them."""

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from proxy.simulator.amounts import decimal, money, whole
from proxy.simulator.ledger import Cause, Ledger, Status, Transaction
from tests.talon_world import START, Talon, effects, of_type

POINTS, BONUS, STAMPS = 1, 2, 3
COAT = [{"sku": "coat", "quantity": 1, "price": 200}]
CHEAP = [{"sku": "pen", "quantity": 1, "price": 1.5}]


@pytest.fixture
def talon() -> Talon:
    return Talon()


class Book:
    """A ledger with numbered transactions."""

    def __init__(self) -> None:
        self.ledger = Ledger()
        self._count = 0

    def entry(self, amount: str, *, addition: bool = True, expires_in: int | None = None, **more: Any) -> Transaction:
        self._count += 1
        expiry = START + timedelta(days=expires_in) if expires_in is not None else None
        cause = Cause("because", "cart")
        return Transaction(
            self._count, f"t{self._count}", START, addition, "", Decimal(amount), cause, expiry=expiry, **more
        )

    def add(self, amount: str, **more: Any) -> Transaction:
        entry = self.entry(amount, **more)
        self.ledger.add(entry)
        return entry

    def deduct(self, amount: str, *, allow_debt: bool = False) -> Transaction:
        entry = self.entry(amount, addition=False)
        self.ledger.deduct(entry, START, allow_debt=allow_debt)
        return entry

    def active(self, days: int = 0) -> Decimal:
        return self.ledger.balance(START + timedelta(days=days)).active


@pytest.mark.parametrize(
    ("written", "cents"),
    [(0.1, "0.10"), (2.675, "2.68"), (1.005, "1.01"), (0.005, "0.01"), (0.004, "0.00"), (7, "7.00")],
)
def test_money_is_rounded_to_cents_half_up_as_it_was_written(written: float, cents: str) -> None:
    assert str(money(decimal(written))) == cents


def test_points_are_rounded_down() -> None:
    assert whole(Decimal("60.99")) == 60


def test_sums_of_points_are_exact() -> None:
    book = Book()
    for _ in range(10):
        book.add("0.1")

    assert book.active() == 1


def test_points_that_expire_first_are_spent_first_and_endless_ones_last() -> None:
    book = Book()
    endless, late, soon = book.add("10"), book.add("10", expires_in=30), book.add("10", expires_in=5)

    book.deduct("15")

    assert [soon.left, late.left, endless.left] == [0, 5, 10]


def test_expired_points_cannot_be_spent() -> None:
    book = Book()
    book.add("10", expires_in=5)

    balance = book.ledger.balance(START + timedelta(days=5))

    assert [balance.active, balance.expired] == [0, 10]


def test_pending_points_become_active_when_their_time_has_come() -> None:
    book = Book()
    book.add("10", start=START + timedelta(days=1))

    assert [book.ledger.balance(START).pending, book.active(0), book.active(1)] == [10, 0, 10]


def test_spent_points_come_back_with_the_end_they_had() -> None:
    book = Book()
    soon, endless = book.add("10", expires_in=5), book.add("10")
    spent = book.deduct("15")

    book.ledger.give_back(spent, book.entry("15"))

    assert [soon.left, endless.left, book.ledger.balance(START).spent] == [10, 10, 0]
    assert book.active(5) == 10


def test_points_already_spent_are_taken_back_as_far_as_they_go() -> None:
    book = Book()
    earned = book.add("10")
    book.deduct("8")

    taken = book.ledger.take_back(earned, book.entry("10", addition=False), START, allow_debt=False)

    assert [taken, book.active(), book.ledger.balance(START).negative] == [2, 0, 0]


def test_a_debt_is_paid_by_the_next_points() -> None:
    book = Book()
    earned = book.add("10")
    book.deduct("8")
    book.ledger.take_back(earned, book.entry("10", addition=False), START, allow_debt=True)
    assert book.ledger.balance(START).negative == 8

    book.add("11")

    balance = book.ledger.balance(START)
    assert [balance.negative, balance.active] == [0, 3]


def test_only_what_is_left_of_points_is_listed() -> None:
    book = Book()
    book.add("10")
    book.deduct("10")
    kept = book.add("5")

    assert book.ledger.points(Status.ACTIVE, START) == [kept]


def test_points_can_be_spent_only_if_there_are_enough(talon: Talon) -> None:
    spend: dict[str, Any] = {"attributes": {"SpendPoints": True}, "profileId": "jane"}
    assert of_type(talon.put("one", cartItems=CHEAP, **spend), "deductLoyaltyPoints", "setDiscount") == []
    talon.put("two", profileId="jane", cartItems=COAT, state="closed")

    closed = talon.put("three", cartItems=COAT, state="closed", **spend)

    assert ("deductLoyaltyPoints", 100) in effects(closed)
    assert talon.points() == {
        "activePoints": 300,
        "pendingPoints": 0,
        "spentPoints": 100,
        "expiredPoints": 0,
        "negativePoints": 0,
    }
    cancelled = talon.put("three", state="cancelled")
    assert ("rollbackDeductedLoyaltyPoints", 100) in effects(cancelled)
    assert (talon.points()["activePoints"], talon.points()["spentPoints"]) == (200, 0)


def test_reaching_a_tier_is_told_once(talon: Talon) -> None:
    first = talon.put("one", profileId="jane", cartItems=[{"sku": "car", "quantity": 1, "price": 600}], state="closed")
    second = talon.put("two", profileId="jane", cartItems=COAT, state="closed")

    (change,) = [effect["props"] for effect in first["effects"] if effect["effectType"] == "changeLoyaltyTierLevel"]
    assert change["newTierName"] == "Silver"
    assert of_type(second, "changeLoyaltyTierLevel") == []
    balances = talon.call("GET", f"/v1/loyalty_programs/{POINTS}/profile/jane/balances?includeTiers=true")["balance"]
    assert (balances["currentTier"]["name"], balances["nextTierName"], balances["pointsToNextTier"]) == (
        "Silver",
        "Gold",
        1200,
    )


def test_points_that_await_an_action_are_activated_by_session_or_transaction(talon: Talon) -> None:
    socks = [{"sku": "sock", "quantity": 2, "price": 4}]
    talon.put("one", profileId="jane", cartItems=socks, state="closed")
    talon.put("two", profileId="jane", cartItems=socks, state="closed")
    activate = f"/v1/loyalty_programs/{BONUS}/activate_points"
    assert talon.points(program=BONUS)["pendingPoints"] == 32

    answer = talon.call("POST", activate, {"sessionId": "one"})
    assert [entry["amount"] for entry in answer["ledgerEntries"]] == [8, 8]
    assert talon.points(program=BONUS)["activePoints"] == 16

    log = talon.call("GET", f"/v1/loyalty_programs/{BONUS}/profile/jane/transactions?awaitsActivation=true")["data"]
    talon.call("POST", activate, {"transactionUUIDs": [log[0]["transactionUUID"]]})
    assert talon.points(program=BONUS)["activePoints"] == 24
    talon.pass_by(days=30)
    assert talon.points(program=BONUS)["expiredPoints"] == 24


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({}, 400),
        ({"sessionId": "a", "transactionUUIDs": ["00000000-0000-0000-0000-000000000000"]}, 400),
        ({"transactionUUIDs": ["none"]}, 400),
        ({"transactionUUIDs": ["00000000-0000-0000-0000-000000000000"]}, 404),
    ],
)
def test_an_activation_names_either_a_session_or_transactions(talon: Talon, body: Any, status: int) -> None:
    talon.call("POST", f"/v1/loyalty_programs/{BONUS}/activate_points", body, expect=status)


def test_transactions_are_listed_the_latest_first_and_can_be_filtered(talon: Talon) -> None:
    for name in ("one", "two", "three"):
        talon.put(name, profileId="jane", cartItems=COAT, state="closed")
        talon.pass_by(hours=1)
    target = f"/v1/loyalty_programs/{POINTS}/profile/jane/transactions"

    page = talon.call("GET", f"{target}?pageSize=2")
    assert [row["customerSessionId"] for row in page["data"]] == ["three", "two"]
    assert page["hasMore"] is True
    rows = talon.call("GET", f"{target}?customerSessionIDs=one&customerSessionIDs=two")["data"]
    assert [row["customerSessionId"] for row in rows] == ["two", "one"]
    later = talon.call("GET", f"{target}?startDate=2026-05-01T13:30:00Z")["data"]
    assert [row["customerSessionId"] for row in later] == ["three"]
    talon.call("GET", f"{target}?awaitsActivation=false", expect=400)


def test_deleted_transactions_are_gone(talon: Talon) -> None:
    talon.put(profileId="jane", cartItems=COAT, state="closed")
    target = f"/v1/loyalty_programs/{POINTS}/profile/jane/delete_transactions"

    talon.call("POST", target, {"scope": "SelectedSubledgers", "subledgerIds": ["other"]}, expect=204)
    assert talon.points()["activePoints"] == 200
    talon.call("POST", target, {"scope": "SelectedSubledgers", "subledgerIds": [""]}, expect=204)
    assert talon.points()["activePoints"] == 0
    # Taking back what is not there any more is no error.
    assert of_type(talon.put(state="cancelled"), "rollbackAddedLoyaltyPoints") == []


def test_a_card_earns_points_for_whoever_holds_it(talon: Talon) -> None:
    card = talon.call("POST", f"/v1/loyalty_programs/{STAMPS}/cards", {"customerProfileIds": ["jane"]})
    assert card["identifier"].startswith("STAMP-")

    closed = talon.put(cartItems=COAT, loyaltyCards=[card["identifier"]], state="closed")

    assert [one["identifier"] for one in closed["loyalty"]["cards"]] == [card["identifier"]]
    target = f"/v1/loyalty_programs/{STAMPS}/cards/{card['identifier']}"
    balances = talon.call("GET", f"{target}/balances")
    assert balances["balance"]["activePoints"] == 200
    assert [holder["integrationId"] for holder in balances["profiles"]] == ["jane"]
    assert talon.call("GET", f"{target}/points")["data"][0]["customerProfileID"] == "jane"
    talon.put(state="cancelled")
    log = talon.call("GET", f"{target}/transactions")["data"]
    assert [(row["type"], row["amount"]) for row in log] == [("subtraction", 200), ("addition", 200)]


def test_a_card_takes_as_many_customers_as_its_program_allows(talon: Talon) -> None:
    talon.call("POST", f"/v1/loyalty_programs/{STAMPS}/cards", {"cardIdentifier": "card-1"})
    target = f"/v2/loyalty_programs/{STAMPS}/cards/card-1"

    for customer in ("jane", "john"):
        talon.call("POST", f"{target}/link_profile", {"integrationId": customer})
    talon.call("POST", f"{target}/link_profile", {"integrationId": "ann"}, expect=400)
    talon.call("POST", f"{target}/unlink_profile", {"integrationId": "jane"})
    linked = talon.call("POST", f"{target}/link_profile", {"integrationId": "ann"})

    assert [holder["integrationId"] for holder in linked["profiles"]] == ["john", "ann"]
    assert [card["identifier"] for card in talon.inventory("ann")["loyalty"]["cards"]] == ["card-1"]
    talon.call("POST", f"/v1/loyalty_programs/{STAMPS}/cards", {"cardIdentifier": "card-1"}, expect=400)


@pytest.mark.parametrize(
    ("method", "target", "status"),
    [
        ("GET", "/v1/loyalty_programs/99/profile/jane/balances", 404),
        ("GET", "/v1/loyalty_programs/x/profile/jane/balances", 400),
        ("GET", f"/v1/loyalty_programs/{POINTS}/profile/nobody/balances", 404),
        ("GET", f"/v1/loyalty_programs/{STAMPS}/profile/jane/balances", 400),
        ("GET", f"/v1/loyalty_programs/{POINTS}/cards/card-1/balances", 400),
        ("GET", f"/v1/loyalty_programs/{STAMPS}/cards/card-1/balances", 404),
        ("POST", "/v1/loyalty_programs/99/profile/jane/join", 404),
    ],
)
def test_what_does_not_exist_or_fit_is_refused(talon: Talon, method: str, target: str, status: int) -> None:
    talon.put(profileId="jane")

    talon.call(method, target, expect=status)


def test_joining_an_unknown_program_creates_no_customer(talon: Talon) -> None:
    talon.call("POST", "/v1/loyalty_programs/99/profile/new/join", expect=404)

    talon.call("GET", "/v1/customer_profiles/new/inventory", expect=404)


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("NOPE", "CouponNotFound"),
        ("SHIP5", "ProfileRequired"),
        ("LASTYEAR", "CouponExpired"),
        ("NOTYET", "CouponStartDateInFuture"),
        ("SOLDOUT", "CouponLimitReached"),
        ("OFF", "CouponPartOfNotRunningCampaign"),
        ("SUMMER", "CouponPartOfNotRunningCampaign"),
        ("FREEMUG", "CouponRejectedByCondition"),
    ],
)
def test_a_coupon_is_rejected_with_a_reason(talon: Talon, code: str, reason: str) -> None:
    assert effects(talon.put(cartItems=CHEAP, couponCodes=[code])) == [("rejectCoupon", reason)]


def test_a_hard_reservation_is_needed_and_can_be_given_up(talon: Talon) -> None:
    sent: dict[str, Any] = {"profileId": "jane", "cartItems": COAT, "couponCodes": ["VIPONLY"]}
    assert ("rejectCoupon", "CouponReservationRequired") in effects(talon.put(**sent))

    talon.call("POST", "/v1/coupon_reservations/VIPONLY", {"integrationIDs": ["jane"]}, expect=201)
    assert ("acceptCoupon", "VIPONLY") in effects(talon.put(**sent))
    reserved = talon.call("GET", "/v1/coupon_reservations/customerprofiles/VIPONLY")
    assert [customer["integrationId"] for customer in reserved["data"]] == ["jane"]

    talon.call("DELETE", "/v1/coupon_reservations/VIPONLY", {"integrationIDs": ["jane"]}, expect=204)
    assert ("rejectCoupon", "CouponReservationRequired") in effects(talon.put(**sent))
    talon.call("POST", "/v1/coupon_reservations/NOPE", {"integrationIDs": ["jane"]}, expect=404)


def test_a_coupon_is_once_per_profile(talon: Talon) -> None:
    sent: dict[str, Any] = {"cartItems": CHEAP, "couponCodes": ["SHIP5"]}
    first = talon.put("one", profileId="jane", state="closed", **sent)

    second = talon.put("two", profileId="jane", **sent)

    assert of_type(first, "acceptCoupon", "setDiscount") == [("acceptCoupon", "SHIP5"), ("setDiscount", 1.5)]
    assert of_type(second, "rejectCoupon") == [("rejectCoupon", "ProfileLimitReached")]
    assert of_type(talon.put("three", profileId="john", **sent), "acceptCoupon") == [("acceptCoupon", "SHIP5")]
    states = {coupon["value"]: coupon["state"] for coupon in talon.inventory("jane")["coupons"]}
    assert states == {"SHIP5": "used", "FREEMUG": "active"}


def test_a_free_item_comes_with_its_coupon(talon: Talon) -> None:
    answer = talon.put(cartItems=COAT, couponCodes=["FREEMUG"])

    assert effects(answer)[:2] == [("acceptCoupon", "FREEMUG"), ("addFreeItem", "mug")]


def test_an_event_can_create_a_coupon_for_one_customer(talon: Talon) -> None:
    event = {"type": "newsletter_signup", "profileId": "jane", "responseContent": ["customerProfile"]}

    answer = talon.call("POST", "/v2/events?silent=no", event)

    (coupon,) = answer["createdCoupons"]
    assert answer["customerProfile"]["attributes"] == {"Newsletter": True}
    assert [audience["name"] for audience in answer["customerProfile"]["audienceMemberships"]] == ["Subscribers"]
    assert ("showNotification", "Thank you") in effects(answer)
    used = talon.put(profileId="jane", cartItems=CHEAP, couponCodes=[coupon["value"]])
    assert ("acceptCoupon", coupon["value"]) in effects(used)
    stolen = talon.put("other", profileId="john", cartItems=CHEAP, couponCodes=[coupon["value"]])
    assert ("rejectCoupon", "CouponRecipientDoesNotMatch") in effects(stolen)


def test_a_session_creates_a_coupon_once_and_goes_on_showing_it() -> None:
    talon = Talon(
        """
        [[campaigns]]
        name = "Thanks"
        [[campaigns.rules]]
        name = "Thanks"
        when = { profile = true }
        then = [{ type = "couponCreated", pattern = "T-####" }]
        """
    )

    first, second = talon.put(profileId="jane"), talon.put(profileId="jane")

    assert [coupon["value"] for coupon in first["createdCoupons"]] == [effects(first)[0][1]]
    assert (second["createdCoupons"], effects(second)) == ([], effects(first))
    assert talon.put("other", profileId="jane")["createdCoupons"][0]["value"] != effects(first)[0][1]


def test_a_dry_event_creates_nothing(talon: Talon) -> None:
    event = {"type": "newsletter_signup", "profileId": "jane"}

    tried = talon.call("POST", "/v2/events?silent=no&dry=true", event)

    assert tried["createdCoupons"] == []
    talon.call("GET", "/v1/customer_profiles/jane/inventory", expect=404)


def test_a_friend_is_referred_once_and_not_by_themselves(talon: Talon) -> None:
    sent: dict[str, Any] = {"cartItems": COAT, "referralCode": "FRIEND-OF-JANE"}
    assert ("rejectReferral", "ReferralRecipientIdSameAsAdvocate") in effects(talon.put(profileId="jane", **sent))

    closed = talon.put("one", profileId="john", state="closed", **sent)

    assert effects(closed)[:2] == [("acceptReferral", "FRIEND-OF-JANE"), ("setDiscount", 5)]
    again = talon.put("two", profileId="john", **sent)
    assert ("rejectReferral", "ReferralCustomerAlreadyReferred") in effects(again)
    assert talon.inventory("jane")["referrals"][0]["referredCustomers"] == ["john"]
    assert ("rollbackReferral", "FRIEND-OF-JANE") in effects(talon.put("one", state="cancelled"))
    assert talon.inventory("jane")["referrals"][0]["usageCounter"] == 0


def test_referral_codes_are_made_for_advocates(talon: Talon) -> None:
    campaign = next(one.id for one in talon.world.book.campaigns if one.name == "Bring a friend")
    one = talon.call(
        "POST", "/v1/referrals", {"campaignId": campaign, "advocateProfileIntegrationId": "jane"}, expect=201
    )
    many = {
        "campaignId": campaign,
        "advocateProfileIntegrationIds": ["jane", "john"],
        "usageLimit": 1,
        "referralPattern": "REF-##",
        "validCharacters": ["X"],
    }

    made = talon.call("POST", "/v1/referrals_for_multiple_advocates?silent=no", many, expect=201)

    codes = [referral["code"] for referral in made["data"]]
    assert codes[0] == "REF-XX"
    assert codes[1].startswith("REF-XX-"), "all that the pattern allows is taken"
    accepted = talon.put(profileId="ann", cartItems=COAT, referralCode=one["code"])
    assert ("acceptReferral", one["code"]) in effects(accepted)
    talon.call("POST", "/v1/referrals_for_multiple_advocates", many, expect=204)
    unknown = {"campaignId": 99, "advocateProfileIntegrationId": "jane"}
    assert "StatusCode" not in talon.call("POST", "/v1/referrals", unknown, expect=400)


def test_an_achievement_is_completed_by_steps_and_starts_again(talon: Talon) -> None:
    for number in range(1, 5):
        answer = talon.put(f"order-{number}", profileId="jane", cartItems=COAT, state="closed")
        (step,) = [
            effect["props"] for effect in answer["effects"] if effect["effectType"] == "increaseAchievementProgress"
        ]
        assert (step["value"], step["isJustCompleted"]) == ((1, False) if number == 4 else (number, number == 3))

    target = "/v1/customer_profiles/jane/achievements"
    (entry,) = talon.call("GET", target)["data"]
    assert (entry["name"], entry["currentProgress"]["status"], entry["currentProgress"]["progress"]) == (
        "three_orders",
        "inprogress",
        1,
    )
    history = talon.call("GET", f"{target}/1")["data"]
    assert [one["status"] for one in history] == ["completed", "inprogress"]
    assert talon.call("GET", f"{target}/1?progressStatus=completed")["totalResultSize"] == 1
    talon.call("GET", f"{target}/9", expect=404)
    # A completed round stays completed.
    assert of_type(talon.put("order-3", state="cancelled"), "rollbackIncreasedAchievementProgress") == []


def test_giveaways_are_promised_first_and_awarded_when_the_session_closes(talon: Talon) -> None:
    car = [{"sku": "car", "quantity": 1, "price": 500}]

    assert ("willAwardGiveaway", "Tickets") in effects(talon.put(profileId="jane", cartItems=car))
    closed = talon.put(state="closed")

    assert [one["code"] for one in closed["awardedGiveaways"]] == ["TICKET-0001"]
    for name in ("two", "three"):
        talon.put(name, profileId="jane", cartItems=car, state="closed")
    assert of_type(talon.put("four", profileId="jane", cartItems=car), "willAwardGiveaway", "triggerWebhook") == []


def test_audiences_are_made_filled_and_deleted(talon: Talon) -> None:
    audience = talon.call("POST", "/v2/audiences", {"name": "VIP", "integrationId": "42"}, expect=201)
    talon.call("POST", "/v2/audiences", {"name": "Other", "integrationId": "42"}, expect=409)
    number = audience["id"]

    talon.call("PUT", "/v2/customer_profiles/jane", {"audiencesChanges": {"adds": [number], "deletes": []}})
    change = {"action": "add", "profileIntegrationId": "john", "audienceId": number}
    talon.call("POST", "/v2/customer_audiences", {"data": [change]}, expect=204)
    talon.call("PUT", f"/v2/audience_customers/{number}/attributes", {"Language": "de"}, expect=204)
    for customer in ("jane", "john"):
        profile = talon.inventory(customer)["profile"]
        assert profile["audienceMemberships"] == [{"id": number, "name": "VIP"}]
        assert profile["attributes"] == {"Language": "de"}

    talon.call("DELETE", f"/v2/audiences/{number}/memberships", expect=204)
    assert talon.inventory("jane")["profile"]["audienceMemberships"] == []
    talon.call("DELETE", f"/v2/audiences/{number}", expect=204)
    talon.call("DELETE", f"/v2/audiences/{number}", expect=404)
    talon.call("POST", "/v2/customer_audiences", {"data": [change]}, expect=404)
    refused = talon.call("PUT", "/v2/customer_profiles/jane", {"audiencesChanges": {"adds": [number]}}, expect=400)
    assert refused["errors"][0]["source"] == {"pointer": "/audiencesChanges/adds/0"}


def test_forgetting_a_customer_deletes_attributes_everywhere(talon: Talon) -> None:
    talon.call("PUT", "/v2/customer_profiles/jane", {"attributes": {"Name": "Jane"}})
    talon.put(profileId="jane", attributes={"ShippingCity": "Berlin"})

    talon.call("DELETE", "/v1/customer_data/jane", expect=204)

    assert talon.inventory("jane")["profile"]["attributes"] == {}
    assert talon.session()["attributes"] == {}
    talon.call("DELETE", "/v1/customer_data/nobody", expect=404)


def test_an_advanced_event_happens_once_and_may_name_a_closed_session(talon: Talon) -> None:
    event = {"type": "review", "profileId": "jane", "integrationId": "e-1", "connectedSessionId": "cart"}
    talon.call("POST", "/v3/events", event, expect=400)
    talon.put(profileId="jane", state="closed")

    talon.call("POST", "/v3/events?dry=true", event, expect=204)
    talon.call("POST", "/v3/events", event, expect=204)

    refused = talon.call("POST", "/v3/events", event, expect=409)
    assert refused["message"] == "An advanced event already exists"
    assert talon.points()["activePoints"] == 50
    assert talon.call("GET", "/v3/events/e-1")["connectedSessionId"] == "cart"


def test_what_is_unknown_of_advanced_events_can_be_switched() -> None:
    talon = Talon(silent_v3_status=200, duplicate_event_message="Taken")
    event = {"type": "review", "profileId": "jane", "integrationId": "e-1"}

    answer = talon.call("POST", "/v3/events", {**event, "responseContent": ["advancedEvent"]})

    assert set(answer) == {"effects", "createdCoupons", "createdReferrals"}
    assert talon.call("POST", "/v3/events", event, expect=409)["message"] == "Taken"


def test_items_without_a_price_have_the_one_of_the_catalog(talon: Talon) -> None:
    answer = talon.put(cartItems=[{"sku": "shoe", "quantity": 2}, {"sku": "shoe", "quantity": 1, "price": 1}])

    assert answer["customerSession"]["cartItemTotal"] == 121
    assert [item["price"] for item in answer["customerSession"]["cartItems"]] == [60, 1]


def sync(talon: Talon, *actions: dict[str, Any], expect: int = 200, **more: Any) -> Any:
    return talon.call("PUT", "/v1/catalogs/1/sync", {"actions": list(actions), **more}, expect=expect)


def test_a_sync_changes_a_catalog_as_a_whole_or_not_at_all(talon: Talon) -> None:
    hat = {"type": "ADD", "payload": {"sku": "hat", "price": 20, "attributes": {"colour": "red", "size": 3}}}
    assert sync(talon, hat)["version"] == 2

    sync(talon, {"type": "ADD", "payload": {"sku": "cap"}}, hat, expect=400)
    talon.put(cartItems=[{"sku": "hat", "quantity": 1}, {"sku": "cap", "quantity": 1}])
    assert talon.session()["cartItemTotal"] == 20

    patch = {"attributes": {}, "price": 15, "filters": [{"attr": "size", "op": "GT", "value": "2"}]}
    sync(talon, {"type": "PATCH_MANY", "payload": patch}, version=2)
    assert talon.put("other", cartItems=[{"sku": "hat", "quantity": 1}])["customerSession"]["cartItemTotal"] == 15
    sync(talon, {"type": "REMOVE", "payload": {"sku": "hat"}})
    sync(talon, {"type": "REMOVE", "payload": {"sku": "hat"}}, expect=400)


@pytest.mark.parametrize(
    "actions",
    [
        [{"type": "ADD", "payload": {"sku": "a"}}, {"type": "ADD", "payload": {"sku": "a"}}],
        [{"type": "ADD", "payload": {"sku": "a"}}, {"type": "REMOVE", "payload": {"sku": "shoe"}}],
        [{"type": "ADD", "payload": {}}],
        [{"type": "SHAKE", "payload": {"sku": "a"}}],
        [{"type": "REMOVE_MANY", "payload": {"filters": [{"attr": "colour", "op": "GT", "value": 1}]}}],
    ],
)
def test_a_wrong_sync_is_refused(talon: Talon, actions: list[dict[str, Any]]) -> None:
    refused = sync(talon, *actions, expect=400)

    assert "StatusCode" not in refused
    sync(talon, {"type": "ADD", "payload": {"sku": "z"}}, version=7, expect=400)


def test_the_best_prior_price_is_the_lowest_that_held_in_the_time(talon: Talon) -> None:
    for price in (50, 45, 70):
        talon.pass_by(days=10)
        sync(talon, {"type": "PATCH", "payload": {"sku": "shoe", "price": price}})

    def best(days: int, **end: Any) -> list[float]:
        question = {"skus": ["shoe", "none"], "timeframe": str(days), "timeframeEndDate": talon.moment.isoformat()}
        return [row["price"] for row in talon.call("POST", "/v1/best_prior_price", {**question, **end})]

    assert best(5, timeframeEndDateType="strict") == [45]
    assert best(0, timeframeEndDateType="strict") == [70]
    assert best(30, timeframeEndDateType="price") == [45]
    assert best(30, strictEndDate=True) == [45]


def test_old_sdks_get_their_own_shape(talon: Talon) -> None:
    sent = {"profileId": "jane", "coupon": "WELCOME10", "cartItems": COAT, "state": "open"}

    answer = talon.call("PUT", "/v1/customer_sessions/cart", sent)

    assert (answer["session"]["coupon"], answer["session"]["discounts"]["WELCOME10"]) == ("WELCOME10", 20)
    assert answer["profile"]["integrationId"] == "jane"
    assert talon.session()["couponCodes"] == ["WELCOME10"]
    profile = talon.call("PUT", "/v1/customer_profiles/jane", {"attributes": {"Name": "Jane"}})
    assert profile["profile"]["attributes"] == {"Name": "Jane"}
    event = talon.call("POST", "/v1/events", {"type": "viewed", "profileId": "jane", "sessionId": "cart"})
    assert (event["event"]["type"], event["event"]["sessionId"]) == ("viewed", "cart")


@pytest.mark.parametrize("heeds", [True, False])
def test_whether_old_routes_heed_dry_can_be_switched(heeds: bool) -> None:
    talon = Talon(legacy_dry=heeds)

    talon.call("PUT", "/v1/customer_sessions/cart?dry=true", {"profileId": "jane"})
    talon.call("PUT", "/v1/customer_profiles/john?dry=true", {})
    talon.call("POST", "/v1/events?dry=true", {"type": "viewed", "profileId": "ann"})

    assert repr(talon.world) == f"<World of {0 if heeds else 1} sessions and {0 if heeds else 3} profiles>"


def test_many_profiles_are_updated_at_once(talon: Talon) -> None:
    people = [{"integrationId": f"p{number}", "attributes": {"Language": "de"}} for number in range(1000)]

    talon.call("PUT", "/v2/customer_profiles", {"customerProfiles": people}, expect=204)

    assert talon.inventory("p999")["profile"]["attributes"] == {"Language": "de"}
    talon.call("PUT", "/v2/customer_profiles", {"customerProfiles": [*people, people[0]]}, expect=400)


@pytest.mark.parametrize("stay", [True, False])
def test_whether_other_attributes_of_a_profile_stay_can_be_switched(stay: bool) -> None:
    talon = Talon(attributes_merge=stay)
    talon.call("PUT", "/v2/customer_profiles/jane", {"attributes": {"Name": "Jane", "Language": "de"}})

    talon.call("PUT", "/v2/customer_profiles/jane", {"attributes": {"Language": "en"}})

    kept = {"Name": "Jane"} if stay else {}
    assert talon.inventory("jane")["profile"]["attributes"] == {**kept, "Language": "en"}
