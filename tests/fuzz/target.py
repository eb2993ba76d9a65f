"""What a target of the fuzzer is, and the loop that targets share."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Target:
    """One place where bytes from outside are read. `check` raises where a promise is broken."""

    check: Callable[[bytes], None]
    seeds: Sequence[bytes]
    tokens: Sequence[bytes] = ()  # words of its language, for mutations
    longest: int = 4096  # bytes of an input


class Loop:
    """A loop of plain asyncio for one check after the other; what a callback raises counts."""

    def __init__(self) -> None:
        self._runner: asyncio.Runner | None = None
        self._reports: list[dict[str, Any]] = []

    def run(self, check: Coroutine[Any, Any, None]) -> None:
        """Run a check to its end."""
        if self._runner is None:
            self._runner = asyncio.Runner(debug=False)
            self._runner.get_loop().set_exception_handler(lambda _, report: self._reports.append(report))
        self._runner.run(check)
        reports, self._reports = self._reports, []
        assert not reports, reports

    def close(self) -> None:
        """Leave nothing behind."""
        if self._runner is not None:
            self._runner.close()
            self._runner = None


LOOP = Loop()


def pieces(data: bytes, *, most: int = 24) -> list[bytes]:
    """Cut data into pieces of lengths that follow from the data itself: the same each time."""
    cuts = sorted({(byte * 257 + at) % (len(data) + 1) for at, byte in enumerate(data[:most])})
    return [data[start:end] for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True) if start < end]
