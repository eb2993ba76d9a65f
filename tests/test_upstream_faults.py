"""What goes wrong behind the proxy, on raw sockets: judged at the caller, and by how often Talon.One got the call."""

import asyncio
import contextlib
import functools
import os
import re
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from proxy.messages import Sent
from proxy.traffic.lanes import Rules as LaneRules
from proxy.wire.downstream import Timeouts
from proxy.wire.egress import EgressRules
from proxy.wire.names import AddrInfo, Resolver
from tests.certificates import Authority
from tests.harness import KEY, OK, Line, Proxy, Upstream, patiently, running, until
from tests.traffic_rig import PARALLEL_SESSION
from tests.way import NAME, tunnelling, unanswering

WRITES = [b"PUT /v2/customer_sessions/s", b"POST /v2/events", b"POST /v2/customer_sessions/s/returns"]
PUT = WRITES[0]
GET = b"GET /v2/customer_sessions/s"


class Answer:
    """What a caller got."""

    def __init__(self, raw: bytes) -> None:
        self.raw = raw
        self.head, _, self.body = raw.partition(b"\r\n\r\n")
        self.status = int(self.head[9:12]) if raw else 0

    def __getitem__(self, name: str) -> str | None:
        found = re.search(rb"(?mi)^" + name.encode() + rb": (.*?)\r?$", self.head)
        return found[1].decode() if found else None

    @property
    def failure(self) -> tuple[int, str | None, str | None]:
        return (
            self.status,
            (self["Proxy-Status"] or "").removeprefix("talon-proxy; error="),
            self["Talon-Proxy-Outcome"],
        )


def without_id(sent: bytes) -> bytes:
    return re.sub(rb"(?i)x-request-id: [^\r]*\r\n", b"", sent)


def request(start: bytes, body: bytes = b"{}", key: bytes = b"") -> bytes:
    framing = b"" if start.startswith(b"GET") else b"Content-Length: %d\r\n" % len(body)
    framing += b"Idempotency-Key: %b\r\n" % key if key else b""
    content = b"" if start.startswith(b"GET") else body
    return b"%b HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n%b\r\n%b" % (start, framing, content)


async def ask(proxy: Proxy, start: bytes = GET, body: bytes = b"{}", key: bytes = b"") -> Answer:
    line = await proxy.client()
    await line.send(request(start, body, key))
    raw = await line.to_end()
    await line.close()
    return Answer(raw)


def asking(proxy: Proxy, start: bytes = GET, body: bytes = b"{}", key: bytes = b"") -> "asyncio.Task[Answer]":
    return asyncio.get_running_loop().create_task(ask(proxy, start, body, key), name="caller")


