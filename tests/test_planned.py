"""A planned switch: verified beforehand, at its moment writes wait, then one swap; by a wall clock that may be set."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable

import pytest

from proxy.planned import AGAIN, LEAD, SETTLE, Plan, State
from proxy.settings import Settings
from proxy.traffic.hold import Hold
from tests.fleet import message
from tests.given import settings
from tests.test_switching import ELSEWHERE, HERE, THERE
from tests.test_switching import Rig as Switching
from tests.upstream_fakes import turns

pytestmark = pytest.mark.usefixtures("silence")

KEY_THERE = "a-key-for-there-0123456789"
GOOD, BAD = message(200, b"{}"), message(401, b"{}")


def planned(at: str = "2026-11-24T12:01:00Z", **more: str) -> Settings:
    """A switch a minute ahead."""
    return settings(
        upstream__next__url=str(THERE),
        upstream__next__at=at,
        upstream__next__applications__default__api_key=KEY_THERE,
        **more,
    )


class Rig(Switching):
    def __init__(self, given: Settings) -> None:
        super().__init__(given)
        self.holds: list[Hold] = []
        self.unheld = 0
        self.writing = False
        self.plan = Plan(
            given.upstream.next,
            self.switcher,
            hold=self.holds.append,
            unhold=self._unhold,
            writing=lambda: self.writing,
            clock=self.clock,
            now=self.wall.now,
            sleep=self.wall.sleep,
        )
        self.plan.start()

    def _unhold(self) -> None:
        self.unheld += 1

    @property
    def asked(self) -> int:
        return len(self.hosts.at(THERE.host).said)

    def written(self) -> None:
        self.writing = False
        self.holds[-1].news()

    async def done(self) -> None:
        assert self.plan._task is not None
        await asyncio.wait((self.plan._task,))

    async def end(self) -> None:
        await self.plan.stop()
        await super().end()


@pytest.fixture
async def made() -> AsyncIterator[Callable[..., Rig]]:
    rigs: list[Rig] = []

    def make(given: Settings | None = None) -> Rig:
        rigs.append(Rig(given or planned()))
        return rigs[-1]

    yield make
    for rig in rigs:
        await rig.end()


async def test_it_is_tried_at_once_opened_shortly_before_and_done_at_its_moment(made: Callable[..., Rig]) -> None:
    rig = made()
    await rig.wall.pass_by(1.0)
    assert (rig.asked, rig.plan.state) == (1, State.WAITING)  # the rehearsal
    assert rig.hosts.made[1].pool.idle == 0

    await rig.wall.pass_by(60.0 - LEAD)
    assert (rig.asked, rig.plan.state) == (2, State.READY)
    assert rig.host == HERE.host
    (hold,) = rig.holds
    assert not hold.begun()

    await rig.wall.pass_by(LEAD - 1.0)
    assert hold.begun()
    assert (rig.plan.state, rig.host) == (State.HOLDING, HERE.host)

    await rig.wall.pass_by(SETTLE)
    assert (rig.plan.state, rig.host, rig.unheld) == (State.DONE, THERE.host, 1)
    assert rig.switcher.override is None
    assert all(KEY_THERE.encode() in said for said in rig.hosts.at(THERE.host).said)
    assert not rig.hosts.at(HERE.host).said


async def test_writes_that_were_sent_are_waited_for(made: Callable[..., Rig]) -> None:
    rig = made()
    rig.writing = True
    await rig.wall.pass_by(60.0 + SETTLE + 3.0)
    assert (rig.plan.state, rig.host, rig.unheld) == (State.HOLDING, HERE.host, 0)

    rig.written()
    await turns(20)
    assert (rig.plan.state, rig.host, rig.unheld) == (State.DONE, THERE.host, 1)


async def test_they_are_waited_for_no_longer_than_the_hold(
    made: Callable[..., Rig], caplog: pytest.LogCaptureFixture
) -> None:
    """Of the real loop's clock, hence short."""
    rig = made(planned(upstream__next__hold="1ms"))
    rig.writing = True
    with caplog.at_level(logging.WARNING):
        await rig.wall.pass_by(60.0)
        await rig.wall.pass_by(1.0)
        async with asyncio.timeout(10):
            await rig.done()

    assert (rig.plan.state, rig.host) == (State.DONE, THERE.host)
    assert "writes to the old URL have not ended in time" in caplog.text


async def test_without_a_hold_nothing_waits(made: Callable[..., Rig]) -> None:
    rig = made(planned(upstream__next__hold="0s"))
    rig.writing = True
    await rig.wall.pass_by(60.0)

    assert (rig.plan.state, rig.host, rig.holds) == (State.DONE, THERE.host, [])


