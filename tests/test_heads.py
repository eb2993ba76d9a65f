"""Request heads: what is accepted is what RFC 9112 has, whole or in pieces; all else is a DownstreamError."""

import re

import httptools
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.errors import BadReply, DownstreamError
from proxy.fields import reply_table, request_table
from proxy.wire import heads
from proxy.wire.fieldtable import FieldTable
from proxy.wire.heads import (
    METHODS,
    ReplyHead,
    ReplyParser,
    RequestHead,
    RequestLimits,
    RequestParser,
    check_unfinished,
    malformed,
    request_probe,
)

LIMITS = RequestLimits(head=65536, fields=128, target=8192, body=1 << 20)


def head(*lines: bytes, first: bytes = b"POST /v2/x HTTP/1.1") -> bytes:
    return b"\r\n".join((first, b"Host: localhost", *lines, b"", b""))


def plain_table() -> FieldTable:
    """A table that takes nothing away but what is for this hop."""
    return FieldTable(noted=[b"max-forwards"])


def fresh(limits: RequestLimits = LIMITS) -> RequestParser:
    """A parser that has seen nothing."""
    return RequestParser(limits, plain_table())


def told(request: RequestHead) -> tuple[object, ...]:
    """All that a head says."""
    fields = request.fields
    return (
        *(request.method, request.target, request.length, request.origin_form, request.asks_this_hop),
        *(fields.block, fields.noted, fields.host, fields.chunked, fields.closes, fields.expects_continue, fields.old),
    )


def outcome(parser: RequestParser, data: bytes) -> tuple[object, ...]:
    """What a head is to a parser: all that it says, or how it is refused."""
    try:
        return told(parser.parse(data))
    except DownstreamError as error:
        return type(error), error.details, error.parameter


def parse(data: bytes, limits: RequestLimits = LIMITS) -> RequestHead:
    """Parse a head, twice: one that was seen must say the same."""
    parser = fresh(limits)
    request = parser.parse(data)
    assert outcome(parser, data) == told(request)
    return request


def status(data: bytes, limits: RequestLimits = LIMITS) -> int:
    with pytest.raises(DownstreamError) as caught:
        fresh(limits).parse(data)
    assert caught.value.closes
    return caught.value.status


def told_early(data: bytes, limits: RequestLimits = LIMITS) -> int | None:
    """The status by which an unfinished head is refused, or None while it may still become one."""
    try:
        check_unfinished(bytearray(data), limits)
        request_probe().feed_data(data)
    except DownstreamError as error:
        return error.status
    except httptools.HttpParserError:
        return malformed(data).status
    return None


# --- what is accepted ---


def test_a_head_keeps_the_bytes_of_its_fields_and_their_order() -> None:
    request = parse(head(b"X-A: 1", b"x-B:  two words\t ", b"X-a:3", b"Content-Length: 5", b"X-Empty:"))

    assert (request.method, request.target, request.fields.host) == (b"POST", b"/v2/x", b"localhost")
    assert request.fields.block == b"X-A: 1\r\nx-B:  two words\t \r\nX-a:3\r\nX-Empty:\r\n"
    assert (request.length, request.fields.chunked) == (5, False)
    assert (request.fields.closes, request.fields.old) == (False, False)


def test_what_a_table_notes_is_told_without_the_whitespace_around_it() -> None:
    table = FieldTable(noted=[b"x-a", b"x-empty"], taken=[b"x-b"])
    request = RequestParser(LIMITS, table).parse(head(b"X-A: 1", b"x-B:  two words\t ", b"X-a:3", b"X-Empty:"))

    assert request.fields.noted == [(b"x-a", b"1"), (b"x-b", b"two words"), (b"x-a", b"3"), (b"x-empty", b"")]
    assert request.fields.block == b"X-A: 1\r\nX-a:3\r\nX-Empty:\r\n"


def test_fields_of_this_hop_and_those_that_connection_names_are_left_out() -> None:
    """C18: all Connection lines count together, before or after what they name."""
    request = parse(
        head(
            b"X-One: 1",
            b"Connection: x-one ,",
            b"Keep-Alive: timeout=5",
            b"Proxy-Connection: keep-alive",
            b"TE: trailers",
            b"Trailer: X-Two",
            b"Upgrade: h2c",
            b"HTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA",
            b"Proxy-Authorization: Basic x",
            b"Proxy-Authenticate: Basic",
            b"CONNECTION: X-TWO, keep-alive",
            b"X-Two: 2",
            b"X-Three: 3",
        )
    )

    assert request.fields.block == b"X-Three: 3\r\n"
    assert not request.fields.closes


def test_connection_takes_nothing_away_that_says_who_writes_what() -> None:
    """C19."""
    request = parse(
        head(
            b"Connection: authorization, host, content-length, idempotency-key, via, x-request-id",
            b"Authorization: a",
            b"Idempotency-Key: b",
            b"Via: 1.1 c",
            b"X-Request-Id: d",
            b"Content-Length: 3",
        )
    )

    assert request.fields.block == b"Authorization: a\r\nIdempotency-Key: b\r\nVia: 1.1 c\r\nX-Request-Id: d\r\n"
    assert (request.length, request.fields.host) == (3, b"localhost")


