"""The way out: a TCP connection to one host, direct or through a proxy's tunnel, from the address that is wanted.

Addresses are tried as RFC 8305 has it: families in turn, the next one when the one before failed or after a quarter of
a second, and whichever connects first is taken. A black hole among several addresses costs that quarter, once.

The variables HTTP_PROXY, HTTPS_PROXY and NO_PROXY are not read: who can set a variable of this process must not
thereby send its traffic elsewhere (edge-cases T23).
"""

import asyncio
import errno
import ipaddress
import socket
from collections.abc import Sequence
from dataclasses import dataclass, field

import aiohappyeyeballs

from proxy.errors import ConnectionRefused, ConnectTimeout, OutOfFiles, TunnelRefused, UpstreamError
from proxy.wire.names import AddrInfo, Name, Resolve
from proxy.wire.tunnel import open_tunnel
from proxy.wire.wheel import Wheel

NO_FILE = (errno.EMFILE, errno.ENFILE)
NEXT_AFTER = 0.25  # seconds; the connection attempt delay that RFC 8305 §5 advises


@dataclass(frozen=True, slots=True)
class Via:
    """A proxy that opens tunnels. `authorization`: value of its `Proxy-Authorization` line."""

    host: str
    port: int
    authorization: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class EgressRules:
    """Settings `upstream.proxy`, `upstream.bind` (an IP address) and `upstream.dns_refresh` (seconds)."""

    via: Via | None = None
    bind: str | None = None
    dns_refresh: float = 30.0


class Egress:
    """The way to one host and port."""

    def __init__(
        self,
        host: str,
        port: int,
        rules: EgressRules,
        *,
        wheel: Wheel,
        resolve: Resolve | None = None,
    ) -> None:
        self.host = host
        self._clock = wheel.clock
        self._via = rules.via
        self._authority = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        self._setting = "upstream.url" if rules.via is None else "upstream.proxy"
        self._bind = _numeric(rules.bind) if rules.bind is not None else None
        # Through a proxy it is the proxy that looks the host up: it may be the only one that can.
        goal = (host, port) if rules.via is None else (rules.via.host, rules.via.port)
        self.name = Name(*goal, wheel=wheel, refresh=rules.dns_refresh, resolve=resolve)

    def __repr__(self) -> str:
        return f"<Egress {self._authority}{' through a proxy' if self._via else ''} {self.name!r}>"

    def start(self) -> None:
        """Follow the name in the background."""
        self.name.start()

    def stop(self) -> None:
        """Follow it no more."""
        self.name.stop()

    async def connect(self, deadline: float) -> socket.socket:
        """Connect until `deadline`, a moment of the clock. Raises UpstreamError, sent=no."""
        addresses = self._reachable(await self.name.addresses(deadline))
        try:
            async with asyncio.timeout(max(deadline - self._clock(), 0.0)):
                link = await aiohappyeyeballs.start_connection(
                    addresses,
                    local_addr_infos=[self._bind] if self._bind is not None else None,
                    happy_eyeballs_delay=NEXT_AFTER,
                    socket_factory=_make_socket,
                )
        except (OSError, RuntimeError) as error:  # TimeoutError is an OSError; uvloop has a RuntimeError of its own
            failure = self._failure(error)
            if not isinstance(failure, OutOfFiles):
                self.name.doubt()
            raise failure from error
        try:
            self.name.prefer(link.getpeername())
            if self._via is not None:
                await self._tunnel(link, self._via, deadline)
        except OSError as error:  # it is gone already
            link.close()
            raise self._failure(error) from error
        except BaseException:
            link.close()
            raise
        return link

    async def _tunnel(self, link: socket.socket, via: Via, deadline: float) -> None:
        try:
            async with asyncio.timeout(max(deadline - self._clock(), 0.0)):
                await open_tunnel(link, self._authority, via.authorization)
        except TimeoutError as error:
            raise ConnectTimeout("No tunnel within upstream.timeouts.connect") from error
        except OSError as error:
            raise TunnelRefused("The egress proxy closed the connection") from error

    def _reachable(self, addresses: Sequence[AddrInfo]) -> Sequence[AddrInfo]:
        """Leave those that can be reached from the address that is wanted."""
        if self._bind is None:
            return addresses
        reachable = [info for info in addresses if info[0] == self._bind[0]]
        if not reachable:
            raise ConnectionRefused(f"upstream.bind and all addresses of {self._setting} are of different families")
        return reachable

    def _failure(self, error: OSError | RuntimeError) -> UpstreamError:
        if isinstance(error, TimeoutError):
            return ConnectTimeout("No connection within upstream.timeouts.connect")
        if getattr(error, "errno", None) in NO_FILE:
            return OutOfFiles("This process may open no further file (ulimit -n)")
        if self._bind is not None and getattr(error, "errno", None) == errno.EADDRNOTAVAIL:
            return ConnectionRefused("upstream.bind is no address of this machine")
        return ConnectionRefused(f"No address of {self._setting} took the connection")


def _numeric(address: str) -> AddrInfo:
    version = ipaddress.ip_address(address).version
    family = socket.AF_INET if version == 4 else socket.AF_INET6
    return family, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (address, 0)


def _make_socket(info: AddrInfo) -> socket.socket:
    link = socket.socket(*info[:3])
    # Set here and not by the transport: uvloop leaves sockets it did not open as they are.
    link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return link
