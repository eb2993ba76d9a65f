"""The table: every rule, in the checklist's own order."""

from collections.abc import Iterable

from proxy.talon.checklist import answers, performance, planning, sessions
from proxy.talon.checklist.rule import Point, Rule

_ORDER = list(Point)


def table(effects_handled: Iterable[str] = ()) -> tuple[Rule, ...]:
    """Give all rules; `effects_handled` as in the settings."""
    found = (
        *planning.RULES,
        *sessions.RULES,
        *performance.RULES,
        answers.unhandled(frozenset(effects_handled)),
        *answers.RULES,
    )
    return tuple(sorted(found, key=lambda rule: _ORDER.index(rule.point)))


RULES = table()
IDS = tuple(rule.id for rule in RULES)
