"""The log of this process: entries on standard output, written by a thread of its own; and which calls get one.

What it guarantees: whoever logs never waits for the reader of the output; what cannot be kept is dropped and counted;
every line goes through `redact` last. What a line looks like is `entries`'. It does not rotate or send anything:
that belongs to whoever reads the output.
"""

import logging
import os
import queue
import random
import select
import threading
import time
from collections.abc import Callable

from proxy.errors import ProxyError
from proxy.messages import Call, Reply, Sent
from proxy.observe.entries import Entries, Fields

CAPACITY = 4 << 20  # characters that wait for a slow reader
BURST = 100  # entries with one text in one second
TEXTS = 1_000  # told apart in one second
SLOW = 1.0  # seconds from which a call counts as slow
CLIENT_GONE = 499  # nobody was there to read another status (as nginx has it)

_LEVELS = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}
_CALL = "call"
_REJECTED = "message rejected"


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
        self._bursts = _Bursts(clock)
        self._handler = _Handler(self)
        self._before: tuple[list[logging.Handler], int] | None = None  # what `stop` gives back to the root logger
        # Its `put` never waits, not even for the writer. None: nothing follows.
        self._lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._capacity = capacity
        self._ended = False
        self._taken = 0  # characters; only those who log change it
        self._refused = 0
        self._writer: threading.Thread | None = None
        self._written = 0  # characters; only the writer changes it
        self._lost = 0

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
            self._ended = True
            self._lines.put(None)
        if self._writer is not None:
            self._writer.join(timeout)

    # --- for those who log ---

    def write(self, level: str, msg: str, fields: Fields, *, burst: int | None = BURST) -> None:
        """Write an entry, at most `burst` with this text in a second (None: all). Never waits."""
        if burst is not None and not self._bursts.allow(f"{level} {msg}", burst):
            self._refused += 1
        else:
            self._put(self._entries.line(self._now(), level, msg, fields))

    def take(self, record: logging.LogRecord) -> None:
        """Write an entry of the standard module. Never waits, never raises."""
        try:
            # By its text before arguments: otherwise each of a flood would be the first of its kind.
            if self._bursts.allow(f"{record.levelname} {record.msg}", BURST):
                self._put(self._entries.of_record(record))
            else:
                self._refused += 1
        except Exception:
            # A value that cannot even be printed. A call must not fail because it is logged.
            self._refused += 1

    def _put(self, line: str) -> None:
        if self._ended or self._taken - self._written + len(line) > self._capacity:
            self._refused += 1
        else:
            self._taken += len(line)
            self._lines.put(line)

    # --- the writer's thread ---

    def _write_lines(self) -> None:
        while (line := self._lines.get()) is not None:
            try:
                self._write_out(self._redact(line))
            except Exception:
                # Nobody reads, or the line cannot be redacted: no place is left to say so but the count.
                self._lost += 1
            self._written += len(line)

    def _write_out(self, line: str) -> None:
        """Write a line, however slowly it is read. Raises OSError."""
        rest = memoryview(line.encode(errors="backslashreplace") + b"\n")
        while rest:
            try:
                rest = rest[os.write(self._fd, rest) :]
            except BlockingIOError:
                # Another process that shares this output has made it non-blocking.
                select.select((), (self._fd,), ())


class _Handler(logging.Handler):
    """The way from the standard module into `Logs`."""

    def __init__(self, logs: Logs) -> None:
        super().__init__()
        self._logs = logs

    def emit(self, record: logging.LogRecord) -> None:
        self._logs.take(record)


