"""The lines C42–C53, C55 and C56 of an HTTP/1.1 intermediary, on sockets: what Talon.One answers, judged on both sides.

A caller asks, Talon.One says what the case says, and then both go on: the caller's next call must be answered with its
own answer, and Talon.One sees it on the same connection exactly where that may serve again. No case ends the caller's
connection, but one whose answer breaks off after it has begun.
"""

import asyncio
import re
from dataclasses import dataclass
from pathlib import Path

import pytest

from proxy.traffic.retries import Rules as RetryRules
from tests.canonical import smuggled
from tests.harness import OK, Line, Upstream, running, until

PATH = b"/v2/customer_sessions/%b"
REQUEST = b"%b " + PATH + b" HTTP/1.1\r\nHost: localhost\r\n%b\r\n%b"
NEXT = REQUEST % (b"GET", b"next", b"", b"")
START = b"HTTP/1.1 200 OK\r\n"
CHUNKED = b"Transfer-Encoding: chunked"
LARGE = 3000  # bytes; more than the proxy holds here


@dataclass(frozen=True)
class Case:
    """An answer of Talon.One, and what must become of it."""

    id: str
    said: bytes
    status: int = 200
    body: bytes | None = b"{}"  # None: one of ours
    serves: bool = True  # the connection to Talon.One
    shows: tuple[bytes, ...] = ()  # lines of the answer's head
    hides: tuple[bytes, ...] = ()  # not in the answer, in any case
    method: bytes = b"GET"
    ends: bool = False  # Talon.One closes behind what it said

    @property
    def request(self) -> bytes:
        body = b"{}" if self.method == b"PUT" else b""
        return REQUEST % (self.method, b"first", b"Content-Length: 2\r\n" if body else b"", body)


def reply(*lines: bytes, start: bytes = START, body: bytes = b"{}", length: bool = True) -> bytes:
    framing = (b"Content-Length: %d" % len(body),) if length else ()
    return start + b"".join(line + b"\r\n" for line in (*lines, *framing)) + b"\r\n" + body


def framed(*lines: bytes, body: bytes = b"{}", start: bytes = START) -> bytes:
    """Say an answer with no framing but these lines."""
    return reply(*lines, body=body, start=start, length=False)


def broken(name: str, said: bytes) -> Case:
    return Case(name, said, 502, body=None, serves=False, shows=(b"Proxy-Status: talon-proxy; error=",))


def status(line: bytes) -> bytes:
    return reply(start=line + b"\r\n")


STATUS_LINES = [
    Case("C42-rewritten", reply(start=b"HTTP/1.1 200 Fine, thanks\r\n"), shows=(b"HTTP/1.1 200 OK",)),
    Case("C42-unknown-code", reply(start=b"HTTP/1.1 299 Odd\r\n"), 299, shows=(b"HTTP/1.1 299 ",)),
    Case("C42-no-reason", reply(start=b"HTTP/1.1 200 \r\n"), shows=(b"HTTP/1.1 200 OK",)),
    Case("C42-beyond-ascii", reply(b"X: caf\xe9"), shows=(b"X: caf\xe9",)),
    *[
        broken(f"C42-{name}", said)
        for name, said in (
            ("099", status(b"HTTP/1.1 099 Low")),
            ("600", status(b"HTTP/1.1 600 High")),
            ("two-digits", status(b"HTTP/1.1 20 OK")),
            ("four-digits", status(b"HTTP/1.1 2000 OK")),
            ("letters", status(b"HTTP/1.1 2OO OK")),
            ("2.0", status(b"HTTP/2.0 200 OK")),
            ("0.9", b"{}\r\n\r\n"),
            ("another-protocol", status(b"ICY 200 OK")),
            ("lower-case", status(b"http/1.1 200 OK")),
            ("two-spaces", status(b"HTTP/1.1  200 OK")),
            ("nul-in-the-reason", status(b"HTTP/1.1 200 O\0K")),
            ("nul", reply(b"X: a\0b")),
            ("bare-cr", reply(b"X: a\rY: b")),
            ("control", reply(b"X: a\x01b")),
            ("fold", reply(b"X: a", b" b")),
            ("space-before-colon", reply(b"X : a")),
            ("no-colon", reply(b"X")),
            ("empty-name", reply(b": a")),
            ("bare-lf", reply(b"X: a").replace(b"\r\n", b"\n")),
            ("lf-after-a-field", reply(b"X: a\nY: b")),
        )
    ],
]

