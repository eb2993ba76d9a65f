"""Who joins whom and who follows whom, as a shop sees it: calls in, what is sent, answers out. No socket, no sleep.

Every line of edge-cases.md A and B, and where it is tested; or why it cannot occur:

A1, A2, A3, A4  test_calls_that_differ_in_this_do_not_share_an_answer; the generation:
                test_what_was_sent_to_an_upstream_that_was_left_is_not_joined
A5, A25         test_fields: what_a_caller_accepts_is_reduced_to_what_we_can_read; part of the fingerprint as reduced
A6              test_each_caller_has_its_own_time
A7              test_an_answer_for_one_caller_alone; Expect and Upgrade are the wire's and never come here
A8              the same; test_an_operation_that_never_joins; test_with_lanes_and_coalescing_off_it_is_a_plain_proxy
A9, A10         test_a_first_caller_who_leaves_takes_nothing_from_the_others;
                test_a_write_whose_caller_left_holds_its_place_until_it_is_answered. No task could be cancelled
A11             test_what_nobody_waits_for_is_not_sent
A12             test_reads: closed_nobody_finds_it_any_more; a lane is its tail, and is compared with it
A13, A14        no flight and no call has a task or future: nothing is cancelled, no exception is stored. Both ends in
                one turn: test_pipeline: an_answer_and_the_deadline_in_the_same_turn_make_one_answer
A15, A28        test_an_answer_that_is_decided_is_not_joined
A16, A17        test_a_failure_is_shared; retries are the flight's: test_attempts
A18             a sent flight is answered, lost or timed out within upstream.timeouts.response, and is repeated a
                bounded number of times; one that is not sent yet gets no older by waiting
A19             there is no circuit yet
A20, A24        test_each_caller_has_its_own_lines_and_all_have_one_body
A21             the Application is in the fingerprint: test_calls_that_differ_in_this_do_not_share_an_answer
A22, A23        test_pipeline: an_answer_too_large_to_hold; framing: test_http1
A26             test_http1: an answer cut short is IncompleteReply; it is shared as a failure
A27             test_a_write_seals_the_reads_of_its_keys, and those that follow it
A29             test_reads_join; test_an_update_joins; test_two_equal_events_are_two; best prior price: test_reads_join
A30             test_so_many_callers_share_and_further_ones_do_not; limits on bytes are the listener's
A31             a shared answer is held whole; each caller's connection writes it at its own pace (wire.downstream)
A32             test_who_joins_takes_no_connection
A33             Timeline.joined and Cache-Status here; metrics and logs: test_metrics, test_logs
B1              test_the_place_is_taken_before_submit_returns
B2              test_writes_of_one_session_go_one_after_the_other; test_a_newcomer_does_not_slip_in
B3              test_of_x_y_x_the_last_is_sent_last
B4              test_when_all_is_over_nothing_is_left; the depth: test_who_left_does_not_count
B5              test_one_who_is_next_may_end_before_it_knows
B6              test_a_crash_releases_the_lane
B7              test_what_nobody_waits_for_is_not_sent
B8              test_a_write_whose_caller_left_holds_its_place_until_it_is_answered
B9              test_attempts: after_an_unknown_outcome_the_lane_rests
B10             test_attempts: a_wait_counts_against_the_callers_time
B11             test_the_time_in_line_is_the_callers_time
B12             test_a_lane_takes_so_many_callers
B13, B27        test_a_hot_session_holds_no_connection_and_nobody_else_up
B14             test_a_write_waits_for_the_tails_of_all_its_lanes
B15             test_a_shared_profile_takes_three_at_a_time, and those that follow it
B16             test_which_calls_are_about_the_same
B17, B18        test_a_body_that_cannot_be_read_leaves_the_session_of_the_path
B19, B20        test_reads_do_not_wait_for_writes; test_dry_calls_go_two_at_a_time; test_which_calls_are_about_the_same
B21             test_which_calls_are_about_the_same
B22, B23        several replicas: not here
B24             test_the_order_survives_a_switch_of_the_upstream
B25             test_pipeline: shutting_down_refuses_what_stands_in_line
B26             test_wheel
B28             test_traffic_machine
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import orjson
import pytest

from proxy.errors import ConnectionLost
from proxy.messages import Sent
from proxy.pipeline import Rules as PipelineRules
from proxy.talon.keys import Unkeyed
from proxy.traffic.attempts import Abandoned
from proxy.traffic.attempts import Rules as AttemptRules
from proxy.traffic.flights import State
from proxy.traffic.lanes import GATED_PER_DEPTH, UNFINISHED_PER_DEPTH
from proxy.traffic.lanes import Rules as LaneRules
from proxy.upstream import State as Serving
from tests.traffic_rig import APPLICATIONS, Shop, Shopper, ended, fields_of
from tests.upstream_fakes import FakeUpstream

KEY = b"Idempotency-Key"
TIMEOUT = b"Talon-Proxy-Timeout-Ms"


def open_shop(**options: Any) -> Shop:
    """Make a shop whose upstream has a connection for everybody."""
    shop = Shop(**options)
    shop.upstream.ready = True
    return shop


@pytest.fixture
def shop() -> Iterator[Shop]:
    with ended(open_shop()) as shop:
        yield shop


@pytest.fixture
def mall() -> Iterator[Shop]:
    """Two Applications of one environment, and one of another."""
    with ended(open_shop(applications=APPLICATIONS)) as shop:
        yield shop


def went(shop: Shop, *shoppers: Shopper) -> list[bool]:
    """Tell whose call was sent."""
    return [shop.was_sent(shopper) for shopper in shoppers]


def in_turn(shop: Shop, *shoppers: Shopper) -> list[int]:
    """Answer everything that is under way, and what that lets go, until all is over; gives who was sent when."""
    while shop.under_way():
        shop.upstream.end(shop.under_way()[0])
    timelines = [asked.exchange.timeline for asked in shop.sent]
    return [timelines.index(shopper.call.timeline) for shopper in shoppers]


# --- order ---


def test_the_place_is_taken_before_submit_returns(shop: Shop) -> None:
    """B1: from a complete call to its place there is no other turn of the loop."""
    shoppers = [shop.session("s", number=number) for number in range(3)]

    assert [shopper.call.admission for shopper in shoppers] == [1, 2, 3]
    assert [shopper.flight.ahead for shopper in shoppers] == [0, 1, 1]
    assert went(shop, *shoppers) == [True, False, False]
    assert shop.lanes.waiting == 2


def test_writes_of_one_session_go_one_after_the_other(shop: Shop) -> None:
    """B2."""
    shoppers = [shop.session("s", number=number) for number in range(5)]
    for number, shopper in enumerate(shoppers):
        assert [asked.exchange for asked in shop.under_way()] == [shopper.flight]
        shop.clock.advance(0.1)
        shop.reply_to(shopper)
        assert shopper.call.timeline.lane == pytest.approx(number * 0.1)

    assert in_turn(shop, *shoppers) == [0, 1, 2, 3, 4]


def test_a_newcomer_does_not_slip_in(shop: Shop) -> None:
    """B2: not even one who comes in the very step in which the lane becomes free."""
    newcomers: list[Shopper] = []
    first = shop.session("s", number=1)
    second = shop.session("s", number=2)
    first.on_answer = lambda: newcomers.append(shop.session("s", number=3))
    shop.reply_to(first)

    assert in_turn(shop, first, second, *newcomers) == [0, 1, 2]


def test_writes_of_different_sessions_do_not_wait(shop: Shop) -> None:
    shoppers = [shop.session(f"s{number}") for number in range(10)]

    assert all(went(shop, *shoppers))


def test_a_write_waits_for_the_tails_of_all_its_lanes(shop: Shop) -> None:
    """B14: and everything that comes later waits for it."""
    session, profile = shop.session("s"), shop.event("p")
    both = shop.session("s", "p")
    later = [shop.session("s", number=1), shop.event("p")]
    assert both.flight.ahead == 2
    told = []
    for shopper in (session, profile, both):
        shop.reply_to(shopper)
        told.append(went(shop, both, *later))

    assert told == [[False, False, False], [True, False, False], [True, True, False]]
    # The session update may concern the profile as well: it is remembered.
    assert in_turn(shop, *later) == [3, 4]


def test_a_flight_that_is_the_tail_of_two_lanes_is_waited_for_once(shop: Shop) -> None:
    first, second = shop.session("s", "p"), shop.session("s", "p", number=2)
    assert second.flight.ahead == 1
    shop.reply_to(first)

    assert went(shop, second) == [True]


def test_two_who_need_the_same_two_lanes_the_other_way_round_do_not_wait_for_each_other(shop: Shop) -> None:
    """B14: a flight only ever waits for older ones."""
    body = {"advocateProfileIntegrationId": "a", "friendProfileIntegrationId": "b"}
    other = {"advocateProfileIntegrationId": "b", "friendProfileIntegrationId": "a"}
    shoppers = [shop.submit(b"POST", b"/v1/referrals", which) for which in (body, other, body)]

    assert in_turn(shop, *shoppers) == [0, 1, 2]


def put(target: bytes, body: object = b"{}", *fields: tuple[bytes, bytes]) -> Callable[[Shop], Shopper]:
    return lambda shop: shop.submit(b"PUT", target, body, *fields)


def post(target: bytes, body: object = b"{}", *fields: tuple[bytes, bytes]) -> Callable[[Shop], Shopper]:
    return lambda shop: shop.submit(b"POST", target, body, *fields)


def application(name: bytes) -> tuple[bytes, bytes]:
    return b"Talon-Proxy-Application", name


SESSION = put(b"/v2/customer_sessions/s", {"customerSession": {"profileId": "j@x.de"}})
SAME = [
    put(b"/v2/customer_sessions/s", {"customerSession": {}}),
    put(b"/v2/customer_sessions/%73", {"customerSession": {"profileId": "other"}}),
    put(b"/v1/customer_sessions/s", {}),
    put(b"/v2/customer_sessions/s/reopen", b""),
    post(b"/v2/customer_sessions/s/returns"),
    post(b"/v1/loyalty_programs/1/activate_points", {"sessionId": "s"}),
    post(b"/v3/events", {"profileId": "nobody", "connectedSessionId": "s"}),
    put(b"/v2/customer_profiles/j@x.de"),
    put(b"/v2/customer_profiles/j%40x.de"),
    post(b"/v2/events", {"profileId": "j@x.de"}),
    post(b"/v2/events", b'{"profileId": "\\u006a@x.de"}'),
    post(b"/v1/coupon_reservations/c", {"integrationIDs": ["x", "j@x.de"]}),
    lambda shop: shop.submit(b"DELETE", b"/v1/coupon_reservations/c", {"integrationIDs": ["j@x.de"]}),
    lambda shop: shop.submit(b"DELETE", b"/v1/customer_data/j%40x.de"),
    post(b"/v1/loyalty_programs/1/profile/j@x.de/join", b""),
    put(b"/v2/customer_profiles/j@x.de", b"{}", application(b"other")),
]
DIFFERENT = [
    put(b"/v2/customer_sessions/S"),
    put(b"/v2/customer_sessions/s", b"{}", application(b"other")),
    put(b"/v2/customer_profiles/s"),
    put(b"/v2/customer_profiles/j%2540x.de"),
    put(b"/v2/customer_profiles/j@x.de", b"{}", application(b"sandbox")),
    put(b"/v2/customer_profiles", {"customerProfiles": [{"integrationId": "j@x.de"}]}),
    post(b"/v2/customer_audiences", {"data": [{"profileIntegrationId": "j@x.de"}]}),
    put(b"/v1/catalogs/1/sync"),
    put(b"/v2/customer_sessions/s", b"{}", (b"Talon-Proxy-Order", b"no")),
]


@pytest.mark.parametrize("other", [*SAME, *DIFFERENT])
def test_which_calls_are_about_the_same(mall: Shop, other: Callable[[Shop], Shopper]) -> None:
    """B16, B20, B21: by decoded ids; a session belongs to its Application, a profile to its environment."""
    method, target, body = b"PUT", b"/v2/customer_sessions/s", {"customerSession": {"profileId": "j@x.de"}}
    first = mall.submit(method, target, body, application(b"default"))
    second = other(mall)

    assert went(mall, first, second) == [True, other in DIFFERENT]


def test_reads_do_not_wait_for_writes(shop: Shop) -> None:
    """B19, B20."""
    write = shop.session("s", "p")
    reads = [
        shop.read(b"/v2/customer_sessions/s"),
        shop.submit(b"HEAD", b"/v2/customer_sessions/s"),
        shop.read(b"/v1/customer_profiles/p/inventory"),
        shop.submit(b"PUT", b"/v2/customer_sessions/s?dry=true", {"customerSession": {"profileId": "p"}}),
        shop.submit(b"POST", b"/v1/best_prior_price"),
    ]
    again = shop.session("s", "p", number=2)

    assert went(shop, write, *reads) == [True] * 6
    assert went(shop, again) == [False]


def test_a_session_update_that_only_says_it_is_dry_waits(shop: Shop) -> None:
    """Only what surely stores nothing may go without a place."""
    shop.session("s")
    doubtful = shop.submit(b"PUT", b"/v2/customer_sessions/s?dry=true&dry=false", b"{}")

    assert went(shop, doubtful) == [False]


# --- what a body says, and what is remembered ---


@pytest.mark.parametrize(
    ("body", "fields", "reason"),
    [
        (b"{", (), Unkeyed.NOT_JSON),
        ({"customerSession": {"profileId": 5}}, (), Unkeyed.SHAPE),
        ({"customerSession": {"profileId": "p"}}, ((b"Content-Encoding", b"gzip"),), Unkeyed.COMPRESSED),
        ({"customerSession": {"profileId": "p", "x": "y" * 1000}}, (), Unkeyed.TOO_LARGE),
    ],
)
def test_a_body_that_cannot_be_read_leaves_the_session_of_the_path(
    body: object, fields: Sequence[tuple[bytes, bytes]], reason: Unkeyed
) -> None:
    """B17, B18: it is forwarded as it came, for Talon.One to answer."""
    with ended(open_shop(pipeline=PipelineRules(total_timeout=15.0, inspect=1000))) as shop:
        profile, session = shop.event("p"), shop.session("s")
        shopper = shop.submit(b"PUT", b"/v2/customer_sessions/s", body, *fields)
        assert went(shop, profile, session, shopper) == [True, True, False]
        shop.reply_to(session)

        assert shop.asked(shopper).body == (body if isinstance(body, bytes) else orjson.dumps(body))
        assert shop.lanes.unkeyed == {**dict.fromkeys(Unkeyed, 0), reason: 1}


def test_an_identity_that_is_only_called_an_encoding_is_read(shop: Shop) -> None:
    shop.event("p")
    body = {"customerSession": {"profileId": "p"}}
    shopper = shop.submit(b"PUT", b"/v2/customer_sessions/s", body, (b"Content-Encoding", b"identity"))

    assert went(shop, shopper) == [False]


@pytest.mark.parametrize("profile", [None, ""])
def test_a_session_without_a_profile_is_that_of_the_profile_it_had(shop: Shop, profile: str | None) -> None:
    """B15: an empty id names the one that is remembered."""
    shop.reply_to(shop.session("s", "p"))
    event = shop.event("p")
    shopper = shop.session("s", profile, number=2)

    assert went(shop, event, shopper) == [True, False]


def test_a_login_stands_in_the_lanes_of_the_session_and_of_both_profiles(shop: Shop) -> None:
    shop.reply_to(shop.session("s", "guest"))
    events = shop.event("guest"), shop.event("jane")
    login = shop.session("s", "jane")
    assert login.flight.ahead == 2
    later = [shop.event("guest", type="later"), shop.event("jane", type="later")]
    told = []
    for shopper in (*events, login):
        shop.reply_to(shopper)
        told.append(went(shop, login, *later))

    assert told == [[False, False, False], [True, False, False], [True, True, True]]


@pytest.mark.parametrize(
    ("end", "guest", "jane"),
    [
        (lambda shop, login: shop.reply_to(login), False, True),
        (lambda shop, login: shop.reply_to(login, 204), False, True),
        (lambda shop, login: shop.reply_to(login, 400), True, False),
        (lambda shop, login: shop.reply_to(login, 409), True, False),
        (lambda shop, login: shop.lose(login, ConnectionLost("x", sent=Sent.MAYBE)), True, True),
        (lambda shop, login: shop.reply_to(login, 504), True, True),
        (lambda shop, login: shop.reply_to(login, 502), True, True),
    ],
    ids=["executed", "executed without content", "refused", "conflict", "lost", "gateway timeout", "bad gateway"],
)
def test_which_profile_a_session_has_after_a_login_that_was(
    end: Callable[[Shop, Shopper], None], guest: bool, jane: bool
) -> None:
    """While it is under way it may have either."""
    with ended(open_shop(attempts=AttemptRules(response_timeout=10.0, quarantine=0.0))) as shop:
        shop.reply_to(shop.session("s", "guest"))
        login = shop.session("s", "jane")
        for profile, waits in (("guest", True), ("jane", True), ("nobody", False)):
            assert went(shop, shop.event(profile)) == [not waits]
        end(shop, login)
        in_turn(shop)

        return_ = shop.submit(b"POST", b"/v2/customer_sessions/s/returns", b"{}")
        told = {profile: went(shop, shop.event(profile)) != [True] for profile in ("guest", "jane")}
        assert went(shop, return_) == [True]
        assert told == {"guest": guest, "jane": jane}


def test_a_login_that_was_never_sent_is_forgotten(shop: Shop) -> None:
    shop.reply_to(shop.session("s", "guest"))
    update = shop.session("s", number=1)
    login = shop.session("s", "jane")
    assert shop.memory.profiles(("default", "s")) == ("guest", "jane")
    login.waiter.leave()
    shop.reply_to(update)

    assert shop.memory.profiles(("default", "s")) == ("guest",)


def test_with_more_than_four_keys_a_call_goes_without_order_and_is_counted(shop: Shop) -> None:
    def reserve(*ids: str) -> Shopper:
        return shop.submit(b"POST", b"/v1/coupon_reservations/c", {"integrationIDs": ids})

    shop.event("a")
    four, five = reserve(*"abcd"), reserve(*"abcde")

    assert went(shop, four, five) == [False, True]
    assert shop.lanes.unkeyed[Unkeyed.TOO_MANY] == 1


def test_what_is_not_sure_of_its_session_and_three_profiles_is_too_many(shop: Shop) -> None:
    for profile in "abcd":
        shop.session("s", profile)
    told = [shopper.flight.ahead for shopper in (shop.session("s", "e"), shop.session("s"))]

    assert told == [0, 0]
    assert shop.lanes.unkeyed[Unkeyed.TOO_MANY] == 3


# --- joining: writes ---


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


# --- joining: what has to be equal ---

TARGET = b"/v2/customer_sessions/s"
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


# --- reads ---


@pytest.mark.parametrize(
    ("method", "target", "body"),
    [
        (b"GET", TARGET, b""),
        (b"HEAD", TARGET, b""),
        (b"GET", b"/v1/customer_profiles/p/inventory", b""),
        (b"GET", b"/v1/integration/campaigns", b""),
        (b"POST", b"/v1/best_prior_price", b"{}"),
        (b"PUT", TARGET + b"?dry=true", b"{}"),
        (b"POST", b"/v2/events?dry=true", b'{"profileId":"p"}'),
        (b"GET", b"/v2/something/new", b""),
        (b"GET", b"/v1/applications", b""),
    ],
)
def test_reads_join(method: bytes, target: bytes, body: bytes) -> None:
    """A29."""
    with ended(open_shop(management=True)) as shop:
        shoppers = [shop.submit(method, target, body) for _ in range(10)]
        shop.reply_to(shoppers[0])

        assert [shopper.joined for shopper in shoppers] == [False] + [True] * 9
        assert len(shop.sent) == 1
        assert not shop.submit(method, target, body).joined  # A28: nothing is kept


READ_SESSION = b"/v2/customer_sessions/s"
READ_PROFILE = b"/v1/customer_profiles/p/inventory"
DRY = b"/v2/customer_sessions/s?dry=true"
SEALING: list[tuple[str, Callable[[Shop], Shopper], bool]] = [
    ("session", lambda shop: shop.session("s"), True),
    ("another session of the profile", lambda shop: shop.session("t", "p"), False),
    ("another session", lambda shop: shop.session("t", "q"), False),
    ("return", lambda shop: shop.submit(b"POST", TARGET + b"/returns", b"{}"), True),
]


@pytest.mark.parametrize(("write", "seals"), [case[1:] for case in SEALING], ids=[case[0] for case in SEALING])
def test_a_write_seals_the_reads_of_its_keys(shop: Shop, write: Callable[[Shop], Shopper], seals: bool) -> None:
    """A27: in the moment in which it is admitted."""
    for session, profile in (("s", "x"), ("t", "p")):
        shop.reply_to(shop.session(session, profile))
    first = shop.read(READ_SESSION)
    write(shop)
    second, third = shop.read(READ_SESSION), shop.read(READ_SESSION)

    assert [second.joined, third.joined] == [not seals, True]
    for shopper in (first, second):
        if shop.was_sent(shopper):
            shop.reply_to(shopper)
    assert [len(shopper.answers) for shopper in (first, second, third)] == [1, 1, 1]


@pytest.mark.parametrize("target", [READ_SESSION, READ_PROFILE])
def test_a_write_that_was_there_before_seals_when_it_lands(shop: Shop, target: bytes) -> None:
    """A27: the read began before, and may have been answered from before."""
    write = shop.session("s", "p")
    shop.read(target)
    assert shop.read(target).joined
    shop.reply_to(write)

    assert not shop.read(target).joined


def test_a_write_seals_before_its_caller_has_the_answer(shop: Shop) -> None:
    reads: list[Shopper] = []
    write = shop.session("s", "p")
    shop.read()
    write.on_answer = lambda: reads.append(shop.read())
    shop.reply_to(write)

    assert [read.joined for read in reads] == [False]


@pytest.mark.parametrize("seen", [True, False])
def test_a_write_of_which_nothing_is_known_seals_again_when_its_lane_goes_on(shop: Shop, seen: bool) -> None:
    """A27: it may have been executed at any moment until then."""
    write = shop.session("s", "p")
    assert shop.upstream.time_out(shop.asked(write))
    shop.read()
    assert shop.read().joined
    if seen:
        shop.reply_to(write)
    else:
        shop.lose(write, ConnectionLost("x", sent=Sent.MAYBE))
        assert shop.read().joined
        shop.clock.advance(1.1)

    assert write.flight.state is State.DONE
    assert not shop.read().joined


def test_a_lane_that_vanished_and_came_back_has_sealed(shop: Shop) -> None:
    """A27: the seal is on the read."""
    shop.read()
    for _ in range(2):
        shop.reply_to(shop.session("s"))
        assert len(shop.lanes) == 0

    assert not shop.read().joined


def test_a_read_of_a_session_is_sealed_by_a_write_of_its_profile(shop: Shop) -> None:
    shop.reply_to(shop.session("s", "p"))
    shop.read()
    shop.event("p")

    assert not shop.read().joined


def test_a_write_of_a_session_whose_profile_is_not_known_may_be_of_any(shop: Shop) -> None:
    shop.read(READ_PROFILE)
    shop.session("s")

    assert not shop.read(READ_PROFILE).joined


@pytest.mark.parametrize(
    "write",
    [
        put(b"/v2/customer_profiles", {"customerProfiles": []}),
        put(b"/v1/catalogs/1/sync"),
        put(b"/v2/something/new"),
        post(b"/v2/events", b"{"),
        put(b"/v2/customer_sessions/t", b"{"),
        lambda shop: shop.submit(b"DELETE", b"/v2/audiences/1"),
        lambda shop: shop.submit(b"POST", b"/v1/applications/1", b""),
    ],
)
def test_a_write_whose_keys_are_not_known_seals_all_reads(write: Callable[[Shop], Shopper]) -> None:
    with ended(open_shop(management=True)) as shop:
        targets = (READ_SESSION, READ_PROFILE, b"/v1/integration/campaigns", b"/v1/applications")
        for target in targets:
            shop.read(target)
        write(shop)

        assert not any(shop.read(target).joined for target in targets)


@pytest.mark.parametrize("target", [b"/v1/integration/campaigns", b"/v1/applications", b"/v2/something/new"])
def test_a_read_that_names_nobody_is_sealed_by_any_write(target: bytes) -> None:
    with ended(open_shop(management=True)) as shop:
        shop.read(target)
        shop.session("s", "p")

        assert not shop.read(target).joined


def test_the_reads_of_another_environment_are_not_sealed(mall: Shop) -> None:
    names = [application(name) for name in (b"default", b"other", b"sandbox")]
    target = b"/v1/integration/campaigns"
    for name in names:
        mall.read(target, name)
    mall.submit(b"PUT", b"/v2/something/new", b"{}", names[0])

    assert [mall.read(target, name).joined for name in names] == [False, False, True]


def test_a_write_of_the_management_api_seals_in_every_environment() -> None:
    with ended(open_shop(applications=APPLICATIONS, management=True)) as shop:
        shop.read(TARGET, application(b"sandbox"))
        shop.submit(b"POST", b"/v1/campaigns", b"{}", application(b"default"))

        assert not shop.read(TARGET, application(b"sandbox")).joined


def test_a_read_without_a_place_and_a_write_without_one_seal_all_the_same(shop: Shop) -> None:
    unordered = (b"Talon-Proxy-Order", b"no")
    shop.read(TARGET, unordered)
    write = shop.session("s", "p", unordered)
    told = [shop.read(TARGET, unordered).joined]
    shop.reply_to(write)
    told.append(shop.read(TARGET, unordered).joined)

    assert told == [False, False]


def test_dry_calls_and_reads_seal_nothing(shop: Shop) -> None:
    shop.read()
    shop.submit(b"PUT", DRY, b"{}")
    shop.submit(b"POST", b"/v1/best_prior_price", b"{}")

    assert shop.read().joined


def test_a_dry_call_whose_body_cannot_be_read_may_be_of_any_profile(shop: Shop) -> None:
    shop.submit(b"PUT", DRY, b"{")
    shop.event("p")

    assert not shop.submit(b"PUT", DRY, b"{").joined


def dry_calls(shop: Shop, *ids: tuple[str, str | None]) -> list[Shopper]:
    calls = []
    for number, (session, profile) in enumerate(ids):
        body = {"customerSession": {"profileId": profile, "attributes": {"number": number}}}
        calls.append(shop.submit(b"PUT", b"/v2/customer_sessions/%b?dry=true" % session.encode(), body))
    return calls


def test_dry_calls_go_two_at_a_time(shop: Shop) -> None:
    """B20: they may count towards Talon.One's limit."""
    write = shop.session("s", "p")
    calls = dry_calls(shop, *[("s", "p")] * 5)
    told = [went(shop, *calls)]
    shop.clock.advance(0.5)
    for shopper in (calls[1], calls[0]):
        shop.reply_to(shopper)
        told.append(went(shop, *calls))

    assert told == [[True, True, False, False, False], [True, True, True, False, False], [True] * 4 + [False]]
    assert calls[2].call.timeline.gate == pytest.approx(0.5)
    assert went(shop, write) == [True]


