"""Who joins whom, and what has to be equal for that, as a shop sees it. The table of edge cases is in test_lanes."""

from collections.abc import Sequence
from typing import Any

import pytest

from proxy.errors import ConnectionLost
from proxy.messages import Sent
from proxy.pipeline import Rules as PipelineRules
from proxy.traffic.flights import State
from proxy.traffic.lanes import Rules as LaneRules
from tests.traffic_rig import (
    Shop,
    Shopper,
    application,
    ended,
    fields_of,
    in_turn,
    open_shop,
    switch,
    went,
)

KEY = b"Idempotency-Key"
TIMEOUT = b"Talon-Proxy-Timeout-Ms"
TARGET = b"/v2/customer_sessions/s"


# --- writes ---


@pytest.mark.parametrize("sent", [True, False], ids=["sent", "queued"])
def test_an_update_joins(shop: Shop, sent: bool) -> None:
    """A29: a double-clicked "pay" closes the session once, and both clicks get the answer."""
    if not sent:
        ahead = shop.session("s", number=0)
    shoppers = [shop.session("s", "p", state="closed") for _ in range(10)]
    if not sent:
        shop.reply_to(ahead)

    assert {shopper.flight for shopper in shoppers} == {shoppers[0].flight}
    assert [shopper.joined for shopper in shoppers] == [False] + [True] * 9
    shop.reply_to(shoppers[0], 201, b"paid")
    assert [shopper.reply.body for shopper in shoppers] == [b"paid"] * 10
    assert len(shop.sent) == (1 if sent else 2)


def test_of_x_y_x_the_last_is_sent_last(shop: Shop) -> None:
    """B3: joined to the first, Y would win."""
    shoppers = [shop.session("s", cart=cart) for cart in "xyx"]

    assert not any(shopper.joined for shopper in shoppers)
    assert in_turn(shop, *shoppers) == [0, 1, 2]


def test_only_who_is_last_in_all_its_lanes_is_joined(shop: Shop) -> None:
    first = shop.session("s", "p")
    event = shop.event("p")
    again = shop.session("s", "p")

    assert not again.joined
    assert in_turn(shop, first, event, again) == [0, 1, 2]


def test_a_tail_of_one_lane_only_is_not_joined(shop: Shop) -> None:
    first = shop.event("p", (KEY, b"k"))
    shop.memory.admitted(("default", "s"), "p")
    session = shop.session("s")
    again = shop.event("p", (KEY, b"k"))

    assert [session.joined, again.joined] == [False, False]
    assert in_turn(shop, first, session, again) == [0, 1, 2]


@pytest.mark.parametrize("key", [None, b"k"])
def test_two_equal_events_are_two(shop: Shop, key: bytes | None) -> None:
    """A29: unless they say themselves that they are one."""
    fields = ((KEY, key),) if key else ()
    shoppers = [shop.event("p", *fields) for _ in range(2)]

    assert [shopper.joined for shopper in shoppers] == [False, key is not None]
    in_turn(shop)
    assert len(shop.sent) == (2 if key is None else 1)


NOWHERE = [
    (b"POST", b"/v2/audiences"),
    (b"PUT", b"/v2/customer_profiles"),
    (b"PUT", b"/v1/catalogs/1/sync"),
    (b"DELETE", b"/v2/audiences/1"),
    (b"PUT", b"/v2/something/new"),
    (b"POST", b"/v1/applications/1/campaigns"),
]


@pytest.mark.parametrize(("method", "target"), NOWHERE)
def test_what_stands_in_no_lane_joins_only_with_an_equal_idempotency_key(method: bytes, target: bytes) -> None:
    with ended(open_shop(management=True)) as shop:
        bare = [shop.submit(method, target, b"{}") for _ in range(2)]
        keyed = [shop.submit(method, target, b"{}", (KEY, b"k")) for _ in range(2)]
        other = shop.submit(method, target, b"{}", (KEY, b"l"))

        assert [shopper.joined for shopper in (*bare, *keyed, other)] == [False, False, False, True, False]
        assert went(shop, *bare, keyed[0], other) == [True] * 4


