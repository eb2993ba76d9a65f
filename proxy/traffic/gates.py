"""Gates let a few flights of one key through at a time, where a lane would let one.

For shared profiles as many as Talon.One takes of one profile: one running, two waiting (talon-one-facts.md §2). For
dry calls of one session or profile `lanes.dry_width`, since they may count as well. First come, first served among
flights whose turn in their lanes has come; a flight passes all its gates in one step, or waits at all of them.

A gate promises no order, and is left when the answer is decided: nothing that happens afterwards holds it.
"""

from collections import deque
from collections.abc import Sequence
from typing import Final, Protocol

PROFILE_WIDTH: Final = 3

# What a lane or gate is for: its sort, where the id belongs, the id.
Key = tuple[str, str, str]


class Passenger(Protocol):
    """Who passes gates."""

    gates: Sequence["Gate"]

    def passed(self) -> None:
        """All gates are passed: go on. Must not raise."""
        ...


class Gate:
    """One gate. Its flights are counted from admission, so that it vanishes with the last."""

    __slots__ = ("inside", "key", "queue", "unfinished", "width")

    def __init__(self, key: Key, width: int) -> None:
        self.key = key
        self.width = width
        self.inside = 0
        self.queue: deque[Passenger] = deque()
        self.unfinished = 0

    def __repr__(self) -> str:
        return f"<Gate inside={self.inside} waiting={len(self.queue)} unfinished={self.unfinished}>"

    @property
    def open(self) -> bool:
        """There is room inside."""
        return self.inside < self.width


class Gates:
    """All gates that flights under way have."""

    def __init__(self) -> None:
        self._gates: dict[Key, Gate] = {}
        self._moved: list[Gate] = []  # whose queue or room has changed
        self._opening = False

    def __len__(self) -> int:
        return len(self._gates)

    def __repr__(self) -> str:
        return f"<Gates {len(self)}>"

    def unfinished(self, key: Key) -> int:
        """Give how many flights a gate has, inside or not there yet."""
        gate = self._gates.get(key)
        return 0 if gate is None else gate.unfinished

    def at(self, key: Key, width: int) -> Gate:
        """Give the gate of a key, for one more flight; `finished` must follow."""
        gate = self._gates.get(key)
        if gate is None:
            gate = self._gates[key] = Gate(key, width)
        gate.unfinished += 1
        return gate

    def finished(self, gates: Sequence[Gate]) -> None:
        """A flight is done with its gates for good."""
        for gate in gates:
            gate.unfinished -= 1
            if not gate.unfinished:
                del self._gates[gate.key]

    def enter(self, passenger: Passenger) -> bool:
        """Pass all gates now; False: wait, and be told."""
        gates = passenger.gates
        if all(gate.open and not gate.queue for gate in gates):
            for gate in gates:
                gate.inside += 1
            return True
        # All stand in all their queues at once, so who came first of all is first in each: nobody waits in a circle.
        for gate in gates:
            gate.queue.append(passenger)
        return False

    def withdraw(self, passenger: Passenger) -> None:
        """Wait no more."""
        for gate in passenger.gates:
            gate.queue.remove(passenger)
        self._open(passenger.gates)

    def leave(self, gates: Sequence[Gate]) -> None:
        """Make room."""
        for gate in gates:
            gate.inside -= 1
        self._open(gates)

    def _open(self, gates: Sequence[Gate]) -> None:
        """Let in who is first in all its queues, and tell each at once: what it does may let others pass, or leave."""
        self._moved.extend(gates)
        if self._opening:
            return
        self._opening = True
        try:
            while self._moved:
                gate = self._moved.pop()
                while gate.queue and _may_pass(gate.queue[0]):
                    passenger = gate.queue[0]
                    for other in passenger.gates:
                        other.queue.popleft()
                        other.inside += 1
                    # Who stood behind this one elsewhere may be first now.
                    self._moved.extend(other for other in passenger.gates if other is not gate)
                    passenger.passed()
        finally:
            self._opening = False


def _may_pass(passenger: Passenger) -> bool:
    return all(gate.open and gate.queue[0] is passenger for gate in passenger.gates)
