"""`talon-proxy checklist`: what Talon.One's integration checklist finds in a shop's calls.

Of a running proxy, by its admin listener; or of several, from what each told (`--format json`), as if they were one.

    checklist                        the findings, in the checklist's order
    checklist attributes             what the shop sends, as a list to create in the Campaign Manager
    checklist effects|errors|avoidable

`--fail-on` makes it a gate: 1 where a rule has that verdict or a worse one, unless `--baseline FILE` has it already.
`--least 1` is for tests, where a few calls must do. 0: told; 1: gated, or nobody answers; 2: wrong usage.
"""

import argparse
import json
import os
import re
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from proxy.commands import checklist_report as report
from proxy.commands.listener import NoAnswer, NotFound, Sources, ask
from proxy.talon.checklist.records import Json, NotARecord, check, check_judged
from proxy.talon.checklist.rule import Verdict
from proxy.talon.checklist.table import table
from proxy.talon.checklist.verdicts import judged, merged

ANSWER_WITHIN = 5.0  # seconds
SETTLED_WITHIN = 10.0  # seconds that calls which have ended are waited for
FORMATS = {"text": report.text, "markdown": report.markdown, "junit": report.junit}
LISTS = ("attributes", "effects", "errors", "avoidable")


def main(arguments: Sequence[str], environ: Mapping[str, str]) -> int:
    """Show the findings."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.what and options.format == "junit":
        parser.error("a list has no JUnit format")
    try:
        told = _told(options, environ)
        baseline = _read(options.baseline, check_judged) if options.baseline else None
    except NotFound as error:
        return _complain(str(error), 2)
    except (NoAnswer, NotARecord) as error:
        return _complain(str(error), 1)
    try:
        print(_shown(told, options, baseline), end="")
        sys.stdout.flush()
    except BrokenPipeError:
        # Whoever read has seen enough (`| head`).
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    worse = report.worse(told, baseline, Verdict(options.fail_on)) if options.fail_on else ()
    return 1 if worse else 0


def _told(options: argparse.Namespace, environ: Mapping[str, str]) -> Json:
    """Give what is to be shown. Raises NotFound, NoAnswer or NotARecord."""
    if options.merge:
        record = merged([_read(path, check) for path in options.merge])
        _check_once(record)
    else:
        record = _asked(options, environ)
        # Tests want to know of all their calls; in earnest there is always one more.
        until = time.monotonic() + SETTLED_WITHIN
        while options.least is not None and record["proxies"][0]["waiting"] and time.monotonic() < until:
            time.sleep(0.05)
            record = _asked(options, environ)
    return judged(record, table(record.get("effects_handled", ())), least=options.least)


def _asked(options: argparse.Namespace, environ: Mapping[str, str]) -> Json:
    flags = {"admin.listen": options.listen, "admin.token_file": options.token_file, "config": options.config}
    sources = Sources({name: value for name, value in flags.items() if value is not None}, environ)
    place = sources.admin
    code, body = ask(place, "/checklist.json", timeout=ANSWER_WITHIN, token=sources.token)
    if code == 403:
        raise NoAnswer(f"{place} tells its checklist to this machine only, or with the token (admin.token)")
    if code == 404:
        raise NoAnswer(f"the proxy on {place} has no checklist, or it is off (checklist.enabled)")
    try:
        return check(json.loads(body))
    except (ValueError, RecursionError):
        raise NoAnswer(f"what listens on {place} is no talon-proxy that has a checklist: it answers {code}") from None
    except NotARecord as error:
        raise NoAnswer(f"what {place} answers: {error}") from None


def _read(path: Path, as_: Callable[[object], Json]) -> Json:
    """Read a file that `--format json` wrote. Raises NotARecord."""
    try:
        return as_(json.loads(path.read_bytes()))
    except OSError as error:
        raise NotARecord(f"{path}: {error.strerror or error}") from None
    except (ValueError, RecursionError):
        raise NotARecord(f"{path}: not JSON") from None
    except NotARecord as error:
        raise NotARecord(f"{path}: {error}") from None


def _check_once(record: Json) -> None:
    """Raise NotARecord where a proxy would be counted twice."""
    seen = Counter((proxy["name"], proxy["since"]) for proxy in record["proxies"])
    for (name, since), times in seen.items():
        if times > 1:
            raise NotARecord(f"the proxy {name}, since {report.moment(since)}, is in there {times} times")


def _shown(told: Json, options: argparse.Namespace, baseline: Json | None) -> str:
    if options.format == "json":
        return json.dumps(told["inventory"].get(options.what, {}) if options.what else told, indent=2) + "\n"
    if options.what:
        return report.listed(options.what, told, as_markdown=options.format == "markdown")
    return FORMATS[options.format](told, baseline, Verdict(options.fail_on or "warning"))


def _complain(text: str, code: int) -> int:
    print(f"talon-proxy checklist: {text}", file=sys.stderr)
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="talon-proxy checklist",
        description="What Talon.One's integration checklist finds in the calls of a shop.",
        allow_abbrev=False,
    )
    parser.add_argument("what", nargs="?", choices=LISTS, help="only this list: what was sent, received, refused")
    parser.add_argument("--format", choices=("text", "json", "markdown", "junit"), default="text")
    parser.add_argument("--fail-on", choices=("warning", "problem"), help="exit code 1 where there is one, or worse")
    parser.add_argument("--baseline", type=Path, metavar="FILE", help="JSON of before: what it has fails nothing")
    parser.add_argument("--merge", type=Path, nargs="+", metavar="FILE", help="JSON of all proxies that there are")
    parser.add_argument("--least", type=_natural, metavar="N", help="judge by so few calls already, for tests")
    parser.add_argument("--admin.listen", dest="listen", metavar="ADDRESS", help="of the proxy, if not from settings")
    parser.add_argument("--admin.token_file", dest="token_file", metavar="FILE", help="holds the token")
    parser.add_argument("--config", metavar="FILE", help="where its settings are")
    return parser


def _natural(text: str) -> int:
    if not re.fullmatch("[1-9][0-9]{0,8}", text):
        raise argparse.ArgumentTypeError("must be a number of 1 or more")
    return int(text)
