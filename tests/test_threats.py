"""The threats of SECURITY.md, played at the proxy as somebody would: on sockets, and judged by who was reached.

A test carries the number of its threat. Threats that a test of another file stands for are named in SECURITY.md; the
last test here sees that the table there is whole, and that every test it names exists.
"""

import asyncio
import hmac
import inspect
import json
import re
import ssl
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import talon_one
from aiohttp.test_utils import make_mocked_request

from proxy.credentials import Application, Credentials
from proxy.errors import Unauthorized
from proxy.observe.admin import Admin, Controls, Probes
from proxy.secret import Secret
from proxy.settings.keys import TABLE, dotted
from proxy.talon.routes import Surface
from proxy.traffic.lanes import Rules as LaneRules
from proxy.wire.dialing import tls_context
from tests.canonical import smuggled
from tests.certificates import Authority
from tests.h2_upstream import Http2Upstream
from tests.harness import KEY, Proxy, Upstream, running, until
from tests.process import ROOT, Serve, run, serving, talon_proxy
from tests.test_routes import MANAGEMENT_BELOW_THE_TABLE, MANAGEMENT_CALLS, REFUSED
from tests.traffic_rig import Shop

SESSION = b"/v2/customer_sessions/s"
ADMIN = "admin-token-0123456789abcdef0123456789abcdef"


@asynccontextmanager
async def elsewhere(host: str = "127.0.0.1") -> AsyncIterator["Elsewhere"]:
    """A server that nothing may ever connect to."""
    place = Elsewhere()
    server = await asyncio.start_server(place.take, host, 0)
    place.host, place.port = server.sockets[0].getsockname()[:2]
    try:
        yield place
    finally:
        server.close()


