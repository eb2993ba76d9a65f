"""Talon.One is down for seconds under load, and comes back (P14). `make outage`: for a minute, and judging times."""

import pytest

from tests.outage import WAYS, outage, poisoned

QUICK = {"upstream__timeouts__response": "300ms", "upstream__timeouts__total": "1s"}


@pytest.mark.parametrize("way", WAYS)
async def test_p14_an_outage_costs_few_attempts_fails_in_talon_ones_shape_and_is_over_when_it_is_over(way: str) -> None:
    figures = await outage(way, 4.0, 60, QUICK)

    assert not figures.bad, figures
    assert figures.calls > 60


async def test_p14_one_poisonous_cart_is_felt_by_nobody_else() -> None:
    others, failed = await poisoned(60)

    assert others > 0
    assert failed == 0
