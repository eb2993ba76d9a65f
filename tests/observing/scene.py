"""The scene: one simulated Talon.One, proxies of one fleet, and the Prometheus that scrapes them."""

import socket
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import aiohttp

from tests.observing.prometheus import Prometheus, watching
from tests.observing.shop import Shop
from tests.process import Serve, serving, simulating

LATENCY = ("--latency", "25ms", "--jitter", "10ms")
# A key that lasts for a month, a quick end of tries, so that an incident takes no minute, a look at every answer, and a
# rule that is broken on purpose.
SETTINGS = {
    "admin__listen": "127.0.0.1:0",
    "log__access": "off",
    "retries__conflict__tries": "2",
    "checklist__replies": "100 %",
    "checklist__acknowledged": "connections.callers=one call each, on purpose",
    "applications__default__expires": (datetime.now(UTC) + timedelta(days=30)).date().isoformat(),
}


@dataclass(frozen=True)
class Scene:
    """Everything that runs. `shops` are the proxies' callers, in their order."""

    talon_one: str
    proxies: Sequence[Serve]
    prometheus: Prometheus
    shops: Sequence[Shop]


@asynccontextmanager
async def staged(*, every: str, cut_off: bool) -> AsyncIterator[Scene]:
    """Give a scene, scraped so often; everything is stopped, each process by its owner.

    `cut_off`: the second proxy does not reach Talon.One, instead of being one more.
    """
    async with AsyncExitStack() as stack:
        talon_one = await stack.enter_async_context(simulating(*LATENCY))
        behind = (talon_one, stack.enter_context(_nobody()) if cut_off else talon_one)
        proxies = [await stack.enter_async_context(serving(url, **SETTINGS)) for url in behind]
        prometheus = await stack.enter_async_context(watching([proxy.admin for proxy in proxies], every=every))
        client = await stack.enter_async_context(aiohttp.ClientSession())
        yield Scene(talon_one, proxies, prometheus, [Shop(client, proxy.url, talon_one) for proxy in proxies])


@contextmanager
def _nobody() -> Iterator[str]:
    """Give the URL of a port on which nobody listens, and nobody can; by a name that no other proxy uses."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"http://localhost:{taken.getsockname()[1]}"
