"""Sources: what the flags, the environment and the file say, each value with the place it came from.

A source looks for names it does not know and leaves values alone; what a value must look like is the model's to say.
"""

import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path as FilePath

from proxy.settings.keys import (
    MAPS,
    PREFIX,
    TABLE,
    Path,
    dotted,
    find,
    first_below,
    flag,
    is_map,
    is_section,
    nearest,
    nearest_section,
    twin,
    variable,
)
from proxy.settings.problems import Problem

CONFIG = "config"
APPLICATION_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")


@dataclass(frozen=True, slots=True)
class Given:
    """A value as it was written, and where."""

    value: object = field(repr=False)
    source: str


Layer = dict[Path, Given]


def check_names(path: Path, source: str) -> Iterator[Problem]:
    """Complain about names of map entries that cannot be used in a path, a header and a variable alike."""
    for depth, name in enumerate(path):
        if path[:depth] in MAPS and not APPLICATION_NAME.fullmatch(name):
            yield Problem(
                "is not a usable name: 1 to 63 lower-case letters, digits, _ and -, the first a letter or digit",
                key=dotted(path[: depth + 1]),
                source=source,
                suggestion=name.lower() if APPLICATION_NAME.fullmatch(name.lower()) else None,
            )


# --- flags ----------------------------------------------------------------------------------------------------


def read_flags(flags: Sequence[str], problems: list[Problem]) -> tuple[Layer, str | None]:
    """Read `--key VALUE` and `--key=VALUE`; give the values, and that of `--config`."""
    layer: Layer = {}
    config: str | None = None
    for name, value in _pairs(flags, problems):
        source = f"--{name}"
        path = tuple(name.split("."))
        key = find(path)
        if name == CONFIG:
            if config is not None:
                problems.append(Problem("is given twice", source=source))
            if not value:
                problems.append(Problem("needs the path of a file", source=source))
            config = value or ""
        elif key is None:
            near = nearest(name, (key for key in TABLE.values() if not key.kind.secret))
            problems.append(Problem("unknown flag", source=source, suggestion=flag(near) if near else None))
        elif key.kind.secret:
            other = f"{flag(twin(path))} or " if find(twin(path)) else ""
            problems.append(
                Problem(
                    f"a secret has no flag, because a command line can be read by others; use {other}{variable(path)}",
                    source=source,
                )
            )
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
    return layer, config


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


# --- the environment ------------------------------------------------------------------------------------------

# What Kubernetes puts beside a Service called talon-proxy.
SERVICE_LINK = re.compile(r"SERVICE_.*|PORT|PORT_.*")


def read_environment(environ: Mapping[str, str], problems: list[Problem]) -> tuple[Layer, str | None]:
    """Read the variables that begin with our prefix; give the values, and that of `TALON_PROXY_CONFIG`."""
    # Here and not above: pydantic-settings imports asyncio, ssl and email, which doubles the cost of this package.
    from proxy.settings.environment import nest

    ours: dict[str, str] = {}
    names: dict[Path, str] = {}
    config: str | None = None
    for name, value in environ.items():
        upper = name.upper()
        if not upper.startswith(PREFIX) or SERVICE_LINK.fullmatch(upper.removeprefix(PREFIX)):
            continue
        rest = name[len(PREFIX) :].lower()
        path = tuple(rest.split("__"))
        if rest == CONFIG:
            config = value
        elif find(path) is None:
            problems.append(_unknown_variable(name, path))
        elif path in names:
            problems.append(Problem(f"says the same as {names[path]}", key=dotted(path), source=name))
        else:
            problems.extend(check_names(path, name))
            names[path] = name
            ours[name] = value
    nested = nest(ours)
    return {path: Given(_dig(nested, path), name) for path, name in names.items()}, config


def _unknown_variable(name: str, path: Path) -> Problem:
    if is_section(path):
        return Problem(f"is a section; set its keys, such as {variable(first_below(path))}", source=name)
    near = nearest(" ".join(path), TABLE.values())
    return Problem("unknown variable", source=name, suggestion=variable(near) if near else None)


def _dig(nested: object, path: Path) -> object:
    for name in path:
        assert isinstance(nested, Mapping)
        nested = nested[name]
    return nested


# --- the file -------------------------------------------------------------------------------------------------


def read_file(name: str, problems: list[Problem]) -> Layer:
    """Read a TOML file."""
    try:
        nested = tomllib.loads(FilePath(name).read_bytes().decode())
    except OSError as exc:
        problems.append(Problem(f"cannot be read: {exc.strerror}", source=name))
        return {}
    except UnicodeDecodeError:
        problems.append(Problem("is not UTF-8", source=name))
        return {}
    except tomllib.TOMLDecodeError as exc:
        problems.append(Problem(f"is not valid TOML: {exc}", source=name))
        return {}
    except RecursionError:
        problems.append(Problem("is nested too deeply", source=name))
        return {}
    return {path: Given(value, name) for path, value in _leaves(nested, (), name, problems)}


def _leaves(
    nested: Mapping[str, object], path: Path, source: str, problems: list[Problem]
) -> Iterator[tuple[Path, object]]:
    for name, value in nested.items():
        here = (*path, name)
        if find(here) is not None:
            yield here, value
        elif not is_section(here):
            # Not looked into: what is below may be anything, a token as the name of a key included.
            near = nearest_section(here) if isinstance(value, Mapping) else nearest(dotted(here), TABLE.values())
            suggestion = dotted(near) if near else None
            problems.append(Problem("unknown key", key=dotted(here), source=source, suggestion=suggestion))
        elif not isinstance(value, Mapping):
            problems.append(Problem("is a section, not a value", key=dotted(here), source=source))
        else:
            if is_map(path):
                problems.extend(check_names(here, source))
            yield from _leaves(value, here, source, problems)
