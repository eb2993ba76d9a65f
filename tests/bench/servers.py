"""Servers of a benchmark: child processes on loopback, pinned, bounded in time, stopped by their process id.

`timeout(1)`, the parent of each, ends it when its time is over, or when the benchmark was ended by a SIGKILL.
"""

import contextlib
import http.client
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from tests.bench.accounting import descendants

ROOT = Path(__file__).parents[2]
START_SECONDS = 30.0
STOP_SECONDS = 5.0


class BenchError(Exception):
    """The benchmark cannot go on; the message is for whoever started it."""


@dataclass(frozen=True, slots=True)
class Server:
    """A started child process."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path

    def pids(self) -> list[int]:
        """Its processes, without the `timeout(1)` around them."""
        return descendants(self.process.pid)

    def wait_until(self, ready: Callable[[], bool]) -> None:
        """Return once `ready()` holds; raise BenchError if the process ends first or takes too long."""
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise BenchError(f"{self.name} ended with {self.process.returncode}:\n{self.tail()}")
            with contextlib.suppress(OSError, http.client.HTTPException):
                if ready():
                    return
            time.sleep(0.02)
        raise BenchError(f"{self.name} was not ready after {START_SECONDS:.0f} s:\n{self.tail()}")

    def tail(self, lines: int = 15) -> str:
        """The last lines that it printed."""
        text = self.log.read_text(errors="replace").splitlines()[-lines:]
        return "\n".join(f"    {line}" for line in text) or "    (it printed nothing)"


@contextlib.contextmanager
def running(
    name: str,
    command: list[str],
    *,
    cpu: int | None,
    directory: Path,
    lifetime: float,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> Iterator[Server]:
    """Run `command` for the length of the block, at most `lifetime` seconds."""
    orphaned = ["setpriv", "--pdeathsig", "TERM"]
    bounded = [*orphaned, "timeout", f"--kill-after={STOP_SECONDS:.0f}", f"{lifetime:.0f}", *command]
    log = directory / f"{name}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            pinned(bounded, cpu),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=env,
            cwd=cwd,
            # A group of its own: Ctrl-C reaches us alone, and we stop the servers in order.
            start_new_session=True,
        )
    try:
        yield Server(name, process, log)
    finally:
        _stop(process)


def prepare_process() -> None:
    """Make SIGTERM unwind the stack, so that servers stop and directories go, and find what is in sbin."""
    signal.signal(signal.SIGTERM, _exit)
    # Debian puts nginx and HAProxy where an ordinary user's PATH does not look.
    os.environ["PATH"] = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])


def pinned(command: list[str], cpu: int | None) -> list[str]:
    """The command on one core."""
    return command if cpu is None else ["taskset", "--cpu-list", str(cpu), *command]


def free_port() -> int:
    """A loopback port that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def get_status(port: int, path: str) -> int:
    """The status of a GET on a loopback port."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    finally:
        connection.close()


def _exit(signum: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + signum)


def _stop(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is not None:
        return
    try:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        pass
    finally:
        # Not reaped yet, so the number is still this group's; also reached by a second Ctrl-C.
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
