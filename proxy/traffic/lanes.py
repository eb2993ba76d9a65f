"""Lanes keep the writes of one session or profile in arrival order, and let identical calls share one flight.

One synchronous decision on admission does both; two steps, first join and then queue, would be wrong: of the writes
X, Y, X the third would join the first, and Y would win. A lane is the chain of flights of one key, one at a time. It
is no queue and has no worker: it is its tail, and vanishes when that is DONE. A flight waits only for older ones, so
there is no order of locks to remember, and no deadlock.

Reads wait for nobody, and join only an open read (`reads`). A profile that the whole shop uses has no lane, but a gate
(`sharing`, `gates`). Nothing here knows HTTP, or how a flight is sent.
"""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

from proxy.errors import Busy, LaneFull
from proxy.talon.keys import Unkeyed, binds
from proxy.talon.routes import Surface
from proxy.traffic.flights import Flight, State
from proxy.traffic.gates import PROFILE_WIDTH, Gates, Key
from proxy.traffic.limit import Limit
from proxy.traffic.memory import Links, Memory
from proxy.traffic.reads import Reads
from proxy.traffic.sharing import Sharing

MOST: Final = 4  # lanes and gates of one write: a login names the session, the old and the new profile
COLLIDES: Final = 3  # unfinished writes of a key, beyond which Talon.One would have answered 409
# Flights of one lane or gate beyond those that somebody waits for: abandoned ones keep their place.
UNFINISHED_PER_DEPTH: Final = 8
GATED_PER_DEPTH: Final = 32
_SESSION, _PROFILE = "session", "profile"


class Ending(Enum):
    """How a write ended, for what is remembered of it."""

    EXECUTED = auto()
    REFUSED = auto()  # by Talon.One, or never sent
    UNKNOWN = auto()


@dataclass(frozen=True, slots=True)
class Rules:
    """Settings `lanes.*` and `coalescing.*` that concern a call's place."""

    enabled: bool = True
    depth: int = 32
    dry_width: int = 2
    max_callers: int = 256


class Lane:
    """The chain of flights of one key."""

    __slots__ = ("key", "tail", "unfinished", "wanted")

    def __init__(self, key: Key) -> None:
        self.key = key
        self.tail: Flight | None = None
        self.unfinished = 0
        self.wanted = 0  # of these, flights that a caller waits for

    def __repr__(self) -> str:
        # No key: ids stay out of logs.
        return f"<Lane unfinished={self.unfinished} wanted={self.wanted}>"


