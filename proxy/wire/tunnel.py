"""A tunnel through an HTTP proxy: one CONNECT and its answer (RFC 9110 §9.3.6), on a socket that is connected.

What goes through it afterwards the proxy does not see: TLS is spoken with the host behind.
"""

import asyncio
import re
import socket

from proxy.errors import TunnelDenied, TunnelRefused

LARGEST = 16 * 1024  # bytes of the answer's head
STATUS = re.compile(rb"HTTP/1\.[01] ([1-5][0-9]{2})(?: [^\r\n]*)?\r\n")
DENIED = {
    401: "The egress proxy wants other credentials in upstream.proxy",
    403: "The egress proxy does not allow connections to the host",
    407: "The egress proxy wants credentials in upstream.proxy, or other ones",
}


async def open_tunnel(link: socket.socket, authority: str, authorization: bytes | None) -> None:
    """Ask for a tunnel to `authority` (host:port). `authorization`: value of the `Proxy-Authorization` line.

    Raises TunnelDenied, TunnelRefused, or OSError where the connection ends. How long it may take is up to the caller.
    """
    loop = asyncio.get_running_loop()
    lines = [b"CONNECT %b HTTP/1.1" % authority.encode(), b"Host: %b" % authority.encode()]
    if authorization is not None:
        lines.append(b"Proxy-Authorization: %b" % authorization)
    await loop.sock_sendall(link, b"\r\n".join((*lines, b"", b"")))
    head = b""
    while b"\r\n\r\n" not in head:
        piece = await loop.sock_recv(link, 4096)
        head += piece
        if not piece or len(head) > LARGEST:
            raise TunnelRefused("The egress proxy closed the connection, or its answer has no end")
    status = STATUS.match(head)
    if status is None:
        raise TunnelRefused("What listens at upstream.proxy does not speak HTTP")
    code = int(status[1])
    if code in DENIED:
        raise TunnelDenied(DENIED[code])
    if not 200 <= code < 300:
        raise TunnelRefused("The egress proxy could not reach the host")
    if not head.endswith(b"\r\n\r\n"):
        # The host behind waits for our first word, so this cannot be its.
        raise TunnelRefused("The egress proxy said more than its answer")
