"""File descriptors: how many this process may open, and how many its settings ask for.

Where they run out the proxy goes on: a caller who comes then finds the connection closed, and those who are connected
are served. But it should not come to that.
"""

import contextlib
import resource

_RESERVED = 32  # an idle process has 17 open; 12 are for those who ask how it is (`observe.admin`)
_OTHERS = 64  # the loop, logs, listeners, health and metrics, files that are read


def allow(connections: int, upstream: int) -> str | None:
    """Raise the limit as far as we may; gives a warning where so many connections still do not fit."""
    needed = connections + upstream + _OTHERS
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < needed:
        more = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        # A kernel that has a lower limit of its own says no, and so does a filter of system calls.
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (more, hard))
            soft = more
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return None
    return (
        f"this process may open {soft} files, and limits.connections with upstream.connections.max needs {needed}:"
        " raise the limit (ulimit -n), or lower these settings"
    )


def callers(connections: int, upstream: int) -> int:
    """Give how many callers may be connected at a time, of `connections` that the settings allow.

    Where the limit on files is too small for all, callers leave some to Talon.One, and to health and metrics (P9).
    """
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return connections
    room = max(soft - _RESERVED, 0)
    return max(min(connections, room - min(upstream, room // 3)), 1)
