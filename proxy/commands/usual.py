"""Settings for commands that look at them and serve nobody: what `serve` would use, as far as it is there.

Such a command is also run where nothing is configured, on a desk or in a CI job. What `serve` insists on and is not
set at all gets a stand-in, and the command says so; what is set and wrong stays an error.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from proxy.settings import Settings, SettingsError, load

_STAND_INS = {
    "upstream.url": ("TALON_PROXY_UPSTREAM__URL", "https://your-deployment.talon.one"),
    "api_key": ("TALON_PROXY_API_KEY", "stand-in"),
}


class Usual(NamedTuple):
    """Settings, and the keys of those that are stand-ins."""

    settings: Settings
    assumed: Sequence[str]


def read(flags: Sequence[str], environ: Mapping[str, str]) -> Usual:
    """Read the settings. Raises SettingsError where one is wrong."""
    try:
        return Usual(load(flags, environ).settings, ())
    except SettingsError as error:
        missing = {problem.key for problem in error.problems if problem.source is None}
        assumed = [key for key in _STAND_INS if key in missing]
        if not assumed:
            raise
    return Usual(load(flags, {**environ, **dict(_STAND_INS[key] for key in assumed)}).settings, assumed)
