"""Who may call, whatever they ask for: by the host name they use, and whether they are a browser.

A sidecar acts as the owner of a key for whoever can connect. Two kinds of caller can be told by their request: a
web page that had its own name resolve to this address (DNS rebinding, T14), and a web page at all (T15). No
answer ever carries CORS fields, so that a browser would not show one to a page either.
"""

import ipaddress
from collections.abc import Iterable
from typing import Final

from proxy.errors import Misdirected, RefusedError

_REMEMBERED: Final = 64


class Callers:
    """Checks settings `clients.hosts` and `clients.allow_browsers`."""

    def __init__(self, *, hosts: Iterable[str] = (), allow_browsers: bool = False) -> None:
        self._names = {"localhost", *(host.lower() for host in hosts)}
        self._known: set[bytes] = set()
        self.allow_browsers = allow_browsers

    def check_host(self, host: bytes) -> None:
        """Raise Misdirected unless `host` (a `Host` value; empty where HTTP/1.0 has none) may be used for us."""
        if host in self._known or not host:
            return
        if not self._is_ours(host):
            raise Misdirected("Use an IP address, localhost or a name of clients.hosts", parameter="Host")
        if len(self._known) < _REMEMBERED:
            self._known.add(host)

    def _is_ours(self, host: bytes) -> bool:
        text = host.decode("ascii", "replace").lower()
        name = text[1 : text.index("]")] if text.startswith("[") else text.partition(":")[0]
        if name.removesuffix(".") in self._names:
            return True
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True

    def check_browser(self, *, origin: bool, fetch_site: bytes | None, preflight: bool) -> None:
        """Raise RefusedError for a web page's call.

        `Sec-Fetch-Mode` alone says nothing: Node's `fetch` sends it on every call.
        """
        if self.allow_browsers:
            return
        if origin or preflight or (fetch_site is not None and fetch_site.lower() != b"none"):
            raise RefusedError("Calls from browsers are refused (clients.allow_browsers)", parameter="Origin")
