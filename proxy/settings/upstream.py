"""Settings of the way to Talon.One: where it is, the connections, the time it has, and where it moves to."""

from collections.abc import Mapping
from contextlib import suppress
from types import MappingProxyType
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, WrapSerializer, model_validator

from proxy.settings.address import Origin
from proxy.settings.hosts import same_customer
from proxy.settings.kinds import Count, CountOrZero, File, Flag, Ip, MaybeUrl, Url, choice
from proxy.settings.lists import HostPatterns
from proxy.settings.names import ApplicationName, OperationName
from proxy.settings.secret_kinds import EgressUrl, IntegrationKey
from proxy.settings.section import MINUTES, SECONDS, Section, setting
from proxy.settings.times import Duration, DurationOrZero, Moment

Protocol = Literal["auto", "http/1.1", "h2"]

# A pydantic mapping is a dict again once it is serialised.
AS_DICT = WrapSerializer(lambda mapping, serialize: serialize(dict(mapping)))

# Operations that take longer than the rest: a catalog holds up to 1,000 actions a call.
SLOW_OPERATIONS: Mapping[str, float] = MappingProxyType({"syncCatalog": 60 * SECONDS})


def _with_slow_operations(given: Mapping[str, float]) -> Mapping[str, float]:
    return MappingProxyType({**SLOW_OPERATIONS, **given})


class Connections(Section):
    """Connections to Talon.One."""

    warm: CountOrZero = setting(
        2, "Connections kept open beyond those that calls lately needed at once; 0: none is opened ahead."
    )
    max: Count = setting(100, "Connections at most.")
    idle_timeout: Duration = setting(
        50 * SECONDS, "How long a connection may be idle; shorter than Talon.One closes it."
    )
    max_age: Duration = setting(
        5 * MINUTES, "How old a connection may become, give or take 20 %, so that DNS changes are followed."
    )


class UpstreamTimeouts(Section):
    """Time for Talon.One."""

    connect: Duration = setting(3 * SECONDS, "Time to open a connection: name, TCP and TLS.")
    response: Duration = setting(10 * SECONDS, "Time for an attempt to be answered.")
    total: Duration = setting(15 * SECONDS, "Time a caller waits at most, every attempt and wait included.")
    operations: Annotated[
        Mapping[OperationName, Duration],
        AfterValidator(_with_slow_operations),
        AS_DICT,
    ] = setting(
        SLOW_OPERATIONS,
        "Time for an attempt of single operations, by their operationId; their callers wait at least as long.",
        example="1min",
        shown="`1min` for `syncCatalog`",
    )

    def response_of(self, operation: str) -> float:
        """Give the time in seconds that an attempt of an operation has."""
        return self.operations.get(operation, self.response)

    def total_of(self, operation: str) -> float:
        """Give the time in seconds that a caller of an operation waits at most."""
        return max(self.operations.get(operation, 0.0), self.total)


class Tls(Section):
    """Verification of Talon.One's certificate, which cannot be switched off, and a certificate of our own."""

    ca_file: File = setting(
        None,
        "PEM file of the authorities to trust instead of the system's.",
        example="/etc/talon-proxy/ca.pem",
    )
    client_cert_file: File = setting(
        None,
        "PEM file of the certificate to show, where something on the way asks for one.",
        example="/etc/talon-proxy/client.pem",
    )
    client_key_file: File = setting(
        None, "PEM file of that certificate's key, without a password.", example="/etc/talon-proxy/client.key"
    )


class NextApplication(Section):
    """A key that an Application has at the new URL, where it is not the same as now."""

    api_key: IntegrationKey = setting(None, "Its Integration API key there.", example="<key>")
    api_key_file: File = setting(
        None, "File that holds its Integration API key there.", example="/run/secrets/talon-one-eu-next"
    )


class Next(Section):
    """A switch planned for all proxies at one moment."""

    url: MaybeUrl = setting(None, "Base URL to switch to.", example="https://mycompany.us-east4.talon.one")
    at: Moment = setting(None, "The moment of the switch, with its offset.", example="2027-03-31T03:00:00Z")
    hold: DurationOrZero = setting(
        10 * SECONDS, "How long writes are held at that moment while those on the way to the old URL end."
    )
    applications: Annotated[Mapping[ApplicationName, NextApplication], AfterValidator(MappingProxyType), AS_DICT] = (
        Field(default_factory=lambda: MappingProxyType({}))
    )


class Upstream(Section):
    """Talon.One."""

    url: Url = Field(
        description="Base URL of the deployment, without a path: `https://`, or `http://` to this machine.",
        examples=["https://mycompany.europe-west1.talon.one"],
    )
    protocol: Annotated[Protocol, choice(Protocol)] = setting(
        "auto", "HTTP version; `auto` takes the best that both sides speak."
    )
    allow_cleartext: Flag = setting(False, "Allow `http://` to other machines, keys and customer data in clear.")
    allowed_hosts: HostPatterns = setting(
        (),
        "Where a switch may point, so who may be sent a key. A `*` stands for one label, never the first or last two.",
        example="mycompany.*.talon.one",
        shown="the host of `upstream.url`, and that customer's in every region of Talon.One",
    )
    proxy: EgressUrl = setting(
        None,
        "Proxy to go through to reach Talon.One (CONNECT), with `user:password@` before its host if it wants that.",
        example="http://egress.shop.internal:3128",
    )
    proxy_file: File = setting(None, "File that holds the proxy's URL.", example="/run/secrets/egress-proxy")
    bind: Ip = setting(None, "Address of this machine that connections come from.", example="10.0.0.7")
    dns_refresh: Duration = setting(
        30 * SECONDS, "How often the name is looked up; while that fails, its last addresses are used for an hour."
    )
    drain: DurationOrZero = setting(10 * SECONDS, "Time for calls on the way to the old URL to end after a switch.")
    connections: Connections = Field(default_factory=Connections)
    timeouts: UpstreamTimeouts = Field(default_factory=UpstreamTimeouts)
    tls: Tls = Field(default_factory=Tls)
    next: Next = Field(default_factory=Next)

    @model_validator(mode="before")
    @classmethod
    def _allow_the_same_customer(cls, given: object) -> object:
        if isinstance(given, Mapping) and "allowed_hosts" not in given:
            # A URL that cannot be read is reported where it is read.
            with suppress(ValueError):
                hosts = same_customer(Origin.parse(str(given.get("url"))).host)
                return {**given, "allowed_hosts": list(map(str, hosts))}
        return given

    def allows(self, host: str) -> bool:
        """Whether a switch may point to a host, in the one spelling that `address.host` gives."""
        return any(pattern.matches(host) for pattern in self.allowed_hosts)
