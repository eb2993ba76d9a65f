"""Open reads: those that a read with the same fingerprint may still join.

A read is open until a write on any of its keys is admitted, or lands, or ends: then it is sealed, so that nobody gets
an answer older than a write that was acknowledged before. The seal is set on the read itself, by taking it out of
here, and not derived from a lane, which may have vanished and come back meanwhile. A read that has no keys, or whose
body could not be read for them, is sealed by any write of its environment. So is one that names a session of which
nobody remembers the profile: what it tells may depend on any.
"""

from collections.abc import Iterable
from typing import TypeVar

from proxy.traffic.flights import Fingerprint, Flight
from proxy.traffic.gates import Key

_Index = TypeVar("_Index")


class Reads:
    """All open reads: by fingerprint, by what they tell of, by environment."""

    def __init__(self) -> None:
        self._open: dict[Fingerprint, Flight] = {}
        self._by_key: dict[Key, set[Flight]] = {}
        # Those that may tell of anything in their environment; None: in any.
        self._of_anything: dict[str | None, set[Flight]] = {}

    def __len__(self) -> int:
        return len(self._open)

    def __repr__(self) -> str:
        return f"<Reads open={len(self)}>"

    def find(self, fingerprint: Fingerprint) -> Flight | None:
        """Give the open read that an identical call may join."""
        return self._open.get(fingerprint)

    def open(self, flight: Flight) -> None:
        """Take in a read that begins now; one with the same fingerprint is closed to newcomers."""
        older = self._open.get(flight.fingerprint)
        if older is not None:
            self.close(older)
        self._open[flight.fingerprint] = flight
        if _has_known_keys(flight):
            for key in flight.keys:
                self._by_key.setdefault(key, set()).add(flight)
        else:
            self._of_anything.setdefault(flight.grant.environment, set()).add(flight)

    def close(self, flight: Flight) -> None:
        """Nobody may join it any more. Once more does no harm."""
        if self._open.get(flight.fingerprint) is not flight:
            return
        del self._open[flight.fingerprint]
        if _has_known_keys(flight):
            for key in flight.keys:
                _discard(self._by_key, key, flight)
        else:
            _discard(self._of_anything, flight.grant.environment, flight)

    def seal(self, environment: str, keys: Iterable[Key]) -> None:
        """A write on these keys happened."""
        if not self._open:
            return
        sealed = self._of_anything.get(environment, set()) | self._of_anything.get(None, set())
        for key in keys:
            sealed |= self._by_key.get(key, set())
        for flight in sealed:
            self.close(flight)

    def seal_all(self, environment: str | None = None) -> None:
        """A write happened that may concern anything in this environment; None: in any."""
        for flight in list(self._open.values()):
            if environment is None or flight.grant.environment in (environment, None):
                self.close(flight)


def _has_known_keys(flight: Flight) -> bool:
    keys = flight.keys
    # Profiles stand last.
    return bool(keys) and keys[-1][0] == "profile" and flight.names.unkeyed is None


def _discard(index: dict[_Index, set[Flight]], key: _Index, flight: Flight) -> None:
    index[key].discard(flight)
    if not index[key]:
        del index[key]
