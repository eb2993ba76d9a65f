"""Heads of requests and replies: bytes → checked values. Pure.

llhttp (by httptools) is the judge of a head's grammar. It only ever sees one complete head, with a parser of its own
(0.2 µs to make) that has nobody to report to: so it never takes a body for a second message or a trailer for a field,
and never stops at an `Upgrade`; where a message ends is decided here and in `chunked.py` alone. A head that it accepts
is lines of `name:value` between CRLFs, which are then split and sorted by name: 1.5 µs for eight fields, against 3.5
for a callback each. What it lets through and we do not take is refused here.
"""

import re
from typing import Any, Final

import httptools

from proxy.errors import (
    BadMessage,
    BadReply,
    BodyTooLarge,
    DownstreamError,
    ExpectationFailed,
    HeadTooLarge,
    NotImplementedHere,
    ProxyError,
    TargetTooLong,
    VersionNotSupported,
)
from proxy.messages import Fields, Noted, Reply, Sent, Source, joined
from proxy.wire.buffers import Share
from proxy.wire.fieldtable import Fate, FieldTable, Hop, connection_options, without_nominated
from proxy.wire.replystream import ReplyStream

MAX_FIELD: Final = 8192  # bytes of a field line with its CRLF; one this long is too long
METHODS: Final = frozenset({b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"PATCH", b"OPTIONS"})
_NOBODY: Final = object()  # to whom parsers report
# Reached by name, since `Fate.HOST` is a look-up through the enum's metaclass (0.1 µs each in Python 3.11).
_HOST_FATE, _LENGTH, _CODING, _CONNECTION = Fate.HOST, Fate.LENGTH, Fate.CODING, Fate.CONNECTION
_LINE_REST: Final = 24  # bytes a request line may have beside its target
_HOST: Final = re.compile(rb"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9][A-Za-z0-9._-]*)(?::[0-9]{1,5})?")
_LENGTH_NAME: Final = b"\r\nContent-Length: "
_TARGET: Final = bytes(byte for byte in range(0x21, 0x7F) if byte not in b"\\#")
_REMEMBERED_HEADS: Final = 512
_LONGEST_SEEN: Final = 2048  # bytes
_PERSONAL: Final = re.compile(
    rb"\r\n[^:\r\n]*(?:auth|cookie|credential|key|passw|secret|session|token)[^:\r\n]*:", re.IGNORECASE
)
_ABSOLUTE: Final = re.compile(rb"https?://([^/?#]*)(.*)", re.IGNORECASE)
_METHOD_LIKE: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+ ")
_VERSION_LIKE: Final = re.compile(rb"[^\r\n]* HTTP/([0-9]\.[0-9])\r\n|[A-Z]+ [^ \r\n]+\r\n")  # none: that is HTTP/0.9
_VERSIONS: Final = frozenset({b"1.1", b"1.0"})


class RequestFields(Fields):
    """Those of a request, with what they say for this hop."""

    __slots__ = ("chunked", "closes", "expects_continue", "old")

    def __init__(self, lines: list[bytes], noted: list[Noted], *, old: bool) -> None:
        super().__init__(joined(lines), noted)
        self.chunked = False
        self.closes = old
        self.expects_continue = False
        self.old = old  # HTTP/1.0


class RequestHead:
    """A request's head. `length` is that of a plain body; `fields.chunked` excludes it."""

    __slots__ = ("fields", "length", "method", "origin_form", "seen", "target")

    def __init__(
        self, method: bytes, target: bytes, fields: RequestFields, length: int, *, origin_form: bool = True
    ) -> None:
        self.method = method
        self.target = target
        self.fields = fields
        self.length = length
        self.origin_form = origin_form  # as it came (RFC 9112 §3.2.1)
        self.seen: Seen | None = None  # where its fields are remembered

    @property
    def asks_this_hop(self) -> bool:
        """`OPTIONS *`, or OPTIONS that may not travel further (RFC 9110 §7.6.2)."""
        return self.method == b"OPTIONS" and (
            self.target == b"*"
            or any(
                lower == b"max-forwards" and value.isdigit() and not value.strip(b"0")
                for lower, value in self.fields.noted
            )
        )


