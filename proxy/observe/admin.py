"""The admin listener: what probes, Prometheus and operators ask.

Open to whoever reaches it:

    GET /livez      200 while the process can answer at all
    GET /readyz     200 while callers may be sent here; 503 with the reasons
    GET /startupz   200 once it has started; 503 with the reasons
    GET /metrics    for Prometheus, as text or OpenMetrics

From this machine (not passed on by something on it), or with `Authorization: Bearer <admin.token>`, else 403:

    GET /           the same for people: a page, see `pages`; with a token set to anybody, for it holds no data and asks
    GET /status     JSON: what runs, with what, and how it is; `?history`: and how it was in the last minutes
    GET /checklist  a page too: what the integration checklist has found
    GET /checklist.json  the same as JSON; 404 while it is off
    GET /-/config   JSON: the settings in effect, without secrets, each with the place it came from

With the token only, and off where none is set, else 403; 422 with the reason where it cannot be done:

    POST /-/reload      read the settings again and take them over
    PUT /-/upstream     `{"url", "force"?}`: switch to another URL of Talon.One
    POST /-/drain       send callers elsewhere, as at the beginning of the end

A probe with `?verbose` tells the state of all three. HEAD works like GET. Nothing here sends CORS fields or answers to
a host name that is not configured (DNS rebinding: a web page must not read it).
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

from proxy.observe.pages import Page, pages

_LOG = logging.getLogger(__name__)
KEEP_ALIVE = 90.0  # seconds; Prometheus comes back at least once a minute
STOP_WITHIN = 1.0  # seconds an answer under way has when the listener stops
LARGEST_BODY = 4096  # bytes of what a change is asked with
BODY_WITHIN = 10.0  # seconds for that to arrive
MOST_CONNECTIONS = 12  # at a time: whoever reaches this listener must not take the descriptors that calls need
_CHANGES = {"-/reload": hdrs.METH_POST, "-/upstream": hdrs.METH_PUT, "-/drain": hdrs.METH_POST}

# None: no access log, which its types do not know. What was compressed stays so: nothing is asked for that way.
_OPTIONS: dict[str, Any] = {
    "access_log": None,
    "keepalive_timeout": KEEP_ALIVE,
    "lingering_time": 1.0,
    "auto_decompress": False,
}

# What web servers and the proxies of meshes (Envoy, Linkerd) add to what they pass on.
_PASSED_ON = ("forwarded", "via", "x-forwarded-", "x-real-ip", "x-envoy-", "l5d-")

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


class Declined(Exception):
    """What was asked for cannot be done; nothing has changed. The text says why, over several lines if need be."""


@dataclass(frozen=True, slots=True)
class Controls:
    """What operators may look into and change. All give what is answered as JSON; the changes may raise Declined."""

    config: Callable[[], Mapping[str, object]]
    reload: Callable[[], Awaitable[Mapping[str, object]]]
    switch: Callable[[str, bool], Awaitable[Mapping[str, object]]]  # to this URL; by force
    drain: Callable[[], Mapping[str, object]]


class Admin:
    """Answers on its own listener. `token` may be replaced at any time."""

    def __init__(
        self,
        *,
        probes: Probes,
        metrics: Callable[[str | None], Scrape | Awaitable[Scrape]],
        status: Callable[[], Mapping[str, object]],
        history: Callable[[], Mapping[str, object]],
        checklist: Callable[[], Mapping[str, object] | None] = lambda: None,
        controls: Controls,
        token: str | None,
        hosts: Iterable[str] = (),
    ) -> None:
        """`metrics` gets the `Accept` value and gives text and content type, at once or in small turns."""
        self._probes = {"livez": probes.live, "readyz": probes.ready, "startupz": probes.started}
        self._metrics = metrics
        self._status = status
        self._history = history
        self._pages = pages()
        self._checklist = checklist
        self._controls = controls
        self.token = token
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
        method = _CHANGES.get(name)
        if method is not None:
            return await self._change(name, request) if request.method == method else _wrong_method(method)
        page = self._pages.get(name)
        if (
            page is None
            and name not in self._probes
            and name not in ("metrics", "status", "checklist.json", "-/config")
        ):
            return _text(404, "Not found")
        if request.method not in (hdrs.METH_GET, hdrs.METH_HEAD):
            return _wrong_method("GET, HEAD")
        if name == "metrics":
            scrape = self._metrics(request.headers.get(hdrs.ACCEPT))
            return _response(200, *(scrape if isinstance(scrape, tuple) else await scrape))
        if name in self._probes:
            return self._probe(name, verbose="verbose" in request.query)
        # A browser cannot bring the token by itself: where there is one, the page asks for it.
        local = _is_local(request.transport) and not _passed_on(request.headers)
        if not (local or self._authorised(request) or (page is not None and self.token)):
            return _text(403, "Ask from this machine, or with the token (admin.token)")
        if page is not None:
            return _page(page)
        if name == "checklist.json":
            checklist = self._checklist()
            return _text(404, "Off: checklist.enabled is false") if checklist is None else _json(200, checklist)
        return _json(200, self._told(request) if name == "status" else self._controls.config())

    def _told(self, request: web.BaseRequest) -> Mapping[str, object]:
        status = self._status()
        return {**status, "history": self._history()} if "history" in request.query else status

    async def _change(self, name: str, request: web.BaseRequest) -> web.Response:
        """Do what only who has the token may ask for: not whoever is on this machine, as a shop's code is."""
        if not self._authorised(request):
            return _text(403, "Only with the token (admin.token)" if self.token else "Off: admin.token is not set")
        try:
            return _json(200, await self._controlled(name, request))
        except Declined as reason:
            return _json(422, {"message": "Nothing was changed", "reasons": str(reason).splitlines()})

    async def _controlled(self, name: str, request: web.BaseRequest) -> Mapping[str, object]:
        if name == "-/upstream":
            url, force = await _asked_url(request)
            return await self._controls.switch(url, force)
        return await self._controls.reload() if name == "-/reload" else self._controls.drain()

    def _probe(self, name: str, *, verbose: bool) -> web.Response:
        reasons = self._probes[name]()
        if verbose:
            told = {probe: ", ".join(why()) or "ok" for probe, why in self._probes.items()}
            text = "\n".join(f"{probe}: {state}" for probe, state in told.items())
        else:
            text = "\n".join(reasons) or "ok"
        return _text(503 if reasons else 200, text)

    def _authorised(self, request: web.BaseRequest) -> bool:
        scheme, _, token = request.headers.get(hdrs.AUTHORIZATION, "").partition(" ")
        if not self.token or scheme.lower() != "bearer":
            return False
        # Constant-time: how long it takes must not tell how much of a guess was right.
        return hmac.compare_digest(token.strip().encode(errors="surrogateescape"), self.token.encode())

    def _ours(self, host: str) -> bool:
        """Whether a `Host` value may be used for us: any IP address, and names that are configured (T14)."""
        name, _, rest = host[1:].partition("]") if host.startswith("[") else host.partition(":")
        if host.startswith("[") and rest and not rest.startswith(":"):
            return False
        return name.lower().removesuffix(".") in self._names or _address(name) is not None


