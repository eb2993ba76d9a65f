"""Header blocks: ours are read by others as they were meant, others' are read or refused, and nothing panics."""

import hpack
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from proxy.wire.h2frames import Code, Violation
from proxy.wire.hpack import MOST_FIELDS, MOST_LIST, Decoder, indexed_name, literal_name, string, walk

TEXT = st.binary(max_size=300)


def others() -> hpack.Decoder:
    return hpack.Decoder(max_header_list_size=1 << 20)


def encoded(*fields: tuple[bytes, bytes]) -> bytes:
    return bytes(hpack.Encoder().encode(fields))


def expected(block: bytes, otherwise: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """Decode as others do, but for the bits that fill the last octet of a Huffman code: our library ignores them."""
    try:
        return [tuple(field) for field in others().decode(block, raw=True)]  # type: ignore[misc]
    except hpack.HPACKDecodingError as error:
        if "Huffman" in str(error):
            return otherwise
        raise


def violation(block: bytes) -> Code:
    with pytest.raises(Violation) as caught:
        Decoder().decode(block)
    return caught.value.code


# --- ours ---


@given(TEXT.filter(bool), TEXT, st.booleans())
@example(b"x" * 126, b"y" * 127, False)
@example(b"x" * 127, b"y" * 128, True)
@example(b"x", b"y" * 100_000, True)
def test_a_literal_is_read_as_it_was_meant(name: bytes, value: bytes, secret: bool) -> None:
    [field] = others().decode(literal_name(name, secret=secret) + string(value), raw=True)

    assert tuple(field) == (name, value)
    assert field.indexable is not secret


@given(st.integers(1, 61), TEXT, st.booleans())
@example(14, b"", True)
@example(15, b"", True)
@example(16, b"", False)
def test_a_name_of_the_static_table_is_read_as_it_was_meant(index: int, value: bytes, secret: bool) -> None:
    decoder = others()
    [named] = decoder.decode(bytes((0x80 | index,)), raw=True)

    [field] = decoder.decode(indexed_name(index, secret=secret) + string(value), raw=True)

    assert tuple(field) == (named[0], value)
    assert field.indexable is not secret


def test_nothing_of_ours_enters_a_table() -> None:
    decoder = others()
    decoder.decode(literal_name(b"x-id", secret=False) + string(b"1") + indexed_name(23, secret=True) + string(b"key"))

    assert not decoder.header_table.dynamic_entries


# --- theirs ---


@given(st.lists(st.lists(st.tuples(TEXT.filter(bool), TEXT), max_size=8), max_size=4))
def test_what_another_has_encoded_is_decoded(blocks: list[list[tuple[bytes, bytes]]]) -> None:
    encoder, decoder = hpack.Encoder(), Decoder()

    for fields in blocks:
        block = bytes(encoder.encode(fields))
        assert [(name, value) for name, value, _ in decoder.decode(block)] == fields


@pytest.mark.parametrize("huffman", [False, True])
def test_the_table_is_shared_by_all_blocks(huffman: bool) -> None:
    encoder, decoder = hpack.Encoder(), Decoder()
    first = bytes(encoder.encode([(b"x-cell", b"europe-west1")], huffman=huffman))
    second = bytes(encoder.encode([(b"x-cell", b"europe-west1")], huffman=huffman))

    assert len(second) == 1
    assert decoder.decode(first)[0][:2] == decoder.decode(second)[0][:2] == (b"x-cell", b"europe-west1")


@pytest.mark.parametrize(
    ("block", "code"),
    [
        (b"\x80", Code.COMPRESSION_ERROR),  # index 0
        (b"\xc6", Code.COMPRESSION_ERROR),  # an index beyond the table
        (b"\x40\x01a", Code.COMPRESSION_ERROR),  # no value
        (b"\x40\x05ab", Code.COMPRESSION_ERROR),  # a name cut short
        (b"\x40\x01a\x05ab", Code.COMPRESSION_ERROR),
        (b"\x40", Code.COMPRESSION_ERROR),
        (b"\xff", Code.COMPRESSION_ERROR),
        (b"\xff\x80\x80\x80\x80\x80\x01", Code.COMPRESSION_ERROR),
        (b"\x40\x7f\xff\xff\xff\xff\x0f", Code.COMPRESSION_ERROR),
        (b"\x40\x84\xff\xff\xff\xff\x01a", Code.COMPRESSION_ERROR),  # EOS in a Huffman code
        (b"\x40\x81\xff\x01a", Code.COMPRESSION_ERROR),  # padding of eight bits
        (b"\x3f\xe2\xff\x03", Code.COMPRESSION_ERROR),  # a table larger than is allowed
        (b"\x88\x20", Code.COMPRESSION_ERROR),  # a table resized in the midst
        (b"\x88" * (MOST_FIELDS + 1), Code.ENHANCE_YOUR_CALM),
        (b"\x00\x00\x00" * (MOST_FIELDS + 1), Code.ENHANCE_YOUR_CALM),
        # U29, a bomb: one large field in the table, then named by a byte each.
        (encoded((b"x", b"y" * 4000)) + b"\xbe" * 100, Code.ENHANCE_YOUR_CALM),
    ],
)
def test_a_block_that_cannot_be_is_refused(block: bytes, code: Code) -> None:
    assert violation(block) is code


def test_what_is_large_but_not_too_large_is_taken() -> None:
    block = encoded(*[(b"x-%d" % number, b"y" * 400) for number in range(MOST_FIELDS)])

    assert len(Decoder().decode(block)) == MOST_FIELDS
    assert violation(encoded((b"x", b"y" * MOST_LIST))) is Code.ENHANCE_YOUR_CALM


def test_a_table_may_be_resized_first() -> None:
    assert [field[:2] for field in Decoder().decode(b"\x20\x3f\xe1\x1f\x88")] == [(b":status", b"200")]


@settings(max_examples=2000)
@given(st.binary(max_size=60))
def test_whatever_comes_is_decoded_as_others_do_or_refused(block: bytes) -> None:
    try:
        fields = [field[:2] for field in Decoder().decode(block)]
    except Violation:
        return
    assert fields == expected(block, fields)


@given(st.lists(st.tuples(TEXT.filter(bool), TEXT), min_size=1, max_size=4), st.data())
def test_a_block_that_ends_too_early_is_never_given_to_the_library(
    fields: list[tuple[bytes, bytes]], data: st.DataObject
) -> None:
    whole = encoded(*fields)
    cut = whole[: data.draw(st.integers(0, len(whole) - 1))]

    try:
        walk(cut)
    except Violation:
        return
    # It ends between two fields.
    assert len(list(others().decode(cut, raw=True))) < len(fields)
