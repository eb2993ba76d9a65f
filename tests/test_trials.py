"""A key that Talon.One refuses: one call tries the other, the rest wait for what comes of it (design.md §6, 401)."""

import pytest

from proxy.errors import ConnectionLost
from proxy.keyset import KeyPair, KeySet, Ledger, Role
from proxy.messages import Sent
from proxy.secret import Secret
from proxy.traffic.attempts import Rules as AttemptRules
from proxy.traffic.flights import State
from proxy.traffic.retries import Reason
from proxy.traffic.retries import Rules as RetryRules
from proxy.traffic.trials import PAUSE
from tests.harness import KEY
from tests.traffic_rig import APPLICATIONS, SECOND, Shop, Shopper
from tests.upstream_fakes import FakeStream, FakeUpstream

pytestmark = pytest.mark.usefixtures("silence")


def shop(**options: object) -> Shop:
    made = Shop(second_keys=True, **options)  # type: ignore[arg-type]
    made.upstream.ready = True
    return made


def key_of(asked: Shop, shopper: Shopper) -> str:
    """Which key signed what was sent last for a call."""
    head = asked.asked(shopper).head.decode()
    (line,) = [line for line in head.split("\r\n") if line.startswith("Authorization: ")]
    return {KEY: "primary", SECOND: "next"}[line.removeprefix("Authorization: ApiKey-v1 ")]


def uses(made: Shop, role: Role) -> tuple[int, int]:
    found = made.ledger.of("default", role)
    return found.accepted, found.rejected


async def test_a_refused_call_is_sent_once_more_with_the_other_key_which_leads_from_then_on() -> None:
    made = shop()
    first = made.event("jane")
    made.reply_to(first, 401)

    assert key_of(made, first) == "next"
    assert not first.answers
    made.reply_to(first, 200)

    assert first.reply.status == 200
    later = made.event("joe")
    assert key_of(made, later) == "next"
    made.reply_to(later)
    assert uses(made, Role.PRIMARY) == (0, 1)
    assert uses(made, Role.NEXT) == (2, 0)
    assert made.told == [("default", "next")]
    assert made.attempts.retried[Reason.KEY] == 1
    made.assert_idle()


async def test_calls_that_are_refused_during_the_trial_wait_for_its_outcome() -> None:
    """Rotating a key under load: what was sent with the old one comes back refused, all at once."""
    made = shop()
    shoppers = [made.event(f"p{number}") for number in range(40)]
    for shopper in shoppers:
        made.reply_to(shopper, 401)

    assert [key_of(made, shopper) for shopper in shoppers] == ["next", *["primary"] * 39]
    assert len(made.under_way()) == 1
    made.reply_to(shoppers[0])

    assert {key_of(made, shopper) for shopper in shoppers} == {"next"}
    for shopper in shoppers[1:]:
        made.reply_to(shopper)
    assert [shopper.reply.status for shopper in shoppers] == [200] * 40
    assert not any(made.attempts.unaffordable.values())
    made.assert_idle()


async def test_two_bad_keys_are_tried_once_and_everybody_has_the_refusal() -> None:
    made = shop()
    first, second = made.event("jane"), made.event("joe")
    made.reply_to(first, 401, b"first")
    made.reply_to(second, 401, b"second")
    made.reply_to(first, 401, b"first, tried again")

    assert (first.reply.status, first.reply.body) == (401, b"first, tried again")
    assert (second.reply.status, second.reply.body) == (401, b"second")

    made.clock.advance(PAUSE - 1)
    third = made.event("jim")
    made.reply_to(third, 401)
    assert third.reply.status == 401
    assert key_of(made, third) == "primary"
    made.clock.advance(1)
    fourth = made.event("jack")
    made.reply_to(fourth, 401)
    assert key_of(made, fourth) == "next"
    made.reply_to(fourth)
    assert fourth.reply.status == 200
    assert made.told == ["default", ("default", "next")]


@pytest.mark.parametrize("status", [400, 404, 409, 500, 503])
async def test_any_answer_but_a_refusal_says_that_the_key_is_good(status: int) -> None:
    made = shop()
    first = made.event("jane")
    made.reply_to(first, 401)
    made.reply_to(first, status)

    assert first.reply.status == status
    assert made.told == [("default", "next")]


async def test_a_trial_that_ends_without_an_answer_says_nothing_and_the_next_one_tries() -> None:
    made = shop(attempts=AttemptRules(10.0, quarantine=0.0, retries=RetryRules(connection=0)))
    first, second = made.event("jane"), made.event("joe")
    made.reply_to(first, 401)
    made.reply_to(second, 401)
    made.lose(first, ConnectionLost("x", sent=Sent.MAYBE))

    assert first.failure == (502, b"connection_terminated", b"unknown")
    assert key_of(made, second) == "next"
    made.reply_to(second)
    assert second.reply.status == 200
    made.assert_idle()


async def test_a_trial_whose_caller_leaves_lets_the_others_go_on() -> None:
    made = shop()
    first, second = made.event("jane"), made.event("joe")
    made.upstream.ready = False
    made.reply_to(first, 401)
    made.reply_to(second, 401)
    assert made.upstream.waiting == [first.flight]

    assert first.waiter.leave()

    assert made.upstream.waiting == [second.flight]
    made.upstream.admit()
    made.reply_to(second)
    assert second.reply.status == 200
    made.assert_idle()


