"""Facts: what rules may ask of one call and its answer. Read from both, looked at once, not kept.

Ids are hashed as they are read; what rules want to know of a raw id (is it a mail address?) is found out here.
"""

import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import orjson

from proxy.messages import Call, Reply, Source
from proxy.talon.checklist import names
from proxy.talon.checklist.caller import Caller
from proxy.talon.routes import TRUE, Route

LARGEST = 256 * 1024  # bytes of a body or an answer that is read
# So many are looked at: a look holds up calls for as long as it takes.
MOST_EFFECTS, MOST_ERRORS, MOST_WANTED = 200, 20, 20
_SESSION_PUTS = frozenset({"updateCustomerSessionV2", "updateCustomerSession"})
_MOST_UPDATES = 1 << 40  # of a session: more is a mistake
_NOTHING: Mapping[str, Any] = {}
Digest = Callable[[bytes], str]


class Facts:
    """Of one call. `status` is 0 while there is no answer: its caller left."""

    __slots__ = (
        "application",
        "call",
        "caller",
        "cart",
        "content",
        "digest",
        "document",
        "effect_types",
        "effects",
        "ended",
        "event",
        "operation",
        "profile",
        "profile_named",
        "query",
        "reply",
        "route",
        "session",
        "session_is_email",
        "session_is_profile",
        "started",
        "state",
        "status",
        "testing",
        "timeline",
        "unread",
        "upstream",
        "wanted",
        "whole",
    )

    def __init__(self, call: Call, route: Route | None, caller: Caller, digest: Digest, *, testing: bool) -> None:
        self.call = call
        self.route = route
        self.caller = caller
        self.digest = digest
        self.testing = testing
        self.operation = call.operation
        self.application = call.application
        self.timeline = call.timeline
        self.started = call.timeline.arrived
        self.ended = call.timeline.written or call.timeline.ready or call.timeline.complete
        self.status = 0
        self.upstream = False  # the answer is Talon.One's
        self.whole = False
        self.reply: Mapping[str, Any] | None = None  # of the sample, and of errors
        self.effects: Sequence[Mapping[str, Any]] = ()  # what Talon.One answered with, where that was read
        self.effect_types: frozenset[str] = frozenset()
        self.query = _query(call.target)
        self.document = _document(call.body)
        # It is large, compressed or no JSON: what it does not seem to have may well be in it.
        self.unread = bool(call.body) and self.document is _NOTHING
        self._read_body()

    def _read_body(self) -> None:
        document = self.document
        session = document.get("customerSession") if self.operation == "updateCustomerSessionV2" else document
        self.content: Mapping[str, Any] = session if isinstance(session, dict) else _NOTHING
        wanted = document.get("responseContent")
        self.wanted = frozenset(filter(_is_text, wanted[:MOST_WANTED])) if isinstance(wanted, list) else frozenset()
        state = self.content.get("state", "open") if self.operation in _SESSION_PUTS and not self.unread else ""
        self.state = state if isinstance(state, str) else "open"  # empty: none is sent, or none can be seen
        kind = document.get("type") if self.operation in ("trackEventV2", "trackEventV3", "trackEvent") else None
        self.event = kind if isinstance(kind, str) else ""
        items = self.content.get("cartItems")
        self.cart = self.digest(_encoded(items, self.call.body)) if isinstance(items, list) and items else ""
        self._read_ids()

    def _read_ids(self) -> None:
        route = self.route
        session = route.session if route is not None else None
        named = self.content.get("profileId")
        profile = route.profile if route is not None and route.profile else named if isinstance(named, str) else None
        self.session_is_email = session is not None and names.is_email(session)
        self.session_is_profile = bool(session) and session == profile
        self.profile_named = bool(profile)
        # Sessions belong to an Application, profiles to all of an environment.
        self.session = self._id(f"{self.application}/{session}") if session else ""
        self.profile = self._id(profile)

    def _id(self, text: str | None) -> str:
        return self.digest(text.encode("utf-8", "surrogateescape")) if text else ""

    def answered(self, reply: Reply, *, whole: bool, sampled: bool) -> "Facts":
        """Add what the answer says."""
        self.status = reply.status
        self.upstream = reply.source is Source.UPSTREAM
        self.whole = whole
        if self.upstream and reply.stream is None and (sampled or reply.status >= 400):
            found = _document(_plain(reply.block, reply.body))
            if found is not _NOTHING:
                self.reply = found
            if self.succeeded:
                self._read_effects(found.get("effects"))
        return self

    def _read_effects(self, found: object) -> None:
        if isinstance(found, list) and found:
            self.effects = [effect for effect in found[:MOST_EFFECTS] if isinstance(effect, dict)]
            kinds = [effect.get("effectType") for effect in self.effects]
            self.effect_types = frozenset([kind for kind in kinds if isinstance(kind, str)])

    # --- what many rules ask ---

    @property
    def dry(self) -> bool:
        """The call stores nothing, whatever it says, or because it says so."""
        return self.testing or (self.route is not None and self.route.dry)

    @property
    def succeeded(self) -> bool:
        """Talon.One did what it was asked for."""
        return self.upstream and 200 <= self.status < 300

    @property
    def sent(self) -> bool:
        """The call went to Talon.One on its own account."""
        return self.timeline.tries > 0 and not self.timeline.joined

    @property
    def errors(self) -> Sequence[tuple[str, str]]:
        """What Talon.One's error names: of each entry its title and its normalised pointer, as they may be shown."""
        found = self.reply.get("errors") if self.reply is not None and self.status >= 400 else None
        if not isinstance(found, list):
            return ()
        return [_named(error) for error in found[:MOST_ERRORS] if isinstance(error, dict)]

    @property
    def update_count(self) -> int | None:
        """How often the session was updated, where the answer tells."""
        count = self._told.get("updateCount")
        return count if isinstance(count, int) and 0 <= count < _MOST_UPDATES else None

    @property
    def state_told(self) -> str:
        """The session's state, where the answer tells it."""
        state = self._told.get("state")
        return state if isinstance(state, str) else ""

    @property
    def _told(self) -> Mapping[str, Any]:
        session = self.reply.get("customerSession") if self.reply is not None and self.succeeded else None
        return session if isinstance(session, dict) else _NOTHING

    def coupons_of(self, effect_type: str) -> frozenset[str]:
        """The coupons that the answer has this effect for, hashed."""
        if effect_type not in self.effect_types:
            return frozenset()
        codes = [props(effect).get("value") for effect in self.effects if effect.get("effectType") == effect_type]
        return frozenset(self._id(code) for code in codes if isinstance(code, str))

    def fingerprint(self) -> str:
        """Give what two calls have in common that are the same, byte for byte."""
        call = self.call
        return self.digest(b"\0".join((call.method, call.application.encode(), call.target, call.body)))


