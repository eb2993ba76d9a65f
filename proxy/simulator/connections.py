"""Connections carry calls from sockets to a handler and know when a caller leaves: the border to aiohttp.

Whatever is answered here, errors of the HTTP parser included, carries `Server: talon-proxy-simulator`.
"""

import asyncio
import logging
import socket
import struct
import zlib
from collections.abc import Awaitable, Callable
from typing import Any

import orjson
from aiohttp import web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http_parser import RawRequestMessage
from aiohttp.streams import StreamReader

from proxy.simulator.operations import Answer
from proxy.simulator.problems import Problem

NAME = "talon-proxy-simulator"
MAX_BODY = 16 * 1024 * 1024
MAX_LINE = 64 * 1024
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER on, for no time: closing sends RST

_log = logging.getLogger(__name__)

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


class EndedError(ConnectionError):
    """The connection was ended on purpose; nothing more is written to it."""


class Connection(web.RequestHandler):
    """One connection. It has one call at a time, and `on_left` is called if the caller leaves meanwhile."""

    __slots__ = ("busy", "calls", "on_left")

    def __init__(self, manager: "Connections", **options: Any) -> None:
        super().__init__(manager, loop=asyncio.get_running_loop(), **options)
        self.calls = 0
        self.busy = False
        self.on_left: Callable[[], None] | None = None

    def begin(self) -> None:
        """A call comes."""
        self.calls += 1
        self.busy = True

    @property
    def here(self) -> bool:
        """Whether the caller has not left yet."""
        return self.transport is not None

    @property
    def loopback(self) -> bool:
        """Whether the caller is on this machine."""
        host = self.peername[0] if isinstance(self.peername, tuple) else ""
        return host == "::1" or host.removeprefix("::ffff:").startswith("127.")

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """What is no HTTP, or fails by itself, gets an answer in the shape of all others, and nothing after it."""
        if isinstance(exc, EndedError):
            raise exc
        text = "The request is malformed"
        if status >= 500:
            text = "Internal server error"
            _log.error("the simulator failed at %s", request.path, exc_info=exc)
        response = rendered(Answer(status, orjson.dumps(Problem(status, text).content())))
        response.force_close()
        return response

    def reset(self) -> None:
        """End it with an RST, and drop what is not yet sent."""
        if self.transport is None:
            return
        connected = self.transport.get_extra_info("socket")
        connected.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self.transport.abort()

    def end(self) -> None:
        """End it once all that was written is sent."""
        if self.transport is not None:
            self.transport.close()

    def inject(self, data: bytes) -> None:
        """Write bytes that belong to no answer, if it is idle."""
        if self.transport is not None and not self.busy:
            self.transport.write(data)


class Connections(web.Server):
    """All connections of one listener."""

    def __init__(self, handler: Handler) -> None:
        super().__init__(handler, request_factory=self._request)
        self.opened = 0
        self.open = 0

    def __call__(self) -> Connection:
        """Begin one."""
        # The journal shows the bytes as they came, so they are not decompressed.
        return Connection(self, access_log=None, max_line_size=MAX_LINE, max_field_size=MAX_LINE, auto_decompress=False)

    def connection_made(self, handler: web.RequestHandler, transport: asyncio.Transport) -> None:
        """Count it."""
        super().connection_made(handler, transport)
        self.opened += 1
        self.open += 1

    def connection_lost(self, handler: web.RequestHandler, exc: BaseException | None = None) -> None:
        """Tell whoever waits for its caller."""
        super().connection_lost(handler, exc)
        self.open -= 1
        assert isinstance(handler, Connection)
        if handler.on_left is not None:
            handler.on_left()

    def _request(
        self,
        message: RawRequestMessage,
        payload: StreamReader,
        protocol: web.RequestHandler,
        writer: AbstractStreamWriter,
        task: "asyncio.Task[None]",
    ) -> web.BaseRequest:
        loop = asyncio.get_running_loop()
        return web.BaseRequest(message, payload, protocol, writer, task, loop, client_max_size=MAX_BODY)


async def read_body(request: web.BaseRequest) -> bytes:
    """The body as it came; web.HTTPRequestEntityTooLarge beyond MAX_BODY."""
    if request.headers.get("Expect", "").lower() == "100-continue":
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    return await request.read()


def decoded(body: bytes, encoding: str) -> bytes:
    """The body without its gzip or deflate."""
    if encoding in ("", "identity"):
        return body
    try:
        window = {"gzip": zlib.MAX_WBITS | 16, "deflate": zlib.MAX_WBITS}[encoding]
        plain = zlib.decompressobj(window)
        document = plain.decompress(body, MAX_BODY)
    except (KeyError, zlib.error) as error:
        raise Problem(400, "The request body could not be decoded") from error
    if not plain.eof:
        raise Problem(413, "The request body is too large or cut off")
    return document


def printable(text: str) -> str:
    """Bytes that are not UTF-8, which aiohttp gives as lone surrogates, in a form that fits into JSON."""
    return text if text.isascii() else text.encode(errors="surrogateescape").decode(errors="backslashreplace")


def rendered(answer: Answer) -> web.Response:
    """An answer as aiohttp sends it."""
    if not answer.body:
        return web.Response(status=answer.status, headers={"Server": NAME})
    headers = {"Server": NAME, "Content-Type": "application/json"}
    return web.Response(status=answer.status, body=answer.body, headers=headers)
