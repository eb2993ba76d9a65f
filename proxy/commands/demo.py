"""`talon-proxy demo`: a simulated Talon.One, the proxy in front of it, a few calls of a shop, and what they did.

With `--stay` both keep running after they are up, for calls by hand.
"""

import asyncio
import http.client
import json
import os
import signal
import sys
from collections.abc import Mapping, Sequence

import uvloop

from proxy.app import App, credentials_of
from proxy.observe.logs import Logs
from proxy.settings import SettingsError, load
from proxy.simulator.server import DEFAULT_KEY, Simulator

LATENCY = 0.025  # seconds Talon.One takes
CART = {
    "customerSession": {
        "profileId": "jane",
        "couponCodes": ["WELCOME10"],
        "cartItems": [{"name": "Shoe", "sku": "shoe", "quantity": 2, "price": 60}],
    }
}


def main(flags: Sequence[str], environ: Mapping[str, str]) -> int:
    """Run the demonstration. 0 shown, 1 an address is taken, 2 wrong settings."""
    stay = "--stay" in flags
    settings_flags = [flag for flag in flags if flag != "--stay"]
    try:
        return uvloop.run(_demo(settings_flags, environ, stay=stay))
    except SettingsError as error:
        print(error, file=sys.stderr)
        return 2
    except OSError as error:
        print(f"talon-proxy: {error}", file=sys.stderr)
        return 1


async def _demo(flags: Sequence[str], environ: Mapping[str, str], *, stay: bool) -> int:
    simulator = Simulator(latency=LATENCY)
    port = await simulator.start("127.0.0.1", 0)
    given = {
        "TALON_PROXY_LISTEN": "127.0.0.1:7410" if stay else "127.0.0.1:0",
        "TALON_PROXY_ADMIN__LISTEN": "127.0.0.1:7411" if stay else "127.0.0.1:0",
        **environ,
        "TALON_PROXY_UPSTREAM__URL": f"http://127.0.0.1:{port}",
        "TALON_PROXY_API_KEY": DEFAULT_KEY,
    }
    settings = load(flags, given).settings
    credentials = credentials_of(settings)
    logs = Logs(level="warning", format="text", redact=credentials.redact)
    logs.start()
    app = App(settings, logs, credentials=credentials)
    try:
        await app.start()
        if stay:
            await _stay(app, f"http://127.0.0.1:{port}")
        else:
            await asyncio.to_thread(_show, app.addresses[0])
        return await app.stop()
    finally:
        await simulator.stop()
        logs.stop(1.0)


async def _stay(app: App, simulated: str) -> None:
    """Say what to try, and wait for a signal."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    address = app.addresses[0]
    print(
        f"""\
talon-proxy listens on http://{address}, in front of a simulated Talon.One at {simulated}.

A cart with a coupon; no key needed, the proxy adds it:

  curl -X PUT http://{address}/v2/customer_sessions/s1 -H 'Content-Type: application/json' \\
    -d '{json.dumps(CART)}'

What arrived at Talon.One:  curl {simulated}/-/journal
Health, status, metrics:    curl http://{app.admin_addresses[0]}/readyz  …/status  …/metrics

To talk to your own deployment instead:
  TALON_PROXY_UPSTREAM__URL=https://mycompany.europe-west1.talon.one TALON_PROXY_API_KEY=… make run

Ctrl-C ends it.""",
        flush=True,
    )
    await stop.wait()


def _show(address: str) -> None:
    """Make a shop's calls over one connection, and explain each."""
    steps = [
        ("A cart with a coupon", "PUT", "/v2/customer_sessions/demo", CART),
        ("The customer looks again", "GET", "/v2/customer_sessions/demo", None),
        ("The customer pays", "PUT", "/v2/customer_sessions/demo", {"customerSession": {"state": "closed"}}),
        ("A path that is not Talon.One's Integration API", "GET", "/v1/applications", None),
    ]
    caller = http.client.HTTPConnection(address)
    print(f"A simulated Talon.One ({LATENCY * 1000:.0f} ms per call), the proxy on http://{address}, and a shop")
    print("that holds no key.\n")
    for title, method, path, body in steps:
        payload = json.dumps(body) if body else None
        caller.request(method, path, payload, {"Content-Type": "application/json"} if payload else {})
        answer = caller.getresponse()
        content = json.loads(answer.read())
        print(f"{title}\n  {method} {path} → {answer.status}")
        print(f"  {_told(content)}\n  {answer.headers['Server-Timing']}\n")
    caller.close()
    print("One connection of the shop, warm connections to Talon.One, and the key only ever on the second half.")


def _told(content: dict[str, object]) -> str:
    effects = content.get("effects")
    if isinstance(effects, list):
        return "effects: " + (", ".join(str(effect["effectType"]) for effect in effects) or "none")
    return str(content.get("message", "the session as Talon.One has it"))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], os.environ))
