"""Switches, rotations and reloads of a real proxy under load; `make switches` runs the same with large numbers."""

import json
import signal
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.certificates import Authority, Pair
from tests.fleet import SIGNED, TOKEN, Arrivals, Host, message, reload, switch, until_status
from tests.harness import Upstream
from tests.process import Serve, serving, talon_proxy
from tests.switches import (
    GOOD,
    KEY_A,
    KEY_B,
    QUIET,
    back_and_forth,
    bad,
    breaking,
    planned,
    rotating,
)


async def test_p4_switching_back_and_forth_loses_and_reorders_nothing_and_sends_no_key_astray() -> None:
    figures = await back_and_forth(switches=3, rate=200)

    assert bad(figures) == 0, figures


async def test_a_fleet_switches_at_one_moment() -> None:
    figures = await planned(3, 150)

    assert bad(figures) == 0, figures
    assert figures["before the switch"] > 0
    assert figures["after the switch"] > 0


async def test_p5_rotating_keys_fails_no_call() -> None:
    figures = await rotating(rotations=1, rate=150)

    assert bad(figures) == 0, figures


async def test_p3_broken_reloads_change_nothing_and_say_why() -> None:
    figures = await breaking(reloads=10, rate=50)

    assert bad(figures) == 0, figures


# --- one thing at a time --------------------------------------------------------------------------------------


@pytest.fixture
async def hosts() -> AsyncIterator[tuple[Host, Host]]:
    arrivals = Arrivals()
    a, b = await Host("a", arrivals, [KEY_A]).start(), await Host("b", arrivals, [KEY_A, KEY_B]).start()
    yield a, b
    await a.stop()
    await b.stop()


