"""Each rule of the checklist and three shops on the simulator: one that breaks it, a clean one, and a look-alike.

The clean one is the same for all: a day on which every rule finds evidence that it is kept. A look-alike does what
might be taken for a break, and neither this nor any other rule gives it more than advice.
"""

from collections.abc import Callable, Iterator
from functools import cache
from itertools import count
from typing import Any, NamedTuple

import pytest

from proxy.simulator.operations import Answer
from proxy.talon.checklist.table import IDS, RULES
from tests.checklist_shop import BEGAN, DAY, HANDLED, SDK, TOOK, TWO, Deployment, Shop, blamed, rule_of

CREATES_COUPONS = """
[[campaigns]]
name = "A coupon for the next order"
[[campaigns.rules]]
name = "From 300"
when = { total_from = 300 }
then = [{ type = "couponCreated", pattern = "NEXT-######" }]
"""
ONE_COUPON = """
[[campaigns]]
name = "Off season"
coupons = [{ code = "WELCOME10" }]
rules = [{ name = "10 %", when = { coupon = true }, then = [{ type = "setDiscount", percent = 10 }] }]
"""
NEXT = [{"sku": "shoe", "quantity": 6, "price": 60}]
KEY = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
JSON = {"Content-Type": "application/json"}
PHP = {"User-Agent": "GuzzleHttp/7"}
NODE = {"User-Agent": "node", "Sec-Fetch-Mode": "cors", "Accept-Language": "*"}

Script = Callable[[Shop], object]


class Case(NamedTuple):
    """`verdict` is the one of the shop that breaks the rule; `make` gives the shop if it is not the usual one."""

    verdict: str
    breaks: Script
    looks_alike: Script
    make: Callable[[], Shop] = Shop


@cache
def clean() -> dict[str, Any]:
    """A day without anything to blame."""
    shop = Shop(checklist__effects_handled=HANDLED)
    for number in range(170):
        session, profile = f"cart-{number}", f"customer-{number % 70}"
        wanted = ("customerSession",)
        cart: dict[str, Any] = {"profileId": profile, "cartItems": TWO, "attributes": {"ShippingCity": "Berlin"}}
        shop.put(session, query="?dry=true", **cart)
        shop.put(session, wanted=wanted, couponCodes=["WELCOME10"], **cart)
        shop.put(session, wanted=wanted, couponCodes=["WELCOME10"], profileId=profile)
        shop.call("GET", f"/v2/customer_sessions/{session}")
        shop.event(profile)
        shop.close(session, wanted=wanted)
        if number % 10 == 0:
            key = {**SDK, "Idempotency-Key": f"return-{number}"}
            sent = {"return": {"returnedCartItems": [{"position": 0, "quantity": 1}]}}
            shop.call("POST", f"/v2/customer_sessions/{session}/returns", sent, headers=key)
            shop.put(f"left-{number}", profileId=profile, cartItems=TWO)
            shop.put(f"left-{number}", state="cancelled")
            target = f"/v2/customer_profiles/{profile}?runRuleEngine=true&dry=true"
            shop.call("PUT", target, {"attributes": {"Language": "de"}})
    for number in range(25):
        shop.close(f"receipt-{number}", profileId=f"customer-{number}", cartItems=TWO)
    for number in range(5):
        shop.put(f"oops-{number}", state=f"shut-{number}")
    profiles = [{"integrationId": f"old-{number}"} for number in range(3)]
    shop.call("PUT", "/v2/customer_profiles", {"customerProfiles": profiles})
    shop.wait(DAY)
    return dict(shop.told)


def each(shop: Shop, number: int) -> Iterator[tuple[int, str]]:
    """Give so many carts of known customers."""
    yield from ((index, f"cart-{index}") for index in range(number))


# --- backend ------------------------------------------------------------------------------------------------------


def a_web_page(shop: Shop) -> None:
    fields = {
        "User-Agent": "Mozilla/5.0 (X11) Chrome/140",
        "Origin": "https://shop.example",
        "Access-Control-Request-Method": "PUT",
        "Sec-Fetch-Site": "cross-site",
    }
    shop.call("OPTIONS", "/v2/customer_sessions/s", headers=fields)


def a_backend_that_copies(shop: Shop) -> None:
    shop.orders(120)
    copied = {
        "User-Agent": "Mozilla/5.0 (X11) Chrome/140",
        "Origin": "https://shop.example",
        "Sec-Fetch-Site": "same-origin",
        "Sec-Fetch-Dest": "empty",
        "Cookie": "visit=1",
    }
    for _, session in each(shop, 30):
        shop.call("GET", f"/v2/customer_sessions/{session}", headers=copied)


