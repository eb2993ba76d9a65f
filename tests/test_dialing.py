"""Opening connections, on real sockets: what goes wrong is told apart, and nothing is sent before it is right."""

import asyncio
import functools
import gc
import socket
import ssl
import time
from pathlib import Path
from typing import Any

import pytest

from proxy.errors import (
    CertificateError,
    ConnectionRefused,
    ConnectTimeout,
    NameNotResolved,
    NameTimeout,
    TlsError,
    UpstreamError,
    to_reply,
)
from proxy.messages import Sent
from proxy.wire import names
from proxy.wire.connection import Closing, Connection
from proxy.wire.dialing import Dialer, Wanted, is_permanent, tls_context
from proxy.wire.egress import NEXT_AFTER, Egress, EgressRules
from proxy.wire.names import Resolve
from proxy.wire.wheel import Wheel
from tests.certificates import Authority, Pair
from tests.harness import patiently
from tests.way import NAME, Answering, Names, refusing, serving, unanswering

SHORT = 0.3  # seconds that a test of a time-out takes
LONG = 60.0  # seconds that no test waits for


def _given(caller: "Caller", _: str) -> "Caller":
    return caller


class Caller(Connection):
    """What a dialer connects."""

    def __init__(self) -> None:
        self.transport: Any = None
        self.received = b""
        self.gone = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.received += data

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.gone.done():
            self.gone.set_result(None)

    def close(self, reason: Closing) -> None:
        self.transport.abort()

    async def ready(self) -> None:
        pass


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def good(authority: Authority) -> Pair:
    return authority.sign("localhost", "127.0.0.1", "::1")


def dialer(
    port: int,
    tls: ssl.SSLContext | None = None,
    *,
    host: str = "localhost",
    protocol: Wanted = "auto",
    timeout: float = LONG,
    rules: EgressRules = EgressRules(),  # noqa: B008 - frozen
    resolve: Resolve | None = None,
) -> Dialer:
    wheel = Wheel(time.monotonic, asyncio.get_running_loop().call_later)
    egress = Egress(host, port, rules, wheel=wheel, resolve=resolve)
    return Dialer(egress, tls, protocol=protocol, timeout=timeout, clock=time.monotonic)


async def failure(opening: Dialer) -> UpstreamError:
    """Dial in vain; nothing is left behind."""
    caller = Caller()
    with pytest.raises(UpstreamError) as caught:
        await patiently(opening.open(lambda _: caller))
    assert caught.value.sent is Sent.NO
    if caller.transport is not None:
        await patiently(caller.gone)
    gc.collect()  # a socket that was not closed would be reported now
    return caught.value


def token(error: UpstreamError) -> tuple[int, bytes]:
    reply = to_reply(error)
    lines = [line.split(b": ", 1) for line in reply.block.splitlines()]
    fields = {name.lower(): value for name, value in lines}
    assert fields[b"talon-proxy-outcome"] == b"not-sent"
    return reply.status, fields[b"proxy-status"].removeprefix(b"talon-proxy; error=")


# --- well ---


@pytest.mark.parametrize("secure", [False, True])
async def test_a_connection_is_opened_and_told_how_long_it_took(authority: Authority, good: Pair, secure: bool) -> None:
    async with serving(good.server() if secure else None) as server:
        caller = Caller()
        _, opened = await dialer(server.port, tls_context(authority.file) if secure else None).open(lambda _: caller)

        assert opened.connect > 0
        assert (opened.tls > 0.0005) is secure or opened.tls < 0.05
        link = caller.transport.get_extra_info("socket")
        assert link.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        if secure:
            assert caller.transport.get_extra_info("ssl_object").version() in ("TLSv1.2", "TLSv1.3")
            assert caller.transport.get_extra_info("ssl_object").selected_alpn_protocol() is None
        caller.transport.abort()
        await patiently(caller.gone)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_an_ip_address_is_a_host_too(authority: Authority, good: Pair, host: str) -> None:
    async with serving(good.server(), host=host) as server:
        caller = Caller()
        await dialer(server.port, tls_context(authority.file), host=host).open(lambda _: caller)

        assert caller.transport.get_extra_info("peername")[0] == host
        caller.transport.abort()
        await patiently(caller.gone)


@pytest.mark.parametrize(
    ("wanted", "spoken", "expected"),
    [
        ("auto", ["h2", "http/1.1"], "h2"),
        ("auto", ["http/1.1", "h2"], "http/1.1"),
        ("auto", ["http/1.1"], "http/1.1"),
        ("auto", [], "http/1.1"),
        ("http/1.1", ["h2", "http/1.1"], "http/1.1"),
        ("h2", ["h2", "http/1.1"], "h2"),
    ],
)
async def test_u30_what_both_speak_is_spoken(
    authority: Authority, good: Pair, wanted: Wanted, spoken: list[str], expected: str
) -> None:
    context = good.server()
    if spoken:
        context.set_alpn_protocols(spoken)
    async with serving(context) as server:
        caller = Caller()
        chosen: list[str] = []
        opening = dialer(server.port, tls_context(authority.file, wanted), protocol=wanted)
        await opening.open(lambda protocol: chosen.append(protocol) or caller)  # type: ignore[func-returns-value]

        assert chosen == [expected]
        caller.transport.abort()
        await patiently(caller.gone)


