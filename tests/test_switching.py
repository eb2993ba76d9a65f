"""Switching: open, verify, swap; what a switch at run time means for the reloads after it."""

import logging
from collections.abc import AsyncIterator

import pytest

from proxy.errors import ConnectionRefused
from proxy.settings import Origin, Settings
from proxy.switching import NotAllowed, Switcher
from proxy.target import configured, target
from proxy.upstream import State, Upstream
from proxy.verification import Unverified
from tests.fleet import message
from tests.generations import Hosts, Wall
from tests.given import URL, settings
from tests.upstream_fakes import FakeClock, turns

pytestmark = pytest.mark.usefixtures("silence")

HERE = Origin.parse(URL)
THERE = Origin.parse("https://mycompany.us-east4.talon.one")
ELSEWHERE = Origin.parse("https://mycompany.us-west2.talon.one")


class Rig:
    """A switcher before hosts that say what the test wants."""

    def __init__(self, given: Settings) -> None:
        self.clock = FakeClock()
        self.wall = Wall(self.clock)
        self.hosts = Hosts(self.clock)
        start = target(given, configured(given, self.wall.now()))
        self.upstream = Upstream(self.hosts.make(given, start))
        self.upstream.current.open()
        self.swapped = 0
        self.switcher = Switcher(
            given,
            self.upstream,
            start,
            make=self.hosts.make,
            swapped=self._swap,
            now=self.wall.now,
        )

    def _swap(self) -> None:
        self.swapped += 1

    @property
    def host(self) -> str:
        return self.upstream.current.origin.host

    async def reload(self, given: Settings) -> None:
        """What a reload does with the upstream."""
        wanted = self.switcher.wanted(given)
        if not self.switcher.serves(wanted):
            self.switcher.commit(await self.switcher.prepare(given, wanted), wanted, why="settings")
        self.switcher.settle(given)
        await turns()

    async def end(self) -> None:
        await self.upstream.close()


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    made = Rig(settings())
    yield made
    await made.end()


async def test_a_switch_opens_and_verifies_before_it_swaps(rig: Rig) -> None:
    phases: list[str] = []

    def script(said: bytes) -> bytes:
        assert rig.switcher.move is not None
        phases.append(rig.switcher.move.phase)
        assert rig.host == HERE.host
        return message(200, b"{}")

    rig.hosts.at(THERE.host).script = script
    generation = await rig.switcher.switch(THERE)
    await turns()

    assert (rig.host, generation.number, generation.state) == (THERE.host, 2, State.SERVING)
    assert phases == ["verifying keys"]
    assert generation.pool.idle == 2
    assert rig.switcher.move is None
    assert rig.switcher.override == THERE
    assert rig.swapped == 1
    assert rig.hosts.made[0].state is State.CLOSED


async def test_switching_to_where_it_is_does_nothing(rig: Rig) -> None:
    generation = await rig.switcher.switch(HERE)

    assert (generation.number, rig.swapped, rig.switcher.override) == (1, 0, None)


@pytest.mark.parametrize(
    "url",
    [
        "https://other.us-east4.talon.one",
        "https://mycompany.evil.example",
        "http://mycompany.us-east4.talon.one",
        "http://127.0.0.1:9900",
    ],
)
@pytest.mark.parametrize("force", [False, True])
async def test_no_switch_leaves_what_is_allowed_not_even_by_force(rig: Rig, url: str, force: bool) -> None:
    with pytest.raises(NotAllowed):
        await rig.switcher.switch(Origin.parse(url), force=force)

    assert rig.host == HERE.host
    assert len(rig.hosts.made) == 1


async def test_a_host_that_fails_the_test_changes_nothing_and_leaves_nothing_behind(rig: Rig) -> None:
    rig.hosts.at(THERE.host).script = lambda _: message(401, b"{}")
    with pytest.raises(Unverified):
        await rig.switcher.switch(THERE)
    await turns()

    assert (rig.host, rig.swapped, rig.switcher.override, rig.switcher.move) == (HERE.host, 0, None, None)
    refused = rig.hosts.made[1]
    assert (refused.state, refused.pool.idle, refused.pool.active) == (State.CLOSED, 0, 0)


async def test_force_switches_to_a_host_that_does_not_answer(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    rig.hosts.at(THERE.host).refuses = ConnectionRefused("x")
    with caplog.at_level(logging.WARNING):
        generation = await rig.switcher.switch(THERE, force=True)

    assert (rig.host, generation.number) == (THERE.host, 2)
    assert "switching all the same" in caplog.text


async def test_back_at_the_configured_url_nothing_is_special_any_more(rig: Rig) -> None:
    await rig.switcher.switch(THERE)
    await rig.switcher.switch(HERE)

    assert (rig.host, rig.switcher.override) == (HERE.host, None)


# --- reloads --------------------------------------------------------------------------------------------------


async def test_a_reload_for_another_reason_leaves_the_url_that_was_set(rig: Rig) -> None:
    await rig.switcher.switch(THERE)
    await rig.reload(settings(log__level="debug"))
    assert (rig.host, rig.switcher.override, rig.swapped) == (THERE.host, THERE, 1)

    # Other keys go to the host that it is at.
    await rig.reload(settings(api_key="another-key-0123456789"))
    assert (rig.host, rig.switcher.override, rig.swapped) == (THERE.host, THERE, 2)
    assert b"ApiKey-v1 another-key-0123456789" in rig.hosts.at(THERE.host).said[-1]
    assert not rig.hosts.at(HERE.host).said


async def test_a_reload_that_configures_another_url_ends_what_was_set(rig: Rig) -> None:
    await rig.switcher.switch(THERE)
    await rig.reload(settings(upstream__url=str(ELSEWHERE)))

    assert (rig.host, rig.switcher.override) == (ELSEWHERE.host, None)


async def test_a_url_that_is_no_longer_allowed_does_not_stay(rig: Rig) -> None:
    await rig.switcher.switch(THERE)
    await rig.reload(settings(upstream__allowed_hosts=HERE.host))

    assert (rig.host, rig.switcher.override) == (HERE.host, None)


async def test_new_keys_at_the_same_url_are_a_new_generation(rig: Rig) -> None:
    await rig.reload(settings(next_api_key="a-second-key-0123456789"))

    assert (rig.host, rig.upstream.current.number, rig.switcher.override) == (HERE.host, 2, None)


async def test_a_plan_whose_moment_has_passed_when_it_is_configured_is_followed_at_once(rig: Rig) -> None:
    await rig.reload(settings(upstream__next__url=str(THERE), upstream__next__at="2026-11-24T11:00:00Z"))

    assert (rig.host, rig.switcher.override) == (THERE.host, None)


async def test_a_plan_alone_switches_nothing(rig: Rig) -> None:
    await rig.reload(settings(upstream__next__url=str(THERE), upstream__next__at="2026-11-24T13:00:00Z"))

    assert (rig.host, rig.swapped) == (HERE.host, 0)
