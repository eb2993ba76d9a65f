"""Rules: what must hold between settings, once each for itself is right.

A rule yields complaints: which keys it looked at and what is wrong. A rule about a key that is already known to be
wrong is not heard, because its value is a stand-in.
"""

import difflib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from proxy.secret import LONG_ENOUGH
from proxy.settings.address import Address, Origin
from proxy.settings.model import Settings

EXPIRES_SOON = timedelta(days=7)  # as Talon.One counts it (facts, section 7)


@dataclass(frozen=True, slots=True)
class Complaint:
    """One broken rule. The first key is where an operator would change something."""

    keys: tuple[str, ...]
    message: str
    suggestion: str | None = None


def errors(settings: Settings) -> Iterator[Complaint]:
    """Give everything these settings cannot be used for."""
    yield from _listeners(settings)
    yield from _upstream(settings)
    yield from _certificates(settings)
    yield from _next(settings)
    yield from _applications(settings)
    yield from _management(settings)
    yield from _tokens(settings)
    yield from _limits(settings)


def warnings(settings: Settings, now: datetime) -> Iterator[Complaint]:
    """Give what works, but hardly as it was meant."""
    yield from _useless(settings)
    yield from _expiry(settings, now)
    yield from _passed(settings, now)
    yield from _guessable(settings)
    for name, application in settings.applications.items():
        if application.kind == "testing":
            yield Complaint((f"applications.{name}.kind",), "is testing: no call has an effect at Talon.One")
    if settings.upstream.allow_cleartext and not settings.upstream.url.secure and not settings.upstream.url.loopback:
        yield Complaint(("upstream.url",), "is http: API keys and customer data travel in clear")


def _useless(settings: Settings) -> Iterator[Complaint]:
    timeouts = settings.upstream.timeouts
    for name, value in (("connect", timeouts.connect), ("response", timeouts.response)):
        if value > timeouts.total:
            yield Complaint(
                (f"upstream.timeouts.{name}", "upstream.timeouts.total"),
                "is longer than upstream.timeouts.total, which ends the call before it",
            )
    if settings.clients.inject == "off" and settings.applications:
        yield Complaint(("clients.inject",), "is off: the API keys are not used")
    if settings.upstream.next.url == settings.upstream.url:
        yield Complaint(("upstream.next.url", "upstream.url"), "is upstream.url already; the switch is over")
    management = settings.management
    if management.api_key is None and "rate" in management.model_fields_set:
        yield Complaint(("management.rate", "management.api_key"), "has no effect without a management.api_key")
    if management.api_key is not None and settings.clients.tokens and settings.clients.inject == "always":
        yield Complaint(
            ("management.api_key", "clients.tokens"),
            "can be used by nobody: every caller needs a client token, which stands for one Application",
        )


def _guessable(settings: Settings) -> Iterator[Complaint]:
    for key, secret, gain in (
        ("admin.token", settings.admin.token, "may point the API keys elsewhere"),
        ("log.hash_key", settings.log.hash_key, "finds the ids behind the hashes"),
    ):
        if secret is not None and len(secret.reveal()) < LONG_ENOUGH:
            yield Complaint((key,), f"has fewer than {LONG_ENOUGH} characters: whoever guesses it {gain}")


def _expiry(settings: Settings, now: datetime) -> Iterator[Complaint]:
    for name, application in settings.applications.items():
        if application.expires is None:
            continue
        left = application.expires - now
        if left <= timedelta():
            yield Complaint((f"applications.{name}.expires",), "is over: Talon.One refuses the key")
        elif left <= EXPIRES_SOON:
            yield Complaint((f"applications.{name}.expires",), f"is in {left.days} days; add a next_api_key")


def _passed(settings: Settings, now: datetime) -> Iterator[Complaint]:
    planned = settings.upstream.next
    if planned.url not in (None, settings.upstream.url) and planned.at is not None and planned.at <= now:
        yield Complaint(
            ("upstream.next.at", "upstream.next.url"),
            "is over: calls go to upstream.next.url; set upstream.url to it, and take upstream.next away",
        )
    if planned.url is not None and planned.hold >= settings.upstream.timeouts.total:
        yield Complaint(
            ("upstream.next.hold", "upstream.timeouts.total"),
            "is not shorter than upstream.timeouts.total, which ends the calls that are held before it",
        )


def _listeners(settings: Settings) -> Iterator[Complaint]:
    if not settings.listen:
        yield Complaint(("listen",), "needs at least one address")
    seen: list[Address] = []
    for key, addresses in (("listen", settings.listen), ("admin.listen", settings.admin.listen)):
        for address in addresses:
            if address in seen and address.fixed:
                yield Complaint((key, "listen"), f"{address} is used twice")
            seen.append(address)
    if settings.clients.tokens or settings.clients.allow_unauthenticated or not _adds_keys(settings):
        return
    for address in settings.listen:
        if not address.loopback:
            yield Complaint(
                ("listen", "clients.tokens", "clients.allow_unauthenticated"),
                f"{address} can be reached from other machines, and whoever reaches it uses your API key;"
                " set clients.tokens, or clients.allow_unauthenticated = true if that is meant",
            )


def _adds_keys(settings: Settings) -> bool:
    """Whether a caller gets the use of a key that it does not bring."""
    configured = bool(settings.applications) or settings.management.api_key is not None
    return settings.clients.inject == "always" or (settings.clients.inject == "when_missing" and configured)


def _upstream(settings: Settings) -> Iterator[Complaint]:
    upstream = settings.upstream
    yield from _target(settings, upstream.url, "upstream.url")
    if not upstream.allows(upstream.url.host):
        yield Complaint(
            ("upstream.allowed_hosts", "upstream.url"),
            "must have the host of upstream.url too, or there is no way back to it",
        )
    if upstream.connections.warm > upstream.connections.max:
        yield Complaint(
            ("upstream.connections.warm", "upstream.connections.max"), "must not exceed upstream.connections.max"
        )