def test_dry_calls_count_for_their_session_and_for_their_profile(shop: Shop) -> None:
    calls = dry_calls(shop, ("a", "p"), ("b", "p"), ("c", "p"), ("c", "q"), ("a", None))

    assert went(shop, *calls) == [True, True, False, False, True]
    shop.reply_to(calls[0])
    assert went(shop, *calls) == [True] * 5


@pytest.mark.parametrize("width", [1, 3])
def test_how_many_dry_calls_go_at_a_time_is_a_setting(width: int) -> None:
    with ended(open_shop(lanes=LaneRules(dry_width=width))) as shop:
        assert went(shop, *dry_calls(shop, *[("s", "p")] * 4)) == [True] * width + [False] * (4 - width)


def test_identical_dry_calls_are_one(shop: Shop) -> None:
    calls = [shop.submit(b"PUT", DRY, b"{}") for _ in range(10)]

    assert went(shop, *calls) == [True] + [False] * 9
    assert all(shopper.joined for shopper in calls[1:])


def test_a_dry_call_that_asks_for_no_order_waits_for_nobody(shop: Shop) -> None:
    fields = (b"Talon-Proxy-Order", b"no")
    calls = [shop.submit(b"PUT", DRY, b"%d" % number, fields) for number in range(4)]

    assert went(shop, *calls) == [True] * 4


