"""Reloading: whole or not at all, and told either way."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from proxy.reloading import AGAIN_FIRST, LOOK_EVERY, Reloader, ReloadFailed
from proxy.settings import Loaded, Problem, Settings, SettingsError
from tests.fleet import message
from tests.given import loaded
from tests.harness import until
from tests.test_switching import HERE, THERE
from tests.test_switching import Rig as Switching
from tests.upstream_fakes import turns

pytestmark = pytest.mark.usefixtures("silence")


class Rig(Switching):
    def __init__(self, began: Loaded) -> None:
        super().__init__(began.settings)
        self.next: Loaded | Exception = began
        self.in_effect: list[Settings] = []
        self.learned: list[Settings] = []
        self.settled = 0
        self.reloader = Reloader(
            began,
            self._load,
            self.switcher,
            build=self._build,
            learn=self.learned.append,
            settled=self._settle,
            clock=self.clock,
            now=self.wall.unix,
            sleep=self.wall.sleep,
        )

    def _load(self) -> Loaded:
        if isinstance(self.next, Exception):
            raise self.next
        return self.next

    def _build(self, settings: Settings) -> Callable[[], None]:
        return lambda: self.in_effect.append(settings)

    async def _settle(self) -> None:
        self.settled += 1

    async def fails(self) -> str:
        before = self.reloader.loaded
        with pytest.raises(ReloadFailed) as caught:
            await self.reloader.reload("test")
        assert self.reloader.loaded is before
        assert (self.in_effect, self.settled) == ([], 0)
        return str(caught.value)


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    made = Rig(loaded())
    yield made
    await made.reloader.stop()
    await made.end()


async def test_what_has_changed_takes_effect_and_is_told(rig: Rig) -> None:
    rig.next = loaded(log__level="debug", listen="127.0.0.1:1")
    done = await rig.reloader.reload("test")

    assert (done.changed, done.restart) == (["listen", "log.level"], ["listen"])
    assert rig.in_effect == [rig.next.settings]
    assert rig.reloader.settings is rig.next.settings
    assert (rig.settled, rig.swapped, rig.reloader.failure) == (1, 0, None)
    assert rig.reloader.reloaded == rig.wall.unix()

    rig.next = loaded()
    assert (await rig.reloader.reload("test")).restart == []  # as it began


async def test_problems_of_the_settings_change_nothing(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    rig.next = SettingsError([Problem("is wrong", key="a", source="file:1"), Problem("is unknown", key="b")])
    with caplog.at_level(logging.ERROR):
        reason = await rig.fails()

    assert reason == "2 problems in the settings:\n  file:1 [a]: is wrong\n  b: is unknown"
    assert rig.reloader.failure == reason
    (record,) = (each for each in caplog.records if each.name == "proxy.reloading")
    assert record.fields["reason"] == [  # type: ignore[attr-defined]
        "2 problems in the settings:",
        "file:1 [a]: is wrong",
        "b: is unknown",
    ]


async def test_a_new_url_that_does_not_stand_the_test_changes_nothing_else_either(rig: Rig) -> None:
    rig.hosts.at(THERE.host).script = lambda _: message(401, b"{}")
    rig.next = loaded(upstream__url=str(THERE), log__level="debug")

    assert "the key is refused" in await rig.fails()
    assert rig.host == HERE.host
    assert rig.learned == [rig.next.settings]  # its secrets must not show in what is said of it


async def test_everything_takes_effect_in_the_step_of_the_swap(rig: Rig) -> None:
    rig.next = loaded(upstream__url=str(THERE), log__level="debug")
    seen: list[tuple[str, int]] = []
    rig._build = lambda settings: lambda: seen.append((rig.host, rig.swapped))  # type: ignore[method-assign]
    rig.reloader._build = rig._build

    await rig.reloader.reload("test")

    assert seen == [(HERE.host, 0)]
    assert (rig.host, rig.swapped) == (THERE.host, 1)


async def test_a_warning_is_told_when_it_is_new(rig: Rig) -> None:
    rig.next = Loaded(rig.reloader.settings, ("a file value has no effect",), rig.reloader.loaded.origins)
    assert (await rig.reloader.reload("test")).warnings == ["a file value has no effect"]
    assert (await rig.reloader.reload("test")).warnings == []


async def test_one_reload_at_a_time(rig: Rig) -> None:
    rig.next = loaded(upstream__url=str(THERE))
    first, second = (asyncio.ensure_future(rig.reloader.reload(why)) for why in ("one", "two"))
    await asyncio.gather(first, second)

    assert rig.swapped == 1
    assert (first.result().changed, second.result().changed) == (["upstream.url", "upstream.allowed_hosts"], [])


async def test_many_who_ask_at_once_get_one_reload_that_began_after_all_of_them(
    rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    async with rig.switcher.lock:
        for _ in range(100):
            rig.reloader.ask("SIGHUP")
            await turns(2)
        rig.next = loaded(lanes__depth="7")
    await until(lambda: rig.settled == 1)
    rig.reloader.ask("SIGHUP")
    await until(lambda: rig.settled == 2)

    told = [record.message for record in caplog.records if record.name == "proxy.reloading"]
    assert told == ["settings reloaded"] * 2
    assert rig.reloader.settings.lanes.depth == 7


async def test_who_asks_after_the_stop_changes_nothing(rig: Rig) -> None:
    await rig.reloader.stop()

    rig.reloader.ask("SIGHUP")
    await turns(20)

    assert rig.settled == 0
    assert "reload" not in {task.get_name() for task in asyncio.all_tasks()}


async def watched(rig: Rig, seconds: float) -> None:
    """Let time pass, a look at a time; a look, and what it may set off, is the one thread's."""
    loop = asyncio.get_running_loop()
    for _ in range(round(seconds / LOOK_EVERY)):
        await rig.wall.pass_by(LOOK_EVERY)
        for _ in range(3):
            await loop.run_in_executor(None, int)  # behind whatever it has to do
            await turns(20)


