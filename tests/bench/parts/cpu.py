"""CPU time per call of everyone under the same closed loop: 32 connections, as fast as answers come.

Directly there is no proxy to take time; what counts there, and for all others beside, is what the caller pays, which is
where TLS goes when there is no proxy to do it.
"""

import time
from collections.abc import Iterator, Sequence

from tests.bench import wrk
from tests.bench.accounting import Reading, cpu_seconds, read_cpu, read_rss
from tests.bench.contenders import Contender
from tests.bench.ourselves import FEATURES, SOURCE, UNOBSERVED
from tests.bench.samples import Sample
from tests.bench.servers import Server
from tests.bench.stand import Running, Stand, told
from tests.bench.workload import LARGE, READ, UPDATE, Workload

PART = "cpu"
ROUNDS, SECONDS, WARM_UP = 4, 2.0, 1.0
TLS = ("nginx", "haproxy", "caddy", "aiohttp", "proxy")
H2 = ("haproxy-h2", "proxy-h2")
CLEAR = ("nginx-clear", "haproxy-clear", "caddy-clear", "aiohttp-clear", "proxy-clear")
VARIANTS = (*(name for name, _, _ in FEATURES), UNOBSERVED[0], SOURCE[0])
DIRECT = ("direct-new", "direct-pooled")


def measure(stand: Stand) -> Iterator[Sample]:
    """All contenders; the main ones with every workload."""
    for number, contender in stand.turns([*TLS, *H2, *CLEAR, *VARIANTS], ROUNDS):
        workloads = (UPDATE, READ, LARGE) if contender.name in (*TLS, *H2) else (UPDATE,)
        yield from _turn(stand, contender, number, workloads)
        if contender.name == "nginx":
            yield from _directly(stand, number)


def _turn(stand: Stand, contender: Contender, number: int, workloads: Sequence[Workload]) -> Iterator[Sample]:
    accepted = stand.origin.accepted()
    with stand.running(contender) as running:
        for workload in workloads:
            seconds = stand.seconds_of(SECONDS if workload is UPDATE else SECONDS / 2)
            figures, problem = call(stand, running, workload, seconds)
            figures["opened"] = stand.origin.accepted() - accepted
            yield told(Sample(PART, workload.name, contender.name, number, figures, problem), "cpu_us")


def call(
    stand: Stand,
    running: Running,
    workload: Workload,
    seconds: float,
    *,
    warm_up: float = WARM_UP,
    connections: int = wrk.CONNECTIONS,
) -> tuple[dict[str, float], str]:
    """Load a contender; gives its figures, and what went wrong.

    Measured is a window within the load: connections opened at its beginning, and calls broken off at its end, are
    none of a call's cost.
    """
    window = Window(stand, running.server)
    warm_up = 0.3 if stand.short else warm_up
    load = wrk.run(
        stand.directory,
        running.place.url,
        workload,
        seconds=warm_up + seconds,
        cpu=stand.cores.load,
        connections=connections,
        meanwhile=lambda: window.measure(warm_up, seconds),
    )
    figures = {
        "calls": window.calls,
        "rate": window.calls / window.seconds,
        "cpu_us": window.cpu / max(window.calls, 1) * 1e6,
        "busy": window.cpu / window.seconds,
        "caller_us": load.cpu / max(load.calls, 1) * 1e6,
        "rss_bytes": window.rss,
    }
    return figures, load.problem or window.problem


class Window:
    """What a contender does between two moments: calls, as the origin counts them, and seconds of CPU time."""

    def __init__(self, stand: Stand, server: Server) -> None:
        self._stand = stand
        self._server = server
        self.calls = self.rss = 0
        self.cpu = self.seconds = 0.0
        self.problem = ""

    def measure(self, warm_up: float, seconds: float) -> None:
        """Wait, then look at both ends of so many seconds."""
        time.sleep(warm_up)
        began, before, answered = self._look()
        time.sleep(seconds)
        ended, after, answered_then = self._look()
        self.calls = answered_then - answered - 1  # the look itself asks the origin
        self.seconds, self.cpu = ended - began, cpu_seconds(before, after)
        self.rss = read_rss(self._server.pids())
        if self.calls <= 0:
            self.problem = "no calls in the window"
        elif not before.keys() <= after.keys():
            self.problem = "a process of it ended in the round"

    def _look(self) -> tuple[float, Reading, int]:
        return time.perf_counter(), read_cpu(self._server.pids()), self._stand.origin.answered()


def _directly(stand: Stand, number: int) -> Iterator[Sample]:
    upstream = stand.origin.fast
    for name in DIRECT:
        accepted = stand.origin.accepted()
        load = wrk.run(
            stand.directory,
            f"https://localhost:{upstream.port}",
            UPDATE,
            seconds=stand.seconds_of(SECONDS),
            cpu=stand.cores.load,
            keep=name == "direct-pooled",
            authorization=upstream.authorization,
        )
        figures = {
            "calls": load.calls,
            "rate": load.calls / load.seconds,
            "caller_us": load.cpu / max(load.calls, 1) * 1e6,
            "opened": stand.origin.accepted() - accepted,
        }
        yield told(Sample(PART, UPDATE.name, name, number, figures, load.problem), "caller_us")
