"""Loading: the sources become Settings, or a list of everything that is wrong.

Flag over environment over file over default, key by key. A secret and its `_file` twin count as one key there: the
higher source decides which of them is used.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from pydantic import ValidationError

from proxy.settings import keyfiles, rules
from proxy.settings.keys import TABLE, Key, Path, dotted, find, present, twin, variable
from proxy.settings.model import Settings
from proxy.settings.problems import Problem, SettingsError
from proxy.settings.rules import Complaint
from proxy.settings.sources import Given, Layer, read_environment, read_file, read_flags

DEFAULT = "default"
SHORTHAND = ("api_key",)
SHORTHAND_FOR = ("applications", "default", "api_key")


@dataclass(frozen=True, slots=True)
class Loaded:
    """Settings and where each came from.

    `origins` has every key of `redacted`, with a file, a variable, a flag, or `default`.
    """

    settings: Settings
    warnings: tuple[str, ...]
    origins: Mapping[str, str] = field(repr=False)


def load(flags: Sequence[str], environ: Mapping[str, str]) -> Loaded:
    """Read the settings from the flags, the environment and the file that one of them names.

    Reads nothing else of this process. Raises SettingsError with all problems.
    """
    run = _Load()
    run.merge(run.sources(flags, environ))
    settings = run.validate()
    run.hear(settings)
    if run.problems:
        raise SettingsError(run.problems)
    origins = {
        str(key): run.chosen[key.path].source if key.path in run.chosen else DEFAULT for key, _ in present(settings)
    }
    return Loaded(settings, tuple(map(str, run.warnings)), MappingProxyType(origins))


class _Load:
    """One run of `load`: what was chosen so far, and what was found wrong."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []
        self.warnings: list[Problem] = []
        self.chosen: Layer = {}
        self.wrong: set[str] = set()  # keys that have a problem already
        self.short: dict[Path, Path] = {}  # keys given by their shorthand

    def complain(self, path: Path, source: str | None, message: str) -> None:
        self.problems.append(Problem(message, key=dotted(self.short.get(path, path)), source=source))
        self.wrong.add(dotted(path))

    # --- which value counts

    def sources(self, flags: Sequence[str], environ: Mapping[str, str]) -> list[Layer]:
        """Read every source, the strongest first."""
        from_flags, named = read_flags(flags, self.problems)
        from_environment, also_named = read_environment(environ, self.problems)
        layers = [from_flags, from_environment]
        file = named or also_named
        if file:
            layers.append(read_file(file, self.problems))
            if any(key.kind.secret for key in map(find, layers[-1]) if key) and keyfiles.world_readable(file):
                self.warnings.append(Problem("holds a secret and every user can read it", source=file))
        return layers

    def merge(self, layers: Sequence[Layer]) -> None:
        """Choose each key's value from the strongest source that has it."""
        for layer in layers:
            taken = {_secret_of(path) for path in self.chosen}
            for path, given in layer.items():
                if _secret_of(path) not in taken:
                    self.chosen[path] = given
        for path in dict.fromkeys(map(_secret_of, self.chosen)):
            file = self.chosen.get(twin(path))
            if _is_secret(path) and file is not None:
                self._open(path, file)
        self._unfold_shorthand()

    def _open(self, path: Path, file: Given) -> None:
        """Put what a key file holds where the key belongs."""
        if path in self.chosen:
            self.complain(
                path, self.chosen[path].source, f"is set, and {dotted(twin(path))} too; one of them is enough"
            )
            return
        try:
            if not isinstance(file.value, str):
                raise ValueError("must be text in quotes")
            content = keyfiles.read(file.value)
        except ValueError as exc:
            self.complain(twin(path), file.source, str(exc))
            self.wrong.add(dotted(path))
            del self.chosen[twin(path)]
            return
        self.chosen[path] = Given(content, f"{file.source} ({file.value})")
        if keyfiles.world_readable(file.value):
            self.warnings.append(
                Problem(f"{file.value} can be read by every user", key=dotted(twin(path)), source=file.source)
            )

    def _unfold_shorthand(self) -> None:
        """Make `api_key` what it is short for."""
        if dotted(SHORTHAND) in self.wrong:
            self.wrong.add(dotted(SHORTHAND_FOR))
        short = [path for path in (twin(SHORTHAND), SHORTHAND) if path in self.chosen]
        whole = [path for path in (twin(SHORTHAND_FOR), SHORTHAND_FOR) if path in self.chosen]
        if short and whole:
            other = self.chosen[whole[0]].source
            message = f"is short for {dotted(whole[0])}, which is set too ({other}); one of them is enough"
            self.complain(short[0], self.chosen[short[0]].source, message)
            return
        for path in short:
            unfolded = (*SHORTHAND_FOR[:-1], *path)
            self.chosen[unfolded] = self.chosen.pop(path)
            self.short[unfolded] = path

    # --- is it right

    def validate(self) -> Settings:
        """Make the settings. Values that are wrong are reported and left out, so that the rest can be judged."""
        for key in TABLE.values():
            if key.required and key.path not in self.chosen:
                self.complain(key.path, None, f"is required; set it or {variable(key.path)}, as in {key.example}")
                self._stand_in(key)
        while True:
            try:
                return Settings.model_validate(self._nested())
            except ValidationError as exc:
                for error in exc.errors(include_url=False, include_input=False):
                    self._leave_out(tuple(map(str, error["loc"])), str(error["ctx"]["error"]))

    def _leave_out(self, path: Path, message: str) -> None:
        self.complain(path, self.chosen.pop(path).source, message)
        key = find(path)
        if key is not None and key.required:
            self._stand_in(key)

    def _stand_in(self, key: Key) -> None:
        self.chosen[key.path] = Given(key.example, DEFAULT)

    def _nested(self) -> dict[str, Any]:
        nested: dict[str, Any] = {}
        for path, given in self.chosen.items():
            section = nested
            for name in path[:-1]:
                section = section.setdefault(name, {})
            section[path[-1]] = given.value
        return nested

    def hear(self, settings: Settings) -> None:
        """Let the rules judge what is right by itself."""
        for complaints, into in (
            (rules.errors(settings), self.problems),
            (rules.warnings(settings), self.warnings),
        ):
            into.extend(self._problem(complaint) for complaint in complaints if not self._doubtful(complaint.keys))

    def _doubtful(self, keys: Sequence[str]) -> bool:
        return any(wrong == key or wrong.startswith(f"{key}.") for key in keys for wrong in self.wrong)

    def _problem(self, complaint: Complaint) -> Problem:
        given = [self.chosen[path].source for path in map(_path, complaint.keys) if path in self.chosen]
        return Problem(
            complaint.message,
            key=complaint.keys[0],
            source=given[0] if given else None,
            suggestion=complaint.suggestion,
        )


def _path(key: str) -> Path:
    return tuple(key.split("."))


def _is_secret(path: Path) -> bool:
    key = find(path)
    return key is not None and key.kind.secret


def _secret_of(path: Path) -> Path:
    """Give the secret that a `_file` twin stands for, of every other key itself."""
    secret = (*path[:-1], path[-1].removesuffix("_file"))
    return secret if _is_secret(secret) else path
