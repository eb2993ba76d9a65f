"""Heads in HTTP/2's spelling: what a request becomes, and which replies are malformed."""

import hpack
import pytest

from proxy.errors import BadReply
from proxy.fields import reply_table
from proxy.messages import Sent
from proxy.wire.h2fields import ReplyHeads, RequestBlocks, check_trailers
from proxy.wire.heads import MAX_REPLY_FIELDS
from proxy.wire.hpack import Field

HEAD = (
    b"PUT /v2/customer_sessions/s1?dry=true HTTP/1.1\r\nHost: shop.talon.one\r\nContent-Type: application/json\r\n"
    b"ACCEPT:text/plain \r\nX-Odd: a\r\nX-Odd:  b\r\nCookie: secret\r\nX-Request-Id: r1\r\nContent-Length: 2\r\n"
    b"Authorization: ApiKey-v1 key\r\n\r\n"
)


def decoded(block: bytes) -> list[tuple[bytes, bytes]]:
    return [tuple(field) for field in hpack.Decoder().decode(block, raw=True)]  # type: ignore[misc]


def fields(*pairs: tuple[bytes, bytes]) -> list[Field]:
    return [(name, value, False) for name, value in pairs]


@pytest.fixture
def heads() -> ReplyHeads:
    return ReplyHeads(reply_table(allow_browsers=False))


# --- requests ---


def test_a_request_is_pseudo_header_fields_then_its_own_in_lower_case_and_in_their_order() -> None:
    assert decoded(RequestBlocks(b"https").encode(HEAD)) == [
        (b":method", b"PUT"),
        (b":scheme", b"https"),
        (b":path", b"/v2/customer_sessions/s1?dry=true"),
        (b":authority", b"shop.talon.one"),
        (b"content-type", b"application/json"),
        (b"accept", b"text/plain"),
        (b"x-odd", b"a"),
        (b"x-odd", b"b"),
        (b"cookie", b"secret"),
        (b"x-request-id", b"r1"),
        (b"content-length", b"2"),
        (b"authorization", b"ApiKey-v1 key"),
    ]


@pytest.mark.parametrize("method", [b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"PATCH", b"OPTIONS"])
@pytest.mark.parametrize("scheme", [b"http", b"https"])
def test_every_method_and_scheme_has_its_spelling(method: bytes, scheme: bytes) -> None:
    blocks = RequestBlocks(scheme)
    head = method + b" / HTTP/1.1\r\nHost: h\r\n\r\n"

    first, second = blocks.encode(head), blocks.encode(head)

    assert first == second
    assert decoded(first)[:2] == [(b":method", method), (b":scheme", scheme)]


def test_a_request_is_encoded_the_same_whatever_was_before() -> None:
    blocks = RequestBlocks(b"https")

    assert blocks.encode(HEAD) == blocks.encode(HEAD) == RequestBlocks(b"https").encode(HEAD)


def test_what_is_secret_or_personal_is_marked_and_not_kept() -> None:
    blocks = RequestBlocks(b"https")
    marked = {bytes(field[0]): not field.indexable for field in hpack.Decoder().decode(blocks.encode(HEAD), raw=True)}

    assert {name for name, secret in marked.items() if not secret} == {
        b":method",
        b":scheme",
        b":authority",
        b"content-type",
        b"accept",
    }
    assert set(blocks._lines) == {b"Host: shop.talon.one", b"Content-Type: application/json", b"ACCEPT:text/plain "}


def test_what_is_remembered_is_bounded() -> None:
    blocks = RequestBlocks(b"https")
    for number in range(5000):
        blocks.encode(b"GET / HTTP/1.1\r\nHost: h\r\nAccept: %d\r\nX-%d: y\r\n\r\n" % (number, number))

    assert len(blocks._lines) == len(blocks._names) == 2048
    assert decoded(blocks.encode(b"GET / HTTP/1.1\r\nHost: h\r\nAccept: new\r\nX-New: y\r\n\r\n"))[-2:] == [
        (b"accept", b"new"),
        (b"x-new", b"y"),
    ]


# --- replies ---


def test_a_reply_is_status_length_and_the_lines_that_cross(heads: ReplyHeads) -> None:
    head = heads.read(
        fields(
            (b":status", b"201"),
            (b"content-length", b"12"),
            (b"date", b"today"),
            (b"x-odd", b"a"),
            (b"x-odd", b""),
            (b"x-request-id", b"theirs"),
            (b"trailer", b"x-sum"),
        )
    )

    assert (head.status, head.length, head.interim) == (201, 12, False)
    assert head.fields.block == b"date: today\r\nx-odd: a\r\nx-odd: \r\n"
    assert head.fields.dated
    assert not head.fields.chunked