@pytest.mark.parametrize(
    "name", [b"Content_Length", b"transfer_encoding", b"Idempotency_Key", b"X_Request_Id", b"Content_Type"]
)
def test_an_underscore_does_not_smuggle_a_name(name: bytes) -> None:
    """C20."""
    assert parse(head(name + b": 7", b"other_name: 8")).fields.block == b"other_name: 8\r\n"


@pytest.mark.parametrize(
    ("target", "host", "origin_form"),
    [
        (b"http://127.0.0.1:7410/v2/a%2Fb?q=%20", b"127.0.0.1:7410", b"/v2/a%2Fb?q=%20"),
        (b"HTTPS://localhost", b"localhost", b"/"),
        (b"http://[::1]:80?x", b"[::1]:80", b"/?x"),
    ],
)
def test_an_absolute_target_is_brought_into_origin_form(target: bytes, host: bytes, origin_form: bytes) -> None:
    """C4, C5, C13."""
    request = parse(head(first=b"GET %b HTTP/1.1" % target))

    assert (request.fields.host, request.target) == (host, origin_form)


@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
def test_only_a_caller_of_the_older_version_may_leave_host_out(version: bytes) -> None:
    data = b"GET / HTTP/%b\r\n\r\n" % version

    if version == b"1.1":
        assert status(data) == 400
    else:
        request = parse(data)
        assert request.fields.old
        assert request.fields.closes
        assert request.fields.host == b""


@pytest.mark.parametrize(
    ("line", "closes"),
    [
        (b"Connection: close", True),
        (b"Connection: keep-alive, CLOSE", True),
        (b"Connection: closed", False),
        (b"Upgrade: h2c", False),
        (b"Upgrade: H2C", False),
        (b"Upgrade: websocket", True),
        (b"Upgrade: h2c, websocket", True),
    ],
)
def test_what_asks_for_the_end_of_the_connection(line: bytes, closes: bool) -> None:
    assert parse(head(line)).fields.closes is closes


@pytest.mark.parametrize(
    ("lines", "asked"),
    [
        ([b"Max-Forwards: 0"], True),
        ([b"Max-Forwards: 000000000000"], True),
        ([b"Max-Forwards: 1"], False),
        ([b"Max-Forwards: 0000000000001"], False),
        ([b"Max-Forwards: x"], False),
        ([], False),
    ],
)
def test_options_that_may_not_travel_further_ask_this_hop(lines: list[bytes], asked: bool) -> None:
    """C25."""
    assert parse(head(*lines, first=b"OPTIONS /v2/x HTTP/1.1")).asks_this_hop is asked
    assert not parse(head(*lines, first=b"GET /v2/x HTTP/1.1")).asks_this_hop


def test_an_expectation_counts_from_http_1_1_on() -> None:
    """C39."""
    line = b"Expect: 100-Continue"

    assert parse(head(line)).fields.expects_continue
    assert not parse(head(line, first=b"POST / HTTP/1.0")).fields.expects_continue
    assert not parse(head(b"Expect: x", first=b"POST / HTTP/1.0")).fields.expects_continue
    assert status(head(b"Expect: 200-ok")) == 417


# --- what is refused ---

