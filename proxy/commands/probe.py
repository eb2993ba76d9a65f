"""`talon-proxy health` and `ready`: exec probes. `health` asks `/livez`, `ready` asks `/readyz`.

One line says what was found. 0: yes; 1: no, or nobody answers; 2: wrong usage, or no address to ask. With `--wait`
they ask until the answer is yes or the time is up.
"""

import sys
import time
from collections.abc import Callable, Mapping, Sequence

from proxy.commands.listener import NoAnswer, NotFound, Place, Sources, ask

USAGE = """\
usage: talon-proxy {name} [--wait 30s] [--admin.listen ADDRESS] [--config FILE]

Asks the admin listener of a running proxy: {question}
Exit codes: 0 yes, 1 no, 2 wrong usage. --wait asks until it is yes or that time is over.
"""
QUESTIONS = {
    "health": ("/livez", "can it answer at all?"),
    "ready": ("/readyz", "may callers be sent to it?"),
}
ANSWER_WITHIN = 2.0  # seconds
ASK_EVERY = 0.1  # seconds
_FLAGS = frozenset({"wait", "admin.listen", "config"})
_UNITS = {"ms": 0.001, "min": 60.0, "s": 1.0, "h": 3600.0}


class UsageError(Exception):
    """The command line is wrong; the text says how."""


def main(name: str, arguments: Sequence[str], environ: Mapping[str, str]) -> int:
    """Run the probe `health` or `ready`."""
    path, question = QUESTIONS[name]
    if any(word in ("--help", "-h") for word in arguments):
        print(USAGE.format(name=name, question=question), end="")
        return 0
    try:
        flags = read_flags(arguments)
        wait = duration(flags.pop("wait", "0s"))
        place = Sources(flags, environ).admin
    except (UsageError, NotFound) as error:
        print(f"talon-proxy {name}: {error}", file=sys.stderr)
        return 2
    trouble = until_well(place, path, wait=wait, clock=time.monotonic, sleep=time.sleep)
    if trouble is None:
        print(f"{name}: ok ({place})")
        return 0
    print(f"talon-proxy {name}: {trouble}", file=sys.stderr)
    return 1


def until_well(
    place: Place, path: str, *, wait: float, clock: Callable[[], float], sleep: Callable[[float], None]
) -> str | None:
    """Ask until the answer is 200 or `wait` seconds are over. None: it is 200; else what the last answer was."""
    end = clock() + wait
    while (trouble := _trouble(place, path)) is not None:
        left = end - clock()
        if left <= 0:
            return trouble
        sleep(min(ASK_EVERY, left))
    return None


def _trouble(place: Place, path: str) -> str | None:
    try:
        status, body = ask(place, path, timeout=ANSWER_WITHIN)
    except NoAnswer as error:
        return str(error)
    if status == 200:
        return None
    told = body.decode("utf-8", "replace").partition("\n")[0].strip()
    return f"{told or 'no'} ({place} answers {status})"


def read_flags(arguments: Sequence[str]) -> dict[str, str]:
    """Read `--name VALUE` and `--name=VALUE`. Raises UsageError."""
    flags: dict[str, str] = {}
    words = iter(arguments)
    for word in words:
        name, equals, value = word.removeprefix("--").partition("=")
        if not word.startswith("--") or name not in _FLAGS:
            raise UsageError(f"{word.partition('=')[0]} is not an option (--help shows them)")
        if not equals:
            value = next(words, "")
        if not value:
            raise UsageError(f"--{name} needs a value")
        flags[name] = value
    return flags


def duration(text: str) -> float:
    """Read `30s`, `500ms`, `2min` or `1h` as seconds. Raises UsageError."""
    for unit, seconds in _UNITS.items():
        number = text.removesuffix(unit)
        if number != text and number.replace(".", "", 1).isdigit() and number.isascii():
            return float(number) * seconds
    raise UsageError('--wait needs a number with a unit: "500ms", "30s" or "2min"')