# --- callers who leave, and callers whose time is over ---


def test_a_first_caller_who_leaves_takes_nothing_from_the_others(shop: Shop) -> None:
    """A9, A10."""
    for sent in (False, True):
        if not sent:
            ahead = shop.session("s", number=0)
        first, second = shop.session("s"), shop.session("s")
        if sent:
            first.waiter.leave()
        else:
            first.waiter.leave()
            shop.reply_to(ahead)
        assert shop.was_sent(first)  # its timeline is the flight's
        shop.reply_to(first)

        assert second.reply.status == 200


@pytest.mark.parametrize("how", ["leave", "deadline"])
def test_what_nobody_waits_for_is_not_sent(shop: Shop, how: str) -> None:
    """A11, B7: its place stays, so that those behind it do not overtake those ahead of it."""
    first = shop.session("s", number=1)
    middle = shop.submit(b"PUT", TARGET, b"{}", (TIMEOUT, b"500"))
    last = shop.session("s", number=3)
    if how == "leave":
        assert middle.waiter.leave()
    else:
        shop.clock.advance(0.6)
        assert middle.failure == (504, b"http_response_timeout", b"not-sent")
    told = [went(shop, first, middle, last)]
    shop.reply_to(first)
    told.append(went(shop, first, middle, last))

    assert told == [[True, False, False], [True, False, True]]
    assert len(middle.answers) == (how == "deadline")


