"""The attempts of flights: which connection, what is sent, when to try again.

So far one row of design.md §6: a failure before any byte of the request was written is tried again at once, on
another connection, any method, at most `retries.connection` times more and within the call's time.
"""

from collections.abc import Callable

from proxy.credentials import Credentials
from proxy.errors import CallTimeout, ConnectTimeout, NameTimeout, ProxyError, UpstreamError, to_reply
from proxy.messages import Reply, Sent
from proxy.traffic.flights import Flight, State
from proxy.upstream import Upstream
from proxy.wire.connection import Connection
from proxy.wire.dialing import is_permanent

# Told the reply with which a flight has landed, or the error.
Landed = Callable[[Flight, Reply, ProxyError | None], None]


class Attempts:
    """Makes the attempts of all flights, and lands them."""

    def __init__(
        self,
        upstream: Upstream,
        credentials: Credentials,
        landed: Landed,
        *,
        response_timeout: float,
        retries: int,
    ) -> None:
        self._upstream = upstream
        self._credentials = credentials
        self._landed = landed
        self._response_timeout = response_timeout
        self._retries = retries
        self.retried = 0

    def begin(self, flight: Flight) -> None:
        """See `flights.Crew`: the flight is sent in this step, or waits for a connection."""
        flight.call.timeline.tries += 1
        generation = flight.generation = self._upstream.current
        connection = generation.pool.take()
        if connection is None:
            flight.wait()
        else:
            self.send(flight, connection)

    def send(self, flight: Flight, connection: Connection) -> None:
        """See `flights.Crew`."""
        call, generation = flight.call, flight.generation
        assert generation is not None
        try:
            # Signed last: a call that waited across a rotation leaves with the key of this moment.
            head = b"%b %b HTTP/1.1\r\n%b%b%b\r\n" % (
                call.method,
                call.target,
                generation.host_line,
                flight.lines,
                self._credentials.sign(flight.grant),
            )
        except BaseException:
            generation.pool.release(connection)
            raise
        connection.send(flight, head, call.body, timeout=self._response_timeout)

    def failed(self, flight: Flight, error: ProxyError) -> None:
        """See `flights.Crew`."""
        flight.failures += 1
        timeline = flight.call.timeline
        if error.sent is not Sent.NO:
            timeline.upstream += timeline.answered - timeline.sent
        if self._again(flight, error):
            if not flight.late:
                self.retried += 1
                flight.state = State.QUEUED  # it may have been handed over, and not been taken
                self.begin(flight)
                return
            error = CallTimeout("No attempt succeeded in time", sent=Sent.NO)
        self._land(flight, to_reply(error), error)

    def _again(self, flight: Flight, error: ProxyError) -> bool:
        unsent = isinstance(error, UpstreamError) and error.sent is Sent.NO and not is_permanent(error)
        # A black hole costs a whole time-out each time: once more, not as often as a quick refusal (U4).
        most = min(self._retries, 1) if isinstance(error, ConnectTimeout | NameTimeout) else self._retries
        return unsent and flight.failures <= most

    def answered(self, flight: Flight, reply: Reply) -> None:
        """See `flights.Crew`."""
        timeline = flight.call.timeline
        timeline.upstream += timeline.answered - timeline.sent
        self._land(flight, self._credentials.mask(flight.grant, reply), None)

    def _land(self, flight: Flight, reply: Reply, error: ProxyError | None) -> None:
        flight.land()
        self._landed(flight, reply, error)
