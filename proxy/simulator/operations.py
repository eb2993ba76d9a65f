"""Operations turn a call into what it will do: which places it takes, and the step that makes its answer.

`find` is synchronous and changes nothing, so that a call can take its place in line right after it; `perform`
does the work in one synchronous step and may raise Problem. New endpoints are added to `find`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any
from urllib.parse import parse_qsl, unquote

import orjson

from proxy.simulator import answers, payload
from proxy.simulator.problems import Problem, invalid_parameter, not_found
from proxy.simulator.turns import Key
from proxy.simulator.world import Application, World

SESSIONS = "/v2/customer_sessions/"
MAX_PAGE = 1000


class Kind(StrEnum):
    """What an operation is to the journal, if it succeeds."""

    APPLIED = "applied"
    READ = "read"
    DRY = "dry"


@dataclass(frozen=True, slots=True)
class Call:
    """One call as it arrived; `target` is the raw path and query."""

    method: str
    target: str
    body: bytes
    application: Application


@dataclass(frozen=True, slots=True)
class Answer:
    """Status and JSON body; 204 has none."""

    status: int
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class Operation:
    """A call understood. Only calls that change something occupy keys."""

    kind: Kind
    perform: Callable[[], Answer]
    session: str | None = None
    profile: str | None = None
    keys: tuple[Key, ...] = ()


def find(call: Call, world: World) -> Operation:
    """Understand a call, or raise Problem: 400 for a bad one, 404 for one that is not simulated."""
    path, _, query = call.target.partition("?")
    parameters = _parameters(query)
    # Split before decoding: an encoded slash is part of an id.
    match call.method, path.split("/")[1:]:
        case "PUT", ["v2", "customer_sessions", segment] if segment:
            return _update_session(call, world, unquote(segment), parameters)
        case "GET", ["v2", "customer_sessions", segment] if segment:
            return _get_session(call, world, unquote(segment))
        case "PUT", ["v2", "customer_profiles", segment] if segment:
            return _update_profile(call, world, unquote(segment), parameters)
        case "POST", ["v2", "events"]:
            return _track_event(call, world, parameters)
        case "GET", ["v1", "integration", "campaigns"]:
            return _list_campaigns(call, parameters)
        case _, ["v1" | "v2" | "v3", *_]:
            raise not_found(f"{call.method} {path} is not simulated yet")
    raise not_found("There is nothing at this path")


def answer_problem(problem: Problem, target: str) -> Answer:
    """The envelope of an error; session operations leave `StatusCode` out of a 400, as the API documents."""
    with_status = not (problem.status == 400 and target.startswith(SESSIONS))
    return _answer(problem.content(with_status=with_status), status=problem.status)


def _update_session(call: Call, world: World, session: str, parameters: Mapping[str, str]) -> Operation:
    update = payload.session_update(call.body)
    application = call.application
    if _flag(parameters, "dry"):
        return Operation(
            Kind.DRY,
            lambda: _answer(answers.state(world.try_session(application, session, update), update.wanted)),
            session,
            update.profile or None,
        )
    # The link may change while the call waits; what counts is what is known when it arrives.
    profile = world.linked_profile(application, session) if update.profile is None else update.profile
    keys = (_session_key(application, session), *_profile_keys(application, profile))
    return Operation(
        Kind.APPLIED,
        lambda: _answer(answers.state(world.update_session(application, session, update), update.wanted)),
        session,
        profile or None,
        keys,
    )


def _get_session(call: Call, world: World, session: str) -> Operation:
    def perform() -> Answer:
        return _answer(answers.session_state(world.session(call.application, session)))

    return Operation(Kind.READ, perform, session)


def _update_profile(call: Call, world: World, profile: str, parameters: Mapping[str, str]) -> Operation:
    update = payload.profile_update(call.body)
    application = call.application
    run_rules = _flag(parameters, "runRuleEngine")
    # Without the Rule Engine there is nothing to try and nothing to add: `dry` and `responseContent` need it.
    wanted = update.wanted if run_rules else ()
    if run_rules and _flag(parameters, "dry"):
        return Operation(
            Kind.DRY,
            lambda: _answer(answers.state(world.try_profile(application, profile, update), wanted)),
            profile=profile,
        )

    def perform() -> Answer:
        evaluation = world.update_profile(application, profile, update, run_rules=run_rules)
        return _answer(answers.state(evaluation, wanted))

    return Operation(Kind.APPLIED, perform, profile=profile, keys=_profile_keys(application, profile))


def _track_event(call: Call, world: World, parameters: Mapping[str, str]) -> Operation:
    tracked = payload.tracked_event(call.body)
    application = call.application
    silent = _silent(parameters)
    dry = _flag(parameters, "dry")
    track = world.try_event if dry else world.track_event

    def perform() -> Answer:
        evaluation = track(application, tracked)
        return Answer(204) if silent else _answer(answers.state(evaluation, tracked.wanted))

    return Operation(
        Kind.DRY if dry else Kind.APPLIED,
        perform,
        tracked.session or None,
        tracked.profile or None,
        () if dry else _profile_keys(application, tracked.profile),
    )


def _list_campaigns(call: Call, parameters: Mapping[str, str]) -> Operation:
    page_size = _number(parameters, "pageSize", default=50, lowest=1)
    skip = _number(parameters, "skip", default=0, lowest=0)
    content = answers.campaigns(call.application, skip=skip, page_size=page_size)
    return Operation(Kind.READ, lambda: _answer(content))


def _session_key(application: Application, session: str) -> Key:
    return Key("session", application.name, session)


def _profile_keys(application: Application, profile: str) -> tuple[Key, ...]:
    """Anonymous calls occupy no profile."""
    return (Key("profile", application.environment, profile),) if profile else ()


def _answer(content: Mapping[str, Any], status: int = 200) -> Answer:
    return Answer(status, orjson.dumps(content, option=orjson.OPT_UTC_Z))


def _parameters(query: str) -> dict[str, str]:
    """The first value of each parameter counts, as in Go."""
    return dict(reversed(parse_qsl(query, keep_blank_values=True))) if query else {}


def _flag(parameters: Mapping[str, str], name: str) -> bool:
    match parameters.get(name, ""):
        case "1" | "t" | "T" | "true" | "TRUE" | "True":
            return True
        case "" | "0" | "f" | "F" | "false" | "FALSE" | "False":
            return False
    raise invalid_parameter("Invalid type", "must be true or false", parameter=name)


def _silent(parameters: Mapping[str, str]) -> bool:
    match parameters.get("silent", "yes"):
        case "yes":
            return True
        case "no":
            return False
    raise invalid_parameter("enum", "must be one of yes, no", parameter="silent")


def _number(parameters: Mapping[str, str], name: str, *, default: int, lowest: int) -> int:
    text = parameters.get(name, str(default))
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise invalid_parameter("Invalid type", "must be an integer", parameter=name)
    number = int(text)
    if number < lowest or (name == "pageSize" and number > MAX_PAGE):
        raise invalid_parameter("Invalid value", "out of range", parameter=name)
    return number