@pytest.fixture
async def followed(tmp_path: Path) -> AsyncIterator[tuple[Rig, Path]]:
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))
    file = tmp_path / "talon-proxy.toml"
    file.write_text("one")
    began = loaded()
    made = Rig(Loaded(began.settings, (), began.origins, (file,)))
    made.next = Loaded(began.settings, (), began.origins, (file,))
    made.reloader.start()
    yield made, file
    await made.reloader.stop()
    await made.end()


async def test_a_file_that_changes_is_reloaded_once(followed: tuple[Rig, Path]) -> None:
    rig, file = followed
    await watched(rig, 3)
    assert rig.settled == 0

    file.write_text("two!")
    await watched(rig, 4)
    assert rig.settled == 1


async def test_a_file_that_changes_while_it_is_being_taken_over_is_reloaded_again(
    followed: tuple[Rig, Path], tmp_path: Path
) -> None:
    """To verify what it says takes a while."""
    rig, file = followed
    key = tmp_path / "key"
    key.write_text("old")
    rig.next = Loaded(rig.reloader.settings, (), rig.reloader.loaded.origins, (file, key))
    build = rig.reloader._build

    def meanwhile(settings: Settings) -> Callable[[], None]:
        key.write_text("newer")
        return build(settings)

    rig.reloader._build = meanwhile
    await rig.reloader.reload("test")
    assert rig.settled == 1
    await watched(rig, 4)

    assert rig.settled == 2


async def test_a_failed_reload_is_tried_again_and_told_once(
    followed: tuple[Rig, Path], caplog: pytest.LogCaptureFixture
) -> None:
    """What it failed for may be in a file that nobody watches, or at Talon.One."""
    rig, file = followed
    good = rig.next
    rig.next = SettingsError([Problem("/run/secrets/key cannot be read")])
    with caplog.at_level(logging.ERROR):
        file.write_text("two!")
        await watched(rig, 3 + AGAIN_FIRST * 3)
    assert rig.settled == 0
    assert [record.name for record in caplog.records].count("proxy.reloading") == 1  # names may not be resolved either

    rig.next = good
    await watched(rig, AGAIN_FIRST * 4)
    assert rig.settled == 1
    assert rig.reloader.failure is None


async def test_a_defect_is_logged_and_watching_goes_on(
    followed: tuple[Rig, Path], caplog: pytest.LogCaptureFixture
) -> None:
    rig, file = followed
    good = rig.next
    rig.next = RuntimeError("a defect")
    with caplog.at_level(logging.ERROR):
        file.write_text("two!")
        await watched(rig, 4)
    assert "a defect" in caplog.text

    rig.next = good
    file.write_text("three")
    await watched(rig, 4)
    assert rig.settled == 1


async def test_settings_that_came_from_nowhere_are_not_reloaded() -> None:
    rig = Rig(loaded())
    rig.reloader._load = None
    rig.reloader.start()
    assert "not read from anywhere" in await rig.fails()
    await rig.reloader.stop()
    await rig.end()