def nodes_fetch(shop: Shop) -> None:
    shop.orders(20)
    for _, session in each(shop, 20):
        shop.call("GET", f"/v2/customer_sessions/{session}", headers=NODE)


def with_authorization(value: str) -> Script:
    def script(shop: Shop) -> None:
        for number in range(5):
            shop.put(f"s{number}", profileId="p", cartItems=TWO, call={"headers": {**SDK, "Authorization": value}})

    return script


# --- planning -----------------------------------------------------------------------------------------------------


def a_legacy_sdk(shop: Shop) -> None:
    for number in range(25):
        body = {"profileId": f"p{number}", "cartItems": TWO}
        shop.call(
            "PUT", f"/v1/customer_sessions/s{number}", body, headers={"User-Agent": "OpenAPI-Generator/5.0.1/php"}
        )


def a_client_of_its_own(shop: Shop) -> None:
    shop.orders(20)
    for _, session in each(shop, 20):
        own = {"User-Agent": "OpenAPI-Generator/1.0.0/go"}
        shop.call("GET", f"/v2/customer_sessions/{session}", headers=own)


def leaves_and_sends_again(shop: Shop) -> None:
    for number in range(25):
        cart: dict[str, Any] = {"profileId": f"p{number}", "cartItems": TWO}
        shop.put(f"s{number}", call={"left": True}, **cart)
        shop.put(f"s{number}", **cart)


def sends_the_same_now_and_then(shop: Shop) -> None:
    """A refresh of an unchanged cart, and callers who leave and come back with another one."""
    for number in range(25):
        cart: dict[str, Any] = {"profileId": f"p{number}", "cartItems": TWO}
        shop.put(f"s{number}", **cart)
        shop.put(f"s{number}", **cart)
        shop.put(f"s{number}", call={"left": True}, couponCodes=["WELCOME10"])
        shop.put(f"s{number}", couponCodes=[])


def reads_by_management(shop: Shop) -> None:
    shop.orders(30)
    for _ in range(10):
        shop.call("GET", "/v1/applications/1/campaigns")


def a_nightly_job(shop: Shop) -> None:
    shop.orders(150)
    shop.call("GET", "/v1/applications/1/campaigns")


def no_rule_applies(shop: Shop) -> None:
    for number in range(120):
        shop.put(f"s{number}", profileId=f"p{number}", cartItems=[{"sku": "pen", "quantity": 1, "price": 2}])
        shop.close(f"s{number}")


def off_season(shop: Shop) -> None:
    """Half the year nothing is on, then one rule is: that is enough."""
    no_rule_applies(shop)
    shop.order(1)


def unknown_attributes(shop: Shop) -> None:
    for number in range(20):
        attributes = {"Favourite": "blue"} if number % 2 else {"SpendPoints": "yes"}
        shop.put(f"s{number}", profileId=f"p{number}", attributes=attributes, cartItems=TWO)


def another_mistake(shop: Shop) -> None:
    """400 for a state, and at another place: that is no attribute."""
    shop.orders(40)
    for number in range(3):
        shop.put(f"s{number}", profileId=f"p{number}", attributes={"ShippingCity": "Berlin"}, state="paid")
    shop.orders(160, first=40)


def imports_one_by_one(shop: Shop) -> None:
    shop.gap = 0.01
    for number in range(60):
        shop.call("PUT", f"/v2/customer_profiles/old-{number}", {"attributes": {"Name": "X"}})


def signs_up_one_by_one(shop: Shop) -> None:
    for number in range(60):
        shop.call("PUT", f"/v2/customer_profiles/new-{number}", {"attributes": {"Name": "X"}})


def imports_orders(shop: Shop) -> None:
    shop.gap = 0.01
    for number in range(80):
        shop.close(f"old-{number}", profileId=f"p{number}", cartItems=TWO)


def a_point_of_sale(shop: Shop) -> None:
    for number in range(120):
        shop.close(f"receipt-{number}", profileId=f"p{number}", cartItems=TWO)
    shop.wait(DAY)


# --- sessions -----------------------------------------------------------------------------------------------------


def sessions_of_customers(named: Callable[[int], str]) -> Script:
    def script(shop: Shop) -> None:
        for number in range(30):
            session = named(number)
            shop.put(session, profileId=f"customer-{number}", cartItems=TWO)
            shop.close(session)

    return script


def new_ids_for_a_cart(shop: Shop) -> None:
    fresh = count()
    for number in range(10):
        for _ in range(6):
            shop.put(f"call-{next(fresh)}", profileId=f"p{number}", cartItems=TWO)


