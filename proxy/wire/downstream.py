"""One downstream HTTP/1.1 connection: bytes of a caller → Calls, and replies back, in the order of the calls.

What it guarantees: a Call is handed on only when its head is checked and its body complete; every Call is answered
exactly once, in order, or its caller has left; after anything that leaves framing in doubt nothing more is read
from that connection. At most `limits.pipeline` calls of one connection are unanswered; while they are, or while
the caller does not read its answers, nothing is read from it.

It knows nothing of routes, keys or Talon.One: that is the `Handler`'s.
"""

import asyncio
import select
import socket
import struct
from collections import deque
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final, Protocol, cast

import httptools

from proxy.errors import (
    BadMessage,
    BodyTooLarge,
    BuffersFull,
    DownstreamError,
    ProxyError,
    ReplyTooLarge,
    RequestTimeout,
    Unavailable,
    UpstreamError,
    to_reply,
)
from proxy.messages import Answer, Call, Reply, Source, Timeline
from proxy.wire.buffers import SMALL, Buffers, Share
from proxy.wire.chunked import BadChunk, ChunkedDecoder
from proxy.wire.fieldtable import FieldTable
from proxy.wire.heads import (
    METHODS,
    RequestHead,
    RequestLimits,
    RequestParser,
    Seen,
    check_unfinished,
    malformed,
    request_probe,
)
from proxy.wire.rendering import CONTINUE, LAST_CHUNK, DateLine, chunk, has_body, render_head
from proxy.wire.wheel import NEVER, Wheel

LINGER: Final = 1.0  # seconds a refused caller may go on sending before the connection is closed under it
LOOK_AGAIN: Final = 60.0  # seconds between looks whether an idle connection has stood long enough
FIRST_CALL: Final = 1.0  # seconds that a new connection has for its call when the listener closes meanwhile
LINGER_BYTES: Final = 64 << 20  # many callers read only after they have sent all of what was too large
JOIN_BELOW: Final = 65536  # head and body go out as one piece below this size
_CLOSE: Final = b"Connection: close\r\n"
_RESET: Final = struct.pack("ii", 1, 0)  # of SO_LINGER: do not say goodbye
_ALLOW: Final = ", ".join(sorted(method.decode() for method in METHODS)).encode()


class Waiter(Protocol):
    """What the handler gives for a call it took."""

    def leave(self) -> bool:
        """The caller is gone. True: there will be no answer; False: it is being made and will come."""
        ...


class Handler(Protocol):
    """Who answers the calls."""

    def submit(self, call: Call, answer: Answer) -> Waiter | None:
        """Take a call without awaiting anything. `answer` is called once, maybe before this returns (None)."""
        ...

    def own_lines(self, request_id: bytes | None) -> bytes:
        """Give the header lines of an answer that never was a Call."""
        ...

    def finished(self, call: Call, reply: Reply, *, whole: bool) -> None:
        """The answer was handed to the socket; not `whole`: it broke off, or its caller had left."""
        ...

    def rejected(self, reply: Reply, error: ProxyError) -> None:
        """A message that never became a Call was answered."""
        ...


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds; settings `timeouts.*`."""

    head: float
    body: float
    write: float
    keep_alive: float


@dataclass(frozen=True, slots=True)
class Limits:
    """Settings `limits.*` that concern callers: bounds of one request, of its connection, of all connections."""

    request: RequestLimits
    pipeline: int
    connections: int


class House:
    """What all connections of a listener share: who answers them, the rules they are held to, and each other."""

    def __init__(
        self,
        handler: Handler,
        wheel: Wheel,
        table: FieldTable,
        buffers: Buffers,
        limits: Limits,
        timeouts: Timeouts,
        *,
        date: DateLine | None = None,
    ) -> None:
        self.handler = handler
        self.wheel = wheel
        self.buffers = buffers
        self.date = date or DateLine()
        self.draining = False
        self.connections: set[Connection] = set()
        self.empty = asyncio.Event()
        self.empty.set()
        self._table = table
        self.follow(limits, timeouts)

    def follow(self, limits: Limits, timeouts: Timeouts) -> None:
        """Hold callers to these from now on, those that are connected too."""
        self.parser = RequestParser(limits.request, self._table)
        self.limits = limits
        self.timeouts = timeouts
        # Tells a caller how long its connection is kept.
        self.kept_line = b"Connection: keep-alive\r\nKeep-Alive: timeout=%d\r\n" % int(timeouts.keep_alive)

    def __repr__(self) -> str:
        return f"<House connections={len(self.connections)}>"

    def admit(self, connection: "Connection") -> bool:
        """Count a new connection; False: there are too many."""
        self.connections.add(connection)
        self.empty.clear()
        return len(self.connections) <= self.limits.connections

    def forget(self, connection: "Connection") -> None:
        """A connection is closed."""
        self.connections.discard(connection)
        if not self.connections:
            self.empty.set()


class Phase(Enum):
    """What a connection's next byte is part of."""

    IDLE = auto()  # a new head
    HEAD = auto()  # a head that has begun
    BODY = auto()
    LAST = auto()  # nothing: the last call of this connection has been read
    LINGER = auto()  # nothing: refused, and the refusal is being read by the caller
    CLOSED = auto()


