"""Sharing: which profiles a whole shop uses, for carts of customers it does not know.

Ordering such a profile's writes one by one would serialise the shop. A profile counts as shared when it is listed
(`lanes.shared_profiles`), or when more than `lanes.shared_after` different sessions named it within ten minutes (0:
never), until ten minutes have passed without that. A session that goes on naming its profile is told of once a minute
(`memory.FRESH`).

Bounded: the profiles that were named last, and of each a handful of sessions.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Final

WINDOW: Final = 600.0  # seconds

# Environment and profile id.
Profile = tuple[str, str]


class _Seen:
    """Of one profile: the sessions that named it last, and when each did; and until when it counts as shared."""

    __slots__ = ("sessions", "shared_until")

    def __init__(self) -> None:
        self.sessions: dict[str, float] = {}  # in the order of their latest calls; an OrderedDict is twice as large
        self.shared_until = 0.0


class Sharing:
    """Watches who names which profile. `began` is told of each that turns out to be shared."""

    def __init__(
        self,
        clock: Callable[[], float],
        *,
        listed: Iterable[str],
        after: int,
        size: int,
        began: Callable[[Profile], None] = lambda _: None,
    ) -> None:
        self._clock = clock
        self._listed = frozenset(listed)
        self._after = after
        self._size = size
        self._began = began
        self._profiles: OrderedDict[Profile, _Seen] = OrderedDict()
        self._shared: set[Profile] = set()  # detected ones, and some that no longer are

    def __repr__(self) -> str:
        return f"<Sharing listed={len(self._listed)} detected={len(self.detected())}>"

    def follow(self, *, listed: Iterable[str], after: int, size: int) -> None:
        """Watch by these settings from now on; what was found stays."""
        self._listed = frozenset(listed)
        self._after = after
        self._size = size

    def named(self, profile: Profile, session: str) -> None:
        """A write of this session names this profile."""
        if profile[1] in self._listed or not self._after:
            return
        now = self._clock()
        seen = self._profiles.get(profile)
        if seen is None:
            seen = self._profiles[profile] = _Seen()
            self._forget(now)
        else:
            self._profiles.move_to_end(profile)
        sessions = seen.sessions
        sessions.pop(session, None)
        sessions[session] = now
        if len(sessions) > self._after + 1:
            del sessions[next(iter(sessions))]
        if len(sessions) > self._after and next(iter(sessions.values())) >= now - WINDOW:
            if seen.shared_until < now:
                self._shared.add(profile)
                self._began(profile)
            seen.shared_until = now + WINDOW

    @property
    def any(self) -> bool:
        """Some profile may be shared."""
        return bool(self._listed or self._shared)

    def shared(self, profile: Profile) -> bool:
        """Tell whether this profile has a gate, and no lane."""
        if profile[1] in self._listed:
            return True
        if profile not in self._shared:
            return False
        if self._profiles[profile].shared_until >= self._clock():
            return True
        self._shared.discard(profile)
        return False

    def detected(self) -> list[Profile]:
        """Give the profiles that were found to be shared, and still are."""
        return [profile for profile in list(self._shared) if self.shared(profile)]

    def _forget(self, now: float) -> None:
        while len(self._profiles) > self._size:
            profile, _ = self._profiles.popitem(last=False)
            self._shared.discard(profile)
        # One or two that nobody named for long; there is no sweep.
        for _ in range(min(2, len(self._profiles))):
            profile = next(iter(self._profiles))
            seen = self._profiles[profile]
            if next(reversed(seen.sessions.values()), now) >= now - WINDOW:
                return
            del self._profiles[profile]
            self._shared.discard(profile)
