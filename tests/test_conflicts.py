"""Conflicts: which 409 is which, told by its text, compressed or not."""

import gzip
import random
import zlib
from collections.abc import Callable

import orjson
import pytest

from proxy.talon.bodies import LONGEST
from proxy.talon.conflicts import Kind, classify

SESSION = b"Too many requests are updating this session at the same time"
PROFILE = b"Too many requests are updating this profile at the same time"


def body(message: bytes) -> bytes:
    return orjson.dumps({"message": message.decode(), "errors": None, "StatusCode": 409})


@pytest.mark.parametrize(
    ("message", "kind"),
    [
        (SESSION, Kind.SESSION),
        (PROFILE, Kind.PROFILE),
        (SESSION.upper(), Kind.SESSION),
        (PROFILE.lower(), Kind.PROFILE),
        (b"Conflict. An Audience with this ID already exists for this integration.", Kind.EXISTS),
        (b"An advanced event already exists", Kind.EXISTS),
        (b"limit reached", Kind.OTHER),
        (b"Too many requests", Kind.OTHER),
        (b"Too many requests are updating this store at the same time", Kind.OTHER),
        (b"Too many requests are updating this ", Kind.OTHER),
        (b"", Kind.OTHER),
    ],
)
def test_the_text_says_what_it_is(message: bytes, kind: Kind) -> None:
    assert classify(b"Content-Type: application/json\r\n", body(message)) is kind
    assert classify(b"", b"\n  " + message) is kind


@pytest.mark.parametrize("kind", Kind)
def test_only_a_full_queue_means_come_again(kind: Kind) -> None:
    assert kind.parallel is (kind in (Kind.SESSION, Kind.PROFILE))


def raw_deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(data) + packer.flush()


CODINGS: list[tuple[bytes, Callable[[bytes], bytes]]] = [
    (b"gzip", gzip.compress),
    (b"GZip", gzip.compress),
    (b"x-gzip", gzip.compress),
    (b"deflate", zlib.compress),
    (b"deflate", raw_deflate),
    (b"identity", bytes),
]


@pytest.mark.parametrize(("coding", "pack"), CODINGS)
@pytest.mark.parametrize(("message", "kind"), [(SESSION, Kind.SESSION), (PROFILE, Kind.PROFILE), (b"x", Kind.OTHER)])
def test_a_compressed_text_is_read(coding: bytes, pack: Callable[[bytes], bytes], message: bytes, kind: Kind) -> None:
    block = b"Content-Type: application/json\r\ncontent-ENCODING:  %b \r\nX: y\r\n" % coding

    assert classify(block, pack(body(message))) is kind


@pytest.mark.parametrize("coding", [b"br", b"zstd", b"gzip, gzip", b"compress", b""])
def test_what_we_cannot_unpack_is_not_taken_for_a_full_queue(coding: bytes) -> None:
    """Even where the bytes happen to say so."""
    assert classify(b"Content-Encoding: %b\r\n" % coding, body(SESSION)) is Kind.OTHER


@pytest.mark.parametrize("coding", [b"gzip", b"deflate"])
@pytest.mark.parametrize("sent", [b"", b"\x1f\x8b", body(SESSION), b"\x00" * 100])
def test_what_is_not_what_it_says_is_no_error(coding: bytes, sent: bytes) -> None:
    assert classify(b"Content-Encoding: %b\r\n" % coding, sent) is Kind.OTHER


def test_a_text_that_is_cut_short_is_read_as_far_as_it_goes() -> None:
    packed = gzip.compress(body(SESSION))

    assert classify(b"Content-Encoding: gzip\r\n", packed[:-8]) is Kind.SESSION


@pytest.mark.parametrize(("before", "kind"), [(LONGEST - 100, Kind.SESSION), (LONGEST, Kind.OTHER)])
def test_so_much_is_read_and_no_more(before: int, kind: Kind) -> None:
    text = b" " * before + SESSION

    assert classify(b"", text) is kind
    assert classify(b"Content-Encoding: gzip\r\n", gzip.compress(text)) is kind
    assert classify(b"Content-Encoding: deflate\r\n", zlib.compress(text)) is kind


def test_so_much_of_the_packed_bytes_is_read_and_no_more() -> None:
    noise = random.Random(1).randbytes(LONGEST + 1000)

    assert classify(b"Content-Encoding: gzip\r\n", gzip.compress(noise + SESSION)) is Kind.OTHER


def test_a_bomb_costs_no_more_than_its_limit() -> None:
    assert classify(b"Content-Encoding: gzip\r\n", gzip.compress(b" " * (16 << 20), 9)) is Kind.OTHER


def test_a_field_that_only_looks_like_the_coding_is_not_it() -> None:
    assert classify(b"X-Content-Encoding: gzip\r\nX: content-encoding: gzip\r\n", body(SESSION)) is Kind.SESSION
