"""The history: totals as they stood every few seconds of the last quarter of an hour.

What a page that was just opened draws, and what "in the last minute" is reckoned from. Bounded; a look costs less
than 0.1 ms, twelve times a minute. Rates are differences of totals, so that nothing is counted twice.
"""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

EVERY = 5.0  # seconds between two looks
KEPT = 180  # looks: a quarter of an hour
RECENT = 60.0  # seconds


class Handle(Protocol):
    """A timer of the loop."""

    def cancel(self) -> None:
        """Do not fire."""
        ...


@dataclass(frozen=True, slots=True)
class Look:
    """How everything stood at a moment.

    `totals` never fall; `levels` are of the moment; `times` are the counts per bucket of Talon.One's times, with what
    is above all bounds last.
    """

    at: float
    totals: Mapping[str, float]
    levels: Mapping[str, float]
    times: Sequence[int]


class History:
    """Looks again and again; the owner starts and stops it. `bounds`: of the buckets of `Look.times`, in seconds."""

    def __init__(
        self,
        look: Callable[[float], Look],
        *,
        bounds: Sequence[float],
        clock: Callable[[], float],
        call_later: Callable[[float, Callable[[], None]], Handle],
    ) -> None:
        self._look = look
        self._bounds = bounds
        self._clock = clock
        self._call_later = call_later
        self._looks: deque[Look] = deque(maxlen=KEPT)
        self._timer: Handle | None = None

    def __repr__(self) -> str:
        return f"<History looks={len(self._looks)}>"

    def start(self) -> None:
        """Look now, and from now on."""
        self._looks.append(self._look(self._clock()))
        self._timer = self._call_later(EVERY, self.start)

    def stop(self) -> None:
        """Look no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def columns(self) -> Mapping[str, object]:
        """Give all looks, a list for each number; `ago_seconds` says how long ago each was."""
        now, looks = self._clock(), self._looks
        names = [*looks[-1].totals, *looks[-1].levels] if looks else []
        columns: dict[str, object] = {"ago_seconds": [round(now - look.at, 1) for look in looks]}
        for name in names:
            columns[name] = [look.totals.get(name, look.levels.get(name, 0)) for look in looks]
        return columns

    def recent(self) -> Mapping[str, float]:
        """Give what was added to each total in the last minute, or since the start if that is shorter.

        `seconds` says how long that was. `slowest_seconds`, where enough calls came: 99 of 100 calls took Talon.One no
        longer (an upper bound, as the buckets have it; left out where it is above all of them).
        """
        now = self._look(self._clock())
        # The youngest that is a minute old, so that the minute is whole.
        old = [look for look in self._looks if look.at <= now.at - RECENT]
        since = old[-1] if old else self._looks[0] if self._looks else now
        grown = {name: round(total - since.totals[name], 6) for name, total in now.totals.items()}
        times = [later - earlier for later, earlier in zip(now.times, since.times, strict=True)]
        slowest = quantile(times, self._bounds, 0.99)
        return {"seconds": round(now.at - since.at, 3), **grown} | (
            {} if slowest is None else {"slowest_seconds": slowest}
        )


def quantile(counts: Sequence[int], bounds: Sequence[float], share: float) -> float | None:
    """Give the bound below which this share of the values lies; None: too few to say, or above all bounds.

    Too few is fewer than twenty: of those the slowest is one call's fate.
    """
    wanted, seen = sum(counts) * share, 0
    if sum(counts) < 20:
        return None
    for count, bound in zip(counts, bounds, strict=False):
        seen += count
        if seen >= wanted:
            return bound
    return None
