"""The diagnosis: what the findings of an examination mean, and what to do about them, in plain words. Pure.

`diagnose` goes through the facts in the order in which a call meets them, and stops where the way is closed: what lies
behind is not known.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum
from ipaddress import ip_address

from proxy.commands.examination import Examined, Handshake, KeyTried, Speed, Trouble
from proxy.settings import Origin

RENEWED_BEFORE = timedelta(days=10)  # certificates of public authorities are renewed earlier than that
NEAR = 0.5  # of a time-out


class Verdict(Enum):
    """Of one finding."""

    GOOD = "ok"
    NOTE = "note"
    BAD = "wrong"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at. `todo`: what to do about it, where something is to be done."""

    topic: str
    verdict: Verdict
    what: str
    todo: str = ""


_GOOD, _NOTE, _BAD = Verdict.GOOD, Verdict.NOTE, Verdict.BAD
_UNRESOLVED = (
    "Compare the host with the URL of your Campaign Manager. If it is right, this machine's resolver cannot find it"
    " (DNS policy of the pod, network policy, /etc/resolv.conf). A deployment that was moved has another host: ask"
    " Talon.One."
)
_UNREACHABLE = (
    "Let connections to this host and port out (firewall, security group, network policy), or set upstream.proxy if"
    " they must go through a proxy."
)
_ALLOWLIST = "Talon.One may allow some addresses only: send them the one that connections come from (see address)."
_TUNNELS = "Look at upstream.proxy: its URL, its credentials, and whether it may reach the host."


def diagnose(found: Examined, *, now: datetime, connect_timeout: float) -> Iterator[Finding]:
    """Say what the facts mean. `connect_timeout`: `upstream.timeouts.connect`, in seconds."""
    if not found.allowed:
        yield Finding(
            "host",
            _BAD,
            "is not among upstream.allowed_hosts: a switch to it is refused, and no key was sent to it now",
            "If it is your deployment, add its host to upstream.allowed_hosts.",
        )
    yield _name(found)
    if found.name is not None:
        return
    yield from _connections(found)
    if not any(attempt.trouble is None for attempt in found.attempts):
        return
    if found.tls is not None:
        yield _tls_failure(found.tls)
        return
    if found.handshake is not None:
        yield from _tls(found.handshake, now)
    elif Origin.parse(found.url).loopback:
        yield Finding("TLS", _GOOD, "none, on this machine")
    else:
        yield Finding("TLS", _NOTE, "none: keys and customer data travel in clear", "Use an https URL.")
    if found.speed is not None:
        yield _speed(found.speed, connect_timeout)
    yield from _keys(found.keys, allowed=found.allowed)


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms" if seconds >= 0.01 else f"{seconds * 1000:.1f} ms"


# --- the way ---


def _name(found: Examined) -> Finding:
    whose = "the proxy's name" if found.through else "name"
    if found.name is None:
        addresses = ", ".join(found.addresses)
        needless = [Origin.parse(found.url).host] == list(found.addresses)
        return Finding(whose, _GOOD, addresses if needless else f"{addresses}, found in {_ms(found.lookup)}")
    return Finding(whose, _BAD, found.name.why, _UNRESOLVED)


def _connections(found: Examined) -> Iterator[Finding]:
    through = f", through {found.through}" if found.through else ""
    good = [attempt for attempt in found.attempts if attempt.trouble is None]
    for attempt in found.attempts:
        if attempt.seconds is not None:
            yield Finding("connection", _GOOD, f"{attempt.address} in {_ms(attempt.seconds)}{through}")
        elif attempt.trouble is not None:
            tunnel = attempt.trouble.kind.startswith("Tunnel")
            todo = "" if good else _TUNNELS if tunnel else f"{_UNREACHABLE} {_ALLOWLIST}"
            what = f"{attempt.address}: {attempt.trouble.why}"
            if good:
                what += "; the other addresses are used, at up to 250 ms more for a connection"
            yield Finding("connection", _NOTE if good else _BAD, what, todo)


def _tls(handshake: Handshake, now: datetime) -> Iterator[Finding]:
    left = handshake.expires - now
    what = f"{handshake.version}, {handshake.cipher}; certificate by {handshake.issuer}, {left.days} days left"
    soon = left < RENEWED_BEFORE
    yield Finding(
        "TLS", _NOTE if soon else _GOOD, what, "It should have been renewed by now: tell whose it is." if soon else ""
    )
    if handshake.protocol is None:
        yield Finding("protocol", _GOOD, "HTTP/1.1 (the other side chose none by ALPN)")
    else:
        yield Finding("protocol", _GOOD, f"{'HTTP/2' if handshake.protocol == 'h2' else 'HTTP/1.1'} (by ALPN)")


_INTERCEPTED = (
    "Something on the way opens TLS, or the authority is one of yours: set upstream.tls.ca_file to a PEM file of its"
    " certificate. Verification cannot be switched off."
)
# By what OpenSSL says of a certificate that it does not accept.
_CERTIFICATES = (
    ("expired", "Its owner must renew it; if it is good elsewhere, look at the clock of this machine."),
    ("not yet valid", "Look at the clock of this machine."),
    ("mismatch", "The host in the URL is not the one it is for: was the deployment moved? Compare the URL."),
    ("self-signed", _INTERCEPTED),
    ("self signed", _INTERCEPTED),
    ("issuer", _INTERCEPTED),
)


