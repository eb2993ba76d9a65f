"""Time in the hand of a test: a clock that stands still, and the timers that hang on it."""

from collections.abc import Callable


class Timer:
    """What `Time.call_later` gives."""

    def __init__(self, due: float, callback: Callable[[], None]) -> None:
        self.due = due
        self.callback = callback
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class Time:
    """A clock, and a loop's timers."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now
        self.timers: list[Timer] = []

    def __call__(self) -> float:
        return self.now

    def call_later(self, delay: float, callback: Callable[[], None]) -> Timer:
        timer = Timer(self.now + delay, callback)
        self.timers.append(timer)
        return timer

    @property
    def pending(self) -> list[Timer]:
        return [timer for timer in self.timers if not timer.cancelled]

    def run_due(self) -> None:
        """Run the timers whose time has come, once."""
        self.timers = self.pending
        due = sorted((timer for timer in self.timers if timer.due <= self.now), key=lambda timer: timer.due)
        for timer in due:
            self.timers.remove(timer)
            if not timer.cancelled:
                timer.callback()

    def pass_by(self, seconds: float) -> None:
        """Let time go on as in a loop that is never late: every timer runs at its moment."""
        end = self.now + seconds
        while True:
            due = [timer.due for timer in self.pending if timer.due <= end]
            if not due:
                break
            self.now = max(self.now, min(due))
            self.run_due()
        self.now = end

    def stall(self, seconds: float) -> None:
        """Let time go on while the loop is blocked: no timer runs."""
        self.now += seconds
