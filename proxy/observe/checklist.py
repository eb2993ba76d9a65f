"""The checklist counts what looks at calls have shown; the looking is off the hot path.

At the end of a call it costs an entry in a bounded queue. A timer empties that in slices, so that looking takes no more
than 1 % of the time of one core, whatever comes: then sessions are left out (`observe.thinning`, counted as `thinned`).
What the queue has no room for is dropped, and counted. Nothing in here can change, delay or refuse a call.

What is counted is bounded and shows no ids: names that have passed through a charset, up to 200 of a kind.
"""

import logging
import random
import zlib
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

from proxy.errors import ProxyError
from proxy.messages import Call, Reply, Sent
from proxy.observe.thinning import Thinning

_LOG = logging.getLogger(__name__)
# A look is dear that meets cold caches, and leaves them cold for calls: rather few slices than short ones.
EVERY = 0.05  # seconds between two slices
SLICE = 0.0005  # seconds after which one ends, with the look that is under way
MOST = 2_048  # calls in the queue
MOST_BYTES = 2 << 20  # of their bodies and answers
AT_ONCE = 50  # calls that are looked at for somebody who asks, some 2 ms
NAMES, GROUPS, EXAMPLES = 200, 12, 3
OTHERS = "(others)"
HOUR, AGAIN = 3600.0, 1.0  # seconds between two lines of a rule, and between two looks whether one is due
COMPLAINT = 60.0  # seconds between two lines about a defect of ours
_CRCS = 1 << 32
# Count, seconds, and the first and last time, as Unix time.
Row = list[float]
_Entry = tuple[Call, Reply | None, bool]


class Look(Protocol):
    """What came of looking at a call. `broken`: rule, which of several things, and seconds that it cost.

    `ended`: looks at what is over with it.
    """

    @property
    def application(self) -> str: ...  # noqa: D102
    @property
    def operation(self) -> str: ...  # noqa: D102
    @property
    def caller(self) -> str: ...  # noqa: D102
    @property
    def request_id(self) -> str: ...  # noqa: D102
    @property
    def passed(self) -> Sequence[str]: ...  # noqa: D102
    @property
    def broken(self) -> Sequence[tuple[str, str, float]]: ...  # noqa: D102
    @property
    def notes(self) -> Sequence[tuple[str, str, float]]: ...  # noqa: D102
    @property
    def ended(self) -> Sequence["Look"]: ...  # noqa: D102


class Looker(Protocol):
    """Looks at a call. `reply` is none where its caller left before it; `sampled`: its answer may be read."""

    def look(self, call: Call, reply: Reply | None, *, whole: bool, sampled: bool) -> Look | None:
        """Give what there is to see; none: nothing."""
        ...

    def missed(self) -> None:
        """Calls were not shown: what is remembered of a session may lack the one that matters."""
        ...


class Handle(Protocol):
    """A timer of the loop."""

    def cancel(self) -> None:
        """Do not fire."""
        ...


class Tally:
    """Of one rule."""

    __slots__ = ("broken", "checked", "examples", "first", "groups", "last", "names", "tell_at")

    def __init__(self) -> None:
        self.checked = 0
        self.broken = 0
        self.first: float | None = None
        self.last: float | None = None
        self.groups: dict[tuple[str, str, str], int] = {}
        self.examples: deque[str] = deque(maxlen=EXAMPLES)
        self.names: dict[str, Row] = {}
        self.tell_at = 0.0  # when its next line may be logged

    def breaks(self, look: Look, name: str, seconds: float, moment: float) -> None:
        """Count one that is broken."""
        self.checked += 1
        self.broken += 1
        self.first = self.first or moment
        self.last = moment
        group = (look.application, look.operation, look.caller)
        if group not in self.groups and len(self.groups) >= GROUPS:
            group = (OTHERS, OTHERS, OTHERS)
        self.groups[group] = self.groups.get(group, 0) + 1
        if look.request_id:
            self.examples.append(look.request_id)
        if name or seconds:
            _count(self.names, name, seconds, moment)

    def as_json(self) -> dict[str, Any]:
        """Give what others add up."""
        return {
            "checked": self.checked,
            "broken": self.broken,
            "first": self.first,
            "last": self.last,
            "groups": [[*who, count] for who, count in sorted(self.groups.items(), key=lambda group: -group[1])],
            "examples": list(self.examples),
            "names": {name: list(row) for name, row in self.names.items()},
        }


