"""One HTTP/2 connection to Talon.One: many exchanges at a time, each on a stream of its own (RFC 9113, client side).

What it guarantees, beside what `http1` does: an exchange that the peer says it has not processed (REFUSED_STREAM, or
above the last stream of a GOAWAY) fails as never sent. Streams below that finish, while no new one begins. What is
wrong with one answer ends its stream; what is wrong with the connection ends all. An exchange that takes too long is
cancelled alone. Nobody is held up by a stream that stalls: the connection's window is renewed as bytes come in, a
stream's as they are read.

What a peer may cost is bounded: by `h2frames` and `hpack` per header block, by MOST_IDLE_FRAMES over all. It must
acknowledge our settings, and answer a PING when it has been silent with exchanges under way.

OPENING ⇒ SERVING ⇒ LEAVING ⇒ CLOSED; any ⇒ CLOSED. An exchange that is given up late, but whose end shall be seen, is
a stream that is left open: nothing else is touched by it.
"""

import asyncio
import select
from collections import deque
from collections.abc import Callable
from enum import Enum, auto
from typing import Final, cast

from proxy.errors import BadReply, ConnectionLost, ProxyError, ResponseTimeout
from proxy.messages import Reply, Sent
from proxy.wire import connection, h2frames
from proxy.wire.buffers import Buffers
from proxy.wire.connection import HTTP2, POLITE, Closing, Exchange
from proxy.wire.h2fields import ReplyHeads, RequestBlocks, check_trailers
from proxy.wire.h2frames import LEAST_FRAME, MOST_FRAME, MOST_STREAM, MOST_WINDOW, Code, Frame, Setting, Violation
from proxy.wire.h2stream import WINDOW, Stream
from proxy.wire.hpack import Decoder
from proxy.wire.wheel import NEVER, Wheel

MOST_STREAMS: Final = 100  # exchanges at a time on one connection, where the peer takes more
CONNECTION_WINDOW: Final = 1 << 24  # bytes that may be on their way on all streams together
FIRST_WINDOW: Final = 65535  # of everything, until told otherwise (RFC 9113 §6.9.2)
SETTINGS_WAIT: Final = 10.0  # seconds for the peer to acknowledge ours
SILENCE: Final = 5.0  # seconds without a byte, while exchanges are under way, after which a PING asks
PING_WAIT: Final = 5.0  # seconds for the answer
MOST_IDLE_FRAMES: Final = 10_000  # that bring no answer further, from one whole answer to the next
REMEMBERED_RESETS: Final = 256  # streams cancelled by us, on which the peer may not know it yet
PEEK_AFTER: Final = 0.02  # seconds of silence after which the kernel is asked whether the peer has closed

_OUR_SETTINGS: Final = (
    (Setting.ENABLE_PUSH, 0),
    (Setting.INITIAL_WINDOW_SIZE, WINDOW),
    (Setting.MAX_HEADER_LIST_SIZE, 65536),
)
_GREETING: Final = (
    h2frames.PREFACE + h2frames.settings(_OUR_SETTINGS) + h2frames.window_update(0, CONNECTION_WINDOW - FIRST_WINDOW)
)


class State(Enum):
    """OPENING: the peer's settings have not come. LEAVING: no new exchange."""

    OPENING = auto()
    SERVING = auto()
    LEAVING = auto()
    CLOSED = auto()


