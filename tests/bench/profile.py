"""Where the proxy's CPU time goes under the benchmark's load: `make profile`.

By default py-spy samples the proxy's source from outside, by function and by line (`pip install py-spy`; the project
itself does not depend on it). It costs the proxy a little, so compare shares here, and CPU per call in the benchmark.
`--callgrind` counts instructions instead, of C code and of the compiled proxy alike, by function: slow, but nearly the
same in every run, so that the effect of a small change shows. It wants valgrind.
"""

import argparse
import contextlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from tests.bench import wrk
from tests.bench.accounting import cpu_seconds, read_cpu
from tests.bench.contenders import PROGRAMS, Contender, Place, Start, require_programs
from tests.bench.machine import Cores
from tests.bench.origin import running_origin
from tests.bench.ourselves import ourselves
from tests.bench.servers import BenchError, pinned, prepare_process
from tests.bench.stacks import (
    functions,
    innermost_file,
    innermost_function,
    innermost_line,
    parse_stacks,
    share_table,
    shares,
)
from tests.bench.stand import Running, Stand
from tests.bench.workload import UPDATE

MARGIN_SECONDS = 60


def main(arguments: Sequence[str] | None = None) -> int:
    """Load, look, print; return the exit code."""
    known = {contender.name: contender for contender in ourselves({})}
    parser = argparse.ArgumentParser(prog="python -m tests.bench.profile", description=__doc__)
    parser.add_argument("--contender", choices=known, help="default: proxy-source; with --callgrind proxy")
    parser.add_argument("--seconds", type=int, default=10, metavar="N")
    parser.add_argument("--rate", type=int, default=400, metavar="N", help="samples per second")
    parser.add_argument("--top", type=int, default=25, metavar="N", help="lines of each table")
    parser.add_argument("--native", action="store_true", help="look into C extensions too (slower)")
    parser.add_argument("--raw", type=Path, metavar="FILE", help="keep the stacks, for a flame graph")
    parser.add_argument("--callgrind", action="store_true", help="count instructions instead of time")
    options = parser.parse_args(arguments)
    prepare_process()
    try:
        look, usual = (count, "proxy") if options.callgrind else (sample, "proxy-source")
        print(look(known[options.contender or usual], options))
    except BenchError as exc:
        print(f"profile: {exc}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


def sample(contender: Contender, options: argparse.Namespace) -> str:
    """Run the proxy under load, and py-spy beside it; gives the tables."""
    require_programs(PROGRAMS)
    if not shutil.which("py-spy"):
        raise BenchError("py-spy is not installed: pip install py-spy")
    with _stand() as stand, stand.running(contender, seconds=options.seconds) as running:
        raw, per_call = _stacks(stand, running, options.seconds, rate=options.rate, native=options.native)
    if options.raw:
        options.raw.write_text(raw)
    stacks = parse_stacks(raw)
    tables = [f"{per_call:.1f} µs per call, {sum(stack.samples for stack in stacks):,} samples"]
    for title, by in (
        ("itself, by file", innermost_file),
        ("itself, by function", innermost_function),
        ("itself, by line", innermost_line),
        ("itself and what it calls", functions),
    ):
        tables.append(share_table(title, shares(stacks, by=by), per_call=per_call, limit=options.top))
    return "\n\n".join(tables)


def _stacks(stand: Stand, running: Running, seconds: int, *, rate: int, native: bool) -> tuple[str, float]:
    """py-spy's raw stacks, and the CPU time per call in microseconds."""
    directory, cores = stand.directory, stand.cores
    wrk.run(directory, running.place.url, UPDATE, seconds=1, cpu=cores.load)
    [pid] = running.server.pids()
    output = directory / "stacks.txt"
    command = ["py-spy", "record", "--pid", str(pid), "--format", "raw", "--output", str(output)]
    # Only who holds the interpreter's lock: not everywhere can py-spy tell a waiting thread from a busy one.
    command += ["--rate", str(rate), "--duration", str(seconds), "--gil", *(["--native"] if native else [])]
    # On the proxy's core: there the clock's tick decides when a sample is taken. On the load's core it would be
    # the load going idle, which follows the proxy's writes and makes them look expensive.
    command = pinned(command, cores.contender)
    before = read_cpu([pid])
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as sampler:
        try:
            # A second longer, so that the sampler sees nothing but load.
            load = wrk.run(directory, running.place.url, UPDATE, seconds=seconds + 1, cpu=cores.load)
            messages, _ = sampler.communicate(timeout=MARGIN_SECONDS)
        finally:
            sampler.kill()
    if sampler.returncode or not output.exists():
        raise BenchError(f"py-spy failed:\n{messages}")
    if load.problem:
        raise BenchError(f"the load went wrong: {load.problem}")
    return output.read_text(), cpu_seconds(before, read_cpu([pid])) / load.calls * 1e6


def count(contender: Contender, options: argparse.Namespace) -> str:
    """Run the proxy under callgrind, counting only while there is load; gives the instructions by function."""
    require_programs([*PROGRAMS, "valgrind", "callgrind_annotate", "callgrind_control"])
    with _stand() as stand:
        output = stand.directory / "callgrind.out"
        with stand.running(_under_callgrind(contender, output), seconds=options.seconds + MARGIN_SECONDS) as running:
            # The start is not counted, and neither are calls that meet cold connections.
            wrk.run(stand.directory, running.place.url, UPDATE, seconds=3, cpu=stand.cores.load)
            [pid] = running.server.pids()
            _control(pid, "--instr=on")
            load = wrk.run(stand.directory, running.place.url, UPDATE, seconds=options.seconds, cpu=stand.cores.load)
            _control(pid, "--instr=off")
            _control(pid, "--dump")
        if load.problem:
            raise BenchError(f"the load went wrong: {load.problem}")
        return _annotated(stand.directory, calls=load.calls, limit=options.top)


def _under_callgrind(contender: Contender, output: Path) -> Contender:
    def prepare(place: Place) -> Start:
        start = contender.prepare(place)
        valgrind = ["valgrind", "--tool=callgrind", "--instr-atstart=no", f"--callgrind-out-file={output}"]
        # pymalloc and the loop in C as always; valgrind only replaces malloc where it is a checker.
        return Start([*valgrind, *start.command], start.ready, {**start.env, "PYTHONMALLOC": "pymalloc"})

    return replace(contender, prepare=prepare)


def _control(pid: int, what: str) -> None:
    subprocess.run(["callgrind_control", what, str(pid)], check=True, capture_output=True, timeout=MARGIN_SECONDS)


def _annotated(directory: Path, *, calls: int, limit: int) -> str:
    [dump] = [file for file in directory.glob("callgrind.out.*") if file.stat().st_size > 1_000]
    command = ["callgrind_annotate", "--threshold=95", str(dump)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=MARGIN_SECONDS)
    return instructions(done.stdout, calls=calls, limit=limit)


def instructions(annotated: str, *, calls: int, limit: int) -> str:
    """callgrind_annotate's list of functions, as instructions per call, largest first."""
    found = re.findall(r"^\s*([\d,]+) \(\s*([\d.]+)%\)\s+(.*)$", annotated, re.MULTILINE)
    lines = [f"{calls:,} calls; instructions per call"]
    for number, share, name in found[: limit + 1]:
        lines.append(f"{int(number.replace(',', '')) / calls:12,.0f} {share:>6}%  {_without_paths(name)}")
    return "\n".join(lines)


def _without_paths(name: str) -> str:
    """`file:function [object]` as py-spy writes it: `function (object)`."""
    found = re.fullmatch(r".*:(\S+) \[(?:.*/)?(.*)\]", name.strip())
    return f"{found[1]} ({found[2]})" if found else name.strip()


@contextlib.contextmanager
def _stand() -> Iterator[Stand]:
    cores = Cores.shared_out(sorted(os.sched_getaffinity(0)))
    with tempfile.TemporaryDirectory(prefix="talon-proxy-profile-") as name:
        directory = Path(name)
        with running_origin(directory, cpu=cores.origin, lifetime=10 * MARGIN_SECONDS) as origin:
            yield Stand(directory, cores, origin, {})


if __name__ == "__main__":
    sys.exit(main())
