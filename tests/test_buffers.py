"""The bound on all bodies together (P10): what counts, when it is given back, and who is kept out."""

import asyncio
import contextlib
import gc
import random
import socket
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from proxy.errors import ReplyTooLarge
from proxy.wire.buffers import SMALL, Buffers
from tests.h2_upstream import Http2Upstream, Served
from tests.harness import OK, Line, Proxy, Upstream, patiently, running, until
from tests.test_http2_faults import running as running_http2
from tests.test_upstream_faults import Answer, request

BIG = 100_000
HEAD = b"PUT /v2/customer_sessions/%d HTTP/1.1\r\nHost: localhost\r\n"


def test_a_share_counts_until_nobody_refers_to_it() -> None:
    buffers = Buffers(100)
    first, second = buffers.share(), buffers.share()

    assert (first.hold(60), second.hold(40), first.hold(61)) == (True, True, False)
    assert (buffers.held, first.size) == (100, 60)
    assert repr(buffers) == "<Buffers held=100 of 100>"
    del second
    assert buffers.held == 60
    assert first.hold(100)
    assert not buffers.share().hold(1)


def test_what_is_held_already_is_counted_beyond_the_bound() -> None:
    buffers = Buffers(100)
    share = buffers.share()

    assert share.hold(150, anyway=True)
    assert (buffers.held, repr(share)) == (150, "<Share 150>")
    del share
    assert buffers.held == 0


# Three ways in which a large body comes: behind its head, in pieces, in chunks.
def whole(number: int) -> list[bytes]:
    return [HEAD % number + b"Content-Length: %d\r\n\r\n" % BIG + bytes(BIG)]