class Lanes:
    """All lanes that have a flight under way."""

    def __init__(
        self,
        rules: Rules,
        *,
        memory: Memory,
        sharing: Sharing,
        gates: Gates,
        reads: Reads,
        limit: Limit,
        clock: Callable[[], float],
    ) -> None:
        self._rules = rules
        self.memory = memory
        self.sharing = sharing
        self.gates = gates
        self.reads = reads
        self.limit = limit
        self._clock = clock
        self._lanes: dict[Key, Lane] = {}
        self._ready: deque[Flight] = deque()
        self._running = False
        self.waiting = 0  # flights with others ahead of them
        self.conflicts_avoided = 0
        self.unkeyed = dict.fromkeys(Unkeyed, 0)

    def __len__(self) -> int:
        return len(self._lanes)

    def __repr__(self) -> str:
        return f"<Lanes {len(self)} waiting={self.waiting}>"

    def follow(self, rules: Rules) -> None:
        """Admit by these rules from now on."""
        self._rules = rules

    def all(self) -> Sequence[Lane]:
        """Give every lane there is."""
        return list(self._lanes.values())

    # --- admission ---

    def admit(self, flight: Flight) -> Flight:
        """Give a new flight its place, and give it back; or the one whose answer its caller shall share instead.

        Raises LaneFull or Busy. Begins nothing: who is `ahead` of nobody is for the caller of this to begin.
        """
        if flight.names.unkeyed is not None:
            self.unkeyed[flight.names.unkeyed] += 1
        session = flight.names.session
        # Looked up once: to look there costs more than all the rest of this, it is never in the CPU's caches.
        links = None if session is None else self.memory.find((flight.grant.application.name, session))
        flight.keys = _keys(flight, links)
        return self._admit_read(flight) if flight.route.reads else self._admit_write(flight, links)

    def _admit_read(self, flight: Flight) -> Flight:
        if flight.shares:
            open_read = self.reads.find(flight.fingerprint)
            if open_read is not None and self._takes(open_read):
                return open_read
        self._check_limit()
        if flight.shares:
            self.reads.open(flight)
        if flight.route.dry and flight.keys and flight.ordered and self._rules.enabled:
            flight.gates = [
                self.gates.at((f"dry {sort}", owner, name), self._rules.dry_width)
                for sort, owner, name in flight.keys[:MOST]
            ]
        return flight

    def _admit_write(self, flight: Flight, links: Links | None) -> Flight:
        ordered, gated = self._places(flight, links) if self._rules.enabled and flight.ordered else ((), ())
        lanes = [self._lanes.get(key) for key in ordered]
        tail = self._common_tail(lanes, flight) if lanes else None
        if tail is not None:
            return tail
        self._check_limit()
        self._check_room(lanes, gated)
        self.seal(flight)
        if lanes:
            self._follow(flight, ordered, lanes)
        if gated:
            flight.gates = [self.gates.at(key, PROFILE_WIDTH) for key in gated]
        if _crowded(flight):
            self.conflicts_avoided += 1
        if self._rules.enabled:
            self._remember(flight, links)
        return flight

    def _places(self, flight: Flight, links: Links | None) -> tuple[Sequence[Key], Sequence[Key]]:
        """Give the keys on which a write is ordered, and those at which it passes a gate."""
        names, application = flight.names, flight.grant.application
        if names.session is not None:
            for profile in names.profiles:
                if links is None or not links.knows(profile, flight.timeline.complete):
                    self.sharing.named((application.environment, profile), names.session)
        keys = flight.keys
        if len(keys) > MOST:
            self.unkeyed[Unkeyed.TOO_MANY] += 1
            return (), ()
        if not keys:
            # Two with the same Idempotency-Key are one call, whatever it is about.
            key = flight.idempotency_key
            return ([("idempotency", application.name, key.decode("latin-1"))] if key else ()), ()
        if not self.sharing.any:
            return keys, ()
        gated = [key for key in keys if key[0] == _PROFILE and self.sharing.shared((key[1], key[2]))]
        return (([key for key in keys if key not in gated], gated)) if gated else (keys, ())

    def _common_tail(self, lanes: Sequence[Lane | None], flight: Flight) -> Flight | None:
        """Give the flight that a write may join: the tail of all its lanes, if that carries the same."""
        first = lanes[0]
        if first is None or not flight.shares:
            return None
        tail = first.tail
        for lane in lanes:
            if lane is None or lane.tail is not tail:
                return None
        if tail is None or tail.fingerprint != flight.fingerprint:
            return None
        return tail if self._takes(tail) else None

    def _takes(self, flight: Flight) -> bool:
        return flight.joinable and len(flight.callers) < self._rules.max_callers

    def _check_limit(self) -> None:
        if self.limit.full:
            raise Busy("Too many calls are under way, and wait for those (limits.concurrency)")

    def _check_room(self, lanes: Sequence[Lane | None], gated: Sequence[Key]) -> None:
        depth = self._rules.depth
        for lane in lanes:
            if lane is not None and (lane.wanted >= depth or lane.unfinished >= depth * UNFINISHED_PER_DEPTH):
                raise LaneFull("Too many updates of this session or profile wait already (lanes.depth)")
        for key in gated:
            if self.gates.unfinished(key) >= depth * GATED_PER_DEPTH:
                raise LaneFull("Too many updates of this shared profile wait already (lanes.depth)")

    def _lane(self, key: Key) -> Lane:
        lane = self._lanes[key] = Lane(key)
        return lane

    def _follow(self, flight: Flight, keys: Sequence[Key], found: Sequence[Lane | None]) -> None:
        """Become the tail of all its lanes, in one step; `found`: those that there are already."""
        lanes: list[Lane] = []
        flight.lanes = lanes
        flight.counted = True
        for position, key in enumerate(keys):
            lane = found[position]
            if lane is None:
                lane = self._lane(key)
            lanes.append(lane)
            tail = lane.tail
            # Once for each flight ahead, also where it is the tail of two lanes.
            if tail is not None and (not tail.followers or tail.followers[-1] is not flight):
                tail.followers.append(flight)
                flight.ahead += 1
            lane.tail = flight
            lane.unfinished += 1
            lane.wanted += 1
        if flight.ahead:
            self.waiting += 1

    def _remember(self, flight: Flight, links: Links | None) -> None:
        """Note the profile that a write may give its session."""
        names = flight.names
        if names.session is not None and names.profiles and binds(flight.route):
            profile = names.profiles[0]
            if links is None or not links.knows(profile, flight.timeline.complete):
                flight.linked = True
                self.memory.admitted((flight.grant.application.name, names.session), profile)

    # --- reads and writes ---

    def seal(self, flight: Flight) -> None:
        """A write is admitted, or may have been executed: nobody joins a read that began before."""
        if not len(self.reads):
            return
        names, environment = flight.names, flight.grant.application.environment
        if flight.grant.surface is Surface.MANAGEMENT:
            self.reads.seal_all()
        elif not flight.keys or names.unkeyed is not None or flight.keys[-1][0] == _SESSION:
            # It may concern any profile.
            self.reads.seal_all(environment)
        else:
            self.reads.seal(environment, flight.keys)

    # --- the end ---

    def landed(self, flight: Flight, ending: Ending) -> None:
        """The answer is decided, and no caller has it yet."""
        if flight.route.reads:
            if flight.shares:
                self.reads.close(flight)
            return
        self.seal(flight)
        if flight.linked:
            flight.linked = False
            assert flight.names.session is not None
            session, profile = (flight.grant.application.name, flight.names.session), flight.names.profiles[0]
            if ending is Ending.EXECUTED:
                self.memory.confirmed(session, profile)
            elif ending is Ending.REFUSED:
                self.memory.refused(session, profile)
            else:
                self.memory.doubted(session, profile)

    def recount(self, flight: Flight) -> None:
        """A caller came or went."""
        wanted = flight.wanted
        if wanted is not flight.counted and flight.lanes:
            flight.counted = wanted
            for lane in flight.lanes:
                lane.wanted += 1 if wanted else -1

    def release(self, flight: Flight) -> None:
        """It is DONE: whoever has nobody ahead now goes on, before this returns or when it is next in line."""
        assert flight.state is State.DONE
        assert not flight.ahead
        assert not flight.counted  # its callers have had their answer
        if not flight.lanes:
            return
        self.seal(flight)
        for lane in flight.lanes:
            lane.unfinished -= 1
            if lane.tail is flight:
                del self._lanes[lane.key]
        for follower in flight.followers:
            follower.ahead -= 1
            if not follower.ahead:
                self.waiting -= 1
                self._ready.append(follower)
        # What is over refers to nothing: a cycle would be the collector's to find.
        flight.followers, flight.lanes = [], ()
        if self._ready and not self._running:
            self._run()

    def _run(self) -> None:
        """Let them begin, one after the other: a flight nobody wants ends at once, and releases the next."""
        self._running = True
        try:
            while self._ready:
                flight = self._ready.popleft()
                flight.timeline.lane = self._clock() - flight.timeline.complete
                if flight.state is State.QUEUED:  # one that began before may have ended this one
                    flight.begin()
        finally:
            self._running = False

    # --- what is told of them ---

    def oldest_wait(self, flights: Sequence[Flight]) -> float:
        """Give the seconds that the longest waiting of these flights has waited."""
        now = self._clock()
        return max((now - flight.timeline.complete for flight in flights if flight.ahead), default=0.0)


def _keys(flight: Flight, links: Links | None) -> tuple[Key, ...]:
    """Give all sessions and profiles that a call concerns, as far as the call and the memory tell."""
    names, application = flight.names, flight.grant.application
    profiles = names.profiles
    session = names.session
    if links is not None and (not profiles or binds(flight.route)):
        remembered = links.profiles
        if remembered and remembered != profiles:
            profiles = tuple(dict.fromkeys(profiles + remembered))
    if session is not None and len(profiles) == 1:  # as nearly every call
        return (_SESSION, application.name, session), (_PROFILE, application.environment, profiles[0])
    keys = [] if session is None else [(_SESSION, application.name, session)]
    keys += [(_PROFILE, application.environment, profile) for profile in profiles]
    return tuple(keys)


def _crowded(flight: Flight) -> bool:
    """Tell whether Talon.One might have answered 409: of one of its keys too many flights are unfinished."""
    for lane in flight.lanes:
        if lane.unfinished > COLLIDES:
            return True
    for gate in flight.gates:  # noqa: SIM110 - a generator costs more than the answer
        if gate.unfinished > COLLIDES:
            return True
    return False
