"""A planned switch (`upstream.next`): one moment at which every proxy of a fleet leaves the old URL.

    WAITING ⇒ READY ⇒ HOLDING ⇒ DONE;  any before DONE ⇒ CANCELLED

WAITING: long before the moment the new URL and its keys are tried once, so that a mistake is told in time; shortly
before it they are opened and verified for good. READY: writes will stop at the moment by themselves, whatever this
process is doing then. HOLDING: nothing more is sent that writes; what was sent ends. Then the swap.

A write of one proxy must not reach the old host after one of another proxy has reached the new host. Their clocks
agree only so far, and a write needs time to arrive: so the swap waits for `SETTLE` too, not only for our own writes.
`upstream.next.hold` bounds all of it.

A URL that could not be verified by then is not switched to. The proxy stays where it is, says so, goes on trying, and
switches when it can.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from datetime import datetime
from enum import Enum, auto

from proxy.settings import Next, refused_target
from proxy.switching import Switcher
from proxy.target import Target
from proxy.traffic.hold import Hold
from proxy.upstream import Generation
from proxy.verification import Unverified

_LOG = logging.getLogger(__name__)
LEAD = 20.0  # seconds before the moment at which the new generation is opened
SETTLE = 1.0  # seconds that clocks of a fleet and writes on their way may differ by
AGAIN = 3.0  # seconds between attempts to verify
SLICE = 5.0  # seconds after which the wall clock is looked at again: it may be set meanwhile


class State(Enum):
    """Of a plan."""

    WAITING = auto()
    READY = auto()
    HOLDING = auto()
    DONE = auto()
    CANCELLED = auto()


class Plan:
    """One planned switch."""

    def __init__(
        self,
        planned: Next,
        switcher: Switcher,
        *,
        hold: Callable[[Hold], None],
        unhold: Callable[[], None],
        writing: Callable[[], bool],
        clock: Callable[[], float],
        now: Callable[[], datetime],
        sleep: Callable[[float], Awaitable[None]],
    ) -> None:
        """`planned` has a URL and a moment. `hold`, `unhold`: of writes. `writing`: one that was sent has no end yet.

        `now` is the wall clock.
        """
        self.state = State.WAITING
        assert planned.url is not None
        assert planned.at is not None
        self.url = planned.url
        self.at = planned.at
        self.reason: str | None = None  # why it cannot be done yet
        self._planned = planned
        self._longest = planned.hold
        self._wanted: Target | None = None  # once it is verified
        self._switcher = switcher
        self._hold = hold
        self._unhold = unhold
        self._writing = writing
        self._clock = clock
        self._now = now
        self._sleep = sleep
        self._task: asyncio.Task[None] | None = None
        self._serves = False  # the generation that this made

    def __repr__(self) -> str:
        return f"<Plan {self.state.name} {self.url} {self.at}>"

    def start(self) -> None:
        """Begin to wait for the moment."""
        self._task = asyncio.get_running_loop().create_task(self._run(), name="planned switch")
        self._task.add_done_callback(_ended)

    async def stop(self) -> None:
        """Leave it undone, if it is not done."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait((self._task,))
        if self.state is not State.DONE:
            self.state = State.CANCELLED

    @property
    def done(self) -> bool:
        """The switch was made."""
        return self.state is State.DONE

    def serves(self, planned: Next) -> bool:
        """Whether this is the plan that the settings ask for, with the keys they have now. Raises OSError."""
        if planned != self._planned or self.state is State.CANCELLED:
            return False
        return (
            self._wanted is None
            or self.state in (State.HOLDING, State.DONE)
            or self._wanted == self._switcher.at(self.url)
        )

    def _left(self) -> float:
        return (self.at - self._now()).total_seconds()

    async def _run(self) -> None:
        if self._left() > LEAD:
            await self._rehearse()
        while (left := self._left()) > LEAD:
            await self._sleep(min(left - LEAD, SLICE))
        while (found := await self._verified()) is None:
            await self._sleep(AGAIN)
        generation, wanted = found
        self._wanted = wanted
        try:
            await self._wait_and_swap(generation, wanted)
        finally:
            self._unhold()
            if not self._serves:
                await self._switcher.discard(generation)

    async def _rehearse(self) -> None:
        """Find out early whether it could be done."""
        found = await self._verified()
        if found is not None:
            await self._switcher.discard(found[0])
            _LOG.info("a switch is planned, and the new URL is fine", extra={"fields": self._told()})

    async def _verified(self) -> tuple[Generation, Target] | None:
        """Open and verify the new generation; None: it cannot be, and `reason` says why."""
        async with self._switcher.lock:
            before = self.reason
            self.reason = refused_target(self._switcher.settings, self.url)
            if self.reason is None:
                try:
                    wanted = self._switcher.at(self.url)
                    return await self._switcher.prepare(self._switcher.settings, wanted), wanted
                except (Unverified, OSError) as error:
                    self.reason = str(error)
            if self.reason != before or self._left() <= 0:
                _LOG.error("a planned switch cannot be done", extra={"fields": {**self._told(), "reason": self.reason}})
            return None

    async def _wait_and_swap(self, generation: Generation, wanted: Target) -> None:
        late = self._left() <= 0
        hold = Hold(self._clock() + max(self._left(), 0.0), self._clock)
        if self._longest:
            self._hold(hold)
        self.state = State.READY
        while (left := self._left()) > 0:
            # Anew each time: the wall clock may have been set.
            hold.at = self._clock() + left
            await self._sleep(min(left, SLICE))
        self.state = State.HOLDING
        hold.at = min(hold.at, self._clock())
        # Late, the other proxies have gone: only our own writes count.
        locked = await self._quiet(hold, 0.0 if late else min(SETTLE, self._longest))
        if not locked:
            self._unhold()
            await self._switcher.lock.acquire()
        try:
            if not self._switcher.serves(wanted):
                self._switcher.commit(generation, wanted, why="planned")
                self._serves = True
            self._switcher.settle(self._switcher.settings)
            self.state = State.DONE
        finally:
            self._switcher.lock.release()

    async def _quiet(self, hold: Hold, settle: float) -> bool:
        """Wait until no write is under way, and for so many seconds; at most `upstream.next.hold`.

        From here on nobody else switches: it comes back with the switcher's lock. False: it could not be had in time.
        """
        lock, locked = self._switcher.lock, False
        if not self._longest:
            return False
        try:
            async with asyncio.timeout(self._longest):
                locked = await lock.acquire()
                await self._sleep(settle)
                await hold.quiet(self._writing)
        except TimeoutError:
            _LOG.warning("writes to the old URL have not ended in time", extra={"fields": self._told()})
        except BaseException:
            if locked:
                lock.release()
            raise
        return locked

    def _told(self) -> dict[str, object]:
        return {"url": str(self.url), "at": self.at.isoformat()}


def _ended(task: "asyncio.Task[None]") -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        _LOG.error("a planned switch failed", exc_info=error)
