"""Bodies and answers that nobody should send: looked at without a fault of ours, and shown as names alone."""

import logging
import zlib

import orjson
import pytest

from proxy.simulator.operations import Answer
from proxy.talon.checklist.facts import MOST_EFFECTS, MOST_ERRORS
from proxy.talon.checklist.records import check_judged
from tests.checklist_shop import DAY, SDK, TWO, Shop, blamed

BODIES = (
    b"[]",
    b"null",
    b"{",
    b"\xff\xfe",
    b'{"customerSession": []}',
    b'{"customerSession": {"profileId": "\\ud800"}}',
    b'{"customerSession": {"state": [], "profileId": {}, "cartItems": {"a": 1}, "attributes": [1]}}',
    b'{"customerSession": {"cartItems": [1, null, {"attributes": 3}], "couponCodes": [1, []]}, "responseContent": {}}',
    b'{"customerSession": {"attributes": {"\\u0000": 1, "a": null, "b": -99999999999999999999999}}}',
    b'{"customerSession": {"cartItems": [%s]}}' % (b"[" * 300 + b"]" * 300),
    b'{"customerSession": {"attributes": {"a": %s}}}' % (b"[" * 900 + b"]" * 900),
    b'{"type": ["x"], "profileId": 1, "attributes": {"a": [[1]]}}',
)
ANSWERS = (
    b"",
    b"[]",
    b'{"effects": {"a": 1}, "customerSession": [], "errors": {"title": "Unknown"}}',
    b'{"effects": [1, null, [], {"effectType": [1]}, {"effectType": {}, "props": 3}], "errors": [1, null]}',
    b'{"effects": [{"effectType": "rejectCoupon", "props": {"rejectionReason": {}, "value": [1]}}]}',
    b'{"effects": [{"effectType": "customEffect", "props": {"name": [1]}}], "errors": [{"title": [], "source": 3}]}',
    b'{"customerSession": {"updateCount": -5, "state": 3}, "errors": [{"title": {}, "source": {"pointer": []}}]}',
    b'{"customerSession": {"updateCount": 123456789012345678901234567890}}',
    b'{"customerSession": {"updateCount": 18446744073709551615}}',
)
TARGETS = (
    ("PUT", "/v2/customer_sessions/s"),
    ("POST", "/v2/customer_sessions/s/returns"),
    ("POST", "/v2/events"),
    ("PUT", "/v2/customer_profiles/p"),
)


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: str(target[1]))
def test_no_body_and_no_answer_is_too_odd_to_be_looked_at(
    target: tuple[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    shop = Shop()
    with caplog.at_level(logging.ERROR):
        for body in BODIES:
            for answer in ANSWERS:
                for status in (200, 400, 404, 500):
                    told = Answer(status, answer)
                    shop.call(*target, body, answer=told)

    assert caplog.text == ""
    assert shop.told["proxies"][0]["looked_at"] == len(BODIES) * len(ANSWERS) * 4
    check_judged(orjson.loads(orjson.dumps(shop.told)))


def test_names_stay_short_and_are_names_whatever_is_sent() -> None:
    shop = Shop()
    nested = {"a": orjson.Fragment(b"[" * 900 + b"]" * 900), "<b>": "\x00", "x" * 9000: 1, "[a](javascript:b)": 2}
    pointer = "/attributes/<script>" + "/a" * 5000
    errors = {"message": "x", "errors": [{"title": "<b>\x01", "source": {"pointer": pointer}}]}
    shop.put("s", profileId="p", attributes=nested, call={"answer": Answer(400, orjson.dumps(errors))})

    inventory = shop.told["inventory"]

    assert set(inventory["attributes"]) == {
        "CustomerSession.a: object",
        "CustomerSession.(not a name): string",
        "CustomerSession.(not a name): number",
    }
    assert all(len(name) < 500 for rows in inventory.values() for name in rows)
    assert not set("<>\x00\x01[") & set("".join(name for rows in inventory.values() for name in rows))


def test_what_cannot_be_read_is_not_taken_for_missing() -> None:
    """A shop that compresses its bodies: every cart, customer and closing is in them, and none can be seen."""
    shop = Shop()
    for number in range(120):
        for sent in (b'{"customerSession": {"state": "open"}}', b'{"customerSession": {"state": "closed"}}'):
            for query in ("", "?dry=true"):
                target, packed = f"/v2/customer_sessions/s{number}{query}", zlib.compress(sent, wbits=31)
                headers = {**SDK, "Content-Encoding": "gzip"}
                shop.call("PUT", target, packed, headers=headers, answer=Answer(200, b'{"effects": []}'))
    shop.wait(DAY)

    assert blamed(shop.told) == {}
    assert shop.rule("performance.dry-without-cart")["checked"] == 0
    assert "states" not in shop.told["inventory"]


def test_what_needs_no_body_is_asked_of_a_large_one_too() -> None:
    shop = Shop()
    many = {"customerProfiles": [{"integrationId": f"old-{number}", "attributes": {}} for number in range(9000)]}
    shop.call("PUT", "/v2/customer_profiles", many, answer=Answer(204, b""))
    huge = [{"sku": "shoe", "quantity": 1, "price": 1, "name": "x" * 300_000}]
    answer = Answer(200, b'{"effects": [{"effectType": "error"}]}')
    shop.put("jane@shop.example", profileId="p", cartItems=huge, call={"answer": answer})

    assert shop.rule("import.bulk")["verdict"] == "ok"
    for name in ("session.id-is-email", "effects.error"):
        assert shop.rule(name)["broken"] == 1
    for name in ("session.returned-by-put", "performance.failure-reasons", "session.write-after-close"):
        assert shop.rule(name)["checked"] == 0


def test_orders_that_are_closed_with_a_cart_too_large_to_be_read_are_not_missed() -> None:
    shop = Shop()
    huge = [{"sku": f"shoe-{number}", "quantity": 1, "price": 1, "name": "x" * 300} for number in range(900)]
    for number in range(120):
        shop.put(f"s{number}", cartItems=TWO)
        shop.close(f"s{number}", profileId=f"p{number}", cartItems=huge, call={"answer": Answer(200, b"{}")})
    shop.wait(DAY)

    assert blamed(shop.told) == {}
    assert shop.rule("session.never-closed")["checked"] == shop.rule("profiles.missing")["checked"] == 0


def test_states_are_listed_as_they_were_sent() -> None:
    shop = Shop()
    for sent in ({}, {"state": "open"}, {"state": "shut"}, {"state": 7}, {"state": "closed"}):
        shop.put("s", **sent)

    states = {name: row[0] for name, row in shop.told["inventory"]["states"].items()}
    assert states == {"(none)": 1, "open": 1, "(not a state)": 2, "closed": 1}


def test_nothing_long_is_remembered_of_a_session() -> None:
    """Whatever a caller and an answer say, memory is bounded by the number of sessions."""
    shop = Shop()
    long = "x" * 7000
    told = Answer(200, orjson.dumps({"customerSession": {"state": long}}))
    headers = {**SDK, "X-Request-Id": long, "User-Agent": long}
    shop.put("s", state=long, profileId=long, couponCodes=[long], call={"headers": headers, "answer": told})

    (session,) = shop.checking._examiner.past.living()
    kept = [getattr(session, name) for name in type(session).__slots__]

    assert max(len(str(value)) for value in kept) < 200


def test_of_crowds_only_the_first_are_looked_at() -> None:
    """A look holds up calls for as long as it takes, and bodies say how much there is to look at."""
    shop = Shop()
    effects = [{"effectType": f"kind_{number}"} for number in range(5000)]
    shop.put("s", call={"answer": Answer(200, orjson.dumps({"effects": effects}))})
    errors = [{"title": "Unknown", "source": {"pointer": f"/place_{'x' * (number % 40)}"}} for number in range(3000)]
    shop.put("s", call={"answer": Answer(400, orjson.dumps({"message": "no", "errors": errors}))})

    inventory = shop.told["inventory"]
    assert sum(row[0] for row in inventory["effects"].values()) == MOST_EFFECTS
    assert shop.rule("errors.rate")["checked"] == 2
    assert 0 < len(inventory["errors"]) <= MOST_ERRORS
