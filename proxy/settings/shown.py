"""Settings as operators see them: each value, redacted, with the place it came from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from proxy.settings.keys import present
from proxy.settings.loading import Loaded
from proxy.settings.redaction import recognisable, settings_hash


@dataclass(frozen=True, slots=True)
class Shown:
    """One setting."""

    key: str
    value: str
    origin: str


def shown(loaded: Loaded) -> Sequence[Shown]:
    """Give every setting; what belongs to one Application stands together."""
    values = recognisable(loaded.settings)
    keys = [key for key, _ in present(loaded.settings)]
    sections = list(dict.fromkeys(key.path[:-1] for key in keys))
    keys.sort(key=lambda key: sections.index(key.path[:-1]))
    return [Shown(str(key), values[str(key)], loaded.origins[str(key)]) for key in keys]


def as_json(loaded: Loaded) -> Mapping[str, object]:
    """Give the same for programs."""
    settings = {line.key: {"value": line.value or None, "origin": line.origin} for line in shown(loaded)}
    return {"hash": settings_hash(loaded.settings), "settings": settings}
