"""The admin listener: what probes, Prometheus and operators ask.

Open to whoever reaches it:

    GET /livez      200 while the process can answer at all
    GET /readyz     200 while callers may be sent here; 503 with the reasons
    GET /startupz   200 once it has started; 503 with the reasons
    GET /metrics    for Prometheus, as text or OpenMetrics

From this machine, or with `Authorization: Bearer <admin.token>`, else 403:

    GET /status     JSON: what runs, with what, and how it is

A probe with `?verbose` tells the state of all three. HEAD works like GET. Nothing here changes anything, sends CORS
fields or answers to a host name that is not configured (DNS rebinding: a web page must not read it).
"""

import asyncio
import contextlib
import errno
import hmac
import ipaddress
import logging
import os
import socket
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import orjson
from aiohttp import hdrs, web

_LOG = logging.getLogger(__name__)
KEEP_ALIVE = 90.0  # seconds; Prometheus comes back at least once a minute
STOP_WITHIN = 1.0  # seconds an answer under way has when the listener stops

# None: no access log, which its types do not know.
_OPTIONS: dict[str, Any] = {"access_log": None, "keepalive_timeout": KEEP_ALIVE, "lingering_time": 1.0}

Scrape = tuple[bytes, str]  # text and content type


class Address(Protocol):
    """Where to listen: a TCP host and port, or (`path`) a Unix socket."""

    @property
    def host(self) -> str:
        """Name or IP address."""
        ...

    @property
    def port(self) -> int:
        """0: any free one."""
        ...

    @property
    def path(self) -> str | None:
        """Of a Unix socket; empty or none for TCP."""
        ...


@dataclass(frozen=True, slots=True)
class Probes:
    """What probes are told: each gives the reasons why not, and none when all is well."""

    live: Callable[[], Sequence[str]]
    ready: Callable[[], Sequence[str]]
    started: Callable[[], Sequence[str]]


class Admin:
    """Answers on its own listener."""

    def __init__(
        self,
        *,
        probes: Probes,
        metrics: Callable[[str | None], Scrape | Awaitable[Scrape]],
        status: Callable[[], Mapping[str, object]],
        token: str | None,
        hosts: Iterable[str] = (),
    ) -> None:
        """`metrics` gets the `Accept` value and gives text and content type, at once or in small turns."""
        self._probes = {"livez": probes.live, "readyz": probes.ready, "startupz": probes.started}
        self._metrics = metrics
        self._status = status
        self._token = token.encode() if token else None
        self._names = {"localhost", *(host.lower() for host in hosts)}
        self._server: web.Server | None = None
        self._listeners: list[asyncio.Server] = []
        self._paths: list[Path] = []

    def __repr__(self) -> str:
        return f"<Admin addresses={len(self._listeners)}>"

    # --- listening ---

    async def start(self, addresses: Sequence[Address]) -> list[str]:
        """Bind all addresses, or none. Returns them as bound. Raises OSError."""
        loop = asyncio.get_running_loop()
        self._server = _Server(self._answer)
        bound: list[str] = []
        try:
            for address in addresses:
                if address.path:
                    self._listeners.append(await self._start_unix(self._server, Path(address.path)))
                    bound.append(f"unix:{address.path}")
                else:
                    listener = await loop.create_server(self._server, address.host, address.port)
                    self._listeners.append(listener)
                    bound.extend(_tcp_name(listening) for listening in listener.sockets)
        except BaseException:
            await self.stop()
            raise
        return bound

    async def _start_unix(self, server: web.Server, path: Path) -> asyncio.Server:
        _check_unused(path)
        # Never, not for a moment, open to others than owner and group (T1).
        mask = os.umask(0o117)
        try:
            listener = await asyncio.get_running_loop().create_unix_server(server, str(path))
        finally:
            os.umask(mask)
        self._paths.append(path)
        return listener

    async def stop(self) -> None:
        """Close the listener and its idle connections at once, those with an answer under way soon."""
        listeners, self._listeners = self._listeners, []
        for listener in listeners:
            listener.close()
        if self._server is not None:
            self._server.pre_shutdown()
            await self._server.shutdown(STOP_WITHIN)
            self._server = None
        for path in self._paths:
            path.unlink(missing_ok=True)
        self._paths.clear()

    # --- answering ---

    async def _answer(self, request: web.BaseRequest) -> web.Response:
        """Answer a request, whatever it asks for."""
        if not all(self._ours(host) for host in request.headers.getall(hdrs.HOST, [])):
            return _text(421, "Use an IP address, localhost or a name of admin.hosts")
        name = request.raw_path.partition("?")[0].removeprefix("/")
        if name not in self._probes and name not in ("metrics", "status"):
            return _text(404, "Not found")
        if request.method not in (hdrs.METH_GET, hdrs.METH_HEAD):
            return _text(405, "Only GET and HEAD", allow="GET, HEAD")
        if name == "metrics":
            scrape = self._metrics(request.headers.get(hdrs.ACCEPT))
            return _response(200, *(scrape if isinstance(scrape, tuple) else await scrape))
        if name == "status":
            return self._tell_status(request)
        return self._probe(name, verbose="verbose" in request.query)

    def _probe(self, name: str, *, verbose: bool) -> web.Response:
        reasons = self._probes[name]()
        if verbose:
            told = {probe: ", ".join(why()) or "ok" for probe, why in self._probes.items()}
            text = "\n".join(f"{probe}: {state}" for probe, state in told.items())
        else:
            text = "\n".join(reasons) or "ok"
        return _text(503 if reasons else 200, text)

    def _tell_status(self, request: web.BaseRequest) -> web.Response:
        if not (_is_local(request.transport) or self._authorised(request)):
            return _text(403, "Ask from this machine, or with the token (admin.token)")
        body = orjson.dumps(self._status(), default=str, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
        return _response(200, body, "application/json")

    def _authorised(self, request: web.BaseRequest) -> bool:
        scheme, _, token = request.headers.get(hdrs.AUTHORIZATION, "").partition(" ")
        if self._token is None or scheme.lower() != "bearer":
            return False
        # Constant-time: how long it takes must not tell how much of a guess was right.
        return hmac.compare_digest(token.strip().encode(errors="surrogateescape"), self._token)

    def _ours(self, host: str) -> bool:
        """Whether a `Host` value may be used for us: any IP address, and names that are configured (T14)."""
        name = host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]
        return name.lower().removesuffix(".") in self._names or _address(name) is not None


