"""Redaction: settings as they may be shown, and a short fingerprint of them."""

import hashlib
import json
from collections.abc import Iterator, Mapping

from proxy.secret import Secret
from proxy.settings.keys import present
from proxy.settings.model import Settings

HASH_DIGITS = 12


def redacted(settings: Settings) -> dict[str, str]:
    """Give every setting by its dotted name, written as in a variable; secrets are `***`, what is unset is empty."""
    return {str(key): key.kind.show(value) for key, value in present(settings)}


def recognisable(settings: Settings) -> dict[str, str]:
    """Give the same for operators: of an API key they see the end, `…9999`, as the Campaign Manager shows it."""
    return {
        str(key): key.kind.hint(value) if key.kind.hint and value is not None else key.kind.show(value)
        for key, value in present(settings)
    }


def secrets(settings: Settings) -> Iterator[Secret]:
    """Give every secret there is in them: what must show nowhere."""
    for key, value in present(settings):
        if isinstance(value, Secret):
            yield value
        elif key.kind.secret and isinstance(value, Mapping):
            yield from value


def settings_hash(settings: Settings) -> str:
    """Tell settings apart. Of a secret it knows only that there is one, so that none can be guessed from it."""
    return hashlib.sha256(json.dumps(redacted(settings), sort_keys=True).encode()).hexdigest()[:HASH_DIGITS]
