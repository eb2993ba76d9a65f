"""Header fields on their way: which cross, which are ours, which are read."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy import fields
from proxy.errors import DownstreamError, LoopDetected
from proxy.messages import Call, Fields, Timeline, joined
from proxy.wire.fieldtable import FieldTable
from proxy.wire.heads import ReplyHead, ReplyParser

TABLE = fields.request_table()


def call(*lines: tuple[bytes, bytes], method: bytes = b"PUT", body: bytes = b"") -> Call:
    crossed, noted, _ = TABLE.sort([name + b": " + value for name, value in lines])
    made = Call(method, b"/v2/x", Fields(joined(crossed), noted), body, Timeline(10.0, 10.5))
    made.request_id = b"ours-1"
    return made


def crossing(*lines: tuple[bytes, bytes]) -> bytes:
    made = call(*lines)
    fields.read(made.fields)
    return made.fields.block


def read(*lines: tuple[bytes, bytes]) -> fields.CallFields:
    return fields.read(call(*lines).fields)


@pytest.mark.parametrize(
    "name",
    [
        *(b"Authorization", b"X-API-Key", b"x_api_key", b"Forwarded", b"X-Forwarded-For", b"X-Forwarded-Host"),
        *(b"x-forwarded-anything", b"X_Forwarded_For", b"X-Forwarded_Host", b"X-Original-URL", b"X_Original_URL"),
        *(b"X-Rewrite-URL", b"Talon-Proxy-Application"),
    ],
)
def test_a_field_that_does_not_cross(name: bytes) -> None:
    """C20, C21, C24, T2."""
    assert crossing((b"X-Before", b"1"), (name, b"secret"), (b"X-After", b"2")) == b"X-Before: 1\r\nX-After: 2\r\n"


def test_unknown_fields_cross_as_they_came_in_their_order() -> None:
    """C22, C27."""
    lines = ((b"Content-Signature", b"signer=a"), (b"x-B", b"\xe4 b"), (b"X-b", b""), (b"Cookie", b"c"))

    assert crossing(*lines) == b"Content-Signature: signer=a\r\nx-B: \xe4 b\r\nX-b: \r\nCookie: c\r\n"


@settings(deadline=None)
@given(st.lists(st.tuples(st.from_regex(rb"[A-Za-z][A-Za-z0-9_-]{0,20}", fullmatch=True), st.binary(max_size=9))))
def test_no_name_however_spelled_brings_a_key_or_a_forged_origin_across(lines: list[tuple[bytes, bytes]]) -> None:
    try:
        crossed = crossing(*lines, (b"aUTHORIZATION", b"secret"), (b"X-FORWARDED-FOR", b"forged"))
    except DownstreamError:
        return

    assert b"secret" not in crossed
    assert b"forged" not in crossed


def test_every_authorization_is_read() -> None:
    found = read((b"Authorization", b"a"), (b"authorization", b"b"))

    assert found.authorization == [b"a", b"b"]


@pytest.mark.parametrize("name", [b"Talon-Proxy-Timeout", b"Talon-Proxy-", b"talon-proxy-foo"])
def test_an_unknown_field_of_ours_is_told(name: bytes) -> None:
    with pytest.raises(DownstreamError) as caught:
        read((name, b"1"))
    assert caught.value.status == 400


@pytest.mark.parametrize("value", [b"1", b"250", b"999999999"])
def test_a_timeout_is_in_milliseconds(value: bytes) -> None:
    assert read((b"Talon-Proxy-Timeout-Ms", value)).timeout == int(value) / 1000


@pytest.mark.parametrize(
    "lines",
    [
        *[[(b"Talon-Proxy-Timeout-Ms", value)] for value in (b"0", b"-1", b"1.5", b"", b"x", b"1000000000", b"1 2")],
        [(b"Talon-Proxy-Timeout-Ms", b"1"), (b"Talon-Proxy-Timeout-Ms", b"1")],
        [(b"Talon-Proxy-Application", b"a"), (b"Talon-Proxy-Application", b"a")],
        [(b"Talon-Proxy-Coalesce", b"yes")],
        [(b"Talon-Proxy-Order", b"")],
    ],
)
def test_what_is_meant_for_us_must_be_right(lines: list[tuple[bytes, bytes]]) -> None:
    with pytest.raises(DownstreamError) as caught:
        read(*lines)
    assert caught.value.status == 400


def test_opting_out_is_taken() -> None:
    assert crossing((b"Talon-Proxy-Coalesce", b"No"), (b"Talon-Proxy-Order", b"no")) == b""


@pytest.mark.parametrize(
    "lines",
    [
        [(b"Idempotency-Key", b"")],
        [(b"Idempotency-Key", b"a" * 256)],
        [(b"Idempotency-Key", b"a\tb")],
        [(b"Idempotency-Key", b"a"), (b"idempotency-key", b"a")],
    ],
    ids=["empty", "long", "control", "repeated"],
)
def test_a_bad_idempotency_key_is_refused(lines: list[tuple[bytes, bytes]]) -> None:
    """K15."""
    with pytest.raises(DownstreamError) as caught:
        read(*lines)
    assert caught.value.parameter == "Idempotency-Key"


def test_an_idempotency_key_is_read_and_crosses_untouched() -> None:
    made = call((b"IDEMPOTENCY-key", b"a" * 255))

    assert fields.read(made.fields).idempotency_key == b"a" * 255
    assert made.fields.block == b"IDEMPOTENCY-key: " + b"a" * 255 + b"\r\n"


@pytest.mark.parametrize("via", [b"1.1 talon-proxy", b"1.0 a, 1.1 Talon-Proxy", b"HTTP/1.1 talon-proxy (x)"])
def test_a_loop_is_seen(via: bytes) -> None:
    """C23."""
    with pytest.raises(LoopDetected) as caught:
        read((b"Via", b"1.1 other"), (b"via", via))
    assert caught.value.status == 508


@pytest.mark.parametrize(
    "via", [b"1.1 other", b"talon-proxy", b"", b",", b"1.1 my-talon-proxy", b"1.1 a (talon-proxy)"]
)
def test_the_via_of_others_crosses(via: bytes) -> None:
    assert crossing((b"Via", via)) == b"Via: %b\r\n" % via


def test_a_request_id_is_kept_and_the_first_counts() -> None:
    found = read((b"X-Request-Id", b""), (b"X-Request-Id", b"a"), (b"X-Request-Id", b"b"))

    assert found.request_id == b"a"


@pytest.mark.parametrize(
    ("method", "body", "length"),
    [
        (b"PUT", b"", b"Content-Length: 0\r\n"),
        (b"POST", b"ab", b"Content-Length: 2\r\n"),
        (b"GET", b"", b""),
        (b"DELETE", b"", b""),
        (b"GET", b"ab", b"Content-Length: 2\r\n"),
    ],
)
def test_framing_is_canonical(method: bytes, body: bytes, length: bytes) -> None:
    """C36, C37."""
    made = call((b"X", b"y"), method=method, body=body)

    sent = fields.outbound(made, fields.read(made.fields))
    assert sent == b"X: y\r\nVia: 1.1 talon-proxy\r\nX-Request-Id: ours-1\r\n" + length


def test_a_request_id_that_was_sent_is_the_only_one() -> None:
    made = call((b"x-request-ID", b"theirs"), method=b"GET")

    assert fields.outbound(made, fields.read(made.fields)) == b"x-request-ID: theirs\r\nVia: 1.1 talon-proxy\r\n"


def answered(table: FieldTable) -> ReplyHead:
    lines = (b"Vary: Origin", b"Access-Control-Allow-Origin: *", b"access-control-max-Age: 5", b"X: y", b"Date: z")
    return ReplyParser(table).parse(b"HTTP/1.1 201 Created\r\nContent-Length: 4\r\n" + joined(lines) + b"\r\n")


def test_web_pages_learn_nothing_from_an_answer() -> None:
    """T15."""
    bare = answered(fields.reply_table(allow_browsers=False))

    assert bare.fields.block == b"Vary: Origin\r\nX: y\r\nDate: z\r\n"
    assert (bare.status, bare.length, bare.fields.dated) == (201, 4, True)


def test_web_pages_learn_what_talon_one_tells_them_where_they_may() -> None:
    told = answered(fields.reply_table(allow_browsers=True))

    assert told.fields.block == (
        b"Vary: Origin\r\nAccess-Control-Allow-Origin: *\r\naccess-control-max-Age: 5\r\nX: y\r\nDate: z\r\n"
    )
    assert (told.status, told.length, told.fields.dated) == (201, 4, True)


def test_an_answer_says_where_the_time_went() -> None:
    made = call()
    made.timeline.upstream = 0.025
    made.timeline.ready = made.timeline.complete + 0.026

    assert fields.timed_lines(made) == (
        b"X-Request-Id: ours-1\r\nServer-Timing: proxy;dur=1.0, lane;dur=0.0, upstream;dur=25.0\r\n"
    )


def test_who_shares_an_answer_is_told() -> None:
    """A20, A24."""
    made = call()
    made.timeline.joined = True

    assert fields.timed_lines(made).endswith(b"\r\nCache-Status: talon-proxy; fwd=bypass; collapsed\r\n")


def test_the_time_in_line_at_gates_and_between_attempts_is_the_lanes_time() -> None:
    made = call()
    made.timeline.lane, made.timeline.gate, made.timeline.backoff = 0.1, 0.02, 0.003
    made.timeline.upstream = 0.5
    made.timeline.ready = made.timeline.complete + 0.624

    assert b"Server-Timing: proxy;dur=1.0, lane;dur=123.0, upstream;dur=500.0\r\n" in fields.timed_lines(made)


# --- what two calls must have in common that share an answer ---


@pytest.mark.parametrize(
    ("sent", "passed"),
    [
        ([b"gzip"], b"gzip"),
        ([b"gzip, deflate, br, zstd"], b"gzip, deflate"),
        ([b"DEFLATE;q=0.5,GZip"], b"gzip, deflate"),
        ([b"identity"], b"identity"),
        ([b"br"], b"identity"),
        ([b""], b"identity"),
        ([b"*"], b"gzip"),
        ([b"br, *;q=0.1"], b"gzip"),
        ([b"*;q=0"], b"identity"),
        ([b"gzip;q=0"], b"identity"),
        ([b"gzip;q=0, *"], b"identity"),
        ([b"gzip; q=0.000 , deflate"], b"deflate"),
        ([b"gzip;q=0.001"], b"gzip"),
        ([b"br", b"deflate", b"gzip"], b"gzip, deflate"),
        ([b"gzip", b"gzip;q=0"], b"identity"),
        ([b"x-gzip, compress"], b"identity"),
    ],
)
def test_what_a_caller_accepts_is_reduced_to_what_we_can_read(sent: list[bytes], passed: bytes) -> None:
    """A5, A25: what is not accepted is never asked for."""
    made = call(*[(b"accept-Encoding", value) for value in sent], method=b"GET")
    found = fields.read(made.fields)

    assert found.accept_encoding == passed
    assert b"ccept-" not in made.fields.block
    assert fields.outbound(made, found).count(b"Accept-Encoding: %b\r\n" % passed) == 1


def test_who_says_nothing_of_what_it_accepts_has_nothing_said_for_it() -> None:
    made = call(method=b"GET")
    found = fields.read(made.fields)

    assert found.accept_encoding is None
    assert b"ccept-" not in fields.outbound(made, found)


@pytest.mark.parametrize(
    "name",
    [
        *(b"Accept", b"Accept-Language", b"Api-Key", b"Content-Signature", b"Content-Type", b"Cookie"),
        *(b"Content-Encoding", b"Idempotency-Key", b"Accept-Encoding"),
    ],
)
def test_a_field_that_changes_the_answer_tells_calls_apart_and_crosses(name: bytes) -> None:
    """A1."""
    assert read((name, b"gzip")).identity != read().identity
    assert read((name, b"gzip")).identity == read((name.lower(), b"gzip"), (b"X-Other", b"y")).identity
    assert name == b"Accept-Encoding" or crossing((name, b"gzip")) == name + b": gzip\r\n"


@pytest.mark.parametrize("name", [b"User-Agent", b"X-Request-Id", b"Traceparent", b"Talon-Proxy-Timeout-Ms", b"Origin"])
def test_a_field_that_does_not_change_the_answer_does_not(name: bytes) -> None:
    assert read((name, b"1")).identity == read().identity


def test_a_value_is_compared_byte_by_byte() -> None:
    assert read((b"Accept", b"a/b, c/d")).identity != read((b"Accept", b"a/b,c/d")).identity
    assert read((b"Cookie", b"a"), (b"Cookie", b"b")).identity != read((b"Cookie", b"b"), (b"Cookie", b"a")).identity
    assert read((b"Cookie", b"a"), (b"Accept", b"b")).identity == read((b"Accept", b"b"), (b"Cookie", b"a")).identity
    assert read((b"Accept", b"Cookie")).identity != read((b"Cookie", b"Accept")).identity


def test_an_encoding_that_changes_nothing_is_none() -> None:
    assert read((b"Content-Encoding", b"Identity")).content_encoding == b""
    assert read((b"Content-Encoding", b"gzip"), (b"Content-Encoding", b"br")).content_encoding == b"gzip,br,"


@pytest.mark.parametrize(
    ("name", "value", "alone"),
    [
        *[
            (name, b"x", True)
            for name in (
                *(b"Range", b"If-Range", b"If-Match", b"If-None-Match"),
                *(b"If-Modified-Since", b"If-Unmodified-Since"),
            )
        ],
        (b"Cache-Control", b"no-cache", True),
        (b"Cache-Control", b"max-age=0 , NO-STORE", True),
        (b"Cache-Control", b"max-age=0", False),
        (b"Cache-Control", b"no-cache-at-all", False),
        (b"Talon-Proxy-Coalesce", b"NO", True),
        (b"Talon-Proxy-Order", b"no", False),
        (b"X-Range", b"x", False),
    ],
)
def test_an_answer_for_this_caller_alone(name: bytes, value: bytes, alone: bool) -> None:
    """A7, A8."""
    assert read((name, value)).alone is alone


def test_only_who_asks_for_no_order_has_none() -> None:
    assert read((b"Talon-Proxy-Order", b"No")).unordered
    assert not read((b"Talon-Proxy-Coalesce", b"no")).unordered


# --- traces ---------------------------------------------------------------------------------------------------

TRACE = b"0af7651916cd43dd8448eb211c80319c"
PARENT = b"b7ad6b7169203331"


@pytest.mark.parametrize(
    ("value", "sampled"),
    [
        (b"00-%b-%b-01" % (TRACE, PARENT), True),
        (b"00-%b-%b-00" % (TRACE, PARENT), False),
        (b"00-%b-%b-03" % (TRACE, PARENT), True),
        (b"cc-%b-%b-01" % (TRACE, PARENT), True),
        (b"cc-%b-%b-01-what-the-future-brings" % (TRACE, PARENT), True),
    ],
)
def test_a_trace_is_read_and_crosses_as_it_came(value: bytes, sampled: bool) -> None:
    lines = ((b"TraceParent", value), (b"tracestate", b"congo=t61rcWkgMzE"), (b"tracestate", b"rojo=00f067aa0ba902b7"))

    trace = read(*lines).trace

    assert trace is not None
    assert (trace.id, trace.parent, trace.sampled) == (TRACE.decode(), PARENT.decode(), sampled)
    assert crossing(*lines) == b"".join(b"%b: %b\r\n" % line for line in lines)


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"00-%b-%b-01-more" % (TRACE, PARENT),
        b"00-%b-%b-01-" % (TRACE, PARENT),
        b"cc-%b-%b-01.more" % (TRACE, PARENT),
        b"ff-%b-%b-01" % (TRACE, PARENT),
        b"00-%b-%b-01" % (TRACE.upper(), PARENT),
        b"00-%b-%b-01" % (b"0" * 32, PARENT),
        b"00-%b-%b-01" % (TRACE, b"0" * 16),
        b"00-%b-%b-1" % (TRACE, PARENT),
        b"00-%b-%b" % (TRACE, PARENT),
        b"00-%b-%b-01, 00-%b-%b-01" % (TRACE, PARENT, TRACE, PARENT),
    ],
)
def test_what_is_no_trace_crosses_all_the_same(value: bytes) -> None:
    assert read((b"traceparent", value)).trace is None
    assert crossing((b"traceparent", value)) == b"traceparent: %b\r\n" % value


def test_two_traces_are_none() -> None:
    one = (b"traceparent", b"00-%b-%b-01" % (TRACE, PARENT))

    assert read(one, one, one).trace is None


def test_a_trace_does_not_keep_calls_from_sharing_an_answer() -> None:
    one, other = read((b"traceparent", b"00-%b-%b-01" % (TRACE, PARENT))), read()

    assert one.identity == other.identity