class Connection(connection.Connection):
    """One connection; a `h2stream.Carrier` of its streams."""

    protocol = HTTP2

    def __init__(
        self,
        wheel: Wheel,
        *,
        reply_limit: int,
        buffers: Buffers,
        blocks: RequestBlocks,
        heads: ReplyHeads,
        freed: Callable[[connection.Connection], None],
        changed: Callable[[connection.Connection], None],
        lost: Callable[[connection.Connection], None],
    ) -> None:
        """`changed`: `slots` is another number than before."""
        super().__init__(wheel, freed=freed, lost=lost)
        self._changed = changed
        self._reply_limit = reply_limit
        self._buffers = buffers
        self._blocks = blocks
        self._heads = heads
        self.state = State.OPENING
        self.goaway: int | None = None  # code with which the peer said that it will close
        self._leaving_for = Closing.GOAWAY
        self._settled: asyncio.Future[None] | None = None
        self._alarm = wheel.alarm(self._alarmed)  # for the exchange that is due first, or an earlier one
        self._pulse = wheel.alarm(self._pulsed)  # for a peer that is silent
        self._settings_due = NEVER
        self._heard = 0.0
        self._pinged = False
        # What we write.
        self._streams: dict[int, Stream] = {}
        self._last = -1  # number of the latest stream
        self._blocked: deque[Stream] = deque()  # with a body to write, in turn
        self._window = FIRST_WINDOW
        self._stream_window = FIRST_WINDOW
        self._frame_limit = LEAST_FRAME
        self._most = MOST_STREAMS  # streams, as the peer and its health allow
        self._choked = False  # the transport has enough for now
        # What we read.
        self._frames = h2frames.FrameReader()
        self._decoder = Decoder()
        self._credit = CONNECTION_WINDOW
        self._reset: deque[int] = deque(maxlen=REMEMBERED_RESETS)
        self._idle_frames = 0

    def __repr__(self) -> str:
        return f"<http2.Connection {self.state.name} streams={len(self._streams)}/{self.slots} served={self.served}>"

    # --- for the pool ---

    async def ready(self) -> None:
        """OPENING ⇒ SERVING: the peer's settings have come. Raises UpstreamError, sent=no."""
        if self.state is State.OPENING:
            self._settled = asyncio.get_running_loop().create_future()
            await self._settled
        if self.state is State.CLOSED:
            raise ConnectionLost("The connection ended before HTTP/2 could begin", sent=Sent.NO)

    def hung_up(self, now: float) -> bool:
        """See `connection.Connection`."""
        if self._transport.is_closing():
            return True
        if now - self._heard < PEEK_AFTER:
            return False
        number = self._transport.get_extra_info("socket").fileno()
        if number < 0:
            return True  # gone, and `connection_lost` on its way
        poll = select.poll()
        # Not for what can be read, as in HTTP/1.1: a PING or new settings may come at any time.
        poll.register(number, select.POLLRDHUP)
        return bool(poll.poll(0))

    def retire(self, reason: Closing) -> None:
        """SERVING ⇒ LEAVING, or ⇒ CLOSED."""
        if self.state is State.SERVING:
            self.state = State.LEAVING
            self._leaving_for = reason
            self.slots = 0
        self._close_when_empty()

    def close(self, reason: Closing) -> None:
        """See `connection.Connection`."""
        self._close(reason, Code.NO_ERROR)

    def send(self, exchange: Exchange, head: bytes, body: bytes, *, timeout: float) -> None:
        """See `connection.Connection`."""
        assert self.state is State.SERVING, self
        assert len(self._streams) < self.slots, self
        now = self._clock()
        timeline = exchange.timeline
        timeline.reused = self.served > 0
        timeline.protocol = self.protocol
        timeline.sent = now
        timeline.first_byte = 0.0
        self.served += 1
        if not self._streams:
            self._await_life(now)
        number = self._last = self._last + 2
        due = now + timeout
        stream = self._streams[number] = Stream(
            number,
            exchange,
            body,
            carrier=self,
            reply_limit=self._reply_limit,
            buffers=self._buffers,
            window=self._stream_window,
            timeout=timeout,
            due=due,
        )
        if self._alarm.due > due:
            self._alarm.set(due)
        if number >= MOST_STREAM - 2:
            self._stop_beginning(Closing.AGE)
        frames = h2frames.headers(number, self._blocks.encode(head), ends_stream=not body, limit=self._frame_limit)
        exchange.sent()
        size = len(body)
        if not size:
            self._transport.write(frames)
        elif size <= self._window and size <= stream.window and size <= self._frame_limit and not self._choked:
            # As nearly every request: whole in one piece.
            self._window -= size
            stream.window -= size
            stream.written = size
            self._transport.write(
                b"%b%b%b" % (frames, h2frames.frame_head(h2frames.DATA, h2frames.END_STREAM, number, size), body)
            )
        else:
            self._transport.write(frames)
            self._blocked.append(stream)
            self._write_bodies()

    # --- the transport speaks ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Speak first (RFC 9113 §3.4)."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is one by behaviour, not by class
        self.opened = self.idle_since = self._heard = self._clock()
        self._settings_due = self.opened + SETTINGS_WAIT
        self._pulse.set(self._settings_due)
        self._transport.write(_GREETING)

    def connection_lost(self, exc: Exception | None) -> None:
        """⇒ CLOSED."""
        if self.closing is None:
            # Without an exchange a reset is only a ruder way to close.
            self.closing = Closing.ERROR if self._streams and self.goaway is None else self._left_by_peer()
        self._end()

    def eof_received(self) -> bool:
        """The peer sends nothing more: no answer can come."""
        self._close(Closing.ERROR if self._streams and self.goaway is None else self._left_by_peer(), None)
        return False

    def pause_writing(self) -> None:
        """Bodies wait. Heads do not: an exchange begins in the step in which it is sent."""
        self._choked = True

    def resume_writing(self) -> None:
        """Go on."""
        self._choked = False
        self._write_bodies()

    def data_received(self, data: bytes) -> None:
        """Take frames."""
        if self.state is State.CLOSED:
            return
        self._heard = self._clock()
        self._pinged = False
        self._frames.feed(data)
        try:
            self._take_all()
        except Violation as violation:
            self._close(Closing.ERROR, violation.code, f"Not HTTP/2 as it should be: {violation}")

    # --- reading ---

    def _take_all(self) -> None:
        # What a frame sets off may be the end of the connection.
        while self.state is not State.CLOSED and (frame := self._frames.next()) is not None:
            self._take(frame)

    def _take(self, frame: Frame) -> None:
        kind = frame.kind
        if kind == h2frames.DATA:
            self._take_data(frame)
        elif kind == h2frames.HEADERS:
            self._take_headers(frame)
        elif kind == h2frames.WINDOW_UPDATE:
            self._take_window_update(frame)
        elif kind == h2frames.RST_STREAM:
            self._take_reset(frame)
        elif kind == h2frames.SETTINGS:
            self._take_settings(frame)
        elif kind == h2frames.PING:
            self._take_ping(frame)
        elif kind == h2frames.GOAWAY:
            self._take_goaway(frame)
        elif kind == h2frames.PUSH_PROMISE:
            raise Violation(Code.PROTOCOL_ERROR, "A push, which our settings forbid")
        else:
            self._count_idle()  # PRIORITY, and what extensions may have

    def _count_idle(self) -> None:
        self._idle_frames += 1
        if self._idle_frames > MOST_IDLE_FRAMES:
            raise Violation(Code.ENHANCE_YOUR_CALM, "Too many frames that bring nothing")

    def _find(self, frame: Frame) -> Stream | None:
        """Give a frame's stream; None: one that we have cancelled. Raises Violation where it can have no such frame."""
        number = frame.stream
        stream = self._streams.get(number)
        if stream is None:
            self._check_known(number)
            if number not in self._reset:
                raise Violation(Code.STREAM_CLOSED, "A frame came for a stream that had ended")
            self._count_idle()
        return stream

    def _check_known(self, number: int) -> None:
        if not number & 1 or number > self._last:
            raise Violation(Code.PROTOCOL_ERROR, "A frame came for a stream that nobody has begun")

    def _take_headers(self, frame: Frame) -> None:
        fields = self._decoder.decode(frame.payload)  # always: the table is shared by all
        stream = self._find(frame)
        if stream is None:
            return
        timeline = stream.exchange.timeline
        if not timeline.first_byte:
            timeline.first_byte = self._heard
        try:
            if stream.headed:
                if not frame.ends_stream:
                    raise BadReply("A second head came in an answer", sent=Sent.MAYBE)
                check_trailers(fields)
                stream.check_whole()
            else:
                stream.take_head(self._heads.read(fields), last=frame.ends_stream)
        except ProxyError as error:
            self._break_off(stream, error, ended=frame.ends_stream)
            return
        if frame.ends_stream and frame.stream in self._streams:
            self._finish(stream)

    def _take_data(self, frame: Frame) -> None:
        size = frame.size
        # The connection's window is renewed whoever reads: one stream that stalls must not hold up the others.
        self._credit -= size
        if self._credit < CONNECTION_WINDOW // 2:
            if self._credit < 0:
                raise Violation(Code.FLOW_CONTROL_ERROR, "More came than the connection's window allows")
            self._transport.write(h2frames.window_update(0, CONNECTION_WINDOW - self._credit))
            self._credit = CONNECTION_WINDOW
        stream = self._find(frame)
        if stream is None:
            return
        stream.credit -= size
        if stream.credit < 0:
            raise Violation(Code.FLOW_CONTROL_ERROR, "More came than a stream's window allows")
        if not frame.payload and not frame.ends_stream:
            self._count_idle()
        try:
            stream.take_data(frame.payload)
            if frame.ends_stream:
                stream.check_whole()
        except ProxyError as error:
            self._break_off(stream, error, ended=frame.ends_stream)
            return
        if frame.stream not in self._streams:
            return  # given up as soon as it was handed over
        if frame.ends_stream:
            self._finish(stream)
        else:
            self._renew_window(stream)

    def _renew_window(self, stream: Stream) -> None:
        if stream.flows and stream.credit < WINDOW // 2:
            self._transport.write(h2frames.window_update(stream.number, WINDOW - stream.credit))
            stream.credit = WINDOW

    def _take_reset(self, frame: Frame) -> None:
        self._count_idle()
        stream = self._streams.get(frame.stream)
        if stream is None:
            self._check_known(frame.stream)
            return
        code = frame.code
        if code == Code.REFUSED_STREAM:
            self._drop(stream, _untaken(stream))
            return
        if code == Code.ENHANCE_YOUR_CALM:
            self._limit_streams(max(self._most // 2, 1))
        self._drop(stream, stream.broken_off())

    def _take_settings(self, frame: Frame) -> None:
        if frame.flags & h2frames.ACK:
            self._settings_due = NEVER
            return
        self._count_idle()
        most = self._most
        for name, value in h2frames.read_settings(frame.payload):
            if name == Setting.MAX_CONCURRENT_STREAMS:
                most = min(value, MOST_STREAMS)
            elif name == Setting.INITIAL_WINDOW_SIZE:
                self._set_stream_window(value)
            elif name == Setting.MAX_FRAME_SIZE:
                if not LEAST_FRAME <= value <= MOST_FRAME:
                    raise Violation(Code.PROTOCOL_ERROR, "A frame size that none may have")
                self._frame_limit = min(value, WINDOW)
            elif name == Setting.ENABLE_PUSH and value:
                raise Violation(Code.PROTOCOL_ERROR, "A server cannot be pushed to")
        self._transport.write(h2frames.render(h2frames.SETTINGS, h2frames.ACK, 0))
        self._most = most
        if self.state is State.OPENING:
            self.state = State.SERVING
            self.slots = most
            if self._settled is not None and not self._settled.done():
                self._settled.set_result(None)
        else:
            self._limit_streams(most)
            self._write_bodies()

    def _set_stream_window(self, size: int) -> None:
        """Give every stream's window the difference, which may make it negative (RFC 9113 §6.9.2)."""
        if size > MOST_WINDOW:
            raise Violation(Code.FLOW_CONTROL_ERROR, "A window larger than any may be")
        change = size - self._stream_window
        self._stream_window = size
        for stream in self._streams.values():
            stream.window += change
            if stream.window > MOST_WINDOW:
                raise Violation(Code.FLOW_CONTROL_ERROR, "A stream's window is larger than any may be")

    def _limit_streams(self, most: int) -> None:
        self._most = most
        if self.state is State.SERVING and self.slots != most:
            self.slots = most
            self._changed(self)

    def _take_ping(self, frame: Frame) -> None:
        if not frame.flags & h2frames.ACK:
            self._count_idle()
            self._transport.write(h2frames.render(h2frames.PING, h2frames.ACK, 0, frame.payload))

    def _take_window_update(self, frame: Frame) -> None:
        increment = frame.number
        stream = None
        if frame.stream:
            stream = self._streams.get(frame.stream)
            if stream is None:
                self._check_known(frame.stream)
                self._count_idle()
                return
        if not increment:
            if stream is None:
                raise Violation(Code.PROTOCOL_ERROR, "A window is opened by nothing")
            self._break_off(stream, BadReply("A window is opened by nothing", sent=Sent.MAYBE))
        elif stream is None:
            self._window += increment
            if self._window > MOST_WINDOW:
                raise Violation(Code.FLOW_CONTROL_ERROR, "The connection's window is larger than any may be")
            self._write_bodies()
        else:
            stream.window += increment
            if stream.window > MOST_WINDOW:
                error = BadReply("A stream's window is larger than any may be", sent=Sent.MAYBE)
                self._break_off(stream, error, Code.FLOW_CONTROL_ERROR)
            elif stream.unwritten:
                self._write_bodies()
            else:
                self._count_idle()

    def _take_goaway(self, frame: Frame) -> None:
        """SERVING ⇒ LEAVING: what the peer has not taken goes elsewhere, the rest may finish."""
        self._count_idle()
        self.goaway = frame.code
        last = frame.number
        untaken = [stream for number, stream in self._streams.items() if number > last]
        # Before anybody is told: who begins again must not do so here.
        self._stop_beginning(Closing.GOAWAY)
        for stream in untaken:
            self._drop(stream, _untaken(stream))
        self._close_when_empty()

    # --- the end of an exchange ---

    def _finish(self, stream: Stream) -> None:
        """The answer is whole."""
        self._idle_frames = 0
        if stream.unwritten:
            # It came before the request was out: the rest of that is of no use (RFC 9113 §8.1).
            self._reset_stream(stream, Code.CANCEL)
        reply_stream = stream.reply_stream
        stream.exchange.timeline.answered = self._heard
        reply = None if reply_stream is not None else stream.reply()
        # First the slot is given back, so that what the answer sets off finds it.
        self._free(stream)
        if reply_stream is not None:
            reply_stream.end()
        elif reply is not None:
            stream.exchange.answered(reply)

    def _break_off(
        self, stream: Stream, error: ProxyError, code: Code = Code.PROTOCOL_ERROR, *, ended: bool = False
    ) -> None:
        """End one exchange with `error`, and its stream with it, unless both sides have `ended` that."""
        if stream.number in self._streams:
            if not ended or stream.unwritten:
                self._reset_stream(stream, code)
            self._drop(stream, error)

    def _drop(self, stream: Stream, error: ProxyError) -> None:
        """The exchange has failed, and its stream is closed."""
        if stream.number not in self._streams:
            return
        self._free(stream)
        self._tell(stream, error)

    def _tell(self, stream: Stream, error: ProxyError) -> None:
        if stream.reply_stream is not None:
            stream.reply_stream.end(error)
        else:
            stream.exchange.timeline.answered = self._clock()
            stream.exchange.failed(error)

    def _reset_stream(self, stream: Stream, code: Code) -> None:
        self._reset.append(stream.number)
        self._transport.write(h2frames.rst_stream(stream.number, code))

    def _free(self, stream: Stream) -> None:
        """Its slot is free again."""
        del self._streams[stream.number]
        self.held -= stream.held
        if stream.unwritten and stream in self._blocked:
            self._blocked.remove(stream)
        if not self._streams:
            self.idle_since = self._clock()
        self._close_when_empty()
        self._freed(self)

    # --- a stream speaks ---

    def hand_over(self, stream: Stream, reply: Reply) -> None:
        """See `h2stream.Carrier`."""
        stream.exchange.timeline.answered = self._heard
        stream.exchange.answered(reply)

    def awaits(self, stream: Stream) -> None:
        """See `h2stream.Carrier`."""
        if stream.number in self._streams:
            stream.due = self._clock() + stream.timeout
            if self._alarm.due > stream.due:
                self._alarm.set(stream.due)
            self._renew_window(stream)

    def cancel(self, stream: Stream) -> None:
        """See `h2stream.Carrier`."""
        if stream.number in self._streams:
            self._reset_stream(stream, Code.CANCEL)
            self._free(stream)

    # --- writing bodies ---

    def _write_bodies(self) -> None:
        """Write what the windows allow: a frame of each stream in turn, so that a large body delays no small one."""
        blocked = self._blocked
        stuck = 0  # streams in a row whose own window is closed
        while blocked and stuck < len(blocked) and self._window > 0 and not self._choked:
            stream = blocked.popleft()
            size = min(stream.unwritten, stream.window, self._window, self._frame_limit)
            if size <= 0:
                stuck += 1
                blocked.append(stream)
                continue
            stuck = 0
            piece = stream.body[stream.written : stream.written + size]
            stream.written += size
            stream.window -= size
            self._window -= size
            flags = 0 if stream.unwritten else h2frames.END_STREAM
            if stream.unwritten:
                blocked.append(stream)
            self._transport.write(h2frames.render(h2frames.DATA, flags, stream.number, piece))

    # --- time ---

    def _alarmed(self) -> None:
        """The alarm stands from exchange to exchange; see whose time is over."""
        now = self._clock()
        for stream in [stream for stream in self._streams.values() if stream.due <= now]:
            hold = stream.exchange.overdue() if not stream.held and stream.reply_stream is None else 0.0
            if hold:
                stream.held = True
                self.held += 1
                stream.due = now + hold
            else:
                error = ResponseTimeout("No complete answer within upstream.timeouts.response", sent=Sent.MAYBE)
                self._break_off(stream, error, Code.CANCEL)
        due = min([stream.due for stream in self._streams.values()], default=NEVER)
        if due < NEVER:
            self._alarm.set(due)

    def _await_life(self, now: float) -> None:
        if self._pulse.due > now + SILENCE:
            self._pulse.set(now + SILENCE)

    def _pulsed(self) -> None:
        """See whether the peer is alive, if that matters to anybody."""
        now = self._clock()
        if self._settings_due <= now:
            self._close(Closing.ERROR, Code.SETTINGS_TIMEOUT)
            return
        due = self._settings_due
        if self._streams:
            if now - self._heard < SILENCE:
                due = min(due, self._heard + SILENCE)
            elif not self._pinged:
                self._pinged = True
                self._transport.write(h2frames.render(h2frames.PING, 0, 0, bytes(8)))
                due = min(due, now + PING_WAIT)
            else:
                self._close(Closing.ERROR, Code.NO_ERROR)
                return
        if due < NEVER:
            self._pulse.set(due)

    # --- the end ---

    def _left_by_peer(self) -> Closing:
        return Closing.PEER if self.goaway is None else Closing.GOAWAY

    def _stop_beginning(self, reason: Closing) -> None:
        if self.state is State.SERVING:
            self.state = State.LEAVING
            self._leaving_for = reason
            self.slots = 0
            self._changed(self)

    def _close_when_empty(self) -> None:
        if self.state is State.LEAVING and not self._streams:
            self.close(self._leaving_for)

    def _close(self, reason: Closing, code: Code | None, details: str | None = None) -> None:
        """⇒ CLOSED, with a GOAWAY of `code`; exchanges under way end as lost, or with a BadReply of these `details`."""
        if self.state is State.CLOSED:
            return
        self.closing = reason
        polite = reason in POLITE or reason is Closing.GOAWAY or bool(code)
        if polite and code is not None and not self._transport.is_closing():
            self._transport.write(h2frames.goaway(code))
        self._end(details)
        if polite:
            self._transport.close()
        else:
            self._transport.abort()

    def _end(self, details: str | None = None) -> None:
        """⇒ CLOSED. Tells every exchange under way how far its answer had come."""
        if self.state is State.CLOSED:
            return
        self.state = State.CLOSED
        self.slots = 0
        self._alarm.end()
        self._pulse.end()
        if self._settled is not None and not self._settled.done():
            self._settled.set_result(None)
        streams = list(self._streams.values())
        self._streams.clear()
        self._blocked.clear()
        # First the pool: who begins again must not do so here.
        self._lost(self)
        for stream in streams:
            self._tell(stream, BadReply(details, sent=Sent.MAYBE) if details is not None else stream.broken_off())


def _untaken(stream: Stream) -> ProxyError:
    """Give the error of a call that the peer says it has not processed (RFC 9113 §6.8, §8.7)."""
    if stream.headed:
        return stream.broken_off()  # it has, whatever it says
    return ConnectionLost("Talon.One has not taken the call", sent=Sent.NO)
