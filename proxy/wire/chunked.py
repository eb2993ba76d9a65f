"""Strict decoding of chunked bodies (RFC 9112 §7.1), the same for requests and replies.

llhttp would do it, but lets a chunk size have any number of leading zeros and an extension be a megabyte long, and
hands trailers over as header fields. Here sizes have at most 16 digits, extensions and trailers are bounded, and
trailers are checked, then dropped (RFC 9110 §6.5.1).
"""

import re
from enum import Enum, auto
from typing import Final

MAX_EXTENSIONS: Final = 4096  # bytes over the whole body
MAX_TRAILERS: Final = 8192  # bytes
_SIZE: Final = re.compile(rb"([0-9A-Fa-f]{1,16})((?:;[\t\x20-\x7e\x80-\xff]*)?)")
_TRAILER: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+:[\t\x20-\x7e\x80-\xff]*")


class BadChunk(Exception):
    """The body is not chunked as RFC 9112 has it; the message has no end that can be trusted."""


class _Part(Enum):
    SIZE = auto()
    DATA = auto()
    DATA_END = auto()
    TRAILERS = auto()
    DONE = auto()


# What a line may look like before its CRLF has come: a wrong one is told at once, since its end may never come.
_UNFINISHED: Final = {
    _Part.SIZE: re.compile(rb"(?:[0-9A-Fa-f]{0,16}|[0-9A-Fa-f]{1,16};[\t\x20-\x7e\x80-\xff]*)\r?"),
    _Part.DATA_END: re.compile(rb"\r?"),
    _Part.TRAILERS: re.compile(
        rb"(?:[!#$%&'*+\-.^_`|~0-9A-Za-z]*|[!#$%&'*+\-.^_`|~0-9A-Za-z]+:[\t\x20-\x7e\x80-\xff]*)\r?"
    ),
}


class ChunkedDecoder:
    """Takes the bytes of one body as they come.

    `announced` counts body bytes seen or announced by a chunk size, so that a limit acts before the bytes arrive.
    """

    __slots__ = ("_extensions", "_line", "_need", "_part", "_trailers", "announced")

    def __init__(self) -> None:
        self._part = _Part.SIZE
        self._need = 0
        self._line = b""  # an unfinished line
        self._extensions = 0
        self._trailers = 0
        self.announced = 0

    @property
    def done(self) -> bool:
        """The last chunk and the trailer section are complete."""
        return self._part is _Part.DONE

    def feed(self, data: bytes, start: int, pieces: list[bytes]) -> int:
        """Decode from `start` on, append body bytes to `pieces`, return where this body's bytes end in `data`.

        Raises BadChunk.
        """
        position, size = start, len(data)
        while position < size and self._part is not _Part.DONE:
            if self._part is _Part.DATA:
                end = min(position + self._need, size)
                pieces.append(data[position:end])
                self._need -= end - position
                position = end
                if not self._need:
                    self._part = _Part.DATA_END
                continue
            end = data.find(b"\n", position)
            if end < 0:
                self._keep(data[position:])
                return size
            line = self._line + data[position:end]
            self._line = b""
            if not line.endswith(b"\r"):
                raise BadChunk("bare LF")
            self._take_line(line[:-1])
            position = end + 1
        return position

    def _keep(self, rest: bytes) -> None:
        self._line += rest
        if not _UNFINISHED[self._part].fullmatch(self._line):
            raise BadChunk("malformed line")
        if self._part is _Part.TRAILERS:
            room = MAX_TRAILERS - self._trailers
        else:
            room = 16 + MAX_EXTENSIONS - self._extensions
        if len(self._line.removesuffix(b"\r")) > room:
            raise BadChunk("line too long")

    def _take_line(self, line: bytes) -> None:
        if self._part is _Part.SIZE:
            self._take_size(line)
        elif self._part is _Part.DATA_END:
            if line:
                raise BadChunk("chunk longer than its size")
            self._part = _Part.SIZE
        elif not line:
            self._part = _Part.DONE
        else:
            self._trailers += len(line)
            if self._trailers > MAX_TRAILERS or not _TRAILER.fullmatch(line):
                raise BadChunk("trailer")

    def _take_size(self, line: bytes) -> None:
        match = _SIZE.fullmatch(line)
        if match is None:
            raise BadChunk("chunk size")
        self._extensions += len(match[2])
        if self._extensions > MAX_EXTENSIONS:
            raise BadChunk("chunk extensions")
        self._need = int(match[1], 16)
        self.announced += self._need
        self._part = _Part.DATA if self._need else _Part.TRAILERS
