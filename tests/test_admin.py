import asyncio
import logging
import socket
import stat
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import orjson
import pytest
from aiohttp.test_utils import make_mocked_request

from proxy.observe.admin import MOST_CONNECTIONS, Admin, Controls, Declined, Probes, Scrape

TOKEN = "token-0123456789"
METRICS = (b"# HELP up Always 1.\n", "text/plain; version=0.0.4; charset=utf-8")
EVERY_PATH = ("/livez", "/readyz", "/startupz", "/metrics", "/status", "/checklist.json")


@dataclass
class Address:
    host: str = "127.0.0.1"
    port: int = 0
    path: str | None = None


@dataclass
class Proxy:
    """What the admin listener tells of, and the listener."""

    token: str | None = TOKEN
    hosts: tuple[str, ...] = ("metrics.shop.internal",)
    declined: str | None = None
    asked: list[object] = field(default_factory=list)
    not_live: list[str] = field(default_factory=list)
    not_ready: list[str] = field(default_factory=list)
    not_started: list[str] = field(default_factory=list)
    status: Callable[[], Mapping[str, object]] = lambda: {"version": "0.1.0", "path": Path("/etc")}
    metrics: Callable[[str | None], Scrape | Awaitable[Scrape]] = lambda accept: METRICS
    checklist: Mapping[str, object] | None = field(default_factory=lambda: {"rules": []})

    def __post_init__(self) -> None:
        self.admin = Admin(
            probes=Probes(lambda: self.not_live, lambda: self.not_ready, lambda: self.not_started),
            metrics=lambda accept: self.metrics(accept),
            status=lambda: self.status(),
            checklist=lambda: self.checklist,
            history=lambda: {"ago_seconds": [5.0, 0.0]},
            controls=Controls(lambda: {"settings": {}}, self._reload, self._switch, lambda: {"stage": "draining"}),
            token=self.token,
            hosts=self.hosts,
        )
        self.base = ""

    async def _reload(self) -> Mapping[str, object]:
        return self._done("reload")

    async def _switch(self, url: str, force: bool) -> Mapping[str, object]:
        return self._done((url, force))

    def _done(self, what: object) -> Mapping[str, object]:
        if self.declined is not None:
            raise Declined(self.declined)
        self.asked.append(what)
        return {"generation": 2}

    async def start(self) -> None:
        (address,) = await self.admin.start([Address()])
        self.base = f"http://{address}"


@dataclass
class Answer:
    status: int
    text: str
    headers: Mapping[str, str]


@pytest.fixture
async def proxy() -> AsyncIterator[Proxy]:
    made = Proxy()
    await made.start()
    yield made
    await made.admin.stop()


@pytest.fixture
async def client() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


async def ask(
    client: aiohttp.ClientSession, url: str, *, method: str = "GET", headers: Mapping[str, str] | None = None
) -> Answer:
    async with client.request(method, url, headers=headers) as response:
        return Answer(response.status, await response.text(), response.headers)


async def say(proxy: Proxy, message: bytes) -> bytes:
    """Send bytes as they are, and read until the connection ends."""
    host, _, port = proxy.base.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(message)
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    return answer


# --- probes ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/startupz"])
async def test_a_probe_is_ok_when_nothing_speaks_against_it(
    proxy: Proxy, client: aiohttp.ClientSession, path: str
) -> None:
    answer = await ask(client, proxy.base + path)

    assert (answer.status, answer.text) == (200, "ok\n")


async def test_each_probe_tells_its_own_reasons(proxy: Proxy, client: aiohttp.ClientSession) -> None:
    proxy.not_ready = ["draining", "not listening"]
    proxy.not_started = ["warm connections are not up yet"]

    live = await ask(client, proxy.base + "/livez")
    ready = await ask(client, proxy.base + "/readyz")
    started = await ask(client, proxy.base + "/startupz")

    assert live.status == 200
    assert (ready.status, ready.text) == (503, "draining\nnot listening\n")
    assert (started.status, started.text) == (503, "warm connections are not up yet\n")


async def test_a_verbose_probe_tells_the_state_of_all(proxy: Proxy, client: aiohttp.ClientSession) -> None:
    proxy.not_ready = ["draining", "not listening"]

    ready = await ask(client, proxy.base + "/readyz?verbose")
    live = await ask(client, proxy.base + "/livez?verbose=1")

    assert (ready.status, live.status) == (503, 200)
    assert ready.text == live.text == "livez: ok\nreadyz: draining, not listening\nstartupz: ok\n"


