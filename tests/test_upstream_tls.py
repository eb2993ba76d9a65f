"""What goes wrong behind the proxy on a connection with TLS: there an end may come with a goodbye, or without.

The numbers are those of `test_upstream_faults`, which has the same on plain sockets, and more.
"""

import os
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from proxy.wire.connection import HTTP1, HTTP2
from tests.certificates import Authority
from tests.h2_upstream import Http2Upstream
from tests.harness import OK, Line, Proxy, Upstream, until
from tests.test_upstream_faults import GET, PUT, WRITES, ask, asking

POST = WRITES[1]


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@asynccontextmanager
async def running(authority: Authority, **options: Any) -> AsyncIterator[tuple[Upstream, Proxy]]:
    upstream = await Upstream().start(authority.sign("localhost").server())
    proxy = await Proxy(f"https://localhost:{upstream.port}", ca_file=authority.file, **options).start()
    try:
        yield upstream, proxy
    finally:
        await proxy.stop()
        await upstream.stop()


def goodbye(line: Line) -> None:
    """End as TLS has it: the end of what was sent is vouched for."""
    line.writer.close()


def cut(line: Line) -> None:
    """End TCP beneath TLS: somebody in between may have done so."""
    with socket.socket(fileno=os.dup(line.writer.get_extra_info("socket").fileno())) as link:
        link.shutdown(socket.SHUT_WR)


ENDS = pytest.mark.parametrize("end", [goodbye, cut, Line.reset])
End = Callable[[Line], None]


@ENDS
@pytest.mark.parametrize("start", [GET, *WRITES])
async def test_u5_a_connection_that_ends_before_its_use_is_not_noticed(
    authority: Authority, end: End, start: bytes
) -> None:
    async with running(authority, warm=1) as (upstream, proxy):
        end(await upstream.accepted())
        await until(lambda: proxy.generation.pool.opened == 2)

        assert (await ask(proxy, start)).status == 200
        assert len(upstream.requests) == 1


@ENDS
@pytest.mark.parametrize("start", WRITES)
async def test_u6_a_write_lost_without_a_byte_arrived_once_and_its_outcome_is_unknown(
    authority: Authority, end: End, start: bytes
) -> None:
    async with running(authority) as (upstream, proxy):
        upstream.answer = None
        call = asking(proxy, start)
        end((await upstream.received())[0])

        assert (await call).failure == (502, "connection_terminated", "unknown")
        assert len(upstream.requests) == 1


@ENDS
async def test_u6_a_read_that_is_lost_is_sent_once_more(authority: Authority, end: End) -> None:
    async with running(authority) as (upstream, proxy):
        upstream.answer = None
        call = asking(proxy, GET)
        end((await upstream.received())[0])
        await (await upstream.received())[0].send(OK)

        assert (await call).status == 200


@ENDS
async def test_u8_a_head_cut_short_is_no_answer(authority: Authority, end: End) -> None:
    async with running(authority) as (upstream, proxy):
        upstream.answer = None
        call = asking(proxy, PUT)
        line, _ = await upstream.received()
        await line.send(b"HTTP/1.1 200 OK\r\nX-Cut: 1\r\nContent-Le")
        await until(lambda: heard(proxy) > 0)
        end(line)

        assert (await call).failure == (502, "http_response_incomplete", "unknown")


@ENDS
@pytest.mark.parametrize("framing", [b"Content-Length: 1000\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\n3e8\r\n"])
async def test_u9_a_body_cut_short_is_not_delivered_as_whole(authority: Authority, end: End, framing: bytes) -> None:
    async with running(authority) as (upstream, proxy):
        upstream.answer = None
        call = asking(proxy, POST)
        line, _ = await upstream.received()
        await line.send(b"HTTP/1.1 200 OK\r\n%b" % framing + b"x" * 500)
        await until(lambda: heard(proxy) > 0)
        end(line)

        assert (await call).failure == (502, "http_response_incomplete", "unknown")
        assert len(upstream.requests) == 1


def heard(proxy: Proxy) -> float:
    """Give the moment of the first byte of the one answer under way."""
    [flight] = proxy.pipeline.flights
    return flight.timeline.first_byte


@pytest.mark.parametrize("start", [GET, PUT])
async def test_u10_a_peer_that_closes_behind_its_answers_is_not_noticed(authority: Authority, start: bytes) -> None:
    async with running(authority) as (upstream, proxy):
        upstream.answer = None
        for number in range(10):
            call = asking(proxy, start)
            line, _ = await upstream.received()
            await line.send(OK)
            line.writer.close()
            assert (await call).status == 200
            assert len(upstream.requests) == number + 1


async def test_u11_a_silent_peer_ends_at_the_response_timeout_and_its_connection_with_it(authority: Authority) -> None:
    async with running(authority, response_timeout=0.3) as (upstream, proxy):
        upstream.answer = None
        call = asking(proxy, PUT)
        line, _ = await upstream.received()

        assert (await call).failure == (504, "connection_read_timeout", "unknown")
        await until(line.reader.at_eof)


async def test_u16_u17_what_nobody_asked_for_reaches_nobody(authority: Authority) -> None:
    async with running(authority) as (upstream, proxy):
        stray = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nSTOLEN"
        upstream.answer = lambda _: OK + stray
        assert (await ask(proxy, PUT)).body == b"OK"

        upstream.answer = lambda _: OK
        assert (await ask(proxy, PUT)).body == b"OK"
        await upstream.lines[-1].send(stray)
        await until(lambda: not proxy.generation.pool.idle)
        assert (await ask(proxy, PUT)).body == b"OK"
        assert len(upstream.lines) == 3


async def test_u20_an_answer_without_a_length_that_ends_with_a_goodbye_is_whole(authority: Authority) -> None:
    async with running(authority) as (upstream, proxy):
        upstream.answer = None
        call = asking(proxy, PUT)
        line, _ = await upstream.received()
        await line.send(b"HTTP/1.1 200 OK\r\n\r\nwhole")
        line.writer.close()

        assert (await call).body == b"whole"
        assert not proxy.generation.pool.idle


@pytest.mark.parametrize("wanted", ["auto", "http/1.1"])
async def test_u30_a_peer_that_speaks_http_1_only_is_spoken_to_so(authority: Authority, wanted: str) -> None:
    async with running(authority, protocol=wanted) as (_, proxy):
        assert (await ask(proxy, PUT)).status == 200
        assert proxy.generation.pool.protocol == HTTP1


@pytest.mark.parametrize("wanted", ["auto", "h2"])
async def test_u30_a_peer_that_chooses_http_2_is_spoken_to_so(authority: Authority, wanted: str) -> None:
    tls = authority.sign("localhost").server()
    tls.set_alpn_protocols([HTTP2])
    upstream = await Http2Upstream().start(tls)
    proxy = await Proxy(f"https://localhost:{upstream.port}", ca_file=authority.file, protocol=wanted).start()  # type: ignore[arg-type]
    assert (await ask(proxy, PUT)).status == 200
    assert proxy.generation.pool.protocol == HTTP2
    await proxy.stop()
    await upstream.stop()


async def test_u30_where_http_2_is_demanded_and_not_spoken_nothing_is_sent(authority: Authority) -> None:
    async with running(authority, protocol="h2") as (upstream, proxy):
        assert (await ask(proxy, PUT)).failure == (502, "tls_protocol_error", "not-sent")
        assert not upstream.requests