async def test_u30_a_peer_that_does_not_speak_what_is_demanded_is_refused(authority: Authority, good: Pair) -> None:
    async with serving(good.server()) as server:
        error = await failure(dialer(server.port, tls_context(authority.file, "h2"), protocol="h2"))

    assert isinstance(error, TlsError)


@pytest.mark.parametrize(("wanted", "expected"), [("auto", "http/1.1"), ("http/1.1", "http/1.1"), ("h2", "h2")])
async def test_in_clear_http_2_is_spoken_where_it_is_demanded(wanted: Wanted, expected: str) -> None:
    async with serving() as server:
        caller = Caller()
        chosen: list[str] = []
        opening = dialer(server.port, protocol=wanted)
        await opening.open(lambda protocol: chosen.append(protocol) or caller)  # type: ignore[func-returns-value]

        assert chosen == [expected]
        caller.transport.abort()
        await patiently(caller.gone)


async def test_every_address_is_tried_until_one_answers() -> None:
    async with serving() as server:
        known = Names(("127.0.0.1", refusing()), ("::1", refusing()), ("127.0.0.1", server.port))
        caller = Caller()
        await dialer(443, host=NAME, resolve=known).open(lambda _: caller)

        assert known.asked == [(NAME, 443)]
        assert caller.transport.get_extra_info("peername")[1] == server.port
        caller.transport.abort()
        await patiently(caller.gone)


@pytest.mark.parametrize("family", ["127.0.0.1", "::1"])
async def test_a_black_hole_among_the_addresses_costs_a_quarter_of_a_second_once(family: str) -> None:
    with unanswering() as hole:
        async with serving(host=family) as server:
            known = Names(("127.0.0.1", hole), (family, server.port))
            opening = dialer(443, host=NAME, resolve=known)
            took = []
            for _ in range(4):
                caller = Caller()
                took.append((await opening.open(functools.partial(_given, caller)))[1].connect)
                assert caller.transport.get_extra_info("peername")[1] == server.port
                caller.transport.abort()
                await patiently(caller.gone)

            assert took[0] >= NEXT_AFTER
            assert min(took[1:]) < NEXT_AFTER  # of three, because this machine may be busy
            assert [address[4][1] for address in await opening.egress.name.addresses(0.0)] == [server.port, hole]


# --- names ---


