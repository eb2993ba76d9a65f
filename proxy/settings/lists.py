"""Kinds of lists: a list in TOML, and in a text JSON or entries between commas."""

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated

from proxy.settings.address import Address, host
from proxy.settings.hosts import HostPattern
from proxy.settings.kinds import Kind, text
from proxy.settings.names import OPERATION, UnusableName


def _entries(value: object) -> Sequence[object]:
    """Split a list: one of TOML, or a text that holds JSON or entries between commas."""
    if isinstance(value, str):
        # More than a bracket is needed to tell a JSON list from the address `[::1]:7410`.
        if re.match(r"\s*\[\s*[\]\"]", value):
            try:
                value = json.loads(value)
            except (ValueError, RecursionError):
                raise ValueError("is not valid JSON") from None
        else:
            return [entry.strip() for entry in value.split(",")] if value.strip() else []
    if not isinstance(value, list):
        raise ValueError("must be a list")
    return value


def _list(name: str, read: Callable[[str], object]) -> Kind:
    """Give the kind of a list without repeats; a problem says which entry has it."""

    def read_all(value: object) -> tuple[object, ...]:
        items: list[object] = []
        for number, entry in enumerate(_entries(value), start=1):
            try:
                item = read(text(entry))
            except ValueError as problem:
                raise ValueError(f"entry {number} {problem}") from None
            if item in items:
                raise ValueError(f"entry {number} repeats an earlier one")
            items.append(item)
        return tuple(items)

    # As text too, because that is how variables and flags write it.
    schema = {"type": ["array", "string"], "items": {"type": "string"}, "uniqueItems": True}
    return Kind(f"list of {name}", read_all, lambda items: ",".join(map(str, items)), schema=schema)


@dataclass(frozen=True, slots=True)
class RouteTemplate:
    """One path to forward beyond the table: `GET /v1/loyalty_programs/{id}/ledger_balances`."""

    method: str
    path: str

    @classmethod
    def parse(cls, line: str) -> "RouteTemplate":
        """Read a method and a template; raises ValueError with what is wrong."""
        method, _, path = line.partition(" ")
        if method not in METHODS:
            raise ValueError(f"must begin with one of {', '.join(METHODS)} and a blank")
        if not TEMPLATE.fullmatch(path) or {".", ".."} & set(path.split("/")):
            raise ValueError("needs a path such as /v1/coupons/{id}: /v1, /v2 or /v3, then names or {parameters}")
        return cls(method, path)

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
TEMPLATE = re.compile(r"/v[123](/([A-Za-z0-9._~-]+|\{[A-Za-z][A-Za-z0-9_]*\}))+")


def _operation(line: str) -> str:
    try:
        return OPERATION.spell(line)
    except UnusableName as unusable:
        raise ValueError(str(unusable)) from None


def _id(line: str) -> str:
    if not line:
        raise ValueError("is empty")
    return line


def _effect_type(line: str) -> str:
    if not re.fullmatch(r"[a-z][A-Za-z]{0,63}", line):
        raise ValueError("is not the type of an effect, such as setDiscount")
    return line


Addresses = Annotated[tuple[Address, ...], _list("addresses", Address.parse)]
Hosts = Annotated[tuple[str, ...], _list("host names", host)]
HostPatterns = Annotated[tuple[HostPattern, ...], _list("host names", HostPattern.parse)]
Operations = Annotated[tuple[str, ...], _list("operations", _operation)]
EffectTypes = Annotated[tuple[str, ...], _list("effect types", _effect_type)]
Ids = Annotated[tuple[str, ...], _list("ids", _id)]
Templates = Annotated[tuple[RouteTemplate, ...], _list("methods and paths", RouteTemplate.parse)]