FRAMING = [
    broken("C43-two-lengths", framed(b"Content-Length: 2", b"Content-Length: 3")),
    broken("C43-two-equal-lengths", framed(b"Content-Length: 2", b"Content-Length: 2")),
    broken("C43-a-list", framed(b"Content-Length: 2, 2")),
    broken("C43-length-and-coding", framed(b"Content-Length: 2", CHUNKED, body=b"0\r\n\r\n")),
    broken("C43-coding-and-length", framed(CHUNKED, b"Content-Length: 2", body=b"0\r\n\r\n")),
    *[
        broken(f"C43-length-{value!r}", framed(b"Content-Length: %b" % value))
        for value in (b"+2", b"-2", b"0x2", b"2.0", b"", b"2 0", b"two", b"\xb2", b"99999999999999999999")
    ],
    *[
        broken(f"C43-coding-{value!r}", framed(b"Transfer-Encoding: %b" % value, body=b"0\r\n\r\n"))
        for value in (
            *(b"gzip, chunked", b"chunked, gzip", b"chunked, chunked", b"", b"identity", b"gzip", b"xchunked"),
            *(b"chunked;a=b", b"\x0bchunked", b"chunked,"),
        )
    ],
    broken("C43-two-codings", framed(CHUNKED, CHUNKED, body=b"0\r\n\r\n")),
    broken("C43-1.0-with-a-coding", framed(CHUNKED, body=b"0\r\n\r\n", start=b"HTTP/1.0 200 OK\r\n")),
    *[
        broken(f"C43-chunk-{chunk!r}", framed(CHUNKED, body=chunk + b"0\r\n\r\n"))
        for chunk in (
            b"+2\r\n{}\r\n",
            b"0x2\r\n{}\r\n",
            b"2 \r\n{}\r\n",
            b"2\n{}\r\n",
            b"2\r\n{}\n",
            b"g\r\n",
            b"2\r\n{}}\r\n",
        )
    ],
    Case("C43-chunked", framed(CHUNKED, body=b"1;a=b\r\n{\r\n01\r\n}\r\n0\r\n\r\n"), shows=(b"Content-Length: 2",)),
    Case("C43-zeros-in-the-length", framed(b"Content-Length: 0002"), shows=(b"Content-Length: 2",), serves=True),
]