class _Slot:
    """The place of one call in the order of answers."""

    __slots__ = ("_connection", "_left", "call", "closes", "lines", "old", "reply", "waiter")

    def __init__(self, connection: "Connection", call: Call | None, *, closes: bool, old: bool) -> None:
        self._connection = connection
        self.call = call
        self.closes = closes
        self.old = old
        self.reply: Reply | None = None
        self.lines = b""
        self.waiter: Waiter | None = None
        self._left = False

    def answer(self, reply: Reply, lines: bytes) -> None:
        self.reply = reply
        self.lines = lines
        self._connection.answered(self)

    def leave(self) -> None:
        """The caller is gone; told once."""
        if self.reply is None and self.waiter is not None and not self._left:
            self._left = True
            if self.waiter.leave():
                self.waiter = None


class Connection(asyncio.Protocol):
    """One downstream connection."""

    def __init__(self, house: House) -> None:
        self._house = house
        self._clock = house.wheel.clock
        self._transport: asyncio.Transport
        # Reading
        self.phase = Phase.IDLE
        self._head = bytearray()  # of an unfinished head
        self._probe: httptools.HttpRequestParser | None = None
        self._usual: Seen | None = None  # of the last head
        self._blank_lines = 0
        self._arrived = 0.0
        self._request: RequestHead | None = None
        self._pieces: list[bytes] = []
        self._held = 0  # bytes of these
        self._share: Share | None = None  # of a large body
        self._missing = 0  # bytes of a body with a length
        self._decoder: ChunkedDecoder | None = None
        self._continue_owed = False
        self._backlog = b""  # read, not parsed: behind `limits.pipeline` calls, or while the caller does not read
        self._turn_taken = False  # the backlog's turn is on the loop's list
        self._paused = False
        self._more = False  # bytes behind the call being taken came in the same segment
        self._lingered = 0
        self._reading = house.wheel.alarm(self._read_timeout)
        self._idle_since = -NEVER  # when the last answer was written
        self._fresh = True  # no call has come yet
        # Answering
        self._slots: deque[_Slot] = deque()
        self._blocked = False  # the caller does not read
        self._unblocked: asyncio.Future[None] | None = None
        self._untaken: list[object] = []  # shares of large answers that wait for that
        self._writing = house.wheel.alarm(self._write_timeout)
        self._pump: asyncio.Task[None] | None = None
        self._half_closed = False

    def __repr__(self) -> str:
        return f"<Connection {self.phase.name} unanswered={len(self._slots)}>"

    @property
    def idle(self) -> bool:
        """Between calls: nothing was read that is not answered."""
        return self.phase is Phase.IDLE and not self._slots and not self._backlog

    @property
    def unwritten(self) -> int:
        """How many answers, or the rest of one, have not reached the socket yet."""
        held = sum(slot.reply is not None for slot in self._slots)
        return held or int(self._transport.get_write_buffer_size() > 0)

    def close_if_idle(self) -> None:
        """Close, unless something was read, or can be read, that is not answered yet.

        One that has only just connected gets `FIRST_CALL` seconds: its caller was never told to stay away.
        """
        if not self.idle or self._readable():
            return
        first_call = self._arrived + FIRST_CALL
        if self._idle_since == -NEVER and first_call > self._clock():
            self._reading.set(first_call)
        else:
            self._transport.close()

    def abort(self) -> None:
        """Close without finishing anything.

        An answer that is cut off ends in a reset: one without a length (HTTP/1.0) ends with the connection, and an
        orderly end would make it look whole (C47).
        """
        if self._pump is not None or self._transport.get_write_buffer_size():
            self._transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self._transport.abort()

    def _readable(self) -> bool:
        """Bytes wait in the kernel that the loop has not read yet."""
        poll = select.poll()
        poll.register(self._transport.get_extra_info("socket").fileno(), select.POLLIN)
        return bool(poll.poll(0))

    # --- the transport speaks ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start to read, unless there are too many connections."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is one by behaviour, not by class
        self._arrived = self._clock()
        if not self._house.admit(self):
            self._refuse(Unavailable("Too many connections (limits.connections)"))
            return
        # The first head is due as if it had begun: a connection that never says anything is not kept for an hour.
        self._reading.set(self._arrived + self._house.timeouts.head)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget everything; callers still unanswered have left."""
        self._reading.end()
        self._writing.end()
        self._house.forget(self)
        self._drop_unread()
        self._untaken.clear()
        self.phase = Phase.CLOSED
        if self._pump is not None:
            self._pump.cancel()
        slots, self._slots = self._slots, deque()
        for slot in slots:
            self._abandon(slot)

    def data_received(self, data: bytes) -> None:
        """Parse what came, as far as limits allow."""
        if self._backlog:
            self._backlog += data
        elif self.phase in (Phase.IDLE, Phase.HEAD, Phase.BODY):
            self._parse(data)
        elif self.phase is Phase.LINGER:
            self._lingered += len(data)
            if self._lingered > LINGER_BYTES:
                self.abort()

    def eof_received(self) -> bool:
        """The caller closed, or half-closed: asyncio cannot tell these apart. What was sent is still answered."""
        if self.phase is Phase.LINGER or not self._slots:
            self._hang_up()
            return False
        self._half_closed = True
        self.phase = Phase.LAST
        self._backlog = b""
        self._reading.clear()
        for slot in list(self._slots):  # one that leaves may be answered in this step, or let others be
            slot.leave()
        if not self._slots:
            return False
        # The answers go in order: behind one that will not come, none can.
        if self._slots[0].reply is None and self._slots[0].waiter is None:
            self._hang_up()
            return False
        return True

    def pause_writing(self) -> None:
        """The caller does not read: read nothing more from it, and give it `timeouts.write`."""
        self._blocked = True
        self._writing.set(self._clock() + self._house.timeouts.write)
        self._pause_reading()

    def resume_writing(self) -> None:
        """The caller reads again."""
        self._blocked = False
        self._untaken.clear()
        self._writing.clear()
        if self.phase is Phase.LINGER or self._transport.is_closing():
            self._bound_writing()
        if self._unblocked is not None and not self._unblocked.done():
            self._unblocked.set_result(None)
        self._go_on()

    # --- reading ---

    def _parse(self, data: bytes) -> None:
        position, size = 0, len(data)
        begun, pipeline = 0, self._house.limits.pipeline
        try:
            while position < size:
                if self.phase is Phase.IDLE:
                    # Even where each is answered at once: a caller with a thousand calls in one segment takes turns.
                    if begun == pipeline or self._blocked or len(self._slots) >= pipeline:
                        self._backlog = data[position:]
                        self._pause_reading()
                        self._go_on()
                        return
                    begun += 1
                    position = self._start_head(data, position)
                elif self.phase is Phase.HEAD:
                    position = self._continue_head(data, position)
                elif self.phase is Phase.BODY:
                    position = self._take_body(data, position)
                else:
                    return  # after the last call nothing counts
        except (DownstreamError, BuffersFull) as error:
            self._refuse(error)
        finally:
            self._more = False

    def _start_head(self, data: bytes, position: int) -> int:
        if data[position] == 0x0D or data[position] == 0x0A or self._blank_lines:
            position = self._skip_blank_lines(data, position)
            if position < 0:
                return len(data)
        end = data.find(b"\r\n\r\n", position)
        self._arrived = self._clock()
        if end < 0:
            self.phase = Phase.HEAD
            self._probe = request_probe()
            self._reading.set(self._arrived + self._house.timeouts.head)
            return self._continue_head(data, position)
        end += 4
        request = self._house.parser.parse(data[position:end], self._usual)
        self._usual = request.seen
        body_end = end + request.length
        if not request.fields.chunked and body_end <= len(data):
            # As nearly every call: whole in one piece.
            self._more = body_end < len(data)
            if request.length > SMALL:
                self._count(request.length)
            self._complete(request, data[end:body_end], self._arrived)
            return body_end
        self._take_head(request)
        return end

    def _skip_blank_lines(self, data: bytes, position: int) -> int:
        """Skip up to two empty lines before a head (RFC 9112 §2.2); -1: nothing else came."""
        while True:
            if self._blank_lines % 2:  # a CR came last
                if data[position] != 0x0A:
                    raise BadMessage("A bare CR is not a line end")
            elif data[position] != 0x0D:
                self._blank_lines = 0
                return position
            self._blank_lines += 1
            if self._blank_lines > 4:
                raise BadMessage("More than two empty lines before a request line")
            position += 1
            if position == len(data):
                return -1

    def _continue_head(self, data: bytes, position: int) -> int:
        """Take more of a head that comes in pieces."""
        assert self._probe is not None
        known = len(self._head)
        self._head += data[position:] if position else data
        end = self._head.find(b"\r\n\r\n", max(known - 3, 0))
        if end < 0:
            check_unfinished(self._head, self._house.limits.request)
            try:
                self._probe.feed_data(data[position:])
            except httptools.HttpParserError as error:
                raise malformed(bytes(self._head)) from error
            return len(data)
        end += 4
        head = bytes(self._head[:end])
        self._head = bytearray()
        self._probe = None
        taken = position + end - known
        self._more = taken < len(data)
        self._take_head(self._house.parser.parse(head))
        return taken

    def _take_head(self, request: RequestHead) -> None:
        if request.fields.chunked:
            self._decoder = ChunkedDecoder()
        elif request.length:
            self._missing = request.length
        else:
            self._complete(request, b"", self._clock())
            return
        self._request = request
        self.phase = Phase.BODY
        self._continue_owed = request.fields.expects_continue
        self._reading.set(self._clock() + self._house.timeouts.body)
        if self._continue_owed:
            # Not yet: where the body came along unasked, nobody waits for it (RFC 9110 §10.1.1).
            asyncio.get_running_loop().call_soon(self._write_continue)

    def _take_body(self, data: bytes, position: int) -> int:
        if self._decoder is not None:
            return self._take_chunks(self._decoder, data, position)
        end = position + self._missing
        size = len(data)
        if end > size:
            self._keep(data[position:])
            self._missing -= size - position
            return size
        body = data[position:end]
        if self._pieces:
            self._keep(body)
            body = self._kept()
        elif len(body) > SMALL:
            self._count(len(body))
        self._more = end < size
        self._complete_body(body)
        return end

    def _take_chunks(self, decoder: ChunkedDecoder, data: bytes, position: int) -> int:
        pieces: list[bytes] = []
        try:
            position = decoder.feed(data, position, pieces)
        except BadChunk as error:
            raise BadMessage("The body is not chunked as RFC 9112 §7.1 has it") from error
        if pieces:
            # Held as one: a body in chunks of one byte would take forty times its size.
            self._keep(b"".join(pieces))
        if decoder.announced > self._house.limits.request.body:
            raise BodyTooLarge("The body is larger than limits.body")
        if decoder.done:
            self._decoder = None
            self._more = position < len(data)
            self._complete_body(self._kept())
        return position

    def _keep(self, piece: bytes) -> None:
        """Hold a piece of a body. Raises BuffersFull."""
        self._held += len(piece)
        if self._held > SMALL:
            self._count(self._held)
        self._pieces.append(piece)

    def _kept(self) -> bytes:
        """Give the body that came in pieces."""
        pieces, self._pieces, self._held = self._pieces, [], 0
        return b"".join(pieces)

    def _count(self, size: int) -> None:
        """Count what is held of a large body. Raises BuffersFull."""
        if self._share is None:
            self._share = self._house.buffers.share()
        if not self._share.hold(size):
            raise BuffersFull("The bodies under way take as much memory as they may (limits.buffered)")

    def _complete_body(self, body: bytes) -> None:
        request, self._request = self._request, None
        assert request is not None
        self._continue_owed = False
        self._complete(request, body, self._clock())

    def _complete(self, request: RequestHead, body: bytes, now: float) -> None:
        """A call is whole: hand it on."""
        fields = request.fields
        call = Call(request.method, request.target, fields, body, Timeline(self._arrived, now))
        if self._share is not None:
            call.share, self._share = self._share, None
        if self._fresh:
            self._fresh = False
            call.timeline.opens = True
        slot = _Slot(self, call, closes=fields.closes, old=fields.old)
        self._slots.append(slot)
        self.phase = Phase.LAST if fields.closes else Phase.IDLE
        if self._reading.slot is None:
            # Where it stands earlier, for this head or a call before, it looks again when it rings.
            self._reading.set(now + self._house.timeouts.keep_alive)
        if request.asks_this_hop:
            reply = Reply(200, b"Allow: %b\r\n" % _ALLOW, b"", source=Source.PROXY, length=0)
            ids = [value for lower, value in fields.noted if lower == b"x-request-id" and value]
            slot.answer(reply, self._house.handler.own_lines(ids[0] if ids else None))
            return
        slot.waiter = self._house.handler.submit(call, slot.answer)

    def _write_continue(self) -> None:
        if self._continue_owed and self.phase is Phase.BODY and not self._pieces and not self._slots:
            self._continue_owed = False
            self._reading.set(self._clock() + self._house.timeouts.body)
            self._transport.write(CONTINUE)

    def _read_timeout(self) -> None:
        if self.phase is Phase.LINGER:
            self._end_linger()
        elif self._continue_owed and self._slots:
            # The caller waits for our 100, and that for the answers before it.
            self._reading.set(self._clock() + self._house.timeouts.body)
        elif self.phase is Phase.HEAD or self.phase is Phase.BODY:
            late = "timeouts.head" if self.phase is Phase.HEAD else "timeouts.body"
            self._refuse(RequestTimeout(f"The request was not complete within {late}"))
        else:
            now = self._clock()
            idle_until = (now if self._slots else self._idle_since) + self._house.timeouts.keep_alive
            if idle_until > now:
                # Not an hour ahead: the wheel keeps an alarm's place until its time, whoever has closed long before.
                self._reading.set(min(idle_until, now + LOOK_AGAIN))
            else:
                self._hang_up()

    # --- answering ---

    def answered(self, slot: _Slot) -> None:
        """Write what can be written: answers leave in the order of their calls."""
        if self.phase is Phase.CLOSED:
            self._abandon(slot)
            return
        if slot.reply is not None and slot.reply.stream is not None and slot is not self._slots[0]:
            # Its connection would stand still for as long as the answers before it take.
            slot.reply.stream.abandon()
            error = ReplyTooLarge("Too large to be held behind an unanswered call")
            slot.reply = to_reply(error)
            if slot.call is not None:
                slot.call.error = error.category.value
        self._flush()

    def _flush(self) -> None:
        slots = self._slots
        while slots and self._pump is None:
            slot = slots[0]
            reply = slot.reply
            if reply is None:
                if self._half_closed and slot.waiter is None:
                    self._hang_up()
                    return
                break
            if reply.stream is not None:
                self._pump = asyncio.get_running_loop().create_task(self._stream(slot, reply), name="downstream stream")
                break
            self._write(slot, reply)
            slots.popleft()
            self._written(slot, reply)
        if self._paused or self._backlog or self._half_closed or self._continue_owed:
            self._go_on()

    def _write(self, slot: _Slot, reply: Reply) -> None:
        head = render_head(reply, slot.lines, self._house.date, persistence=self._persistence(slot))
        body = reply.body if slot.call is None or has_body(reply, slot.call.method) else b""
        if len(body) < JOIN_BELOW:
            self._transport.write(head + body)
        else:
            self._transport.writelines((head, body))
        if reply.share is not None and self._blocked:
            self._untaken.append(reply.share)

    def _persistence(self, slot: _Slot) -> bytes:
        # Not with a call behind this one: that one is accepted, and closes.
        last = len(self._slots) == 1 and not self._backlog and not self._more
        if self._house.draining and self.phase is Phase.IDLE and last:
            slot.closes = True
            self.phase = Phase.LAST  # having promised to close, nothing more is taken
        return _CLOSE if slot.closes else self._house.kept_line

    def _written(self, slot: _Slot, reply: Reply, *, whole: bool = True) -> None:
        if slot.call is not None:
            self._idle_since = slot.call.timeline.written = self._clock()
            self._house.handler.finished(slot.call, reply, whole=whole)
        if not whole:
            self.abort()
        elif slot.closes:
            self._close()

    def _close(self) -> None:
        """Say that nothing more comes, and read on for a moment.

        Closing with unread bytes would reset the connection and could take the answer with it (RFC 9112 §9.6).
        """
        self._drop_unread()
        self.phase = Phase.LINGER
        self._transport.write_eof()
        self._reading.set(self._clock() + LINGER)
        self._bound_writing()
        if self._paused and not self._blocked:
            self._resume_reading()

    def _end_linger(self) -> None:
        if self._transport.get_write_buffer_size():
            # The caller still takes the answer; how long it may is the other alarm's.
            self._reading.set(self._clock() + LINGER)
        else:
            self.abort()

    def _hang_up(self) -> None:
        """Close when all that was written is out."""
        self._reading.clear()
        self._bound_writing()
        self._transport.close()

    def _bound_writing(self) -> None:
        """Give the caller its time for the last bytes: below its high-water mark a transport says nothing of them."""
        if not self._blocked and self._transport.get_write_buffer_size():
            self._writing.set(self._clock() + self._house.timeouts.write)

    async def _stream(self, slot: _Slot, reply: Reply) -> None:
        """Write a reply that is larger than memory should hold, at the pace at which the caller reads."""
        assert reply.stream is not None
        assert slot.call is not None
        chunked = reply.length is None and not slot.old
        lines = slot.lines + b"Transfer-Encoding: chunked\r\n" if chunked else slot.lines
        slot.closes |= reply.length is None and slot.old
        try:
            self._transport.write(render_head(reply, lines, self._house.date, persistence=self._persistence(slot)))
            async for piece in reply.stream:
                self._transport.write(chunk(piece) if chunked else piece)
                await self._drained()
            if chunked:
                self._transport.write(LAST_CHUNK)
        except UpstreamError:
            # No last chunk, no full length: the caller must see that this is not the whole answer (C47).
            self._slots.popleft()
            self._written(slot, reply, whole=False)
            return
        finally:
            reply.stream.abandon()
            self._pump = None
        self._slots.popleft()
        self._written(slot, reply)
        self._flush()

    async def _drained(self) -> None:
        if self._blocked:
            self._unblocked = asyncio.get_running_loop().create_future()
            await self._unblocked

    def _go_on(self) -> None:
        """Do what waited for an answer to be written, or for the caller to read."""
        if self.phase is Phase.CLOSED or self._blocked:
            return
        if self._half_closed and not self._slots:
            self._hang_up()
            return
        if self._continue_owed:
            self._write_continue()
        if len(self._slots) >= self._house.limits.pipeline:
            return
        if self._backlog:
            # In a turn of its own, and before anything more is read: what is held stays one segment.
            if not self._turn_taken:
                self._turn_taken = True
                asyncio.get_running_loop().call_soon(self._parse_backlog)
        elif self._paused:
            self._resume_reading()

    def _pause_reading(self) -> None:
        if not self._paused:
            self._paused = True
            self._transport.pause_reading()

    def _resume_reading(self) -> None:
        self._paused = False
        if not self._transport.is_closing():
            self._transport.resume_reading()

    def _parse_backlog(self) -> None:
        self._turn_taken = False
        backlog, self._backlog = self._backlog, b""
        if self.phase is Phase.IDLE:
            self._parse(backlog)
        if not self._backlog:
            self._go_on()

    def _refuse(self, error: ProxyError) -> None:
        """Answer a message that cannot become a Call, after the calls before it; then close, lingering."""
        reply = to_reply(error)
        slot = _Slot(self, None, closes=True, old=False)
        self._drop_unread()
        self._slots.append(slot)
        self._house.handler.rejected(reply, error)
        slot.answer(reply, self._house.handler.own_lines(None))

    def _drop_unread(self) -> None:
        self.phase = Phase.LAST
        self._backlog = b""
        self._pieces = []
        self._held = 0
        self._share = None
        self._decoder = None
        self._continue_owed = False
        self._head = bytearray()
        self._probe = None

    def _write_timeout(self) -> None:
        self.abort()

    def _abandon(self, slot: _Slot) -> None:
        if slot.reply is None:
            slot.leave()
            return
        if slot.reply.stream is not None:
            slot.reply.stream.abandon()
        if slot.call is not None:
            self._house.handler.finished(slot.call, slot.reply, whole=False)
