"""An explanation: what the proxy would do with one call, found out without sending it.

The head goes through the same parser, the call through the same reception, as if it had come in on a connection; what
these refuse is refused here with the same status and texts.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from proxy import fields
from proxy.assembly import (
    callers_of,
    credentials_of,
    hints_of,
    pipeline_rules,
    request_limits,
    routes_of,
    traffic_rules,
)
from proxy.commands.standing import Standing, standing
from proxy.credentials import Credentials, Grant
from proxy.errors import ProxyError
from proxy.messages import Call, Timeline
from proxy.reception import Reception
from proxy.settings import Settings
from proxy.talon import keys
from proxy.talon.keys import Names as NamedIds
from proxy.talon.routes import Route, Surface
from proxy.wire.heads import RequestHead, RequestParser

_MADE_PER_CALL = b"(made for each call)"


class Verdict(Enum):
    """What becomes of a call."""

    FORWARDED = "forwarded"
    REFUSED = "refused"
    ANSWERED = "answered"  # by the proxy itself


@dataclass(frozen=True, slots=True)
class Request:
    """A call as somebody would make it. `lines` are header lines, without line ends."""

    method: str
    target: str
    lines: Sequence[str] = ()
    body: bytes | None = None

    def head(self, host: str) -> bytes:
        """Give its head, with the `Host` and the length that every client adds."""
        given = {line.partition(":")[0].lower() for line in self.lines}
        lines = [f"{self.method} {self.target} HTTP/1.1", *([] if "host" in given else [f"Host: {host}"]), *self.lines]
        if self.body is not None and not given & {"content-length", "transfer-encoding"}:
            lines.append(f"Content-Length: {len(self.body)}")
        return "\r\n".join((*lines, "", "")).encode()


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a call is not forwarded. `parameter`: the header or setting at fault."""

    message: str
    details: str
    parameter: str | None


@dataclass(frozen=True, slots=True)
class Application:
    """For which Application a call is, what said so, and what is sent as its key."""

    name: str
    environment: str
    testing: bool
    chosen_by: str
    authorization: str


@dataclass(frozen=True, slots=True)
class Names:
    """The ids that a call names, decoded, each with the place it was found in; and why there may be more, or none."""

    sessions: Sequence[tuple[str, str]]
    profiles: Sequence[tuple[str, str]]
    why: str | None


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds: for the whole call, for one attempt, for opening a connection if it needs one."""

    total: float
    response: float
    connect: float


@dataclass(frozen=True, slots=True)
class Forwarding:
    """What would be sent, and how. `lines`: the head as Talon.One would get it, keys masked."""

    operation: str
    kind: str
    dry: bool
    reads: bool
    api: str
    application: Application
    names: Names
    traffic: Standing
    timeouts: Timeouts
    url: str
    lines: Sequence[str]


@dataclass(frozen=True, slots=True)
class Explanation:
    """What becomes of a call. `status`: of an answer that is the proxy's own."""

    request: str
    verdict: Verdict
    status: int | None = None
    refusal: Refusal | None = None
    forwarding: Forwarding | None = None


def explain(settings: Settings, request: Request) -> Explanation:
    """Find out what would become of a request. Sends nothing."""
    told = f"{request.method} {request.target}"
    credentials = credentials_of(settings)
    reception = Reception(routes_of(settings), callers_of(settings), credentials, settings.base_path)
    try:
        head = RequestParser(request_limits(settings), fields.request_table()).parse(request.head("localhost"))
        if head.asks_this_hop:
            return Explanation(told, Verdict.ANSWERED, 200)
        call = Call(head.method, head.target, head.fields, request.body or b"", Timeline(0.0, 0.0))
        call.request_id = _MADE_PER_CALL
        found = reception.read(call)
        if reception.asks_health(call):
            return Explanation(told, Verdict.ANSWERED, 200)
        route, grant = reception.understand(call, found)
    except ProxyError as error:
        refusal = Refusal(error.message, error.details, error.parameter)
        return Explanation(told, Verdict.REFUSED, error.status, refusal)
    forwarding = _forwarding(settings, credentials, head, call, found, route, grant)
    return Explanation(told, Verdict.FORWARDED, forwarding=forwarding)


def _forwarding(
    settings: Settings,
    credentials: Credentials,
    head: RequestHead,
    call: Call,
    found: fields.CallFields,
    route: Route,
    grant: Grant,
) -> Forwarding:
    timeouts = settings.upstream.timeouts
    named = keys.names(route, call.body, encoded=found.content_encoding != b"", limit=settings.limits.inspect)
    how = standing(settings, (pipeline_rules(settings), traffic_rules(settings)), call, found, route, grant)
    authorization = _authorization(settings, grant)
    request_line = b"%b %b HTTP/1.1\r\n" % (call.method, call.target)
    host = f"Host: {settings.upstream.url.authority}"
    first, *lines = (request_line + fields.outbound(call, found)).decode("utf-8", "replace").split("\r\n")[:-1]
    return Forwarding(
        operation=route.operation.name,
        kind=route.kind.value,
        dry=route.dry,
        reads=route.reads,
        api=route.surface.value,
        application=Application(
            grant.application.name,
            grant.application.environment,
            grant.application.testing,
            _chosen_by(credentials, head, call, found, grant),
            authorization,
        ),
        names=_names(route, named, how.unkeyed, call.body),
        traffic=how,
        timeouts=Timeouts(
            total=timeouts.total if found.timeout is None else min(found.timeout, timeouts.total),
            response=timeouts.response,
            connect=timeouts.connect,
        ),
        url=str(settings.upstream.url),
        lines=[first, host, *lines, *([f"Authorization: {authorization}"] if authorization else [])],
    )


def _chosen_by(credentials: Credentials, head: RequestHead, call: Call, found: fields.CallFields, grant: Grant) -> str:
    if credentials.recognises(found.authorization):
        return "the client token"
    if found.application is not None:
        return "the header Talon-Proxy-Application"
    cut_off = head.target.removesuffix(call.target)
    if cut_off.endswith(b"/app/%b" % grant.application.name.encode()):
        return "the path"
    return "being the only one" if len(credentials.applications) == 1 else "the name default"


def _authorization(settings: Settings, grant: Grant) -> str:
    """Tell the value of the `Authorization` line without the key."""
    if grant.passed is not None:
        return "(as the caller sent it)" if grant.passed else ""
    if grant.surface is Surface.MANAGEMENT:
        return "ManagementKey-v1 …"
    return f"ApiKey-v1 {hints_of(settings)[grant.application.name]}"


def _names(route: Route, named: NamedIds, unkeyed: str | None, body: bytes) -> Names:
    """Tell the ids that a call names, and where."""
    in_body = "body"
    return Names(
        [(named.session, "path" if named.session == route.session else in_body)] if named.session is not None else [],
        [(profile, "path" if profile == route.profile else in_body) for profile in named.profiles],
        _why_none(route, named, unkeyed, body),
    )


def _why_none(route: Route, named: NamedIds, unkeyed: str | None, body: bytes) -> str | None:
    operation = route.operation
    if operation.bulk:
        return "a bulk call names too many to tell"
    if not body and (operation.session.pointers or operation.profile.pointers):
        return "there is no body, where more may stand (--body)"
    if unkeyed is None and named.session is None and not named.profiles:
        return "this operation names none"
    return unkeyed
