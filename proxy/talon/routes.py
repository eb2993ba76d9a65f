"""Routes say which operation a call is, or refuse it before anything is sent.

The host that serves the Integration API also serves the Management API and the Campaign Manager, so what passes is
what is known. Matching is on the raw bytes of the path: literals byte for byte, an id with its `%2F` as one segment.
What a server behind us might read as another path — a dot segment in any encoding, a backslash, a control byte, a
first segment in an odd spelling — is refused rather than repaired. `classify` is pure, and raises nothing but
`ProxyError`.

Nothing here looks into bodies; `Operation` says where ids stand in them.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final
from urllib.parse import parse_qsl, unquote_to_bytes

from proxy.errors import DownstreamError, MethodNotAllowed, NotFound, RefusedError
from proxy.talon.operations import LISTED, MANAGEMENT, OTHER, Kind, Operation

METHODS: Final = (b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"PATCH")
READING: Final = frozenset({b"GET", b"HEAD"})
VERSIONS: Final = frozenset({b"v1", b"v2", b"v3"})
# Values that Go's `strconv.ParseBool`, which reads Talon.One's queries, takes for true.
TRUE: Final = frozenset({"1", "t", "T", "TRUE", "true", "True"})
# As a number: what is looked for in bytes is taken for one first, and an exception raised and dropped where it is not.
_PERCENT: Final = ord("%")


class Surface(Enum):
    """Which API a call belongs to, and so which key it gets."""

    INTEGRATION = "integration"
    MANAGEMENT = "management"


class Route:
    """What a call is. `kind` is that of the operation, or told by the method where the operation is not known."""

    __slots__ = ("dry", "kind", "operation", "parameters", "surface")

    def __init__(
        self, operation: Operation, surface: Surface, kind: Kind, dry: bool, parameters: tuple[bytes, ...]
    ) -> None:
        self.operation = operation
        self.surface = surface
        self.kind = kind
        self.dry = dry
        self.parameters = parameters  # raw path segments

    @property
    def reads(self) -> bool:
        """Whether the call changes nothing at Talon.One."""
        return self.dry or self.kind is Kind.READ

    @property
    def session(self) -> str | None:
        """The session id in the path, decoded."""
        position = self.operation.session.parameter
        return None if position is None else decode(self.parameters[position])

    @property
    def profile(self) -> str | None:
        """The profile id in the path, decoded."""
        position = self.operation.profile.parameter
        return None if position is None else decode(self.parameters[position])

    def __repr__(self) -> str:
        # No parameters: ids stay out of logs.
        return f"<Route {self.operation.name}{' dry' if self.dry else ''}>"


def decode(segment: bytes) -> str:
    """Percent-decode an id once. Bytes that are not UTF-8 become lone surrogates, so that two ids stay two."""
    return (unquote_to_bytes(segment) if _PERCENT in segment else segment).decode("utf-8", "surrogateescape")


class Routes:
    """The table, ready for matching.

    `extra` lists templates to forward beyond it ("GET /v1/path/{x}", any method: "*"); `management` opens the rest
    of /v1. Raises `ValueError` for a template that cannot be meant.
    """

    def __init__(self, *, extra: Sequence[str] = (), management: bool = False) -> None:
        self._extra = _node([_extra_row(line) for line in extra])
        self._management = management

    def classify(self, method: bytes, target: bytes) -> Route:
        """Name the operation. Raises `DownstreamError`, `NotFound`, `MethodNotAllowed` or `RefusedError`."""
        path, _, query = target.partition(b"?")
        if path.translate(None, _PLAIN):
            _inspect(path)
        segments = path.split(b"/")
        node = _LISTED.find(segments)
        end = node.ends.get(method) if node is not None else None
        if end is None:
            return self._unlisted(method, segments, node)
        parameters = tuple([segments[position] for position in end.positions])
        if b"" in parameters:
            raise NotFound(_EMPTY_SEGMENT)
        operation = end.operation
        dry = query != b"" and b"dry" in query and _is_dry(query, operation)
        return Route(operation, Surface.INTEGRATION, operation.kind, dry, parameters)

    def _unlisted(self, method: bytes, segments: list[bytes], listed: "_Node | None") -> Route:
        """Forward what is not in the table only where the settings or the versions say so."""
        if b"" in segments[1:] and len(segments) > 2:
            raise NotFound(_EMPTY_SEGMENT)
        extra = self._extra.find(segments)
        if extra is not None and method in extra.ends:
            return _stand_in(OTHER, Surface.INTEGRATION, method)
        known = {*(listed.ends if listed else ()), *(extra.ends if extra else ())}
        if known or method not in METHODS:
            allow = b", ".join(name for name in METHODS if not known or name in known)
            raise MethodNotAllowed(_METHOD, allow=allow.decode())
        if len(segments) < 3 or segments[0] or segments[1] not in VERSIONS:
            raise NotFound(_VERSION)
        return self._unknown(method, segments[1], segments[2])

    def _unknown(self, method: bytes, version: bytes, first: bytes) -> Route:
        if (version, first) in _OWNED:
            raise NotFound(_TEMPLATE)
        # Upstream might decode or fold it into one of the table's or of the Management API's.
        if not _FIRST.fullmatch(first) or (version == b"v1" and first != first.lower()):
            raise RefusedError(_SPELLING)
        if version != b"v1":
            return _stand_in(OTHER, Surface.INTEGRATION, method)
        if not self._management:
            raise RefusedError(_NO_MANAGEMENT)
        return _stand_in(MANAGEMENT, Surface.MANAGEMENT, method)


def split_application(target: bytes) -> tuple[str | None, bytes]:
    """Take `/app/<name>` off the front; without a well-formed one the target stays as it is."""
    match = _APPLICATION.fullmatch(target) if target.startswith(b"/app/") else None
    return (None, target) if match is None else (match[1].decode(), match[2])


def cut_base(target: bytes, base_path: bytes) -> bytes | None:
    """Take the base path off the front; None where the target is not below it."""
    base = base_path.rstrip(b"/")
    rest = target[len(base) :]
    return rest if target.startswith(base) and rest.startswith(b"/") else None


# --- texts ----------------------------------------------------------------------------------------------------

_VERSION: Final = "Only paths under /v1/, /v2/ and /v3/ are forwarded"
_EMPTY_SEGMENT: Final = (
    "The path has an empty segment: set the SDK's base URL without a trailing slash, and send no empty id"
)
_TEMPLATE: Final = "The Integration API has no such path; `routes.extra` can add it"
_METHOD: Final = "The path does not take this method"
_NO_MANAGEMENT: Final = "The Management API is not forwarded; `management.api_key` or `routes.extra` can open it"
_SPELLING: Final = "The first path segment after the version is spelled in a way that is not forwarded"
_BYTES: Final = "The path holds a byte, raw or percent-encoded, that is not forwarded"
_DOTS: Final = "The path holds a dot segment, raw or percent-encoded"


# --- what no path may hold ------------------------------------------------------------------------------------

# Bytes that need no second look.
_PLAIN: Final = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/-_~!$&'()*+,:;=@"
# A target is ASCII without space (RFC 9112 §3.2); `#` starts a fragment, which is never sent.
_RAW: Final = bytes(byte for byte in range(0x21, 0x7F) if byte not in b"\\#")
_DECODED: Final = bytes(byte for byte in range(0x20, 0x100) if byte not in b"\\\x7f")
# `.`, `/` and `\` in the overlong UTF-8 that lax decoders take.
_OVERLONG: Final = re.compile(rb"\xc0[\xae\xaf]|\xc1\x9c")
# Some servers cut `;…` off a segment before they resolve it.
_DOT_SEGMENT: Final = re.compile(rb"(?:^|[/\\])\.\.?(?=[/\\;]|\Z)")
# A server decodes once, a gateway before it once more; one for good measure.
_DECODINGS: Final = 3


def _inspect(path: bytes) -> None:
    """Refuse what another server might resolve to another path."""
    # `translate` leaves the bytes that may not stand there; it is four times faster than a search.
    if path.translate(None, _RAW):
        raise DownstreamError(_BYTES, parameter="target")
    decoded = unquote_to_bytes(path)
    if decoded.translate(None, _DECODED) or _OVERLONG.search(decoded):
        raise DownstreamError(_BYTES, parameter="target")
    # Decoding keeps the dot segments that are there, so the last result shows those of all before it.
    for _ in range(_DECODINGS - 1):
        if b"%" in decoded:
            decoded = unquote_to_bytes(decoded)
    if b"." in decoded and _DOT_SEGMENT.search(decoded):
        raise DownstreamError(_DOTS, parameter="target")


# --- matching -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _End:
    """What a template ends in. `positions` are those of its parameters among the segments of the path."""

    operation: Operation
    positions: tuple[int, ...]


# Segments of a template (None: a parameter), the methods it takes, its end.
_Row = tuple[Sequence[bytes | None], Sequence[bytes], _End]


@dataclass(frozen=True, slots=True)
class _Node:
    """One step of matching. `ends` by method, where a path may end here."""

    literals: Mapping[bytes, "_Node"]
    parameter: "_Node | None"
    ends: Mapping[bytes, _End]

    def find(self, segments: Iterable[bytes]) -> "_Node | None":
        node = self
        for segment in segments:
            # A literal's node goes on with the parameter's templates too: there is never a way back to take.
            ahead = node.literals.get(segment, node.parameter)
            if ahead is None:
                return None
            node = ahead
        return node


def _node(rows: Sequence[_Row]) -> _Node:
    """Build the step that these rows, cut to what is still ahead, share. Of two that fit, a literal wins."""
    ends: dict[bytes, _End] = {}
    literals: dict[bytes, list[_Row]] = {}
    parameter: list[_Row] = []
    for ahead, methods, end in rows:
        if not ahead:
            ends |= {method: end for method in methods if method not in ends}
        elif ahead[0] is None:
            parameter.append((ahead[1:], methods, end))
        else:
            literals.setdefault(ahead[0], []).append((ahead[1:], methods, end))
    return _Node(
        {literal: _node(below + parameter) for literal, below in literals.items()},
        _node(parameter) if parameter else None,
        ends,
    )


def _row(operation: Operation, method: bytes, template: str) -> _Row:
    segments = tuple(None if part.startswith(b"{") else part for part in template.encode().split(b"/"))
    positions = tuple(position for position, segment in enumerate(segments) if segment is None)
    methods = {b"*": METHODS, b"GET": (b"GET", b"HEAD")}.get(method, (method,))
    return segments, methods, _End(operation, positions)


# Its first segment is a plain literal: anything else would open a whole version of the API, or an odd spelling.
_EXTRA: Final = re.compile(
    r"(?P<method>\*|[A-Z]+) (?P<template>/v[123]/[a-z0-9_-]+(?:/(?:[A-Za-z0-9_-][A-Za-z0-9._~-]*|{\w+}))*)"
)


def _extra_row(line: str) -> _Row:
    match = _EXTRA.fullmatch(line)
    method = match["method"].encode() if match else b""
    if match is None or (method != b"*" and method not in METHODS):
        raise ValueError(f'routes.extra: {line!r} is not "METHOD /v1/path/{{parameter}}"')
    return _row(OTHER, method, match["template"])


def _stand_in(operation: Operation, surface: Surface, method: bytes) -> Route:
    return Route(operation, surface, Kind.READ if method in READING else Kind.WRITE, False, ())


def _is_dry(query: bytes, operation: Operation) -> bool:
    """Whether every flag is given once and true. In doubt a call counts as a write, which is safe."""
    if not operation.dry:
        return False
    pairs = parse_qsl(query.decode("latin-1"), keep_blank_values=True)
    return all(
        len(values) == 1 and values[0] in TRUE
        for values in ([value for name, value in pairs if name == flag] for flag in operation.dry)
    )


_LISTED: Final = _node([_row(operation, operation.method, operation.template) for operation in LISTED])
# First segments that belong to the Integration API: below them only the table passes.
_OWNED: Final = frozenset(tuple(operation.template.encode().split(b"/")[1:3]) for operation in LISTED)
_FIRST: Final = re.compile(rb"[A-Za-z0-9_-]+")
_APPLICATION: Final = re.compile(rb"/app/([a-z0-9][a-z0-9_-]{0,62})(/.*)", re.DOTALL)