@pytest.mark.parametrize(
    "found",
    [
        (socket.gaierror(socket.EAI_NONAME, "Name or service not known"),),
        (socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution"),),
        (),
    ],
)
async def test_u2_a_name_without_an_address_is_a_dns_error(found: Any) -> None:
    error = await failure(dialer(443, host=NAME, resolve=Names(*found)))

    assert type(error) is NameNotResolved
    assert token(error) == (502, b"dns_error")


async def test_u2_a_resolver_that_does_not_answer_is_a_dns_timeout() -> None:
    opening = dialer(443, host=NAME, timeout=SHORT, resolve=Names(None))
    error = await failure(opening)
    opening.egress.stop()

    assert type(error) is NameTimeout
    assert token(error) == (504, b"dns_timeout")


async def test_u2_an_address_that_moved_is_found_without_waiting_for_the_next_refresh(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(names, "SPARED", 0.0)
    async with serving() as server:
        moving = Names(("127.0.0.1", refusing()))
        opening = dialer(443, host=NAME, resolve=moving)
        assert type(await failure(opening)) is ConnectionRefused

        moving.found = (("127.0.0.1", server.port),)
        assert type(await failure(opening)) is ConnectionRefused  # by the address that was known; looks up
        await asyncio.sleep(0)
        caller = Caller()
        await opening.open(lambda _: caller)

        assert caller.transport.get_extra_info("peername")[1] == server.port
        caller.transport.abort()
        await patiently(caller.gone)


# --- TCP ---


async def test_u1_a_port_where_nobody_listens_is_refused_at_once() -> None:
    error = await failure(dialer(refusing(), host="127.0.0.1"))

    assert type(error) is ConnectionRefused
    assert token(error) == (502, b"connection_refused")
    assert not is_permanent(error)


@pytest.mark.parametrize("secure", [False, True])
async def test_u4_a_black_hole_ends_at_the_connect_timeout(authority: Authority, secure: bool) -> None:
    with unanswering() as port:
        tls = tls_context(authority.file) if secure else None
        error = await failure(dialer(port, tls, host="127.0.0.1", timeout=SHORT))

    assert type(error) is ConnectTimeout
    assert token(error) == (504, b"connection_timeout")


# --- TLS ---


@pytest.mark.parametrize("kind", ["wrong host", "expired", "self-signed", "another authority"])
async def test_u3_a_certificate_that_is_not_right_is_refused_for_good(
    authority: Authority, tmp_path: Path, kind: str
) -> None:
    pair = {
        "wrong host": lambda: authority.sign("evil.example"),
        "expired": lambda: authority.sign("localhost", expired=True),
        "self-signed": lambda: authority.self_signed("localhost"),
        "another authority": lambda: Authority(tmp_path, "other").sign("localhost"),
    }[kind]()
    async with serving(pair.server()) as server:
        error = await failure(dialer(server.port, tls_context(authority.file)))

        assert type(error) is CertificateError
        assert token(error) == (502, b"tls_certificate_error")
        assert is_permanent(error)
        assert server.heard == b""


async def test_without_a_file_the_systems_authorities_are_trusted(good: Pair) -> None:
    async with serving(good.server()) as server:
        assert type(await failure(dialer(server.port, tls_context(None)))) is CertificateError


def test_a_file_of_authorities_that_is_none_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "empty.pem").write_text("")

    for name in ("empty.pem", "missing.pem"):
        with pytest.raises(OSError):
            tls_context(tmp_path / name)


async def test_u3_a_server_that_speaks_old_tls_only_is_refused(authority: Authority, good: Pair) -> None:
    context = good.server()
    context.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        context.minimum_version = ssl.TLSVersion.TLSv1_1
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    async with serving(context) as server:
        error = await failure(dialer(server.port, tls_context(authority.file)))

    assert type(error) is TlsError
    assert token(error) == (502, b"tls_protocol_error")


async def _say_http(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(1)
    writer.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
    await reader.read(-1)


async def _close(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(1)


async def _close_unread(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """End the connection before anything is read."""


async def _alert(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(1)
    writer.write(b"\x15\x03\x03\x00\x02\x02\x28")  # fatal: handshake_failure
    await reader.read(-1)


@pytest.mark.parametrize("answer", [_say_http, _close, _close_unread, _alert])
async def test_u3_a_handshake_that_fails_is_told_apart_from_a_refused_connection(
    authority: Authority, answer: Answering
) -> None:
    async with serving(answer=answer) as server:
        error = await failure(dialer(server.port, tls_context(authority.file)))

    assert type(error) is TlsError
    assert token(error) == (502, b"tls_protocol_error")


async def _say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(-1)


async def test_a_handshake_that_is_not_answered_ends_at_the_connect_timeout(authority: Authority) -> None:
    async with serving(answer=_say_nothing) as server:
        error = await failure(dialer(server.port, tls_context(authority.file), timeout=SHORT))

    assert type(error) is ConnectTimeout
    assert token(error) == (504, b"connection_timeout")


# --- what must not matter ---


async def test_session_keys_are_not_logged_whatever_the_environment_says(
    authority: Authority, good: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tmp_path / "keys.log"
    monkeypatch.setenv("SSLKEYLOGFILE", str(log))
    async with serving(good.server()) as server:
        caller = Caller()
        await dialer(server.port, tls_context(authority.file)).open(lambda _: caller)
        caller.transport.abort()
        await patiently(caller.gone)

    assert not log.exists()


async def test_proxies_of_the_environment_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{refusing()}")
    async with serving() as server:
        caller = Caller()
        await dialer(server.port).open(lambda _: caller)

        assert caller.transport.get_extra_info("peername")[1] == server.port
        caller.transport.abort()
        await patiently(caller.gone)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_tls_1_2_and_1_3_are_spoken(authority: Authority, good: Pair, version: ssl.TLSVersion) -> None:
    context = good.server()
    context.minimum_version = context.maximum_version = version
    async with serving(context) as server:
        caller = Caller()
        await dialer(server.port, tls_context(authority.file)).open(lambda _: caller)

        assert caller.transport.get_extra_info("ssl_object").version() == version.name.replace("_", ".")
        caller.transport.abort()
        await patiently(caller.gone)


async def test_giving_up_an_opening_closes_its_socket(authority: Authority) -> None:
    begun, ended = asyncio.Event(), asyncio.Event()

    async def wait_for_the_end(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        begun.set()
        await reader.read(-1)
        ended.set()

    async with serving(answer=wait_for_the_end) as server:
        opening = asyncio.get_running_loop().create_task(
            dialer(server.port, tls_context(authority.file)).open(lambda _: Caller()), name="opening"
        )
        await patiently(begun.wait())
        opening.cancel()
        with pytest.raises(asyncio.CancelledError):
            await opening
        await patiently(ended.wait())
