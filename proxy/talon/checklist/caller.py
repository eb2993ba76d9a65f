"""Who calls, by what the header fields of a call say: the family of its HTTP library, or a browser. Pure.

A family is a closed thing: `python-requests`, `GuzzleHttp`, `SDK python`. Versions and comments are left out, except
that of an SDK, which tells a legacy one.
"""

import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

from proxy.messages import Fields

_AGENT = re.compile(rb"(?:\A|\r\n)user-agent:[ \t]*([^\r\n]*)", re.IGNORECASE)
# What generated SDKs send: OpenAPI-Generator/26.13/python.
_SDK = re.compile(rb"OpenAPI-Generator/(\d{1,3})[0-9.a-zA-Z-]*/([a-zA-Z]{1,16})")
_PRODUCT = re.compile(rb"[A-Za-z][A-Za-z_.-]{0,30}")
_KEY = re.compile(rb"[0-9a-fA-F]{40,128}")
_OF_A_PAGE = re.compile(rb"(?:\A|\r\n)(?:sec-ch-ua|sec-fetch-dest|referer)[^:\r\n]*:", re.IGNORECASE)
# Versions of SDKs count years since 2024 (facts §11). Below are legacy ones; 1.0.0 is what the generator calls any
# client that somebody made for himself.
_LEGACY = range(2, 20)
_CROSS = (b"cross-site", b"same-site")
_REMEMBERED, _LONGEST = 256, 2_048  # blocks of lines, and bytes of one


class Traits(NamedTuple):
    """What a block of header lines says of who sends it."""

    family: str
    legacy: bool  # one of the SDKs that are no longer kept
    page: bool  # certainly a web page
    copied: bool  # fields of a browser, passed on by a backend


class Caller(NamedTuple):
    """What a call's header fields say of its caller."""

    family: str
    legacy: bool
    page: bool
    copied: bool
    key: bool  # brings a real-looking key that it does not need
    management: bool  # brings a key of the Management API
    idempotent: bool  # an Idempotency-Key


class Callers:
    """Reads header fields; most come again and again. `excused`: may these `Authorization` values be brought?"""

    def __init__(self, excused: Callable[[Sequence[bytes]], bool]) -> None:
        self._excused = excused
        # By lines without `Authorization`, which does not cross.
        self._known: dict[bytes, Traits] = {}

    def read(self, fields: Fields) -> Caller:
        """Tell who calls."""
        traits = self._known.get(fields.block)
        if traits is None:
            traits = _traits(fields)
            if len(fields.block) <= _LONGEST:
                if len(self._known) >= _REMEMBERED:
                    self._known.clear()
                self._known[fields.block] = traits
        authorization = [value for lower, value in fields.noted if lower == b"authorization"]
        idempotent = any(lower == b"idempotency-key" for lower, _ in fields.noted)
        if not authorization:
            return Caller(*traits, key=False, management=False, idempotent=idempotent)
        return Caller(
            *traits,
            key=any(map(_is_key, authorization)) and not self._excused(authorization),
            management=any(value.lower().startswith(b"managementkey-v1") for value in authorization),
            idempotent=idempotent,
        )


def _traits(fields: Fields) -> Traits:
    match = _AGENT.search(fields.block)
    agent = match[1] if match else b""
    noted = dict(fields.noted)
    sdk = _SDK.match(agent)
    page = _is_page(noted)
    return Traits(
        _family(agent, sdk),
        legacy=sdk is not None and int(sdk[1]) in _LEGACY,
        page=page,
        copied=not page and _has_traces(fields, noted, agent),
    )


def _family(agent: bytes, sdk: re.Match[bytes] | None) -> str:
    if sdk is not None:
        return f"SDK {sdk[2].decode()} {sdk[1].decode()}"
    if agent.startswith(b"Mozilla/"):
        return "browser"
    product = _PRODUCT.match(agent)
    return product[0].decode().rstrip(".-_") if product else "unnamed"


def _is_page(noted: dict[bytes, bytes]) -> bool:
    """Tell a web page's call from one of a backend that passes on what its own caller sent.

    A page of the shop calls another origin than its own, so it asks first (a preflight), or says so. A backend that
    copies fields copies `same-origin` or `none`, and mostly its visitor's cookies. Node's `fetch` sends
    `Sec-Fetch-Mode` alone.
    """
    if b"access-control-request-method" in noted:
        return True
    site = noted.get(b"sec-fetch-site", b"").lower()
    return site in _CROSS and b"origin" in noted and b"cookie" not in noted


def _has_traces(fields: Fields, noted: dict[bytes, bytes], agent: bytes) -> bool:
    return (
        b"origin" in noted
        or noted.get(b"sec-fetch-site", b"none").lower() != b"none"
        or (agent.startswith(b"Mozilla/") and _OF_A_PAGE.search(fields.block) is not None)
    )


def _is_key(authorization: bytes) -> bool:
    """Whether it looks like a key of Talon.One, and not like a placeholder: hexadecimal, long, and not all the same."""
    value = authorization.rpartition(b" ")[2]
    return _KEY.fullmatch(value) is not None and len(set(value.lower())) > 6
