"""The reception of a call: what it says of itself, what it is, for which Application. Pure; whatever is wrong raises.

The pipeline asks it of every call, and `talon-proxy explain` of one that is never sent: so both say the same.
"""

from typing import Final

from proxy import fields
from proxy.callers import Callers
from proxy.credentials import Credentials, Grant
from proxy.errors import MethodNotAllowed, NotFound
from proxy.messages import Call
from proxy.talon.routes import Route, Routes, cut_base, split_application

_HEALTH: Final = b"/.health"
_REPEATABLE: Final = frozenset({b"PUT", b"DELETE"})  # two equal ones, one after the other, do what one does


class Reception:
    """Understands calls, as settings `base_path`, `clients.*`, `routes.*` and `applications` have it."""

    def __init__(self, routes: Routes, callers: Callers, credentials: Credentials, base_path: str | None) -> None:
        self._routes = routes
        self._callers = callers
        self._credentials = credentials
        self._base_path = base_path.encode() if base_path else b""

    def read(self, call: Call) -> fields.CallFields:
        """Read and check a call's fields, once for all calls that have the same. Raises ProxyError."""
        found = call.fields.understood
        if not isinstance(found, fields.CallFields):
            found = fields.read(call.fields)
            self._callers.check_host(call.fields.host)
            self._callers.check_browser(
                origin=found.origin,
                fetch_site=found.fetch_site,
                preflight=found.preflight and call.method == b"OPTIONS",
            )
            if not found.preflight:  # it is one with OPTIONS only
                call.fields.understood = found
        return found

    def asks_health(self, call: Call) -> bool:
        """Whether it asks `/.health`, which is answered here as by talon-access-proxy. Raises MethodNotAllowed."""
        if call.target != _HEALTH:
            return False
        if call.method not in (b"GET", b"HEAD"):
            raise MethodNotAllowed("Only GET and HEAD", allow="GET, HEAD")
        return True

    def understand(self, call: Call, found: fields.CallFields) -> tuple[Route, Grant]:
        """Name the operation and choose the Application; what we add to paths is cut off. Raises ProxyError."""
        prefix = None
        if self._base_path:
            rest = cut_base(call.target, self._base_path)
            if rest is None:
                raise NotFound("Paths here begin with base_path")
            call.target = rest
        if call.target.startswith(b"/app/"):
            prefix, call.target = split_application(call.target)
        route = self._routes.classify(call.method, call.target)
        call.operation = route.operation.name
        if route.parameters:
            call.subject = route.parameters[0]
        grant = self._credentials.authorise(found.authorization, found.application, prefix, route.surface)
        call.application = grant.application.name
        return route, grant


def may_share(route: Route, call: Call, found: fields.CallFields) -> bool:
    """Tell whether a call may share the answer of an identical one: two equal events are two events."""
    return not found.alone and (route.reads or call.method in _REPEATABLE or found.idempotency_key is not None)
