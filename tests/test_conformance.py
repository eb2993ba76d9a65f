"""The lines C1–C41, C54, C57 and K9–K15 of an HTTP/1.1 intermediary, on sockets, judged on both sides.

Those of answers (C42–C53, C55, C56) are in `test_conformance_replies`, which also sees that no number is missing.

Behind every request stands another one, the canary. Where the connection must close it may reach nobody; where the
connection stays it must be answered, and Talon.One sees it as a request of its own, from the right byte on.
"""

import asyncio
import socket
import threading
from dataclasses import dataclass

import pytest

from tests.harness import KEY, Proxy, Upstream, patiently, running

SESSION = b"/v2/customer_sessions/x"
HOST = b"Host: localhost\r\n"
ID = b"X-Request-Id: r\r\n"
CANARY = b"GET /v2/customer_sessions/canary HTTP/1.1\r\n" + HOST + ID + b"\r\n"


@dataclass(frozen=True)
class Case:
    """A request, and what must become of it."""

    id: str
    request: bytes
    status: int | tuple[int, ...] = 200
    closes: bool = False
    sent: bytes | None = None  # what reaches Talon.One, but for its Host and key lines
    shows: bytes = b""  # stands in the answer
    hides: bytes = b"\0"  # does not

    @property
    def statuses(self) -> tuple[int, ...]:
        return self.status if isinstance(self.status, tuple) else (self.status,)


def get(*lines: bytes, target: bytes = SESSION, version: bytes = b"1.1", method: bytes = b"GET") -> bytes:
    head = b"%b %b HTTP/%b\r\n" % (method, target, version) + HOST + ID
    return head + b"".join(line + b"\r\n" for line in lines) + b"\r\n"


def put(*lines: bytes, body: bytes = b"", version: bytes = b"1.1", target: bytes = SESSION) -> bytes:
    return get(*lines, target=target, method=b"PUT", version=version) + body


def sent(*lines: bytes, target: bytes = SESSION, method: bytes = b"GET", body: bytes | None = None) -> bytes:
    """Give what Talon.One gets: lines that crossed, then ours."""
    head = b"%b %b HTTP/1.1\r\n" % (method, target) + ID + b"".join(line + b"\r\n" for line in lines)
    length = b"" if body is None else b"Content-Length: %d\r\n" % len(body)
    return head + b"Via: 1.1 talon-proxy\r\n" + length + b"\r\n" + (body or b"")


def refused(name: str, request: bytes, status: int | tuple[int, ...] = 400) -> Case:
    return Case(name, request, status, closes=True)


def bare(*lines: bytes) -> bytes:
    """Build a request without any line of ours."""
    return b"GET " + SESSION + b" HTTP/1.1\r\n" + b"".join(line + b"\r\n" for line in lines) + b"\r\n"


SENT = sent()
CHUNKED = b"Transfer-Encoding: chunked"
NOT_UTF_8 = b'{"customerSession":{"profileId":"p-\xff\xfe"}}'

