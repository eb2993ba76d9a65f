"""Conflicts: which 409 is which. Pure.

Talon.One answers 409 for four different things, and only one of them means "not executed, come again": the queue of
a session or a profile was full (talon-one-facts.md §2). It is known by its text, never by the status alone.
"""

from enum import Enum
from typing import Final

from proxy.talon import bodies

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
    text = bodies.plain(block, body).lower()
    start = text.find(_SIGN)
    if start >= 0:
        word = text[start + len(_SIGN) :]
        if word.startswith(b"session"):
            return Kind.SESSION
        if word.startswith(b"profile"):
            return Kind.PROFILE
    return Kind.EXISTS if _EXISTS in text else Kind.OTHER
