"""Changes: what differs between two settings, and what of it takes effect only in a process that is started anew."""

from collections.abc import Iterable, Sequence

from proxy.settings.keys import present
from proxy.settings.model import Settings

# Sockets are bound once, and what the log of this process looks like is agreed with whoever reads it. What is known of
# callers' fields is remembered with them, also whether their host name may be used.
RESTART = frozenset(
    {
        "listen",
        "admin.listen",
        "admin.hosts",
        "clients.hosts",
        "clients.allow_browsers",
        "log.format",
        "log.hash_key",
    }
)


def changed(before: Settings, after: Settings) -> Sequence[str]:
    """Give the keys that have another value, or are there in one of them only. Secrets are compared, not shown."""
    old = {str(key): value for key, value in present(before)}
    new = {str(key): value for key, value in present(after)}
    missing = object()
    return [key for key in dict.fromkeys((*old, *new)) if old.get(key, missing) != new.get(key, missing)]


def need_restart(keys: Iterable[str]) -> Sequence[str]:
    """Give those of some keys that a reload cannot change."""
    return [key for key in keys if key in RESTART]