def test_one_idempotency_key_with_two_bodies_is_two_calls_one_after_the_other(shop: Shop) -> None:
    shoppers = [shop.submit(b"POST", b"/v2/audiences", body, (KEY, b"k")) for body in (b"{}", b"[]")]

    assert went(shop, *shoppers) == [True, False]
    assert in_turn(shop, *shoppers) == [0, 1]


def test_without_a_place_nobody_is_joined(shop: Shop) -> None:
    fields = (b"Talon-Proxy-Order", b"no")
    shoppers = [shop.session("s", None, fields) for _ in range(2)]

    assert went(shop, *shoppers) == [True, True]
    assert not any(shopper.joined for shopper in shoppers)


def test_an_answer_that_is_decided_is_not_joined(shop: Shop) -> None:
    """A15, A28: neither in the step in which it is told, nor while the lane is held."""
    newcomers: list[Shopper] = []
    first = shop.session("s")
    first.on_answer = lambda: newcomers.append(shop.session("s"))
    shop.lose(first, ConnectionLost("x", sent=Sent.MAYBE))
    assert first.flight.state is State.ANSWERED
    newcomers.append(shop.session("s"))

    assert [shopper.joined for shopper in newcomers] == [False, True]
    assert went(shop, *newcomers) == [False, False]


def test_a_failure_is_shared(shop: Shop) -> None:
    """A16: once, and without a retry by each."""
    shoppers = [shop.session("s", state="closed") for _ in range(3)]
    shop.lose(shoppers[0], ConnectionLost("x", sent=Sent.MAYBE))

    assert [shopper.failure for shopper in shoppers] == [(502, b"connection_terminated", b"unknown")] * 3
    assert [shopper.call.error for shopper in shoppers] == ["lost"] * 3
    assert len(shop.sent) == 1


def test_each_caller_has_its_own_lines_and_all_have_one_body(shop: Shop) -> None:
    """A20, A24."""
    shoppers = [shop.session("s", None, (b"X-Request-Id", b"%d" % number)) for number in range(3)]
    shop.clock.advance(0.5)
    shop.reply_to(shoppers[0], 200, b"body", block=b"ETag: x\r\nAge: 5\r\n")
    lines = [fields_of(shopper.lines) for shopper in shoppers]

    assert [line[b"X-Request-Id"] for line in lines] == [b"0", b"1", b"2"]
    collapsed = b"talon-proxy; fwd=bypass; collapsed"
    assert [line.get(b"Cache-Status") for line in lines] == [None, collapsed, collapsed]
    assert [line[b"Server-Timing"] for line in lines] == [b"proxy;dur=0.0, lane;dur=0.0, upstream;dur=500.0"] * 3
    assert len({id(shopper.reply.body) for shopper in shoppers}) == 1
    assert [shopper.reply.block for shopper in shoppers] == [b"ETag: x\r\nAge: 5\r\n"] * 3


def test_who_joins_takes_no_connection() -> None:
    """A32."""
    with ended(Shop()) as shop:
        for _ in range(3):
            shop.session("s")

        assert len(shop.upstream.waiting) == 1


def test_so_many_callers_share_and_further_ones_do_not() -> None:
    """A30: they are not refused, they get a flight of their own."""
    with ended(open_shop(lanes=LaneRules(max_callers=2))) as shop:
        writes = [shop.session("s") for _ in range(5)]
        reads = [shop.read() for _ in range(5)]

        assert [shopper.joined for shopper in writes] == [False, True, False, True, False]
        assert [shopper.joined for shopper in reads] == [False, True, False, True, False]
        assert went(shop, writes[0], writes[2], writes[4]) == [True, False, False]


# --- what has to be equal ---

EQUAL = [(b"User-Agent", b"a"), (b"X-Request-Id", b"a"), (b"traceparent", b"a"), (TIMEOUT, b"5")]
TOLD_APART = [
    *(b"Accept", b"Accept-Language", b"Content-Type", b"Content-Encoding", b"Content-Signature", b"Api-Key"),
    *(b"Cookie", b"Idempotency-Key"),
]


