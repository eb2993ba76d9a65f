"""Generations: one is swapped for another in one step, the old one ends what it has begun."""

import asyncio
import logging

import pytest

from proxy.traffic.attempts import Rules as AttemptRules
from proxy.traffic.flights import State as Flying
from proxy.upstream import State, Upstream
from proxy.wire.connection import Closing
from proxy.wire.http1 import State as Carrying
from tests.generations import answer, generation
from tests.harness import KEY, patiently
from tests.traffic_rig import Shop
from tests.upstream_fakes import FakeDialer, turns

pytestmark = pytest.mark.usefixtures("silence")

OTHER_KEY = "0ther" * 12


class TwoHosts(Shop):
    """A shop before a real upstream of two generations, whose connections are the test's."""

    def __init__(self, *, most: int = 100, rules: AttemptRules | None = None) -> None:
        super().__init__(attempts=rules)
        self.old, self.old_dialer = generation(self.clock, "old.example", most=most)
        self.new, self.new_dialer = generation(self.clock, "new.example", OTHER_KEY)
        self.current = Upstream(self.old)
        self.attempts._upstream = self.current
        self.old.open()

    def swap(self, drain: float = 10.0) -> None:
        self.current.swap(self.new, drain=drain)


def written(dialer: FakeDialer) -> list[bytes]:
    return [dial.transport.written for dial in dialer.dials]


def answer_all(dialer: FakeDialer) -> None:
    for dial in dialer.dials:
        if dial.connection.state is Carrying.ACTIVE:
            answer(dial)


async def test_what_comes_after_a_swap_goes_to_the_new_host_with_its_key() -> None:
    shop = TwoHosts()
    shop.swap()
    after = shop.event("jane")
    await turns()

    (said,) = written(shop.new_dialer)
    assert b"\r\nHost: new.example\r\n" in said
    assert b"\r\nAuthorization: ApiKey-v1 %b\r\n" % OTHER_KEY.encode() in said
    assert KEY.encode() not in said
    assert not shop.old_dialer.dials
    answer(shop.new_dialer.dials[0])
    assert after.reply.status == 200
    assert (shop.new.number, shop.new.state, shop.old.state) == (2, State.SERVING, State.CLOSED)


async def test_what_was_sent_ends_where_it_was_sent_and_what_follows_it_waits_for_that() -> None:
    """Order survives a switch (invariant 7): a lane has one write under way, on whichever host."""
    shop = TwoHosts()
    first, second = shop.session("s", "jane"), shop.session("s", "jane", state="closed")
    await turns()
    shop.swap()
    await turns()

    assert shop.current.draining == [shop.old]
    assert not shop.new_dialer.dials
    answer(shop.old_dialer.dials[0])
    await turns()

    assert first.reply.status == 200
    (said,) = written(shop.new_dialer)
    assert b"closed" in said
    answer(shop.new_dialer.dials[0])
    await turns()
    assert second.reply.status == 200
    assert shop.old.state is State.CLOSED
    assert shop.current.draining == []


async def test_who_waits_for_a_connection_moves_over_in_the_step_of_the_swap() -> None:
    """A connection that came free in the turn after it must not carry one more write to the old host."""
    shop = TwoHosts(most=1)
    first, second = shop.event("jane"), shop.event("joe")
    await turns()
    assert shop.old.pool.active == 1
    shop.swap()
    assert second.flight.generation is shop.new

    answer(shop.old_dialer.dials[0])
    await turns()

    assert first.reply.status == 200
    assert len(written(shop.old_dialer)) == 1
    assert written(shop.old_dialer)[0].count(b"POST") == 1
    assert b"POST" in written(shop.new_dialer)[0]
    assert not any(shop.attempts.unaffordable.values())


