"""Giveaways are codes from a pool, each given away once, in the order of the rule book."""

from collections.abc import Set
from dataclasses import dataclass
from datetime import datetime

from proxy.simulator.rulebook import Pool


@dataclass(slots=True, eq=False)
class Giveaway:
    """A code. `profile` is who was awarded it."""

    id: int
    created: datetime
    code: str
    pool: Pool
    profile: str = ""


class Giveaways:
    """The pools of an environment."""

    def __init__(self, pools: tuple[Pool, ...], beginning: datetime) -> None:
        codes = [(code, pool) for pool in pools for code in pool.codes]
        self._free: dict[int, list[Giveaway]] = {pool.id: [] for pool in pools}
        for number, (code, pool) in enumerate(codes, start=1):
            self._free[pool.id].append(Giveaway(number, beginning, code, pool))

    def next_of(self, pool: Pool, promised: Set[int]) -> Giveaway | None:
        """The code that would be awarded next, other than those promised already (by id)."""
        return next((giveaway for giveaway in self._free[pool.id] if giveaway.id not in promised), None)

    def award(self, giveaway: Giveaway, profile: str) -> None:
        """Give it away."""
        self._free[giveaway.pool.id].remove(giveaway)
        giveaway.profile = profile
