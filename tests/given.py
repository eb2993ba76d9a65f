"""Settings for tests: load them from flags and variables, and tell what is wrong with them."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

import pytest

from proxy.settings import Loaded, Settings, SettingsError, load

URL = "https://mycompany.europe-west1.talon.one"
CANARY = "c0ffee5ec2e7c0ffee5ec2e7"
ENVIRON = {"TALON_PROXY_UPSTREAM__URL": URL, "TALON_PROXY_API_KEY": "0123456789abcdef"}

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)


def settings(flags: Sequence[str] = (), **environ: str) -> Settings:
    """Load with a URL and a key, and these variables without their prefix."""
    return loaded(flags, **environ).settings


def loaded(flags: Sequence[str] = (), **environ: str) -> Loaded:
    return load(flags, {**ENVIRON, **prefixed(environ)}, now=NOW)


def problems(flags: Sequence[str] = (), **environ: str) -> list[str]:
    return all_problems(flags, {**ENVIRON, **prefixed(environ)})


def prefixed(environ: Mapping[str, str]) -> dict[str, str]:
    return {f"TALON_PROXY_{name.upper()}": value for name, value in environ.items()}


def all_problems(flags: Sequence[str], environ: Mapping[str, str]) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        load(flags, environ)
    return [str(problem) for problem in caught.value.problems]


def problem(flags: Sequence[str] = (), **environ: str) -> str:
    """Load, expect exactly one problem, give its text."""
    (only,) = problems(flags, **environ)
    return only
