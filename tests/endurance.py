"""Mixed calls for hours, at half of what can be had: `python -m tests.endurance --hours 1` (fractions are allowed).

Reads, updates, events, updates of profiles and calls of several callers at once, over TLS to an origin that takes
25 ms. Looks at the proxy every few seconds, and says at the end what grew: memory after the warm-up (its slope, and
what the last quarter added), descriptors and tasks when all is quiet again, connections opened, answers of the proxy's
own, how late its loop was, and lines of the log that tell of something lost. Exit code 1 where that must not be.
"""

import argparse
import asyncio
import re
import statistics
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import uvloop

from tests.bench.accounting import read_rss
from tests.certificates import Authority
from tests.fleet import until_status
from tests.load import Origin
from tests.overload.open_loop import BODY, OpenLoop, Turn, call
from tests.process import Serve, serving

LATENCY = 0.025
CALLERS = 100
SESSIONS = 5_000  # far fewer than are remembered, so that memory is steady once all have been seen
LOST = re.compile(r"never retrieved|was destroyed|[Uu]nclosed|Traceback|never awaited")
MOST_SHARE = 0.05  # that memory may grow after the warm-up
MOST_SLOPE = 1 << 20  # bytes an hour; of runs of an hour or more, since less is noise
STRAY = 5  # descriptors and tasks
REUSE = 0.999
LAG = 0.010  # seconds, the 99th percentile


def mixed(number: int) -> bytes:
    """Make one of the calls of a shop."""
    which, session = number % 20, number % SESSIONS
    path = b"/v2/customer_sessions/s%d" % session
    if which < 8:
        return call(b"PUT", path, BODY % session)
    if which < 12:
        return call(b"PUT", path + b"?dry=true", BODY % session)
    if which < 16:
        return call(b"GET", b"/v2/customer_sessions/s%d" % (session - which % 2), b"")  # two and two are the same
    if which < 18:
        return call(b"POST", b"/v2/events", b'{"profileId": "p%d", "type": "seen", "attributes": {}}' % session)
    return call(b"PUT", b"/v2/customer_profiles/p%d" % session, b'{"attributes": {"Name": "%d"}}' % number)


@dataclass(frozen=True, slots=True)
class Sight:
    """The proxy at one moment: seconds since the start, bytes, counts."""

    at: float
    rss: int
    descriptors: int
    tasks: int
    connections: int = 0  # to the origin: as many as were lately needed, which is chance

    @property
    def others(self) -> int:
        """Descriptors of anything else."""
        return self.descriptors - self.connections


