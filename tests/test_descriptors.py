"""Running out of file descriptors: said beforehand where it can be known, and survived."""

import asyncio
import resource
import socket
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from proxy import descriptors
from tests.harness import until
from tests.load import Origin
from tests.process import Serve, serving

REQUEST = b"GET /v2/customer_sessions/s HTTP/1.1\r\nHost: localhost\r\n\r\n"
HEALTH = b"GET /.health HTTP/1.1\r\nHost: localhost\r\n\r\n"  # answered without Talon.One


class Limits:
    """The limits of a process that does not exist."""

    def __init__(self, soft: int, hard: int) -> None:
        self.now = (soft, hard)

    def getrlimit(self, _: int) -> tuple[int, int]:
        return self.now

    def setrlimit(self, _: int, limits: tuple[int, int]) -> None:
        self.now = limits


@pytest.mark.parametrize(
    ("soft", "hard", "then", "warns"),
    [
        (1024, 4096, 2164, False),
        (1024, 2000, 2000, True),
        (4096, 4096, 4096, False),
        (1024, resource.RLIM_INFINITY, 2164, False),
        (resource.RLIM_INFINITY, resource.RLIM_INFINITY, resource.RLIM_INFINITY, False),
    ],
)
def test_the_limit_is_raised_as_far_as_it_may_be(
    soft: int, hard: int, then: int, warns: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = Limits(soft, hard)
    monkeypatch.setattr(resource, "getrlimit", limits.getrlimit)
    monkeypatch.setattr(resource, "setrlimit", limits.setrlimit)

    warning = descriptors.allow(connections=2000, upstream=100)

    assert limits.now == (then, hard)
    assert (warning is not None) is warns
    if warning is not None:
        assert f"may open {then} files" in warning
        assert "needs 2164" in warning


@pytest.mark.parametrize("reason", [ValueError("current limit exceeds maximum limit"), PermissionError(1, "no")])
def test_a_limit_that_cannot_be_raised_is_a_warning(reason: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: int, __: tuple[int, int]) -> None:
        raise reason

    monkeypatch.setattr(resource, "getrlimit", Limits(256, resource.RLIM_INFINITY).getrlimit)
    monkeypatch.setattr(resource, "setrlimit", refuse)

    warning = descriptors.allow(connections=2000, upstream=100)

    assert warning is not None
    assert "may open 256 files" in warning


@pytest.mark.parametrize(
    ("soft", "connections", "upstream", "fit"),
    [
        (1024, 500, 100, 500),
        (1024, 2000, 100, 892),
        (64, 2000, 100, 22),
        (16, 2000, 100, 1),
        (resource.RLIM_INFINITY, 2000, 100, 2000),
    ],
)
def test_p9_callers_leave_descriptors_to_talon_one_and_to_health(
    soft: int, connections: int, upstream: int, fit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resource, "getrlimit", Limits(soft, soft).getrlimit)

    assert descriptors.callers(connections, upstream) == fit


async def ask(link: socket.socket, text: bytes = REQUEST) -> bytes:
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(20):
        try:
            await loop.sock_sendall(link, text)
            return (await loop.sock_recv(link, 65536))[:12]
        except ConnectionError:
            return b""


async def test_p9_with_no_descriptor_left_those_who_are_connected_are_served_and_later_everybody_is() -> None:
    origin = Origin()
    await origin.start(None)
    async with serving(f"http://127.0.0.1:{origin.port}") as proxy:
        first = socket.create_connection(proxy.address)
        first.setblocking(False)
        assert await ask(first) == b"HTTP/1.1 200"
        resource.prlimit(proxy.pid, resource.RLIMIT_NOFILE, (40, 40))
        links = []
        for _ in range(60):
            links.append(socket.create_connection(proxy.address))
            links[-1].setblocking(False)

        answers = await asyncio.gather(*map(ask, links))
        assert set(answers) <= {b"HTTP/1.1 200", b"HTTP/1.1 503", b""}
        assert answers.count(b"") > 20
        assert await ask(first) == b"HTTP/1.1 200"

        for link in links:
            link.close()
        async with asyncio.timeout(20):
            while await ask_anew(proxy.address) != b"HTTP/1.1 200":  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        first.close()
    await origin.stop()


async def test_p9_with_no_descriptor_for_talon_one_calls_are_refused_and_the_circuit_stays_closed() -> None:
    async with AsyncExitStack() as stack:
        origin = Origin()
        await origin.start(None)
        stack.push_async_callback(origin.stop)
        proxy = await stack.enter_async_context(
            serving(f"http://127.0.0.1:{origin.port}", upstream__connections__warm="0")
        )
        first = stack.enter_context(socket.create_connection(proxy.address))
        first.setblocking(False)
        assert await ask(first, HEALTH) == b"HTTP/1.1 200"
        resource.prlimit(proxy.pid, resource.RLIMIT_NOFILE, (40, 40))
        links = [stack.enter_context(socket.create_connection(proxy.address)) for _ in range(60)]
        descriptors = Path(f"/proc/{proxy.pid}/fd")
        await until(lambda: set(map(str, range(40))) <= {file.name for file in descriptors.iterdir()})

        for _ in range(6):
            assert await ask(first) == b"HTTP/1.1 503"
        for link in links:
            link.close()
        async with asyncio.timeout(20):
            while await ask(first) != b"HTTP/1.1 200":  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        await proxy.stop()
        assert "circuit" not in proxy.out


async def ask_anew(address: tuple[str, int]) -> bytes:
    with socket.create_connection(address) as link:
        link.setblocking(False)
        return await ask(link)


async def limited(stack: AsyncExitStack) -> Serve:
    """Start a proxy that has few descriptors, before an upstream."""
    origin = Origin()
    await origin.start(None)
    stack.push_async_callback(origin.stop)
    under = ("prlimit", "--nofile=64:64")
    return await stack.enter_async_context(serving(f"http://127.0.0.1:{origin.port}", under=under))


async def test_p9_a_crowd_of_callers_leaves_health_and_metrics_reachable() -> None:
    async with AsyncExitStack() as stack:
        proxy = await limited(stack)
        links = [stack.enter_context(socket.create_connection(proxy.address)) for _ in range(60)]
        for link in links:
            link.setblocking(False)

        answers = await asyncio.gather(*map(ask, links))

        assert set(answers) <= {b"HTTP/1.1 200", b"HTTP/1.1 503", b""}
        assert 0 < answers.count(b"HTTP/1.1 200") <= 22
        # Those who were refused are read on for a second, and then gone; the others stay.
        async with asyncio.timeout(20):
            while not await answers_health(proxy):  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        assert b"talon_proxy_refused_total" in (await proxy.ask_admin("/metrics")).body


async def test_p9_a_crowd_at_the_admin_port_leaves_descriptors_to_calls_and_to_the_next_probe() -> None:
    async with AsyncExitStack() as stack:
        proxy = await limited(stack)
        for _ in range(100):
            link = stack.enter_context(socket.socket(socket.AF_UNIX))
            link.connect(proxy.admin)

        for _ in range(10):
            assert await ask_anew(proxy.address) == b"HTTP/1.1 200"
            assert await proxy.probe("livez") == 200
        await proxy.line("too many connections")


async def answers_health(proxy: Serve) -> bool:
    try:
        return await proxy.probe("livez") == 200
    except (ConnectionError, asyncio.IncompleteReadError):
        return False
