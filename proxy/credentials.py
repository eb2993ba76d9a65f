"""Which Application a call is for, and whether its caller may use that Application's key.

`authorise` chooses once, on arrival. Keys are not known here: they belong to the host that they are sent to
(`keyset`), and a call that waited leaves with the key of the moment. A caller's own `Authorization` never crosses
unless `clients.inject` says so.
"""

import hashlib
import hmac
import secrets
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from proxy.errors import DownstreamError, RefusedError, Unauthorized
from proxy.secret import Secret
from proxy.talon.routes import Surface

DEFAULT: Final = "default"
HEADER: Final = "Talon-Proxy-Application"
_SCHEMES: Final = (b"apikey-v1", b"bearer", b"managementkey-v1")


@dataclass(frozen=True, slots=True)
class Application:
    """One Application of Talon.One as callers may choose it. `testing`: its key makes every call dry."""

    name: str
    environment: str = "default"
    testing: bool = False


@dataclass(frozen=True, slots=True)
class Grant:
    """What a caller may: act for this Application; with `passed`, by the `Authorization` it brought itself."""

    application: Application
    surface: Surface
    passed: bytes | None = field(default=None, repr=False)
    caller: bytes = field(default=b"", repr=False)  # tells callers apart that bring their own; not what they brought

    @property
    def environment(self) -> str | None:
        """The environment that the call belongs to; None: to all, as calls of the Management API do."""
        return None if self.surface is Surface.MANAGEMENT else self.application.environment

    @property
    def own_line(self) -> bytes:
        """The caller's own `Authorization` line, or nothing where it passes an empty one."""
        return b"Authorization: %b\r\n" % self.passed if self.passed else b""


class Credentials:
    """Tokens by caller, Applications by name; `keyed` are those that have a key of ours.

    `inject` as in the settings: `always`, `when_missing` or `off`.
    """

    def __init__(
        self,
        applications: Iterable[Application],
        keyed: Collection[str],
        *,
        tokens: Mapping[Secret, str] | None = None,
        inject: str = "always",
    ) -> None:
        self._applications = {application.name: application for application in applications}
        if not self._applications:
            self._applications = {DEFAULT: Application(DEFAULT)}
        self._keyed = frozenset(keyed)
        self._tokens = [(token, self._applications[name]) for token, name in (tokens or {}).items()]
        self._inject = inject
        self._salt = secrets.token_bytes(32)
        only = next(iter(self._applications.values())) if len(self._applications) == 1 else None
        self._fallback = only or self._applications.get(DEFAULT)
        # What nearly every call gets, made once.
        self._usual = (
            Grant(self._fallback, Surface.INTEGRATION)
            if self._fallback is not None
            and self._fallback.name in self._keyed
            and not self._tokens
            and inject == "always"
            else None
        )

    def __repr__(self) -> str:
        return f"<Credentials applications={sorted(self._applications)}>"

    @property
    def applications(self) -> Mapping[str, Application]:
        """By name."""
        return self._applications

    # --- on arrival ---

    def authorise(
        self, authorization: list[bytes], header: bytes | None, prefix: str | None, surface: Surface
    ) -> Grant:
        """Choose the Application: by the caller's token, else by header, else by path prefix, else the only one.

        Raises DownstreamError, Unauthorized or RefusedError.
        """
        if header is None and prefix is None and self._usual is not None and surface is Surface.INTEGRATION:
            return self._usual
        named = self._named(header, prefix)
        value = self._credential(authorization)
        granted = self._by_token(value)
        if granted is not None:
            if named is not None and named is not granted:
                raise RefusedError("The token is for another Application", parameter=HEADER)
            if surface is Surface.MANAGEMENT:
                # The Management key acts for the whole account, a token for one Application (T20).
                raise RefusedError("The token is for an Application, not for the Management API")
            return self._granted(granted, surface, b"" if self._inject == "off" else None)
        passed = None if self._inject == "always" else self._own(authorization, value)
        if self._tokens and passed is None:
            raise Unauthorized("A client token is needed (clients.tokens)", parameter="Authorization")
        application = named or self._fallback
        if application is None:
            raise DownstreamError("Several Applications are configured: name one", parameter=HEADER)
        return self._granted(application, surface, passed)

    def recognises(self, authorization: list[bytes]) -> bool:
        """Whether what a caller sent is one of the client tokens."""
        return len(authorization) == 1 and self._by_token(self._credential(authorization)) is not None

    def _granted(self, application: Application, surface: Surface, passed: bytes | None) -> Grant:
        if passed is None and surface is Surface.INTEGRATION and application.name not in self._keyed:
            raise Unauthorized("No API key is configured for this Application", parameter="Authorization")
        return Grant(application, surface, passed, self._told_apart(passed) if passed else b"")

    def _told_apart(self, passed: bytes) -> bytes:
        return hashlib.blake2b(passed, key=self._salt, digest_size=16).digest()

    def _named(self, header: bytes | None, prefix: str | None) -> Application | None:
        name = prefix
        if header is not None:
            name = header.decode("latin-1").lower()
            if prefix is not None and prefix != name:
                raise DownstreamError("Header and path name different Applications", parameter=HEADER)
        if name is None:
            return None
        application = self._applications.get(name)
        if application is None:
            raise DownstreamError("No Application of this name is configured", parameter=HEADER)
        return application

    def _credential(self, authorization: list[bytes]) -> bytes:
        """Give the token or key of the one `Authorization` line; empty where there is none."""
        if len(authorization) > 1:
            if self._inject == "always" and not self._tokens:
                return b""
            raise DownstreamError("More than one Authorization", parameter="Authorization")
        scheme, _, value = authorization[0].partition(b" ") if authorization else (b"", b"", b"")
        return value.strip() if scheme.lower() in _SCHEMES else b""

    def _by_token(self, value: bytes) -> Application | None:
        found = None
        for token, application in self._tokens:
            # No early end: the time taken must not tell which token a guess came close to.
            if hmac.compare_digest(token.reveal().encode(), value):
                found = application
        return found

    def _own(self, authorization: list[bytes], value: bytes) -> bytes | None:
        """Give what the caller brought where it may pass. Some SDKs send a scheme with nothing behind it."""
        if self._inject == "off":
            return authorization[0] if authorization else b""
        return authorization[0] if value or (authorization and b" " in authorization[0].strip()) else None
