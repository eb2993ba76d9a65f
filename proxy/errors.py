"""Errors know whose fault it was and whether anything was sent to Talon.One.

`DownstreamError`: the caller's message is at fault. `RefusedError`: we said no. `UpstreamError`: Talon.One, or
the way to it, failed. Texts are fixed: they name a header or a setting, never repeat input, never show an
exception. `to_reply` is the one place where an error becomes an answer, in the shape Talon.One's own errors have,
so that SDKs parse it (`talon-one-facts.md` §8; their models require `source`).
"""

from collections.abc import Sequence
from enum import Enum
from functools import lru_cache
from typing import ClassVar

import orjson

from proxy.messages import Reply, Sent, Source, joined

PSEUDONYM = b"talon-proxy"


class Category(Enum):
    """Closed set for logs and metrics: what kind of failure this was."""

    BAD_REQUEST = "bad_request"
    REFUSED = "refused"
    BUFFER = "buffer"
    CIRCUIT = "circuit"
    CONCURRENCY = "concurrency"
    DEPTH = "depth"
    DRAINING = "draining"
    PACING = "pacing"
    DNS = "dns"
    CONNECT = "connect"
    TLS = "tls"
    TIMEOUT = "timeout"
    LOST = "lost"
    PROTOCOL = "protocol"
    TOO_LARGE = "too_large"
    INTERNAL = "internal"


class ProxyError(Exception):
    """Base of the tree. Raise the most specific one.

    `status` is the answer's code, `message` and `details` its texts, `parameter` the header or setting at fault,
    `token` the error type of RFC 9209 §2.3 (none: no `Proxy-Status`), `sent` none where nothing was ever meant
    to be sent.
    """

    status: ClassVar[int] = 500
    message: ClassVar[str] = "The proxy failed"
    category: ClassVar[Category] = Category.INTERNAL
    token: ClassVar[bytes | None] = None
    closes: ClassVar[bool] = False

    def __init__(self, details: str, *, parameter: str | None = None, sent: Sent | None = None) -> None:
        super().__init__(details)
        self.details = details
        self.parameter = parameter
        self.sent = sent

    @property
    def lines(self) -> Sequence[bytes]:
        """Header lines that belong to this answer alone."""
        return ()


class InternalError(ProxyError):
    """A defect of ours. Logged with its traceback where it is caught; the caller sees only this."""

    token = b"proxy_internal_error"

    def __init__(self, *, sent: Sent) -> None:
        super().__init__("An unexpected error; the proxy's log has it under this request id", sent=sent)


# --- the caller's message -------------------------------------------------------------------------------------


class DownstreamError(ProxyError):
    """The caller sent something that is not forwarded. Where framing is in doubt the connection closes."""

    status = 400
    message = "The request is not valid"
    category = Category.BAD_REQUEST


class BadMessage(DownstreamError):
    """Not HTTP/1.1 as we accept it; nothing after it on this connection can be trusted."""

    closes = True


class RequestTimeout(BadMessage):
    """Head or body did not arrive in time (`timeouts.head`, `timeouts.body`)."""

    status = 408
    message = "The request took too long to arrive"
    category = Category.TIMEOUT


class BodyTooLarge(BadMessage):
    """Over `limits.body`."""

    status = 413
    message = "The request body is too large"
    category = Category.TOO_LARGE


class TargetTooLong(BadMessage):
    """Over `limits.target`."""

    status = 414
    message = "The request target is too long"
    category = Category.TOO_LARGE


class ExpectationFailed(BadMessage):
    """An `Expect` other than `100-continue` (RFC 9110 §10.1.1)."""

    status = 417
    message = "The expectation cannot be met"


class HeadTooLarge(BadMessage):
    """Over `limits.head` or `limits.fields` (RFC 6585 §5)."""

    status = 431
    message = "The request head is too large"
    category = Category.TOO_LARGE


class NotImplementedHere(BadMessage):
    """A method or transfer coding this proxy does not know."""

    status = 501
    message = "Not implemented"