def configured(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "talon-proxy.toml"
    file.write_text(text)
    file.chmod(0o600)
    return file


async def served_by(proxy: Serve) -> str:
    answer = await proxy.ask("GET", "/v2/customer_sessions/s")
    return str(answer.json["host"])


async def override(proxy: Serve) -> bool:
    return b"talon_proxy_upstream_override 1.0" in (await proxy.ask_admin("/metrics")).body


async def test_a_url_set_at_run_time_is_told_everywhere_and_survives_an_unrelated_reload(
    hosts: tuple[Host, Host], tmp_path: Path
) -> None:
    a, b = hosts
    text = GOOD.format(key=KEY_A, token=TOKEN, url=a.url)
    file = configured(tmp_path, text)
    async with serving(None, config=str(file)) as proxy:
        answer = await switch(proxy, b.url)
        assert (answer.status, answer.json) == (200, {"generation": 2, "url": b.url, "override": True})
        assert await served_by(proxy) == "b"
        assert "set at run time" in (await proxy.status())["upstream"]["override"]
        assert await override(proxy)
        await proxy.line("is not the configured one, until restart")

        file.write_text(text + '[log]\nlevel = "debug"\n')
        told = (await reload(proxy)).json
        assert (told["changed"], told["override"], told["url"]) == (["log.level"], True, b.url)
        assert await served_by(proxy) == "b"

        # The configured URL is the one that it is at: there is nothing to switch, and nothing special any more.
        file.write_text(text.replace(a.url, b.url))
        told = (await reload(proxy)).json
        assert (told["generation"], told["override"]) == (2, False)
        assert not await override(proxy)

        file.write_text(text)
        assert (await reload(proxy)).json["url"] == a.url
        assert await served_by(proxy) == "a"


async def test_a_switch_to_where_no_key_may_go_is_refused_also_by_force(hosts: tuple[Host, Host]) -> None:
    async with serving(hosts[0].url, api_key=KEY_A, **QUIET) as proxy:
        for url, reason in (
            ("http://localhost:9", "not among upstream.allowed_hosts"),
            ("https://evil.example", "not among upstream.allowed_hosts"),
            ("http://127.0.0.1:9@evil.example", "user name"),
            ("http://127.0.0.1:9/v2", "path"),
            ("nonsense", "https://host"),
        ):
            for force in (False, True):
                answer = await switch(proxy, url, force=force)
                assert answer.status == 422
                assert reason in answer.json["reasons"][0]
        assert await served_by(proxy) == "a"


async def test_a_host_that_does_not_stand_the_test_changes_nothing_and_is_named(hosts: tuple[Host, Host]) -> None:
    a, b = hosts
    nowhere = await Host("c", Arrivals(), []).start()
    gone = nowhere.url
    await nowhere.stop()
    async with serving(a.url, api_key=KEY_A, **QUIET) as proxy:
        b.keys = {KEY_B}
        moved = message(302, b"", "Location: https://elsewhere.example/x")
        cases = {
            b.url: ("Application default: the key is refused (401)", None),
            gone: ("could not be reached", None),
            f"{b.url}/": ("redirects (302) to https://elsewhere.example", moved),
        }
        for url, (reason, scripted) in cases.items():
            b.script = lambda _, scripted=scripted: scripted  # type: ignore[misc]
            answer = await switch(proxy, url)
            assert answer.status == 422
            assert reason in answer.json["reasons"][0]
            assert KEY_A not in answer.body.decode()
        page = message(200, b"<html>").replace(b"application/json", b"text/html; charset=utf-8")
        b.script = lambda _: page
        assert "web page" in (await switch(proxy, b.url)).json["reasons"][0]
        b.script = lambda _: None

        assert await served_by(proxy) == "a"
        status = (await proxy.status())["upstream"]
        assert (status["generation"], status["url"]) == (1, a.url)

        # An operator may know better.
        assert (await switch(proxy, b.url, force=True)).status == 200
        assert (await proxy.status())["upstream"]["url"] == b.url


async def test_a_certificate_for_another_name_gets_no_key(tmp_path: Path, hosts: tuple[Host, Host]) -> None:
    authority = Authority(tmp_path)
    good = await Upstream().start(authority.sign("127.0.0.1").server())
    wrong = await Upstream().start(authority.sign("evil.example").server())
    async with serving(f"https://127.0.0.1:{good.port}", upstream__tls__ca_file=str(authority.file), **QUIET) as proxy:
        for _ in range(2):
            answer = await switch(proxy, f"https://127.0.0.1:{wrong.port}")
            assert answer.status == 422
            assert "certificate" in answer.json["reasons"][0]
        assert (await proxy.ask("GET", "/v2/customer_sessions/s")).status == 200
    assert wrong.requests == []
    await good.stop()
    await wrong.stop()


async def test_settings_take_effect_when_their_file_changes(hosts: tuple[Host, Host], tmp_path: Path) -> None:
    a, b = hosts
    text = GOOD.format(key=KEY_A, token=TOKEN, url=a.url)
    file = configured(tmp_path, text)
    async with serving(None, config=str(file)) as proxy:
        before = (await proxy.status())["settings"]
        file.write_text(text.replace(a.url, b.url) + '[clients]\ntokens = {"a-client" = "default"}\n')
        await proxy.line('"switched to another upstream"')
        await until_status(proxy, lambda status: status["settings"] != before)

        assert (await proxy.ask("GET", "/v2/customer_sessions/s")).status == 401
        answer = await proxy.ask("GET", "/v2/customer_sessions/s", Authorization="Bearer a-client")
        assert answer.json == {"host": "b"}


async def test_what_needs_a_restart_is_named_and_the_rest_takes_effect(
    hosts: tuple[Host, Host], tmp_path: Path
) -> None:
    text = GOOD.format(key=KEY_A, token=TOKEN, url=hosts[0].url)
    file = configured(tmp_path, text)
    async with serving(None, config=str(file), log__level="info") as proxy:
        file.write_text('base_path = "/talon"\n' + text + '[log]\nformat = "text"\nlevel = "debug"\n')
        told = (await reload(proxy)).json

        assert told["changed"] == ["base_path", "log.format"]
        assert told["restart_needed"] == ["log.format"]
        shadowed = "[log.level]: has no effect: TALON_PROXY_LOG__LEVEL is stronger"
        assert [warning for warning in told["warnings"] if warning.endswith(shadowed)]
        assert (await proxy.ask("GET", "/talon/v2/customer_sessions/s")).status == 200
        assert (await proxy.ask("GET", "/v2/customer_sessions/s")).status == 404
        config = (await proxy.change("GET", "/-/config", **SIGNED)).json
        assert config["restart_needed"] == ["log.format"]
        assert config["settings"]["base_path"] == {"value": "/talon", "origin": f"{file}:1"}
        assert KEY_A not in json.dumps(config)


async def test_a_proxy_that_starts_after_the_planned_moment_starts_at_the_new_url(hosts: tuple[Host, Host]) -> None:
    a, b = hosts
    planned_switch = {
        "upstream__next__url": b.url,
        "upstream__next__at": "2026-01-01T00:00:00Z",
        "upstream__next__applications__default__api_key": KEY_B,
    }
    async with serving(a.url, api_key=KEY_A, **planned_switch, **QUIET) as proxy:
        assert await served_by(proxy) == "b"
        assert a.connections == 0
        assert b.seen == {KEY_B}
        assert not await override(proxy)

        # The way back is by hand, and no reload undoes it.
        assert (await switch(proxy, a.url)).status == 200
        assert (await reload(proxy)).json["override"] is True
        assert await served_by(proxy) == "a"
        assert a.seen == {KEY_A}


async def test_the_commands_switch_and_reload_a_running_proxy(hosts: tuple[Host, Host], tmp_path: Path) -> None:
    a, b = hosts
    text = GOOD.format(key=KEY_A, token=TOKEN, url=a.url)
    file = configured(tmp_path, text)
    async with serving(None, config=str(file)) as proxy:
        there = {"config": str(file), "admin__listen": f"unix:{proxy.admin}"}
        done = await talon_proxy("switch", b.url, **there)
        assert (done.code, done.err) == (0, "")
        lines = done.out.splitlines()
        assert f"calls go to {b.url} (generation 2)" in lines
        assert "until restart: upstream.url of the settings names another URL" in lines
        assert lines[-1] == "the old URL is left"

        refused = await talon_proxy("switch", "https://evil.example", **there)
        assert (refused.code, refused.out) == (1, "")
        assert "upstream.allowed_hosts" in refused.err

        reloaded = await talon_proxy("reload", **there)
        assert (reloaded.code, reloaded.err) == (0, "")
        assert reloaded.out.splitlines() == ["reloaded: nothing has changed", f"calls go to {b.url}, set at run time"]

        file.write_text("nonsense")
        broken = await talon_proxy("reload", admin__token=TOKEN, admin__listen=f"unix:{proxy.admin}")
        assert (broken.code, broken.out) == (1, "")
        assert "TOML" in broken.err

    nobody = await talon_proxy("reload", admin__token=TOKEN, admin__listen=f"unix:{tmp_path}/nobody")
    assert nobody.code == 1
    assert (await talon_proxy("switch", b.url, admin__listen="127.0.0.1:9")).code == 2  # without a token


async def test_draining_is_asked_for_before_the_signal(hosts: tuple[Host, Host]) -> None:
    async with serving(hosts[0].url, api_key=KEY_A, **QUIET) as proxy:
        answer = await proxy.change("POST", "/-/drain", **SIGNED)

        assert (answer.status, answer.json["stage"]) == (200, "draining")
        assert await proxy.probe("readyz") == 503
        served = await proxy.ask("GET", "/v2/customer_sessions/s")
        assert (served.status, served.field("connection")) == (200, "close")
        assert (await switch(proxy, hosts[1].url)).status == 422
        assert (await reload(proxy)).status == 422
        assert (await proxy.stop(signal.SIGTERM)).code == 0


async def test_a_cluster_that_has_moved_is_named(hosts: tuple[Host, Host]) -> None:
    a, _ = hosts
    async with serving(a.url, api_key=KEY_A, **QUIET) as proxy:
        a.script = lambda _: message(308, b"", "Location: https://mycompany.us-east4.talon.one/")
        for number in range(6):
            target = "/v2/customer_sessions/s" if number % 2 else "/v1/integration/campaigns"
            answer = await proxy.ask("GET", target)
            assert (answer.status, answer.field("location")) == (308, "https://mycompany.us-east4.talon.one/")
        told = json.loads(await proxy.line("Talon.One may have moved"))
        assert told["sign"] == "redirect"
        assert "talon-proxy switch" in (await proxy.status())["upstream"]["moved"]["advice"]

        a.script = lambda _: None
        await proxy.ask("GET", "/v2/customer_sessions/s")
        assert "moved" not in (await proxy.status())["upstream"]


# --- certificates ---------------------------------------------------------------------------------------------


@asynccontextmanager
async def answering(tls: ssl.SSLContext) -> AsyncIterator[Upstream]:
    upstream = await Upstream().start(tls)
    try:
        yield upstream
    finally:
        await upstream.stop()


def asking_for_a_certificate(pair: Pair, authority: Authority) -> ssl.SSLContext:
    context = pair.server()
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(authority.file)
    return context


def put(pair: Pair, certificate: Path, key: Path) -> None:
    """Renew a certificate in its files, as a mounted secret is renewed: one file after the other."""
    certificate.write_bytes(pair.certificate.read_bytes())
    key.write_bytes(pair.key.read_bytes())
    key.chmod(0o600)


def shown_last(upstream: Upstream) -> str:
    """Give whose certificate the latest connection showed."""
    subject = upstream.lines[-1].writer.get_extra_info("peercert")["subject"]
    return str(subject[0][0][1])


async def test_a_renewed_client_certificate_is_seen_verified_and_used_and_a_broken_one_changes_nothing(
    tmp_path: Path,
) -> None:
    authority = Authority(tmp_path)
    certificate, key = tmp_path / "client.pem", tmp_path / "client.key"
    put(authority.sign("first"), certificate, key)
    tls = {
        "upstream__tls__ca_file": str(authority.file),
        "upstream__tls__client_cert_file": str(certificate),
        "upstream__tls__client_key_file": str(key),
    }
    async with (
        answering(asking_for_a_certificate(authority.sign("localhost"), authority)) as upstream,
        serving(f"https://localhost:{upstream.port}", **tls, **QUIET) as proxy,
    ):
        assert (await proxy.ask("GET", "/v2/customer_sessions/s")).status == 200
        assert shown_last(upstream) == "first"

        put(authority.sign("second"), certificate, key)
        await until_status(proxy, lambda status: status["upstream"]["generation"] == 2)
        assert (await proxy.ask("GET", "/v2/customer_sessions/s")).status == 200
        assert shown_last(upstream) == "second"

        # A key of another certificate; no certificate at all; one that the peer does not take.
        for pair, reason in (
            (Pair(authority.sign("third").certificate, authority.sign("fourth").key), "does not belong to"),
            (Pair(key, key), "not in PEM form"),
            (authority.self_signed("fifth"), "The connection ended"),
        ):
            put(pair, certificate, key)
            answer = await reload(proxy)
            assert answer.status == 422
            assert reason in "".join(answer.json["reasons"])
            told = await proxy.status()
            assert told["upstream"]["generation"] == 2
            assert not told["reload"]["successful"]
            assert (await proxy.ask("GET", "/v2/customer_sessions/s")).status == 200
        assert shown_last(upstream) == "second"

        put(authority.sign("sixth"), certificate, key)
        await until_status(proxy, lambda status: status["upstream"]["generation"] == 3)
        assert (await proxy.status())["reload"]["successful"]


async def test_renewed_authorities_are_seen_and_those_that_do_not_know_the_peer_change_nothing(tmp_path: Path) -> None:
    authority, other = Authority(tmp_path), Authority(tmp_path, "other")
    file = tmp_path / "ca.pem"
    file.write_bytes(authority.file.read_bytes())
    async with (
        answering(authority.sign("localhost").server()) as upstream,
        serving(f"https://localhost:{upstream.port}", upstream__tls__ca_file=str(file), **QUIET) as proxy,
    ):
        file.write_bytes(other.file.read_bytes())
        await until_status(proxy, lambda status: not status["reload"]["successful"])
        assert "certificate was not accepted" in (await proxy.status())["reload"]["reason"]
        assert (await proxy.ask("GET", "/v2/customer_sessions/s")).status == 200

        file.write_bytes(authority.file.read_bytes() + other.file.read_bytes())
        await until_status(proxy, lambda status: status["upstream"]["generation"] == 2)
        assert (await proxy.ask("GET", "/v2/customer_sessions/s")).status == 200
