"""Opening connections to one host: the way out, then TLS, within one time limit.

Failures come out as UpstreamErrors that nothing was sent with; a certificate is always verified. The key is not
known here, so it cannot be sent to anybody before the handshake has ended.
"""

import asyncio
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from proxy.errors import (
    CertificateError,
    ConnectTimeout,
    TlsError,
    TunnelDenied,
    UpstreamError,
)
from proxy.wire.egress import Egress

ProtocolT = TypeVar("ProtocolT", bound=asyncio.BaseProtocol)


class Opened:
    """How long the steps of opening took, in seconds."""

    __slots__ = ("connect", "tls")

    def __init__(self) -> None:
        self.connect = 0.0  # name, TCP, and the proxy's tunnel where there is one
        self.tls = 0.0


def tls_context(ca_file: Path | None, *, certificate: Path | None = None, key: Path | None = None) -> ssl.SSLContext:
    """Make the context of all connections to an https upstream: TLS ≥ 1.2, always verified.

    `certificate` and `key` are shown to a peer that asks for one. Raises OSError, and ValueError of a key with a
    password.
    """
    # The environment's SSLKEYLOGFILE is ignored, unlike by `ssl.create_default_context` (T23).
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
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
        self, egress: Egress, tls: ssl.SSLContext | None, *, timeout: float, clock: Callable[[], float]
    ) -> None:
        self.egress = egress
        self._tls = tls
        self._timeout = timeout
        self._clock = clock

    async def open(self, protocol: ProtocolT) -> Opened:
        """Connect `protocol`. Raises UpstreamError, sent=no."""
        opened = Opened()
        started = self._clock()
        deadline = started + self._timeout
        link = await self.egress.connect(deadline)
        opened.connect = self._clock() - started
        try:
            async with asyncio.timeout(max(deadline - self._clock(), 0.0)):
                await asyncio.get_running_loop().create_connection(
                    lambda: protocol,
                    sock=link,
                    ssl=self._tls,
                    server_hostname=self.egress.host if self._tls is not None else None,
                )
        except OSError as error:  # TimeoutError and SSLError are
            link.close()
            raise _tls_failure(error) from error
        except BaseException:
            link.close()
            raise
        opened.tls = self._clock() - started - opened.connect
        return opened


def _tls_failure(error: OSError) -> UpstreamError:
    if isinstance(error, ssl.SSLCertVerificationError):
        return CertificateError("Verification of the certificate of upstream.url failed")
    if isinstance(error, TimeoutError):
        return ConnectTimeout("No TLS handshake within upstream.timeouts.connect")
    if isinstance(error, ssl.SSLError):
        return TlsError("The TLS handshake with upstream.url failed")
    return TlsError("The connection ended during the TLS handshake")


def is_permanent(error: UpstreamError) -> bool:
    """Trying again at once cannot help: the peer is not who it should be (U3), or the way there is closed."""
    return isinstance(error, CertificateError | TunnelDenied)
