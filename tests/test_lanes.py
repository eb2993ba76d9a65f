"""Who follows whom, as a shop sees it: calls in, what is sent, answers out. No socket, no sleep.

Every line of edge-cases.md A and B: where it is tested, as the start of a test's name; or why it cannot occur.

A1, A2, A3, A4  test_joining: calls_that_differ_in_this; what_was_sent_to_an_upstream_that_was_left
A5, A25         test_fields: what_a_caller_accepts_is_reduced; test_joining: what_a_caller_accepts_is_compared
A6              test_lanes: each_caller_has_its_own_time
A7              test_joining: an_answer_for_one_caller_alone. Expect and Upgrade end at the wire
A8              test_joining: an_answer_for_one_caller_alone, an_operation_that_never_joins,
                with_lanes_and_coalescing_off
A9, A10         test_lanes: a_first_caller_who_leaves, a_write_whose_caller_left. There is no task to be cancelled
A11             test_lanes: what_nobody_waits_for_is_not_sent
A12             test_reads: closed_nobody_finds_it_any_more; test_lanes: when_all_is_over_nothing_is_left
A13             cannot occur: a flight is no task and has no future; nothing is cancelled, no exception is stored
A14             test_pipeline: an_answer_and_the_deadline_in_the_same_turn
A15, A28        test_joining: an_answer_that_is_decided_is_not_joined; test_reads: reads_join
A16, A17        test_joining: a_failure_is_shared; test_outcomes: those_who_share_see_nothing_of_the_conflict
A18             cannot occur: what was sent ends within upstream.timeouts.response, and is repeated so many times and no
                more; what was not sent grows no older by waiting
A19             test_circuit: those_who_wait_are_told_when_it_opens
A20, A24        test_joining: each_caller_has_its_own_lines; test_fields: who_shares_an_answer_is_told
A21             test_joining: calls_that_differ_in_this: the Application is in the fingerprint
A22, A23        test_pipeline: those_who_share_a_read_too_large, those_who_share_a_write_too_large, who_has_left_reads
A26             test_http1: an_answer_cut_short_is_never_taken_for_whole; test_joining: a_failure_is_shared
A27             test_reads: a_write_seals_the_reads_of_its_keys, a_write_that_was_there_before, a_lane_that_vanished
A29             test_reads: reads_join; test_joining: an_update_joins, two_equal_events_are_two
A30             test_joining: so_many_callers_share
A31             cannot occur: a shared answer is held whole, and each connection writes it at its caller's pace
A32             test_joining: who_joins_takes_no_connection
A33             test_pipeline: who_joins_waits_for_the_answer; metrics and logs have their own tests
B1              test_lanes: the_place_is_taken_before_submit_returns
B2              test_lanes: writes_of_one_session, a_newcomer; test_gates: a_newcomer_does_not_slip_in
B3              test_joining: of_x_y_x_the_last_is_sent_last
B4              test_lanes: who_left_does_not_count, when_all_is_over; test_gates: a_gate_vanishes_with_the_last
B5              test_lanes: one_who_is_next_may_end; test_gates: one_who_is_let_in_may_end_the_waiting_of_the_next
B6              test_lanes: a_crash_releases_the_lane, how_long_the_one_has_waited
B7              test_lanes: what_nobody_waits_for_is_not_sent
B8              test_lanes: a_write_whose_caller_left_holds_its_place
B9              test_outcomes: after_an_unknown_outcome_the_lane_rests
B10             test_outcomes: its_place_is_kept_while_it_waits, a_wait_counts_against_the_callers_time
B11             test_lanes: the_time_in_line_is_the_callers_time
B12             test_lanes: a_lane_takes_so_many_callers
B13, B27        test_lanes: a_hot_session_holds_no_connection_and_nobody_else_up
B14             test_lanes: a_write_waits_for_the_tails_of_all_its_lanes, two_who_need_the_same_two_lanes
B15             test_gates: a_shared_profile_takes_three, a_profile_that_many_sessions_name;
                test_sharing: more_sessions; test_lanes: a_session_without_a_profile
B16             test_lanes: which_calls_are_about_the_same; test_memory: the_same_session_id_of_two_applications
B17, B18        test_lanes: a_body_that_cannot_be_read; test_keys: a_body_over_the_limit, a_compressed_body
B19, B20        test_lanes: reads_do_not_wait, which_calls_are_about_the_same; test_gates: dry_calls_go_two_at_a_time
B21             test_lanes: which_calls_are_about_the_same
B22, B23        several replicas: later
B24             test_lanes: the_order_survives_a_switch_of_the_upstream
B25             test_pipeline: shutting_down_refuses_what_stands_in_line
B26             test_wheel: after_a_stall_the_loop_reads_once
B28             test_traffic_machine walks at random over all of this; that it finds what is wrong:
                test_traffic_machine_itself: a_broken_variant
"""

