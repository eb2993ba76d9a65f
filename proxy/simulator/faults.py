"""Faults are what goes wrong between a shop and Talon.One, on demand.

One notation everywhere (flag, header `Simulator-Fault`, control): a kind, then options, such as

    reset-after-read    stall,seconds=2,session=ci-    503,rate=0.01,retry_after=1    reset-before-read,times=2

    reset-before-read  RST once the head has come; the call never happened
    reset-after-read   RST after the call was carried out, instead of an answer        executed=no: before it was
    stall              no answer for `seconds` (3600), then the answer                 executed=no: then nothing
    slow-body          the head at once, the body in pieces over `seconds` (5)
    truncated-body     half of the body, then the end of the connection
    500 502 503 504 429 401   this status instead of being carried out                 executed=yes: after it was
    garbage-when-idle  the answer, and bytes that nobody asked for `seconds` (0.1) later
    close-after        the answer, and from the n-th call of a connection (requests=n) its end, without a word
    connection-close   the answer with `Connection: close`, and the end

`rate` is a probability, `times` a number of calls after which the fault is spent, `session` and `path` are what the
session id and the decoded path begin with. Nothing here touches a socket: `delivery` does what a fault says.
"""

import enum
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from random import Random
from typing import Any
from urllib.parse import unquote

HEADER = "Simulator-Fault"
STATUSES = frozenset({500, 502, 503, 504, 429, 401})
SESSION_PATHS = ("/v2/customer_sessions/", "/v1/customer_sessions/")


class FaultError(ValueError):
    """This is no fault; the text says why."""


class Kind(enum.StrEnum):
    """What goes wrong. STATUS is written as its number."""

    RESET_BEFORE_READ = "reset-before-read"
    RESET_AFTER_READ = "reset-after-read"
    STALL = "stall"
    SLOW_BODY = "slow-body"
    TRUNCATED_BODY = "truncated-body"
    STATUS = "status"
    GARBAGE = "garbage-when-idle"
    CLOSE_AFTER = "close-after"
    CONNECTION_CLOSE = "connection-close"


_NAMES = tuple(kind.value for kind in Kind if kind is not Kind.STATUS)
_SECONDS = {Kind.STALL: 3600.0, Kind.SLOW_BODY: 5.0, Kind.GARBAGE: 0.1}
_MAY_GO_EITHER_WAY = frozenset({Kind.RESET_AFTER_READ, Kind.STALL, Kind.STATUS})


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault and the calls it is for. `text` is how it was written."""

    text: str
    kind: Kind
    status: int = 0
    rate: float = 1.0
    times: int | None = None
    session: str = ""
    path: str = ""
    seconds: float = 0.0
    executed: bool = True
    requests: int = 1
    retry_after: int | None = None

    def concerns(self, path: str) -> bool:
        """Whether a call to this raw path is one of those it is for."""
        decoded = unquote(path)
        return decoded.startswith(self.path) and (not self.session or session_of(path).startswith(self.session))


def session_of(path: str) -> str:
    """The decoded session id in a raw path; empty where there is none."""
    for prefix in SESSION_PATHS:
        if path.startswith(prefix):
            return unquote(path[len(prefix) :].partition("/")[0])
    return ""


def parse(text: str) -> Fault:
    """Read one fault, or raise FaultError."""
    name, *options = (part.strip() for part in text.split(","))
    kind, status = _kind(name)
    given: dict[str, Any] = {"executed": kind not in (Kind.STATUS, Kind.RESET_BEFORE_READ)}
    if kind in _SECONDS:
        given["seconds"] = _SECONDS[kind]
    for option in options:
        key, equals, value = option.partition("=")
        if not equals or key not in _OPTIONS:
            raise FaultError(f"{option!r} is no option of a fault; there are {', '.join(_OPTIONS)}")
        kinds, read = _OPTIONS[key]
        if kinds is not None and kind not in kinds:
            raise FaultError(f"{key} makes no sense with {name}")
        try:
            given[key] = read(value)
        except ValueError as error:
            raise FaultError(f"{value!r} is no value for {key}") from error
    return Fault(text, kind, status, **given)


def _kind(name: str) -> tuple[Kind, int]:
    if name.isascii() and name.isdigit() and int(name) in STATUSES:
        return Kind.STATUS, int(name)
    if name in _NAMES:
        return Kind(name), 0
    raise FaultError(f"{name!r} is no fault; there are {', '.join([*_NAMES, *map(str, sorted(STATUSES))])}")


def _ratio(text: str) -> float:
    number = float(text)
    if not 0 <= number <= 1:
        raise ValueError(text)
    return number


def _seconds(text: str) -> float:
    number = float(text)
    if not 0 <= number <= 86_400:
        raise ValueError(text)
    return number


def _natural(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError(text)
    return number


def _yes(text: str) -> bool:
    if text not in ("yes", "no"):
        raise ValueError(text)
    return text == "yes"


# Each option, the kinds that know it (None: all of them), and how it is read.
_OPTIONS: dict[str, tuple[frozenset[Kind] | None, Callable[[str], object]]] = {
    "rate": (None, _ratio),
    "times": (None, _natural),
    "session": (None, str),
    "path": (None, str),
    "seconds": (frozenset(_SECONDS), _seconds),
    "executed": (_MAY_GO_EITHER_WAY, _yes),
    "requests": (frozenset({Kind.CLOSE_AFTER}), _natural),
    "retry_after": (frozenset({Kind.STATUS}), _natural),
}


@dataclass(slots=True)
class Armed:
    """A fault that is switched on, how often it struck, and how often it may yet (None: without end)."""

    fault: Fault
    struck: int = 0
    left: int | None = field(init=False)

    def __post_init__(self) -> None:
        self.left = self.fault.times


class Faults:
    """The faults that are switched on in a world. At most one strikes a call: the first, in the order given."""

    def __init__(self, random: Random, faults: Iterable[Fault] = ()) -> None:
        self._random = random
        self.armed: list[Armed] = []
        self.set(faults)

    def __repr__(self) -> str:
        return f"<Faults {', '.join(armed.fault.text for armed in self.armed) or 'none'}>"

    def set(self, faults: Iterable[Fault]) -> None:
        """Switch these on, and all others off."""
        self.armed = [Armed(fault) for fault in faults]

    def draw(self, path: str) -> Fault | None:
        """The fault that strikes a call to this raw path, if one does."""
        for armed in self.armed:
            fault = armed.fault
            if armed.left == 0 or not fault.concerns(path):
                continue
            if fault.rate < 1 and self._random.random() >= fault.rate:
                continue
            armed.struck += 1
            if armed.left is not None:
                armed.left -= 1
            return fault
        return None
