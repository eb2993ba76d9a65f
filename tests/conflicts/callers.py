"""The shop's backend: keep-alive connections, the calls of its customers, and what a shop does about a 409.

That is, as a careful shop would: once more after 50 ms, doubling to 1 s, each time a random share of it, until the
call succeeds.
"""

import asyncio
import itertools
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass

from proxy.simulator.server import DEFAULT_KEY
from tests.conflicts.shop import Customer, Request, Step
from tests.load import Wire

FIRST_WAIT, LONGEST_WAIT = 0.05, 1.0  # seconds
PATIENCE = 120.0  # seconds for one call with all its repetitions
WARM = 128  # connections to each address from the start: who has to connect first comes later than it was sent

Address = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one call."""

    request: Request
    order: int  # in which the shop sent it, the first time
    conflicts: int  # 409s the caller saw
    status: int
    seconds: float  # from the first byte sent to the last byte of the final answer

    @property
    def succeeded(self) -> bool:
        """It did what it should, if not at once."""
        return self.status < 300


class Backend:
    """Calls Talon.One, or what stands before it: `addresses` in turn."""

    def __init__(self, addresses: Sequence[Address], *, seed: int = 1) -> None:
        self.outcomes: list[Outcome] = []
        self._next = itertools.cycle(addresses).__next__
        self._idle: dict[Address, list[Connection]] = {address: [] for address in addresses}
        self._order = itertools.count(1)
        self._chance = random.Random(seed)

    async def serve(self, customers: Sequence[Customer], seconds: float) -> list[Outcome]:
        """Let customers come, evenly spread over so many seconds; return when the last one has gone."""
        for address, idle in self._idle.items():
            idle += await asyncio.gather(*(connect(address) for _ in range(WARM)))
        try:
            async with asyncio.TaskGroup() as visits:
                for number, customer in enumerate(customers):
                    visits.create_task(self._visit(customer, seconds * number / len(customers)))
        finally:
            for connection in itertools.chain(*self._idle.values()):
                connection.transport.abort()
        return self.outcomes

    async def _visit(self, customer: Customer, after: float) -> None:
        await asyncio.sleep(after)
        for step in customer.steps:
            await self._together(step)

    async def _together(self, step: Step) -> None:
        """Send all calls of a step in one go, and see each through."""
        ready = [(request, *await self._connection()) for request in step]
        begun = [
            (request, address, connection, connection.ask(request), next(self._order), time.monotonic())
            for request, address, connection in ready
        ]
        async with asyncio.TaskGroup() as calls:
            for call in begun:
                calls.create_task(self._see_through(*call))

    async def _see_through(
        self,
        request: Request,
        address: Address,
        connection: "Connection",
        answer: asyncio.Future[int],
        order: int,
        began: float,
    ) -> None:
        conflicts, wait = 0, FIRST_WAIT
        while True:
            status = await answer
            self._idle[address].append(connection)
            if status != 409 or time.monotonic() - began > PATIENCE:
                break
            conflicts += 1
            await asyncio.sleep(self._chance.uniform(0, wait))
            wait = min(2 * wait, LONGEST_WAIT)
            address, connection = await self._connection()
            answer = connection.ask(request)
        conflicts += status == 409
        self.outcomes.append(Outcome(request, order, conflicts, status, time.monotonic() - began))

    async def _connection(self) -> tuple[Address, "Connection"]:
        address = self._next()
        return address, await take(self._idle[address], address)


class Connection(Wire):
    """One connection, one call at a time."""

    def __init__(self) -> None:
        super().__init__()
        self._answer: asyncio.Future[int] | None = None

    def ask(self, request: Request) -> asyncio.Future[int]:
        """Send a call; the status of its answer follows."""
        self._answer = asyncio.get_running_loop().create_future()
        # The key, for where nobody adds it.
        head = (
            f"{request.method} {request.target} HTTP/1.1\r\nHost: localhost\r\nX-Request-Id: {request.id}\r\n"
            f"Authorization: ApiKey-v1 {DEFAULT_KEY}\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(request.body)}\r\n\r\n"
        )
        self.transport.write(head.encode() + request.body)
        return self._answer

    def take(self, message: bytes) -> None:
        assert self._answer is not None, "an answer nobody asked for"
        answer, self._answer = self._answer, None
        if not answer.done():  # whoever waited may have been cancelled
            answer.set_result(int(message[9:12]))

    def connection_lost(self, exc: Exception | None) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(exc or ConnectionError("closed with a call under way"))


async def take(idle: list[Connection], address: Address) -> Connection:
    """Take an idle connection, the one last used, or connect."""
    while idle:
        connection = idle.pop()
        if not connection.transport.is_closing():
            return connection
    return await connect(address)


async def connect(address: Address) -> Connection:
    """Connect; raises OSError."""
    _, protocol = await asyncio.get_running_loop().create_connection(Connection, *address)
    return protocol
