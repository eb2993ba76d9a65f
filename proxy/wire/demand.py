"""How many connections are expected to be needed at once: as many as lately were, less and less of them with time.

A burst comes again: the page that made a shop's backend call 64 times at once is loaded again. So what was needed at
once is expected for a minute more; after that, half of what was not needed is forgotten each minute, so that a quiet
shop is back at few connections within some minutes, and never drops many at once.
"""

from typing import Final

EBB: Final = 60.0  # seconds from one ebb to the next


class Demand:
    """Pure counting; time is the pool's. `expected`: see above. `peak`: the most since the last ebb."""

    __slots__ = ("expected", "peak")

    def __init__(self) -> None:
        self.expected = 0
        self.peak = 0

    def __repr__(self) -> str:
        return f"<Demand expected={self.expected} peak={self.peak}>"

    def rise(self, needed: int) -> None:
        """So many are needed at this moment."""
        self.peak = max(self.peak, needed)
        self.expected = max(self.expected, needed)

    def ebb(self, needed: int) -> None:
        """A minute is over: of what was expected in it and not needed, half is forgotten. `needed`: at this moment."""
        self.expected = self.peak + (self.expected - self.peak) // 2
        self.peak = needed
