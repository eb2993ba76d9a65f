"""Callers who leave, dawdle, flood or talk nonsense, on real sockets (K1–K15 of the faults); no call of others is hurt.

K1, K2    test_caller_faults: k1_k2_who_leaves_a_group; test_lanes: a_first_caller_who_leaves
K3        test_upstream_faults: k3_a_caller_who_leaves; test_lanes: what_nobody_waits_for_is_not_sent
K4, K5    test_upstream_faults: k4_k5_a_sent_call_lands; test_caller_faults: k5_a_read_that_all_its_callers_left
K6        test_downstream: a_slow_head; test_caller_faults: k6_k7_who_sends_slowly; test_overload: the_short_form
K7        test_downstream: a_slow_body; test_caller_faults: k6_k7_who_sends_slowly
K8        test_downstream: a_caller_that_does_not_read; test_upstream_faults: k8_a_slow_reader,
          k8_a_reader_of_a_stream; test_buffers: p10_an_answer_that_is_not_read
K9        test_caller_faults: k9_what_is_too_large; test_conformance: line
K10       test_conformance: k10_who_sends_all; test_downstream: a_lingering_connection_takes; test_caller_faults:
          k10_an_endless_body
K11       test_downstream: a_thousand_calls, a_caller_with_a_thousand_calls; test_conformance: c54_a_thousand_calls;
          test_caller_faults: k11_pipelined_writes
K12       test_downstream: a_call_that_was_sent_is_still_answered, a_call_that_was_not_sent_ends
K13       test_conformance: line; test_caller_faults: k13_tls; test_logs: a_flood_of_one_message
K14       test_caller_faults: k14_what_cannot_be_read; test_keys: a_body_over_the_limit. What is looked into is bounded
K15       test_conformance: line; test_fields: an_idempotency_key
"""

import asyncio
import contextlib
import ssl

import pytest

from proxy.messages import Sent
from proxy.traffic.lanes import Rules as LaneRules
from proxy.wire.downstream import LINGER_BYTES, Timeouts
from tests import table
from tests.harness import OK, Line, Proxy, patiently, running, until

LANES = {"lanes": LaneRules(), "coalescing": True}
SHORT = Timeouts(0.3, 0.3, 30.0, 3600.0)
HOST = b"Host: localhost\r\n"
READ = b"GET /v2/customer_sessions/s HTTP/1.1\r\n" + HOST + b"\r\n"


def write(session: str, body: bytes) -> bytes:
    return (
        b"PUT /v2/customer_sessions/%b HTTP/1.1\r\n" % session.encode()
        + HOST
        + b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
    )


async def group(proxy: Proxy, request: bytes, size: int) -> list[Line]:
    """Connect callers who make the same call; the first one leads."""
    callers = []
    for number in range(size):
        callers.append(await proxy.client())
        await callers[-1].send(request)
        await until(lambda: proxy.pipeline.in_flight == number + 1)  # noqa: B023 - waited for at once
    return callers


@pytest.mark.parametrize("request_", [READ, write("s", b"{}")])
@pytest.mark.parametrize("leaving", [0, 1, 2])
async def test_k1_k2_who_leaves_a_group_takes_the_answer_from_nobody(request_: bytes, leaving: int) -> None:
    async with running(**LANES) as (upstream, proxy):
        upstream.answer = None
        callers = await group(proxy, request_, 3)
        line, _ = await upstream.received()
        callers.pop(leaving).reset()
        await until(lambda: len(proxy.witness.left) == 1)
        await line.send(OK)

        assert [(await caller.message())[1] for caller in callers] == [b"OK"] * 2
        assert len(upstream.requests) == 1
        for caller in callers:
            await caller.close()


async def test_k5_a_read_that_all_its_callers_left_lands_and_leaves_its_connection() -> None:
    async with running(**LANES) as (upstream, proxy):
        upstream.answer = None
        callers = await group(proxy, READ, 3)
        line, _ = await upstream.received()
        for caller in callers:
            caller.reset()
        await until(lambda: len(proxy.witness.left) == 3)
        assert {sent for _, sent in proxy.witness.left} == {Sent.MAYBE}
        await line.send(OK)
        await patiently(proxy.pipeline.drained())

        assert proxy.generation.pool.idle == 1
        assert not line.reader.at_eof()


HALF_A_HEAD = b"PUT /v2/customer_sessions/s HTTP/1.1\r\nHost: lo"
HALF_A_BODY = write("s", b"{}" * 50)[:-50]


