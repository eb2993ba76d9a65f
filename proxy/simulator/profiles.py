"""Profiles are customers: shared by all Applications of an environment."""

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any

from proxy.simulator.achievements import Round
from proxy.simulator.amounts import ZERO
from proxy.simulator.giveaways import Giveaway
from proxy.simulator.ledger import Ledger


@dataclass(slots=True, eq=False)
class Profile:
    """A customer. `redeemed` counts by Application and coupon code; `sessions` those ever linked to it.

    `ledgers` are by program, `rounds` by achievement.
    """

    id: int
    integration_id: str
    created: datetime
    last_activity: datetime
    attributes: dict[str, Any] = field(default_factory=dict)
    sessions: int = 0
    closed_sessions: int = 0
    total_sales: Decimal = ZERO
    redeemed: Counter[tuple[str, str]] = field(default_factory=Counter)
    ledgers: dict[int, Ledger] = field(default_factory=dict)
    rounds: dict[int, list[Round]] = field(default_factory=dict)
    giveaways: list[Giveaway] = field(default_factory=list)

    def redeemed_in(self, application: str) -> dict[str, int]:
        """How often each coupon of an Application was redeemed."""
        return {code: count for (name, code), count in self.redeemed.items() if name == application}

    def ledger(self, program: int) -> Ledger:
        """The points in a program; an empty ledger is made where there was none."""
        return self.ledgers.setdefault(program, Ledger())

    def rounds_of(self, achievement: int) -> list[Round]:
        """The rounds of an achievement, the present one last."""
        return self.rounds.setdefault(achievement, [])
