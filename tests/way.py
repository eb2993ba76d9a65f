"""What lies on the way of a connection, for tests on real sockets: a resolver, servers, black holes, tunnels."""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager

from proxy.wire.egress import EgressRules, Via
from proxy.wire.names import AddrInfo

Answering = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
NAME = "shop.talon.one"


class Names:
    """A resolver that gives what the test says: addresses with their ports, a failure, or no answer at all."""

    def __init__(self, *found: tuple[str, int] | Exception | None) -> None:
        self.found = found
        self.asked: list[tuple[str, int]] = []

    async def __call__(self, host: str, port: int) -> Sequence[AddrInfo]:
        self.asked.append((host, port))
        answer: list[AddrInfo] = []
        for entry in self.found:
            if entry is None:
                await asyncio.get_running_loop().create_future()
            elif isinstance(entry, Exception):
                raise entry
            else:
                address, port = entry
                family, place = (socket.AF_INET6, (address, port, 0, 0)) if ":" in address else (socket.AF_INET, entry)
                answer.append((family, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", place))
        return answer


class Server:
    """Where a dialer gets to, and what it is told there."""

    def __init__(self) -> None:
        self.port = 0
        self.heard = b""

    async def echo(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1 << 16):
            self.heard += data
            writer.write(data)


@asynccontextmanager
async def serving(
    tls: ssl.SSLContext | None = None, *, host: str = "127.0.0.1", answer: Answering | None = None
) -> AsyncIterator[Server]:
    server = Server()
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            await (answer or server.echo)(reader, writer)
        except (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.transport.abort()

    listening = await asyncio.start_server(serve, host, 0, ssl=tls)
    server.port = listening.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        listening.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@contextmanager
def unanswering() -> Iterator[int]:
    """A port whose backlog is full: to connect there is to wait."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(0)
    waiting = []
    for _ in range(4):
        link = socket.socket()
        link.setblocking(False)
        link.connect_ex(listener.getsockname())
        waiting.append(link)
    try:
        yield listener.getsockname()[1]
    finally:
        for link in (*waiting, listener):
            link.close()


def refusing() -> int:
    """A port at which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Tunnels:
    """A proxy that opens tunnels to one port, whatever it is asked for, or answers as the test says."""

    def __init__(self, goal: int, answer: bytes | None) -> None:
        self.port = 0
        self.heads: list[bytes] = []
        self._goal = goal
        self._answer = answer

    @property
    def rules(self) -> EgressRules:
        return EgressRules(Via("127.0.0.1", self.port))

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.heads.append(await reader.readuntil(b"\r\n\r\n"))
        if self._answer is not None:
            writer.write(self._answer)
            await writer.drain()
            if self._answer:
                await reader.read(-1)
            return
        there, back = await asyncio.open_connection("127.0.0.1", self._goal)
        # In two pieces: an answer need not come at once.
        writer.write(b"HTTP/1.0 200 Connection est")
        await asyncio.sleep(0.01)
        writer.write(b"ablished\r\nX-Cache: none\r\n\r\n")
        try:
            await asyncio.gather(self._pass(reader, back), self._pass(there, writer))
        finally:
            back.transport.abort()

    async def _pass(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        while data := await source.read(65536):
            sink.write(data)
        sink.transport.abort()


@asynccontextmanager
async def tunnelling(goal: int = 0, answer: bytes | None = None) -> AsyncIterator[Tunnels]:
    tunnels = Tunnels(goal, answer)
    async with serving(answer=tunnels.serve) as server:
        tunnels.port = server.port
        yield tunnels