BODIES = [
    Case("C44-head", framed(b"Content-Length: 7", body=b""), body=b"", shows=(b"Content-Length: 7",), method=b"HEAD"),
    Case("C44-head-chunked", framed(CHUNKED, body=b""), body=b"", hides=(b"transfer-encoding",), method=b"HEAD"),
    Case(
        "C44-204",
        framed(b"Content-Length: 2", body=b"", start=b"HTTP/1.1 204 No Content\r\n"),
        204,
        body=b"",
        hides=(b"content-length", b"transfer-encoding"),
    ),
    Case(
        "C44-304",
        framed(b"Content-Length: 9", b'ETag: "a"', body=b"", start=b"HTTP/1.1 304 Not Modified\r\n"),
        304,
        body=b"",
        shows=(b"Content-Length: 9", b'ETag: "a"'),
    ),
    Case(
        "C44-204-with-a-body",
        framed(b"Content-Length: 2", start=b"HTTP/1.1 204 No Content\r\n"),
        204,
        body=b"",
        hides=(b"{}", b"content-length"),
        serves=False,
    ),
    Case("C45-103", framed(b"Link: </a>", body=b"", start=b"HTTP/1.1 103 Early Hints\r\n") + reply(), hides=(b"link",)),
    Case("C45-102", framed(body=b"", start=b"HTTP/1.1 102 Processing\r\n") * 3 + reply(), hides=(b"processing",)),
    Case("C45-100-not-asked-for", framed(body=b"", start=b"HTTP/1.1 100 Continue\r\n") + reply(), method=b"PUT"),
    broken("C45-seventeen", framed(body=b"", start=b"HTTP/1.1 102 Processing\r\n") * 17 + reply()),
    broken("C46-101", framed(b"Upgrade: websocket", b"Connection: Upgrade", body=b"", start=b"HTTP/1.1 101 Go\r\n")),
    Case("C47-length", framed(b"Content-Length: 9"), 502, None, serves=False, method=b"PUT", ends=True),
    Case("C47-chunk", framed(CHUNKED, body=b"9\r\n{}"), 502, None, serves=False, method=b"PUT", ends=True),
    Case("C47-no-last-chunk", framed(CHUNKED, body=b"2\r\n{}\r\n"), 502, None, serves=False, method=b"PUT", ends=True),
    Case("C47-head", START + b"X: a\r\n", 502, None, serves=False, method=b"PUT", ends=True),
    Case("C48-until-the-end", framed(body=b"all of it"), body=b"all of it", serves=False, ends=True),
    Case(
        "C49-trailers",
        framed(CHUNKED, b"Trailer: Set-Cookie", body=b"2\r\n{}\r\n0\r\nSet-Cookie: a\r\nContent-Length: 9\r\n\r\n"),
        hides=(b"set-cookie", b"trailer"),
    ),
    Case(
        "C50-more-bytes",
        reply() + b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nSTOLEN",
        hides=(b"stolen",),
        serves=False,
    ),
    Case(
        "C50-more-after-chunks", framed(CHUNKED, body=b"2\r\n{}\r\n0\r\n\r\nSTOLEN"), hides=(b"stolen",), serves=False
    ),
    Case("C51-close", reply(b"Connection: close"), hides=(b"connection: close",), serves=False),
    Case("C51-close-among-others", reply(b"Connection: x, Close", b"X: y"), hides=(b"\r\nx: y",), serves=False),
    Case("C51-1.0", reply(start=b"HTTP/1.0 200 OK\r\n"), shows=(b"HTTP/1.1 200 OK",), serves=False),
    Case(
        "C51-1.0-keep-alive",
        reply(b"Connection: keep-alive", start=b"HTTP/1.0 200 OK\r\n"),
        hides=(b"connection: close",),
        serves=False,
    ),
    *[
        Case(
            f"C52-{code}",
            reply(b"Location: http://127.0.0.1:9/elsewhere", start=b"HTTP/1.1 %d Moved\r\n" % code),
            code,
            shows=(b"Location: http://127.0.0.1:9/elsewhere",),
            method=method,
        )
        for code, method in ((301, b"GET"), (302, b"PUT"), (303, b"PUT"), (307, b"PUT"), (308, b"GET"))
    ],
    Case(
        "C53-what-is-not-ours",
        reply(
            *(b"Cache-Control: no-transform", b"Content-Encoding: gzip", b'ETag: W/"x"', b"Content-Range: bytes 0-1/9"),
            *(b"Content-Type: application/json;charset=latin-1", b"Age: 7", b"Server: x"),
            body=b"\x1f\x8b not gzip \0\xff",
        ),
        body=b"\x1f\x8b not gzip \0\xff",
        shows=(
            *(b"Cache-Control: no-transform", b"Content-Encoding: gzip", b'ETag: W/"x"', b"Content-Range: bytes 0-1/9"),
            *(b"Content-Type: application/json;charset=latin-1", b"Age: 7", b"Server: x"),
        ),
    ),
    Case(
        "C18-hop-by-hop-of-answers",
        reply(
            *(b"Connection: x-private, keep-alive", b"X-Private: a", b"Keep-Alive: timeout=9", b"Upgrade: h2c"),
            *(b"Proxy-Authenticate: Basic", b"Proxy-Connection: keep-alive", b"TE: trailers"),
        ),
        hides=(b"x-private", b"timeout=9", b"h2c", b"proxy-authenticate", b"proxy-connection", b"\r\nte:"),
    ),
    Case("C22-cookies", reply(b"Set-Cookie: a=1", b"set-cookie: b=2"), shows=(b"Set-Cookie: a=1\r\nset-cookie: b=2",)),
    Case(
        "C26-date-of-theirs",
        reply(b"Date: Thu, 01 Jan 1970 00:00:00 GMT"),
        shows=(b"Date: Thu, 01 Jan 1970 00:00:00 GMT",),
    ),
    Case("C26-date-of-ours", reply(), shows=(b"Date: ",)),
]