async def test_a_call_does_not_join_one_that_was_sent_to_the_host_that_is_left() -> None:
    shop = TwoHosts()
    first = shop.session("s", state="open")
    read = shop.read(b"/v1/customer_profiles/jane/inventory")
    await turns()
    shop.swap()
    second, again = shop.session("s", state="open"), shop.read(b"/v1/customer_profiles/jane/inventory")
    await turns()

    assert not second.joined
    assert not again.joined
    assert not first.answers
    for dialer in (shop.old_dialer, shop.new_dialer):
        answer_all(dialer)
        await turns()
    answer_all(shop.new_dialer)
    assert [shopper.reply.status for shopper in (first, second, read, again)] == [200] * 4


async def test_a_call_that_was_not_sent_yet_is_joined_across_the_swap() -> None:
    shop = TwoHosts(most=1)
    shop.event("jane")
    first = shop.session("s", state="open")
    await turns()
    shop.swap()
    assert shop.session("s", state="open").joined
    assert first.flight.generation is shop.new


async def test_after_the_drain_what_is_left_ends_as_unknown_and_its_lane_goes_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    shop = TwoHosts(rules=AttemptRules(10.0, quarantine=0.0))
    stuck, behind = shop.event("jane"), shop.event("jane", type="other")
    await turns()
    with caplog.at_level(logging.INFO):
        shop.swap(drain=0.0)
        await _left(shop)

    assert stuck.failure == (502, b"connection_terminated", b"unknown")
    await turns()
    assert len(written(shop.new_dialer)) == 1
    answer(shop.new_dialer.dials[0])
    assert behind.reply.status == 200
    assert not any(shop.attempts.retried.values())
    (told,) = [record for record in caplog.records if record.getMessage() == "left an upstream"]
    assert (told.levelname, told.fields) == ("WARNING", {"generation": 1, "cut_off": 1})  # type: ignore[attr-defined]


async def test_a_read_that_is_lost_with_the_old_host_is_asked_of_the_new_one() -> None:
    shop = TwoHosts()
    read = shop.read()
    await turns()
    shop.swap(drain=0.0)
    await _left(shop)
    await turns()

    answer(shop.new_dialer.dials[0])
    assert read.reply.status == 200


async def test_a_keyed_write_that_is_lost_with_the_old_host_is_not_repeated_on_the_new_one() -> None:
    shop = TwoHosts(rules=AttemptRules(10.0, quarantine=0.0))
    write = shop.event("jane", (b"Idempotency-Key", b"k1"))
    await turns()
    shop.swap(drain=0.0)
    await _left(shop)
    await turns()

    assert write.failure == (502, b"connection_terminated", b"unknown")
    assert not shop.new_dialer.dials


async def test_at_most_three_are_inside_a_gate_across_a_swap() -> None:
    shop = TwoHosts()
    shop.traffic.sharing.follow(listed=["guest"], after=0, size=10)
    shoppers = [shop.session(f"s{number}", "guest") for number in range(8)]
    await turns()
    under_way = sum(shopper.flight.state is Flying.SENT for shopper in shoppers)
    shop.swap()
    await turns()

    assert sum(shopper.flight.state is Flying.SENT for shopper in shoppers) == under_way


async def test_totals_count_generations_that_are_gone_and_never_fall() -> None:
    shop = TwoHosts()
    shop.event("jane")
    await turns()
    answer(shop.old_dialer.dials[0])
    assert shop.current.opened == 1
    shop.swap()
    await turns()

    assert shop.current.draining == []
    assert shop.current.opened == 1
    assert shop.current.closed == {Closing.SWITCH: 1}


async def test_closing_gives_up_what_is_still_being_left() -> None:
    shop = TwoHosts(rules=AttemptRules(10.0, quarantine=0.0))
    stuck = shop.event("jane")
    await turns()
    shop.swap()
    await patiently(shop.current.close())

    assert stuck.failure == (502, b"connection_terminated", b"unknown")
    assert (shop.old.state, shop.new.state) == (State.CLOSED, State.CLOSED)


async def _left(shop: TwoHosts) -> None:
    """Wait until the old generation is left."""
    async with asyncio.timeout(10):
        await asyncio.wait(shop.current._draining)
