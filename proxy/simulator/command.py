"""`talon-proxy simulate`: run a simulated Talon.One until SIGTERM or SIGINT.

Exit codes: 0 stopped as asked, 1 the address cannot be had or no certificate be made, 2 wrong usage or rules.
"""

import argparse
import asyncio
import secrets
import signal
import ssl
import sys
from collections.abc import Sequence
from pathlib import Path

import uvloop

from proxy.simulator import applications, options, rulebook_file, tls
from proxy.simulator.deployments import Beginning
from proxy.simulator.keys import Grant, Kind, default_grants
from proxy.simulator.options import Address, UsageError
from proxy.simulator.rulebook import Rulebook
from proxy.simulator.rulebook_file import RulebookError
from proxy.simulator.server import Simulator


def main(argv: Sequence[str]) -> int:
    """Run the command with the arguments after its name; returns the exit code."""
    try:
        given = options.parse(argv)
        if given.show_rules:
            sys.stdout.write(rulebook_file.default_text())
            return 0
        grants = _grants(given.application, given.applications)
        book = rulebook_file.load(given.rules) if given.rules else rulebook_file.default()
    except (UsageError, applications.ApplicationsError) as error:
        return _complain(f"{error} (--help shows the options)", code=2)
    except RulebookError as error:
        return _complain("\n  ".join(["the rules cannot be used:", *error.problems]), code=2)
    try:
        context = tls.prepare(given.tls_dir, (*tls.HOSTS, *given.tls_host)) if given.tls else None
    except tls.TlsError as error:
        return _complain(f"no certificate: {error}", code=1)
    try:
        uvloop.run(_serve(_simulator(given, grants, book), given, context, grants))
    except OSError as error:
        return _complain(f"cannot listen on {given.listen}: {error.strerror or error}", code=1)
    return 0


def _grants(entries: Sequence[applications.Entry], file: Path | None) -> tuple[Grant, ...]:
    given = [*(applications.load(file) if file else ()), *entries]
    return applications.grants(given) if given else default_grants()


def _simulator(given: argparse.Namespace, grants: tuple[Grant, ...], book: Rulebook) -> Simulator:
    return Simulator(
        grants=grants,
        management_key=given.management_key,
        latency=given.latency,
        jitter=given.jitter,
        beginning=Beginning(
            secrets.randbelow(1_000_000) if given.seed is None else given.seed,
            book=book.with_unknowns(options.unknowns(given)),
            clock=given.clock,
            faults=tuple(given.fault),
        ),
        max_worlds=given.worlds,
        control_token=given.control_token,
    )


async def _serve(
    simulator: Simulator, given: argparse.Namespace, context: ssl.SSLContext | None, grants: tuple[Grant, ...]
) -> None:
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    port = await simulator.start(given.listen.host, given.listen.port, tls=context)
    key = next((grant.key for grant in grants if grant.kind is Kind.LIVE), grants[0].key)
    _greet(Address(given.listen.host, port), key, given.tls_dir / tls.AUTHORITY if context else None)
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