# --- metrics --------------------------------------------------------------------------------------------------


async def test_metrics_are_given_in_the_format_that_is_asked_for(proxy: Proxy, client: aiohttp.ClientSession) -> None:
    asked: list[str | None] = []

    def metrics(accept: str | None) -> Scrape:
        asked.append(accept)
        return METRICS

    proxy.metrics = metrics

    answer = await ask(client, proxy.base + "/metrics", headers={"Accept": "application/openmetrics-text"})

    assert asked == ["application/openmetrics-text"]
    assert answer.text.encode() == METRICS[0]
    assert answer.headers["Content-Type"] == METRICS[1]


async def test_metrics_may_be_made_in_turns(proxy: Proxy, client: aiohttp.ClientSession) -> None:
    async def metrics(accept: str | None) -> Scrape:
        return METRICS

    proxy.metrics = metrics

    answer = await ask(client, proxy.base + "/metrics")

    assert answer.text.encode() == METRICS[0]


# --- status ---------------------------------------------------------------------------------------------------


async def test_status_is_told_to_this_machine(proxy: Proxy, client: aiohttp.ClientSession) -> None:
    answer = await ask(client, proxy.base + "/status")

    assert answer.status == 200
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.text == '{\n  "version": "0.1.0",\n  "path": "/etc"\n}\n'


@pytest.mark.parametrize(
    ("peer", "authorization", "status"),
    [
        (("127.0.0.1", 5000), None, 200),
        (("127.8.9.1", 5000), None, 200),
        (("::1", 5000, 0, 0), None, 200),
        (("::ffff:127.0.0.1", 5000, 0, 0), None, 200),
        (("10.1.2.3", 5000), None, 403),
        (("::ffff:10.1.2.3", 5000, 0, 0), None, 403),
        (("fd00::1", 5000, 0, 0), None, 403),
        (None, None, 403),
        (("10.1.2.3", 5000), f"Bearer {TOKEN}", 200),
        (("10.1.2.3", 5000), f"bearer  {TOKEN} ", 200),
        (("10.1.2.3", 5000), f"Bearer {TOKEN}x", 403),
        (("10.1.2.3", 5000), f"Bearer {TOKEN[:-1]}", 403),
        (("10.1.2.3", 5000), "Bearer ", 403),
        (("10.1.2.3", 5000), "Bearer \u00ff", 403),
        (("10.1.2.3", 5000), f"Basic {TOKEN}", 403),
        (("10.1.2.3", 5000), TOKEN, 403),
    ],
)
async def test_status_is_told_to_others_with_the_token_only(
    peer: tuple[object, ...] | None, authorization: str | None, status: int
) -> None:
    answer = await from_peer(Proxy(), "/status", peer, authorization)

    assert answer == status


@pytest.mark.parametrize("token", [None, ""])
async def test_without_a_token_no_token_opens(token: str | None) -> None:
    for authorization in (None, "Bearer", "Bearer ", "Bearer None"):
        answer = await from_peer(Proxy(token=token), "/status", ("10.1.2.3", 5000), authorization)

        assert answer == 403


@pytest.mark.parametrize("path", EVERY_PATH[:-2])
async def test_the_rest_is_open_to_whoever_reaches_it(path: str) -> None:
    assert await from_peer(Proxy(), path, ("10.1.2.3", 5000), None) == 200


async def test_what_a_caller_says_of_its_origin_counts_for_nothing() -> None:
    headers = {"X-Forwarded-For": "127.0.0.1", "Forwarded": "for=127.0.0.1", "X-Real-IP": "127.0.0.1"}

    assert await from_peer(Proxy(), "/status", ("10.1.2.3", 5000), None, headers) == 403


@pytest.mark.parametrize(
    "name",
    ["X-Forwarded-For", "x-forwarded-proto", "Forwarded", "Via", "X-Real-IP", "X-Envoy-Attempt-Count", "l5d-dst"],
)
async def test_who_comes_through_something_on_this_machine_is_not_of_this_machine(name: str) -> None:
    for path in ("/status", "/-/config", "/checklist.json"):
        assert await from_peer(Proxy(), path, ("127.0.0.1", 5000), None, {name: "x"}) == 403
        assert await from_peer(Proxy(), path, ("127.0.0.1", 5000), f"Bearer {TOKEN}", {name: "x"}) == 200
    assert await from_peer(Proxy(), "/metrics", ("127.0.0.1", 5000), None, {name: "x"}) == 200


