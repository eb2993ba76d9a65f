"""Catalogs are items by SKU: the price that a cart need not name, and the prices there were before.

A sync applies actions of one type to items, each named once, all or none of them.
"""

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any

from proxy.simulator.amounts import decimal
from proxy.simulator.problems import Problem, invalid
from proxy.simulator.rulebook import Catalog as CatalogTerms

PRICES = 1000  # remembered of one item


@dataclass(frozen=True, slots=True)
class Price:
    """A price from a moment on. `context` is what it belongs to, such as a sale."""

    id: int
    observed: datetime
    value: Decimal
    context: str = ""
    kind: str = "base"
    reference: str = ""

    @property
    def same(self) -> tuple[Decimal, str, str]:
        """What two prices have in common that are one."""
        return self.value, self.context, self.kind


@dataclass(slots=True, eq=False)
class Item:
    """An item, with its prices in the order in which they held."""

    id: int
    sku: str
    attributes: dict[str, Any] = field(default_factory=dict)
    product: Any = None
    prices: deque[Price] = field(default_factory=lambda: deque(maxlen=PRICES))

    @property
    def price(self) -> Decimal | None:
        """The price now."""
        return self.prices[-1].value if self.prices else None

    def cost(self, price: Price) -> None:
        """Set a price; the same price again is none."""
        present = self.prices[-1] if self.prices else None
        if present is None or (present.value, present.context, present.kind) != (
            price.value,
            price.context,
            price.kind,
        ):
            self.prices.append(price)


@dataclass(frozen=True, slots=True)
class Action:
    """One action of a sync, and where in the body it stands."""

    kind: str
    content: Mapping[str, Any]
    pointer: str


class Catalog:
    """The items of a catalog."""

    def __init__(self, terms: CatalogTerms, beginning: datetime, ids: Iterator[int]) -> None:
        self.terms = terms
        self.created = self.modified = beginning
        self.version = 1
        self.items: dict[str, Item] = {}
        for item in terms.items:
            made = self.items[item.sku] = Item(next(ids), item.sku, dict(item.attributes))
            if item.price is not None:
                made.cost(Price(next(ids), beginning, item.price))

    def sync(self, actions: Sequence[Action], version: int | None, moment: datetime, ids: Iterator[int]) -> None:
        """Apply all actions, or raise Problem and apply none."""
        if version is not None and version != self.version:
            raise invalid("Invalid value", "this is not the current version", pointer="/version")
        if len({action.kind for action in actions}) > 1:
            raise invalid("Invalid value", "one sync has actions of one type", pointer="/actions")
        skus = [action.content.get("sku") for action in actions if "sku" in action.content]
        if len(skus) != len(set(skus)):
            raise invalid("Duplicate SKU", "each item may be named once", pointer="/actions")
        after = deepcopy(self.items)
        for action in actions:
            _APPLY[action.kind](after, action, moment, ids)
        self.items = after
        self.version += 1
        self.modified = moment


def lowest(prices: Sequence[Price], start: datetime, end: datetime) -> Price | None:
    """The lowest price that held in a time, the latest of several. The one that held at its start counts too."""
    before = [price for price in prices if price.observed <= start]
    within = [price for price in prices if start < price.observed <= end]
    held = [*before[-1:], *within]
    return min(reversed(held), key=lambda price: price.value, default=None)


def window_end(prices: Sequence[Price], kind: str, asked: datetime) -> datetime:
    """Where to stop looking: as asked (`strict`), or where the present price (`price`) or its context (`sale`) began.

    The bound itself is left out in the last two cases, since only earlier prices are prior ones.
    """
    held = [price for price in prices if price.observed <= asked]
    if kind == "strict" or not held:
        return asked
    present = held[-1]
    if kind == "price":
        return present.observed
    first = present
    for price in reversed(held):
        if price.context != present.context:
            break
        first = price
    return first.observed


