"""HTTP/2 frames, as a client reads and writes them (RFC 9113 §4, §6): bytes ↔ frames. Pure.

The reader judges what can be judged of a frame alone: its size, its stream, its padding, whether a header block is
left in peace until it is complete. What a frame means where the connection stands is `http2`'s to judge. Padding and
priorities are taken off, frames of unknown types pass with their payload: whoever reads them ignores them.
"""

from collections.abc import Iterable
from enum import IntEnum
from typing import Final

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
HEAD: Final = 9  # bytes of a frame's head
LEAST_FRAME: Final = 16384  # bytes of payload that every peer takes (SETTINGS_MAX_FRAME_SIZE)
MOST_FRAME: Final = (1 << 24) - 1
MOST_WINDOW: Final = (1 << 31) - 1
MOST_STREAM: Final = (1 << 31) - 1
MOST_BLOCK: Final = 65536  # bytes of a header block, compressed
MOST_CONTINUATIONS: Final = 32

DATA: Final = 0
HEADERS: Final = 1
PRIORITY: Final = 2
RST_STREAM: Final = 3
SETTINGS: Final = 4
PUSH_PROMISE: Final = 5
PING: Final = 6
GOAWAY: Final = 7
WINDOW_UPDATE: Final = 8
CONTINUATION: Final = 9

END_STREAM: Final = 0x1
ACK: Final = 0x1
END_HEADERS: Final = 0x4
PADDED: Final = 0x8
WITH_PRIORITY: Final = 0x20

_OF_STREAMS: Final = (DATA, HEADERS, PRIORITY, RST_STREAM, CONTINUATION)
_OF_CONNECTION: Final = (SETTINGS, PING, GOAWAY)
_SIZES: Final = {PRIORITY: 5, RST_STREAM: 4, PING: 8, WINDOW_UPDATE: 4}


class Code(IntEnum):
    """Why a stream or a connection ends (RFC 9113 §7)."""

    NO_ERROR = 0x0
    PROTOCOL_ERROR = 0x1
    INTERNAL_ERROR = 0x2
    FLOW_CONTROL_ERROR = 0x3
    SETTINGS_TIMEOUT = 0x4
    STREAM_CLOSED = 0x5
    FRAME_SIZE_ERROR = 0x6
    REFUSED_STREAM = 0x7
    CANCEL = 0x8
    COMPRESSION_ERROR = 0x9
    CONNECT_ERROR = 0xA
    ENHANCE_YOUR_CALM = 0xB
    INADEQUATE_SECURITY = 0xC
    HTTP_1_1_REQUIRED = 0xD


class Setting(IntEnum):
    """Parameters of a connection (RFC 9113 §6.5.2)."""

    HEADER_TABLE_SIZE = 0x1
    ENABLE_PUSH = 0x2
    MAX_CONCURRENT_STREAMS = 0x3
    INITIAL_WINDOW_SIZE = 0x4
    MAX_FRAME_SIZE = 0x5
    MAX_HEADER_LIST_SIZE = 0x6


class Violation(Exception):
    """The peer broke the protocol in a way that ends the connection; `code` is what it is told."""

    def __init__(self, code: Code, details: str) -> None:
        super().__init__(details)
        self.code = code


class Frame:
    """One frame. Of HEADERS the payload is the whole header block, CONTINUATIONs included."""

    __slots__ = ("flags", "kind", "payload", "size", "stream")

    def __init__(self, kind: int, flags: int, stream: int, payload: bytes, size: int) -> None:
        self.kind = kind
        self.flags = flags
        self.stream = stream
        self.payload = payload
        self.size = size  # of the payload as it came, padding included: what flow control counts

    def __repr__(self) -> str:
        return f"<Frame kind={self.kind} flags={self.flags:#x} stream={self.stream} payload={len(self.payload)}>"

    @property
    def ends_stream(self) -> bool:
        """Nothing more comes on its stream (DATA, HEADERS)."""
        return bool(self.flags & END_STREAM)

    @property
    def number(self) -> int:
        """The payload's first 31 bits: an increment, a stream."""
        return int.from_bytes(self.payload[:4], "big") & 0x7FFFFFFF

    @property
    def code(self) -> int:
        """The payload's last 32 bits in RST_STREAM, the second in GOAWAY: why."""
        start = 4 if self.kind == GOAWAY else 0
        return int.from_bytes(self.payload[start : start + 4], "big")


