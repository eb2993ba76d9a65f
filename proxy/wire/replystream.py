"""Replies too large to hold: handed on as they are read, no faster than their caller takes them."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from typing import Final, Protocol

from proxy.errors import ProxyError
from proxy.wire.buffers import Share

STREAM_AHEAD: Final = 1 << 20  # bytes of a stream held before reading pauses


class Feed(Protocol):
    """Where the pieces of a stream come from."""

    def pause(self) -> None:
        """Bring no more; a piece that is on its way may still come."""
        ...

    def resume(self) -> None:
        """Go on."""
        ...

    def abandon(self) -> None:
        """Nobody reads on."""
        ...


class ReplyStream:
    """The rest of a large reply, read by one caller; pauses its feed while that caller is slow.

    `share` counts what is held. Where `limits.buffered` leaves no room for it, nothing is read ahead.
    """

    def __init__(self, feed: Feed, share: Share) -> None:
        self._feed: Feed | None = feed  # until the end: the two would be a cycle for the collector
        self._share = share
        self._pieces: deque[bytes] = deque()
        self._held = 0
        self.paused = False  # the feed waits for `resume`
        self._ended = False
        self._abandoned = False
        self._error: ProxyError | None = None
        self._more: asyncio.Future[None] | None = None

    def put(self, piece: bytes) -> None:
        """Take a piece from the feed."""
        if self._abandoned:
            return
        self._pieces.append(piece)
        self._held += len(piece)
        if self._held > self._most(STREAM_AHEAD) and not self.paused:
            self.paused = True
            if self._feed is not None:
                self._feed.pause()
        self._wake()

    def end(self, error: ProxyError | None = None) -> None:
        """Nothing more comes."""
        self._ended = True
        self._feed = None
        self.paused = False  # the feed may have another exchange by now
        self._error = error
        self._wake()

    def abandon(self) -> None:
        """See `messages.Stream`."""
        self._abandoned = True
        self._error = None  # raised, it holds on to whoever read, and thus to this
        self._pieces.clear()
        self._held = 0
        self._share.hold(0, anyway=True)
        feed, self._feed = self._feed, None
        if feed is not None:
            feed.abandon()

    def __aiter__(self) -> AsyncIterator[bytes]:
        """See `messages.Stream`."""
        return self

    async def __anext__(self) -> bytes:
        """Give the next piece. Raises UpstreamError where the answer broke off."""
        while not self._pieces:
            if self._ended:
                if self._error is not None:
                    raise self._error
                raise StopAsyncIteration
            self._more = asyncio.get_running_loop().create_future()
            await self._more
        piece = self._pieces.popleft()
        self._held -= len(piece)
        if self._held <= self._most(STREAM_AHEAD // 2) and self.paused:
            self.paused = False
            if self._feed is not None:
                self._feed.resume()
        return piece

    def _most(self, most: int) -> int:
        """Count what is held; give how much that may be."""
        if self._share.hold(self._held):
            return most
        self._share.hold(self._held, anyway=True)
        return 0

    def _wake(self) -> None:
        if self._more is not None and not self._more.done():
            self._more.set_result(None)