@asynccontextmanager
async def scripted(
    script: Callable[[Line, int], Awaitable[None]], **options: object
) -> AsyncIterator[tuple[list[Line], Proxy]]:
    """Run a proxy before a server that does with each connection, by its number, what the script says."""
    lines: list[Line] = []
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        line = Line(reader, writer)
        lines.append(line)
        try:
            await script(line, len(lines))
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            line.reset()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, limit=1 << 16)
    proxy = await Proxy(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", **options).start()  # type: ignore[arg-type]
    try:
        yield lines, proxy
    finally:
        await proxy.stop()
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


# --- before anything is sent ---


@pytest.mark.parametrize("start", [GET, *WRITES])
async def test_u1_a_refused_connection_is_told_at_once(start: bytes) -> None:
    async with running(connect_timeout=60.0, total_timeout=60.0) as (upstream, proxy):  # longer than is waited here
        await upstream.stop()

        answer = await ask(proxy, start)

        assert answer.failure == (502, "connection_refused", "not-sent")
        assert proxy.witness.ended[0][0].timeline.tries == 3


async def test_u1_those_who_share_a_read_share_its_failure_too() -> None:
    async with running(coalescing=True) as (upstream, proxy):
        await upstream.stop()
        answers = await asyncio.gather(*(ask(proxy) for _ in range(10)))

        assert {answer.failure for answer in answers} == {(502, "connection_refused", "not-sent")}
        # Who came when the first ones had their answer is no longer one of them.
        assert sum(call.timeline.tries for call, *_ in proxy.witness.ended if not call.timeline.joined) < 30


class Directory:
    """What the system's resolver answers: addresses, a failure, or (None) nothing for now."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.answer: list[str] | OSError | None = None
        self.asked = 0
        directory = self

        async def resolve(_: Resolver, host: str, port: int) -> list[AddrInfo]:
            assert host == NAME
            directory.asked += 1
            if isinstance(directory.answer, OSError):
                raise directory.answer
            if directory.answer is None:
                await asyncio.get_running_loop().create_future()
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (text, port)) for text in directory.answer or ()]

        monkeypatch.setattr(Resolver, "__call__", resolve)


@pytest.fixture
def directory(monkeypatch: pytest.MonkeyPatch) -> Directory:
    return Directory(monkeypatch)


by_name = functools.partial(running, NAME)


@pytest.mark.parametrize(
    "answer",
    [socket.gaierror(socket.EAI_NONAME, "unknown"), socket.gaierror(socket.EAI_AGAIN, "server failure"), []],
)
@pytest.mark.parametrize("start", [GET, PUT])
async def test_u2_a_name_without_an_address_is_told_at_once(
    directory: Directory, answer: list[str] | OSError, start: bytes
) -> None:
    directory.answer = answer
    async with by_name() as (upstream, proxy):
        assert (await ask(proxy, start)).failure == (502, "dns_error", "not-sent")
        assert not upstream.lines


async def test_u2_a_resolver_that_hangs_is_told_and_tried_once_more(directory: Directory) -> None:
    async with by_name(connect_timeout=0.2) as (_, proxy):
        assert (await ask(proxy, PUT)).failure == (504, "dns_timeout", "not-sent")
        assert proxy.witness.ended[0][0].timeline.tries == 2
        assert directory.asked == 1


async def test_u2_a_resolver_that_hangs_is_not_noticed_by_calls_that_have_a_connection(directory: Directory) -> None:
    directory.answer = ["127.0.0.1"]
    async with by_name(warm=2, egress=EgressRules(dns_refresh=0.05)) as (_, proxy):
        await until(lambda: proxy.generation.pool.idle == 2)
        directory.answer = None
        before = directory.asked
        await until(lambda: directory.asked > before)

        for _ in range(20):
            assert (await ask(proxy, PUT)).status == 200
        assert directory.asked == before + 1


async def test_u2_calls_go_on_with_the_last_good_address(directory: Directory) -> None:
    directory.answer = ["127.0.0.1"]
    async with by_name(egress=EgressRules(dns_refresh=0.05)) as (upstream, proxy):
        await until(lambda: directory.asked > 0)
        directory.answer = socket.gaierror(socket.EAI_AGAIN, "server failure")
        await until(lambda: proxy.generation.egress.name.failing)

        for number in range(3):
            assert (await ask(proxy, PUT)).status == 200
            upstream.lines[-1].reset()
            await until(lambda: proxy.generation.pool.idle == 0)
            assert len(upstream.lines) == number + 1


async def test_u2_connections_follow_an_address_that_changes_by_their_age_and_no_call_fails(
    directory: Directory,
) -> None:
    directory.answer = ["127.0.0.1"]
    async with by_name(warm=1, max_age=0.3, egress=EgressRules(dns_refresh=0.05)) as (upstream, proxy):
        came: list[str] = []

        async def elsewhere(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            came.append("127.0.0.2")
            with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
                while await reader.readuntil(b"{}"):
                    writer.write(OK)
            writer.transport.abort()

        moved = await asyncio.start_server(elsewhere, "127.0.0.2", upstream.port)
        assert (await ask(proxy, PUT)).status == 200
        directory.answer = ["127.0.0.2"]
        await until(lambda: list(proxy.generation.egress.name.known) == ["127.0.0.2"])
        opened = len(upstream.lines)
        while not came:
            assert (await ask(proxy, PUT)).status == 200
        old = len(upstream.requests)
        await until(lambda: all(line.reader.at_eof() for line in upstream.lines))

        assert (await ask(proxy, PUT)).status == 200
        assert len(upstream.requests) == old
        assert len(upstream.lines) <= opened + 1  # one may have been on its way
        moved.close()


async def test_u4_a_black_hole_is_given_up_after_the_connect_timeout_and_tried_once_more() -> None:
    with unanswering() as port:
        proxy = await Proxy(f"http://127.0.0.1:{port}", connect_timeout=0.2, max_connections=4).start()
        answers = await asyncio.gather(*(ask(proxy, PUT) for _ in range(2)))

        assert {answer.failure for answer in answers} == {(504, "connection_timeout", "not-sent")}
        assert {call.timeline.tries for call, *_ in proxy.witness.ended} == {2}
        assert proxy.generation.pool.opening <= 4
        await proxy.stop()


async def test_u3_a_wrong_certificate_is_not_tried_again_and_the_key_not_sent(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    upstream = await Upstream().start(authority.sign("evil.example").server())
    proxy = await Proxy(f"https://localhost:{upstream.port}", ca_file=authority.file).start()

    answer = await ask(proxy, PUT)

    assert answer.failure == (502, "tls_certificate_error", "not-sent")
    assert proxy.witness.ended[0][0].timeline.tries == 1
    assert not upstream.requests
    await proxy.stop()
    await upstream.stop()


async def test_u3_a_right_certificate_is_served(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    upstream = await Upstream().start(authority.sign("localhost").server())
    proxy = await Proxy(f"https://localhost:{upstream.port}", ca_file=authority.file).start()

    for _ in range(3):
        assert (await ask(proxy, PUT)).status == 200

    assert len(upstream.lines) == 1
    await proxy.stop()
    await upstream.stop()


@pytest.mark.parametrize("start", [GET, *WRITES])
async def test_u5_a_connection_reset_before_its_use_is_not_noticed(start: bytes) -> None:
    async with running(warm=1) as (upstream, proxy):
        (await upstream.accepted()).reset()
        await until(lambda: proxy.generation.pool.opened == 2)

        assert (await ask(proxy, start)).status == 200
        assert len(upstream.requests) == 1


async def test_u16_an_idle_connection_that_ends_with_the_goodbye_of_tls_is_not_noticed(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    upstream = await Upstream().start(authority.sign("localhost").server())
    proxy = await Proxy(f"https://localhost:{upstream.port}", ca_file=authority.file).start()

    for number in range(3):
        assert (await ask(proxy, PUT)).status == 200
        assert len(upstream.requests) == len(upstream.lines) == number + 1
        upstream.lines[-1].writer.close()
        await until(lambda: proxy.generation.pool.idle == 0)

    await proxy.stop()
    await upstream.stop()


@pytest.mark.parametrize("start", [GET, *WRITES])
async def test_calls_go_through_a_tunnel_and_their_connections_are_kept(tmp_path: Path, start: bytes) -> None:
    authority = Authority(tmp_path)
    upstream = await Upstream().start(authority.sign(NAME).server())
    async with tunnelling(upstream.port) as tunnels:
        proxy = await Proxy(f"https://{NAME}", ca_file=authority.file, egress=tunnels.rules).start()
        for _ in range(5):
            assert (await ask(proxy, start)).status == 200

        assert len(upstream.requests) == 5
        assert len(tunnels.heads) == len(upstream.lines) == 1
        assert tunnels.heads[0].startswith(b"CONNECT shop.talon.one:443 ")
        assert b"\r\nHost: shop.talon.one\r\n" in upstream.requests[0]
        await proxy.stop()
    await upstream.stop()


@pytest.mark.parametrize(
    ("line", "failure", "tries"),
    [
        (b"407 Proxy Authentication Required", (502, "proxy_configuration_error", "not-sent"), 1),
        (b"503 Service Unavailable", (502, "destination_unavailable", "not-sent"), 3),
    ],
)
async def test_a_tunnel_that_does_not_open_is_told_and_no_call_is_sent_to_the_proxy(
    line: bytes, failure: tuple[int, str, str], tries: int
) -> None:
    async with tunnelling(answer=b"HTTP/1.1 %b\r\n\r\n" % line) as tunnels:
        proxy = await Proxy(f"http://{NAME}", egress=tunnels.rules).start()

        assert (await ask(proxy, PUT)).failure == failure
        assert proxy.witness.ended[0][0].timeline.tries == len(tunnels.heads) == tries
        await proxy.stop()


# --- after the request was sent ---


@pytest.mark.parametrize("start", WRITES)
@pytest.mark.parametrize("how", [Line.reset, Line.half_close])
async def test_u6_a_write_lost_without_a_byte_arrived_once_and_its_outcome_is_unknown(
    start: bytes, how: Callable[[Line], None]
) -> None:
    async with running() as (upstream, proxy):
        upstream.answer = None
        call = asking(proxy, start)
        line, _ = await upstream.received()
        how(line)

        assert (await call).failure == (502, "connection_terminated", "unknown")
        assert len(upstream.requests) == 1


@pytest.mark.parametrize("start", [GET, WRITES[1]])
async def test_u6_a_read_or_a_write_with_a_key_that_is_lost_is_sent_once_more_the_same(start: bytes) -> None:
    async with running() as (upstream, proxy):
        upstream.answer = None
        call = asking(proxy, start, key=b"k")
        line, first = await upstream.received()
        line.reset()
        line, second = await upstream.received()
        await line.send(OK)

        assert (await call).status == 200
        assert without_id(first) == without_id(second)


@pytest.mark.parametrize("start", WRITES)
async def test_u7_a_write_lost_in_its_body_is_not_repeated(start: bytes) -> None:
    async def script(line: Line, _: int) -> None:
        await line.head()
        await line.exactly(1000)
        line.reset()

    async with scripted(script) as (lines, proxy):
        answer = await ask(proxy, start, b" " * (4 << 20))

        assert answer.failure == (502, "connection_terminated", "unknown")
        assert len(lines) == 1


@pytest.mark.parametrize("how", [Line.reset, Line.half_close])
async def test_u8_a_head_cut_short_is_no_answer_and_part_of_no_other(how: Callable[[Line], None]) -> None:
    async with running() as (upstream, proxy):
        upstream.answer = None
        call = asking(proxy, PUT)
        line, _ = await upstream.received()
        await line.send(b"HTTP/1.1 200 OK\r\nX-Cut: 1\r\nContent-Le")
        await asyncio.sleep(0.02)
        how(line)
        assert (await call).failure == (502, "http_response_incomplete", "unknown")

        upstream.answer = lambda _: OK
        answer = await ask(proxy)
        assert answer.status == 200
        assert answer["X-Cut"] is None
        assert len(upstream.requests) == 2


def answer_of(status: int, body: bytes, *lines: bytes) -> bytes:
    head = [b"HTTP/1.1 %d X" % status, *lines, b"Content-Length: %d" % len(body)]
    return b"\r\n".join((*head, b"", body))


CUT = {
    "length": (b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n", b"x" * 500),
    "chunked": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1f4\r\n" + b"x" * 500 + b"\r\n"),
}


@pytest.mark.parametrize("framing", CUT)
@pytest.mark.parametrize("how", [Line.reset, Line.half_close])
async def test_u9_a_body_cut_short_is_not_delivered_as_whole(framing: str, how: Callable[[Line], None]) -> None:
    async with running() as (upstream, proxy):
        upstream.answer = None
        call = asking(proxy, PUT)
        line, _ = await upstream.received()
        await line.send(b"".join(CUT[framing]))
        await asyncio.sleep(0.02)
        how(line)

        assert (await call).failure == (502, "http_response_incomplete", "unknown")
        assert len(upstream.requests) == 1


def shut_without_goodbye(line: Line) -> None:
    """End TCP under TLS: nobody vouches that the body was whole (RFC 9112 §9.8)."""
    with socket.socket(fileno=os.dup(line.writer.get_extra_info("socket").fileno())) as link:
        link.shutdown(socket.SHUT_WR)


@pytest.mark.parametrize("goodbye", [False, True])
async def test_u9_a_body_that_ends_with_its_connection_needs_the_goodbye_of_tls(tmp_path: Path, goodbye: bool) -> None:
    authority = Authority(tmp_path)
    upstream = await Upstream().start(authority.sign("localhost").server())
    proxy = await Proxy(f"https://localhost:{upstream.port}", ca_file=authority.file).start()
    upstream.answer = None
    call = asking(proxy, PUT)
    line, _ = await upstream.received()
    await line.send(b"HTTP/1.1 200 OK\r\n\r\nhalf or whole")
    if goodbye:
        line.writer.close()
    else:
        shut_without_goodbye(line)

    answer = await call
    if goodbye:
        assert (answer.status, answer.body) == (200, b"half or whole")
    else:
        assert answer.failure == (502, "http_response_incomplete", "unknown")
    await proxy.stop()
    await upstream.stop()


@pytest.mark.parametrize("framing", CUT)
@pytest.mark.parametrize("how", [Line.reset, Line.half_close])
async def test_u9_a_stream_cut_short_ends_without_its_end(framing: str, how: Callable[[Line], None]) -> None:
    async with running(reply=100) as (upstream, proxy):
        upstream.answer = None
        client = await proxy.client()
        await client.send(b"%b HTTP/1.1\r\nHost: localhost\r\n\r\n" % GET)
        line, _ = await upstream.received()
        await line.send(b"".join(CUT[framing]))
        head = await client.head()
        await client.exactly(500)
        how(line)

        rest = await client.to_end()
        assert head.startswith(b"HTTP/1.1 200 ")
        assert b"0\r\n\r\n" not in rest
        assert len(rest) < 20
        await client.close()
        await until(lambda: len(proxy.witness.ended) == 1)
        assert proxy.witness.ended[0][2] is False


@pytest.mark.parametrize("start", [GET, PUT])
async def test_u10_a_peer_that_closes_behind_its_answers_is_not_noticed(start: bytes) -> None:
    async with running() as (upstream, proxy):
        upstream.answer = None
        for number in range(20):
            call = asking(proxy, start)
            line, _ = await upstream.received()
            await line.send(OK)
            line.half_close()
            assert (await call).status == 200
            assert len(upstream.requests) == number + 1


async def test_u11_a_silent_peer_ends_at_the_response_timeout() -> None:
    async with running(response_timeout=0.2) as (upstream, proxy):
        upstream.answer = None
        call = asking(proxy, PUT)
        line, _ = await upstream.received()

        assert (await call).failure == (504, "connection_read_timeout", "unknown")
        await until(line.reader.at_eof)  # closed, so nothing of it can be taken for another's
        assert len(upstream.requests) == 1


@pytest.mark.parametrize(
    ("options", "token"),
    [({"response_timeout": 0.3}, "connection_read_timeout"), ({"total_timeout": 0.3}, "http_response_timeout")],
)
@pytest.mark.parametrize("said", [b"HTTP/1.1 200 OK\r\nX: " + b"x" * 500, CUT["length"][0] + b"x" * 500])
async def test_u12_a_dribbling_answer_ends_at_the_deadline(options: dict[str, float], token: str, said: bytes) -> None:
    async with running(**options) as (upstream, proxy):
        upstream.answer = None
        begun = time.monotonic()
        call = asking(proxy, PUT)
        line, _ = await upstream.received()
        dribbled = 0
        with contextlib.suppress(ConnectionError):  # at its end the proxy closes
            while dribbled < len(said) and not call.done():
                await line.send(said[dribbled : dribbled + 1])
                await asyncio.sleep(0.01)
                dribbled += 1

        assert (await call).failure == (504, token, "unknown")
        assert time.monotonic() - begun > 0.29
        assert dribbled < len(said)
        assert len(upstream.requests) == 1


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 70_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 129 + b"\r\n",
        b"HTTP/1.1 103 Early Hints\r\n\r\n" * 5000 + OK,  # U15
    ],
)
async def test_u13_u15_a_head_without_end_is_refused(head: bytes) -> None:
    async with running() as (upstream, proxy):
        upstream.answer = lambda _: head

        assert (await ask(proxy, PUT)).failure == (502, "http_protocol_error", "unknown")
        assert len(upstream.requests) == 1
        assert proxy.generation.pool.idle == 0


@pytest.mark.parametrize("framed", [False, True])
async def test_u13_a_body_over_the_limit_is_streamed(framed: bool) -> None:
    body = b"y" * 3_000_000
    async with running(reply=1000) as (upstream, proxy):
        framing = b"Content-Length: %d\r\n\r\n" % len(body) if framed else b"Transfer-Encoding: chunked\r\n\r\n"
        content = body if framed else b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
        upstream.answer = lambda _: b"HTTP/1.1 200 OK\r\n" + framing + content

        answer = await ask(proxy)

        assert answer.status == 200
        if framed:
            assert answer.body == body
        else:
            assert answer["Transfer-Encoding"] == "chunked"
            assert answer.body.count(b"y") == len(body)
            assert answer.body.endswith(b"\r\n0\r\n\r\n")
        await until(lambda: proxy.generation.pool.idle == 1)


@pytest.mark.parametrize("framing", CUT)
async def test_u13_a_stream_that_cannot_be_held_behind_another_answer_is_given_up_quietly(
    framing: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Two calls on one connection; the second one's answer is too large, and comes first."""
    async with running(reply=100) as (upstream, proxy):
        upstream.answer = None
        client = await proxy.client()
        await client.send((b"%b HTTP/1.1\r\nHost: localhost\r\n\r\n" % GET) * 2)
        (first, _), (second, _) = await upstream.received(), await upstream.received()
        await second.send(b"".join(CUT[framing]))
        await until(second.reader.at_eof)  # given up, with its connection
        await first.send(OK)

        answers = [Answer(b"".join(await client.message())) for _ in range(2)]
        assert [answer.status for answer in answers] == [200, 502]
        assert answers[1].failure == (502, "http_response_body_size", None)
        assert not caplog.records
        await until(lambda: proxy.generation.pool.idle == 1)
        assert proxy.generation.pool.active == 0
        await client.close()


# --- answers that are no success ---


@pytest.mark.parametrize("status", [401, 403])
@pytest.mark.parametrize("start", [GET, *WRITES])
async def test_u21_a_refused_key_is_the_answer_and_does_not_stand_in_it(status: int, start: bytes) -> None:
    async with running() as (upstream, proxy):
        echo = b"your ApiKey-v1 %b is not known" % KEY.encode()
        upstream.answer = lambda _: answer_of(status, echo, b"X-Echo: %b" % KEY.encode())

        answer = await ask(proxy, start)
        assert answer.status == status
        assert KEY.encode() not in answer.raw
        assert answer.body == echo.replace(KEY.encode(), b"*" * len(KEY))
        assert len(upstream.requests) == 1


async def test_u22_a_full_queue_is_tried_again_and_the_next_write_waits_behind_it() -> None:
    async with running(lanes=LaneRules()) as (upstream, proxy):
        upstream.answer = None
        first, second = asking(proxy, PUT, b'{"n":1}'), None
        line, _ = await upstream.received()
        second = asking(proxy, PUT, b'{"n":2}')
        await until(lambda: proxy.traffic.lanes.waiting == 1)
        await line.send(answer_of(409, PARALLEL_SESSION))
        line, again = await upstream.received()
        assert again.endswith(b'{"n":1}')
        await line.send(OK)
        line, last = await upstream.received()
        await line.send(OK)

        assert last.endswith(b'{"n":2}')
        assert [(await call).status for call in (first, second)] == [200, 200]
        assert len(upstream.requests) == 3


@pytest.mark.parametrize(
    ("status", "start", "times"), [(429, PUT, 1), (429, GET, 1), (503, PUT, 1), (503, WRITES[1], 1), (503, GET, 2)]
)
async def test_u23_who_is_told_to_come_later_is_told_so_and_a_read_is_tried_once_more(
    status: int, start: bytes, times: int
) -> None:
    async with running() as (upstream, proxy):
        upstream.answer = lambda _: answer_of(status, b"later", b"Retry-After: 1")

        answer = await ask(proxy, start)
        assert (answer.status, answer.body, answer["Retry-After"]) == (status, b"later", "1")
        assert len(upstream.requests) == times


@pytest.mark.parametrize("start", [GET, *WRITES])
async def test_u24_an_error_of_talon_ones_is_passed_on_and_nothing_is_repeated(start: bytes) -> None:
    async with running() as (upstream, proxy):
        upstream.answer = lambda _: answer_of(500, b"oops")

        answer = await ask(proxy, start)
        assert (answer.status, answer.body) == (500, b"oops")
        assert answer["Proxy-Status"] is None
        assert len(upstream.requests) == 1


@pytest.mark.parametrize(
    ("status", "body", "lines"),
    [
        (307, b"", [b"Location: https://elsewhere.example/v2"]),
        (200, b"\x1f\x8b not asked for", [b"Content-Encoding: gzip", b"Content-Type: application/json"]),
        (200, b"<html>", [b"Content-Type: text/html"]),
        (200, b'{"half": ', [b"Content-Type: application/json"]),
        (200, b"\xff\xfe\x00", [b"Content-Type: application/json; charset=utf-8"]),
        (409, b"{ no JSON", [b"Content-Type: application/json"]),
    ],
)
async def test_u25_what_is_not_as_it_should_be_passes_byte_for_byte(
    status: int, body: bytes, lines: list[bytes]
) -> None:
    async with running() as (upstream, proxy):
        upstream.answer = lambda _: answer_of(status, body, *lines)

        answer = await ask(proxy, PUT)
        assert (answer.status, answer.body) == (status, body)
        assert b"\r\n".join(lines) in answer.head
        assert len(upstream.requests) == 1


# --- answers nobody asked for ---


@pytest.mark.parametrize(
    "stray", [b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n", OK, b"\x15\x03\x03\x00\x02\x01\x00"]
)
async def test_u16_what_is_said_on_an_idle_connection_reaches_nobody(stray: bytes) -> None:
    async with running() as (upstream, proxy):
        upstream.answer = None
        for expected in (b"one", b"two"):
            call = asking(proxy, PUT)
            line, _ = await upstream.received()
            await line.send(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n" + expected)
            assert (await call).body == expected
            await line.send(stray)
            await until(line.reader.at_eof)

        assert len(upstream.requests) == 2
        assert len(upstream.lines) == 2


async def test_u17_a_second_answer_is_not_the_next_calls() -> None:
    async with running() as (upstream, proxy):
        upstream.answer = lambda _: OK + b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nSTOLEN"

        for number in range(5):
            assert (await ask(proxy, PUT)).body == b"OK"
            assert len(upstream.lines) == number + 1


async def test_u18_an_answer_before_the_body_was_read_passes_and_its_connection_is_not_reused() -> None:
    async def script(line: Line, _: int) -> None:
        await line.head()
        await line.send(b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 3\r\n\r\nbig")
        line.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await asyncio.get_running_loop().create_future()

    async with scripted(script) as (lines, proxy):
        for number in range(2):
            answer = await ask(proxy, PUT, b" " * (7 << 20))
            assert (answer.status, answer.body) == (413, b"big")
            assert len(lines) == number + 1


@pytest.mark.parametrize("first", [b"", b"HTTP/1.1 100 Continue\r\n\r\n"])
async def test_u19_the_body_goes_along_whether_or_not_the_peer_would_have_asked_for_it(first: bytes) -> None:
    async with running() as (upstream, proxy):
        upstream.answer = lambda _: first + b"HTTP/1.1 417 Expectation Failed\r\nContent-Length: 0\r\n\r\n"
        client = await proxy.client()
        await client.send(PUT + b" HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n")
        assert (await client.head()).startswith(b"HTTP/1.1 100 ")
        await client.send(b"{}")

        assert (await client.head()).startswith(b"HTTP/1.1 417 ")
        assert b"expect" not in upstream.requests[0].lower()
        assert upstream.requests[0].endswith(b"\r\n\r\n{}")
        await client.close()


async def test_u20_an_answer_whose_peer_says_that_it_is_the_last_is_delivered_and_its_connection_left() -> None:
    async with running() as (upstream, proxy):
        upstream.answer = None
        for number in range(3):
            call = asking(proxy, PUT)
            line, _ = await upstream.received()
            line.writer.write(OK[:-1])
            line.writer.write(OK[-1:])
            line.half_close()
            assert (await call).body == b"OK"
            await until(lambda: proxy.generation.pool.idle == 0)
            assert len(upstream.lines) == number + 1


# --- callers who leave ---


async def test_k3_a_caller_who_leaves_while_queued_has_sent_nothing() -> None:
    async with running(max_connections=1) as (upstream, proxy):
        upstream.answer = None
        first = asking(proxy, PUT)
        line, _ = await upstream.received()
        leaving = await proxy.client()
        await leaving.send(request(b"POST /v2/events", b'"left"'))
        await until(lambda: "waiting=1" in repr(proxy.generation.pool))
        staying = asking(proxy, b"POST /v2/events", b'"stayed"')
        await until(lambda: "waiting=2" in repr(proxy.generation.pool))

        leaving.reset()
        await until(lambda: "waiting=1" in repr(proxy.generation.pool))
        assert [sent for _, sent in proxy.witness.left] == [Sent.NO]
        await line.send(OK)
        again, body = await upstream.received()
        await again.send(OK)

        assert (await first).status == (await staying).status == 200
        assert again is line
        assert body.endswith(b'"stayed"')
        assert len(upstream.requests) == 2


@pytest.mark.parametrize("start", [GET, PUT])
@pytest.mark.parametrize("how", [Line.reset, Line.half_close])
async def test_k4_k5_a_sent_call_lands_without_its_caller(start: bytes, how: Callable[[Line], None]) -> None:
    async with running() as (upstream, proxy):
        upstream.answer = None
        client = await proxy.client()
        await client.send(request(start))
        line, _ = await upstream.received()
        how(client)
        await until(lambda: len(proxy.witness.left) == 1)
        assert proxy.witness.left[0][1] is Sent.MAYBE

        await line.send(OK)
        await until(lambda: proxy.generation.pool.idle == 1)
        call = asking(proxy, start)
        again, _ = await upstream.received()
        await again.send(OK)

        assert (await call).status == 200
        assert again is line
        client.reset()


async def test_k8_a_slow_reader_of_a_held_answer_holds_no_connection() -> None:
    body = b"z" * (4 << 20)
    async with running() as (upstream, proxy):
        upstream.answer = lambda _: b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
        client = await proxy.client()
        client.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await client.send(request(GET))

        await until(lambda: proxy.generation.pool.idle == 1)
        assert proxy.generation.pool.active == 0
        client.writer.transport.resume_reading()  # type: ignore[attr-defined]
        assert (await client.to_end()).endswith(body)
        await client.close()


async def test_k8_a_reader_of_a_stream_that_stops_is_cut_off_with_its_connection() -> None:
    async def script(line: Line, _: int) -> None:
        await line.head()
        await line.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (1 << 30))
        while True:
            line.writer.write(b"z" * (1 << 20))
            await line.writer.drain()

    async with scripted(script, reply=1000, timeouts=Timeouts(10.0, 10.0, 0.3, 3600.0)) as (_, proxy):
        client = await proxy.client()
        client.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await client.send(request(GET))

        await until(lambda: len(proxy.witness.ended) == 1)
        assert proxy.witness.ended[0][2] is False
        await until(lambda: proxy.generation.pool.active == 0)
        client.reset()


async def test_k8_a_slow_reader_gets_a_stream_whole_and_the_next_call_is_not_slowed() -> None:
    body = b"z" * (6 << 20)
    async with running(reply=1000, response_timeout=1.0) as (upstream, proxy):
        upstream.answer = lambda asked: (
            b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body) if b"/big" in asked else OK
        )
        client = await proxy.client()
        client.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await client.send(request(b"GET /v2/customer_sessions/big"))
        await until(lambda: len(upstream.requests) == 1)

        for _ in range(10):
            assert (await ask(proxy)).status == 200
        client.writer.transport.resume_reading()  # type: ignore[attr-defined]

        assert (await client.to_end()).endswith(b"\r\n\r\n" + body)
        await client.close()


async def test_a_reset_between_the_answer_and_the_next_call_costs_nobody_an_answer() -> None:
    async def script(line: Line, _: int) -> None:
        for _turn in range(3):
            await line.message()
            await line.send(OK)
        line.reset()

    async with scripted(script) as (_, proxy):
        client = await proxy.client()
        for _turn in range(30):
            await client.send(PUT + b" HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n")
            head, _body = await patiently(client.message())
            assert head.startswith(b"HTTP/1.1 200 ")
            await asyncio.sleep(0.005)
        await client.close()
