"""Ten thousand connections that have made a call each and are idle since: what one costs in memory."""

import asyncio
import resource
from collections.abc import Iterator

from tests.bench.accounting import read_rss
from tests.bench.caller import Caller, connect, hang_up
from tests.bench.contenders import Contender
from tests.bench.peers import HAPROXY_CONNECTIONS, MANY
from tests.bench.samples import Sample
from tests.bench.servers import BenchError
from tests.bench.stand import Running, Stand, only_on, told
from tests.bench.workload import UPDATE

PART = "idle"
CASE = "10,000 connections"
ROUNDS = 2
CONNECTIONS, CONNECTIONS_SHORT = 10_000, 200
AT_A_TIME = 50
SETTLING = 1.0  # seconds
PATIENCE = 60.0
# Without HAProxy where the machine does not let it have as many.
COMPARED = ("nginx", *(["haproxy"] if HAPROXY_CONNECTIONS == MANY else []), "caddy", "proxy-wide")


def measure(stand: Stand) -> Iterator[Sample]:
    """Memory before and with them."""
    _allow_files(CONNECTIONS + 500)
    for number, contender in stand.turns(COMPARED, ROUNDS):
        yield told(_sample(stand, contender, number), "each_bytes")


def _allow_files(wanted: int) -> None:
    """For this process, and for those it starts."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < wanted:
        raise BenchError(f"{wanted} open files are needed, and this machine allows {hard} (ulimit -Hn)")
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _sample(stand: Stand, contender: Contender, number: int) -> Sample:
    count = CONNECTIONS_SHORT if stand.short else CONNECTIONS
    with stand.running(contender) as running, only_on(stand.cores.load):
        before, after, problem = asyncio.run(_crowd(running, count))
    figures = {"before_bytes": before, "after_bytes": after, "each_bytes": (after - before) / count}
    return Sample(PART, CASE, contender.name, number, figures, problem)


async def _crowd(running: Running, count: int) -> tuple[int, int, str]:
    """Memory with as many connections as the first calls need, then with all of them."""
    callers: list[Caller] = []
    try:
        async with asyncio.timeout(PATIENCE):
            # What the first calls bring along is not what a connection costs.
            await _come(running.place.port, callers, 4 * AT_A_TIME)
            before = await _settled(running)
            await _come(running.place.port, callers, count)
            after = await _settled(running)
        closed = sum(caller.closed for caller in callers)
    except (OSError, TimeoutError) as error:
        return 0, 0, f"only {len(callers)} connections: {error!r}"
    finally:
        hang_up(callers)
    return before, after, f"{closed} connections were closed" if closed else ""


async def _come(port: int, callers: list[Caller], count: int) -> None:
    """Add so many; each makes a call."""
    for start in range(0, count, AT_A_TIME):
        added = [Caller(UPDATE.request(number)) for number in range(start, min(start + AT_A_TIME, count))]
        callers += added
        await connect(added, port)
        await asyncio.gather(*(caller.call() for caller in added))


async def _settled(running: Running) -> int:
    await asyncio.sleep(SETTLING)
    return read_rss(running.server.pids())
