"""Control is what a tester asks of the simulator itself, under `/-/`. It needs no API key.

    GET            /-/health                                    204: it is up; for anybody
    GET DELETE     /-/journal?world=&session=&request_id=&since=
    GET            /-/stats?world=
    GET PUT DELETE /-/faults?world=                             PUT ["stall,seconds=2", …]
    GET PUT DELETE /-/clock?world=                              PUT {"now": "2026-01-01T00:00:00Z", "runs": false}
                                                                or  {"advance_seconds": 86400}
    POST           /-/reset?world=                              without a world: all of them

Without `world` the main one is meant. Only callers on this machine are heard, and those with the control token.
"""

import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qsl

import orjson

from proxy.simulator import faults
from proxy.simulator.clock import moment
from proxy.simulator.deployments import Deployment, Deployments
from proxy.simulator.keys import MAIN, is_world
from proxy.simulator.operations import Answer
from proxy.simulator.problems import Problem, not_found

PREFIX = "/-/"
DONE = Answer(204)
_FURTHEST = 1_000_000_000  # seconds a clock may be moved at once, some thirty years


@dataclass(frozen=True, slots=True)
class Ask:
    """One request of a tester."""

    method: str
    target: str
    body: bytes = b""
    authorization: str = ""
    loopback: bool = True


class Control:
    """Answers testers. `connections` gives the numbers of opened and of open ones."""

    def __init__(
        self, deployments: Deployments, connections: Callable[[], Mapping[str, int]], *, token: str | None = None
    ) -> None:
        self._deployments = deployments
        self._connections = connections
        self._token = token
        self._routes: dict[tuple[str, str], Callable[[Deployment, Mapping[str, str], bytes], Answer]] = {
            ("GET", "journal"): self._read_journal,
            ("DELETE", "journal"): self._clear_journal,
            ("GET", "stats"): self._stats,
            ("GET", "faults"): self._read_faults,
            ("PUT", "faults"): self._set_faults,
            ("DELETE", "faults"): self._clear_faults,
            ("GET", "clock"): self._read_clock,
            ("PUT", "clock"): self._set_clock,
            ("DELETE", "clock"): self._let_clock_go,
        }

    def answer(self, ask: Ask) -> Answer:
        """Do what is asked, or raise Problem."""
        path, _, query = ask.target.removeprefix(PREFIX).partition("?")
        if (ask.method, path) == ("GET", "health"):
            return DONE
        if not self._heard(ask):
            raise Problem(403, "Control answers callers on its own machine, or with its token (--control-token)")
        parameters = dict(parse_qsl(query))
        world = parameters.get("world")
        if world is not None and not is_world(world):
            raise Problem(400, "world must be the name of a world")
        if (ask.method, path) == ("POST", "reset"):
            self._deployments.reset(world)
            return DONE
        route = self._routes.get((ask.method, path))
        if route is None:
            raise not_found("There is nothing at this path")
        return route(self._deployments.of(world or MAIN), parameters, ask.body)

    def _heard(self, ask: Ask) -> bool:
        given = ask.authorization.encode(errors="surrogateescape")
        return ask.loopback or (
            self._token is not None and secrets.compare_digest(given, f"Bearer {self._token}".encode())
        )

    def _read_journal(self, deployment: Deployment, parameters: Mapping[str, str], _: bytes) -> Answer:
        since = parameters.get("since", "0")
        if not (since.isascii() and since.isdigit()):
            raise Problem(400, "since must be a sequence number")
        entries = deployment.journal.entries(
            session=parameters.get("session"), request_id=parameters.get("request_id"), since=int(since)
        )
        return _json(entries)

    def _clear_journal(self, deployment: Deployment, _: Mapping[str, str], __: bytes) -> Answer:
        deployment.journal.clear()
        return DONE

    def _stats(self, deployment: Deployment, _: Mapping[str, str], __: bytes) -> Answer:
        tally = deployment.journal.tally
        return _json(
            {
                "world": deployment.name,
                "calls": tally.calls,
                "in_progress": tally.in_progress,
                "peak_in_progress": tally.peak,
                "peak_at_one_key": deployment.turns.peak,
                "refused": tally.outcomes["refused"],
                "outcomes": tally.outcomes,
                "statuses": tally.statuses,
                "faults": tally.faults,
                "seed": self._deployments.beginning.seed,
                "connections": self._connections(),
                "worlds": self._deployments.names,
                "worlds_forgotten": self._deployments.forgotten,
            }
        )

    def _read_faults(self, deployment: Deployment, _: Mapping[str, str], __: bytes) -> Answer:
        return _json(
            [
                {"fault": armed.fault.text, "struck": armed.struck, "left": armed.left}
                for armed in deployment.faults.armed
            ]
        )

    def _set_faults(self, deployment: Deployment, _: Mapping[str, str], body: bytes) -> Answer:
        texts = _document(body)
        if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
            raise Problem(400, 'faults are a list such as ["stall,seconds=2"]')
        try:
            parsed = [faults.parse(text) for text in texts]
        except faults.FaultError as error:
            raise Problem(400, str(error)) from error
        deployment.faults.set(parsed)
        return self._read_faults(deployment, {}, b"")

    def _clear_faults(self, deployment: Deployment, _: Mapping[str, str], __: bytes) -> Answer:
        deployment.faults.set(())
        return DONE

    def _read_clock(self, deployment: Deployment, _: Mapping[str, str], __: bytes) -> Answer:
        return _json({"now": deployment.clock(), "mode": deployment.clock.mode})

    def _set_clock(self, deployment: Deployment, _: Mapping[str, str], body: bytes) -> Answer:
        document = _document(body)
        match {"runs": False, **document} if isinstance(document, dict) and "now" in document else document:
            case {"now": str(text), "runs": bool(runs), **rest} if not rest:
                try:
                    deployment.clock.set(moment(text), runs=runs)
                except ValueError as error:
                    raise Problem(400, f"now: {error}") from error
            case {"advance_seconds": int() | float() as seconds, **rest} if not rest and abs(seconds) <= _FURTHEST:
                try:
                    deployment.clock.advance(timedelta(seconds=seconds))
                except OverflowError as error:
                    raise Problem(400, "advance_seconds: there is no such year") from error
            case _:
                raise Problem(400, 'a clock is set by {"now": …, "runs": false}, or {"advance_seconds": 3600}')
        return self._read_clock(deployment, {}, b"")

    def _let_clock_go(self, deployment: Deployment, _: Mapping[str, str], __: bytes) -> Answer:
        deployment.clock.let_go()
        return DONE


def _document(body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise Problem(400, "the body is not JSON") from error


def _json(content: object) -> Answer:
    return Answer(200, orjson.dumps(content, option=orjson.OPT_UTC_Z | orjson.OPT_NON_STR_KEYS))
