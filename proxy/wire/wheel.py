"""One coarse timer for all deadlines: thousands of them are set per second, hardly one ever fires.

An event-loop timer costs 2.1 µs, setting an alarm here 0.2 µs. An alarm never fires early, and at most one tick
late. When the loop itself was blocked, sockets are read once before anything fires: the bytes that would have kept
a deadline may already be there (edge case B26).
"""

import heapq
import logging
from collections.abc import Callable
from typing import Final, Protocol

_LOG: Final = logging.getLogger(__name__)
TICK: Final = 0.02  # seconds
STALL: Final = 0.5  # seconds late, after which the loop is thought to have been blocked
NEVER: Final = float("inf")


class Handle(Protocol):
    """What `call_later` gives back."""

    def cancel(self) -> None:
        """Forget the callback."""
        ...


class Deadline:
    """One moment of the wheel's clock at which `ring` is called; set and cleared as often as wanted."""

    __slots__ = ("_wheel", "due", "slot")

    def __init__(self, wheel: "Wheel") -> None:
        self._wheel = wheel
        self.due = NEVER
        self.slot: int | None = None

    def set(self, due: float) -> None:
        """Ring at `due`, a moment of the wheel's clock; replaces an earlier setting."""
        self._wheel.place(self, due)

    def clear(self) -> None:
        """Do not ring."""
        self._wheel.remove(self)

    def ring(self) -> None:
        """The time has come. Runs in the loop and must not raise."""
        raise NotImplementedError

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {'clear' if self.due == NEVER else f'due={self.due:.3f}'}>"


class Alarm(Deadline):
    """A deadline that calls somebody else."""

    __slots__ = ("_callback",)

    def __init__(self, wheel: "Wheel", callback: Callable[[], None]) -> None:
        super().__init__(wheel)
        self._callback = callback

    def ring(self) -> None:
        """See `Deadline.ring`."""
        self._callback()

    def end(self) -> None:
        """Ring never again, and forget who is called: owner and alarm would be a cycle for the collector to find.

        It looks so seldom that a thousand closed connections, with all that TLS holds, would wait for it.
        """
        self.clear()
        self._callback = _nobody


def _nobody() -> None:
    """Stand where the owner of an alarm stood."""


class Wheel:
    """Slots of one tick each; the loop's timer stands at the earliest occupied one, so an idle proxy sleeps."""

    def __init__(self, clock: Callable[[], float], call_later: Callable[[float, Callable[[], None]], Handle]) -> None:
        self.clock = clock
        self._call_later = call_later
        self._slots: dict[int, set[Deadline]] = {}
        self._order: list[int] = []  # heap of the keys of _slots
        self._timer: Handle | None = None
        self._timer_slot = 0
        self._stalled = False

    def alarm(self, callback: Callable[[], None]) -> Alarm:
        """Make an alarm, not set yet. `callback` runs in the loop and must not raise."""
        return Alarm(self, callback)

    def place(self, alarm: Deadline, due: float) -> None:
        """See `Deadline.set`."""
        slot = int(due / TICK) + 1
        if alarm.slot is not None:
            if alarm.slot <= slot:
                # Postponed, as deadlines mostly are: it stays where it is and moves on when that slot's time comes.
                alarm.due = due
                return
            self.remove(alarm)
        alarm.due = due
        alarm.slot = slot
        alarms = self._slots.get(slot)
        if alarms is None:
            self._slots[slot] = {alarm}
            heapq.heappush(self._order, slot)
            if self._timer is None or slot < self._timer_slot:
                self._start_timer()
        else:
            alarms.add(alarm)

    def remove(self, alarm: Deadline) -> None:
        """See `Deadline.clear`."""
        alarm.due = NEVER
        if alarm.slot is not None:
            # The emptied slot stays until its time comes: searching the heap would cost more than a waking.
            self._slots[alarm.slot].discard(alarm)
            alarm.slot = None

    def stop(self) -> None:
        """Nothing fires any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for alarms in self._slots.values():
            for alarm in alarms:
                alarm.slot = None
        self._slots.clear()
        self._order.clear()

    def _start_timer(self, delay: float | None = None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer_slot = self._order[0]
        if delay is None:
            delay = max(self._timer_slot * TICK - self.clock(), 0.0)
        self._timer = self._call_later(delay, self._turn)

    def _turn(self) -> None:
        self._timer = None
        now = self.clock()
        late = now - self._timer_slot * TICK
        if late > STALL and not self._stalled:
            self._stalled = True
            self._start_timer(TICK)
            return
        self._stalled = False
        due: list[Deadline] = []
        while self._order and self._order[0] * TICK <= now:
            due.extend(self._slots.pop(heapq.heappop(self._order)))
        for alarm in due:
            alarm.slot = None
        if self._order:
            self._start_timer()
        for alarm in due:
            # One that fired before may have set or cleared this one; then its slot or its `due` says so.
            if alarm.slot is not None:
                continue
            if alarm.due <= now:
                alarm.due = NEVER
                try:
                    alarm.ring()
                except Exception:
                    # The other deadlines of this turn are other callers'.
                    _LOG.exception("a deadline failed")
            elif alarm.due < NEVER:
                self.place(alarm, alarm.due)
