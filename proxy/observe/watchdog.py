"""A watch over the event loop: when it does not come round for a second, the log says what it is doing (P11).

A thread looks twice a second whether the loop has shown itself; a call pays nothing. What it tells of the loop's stack
is modules, lines and names, innermost first, and no value: keys and customers stay out. Compiled functions have no
place in a stack: the innermost one told may be their caller. What blocks with the interpreter's lock held keeps this
thread from looking too; that is seen by `talon_proxy_event_loop_lag_seconds` alone.
"""

import sys
import threading
from collections.abc import Callable, Sequence
from types import FrameType

from proxy.observe.entries import Fields

LOOK_EVERY = 0.5  # seconds
SILENT = 1.0  # seconds without a sign, of which there are two a second
DEEPEST = 16  # frames that are told


class Watchdog:
    """Watches the thread in which it is started. `write` is `Logs.write`."""

    def __init__(self, write: Callable[[str, str, Fields], None], *, clock: Callable[[], float]) -> None:
        self._write = write
        self._clock = clock
        self._thread: int | None = None  # that runs the loop
        self._shown = 0.0
        self._looked = 0.0
        self._blocked_since: float | None = None
        self._ended = threading.Event()

    def __repr__(self) -> str:
        return f"<Watchdog {'blocked' if self._blocked_since is not None else 'calm'}>"

    def start(self) -> None:
        """Begin to watch."""
        self._thread = threading.get_ident()
        self.show()
        self._looked = self._shown
        threading.Thread(target=self._watch, name="watchdog", daemon=True).start()

    def stop(self) -> None:
        """Watch no more."""
        self._ended.set()

    def show(self) -> None:
        """The loop shows itself."""
        self._shown = self._clock()

    def _watch(self) -> None:
        while not self._ended.wait(LOOK_EVERY):
            self.look()

    def look(self) -> None:
        """Tell of a block when it is seen first, and when it is over."""
        now, looked = self._clock(), self._looked
        self._looked = now
        if self._blocked_since is not None:
            if self._shown > self._blocked_since:
                seconds, self._blocked_since = self._shown - self._blocked_since, None
                self._write("warning", "the event loop goes on", {"seconds": round(seconds, 1)})
        # When this thread, too, has not looked for so long, the process was stopped: the loop has had no time either.
        elif now - self._shown >= SILENT > now - looked:
            self._blocked_since = self._shown
            stack = _told(sys._current_frames().get(self._thread or 0))  # noqa: SLF001 - there is no other way
            self._write("error", "the event loop is blocked", {"seconds": round(now - self._shown, 1), "stack": stack})


def _told(frame: FrameType | None) -> Sequence[str]:
    lines: list[str] = []
    while frame is not None and len(lines) < DEEPEST:
        code = frame.f_code
        lines.append(f"{frame.f_globals.get('__name__', '?')}:{frame.f_lineno} {code.co_qualname}")
        frame = frame.f_back
    return lines
