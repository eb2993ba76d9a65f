"""How long a scrape of the metrics keeps calls waiting, at a stretch: see `tests.bench.blocking`."""

from collections.abc import Iterator

from tests.bench.aside import measured
from tests.bench.samples import Sample
from tests.bench.stand import Stand, told

PART = "scrape"
CASE = "the worst shop"
ROUNDS = 3


def measure(stand: Stand) -> Iterator[Sample]:
    """A process for every round."""
    for number in range(1, stand.rounds_of(ROUNDS) + 1):
        found = measured("tests.bench.blocking", cpu=stand.cores.contender)
        figures = {"longest_ms": max(found["longest"]) * 1000, "series": found["samples"]}
        yield told(Sample(PART, CASE, "proxy", number, figures), "longest_ms")
