"""Calls that arrive by themselves: an open loop at a fixed rate, without coordinated omission.

`python -m tests.bench.arrivals URL --rate 500 --seconds 4` calls at moments that were drawn beforehand (a Poisson
process; the same seed, the same moments). A call's time runs from the moment it was meant to be made, whatever held it
up: where answers are late the next calls go out all the same, and where all connections are taken they wait, and that
counts.

Prints JSON: seconds of calls by percentile, and how late they were sent themselves, which is this program's own error.
"""

import argparse
import asyncio
import contextlib
import gc
import json
import random
import ssl
import subprocess
import sys
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import urlsplit

from tests.bench.samples import percentile
from tests.bench.servers import ROOT, BenchError, pinned
from tests.bench.sleeper import precise_loop
from tests.bench.workload import UPDATE
from tests.load import Wire

CONNECTIONS = 100
WARM_UP = 0.7  # seconds before those that count, at most as many as of those
PATIENCE = 10.0  # seconds for the last answers
SHARES = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p999": 0.999}


@dataclass(frozen=True, slots=True)
class Arrivals:
    """What became of the calls; seconds."""

    calls: int
    latency: Mapping[str, float]
    late: Mapping[str, float]
    """From the moment a call was meant to be made to that in which it was, where a connection was free."""
    waited: int
    """Calls that found no connection free."""
    cpu: float
    """Share of a core that this program used."""
    problem: str = ""


def moments(rate: float, seconds: float, seed: int) -> list[float]:
    """When calls arrive, in seconds from the start: independent of each other, `rate` of them a second."""
    draw = random.Random(seed)
    found, moment = [], draw.expovariate(rate)
    while moment < seconds:
        found.append(moment)
        moment += draw.expovariate(rate)
    return found


class Generator:
    """Makes calls at their moments over connections that are open before."""

    def __init__(self, due: Sequence[float], requests: Sequence[bytes], *, from_call: int) -> None:
        """`from_call`: the first of them that counts."""
        self._due = due
        self._requests = requests
        self._first = from_call
        self._next = 0
        self._free: list[_Caller] = []
        self._waiting: deque[int] = deque()
        self._start = 0.0
        self._loop = asyncio.get_running_loop()
        self._done = self._loop.create_future()
        self._open = len(due)
        self.latencies: list[float] = []
        self.late: list[float] = []
        self.waited = 0
        self.bad: list[str] = []

    def connect(self) -> "_Caller":
        """A connection to be opened; it is free then."""
        return _Caller(self)

    async def run(self) -> None:
        """Make all calls, and wait for their answers."""
        self._start = self._loop.time() + 0.01
        self._schedule()
        async with asyncio.timeout(self._due[-1] + PATIENCE):
            await self._done

    def free(self, caller: "_Caller") -> None:
        """A connection is there, or again: who waited longest has it."""
        if self._waiting:
            caller.call(self._waiting.popleft(), self._requests)
        else:
            self._free.append(caller)

    def answered(self, number: int, message: bytes) -> None:
        """Count an answer."""
        if not message.startswith(b"HTTP/1.1 200 "):
            self.lost(message.split(b"\r\n", 1)[0].decode("latin-1"))
            return
        if number >= self._first:
            self.latencies.append(self._loop.time() - self._start - self._due[number])
        self._end()

    def lost(self, why: str) -> None:
        """A call failed."""
        self.bad.append(why)
        self._end()

    def _schedule(self) -> None:
        if self._next < len(self._due):
            self._loop.call_at(self._start + self._due[self._next], self._arrive)

    def _arrive(self) -> None:
        now = self._loop.time() - self._start
        while self._next < len(self._due) and self._due[self._next] <= now:
            number = self._next
            self._next += 1
            if self._free:
                self._free.pop().call(number, self._requests)
                if number >= self._first:
                    self.late.append(self._loop.time() - self._start - self._due[number])
            else:
                self._waiting.append(number)
                self.waited += number >= self._first
        self._schedule()

    def _end(self) -> None:
        self._open -= 1
        if not self._open and not self._done.done():
            self._done.set_result(None)


