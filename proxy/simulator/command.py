"""`talon-proxy simulate`: run a simulated Talon.One until SIGTERM or SIGINT.

Exit codes: 0 stopped as asked, 1 the address cannot be had, 2 wrong usage.
"""

import argparse
import asyncio
import re
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, NoReturn

import uvloop

from proxy.simulator import rulebook_file
from proxy.simulator.rulebook_file import RulebookError
from proxy.simulator.server import DEFAULT_KEY, Simulator
from proxy.simulator.world import Application, World

_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0}


class Address(NamedTuple):
    """Where to listen; IPv6 hosts without brackets."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class UsageError(Exception):
    """The command line is wrong; the text says how, in one line."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(message)


def main(argv: Sequence[str]) -> int:
    """Run the command with the arguments after its name; returns the exit code."""
    try:
        options = _parser().parse_args(argv)
        if options.show_rules:
            sys.stdout.write(rulebook_file.default_text())
            return 0
        keys = _keys(options.key)
        book = rulebook_file.load(options.rules) if options.rules else rulebook_file.default()
    except UsageError as error:
        return _complain(f"{error} (--help shows the options)", code=2)
    except RulebookError as error:
        return _complain("\n  ".join(["the rules cannot be used:", *error.problems]), code=2)
    simulator = Simulator(keys=keys, latency=options.latency, jitter=options.jitter, world=World(book=book))
    try:
        uvloop.run(_serve(simulator, options.listen, key=next(iter(keys))))
    except OSError as error:
        return _complain(f"cannot listen on {options.listen}: {error.strerror or error}", code=1)
    return 0


def duration(text: str) -> float:
    """Seconds of a duration such as 25ms, 1.5s, 2m or 0."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)(ms|s|m)", text, re.ASCII)
    if match:
        return float(match[1]) * _SECONDS[match[2]]
    if text == "0":
        return 0.0
    raise argparse.ArgumentTypeError(f"{text!r} is not a duration such as 25ms or 1.5s")


def address(text: str) -> Address:
    """Host and port of 127.0.0.1:9900 or [::1]:9900; port 0 lets the system choose."""
    match = re.fullmatch(r"(?:\[([0-9A-Fa-f:.%\w]+)\]|([^\s:\[\]]+)):(\d{1,5})", text, re.ASCII)
    if match is None or int(match[3]) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not an address such as 127.0.0.1:9900")
    return Address(match[1] or match[2], int(match[3]))


def key_entry(text: str) -> tuple[str, str]:
    """Application name and key of NAME=KEY."""
    name, _, key = text.partition("=")
    if not name or not key or not key.isascii() or not key.isprintable() or " " in key:
        raise argparse.ArgumentTypeError("an Application and its key are written NAME=KEY, the key without spaces")
    return name, key


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="talon-proxy simulate", description="A Talon.One to run against.", allow_abbrev=False)
    parser.add_argument(
        "--listen",
        type=address,
        default=Address("127.0.0.1", 9900),
        metavar="HOST:PORT",
        help="default: %(default)s",
    )
    parser.add_argument("--latency", type=duration, default=0.0, help="time a call takes, such as 25ms; default: 0")
    parser.add_argument("--jitter", type=duration, default=0.0, help="how much it varies either way; default: 0")
    parser.add_argument(
        "--key",
        type=key_entry,
        action="append",
        default=[],
        metavar="NAME=KEY",
        help=f"an Application and a key that opens it, repeatable; default: default={DEFAULT_KEY}",
    )
    parser.add_argument("--rules", type=Path, metavar="FILE", help="campaigns, coupons, loyalty …; default: built in")
    parser.add_argument("--show-rules", action="store_true", help="print the built-in rules, to copy and change")
    return parser


def _keys(entries: Sequence[tuple[str, str]]) -> dict[str, Application]:
    """Several keys may open one Application; Applications are numbered in the order given."""
    applications: dict[str, Application] = {}
    keys: dict[str, Application] = {}
    for name, key in entries or [("default", DEFAULT_KEY)]:
        application = applications.setdefault(name, Application(name, id=len(applications) + 1))
        if keys.setdefault(key, application) is not application:
            raise UsageError(f"one key cannot open both {keys[key].name} and {name}")
    return keys


async def _serve(simulator: Simulator, listen: Address, *, key: str) -> None:
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    port = await simulator.start(listen.host, listen.port)
    _greet(Address(listen.host, port), key)
    await stopped.wait()
    await simulator.stop()


def _greet(bound: Address, key: str) -> None:
    sys.stdout.write(
        f"A simulated Talon.One listens on http://{bound}, its Application key is {key}\n"
        "Try:\n"
        f"  curl -X PUT 'http://{bound}/v2/customer_sessions/cart-1' -H 'Authorization: ApiKey-v1 {key}' \\\n"
        "    -H 'Content-Type: application/json' -d '"
        '{"customerSession": {"profileId": "jane", "couponCodes": ["WELCOME10"], '
        '"cartItems": [{"sku": "shoe", "quantity": 2, "price": 60}]}}\'\n'
        f"What arrived: http://{bound}/-/journal\n"
    )
    sys.stdout.flush()


def _complain(problem: str, *, code: int) -> int:
    sys.stderr.write(f"talon-proxy simulate: {problem}\n")
    return code
