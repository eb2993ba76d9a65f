"""Pacing of the Management API, which takes three calls a second per endpoint (`management.rate`).

An endpoint is method and path without its ids. Calls beyond the rate wait their turn, as many as go in ten seconds.
"""

import re
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

LONGEST: Final = 10.0  # seconds that a call may wait
ENDPOINTS: Final = 256  # remembered, the latest used
_ID: Final = re.compile(rb"/[^/]*[0-9%][^/]*")


class Pacing:
    """Knows when the next call of each endpoint may go. `rate`: calls a second; 0: not limited."""

    def __init__(self, rate: float, clock: Callable[[], float]) -> None:
        self.follow(rate)
        self._clock = clock
        self._next: OrderedDict[bytes, float] = OrderedDict()

    def __repr__(self) -> str:
        return f"<Pacing endpoints={len(self._next)}>"

    def follow(self, rate: float) -> None:
        """Let calls go at this rate from now on; those that wait keep their moment."""
        self._gap = 1.0 / rate if rate else 0.0

    def wait(self, method: bytes, target: bytes) -> float | None:
        """Give the seconds until this call may go; None: too many wait already."""
        if not self._gap:
            return 0.0
        version, _, rest = target.partition(b"?")[0].removeprefix(b"/").partition(b"/")
        endpoint = b"%b /%b%b" % (method, version, _ID.sub(b"/*", b"/" + rest))
        now = self._clock()
        due = max(self._next.get(endpoint, now), now)
        if due - now > LONGEST:
            return None
        self._next[endpoint] = due + self._gap
        self._next.move_to_end(endpoint)
        if len(self._next) > ENDPOINTS:
            self._next.popitem(last=False)
        return due - now