TARGETS_AND_HOSTS = [
    refused("C1-no-host", bare()),
    refused("C2-two-hosts", bare(b"Host: localhost", b"Host: localhost")),
    refused("C2-a-list-of-hosts", bare(b"Host: localhost, localhost")),
    refused("C3-userinfo", bare(b"Host: user@localhost")),
    refused("C3-path", bare(b"Host: localhost/x")),
    refused("C3-space", bare(b"Host: local host")),
    refused("C3-empty", bare(b"Host:")),
    refused("C3-empty-with-an-absolute-target", b"GET http://localhost/ HTTP/1.1\r\nHost:\r\n\r\n"),
    Case("C3-another-name", bare(b"Host: evil.example"), 421, hides=b"evil"),
    Case("C4-absolute", get(target=b"http://127.0.0.1" + SESSION), sent=SENT),
    Case("C4-absolute-elsewhere", get(target=b"http://evil.example" + SESSION), 421, hides=b"evil"),
    refused("C4-absolute-with-userinfo", get(target=b"http://localhost@evil.example" + SESSION)),
    Case("C4-two-slashes", get(target=b"//evil.example" + SESSION), 404),
    Case(
        "C5-host-and-form-are-ours",
        get(target=b"HTTP://LOCALHOST:1" + SESSION + b"?x"),
        sent=sent(target=SESSION + b"?x"),
    ),
    refused("C6-connect", b"CONNECT evil.example:443 HTTP/1.1\r\n" + HOST + b"\r\n", 501),
    refused("C6-authority-form", get(target=b"localhost:80")),
    Case("C7-options-star", get(target=b"*", method=b"OPTIONS"), shows=b"\r\nAllow: "),
    refused("C7-get-star", get(target=b"*")),
    refused("C8-fragment", get(target=SESSION + b"#x")),
    refused("C8-space", get(target=SESSION + b" x")),
    refused("C8-backslash", get(target=SESSION + b"\\x")),
    refused("C8-control", get(target=SESSION + b"\x01")),
    refused("C8-beyond-ascii", get(target=SESSION + b"\xc3\xa4")),
    refused("C9-target", get(target=SESSION + b"/" + b"a" * 8192), 414),
    refused("C9-field", get(b"X: " + b"a" * 8192), 431),
    refused("C9-field-of-this-hop", get(b"Connection: " + b"a" * 8192), 431),
    refused("C9-number-of-fields", get(*[b"X: a"] * 127), 431),
    Case("C9-just-so-many-fields", get(*[b"X: a"] * 126), sent=sent(*[b"X: a"] * 126)),
    refused("C10-unknown-method", get(method=b"BREW"), 501),
    refused("C10-trace", get(method=b"TRACE"), 501),
    refused("C10-lower-case", get(method=b"get")),
    Case("C10-not-on-this-path", get(method=b"PATCH"), 405, shows=b"\r\nAllow: "),
    refused("C11-2.0", get(version=b"2.0"), (400, 505)),
    refused("C11-0.9", get(version=b"0.9"), (400, 505)),
    refused("C11-1.2", get(version=b"1.2"), (400, 505)),
    refused("C11-no-version", b"GET /\r\n\r\n", (400, 505)),
    Case("C12-1.0", get(version=b"1.0"), closes=True, sent=SENT, hides=b"chunked"),
    Case("C12-1.0-keep-alive", get(b"Connection: keep-alive", version=b"1.0"), closes=True, sent=SENT),
    Case("C12-1.0-without-host", bare().replace(b"1.1", b"1.0").replace(b"\r\n", b"\r\n" + ID, 1), 200, True, SENT),
    Case(
        "C13-bytes-of-the-target",
        get(target=b"/v2/customer_sessions/a%2Fb%c3%A4?B=%20&a=+;x//.."),
        sent=sent(target=b"/v2/customer_sessions/a%2Fb%c3%A4?B=%20&a=+;x//.."),
    ),
    Case("C13-empty-path", get(target=b"http://localhost"), 404),
]

