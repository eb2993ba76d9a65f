"""A visit is one call on its way through a deployment: its key, its turn, a stored answer, its entry in the journal.

Knows no HTTP but the words of it, and no socket: whether the caller is still there is asked of `Caller`.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from random import Random
from typing import Protocol

from proxy.simulator import idempotency, management, operations
from proxy.simulator.deployments import Deployment
from proxy.simulator.journal import Entry
from proxy.simulator.keys import Access, made_dry
from proxy.simulator.management import Management
from proxy.simulator.operations import Answer, Call, Kind, Operation
from proxy.simulator.problems import Problem
from proxy.simulator.turns import CrowdedError, Turn

CALLER_LEFT = 499  # in the journal only: nobody is there to read it

_log = logging.getLogger(__name__)

Work = Callable[[], Awaitable[None]]


class CallerLeftError(Exception):
    """The caller left before the turn came."""


class Caller(Protocol):
    """Whoever waits for the answer. `on_left` is called if it leaves."""

    on_left: Callable[[], None] | None

    @property
    def here(self) -> bool:
        """Whether it has not left yet."""


@dataclass(slots=True)
class Visit:
    """One call that arrived complete. Without `access` its key opens nothing."""

    caller: Caller
    deployment: Deployment
    access: Access | None
    entry: Entry
    document: Callable[[], bytes] = field(repr=False)  # the body, decoded; may raise Problem
    idempotency_key: str | None = None


class Reception:
    """Gives visits their answers. `work` is awaited while a call runs: the time it takes."""

    def __init__(self, managed: Management, work: Work) -> None:
        self._managed = managed
        self._work = work

    async def answer(self, visit: Visit) -> Answer:
        """The answer of the world, or of what refused the call; the entry ends here.

        There is no await on the way to the place in line, so calls of a key run in the order in which they arrived.
        """
        try:
            return await self._answer(visit)
        except CallerLeftError:
            return _refuse(visit, Problem(CALLER_LEFT, "The caller left"), "error")
        except Problem as problem:
            return _refuse(visit, problem, "error")
        except CrowdedError as crowded:
            message = f"Too many requests are updating this {crowded.key.noun} at the same time"
            return _refuse(visit, Problem(409, message), "refused")
        except Exception:
            _log.exception("the simulator failed at call %d", visit.entry.sequence)
            return _refuse(visit, Problem(500, "Internal server error"), "error")

    async def _answer(self, visit: Visit) -> Answer:
        if visit.access is None:
            raise Problem(401, "Invalid API key")
        entry, application = visit.entry, visit.access.application
        path = entry.target.partition("?")[0]
        if application is None:
            operation = self._managed.find(entry.method, path, visit.deployment.world, visit.deployment.pace)
            return await self._in_turn(visit, operation)
        if management.owns(path):
            raise Problem(401, "Invalid API key")
        entry.application = application.name
        target = made_dry(entry.target) if visit.access.testing else entry.target
        call = Call(entry.method, target, visit.document(), application)
        operation = operations.find(call, visit.deployment.world)
        if visit.access.testing and operation.kind is not Kind.DRY:
            raise Problem(400, "A testing key is only for dry updates of sessions and profiles, and dry events")
        entry.operation, entry.session, entry.profile = operation.name, operation.session, operation.profile
        key = visit.idempotency_key
        if key is None or operation.kind is not Kind.APPLIED or not idempotency.knows_keys(operation.name):
            return await self._in_turn(visit, operation)
        answer, replayed = await visit.deployment.stored.once(
            application.name,
            key,
            f"{entry.method} {entry.target} {entry.body_sha256}",
            lambda: self._in_turn(visit, operation),
        )
        if replayed:
            visit.deployment.journal.end(entry, answer.status, "replayed")
        return answer

    async def _in_turn(self, visit: Visit, operation: Operation) -> Answer:
        """Wait for the turn, and run. CrowdedError, CallerLeftError, or what the operation raises."""
        journal = visit.deployment.journal
        turn = visit.deployment.turns.arrive(operation.keys)
        try:
            if not await _begun(turn, visit.caller):
                raise CallerLeftError
            journal.start(visit.entry)
            await self._work()
            answer = operation.perform()
            # Before the turn ends: the next call of a key must be seen to start after this one.
            journal.end(visit.entry, answer.status, operation.kind)
            return answer
        finally:
            turn.end()


def pause(latency: float, jitter: float, random: Random) -> Work:
    """The time a call takes: `latency` seconds, give or take up to `jitter`."""

    async def pausing() -> None:
        seconds = latency + random.uniform(-jitter, jitter)
        if seconds > 0:
            await asyncio.sleep(seconds)

    return pausing


async def _begun(turn: Turn, caller: Caller) -> bool:
    """Wait for the turn; False if the caller left meanwhile."""
    if turn.running:
        return True
    if not caller.here:
        return False
    caller.on_left = turn.end
    try:
        return await turn.begun()
    finally:
        caller.on_left = None


def _refuse(visit: Visit, problem: Problem, outcome: str) -> Answer:
    visit.deployment.journal.end(visit.entry, problem.status, outcome)
    return operations.answer_problem(problem, visit.entry.target)
