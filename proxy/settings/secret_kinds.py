"""Kinds of secrets: keys of Talon.One, tokens of our own, and the URL of an egress proxy, which may hold a password.

A key is one word of printable ASCII. It is taken with or without the scheme of the `Authorization` line it was copied
from, but never where a key of another scheme belongs.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Annotated
from urllib.parse import unquote

from proxy.secret import MASK, Secret
from proxy.settings.address import Origin
from proxy.settings.kinds import Kind, text

LINE_END = re.compile(r"\r?\n\Z")
SCHEMES = ("ApiKey-v1", "ManagementKey-v1", "Bearer")


def _secret(value: object) -> str:
    """Take the one word that a key is, less the line end that files and `echo` leave behind it."""
    word = LINE_END.sub("", text(value))
    if not word:
        raise ValueError("is empty")
    if not word.isascii():
        raise ValueError("holds a character that is not ASCII")
    if any(char <= " " or char == "\x7f" for char in word):
        raise ValueError("holds a blank, a line end or a control character")
    return word


def _key_of(scheme: str, called: str) -> Callable[[object], Secret]:
    def read(value: object) -> Secret:
        # Keys are often copied together with the scheme of the `Authorization` line they were seen in.
        word = text(value)
        for known in SCHEMES:
            if word.lower().startswith(known.lower()):
                if known != scheme:
                    raise ValueError(f"is a {known} value, but {called} belongs here")
                word = word[len(known) :].removeprefix(" ")
        return Secret(_secret(word))

    return read


def _hint(key: Secret) -> str:
    """Show the end of a key, as the Campaign Manager does, or nothing of a short one."""
    return key.hint if key.hint[1:] else MASK


IntegrationKey = Annotated[
    Secret | None,
    Kind("secret", _key_of("ApiKey-v1", "an Integration API key (ApiKey-v1)"), lambda _: MASK, secret=True, hint=_hint),
]
ManagementKey = Annotated[
    Secret | None,
    Kind("secret", _key_of("ManagementKey-v1", "a Management API key"), lambda _: MASK, secret=True, hint=_hint),
]
Token = Annotated[Secret | None, Kind("secret", lambda value: Secret(_secret(value)), lambda _: MASK, secret=True)]


@dataclass(frozen=True, slots=True)
class EgressProxy:
    """`http://user:password@egress.shop.internal:3128`, printed without what stands before the @."""

    origin: Origin
    credentials: Secret | None = None
    """`user:password`, decoded."""

    @classmethod
    def parse(cls, text: str) -> "EgressProxy":
        """Read a URL; raises ValueError with what is wrong, without repeating the text."""
        scheme, _, rest = LINE_END.sub("", text).partition("://")
        userinfo, at, place = rest.rpartition("@")
        origin = Origin.parse(f"{scheme}://{place}")
        if origin.secure:
            raise ValueError("needs the form http://host:port; the tunnel through it is encrypted all the same")
        if not at:
            return cls(origin)
        user, colon, password = userinfo.partition(":")
        credentials = f"{unquote(user)}:{unquote(password)}"
        if not user or not colon or any(char < " " or char == "\x7f" for char in credentials):
            raise ValueError("needs the form http://user:password@host:port; other characters are percent-encoded")
        return cls(origin, Secret(credentials))

    def __str__(self) -> str:
        if self.credentials is None:
            return str(self.origin)
        return str(self.origin).replace("://", f"://{MASK}@", 1)


EgressUrl = Annotated[
    EgressProxy | None, Kind("URL, secret", lambda value: EgressProxy.parse(text(value)), str, secret=True)
]


def _pairs(value: object) -> Iterator[tuple[object, object]]:
    """Split a map: one of TOML, or a text that holds JSON or `token=application` between commas or on lines."""
    if isinstance(value, str):
        if value.lstrip().startswith("{"):
            try:
                # As pairs: a token that is there twice must not silently win over itself.
                yield from json.loads(value, object_pairs_hook=lambda pairs: pairs)
            except (ValueError, RecursionError):
                raise ValueError("is not valid JSON") from None
            return
        # Between lines as well, for files.
        for entry in re.split(r"[,\n]", value.strip()) if value.strip() else ():
            # From the right: a token in Base64 may end with "=".
            token, _, application = entry.strip().rpartition("=")
            yield token, application
        return
    if not isinstance(value, Mapping):
        raise ValueError("must be a map from token to application")
    yield from value.items()


def _tokens(value: object) -> Mapping[Secret, str]:
    tokens: dict[Secret, str] = {}
    for number, (token, application) in enumerate(_pairs(value), start=1):
        try:
            secret = Secret(_secret(token))
        except ValueError as problem:
            raise ValueError(f"the token of entry {number} {problem}") from None
        if not isinstance(application, str) or not application:
            raise ValueError(f"entry {number} names no application")
        if secret in tokens:
            raise ValueError(f"the token of entry {number} repeats an earlier one")
        tokens[secret] = application
    return MappingProxyType(tokens)


def _print_tokens(tokens: Mapping[Secret, str]) -> str:
    return ",".join(f"{MASK}={application}" for application in tokens.values())


Tokens = Annotated[
    Mapping[Secret, str],
    Kind(
        "map of tokens",
        _tokens,
        _print_tokens,
        secret=True,
        schema={"type": ["object", "string"], "additionalProperties": {"type": "string"}},
    ),
]