FIELDS = [
    refused("C14-space-before-colon", get(b"X : a")),
    refused("C14-leading-space", b"GET / HTTP/1.1\r\n " + HOST + b"\r\n"),
    refused("C15-fold", get(b"X: a", b" b")),
    refused("C15-fold-with-tab", get(b"X: a", b"\tb")),
    refused("C16-nul", get(b"X: a\0")),
    refused("C16-bell", get(b"X: \x07")),
    refused("C16-delete", get(b"X: \x7f")),
    refused("C16-bare-cr", get(b"X: a\rY: b")),
    refused("C16-name", get(b"X[]: a")),
    refused("C16-empty-name", get(b": a")),
    refused("C17-lf-after-the-request-line", get().replace(b"\r\n", b"\n", 1)),
    refused("C17-lf-in-the-query", get(target=SESSION + b"?a\nX:b")),
    refused("C17-lf-in-the-query-before-a-length", put(target=SESSION + b"?a\nContent-Length:2")),
    refused("C17-lf-in-the-query-before-a-key", get(target=SESSION + b"?a\nAuthorization:x")),
    refused("C17-lf-after-a-field", get(b"X: a\nY: b")),
    refused("C17-lf-at-the-end", get()[:-2] + b"\n"),
    refused("C17-cr-after-the-request-line", get().replace(b"\r\n", b"\r", 1)),
    Case(
        "C18-connection-nominated",
        get(b"A: 1", b"Connection: a, b", b"B: 2", b"connection: C", b"c: 3", b"D: 4"),
        sent=sent(b"D: 4"),
    ),
    Case(
        "C18-hop-by-hop",
        get(
            *(b"Keep-Alive: timeout=9", b"Proxy-Connection: close", b"TE: trailers", b"Trailer: X", b"Upgrade: h2c"),
            *(b"Proxy-Authorization: Basic x", b"Proxy-Authenticate: Basic", b"Connection: keep-alive"),
        ),
        sent=SENT,
    ),
    Case(
        "C19-connection-takes-nothing-of-ours",
        put(
            b"Connection: authorization, host, content-length, idempotency-key, via, x-request-id",
            b"Idempotency-Key: k",
            b"Content-Length: 2",
            body=b"{}",
        ),
        sent=sent(b"Idempotency-Key: k", method=b"PUT", body=b"{}"),
    ),
    Case(
        "C20-underscores",
        put(b"Content_Length: 9", b"transfer_encoding: chunked", b"X_Forwarded_For: a", b"X_Api_Key: b", b"my_own: c"),
        sent=sent(b"my_own: c", method=b"PUT", body=b""),
    ),
    Case(
        "C21-authorization",
        get(b"Authorization: ApiKey-v1 theirs", b"authorization: Bearer x", b"X-API-Key: y", b"Proxy-Authorization: z"),
        sent=SENT,
    ),
    Case(
        "C22-order-and-repeats",
        get(b"X-A: 1", b"X-B: 2", b"x-a: 3", b"X-A: 1"),
        sent=sent(b"X-A: 1", b"X-B: 2", b"x-a: 3", b"X-A: 1"),
    ),
    Case("C23-via-of-others", get(b"Via: 1.0 a, 1.1 b"), sent=sent(b"Via: 1.0 a, 1.1 b")),
    Case("C23-loop", get(b"Via: 1.1 a, 1.1 talon-proxy"), 508),
    Case(
        "C24-forwarded",
        get(b"X-Forwarded-For: a", b"X-Forwarded-Host: b", b"Forwarded: for=c", b"X-Original-URL: /d"),
        sent=SENT,
    ),
    Case("C25-max-forwards", get(b"Max-Forwards: 0", method=b"OPTIONS"), shows=b"\r\nAllow: "),
    Case("C25-max-forwards-left", get(b"Max-Forwards: 1", method=b"OPTIONS"), 405),
    Case("C26-date", get(), sent=SENT, shows=b"\r\nDate: "),
    Case(
        "C27-unknown-fields-and-body",
        put(b"Content-Signature: s=\xe4", b"Content-Length: 9", body=b'{"a" : 1}'),
        sent=sent(b"Content-Signature: s=\xe4", method=b"PUT", body=b'{"a" : 1}'),
    ),
]

