"""The real process, seen from outside: `python -m proxy …` with an environment of its own, on loopback.

    async with serving("http://127.0.0.1:9900", shutdown__quiet="2s") as proxy:
        answer = await proxy.ask("GET", "/v2/customer_sessions/s")

Settings are written as in a variable, without the prefix. The admin listener is a Unix socket, so that nobody else
can have its address. Every wait is for an event, and bounded by `PATIENCE`; at the end the process is stopped, must
have ended well, and must have written nothing to standard error.
"""

import asyncio
import json
import os
import re
import signal
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple, Self

import proxy
from proxy.simulator.server import DEFAULT_KEY
from tests.harness import Line

ROOT = Path(__file__).parent.parent
# The proxy that the tests import, source or compiled, and not what lies in the working directory.
PROXY_AT = str(Path(proxy.__file__).parent.parent)
PROXY = (sys.executable, "-P", "-m", "proxy")
PATIENCE = 30.0  # seconds; a process on a busy machine takes some to start


class Answer(NamedTuple):
    """What a caller got."""

    head: str
    body: bytes

    @property
    def status(self) -> int:
        """Of the status line."""
        return int(self.head.split(" ", 2)[1])

    @property
    def json(self) -> Any:
        """The body, parsed."""
        return json.loads(self.body)

    def field(self, name: str) -> str:
        """The value of a header field; empty where there is none."""
        found = re.search(rf"^{re.escape(name)}: *(.*?)\r?$", self.head, re.MULTILINE | re.IGNORECASE)
        return found[1] if found else ""


class Ended(NamedTuple):
    """What a process left behind."""

    code: int
    out: str
    err: str


