"""A deployment is a world and all that belongs to it: its lines, journal, clock, faults and stored answers.

The main one is always there. Others begin with the first call of a key that names them (`keys`), and the one that
was unused longest is forgotten when there are too many.
"""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from random import Random

from proxy.simulator import rulebook_file
from proxy.simulator.clock import Clock
from proxy.simulator.faults import Fault, Faults
from proxy.simulator.idempotency import Idempotency
from proxy.simulator.journal import LENGTH, Journal
from proxy.simulator.keys import MAIN
from proxy.simulator.management import Pace
from proxy.simulator.operations import Answer
from proxy.simulator.rulebook import Rulebook
from proxy.simulator.turns import Turns
from proxy.simulator.world import World

MAX_WORLDS = 64  # besides the main one
LENGTH_OF_OTHERS = 10_000  # calls in the journal of each


@dataclass(frozen=True, slots=True)
class Beginning:
    """How every world begins. Each counts ids from the start; `seed` gives each its own repeatable chance."""

    seed: int = 0
    book: Rulebook = field(default_factory=rulebook_file.default)
    clock: datetime | None = None
    faults: Sequence[Fault] = ()


class Deployment:
    """One world with everything around it. A reset replaces it whole; calls under way end in the old one."""

    def __init__(self, name: str, beginning: Beginning, monotonic: Callable[[], float]) -> None:
        self.name = name
        self.random = Random(f"{beginning.seed}/{name}")  # noqa: S311 (no secret hangs on it)
        self.clock = Clock(beginning.clock)
        self.world = World(clock=self.clock, book=beginning.book)
        self.turns = Turns()
        self.journal = Journal(monotonic, length=LENGTH if name == MAIN else LENGTH_OF_OTHERS)
        self.faults = Faults(self.random, beginning.faults)
        self.stored: Idempotency[Answer] = Idempotency(self.clock, beginning.book.unknowns)
        self.pace = Pace(monotonic)

    def __repr__(self) -> str:
        return f"<Deployment {self.name}: {self.world!r}, {self.journal!r}>"


class Deployments:
    """All worlds by name."""

    def __init__(self, beginning: Beginning, monotonic: Callable[[], float], *, limit: int = MAX_WORLDS) -> None:
        self.beginning = beginning
        self.forgotten = 0
        self._monotonic = monotonic
        self._limit = limit
        self._others: OrderedDict[str, Deployment] = OrderedDict()
        self.main = self._begin(MAIN)

    def __repr__(self) -> str:
        return f"<Deployments {', '.join(self.names)}>"

    @property
    def names(self) -> tuple[str, ...]:
        """The worlds that exist: the main one, then the others, the one longest unused first."""
        return (MAIN, *self._others)

    def of(self, name: str) -> Deployment:
        """The deployment of this name, which begins now if there was none."""
        if name == MAIN:
            return self.main
        deployment = self._others.get(name)
        if deployment is None:
            deployment = self._others[name] = self._begin(name)
            if len(self._others) > self._limit:
                self._others.popitem(last=False)
                self.forgotten += 1
        self._others.move_to_end(name)
        return deployment

    def reset(self, name: str | None = None) -> None:
        """Begin one world anew, or forget all of them."""
        if name is None:
            self._others.clear()
            self.forgotten = 0
        if name in (None, MAIN):
            self.main = self._begin(MAIN)
        elif name is not None:
            self._others.pop(name, None)

    def _begin(self, name: str) -> Deployment:
        return Deployment(name, self.beginning, self._monotonic)
