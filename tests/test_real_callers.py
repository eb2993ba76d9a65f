"""Clients that shops really use, against the real process: unchanged but for the base URL, and without a key.

Each makes three calls and must keep to one connection. A relay stands in front of the proxy, so that the proof is the
same for all of them and none has to be believed.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import NamedTuple

import pytest

from proxy.simulator.server import Simulator
from tests.process import PATIENCE, Process, Serve, serving
from tests.relay import Relay

CALLERS = Path(__file__).parent / "callers"
CART = {
    "profileId": "jane",
    "couponCodes": ["WELCOME10"],
    "cartItems": [{"name": "Shoe", "sku": "shoe", "quantity": 2, "price": 60}],
}
SESSION = json.dumps({"customerSession": CART})
EVENT = json.dumps({"profileId": "jane", "type": "viewed", "attributes": {}})
JSON = "Content-Type: application/json"
TOLD = ["--silent", "--show-error", "--write-out", "\n%{http_code} %header{x-request-id}\n"]


class Caller(NamedTuple):
    """How a client is run. `{url}` and `{socket}` are filled in; `check` succeeds where it can run."""

    name: str
    command: tuple[str, ...]
    check: tuple[str, ...]
    sends: bytes = b""  # what is special about it, in lower case


CURL = (
    *("curl", *TOLD, "--request", "PUT", "--header", JSON, "--header", "X-Request-Id: from-caller"),
    *("--data", SESSION, "{url}/v2/customer_sessions/cart%2F1"),
    *("--next", *TOLD, "{url}/v2/customer_sessions/cart%2F1"),
    *("--next", *TOLD, "--header", JSON, "--data", EVENT, "{url}/v2/events"),
)
PHP = ("php", str(CALLERS / "caller.php"))
PHP_CURL = ("php", "-r", "exit(extension_loaded('curl') ? 0 : 1);")
KNOWN = [
    Caller("curl", CURL, ("curl", "--version"), b"user-agent: curl/"),
    Caller("urllib3", (sys.executable, str(CALLERS / "caller.py"), "{url}"), (sys.executable, "-c", "import urllib3")),
    Caller(
        "node fetch",
        ("node", str(CALLERS / "caller.mjs"), "{url}"),
        ("node", "-e", "process.exit(typeof fetch === 'function' ? 0 : 1)"),
        b"sec-fetch-mode: cors",
    ),
    Caller(
        "java HttpClient",
        ("java", "-XX:TieredStopAtLevel=1", str(CALLERS / "Caller.java"), "{url}"),
        ("javac", "--version"),
        b"upgrade: h2c",
    ),
    Caller("php curl", (*PHP, "{url}"), PHP_CURL),
    Caller("php curl, unix socket", (*PHP, "http://localhost", "{socket}"), PHP_CURL),
]


class Shop(NamedTuple):
    """A simulated Talon.One, the proxy, the relay, and what callers are told of them."""

    simulator: Simulator
    proxy: Serve
    relay: Relay
    told: dict[str, str]


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Shop]:
    simulator = Simulator()
    port = await simulator.start()
    listen = f"127.0.0.1:0,unix:{tmp_path / 'proxy'}"
    async with serving(f"http://127.0.0.1:{port}", listen=listen) as proxy:
        relay = Relay(proxy)
        told = await relay.start(tmp_path)
        yield Shop(simulator, proxy, relay, told)
        await relay.stop()
    await simulator.stop()


def needs(caller: Caller) -> None:
    """Skip where the caller cannot run; in CI that is a failure."""
    program = caller.check[0]
    if shutil.which(program) and subprocess.run(caller.check, capture_output=True, timeout=PATIENCE).returncode == 0:
        return
    reason = f"{caller.name} cannot run here: {' '.join(caller.check)}"
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


async def tell(caller: Caller, told: dict[str, str]) -> list[tuple[int, str, str]]:
    """Run a caller; gives status, request id and body of each of its calls."""
    command = [part.replace("{url}", told["url"]).replace("{socket}", told["socket"]) for part in caller.command]
    process = await Process.start(*command, env={"SESSION": SESSION, "EVENT": EVENT})
    try:
        ended = await process.ended()
    finally:
        await process.kill()
    assert (ended.code, ended.err) == (0, "")
    lines = ended.out.splitlines()
    heads = [line.split(" ") for line in lines[1::2]]
    return [(int(status), request_id, body) for body, (status, request_id) in zip(lines[::2], heads, strict=True)]


@pytest.mark.parametrize("caller", KNOWN, ids=lambda caller: caller.name)
async def test_a_caller_keeps_one_connection_and_needs_no_key(caller: Caller, shop: Shop) -> None:
    needs(caller)

    updated, looked, tracked = await tell(caller, shop.told)

    assert (updated[0], looked[0], tracked[0]) == (200, 200, 204)
    assert "setDiscount" in [effect["effectType"] for effect in json.loads(updated[2])["effects"]]
    assert json.loads(looked[2])["customerSession"]["couponCodes"] == ["WELCOME10"]
    assert tracked[2] == ""

    arrived = shop.simulator.journal.entries()
    assert [(entry.method, entry.target) for entry in arrived] == [
        ("PUT", "/v2/customer_sessions/cart%2F1"),
        ("GET", "/v2/customer_sessions/cart%2F1"),
        ("POST", "/v2/events"),
    ]
    assert [entry.request_id for entry in arrived] == [updated[1], looked[1], tracked[1]]
    assert updated[1] == "from-caller"
    assert len({entry.request_id for entry in arrived}) == 3

    (connection,) = shop.relay.connections
    sent = bytes(connection).lower()
    assert sent.count(caller.sends) >= 3
    assert b"authorization" not in sent
    assert (await shop.proxy.status())["upstream"]["connections"]["opened"] <= 3  # the one in use, and two ahead