def the_same_again(shop: Shop) -> None:
    """A customer orders the same every week; guests who share a profile buy what everybody buys."""
    for number in range(40):
        shop.put(f"weekly-{number}", profileId="regular", cartItems=TWO)
        shop.close(f"weekly-{number}")
        shop.wait(7 * DAY)
    for number in range(8):
        shop.put(f"dry-{number}", query="?dry=true", profileId="browsing", cartItems=TWO)


def never_pays(shop: Shop) -> None:
    for number in range(120):
        shop.put(f"s{number}", profileId=f"p{number}", cartItems=TWO)
    shop.wait(DAY)


def hardly_ever_pays(shop: Shop) -> None:
    never_pays(shop)
    shop.close("s1")


def goes_on_after_paying(shop: Shop) -> None:
    for number in range(30):
        shop.order(number)
        shop.put(f"cart-{number}", state="open", attributes={"PaymentMethod": "card"})


def changes_its_mind(shop: Shop) -> None:
    """Reopened, cancelled, returned: all of it after closing, and all of it right."""
    shop.orders(30)
    for _, session in each(shop, 10):
        shop.call("PUT", f"/v2/customer_sessions/{session}/reopen")
        shop.put(session, cartItems=[*TWO, {"sku": "sock", "quantity": 1, "price": 5}])
        shop.close(session)
        shop.put(session, state="cancelled")


def returns_by_put(shop: Shop) -> None:
    shop.orders(5)
    for _, session in each(shop, 5):
        shop.put(session, state="partially_returned")


def gives_back(key: Callable[[int], str] | None, query: str = "") -> Script:
    def script(shop: Shop) -> None:
        shop.orders(30)
        for number, session in each(shop, 10):
            headers = SDK if key is None else {**SDK, "Idempotency-Key": key(number)}
            sent = {"return": {"returnedCartItems": [{"position": 0, "quantity": 1}]}}
            shop.call("POST", f"/v2/customer_sessions/{session}/returns{query}", sent, headers=headers)

    return script


def a_coupon_for_one(shop: Shop) -> None:
    """Two carts of a customer show the discount of a coupon that can be used once."""
    for number in range(12):
        for cart in ("a", "b"):
            shop.put(f"{cart}{number}", profileId=f"p{number}", cartItems=TWO, couponCodes=["SHIP5"])
        shop.close(f"a{number}")
        shop.close(f"b{number}")


def a_coupon_that_never_was(shop: Shop) -> None:
    """Rejected at once, and at the end; or taken out before the end."""
    shop.orders(20)
    for number in range(12):
        shop.put(f"a{number}", profileId=f"p{number}", cartItems=TWO, couponCodes=["LASTYEAR"])
        shop.close(f"a{number}")
        shop.put(f"b{number}", profileId=f"p{number}", cartItems=TWO, couponCodes=["WELCOME10"])
        shop.put(f"b{number}", couponCodes=[])
        shop.close(f"b{number}")


def closes_with(**sent: Any) -> Script:
    def script(shop: Shop) -> None:
        for number in range(30):
            cart: dict[str, Any] = {"cartItems": TWO, "identifiers": [f"device-{number}"]}
            shop.put(f"s{number}", profileId=f"p{number}", couponCodes=["WELCOME10"], **cart)
            shop.close(f"s{number}", **sent)

    return script


def takes_its_coupon_out(shop: Shop) -> None:
    """The customer does, in an update before the last; or had one that was rejected; or the update repeats all."""
    for number in range(30):
        shop.put(f"a{number}", profileId=f"p{number}", cartItems=TWO, couponCodes=["WELCOME10"])
        shop.put(f"a{number}", couponCodes=[])
        shop.close(f"a{number}", couponCodes=[])
        shop.put(f"b{number}", profileId=f"p{number}", cartItems=TWO, couponCodes=["LASTYEAR"])
        shop.close(f"b{number}", couponCodes=[], referralCode="", identifiers=[])
        shop.put(f"c{number}", profileId=f"p{number}", cartItems=TWO, couponCodes=["WELCOME10"])
        shop.close(f"c{number}", couponCodes=["WELCOME10"], referralCode="")


def cancels(cart: list[dict[str, Any]]) -> Script:
    def script(shop: Shop) -> None:
        shop.orders(20)
        for number in range(5):
            shop.put(f"s{number}", profileId=f"p{number}", cartItems=cart, couponCodes=["WELCOME10"])
            shop.close(f"s{number}")
            shop.put(f"s{number}", state="cancelled")

    return script


# --- profiles -----------------------------------------------------------------------------------------------------


def nobody_is_known(shop: Shop) -> None:
    for number in range(120):
        shop.put(f"s{number}", cartItems=TWO)
        shop.close(f"s{number}")


