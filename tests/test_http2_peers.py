"""HTTP/2 servers that others wrote: nghttpd, nginx, Node's. (The h2 library is the scripted one of test_http2_faults.)

Each is asked the same by callers in parallel. What it does with a request differs, and is told beside its name.
"""

import asyncio
import os
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from proxy.wire.connection import Closing
from tests.bench.servers import free_port
from tests.certificates import Authority, Pair
from tests.harness import PATIENCE, Line, Proxy
from tests.process import Process
from tests.test_upstream_faults import request

ECHO = Path(__file__).parent / "peers" / "echo.js"
CALLS, CALLERS = 600, 20
LARGE = 3_000_000


@dataclass(frozen=True)
class Peer:
    """A server: how it is started, and what it answers to a PUT."""

    name: str
    program: str
    command: Callable[[Path, Pair, int], list[str]]
    answer: Callable[[bytes, bytes], bytes]  # target, body
    echoes: bool = True

    def __str__(self) -> str:
        return self.name


def nghttpd(folder: Path, pair: Pair, port: int) -> list[str]:
    documents = ["--htdocs", str(folder), "--echo-upload", "--max-concurrent-streams=10"]
    return ["nghttpd", "-a", "127.0.0.1", *documents, str(port), str(pair.key), str(pair.certificate)]


def nginx(folder: Path, pair: Pair, port: int) -> list[str]:
    temporary = "".join(
        f"{kind}_temp_path {folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (folder / "nginx.conf").write_text(f"""
daemon off; master_process off; pid {folder}/pid; error_log stderr error;
events {{ worker_connections 256; }}
http {{
  access_log off; {temporary}
  # It says GOAWAY, and goes.
  keepalive_requests 100;
  http2_max_concurrent_streams 10;
  server {{
    listen 127.0.0.1:{port} ssl http2;
    ssl_certificate {pair.certificate}; ssl_certificate_key {pair.key};
    root {folder};
    if ($request_method = PUT) {{ return 200 "$request_uri"; }}
  }}
}}
""")
    return ["nginx", "-p", str(folder), "-e", "stderr", "-c", str(folder / "nginx.conf")]


def node(folder: Path, pair: Pair, port: int) -> list[str]:
    return ["node", str(ECHO), str(pair.certificate), str(pair.key), str(port)]


PEERS = [
    Peer("nghttpd", "nghttpd", nghttpd, lambda target, body: body),
    Peer("nginx", "nginx", nginx, lambda target, body: target, echoes=False),
    Peer("node", "node", node, lambda target, body: body),
]


@asynccontextmanager
async def running(peer: Peer, folder: Path) -> AsyncIterator[Proxy]:
    """Run a peer, and a proxy in front of it that takes what ALPN gives."""
    # Debian puts servers where an ordinary user's PATH does not look.
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin"])
    if shutil.which(peer.program, path=path) is None:
        pytest.skip(f"{peer.program} is not installed")
    authority = Authority(folder)
    (folder / "v2" / "customer_sessions").mkdir(parents=True)
    (folder / "v2" / "customer_sessions" / "large").write_bytes(bytes(LARGE))
    port = free_port()
    server = await Process.start(*peer.command(folder, authority.sign("localhost"), port), env={"PATH": path})
    try:
        await listening(port)
        proxy = await Proxy(
            f"https://localhost:{port}", ca_file=authority.file, warm=1, reply=1 << 20, max_connections=4
        ).start()
        try:
            yield proxy
        finally:
            await proxy.stop()
    finally:
        await server.kill()


async def listening(port: int) -> None:
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.02)
            else:
                writer.close()
                return


async def put(line: Line, target: bytes, body: bytes) -> tuple[bytes, bytes]:
    await line.send(
        b"PUT %b HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"
        % (target, len(body), body)
    )
    return await line.message()


@pytest.mark.parametrize("peer", PEERS, ids=str)
async def test_calls_in_parallel_get_each_its_own_answer(peer: Peer, tmp_path: Path) -> None:
    async def caller(number: int) -> None:
        line = await proxy.client()
        for call in range(CALLS // CALLERS):
            target = b"/v2/customer_sessions/s-%d-%d" % (number, call)
            body = b'{"of": "%b", "filling": "%b"}' % (target, b"x" * 50 * call)
            head, answer = await put(line, target, body)
            assert head.startswith(b"HTTP/1.1 200 "), head
            assert answer == peer.answer(target, body)
        await line.close()

    async with running(peer, tmp_path) as proxy:
        await asyncio.gather(*[caller(number) for number in range(CALLERS)])

        pool = proxy.generation.pool
        assert pool.protocol == "h2"
        assert {call.timeline.tries for call, _, _ in proxy.witness.ended} <= {1, 2, 3}
        if peer.name == "nginx":
            assert pool.closed[Closing.GOAWAY] >= CALLS // 100 - 4
        else:
            assert pool.opened <= 4


@pytest.mark.parametrize("peer", PEERS, ids=str)
async def test_large_bodies_cross(peer: Peer, tmp_path: Path) -> None:
    async with running(peer, tmp_path) as proxy:
        large = bytes(range(256)) * 2000
        line = await proxy.client()
        for _ in range(2):
            head, answer = await put(line, b"/v2/customer_sessions/s", large)
            assert head.startswith(b"HTTP/1.1 200 "), head
            assert answer == peer.answer(b"/v2/customer_sessions/s", large)
        await line.close()

        line = await proxy.client()
        get = request(b"GET /v2/customer_sessions/large").replace(b"Connection", b"X-Size: %d\r\nConnection" % LARGE)
        await line.send(get)
        assert (await line.head()).startswith(b"HTTP/1.1 200 ")
        assert len(await line.to_end()) >= LARGE
        await line.close()
