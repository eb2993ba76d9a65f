"""`talon-proxy simulate`: run a simulated Talon.One until SIGTERM or SIGINT.

Exit codes: 0 stopped as asked, 1 the address cannot be had or no certificate be made, 2 wrong usage.
"""

import argparse
import asyncio
import re
import secrets
import signal
import ssl
import sys
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import NamedTuple, NoReturn, TypeVar

import uvloop

from proxy.simulator import applications, faults, tls
from proxy.simulator.clock import moment
from proxy.simulator.deployments import MAX_WORLDS, Beginning
from proxy.simulator.idempotency import InFlight, Policy, Reuse, Stores
from proxy.simulator.keys import DEFAULT_KEY, Grant, Kind, default_grants
from proxy.simulator.server import Simulator
from proxy.simulator.visits import Counting

_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0}
T = TypeVar("T")


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
        grants = _grants(options.application, options.applications)
    except (UsageError, applications.ApplicationsError) as error:
        return _complain(f"{error} (--help shows the options)", code=2)
    try:
        context = tls.prepare(options.tls_dir, (*tls.HOSTS, *options.tls_host)) if options.tls else None
    except tls.TlsError as error:
        return _complain(f"no certificate: {error}", code=1)
    try:
        uvloop.run(_serve(_simulator(options, grants), options, context, grants))
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


def _said(read: Callable[[str], T]) -> Callable[[str], T]:
    """A reader whose ValueError argparse shows as it is, instead of `invalid value`."""

    def reader(text: str) -> T:
        try:
            return read(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from error

    return reader


def _header_word(text: str) -> str:
    if not re.fullmatch(r"[!-~]+", text):
        raise ValueError("must be printable and without spaces")
    return text


def _worlds(text: str) -> int:
    if not re.fullmatch(r"[1-9]\d{0,4}", text, re.ASCII):
        raise ValueError(f"{text!r} is no number of worlds")
    return int(text)


def _host(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9.:-]+", text, re.ASCII):
        raise ValueError(f"{text!r} is no host")
    return text


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="talon-proxy simulate",
        description="A Talon.One to run against. proxy/simulator/README.md tells more.",
        allow_abbrev=False,
    )
    _serving(parser.add_argument_group("serving"))
    _opening(parser.add_argument_group("keys and worlds"))
    _behaving(parser.add_argument_group("behaviour"))
    _undocumented(parser.add_argument_group("what nobody outside Talon.One knows, either way"))
    return parser


def _serving(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--listen",
        type=address,
        default=Address("127.0.0.1", 9900),
        metavar="HOST:PORT",
        help="default: %(default)s",
    )
    group.add_argument("--tls", action="store_true", help="serve https, with a certificate of an authority of its own")
    group.add_argument(
        "--tls-dir",
        type=Path,
        default=Path("simulator-tls"),
        metavar="DIR",
        help=f"where {tls.AUTHORITY}, the authority to trust, is kept; default: %(default)s",
    )
    group.add_argument(
        "--tls-host",
        type=_said(_host),
        action="append",
        default=[],
        metavar="HOST",
        help=f"a further host of the certificate, beside {', '.join(tls.HOSTS)}; repeatable",
    )
    group.add_argument(
        "--control-token",
        type=_said(_header_word),
        metavar="TOKEN",
        help="hear callers of /-/ on other machines too, with `Authorization: Bearer TOKEN`",
    )


def _opening(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--application",
        type=_said(applications.entry),
        action="append",
        default=[],
        metavar="NAME=KEY[@ENVIRONMENT][:testing]",
        help=f"an Application and a key that opens it, repeatable; default: default={DEFAULT_KEY}",
    )
    group.add_argument("--applications", type=Path, metavar="FILE", help="the same as tables in TOML")
    group.add_argument(
        "--management-key",
        type=_said(_header_word),
        default=DEFAULT_KEY,
        metavar="KEY",
        help="opens the sample of the Management API; default: %(default)s",
    )
    group.add_argument(
        "--worlds",
        type=_said(_worlds),
        default=MAX_WORLDS,
        metavar="N",
        help="how many worlds of KEY-NAME keys are kept at once; default: %(default)s",
    )


