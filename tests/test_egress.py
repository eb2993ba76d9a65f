"""The way out, on real sockets: through a proxy, from an address of this machine, with a certificate of ours."""

import asyncio
import base64
import errno
import ssl
import subprocess
from pathlib import Path
from typing import Any

import pytest

from proxy.errors import (
    Category,
    CertificateError,
    ConnectionRefused,
    ConnectTimeout,
    NameNotResolved,
    OutOfFiles,
    TlsError,
    TunnelDenied,
    TunnelRefused,
    UpstreamError,
)
from proxy.messages import Sent
from proxy.wire.dialing import is_permanent, tls_context
from proxy.wire.egress import EgressRules, Via
from tests import process
from tests.certificates import Authority, Pair
from tests.harness import patiently, until
from tests.test_dialing import SHORT, Caller, dialer, failure, token
from tests.way import NAME, Names, refusing, serving, tunnelling, unanswering

PASSWORD = "c0ffee-of-the-proxy"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def good(authority: Authority) -> Pair:
    return authority.sign("localhost", NAME, "127.0.0.1")


async def said(caller: Caller, text: bytes) -> None:
    """Say something to an echo, and hear it."""
    caller.transport.write(text)
    await until(lambda: caller.received == text)


async def leave(caller: Caller) -> None:
    caller.transport.abort()
    await patiently(caller.gone)


# --- through a proxy ---


async def test_tls_is_spoken_with_the_host_behind_the_proxy_and_the_proxy_looks_it_up(
    authority: Authority, good: Pair
) -> None:
    async with serving(good.server()) as server, tunnelling(server.port) as tunnels:
        names = Names(("127.0.0.1", tunnels.port))
        rules = EgressRules(Via("egress.shop.internal", 3128))
        caller = Caller()
        await dialer(8443, tls_context(authority.file), host=NAME, rules=rules, resolve=names).open(lambda _: caller)
        await said(caller, b"hello")

        assert names.asked == [("egress.shop.internal", 3128)]
        assert tunnels.heads == [b"CONNECT shop.talon.one:8443 HTTP/1.1\r\nHost: shop.talon.one:8443\r\n\r\n"]
        assert server.heard == b"hello"
        await leave(caller)


async def test_a_cleartext_upstream_goes_through_a_tunnel_as_well() -> None:
    async with serving() as server, tunnelling(server.port) as tunnels:
        caller = Caller()
        await dialer(80, host=NAME, rules=tunnels.rules).open(lambda _: caller)
        await said(caller, b"hello")

        assert server.heard == b"hello"
        await leave(caller)


async def test_an_ipv6_host_is_named_in_brackets() -> None:
    async with tunnelling(answer=b"HTTP/1.1 502 Bad Gateway\r\n\r\n") as tunnels:
        await failure(dialer(443, host="2001:db8::7", rules=tunnels.rules))

        assert tunnels.heads[0].startswith(b"CONNECT [2001:db8::7]:443 HTTP/1.1\r\nHost: [2001:db8::7]:443\r\n")


async def test_credentials_go_to_the_proxy_and_nowhere_else(authority: Authority, good: Pair) -> None:
    async with serving(good.server()) as server, tunnelling(server.port) as tunnels:
        via = Via("127.0.0.1", tunnels.port, b"Basic " + PASSWORD.encode())
        rules = EgressRules(via)
        opening = dialer(443, tls_context(authority.file), host=NAME, rules=rules)
        caller = Caller()
        await opening.open(lambda _: caller)
        await said(caller, b"hello")

        assert tunnels.heads[0].endswith(b"\r\nProxy-Authorization: Basic %b\r\n\r\n" % PASSWORD.encode())
        assert PASSWORD not in f"{via!r} {rules!r} {opening.egress!r}"
        assert PASSWORD.encode() not in server.heard
        await leave(caller)