class RequestLimits:
    """Bounds of a request, in bytes and (`fields`) lines; settings `limits.*`."""

    __slots__ = ("body", "fields", "head", "target")

    def __init__(self, *, head: int, fields: int, target: int, body: int) -> None:
        self.head = head
        self.fields = fields
        self.target = target
        self.body = body


def check_unfinished(head: bytearray, limits: RequestLimits) -> None:
    """Refuse a head that is already wrong before its end has come. Raises DownstreamError."""
    line = head.find(b"\n", 0, limits.target + _LINE_REST)
    if line < 0 and len(head) >= limits.target + _LINE_REST:
        raise TargetTooLong("The target is longer than limits.target", parameter="target")
    if line >= 0 and not head.endswith((b" HTTP/1.1\r", b" HTTP/1.0\r"), 0, line):
        raise malformed(bytes(head))
    if len(head) > limits.head:
        raise HeadTooLarge("The head is larger than limits.head")


def request_probe() -> httptools.HttpRequestParser:
    """Make a parser to be fed with a head that comes in pieces, to learn early that it is malformed."""
    return httptools.HttpRequestParser(_NOBODY)


def malformed(head: bytes) -> DownstreamError:
    """Say what to answer to a head that llhttp refused."""
    method = _METHOD_LIKE.match(head)
    if method and method[0][:-1] not in METHODS and method[0][:-1].isupper():
        return NotImplementedHere("This method is not known here")
    version = _VERSION_LIKE.match(head)
    if version and version[1] not in _VERSIONS:
        return VersionNotSupported("Only HTTP/1.1 and HTTP/1.0 are spoken here")
    return BadMessage("The head is not valid HTTP/1.1 (RFC 9112)")


class Seen:
    """What stands behind the request line of heads that were seen, and what was made of it."""

    __slots__ = ("after", "before", "fields", "length", "limits")

    def __init__(self, limits: RequestLimits, before: bytes, after: bytes, request: RequestHead) -> None:
        """`before` and `after` the number in `Content-Length`; where that was not cut out, `before` is all there is."""
        self.limits = limits  # that were kept to
        self.before = before
        self.after = after
        self.fields = request.fields
        self.length = request.length


