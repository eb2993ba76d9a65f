"""`talon-proxy explain METHOD PATH`: what would become of a call, without sending it.

The settings are those that `serve` would use. 0: explained, a refusal too; 1: a file cannot be read; 2: wrong usage or
settings.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from proxy.commands import usual
from proxy.commands.explanation import Explanation, Forwarding, Names, Request, Verdict, explain
from proxy.settings import SettingsError

_KINDS = {
    "read": "read: changes nothing",
    "write": "write: stores, runs no rules",
    "evaluate": "evaluate: runs the Rule Engine, and stores",
}
_LABEL = 16  # columns
_EXAMPLE = "example: talon-proxy explain PUT '/v2/customer_sessions/s1?dry=true' --body cart.json"


def main(arguments: Sequence[str], environ: Mapping[str, str]) -> int:
    """Explain a call."""
    parser = _parser()
    options, flags = parser.parse_known_args(arguments)
    words = (options.method, options.path, *options.header)
    if any(character in word for word in words for character in "\r\n\0"):
        parser.error("a method, a path or a header is one line")
    try:
        body = _read(options.body)
    except OSError as error:
        print(f"talon-proxy explain: {options.body} cannot be read: {error.strerror}", file=sys.stderr)
        return 1
    try:
        settings, assumed = usual.read(flags, environ)
    except SettingsError as error:
        print(error, file=sys.stderr)
        return 2
    explanation = explain(settings, Request(options.method, options.path, options.header, body))
    if options.json:
        told = {**asdict(explanation), "verdict": explanation.verdict.value, "assumed": list(assumed)}
        print(json.dumps(told, indent=2))
    else:
        print("\n".join(tell(explanation, assumed)))
    return 0


def tell(explanation: Explanation, assumed: Sequence[str] = ()) -> Iterator[str]:
    """Give an explanation as lines for people. `assumed`: the settings that were not there."""
    yield explanation.request
    if explanation.verdict is Verdict.ANSWERED:
        yield f"is answered by the proxy itself, with {explanation.status}; nothing is sent."
    elif explanation.refusal is not None:
        refusal = explanation.refusal
        yield f"is refused by the proxy, with {explanation.status}; nothing is sent."
        yield _row("message", refusal.message)
        yield _row("why", refusal.details)
        if refusal.parameter is not None:
            yield _row("because of", refusal.parameter)
    elif explanation.forwarding is not None:
        yield from _tell_forwarding(explanation.forwarding)
    if assumed:
        yield _row("assumed", f"{' and '.join(assumed)}: not set here, so that a stand-in is shown")


def _tell_forwarding(forwarding: Forwarding) -> Iterator[str]:
    application, timeouts = forwarding.application, forwarding.timeouts
    kind = _KINDS[forwarding.kind]
    yield f"is forwarded to {forwarding.url}."
    yield _row("operation", f"{forwarding.operation} ({forwarding.api.capitalize()} API)")
    yield _row("kind", f"{kind}, but not this call: it is dry" if forwarding.dry else kind)
    testing = ", with a testing key: stores nothing" if application.testing else ""
    yield _row("Application", f"{application.name}, by {application.chosen_by}{testing}")
    yield _row("environment", application.environment)
    yield from _rows("names", _tell_names(forwarding.names))
    yield from _rows("ordered", forwarding.traffic.ordered)
    yield _row("joins others", forwarding.traffic.joins)
    yield from _rows("repeated", forwarding.traffic.repeats)
    yield _row("if nobody waits", forwarding.traffic.abandoned)
    yield _row(
        "time-outs",
        f"{timeouts.total:g} s in all, {timeouts.response:g} s for an attempt, {timeouts.connect:g} s to connect",
    )
    yield from _rows("sent", forwarding.lines)


def _tell_names(names: Names) -> Iterator[str]:
    for noun, ids in (("session", names.sessions), ("profile", names.profiles)):
        # As JSON: what an id holds must not steer a terminal.
        yield from (f"{noun} {json.dumps(id_)} ({place})" for id_, place in ids)
    if names.why is not None:
        yield names.why


def _rows(label: str, texts: Iterator[str] | Sequence[str]) -> Iterator[str]:
    for text in texts:
        yield _row(label, text)
        label = ""


def _row(label: str, text: str) -> str:
    return f"  {label:{_LABEL}}{''.join(char if char.isprintable() else '�' for char in text)}"


def _read(name: str | None) -> bytes | None:
    if name is None:
        return None
    return sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="talon-proxy explain",
        description="Tell what would become of a call; send nothing. Settings are read as by serve: flags, environment,"
        " file.",
        epilog=_EXAMPLE,
        allow_abbrev=False,
    )
    parser.add_argument("method", metavar="METHOD")
    parser.add_argument("path", metavar="PATH", help="with its query, as a caller sends it to the proxy")
    parser.add_argument("--body", metavar="FILE", help="what the call carries; -: standard input")
    parser.add_argument(
        "--header", "-H", metavar="LINE", action="append", default=[], help="a header line, repeatable: 'Name: value'"
    )
    parser.add_argument("--json", action="store_true", help="for programs")
    return parser