class _Bursts:
    """Counts what is the same within a second."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._second = 0
        self._counts: dict[int, int] = {}

    def allow(self, text: str, most: int) -> bool:
        """Count one more; False: there were `most` in this second."""
        second = int(self._clock())
        if second != self._second:
            self._second = second
            self._counts = {}
        key = hash(text)
        if len(self._counts) >= TEXTS and key not in self._counts:
            key = 0  # a flood of different texts is a flood too
        count = self._counts.get(key, 0) + 1
        self._counts[key] = count
        return count <= most


class AccessLog:
    """Writes a line for the calls that `log.access` selects: `all`, `errors`, `slow`, `off` or `sample`."""

    def __init__(
        self,
        logs: Logs,
        mode: str,
        rate: float = 1.0,
        *,
        clock: Callable[[], float] = time.monotonic,
        draw: Callable[[], float] = random.random,
    ) -> None:
        """`clock` is the one that timelines are stamped by; `draw` gives a random share for `sample`."""
        self._logs = logs
        self._mode = mode
        self._rate = rate
        self._clock = clock
        self._draw = draw
        self._only_failed = mode in ("errors", "off")
        # All of them were asked for; of errors and slow calls, which come in crowds, some tell enough.
        self._burst = None if mode in ("all", "sample") else BURST

    def finished(self, call: Call, reply: Reply, *, whole: bool) -> None:
        """An answer was written, or found its caller gone."""
        failed = reply.status >= 400 or call.error is not None or not whole
        if not failed and self._only_failed:
            return
        timeline = call.timeline
        duration = (timeline.written or timeline.ready) - timeline.arrived
        if self._wants(failed, duration):
            # Written by nobody: the caller had left. Broken off while it was written: the status had been told.
            status = reply.status if timeline.written else CLIENT_GONE
            self._write(_CALL, _fields(call, status, duration, _sent_bytes(reply) if whole else None))

    def rejected(self, reply: Reply, error: ProxyError) -> None:
        """A message that never became a call was answered."""
        if self._wants(True, 0.0):
            fields = {"operation": "other", "status": reply.status, "error": error.category.value}
            self._write(_REJECTED, {**fields, "bytes_out": len(reply.body)})

    def abandoned(self, call: Call, sent: Sent) -> None:
        """A caller left before its answer; a call that had been sent is `finished` when it lands."""
        duration = self._clock() - call.timeline.arrived
        if sent is Sent.NO and self._wants(True, duration):
            self._write(_CALL, _fields(call, CLIENT_GONE, duration, None))

    def _wants(self, failed: bool, duration: float) -> bool:
        match self._mode:
            case "all":
                return True
            case "errors":
                return failed
            case "slow":
                return duration >= SLOW
            case "sample":
                return self._draw() < self._rate
        return False

    def _write(self, msg: str, fields: Fields) -> None:
        self._logs.write("info", msg, fields, burst=self._burst)


def _fields(call: Call, status: int, duration: float, bytes_out: int | None) -> dict[str, object]:
    """Give what a line says of a call. No target, no ids, no bodies: keys and customers stay out of logs."""
    timeline = call.timeline
    fields: dict[str, object] = {
        "request_id": call.request_id,
        "method": call.method,
        "operation": call.operation,
        "status": status,
        "duration_ms": _milliseconds(duration),
        "bytes_in": len(call.body),
        "application": call.application,
    }
    if bytes_out is not None:
        fields["bytes_out"] = bytes_out
    if timeline.tries:
        fields["retries"] = timeline.tries - 1
        fields["reused"] = timeline.reused
    if timeline.upstream and timeline.ready:
        fields["upstream_ms"] = _milliseconds(timeline.upstream)
        fields["overhead_ms"] = _milliseconds(timeline.ready - timeline.complete - timeline.upstream - timeline.waited)
    if timeline.waited:
        fields["lane_ms"] = _milliseconds(timeline.waited)
    if timeline.conflicts:
        fields["conflict"] = timeline.conflicts
    if call.admission:
        fields["admission"] = call.admission
        fields["coalesced"] = timeline.joined
    if call.error is not None:
        fields["error"] = call.error
    return fields


def _sent_bytes(reply: Reply) -> int | None:
    """Give the size of a body that was sent whole. An answer to HEAD has a length and none."""
    return len(reply.body) if reply.stream is None else reply.length


def _milliseconds(seconds: float) -> float:
    return round(max(seconds, 0.0) * 1000, 2)
