"""A kind says how one sort of value is written: how it is read, printed back, and called in the documentation.

It stands in the model as annotation (`head: Duration`) and is all that pydantic knows of the value. Reading raises
ValueError with what is wrong, in words that follow the key's name, and never repeats the value.
"""

import difflib
import ipaddress
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, get_args

from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

from proxy.settings.address import Origin


@dataclass(frozen=True, slots=True, eq=False)
class Kind:
    """How values of one sort are written. `bare`: without quotes in TOML. `schema`: what JSON Schema says of it.

    `print` gives what may be seen by everybody; `hint`, where there is one, what an operator recognises a secret by.
    """

    name: str
    read: Callable[[object], object]
    print: Callable[[Any], str] = str
    secret: bool = False
    bare: bool = False
    schema: Mapping[str, Any] = field(default_factory=lambda: {"type": "string"})
    hint: Callable[[Any], str] | None = None

    def show(self, value: object) -> str:
        """Print a value; unset is empty."""
        return "" if value is None else self.print(value)

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(
            self.read,
            serialization=core_schema.plain_serializer_function_ser_schema(self.show),
        )


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


def path(value: object) -> Path:
    """Take the path of a file, which the operating system must be able to take too."""
    name = text(value)
    try:
        os.fsencode(name)
    except UnicodeEncodeError:
        name = ""
    if not name or "\0" in name:
        raise ValueError("must be the path of a file")
    return Path(name)


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


NUMBER = r"[0-9]{1,9}(\.[0-9]{1,9})?"


def _share(value: object) -> float:
    match = re.fullmatch(rf"({NUMBER}) ?%|({NUMBER})", value) if isinstance(value, str) else None
    if match:
        value = float(match[1]) / 100 if match[1] else float(match[3])
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise ValueError('needs a share: "10 %" or 0.1')
    # NaN, which TOML has, is not between anything.
    if not 0 <= value <= 1:
        raise ValueError("must be between 0 % and 100 %")
    return float(value)


PER = {"s": 1.0, "min": 60.0}


def _rate(value: object) -> float:
    match = re.fullmatch(rf"({NUMBER})/(s|min)", value) if isinstance(value, str) else None
    if match is None:
        raise ValueError('needs a number of calls per time: "3/s" or "30/min"')
    rate = float(match[1]) / PER[match[3]]
    if rate == 0:
        raise ValueError("must be more than zero")
    return rate


def print_rate(rate: float) -> str:
    """Give calls per second, or per minute where that is the rounder number."""
    return f"{rate:.10g}/s" if rate >= 1 or round(rate * 60, 6) % 1 else f"{rate * 60:.10g}/min"


def _ip(value: object) -> str:
    try:
        address = ipaddress.ip_address(text(value))
    except ValueError:
        raise ValueError("is not an IP address") from None
    if address.is_unspecified or address.is_multicast:
        raise ValueError("must be an address of this machine")
    return str(address)


_SIZE = {"anyOf": [{"type": "integer", "minimum": 1}, {"type": "string", "pattern": f"^{SIZE.pattern}$"}]}
_SHARE = {
    "anyOf": [
        {"type": "number", "minimum": 0, "maximum": 1},
        {"type": "string", "pattern": rf"^({NUMBER} ?%|{NUMBER})$"},
    ]
}
_RATE = {"type": "string", "pattern": rf"^{NUMBER}/(s|min)$"}

Flag = Annotated[
    bool, Kind("true or false", _bool, lambda on: "true" if on else "false", bare=True, schema={"type": "boolean"})
]
Count = Annotated[int, Kind("number", _count(1), bare=True, schema={"type": "integer", "minimum": 1})]
CountOrZero = Annotated[int, Kind("number", _count(0), bare=True, schema={"type": "integer", "minimum": 0})]
Size = Annotated[int, Kind("size", _size, print_size, schema=_SIZE)]
Share = Annotated[float, Kind("share", _share, lambda share: f"{share * 100:.10g} %", schema=_SHARE)]
Rate = Annotated[float, Kind("rate", _rate, print_rate, schema=_RATE)]
Ip = Annotated[str | None, Kind("IP address", _ip)]
File = Annotated[Path | None, Kind("file", path)]
BasePath = Annotated[str | None, Kind("path", _base_path)]
Label = Annotated[str, Kind("text", _label)]
_URL = Kind("URL", lambda value: Origin.parse(text(value)))
Url = Annotated[Origin, _URL]
MaybeUrl = Annotated[Origin | None, _URL]


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
