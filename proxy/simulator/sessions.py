"""Sessions are carts and their fate. The state machine, and how a PUT is merged into what is stored."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from proxy.simulator.effects import Effect
from proxy.simulator.problems import Problem, invalid
from proxy.simulator.unknowns import Unknowns


class State(StrEnum):
    """OPEN ⇒ CLOSED | CANCELLED, CLOSED ⇒ CANCELLED | PARTIALLY_RETURNED | OPEN, PARTIALLY_RETURNED ⇒ CANCELLED."""

    OPEN = "open"
    CLOSED = "closed"
    PARTIALLY_RETURNED = "partially_returned"
    CANCELLED = "cancelled"


# Where a PUT may lead from each state; None is a session that does not exist yet. Returning and reopening have
# endpoints of their own, and cancelled is the end.
_BY_PUT: dict[State | None, frozenset[State]] = {
    None: frozenset({State.OPEN, State.CLOSED}),
    State.OPEN: frozenset({State.OPEN, State.CLOSED, State.CANCELLED}),
    State.CLOSED: frozenset({State.CANCELLED}),
    State.PARTIALLY_RETURNED: frozenset({State.CANCELLED}),
    State.CANCELLED: frozenset(),
}
_WITH_BOOKINGS = (State.CLOSED, State.PARTIALLY_RETURNED)


@dataclass(frozen=True, slots=True)
class Return:
    """Items that came back: units by position of the cart."""

    id: int
    created: datetime
    event: int
    units: Mapping[int, int]


@dataclass(slots=True)
class Session:
    """A cart and its fate. `content` is what the shop sets and PUTs merge; no `profile` is anonymous.

    `effects` are those that stand; `made` is what rules created for it, by effect rule.
    """

    id: int
    application_id: int
    integration_id: str
    created: datetime
    updated: datetime
    state: State = State.OPEN
    profile: str = ""
    content: dict[str, Any] = field(default_factory=dict)
    effects: tuple[Effect, ...] = ()
    first_session: bool = True
    update_count: int = 0
    returns: tuple[Return, ...] = ()
    made: dict[tuple[int, int, int], object] = field(default_factory=dict)

    @property
    def booked(self) -> bool:
        """Whether its coupons are redeemed and its points credited."""
        return self.state in _WITH_BOOKINGS

    @property
    def returned(self) -> dict[int, int]:
        """Units that came back, by position."""
        units: dict[int, int] = {}
        for one in self.returns:
            for position, quantity in one.units.items():
                units[position] = units.get(position, 0) + quantity
        return units


def after_put(before: State | None, asked: State | None) -> State:
    """The state after a PUT, or a 400. Naming none means no change, which a finished session refuses."""
    after = asked or before or State.OPEN
    if after not in _BY_PUT[before]:
        details = f"a session that is {before or 'new'} cannot become {after}"
        raise invalid("Invalid state transition", details, pointer="/state")
    return after


def impossible(before: State, what: str) -> Problem:
    """A session in this state cannot be returned or reopened."""
    return invalid("Invalid state transition", f"a session that is {before} cannot be {what}", pointer="/state")


def event_type(before: State | None, after: State, unknowns: Unknowns) -> str:
    """The built-in event of a PUT."""
    if before is None:
        return unknowns.born_closed_event if after is State.CLOSED else "talon_session_created"
    if after is State.OPEN:
        return "talon_session_updated"
    if before is State.CLOSED:
        return "talon_session_revoked"
    if before is State.PARTIALLY_RETURNED:
        return unknowns.cancelled_after_return_event
    return f"talon_session_{after}"


def merge(stored: Mapping[str, Any], sent: Mapping[str, Any], unknowns: Unknowns) -> dict[str, Any]:
    """Sent properties replace stored ones, absent ones stay; attributes and costs are merged if so switched."""
    merged = {**stored, **sent}
    for name, one_by_one in (
        ("attributes", unknowns.attributes_merge),
        ("additionalCosts", unknowns.additional_costs_merge),
    ):
        if one_by_one and name in stored and name in sent:
            merged[name] = {**stored[name], **sent[name]}
    return merged
