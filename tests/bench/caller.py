"""One caller with a connection of its own, which it opens before it calls."""

import asyncio
import time
from collections.abc import Iterable

from tests.load import Wire


class Caller(Wire):
    """Makes the same call as often as it is told to."""

    def __init__(self, request: bytes) -> None:
        super().__init__()
        self._request = request
        self._answered: asyncio.Future[float] | None = None
        self._begun = 0.0
        self.closed = False

    def call(self) -> "asyncio.Future[float]":
        """Call; the future has the seconds until the whole answer was there, or ConnectionError."""
        self._answered = asyncio.get_running_loop().create_future()
        self._begun = time.perf_counter()
        self.transport.write(self._request)
        return self._answered

    def take(self, message: bytes) -> None:
        """Only 200 is an answer."""
        if self._answered is None or self._answered.done():
            return
        if message.startswith(b"HTTP/1.1 200 "):
            self._answered.set_result(time.perf_counter() - self._begun)
        else:
            self._answered.set_exception(ConnectionError(message.split(b"\r\n", 1)[0].decode("latin-1")))

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True
        if self._answered is not None and not self._answered.done():
            self._answered.set_exception(ConnectionError("the connection was closed"))


async def connect(callers: Iterable[Caller], port: int) -> None:
    """Open the connections of all."""
    loop = asyncio.get_running_loop()
    for caller in callers:
        await loop.create_connection(lambda caller=caller: caller, "127.0.0.1", port)  # type: ignore[misc]


def hang_up(callers: Iterable[Caller]) -> None:
    """Drop the connections of all."""
    for caller in callers:
        if hasattr(caller, "transport"):
            caller.transport.abort()
