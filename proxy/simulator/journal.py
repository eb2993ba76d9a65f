"""The journal tells tests which calls arrived, in which order, and which of them ran at the same time.

Every call that arrived complete has one entry, in order of arrival. `start_order` and `end_order` are drawn
from one counter, so two calls overlapped exactly if each started before the other ended.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from itertools import count

LENGTH = 100_000


@dataclass(slots=True)
class Entry:
    """One call. Times are monotonic seconds; what has not happened yet is None.

    `outcome` is one of applied, refused (the parallel 409), read, dry, error. A caller who left while waiting
    gives an error with status 499 that never started.
    """

    sequence: int
    method: str
    target: str
    request_id: str | None
    body_bytes: int
    body_sha256: str
    arrived: float
    application: str | None = None
    session: str | None = None
    profile: str | None = None
    started: float | None = None
    ended: float | None = None
    start_order: int | None = None
    end_order: int | None = None
    status: int | None = None
    outcome: str | None = None


class Journal:
    """The last calls; older ones are forgotten."""

    def __init__(self, clock: Callable[[], float], *, length: int = LENGTH) -> None:
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
        return entry

    def start(self, entry: Entry) -> None:
        """Its turn has come; it runs from here."""
        entry.started = self._clock()
        entry.start_order = next(self._order)

    def end(self, entry: Entry, status: int, outcome: str) -> None:
        """It is answered with `status`."""
        entry.ended = self._clock()
        entry.end_order = next(self._order)
        entry.status = status
        entry.outcome = outcome

    def entries(self, *, session: str | None = None, since: int = 0) -> list[Entry]:
        """The calls after number `since`, of one session (its decoded id) or of all."""
        return [
            entry for entry in self._entries if entry.sequence > since and (session is None or entry.session == session)
        ]

    def clear(self) -> None:
        """Forget all calls."""
        self._entries.clear()
