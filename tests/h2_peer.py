"""The server's end of an HTTP/2 connection, as bytes: it says what a test wants, right or wrong."""

from collections.abc import Iterable

import hpack

from proxy.wire import h2frames
from proxy.wire.h2frames import (
    ACK,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    PING,
    RST_STREAM,
    SETTINGS,
    Frame,
    render,
)

HELLO = render(SETTINGS, 0, 0)
Fields = list[tuple[bytes, bytes]]
OK: Fields = [(b":status", b"200"), (b"content-type", b"text/plain")]


class Peer:
    """Writes frames with a table of its own, and reads what the client has written."""

    def __init__(self) -> None:
        self.encoder = hpack.Encoder()
        self._decoder = hpack.Decoder(max_header_list_size=1 << 20)

    # --- what it says ---

    def head(self, stream: int, fields: Iterable[tuple[bytes, bytes]] = OK, *, last: bool = False) -> bytes:
        flags = END_HEADERS | (END_STREAM if last else 0)
        return render(HEADERS, flags, stream, self.encoder.encode(list(fields)))

    def data(self, stream: int, body: bytes, *, last: bool = False) -> bytes:
        return render(DATA, END_STREAM if last else 0, stream, body)

    def answer(self, stream: int, body: bytes = b"OK", fields: Iterable[tuple[bytes, bytes]] = OK) -> bytes:
        length = (b"content-length", b"%d" % len(body))
        return self.head(stream, [*fields, length]) + self.data(stream, body, last=True)

    @staticmethod
    def settings(**values: int) -> bytes:
        return h2frames.settings((h2frames.Setting[name.upper()], value) for name, value in values.items())

    @staticmethod
    def acknowledged() -> bytes:
        return render(SETTINGS, ACK, 0)

    @staticmethod
    def reset(stream: int, code: int) -> bytes:
        return render(RST_STREAM, 0, stream, code.to_bytes(4, "big"))

    @staticmethod
    def goaway(last: int, code: int = 0) -> bytes:
        return render(GOAWAY, 0, 0, last.to_bytes(4, "big") + code.to_bytes(4, "big"))

    @staticmethod
    def ping(payload: bytes = b"12345678", *, ack: bool = False) -> bytes:
        return render(PING, ACK if ack else 0, 0, payload)

    # --- what it hears ---

    def hears(self, written: bytes) -> list[Frame]:
        """Read frames of a client; the preface is no frame."""
        frames = h2frames.FrameReader(h2frames.MOST_FRAME)
        mark = render(0xFF, 0, 0)
        frames.feed(HELLO + written.removeprefix(h2frames.PREFACE) + mark)
        found = []
        while (frame := frames.next()) is not None:
            found.append(frame)
        assert found[-1].kind == 0xFF, "the client wrote half a frame"
        return found[1:-1]

    def request(self, frame: Frame) -> Fields:
        """Read a request's head. All of them, in their order: they share a table."""
        assert frame.kind == HEADERS
        return [(name, value) for name, value in self._decoder.decode(frame.payload, raw=True)]
