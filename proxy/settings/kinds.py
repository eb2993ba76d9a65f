"""A kind says how one sort of value is written: how it is read, printed back, and called in the documentation.

It stands in the model as annotation (`head: Duration`) and is all that pydantic knows of the value. Reading raises
ValueError with what is wrong, in words that follow the key's name, and never repeats the value.
"""

import difflib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, get_args

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

from proxy.settings.address import Address, Origin, host


@dataclass(frozen=True, slots=True, eq=False)
class Kind:
    """How values of one sort are written. `bare`: without quotes in TOML. `schema`: what JSON Schema says of it."""

    name: str
    read: Callable[[object], object]
    print: Callable[[Any], str] = str
    secret: bool = False
    bare: bool = False
    schema: Mapping[str, Any] = field(default_factory=lambda: {"type": "string"})

    def show(self, value: object) -> str:
        """Print a value; unset is empty."""
        return "" if value is None else self.print(value)

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(
            self.read,
            serialization=core_schema.plain_serializer_function_ser_schema(self.show),
            json_schema_input_schema=core_schema.any_schema(),
        )

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return dict(self.schema)


# --- single values --------------------------------------------------------------------------------------------


def text(value: object) -> str:
    """Take a text and nothing else."""
    if not isinstance(value, str):
        raise ValueError("must be text in quotes")
    return value


def _bool(value: object) -> bool:
    if isinstance(value, bool):
        return value
    if value in ("true", "false"):
        return value == "true"
    raise ValueError("must be true or false")


def _count(minimum: int) -> Callable[[object], int]:
    def read(value: object) -> int:
        if isinstance(value, str) and re.fullmatch(r"-?[0-9]{1,15}", value):
            value = int(value)
        if not isinstance(value, int) or isinstance(value, bool):
            raise ValueError("must be a whole number")
        if value < minimum:
            raise ValueError(f"must be at least {minimum}")
        return value

    return read


DURATION = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)(ms|s|min|h)")
SECONDS = {"ms": 0.001, "s": 1.0, "min": 60.0, "h": 3600.0}


def _duration(*, zero: bool) -> Callable[[object], float]:
    def read(value: object) -> float:
        match = DURATION.fullmatch(value) if isinstance(value, str) else None
        if match is None:
            raise ValueError('needs a number with a unit: "250ms", "10s", "5min" or "1h"')
        number, unit = float(match[1]), match[2]
        seconds = number / 1000 if unit == "ms" else number * SECONDS[unit]
        if seconds == 0 and not zero:
            raise ValueError("must be longer than zero")
        return seconds

    return read


def print_duration(seconds: float) -> str:
    """Give the shortest spelling in the largest unit that divides it: `1h`, `90s`, `250ms`."""
    for unit in ("h", "min", "s"):
        if seconds and seconds % SECONDS[unit] == 0:
            return f"{seconds / SECONDS[unit]:.0f}{unit}"
    return f"{round(seconds * 1000, 6):.15g}ms" if seconds else "0s"


SIZE = re.compile(r"([0-9]{1,15})(KiB|MiB|GiB|B)?")
BYTES = {"GiB": 1 << 30, "MiB": 1 << 20, "KiB": 1 << 10, "B": 1}


def _size(value: object) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    match = SIZE.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError('needs a number of bytes or a unit: 65536, "64KiB", "4MiB" or "1GiB"')
    size = int(match[1]) * BYTES[match[2] or "B"]
    if size == 0:
        raise ValueError("must be larger than zero")
    return size


def print_size(size: int) -> str:
    """Give the largest unit that divides it."""
    unit = next(unit for unit, factor in BYTES.items() if size % factor == 0)
    return f"{size // BYTES[unit]}{unit}" if unit != "B" else str(size)


def _path(value: object) -> Path:
    path = text(value)
    if not path or "\0" in path:
        raise ValueError("must be the path of a file")
    return Path(path)


BASE_PATH = re.compile(r"(/[A-Za-z0-9._~-]+)+")


def _base_path(value: object) -> str | None:
    path = text(value).removesuffix("/")
    if not path:
        return None
    if not BASE_PATH.fullmatch(path) or {".", ".."} & set(path.split("/")):
        raise ValueError("must be a path such as /talon: letters, digits and . _ ~ - between slashes")
    return path


def _label(value: object) -> str:
    label = text(value)
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._ -]{0,62}", label):
        raise ValueError("must be 1 to 63 letters, digits, blanks and . _ -, the first a letter or digit")
    return label


def choice(literal: object) -> Kind:
    """Give the kind of a `Literal` of texts."""
    choices = tuple(str(choice) for choice in get_args(literal))
    listed = ", ".join(choices)

    def read(value: object) -> str:
        if isinstance(value, str) and value in choices:
            return value
        near = difflib.get_close_matches(value.lower(), choices, n=1) if isinstance(value, str) else ()
        raise ValueError(f"must be one of {listed}" + "".join(f"; did you mean {match}?" for match in near))

    return Kind(" · ".join(f"`{choice}`" for choice in choices), read, schema={"enum": list(choices)})


Flag = Annotated[bool, Kind("true or false", _bool, lambda on: "true" if on else "false", bare=True)]
Count = Annotated[int, Kind("number", _count(1), bare=True, schema={"type": "integer", "minimum": 1})]
CountOrZero = Annotated[int, Kind("number", _count(0), bare=True, schema={"type": "integer", "minimum": 0})]
Duration = Annotated[float, Kind("duration", _duration(zero=False), print_duration)]
DurationOrZero = Annotated[float, Kind("duration", _duration(zero=True), print_duration)]
Size = Annotated[int, Kind("size", _size, print_size, schema={"type": ["string", "integer"]})]
File = Annotated[Path | None, Kind("file", _path)]
BasePath = Annotated[str | None, Kind("path", _base_path)]
Label = Annotated[str, Kind("text", _label)]
Url = Annotated[Origin, Kind("URL", lambda value: Origin.parse(text(value)))]


@dataclass(frozen=True, slots=True)
class AccessLog:
    """Which calls get a line of their own: `all`, `errors`, `slow`, `off`, or a `sample` of them."""

    mode: str
    rate: float = 1.0

    def __str__(self) -> str:
        return f"sample:{self.rate:.10g}" if self.mode == "sample" else self.mode


ACCESS_MODES = ("all", "errors", "slow", "off")


def _access(value: object) -> AccessLog:
    mode = text(value)
    if mode in ACCESS_MODES:
        return AccessLog(mode)
    sample, colon, rate = mode.partition(":")
    if sample != "sample" or not colon:
        raise ValueError(f"must be one of {', '.join(ACCESS_MODES)}, or sample:0.01 for one call in a hundred")
    if not re.fullmatch(r"[01](\.[0-9]{1,9})?", rate) or not 0 < float(rate) <= 1:
        raise ValueError("needs a share above 0 and up to 1 after sample:, as in sample:0.01")
    return AccessLog("sample", float(rate))


Access = Annotated[AccessLog, Kind("`all` · `errors` · `slow` · `off` · `sample:0.01`", _access)]


# --- lists ----------------------------------------------------------------------------------------------------


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

    schema = {"type": ["array", "string"], "items": {"type": "string"}}
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

Addresses = Annotated[tuple[Address, ...], _list("addresses", Address.parse)]
Hosts = Annotated[tuple[str, ...], _list("host names", host)]
Templates = Annotated[tuple[RouteTemplate, ...], _list("methods and paths", RouteTemplate.parse)]