async def _asked_url(request: web.BaseRequest) -> tuple[str, bool]:
    """Read what a switch is asked for. Raises Declined."""
    try:
        asked = orjson.loads(await _body(request))
    except orjson.JSONDecodeError:
        asked = None
    if isinstance(asked, dict) and asked.keys() <= {"url", "force"}:
        url, force = asked.get("url"), asked.get("force", False)
        if isinstance(url, str) and isinstance(force, bool):
            return url, force
    raise Declined('the body must be JSON of the form {"url": "https://…", "force": false}')


async def _body(request: web.BaseRequest) -> bytes:
    """Read a body to its end, in however many pieces it comes; one that is too long is cut, and so no JSON."""
    try:
        async with asyncio.timeout(BODY_WITHIN):
            return await request.content.readexactly(LARGEST_BODY + 1)
    except asyncio.IncompleteReadError as whole:
        return whole.partial
    except (TimeoutError, ConnectionError, web.RequestPayloadError) as error:
        raise Declined("the body did not arrive") from error


class _Server(web.Server):
    """aiohttp's low-level server: no router, no access log, connections that say nothing of what failed.

    It holds a limited number of connections. Who comes when there are as many takes the place of the oldest that waits
    for a next question, or of the oldest of all: so whoever holds connections keeps neither probes nor operators out.
    """

    def __init__(self, answer: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]) -> None:
        super().__init__(self._attend)
        self._answer = answer
        self._open: dict[web.RequestHandler, asyncio.Transport] = {}  # the oldest first
        self._asked: set[web.RequestHandler] = set()  # those whose question is looked into

    def __call__(self) -> web.RequestHandler:
        return _Connection(self, loop=asyncio.get_running_loop(), **_OPTIONS)

    def connection_made(self, handler: web.RequestHandler, transport: asyncio.Transport) -> None:
        super().connection_made(handler, transport)
        if len(self._open) >= MOST_CONNECTIONS:
            oldest = next((each for each in self._open if each not in self._asked), next(iter(self._open)))
            self._open.pop(oldest).abort()
            _LOG.warning("the admin listener has too many connections: the oldest is closed")
        self._open[handler] = transport

    def connection_lost(self, handler: web.RequestHandler, exc: BaseException | None = None) -> None:
        super().connection_lost(handler, exc)
        self._open.pop(handler, None)

    async def _attend(self, request: web.BaseRequest) -> web.StreamResponse:
        self._asked.add(request.protocol)
        try:
            return await self._answer(request)
        finally:
            self._asked.discard(request.protocol)


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


def _wrong_method(allow: str) -> web.Response:
    return _text(405, f"Only {allow.replace(', ', ' and ')}", allow=allow)


def _json(status: int, content: Mapping[str, object]) -> web.Response:
    body = orjson.dumps(content, default=str, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
    return _response(status, body, "application/json")


def _page(page: Page) -> web.Response:
    response = _response(200, page.body, "text/html; charset=utf-8")
    response.headers["Content-Security-Policy"] = page.policy
    response.headers["Referrer-Policy"] = "no-referrer"
    response.headers["Cross-Origin-Resource-Policy"] = "same-origin"
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


def _passed_on(headers: Iterable[str]) -> bool:
    """Whether something stands between: a web server or a mesh's proxy on this machine makes everybody look local."""
    return any(name.lower().startswith(_PASSED_ON) for name in headers)


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
    if path.exists() and not path.is_socket():
        raise FileExistsError("it exists and is not a socket")
    with contextlib.suppress(FileNotFoundError, ConnectionRefusedError), socket.socket(socket.AF_UNIX) as probe:
        probe.connect(str(path))
        raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE), str(path))
