"""A hold: from a moment on writes wait before they are sent, while those that were sent come to their end.

For a switch that many proxies make at one moment (`upstream.next`): a write of one of them must not reach the old host
when one of another has reached the new host. Writes keep their places in lanes and gates while they wait, reads and dry
calls go on, and whoever holds says when it is over.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Protocol


class Held(Protocol):
    """Who waits."""

    def resume(self) -> None:
        """Go on, unless it has come to its end meanwhile. Must not raise."""
        ...


class Hold:
    """One hold. `at`: the moment it begins, by `clock`: looked at by every write, so no timer can come late."""

    def __init__(self, at: float, clock: Callable[[], float]) -> None:
        self.at = at
        self._clock = clock
        self._waiting: deque[Held] = deque()
        self._news = asyncio.Event()

    def __repr__(self) -> str:
        return f"<Hold waiting={len(self)}>"

    def __len__(self) -> int:
        return len(self._waiting)

    def begun(self) -> bool:
        """Nothing more is sent."""
        return self._clock() >= self.at

    def take(self, held: Held) -> None:
        """Let a write wait here."""
        self._waiting.append(held)
        self._news.set()

    def news(self) -> None:
        """A write that was sent has come to its end, or back to where it waits."""
        self._news.set()

    async def quiet(self, under_way: Callable[[], bool]) -> None:
        """Wait until nothing is under way any more; it must have begun."""
        while under_way():
            self._news.clear()
            await self._news.wait()

    def end(self) -> None:
        """Let all go on, in the order in which they came."""
        while self._waiting:
            self._waiting.popleft().resume()
