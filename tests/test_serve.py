"""The commands as an operator meets them: what is wrong is said at once, what is right listens and stops."""

import asyncio
import json
import os
import signal
import socket
import ssl
import stat
import sys
import time
from pathlib import Path

import pytest

import proxy
from tests.certificates import Authority
from tests.harness import OK, Line, Upstream
from tests.process import Answer, Ended, Serve, ask, request, serving, talon_proxy

URL = "http://127.0.0.1:9"  # nobody answers there
HAS_IPV6 = Path("/proc/net/if_inet6").exists() and "00000000000000000000000000000001" in (
    Path("/proc/net/if_inet6").read_text()
)


def problems(ended: Ended) -> list[str]:
    """What is said to be wrong with the settings, one a line; nothing was started."""
    assert (ended.code, ended.out) == (2, "")
    first, *rest = ended.err.splitlines()
    assert first == ("1 problem in the settings:" if len(rest) == 1 else f"{len(rest)} problems in the settings:")
    return [line.strip() for line in rest]


# --- commands -------------------------------------------------------------------------------------------------


async def test_version_says_which() -> None:
    assert await talon_proxy("version") == Ended(0, f"talon-proxy {proxy.__version__}\n", "")


async def test_help_goes_to_standard_output_and_wrong_usage_to_standard_error() -> None:
    helped, unknown, nothing = await asyncio.gather(talon_proxy("help"), talon_proxy("sevre"), talon_proxy())

    assert (helped.code, helped.err) == (0, "")
    assert helped.out.startswith("usage: talon-proxy COMMAND")
    assert unknown == nothing == Ended(2, "", helped.out)


@pytest.mark.parametrize("command", ["serve", "demo", "config check", "config show"])
async def test_help_of_a_command_that_takes_settings_lists_them(command: str) -> None:
    helped = await talon_proxy(*command.split(), "--help")

    assert (helped.code, helped.err) == (0, "")
    assert helped.out.startswith(f"usage: talon-proxy {command} ")
    assert "\n  --upstream.url URL (required)\n" in helped.out
    assert "\n  --upstream.timeouts.total duration (15s)\n" in helped.out
    assert "\n  --api_key_file file\n" in helped.out
    assert "--api_key secret" not in helped.out


# --- wrong settings -------------------------------------------------------------------------------------------


async def test_all_problems_of_a_file_are_told_at_once_and_nothing_is_bound(tmp_path: Path) -> None:
    file = tmp_path / "talon-proxy.toml"
    with socket.create_server(("127.0.0.1", 0)) as taken:
        # Had it tried to bind, it would complain of this one too, and with another exit code.
        port = taken.getsockname()[1]
        file.write_text(f"""\
listen = ["127.0.0.1:{port}"]
lisen = "127.0.0.1:1"
[upstream]
url = "http://shop.example"
[upstream.timeouts]
connect = "3"
[shutdown]
quiet = "30s"
""")

        said = problems(await talon_proxy("serve", "--config", str(file)))

    assert all(line.startswith(str(file)) for line in said if "api_key" not in line)
    expected = ("lisen", "upstream.url", "upstream.timeouts.connect", "shutdown.quiet", "api_key")
    assert len(said) == len(expected)
    for key in expected:
        assert [key in line for line in said].count(True) >= 1, key
    assert any(line.endswith("did you mean listen?") for line in said)


async def test_an_unknown_variable_is_an_error_with_a_suggestion() -> None:
    said = problems(await talon_proxy("serve", upstream_url=URL, upstream__url=URL, api_key="k"))

    assert said == ["TALON_PROXY_UPSTREAM_URL: unknown variable; did you mean TALON_PROXY_UPSTREAM__URL?"]


async def test_a_key_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    file = tmp_path / "key"

    said = problems(await talon_proxy("serve", upstream__url=URL, api_key_file=str(file)))

    assert said == [f"TALON_PROXY_API_KEY_FILE [api_key_file]: {file} cannot be read: No such file or directory"]


