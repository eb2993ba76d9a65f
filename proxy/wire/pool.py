"""The connections to one upstream: warm ones kept, most recently used first, never more than the maximum.

A connection idle longest is left to age out, so that a quiet shop keeps few. Waiting for a connection is first
come, first served: while anybody waits, a freed connection goes to who waits longest, and a newcomer queues.

Connections are opened before they are needed: there are always `warm` more, in use or idle, than lately were needed at
once (`demand`), and one that will soon be idle too long is replaced before it goes. Such openings are few at a time.
A connection is renewed before the peer's idle limit and after its maximum age (± 20 %, so that not all go at once);
then DNS changes and load balancers behind the name are followed.
"""

import asyncio
import contextlib
import logging
import random
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from proxy.errors import ConnectionLost, InternalError, ProxyError
from proxy.messages import Sent
from proxy.wire.demand import EBB, Demand
from proxy.wire.dialing import Dialer, Opened
from proxy.wire.fieldtable import FieldTable
from proxy.wire.heads import ReplyParser
from proxy.wire.http1 import Closing, Connection, State
from proxy.wire.wheel import NEVER, Wheel

_LOG = logging.getLogger(__name__)
AGE_SPREAD = 0.2
SHORTEST_IDLE = 1.0  # seconds; an observed idle limit is never taken to be less
CAUTION = 0.8  # of the idle time after which a peer was seen to close
BOLDNESS = 1.05
HELD_SHARE = 4
REOPEN_FIRST, REOPEN_LONGEST = 0.5, 15.0  # seconds between attempts to open ahead, after a failure
HERD = 16  # openings at once for those who wait: with more, handshakes keep the connections there are from serving them
AHEAD = 4  # openings at once that nobody waits for: no herd of handshakes, here or at Talon.One
REPLACE_BEFORE = 1.0  # seconds before an idle connection is given up; of a short idle time at most a quarter


@dataclass(frozen=True, slots=True)
class PoolLimits:
    """Settings `upstream.connections.*`; times in seconds, `reply` in bytes. `warm` = 0: none is opened ahead."""

    warm: int
    max: int
    idle_timeout: float
    max_age: float
    reply: int


class Waiter(Protocol):
    """Who waits for a connection; told once, in the step in which it is known."""

    def granted(self, connection: Connection, opened: Opened | None) -> None:
        """Use it now. `opened`: it was opened for this."""
        ...

    def refused(self, error: ProxyError) -> None:
        """There is none; nothing was sent."""
        ...


