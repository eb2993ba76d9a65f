"""The report on traffic: what `/status` shows of it, and what metrics ask for when somebody scrapes.

Ids are hashed (`log.hash_key`); lanes are the longest ones, not all there are.
"""

import heapq
from collections.abc import Callable, Mapping, Sequence

from proxy.observe.hashes import Hashes
from proxy.observe.metrics import Traffic as Numbers
from proxy.traffic.flights import Flight
from proxy.traffic.lanes import Lane
from proxy.traffic.sharing import Profile
from proxy.traffic.traffic import Traffic

MOST_LANES = 10
ADVICE = "many sessions share it: its writes are limited and not ordered; give each guest a profile of its own, or none"


class Report:
    """Tells how the traffic stands. `flights`: all that hold a place."""

    def __init__(
        self, traffic: Traffic, flights: Callable[[], Sequence[Flight]], hashes: Hashes, clock: Callable[[], float]
    ) -> None:
        self._clock = clock
        self._traffic = traffic
        self._flights = flights
        self._hashes = hashes

    def numbers(self) -> Numbers:
        """Give what metrics show."""
        lanes, attempts = self._traffic.lanes, self._traffic.attempts
        return Numbers(
            lanes=len(lanes),
            waiting=lanes.waiting,
            oldest_wait=lanes.oldest_wait(self._flights()),
            shared_profiles=len(self._traffic.sharing.detected()),
            conflicts_avoided=lanes.conflicts_avoided,
            unkeyed={reason.value: count for reason, count in lanes.unkeyed.items()},
            conflicts={
                (kind.value, "returned" if returned else "resolved"): count
                for (kind, returned), count in attempts.conflicts.items()
            },
            retries={reason.value: count for reason, count in attempts.retried.items()},
            exhausted={reason.value: count for reason, count in attempts.unaffordable.items()},
        )

    def totals(self) -> Mapping[str, float]:
        """Give what never falls, for the history."""
        numbers = self.numbers()
        returned = sum(count for (_, outcome), count in numbers.conflicts.items() if outcome == "returned")
        return {"conflicts_avoided": numbers.conflicts_avoided, "conflicts_returned": returned}

    def status(self) -> Mapping[str, object]:
        """Give what `/status` shows."""
        numbers, lanes = self.numbers(), self._traffic.lanes
        conflicts: dict[str, dict[str, int]] = {"resolved": {}, "returned": {}}
        for (kind, outcome), count in numbers.conflicts.items():
            if count:
                conflicts[outcome][kind] = count
        return {
            "lanes": numbers.lanes,
            "waiting": numbers.waiting,
            "oldest_wait_seconds": round(numbers.oldest_wait, 3),
            "longest": [self._lane(lane) for lane in self._longest()],
            "gates": len(self._traffic.gates),
            "shared_profiles": [self.profile(profile) for profile in self._traffic.sharing.detected()[:MOST_LANES]],
            "limit": {"inside": lanes.limit.inside, "of": lanes.limit.most, "waiting": lanes.limit.waiting},
            "circuit": self._circuit(),
            "open_reads": len(self._traffic.reads),
            "remembered_sessions": len(self._traffic.memory),
            "conflicts_avoided": numbers.conflicts_avoided,
            "conflicts": conflicts,
            "retries": _seen(numbers.retries),
            "retry_budget_exhausted": _seen(numbers.exhausted),
            "unkeyed": _seen(numbers.unkeyed),
        }

    def _circuit(self) -> Mapping[str, object]:
        circuit = self._traffic.attempts.circuit
        return {
            "state": circuit.state.name.lower(),
            "since_seconds": round(self._clock() - circuit.since, 1),
            "last_error": circuit.last_error or None,
        }

    def profile(self, profile: Profile) -> Mapping[str, str]:
        """Give what may be told of a shared profile."""
        environment, name = profile
        return {"environment": environment, "profile": self._hashes.hash(name), "advice": ADVICE}

    def _longest(self) -> Sequence[Lane]:
        return heapq.nlargest(MOST_LANES, self._traffic.lanes.all(), key=lambda lane: lane.unfinished)

    def _lane(self, lane: Lane) -> Mapping[str, object]:
        sort, owner, name = lane.key
        return {
            "of": sort,
            "environment" if sort == "profile" else "application": owner,
            "id": self._hashes.hash(name),
            "unfinished": lane.unfinished,
            "waited_for": lane.wanted,
        }


def _seen(counts: Mapping[str, int]) -> Mapping[str, int]:
    return {name: count for name, count in counts.items() if count}