class _Caller(Wire):
    """One connection."""

    def __init__(self, generator: Generator) -> None:
        super().__init__()
        self._generator = generator
        self._number: int | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._generator.free(self)

    def call(self, number: int, requests: Sequence[bytes]) -> None:
        """Make a call."""
        self._number = number
        self.transport.write(requests[number % len(requests)])

    def take(self, message: bytes) -> None:
        number, self._number = self._number, None
        if number is not None:
            self._generator.answered(number, message)
            self._generator.free(self)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._number is not None:
            self._generator.lost("a connection ended with a call under way")


async def arrive(url: str, *, rate: float, seconds: float, seed: int, authorization: str, ca_file: str) -> Arrivals:
    """Make calls at this rate for so many seconds, after those of the warm-up."""
    warm_up = min(WARM_UP, seconds)
    due = moments(rate, warm_up + seconds, seed)
    first = next(number for number, moment in enumerate(due) if moment >= warm_up)
    requests = [UPDATE.request(number, authorization=authorization) for number in range(UPDATE.ids)]
    generator = Generator(due, requests, from_call=first)
    parts = urlsplit(url)
    tls = ssl.create_default_context(cafile=ca_file) if parts.scheme == "https" else None
    loop = asyncio.get_running_loop()
    callers = []
    for _ in range(CONNECTIONS):
        caller = generator.connect()
        await loop.create_connection(lambda caller=caller: caller, parts.hostname or "", parts.port or 0, ssl=tls)
        callers.append(caller)
    gc.collect()
    gc.disable()
    began, used = time.perf_counter(), time.process_time()
    try:
        await generator.run()
    except TimeoutError:
        generator.bad.append("calls without an answer")
    used, took = time.process_time() - used, time.perf_counter() - began
    for caller in callers:
        caller.transport.abort()
    problem = f"{len(generator.bad)} calls failed, the first: {generator.bad[0]}" if generator.bad else ""
    return Arrivals(
        len(generator.latencies),
        _shares(generator.latencies),
        _shares(generator.late),
        generator.waited,
        used / took,
        problem,
    )


def _shares(values: Sequence[float]) -> Mapping[str, float]:
    if not values:
        return {}
    return {name: percentile(values, share) for name, share in SHARES.items()} | {"max": max(values)}


def run(
    url: str,
    *,
    rate: float,
    seconds: float,
    seed: int,
    cpu: int | None,
    authorization: str = "",
    ca_file: Path | None = None,
) -> Arrivals:
    """Do it in a process of its own, on one core."""
    command = [sys.executable, "-m", "tests.bench.arrivals", url, f"--rate={rate}", f"--seconds={seconds}"]
    command += [f"--seed={seed}", f"--authorization={authorization}", f"--ca-file={ca_file or ''}"]
    patience = WARM_UP + seconds + 2 * PATIENCE
    try:
        done = subprocess.run(
            pinned(command, cpu), capture_output=True, text=True, timeout=patience, check=False, cwd=ROOT
        )
    except subprocess.TimeoutExpired as exc:
        raise BenchError(f"the open loop did not end within {patience:.0f} s") from exc
    if done.returncode:
        raise BenchError(f"the open loop failed:\n{done.stderr}")
    return Arrivals(**json.loads(done.stdout))


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.arrivals", description=__doc__)
    parser.add_argument("url")
    parser.add_argument("--rate", type=float, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--authorization", default="", help="where there is no proxy to add it")
    parser.add_argument("--ca-file", default="", help="whom to trust, of https")
    options = parser.parse_args()
    # Sleep as long as asked for, and not up to 50 µs longer (prctl(2), PR_SET_TIMERSLACK).
    with contextlib.suppress(OSError):
        Path("/proc/self/timerslack_ns").write_text("1")
    with asyncio.Runner(loop_factory=precise_loop) as runner:
        print(json.dumps(asdict(runner.run(arrive(**vars(options))))))


if __name__ == "__main__":
    main()
