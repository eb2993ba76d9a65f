"""Bursts: 64 calls at once, the first time and after idleness, and how long the slowest of them takes.

A backend whose callers are idle together and come together meets a proxy whose upstream connections may be gone: then
a call waits for a handshake. Every call has a connection of its own to the contender, open before.
"""

import asyncio
from collections.abc import Iterator, Sequence

from tests.bench.caller import Caller, connect, hang_up
from tests.bench.contenders import Contender
from tests.bench.origin import Origin
from tests.bench.samples import Sample
from tests.bench.stand import Stand, only_on, told
from tests.bench.workload import UPDATE

PART = "burst"
ROUNDS = 3
SIZE = 64
IDLE = 8.0  # seconds before the second burst
PATIENCE = 15.0  # seconds for a burst
SETTLING = 1.0  # seconds between the start and the first burst
FIRST, LATER = "first", "after idleness"
COMPARED = ("nginx", "haproxy", "caddy", "proxy", "haproxy-h2", "proxy-h2")


def measure(stand: Stand) -> Iterator[Sample]:
    """Both bursts of everyone."""
    for number, contender in stand.turns(COMPARED, ROUNDS):
        for sample in _turn(stand, contender, number):
            yield told(sample, "slowest_ms")


def _turn(stand: Stand, contender: Contender, number: int) -> Sequence[Sample]:
    idle = 0.2 if stand.short else IDLE
    with stand.running(contender, seconds=idle + 4 * PATIENCE) as running, only_on(stand.cores.load):
        bursts = asyncio.run(_bursts(running.place.port, stand.origin, idle))
    return [
        Sample(PART, case, contender.name, number, _figures(*burst), "" if burst[0] else "it was not answered")
        for case, burst in zip((FIRST, LATER), bursts, strict=True)
    ]


def _figures(latencies: Sequence[float], opened: int) -> dict[str, float]:
    return {"slowest_ms": max(latencies, default=0.0) * 1000, "opened": opened}


async def _bursts(port: int, origin: Origin, idle: float) -> Sequence[tuple[Sequence[float], int]]:
    """Seconds of every call of both bursts, none where one was not answered, and the connections they opened."""
    callers = [Caller(UPDATE.request(number)) for number in range(SIZE)]
    found = []
    try:
        await connect(callers, port)
        for rest in (SETTLING, idle):
            await asyncio.sleep(rest)
            before = origin.accepted()
            latencies = await _fire(callers)
            found.append((latencies, origin.accepted() - before))
    finally:
        hang_up(callers)
    return found


async def _fire(callers: Sequence[Caller]) -> Sequence[float]:
    try:
        async with asyncio.timeout(PATIENCE):
            return await asyncio.gather(*(caller.call() for caller in callers))
    except (TimeoutError, ConnectionError):
        return ()
