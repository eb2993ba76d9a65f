"""The cart is what rules see of a session: its items with their prices, its costs and its codes, as exact decimals."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from proxy.simulator.amounts import ZERO, decimal, money

PriceOf = Callable[[str], Decimal | None]


@dataclass(frozen=True, slots=True)
class Line:
    """A cart item. `quantity` is what was not returned."""

    position: int
    sku: str
    category: str
    price: Decimal
    quantity: int


@dataclass(frozen=True, slots=True)
class Cart:
    """What there is to reckon with. Totals are before any discount, and in whole cents."""

    lines: tuple[Line, ...] = ()
    costs: Mapping[str, Decimal] = field(default_factory=dict)
    items_total: Decimal = ZERO
    costs_total: Decimal = ZERO
    item_costs_total: Decimal = ZERO
    codes: tuple[str, ...] = ()
    referral: str = ""
    cards: tuple[str, ...] = ()
    attributes: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, content: Mapping[str, Any], price_of: PriceOf, returned: Mapping[int, int] | None = None) -> "Cart":
        """The cart of a session's content, without what was `returned` (units by position)."""
        items: Sequence[Mapping[str, Any]] = content.get("cartItems", ())
        lines = tuple(
            Line(
                position,
                item["sku"],
                item.get("category") or "",
                # An item without a price has the one of a catalog.
                decimal(price if (price := item.get("price")) is not None else price_of(item["sku"])),
                item["quantity"] - (returned.get(position, 0) if returned else 0),
            )
            for position, item in enumerate(items)
        )
        costs = {name: decimal(cost["price"]) for name, cost in content.get("additionalCosts", _NONE).items()}
        return cls(
            lines=lines,
            costs=costs,
            items_total=money(sum([line.price * line.quantity for line in lines], ZERO)),
            costs_total=money(sum(costs.values(), ZERO)),
            item_costs_total=money(sum(map(_costs_of, items, lines), ZERO)),
            codes=tuple(dict.fromkeys(content.get("couponCodes", ()))),
            referral=content.get("referralCode", ""),
            cards=tuple(content.get("loyaltyCards", ())),
            attributes=content.get("attributes", _NONE),
        )

    @property
    def total(self) -> Decimal:
        """Items and all additional costs."""
        return self.items_total + self.costs_total + self.item_costs_total


_NONE: Mapping[str, Any] = {}


def _costs_of(item: Mapping[str, Any], line: Line) -> Decimal:
    costs = item.get("additionalCosts")
    return line.quantity * sum((decimal(cost["price"]) for cost in costs.values()), ZERO) if costs else ZERO
