"""Trials: what becomes of calls whose key Talon.One refuses, where the Application has a second one.

The first call that is refused is sent once more with the other key: the trial. Those that are refused meanwhile wait
for its outcome. Any answer but another 401: the other key leads, and they follow with it. Another 401: all have theirs,
and there is no trial of this Application for ten seconds, so that two bad keys do not double the calls. A refused call
was not executed, so whatever it was may be sent again.
"""

from collections.abc import Callable
from enum import Enum, auto
from typing import TYPE_CHECKING, Final

from proxy.keyset import ApiKey, Ring
from proxy.messages import Reply

if TYPE_CHECKING:
    from proxy.traffic.flights import Flight

UNAUTHORIZED: Final = 401
PAUSE: Final = 10.0  # seconds between two trials of one Application that found no good key


class Verdict(Enum):
    """What becomes of a refused call."""

    ANSWER = auto()  # its caller has the 401
    AGAIN = auto()  # once more: another key leads by now
    TRY = auto()  # once more: it is the trial
    WAIT = auto()  # a trial is under way


class _Trial:
    __slots__ = ("flight", "waiting")

    def __init__(self, flight: "Flight") -> None:
        self.flight = flight
        self.waiting: list[tuple[Flight, Reply]] = []


class Trials:
    """All trials under way: at most one of each key ring."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._trials: dict[Ring, _Trial] = {}

    def __len__(self) -> int:
        return len(self._trials)

    def __repr__(self) -> str:
        return f"<Trials {len(self)}>"

    def judge(self, flight: "Flight", ring: Ring, used: ApiKey) -> Verdict:
        """Say what becomes of a call that was refused with this key."""
        if used is not ring.leading:
            return Verdict.AGAIN
        if ring.other is None:
            return Verdict.ANSWER
        if ring in self._trials:
            return Verdict.WAIT
        if ring.tried is not None and self._clock() - ring.tried < PAUSE:
            return Verdict.ANSWER
        return Verdict.TRY

    def begin(self, flight: "Flight", ring: Ring) -> None:
        """Try the other key with this flight; `end` must follow."""
        assert ring.other is not None
        flight.trial = ring
        self._trials[ring] = _Trial(flight)

    def wait(self, flight: "Flight", ring: Ring, reply: Reply) -> None:
        """Keep a refused flight, and its answer, until the trial has ended."""
        self._trials[ring].waiting.append((flight, reply))

    def end(self, flight: "Flight", accepted: bool | None) -> "list[tuple[Flight, Reply]]":
        """End the trial that a flight is; None: nobody knows. Gives those who waited, with their answers."""
        ring = flight.trial
        assert ring is not None
        flight.trial = None
        trial = self._trials.pop(ring)
        if accepted:
            ring.swap()
            ring.tried = None
        elif accepted is False:
            ring.tried = self._clock()
        return trial.waiting
