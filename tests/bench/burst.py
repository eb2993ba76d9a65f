"""Bursts: 64 calls at once, the first time and after idleness, and how long the slowest of them takes.

A backend whose callers are idle together and come together meets a proxy whose upstream connections may be gone: then
a call waits for a handshake. Every call has a connection of its own to the contender, open before.
"""

import asyncio
import contextlib
import os
import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.bench.contenders import Contender, running_contender
from tests.bench.machine import Cores
from tests.bench.origin import Origin
from tests.bench.report import REFERENCE, Spread
from tests.bench.workload import ID_MARK, PATH, request_body
from tests.load import Wire

SIZE = 64
PATIENCE = 15.0  # seconds for a burst
SETTLING = 1.0  # seconds between the start and the first burst


@dataclass(frozen=True, slots=True)
class Turn:
    """Both bursts of one contender in one round: seconds of every call, and connections that the later one opened."""

    contender: str
    number: int
    first: Sequence[float]
    later: Sequence[float]
    opened: int
    problem: str = ""


def percentile(values: Sequence[float], share: float) -> float:
    """The value that so many are not above."""
    return sorted(values)[min(int(len(values) * share), len(values) - 1)]


def measure_bursts(
    chosen: Sequence[Contender], origin: Origin, directory: Path, cores: Cores, *, rounds: int, idle: float
) -> list[Turn]:
    """All rounds of all contenders, in turn."""
    turns = []
    for number in range(1, rounds + 1):
        first = (number - 1) % len(chosen)
        for contender in [*chosen[first:], *chosen[:first]]:
            turn = take_turn(contender, origin, directory, cores, number=number, idle=idle)
            turns.append(turn)
            figure = turn.problem or f"p99 {percentile(turn.later, 0.99) * 1000:.1f} ms"
            print(f"burst {number}  {contender.name:<10} {figure}", flush=True)
    return turns


def take_turn(contender: Contender, origin: Origin, directory: Path, cores: Cores, *, number: int, idle: float) -> Turn:
    """Start a contender and let it meet both bursts."""
    lifetime = SETTLING + idle + 4 * PATIENCE
    with (
        running_contender(contender, origin, directory, cpu=cores.contender, lifetime=lifetime) as (_, port),
        _only_on(cores.load),
    ):
        return asyncio.run(_bursts(contender.name, port, origin, number=number, idle=idle))


async def _bursts(name: str, port: int, origin: Origin, *, number: int, idle: float) -> Turn:
    loop = asyncio.get_running_loop()
    calls = [_Call(identity) for identity in range(SIZE)]
    for call in calls:
        await loop.create_connection(lambda call=call: call, "127.0.0.1", port)  # type: ignore[misc]
    try:
        await asyncio.sleep(SETTLING)
        first = await _fire(calls)
        await asyncio.sleep(idle)
        before = origin.accepted()
        later = await _fire(calls)
        return Turn(name, number, first, later, origin.accepted() - before)
    except (TimeoutError, ConnectionError) as error:
        return Turn(name, number, (), (), 0, problem=f"a burst was not answered: {error or 'it took too long'}")
    finally:
        for call in calls:
            call.transport.abort()


async def _fire(calls: Sequence["_Call"]) -> Sequence[float]:
    async with asyncio.timeout(PATIENCE):
        return await asyncio.gather(*(call.fire() for call in calls))


class _Call(Wire):
    """One caller, with its connection."""

    def __init__(self, identity: int) -> None:
        super().__init__()
        text = f"{identity:0{len(ID_MARK)}d}"
        body = request_body().replace(ID_MARK, text).encode()
        head = f"PUT {PATH.replace(ID_MARK, text)} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        self._request = b"%bContent-Length: %d\r\n\r\n%b" % (head.encode(), len(body), body)
        self._answered: asyncio.Future[float]
        self._begun = 0.0

    def fire(self) -> "asyncio.Future[float]":
        """Call; the future has the seconds until the whole answer was there."""
        self._answered = asyncio.get_running_loop().create_future()
        self._begun = time.perf_counter()
        self.transport.write(self._request)
        return self._answered

    def take(self, message: bytes) -> None:
        if self._answered.done():
            return
        if message.startswith(b"HTTP/1.1 200 "):
            self._answered.set_result(time.perf_counter() - self._begun)
        else:
            self._answered.set_exception(ConnectionError(message.split(b"\r\n", 1)[0].decode("latin-1")))

    def connection_lost(self, exc: Exception | None) -> None:
        if hasattr(self, "_answered") and not self._answered.done():
            self._answered.set_exception(ConnectionError("the connection was closed"))


@contextlib.contextmanager
def _only_on(cpu: int | None) -> Iterator[None]:
    """Keep this process off the contender's core."""
    before = os.sched_getaffinity(0)
    if cpu is not None:
        os.sched_setaffinity(0, {cpu})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


# --- the report ---


@dataclass(frozen=True, slots=True)
class BurstRow:
    """One contender over all rounds: p99 in milliseconds of the first and the later burst, and × the reference."""

    contender: str
    first: Spread
    later: Spread
    ratio: Spread | None
    opened: float
    """Connections that the later burst opened, as a median."""


def summarise_bursts(turns: Sequence[Turn]) -> list[BurstRow | str]:
    """One row per contender; of one with a problem, what it is."""
    by_contender: dict[str, list[Turn]] = {}
    for turn in turns:
        by_contender.setdefault(turn.contender, []).append(turn)
    reference = {turn.number: percentile(turn.later, 0.99) for turn in by_contender.get(REFERENCE, []) if turn.later}
    return [_row(name, those, reference) for name, those in by_contender.items()]


def _row(name: str, turns: Sequence[Turn], reference: dict[int, float]) -> BurstRow | str:
    if problems := [f"round {turn.number}: {turn.problem}" for turn in turns if turn.problem]:
        return f"{name}: INVALID, {'; '.join(problems)}"
    later = {turn.number: percentile(turn.later, 0.99) for turn in turns}
    ratios = [seconds / reference[number] for number, seconds in later.items() if number in reference]
    return BurstRow(
        name,
        Spread.of([percentile(turn.first, 0.99) * 1000 for turn in turns]),
        Spread.of([seconds * 1000 for seconds in later.values()]),
        Spread.of(ratios) if ratios else None,
        statistics.median(turn.opened for turn in turns),
    )


def burst_table(rows: Sequence[BurstRow | str], *, idle: float) -> str:
    """The rows as aligned text."""
    head = ("", "first burst, p99 ms", f"after {idle:g} s idle, p99 ms", f"× {REFERENCE}", "connections opened")
    lines = [head, *(_cells(row) for row in rows if isinstance(row, BurstRow))]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    text = [
        "  ".join((line[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(line[1:], widths[1:], strict=True)))).rstrip()
        for line in lines
    ]
    return "\n".join([*text, *(row for row in rows if isinstance(row, str))])


def _cells(row: BurstRow) -> tuple[str, ...]:
    ratio = f"{row.ratio.median:.2f} ({row.ratio.low:.2f}–{row.ratio.high:.2f})" if row.ratio else "-"
    first, later = (f"{each.median:.1f} ({each.low:.1f}–{each.high:.1f})" for each in (row.first, row.later))
    return row.contender, first, later, ratio, f"{row.opened:g}"
