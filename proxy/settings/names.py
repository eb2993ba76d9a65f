"""Names below a map: those of Applications, which an operator chooses, and of operations, which Talon.One gave."""

import difflib
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

from proxy.talon.operations import OPERATIONS


class UnusableName(Exception):
    """A name that cannot stand below a map. Its text says why; `suggestion` is the name that may have been meant."""

    def __init__(self, message: str, suggestion: str | None = None) -> None:
        self.message = message
        self.suggestion = suggestion
        super().__init__(message if suggestion is None else f"{message}; did you mean {suggestion}?")


@dataclass(frozen=True, slots=True)
class Names:
    """The names of one sort. `placeholder` and `example` stand for them in documentation.

    `spell` gives a name's one spelling or raises UnusableName; `pattern` is what JSON Schema says of it.
    """

    placeholder: str
    example: str
    spell: Callable[[str], str]
    pattern: str


_APPLICATION = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
_OPERATIONS = {operation.name.lower(): operation.name for operation in OPERATIONS}


def _application(name: str) -> str:
    # One that can be used in a path, a header and a variable alike.
    if not _APPLICATION.fullmatch(name):
        raise UnusableName(
            "is not a usable name: 1 to 63 lower-case letters, digits, _ and -, the first a letter or digit",
            name.lower() if _APPLICATION.fullmatch(name.lower()) else None,
        )
    return name


def _operation(name: str) -> str:
    spelled = _OPERATIONS.get(name.lower())
    if spelled is None:
        near = difflib.get_close_matches(name.lower(), _OPERATIONS, n=1)
        raise UnusableName(
            "is not an operation of Talon.One that the proxy knows", _OPERATIONS[near[0]] if near else None
        )
    return spelled


APPLICATION = Names("<name>", "eu", _application, f"^{_APPLICATION.pattern}$")
# Their case does not matter, because variables have none.
OPERATION = Names("<operationId>", "syncCatalog", _operation, f"^({'|'.join(_OPERATIONS.values())})$")

ApplicationName = Annotated[str, APPLICATION]
OperationName = Annotated[str, OPERATION]
