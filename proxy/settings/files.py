"""Files: a TOML file as a source of settings. Each value knows its line."""

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path as FilePath

from proxy.settings.keys import Path, dotted
from proxy.settings.problems import Problem
from proxy.settings.sources import Layer, leaves

LARGEST = 4 << 20  # bytes


def read_file(name: str, problems: list[Problem]) -> Layer | None:
    """Read a TOML file; None where it cannot be read, so that nobody knows what stands in it."""
    try:
        with FilePath(name).open("rb") as file:
            content = file.read(LARGEST + 1)
        if len(content) > LARGEST:
            problems.append(Problem("is too large for settings", source=name))
            return None
        text = content.decode("utf-8-sig")  # editors on Windows begin with a mark
        nested = tomllib.loads(text)
    except OSError as exc:
        problems.append(Problem(f"cannot be read: {exc.strerror}", source=name))
        return None
    except UnicodeDecodeError:
        problems.append(Problem("is not UTF-8", source=name))
        return None
    except tomllib.TOMLDecodeError as exc:
        problems.append(Problem(f"is not valid TOML: {_QUOTED.sub(_unless_short, str(exc))}", source=name))
        return None
    except ValueError:  # of Python's own limit, which tomllib does not foresee
        problems.append(Problem("holds a number of too many digits", source=name))
        return None
    except RecursionError:
        problems.append(Problem("is nested too deeply", source=name))
        return None
    lines: dict[Path, int] = {}
    for path, line in _lines(text):
        lines.setdefault(path, line)
    layer: Layer = {}
    for path, given in leaves(nested, (), lambda path: _place(name, lines, path), problems):
        if path in layer:
            problems.append(Problem(f"says the same as {layer[path].source}", key=dotted(path), source=given.source))
        layer[path] = given
    return layer


# A name that tomllib quotes may be a client token.
_QUOTED = re.compile(r"""\(?(['"]).*\1,?\)?""", re.DOTALL)


def _unless_short(quoted: re.Match[str]) -> str:
    return quoted[0] if len(quoted[0]) <= len("'\\\\'") else "…"


def _place(name: str, lines: dict[Path, int], path: Path) -> str:
    """Name the line of a key, or of the table or the inline table it is in."""
    while path and path not in lines:
        path = path[:-1]
    return f"{name}:{lines[path]}" if path else name


_NAME = r"""(?:[A-Za-z0-9_-]+|"(?:[^"\\]|\\.)*"|'[^']*')"""
_DOTTED = rf"{_NAME}(?:[ \t]*\.[ \t]*{_NAME})*"
_TABLE = re.compile(rf"[ \t]*\[[ \t]*({_DOTTED})[ \t]*\]")
_KEY = re.compile(rf"[ \t]*({_DOTTED})[ \t]*=")


def _lines(text: str) -> Iterator[tuple[Path, int]]:
    """Give the lines of the tables and keys of a text that is valid TOML, which tomllib does not tell."""
    table: Path = ()
    inside = False  # of a text that goes over several lines
    # By hand, because splitlines() knows more line ends than TOML does.
    for number, line in enumerate(text.split("\n"), start=1):
        if not inside:
            if match := _TABLE.match(line):
                table = _names(match[1])
                yield from ((table[:depth], number) for depth in range(1, len(table) + 1))
            elif match := _KEY.match(line):
                path = (*table, *_names(match[1]))
                yield from ((path[:depth], number) for depth in range(len(table) + 1, len(path) + 1))
        inside ^= (line.count('"""') + line.count("'''")) % 2 == 1


def _names(written: str) -> Path:
    """Read a dotted name, quotes and escapes included."""
    names: list[str] = []
    nested: object = tomllib.loads(f"{written} = 0")
    while isinstance(nested, dict):
        ((name, nested),) = nested.items()
        names.append(name)
    return tuple(names)
