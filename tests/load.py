"""Both ends of very many calls, lean enough that the proxy between them is what is measured.

`Origin` is a Talon.One that answers every request with what it was asked. `Load` makes calls over a fixed number of
connections, one after the other on each, and looks whether every answer is the one to its own call.
"""

import asyncio
import itertools
import re
import ssl
from collections import Counter
from typing import cast

LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
BODY = b'{"customerSession": {"profileId": "jane", "cartItems": [{"sku": "shoe", "quantity": 2, "price": 60}]}}'
FILLING = b" " * 2000  # an answer has effects


def whole(buffer: bytes) -> int:
    """Give the size of the message that a buffer begins with; 0: it is not complete yet."""
    end = buffer.find(b"\r\n\r\n")
    if end < 0:
        return 0
    found = LENGTH.search(buffer, 0, end)
    size = end + 4 + (int(found[1]) if found else 0)
    return size if size <= len(buffer) else 0


class Wire(asyncio.Protocol):
    """One connection of either end; `take` is given whole messages."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while size := whole(self._buffer):
            message, self._buffer = self._buffer[:size], self._buffer[size:]
            self.take(message)

    def take(self, message: bytes) -> None:
        """Take one."""
        raise NotImplementedError


class Origin:
    """Answers with the target it was asked for, after `latency` seconds. `under_way`, `most`: calls at a time."""

    def __init__(self, latency: float = 0.0) -> None:
        self.latency = latency
        self.accepted = self.under_way = self.most = 0
        self.port = 0
        self._wires: set[_OriginWire] = set()
        self._server: asyncio.Server

    async def start(self, tls: ssl.SSLContext | None = None) -> None:
        """Listen."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _OriginWire(self), "127.0.0.1", 0, ssl=tls)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Close everything."""
        self._server.close()
        for wire in self._wires:
            wire.transport.abort()
        await self._server.wait_closed()

    def accept(self, wire: "_OriginWire") -> None:
        """Count a connection."""
        self.accepted += 1
        self._wires.add(wire)


class _OriginWire(Wire):
    def __init__(self, origin: Origin) -> None:
        super().__init__()
        self._origin = origin

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._origin.accept(self)

    def take(self, message: bytes) -> None:
        origin = self._origin
        origin.under_way += 1
        origin.most = max(origin.most, origin.under_way)
        if origin.latency:
            asyncio.get_running_loop().call_later(origin.latency, self._answer, message)
        else:
            self._answer(message)

    def _answer(self, message: bytes) -> None:
        self._origin.under_way -= 1
        body = message.split(b" ", 2)[1] + FILLING
        self.transport.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
        )


SESSIONS = 1_000  # so many, that those remembered of them are few beside what a leak would keep


class Load:
    """So many calls over so many connections; `errors` by kind."""

    def __init__(self, calls: int, connections: int, *, sessions: int = SESSIONS) -> None:
        """`sessions`: how many different ones the calls are about, in turn."""
        self.sessions = sessions
        self.errors: Counter[str] = Counter()
        self.answered = 0
        self._calls = calls
        self._connections = connections
        self._numbers = itertools.count()
        self._open = connections
        self._done = asyncio.get_running_loop().create_future()

    async def run(self, host: str, port: int) -> None:
        """Make them all."""
        loop = asyncio.get_running_loop()
        for _ in range(self._connections):
            await loop.create_connection(lambda: _LoadWire(self), host, port)
        await self._done

    def next(self) -> int | None:
        """Give the number of the next call; None: that was the last."""
        number = next(self._numbers)
        return number if number < self._calls else None

    def closed(self) -> None:
        """A connection has ended."""
        self._open -= 1
        if not self._open and not self._done.done():
            self._done.set_result(None)


class _LoadWire(Wire):
    def __init__(self, load: Load) -> None:
        super().__init__()
        self._load = load
        self._target: bytes | None = None  # of the call under way

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._call()

    def _call(self) -> None:
        number = self._load.next()
        if number is None:
            self._target = None
            self.transport.close()
            return
        self._target = b"/v2/customer_sessions/s%d" % (number % self._load.sessions)
        self.transport.write(
            b"PUT %b HTTP/1.1\r\nHost: 127.0.0.1\r\nUser-Agent: load\r\nAccept: application/json\r\n"
            b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (self._target, len(BODY), BODY)
        )

    def take(self, message: bytes) -> None:
        self._load.answered += 1
        if not message.startswith(b"HTTP/1.1 200 "):
            self._load.errors[message.split(b"\r\n", 1)[0].decode("latin-1")] += 1
        elif self._target is None or message.partition(b"\r\n\r\n")[2] != self._target + FILLING:
            self._load.errors["an answer to another call"] += 1
        self._call()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._target is not None:
            self._load.errors["a connection ended with a call under way"] += 1
        self._load.closed()
