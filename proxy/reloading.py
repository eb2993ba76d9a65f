"""Reloading: settings are read again, and take effect whole or not at all.

Parse, validate, build, verify, swap, drain. Up to the swap nothing has changed; the swap is one step, with no await in
it. What went wrong is told to whoever asked, in the log, in `/status` and by
`talon_proxy_config_last_reload_successful`; the settings that run go on.

Asked for by SIGHUP, by `POST /-/reload`, and by the content of a file that changes (`watching`). A reload that failed
is tried again by itself: what was missing may be there by then, in a file that nobody watches, or at Talon.One.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from proxy.settings import Loaded, Settings, SettingsError, changed, need_restart
from proxy.switching import Switcher
from proxy.verification import Unverified
from proxy.watching import Watch

_LOG = logging.getLogger(__name__)
LOOK_EVERY = 1.0  # seconds between looks at the files
AGAIN_FIRST, AGAIN_LONGEST = 10.0, 60.0  # seconds until a failed reload is tried again
_AGAIN = "the last reload failed"


class ReloadFailed(Exception):
    """The settings that run stay; the text says why. It shows no secret, as texts of problems do not."""


@dataclass(frozen=True, slots=True)
class Reloaded:
    """What a reload did. `changed` and `restart` are keys: with another value, and of these without effect so far."""

    changed: Sequence[str]
    restart: Sequence[str]
    warnings: Sequence[str]


class Reloader:
    """Holds the settings in effect, and replaces them."""

    def __init__(
        self,
        loaded: Loaded,
        load: Callable[[], Loaded] | None,
        switcher: Switcher,
        *,
        build: Callable[[Settings], Callable[[], None]],
        learn: Callable[[Settings], None],
        settled: Callable[[], Awaitable[None]],
        clock: Callable[[], float],
        now: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """`load` reads the settings anew, in a thread; may raise SettingsError. None: they cannot be read again.

        `build` makes all that follows from settings, and gives what puts it into effect: that must not raise. `learn`
        is told of settings before anything else is done with them: their secrets must not show. `settled` is awaited
        once they are in effect. `now` gives Unix time.
        """
        self.loaded = loaded
        self.failure: str | None = None  # of the last reload
        self.reloaded = now()  # when settings were last taken over
        self._began_with = loaded.settings
        self._load = load
        self._switcher = switcher
        self._build = build
        self._learn = learn
        self._settled = settled
        self._clock = clock
        self._now = now
        self._sleep = sleep
        self._watch = Watch(loaded.files)
        self._again_at: float | None = None
        self._delay = AGAIN_FIRST
        self._task: asyncio.Task[None] | None = None
        self._asked: set[asyncio.Task[None]] = set()
        self._waiting = False  # one that was asked for has not begun to read
        self._stopped = False

    def __repr__(self) -> str:
        return f"<Reloader failure={self.failure is not None} {self._watch!r}>"

    @property
    def settings(self) -> Settings:
        """Those in effect."""
        return self.loaded.settings

    @property
    def restart(self) -> Sequence[str]:
        """Keys whose value takes effect in a new process only."""
        return need_restart(changed(self._began_with, self.settings))

    # --- when ---

    def start(self) -> None:
        """Begin to watch the files."""
        if self._load is not None:
            self._task = asyncio.get_running_loop().create_task(self._follow_files(), name="watch settings")

    async def stop(self) -> None:
        """Reload no more."""
        self._stopped = True
        tasks = [*self._asked, *([self._task] if self._task is not None else [])]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    def ask(self, why: str) -> None:
        """Reload soon; whatever comes of it is told in the log. One that has yet to read will do for all who ask."""
        if self._waiting or self._stopped:
            return
        self._waiting = True
        task = asyncio.get_running_loop().create_task(self._try(why), name="reload")
        self._asked.add(task)
        task.add_done_callback(self._asked.discard)

    async def _follow_files(self) -> None:
        while True:
            await self._sleep(LOOK_EVERY)
            if await asyncio.to_thread(self._watch.look):
                await self._try("a file has changed")
            elif self._again_at is not None and self._clock() >= self._again_at:
                await self._try(_AGAIN)

    async def _try(self, why: str) -> None:
        try:
            await self.reload(why)
        except ReloadFailed:
            pass  # told already
        except Exception:
            # A defect of ours must not be the end of watching.
            _LOG.exception("reloading failed")

    # --- what ---

    async def reload(self, why: str) -> Reloaded:
        """Read the settings again and take them over. Raises ReloadFailed; nothing has changed then."""
        async with self._switcher.lock:
            try:
                done = await self._reload()
            except (SettingsError, Unverified, OSError) as error:
                self._failed(why, str(error))
                raise ReloadFailed(str(error)) from error
            fields = {"why": why, "changed": done.changed, "restart_needed": done.restart}
            _LOG.info("settings reloaded", extra={"fields": fields})
            for warning in done.warnings:
                _LOG.warning("%s", warning)
            self.failure = self._again_at = None
            self._delay = AGAIN_FIRST
            self.reloaded = self._now()
            await self._settled()
            return done

    async def _reload(self) -> Reloaded:
        self._waiting = False
        if self._load is None:
            raise OSError("these settings were not read from anywhere")
        loaded, watch = await asyncio.to_thread(self._read, self._load)
        settings = loaded.settings
        self._learn(settings)
        put_into_effect = self._build(settings)
        wanted = self._switcher.wanted(settings)
        if self._switcher.serves(wanted):
            generation = None
        else:
            generation = await self._switcher.prepare(settings, wanted)
        # From here on nothing can go wrong, and nobody else has a turn.
        keys = changed(self.settings, settings)
        new = [warning for warning in loaded.warnings if warning not in self.loaded.warnings]
        if watch is not None:
            self._watch = watch
        self.loaded = loaded
        put_into_effect()
        if generation is not None:
            self._switcher.commit(generation, wanted, why="settings")
        self._switcher.settle(settings)
        return Reloaded(keys, self.restart, new)

    def _read(self, load: Callable[[], Loaded]) -> tuple[Loaded, Watch | None]:
        """Read the settings anew, and how their files are now where those are others than before.

        That is at once, because what follows takes a while; and another watch, because a thread may be looking with the
        one there is.
        """
        loaded = load()
        return loaded, None if set(loaded.files) == set(self.loaded.files) else Watch(loaded.files)

    def _failed(self, why: str, reason: str) -> None:
        self._again_at = self._clock() + self._delay
        self._delay = min(self._delay * 2, AGAIN_LONGEST)
        if why != _AGAIN or reason != self.failure:
            # One a line: a value of the log has a limited length.
            fields = {"why": why, "reason": [line.strip() for line in reason.splitlines()]}
            _LOG.error("settings were not reloaded, the old ones stay", extra={"fields": fields})
        self.failure = reason
