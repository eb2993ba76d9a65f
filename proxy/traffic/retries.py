"""Retries: what may be tried again, and when (design.md §6). Pure, but for the budget's counting.

"Was anything sent" decides, and every error knows it. What is tried again keeps its place; nothing is tried again
without a caller who has time left, which is for `attempts` to see.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Final

from proxy.errors import (
    ConnectionLost,
    ConnectTimeout,
    IncompleteReply,
    NameTimeout,
    ProxyError,
    UpstreamError,
)
from proxy.messages import Timeline
from proxy.wire.dialing import is_permanent

# Seconds after the first written byte within which a reused connection may have been closed before.
IDLE_CLOSE: Final = 0.25
# Seconds, from and to, before a read is repeated that Talon.One could not answer; three calls a second are taken per
# endpoint. Not Final: mypyc takes a Final tuple of floats for one that was never set.
STATUS_WAIT = 0.1, 0.3
THROTTLED_WAIT = 0.4, 1.0
UNAVAILABLE: Final = frozenset({502, 503, 504})
UNKNOWN: Final = frozenset({502, 504})  # a gateway's word for "I do not know what became of it"
TOO_MANY: Final = 429
CONFLICT: Final = 409


class Reason(Enum):
    """Why an attempt is made again, as metrics name it."""

    CONNECTION = "connection"  # the one before failed before anything was sent
    LOST = "lost"  # its connection was lost, and the call may be repeated
    IDLE_CLOSE = "idle_close"  # the peer closed an idle connection while the call was on its way
    STATUS = "status"  # Talon.One answered 502, 503 or 504
    THROTTLED = "throttled"  # it answered 429
    CONFLICT = "conflict"  # another update of the session or profile was in the way
    KEY = "key"  # its key was refused, and there is another


@dataclass(frozen=True, slots=True)
class Rules:
    """Settings `retries.*`; times in seconds."""

    connection: int = 2
    conflict_tries: int = 8
    conflict_base: float = 0.05
    conflict_cap: float = 1.0
    budget: float = 0.1


def after_unsent(error: ProxyError, failures: int, rules: Rules) -> bool:
    """Tell whether an attempt of which nothing was sent is made again. `failures`: such attempts, this one included."""
    if not isinstance(error, UpstreamError) or is_permanent(error):
        return False
    # A black hole costs a whole time-out each time: once more, not as often as a quick refusal (U4).
    most = min(rules.connection, 1) if isinstance(error, ConnectTimeout | NameTimeout) else rules.connection
    return failures <= most


def after_loss(
    error: ProxyError, timeline: Timeline, *, repeatable: bool, harmless: Callable[[], bool]
) -> Reason | None:
    """Tell whether an attempt that was sent, and had no complete answer, is made again; it was the first of its sort.

    `repeatable`: a read, or under an Idempotency-Key. `harmless`: the same bytes twice do no harm.
    """
    if not isinstance(error, ConnectionLost | IncompleteReply):
        return None
    if repeatable:
        return Reason.LOST
    quick = timeline.reused and not timeline.first_byte and timeline.answered - timeline.sent <= IDLE_CLOSE
    return Reason.IDLE_CLOSE if quick and harmless() else None


def after_status(status: int, *, reads: bool, repeatable: bool, management: bool) -> Reason | None:
    """Tell whether an attempt is made again that had this answer; it was the first of its sort."""
    if status in UNAVAILABLE and repeatable:
        return Reason.STATUS
    if status == TOO_MANY and management and reads:
        return Reason.THROTTLED
    return None


def back_off(reason: Reason, conflicts: int, rules: Rules) -> float:
    """Give the seconds before the next attempt. `conflicts`: full queues that the flight has met."""
    if reason is Reason.CONFLICT:
        # Full jitter: those who collided must not meet again.
        return random.uniform(0.0, min(rules.conflict_cap, rules.conflict_base * 2 ** (conflicts - 1)))  # noqa: S311
    if reason is Reason.STATUS:
        return random.uniform(*STATUS_WAIT)  # noqa: S311
    if reason is Reason.THROTTLED:
        return random.uniform(*THROTTLED_WAIT)  # noqa: S311
    return 0.0


class Budget:
    """Bounds extra attempts: a share of the calls of the last ten seconds, and never less than three a second."""

    WINDOW = 10  # seconds
    FLOOR = 3  # a second

    def __init__(self, share: float, clock: Callable[[], float]) -> None:
        self.share = share  # of the calls
        self._clock = clock
        self._second = int(clock())
        self._calls = [0] * self.WINDOW
        self._extra = [0] * self.WINDOW

    def __repr__(self) -> str:
        return f"<Budget {sum(self._extra)} extra of {sum(self._calls)} calls>"

    def call(self, now: float) -> None:
        """One more call came."""
        second = int(now)
        if second > self._second:  # a call may have come a moment before the latest attempt
            self._turn(second)
        self._calls[second % self.WINDOW] += 1

    def spend(self) -> bool:
        """Take one extra attempt; False: there is none left."""
        second = int(self._clock())
        if second > self._second:
            self._turn(second)
        if sum(self._extra) >= max(self.FLOOR * self.WINDOW, self.share * sum(self._calls)):
            return False
        self._extra[second % self.WINDOW] += 1
        return True

    def _turn(self, second: int) -> None:
        """Empty the slots of the seconds that have begun since."""
        for passed in range(max(self._second, second - self.WINDOW) + 1, second + 1):
            self._calls[passed % self.WINDOW] = self._extra[passed % self.WINDOW] = 0
        self._second = second
