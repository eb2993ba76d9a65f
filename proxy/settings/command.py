"""`talon-proxy config`: what the settings are, and whether they are right.

    config check    report every problem and warning; 0 usable, 2 not
    config show     the settings in effect, without secrets, and where each came from; `--json` for programs
    config schema   the JSON Schema of the file

`check` and `show` take the flags that `serve` takes.
"""

import json
import sys
from collections.abc import Callable, Mapping, Sequence

from proxy.settings.loading import DEFAULT, load
from proxy.settings.options import asked_for, options
from proxy.settings.problems import SettingsError
from proxy.settings.shown import Shown, as_json, shown

USAGE = """\
usage: talon-proxy config check [--KEY VALUE …]          whether the settings are right: 0 yes, 2 no
       talon-proxy config show [--json] [--KEY VALUE …]  the settings in effect, and where each came from
       talon-proxy config schema                         the JSON Schema of the file, for editors
"""


def main(arguments: Sequence[str], environ: Mapping[str, str]) -> int:
    """Run what stands after `config`; gives the exit code."""
    action, rest = (arguments[0], arguments[1:]) if arguments else ("", ())
    if action in {"help", "--help", "-h"}:
        return _print(USAGE)
    run = _ACTIONS.get(action)
    if run is None or (action == "schema" and rest):
        return _print(USAGE, code=2)
    if asked_for(rest):
        return _print(options(f"config {action} [--KEY VALUE …]"))
    try:
        return run(rest, environ)
    except SettingsError as error:
        _warn(tuple(map(str, error.warnings)))
        return _print(f"{error}\n", code=2)


def _check(flags: Sequence[str], environ: Mapping[str, str]) -> int:
    loaded = load(flags, environ)
    _warn(loaded.warnings)
    given = [origin for origin in loaded.origins.values() if origin != DEFAULT]
    return _print(f"The settings are right: {len(given)} given, {len(loaded.origins) - len(given)} by default.\n")


def _show(arguments: Sequence[str], environ: Mapping[str, str]) -> int:
    loaded = load([argument for argument in arguments if argument != "--json"], environ)
    _warn(loaded.warnings)
    if "--json" in arguments:
        return _print(json.dumps(as_json(loaded), indent=2) + "\n")
    return _print(_as_text(shown(loaded)))


def _as_text(lines: Sequence[Shown]) -> str:
    width = max(len(line.key) for line in lines)
    # A long list moves only its own origin to the right.
    wide = min(max(len(line.value) for line in lines), 40)
    text = ""
    for line in lines:
        text += _printable(f"{line.key:{width}}  {line.value or '–':{wide}}  {line.origin}") + "\n"
    return text


def _schema(_: Sequence[str], __: Mapping[str, str]) -> int:
    from proxy.settings.document import rendered_schema

    return _print(rendered_schema())


def _warn(warnings: Sequence[str]) -> None:
    for warning in warnings:
        print(f"warning: {warning}", file=sys.stderr)


def _print(text: str, *, code: int = 0) -> int:
    """Print what was asked for, or on standard error why not; gives the exit code."""
    print(text, end="", file=sys.stderr if code else sys.stdout)
    return code


def _printable(line: str) -> str:
    # Values come from outside: a terminal gets no control sequence.
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in line)


_ACTIONS: dict[str, Callable[[Sequence[str], Mapping[str, str]], int]] = {
    "check": _check,
    "show": _show,
    "schema": _schema,
}