def _add(items: dict[str, Item], action: Action, moment: datetime, ids: Iterator[int]) -> None:
    content = action.content
    known = items.get(content["sku"])
    if known is not None and not content.get("replaceIfExists", False):
        raise invalid("Invalid value", "the item exists already", pointer=f"{action.pointer}/payload/sku")
    item = items[content["sku"]] = known or Item(next(ids), content["sku"])
    item.attributes = dict(content.get("attributes") or {})
    _refresh(item, content, moment, ids)


def _patch(items: dict[str, Item], action: Action, moment: datetime, ids: Iterator[int]) -> None:
    content = action.content
    item = items.get(content["sku"])
    if item is None:
        if not content.get("createIfNotExists", False):
            raise invalid("Invalid value", "there is no such item", pointer=f"{action.pointer}/payload/sku")
        item = items[content["sku"]] = Item(next(ids), content["sku"])
    item.attributes |= content.get("attributes") or {}
    _refresh(item, content, moment, ids)


def _refresh(item: Item, content: Mapping[str, Any], moment: datetime, ids: Iterator[int]) -> None:
    """A price that is not given stays; a product that is not given goes, as the API documents."""
    item.product = content.get("product")
    if content.get("price") is not None:
        item.cost(Price(next(ids), moment, decimal(content["price"])))


def _patch_many(items: dict[str, Item], action: Action, moment: datetime, ids: Iterator[int]) -> None:
    for item in _selected(items, action):
        item.attributes |= action.content.get("attributes") or {}
        if action.content.get("price") is not None:
            item.cost(Price(next(ids), moment, decimal(action.content["price"])))


def _remove(items: dict[str, Item], action: Action, _moment: datetime, _ids: Iterator[int]) -> None:
    if items.pop(action.content["sku"], None) is None:
        raise invalid("Invalid value", "there is no such item", pointer=f"{action.pointer}/payload/sku")


def _remove_many(items: dict[str, Item], action: Action, _moment: datetime, _ids: Iterator[int]) -> None:
    for item in _selected(items, action):
        del items[item.sku]


def _adjust(items: dict[str, Item], action: Action, moment: datetime, ids: Iterator[int]) -> None:
    item = items.get(action.content["sku"])
    if item is None:
        raise invalid("Invalid value", "there is no such item", pointer=f"{action.pointer}/payload/sku")
    for adjustment in action.content["adjustments"]:
        if adjustment.get("price") is not None:
            context, kind = adjustment.get("contextId") or "", adjustment["priceType"]
            reference = adjustment["referenceId"]
            item.cost(Price(next(ids), moment, decimal(adjustment["price"]), context, kind, reference))


def _selected(items: dict[str, Item], action: Action) -> list[Item]:
    filters = action.content.get("filters") or []
    return [item for item in items.values() if all(_matches(item, one, action.pointer) for one in filters)]


def _matches(item: Item, condition: Mapping[str, Any], pointer: str) -> bool:
    actual, wanted = item.attributes.get(condition["attr"]), condition["value"]
    match condition["op"]:
        case "EQ":
            return str(actual) == str(wanted)
        case "IN":
            return str(actual) in [part.strip() for part in str(wanted).split(",")]
    if actual is None:
        return False
    try:
        left, right = Decimal(str(actual)), Decimal(str(wanted))
    except ArithmeticError as error:
        raise _not_numeric(pointer) from error
    return {"LT": left < right, "LE": left <= right, "GT": left > right, "GE": left >= right}[condition["op"]]


def _not_numeric(pointer: str) -> Problem:
    return invalid("Invalid type", "LT, LE, GT and GE compare numbers", pointer=f"{pointer}/payload/filters")


_APPLY = {
    "ADD": _add,
    "PATCH": _patch,
    "PATCH_MANY": _patch_many,
    "REMOVE": _remove,
    "REMOVE_MANY": _remove_many,
    "ADD_PRICE_ADJUSTMENT": _adjust,
}
TYPES = tuple(_APPLY)
