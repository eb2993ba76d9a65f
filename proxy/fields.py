"""Header fields on their way to Talon.One and back: what crosses, what is ours, what we are told by them. Pure.

`conventions.md`, Traffic port, is the list. Hop-by-hop fields are gone before a call comes here (`wire.heads`).
"""

import re
from collections.abc import Callable
from typing import Final

from proxy.errors import PSEUDONYM, DownstreamError, LoopDetected
from proxy.messages import Call, Fields, Trace
from proxy.wire.fieldtable import FieldTable

_TENTHS: Final = [b"%d.%d" % divmod(tenths, 10) for tenths in range(5000)]  # of a millisecond, spelled
_COLLAPSED: Final = b"Cache-Status: %b; fwd=bypass; collapsed\r\n" % PSEUDONYM  # RFC 9211 §2
_VIA_LINE: Final = b"Via: 1.1 %b\r\n" % PSEUDONYM
_LONGEST_IDEMPOTENCY_KEY: Final = 255  # talon-one-facts.md §3
# With one of these an answer is for this caller alone.
_CONDITIONS: Final = (
    b"if-match",
    b"if-modified-since",
    b"if-none-match",
    b"if-range",
    b"if-unmodified-since",
    b"range",
)
# With these, equal calls have equal answers (design.md §5); Accept-Encoding as it is passed on, Idempotency-Key and
# Content-Encoding are read for themselves.
_CHANGE_THE_ANSWER: Final = (
    b"accept",
    b"accept-language",
    b"api-key",
    b"content-signature",
    b"content-type",
    b"cookie",
)
_CODINGS: Final = (b"gzip", b"deflate", b"identity")  # that Talon.One may answer in: those that we can read
_WITH_LENGTH: Final = frozenset({b"POST", b"PUT", b"PATCH"})


def request_table() -> FieldTable:
    """Make the table of what callers send."""
    return FieldTable(
        noted=(
            b"access-control-request-method",
            b"cache-control",
            b"content-encoding",
            b"idempotency-key",
            b"max-forwards",
            b"origin",
            b"sec-fetch-site",
            b"traceparent",
            b"via",
            b"x-request-id",
            *_CONDITIONS,
            *_CHANGE_THE_ANSWER,
        ),
        taken=(b"accept-encoding", b"authorization", b"talon-proxy-"),
        dropped=(b"forwarded", b"x-api-key", b"x-forwarded-", b"x-original-url", b"x-rewrite-url"),
    )


def reply_table(*, allow_browsers: bool) -> FieldTable:
    """Make the table of what Talon.One answers.

    Without CORS fields no web page can read an answer (T15). The call's id and its outcome are ours to tell.
    """
    ours = (b"talon-proxy-outcome", b"x-request-id")
    return FieldTable(noted=(b"date",), dropped=ours if allow_browsers else (*ours, b"access-control-"))


class CallFields:
    """What a call's fields say to us."""

    __slots__ = (
        "accept_encoding",
        "alone",
        "application",
        "authorization",
        "changes",
        "content_encoding",
        "fetch_site",
        "idempotency_key",
        "identity",
        "origin",
        "preflight",
        "request_id",
        "timeout",
        "trace",
        "traced",
        "unordered",
    )

    def __init__(self) -> None:
        self.authorization: list[bytes] = []
        self.application: bytes | None = None
        self.request_id: bytes | None = None
        self.idempotency_key: bytes | None = None
        self.origin = False
        self.preflight = False
        self.fetch_site: bytes | None = None
        self.timeout: float | None = None  # seconds
        self.trace: Trace | None = None
        self.traced = False
        self.accept_encoding: bytes | None = None  # as it is passed on
        self.content_encoding = b""
        self.alone = False  # shares no answer
        self.unordered = False  # keeps no place
        self.changes: list[tuple[bytes, bytes]] = []
        # All that two calls must have in common, beside target and body, to have the same answer.
        self.identity: tuple[object, ...] = ()