async def test_it_does_not_serve_without_a_url() -> None:
    (said,) = problems(await talon_proxy("serve", api_key="k"))

    assert said.startswith("upstream.url: is required")


async def test_whoever_can_connect_may_not_use_the_key_unless_that_is_said_aloud(upstream: Upstream) -> None:
    """T1."""
    (said,) = problems(await talon_proxy("serve", upstream__url=URL, api_key="k", listen="0.0.0.0:0"))
    assert "clients.tokens" in said

    async with serving(upstream.url, listen="0.0.0.0:0", clients__tokens="a-token=default") as proxy:
        _, port = proxy.address
        proxy.addresses = [f"127.0.0.1:{port}"]
        assert (await proxy.ask("GET", "/v2/customer_sessions/s")).status == 401
        answer = await proxy.ask("GET", "/v2/customer_sessions/s", Authorization="ApiKey-v1 a-token")
        assert answer.status == 200
    assert len(upstream.requests) == 1


# --- addresses ------------------------------------------------------------------------------------------------


async def test_a_taken_port_is_named_with_its_owner() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = "{}:{}".format(*taken.getsockname())

        ended = await talon_proxy(
            "serve", upstream__url=URL, api_key="k", listen=f"127.0.0.1:0,{address}", admin__listen=""
        )

    assert (ended.code, ended.out) == (1, "")
    assert ended.err.count("\n") == 1
    assert f"cannot listen on {address}: the port is in use by " in ended.err
    assert f"(pid {os.getpid()})" in ended.err


async def test_a_taken_admin_port_is_named_too() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = "{}:{}".format(*taken.getsockname())

        ended = await talon_proxy("serve", upstream__url=URL, api_key="k", listen="127.0.0.1:0", admin__listen=address)

    assert (ended.code, ended.out) == (1, "")
    assert f"cannot listen on {address}: the port is in use by " in ended.err


async def test_the_address_that_cannot_be_had_is_named(tmp_path: Path) -> None:
    path = tmp_path / "nowhere" / "x.sock"
    for settings in (
        {"listen": f"127.0.0.1:0,unix:{path}"},
        {"listen": "127.0.0.1:0", "admin__listen": f"unix:{path}"},
    ):
        ended = await talon_proxy("serve", **{"upstream__url": URL, "api_key": "k", "admin__listen": ""} | settings)

        said = f"talon-proxy: cannot listen on unix:{path}: No such file or directory\n"
        assert (ended.code, ended.err) == (1, said)


@pytest.mark.skipif(not HAS_IPV6, reason="this machine has no IPv6 loopback")
async def test_it_listens_on_both_loopbacks(upstream: Upstream) -> None:
    async with serving(upstream.url, listen="[::1]:0,127.0.0.1:0") as proxy:
        assert [text.rpartition(":")[0] for text in proxy.addresses] == ["[::1]", "127.0.0.1"]
        assert proxy.address[0] == "::1"
        line = await proxy.client()
        host = proxy.addresses[0].encode()
        await line.send(b"GET /v2/customer_sessions/s HTTP/1.1\r\nHost: %b\r\n\r\n" % host)
        head, _ = await line.message()
        assert head.startswith(b"HTTP/1.1 200 ")


async def test_a_unix_socket_is_for_owner_and_group_replaces_a_stale_one_and_goes_with_the_process(
    upstream: Upstream, tmp_path: Path
) -> None:
    path = tmp_path / "talon-proxy.sock"
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path))
    assert path.exists()

    async with serving(upstream.url, listen=f"unix:{path}") as proxy:
        assert stat.S_IMODE(path.stat().st_mode) == 0o660
        line = Line(*await asyncio.open_unix_connection(str(path)))
        assert (await ask(line, "GET", "/v2/customer_sessions/s")).status == 200

        second = await talon_proxy("serve", upstream__url=URL, api_key="k", listen=f"unix:{path}", admin__listen="")
        assert (second.code, second.out) == (1, "")
        assert "in use" in second.err
        assert (await ask(line, "GET", "/v2/customer_sessions/s")).status == 200
        await line.close()

        assert (await proxy.stop()).code == 0
        assert not path.exists()