class Transport(asyncio.Transport):
    """Of a connection from somewhere else."""

    def __init__(self, peer: tuple[object, ...] | None) -> None:
        super().__init__({"peername": peer, "socket": socket.socket()})

    def get_extra_info(self, name: str, default: object = None) -> object:
        return super().get_extra_info(name, default)

    def is_closing(self) -> bool:
        return False


async def from_peer(
    proxy: Proxy,
    path: str,
    peer: tuple[object, ...] | None,
    authorization: str | None,
    headers: Mapping[str, str] | None = None,
) -> int:
    """Ask as somebody on another machine would; only the transport is not real."""
    sent = {"Host": "10.0.0.1:7411", **(headers or {})}
    if authorization is not None:
        sent["Authorization"] = authorization
    transport = Transport(peer)
    request = make_mocked_request("GET", path, headers=sent, transport=transport)
    response = await proxy.admin._answer(request)
    transport.get_extra_info("socket").close()  # type: ignore[attr-defined]
    return response.status


# --- the page -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("token", "peer", "status"),
    [
        (None, ("127.0.0.1", 5000), 200),
        (None, ("10.1.2.3", 5000), 403),
        (TOKEN, ("127.0.0.1", 5000), 200),
        # It holds no data, and asks for the token.
        (TOKEN, ("10.1.2.3", 5000), 200),
    ],
)
async def test_the_page_is_for_whoever_may_see_what_it_shows_and_who_has_the_token(
    token: str | None, peer: tuple[str, int], status: int
) -> None:
    assert await from_peer(Proxy(token=token), "/", peer, None) == status


async def test_the_page_comes_with_a_policy_that_keeps_everything_else_out(
    proxy: Proxy, client: aiohttp.ClientSession
) -> None:
    answer = await ask(client, proxy.base + "/")

    assert (answer.status, answer.headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert answer.headers["Content-Security-Policy"].startswith("default-src 'none'; style-src 'sha256-")
    assert answer.headers["Referrer-Policy"] == "no-referrer"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert "</html>" in answer.text


async def test_history_is_told_to_who_asks_for_it(proxy: Proxy, client: aiohttp.ClientSession) -> None:
    plain = await ask(client, proxy.base + "/status")
    more = await ask(client, proxy.base + "/status?history")

    assert "history" not in orjson.loads(plain.text)
    assert orjson.loads(more.text) == {**orjson.loads(plain.text), "history": {"ago_seconds": [5.0, 0.0]}}


# --- what is refused ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path", ["/status/", "/style.css", "/debug", "/config", "/-/confi", "/livez/", "//livez", "/%6civez", "/metrics/x"]
)
async def test_there_is_nothing_else(proxy: Proxy, path: str) -> None:
    answer = await say(proxy, b"GET %b HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n" % path.encode())

    assert answer.startswith(b"HTTP/1.1 404 ")
    assert answer.endswith(b"\r\n\r\nNot found\n")


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
async def test_nothing_can_be_changed(proxy: Proxy, client: aiohttp.ClientSession, method: str) -> None:
    for path in EVERY_PATH:
        answer = await ask(client, proxy.base + path, method=method)

        assert (answer.status, answer.headers["Allow"]) == (405, "GET, HEAD")


async def test_head_is_get_without_a_body(proxy: Proxy, client: aiohttp.ClientSession) -> None:
    for path in EVERY_PATH:
        told = await ask(client, proxy.base + path)
        head = await ask(client, proxy.base + path, method="HEAD")

        assert (head.status, head.text) == (200, "")
        assert head.headers["Content-Length"] == str(len(told.text))


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "127.0.0.1:7411",
        "10.0.0.1:80",
        "[::1]:7411",
        "[fd00::1]",
        "localhost",
        "LocalHost.:7411",
        "metrics.shop.internal",
        "Metrics.Shop.Internal:7411",
    ],
)
async def test_addresses_and_configured_names_may_be_used(
    proxy: Proxy, client: aiohttp.ClientSession, host: str
) -> None:
    answer = await ask(client, proxy.base + "/livez", headers={"Host": host})

    assert answer.status == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "127.0.0.1.evil.example",
        "localhost.evil.example:7411",
        "shop.internal",
        "[evil",
        "[::1].evil.example",
        "",
        "@localhost",
    ],
)
async def test_other_names_are_misdirected_whatever_is_asked_for(
    proxy: Proxy, client: aiohttp.ClientSession, host: str
) -> None:
    for path in (*EVERY_PATH, "/nothing"):
        answer = await ask(client, proxy.base + path, headers={"Host": host})

        assert answer.status == 421