class RequestParser:
    """Parses heads of requests; remembers the fields of those it has seen.

    A caller's heads differ in the request line and the length of the body, and in little else. Fields seen before, byte
    for byte, need no second look: 1.2 µs per head instead of 3.5, and 0.8 where they are those of the connection's last
    call. Heads with a secret of the caller's are not kept.
    """

    def __init__(self, limits: RequestLimits, table: FieldTable) -> None:
        self._limits = limits
        self._table = table
        self._seen: dict[bytes, Seen] = {}

    def parse(self, head: bytes, usual: Seen | None = None) -> RequestHead:
        """Parse one complete head, its empty line included. Raises DownstreamError.

        `usual`: what the last head from there had seen; most have the same.
        """
        line_end = head.find(b"\r\n")
        if usual is not None and usual.limits is self._limits:
            request = self._as_usual(head, line_end, usual)
            if request is not None:
                return request
        key, digits = _without_length(head, line_end)
        seen = self._seen.get(key)
        if seen is not None:
            request = self._with_seen(head, line_end, seen, digits)
            if request is not None:
                return request
        request = self._parse(head)
        if request.origin_form and not request.fields.old and not request.fields.chunked:
            cut = len(key) if digits is None else key.find(_LENGTH_NAME) + len(_LENGTH_NAME)
            remember(self._seen, key, key, Seen(self._limits, key[:cut], key[cut:], request))
        return request

    def _as_usual(self, head: bytes, line_end: int, usual: Seen) -> RequestHead | None:
        if not head.startswith(usual.before, line_end):
            return None
        start = line_end + len(usual.before)
        if not usual.after:
            return self._with_seen(head, line_end, usual, None) if start == len(head) else None
        if not head.endswith(usual.after):
            return None
        return self._with_seen(head, line_end, usual, head[start : len(head) - len(usual.after)])

    def _with_seen(self, head: bytes, line_end: int, seen: Seen, digits: bytes | None) -> RequestHead | None:
        """Join a request line, checked here, with fields that were checked before; None: look more closely.

        Without `digits` nothing was cut out of the fields, so that they tell the same length as before: none, or
        one that is spelled in another way.
        """
        if len(head) > self._limits.head:
            return None
        line, length = head[:line_end], seen.length
        words = line.split(b" ")
        if len(words) != 3 or words[0] not in METHODS or words[2] != b"HTTP/1.1":
            return None
        target = words[1]
        if not target.startswith(b"/") or target.translate(None, _TARGET) or len(target) > self._limits.target:
            return None
        if digits is not None:
            if not digits.isdigit() or len(digits) > 18:
                return None
            length = int(digits)
            if length > self._limits.body:
                return None
        request = RequestHead(words[0], target, seen.fields, length)
        request.seen = seen
        return request

    def _parse(self, head: bytes) -> RequestHead:
        try:
            httptools.HttpRequestParser(_NOBODY).feed_data(head)
        except httptools.HttpParserUpgrade:
            pass  # the head is complete; Upgrade is for this hop, and ignored (C40)
        except httptools.HttpParserError as error:
            raise malformed(head) from error
        lines = head.split(b"\r\n")
        # llhttp takes a request line without a version (HTTP/0.9), ended by a LF alone: its lines must be ours.
        if head.count(b"\n") >= len(lines):
            raise malformed(head)
        # It takes more than one space, empty lines and other protocols' names on this line.
        words = lines[0].split(b" ")
        if len(words) != 3 or words[2] not in (b"HTTP/1.1", b"HTTP/1.0") or words[0] not in METHODS:
            raise malformed(head)
        method, target, version = words
        _check_sizes(head, target, lines, self._limits)
        crossing, noted, hop = self._table.sort(lines[1:-2])
        if options := [value for fate, value in hop if fate is _CONNECTION]:
            crossing = without_nominated(connection_options(options), crossing)
        fields = RequestFields(crossing, noted, old=version == b"HTTP/1.0")
        length = _read_hop_fields(fields, hop)
        if length > self._limits.body:
            raise BodyTooLarge("The body is larger than limits.body")
        if target.startswith(b"/") and not target.translate(None, _TARGET):
            return RequestHead(method, target, fields, length)
        return RequestHead(method, _origin_form(method, target, fields), fields, length, origin_form=False)


def _check_sizes(head: bytes, target: bytes, lines: list[bytes], limits: RequestLimits) -> None:
    if len(target) > limits.target:
        raise TargetTooLong("The target is longer than limits.target", parameter="target")
    if len(head) > limits.head:
        raise HeadTooLarge("The head is larger than limits.head")
    if len(lines) - 3 > limits.fields:
        raise HeadTooLarge("More header fields than limits.fields")
    # A head that is small as a whole has no large field.
    if len(head) >= MAX_FIELD and any(len(line) + 2 >= MAX_FIELD for line in lines[1:]):
        raise HeadTooLarge("A header field is not smaller than 8 KiB")


def _read_hop_fields(fields: RequestFields, hop: list[Hop]) -> int:
    """Read what is for this hop; gives the length of the body."""
    length: int | None = None
    hosts: list[bytes] = []
    codings: list[bytes] = []
    for fate, value in hop:
        if fate is _HOST_FATE:
            hosts.append(value)
        elif fate is _LENGTH:
            length = _decimal(value)
        elif fate is _CODING:
            codings.append(value)
        elif fate is _CONNECTION:
            fields.closes |= b"close" in connection_options([value])
        elif fate is Fate.EXPECT and not fields.old:
            if value.lower() != b"100-continue":
                raise ExpectationFailed("Only 100-continue can be expected", parameter="Expect")
            fields.expects_continue = True
        elif fate is Fate.UPGRADE and value.lower() != b"h2c":
            # Java's HttpClient offers h2c with every request, and goes on in HTTP/1.1 (C40).
            fields.closes = True
    if codings:
        # llhttp has refused a Content-Length beside it; checked again, since all framing hangs on it.
        if codings[0].lower() != b"chunked" or len(codings) > 1 or fields.old or length is not None:
            raise BadMessage("Only one coding, chunked, is taken, in HTTP/1.1", parameter="Transfer-Encoding")
        fields.chunked = True
    fields.host = _read_host(hosts, old=fields.old)
    return length or 0


