"""Where the proxy's CPU time goes under the benchmark's load, as py-spy samples it from outside.

Needs py-spy (`pip install py-spy`), which the project itself does not depend on. Sampling costs the proxy a
little, so compare shares here, and CPU per call in the benchmark.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.bench.accounting import cpu_seconds, read_cpu
from tests.bench.contenders import PROGRAMS, contenders, require_programs, running_contender
from tests.bench.machine import Cores
from tests.bench.origin import running_origin
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
from tests.bench.workload import run_wrk

MARGIN_SECONDS = 60


def main(arguments: Sequence[str] | None = None) -> int:
    """Load, sample, print; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.profile", description=__doc__)
    parser.add_argument("--seconds", type=int, default=10, metavar="N")
    parser.add_argument("--rate", type=int, default=400, metavar="N", help="samples per second")
    parser.add_argument("--top", type=int, default=25, metavar="N", help="lines of each table")
    parser.add_argument("--native", action="store_true", help="look into C extensions too (slower)")
    parser.add_argument("--raw", type=Path, metavar="FILE", help="keep the stacks, for a flame graph")
    options = parser.parse_args(arguments)
    prepare_process()
    try:
        raw, per_call = profile(options.seconds, rate=options.rate, native=options.native)
    except BenchError as exc:
        print(f"profile: {exc}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    if options.raw:
        options.raw.write_text(raw)
    stacks = parse_stacks(raw)
    print(f"{per_call:.1f} µs per call, {sum(stack.samples for stack in stacks):,} samples")
    for title, by in (
        ("itself, by file", innermost_file),
        ("itself, by function", innermost_function),
        ("itself, by line", innermost_line),
        ("itself and what it calls", functions),
    ):
        print("\n" + share_table(title, shares(stacks, by=by), per_call=per_call, limit=options.top))
    return 0


def profile(seconds: int, *, rate: int, native: bool) -> tuple[str, float]:
    """Run the proxy under load; return py-spy's raw stacks and the CPU time per call in microseconds."""
    require_programs(PROGRAMS)
    if not shutil.which("py-spy"):
        raise BenchError("py-spy is not installed: pip install py-spy")
    contender = contenders()["proxy"]
    if missing := contender.missing():
        raise BenchError(f"the proxy cannot run: {missing}")
    cores = Cores.shared_out(sorted(os.sched_getaffinity(0)))
    lifetime = seconds + MARGIN_SECONDS
    with tempfile.TemporaryDirectory(prefix="talon-proxy-profile-") as name:
        directory = Path(name)
        with (
            running_origin(directory, cpu=cores.origin, lifetime=lifetime) as origin,
            running_contender(contender, origin, directory, cpu=cores.contender, lifetime=lifetime) as (
                server,
                port,
            ),
        ):
            run_wrk(directory, port, seconds=1, cpu=cores.load)
            [pid] = server.pids()
            output = directory / "stacks.txt"
            command = ["py-spy", "record", "--pid", str(pid), "--format", "raw", "--output", str(output)]
            command += ["--rate", str(rate), "--duration", str(seconds), *(["--native"] if native else [])]
            # On the proxy's core: there the clock's tick decides when a sample is taken. On the load's core it
            # would be the load going idle, which follows the proxy's writes and makes them look expensive.
            command = pinned(command, cores.contender)
            before = read_cpu([pid])
            with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as sampler:
                try:
                    # A second longer, so that the sampler sees nothing but load.
                    load = run_wrk(directory, port, seconds=seconds + 1, cpu=cores.load)
                    messages, _ = sampler.communicate(timeout=MARGIN_SECONDS)
                finally:
                    sampler.kill()
            if sampler.returncode or not output.exists():
                raise BenchError(f"py-spy failed:\n{messages}")
            if load.problem:
                raise BenchError(f"the load went wrong: {load.problem}")
            return output.read_text(), cpu_seconds(before, read_cpu([pid])) / load.calls * 1e6


if __name__ == "__main__":
    sys.exit(main())
