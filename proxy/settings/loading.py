"""Loading: the sources become Settings, or a list of everything that is wrong.

Flag over environment over file over default, key by key; what `--compat` takes over stands below the file.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path as FilePath
from types import MappingProxyType
from typing import Any

from pydantic import ValidationError

from proxy.settings import keyfiles, rules
from proxy.settings.choice import Choice
from proxy.settings.files import read_file
from proxy.settings.flags import read_flags
from proxy.settings.keys import TABLE, Key, Path, dotted, find, present, variable
from proxy.settings.model import Settings
from proxy.settings.problems import Problem, SettingsError
from proxy.settings.rules import Complaint
from proxy.settings.sources import Given, Layer

DEFAULT = "default"
KEY_FILE = ("api_key_file",)


@dataclass(frozen=True, slots=True)
class Loaded:
    """Settings and where each came from.

    `origins` has every key of `redacted`, with a line of a file, a variable, a flag, or `default`. `files` are those
    that the settings stand in or name: when one changes, it is time to load again.
    """

    settings: Settings
    warnings: tuple[str, ...]
    origins: Mapping[str, str] = field(repr=False)
    files: tuple[FilePath, ...] = ()


def load(flags: Sequence[str], environ: Mapping[str, str], *, now: datetime | None = None) -> Loaded:
    """Read the settings from the flags, the environment and the file that one of them names.

    Reads nothing else of this process. `now` is what dates are compared with. Raises SettingsError with all problems.
    """
    choice = Choice()
    file = _choose(choice, flags, environ)
    settings = _validate(choice)
    _hear(choice, settings, now or datetime.now(UTC))
    if choice.problems:
        raise SettingsError(choice.problems, choice.warnings)
    origins = {
        str(key): choice.chosen[key.path].source if key.path in choice.chosen else DEFAULT
        for key, _ in present(settings)
    }
    named = [value for _, value in present(settings) if isinstance(value, FilePath)]
    files = tuple(dict.fromkeys([*([FilePath(file)] if file else []), *named]))
    return Loaded(settings, tuple(map(str, choice.warnings)), MappingProxyType(origins), files)


def _choose(choice: Choice, words: Sequence[str], environ: Mapping[str, str]) -> str | None:
    """Read every source and let the strongest win. Gives the name of the file, if there is one."""
    # Here and not above, as the compatibility below: it costs more than everything else in this package.
    from proxy.settings.variables import read_environment

    flags = read_flags(words, choice.problems)
    from_environment, named = read_environment(environ, choice.problems)
    file: Layer = {}
    if name := flags.config or named:
        read = read_file(name, choice.problems)
        choice.unread, file = read is None, read or {}
        if any(key.kind.secret for key in map(find, file) if key) and keyfiles.world_readable(name):
            choice.warnings.append(Problem("holds a secret and every user can read it", source=name))
    layers = [flags.layer, from_environment, file]
    if flags.compat:
        from proxy.settings.compat import read_compat

        layers.append(read_compat(flags.compat, environ, choice.problems, choice.warnings))
    choice.merge(layers, file=file)
    return name


def _validate(choice: Choice) -> Settings:
    """Make the settings. Values that are wrong are reported and left out, so that the rest can be judged."""
    # Names that are no text, as variables and JSON may have them, are problems already; pydantic spells them otherwise.
    for path in [path for path in choice.chosen if not _is_text(path)]:
        del choice.chosen[path]
    for key in TABLE.values():
        if key.required and key.path not in choice.chosen:
            if not choice.unread:
                choice.complain(key.path, None, _missing(key))
            _stand_in(choice, key)
    while True:
        try:
            return Settings.model_validate(_nested(choice.chosen))
        except ValidationError as exc:
            for error in exc.errors(include_url=False, include_input=False):
                path = tuple(map(str, error["loc"]))
                choice.complain(path, choice.chosen.pop(path).source, str(error["ctx"]["error"]))
                wrong = find(path)
                if wrong is not None and wrong.required:
                    _stand_in(choice, wrong)


def _is_text(path: Path) -> bool:
    try:
        dotted(path).encode()
    except UnicodeEncodeError:
        return False
    return True


def _missing(key: Key) -> str:
    """Say what is needed to begin; whoever sees this has, most likely, set nothing yet."""
    key_file = TABLE[KEY_FILE]
    return (
        f"is required. A sidecar for one Application needs {variable(key.path)}={key.example}"
        f" and {variable(KEY_FILE)}={key_file.example}"
    )


def _stand_in(choice: Choice, key: Key) -> None:
    choice.chosen[key.path] = Given(key.example, DEFAULT)


def _nested(chosen: Layer) -> dict[str, Any]:
    nested: dict[str, Any] = {}
    for path, given in chosen.items():
        section = nested
        for name in path[:-1]:
            section = section.setdefault(name, {})
        section[path[-1]] = given.value
    return nested


def _hear(choice: Choice, settings: Settings, now: datetime) -> None:
    """Let the rules judge what is right by itself; not where a file is missing that may say otherwise."""
    if choice.unread:
        return
    for complaints, into in (
        (rules.errors(settings), choice.problems),
        (rules.warnings(settings, now), choice.warnings),
    ):
        into.extend(_problem(choice, complaint) for complaint in complaints if not _doubtful(choice, complaint.keys))


def _doubtful(choice: Choice, keys: Sequence[str]) -> bool:
    return any(wrong == key or wrong.startswith(f"{key}.") for key in keys for wrong in choice.wrong)


def _problem(choice: Choice, complaint: Complaint) -> Problem:
    given = [choice.chosen[path].source for path in map(_path, complaint.keys) if path in choice.chosen]
    return Problem(
        complaint.message,
        key=complaint.keys[0],
        source=given[0] if given else None,
        suggestion=complaint.suggestion,
    )


def _path(key: str) -> Path:
    return tuple(key.split("."))
