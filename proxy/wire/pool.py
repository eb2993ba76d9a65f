"""The connections to one upstream: warm ones kept, most recently used first, never more than the maximum.

A connection has slots: one for an exchange (HTTP/1.1), or many (HTTP/2). A new one is opened when no slot is free.
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
import sys
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Protocol

from proxy.errors import ConnectionLost, InternalError, ProxyError
from proxy.messages import Sent
from proxy.wire import http1, http2
from proxy.wire.buffers import Buffers
from proxy.wire.connection import HTTP1, HTTP2, Closing, Connection
from proxy.wire.demand import EBB, Demand
from proxy.wire.dialing import Dialer, Opened
from proxy.wire.fieldtable import FieldTable
from proxy.wire.h2fields import ReplyHeads, RequestBlocks
from proxy.wire.heads import ReplyParser
from proxy.wire.wheel import NEVER, Wheel

_LOG: Final = logging.getLogger(__name__)
AGE_SPREAD: Final = 0.2
SHORTEST_IDLE: Final = 1.0  # seconds; an observed idle limit is never taken to be less
CAUTION: Final = 0.8  # of the idle time after which a peer was seen to close
BOLDNESS: Final = 1.05
HELD_SHARE: Final = 4
REOPEN_FIRST, REOPEN_LONGEST = 0.5, 15.0  # seconds between attempts to open ahead, after a failure
# Openings at once for those who wait: with more, handshakes keep the connections there are from serving them.
HERD: Final = 16
AHEAD: Final = 4  # openings at once that nobody waits for: no herd of handshakes, here or at Talon.One
REPLACE_BEFORE: Final = 1.0  # seconds before an idle connection is given up; of a short idle time at most a quarter


@dataclass(frozen=True, slots=True)
class PoolLimits:
    """Settings `upstream.connections.*`; times in seconds, `reply` in bytes. `warm` = 0: none is opened ahead.

    `buffers`: what bounds all bodies together.
    """

    warm: int
    max: int
    idle_timeout: float
    max_age: float
    reply: int
    buffers: Buffers = field(default_factory=lambda: Buffers(sys.maxsize))


@dataclass(frozen=True, slots=True)
class Census:
    """How many connections of one protocol there are, by what they do."""

    protocol: str
    opening: int
    active: int
    idle: int
    held: int  # only to see the end of an exchange


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
        self._blocks = RequestBlocks(dialer.scheme)
        self._heads = ReplyHeads(table)
        self._dialer = dialer
        self._wheel = wheel
        self._limits = limits
        self._open: set[Connection] = set()
        self._free: list[Connection] = []  # those with a free slot, most recently used last
        self._waiting: deque[Waiter] = deque()
        self._opening: set[asyncio.Task[tuple[Connection, Opened]]] = set()
        self._idle_limit = limits.idle_timeout
        self._care = wheel.alarm(self._take_care)
        self._lent = 0  # slots handed out, of all connections
        self._demand = Demand()  # for slots
        self._tide = wheel.alarm(self._ebb)
        self._reopen_at = 0.0
        self._reopen_delay = REOPEN_FIRST
        self._closing = False
        self._drained = asyncio.Event()
        self.protocol = dialer.expected  # of the connection opened last
        self._slots = http2.MOST_STREAMS if self.protocol == HTTP2 else 1  # of that
        self.trouble: str | None = None  # why the last opening failed
        self.opened = 0
        self.closed: Counter[Closing] = Counter()
        self._ended = ended  # told how many requests a closed connection has served

    def __repr__(self) -> str:
        return f"<Pool idle={self.idle} active={self.active} opening={self.opening} waiting={len(self._waiting)}>"

    def census(self) -> list[Census]:
        """Count connections by protocol; one being opened counts as of the protocol seen last."""
        counts = []
        for protocol in (HTTP1, HTTP2):
            some = [connection for connection in self._open if connection.protocol == protocol]
            idle = [connection.lent for connection in some].count(0)
            held = sum([connection.lent == connection.held > 0 for connection in some])
            opening = self.opening if protocol == self.protocol else 0
            counts.append(Census(protocol, opening, active=len(some) - idle - held, idle=idle, held=held))
        return counts

    @property
    def idle(self) -> int:
        """Connections that wait for work."""
        return [connection.lent for connection in self._open].count(0)

    @property
    def active(self) -> int:
        """Connections with an exchange, or several."""
        return len(self._open) - self.idle

    @property
    def held(self) -> int:
        """Exchanges of which only the end is waited for."""
        return sum(connection.held for connection in self._open)

    def may_hold(self) -> bool:
        """One more exchange may be held: a quarter of the connections there may be."""
        return self.held < self._limits.max // HELD_SHARE

    @property
    def opening(self) -> int:
        """Connections being opened."""
        return len(self._opening)

    @property
    def warm(self) -> bool:
        """The warm minimum stands."""
        return len(self._open) >= min(self._limits.warm, self._limits.max)

    @property
    def idle_limit(self) -> float:
        """Seconds after which an idle connection is given up: as set, or less where the peer was quicker."""
        return self._idle_limit

    @property
    def expected(self) -> int:
        """Exchanges that are expected at once."""
        return self._demand.expected

    def start(self, *, expecting: int = 0) -> None:
        """Open connections ahead: the warm minimum, and those for so many exchanges at once."""
        if expecting:
            self._expect(expecting)
        self._take_care()

    # --- handing out ---

    def take(self) -> Connection | None:
        """Give a connection with a free slot, now; None: `wait` for one."""
        while self._free and not self._waiting:
            connection = self._free[-1]
            now = self._wheel.clock()
            if self._due(connection) <= now:
                self._free.pop()
                self._retire(connection, now)
            elif connection.hung_up(now):
                self._free.pop()
                connection.retire(Closing.PEER)
            else:
                connection.lent += 1
                self._lent += 1
                if connection.lent >= connection.slots:
                    self._free.pop()
                if self._lent > self._demand.peak:
                    self._expect(self._lent)
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

    def turn_away(self, error: ProxyError) -> None:
        """Tell all who wait that there is none."""
        for _ in range(len(self._waiting)):
            # One by one: what is told to one may make another withdraw, and who is told may come again.
            if not self._waiting:
                return
            self._waiting.popleft().refused(error)

    def release(self, connection: Connection) -> None:
        """Take back a slot that was handed out and not used."""
        # In a turn of its own: whoever gets it next may give it back as well, and so on down the queue.
        asyncio.get_running_loop().call_soon(self._freed, connection)

    def _freed(self, connection: Connection) -> None:
        """An exchange ended; its slot may serve again."""
        if connection not in self._open:
            return
        connection.lent -= 1
        self._lent -= 1
        if self._closing:
            connection.retire(Closing.SWITCH)
        elif connection.renew_at <= self._wheel.clock():
            self._withhold(connection)
            connection.retire(Closing.AGE)
        else:
            self._offer(connection)

    def _changed(self, connection: Connection) -> None:
        """A connection has more slots or less, or none any more."""
        self._withhold(connection)
        if connection in self._open:
            self._slots = connection.slots or self._slots
            self._offer(connection)
            self._open_for_waiting()

    def _offer(self, connection: Connection, opened: Opened | None = None) -> None:
        """Give its free slots to who waits longest, and keep the rest."""
        while self._waiting and connection.lent < connection.slots:
            connection.lent += 1
            self._lent += 1
            self._waiting.popleft().granted(connection, opened)
        # With its only slot free again it cannot stand there yet.
        if connection.lent < connection.slots and (connection.slots == 1 or connection not in self._free):
            self._free.append(connection)
        if not connection.lent:
            fades = self._fades(connection)
            if fades < self._care.due:
                self._care.set(fades)

    def _withhold(self, connection: Connection) -> None:
        """Hand out no slot of it."""
        if connection in self._free:
            self._free.remove(connection)

    def _lost(self, connection: Connection) -> None:
        """A connection closed, for whatever reason."""
        self._withhold(connection)
        if connection not in self._open:
            return  # it never came so far as to serve
        self._open.remove(connection)
        self._lent -= connection.lent
        if not connection.lent and connection.closing is Closing.PEER:
            self._learn_idle_limit(connection)
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
        return len(self._open) + self.opening

    @property
    def _needed(self) -> int:
        """Slots that are in use or waited for."""
        return self._lent + len(self._waiting)

    @property
    def _wanted(self) -> int:
        """How many connections there should be: with slots for what is expected, and `warm` more."""
        warm, most = self._limits.warm, self._limits.max
        return min(max(-(-(self._demand.expected + warm) // self._slots), warm), most) if warm else 0

    def _expect(self, needed: int) -> None:
        """So many slots are needed at once, which may happen again."""
        self._demand.rise(min(needed, self._limits.max * self._slots))
        if self._tide.due == NEVER:
            self._tide.set(self._wheel.clock() + EBB)
        if self._total < self._wanted:
            self._care_soon()

    def _ebb(self) -> None:
        self._demand.ebb(min(self._needed, self._limits.max * self._slots))
        if self._demand.expected:
            self._tide.set(self._wheel.clock() + EBB)

    def _open_for_waiting(self) -> None:
        """Open what those who wait need, some at a time, as far as the maximum goes."""
        needed = min(-(-len(self._waiting) // self._slots), HERD)
        while self.opening < needed and self._total < self._limits.max and not self._closing:
            self._begin_opening()

    def _begin_opening(self) -> None:
        task = asyncio.get_running_loop().create_task(self._dial(), name="upstream connection")
        self._opening.add(task)
        task.add_done_callback(self._settle)

    async def _dial(self) -> tuple[Connection, Opened]:
        return await self._dialer.open(self._make)

    def _make(self, protocol: str) -> Connection:
        reply_limit = self._limits.reply
        if protocol == HTTP1:
            return http1.Connection(
                self._wheel,
                reply_limit=reply_limit,
                buffers=self._limits.buffers,
                parser=self._parser,
                freed=self._freed,
                lost=self._lost,
            )
        return http2.Connection(
            self._wheel,
            reply_limit=reply_limit,
            buffers=self._limits.buffers,
            blocks=self._blocks,
            heads=self._heads,
            freed=self._freed,
            changed=self._changed,
            lost=self._lost,
        )

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
        if connection.closing is not None:
            self._failed(ConnectionLost("The connection ended as soon as it was open", sent=Sent.NO))
            return
        self._reopen_delay = REOPEN_FIRST
        self._reopen_at = 0.0
        self.trouble = None
        self.opened += 1
        age = self._limits.max_age * random.uniform(1 - AGE_SPREAD, 1 + AGE_SPREAD)  # noqa: S311
        connection.renew_at = self._wheel.clock() + age
        self.protocol = connection.protocol
        self._slots = connection.slots or self._slots
        self._open.add(connection)
        self._offer(connection, opened)
        self._open_for_waiting()  # it may take fewer than was thought
        if self._total < self._wanted:
            self._care_soon()

    def _failed(self, error: BaseException) -> None:
        """Tell those who wait longest, as many as the other openings leave without a slot."""
        self._reopen_at = self._wheel.clock() + self._reopen_delay
        self._reopen_delay = min(self._reopen_delay * 2, REOPEN_LONGEST)
        if isinstance(error, ProxyError):
            _forget_frames(error)
        else:
            _LOG.error("opening a connection failed", exc_info=error)
            error = InternalError(sent=Sent.NO)
        self.trouble = f"{error.message}: {error.details}"
        for _ in range(min(len(self._waiting) - self.opening * self._slots, self._slots)):
            if self._waiting:
                self._waiting.popleft().refused(error)
        self._open_for_waiting()
        self._care_soon()

    # --- keeping ---

    def _care_soon(self) -> None:
        """Look after the connections when the first idle one is due or to be replaced, or one can be opened ahead."""
        if self._closing:
            return
        now = self._wheel.clock()
        moments = []
        for connection in self._open:
            if not connection.lent:
                fades = self._fades(connection)
                # One that fades already has been thought of: next it is due.
                moments.append(fades if fades > now else self._due(connection))
        if self._short(now):
            moments.append(max(self._reopen_at, now))
        if moments:
            self._care.set(min(moments))

    def _short(self, now: float) -> bool:
        """There are too few that will last, and one more may be opened."""
        if self.opening >= AHEAD or self._total >= self._limits.max:
            return False
        fading = [not connection.lent and self._fades(connection) <= now for connection in self._open].count(True)
        return self._total - fading < self._wanted

    def _fades(self, connection: Connection) -> float:
        """The moment from which an idle connection is not counted on: it is replaced before it goes."""
        due = self._due(connection)
        return due - min(REPLACE_BEFORE, max(due - connection.idle_since, 0.0) / 4)

    def _due(self, connection: Connection) -> float:
        if connection.lent:
            return connection.renew_at
        limit = self._idle_limit
        if connection.keep_alive is not None:
            # One second less than the peer says: its clock started when it sent the answer.
            limit = min(limit, max(connection.keep_alive - 1.0, connection.keep_alive / 2))
        return min(connection.idle_since + limit, connection.renew_at)

    def _take_care(self) -> None:
        """Close what is idle too long or too old, and open what should be there, some at a time."""
        now = self._wheel.clock()
        due = [connection for connection in self._open if not connection.lent and self._due(connection) <= now]
        if any(connection.renew_at > now and connection.keep_alive is None for connection in due):
            # They stood as long as we dared: dare a little more next time.
            self._idle_limit = min(self._idle_limit * BOLDNESS, self._limits.idle_timeout)
        for connection in due:
            self._retire(connection, now)
        if now >= self._reopen_at:
            while self._short(now):
                self._begin_opening()
        self._care_soon()

    def _retire(self, connection: Connection, now: float) -> None:
        connection.retire(Closing.AGE if connection.renew_at <= now else Closing.IDLE)

    # --- closing ---

    def leave(self) -> None:
        """Begin no further exchange: idle connections are given up, and who waits is told to go elsewhere."""
        self._stop_opening()
        self._free.clear()  # one with streams under way would stand there until they have ended
        for connection in list(self._open):
            connection.retire(Closing.SWITCH)

    async def close(self) -> None:
        """Leave, let exchanges end, then return."""
        self.leave()
        if self._opening:
            await asyncio.wait(self._opening)
        self._check_drained()
        await self._drained.wait()

    def abort(self) -> None:
        """Give every connection up now."""
        self._stop_opening()
        for connection in list(self._open):
            connection.close(Closing.ERROR)

    def _stop_opening(self) -> None:
        self._closing = True
        self._care.end()
        self._tide.end()
        for task in self._opening:
            task.cancel()
        self.turn_away(_given_up())

    def _check_drained(self) -> None:
        if not self._open:
            self._drained.set()


def _forget_frames(error: BaseException) -> None:
    """Nobody is shown where it was raised; frames there hold it, and it them, for the collector to find."""
    cause: BaseException | None = error
    while cause is not None:
        cause.__traceback__ = None
        cause = cause.__context__


def _given_up() -> ConnectionLost:
    return ConnectionLost("The connections to this upstream are being closed", sent=Sent.NO)
