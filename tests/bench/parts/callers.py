"""Callers that open a connection for every call, as PHP-FPM does: over TCP, and over a Unix socket."""

from collections.abc import Iterator

from tests.bench import h2load
from tests.bench.accounting import cpu_seconds, read_cpu
from tests.bench.contenders import Contender
from tests.bench.samples import Sample, percentile
from tests.bench.stand import Running, Stand, told
from tests.bench.workload import EVENT

PART = "callers"
ROUNDS, SECONDS = 3, 2.0
RATE = 1_000
TCP, UNIX = "TCP", "Unix socket"
COMPARED = ("nginx", "haproxy", "caddy", "aiohttp", "proxy")


def measure(stand: Stand) -> Iterator[Sample]:
    """Everyone over both."""
    for number, contender in stand.turns(COMPARED, ROUNDS):
        yield from _turn(stand, contender, number)


def _turn(stand: Stand, contender: Contender, number: int) -> Iterator[Sample]:
    with stand.running(contender) as running:
        ways = {TCP: f"127.0.0.1:{running.place.port}", UNIX: f"unix:{running.place.socket}"}
        for case, address in ways.items():
            h2load.run(stand.directory, EVENT, address=address, rate=RATE, calls=RATE // 5, cpu=stand.cores.load)
            yield told(_sample(stand, running, case, address, number), "cpu_us")


def _sample(stand: Stand, running: Running, case: str, address: str, number: int) -> Sample:
    calls = round(RATE * stand.seconds_of(SECONDS))
    before = read_cpu(running.server.pids())
    visits = h2load.run(stand.directory, EVENT, address=address, rate=RATE, calls=calls, cpu=stand.cores.load)
    used = cpu_seconds(before, read_cpu(running.server.pids()))
    figures = {
        "cpu_us": used / calls * 1e6,
        "p50_ms": percentile(visits.latencies, 0.5) * 1000 if visits.latencies else 0.0,
        "p99_ms": percentile(visits.latencies, 0.99) * 1000 if visits.latencies else 0.0,
    }
    return Sample(PART, case, running.contender.name, number, figures, visits.problem)