async def test_the_credentials_of_a_proxy_show_nowhere() -> None:
    encoded = base64.b64encode(f"me:{PASSWORD}".encode())
    async with tunnelling(answer=b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n") as tunnels:
        egress = f"http://me:{PASSWORD}@127.0.0.1:{tunnels.port}"
        async with process.serving(f"https://{NAME}", upstream__proxy=egress, log__level="debug") as proxy:
            answer = await proxy.ask("PUT", "/v2/customer_sessions/s", b"{}")
            shown = [await proxy.ask_admin(target) for target in ("/status", "/metrics", "/readyz?verbose")]

        assert answer.field("Proxy-Status") == "talon-proxy; error=proxy_configuration_error"
        assert encoded in tunnels.heads[0]
        for text in (proxy.out, *(f"{each.head}{each.body!r}" for each in (answer, *shown))):
            assert text
            assert PASSWORD not in text
            assert encoded.decode() not in text


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 5\r\n\r\nlogin", TunnelDenied),
        (b"HTTP/1.1 403 Forbidden\r\n\r\n", TunnelDenied),
        (b"HTTP/1.1 401 Unauthorized\r\n\r\n", TunnelDenied),
        (b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 2\r\n\r\nno", TunnelRefused),
        (b"HTTP/1.1 302 Found\r\nLocation: http://evil.example/\r\n\r\n", TunnelRefused),
        (b"HTTP/1.1 100 Continue\r\n\r\n", TunnelRefused),
        (b"HTTP/1.1 200 OK\r\n\r\nsurprise", TunnelRefused),
        (b"HTTP/2.0 200 OK\r\n\r\n", TunnelRefused),
        (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", TunnelRefused),
        (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 5000, TunnelRefused),
        (b"", TunnelRefused),
    ],
)
async def test_a_proxy_that_opens_no_tunnel_is_told_apart_and_nothing_is_sent_to_it(
    authority: Authority, answer: bytes, kind: type[UpstreamError]
) -> None:
    async with tunnelling(answer=answer) as tunnels:
        error = await failure(dialer(443, tls_context(authority.file), host=NAME, rules=tunnels.rules))

        assert type(error) is kind
        assert is_permanent(error) is (kind is TunnelDenied)
        denied = kind is TunnelDenied
        assert token(error) == (502, b"proxy_configuration_error" if denied else b"destination_unavailable")
        assert len(tunnels.heads) == 1


async def test_a_proxy_that_does_not_answer_ends_at_the_connect_timeout() -> None:
    async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(-1)

    async with serving(answer=say_nothing) as server:
        rules = EgressRules(Via("127.0.0.1", server.port))
        error = await failure(dialer(443, host=NAME, rules=rules, timeout=SHORT))

    assert type(error) is ConnectTimeout


async def test_a_proxy_that_cannot_be_reached_is_what_the_error_names() -> None:
    error = await failure(dialer(443, host=NAME, rules=EgressRules(Via("127.0.0.1", refusing()))))
    assert type(error) is ConnectionRefused
    assert "upstream.proxy" in error.details

    rules = EgressRules(Via("egress.shop.internal", 3128))
    missing = await failure(dialer(443, host=NAME, rules=rules, resolve=Names()))
    assert type(missing) is NameNotResolved


async def test_u3_the_certificate_of_the_host_is_verified_behind_a_proxy_too(authority: Authority) -> None:
    async with (
        serving(authority.sign("evil.example").server()) as server,
        tunnelling(server.port) as tunnels,
    ):
        error = await failure(dialer(443, tls_context(authority.file), host=NAME, rules=tunnels.rules))

        assert type(error) is CertificateError
        assert server.heard == b""


# --- from an address ---


@pytest.mark.parametrize(("host", "bind"), [("127.0.0.1", "127.0.0.9"), ("::1", "::1")])
async def test_connections_come_from_the_address_that_is_wanted(host: str, bind: str) -> None:
    came: list[Any] = []

    async def look(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        came.append(writer.get_extra_info("peername")[0])
        await reader.read(-1)

    async with serving(host=host, answer=look) as server:
        caller = Caller()
        await dialer(server.port, host=host, rules=EgressRules(bind=bind)).open(lambda _: caller)
        assert caller.transport.get_extra_info("sockname")[0] == bind
        await leave(caller)
        await until(lambda: bool(came))

    assert came == [bind]


async def test_addresses_of_the_other_family_are_not_tried() -> None:
    async with serving() as server:
        names = Names(("::1", server.port), ("127.0.0.1", server.port))
        caller = Caller()
        await dialer(443, host=NAME, rules=EgressRules(bind="127.0.0.1"), resolve=names).open(lambda _: caller)
        assert caller.transport.get_extra_info("peername")[0] == "127.0.0.1"
        await leave(caller)

    error = await failure(dialer(443, host="127.0.0.1", rules=EgressRules(bind="::1")))
    assert type(error) is ConnectionRefused
    assert "different families" in error.details


@pytest.mark.parametrize("more", [(), (("127.0.0.2", 443),)])
async def test_an_address_that_is_not_ours_is_named(more: tuple[tuple[str, int], ...]) -> None:
    names = Names(("127.0.0.1", 443), *more)
    error = await failure(dialer(443, host=NAME, rules=EgressRules(bind="192.0.2.1"), resolve=names))

    assert type(error) is ConnectionRefused
    assert error.details == "upstream.bind is no address of this machine"


async def test_u4_a_black_hole_from_an_address_ends_at_the_connect_timeout() -> None:
    with unanswering() as port:
        rules = EgressRules(bind="127.0.0.1")
        error = await failure(dialer(port, host="127.0.0.1", rules=rules, timeout=SHORT))

    assert type(error) is ConnectTimeout


async def test_giving_up_while_several_addresses_are_tried_leaves_no_socket(recwarn: pytest.WarningsRecorder) -> None:
    with unanswering() as hole, unanswering() as other:
        names = Names(("127.0.0.1", hole), ("127.0.0.1", other))
        error = await failure(dialer(443, host=NAME, timeout=2 * SHORT, resolve=names))

    assert type(error) is ConnectTimeout
    assert not recwarn


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE])
async def test_p9_where_no_file_may_be_opened_it_is_not_talon_one_that_fails(
    number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: object) -> None:
        raise OSError(number, "too many open files")

    monkeypatch.setattr("proxy.wire.egress._make_socket", refuse)
    names = Names(("127.0.0.1", 443), ("127.0.0.2", 443))
    opening = dialer(443, host=NAME, resolve=names)
    error = await failure(opening)

    assert type(error) is OutOfFiles
    assert error.category is Category.CONCURRENCY
    assert len(names.asked) == 1