FRAMING = [
    refused("C28-length-and-coding", put(b"Content-Length: 5", CHUNKED, body=b"0\r\n\r\n")),
    refused("C28-coding-and-length", put(CHUNKED, b"Content-Length: 0", body=b"0\r\n\r\n")),
    refused("C29-two-lengths", put(b"Content-Length: 2", b"Content-Length: 3", body=b"{} ")),
    refused("C29-two-equal-lengths", put(b"Content-Length: 2", b"Content-Length: 2", body=b"{}")),
    refused("C29-a-list", put(b"Content-Length: 2, 2", body=b"{}")),
    *[
        refused(f"C29-length-{value!r}", put(b"Content-Length: %b" % value, body=b"{}"), status)
        for value, status in (
            *((b"+2", 400), (b"-2", 400), (b"2 0", 400), (b"0x2", 400), (b"", 400), (b"2.0", 400), (b"\xb2", 400)),
            *((b"9223372036854775808", (400, 413)), (b"18446744073709551618", 400)),
        )
    ],
    Case("C30-00", put(b"Content-Length: 00"), sent=sent(method=b"PUT", body=b"")),
    Case("C30-002", put(b"Content-Length: 002", body=b"{}"), sent=sent(method=b"PUT", body=b"{}")),
    *[
        refused(f"C31-coding-{value!r}", put(b"Transfer-Encoding: %b" % value, body=b"0\r\n\r\n"), (400, 501))
        for value in (
            *(b"", b"gzip", b"gzip, chunked", b"chunked, gzip", b"chunked, chunked", b"identity", b"xchunked"),
            *(b"chunked;a=b", b'"chunked"', b"chunked,", b"\x0bchunked"),
        )
    ],
    refused("C31-two-lines", put(CHUNKED, CHUNKED, body=b"0\r\n\r\n")),
    refused("C32-1.0-with-a-coding", put(CHUNKED, body=b"0\r\n\r\n", version=b"1.0")),
    Case(
        "C33-chunked",
        put(CHUNKED, body=b"1\r\n{\r\n01;a=b\r\n}\r\n000\r\n\r\n"),
        sent=sent(method=b"PUT", body=b"{}"),
    ),
    *[
        refused(f"C33-chunk-{chunk!r}", put(CHUNKED, body=chunk + b"0\r\n\r\n"))
        for chunk in (
            *(b"+2\r\n{}\r\n", b"-2\r\n{}\r\n", b"0x2\r\n{}\r\n", b"1_0\r\n{}\r\n", b" 2\r\n{}\r\n", b"2 \r\n{}\r\n"),
            *(b"00000000000000002\r\n{}\r\n", b"2\n{}\r\n", b"2\r\n{}\n", b"2\r\n{}}\r\n", b"3\r\n{}\r\n", b"\r\n"),
            *(b"g\r\n", b"2;a\rb\r\n{}\r\n", b"2;a\nb\r\n{}\r\n"),
        )
    ],
    refused("C33-extensions", put(CHUNKED, body=b"2;" + b"a" * 5000 + b"\r\n{}\r\n0\r\n\r\n")),
    Case(
        "C35-trailers",
        put(CHUNKED, b"Trailer: Authorization", body=b"0\r\nAuthorization: x\r\nContent-Length: 9\r\n\r\n"),
        sent=sent(method=b"PUT", body=b""),
    ),
    refused("C35-malformed-trailer", put(CHUNKED, body=b"0\r\nno colon\r\n\r\n")),
    Case("C36-no-body", put(), sent=sent(method=b"PUT", body=b"")),
    Case(
        "C37-get-with-a-body",
        get(b"Content-Length: 4") + b"GET ",
        sent=sent(body=b"GET "),
    ),
    Case(
        "C37-delete-with-chunks",
        get(CHUNKED, method=b"DELETE", target=b"/v1/coupon_reservations/c") + b"2\r\n{}\r\n0\r\n\r\n",
        sent=sent(method=b"DELETE", target=b"/v1/coupon_reservations/c", body=b"{}"),
    ),
    refused("C38-announced", put(b"Content-Length: 8388609"), 413),
    refused("C38-announced-by-a-chunk", put(CHUNKED, body=b"800001\r\n"), 413),
    Case(
        "C39-body-came-along",
        put(b"Expect: 100-continue", b"Content-Length: 2", body=b"{}"),
        sent=sent(method=b"PUT", body=b"{}"),
        hides=b"100 Continue",
    ),
    Case("C39-without-a-body", put(b"Expect: 100-continue"), sent=sent(method=b"PUT", body=b""), hides=b" 100 "),
    refused("C39-another-expectation", put(b"Expect: x"), 417),
    Case(
        "C39-1.0",
        put(b"Expect: 100-continue", b"Content-Length: 2", body=b"{}", version=b"1.0"),
        closes=True,
        sent=sent(method=b"PUT", body=b"{}"),
        hides=b" 100 ",
    ),
    *[
        Case(
            f"C40-h2c-{name}",
            put(
                *(
                    b"Connection: Upgrade, HTTP2-Settings",
                    b"Upgrade: h2c",
                    b"HTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA",
                ),
                *framing,
                body=body,
            ),
            sent=sent(method=b"PUT", body=payload),
            hides=b"101",
        )
        for name, framing, body, payload in (
            ("empty", (), b"", b""),
            ("length", (b"Content-Length: 2",), b"{}", b"{}"),
            ("chunked", (CHUNKED,), b"2\r\n{}\r\n0\r\n\r\n", b"{}"),
        )
    ],
    Case(
        "C40-another-upgrade",
        put(b"Connection: Upgrade", b"Upgrade: websocket", b"Content-Length: 2", body=b"{}"),
        closes=True,
        sent=sent(method=b"PUT", body=b"{}"),
    ),
    Case("C41-one-empty-line", b"\r\n" + get(), sent=SENT),
    Case("C41-two-empty-lines", b"\r\n\r\n" + get(), sent=SENT),
    refused("C41-three-empty-lines", b"\r\n\r\n\r\n" + get()),
    refused("K9-huge-head", get(*[b"X: " + b"a" * 8000] * 9), 431),
    refused("K9-ten-thousand-fields", get(*[b"X: a"] * 10_000), 431),
    refused("K9-huge-target", get(target=SESSION + b"a" * 102_400), 414),
    refused("K13-tls", bytes.fromhex("160301020001fc0303") + b"\xa5" * 200),
    Case(
        "K14-an-id-that-is-not-utf-8",
        put(b"Content-Length: 40", body=NOT_UTF_8),
        sent=sent(method=b"PUT", body=NOT_UTF_8),
    ),
    Case("K15-long", put(b"Idempotency-Key: " + b"k" * 256), 400),
    Case("K15-repeated", put(b"Idempotency-Key: k", b"Idempotency-Key: k"), 400),
    Case("K15-empty", put(b"Idempotency-Key:"), 400),
    Case("K15-tab", put(b"Idempotency-Key: a\tb"), 400),
    refused("K15-control", put(b"Idempotency-Key: a\x01b")),
    Case(
        "K15-good",
        put(b"idempotency-KEY: k"),
        sent=sent(b"idempotency-KEY: k", method=b"PUT", body=b""),
    ),
]