class FrameReader:
    """Cuts what a server sends into frames."""

    def __init__(self, limit: int = LEAST_FRAME) -> None:
        """`limit`: bytes of payload that a frame may have."""
        self._limit = limit
        self._data = b""
        self._position = 0
        self._greeted = False
        self._block: list[bytes] | None = None  # of a header block that is not complete
        self._block_frame: Frame | None = None

    def feed(self, data: bytes) -> None:
        """Take bytes."""
        rest = self._data[self._position :] if self._position < len(self._data) else b""
        self._data = rest + data if rest else data
        self._position = 0

    def next(self) -> Frame | None:
        """Give the next frame; None: it is not complete yet. Raises Violation."""
        while True:
            data, position = self._data, self._position
            if len(data) - position < HEAD:
                return None
            size = data[position] << 16 | data[position + 1] << 8 | data[position + 2]
            kind = data[position + 3]
            flags = data[position + 4]
            stream = (
                (data[position + 5] & 0x7F) << 24
                | data[position + 6] << 16
                | data[position + 7] << 8
                | data[position + 8]
            )
            self._check(kind, flags, stream, size)
            start = position + HEAD
            end = start + size
            if end > len(data):
                return None
            self._position = end
            payload = data[start:end]
            if kind == DATA and not flags & PADDED:
                return Frame(kind, flags, stream, payload, size)
            frame = self._complete(kind, flags, stream, payload)
            if frame is not None:
                return frame

    def _check(self, kind: int, flags: int, stream: int, size: int) -> None:
        """Judge a frame by its head, before its payload is waited for."""
        if size > self._limit:
            raise Violation(Code.FRAME_SIZE_ERROR, "A frame is larger than was allowed")
        if self._block is not None and kind != CONTINUATION:
            raise Violation(Code.PROTOCOL_ERROR, "Another frame came within a header block")
        if not self._greeted:
            if kind != SETTINGS or flags & ACK:
                raise Violation(Code.PROTOCOL_ERROR, "The first frame was not SETTINGS")
            self._greeted = True
        if kind in _OF_STREAMS:
            if not stream:
                raise Violation(Code.PROTOCOL_ERROR, "A frame of a stream came for the connection")
        elif stream and kind in _OF_CONNECTION:
            raise Violation(Code.PROTOCOL_ERROR, "A frame of the connection came for a stream")
        wanted = _SIZES.get(kind)
        if wanted is not None and size != wanted:
            raise Violation(Code.FRAME_SIZE_ERROR, "A frame has not the size of its type")
        if kind == SETTINGS and (size % 6 or (size and flags & ACK)):
            raise Violation(Code.FRAME_SIZE_ERROR, "SETTINGS of a size that no settings have")
        if kind == GOAWAY and size < 8:
            raise Violation(Code.FRAME_SIZE_ERROR, "GOAWAY is too short")

    def _complete(self, kind: int, flags: int, stream: int, payload: bytes) -> Frame | None:
        """Take off what is not content; None: it is part of a header block that goes on."""
        size = len(payload)
        if kind == CONTINUATION:
            return self._go_on(flags, stream, payload)
        if flags & PADDED and kind in (DATA, HEADERS):
            payload = _without_padding(payload)
        if kind != HEADERS:
            return Frame(kind, flags, stream, payload, size)
        if flags & WITH_PRIORITY:
            if len(payload) < 5:
                raise Violation(Code.FRAME_SIZE_ERROR, "HEADERS is too short for a priority")
            payload = payload[5:]
        frame = Frame(kind, flags, stream, payload, size)
        if flags & END_HEADERS:
            return frame
        self._block, self._block_frame = [payload], frame
        return None

    def _go_on(self, flags: int, stream: int, payload: bytes) -> Frame | None:
        block, frame = self._block, self._block_frame
        if block is None or frame is None or frame.stream != stream:
            raise Violation(Code.PROTOCOL_ERROR, "CONTINUATION continues nothing")
        block.append(payload)
        # Counted too, since empty ones cost us as much as full ones (CVE-2024-27316).
        if len(block) > MOST_CONTINUATIONS + 1 or sum(map(len, block)) > MOST_BLOCK:
            raise Violation(Code.ENHANCE_YOUR_CALM, "A header block is too large")
        if not flags & END_HEADERS:
            return None
        frame.payload = b"".join(block)
        self._block = self._block_frame = None
        return frame


