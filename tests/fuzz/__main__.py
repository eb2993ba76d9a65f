"""Run targets under atheris, one after the other: `python -m tests.fuzz [--seconds 60] [TARGET …]`.

What was found interesting before lies in `.fuzz/TARGET`, and is gone on from. An input that breaks a promise is written
beside it as `.fuzz/TARGET-crash-…`; the other targets are run all the same. Exit code 1 where there was one.
"""

import argparse
import importlib
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

NAMES = ("requests", "replies", "frames", "blocks", "bodies", "settings", "compat")
WORK = Path(__file__).parents[2] / ".fuzz"
ONE_INPUT = 20  # seconds that an input may take
MEMORY = 1024  # MiB that a target may take


def main() -> int:
    """Run what was asked for; gives the exit code."""
    parser = argparse.ArgumentParser(prog="tests.fuzz", description="Fuzz where bytes from outside are read.")
    parser.add_argument("targets", nargs="*", default=[], metavar="TARGET", help=", ".join(NAMES))
    parser.add_argument("--seconds", type=int, default=60, help="for each target (default: 60)")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)  # libFuzzer ends its process
    options = parser.parse_args()
    if unknown := set(options.targets) - set(NAMES):
        parser.error(f"no such target: {', '.join(sorted(unknown))}")
    if options.here:
        fuzz(options.targets[0], options.seconds)
    failed = [name for name in options.targets or NAMES if not _run(name, options.seconds)]
    print("broken: " + ", ".join(failed) if failed else "no promise was broken", file=sys.stderr)
    return 1 if failed else 0


def _run(name: str, seconds: int) -> bool:
    """Run one target in a process of its own."""
    print(f"--- {name}, {seconds} s", file=sys.stderr, flush=True)
    command = [sys.executable, "-m", "tests.fuzz", "--here", name, "--seconds", str(seconds)]
    return subprocess.run(command, check=False).returncode == 0


def fuzz(name: str, seconds: int) -> None:
    """Run one target; does not return."""
    # Not for whoever plays what was found: it has wheels for few platforms.
    atheris: Any = importlib.import_module("atheris")
    with atheris.instrument_imports(include=["proxy"]):
        from tests.fuzz.targets import TARGETS

    target = TARGETS[name]
    corpus = WORK / name
    corpus.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(target.seeds):
        (corpus / f"seed-{number}").write_bytes(seed)
    options = {
        "dict": _dictionary(WORK / f"{name}.dict", target.tokens),
        "max_total_time": seconds,
        "max_len": target.longest,
        "timeout": ONE_INPUT,
        "rss_limit_mb": MEMORY,
        "artifact_prefix": WORK / f"{name}-",
        "len_control": 0,  # long inputs from the start: seeds are
        "print_final_stats": 1,
        "verbosity": 0,
    }
    atheris.Setup([sys.argv[0], *(f"-{key}={value}" for key, value in options.items()), str(corpus)], target.check)
    atheris.Fuzz()


def _dictionary(path: Path, tokens: Sequence[bytes]) -> Path:
    """Write the words of a target as libFuzzer wants them."""
    path.write_text("".join('"' + "".join(f"\\x{byte:02x}" for byte in token) + '"\n' for token in tokens))
    return path


if __name__ == "__main__":
    sys.exit(main())
