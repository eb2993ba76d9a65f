"""Choice: of all that the sources give, which value counts.

The strongest source that has a key wins, key by key. A secret and its `_file` twin count as one key there: the higher
source decides which of them is used.
"""

from collections.abc import Sequence

from proxy.settings import keyfiles
from proxy.settings.keys import Path, dotted, find, twin
from proxy.settings.problems import Problem
from proxy.settings.sources import Given, Layer

# What stands at the top is short for the Application that is called default.
SHORTHANDS = (("api_key",), ("next_api_key",))
SHORT_FOR = ("applications", "default")


class Choice:
    """The values that count, what is wrong with them, and what is worth a warning."""

    def __init__(self) -> None:
        self.chosen: Layer = {}
        self.problems: list[Problem] = []
        self.warnings: list[Problem] = []
        self.wrong: set[str] = set()  # keys that have a problem already
        self.unread = False  # there is a file that cannot be read: what seems to be missing may stand in it
        self._short: dict[Path, Path] = {}  # keys given by their shorthand

    def called(self, path: Path) -> str:
        """Name a key as it was given."""
        return dotted(self._short.get(path, path))

    def complain(self, path: Path, source: str | None, message: str) -> None:
        """Note that a key is wrong."""
        self.problems.append(Problem(message, key=self.called(path), source=source))
        self.wrong.add(dotted(path))

    def warn(self, path: Path, source: str | None, message: str) -> None:
        """Note that a key is not as it was meant, most likely."""
        self.warnings.append(Problem(message, key=self.called(path), source=source))

    def merge(self, layers: Sequence[Layer], *, file: Layer) -> None:
        """Choose each key's value; the strongest layer comes first. `file` is the one whose losers are told."""
        for layer in layers:
            taken = {_secret_of(path): given for path, given in self.chosen.items()}
            for path, given in layer.items():
                winner = taken.get(_secret_of(path))
                if winner is None:
                    self.chosen[path] = given
                elif layer is file:
                    self.warn(path, given.source, f"has no effect: {winner.source} is stronger")
        for path in dict.fromkeys(map(_secret_of, self.chosen)):
            key_file = self.chosen.get(twin(path))
            if _is_secret(path) and key_file is not None:
                self._open(path, key_file)
        for path in SHORTHANDS:
            self._unfold(path, (*SHORT_FOR, *path))

    def _open(self, path: Path, key_file: Given) -> None:
        """Put what a key file holds where the key belongs."""
        if path in self.chosen:
            message = f"is set, and {dotted(twin(path))} too; one of them is enough"
            self.complain(path, self.chosen[path].source, message)
            return
        try:
            content = keyfiles.read(key_file.value)
        except ValueError as exc:
            self.complain(twin(path), key_file.source, str(exc))
            self.wrong.add(dotted(path))
            del self.chosen[twin(path)]
            return
        self.chosen[path] = Given(content, f"{key_file.source} ({key_file.value})")
        if keyfiles.world_readable(str(key_file.value)):
            self.warn(twin(path), key_file.source, f"{key_file.value} can be read by every user")

    def _unfold(self, short: Path, whole: Path) -> None:
        """Make a shorthand what it is short for."""
        if dotted(short) in self.wrong:
            self.wrong.add(dotted(whole))
        given = [path for path in (twin(short), short) if path in self.chosen]
        other = [path for path in (twin(whole), whole) if path in self.chosen]
        if given and other:
            where = f"{dotted(other[0])}, which is set too ({self.chosen[other[0]].source})"
            self.complain(given[0], self.chosen[given[0]].source, f"is short for {where}; one of them is enough")
            return
        for path in given:
            unfolded = (*SHORT_FOR, *path)
            self.chosen[unfolded] = self.chosen.pop(path)
            self._short[unfolded] = path


def _is_secret(path: Path) -> bool:
    key = find(path)
    return key is not None and key.kind.secret


def _secret_of(path: Path) -> Path:
    """Give the secret that a `_file` twin stands for, of every other key itself."""
    secret = (*path[:-1], path[-1].removesuffix("_file"))
    return secret if _is_secret(secret) else path
