"""An explanation: what the proxy would do with one call, found out without sending it.

The head goes through the same parser, the call through the same reception, as if it had come in on a connection; what
these refuse is refused here with the same status and texts.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum

from proxy import fields
from proxy.app import callers_of, credentials_of, request_limits, routes_of
from proxy.credentials import Credentials, Grant
from proxy.errors import ProxyError
from proxy.messages import Call, Timeline
from proxy.reception import Reception
from proxy.settings import Settings
from proxy.talon.operations import Ids, Pointer
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
class Traffic:
    """How a call stands to others, and what follows a failure."""

    ordered: str
    joins: str
    repeats: str


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
    traffic: Traffic
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
    authorization = _authorization(credentials, grant)
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
        names=names(route, call.body),
        traffic=traffic(settings),
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


def _authorization(credentials: Credentials, grant: Grant) -> str:
    """Tell the value of the `Authorization` line without the key."""
    if grant.passed is not None:
        return "(as the caller sent it)" if grant.passed else ""
    if grant.surface is Surface.MANAGEMENT:
        return "ManagementKey-v1 …"
    return f"ApiKey-v1 {credentials.hints()[grant.application.name]}"


def traffic(settings: Settings) -> Traffic:
    """Tell how the traffic room treats a call: so far all alike."""
    more = settings.retries.connection
    return Traffic(
        ordered="no: every call is sent as soon as it is there",
        joins="no: every call is sent by itself",
        repeats=f"up to {more} more attempts while nothing of it was sent; never after that"
        if more
        else "never (retries.connection = 0)",
    )


# --- ids ------------------------------------------------------------------------------------------------------


def names(route: Route, body: bytes) -> Names:
    """Find the ids that a call names, in its path and in its body."""
    operation = route.operation
    sessions = [] if route.session is None else [(route.session, "path")]
    profiles = [] if route.profile is None else [(route.profile, "path")]
    if operation.bulk:
        return Names(sessions, profiles, "a bulk call names too many to tell")
    if not operation.session.pointers and not operation.profile.pointers:
        return Names(sessions, profiles, None if sessions or profiles else "this operation names none")
    try:
        document = json.loads(body) if body else None
    except ValueError:
        return Names(sessions, profiles, "the body is not JSON, so that ids in it are not seen")
    sessions += _in_body(document, operation.session)
    profiles += _in_body(document, operation.profile)
    return Names(sessions, profiles, None if body else "there is no body, where more may stand (--body)")


def _in_body(document: object, ids: Ids) -> list[tuple[str, str]]:
    return [
        (found, "body /" + "/".join(pointer)) for pointer in ids.pointers for found in _at(document, pointer) if found
    ]


def _at(value: object, pointer: Pointer) -> Iterator[str]:
    if not pointer:
        if isinstance(value, str):
            yield value
        return
    first, *rest = pointer
    if first == "*" and isinstance(value, list):
        for item in value:
            yield from _at(item, tuple(rest))
    elif isinstance(value, dict):
        yield from _at(value.get(first), tuple(rest))