class VersionNotSupported(BadMessage):
    """Neither HTTP/1.1 nor HTTP/1.0."""

    status = 505
    message = "HTTP version not supported"


class LoopDetected(DownstreamError):
    """Our own pseudonym already stands in `Via`."""

    status = 508
    message = "The request came back to the proxy that sent it"


# --- our refusals ---------------------------------------------------------------------------------------------


class RefusedError(ProxyError):
    """We understood and said no; nothing was sent."""

    status = 403
    message = "Refused by the proxy"
    category = Category.REFUSED
    token = b"http_request_denied"


class Unauthorized(RefusedError):
    """No client token, or one that is not configured (`clients.tokens`)."""

    status = 401
    message = "Unauthorized"


class NotFound(RefusedError):
    """No such path on this port."""

    status = 404
    message = "Not found"


class MethodNotAllowed(RefusedError):
    """The path exists, this method on it does not."""

    status = 405
    message = "Method not allowed"

    def __init__(self, details: str, *, allow: str) -> None:
        super().__init__(details)
        self.allow = allow

    @property
    def lines(self) -> Sequence[bytes]:
        """RFC 9110 §15.5.6: a 405 names the methods that are allowed."""
        return (b"Allow: %b" % self.allow.encode(),)


class Misdirected(RefusedError):
    """A `Host` this proxy does not answer to (DNS rebinding)."""

    status = 421
    message = "Misdirected request"


class Unavailable(RefusedError):
    """We cannot take the call now. Never with `Retry-After`: SDKs built on urllib3 re-send writes on it."""

    status = 503
    message = "The proxy cannot take this call now"


class LaneFull(Unavailable):
    """As many updates of one session or profile wait as may (`lanes.depth`)."""

    category = Category.DEPTH

    def __init__(self, details: str) -> None:
        super().__init__(details, sent=Sent.NO)


class Busy(Unavailable):
    """As many calls are under way, and as many wait, as may (`limits.concurrency`)."""

    category = Category.CONCURRENCY
    token = b"connection_limit_reached"

    def __init__(self, details: str) -> None:
        super().__init__(details, sent=Sent.NO)


class BuffersFull(Unavailable):
    """The bodies that are held take as much memory as they may (`limits.buffered`)."""

    category = Category.BUFFER

    def __init__(self, details: str) -> None:
        super().__init__(details, sent=Sent.NO)


class PacedOut(Unavailable):
    """Too many calls of one endpoint of the Management API wait (`management.rate`)."""

    category = Category.PACING

    def __init__(self, details: str) -> None:
        super().__init__(details, sent=Sent.NO)


class CircuitOpen(Unavailable):
    """Talon.One could not be reached lately, so that nothing is tried for a moment."""

    category = Category.CIRCUIT
    token = b"destination_unavailable"

    def __init__(self, details: str, *, sent: Sent) -> None:
        super().__init__(details, sent=sent)


class Draining(Unavailable):
    """Shutting down before the call could be sent."""

    category = Category.DRAINING


# --- Talon.One and the way to it ------------------------------------------------------------------------------


class UpstreamError(ProxyError):
    """Talon.One did not answer as it should. `sent` decides what may be repeated (design.md §6)."""

    status = 502
    message = "Talon.One could not be reached"
    category = Category.CONNECT

    def __init__(self, details: str, *, sent: Sent | None = Sent.NO) -> None:
        super().__init__(details, sent=sent)


class NameNotResolved(UpstreamError):
    """The host of `upstream.url`, or of `upstream.proxy`, has no address."""

    category = Category.DNS
    token = b"dns_error"


class NameTimeout(UpstreamError):
    """The resolver did not answer within `upstream.timeouts.connect`."""

    status = 504
    category = Category.DNS
    token = b"dns_timeout"


class ConnectionRefused(UpstreamError):
    """No address took the connection."""

    token = b"connection_refused"