async def test_a_url_that_cannot_be_verified_is_told_early_and_tried_until_it_can(
    made: Callable[..., Rig], caplog: pytest.LogCaptureFixture
) -> None:
    rig = made()
    rig.hosts.at(THERE.host).script = lambda _: BAD
    with caplog.at_level(logging.ERROR):
        await rig.wall.pass_by(1.0)
    assert "a planned switch cannot be done" in caplog.text
    assert rig.plan.reason is not None
    assert "the key is refused" in rig.plan.reason

    rig.hosts.at(THERE.host).script = lambda _: GOOD
    await rig.wall.pass_by(60.0 + SETTLE)
    assert rig.plan.state is State.DONE
    assert rig.host == THERE.host


async def test_who_misses_the_moment_stays_holds_nothing_and_follows_when_it_can(made: Callable[..., Rig]) -> None:
    rig = made()
    rig.hosts.at(THERE.host).script = lambda _: BAD
    await rig.wall.pass_by(90.0)
    assert (rig.plan.state, rig.host, rig.holds) == (State.WAITING, HERE.host, [])

    rig.hosts.at(THERE.host).script = lambda _: GOOD
    await rig.wall.pass_by(AGAIN)
    assert (rig.plan.state, rig.host) == (State.DONE, THERE.host)


async def test_a_wall_clock_that_is_set_moves_the_moment(made: Callable[..., Rig]) -> None:
    rig = made()
    await rig.wall.pass_by(50.0)
    rig.wall.set = -20.0  # it had been wrong: there are 30 seconds left
    await rig.wall.pass_by(15.0)
    assert rig.host == HERE.host
    assert not rig.holds[0].begun()

    await rig.wall.pass_by(15.0 + SETTLE)
    assert rig.plan.state is State.DONE


async def test_a_plan_that_is_dropped_leaves_nothing_behind(made: Callable[..., Rig]) -> None:
    rig = made()
    await rig.wall.pass_by(50.0)
    assert rig.plan.state is State.READY

    await rig.plan.stop()
    assert (rig.plan.state, rig.unheld, rig.host) == (State.CANCELLED, 1, HERE.host)
    assert all(generation.pool.idle == 0 for generation in rig.hosts.made[1:])
    await rig.wall.pass_by(60.0)
    assert rig.host == HERE.host


async def test_where_it_is_already_nothing_is_swapped(made: Callable[..., Rig]) -> None:
    rig = made()
    await rig.switcher.switch(THERE)
    await rig.wall.pass_by(60.0 + SETTLE)

    assert (rig.plan.state, rig.swapped, rig.upstream.current.number) == (State.DONE, 1, 2)
    assert rig.switcher.override is None


async def test_a_plan_is_told_apart_from_another_and_from_one_with_other_keys(made: Callable[..., Rig]) -> None:
    given = planned()
    rig = made(given)
    assert rig.plan.serves(given.upstream.next)
    assert not rig.plan.serves(planned(at="2026-11-24T12:02:00Z").upstream.next)
    assert not rig.plan.serves(settings().upstream.next)

    await rig.wall.pass_by(50.0)
    assert rig.plan.serves(given.upstream.next)
    rig.switcher.settings = planned(management__api_key="another")
    assert not rig.plan.serves(given.upstream.next)


async def test_a_reload_under_way_at_the_moment_delays_the_swap(made: Callable[..., Rig]) -> None:
    rig = made()
    await rig.wall.pass_by(59.0)
    async with rig.switcher.lock:
        await rig.wall.pass_by(1.0 + SETTLE)
        assert (rig.plan.state, rig.host) == (State.HOLDING, HERE.host)
    await rig.wall.pass_by(SETTLE)

    assert (rig.plan.state, rig.host) == (State.DONE, THERE.host)


async def test_while_it_holds_nobody_else_switches(made: Callable[..., Rig]) -> None:
    rig = made()
    rig.writing = True
    await rig.wall.pass_by(60.5)
    other = asyncio.ensure_future(rig.switcher.switch(ELSEWHERE))
    await turns(20)
    assert rig.host == HERE.host

    rig.written()
    await rig.wall.pass_by(SETTLE)
    await other
    assert [generation.origin for generation in rig.hosts.made[-2:]] == [THERE, ELSEWHERE]
    assert rig.host == ELSEWHERE.host


async def test_one_that_is_dropped_while_it_holds_lets_the_writes_and_the_lock_go(made: Callable[..., Rig]) -> None:
    rig = made()
    rig.writing = True
    await rig.wall.pass_by(60.5)
    await rig.plan.stop()

    assert (rig.unheld, rig.switcher.lock.locked(), rig.host) == (1, False, HERE.host)


async def test_a_url_set_by_hand_gives_way_to_the_plan(made: Callable[..., Rig]) -> None:
    rig = made()
    await rig.switcher.switch(ELSEWHERE)
    await rig.wall.pass_by(60.0 + SETTLE)

    assert (rig.host, rig.switcher.override) == (THERE.host, None)
