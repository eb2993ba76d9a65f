"""What was measured, and what it adds up to. Pure.

A sample is what one contender gave in one round of one case of a part: figures by name. The name says the unit (`_us`,
`_ms`, `_bytes`); without one it is a count. Contenders of a round took their turns soon after each other, so that a
slow spell of the machine falls on all of them: they are compared round by round, and the median of that counts.
"""

import statistics
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self


@dataclass(frozen=True, slots=True)
class Sample:
    """One turn of one contender."""

    part: str
    case: str
    contender: str
    round: int
    figures: Mapping[str, float]
    problem: str = ""
    """Why it does not count, or nothing."""


@dataclass(frozen=True, slots=True)
class Spread:
    """A median with its extremes."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Self:
        """The spread of at least one value."""
        return cls(statistics.median(values), min(values), max(values))


class Samples:
    """All samples of a run, in the order in which they were taken."""

    def __init__(self, samples: Iterable[Sample] = ()) -> None:
        self._all = list(samples)

    def __iter__(self) -> Iterator[Sample]:
        return iter(self._all)

    def __len__(self) -> int:
        return len(self._all)

    def add(self, sample: Sample) -> None:
        """Keep one more."""
        self._all.append(sample)

    def cases(self, part: str) -> list[str]:
        """The cases of a part, as they came."""
        return list(dict.fromkeys(sample.case for sample in self._all if sample.part == part))

    def contenders(self, part: str, case: str) -> list[str]:
        """Who was measured in a case, as they came in its first round."""
        return list(dict.fromkeys(each.contender for each in self._all if (each.part, each.case) == (part, case)))

    def of(self, part: str, case: str, contender: str) -> list[Sample]:
        """The rounds of one contender."""
        wanted = (part, case, contender)
        return [sample for sample in self._all if (sample.part, sample.case, sample.contender) == wanted]

    def problems(self) -> list[str]:
        """What went wrong, one line for each turn."""
        return [
            f"{sample.part}, {sample.case}, {sample.contender}, round {sample.round}: {sample.problem}"
            for sample in self._all
            if sample.problem
        ]

    def spread(self, part: str, case: str, contender: str, figure: str) -> Spread | None:
        """One figure over all rounds; None where it was not measured, or where a round went wrong."""
        values = self._by_round(part, case, contender, figure)
        return Spread.of(list(values.values())) if values else None

    def ratio(self, part: str, case: str, contender: str, reference: str, figure: str) -> Spread | None:
        """One figure as a multiple of the reference's, round by round; None as for `spread`."""
        return self._compared(part, case, contender, reference, figure, lambda own, other: own / other)

    def difference(self, part: str, case: str, contender: str, reference: str, figure: str) -> Spread | None:
        """One figure less the reference's, round by round; None as for `spread`."""
        return self._compared(part, case, contender, reference, figure, lambda own, other: own - other)

    def as_json(self) -> list[dict[str, Any]]:
        """For a file."""
        return [asdict(sample) for sample in self._all]

    @classmethod
    def from_json(cls, content: Iterable[Mapping[str, Any]]) -> Self:
        """Out of a file."""
        return cls(Sample(**each) for each in content)

    def _by_round(self, part: str, case: str, contender: str, figure: str) -> dict[int, float]:
        samples = self.of(part, case, contender)
        if any(sample.problem for sample in samples):
            return {}
        return {sample.round: sample.figures[figure] for sample in samples if figure in sample.figures}

    def _compared(
        self,
        part: str,
        case: str,
        contender: str,
        reference: str,
        figure: str,
        by: Callable[[float, float], float],
    ) -> Spread | None:
        own, others = (self._by_round(part, case, name, figure) for name in (contender, reference))
        found = [by(value, others[number]) for number, value in own.items() if number in others]
        return Spread.of(found) if found else None


def percentile(values: Sequence[float], share: float) -> float:
    """The value that so many are not above."""
    return sorted(values)[min(int(len(values) * share), len(values) - 1)]