async def test_a_probe_of_http_1_0_needs_no_host(proxy: Proxy) -> None:
    answer = await say(proxy, b"GET /livez HTTP/1.0\r\n\r\n")

    assert b" 200 OK\r\n" in answer


async def test_no_second_host_gets_a_name_past_the_check(proxy: Proxy) -> None:
    answer = await say(
        proxy, b"GET /status HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\nConnection: close\r\n\r\n"
    )

    assert answer.split(b" ")[1] in (b"400", b"421")


async def test_no_answer_can_be_read_by_a_web_page_or_kept(proxy: Proxy, client: aiohttp.ClientSession) -> None:
    preflight = {"Origin": "http://evil.example", "Access-Control-Request-Method": "GET"}
    for method in ("GET", "HEAD", "OPTIONS", "POST"):
        for path in (*EVERY_PATH, "/nothing"):
            answer = await ask(client, proxy.base + path, method=method, headers=preflight)

            assert not [name for name in answer.headers if name.lower().startswith("access-control-")]
            assert answer.headers["X-Content-Type-Options"] == "nosniff"
            assert answer.headers["Cache-Control"] == "no-store"
            assert answer.headers["Server"] == "talon-proxy"


async def test_what_is_not_http_is_answered_without_repeating_it(
    proxy: Proxy, caplog: pytest.LogCaptureFixture
) -> None:
    answer = await say(proxy, b"GET /livez HTTP/1.1\r\nBad Header<script>: 1\r\n\r\n")

    assert answer.startswith(b"HTTP/1.0 400 ")
    assert answer.endswith(b"\r\n\r\nBad request\n")
    assert b"Server: talon-proxy\r\n" in answer
    assert not caplog.records


async def test_a_failure_of_ours_is_logged_and_not_shown(
    proxy: Proxy, client: aiohttp.ClientSession, caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> Mapping[str, object]:
        raise RuntimeError("c0ffee5ec2e7")

    proxy.status = fail

    answer = await ask(client, proxy.base + "/status", headers={"Accept": "text/html"})
    afterwards = await ask(client, proxy.base + "/livez")

    assert (answer.status, answer.text) == (500, "Failed; the log has the reason\n")
    assert [record.levelno for record in caplog.records] == [logging.ERROR]
    assert afterwards.status == 200


# --- listening ------------------------------------------------------------------------------------------------


@asynccontextmanager
async def listening(proxy: Proxy, *addresses: Address) -> AsyncIterator[list[str]]:
    """Whatever comes, it stops: a loop that is closed over a listener may hang."""
    try:
        yield await proxy.admin.start(addresses)
    finally:
        await proxy.admin.stop()


async def ask_at(path: Path, question: str) -> Answer:
    async with aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(path))) as client:
        return await ask(client, "http://localhost" + question)


async def test_a_unix_socket_counts_as_this_machine(tmp_path: Path) -> None:
    path = tmp_path / "admin.sock"

    async with listening(Proxy(), Address(path=str(path))) as bound:
        mode = stat.S_IMODE(path.stat().st_mode)
        answer = await ask_at(path, "/status")

    assert bound == [f"unix:{path}"]
    assert mode == 0o660
    assert answer.status == 200
    assert not path.exists()


async def test_a_socket_that_a_killed_process_left_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "admin.sock"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))

    async with listening(Proxy(), Address(path=str(path))):
        answer = await ask_at(path, "/livez")

    assert answer.status == 200


async def test_what_is_no_socket_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "admin").write_text("a file")

    for path in (tmp_path, tmp_path / "admin"):
        with pytest.raises(FileExistsError, match="is not a socket"):
            await Proxy().admin.start([Address(path=str(path))])

    assert (tmp_path / "admin").read_text() == "a file"


