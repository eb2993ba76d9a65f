"""One HTTP/1.1 connection to Talon.One: a request's bytes out, a reply in, one exchange at a time.

What it guarantees: an exchange ends with a Reply or with an UpstreamError that says whether any byte was written;
a connection that saw anything it did not ask for, or an exchange that did not end cleanly, never serves again.
Replies up to `reply_limit` are held whole; a larger one becomes a stream that stops reading while its caller does
not. It does not choose connections, repeat anything or know what it carries.
"""

import asyncio
import select
from collections.abc import Callable
from enum import Enum, auto
from typing import Final, cast

import httptools

from proxy.errors import ConnectionLost, IncompleteReply, ProxyError, ReplyTooLarge, ResponseTimeout
from proxy.messages import Sent, Timeline
from proxy.wire import connection
from proxy.wire.buffers import SMALL, Buffers, Share
from proxy.wire.chunked import BadChunk, ChunkedDecoder
from proxy.wire.connection import HTTP1, POLITE, Closing, Exchange
from proxy.wire.heads import MAX_FIELD, MAX_INTERIM, MAX_REPLY_HEAD, ReplyHead, ReplyParser, bad_reply, reply_probe
from proxy.wire.replystream import ReplyStream
from proxy.wire.wheel import Wheel

SURELY_OUT: Final = (
    8192  # bytes that an idle connection's socket takes at once, whatever the peer does (tcp(7), tcp_wmem)
)
JOIN_BELOW: Final = 65536  # head and body go out as one piece below this size
PEEK_AFTER: Final = 0.02  # seconds of idleness after which the socket is asked; a busy pool saves 2 µs a call


class State(Enum):
    """OPENING ⇒ IDLE ⇄ ACTIVE ⇒ HELD ⇒ CLOSED; any ⇒ CLOSED. HELD: only the end of an exchange is waited for."""

    OPENING = auto()
    IDLE = auto()
    ACTIVE = auto()
    HELD = auto()
    CLOSED = auto()


