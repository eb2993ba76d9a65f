"""The checklist of a real process: at its admin port, as a command, in a build."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from xml.etree import ElementTree

import pytest

from proxy.commands.checklist import LISTS
from proxy.talon.checklist.table import IDS
from tests.process import ROOT, Ended, Serve, request, run, serving, simulating, talon_proxy

PUT = ("PUT", "/v2/customer_sessions/{}")
CART = b'{"customerSession": {"profileId": "p%d", "cartItems": [{"sku": "shoe", "quantity": 2, "price": 60}]}}'
EXAMPLE = ROOT / "tests" / "examples" / "checklist"


@asynccontextmanager
async def shopping(**settings: str) -> AsyncIterator[Serve]:
    """Give a proxy in front of a simulator, and ten carts with mail addresses for ids that have passed it."""
    async with simulating() as url, serving(url, api_key="simulator", checklist__replies="1", **settings) as proxy:
        for number in range(10):
            answer = await proxy.ask("PUT", f"/v2/customer_sessions/jane.{number}%40shop.example", CART % number)
            assert answer.status == 200
        answer = await proxy.ask("PUT", "/v2/customer_sessions/s", b'{"customerSession": {"attributes": {"Odd": 1}}}')
        assert answer.status == 400
        await looked(proxy, 11)
        yield proxy


async def looked(proxy: Serve, calls: int) -> None:
    """Wait until so many calls have been looked at: that is beside the calls."""
    while (await proxy.ask_admin("/checklist.json")).json["proxies"][0]["looked_at"] < calls:
        pass  # a round trip lets it go on


async def command(proxy: Serve, *arguments: str) -> Ended:
    return await talon_proxy("checklist", *arguments, "--admin.listen", f"unix:{proxy.admin}")


async def test_the_admin_port_and_the_command_tell_what_was_found(tmp_path: Path) -> None:
    async with shopping() as proxy:
        told = (await proxy.ask_admin("/checklist.json")).json
        page = await proxy.ask_admin("/checklist")
        metrics = (await proxy.ask_admin("/metrics")).body.decode()
        text, xml, markdown, failed, passed = await asyncio.gather(
            command(proxy),
            command(proxy, "--format", "junit", "--fail-on", "warning"),
            command(proxy, "--format", "markdown"),
            command(proxy, "--fail-on", "warning"),
            command(proxy, "--fail-on", "problem"),
        )
        lists = await asyncio.gather(*(command(proxy, what) for what in LISTS))
        saved = await command(proxy, "--format", "json")
        ended = await proxy.stop()

    assert [rule["id"] for rule in told["rules"]] == list(IDS)
    assert told["fixes"] == ["session.id-is-email", *told["fixes"][1:]]
    assert "text/html" in page.head
    assert "sha256-" in page.field("content-security-policy")
    assert 'talon_proxy_checklist_broken_total{rule="session.id-is-email"} 10.0' in metrics
    assert 'talon_proxy_effects_total{effect_type="setDiscount"} 10.0' in metrics
    assert 'talon_proxy_effects_total{effect_type="other"} 0.0' in metrics
    assert "Session ids are not mail addresses" in text.out
    assert text.out.startswith("1 warning")
    assert "10 × updateCustomerSessionV2 by " in text.out
    assert "; request ids " in text.out
    assert (xml.code, failed.code, passed.code) == (1, 1, 0)
    cases = {case.get("name"): case for case in ElementTree.fromstring(xml.out).iter("testcase")}
    assert set(cases) == set(IDS)
    failures = [name for name, case in cases.items() if case.find("failure") is not None]
    assert failures == ["session.id-is-email"]
    assert "| warning | [Session ids are not mail addresses](https://" in markdown.out
    assert "CustomerSession.Odd: number" in lists[0].out
    assert "setDiscount" in lists[1].out
    assert "400 Unknown /attributes/Odd" in lists[2].out
    assert "none so far" in lists[3].out
    assert "shop.example" not in f"{told}{ended.out}{metrics}"

    file, other = tmp_path / "now.json", tmp_path / "other.json"
    file.write_text(saved.out)
    record = json.loads(saved.out)
    record["proxies"][0]["name"] = "other"
    other.write_text(json.dumps(record))
    same, both, twice = await asyncio.gather(
        talon_proxy("checklist", "--merge", str(file), "--baseline", str(file), "--fail-on", "warning"),
        talon_proxy("checklist", "--merge", str(file), str(other), "--fail-on", "warning"),
        talon_proxy("checklist", "--merge", str(file), str(other), str(file)),
    )
    assert (same.code, both.code) == (0, 1), "what the baseline has fails nothing"
    assert "22 calls" in both.out
    assert "of 2 proxies" in both.out
    assert (twice.code, twice.out) == (1, "")
    assert "is in there 2 times" in twice.err


async def test_a_build_waits_until_all_its_calls_have_been_looked_at() -> None:
    async with simulating() as url, serving(url, api_key="simulator") as proxy:
        line = await proxy.client()
        for number in range(300):
            await line.send(request("PUT", f"/v2/customer_sessions/cart-{number}", CART % number))
            await line.message()
        told = await command(proxy, "--least", "1", "--format", "json")

    (looker,) = json.loads(told.out)["proxies"]
    assert (looker["looked_at"], looker["waiting"], looker["thinned"], looker["dropped"]) == (300, 0, 0, 0)


async def test_what_is_acknowledged_and_what_is_off(tmp_path: Path) -> None:
    file = tmp_path / "proxy.toml"
    reason = "these are the ids of a partner"
    file.write_text(f'[checklist]\nacknowledged = {{ "session.id-is-email" = "{reason}" }}\n')
    async with shopping(config=str(file), admin__token="t" * 20) as proxy:
        gate = await command(proxy, "--fail-on", "warning")
        assert gate.code == 0
        assert f"acknowledged: {reason}" in gate.out
        acknowledged = b'talon_proxy_checklist_acknowledged{rule="session.id-is-email"} 1.0'
        assert acknowledged in (await proxy.ask_admin("/metrics")).body

        file.write_text("[checklist]\nenabled = false\n")
        proxy.send(signal.SIGHUP)
        while (await proxy.ask_admin("/checklist.json")).status != 404:
            pass
        off = await command(proxy)
        metrics = (await proxy.ask_admin("/metrics")).body

        file.write_text("")
        proxy.send(signal.SIGHUP)
        while (await proxy.ask_admin("/checklist.json")).status != 200:
            pass
        await proxy.ask("PUT", "/v2/customer_sessions/joe%40shop.example", CART % 0)
        await looked(proxy, 12)
        again = (await proxy.ask_admin("/checklist.json")).json["tallies"]["session.id-is-email"]

    assert (again["checked"], again["broken"]) == (12, 11), "counts go on"
    assert off.code == 1
    assert "off (checklist.enabled)" in off.err
    assert b"talon_proxy_checklist" not in metrics


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("--admin.listen", "unix:/nowhere"), 1, "checklist: "),
        (("--merge", "/nowhere.json"), 1, "No such file"),
        (("--merge", os.devnull), 1, "not JSON"),
        (("--merge", str(ROOT / "tests" / "examples" / "jest" / "package.json")), 1, "not the checklist"),
        (("--least", "0"), 2, "--least: must be a number"),
        (("effects", "--format", "junit"), 2, "no JUnit format"),
        (("everything",), 2, "invalid choice"),
    ],
)
async def test_what_cannot_be_told(arguments: tuple[str, ...], code: int, said: str) -> None:
    ended = await talon_proxy("checklist", *arguments)

    assert (ended.code, ended.out) == (code, "")
    assert said in ended.err


@pytest.mark.parametrize(("how", "code", "failures"), [("tidy", 0, []), ("careless", 1, ["session.never-closed"])])
async def test_the_example_gates_a_build(tmp_path: Path, how: str, code: int, failures: list[str]) -> None:
    """tests/examples/checklist, as proxy/simulator/CHECKLIST.md tells it."""
    proxy = tmp_path / "talon-proxy"
    proxy.write_text('#!/bin/sh\nexec "$PYTHON" -P -m proxy "$@"\n')
    proxy.chmod(0o755)
    report = tmp_path / "checklist.xml"
    env = {
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "TALON_PROXY_LISTEN": f"unix:{tmp_path}/proxy.sock",
        "TALON_PROXY_ADMIN__LISTEN": f"unix:{tmp_path}/admin.sock",
        "CURL": f"curl --unix-socket {tmp_path}/proxy.sock",
        "REPORT": str(report),
        "PYTHON": sys.executable,
    }

    ended = await run("sh", str(EXAMPLE / "gate.sh"), "sh", str(EXAMPLE / "checkout.sh"), how, env=env)

    assert ended.code == code, ended
    cases = {case.get("name"): case for case in ElementTree.fromstring(report.read_text()).iter("testcase")}
    assert [name for name, case in cases.items() if case.find("failure") is not None] == failures
    assert {"session.id-is-email", "attributes.undefined"} <= {
        name for name, case in cases.items() if case.find("failure") is None and case.find("skipped") is None
    }
