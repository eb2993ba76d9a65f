"""Keys: the model laid flat. One key is one setting, with its dotted name and everything the model says of it."""

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, cast, get_args, get_origin

from pydantic.fields import FieldInfo

from proxy.settings.kinds import Kind
from proxy.settings.model import Settings
from proxy.settings.names import Names, UnusableName
from proxy.settings.section import Section

Path = tuple[str, ...]

PREFIX = "TALON_PROXY_"


@dataclass(frozen=True, slots=True)
class Key:
    """One setting. `shown`: its default in words, where it is not one value."""

    path: Path
    kind: Kind
    description: str
    default: object = None
    required: bool = False
    example: str | None = None
    shown: str | None = None

    def __str__(self) -> str:
        return dotted(self.path)


@dataclass(frozen=True, slots=True)
class Table:
    """A section, or the entries of a map: what heads it in the sample, and whether its values are keys themselves."""

    heading: str
    scalar: bool = False


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


def _kind(annotation: object) -> Kind | None:
    metadata = annotation.metadata if isinstance(annotation, FieldInfo) else getattr(annotation, "__metadata__", ())
    return next((kind for kind in metadata if isinstance(kind, Kind)), None)


def _key(path: Path, kind: Kind, field: FieldInfo, *, entry: bool = False) -> Key:
    extra = field.json_schema_extra
    return Key(
        path,
        kind,
        field.description or "",
        # A map's entry has no default of its own: the map may have some entries by default, which `shown` tells.
        default=None if entry or field.is_required() else field.get_default(call_default_factory=True),
        required=field.is_required(),
        example=str(field.examples[0]) if field.examples else None,
        shown=str(extra["shown"]) if isinstance(extra, dict) else None,
    )


def _walk(model: type[Section], path: Path) -> Iterator[Key]:
    """Give every key below a section; note the sections and maps on the way."""
    below: list[tuple[Path, type[Section]]] = []
    for name, field in model.model_fields.items():
        here = (*path, name)
        kind = _kind(field)
        if kind is not None:
            yield _key(here, kind, field)
        elif get_origin(field.annotation) is Mapping:
            named, value = get_args(field.annotation)
            MAPS[here] = next(names for names in named.__metadata__ if isinstance(names, Names))
            entry = (*here, MAPS[here].placeholder)
            kind = _kind(value)
            if kind is None:
                below.append((entry, value))
            else:
                TABLES[here] = Table(field.description or "", scalar=True)
                yield _key(entry, kind, field, entry=True)
        else:
            below.append((here, cast("type[Section]", field.annotation)))
    for here, section in below:
        TABLES[here] = Table((section.__doc__ or "").strip())
        yield from _walk(section, here)


TABLES: dict[Path, Table] = {}
MAPS: dict[Path, Names] = {}  # places below which an operator's or Talon.One's names stand
TABLE: dict[Path, Key] = {key.path: key for key in _walk(Settings, ())}


def canonical(path: Path) -> Path:
    """Put the placeholder where a path goes through a map."""
    found: Path = ()
    for name in path:
        found = (*found, MAPS[found].placeholder if found in MAPS else name)
    return found


def spelled(path: Path) -> Path:
    """Give the names on a path their one spelling; those that cannot be used stay as they are."""
    found: Path = ()
    place: Path = ()
    for name in path:
        names = MAPS.get(place)
        place = (*place, names.placeholder if names else name)
        try:
            found = (*found, names.spell(name) if names else name)
        except UnusableName:
            found = (*found, name)
    return found


def unusable(path: Path) -> tuple[Path, UnusableName] | None:
    """Find the first name on a path that cannot be used, with the path up to it."""
    for depth, name in enumerate(path):
        names = MAPS.get(canonical(path[:depth]))
        try:
            if names:
                names.spell(name)
        except UnusableName as reason:
            return path[: depth + 1], reason
    return None


def find(path: Path) -> Key | None:
    """Find the key of that path, which may go through an entry of a map."""
    key = TABLE.get(canonical(path))
    return None if key is None else replace(key, path=path)


def secret_above(path: Path) -> Path | None:
    """Find the secret below which a path goes on, as if what it holds were names: then these are secrets."""
    for depth in range(1, len(path)):
        key = find(path[:depth])
        if key is not None and key.kind.secret:
            return path[:depth]
    return None


def is_section(path: Path) -> bool:
    """Whether keys can stand below it."""
    place = canonical(path)
    return place in TABLES or place in MAPS


def is_map(path: Path) -> bool:
    """Whether names, and not keys, stand right below it."""
    return canonical(path) in MAPS


def is_flat_map(path: Path) -> bool:
    """Whether it is a map from names to values."""
    table = TABLES.get(canonical(path))
    return table is not None and table.scalar


def first_below(path: Path) -> Path:
    """Give a key of a section, as an example."""
    place = canonical(path)
    first = next(key for key in TABLE if key[: len(place)] == place)
    return (*path, *example(first)[len(path) :])


def example(path: Path) -> Path:
    """Put example names where a path of `TABLE` has placeholders."""
    return tuple(MAPS[path[:depth]].example if path[:depth] in MAPS else name for depth, name in enumerate(path))


def present(settings: Settings) -> Iterator[tuple[Key, Any]]:
    """Give every key that these settings have, with its value."""
    for path, key in TABLE.items():
        yield from _present(settings, key, path, ())


def _present(node: Any, key: Key, rest: Path, path: Path) -> Iterator[tuple[Key, Any]]:
    if not rest:
        yield replace(key, path=path), node
    elif canonical(path) in MAPS:
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
    spellings: dict[str, Path] = {}
    for key in among:
        path = _guess_names(wanted, key.path)
        spellings[" ".join(map(_words, path))] = path
    if wanted in spellings:
        return spellings[wanted]
    for near in difflib.get_close_matches(wanted, spellings, n=1, cutoff=0.75):
        return spellings[near]
    # The one nearest to the top: `url` is upstream.url, not upstream.next.url.
    ends = [path for words, path in spellings.items() if wanted and words.endswith(f" {wanted}")]
    first = [path for path in ends if len(path) == min(map(len, ends))]
    return first[0] if len(first) == 1 else None


def _guess_names(wanted: str, path: Path) -> Path:
    """Put the words that stand where a name would in place of a key's placeholder."""
    for depth in range(len(path)):
        if path[:depth] in MAPS:
            front, back = (" ".join(map(_words, part)) for part in (path[:depth], path[depth + 1 :]))
            match = re.fullmatch(f"{front} (.+) {back}".rstrip(), wanted)
            # Else the one word at its place: the rest may hold a slip of the pen.
            words, place = wanted.split(), len(front.split())
            name = match[1].replace(" ", "_") if match else words[place] if len(words) > place + bool(back) else ""
            return spelled((*path[:depth], name or path[depth], *path[depth + 1 :]))
    return path


def nearest_section(path: Path) -> Path | None:
    """Find the section somebody may have meant."""
    sections = {dotted(section): section for section in (*MAPS, *TABLES)}
    near = difflib.get_close_matches(dotted(path), sections, n=1)
    return sections[near[0]] if near else None
