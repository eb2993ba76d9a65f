"""Calls and replies as they pass through the rooms.

Header fields cross as the lines they came in, byte for byte, in their order. What a room wants to know of them is
noted beside: `(lower-case name, value)`. Which fields cross and which are noted is decided per name
(`wire.heads.FieldTable`), once, when a head is split.
"""

import http
from collections.abc import AsyncIterator, Callable, Iterable
from enum import Enum
from typing import Final, Protocol

# (lower-case name, value)
Noted = tuple[bytes, bytes]
REASONS: Final = {status.value: status.phrase.encode() for status in http.HTTPStatus}


class Sent(Enum):
    """Whether a failed call may have reached Talon.One, as `Talon-Proxy-Outcome` says it."""

    NO = b"not-sent"
    MAYBE = b"unknown"


class Source(Enum):
    """Who made an answer, as metrics and logs name it."""

    UPSTREAM = "upstream"
    PROXY = "proxy"


class Timeline:
    """Moments and durations of one call, stamped on its way and read once at its end.

    Moments are seconds of the monotonic clock, 0.0 until they happen; durations are seconds. All of the last attempt,
    but for `upstream` and `tries`. Defaults stand in the class: setting them in each object cost 0.6 µs per call.
    """

    lane = 0.0  # waited for flights ahead
    gate = 0.0  # waited at gates
    backoff = 0.0  # waited for the next attempt
    pool = 0.0  # waited for a connection, opening included
    connect = 0.0  # of that: name resolution and TCP
    tls = 0.0  # of that: the handshake
    sent = 0.0  # first byte of the request handed to the socket
    first_byte = 0.0  # first byte of the answer
    answered = 0.0  # last byte of the answer (streamed: its head)
    upstream = 0.0  # time all attempts spent with Talon.One
    ready = 0.0  # reply handed to the listener
    written = 0.0  # its last byte handed to the socket
    tries = 0  # attempts that were started
    conflicts = 0  # attempts that Talon.One refused for their moment
    joined = False  # the exchange was another call's; `upstream` is the wait for its answer
    leader = b""  # the id of that call
    reused = False  # the connection had served before
    protocol = ""  # that it spoke, as ALPN has it
    opens = False  # the first call of its caller's connection

    def __init__(self, arrived: float, complete: float) -> None:
        self.arrived = arrived  # first byte of the head
        self.complete = complete  # last byte of the body

    @property
    def waited(self) -> float:
        """Seconds for which the call was held back, for the sake of others or of its next attempt."""
        return self.lane + self.gate + self.backoff


class Trace:
    """The trace that a call belongs to, as its `traceparent` says (W3C Trace Context); ids in hexadecimal."""

    __slots__ = ("id", "parent", "sampled", "span")

    def __init__(self, id_: str, parent: str, *, sampled: bool) -> None:
        self.id = id_
        self.parent = parent  # the span in which the caller made the call
        self.sampled = sampled  # somebody keeps it
        self.span: object = None  # the tracer's, where calls are traced here


class Fields:
    """The header fields of a call, shared by all calls that have the same: never changed.

    But for `understood`, where the pipeline keeps what it made of `noted`, so that the same is not read twice.
    """

    __slots__ = ("block", "host", "noted", "understood")

    def __init__(self, block: bytes, noted: list[Noted]) -> None:
        self.block = block  # the lines that cross, byte for byte, each with its CRLF
        self.noted = noted
        self.host = b""
        self.understood: object = None


def joined(lines: Iterable[bytes]) -> bytes:
    """Make a block of lines."""
    return b"".join([line + b"\r\n" for line in lines])


class Call:
    """One request of a caller: complete, checked as HTTP, not yet understood. The body is whole."""

    __slots__ = (
        "admission",
        "application",
        "body",
        "error",
        "fields",
        "method",
        "operation",
        "request_id",
        "share",
        "subject",
        "target",
        "timeline",
        "trace",
    )

    def __init__(self, method: bytes, target: bytes, fields: Fields, body: bytes, timeline: Timeline) -> None:
        self.method = method
        self.target = target
        self.fields = fields
        self.body = body
        self.timeline = timeline
        self.share: object = None  # what counts the memory of a large body: it ends with the last who holds the call
        # Told by the pipeline, for whoever observes the end of the call:
        self.request_id = b""
        self.admission = 0  # number in the order of admission
        self.operation = "other"
        self.subject = b""  # the first id in its path, as it stands there: that of a session, a profile, a catalog …
        self.application = ""
        self.error: str | None = None  # category of the error that the answer is made of
        self.trace: Trace | None = None

    def __repr__(self) -> str:
        # No target and no fields: ids and keys stay out of logs.
        return f"<Call {self.method.decode()} {self.request_id.decode('latin-1')} body={len(self.body)}>"


class Stream(Protocol):
    """The rest of a reply that is too large to hold; read by exactly one caller."""

    def __aiter__(self) -> AsyncIterator[bytes]:
        """Give the pieces in order; raise `UpstreamError` when the answer ends before its end."""
        ...

    def abandon(self) -> None:
        """Nobody reads on: give the connection up."""
        ...


class Reply:
    """An answer: whole (`body`), or for a very large one its head and a `stream`.

    `block` is the fields that cross, as lines with their ends. `length` is what the `Content-Length` line shall say;
    None: no such line (204, a stream of unknown length, an answer to HEAD that said nothing). It is not always the
    body's: an answer to HEAD or a 304 tells of one that is not there (RFC 9110 §8.6).
    """

    __slots__ = (
        "block",
        "body",
        "dated",
        "length",
        "outcome",
        "share",
        "source",
        "status",
        "stream",
    )

    def __init__(
        self,
        status: int,
        block: bytes,
        body: bytes,
        *,
        source: Source,
        length: int | None,
        dated: bool = False,
        outcome: Sent | None = None,
        stream: Stream | None = None,
        share: object = None,
    ) -> None:
        self.status = status
        self.block = block
        self.body = body
        self.source = source
        self.length = length
        self.dated = dated  # a `Date` is among the lines
        self.outcome = outcome  # of a call that failed
        self.stream = stream
        self.share = share  # what counts the memory of a large body: it ends with the last who holds the reply

    def doubted(self) -> "Reply":
        """Give the same answer for a call of which nobody knows whether it was executed."""
        line = b"Talon-Proxy-Outcome: %b\r\n" % Sent.MAYBE.value
        return Reply(
            self.status,
            self.block + line,
            self.body,
            source=self.source,
            length=self.length,
            dated=self.dated,
            outcome=Sent.MAYBE,
            stream=self.stream,
            share=self.share,
        )

    def __repr__(self) -> str:
        kind = "stream" if self.stream is not None else len(self.body)
        return f"<Reply {self.status} {self.source.value} body={kind}>"


# Called with the reply and the header lines (line ends included) that belong to this caller alone.
Answer = Callable[[Reply, bytes], None]