class _Server(web.Server):
    """aiohttp's low-level server: no router, no access log, connections that say nothing of what failed."""

    def __init__(self, answer: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]) -> None:
        super().__init__(answer)

    def __call__(self) -> web.RequestHandler:
        return _Connection(self, loop=asyncio.get_running_loop(), **_OPTIONS)


class _Connection(web.RequestHandler):
    __slots__ = ()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer what is not HTTP, or what we failed at. The input is not repeated, and its sender fills no log."""
        if status >= 500:
            _LOG.error("the admin listener failed", exc_info=exc)
        response = _text(status, "Failed; the log has the reason" if status >= 500 else "Bad request")
        response.force_close()
        return response


def _text(status: int, text: str, *, allow: str | None = None) -> web.Response:
    response = _response(status, text.encode() + b"\n", "text/plain; charset=utf-8")
    if allow is not None:
        response.headers[hdrs.ALLOW] = allow
    return response


def _response(status: int, body: bytes, content_type: str) -> web.Response:
    return web.Response(
        status=status,
        body=body,
        headers={
            hdrs.CONTENT_TYPE: content_type,
            hdrs.CACHE_CONTROL: "no-store",
            "X-Content-Type-Options": "nosniff",
            # aiohttp would tell its version and Python's.
            hdrs.SERVER: "talon-proxy",
        },
    )


def _is_local(transport: asyncio.Transport | None) -> bool:
    """Whether the peer is on this machine; a Unix socket's always is."""
    if transport is None:
        return False
    peer = transport.get_extra_info("peername")
    if not isinstance(peer, tuple):
        return bool(transport.get_extra_info("socket").family == socket.AF_UNIX)
    address = _address(peer[0])
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return address is not None and address.is_loopback


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


def _tcp_name(listening: socket.socket) -> str:
    host, port = listening.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _check_unused(path: Path) -> None:
    """Raise OSError where somebody listens; a socket that a killed process left is replaced by the loop."""
    with contextlib.suppress(FileNotFoundError, ConnectionRefusedError), socket.socket(socket.AF_UNIX) as probe:
        probe.connect(str(path))
        raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE), str(path))