from collections.abc import Callable, Sequence

import orjson
import pytest

from proxy.errors import ConnectionLost
from proxy.messages import Sent
from proxy.pipeline import Rules as PipelineRules
from proxy.talon.keys import Unkeyed
from proxy.traffic.attempts import Abandoned
from proxy.traffic.attempts import Rules as AttemptRules
from proxy.traffic.lanes import UNFINISHED_PER_DEPTH
from proxy.traffic.lanes import Rules as LaneRules
from tests import table
from tests.traffic_rig import (
    Shop,
    Shopper,
    application,
    dry_calls,
    ended,
    in_turn,
    open_shop,
    post,
    put,
    switch,
    went,
)

TIMEOUT = b"Talon-Proxy-Timeout-Ms"
TARGET = b"/v2/customer_sessions/s"


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
    assert shop.profiles(("default", "s")) == ("guest", "jane")
    login.waiter.leave()
    shop.reply_to(update)

    assert shop.profiles(("default", "s")) == ("guest",)


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


# --- callers who leave, and callers whose time is over ---


@pytest.mark.parametrize("sent", [True, False], ids=["sent", "queued"])
def test_a_first_caller_who_leaves_takes_nothing_from_the_others(shop: Shop, sent: bool) -> None:
    """A9, A10."""
    ahead = shop.session("s", number=0)
    first, second = shop.session("s"), shop.session("s")
    if sent:
        shop.reply_to(ahead)
    first.waiter.leave()
    if not sent:
        shop.reply_to(ahead)
    shop.reply_to(first)  # as the flight's: it carries the first one's call

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
@pytest.mark.parametrize("target", [TARGET, TARGET + b"?dry=true"])
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
        assert [shop.session("s", number=number).waiter is None for number in (4, 5)] == [False, True]


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
        shop.read(b"/v1/customer_profiles/p/inventory")
        refused = shop.session("s", "q")

        assert refused.waiter is None
        assert shop.profiles(("default", "s")) == ("p",)
        assert len(shop.lanes) == 2
        assert shop.read(b"/v1/customer_profiles/p/inventory").joined  # what was never admitted has sealed nothing


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


# --- another upstream ---


def test_the_order_survives_a_switch_of_the_upstream(shop: Shop) -> None:
    """B24: the one that was sent ends where it is, those behind it go to the new one, in their order."""
    first = shop.session("s", number=1)
    behind = [shop.session("s", number=2), shop.session("s", number=3)]
    new = switch(shop)
    assert not new.connection.sent
    shop.reply_to(first)
    new.answer()
    new.answer()

    assert [asked.exchange for asked in new.connection.sent] == [shopper.flight for shopper in behind]
    assert b"\r\nHost: new.example\r\n" in new.connection.sent[0].head
    assert [shopper.reply.status for shopper in behind] == [200, 200]


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
        broken.setattr(shop.upstream.keys, "leading", crash)
        shopper = shop.session("s", number=2)
        if behind:
            assert not shopper.answers
            shop.reply_to(ahead)
    last = shop.session("s", number=3)

    assert shopper.failure == (500, b"proxy_internal_error", b"not-sent")
    assert went(shop, shopper, last) == [False, True]


def test_what_crashed_in_line_is_not_sent_whatever_it_decides(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Its caller was told that it was not sent; its place stays."""

    def crash(*_: object) -> bool:
        raise RuntimeError("a defect")

    ahead = shop.session("s", number=1)
    shopper = shop.session("s", None, (TIMEOUT, b"500"), state="closed")
    behind = shop.session("s", number=2)
    with monkeypatch.context() as broken:
        broken.setattr(shop.attempts, "insists", crash)
        shop.clock.advance(0.6)
    assert went(shop, shopper, behind) == [False, False]
    shop.reply_to(ahead)

    assert went(shop, shopper, behind) == [False, True]


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


# --- the table above ---


def test_the_table_names_every_edge_case_and_tests_that_exist() -> None:
    assert __doc__ is not None
    expected = [f"A{number}" for number in range(1, 34)] + [f"B{number}" for number in range(1, 29)]

    assert table.numbers(__doc__, "AB") == sorted(expected)
    assert table.wrong(__doc__) == []