class OutOfFiles(UpstreamError):
    """This process may open no further file (`ulimit -n`). It says nothing of Talon.One."""

    status = 503
    message = Unavailable.message
    category = Category.CONCURRENCY
    token = Busy.token


class ConnectTimeout(UpstreamError):
    """No connection within `upstream.timeouts.connect`."""

    status = 504
    category = Category.TIMEOUT
    token = b"connection_timeout"


class TunnelRefused(UpstreamError):
    """The egress proxy (`upstream.proxy`) opened no tunnel to the host."""

    message = "The egress proxy did not open the way to Talon.One"
    token = b"destination_unavailable"


class TunnelDenied(TunnelRefused):
    """It never will: it wants credentials, or does not allow the host."""

    token = b"proxy_configuration_error"


class CertificateError(UpstreamError):
    """The peer's certificate was not accepted. Never repeated without verification."""

    message = "Talon.One's certificate was not accepted"
    category = Category.TLS
    token = b"tls_certificate_error"


class TlsError(UpstreamError):
    """The TLS handshake failed."""

    category = Category.TLS
    token = b"tls_protocol_error"


class PoolTimeout(UpstreamError):
    """No connection of the pool became free in time."""

    status = 504
    message = "No connection to Talon.One became free in time"
    category = Category.TIMEOUT
    token = b"connection_limit_reached"


class ConnectionLost(UpstreamError):
    """The connection ended before a complete answer. `quiet`: not one byte of an answer had come."""

    message = "The connection to Talon.One was lost"
    category = Category.LOST
    token = b"connection_terminated"


class IncompleteReply(UpstreamError):
    """The connection ended within an answer."""

    message = "Talon.One's answer was cut short"
    category = Category.LOST
    token = b"http_response_incomplete"


class BadReply(UpstreamError):
    """The answer is not HTTP/1.1 as we accept it."""

    message = "Talon.One's answer was not valid HTTP"
    category = Category.PROTOCOL
    token = b"http_protocol_error"


class ReplyTooLarge(UpstreamError):
    """Over `limits.reply` where it cannot be streamed. The outcome is known: Talon.One answered."""

    message = "Talon.One's answer is too large"
    category = Category.TOO_LARGE
    token = b"http_response_body_size"

    def __init__(self, details: str) -> None:
        super().__init__(details, sent=None)


class ResponseTimeout(UpstreamError):
    """No answer within `upstream.timeouts.response` of sending."""

    status = 504
    message = "Talon.One did not answer in time"
    category = Category.TIMEOUT
    token = b"connection_read_timeout"


class CallTimeout(UpstreamError):
    """The caller's own time (`upstream.timeouts.total`, `Talon-Proxy-Timeout-Ms`) is over."""

    status = 504
    message = "The call ran out of time"
    category = Category.TIMEOUT
    token = b"http_response_timeout"


def to_reply(error: ProxyError) -> Reply:
    """Map an error to the answer its caller gets: Talon.One's error shape, `Proxy-Status`, the outcome."""
    block, body = _told(error.status, error.message, error.token, error.details, error.parameter, error.sent)
    if error.lines:
        block += joined(error.lines)
    return Reply(error.status, block, body, source=Source.PROXY, length=len(body), outcome=error.sent)


@lru_cache(maxsize=256)
def _told(
    status: int, message: str, token: bytes | None, details: str, parameter: str | None, sent: Sent | None
) -> tuple[bytes, bytes]:
    """Give lines and body. Texts are few, and when very many calls are refused each must cost little."""
    source = {"parameter": parameter} if parameter else {}
    body = orjson.dumps(
        {
            "message": message,
            "errors": [{"title": message, "details": details, "source": source}],
            "StatusCode": status,
        }
    )
    lines = [b"Content-Type: application/json"]
    if token is not None:
        lines.append(b"Proxy-Status: %b; error=%b" % (PSEUDONYM, token))
    if sent is not None:
        lines.append(b"Talon-Proxy-Outcome: %b" % sent.value)
    return joined(lines), body
