"""Problems are collected, not raised one by one: an operator corrects a configuration in one go.

A problem names where a value came from and which key it belongs to. It never repeats a value, because a value in
the wrong place may be a secret.
"""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing to correct. `source`: a file, a variable or a flag; None where nothing was given at all."""

    message: str
    key: str | None = None
    source: str | None = None
    suggestion: str | None = None

    def __str__(self) -> str:
        where = f"{self.source} [{self.key}]" if self.source and self.key else self.source or self.key
        text = f"{where}: {self.message}" if where else self.message
        if self.suggestion is not None:
            text += f"; did you mean {self.suggestion}?"
        # Names come from outside: one problem stays one line, and a terminal gets no control sequence.
        return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)


class SettingsError(Exception):
    """The settings cannot be used. Its text lists every problem, one a line; `warnings` came up on the way."""

    def __init__(self, problems: Sequence[Problem], warnings: Sequence[Problem] = ()) -> None:
        self.problems = list(problems)
        self.warnings = list(warnings)
        super().__init__(self.problems)

    def __str__(self) -> str:
        count = len(self.problems)
        head = "1 problem in the settings:" if count == 1 else f"{count} problems in the settings:"
        return "\n".join([head, *(f"  {problem}" for problem in self.problems)])
