"""A log whose lines are read: a pipe with `Logs` at one end."""

import fcntl
import os
import threading
from collections.abc import Iterator

import orjson

from proxy.observe.logs import Logs

CANARY = "c0ffee5ec2e7c0ffee5ec2e7"
MOMENT = 1_800_000_000.5
PATIENCE = 30.0  # seconds in which a thread surely comes to its turn


def redact(text: str) -> str:
    return text.replace(CANARY, "***")


class Output:
    """A pipe with `Logs` at one end. Nobody reads until `lines` is asked for."""

    def __init__(self, **options: object) -> None:
        self._reading, self._writing = os.pipe()
        arguments: dict[str, object] = {"level": "info", "format": "json", "redact": redact, "fd": self._writing}
        self.time = 100.0
        self.logs = Logs(
            **{**arguments, **options},  # type: ignore[arg-type]
            clock=lambda: self.time,
            now=lambda: MOMENT,
        )

    def lines(self) -> list[str]:
        """Everything that was written, once the log has stopped."""
        read = list[bytes]()
        reader = threading.Thread(target=lambda: read.extend(self._read()))
        reader.start()
        self.logs.stop(PATIENCE)
        self._close_writing()
        reader.join(PATIENCE)
        return b"".join(read).decode().splitlines()

    def entries(self) -> list[dict[str, object]]:
        return [orjson.loads(line) for line in self.lines()]

    def _read(self) -> Iterator[bytes]:
        while piece := os.read(self._reading, 65536):
            yield piece

    def shrink(self) -> None:
        fcntl.fcntl(self._writing, fcntl.F_SETPIPE_SZ, 4096)

    def hang_up(self) -> None:
        if self._reading >= 0:
            os.close(self._reading)
            self._reading = -1

    def close(self) -> None:
        # In this order: a writer that is stuck comes free, and has ended before its end of the pipe is closed.
        self.hang_up()
        self.logs.stop(PATIENCE)
        self._close_writing()

    def _close_writing(self) -> None:
        if self._writing >= 0:
            os.close(self._writing)
            self._writing = -1