def read(fields: Fields) -> CallFields:
    """Read what was noted. Raises DownstreamError where a field that is meant for us is wrong."""
    found = CallFields()
    for lower, value in fields.noted:
        reader = _READERS.get(lower)
        if reader is None:
            raise DownstreamError("There is no such header", parameter="Talon-Proxy-…")
        reader(found, value)
    if found.accept_encoding is not None:
        found.accept_encoding = _reduced(found.accept_encoding)
    found.identity = (
        found.accept_encoding,
        found.content_encoding,
        found.idempotency_key,
        # By name: the order of lines with different names means nothing (RFC 9110 §5.3), that of equal ones does.
        *sorted(found.changes, key=lambda line: line[0]),
    )
    return found


def _application(found: CallFields, value: bytes) -> None:
    if found.application is not None:
        raise DownstreamError("Given more than once", parameter="Talon-Proxy-Application")
    found.application = value


def _timeout(found: CallFields, value: bytes) -> None:
    if found.timeout is not None or not value.isdigit() or len(value) > 9 or not int(value):
        raise DownstreamError("Not one whole number of milliseconds, 1 or more", parameter="Talon-Proxy-Timeout-Ms")
    found.timeout = int(value) / 1000


def _coalesce(found: CallFields, value: bytes) -> None:
    _check_no("Talon-Proxy-Coalesce", value)
    found.alone = True


def _order(found: CallFields, value: bytes) -> None:
    _check_no("Talon-Proxy-Order", value)
    found.unordered = True


def _check_no(name: str, value: bytes) -> None:
    if value.lower() != b"no":
        raise DownstreamError("Can only be no", parameter=name)


def _accept_encoding(found: CallFields, value: bytes) -> None:
    found.accept_encoding = value if found.accept_encoding is None else b"%b,%b" % (found.accept_encoding, value)


def _reduced(accept_encoding: bytes) -> bytes:
    """Reduce what a caller accepts to what we can read, so that a 409 can be told from another (`talon.conflicts`)."""
    accepted: dict[bytes, bool] = {}
    for item in accept_encoding.lower().split(b","):
        coding, _, parameter = item.partition(b";")
        accepted[coding.strip()] = not _REFUSED.fullmatch(parameter.strip())
    # `*` is whatever is not named (RFC 9110 §12.5.3).
    accepted.setdefault(b"gzip", accepted.get(b"*", False))
    return b", ".join(coding for coding in _CODINGS if accepted.get(coding)) or b"identity"


def _content_encoding(found: CallFields, value: bytes) -> None:
    if value.lower() != b"identity":
        found.content_encoding += value + b","


def _set_alone(found: CallFields, _: bytes) -> None:
    found.alone = True


def _cache_control(found: CallFields, value: bytes) -> None:
    directives = {directive.strip() for directive in value.lower().split(b",")}
    if directives & {b"no-cache", b"no-store"}:
        found.alone = True


def _changes(name: bytes) -> Callable[[CallFields, bytes], None]:
    return lambda found, value: found.changes.append((name, value))


def _idempotency_key(found: CallFields, value: bytes) -> None:
    if found.idempotency_key is not None:
        raise DownstreamError("Given more than once", parameter="Idempotency-Key")
    if not value or len(value) > _LONGEST_IDEMPOTENCY_KEY:
        raise DownstreamError("Must have 1 to 255 characters", parameter="Idempotency-Key")
    if b"\t" in value:
        raise DownstreamError("Must have no control characters", parameter="Idempotency-Key")
    found.idempotency_key = value


def _via(_: CallFields, value: bytes) -> None:
    # received-protocol received-by [comment], by commas (RFC 9110 §7.6.3)
    for hop in value.split(b","):
        if PSEUDONYM in [word.lower() for word in hop.split()[1:2]]:
            raise LoopDetected("This proxy already stands in Via", parameter="Via")


def _request_id(found: CallFields, value: bytes) -> None:
    if found.request_id is None and value:
        found.request_id = value


