"""The examination of one deployment: name, connections, TLS, the time calls take, and whether keys are accepted.

It goes the way that `serve` goes: the same resolver, proxy, source address, TLS and pool. It only finds out; what that
means is for `diagnosis` to say. A key goes to no host that `upstream.allowed_hosts` leaves out, and to nobody before
the certificate was verified. What it costs Talon.One: a few cheap reads, one for each key and `WARM_CALLS` more.
"""

import asyncio
import re
import socket
import ssl
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from ipaddress import ip_address
from urllib.parse import urlsplit

from proxy.assembly import egress_rules, tls_of
from proxy.commands.asking import Asking
from proxy.errors import CertificateError, ProxyError, UpstreamError
from proxy.secret import Secret
from proxy.settings import Origin, Settings
from proxy.wire.dialing import tls_context
from proxy.wire.egress import Egress
from proxy.wire.names import AddrInfo, Resolve, Resolver
from proxy.wire.wheel import Wheel

# Documented (facts §1, #15), and the only read that every Application has: it names no session, profile or other thing
# of a shop's, runs no rule, changes nothing, and is answered from one row. Without a valid key it is a 401.
QUESTION = b"/v1/integration/campaigns?pageSize=1"
WARM_CALLS = 5


@dataclass(frozen=True, slots=True)
class Trouble:
    """Something that failed. `kind`: an error's name; `why`: our words; `detail`: OpenSSL's, of a certificate."""

    kind: str
    why: str
    detail: str = ""

    @classmethod
    def of(cls, error: ProxyError) -> "Trouble":
        """Tell of an error; of a certificate, what is wrong with it."""
        cause = error.__cause__
        detail = cause.verify_message if isinstance(cause, ssl.SSLCertVerificationError) else ""
        return cls(type(error).__name__, error.details, detail)


@dataclass(frozen=True, slots=True)
class Attempt:
    """A connection to one address. `seconds`: TCP, and the tunnel where there is a proxy."""

    address: str
    seconds: float | None = None
    trouble: Trouble | None = None


@dataclass(frozen=True, slots=True)
class Handshake:
    """What TLS agreed on. `expires`: of the peer's certificate."""

    version: str
    cipher: str
    protocol: str | None
    issuer: str
    expires: datetime


@dataclass(frozen=True, slots=True)
class Speed:
    """Seconds: of opening a connection (TCP and TLS), and the median of calls on a warm one."""

    opening: float
    call: float


@dataclass(frozen=True, slots=True)
class KeyTried:
    """What became of the question with one key, of which `hint` shows the end. `status` 0: no answer."""

    application: str
    setting: str
    hint: str
    status: int = 0
    kind: str = ""
    """Of the answer: its content type."""
    location: str = ""
    """Where a redirect points: scheme and host."""
    trouble: Trouble | None = None


@dataclass(slots=True)
class Examined:
    """What was found out of one deployment, as far as it went."""

    url: str
    allowed: bool
    through: str | None
    """The proxy on the way, without its credentials."""
    addresses: Sequence[str] = ()
    lookup: float = 0.0
    name: Trouble | None = None
    attempts: Sequence[Attempt] = ()
    source: str | None = None
    """The address of this machine that connections come from."""
    handshake: Handshake | None = None
    tls: Trouble | None = None
    speed: Speed | None = None
    keys: list[KeyTried] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Key:
    """A key to try, and the setting that gave it."""

    application: str
    setting: str
    secret: Secret = field(repr=False)


def keys_for(settings: Settings, origin: Origin) -> Sequence[Key]:
    """Give the keys that would be used at a URL: those of `upstream.next` where it is that one and has its own."""
    planned = settings.upstream.next
    keys = []
    for name, application in settings.applications.items():
        there = planned.applications.get(name) if origin == planned.url else None
        if there is not None and there.api_key is not None:
            keys.append(Key(name, f"upstream.next.applications.{name}.api_key", there.api_key))
            continue
        for setting, secret in (("api_key", application.api_key), ("next_api_key", application.next_api_key)):
            if secret is not None:
                keys.append(Key(name, setting if name == "default" else f"applications.{name}.{setting}", secret))
    return keys