# --- an upstream that is not there ----------------------------------------------------------------------------


def assert_failure(answer: Answer, status: int, error: str, outcome: str = "not-sent") -> None:
    """In the shape of Talon.One's errors, with what RFC 9209 calls it."""
    assert answer.status == status
    assert answer.field("proxy-status") == f"talon-proxy; error={error}"
    assert answer.field("talon-proxy-outcome") == outcome
    assert answer.json["StatusCode"] == status
    assert answer.json["message"]
    assert {"title", "details", "source"} <= set(answer.json["errors"][0])
    assert answer.field("retry-after") == ""


async def test_it_starts_without_its_upstream_and_says_so_quickly() -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        port = gone.getsockname()[1]
    async with serving(f"http://127.0.0.1:{port}") as proxy:
        took = []
        for status, token in (
            (502, "connection_refused"),
            (502, "connection_refused"),
            (503, "destination_unavailable"),
        ):
            began = time.monotonic()
            # Each of the first two tries three times: the circuit opens at the fifth failure in a row.
            assert_failure(await proxy.ask("GET", "/v2/customer_sessions/s"), status, token)
            took.append(time.monotonic() - began)

        assert min(took) < 1.0  # of three, because this machine may be busy
        assert await proxy.probe("readyz") == 200
        assert await proxy.probe("livez") == 200

        # It is there again: nothing has to be restarted.
        upstream = await Upstream().start(port=port)
        async with asyncio.timeout(20):
            while (await proxy.ask("GET", "/v2/customer_sessions/s")).status != 200:  # noqa: ASYNC110
                await asyncio.sleep(0.1)
    await upstream.stop()


async def test_an_upstream_that_is_not_who_it_should_be_never_sees_the_key(tmp_path: Path) -> None:
    trusted, other = Authority(tmp_path, "trusted"), Authority(tmp_path, "other")
    upstream = await Upstream().start(other.sign("127.0.0.1").server())
    secure = f"https://127.0.0.1:{upstream.port}"

    async with serving(secure, upstream__tls__ca_file=str(trusted.file)) as proxy:
        assert_failure(await proxy.ask("GET", "/v2/customer_sessions/s"), 502, "tls_certificate_error")
    assert upstream.requests == []
    await upstream.stop()

    upstream = await Upstream().start(trusted.sign("127.0.0.1").server())
    secure = f"https://127.0.0.1:{upstream.port}"
    async with serving(secure, upstream__tls__ca_file=str(trusted.file)) as proxy:
        assert (await proxy.ask("GET", "/v2/customer_sessions/s")).status == 200
    await upstream.stop()


async def test_a_ca_file_that_holds_nothing_is_wrong_settings(tmp_path: Path) -> None:
    file = tmp_path / "empty.pem"
    file.touch()

    (said,) = problems(
        await talon_proxy("serve", upstream__url="https://a.talon.one", api_key="k", upstream__tls__ca_file=str(file))
    )

    assert f"{file} holds no certificate" in said


async def test_a_broken_request_is_refused_and_the_others_go_on(upstream: Upstream) -> None:
    async with serving(upstream.url) as proxy:
        broken, tls, other = await proxy.client(), await proxy.client(), await proxy.client()
        await broken.send(b"GET /v2/customer_sessions/s HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1x\r\n\r\n")
        hello = ssl.MemoryBIO()
        link = ssl.create_default_context().wrap_bio(ssl.MemoryBIO(), hello, server_hostname="localhost")
        with pytest.raises(ssl.SSLWantReadError):
            link.do_handshake()
        await tls.send(hello.read())  # somebody took us for https

        for line in (broken, tls):
            head, body = await line.message()
            answer = Answer(head.decode(), body)
            assert (answer.status, answer.field("connection")) == (400, "close")
            assert answer.json["StatusCode"] == 400
            assert await line.to_end() == b""
        assert (await ask(other, "GET", "/v2/customer_sessions/s")).status == 200
    assert len(upstream.requests) == 1