def in_pieces(number: int) -> list[bytes]:
    return [HEAD % number + b"Content-Length: %d\r\n\r\n" % BIG, bytes(BIG // 2), bytes(BIG - BIG // 2)]


def in_chunks(number: int) -> list[bytes]:
    begin = HEAD % number + b"Transfer-Encoding: chunked\r\n\r\n"
    return [begin, b"%x\r\n" % BIG, bytes(BIG), b"\r\n0\r\n\r\n"]


@asynccontextmanager
async def silent(**options: int) -> AsyncIterator[tuple[Upstream, Proxy]]:
    """Give an upstream that answers when the test says so."""
    async with running(**options) as (upstream, proxy):
        upstream.answer = None
        yield upstream, proxy


async def send(proxy: Proxy, pieces: list[bytes]) -> Line:
    caller = await proxy.client()
    for piece in pieces:
        await caller.send(piece)
        await asyncio.sleep(0)
    return caller


@pytest.mark.parametrize("shape", [whole, in_pieces, in_chunks])
async def test_p10_when_bodies_hold_as_much_as_they_may_the_next_is_told_so_and_later_taken(shape: object) -> None:
    assert callable(shape)
    async with silent(buffered=2 * BIG + SMALL) as (upstream, proxy):
        callers = [await send(proxy, shape(number)) for number in range(2)]
        lines = [(await upstream.received())[0] for _ in callers]
        assert proxy.buffers.held == 2 * BIG

        refused = await send(proxy, shape(3))
        head, _ = await refused.message()
        assert head.startswith(b"HTTP/1.1 503 ")
        assert b"\r\nTalon-Proxy-Outcome: not-sent\r\n" in head
        assert b"Retry-After" not in head
        assert await refused.to_end() == b""
        assert proxy.witness.refused[0][1].category.value == "buffer"
        small = await send(proxy, [HEAD % 4 + b"Content-Length: 2\r\n\r\n{}"])  # those are still taken
        line, _ = await upstream.received()
        await line.send(OK)
        assert (await small.message())[0].startswith(b"HTTP/1.1 200 ")

        for line in lines:
            await line.send(OK)
        for caller in callers:
            await caller.message()
        proxy.witness.ended.clear()
        await until(lambda: not proxy.buffers.held)
        last = await send(proxy, shape(5))
        await (await upstream.received())[0].send(OK)
        assert (await last.message())[0].startswith(b"HTTP/1.1 200 ")
        for caller in (*callers, small, refused, last):
            await caller.close()


async def test_p10_a_sent_call_counts_until_it_lands_whether_or_not_its_caller_waits() -> None:
    async with silent(buffered=BIG) as (upstream, proxy):
        caller = await send(proxy, whole(1))
        line, _ = await upstream.received()
        caller.reset()
        await until(lambda: bool(proxy.witness.left))
        proxy.witness.left.clear()
        assert proxy.buffers.held == BIG

        await line.send(OK)
        await patiently(proxy.pipeline.drained())
        proxy.witness.ended.clear()
        await until(lambda: not proxy.buffers.held)


async def test_p10_who_leaves_within_a_body_gives_its_room_back() -> None:
    async with silent() as (_, proxy):
        caller = await send(proxy, in_pieces(1)[:2])
        await until(lambda: proxy.buffers.held == BIG // 2)

        caller.reset()
        await until(lambda: not proxy.buffers.held)


@pytest.mark.parametrize("chunked", [False, True])
async def test_p10_an_answer_for_which_there_is_no_room_is_streamed_and_whole(chunked: bool) -> None:
    body = bytes(range(256)) * 4000
    async with running(buffered=200_000, reply=8 << 20) as (upstream, proxy):
        if chunked:
            answer = b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
        else:
            answer = b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
        upstream.answer = lambda _: b"HTTP/1.1 200 OK\r\n" + answer
        caller = await send(
            proxy, [b"GET /v2/customer_sessions/s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"]
        )
        most, got = 0, b""
        while piece := await patiently(caller.reader.read(65536)):
            got += piece
            most = max(most, proxy.buffers.held)

        assert got.count(b"HTTP/1.1 200 ") == 1
        assert body in got if not chunked else len(got) > len(body)
        assert most <= 200_000
        [(_, reply, whole)] = proxy.witness.ended
        assert reply.stream is not None
        assert whole
        await caller.close()


async def test_p10_where_it_cannot_be_streamed_it_is_refused_with_its_outcome_known() -> None:
    async with silent(buffered=200_000) as (upstream, proxy):
        caller = await proxy.client()
        await caller.send(b"GET /v2/customer_sessions/%d HTTP/1.1\r\nHost: localhost\r\n\r\n" % 1)
        first, _ = await upstream.received()
        await caller.send(b"GET /v2/customer_sessions/%d HTTP/1.1\r\nHost: localhost\r\n\r\n" % 2)
        second, _ = await upstream.received()
        await second.send(b"HTTP/1.1 200 OK\r\nContent-Length: 400000\r\n\r\n" + bytes(300_000))
        await until(lambda: second.reader.at_eof() or proxy.generation.pool.active < 2)
        await first.send(OK)

        assert (await caller.message())[0].startswith(b"HTTP/1.1 200 ")
        head, _ = await caller.message()
        assert head.startswith(b"HTTP/1.1 502 ")
        assert b"Talon-Proxy-Outcome" not in head
        assert ReplyTooLarge.token is not None
        assert ReplyTooLarge.token in head
        await caller.close()


async def test_p10_an_answer_that_is_not_read_counts_until_it_is() -> None:
    size = 6_000_000  # more than the kernel holds for a caller who does not read
    async with running() as (upstream, proxy):
        upstream.answer = lambda _: b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size + bytes(size)
        with socket.create_connection(("127.0.0.1", proxy.port)) as caller:
            caller.sendall(b"GET /v2/customer_sessions/s HTTP/1.1\r\nHost: localhost\r\n\r\n")
            await until(lambda: bool(proxy.witness.ended))
            proxy.witness.ended.clear()
            assert proxy.buffers.held == size

            caller.setblocking(False)
            loop = asyncio.get_running_loop()
            got = 0
            while got < size:
                got += len(await patiently(loop.sock_recv(caller, 1 << 20)))
            await until(lambda: not proxy.buffers.held)


# --- whatever happens ---

SIZES = (0, 100, 3000, 20_000, 50_000)
ENDS = ("answered", "answered", "answered", "leaves in the body", "leaves", "breaks off", "reads late")


class Nowhere(list[Any]):
    """Where a witness puts what it shall not keep."""

    def append(self, _: object) -> None:
        pass


async def all_given_back(proxy: Proxy) -> None:
    """Without the collector: it would be too late."""
    await until(lambda: not proxy.pipeline.in_flight and not proxy.listener.connections)
    await until(lambda: proxy.buffers.held == 0)


@pytest.fixture
def collected_by_nobody() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def reply_of(size: int, *, chunked: bool) -> bytes:
    if chunked:
        return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (size, bytes(size))
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (size, bytes(size))


async def call(proxy: Proxy, chance: random.Random, told: Counter[str]) -> None:
    """Make one call as callers do, and as they should not."""
    end = chance.choice(ENDS)
    body = b" " * chance.choice(SIZES)
    start = chance.choice((b"GET", b"PUT")) + b" /v2/customer_sessions/%d" % chance.randrange(40)
    raw = request(start, body)
    client = await proxy.client()
    with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
        await client.send(raw[: len(raw) // 2] if end == "leaves in the body" else raw)
        if end.startswith("leaves"):
            await asyncio.sleep(chance.random() / 50)
            client.reset()
            return
        if end == "breaks off":
            client.half_close()
        if end == "reads late":
            client.writer.transport.pause_reading()  # type: ignore[attr-defined]
            await asyncio.sleep(chance.random() / 10)
            client.writer.transport.resume_reading()  # type: ignore[attr-defined]
        answer = Answer(await client.to_end())
        told["buffer" if b"limits.buffered" in answer.body else str(answer.status)] += 1
    await client.close()


async def storm(proxy: Proxy, chance: random.Random) -> Counter[str]:
    told: Counter[str] = Counter()
    proxy.witness.ended = proxy.witness.left = Nowhere()
    for _ in range(8):
        await patiently(asyncio.gather(*(call(proxy, chance, told) for _ in range(50))))
    return told


BOUNDS = {
    "buffered": 80_000,
    "body": 60_000,
    "reply": 40_000,
    "coalescing": True,
    "quarantine": 0.02,
    "response_timeout": 0.5,
}


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.usefixtures("collected_by_nobody")
async def test_p10_whatever_becomes_of_calls_all_is_given_back(seed: int) -> None:
    chance = random.Random(seed)
    async with running(**BOUNDS) as (upstream, proxy):

        def answer(_: bytes) -> bytes | None:
            size, how = chance.choice(SIZES), chance.random()
            if how < 0.05:
                return None
            text = reply_of(size, chunked=how < 0.5)
            return text[: len(text) // 2] if how > 0.98 else text

        upstream.answer = answer
        told = await storm(proxy, chance)

        assert told["200"] > 50, told
        assert told["buffer"] > 0
        await all_given_back(proxy)


@pytest.mark.usefixtures("collected_by_nobody")
async def test_p10_and_so_it_is_over_http2() -> None:
    chance = random.Random(7)

    def answer(served: Served) -> None:
        how = chance.random()
        if how < 0.05:
            served.reset(chance.choice((2, 7, 8)))
        else:
            served.reply(bytes(chance.choice(SIZES)))

    upstream = Http2Upstream()
    upstream.answer = answer
    async with running_http2(upstream, **BOUNDS) as (_, proxy):
        told = await storm(proxy, chance)

        assert told["200"] > 50, told
        await all_given_back(proxy)
