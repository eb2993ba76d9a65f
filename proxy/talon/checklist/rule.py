"""What a rule of the checklist is, and what comes of one: a row of the table.

A rule is a pure question to one call, its answer and what is remembered (`Past`): it *passes*, it is *broken*
(`Finding`), or the call has nothing to say about it. `Verdict` is what many calls together say.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum, IntEnum
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from proxy.talon.checklist.facts import Facts
    from proxy.talon.checklist.past import Past, Session

_DOCS = "https://docs.talon.one/docs"
CHECKLIST = f"{_DOCS}/dev/getting-started/integration-checklist"
SESSIONS = f"{_DOCS}/dev/concepts/entities/customer-sessions"
EVENTS = f"{_DOCS}/dev/concepts/entities/events"
ATTRIBUTES = f"{_DOCS}/dev/concepts/attributes"
DRY = f"{_DOCS}/dev/integration-api/dry-requests"
EFFECTS = f"{_DOCS}/dev/integration-api/api-effects"
CONTENT = f"{_DOCS}/dev/integration-api/meta-response"
PARALLEL = f"{_DOCS}/dev/tutorials/load-testing"
KEYS = f"{_DOCS}/product/applications/managing-api-keys"


class Point(Enum):
    """The points of Talon.One's integration checklist, in its own order (facts §14)."""

    BACKEND = "Backend only: no key and no call from a browser"
    SDK = "Planning 1: choose an SDK"
    APIS = "Planning 2: know the two APIs"
    CAMPAIGNS = "Planning 3: have campaigns"
    ATTRIBUTES = "Planning 4: create attributes first"
    IMPORT = "Planning 5: import data"
    SESSIONS = "Implementation 1: sessions, their ids and states"
    PERFORMANCE = "Implementation 2: performance"
    EVENTS = "Implementation 2: one event per action, one update at a time"
    PROFILES = "Implementation 3: profiles"
    EFFECTS = "Implementation 4: handle effects"
    ERRORS = "Implementation 5: handle errors"
    ALLOWLIST = "Operation 1: allowlist of addresses"
    CONNECTION = "Operation 2: a proxy and persistent connections"
    RELOCATION = "Operation 3: be ready for another URL"


class Severity(IntEnum):
    """How bad it can be."""

    ADVICE = 1  # could be better
    WARNING = 2  # costs speed, money or an answer now and then
    PROBLEM = 3  # promotions are wrong, or keys are in danger


class Verdict(Enum):
    """What many calls say of a rule, from best to worst."""

    OK = "ok"  # positive evidence
    UNSEEN = "unseen"  # too little evidence, or none
    ACKNOWLEDGED = "acknowledged"  # broken, and known to be, with a reason
    ADVICE = "advice"
    WARNING = "warning"
    PROBLEM = "problem"

    @property
    def severity(self) -> int:
        """0 for what needs nobody's attention."""
        return _SEVERITIES.get(self.value, 0)


_SEVERITIES = {severity.name.lower(): severity.value for severity in Severity}


class Passed(Enum):
    """The call does what the rule asks for."""

    PASSED = "passed"


PASSED = Passed.PASSED


class Finding(NamedTuple):
    """The call breaks the rule. `name`: which of several things it was; `seconds`: what it cost."""

    name: str = ""
    seconds: float = 0.0


BROKEN = Finding()
Outcome = Finding | Passed | None
Look = Callable[["Facts", "Past"], Outcome]


@dataclass(frozen=True, slots=True)
class Rule:
    """One row. Pure data but for its question.

    `operations`: it has nothing to ask of others; none: it asks every call. `ended` asks a session when it is
    forgotten. `least`: checked less often, it says nothing. `tolerated`: the share that may break it, which is noise or
    a look-alike, and no more than advice. `absence`: it blames what was not seen, which takes a day and a hundred
    sessions. `replies`: it asks answers, so that only `checklist.replies` of the calls are checked.
    """

    id: str
    point: Point
    severity: Severity
    least: int
    text: str
    remedy: str
    link: str = CHECKLIST
    operations: frozenset[str] = frozenset()
    look: Look | None = None
    ended: "Callable[[Session], Outcome] | None" = None
    tolerated: float = 0.0
    times: int = 1  # broken less often, it is no more than advice
    absence: bool = False
    replies: bool = False
    title: str = field(default="", kw_only=True)
