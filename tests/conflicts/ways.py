"""The ways a shop may take to Talon.One, and one round on one of them: processes of their own, on loopback."""

import asyncio
import contextlib
import json
import os
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import urlsplit

from proxy.simulator.server import DEFAULT_KEY
from tests.bench.servers import free_port
from tests.conflicts.callers import Address, Backend
from tests.conflicts.figures import Entry, Figures, figures
from tests.conflicts.shop import Customer
from tests.harness import Line
from tests.process import PATIENCE, Process, Serve, ask, serving, simulating

DIRECT, NGINX = "direct", "nginx"


async def round_on(
    way: str, customers: Sequence[Customer], *, seconds: float, latency: str, dry_counts: bool = False
) -> Figures:
    """Play the shop once, against a simulator that remembers nothing. `way`: direct, nginx or a number of proxies."""
    options = ["--latency", latency, *(["--dry-counts"] if dry_counts else [])]
    proxies: Sequence[Serve] = ()
    async with simulating(*options) as url:
        async with AsyncExitStack() as servers:
            addresses = [_address(url)]
            if way == NGINX:
                addresses = [await servers.enter_async_context(_nginx(url))]
            elif way != DIRECT:
                running = [serving(url, log__access="all") for _ in range(int(way))]
                proxies = [await servers.enter_async_context(proxy) for proxy in running]
                addresses = [proxy.address for proxy in proxies]
            outcomes = await Backend(addresses).serve(customers, seconds)
        journal = await _journal(url)
    return figures(title(way), outcomes, journal, _admitted(proxies[0]) if len(proxies) == 1 else {})


def title(way: str) -> str:
    """Name a way in a table."""
    if not way.isdigit():
        return {DIRECT: "directly", NGINX: "through nginx"}[way]
    return f"through {way} talon-prox{'y' if way == '1' else 'ies'}"


async def _journal(url: str) -> list[Entry]:
    line = Line(*await asyncio.open_connection(*_address(url), limit=1 << 26))
    try:
        found: list[Entry] = (await ask(line, "GET", "/-/journal")).json
        return found
    finally:
        await line.close()


def _admitted(ended: Serve) -> Mapping[str, int]:
    """Give the numbers of admission by request id, as its access log tells them."""
    entries = [json.loads(line) for line in ended.out.splitlines()]
    return {entry["request_id"]: entry["admission"] for entry in entries if "admission" in entry}


def _address(url: str) -> Address:
    parts = urlsplit(url)
    assert parts.hostname is not None
    assert parts.port is not None
    return parts.hostname, parts.port


@asynccontextmanager
async def _nginx(url: str) -> AsyncIterator[Address]:
    """Run nginx as a shop would put it there: connections kept, the key added."""
    port = free_port()
    with TemporaryDirectory() as folder:
        config = Path(folder) / "nginx.conf"
        config.write_text(_nginx_config(folder, url, port))
        process = await Process.start("nginx", "-p", folder, "-e", "stderr", "-c", str(config))
        try:
            await _listening(process, port)
            yield "127.0.0.1", port
        finally:
            if process.running:
                await process.stop()
            await process.kill()


async def _listening(process: Process, port: int) -> None:
    async with asyncio.timeout(PATIENCE):
        while process.running:
            with contextlib.suppress(OSError):
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.close()
                return
            await asyncio.sleep(0.02)
    raise AssertionError(f"nginx ended:\n{(await process.ended()).err}")


def _nginx_config(folder: str, url: str, port: int) -> str:
    # As root, nginx would change to a user that may not exist here.
    user = "user root;" if os.geteuid() == 0 else ""
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    temporary = " ".join(f"{kind}_temp_path {folder}/{kind};" for kind in kinds)
    return f"""\
daemon off;
{user}
worker_processes 1;
pid {folder}/nginx.pid;
error_log stderr error;
events {{ worker_connections 4096; }}
http {{
  access_log off;
  {temporary}
  keepalive_requests 1000000;
  upstream talon_one {{
    server {urlsplit(url).netloc};
    keepalive 128;
    keepalive_requests 1000000;
  }}
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    location / {{
      proxy_pass http://talon_one;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_set_header Authorization "ApiKey-v1 {DEFAULT_KEY}";
    }}
  }}
}}
"""
