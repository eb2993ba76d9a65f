"""The downstream listeners: addresses on which callers are taken, and their connections.

Between `start` and `close` callers are accepted; `draining` asks them to come back on another connection. Closing
never cuts a call off: a connection with a call, or with bytes that may be one, stays until it is answered.
"""

import asyncio
import contextlib
import errno
import logging
import os
import socket
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from proxy.wire.downstream import Connection, House

_LOG = logging.getLogger(__name__)
BACKLOG = 1024
NO_IPV6 = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)  # what `::1` gives where IPv6 is off


class Address(Protocol):
    """Where to listen: a TCP host and port, or the path of a Unix socket."""

    @property
    def host(self) -> str:
        """Name or IP address."""
        ...

    @property
    def port(self) -> int:
        """0: any free one."""
        ...

    @property
    def path(self) -> str:
        """Of a Unix socket; empty for TCP."""
        ...


class CannotListen(OSError):
    """An address cannot be had."""

    def __init__(self, address: str, port: int, cause: OSError) -> None:
        """`port`: 0 where there is none, or not one."""
        number = cause.errno or 0
        # The loop's own text repeats the address. A name that cannot be resolved has other numbers, below 0.
        super().__init__(cause.errno, os.strerror(number) if number > 0 else cause.strerror or str(cause))
        self.address = address
        self.port = port

    def __str__(self) -> str:
        return f"cannot listen on {self.address}: {self.strerror}"


class Listener:
    """Accepts callers; owns their connections."""

    def __init__(self, house: House) -> None:
        self.house = house
        self.addresses: Sequence[str] = ()  # as bound
        self._servers: list[asyncio.Server] = []
        self._paths: list[Path] = []

    def drain(self) -> None:
        """Ask callers to come back on another connection, and elsewhere."""
        self.house.draining = True

    def __repr__(self) -> str:
        return f"<Listener addresses={len(self._servers)} connections={self.connections}>"

    @property
    def connections(self) -> int:
        """How many are open."""
        return len(self.house.connections)

    @property
    def unwritten(self) -> int:
        """How many answers callers have not taken yet."""
        return sum(connection.unwritten for connection in self.house.connections)

    async def start(self, addresses: Sequence[Address], *, ipv6_optional: bool = False) -> list[str]:
        """Bind all addresses, or none. Returns them as bound. Raises CannotListen.

        `ipv6_optional`: do without `::1` where there is no IPv6, as long as another address is left.
        """
        bound: list[str] = []
        skipped: CannotListen | None = None
        try:
            for address in addresses:
                try:
                    bound += await self._bind(address)
                except OSError as error:
                    failed = CannotListen(str(address), address.port, error)
                    if not (ipv6_optional and address.host == "::1" and error.errno in NO_IPV6):
                        raise failed from error
                    skipped = failed
                    _LOG.warning("%s; going on without IPv6", failed)
            if skipped and not bound:
                raise skipped
        except BaseException:
            await self.close()
            raise
        self.addresses = bound
        return bound

    async def _bind(self, address: Address) -> list[str]:
        if address.path:
            self._servers.append(await self._start_unix(Path(address.path)))
            return [f"unix:{address.path}"]
        server = await asyncio.get_running_loop().create_server(
            lambda: Connection(self.house), address.host, address.port, backlog=BACKLOG
        )
        # Without the address family, loops give a server that listens nowhere.
        if not server.sockets:
            raise OSError(errno.EAFNOSUPPORT, os.strerror(errno.EAFNOSUPPORT))
        self._servers.append(server)
        return [_tcp_name(listening) for listening in server.sockets]

    async def _start_unix(self, path: Path) -> asyncio.Server:
        _remove_stale(path)
        # Never, not for a moment, open to others than owner and group (T1).
        mask = os.umask(0o117)
        try:
            server = await asyncio.get_running_loop().create_unix_server(
                lambda: Connection(self.house), str(path), backlog=BACKLOG
            )
        finally:
            os.umask(mask)
        self._paths.append(path)
        return server

    async def close(self) -> None:
        """Accept nobody any more; close connections that wait for a next call and have sent no byte of it."""
        # What the kernel has accepted, or holds to be read, before this moment is still served: it is taken first.
        links = []
        for server in self._servers:
            links += _accepted(server)
            server.close()
        self._servers.clear()
        self.remove_sockets()
        self.drain()
        loop = asyncio.get_running_loop()
        for link in links:
            await loop.connect_accepted_socket(lambda: Connection(self.house), link)
        await asyncio.sleep(0)
        for connection in list(self.house.connections):
            connection.close_if_idle()

    def remove_sockets(self) -> None:
        """Take the Unix sockets out of the file system."""
        for path in self._paths:
            path.unlink(missing_ok=True)
        self._paths.clear()

    async def closed(self) -> None:
        """Wait until the last connection is gone."""
        await self.house.empty.wait()

    def abort(self) -> None:
        """Drop every connection now."""
        for connection in list(self.house.connections):
            connection.abort()


def _tcp_name(listening: socket.socket) -> str:
    host, port = listening.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _accepted(server: asyncio.Server) -> list[socket.socket]:
    """Take all whom the kernel has accepted: the loop takes one a turn, and closing would reset the others."""
    links = []
    for listening in server.sockets:
        with socket.socket(fileno=os.dup(listening.fileno())) as own, contextlib.suppress(OSError):
            own.setblocking(False)
            while True:
                links.append(own.accept()[0])
    return links


def _remove_stale(path: Path) -> None:
    """Remove a socket that nobody listens on, as a killed process leaves it. Raises OSError when somebody does."""
    with contextlib.suppress(FileNotFoundError):
        if not stat.S_ISSOCK(path.stat().st_mode):
            raise FileExistsError("it exists and is not a socket")
        with socket.socket(socket.AF_UNIX) as probe:
            try:
                probe.connect(str(path))
            except ConnectionRefusedError:
                path.unlink()
            else:
                raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))
