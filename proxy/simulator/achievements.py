"""Achievements: how far a customer has come towards each, now and in earlier rounds.

A round starts with the first step and ends when the target is reached, or when its time is over. What comes after
the end depends on the recurrence: nothing, a new round after expiry, or a new round at once, which what is left
over of a step starts.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from proxy.simulator.amounts import ZERO
from proxy.simulator.rulebook import Achievement

ROUNDS = 1000  # of one customer in one achievement; earlier ones are forgotten


@dataclass(slots=True, eq=False)
class Round:
    """One try at an achievement."""

    id: int
    start: datetime
    end: datetime | None
    progress: Decimal = ZERO
    completed: datetime | None = None

    def status(self, moment: datetime) -> str:
        """What the API calls it."""
        if self.completed is not None:
            return "completed"
        return "expired" if self.end is not None and self.end <= moment else "inprogress"


@dataclass(frozen=True, slots=True)
class Step:
    """What a step did to one round: its progress afterwards, and whether it is new or just completed."""

    achievement: Achievement
    round: Round
    delta: Decimal
    value: Decimal
    starts: bool
    completes: bool


def current(achievement: Achievement, rounds: Sequence[Round], moment: datetime) -> Round | None:
    """The round that counts now: the last one, unless the next step would start another."""
    if not rounds:
        return None
    last = rounds[-1]
    ended = last.end is not None and last.end <= moment
    starts_anew = {
        "no_recurrence": False,
        "on_expiration": ended,
        "on_completion": ended or last.completed is not None,
    }
    return None if starts_anew[achievement.recurrence] else last


def available(achievement: Achievement, moment: datetime) -> bool:
    """Whether steps count at all."""
    started = achievement.start is None or achievement.start <= moment
    return started and (achievement.end is None or moment < achievement.end)


def plan(achievement: Achievement, rounds: list[Round], by: Decimal, moment: datetime, next_id: int) -> list[Step]:
    """What a step would do, with new rounds numbered from `next_id` on.

    Changes nothing: `book` does, when the session is closed.
    """
    if not available(achievement, moment):
        return []
    present = current(achievement, rounds, moment)
    if present is not None and present.status(moment) != "inprogress":
        return []
    steps: list[Step] = []
    progress = present.progress if present else ZERO
    while by > 0 and len(steps) < ROUNDS:
        room = achievement.target - progress
        overflows = achievement.recurrence == "on_completion" and by >= room
        delta = room if overflows else by
        target = present
        if target is None:
            target = Round(next_id, moment, _end(achievement, moment))
            next_id += 1
        value = progress + delta
        steps.append(Step(achievement, target, delta, value, present is None, value >= achievement.target))
        by -= delta
        present, progress = None, ZERO
    return steps


def book(steps: list[Step], rounds: list[Round], moment: datetime) -> None:
    """Take the planned steps."""
    for step in steps:
        if step.starts:
            rounds.append(step.round)
            del rounds[:-ROUNDS]
        step.round.progress += step.delta
        if step.completes:
            step.round.completed = moment


def take_back(achievement: Achievement, round_: Round, delta: Decimal) -> bool:
    """Undo a step. A completed round stays, unless the achievement allows to undo it."""
    if round_.completed is not None and not achievement.rollback_after_completion:
        return False
    round_.progress = max(ZERO, round_.progress - delta)
    if round_.progress < achievement.target:
        round_.completed = None
    return True


def _end(achievement: Achievement, start: datetime) -> datetime | None:
    ends = [start + achievement.period] if achievement.period else []
    return min([*ends, *([achievement.end] if achievement.end else [])], default=None)
