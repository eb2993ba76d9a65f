"""A Talon.One that misbehaves: executes every write that arrives, answers with its nonce, and does much of it wrong.

What was reset or cut off goes on being executed for a while, as closing a socket stops nobody: the next write of a
key that arrives meanwhile is a collision.

One thing nobody can tell apart in HTTP/1.1: an answer that comes unasked after the next request began. So these come
in one piece with the true one, or on a connection that the proxy's pool has held idle for a while.
"""

import asyncio
import os
import random
import re
import time
from collections import Counter, defaultdict
from collections.abc import Mapping

from proxy.wire.connection import Connection
from proxy.wire.pool import Pool
from tests.chaos.writes import Write
from tests.harness import Line

RESET = TRUNCATED = 0.01  # of exchanges
UNASKED = 0.005  # as many again on idle connections
HANGS_UP = 0.005  # after an answer: the next request may be on its way
IDLE = 0.05  # seconds; the pool asks a socket that has been idle for less than this before it uses it
STRAY = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nstray"
_NONCE = re.compile(rb"\r\nx-request-id: (\S+)\r\n", re.IGNORECASE)
Key = tuple[str, str]


class Deployment:
    """`arrived`: every write in the order of its arrival, as often as it came."""

    def __init__(self, known: Mapping[str, Write], *, lingers: float, seed: int) -> None:
        """`known`: writes by nonce; `lingers`: seconds that what was reset is executed further, at most."""
        self.arrived: list[tuple[Write, tuple[Key, ...]]] = []
        self.collisions = 0  # writes that arrived while another of the same key was being executed
        self.wrongs: Counter[str] = Counter()
        self._known = known
        self._lingers = lingers
        self._chance = random.Random(seed)
        self._links: dict[str, str] = {}  # profiles by session
        self._running: defaultdict[Key, Counter[str]] = defaultdict(Counter)  # nonces
        self._lines: set[Line] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server

    async def start(self) -> str:
        """Listen; give the URL."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def stop(self) -> None:
        """Close everything."""
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        line = Line(reader, writer)
        self._lines.add(line)
        try:
            while await self._exchange(line):
                pass
        except (ConnectionError, asyncio.IncompleteReadError, TimeoutError, asyncio.CancelledError):
            pass
        finally:
            self._lines.discard(line)
            line.reset()
            self._tasks.discard(task)

    async def _exchange(self, line: Line) -> bool:
        """Execute one write and answer it, somehow; False: that was the last on this connection."""
        head, _ = await line.message()
        found = _NONCE.search(head)
        assert found is not None
        write = self._known[found[1].decode()]
        keys = self._begin(write)
        await asyncio.sleep(self._chance.random() * 0.004)
        fate = self._chance.random()
        nonce = write.nonce.encode()
        answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(nonce), nonce)
        if fate < RESET + TRUNCATED:
            self._break_off(line, answer, reset=fate < RESET)
            asyncio.get_running_loop().call_later(self._chance.random() * self._lingers, self._fade, write, keys)
            return False
        self._over(write, keys)
        if fate < RESET + TRUNCATED + UNASKED:
            self.wrongs["unasked with the answer"] += 1
            answer += STRAY
        line.writer.write(answer)
        if self._chance.random() < HANGS_UP:
            self.wrongs["hung up"] += 1
            return False
        return True

    def _break_off(self, line: Line, answer: bytes, *, reset: bool) -> None:
        self.wrongs["reset" if reset else "truncated"] += 1
        # A reset comes before any byte, or in the middle like the orderly end of what is no whole answer.
        if not reset or self._chance.random() < 0.3:
            line.writer.write(answer[: self._chance.randrange(1, len(answer))])
        if not reset:
            line.half_close()

    def _begin(self, write: Write) -> tuple[Key, ...]:
        if write.session is not None and write.profile is not None:
            self._links[write.session] = write.profile
        profile = write.profile or self._links.get(write.session or "")
        keys = [("session", write.session)] if write.session is not None else []
        if profile is not None:
            keys.append(("profile", profile))
        self.arrived.append((write, tuple(keys)))
        # Its own first attempt may still run: that is what it means to be repeated.
        self.collisions += any(self._running[key].keys() - {write.nonce} for key in keys)
        for key in keys:
            self._running[key][write.nonce] += 1
        return tuple(keys)

    def _over(self, write: Write, keys: tuple[Key, ...]) -> None:
        """An attempt is answered. So one before is over, too: Talon.One executes in order of arrival."""
        for key in keys:
            del self._running[key][write.nonce]

    def _fade(self, write: Write, keys: tuple[Key, ...]) -> None:
        """An attempt that was broken off is over, unless that is known already."""
        for key in keys:
            running = self._running[key]
            if running[write.nonce] > 1:
                running[write.nonce] -= 1
            else:
                del running[write.nonce]

    async def disturb(self, pool: Pool) -> None:
        """Answer nobody, on connections that this pool holds idle."""
        while True:
            await asyncio.sleep(0.01)
            # Past the transport, which would write at the end of the turn, when a request may be on its way.
            now = time.monotonic()
            idle = {_port(connection) for connection in pool._free if now - connection.idle_since >= IDLE}
            for line in [line for line in self._lines if line.writer.get_extra_info("peername")[1] in idle]:
                if self._chance.random() < 0.3:
                    self.wrongs["unasked while idle"] += 1
                    os.write(line.writer.get_extra_info("socket").fileno(), STRAY)


def _port(connection: Connection) -> int:
    """Which of our ports an upstream connection has."""
    return int(connection._transport.get_extra_info("sockname")[1])
