"""A call, whatever becomes of it, leaves nothing for the collector; nor does a connection that is not opened, or a URL
that is left.

The collector comes seldom (`app._calm_collector`): what waits for it holds its memory, the room of its body in
`limits.buffered`, and files.
"""

import asyncio
import contextlib
import gc
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from h2.errors import ErrorCodes

from proxy.app import App
from proxy.messages import Trace
from proxy.observe.admin import Declined
from proxy.observe.logs import Logs
from proxy.secret import Redactor
from proxy.settings import load, secrets
from proxy.traffic.lanes import Rules as LaneRules
from proxy.wire.downstream import Timeouts
from tests.certificates import Authority
from tests.h2_peer import Peer
from tests.h2_upstream import Http2Upstream, Served
from tests.harness import KEY, OK, Line, Proxy, Upstream, running, until
from tests.leftovers import Leftovers
from tests.process import variables
from tests.test_buffers import Nowhere, in_pieces, reply_of, send
from tests.test_caller_faults import READ, write
from tests.test_http2_faults import VIOLATIONS
from tests.test_http2_faults import running as running_http2
from tests.test_upstream_faults import CUT, GET, PUT, WRITES, Answer, answer_of, ask, asking
from tests.traffic_rig import PARALLEL_SESSION
from tests.way import refusing, tunnelling, unanswering

RULES: dict[str, Any] = {
    "coalescing": True,
    "lanes": LaneRules(depth=4),
    "reply": 1000,
    "response_timeout": 0.2,
    "hold": 0.02,
    "quarantine": 0.02,
    "connect_timeout": 0.1,
    "timeouts": Timeouts(0.1, 0.1, 0.1, 3600.0),
    "max_connections": 4,
    "concurrency": 8,
}
LARGE = bytes(300_000)


