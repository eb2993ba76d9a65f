"""A scripted Talon.One that speaks HTTP/2, on a real socket; the h2 library does the protocol, a test breaks it."""

import asyncio
import ssl
from collections.abc import Callable
from typing import Any, Self, cast

import h2.config
import h2.connection
import h2.events
import h2.exceptions
import h2.settings

from tests.h2_peer import Peer


class Served:
    """One call at the server, complete."""

    def __init__(self, line: "Http2Line", stream: int, headers: list[tuple[bytes, bytes]]) -> None:
        self.line = line
        self.stream = stream
        self.headers = headers  # as they came, repeats included
        self.fields = dict(headers)
        self.body = b""

    def reply(self, body: bytes = b"OK", status: int = 200, *fields: tuple[bytes, bytes]) -> None:
        """Answer it, as fast as the windows allow."""
        server = self.line.server
        length = (b"content-length", b"%d" % len(body))
        server.send_headers(self.stream, [(b":status", b"%d" % status), *fields, length], end_stream=not body)
        if body:
            self.line.unsent[self.stream] = body
        self.line.flush()

    def reset(self, code: int) -> None:
        """Break it off."""
        self.line.server.reset_stream(self.stream, code)
        self.line.flush()


class Http2Line(asyncio.Protocol):
    """One connection at the server."""

    def __init__(self, upstream: "Http2Upstream") -> None:
        self.upstream = upstream
        self.transport: asyncio.Transport
        self.server = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False, header_encoding=None))
        self.unsent: dict[int, bytes] = {}
        self.calls: dict[int, Served] = {}
        self.number = 0  # of its latest call
        self.last: int | None = None  # stream that it takes yet, once it has said that it goes away

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.upstream.lines.append(self)
        if self.upstream.silent:
            return
        self.server.local_settings = h2.settings.Settings(client=False, initial_values=self.upstream.settings)
        self.server.initiate_connection()
        self.flush()

    def data_received(self, data: bytes) -> None:
        if self.upstream.silent:
            return
        try:
            events = self.server.receive_data(data)
        except h2.exceptions.ProtocolError as error:
            self.upstream.violations.append(error)
            self.transport.close()
            return
        for event in events:
            self.happened(event)
        self.flush()

    def happened(self, event: Any) -> None:
        if isinstance(event, h2.events.RequestReceived):
            self.calls[event.stream_id] = Served(self, event.stream_id, list(event.headers))
        elif isinstance(event, h2.events.DataReceived):
            self.calls[event.stream_id].body += event.data
            self.server.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, h2.events.StreamEnded) and (self.last is None or event.stream_id <= self.last):
            self.number += 1
            call = self.calls.pop(event.stream_id)
            self.upstream.calls.append(call)
            self.upstream.answer(call)
        elif isinstance(event, h2.events.StreamReset):
            self.unsent.pop(event.stream_id, None)
            self.upstream.resets.append(event.stream_id)

    def goaway(self, last: int, code: int = 0) -> None:
        """Take nothing above a stream any more; what was taken goes on. The library cannot do that."""
        self.last = last
        self.flush()
        self.transport.write(Peer.goaway(last, code))

    def say(self, data: bytes) -> None:
        """Write bytes that the library would not."""
        self.flush()
        self.transport.write(data)

    def flush(self) -> None:
        """Write what there is, bodies as far as the windows go."""
        for stream, body in list(self.unsent.items()):
            while body and (room := self.server.local_flow_control_window(stream)) > 0:
                size = min(room, self.server.max_outbound_frame_size, len(body))
                self.server.send_data(stream, body[:size], end_stream=size == len(body))
                body = body[size:]
            self.unsent[stream] = body
            if not body:
                del self.unsent[stream]
        self.transport.write(self.server.data_to_send())


class Http2Upstream:
    """Listens. Without a script every call is answered with 200 OK."""

    def __init__(self, **settings: int) -> None:
        self.settings = {h2.settings.SettingCodes[name.upper()]: value for name, value in settings.items()}
        self.silent = False  # says not even its settings
        self.lines: list[Http2Line] = []
        self.calls: list[Served] = []
        self.resets: list[int] = []  # streams that the client has broken off
        self.violations: list[Exception] = []  # of the client
        self.answer: Callable[[Served], object] = Served.reply
        self.port = 0
        self._server: asyncio.Server

    async def start(self, tls: ssl.SSLContext | None = None) -> Self:
        """Listen; by TLS with h2 in ALPN."""
        if tls is not None:
            tls.set_alpn_protocols(["h2"])
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: Http2Line(self), "127.0.0.1", 0, ssl=tls)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def stop(self) -> None:
        """Close everything. Raises what the client did wrong."""
        self._server.close()
        for line in self.lines:
            line.transport.abort()
        await self._server.wait_closed()
        assert not self.violations
