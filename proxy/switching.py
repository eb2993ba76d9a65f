"""Switching: the one place where the proxy is pointed at another URL, or at the same one with other keys.

A generation is opened and verified first, then one reference is swapped, then the old one drains. Whatever goes wrong
before the swap changes nothing. One switch at a time (`lock`); a reload takes it too.

What a URL must be is the settings' to say (`upstream.allowed_hosts`), with no way around it: a switch sends the API
keys where it points. `force` spares only what Talon.One is asked: a URL may be needed while nothing answers there.
"""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from proxy.settings import Origin, Settings, refused_target
from proxy.target import Target, configured, target
from proxy.upstream import Generation, Upstream
from proxy.verification import Progress, Unverified, verify

_LOG = logging.getLogger(__name__)


class NotAllowed(Exception):
    """The settings do not allow this URL; the text says why."""


@dataclass(slots=True)
class Move:
    """A switch under way, for those who look."""

    url: str
    phase: str


class Switcher:
    """Moves the upstream from target to target."""

    def __init__(
        self,
        settings: Settings,
        upstream: Upstream,
        start: Target,
        *,
        make: Callable[[Settings, Target], Generation],
        swapped: Callable[[], None],
        now: Callable[[], datetime],
    ) -> None:
        """`start` is what `upstream` serves. `make` builds a generation, not open yet; may raise OSError.

        `swapped` is told after every swap, in its step.
        """
        self.lock = asyncio.Lock()
        self.override: Origin | None = None  # set at run time; lasts until restart
        self.move: Move | None = None
        self.settings = settings  # that hold
        self._upstream = upstream
        self._target = start
        self._make = make
        self._swapped = swapped
        self._now = now

    def __repr__(self) -> str:
        return f"<Switcher {self._target.origin} override={self.override}>"

    # --- what is wanted ---

    def wanted(self, settings: Settings) -> Target:
        """Give the target that these settings ask for. Raises OSError.

        The URL stays what it is unless another one is *configured* than before: a reload for another reason must not
        undo what was set at run time.
        """
        now = self._now()
        asked, current = configured(settings, now), self._target.origin
        stays = asked == configured(self.settings, now) and refused_target(settings, current) is None
        return target(settings, current if stays else asked)

    def at(self, origin: Origin) -> Target:
        """Give the target at a URL. Raises OSError."""
        return target(self.settings, origin)

    @property
    def origin(self) -> Origin:
        """Where calls go now."""
        return self._target.origin

    def serves(self, wanted: Target) -> bool:
        """Whether this is where calls go now."""
        return wanted == self._target

    # --- moving ---

    async def switch(self, origin: Origin, *, force: bool = False) -> Generation:
        """Point the proxy at a URL, at run time. Gives the generation that serves it then.

        Raises NotAllowed, Unverified (not with `force`) or OSError; nothing has changed then.
        """
        async with self.lock:
            reason = refused_target(self.settings, origin)
            if reason is not None:
                raise NotAllowed(reason)
            wanted = self.at(origin)
            if not self.serves(wanted):
                generation = await self.prepare(self.settings, wanted, force=force)
                self.commit(generation, wanted, why="asked for")
            self.settle(self.settings)
            return self._upstream.current

    async def prepare(self, settings: Settings, wanted: Target, *, force: bool = False) -> Generation:
        """Open and verify a generation of a target. Raises Unverified or OSError."""
        self.move = Move(str(wanted.origin), "connecting")
        generation = self._make(settings, wanted)
        connections = settings.upstream.connections
        try:
            await verify(
                generation,
                warm=min(connections.warm, connections.max),
                timeout=settings.upstream.timeouts.response,
                progress=_into(self.move),
            )
        except Unverified as reason:
            if not force:
                await self.discard(generation)
                raise
            _LOG.warning("switching all the same", extra={"fields": {"url": str(wanted.origin), "reason": str(reason)}})
        except BaseException:
            await self.discard(generation)
            raise
        finally:
            self.move = None
        return generation

    async def discard(self, generation: Generation) -> None:
        """Give a generation up that never served."""
        generation.abort()
        await generation.drain()

    def commit(self, generation: Generation, wanted: Target, *, why: str) -> None:
        """Let a generation serve. No await from here to the end of what belongs together."""
        old = self._upstream.current
        self._upstream.swap(generation, drain=self.settings.upstream.drain)
        self._target = wanted
        self._swapped()
        fields = {
            "why": why,
            "generation": generation.number,
            "url": str(wanted.origin),
            "from": str(old.origin),
            "keys": [f"{name} {' '.join(hints)}" for name, hints in generation.keys.hints().items()],
        }
        _LOG.info("switched to another upstream", extra={"fields": fields})

    def settle(self, settings: Settings) -> None:
        """Take these settings as those that hold, and see whether the current URL is the configured one."""
        self.settings = settings
        current = self._target.origin
        before, self.override = self.override, None if current == configured(settings, self._now()) else current
        if before != self.override:
            told = "is not the configured one, until restart" if self.override else "is the configured one again"
            _LOG.warning(f"the upstream URL {told}", extra={"fields": {"url": str(current)}})


def _into(move: Move) -> Progress:
    def progress(what: str) -> None:
        move.phase = what

    return progress
