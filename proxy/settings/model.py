"""Settings: every option, its default, its unit and one sentence about it.

A new setting is a new field here: the file, the environment, the flags, the sample and the table follow from it.
Nothing in here reads anything; `proxy.settings.load` does.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, PrivateAttr

from proxy.settings.address import Address
from proxy.settings.checklist import Checklist
from proxy.settings.kinds import Access, AccessLog, BasePath, File, Flag, Label, Rate, choice
from proxy.settings.lists import Addresses, Hosts, Templates
from proxy.settings.names import ApplicationName
from proxy.settings.secret_kinds import IntegrationKey, ManagementKey, Token, Tokens
from proxy.settings.section import HOURS, SECONDS, Section, setting
from proxy.settings.times import Day, Duration, DurationOrZero
from proxy.settings.traffic import Coalescing, Lanes, Limits, Retries
from proxy.settings.upstream import AS_DICT, Upstream

ApplicationKind = Literal["live", "testing"]
Inject = Literal["always", "when_missing", "off"]
Level = Literal["debug", "info", "warning", "error"]
Format = Literal["auto", "json", "text"]


class Timeouts(Section):
    """Connections of callers."""

    head: Duration = setting(10 * SECONDS, "Time for a request's head to arrive.")
    body: Duration = setting(10 * SECONDS, "Time for a request's body to arrive.")
    write: Duration = setting(30 * SECONDS, "Time for a caller to take its answer.")
    keep_alive: Duration = setting(
        1 * HOURS, "How long an idle connection stays open; longer than any caller's pool keeps it."
    )


class Application(Section):
    """One Application of Talon.One, by the name you give it here."""

    api_key: IntegrationKey = setting(None, "Its Integration API key.", example="<key>")
    api_key_file: File = setting(None, "File that holds its Integration API key.", example="/run/secrets/talon-one-eu")
    next_api_key: IntegrationKey = setting(
        None,
        "A second key, tried when Talon.One refuses the first: for changing keys without a pause.",
        example="<key>",
    )
    next_api_key_file: File = setting(None, "File that holds the second key.", example="/run/secrets/talon-one-eu-next")
    expires: Day = setting(
        None,
        "When its key expires, as the Campaign Manager shows it; a day counts from its beginning, in UTC.",
        example="2027-03-31",
    )
    environment: Label = setting(
        "default", "Name of its environment at Talon.One: profiles are shared by all Applications of one."
    )
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
    tokens_file: File = setting(
        None,
        "File that holds `clients.tokens`: `<token>=eu`, one a line, or JSON.",
        example="/run/secrets/talon-proxy-tokens",
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
    rate: Rate = setting(3.0, "Calls to one endpoint of the Management API; Talon.One takes 3/s.")


class Routes(Section):
    """Paths."""

    extra: Templates = setting((), "Paths to forward beyond the built-in table.", example="GET /v1/coupons/{couponId}")


class Admin(Section):
    """Health, metrics, status."""

    listen: Addresses = setting(
        (Address.tcp("0.0.0.0", 7411),),  # noqa: S104 - kubelet and Prometheus call the pod's address
        "Where health, metrics and status are served; an empty list switches them off.",
    )
    token: Token = setting(None, "Token for status from other machines, and for every change.", example="<token>")
    token_file: File = setting(None, "File that holds `admin.token`.", example="/run/secrets/talon-proxy-admin")
    hosts: Hosts = setting(
        (),
        "Names that may be used for this listener, beside IP addresses and `localhost`.",
        example="metrics.shop.internal",
    )


class Log(Section):
    """Logs on standard output."""

    level: Annotated[Level, choice(Level)] = setting(
        "info", "Least level of events that is written; for calls there is `log.access`."
    )
    format: Annotated[Format, choice(Format)] = setting("auto", "`auto`: text on a terminal, else JSON.")
    access: Access = setting(AccessLog("errors"), "Which calls get a line of their own.")
    hash_key: Token = setting(
        None,
        "What ids are hashed with before they are logged; with the same one, the lines of all proxies can be compared.",
        example="<random text>",
        shown="random at every start",
    )
    hash_key_file: File = setting(None, "File that holds `log.hash_key`.", example="/run/secrets/talon-proxy-hash")


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
    api_key_file: File = setting(
        None, "File that holds the API key of the Application `default`.", example="/run/secrets/talon-one"
    )
    next_api_key: IntegrationKey = setting(None, "A second key of the Application `default`.", example="<key>")
    next_api_key_file: File = setting(
        None, "File that holds the second key of the Application `default`.", example="/run/secrets/talon-one-next"
    )
    timeouts: Timeouts = Field(default_factory=Timeouts)
    upstream: Upstream
    applications: Annotated[Mapping[ApplicationName, Application], AfterValidator(_named), AS_DICT] = Field(
        default_factory=lambda: MappingProxyType({})
    )
    clients: Clients = Field(default_factory=Clients)
    management: Management = Field(default_factory=Management)
    routes: Routes = Field(default_factory=Routes)
    lanes: Lanes = Field(default_factory=Lanes)
    coalescing: Coalescing = Field(default_factory=Coalescing)
    retries: Retries = Field(default_factory=Retries)
    limits: Limits = Field(default_factory=Limits)
    checklist: Checklist = Field(default_factory=Checklist)
    admin: Admin = Field(default_factory=Admin)
    log: Log = Field(default_factory=Log)
    shutdown: Shutdown = Field(default_factory=Shutdown)
