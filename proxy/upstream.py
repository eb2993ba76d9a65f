"""The current target: one URL, the keys that may go there, its connections, its number.

A generation is one URL with its key set and its pool: OPENING ⇒ SERVING ⇒ DRAINING ⇒ CLOSED. It is made whole and
replaced whole; a key of one is never sent to the host of another. An attempt takes the generation that is current at
its start, and stays with it. A swap is one assignment: the attempts after it go to the new host; exchanges under way
end on the old one, for at most `upstream.drain`, and are then given up with an unknown outcome.
"""

import asyncio
import logging
import ssl
from collections import Counter
from collections.abc import Callable, Sequence
from enum import Enum, auto
from typing import Final

from proxy.keyset import KeySet
from proxy.settings import Origin
from proxy.wire.connection import Closing
from proxy.wire.dialing import Dialer, Wanted
from proxy.wire.egress import Egress, EgressRules
from proxy.wire.fieldtable import FieldTable
from proxy.wire.pool import Pool, PoolLimits
from proxy.wire.wheel import Wheel

_LOG: Final = logging.getLogger(__name__)
DIRECT: Final = EgressRules()


class State(Enum):
    """Of a generation."""

    OPENING = auto()
    SERVING = auto()
    DRAINING = auto()
    CLOSED = auto()


class Generation:
    """One target."""

    def __init__(
        self,
        origin: Origin,
        keys: KeySet,
        tls: ssl.SSLContext | None,
        wheel: Wheel,
        limits: PoolLimits,
        *,
        table: FieldTable,
        protocol: Wanted = "auto",
        connect_timeout: float,
        egress: EgressRules = DIRECT,
        ended: Callable[[int], None] | None = None,
    ) -> None:
        self.number = 1  # of those that served
        self.origin = origin
        self.keys = keys
        self.host_line = b"Host: %b\r\n" % origin.authority.encode()
        self.state = State.OPENING
        self.egress = Egress(origin.host, origin.port, egress, wheel=wheel)
        dialer = Dialer(self.egress, tls, protocol=protocol, timeout=connect_timeout, clock=wheel.clock)
        self.pool = Pool(dialer, wheel, limits, table=table, ended=ended)

    def __repr__(self) -> str:
        return f"<Generation {self.number} {self.state.name} {self.keys!r} {self.pool!r}>"

    def open(self, *, expecting: int = 0) -> None:
        """OPENING ⇒ SERVING: calls may come; connections are opened ahead.

        `expecting`: exchanges at once that will come; of a switch, those that the old pool expected.
        """
        self.state = State.SERVING
        self.egress.start()
        self.pool.start(expecting=expecting)

    def leave(self) -> None:
        """SERVING ⇒ DRAINING: no new exchange from this step on; who waits for a connection goes elsewhere."""
        self.state = State.DRAINING
        self.egress.stop()
        self.pool.leave()

    async def drain(self, within: float | None = None) -> int:
        """⇒ DRAINING ⇒ CLOSED: no new exchange, those under way end. Gives how many were cut off.

        `within`: seconds after which the rest is given up, with an unknown outcome; None: never.
        """
        self.leave()
        cut_off = 0
        try:
            async with asyncio.timeout(within):
                await self.pool.close()
        except TimeoutError:
            cut_off = self.pool.active
            self.abort()
            await self.pool.close()
        self.state = State.CLOSED
        return cut_off

    def abort(self) -> None:
        """⇒ CLOSED, now."""
        self.state = State.CLOSED
        self.egress.stop()
        self.pool.abort()


class Upstream:
    """Holds the current generation, and those that are being left. A generation is replaced, never changed."""

    def __init__(self, generation: Generation) -> None:
        self.current = generation
        self._draining: dict[asyncio.Task[None], Generation] = {}
        self._opened = 0  # by generations that are closed
        self._closed: Counter[Closing] = Counter()

    def __repr__(self) -> str:
        return f"<Upstream {self.current!r} draining={len(self._draining)}>"

    @property
    def draining(self) -> Sequence[Generation]:
        """Generations that are being left."""
        return list(self._draining.values())

    @property
    def opened(self) -> int:
        """Connections opened by all generations that ever served."""
        return self._opened + sum(generation.pool.opened for generation in (self.current, *self.draining))

    @property
    def closed(self) -> Counter[Closing]:
        """Connections of all generations that ever served, by the reason they were closed for."""
        total = Counter(self._closed)
        for generation in (self.current, *self.draining):
            total.update(generation.pool.closed)
        return total

    def swap(self, generation: Generation, *, drain: float) -> None:
        """Let a generation that was opened and verified serve. `drain`: seconds the old one has to end its exchanges.

        Attempts that wait for a connection of the old one move over before this returns.
        """
        old, self.current = self.current, generation
        generation.number = old.number + 1
        generation.open(expecting=old.pool.expected)
        # In this step, not in the task: a connection that came free until then would be used once more.
        old.leave()
        task = asyncio.get_running_loop().create_task(self._leave(old, drain), name=f"drain generation {old.number}")
        self._draining[task] = old
        task.add_done_callback(self._left)

    async def _leave(self, old: Generation, within: float) -> None:
        cut_off = await old.drain(within)
        level = logging.WARNING if cut_off else logging.INFO
        _LOG.log(level, "left an upstream", extra={"fields": {"generation": old.number, "cut_off": cut_off}})

    def _left(self, task: "asyncio.Task[None]") -> None:
        old = self._draining.pop(task)
        self._opened += old.pool.opened
        self._closed.update(old.pool.closed)
        if not task.cancelled() and (error := task.exception()) is not None:
            _LOG.error("leaving an upstream failed", exc_info=error)

    def abort(self) -> None:
        """Give up every connection of every generation; what was sent ends with an unknown outcome."""
        for generation in (*self.draining, self.current):
            generation.abort()

    async def close(self) -> None:
        """Close what is left of every generation, once nothing is under way."""
        leaving = list(self._draining)
        for generation in self.draining:
            generation.abort()
        if leaving:
            await asyncio.wait(leaving)
        await self.current.drain()
