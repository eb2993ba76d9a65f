"""Settings: every option, its default, its unit and one sentence about it.

A new setting is a new field here: the file, the environment, the flags, the sample and the table follow from it.
Nothing in here reads anything; `proxy.settings.load` does.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PrivateAttr, WrapSerializer

from proxy.settings.address import Address
from proxy.settings.kinds import (
    Access,
    AccessLog,
    Addresses,
    BasePath,
    Count,
    CountOrZero,
    Duration,
    DurationOrZero,
    File,
    Flag,
    Hosts,
    Label,
    Size,
    Templates,
    Url,
    choice,
)
from proxy.settings.secret_kinds import IntegrationKey, ManagementKey, Token, Tokens

Protocol = Literal["auto", "http/1.1", "h2"]
ApplicationKind = Literal["live", "testing"]
Inject = Literal["always", "when_missing", "off"]
Level = Literal["debug", "info", "warning", "error"]
Format = Literal["auto", "json", "text"]

SECONDS, MINUTES, HOURS = 1.0, 60.0, 3600.0
KIB, MIB = 1 << 10, 1 << 20


def setting(default: object, description: str, *, example: str | None = None) -> Any:
    """Declare a setting. `example`: what the sample shows where the default is nothing."""
    # A factory, because pydantic copies a default it cannot hash, and a read-only mapping cannot be copied.
    return Field(
        default_factory=lambda: default,
        description=description,
        examples=None if example is None else [example],
    )


class Section(BaseModel):
    """A table of the configuration file. Its docstring heads that table in the sample."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class Timeouts(Section):
    """Connections of callers."""

    head: Duration = setting(10 * SECONDS, "Time for a request's head to arrive.")
    body: Duration = setting(10 * SECONDS, "Time for a request's body to arrive.")
    write: Duration = setting(30 * SECONDS, "Time for a caller to take its answer.")
    keep_alive: Duration = setting(
        1 * HOURS, "How long an idle connection stays open; longer than any caller's pool keeps it."
    )


class Connections(Section):
    """Connections to Talon.One."""

    warm: CountOrZero = setting(2, "Connections kept open even when nobody calls.")
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


class Tls(Section):
    """Verification of Talon.One's certificate; it cannot be switched off."""

    ca_file: File = setting(
        None,
        "PEM file of the authorities to trust instead of the system's.",
        example="/etc/talon-proxy/ca.pem",
    )


class Upstream(Section):
    """Talon.One."""

    url: Url = Field(
        description="Base URL of the deployment, without a path: `https://`, or `http://` to this machine.",
        examples=["https://mycompany.europe-west1.talon.one"],
    )
    protocol: Annotated[Protocol, choice(Protocol)] = setting(
        "auto",
        "HTTP version; `auto` takes the best that both sides speak (without TLS `http/1.1`).",
    )
    allow_cleartext: Flag = setting(False, "Allow `http://` to other machines, keys and customer data in clear.")
    connections: Connections = Field(default_factory=Connections)
    timeouts: UpstreamTimeouts = Field(default_factory=UpstreamTimeouts)
    tls: Tls = Field(default_factory=Tls)


class Application(Section):
    """One Application of Talon.One, by the name you give it here."""

    api_key: IntegrationKey = setting(None, "Its Integration API key.", example="<key>")
    api_key_file: File = setting(None, "File that holds its Integration API key.", example="/run/secrets/talon-one-eu")
    environment: Label = setting("default", "Name of the environment, for logs and metrics.")
    kind: Annotated[ApplicationKind, choice(ApplicationKind)] = setting(
        "live", "`testing`: the key is a Testing key, under which no call has an effect."
    )
    _name: str = PrivateAttr(default="")

    @property
    def name(self) -> str:
        """Its key in `applications`."""
        return self._name

    def named(self, name: str) -> Self:
        """Give the same Application with its name."""
        application = self.model_copy()
        application._name = name  # noqa: SLF001 - of its own class; a field would be a setting
        return application


def _named(applications: Mapping[str, Application]) -> Mapping[str, Application]:
    return MappingProxyType({name: application.named(name) for name, application in applications.items()})


