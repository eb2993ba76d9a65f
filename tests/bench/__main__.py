"""Everyone in turn on the same core, under the same load: CPU per call, latency, bursts, memory, growth.

Every turn starts its contender afresh, warms it up and measures it; the order rotates from round to round. At the end
the tables are printed, and which budgets hold; `--results` keeps them as JSON, Markdown and plots.
Exit codes: 0 every budget that was measured holds, 1 one does not, or a turn went wrong, 2 the benchmark could not run.
"""

import argparse
import datetime
import os
import shlex
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.bench.budgets import verdicts
from tests.bench.contenders import PROGRAMS, Contender, require_programs
from tests.bench.machine import Cores, machine, versions
from tests.bench.origin import running_origin
from tests.bench.ourselves import ourselves
from tests.bench.page import write
from tests.bench.parts import PARTS
from tests.bench.peers import peers
from tests.bench.result import Result, read_conflicts
from tests.bench.samples import Sample, Samples
from tests.bench.servers import BenchError, prepare_process
from tests.bench.stand import Stand
from tests.bench.tables import tables

LIFETIME = 3 * 3600.0  # seconds after which the origin is ended in any case


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, judge; return the exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    options = _parser().parse_args(given)
    prepare_process()
    try:
        chosen = choose(options.contenders, dict(options.env))
        result = measure(options, chosen, command=_command(given))
    except BenchError as exc:
        print(f"bench: {exc}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    conflicts = read_conflicts()
    print("\n" + tables(result, conflicts))
    if options.results:
        write(result, conflicts, options.results)
    found = verdicts(result.samples, conflicts)
    print("\n".join(map(str, found)))
    for problem in result.samples.problems():
        print(f"bench: {problem}", file=sys.stderr)
    return 1 if result.samples.problems() or any(verdict.holds is False for verdict in found) else 0


def choose(names: Sequence[str] | None, proxy_env: Mapping[str, str]) -> dict[str, Contender]:
    """The named contenders, all of which must be there; or by default all that are there."""
    known = {contender.name: contender for contender in (*peers(), *ourselves(proxy_env))}
    if unknown := [name for name in names or () if name not in known]:
        raise BenchError(f"unknown contender {', '.join(unknown)}; there are {', '.join(known)}")
    require_programs(PROGRAMS)
    chosen = {name: known[name] for name in names or known}
    absent = {name: contender.missing() for name, contender in chosen.items() if contender.missing()}
    if names and absent:
        raise BenchError("; ".join(f"{name} cannot run: {reason}" for name, reason in absent.items()))
    for name, reason in absent.items():
        print(f"bench: {name} is left out: {reason}\n", file=sys.stderr)
    return {name: contender for name, contender in chosen.items() if name not in absent}


def measure(options: argparse.Namespace, chosen: Mapping[str, Contender], *, command: str) -> Result:
    """All parts that were asked for, against one origin."""
    cores = Cores.shared_out(sorted(os.sched_getaffinity(0)))
    date = datetime.datetime.now(datetime.UTC).date().isoformat()
    result = Result(date, command, machine(), versions(), Samples())
    for name, value in (*result.machine.items(), *result.versions.items(), ("cores", cores)):
        print(f"{name}: {value}")
    with tempfile.TemporaryDirectory(prefix="talon-proxy-bench-") as name:
        directory = Path(name)
        with running_origin(directory, cpu=cores.origin, lifetime=LIFETIME) as origin:
            stand = Stand(directory, cores, origin, chosen, options.rounds, options.seconds, options.short)
            for part in options.parts:
                _measure_part(part, stand, result.samples)
    return result


def _measure_part(part: str, stand: Stand, samples: Samples) -> None:
    """What cannot run ends its part; the others go on."""
    try:
        for sample in PARTS[part](stand):
            samples.add(sample)
    except BenchError as exc:
        samples.add(Sample(part, "", "", 0, {}, f"broken off: {exc}"))
        print(f"bench: {part} is broken off: {exc}", file=sys.stderr)


def _command(given: Sequence[str]) -> str:
    """What to type for the same, wherever its result is written."""
    kept = list(given)
    if "--results" in kept:
        place = kept.index("--results")
        del kept[place : place + 2]
    return "make bench" + (f" BENCH_ARGS='{shlex.join(kept)}'" if kept else "")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--parts", type=_parts, default=tuple(PARTS), metavar="A,B", help=f"of {','.join(PARTS)}")
    parser.add_argument("--contenders", type=_names, metavar="A,B", help="default: all that the parts compare")
    parser.add_argument("--rounds", type=_positive, metavar="N", help="instead of each part's own number")
    parser.add_argument("--seconds", type=float, metavar="S", help="instead of each part's own length of a turn")
    parser.add_argument("--env", type=_pair, action="append", default=[], metavar="NAME=VALUE", help="for the proxy")
    parser.add_argument("--short", action="store_true", help="one round of one second: does everything work?")
    parser.add_argument(
        "--results",
        type=Path,
        metavar="DIRECTORY",
        help="where to write what was measured; the docs are made of tests/bench/results",
    )
    return parser


def _parts(text: str) -> tuple[str, ...]:
    parts = _names(text)
    if unknown := [part for part in parts if part not in PARTS]:
        raise argparse.ArgumentTypeError(f"unknown part {', '.join(unknown)}; there are {', '.join(PARTS)}")
    return parts


def _names(text: str) -> tuple[str, ...]:
    return tuple(text.split(","))


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError(text)
    return number


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise ValueError(text)
    return name, value


if __name__ == "__main__":
    sys.exit(main())
