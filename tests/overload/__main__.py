"""Measure what overload and crowds do, and judge; exit code 1 where something is that must not be.

The generator, the origin and the proxy share the machine: where it is busy, or small, the generator is what runs out
first ("late" is how late it made its calls), and a smaller `--concurrency` with a longer `--latency` tells more.
"""

import argparse
import asyncio
import resource
import sys
from collections.abc import Sequence

import uvloop

from tests.bench.accounting import read_rss
from tests.overload.crowd import Crowd
from tests.overload.figures import CLOSED_WITHIN, HEADING, Crowded, Overload, p99, row
from tests.overload.open_loop import SESSIONS, OpenLoop
from tests.overload.origin import origin
from tests.process import Serve, serving

HEAD_TIMEOUT = 10.0  # seconds; timeouts.head
WATCH_EVERY = 0.1  # seconds between two looks at the memory
CALLERS = 200
CALM = 400  # calls a second beside a crowd
ROOM = 1000  # connections beside a crowd's


class Memory:
    """Watches how much the proxy takes at most; bytes."""

    def __init__(self, proxy: Serve) -> None:
        self.before = self.most = read_rss([proxy.pid])
        self._pid = proxy.pid
        self._watching = asyncio.create_task(self._watch(), name="memory")

    async def _watch(self) -> None:
        while True:
            self.most = max(self.most, read_rss([self._pid]))
            await asyncio.sleep(WATCH_EVERY)

    def stop(self) -> None:
        """Watch no more."""
        self._watching.cancel()


async def overload(concurrency: int, latency: float, seconds: float) -> Overload:
    """Offer the capacity, twice that, and half of it."""
    rate, callers = concurrency / latency, 4 * concurrency + 50
    settings = {"limits__concurrency": str(concurrency), "upstream__connections__max": str(concurrency)}
    async with origin(latency) as url, serving(url, **settings) as proxy:
        memory = Memory(proxy)
        load = OpenLoop(proxy.address, callers)
        await load.connect()
        await load.saturate(callers, seconds / 2)  # all have called then, and none is taken for mute
        peak = await load.saturate(2 * concurrency, seconds)
        once = await load.play(rate, seconds)
        twice = await load.play(2 * rate, seconds)
        after = await load.play(rate / 2, seconds / 2)
        memory.stop()
        load.close()
    return Overload(concurrency, callers, SESSIONS, peak, once, twice, after, memory.before, memory.most)


async def crowded(name: str, size: int, *, slow: bool, rounds: int, seconds: float) -> tuple[Crowded, Crowd]:
    """Call beside a crowd and without one, in turns; the last slow one stays for as long as it may."""
    without, beside, failures = [], [], 0
    async with origin(0.025) as url, serving(url, limits__connections=str(size + ROOM)) as proxy:
        load = OpenLoop(proxy.address, CALLERS)
        await load.connect()
        await load.saturate(CALLERS, seconds / 2)
        await load.play(CALM, seconds)
        crowd = Crowd(size, slow=slow)
        for number in range(rounds):
            turn = await load.play(CALM, seconds)
            crowd = Crowd(size, slow=slow)
            await crowd.gather(proxy.address)
            other = await load.play(CALM, seconds)
            without.append(p99(turn.done))
            beside.append(p99(other.done))
            failures += 2 * round(CALM * seconds) - len(turn.done) - len(other.done)
            if slow and number == rounds - 1:
                await asyncio.wait_for(crowd.gone.wait(), 2 * HEAD_TIMEOUT)
            await crowd.disperse()
        load.close()
    return Crowded(name, without, beside, failures), crowd


async def measure(options: argparse.Namespace) -> Sequence[str]:
    """Measure and print; give what must not be."""
    wrong: list[str] = []
    for concurrency, latency in options.capacity:
        found = await overload(concurrency, latency, options.seconds)
        print(f"\n{concurrency} at a time, {latency * 1000:.0f} ms each: {concurrency / latency:.0f} a second")
        print(HEADING)
        for name in ("peak", "once", "twice", "after"):
            print(row(name, getattr(found, name)))
        memory = f"{found.rss_before / 1e6:.0f} ⇒ {found.rss_most / 1e6:.0f} MB, bound {found.bound / 1e6:.0f} MB"
        for turn in (found.peak, found.once, found.twice, found.after):
            for what, count in turn.failures.items():
                print(f"{count} × {what}")
        print(f"goodput at twice the capacity: {found.goodput:.0%} of the peak; memory {memory}")
        wrong += found.wrong()
    for name, size, slow in (("slow heads", options.slow, True), ("idle", options.idle, False)):
        crowd_found, crowd = await crowded(name, size, slow=slow, rounds=options.rounds, seconds=options.turn)
        before, beside = (f"{seconds * 1000:.1f}" for seconds in crowd_found.medians)
        print(f"\n{size} {name} beside {CALM} calls a second: p99 of these {before} ⇒ {beside} ms")
        wrong += crowd_found.wrong()
        if slow:
            longest = max(crowd.stayed)
            print(f"all of the slow are closed after {longest:.1f} s, deadline {HEAD_TIMEOUT:.0f} s")
            if longest > HEAD_TIMEOUT + CLOSED_WITHIN:
                wrong.append(f"a slow head was kept for {longest:.1f} s")
    return wrong


def _capacity(text: str) -> tuple[int, float]:
    concurrency, _, latency = text.partition(":")
    return int(concurrency), float(latency) / 1000


def main() -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m tests.overload", description=__doc__)
    parser.add_argument("--capacity", type=_capacity, nargs="*", default=[(20, 0.1), (100, 0.025)], help="calls:ms …")
    parser.add_argument("--seconds", type=float, default=5.0, help="of a turn of overload; default: %(default)s")
    parser.add_argument("--slow", type=int, default=1_000, help="heads without end; default: %(default)s")
    parser.add_argument("--idle", type=int, default=10_000, help="idle connections; default: %(default)s")
    parser.add_argument("--rounds", type=int, default=5, help="beside a crowd and without; default: %(default)s")
    parser.add_argument("--turn", type=float, default=2.0, help="seconds of one; default: %(default)s")
    options = parser.parse_args()
    least = options.idle + ROOM + 500  # each process needs as many
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < least:
        options.idle = hard - ROOM - 500
        print(f"descriptors: {hard} allowed, so {options.idle} idle connections")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(least, hard) if hard > 0 else least), hard))
    wrong = uvloop.run(measure(options))
    print("\n".join(["", *(f"WRONG: {what}" for what in wrong)]) if wrong else "\nall as it should be")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
