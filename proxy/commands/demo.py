"""`talon-proxy demo`: a simulated Talon.One, the proxy in front of it, and a shop that calls both.

With `--stay` nobody calls: both keep running, for calls by hand. 0: shown; 1: an address is taken, or a call failed;
2: wrong settings.
"""

import asyncio
import http.client
import json
import shlex
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TextIO

import uvloop

from proxy.app import App
from proxy.commands.story import CART, STEPS, Scene, Status, closing, findings
from proxy.observe.logs import Logs
from proxy.secret import Redactor
from proxy.settings import Loaded, SettingsError, load, secrets
from proxy.settings.options import asked_for, options
from proxy.simulator.server import DEFAULT_KEY, Simulator

LATENCY = 0.025  # seconds Talon.One takes
_KEPT = ("TALON_PROXY_LISTEN", "TALON_PROXY_ADMIN__", "TALON_PROXY_LOG__", "TALON_PROXY_SHUTDOWN__")
PAUSE = 0.7  # seconds for a reader after each step


def main(flags: Sequence[str], environ: Mapping[str, str]) -> int:
    """Run the demonstration."""
    if asked_for(flags):
        print(options("demo [--stay] [--KEY VALUE …]"), end="")
        return 0
    stay = "--stay" in flags
    settings_flags = [flag for flag in flags if flag != "--stay"]
    try:
        return uvloop.run(_demo(settings_flags, environ, stay=stay))
    except SettingsError as error:
        print(error, file=sys.stderr)
        return 2
    except (OSError, http.client.HTTPException) as error:
        print(f"talon-proxy: {error}", file=sys.stderr)
        return 1


async def _demo(flags: Sequence[str], environ: Mapping[str, str], *, stay: bool) -> int:
    simulator = Simulator(latency=LATENCY)
    talon_one = f"127.0.0.1:{await simulator.start('127.0.0.1', 0)}"
    try:
        loaded = _load(flags, environ, f"http://{talon_one}", stay=stay)
        redactor = Redactor(secrets(loaded.settings))
        # What the checklist warns of is part of the story, and told at its end.
        logs = Logs(level="warning" if stay else "error", format="text", redact=redactor.redact)
        logs.start()
        try:
            app = App(loaded, logs, redactor=redactor)
            await app.start()
            if stay:
                await _stay(app, f"http://{talon_one}")
            else:
                await _show(app, talon_one)
            return await app.stop()
        finally:
            logs.stop(1.0)
    finally:
        await simulator.stop()


def _load(flags: Sequence[str], environ: Mapping[str, str], url: str, *, stay: bool) -> Loaded:
    """Give the settings of a proxy in front of `url`. Raises SettingsError."""
    # What is configured here for a real deployment, its keys and its clients, has no place in a demonstration.
    kept = {name: value for name, value in environ.items() if name.upper().startswith(_KEPT)}
    if stay:
        ours = {"TALON_PROXY_LISTEN": "127.0.0.1:7410", "TALON_PROXY_ADMIN__LISTEN": "127.0.0.1:7411", **kept}
    else:
        somewhere = dict.fromkeys(("TALON_PROXY_LISTEN", "TALON_PROXY_ADMIN__LISTEN"), "127.0.0.1:0")
        # The story tells what failed, and nobody else calls: there is no late call to wait for.
        quiet = {"TALON_PROXY_LOG__ACCESS": "off", "TALON_PROXY_SHUTDOWN__QUIET": "0s"}
        ours = {**kept, **somewhere, **quiet}
    return load(flags, {**ours, "TALON_PROXY_UPSTREAM__URL": url, "TALON_PROXY_API_KEY": DEFAULT_KEY})


# --- the story ------------------------------------------------------------------------------------------------


async def _show(app: App, talon_one: str) -> None:
    scene = Scene(talon_one=talon_one, proxy=app.addresses[0], key=DEFAULT_KEY, status=_on_loop(app.bulletin.status))
    teller = Teller(sys.stdout)
    await asyncio.to_thread(tell, scene, teller)
    teller.say("What it cost", list(closing(app.bulletin.status())))
    teller.say("What Talon.One's integration checklist says of this shop", list(findings(app.checking.told())))


def _on_loop(ask: Callable[[], Status]) -> Callable[[], Status]:
    """Make what the loop knows safe to ask from the shop's thread."""
    loop = asyncio.get_running_loop()

    async def answer() -> Status:
        return ask()

    return lambda: asyncio.run_coroutine_threadsafe(answer(), loop).result()


def tell(scene: Scene, teller: "Teller") -> None:
    """Play the steps and tell each. Raises OSError or HTTPException where a call got no answer."""
    teller.write(
        f"A simulated Talon.One that takes {LATENCY * 1000:.0f} ms for a call, on http://{scene.direct.address}.\n"
        f"talon-proxy in front of it, on http://{scene.proxied.address}. And a shop.\n\n"
    )
    for number, step in enumerate(STEPS, start=1):
        title = f"{number}/{len(STEPS)} {step.title}"
        teller.working(title)
        teller.say(title, list(step.play(scene)))
        teller.pause()


class Teller:
    """Writes what happened: on a terminal also what is happening, and with pauses to read."""

    def __init__(self, out: TextIO, *, sleep: Callable[[float], None] = time.sleep) -> None:
        self._out = out
        self._terminal = out.isatty()
        self._sleep = sleep

    def write(self, text: str) -> None:
        """Write as it is."""
        self._out.write(text)
        self._out.flush()

    def working(self, title: str) -> None:
        """Show what is going on; the next text takes its place."""
        if self._terminal:
            self.write(f"{title} …")

    def say(self, title: str, lines: Sequence[str]) -> None:
        """Tell a step."""
        over = "\r\x1b[K" if self._terminal else ""
        self.write(over + "\n".join((title, *(f"  {line}" for line in lines))) + "\n\n")

    def pause(self) -> None:
        """Let the reader catch up."""
        if self._terminal:
            self._sleep(PAUSE)


# --- by hand --------------------------------------------------------------------------------------------------


async def _stay(app: App, simulated: str) -> None:
    """Say what to try, and wait for a signal."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    address = app.addresses[0]
    proxy = f"{shlex.quote(sys.executable)} -m proxy"
    admin = f"--admin.listen {app.admin_addresses[0]}"
    print(
        f"""\
talon-proxy listens on http://{address}, in front of a simulated Talon.One at {simulated}.

A cart with a coupon; no key needed, the proxy adds it:

  curl -X PUT http://{address}/v2/customer_sessions/s1 -H 'Content-Type: application/json' \\
    -d '{json.dumps(CART)}'

What arrived at Talon.One:  curl {simulated}/-/journal
How it is, in a browser:    http://{app.admin_addresses[0]}/
Health, status, metrics:    curl http://{app.admin_addresses[0]}/readyz  …/status  …/metrics
How well you integrate:     http://{app.admin_addresses[0]}/checklist, or {proxy} checklist --least 1 {admin}
What the proxy does:        {proxy} status --watch {admin}
What it would do:           {proxy} explain PUT /v2/customer_sessions/s1

To talk to your own deployment instead:
  TALON_PROXY_UPSTREAM__URL=https://mycompany.europe-west1.talon.one TALON_PROXY_API_KEY=… make run

Ctrl-C ends it.""",
        flush=True,
    )
    await stop.wait()