class Clients(Section):
    """Who may call."""

    tokens: Tokens = setting(
        MappingProxyType({}),
        "Tokens of callers, which they send in place of an API key, each with the Application it stands for.",
        example="<token>=eu",
    )
    allow_unauthenticated: Flag = setting(
        False, "Let everybody who can connect use the keys, also on an address other machines reach."
    )
    allow_browsers: Flag = setting(False, "Answer calls that come from a web page.")
    inject: Annotated[Inject, choice(Inject)] = setting(
        "always",
        "When the API key is added: to every call, to calls without one (`when_missing`), or never (`off`).",
    )
    hosts: Hosts = setting(
        (),
        "Names that callers may use for this proxy, beside IP addresses and `localhost`.",
        example="talon.shop.internal",
    )


class Management(Section):
    """Management API. Without a key no such call is forwarded."""

    api_key: ManagementKey = setting(None, "Management API key.", example="<key>")
    api_key_file: File = setting(
        None, "File that holds the Management API key.", example="/run/secrets/talon-one-management"
    )


class Routes(Section):
    """Paths."""

    extra: Templates = setting((), "Paths to forward beyond the built-in table.", example="GET /v1/coupons/{couponId}")


class Retries(Section):
    """Repeated attempts."""

    connection: CountOrZero = setting(2, "Further attempts after a failure before anything was sent.")


class Limits(Section):
    """Sizes and numbers."""

    head: Size = setting(64 * KIB, "Request line and headers of one request.")
    fields: Count = setting(128, "Header lines of one request.")
    target: Size = setting(8 * KIB, "Path and query of one request.")
    body: Size = setting(8 * MIB, "Body of one request.")
    reply: Size = setting(8 * MIB, "Body of one answer that is held; larger ones are streamed where that is safe.")
    connections: Count = setting(2000, "Connections of callers at a time.")
    pipeline: Count = setting(32, "Requests of one connection that are read ahead of their answers.")


class Admin(Section):
    """Health, metrics, status."""

    listen: Addresses = setting(
        (Address.tcp("0.0.0.0", 7411),),  # noqa: S104 - kubelet and Prometheus call the pod's address
        "Where health, metrics and status are served; an empty list switches them off.",
    )
    token: Token = setting(None, "Token for status from other machines, and for every change.", example="<token>")
    token_file: File = setting(None, "File that holds the token.", example="/run/secrets/talon-proxy-admin")
    hosts: Hosts = setting(
        (),
        "Names that may be used for this listener, beside IP addresses and `localhost`.",
        example="metrics.shop.internal",
    )


class Log(Section):
    """Logs on standard output."""

    level: Annotated[Level, choice(Level)] = setting("info", "Least level that is written.")
    format: Annotated[Format, choice(Format)] = setting("auto", "`auto`: text on a terminal, else JSON.")
    access: Access = setting(AccessLog("errors"), "Which calls get a line of their own.")


class Shutdown(Section):
    """The end."""

    quiet: DurationOrZero = setting(2 * SECONDS, "How long no call must have arrived before the listeners close.")
    timeout: Duration = setting(25 * SECONDS, "Time from SIGTERM to the end, whatever is still in flight.")


class Settings(Section):
    """All settings, checked. `load` makes it; whatever needs one gets it handed in."""

    listen: Addresses = setting(
        (Address.tcp("127.0.0.1", 7410), Address.tcp("::1", 7410)),
        "Where callers connect, also `unix:/path`. An address that other machines reach needs `clients.tokens`.",
    )
    base_path: BasePath = setting(
        None, "Path in front of `/v1`, `/v2`, `/v3` that callers use and that is cut off.", example="/talon"
    )
    api_key: IntegrationKey = setting(
        None, "Integration API key of the Application `default`, where there is only one.", example="<key>"
    )
    api_key_file: File = setting(None, "File that holds that key.", example="/run/secrets/talon-one")
    timeouts: Timeouts = Field(default_factory=Timeouts)
    upstream: Upstream
    applications: Annotated[
        Mapping[str, Application],
        AfterValidator(_named),
        WrapSerializer(lambda applications, serialize: serialize(dict(applications))),
    ] = Field(default_factory=lambda: MappingProxyType({}))
    clients: Clients = Field(default_factory=Clients)
    management: Management = Field(default_factory=Management)
    routes: Routes = Field(default_factory=Routes)
    retries: Retries = Field(default_factory=Retries)
    limits: Limits = Field(default_factory=Limits)
    admin: Admin = Field(default_factory=Admin)
    log: Log = Field(default_factory=Log)
    shutdown: Shutdown = Field(default_factory=Shutdown)
