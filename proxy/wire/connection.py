"""What a pool and an exchange know of a connection to Talon.One, whatever protocol it speaks.

A connection carries as many exchanges at a time as it has `slots`: one in HTTP/1.1, many in HTTP/2. The pool hands
slots out and takes them back; the connection says how many there are, and when a slot is free again.
"""

import asyncio
from collections.abc import Callable
from enum import Enum
from typing import Final, Protocol

from proxy.errors import ProxyError
from proxy.messages import Reply, Timeline
from proxy.wire.wheel import Wheel

HTTP1, HTTP2 = "http/1.1", "h2"  # as ALPN, settings and metrics name them


class Closing(Enum):
    """Why a connection was closed, as metrics name it."""

    IDLE = "idle"
    AGE = "age"
    ERROR = "error"
    GOAWAY = "goaway"
    SWITCH = "switch"
    PEER = "peer"


POLITE: Final = (Closing.IDLE, Closing.AGE, Closing.SWITCH)  # the peer has done nothing wrong: say goodbye


class Exchange(Protocol):
    """What is asked of a connection, and who is told what becomes of it: `sent`, then `answered` or `failed`, once.

    Where the answer does not come in time, it is asked whether to go on: `overdue`.
    """

    @property
    def method(self) -> bytes:
        """Of the request: an answer to HEAD has no body."""
        ...

    @property
    def timeline(self) -> Timeline:
        """Stamped on the way."""
        ...

    @property
    def may_stream(self) -> bool:
        """A reply larger than may be held can be handed over as a stream."""
        ...

    def sent(self) -> None:
        """The first byte is being handed over, in this step."""
        ...

    def answered(self, reply: Reply) -> None:
        """The answer is complete, or (a stream) its head."""
        ...

    def failed(self, error: ProxyError) -> None:
        """There will be none."""
        ...

    def overdue(self) -> float:
        """There is no answer in time. 0: `failed` follows. More: so many seconds are left to see the end of it.

        `answered` or `failed` tell whether it was seen.
        """
        ...


class Connection(asyncio.Protocol):
    """One connection, as its pool sees it. What is marked so belongs to the pool."""

    protocol = ""

    def __init__(
        self, wheel: Wheel, *, freed: Callable[["Connection"], None], lost: Callable[["Connection"], None]
    ) -> None:
        """`freed`: an exchange ended, its slot may be used again. `lost`: closed, for whatever reason."""
        self._clock = wheel.clock
        self._freed = freed
        self._lost = lost
        self._transport: asyncio.Transport
        self.slots = 0  # exchanges that it may carry at a time; 0: no further one
        self.lent = 0  # slots handed out; the pool's
        self.held = 0  # of these, exchanges of which only the end is waited for
        self.renew_at = 0.0  # no exchange is begun after this moment; the pool's
        self.closing: Closing | None = None
        self.opened = 0.0
        self.idle_since = 0.0
        self.served = 0  # exchanges begun
        self.keep_alive: int | None = None  # seconds the peer said it keeps an idle connection

    async def ready(self) -> None:
        """Wait until the peer has said what it has to say first. Raises UpstreamError, sent=no."""

    def hung_up(self, now: float) -> bool:
        """The peer has closed; known to the kernel, not to the loop yet (U10)."""
        raise NotImplementedError

    def retire(self, reason: Closing) -> None:
        """Begin no further exchange, and close when those under way have ended."""
        raise NotImplementedError

    def close(self, reason: Closing) -> None:
        """Close at once; exchanges under way end as lost."""
        raise NotImplementedError

    def send(self, exchange: Exchange, head: bytes, body: bytes, *, timeout: float) -> None:
        """Begin an exchange on a free slot. `head` is spelled as in HTTP/1.1, `Host` its first field.

        `timeout`: seconds to the complete answer, or to a stream's head.
        """
        raise NotImplementedError
