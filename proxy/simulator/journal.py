"""The journal tells tests which calls arrived, in which order, and which of them ran at the same time.

Every call that arrived complete has one entry, in order of arrival. `start_order` and `end_order` are drawn
from one counter, so two calls overlapped exactly if each started before the other ended. The tally counts on where
the journal forgets.
"""

from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import count

LENGTH = 100_000


@dataclass(slots=True)
class Entry:
    """One call. Times are monotonic seconds; what has not happened yet is None.

    `outcome` is one of applied, refused (the parallel 409), read, dry, replayed (a stored answer), faulted (a fault
    kept it from being carried out), error. `status` is what the world answered; where `fault` is named, that says
    what became of it. A caller who left while waiting gives an error with status 499 that never started.
    """

    sequence: int
    method: str
    target: str
    request_id: str | None
    body_bytes: int
    body_sha256: str
    arrived: float
    application: str | None = None
    operation: str | None = None  # operationId
    session: str | None = None
    profile: str | None = None
    started: float | None = None
    ended: float | None = None
    start_order: int | None = None
    end_order: int | None = None
    status: int | None = None
    outcome: str | None = None
    fault: str | None = None


@dataclass(slots=True)
class Tally:
    """Counts since the world began. `in_progress` have arrived and are not answered; `peak` is the most at once."""

    calls: int = 0
    in_progress: int = 0
    peak: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    statuses: Counter[int] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)


class Journal:
    """The last calls; older ones are forgotten."""

    def __init__(self, clock: Callable[[], float], *, length: int = LENGTH) -> None:
        self.tally = Tally()
        self._clock = clock
        self._entries: deque[Entry] = deque(maxlen=length)
        # Numbers go on after `clear`, so that `since` keeps its meaning.
        self._sequence = count(1)
        self._order = count(1)

    def __repr__(self) -> str:
        return f"<Journal of {len(self._entries)} calls>"

    def arrive(self, method: str, target: str, body: bytes, request_id: str | None) -> Entry:
        """Open the entry of a call."""
        digest = sha256(body).hexdigest()
        entry = Entry(next(self._sequence), method, target, request_id, len(body), digest, self._clock())
        self._entries.append(entry)
        tally = self.tally
        tally.calls += 1
        tally.in_progress += 1
        tally.peak = max(tally.peak, tally.in_progress)
        return entry

    def start(self, entry: Entry) -> None:
        """Its turn has come; it runs from here."""
        entry.started = self._clock()
        entry.start_order = next(self._order)

    def end(self, entry: Entry, status: int | None, outcome: str) -> None:
        """The world has done with it, and answers `status`; None: nothing."""
        entry.ended = self._clock()
        entry.end_order = next(self._order)
        entry.status = status
        entry.outcome = outcome
        self.tally.in_progress -= 1
        self.tally.outcomes[outcome] += 1
        if status is not None:
            self.tally.statuses[status] += 1

    def strike(self, kind: str, entry: Entry | None = None, text: str | None = None) -> None:
        """A fault of this kind strikes: a call, or one that has no entry because it never arrived."""
        self.tally.faults[kind] += 1
        if entry is not None:
            entry.fault = text

    def entries(self, *, session: str | None = None, request_id: str | None = None, since: int = 0) -> list[Entry]:
        """The calls after number `since`, of one session (its decoded id), of one request id, or all."""
        return [
            entry
            for entry in self._entries
            if entry.sequence > since
            and (session is None or entry.session == session)
            and (request_id is None or entry.request_id == request_id)
        ]

    def clear(self) -> None:
        """Forget all calls."""
        self._entries.clear()