class Examiner:
    """Examines deployments, one after the other. `resolve` stands in for the system's resolver."""

    def __init__(self, settings: Settings, *, resolve: Resolve | None = None) -> None:
        self._settings = settings
        self._timeouts = settings.upstream.timeouts
        self._rules = egress_rules(settings)
        self._resolve = resolve or Resolver()
        self._wheel = Wheel(time.monotonic, asyncio.get_running_loop().call_later)

    def close(self) -> None:
        """Stop its clock."""
        self._wheel.stop()

    async def examine(self, origin: Origin) -> Examined:
        """Go step by step, as far as the way is open."""
        upstream = self._settings.upstream
        allowed = upstream.allows(origin.host)
        through = str(upstream.proxy) if upstream.proxy is not None else None
        found = Examined(str(origin), allowed, through)
        tls = tls_of(self._settings) if origin.secure else None
        await self._look_up(found, origin)
        if found.name is None:
            await self._connect(found, origin, tls)
        if found.tls is None and any(attempt.trouble is None for attempt in found.attempts):
            await self._ask(found, origin, tls, keys_for(self._settings, origin) if allowed else ())
        return found

    # --- steps ---

    def _egress(self, host: str, port: int, *, resolve: Resolve | None = None) -> Egress:
        return Egress(host, port, self._rules, wheel=self._wheel, resolve=resolve or self._resolve)

    def _deadline(self) -> float:
        return time.monotonic() + self._timeouts.connect

    async def _look_up(self, found: Examined, origin: Origin) -> None:
        name = self._egress(origin.host, origin.port).name
        begun = time.monotonic()
        try:
            await name.addresses(self._deadline())
        except UpstreamError as error:
            found.name = Trouble.of(error)
        name.stop()
        found.lookup = time.monotonic() - begun
        found.addresses = name.known

    async def _connect(self, found: Examined, origin: Origin, tls: ssl.SSLContext | None) -> None:
        """Connect to each address by itself, then shake hands on one of them."""
        egress = self._egress(origin.host, origin.port)
        infos = await egress.name.addresses(self._deadline())
        tries = [self._try(origin, info) for info in infos]
        results = await asyncio.gather(*tries)
        found.attempts = [attempt for attempt, _ in results]
        links = [link for _, link in results if link is not None]
        for link in links:
            found.source = found.source or str(link.getsockname()[0])
        if links and tls is not None:
            await self._shake_hands(found, origin, tls, links.pop(0))
        for link in links:
            link.close()

    async def _try(self, origin: Origin, info: AddrInfo) -> tuple[Attempt, socket.socket | None]:
        async def only(_host: str, _port: int) -> Sequence[AddrInfo]:
            return (info,)

        address = str(info[4][0])
        begun = time.monotonic()
        try:
            link = await self._egress(origin.host, origin.port, resolve=only).connect(self._deadline())
        except UpstreamError as error:
            return Attempt(address, trouble=Trouble.of(error)), None
        return Attempt(address, time.monotonic() - begun), link

    async def _shake_hands(self, found: Examined, origin: Origin, tls: ssl.SSLContext, link: socket.socket) -> None:
        """Look at what TLS gives; the calls afterwards have connections of their own."""
        try:
            async with asyncio.timeout(self._timeouts.connect):
                transport, _ = await asyncio.get_running_loop().create_connection(
                    asyncio.Protocol, sock=link, ssl=tls, server_hostname=origin.host
                )
        except OSError as error:
            link.close()
            found.tls = _tls_trouble(error)
            return
        shaken: ssl.SSLObject = transport.get_extra_info("ssl_object")
        certificate: Mapping[str, object] = shaken.getpeercert() or {}
        cipher = shaken.cipher()
        found.handshake = Handshake(
            version=shaken.version() or "",
            cipher=cipher[0] if cipher else "",
            protocol=shaken.selected_alpn_protocol(),
            issuer=_issuer(certificate),
            expires=datetime.fromtimestamp(ssl.cert_time_to_seconds(str(certificate["notAfter"])), UTC),
        )
        transport.abort()

    async def _ask(self, found: Examined, origin: Origin, tls: ssl.SSLContext | None, keys: Sequence[Key]) -> None:
        """Try each key, and measure with the first one, or without any."""
        egress = self._egress(origin.host, origin.port)
        await egress.name.addresses(self._deadline())  # before the clock runs: `serve` has them at hand
        asking = Asking(origin, egress, tls, self._wheel, self._timeouts)
        try:
            for key in keys:
                found.keys.append(await _try_key(asking, key))
            line = _authorization(keys[0]) if keys else b""
            took = [await asking.time(QUESTION, line) for _ in range(WARM_CALLS)]
            opening = asking.opened
            if opening is not None:
                found.speed = Speed(opening.connect + opening.tls, statistics.median(took))
        except UpstreamError as error:
            if not found.keys:  # else the keys tell it
                found.keys.append(KeyTried("", "", "", trouble=Trouble.of(error)))
        finally:
            await asking.close()

    async def echo(self, url: str) -> str | Trouble:
        """Ask a page for the address that it sees. No key and no certificate of ours goes there."""
        try:
            parts = urlsplit(url)
            origin = Origin.parse(f"{parts.scheme}://{parts.netloc}")
        except ValueError as error:
            return Trouble("URL", f"The URL {error}")
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        tls = tls_context(None) if origin.secure else None
        asking = Asking(origin, self._egress(origin.host, origin.port), tls, self._wheel, self._timeouts)
        try:
            reply = await asking.ask(target.encode("ascii", "replace"), b"")
        except UpstreamError as error:
            return Trouble.of(error)
        finally:
            await asking.close()
        for word in re.findall(r"[0-9A-Fa-f:.]{3,45}", reply.body.decode("latin-1")):
            try:
                return str(ip_address(word))
            except ValueError:
                continue
        return Trouble("Answer", f"It answered {reply.status}, without an address")


