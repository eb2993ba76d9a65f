"""The current target: one URL, its connections, its number.

A generation is one URL with the connections to it: OPENING ⇒ SERVING ⇒ DRAINING ⇒ CLOSED. An attempt takes the
generation that is current at its start, and stays with it.
"""

import itertools
import ssl
from collections.abc import Callable
from enum import Enum, auto

from proxy.settings import Origin
from proxy.wire.dialing import Dialer, Wanted
from proxy.wire.fieldtable import FieldTable
from proxy.wire.pool import Pool, PoolLimits
from proxy.wire.wheel import Wheel

_NUMBERS = itertools.count(1)


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
        protocol: Wanted = "auto",
        connect_timeout: float,
        ended: Callable[[int], None] | None = None,
    ) -> None:
        self.number = next(_NUMBERS)
        self.origin = origin
        self.host_line = b"Host: %b\r\n" % origin.authority.encode()
        self.state = State.OPENING
        dialer = Dialer(origin.host, origin.port, tls, protocol=protocol, timeout=connect_timeout, clock=wheel.clock)
        self.pool = Pool(dialer, wheel, limits, table=table, ended=ended)

    def __repr__(self) -> str:
        return f"<Generation {self.number} {self.state.name} {self.pool!r}>"

    def open(self) -> None:
        """OPENING ⇒ SERVING: calls may come; warm connections are on their way."""
        self.state = State.SERVING
        self.pool.start()

    async def drain(self) -> None:
        """SERVING ⇒ DRAINING ⇒ CLOSED: no new exchange, those under way end."""
        self.state = State.DRAINING
        await self.pool.close()
        self.state = State.CLOSED

    def abort(self) -> None:
        """⇒ CLOSED, now."""
        self.pool.abort()
        self.state = State.CLOSED


class Upstream:
    """Holds the current generation; it is replaced, never changed."""

    def __init__(self, generation: Generation) -> None:
        self.current = generation
