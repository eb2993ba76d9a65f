"""Chunked bodies: what goes in comes out, however it is cut; what is malformed is refused, however it is cut."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.wire.chunked import MAX_EXTENSIONS, MAX_TRAILERS, BadChunk, ChunkedDecoder


def decode(*parts: bytes) -> tuple[bytes, int] | None:
    """Feed the parts; the body and how many bytes it took, or None where it is refused or not complete."""
    decoder = ChunkedDecoder()
    pieces: list[bytes] = []
    taken = 0
    try:
        for part in parts:
            taken += decoder.feed(part, 0, pieces)
    except BadChunk:
        return None
    return (b"".join(pieces), taken) if decoder.done else None


def refused(data: bytes) -> bool:
    """Whether the decoder says at once that this can never become a body."""
    try:
        ChunkedDecoder().feed(data, 0, [])
    except BadChunk:
        return True
    return False


def encode(pieces: list[bytes], *, extension: bytes = b"", trailers: bytes = b"", upper: bool = False) -> bytes:
    size = "%X" if upper else "%x"
    chunks = [(size % len(piece)).encode() + extension + b"\r\n" + piece + b"\r\n" for piece in pieces if piece]
    return b"".join((*chunks, b"0", extension, b"\r\n", trailers, b"\r\n"))


BODIES = st.builds(
    encode,
    st.lists(st.binary(min_size=1, max_size=20), max_size=4),
    extension=st.sampled_from([b"", b";", b";a=b", b';a="x y"', b";\xe4"]),
    trailers=st.sampled_from([b"", b"X: y\r\n", b"A:\r\nContent-Length: 5\r\n"]),
    upper=st.booleans(),
)


@settings(deadline=None)
@given(st.lists(st.binary(max_size=20), max_size=4), st.data())
def test_what_is_encoded_comes_back_at_every_split(pieces: list[bytes], data: st.DataObject) -> None:
    wire = encode(pieces)
    expected = (b"".join(pieces), len(wire))
    rest = data.draw(st.binary(max_size=8))

    assert decode(wire + rest) == expected
    for position in range(len(wire) + 1):
        assert decode(wire[:position], wire[position:] + rest) == expected


@settings(deadline=None)
@given(BODIES)
def test_extensions_and_trailers_are_dropped_at_every_split_and_byte_by_byte(wire: bytes) -> None:
    whole = decode(wire)

    assert whole is not None
    for position in range(len(wire) + 1):
        assert decode(wire[:position], wire[position:]) == whole
    assert decode(*(wire[position : position + 1] for position in range(len(wire)))) == whole


@settings(deadline=None)
@given(BODIES, st.data())
def test_a_damaged_body_is_judged_alike_at_every_split(wire: bytes, data: st.DataObject) -> None:
    position = data.draw(st.integers(0, len(wire) - 1))
    damaged = (
        wire[:position] + data.draw(st.sampled_from([b"\r", b"\n", b" ", b"\0", b"x", b""])) + wire[position + 1 :]
    )
    whole = decode(damaged)

    for position in range(len(damaged) + 1):
        assert decode(damaged[:position], damaged[position:]) == whole


STRICT = re.compile(
    rb"(?:0{0,15}[1-9A-Fa-f][0-9A-Fa-f]{0,15}(?:;[^\r\n\0-\x08\x0b-\x1f\x7f]*)?\r\n(?s:.*?)\r\n)*"
    rb"0{1,16}(?:;[^\r\n\0-\x08\x0b-\x1f\x7f]*)?\r\n"
    rb"(?:[!#$%&'*+\-.^_`|~0-9A-Za-z]+:[^\r\n\0-\x08\x0b-\x1f\x7f]*\r\n)*\r\n"
)


@settings(deadline=None)
@given(st.lists(st.sampled_from([b"0", b"1", b"5", b"a", b";", b":", b"\r\n", b"\r", b"\n", b" ", b"x"]), max_size=24))
def test_what_is_accepted_satisfies_the_grammar(parts: list[bytes]) -> None:
    wire = b"".join(parts)
    found = decode(wire)

    if found is not None:
        assert STRICT.fullmatch(wire[: found[1]])


@pytest.mark.parametrize(
    "wire",
    [
        b"+5\r\n",
        b"-5\r\n",
        b"0x5\r\n",
        b"1_0\r\n",
        b" 5\r\n",
        b"5 \r\n",
        b"5 ;a\r\n",
        b"5\t\r\n",
        b"\r\n",
        b";a\r\n",
        b"g\r\n",
        b"5\n",
        b"5;a\n",
        b"5;a\rb\r\n",
        b"5;\0\r\n",
        b"00000000000000005\r\n",
        b"ffffffffffffffff0\r\n",
        b"5\r\nhelloX",
        b"5\r\nhello\n",
        b"5\r\nhello\rX",
        b"5\r\nhel\r\n0\r\n\r\n",
        b"0\r\nno colon\r\n",
        b"0\r\n folded: x\r\n",
        b"0\r\n: empty name\r\n",
        b"0\r\nA : b\r\n",
        b"0\r\nA: \0\r\n",
        b"0\r\nA: b\n",
        b"0\n",
        b"0\r\n\n",
        b"0\r\n\rX",
    ],
    ids=repr,
)
def test_a_malformed_body_is_refused_as_soon_as_it_can_be_told(wire: bytes) -> None:
    """C33."""
    assert refused(wire)
    assert decode(*(wire[position : position + 1] for position in range(len(wire)))) is None


def test_sixteen_digits_are_taken_and_announced_before_the_bytes_come() -> None:
    decoder = ChunkedDecoder()
    decoder.feed(b"7fffffffffffffff\r\n", 0, [])

    assert decoder.announced == 0x7FFFFFFFFFFFFFFF


def test_extensions_are_bounded_over_the_whole_body() -> None:
    half = b"1;" + b"a" * (MAX_EXTENSIONS // 2 - 1) + b"\r\nx\r\n"

    assert decode(half * 2 + b"0\r\n\r\n") is not None
    assert refused(half * 2 + b"0;\r\n")
    assert refused(b"1;" + b"a" * (MAX_EXTENSIONS + 16))


@pytest.mark.parametrize("cut", [0, 1, 20, 5000, -6, -5, -4, -3, -2, -1])
def test_trailers_are_bounded_and_the_longest_may_come_in_pieces(cut: int) -> None:
    longest = b"0\r\nT: " + b"a" * (MAX_TRAILERS - 3) + b"\r\n\r\n"

    assert decode(longest[:cut], longest[cut:]) == (b"", len(longest))
    assert refused(b"0\r\nT: " + b"a" * (MAX_TRAILERS - 2))
    assert refused(b"0\r\n" + b"T: a\r\n" * (MAX_TRAILERS // 4 + 1))


@pytest.mark.parametrize("cut", [-1, -2, -3])
def test_the_longest_extension_may_come_in_pieces(cut: int) -> None:
    longest = b"0000000000000001;" + b"a" * (MAX_EXTENSIONS - 1) + b"\r\n"
    decoder = ChunkedDecoder()
    decoder.feed(longest[:cut], 0, [])
    decoder.feed(longest[cut:], 0, [])

    assert decoder.announced == 1


def test_what_follows_the_body_is_left_alone() -> None:
    decoder = ChunkedDecoder()
    pieces: list[bytes] = []
    data = b"xx1\r\na\r\n0\r\n\r\nGET /"

    assert decoder.feed(data, 2, pieces) == len(data) - 5
    assert decoder.done
    assert pieces == [b"a"]
