"""The shop: which calls its customers make, and which of them at the same time. Pure.

A customer is a profile with one session or more, a phone beside a laptop. First everything happens at once: of each
session several updates of the cart that all differ, two attempts without effect and an event, and of the profile an
update. Then each session's customer clicks a button ten times: identical calls.
"""

import random
from dataclasses import dataclass
from enum import Enum

import orjson

UPDATES = 5  # parallel ones of a session
CLICKS = 10  # identical ones
UNLINKED = 2  # of the updates, that do not name the profile: shops send it once


class Kind(Enum):
    """What a call is."""

    UPDATE = "update"
    PROFILE = "profile"
    EVENT = "event"
    DRY = "dry"
    CLICK = "click"


@dataclass(frozen=True, slots=True)
class Request:
    """One call. `id` is its own; `group` is shared by identical ones."""

    id: str
    kind: Kind
    method: str
    target: str
    body: bytes
    group: str = ""


Step = tuple[Request, ...]


@dataclass(frozen=True, slots=True)
class Customer:
    """Steps, one after the other; the calls of a step all at once, in this order."""

    steps: tuple[Step, ...]


def customers(sessions: int, profiles: int, *, seed: int = 1) -> list[Customer]:
    """Give everybody who shops. Sessions are dealt out to the profiles in turn."""
    order = random.Random(seed)
    return [
        _customer(f"p{profile}", [f"s{session}" for session in range(profile, sessions, profiles)], order)
        for profile in range(profiles)
    ]


def _customer(profile: str, sessions: list[str], order: random.Random) -> Customer:
    crowd = [_profile(profile)]
    for session in sessions:
        crowd += [
            *(_update(session, profile if number < UPDATES - UNLINKED else None, number) for number in range(UPDATES)),
            *(_dry(session, profile, number) for number in range(2)),
            _event(session, profile),
        ]
    order.shuffle(crowd)
    clicks = (tuple(_click(session, profile, number) for number in range(CLICKS)) for session in sessions)
    return Customer((tuple(crowd), *clicks))


def _update(session: str, profile: str | None, number: int) -> Request:
    cart = _cart(profile, quantity=number + 1)
    return Request(f"{session}-update-{number}", Kind.UPDATE, "PUT", _session(session), cart)


def _dry(session: str, profile: str, number: int) -> Request:
    cart = _cart(profile, quantity=100 + number)
    return Request(f"{session}-dry-{number}", Kind.DRY, "PUT", f"{_session(session)}?dry=true", cart)


def _click(session: str, profile: str, number: int) -> Request:
    cart = _cart(profile, quantity=1, couponCodes=["WELCOME10"])
    return Request(f"{session}-click-{number}", Kind.CLICK, "PUT", _session(session), cart, group=session)


def _event(session: str, profile: str) -> Request:
    # An event of the API's second version names a profile and no session.
    body = {"profileId": profile, "type": "viewed", "attributes": {"session": session}}
    return Request(f"{session}-event", Kind.EVENT, "POST", "/v2/events", orjson.dumps(body))


def _profile(profile: str) -> Request:
    body = orjson.dumps({"attributes": {"Language": "de"}})
    return Request(f"{profile}-profile", Kind.PROFILE, "PUT", f"/v2/customer_profiles/{profile}", body)


def _session(session: str) -> str:
    return f"/v2/customer_sessions/{session}"


def _cart(profile: str | None, *, quantity: int, **more: object) -> bytes:
    cart = {"cartItems": [{"name": "Shoe", "sku": "shoe", "quantity": quantity, "price": 60}], **more}
    return orjson.dumps({"customerSession": cart if profile is None else {"profileId": profile, **cart}})
