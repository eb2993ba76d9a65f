"""Frames, byte by byte (RFC 9113 §4, §6): what is read, what is refused, what is written."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.wire import h2frames
from proxy.wire.h2frames import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    LEAST_FRAME,
    MOST_BLOCK,
    MOST_CONTINUATIONS,
    PADDED,
    PING,
    PRIORITY,
    PUSH_PROMISE,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    WITH_PRIORITY,
    Code,
    Frame,
    FrameReader,
    Violation,
    render,
)

HELLO = render(SETTINGS, 0, 0)


def reader() -> FrameReader:
    """One that has been greeted."""
    found = FrameReader()
    found.feed(HELLO)
    assert found.next() is not None
    return found


def read(data: bytes, *, size: int | None = None) -> list[Frame]:
    """Read all there is, fed in pieces of a size."""
    frames, found = reader(), []
    for at in range(0, len(data), size or max(len(data), 1)):
        frames.feed(data[at : at + (size or len(data))])
        while (frame := frames.next()) is not None:
            found.append(frame)
    return found


def violation(data: bytes) -> Code:
    with pytest.raises(Violation) as caught:
        read(data)
    return caught.value.code


# --- reading ---


def test_a_frame_is_read_as_its_bytes_say() -> None:
    [frame] = read(bytes.fromhex("000003 00 01 00000005") + b"abc")

    assert repr(frame) == "<Frame kind=0 flags=0x1 stream=5 payload=3>"
    assert (frame.payload, frame.size, frame.ends_stream) == (b"abc", 3, True)


def test_the_reserved_bit_of_a_stream_is_ignored() -> None:
    assert read(bytes.fromhex("000000 00 00 80000005"))[0].stream == 5


@pytest.mark.parametrize("size", [1, 2, 8, 9, 10, 1000])
def test_frames_may_come_in_any_pieces(size: int) -> None:
    sent = [
        (DATA, 0, 1, b"x" * 30),
        (PING, 0, 0, b"12345678"),
        (DATA, END_STREAM, 3, b""),
        (RST_STREAM, 0, 5, bytes(4)),
    ]

    found = read(b"".join(render(*frame) for frame in sent), size=size)

    assert [(frame.kind, frame.flags, frame.stream, frame.payload) for frame in found] == sent


def test_padding_is_taken_off_and_counts_for_flow_control() -> None:
    [frame] = read(render(DATA, PADDED, 1, b"\x03abc\0\0\0"))

    assert (frame.payload, frame.size) == (b"abc", 7)


def test_padding_and_priority_of_a_head_are_taken_off() -> None:
    flags = END_HEADERS | PADDED | WITH_PRIORITY
    [frame] = read(render(HEADERS, flags, 1, b"\x02" + b"\0\0\0\0\x10" + b"block" + b"\0\0"))

    assert frame.payload == b"block"


def test_a_header_block_is_given_when_it_is_complete() -> None:
    parts = render(HEADERS, END_STREAM, 1, b"a"), render(CONTINUATION, 0, 1, b"b"), render(CONTINUATION, 4, 1, b"c")
    frames = reader()
    for part in parts[:2]:
        frames.feed(part)
        assert frames.next() is None
    frames.feed(parts[2])
    frame = frames.next()

    assert frame is not None
    assert (frame.kind, frame.payload, frame.ends_stream) == (HEADERS, b"abc", True)


def test_a_frame_of_an_unknown_type_is_passed_on() -> None:
    [frame] = read(render(0xFA, 0xFF, 7, b"whatever"))

    assert (frame.kind, frame.payload) == (0xFA, b"whatever")


def test_numbers_and_codes_are_read_where_they_stand() -> None:
    update, reset, goaway = read(
        render(WINDOW_UPDATE, 0, 1, b"\x80\0\0\x07")
        + render(RST_STREAM, 0, 1, b"\0\0\0\x08")
        # A last stream, a code and what the peer cares to add.
        + render(GOAWAY, 0, 0, b"\x80\0\0\x03\0\0\0\x0bcalm")
    )

    assert update.number == 7
    assert reset.code == Code.CANCEL
    assert (goaway.number, goaway.code) == (3, Code.ENHANCE_YOUR_CALM)


def test_settings_are_read_in_their_order_unknown_ones_too() -> None:
    assert h2frames.read_settings(h2frames.settings([(4, 10), (0xABCD, 1), (4, 20)])[9:]) == [
        (4, 10),
        (0xABCD, 1),
        (4, 20),
    ]


# --- what is refused ---


@pytest.mark.parametrize(
    "first", [render(SETTINGS, ACK, 0), render(PING, 0, 0, bytes(8)), b"HTTP/1.1 400 Bad Request\r\n"]
)
def test_settings_come_first(first: bytes) -> None:
    frames = FrameReader()
    frames.feed(first)

    with pytest.raises(Violation):
        frames.next()


def test_a_frame_that_is_too_large_is_refused_before_its_payload_is_held() -> None:
    assert violation(h2frames.frame_head(DATA, 0, 1, LEAST_FRAME + 1)) is Code.FRAME_SIZE_ERROR
    assert read(render(DATA, 0, 1, bytes(LEAST_FRAME)))


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (render(DATA, 0, 0, b"x"), Code.PROTOCOL_ERROR),
        (render(HEADERS, END_HEADERS, 0, b"x"), Code.PROTOCOL_ERROR),
        (render(PRIORITY, 0, 0, bytes(5)), Code.PROTOCOL_ERROR),
        (render(PRIORITY, 0, 1, bytes(4)), Code.FRAME_SIZE_ERROR),
        (render(RST_STREAM, 0, 0, bytes(4)), Code.PROTOCOL_ERROR),
        (render(RST_STREAM, 0, 1, bytes(3)), Code.FRAME_SIZE_ERROR),
        (render(SETTINGS, 0, 1), Code.PROTOCOL_ERROR),
        (render(SETTINGS, 0, 0, bytes(5)), Code.FRAME_SIZE_ERROR),
        (render(SETTINGS, ACK, 0, bytes(6)), Code.FRAME_SIZE_ERROR),
        (render(PING, 0, 1, bytes(8)), Code.PROTOCOL_ERROR),
        (render(PING, 0, 0, bytes(7)), Code.FRAME_SIZE_ERROR),
        (render(GOAWAY, 0, 1, bytes(8)), Code.PROTOCOL_ERROR),
        (render(GOAWAY, 0, 0, bytes(7)), Code.FRAME_SIZE_ERROR),
        (render(WINDOW_UPDATE, 0, 0, bytes(3)), Code.FRAME_SIZE_ERROR),
        (render(CONTINUATION, 0, 0), Code.PROTOCOL_ERROR),
        (render(CONTINUATION, END_HEADERS, 1, b"x"), Code.PROTOCOL_ERROR),
        (render(DATA, PADDED, 1), Code.FRAME_SIZE_ERROR),
        (render(DATA, PADDED, 1, b"\x04abc"), Code.PROTOCOL_ERROR),
        (render(HEADERS, END_HEADERS | WITH_PRIORITY, 1, b"abcd"), Code.FRAME_SIZE_ERROR),
    ],
)
def test_a_frame_that_cannot_be_is_refused(data: bytes, code: Code) -> None:
    assert violation(data) is code


@pytest.mark.parametrize(
    "between",
    [render(DATA, 0, 1, b"x"), render(PING, 0, 0, bytes(8)), render(CONTINUATION, 0, 3, b"x"), render(0xFA, 0, 0)],
)
def test_nothing_may_come_within_a_header_block(between: bytes) -> None:
    assert violation(render(HEADERS, 0, 1, b"x") + between) is Code.PROTOCOL_ERROR


@pytest.mark.parametrize("size", [0, 10])
def test_u29_endless_continuations_are_refused(size: int) -> None:
    more = render(CONTINUATION, 0, 1, bytes(size)) * (MOST_CONTINUATIONS + 1)

    assert violation(render(HEADERS, 0, 1, b"x") + more) is Code.ENHANCE_YOUR_CALM


def test_u29_a_header_block_that_is_too_large_is_refused() -> None:
    more = render(CONTINUATION, 0, 1, bytes(LEAST_FRAME)) * (MOST_BLOCK // LEAST_FRAME)

    assert violation(render(HEADERS, 0, 1, b"x") + more) is Code.ENHANCE_YOUR_CALM


@given(st.binary(max_size=200), st.integers(1, 50))
def test_whatever_comes_is_frames_or_a_violation_and_pieces_make_no_difference(data: bytes, size: int) -> None:
    def outcome(size: int | None) -> object:
        try:
            return [repr(frame) for frame in read(data, size=size)]
        except Violation as error:
            return error.code

    assert outcome(size) == outcome(None)


# --- writing ---


def test_a_head_that_fits_is_one_frame() -> None:
    assert h2frames.headers(5, b"abc", ends_stream=True, limit=3) == bytes.fromhex("000003 01 05 00000005") + b"abc"
    assert h2frames.headers(5, b"abc", ends_stream=False, limit=3)[4] == END_HEADERS


@pytest.mark.parametrize("size", [4, 6, 7, 3 * (MOST_CONTINUATIONS + 1)])
def test_a_head_that_does_not_fit_goes_on_in_continuations(size: int) -> None:
    block = bytes(range(size))

    written = h2frames.headers(5, block, ends_stream=True, limit=3)

    [frame] = read(written)
    assert (frame.stream, frame.payload, frame.ends_stream) == (5, block, True)
    assert written[:3] == b"\0\0\x03"


def test_what_is_written_is_as_the_standard_has_it() -> None:
    assert h2frames.window_update(1, 0x7FFFFFFF) == bytes.fromhex("000004 08 00 00000001 7fffffff")
    assert h2frames.rst_stream(3, Code.CANCEL) == bytes.fromhex("000004 03 00 00000003 00000008")
    assert h2frames.goaway(Code.PROTOCOL_ERROR) == bytes.fromhex("000008 07 00 00000000 00000000 00000001")
    assert h2frames.settings([(2, 0), (4, 65535)]) == bytes.fromhex("00000c 04 00 00000000 0002 00000000 0004 0000ffff")
    assert h2frames.frame_head(DATA, END_STREAM, 0x01020304, 0x010203) == bytes.fromhex("010203 00 01 01020304")


def test_pushes_are_passed_on_to_be_refused() -> None:
    assert read(render(PUSH_PROMISE, END_HEADERS, 1, bytes(4)))[0].kind == PUSH_PROMISE