@pytest.fixture(scope="module", autouse=True)
def _what_was_there_before() -> Iterator[None]:
    """Not looked at again and again."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


def keep_nothing(proxy: Proxy) -> None:
    proxy.witness.ended = proxy.witness.left = proxy.witness.refused = Nowhere()


async def quiet(proxy: Proxy) -> None:
    pool = proxy.generation.pool
    await until(lambda: not (proxy.pipeline.flights or proxy.listener.connections or pool.active or pool.opening))
    for _ in range(3):
        await asyncio.sleep(0)


async def left_by(proxy: Proxy, end: Callable[[], Awaitable[object]]) -> Leftovers:
    keep_nothing(proxy)
    with Leftovers() as left:
        await end()
        await quiet(proxy)
    return left


# --- what becomes of calls, over HTTP/1.1 ---

End = Callable[[Upstream, Proxy], Awaitable[object]]
ENDS: dict[str, End] = {}


def end(function: End) -> End:
    ENDS[function.__name__] = function
    return function


async def say(proxy: Proxy, *pieces: bytes) -> Answer:
    """Send a call in pieces, and read what comes until the end."""
    caller = await send(proxy, list(pieces))
    caller.half_close()
    answer = Answer(await caller.to_end())
    await caller.close()
    return answer


async def leave(proxy: Proxy, *pieces: bytes) -> None:
    caller = await send(proxy, list(pieces))
    await asyncio.sleep(0.02)
    caller.reset()


@asynccontextmanager
async def silence(upstream: Upstream) -> AsyncIterator[None]:
    """Answer by hand."""
    before, upstream.answer = upstream.answer, None
    while not upstream._received.empty():
        upstream._received.get_nowait()  # it has been answered
    yield
    upstream.answer = before


async def speak(line: Line, said: bytes = b"", then: Callable[[Line], None] = lambda _: None) -> None:
    with contextlib.suppress(ConnectionError, RuntimeError):  # the proxy may close first
        await line.send(said)
        then(line)


async def told(upstream: Upstream, proxy: Proxy, *answers: bytes, start: bytes = GET) -> Answer:
    """Make a call whose attempts are answered so; behind the last one Talon.One closes."""
    async with silence(upstream):
        call = asking(proxy, start)
        for answer in answers:
            line, _ = await upstream.received()
            await speak(line, answer)
        await speak(line, then=Line.half_close)
        return await call


@end
async def answered(_: Upstream, proxy: Proxy) -> None:
    assert (await ask(proxy, PUT)).status == 200
    assert (await say(proxy, READ * 3)).status == 200


@end
async def refused(_: Upstream, proxy: Proxy) -> None:
    assert (await ask(proxy, b"GET /nonsense")).status == 404
    assert (await ask(proxy, b"OPTIONS *")).status == 200


@end
async def unreadable(_: Upstream, proxy: Proxy) -> None:
    assert (await say(proxy, b"GET / HTTP/1.1\r\nHost\r\n\r\n")).status == 400
    assert (await say(proxy, b"GET / HT", b"TP/1.1\r\n:\r\n\r\n")).status == 400
    chunked = b"PUT /v2/customer_sessions/s HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    assert (await say(proxy, chunked, b"nothing\r\n")).status == 400


@end
async def too_slow(_: Upstream, proxy: Proxy) -> None:
    for half in (READ[:20], write("s", b"{}" * 50)[:-50]):
        caller = await send(proxy, [half])
        assert Answer(await caller.to_end()).status == 408
        await caller.close()


@end
async def given_up_by_its_caller(upstream: Upstream, proxy: Proxy) -> None:
    async with silence(upstream):
        await leave(proxy, *in_pieces(1)[:2])
        await leave(proxy, write("s", b"{}"), write("s", b"{}"))
        await leave(proxy, READ)


@end
async def never_sent(upstream: Upstream, proxy: Proxy) -> None:
    """They wait in a lane, for room or a connection, and leave, or their time is over; or there is no place."""
    async with silence(upstream):
        hasty = write("s", b"{}").replace(b"\r\n\r\n", b"\r\nTalon-Proxy-Timeout-Ms: 20\r\n\r\n")
        calls = [
            *(leave(proxy, write("s", b"%d" % number)) for number in range(6)),
            *(leave(proxy, write(str(number), b"{}")) for number in range(20)),
            say(proxy, hasty),
        ]
        await asyncio.gather(*calls)


@end
async def lost(upstream: Upstream, proxy: Proxy) -> None:
    for how in (Line.reset, Line.half_close):
        for said in (b"", b"HTTP/1.1 200 OK\r\nContent-Le", b"".join(CUT["length"])[:-300]):
            async with silence(upstream):
                call = asking(proxy, WRITES[1])
                line, _ = await upstream.received()
                await speak(line, said, how)
                assert (await call).status >= 502


@end
async def too_late(upstream: Upstream, proxy: Proxy) -> None:
    """One of them is held, and its end seen."""
    async with silence(upstream):
        write, read = asking(proxy, PUT), asking(proxy, GET)
        (first, _), (second, _) = await upstream.received(), await upstream.received()
        assert [(await call).status for call in (write, read)] == [504, 504]
        for line in (first, second):
            await speak(line, OK)


@end
async def badly_answered(upstream: Upstream, proxy: Proxy) -> None:
    bad = (
        b"nonsense\r\n\r\n",
        b"HTTP/1.1 101 X\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n",
        b"HTTP/1.1 103 X\r\n\r\n" * 20,
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 70_000,
    )
    for answer in bad:
        assert (await told(upstream, proxy, answer, start=PUT)).status >= 502


@end
async def tried_again(upstream: Upstream, proxy: Proxy) -> None:
    conflict, failing = answer_of(409, PARALLEL_SESSION), answer_of(503, b"")
    assert (await told(upstream, proxy, conflict, OK, start=PUT)).status == 200
    assert (await told(upstream, proxy, failing, OK)).status == 200
    assert (await told(upstream, proxy, answer_of(401, b""))).status == 401


@end
async def streamed(upstream: Upstream, proxy: Proxy) -> None:
    """Whole, broken off, and in silence."""
    for chunked in (False, True):
        whole = reply_of(len(LARGE), chunked=chunked)
        assert len((await told(upstream, proxy, whole)).body) >= len(LARGE)
        assert len((await told(upstream, proxy, whole[:-1000])).body) < len(LARGE)
    async with silence(upstream):
        call = asking(proxy)
        line, _ = await upstream.received()
        await speak(line, whole[:-1000])
        assert len((await call).body) < len(LARGE)


@end
async def streamed_to_nobody(upstream: Upstream, proxy: Proxy) -> None:
    """Their reader leaves, or does not read; or stands behind another call; or they are shared."""
    upstream.answer = lambda _: reply_of(20 * len(LARGE), chunked=False)
    await leave(proxy, READ)
    slow = await proxy.client()
    slow.writer.transport.pause_reading()  # type: ignore[attr-defined]
    await slow.send(READ)
    await until(lambda: not proxy.listener.connections)
    slow.reset()
    async with silence(upstream):
        caller = await send(proxy, [write("s", b"{}"), READ])
        (first, _), (second, _) = await upstream.received(), await upstream.received()
        await speak(second, reply_of(len(LARGE), chunked=False))
        await speak(first, OK)
        for _ in range(2):
            await caller.message()
        await caller.close()
    upstream.answer = lambda _: reply_of(len(LARGE), chunked=False)
    for start in (GET, PUT):
        await asyncio.gather(*(asking(proxy, start) for _ in range(3)))
    upstream.answer = lambda _: OK


@end
async def shared(upstream: Upstream, proxy: Proxy) -> None:
    """The first and another caller leave; then all share a failure."""
    for start in (READ, write("s", b"{}")):
        async with silence(upstream):
            callers = [await send(proxy, [start]) for _ in range(4)]
            line, _ = await upstream.received()
            callers[0].reset()
            callers[2].reset()
            await asyncio.sleep(0.01)
            line.reset()
            if start is READ:
                (await upstream.received())[0].reset()
            for caller in (callers[1], callers[3]):
                assert (await caller.message())[0].startswith(b"HTTP/1.1 50")
                await caller.close()


@pytest.mark.parametrize("name", ENDS)
async def test_a_call_whatever_becomes_of_it(name: str) -> None:
    async with running(**RULES) as (upstream, proxy):
        await ask(proxy)
        left = await left_by(proxy, lambda: ENDS[name](upstream, proxy))

        assert not left.objects, left


# --- over HTTP/2 ---


def break_off(call: Served) -> None:
    call.reply(20 * LARGE)
    call.reset(ErrorCodes.CANCEL)


HTTP2_ENDS: dict[str, Callable[[Served], object]] = {
    "answered": Served.reply,
    "broken off": lambda call: call.reset(ErrorCodes.INTERNAL_ERROR),
    "refused": lambda call: call.reset(ErrorCodes.REFUSED_STREAM),
    "too late": lambda _: None,
    "goes away": lambda call: call.line.goaway(call.stream - 2),
    "lost": lambda call: call.line.transport.abort(),
    "streamed": lambda call: call.reply(LARGE),
    "a stream that breaks off": break_off,
    "not HTTP/2 as it should be": lambda call: call.line.say(VIOLATIONS["a window"](call)),
    "malformed": lambda call: call.line.say(Peer().head(call.stream, [(b":status", b"200"), (b"A", b"b")], last=True)),
}


@pytest.mark.parametrize("name", HTTP2_ENDS)
async def test_a_call_over_http2(name: str) -> None:
    async with running_http2(**RULES) as (upstream, proxy):
        await ask(proxy)
        upstream.answer = HTTP2_ENDS[name]

        async def calls() -> None:
            await asyncio.gather(*(ask(proxy, start) for start in (GET, *WRITES)), leave(proxy, READ))

        left = await left_by(proxy, calls)

        assert not left.objects, left


# --- connections that are not opened ---


@asynccontextmanager
async def no_name(_: Path) -> AsyncIterator[Proxy]:
    yield await Proxy(f"http://nobody.invalid:{refusing()}", **RULES).start()


@asynccontextmanager
async def nobody_there(_: Path) -> AsyncIterator[Proxy]:
    yield await Proxy(f"http://localhost:{refusing()}", **RULES).start()


@asynccontextmanager
async def black_hole(_: Path) -> AsyncIterator[Proxy]:
    with unanswering() as port:
        yield await Proxy(f"http://127.0.0.1:{port}", **RULES).start()


@asynccontextmanager
async def no_tunnel(_: Path) -> AsyncIterator[Proxy]:
    async with tunnelling(answer=b"HTTP/1.1 503 X\r\n\r\n") as tunnels:
        yield await Proxy("http://shop.talon.one", egress=tunnels.rules, **RULES).start()


@asynccontextmanager
async def silent_tunnel(_: Path) -> AsyncIterator[Proxy]:
    async with tunnelling(answer=b"") as tunnels:
        yield await Proxy("http://shop.talon.one", egress=tunnels.rules, **RULES).start()


@asynccontextmanager
async def wrong_certificate(folder: Path) -> AsyncIterator[Proxy]:
    authority = Authority(folder)
    upstream = await Upstream().start(authority.sign("evil.example").server())
    yield await Proxy(f"https://localhost:{upstream.port}", ca_file=authority.file, **RULES).start()
    await upstream.stop()


@asynccontextmanager
async def no_tls(folder: Path) -> AsyncIterator[Proxy]:
    upstream = await Upstream().start()
    upstream.answer = None
    yield await Proxy(f"https://localhost:{upstream.port}", ca_file=Authority(folder).file, **RULES).start()
    await upstream.stop()


@asynccontextmanager
async def another_protocol(folder: Path) -> AsyncIterator[Proxy]:
    authority = Authority(folder)
    upstream = await Upstream().start(authority.sign("localhost").server())
    url = f"https://localhost:{upstream.port}"
    yield await Proxy(url, ca_file=authority.file, protocol="h2", **RULES).start()
    await upstream.stop()


@asynccontextmanager
async def silent_peer(_: Path) -> AsyncIterator[Proxy]:
    upstream = await Http2Upstream().start()
    upstream.silent = True
    yield await Proxy(f"http://127.0.0.1:{upstream.port}", protocol="h2", **RULES).start()
    await upstream.stop()


@pytest.mark.parametrize(
    "way",
    [
        no_name,
        nobody_there,
        black_hole,
        no_tunnel,
        silent_tunnel,
        wrong_certificate,
        no_tls,
        another_protocol,
        silent_peer,
    ],
)
async def test_a_connection_that_is_not_opened(way: Any, tmp_path: Path) -> None:
    async with way(tmp_path) as proxy:
        left = await left_by(proxy, lambda: ask(proxy, PUT))
        await proxy.stop()

    assert not left.objects, left


# --- the whole App ---


@asynccontextmanager
async def app_of(settings: dict[str, str]) -> AsyncIterator[App]:
    """`settings` are read again by a reload."""
    flags = ["--listen", "127.0.0.1:0", "--admin.listen", "127.0.0.1:0", "--shutdown.quiet", "0ms"]
    loaded = load(flags, variables(settings))
    redactor = Redactor(secrets(loaded.settings))
    logs = Logs(level="debug", format="json", redact=redactor.redact)
    threshold = gc.get_threshold()
    app = App(loaded, logs, redactor=redactor, load=lambda: load(flags, variables(settings)))
    await app.start()
    gc.set_threshold(*threshold)
    try:
        yield app
    finally:
        await app.stop()


async def ask_app(app: App) -> None:
    host, _, port = app.addresses[0].rpartition(":")
    line = Line(*await asyncio.open_connection(host, int(port)))
    await line.send(write("s", b"{}").replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
    assert (await line.to_end()).startswith(b"HTTP/1.1 200 ")
    await line.close()


async def test_a_url_that_is_left_or_never_served(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    pair = authority.sign("localhost")
    upstreams = [await Upstream().start(pair.server()) for _ in range(2)]
    async with AsyncExitStack() as stack:
        for upstream in upstreams:
            stack.push_async_callback(upstream.stop)
        await leave_urls(upstreams, authority)


async def leave_urls(upstreams: list[Upstream], authority: Authority) -> None:
    urls = [f"https://localhost:{upstream.port}" for upstream in upstreams]
    settings = {
        "applications__eu__api_key": KEY,
        "upstream__url": urls[0],
        "upstream__allowed_hosts": "localhost,127.0.0.1,nobody.invalid",
        "upstream__tls__ca_file": str(authority.file),
        "checklist__enabled": "true",
    }
    async with app_of(settings) as app:
        await ask_app(app)
        with Leftovers() as left:
            for url in (urls[1], urls[0]):
                await app._switch(url, False)
                await ask_app(app)
            for url in (urls[1], urls[0]):
                settings["upstream__url"] = url
                await app._reload()
                await ask_app(app)
            for bad in (
                f"https://localhost:{refusing()}",
                "https://nobody.invalid",
                f"https://127.0.0.1:{upstreams[0].port}",
            ):
                with pytest.raises(Declined):
                    await app._switch(bad, False)
            upstreams[1].answer = lambda _: None  # it closes
            with pytest.raises(Declined):
                await app._switch(urls[1], False)
            upstreams[1].answer = lambda _: OK
            settings["upstream__next__url"] = urls[1]
            settings["upstream__next__at"] = (datetime.now(UTC) + timedelta(seconds=1.5)).isoformat()
            await app._reload()
            plan = app._plan
            assert plan is not None
            await until(lambda: plan.done)
            await ask_app(app)
            await until(lambda: not app._upstream.draining)

        assert not left.objects, left


def test_the_search_finds_what_it_looks_for() -> None:
    with Leftovers() as left:
        trace = Trace("a", "b", sampled=False)
        trace.span = [trace]
        del trace

    assert left.objects == {"proxy.messages.Trace": 1}
    assert list(left.cycles.values()) == [1]
    assert "proxy.messages.Trace" in str(left)
