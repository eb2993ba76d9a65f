"""Calls: what arrived, what was asked with it, and what it will do.

A handler takes a Request, reads its body, and gives an Operation: the places in line that the call takes, and the
synchronous step that makes its answer. Reading changes nothing, so that a call can take its place right after it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any

import orjson

from proxy.simulator import checks
from proxy.simulator.amounts import number
from proxy.simulator.problems import invalid_parameter, not_found
from proxy.simulator.turns import Key
from proxy.simulator.world import Application, Site

MAX_PAGE = 1000
MAX_NUMBER = 9  # digits of an id or a page


class Kind(StrEnum):
    """What an operation is to the journal, if it succeeds."""

    APPLIED = "applied"
    READ = "read"
    DRY = "dry"


@dataclass(frozen=True, slots=True)
class Call:
    """One call as it arrived; `target` is the raw path and query."""

    method: str
    target: str
    body: bytes
    application: Application


@dataclass(frozen=True, slots=True)
class Answer:
    """Status and JSON body; 204 has none."""

    status: int
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class Operation:
    """A call understood; `name` is its operationId. `keys` are the places it takes among the parallel calls."""

    kind: Kind
    perform: Callable[[], Answer]
    session: str | None = None
    profile: str | None = None
    keys: tuple[Key, ...] = ()
    name: str = ""


@dataclass(frozen=True, slots=True)
class Request:
    """A call whose path is understood: `ids` are the parameters of the path, decoded, in order."""

    name: str
    body: bytes
    site: Site
    ids: tuple[str, ...]
    query: Mapping[str, Sequence[str]]

    @property
    def dry(self) -> bool:
        """Whether the call is to store nothing."""
        return self.flag("dry")

    @property
    def silent(self) -> bool:
        """Whether the caller wants no body: the default where it can be said."""
        match self.first("silent") or "yes":
            case "yes":
                return True
            case "no":
                return False
        raise invalid_parameter("enum", "must be one of yes, no", parameter="silent")

    def first(self, name: str) -> str:
        """A parameter; empty if absent. The first value counts, as in Go."""
        values = self.query.get(name)
        return values[0] if values else ""

    def many(self, name: str) -> tuple[str, ...]:
        """A parameter that may be repeated."""
        return tuple(value for value in self.query.get(name, ()) if value)

    def listed(self, name: str, allowed: Sequence[str] = ()) -> tuple[str, ...]:
        """A parameter with commas in it; of a few words, where `allowed` has some."""
        words = tuple(word for value in self.query.get(name, ()) for word in value.split(",") if word)
        if allowed and not set(words) <= set(allowed):
            raise invalid_parameter("enum", f"must be one of {', '.join(allowed)}", parameter=name)
        return words

    def flag(self, name: str) -> bool:
        """A boolean parameter, in the ways that Go writes them."""
        match self.first(name):
            case "1" | "t" | "T" | "true" | "TRUE" | "True":
                return True
            case "" | "0" | "f" | "F" | "false" | "FALSE" | "False":
                return False
        raise invalid_parameter("Invalid type", "must be true or false", parameter=name)

    def moment(self, name: str) -> datetime | None:
        """A timestamp parameter."""
        written = self.first(name)
        if not written:
            return None
        # A plus that was not encoded arrives as a space.
        moment = checks.timestamp(written.replace(" ", "+"))
        if moment is None:
            raise invalid_parameter("Invalid type", "must be an RFC 3339 timestamp", parameter=name)
        return moment

    def number(self, name: str, *, default: int, lowest: int, highest: int | None = None) -> int:
        """An integer parameter."""
        text = self.first(name) or str(default)
        if not _is_number(text):
            raise invalid_parameter("Invalid type", "must be an integer", parameter=name)
        value = int(text)
        if value < lowest or (highest is not None and value > highest):
            raise invalid_parameter("Invalid value", "out of range", parameter=name)
        return value

    def numbered(self, position: int) -> int:
        """A number in the path, or a 400."""
        text = self.ids[position]
        if not _is_number(text):
            raise invalid_parameter("Invalid type", "must be an integer", parameter=f"path {position + 1}")
        return int(text)

    def window(self, *, default: int) -> "Window":
        """Which rows of a list are asked for, or a 400."""
        size = self.number("pageSize", default=default, lowest=1, highest=MAX_PAGE)
        return Window(self.number("skip", default=0, lowest=0), size)

    def operation(
        self,
        kind: Kind,
        perform: Callable[[], Answer],
        *,
        session: str = "",
        profile: str = "",
        counts: bool = False,
    ) -> Operation:
        """What the call will do. `counts`: it takes places in line if it is a write; the rest hangs on switches."""
        unknowns = self.site.book.unknowns
        counted = {
            Kind.APPLIED: counts,
            Kind.DRY: counts and unknowns.dry_counts,
            Kind.READ: unknowns.reads_count,
        }[kind]
        keys: tuple[Key, ...] = ()
        if counted:
            application = self.site.application
            keys += (Key("session", application.name, session),) if session else ()
            # Anonymous calls occupy no profile.
            keys += (Key("profile", application.environment, profile),) if profile else ()
        return Operation(kind, perform, session or None, profile or None, keys, self.name)

    def read(self, render: Callable[[], Any], *, session: str = "", profile: str = "") -> Operation:
        """A call that only looks."""
        return self.operation(Kind.READ, lambda: json(render()), session=session, profile=profile)

    def write(
        self, work: Callable[[], Any], *, status: int = 200, session: str = "", profile: str = "", counts: bool = False
    ) -> Operation:
        """A call that changes something, and answers with what `work` gives; with an empty body for None."""

        def perform() -> Answer:
            content = work()
            return Answer(status) if content is None else json(content, status)

        return self.operation(Kind.APPLIED, perform, session=session, profile=profile, counts=counts)


@dataclass(frozen=True, slots=True)
class Window:
    """A page of a list, in the two envelopes that there are."""

    skip: int
    size: int

    def page(self, rows: Sequence[Any], render: Callable[[Any], Any]) -> dict[str, Any]:
        """A list that tells whether there is more."""
        end = self.skip + self.size
        return {"hasMore": end < len(rows), "data": [render(row) for row in rows[self.skip : end]]}

    def total_page(self, rows: Sequence[Any]) -> dict[str, Any]:
        """A list that tells how many there are."""
        return {"totalResultSize": len(rows), "data": rows[self.skip : self.skip + self.size]}


Handler = Callable[[Request], Operation]
Table = Mapping[str, tuple[str, Handler]]  # operationId ⇒ "METHOD /path/{parameter}" and what understands it


def json(content: Any, status: int = 200) -> Answer:
    """An answer with a body."""
    return Answer(status, orjson.dumps(content, default=_plain, option=orjson.OPT_UTC_Z))


def found(thing: Any, what: str) -> Any:
    """The thing, or a 404 for None."""
    if thing is None:
        raise not_found(f"{what} not found")
    return thing


def _plain(value: object) -> Any:
    if isinstance(value, Decimal):
        return number(value)
    raise TypeError(f"{type(value)} is no JSON value")


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= MAX_NUMBER