BAD_LINES = {
    "C2-two-hosts": (b"Host: localhost", 400),
    "C14-space-before-colon": (b"X : a", 400),
    "C15-fold": (b" folded", 400),
    "C16-nul": (b"X: a\0b", 400),
    "C16-bell": (b"X: a\x07b", 400),
    "C16-vertical-tab": (b"X: a\x0b", 400),
    "C16-delete": (b"X: \x7f", 400),
    "C16-empty-name": (b": a", 400),
    "C16-no-colon": (b"nothing", 400),
    "C16-name-not-a-token": (b"X(: a", 400),
    "C16-name-beyond-ascii": (b"X\xe4: a", 400),
    "C17-bare-cr": (b"X: a\rb", 400),
    "C17-bare-lf": (b"X: a\nY: b", 400),
    "C29-plus": (b"Content-Length: +1", 400),
    "C29-minus": (b"Content-Length: -1", 400),
    "C29-inner-space": (b"Content-Length: 1 0", 400),
    "C29-hex": (b"Content-Length: 0x1", 400),
    "C29-empty": (b"Content-Length:", 400),
    "C29-list": (b"Content-Length: 5, 5", 400),
    "C29-overflow": (b"Content-Length: 18446744073709551621", 400),
    "C29-twice": (b"Content-Length: 5\r\nContent-Length: 5", 400),
    "C29-twice-apart": (b"Content-Length: 5\r\nX: y\r\ncontent-length: 6", 400),
    "C28-both": (b"Content-Length: 5\r\nTransfer-Encoding: chunked", 400),
    "C28-both-the-other-way": (b"Transfer-Encoding: chunked\r\nContent-Length: 0", 400),
    "C31-gzip": (b"Transfer-Encoding: gzip", 400),
    "C31-gzip-chunked": (b"Transfer-Encoding: gzip, chunked", 400),
    "C31-chunked-twice": (b"Transfer-Encoding: chunked, chunked", 400),
    "C31-two-lines": (b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", 400),
    "C31-empty": (b"Transfer-Encoding:", 400),
    "C31-identity": (b"Transfer-Encoding: identity", 400),
    "C31-parameter": (b"Transfer-Encoding: chunked;a=b", 400),
    "C31-quoted": (b'Transfer-Encoding: "chunked"', 400),
    "C31-control": (b"Transfer-Encoding: \x0bchunked", 400),
    "C38-too-large": (b"Content-Length: 1048577", 413),
}


@pytest.mark.parametrize(("line", "expected"), BAD_LINES.values(), ids=BAD_LINES)
def test_a_bad_field_line_is_refused(line: bytes, expected: int) -> None:
    assert status(head(line)) == expected


BAD_FIRST = {
    "C6-connect": (b"CONNECT localhost:443 HTTP/1.1", 501),
    "C6-authority-form": (b"GET localhost:443 HTTP/1.1", 400),
    "C7-star": (b"GET * HTTP/1.1", 400),
    "C8-fragment": (b"GET /a#b HTTP/1.1", 400),
    "C8-space": (b"GET /a b HTTP/1.1", 400),
    "C8-backslash": (b"GET /a\\b HTTP/1.1", 400),
    "C8-beyond-ascii": (b"GET /\xc3\xa4 HTTP/1.1", 400),
    "C8-control": (b"GET /\x01 HTTP/1.1", 400),
    "C8-delete": (b"GET /\x7f HTTP/1.1", 400),
    "C8-no-slash": (b"GET v2/x HTTP/1.1", 400),
    "C8-empty-target": (b"GET  HTTP/1.1", 400),
    "C4-userinfo": (b"GET http://a@b/ HTTP/1.1", 400),
    "C4-other-scheme": (b"GET ftp://b/ HTTP/1.1", 400),
    "C4-no-authority": (b"GET http:///v2 HTTP/1.1", 400),
    "C10-trace": (b"TRACE / HTTP/1.1", 501),
    "C10-unknown": (b"BREW / HTTP/1.1", 501),
    "C10-lower-case": (b"get / HTTP/1.1", 400),
    "C10-mixed-case": (b"Get / HTTP/1.1", 400),
    "C11-2.0": (b"GET / HTTP/2.0", 505),
    "C11-0.9": (b"GET / HTTP/0.9", 505),
    "C11-1.2": (b"GET / HTTP/1.2", 505),
    "C11-1.10": (b"GET / HTTP/1.10", 400),
    "C11-lower-case": (b"GET / http/1.1", 400),
    "C11-none": (b"GET /", 505),
    "C11-other-protocol": (b"GET / RTSP/1.1", 400),
    "C17-lf-in-the-path": (b"GET /a\nX:b HTTP/1.1", 400),
    "C17-lf-in-the-query": (b"GET /a?b\nX:c HTTP/1.1", 400),
    "C17-lf-in-an-absolute-target": (b"GET http://localhost/a?b\nX:c HTTP/1.1", 400),
    "C8-two-spaces": (b"GET  / HTTP/1.1", 400),
    "C8-tab": (b"GET\t/ HTTP/1.1", 400),
    "C8-space-at-the-end": (b"GET / HTTP/1.1 ", 400),
    "C8-leading-space": (b" GET / HTTP/1.1", 400),
}


@pytest.mark.parametrize(("first", "expected"), BAD_FIRST.values(), ids=BAD_FIRST)
def test_a_bad_request_line_is_refused_whole_and_in_pieces(first: bytes, expected: int) -> None:
    data = head(first=first)

    assert status(data) == expected
    # Of what is not complete: with the same status, or not yet, or as malformed.
    assert {told_early(data[:cut]) for cut in range(1, len(data))} <= {None, 400, expected}


@pytest.mark.parametrize(
    "host",
    [b"", b"a b", b"a/b", b"user@a", b"a,b", b"a:b", b"a:123456", b"[::1", b"::1", b"[x]", b"a?b", b"a#b", b"\xe4"],
)
def test_a_bad_host_is_refused(host: bytes) -> None:
    """C3."""
    assert status(b"GET / HTTP/1.1\r\nHost: %b\r\n\r\n" % host) == 400
    assert status(b"GET http://localhost/ HTTP/1.1\r\nHost: %b\r\n\r\n" % host) == 400


def test_codings_of_http_1_0_are_refused() -> None:
    """C32."""
    assert status(head(b"Transfer-Encoding: chunked", first=b"POST / HTTP/1.0")) == 400


# --- bounds ---


def test_the_target_is_bounded() -> None:
    """C9."""
    longest = b"GET /%b HTTP/1.1" % (b"a" * (LIMITS.target - 1))

    assert len(parse(head(first=longest)).target) == LIMITS.target
    assert status(head(first=longest.replace(b"/a", b"/aa"))) == 414
    assert told_early(longest + b"\r\n") is None
    assert told_early(b"GET /" + b"a" * (LIMITS.target + 30)) == 414


@pytest.mark.parametrize("name", [b"X", b"Host", b"Connection", b"content_type", b"TE"])
def test_a_field_line_is_bounded_whatever_its_name(name: bytes) -> None:
    """C9: fields of this hop, and those that are dropped, too."""
    room = 8192 - len(name) - 4

    assert status(head(name + b": " + b"a" * room)) == 431
    assert status(head(name + b": " + b" " * (room - 1) + b"a")) == 431
    if name != b"Host":
        parse(head(name + b": " + b"a" * (room - 1)))


@pytest.mark.parametrize("name", [b"X", b"TE", b"content_type"])
def test_the_number_of_fields_is_bounded_whatever_their_names(name: bytes) -> None:
    """C9."""
    parse(head(*[name + b": a"] * (LIMITS.fields - 1)))

    assert status(head(*[name + b": a"] * LIMITS.fields)) == 431


def test_the_head_is_bounded_whole_and_unfinished() -> None:
    limits = RequestLimits(head=1000, fields=128, target=500, body=0)
    fitting = head(b"X: " + b"a" * (1000 - len(head(b"X: "))))

    parse(fitting, limits)
    assert status(fitting.replace(b"X: ", b"X: a"), limits) == 431
    assert told_early(fitting[:-4] + b"aaaaa", limits) == 431


# --- any bytes ---

TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
# RFC 9112 §3 and §5, RFC 9110 §5.5, written down anew.
GRAMMAR = re.compile(
    rb"(?:" + b"|".join(METHODS) + rb") "
    rb"(?:/[!-\"$-\[\]-~]*|https?://[0-9A-Za-z.\[\]:_-]+(?:[/?][!-\"$-\[\]-~]*)?|\*) "
    rb"HTTP/1\.[01]\r\n"
    rb"(?:" + TOKEN + rb":[\t\x20-\x7e\x80-\xff]*\r\n)*"
    rb"\r\n",
    re.IGNORECASE,
)


# It has seen whatever was checked before.
SEASONED = fresh()


def values(data: bytes, name: bytes) -> list[bytes]:
    found = re.findall(rb"(?im)^" + name + rb":[ \t]*([^\r]*?)[ \t]*\r$", data)
    return [bytes(value) for value in found]


def check(data: bytes) -> None:
    """Whatever is accepted satisfies an independent reading of the RFC."""
    # A head ends at its first empty line; whoever has the bytes cuts there.
    before, end, _ = data.partition(b"\r\n\r\n")
    data = before + end
    try:
        request = fresh().parse(data)
    except DownstreamError:
        return
    if not end:
        return
    assert outcome(SEASONED, data) == told(request)
    assert GRAMMAR.fullmatch(data)
    assert data.startswith(tuple(METHODS))
    lengths, codings = values(data, b"content-length"), values(data, b"transfer-encoding")
    assert len(lengths) + len(codings) <= 1
    assert all(re.fullmatch(rb"[0-9]+", value) and int(value) == request.length for value in lengths)
    assert [value.lower() for value in codings] == [b"chunked"] * request.fields.chunked
    assert len(values(data, b"host")) == 1 or (request.fields.old and not values(data, b"host"))
    assert request.target.startswith(b"/") or (request.method, request.target) == (b"OPTIONS", b"*")
    lines = data.split(b"\r\n")
    crossing = request.fields.block.split(b"\r\n")[:-1]
    names = {line.partition(b":")[0].lower() for line in crossing}
    assert not names & {b"host", b"content-length", b"transfer-encoding", b"connection"}
    assert [line for line in lines if line in crossing] == crossing


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_a_head_or_a_downstream_error(data: bytes) -> None:
    check(data)
    check(data + b"\r\n\r\n")


ATOMS = st.sampled_from(
    [
        *(
            b"GET",
            b"POST",
            b"OPTIONS",
            b"TRACE",
            b" ",
            b"  ",
            b"/",
            b"/v2/x",
            b"*",
            b"http://localhost/",
            b"HTTP/1.1",
        ),
        *(b"HTTP/1.0", b"HTTP/2.0", b"\r\n", b"\n", b"\r", b"\t", b"\0", b"\xff", b":", b": ", b",", b";", b"#"),
        *(b"Host: localhost\r\n", b"Host:", b"Content-Length", b"Content-Length: 5\r\n", b"5", b"chunked", b"gzip"),
        *(
            b"Transfer-Encoding",
            b"Transfer-Encoding: chunked\r\n",
            b"Connection: close\r\n",
            b"X-A: b\r\n",
            b"Upgrade: h2c",
        ),
    ]
)


@settings(deadline=None, max_examples=300)
@given(st.lists(ATOMS, max_size=12), st.booleans())
def test_heads_of_likely_pieces_are_valid_or_a_downstream_error(atoms: list[bytes], begun: bool) -> None:
    start = b"POST / HTTP/1.1\r\nHost: localhost\r\n" if begun else b""
    check(start + b"".join(atoms) + b"\r\n\r\n")


GOOD = head(b"X-A: b", b"Content-Length: 5", b"Connection: keep-alive", first=b"POST /v2/x?y=%20z HTTP/1.1")


@settings(deadline=None, max_examples=300)
@given(st.integers(0, len(GOOD) - 1), st.binary(max_size=3), st.integers(0, 3))
def test_a_damaged_head_is_valid_or_a_downstream_error(position: int, damage: bytes, cut: int) -> None:
    check(GOOD[:position] + damage + GOOD[position + cut :])


def test_no_piece_of_a_valid_head_is_refused() -> None:
    for cut in range(len(GOOD)):
        assert told_early(GOOD[:cut]) is None


# --- what was seen ---

# Of a limit each: what passes the one parser by on its first look must not pass it by on the second.
TIGHT = RequestLimits(head=300, fields=8, target=64, body=1000)


def seasoned(*seen: bytes, limits: RequestLimits = LIMITS) -> RequestParser:
    """A parser that has parsed these heads."""
    parser = fresh(limits)
    for data in seen:
        parser.parse(data)
    return parser


def test_a_head_that_differs_in_request_line_and_length_needs_no_second_look() -> None:
    parser = fresh()
    one = parser.parse(head(b"X: y", b"Content-Length: 5"))
    other = parser.parse(head(b"X: y", b"Content-Length: 70", first=b"PUT /v2/y?z HTTP/1.1"))

    assert other.fields is one.fields
    assert (one.method, one.target, one.length) == (b"POST", b"/v2/x", 5)
    assert (other.method, other.target, other.length) == (b"PUT", b"/v2/y?z", 70)


METHOD = st.sampled_from([*sorted(METHODS), b"TRACE", b"CONNECT", b"BREW", b"get", b"Post", b"PRI", b"SOURCE", b""])
TARGET = st.one_of(
    st.sampled_from(
        [
            *(b"/", b"/v2/x", b"/v2/x?y=%20z", b"//a", b"/a#b", b"/a\\b", b"/\xc3\xa4", b"/\x7f", b"/\x01", b"/a\tb"),
            *(b"*", b"", b"v2", b"http://localhost/", b"http://other:80/x", b"HTTP://u@h/", b"localhost:443", b"?x"),
            *(b"/" + b"a" * 63, b"/" + b"a" * 64, b"/ x", b'/"<>^`{|}', b"/[]"),
        ]
    ),
    st.binary(max_size=4).map(lambda some: b"/" + some),
)
VERSION = st.sampled_from([*[b"HTTP/1.1"] * 6, b"HTTP/1.0", b"HTTP/1.2", b"HTTP/2.0", b"http/1.1", b"HTTP/1.1 ", b""])
FIRST = st.tuples(METHOD, TARGET, VERSION).map(b" ".join)
LENGTH_NAME = st.sampled_from(
    [*[b"Content-Length: "] * 4, b"content-length: ", b"CONTENT-LENGTH: ", b"Content-Length:", b"Content-Length:\t"]
)
LENGTH_VALUE = st.sampled_from(
    [
        *(b"0", b"5", b"7", b"42", b"1000", b"1001", b"1048576", b"1048577", b"005", b"5 ", b" 5", b"5\t"),
        *(
            b"",
            b" ",
            b"+1",
            b"-1",
            b"1_0",
            b"0x5",
            b"1e1",
            b"5,5",
            b"5, 5",
            b"5 5",
            b"\xb2",
            b"\xd9\xa1",
            b"5\n",
            b"5\r",
        ),
        *(b"9" * 17, b"9" * 18, b"9" * 19, b"9" * 20, b"0" * 17 + b"5", b"0" * 18 + b"5", b"0" * 30 + b"5"),
        *(b"18446744073709551615", b"18446744073709551621", b"5\r\nX: y", b"5\r\nContent-Length: 5"),
    ]
)
LENGTH = st.tuples(LENGTH_NAME, LENGTH_VALUE).map(b"".join)
OTHER = st.sampled_from(
    [
        *(b"X: y", b"x: y", b"X: Content-Length: 9", b"Content_Length: 9", b"X-Content-Length: 9", b"Accept: */*"),
        *(b"Connection: close", b"Connection: X, content-length", b"Connection: keep-alive", b"Upgrade: h2c"),
        *(b"Upgrade: websocket", b"Expect: 100-continue", b"Expect: other", b"Host: other", b"Max-Forwards: 0"),
        *(b"Transfer-Encoding: chunked", b"transfer-encoding: chunked", b"Transfer-Encoding: gzip", b"X : y", b" y"),
        *(b"Idempotency-Key: a", b"Authorization: b", b"Via: 1.1 c", b"Z: " + b"z" * 150),
    ]
)
LINES = st.lists(LENGTH | OTHER, max_size=3)
HEAD = st.tuples(FIRST, LINES).map(lambda parts: head(*parts[1], first=parts[0]))


@pytest.mark.parametrize("limits", [LIMITS, TIGHT], ids=["default", "tight"])
@pytest.mark.parametrize("table", [plain_table, request_table])
@settings(deadline=None, max_examples=300)
@given(data=st.data())
def test_any_head_is_the_same_to_a_parser_that_has_seen_others(
    table: object, limits: RequestLimits, data: st.DataObject
) -> None:
    assert callable(table)
    parser = RequestParser(limits, table())
    # Few fields and many first lines and lengths, so that most heads meet one that was seen.
    others = data.draw(st.lists(OTHER, max_size=1))
    for _ in range(6):
        lines = [*others, *data.draw(st.lists(LENGTH, max_size=2))]
        one = head(*lines, first=data.draw(FIRST))
        unseen = outcome(RequestParser(limits, table()), one)

        assert outcome(parser, one) == unseen
        assert outcome(parser, one) == unseen


@settings(deadline=None, max_examples=300)
@given(st.lists(HEAD, max_size=5))
def test_a_head_says_the_same_each_time_whatever_came_between(some: list[bytes]) -> None:
    parser = fresh(TIGHT)

    for one in [*some, *some]:
        assert outcome(parser, one) == outcome(fresh(TIGHT), one)


@pytest.mark.parametrize(("first", "expected"), BAD_FIRST.values(), ids=BAD_FIRST)
@pytest.mark.parametrize("lines", [[], [b"Content-Length: 5"], [b"content-length: 5"]], ids=["none", "usual", "lower"])
def test_a_bad_request_line_is_refused_before_fields_that_were_seen(
    lines: list[bytes], first: bytes, expected: int
) -> None:
    """C4 to C11."""
    parser = seasoned(head(*lines), head(*lines))

    for _ in range(2):
        with pytest.raises(DownstreamError) as caught:
            parser.parse(head(*lines, first=first))
        assert caught.value.status == expected


@pytest.mark.parametrize("method", sorted(METHODS))
def test_every_byte_of_a_target_is_judged_as_if_its_fields_were_new(method: bytes) -> None:
    """C8."""
    parser = seasoned(head())

    for byte in range(256):
        for target in (b"/%c", b"%c", b"/a%cb", b"/a?%c"):
            one = head(first=b"%b %b HTTP/1.1" % (method, target % byte))
            assert outcome(parser, one) == outcome(fresh(), one), one


@pytest.mark.parametrize(("line", "expected"), BAD_LINES.values(), ids=BAD_LINES)
def test_a_bad_field_line_is_refused_after_good_ones_were_seen(line: bytes, expected: int) -> None:
    good = [[], [b"Content-Length: 5"], [b"content-length: 5"], [b"Transfer-Encoding: chunked"], [b"X: a", b"Y: b"]]
    parser = seasoned(*[head(*lines) for lines in good])

    for _ in range(2):
        with pytest.raises(DownstreamError) as caught:
            parser.parse(head(line))
        assert caught.value.status == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        *[(value, 400) for value in (b"", b" ", b"\t", b"+1", b"-1", b"1_0", b"0x1", b"1e1", b"1,1", b"1 1", b"\xb2")],
        *[(value, 400) for value in (b"\xd9\xa1", b"1\n", b"1\r", b"1\0", b"9" * 20, b"18446744073709551616")],
        *[(value, 413) for value in (b"1048577", b"9" * 18, b"9" * 19, b"0001048577")],
    ],
)
@pytest.mark.parametrize("name", [b"Content-Length: ", b"Content-Length:", b"content-length: ", b"CONTENT-LENGTH:\t"])
def test_a_bad_length_is_refused_after_good_ones_were_seen(name: bytes, value: bytes, expected: int) -> None:
    """C29, C38."""
    good = [head(name + b"5", b"X: y"), head(b"Content-Length: 1048576", b"X: y"), head(b"X: y")]
    parser = seasoned(*good, *good)

    for _ in range(2):
        with pytest.raises(DownstreamError) as caught:
            parser.parse(head(name + value, b"X: y"))
        assert caught.value.status == expected
    assert parser.parse(good[0]).length == 5