def _decimal(value: bytes) -> int:
    # llhttp has refused repeats, lists, signs and overflow; checked again, since all framing hangs on it.
    if not value.isdigit() or len(value) > 19:
        raise BadMessage("Not a decimal number", parameter="Content-Length")
    return int(value)


def _read_host(hosts: list[bytes], *, old: bool) -> bytes:
    if len(hosts) > 1:
        raise BadMessage("More than one Host", parameter="Host")
    if not hosts and not old:
        raise BadMessage("Host is missing (RFC 9112 §3.2)", parameter="Host")
    if hosts and not _HOST.fullmatch(hosts[0]):
        raise BadMessage("Not a host with an optional port", parameter="Host")
    return hosts[0] if hosts else b""


def _origin_form(method: bytes, target: bytes, fields: RequestFields) -> bytes:
    """Bring a target into origin-form (RFC 9112 §3.2); an absolute one's authority then stands for `Host`."""
    if target.translate(None, _TARGET):
        raise BadMessage("Fragments, backslashes and other than visible ASCII are not valid here", parameter="target")
    if target == b"*":
        if method != b"OPTIONS":
            raise BadMessage("Only OPTIONS takes *", parameter="target")
        return target
    absolute = _ABSOLUTE.fullmatch(target)
    if absolute is None or not _HOST.fullmatch(absolute[1]):
        raise BadMessage("Neither a path nor an http URL", parameter="target")
    fields.host = absolute[1]
    return absolute[2] if absolute[2].startswith(b"/") else b"/" + absolute[2]


class ReplyFields:
    """The fields of a reply's head, with what they say for this hop; without the number in `Content-Length`.

    Shared by all heads that are equal in that: never changed once made.
    """

    __slots__ = ("block", "chunked", "dated", "keep_alive", "keeps")

    def __init__(self, lines: list[bytes], noted: list[Noted], *, keeps: bool) -> None:
        self.block = joined(lines)  # what crosses, byte for byte
        self.dated = bool(noted)  # `Date` is all that a reply's table notes
        self.chunked = False
        self.keeps = keeps  # the connection may serve again
        self.keep_alive: int | None = None  # seconds, from `Keep-Alive: timeout=`


class ReplyHead:
    """A reply's head. `length` None and not `fields.chunked`: the body, if there is one, ends with the connection."""

    __slots__ = ("fields", "length", "status")

    def __init__(self, status: int, fields: ReplyFields, length: int | None) -> None:
        self.status = status
        self.fields = fields
        self.length = length

    @property
    def interim(self) -> bool:
        """1xx: not the answer yet."""
        return self.status < 200

    def whole(self, body: bytes, share: Share | None, *, method: bytes) -> Reply:
        """Give the reply whose body is all there. `method`: of its request; see `Reply` for `length`."""
        if self.status == 204:
            length = None
        else:
            length = self.length if method == b"HEAD" or self.status == 304 else len(body)
        return self._reply(body, length, share, None)

    def begun(self, stream: ReplyStream) -> Reply:
        """Give the reply whose body comes as a stream, which counts what it holds itself."""
        return self._reply(b"", self.length, None, stream)

    def _reply(self, body: bytes, length: int | None, share: Share | None, stream: ReplyStream | None) -> Reply:
        return Reply(
            self.status,
            self.fields.block,
            body,
            source=Source.UPSTREAM,
            length=length,
            dated=self.fields.dated,
            stream=stream,
            share=share,
        )


MAX_REPLY_HEAD: Final = 65536
MAX_REPLY_FIELDS: Final = 128
MAX_INTERIM: Final = 16  # 1xx answers before the real one (U15)
_STATUS_LINE: Final = re.compile(rb"HTTP/1\.([01]) ([1-5][0-9]{2})(?: [\t\x20-\x7e\x80-\xff]*)?")
_KEEP_ALIVE: Final = re.compile(rb"(?:^|[,;\s])timeout=([0-9]{1,6})", re.IGNORECASE)


def reply_probe() -> httptools.HttpResponseParser:
    """Make a parser to be fed with a head that comes in pieces, to learn early that it is malformed."""
    return httptools.HttpResponseParser(_NOBODY)