async def test_a_socket_that_is_in_use_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "admin.sock"

    async with listening(Proxy(), Address(path=str(path))):
        with pytest.raises(OSError, match="in use"):
            async with listening(Proxy(), Address(path=str(path))):
                pass
        answer = await ask_at(path, "/livez")

    assert answer.status == 200


async def test_no_address_is_kept_where_one_cannot_be_had(proxy: Proxy, tmp_path: Path) -> None:
    taken = int(proxy.base.rpartition(":")[2])
    path = tmp_path / "admin.sock"
    other = Proxy()

    with pytest.raises(OSError, match="in use"):
        await other.admin.start([Address(path=str(path)), Address(port=taken)])

    assert not path.exists()
    assert repr(other.admin) == "<Admin addresses=0>"


async def test_addresses_are_told_as_they_were_bound() -> None:
    async with listening(Proxy(), Address(), Address(host="::1", path="")) as (first, second):
        ports = {first.rpartition(":")[2], second.rpartition(":")[2]}

    assert first.startswith("127.0.0.1:")
    assert second.startswith("[::1]:")
    assert "0" not in ports


async def test_stopping_closes_connections_that_wait_for_a_next_question(client: aiohttp.ClientSession) -> None:
    proxy = Proxy()
    async with listening(proxy, Address()) as (address,):
        await ask(client, f"http://{address}/livez")

    with pytest.raises(aiohttp.ClientError):
        await ask(client, f"http://{address}/livez")


async def test_stopping_twice_or_before_the_start_does_nothing() -> None:
    proxy = Proxy()

    await proxy.admin.stop()
    async with listening(proxy, Address()):
        pass
    await proxy.admin.stop()


async def test_whoever_holds_connections_takes_nobody_elses_place(caplog: pytest.LogCaptureFixture) -> None:
    proxy = Proxy()
    answer = asyncio.Event()
    asked = asyncio.Event()

    async def slow() -> Scrape:
        asked.set()
        await answer.wait()
        return METRICS

    async with AsyncExitStack() as stack, listening(proxy, Address()) as (address,):
        proxy.base = f"http://{address}"
        proxy.metrics = lambda accept: slow()
        scrape = asyncio.create_task(say(proxy, b"GET /metrics HTTP/1.0\r\n\r\n"))
        await asked.wait()
        host, _, port = address.partition(":")
        held = []
        for _ in range(3 * MOST_CONNECTIONS):
            reader, writer = await asyncio.open_connection(host, int(port))
            held.append(reader)
            stack.callback(writer.close)

        # Those who came first and ask for nothing are gone; the scrape is older than they, and is answered.
        for reader in held[: 2 * MOST_CONNECTIONS]:
            with suppress(ConnectionResetError):
                assert await reader.read() == b""
        assert b" 200 " in await say(proxy, b"GET /livez HTTP/1.0\r\n\r\n")
        answer.set()
        assert METRICS[0] in await scrape
        assert "too many connections" in caplog.text


# --- what changes something -----------------------------------------------------------------------------------

CHANGES = [("POST", "/-/reload"), ("PUT", "/-/upstream"), ("POST", "/-/drain")]
WITH_TOKEN = {"Authorization": f"Bearer {TOKEN}"}


async def change(
    client: aiohttp.ClientSession, proxy: Proxy, method: str, path: str, body: bytes = b"", **headers: str
) -> Answer:
    async with client.request(method, proxy.base + path, data=body, headers=headers or WITH_TOKEN) as response:
        return Answer(response.status, await response.text(), response.headers)


@pytest.mark.parametrize(("method", "path"), CHANGES)
async def test_being_on_this_machine_is_not_enough_to_change_anything(
    proxy: Proxy, client: aiohttp.ClientSession, method: str, path: str
) -> None:
    for headers in ({"X": "y"}, {"Authorization": "Bearer wrong"}, {"Authorization": f"Basic {TOKEN}"}):
        assert (await change(client, proxy, method, path, b'{"url": "u"}', **headers)).status == 403
    assert proxy.asked == []