@pytest.mark.parametrize("how", ["leave", "deadline"])
def test_a_write_whose_caller_left_holds_its_place_until_it_is_answered(shop: Shop, how: str) -> None:
    """A10, B8: closing the connection would not stop Talon.One, and the next write would collide."""
    first = shop.submit(b"PUT", TARGET, b"{}", (TIMEOUT, b"500"))
    second = shop.session("s")
    if how == "leave":
        assert not first.waiter.leave()
        assert shop.witness.left == [(first.call, Sent.MAYBE)]
    else:
        shop.clock.advance(0.6)
        assert first.failure == (504, b"http_response_timeout", b"unknown")
    assert went(shop, second) == [False]
    shop.reply_to(first)

    assert went(shop, second) == [True]


@pytest.mark.parametrize(
    ("rule", "body", "sent"),
    [
        (Abandoned.AUTO, {"customerSession": {"state": "closed"}}, True),
        (Abandoned.AUTO, {"customerSession": {"state": "cancelled"}}, True),
        (Abandoned.AUTO, {"customerSession": {"state": "open"}}, False),
        (Abandoned.AUTO, b"{", True),
        (Abandoned.SEND, {"customerSession": {}}, True),
        (Abandoned.DROP, {"customerSession": {"state": "closed"}}, False),
    ],
)
@pytest.mark.parametrize("how", ["leave", "deadline"])
def test_what_decides_the_fate_of_an_order_is_sent_though_nobody_waits(
    rule: Abandoned, body: object, sent: bool, how: str
) -> None:
    """Its caller, had it called Talon.One itself, would have left a call that is executed."""
    with ended(open_shop(attempts=AttemptRules(response_timeout=10.0, abandoned=rule))) as shop:
        ahead = shop.session("s", number=1)
        shopper = shop.submit(b"PUT", TARGET, body, (TIMEOUT, b"500"))
        behind = shop.session("s", number=2)
        if how == "leave":
            shopper.waiter.leave()
        else:
            shop.clock.advance(0.6)
            assert shopper.failure[2] == (b"unknown" if sent else b"not-sent")
        shop.reply_to(ahead)

        assert went(shop, shopper, behind) == [sent, not sent]
        if sent:
            shop.reply_to(shopper)
            assert went(shop, behind) == [True]


