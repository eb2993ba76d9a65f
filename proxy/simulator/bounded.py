"""Bounded memory: a dict that forgets what was used longest ago, so that a simulator can run for weeks."""

from collections import OrderedDict
from collections.abc import Iterator
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class Bounded(Generic[K, V]):
    """At most `limit` entries. `get` counts as use; `peek` and iterating do not."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._entries: OrderedDict[K, V] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, key: K) -> bool:
        return key in self._entries

    def __iter__(self) -> Iterator[V]:
        """The values, the longest unused first."""
        return iter(self._entries.values())

    def __setitem__(self, key: K, value: V) -> None:
        self._entries[key] = value
        self._entries.move_to_end(key)
        if len(self._entries) > self.limit:
            self._entries.popitem(last=False)

    def get(self, key: K) -> V | None:
        """The value, which is now the last to be forgotten."""
        value = self._entries.get(key)
        if value is not None:
            self._entries.move_to_end(key)
        return value

    def peek(self, key: K) -> V | None:
        """The value, without using it."""
        return self._entries.get(key)

    def pop(self, key: K) -> V | None:
        """Forget an entry."""
        return self._entries.pop(key, None)
