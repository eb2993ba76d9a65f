"""Bursts: what callers wait for when many call at once after a rest, and what that opens towards the upstream.

Callers hold their connections to the contender open, as pools do; only the way to the upstream may be cold. Every
burst starts its contender afresh: its first bursts meet the connections it keeps warm by itself, the later ones what
the ones before have left.
"""

import asyncio
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.bench.contenders import Contender, running_contender
from tests.bench.machine import Cores
from tests.bench.origin import Origin, running_origin
from tests.bench.servers import BenchError
from tests.bench.workload import ID_MARK, PATH, reply_body, request_body

REST = 0.5  # seconds before each burst
IN_A_ROW = 3  # bursts of one start of a contender
LIFETIME = 60.0


@dataclass(frozen=True, slots=True)
class Burst:
    """One burst: latencies in seconds, and connections opened for it."""

    contender: str
    latencies: Sequence[float]
    opened: int
    first: bool  # since its contender started


def measure(chosen: Sequence[Contender], cores: Cores, *, rounds: int, calls: int) -> list[Burst]:
    """So many rounds of each contender, in turn, against one origin."""
    found: list[Burst] = []
    with tempfile.TemporaryDirectory(prefix="talon-proxy-bench-") as name:
        directory = Path(name)
        with running_origin(directory, cpu=cores.origin, lifetime=rounds * len(chosen) * LIFETIME) as origin:
            for number in range(rounds):
                first = number % len(chosen)
                for contender in [*chosen[first:], *chosen[:first]]:
                    with running_contender(contender, origin, directory, cpu=cores.contender, lifetime=LIFETIME) as (
                        _,
                        port,
                    ):
                        found += asyncio.run(_bursts(contender.name, port, origin, calls))
    return found


async def _bursts(contender: str, port: int, origin: Origin, calls: int) -> list[Burst]:
    lines = [await asyncio.open_connection("127.0.0.1", port) for _ in range(calls)]
    found = []
    for number in range(IN_A_ROW):
        await asyncio.sleep(REST)
        before = origin.accepted()
        latencies = await asyncio.gather(*[_call(*line, number) for number, line in enumerate(lines)])
        found.append(Burst(contender, latencies, origin.accepted() - before, number == 0))
    for _, writer in lines:
        writer.close()
    return found


async def _call(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> float:
    identity = f"{number:0{len(ID_MARK)}d}"
    body = request_body().replace(ID_MARK, identity).encode()
    began = time.perf_counter()
    writer.write(
        f"PUT {PATH.replace(ID_MARK, identity)} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n".encode()
        + body
    )
    head = await reader.readuntil(b"\r\n\r\n")
    await reader.readexactly(len(reply_body()))
    if not head.startswith(b"HTTP/1.1 200 "):
        raise BenchError(f"a call of a burst was answered {head[:40]!r}")
    return time.perf_counter() - began


def table(bursts: Sequence[Burst]) -> str:
    """The figures of each contender: its first bursts, and the others."""
    lines = [f"{'':<16}{'':<8}{'p50 ms':>8}{'p99 ms':>8}{'max ms':>8}{'opened':>8}"]
    for contender in dict.fromkeys(burst.contender for burst in bursts):
        for first in (True, False):
            of_kind = [burst for burst in bursts if burst.contender == contender and burst.first is first]
            latencies = sorted(latency * 1000 for burst in of_kind for latency in burst.latencies)
            p99 = latencies[int(len(latencies) * 0.99) - 1]
            opened = statistics.median(burst.opened for burst in of_kind)
            lines.append(
                f"{contender:<16}{'first' if first else 'later':<8}{statistics.median(latencies):>8.1f}{p99:>8.1f}"
                f"{latencies[-1]:>8.1f}{opened:>8.0f}"
            )
    return "\n".join(lines)
