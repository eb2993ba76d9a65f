"""h2load: a connection for every call, as PHP-FPM's callers have it, over TCP or a Unix socket, at a fixed rate.

All its connections begin with the same call, so that it must be one that may be under way many times.
"""

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.bench.servers import BenchError, pinned
from tests.bench.workload import Workload

PERIOD = 0.01  # seconds; connections of one are opened together
MARGIN = 30


@dataclass(frozen=True, slots=True)
class Visits:
    """What became of the calls: seconds from the request to the whole answer of each, without connecting."""

    latencies: Sequence[float]
    problem: str = ""


def run(
    directory: Path,
    workload: Workload,
    *,
    address: str,
    rate: int,
    calls: int,
    cpu: int | None,
) -> Visits:
    """Make so many calls, each on a connection of its own. `address`: `127.0.0.1:port` or `unix:/path`."""
    body, log = directory / "body.json", directory / "h2load.log"
    body.write_text(workload.body)
    log.unlink(missing_ok=True)
    unix = address.startswith("unix:")
    command = ["h2load", "--h1", f"-n{calls}", f"-c{calls}", f"-r{round(rate * PERIOD)}", "--rate-period=10ms"]
    command += ["-d", str(body), "-H", f":method: {workload.method}", "-H", "Content-Type: application/json"]
    command += [f"--log-file={log}", *(["-B", address] if unix else [])]
    command += [f"http://{'127.0.0.1' if unix else address}{workload.path}"]
    patience = calls / rate + MARGIN
    try:
        done = subprocess.run(pinned(command, cpu), capture_output=True, text=True, timeout=patience, check=False)
    except subprocess.TimeoutExpired as exc:
        raise BenchError(f"h2load did not end within {patience:.0f} s") from exc
    if done.returncode or not log.exists():
        raise BenchError(f"h2load failed:\n{done.stdout}{done.stderr}")
    return parse(log.read_text(), calls=calls)


def parse(log: str, *, calls: int) -> Visits:
    """Read h2load's log: the moment, the status and the microseconds of every call."""
    latencies, bad = [], 0
    for line in log.splitlines():
        _, status, microseconds = line.split("\t")
        latencies.append(int(microseconds) / 1e6)
        bad += not status.startswith("2")
    lost = calls - len(latencies)
    problems = [f"{count} {what}" for count, what in ((bad, "non-2xx"), (lost, "calls without an answer")) if count]
    return Visits(latencies, ", ".join(problems))
