"""The limit on how many exchanges are under way with Talon.One at a time (`limits.concurrency`).

Entered last, after lanes and gates, so that a call that waits for its turn takes nobody's place; left when an attempt
ends, so that a back-off takes none either. First come, first served. As many may wait as may go, so that a wait is
about as long as an exchange, however many call; while that many wait, new calls are refused at once rather than late.
"""

from collections import deque
from collections.abc import Sequence
from typing import Protocol


class Passenger(Protocol):
    """Who passes the limit."""

    def admitted(self) -> None:
        """There is room: go on. Must not raise."""
        ...


class Limit:
    """Counts those inside, and keeps a queue."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.inside = 0
        self._queue: deque[Passenger] = deque()
        self._telling = False

    def __repr__(self) -> str:
        return f"<Limit inside={self.inside} of {self.most} waiting={self.waiting}>"

    @property
    def waiting(self) -> int:
        """How many stand before it."""
        return len(self._queue)

    @property
    def full(self) -> bool:
        """As many wait as may."""
        return len(self._queue) >= self.most

    def enter(self, passenger: Passenger) -> bool:
        """Go in now; False: wait, and be told."""
        if self.inside < self.most and not self._queue:
            self.inside += 1
            return True
        self._queue.append(passenger)
        return False

    def withdraw(self, passenger: Passenger) -> None:
        """Wait no more."""
        self._queue.remove(passenger)

    def leave(self) -> None:
        """Make room, and let the next ones in. Those may leave again in the same step."""
        self.inside -= 1
        self._let_in()

    def follow(self, most: int) -> None:
        """Let so many in from now on; those who are inside stay."""
        self.most = most
        self._let_in()

    def _let_in(self) -> None:
        if self._telling:
            return
        self._telling = True
        while self._queue and self.inside < self.most:
            self.inside += 1
            self._queue.popleft().admitted()
        self._telling = False

    def queue(self) -> Sequence[Passenger]:
        """Give those who wait."""
        return list(self._queue)
