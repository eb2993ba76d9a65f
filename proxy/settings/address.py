"""Where something listens (`Address`) and where Talon.One is (`Origin`): parsed once, printed back the same."""

import ipaddress
import re
from dataclasses import dataclass
from enum import Enum
from typing import Self
from urllib.parse import urlsplit

HOST_NAME = re.compile(r"(?=.{1,253}\Z)[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9])?(\.[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9])?)*")
PORTS = {"http": 80, "https": 443}
# What the kernel takes as the path of a Unix socket, without the closing NUL.
SOCKET_PATH = 107


def host(text: str) -> str:
    """Check a name or an IP address and give its one spelling: lower case, IPv6 compressed and without brackets."""
    text = text.lower()
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        pass
    # A last label of digits only is an IPv4 address gone wrong (`127.1`, `1.2.3.256`), never a name.
    if not HOST_NAME.fullmatch(text) or text.rpartition(".")[2].isdigit():
        raise ValueError("is not a host name or IP address")
    return text


def loopback(name: str) -> bool:
    """Whether a host is this machine for sure; a name that merely resolves to it does not count."""
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def _port(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,5}", text) or int(text) > 65535:
        raise ValueError("needs a port between 0 and 65535")
    return int(text)


def _bracketed(name: str) -> str:
    return f"[{name}]" if ":" in name else name


class AddressKind(Enum):
    """What a listener is bound to."""

    TCP = "tcp"
    UNIX = "unix"


@dataclass(frozen=True, slots=True)
class Address:
    """`127.0.0.1:7410`, `[::1]:7410`, `localhost:7410` or `unix:/run/talon-proxy.sock`."""

    kind: AddressKind
    host: str = ""
    port: int = 0
    path: str = ""

    @classmethod
    def tcp(cls, name: str, port: int) -> Self:
        """Build the address of a host and a port."""
        return cls(AddressKind.TCP, host=host(name), port=port)

    @classmethod
    def unix(cls, path: str) -> Self:
        """Build the address of a Unix socket."""
        return cls(AddressKind.UNIX, path=path)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read any of the forms above; raises ValueError with what is wrong, without repeating the text."""
        if text.startswith("unix:"):
            path = text.removeprefix("unix:")
            if not path.startswith("/") or "\0" in path or len(path.encode()) > SOCKET_PATH:
                raise ValueError(f'needs an absolute path of at most {SOCKET_PATH} bytes after "unix:"')
            return cls.unix(path)
        name, colon, port = text.rpartition(":")
        if not colon:
            raise ValueError("needs a host and a port, as in 127.0.0.1:7410, or unix:/path")
        if name.startswith("[") and name.endswith("]"):
            name = name[1:-1]
            if ":" not in name:
                raise ValueError("has brackets around something that is not an IPv6 address")
        elif ":" in name:
            raise ValueError("needs brackets around the IPv6 address, as in [::1]:7410")
        if not name:
            raise ValueError("needs a host before the port; 0.0.0.0 stands for every interface")
        return cls.tcp(name, _port(port))

    @property
    def loopback(self) -> bool:
        """Whether only this machine can reach it; a Unix socket counts."""
        return self.kind is AddressKind.UNIX or loopback(self.host)

    @property
    def fixed(self) -> bool:
        """Whether it names one place; port 0 lets the kernel choose."""
        return self.kind is AddressKind.UNIX or self.port != 0

    def __str__(self) -> str:
        if self.kind is AddressKind.UNIX:
            return f"unix:{self.path}"
        return f"{_bracketed(self.host)}:{self.port}"


@dataclass(frozen=True, slots=True)
class Origin:
    """`https://mycompany.europe-west1.talon.one`: scheme, host and port of a URL, and nothing else."""

    scheme: str
    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a URL; raises ValueError with what is wrong, without repeating the text (it may hold a password)."""
        # urlsplit drops tabs and line ends silently, and reads a backslash otherwise than browsers do.
        if not text.isascii() or any(char <= " " or char in "\\\x7f" for char in text):
            raise ValueError("holds a blank, a control character, a backslash or a non-ASCII character")
        try:
            parts = urlsplit(text)
            port = parts.port
        except ValueError:
            raise ValueError("is not a URL of the form https://host or https://host:port") from None
        if parts.scheme not in PORTS or not parts.netloc:
            raise ValueError("needs the form https://host or https://host:port")
        if "@" in parts.netloc:
            raise ValueError("must not hold a user name or password")
        if "?" in text or "#" in text:
            raise ValueError("must not hold a query or a fragment")
        if parts.path not in ("", "/"):
            raise ValueError("must not hold a path: only scheme, host and port are used")
        # `https://host:` has an empty port, which urlsplit gives as none.
        if port == 0 or parts.netloc.endswith(":"):
            raise ValueError("needs a port between 1 and 65535")
        return cls(parts.scheme, host(parts.hostname or ""), PORTS[parts.scheme] if port is None else port)

    @property
    def secure(self) -> bool:
        """Whether TLS is spoken."""
        return self.scheme == "https"

    @property
    def loopback(self) -> bool:
        """Whether it is this machine."""
        return loopback(self.host)

    @property
    def authority(self) -> str:
        """Host and, unless it is the scheme's own, port: what a `Host` line says."""
        name = _bracketed(self.host)
        return name if self.port == PORTS[self.scheme] else f"{name}:{self.port}"

    def __str__(self) -> str:
        return f"{self.scheme}://{self.authority}"