def props(effect: Mapping[str, Any]) -> Mapping[str, Any]:
    """Give the properties of an effect."""
    found = effect.get("props")
    return found if isinstance(found, dict) else _NOTHING


def _named(error: Mapping[str, Any]) -> tuple[str, str]:
    source = error.get("source")
    return names.words(error.get("title")), names.pointer(source.get("pointer")) if isinstance(source, dict) else ""


def _encoded(value: object, otherwise: bytes) -> bytes:
    try:
        return orjson.dumps(value)
    except orjson.JSONEncodeError:
        return otherwise  # nested deeper than it writes, though it reads it


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _query(target: bytes) -> Mapping[str, bool]:
    """Give the flags of a query: is each true?"""
    _, _, query = target.partition(b"?")
    if not query:
        return {}
    pairs = (pair.partition("=") for pair in query.decode("latin-1").split("&"))
    return {flag: value in TRUE for flag, _, value in pairs}


def _document(body: bytes) -> Mapping[str, Any]:
    if not body or len(body) > LARGEST:
        return _NOTHING
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        return _NOTHING
    return document if isinstance(document, dict) else _NOTHING


def _plain(block: bytes, body: bytes) -> bytes:
    """Undo a compression; what cannot be read is nothing."""
    lower = block.lower()
    if b"\ncontent-encoding:" not in lower and not lower.startswith(b"content-encoding:"):
        return body
    try:
        # Either header, and no more than is read.
        return zlib.decompressobj(47).decompress(body, LARGEST + 1)
    except zlib.error:
        return b""