async def test_who_waits_for_a_trial_may_leave_or_run_out_of_time() -> None:
    made = shop()
    first, second, third = made.event("jane"), made.event("joe"), made.event("jim", (b"Talon-Proxy-Timeout-Ms", b"500"))
    for shopper in (first, second, third):
        made.reply_to(shopper, 401)
    assert second.waiter.leave()
    made.clock.advance(1.0)

    assert third.failure == (504, b"http_response_timeout", b"not-sent")
    made.reply_to(first)
    assert first.reply.status == 200
    made.assert_idle()


async def test_without_a_second_key_a_refusal_is_the_answer() -> None:
    made = Shop()
    made.upstream.ready = True
    first = made.event("jane")
    made.reply_to(first, 401)

    assert first.reply.status == 401
    assert len(made.sent) == 1


async def test_a_refused_key_is_told_once_a_minute() -> None:
    """U21: whoever reads the log must learn of it, and nothing else."""
    made = Shop()
    made.upstream.ready = True
    for _ in range(130):
        made.reply_to(made.event("jane"), 401)
        made.clock.advance(1.0)

    assert made.told == ["default"] * 3


async def test_a_refusal_of_an_unknown_path_or_of_a_callers_own_key_is_the_answer() -> None:
    made = shop(inject="when_missing")
    unknown = made.submit(b"GET", b"/v2/something_new")
    own = made.event("jane", (b"Authorization", b"ApiKey-v1 theirs"))
    for shopper in (unknown, own):
        made.reply_to(shopper, 401)

    assert (unknown.reply.status, own.reply.status) == (401, 401)
    assert len(made.sent) == 2
    assert uses(made, Role.PRIMARY) == (0, 1)  # the caller's own is not ours to count


async def test_each_application_has_a_trial_of_its_own() -> None:
    made = shop(applications=APPLICATIONS)
    shoppers = [made.event("jane", (b"Talon-Proxy-Application", name)) for name in (b"default", b"other", b"sandbox")]
    made.reply_to(shoppers[0], 401)  # the others wait behind it, or in another environment
    made.reply_to(shoppers[2], 401)

    assert len(made.under_way()) == 2
    for shopper in (shoppers[0], shoppers[2], shoppers[1]):
        made.reply_to(shopper)
    assert made.told == [("default", "next"), ("sandbox", "next")]
    made.assert_idle()


async def test_a_lane_keeps_its_order_while_keys_change() -> None:
    made = shop()
    first, second = made.session("s", "jane", state="open"), made.session("s", "jane", state="closed")
    made.reply_to(first, 401)

    assert not made.was_sent(second)
    made.reply_to(first)
    made.reply_to(second)
    assert (first.reply.status, second.reply.status) == (200, 200)


async def test_callers_who_share_an_exchange_are_one_use_of_a_key() -> None:
    made = shop()
    one, two = made.read(), made.read()
    assert two.joined
    made.reply_to(one, 401)
    made.reply_to(one)

    assert (one.reply.status, two.reply.status) == (200, 200)
    assert uses(made, Role.PRIMARY) == (0, 1)
    assert uses(made, Role.NEXT) == (1, 0)


async def test_a_call_refused_by_a_host_that_was_left_goes_to_the_new_one_with_its_key() -> None:
    made = Shop()
    made.upstream.ready = True
    first = made.event("jane")
    new = FakeUpstream(made.clock, b"new.example")
    new.keys = KeySet({"default": KeyPair(Secret("the new one"))}, None, Ledger())
    new.ready = True
    made.upstream.current = new
    made.reply_to(first, 401)

    (asked,) = new.connection.sent
    assert b"Host: new.example\r\n" in asked.head
    assert b"Authorization: ApiKey-v1 the new one\r\n" in asked.head
    new.end(asked, 401)
    assert first.reply.status == 401  # once


async def test_the_key_of_a_trial_never_goes_to_another_host() -> None:
    made = shop()
    first = made.event("jane")
    made.upstream.ready = False
    made.reply_to(first, 401)
    assert first.flight.trial is not None
    new = FakeUpstream(made.clock, b"new.example")
    new.keys = KeySet({"default": KeyPair(Secret("the new one"))}, None, Ledger())
    made.upstream.current = new
    made.upstream.fail(ConnectionLost("x", sent=Sent.NO))
    asked = new.admit()

    assert b"Authorization: ApiKey-v1 the new one\r\n" in asked.head
    assert SECOND.encode() not in asked.head
    new.answer()
    assert first.reply.status == 200
    made.assert_idle()


async def test_an_application_that_is_gone_when_its_call_is_sent_is_refused_unsent() -> None:
    made = Shop()
    first = made.event("jane")
    made.upstream.keys = KeySet({}, None, Ledger())
    made.upstream.grant()

    assert first.reply.status == 401
    assert b"Talon-Proxy-Outcome: not-sent" in first.reply.block
    assert made.upstream.released == 1
    assert not made.sent
    made.assert_idle()


async def test_a_refusal_too_large_to_hold_is_given_up_when_the_call_goes_again() -> None:
    made = shop()
    first, second = made.read(b"/v2/customer_sessions/a"), made.read(b"/v2/customer_sessions/b")
    streams = [FakeStream(), FakeStream()]
    made.reply_to(first, 401, stream=streams[0])
    made.reply_to(second, 401, stream=streams[1])
    made.reply_to(first)
    made.reply_to(second)

    assert [stream.abandoned for stream in streams] == [1, 1]


async def test_the_shutdown_answers_who_waits_for_a_trial() -> None:
    made = shop()
    first, second = made.event("jane"), made.event("joe")
    made.reply_to(first, 401)
    made.reply_to(second, 401)
    made.pipeline.refuse_unsent()

    assert second.reply.status == 503
    assert first.flight.state is State.SENT
    made.reply_to(first)
    assert first.reply.status == 200
    made.assert_idle()
