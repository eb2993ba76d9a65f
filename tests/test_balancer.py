"""The balancer of the shared form: a real HAProxy with the shipped configuration, in front of three real proxies."""

import asyncio
import os
import re
import shutil
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from proxy.simulator.server import Simulator
from tests.manifests import built, pod_of, workloads
from tests.process import PATIENCE, ROOT, Process, Serve, run, serving

FOLDER = ROOT / "deploy" / "kubernetes" / "shared"
SHIPPED = FOLDER / "haproxy.cfg"
PATH = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin"])
SESSIONS = 30
HEADERS = {"Content-Type": "application/json"}

pytestmark = pytest.mark.skipif(shutil.which("haproxy", path=PATH) is None, reason="the haproxy program is not there")


def test_the_balancer_knows_every_proxy() -> None:
    [proxies] = (workload for workload in workloads(built(FOLDER)) if workload["kind"] == "StatefulSet")
    name, service = proxies["metadata"]["name"], proxies["spec"]["serviceName"]

    servers = re.findall(r"^ +server (\S+) (\S+) id (\d+)$", SHIPPED.read_text(), re.MULTILINE)

    assert servers == [
        (f"{name}-{number}", f"{name}-{number}.{service}:7410", str(number + 1))
        for number in range(proxies["spec"]["replicas"])
    ]
    assert pod_of(proxies)["terminationGracePeriodSeconds"] > 25


async def test_the_configuration_as_shipped_is_good() -> None:
    done = await run("haproxy", "-c", "-f", str(SHIPPED), env={"PATH": PATH})

    assert done.code == 0, done


class Balanced:
    """Callers of a balancer with proxies behind it."""

    def __init__(self, client: aiohttp.ClientSession, proxies: Sequence[Serve]) -> None:
        self._client = client
        self.proxies = proxies

    async def call(self, method: str, path: str, body: object = None) -> str:
        """Make a call; gives which proxy took it, and makes sure that exactly one did."""
        before = await self._taken()
        async with self._client.request(method, f"http://balancer{path}", json=body, headers=HEADERS) as answer:
            assert answer.status in (200, 201, 400, 404), await answer.text()
        [taker] = [name for name, count in (await self._taken()).items() if count == before.get(name, 0) + 1]
        return taker

    async def _taken(self) -> dict[str, int]:
        running = [proxy for proxy in self.proxies if proxy.running]
        statuses = await asyncio.gather(*(proxy.status() for proxy in running))
        return {proxy.url: status["calls"]["answered"] for proxy, status in zip(running, statuses, strict=True)}

    async def homes(self) -> dict[str, str]:
        """Give the proxy of each of many sessions."""
        return {session: await self.call("GET", f"/v2/customer_sessions/{session}") for session in sessions()}


def sessions() -> Sequence[str]:
    return [f"cart-{number}" for number in range(SESSIONS)]


def configuration(proxies: Sequence[Serve], folder: Path) -> str:
    """Give the shipped configuration with addresses of this machine."""
    text = SHIPPED.read_text()
    for number, proxy in enumerate(proxies):
        host, port = proxy.address
        admin = proxy.admin.rpartition(":")[2]
        here = f"{host}:{port} port {admin}"
        text, count = re.subn(rf"talon-proxy-{number}\.talon-proxy-pods:7410", here, text)
        assert count == 1
    text, count = re.subn(r"bind :(\d+)", rf"bind unix@{folder}/\1", text)
    assert count == 2
    # No cluster's names are to be looked up.
    return text.replace("parse-resolv-conf", "nameserver none 127.0.0.1:53")


@asynccontextmanager
async def balanced(folder: Path) -> AsyncIterator[Balanced]:
    async with AsyncExitStack() as stack:
        simulator = Simulator()
        port = await simulator.start("127.0.0.1", 0)
        stack.push_async_callback(simulator.stop)
        proxies = [
            await stack.enter_async_context(
                serving(f"http://127.0.0.1:{port}", admin__listen="127.0.0.1:0", clients__hosts="balancer")
            )
            for _ in range(3)
        ]
        file = folder / "haproxy.cfg"
        file.write_text(configuration(proxies, folder))
        haproxy = await Process.start("haproxy", "-db", "-f", str(file), env={"PATH": PATH})
        stack.push_async_callback(haproxy.kill)
        await healthy(folder / "7412")
        client = aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(folder / "7410")))
        await stack.enter_async_context(client)
        yield Balanced(client, proxies)


async def healthy(socket: Path) -> None:
    """Wait until the balancer says that it reaches proxies."""
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                async with (
                    aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(socket))) as client,
                    client.get("http://localhost/") as answer,
                ):
                    if answer.status == 200:
                        return
            except aiohttp.ClientConnectionError:
                pass
            await asyncio.sleep(0.05)


async def test_all_calls_of_a_session_reach_one_proxy_and_stay_when_another_ends(tmp_path: Path) -> None:
    async with balanced(tmp_path) as shared:
        homes = await shared.homes()
        assert len(set(homes.values())) == 3, "the sessions are spread"
        for session in sessions()[:5]:
            path = f"/v2/customer_sessions/{session}"
            cart = {"customerSession": {"profileId": "jane", "cartItems": []}}
            assert await shared.call("PUT", path, cart) == homes[session]
            assert await shared.call("PUT", f"{path}?dry=true", cart) == homes[session]
            assert await shared.call("POST", f"{path}/returns", {"return": {}}) == homes[session]

        gone = homes[sessions()[0]]
        [proxy] = (proxy for proxy in shared.proxies if proxy.url == gone)
        await proxy.stop()
        moved = await shared.homes()

        assert {session for session in moved if moved[session] != homes[session]} == {
            session for session, home in homes.items() if home == gone
        }
