"""One session with a thousand updates in line, beside others: what the line costs those who do not stand in it.

`python -m tests.conflicts.hotkey`: a constant stream of calls of cold sessions through one proxy, in turns with and
without the line. The turns are interleaved and the medians of their p99 compared, since the machine's mood changes
faster than anything else. Exit code 1 where the line costs the others more than 10 % and more than 2 ms.
"""

import argparse
import asyncio
import contextlib
import itertools
import re
import statistics
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

import orjson
import uvloop

from tests.bench.machine import machine
from tests.bench.servers import prepare_process
from tests.conflicts.callers import Connection, connect, take
from tests.conflicts.figures import percentile
from tests.conflicts.shop import Kind, Request
from tests.process import PATIENCE, Serve, serving, simulating

SHARE, ABSOLUTE = 1.10, 0.002  # what is allowed: this much, or so many seconds more


@dataclass(frozen=True, slots=True)
class Turn:
    """How the cold calls fared in one turn; seconds, sorted."""

    line: bool
    seconds: Sequence[float]

    @property
    def p99(self) -> float:
        """In seconds."""
        return percentile(self.seconds, 99)


def costs_too_much(turns: Sequence[Turn]) -> bool:
    """Judge the medians of both sorts of turns."""
    without, with_line = (_median(turns, line=line) for line in (False, True))
    return with_line > max(without * SHARE, without + ABSOLUTE)


def _median(turns: Sequence[Turn], *, line: bool) -> float:
    return statistics.median(turn.p99 for turn in turns if turn.line is line)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, judge; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.conflicts.hotkey", description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--seconds", type=float, default=2.0, help="of a turn; default: %(default)s")
    parser.add_argument("--rate", type=int, default=300, help="calls a second of cold sessions; default: %(default)s")
    parser.add_argument("--length", type=int, default=1000, help="of the line; default: %(default)s")
    parser.add_argument("--latency", default="25ms", help="of the simulator; default: %(default)s")
    options = parser.parse_args(arguments)
    prepare_process()
    for name, value in machine().items():
        print(f"{name}: {value}")
    turns = uvloop.run(_measure(options))
    for line in (False, True):
        spread = [turn.p99 * 1000 for turn in turns if turn.line is line]
        print(
            f"{'with' if line else 'without'} the line: p99 {_median(turns, line=line) * 1000:.1f} ms "
            f"({min(spread):.1f}–{max(spread):.1f})"
        )
    return 1 if costs_too_much(turns) else 0


async def _measure(options: argparse.Namespace) -> list[Turn]:
    turns = []
    deep = {"lanes__depth": str(2 * options.length), "upstream__timeouts__total": "10min"}
    async with simulating("--latency", options.latency) as url, serving(url, **deep) as proxy:
        cold: list[Connection] = []
        await _turn(proxy, cold, options.rate, 1.0)
        for number in range(options.rounds):
            for line in (False, True) if number % 2 else (True, False):
                async with _in_line(proxy, options.length if line else 0):
                    turns.append(Turn(line, await _turn(proxy, cold, options.rate, options.seconds)))
                print(f"round {number + 1}  {'with' if line else 'without':<8} p99 {turns[-1].p99 * 1000:.1f} ms")
        for connection in cold:
            connection.transport.abort()
    return turns


async def _turn(proxy: Serve, idle: list[Connection], rate: int, seconds: float) -> Sequence[float]:
    """Send so many calls a second, whether those before are answered or not; give how long each took, sorted."""
    took: list[float] = []
    began = time.monotonic()

    async def call(number: int) -> None:
        due = began + number / rate
        await asyncio.sleep(due - time.monotonic())
        connection = await take(idle, proxy.address)
        status = await connection.ask(_update(f"cold-{number % 1000}", number))
        took.append(time.monotonic() - due)
        assert status == 200
        idle.append(connection)

    async with asyncio.TaskGroup() as calls:
        for number in range(int(rate * seconds)):
            calls.create_task(call(number))
    return sorted(took)


@asynccontextmanager
async def _in_line(proxy: Serve, length: int) -> AsyncIterator[None]:
    """Keep a line of this length for the time of the block."""
    waiters = [await connect(proxy.address) for _ in range(length)]
    numbers = itertools.count()

    async def come_again(waiter: Connection) -> None:
        with contextlib.suppress(ConnectionError):
            while True:
                status = await waiter.ask(_update("hot", next(numbers)))
                assert status == 200, status

    async with asyncio.TaskGroup() as line:
        for waiter in waiters:
            line.create_task(come_again(waiter))
        await _waiting(proxy, at_least=length - 1)
        yield
        for waiter in waiters:
            waiter.transport.abort()
    await _waiting(proxy, at_most=0)


async def _waiting(proxy: Serve, *, at_least: int = 0, at_most: int = sys.maxsize) -> None:
    """Wait until so many stand in line."""
    async with asyncio.timeout(PATIENCE):
        while True:
            metrics = (await proxy.ask_admin("/metrics")).body
            found = re.search(rb"^talon_proxy_lane_waiting (\S+)$", metrics, re.MULTILINE)
            assert found is not None
            if at_least <= float(found[1]) <= at_most:
                return
            await asyncio.sleep(0.05)


def _update(session: str, number: int) -> Request:
    item = {"name": f"Shoe {number}", "sku": "shoe", "quantity": 1, "price": 60}
    body = orjson.dumps({"customerSession": {"profileId": session, "cartItems": [item]}})
    return Request(f"{session}-{number}", Kind.UPDATE, "PUT", f"/v2/customer_sessions/{session}", body)


if __name__ == "__main__":
    sys.exit(main())
