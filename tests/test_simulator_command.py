import argparse
import asyncio
import re
import shutil
import signal
import socket
import ssl
import sys
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from proxy.simulator import options, rulebook_file
from proxy.simulator.command import main
from proxy.simulator.faults import Kind
from proxy.simulator.options import Address, address, duration
from proxy.simulator.unknowns import Unknowns
from tests.process import PROXY, ROOT, Process


@pytest.mark.parametrize(("text", "seconds"), [("25ms", 0.025), ("1.5s", 1.5), ("2m", 120.0), ("0", 0.0), ("0ms", 0.0)])
def test_durations_have_units(text: str, seconds: float) -> None:
    assert duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["25", "ms", "-1s", "1h", "1 s", "nan", "٢ms", ""])
def test_bad_durations_are_refused(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError):
        duration(text)


def test_addresses_may_be_ipv6() -> None:
    assert address("127.0.0.1:9900") == Address("127.0.0.1", 9900)
    assert address("[::1]:0") == Address("::1", 0)
    assert str(Address("::1", 80)) == "[::1]:80"


@pytest.mark.parametrize("text", ["9900", ":9900", "127.0.0.1", "127.0.0.1:65536", "::1:80", "host:x"])
def test_bad_addresses_are_refused(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError):
        address(text)


@pytest.mark.parametrize(
    "arguments",
    [
        ["--latency", "25"],
        ["--listen", "nowhere"],
        ["--application", "shop"],
        ["--application", "shop=k", "--application", "outlet=k"],
        ["--applications", "/nowhere"],
        ["--fault", "earthquake"],
        ["--clock", "2026-01-01T00:00:00"],
        ["--worlds", "0"],
        ["--control-token", "two words"],
        ["--idempotency-stores", "nothing"],
        ["--what"],
        ["extra"],
    ],
)
def test_wrong_usage_is_one_line_and_code_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2

    complaint = capsys.readouterr().err
    assert complaint.count("\n") == 1
    assert complaint.startswith("talon-proxy simulate: ")


def test_a_taken_port_is_one_line_and_code_1(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]

        assert main(["--listen", f"127.0.0.1:{port}"]) == 1

    complaint = capsys.readouterr().err
    assert complaint.count("\n") == 1
    assert f"cannot listen on 127.0.0.1:{port}: " in complaint
    assert "in use" in complaint


def test_every_switch_is_an_option_that_overrides_the_rules() -> None:
    rules = rulebook_file.parse("[unknowns]\ndry_counts = true\nunknown_session = 400\nlegacy_dry = true")
    arguments = ["--no-dry-counts", "--reads-count", "--unknown-session", "404", "--idempotency-reuse", "run"]

    given = options.unknowns(options.parse([*arguments, "--duplicate-event-message", "Twice"]))

    changed = {"reads_count": True, "legacy_dry": True, "idempotency_reuse": "run", "duplicate_event_message": "Twice"}
    assert rules.with_unknowns(given).unknowns == Unknowns.model_validate(changed)
    assert options.unknowns(options.parse([])) == {}
    assert all(field.description for field in Unknowns.model_fields.values())