def guests_who_log_in(shop: Shop) -> None:
    for number in range(120):
        shop.put(f"s{number}", cartItems=TWO)
        if number % 3:
            shop.put(f"s{number}", profileId=f"p{number}")
        shop.close(f"s{number}")


def guests_share_one(shop: Shop) -> None:
    for number in range(60):
        shop.put(f"s{number}", profileId="guest", cartItems=TWO)


def a_busy_customer(shop: Shop) -> None:
    for number in range(60):
        shop.put(f"s{number}", profileId=f"customer-{number // 6}", cartItems=[{**TWO[0], "price": number + 50}])
        shop.close(f"s{number}")


def who_is_it(shop: Shop) -> None:
    for number in range(10):
        for turn in range(8):
            shop.put(f"s{number}", profileId=(f"guest-{number}", f"p{number}")[turn % 2], cartItems=TWO)


def logs_in_and_out(shop: Shop) -> None:
    for number in range(20):
        for profile in (f"guest-{number}", f"p{number}", f"guest-{number}"):
            shop.put(f"s{number}", profileId=profile, cartItems=TWO)
        shop.close(f"s{number}")


# --- performance --------------------------------------------------------------------------------------------------


def reads_right_after(shop: Shop) -> None:
    for number in range(30):
        shop.gap = 0.05
        shop.put(f"s{number}", profileId=f"p{number}", cartItems=TWO)
        shop.gap = 3.0
        shop.call("GET", f"/v2/customer_sessions/s{number}")


def reads_later(shop: Shop) -> None:
    """Another page reads it later; and another session is read right after an update."""
    for number in range(30):
        shop.put(f"s{number}", profileId=f"p{number}", cartItems=TWO)
        shop.call("GET", f"/v2/customer_sessions/s{number}")
        if number:
            shop.gap = 0.05
            shop.put(f"s{number}", couponCodes=["WELCOME10"])
            shop.gap = 3.0
            shop.call("GET", f"/v2/customer_sessions/s{number - 1}")


def tries_out(query: str) -> Script:
    def script(shop: Shop) -> None:
        for number in range(10):
            shop.gap = 0.05
            for price in range(20):
                cart = [{"sku": "shoe", "quantity": 1, "price": price + 10}]
                shop.put(f"s{number}", query=query, profileId=f"p{number}", cartItems=cart)
            shop.gap = 3.0
            shop.put(f"s{number}", profileId=f"p{number}", cartItems=TWO)
            shop.close(f"s{number}")

    return script


def clicks_along(shop: Shop) -> None:
    """One more, one more, and back: a second each."""
    for number in range(10):
        shop.gap = 1.0
        for quantity in range(1, 12):
            cart = [{"sku": "shoe", "quantity": quantity, "price": 10}]
            shop.put(f"s{number}", profileId=f"p{number}", cartItems=cart)
        shop.close(f"s{number}")


def dry(**sent: Any) -> Script:
    def script(shop: Shop) -> None:
        for number in range(20):
            shop.put(f"s{number}", query="?dry=true", profileId=f"p{number}", **sent)

    return script


def a_coupon_alone(shop: Shop) -> None:
    """Not dry: it joins the cart that is there."""
    for number in range(20):
        shop.put(f"s{number}", profileId=f"p{number}", cartItems=TWO)
        shop.put(f"s{number}", couponCodes=["WELCOME10"])
        shop.put(f"s{number}", query="?dry=true", profileId=f"p{number}", cartItems=TWO)


def updates_profiles(query: str) -> Script:
    def script(shop: Shop) -> None:
        for number in range(5):
            shop.call("PUT", f"/v2/customer_profiles/p{number}{query}", {"attributes": {"Language": "de"}})

    return script


def updates(query: str = "", wanted: tuple[str, ...] = ()) -> Script:
    def script(shop: Shop) -> None:
        for number in range(25):
            shop.put(f"s{number}", query=query, wanted=wanted, profileId=f"p{number}", cartItems=TWO)

    return script


# --- events and updates -------------------------------------------------------------------------------------------


def double_events(shop: Shop) -> None:
    for number in range(20):
        shop.put(f"s{number}", profileId=f"p{number}")
        shop.gap = 0.01
        shop.event(f"p{number}", "share")
        shop.gap = 3.0
        shop.event(f"p{number}", "share")


def overlapping_events(shop: Shop) -> None:
    for number in range(20):
        shop.put(f"s{number}", profileId=f"p{number}")
        shop.gap = -TOOK / 2
        shop.event(f"p{number}", "share", Page="a")
        shop.gap = 3.0
        shop.event(f"p{number}", "share", Page="b")