@pytest.mark.parametrize(
    "line",
    [
        b"content-length: %d",
        b"Content-length: %d",
        b"Content-Length:%d",
        b"Content-Length:\t%d",
        b"Content-Length: %d ",
    ],
)
def test_a_length_counts_each_time_however_it_is_spelled(line: bytes) -> None:
    parser = fresh()

    for length in (5, 5, 7, 7, 5, 0, 5):
        assert parser.parse(head(line % length)).length == length


@pytest.mark.parametrize("first", [b"Content-Length: 5", b"content-length: 5", b"Content-Length:5"])
@pytest.mark.parametrize(
    "second", [b"Content-Length: 5", b"content-length: 5", b"Content-Length: 6", b"Content-Length: "]
)
def test_two_lengths_are_refused_after_each_was_seen(first: bytes, second: bytes) -> None:
    """C29."""
    parser = seasoned(head(first), head(b"Content-Length: 6"), head(b"X: y", first), head(first, b"X: y"))

    for lines in ((first, second), (second, first), (first, b"X: y", second)):
        with pytest.raises(DownstreamError) as caught:
            parser.parse(head(*lines))
        assert caught.value.status == 400


def test_a_length_and_a_coding_are_refused_after_each_was_seen() -> None:
    """C28."""
    length, coding = b"Content-Length: 5", b"Transfer-Encoding: chunked"
    parser = seasoned(head(length), head(coding), head(length), head(coding))

    for lines in ((length, coding), (coding, length), (coding, b"Content-Length: 0"), (coding, b"Content-Length: ")):
        with pytest.raises(DownstreamError) as caught:
            parser.parse(head(*lines))
        assert caught.value.status == 400
    assert parser.parse(head(coding)).fields.chunked


