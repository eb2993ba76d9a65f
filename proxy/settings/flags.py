"""Flags: the command line as a source of settings."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from proxy.settings.keys import TABLE, Path, find, flag, nearest, secret_above, spelled, twin, variable
from proxy.settings.problems import Problem
from proxy.settings.sources import Given, Layer, check_names, expand, expandable

CONFIG = "config"
COMPAT = "compat"


@dataclass(slots=True)
class Flags:
    """What the command line says: settings, the file to read, and whose settings to take over."""

    layer: Layer = field(default_factory=dict)
    config: str | None = None
    compat: str | None = None


def read_flags(words: Sequence[str], problems: list[Problem]) -> Flags:
    """Read `--key VALUE` and `--key=VALUE`."""
    flags = Flags()
    for name, value in _pairs(words, problems):
        source = f"--{name}"
        if name == CONFIG:
            flags.config = _once(flags.config, value, source, "the path of a file", problems)
        elif name == COMPAT:
            flags.compat = _once(flags.compat, value, source, "the name of a program", problems)
        else:
            _take(flags.layer, name, value, source, problems)
    return flags


def _once(before: str | None, value: str | None, source: str, what: str, problems: list[Problem]) -> str:
    if before is not None:
        problems.append(Problem("is given twice", source=source))
    if not value:
        problems.append(Problem(f"needs {what}", source=source))
    return value or ""


def _take(layer: Layer, name: str, value: str | None, source: str, problems: list[Problem]) -> None:
    path = spelled(tuple(name.split(".")))
    key = find(path)
    if key is None and value is not None and expandable(path, value):
        found = dict(expand(path, value, source, problems))
        if secrets := [path for path in found if (below := find(path)) and below.kind.secret]:
            problems.append(_no_flag(secrets[0], source))
        layer.update(found)
    elif key is None and (secret := secret_above(path)) is not None:
        # The rest of the name may be a token.
        problems.append(_no_flag(secret, f"{flag(secret)}.…"))
    elif key is None:
        near = nearest(name, (key for key in TABLE.values() if not key.kind.secret))
        problems.append(Problem("unknown flag", source=source, suggestion=flag(near) if near else None))
    elif key.kind.secret:
        problems.append(_no_flag(path, source))
    elif path in layer:
        problems.append(Problem("is given twice; write lists with commas", source=source))
    else:
        problems.extend(check_names(path, source))
        if value is None and isinstance(key.default, bool):
            value = "true"
        if value is None:
            problems.append(Problem("needs a value", source=source))
        else:
            layer[path] = Given(value, source)


def _no_flag(secret: Path, source: str) -> Problem:
    other = f"{flag(twin(secret))} or " if find(twin(secret)) else ""
    why = "a secret has no flag, because a command line can be read by others"
    return Problem(f"{why}; use {other}{variable(secret)}", source=source)


def _pairs(flags: Sequence[str], problems: list[Problem]) -> Iterator[tuple[str, str | None]]:
    """Split a command line into names and values. A word that is no flag is not repeated: it may be a key."""
    words = list(flags)
    place = 0
    while place < len(words):
        word = words[place]
        place += 1
        if not word.startswith("--") or word == "--":
            problems.append(Problem(f"argument {place} is neither a flag nor the value of one"))
            continue
        name, equals, value = word[2:].partition("=")
        if equals:
            yield name, value
        elif place < len(words) and not words[place].startswith("--"):
            yield name, words[place]
            place += 1
        else:
            yield name, None
