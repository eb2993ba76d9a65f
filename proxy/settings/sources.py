"""Sources: what the flags, the environment and the file have in common.

A source gives values, each with the place it came from. It looks for names that nobody knows and leaves values alone;
what a value must look like is the model's to say.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from proxy.settings.keys import (
    TABLE,
    Path,
    dotted,
    find,
    is_flat_map,
    is_map,
    is_section,
    nearest,
    nearest_section,
    spelled,
    unusable,
)
from proxy.settings.problems import Problem


@dataclass(frozen=True, slots=True)
class Given:
    """A value as it was written, and where."""

    value: object = field(repr=False)
    source: str


Layer = dict[Path, Given]


def check_names(path: Path, source: str) -> Iterator[Problem]:
    """Complain about a name that cannot stand below a map."""
    bad = unusable(path)
    if bad is not None:
        where, reason = bad
        yield Problem(reason.message, key=dotted(where), source=source, suggestion=reason.suggestion)


def leaves(
    nested: Mapping[str, object], path: Path, where: Callable[[Path], str], problems: list[Problem]
) -> Iterator[tuple[Path, Given]]:
    """Give the keys in nested tables with their values. `where` names the place of a path."""
    for name, value in nested.items():
        here = spelled((*path, name))
        source = where((*path, name))
        if is_map(path):
            problems.extend(check_names(here, source))
        if find(here) is not None:
            yield here, Given(value, source)
        elif not is_section(here):
            # Not looked into: what is below may be anything, a token as the name of a key included.
            near = nearest_section(here) if isinstance(value, Mapping) else nearest(dotted(here), TABLE.values())
            suggestion = dotted(near) if near else None
            problems.append(Problem("unknown key", key=dotted(here), source=source, suggestion=suggestion))
        elif not isinstance(value, Mapping):
            problems.append(Problem("is a section, not a value", key=dotted(here), source=source))
        else:
            yield from leaves(value, here, where, problems)


def expandable(path: Path, value: str) -> bool:
    """Whether a text gives a whole map: JSON, or `name=value` between commas where no sections stand below."""
    return is_map(path) and (is_flat_map(path) or value.lstrip().startswith("{"))


def expand(path: Path, value: str, source: str, problems: list[Problem]) -> Iterator[tuple[Path, Given]]:
    """Give the keys of a whole map in one text."""
    try:
        nested = _nested(value)
    except ValueError as exc:
        problems.append(Problem(str(exc), key=dotted(path), source=source))
        return
    yield from leaves(nested, path, lambda _: source, problems)


def _nested(value: str) -> Mapping[str, object]:
    if value.lstrip().startswith("{"):
        try:
            # As pairs: a name that is there twice must not silently win over itself.
            found: Mapping[str, object] = json.loads(value, object_pairs_hook=_without_repeats)
        except json.JSONDecodeError:
            raise ValueError("is not valid JSON") from None
        except RecursionError:
            raise ValueError("is nested too deeply") from None
        return found
    pairs: list[tuple[str, object]] = []
    for number, entry in enumerate(value.split(",") if value.strip() else (), start=1):
        name, equals, text = entry.strip().partition("=")
        if not name or not equals:
            raise ValueError(f"entry {number} needs the form name=value")
        pairs.append((name, text))
    return _without_repeats(pairs)


def _without_repeats(pairs: list[tuple[str, object]]) -> Mapping[str, object]:
    if len(dict(pairs)) != len(pairs):
        raise ValueError("names an entry twice")
    return dict(pairs)
