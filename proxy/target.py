"""Where calls shall go: a URL, the keys that may be sent there, and how connections to it are opened. Pure.

Two targets that are equal need no switch; everything that a generation is made of stands in one.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from proxy.keyset import KeyPair
from proxy.secret import Secret
from proxy.settings import Origin, Settings

# Of `upstream`, what says where calls go or how long they have, and not how a connection is opened.
_NOT_THE_WAY: Any = {  # pydantic's own type is not exported
    "url": True,
    "next": True,
    "allowed_hosts": True,
    "allow_cleartext": True,
    "drain": True,
    "timeouts": {"response": True, "total": True, "operations": True},
}


@dataclass(frozen=True, slots=True)
class Target:
    """One target. `way` tells ways of connecting apart."""

    origin: Origin
    pairs: Mapping[str, KeyPair]
    management: Secret | None
    way: str


def configured(settings: Settings, now: datetime) -> Origin:
    """Give the URL that settings name: that of a planned switch once its moment has come.

    A proxy that starts afterwards must not write to the old host again, though its `upstream.url` still names it.
    """
    planned = settings.upstream.next
    if planned.url is not None and planned.at is not None and planned.at <= now:
        return planned.url
    return settings.upstream.url


def target(settings: Settings, origin: Origin) -> Target:
    """Give the target at a URL: its keys are those that settings have for it. Raises OSError where a file is gone."""
    return Target(origin, _pairs(settings, origin), settings.management.api_key, _way(settings))


def _pairs(settings: Settings, origin: Origin) -> Mapping[str, KeyPair]:
    planned = settings.upstream.next
    other = planned.applications if origin == planned.url and origin != settings.upstream.url else {}
    pairs = {}
    for name, application in settings.applications.items():
        if name in other:
            pairs[name] = KeyPair(other[name].api_key)
        elif application.api_key is not None or application.next_api_key is not None:
            pairs[name] = KeyPair(application.api_key, application.next_api_key)
    return pairs


def _way(settings: Settings) -> str:
    way = settings.upstream.model_dump(exclude=_NOT_THE_WAY)
    tls = settings.upstream.tls
    # Their content, too: a renewed certificate has the name of the old one.
    files = [file for file in (tls.ca_file, tls.client_cert_file, tls.client_key_file) if file is not None]
    contents = [hashlib.sha256(file.read_bytes()).hexdigest() for file in files]
    text = json.dumps([way, contents, settings.limits.reply, settings.clients.allow_browsers], default=str)
    return hashlib.sha256(text.encode()).hexdigest()
