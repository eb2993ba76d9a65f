"""The straight line: a complete call is understood, authorised, sent, answered.

`submit` awaits nothing: from the last byte of a request to its place among the flights there is no other turn of
the loop (invariant 1). Everything that can be refused is refused there, before a task is made.
"""

import asyncio
import logging
import secrets
from typing import Protocol

from proxy import fields
from proxy.callers import Callers
from proxy.credentials import Credentials
from proxy.errors import (
    CallTimeout,
    Draining,
    InternalError,
    PoolTimeout,
    ProxyError,
    to_reply,
)
from proxy.messages import Answer, Call, Reply, Sent, Source
from proxy.reception import Reception
from proxy.talon.routes import Routes
from proxy.traffic.attempts import Attempts
from proxy.traffic.flights import Flight, State
from proxy.upstream import Upstream
from proxy.wire.wheel import Wheel

_LOG = logging.getLogger(__name__)


class Observer(Protocol):
    """Who is told how calls ended."""

    def finished(self, call: Call, reply: Reply, *, whole: bool) -> None:
        """See `wire.downstream.Handler`."""
        ...

    def rejected(self, reply: Reply, error: ProxyError) -> None:
        """See `wire.downstream.Handler`."""
        ...

    def abandoned(self, call: Call, sent: Sent) -> None:
        """A caller left before its answer."""
        ...


class Pipeline:
    """Answers calls; the `Handler` of the listener."""

    def __init__(
        self,
        routes: Routes,
        callers: Callers,
        credentials: Credentials,
        upstream: Upstream,
        observer: Observer,
        wheel: Wheel,
        *,
        response_timeout: float,
        total_timeout: float,
        retries: int,
        base_path: str | None,
    ) -> None:
        self._reception = Reception(routes, callers, credentials, base_path)
        self.attempts = Attempts(
            upstream, credentials, self._landed, response_timeout=response_timeout, retries=retries
        )
        self._observer = observer
        self._wheel = wheel
        self._total_timeout = total_timeout
        self._prefix = secrets.token_hex(6).encode()
        self._count = 0
        self._flights: set[Flight] = set()
        self._empty: asyncio.Event | None = None  # while somebody waits for the last flight
        self.last_arrival = wheel.clock()

    def __repr__(self) -> str:
        return f"<Pipeline flights={len(self._flights)}>"

    @property
    def in_flight(self) -> int:
        """Calls that are not answered yet, or sent and given up by their callers."""
        return len(self._flights)

    # --- the Handler of the listener ---

    def submit(self, call: Call, answer: Answer) -> Flight | None:
        """See `wire.downstream.Handler`."""
        self.last_arrival = call.timeline.complete
        try:
            found = self._read(call)
            if self._reception.asks_health(call):
                self._answer(call, answer, Reply(200, b"", b"", source=Source.PROXY, length=0))
                return None
            _, grant = self._reception.understand(call, found)
        except ProxyError as error:
            call.error = error.category.value
            self._answer(call, answer, to_reply(error))
            return None
        flight = Flight(
            call, grant, fields.outbound(call, found), answer, crew=self.attempts, tower=self, wheel=self._wheel
        )
        timeout = self._total_timeout if found.timeout is None else min(found.timeout, self._total_timeout)
        flight.set(call.timeline.complete + timeout)
        self._flights.add(flight)
        flight.begin()
        return flight

    def own_lines(self, request_id: bytes | None) -> bytes:
        """See `wire.downstream.Handler`."""
        return fields.own_lines(request_id or self._new_id())

    def finished(self, call: Call, reply: Reply, *, whole: bool) -> None:
        """See `wire.downstream.Handler`."""
        self._observer.finished(call, reply, whole=whole)

    def rejected(self, reply: Reply, error: ProxyError) -> None:
        """See `wire.downstream.Handler`."""
        self._observer.rejected(reply, error)

    # --- the walk ---

    def _read(self, call: Call) -> fields.CallFields:
        """Read a call's fields; it has an id then, whatever is wrong with them."""
        call.request_id = self._new_id()
        found = self._reception.read(call)
        if found.request_id is not None:
            call.request_id = found.request_id
        return found

    def _landed(self, flight: Flight, reply: Reply, error: ProxyError | None) -> None:
        """A flight is over; its caller, if it still waits, is answered."""
        self._discard(flight)
        if error is not None and flight.waited_for:
            flight.call.error = error.category.value
        self._answer(flight.call, flight.answer, reply)

    # --- the Tower of flights ---

    def left(self, flight: Flight) -> bool:
        """See `traffic.flights.Tower`."""
        self._observer.abandoned(flight.call, flight.outcome)
        return self._give_up(flight)

    def overdue(self, flight: Flight) -> None:
        """See `traffic.flights.Tower`: what was sent goes on without its caller."""
        if flight.waits:
            self._end(flight, PoolTimeout("No connection became free in the time the call had", sent=Sent.NO))
        else:
            details = "Not answered within upstream.timeouts.total or Talon-Proxy-Timeout-Ms"
            self._end(flight, CallTimeout(details, sent=flight.outcome))

    def crashed(self, flight: Flight) -> None:
        """See `traffic.flights.Tower`."""
        request_id = flight.call.request_id.decode("latin-1")
        _LOG.exception("a call failed", extra={"fields": {"request_id": request_id}})
        error = InternalError(sent=flight.outcome)
        flight.land()
        self._landed(flight, to_reply(error), error)

    # --- the end ---

    async def drained(self) -> None:
        """Wait until every flight has landed."""
        while self._flights:
            if self._empty is None:
                self._empty = asyncio.Event()
            await self._empty.wait()

    def refuse_unsent(self) -> None:
        """Shutting down: answer every call that was not sent yet."""
        for flight in list(self._flights):
            if flight.state is State.QUEUED:
                self._end(flight, Draining("The proxy is shutting down", sent=Sent.NO))

    def _end(self, flight: Flight, error: ProxyError) -> None:
        flight.call.error = error.category.value
        self._give_up(flight)
        self._answer(flight.call, flight.answer, to_reply(error))

    def _give_up(self, flight: Flight) -> bool:
        """QUEUED ⇒ DONE, with nothing sent; False: too late for that, it will land."""
        if flight.state is not State.QUEUED:
            return False
        flight.land()
        self._discard(flight)
        return True

    def _discard(self, flight: Flight) -> None:
        self._flights.discard(flight)
        if self._empty is not None and not self._flights:
            self._empty.set()
            self._empty = None

    def _answer(self, call: Call, answer: Answer, reply: Reply) -> None:
        if not call.timeline.ready:
            call.timeline.ready = self._wheel.clock()
        answer(reply, fields.timed_lines(call))

    def _new_id(self) -> bytes:
        self._count += 1
        return b"%b-%x" % (self._prefix, self._count)
