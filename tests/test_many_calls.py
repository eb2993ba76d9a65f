"""The short form of `tests.soak`: many calls, few connections, nothing lost, nothing kept."""

import gc
from pathlib import Path

import pytest

from proxy.messages import Call
from proxy.traffic.lanes import Rules as LaneRules
from proxy.wire import downstream, http1
from tests.certificates import Authority
from tests.harness import OK, Proxy, Upstream, running, until
from tests.load import whole
from tests.soak import WARM, soak

CALLS = 10_000
CONNECTIONS = 64
MEGABYTE = 1_000_000


async def test_ten_thousand_calls_need_no_more_connections_than_there_are_callers() -> None:
    found = await soak(CALLS, CONNECTIONS, tls=True)

    assert (found.calls, dict(found.errors)) == (CALLS, {})
    assert found.opened == found.accepted
    assert found.opened <= CONNECTIONS + WARM + found.renewed
    # Of the calls after each caller's first, which may need a connection of its own.
    assert 1 - max(found.opened - CONNECTIONS - WARM, 0) / (CALLS - CONNECTIONS) >= 0.999
    # One call's request and answer are 3 kB: 9,000 of them kept would be 27 MB. A session and a profile that are
    # remembered take 0.8 kB.
    assert found.rss_after - found.rss_before < 12 * MEGABYTE


async def test_calls_leave_nothing_that_only_the_collector_of_cycles_would_find() -> None:
    def kept() -> int:
        return sum(isinstance(thing, Call) for thing in gc.get_objects())

    async with running(lanes=LaneRules(), coalescing=True) as (_, proxy):
        client = await proxy.client()
        gc.collect()
        before = kept()
        gc.disable()
        try:
            for number in range(20):
                await client.send(b"PUT /v2/customer_sessions/%d HTTP/1.1\r\nHost: localhost\r\n" % number)
                await client.send(b"Content-Length: 2\r\n\r\n{}")
                await client.message()
            proxy.witness.ended.clear()
            assert kept() - before <= 1  # the last one may still be some frame's
        finally:
            gc.enable()
        await client.close()


@pytest.mark.parametrize("tls", [False, True])
async def test_connections_leave_nothing_that_only_the_collector_of_cycles_would_find(
    tls: bool, tmp_path: Path
) -> None:
    """It looks so seldom here that they, and the 50 kB that TLS holds for each, would add up for hours."""

    def kept() -> int:
        return sum(isinstance(thing, http1.Connection | downstream.Connection) for thing in gc.get_objects())

    authority = Authority(tmp_path)
    upstream = await Upstream().start(authority.sign("127.0.0.1").server() if tls else None)
    upstream.answer = lambda _: OK.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
    url = f"{'https' if tls else 'http'}://127.0.0.1:{upstream.port}"
    proxy = await Proxy(url, ca_file=authority.file if tls else None, protocol="http/1.1").start()
    gc.collect()
    gc.disable()
    try:
        for number in range(20):
            assert b"200 OK" in await proxy.ask(
                b"GET /v2/customer_sessions/%d HTTP/1.1\r\nHost: localhost\r\n\r\n" % number
            )
        assert len(upstream.lines) == 20
        await until(lambda: not proxy.listener.connections)
        await until(lambda: kept() <= 2)  # what some frame still holds
    finally:
        gc.enable()
        await proxy.stop()
        await upstream.stop()


@pytest.mark.parametrize(
    ("buffer", "size"),
    [
        (b"", 0),
        (b"GET / HTTP/1.1\r\n", 0),
        (b"GET / HTTP/1.1\r\n\r\nGET", 18),
        (b"PUT / HTTP/1.1\r\nContent-Length: 3\r\n\r\nab", 0),
        (b"PUT / HTTP/1.1\r\ncontent-length: 3\r\n\r\nabcd", 40),
    ],
)
def test_messages_are_told_apart(buffer: bytes, size: int) -> None:
    assert whole(buffer) == size
