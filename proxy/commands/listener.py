"""Where a proxy's admin listener is, and asking it. Standard library only, and little of it: probes run all day.

It is found where `serve` would take it from: flag, environment, file, default. This is a light reading of these
sources: what else stands in them is neither looked at nor checked, since a probe must tell of the proxy and not of
its settings.
"""

import os
import socket
from collections.abc import Mapping, Sequence

DEFAULT = "0.0.0.0:7411"  # as in the settings
_EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}  # noqa: S104
_LARGEST = 16 << 20  # bytes of an answer


class NotFound(Exception):
    """The sources do not tell an address that can be asked; the text says why."""


class NoAnswer(Exception):
    """Nobody listens there, or what does speaks no HTTP; the text says what happened."""


class Place:
    """Host and port (of `[::1]:7411` without brackets), or the path of a Unix socket."""

    __slots__ = ("host", "path", "port")

    def __init__(self, host: str, port: int, path: str = "") -> None:
        self.host = host
        self.port = port
        self.path = path

    @classmethod
    def parse(cls, text: str) -> "Place":
        """Read an address as the settings have it. Raises NotFound."""
        if text.startswith("unix:/"):
            return cls("", 0, text.removeprefix("unix:"))
        host, colon, port = text.rpartition(":")
        if not colon or not (port.isascii() and port.isdigit()):
            raise NotFound("admin.listen is not an address such as 127.0.0.1:7411 or unix:/path")
        if int(port) == 0:
            raise NotFound("admin.listen leaves the port to the system: nobody knows it from outside")
        host = host.removeprefix("[").removesuffix("]")
        return cls(_EVERYWHERE.get(host, host), int(port))

    def __str__(self) -> str:
        if self.path:
            return f"unix:{self.path}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def connect(self, timeout: float) -> socket.socket:
        """Open a connection. Raises OSError."""
        if not self.path:
            return socket.create_connection((self.host, self.port), timeout)
        line = socket.socket(socket.AF_UNIX)
        try:
            line.settimeout(timeout)
            line.connect(self.path)
        except BaseException:
            line.close()
            raise
        return line


class Sources:
    """The texts that the flags, the environment and the file give to keys, by dotted name."""

    def __init__(self, flags: Mapping[str, str], environ: Mapping[str, str]) -> None:
        """`flags` by name without the dashes. Raises NotFound where the file cannot be read."""
        self._flags = flags
        self._variables = {name.upper(): value for name, value in environ.items()}
        file = flags.get("config") or self._variables.get("TALON_PROXY_CONFIG")
        self._file = _read(file) if file else {}

    def _given(self, key: str) -> Sequence[object]:
        """Give what the flags, the environment and the file say, the strongest first; None where one says nothing."""
        variable = "TALON_PROXY_" + key.replace(".", "__").upper()
        return self._flags.get(key), self._variables.get(variable), _dig(self._file, key)

    @property
    def admin(self) -> Place:
        """Where the admin listener is: the first address of a list. Raises NotFound."""
        given = next((each for each in self._given("admin.listen") if each is not None), DEFAULT)
        if isinstance(given, str):
            given = _entries(given)
        if isinstance(given, list):
            given = given[0] if given else ""
        if given == "":
            raise NotFound("admin.listen is empty: there is no admin listener to ask")
        return Place.parse(given if isinstance(given, str) else DEFAULT)

    @property
    def token(self) -> str | None:
        """The admin token. Raises NotFound where its file cannot be read."""
        # As in the settings: the strongest source that has it, itself or its file, decides.
        for token, file in zip(self._given("admin.token"), self._given("admin.token_file"), strict=True):
            if isinstance(file, str):
                return _word(file)
            if isinstance(token, str):
                return token.removesuffix("\n")
        return None


def _word(file: str) -> str:
    try:
        with open(file, errors="replace") as opened:  # noqa: PTH123 - pathlib costs a probe 3 ms
            return opened.read().strip()
    except (OSError, ValueError) as error:
        # Not by its name: who mistakes the two has written the token itself there.
        why = error.strerror if isinstance(error, OSError) else "it is not the path of a file"
        raise NotFound(f"the file of admin.token_file cannot be read: {why}") from error


def _dig(table: object, key: str) -> object:
    for name in key.split("."):
        table = table.get(name) if isinstance(table, dict) else None
    return table


def ask(
    place: Place, path: str, *, timeout: float, token: str | None = None, method: str = "GET", body: bytes = b""
) -> tuple[int, bytes]:
    """Give status and body of an answer. `timeout` in seconds, for each step. Raises NoAnswer."""
    # HTTP/1.0: the answer is never in chunks, and the connection ends with it. `localhost` is let in on any listener.
    lines = [f"{method} {path} HTTP/1.0", "Host: localhost"]
    if token:
        lines.append(f"Authorization: Bearer {token}")
    if method != "GET":
        lines.append(f"Content-Length: {len(body)}")
    try:
        with place.connect(timeout) as line:
            line.sendall("\r\n".join((*lines, "", "")).encode() + body)
            answer = b""
            while (piece := line.recv(65536)) and len(answer) < _LARGEST:
                answer += piece
    except TimeoutError as error:
        raise NoAnswer(f"no answer from {place} within {timeout:g} s") from error
    except OSError as error:
        raise NoAnswer(f"cannot reach {place}: {os.strerror(error.errno) if error.errno else error}") from error
    head, _, body = answer.partition(b"\r\n\r\n")
    words = head.split(b" ", 2)
    if not words[0].startswith(b"HTTP/1.") or len(words) < 2 or not words[1].isdigit():
        raise NoAnswer(f"what listens on {place} does not speak HTTP")
    return int(words[1]), body


def _entries(text: str) -> object:
    """Split a text of the environment: JSON, or entries between commas."""
    inside = text.strip()[1:].lstrip()
    # As in the settings: more than a bracket is needed to tell a JSON list from the address `[::1]:7410`.
    if text.strip().startswith("[") and inside[:1] in ('"', "]"):
        import json

        try:
            return json.loads(text)
        except ValueError as error:
            raise NotFound("admin.listen is not valid JSON") from error
    return [entry.strip() for entry in text.split(",")]


def _read(name: str) -> dict[str, object]:
    import tomllib

    try:
        with open(name, "rb") as file:  # noqa: PTH123 - see above
            return tomllib.load(file)
    except OSError as error:
        raise NotFound(f"{name} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise NotFound(f"{name} is not valid TOML") from error
