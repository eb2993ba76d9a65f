"""Asking a deployment something: single reads over one connection, sent the way that calls of the proxy are."""

import ssl
import time

from proxy.fields import reply_table
from proxy.messages import Reply, Timeline
from proxy.settings import Origin
from proxy.settings.upstream import UpstreamTimeouts
from proxy.wire.dialing import Dialer, Opened
from proxy.wire.egress import Egress
from proxy.wire.pool import Pool, PoolLimits
from proxy.wire.question import Question
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
        reply = await question.ask(self._pool)
        self.opened = self.opened or question.opened
        return reply, question.timeline

    async def close(self) -> None:
        """Let go of the connection."""
        self._egress.stop()
        await self._pool.close()