def twice(shop: Shop, one: Sequence[Any], other: Sequence[Any]) -> bool:
    """Submit two calls; tells whether the second joined the first."""
    shop.submit(*one)
    return shop.submit(*other).joined


@pytest.mark.parametrize("field", EQUAL)
def test_fields_that_do_not_change_the_answer_are_not_compared(shop: Shop, field: tuple[bytes, bytes]) -> None:
    assert twice(shop, (b"PUT", TARGET, b"{}"), (b"PUT", TARGET, b"{}", field))


@pytest.mark.parametrize("name", TOLD_APART)
@pytest.mark.parametrize("value", [b"a", b"A", None])
def test_fields_that_change_the_answer_are(shop: Shop, name: bytes, value: bytes | None) -> None:
    """A1, A5."""
    fields = [(name, value)] if value else []
    same = value == b"a"

    assert twice(shop, (b"PUT", TARGET, b"{}", (name, b"a")), (b"PUT", TARGET, b"{}", *fields)) is same


def test_lines_are_compared_by_name_and_in_their_order_where_they_have_the_same(shop: Shop) -> None:
    """RFC 9110 §5.3."""
    a, b, accept = (b"Cookie", b"a"), (b"cookie", b"b"), (b"Accept", b"x")

    assert twice(shop, (b"PUT", TARGET, b"{}", a, accept, b), (b"PUT", TARGET, b"{}", a, b, accept))
    assert not twice(shop, (b"PUT", TARGET, b"1", a, b), (b"PUT", TARGET, b"1", b, a))


def test_what_a_caller_accepts_is_compared_as_it_is_passed_on(shop: Shop) -> None:
    """A5, A25."""

    def accepting(value: bytes) -> tuple[Any, ...]:
        return b"GET", TARGET, b"", (b"Accept-Encoding", value)

    assert twice(shop, accepting(b"gzip, br"), accepting(b"zstd, gzip;q=0.5"))
    assert not twice(shop, accepting(b"gzip"), accepting(b"br"))
    assert not twice(shop, accepting(b"identity"), (b"GET", TARGET))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ((b"GET", TARGET), (b"HEAD", TARGET)),
        ((b"GET", TARGET), (b"GET", b"/v2/customer_sessions/%73")),
        ((b"GET", TARGET + b"?a=1&b=2"), (b"GET", TARGET + b"?b=2&a=1")),
        ((b"GET", TARGET), (b"GET", TARGET + b"?")),
        ((b"GET", b"/v2/customer_sessions/a%2Fb"), (b"GET", b"/v2/customer_sessions/a%2fb")),
        ((b"PUT", TARGET, b'{"a":1}'), (b"PUT", TARGET, b'{"a": 1}')),
        ((b"GET", TARGET, b"", application(b"default")), (b"GET", TARGET, b"", application(b"other"))),
        ((b"GET", b"/app/default" + TARGET), (b"GET", b"/app/other" + TARGET)),
    ],
)
def test_calls_that_differ_in_this_do_not_share_an_answer(
    mall: Shop, one: tuple[Any, ...], other: tuple[Any, ...]
) -> None:
    """A1, A2, A3, A4, A7, A21."""
    assert twice(mall, one, one)
    assert not mall.submit(*other).joined


def test_the_application_counts_however_it_is_named(mall: Shop) -> None:
    assert twice(mall, (b"GET", b"/app/other" + TARGET), (b"GET", TARGET, b"", application(b"other")))


@pytest.mark.parametrize("inject", ["always", "off"])
def test_callers_who_bring_their_own_key_share_nothing_with_others(inject: str) -> None:
    """A2."""
    with ended(open_shop(inject=inject)) as shop:
        one, other = [(b"GET", TARGET, b"", (b"Authorization", b"ApiKey-v1 " + key)) for key in (b"1", b"2")]

        assert twice(shop, one, one)
        assert shop.submit(*other).joined is (inject == "always")