def _without_padding(payload: bytes) -> bytes:
    if not payload:
        raise Violation(Code.FRAME_SIZE_ERROR, "A padded frame does not say how much")
    padding = payload[0]
    if padding >= len(payload):
        raise Violation(Code.PROTOCOL_ERROR, "The padding is larger than its frame")
    return payload[1 : len(payload) - padding]


# --- writing ---


def frame_head(kind: int, flags: int, stream: int, size: int) -> bytes:
    """Give the head of a frame."""
    return bytes(
        (
            size >> 16 & 0xFF,
            size >> 8 & 0xFF,
            size & 0xFF,
            kind,
            flags,
            stream >> 24,
            stream >> 16 & 0xFF,
            stream >> 8 & 0xFF,
            stream & 0xFF,
        )
    )


def render(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """Give a frame."""
    return frame_head(kind, flags, stream, len(payload)) + payload


def settings(pairs: Iterable[tuple[int, int]]) -> bytes:
    """Give a SETTINGS frame."""
    payload = b"".join(name.to_bytes(2, "big") + value.to_bytes(4, "big") for name, value in pairs)
    return render(SETTINGS, 0, 0, payload)


def read_settings(payload: bytes) -> list[tuple[int, int]]:
    """Read a SETTINGS frame's pairs, in their order; unknown ones too."""
    return [
        (int.from_bytes(payload[at : at + 2], "big"), int.from_bytes(payload[at + 2 : at + 6], "big"))
        for at in range(0, len(payload), 6)
    ]


def headers(stream: int, block: bytes, *, ends_stream: bool, limit: int) -> bytes:
    """Give a header block as HEADERS, and CONTINUATIONs where the peer takes no larger frames than `limit`."""
    flags = END_STREAM if ends_stream else 0
    if len(block) <= limit:
        return frame_head(HEADERS, flags | END_HEADERS, stream, len(block)) + block
    parts = [block[at : at + limit] for at in range(0, len(block), limit)]
    frames = [render(HEADERS, flags, stream, parts[0])]
    frames += [render(CONTINUATION, 0, stream, part) for part in parts[1:-1]]
    frames.append(render(CONTINUATION, END_HEADERS, stream, parts[-1]))
    return b"".join(frames)


def window_update(stream: int, increment: int) -> bytes:
    """Give a WINDOW_UPDATE; stream 0 is the connection."""
    return render(WINDOW_UPDATE, 0, stream, increment.to_bytes(4, "big"))


def rst_stream(stream: int, code: int) -> bytes:
    """Give a RST_STREAM."""
    return render(RST_STREAM, 0, stream, code.to_bytes(4, "big"))


def goaway(code: int) -> bytes:
    """Give a client's GOAWAY: no stream of the server's was ever taken."""
    return render(GOAWAY, 0, 0, bytes(4) + code.to_bytes(4, "big"))
