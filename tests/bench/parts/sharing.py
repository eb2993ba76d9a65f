"""Ten identical calls at a time, against an upstream that takes 25 ms: how many of them reach it."""

import asyncio
from collections.abc import Iterator

from tests.bench.caller import Caller, connect, hang_up
from tests.bench.samples import Sample
from tests.bench.stand import Stand, only_on, told
from tests.bench.workload import READ, UPDATE, Workload

PART = "sharing"
ROUNDS = 3
CALLS = 10
PATIENCE = 10.0
COMPARED = ("nginx", "proxy", "proxy-bare")


def measure(stand: Stand) -> Iterator[Sample]:
    """Reads, and updates."""
    for number, contender in stand.turns(COMPARED, ROUNDS):
        with stand.running(contender, slow=True) as running, only_on(stand.cores.load):
            for workload in (READ, UPDATE):
                before = stand.origin.answered()
                problem = asyncio.run(_together(running.place.port, workload))
                # The second look counts itself.
                exchanges = stand.origin.answered() - before - 1
                yield told(
                    Sample(PART, workload.name, contender.name, number, {"exchanges": exchanges}, problem), "exchanges"
                )


async def _together(port: int, workload: Workload) -> str:
    """Make ten calls in one step of the loop; gives what went wrong."""
    callers = [Caller(workload.request(1)) for _ in range(CALLS)]
    try:
        async with asyncio.timeout(PATIENCE):
            await connect(callers, port)
            await asyncio.gather(*[caller.call() for caller in callers])
    except (TimeoutError, ConnectionError) as error:
        return f"not answered: {error!r}"
    finally:
        hang_up(callers)
    return ""