@pytest.mark.parametrize("rule", Abandoned)
@pytest.mark.parametrize("target", [TARGET, DRY])
def test_a_read_that_nobody_waits_for_is_never_sent(rule: Abandoned, target: bytes) -> None:
    with ended(Shop(attempts=AttemptRules(response_timeout=10.0, abandoned=rule))) as shop:
        shopper = shop.submit(b"GET" if target == TARGET else b"PUT", target, b'{"customerSession":{"state":"closed"}}')
        shopper.waiter.leave()

        assert not shop.upstream.waiting
        assert shop.pipeline.in_flight == 0


def test_one_that_decides_the_fate_goes_on_waiting_for_a_connection() -> None:
    with ended(Shop()) as shop:
        close, update = shop.session("s", state="closed"), shop.session("t")
        for shopper in (close, update):
            shopper.waiter.leave()

        assert shop.upstream.waiting == [close.flight]
        shop.upstream.admit()


def test_a_tail_that_everybody_left_may_be_joined_again(shop: Shop) -> None:
    ahead = shop.session("s", number=1)
    first = shop.session("s")
    first.waiter.leave()
    second = shop.session("s")
    assert second.joined
    assert second.flight is first.flight
    shop.reply_to(ahead)
    shop.reply_to(first)

    assert second.reply.status == 200
    assert not first.answers
    assert len(shop.sent) == 2