def test_replies_that_differ_in_their_length_share_what_was_read(heads: ReplyHeads) -> None:
    first = heads.read(fields((b":status", b"200"), (b"content-length", b"1"), (b"server", b"s")))
    second = heads.read(fields((b":status", b"200"), (b"content-length", b"2"), (b"server", b"s")))
    third = heads.read(fields((b":status", b"200"), (b"server", b"s")))

    assert first.fields is second.fields is third.fields
    assert (first.length, second.length, third.length) == (1, 2, None)


def test_replies_that_tell_of_a_person_are_not_remembered(heads: ReplyHeads) -> None:
    heads.read(fields((b":status", b"200"), (b"set-cookie", b"session=1")))

    assert not heads._seen


@pytest.mark.parametrize(
    "wrong",
    [
        [],
        [(b"server", b"s")],
        [(b"server", b"s"), (b":status", b"200")],
        [(b"content-length", b"1"), (b":status", b"200")],
        [(b":status", b"200"), (b":status", b"200")],
        [(b":status", b"200"), (b"a", b"b"), (b":status", b"200")],
        [(b":status", b"200"), (b":path", b"/")],
        [(b":status", b"20")],
        [(b":status", b"2000")],
        [(b":status", b"600")],
        [(b":status", b"099")],
        [(b":status", b"+20")],
        [(b":status", b"101")],
        [(b":status", b"200"), (b"Server", b"s")],
        [(b":status", b"200"), (b"", b"s")],
        [(b":status", b"200"), (b"a b", b"s")],
        [(b":status", b"200"), (b"a:", b"s")],
        [(b":status", b"200"), (b"a\r\n", b"s")],
        [(b":status", b"200"), (b"a\x80", b"s")],
        [(b":status", b"200"), (b"a", b"x\r\nSet-Cookie: y")],
        [(b":status", b"200"), (b"a", b"x\ny")],
        [(b":status", b"200"), (b"a", b"x\0y")],
        [(b":status", b"200"), (b"a", b"\x7f")],
        [(b":status", b"200"), (b"a", b" x")],
        [(b":status", b"200"), (b"a", b"x\t")],
        [(b":status", b"200"), (b"connection", b"close")],
        [(b":status", b"200"), (b"keep-alive", b"timeout=5")],
        [(b":status", b"200"), (b"proxy-connection", b"close")],
        [(b":status", b"200"), (b"te", b"trailers")],
        [(b":status", b"200"), (b"transfer-encoding", b"chunked")],
        [(b":status", b"200"), (b"upgrade", b"h2c")],
        [(b":status", b"200"), (b"content-length", b"1"), (b"content-length", b"1")],
        [(b":status", b"200"), (b"content-length", b"")],
        [(b":status", b"200"), (b"content-length", b"-1")],
        [(b":status", b"200"), (b"content-length", b"1, 1")],
        [(b":status", b"200"), (b"content-length", b"9" * 19)],
        [(b":status", b"200"), *[(b"x-%d" % number, b"y") for number in range(MAX_REPLY_FIELDS)]],
    ],
)
def test_a_malformed_reply_is_refused_each_time(heads: ReplyHeads, wrong: list[tuple[bytes, bytes]]) -> None:
    for _ in range(2):
        with pytest.raises(BadReply) as caught:
            heads.read(fields(*wrong))
        assert caught.value.sent is Sent.MAYBE


def test_as_many_fields_as_in_http_1_1_are_taken(heads: ReplyHeads) -> None:
    many = [(b"x-%d" % number, b"y") for number in range(MAX_REPLY_FIELDS - 1)]

    assert heads.read(fields((b":status", b"200"), *many)).status == 200


@pytest.mark.parametrize("wrong", [(b":status", b"200"), (b"Upper", b"x"), (b"a", b"x\n"), (b"connection", b"close")])
def test_trailers_are_checked_before_they_are_dropped(wrong: tuple[bytes, bytes]) -> None:
    check_trailers(fields((b"x-sum", b"1")))

    with pytest.raises(BadReply):
        check_trailers(fields((b"x-sum", b"1"), wrong))
