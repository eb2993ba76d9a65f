"""The circuit: while Talon.One cannot be reached, calls fail at once instead of after a time-out each.

CLOSED ⇒ OPEN ⇒ TRIAL ⇒ CLOSED or OPEN. It opens at five failures in a row to connect, or when within ten seconds half
of twenty or more calls failed, on five or more different sessions and profiles: one customer's poisonous cart must not
close the checkout. Failures are those to connect (TLS included), time-outs and 502, 503, 504; never 500 or 4xx.

OPEN, one call a second is let through to see whether it is over.
"""

from collections.abc import Callable
from enum import Enum
from typing import Final

IN_A_ROW: Final = 5
LEAST_CALLS: Final = 20
SHARE: Final = 0.5
LEAST_KEYS: Final = 5
WINDOW: Final = 10  # seconds
TRIAL_AFTER: Final = 1.0  # seconds


class State(Enum):
    """As `talon_proxy_circuit_state` shows it."""

    CLOSED = 0
    TRIAL = 1  # one call is on its way, to see
    OPEN = 2


class Circuit:
    """Of one generation of the upstream."""

    def __init__(self, clock: Callable[[], float], changed: Callable[[State], None] = lambda _: None) -> None:
        """`changed` is told when it opens, and when it closes again."""
        self._clock = clock
        self._changed = changed
        self.state = State.CLOSED
        self.since = clock()
        self.last_error = ""
        self._in_a_row = 0
        self._trial_at = 0.0
        self._second = int(clock())
        self._calls = [0] * WINDOW
        self._failed: list[list[object]] = [[] for _ in range(WINDOW)]  # what the failed calls were about

    def __repr__(self) -> str:
        return f"<Circuit {self.state.name}>"

    def lets_through(self) -> bool:
        """Tell whether a call may go, now."""
        if self.state is State.CLOSED:
            return True
        now = self._clock()
        if now < self._trial_at:
            return False
        # Also where a trial is still under way, or was lost: the next one a second later.
        self._trial_at = now + TRIAL_AFTER
        self.state = State.TRIAL
        return True

    def succeeded(self) -> None:
        """Talon.One answered: anything but 502, 503, 504."""
        self._in_a_row = 0
        second = int(self._clock())
        if second > self._second:
            self._turn(second)
        self._calls[second % WINDOW] += 1
        if self.state is not State.CLOSED:
            self._set(State.CLOSED)

    def failed(self, about: object, error: str, *, connecting: bool) -> None:
        """A call failed. `about`: the session or profile it named; `connecting`: there was no connection."""
        self.last_error = error
        second = int(self._clock())
        if second > self._second:
            self._turn(second)
        self._calls[second % WINDOW] += 1
        self._failed[second % WINDOW].append(about)
        self._in_a_row = self._in_a_row + 1 if connecting else 0
        if self.state is State.TRIAL:
            self.state = State.OPEN
        elif self.state is State.CLOSED and (self._in_a_row >= IN_A_ROW or self._half_fail()):
            self._set(State.OPEN)
            self._trial_at = self._clock() + TRIAL_AFTER

    def _half_fail(self) -> bool:
        failed = sum(map(len, self._failed))
        calls = sum(self._calls)
        if calls < LEAST_CALLS or failed < SHARE * calls:
            return False
        return len({about for of_second in self._failed for about in of_second}) >= LEAST_KEYS

    def _set(self, state: State) -> None:
        self.state = state
        self.since = self._clock()
        self._in_a_row = 0
        self._calls = [0] * WINDOW
        self._failed = [[] for _ in range(WINDOW)]
        self._changed(state)

    def _turn(self, second: int) -> None:
        """Empty the slots of the seconds that have begun since."""
        for passed in range(max(self._second, second - WINDOW) + 1, second + 1):
            self._calls[passed % WINDOW] = 0
            self._failed[passed % WINDOW] = []
        self._second = second