@pytest.mark.parametrize("half", [HALF_A_HEAD, HALF_A_BODY])
async def test_k6_k7_who_sends_slowly_is_closed_and_has_held_nothing(half: bytes) -> None:
    """Before the last byte there is no flight, no place in a line, no connection to Talon.One."""
    async with running(timeouts=SHORT, **LANES) as (upstream, proxy):
        slow = await proxy.client()
        for piece in (half[:20], half[20:]):
            await slow.send(piece)
        head, _ = await slow.message()

        assert head.startswith(b"HTTP/1.1 408 ")
        assert await slow.to_end() == b""
        assert proxy.pipeline.in_flight == 0
        assert upstream.lines == []
        await slow.close()


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET /v2/customer_sessions/s HTTP/1.1\r\n" + b"X-Marked: %b\r\n" % (b"m" * 8000) * 9, 431),
        (b"GET /v2/customer_sessions/s HTTP/1.1\r\n" + HOST + b"X-Marked: m\r\n" * 10_000, 431),
        (b"GET /v2/customer_sessions/marked" + b"m" * 102_400, 414),
    ],
    ids=["head", "fields", "target"],
)
async def test_k9_what_is_too_large_is_refused_before_its_end_and_not_repeated(request_: bytes, status: int) -> None:
    async with running() as (upstream, proxy):
        caller = await proxy.client()
        await caller.send(request_)
        head, body = await caller.message()

        assert head.startswith(b"HTTP/1.1 %d " % status)
        assert b"arked" not in head + body
        assert await caller.to_end() == b""
        assert upstream.requests == []
        await caller.close()


async def test_k10_an_endless_body_is_refused_when_it_is_too_large_and_read_no_further_than_may_be() -> None:
    async with running(body=100_000) as (upstream, proxy):
        caller = await proxy.client()
        await caller.send(b"PUT /v2/customer_sessions/s HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n")
        taken = 0
        with contextlib.suppress(ConnectionError):  # the end that the proxy makes
            while taken < 2 * LINGER_BYTES:
                await caller.send(b"10000\r\n" + bytes(65536) + b"\r\n")
                taken += 65536

        assert taken < 2 * LINGER_BYTES
        assert [(reply.status, error.category.value) for reply, error in proxy.witness.refused] == [(413, "too_large")]
        assert upstream.requests == []
        caller.reset()


async def test_k11_pipelined_writes_of_one_session_arrive_and_are_answered_in_order() -> None:
    async with running(**LANES) as (upstream, proxy):
        upstream.answer = lambda request: b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n" + request[-4:]
        caller = await proxy.client()
        bodies = [b'"%02d"' % number for number in range(30)]
        await caller.send(b"".join(write("s", body) for body in bodies))

        assert [(await caller.message())[1] for _ in bodies] == bodies
        assert [request[-4:] for request in upstream.requests] == bodies
        await caller.close()


async def test_k13_tls_spoken_to_the_plain_port_is_refused_at_once_and_told_of_once() -> None:
    context = ssl.create_default_context()
    async with running() as (upstream, proxy):
        with pytest.raises(ssl.SSLError):
            await patiently(asyncio.open_connection("127.0.0.1", proxy.port, ssl=context, server_hostname="localhost"))

        assert [reply.status for reply, _ in proxy.witness.refused] == [400]
        await until(lambda: not proxy.listener.connections)
        assert upstream.lines == []


AWKWARD = {
    "deep list": b"[" * 100_000,
    "deep object": b'{"customerSession":' * 10_000,
    "deep and whole": b'{"customerSession":{"attributes":' + b"[" * 500 + b"]" * 500 + b"}}",
    "very deep and whole": b'{"customerSession":{"attributes":' + b"[" * 50_000 + b"]" * 50_000 + b"}}",
    "duplicate keys": b'{"customerSession":{"profileId":"a","profileId":"b"},"customerSession":{"profileId":"c"}}',
    "a long text": b'{"customerSession":{"profileId":"' + b"p" * (1 << 20) + b'"}}',
    "a long text that is looked into": b'{"customerSession":{"profileId":"' + b"p" * 200_000 + b'"}}',
    "invalid UTF-8": b'{"customerSession":{"profileId":"\xff\xfe\xc0\x80"}}',
    "half a surrogate": b'{"customerSession":{"profileId":"\\ud800"}}',
    "NUL": b'{"customerSession":{"profileId":"\\u0000"}}\x00\x00',
    "a large number": b'{"customerSession":{"profileId":' + b"9" * 100_000 + b"}}",
    "NaN": b'{"customerSession":{"profileId":NaN}}',
    "no object": b'"customerSession"',
    "a mark of order": b"\xef\xbb\xbf{}",
    "nothing": b" ",
}


@pytest.mark.parametrize("body", AWKWARD.values(), ids=AWKWARD)
async def test_k14_what_cannot_be_read_passes_as_it_came_and_keeps_the_order_of_its_session(body: bytes) -> None:
    async with running(**LANES) as (upstream, proxy):
        upstream.answer = None
        first, second = await proxy.client(), await proxy.client()
        await first.send(write("s", body))
        line, request = await upstream.received()
        await second.send(write("s", b'"second"'))
        await until(lambda: proxy.traffic.lanes.waiting == 1)
        await line.send(OK)
        again, _ = await upstream.received()
        await again.send(OK)

        assert request.endswith(b"\r\n\r\n" + body)
        assert [(await caller.message())[1] for caller in (first, second)] == [b"OK", b"OK"]
        await first.close()
        await second.close()


def test_the_table_names_every_edge_case_and_tests_that_exist() -> None:
    assert __doc__ is not None
    assert set(table.numbers(__doc__, "K")) == {f"K{number}" for number in range(1, 16)}
    assert table.wrong(__doc__) == []