class Process:
    """A process of ours: its output is read all the time, and kept."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        assert process.stderr is not None
        self._process = process
        self._out: list[str] = []
        self._err: list[str] = []
        self._news = asyncio.Event()
        self._readers = [
            asyncio.create_task(self._read(process.stdout, self._out), name="standard output"),
            asyncio.create_task(self._read(process.stderr, self._err), name="standard error"),
        ]

    @classmethod
    async def start(cls, *command: str, env: Mapping[str, str] | None = None) -> Self:
        """Start `command`, with these variables, PATH and PYTHONPATH only, and out of reach of a terminal's Ctrl-C."""
        return cls(
            await asyncio.create_subprocess_exec(
                *command,
                cwd=ROOT,
                env={"PATH": os.environ.get("PATH", ""), "PYTHONPATH": PROXY_AT, **(env or {})},
                stdin=asyncio.subprocess.DEVNULL,
                stdout=PIPE,
                stderr=PIPE,
                start_new_session=True,
                limit=1 << 24,
            )
        )

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    @property
    def running(self) -> bool:
        """It has not ended yet."""
        return self._process.returncode is None

    @property
    def out(self) -> str:
        """What it has written to standard output."""
        return "".join(self._out)

    async def _read(self, reader: asyncio.StreamReader, into: list[str]) -> None:
        async for line in reader:
            into.append(line.decode())
            self._news.set()

    async def line(self, part: str) -> str:
        """Wait for a line of standard output that contains `part`."""
        async with asyncio.timeout(PATIENCE):
            while True:
                self._news.clear()
                for line in self._out:
                    if part in line:
                        return line
                if self._readers[0].done():
                    raise AssertionError(f"ended without {part!r}:\n{self.out}{''.join(self._err)}")
                news = asyncio.create_task(self._news.wait())
                await asyncio.wait((news, self._readers[0]), return_when=asyncio.FIRST_COMPLETED)
                news.cancel()

    def send(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self._process.send_signal(number)

    async def ended(self) -> Ended:
        """Wait for its end."""
        async with asyncio.timeout(PATIENCE):
            code = await self._process.wait()
            await asyncio.gather(*self._readers)
        return Ended(code, self.out, "".join(self._err))

    async def stop(self, number: signal.Signals = signal.SIGTERM) -> Ended:
        """Send it a signal and wait for its end."""
        self.send(number)
        return await self.ended()

    async def kill(self) -> None:
        """Make sure that it is gone."""
        if self.running:
            self._process.kill()
        await self._process.wait()
        await asyncio.gather(*self._readers)


async def run(*command: str, env: Mapping[str, str] | None = None) -> Ended:
    """Run a command to its end."""
    process = await Process.start(*command, env=env)
    try:
        return await process.ended()
    finally:
        await process.kill()


async def talon_proxy(*arguments: str, **settings: str) -> Ended:
    """Run `talon-proxy` to its end."""
    return await run(*PROXY, *arguments, env=variables(settings))


def variables(settings: Mapping[str, str]) -> dict[str, str]:
    """Make variables of settings: `listen` ⇒ `TALON_PROXY_LISTEN`. `OTEL_…` are OpenTelemetry's, and stay."""
    return {
        name if name.startswith("OTEL_") else f"TALON_PROXY_{name.upper()}": value for name, value in settings.items()
    }


class Serve(Process):
    """`talon-proxy serve`. `addresses` are as bound."""

    addresses: Sequence[str] = ()
    admin = ""  # host and port, or a path

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        super().__init__(process)
        self._lines: list[Line] = []

    async def listening(self) -> None:
        """Wait until it takes callers; its probe agrees."""
        entry = json.loads(await self.line('"serving"'))
        self.addresses = entry["listen"]
        self.admin = entry["admin"][0].removeprefix("unix:")
        assert await self.probe("readyz") == 200

    @property
    def address(self) -> tuple[str, int]:
        """Host and port of the first TCP listener."""
        host, _, port = next(text for text in self.addresses if not text.startswith("unix:")).rpartition(":")
        return host.strip("[]"), int(port)

    async def kill(self) -> None:
        """Make sure that it is gone, and its callers."""
        for line in self._lines:
            line.reset()
        await super().kill()

    @property
    def url(self) -> str:
        """What a caller sets as its base URL."""
        return f"http://{self.addresses[0]}"

    async def client(self) -> Line:
        """Connect as a caller; closed with the proxy, if not before."""
        line = Line(*await asyncio.open_connection(*self.address, limit=1 << 24))
        self._lines.append(line)
        return line

    async def ask(self, method: str, target: str, body: bytes = b"", /, **fields: str) -> Answer:
        """Make one call on a connection of its own. Underscores in names of fields stand for hyphens."""
        line = await self.client()
        try:
            return await ask(line, method, target, body, **fields)
        finally:
            await line.close()

    async def ask_admin(self, target: str, **fields: str) -> Answer:
        """Ask the admin listener."""
        return await self.change("GET", target, **fields)

    async def change(self, method: str, target: str, body: bytes = b"", /, **fields: str) -> Answer:
        """Change something by the admin listener."""
        line = Line(*await self._open_admin())
        try:
            return await ask(line, method, target, body, **fields)
        finally:
            await line.close()

    async def _open_admin(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self.admin.startswith("/"):
            return await asyncio.open_unix_connection(self.admin, limit=1 << 24)
        host, _, port = self.admin.rpartition(":")
        return await asyncio.open_connection(host, int(port), limit=1 << 24)

    async def probe(self, name: str) -> int:
        """Give the status of a probe."""
        return (await self.ask_admin(f"/{name}")).status

    async def status(self) -> Any:
        """Give what `/status` shows."""
        return (await self.ask_admin("/status")).json


async def ask(line: Line, method: str, target: str, body: bytes = b"", /, **fields: str) -> Answer:
    """Make one call on an open connection."""
    await line.send(request(method, target, body, **fields))
    head, content = await line.message()
    return Answer(head.decode("latin-1"), content)


def request(method: str, target: str, body: bytes = b"", /, **fields: str) -> bytes:
    """Give the bytes of a request."""
    lines = [f"{method} {target} HTTP/1.1", "Host: localhost"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in fields.items()]
    if body:
        lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
    return "\r\n".join((*lines, "", "")).encode("latin-1") + body


@asynccontextmanager
async def serving(upstream: str | None, *, under: Sequence[str] = (), **settings: str) -> AsyncIterator[Serve]:
    """Give a proxy that serves; at the end it must stop well, unless the test has ended it already.

    `upstream`: None where a file (`config`) says it, and the key. `under`: a command that starts it.
    """
    with TemporaryDirectory() as folder:
        given = {
            "listen": "127.0.0.1:0",
            **({"upstream__url": upstream, "api_key": DEFAULT_KEY} if upstream is not None else {}),
            "admin__listen": f"unix:{folder}/admin",
            "shutdown__quiet": "0ms",
        }
        if any(name in settings for name in ("api_key_file", "config")):
            given.pop("api_key", None)
        proxy = await Serve.start(*under, *PROXY, "serve", env=variables(given | settings))
        try:
            await proxy.listening()
            yield proxy
            if proxy.running:
                ended = await proxy.stop()
                assert ended.code == 0, ended
                assert ended.err == "", ended
        finally:
            await proxy.kill()


@asynccontextmanager
async def simulating(*arguments: str) -> AsyncIterator[str]:
    """Give the URL of a simulated Talon.One in a process of its own."""
    command = (*PROXY, "simulate", "--listen", "127.0.0.1:0", *arguments)
    simulator = await Process.start(*command)
    try:
        greeting = await simulator.line("listens on ")
        found = re.search(r"http://[^,\s]+", greeting)
        assert found is not None
        yield found[0]
    finally:
        if simulator.running:
            await simulator.stop()
        await simulator.kill()