def _authorization(key: Key) -> bytes:
    return b"Authorization: ApiKey-v1 %b\r\n" % key.secret.reveal().encode()


async def _try_key(asking: Asking, key: Key) -> KeyTried:
    named = key.application, key.setting, key.secret.hint
    try:
        reply = await asking.ask(QUESTION, _authorization(key))
    except UpstreamError as error:
        return KeyTried(*named, trouble=Trouble.of(error))
    lines = dict(line.lower().split(b": ", 1) for line in reply.block.splitlines() if b": " in line)
    kind = lines.get(b"content-type", b"").partition(b";")[0].decode("latin-1")
    return KeyTried(*named, reply.status, kind, _place(lines.get(b"location", b"")))


def _place(location: bytes) -> str:
    """Give scheme and host of a redirect; the rest could be anything."""
    try:
        return str(Origin.parse("/".join(location.decode("ascii").split("/")[:3])))
    except ValueError:
        return ""


def _tls_trouble(error: OSError) -> Trouble:
    if isinstance(error, ssl.SSLCertVerificationError):
        return Trouble(CertificateError.__name__, "The certificate was not accepted", error.verify_message)
    if isinstance(error, TimeoutError):
        return Trouble("ConnectTimeout", "No TLS handshake within upstream.timeouts.connect")
    return Trouble("TlsError", "The TLS handshake failed", getattr(error, "reason", None) or "")


def _issuer(certificate: Mapping[str, object]) -> str:
    """Name who signed a certificate, as `getpeercert` gives it."""
    parts: dict[str, str] = {}
    issuer = certificate.get("issuer")
    for names in issuer if isinstance(issuer, tuple) else ():
        parts.update(names)
    return parts.get("organizationName") or parts.get("commonName") or "nobody known"
