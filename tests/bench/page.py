"""Results on pages: the files beside the JSON, and README's section about performance, which is written by nobody else.

`python -m tests.bench.page` renders README anew from the committed result.
"""

import textwrap
from pathlib import Path

from tests.bench.budgets import Conflicts
from tests.bench.parts import burst, callers, latency
from tests.bench.plots import plots
from tests.bench.result import RESULT, RESULTS, Result, read_conflicts
from tests.bench.servers import ROOT
from tests.bench.tables import (
    added_latency,
    budgets,
    bursts,
    cpu_by_tls,
    each_its_connection,
    parallel_updates,
    tables,
)
from tests.bench.workload import EVENT, UPDATE

README = ROOT / "README.md"
BEGIN = "<!-- written by make bench-docs: begin -->\n"
END = "<!-- written by make bench-docs: end -->\n"
WIDTH = 120

# What `make conflicts` did, above its table.
_PLAYED = (
    "**Parallel updates**, by `make conflicts` on {date}: a shop through real sockets against the simulator, 25 "
    "ms of work per call: 200 sessions over 120 profiles, five parallel different updates each, with events, "
    "profile updates, dry calls and tenfold identical calls; callers who get a 409 come again after 50 ms, "
    "doubled up to 1 s, jittered."
)


def write(result: Result, conflicts: Conflicts, directory: Path) -> None:
    """Write a result and what is made of it."""
    directory.mkdir(parents=True, exist_ok=True)
    result.write(directory / RESULT.name)
    for name, content in pages(result, conflicts).items():
        (directory / name).write_text(content)


def pages(result: Result, conflicts: Conflicts) -> dict[str, str]:
    """The files that stand beside the JSON, by their names."""
    return {"table.md": f"# Benchmarks\n\n{about(result)}\n\n{tables(result, conflicts)}", **plots(result.samples)}


def about(result: Result) -> str:
    """What the figures belong to."""
    machine = result.machine.items()
    versions = ", ".join(f"{name} {version}" for name, version in result.versions.items())
    return (
        f"Made by `{result.command}` on {result.date}: {', '.join(f'{what} {value}' for what, value in machine)};"
        f" {versions}. Medians of the rounds, with their extremes in parentheses; ratios and differences are of each"
        " round."
    )


def section(result: Result, conflicts: Conflicts) -> str:
    """README's section, between the markers."""
    place = RESULTS.relative_to(ROOT).as_posix()
    drawn = plots(result.samples)
    pictures = {name: f"![{name.removesuffix('.svg')}]({place}/{name})" for name in drawn}
    parts = [
        about(result),
        _headed("**Budgets** that every release is measured against:", budgets(result.samples, conflicts)),
        _headed(f"**CPU per call**, {UPDATE.title}, TLS 1.3 upstream:", cpu_by_tls(result.samples)),
        pictures.get("cpu.svg", ""),
        _headed(
            f"**Latency**, {latency.RATE} calls a second that arrive at random, upstream of 25 ms; added: beyond who"
            " calls directly over kept connections:",
            added_latency(result.samples),
        ),
        pictures.get("latency.svg", ""),
        _headed(
            f"**Bursts**, {burst.SIZE} calls at once, after a start and after {burst.IDLE:g} s:", bursts(result.samples)
        ),
        _headed(
            f"**A connection for every call**, as PHP-FPM makes them: {EVENT.title}, {callers.RATE:,}/s:",
            each_its_connection(result.samples),
        ),
        _headed("**Growth**:", pictures.get("growth.svg", "")),
        _headed(_PLAYED.format(**conflicts) if conflicts else "", parallel_updates(conflicts)),
        f"[All tables]({place}/table.md), among them other workloads, cleartext, what features cost, memory, start.",
    ]
    return "\n\n".join(_wrapped(part) for part in parts if part) + "\n"


def _wrapped(part: str) -> str:
    """With lines as long as README's; those of a table stay."""
    return "\n".join(
        line if line.startswith("|") else textwrap.fill(line, WIDTH, break_on_hyphens=False)
        for line in part.splitlines()
    )


def _headed(heading: str, content: str) -> str:
    return f"{heading}\n\n{content}" if content else ""


def replaced(readme: str, text: str) -> str:
    """README with this section between its markers."""
    before, begin, rest = readme.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError("README.md has lost the markers of its generated section")
    return f"{before}{BEGIN}{text}{END}{after}"


def main() -> None:
    """Write README and the files beside the JSON anew."""
    result, conflicts = Result.read(RESULT), read_conflicts()
    for name, content in pages(result, conflicts).items():
        (RESULTS / name).write_text(content)
    README.write_text(replaced(README.read_text(), section(result, conflicts)))


if __name__ == "__main__":
    main()