class Pool:
    """Hands out connections and takes them back."""

    def __init__(
        self,
        dialer: Dialer,
        wheel: Wheel,
        limits: PoolLimits,
        *,
        table: FieldTable,
        ended: Callable[[int], None] | None = None,
    ) -> None:
        self._parser = ReplyParser(table)
        self._dialer = dialer
        self._wheel = wheel
        self._limits = limits
        self._idle: list[Connection] = []  # most recently used last
        self._active: set[Connection] = set()
        self._waiting: deque[Waiter] = deque()
        self._opening: set[asyncio.Task[tuple[Connection, Opened]]] = set()
        self._idle_limit = limits.idle_timeout
        self._care = wheel.alarm(self._take_care)
        self._demand = Demand()
        self._tide = wheel.alarm(self._ebb)
        self._reopen_at = 0.0
        self._reopen_delay = REOPEN_FIRST
        self._closing = False
        self._drained = asyncio.Event()
        self.opened = 0
        self.closed: Counter[Closing] = Counter()
        self._ended = ended  # told how many requests a closed connection has served

    def __repr__(self) -> str:
        return f"<Pool idle={self.idle} active={self.active} opening={self.opening} waiting={len(self._waiting)}>"

    @property
    def idle(self) -> int:
        """Connections that wait for work."""
        return len(self._idle)

    @property
    def active(self) -> int:
        """Connections with an exchange, held ones included."""
        return len(self._active)

    @property
    def held(self) -> int:
        """Connections that are kept only to see the end of an exchange."""
        return sum(connection.state is State.HELD for connection in self._active)

    def may_hold(self) -> bool:
        """One more connection may be held: a quarter of the maximum."""
        return self.held < self._limits.max // HELD_SHARE

    @property
    def opening(self) -> int:
        """Connections being opened."""
        return len(self._opening)

    @property
    def warm(self) -> bool:
        """The warm minimum stands."""
        return self.idle + self.active >= min(self._limits.warm, self._limits.max)

    @property
    def idle_limit(self) -> float:
        """Seconds after which an idle connection is given up: as set, or less where the peer was quicker."""
        return self._idle_limit

    @property
    def expected(self) -> int:
        """Connections that calls are expected to need at once."""
        return self._demand.expected

    def start(self, *, expecting: int = 0) -> None:
        """Open connections ahead: the warm minimum, and those that calls will need at once."""
        if expecting:
            self._expect(expecting)
        self._take_care()

    # --- handing out ---

    def take(self) -> Connection | None:
        """Give an idle connection, now; None: `wait` for one."""
        while self._idle and not self._waiting:
            connection = self._idle[-1]
            now = self._wheel.clock()
            if self._due(connection) <= now:
                self._retire(connection, now)
            elif connection.hung_up(now):
                connection.close(Closing.PEER)
            else:
                self._idle.pop()
                self._active.add(connection)
                if len(self._active) > self._demand.peak:
                    self._expect(len(self._active))
                return connection
        return None

    def wait(self, waiter: Waiter) -> None:
        """Queue for a freed connection, or one opened for this; how long is the waiter's to say, by `withdraw`."""
        if self._closing:
            waiter.refused(_given_up())
            return
        self._waiting.append(waiter)
        self._open_for_waiting()
        if self._needed > self._demand.peak:
            self._expect(self._needed)

    def withdraw(self, waiter: Waiter) -> None:
        """Wait no more."""
        with contextlib.suppress(ValueError):
            self._waiting.remove(waiter)

    def release(self, connection: Connection) -> None:
        """Take back a connection that was handed out and not used."""
        # In a turn of its own: whoever gets it next may give it back as well, and so on down the queue.
        asyncio.get_running_loop().call_soon(self._freed, connection)

    def _freed(self, connection: Connection) -> None:
        """An exchange ended and its connection may serve again."""
        if self._closing:
            connection.close(Closing.SWITCH)
        elif connection.renew_at <= self._wheel.clock():
            connection.close(Closing.AGE)
        elif connection.state is State.IDLE:
            self._active.discard(connection)
            if not self._grant(connection):
                self._keep(connection)

    def _keep(self, connection: Connection) -> None:
        self._idle.append(connection)
        fades = self._fades(connection)
        if fades < self._care.due:
            self._care.set(fades)

    def _grant(self, connection: Connection, opened: Opened | None = None) -> bool:
        """Give a connection to who waits longest."""
        if not self._waiting:
            return False
        self._active.add(connection)
        self._waiting.popleft().granted(connection, opened)
        return True

    def _lost(self, connection: Connection) -> None:
        """A connection closed, for whatever reason."""
        if connection in self._active:
            self._active.discard(connection)
        elif connection in self._idle:
            self._idle.remove(connection)
            if connection.closing is Closing.PEER:
                self._learn_idle_limit(connection)
        else:
            return  # it never came so far as to serve
        assert connection.closing is not None
        self.closed[connection.closing] += 1
        if self._ended is not None:
            self._ended(connection.served)
        if self._closing:
            self._check_drained()
            return
        self._open_for_waiting()
        self._care_soon()

    def _learn_idle_limit(self, connection: Connection) -> None:
        """The peer closed an idle connection: stay below what it seems to allow, and forget it slowly."""
        idle = self._wheel.clock() - connection.idle_since
        if SHORTEST_IDLE < idle < self._idle_limit:
            self._idle_limit = max(idle * CAUTION, SHORTEST_IDLE)

    # --- opening ---

    @property
    def _total(self) -> int:
        return self.idle + self.active + self.opening

    @property
    def _needed(self) -> int:
        return self.active + len(self._waiting)

    @property
    def _wanted(self) -> int:
        """How many there should be."""
        warm, most = self._limits.warm, self._limits.max
        return min(warm + self._demand.expected, most) if warm else 0

    def _expect(self, needed: int) -> None:
        """So many are needed at once, which may happen again."""
        self._demand.rise(min(needed, self._limits.max))
        if self._tide.due == NEVER:
            self._tide.set(self._wheel.clock() + EBB)
        if self._total < self._wanted:
            self._care_soon()

    def _ebb(self) -> None:
        self._demand.ebb(min(self._needed, self._limits.max))
        if self._demand.expected:
            self._tide.set(self._wheel.clock() + EBB)

    def _open_for_waiting(self) -> None:
        """One opening per waiting call, some at a time, as far as the maximum goes."""
        needed = min(len(self._waiting), HERD)
        while self.opening < needed and self._total < self._limits.max and not self._closing:
            self._open()

    def _open(self) -> None:
        task = asyncio.get_running_loop().create_task(self._dial(), name="upstream connection")
        self._opening.add(task)
        task.add_done_callback(self._settle)

    async def _dial(self) -> tuple[Connection, Opened]:
        connection = Connection(
            self._wheel, reply_limit=self._limits.reply, parser=self._parser, freed=self._freed, lost=self._lost
        )
        opened = await self._dialer.open(connection)
        return connection, opened

    def _settle(self, task: "asyncio.Task[tuple[Connection, Opened]]") -> None:
        """An opening ended."""
        self._opening.discard(task)
        if task.cancelled():
            return
        error = task.exception()
        if error is not None:
            self._failed(error)
            return
        connection, opened = task.result()
        if self._closing:
            connection.close(Closing.SWITCH)
            return
        if connection.state is not State.IDLE:
            self._failed(ConnectionLost("The connection ended as soon as it was open", sent=Sent.NO))
            return
        self._reopen_delay = REOPEN_FIRST
        self._reopen_at = 0.0
        self.opened += 1
        age = self._limits.max_age * random.uniform(1 - AGE_SPREAD, 1 + AGE_SPREAD)  # noqa: S311
        connection.renew_at = self._wheel.clock() + age
        if not self._grant(connection, opened):
            self._keep(connection)
        self._open_for_waiting()
        if self._total < self._wanted:
            self._care_soon()

    def _failed(self, error: BaseException) -> None:
        """Tell the call that waits longest, unless there is another opening for each that waits."""
        self._reopen_at = self._wheel.clock() + self._reopen_delay
        self._reopen_delay = min(self._reopen_delay * 2, REOPEN_LONGEST)
        if not isinstance(error, ProxyError):
            _LOG.error("opening a connection failed", exc_info=error)
            error = InternalError(sent=Sent.NO)
        if len(self._waiting) > self.opening:
            self._waiting.popleft().refused(error)
        self._open_for_waiting()
        self._care_soon()

    # --- keeping ---

    def _care_soon(self) -> None:
        """Look after the connections when the first idle one is due or to be replaced, or one can be opened ahead."""
        if self._closing:
            return
        now = self._wheel.clock()
        # One that fades already has been thought of: next it is due.
        moments = [self._fades(connection) for connection in self._idle]
        moments = [m if m > now else self._due(c) for m, c in zip(moments, self._idle, strict=True)]
        if self._short(now):
            moments.append(max(self._reopen_at, now))
        if moments:
            self._care.set(min(moments))

    def _short(self, now: float) -> bool:
        """There are too few that will last, and one more may be opened."""
        wanted = self._wanted
        if self.opening >= AHEAD or self._total >= self._limits.max:
            return False
        return self._total - sum(self._fades(connection) <= now for connection in self._idle) < wanted

    def _fades(self, connection: Connection) -> float:
        """The moment from which an idle connection is not counted on: it is replaced before it goes."""
        due = self._due(connection)
        return due - min(REPLACE_BEFORE, max(due - connection.idle_since, 0.0) / 4)

    def _due(self, connection: Connection) -> float:
        limit = self._idle_limit
        if connection.keep_alive is not None:
            # One second less than the peer says: its clock started when it sent the answer.
            limit = min(limit, max(connection.keep_alive - 1.0, connection.keep_alive / 2))
        return min(connection.idle_since + limit, connection.renew_at)

    def _take_care(self) -> None:
        """Close what is idle too long or too old, and open what should be there, some at a time."""
        now = self._wheel.clock()
        due = [connection for connection in self._idle if self._due(connection) <= now]
        if any(connection.renew_at > now and connection.keep_alive is None for connection in due):
            # They stood as long as we dared: dare a little more next time.
            self._idle_limit = min(self._idle_limit * BOLDNESS, self._limits.idle_timeout)
        for connection in due:
            self._retire(connection, now)
        if now >= self._reopen_at:
            while self._short(now):
                self._open()
        self._care_soon()

    def _retire(self, connection: Connection, now: float) -> None:
        connection.close(Closing.AGE if connection.renew_at <= now else Closing.IDLE)

    # --- closing ---

    async def close(self) -> None:
        """Give idle connections up, let exchanges end, then return. Who waits is told to go elsewhere."""
        self._stop_opening()
        for connection in list(self._idle):
            connection.close(Closing.SWITCH)
        if self._opening:
            await asyncio.wait(self._opening)
        self._check_drained()
        await self._drained.wait()

    def abort(self) -> None:
        """Give every connection up now."""
        self._stop_opening()
        for connection in [*self._idle, *self._active]:
            connection.close(Closing.ERROR)

    def _stop_opening(self) -> None:
        self._closing = True
        self._care.clear()
        self._tide.clear()
        for task in self._opening:
            task.cancel()
        while self._waiting:
            # One by one: what is told to one may make another withdraw.
            self._waiting.popleft().refused(_given_up())

    def _check_drained(self) -> None:
        if not self._idle and not self._active:
            self._drained.set()


def _given_up() -> ConnectionLost:
    return ConnectionLost("The connections to this upstream are being closed", sent=Sent.NO)