class ReplyParser:
    """Parses heads of replies; remembers those it has seen.

    Within a second (`Date`) they differ in the length of the body, and in little else: 1.1 µs per head instead of 3.5.
    """

    def __init__(self, table: FieldTable) -> None:
        """`table` notes `Date` and nothing else."""
        self._table = table
        self._seen: dict[bytes, ReplyHead] = {}

    def parse(self, head: bytes) -> ReplyHead:
        """Parse one complete head, its empty line included. Raises BadReply (RFC 9112 §4, §6; C42–C51)."""
        key, digits = _without_length(head, 0)
        seen = self._seen.get(key)
        if seen is not None:
            if digits is None:
                return seen
            if digits.isdigit() and len(digits) <= 18:
                return ReplyHead(seen.status, seen.fields, int(digits))
        # Not seen, or its length is spelled unusually.
        seen = self._parse(head)
        remember(self._seen, key, key, seen)
        return seen

    def _parse(self, head: bytes) -> ReplyHead:
        try:
            httptools.HttpResponseParser(_NOBODY).feed_data(head)
        except httptools.HttpParserUpgrade:
            pass  # a 101 is refused below; any other status has no business with Upgrade
        except httptools.HttpParserError as error:
            raise bad_reply("The head is not valid HTTP/1.1") from error
        lines = head.split(b"\r\n")
        line = _STATUS_LINE.fullmatch(lines[0])
        if line is None or line[2] == b"101":
            raise bad_reply("Not an HTTP/1.1 status line, or a 101 that was not asked for")
        if len(lines) - 3 > MAX_REPLY_FIELDS:
            raise bad_reply("Too many header fields")
        crossing, noted, hop = self._table.sort(lines[1:-2])
        if options := [value for fate, value in hop if fate is _CONNECTION]:
            named = connection_options(options)
            crossing = without_nominated(named, crossing)
            noted = [] if b"date" in named else noted
        # An HTTP/1.0 peer may offer keep-alive; nothing is gained by trusting it (C51).
        fields = ReplyFields(crossing, noted, keeps=line[1] == b"1")
        return ReplyHead(int(line[2]), fields, _read_reply_hop_fields(fields, hop))


def _without_length(head: bytes, start: int) -> tuple[bytes, bytes | None]:
    """Cut the number out of `Content-Length`, as it is nearly always spelled: what is left, and the number."""
    digits = head.find(_LENGTH_NAME, start)
    if digits < 0:
        return head[start:], None
    digits += len(_LENGTH_NAME)
    end = head.find(b"\r", digits)
    return head[start:digits] + head[end:], head[digits:end]


def remember(seen: dict[Any, Any], key: object, head: bytes, value: object) -> None:
    """Keep what was made of a head, unless it is long or tells of a person (a first line, or an empty one, leads)."""
    if len(head) > _LONGEST_SEEN or _PERSONAL.search(head):
        return
    if len(seen) >= _REMEMBERED_HEADS:
        seen.clear()
    seen[key] = value


def _read_reply_hop_fields(fields: ReplyFields, hop: list[Hop]) -> int | None:
    """Read what is for this hop; gives the length of the body, where it has one."""
    length: int | None = None
    codings: list[bytes] = []
    old = not fields.keeps
    for fate, value in hop:
        if fate is _LENGTH:
            if length is not None or not value.isdigit() or len(value) > 19:
                raise bad_reply("Content-Length is not one decimal number")
            length = int(value)
        elif fate is _CODING:
            codings.append(value)
        elif fate is _CONNECTION:
            fields.keeps &= b"close" not in value.lower()
        elif fate is Fate.KEEP_ALIVE:
            found = _KEEP_ALIVE.search(value)
            fields.keep_alive = int(found[1]) if found else None
    if codings:
        if codings[0].lower() != b"chunked" or len(codings) > 1 or old or length is not None:
            raise bad_reply("Transfer-Encoding is not the one coding chunked")
        fields.chunked = True
    return length


def bad_reply(details: str) -> ProxyError:
    """The reply began, so the request was sent."""
    return BadReply(details, sent=Sent.MAYBE)