CASES = [*STATUS_LINES, *FRAMING, *BODIES]


async def answered(line: Line, case: Case) -> tuple[bytes, bytes]:
    if case.method == b"HEAD" or case.status == 304:
        return await line.head(), b""
    return await line.message()


def assert_answer(case: Case, head: bytes, body: bytes) -> None:
    assert head.startswith(b"HTTP/1.1 %d " % case.status), head
    if case.body is not None:
        assert body == case.body
    for shown in case.shows:
        assert shown in head
    for hidden in (*case.hides, b"access-control-"):
        assert hidden not in (head + body).lower()
    for name in (b"date", b"connection"):
        assert len(re.findall(rb"(?im)^%b:" % name, head)) == 1
    assert len(re.findall(rb"(?im)^content-length:", head)) <= 1


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
async def test_line(case: Case) -> None:
    async with running() as (upstream, proxy):
        upstream.answer = None
        line = await proxy.client()
        await line.send(case.request)
        first, _ = await upstream.received()
        await first.send(case.said)
        if case.ends:
            await first.close()

        assert_answer(case, *await answered(line, case))
        # The same caller goes on; its connection was not ended for what Talon.One did.
        await line.send(NEXT)
        second, _ = await upstream.received()
        await second.send(OK)
        assert (await line.message())[1] == b"OK"
        assert (second is first) is case.serves
        assert [request.split(b" ")[1] for request in upstream.requests] == [PATH % b"first", PATH % b"next"]
        assert [smuggled(request) for request in upstream.requests] == ["", ""]
        await line.close()


@pytest.mark.parametrize("case", [case for case in CASES if not case.ends], ids=lambda case: case.id)
async def test_line_byte_by_byte(case: Case) -> None:
    async with running() as (upstream, proxy):
        upstream.answer = None
        line = await proxy.client()
        await line.send(case.request)
        first, _ = await upstream.received()
        for number in range(len(case.said)):
            if first.writer.is_closing():
                break
            first.writer.write(case.said[number : number + 1])
            await asyncio.sleep(0)

        assert_answer(case, *await answered(line, case))
        await line.close()