def events_that_only_look_alike(shop: Shop) -> None:
    """Other types, other customers, a client that repeats what it gave up, and one with an Idempotency-Key."""
    for number in range(20):
        shop.put(f"s{number}", profileId=f"p{number}")
        shop.gap = 0.01
        shop.event(f"p{number}", "share")
        shop.event(f"p{number}", "review")
        shop.gap = 3.0
        key = {"headers": {**SDK, "Idempotency-Key": f"e{number}"}}
        shop.event(f"p{number}", "click", call=key)
        shop.event(f"p{number}", "click", call=key)
    shop.gap = 0.01
    shop.event("p1", "share", call={"left": True})
    shop.event("p1", "share")


def at_the_same_time(shop: Shop) -> None:
    for number in range(30):
        shop.put(f"s{number}", profileId=f"p{number}", cartItems=TWO)
        shop.put(f"s{number}", call={"lane": 0.02}, couponCodes=["WELCOME10"])


def one_after_another(shop: Shop) -> None:
    shop.gap = 0.0
    for number in range(30):
        shop.put(f"s{number}", profileId=f"p{number}", cartItems=TWO)
        shop.put(f"s{number}", couponCodes=["WELCOME10"])


# --- effects ------------------------------------------------------------------------------------------------------


def adds(effect_type: str, **props: Any) -> Script:
    """Every answer has an effect more, which the simulator has no rule for."""

    def edit(content: dict[str, Any]) -> None:
        content["effects"].append({"effectType": effect_type, "props": props})

    def script(shop: Shop) -> None:
        for number in range(20):
            shop.put(f"s{number}", profileId=f"p{number}", cartItems=TWO, call={"edit": edit})

    return script


def rejects(reason: str) -> Script:
    return adds("rejectCoupon", value="CODE", rejectionReason=reason)


# --- errors and connections ---------------------------------------------------------------------------------------


def insists(times: int, gap: float) -> Script:
    def script(shop: Shop) -> None:
        shop.orders(30)
        shop.gap = gap
        for number in range(4):
            for _ in range(times):
                shop.put(f"wrong-{number}", state="paid", profileId=f"p{number}")

    return script


def is_often_wrong(shop: Shop) -> None:
    shop.orders(60)
    for number in range(10):
        shop.put(f"wrong-{number}", profileId="p", attributes={"ShippingCity": 7 + number})


def is_told_that_it_exists(shop: Shop) -> None:
    """409 and 404 are answers, not refusals of what was sent."""
    shop.orders(60)
    for number in range(10):
        shop.call("GET", f"/v2/customer_sessions/unknown-{number}")
        conflict = Answer(409, b'{"message": "Too many requests are updating this session at the same time"}')
        shop.put(f"s{number}", profileId=f"p{number}", call={"answer": conflict})


def is_turned_away(shop: Shop) -> None:
    for number in range(30):
        shop.put(f"s{number}", profileId="p", call={"answer": Answer(403, b"")})


def has_an_outage(shop: Shop) -> None:
    for number in range(30):
        shop.put(f"s{number}", profileId=f"p{number}", call={"fails": "connect"})


def opens_upstream(every: int) -> Script:
    def script(shop: Shop) -> None:
        for number in range(120):
            fresh = {"reused": False, "connect": 0.02, "tls": 0.03} if number % every == 0 else {}
            shop.put(f"s{number}", profileId=f"p{number}", cartItems=TWO, call=fresh)

    return script


def opens_each_time(agent: dict[str, str]) -> Script:
    def script(shop: Shop) -> None:
        for number in range(120):
            shop.put(f"s{number}", profileId=f"p{number}", cartItems=TWO, call={"headers": agent, "opens": True})

    return script


def goes_past(shop: Shop) -> None:
    for number in range(30):
        wanted = ("customerSession",)
        shop.put(f"s{number}", wanted=wanted, profileId=f"p{number}", cartItems=TWO)
        body = b'{"customerSession": {"couponCodes": ["WELCOME10"]}}'
        shop.deployment.answer("PUT", f"/v2/customer_sessions/s{number}", body)
        shop.put(f"s{number}", wanted=wanted, couponCodes=[])


def counts_itself(shop: Shop) -> None:
    """Answers that do not tell the count, a return and a reopening stand between those that do."""
    for number in range(30):
        wanted = ("customerSession",)
        shop.put(f"s{number}", wanted=wanted, profileId=f"p{number}", cartItems=TWO)
        shop.put(f"s{number}", couponCodes=["WELCOME10"])
        shop.close(f"s{number}")
        shop.call("PUT", f"/v2/customer_sessions/s{number}/reopen")
        shop.close(f"s{number}", wanted=wanted)


def just_calls(shop: Shop) -> None:
    shop.orders(5)