class Checklist:
    """An observer that lets a `Looker` look, when there is time."""

    only_failed = False

    def __init__(
        self,
        looker: Looker,
        *,
        replies: float,
        tell: Callable[[str], bool],
        clock: Callable[[], float],
        now: Callable[[], float],
        call_later: Callable[[float, Callable[[], None]], Handle],
        draw: Callable[[], float] = random.random,
    ) -> None:
        """`replies`: share of answers that are read.

        `tell` is asked at most once an hour to log that a rule is broken, and says whether that was worth a line.
        `now` gives Unix time, `draw` a random share for calls of no session.
        """
        self.replies = replies
        self._looker = looker
        self._tell = tell
        self._clock = clock
        self._now = now
        self._call_later = call_later
        self._draw = draw
        self._timer: Handle | None = None
        self._queue: deque[_Entry | None] = deque()  # none: here calls are missing
        self._held = 0  # bytes in it
        self._came = 0  # calls since the last slice, but for those left out
        self._missed = False  # and nothing in the queue tells of it yet
        self._thinning = Thinning(draw)
        self._complains_at = 0.0
        self.since = now()
        self.looked = 0
        self.dropped = 0
        self.thinned = 0
        self.tallies: dict[str, Tally] = {}
        self.inventory: dict[str, dict[str, Row]] = {}

    def __repr__(self) -> str:
        return f"<Checklist looked={self.looked} waiting={len(self._queue)}>"

    # --- the hot path ---

    def finished(self, call: Call, reply: Reply, *, whole: bool) -> None:
        """See `Observer`."""
        self._add(call, reply, whole)

    def rejected(self, reply: Reply, error: ProxyError) -> None:
        """See `Observer`: what is no call says nothing of an integration."""

    def abandoned(self, call: Call, sent: Sent) -> None:
        """See `Observer`."""
        self._add(call, None, False)

    def _add(self, call: Call, reply: Reply | None, whole: bool) -> None:
        # Before it is held on to: what stays for a while makes all that is allocated meanwhile cost more.
        if self._thinning.left_out and self._thinning.leaves_out(call.subject):
            self.thinned += 1
            return
        self._came += 1
        size = _size(call, reply)
        if len(self._queue) >= MOST or self._held + size > MOST_BYTES:
            self.dropped += 1
            self._missed = True
            return
        if self._missed:
            self._missed = False
            self._queue.append(None)
        self._held += size
        self._queue.append((call, reply, whole))
        if self._timer is None:
            self._timer = self._call_later(EVERY, self._work)

    # --- beside it ---

    @property
    def waiting(self) -> int:
        """Calls that are still to be looked at."""
        return len(self._queue)

    def miss(self) -> None:
        """Calls were not told, or will be that were not before."""
        self._missed = True

    def stop(self) -> None:
        """Look no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._queue.clear()
        self._held = 0

    def catch_up(self, most: int = AT_ONCE) -> None:
        """Look at what waits, at so many calls: somebody wants to know now."""
        for _ in range(min(most, len(self._queue))):
            self._next()

    def _work(self) -> None:
        """Look at calls for as long as a slice."""
        self._timer = None
        queue, clock = self._queue, self._clock
        began = now = clock()
        looked = 0
        while queue and now - began < SLICE:
            self._next()
            looked += 1
            now = clock()
        came, self._came = self._came, 0
        if came > looked and self._crowded():
            self._thinning.tighten(came, looked)
            self._sift()
        elif self._thinning.relax((now - began) / SLICE):
            self.miss()
        # While sessions are left out it goes on, or nobody would see that the flood is over.
        if self._queue or self._thinning.left_out:
            self._timer = self._call_later(EVERY, self._work)

    def _crowded(self) -> bool:
        """Whether the queue is half full: a burst is no flood."""
        return len(self._queue) > MOST // 2 or self._held > MOST_BYTES // 2

    def _sift(self) -> None:
        """Take out of the queue who is left out from now on."""
        entries, self._queue = self._queue, deque()
        self._held = 0
        for entry in entries:
            if entry is None:
                self._queue.append(None)
            elif self._thinning.leaves_out(entry[0].subject):
                self.thinned += 1
            else:
                self._held += _size(entry[0], entry[1])
                self._queue.append(entry)
        self.miss()

    def _next(self) -> None:
        entry = self._queue.popleft()
        if entry is None:
            self._looker.missed()
            return
        call, reply, whole = entry
        self._held -= _size(call, reply)
        try:
            look = self._looker.look(call, reply, whole=whole, sampled=self._share_of(call.subject) < self.replies)
        except Exception:
            # A defect of ours must not end the looking, let alone a call; nor fill the log where each call shows it.
            if self._clock() < self._complains_at:
                return
            self._complains_at = self._clock() + COMPLAINT
            _LOG.exception("the checklist failed at a call", extra={"fields": {"operation": call.operation}})
            return
        if look is not None:
            self.looked += 1
            self._count(look)

    def _share_of(self, subject: bytes) -> float:
        """Give where a session stands from 0 to 1, the same for all proxies; where there is none, by chance."""
        return zlib.crc32(subject) / _CRCS if subject else self._draw()

    def _count(self, look: Look) -> None:
        moment = self._now()
        tallies = self.tallies
        for rule in look.passed:
            if rule in tallies:
                tallies[rule].checked += 1
            else:
                self.tally(rule).checked += 1
        for rule, name, seconds in look.broken:
            tally = self.tally(rule)
            tally.breaks(look, name, seconds, moment)
            # By the clock that nobody sets.
            if (at := self._clock()) >= tally.tell_at:
                tally.tell_at = at + (HOUR if self._tell(rule) else AGAIN)
        for kind, name, seconds in look.notes:
            _count(self.inventory.setdefault(kind, {}), name, seconds, moment)
        for ended in look.ended:
            self._count(ended)

    def tally(self, rule: str) -> Tally:
        """Give the counts of a rule."""
        tally = self.tallies.get(rule)
        if tally is None:
            tally = self.tallies[rule] = Tally()
        return tally

    def rows(self) -> Iterator[tuple[str, Mapping[str, Sequence[float]]]]:
        """Give the inventory, a kind at a time."""
        return ((kind, {name: list(row) for name, row in rows.items()}) for kind, rows in self.inventory.items())


def _size(call: Call, reply: Reply | None) -> int:
    return len(call.body) + (len(reply.body) if reply is not None else 0)


def _count(rows: dict[str, Row], name: str, seconds: float, moment: float) -> None:
    row = rows.get(name)
    if row is None:
        if len(rows) >= NAMES:
            name = OTHERS
        row = rows.setdefault(name, [0, 0.0, moment, moment])
    row[0] += 1
    row[1] += seconds
    row[3] = moment
