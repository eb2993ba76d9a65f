"""Opening connections to one host: the way out, TLS, the protocol, within one time limit.

Failures come out as UpstreamErrors that nothing was sent with; a certificate is always verified. The key is not
known here, so it cannot be sent to anybody before the handshake has ended.
"""

import asyncio
import socket
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Generic, Literal, TypeVar

from proxy.errors import (
    CertificateError,
    ConnectTimeout,
    TlsError,
    TunnelDenied,
    UpstreamError,
)
from proxy.wire.connection import HTTP1, HTTP2, Closing, Connection
from proxy.wire.egress import Egress

Wanted = Literal["auto", "http/1.1", "h2"]  # setting `upstream.protocol`
ConnectionT = TypeVar("ConnectionT", bound=Connection)


class Opened:
    """How long the steps of opening took, in seconds."""

    __slots__ = ("connect", "tls")

    def __init__(self) -> None:
        self.connect = 0.0  # name, TCP, and the proxy's tunnel where there is one
        self.tls = 0.0  # the handshake, and the peer's first words where it speaks first


def tls_context(
    ca_file: Path | None, protocol: Wanted = "auto", *, certificate: Path | None = None, key: Path | None = None
) -> ssl.SSLContext:
    """Make the context of all connections to an https upstream: TLS ≥ 1.2, always verified.

    `certificate` and `key` are shown to a peer that asks for one. Raises OSError, and ValueError of a key with a
    password.
    """
    # The environment's SSLKEYLOGFILE is ignored, unlike by `ssl.create_default_context` (T23).
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols([HTTP2, HTTP1] if protocol == "auto" else [protocol])
    if ca_file is None:
        context.load_default_certs()
    else:
        context.load_verify_locations(ca_file)
    if certificate is not None:
        context.load_cert_chain(certificate, key, _no_password)
    return context


def _no_password() -> str:
    # Else OpenSSL would ask for it on the terminal.
    raise ValueError("the key of the client certificate has a password")


class Dialer:
    """Opens connections to the host that an egress leads to."""

    def __init__(
        self,
        egress: Egress,
        tls: ssl.SSLContext | None,
        *,
        protocol: Wanted = "auto",
        timeout: float,
        clock: Callable[[], float],
    ) -> None:
        self.egress = egress
        self.scheme = b"http" if tls is None else b"https"
        self.expected = HTTP2 if protocol == "h2" else HTTP1  # until a connection tells
        self._tls = tls
        self._timeout = timeout
        self._clock = clock

    async def open(self, make: Callable[[str], ConnectionT]) -> tuple[ConnectionT, Opened]:
        """Connect what `make` gives for the protocol that is spoken. Raises UpstreamError, sent=no."""
        opened = Opened()
        started = self._clock()
        deadline = started + self._timeout
        link = await self.egress.connect(deadline)
        opened.connect = self._clock() - started
        chosen = _Choice(self._spoken, make)
        try:
            async with asyncio.timeout(max(deadline - self._clock(), 0.0)):
                await asyncio.get_running_loop().create_connection(
                    lambda: chosen,
                    sock=link,
                    ssl=self._tls,
                    server_hostname=self.egress.host if self._tls is not None else None,
                )
                connection = chosen.connection
                if connection is None:
                    raise TlsError("The peer does not speak upstream.protocol")
                await connection.ready()
        except OSError as error:  # TimeoutError and SSLError are
            chosen.give_up(link)
            raise _tls_failure(error) from error
        except BaseException:
            chosen.give_up(link)
            raise
        opened.tls = self._clock() - started - opened.connect
        return connection, opened

    def _spoken(self, negotiated: str | None) -> str | None:
        """Say which protocol is spoken, by what ALPN gave; None: not the one that is wanted."""
        if negotiated is not None or self._tls is None:
            return negotiated or self.expected
        # Without ALPN it is HTTP/1.1 (RFC 9113 §3.2).
        return None if self.expected == HTTP2 else HTTP1


class _Choice(asyncio.Protocol, Generic[ConnectionT]):
    """Stands in for the connection until the handshake has told which protocol it speaks."""

    def __init__(self, spoken: Callable[[str | None], str | None], make: Callable[[str], ConnectionT]) -> None:
        self._spoken = spoken
        self._make = make
        self.connection: ConnectionT | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        tls = transport.get_extra_info("ssl_object")
        protocol = self._spoken(tls.selected_alpn_protocol() if tls is not None else None)
        if protocol is None:
            transport.close()
            return
        self.connection = self._make(protocol)
        transport.set_protocol(self.connection)
        self.connection.connection_made(transport)

    def give_up(self, link: socket.socket) -> None:
        """Close what was opened so far."""
        if self.connection is None:
            link.close()
        else:
            self.connection.close(Closing.ERROR)


def _tls_failure(error: OSError) -> UpstreamError:
    if isinstance(error, ssl.SSLCertVerificationError):
        return CertificateError("Verification of the certificate of upstream.url failed")
    if isinstance(error, TimeoutError):
        return ConnectTimeout("No handshake within upstream.timeouts.connect")
    if isinstance(error, ssl.SSLError):
        return TlsError("The TLS handshake with upstream.url failed")
    return TlsError("The connection ended during the TLS handshake")


def is_permanent(error: UpstreamError) -> bool:
    """Trying again at once cannot help: the peer is not who it should be (U3), or the way there is closed."""
    return isinstance(error, CertificateError | TunnelDenied)
