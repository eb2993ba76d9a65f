"""What the shop of the traffic machine may ask: calls of which everything is known without reading them.

A `Shape` says what a call is by construction (which session and profiles it names, whether it writes, decides an
order's fate, may be executed twice), so that the machine's ledger parses nothing and shares no code with the proxy.
A `Manner` is how it is asked: by which Application, under which header fields.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import orjson

from proxy.credentials import Application
from proxy.fields import request_table
from proxy.messages import Call, Fields, Timeline, joined

APPLICATIONS = (Application("default"), Application("other"), Application("sandbox", environment="sandbox"))
GUEST = "guest"  # a profile that is listed as shared

_TABLE = request_table()


@dataclass(frozen=True, slots=True)
class Shape:
    """A call, but for who makes it. `profiles`: those that it names, in their order."""

    name: str
    method: bytes
    target: bytes
    body: bytes = b""
    session: str | None = None
    profiles: tuple[str, ...] = ()
    reads: bool = False
    dry: bool = False
    links: bool = False  # makes its profile the session's
    fate: bool = False  # closes, cancels, returns, reopens; or might
    harmless: bool = False  # executed twice it does no harm
    keyable: bool = False  # Talon.One heeds an Idempotency-Key
    unreadable: bool = False  # the ids in its body cannot be known
    management: bool = False
    fields: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class Manner:
    """How a call is made. `seconds`: the time it has, where it says so."""

    name: str
    application: str = "default"
    key: bytes | None = None  # Idempotency-Key
    alone: bool = False
    unordered: bool = False
    seconds: float | None = None
    language: bytes | None = None

    def lines(self) -> Iterator[bytes]:
        """Give the header lines."""
        yield b"Talon-Proxy-Application: " + self.application.encode()
        if self.key:
            yield b"Idempotency-Key: " + self.key
        if self.alone:
            yield b"Talon-Proxy-Coalesce: no"
        if self.unordered:
            yield b"Talon-Proxy-Order: no"
        if self.seconds:
            yield b"Talon-Proxy-Timeout-Ms: %d" % int(self.seconds * 1000)
        if self.language:
            yield b"Accept-Language: " + self.language


_FIELDS: dict[tuple[Shape, Manner], Fields] = {}


def call(shape: Shape, manner: Manner, now: float) -> Call:
    """Make the call as the listener would. Fields are shared by calls that have the same, as they are there."""
    fields = _FIELDS.get((shape, manner))
    if fields is None:
        crossing, noted, _ = _TABLE.sort([*manner.lines(), *shape.fields])
        fields = _FIELDS[shape, manner] = Fields(joined(crossing), noted)
        fields.host = b"localhost"
    return Call(shape.method, shape.target, fields, shape.body, Timeline(now, now))


# --- shapes ---------------------------------------------------------------------------------------------------


def _update(session: str, profile: str | None = None, state: str | None = None, value: int = 1) -> Shape:
    document: dict[str, object] = {"attributes": {"value": value}}
    document |= {"profileId": profile} if profile is not None else {}
    document |= {"state": state} if state is not None else {}
    words = [session, profile, state, str(value) if value > 1 else None]
    return Shape(
        " ".join(["update", *[word if word else "anonymous" for word in words if word is not None]]),
        b"PUT",
        b"/v2/customer_sessions/" + session.encode(),
        orjson.dumps({"customerSession": document}),
        session=session,
        profiles=(profile,) if profile else (),
        links=True,
        fate=state in ("closed", "cancelled"),
        harmless=state in (None, "open"),
        keyable=True,
    )


def _profile(profile: str, value: int = 1, *, target: bytes | None = None, audiences: bool = False) -> Shape:
    document: dict[str, object] = {"attributes": {"value": value}}
    document |= {"audiencesChanges": {"adds": [1]}} if audiences else {}
    return Shape(
        f"profile {profile} {value}" + (" encoded" if target else "") + (" audiences" if audiences else ""),
        b"PUT",
        b"/v2/customer_profiles/" + (target or profile.encode()),
        orjson.dumps(document),
        profiles=(profile,),
        harmless=not audiences,
        keyable=True,
    )


def _event(profile: str) -> Shape:
    body = orjson.dumps({"profileId": profile, "type": "seen"})
    return Shape(f"event {profile}", b"POST", b"/v2/events", body, profiles=(profile,), keyable=True)


def _event_of(session: str, profile: str) -> Shape:
    body = orjson.dumps({"connectedSessionId": session, "profileId": profile, "type": "seen"})
    return Shape(f"event {session} {profile}", b"POST", b"/v3/events", body, session=session, profiles=(profile,))


def _returns(session: str) -> Shape:
    target = b"/v2/customer_sessions/%b/returns" % session.encode()
    body = b'{"return":{"returnedCartItems":[]}}'
    return Shape(f"returns {session}", b"POST", target, body, session=session, fate=True, keyable=True)


def _reopen(session: str) -> Shape:
    target = b"/v2/customer_sessions/%b/reopen" % session.encode()
    return Shape(f"reopen {session}", b"PUT", target, session=session, fate=True, keyable=True)


def _read(name: str, target: bytes, session: str | None = None, *profiles: str) -> Shape:
    return Shape(f"read {name}", b"GET", target, session=session, profiles=profiles, reads=True)


def _dry(shape: Shape) -> Shape:
    target = shape.target + b"?dry=true"
    return replace(
        shape, name=f"dry {shape.name}", target=target, reads=True, dry=True, links=False, fate=False, harmless=False
    )


def _legacy(session: str, profile: str) -> Shape:
    body = orjson.dumps({"profileId": profile, "total": 1})
    target = b"/v1/customer_sessions/" + session.encode()
    return Shape(f"legacy {session} {profile}", b"PUT", target, body, session, (profile,), links=True)


def _unreadable(name: str, body: bytes, *fields: bytes) -> Shape:
    target = b"/v2/customer_sessions/s1"
    return Shape(name, b"PUT", target, body, "s1", links=True, fate=True, keyable=True, unreadable=True, fields=fields)


def _of_shop(name: str, method: bytes, target: bytes, body: bytes = b"", *, keyable: bool = False) -> Shape:
    """A write that names nobody, or too many."""
    return Shape(name, method, target, body, keyable=keyable)


_SHAPES = (
    _update("s1"),
    *[_update(session, profile) for session in ("s1", "s2") for profile in ("p1", "p2")],
    *[_update("s1", profile, value=2) for profile in (None, "p1")],
    _update("s2"),
    _update("s1", ""),
    *[_update(session, GUEST) for session in ("s1", "s2", "s3", "s4")],
    *[_update(session, "p3") for session in ("s1", "s2", "s3", "s4")],  # found to be shared
    _update("s1", "p1", "closed"),
    _update("s1", None, "closed"),
    _update("s2", "p1", "cancelled"),
    _profile("p1"),
    _profile("p1", 2),
    _profile("p1", target=b"%701"),
    _profile("p2"),
    _profile("p3"),
    _profile(GUEST),
    _profile("p1", audiences=True),
    _event("p1"),
    _event("p2"),
    _event(GUEST),
    _event_of("s1", "p1"),
    _event_of("s2", "p2"),
    _returns("s1"),
    _returns("s2"),
    _reopen("s1"),
    _read("session s1", b"/v2/customer_sessions/s1", "s1"),
    _read("session s2", b"/v2/customer_sessions/s2", "s2"),
    _read("profile p1", b"/v1/customer_profiles/p1/inventory", None, "p1"),
    _read("campaigns", b"/v1/integration/campaigns"),
    Shape("read price", b"POST", b"/v1/best_prior_price", b'{"skus":["1"]}', reads=True),
    _read("things", b"/v2/things"),
    _dry(_update("s1", "p1")),
    _dry(_update("s2", "p1")),
    _dry(_event("p1")),
    _legacy("s1", "p2"),
    Shape("join p1", b"POST", b"/v1/loyalty_programs/1/profile/p1/join", profiles=("p1",)),
    Shape("forget p1", b"DELETE", b"/v1/customer_data/p1", profiles=("p1",)),
    Shape(
        "referral p1 p2",
        b"POST",
        b"/v1/referrals",
        orjson.dumps({"advocateProfileIntegrationId": "p1", "friendProfileIntegrationId": "p2"}),
        profiles=("p1", "p2"),
    ),
    _unreadable("broken s1", b'{"customerSession":'),
    _unreadable("compressed s1", b"\x1f\x8b", b"Content-Encoding: gzip"),
    _of_shop("bulk", b"PUT", b"/v2/customer_profiles", b'{"customerProfiles":[{"integrationId":"p1"}]}', keyable=True),
    _of_shop("catalog", b"PUT", b"/v1/catalogs/1/sync", b'{"actions":[]}'),
    _of_shop("unknown", b"POST", b"/v2/things", b"{}"),
    Shape("manage", b"PUT", b"/v1/applications/1", b"{}", management=True),
    Shape("read managed", b"GET", b"/v1/applications/1", reads=True, management=True),
)
SHAPES = {shape.name: shape for shape in _SHAPES}

_MANNERS = (
    Manner("plain"),
    Manner("other", "other"),
    Manner("sandbox", "sandbox"),
    Manner("key", key=b"k1"),
    Manner("another key", key=b"k2"),
    Manner("other's key", "other", key=b"k1"),
    Manner("alone", alone=True),
    Manner("unordered", unordered=True),
    Manner("unordered key", key=b"k1", unordered=True),
    Manner("hasty", seconds=1.5),
    Manner("hasty key", seconds=2.5, key=b"k1"),
    Manner("german", language=b"de"),
)
MANNERS = {manner.name: manner for manner in _MANNERS}
