"""Keys and tokens that must not sing: they are sent to Talon.One in one header line, and show up nowhere else (T10).

Everything that leaves the process is kept, whatever is done to it, and searched for pieces of them at the end.
"""

import asyncio
import base64
import gc
import re
import signal
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from secrets import token_hex
from urllib.parse import quote

import pytest

from proxy.app import App
from proxy.observe.logs import Logs
from proxy.secret import Redactor
from proxy.settings import load, redacted, secrets, settings_hash
from tests.harness import Line, Upstream
from tests.process import Answer, Serve, request, serving, talon_proxy, variables

PIECE = 12  # characters; the last four of a key may be shown, so that it can be recognised


def canary() -> str:
    return token_hex(32)


KEY, MANAGEMENT, TOKEN, ADMIN = canary(), canary(), canary(), canary()
SECOND, THERE = canary(), canary()  # the second key, and the one at the URL that a switch is planned to
GUESS = canary()  # a token that is not configured: somebody's key for something else
ALL = {
    "application key": KEY,
    "second key": SECOND,
    "key at the next URL": THERE,
    "management key": MANAGEMENT,
    "client token": TOKEN,
    "admin token": ADMIN,
}
SIGNED = {"Authorization": f"ApiKey-v1 {TOKEN}"}
SETTINGS = {
    "applications__eu__api_key": KEY,
    "applications__eu__next_api_key": SECOND,
    "upstream__allowed_hosts": "127.0.0.1,localhost",
    "upstream__next__url": "http://127.0.0.1:9",
    "upstream__next__at": "2099-01-01T00:00:00Z",
    "upstream__next__applications__eu__api_key": THERE,
    "management__api_key": MANAGEMENT,
    "clients__tokens": f"{TOKEN}=eu",
    "admin__token": ADMIN,
    "log__level": "debug",
    "log__access": "all",
}
SESSION = "/v2/customer_sessions/s"


def assert_silent(text: str, where: str, known: Iterable[tuple[str, str]] = (*ALL.items(), ("a guess", GUESS))) -> None:
    """No piece of a canary is in a text, as it is or encoded."""
    for name, secret in known:
        pieces = [secret[start : start + PIECE] for start in range(0, len(secret) - PIECE, PIECE)]
        # Where in a group of three bytes it starts depends on what stands before it.
        encoded = [base64.b64encode(secret[shift:].encode()).decode()[: PIECE + 4] for shift in range(3)]
        for piece in (*pieces, *encoded):
            assert piece not in text, f"{name} in {where}"


def scripted(received: bytes) -> bytes | None:
    """A Talon.One that tells whoever asks what it was sent."""
    target = received.split(b" ", 2)[1].decode()
    found = re.search(rb"(?im)^authorization: (.*?)\r$", received)
    key = found[1] if found else b""
    echo = b'{"message": "Invalid API key %b"}' % key
    length = b"Content-Length: %d\r\n\r\n%b" % (len(echo), echo)
    match target.rpartition("/")[2]:
        case "echo":
            return b"HTTP/1.1 401 Unauthorized\r\nX-Debug: %b\r\n%b" % (key, length)
        case "echo-chunked":
            half = len(echo) // 2
            chunks = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (echo[:half], echo[half:]))
            return b"HTTP/1.1 500 Oops\r\nTransfer-Encoding: chunked\r\n\r\n%b0\r\n\r\n" % chunks
        case "echo-redirect":
            return b"HTTP/1.1 302 Found\r\nLocation: /login?key=%b\r\nContent-Length: 0\r\n\r\n" % key.split()[-1]
        case "garbage":
            return b"HTTP/1.1 2OO %b\r\n%b: \x01\r\n\r\n" % (key, key)
        case "cut-short":
            return b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 9\r\n\r\n%b" % key[:5]
        case "hang":
            return b""
        case "drop":
            return None
    return b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"


