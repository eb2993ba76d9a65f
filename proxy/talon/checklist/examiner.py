"""The examiner looks at calls, one after another: facts, every rule that concerns them, then the past learns.

It is not the hot path: whoever calls it does so after the answer, for as many calls as there is time for.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from proxy.errors import ProxyError
from proxy.messages import Call, Reply, Source
from proxy.talon.checklist import names
from proxy.talon.checklist.caller import Callers
from proxy.talon.checklist.facts import Digest, Facts
from proxy.talon.checklist.inventory import Note, notes
from proxy.talon.checklist.past import Past, Session
from proxy.talon.checklist.rule import PASSED, Finding, Look, Rule
from proxy.talon.routes import Route, Routes


class Looked(NamedTuple):
    """What came of a look. `broken`: rule, which of several things, and seconds that it cost.

    `ended`: looks at sessions that are over since.
    """

    application: str
    operation: str
    caller: str
    request_id: str
    passed: Sequence[str]
    broken: Sequence[tuple[str, str, float]]
    notes: Sequence[Note]
    ended: Sequence["Looked"] = ()


class Examiner:
    """Asks `rules`. `testing`: Applications under whose key nothing has an effect."""

    def __init__(
        self,
        rules: Iterable[Rule],
        routes: Routes,
        *,
        digest: Digest,
        excused: Callable[[Sequence[bytes]], bool],
        testing: Iterable[str] = (),
    ) -> None:
        """`digest` is a keyed hash; `excused` tells which `Authorization` values a caller may well bring."""
        self.past = Past(self._over)
        self._digest = digest
        self._ended: list[Looked] = []  # sessions that are over, to be told with the next look
        self.follow(rules, routes, excused=excused, testing=testing)

    def __repr__(self) -> str:
        return f"<Examiner {self.past!r}>"

    def follow(
        self,
        rules: Iterable[Rule],
        routes: Routes,
        *,
        excused: Callable[[Sequence[bytes]], bool],
        testing: Iterable[str],
    ) -> None:
        """Ask these from now on: settings have changed."""
        self._rules = tuple(rules)
        self._routes = routes
        self._callers = Callers(excused)
        self._testing = frozenset(testing)
        self._ends = tuple((rule.id, rule.ended) for rule in self._rules if rule.ended is not None)
        self._of_any = _looks(rule for rule in self._rules if not rule.operations)
        self._of: dict[str, Sequence[tuple[str, Look]]] = {}

    def look(self, call: Call, reply: Reply | None, *, whole: bool, sampled: bool) -> Looked | None:
        """Look at a call and its answer; none: its caller left before there was one. None: it says nothing."""
        if reply is not None and reply.source is Source.PROXY and reply.status < 300:
            return None  # a probe of ours (`/.health`), which is no call of Talon.One
        found = self._callers.read(call.fields)
        facts = Facts(call, self._route(call), found, self._digest, testing=call.application in self._testing)
        if reply is None:
            self.past.learn(facts)
            return None
        facts.answered(reply, whole=whole, sampled=sampled)
        passed, broken = self._ask(facts)
        met = list(notes(facts, self.past))
        met += [Note("avoidable", f"{call.operation}: {name}", took) for rule, name, took in broken if rule == _AVOIDS]
        self.past.learn(facts)
        shown = names.request_id(call.request_id)
        ended, self._ended = self._ended, []
        return Looked(call.application, call.operation, found.family, shown, passed, broken, met, ended)

    def missed(self) -> None:
        """Calls were not shown: nobody is blamed for what they may have done right."""
        self.past.forget()

    def _ask(self, facts: Facts) -> tuple[list[str], list[tuple[str, str, float]]]:
        passed: list[str] = []
        broken: list[tuple[str, str, float]] = []
        for identity, look in self._looks_of(facts.operation):
            outcome = look(facts, self.past)
            if isinstance(outcome, Finding):
                broken.append((identity, outcome.name, outcome.seconds))
            elif outcome is not None:
                passed.append(identity)
        return passed, broken

    def _looks_of(self, operation: str) -> Sequence[tuple[str, Look]]:
        looks = self._of.get(operation)
        if looks is None:
            own = _looks(rule for rule in self._rules if operation in rule.operations)
            looks = self._of[operation] = (*self._of_any, *own)
        return looks

    def _route(self, call: Call) -> Route | None:
        try:
            return self._routes.classify(call.method, call.target)
        except ProxyError:
            return None  # refused: there is nothing to know of it

    # --- sessions that are over, and those that are not ---

    def _over(self, session: Session) -> None:
        self._ended.append(self._look_at(session))

    def _look_at(self, session: Session) -> Looked:
        outcomes = [(name, ask(session)) for name, ask in self._ends]
        passed = [name for name, outcome in outcomes if outcome is PASSED]
        broken = [(name, *outcome) for name, outcome in outcomes if isinstance(outcome, Finding)]
        return Looked(*session.who, names.request_id(session.request_id), passed, broken, ())

    def living(self) -> Iterator[tuple[str, int, Sequence[Session]]]:
        """Give, by rule, how many of the sessions that are not over pass it as they stand, and which break it."""
        for name, ask in self._ends:
            outcomes = [(session, ask(session)) for session in self.past.living()]
            broken = [session for session, outcome in outcomes if isinstance(outcome, Finding)]
            yield name, sum(outcome is PASSED for _, outcome in outcomes), broken

    @property
    def sessions(self) -> int:
        """How many were seen."""
        return self.past.seen

    def counts(self) -> Mapping[str, Sequence[int]]:
        """Give, by hashed session: updates before we knew it, updates last told, our own since, and doubtful ones."""
        return {
            session: (count.base, count.last, count.writes, count.doubts) for session, count in self.past.counts.items()
        }


_AVOIDS = "performance.avoidable-get"


def _looks(rules: Iterable[Rule]) -> Sequence[tuple[str, Look]]:
    return tuple((rule.id, rule.look) for rule in rules if rule.look is not None)
