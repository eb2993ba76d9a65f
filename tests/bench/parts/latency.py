"""How long calls take that arrive at a fixed rate: against an upstream that takes 25 ms, and against a fast one.

The proxy's part is what its callers wait beyond those who call directly (keep-alive, TLS) in the same round.
"""

from collections.abc import Iterator

from tests.bench import arrivals
from tests.bench.arrivals import Arrivals
from tests.bench.contenders import Contender
from tests.bench.samples import Sample
from tests.bench.stand import Stand, told

PART = "latency"
ROUNDS, SECONDS = 7, 3.0
RATE = 500
SLOW = f"{RATE}/s, 25 ms"
DIRECT = "direct-pooled"
COMPARED = ("nginx", "haproxy", "caddy", "proxy", "proxy-h2")
# Against an upstream that answers at once. Caddy and aiohttp are saturated before the last of them.
RATES = (500, 1_000, 2_000, 4_000)
RATED = ("nginx", "haproxy", "caddy", "proxy")
RATE_ROUNDS, RATE_SECONDS = 3, 1.0
# The generator's own error: against the origin's clear door, where there is next to nothing to measure.
ITSELF = "the generator itself"


def measure(stand: Stand) -> Iterator[Sample]:
    """The added latency first, then by rate."""
    yield from _itself(stand)
    for number, contender in stand.turns(COMPARED, ROUNDS):
        if contender.name == "nginx":
            yield _directly(stand, number)
        with stand.running(contender, slow=True) as running:
            yield _sample(stand, SLOW, contender.name, number, running.place.url, RATE, SECONDS)
    for number, contender in stand.turns(RATED, RATE_ROUNDS):
        yield from _by_rate(stand, contender, number)


def _directly(stand: Stand, number: int) -> Sample:
    url = f"https://localhost:{stand.origin.slow.port}"
    return _sample(stand, SLOW, DIRECT, number, url, RATE, SECONDS, direct=True)


def _itself(stand: Stand) -> Iterator[Sample]:
    url = f"http://localhost:{stand.origin.fast.clear_port}"
    for rate in RATES[:1] if stand.short else RATES:
        yield _sample(stand, f"{rate}/s", ITSELF, 1, url, rate, RATE_SECONDS, direct=True)


def _by_rate(stand: Stand, contender: Contender, number: int) -> Iterator[Sample]:
    with stand.running(contender) as running:
        for rate in RATES[:1] if stand.short else RATES:
            yield _sample(stand, f"{rate}/s", contender.name, number, running.place.url, rate, RATE_SECONDS)


def _sample(
    stand: Stand, case: str, name: str, number: int, url: str, rate: float, seconds: float, *, direct: bool = False
) -> Sample:
    upstream = stand.origin.slow
    found = arrivals.run(
        url,
        rate=rate,
        seconds=0.3 if stand.short else stand.seconds_of(seconds),
        seed=number,
        cpu=stand.cores.load,
        authorization=upstream.authorization if direct else "",
        ca_file=upstream.ca_file,
    )
    return told(Sample(PART, case, name, number, _figures(found), found.problem), "p99_ms")


def _figures(found: Arrivals) -> dict[str, float]:
    latency = {f"{share}_ms": seconds * 1000 for share, seconds in found.latency.items()}
    late = {f"late_{share}_ms": seconds * 1000 for share, seconds in found.late.items()}
    return {"calls": found.calls, "waited": found.waited, "generator_busy": found.cpu, **latency, **late}
