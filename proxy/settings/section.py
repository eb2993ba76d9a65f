"""What the model is made of: sections, and the settings in them."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

SECONDS, MINUTES, HOURS = 1.0, 60.0, 3600.0
KIB, MIB = 1 << 10, 1 << 20


def setting(default: object, description: str, *, example: str | None = None, shown: str | None = None) -> Any:
    """Declare a setting.

    `example`: what the sample shows where the default is nothing. `shown`: the default in words, where it is not one
    value.
    """
    # A factory, because pydantic copies a default it cannot hash, and a read-only mapping cannot be copied.
    return Field(
        default_factory=lambda: default,
        description=description,
        examples=None if example is None else [example],
        json_schema_extra=None if shown is None else {"shown": shown},
    )


class Section(BaseModel):
    """A table of the configuration file. Its docstring heads that table in the sample."""

    # Built when first used, which is once for all sections instead of once for each.
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True, defer_build=True)