CASES = [*TARGETS_AND_HOSTS, *FIELDS, *FRAMING]


def stripped(request: bytes, upstream: Upstream) -> bytes:
    """Take away the lines that every request to Talon.One has; C5, C21: exactly one Host, one key, both ours."""
    for line in (b"Host: 127.0.0.1:%d\r\n" % upstream.port, b"Authorization: ApiKey-v1 %b\r\n" % KEY.encode()):
        assert request.lower().count(b"\r\n" + line.partition(b":")[0].lower() + b":") == 1
        assert line in request
        request = request.replace(line, b"")
    return request


async def judge(case: Case, *parts: bytes, upstream: Upstream, proxy: Proxy) -> None:
    """Play a request and the canary, and look at both sides."""
    before = len(upstream.requests)
    line = await proxy.client()
    for part in parts:
        await line.send(part)
        # The proxy has its turns to read what came: it is one loop.
        for _ in range(3 if len(parts) > 1 else 0):
            await asyncio.sleep(0)
    head, body = await line.message()

    assert head.startswith(b"HTTP/1.1 ")
    assert int(head[9:12]) in case.statuses
    assert case.shows in head
    assert case.hides not in head + body
    assert (b"\r\nConnection: close\r\n" in head) is case.closes
    if case.closes:
        assert await line.to_end() == b""
    else:
        assert (await line.message())[0].startswith(b"HTTP/1.1 200 ")
    await line.close()
    expected = [] if case.sent is None else [case.sent]
    canary = [] if case.closes else [sent(target=b"/v2/customer_sessions/canary")]
    assert [stripped(request, upstream) for request in upstream.requests[before:]] == expected + canary


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
async def test_line(case: Case) -> None:
    async with running() as (upstream, proxy):
        await judge(case, case.request + CANARY, upstream=upstream, proxy=proxy)


