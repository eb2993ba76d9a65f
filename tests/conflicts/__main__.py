"""Play a shop with parallel updates on every way to a simulated Talon.One, and print what its customers met.

Rounds are interleaved: every way once, then again; counts are summed, of times the median counts. Exit code 1 where a
promise is not kept: through one proxy no 409, no write out of order, one upstream call for identical ones, and no
more time until success than directly; through up to four side by side no 409.
"""

import argparse
import datetime
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import uvloop

from tests.bench.machine import machine
from tests.bench.servers import prepare_process
from tests.conflicts.figures import Figures, as_json, misses, summed, table
from tests.conflicts.shop import customers
from tests.conflicts.ways import DIRECT, NGINX, round_on, title

WAYS = (DIRECT, NGINX, "1", "2", "4", "8")


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, judge; return the exit code."""
    options = _parser().parse_args(arguments)
    prepare_process()
    about = machine()
    for name, value in about.items():
        print(f"{name}: {value}")
    rounds = uvloop.run(_measure(options))
    rows = {way: summed([each for each in rounds if each.way == title(way)]) for way in options.ways}
    print(f"\n{table(rows.values())}")
    if options.json:
        options.json.write_text(
            json.dumps({"date": _today(), "machine": about, **as_json(rounds, list(rows.values()))}, indent=2) + "\n"
        )
    wrong = [
        miss
        for way, row in rows.items()
        if way.isdigit()
        for miss in misses(row, proxies=int(way), direct=rows.get(DIRECT))
    ]
    for miss in wrong:
        print(f"conflicts: {miss}", file=sys.stderr)
    return 1 if wrong else 0


async def _measure(options: argparse.Namespace) -> list[Figures]:
    shoppers = customers(options.sessions, options.profiles)
    calls = sum(len(step) for customer in shoppers for step in customer.steps)
    print(
        f"{options.rounds} round(s): {options.sessions} sessions over {options.profiles} profiles, {calls:,} calls, "
        f"customers coming over {options.seconds:g} s, {options.latency} of work per call"
        f"{', dry calls count' if options.dry_counts else ''}\n",
        flush=True,
    )
    rounds = []
    for number in range(1, options.rounds + 1):
        for way in options.ways:
            found = await round_on(
                way,
                shoppers,
                seconds=options.seconds,
                latency=options.latency,
                dry_counts=options.dry_counts,
            )
            rounds.append(found)
            print(
                f"round {number}  {found.way:<26} {found.conflicts:5} conflicts  p99 {found.p99 * 1000:6.0f} ms",
                flush=True,
            )
    return rounds


def _today() -> str:
    return datetime.datetime.now(datetime.UTC).date().isoformat()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.conflicts", description=__doc__)
    parser.add_argument("--sessions", type=int, default=200)
    parser.add_argument("--profiles", type=int, default=120)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=6.0, help="over which customers come; default: %(default)s")
    parser.add_argument("--latency", default="25ms", help="of the simulator; default: %(default)s")
    parser.add_argument("--ways", type=_ways, default=WAYS, metavar="A,B", help=f"of {','.join(WAYS)}; default: all")
    parser.add_argument("--dry-counts", action="store_true", help="dry calls count towards Talon.One's limit")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything measured to a file")
    return parser


def _ways(text: str) -> tuple[str, ...]:
    ways = tuple(text.split(","))
    if not all(way in (DIRECT, NGINX) or (way.isdigit() and int(way)) for way in ways):
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of direct, nginx and numbers of proxies")
    return ways


if __name__ == "__main__":
    sys.exit(main())
