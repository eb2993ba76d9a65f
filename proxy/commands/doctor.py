"""`talon-proxy doctor`: is everything between here and Talon.One as it should be, and if not, what is to be done?

The settings are those that `serve` would use. 0: nothing is wrong; 1: something is; 2: wrong usage or settings.
"""

import argparse
import json
import logging
import sys
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

import uvloop

from proxy.commands.diagnosis import Finding, Verdict, address, compared, diagnose, environment
from proxy.commands.examination import Examined, Examiner, Trouble
from proxy.settings import Origin, Settings, SettingsError, load

_PROXIES = ("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy")
_WIDTH = 100  # columns
_TOPIC = 17  # columns
_MANAGEMENT = "The Management key is not tried: which calls it may make is known to whoever made it."


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """One deployment: the facts, and what they mean."""

    facts: Examined
    findings: Sequence[Finding]


def main(arguments: Sequence[str], environ: Mapping[str, str]) -> int:
    """Examine, tell, judge."""
    parser = _parser()
    options, flags = parser.parse_known_args(arguments)
    try:
        settings = load(flags, environ).settings
    except SettingsError as error:
        print(error, file=sys.stderr)
        return 2
    other = None
    if options.compare is not None:
        try:
            other = _origin(options.compare, settings)
        except ValueError as error:
            parser.error(f"--compare: the URL {error}")
    # What they would say of a failure is told here.
    logging.getLogger("proxy").addHandler(logging.NullHandler())
    try:
        diagnoses = uvloop.run(_examine(settings, other, options.echo_url, environ))
    except (OSError, ValueError) as error:  # of a file that was there when the settings were checked
        print(f"talon-proxy doctor: {error}", file=sys.stderr)
        return 1
    wrong = [finding for each in diagnoses for finding in each.findings if finding.verdict is Verdict.BAD]
    if options.json:
        print(json.dumps(_as_json(diagnoses), indent=2))
    else:
        print("\n".join(tell(diagnoses, management=settings.management.api_key is not None)))
    return 1 if wrong else 0


def _origin(url: str, settings: Settings) -> Origin:
    """Read the URL to compare with. Raises ValueError with what is wrong, in words that follow its name."""
    origin = Origin.parse(url)
    if not (origin.secure or origin.loopback or settings.upstream.allow_cleartext):
        raise ValueError("must be https; http would show the API key to the network")
    return origin


async def _examine(
    settings: Settings, other: Origin | None, echo_url: str | None, environ: Mapping[str, str]
) -> Sequence[Diagnosis]:
    examiner = Examiner(settings)
    try:
        # One after the other: they would slow each other down.
        facts = [await examiner.examine(origin) for origin in (settings.upstream.url, other) if origin is not None]
        seen = await examiner.echo(echo_url) if echo_url is not None else None
    finally:
        examiner.close()
    now, timeout = datetime.now(UTC), settings.upstream.timeouts.connect
    findings = [list(diagnose(found, now=now, connect_timeout=timeout)) for found in facts]
    findings[0] += _around(facts[0], seen, environ)
    return [Diagnosis(*both) for both in zip(facts, findings, strict=True)]


def _around(found: Examined, seen: str | Trouble | None, environ: Mapping[str, str]) -> Iterator[Finding]:
    yield address(found, seen)
    yield from environment([name for name in _PROXIES if environ.get(name)], through=found.through is not None)


# --- telling ---


def tell(diagnoses: Sequence[Diagnosis], *, management: bool) -> Iterator[str]:
    """Give lines for people."""
    for diagnosis in diagnoses:
        yield diagnosis.facts.url
        for finding in diagnosis.findings:
            yield from _told(finding)
        yield ""
    if len(diagnoses) == 2:
        yield from _table(compared(diagnoses[0].facts, diagnoses[1].facts))
        yield ""
    if management:
        yield _MANAGEMENT
    wrong = sum(finding.verdict is Verdict.BAD for each in diagnoses for finding in each.findings)
    things = "1 thing is" if wrong == 1 else f"{wrong or 'Nothing'} {'things are' if wrong else 'is'}"
    yield f"{things} wrong."


def _told(finding: Finding) -> Iterator[str]:
    start = f"  {finding.verdict.value:<6}{finding.topic:<{_TOPIC}} "
    indent = " " * len(start)
    yield from textwrap.wrap(finding.what, _WIDTH, initial_indent=start, subsequent_indent=indent)
    if finding.todo:
        yield from textwrap.wrap(finding.todo, _WIDTH, initial_indent=f"{indent}→ ", subsequent_indent=f"{indent}  ")


def _table(rows: Iterable[tuple[str, str, str]]) -> Iterator[str]:
    rows = list(rows)
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def _as_json(diagnoses: Sequence[Diagnosis]) -> object:
    """Everything, for programs: times in seconds, moments as ISO 8601."""
    return {
        "ok": all(finding.verdict is not Verdict.BAD for each in diagnoses for finding in each.findings),
        "deployments": [
            {
                **_plain(asdict(each.facts)),
                "findings": [{**asdict(finding), "verdict": finding.verdict.value} for finding in each.findings],
            }
            for each in diagnoses
        ],
    }


def _plain(facts: dict[str, object]) -> dict[str, object]:
    handshake = facts["handshake"]
    if isinstance(handshake, dict):
        handshake["expires"] = handshake["expires"].isoformat()
    return facts


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="talon-proxy doctor",
        description="Look at the way to Talon.One: name, connections, TLS, speed, keys, address. Sends a few reads.",
        epilog="Settings are read as by serve: flags, environment, file.",
        allow_abbrev=False,
    )
    parser.add_argument("--compare", metavar="URL", help="examine another deployment too: where this one moves to")
    parser.add_argument(
        "--echo-url", metavar="URL", help="a page that answers with the address it sees; asked without a key"
    )
    parser.add_argument("--json", action="store_true", help="for programs")
    return parser
