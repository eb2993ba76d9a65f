"""Watching files: has the content of one changed?

Kubernetes replaces a mounted Secret by pointing the symlink `..data` at another directory; whoever watches the file
itself misses that. Here files are looked at by their paths, links followed, a few system calls each time; only when
something about one is different is it read and its content compared. A change is told when the next look finds nothing
new: whoever writes several files, or one slowly, is let finish. The work of `look` belongs to a thread, not the loop.
"""

import hashlib
import secrets
from collections.abc import Iterable
from pathlib import Path

LARGEST = 4 << 20  # bytes of a file that are looked at

_Stamp = tuple[int, int, int, int] | None  # None: it is not there


class Watch:
    """Watches some files. Not for two threads at a time."""

    def __init__(self, files: Iterable[Path]) -> None:
        """Watch these from now on, as they are now."""
        self._salt = secrets.token_bytes(32)
        self._files = tuple(files)
        self._stamps = [_stamp(file) for file in self._files]
        self._contents = [self._content(file) for file in self._files]
        self._unsettled = False

    def __repr__(self) -> str:
        return f"<Watch files={len(self._files)}>"

    def look(self) -> bool:
        """Tell whether a content has changed since the last time that this was told."""
        stamps = [_stamp(file) for file in self._files]
        if stamps != self._stamps:
            self._stamps = stamps
            self._unsettled = True
            return False
        if not self._unsettled:
            return False
        self._unsettled = False
        contents = [self._content(file) for file in self._files]
        if contents == self._contents:
            return False
        self._contents = contents
        return True

    def _content(self, file: Path) -> bytes:
        """Give a fingerprint, of which nobody can guess a key back."""
        try:
            if not file.is_file():
                return b""
            with file.open("rb") as opened:
                return hashlib.blake2b(opened.read(LARGEST), key=self._salt).digest()
        except OSError:
            return b""


def _stamp(file: Path) -> _Stamp:
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino, found.st_dev, found.st_size