def test_a_caller_of_the_older_version_is_one_after_its_fields_were_seen() -> None:
    """C12."""
    parser = seasoned(head(), head())

    for version, old in ((b"0", True), (b"1", False), (b"0", True), (b"1", False)):
        request = parser.parse(head(first=b"GET / HTTP/1." + version))
        assert (request.fields.old, request.fields.closes) == (old, old)


def test_an_absolute_target_leaves_fields_that_were_seen_alone() -> None:
    """C4, C5: its authority is that of one request."""
    parser = seasoned(head(), head())

    assert parser.parse(head(first=b"GET http://other/ HTTP/1.1")).fields.host == b"other"
    assert parser.parse(head()).fields.host == b"localhost"
    assert parser.parse(head(first=b"GET http://third/ HTTP/1.1")).fields.host == b"third"
    assert parser.parse(head()).fields.host == b"localhost"


def test_a_head_is_bounded_after_its_fields_were_seen() -> None:
    """C9: target and length make it larger."""
    limits = RequestLimits(head=1000, fields=128, target=900, body=0)
    line = b"X: " + b"a" * 600
    parser = seasoned(head(line), head(line), limits=limits)
    room = 1000 - len(head(line, first=b"GET / HTTP/1.1"))

    assert parser.parse(head(line, first=b"GET /%b HTTP/1.1" % (b"a" * room)))
    for target, expected in ((b"a" * (room + 1), 431), (b"a" * 900, 414)):
        with pytest.raises(DownstreamError) as caught:
            parser.parse(head(line, first=b"GET /%b HTTP/1.1" % target))
        assert caught.value.status == expected


