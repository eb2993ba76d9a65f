"""Operations: from a call to what it will do.

`find` is synchronous and changes nothing, so that a call can take its place in line right after it; `perform` does
the work in one synchronous step. Both may raise Problem. The tables of the `…_calls` modules say what there is.
"""

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from urllib.parse import parse_qs, unquote

from proxy.simulator import code_calls, customer_calls, loyalty_calls, session_calls
from proxy.simulator.calls import Answer, Call, Handler, Kind, Operation, Request, json
from proxy.simulator.problems import Problem, not_found
from proxy.simulator.world import World

__all__ = ["OPERATIONS", "Answer", "Call", "Kind", "Operation", "answer_problem", "find"]

OPERATIONS = {**session_calls.TABLE, **customer_calls.TABLE, **loyalty_calls.TABLE, **code_calls.TABLE}
# What leaves `StatusCode` out of a 400, as the API documents.
_WITHOUT_STATUS = ("/v2/customer_sessions/", "/v1/referrals", "/v1/catalogs/")
_WITH_STATUS = "/v1/referrals_for_multiple_advocates"
_NO_QUERY: Mapping[str, list[str]] = MappingProxyType({})


def find(call: Call, world: World) -> Operation:
    """Understand a call, or raise Problem: 400 for a bad one, 404 for one that does not exist."""
    path, _, query = call.target.partition("?")
    # Split before decoding: an encoded slash is part of an id.
    segments = path.split("/")[1:]
    for name, pattern, handler in _ROUTES.get((call.method, len(segments)), ()):
        ids = _match(pattern, segments)
        if ids is None:
            continue
        parameters = parse_qs(query, keep_blank_values=True) if query else _NO_QUERY
        return handler(Request(name, call.body, world.at(call.application), ids, parameters))
    if segments[0] in ("v1", "v2", "v3"):
        raise not_found(f"{call.method} {path} is no operation of the Integration API")
    raise not_found("There is nothing at this path")


def answer_problem(problem: Problem, target: str) -> Answer:
    """The envelope of an error."""
    without = problem.status == 400 and target.startswith(_WITHOUT_STATUS) and not target.startswith(_WITH_STATUS)
    return json(problem.content(with_status=not without), problem.status)


def _match(pattern: tuple[str, ...], segments: list[str]) -> tuple[str, ...] | None:
    """The decoded parameters of a path, or None if it is another one."""
    ids: list[str] = []
    for expected, segment in zip(pattern, segments, strict=True):
        if expected == "{}" and segment:
            ids.append(unquote(segment))
        elif expected != segment:
            return None
    return tuple(ids)


def _routes() -> Iterator[tuple[tuple[str, int], tuple[str, tuple[str, ...], Handler]]]:
    for name, (line, handler) in OPERATIONS.items():
        method, template = line.split(" ")
        pattern = tuple(template.split("/")[1:])
        yield (method, len(pattern)), (name, pattern, handler)


_ROUTES: dict[tuple[str, int], list[tuple[str, tuple[str, ...], Handler]]] = {}
for _key, _route in _routes():
    _ROUTES.setdefault(_key, []).append(_route)
