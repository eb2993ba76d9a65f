"""Three nouns for tests on real sockets: `Upstream` (scripted), `Proxy` (the real rooms, in this loop), `Client`.

All on loopback, port 0. A test scripts the upstream byte by byte, sends raw bytes as a caller, and looks at both
sides. No sleeps: every wait is for an event, bounded by `PATIENCE`.
"""

import asyncio
import contextlib
import ssl
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from proxy.callers import Callers
from proxy.credentials import Application, Credentials
from proxy.errors import ProxyError
from proxy.fields import reply_table, request_table
from proxy.keyset import KeyPair, KeySet, Ledger
from proxy.messages import Call, Reply, Sent
from proxy.observe.observers import Observers
from proxy.pipeline import Pipeline
from proxy.pipeline import Rules as PipelineRules
from proxy.secret import Secret
from proxy.settings import Address, Origin
from proxy.talon.routes import Routes
from proxy.traffic.attempts import Rules as AttemptRules
from proxy.traffic.lanes import Rules as LaneRules
from proxy.traffic.retries import Rules as RetryRules
from proxy.traffic.traffic import Rules as TrafficRules
from proxy.traffic.traffic import Traffic
from proxy.upstream import DIRECT, Generation
from proxy.upstream import Upstream as CurrentUpstream
from proxy.wire.buffers import Buffers
from proxy.wire.dialing import Wanted, tls_context
from proxy.wire.downstream import House, Limits, Timeouts
from proxy.wire.egress import EgressRules
from proxy.wire.heads import RequestLimits
from proxy.wire.listener import Listener
from proxy.wire.pool import PoolLimits
from proxy.wire.wheel import Wheel

if TYPE_CHECKING:
    from proxy.observe.tracing import Tracing

KEY = "cafe0123456789abcdef0123456789abcdef0123456789abcdef0123456789ab"
PATIENCE = 10.0  # seconds; a wait this long has failed
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nOK"


async def patiently(awaitable: Any, patience: float = PATIENCE) -> Any:
    """Wait, but not for ever."""
    async with asyncio.timeout(patience):
        return await awaitable


async def until(condition: Callable[[], bool]) -> None:
    """Wait for something that tells nobody when it happens."""
    async with asyncio.timeout(PATIENCE):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.005)


class Line:
    """One raw connection, of either side. `patience`: seconds for what is read."""

    patience = PATIENCE

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, data: bytes) -> None:
        """Write bytes as they are."""
        self.writer.write(data)
        await patiently(self.writer.drain())

    async def head(self) -> bytes:
        """Read up to and with the empty line."""
        return bytes(await patiently(self.reader.readuntil(b"\r\n\r\n"), self.patience))

    async def exactly(self, size: int) -> bytes:
        """Read so many bytes."""
        return bytes(await patiently(self.reader.readexactly(size), self.patience))

    async def to_end(self) -> bytes:
        """Read until the other side closes; a reset ends it too."""
        try:
            return bytes(await patiently(self.reader.read(-1)))
        except ConnectionError:
            return b""

    async def message(self) -> tuple[bytes, bytes]:
        """Read one message with a Content-Length, or without a body."""
        head = await self.head()
        length = 0
        for line in head.split(b"\r\n"):
            if line.lower().startswith(b"content-length:"):
                length = int(line.split(b":")[1])
        return head, await self.exactly(length) if length else b""

    def half_close(self) -> None:
        """Say that nothing more comes, and go on reading."""
        self.writer.write_eof()

    def reset(self) -> None:
        """Drop the connection at once."""
        self.writer.transport.abort()

    async def close(self) -> None:
        """Close and wait for it."""
        self.writer.close()
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            await patiently(self.writer.wait_closed())


