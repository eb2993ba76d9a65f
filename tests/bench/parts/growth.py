"""What a call costs beside many others: connections, live lanes, sessions remembered, and by the size of its body."""

from collections.abc import Iterator, Sequence

from tests.bench import wrk
from tests.bench.aside import measured
from tests.bench.contenders import Contender
from tests.bench.parts.cpu import call
from tests.bench.samples import Sample
from tests.bench.servers import ROOT
from tests.bench.stand import Stand, told
from tests.bench.workload import UPDATE, Workload

PART = "growth"
ROUNDS, SECONDS, WARM_UP = 2, 1.0, 1.0
CONNECTIONS = (1, 8, 64, 512)
LIVE = (10, 1_000, 100_000)
BODIES = (0, 1_000, 10_000, 100_000, 1_000_000)
COMPARED = ("nginx", "proxy-wide")
ADMISSION = "proxy-source"
# What a case varies, for a reader.
WORDS = {
    "connections": "{} connections of callers",
    "body": "body of {} bytes",
    "live": "{} other sessions under way",
    "remembered": "{} sessions remembered",
}


def measure(stand: Stand) -> Iterator[Sample]:
    """Through sockets beside nginx, and admission alone."""
    for number, contender in stand.turns(COMPARED, ROUNDS):
        yield from _through_sockets(stand, contender, number)
    for number in range(1, stand.rounds_of(ROUNDS) + 1):
        yield from _admission(stand, number)


def _through_sockets(stand: Stand, contender: Contender, number: int) -> Iterator[Sample]:
    # In this order, because the connections that five hundred callers needed are opened again for a while.
    cases: Sequence[tuple[str, Workload, int, float]] = (
        *((f"body {size}", body_of(size), wrk.CONNECTIONS, WARM_UP) for size in BODIES),
        *((f"connections {count}", UPDATE, count, 2 * WARM_UP) for count in CONNECTIONS),
    )
    with stand.running(contender) as running:
        for case, workload, count, warm_up in cases:
            seconds = stand.seconds_of(SECONDS)
            figures, problem = call(stand, running, workload, seconds, warm_up=warm_up, connections=count)
            yield told(Sample(PART, case, contender.name, number, figures, problem), "cpu_us")


def body_of(size: int) -> Workload:
    """Updates with a body of this size."""
    return Workload.session(f"body {size}", "PUT", size, ids=64 if size > 10_000 else 1_024)


def _admission(stand: Stand, number: int) -> Iterator[Sample]:
    for kind in ("live", "remembered"):
        for count in LIVE[:1] if stand.short else LIVE:
            seconds = measured("tests.bench.crowd", kind, str(count), cpu=stand.cores.contender, where=ROOT)
            yield told(Sample(PART, f"{kind} {count}", ADMISSION, number, {"call_us": seconds * 1e6}), "call_us")
