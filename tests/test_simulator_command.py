import argparse
import asyncio
import re
import signal
import socket
import sys

import aiohttp
import pytest

from proxy.simulator.command import Address, address, duration, main


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