class Upstream:
    """A scripted Talon.One. Without a script, it answers every request with 200 OK."""

    def __init__(self) -> None:
        self.requests: list[bytes] = []  # head and body of each, as they came
        self.lines: list[Line] = []
        self.port = 0
        self._server: asyncio.Server
        self._accepted: asyncio.Queue[Line] = asyncio.Queue()
        self._received: asyncio.Queue[tuple[Line, bytes]] = asyncio.Queue()
        self._tasks: set[asyncio.Task[None]] = set()
        self.answer: Callable[[bytes], bytes | None] | None = lambda request: OK

    @property
    def url(self) -> str:
        """Where it is, in clear."""
        return f"http://127.0.0.1:{self.port}"

    async def start(self, tls: ssl.SSLContext | None = None, port: int = 0) -> Self:
        """Listen."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", port, ssl=tls, limit=1 << 25)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def stop(self) -> None:
        """Close everything."""
        self._server.close()
        for task in self._tasks:
            task.cancel()
        for line in self.lines:
            line.reset()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def accepted(self) -> Line:
        """Wait for the next connection."""
        line: Line = await patiently(self._accepted.get())
        return line

    async def received(self) -> tuple[Line, bytes]:
        """Wait for the next request (`answer = None`: the test answers by hand, on the line)."""
        line, request = await patiently(self._received.get())
        return line, request

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        line = Line(reader, writer)
        self.lines.append(line)
        self._accepted.put_nowait(line)
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = next(
                    (int(entry[15:]) for entry in head.split(b"\r\n") if entry.lower().startswith(b"content-length:")),
                    0,
                )
                request = head + await reader.readexactly(length)
                self.requests.append(request)
                self._received.put_nowait((line, request))
                if self.answer is not None:
                    answer = self.answer(request)
                    if answer is None:
                        break
                    writer.write(answer)
                    await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            self._tasks.discard(task)
            writer.close()


@dataclass
class Witness:
    """An Observer that keeps what it is told."""

    only_failed: bool = False

    ended: list[tuple[Call, Reply, bool]] = field(default_factory=list)
    refused: list[tuple[Reply, ProxyError]] = field(default_factory=list)
    left: list[tuple[Call, Sent]] = field(default_factory=list)

    def finished(self, call: Call, reply: Reply, *, whole: bool) -> None:
        self.ended.append((call, reply, whole))

    def rejected(self, reply: Reply, error: ProxyError) -> None:
        self.refused.append((reply, error))

    def abandoned(self, call: Call, sent: Sent) -> None:
        self.left.append((call, sent))


# Without lanes and coalescing it is a plain proxy, whose exchanges can be counted.
PLAIN = LaneRules(enabled=False)


class Proxy:
    """The rooms of the proxy, built as the App builds them, with every number open to the test."""

    def __init__(
        self,
        url: str,
        *,
        ca_file: Path | None = None,
        keys: dict[str, str] | None = None,
        tokens: dict[str, str] | None = None,
        inject: str = "always",
        management: str | None = None,
        extra: Iterable[str] = (),
        hosts: Iterable[str] = (),
        allow_browsers: bool = False,
        base_path: str | None = None,
        head: int = 65536,
        fields: int = 128,
        target: int = 8192,
        body: int = 8 << 20,
        reply: int = 8 << 20,
        buffered: int = 256 << 20,
        concurrency: int = 200,
        pipeline: int = 32,
        connections: int = 2000,
        warm: int = 0,
        max_connections: int = 100,
        idle_timeout: float = 50.0,
        max_age: float = 300.0,
        connect_timeout: float = 3.0,
        egress: EgressRules = DIRECT,
        response_timeout: float = 10.0,
        total_timeout: float = 15.0,
        retries: int = 2,
        protocol: Wanted = "auto",
        timeouts: Timeouts | None = None,
        clock: Callable[[], float] = time.monotonic,
        budget: float = 0.1,
        quarantine: float = 1.0,
        hold: float = 5.0,
        lanes: LaneRules = PLAIN,
        coalescing: bool = False,
        tracing: "Tracing | None" = None,
    ) -> None:
        loop = asyncio.get_running_loop()
        self.witness = Witness()
        self.wheel = Wheel(clock, loop.call_later)
        self.buffers = Buffers(buffered)
        origin = Origin.parse(url)
        names = keys if keys is not None else {"default": KEY}
        pairs = {name: KeyPair(Secret(key)) for name, key in names.items()}
        self.generation = Generation(
            origin,
            KeySet(pairs, Secret(management) if management else None, Ledger()),
            tls_context(ca_file, protocol) if origin.secure else None,
            self.wheel,
            PoolLimits(warm, max_connections, idle_timeout, max_age, reply, self.buffers),
            table=reply_table(allow_browsers=allow_browsers),
            protocol=protocol,
            connect_timeout=connect_timeout,
            egress=egress,
        )
        self.credentials = Credentials(
            [Application(name) for name in names],
            names,
            tokens={Secret(token): name for token, name in (tokens or {}).items()},
            inject=inject,
        )
        upstream = CurrentUpstream(self.generation)
        attempts = AttemptRules(
            response_timeout, hold=hold, quarantine=quarantine, retries=RetryRules(connection=retries, budget=budget)
        )
        rules = TrafficRules(attempts, lanes=lanes, concurrency=concurrency)
        self.traffic = Traffic(upstream, rules, clock=clock, tracer=tracing)
        self.pipeline = Pipeline(
            Routes(extra=tuple(extra), management=management is not None),
            Callers(hosts=hosts, allow_browsers=allow_browsers),
            self.credentials,
            self.traffic,
            self.witness if tracing is None else Observers(tracing, self.witness),
            self.wheel,
            rules=PipelineRules(total_timeout, base_path=base_path, coalescing=coalescing),
            tracer=tracing,
        )
        house = House(
            self.pipeline,
            self.wheel,
            request_table(),
            self.buffers,
            Limits(RequestLimits(head=head, fields=fields, target=target, body=body), pipeline, connections),
            timeouts or Timeouts(10.0, 10.0, 30.0, 3600.0),
        )
        self.listener = Listener(house)
        self.port = 0

    async def start(self, *addresses: str) -> Self:
        """Listen and open the upstream."""
        self.generation.open()
        bound = await self.listener.start([Address.parse(text) for text in addresses or ("127.0.0.1:0",)])
        if not bound[0].startswith("unix:"):
            self.port = int(bound[0].rpartition(":")[2])
        return self

    async def stop(self) -> None:
        """Stop without grace."""
        await self.listener.close()
        self.listener.abort()
        await patiently(self.listener.closed())
        self.generation.abort()
        await patiently(self.pipeline.drained())
        self.wheel.stop()

    async def client(self) -> Line:
        """Connect as a caller."""
        return Line(*await asyncio.open_connection("127.0.0.1", self.port, limit=1 << 25))

    async def ask(self, request: bytes) -> bytes:
        """Send raw bytes on a connection of their own, half-close, and give all that comes back."""
        line = await self.client()
        await line.send(request)
        head, body = await line.message()
        await line.close()
        return head + body


@asynccontextmanager
async def running(host: str = "127.0.0.1", /, **options: Any) -> AsyncIterator[tuple[Upstream, Proxy]]:
    """Give an upstream and a proxy in front of it, both running; stop them at the end."""
    upstream = await Upstream().start()
    proxy = await Proxy(f"http://{host}:{upstream.port}", **options).start()
    try:
        yield upstream, proxy
    finally:
        await proxy.stop()
        await upstream.stop()
