"""Bursts: of what is the same, so much at once and so much a second; the rest is counted.

A message that comes with every call of a busy minute must not fill a disk (T16): a hundred lines tell as much as a
million.
"""

from collections.abc import Callable

BURST = 100  # of the same at once
RATE = 10.0  # of the same a second, after that
TEXTS = 1_000  # told apart at a time


class _Bucket:
    __slots__ = ("left", "left_out", "since")

    def __init__(self, left: float, since: float) -> None:
        self.left = left
        self.since = since
        self.left_out = 0


class Bursts:
    """Counts what is the same."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._buckets: dict[int, _Bucket] = {}
        self._cleaned = clock()

    def __repr__(self) -> str:
        return f"<Bursts texts={len(self._buckets)}>"

    def take(self, text: str) -> int | None:
        """Take one more; gives how many like it were left out since the last that was not. None: this one is, too."""
        now = self._clock()
        bucket = self._bucket(hash(text), now)
        bucket.left = min(bucket.left + (now - bucket.since) * RATE, BURST)
        bucket.since = now
        if bucket.left < 1.0:
            bucket.left_out += 1
            return None
        bucket.left -= 1.0
        left_out, bucket.left_out = bucket.left_out, 0
        return left_out

    def _bucket(self, key: int, now: float) -> _Bucket:
        bucket = self._buckets.get(key)
        if bucket is None:
            if len(self._buckets) >= TEXTS and not self._clean(now):
                key = 0  # a flood of different texts is a flood too
            bucket = self._buckets.setdefault(key, _Bucket(BURST, now))
        return bucket

    def _clean(self, now: float) -> bool:
        """Forget what is quiet again, at most once a second; False: there is no room."""
        if now - self._cleaned >= 1.0:
            self._cleaned = now
            self._buckets = {
                key: bucket
                for key, bucket in self._buckets.items()
                if bucket.left_out or bucket.left + (now - bucket.since) * RATE < BURST
            }
        return len(self._buckets) < TEXTS