ALONE = [
    (b"Range", b"bytes=0-1"),
    (b"If-Range", b"x"),
    (b"If-Match", b"*"),
    (b"If-None-Match", b"x"),
    (b"If-Modified-Since", b"x"),
    (b"If-Unmodified-Since", b"x"),
    (b"Cache-Control", b"max-age=0, No-Cache"),
    (b"Cache-Control", b"no-store"),
    (b"Talon-Proxy-Coalesce", b"no"),
]


@pytest.mark.parametrize("field", ALONE)
@pytest.mark.parametrize("method", [b"GET", b"PUT"])
def test_an_answer_for_one_caller_alone(shop: Shop, method: bytes, field: tuple[bytes, bytes]) -> None:
    """A7, A8: it neither joins nor is joined; its place in line it keeps."""
    first = shop.submit(method, TARGET, b"{}")
    alone = shop.submit(method, TARGET, b"{}", field)
    twin = shop.submit(method, TARGET, b"{}", field)
    last = shop.submit(method, TARGET, b"{}")

    assert not alone.joined
    assert not twin.joined
    assert last.joined is (method == b"GET")  # the first read is open still; of a lane only the tail is
    assert went(shop, first, alone, twin) == [True, method == b"GET", method == b"GET"]


def test_other_directives_do_not_keep_a_call_alone(shop: Shop) -> None:
    assert twice(shop, (b"GET", TARGET), (b"GET", TARGET, b"", (b"Cache-Control", b"max-age=0")))


def test_an_operation_that_never_joins() -> None:
    """A8."""
    rules = PipelineRules(total_timeout=15.0, never_join=frozenset({"updateCustomerSessionV2"}))
    with ended(open_shop(pipeline=rules)) as shop:
        shoppers = [shop.session("s"), shop.session("s")]

        assert [shopper.joined for shopper in (*shoppers, shop.read(), shop.read())] == [False, False, False, True]
        assert went(shop, *shoppers) == [True, False]


@pytest.mark.parametrize("lanes", [True, False])
@pytest.mark.parametrize("coalescing", [True, False])
def test_with_lanes_and_coalescing_off_it_is_a_plain_proxy(lanes: bool, coalescing: bool) -> None:
    """A8. Reads need no lanes to be joined; writes do."""
    pipeline = PipelineRules(total_timeout=15.0, coalescing=coalescing)
    with ended(open_shop(lanes=LaneRules(enabled=lanes), pipeline=pipeline, shared=("p",))) as shop:
        writes = [shop.session("s", "p"), shop.session("s", "p"), shop.session("s", "p", number=1)]
        events = [shop.event("p") for _ in range(5)]
        reads = [shop.read(), shop.read()]
        dry = [shop.submit(b"PUT", TARGET + b"?dry=true", b"{}", (b"Cookie", b"%d" % n)) for n in range(4)]

        assert [shopper.joined for shopper in writes] == [False, lanes and coalescing, False]
        assert reads[1].joined is coalescing
        if not lanes:
            assert went(shop, *writes, *events, *dry) == [True] * 12
            assert len(shop.lanes) == len(shop.gates) == len(shop.memory) == 0


# --- another upstream ---


@pytest.mark.parametrize("what", ["write", "read"])
def test_what_was_sent_to_an_upstream_that_was_left_is_not_joined(shop: Shop, what: str) -> None:
    """A1."""

    def submit() -> Shopper:
        return shop.session("s") if what == "write" else shop.read()

    submit()
    new = switch(shop)

    assert not submit().joined
    assert submit().joined
    for asked in shop.under_way():
        shop.upstream.end(asked)
    new.answer()


def test_what_was_not_sent_yet_is_joined_across_aswitch(shop: Shop) -> None:
    first = shop.session("s", number=1)
    shop.session("s")
    new = switch(shop)
    again = shop.session("s")
    shop.reply_to(first)
    new.answer()

    assert again.joined
    assert again.reply.status == 200
