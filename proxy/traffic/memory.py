"""The memory of which session belongs to which profile.

Many calls name a session and not its profile: returns, a reopening, an update without `profileId`. Talon.One counts
them against the profile all the same (talon-one-facts.md §2), so the profiles are remembered that earlier updates
named. Such a profile is *pending* while the call that names it is under way; then it is *the* profile, or forgotten,
or, where the outcome is unknown, one of several possible ones.

Bounded: `lanes.memory` sessions, the least recently used forgotten first, and all after an hour without use. One takes
some 0.5 KB.
"""

from collections import OrderedDict
from collections.abc import Callable
from typing import Final

IDLE: Final = 3600.0  # seconds
FRESH: Final = 60.0  # seconds in which nothing is noted anew

# Application and session id.
Session = tuple[str, str]


class Links:
    """Of one session."""

    __slots__ = ("confirmed", "pending", "possible", "used")

    def __init__(self) -> None:
        self.possible: tuple[str, ...] = ()
        self.pending: tuple[str, ...] = ()  # once for each call under way
        self.confirmed = -IDLE  # the last time
        self.used = 0.0

    @property
    def profiles(self) -> tuple[str, ...]:
        """Give every profile that the session may belong to."""
        if not self.pending:
            return self.possible
        return tuple(dict.fromkeys((*self.possible, *self.pending)))

    def knows(self, profile: str, now: float) -> bool:
        """Tell whether naming this profile again says nothing new.

        It was confirmed within the last minute, and the session may belong to no other.
        """
        return not self.pending and self.possible == (profile,) and self.confirmed >= now - FRESH


class Memory:
    """Profiles by session."""

    def __init__(self, size: int, clock: Callable[[], float]) -> None:
        self.size = size  # sessions remembered at most
        self._clock = clock
        self._sessions: OrderedDict[Session, Links] = OrderedDict()

    def __len__(self) -> int:
        return len(self._sessions)

    def __repr__(self) -> str:
        return f"<Memory sessions={len(self)}>"

    def find(self, session: Session) -> Links | None:
        """Give what is remembered of a session that is named now."""
        links = self._sessions.get(session)
        if links is None:
            return None
        now = self._clock()
        if links.used < now - IDLE and not links.pending:
            del self._sessions[session]
            return None
        self._sessions.move_to_end(session)
        links.used = now
        return links

    def admitted(self, session: Session, profile: str) -> None:
        """Note that a call under way names this profile. One of the three below must follow."""
        links = self.find(session)
        if links is None:
            links = self._sessions[session] = Links()
            links.used = self._clock()
            self._forget()
        links.pending = (*links.pending, profile)

    def confirmed(self, session: Session, profile: str) -> None:
        """The call succeeded: this is the profile."""
        links = self._settled(session, profile)
        if links is not None:
            links.possible = (profile,)
            links.confirmed = self._clock()

    def refused(self, session: Session, profile: str) -> None:
        """The call was refused or never sent."""
        self._settled(session, profile)

    def doubted(self, session: Session, profile: str) -> None:
        """Nobody knows what became of the call: what was before may still be so."""
        links = self._settled(session, profile)
        if links is not None and profile not in links.possible:
            # More than a call can stand in lanes for is of no use.
            links.possible = (*links.possible[-2:], profile)

    def _settled(self, session: Session, profile: str) -> Links | None:
        links = self._sessions.get(session)
        if links is None:
            return None  # forgotten meanwhile: there were too many
        pending = list(links.pending)
        if profile in pending:  # the session may have been forgotten and named anew
            pending.remove(profile)
            links.pending = tuple(pending)
        return links

    def _forget(self) -> None:
        """Let go what is too much, and one or two that are too old: there is no sweep."""
        while len(self._sessions) > self.size:
            self._sessions.popitem(last=False)
        oldest = self._clock() - IDLE
        for _ in range(min(2, len(self._sessions))):
            session = next(iter(self._sessions))
            links = self._sessions[session]
            if links.used >= oldest or links.pending:
                return
            del self._sessions[session]
