"""What is told, kept and repeated of a call that was tried more than once."""

import pytest

from proxy.errors import ConnectionLost
from proxy.messages import Sent
from proxy.traffic.attempts import Rules as AttemptRules
from proxy.traffic.flights import State
from proxy.wire.wheel import TICK
from tests.traffic_rig import PARALLEL_SESSION, Shop
from tests.upstream_fakes import FakeStream, FakeUpstream

KEY = (b"Idempotency-Key", b"k")


@pytest.fixture
def shop() -> Shop:
    shop = Shop(attempts=AttemptRules(10.0, quarantine=1.0))
    shop.upstream.ready = True
    return shop


@pytest.mark.parametrize("status", [502, 504])
def test_whose_time_ends_before_a_write_is_repeated_is_not_told_that_it_was_not_sent(shop: Shop, status: int) -> None:
    shopper = shop.session("s", "p", KEY)
    next_one = shop.session("s", "p", value=2)
    shop.upstream.ready = False  # there is no connection for the repeat
    shop.clock.advance(5)
    later = shop.session("s", "p", value=3)
    shop.reply_to(shopper, status)
    shop.clock.advance(10 + 2 * TICK)

    assert shopper.failure == (504, b"http_response_timeout", b"unknown")
    assert next_one.failure == (504, b"http_response_timeout", b"not-sent")
    assert not shop.upstream.waiting  # its lanes are held: it may be running still
    shop.clock.advance(1 + TICK)
    shop.upstream.admit()
    assert shop.was_sent(later)


def test_a_write_that_rests_after_a_gateways_failure_is_repeated_where_it_was_sent(shop: Shop) -> None:
    shopper = shop.session("s", "p", KEY)
    shop.reply_to(shopper, 504)
    assert shopper.flight.state is State.QUEUED
    new = FakeUpstream(shop.clock, b"new.example")
    new.ready = True
    former, shop.upstream.current = shop.upstream, new
    shop.clock.advance(0.4)

    assert len(former.connection.sent) == 2
    assert not new.connection.sent


@pytest.mark.parametrize(("status", "ends"), [(200, True), (500, True), (502, False), (504, False)])
def test_a_gateway_that_gave_up_is_not_the_end_of_a_write_whose_connection_is_held(
    shop: Shop, status: int, ends: bool
) -> None:
    shopper, next_one = shop.session("s"), shop.session("s", value=2)
    assert shop.upstream.time_out(shop.asked(shopper)) == 5.0
    shop.reply_to(shopper, status)

    assert shop.was_sent(next_one) is ends
    shop.clock.advance(1.0 + TICK)
    assert shop.was_sent(next_one)


def test_a_key_of_ours_is_kept_when_a_full_queue_follows_an_attempt_of_which_nobody_knows_the_outcome() -> None:
    """With another one Talon.One would take the repeat for another call, and execute it a second time."""
    shop = Shop(attempts=AttemptRules(10.0, generate_keys=True))
    shop.upstream.ready = True
    shopper = shop.session("s")
    shop.lose(shopper, ConnectionLost("x", sent=Sent.MAYBE))
    shop.reply_to(shopper, 409, PARALLEL_SESSION)
    shop.clock.advance(0.1)

    first, second, third = (asked.head for asked in shop.sent)
    assert first == second == third


def test_a_dry_call_without_order_that_is_made_again_waits_at_no_gate_either(shop: Shop) -> None:
    """Its answer was too large to share."""
    no_order = (b"Talon-Proxy-Order", b"no")
    target = b"/v2/customer_sessions/s?dry=true"
    first, _ = [shop.submit(b"PUT", target, {"customerSession": {}}, no_order) for _ in range(2)]
    shop.reply_to(first, stream=FakeStream())

    assert len(shop.sent) == 2
    assert len(shop.gates) == 0


def test_a_write_nobody_waits_for_does_not_stand_at_a_full_gate_when_its_turn_comes() -> None:
    """Those behind it in its lane would wait for the gate too."""
    shop = Shop(shared=("guest",))
    shop.upstream.ready = True
    for _ in range(3):
        shop.event("guest")
    first, left = shop.session("s"), shop.session("s", "guest")
    next_one = shop.submit(b"POST", b"/v3/events", {"connectedSessionId": "s", "profileId": "p"})
    assert left.waiter.leave()
    shop.reply_to(first)

    assert shop.was_sent(next_one)
    assert not shop.was_sent(left)
