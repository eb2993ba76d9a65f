"""HTTP/2 behind the whole proxy, on real sockets: what callers get when the peer does as it may, and as it may not."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from h2.errors import ErrorCodes
from h2.settings import SettingCodes

from proxy.wire.connection import Closing
from proxy.wire.h2frames import render, window_update
from tests.certificates import Authority
from tests.h2_peer import Peer
from tests.h2_upstream import Http2Line, Http2Upstream, Served
from tests.harness import Proxy, patiently, until
from tests.load import Load
from tests.test_upstream_faults import GET, PUT, Answer, ask, asking, request

POST = b"POST /v2/events"


@asynccontextmanager
async def running(upstream: Http2Upstream | None = None, **options: Any) -> AsyncIterator[tuple[Http2Upstream, Proxy]]:
    """Give an upstream that speaks HTTP/2 in clear and a proxy in front of it."""
    upstream = await (upstream or Http2Upstream()).start()
    proxy = await Proxy(f"http://127.0.0.1:{upstream.port}", protocol="h2", **options).start()
    try:
        yield upstream, proxy
    finally:
        await proxy.stop()
        await upstream.stop()


async def test_by_tls_and_alpn_many_calls_share_one_connection(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    upstream = await Http2Upstream().start(authority.sign("localhost").server())
    proxy = await Proxy(f"https://localhost:{upstream.port}", ca_file=authority.file, warm=1).start()
    await until(lambda: proxy.generation.pool.warm)

    answers = await asyncio.gather(*[asking(proxy, PUT) for _ in range(50)])

    assert {answer.status for answer in answers} == {200}
    assert len(upstream.lines) == 1
    assert {call.fields[b":scheme"] for call in upstream.calls} == {b"https"}
    assert [(some.protocol, some.idle) for some in proxy.generation.pool.census()] == [("http/1.1", 0), ("h2", 1)]
    await proxy.stop()
    await upstream.stop()


async def test_a_call_crosses_as_it_came() -> None:
    async with running() as (upstream, proxy):
        answer = await ask(proxy, b"PUT /v2/customer_sessions/a%20b?dry=true", b'{"x": 1}')

        assert (answer.status, answer.body) == (200, b"OK")
        [call] = upstream.calls
        assert call.body == b'{"x": 1}'
        assert call.fields[b":path"] == b"/v2/customer_sessions/a%20b?dry=true"
        assert call.fields[b":authority"] == b"127.0.0.1:%d" % upstream.port
        assert call.fields[b"authorization"].startswith(b"ApiKey-v1 ")
        assert not {b"host", b"connection", b"keep-alive"} & call.fields.keys()


async def test_large_bodies_cross_both_ways_unchanged() -> None:
    sent, answered = bytes(range(256)) * (4 << 12), bytes(reversed(range(256))) * (10 << 12)
    async with running(reply=1 << 20) as (upstream, proxy):
        upstream.answer = lambda call: call.reply(answered)

        answer = await ask(proxy, PUT, sent)

        assert upstream.calls[0].body == sent
        assert answer.body == answered


# --- U26: GOAWAY ---


async def test_u26_no_call_fails_while_the_peer_goes_away_every_hundred_requests() -> None:
    """Each call is executed exactly once: a stream above the last is not taken, though it may have arrived."""
    executed: Counter[bytes] = Counter()

    def answer(call: Served) -> None:
        executed[call.fields[b":path"]] += 1
        if call.line.number == 100:
            call.line.goaway(call.stream)
        # As `load` wants it: the target, and what an answer has else.
        call.reply(call.fields[b":path"] + b" " * 2000)

    async with running(total_timeout=30.0) as (upstream, proxy):
        upstream.answer = answer
        load = Load(3000, 32, sessions=3000)

        await load.run("127.0.0.1", proxy.port)

        assert dict(load.errors) == {}
        assert load.answered == 3000
        assert set(executed.values()) == {1}
        assert len(executed) == 3000
        assert len(upstream.lines) >= 30
        await until(lambda: proxy.generation.pool.closed[Closing.GOAWAY] >= 29)


async def test_u26_what_was_taken_finishes_on_the_old_connection_and_the_next_goes_elsewhere() -> None:
    async with running() as (upstream, proxy):
        upstream.answer = lambda call: None
        first = asking(proxy, PUT)
        await until(lambda: len(upstream.calls) == 1)
        upstream.lines[0].goaway(upstream.calls[0].stream)
        second = asking(proxy, PUT)
        await until(lambda: len(upstream.calls) == 2)

        assert upstream.calls[1].line is upstream.lines[1]
        for call in upstream.calls:
            call.reply(b"from %d" % upstream.lines.index(call.line))
        assert [(await call).body for call in (first, second)] == [b"from 0", b"from 1"]


# --- U27: RST_STREAM ---


@pytest.mark.parametrize("start", [GET, PUT, POST])
async def test_u27_a_refused_call_is_sent_again_at_once(start: bytes) -> None:
    async with running() as (upstream, proxy):
        upstream.answer = lambda call: call.reset(ErrorCodes.REFUSED_STREAM) if call.stream == 1 else call.reply()

        assert (await ask(proxy, start)).status == 200
        assert len(upstream.calls) == 2
        assert len(upstream.lines) == 1


async def test_u27_a_call_that_is_refused_again_and_again_was_not_sent() -> None:
    async with running() as (upstream, proxy):
        upstream.answer = lambda call: call.reset(ErrorCodes.REFUSED_STREAM)

        assert (await ask(proxy, POST)).failure == (502, "connection_terminated", "not-sent")
        assert len(upstream.calls) == 3


async def test_a_refused_call_whose_caller_is_gone_is_not_sent_again() -> None:
    """It waits for a connection as one that was never sent: its time ends it."""
    async with running(Http2Upstream(max_concurrent_streams=1), max_connections=1, total_timeout=1.0) as (
        upstream,
        proxy,
    ):

        def answer(call: Served) -> None:
            if call.stream == 1:
                call.line.say(Peer.settings(max_concurrent_streams=0))
                call.reset(ErrorCodes.REFUSED_STREAM)

        upstream.answer = answer

        assert (await ask(proxy, POST)).failure == (504, "connection_limit_reached", "not-sent")
        upstream.lines[0].say(Peer.settings(max_concurrent_streams=1))
        upstream.answer = Served.reply
        assert (await ask(proxy, GET)).status == 200
        assert len(upstream.calls) == 2


@pytest.mark.parametrize("code", [ErrorCodes.CANCEL, ErrorCodes.INTERNAL_ERROR, ErrorCodes.ENHANCE_YOUR_CALM])
async def test_u27_a_call_broken_off_is_told_as_unknown_and_the_connection_serves_on(code: ErrorCodes) -> None:
    async with running() as (upstream, proxy):
        upstream.answer = lambda call: call.reset(code) if call.stream == 1 else call.reply()

        assert (await ask(proxy, POST)).failure == (502, "connection_terminated", "unknown")
        assert (await ask(proxy, POST)).status == 200
        assert len(upstream.calls) == 2
        assert len(upstream.lines) == 1


# --- U28: limits and silence ---


async def test_u28_more_calls_than_streams_queue_for_them() -> None:
    upstream = Http2Upstream(max_concurrent_streams=2)
    most = 0

    def answer(call: Served) -> None:
        nonlocal most
        most = max(most, call.line.server.open_inbound_streams)
        asyncio.get_running_loop().call_later(0.005, call.reply)

    upstream.answer = answer
    async with running(upstream, max_connections=3) as (_, proxy):
        answers = await asyncio.gather(*[asking(proxy, PUT) for _ in range(40)])

        assert {answer.status for answer in answers} == {200}
        assert len(upstream.lines) == 3
        assert most == 2


async def test_u28_a_peer_that_takes_no_stream_is_waited_for() -> None:
    async with running(Http2Upstream(max_concurrent_streams=0), max_connections=1, total_timeout=1.0) as (
        upstream,
        proxy,
    ):
        assert (await ask(proxy, POST)).failure == (504, "connection_limit_reached", "not-sent")

        call = asking(proxy, GET)
        upstream.lines[0].server.update_settings({SettingCodes.MAX_CONCURRENT_STREAMS: 5})
        upstream.lines[0].flush()
        assert (await call).status == 200
        assert len(upstream.calls) == 1


async def test_u28_a_peer_that_tells_no_settings_is_no_connection() -> None:
    upstream = Http2Upstream()
    upstream.silent = True
    async with running(upstream, connect_timeout=0.2) as (_, proxy):
        assert (await ask(proxy, POST)).failure == (504, "connection_timeout", "not-sent")
        assert not upstream.calls


async def test_u28_a_call_that_takes_too_long_is_cancelled_and_the_connection_stays() -> None:
    async with running(response_timeout=1.0) as (upstream, proxy):
        upstream.answer = lambda call: None if call.stream == 1 else call.reply()

        assert (await ask(proxy, POST)).failure == (504, "connection_read_timeout", "unknown")
        assert (await ask(proxy, POST)).status == 200
        await until(lambda: upstream.resets == [1])
        assert len(upstream.lines) == 1


async def test_a_stream_that_stalls_delays_nobody_and_is_held_within_bounds() -> None:
    """A caller who does not read, and an upload that the peer does not take; others share their connection."""
    large = bytes(20 << 20)
    async with running(reply=1 << 20) as (upstream, proxy):
        upstream.answer = lambda call: call.reply(large if call.fields[b":path"].endswith(b"?large=1") else b"OK")
        slow = await proxy.client()
        slow.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await slow.send(request(GET + b"?large=1"))
        await until(lambda: len(upstream.calls) == 1)
        line = upstream.lines[0]
        await until(lambda: line.server.local_flow_control_window(1) == 0)

        started = time.monotonic()
        for _ in range(50):
            assert (await ask(proxy, PUT)).status == 200
        assert time.monotonic() - started < 5  # all of them have 15 s

        assert len(upstream.lines) == 1
        # Windows, what our stream holds and what sockets hold; the rest is still there.
        assert len(line.unsent[1]) > 10 << 20
        slow.writer.transport.resume_reading()  # type: ignore[attr-defined]
        head = await slow.head()
        assert b"Content-Length: %d\r\n" % len(large) in head
        assert await slow.exactly(len(large)) == large
        await slow.close()


async def test_a_caller_who_leaves_a_stream_cancels_that_alone() -> None:
    async with running(reply=1 << 20) as (upstream, proxy):
        upstream.answer = lambda call: call.reply(bytes(20 << 20) if call.stream == 1 else b"OK")
        leaving = await proxy.client()
        await leaving.send(request(GET))
        await leaving.head()
        leaving.reset()
        await until(lambda: upstream.resets == [1])

        assert (await ask(proxy, PUT)).status == 200
        assert len(upstream.lines) == 1


# --- U29: violations ---

VIOLATIONS: dict[str, Callable[[Served], bytes]] = {
    "a push": lambda call: render(5, 4, call.stream, bytes(4)),
    "no HTTP/2 at all": lambda call: b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nOK",
    "a bomb": lambda call: render(1, 4, call.stream, b"\x88" * 10_000),
    "endless continuations": lambda call: render(1, 0, call.stream, b"\x88") + render(9, 0, call.stream, b"") * 10_000,
    "another's stream": lambda call: render(0, 0, call.stream + 2, b"x"),
    "a window": lambda call: window_update(0, 0),
}


@pytest.mark.parametrize("name", VIOLATIONS)
async def test_u29_a_violation_is_told_as_unknown_and_the_next_call_goes_elsewhere(name: str) -> None:
    async with running() as (upstream, proxy):
        upstream.answer = lambda call: call.line.say(VIOLATIONS[name](call))

        assert (await ask(proxy, POST)).failure == (502, "http_protocol_error", "unknown")
        upstream.answer = Served.reply
        assert (await ask(proxy, POST)).status == 200
        assert len(upstream.calls) == len(upstream.lines) == 2


async def test_a_malformed_answer_is_told_and_the_connection_serves_on() -> None:
    async with running() as (upstream, proxy):

        def answer(call: Served) -> None:
            if call.stream == 1:
                call.line.say(Peer().head(1, [(b":status", b"200"), (b"Upper-Case", b"x")], last=True))
            else:
                call.reply()

        upstream.answer = answer

        assert (await ask(proxy, POST)).failure == (502, "http_protocol_error", "unknown")
        assert (await ask(proxy, POST)).status == 200
        assert len(upstream.lines) == 1


# --- ends ---


@pytest.mark.parametrize("how", ["close", "abort"])
async def test_u6_calls_on_a_lost_connection_are_told_as_unknown(how: str) -> None:
    async with running() as (upstream, proxy):
        upstream.answer = lambda call: None
        calls = [asking(proxy, POST) for _ in range(5)]
        await until(lambda: len(upstream.calls) == 5)
        getattr(upstream.lines[0].transport, how)()

        assert {(await call).failure for call in calls} == {(502, "connection_terminated", "unknown")}
        assert len(upstream.calls) == 5


async def test_u10_a_connection_closed_while_idle_is_not_noticed() -> None:
    async with running() as (upstream, proxy):
        for number in range(5):
            assert (await ask(proxy, POST)).status == 200
            lines: list[Http2Line] = upstream.lines
            assert len(lines) == number + 1
            lines[-1].transport.abort()
            await until(lambda: not proxy.generation.pool.idle)


async def test_the_end_lets_calls_finish_and_says_goodbye() -> None:
    async with running() as (upstream, proxy):
        upstream.answer = lambda call: None
        call = asking(proxy, PUT)
        await until(lambda: len(upstream.calls) == 1)
        draining = asyncio.get_running_loop().create_task(proxy.generation.drain(), name="drain")
        await asyncio.sleep(0)
        upstream.calls[0].reply()

        answer: Answer = await call
        assert answer.status == 200
        await patiently(draining)
        assert proxy.generation.pool.closed == {Closing.SWITCH: 1}