# --- more look-alikes ---------------------------------------------------------------------------------------------


def php_of_talon_one(shop: Shop) -> None:
    for agent in ("OpenAPI-Generator/26.04/php", "Symfony HttpClient (Curl)"):
        opens_each_time({"User-Agent": agent})(shop)


def asks_in_parallel_what_is_not_there(shop: Shop) -> None:
    """Four parts of a page ask at once, before any of them knows that it is not found."""
    shop.orders(20)
    shop.gap = -TOOK
    for number in range(10):
        shop.wait(3 + TOOK)
        for _ in range(4):
            shop.call("GET", f"/v3/events/order-{number}", answer=Answer(404, b"{}"))


def events_with_ids(shop: Shop) -> None:
    """POST /v3/events: the id says what is the same, and Talon.One refuses it."""
    for number in range(20):
        shop.put(f"s{number}", profileId=f"p{number}")
        shop.gap = -TOOK / 2
        for answer in (Answer(200, b"{}"), Answer(200, b"{}"), Answer(409, b'{"message": "already exists"}')):
            body = {"profileId": f"p{number}", "type": "bought", "integrationId": f"e{number}"}
            shop.call("POST", "/v3/events", body, answer=answer)
        shop.gap = 3.0


def reads_after(read: str, update: Callable[[Shop, str], object]) -> Script:
    def script(shop: Shop) -> None:
        for number in range(30):
            shop.put(f"s{number}", profileId=f"p{number}", cartItems=TWO)
            shop.gap = 0.05
            update(shop, f"{number}")
            shop.gap = 3.0
            shop.call("GET", read.format(number), answer=Answer(200, b"{}"))

    return script


def updates_a_profile(shop: Shop, number: str) -> None:
    shop.call("PUT", f"/v2/customer_profiles/p{number}", {"attributes": {"Language": "de"}})


def reopens(shop: Shop, number: str) -> None:
    shop.close(f"s{number}")
    shop.call("PUT", f"/v2/customer_sessions/s{number}/reopen")


def tells_a_silent_event(shop: Shop, number: str) -> None:
    body = {"profileId": f"p{number}", "type": "viewed", "attributes": {}}
    shop.call("POST", "/v2/events", body)


def updates_a_session(shop: Shop, number: str) -> None:
    shop.put(f"s{number}", profileId=f"p{number}", couponCodes=[])


def loses_answers(shop: Shop) -> None:
    """Updates that time out, and were carried out all the same."""
    for number in range(30):
        wanted = ("customerSession",)
        shop.put(f"s{number}", wanted=wanted, profileId=f"p{number}", cartItems=TWO)
        shop.deployment.answer("PUT", f"/v2/customer_sessions/s{number}", b'{"customerSession": {}}')
        shop.put(f"s{number}", call={"fails": "timeout"})
        shop.put(f"s{number}", wanted=wanted, couponCodes=[])


def goes_on_after_cancelling(shop: Shop) -> None:
    for number in range(30):
        shop.put(f"s{number}", profileId=f"p{number}", cartItems=TWO)
        shop.put(f"s{number}", state="cancelled")
        shop.put(f"s{number}", state="cancelled")
        shop.put(f"s{number}", profileId=f"p{number}", cartItems=TWO)
        shop.close(f"s{number}")


def gives_points_by_management(shop: Shop) -> None:
    shop.orders(30)
    for number in range(10):
        shop.call("PUT", f"/v1/loyalty_programs/1/profile/p{number}/add_points", {"points": 10})


PROFILE = "/v1/customer_profiles/p{}/inventory?profile=true"
COUPONS = "/v1/customer_profiles/p{}/inventory?profile=true&coupons=true"
POINTS = "/v1/loyalty_programs/1/profile/p{}/points"
MORE: tuple[tuple[str, Script], ...] = (
    ("connections.callers", php_of_talon_one),
    ("errors.not-handled", asks_in_parallel_what_is_not_there),
    ("events.double", events_with_ids),
    ("performance.avoidable-get", reads_after(PROFILE, updates_a_profile)),
    ("performance.avoidable-get", reads_after("/v2/customer_sessions/s{}", reopens)),
    ("performance.avoidable-get", reads_after(PROFILE, tells_a_silent_event)),
    ("performance.avoidable-get", reads_after(POINTS, updates_a_session)),
    ("performance.dry-without-cart", dry(cartItems=[])),
    ("connections.bypass", loses_answers),
)


