"""Holding writes for a switch: nothing more is sent that writes, places are kept, and all go on in their order."""

import asyncio

import pytest

from proxy.errors import ConnectionLost
from proxy.messages import Sent
from proxy.traffic.hold import Hold
from tests.traffic_rig import PARALLEL_SESSION, Shop
from tests.upstream_fakes import FakeUpstream, turns

pytestmark = pytest.mark.usefixtures("silence")


@pytest.fixture
def shop() -> Shop:
    made = Shop()
    made.upstream.ready = True
    return made


def hold(shop: Shop, after: float = 0.0) -> Hold:
    made = Hold(shop.clock.now + after, shop.clock)
    shop.attempts.hold(made)
    return made


async def test_writes_wait_from_the_moment_on_whether_a_timer_has_run_or_not(shop: Shop) -> None:
    holding = hold(shop, after=1.0)
    before = shop.event("jane")
    shop.clock.now += 1.0
    after = shop.event("joe")

    assert shop.was_sent(before)
    assert not shop.was_sent(after)
    assert len(holding) == 1
    shop.attempts.unhold()
    assert shop.was_sent(after)
    for shopper in (before, after):
        shop.reply_to(shopper)
    assert after.call.timeline.waited == 0.0  # of this clock
    shop.assert_idle()


async def test_reads_and_dry_calls_go_on(shop: Shop) -> None:
    hold(shop)
    read = shop.read()
    dry = shop.submit(b"PUT", b"/v2/customer_sessions/s?dry=true", {"customerSession": {}})

    assert shop.was_sent(read)
    assert shop.was_sent(dry)


async def test_who_waits_here_takes_nobodys_place_at_the_limit() -> None:
    """Reads go on, and when all is over the limit is what it was."""
    shop = Shop(concurrency=2)
    shop.upstream.ready = True
    hold(shop)
    writes = [shop.event(f"p{number}") for number in range(3)]
    read = shop.read()

    assert shop.was_sent(read)
    shop.reply_to(read)
    shop.attempts.unhold()
    for write in writes:
        shop.reply_to(write)
    shop.assert_idle()


async def test_a_write_that_waits_for_a_connection_waits_at_the_hold_then(shop: Shop) -> None:
    shop.upstream.ready = False
    shop.event("jane")
    holding = hold(shop)
    shop.upstream.grant()

    assert not shop.sent
    assert shop.upstream.released == 1
    assert len(holding) == 1


async def test_all_go_on_in_the_order_in_which_they_came(shop: Shop) -> None:
    hold(shop)
    shoppers = [shop.event(f"p{number}") for number in range(5)]
    shop.attempts.unhold()

    assert [asked.exchange.timeline for asked in shop.sent] == [shopper.call.timeline for shopper in shoppers]


async def test_it_is_quiet_when_the_last_write_has_ended_or_come_back(shop: Shop) -> None:
    sent, refused, read = shop.event("jane"), shop.session("s"), shop.read()
    holding = hold(shop)
    quiet = asyncio.ensure_future(holding.quiet(shop.pipeline.writing))
    await turns()
    shop.reply_to(sent)
    await turns()
    assert not quiet.done()

    shop.reply_to(refused, 409, PARALLEL_SESSION)  # it rests, and waits here when its turn has come again
    await turns()

    assert quiet.done()
    shop.clock.advance(1.0)
    assert len(holding) == 1
    shop.attempts.unhold()
    shop.reply_to(refused)
    shop.reply_to(read)
    assert refused.reply.status == 200


async def test_a_write_in_doubt_counts_as_under_way_until_its_lane_goes_on(shop: Shop) -> None:
    lost = shop.event("jane")
    holding = hold(shop)
    shop.lose(lost, ConnectionLost("x", sent=Sent.MAYBE))
    quiet = asyncio.ensure_future(holding.quiet(shop.pipeline.writing))
    await turns()
    assert not quiet.done()

    shop.clock.advance(2.0)  # the quarantine
    await turns()
    assert quiet.done()


async def test_who_waits_here_may_leave_or_run_out_of_time(shop: Shop) -> None:
    hold(shop)
    gone, late, stays = shop.event("jane"), shop.event("joe", (b"Talon-Proxy-Timeout-Ms", b"500")), shop.event("jim")
    assert gone.waiter.leave()
    shop.clock.advance(1.0)

    assert late.failure == (504, b"http_response_timeout", b"not-sent")
    shop.attempts.unhold()
    assert len(shop.sent) == 1
    shop.reply_to(stays)
    shop.assert_idle()


async def test_joining_and_lanes_work_as_ever_while_writes_wait(shop: Shop) -> None:
    hold(shop)
    one, two, other = (
        shop.session("s", state="open"),
        shop.session("s", state="open"),
        shop.session("s", state="closed"),
    )
    shop.attempts.unhold()

    assert two.joined
    assert not shop.was_sent(other)
    shop.reply_to(one)
    shop.reply_to(other)
    shop.assert_idle()


async def test_what_was_held_goes_to_the_upstream_that_is_current_then(shop: Shop) -> None:
    hold(shop)
    write = shop.event("jane")
    new = FakeUpstream(shop.clock, b"new.example")
    new.ready = True
    shop.upstream.current = new
    shop.attempts.unhold()

    assert not shop.sent
    assert b"Host: new.example\r\n" in new.connection.sent[0].head
    new.answer()
    assert write.reply.status == 200


async def test_the_shutdown_refuses_what_is_held(shop: Shop) -> None:
    hold(shop)
    write = shop.event("jane")
    shop.pipeline.refuse_unsent()

    assert write.reply.status == 503
    shop.attempts.unhold()
    assert not shop.sent
    shop.assert_idle()
