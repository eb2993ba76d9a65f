"""nginx, HAProxy and the proxy, in turn on the same core: CPU per call under the same load, then bursts after idleness.

Every turn starts its contender afresh, warms it up and measures it; the order rotates from round to round.
Exit codes: 0, 1 a row is invalid or the budget is exceeded, 2 the benchmark could not run.
"""

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from tests.bench import bursts as first_bursts
from tests.bench.accounting import cpu_seconds, read_cpu, read_rss
from tests.bench.burst import SIZE, Turn, burst_table, measure_bursts, summarise_bursts
from tests.bench.contenders import PROGRAMS, Contender, contenders, require_programs, running_contender
from tests.bench.machine import Cores, machine, versions
from tests.bench.origin import Origin, running_origin
from tests.bench.report import REFERENCE, Round, as_json, summarise, table, verdict
from tests.bench.servers import BenchError, prepare_process
from tests.bench.workload import ID_MARK, PATH, reply_body, request_body, run_wrk

WARM_UP_SECONDS = 1
# What a turn may take beyond its measured seconds before its servers are ended.
TURN_MARGIN = 60


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, judge; return the exit code."""
    options = _parser().parse_args(arguments)
    if options.short:
        options.rounds, options.seconds, options.bursts, options.idle = 1, 1, min(options.bursts, 1), 1.0
    prepare_process()
    try:
        chosen = choose(options.contenders, dict(options.env))
        about = {"machine": machine(), "versions": versions()}
        cores = Cores.shared_out(sorted(os.sched_getaffinity(0)))
        _print_about(about, cores, options)
        if options.burst:
            print(first_bursts.table(first_bursts.measure(chosen, cores, rounds=options.rounds, calls=options.burst)))
            return 0
        rounds = measure(chosen, cores, rounds=options.rounds, seconds=options.seconds)
        turns = bursts(chosen, cores, rounds=options.bursts, idle=options.idle)
    except BenchError as exc:
        print(f"bench: {exc}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    rows = summarise(rounds, options.reference)
    print(f"\n{table(rows, options.reference)}")
    burst_rows = summarise_bursts(turns)
    if turns:
        print(f"\n{SIZE} calls at once\n{burst_table(burst_rows, idle=options.idle)}")
    if options.json:
        report = as_json(rounds, rows, about) | {"bursts": [asdict(turn) for turn in turns]}
        options.json.write_text(json.dumps(report, indent=2) + "\n")
    wrong = verdict(rows, options.budget, judged=options.judged, reference=options.reference)
    wrong += [row for row in burst_rows if isinstance(row, str)]
    for line in wrong:
        print(f"bench: {line}", file=sys.stderr)
    return 1 if wrong else 0


def choose(names: str | None, proxy_env: dict[str, str]) -> list[Contender]:
    """The named contenders, all of which must be there; or by default all that are there."""
    known = contenders(proxy_env)
    wanted = names.split(",") if names else list(known)
    if unknown := [name for name in wanted if name not in known]:
        raise BenchError(f"unknown contender {', '.join(unknown)}; there are {', '.join(known)}")
    require_programs([*PROGRAMS, *(["haproxy"] if any(name.startswith("haproxy") for name in wanted) else [])])
    chosen = [known[name] for name in wanted]
    absent = {contender.name: contender.missing() for contender in chosen if contender.missing()}
    if names and absent:
        raise BenchError("; ".join(f"{name} cannot run: {reason}" for name, reason in absent.items()))
    for name, reason in absent.items():
        print(f"bench: {name} is left out: {reason}\n", file=sys.stderr)
    return [contender for contender in chosen if contender.name not in absent]


def measure(chosen: Sequence[Contender], cores: Cores, *, rounds: int, seconds: int) -> list[Round]:
    """All rounds of all contenders against one origin."""
    measured: list[Round] = []
    with tempfile.TemporaryDirectory(prefix="talon-proxy-bench-") as name:
        directory = Path(name)
        lifetime = rounds * len(chosen) * (seconds + TURN_MARGIN)
        with running_origin(directory, cpu=cores.origin, lifetime=lifetime) as origin:
            for number in range(1, rounds + 1):
                first = (number - 1) % len(chosen)
                for contender in [*chosen[first:], *chosen[:first]]:
                    turn = take_turn(contender, origin, directory, cores, number=number, seconds=seconds)
                    measured.append(turn)
                    figure = turn.problem or f"{turn.cpu_per_call:.1f} µs"
                    print(f"round {number}  {contender.name:<15} {figure}", flush=True)
    order = [contender.name for contender in chosen]
    return sorted(measured, key=lambda turn: (turn.number, order.index(turn.contender)))


def bursts(chosen: Sequence[Contender], cores: Cores, *, rounds: int, idle: float) -> list[Turn]:
    """All bursts of all contenders against one origin."""
    with tempfile.TemporaryDirectory(prefix="talon-proxy-bench-") as name:
        directory = Path(name)
        lifetime = max(rounds, 1) * len(chosen) * (idle + TURN_MARGIN)
        with running_origin(directory, cpu=cores.origin, lifetime=lifetime) as origin:
            return measure_bursts(chosen, origin, directory, cores, rounds=rounds, idle=idle)


def take_turn(
    contender: Contender, origin: Origin, directory: Path, cores: Cores, *, number: int, seconds: int
) -> Round:
    """Start a contender, warm it up, measure it, stop it."""
    accepted = origin.accepted()
    with running_contender(contender, origin, directory, cpu=cores.contender, lifetime=seconds + TURN_MARGIN) as (
        server,
        port,
    ):
        run_wrk(directory, port, seconds=WARM_UP_SECONDS, cpu=cores.load)
        before = read_cpu(server.pids())
        load = run_wrk(directory, port, seconds=seconds, cpu=cores.load)
        after = read_cpu(server.pids())
        lost = "" if before.keys() <= after.keys() else "a process of it ended in the round"
        return Round(
            contender=contender.name,
            number=number,
            calls=load.calls,
            seconds=load.seconds,
            cpu_seconds=cpu_seconds(before, after),
            upstream_connections=origin.accepted() - accepted,
            rss=read_rss(server.pids()),
            problem=load.problem or lost,
        )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--rounds", type=_positive, default=5, metavar="N")
    parser.add_argument("--seconds", type=_positive, default=4, metavar="N", help="length of a contender's turn")
    parser.add_argument("--contenders", metavar="A,B", help=f"of {', '.join(contenders())}; default all")
    parser.add_argument("--env", type=_pair, action="append", default=[], metavar="NAME=VALUE", help="for the proxy")
    parser.add_argument("--budget", type=float, metavar="RATIO", help="exit 1 if the judged takes more than this")
    parser.add_argument("--judged", default="proxy", metavar="NAME", help="contender that has a budget")
    parser.add_argument("--reference", default=REFERENCE, metavar="NAME", help="contender that ratios are to")
    parser.add_argument("--burst", type=_positive, metavar="N", help="measure bursts of N calls instead")
    parser.add_argument("--short", action="store_true", help="one round of one second")
    parser.add_argument("--bursts", type=int, default=5, metavar="N", help="rounds of bursts; 0: none")
    parser.add_argument("--idle", type=float, default=8.0, metavar="SECONDS", help="before the second burst")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything measured to a file")
    return parser


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


def _print_about(about: dict[str, dict[str, str]], cores: Cores, options: argparse.Namespace) -> None:
    for name, value in about["machine"].items():
        print(f"{name}: {value}")
    print("versions: " + ", ".join(f"{name} {value}" for name, value in about["versions"].items()))
    print(f"cores: {cores}")
    print(
        f"{options.rounds} round(s) of {options.seconds} s: PUT {PATH.replace(ID_MARK, '…')}, "
        f"{len(request_body()):,} bytes up and {len(reply_body()):,} down, TLS 1.3 upstream\n",
        flush=True,
    )


if __name__ == "__main__":
    sys.exit(main())
