"""Amounts are exact decimals: money in whole cents, points as they were granted.

JSON numbers come as binary floats. They are read as the decimal that was written (0.1 is one tenth), reckoned
with exactly, and rounded once, where an effect is made: money half up to cents, points down to whole ones. What a
ledger adds up is therefore never rounded.
"""

from decimal import ROUND_DOWN, ROUND_HALF_UP, Decimal

CENT = Decimal("0.01")
ZERO = Decimal(0)


def decimal(number: float | Decimal | None) -> Decimal:
    """The decimal that a JSON number was written as; null counts as 0."""
    if not number:
        return ZERO
    return number if isinstance(number, Decimal) else Decimal(repr(number))


def money(amount: Decimal) -> Decimal:
    """Whole cents, half a cent up."""
    return amount.quantize(CENT, ROUND_HALF_UP)


def whole(amount: Decimal) -> Decimal:
    """Whole points, never more than were earned."""
    return amount.to_integral_value(ROUND_DOWN)


def number(amount: Decimal) -> int | float:
    """The JSON number of an amount: no fraction where there is none."""
    return int(amount) if amount == amount.to_integral_value() else float(amount)
