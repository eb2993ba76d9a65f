"""wrk: a closed loop of calls over so many connections, as fast as they are answered."""

import math
import re
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.bench.accounting import children_cpu_seconds
from tests.bench.servers import BenchError, pinned
from tests.bench.workload import ID_MARK, Workload

CONNECTIONS = 32
MARGIN = 30  # seconds that wrk may take beyond those it measures


@dataclass(frozen=True, slots=True)
class Load:
    """What wrk counted in one run; `cpu` are seconds that it used itself, making requests beforehand included."""

    calls: int
    seconds: float
    bad_statuses: int
    connect_errors: int
    read_errors: int
    write_errors: int
    timeouts: int
    cpu: float = 0.0

    @property
    def problem(self) -> str:
        """Why this run does not count, or nothing."""
        counts = {
            "non-2xx": self.bad_statuses,
            "connect errors": self.connect_errors,
            "read errors": self.read_errors,
            "write errors": self.write_errors,
            "time-outs": self.timeouts,
        }
        problems = [f"{count} {name}" for name, count in counts.items() if count]
        return ", ".join(problems if self.calls else ["no calls", *problems])


def run(
    directory: Path,
    url: str,
    workload: Workload,
    *,
    seconds: float,
    cpu: int | None,
    connections: int = CONNECTIONS,
    keep: bool = True,
    authorization: str = "",
    meanwhile: Callable[[], None] = lambda: None,
) -> Load:
    """Call `url` for so many seconds. `keep`: connections; without, every call opens its own."""
    script = directory / "load.lua"
    script.write_text(lua_script(workload, keep=keep, authorization=authorization))
    length = math.ceil(seconds)  # wrk takes whole ones
    command = ["wrk", "-t1", f"-c{connections}", f"-d{length}s", "-s", str(script), url]
    before = children_cpu_seconds()
    with subprocess.Popen(pinned(command, cpu), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        try:
            meanwhile()
            output, _ = process.communicate(timeout=length + MARGIN)
        except subprocess.TimeoutExpired as exc:
            raise BenchError(f"wrk did not end within {length + MARGIN} s") from exc
        finally:
            process.kill()
    return parse(output, cpu=children_cpu_seconds() - before)


def parse(output: str, *, cpu: float = 0.0) -> Load:
    """Read the line that our script's `done` prints."""
    line = re.search(r"^bench: (.*)$", output, re.MULTILINE)
    if line is None:
        raise BenchError(f"wrk gave no result:\n{output.strip() or '(it printed nothing)'}")
    counts = {name: int(count) for name, count in re.findall(r"(\w+)=(\d+)", line[1])}
    return Load(
        calls=counts["calls"],
        seconds=counts["microseconds"] / 1e6,
        bad_statuses=counts["status"],
        connect_errors=counts["connect"],
        read_errors=counts["read"],
        write_errors=counts["write"],
        timeouts=counts["timeout"],
        cpu=cpu,
    )


def lua_script(workload: Workload, *, keep: bool = True, authorization: str = "") -> str:
    """wrk's script: all requests are made beforehand, then sent in turn."""
    headers = {"Accept": "application/json"}
    if workload.body:
        headers["Content-Type"] = "application/json"
    if not keep:
        headers["Connection"] = "close"
    if authorization:
        headers["Authorization"] = authorization
    # Put together rather than searched: a megabyte of them would take longer than the warm-up.
    body = " .. id .. ".join(f"[==[{piece}]==]" for piece in workload.body.split(ID_MARK))
    lines = ", ".join(f'["{name}"] = "{value}"' for name, value in headers.items())
    return f"""\
local requests = {{}}
local next = 0

function init()
  local headers = {{ {lines} }}
  for i = 1, {workload.ids} do
    local id = string.format("%0{len(ID_MARK)}d", i)
    local path = string.gsub("{workload.path}", "{ID_MARK}", id)
    requests[i] = wrk.format("{workload.method}", path, headers, {body})
  end
end

function request()
  next = next % {workload.ids} + 1
  return requests[next]
end

function done(summary)
  local errors = summary.errors
  io.write(string.format(
    "bench: calls=%.0f microseconds=%.0f status=%.0f connect=%.0f read=%.0f write=%.0f timeout=%.0f\\n",
    summary.requests, summary.duration,
    errors.status, errors.connect, errors.read, errors.write, errors.timeout))
end
"""