# --- with a certificate of ours ---


def asking(pair: Pair, authority: Authority) -> ssl.SSLContext:
    """A server that asks for a certificate. With TLS 1.2 a refusal is part of the handshake."""
    context = pair.server()
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(authority.file)
    return context


async def test_a_certificate_is_shown_to_a_peer_that_asks_for_one(authority: Authority, good: Pair) -> None:
    ours = authority.sign("shop-backend")
    shown: list[Any] = []

    async def look(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        shown.append(writer.get_extra_info("peercert")["subject"])
        writer.write(await reader.read(100))
        await reader.read(-1)

    async with serving(asking(good, authority), answer=look) as server:
        tls = tls_context(authority.file, certificate=ours.certificate, key=ours.key)
        caller = Caller()
        await dialer(server.port, tls).open(lambda _: caller)
        await said(caller, b"hello")
        await leave(caller)

    assert shown == [((("commonName", "shop-backend"),),)]


async def test_without_the_certificate_that_a_peer_asks_for_the_handshake_fails(
    authority: Authority, good: Pair
) -> None:
    context = asking(good, authority)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    async with serving(context) as server:
        error = await failure(dialer(server.port, tls_context(authority.file)))

        assert type(error) is TlsError
        assert error.sent is Sent.NO


def test_a_key_with_a_password_is_refused_and_nobody_is_asked_for_it(authority: Authority, tmp_path: Path) -> None:
    ours = authority.sign("shop-backend")
    locked = tmp_path / "locked.key"
    subprocess.run(
        ["openssl", "pkey", "-in", ours.key, "-aes256", "-passout", "pass:secret", "-out", locked],
        check=True,
        capture_output=True,
    )

    with pytest.raises(ValueError, match="password"):
        tls_context(authority.file, certificate=ours.certificate, key=locked)