def refused_target(settings: Settings, url: Origin) -> str | None:
    """Say why a running proxy may not be pointed at a URL, which means to send it the API keys; None: it may."""
    if not settings.upstream.allows(url.host):
        return "the host is not among upstream.allowed_hosts, and the API keys go where the URL points"
    return next((complaint.message for complaint in _target(settings, url, "url")), None)


def _target(settings: Settings, url: Origin, key: str) -> Iterator[Complaint]:
    if not (url.secure or url.loopback or settings.upstream.allow_cleartext):
        yield Complaint(
            (key, "upstream.allow_cleartext"),
            "must be https; http would show the API key to the network (upstream.allow_cleartext = true allows it)",
        )
    here = [address for address in settings.listen if address.loopback and address.port]
    if url.loopback and any(url.port == address.port and _meet(url.host, address.host) for address in here):
        yield Complaint((key, "listen"), "is where this proxy listens itself")


def _meet(host: str, other: str) -> bool:
    return host == other or "localhost" in (host, other)


def _certificates(settings: Settings) -> Iterator[Complaint]:
    tls = settings.upstream.tls
    certificate, key = "upstream.tls.client_cert_file", "upstream.tls.client_key_file"
    if tls.ca_file is None and tls.client_cert_file is None and tls.client_key_file is None:
        return
    # Here and not above: only whoever sets a file pays for it.
    from proxy.settings.certificates import refused_authorities, refused_pair

    if tls.ca_file is not None and (reason := refused_authorities(tls.ca_file)):
        yield Complaint(("upstream.tls.ca_file",), reason)
    if tls.client_cert_file is not None and tls.client_key_file is not None:
        if reason := refused_pair(tls.client_cert_file, tls.client_key_file):
            yield Complaint((certificate, key), reason)
    elif tls.client_cert_file is not None:
        yield Complaint((certificate, key), f"needs {key} too")
    elif tls.client_key_file is not None:
        yield Complaint((key, certificate), f"needs {certificate} too")


def _next(settings: Settings) -> Iterator[Complaint]:
    upstream, planned = settings.upstream, settings.upstream.next
    if planned.url is None:
        given = ["at"] if planned.at is not None else []
        given += [f"applications.{name}.api_key" for name in planned.applications]
        for key in given:
            yield Complaint((f"upstream.next.{key}", "upstream.next.url"), "needs upstream.next.url too")
        return
    if planned.at is None:
        yield Complaint(
            ("upstream.next.url", "upstream.next.at"), "needs upstream.next.at too, the moment of the switch"
        )
    yield from _target(settings, planned.url, "upstream.next.url")
    if not upstream.allows(planned.url.host):
        yield Complaint(
            ("upstream.next.url", "upstream.allowed_hosts", "upstream.url"),
            "is not among upstream.allowed_hosts, and the API keys go where it points; add its host if it is yours",
        )
    for name, application in planned.applications.items():
        key = f"upstream.next.applications.{name}.api_key"
        if name not in settings.applications:
            near = difflib.get_close_matches(name, settings.applications, n=1)
            yield Complaint(
                (key, "applications"), "is for an Application that is not configured", near[0] if near else None
            )
        elif application.api_key is None:
            yield Complaint((key, f"{key}_file"), f"is required: set it or {key}_file")


def _applications(settings: Settings) -> Iterator[Complaint]:
    if settings.clients.inject != "always":
        return
    if not settings.applications:
        yield Complaint(
            ("api_key", "api_key_file", "applications", "clients.inject"),
            "is required: set api_key_file (TALON_PROXY_API_KEY_FILE) or api_key,"
            " or applications.<name>.api_key_file for several Applications",
        )
    for name, application in settings.applications.items():
        if application.api_key is None:
            key = f"applications.{name}.api_key"
            yield Complaint((key, f"{key}_file", "clients.inject"), f"is required: set it or {key}_file")


def _management(settings: Settings) -> Iterator[Complaint]:
    for name, application in settings.applications.items():
        if application.api_key is not None and application.api_key == settings.management.api_key:
            yield Complaint(
                ("management.api_key", f"applications.{name}.api_key"),
                f"is the key of the Application {name}; the Management API has keys of its own",
            )


def _tokens(settings: Settings) -> Iterator[Complaint]:
    for number, name in enumerate(settings.clients.tokens.values(), start=1):
        if name not in settings.applications:
            # The name is not repeated: in a pair written the wrong way round it is the token.
            near = difflib.get_close_matches(name, settings.applications, n=1)
            known = ", ".join(settings.applications) or "none"
            yield Complaint(
                ("clients.tokens", "applications"),
                f"entry {number} names an Application that is not configured (configured: {known})",
                near[0] if near else None,
            )


def _limits(settings: Settings) -> Iterator[Complaint]:
    if settings.limits.target > settings.limits.head:
        yield Complaint(("limits.target", "limits.head"), "must not exceed limits.head, which it is part of")
    for name, size in (("body", settings.limits.body), ("reply", settings.limits.reply)):
        if size > settings.limits.buffered:
            yield Complaint(
                ("limits.buffered", f"limits.{name}"),
                f"must not be less than limits.{name}, one of which would not fit",
            )
    if settings.retries.conflict.cap < settings.retries.conflict.base:
        yield Complaint(
            ("retries.conflict.cap", "retries.conflict.base"), "must not be shorter than retries.conflict.base"
        )
    if settings.shutdown.quiet >= settings.shutdown.timeout:
        yield Complaint(("shutdown.quiet", "shutdown.timeout"), "must be shorter than shutdown.timeout")
