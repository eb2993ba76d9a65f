"""Variables: the environment as a source of settings, by way of pydantic-settings.

It says which variable is which place in the model; texts stay texts, for our kinds read them, and no variable is read
that was not handed in. Loaded only when settings are: pydantic-settings imports asyncio, ssl and email.
"""

import re
from collections.abc import Mapping
from typing import Any

from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, EnvSettingsSource, SettingsConfigDict

from proxy.settings.keys import (
    PREFIX,
    TABLE,
    Path,
    dotted,
    find,
    first_below,
    is_section,
    nearest,
    secret_above,
    spelled,
    twin,
    variable,
)
from proxy.settings.model import Settings
from proxy.settings.problems import Problem
from proxy.settings.sources import Given, Layer, check_names, expand, expandable

CONFIG = "config"
SEPARATOR = "__"
# What Kubernetes puts beside a Service called talon-proxy.
SERVICE_LINK = re.compile(r"SERVICE_.*|PORT|PORT_.*")


class _Shape(Settings, BaseSettings):
    """The model as pydantic-settings wants it; never instantiated."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, env_nested_delimiter=SEPARATOR, case_sensitive=False)


class _Variables(EnvSettingsSource):
    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        super().__init__(_Shape)

    def _load_env_vars(self) -> Mapping[str, str | None]:
        # The base class would take `os.environ`.
        return {name.lower(): value for name, value in self._environ.items()}

    def decode_complex_value(self, field_name: str, field: FieldInfo, value: Any) -> Any:
        # The base class would take JSON only, and stop at the first mistake with the value in its message.
        return value


def read_environment(environ: Mapping[str, str], problems: list[Problem]) -> tuple[Layer, str | None]:
    """Read the variables that begin with our prefix; give the values, and that of `TALON_PROXY_CONFIG`."""
    ours: dict[str, str] = {}
    single: dict[str, Path] = {}
    layer: Layer = {}
    config: str | None = None
    for name, value in environ.items():
        upper = name.upper()
        if not upper.startswith(PREFIX) or SERVICE_LINK.fullmatch(upper.removeprefix(PREFIX)):
            continue
        rest = name[len(PREFIX) :].lower()
        path = tuple(rest.split(SEPARATOR))
        if rest == CONFIG:
            config = value
        elif find(path) is not None:
            problems.extend(check_names(path, name))
            ours[name] = value
            single[name] = path
        elif expandable(path, value):
            for below, given in expand(path, value, name, problems):
                _put(layer, below, given, problems)
        else:
            problems.append(_unknown(name, path))
    nested = _Variables(ours)()
    for name, path in single.items():
        _put(layer, spelled(path), Given(_dig(nested, path), name), problems)
    return layer, config


def _put(layer: Layer, path: Path, given: Given, problems: list[Problem]) -> None:
    if path in layer:
        problems.append(Problem(f"says the same as {layer[path].source}", key=dotted(path), source=given.source))
    else:
        layer[path] = given


def _unknown(name: str, path: Path) -> Problem:
    secret = secret_above(path)
    if secret is not None:
        # The rest of the name may be a token.
        return Problem(
            f"is not read; set {variable(secret)} or {variable(twin(secret))}", source=variable(secret) + "__…"
        )
    if is_section(path):
        return Problem(f"is a section; set its keys, such as {variable(first_below(path))}", source=name)
    near = nearest(" ".join(path), TABLE.values())
    return Problem("unknown variable", source=name, suggestion=variable(near) if near else None)


def _dig(nested: object, path: Path) -> object:
    for name in path:
        assert isinstance(nested, Mapping)
        nested = nested[name]
    return nested