class Everything:
    """What a proxy said to anybody."""

    def __init__(self, proxy: Serve) -> None:
        self._proxy = proxy
        self.heard: list[tuple[str, str]] = []

    async def ask(self, method: str, target: str, body: bytes = b"", /, **fields: str) -> int:
        answer = await self._proxy.ask(method, target, body, **fields)
        self._keep(f"the answer to {method} {target[:40]}", answer)
        return answer.status

    async def send(self, data: bytes) -> int:
        """Send what is not a request, or not one."""
        line = await self._proxy.client()
        await line.send(data)
        line.half_close()
        text = (await line.to_end()).decode("latin-1")
        self.heard.append((f"the answer to {data[:20]!r}", text))
        return int(text.split(" ", 2)[1])

    async def admin(self, target: str, method: str = "GET", body: bytes = b"", /, **fields: str) -> int:
        answer = await self._proxy.change(method, target, body, **fields)
        self._keep(f"admin {target[:20]}", answer)
        return answer.status

    def _keep(self, where: str, answer: Answer) -> None:
        self.heard.append((where, answer.head + answer.body.decode("latin-1")))


@pytest.fixture
def upstream(upstream: Upstream) -> Upstream:
    upstream.answer = scripted
    return upstream


async def test_no_secret_leaves_the_process_but_in_one_line_to_talon_one(upstream: Upstream) -> None:
    settings = {**SETTINGS, "upstream__timeouts__total": "5s", "retries__connection": "1"}
    async with serving(upstream.url, **settings) as proxy:
        told = Everything(proxy)
        await calls_that_pass(told)
        await calls_that_talon_one_spoils(told)
        await calls_that_are_refused(told)
        await messages_that_are_broken(told)
        await changes_that_fail(told, upstream)
        await upstream.stop()
        assert await told.ask("PUT", SESSION, b"{}", **SIGNED) == 502
        await questions_of_operators(told)
        ended = await proxy.stop()

    assert ended.code == 0
    for where, text in (*told.heard, ("standard output", ended.out), ("standard error", ended.err)):
        assert_silent(text, where)
    assert len(ended.out.splitlines()) > len(told.heard) / 2  # they were logged
    assert_signed_once(upstream.requests)


async def calls_that_pass(told: Everything) -> None:
    assert await told.ask("PUT", SESSION, b"{}", **SIGNED) == 200
    assert await told.ask("GET", SESSION, Authorization=f"Bearer {TOKEN}") == 200
    assert await told.ask("GET", "/v1/applications", **SIGNED) == 403  # a token acts for one Application only
    assert await told.ask("GET", f"/app/eu{SESSION}", **SIGNED) == 200
    # Where they do not belong: in ids, queries and values that are handed on.
    assert await told.ask("GET", f"/v2/customer_sessions/{TOKEN}?key={quote(TOKEN)}", **SIGNED, Cookie=TOKEN) == 200


async def calls_that_talon_one_spoils(told: Everything) -> None:
    for target, status in (
        ("echo", 401),
        ("echo-chunked", 500),
        ("echo-redirect", 302),
        ("garbage", 502),
        ("drop", 502),
    ):
        assert await told.ask("GET", f"/v2/customer_sessions/{target}", **SIGNED) == status
    late = {"Talon-Proxy-Timeout-Ms": "50"}
    assert await told.ask("GET", "/v2/customer_sessions/hang", **SIGNED, **late) == 504
    assert await told.ask("GET", "/v2/customer_sessions/cut-short", **SIGNED, **late) == 504


async def calls_that_are_refused(told: Everything) -> None:
    assert await told.ask("GET", SESSION) == 401
    assert await told.ask("GET", SESSION, Authorization=f"ApiKey-v1 {GUESS}") == 401
    assert await told.ask("GET", SESSION, Authorization=f"ApiKey-v1 {KEY}") == 401
    assert await told.ask("GET", SESSION, Authorization=f"Basic {TOKEN}") == 401
    assert await told.ask("GET", SESSION, **SIGNED, authorization=f"ApiKey-v1 {TOKEN}") == 400
    assert await told.ask("GET", SESSION, **SIGNED, Talon_Proxy_Application=TOKEN) == 400
    assert await told.ask("GET", SESSION, **SIGNED, Talon_Proxy_Key=TOKEN) == 400
    assert await told.ask("GET", SESSION, **SIGNED, Talon_Proxy_Timeout_Ms=TOKEN) == 400
    assert await told.ask("GET", SESSION, **SIGNED, Origin=f"https://{TOKEN}") == 403
    assert await told.ask("GET", f"/{TOKEN}", **SIGNED) == 404
    assert await told.ask("DELETE", SESSION, **SIGNED) == 405


