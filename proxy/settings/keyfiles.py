"""Key files: a secret given as the file that holds it."""

import re
import stat
from pathlib import Path

from proxy.settings import kinds

LARGEST = 16 * 1024
# What is told of a file that cannot be read: a path that begins as one, or a short one of plain words. Anything else is
# most likely the key itself, or a URL with a password, in the wrong place.
PATH_LIKE = re.compile(r"\.{0,2}/[^\n\"'@=]*|(?=.{1,40}\Z)(?![A-Za-z0-9_+=-]{16,}\Z)[\w.-]+(/[\w.-]+)*")


def read(value: object) -> str:
    """Give the content of a key file; raises ValueError with what is wrong."""
    path = kinds.path(value)
    name = str(path)
    try:
        # A pipe or a device would block the start, or never end.
        if not path.is_dir() and path.exists() and not path.is_file():
            raise ValueError(f"{name} is not a regular file")
        with path.open("rb") as file:
            content = file.read(LARGEST + 1)
    except OSError as exc:
        if not PATH_LIKE.fullmatch(name):
            raise ValueError("must be the path of a file, but looks like the key itself") from None
        raise ValueError(f"{name} cannot be read: {exc.strerror}") from None
    if len(content) > LARGEST:
        raise ValueError(f"{name} is too large for a key")
    # Latin-1 takes every byte; that a key is ASCII is checked where it is read.
    return content.decode("latin-1")


def world_readable(name: str) -> bool:
    """Whether every user of this machine may read a file."""
    try:
        return bool(Path(name).stat().st_mode & stat.S_IROTH)
    except OSError:
        return False
