"""Turns keep Talon.One's rule for parallel calls: per key one runs, two wait, every further one is refused.

A key is one session of one Application, or one profile of one environment. Calls of a key run one after
another in the order of their arrival. A call with several keys takes its place in all their lines in one
synchronous step, or in none of them, and runs when it is the first of each; since every line has the order of
arrival, a call only ever waits for earlier ones, so none can wait for each other.

Knows nothing of HTTP, and needs an event loop only where somebody awaits `begun`.
"""

import asyncio
import enum
from collections.abc import Iterable
from typing import Literal, NamedTuple

PLACES = 3  # one runs and two wait


class Key(NamedTuple):
    """What calls are counted on: a session within its Application, a profile within its environment."""

    noun: Literal["session", "profile"]
    scope: str
    id: str


class CrowdedError(Exception):
    """All places at `key` are taken; the refused call occupies nothing."""

    def __init__(self, key: Key) -> None:
        super().__init__(f"all places at this {key.noun} are taken")
        self.key = key


class State(enum.Enum):
    """WAITING ⇒ RUNNING ⇒ OVER, or WAITING ⇒ OVER for a caller who left."""

    WAITING = "waiting"
    RUNNING = "running"
    OVER = "over"


class Turn:
    """The places of one call. Whoever got it must `end` it, whether it ran or not."""

    __slots__ = ("_begun", "_turns", "keys", "state")

    def __init__(self, turns: "Turns", keys: tuple[Key, ...]) -> None:
        self.keys = keys
        self.state = State.WAITING
        self._turns = turns
        self._begun: asyncio.Future[None] | None = None

    def __repr__(self) -> str:
        places = ", ".join(f"{key.noun} {key.id}" for key in self.keys)
        return f"<Turn {self.state.value} at {places or 'nothing'}>"

    @property
    def running(self) -> bool:
        """Whether the call may work now."""
        return self.state is State.RUNNING

    async def begun(self) -> bool:
        """Wait until the call may run. False if the turn was ended instead; a cancelled wait ends it."""
        if self.state is State.WAITING:
            self._begun = asyncio.get_running_loop().create_future()
            try:
                await self._begun
            except asyncio.CancelledError:
                self.end()
                raise
        return self.running

    def end(self) -> None:
        """Give up all places at once, and let the next in line run. Harmless when repeated."""
        self._turns.release(self)

    def move(self, state: State) -> None:
        """Enter a state, and wake whoever awaits `begun`."""
        self.state = state
        if self._begun is not None and not self._begun.done():
            self._begun.set_result(None)


class Turns:
    """The lines of all keys. A key without calls takes no memory."""

    def __init__(self) -> None:
        self.peak = 0  # the longest line so far
        self._lines: dict[Key, list[Turn]] = {}

    def __repr__(self) -> str:
        return f"<Turns at {len(self._lines)} keys>"

    def __len__(self) -> int:
        return len(self._lines)

    def at(self, key: Key) -> tuple[Turn, ...]:
        """The calls of a key, the earliest first."""
        return tuple(self._lines.get(key, ()))

    def arrive(self, keys: Iterable[Key]) -> Turn:
        """Take a place at every key, or raise CrowdedError and take none. Without keys it runs at once."""
        turn = Turn(self, tuple(dict.fromkeys(keys)))
        for key in turn.keys:
            if len(self._lines.get(key, ())) >= PLACES:
                raise CrowdedError(key)
        for key in turn.keys:
            line = self._lines.setdefault(key, [])
            line.append(turn)
            self.peak = max(self.peak, len(line))
        self._begin_if_first(turn)
        return turn

    def release(self, turn: Turn) -> None:
        """Take a turn out of its lines. Callers use `Turn.end`."""
        if turn.state is State.OVER:
            return
        turn.move(State.OVER)
        for key in turn.keys:
            line = self._lines[key]
            line.remove(turn)
            if line:
                self._begin_if_first(line[0])
            else:
                del self._lines[key]

    def _begin_if_first(self, turn: Turn) -> None:
        if turn.state is State.WAITING and all(self._lines[key][0] is turn for key in turn.keys):
            turn.move(State.RUNNING)