async def messages_that_are_broken(told: Everything) -> None:
    signed = f"GET {SESSION} HTTP/1.1\r\nHost: {{}}\r\nAuthorization: ApiKey-v1 {TOKEN}{{}}\r\n\r\n"
    assert await told.send(signed.format(f"{TOKEN}.example", "").encode()) == 421
    assert await told.send(signed.format("localhost", "\0").encode()) == 400
    assert await told.send(signed.format("localhost", "\r\n folded").encode()) == 400
    assert await told.send(signed.format("localhost", f"\r\nContent-Length: {TOKEN}").encode()) == 400
    assert await told.send(signed.format("localhost", f"\r\nExpect: {TOKEN}").encode()) == 417
    assert await told.send(f"{TOKEN} / HTTP/1.1\r\n\r\n".encode()) in (400, 501)
    assert await told.send(f"GET /{TOKEN * 200} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()) == 414


async def changes_that_fail(told: Everything, upstream: Upstream) -> None:
    """A host that repeats the keys it is tried with, in refusals and redirects; and secrets in the wrong place."""
    as_operator = {"Authorization": f"Bearer {ADMIN}"}
    for answer in (b"/echo", b"/echo-redirect", b"/garbage", b"/drop"):
        upstream.answer = lambda said, answer=answer: scripted(said.replace(said.split(b" ", 2)[1], answer, 1))
        body = b'{"url": "http://localhost:%d"}' % upstream.port
        assert await told.admin("/-/upstream", "PUT", body, **as_operator) == 422
        assert b"GET /v1/integration/campaigns" in upstream.requests[-1]
    for url in (KEY, f"https://{KEY}.example", f"https://u:{KEY}@h.example", f"http://127.0.0.1:9/{KEY}"):
        assert await told.admin("/-/upstream", "PUT", b'{"url": "%b"}' % url.encode(), **as_operator) == 422
    assert await told.admin("/-/upstream", "PUT", KEY.encode(), **as_operator) == 422
    upstream.answer = scripted
    assert await told.admin("/-/reload", "POST", **as_operator) == 200
    assert await told.admin("/-/reload", "POST", Authorization=f"Bearer {GUESS}") == 403


async def questions_of_operators(told: Everything) -> None:
    for target in ("/livez?verbose", "/readyz?verbose", "/metrics", "/status", "/checklist", "/checklist.json"):
        assert await told.admin(target, Authorization=f"Bearer {ADMIN}") == 200
    assert await told.admin("/metrics", Accept="application/openmetrics-text; version=1.0.0") == 200
    assert await told.admin("/status", Authorization=f"Bearer {GUESS}") == 200  # of this machine
    assert await told.admin(f"/{ADMIN}", Authorization=f"Bearer {ADMIN}") == 404
    assert await told.admin("/-/config", Authorization=f"Bearer {ADMIN}") == 200
    assert await told.admin("/status", Host=f"{ADMIN}.example") in (400, 421)


def assert_signed_once(requests: list[bytes]) -> None:
    """Exactly one key in each, the right one, and nothing of the caller's."""
    assert len(requests) >= 11
    keys = (KEY, SECOND)  # whose turn it is, tests/test_trials.py says
    for received in requests:
        head = received.partition(b"\r\n\r\n")[0]
        lines = re.findall(rb"(?im)^authorization:.*$", head)
        assert [line.strip() for line in lines] in [[b"Authorization: ApiKey-v1 %b" % key.encode()] for key in keys]
        fields = re.sub(rb"(?im)^cookie:.*$", b"", head.partition(b"\r\n")[2])
        assert_silent(fields.decode(), "a request", [("client token", TOKEN), ("admin token", ADMIN)])


async def test_the_management_key_is_as_silent(upstream: Upstream) -> None:
    settings = {"api_key": KEY, "management__api_key": MANAGEMENT, "log__level": "debug", "log__access": "all"}
    async with serving(upstream.url, **settings) as proxy:
        answer = await proxy.ask("GET", "/v1/applications/echo")
        proxy.send(signal.SIGTERM)
        ended = await proxy.ended()

    assert answer.status == 401
    assert b"Authorization: ManagementKey-v1 %b\r\n" % MANAGEMENT.encode() in upstream.requests[-1]
    assert MANAGEMENT not in f"{answer.head}{answer.body!r}{ended.out}{ended.err}"


async def test_a_secret_that_comes_back_in_a_request_id_is_not_logged(upstream: Upstream) -> None:
    """A caller's own id is kept and told to it again; the log, which others read, has a net of its own."""
    async with serving(upstream.url, **SETTINGS) as proxy:
        for secret in (TOKEN, KEY, MANAGEMENT):
            answer = await proxy.ask("GET", SESSION, **SIGNED, X_Request_Id=f"id-{secret}")
            assert answer.field("x-request-id") == f"id-{secret}"
        ended = await proxy.stop()

    assert_silent(ended.out, "standard output")
    assert ended.out.count('"request_id":"id-***"') == 3


async def test_a_secret_in_the_wrong_place_is_not_repeated() -> None:
    misplaced = {"upstream__url": KEY, "api_key_file": KEY, "listen": KEY, "log__level": KEY, "routes__extra": KEY}

    by_variable, by_flag = await asyncio.gather(
        talon_proxy("serve", **misplaced, clients__tokens=f"eu={TOKEN}", admin__token=f"{ADMIN} {ADMIN}"),
        talon_proxy("serve", "--upstream.url", KEY, "--api_key", KEY, f"--management.api_key={MANAGEMENT}"),
    )

    for ended in (by_variable, by_flag):
        assert (ended.code, ended.out) == (2, "")
        assert_silent(ended.err, "standard error")


# --- objects --------------------------------------------------------------------------------------------------


@asynccontextmanager
async def collector_as_it_was() -> AsyncIterator[None]:
    """The App calms the collector of its process, which here is the tests'."""
    threshold = gc.get_threshold()
    try:
        yield
    finally:
        gc.unfreeze()
        gc.set_threshold(*threshold)


async def test_no_object_shows_a_secret(upstream: Upstream) -> None:
    """Whatever a traceback, a debugger or a log line might print of a running proxy with a call under way."""
    environment = variables({**SETTINGS, "upstream__url": upstream.url})
    loaded = load(["--listen", "127.0.0.1:0", "--admin.listen", "127.0.0.1:0", "--shutdown.quiet", "0ms"], environment)
    settings = loaded.settings
    redactor = Redactor(secrets(settings))
    logs = Logs(level="debug", format="json", redact=redactor.redact)
    upstream.answer = None

    async with collector_as_it_was(), AsyncExitStack() as stack:
        app = App(loaded, logs, redactor=redactor)
        await app.start()
        stack.push_async_callback(app.stop)
        stack.push_async_callback(upstream.stop)
        gc.unfreeze()
        host, _, port = app.addresses[0].rpartition(":")
        line = Line(*await asyncio.open_connection(host, int(port)))
        stack.push_async_callback(line.close)
        await line.send(request("PUT", SESSION, b"{}", **SIGNED))
        await upstream.received()

        shown = [
            *(repr(thing) for thing in gc.get_objects() if str(type(thing).__module__).startswith("proxy.")),
            *(f"{thing!r} {thing} {thing:}" for thing in (loaded, settings, redactor, logs, app)),
            *map(repr, (redacted(settings), settings_hash(settings), app.bulletin.status(), loaded.origins)),
            settings.model_dump_json(),
        ]

    assert len(shown) > 100
    for text in shown:
        assert_silent(text, text[:60])
    assert any("***" in text for text in shown)


async def test_the_search_finds_what_it_looks_for() -> None:
    for text in (KEY, f"x{TOKEN[12:40]}", base64.b64encode(f"ApiKey-v1 {KEY}".encode()).decode()):
        with pytest.raises(AssertionError):
            assert_silent(text, "here")
    assert_silent(f"…{KEY[-4:]}", "a hint")
