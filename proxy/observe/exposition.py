"""How numbers leave: families with a name and a help text, histograms, and the text a scrape reads.

A `Distribution` is what a histogram is on the hot path: a list of counts and a sum. Only when somebody scrapes does
it become samples of prometheus_client, which also chooses and writes the format. Nothing here knows what is counted.
"""

import asyncio
import itertools
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, GCCollector, Metric, PlatformCollector, ProcessCollector
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector
from prometheus_client.samples import Exemplar, Sample
from prometheus_client.utils import floatToGoString

Labels = tuple[str, ...]
Encode = Callable[[Collector], bytes]
# Label values, counts per bucket, sum, exemplars by bucket.
_Row = tuple[Labels, Sequence[int], float, Mapping[int, Exemplar]]

BATCH = 200  # samples made and encoded in one turn of the loop: 2 ms
_EOF = b"# EOF\n"  # ends OpenMetrics text


class Distribution:
    """Counts per bucket and a sum; the last bucket is for what is above all bounds.

    Values are only collected when they are observed (0.05 µs), and counted a few hundred at a time (`fold`, 0.15 µs
    each, against 0.5 for one alone). The owner folds often enough that few wait.
    """

    __slots__ = ("_counts", "_sum", "_values", "bounds", "exemplars", "observe")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0
        self._values: list[float] = []
        self.exemplars: dict[int, Exemplar] = {}  # by bucket
        self.observe = self._values.append

    def __repr__(self) -> str:
        return f"<Distribution count={self.count} sum={self.sum:.6g}>"

    def fold(self) -> None:
        """Count what was observed."""
        values = self._values
        if not values:
            return
        values.sort()
        below = 0
        for position, bound in enumerate(self.bounds):
            upto = bisect_right(values, bound, below)
            self._counts[position] += upto - below
            below = upto
        self._counts[-1] += len(values) - below
        self._sum += sum(values)
        values.clear()

    def exemplify(self, value: float, trace_id: str, moment: float) -> None:
        """Remember in which trace a value was observed: the latest of each bucket. `moment` is Unix time."""
        self.exemplars[bisect_left(self.bounds, value)] = Exemplar({"trace_id": trace_id}, value, moment)

    @property
    def counts(self) -> Sequence[int]:
        """Per bucket."""
        self.fold()
        return self._counts

    @property
    def sum(self) -> float:
        """Of all values."""
        self.fold()
        return self._sum

    @property
    def count(self) -> int:
        """How many values."""
        return sum(self.counts)


class Shown:
    """What a family shows in one scrape: all of one moment, made into samples only as they are asked for.

    Samples and their text are what costs: 10 µs each.
    """

    __slots__ = ("help", "kind", "name", "samples")

    def __init__(self, name: str, help: str, kind: str, samples: Iterable[Sample]) -> None:  # noqa: A002
        self.name = name
        self.help = help
        self.kind = kind
        self.samples = iter(samples)

    def some(self, most: int) -> Metric:
        """Give the next samples, as many as may be made in one turn of the loop; none: there are no more."""
        metric = Metric(self.name, self.help, self.kind)
        metric.samples = list(itertools.islice(self.samples, most))
        return metric


@dataclass(frozen=True, slots=True)
class Family:
    """A counter (its name ends in `_total`) or a gauge."""

    name: str
    help: str
    labels: Labels = ()

    @property
    def kind(self) -> str:
        """The type, as Prometheus names it."""
        return "counter" if self.name.endswith("_total") else "gauge"

    def shown(self, rows: Iterable[tuple[Labels, float]]) -> Shown:
        """Show these, one for each set of label values."""
        return Shown(self.name.removesuffix("_total"), self.help, self.kind, self._samples(list(rows)))

    def single(self, value: float) -> Shown:
        """Show a family without labels."""
        return self.shown([((), value)])

    def _samples(self, rows: Sequence[tuple[Labels, float]]) -> Iterator[Sample]:
        for values, value in rows:
            yield Sample(self.name, dict(zip(self.labels, values, strict=True)), value)