def test_one_that_everybody_left_and_that_is_the_tail_no_more_is_not_revived(shop: Shop) -> None:
    ahead, first = shop.session("s", number=1), shop.session("s")
    first.waiter.leave()
    middle = shop.session("s", number=2)
    last = shop.session("s")

    assert not last.joined
    assert in_turn(shop, ahead, middle, last) == [0, 1, 2]


def test_each_caller_has_its_own_time(shop: Shop) -> None:
    """A6: who has less leaves alone, who has more is not cut short."""
    seconds = (b"2000", b"500", b"4000")
    shoppers = [shop.session("s", None, (TIMEOUT, value)) for value in seconds]
    told = []
    for passed in (0.6, 1.5, 1.8):
        shop.clock.advance(passed)
        told.append([len(shopper.answers) for shopper in shoppers])
    shop.reply_to(shoppers[0])

    assert told == [[0, 1, 0], [1, 1, 0], [1, 1, 0]]
    assert [shopper.reply.status for shopper in shoppers] == [504, 504, 200]


def test_one_whose_latest_caller_has_time_is_sent_when_its_turn_comes(shop: Shop) -> None:
    """Whoever came first."""
    ahead = shop.session("s", number=1)
    first = shop.session("s", None, (TIMEOUT, b"500"))
    second = shop.session("s")
    shop.clock.advance(1)
    assert first.failure == (504, b"http_response_timeout", b"unknown")  # it will be sent, for the second
    shop.reply_to(ahead)
    shop.reply_to(first)

    assert second.reply.status == 200


def test_the_time_in_line_is_the_callers_time(shop: Shop) -> None:
    """B11."""
    shop.session("s", number=1)
    shopper = shop.session("s", number=2)
    shop.clock.advance(14.9)
    assert not shopper.answers
    shop.clock.advance(0.2)

    assert shopper.failure == (504, b"http_response_timeout", b"not-sent")
    assert shopper.call.timeline.tries == 0


def test_one_that_was_late_before_its_alarm_rang_is_not_sent(shop: Shop) -> None:
    """The loop was blocked."""
    first, second = shop.session("s", number=1), shop.session("s", number=2)
    shop.clock.now += 15
    shop.reply_to(first)

    assert second.failure == (504, b"http_response_timeout", b"not-sent")


def test_one_who_is_next_may_end_before_it_knows() -> None:
    """B5: two become free in one step, and what becomes of the first makes the second one's caller leave."""
    with ended(open_shop(shared=("guest",))) as shop:
        inside = [shop.session(name, "guest") for name in "ab"]
        both = shop.submit(b"POST", b"/v3/events", {"profileId": "p", "connectedSessionId": "s"})
        late = shop.event("p", (TIMEOUT, b"500"))
        other, behind = shop.session("s", "guest"), shop.session("s", "guest", number=2)
        late.on_answer = other.waiter.leave
        shop.clock.now += 0.6  # no alarm has rung: its time is found to be over when its turn comes
        shop.reply_to(both)

        assert late.failure == (504, b"http_response_timeout", b"not-sent")
        assert went(shop, late, other, behind) == [False, False, True]
        assert shop.gates.unfinished(("profile", "default", "guest")) == len([*inside, behind])


def test_thousands_that_nobody_waits_for_end_one_after_the_other(shop: Shop) -> None:
    """No step within a step within a step."""
    with ended(open_shop(lanes=LaneRules(depth=5000))) as deep:
        first = deep.session("s")
        shoppers = [deep.session("s", number=number) for number in range(3000)]
        last = deep.session("s", number=-1)
        for shopper in shoppers:
            shopper.waiter.leave()
        deep.reply_to(first)

        assert went(deep, last) == [True]
        assert len(deep.sent) == 2


# --- how many ---


def test_a_lane_takes_so_many_callers() -> None:
    """B12: whoever is more is refused at once, in Talon.One's shape, and knows that nothing was sent."""
    with ended(open_shop(lanes=LaneRules(depth=3))) as shop:
        shoppers = [shop.session("s", "p", number=number) for number in range(3)]
        refused = [shop.session("s", number=3), shop.event("p")]
        others = [shop.session("t"), shop.event("q"), shop.read()]

        for shopper in refused:
            assert shopper.waiter is None
            assert shopper.failure == (503, b"http_request_denied", b"not-sent")
            assert shopper.call.error == "depth"
            assert b"retry-after" not in shopper.reply.block.lower()
            assert orjson.loads(shopper.reply.body)["StatusCode"] == 503
        assert went(shop, *others) == [True, True, True]
        assert [shopper.call.admission for shopper in (*shoppers, *refused, *others)] == [1, 2, 3, 0, 0, 4, 5, 6]
        shop.reply_to(shoppers[0])
        assert shop.session("s", number=4).waiter is not None


