"""The bound on what all bodies together hold of memory (`limits.buffered`), so that a crowd of large ones is refused
and the process lives.

A body counts from its first pieces until whoever held it last lets go of it: the connection that reads it, a flight
that outlives its caller, a caller who does not read. Of one that is streamed counts what is held of it at the time.
Bodies up to `SMALL` are not counted: calls under way are so many and no more, and counting would cost every one of
them. This module is not compiled: `Share` ends by `__del__`.
"""

from typing import Final

SMALL: Final = 16 << 10  # bytes of a body that nobody counts


class Buffers:
    """Counts the bytes of bodies that are held. `most` may be set at any time."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.held = 0

    def __repr__(self) -> str:
        return f"<Buffers held={self.held} of {self.most}>"

    def share(self) -> "Share":
        """Begin to count a body."""
        return Share(self)


class Share:
    """What one body holds; given back when nobody refers to this any more."""

    __slots__ = ("_buffers", "size")

    def __init__(self, buffers: Buffers) -> None:
        self._buffers = buffers
        self.size = 0

    def __repr__(self) -> str:
        return f"<Share {self.size}>"

    def __del__(self) -> None:
        self._buffers.held -= self.size

    def hold(self, size: int, *, anyway: bool = False) -> bool:
        """Count so many bytes in all from now on; False: there is no room, and as many are counted as before.

        `anyway`: they are held already, so that only others can be kept out.
        """
        held = self._buffers.held + size - self.size
        if held > self._buffers.most and not anyway:
            return False
        self._buffers.held = held
        self.size = size
        return True