CANARY = b"cafe0123456789abcdef"


@pytest.mark.parametrize(
    "name",
    [
        *(b"Authorization", b"AUTHORIZATION", b"Proxy-Authorization", b"X-Authorization-2", b"x_authorization"),
        *(b"Cookie", b"Cookie2", b"X-API-Key", b"api_key", b"Api.Key", b"X-Key1-Id", b"Idempotency-Key", b"apikey"),
        *(b"X-Auth-Token", b"X-Auth2-Token", b"token", b"X_TOKEN_1", b"X-Amz-Security-Token", b"X-Csrf!Token"),
        *(b"X-Auth", b"X-Client-Secret", b"Password", b"X-Session-Id", b"X-Credential"),
    ],
)
@pytest.mark.parametrize("table", [plain_table, request_table])
def test_a_secret_is_not_remembered(table: object, name: bytes) -> None:
    assert callable(table)
    kept = table()
    parser = RequestParser(LIMITS, kept)

    for lines in ([name + b": " + CANARY], [b"X: y", name + b":" + CANARY, b"Content-Length: 5"]):
        parser.parse(head(*lines))
        parser.parse(head(*lines))

    assert parser._seen == {}
    assert CANARY not in repr(vars(kept)).encode()


def test_what_is_seen_is_bounded() -> None:
    """Invariant 9."""
    parser = fresh()

    for number in range(3 * heads._REMEMBERED_HEADS):
        parser.parse(head(b"X-%d: y" % number))
        assert len(parser._seen) <= heads._REMEMBERED_HEADS
    seen = dict(parser._seen)
    parser.parse(head(b"X: " + b"a" * heads._LONGEST_SEEN))

    assert parser._seen == seen
    assert parser.parse(head(b"X-0: y")).fields.block == b"X-0: y\r\n"