SPLIT = (
    *("C4-absolute", "C14-space-before-colon", "C18-connection-nominated", "C22-order-and-repeats"),
    *("C28-length-and-coding", "C33-chunked", "C35-trailers", "C37-get-with-a-body", "C40-h2c-chunked"),
    *("C40-h2c-length", "C41-two-empty-lines", "C12-1.0"),
)


@pytest.mark.parametrize("case", [case for case in CASES if case.id in SPLIT], ids=lambda case: case.id)
async def test_line_split_at_every_byte(case: Case) -> None:
    data = case.request + CANARY

    async with running() as (upstream, proxy):
        for cut in range(1, len(data)):
            await judge(case, data[:cut], data[cut:], upstream=upstream, proxy=proxy)


async def test_c34_what_ends_too_early_is_not_forwarded() -> None:
    async with running() as (upstream, proxy):
        for request in (
            get()[:-2],
            put(b"Content-Length: 3", body=b"{}"),
            put(CHUNKED, body=b"2\r\n{}\r\n"),
            put(CHUNKED, body=b"2\r\n{}\r\n0\r\n"),
        ):
            line = await proxy.client()
            await line.send(request)
            line.half_close()
            assert await line.to_end() == b""
            await line.close()

        assert upstream.requests == []


async def test_c39_100_comes_before_the_body_and_upstream_sees_neither_early() -> None:
    async with running() as (upstream, proxy):
        line = await proxy.client()
        await line.send(put(b"Expect: 100-continue", b"Content-Length: 2"))
        assert await line.head() == b"HTTP/1.1 100 Continue\r\n\r\n"
        assert upstream.requests == []
        await line.send(b"{}" + CANARY)

        assert (await line.message())[0].startswith(b"HTTP/1.1 200 ")
        assert (await line.message())[0].startswith(b"HTTP/1.1 200 ")
        await line.close()
        assert stripped(upstream.requests[0], upstream) == sent(method=b"PUT", body=b"{}")


async def test_c54_pipelined_calls_are_answered_in_order_with_few_ahead() -> None:
    """K11."""
    async with running(pipeline=4) as (upstream, proxy):
        upstream.answer = None
        line = await proxy.client()
        await line.send(b"".join(get(target=b"/v2/customer_sessions/%d" % number) for number in range(100)))

        for first in range(0, 100, 4):
            taken = [await upstream.received() for _ in range(4)]
            assert upstream._received.empty()
            # The newest first: the proxy has to hold it back.
            for back, request in sorted(taken, key=lambda entry: number_of(entry[1]), reverse=True):
                await back.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n%02d" % number_of(request))
            for number in range(first, first + 4):
                assert (await line.message())[1] == b"%02d" % number
        await line.close()


def number_of(request: bytes) -> int:
    return int(request.split(b" ")[1].rpartition(b"/")[2])


async def test_c54_a_thousand_calls_at_once() -> None:
    """K11."""
    async with running() as (upstream, proxy):
        upstream.answer = lambda request: b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n%04d" % number_of(request)
        line = await proxy.client()
        sending = asyncio.ensure_future(
            line.send(b"".join(get(target=b"/v2/customer_sessions/%d" % number) for number in range(1000)))
        )
        for number in range(1000):
            assert (await line.message())[1] == b"%04d" % number
        await sending
        await line.close()

        assert len(upstream.requests) == 1000


