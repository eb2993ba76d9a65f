"""The log of this process: entries on standard output, written by a thread of its own.

What it guarantees: whoever logs never waits for the reader of the output; what cannot be kept is dropped and counted;
every line goes through `redact` last. Of what comes in crowds some is written (`bursts`), and how much was left out
stands in the next line of its kind. What a line looks like is `entries`', which calls get one is `access`'s. It does
not rotate or send anything: that belongs to whoever reads the output.
"""

import logging
import os
import queue
import select
import threading
import time
from collections.abc import Callable

from proxy.observe.bursts import Bursts
from proxy.observe.entries import Entries, Fields

CAPACITY = 4 << 20  # characters that wait for a slow reader
AT_ONCE = select.PIPE_BUF  # characters, or one line: nobody else who writes to the pipe gets in between
GATHER = 0.005  # seconds for which lines wait for others: to wake the writer costs more than a line

_LEVELS = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}


class Logs:
    """Takes what the standard `logging` module is given, between `start` and `stop`.

    `extra={"fields": {...}}` adds fields to an entry. `fd` is where lines go.
    """

    def __init__(
        self,
        *,
        level: str,
        format: str,  # noqa: A002 - as the setting is called
        redact: Callable[[str], str],
        fd: int = 1,
        capacity: int = CAPACITY,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._level = level
        self._redact = redact
        self._fd = fd
        self._now = now
        self._entries = Entries(redact, as_text=format == "text" or (format == "auto" and os.isatty(fd)))
        self._bursts = Bursts(clock)
        self._handler = _Handler(self)
        self._before: tuple[list[logging.Handler], int] | None = None  # what `stop` gives back to the root logger
        # Its `put` never waits, not even for the writer. None: nothing follows.
        self._lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._capacity = capacity
        self._ended = threading.Event()
        self._taking = threading.RLock()  # against other threads; taken again by what the collector logs meanwhile
        self._taken = 0  # characters; only those who log change it
        self._refused = 0
        self._writer: threading.Thread | None = None
        self._written = 0  # characters; only the writer changes it
        self._lost = 0
        self._torn = b""  # what ends the half of a line that was left behind

    def __repr__(self) -> str:
        return f"<Logs level={self._level} waiting={self._taken - self._written} dropped={self.dropped}>"

    @property
    def dropped(self) -> int:
        """Entries that were not written."""
        return self._refused + self._lost

    @property
    def level(self) -> str:
        """Least level that is written: debug, info, warning or error. It may be set at any time."""
        return self._level

    @level.setter
    def level(self, level: str) -> None:
        self._level = level
        if self._before is not None:
            logging.getLogger().setLevel(_LEVELS[level])

    def start(self) -> None:
        """Take over the root logger and begin to write."""
        root = logging.getLogger()
        self._before = (root.handlers[:], root.level)
        root.handlers[:] = [self._handler]
        root.setLevel(_LEVELS[self._level])
        # A daemon: stuck in a blocked pipe, it must not keep the process from ending.
        self._writer = threading.Thread(target=self._write_lines, name="log writer", daemon=True)
        self._writer.start()

    def stop(self, timeout: float) -> None:
        """Give the root logger back; write what waits, for at most so many seconds. Later entries are dropped.

        Called again, it waits again.
        """
        if self._before is not None:
            root = logging.getLogger()
            root.handlers[:], level = self._before
            root.setLevel(level)
            self._before = None
            self._ended.set()
            self._lines.put(None)
        if self._writer is not None:
            self._writer.join(timeout)

    # --- for those who log ---

    def write(self, level: str, msg: str, fields: Fields, *, every: bool = False) -> None:
        """Write an entry, and not too many with this text, unless it shall be `every` one. Never waits."""
        left_out = 0 if every else self._bursts.take(f"{level} {msg}")
        if left_out is None:
            self._refused += 1
        else:
            self._put(self._entries.line(self._now(), level, msg, _with(fields, left_out)))

    def take(self, record: logging.LogRecord) -> None:
        """Write an entry of the standard module. Never waits, never raises."""
        try:
            # By its text before arguments: otherwise each of a flood would be the first of its kind.
            left_out = self._bursts.take(f"{record.levelname} {record.msg}")
            if left_out is None:
                self._refused += 1
            else:
                self._put(self._entries.of_record(record, _with({}, left_out)))
        except Exception:
            # A value that cannot even be printed. A call must not fail because it is logged.
            self._refused += 1

    def _put(self, line: str) -> None:
        with self._taking:
            if self._ended.is_set() or self._taken - self._written + len(line) > self._capacity:
                self._refused += 1
            else:
                self._taken += len(line)
                self._lines.put(line)

    # --- the writer's thread ---

    def _write_lines(self) -> None:
        held: list[str] = []
        size = 0
        for line in iter(self._lines.get, None):
            if size + len(line) >= AT_ONCE:
                self._write_out(held)
                held, size = [], 0
            held.append(line)
            size += len(line) + 1
            if self._lines.empty():
                self._write_out(held)
                held, size = [], 0
                self._ended.wait(GATHER)
        self._write_out(held)

    def _write_out(self, lines: list[str]) -> None:
        """Write lines, however slowly they are read. What fails is counted: no place is left to say so."""
        redacted = [text for line in lines if (text := self._redacted(line)) is not None]
        if redacted:
            left = self._send("".join(redacted).encode(errors="backslashreplace"))
            self._lost += min(left.count(b"\n"), len(redacted))
        self._written += sum(map(len, lines))

    def _redacted(self, line: str) -> str | None:
        try:
            return self._redact(line) + "\n"
        except Exception:
            self._lost += 1
            return None

    def _send(self, data: bytes) -> bytes:
        """Write all of it; gives what nobody takes."""
        text = self._torn + data
        rest = memoryview(text)
        try:
            while rest:
                try:
                    rest = rest[os.write(self._fd, rest) :]
                except BlockingIOError:
                    # Another process that shares this output has made it non-blocking.
                    select.select((), (self._fd,), ())
        except OSError:
            # As on a full disk, which may have room again: the next line must not go on from half of one.
            written = text[: len(text) - len(rest)]
            if written:
                self._torn = b"" if written.endswith(b"\n") else b"\n"
            return bytes(rest)
        self._torn = b""
        return b""


def _with(fields: Fields, left_out: int) -> Fields:
    return {**fields, "left_out": left_out} if left_out else fields


class _Handler(logging.Handler):
    """The way from the standard module into `Logs`."""

    def __init__(self, logs: Logs) -> None:
        super().__init__()
        self._logs = logs

    def emit(self, record: logging.LogRecord) -> None:
        self._logs.take(record)