@pytest.mark.parametrize(
    "first", [b"GET / HTTP/1.0", b"GET http://localhost/ HTTP/1.1", b"OPTIONS * HTTP/1.1", b"GET /# HTTP/1.1"]
)
def test_unusual_heads_and_refused_ones_are_not_remembered(first: bytes) -> None:
    parser = fresh()

    outcome(parser, head(first=first))
    outcome(parser, head(b"Transfer-Encoding: chunked"))

    assert parser._seen == {}


# --- replies that were seen ---


def reply_head(*lines: bytes, first: bytes = b"HTTP/1.1 200 OK") -> bytes:
    return b"\r\n".join((first, *lines, b"", b""))


def reply_parser() -> ReplyParser:
    return ReplyParser(reply_table(allow_browsers=False))


def told_by_reply(reply: ReplyHead) -> tuple[object, ...]:
    fields = reply.fields
    return (
        *(reply.status, reply.length, reply.interim),
        *(fields.block, fields.dated, fields.chunked, fields.keeps, fields.keep_alive),
    )


def reply_outcome(parser: ReplyParser, data: bytes) -> tuple[object, ...]:
    try:
        return told_by_reply(parser.parse(data))
    except BadReply as error:
        return type(error), error.details, error.sent


REPLY_FIRST = st.sampled_from(
    [
        *(
            b"HTTP/1.1 200 OK",
            b"HTTP/1.1 200 ",
            b"HTTP/1.1 200",
            b"HTTP/1.1 201 OK",
            b"HTTP/1.1 204 OK",
            b"HTTP/1.1 304 OK",
        ),
        *(b"HTTP/1.0 200 OK", b"HTTP/1.1 100 Continue", b"HTTP/1.1 101 Switch", b"HTTP/1.1 500 O", b"HTTP/1.1 600 O"),
        *(b"HTTP/2.0 200 OK", b"HTTP/1.1  200 OK", b"HTTP/1.1 20 OK", b"http/1.1 200 OK", b"HTTP/1.1 200 \x00", b""),
    ]
)
REPLY_OTHER = st.sampled_from(
    [
        *(
            b"X: y",
            b"Date: Tue, 15 Nov 1994 08:12:31 GMT",
            b"date: x",
            b"X-Date: x",
            b"Connection: close",
            b"Server: s",
        ),
        *(b"Connection: keep-alive", b"Connection: date", b"Keep-Alive: timeout=5", b"Keep-Alive: timeout=50"),
        *(b"Transfer-Encoding: chunked", b"Transfer-Encoding: gzip", b"Upgrade: h2c", b"Set-Cookie: a=b", b"X : y"),
        *(b" y", b"Access-Control-Allow-Origin: *", b"Trailer: X", b"X: a\nb", b"X: a\rb"),
    ]
)