class Connection(connection.Connection):
    """One connection. The pool's, or an exchange's, or closed: never two at a time."""

    protocol = HTTP1

    def __init__(
        self,
        wheel: Wheel,
        *,
        reply_limit: int,
        buffers: Buffers,
        parser: ReplyParser,
        freed: Callable[[connection.Connection], None],
        lost: Callable[[connection.Connection], None],
    ) -> None:
        super().__init__(wheel, freed=freed, lost=lost)
        self._reply_limit = reply_limit
        self._buffers = buffers
        self._parser = parser
        self.state = State.OPENING
        self._alarm = wheel.alarm(self._alarmed)
        self._talkative = False
        self._lengthy = False  # the request under way: it may not be out yet when the answer comes
        self._timeout = 0.0  # of the exchange under way, in seconds
        self._due = 0.0  # its end
        self._timeline = Timeline(0.0, 0.0)  # its caller's, or that of the last one
        self._forget()

    def _forget(self) -> None:
        """Nothing of the last exchange may touch the next."""
        self._exchange: Exchange | None = None
        self._head: ReplyHead | None = None
        self._missing: int | None = None  # bytes of a body with a length
        self._buffer = b""  # of an unfinished head
        self._probe: httptools.HttpResponseParser | None = None
        self._interim = 0
        self._decoder: ChunkedDecoder | None = None
        self._pieces: list[bytes] = []
        self._held = 0
        self._share: Share | None = None  # of a large body
        self._stream: ReplyStream | None = None

    def __repr__(self) -> str:
        return f"<http1.Connection {self.state.name} served={self.served}>"

    # --- for the pool ---

    def hung_up(self, now: float) -> bool:
        """See `connection.Connection`; or the peer said something unasked, which is as bad."""
        if self._transport.is_closing():
            return True
        if now - self.idle_since < PEEK_AFTER:
            return False
        number = self._transport.get_extra_info("socket").fileno()
        if number < 0:
            return True  # gone, and `connection_lost` on its way
        poll = select.poll()
        poll.register(number, select.POLLIN | select.POLLRDHUP)
        events = poll.poll(0)
        if not events:
            return False
        # Session tickets come after the handshake (RFC 8446 §4.6.1): bytes on a new connection need not be unasked for.
        tickets = self.served == 0 and self._transport.get_extra_info("sslcontext") is not None
        return events[0][1] != select.POLLIN or not tickets

    def retire(self, reason: Closing) -> None:
        """See `connection.Connection`."""
        # Once its exchange has ended, the pool asks again.
        if not self.lent:
            self.close(reason)

    def abandon(self) -> None:
        """See `replystream.Feed`."""
        self.close(Closing.ERROR)

    def close(self, reason: Closing) -> None:
        """See `connection.Connection`."""
        if self.state is not State.CLOSED:
            self.closing = reason
            self._end()
            if reason in POLITE:
                self._transport.close()
            else:
                self._transport.abort()

    def send(self, exchange: Exchange, head: bytes, body: bytes, *, timeout: float) -> None:
        """IDLE ⇒ ACTIVE. See `connection.Connection`."""
        assert self.state is State.IDLE, self
        now = self._clock()
        timeline = self._timeline = exchange.timeline
        timeline.reused = self.served > 0
        timeline.protocol = self.protocol
        timeline.sent = now
        timeline.first_byte = 0.0
        self.served += 1
        self.state = State.ACTIVE
        self._exchange = exchange
        self._timeout = timeout
        self._due = now + timeout
        if self._alarm.due > self._due:
            # Left standing from exchange to exchange: it fires once per timeout, not once per call.
            self._alarm.set(self._due)
        exchange.sent()
        self._lengthy = len(head) + len(body) > SURELY_OUT
        if len(body) < JOIN_BELOW:
            self._transport.write(head + body)
        else:
            self._transport.writelines((head, body))

    # --- the transport speaks ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """OPENING ⇒ IDLE."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is one by behaviour, not by class
        self.opened = self.idle_since = self._clock()
        self.state = State.IDLE
        self.slots = 1

    def connection_lost(self, exc: Exception | None) -> None:
        """⇒ CLOSED."""
        if self.closing is None:
            # Without an exchange a reset is only a ruder way to close.
            self.closing = Closing.PEER if self._exchange is None else Closing.ERROR
        self._end()

    def eof_received(self) -> bool:
        """The end of a body without a length, or a loss; either way the last of this connection."""
        # Closed here and not in connection_lost, turns later: until then an idle one could be handed out, and an
        # active one would go on writing a request to a peer that will not answer it.
        if self._exchange is None:
            self.close(Closing.PEER)
        elif self._head is not None and self._decoder is None and self._missing is None:
            self._finish(reusable=False)
        else:
            self.close(Closing.ERROR)
        return False

    def data_received(self, data: bytes) -> None:
        """Take what came: part of the answer, or a reason to close."""
        if self._exchange is None:
            # Unasked: an answer to nobody, a 408, garbage (U16). Who sends that may not have the next request.
            self.close(Closing.PEER)
            return
        try:
            self._take(data)
        except ProxyError as error:
            self._fail(error)

    # --- reading a reply ---

    def _take(self, data: bytes) -> None:
        if not self._timeline.first_byte:
            self._timeline.first_byte = self._clock()
        position = 0
        while self._head is None:
            position = self._take_head(data, position)
            if position >= len(data) or self._exchange is None:  # a stream was given up as soon as it was told of
                break
        head = self._head
        if head is None:
            return
        if len(data) - position == self._missing and not self._pieces and self._stream is None:
            # As nearly every answer: whole in one piece.
            self._complete(head, data[position:], reusable=True)
        else:
            self._take_body(data, position)

    def _take_head(self, data: bytes, position: int) -> int:
        """Take bytes of a head; returns where they end."""
        known = len(self._buffer)
        buffer = self._buffer + data[position:] if known or position else data
        end = buffer.find(b"\r\n\r\n", max(known - 3, 0))
        if end < 0:
            if len(buffer) > MAX_REPLY_HEAD:
                raise bad_reply("The head is too large")
            if self._probe is None:
                self._probe = reply_probe()
            try:
                self._probe.feed_data(buffer[known:])
            except httptools.HttpParserError as error:
                raise bad_reply("The head is not valid HTTP/1.1") from error
            self._buffer = buffer
            return len(data)
        end += 4
        self._buffer = b""
        self._probe = None
        if end > MAX_REPLY_HEAD:
            raise bad_reply("The head is too large")
        head = self._parser.parse(buffer if end == len(buffer) else buffer[:end])
        # A peer this talkative is out of order; its answer counts, and is its last.
        self._talkative = end > MAX_FIELD
        if head.interim:
            self._interim += 1
            if self._interim > MAX_INTERIM:
                raise bad_reply("Too many interim answers")
        else:
            self._begin(head)
        return position + end - known

    def _begin(self, head: ReplyHead) -> None:
        assert self._exchange is not None
        self._head = head
        if self._exchange.method == b"HEAD" or head.status in (204, 304):
            self._missing = 0
        elif head.fields.chunked:
            self._decoder = ChunkedDecoder()
        else:
            self._missing = head.length
        if self._missing is not None and self._missing > self._reply_limit:
            self._start_stream()

    def _take_body(self, data: bytes, position: int) -> None:
        rest = len(data) - position
        decoder = self._decoder
        if decoder is not None:
            pieces: list[bytes] = []
            try:
                position = decoder.feed(data, position, pieces)
            except BadChunk as error:
                raise bad_reply("The body is not chunked as RFC 9112 §7.1 has it") from error
            for piece in pieces:
                self._hold(piece)
            if decoder.done and self._exchange is not None:
                self._finish(reusable=position == len(data))
        elif self._missing is None:
            self._hold(data[position:])
        elif rest >= self._missing:
            # More than the whole: the rest belongs to nobody, and the connection ends with it (C50).
            reusable = rest == self._missing
            if self._missing:
                self._hold(data[position:] if reusable else data[position : position + self._missing])
            self._finish(reusable=reusable)
        else:
            self._missing -= rest
            self._hold(data[position:])

    def _hold(self, piece: bytes) -> None:
        if not piece or self._exchange is None:  # a stream was given up while it was told of
            return
        if self._stream is not None:
            self._stream.put(piece)
            self._await_piece()
            return
        self._pieces.append(piece)
        self._held += len(piece)
        if self._held > self._reply_limit or (self._held > SMALL and not self._count(self._held)):
            self._start_stream()

    def _count(self, size: int, *, anyway: bool = False) -> bool:
        """Count what is held of a large body; False: there is no room for it."""
        if self._share is None:
            self._share = self._buffers.share()
        return self._share.hold(size, anyway=anyway)

    def _start_stream(self) -> None:
        """The reply is too large to hold: hand over what there is, and the rest as it is read."""
        exchange, head = self._exchange, self._head
        assert exchange is not None
        assert head is not None
        if not exchange.may_stream:
            raise ReplyTooLarge("The answer is larger than limits.reply, or than what limits.buffered leaves")
        self._stream = ReplyStream(self, self._share or self._buffers.share())
        for piece in self._pieces:
            self._stream.put(piece)
        self._pieces = []
        self._await_piece()
        self._timeline.answered = self._clock()
        exchange.answered(head.begun(self._stream))

    def _await_piece(self) -> None:
        """Each piece of a stream gets the time a whole answer has: nobody knows how long a large one may take."""
        assert self._stream is not None
        if not self._stream.paused:
            self._due = self._clock() + self._timeout
            self._alarm.set(self._due)

    def resume(self) -> None:
        """The stream's reader goes on: the peer has its time again for the next piece."""
        if self._exchange is not None:
            self._await_piece()
            self._transport.resume_reading()

    def pause(self) -> None:
        """The stream's reader is slow: stop reading, and the clock with it."""
        self._alarm.clear()
        self._transport.pause_reading()

    def _finish(self, *, reusable: bool) -> None:
        """The answer is complete, and came in pieces."""
        head, stream, pieces = self._head, self._stream, self._pieces
        assert head is not None
        if stream is None:
            self._complete(head, pieces[0] if len(pieces) == 1 else b"".join(pieces), reusable=reusable)
            return
        if stream.paused:
            # Its reader is still slow, which must not be felt by the next exchange.
            self._transport.resume_reading()
        self._free(head, self._clock(), reusable=reusable)
        stream.end()

    def _complete(self, head: ReplyHead, body: bytes, *, reusable: bool) -> None:
        """The answer is whole: give the connection back first, so that what the answer sets off finds it."""
        exchange = self._exchange
        assert exchange is not None
        now = self._timeline.answered = self._clock()
        if len(body) > SMALL:
            self._count(len(body), anyway=True)
        share = self._share
        self._free(head, now, reusable=reusable)
        exchange.answered(head.whole(body, share, method=exchange.method))

    def _free(self, head: ReplyHead, now: float, *, reusable: bool) -> None:
        """ACTIVE ⇒ IDLE, or ⇒ CLOSED."""
        self.keep_alive = head.fields.keep_alive
        # An answer that came before the request was out leaves bytes on the way that nobody may take for the next.
        reusable = (
            reusable
            and head.fields.keeps
            and self.state is State.ACTIVE
            and not self._talkative
            and not (self._lengthy and self._transport.get_write_buffer_size())
        )
        self._forget()
        if reusable:
            self.state = State.IDLE
            self.idle_since = now
            self._freed(self)
        else:
            self.close(Closing.PEER)

    def _fail(self, error: ProxyError) -> None:
        """End the exchange under way with `error`, and the connection with it."""
        exchange, stream = self._exchange, self._stream
        self._forget()
        self.close(Closing.ERROR)
        if stream is not None:
            stream.end(error)
        elif exchange is not None:
            self._timeline.answered = self._clock()
            exchange.failed(error)

    def _alarmed(self) -> None:
        """The alarm stands from exchange to exchange; see whether this one's time is over."""
        if self._exchange is None:
            return
        if self._due > self._clock():
            self._alarm.set(self._due)
            return
        hold = self._exchange.overdue() if self.state is State.ACTIVE and self._stream is None else 0.0
        if hold:
            self.state = State.HELD
            self.held = 1
            self._due = self._clock() + hold
            self._alarm.set(self._due)
        else:
            self._fail(ResponseTimeout("No complete answer within upstream.timeouts.response", sent=Sent.MAYBE))

    def _end(self) -> None:
        """⇒ CLOSED. Tells the exchange under way, if any, how far its answer had come."""
        if self.state is State.CLOSED:
            return
        self.state = State.CLOSED
        self.slots = 0
        self._alarm.end()
        if self._exchange is not None:
            error: ProxyError
            if self._timeline.first_byte:
                error = IncompleteReply("The connection ended within the answer", sent=Sent.MAYBE)
            else:
                error = ConnectionLost("The connection ended before an answer", sent=Sent.MAYBE)
            self._fail(error)
        self._lost(self)