@pytest.mark.parametrize("framing", [CHUNKED, b"Content-Length: 9000"])
async def test_c47_a_stream_that_breaks_off_is_not_whole(framing: bytes) -> None:
    async with running(reply=LARGE // 2) as (upstream, proxy):
        upstream.answer = None
        line = await proxy.client()
        await line.send(REQUEST % (b"GET", b"first", b"", b""))
        back, _ = await upstream.received()
        size = b"%x\r\n" % LARGE if framing is CHUNKED else b""
        await back.send(START + framing + b"\r\n\r\n" + size + b"a" * LARGE + (b"\r\n" if size else b""))
        head = await line.head()
        await line.exactly(LARGE)
        await back.close()
        rest = await line.to_end()

        # As we frame it: no last chunk, and less than the length.
        assert b"0\r\n\r\n" not in rest
        assert (b"\r\nTransfer-Encoding: chunked\r\n" in head) is (framing is CHUNKED)
        assert b"\r\nContent-Length: %d\r\n" % LARGE not in head
        await line.close()


async def test_c48_a_large_body_until_the_end_is_chunked_to_the_caller() -> None:
    async with running(reply=LARGE // 2) as (upstream, proxy):
        upstream.answer = lambda request: None if b"next" in request else framed(body=b"a" * LARGE)
        line = await proxy.client()
        await line.send(REQUEST % (b"GET", b"first", b"", b""))
        head = await line.head()
        await upstream.lines[0].close()
        got = b""
        while not got.endswith(b"\r\n0\r\n\r\n"):
            got += await line.exactly(1)

        assert b"\r\nTransfer-Encoding: chunked\r\n" in head
        assert re.sub(rb"(?:^|\r\n)[0-9a-f]+\r\n", b"", got).rstrip() == b"a" * LARGE
        await line.close()


async def test_c45_no_interim_answer_reaches_a_caller_of_http_1_0() -> None:
    async with running() as (upstream, proxy):
        upstream.answer = lambda request: b"HTTP/1.1 103 Early Hints\r\n\r\n" + reply()
        line = await proxy.client()
        await line.send((REQUEST % (b"GET", b"first", b"Expect: 100-continue\r\n", b"")).replace(b"1.1", b"1.0", 1))

        got = await line.to_end()
        assert got.startswith(b"HTTP/1.1 200 ")
        assert got.count(b"HTTP/1.1 ") == 1
        await line.close()


async def test_c50_bytes_on_an_idle_connection_close_it_and_reach_nobody() -> None:
    async with running() as (upstream, proxy):
        upstream.answer = None
        line = await proxy.client()
        await line.send(REQUEST % (b"GET", b"first", b"", b""))
        first, _ = await upstream.received()
        await first.send(reply())
        await line.message()
        await first.send(reply(body=b"STOLEN"))
        await until(first.writer.is_closing)  # as the proxy's end does

        await line.send(NEXT)
        second, _ = await upstream.received()
        assert second is not first
        await second.send(OK)
        assert (await line.message())[1] == b"OK"
        await line.close()


async def lost(upstream: Upstream, times: int) -> None:
    """Drop the connections of so many requests without a byte."""
    for _ in range(times):
        back, _ = await upstream.received()
        back.reset()


@pytest.mark.parametrize(
    ("method", "fields", "tries"),
    [
        (b"PUT", b"", 1),  # a new connection; nobody knows what became of it
        (b"PUT", b"Idempotency-Key: k\r\n", 2),
        (b"GET", b"", 2),
    ],
)
async def test_c55_c56_only_what_may_be_repeated_is_and_only_once(method: bytes, fields: bytes, tries: int) -> None:
    body = b"{}" if method == b"PUT" else b""
    fields += b"Content-Length: 2\r\n" if body else b""
    async with running(budget=1.0) as (upstream, proxy):
        assert RetryRules().connection == 2  # of connections that carried nothing; see below
        upstream.answer = None
        line = await proxy.client()
        await line.send(REQUEST % (method, b"first", fields, body))
        await lost(upstream, tries)
        head, _ = await line.message()

        assert head.startswith(b"HTTP/1.1 502 ")
        assert b"\r\nTalon-Proxy-Outcome: unknown\r\n" in head
        assert len(upstream.requests) == tries
        await line.close()


def test_every_line_has_a_case_or_a_test_with_its_number() -> None:
    from tests import test_conformance, test_conformance_replies, test_framings

    numbers = {
        int(number)
        for module in (test_conformance, test_conformance_replies)
        for case in module.CASES
        for number in re.findall(r"^C(\d+)-", case.id)
    }
    for module in (test_conformance, test_conformance_replies, test_framings):
        assert module.__file__ is not None
        text = Path(module.__file__).read_text()
        for name in re.findall(r"def (test_\w+)", text):
            numbers |= {int(number) for number in re.findall(r"_c(\d+)(?=_)", name)}

    assert sorted(numbers) == list(range(1, 58))