CASES: dict[str, Case] = {
    "callers.browser": Case("problem", a_web_page, a_backend_that_copies, lambda: Shop(clients__allow_browsers="true")),
    "callers.copied-headers": Case(
        "advice", a_backend_that_copies, nodes_fetch, lambda: Shop(clients__allow_browsers="true")
    ),
    "callers.key": Case("warning", with_authorization(f"ApiKey-v1 {KEY}"), with_authorization("ApiKey-v1 " + "0" * 64)),
    "sdk.legacy": Case("warning", a_legacy_sdk, a_client_of_its_own),
    "sdk.resend": Case("warning", leaves_and_sends_again, sends_the_same_now_and_then),
    "apis.management": Case("warning", reads_by_management, a_nightly_job),
    "campaigns.no-effects": Case(
        "advice", no_rule_applies, off_season, lambda: Shop(Deployment(ONE_COUPON, bare=True))
    ),
    "attributes.undefined": Case("problem", unknown_attributes, another_mistake),
    "import.bulk": Case("advice", imports_one_by_one, signs_up_one_by_one),
    "import.closed-sessions": Case("advice", imports_orders, a_point_of_sale),
    "session.id-is-profile": Case(
        "problem", sessions_of_customers("customer-{}".format), sessions_of_customers("customer-{}-1".format)
    ),
    "session.id-is-email": Case(
        "warning", sessions_of_customers("jane.{}@shop.example".format), sessions_of_customers("cart@{}".format)
    ),
    "session.same-cart": Case("warning", new_ids_for_a_cart, the_same_again),
    "session.never-closed": Case("problem", never_pays, hardly_ever_pays),
    "session.write-after-close": Case("warning", goes_on_after_paying, changes_its_mind),
    "session.returned-by-put": Case("problem", returns_by_put, gives_back("return-{}".format)),
    "session.returns-without-key": Case("warning", gives_back(None), gives_back(None, "?dry=true")),
    "session.price-changed": Case("warning", a_coupon_for_one, a_coupon_that_never_was),
    "session.closed-without": Case("warning", closes_with(couponCodes=[]), takes_its_coupon_out),
    "session.lasting-effects": Case("warning", cancels(NEXT), cancels(TWO), lambda: Shop(Deployment(CREATES_COUPONS))),
    "profiles.missing": Case("warning", nobody_is_known, guests_who_log_in),
    "profiles.shared": Case("warning", guests_share_one, a_busy_customer),
    "profiles.flip-flop": Case("warning", who_is_it, logs_in_and_out),
    "performance.avoidable-get": Case("warning", reads_right_after, reads_later),
    "performance.previews": Case("warning", tries_out(""), clicks_along),
    "performance.dry-without-cart": Case("warning", dry(couponCodes=["WELCOME10"]), a_coupon_alone),
    "performance.profile-dry": Case(
        "problem", updates_profiles("?dry=true"), updates_profiles("?dry=true&runRuleEngine=true")
    ),
    "performance.useless-parameter": Case(
        "advice", updates("?runRuleEngine=true&dry=false"), updates_profiles("?runRuleEngine=true")
    ),
    "performance.failure-reasons": Case(
        "warning", updates(wanted=("ruleFailureReasons",)), updates("?dry=true", wanted=("ruleFailureReasons",))
    ),
    "events.double": Case("warning", double_events, events_that_only_look_alike),
    "updates.parallel": Case("advice", at_the_same_time, one_after_another),
    "effects.unhandled": Case(
        "problem",
        adds("customEffect", name="golden_ticket"),
        adds("updateAttribute"),
        lambda: Shop(checklist__effects_handled=HANDLED),
    ),
    "effects.deprecated": Case("warning", adds("redeemReferral"), adds("acceptReferral")),
    "effects.unknown": Case("advice", adds("useReward"), adds("customEffect", name="useReward")),
    "effects.error": Case("warning", adds("error", message="no such item"), adds("showNotification")),
    "effects.profile-required": Case("warning", rejects("ProfileRequired"), rejects("CouponNotFound")),
    "errors.not-handled": Case("warning", insists(4, 0.5), insists(2, 0.5)),
    "errors.rate": Case("warning", is_often_wrong, is_told_that_it_exists),
    "connections.allowlist": Case("warning", is_turned_away, has_an_outage),
    "connections.reuse": Case("advice", opens_upstream(2), opens_upstream(30)),
    "connections.callers": Case("advice", opens_each_time(SDK), opens_each_time(PHP)),
    "connections.bypass": Case("advice", goes_past, counts_itself),
    "relocation.ready": Case(
        "advice", just_calls, just_calls, lambda: Shop(upstream__allowed_hosts="mycompany.europe-west1.talon.one")
    ),
}


def test_every_rule_has_its_three_shops() -> None:
    assert set(CASES) == set(IDS)
    assert len(IDS) == len(set(IDS)) == len(RULES)