def _behaving(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--latency", type=duration, default=0.0, help="time a call takes, such as 25ms; default: 0")
    group.add_argument("--jitter", type=duration, default=0.0, help="how much it varies either way; default: 0")
    group.add_argument(
        "--fault",
        type=_said(faults.parse),
        action="append",
        default=[],
        metavar="KIND[,OPTION=…]",
        help="what goes wrong, such as 503,rate=0.01; repeatable",
    )
    group.add_argument("--seed", type=int, help="makes what chance decides repeatable")
    group.add_argument(
        "--clock", type=_said(moment), metavar="MOMENT", help="time stands still, such as at 2026-01-01T00:00:00Z"
    )


def _undocumented(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--dry-counts", action="store_true", help="dry calls take a place among the three parallel ones")
    group.add_argument("--reads-count", action="store_true", help="GETs of a session or a profile do")
    group.add_argument(
        "--idempotency-stores", type=Stores, choices=[*Stores], default=Stores.SUCCESS, help="which answers are stored"
    )
    group.add_argument(
        "--idempotency-reuse", type=Reuse, choices=[*Reuse], default=Reuse.REFUSE, help="a key with another call"
    )
    group.add_argument(
        "--idempotency-in-flight",
        type=InFlight,
        choices=[*InFlight],
        default=InFlight.WAIT,
        help="a key whose first call still runs",
    )


def _grants(entries: Sequence[applications.Entry], file: Path | None) -> tuple[Grant, ...]:
    given = [*(applications.load(file) if file else ()), *entries]
    return applications.grants(given) if given else default_grants()


def _simulator(options: argparse.Namespace, grants: tuple[Grant, ...]) -> Simulator:
    policy = Policy(options.idempotency_stores, options.idempotency_reuse, options.idempotency_in_flight)
    seed: int = secrets.randbelow(1_000_000) if options.seed is None else options.seed
    start: datetime | None = options.clock
    return Simulator(
        grants=grants,
        management_key=options.management_key,
        latency=options.latency,
        jitter=options.jitter,
        beginning=Beginning(seed, clock=start, faults=tuple(options.fault), idempotency=policy),
        max_worlds=options.worlds,
        counting=Counting(options.dry_counts, options.reads_count),
        control_token=options.control_token,
    )


async def _serve(
    simulator: Simulator, options: argparse.Namespace, context: ssl.SSLContext | None, grants: tuple[Grant, ...]
) -> None:
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    port = await simulator.start(options.listen.host, options.listen.port, tls=context)
    key = next((grant.key for grant in grants if grant.kind is Kind.LIVE), grants[0].key)
    _greet(Address(options.listen.host, port), key, options.tls_dir / tls.AUTHORITY if context else None)
    await stopped.wait()
    await simulator.stop()


def _greet(bound: Address, key: str, authority: Path | None) -> None:
    url = f"{'https' if authority else 'http'}://{bound}"
    trust = f" --cacert {authority}" if authority else ""
    sys.stdout.write(
        f"A simulated Talon.One listens on {url}, its Application key is {key}\n"
        f"A world of its own, for each parallel job: {key}-NAME\n"
        + (_how_to_trust(authority) if authority else "")
        + "Try:\n"
        f"  curl{trust} -X PUT '{url}/v2/customer_sessions/cart-1' -H 'Authorization: ApiKey-v1 {key}' \\\n"
        "    -H 'Content-Type: application/json' -d '"
        '{"customerSession": {"profileId": "jane", "couponCodes": ["WELCOME10"], '
        '"cartItems": [{"sku": "shoe", "quantity": 2, "price": 60}]}}\'\n'
        f"What arrived: {url}/-/journal\n"
    )
    sys.stdout.flush()


def _how_to_trust(authority: Path) -> str:
    path = authority.resolve()
    return (
        f"Its certificate is signed by {path}. Trust that, in one of these ways:\n"
        f"  talon-proxy  TALON_PROXY_UPSTREAM__TLS__CA_FILE={path}\n"
        f"  Node         NODE_EXTRA_CA_CERTS={path}\n"
        f"  Python       SSL_CERT_FILE={path}        (requests: REQUESTS_CA_BUNDLE)\n"
        f"  PHP          php -d curl.cainfo={path} -d openssl.cafile={path}\n"
        f"  Java         keytool -importcert -noprompt -alias simulator -storepass changeit -keystore trust.p12 \\\n"
        f"                 -file {path}\n"
        f"               java -Djavax.net.ssl.trustStore=trust.p12 -Djavax.net.ssl.trustStorePassword=changeit\n"
    )


def _complain(problem: str, *, code: int) -> int:
    sys.stderr.write(f"talon-proxy simulate: {problem}\n")
    return code
