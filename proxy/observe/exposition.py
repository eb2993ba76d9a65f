"""How numbers leave: families with a name and a help text, histograms, and the text a scrape reads.

A `Distribution` is what a histogram is on the hot path: a list of counts and a sum. Only when somebody scrapes does
it become samples of prometheus_client, which also chooses and writes the format. Nothing here knows what is counted.
"""

import asyncio
import itertools
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, GCCollector, Metric, PlatformCollector, ProcessCollector
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

Labels = tuple[str, ...]
Encode = Callable[[Collector], bytes]

BATCH = 250  # samples encoded in one turn of the loop: about 1 ms
_EOF = b"# EOF\n"  # ends OpenMetrics text


class Distribution:
    """Counts per bucket and a sum; the last bucket is for what is above all bounds.

    Values are only collected when they are observed (0.05 µs), and counted a few hundred at a time (`fold`, 0.15 µs
    each, against 0.5 for one alone). The owner folds often enough that few wait.
    """

    __slots__ = ("_counts", "_sum", "_values", "bounds", "observe")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0
        self._values: list[float] = []
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


@dataclass(frozen=True, slots=True)
class Family:
    """A counter (its name ends in `_total`) or a gauge."""

    name: str
    help: str
    labels: Labels = ()

    def metric(self, rows: Iterable[tuple[Labels, float]]) -> Metric:
        """Give the samples of one scrape, one for each set of label values."""
        counter = self.name.endswith("_total")
        metric = Metric(self.name.removesuffix("_total"), self.help, "counter" if counter else "gauge")
        for values, value in rows:
            metric.add_sample(self.name, dict(zip(self.labels, values, strict=True)), value)
        return metric

    def single(self, value: float) -> Metric:
        """Give the one sample of a family without labels."""
        return self.metric([((), value)])


@dataclass(frozen=True, slots=True)
class Histogram:
    """A histogram: its buckets are cumulative, as Prometheus has them."""

    name: str
    help: str
    bounds: tuple[float, ...]
    labels: Labels = ()

    def empty(self) -> Distribution:
        """Give a distribution to count into."""
        return Distribution(self.bounds)

    def metric(self, rows: Iterable[tuple[Labels, Distribution]]) -> Metric:
        """Give the samples of one scrape."""
        metric = Metric(self.name, self.help, "histogram")
        limits = [*map(floatToGoString, self.bounds), "+Inf"]
        for values, distribution in rows:
            labels = dict(zip(self.labels, values, strict=True))
            total = 0
            for limit, count in zip(limits, distribution.counts, strict=True):
                total += count
                metric.add_sample(self.name + "_bucket", {**labels, "le": limit}, total)
            metric.add_sample(self.name + "_count", labels, total)
            metric.add_sample(self.name + "_sum", labels, distribution.sum)
        return metric

    def single(self, distribution: Distribution) -> Metric:
        """Give the samples of a family without labels."""
        return self.metric([((), distribution)])


class Exposition:
    """The whole text of a scrape: what `collect` gives, then `process_*` and `python_*`."""

    def __init__(self, collect: Callable[[], Iterable[Metric]]) -> None:
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
        """Do the same in small turns: a thousand samples take some 4 ms, in which no call would go on."""
        encode, content_type = _choose(accept)
        pieces = []
        for piece in self._pieces(encode):
            pieces.append(piece)
            await asyncio.sleep(0)
        return _whole(pieces, content_type)

    def _pieces(self, encode: Encode) -> Iterator[bytes]:
        """Encode a batch of samples at a time. The numbers of one family are all of one moment."""
        for metric in itertools.chain(self._collect(), self._process.collect()):
            samples = metric.samples
            for start in range(0, max(len(samples), 1), BATCH):
                metric.samples = samples[start : start + BATCH]
                text = encode(_One(metric)).removesuffix(_EOF)
                # Help and type, the first two lines, stand once.
                yield text if start == 0 else text.split(b"\n", 2)[2]


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