def _traceparent(found: CallFields, value: bytes) -> None:
    # What is given twice belongs to no trace; it crosses all the same.
    found.trace = None if found.traced else _trace(value)
    found.traced = True


def _trace(value: bytes) -> Trace | None:
    """Read a `traceparent`; None where it is not valid (W3C Trace Context §3.2)."""
    parts = _TRACEPARENT.fullmatch(value)
    if parts is None:
        return None
    version, trace, parent, flags, more = parts.groups()
    if version == b"ff" or (version == b"00" and more) or not trace.strip(b"0") or not parent.strip(b"0"):
        return None
    return Trace(trace.decode(), parent.decode(), sampled=bool(int(flags, 16) & 1))


def _set_origin(found: CallFields, _: bytes) -> None:
    found.origin = True


def _set_preflight(found: CallFields, _: bytes) -> None:
    found.preflight = True


def _set_fetch_site(found: CallFields, value: bytes) -> None:
    found.fetch_site = value


# version-trace-parent-flags, and more in later versions
_TRACEPARENT: Final = re.compile(rb"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_REFUSED: Final = re.compile(rb"q=0(?:\.0*)?")  # a quality of zero (RFC 9110 §12.4.2)
_READERS: Final[dict[bytes, Callable[[CallFields, bytes], None]]] = {
    **dict.fromkeys(_CONDITIONS, _set_alone),
    **{name: _changes(name) for name in _CHANGE_THE_ANSWER},
    b"accept-encoding": _accept_encoding,
    b"access-control-request-method": _set_preflight,
    b"authorization": lambda found, value: found.authorization.append(value),
    b"cache-control": _cache_control,
    b"content-encoding": _content_encoding,
    b"idempotency-key": _idempotency_key,
    b"max-forwards": lambda *_: None,  # read by the wire
    b"origin": _set_origin,
    b"sec-fetch-site": _set_fetch_site,
    b"talon-proxy-application": _application,
    b"talon-proxy-coalesce": _coalesce,
    b"talon-proxy-order": _order,
    b"talon-proxy-timeout-ms": _timeout,
    b"traceparent": _traceparent,
    b"via": _via,
    b"x-request-id": _request_id,
}


def outbound(call: Call, found: CallFields) -> bytes:
    """Give all lines of a request to Talon.One but `Host` and the key; framing is canonical (C36)."""
    own = b"" if found.request_id is not None else b"X-Request-Id: %b\r\n" % call.request_id
    if found.accept_encoding is not None:
        own = b"Accept-Encoding: %b\r\n%b" % (found.accept_encoding, own)
    if call.body or call.method in _WITH_LENGTH:
        return b"%b%b%bContent-Length: %d\r\n" % (call.fields.block, _VIA_LINE, own, len(call.body))
    return call.fields.block + _VIA_LINE + own


def own_lines(request_id: bytes) -> bytes:
    """Give the lines that every answer of ours carries."""
    return b"X-Request-Id: %b\r\n" % request_id


def timed_lines(call: Call) -> bytes:
    """Give the lines that a caller's answer carries: its id, and where the time went, in milliseconds."""
    timeline = call.timeline
    waited = timeline.waited
    own = timeline.ready - timeline.complete - timeline.upstream - waited
    return b"X-Request-Id: %b\r\nServer-Timing: proxy;dur=%b, lane;dur=%b, upstream;dur=%b\r\n%b" % (
        call.request_id,
        _milliseconds(own),
        _milliseconds(waited),
        _milliseconds(timeline.upstream),
        _COLLAPSED if timeline.joined else b"",
    )


def _milliseconds(seconds: float) -> bytes:
    """Spell a duration in milliseconds; below half a second from a table, which is a fifth of the time."""
    tenths = int(seconds * 10000 + 0.5)
    return _TENTHS[tenths] if 0 <= tenths < len(_TENTHS) else b"%.1f" % max(seconds * 1000, 0.0)
