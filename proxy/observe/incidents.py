"""Incidents: of each sort of failed call, how many there were since the start, and the last one.

Sorts are a closed set: what this proxy answered by `errors.Category`, what Talon.One answered by its status. An
ordinary call costs one comparison.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from proxy.errors import Category, ProxyError
from proxy.messages import Call, Reply, Sent

OWN: Mapping[Category, str] = {
    Category.BAD_REQUEST: "not valid HTTP, or not as it is forwarded",
    Category.REFUSED: "refused by the proxy: token, route, browser, host name, or too many connections",
    Category.BUFFER: "refused, because bodies that are held took as much memory as they may",
    Category.CIRCUIT: "refused at once, because Talon.One could not be reached lately",
    Category.CONCURRENCY: "refused, because too many calls were under way",
    Category.DEPTH: "refused, because too many writes of one session or profile waited",
    Category.DRAINING: "refused, because the proxy was shutting down",
    Category.PACING: "refused, because too many Management calls of one endpoint waited",
    Category.DNS: "the name of Talon.One's host was not found",
    Category.CONNECT: "no connection to Talon.One could be opened",
    Category.TLS: "Talon.One's certificate was not accepted, or the handshake failed",
    Category.TIMEOUT: "too slow: the answer, a connection, or the caller's own request",
    Category.LOST: "the connection to Talon.One broke during the call",
    Category.PROTOCOL: "Talon.One's answer was not valid HTTP",
    Category.TOO_LARGE: "a request or an answer was too large",
    Category.INTERNAL: "a defect of the proxy; its log has the traceback",
}
THEIRS: Mapping[str, str] = {
    "validation": "400: Talon.One found the request wrong",
    "auth": "401: Talon.One refused the API key",
    "not_found": "404: Talon.One knows no such thing",
    "conflict": "409: Talon.One refused, also when it was tried again",
    "throttled": "429: too many calls, says Talon.One",
    "upstream_4xx": "another 4xx of Talon.One",
    "upstream_5xx": "Talon.One failed with a 5xx",
}
_BY_STATUS = {400: "validation", 401: "auth", 404: "not_found", 409: "conflict", 429: "throttled"}
_MEANINGS: Mapping[str, str] = {category.value: text for category, text in OWN.items()} | dict(THEIRS)


@dataclass(slots=True)
class Sort:
    """What is kept of one sort; the last of them."""

    count: int = 0
    at: float = 0.0
    status: int = 0
    operation: str = ""


class Incidents:
    """An observer, see `observers`."""

    only_failed = True

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._sorts: dict[str, Sort] = {}

    def __repr__(self) -> str:
        return f"<Incidents sorts={len(self._sorts)}>"

    def finished(self, call: Call, reply: Reply, *, whole: bool) -> None:
        """An answer was written, or found its caller gone."""
        if reply.status >= 400:
            self._note(call.error or _sort_of(reply.status), reply.status, call.operation)

    def rejected(self, reply: Reply, error: ProxyError) -> None:
        """A message that never became a call was answered."""
        self._note(error.category.value, reply.status, "other")

    def abandoned(self, call: Call, sent: Sent) -> None:
        """A caller left: not a failure of ours, nor of Talon.One."""

    def _note(self, name: str, status: int, operation: str) -> None:
        sort = self._sorts.setdefault(name, Sort())
        sort.count += 1
        sort.at, sort.status, sort.operation = self._clock(), status, operation

    @property
    def unauthorised(self) -> int:
        """Give how many callers got Talon.One's 401: their key is no good."""
        return self._sorts["auth"].count if "auth" in self._sorts else 0

    def status(self) -> Sequence[Mapping[str, object]]:
        """Give what `/status` shows, the latest first."""
        now = self._clock()
        return [
            {
                "category": name,
                "meaning": _MEANINGS.get(name, ""),
                "count": sort.count,
                "last_seconds": round(now - sort.at, 1),
                "last_status": sort.status,
                "last_operation": sort.operation,
            }
            for name, sort in sorted(self._sorts.items(), key=lambda item: -item[1].at)
        ]


def _sort_of(status: int) -> str:
    return _BY_STATUS.get(status, "upstream_4xx" if status < 500 else "upstream_5xx")
