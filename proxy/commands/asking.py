"""Asking a deployment something: single reads over one connection, sent the way that calls of the proxy are."""

import asyncio
import ssl
import time

from proxy.errors import ProxyError, ResponseTimeout
from proxy.fields import reply_table
from proxy.messages import Reply, Sent, Timeline
from proxy.settings import Origin
from proxy.settings.upstream import UpstreamTimeouts
from proxy.wire.connection import Connection
from proxy.wire.dialing import Dialer, Opened
from proxy.wire.egress import Egress
from proxy.wire.pool import Pool, PoolLimits
from proxy.wire.wheel import Wheel

_LINES = b"Accept: application/json\r\nAccept-Encoding: identity\r\nUser-Agent: talon-proxy doctor\r\n"
_LARGEST = 1 << 20  # bytes of an answer


class Asking:
    """One deployment that is asked. `opened`: how long its first connection took."""

    def __init__(
        self, origin: Origin, egress: Egress, tls: ssl.SSLContext | None, wheel: Wheel, timeouts: UpstreamTimeouts
    ) -> None:
        self.opened: Opened | None = None
        self._egress = egress
        self._timeout = timeouts.response
        self._host_line = b"Host: %b\r\n" % origin.authority.encode()
        self._pool = Pool(
            Dialer(egress, tls, timeout=timeouts.connect, clock=time.monotonic),
            wheel,
            PoolLimits(warm=0, max=1, idle_timeout=60.0, max_age=600.0, reply=_LARGEST),
            table=reply_table(allow_browsers=False),
        )

    async def ask(self, target: bytes, line: bytes) -> Reply:
        """Send a GET; `line` is its `Authorization`, or empty. Raises UpstreamError."""
        return (await self._question(target, line))[0]

    async def time(self, target: bytes, line: bytes) -> float:
        """Send a GET; gives the seconds from its first byte to the last of the answer. Raises UpstreamError."""
        timeline = (await self._question(target, line))[1]
        return timeline.answered - timeline.sent

    async def _question(self, target: bytes, line: bytes) -> tuple[Reply, Timeline]:
        head = b"GET %b HTTP/1.1\r\n%b%b%b\r\n" % (target, self._host_line, _LINES, line)
        question = Question(head, self._timeout)
        connection = self._pool.take()
        if connection is None:
            self._pool.wait(question)
        else:
            question.granted(connection, None)
        reply = await question.reply
        self.opened = self.opened or question.opened
        return reply, question.timeline

    async def close(self) -> None:
        """Let go of the connection."""
        self._egress.stop()
        await self._pool.close()


class Question:
    """One call: waits for a connection (`pool.Waiter`), and is sent on it (`http1.Exchange`)."""

    method = b"GET"
    may_stream = False

    def __init__(self, head: bytes, timeout: float) -> None:
        self.timeline = Timeline(0.0, 0.0)
        self.opened: Opened | None = None
        self.reply: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._head = head
        self._timeout = timeout

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
        self.reply.set_result(reply)

    def failed(self, error: ProxyError) -> None:
        """See `Exchange`."""
        if not self.reply.done():
            self.reply.set_exception(error)

    def overdue(self) -> float:
        """See `Exchange`."""
        self.failed(ResponseTimeout("No complete answer within upstream.timeouts.response", sent=Sent.MAYBE))
        return 0.0