def test_who_joins_is_not_one_more() -> None:
    with ended(open_shop(lanes=LaneRules(depth=2))) as shop:
        shop.session("s", number=1)

        assert [shop.session("s").waiter is None for _ in range(5)] == [False] * 5


def test_who_left_does_not_count() -> None:
    """B4: whether it had been sent or not; but when it is joined again it does."""
    with ended(open_shop(lanes=LaneRules(depth=2))) as shop:
        first, second = shop.session("s", number=1), shop.session("s", number=2)
        first.waiter.leave()
        third = shop.session("s", number=3)
        second.waiter.leave()
        third.waiter.leave()
        told = [shop.session("s", number=3).joined, shop.session("s", number=4).waiter is None]
        told.append(shop.session("s", number=5).waiter is None)

        assert told == [True, False, True]


def test_those_that_everybody_left_do_not_add_up_without_end() -> None:
    with ended(open_shop(lanes=LaneRules(depth=2))) as shop:
        shop.session("s")
        admitted = 0
        while (shopper := shop.session("s", number=admitted)).waiter is not None:
            shopper.waiter.leave()
            admitted += 1

        assert admitted == 2 * UNFINISHED_PER_DEPTH - 1
        assert shopper.failure == (503, b"http_request_denied", b"not-sent")


def test_one_that_is_refused_leaves_nothing_behind() -> None:
    with ended(open_shop(lanes=LaneRules(depth=1))) as shop:
        shop.session("s", "p")
        shop.read(READ_PROFILE)
        refused = shop.session("s", "q")

        assert refused.waiter is None
        assert shop.memory.profiles(("default", "s")) == ("p",)
        assert len(shop.lanes) == 2
        assert shop.read(READ_PROFILE).joined  # what was never admitted has sealed nothing


def test_a_hot_session_holds_no_connection_and_nobody_else_up() -> None:
    """B13, B27."""
    with ended(Shop(lanes=LaneRules(depth=2000))) as shop:
        hot = [shop.session("s", number=number) for number in range(1000)]
        cold = [shop.session(f"cold{number}") for number in range(10)]

        assert shop.upstream.waiting == [hot[0].flight, *(shopper.flight for shopper in cold)]


def test_writes_that_talon_one_would_have_refused_are_counted(shop: Shop) -> None:
    """The fourth of a key: one would run, two would wait."""
    told = []
    for number in range(6):
        shop.session("s", number=number)
        told.append(shop.lanes.conflicts_avoided)

    assert told == [0, 0, 0, 1, 2, 3]


def test_when_all_is_over_nothing_is_left(shop: Shop) -> None:
    """B4."""
    for number in range(20):
        shop.session(f"s{number % 3}", f"p{number % 2}", number=number)
        shop.event(f"p{number % 2}")
        shop.read(b"/v2/customer_sessions/s%d" % (number % 3))
        dry_calls(shop, ("s1", "p1"))
    in_turn(shop)

    shop.assert_idle()


def test_no_repr_tells_an_id(shop: Shop) -> None:
    shop.session("jane", "doe")

    assert repr(shop.traffic) == "<Traffic <Lanes 2 waiting=0> <Gates 0> <Reads open=0> <Memory sessions=1>>"
    assert [repr(lane) for lane in shop.lanes.all()] == ["<Lane unfinished=1 wanted=1>"] * 2


def test_how_long_the_one_has_waited_that_has_waited_longest(shop: Shop) -> None:
    shop.session("s", number=1)
    told = [shop.lanes.oldest_wait(shop.pipeline.flights)]
    for number in (2, 3):
        shop.session("s", number=number)
        shop.clock.advance(1)
        told.append(shop.lanes.oldest_wait(shop.pipeline.flights))

    assert told == [0.0, pytest.approx(1), pytest.approx(2)]


# --- profiles that the whole shop uses ---


@pytest.fixture
def guests() -> Iterator[Shop]:
    with ended(open_shop(shared=("guest", "visitor"))) as shop:
        yield shop


def test_a_shared_profile_takes_three_at_a_time(guests: Shop) -> None:
    """B15."""
    shoppers = [guests.session(f"s{number}", "guest") for number in range(6)]
    told = [went(guests, *shoppers)]
    for shopper in (shoppers[1], shoppers[0]):
        guests.reply_to(shopper)
        told.append(went(guests, *shoppers))

    assert told == [[True] * 3 + [False] * 3, [True] * 4 + [False] * 2, [True] * 5 + [False]]


def test_the_sessions_of_a_shared_profile_are_in_order_all_the_same(guests: Shop) -> None:
    first, second = guests.session("s", "guest"), guests.session("s", "guest", number=2)
    other = guests.session("t", "guest")

    assert went(guests, first, second, other) == [True, False, True]


def test_its_gate_is_entered_when_the_lanes_are_passed(guests: Shop) -> None:
    """FIFO among those who are ready: one that waits for its session keeps nobody out."""
    first = guests.session("s", "guest")
    waiting = guests.session("s", "guest", number=2)
    others = [guests.session(f"t{number}", "guest") for number in range(3)]
    assert went(guests, waiting, *others) == [False, True, True, False]
    guests.reply_to(first)
    assert went(guests, waiting, *others) == [False, True, True, True]
    guests.reply_to(others[0])

    assert went(guests, waiting) == [True]


def test_two_shared_profiles_are_two_gates_passed_in_one_step(guests: Shop) -> None:
    body = {"advocateProfileIntegrationId": "guest", "friendProfileIntegrationId": "visitor"}
    guest, visitor = [[guests.session(f"{name}{n}", name) for n in range(3)] for name in ("guest", "visitor")]
    both = guests.submit(b"POST", b"/v1/referrals", body)
    told = []
    for shopper in (guest[0], visitor[0]):
        guests.reply_to(shopper)
        told.append(went(guests, both))

    assert told == [[False], [True]]


def test_a_gate_is_ignored_for_joins(guests: Shop) -> None:
    first = guests.session("s", "guest")
    guests.session("t", "guest")
    again = guests.session("s", "guest")

    assert again.joined
    assert again.flight is first.flight


