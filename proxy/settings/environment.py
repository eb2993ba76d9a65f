"""The environment by way of pydantic-settings: which variable is which place in the model.

It takes the names apart; texts stay texts, for our kinds read them, and no variable is read that was not handed in.
"""

from collections.abc import Mapping
from typing import Any

from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, EnvSettingsSource, SettingsConfigDict

from proxy.settings.keys import PREFIX
from proxy.settings.model import Settings


class _Shape(Settings, BaseSettings):
    """The model as pydantic-settings wants it; never instantiated."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, env_nested_delimiter="__", case_sensitive=False)


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


def nest(environ: Mapping[str, str]) -> dict[str, Any]:
    """Give the variables of a mapping as nested dictionaries of texts."""
    return _Variables(environ)()
