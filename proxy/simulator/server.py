"""The simulator on sockets: HTTP in, the journal, the parallel rule, the time a call takes, HTTP out.

A call arrives when its body is complete, and takes its places in the same step. It then runs for the set
latency, with its places held, and works at the end of it. When its caller leaves, a waiting call gives up its
places at once; a running one runs to its end.

`GET /-/journal?session=&since=`, `DELETE /-/journal` and `GET /-/health` need no key.
"""

import asyncio
import logging
import random
import time
import zlib
from collections.abc import Awaitable, Callable, Mapping
from urllib.parse import parse_qsl

import orjson
from aiohttp import web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http_parser import RawRequestMessage
from aiohttp.streams import StreamReader

from proxy.simulator import operations
from proxy.simulator.journal import Entry, Journal
from proxy.simulator.operations import Answer, Call, Operation
from proxy.simulator.problems import Problem, not_found
from proxy.simulator.turns import CrowdedError, Turn, Turns
from proxy.simulator.world import Application, World

NAME = "talon-proxy-simulator"
DEFAULT_KEY = "simulator"
MAX_BODY = 16 * 1024 * 1024
MAX_LINE = 64 * 1024
CALLER_LEFT = 499  # in the journal only: nobody is there to read it

_log = logging.getLogger(__name__)

Work = Callable[[], Awaitable[None]]


class Simulator:
    """A Talon.One on a port. Everything it remembers is in `world`, everything that happened in `journal`.

    `keys` says which Application an API key opens. `work` replaces latency and jitter: it is awaited while a
    call runs, so a test can hold calls there without a clock.
    """

    def __init__(
        self,
        *,
        keys: Mapping[str, Application] | None = None,
        latency: float = 0.0,
        jitter: float = 0.0,
        work: Work | None = None,
        world: World | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.world = world or World()
        self.journal = Journal(clock)
        self.turns = Turns()
        self._keys = dict(keys) if keys is not None else {DEFAULT_KEY: Application()}
        self._work = work or _pause(latency, jitter)
        self._waiting: dict[web.RequestHandler, Turn] = {}
        self._running: set[asyncio.Task[object]] = set()
        self._connections: _Connections | None = None
        self._listener: asyncio.Server | None = None

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> int:
        """Listen, and return the port. OSError if the address cannot be had."""
        loop = asyncio.get_running_loop()
        self._connections = _Connections(self._handle, self._caller_left)
        self._listener = await loop.create_server(self._connections, host, port, backlog=1024)
        bound: int = self._listener.sockets[0].getsockname()[1]
        return bound

    async def stop(self, grace: float = 1.0) -> None:
        """Stop listening, close idle connections, give running calls `grace` seconds, end the rest."""
        if self._listener is None or self._connections is None:
            return
        self._listener.close()
        self._connections.pre_shutdown()
        await self._connections.shutdown(grace)
        # aiohttp forgets a call whose caller left, though it still runs.
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)
        await self._listener.wait_closed()
        self._listener = self._connections = None

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        task = asyncio.current_task()
        assert task is not None
        self._running.add(task)
        try:
            return _response(await self._respond(request))
        finally:
            self._running.discard(task)

    async def _respond(self, request: web.BaseRequest) -> Answer:
        target = request.raw_path
        try:
            body = await _body(request)
        except web.HTTPRequestEntityTooLarge:
            return operations.answer_problem(Problem(413, "The request body is too large"), target)
        # No await from here to the place in line: calls arrive in the order in which they were complete.
        if target.startswith("/-/"):
            return self._inspect(request.method, target)
        request_id = request.headers.get("X-Request-Id")
        entry = self.journal.arrive(request.method, target, body, request_id and _printable(request_id))
        try:
            return await self._answer(request, entry, body)
        except Problem as problem:
            return self._fail(entry, problem, "error")
        except CrowdedError as crowded:
            message = f"Too many requests are updating this {crowded.key.noun} at the same time"
            return self._fail(entry, Problem(409, message), "refused")
        except Exception:
            _log.exception("the simulator failed at call %d", entry.sequence)
            return self._fail(entry, Problem(500, "Internal server error"), "error")

    async def _answer(self, request: web.BaseRequest, entry: Entry, body: bytes) -> Answer:
        application = self._application(request.headers.get("Authorization", ""))
        entry.application = application.name
        document = _plain(body, request.headers.get("Content-Encoding", ""))
        operation = operations.find(Call(request.method, entry.target, document, application), self.world)
        entry.session, entry.profile = operation.session, operation.profile
        turn = self.turns.arrive(operation.keys)
        try:
            if not await self._begun(turn, request.protocol):
                raise Problem(CALLER_LEFT, "The caller left")
            return await self._run(operation, entry)
        finally:
            turn.end()

    async def _begun(self, turn: Turn, connection: web.RequestHandler) -> bool:
        """Wait for the turn; False if the caller left meanwhile."""
        if turn.running:
            return True
        if connection.transport is None:
            return False
        self._waiting[connection] = turn
        try:
            return await turn.begun()
        finally:
            del self._waiting[connection]

    async def _run(self, operation: Operation, entry: Entry) -> Answer:
        self.journal.start(entry)
        await self._work()
        answer = operation.perform()
        # Before the turn ends: the next call of a key must be seen to start after this one.
        self.journal.end(entry, answer.status, operation.kind)
        return answer

    def _fail(self, entry: Entry, problem: Problem, outcome: str) -> Answer:
        self.journal.end(entry, problem.status, outcome)
        return operations.answer_problem(problem, entry.target)

    def _application(self, authorization: str) -> Application:
        scheme, _, key = authorization.partition(" ")
        application = self._keys.get(key) if scheme == "ApiKey-v1" else None
        if application is None:
            raise Problem(401, "Invalid API key")
        return application

    def _caller_left(self, connection: web.RequestHandler) -> None:
        if turn := self._waiting.get(connection):
            turn.end()

    def _inspect(self, method: str, target: str) -> Answer:
        path, _, query = target.partition("?")
        match method, path:
            case "GET", "/-/health":
                return Answer(204)
            case "GET", "/-/journal":
                return self._read_journal(dict(parse_qsl(query)))
            case "DELETE", "/-/journal":
                self.journal.clear()
                return Answer(204)
        return operations.answer_problem(not_found("There is nothing at this path"), target)

    def _read_journal(self, parameters: Mapping[str, str]) -> Answer:
        since = parameters.get("since", "0")
        if not (since.isascii() and since.isdigit()):
            return operations.answer_problem(Problem(400, "since must be a sequence number"), "/-/journal")
        entries = self.journal.entries(session=parameters.get("session"), since=int(since))
        return Answer(200, orjson.dumps(entries))


