"""Thinning: which sessions are left out while more calls come than there is time to look at. Pure.

Sessions are left out as a whole, for one of which half the calls are missing would be blamed for what it did right: a
half of them, three quarters, and so on, by bits of their ids' hashes. So those that stay do not change while as many
calls come, and only few of them when more do.
"""

from collections.abc import Callable
from typing import Final

MOST: Final = 1023  # of 1024 sessions that may be left out
WINDOW: Final = 20  # slices after which it is judged whether there is time for more
EASY: Final = 0.4  # of the time: where less of it was used, there is time for twice as many


class Thinning:
    """Of `left_out` + 1 sessions, one is looked at. `draw` gives a random share, for calls without an id."""

    __slots__ = ("_draw", "_slices", "_used", "left_out")

    def __init__(self, draw: Callable[[], float]) -> None:
        self._draw = draw
        self.left_out = 0  # as a mask of bits
        self._slices = 0
        self._used = 0.0

    def __repr__(self) -> str:
        return f"<Thinning 1 in {self.left_out + 1}>"

    def leaves_out(self, subject: bytes) -> bool:
        """Whether calls of this session, or of whatever else their paths name, are left out. Empty: of none."""
        if not subject:
            return self._draw() * (self.left_out + 1) >= 1.0
        return hash(subject) & self.left_out != 0

    def tighten(self, came: int, looked: int) -> None:
        """Leave out so many that of as many as came no more are left than could be looked at; half at least."""
        self._restart()
        while True:
            self.left_out = min(self.left_out * 2 + 1, MOST)
            came //= 2
            if came <= looked or self.left_out == MOST:
                return

    def relax(self, used: float) -> bool:
        """Count a slice of which this share of its time was used; after many easy ones, leave out fewer: true."""
        self._slices += 1
        self._used += used
        if self._slices < WINDOW:
            return False
        easier = self.left_out > 0 and self._used < WINDOW * EASY
        if easier:
            self.left_out //= 2
        self._restart()
        return easier

    def _restart(self) -> None:
        self._slices = 0
        self._used = 0.0