async def test_all_that_is_asked_for_on_the_command_line_is_so(tmp_path: Path) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("the openssl program is not there")
    (tmp_path / "applications.toml").write_text('[applications.shop]\nkeys = ["one"]\n')
    (tmp_path / "rules.toml").write_text('[[campaigns]]\nname = "Mine"\nrules = []\n')
    arguments = [
        *("--listen", "127.0.0.1:0", "--tls", "--tls-dir", str(tmp_path / "tls"), "--tls-host", "simulator"),
        *("--applications", str(tmp_path / "applications.toml"), "--application", "outlet=two@live:testing"),
        *("--clock", "2026-01-01T00:00:00Z", "--seed", "5", "--fault", "503,path=/v2/events", "--worlds", "3"),
        *(
            "--rules",
            str(tmp_path / "rules.toml"),
            "--idempotency-reuse",
            "replay",
            "--management-key",
            "boss",
            "--control-token",
            "secret",
        ),
    ]
    process = await Process.start(*PROXY, "simulate", *arguments)
    try:
        url = (await process.line("listens on https://")).split(" ")[5].rstrip(",")
        assert "NODE_EXTRA_CA_CERTS=" + str(tmp_path / "tls" / "ca.pem") in await process.line("Node")
        trusting = ssl.create_default_context(cafile=tmp_path / "tls" / "ca.pem")
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=trusting)) as client:

            async def call(method: str, target: str, key: str = "one", sent: object = None, **more: str) -> Any:
                headers = {"Authorization": f"ApiKey-v1 {key}"} | more
                async with client.request(method, url + target, json=sent, headers=headers) as reply:
                    return reply.status, await reply.json()

            assert (await call("GET", "/-/stats"))[1]["seed"] == 5
            assert (await call("GET", "/-/clock"))[1]["now"] == "2026-01-01T00:00:00Z"
            assert (await call("POST", "/v2/events", sent={"type": "viewed", "profileId": "jane"}))[0] == 503
            assert (await call("GET", "/v1/integration/campaigns", "two"))[0] == 400, "a testing key"
            answers = [
                await call(
                    "PUT",
                    "/v2/customer_profiles/jane",
                    "one",
                    {"attributes": {"Name": name}},
                    **{"Idempotency-Key": "k"},
                )
                for name in ("Jane", "Joan")
            ]
            assert answers[0] == answers[1]
            _, listed = await call("GET", "/v1/applications", Authorization="ManagementKey-v1 boss")
            assert [application["name"] for application in listed["data"]] == ["shop", "outlet"]
            _, running = await call("GET", "/v1/integration/campaigns")
            assert [campaign["name"] for campaign in running["data"]] == ["Mine"]
            for number in range(4):
                await call("GET", "/v1/integration/campaigns", f"one-{number}")
            assert (await call("GET", "/-/stats"))[1]["worlds"] == ["main", "1", "2", "3"]
        ended = await process.stop()
        assert (ended.code, ended.err) == (0, "")
    finally:
        await process.kill()


def test_the_page_for_testers_names_what_there_is(capsys: pytest.CaptureFixture[str]) -> None:
    page = (ROOT / "proxy" / "simulator" / "README.md").read_text()
    with pytest.raises(SystemExit):
        main(["--help"])
    options = set(re.findall(r"--[a-z][a-z-]+", capsys.readouterr().out))

    # Flags of other programs stand in blocks of shell, together with those of curl.
    prose = re.sub(r"^curl .*?\n(?=\S|$)", "", page, flags=re.MULTILINE | re.DOTALL)
    assert set(re.findall(r"--[a-z][a-z-]+", prose)) <= options
    for kind in (kind for kind in Kind if kind is not Kind.STATUS):
        assert f"`{kind}`" in page


def test_a_certificate_that_cannot_be_made_is_code_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")

    assert main(["--tls", "--tls-dir", str(tmp_path / "file")]) == 1

    assert capsys.readouterr().err.startswith("talon-proxy simulate: no certificate: ")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_it_greets_serves_and_stops_when_asked(number: signal.Signals) -> None:
    program = "import sys; from proxy.simulator.command import main; sys.exit(main(sys.argv[1:]))"
    arguments = [
        "--listen",
        "127.0.0.1:0",
        "--application",
        "shop=one",
        "--application",
        "shop=two",
        "--latency",
        "1ms",
    ]
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, *arguments, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    try:
        greeting = (await process.stdout.readline()).decode()
        assert greeting.endswith("its Application key is one\n")
        found = re.search(r"http://[\d.:]+", greeting)
        assert found is not None
        url = found[0]
        async with aiohttp.ClientSession() as client:
            headers = {"Authorization": "ApiKey-v1 two"}
            async with client.get(f"{url}/v1/integration/campaigns", headers=headers) as reply:
                assert reply.status == 200
            process.send_signal(number)
            assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
