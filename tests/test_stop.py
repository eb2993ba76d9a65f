"""SIGTERM, from outside: every call that was taken is answered, and the process ends in its time."""

import asyncio
import contextlib
import functools
import json
import re
import signal
import socket

import pytest

from proxy.simulator.server import Simulator
from tests.harness import OK, Upstream, patiently, running
from tests.process import PATIENCE, Answer, ask, request, serving

CONNECTIONS = 32
LATENCY = 0.025
UPDATE = json.dumps(
    {"customerSession": {"cartItems": [{"name": "Shoe", "sku": "shoe", "quantity": 1, "price": 60}]}}
).encode()


class Caller:
    """A shop that calls all the time, and comes back on a new connection when it is asked to."""

    def __init__(self, address: tuple[str, int], name: str) -> None:
        self._address = address
        self._request = request("PUT", f"/v2/customer_sessions/{name}", UPDATE)
        self.statuses: list[int] = []
        self.lost: list[str] = []  # calls that were written and not answered
        self.asked_to_close = 0
        self.busy = asyncio.Event()

    async def run(self) -> None:
        """Call until nobody takes connections any more."""
        while True:
            try:
                reader, writer = await asyncio.open_connection(*self._address)
            except OSError:
                return
            try:
                while await self._call(reader, writer):
                    pass
            finally:
                writer.close()

    async def _call(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Make a call; False: the connection is to be left."""
        try:
            writer.write(self._request)
            head = await reader.readuntil(b"\r\n\r\n")
            length = re.search(rb"\r\ncontent-length: *(\d+)", head, re.IGNORECASE)
            await reader.readexactly(int(length[1]) if length else 0)
        except (asyncio.IncompleteReadError, ConnectionError) as error:
            self.lost.append(f"{error!r} after {len(self.statuses)} calls")
            return False
        answer = Answer(head.decode("latin-1"), b"")
        self.statuses.append(answer.status)
        if len(self.statuses) == 5:
            self.busy.set()
        closes = answer.field("connection").lower() == "close"
        self.asked_to_close += closes
        return not closes


async def test_no_call_fails_under_load() -> None:
    simulator = Simulator(latency=LATENCY)
    port = await simulator.start()
    settings = {"shutdown__quiet": "500ms", "shutdown__timeout": "6s", "upstream__timeouts__response": "4s"}
    async with serving(f"http://127.0.0.1:{port}", **settings) as proxy:
        callers = [Caller(proxy.address, f"s{number}") for number in range(CONNECTIONS)]
        calling = [asyncio.create_task(caller.run()) for caller in callers]
        async with asyncio.timeout(PATIENCE):
            await asyncio.gather(*(caller.busy.wait() for caller in callers))
        before = [len(caller.statuses) for caller in callers]

        proxy.send(signal.SIGTERM)
        await proxy.line('"draining"')
        assert await proxy.probe("readyz") == 503
        await asyncio.gather(*calling)
        ended = await proxy.ended()

    await simulator.stop()
    assert [line for caller in callers for line in caller.lost] == []
    assert {status for caller in callers for status in caller.statuses} == {200}
    assert all(caller.asked_to_close for caller in callers)
    assert all(len(caller.statuses) > count for caller, count in zip(callers, before, strict=True))
    assert (ended.code, ended.err) == (0, "")
    stopped = json.loads(ended.out.splitlines()[-1])
    assert stopped["cut_off"] == 0
    assert stopped["seconds"] < 6


async def test_while_it_drains_new_callers_are_served_and_sent_away(upstream: Upstream) -> None:
    async with serving(upstream.url, shutdown__quiet="20s", shutdown__timeout="25s") as proxy:
        proxy.send(signal.SIGTERM)
        await proxy.line('"draining"')

        assert (await proxy.probe("livez"), await proxy.probe("readyz")) == (200, 503)
        answer = await proxy.ask("GET", "/v2/customer_sessions/s")
        assert (answer.status, answer.field("connection")) == (200, "close")
        assert (await proxy.status())["stage"] == "draining"

        ended = await proxy.stop()  # the second signal
        assert (ended.code, ended.err) == (0, "")


async def test_a_call_that_takes_longer_than_the_quiet_still_lands(upstream: Upstream) -> None:
    async with serving(upstream.url, shutdown__quiet="50ms") as proxy:
        idle, busy = await proxy.client(), await proxy.client()
        await ask(idle, "GET", "/v2/customer_sessions/s")
        upstream.answer = None
        await busy.send(request("PUT", "/v2/customer_sessions/s", b"{}"))
        await upstream.received()
        line, _ = await upstream.received()

        proxy.send(signal.SIGTERM)
        assert await idle.to_end() == b""  # the listeners are closed
        with pytest.raises(ConnectionRefusedError):
            await proxy.client()
        assert await proxy.probe("readyz") == 503
        await line.send(OK)
        head, body = await busy.message()
        ended = await proxy.ended()

        assert head.startswith(b"HTTP/1.1 200 ")
        assert b"\r\nConnection: close\r\n" in head
        assert body == b"OK"
        assert await busy.to_end() == b""
        assert (ended.code, ended.err) == (0, "")


async def test_idle_connections_do_not_hold_the_stop_up(upstream: Upstream) -> None:
    async with serving(upstream.url, shutdown__quiet="0ms", shutdown__timeout="25s") as proxy:
        callers = [await proxy.client() for _ in range(20)]
        for caller in callers:
            assert (await ask(caller, "GET", "/v2/customer_sessions/s")).field("connection") == "keep-alive"

        ended = await proxy.stop()

        assert (ended.code, ended.err) == (0, "")
        assert json.loads(ended.out.splitlines()[-1])["seconds"] < 25
        for caller in callers:
            assert await caller.to_end() == b""


async def test_a_stuck_upstream_is_left_at_the_deadline_and_those_behind_are_told(upstream: Upstream) -> None:
    upstream.answer = None
    settings = {"shutdown__timeout": "1500ms", "upstream__connections__max": "1", "upstream__connections__warm": "1"}
    async with serving(upstream.url, **settings) as proxy:
        stuck, waiting = await proxy.client(), await proxy.client()
        await stuck.send(request("PUT", "/v2/customer_sessions/stuck", b"{}"))
        await upstream.received()
        await waiting.send(request("PUT", "/v2/customer_sessions/waiting", b"{}"))
        while (await proxy.status())["downstream"]["in_flight"] < 2:
            pass

        proxy.send(signal.SIGTERM)
        head, _ = await waiting.message()
        told = Answer(head.decode(), b"")
        ended = await proxy.ended()

        assert (told.status, told.field("talon-proxy-outcome")) == (503, "not-sent")
        assert (told.field("connection"), told.field("retry-after")) == ("close", "")
        lost = Answer((await stuck.to_end()).decode(), b"")
        assert (lost.status, lost.field("talon-proxy-outcome")) == (502, "unknown")
        assert (ended.code, ended.err) == (1, "")
        assert json.loads(ended.out.splitlines()[-1])["cut_off"] == 1
        assert len(upstream.requests) == 1


async def test_all_whom_the_kernel_has_accepted_are_served() -> None:
    """The loop takes one connection a turn; the rest of the queue must not be reset with the listener."""
    async with running() as (upstream, proxy):
        with contextlib.ExitStack() as stack:
            connect = functools.partial(socket.create_connection, ("127.0.0.1", proxy.port), timeout=10)
            queued = [stack.enter_context(connect()) for _ in range(50)]
            for link in queued:
                link.sendall(request("GET", "/v2/customer_sessions/s"))

            await proxy.listener.close()

            for link in queued:
                link.setblocking(False)
                answer = await patiently(asyncio.get_running_loop().sock_recv(link, 65536))
                assert answer.startswith(b"HTTP/1.1 200 ")
        assert len(upstream.requests) == 50


async def test_who_has_just_connected_may_still_make_a_call() -> None:
    async with running() as (_, proxy):
        newcomer, silent = await proxy.client(), await proxy.client()
        await proxy.ask(request("GET", "/v2/customer_sessions/s"))  # connected after them, so they are known

        await proxy.listener.close()
        await newcomer.send(request("GET", "/v2/customer_sessions/s"))

        head, _ = await newcomer.message()
        assert head.startswith(b"HTTP/1.1 200 ")
        assert b"\r\nConnection: close\r\n" in head
        assert await silent.to_end() == b""  # it does not hold the stop up for long
        await patiently(proxy.listener.closed())
        await newcomer.close()
        await silent.close()


async def test_draining_loses_no_call_that_came_with_one_answered_at_once() -> None:
    async with running() as (upstream, proxy):
        proxy.listener.drain()
        caller = await proxy.client()
        await caller.send(
            b"GET /.health HTTP/1.1\r\nHost: localhost\r\n\r\n"
            b"PUT /v2/customer_sessions/s HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{}"
        )

        answers = await caller.to_end()
        await caller.close()

    assert answers.count(b"HTTP/1.1 200 OK\r\n") == 2
    assert answers.count(b"Connection: close\r\n") == 1
    assert len(upstream.requests) == 1


async def test_draining_takes_no_call_behind_a_streamed_answer_that_promised_to_close() -> None:
    async with running(reply=1000) as (upstream, proxy):
        upstream.answer = None
        proxy.listener.drain()
        caller = await proxy.client()
        await caller.send(b"GET /v2/customer_sessions/s HTTP/1.1\r\nHost: localhost\r\n\r\n")
        line, _ = await upstream.received()
        await line.send(b"HTTP/1.1 200 OK\r\nContent-Length: 3000\r\n\r\n" + b"a" * 2000)
        head = await caller.head()
        await caller.send(b"PUT /v2/customer_sessions/s HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{}")
        await line.send(b"a" * 1000)

        rest = await caller.to_end()
        await caller.close()

    assert b"Connection: close\r\n" in head
    assert rest == b"a" * 3000
    assert len(upstream.requests) == 1


async def test_an_answer_nobody_has_taken_yet_counts_as_unwritten() -> None:
    size = 40_000_000  # more than the kernel holds for a caller who does not read
    async with running(reply=size) as (upstream, proxy):
        upstream.answer = lambda request: b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size + b"a" * size
        with socket.create_connection(("127.0.0.1", proxy.port)) as caller:
            caller.sendall(request("GET", "/v2/customer_sessions/s"))
            await upstream.received()
            await patiently(proxy.pipeline.drained())

            assert proxy.listener.unwritten == 1
