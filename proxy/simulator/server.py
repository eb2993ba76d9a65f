"""The simulator on sockets: a call comes in, a fault may strike it, its answer goes out.

A call arrives when its body is complete, and takes its places in the same step. It then runs for the set
latency, with its places held, and works at the end of it. When its caller leaves, a waiting call gives up its
places at once; a running one runs to its end.
"""

import asyncio
import ssl
import time
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from random import Random

from aiohttp import web

from proxy.simulator import faults, idempotency, operations
from proxy.simulator.connections import MAX_BODY, Connection, Connections, decoded, printable, read_body, rendered
from proxy.simulator.control import PREFIX, Ask, Control
from proxy.simulator.delivery import deliver
from proxy.simulator.deployments import MAX_WORLDS, Beginning, Deployment, Deployments
from proxy.simulator.faults import Fault, FaultError
from proxy.simulator.journal import Journal
from proxy.simulator.keys import DEFAULT_KEY, MAIN, Access, Grant, Keyring, default_grants
from proxy.simulator.management import Management
from proxy.simulator.operations import Answer
from proxy.simulator.problems import Problem
from proxy.simulator.turns import Turns
from proxy.simulator.visits import Reception, Visit, Work, pause
from proxy.simulator.world import World

__all__ = ["DEFAULT_KEY", "MAX_BODY", "Simulator"]

_NOTHING = Answer(204)  # what is delivered where a fault leaves no answer


class Simulator:
    """A Talon.One on a port, with any number of worlds in it; `world`, `journal` and `turns` are the main one's.

    `work` replaces latency and jitter: it is awaited while a call runs, so a test can hold calls there without a
    clock. `clock` is the monotonic one of the journal; the time of day belongs to each world (`Beginning`).
    """

    def __init__(
        self,
        *,
        grants: Iterable[Grant] | None = None,
        management_key: str = DEFAULT_KEY,
        latency: float = 0.0,
        jitter: float = 0.0,
        work: Work | None = None,
        beginning: Beginning | None = None,
        max_worlds: int = MAX_WORLDS,
        control_token: str | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        beginning = beginning or Beginning()
        self.deployments = Deployments(beginning, clock, limit=max_worlds)
        self._keyring = Keyring(default_grants() if grants is None else grants, management=management_key)
        self._reception = Reception(
            Management(self._keyring.applications),
            work or pause(latency, jitter, Random(beginning.seed)),  # noqa: S311 (no secret hangs on it)
        )
        self._control = Control(self.deployments, self._counted, token=control_token)
        self._connections: Connections | None = None
        self._running: set[asyncio.Task[object]] = set()
        self._listener: asyncio.Server | None = None

    @property
    def world(self) -> World:
        """What the main world remembers."""
        return self.deployments.main.world

    @property
    def journal(self) -> Journal:
        """What happened in the main world."""
        return self.deployments.main.journal

    @property
    def turns(self) -> Turns:
        """The lines of the main world."""
        return self.deployments.main.turns

    async def start(self, host: str = "127.0.0.1", port: int = 0, *, tls: ssl.SSLContext | None = None) -> int:
        """Listen, and return the port. OSError if the address cannot be had."""
        loop = asyncio.get_running_loop()
        self._connections = Connections(self._handle)
        self._listener = await loop.create_server(self._connections, host, port, backlog=1024, ssl=tls)
        bound: int = self._listener.sockets[0].getsockname()[1]
        return bound

    async def stop(self, grace: float = 1.0) -> None:
        """Stop listening, close idle connections, give running calls `grace` seconds, end the rest."""
        if self._listener is None or self._connections is None:
            return
        self._listener.close()
        self._connections.pre_shutdown()
        await self._connections.shutdown(grace)
        # aiohttp forgets a call whose caller left, though it still runs.
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)
        await self._listener.wait_closed()
        self._listener = self._connections = None

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        task, connection = asyncio.current_task(), request.protocol
        assert task is not None
        assert isinstance(connection, Connection)
        self._running.add(task)
        connection.begin()
        try:
            if request.raw_path.startswith(PREFIX):
                return rendered(await self._ask(request, connection))
            return await self._visit(request, connection)
        except web.HTTPRequestEntityTooLarge:
            return _refused(request, Problem(413, "The request body is too large"))
        finally:
            connection.busy = False
            self._running.discard(task)

    async def _visit(self, request: web.BaseRequest, connection: Connection) -> web.StreamResponse:
        headers, target = request.headers, request.raw_path
        access = self._keyring.open(headers.get("Authorization", ""))
        deployment = self.deployments.of(access.world if access else MAIN)
        try:
            fault = _fault(request, access, deployment)
        except FaultError as error:
            return _refused(request, Problem(400, f"{faults.HEADER}: {error}"))
        if fault is not None and fault.kind is faults.Kind.RESET_BEFORE_READ:
            deployment.journal.strike(fault.kind)
            return await deliver(request, connection, _NOTHING, fault)
        body = await read_body(request)
        # No await from here to the place in line: calls arrive in the order in which they were complete.
        request_id = headers.get("X-Request-Id")
        entry = deployment.journal.arrive(request.method, target, body, request_id and printable(request_id))
        document = partial(decoded, body, headers.get("Content-Encoding", ""))
        visit = Visit(connection, deployment, access, entry, document, headers.get(idempotency.HEADER))
        if fault is None:
            return rendered(await self._reception.answer(visit))
        deployment.journal.strike(fault.kind, entry, fault.text)
        if fault.executed:
            return await deliver(request, connection, await self._reception.answer(visit), fault)
        deployment.journal.end(entry, fault.status or None, "faulted")
        return await deliver(request, connection, _NOTHING, fault)

    async def _ask(self, request: web.BaseRequest, connection: Connection) -> Answer:
        body, authorization = await read_body(request), request.headers.get("Authorization", "")
        ask = Ask(request.method, request.raw_path, body, authorization, connection.loopback)
        try:
            return self._control.answer(ask)
        except Problem as problem:
            return operations.answer_problem(problem, request.raw_path)

    def _counted(self) -> Mapping[str, int]:
        assert self._connections is not None
        return {"opened": self._connections.opened, "open": self._connections.open}


def _fault(request: web.BaseRequest, access: Access | None, deployment: Deployment) -> Fault | None:
    """What the caller asks for, or what is switched on in the world of its key. FaultError."""
    asked = request.headers.get(faults.HEADER)
    if asked is not None:
        return faults.parse(asked)
    if access is None or not deployment.faults.armed:
        return None
    return deployment.faults.draw(request.raw_path.partition("?")[0])


def _refused(request: web.BaseRequest, problem: Problem) -> web.StreamResponse:
    return rendered(operations.answer_problem(problem, request.raw_path))
