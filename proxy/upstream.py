"""The current target: one URL, its connections, its number.

A generation is one URL with the connections to it: OPENING ⇒ SERVING ⇒ DRAINING ⇒ CLOSED. An attempt takes the
generation that is current at its start, and stays with it.
"""

import itertools
import ssl
from collections.abc import Callable
from enum import Enum, auto

from proxy.settings import Origin
from proxy.wire.dialing import Dialer
from proxy.wire.egress import Egress, EgressRules
from proxy.wire.fieldtable import FieldTable
from proxy.wire.pool import Pool, PoolLimits
from proxy.wire.wheel import Wheel

_NUMBERS = itertools.count(1)
DIRECT = EgressRules()


class State(Enum):
    """Of a generation."""

    OPENING = auto()
    SERVING = auto()
    DRAINING = auto()
    CLOSED = auto()


class Generation:
    """One target."""

    def __init__(
        self,
        origin: Origin,
        tls: ssl.SSLContext | None,
        wheel: Wheel,
        limits: PoolLimits,
        *,
        table: FieldTable,
        connect_timeout: float,
        egress: EgressRules = DIRECT,
        ended: Callable[[int], None] | None = None,
    ) -> None:
        self.number = next(_NUMBERS)
        self.origin = origin
        self.host_line = b"Host: %b\r\n" % origin.authority.encode()
        self.state = State.OPENING
        self.egress = Egress(origin.host, origin.port, egress, wheel=wheel)
        dialer = Dialer(self.egress, tls, timeout=connect_timeout, clock=wheel.clock)
        self.pool = Pool(dialer, wheel, limits, table=table, ended=ended)

    def __repr__(self) -> str:
        return f"<Generation {self.number} {self.state.name} {self.pool!r}>"

    def open(self, *, expecting: int = 0) -> None:
        """OPENING ⇒ SERVING: calls may come; warm connections are on their way.

        `expecting`: as many connections as calls that come will need at once; of a switch, the old pool's `expected`.
        """
        self.state = State.SERVING
        self.egress.start()
        self.pool.start(expecting=expecting)

    async def drain(self) -> None:
        """SERVING ⇒ DRAINING ⇒ CLOSED: no new exchange, those under way end."""
        self.state = State.DRAINING
        self.egress.stop()
        await self.pool.close()
        self.state = State.CLOSED

    def abort(self) -> None:
        """⇒ CLOSED, now."""
        self.egress.stop()
        self.pool.abort()
        self.state = State.CLOSED


class Upstream:
    """Holds the current generation; it is replaced, never changed."""

    def __init__(self, generation: Generation) -> None:
        self.current = generation