@settings(deadline=None, max_examples=500)
@given(st.data())
def test_any_head_of_a_reply_is_the_same_to_a_parser_that_has_seen_others(data: st.DataObject) -> None:
    parser = reply_parser()
    others = data.draw(st.lists(REPLY_OTHER, max_size=1))
    firsts = data.draw(st.lists(REPLY_FIRST, min_size=1, max_size=2))
    for _ in range(6):
        lines = [*others, *data.draw(st.lists(LENGTH, max_size=2))]
        one = reply_head(*lines, first=data.draw(st.sampled_from(firsts)))
        unseen = reply_outcome(reply_parser(), one)

        assert reply_outcome(parser, one) == unseen
        assert reply_outcome(parser, one) == unseen


@settings(deadline=None, max_examples=300)
@given(st.lists(st.tuples(REPLY_FIRST, st.lists(LENGTH | REPLY_OTHER, max_size=3)), max_size=5))
def test_a_reply_says_the_same_each_time_whatever_came_between(some: list[tuple[bytes, list[bytes]]]) -> None:
    parser = reply_parser()

    for first, lines in [*some, *some]:
        one = reply_head(*lines, first=first)
        assert reply_outcome(parser, one) == reply_outcome(reply_parser(), one)


def test_replies_with_equal_fields_are_not_confused() -> None:
    """Status, version, `Date` and `Connection` are each their own."""
    parser = reply_parser()
    variants = [
        (
            reply_head(*lines, b"Content-Length: 5", first=b"HTTP/1.%d %d OK" % (minor, code)),
            code,
            dated,
            keeps and minor,
        )
        for code in (200, 201, 404, 503)
        for minor in (0, 1)
        for lines, dated, keeps in (
            ([], False, True),
            ([b"Date: x"], True, True),
            ([b"Connection: close"], False, False),
            ([b"Date: x", b"Connection: close"], True, False),
            ([b"Connection: date", b"Date: x"], False, True),
        )
    ]

    for _ in range(2):
        for data, code, dated, keeps in variants:
            reply = parser.parse(data)
            assert (reply.status, reply.fields.dated, reply.fields.keeps) == (code, dated, bool(keeps))


def test_a_reply_that_differs_in_length_needs_no_second_look() -> None:
    parser = reply_parser()
    one = parser.parse(reply_head(b"X: y", b"Content-Length: 5"))
    other = parser.parse(reply_head(b"X: y", b"Content-Length: 70"))

    assert other.fields is one.fields
    assert (one.length, other.length) == (5, 70)


@pytest.mark.parametrize("name", [b"Content-Length: ", b"Content-Length:", b"content-length: "])
@pytest.mark.parametrize(
    "value", [b"", b"+1", b"-1", b"1_0", b"0x1", b"1,1", b"1 1", b"\xb2", b"1\r", b"1\n", b"9" * 20]
)
def test_a_bad_length_of_a_reply_is_refused_after_good_ones_were_seen(name: bytes, value: bytes) -> None:
    """C45, C46."""
    parser = reply_parser()
    for good in (reply_head(b"Content-Length: 5"), reply_head(name + b"5"), reply_head()):
        parser.parse(good)

    for _ in range(2):
        with pytest.raises(BadReply):
            parser.parse(reply_head(name + value))
    with pytest.raises(BadReply):
        parser.parse(reply_head(name + b"5", b"Content-Length: 5"))
    with pytest.raises(BadReply):
        parser.parse(reply_head(name + b"5", b"Transfer-Encoding: chunked"))


@pytest.mark.parametrize(
    "line", [b"Content-Length:  %d", b"Content-Length: %d ", b"Content-Length: %019d", b"content-length:%d"]
)
def test_a_length_of_a_reply_counts_each_time_however_it_is_spelled(line: bytes) -> None:
    parser = reply_parser()

    for length in (5, 5, 7, 5, 0):
        assert parser.parse(reply_head(line % length)).length == length


@pytest.mark.parametrize("line", [b"Set-Cookie: " + CANARY, b"X-Api_Key2: " + CANARY, b"X-Access-Token: " + CANARY])
def test_a_secret_in_a_reply_is_not_remembered(line: bytes) -> None:
    parser = reply_parser()

    parser.parse(reply_head(line))
    parser.parse(reply_head(b"X: y", line, b"Content-Length: 5"))

    assert parser._seen == {}


def test_what_is_seen_of_replies_is_bounded() -> None:
    """Invariant 9."""
    parser = reply_parser()

    for number in range(3 * heads._REMEMBERED_HEADS):
        parser.parse(reply_head(b"Date: %d" % number))
        assert len(parser._seen) <= heads._REMEMBERED_HEADS
    seen = dict(parser._seen)
    parser.parse(reply_head(b"X: " + b"a" * heads._LONGEST_SEEN))

    assert parser._seen == seen
