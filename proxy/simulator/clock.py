"""The time of day in a world: the real one, or one that a tester sets, which stands still or goes on from there.

It is what sessions, events and coupons are dated by, and what stored answers grow old by. How long calls take is
measured elsewhere, by a clock that nobody sets.
"""

import enum
from collections.abc import Callable
from datetime import UTC, datetime, timedelta


def time_of_day() -> datetime:
    """The real time, in UTC."""
    return datetime.now(UTC)


class Mode(enum.StrEnum):
    """REAL ⇒ STANDING or RUNNING when it is set, ⇒ REAL when it is let go."""

    REAL = "real"
    STANDING = "standing"
    RUNNING = "running"


class Clock:
    """Call it for the time."""

    def __init__(self, start: datetime | None = None, *, real: Callable[[], datetime] = time_of_day) -> None:
        """Stand still at `start`, or tell the real time without one."""
        self._real = real
        self.mode = Mode.REAL
        self._set = real()
        self._set_at = self._set
        if start is not None:
            self.set(start)

    def __repr__(self) -> str:
        return f"<Clock {self.mode} at {self().isoformat()}>"

    def __call__(self) -> datetime:
        """The time."""
        if self.mode is Mode.REAL:
            return self._real()
        return self._set if self.mode is Mode.STANDING else self._set + (self._real() - self._set_at)

    def set(self, moment: datetime, *, runs: bool = False) -> None:
        """Stand still at a moment, or go on from it."""
        self._set, self._set_at = moment, self._real()
        self.mode = Mode.RUNNING if runs else Mode.STANDING

    def advance(self, span: timedelta) -> None:
        """Go forward, or back; a real clock runs from there, the others stay as they are."""
        self.set(self() + span, runs=self.mode is not Mode.STANDING)

    def let_go(self) -> None:
        """Tell the real time again."""
        self.mode = Mode.REAL


def moment(text: str) -> datetime:
    """Read 2026-01-01T00:00:00Z; ValueError without a time zone."""
    parsed = datetime.fromisoformat(text)
    if parsed.tzinfo is None:
        raise ValueError(f"{text!r} has no time zone; write 2026-01-01T00:00:00Z")
    return parsed.astimezone(UTC)
