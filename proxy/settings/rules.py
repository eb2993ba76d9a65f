"""Rules: what must hold between settings, once each for itself is right.

A rule yields complaints: which keys it looked at and what is wrong. A rule about a key that is already known to be
wrong is not heard, because its value is a stand-in.
"""

import difflib
from collections.abc import Iterator
from dataclasses import dataclass

from proxy.settings.address import Address
from proxy.settings.model import Settings


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
    yield from _applications(settings)
    yield from _tokens(settings)
    yield from _limits(settings)


def warnings(settings: Settings) -> Iterator[Complaint]:
    """Give what works, but hardly as it was meant."""
    timeouts = settings.upstream.timeouts
    for name, value in (("connect", timeouts.connect), ("response", timeouts.response)):
        if value > timeouts.total:
            yield Complaint(
                (f"upstream.timeouts.{name}", "upstream.timeouts.total"),
                "is longer than upstream.timeouts.total, which ends the call before it",
            )
    if settings.clients.inject == "off" and settings.applications:
        yield Complaint(("clients.inject",), "is off: the API keys are not used")
    if settings.upstream.allow_cleartext and not settings.upstream.url.secure and not settings.upstream.url.loopback:
        yield Complaint(("upstream.url",), "is http: API keys and customer data travel in clear")


def _listeners(settings: Settings) -> Iterator[Complaint]:
    if not settings.listen:
        yield Complaint(("listen",), "needs at least one address")
    seen: list[Address] = []
    for key, addresses in (("listen", settings.listen), ("admin.listen", settings.admin.listen)):
        for address in addresses:
            if address in seen and address.fixed:
                yield Complaint((key, "listen"), f"{address} is used twice")
            seen.append(address)
    clients = settings.clients
    for address in settings.listen:
        if not (address.loopback or clients.tokens or clients.allow_unauthenticated):
            yield Complaint(
                ("listen", "clients.tokens", "clients.allow_unauthenticated"),
                f"{address} can be reached from other machines, and whoever reaches it uses your API key;"
                " set clients.tokens, or clients.allow_unauthenticated = true if that is meant",
            )


def _upstream(settings: Settings) -> Iterator[Complaint]:
    upstream = settings.upstream
    if not (upstream.url.secure or upstream.url.loopback or upstream.allow_cleartext):
        yield Complaint(
            ("upstream.url", "upstream.allow_cleartext"),
            "must be https; http would show the API key to the network (upstream.allow_cleartext = true allows it)",
        )
    if upstream.connections.warm > upstream.connections.max:
        yield Complaint(
            ("upstream.connections.warm", "upstream.connections.max"), "must not exceed upstream.connections.max"
        )
    if upstream.tls.ca_file is not None:
        reason = _refused(str(upstream.tls.ca_file))
        if reason is not None:
            yield Complaint(("upstream.tls.ca_file",), f"{upstream.tls.ca_file} {reason}")


def _refused(ca_file: str) -> str | None:
    # Here and not above: only whoever sets a file pays for it.
    import ssl

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        context.load_verify_locations(ca_file)
    except ssl.SSLError:  # before OSError, of which it is one
        return "holds no certificate in PEM form"
    except OSError as exc:
        return f"cannot be read: {exc.strerror}"
    return None if context.cert_store_stats()["x509"] else "holds no certificate in PEM form"


def _applications(settings: Settings) -> Iterator[Complaint]:
    if settings.clients.inject != "always":
        return
    if not settings.applications:
        yield Complaint(
            ("api_key", "api_key_file", "applications", "clients.inject"),
            "is required: set api_key_file or api_key, or applications.<name>.api_key_file for several Applications",
        )
    for name, application in settings.applications.items():
        if application.api_key is None:
            key = f"applications.{name}.api_key"
            yield Complaint((key, f"{key}_file", "clients.inject"), f"is required: set it or {key}_file")


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
    if settings.shutdown.quiet >= settings.shutdown.timeout:
        yield Complaint(("shutdown.quiet", "shutdown.timeout"), "must be shorter than shutdown.timeout")
