"""Replies → bytes on a downstream connection. Pure, but for the clock of `Date`."""

import time
from collections.abc import Callable
from email.utils import formatdate
from typing import Final

from proxy.messages import REASONS, Reply

_BODILESS: Final = frozenset({204, 304})
_STATUS_LINES: Final = {
    status: b"HTTP/1.1 %d %b\r\n" % (status, REASONS.get(status, b"")) for status in range(100, 600)
}
CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
LAST_CHUNK: Final = b"0\r\n\r\n"


class DateLine:
    """The `Date` field (RFC 9110 §6.6.1), made anew once a second."""

    __slots__ = ("_clock", "_line", "_second")

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._second = -1
        self._line = b""

    def __call__(self) -> bytes:
        """Give the whole line."""
        second = int(self._clock())
        if second != self._second:
            self._second = second
            self._line = b"Date: %b\r\n" % formatdate(second, usegmt=True).encode()
        return self._line


def render_head(reply: Reply, own: bytes, date: DateLine, *, persistence: bytes) -> bytes:
    """Give the head of a reply: its fields as they are, `own` lines, ours for framing and this hop.

    `own` and `persistence`, which tells whether the connection stays, are lines with their ends.
    """
    return b"%b%b%b%b%b%b\r\n" % (
        _STATUS_LINES[reply.status],
        reply.block,
        b"" if reply.dated else date(),
        b"" if reply.length is None else b"Content-Length: %d\r\n" % reply.length,
        own,
        persistence,
    )


def has_body(reply: Reply, method: bytes) -> bool:
    """Tell whether body bytes follow the head (RFC 9112 §6.3)."""
    return method != b"HEAD" and reply.status not in _BODILESS


def chunk(piece: bytes) -> bytes:
    """Frame a piece of a stream of unknown length (RFC 9112 §7.1); an empty one would end the body."""
    return b"%x\r\n%b\r\n" % (len(piece), piece)
