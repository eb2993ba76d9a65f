"""Opening connections to one host: name, TCP, TLS, within one time limit.

Failures come out as UpstreamErrors that nothing was sent with; a certificate is always verified. The key is not
known here, so it cannot be sent to anybody before the handshake has ended.
"""

import asyncio
import socket
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from proxy.errors import (
    CertificateError,
    ConnectionRefused,
    ConnectTimeout,
    NameNotResolved,
    NameTimeout,
    TlsError,
    UpstreamError,
)

ProtocolT = TypeVar("ProtocolT", bound=asyncio.BaseProtocol)
HANDSHAKE_SHARE = 0.1  # seconds at least for each further address


class Opened:
    """How long the steps of opening took, in seconds."""

    __slots__ = ("connect", "tls")

    def __init__(self) -> None:
        self.connect = 0.0  # name resolution and TCP
        self.tls = 0.0


def tls_context(ca_file: Path | None) -> ssl.SSLContext:
    """Make the context of all connections to an https upstream: TLS ≥ 1.2, always verified. Raises OSError."""
    # The environment's SSLKEYLOGFILE is ignored, unlike by `ssl.create_default_context` (T23).
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    if ca_file is None:
        context.load_default_certs()
    else:
        context.load_verify_locations(ca_file)
    return context


class Dialer:
    """Opens connections to one host and port."""

    def __init__(
        self, host: str, port: int, tls: ssl.SSLContext | None, *, timeout: float, clock: Callable[[], float]
    ) -> None:
        self.host = host
        self.port = port
        self._tls = tls
        self._timeout = timeout
        self._clock = clock

    async def open(self, protocol: ProtocolT) -> Opened:
        """Connect `protocol`. Raises UpstreamError, sent=no."""
        opened = Opened()
        started = self._clock()
        deadline = started + self._timeout
        link = await self._connect(deadline)
        opened.connect = self._clock() - started
        try:
            async with asyncio.timeout(max(deadline - self._clock(), 0.0)):
                await asyncio.get_running_loop().create_connection(
                    lambda: protocol,
                    sock=link,
                    ssl=self._tls,
                    server_hostname=self.host if self._tls is not None else None,
                )
        except OSError as error:  # TimeoutError and SSLError are
            link.close()
            raise _tls_failure(error) from error
        except BaseException:
            link.close()
            raise
        opened.tls = self._clock() - started - opened.connect
        return opened

    async def _connect(self, deadline: float) -> socket.socket:
        addresses = await self._resolve(deadline)
        last: Exception | None = None
        for position, address in enumerate(addresses):
            # One black hole among several addresses may not eat the time of the others.
            remaining = max(deadline - self._clock(), 0.0)
            share = remaining / (len(addresses) - position)
            try:
                async with asyncio.timeout(max(share, HANDSHAKE_SHARE)):
                    return await _connect_to(*address)
            except OSError as error:  # TimeoutError is one
                last = error
        if isinstance(last, TimeoutError):
            raise ConnectTimeout("No connection within upstream.timeouts.connect") from last
        raise ConnectionRefused("No address of upstream.url took the connection") from last

    async def _resolve(self, deadline: float) -> list[tuple[int, tuple[str, int]]]:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(max(deadline - self._clock(), 0.0)):
                found = await loop.getaddrinfo(self.host, self.port, type=socket.SOCK_STREAM)
        except TimeoutError as error:
            raise NameTimeout("The name of upstream.url was not resolved in time") from error
        except OSError as error:
            raise NameNotResolved("The name of upstream.url has no address") from error
        if not found:
            raise NameNotResolved("The name of upstream.url has no address")
        return [(family, address) for family, _, _, _, address in found]  # type: ignore[misc]


async def _connect_to(family: int, address: tuple[str, int]) -> socket.socket:
    link = socket.socket(family, socket.SOCK_STREAM)
    try:
        link.setblocking(False)
        # Set here and not by the transport: uvloop leaves sockets it did not open as they are.
        link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await asyncio.get_running_loop().sock_connect(link, address)
    except BaseException:
        link.close()
        raise
    return link


def _tls_failure(error: OSError) -> UpstreamError:
    if isinstance(error, ssl.SSLCertVerificationError):
        return CertificateError("Verification of the certificate of upstream.url failed")
    if isinstance(error, TimeoutError):
        return ConnectTimeout("No TLS handshake within upstream.timeouts.connect")
    if isinstance(error, ssl.SSLError):
        return TlsError("The TLS handshake with upstream.url failed")
    return TlsError("The connection ended during the TLS handshake")


def is_permanent(error: UpstreamError) -> bool:
    """Trying again at once cannot help: the peer is not who it should be (U3)."""
    return isinstance(error, CertificateError)
