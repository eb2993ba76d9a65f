"""One exchange on an HTTP/2 connection: what is left of its request, and its answer as it is put together.

It judges the answer (RFC 9113 §8.1: the order of its parts, the length it promised, how much it may be), and holds it
or hands it on as a `ReplyStream`. It writes nothing: the connection owns frames, windows and time.
"""

from typing import Final, Protocol

from proxy.errors import ConnectionLost, IncompleteReply, ProxyError, ReplyTooLarge
from proxy.messages import Reply, Sent
from proxy.wire.buffers import SMALL, Buffers, Share
from proxy.wire.connection import Exchange
from proxy.wire.heads import MAX_INTERIM, ReplyHead, bad_reply
from proxy.wire.replystream import ReplyStream
from proxy.wire.wheel import NEVER

WINDOW: Final = 1 << 20  # bytes of an answer that may be on their way


class Carrier(Protocol):
    """The connection, as a stream sees it."""

    def hand_over(self, stream: "Stream", reply: Reply) -> None:
        """Answer the exchange before its end, with a reply that goes on."""
        ...

    def awaits(self, stream: "Stream") -> None:
        """The next piece of a stream is waited for, from now on."""
        ...

    def cancel(self, stream: "Stream") -> None:
        """Nobody reads on."""
        ...


class Stream:
    """One exchange under way; a `replystream.Feed` for an answer that is too large to hold."""

    __slots__ = (
        "_buffers",
        "_carrier",
        "_expected",
        "_head",
        "_held",
        "_interim",
        "_pieces",
        "_reply_limit",
        "_share",
        "body",
        "credit",
        "due",
        "exchange",
        "held",
        "number",
        "reply_stream",
        "timeout",
        "window",
        "written",
    )

    def __init__(
        self,
        number: int,
        exchange: Exchange,
        body: bytes,
        *,
        carrier: Carrier,
        reply_limit: int,
        buffers: Buffers,
        window: int,
        timeout: float,
        due: float,
    ) -> None:
        self.number = number
        self.exchange = exchange
        self.held = False  # only its end is waited for
        self.timeout = timeout  # seconds
        self.due = due  # when the answer, or the next piece of it, must have come
        # The request.
        self.body = body
        self.written = 0  # bytes of it
        self.window = window  # bytes that the peer takes yet
        # The answer.
        self.credit = WINDOW  # bytes that the peer may send yet
        self.reply_stream: ReplyStream | None = None
        self._carrier = carrier
        self._reply_limit = reply_limit
        self._buffers = buffers
        self._head: ReplyHead | None = None
        self._interim = 0
        self._expected: int | None = None  # bytes of body still to come, where a length was told
        self._pieces: list[bytes] = []
        self._held = 0
        self._share: Share | None = None  # of a large body

    def __repr__(self) -> str:
        return f"<Stream {self.number} unwritten={self.unwritten} held={self._held}>"

    @property
    def unwritten(self) -> int:
        """Bytes of the request's body that the peer has not taken."""
        return len(self.body) - self.written

    @property
    def headed(self) -> bool:
        """The answer's head has come: what follows are trailers."""
        return self._head is not None

    @property
    def flows(self) -> bool:
        """What comes is taken: held, or read by somebody who keeps up."""
        return self.reply_stream is None or not self.reply_stream.paused

    # --- the answer comes ---

    def take_head(self, head: ReplyHead, *, last: bool) -> None:
        """Take a head, interim or final. Raises ProxyError."""
        if head.interim:
            self._interim += 1
            if last or self._interim > MAX_INTERIM:
                raise bad_reply("Interim answers, and none behind them" if last else "Too many interim answers")
            return
        self._head = head
        if self.exchange.method == b"HEAD" or head.status in (204, 304):
            self._expected = 0
        else:
            self._expected = head.length
        if last:
            self.check_whole()
        elif self._expected is not None and self._expected > self._reply_limit:
            self._start_stream()

    def take_data(self, piece: bytes) -> None:
        """Take a piece of the body. Raises ProxyError."""
        if self._head is None:
            raise bad_reply("A body came before its head")
        if not piece:
            return
        if self._expected is not None:
            self._expected -= len(piece)
            if self._expected < 0:
                raise bad_reply("The body is larger than it was said to be")
        if self.reply_stream is not None:
            self.reply_stream.put(piece)
            self._await_piece()
            return
        self._pieces.append(piece)
        self._held += len(piece)
        if self._held > self._reply_limit or (self._held > SMALL and not self._count()):
            self._start_stream()

    def _count(self) -> bool:
        """Count what is held of a large body; False: there is no room for it."""
        if self._share is None:
            self._share = self._buffers.share()
        return self._share.hold(self._held)

    def check_whole(self) -> None:
        """See that nothing is missing at the end. Raises ProxyError."""
        if self._head is None:
            raise bad_reply("The stream ended without an answer")
        if self._expected:
            raise bad_reply("The body is smaller than it was said to be")

    def reply(self) -> Reply:
        """Give the whole answer."""
        head, pieces = self._head, self._pieces
        assert head is not None
        body = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        return head.whole(body, self._share, method=self.exchange.method)

    def broken_off(self) -> ProxyError:
        """Say how far the answer had come when it ended."""
        if self.exchange.timeline.first_byte:
            return IncompleteReply("The answer was broken off", sent=Sent.MAYBE)
        return ConnectionLost("The connection ended before an answer", sent=Sent.MAYBE)

    def _start_stream(self) -> None:
        """The answer is too large to hold: hand over what there is, and the rest as it comes."""
        head = self._head
        assert head is not None
        if not self.exchange.may_stream:
            raise ReplyTooLarge("The answer is larger than limits.reply, or than what limits.buffered leaves")
        stream = self.reply_stream = ReplyStream(self, self._share or self._buffers.share())
        for piece in self._pieces:
            stream.put(piece)
        self._pieces = []
        self._await_piece()
        self._carrier.hand_over(self, head.begun(stream))

    # --- a feed of pieces ---

    def _await_piece(self) -> None:
        """Each piece gets the time a whole answer has: nobody knows how long a large one may take."""
        if self.flows:
            self._carrier.awaits(self)

    def pause(self) -> None:
        """See `replystream.Feed`: its window is not renewed, and the clock stands still."""
        self.due = NEVER

    def resume(self) -> None:
        """See `replystream.Feed`."""
        self._carrier.awaits(self)

    def abandon(self) -> None:
        """See `replystream.Feed`."""
        self._carrier.cancel(self)
