"""Keys say which session and which profiles a call names, in its path and in its body. Pure.

They decide a call's place in line, so they are the *decoded* ids: `/customer_profiles/j%40x.de` and
`"profileId":"j@x.de"` are one customer. A body is parsed whole, up to `limits.inspect`, and never searched by bytes:
nested and repeated keys would be found where Talon.One does not look. What cannot be read is no error here, it is
Talon.One's to answer; it is told as a reason, and counted.
"""

from enum import Enum
from typing import Final

import orjson

from proxy.talon import bodies
from proxy.talon.operations import OPERATIONS, Operation, Pointer
from proxy.talon.routes import Route

_CUSTOMER_SESSION: Final = "updateCustomerSessionV2"
_LEGACY_SESSION: Final = "updateCustomerSession"
_CUSTOMER_PROFILE: Final = "updateCustomerProfileV2"
# Operations by which a session comes to a profile.
_LINKING: Final = frozenset({_CUSTOMER_SESSION, _LEGACY_SESSION})
_FINAL_OPERATIONS: Final = frozenset({"returnCartItems", "reopenCustomerSession"})
_FINAL_STATES: Final = frozenset({"closed", "cancelled", None})
_ITEMS: Final = "*"  # of a pointer: each item of an array


class _Places:
    """Where in its body an operation names ids."""

    def __init__(self, operation: Operation) -> None:
        sessions, profiles = operation.session.pointers, operation.profile.pointers
        self.reader = bodies.reader(sessions + profiles)
        # Of a profile, where that is all a body can name.
        self.only = profiles[0] if len(profiles) == 1 and not sessions and _ITEMS not in profiles[0] else None


_PLACES: Final[dict[Operation, _Places]] = {
    operation: _Places(operation)
    for operation in OPERATIONS
    if operation.session.pointers or operation.profile.pointers
}


class Unkeyed(Enum):
    """Why the ids in a body are not known, as metrics name it."""

    TOO_LARGE = "too_large"  # for limits.inspect
    COMPRESSED = "compressed"
    NOT_JSON = "not_json"
    SHAPE = "shape"  # JSON, but not an id where one belongs
    TOO_MANY = "too_many"  # more ids than lanes a call may stand in


class Names:
    """What a call names. `profiles` without repeats, and without the empty id of customers who are not known."""

    __slots__ = ("profiles", "session", "unkeyed")

    def __init__(self, session: str | None, profiles: tuple[str, ...], unkeyed: Unkeyed | None) -> None:
        self.session = session
        self.profiles = profiles
        self.unkeyed = unkeyed

    def __repr__(self) -> str:
        # No ids: they stay out of logs.
        return f"<Names session={self.session is not None} profiles={len(self.profiles)} unkeyed={self.unkeyed}>"


NOTHING: Final = Names(None, (), None)


def names(route: Route, body: bytes, *, encoded: bool, limit: int) -> Names:
    """Read what a call names. `encoded`: the body has a Content-Encoding; `limit`: bytes of a body that is parsed."""
    operation = route.operation
    if operation.bulk:
        return NOTHING
    session = route.session
    profile = route.profile
    profiles: tuple[str, ...] = (profile,) if profile else ()
    places = _PLACES.get(operation)
    if places is None:
        return Names(session, profiles, None)
    document = _read(places.reader, body, encoded=encoded, limit=limit)
    if isinstance(document, Unkeyed):
        return Names(session, profiles, document)
    unkeyed = None
    in_order = dict.fromkeys(profiles)  # there may be a thousand of them
    try:
        if places.only is not None and not profiles:  # as in nearly every call
            only = _id(_walk(document, places.only))
            return Names(session, (only,) if only else (), None)
        for pointer in operation.profile.pointers:
            for found in _at(document, pointer):
                if found:
                    in_order[found] = None
        for pointer in operation.session.pointers:
            for found in _at(document, pointer):
                session = found or session
    except _NoIdError:
        unkeyed = Unkeyed.SHAPE
    return Names(session, tuple(in_order), unkeyed)


def binds(route: Route) -> bool:
    """Tell whether the call, if it succeeds, makes the profile it names the session's."""
    return route.operation.name in _LINKING and not route.dry


def decides_fate(route: Route, body: bytes, *, encoded: bool, limit: int) -> bool:
    """Tell whether the call decides what becomes of an order: closed, cancelled, returned, reopened.

    An update of a session that cannot be read may be one.
    """
    name = route.operation.name
    if route.dry:
        return False
    return name in _FINAL_OPERATIONS or (
        name in _LINKING and _state(name, parse(body, encoded=encoded, limit=limit)) in _FINAL_STATES
    )


def is_harmless_twice(route: Route, body: bytes, *, encoded: bool, limit: int) -> bool:
    """Tell whether the same bytes once more change nothing, because Talon.One merges them (design.md §6).

    A session's update that leaves it open, and a profile's that adds to no audience. What cannot be read is not.
    """
    name = route.operation.name
    if name not in (_CUSTOMER_SESSION, _CUSTOMER_PROFILE):
        return False
    document = parse(body, encoded=encoded, limit=limit)
    if name == _CUSTOMER_SESSION:
        return _state(name, document) == "open"
    return isinstance(document, dict) and "audiencesChanges" not in document


def _read(reader: bodies.Reader, body: bytes, *, encoded: bool, limit: int) -> object:
    """Parse as much of a body as a reader keeps, or say why not: an `Unkeyed`."""
    if not encoded and len(body) <= limit:
        try:
            return reader(body)
        except bodies.UNREADABLE:
            pass  # why, and what can be told all the same, the whole of it shows
    return parse(body, encoded=encoded, limit=limit)


def parse(body: bytes, *, encoded: bool, limit: int) -> object:
    """Parse a body, or say why not: an `Unkeyed`."""
    if encoded:
        return Unkeyed.COMPRESSED
    if len(body) > limit:
        return Unkeyed.TOO_LARGE
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        return Unkeyed.NOT_JSON


def _state(operation: str, document: object) -> str | None:
    """Give the state that an update asks for; a session stays open where none is named. None: cannot be told."""
    if isinstance(document, Unkeyed):
        return None
    if operation == _CUSTOMER_SESSION and isinstance(document, dict):
        document = document.get("customerSession")
    state = document.get("state") if isinstance(document, dict) else None
    return state if isinstance(state, str) else "open"


class _NoIdError(Exception):
    """Something other than an id stands where one belongs."""


def _at(value: object, pointer: Pointer) -> list[str]:
    """Find the ids at a pointer. Absent and null name nothing."""
    if _ITEMS not in pointer:
        found = _id(_walk(value, pointer))
        return [] if found is None else [found]
    star = pointer.index(_ITEMS)
    items = _walk(value, pointer[:star])
    if items is None:
        return []
    if not isinstance(items, list):
        raise _NoIdError
    return [found for item in items for found in _at(item, pointer[star + 1 :])]


def _walk(value: object, tokens: Pointer) -> object:
    """Give what stands behind these keys; None: nothing."""
    for token in tokens:
        if value is None:
            return None
        if not isinstance(value, dict):
            raise _NoIdError
        value = value.get(token)
    return value


def _id(value: object) -> str | None:
    if value is None or isinstance(value, str):
        return value
    raise _NoIdError