# --- signals --------------------------------------------------------------------------------------------------


async def test_sigint_stops_it_as_sigterm_does(upstream: Upstream) -> None:
    async with serving(upstream.url) as proxy:
        ended = await proxy.stop(signal.SIGINT)

    assert (ended.code, ended.err) == (0, "")
    assert json.loads(ended.out.splitlines()[-1])["msg"] == "stopped"


async def test_a_second_signal_ends_it_at_once(upstream: Upstream) -> None:
    upstream.answer = None
    settings = {"shutdown__quiet": "100s", "shutdown__timeout": "200s"}  # much longer than this test waits
    async with serving(upstream.url, **settings) as proxy:
        line = await proxy.client()
        await line.send(request("PUT", "/v2/customer_sessions/s", b"{}"))
        await upstream.received()

        proxy.send(signal.SIGTERM)
        await proxy.line('"draining"')
        ended = await proxy.stop()

        assert (ended.code, ended.err) == (1, "")  # a call was cut off
        assert "second signal" in ended.out
        assert await line.to_end() == b""


async def test_sighup_reloads_and_disturbs_no_call(upstream: Upstream) -> None:
    upstream.answer = None
    async with serving(upstream.url) as proxy:
        line = await proxy.client()
        await line.send(request("PUT", "/v2/customer_sessions/s", b"{}"))
        sent_on, _ = await upstream.received()

        proxy.send(signal.SIGHUP)
        told = json.loads(await proxy.line("SIGHUP"))

        assert (told["level"], told["msg"], told["changed"]) == ("info", "settings reloaded", [])
        assert proxy.running
        assert await proxy.probe("readyz") == 200
        await sent_on.send(OK)
        head, _ = await line.message()
        assert head.startswith(b"HTTP/1.1 200 ")


LISTENING = """
from proxy.app import App
start = App.start
async def late(self, **options):
    os.kill(os.getpid(), signal.{first})
    await start(self, **options)
App.start = late
"""
READING = """
import proxy.settings
load = proxy.settings.load
def slow(flags, environ):
    os.kill(os.getpid(), signal.{first})
    return load(flags, environ)
proxy.settings.load = slow
"""
# When its modules go: by then Python has given signals back to the system.
ENDING = """
class Last:
    def __del__(self, kill=os.kill, pid=os.getpid(), number=signal.{first}):
        kill(pid, number)
sys.modules["last"] = Last()
def served(self, message, **more):
    if message == "serving":
        os.kill(os.getpid(), signal.SIGTERM)
import logging
logging.Logger.info = served
"""


@pytest.mark.parametrize("first", ["SIGTERM", "SIGINT", "SIGHUP"])
@pytest.mark.parametrize("when", [READING, LISTENING, ENDING])
async def test_a_signal_while_it_starts_or_ends_neither_kills_it_nor_is_lost(
    when: str, first: str, tmp_path: Path
) -> None:
    """Kubernetes may change its mind early; a process that dies of the signal or hangs would be counted as failed."""
    program = f"""
import signal, os, sys
{when.format(first=first)}
from proxy.cli import main
sys.exit(main(["serve"]))
"""
    env = {
        "TALON_PROXY_UPSTREAM__URL": URL,
        "TALON_PROXY_API_KEY": "k",
        "TALON_PROXY_LISTEN": "127.0.0.1:0",
        "TALON_PROXY_ADMIN__LISTEN": f"unix:{tmp_path / 'admin'}",
        "TALON_PROXY_SHUTDOWN__QUIET": "0ms",
    }

    process = await Serve.start(sys.executable, "-c", program, env=env)
    try:
        if first == "SIGHUP" and when != ENDING:
            await process.line('"settings reloaded"')
            process.send(signal.SIGTERM)
        ended = await process.ended()
    finally:
        await process.kill()

    assert (ended.code, ended.err) == (0, "")