@dataclass(frozen=True, slots=True)
class Endured:
    """What was found."""

    calls: int
    seconds: float
    rate: float
    failures: Counter[str]
    quiet_before: Sight
    quiet_after: Sight
    sights: Sequence[Sight]  # after the warm-up
    unmade: int  # calls for which no caller was free: the generator's failure
    opened: int  # connections to the origin, after the warm-up
    renewed: int  # connections that had become too old meanwhile; others replaced them
    own: int  # 5xx of the proxy's own
    lag: float  # seconds: no more than so much is the 99th percentile
    lost: Sequence[str]  # lines of the log

    @property
    def slope(self) -> float:
        """Bytes of memory an hour."""
        return statistics.linear_regression([s.at for s in self.sights], [s.rss for s in self.sights]).slope * 3600

    @property
    def growth(self) -> float:
        """Share that memory grew by, from the first tenth after the warm-up to the last; medians."""
        tenth = max(len(self.sights) // 10, 1)
        first, last = (statistics.median(s.rss for s in part) for part in (self.sights[:tenth], self.sights[-tenth:]))
        return last / first - 1

    @property
    def latest(self) -> float:
        """Bytes that the last quarter added."""
        return self.sights[-1].rss - self.sights[-max(len(self.sights) // 4, 1)].rss

    @property
    def reuse(self) -> float:
        """Share of the calls on a connection that had served before, renewals apart."""
        return 1 - max(self.opened - self.renewed, 0) / self.calls

    def wrong(self) -> Sequence[str]:
        """Say what must not be."""
        before, after = self.quiet_before, self.quiet_after
        found = {
            f"calls that failed: {dict(self.failures)}": bool(self.failures),
            f"memory grew by {self.growth:.1%}": self.growth > MOST_SHARE,
            f"memory grows by {self.slope / 2**20:.1f} MiB an hour": self.seconds >= 3600 and self.slope > MOST_SLOPE,
            f"descriptors {before.descriptors} ⇒ {after.descriptors}": after.others - before.others > STRAY,
            f"tasks {before.tasks} ⇒ {after.tasks}": after.tasks - before.tasks > STRAY,
            f"reuse {self.reuse:.3%}": self.reuse < REUSE,
            f"answers of the proxy's own: {self.own}": self.own > 0,
            f"the loop was late by {self.lag * 1000:.0f} ms": self.lag > LAG,
            f"in the log: {self.lost[:3]}": bool(self.lost),
        }
        return [what for what, holds in found.items() if holds]


class Watch:
    """Looks at the proxy again and again."""

    def __init__(self, proxy: Serve) -> None:
        self.sights: list[Sight] = []
        self._proxy = proxy
        self._began = time.perf_counter()

    async def look(self) -> Sight:
        """Look now."""
        status = await self._proxy.status()
        pool = status["upstream"]["connections"]
        # As the process counts them: to others of its user it is closed.
        told = re.search(
            r"^process_open_fds (\d+)", (await self._proxy.ask_admin("/metrics")).body.decode(), re.MULTILINE
        )
        assert told is not None
        moment, rss = time.perf_counter() - self._began, read_rss([self._proxy.pid])
        return Sight(moment, rss, int(told[1]), status["tasks"], pool["idle"] + pool["active"] + pool["opening"])

    async def look_when_quiet(self, settle: float) -> Sight:
        """Wait for so many seconds, and then until no connection is being opened; look."""
        await asyncio.sleep(settle)
        await until_status(self._proxy, lambda status: not status["upstream"]["connections"]["opening"])
        return await self.look()

    async def keep_looking(self, every: float) -> None:
        """Look until cancelled."""
        while True:
            self.sights.append(await self.look())
            await asyncio.sleep(every)


def own_errors(metrics: str) -> int:
    """Count 5xx of the proxy's own in what `/metrics` says."""
    lines = re.findall(r"^talon_proxy_requests_total\{([^}]*)\} (\S+)$", metrics, re.MULTILINE)
    return int(sum(float(n) for labels, n in lines if 'source="proxy"' in labels and 'status="5' in labels))


def lag(metrics: str, share: float = 0.99) -> float:
    """Give the bound that this share of the loop's delays did not exceed; seconds."""
    found = re.findall(r'^talon_proxy_event_loop_lag_seconds_bucket\{le="([^"]+)"\} (\S+)$', metrics, re.MULTILINE)
    total = max((float(count) for _, count in found), default=0.0)
    return next((float(bound) for bound, count in found if float(count) >= share * total), 0.0)


async def endure(seconds: float, *, warm_up: float, rate: float | None = None, settle: float = 100.0) -> Endured:
    """Call for so long. `rate`: calls a second; None: half of what can be had. `settle`: seconds until all is quiet."""
    origin = Origin(LATENCY)
    with TemporaryDirectory() as folder:
        authority = Authority(Path(folder))
        await origin.start(authority.sign("127.0.0.1").server())
        settings = {"upstream__tls__ca_file": str(authority.file)}
        try:
            async with serving(f"https://127.0.0.1:{origin.port}", **settings) as proxy:
                return await _endured(proxy, seconds, warm_up, rate, settle)
        finally:
            await origin.stop()


async def _endured(proxy: Serve, seconds: float, warm_up: float, rate: float | None, settle: float) -> Endured:
    load, watch = OpenLoop(proxy.address, CALLERS, mixed), Watch(proxy)
    await load.connect()
    peak = await load.saturate(CALLERS, min(warm_up, 3.0))  # all have called then, and none is taken for mute
    before = await watch.look_when_quiet(settle)
    rate = rate or len(peak.done) / peak.seconds / 2
    failures = (await load.play(rate, warm_up)).failures
    opened, renewed = await _connections(proxy)
    looking = asyncio.create_task(watch.keep_looking(min(seconds / 20, 10.0)), name="watch")
    turn: Turn = await load.play(rate, seconds)
    looking.cancel()
    opened_now, renewed_now = await _connections(proxy)
    after = await watch.look_when_quiet(settle)
    metrics = (await proxy.ask_admin("/metrics")).body.decode()
    load.close()
    ended = await proxy.stop()
    refused = Counter({"refused": len(turn.refused)}) if turn.refused else Counter[str]()
    return Endured(
        calls=turn.offered - turn.starved,
        seconds=turn.seconds,
        rate=rate,
        failures=failures + turn.failures + refused,
        quiet_before=before,
        quiet_after=after,
        sights=watch.sights,
        unmade=turn.starved,
        opened=opened_now - opened,
        renewed=renewed_now - renewed,
        own=own_errors(metrics),
        lag=lag(metrics),
        lost=[line for line in (ended.out + ended.err).splitlines() if LOST.search(line)],
    )


async def _connections(proxy: Serve) -> tuple[int, int]:
    """Give how many were opened, and closed for their age."""
    pool = (await proxy.status())["upstream"]["connections"]
    return pool["opened"], pool["closed"].get("age", 0)


def main() -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m tests.endurance", description="Mixed calls for hours.")
    parser.add_argument("--hours", type=float, default=1.0)
    parser.add_argument("--rate", type=float, help="calls a second; default: half of what can be had")
    options = parser.parse_args()
    seconds = options.hours * 3600
    found = uvloop.run(endure(seconds, warm_up=min(seconds / 5, 300.0), rate=options.rate))
    before, after, first, last = found.quiet_before, found.quiet_after, found.sights[0], found.sights[-1]
    mib = 2**20
    print(f"calls               {found.calls} in {found.seconds:.0f} s; {found.unmade} not made for want of a caller")
    print(f"failed              {found.failures.total()}{''.join(f', {what}' for what in found.failures)}")
    print(f"5xx of its own      {found.own}")
    print(
        f"memory (RSS)        {first.rss / mib:.1f} ⇒ {last.rss / mib:.1f} MiB after the warm-up, {found.growth:+.1%};"
        f" the last quarter {found.latest / mib:+.2f} MiB; slope {found.slope / mib:+.2f} MiB an hour"
    )
    descriptors, tasks = f"{before.descriptors} ⇒ {after.descriptors}", f"{before.tasks} ⇒ {after.tasks}"
    print(f"when quiet again    descriptors {descriptors}, tasks {tasks}")
    opened = f"{found.opened} connections opened after the warm-up, {found.renewed} of them renewals"
    print(f"reuse               {found.reuse:.3%}, {opened}")
    print(f"loop late, p99      ≤ {found.lag * 1000:g} ms")
    print(f"lines of loss       {len(found.lost)}")
    wrong = found.wrong()
    print("\n".join(["", *(f"WRONG: {what}" for what in wrong)]) if wrong else "\nall as it should be")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