def test_a_write_of_nothing_but_a_shared_profile_is_not_joined(guests: Shop) -> None:
    """It stands in no lane: nothing says that no other update came in between."""
    shoppers = [guests.profile("guest") for _ in range(2)]

    assert went(guests, *shoppers) == [True, True]


def test_no_quarantine_holds_a_gate(guests: Shop) -> None:
    shoppers = [guests.profile("guest", number=number) for number in range(4)]
    guests.lose(shoppers[0], ConnectionLost("x", sent=Sent.MAYBE))

    assert went(guests, shoppers[3]) == [True]


def test_a_session_in_quarantine_has_left_the_gate(guests: Shop) -> None:
    shoppers = [guests.session(f"s{number}", "guest", state="closed") for number in range(4)]
    behind = guests.session("s0", "guest", number=2)
    guests.lose(shoppers[0], ConnectionLost("x", sent=Sent.MAYBE))

    assert went(guests, shoppers[3], behind) == [True, False]


def test_one_who_leaves_while_it_stands_at_a_gate_is_passed_over(guests: Shop) -> None:
    shoppers = [guests.session(f"s{number}", "guest") for number in range(5)]
    shoppers[3].waiter.leave()
    guests.reply_to(shoppers[0])

    assert went(guests, *shoppers) == [True, True, True, False, True]


def test_a_gate_takes_many_and_not_endlessly_many() -> None:
    with ended(open_shop(lanes=LaneRules(depth=1), shared=("guest",))) as shop:
        shoppers = [shop.session(f"s{number}", "guest") for number in range(GATED_PER_DEPTH + 1)]

        assert [shopper.waiter is None for shopper in shoppers] == [False] * GATED_PER_DEPTH + [True]
        assert shoppers[-1].failure == (503, b"http_request_denied", b"not-sent")


def test_writes_that_talon_one_would_have_refused_at_a_gate_are_counted(guests: Shop) -> None:
    for number in range(5):
        guests.session(f"s{number}", "guest")

    assert guests.lanes.conflicts_avoided == 2


def test_a_profile_that_many_sessions_name_turns_out_to_be_shared() -> None:
    """B15: until ten minutes without that."""
    with ended(open_shop(shared_after=2)) as shop:
        for number in range(2):
            in_turn(shop, shop.session(f"s{number}", "guest"))
        apart = [shop.session("s0", "guest"), shop.session("s1", "guest")]
        assert went(shop, *apart) == [True, False]
        in_turn(shop)
        assert shop.newly_shared == []

        shoppers = [shop.session(f"s{number}", "guest") for number in range(2, 6)]
        assert shop.newly_shared == [("default", "guest")]
        assert went(shop, *shoppers) == [True, True, True, False]
        in_turn(shop)

        shop.clock.advance(601)
        later = [shop.session("s0", "guest"), shop.session("s1", "guest")]
        assert went(shop, *later) == [True, False]


def test_what_stood_in_the_lane_when_the_profile_turned_out_to_be_shared_keeps_its_place() -> None:
    with ended(open_shop(shared_after=2)) as shop:
        first, second = shop.session("a", "guest"), shop.session("b", "guest")
        third = shop.session("c", "guest")
        assert went(shop, first, second, third) == [True, False, True]
        shop.reply_to(first)

        assert went(shop, second) == [True]


def test_a_session_of_its_own_profile_is_never_shared(shop: Shop) -> None:
    for number in range(30):
        in_turn(shop, shop.session("s", "p", number=number))

    assert shop.newly_shared == []


# --- another upstream ---


def test_the_order_survives_a_switch_of_the_upstream(shop: Shop) -> None:
    """B24: the one that was sent ends where it is, those behind it go to the new one, in their order."""
    first = shop.session("s", number=1)
    behind = [shop.session("s", number=2), shop.session("s", number=3)]
    new = _switch(shop)
    assert not new.connection.sent
    shop.reply_to(first)
    new.answer()
    new.answer()

    assert [asked.exchange for asked in new.connection.sent] == [shopper.flight for shopper in behind]
    assert b"\r\nHost: new.example\r\n" in new.connection.sent[0].head
    assert [shopper.reply.status for shopper in behind] == [200, 200]


@pytest.mark.parametrize("what", ["write", "read"])
def test_what_was_sent_to_an_upstream_that_was_left_is_not_joined(shop: Shop, what: str) -> None:
    """A1."""

    def submit() -> Shopper:
        return shop.session("s") if what == "write" else shop.read()

    submit()
    new = _switch(shop)

    assert not submit().joined
    assert submit().joined
    for asked in shop.under_way():
        shop.upstream.end(asked)
    new.answer()


def test_what_was_not_sent_yet_is_joined_across_a_switch(shop: Shop) -> None:
    first = shop.session("s", number=1)
    shop.session("s")
    new = _switch(shop)
    again = shop.session("s")
    shop.reply_to(first)
    new.answer()

    assert again.joined
    assert again.reply.status == 200


def _switch(shop: Shop) -> FakeUpstream:
    """Point the shop at another upstream; what is under way ends on the old one."""
    new = FakeUpstream(shop.clock, b"new.example")
    new.ready = True
    shop.upstream.current = new
    shop.upstream.state = Serving.DRAINING
    return new


# --- defects ---


@pytest.mark.parametrize("behind", [False, True])
def test_a_crash_releases_the_lane(
    shop: Shop, behind: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """B6: it is answered with 500, and those behind it go on."""

    def crash(*_: object) -> bytes:
        raise RuntimeError("a defect")

    if behind:
        ahead = shop.session("s", number=1)
    with monkeypatch.context() as broken:
        broken.setattr(shop.credentials, "sign", crash)
        shopper = shop.session("s", number=2)
        if behind:
            assert not shopper.answers
            shop.reply_to(ahead)
    last = shop.session("s", number=3)

    assert shopper.failure == (500, b"proxy_internal_error", b"not-sent")
    assert went(shop, shopper, last) == [False, True]


def test_one_caller_who_cannot_be_answered_takes_nothing_from_the_others(
    shop: Shop, caplog: pytest.LogCaptureFixture
) -> None:
    def crash() -> None:
        raise RuntimeError("a defect")

    shoppers = [shop.session("s") for _ in range(3)]
    shoppers[0].on_answer = crash
    behind = shop.session("s", number=2)
    shop.reply_to(shoppers[0])

    assert [shopper.reply.status for shopper in shoppers] == [200] * 3
    assert went(shop, behind) == [True]
    assert "a defect" in caplog.text