def _tls_failure(trouble: Trouble) -> Finding:
    detail = f": {trouble.detail}" if trouble.detail else ""
    todo = (
        "Something that is not Talon.One answers at this address, or a firewall ends the connection; TLS 1.2 is the"
        " least that is spoken. If a certificate of yours is asked for, set upstream.tls.client_cert_file and"
        " client_key_file."
    )
    if trouble.kind == "CertificateError":
        todo = next((advice for word, advice in _CERTIFICATES if word in trouble.detail), _INTERCEPTED)
    return Finding("TLS", _BAD, f"{trouble.why}{detail}", todo)


def _speed(speed: Speed, connect_timeout: float) -> Finding:
    what = f"a new connection takes {_ms(speed.opening)}, a call on a warm one {_ms(speed.call)}"
    if speed.opening > NEAR * connect_timeout:
        todo = "That is near upstream.timeouts.connect: raise it, or look for what slows the network down."
        return Finding("speed", _NOTE, what, todo)
    return Finding("speed", _GOOD, what)


# --- the keys ---


def _keys(keys: Sequence[KeyTried], *, allowed: bool) -> Iterator[Finding]:
    if not keys and allowed:
        yield Finding("key", _NOTE, "there is none to try", "Set api_key_file, unless callers bring keys of their own.")
    for tried in keys:
        if not tried.application:
            why = tried.trouble.why if tried.trouble is not None else ""
            yield Finding("call", _BAD, f"no answer: {why}", _ALLOWLIST)
            continue
        topic = f"key of {tried.application}"
        name = f"{tried.setting} ({tried.hint})"
        yield _key(topic, name, tried)


def _key(topic: str, name: str, tried: KeyTried) -> Finding:
    status = tried.status
    if tried.trouble is not None:
        return Finding(topic, _BAD, f"{name} got no answer: {tried.trouble.why}", _ALLOWLIST)
    if 200 <= status < 300:
        if tried.kind != "application/json":
            return Finding(
                topic,
                _BAD,
                f"{name} got {tried.kind or 'an answer without a type'}, which is not Talon.One's API",
                "Compare the host with the URL of your Campaign Manager.",
            )
        return Finding(topic, _GOOD, f"{name} is accepted")
    if status == 401:
        return Finding(
            topic,
            _BAD,
            f"{name} is refused (401)",
            "It is mistyped, expired, deleted, or of another deployment: look at it in the Campaign Manager"
            " (Settings of the Application), or make a new one.",
        )
    if status == 403:
        return Finding(topic, _BAD, f"{name} is forbidden (403)", _ALLOWLIST)
    if 300 <= status < 400:
        where = f" to {tried.location}" if tried.location else ""
        return Finding(
            topic,
            _BAD,
            f"{name} is redirected ({status}){where}; redirects are never followed, a key would go along",
            "If the deployment was moved, ask Talon.One for its URL.",
        )
    if status == 429 or status >= 500:
        what = f"{name} could not be tried: Talon.One answered {status}"
        return Finding(topic, _NOTE, what, "Try again later, and look at status.talon.one.")
    return Finding(
        topic, _BAD, f"{name} got {status}, which Talon.One's API does not answer here", "Compare the host, as above."
    )


# --- where we come from ---


def address(found: Examined, seen: str | Trouble | None) -> Finding:
    """Say which address Talon.One sees, for its allowlist. `seen`: what a page said that was asked for it."""
    topic = "address"
    if isinstance(seen, str):
        return Finding(topic, _GOOD, f"others see {seen}: that is the one for Talon.One's allowlist")
    if isinstance(seen, Trouble):
        return Finding(topic, _NOTE, f"the page for it did not tell: {seen.why}", "Try another --echo-url.")
    if found.through:
        return Finding(
            topic, _GOOD, f"Talon.One sees that of the proxy {found.through}; --echo-url URL asks what others see"
        )
    if found.source is None:
        return Finding(topic, _NOTE, "not known, without a connection")
    place = ip_address(found.source)
    if place.is_loopback:
        return Finding(topic, _GOOD, f"{found.source}: it is on this machine")
    behind = "which Talon.One does not see: NAT replaces it" if place.is_private else "which NAT may replace"
    return Finding(topic, _GOOD, f"{found.source} on this machine, {behind}; --echo-url URL asks what others see")


def environment(proxies: Sequence[str], *, through: bool) -> Iterator[Finding]:
    """Say that variables which other programs read are not read."""
    if proxies and not through:
        names = " and ".join(proxies)
        what = f"{names} {'is' if len(proxies) == 1 else 'are'} set, and not read"
        yield Finding("environment", _NOTE, what, "If connections must go through a proxy, set upstream.proxy.")


# --- two deployments ---


def compared(here: Examined, there: Examined) -> Iterator[tuple[str, str, str]]:
    """Give rows that put two deployments side by side."""
    labels = "", "addresses", "new connection", "warm call", "TLS", "protocol", "keys accepted"
    yield from zip(labels, _column(here), _column(there), strict=True)


def _column(found: Examined) -> tuple[str, ...]:
    speed, handshake = found.speed, found.handshake
    return (
        found.url,
        ", ".join(found.addresses) or "–",
        _ms(speed.opening) if speed else "–",
        _ms(speed.call) if speed else "–",
        handshake.version if handshake else "–",
        (handshake.protocol if handshake else None) or "–",
        f"{sum(200 <= tried.status < 300 for tried in found.keys)} of {len(found.keys)}",
    )
