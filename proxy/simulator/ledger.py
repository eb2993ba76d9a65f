"""A ledger is the loyalty points of one customer, or one card, in one program: what came, what went, what is left.

Every addition knows how much of it is left, so that points expire, wait and are spent each on their own. Spending
takes those that expire first, then those without an end in the order they were given. Points that were taken back
after they had been spent leave a debt, if the program allows one; new points pay it first. Sums are exact.

A ledger remembers its last `LENGTH` transactions; points of older ones are forgotten with them.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from enum import Enum

from proxy.simulator.amounts import ZERO

LENGTH = 10_000
_NEVER = datetime.max.replace(tzinfo=UTC)


class Status(Enum):
    """Whether points can be spent."""

    ACTIVE = "active"
    PENDING = "pending"
    EXPIRED = "expired"


@dataclass(frozen=True, slots=True)
class Cause:
    """What a transaction came from, as it is told to callers."""

    name: str
    session: str = ""
    event: int | None = None
    ruleset: int | None = None
    rule: str = ""


@dataclass(slots=True, eq=False)
class Transaction:
    """One addition or subtraction. No `start`: at once; no `expiry`: never. `left` is what of it is not spent."""

    id: int
    uuid: str
    created: datetime
    addition: bool
    subledger: str
    amount: Decimal
    cause: Cause
    start: datetime | None = None
    expiry: datetime | None = None
    awaits_action: bool = False
    left: Decimal = ZERO
    makes_debt: bool = False
    sources: list[tuple["Transaction", Decimal]] = field(default_factory=list)

    def status(self, moment: datetime) -> Status:
        """Whether the points can be spent at that moment."""
        if self.expiry is not None and self.expiry <= moment:
            return Status.EXPIRED
        waits = self.awaits_action or (self.start is not None and moment < self.start)
        return Status.PENDING if waits else Status.ACTIVE

    def activate(self, moment: datetime) -> None:
        """End the wait."""
        self.awaits_action = False
        self.start = moment


@dataclass(frozen=True, slots=True)
class Balance:
    """Sums of points."""

    active: Decimal = ZERO
    pending: Decimal = ZERO
    spent: Decimal = ZERO
    expired: Decimal = ZERO
    negative: Decimal = ZERO


class Ledger:
    """The transactions of one owner in one program, all subledgers together; the main one is called ""."""

    def __init__(self) -> None:
        self.joined: datetime | None = None
        self._log: deque[Transaction] = deque(maxlen=LENGTH)
        self._debt: dict[str, Decimal] = {}

    def __iter__(self) -> Iterator[Transaction]:
        """The transactions, the oldest first."""
        return iter(self._log)

    @property
    def subledgers(self) -> tuple[str, ...]:
        """The names of the subledgers that were ever used, without the main one."""
        return tuple(dict.fromkeys(entry.subledger for entry in self._log if entry.subledger))

    def find(self, uuid: str) -> Transaction | None:
        """An addition or subtraction."""
        return next((entry for entry in self._log if entry.uuid == uuid), None)

    def balance(self, moment: datetime, subledger: str = "") -> Balance:
        """What there is at a moment, which may lie in the future."""
        sums = dict.fromkeys(Status, ZERO)
        spent = ZERO
        for entry in self._log:
            if entry.subledger != subledger:
                continue
            if entry.addition:
                sums[entry.status(moment)] += entry.left
            else:
                spent += sum((taken for _, taken in entry.sources), ZERO)
        debt = self._debt.get(subledger, ZERO)
        return Balance(sums[Status.ACTIVE], sums[Status.PENDING], spent, sums[Status.EXPIRED], debt)

    def points(self, status: Status, moment: datetime) -> list[Transaction]:
        """The additions of which something is left, by status."""
        return [entry for entry in self._log if entry.addition and entry.left and entry.status(moment) is status]

    def add(self, entry: Transaction) -> None:
        """Credit points. A debt is paid first."""
        paid = min(entry.amount, self._debt.get(entry.subledger, ZERO))
        if paid:
            self._debt[entry.subledger] -= paid
        entry.left = entry.amount - paid
        self._log.append(entry)

    def deduct(self, entry: Transaction, moment: datetime, *, allow_debt: bool = False) -> Decimal:
        """Spend up to `entry.amount` points, and the rest as a debt where that is allowed. Returns what was covered."""
        usable = [source for source in self.points(Status.ACTIVE, moment) if source.subledger == entry.subledger]
        usable.sort(key=lambda source: source.expiry or _NEVER)
        missing = entry.amount
        for source in usable:
            taken = min(source.left, missing)
            if taken:
                source.left -= taken
                missing -= taken
                entry.sources.append((source, taken))
        if missing and allow_debt:
            self._debt[entry.subledger] = self._debt.get(entry.subledger, ZERO) + missing
            entry.makes_debt = True
            missing = ZERO
        self._log.append(entry)
        return entry.amount - missing

    def take_back(self, source: Transaction, entry: Transaction, moment: datetime, *, allow_debt: bool) -> Decimal:
        """Undo an addition: what is left of it, then other active points, then a debt. Returns what was taken."""
        own = min(source.left, entry.amount)
        source.left -= own
        if own == entry.amount or not allow_debt:
            self._log.append(entry)
            return own
        rest, entry.amount = entry.amount - own, entry.amount - own
        covered = self.deduct(entry, moment, allow_debt=True)
        # What is taken back was not spent by the customer.
        entry.sources.clear()
        entry.amount = own + rest
        return own + covered

    def give_back(self, spent: Transaction, entry: Transaction) -> None:
        """Undo a subtraction: the points return to where they came from, with the end they had."""
        for source, taken in spent.sources:
            source.left += taken
        spent.sources.clear()
        self._log.append(entry)

    def delete(self, subledgers: Iterable[str] | None) -> None:
        """Forget the transactions of some subledgers, or of all."""
        gone = None if subledgers is None else set(subledgers)
        kept = [entry for entry in self._log if gone is not None and entry.subledger not in gone]
        self._log = deque(kept, maxlen=LENGTH)
        self._debt = {name: debt for name, debt in self._debt.items() if gone is not None and name not in gone}
