"""The checklist over a long, mixed run on real processes: `python -m tests.checklist_soak --minutes 10`.

Ever new customers and sessions, good and careless, through a proxy in front of a simulator. Prints what was looked at
and the proxy's memory along the way. Exit code 1 where memory went on growing, a call failed, or a verdict is not
what such a shop deserves.
"""

import argparse
import asyncio
import sys
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any, NamedTuple

import aiohttp
import uvloop
from yarl import URL

from tests.bench.accounting import cpu_seconds, read_cpu, read_rss
from tests.process import Serve, serving, simulating

CART = [{"sku": "shoe", "quantity": 2, "price": 60}]
CALLERS = 8
GROWTH = 4 << 20  # bytes of RSS between the first quarter and the end that are not a leak
# Few sessions are remembered for order, so that what grows would be the checklist's.
SETTINGS = {"api_key": "simulator", "checklist__replies": "0.5", "lanes__memory": "500", "log__access": "off"}
DESERVED = {
    "session.id-is-email": "warning",
    "performance.avoidable-get": "warning",
    "attributes.undefined": "problem",
    "callers.browser": "ok",
    "performance.profile-dry": "unseen",
}


class Sent(NamedTuple):
    """One call."""

    method: str
    target: str
    body: Any = None


def visit(number: int) -> Iterator[Sent]:
    """What a customer does. Every third is served carelessly."""
    careless = number % 3 == 0
    session = f"jane.{number}%40shop.example" if careless else f"cart-{number}"
    cart = {"profileId": f"customer-{number}", "cartItems": CART, "couponCodes": ["WELCOME10"]}
    target = f"/v2/customer_sessions/{session}"
    yield Sent("PUT", f"{target}?dry=true", {"customerSession": cart})
    yield Sent("PUT", target, {"customerSession": cart, "responseContent": ["customerSession"]})
    if careless:
        yield Sent("GET", target)
        yield Sent("PUT", target, {"customerSession": {"attributes": {f"Odd_{number % 997}": number}}})
    yield Sent("POST", "/v2/events?silent=no", {"profileId": f"customer-{number}", "type": "review", "attributes": {}})
    yield Sent("PUT", target, {"customerSession": {"state": "closed"}})


class Run:
    """Sends visits until its time is over, no more than `rate` calls a second."""

    def __init__(self, proxy: Serve, seconds: float, rate: float) -> None:
        self.statuses: Counter[int] = Counter()
        self.rss: list[int] = []
        self._proxy = proxy
        self._pause = CALLERS / rate
        self._until = time.monotonic() + seconds
        self._every = seconds / 20
        self._numbers = iter(range(1 << 40))

    async def go(self) -> None:
        """Send them all."""
        async with aiohttp.ClientSession() as client, asyncio.TaskGroup() as group:
            for _ in range(CALLERS):
                group.create_task(self._customer(client))
            group.create_task(self._watch())

    async def _customer(self, client: aiohttp.ClientSession) -> None:
        while time.monotonic() < self._until:
            for sent in visit(next(self._numbers)):
                url = URL(f"{self._proxy.url}{sent.target}", encoded=True)
                async with client.request(sent.method, url, json=sent.body) as reply:
                    await reply.read()
                    self.statuses[reply.status] += 1
                await asyncio.sleep(self._pause)

    async def _watch(self) -> None:
        while time.monotonic() < self._until:
            await asyncio.sleep(self._every)
            self.rss.append(read_rss([self._proxy.pid]))


async def soak(minutes: float, rate: float) -> int:
    """Run, and say whether all is well."""
    async with simulating() as url, serving(url, **SETTINGS) as proxy:
        run = Run(proxy, minutes * 60, rate)
        cpu = read_cpu([proxy.pid])
        await run.go()
        spent = cpu_seconds(cpu, read_cpu([proxy.pid]))
        told = (await proxy.ask_admin("/checklist.json")).json
    (looker,) = told["proxies"]
    verdicts = {rule["id"]: rule["verdict"] for rule in told["rules"]}
    settled, ended = max(run.rss[: len(run.rss) // 4]), run.rss[-1]
    print(f"calls       {run.statuses.total()}: {dict(run.statuses)}")
    print(f"looked at   {looker['looked_at']}, thinned {looker['thinned']}, dropped {looker['dropped']}")
    print(f"sessions    {looker['sessions']}")
    print(f"CPU         {spent / run.statuses.total() * 1e6:.0f} µs a call")
    print(f"RSS in MB   {' '.join(f'{size / 1e6:.1f}' for size in run.rss)}")
    print(f"verdicts    {told['summary']}")
    wrong = {name: verdicts[name] for name, verdict in DESERVED.items() if verdicts[name] != verdict}
    for complaint in (
        ended - settled > GROWTH and f"memory grew by {(ended - settled) / 1e6:.1f} MB",
        set(run.statuses) != {200, 400} and "calls failed",
        wrong and f"not as deserved: {wrong}",
    ):
        if complaint:
            print(f"wrong: {complaint}")
    return int(ended - settled > GROWTH or set(run.statuses) != {200, 400} or bool(wrong))


def main() -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m tests.checklist_soak", description="A long mixed run.")
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--rate", type=float, default=400, help="calls a second; default: %(default)s")
    options = parser.parse_args()
    return uvloop.run(soak(options.minutes, options.rate))


if __name__ == "__main__":
    sys.exit(main())
