"""Names as they may be shown: of attributes, effects, events, callers. Pure.

Bodies and header lines hold customers' data. What is shown of them are names that developers and marketers gave, and
only where they look like names; how many different ones are kept is for whoever keeps them.
"""

import re
from collections.abc import Iterable

LONGEST = 48  # characters
UNPRINTABLE = "(not a name)"
# No `@`, no blank and no long row of digits: neither a mail address nor a number that means somebody.
_NAME = re.compile(r"[A-Za-z_](?:[A-Za-z_.-]|[0-9]{1,4}(?![0-9])){0,47}")
# Of an id, by which only the log is searched.
_REQUEST_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_WORDS = re.compile(r"[A-Za-z]+(?:[ -][A-Za-z]+){0,5}")
_EMAIL = re.compile(r"[^@\s]+@[^@\s]+\.[A-Za-z]{2,}")
_KEY = re.compile(r"[0-9a-fA-F]{40,}")
_HEX = re.compile(r"[0-9a-fA-F]{16,}")


def name(text: object) -> str:
    """Give what may be shown of a name."""
    if isinstance(text, str) and len(text) <= LONGEST and _NAME.fullmatch(text) and not _HEX.search(text):
        return text
    return UNPRINTABLE


def words(text: object) -> str:
    """Give what may be shown of a short text, such as the title of an error."""
    return text if isinstance(text, str) and len(text) <= LONGEST and _WORDS.fullmatch(text) else UNPRINTABLE


def request_id(text: bytes) -> str:
    """Give an id to search the log for; empty where it could be something else."""
    shown = text.decode("latin-1")
    return shown if _REQUEST_ID.fullmatch(shown) and not _KEY.search(shown) else ""


def pointer(text: object) -> str:
    """Give a JSON pointer without positions: `/cartItems/3/attributes/Size` is `/cartItems/*/attributes/Size`."""
    if not isinstance(text, str) or not text.startswith("/"):
        return ""
    return "/" + "/".join(_steps(text.split("/")[1:9]))


def _steps(parts: Iterable[str]) -> Iterable[str]:
    for part in parts:
        yield "*" if part.isdigit() else name(part)


def is_email(text: str) -> bool:
    """Whether a text looks like a mail address."""
    return _EMAIL.fullmatch(text) is not None