class Elsewhere:
    """Counts who comes."""

    host = ""
    port = 0
    connections = 0

    def take(self, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        writer.close()

    @property
    def authority(self) -> bytes:
        return f"{self.host}:{self.port}".encode()


def call(*lines: bytes, method: bytes = b"GET", target: bytes = SESSION, host: bytes = b"localhost") -> bytes:
    head = b"%b %b HTTP/1.1\r\nHost: %b\r\n" % (method, target, host)
    return head + b"".join(line + b"\r\n" for line in lines) + b"Connection: close\r\n\r\n"


async def say(proxy: Proxy | Serve, data: bytes) -> bytes:
    """Send bytes and read to the end."""
    line = await proxy.client()
    await line.send(data)
    got = await line.to_end()
    await line.close()
    return got


# --- T2, T3: the destination comes from the settings and from nowhere else ---


def ways_elsewhere(there: bytes) -> Sequence[bytes]:
    """Requests that have made proxies go where their caller wanted."""
    name, _, port = there.partition(b":")
    absolute = b"http://" + there + SESSION
    targets = [
        *(absolute, b"https://" + there + SESSION, b"HTTP://" + there + SESSION, b"http://" + there, b"ftp://" + there),
        *(b"//" + there + SESSION, b"///" + there + SESSION, b"/\\" + there + SESSION, b"\\\\" + there + SESSION),
        *(b"@" + there + SESSION, b"/@" + there + SESSION, b":@" + there + SESSION, there, there + SESSION),
        *(b"http://localhost@" + there + SESSION, b"http://" + there + b"@localhost" + SESSION),
        *(b"http://localhost:80#@" + there + SESSION, b"http://localhost\\@" + there + SESSION),
        *(b"/http://" + there + SESSION, b"/app/http:/" + there + SESSION, b"/app/" + there + SESSION),
        *(SESSION + b"?url=http://" + there, SESSION + b"#http://" + there, b"http:" + SESSION, b"http:/" + there),
        *(b"http://[::ffff:127.0.0.1]:" + port + SESSION, b"http://2130706433:" + port + SESSION),
        *(b"http://127.1:" + port + SESSION, b"http://0x7f.1:" + port + SESSION, b"gopher://" + there + b"/_GET"),
    ]
    fields = [
        *(b"X-Forwarded-Host: ", b"X-Forwarded-Server: ", b"X-Host: ", b"X-Original-Host: ", b"X-Real-Host: "),
        *(b"Forwarded: host=", b"X-Original-URL: http://", b"X-Rewrite-URL: http://", b"X-Forwarded-For: "),
        *(
            b"Proxy-Host: ",
            b"Location: http://",
            b"Content-Location: http://",
            b"Referer: http://",
            b"Base-Url: http://",
        ),
        *(b"X-HTTP-Host-Override: ", b"Destination: http://", b"Alt-Svc: h2=", b"Talon-Proxy-Upstream: http://"),
    ]
    return [
        *(call(target=target) for target in targets),
        *(call(field + there) for field in fields),
        *(call(host=there), call(host=name), call(b"Host: " + there)),
        *(call(target=absolute, host=there), call(target=absolute, method=b"OPTIONS")),
        call(method=b"CONNECT", target=there),
        call(b"Upgrade: h2c", b"Connection: Upgrade, Host", host=there),
        call(b"Max-Forwards: 0", target=absolute, method=b"TRACE"),
    ]


async def test_t2_nothing_a_caller_says_leads_elsewhere() -> None:
    async with elsewhere() as other, running() as (upstream, proxy):
        ways = ways_elsewhere(other.authority)
        for way in ways:
            await say(proxy, way)

        assert len(ways) > 50
        assert other.connections == 0
        for request in upstream.requests:
            assert smuggled(request) == ""
            assert b"\r\nHost: 127.0.0.1:%d\r\n" % upstream.port in request
            assert request.split(b" ")[1].startswith(SESSION)
            head = request.lower()
            for name in (b"x-forwarded-host", b"x-forwarded-for", b"forwarded", b"x-original-url", b"x-rewrite-url"):
                assert b"\r\n%b:" % name not in head


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_t3_a_redirect_is_handed_on_and_not_followed(status: int) -> None:
    async with elsewhere() as other, running() as (upstream, proxy):
        place = b"Location: http://%b/v2/customer_sessions/s\r\n" % other.authority
        upstream.answer = lambda _: b"HTTP/1.1 %d Moved\r\n%bContent-Length: 0\r\n\r\n" % (status, place)
        got = await say(proxy, call())
        put = await say(proxy, call(b"Content-Length: 0", method=b"PUT"))

        assert got.startswith(b"HTTP/1.1 %d " % status)
        assert put.startswith(b"HTTP/1.1 %d " % status)
        assert place in got
        assert len(upstream.requests) == 2
        assert other.connections == 0


# --- T5, T6: what can be reached ---


async def test_t5_no_trick_with_a_path_reaches_anything() -> None:
    async with running() as (upstream, proxy):
        # As they stand, and behind an Application's prefix.
        targets = [target.encode("latin-1") for target, _ in REFUSED if "\r" not in target]
        for target in [*targets, *(b"/app/default" + target for target in targets)]:
            if target not in (b"*", b"/.health"):
                got = await say(proxy, call(target=target, method=b"PUT"))
                assert re.match(rb"HTTP/1\.1 4\d\d ", got), target

        assert len(targets) > 60
        assert upstream.requests == []


def management_calls() -> Sequence[tuple[str, str]]:
    """All calls of the Management API: those of Talon.One's own SDK, and those that the facts know beside it."""
    source = inspect.getsource(talon_one.ManagementApi)
    found = re.findall(r"method='([A-Z]+)',\s*resource_path='(/v1/[^']+)'", source)
    listed = [tuple(line.split(" ", 1)) for line in (*MANAGEMENT_CALLS, *MANAGEMENT_BELOW_THE_TABLE)]
    return [(method, re.sub(r"{\w+}", "7", path)) for method, path in (*found, *listed)]


async def test_t6_no_path_of_the_management_api_is_reached() -> None:
    calls = management_calls()
    assert len(calls) > 200
    async with running() as (upstream, proxy):
        for method, path in calls:
            got = await say(proxy, call(method=method.encode(), target=path.encode()))
            assert got[9:12] in (b"403", b"404", b"405"), (method, path)

        assert upstream.requests == []


async def test_t6_a_key_of_the_management_api_is_none_of_an_application() -> None:
    wrong = await talon_proxy("serve", upstream__url="https://a.talon.one", api_key="ManagementKey-v1 0123456789")

    assert wrong.code == 2
    assert "0123456789" not in wrong.err


# --- T7: one key, ours ---

KEY_TRICKS = [
    [b"Authorization: ApiKey-v1 theirs"],
    [b"authorization: ApiKey-v1 theirs", b"AUTHORIZATION: Bearer theirs"],
    [b"Authorization:", b"Authorization: "],
    [b"Connection: authorization"],
    [b"Connection: Authorization, close", b"Authorization: theirs"],
    [b"Connection: keep-alive", b"connection: AUTHORIZATION"],
    [b"Connection: host, via, content-length, authorization, x-request-id"],
    [b"Proxy-Authorization: ApiKey-v1 theirs"],
    [b"X-API-Key: theirs", b"X-Api_Key: theirs"],
    [b"X_Authorization: theirs"],
    [b"Authorization_: theirs"],
    [b"_Authorization: theirs"],
    [b"Authorization : theirs"],
    [b" Authorization: theirs"],
    [b"X: a", b" Authorization: theirs"],
    [b"X: a\rAuthorization: theirs"],
    [b"X: a\nAuthorization: theirs"],
    [b"Authorization\0: theirs"],
    [b"Authorization\t: theirs"],
    [b"Authorization: \0theirs"],
    [b"Author\xc4\xb1zation: theirs"],
    [b"Trailer: Authorization", b"Transfer-Encoding: chunked"],
    [b"TE: trailers", b"Transfer-Encoding: chunked"],
    [b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABk", b"Connection: Upgrade, HTTP2-Settings, Authorization"],
    [b"Keep-Alive: Authorization"],
    [b"Via: 1.1 a\x0bAuthorization: theirs"],
    [b"Cookie: Authorization=theirs"],
    [b"X-HTTP-Method-Override: DELETE", b"Authorization: theirs"],
    [b"Content-Length: 0", b"Authorization: theirs", b"Content-Length: 0"],
    [b"Api-Key: theirs"],
]


@pytest.mark.parametrize("inject", ["always", "when_missing"])
async def test_t7_exactly_one_key_goes_to_talon_one(inject: str) -> None:
    async with running(inject=inject) as (upstream, proxy):
        for lines in KEY_TRICKS:
            body = b"0\r\nAuthorization: theirs\r\n\r\n" if b"Transfer-Encoding: chunked" in lines else b""
            await say(proxy, call(*lines, method=b"PUT") + body)
        queries = (b"?authorization=x", b"?a\nAuthorization:theirs", b"?a\r\nAuthorization:theirs")
        for query in queries:
            await say(proxy, call(target=SESSION + query))

        assert len(upstream.requests) >= 15
        for request in upstream.requests:
            assert smuggled(request) == ""
            (found,) = re.findall(rb"(?im)^authorization:[ \t]*(.*?)[ \t]*\r$", request)
            # With `when_missing` a caller's own key passes; that is what the setting is for.
            assert found == b"ApiKey-v1 %b" % KEY.encode() or (inject == "when_missing" and b"theirs" in found)


async def test_t7_exactly_one_key_goes_to_talon_one_over_http_2() -> None:
    upstream = await Http2Upstream().start()
    proxy = await Proxy(f"http://127.0.0.1:{upstream.port}", protocol="h2").start()
    for lines in KEY_TRICKS:
        body = b"0\r\nAuthorization: theirs\r\n\r\n" if b"Transfer-Encoding: chunked" in lines else b""
        await say(proxy, call(*lines, method=b"PUT") + body)
    await proxy.stop()
    await upstream.stop()

    assert len(upstream.calls) >= 15
    for served in upstream.calls:
        names = [name for name, _ in served.headers]
        assert [value for name, value in served.headers if name == b"authorization"] == [b"ApiKey-v1 %b" % KEY.encode()]
        assert names.count(b":authority") == 1
        assert not {b"host", b"connection", b"transfer-encoding", b"proxy-authorization", b"te"} & set(names)


# --- T10: where a key is kept ---


async def test_t10_a_process_shows_no_key_to_others_of_its_user() -> None:
    program = """
import ctypes
from proxy import privacy
print(privacy.keep(), ctypes.CDLL(None).prctl(3, 0, 0, 0, 0))
"""
    kept = await run(sys.executable, "-c", program)
    assert kept.out == "True 0\n"

    async with serving("http://127.0.0.1:9", api_key=KEY, clients__tokens=f"{ADMIN}=default") as proxy:
        process = Path(f"/proc/{proxy.pid}")
        line = (process / "cmdline").read_bytes()
        assert KEY.encode() not in line
        assert ADMIN.encode() not in line
        # Linux gives to root what may not be dumped.
        assert (process / "environ").stat().st_uid == 0
        assert (process / "mem").stat().st_uid == 0
        # And it goes on reading of itself what its metrics tell.
        metrics = (await proxy.ask_admin("/metrics")).body.decode()
        for name in ("process_open_fds", "process_max_fds", "process_resident_memory_bytes"):
            assert re.search(rf"^{name} [1-9]", metrics, re.MULTILINE), name


async def test_t10_a_key_in_a_file_is_not_in_the_environment(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text(KEY)
    file.chmod(0o600)

    async with serving("http://127.0.0.1:9", api_key_file=str(file)) as proxy:
        assert KEY.encode() not in environment(proxy)


def environment(proxy: Serve) -> bytes:
    """Read what Linux shows of it; nothing, where the tests are not root."""
    try:
        return Path(f"/proc/{proxy.pid}/environ").read_bytes()
    except PermissionError:
        return b""


# --- T12, T13, T14, T15: operators and browsers ---

OF_OPERATORS = ["/", "/metrics", "/livez", "/readyz", "/startupz", "/status", "/-/config", "/-/reload", "/-/upstream"]


async def test_t12_nothing_of_operators_is_on_the_traffic_port() -> None:
    async with running() as (upstream, proxy):
        for path in (*OF_OPERATORS, "/-/drain", "/admin", "/debug/pprof/", "/config", "/metrics/", "/.git/config"):
            for method in (b"GET", b"POST", b"PUT"):
                got = await say(proxy, call(method=method, target=path.encode()))
                assert got.startswith(b"HTTP/1.1 404 "), path

        assert upstream.requests == []


async def test_t13_the_url_cannot_be_changed_to_where_no_key_may_go() -> None:
    async with elsewhere("127.0.0.2") as other:
        settings = {"admin__token": ADMIN, "upstream__allowed_hosts": "127.0.0.1"}
        async with serving("http://127.0.0.1:9", **settings) as proxy:
            there = other.authority.decode()
            bad = [
                *(f"http://{there}", f"https://{there}", "https://evil.example", "http://evil.example", f"//{there}"),
                *(f"http://127.0.0.1@{there}", f"http://{there}#127.0.0.1", f"http://{there}?127.0.0.1", "file:///etc"),
                *(f"http://{there}/127.0.0.1", "https://127.0.0.1.evil.example", "http://127.0.0.1\\@evil.example", ""),
            ]
            for url in bad:
                for force in (True, False):
                    body = json.dumps({"url": url, "force": force}).encode()
                    told = await proxy.change("PUT", "/-/upstream", body, Authorization=f"Bearer {ADMIN}")
                    assert told.status in (400, 422), url
                    refused = await proxy.change("PUT", "/-/upstream", body, Authorization="Bearer guess")
                    assert refused.status == 403
            assert (await proxy.status())["upstream"]["url"] == "http://127.0.0.1:9"
            ended = await proxy.stop()
        assert other.connections == 0
        assert ended.code == 0


PAGES = {
    "a form": [b"Origin: https://evil.example", b"Sec-Fetch-Site: cross-site", b"Sec-Fetch-Mode: navigate"],
    "a sandboxed frame": [b"Origin: null", b"Sec-Fetch-Site: cross-site"],
    "fetch": [b"Origin: https://shop.example", b"Sec-Fetch-Site: same-site", b"Sec-Fetch-Mode: cors"],
    "a page on another port": [b"Origin: http://localhost:3000", b"Sec-Fetch-Site: same-site"],
    "an image": [b"Sec-Fetch-Site: cross-site", b"Sec-Fetch-Dest: image", b"Referer: https://evil.example/"],
    "an old browser": [b"Origin: https://evil.example"],
    "an extension": [b"Origin: chrome-extension://abc", b"Sec-Fetch-Site: cross-site"],
}


@pytest.mark.parametrize("page", PAGES)
async def test_t14_t15_a_web_page_reaches_nothing_and_reads_nothing(page: str) -> None:
    async with running() as (upstream, proxy):
        upstream.answer = lambda _: b"HTTP/1.1 200 OK\r\nAccess-Control-Allow-Origin: *\r\nContent-Length: 2\r\n\r\nOK"
        for request in (
            call(*PAGES[page]),
            call(*PAGES[page], b"Content-Length: 0", b"Content-Type: text/plain", method=b"POST", target=b"/v2/events"),
            call(*PAGES[page], b"Access-Control-Request-Method: PUT", method=b"OPTIONS"),
            call(*PAGES[page], host=b"rebound.evil.example"),
        ):
            got = await say(proxy, request)
            assert got[9:12] in (b"403", b"421"), page
            assert b"access-control-" not in got.lower()
        assert upstream.requests == []

        # A backend that calls with `fetch` says its mode, and is no page.
        got = await say(proxy, call(b"Sec-Fetch-Mode: cors", b"User-Agent: node"))
        assert got.startswith(b"HTTP/1.1 200 ")
        assert b"access-control-" not in got.lower()


@pytest.mark.parametrize(
    "host", [b"evil.example", b"localhost.evil.example", b"127.0.0.1.evil.example", b"localhost.x"]
)
async def test_t14_a_name_that_somebody_points_here_is_refused_on_both_ports(host: bytes) -> None:
    async with serving("http://127.0.0.1:9") as proxy:
        assert (await say(proxy, call(host=host)))[9:12] == b"421"
        for path in ("/status", "/metrics", "/livez"):
            assert (await proxy.ask_admin(path, Host=host.decode())).status in (400, 421)


# --- T16, T17: logs and metrics ---

ESCAPES = [
    b"\x1b[2J",
    b"%1b%5b2J",
    b"\xe2\x80\xae",
    b"\xc2\x9b31m",
    b'","level":"error","msg":"forged',
    b"%0a{}",
    b"\\n{}",
]


async def test_t16_what_callers_send_forges_no_line_and_speaks_to_no_terminal() -> None:
    async with serving("http://127.0.0.1:9", log__level="debug", log__access="all") as proxy:
        for escape in ESCAPES:
            await say(proxy, call(target=SESSION + escape))
            await say(proxy, call(target=SESSION + b"?" + escape))
            await say(proxy, call(b"X-Request-Id: " + escape, b"User-Agent: " + escape, b"traceparent: " + escape))
            await say(proxy, call(b"Talon-Proxy-Application: " + escape, b"Host: " + escape))
            await say(proxy, b"\r\n\r\n\r\n" + escape + b"\r\n\r\n")
        await say(proxy, call(b"X: " + b"a" * (1 << 20)))
        ended = await proxy.stop()

    lines = ended.out.split("\n")[:-1]
    entries = [json.loads(line) for line in lines]
    assert len(entries) > 5 * len(ESCAPES)
    assert all({"ts", "level", "msg"} <= entry.keys() for entry in entries)
    assert not [entry for entry in entries if entry["msg"] == "forged"]
    assert ended.out.replace("\n", "").isprintable()
    assert max(map(len, lines)) < 4096
    assert ended.err == ""


async def test_t16_a_flood_of_nonsense_is_no_flood_of_lines() -> None:
    async with serving("http://127.0.0.1:9", log__level="debug") as proxy:
        for number in range(1000):
            await say(proxy, b"\x16\x03\x01%d\r\n\r\n" % number)
        ended = await proxy.stop()

    assert ended.out.count("\n") < 300


async def test_t17_no_caller_makes_series() -> None:
    async with serving("http://127.0.0.1:9") as proxy:

        async def series() -> set[str]:
            text = (await proxy.ask_admin("/metrics")).body.decode()
            return {line.rpartition(" ")[0] for line in text.splitlines() if line and not line.startswith("#")}

        async def send(numbers: range) -> None:
            line = await proxy.client()
            for number in numbers:
                target = b"/%d/%d" % (number, number) if number % 2 else b"/v9/x%d?y=%d" % (number, number)
                extra = b"X-%d: a\r\nUser-Agent: u%d\r\nTalon-Proxy-Application: a%d\r\n" % (number, number, number)
                extra = extra if number % 3 else b"X-Request-Id: %d\r\n" % number
                await line.send(b"GET %b HTTP/1.1\r\nHost: 127.0.0.%d\r\n%b\r\n" % (target, number % 250, extra))
                assert (await line.message())[0][9:10] == b"4"
            await line.close()

        await send(range(100))
        before = await series()
        await send(range(100, 10_000))
        assert await series() == before


# --- T18: guesses ---


def test_t18_a_guess_is_compared_with_every_token_whether_or_not_one_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[bytes] = []

    def compare(one: bytes, other: bytes) -> bool:
        compared.append(one)
        return one == other

    monkeypatch.setattr(hmac, "compare_digest", compare)
    tokens = {f"token-{number}": "default" for number in range(5)}
    room = Credentials(
        [Application("default")], ["default"], tokens={Secret(one): name for one, name in tokens.items()}
    )
    for guess in (b"token-0", b"token-4", b"token", b"nothing at all", b"token-5"):
        compared.clear()
        try:
            room.authorise([b"Bearer " + guess], None, None, Surface.INTEGRATION)
        except Unauthorized:
            assert guess.decode() not in tokens
        assert compared == [token.encode() for token in tokens]

    compared.clear()
    nobody = Probes(list, list, list)
    admin = Admin(
        probes=nobody,
        metrics=lambda _: (b"", ""),
        status=dict,
        history=dict,
        controls=Controls(dict, nothing, nothing, dict),
        token=ADMIN,
    )

    assert not admin._authorised(make_mocked_request("POST", "/", headers={"Authorization": "Bearer guess"}))
    assert compared == [b"guess"]


async def nothing(*_: object) -> dict[str, object]:
    """Change nothing."""
    return {}


# --- T19: resources ---


def test_t19_ten_thousand_writes_of_one_profile_are_refused_and_others_are_served() -> None:
    shop = Shop(concurrency=1000)
    shop.upstream.ready = True
    crowd = [shop.session(f"s{number % 7}", "hot", number=number) for number in range(10_001)]
    other = shop.session("another", "cold")

    refused = [shopper for shopper in crowd if shopper.answers]
    assert {shopper.reply.status for shopper in refused} == {503}
    assert len(crowd) - len(refused) == 32
    assert shop.was_sent(other)
    assert len(shop.under_way()) == 2


async def test_t19_a_compressed_body_is_not_unpacked_in_either_direction() -> None:
    bomb = b"\x1f\x8b\x08\0\0\0\0\0\0\x03" + b"\xed\xc1" * 50_000
    async with running(body=1 << 20) as (upstream, proxy):
        upstream.answer = lambda _: (
            b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n%b" % (len(bomb), bomb)
        )
        length = b"Content-Length: %d" % len(bomb)
        got = await say(proxy, call(b"Content-Encoding: gzip", length, method=b"PUT") + bomb)

        assert upstream.requests[-1].endswith(b"\r\n\r\n" + bomb)
        assert got.endswith(b"\r\n\r\n" + bomb)


# --- T20: tenants ---


async def test_t20_two_applications_with_the_same_session_are_never_mixed() -> None:
    """The same calls at the same moment, joined where they can be: each gets the answer that its own key got."""
    keys = {"eu": "e" * 64, "us": "u" * 64}
    tokens = {"token-eu": "eu", "token-us": "us"}
    async with running(keys=keys, tokens=tokens, lanes=LaneRules(), coalescing=True) as (upstream, proxy):
        upstream.answer = None

        async def ask(application: str, request: bytes) -> None:
            got = await say(proxy, request)
            assert got.startswith(b"HTTP/1.1 200 "), got
            assert got.endswith(b"\r\n\r\n" + keys[application].encode())

        body = b'{"customerSession":{"state":"open"}}'
        calls = []
        for number in range(200):
            application = ("eu", "us")[number % 2]
            line = b"Authorization: ApiKey-v1 token-%b" % application.encode()
            length = b"Content-Length: %d" % len(body)
            calls.append(ask(application, call(line)))
            calls.append(ask(application, call(line, length, method=b"PUT") + body))
        asking = asyncio.gather(*calls)
        # All are there before the first is answered.
        await until(lambda: sum(len(flight.callers) for flight in proxy.pipeline.flights) == len(calls))
        while not asking.done():
            back, request = await upstream.received()
            await back.send(said_with(request))
            await until(lambda: asking.done() or not upstream._received.empty())
        await asking

        assert len(upstream.requests) < len(calls) // 10  # nearly all were joined

        upstream.answer = said_with

        # A name in a header or a path is not enough.
        for named in (call(b"Authorization: Bearer token-eu", b"Talon-Proxy-Application: us"),):
            assert (await say(proxy, named)).startswith(b"HTTP/1.1 403 ")
        wrong = call(b"Authorization: Bearer token-eu", target=b"/app/us" + SESSION)
        assert (await say(proxy, wrong)).startswith(b"HTTP/1.1 403 ")


def said_with(request: bytes) -> bytes:
    """Answer with the key that the request was signed with."""
    found = re.search(rb"\r\nAuthorization: ApiKey-v1 (\w+)\r\n", request)
    assert found is not None
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(found[1]), found[1])


# --- T22, T23: what we are made of, and TLS ---


LOCKS = sorted(str(path.relative_to(ROOT)) for folder in (ROOT, ROOT / "tests") for path in folder.glob("*.lock"))
TOOLS = ("uv", "py-spy")  # that write a lock or look at a process, by hand; nothing that is tested or shipped


@pytest.mark.parametrize("lock", LOCKS)
def test_t22_every_dependency_is_pinned_to_its_bytes(lock: str) -> None:
    entries = [entry for entry in re.split(r"\n(?=\S)", (ROOT / lock).read_text()) if not entry.startswith("#")]

    assert entries
    for entry in entries:
        assert re.match(r"[a-zA-Z0-9_.-]+==[^ ;]+", entry), entry
        assert re.search(r"--hash=sha256:[0-9a-f]{64}", entry), entry


def test_t22_nothing_is_installed_but_what_is_pinned() -> None:
    """By make and in the image."""
    for name in ("Makefile", "Dockerfile"):
        text = re.sub(r"\\\n\s*", " ", (ROOT / name).read_text())
        for line in re.findall(r"pip install[^\n&]*", text):
            pinned = "--require-hashes" in line and "-r " in line
            assert pinned or "--no-deps" in line or line.split()[-1] in TOOLS, line


def test_t23_tls_has_no_switch_that_weakens_it() -> None:
    context = tls_context(None)

    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
    assert context.minimum_version >= ssl.TLSVersion.TLSv1_2
    assert getattr(context, "keylog_filename", None) is None
    names = [dotted(path) for path in TABLE if path[:2] == ("upstream", "tls") or "verif" in dotted(path)]
    assert names == ["upstream.tls.ca_file", "upstream.tls.client_cert_file", "upstream.tls.client_key_file"]


SERVE_WITH = """
import json, os, sys
os.environ.update(json.loads(sys.argv[1]))
from proxy.cli import main
sys.exit(main(["serve"]))
"""
PROXIES = ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy")


async def test_t23_the_environment_neither_leads_elsewhere_nor_writes_keys_down(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor does it choose whom to trust."""
    authority = Authority(tmp_path)
    upstream = await Upstream().start(authority.sign("127.0.0.1").server())
    keylog = tmp_path / "keys"
    async with elsewhere() as other:
        given = {name: f"http://{other.authority.decode()}" for name in PROXIES}
        given |= {"SSLKEYLOGFILE": str(keylog), "PYTHONHTTPSVERIFY": "0", "SSL_CERT_FILE": "/dev/null"}
        monkeypatch.setattr("tests.process.PROXY", (sys.executable, "-P", "-c", SERVE_WITH, json.dumps(given)))
        url = f"https://127.0.0.1:{upstream.port}"
        async with serving(url, upstream__tls__ca_file=str(authority.file)) as proxy:
            assert (await proxy.ask("GET", SESSION.decode())).status == 200
        async with serving(url) as proxy:
            assert (await proxy.ask("GET", SESSION.decode())).status == 502
        assert other.connections == 0
    await upstream.stop()

    assert len(upstream.requests) == 1
    # aiohttp opens it when it is imported, for connections of its own, which nobody makes here.
    written = keylog.read_text().splitlines() if keylog.exists() else []
    assert [line for line in written if not line.startswith("#")] == []


# --- T24: this machine ---


async def test_t24_a_link_where_the_socket_belongs_leads_to_nothing_of_others(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("of somebody else")
    link = tmp_path / "link"
    link.symlink_to(precious)

    refused = await talon_proxy(
        "serve", upstream__url="http://127.0.0.1:9", api_key="k", listen=f"unix:{link}", admin__listen=""
    )

    assert refused.code == 1
    assert "not a socket" in refused.err
    assert precious.read_text() == "of somebody else"
    assert link.is_symlink()


# --- T25: keys of calls ---


def test_t25_a_key_used_again_with_another_body_or_by_another_joins_nothing() -> None:
    shop = Shop(applications=(Application("default"), Application("other")))
    shop.upstream.ready = True
    key = (b"Idempotency-Key", b"k")
    other = (b"Talon-Proxy-Application", b"other")
    event = b"/v2/events"
    first = shop.submit(b"POST", event, {"profileId": "p", "type": "seen"}, key)
    calls = [
        shop.submit(b"POST", event, {"profileId": "p", "type": "told"}, key),
        shop.submit(b"POST", event, b'{"profileId":"p", "type":"seen"}', key),
        shop.submit(b"POST", event, {"profileId": "p", "type": "seen"}, key, other),
        shop.submit(b"POST", b"/v2/events?x=1", {"profileId": "p", "type": "seen"}, key),
        shop.submit(b"PUT", b"/v2/customer_profiles/p", {"profileId": "p", "type": "seen"}, key),
    ]

    assert not any(call.joined for call in (first, *calls))
    assert shop.submit(b"POST", event, {"profileId": "p", "type": "seen"}, key).joined is False  # no longer the tail


# --- the table ---

TABLED = re.compile(r"^\| (T\d+) \| (.+?) \| (.+?) \| (.+?) \|$", re.MULTILINE)


def test_the_table_has_every_threat_and_its_tests_exist() -> None:
    rows = TABLED.findall((ROOT / "SECURITY.md").read_text())
    sources = {path.stem: path.read_text() for path in (ROOT / "tests").glob("test_*.py")}

    assert [number for number, *_ in rows] == [f"T{number}" for number in range(1, 26)]
    for number, _, mitigation, tests in rows:
        assert len(mitigation) > 20
        named = re.findall(r"`(test_\w+)(?:\.(test_\w+))?`", tests)
        assert named or number == "T21", number
        for module, name in named:
            assert module in sources, (number, module)
            assert not name or f"def {name}(" in sources[module], (number, name)
    # And each that carries a number here stands in its row.
    by_number = {number: tests for number, _, _, tests in rows}
    for name in re.findall(r"def (test_t\d+\w*)", sources["test_threats"]):
        for number in re.findall(r"_t(\d+)(?=_)", name):
            assert f"`test_threats.{name}`" in by_number[f"T{number}"], name
