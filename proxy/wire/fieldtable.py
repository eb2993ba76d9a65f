"""What happens to each header field, by its name: who reads it, and whether it crosses.

A field is decided by its name alone, once: spellings that were seen are remembered, so that a field of a call costs
one look-up. What concerns one hop only is never handed on (RFC 9110 §7.6.1).
"""

from collections.abc import Iterable
from enum import Enum, auto
from typing import Final

from proxy.messages import Noted

_REMEMBERED: Final = 2048  # names, and lines
_LONGEST_REMEMBERED: Final = 256  # bytes


class Fate(Enum):
    """Of a field."""

    CROSSES = auto()  # handed on as it came
    NOTED = auto()  # the same, and its value is told
    TAKEN = auto()  # its value is told
    DROPPED = auto()
    # For this hop, read by `wire.heads`:
    CODING = auto()
    CONNECTION = auto()
    EXPECT = auto()
    HOST = auto()
    KEEP_ALIVE = auto()
    LENGTH = auto()
    UPGRADE = auto()


# RFC 9110 §7.6.1, and `Host` and `Content-Length`, which every hop writes anew.
_OF_HOP: Final = {
    b"connection": Fate.CONNECTION,
    b"content-length": Fate.LENGTH,
    b"expect": Fate.EXPECT,
    b"host": Fate.HOST,
    b"http2-settings": Fate.DROPPED,
    b"keep-alive": Fate.KEEP_ALIVE,
    b"proxy-authenticate": Fate.DROPPED,
    b"proxy-authentication-info": Fate.DROPPED,
    b"proxy-authorization": Fate.DROPPED,
    b"proxy-connection": Fate.DROPPED,
    b"te": Fate.DROPPED,
    b"trailer": Fate.DROPPED,
    b"transfer-encoding": Fate.CODING,
    b"upgrade": Fate.UPGRADE,
}
# Fields a `Connection` line cannot take away: what we add ourselves, and what says which write this is (C19).
_KEPT_FROM_CONNECTION: Final = frozenset({b"authorization", b"idempotency-key", b"via", b"x-request-id"})
_NO_FIELDS: Final = frozenset({b"", b"close", b"keep-alive"})
_FRAMING_TOO: Final = (b"content-encoding", b"content-type")  # not to be smuggled in by an underscore either
_CROSSES, _NOTED, _TAKEN, _DROPPED = Fate.CROSSES, Fate.NOTED, Fate.TAKEN, Fate.DROPPED


# Fields whose whole line is worth remembering: few values, the same with every call, and nobody's secret.
STEADY: Final = frozenset(
    {
        b"accept",
        b"accept-encoding",
        b"accept-language",
        b"cache-control",
        b"connection",
        b"content-encoding",
        b"content-type",
        b"host",
        b"server",
        b"user-agent",
        b"vary",
    }
)
Hop = tuple[Fate, bytes]
# What is known of a whole line: whether it crosses, what is noted of it, what it says for this hop.
_Known = tuple[bool, Noted | None, Hop | None]
_ONLY_CROSSES: Final[_Known] = (True, None, None)


class FieldTable:
    """The fates of one direction. `taken` and `dropped` names that end in `-` stand for all that begin so."""

    def __init__(
        self, *, noted: Iterable[bytes] = (), taken: Iterable[bytes] = (), dropped: Iterable[bytes] = ()
    ) -> None:
        self._named = (
            dict.fromkeys(taken, Fate.TAKEN)
            | dict.fromkeys(noted, Fate.NOTED)
            | dict.fromkeys(dropped, Fate.DROPPED)
            | _OF_HOP
        )
        self._prefixes = [(name, fate) for name, fate in self._named.items() if name.endswith(b"-")]
        self._names: dict[bytes, Fate] = {}
        self._lines: dict[bytes, _Known] = {}

    def sort(self, lines: list[bytes]) -> tuple[list[bytes], list[Noted], list[Hop]]:
        """Sort field lines, which have the grammar of RFC 9112 §5 and no line ends.

        Gives the lines that cross, the values that were asked for, and what is for this hop. A steady line is known
        as a whole: 0.07 µs instead of 0.3, and six of eight lines are.
        """
        crossing: list[bytes] = []
        noted: list[Noted] = []
        hop: list[Hop] = []
        find = self._lines.get
        for line in lines:
            known = find(line)
            if known is _ONLY_CROSSES:
                crossing.append(line)
            elif known is None:
                self._sort_line(line, crossing, noted, hop)
            else:
                crosses, note, of_hop = known
                if crosses:
                    crossing.append(line)
                if note is not None:
                    noted.append(note)
                if of_hop is not None:
                    hop.append(of_hop)
        return crossing, noted, hop

    def _sort_line(self, line: bytes, crossing: list[bytes], noted: list[Noted], hop: list[Hop]) -> None:
        name = line[: line.index(b":")]
        fate = self._names.get(name) or self._decide(name)
        known = _ONLY_CROSSES
        if fate is _NOTED or fate is _TAKEN:
            known = (fate is _NOTED, (name.lower(), line[len(name) + 1 :].strip()), None)
        elif fate is _DROPPED:
            return
        elif fate is not _CROSSES:
            known = (False, None, (fate, line[len(name) + 1 :].strip()))
        crosses, note, of_hop = known
        if crosses:
            crossing.append(line)
        if note is not None:
            noted.append(note)
        if of_hop is not None:
            hop.append(of_hop)
        if name.lower() in STEADY and len(line) <= _LONGEST_REMEMBERED and len(self._lines) < _REMEMBERED:
            self._lines[line] = known

    def _decide(self, name: bytes) -> Fate:
        lower = name.lower()
        fate = self._fate(lower)
        if b"_" in lower:
            # `_` becomes `-` in CGI-like servers: a field that would then be one that matters is dropped (C20).
            dashed = lower.replace(b"_", b"-")
            if self._fate(dashed) is not _CROSSES or dashed in _KEPT_FROM_CONNECTION or dashed in _FRAMING_TOO:
                fate = _DROPPED
        if len(name) <= _LONGEST_REMEMBERED and len(self._names) < _REMEMBERED:
            self._names[name] = fate
        return fate

    def _fate(self, lower: bytes) -> Fate:
        fate = self._named.get(lower)
        if fate is None:
            fate = next((fate for prefix, fate in self._prefixes if lower.startswith(prefix)), _CROSSES)
        return fate


def connection_options(connection: list[bytes]) -> set[bytes]:
    """Give the options of all `Connection` lines, in lower case.

    All lines are joined first: one at a time misses some (CVE-2021-33197).
    """
    return {option.strip().lower() for option in b",".join(connection).split(b",")}


def without_nominated(options: set[bytes], crossing: list[bytes]) -> list[bytes]:
    """Take out the lines that `Connection` names (RFC 9110 §7.6.1). What was read of them for us stays read."""
    nominated = options - _KEPT_FROM_CONNECTION - _NO_FIELDS
    if not nominated:
        return crossing
    return [line for line in crossing if line[: line.index(b":")].lower() not in nominated]