@dataclass(frozen=True, slots=True)
class Histogram:
    """A histogram: its buckets are cumulative, as Prometheus has them."""

    name: str
    help: str
    bounds: tuple[float, ...]
    labels: Labels = ()

    @property
    def kind(self) -> str:
        """The type, as Prometheus names it."""
        return "histogram"

    def empty(self) -> Distribution:
        """Give a distribution to count into."""
        return Distribution(self.bounds)

    def shown(self, rows: Iterable[tuple[Labels, Distribution]]) -> Shown:
        """Show these, one for each set of label values."""
        taken = [
            (values, tuple(distribution.counts), distribution.sum, dict(distribution.exemplars))
            for values, distribution in rows
        ]
        return Shown(self.name, self.help, self.kind, self._samples(taken))

    def single(self, distribution: Distribution) -> Shown:
        """Show a family without labels."""
        return self.shown([((), distribution)])

    def _samples(self, rows: Sequence[_Row]) -> Iterator[Sample]:
        limits = [*map(floatToGoString, self.bounds), "+Inf"]
        for values, counts, total, exemplars in rows:
            labels = dict(zip(self.labels, values, strict=True))
            below = 0
            for position, count in enumerate(counts):
                below += count
                bucket = {**labels, "le": limits[position]}
                yield Sample(self.name + "_bucket", bucket, below, None, exemplars.get(position))
            yield Sample(self.name + "_count", labels, below)
            yield Sample(self.name + "_sum", labels, total)


class Exposition:
    """The whole text of a scrape: what `collect` gives, then `process_*` and `python_*`."""

    def __init__(self, collect: Callable[[], Iterable[Shown]]) -> None:
        self._collect = collect
        self._process = CollectorRegistry()
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            collector(registry=self._process)

    def __repr__(self) -> str:
        return f"<Exposition of {self._collect!r}>"

    def render(self, accept: str | None) -> tuple[bytes, str]:
        """Give text and content type in the format that an `Accept` value prefers: Prometheus text or OpenMetrics."""
        encode, content_type = _choose(accept)
        return _whole(self._pieces(encode), content_type)

    async def scrape(self, accept: str | None) -> tuple[bytes, str]:
        """Do the same in small turns: a thousand samples take some 10 ms, in which no call would go on."""
        encode, content_type = _choose(accept)
        pieces = []
        for piece in self._pieces(encode):
            pieces.append(piece)
            await asyncio.sleep(0)
        return _whole(pieces, content_type)

    def _pieces(self, encode: Encode) -> Iterator[bytes]:
        """Make and encode a batch of samples at a time."""
        for shown in itertools.chain(self._collect(), self._of_process()):
            metric = shown.some(BATCH)
            yield encode(_One(metric)).removesuffix(_EOF)
            while len(metric.samples) == BATCH:
                metric = shown.some(BATCH)
                # Help and type, the first two lines, stand once.
                yield encode(_One(metric)).removesuffix(_EOF).split(b"\n", 2)[2]

    def _of_process(self) -> Iterator[Shown]:
        for metric in self._process.collect():
            yield Shown(metric.name, metric.documentation, metric.type, metric.samples)


class _One(Collector):
    """A single family."""

    def __init__(self, metric: Metric) -> None:
        self._metric = metric

    def collect(self) -> Iterable[Metric]:
        return (self._metric,)


def _choose(accept: str | None) -> tuple[Encode, str]:
    try:
        return choose_encoder(accept or "")
    except TypeError:
        # A version that is no number cannot be compared, and nobody needs it.
        return choose_encoder("")


def _whole(pieces: Iterable[bytes], content_type: str) -> tuple[bytes, str]:
    end = _EOF if content_type.startswith("application/openmetrics-text") else b""
    return b"".join(pieces) + end, content_type
