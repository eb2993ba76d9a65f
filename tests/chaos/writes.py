"""The writes: of every kind that the proxy treats differently, each with a nonce in its id and in its body. Pure."""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum, auto

import orjson

HOT = 0.2  # share of writes that fall on a twentieth of the profiles
UNLINKED = 0.3  # share of session updates that do not name the profile


class Kind(Enum):
    """Of a write."""

    UPDATE = auto()
    ATTRIBUTES = auto()
    KEYED_EVENT = auto()
    EVENT = auto()
    AUDIENCE = auto()
    CLOSE = auto()
    RETURN = auto()
    REOPEN = auto()


# Merged, and so harmless twice; or Talon.One heeds the key (design.md §6). All others are never sent again.
REPEATABLE = frozenset({Kind.UPDATE, Kind.ATTRIBUTES, Kind.KEYED_EVENT})


@dataclass(frozen=True, slots=True)
class Write:
    """One write. `session` and `profile` are what it names."""

    nonce: str
    kind: Kind
    request: bytes
    session: str | None
    profile: str | None


def writes(count: int, profiles: int, *, seed: int) -> Iterator[Write]:
    """Give so many writes; each profile has two sessions."""
    chance = random.Random(seed)
    kinds = random.Random(seed + 1)
    for number in range(count):
        crowd = profiles // 20 if chance.random() < HOT else profiles
        profile = f"p{chance.randrange(max(crowd, 1))}"
        session = f"{profile}-{chance.choice('ab')}"
        kind = kinds.choices(list(Kind), (8, 2, 1, 2, 1, 1, 1, 1))[0]
        yield _write(f"n{number}", kind, session, profile, linked=chance.random() >= UNLINKED)


def _write(nonce: str, kind: Kind, session: str, profile: str, *, linked: bool) -> Write:
    attributes = {"nonce": nonce}
    match kind:
        case Kind.UPDATE | Kind.CLOSE:
            state = "closed" if kind is Kind.CLOSE else "open"
            cart: dict[str, object] = {"state": state, "attributes": attributes}
            if linked:
                cart["profileId"] = profile
            target = f"PUT /v2/customer_sessions/{session}"
            return _named(nonce, kind, target, {"customerSession": cart}, session, profile if linked else None)
        case Kind.RETURN:
            return _named(nonce, kind, f"POST /v2/customer_sessions/{session}/returns", attributes, session, None)
        case Kind.REOPEN:
            return _named(nonce, kind, f"PUT /v2/customer_sessions/{session}/reopen", attributes, session, None)
        case Kind.ATTRIBUTES:
            target = f"PUT /v2/customer_profiles/{profile}"
            return _named(nonce, kind, target, {"attributes": attributes}, None, profile)
        case Kind.AUDIENCE:
            target = f"PUT /v2/customer_profiles/{profile}"
            document = {"attributes": attributes, "audiencesChanges": {"adds": ["vip"]}}
            return _named(nonce, kind, target, document, None, profile)
    event = {"profileId": profile, "type": "seen", "attributes": attributes}
    return _named(nonce, kind, "POST /v2/events", event, None, profile)


def _named(nonce: str, kind: Kind, target: str, document: object, session: str | None, profile: str | None) -> Write:
    body = orjson.dumps(document)
    key = f"Idempotency-Key: {nonce}\r\n" if kind is Kind.KEYED_EVENT else ""
    head = (
        f"{target} HTTP/1.1\r\nHost: localhost\r\nX-Request-Id: {nonce}\r\n{key}"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return Write(nonce, kind, head.encode() + body, session, profile)