async def test_c57_a_refusal_comes_after_the_answers_before_it_and_then_the_end() -> None:
    async with running() as (upstream, proxy):
        upstream.answer = None
        line = await proxy.client()
        await line.send(get() + b"nonsense\r\n\r\n" + CANARY)
        back, _ = await upstream.received()
        await back.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nOK")

        assert (await line.message())[0].startswith(b"HTTP/1.1 200 ")
        assert (await line.message())[0].startswith(b"HTTP/1.1 400 ")
        assert await line.to_end() == b""
        assert len(upstream.requests) == 1
        # Lingering: the caller may go on for a moment without a reset.
        await line.send(CANARY)
        await line.close()


async def test_k10_who_sends_all_of_a_large_body_before_reading_gets_the_answer() -> None:
    """C57: a reset while the caller still writes would take the 413 away."""
    size = 20 << 20

    def caller() -> bytes:
        with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
            connection.sendall(put(b"Content-Length: %d" % size))
            connection.sendall(bytes(size))
            answer = connection.recv(65536)
            connection.shutdown(socket.SHUT_WR)
            return answer

    async with running() as (upstream, proxy):
        port = proxy.port
        answer = await patiently(asyncio.to_thread(caller))

        assert answer.startswith(b"HTTP/1.1 413 ")
        assert upstream.requests == []


async def test_c47_a_broken_stream_ends_in_a_reset_for_http_1_0() -> None:
    """A body without a length would look whole after an orderly end."""
    async with running(reply=1000) as (upstream, proxy):
        upstream.answer = None
        line = await proxy.client()
        await line.send(get(version=b"1.0"))
        back, _ = await upstream.received()
        await back.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n7d0\r\n" + b"a" * 2000 + b"\r\n")
        await line.head()
        await line.exactly(2000)
        back.reset()

        with pytest.raises(ConnectionResetError):
            await patiently(line.reader.read(-1))
        await line.close()


async def test_a_large_answer_to_a_caller_who_reads_late_is_whole() -> None:
    """The end of lingering does not cut it off."""
    size = 32 << 20

    def caller() -> int:
        with socket.socket() as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16384)
            connection.settimeout(20)
            connection.connect(("127.0.0.1", port))
            connection.sendall(get(version=b"1.0"))
            # Longer than lingering lasts; the caller is what takes time here.
            lingered.wait(20)
            taken = 0
            while piece := connection.recv(1 << 16):
                taken += len(piece)
            return taken

    lingered = threading.Event()
    async with running(reply=64 << 20) as (upstream, proxy):
        upstream.answer = lambda request: b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size + bytes(size)
        port = proxy.port
        asyncio.get_running_loop().call_later(1.3, lingered.set)

        assert await patiently(asyncio.to_thread(caller)) > size


async def test_a_call_that_the_kernel_holds_when_the_listener_closes_is_answered() -> None:
    """Life cycle: accepted before the close is accepted."""
    async with running() as (upstream, proxy):
        # Without a turn of the loop: neither the connection nor its bytes were seen yet.
        with socket.create_connection(("127.0.0.1", proxy.port), timeout=10) as connection:
            connection.sendall(get())
            await proxy.listener.close()
            connection.setblocking(False)
            answer = await patiently(asyncio.get_running_loop().sock_recv(connection, 65536))

        assert answer.startswith(b"HTTP/1.1 200 ")
        assert b"\r\nConnection: close\r\n" in answer
        assert len(upstream.requests) == 1


async def test_too_many_connections_are_refused_and_the_others_go_on() -> None:
    async with running(connections=1) as (upstream, proxy):
        first = await proxy.client()
        await first.send(get())
        await first.message()
        second = await proxy.client()
        await second.send(get())

        assert (await second.message())[0].startswith(b"HTTP/1.1 503 ")
        assert await second.to_end() == b""
        await first.send(get())
        assert (await first.message())[0].startswith(b"HTTP/1.1 200 ")
        await first.close()
        await second.close()
        assert len(upstream.requests) == 2
