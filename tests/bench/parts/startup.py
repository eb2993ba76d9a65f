"""From exec to ready, and the memory of a contender that nobody has called yet."""

import contextlib
import http.client
import time
from collections.abc import Callable, Iterator

from tests.bench.accounting import cpu_seconds, read_cpu, read_rss
from tests.bench.contenders import Contender, started
from tests.bench.samples import Sample
from tests.bench.servers import START_SECONDS, BenchError, Server
from tests.bench.stand import MARGIN, Stand, told

PART = "startup"
CASE = "from exec to ready"
ROUNDS = 7
GLANCE = 0.002  # seconds between two looks
SETTLING = 0.5  # seconds
COMPARED = ("nginx", "haproxy", "caddy", "aiohttp", "proxy", "proxy-h2")


def measure(stand: Stand) -> Iterator[Sample]:
    """Everyone."""
    for number, contender in stand.turns(COMPARED, ROUNDS):
        yield told(_sample(stand, contender, number), "ready_ms")


def _sample(stand: Stand, contender: Contender, number: int) -> Sample:
    # Written down before the clock starts: the start of the process is what is left.
    began = time.perf_counter()
    with started(contender, stand.origin.fast, stand.directory, cpu=stand.cores.contender, lifetime=MARGIN) as (
        server,
        _,
        ready,
    ):
        took = _until(server, ready) - began
        used = cpu_seconds({}, read_cpu(server.pids()))
        time.sleep(SETTLING)
        figures = {"ready_ms": took * 1000, "cpu_ms": used * 1000, "rss_bytes": read_rss(server.pids())}
    return Sample(PART, CASE, contender.name, number, figures)


def _until(server: Server, ready: Callable[[], bool]) -> float:
    deadline = time.perf_counter() + START_SECONDS
    while time.perf_counter() < deadline:
        with contextlib.suppress(OSError, http.client.HTTPException):
            if ready():
                return time.perf_counter()
        time.sleep(GLANCE)
    raise BenchError(f"{server.name} was not ready after {START_SECONDS:.0f} s:\n{server.tail()}")