@pytest.mark.parametrize(("method", "path"), CHANGES)
async def test_without_a_token_changes_are_off(client: aiohttp.ClientSession, method: str, path: str) -> None:
    proxy = Proxy(token=None)
    await proxy.start()
    for headers in ({"X": "y"}, {"Authorization": "Bearer "}, {"Authorization": "Bearer None"}):
        answer = await change(client, proxy, method, path, b'{"url": "u"}', **headers)
        assert (answer.status, answer.text) == (403, "Off: admin.token is not set\n")
    await proxy.admin.stop()


async def test_a_token_that_was_replaced_is_of_no_use(proxy: Proxy, client: aiohttp.ClientSession) -> None:
    proxy.admin.token = "another"

    assert (await change(client, proxy, "POST", "/-/reload")).status == 403
    assert (await change(client, proxy, "POST", "/-/reload", Authorization="Bearer another")).status == 200


async def test_a_switch_is_asked_for_with_a_url(proxy: Proxy, client: aiohttp.ClientSession) -> None:
    plain = await change(client, proxy, "PUT", "/-/upstream", b'{"url": "https://a.example"}')
    forced = await change(client, proxy, "PUT", "/-/upstream", b'{"url": "https://a.example", "force": true}')

    assert (plain.status, forced.status) == (200, 200)
    assert proxy.asked == [("https://a.example", False), ("https://a.example", True)]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"https://a.example",
        b"[]",
        b"{}",
        b'{"url": 1}',
        b'{"url": "u", "force": "yes"}',
        b'{"url": "u", "forced": true}',
        b'{"url": "%b"}' % (b"u" * 5000),
    ],
)
async def test_a_body_of_another_form_changes_nothing(proxy: Proxy, client: aiohttp.ClientSession, body: bytes) -> None:
    answer = await change(client, proxy, "PUT", "/-/upstream", body)

    assert answer.status == 422
    assert '{\\"url\\"' in answer.text
    assert proxy.asked == []


async def put_upstream(proxy: Proxy, length: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    host, _, port = proxy.base.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    head = f"PUT /-/upstream HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\nConnection: close\r\n"
    writer.write(f"{head}Content-Length: {length}\r\n\r\n".encode())
    return reader, writer


async def test_a_body_may_come_in_pieces(proxy: Proxy, client: aiohttp.ClientSession) -> None:
    body = b'{"url": "https://a.example"}'
    reader, writer = await put_upstream(proxy, len(body))
    writer.write(body[:10])
    # An answer to another question: by then the first piece has been looked at.
    await ask(client, proxy.base + "/livez")

    writer.write(body[10:])

    assert b"200 OK" in await reader.readline()
    assert proxy.asked == [("https://a.example", False)]
    writer.close()


async def test_a_body_that_does_not_arrive_changes_nothing(proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proxy.observe.admin.BODY_WITHIN", 0.01)
    reader, writer = await put_upstream(proxy, 10)

    answer = await reader.read()

    assert b" 422 " in answer
    assert b"did not arrive" in answer
    assert proxy.asked == []
    writer.close()


async def test_who_leaves_before_its_body_is_complete_fills_no_log(
    proxy: Proxy, client: aiohttp.ClientSession, caplog: pytest.LogCaptureFixture
) -> None:
    reader, writer = await put_upstream(proxy, 10)
    await ask(client, proxy.base + "/livez")

    writer.close()
    await writer.wait_closed()
    await proxy.admin.stop()

    assert caplog.records == []
    assert await reader.read() == b""


async def test_what_cannot_be_done_is_answered_with_the_reasons(proxy: Proxy, client: aiohttp.ClientSession) -> None:
    proxy.declined = "one\ntwo"

    answer = await change(client, proxy, "POST", "/-/reload")

    assert answer.status == 422
    assert orjson.loads(answer.text) == {"message": "Nothing was changed", "reasons": ["one", "two"]}


@pytest.mark.parametrize(("method", "path"), CHANGES)
async def test_a_change_is_not_made_by_looking(
    proxy: Proxy, client: aiohttp.ClientSession, method: str, path: str
) -> None:
    answer = await change(client, proxy, "GET", path)

    assert (answer.status, answer.headers["Allow"]) == (405, method)
    assert proxy.asked == []


async def test_the_settings_are_told_to_this_machine(proxy: Proxy, client: aiohttp.ClientSession) -> None:
    answer = await ask(client, proxy.base + "/-/config")

    assert (answer.status, orjson.loads(answer.text)) == (200, {"settings": {}})
