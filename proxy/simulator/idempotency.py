"""Answers to calls with an `Idempotency-Key` are stored, and given again to the same key for 24 hours.

Documented: the header, the six operations that know it, the 24 hours, and that a key should not be longer than 255
characters. Nobody outside knows which answers are stored, what the same key with another body does, and what it
does while the first call still runs: `unknowns` has a switch for each. Dry calls leave no trace, so they are not
stored.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Generic, TypeVar

from proxy.simulator.problems import Problem, invalid_parameter
from proxy.simulator.turns import CrowdedError
from proxy.simulator.unknowns import Unknowns

HEADER = "Idempotency-Key"
LIFE = timedelta(hours=24)
LONGEST = 255
LIMIT = 10_000  # keys of a world; the oldest are forgotten
T = TypeVar("T")

_REFUSALS = (Problem, CrowdedError)

_KNOW_KEYS = frozenset(
    {
        "updateCustomerSessionV2",
        "returnCartItems",
        "reopenCustomerSession",
        "updateCustomerProfileV2",
        "updateCustomerProfilesV2",
        "trackEventV2",
    }
)


def knows_keys(operation: str) -> bool:
    """Whether an operation, by its operationId, is documented to heed the header; the others ignore it."""
    return operation in _KNOW_KEYS


@dataclass(slots=True)
class _Record(Generic[T]):
    """One key. `landed` is done when its first call is; without an `outcome` then, it was not stored."""

    call: str
    since: datetime
    landed: asyncio.Future[None]
    outcome: T | Exception | None = None


class Idempotency(Generic[T]):
    """The stored answers of a world. Keys belong to an Application."""

    def __init__(self, clock: Callable[[], datetime], unknowns: Unknowns) -> None:
        self._clock = clock
        self._unknowns = unknowns
        self._records: OrderedDict[tuple[str, str], _Record[T]] = OrderedDict()

    def __repr__(self) -> str:
        return f"<Idempotency of {len(self._records)} keys>"

    def __len__(self) -> int:
        return len(self._records)

    async def once(self, application: str, key: str, call: str, run: Callable[[], Awaitable[T]]) -> tuple[T, bool]:
        """What `run` gives or raises, or what it gave when the key came first; and whether it is the latter.

        `call` stands for method, target and body: it tells another call with the same key. Raises Problem where the
        switches say so.
        """
        if not key or len(key) > LONGEST:
            raise invalid_parameter("Invalid value", f"must have 1 to {LONGEST} characters", parameter=HEADER)
        name = (application, key)
        while (record := self._known(name)) is not None:
            if record.call != call and self._unknowns.idempotency_reuse != "replay":
                if self._unknowns.idempotency_reuse == "run":
                    return await run(), False
                raise invalid_parameter("Invalid value", "was used for another request", parameter=HEADER)
            if record.outcome is not None:
                return _given(record.outcome), True
            if self._unknowns.idempotency_in_flight == "refuse":
                raise Problem(409, "A request with this idempotency key is being processed")
            # Whoever waits must not end the wait of others by leaving.
            await asyncio.shield(record.landed)
        return await self._first(name, call, run), False

    async def _first(self, name: tuple[str, str], call: str, run: Callable[[], Awaitable[T]]) -> T:
        record: _Record[T] = _Record(call, self._clock(), asyncio.get_running_loop().create_future())
        self._records[name] = record
        if len(self._records) > LIMIT:
            self._records.popitem(last=False)
        try:
            outcome = await run()
            record.outcome = outcome
        except _REFUSALS as refused:
            if self._unknowns.idempotency_stores == "all":
                record.outcome = refused
            raise
        finally:
            if record.outcome is None and self._records.get(name) is record:
                del self._records[name]
            record.landed.set_result(None)
        return outcome

    def _known(self, name: tuple[str, str]) -> _Record[T] | None:
        record = self._records.get(name)
        if record is not None and record.outcome is not None and self._clock() - record.since >= LIFE:
            del self._records[name]
            return None
        return record


def _given(outcome: T | Exception) -> T:
    if isinstance(outcome, Exception):
        raise outcome
    return outcome
