"""Applications as somebody writes them down: `NAME=KEY[@ENVIRONMENT][:testing]`, or a table in TOML.

    [applications.shop]
    keys = ["shop-key", "shop-key-2026"]
    testing_key = "shop-testing"
    environment = "live"

Applications are numbered in the order given. Those of one environment share their customers' profiles.
"""

import re
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from proxy.simulator.keys import Grant, Kind
from proxy.simulator.world import Application

_KEY = r"[!-~]+"  # what may stand in a header: printable, without spaces
_ENTRY = re.compile(rf"([^=\s]+)=({_KEY}?)(?:@([\w.-]+))?(:testing)?", re.ASCII)
_Key = Annotated[str, Field(pattern=f"^{_KEY}$")]


class ApplicationsError(ValueError):
    """Cannot be understood; the text says why, in one line."""


class Entry(NamedTuple):
    """One key of an Application. No environment: as named elsewhere, or `default`."""

    name: str
    key: str
    environment: str | None = None
    kind: Kind = Kind.LIVE


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid")

    keys: list[_Key] = Field(min_length=1)
    testing_key: _Key | None = None
    environment: str = Field("default", min_length=1)


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid")

    applications: dict[str, _Table] = Field(min_length=1)


def entry(text: str) -> Entry:
    """Read NAME=KEY[@ENVIRONMENT][:testing]."""
    found = _ENTRY.fullmatch(text)
    if found is None:
        raise ApplicationsError(f"{text!r} is not NAME=KEY[@ENVIRONMENT][:testing], the key without spaces")
    name, key, environment, testing = found.groups()
    return Entry(name, key, environment, Kind.TESTING if testing else Kind.LIVE)


def load(path: Path) -> list[Entry]:
    """Read a file; ApplicationsError names all that is wrong with it."""
    try:
        tables = _File.model_validate(tomllib.loads(path.read_text(encoding="utf-8"))).applications
    except OSError as error:
        raise ApplicationsError(f"{path}: {error.strerror or error}") from error
    except ValidationError as error:
        # Never the input: it holds keys.
        wrong = (f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors(include_input=False))
        raise ApplicationsError(f"{path}: {'; '.join(wrong)}") from None
    except ValueError as error:
        raise ApplicationsError(f"{path}: {error}") from error
    entries = []
    for name, table in tables.items():
        entries += [Entry(name, key, table.environment) for key in table.keys]
        if table.testing_key is not None:
            entries.append(Entry(name, table.testing_key, table.environment, Kind.TESTING))
    return entries


def grants(entries: Iterable[Entry]) -> tuple[Grant, ...]:
    """Number the Applications, and refuse what contradicts itself."""
    entries = tuple(entries)
    applications: dict[str, Application] = {}
    keys: dict[str, str] = {}
    for given in entries:
        environments = {other.environment for other in entries if other.name == given.name and other.environment}
        if len(environments) > 1:
            raise ApplicationsError(f"{given.name} cannot be in {' and '.join(sorted(environments))}")
        if keys.setdefault(given.key, given.name) != given.name:
            raise ApplicationsError(f"one key cannot open both {keys[given.key]} and {given.name}")
        if given.name not in applications:
            environment = next(iter(environments), "default")
            applications[given.name] = Application(given.name, len(applications) + 1, environment)
    kinds = {given.key: given.kind for given in entries}
    for given in entries:
        if kinds[given.key] is not given.kind:
            raise ApplicationsError(f"a key of {given.name} is both live and testing")
    return tuple(Grant(given.key, applications[given.name], given.kind) for given in dict.fromkeys(entries))
