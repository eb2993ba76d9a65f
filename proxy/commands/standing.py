"""How a call stands to others: what it waits for, whose answer it may share, what is tried again.

Found out by the rooms that serve: the call is admitted to lanes of its own, where nothing else is under way.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from proxy import fields
from proxy.credentials import Grant
from proxy.messages import Call
from proxy.pipeline import Rules as PipelineRules
from proxy.pipeline import make_flight
from proxy.settings import Settings
from proxy.talon import keys
from proxy.talon.routes import Route
from proxy.traffic.attempts import Abandoned
from proxy.traffic.flights import Flight
from proxy.traffic.gates import Key
from proxy.traffic.traffic import Rules, make_lanes
from proxy.wire.wheel import Wheel

_UNKEYED = {
    keys.Unkeyed.TOO_LARGE: "the body is larger than limits.inspect, so that ids in it are not seen",
    keys.Unkeyed.COMPRESSED: "the body is compressed, so that ids in it are not seen",
    keys.Unkeyed.NOT_JSON: "the body is not JSON, so that ids in it are not seen",
    keys.Unkeyed.SHAPE: "the body is not as documented, so that ids in it may not be seen",
    keys.Unkeyed.TOO_MANY: "it names too many",
}


@dataclass(frozen=True, slots=True)
class Standing:
    """Sentences for people; the keys of lanes and gates for programs. `unkeyed`: why there may be more ids."""

    ordered: Sequence[str]
    lanes: Sequence[Key]
    gates: Sequence[Key]
    joins: str
    repeats: Sequence[str]
    abandoned: str
    unkeyed: str | None


def standing(
    settings: Settings,
    rules: tuple[PipelineRules, Rules],
    call: Call,
    found: fields.CallFields,
    route: Route,
    grant: Grant,
) -> Standing:
    """Tell how a call stands. `rules`: what the settings mean for pipeline and traffic."""
    for_pipeline, for_traffic = rules
    nobody: Any = None  # it is never begun
    wheel = Wheel(time.monotonic, nobody)
    flight = make_flight(call, found, route, grant, for_pipeline, crew=nobody, tower=nobody, wheel=wheel)
    lanes = make_lanes(for_traffic, clock=time.monotonic)
    lanes.admit(flight)
    unkeyed = flight.names.unkeyed
    if unkeyed is None and lanes.unkeyed[keys.Unkeyed.TOO_MANY]:
        unkeyed = keys.Unkeyed.TOO_MANY
    return Standing(
        ordered=list(_ordered(settings, flight)),
        lanes=[lane.key for lane in flight.lanes],
        gates=[gate.key for gate in flight.gates],
        joins=_joins(settings, flight, found),
        repeats=list(_repeats(settings, flight)),
        abandoned=_abandoned(flight, for_traffic),
        unkeyed=None if unkeyed is None else _UNKEYED[unkeyed],
    )


def _ordered(settings: Settings, flight: Flight) -> Iterator[str]:
    if not settings.lanes.enabled:
        yield "no: lanes.enabled is false"
    elif not flight.ordered:
        yield "no: the call says Talon-Proxy-Order: no"
    elif flight.route.reads:
        yield "no: it changes nothing, and waits for nobody"
        if flight.gates:
            yield f"at most {flight.gates[0].width} dry calls of each session or profile it names are sent at a time"
    else:
        yield from _ordered_write(flight)


def _ordered_write(flight: Flight) -> Iterator[str]:
    if flight.lanes:
        yield f"after earlier writes of {' and of '.join(_told(lane.key) for lane in flight.lanes)}"
    elif not flight.gates:
        yield "no: it names no session and no profile, or too many"
    if flight.gates:
        shared = " and ".join(_told(gate.key) for gate in flight.gates)
        yield f"at most {flight.gates[0].width} writes of {shared}, listed as shared, at a time, in no order"
    if flight.names.session is not None and not flight.names.profiles:
        yield "after those of the profiles that earlier calls gave this session"


def _told(key: Key) -> str:
    sort, owner, name = key
    where = "environment" if sort == "profile" else "Application"
    return f"{sort} {name!r} ({where} {owner})"


def _joins(settings: Settings, flight: Flight, found: fields.CallFields) -> str:
    if not settings.coalescing.enabled:
        return "no: coalescing.enabled is false"
    if flight.route.operation.name in settings.coalescing.off:
        return "no: the operation is in coalescing.off"
    if found.alone:
        return "no: a header asks for an answer of its own (Talon-Proxy-Coalesce, Cache-Control, Range or a condition)"
    if flight.route.reads:
        return "an identical one under way, unless a write of what it reads has come or landed since that began"
    if not flight.shares:
        return "no: two equal ones are two, unless they have the same Idempotency-Key"
    if not flight.lanes:
        return "no: it has no place among others, at which it could be known whether anything came between"
    return "an identical one that is the last so far of all its lanes"


def _repeats(settings: Settings, flight: Flight) -> Iterator[str]:
    retries = settings.retries
    if retries.connection:
        yield f"up to {retries.connection} times more while nothing of it was sent"
    if not flight.route.reads and retries.conflict.tries:
        yield f"up to {retries.conflict.tries} times after a 409 that says too many updates are under way"
    limit = settings.limits.inspect
    if flight.repeatable:
        yield "once more after a lost connection, or a 502, 503 or 504"
    elif keys.is_harmless_twice(flight.route, flight.call.body, encoded=flight.encoded, limit=limit):
        yield "once more if an idle connection turns out to have been closed as it was sent"
        yield "otherwise never after it was sent"
    else:
        yield "never after it was sent"


def _abandoned(flight: Flight, rules: Rules) -> str:
    attempts = rules.attempts
    sent = not flight.route.reads and (
        attempts.abandoned is Abandoned.SEND
        or (
            attempts.abandoned is Abandoned.AUTO
            and keys.decides_fate(flight.route, flight.call.body, encoded=flight.encoded, limit=attempts.inspect)
        )
    )
    return "it is sent all the same" if sent else "it is not sent"
