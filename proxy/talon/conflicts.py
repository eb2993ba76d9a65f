"""Conflicts: which 409 is which. Pure.

Talon.One answers 409 for four different things, and only one of them means "not executed, come again": the queue of
a session or a profile was full (talon-one-facts.md §2). It is known by its text, never by the status alone.
"""

import zlib
from enum import Enum
from typing import Final

LONGEST: Final = 64 * 1024  # bytes, compressed or not, that are read for the text
_SIGN: Final = b"too many requests are updating this "
_EXISTS: Final = b"already exists"


class Kind(Enum):
    """What a 409 means, as metrics name it."""

    SESSION = "session"  # too many updates of the session at the same time
    PROFILE = "profile"  # of the profile
    EXISTS = "exists"  # the thing to be made is there
    OTHER = "other"

    @property
    def parallel(self) -> bool:
        """It was refused for its moment, and not executed."""
        return self is Kind.SESSION or self is Kind.PROFILE


def classify(block: bytes, body: bytes) -> Kind:
    """Name the 409 with these header lines and this body. What cannot be read is `OTHER`."""
    text = _text(block.lower(), body)
    start = text.find(_SIGN)
    if start >= 0:
        word = text[start + len(_SIGN) :]
        if word.startswith(b"session"):
            return Kind.SESSION
        if word.startswith(b"profile"):
            return Kind.PROFILE
    return Kind.EXISTS if _EXISTS in text else Kind.OTHER


def _text(block: bytes, body: bytes) -> bytes:
    for line in block.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name == b"content-encoding":
            return _unpacked(value.strip(), body[:LONGEST]).lower()
    return body[:LONGEST].lower()


def _unpacked(coding: bytes, body: bytes) -> bytes:
    # Some servers send raw deflate where HTTP means zlib's (RFC 9110 §8.4.1.2).
    windows = {b"gzip": (31,), b"x-gzip": (31,), b"deflate": (15, -15), b"identity": ()}.get(coding)
    if windows is None:
        return b""
    for window in windows:
        try:
            return zlib.decompressobj(window).decompress(body, LONGEST)
        except zlib.error:
            continue
    return b"" if windows else body
