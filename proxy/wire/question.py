"""A question of the proxy's own: one GET on a connection of a pool, which calls of callers are not made of."""

import asyncio

from proxy.errors import ProxyError, ResponseTimeout
from proxy.messages import Reply, Sent, Timeline
from proxy.wire.connection import Connection
from proxy.wire.dialing import Opened
from proxy.wire.pool import Pool


class Question:
    """Waits for a connection (`pool.Waiter`), and is sent on it (`connection.Exchange`).

    `opened`: how long the connection took, where one was opened for it.
    """

    method = b"GET"
    may_stream = False

    def __init__(self, head: bytes, timeout: float) -> None:
        """`timeout`: seconds from its first byte to the whole answer."""
        self.timeline = Timeline(0.0, 0.0)
        self.opened: Opened | None = None
        self._reply: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._head = head
        self._timeout = timeout

    async def ask(self, pool: Pool) -> Reply:
        """Give the whole answer. Raises UpstreamError."""
        connection = pool.take()
        if connection is not None:
            self.granted(connection, None)
        else:
            pool.wait(self)
        try:
            return await self._reply
        finally:
            pool.withdraw(self)

    def granted(self, connection: Connection, opened: Opened | None) -> None:
        """See `Waiter`."""
        self.opened = opened
        connection.send(self, self._head, b"", timeout=self._timeout)

    def refused(self, error: ProxyError) -> None:
        """See `Waiter`."""
        self.failed(error)

    def sent(self) -> None:
        """See `Exchange`."""

    def answered(self, reply: Reply) -> None:
        """See `Exchange`."""
        if not self._reply.done():
            self._reply.set_result(reply)

    def failed(self, error: ProxyError) -> None:
        """See `Exchange`."""
        if not self._reply.done():
            self._reply.set_exception(error)

    def overdue(self) -> float:
        """See `Exchange`."""
        self.failed(ResponseTimeout("No complete answer within upstream.timeouts.response", sent=Sent.MAYBE))
        return 0.0