@pytest.mark.parametrize("name", IDS)
def test_a_shop_that_breaks_the_rule_is_told_so(name: str) -> None:
    case = CASES[name]
    shop = case.make()

    case.breaks(shop)

    found = shop.rule(name)
    assert found["verdict"] == case.verdict, found
    assert found["broken"] > 0
    if found["counted"]:
        assert BEGAN <= found["first"] <= found["last"] <= BEGAN + shop.now
        assert found["examples"] != [] != found["groups"], "who, and what to search the log for"
    assert name in shop.told["fixes"] or found["verdict"] == "advice" or len(blamed(shop.told)) > 1


@pytest.mark.parametrize("name", IDS)
def test_a_clean_shop_keeps_the_rule_on_evidence(name: str) -> None:
    assert rule_of(clean(), name)["verdict"] == "ok", rule_of(clean(), name)


@pytest.mark.parametrize("name", IDS)
def test_a_shop_that_looks_alike_is_not_blamed(name: str) -> None:
    shop = Shop() if name == "relocation.ready" else CASES[name].make()

    CASES[name].looks_alike(shop)

    assert blamed(shop.told) == {}
    if CASES[name].verdict == "advice":
        assert shop.rule(name)["verdict"] in ("ok", "unseen")


@pytest.mark.parametrize(("name", "script"), MORE)
def test_nor_is_any_of_these_blamed(name: str, script: Script) -> None:
    shop = Shop()

    script(shop)

    assert blamed(shop.told) == {}
    assert shop.rule(name)["verdict"] in ("ok", "unseen"), shop.rule(name)


@pytest.mark.parametrize(
    ("name", "script", "names"),
    [
        (
            "session.write-after-close",
            goes_on_after_cancelling,
            {"no state sent after cancelled", "closed sent after cancelled"},
        ),
        ("apis.management", gives_points_by_management, {"path"}),
        ("session.closed-without", closes_with(identifiers=[]), {"identifiers"}),
    ],
)
def test_so_are_these(name: str, script: Script, names: set[str]) -> None:
    shop = Shop()

    script(shop)

    found = shop.rule(name)
    assert (found["verdict"], set(found["names"])) == ("warning", names)


def test_a_read_is_named_by_what_would_have_saved_it() -> None:
    shop = Shop()
    reads_after(COUPONS, updates_a_session)(shop)
    reads_after(COUPONS, updates_a_profile)(shop)

    found = shop.rule("performance.avoidable-get")

    assert found["verdict"] == "warning"
    assert {name: row[0] for name, row in found["names"].items()} == {"customerProfile, coupons": 30}


# --- calls that were not looked at ---


def unseen(shop: Shop, session: str, path: str = "", body: bytes = b"") -> None:
    """One that passed while there was no time to look at it."""
    shop.deployment.answer("PUT", f"/v2/customer_sessions/{session}{path}", body)


def updates_unseen(shop: Shop, gap: Callable[[], None]) -> None:
    for number in range(30):
        shop.put(f"s{number}", wanted=("customerSession",), profileId=f"p{number}", cartItems=TWO)
        unseen(shop, f"s{number}", body=b'{"customerSession": {"couponCodes": ["WELCOME10"]}}')
        gap()
        shop.put(f"s{number}", wanted=("customerSession",), couponCodes=[])


def closes_unseen(shop: Shop, gap: Callable[[], None]) -> None:
    for number in range(120):
        shop.put(f"s{number}", profileId=f"p{number}", cartItems=TWO)
        unseen(shop, f"s{number}", body=b'{"customerSession": {"state": "closed"}}')
    gap()
    shop.wait(DAY).close("another", profileId="p", cartItems=TWO)


def orders_unseen(shop: Shop, gap: Callable[[], None]) -> None:
    for number in range(30):
        for turn in range(4):
            shop.put(f"s{number}-{turn}", profileId=f"p{number}", cartItems=TWO)
            unseen(shop, f"s{number}-{turn}", body=b'{"customerSession": {"state": "closed"}}')
            gap()


@pytest.mark.parametrize(
    ("name", "lives"),
    [
        ("connections.bypass", updates_unseen),
        ("session.never-closed", closes_unseen),
        ("session.same-cart", orders_unseen),
    ],
)
def test_nobody_is_blamed_for_what_was_not_looked_at(
    name: str, lives: Callable[[Shop, Callable[[], None]], None]
) -> None:
    unknowing, knowing = Shop(), Shop()

    lives(unknowing, lambda: None)
    lives(knowing, knowing.checking.counts.miss)

    assert unknowing.rule(name)["broken"] > 0, "it would be blamed"
    assert knowing.rule(name)["broken"] == 0
