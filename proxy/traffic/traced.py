"""Attempts that are traced: each is told of, and takes its trace along to Talon.One.

Attempts of their own, so that where nobody traces there is not even a question.
"""

from typing import Protocol

from proxy.errors import Category, ProxyError
from proxy.messages import Call, Reply
from proxy.traffic.attempts import Attempts
from proxy.traffic.flights import Flight
from proxy.upstream import Generation
from proxy.wire.connection import Connection


class Origin(Protocol):
    """Where Talon.One is; as text, its URL."""

    @property
    def host(self) -> str:
        """Name or IP address."""
        ...

    @property
    def port(self) -> int:
        """Of it."""
        ...


class Tracer(Protocol):
    """Who makes spans. A flight is known by the call it was made for."""

    def joined(self, call: Call, leader: Call) -> None:
        """A call shares the flight that was made for another."""
        ...

    def trying(self, call: Call) -> None:
        """An attempt begins; it may have to wait for a connection."""
        ...

    def sending(self, call: Call, origin: Origin, lines: bytes) -> bytes:
        """The attempt is sent there. Gives the header lines with its own trace context."""
        ...

    def ended(self, call: Call, *, status: int = 0, error: str | None = None) -> None:
        """The attempt is over: with an answer of this status, or for this reason. It may not have been sent."""
        ...


class TracedAttempts(Attempts):
    """Tells a tracer of every attempt; otherwise `Attempts`."""

    tracer: Tracer

    def start(self, flight: Flight) -> None:
        """See `flights.Crew`."""
        self.tracer.trying(flight.call)
        super().start(flight)

    def _send(self, flight: Flight, generation: Generation, connection: Connection) -> None:
        lines = flight.lines
        flight.lines = self.tracer.sending(flight.call, generation.origin, lines)
        try:
            super()._send(flight, generation, connection)
        finally:
            # The next attempt has a context of its own.
            flight.lines = lines

    def failed(self, flight: Flight, error: ProxyError) -> None:
        """See `flights.Crew`."""
        self.tracer.ended(flight.call, error=error.category.value)
        super().failed(flight, error)

    def answered(self, flight: Flight, reply: Reply) -> None:
        """See `flights.Crew`."""
        self.tracer.ended(flight.call, status=reply.status)
        super().answered(flight, reply)

    def overdue(self, flight: Flight) -> float:
        """See `flights.Crew`."""
        hold = super().overdue(flight)
        if hold:
            # Else it fails, which is told then.
            self.tracer.ended(flight.call, error=Category.TIMEOUT.value)
        return hold
