"""doctor: what it finds out on real sockets, what it says of it, and whom it never shows or sends a key."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from proxy.commands.diagnosis import Finding, Verdict, address, compared, diagnose, environment
from proxy.commands.doctor import Diagnosis, main, tell
from proxy.commands.examination import QUESTION, Attempt, Examined, Examiner, Handshake, KeyTried, Speed, Trouble
from proxy.settings import Origin, load
from tests.certificates import Authority
from tests.harness import KEY, Upstream
from tests.process import talon_proxy, variables
from tests.way import Names, refusing, serving, tunnelling

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
JSON = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
OTHER = "beef0123456789abcdef0123456789abcdef0123456789abcdef0123456789ab"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("certificates"))


@asynccontextmanager
async def talon_one(authority: Authority | None = None, *names: str) -> AsyncIterator[Upstream]:
    upstream = Upstream()
    upstream.answer = lambda request: JSON if KEY.encode() in request else status(b"401 Unauthorized")
    await upstream.start(authority.sign(*names).server() if authority else None)
    try:
        yield upstream
    finally:
        await upstream.stop()


def status(line: bytes, *fields: bytes) -> bytes:
    lines = b"".join(field + b"\r\n" for field in fields)
    return b"HTTP/1.1 %b\r\nContent-Type: application/json\r\n%bContent-Length: 2\r\n\r\n{}" % (line, lines)


async def examined(url: str, *, at: str | None = None, resolve: Names | None = None, **settings: Any) -> Examined:
    """Examine `at`, or the URL of the settings."""
    given = variables({"upstream__url": url, "api_key": KEY, **settings})
    examiner = Examiner(load([], given).settings, resolve=resolve)
    try:
        return await examiner.examine(Origin.parse(at or url))
    finally:
        examiner.close()


def said(found: Examined) -> dict[str, Finding]:
    """What it says, by topic; of several the last."""
    return {finding.topic: finding for finding in diagnose(found, now=datetime.now(UTC), connect_timeout=3.0)}


def wrong(found: Examined) -> list[str]:
    return [
        finding.topic
        for finding in diagnose(found, now=datetime.now(UTC), connect_timeout=3.0)
        if finding.verdict is Verdict.BAD
    ]


# --- what it finds out ---


async def test_everything_is_found_out_over_tls_in_a_few_calls(authority: Authority) -> None:
    async with talon_one(authority, "localhost") as upstream:
        url = f"https://localhost:{upstream.port}"
        found = await examined(url, upstream__tls__ca_file=str(authority.file))

        assert [attempt.address for attempt in found.attempts if attempt.trouble is None] == ["127.0.0.1"]
        assert found.handshake is not None
        assert (found.handshake.version, found.handshake.issuer) == ("TLSv1.3", "authority")
        assert found.speed is not None
        assert 0 < found.speed.call < found.speed.opening
        assert [(tried.setting, tried.status) for tried in found.keys] == [("api_key", 200)]
        assert wrong(found) == []
        assert 1 < len(upstream.requests) < 10
        assert all(request.startswith(b"GET %b HTTP/1.1\r\n" % QUESTION) for request in upstream.requests)


async def test_every_key_of_every_application_is_tried() -> None:
    async with talon_one() as upstream:
        keys: dict[str, Any] = {
            "next_api_key": OTHER,
            "applications__eu__api_key": KEY,
            "applications__us__api_key": OTHER,
        }
        found = await examined(upstream.url, **keys)

    assert {(tried.application, tried.setting): tried.status for tried in found.keys} == {
        ("default", "api_key"): 200,
        ("default", "next_api_key"): 401,
        ("eu", "applications.eu.api_key"): 200,
        ("us", "applications.us.api_key"): 401,
    }
    assert sorted(wrong(found)) == ["key of default", "key of us"]


async def test_no_key_goes_to_a_host_that_is_not_allowed() -> None:
    async with talon_one() as allowed, talon_one() as other:
        there = f"http://localhost:{other.port}"
        found = await examined(f"http://127.0.0.1:{allowed.port}", at=there)

        assert not found.allowed
        assert found.keys == []
        assert found.speed is not None
        assert other.requests
        assert not any(b"authorization" in request.lower() for request in other.requests)
        assert wrong(found) == ["host"]


async def test_where_a_switch_is_planned_to_the_keys_for_there_are_tried() -> None:
    async with talon_one() as here, talon_one() as there:
        url = f"http://localhost:{there.port}"
        planned: dict[str, Any] = {
            "upstream__allowed_hosts": "127.0.0.1,localhost",
            "upstream__next__url": url,
            "upstream__next__at": "2099-01-01T00:00:00Z",
            "upstream__next__applications__default__api_key": OTHER,
        }
        found = await examined(f"http://127.0.0.1:{here.port}", at=url, **planned)

        assert [tried.setting for tried in found.keys] == ["upstream.next.applications.default.api_key"]
        assert not any(KEY.encode() in request for request in there.requests)


async def test_u2_a_name_without_an_address_ends_it() -> None:
    found = await examined("https://shop.talon.one", resolve=Names())

    assert wrong(found) == ["name"]
    assert "Campaign Manager" in said(found)["name"].todo
    assert found.attempts == ()


async def test_u1_addresses_are_tried_one_by_one() -> None:
    async with talon_one() as upstream:
        names = Names(("127.0.0.1", upstream.port), ("127.0.0.2", refusing()))
        allow: dict[str, Any] = {"upstream__allow_cleartext": "true"}
        found = await examined(f"http://shop.talon.one:{upstream.port}", resolve=names, **allow)
        assert [attempt.trouble is None for attempt in found.attempts] == [True, False]
        assert wrong(found) == []

    closed = await examined(f"http://127.0.0.1:{refusing()}")
    assert wrong(closed) == ["connection"]


@pytest.mark.parametrize(
    ("certificate", "detail", "advice"),
    [
        (lambda ca: ca.sign("localhost", expired=True), "certificate has expired", "clock"),
        (lambda ca: ca.sign("evil.example"), "mismatch", "moved"),
        (lambda ca: ca.self_signed("localhost"), "self-signed", "ca_file"),
    ],
)
async def test_u3_a_certificate_that_is_not_right_is_told_with_what_is_wrong_and_no_key_is_sent(
    authority: Authority, certificate: Callable[[Authority], Any], detail: str, advice: str
) -> None:
    async with serving(certificate(authority).server()) as server:
        found = await examined(f"https://localhost:{server.port}", upstream__tls__ca_file=str(authority.file))

        finding = said(found)["TLS"]
        assert finding.verdict is Verdict.BAD
        assert detail in finding.what
        assert advice in finding.todo
        assert found.keys == []
        assert server.heard == b""


async def test_u3_something_that_does_not_speak_tls_is_told() -> None:
    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"SSH-2.0-OpenSSH\r\n")
        await reader.read(-1)

    async with serving(answer=speak) as server:
        found = await examined(f"https://localhost:{server.port}")

    assert wrong(found) == ["TLS"]
    assert said(found)["TLS"].what.startswith("The TLS handshake failed")


async def test_the_way_through_a_proxy_is_examined_and_its_credentials_shown_to_nobody(authority: Authority) -> None:
    async with talon_one(authority, "shop.talon.one") as upstream, tunnelling(upstream.port) as tunnels:
        proxy = f"http://me:c0ffee@127.0.0.1:{tunnels.port}"
        settings: dict[str, Any] = {"upstream__proxy": proxy, "upstream__tls__ca_file": str(authority.file)}
        found = await examined("https://shop.talon.one", **settings)

        assert wrong(found) == []
        assert all(head.startswith(b"CONNECT shop.talon.one:443 ") for head in tunnels.heads)
        assert found.through == f"http://***@127.0.0.1:{tunnels.port}"
        assert "c0ffee" not in repr(found)
        assert "the proxy" in address(found, None).what


async def test_a_proxy_that_wants_credentials_is_told() -> None:
    async with tunnelling(answer=b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n") as tunnels:
        found = await examined("https://shop.talon.one", upstream__proxy=f"http://127.0.0.1:{tunnels.port}")

    finding = said(found)["connection"]
    assert finding.verdict is Verdict.BAD
    assert "credentials" in finding.what
    assert "upstream.proxy" in finding.todo


async def test_connections_come_from_the_address_that_is_wanted() -> None:
    async with talon_one() as upstream:
        found = await examined(upstream.url, upstream__bind="127.0.0.9")

    assert found.source == "127.0.0.9"


@pytest.mark.parametrize(
    ("body", "seen"),
    [
        (b"203.0.113.7\n", "203.0.113.7"),
        (b'{"ip": "2001:db8::7"}', "2001:db8::7"),
        (b"<html>none</html>", None),
    ],
)
async def test_a_page_is_asked_for_our_address_and_gets_no_key(body: bytes, seen: str | None) -> None:
    async with talon_one() as upstream:
        upstream.answer = lambda _: b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
        url = upstream.url
        examiner = Examiner(load([], variables({"upstream__url": url, "api_key": KEY})).settings)
        told = await examiner.echo(f"{url}/ip?format=text")
        failed = await examiner.echo(f"http://127.0.0.1:{refusing()}/"), await examiner.echo("203.0.113.7")
        examiner.close()

        assert told == seen or isinstance(told, Trouble)
        assert upstream.requests[0].startswith(b"GET /ip?format=text HTTP/1.1\r\n")
        assert b"authorization" not in upstream.requests[0].lower()
        assert all(isinstance(each, Trouble) for each in failed)


# --- what it says ---

GOOD_KEY = KeyTried("default", "api_key", "…9999", 200, "application/json")
WELL = Examined(
    "https://mycompany.europe-west1.talon.one",
    allowed=True,
    through=None,
    addresses=["198.51.100.1"],
    lookup=0.012,
    attempts=[Attempt("198.51.100.1", 0.02)],
    source="10.0.0.7",
    handshake=Handshake("TLSv1.3", "TLS_AES_256_GCM_SHA384", "http/1.1", "Let's Encrypt", NOW + timedelta(days=60)),
    speed=Speed(0.083, 0.027),
    keys=[GOOD_KEY],
)


def topics(found: Examined, verdict: Verdict) -> dict[str, str]:
    findings = diagnose(found, now=NOW, connect_timeout=3.0)
    return {finding.topic: f"{finding.what} {finding.todo}" for finding in findings if finding.verdict is verdict}


def test_where_all_is_well_nothing_is_to_be_done() -> None:
    findings = list(diagnose(WELL, now=NOW, connect_timeout=3.0))

    assert {finding.verdict for finding in findings} == {Verdict.GOOD}
    assert not any(finding.todo for finding in findings)
    assert "83 ms" in topics(WELL, Verdict.GOOD)["speed"]
    assert "27 ms" in topics(WELL, Verdict.GOOD)["speed"]


@pytest.mark.parametrize(
    ("tried", "verdict", "words"),
    [
        ({"status": 401}, Verdict.BAD, ["refused (401)", "expired"]),
        ({"status": 403}, Verdict.BAD, ["forbidden (403)", "send them the one"]),
        ({"status": 200, "kind": "text/html"}, Verdict.BAD, ["text/html", "not Talon.One's API"]),
        ({"status": 307, "location": "https://other.talon.one"}, Verdict.BAD, ["https://other.talon.one", "moved"]),
        ({"status": 302}, Verdict.BAD, ["302"]),
        ({"status": 404}, Verdict.BAD, ["404"]),
        ({"status": 429}, Verdict.NOTE, ["429", "again"]),
        ({"status": 503}, Verdict.NOTE, ["503", "status.talon.one"]),
        (
            {"trouble": Trouble("ConnectionLost", "The connection was lost"), "status": 0},
            Verdict.BAD,
            ["lost", "allow"],
        ),
    ],
)
def test_what_became_of_a_key_is_told_with_what_to_do(
    tried: dict[str, Any], verdict: Verdict, words: list[str]
) -> None:
    found = replace(WELL, keys=[replace(GOOD_KEY, **tried)])

    told = topics(found, verdict)["key of default"]

    assert all(word in told for word in words)


@pytest.mark.parametrize(
    ("changed", "verdict", "topic", "words"),
    [
        ({"handshake": replace(WELL.handshake, expires=NOW + timedelta(days=3))}, Verdict.NOTE, "TLS", "3 days left"),  # type: ignore[type-var]
        ({"speed": Speed(1.6, 0.03)}, Verdict.NOTE, "speed", "upstream.timeouts.connect"),
        ({"keys": []}, Verdict.NOTE, "key", "api_key_file"),
        ({"allowed": False, "keys": []}, Verdict.BAD, "host", "upstream.allowed_hosts"),
        ({"handshake": None, "url": "http://shop.internal"}, Verdict.NOTE, "TLS", "in clear"),
        ({"keys": [KeyTried("", "", "", trouble=Trouble("X", "It was lost"))]}, Verdict.BAD, "call", "It was lost"),
    ],
)
def test_what_is_not_as_it_should_be_is_told(changed: dict[str, Any], verdict: Verdict, topic: str, words: str) -> None:
    assert words in topics(replace(WELL, **changed), verdict)[topic]


@pytest.mark.parametrize(
    ("found", "seen", "words"),
    [
        (WELL, None, "10.0.0.7 on this machine, which Talon.One does not see"),
        (replace(WELL, source="8.8.8.8"), None, "which NAT may replace"),
        (replace(WELL, source="127.0.0.1"), None, "it is on this machine"),
        (replace(WELL, source=None), None, "not known"),
        (replace(WELL, through="http://egress:3128"), None, "the proxy http://egress:3128"),
        (WELL, "203.0.113.7", "others see 203.0.113.7"),
        (WELL, Trouble("X", "It said nothing"), "It said nothing"),
    ],
)
def test_the_address_for_the_allowlist_is_told(found: Examined, seen: str | Trouble | None, words: str) -> None:
    assert words in address(found, seen).what


def test_variables_that_other_programs_read_are_told_of() -> None:
    (finding,) = environment(["HTTPS_PROXY", "http_proxy"], through=False)
    assert finding.what == "HTTPS_PROXY and http_proxy are set, and not read"
    assert list(environment(["HTTPS_PROXY"], through=True)) == []
    assert list(environment([], through=False)) == []


def test_two_deployments_stand_side_by_side() -> None:
    there = replace(WELL, url="https://mycompany.us-east4.talon.one", speed=Speed(0.3, 0.11), keys=[])
    there.handshake = None

    rows = {label: cells for label, *cells in compared(WELL, there)}

    assert rows[""] == [WELL.url, there.url]
    assert rows["warm call"] == ["27 ms", "110 ms"]
    assert rows["TLS"] == ["TLSv1.3", "–"]
    assert rows["keys accepted"] == ["1 of 1", "0 of 0"]


def test_it_is_told_in_lines_that_fit_and_counted() -> None:
    bad = replace(WELL, keys=[replace(GOOD_KEY, status=401), replace(GOOD_KEY, status=403)])
    lines = list(
        tell([Diagnosis(bad, list(diagnose(bad, now=NOW, connect_timeout=3.0)))], management=True),
    )

    assert lines[0] == WELL.url
    assert lines[-1] == "2 things are wrong."
    assert "Management key" in lines[-2]
    assert all(len(line) <= 100 for line in lines[:-2])


# --- the command ---


async def test_the_command_ends_well_where_nothing_is_wrong_and_shows_no_key() -> None:
    async with talon_one() as upstream:
        url = upstream.url
        ended = await talon_proxy("doctor", upstream__url=url, api_key=KEY)

    assert (ended.code, ended.err) == (0, "")
    assert ended.out.startswith(url)
    assert ended.out.endswith("Nothing is wrong.\n")
    assert KEY not in ended.out


async def test_the_command_compares(capsys: pytest.CaptureFixture[str]) -> None:
    async with talon_one() as upstream:
        url = upstream.url
        given = variables({"upstream__url": url, "api_key": KEY})
        other = f"http://localhost:{upstream.port}"

        assert await asyncio.to_thread(main, ["--compare", other], given) == 1

    told = capsys.readouterr().out
    assert "keys accepted" in told
    assert other in told


async def test_the_command_tells_programs(capsys: pytest.CaptureFixture[str]) -> None:
    async with talon_one() as upstream:
        url = upstream.url
        given = variables({"upstream__url": url, "api_key": OTHER})

        assert await asyncio.to_thread(main, ["--json", "--echo-url", f"{url}/ip"], given) == 1

    told = capsys.readouterr()
    report = json.loads(told.out)
    assert report["ok"] is False
    assert report["deployments"][0]["keys"][0]["status"] == 401
    assert {"ok", "wrong", "note"} == {finding["verdict"] for finding in report["deployments"][0]["findings"]}
    assert OTHER not in told.out
    assert told.err == ""


def test_a_url_to_compare_with_that_would_show_a_key_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    given = variables({"upstream__url": "https://mycompany.talon.one", "api_key": KEY})

    with pytest.raises(SystemExit) as ended:
        main(["--compare", "http://other.talon.one"], given)

    assert ended.value.code == 2
    assert "must be https" in capsys.readouterr().err


def test_without_settings_there_is_nothing_to_examine(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([], variables({"api_key": KEY})) == 2
    assert "upstream.url" in capsys.readouterr().err