class _Connections(web.Server):
    """aiohttp's low-level server, which also tells when a caller leaves."""

    def __init__(self, handler: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]], left: "_Left") -> None:
        super().__init__(
            handler,
            request_factory=self._request,
            access_log=None,
            max_line_size=MAX_LINE,
            max_field_size=MAX_LINE,
            # The journal shows the bytes as they came.
            auto_decompress=False,
        )
        self._left = left

    def connection_lost(self, handler: web.RequestHandler, exc: BaseException | None = None) -> None:
        super().connection_lost(handler, exc)
        self._left(handler)

    def _request(
        self,
        message: RawRequestMessage,
        payload: StreamReader,
        protocol: web.RequestHandler,
        writer: AbstractStreamWriter,
        task: "asyncio.Task[None]",
    ) -> web.BaseRequest:
        loop = asyncio.get_running_loop()
        return web.BaseRequest(message, payload, protocol, writer, task, loop, client_max_size=MAX_BODY)


_Left = Callable[[web.RequestHandler], None]


def _pause(latency: float, jitter: float) -> Work:
    """The time a call takes: `latency` seconds, give or take up to `jitter`."""

    async def pause() -> None:
        seconds = latency + random.uniform(-jitter, jitter)  # noqa: S311 (no secret hangs on it)
        if seconds > 0:
            await asyncio.sleep(seconds)

    return pause


async def _body(request: web.BaseRequest) -> bytes:
    if request.headers.get("Expect", "").lower() == "100-continue":
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    return await request.read()


def _printable(text: str) -> str:
    """Bytes that are not UTF-8, which aiohttp gives as lone surrogates, in a form that fits into JSON."""
    return text if text.isascii() else text.encode(errors="surrogateescape").decode(errors="backslashreplace")


def _plain(body: bytes, encoding: str) -> bytes:
    """The body without its gzip or deflate."""
    if encoding in ("", "identity"):
        return body
    try:
        window = {"gzip": zlib.MAX_WBITS | 16, "deflate": zlib.MAX_WBITS}[encoding]
        plain = zlib.decompressobj(window)
        document = plain.decompress(body, MAX_BODY)
    except (KeyError, zlib.error) as error:
        raise Problem(400, "The request body could not be decoded") from error
    if not plain.eof:
        raise Problem(413, "The request body is too large or cut off")
    return document


def _response(answer: Answer) -> web.Response:
    if not answer.body:
        return web.Response(status=answer.status, headers={"Server": NAME})
    headers = {"Server": NAME, "Content-Type": "application/json"}
    return web.Response(status=answer.status, body=answer.body, headers=headers)
