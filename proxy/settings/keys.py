"""Keys: the model laid flat. One key is one setting, with its dotted name and everything the model says of it."""

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, cast, get_args, get_origin

from pydantic.fields import FieldInfo

from proxy.settings.kinds import Kind
from proxy.settings.model import Section, Settings

Path = tuple[str, ...]

PREFIX = "TALON_PROXY_"
NAME = "<name>"  # stands for the name of an entry of a map of sections


@dataclass(frozen=True, slots=True)
class Key:
    """One setting."""

    path: Path
    kind: Kind
    description: str
    default: object
    required: bool
    example: str | None

    def __str__(self) -> str:
        return dotted(self.path)


def dotted(path: Path) -> str:
    """Name a key as the file and the documentation do."""
    # A name with a dot in it is quoted in TOML, and must not look like two.
    return ".".join(f'"{name}"' if "." in name else name for name in path)


def variable(path: Path) -> str:
    """Name a key as the environment does."""
    return PREFIX + "__".join(path).upper()


def flag(path: Path) -> str:
    """Name a key as the command line does."""
    return "--" + dotted(path)


def twin(path: Path) -> Path:
    """Name the key that gives a secret as a file."""
    return (*path[:-1], f"{path[-1]}_file")


def _key(path: Path, field: FieldInfo) -> Key | None:
    for kind in field.metadata:
        if isinstance(kind, Kind):
            default = None if field.is_required() else field.get_default(call_default_factory=True)
            example = field.examples[0] if field.examples else None
            return Key(path, kind, field.description or "", default, field.is_required(), example)
    return None


def _walk(model: type[Section], path: Path) -> Iterator[Key | Path]:
    """Give every key below a section, and the path of every section before its keys."""
    sections = []
    for name, field in model.model_fields.items():
        here = (*path, name)
        key = _key(here, field)
        if key is not None:
            yield key
        elif get_origin(field.annotation) is Mapping:
            sections.append(((*here, NAME), cast("type[Section]", get_args(field.annotation)[1])))
        else:
            sections.append((here, cast("type[Section]", field.annotation)))
    for here, section in sections:
        SECTIONS[here] = section
        yield here
        yield from _walk(section, here)


SECTIONS: dict[Path, type[Section]] = {}
TABLE: dict[Path, Key] = {key.path: key for key in _walk(Settings, ()) if isinstance(key, Key)}
MAPS = {path[:-1] for path in SECTIONS if path[-1] == NAME}


def _canonical(path: Path) -> Path:
    """Put `<name>` where a path goes through a map."""
    canonical: Path = ()
    for name in path:
        canonical = (*canonical, NAME if canonical in MAPS else name)
    return canonical


def find(path: Path) -> Key | None:
    """Find the key of that path, which may go through an entry of a map."""
    key = TABLE.get(_canonical(path))
    return None if key is None else replace(key, path=path)


def is_section(path: Path) -> bool:
    """Whether keys can stand below it."""
    canonical = _canonical(path)
    return canonical in SECTIONS or canonical in MAPS


def first_below(path: Path) -> Path:
    """Give a key of a section, as an example."""
    canonical = _canonical(path)
    first = next(key for key in TABLE if key[: len(canonical)] == canonical)
    return (*path, *first[len(path) :])


def is_map(path: Path) -> bool:
    """Whether names chosen by the operator can stand below it."""
    return _canonical(path) in MAPS


def present(settings: Settings) -> Iterator[tuple[Key, Any]]:
    """Give every key that these settings have, with its value."""
    for path, key in TABLE.items():
        yield from _present(settings, key, path, ())


def _present(node: Any, key: Key, rest: Path, path: Path) -> Iterator[tuple[Key, Any]]:
    if not rest:
        yield replace(key, path=path), node
    elif rest[0] == NAME:
        for name, entry in node.items():
            yield from _present(entry, key, rest[1:], (*path, name))
    else:
        yield from _present(getattr(node, rest[0]), key, rest[1:], (*path, rest[0]))


# --- near misses ----------------------------------------------------------------------------------------------


def _words(text: str) -> str:
    return " ".join(word for word in re.split(r"[^a-z0-9]+", text.lower()) if word)


def nearest(text: str, among: Iterable[Key]) -> Path | None:
    """Find the key somebody may have meant: other separators, a slip of the pen, or its section left out."""
    wanted = _words(text)
    spelled: dict[str, Path] = {}
    for key in among:
        words = " ".join(NAME if name == NAME else _words(name) for name in key.path)
        if NAME in words:
            pattern = re.escape(words).replace(re.escape(NAME), "(.+)")
            match = re.fullmatch(pattern, wanted)
            name = match[1].replace(" ", "_") if match else _entry(wanted, key.path)
            spelled[words.replace(NAME, _words(name))] = tuple(name if part == NAME else part for part in key.path)
        else:
            spelled[words] = key.path
    if wanted in spelled:
        return spelled[wanted]
    for near in difflib.get_close_matches(wanted, spelled, n=1, cutoff=0.75):
        return spelled[near]
    ends = [path for words, path in spelled.items() if wanted and words.endswith(f" {wanted}")]
    return ends[0] if len(ends) == 1 else None


def nearest_section(path: Path) -> Path | None:
    """Find the section somebody may have meant."""
    sections = {dotted(section): section for section in (*MAPS, *SECTIONS)}
    near = difflib.get_close_matches(dotted(path), sections, n=1)
    return sections[near[0]] if near else None


def _entry(wanted: str, path: Path) -> str:
    """Guess which entry of a map was meant: the word where its name would stand."""
    words, place = wanted.split(), len(_words(" ".join(path[: path.index(NAME)])).split())
    return words[place] if len(words) > place + 1 else NAME
