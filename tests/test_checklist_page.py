"""The page `/checklist` in a real Chromium: what a person reads who knows nothing else."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import pytest_asyncio

from proxy.simulator.server import Simulator
from tests.browser import CHROMIUM, DESK, PHONE, Browser, Page
from tests.process import Serve, serving
from tests.test_checklist_live import CART, looked

FIXES = "[...document.querySelectorAll('#fixes-list h3')].map(each => each.firstChild.textContent)"
SHOWN = "document.querySelectorAll('.rule').length > 30"
OUTSIDE = (
    "[...document.querySelectorAll('body *')].filter(each => !each.closest('.unseen, .scroll'))"
    ".filter(each => each.getBoundingClientRect().right > innerWidth + 1).map(each => each.outerHTML.slice(0, 80))"
)

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.skipif(CHROMIUM is None, reason="needs chromium"),
]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser() -> AsyncIterator[Browser]:
    async with Browser.running() as browser:
        yield browser


@asynccontextmanager
async def proxy(**settings: str) -> AsyncIterator[Serve]:
    simulator = Simulator()
    url = f"http://127.0.0.1:{await simulator.start('127.0.0.1', 0)}"
    try:
        async with serving(url, admin__listen="127.0.0.1:0", checklist__replies="1", **settings) as proxy:
            yield proxy
    finally:
        await simulator.stop()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shop() -> AsyncIterator[Serve]:
    """A careless shop: mail addresses for session ids, an attribute nobody created, dry calls without a cart."""
    async with proxy(checklist__acknowledged="connections.callers=one call each, on purpose") as careless:
        for number in range(12):
            await careless.ask("PUT", f"/v2/customer_sessions/jane.{number}%40shop.example", CART % number)
            await careless.ask("PUT", f"/v2/customer_sessions/cart-{number}?dry=true", b'{"customerSession": {}}')
            odd = b'{"customerSession": {"attributes": {"Favourite": "<img src=x onerror=alert(1)>"}}}'
            await careless.ask("PUT", f"/v2/customer_sessions/cart-{number}", odd)
        await looked(careless, 36)
        yield careless


@asynccontextmanager
async def seen(
    browser: Browser, proxy: Serve, size: tuple[int, int] = DESK, *, rule: str = "", dark: bool = False
) -> AsyncIterator[Page]:
    """Open the page, and look at the end whether the browser found fault with it."""
    async with browser.page(f"http://{proxy.admin}/checklist#{rule}", size, dark=dark) as page:
        await page.until(SHOWN)
        yield page
        assert page.problems == []
        assert all(asked.startswith((f"http://{proxy.admin}/", "data:")) for asked in page.requests), page.requests


async def test_the_three_most_valuable_fixes_are_the_first_thing_one_reads(browser: Browser, shop: Serve) -> None:
    async with seen(browser, shop) as page:
        headline = await page.evaluate("document.querySelector('#verdict h1').textContent")
        fixes = await page.evaluate(FIXES)
        top = await page.evaluate("document.getElementById('fixes').getBoundingClientRect().bottom")
        remedies = await page.evaluate("[...document.querySelectorAll('#fixes .do')].map(each => each.textContent)")
        points = await page.evaluate("[...document.querySelectorAll('.point h2')].map(each => each.textContent)")

    assert headline.startswith("1 problem, ")
    assert fixes == [
        "Attributes exist before they are sent",
        "Dry updates bring the cart",
        "Session ids are not mail addresses",
    ]
    assert top < DESK[1], "without scrolling"
    assert "Create them in the Campaign Manager first" in remedies[0]
    assert points[0].startswith("Backend only")
    assert points[-1].startswith("Operation 3")


async def test_evidence_unfolds_and_stays_unfolded(browser: Browser, shop: Serve) -> None:
    async with seen(browser, shop, rule="attributes.undefined") as page:
        await page.until("document.getElementById('attributes.undefined').open")
        evidence = await page.evaluate("document.getElementById('attributes.undefined').innerText")
        await page.evaluate("document.getElementById('attributes.undefined').dataset.old = 'yes'")
        await page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
        await page.until("!document.getElementById('attributes.undefined').dataset.old")
        still = await page.evaluate("document.getElementById('attributes.undefined').open")
        await page.evaluate("document.querySelectorAll('#inventory details').forEach(each => { each.open = true; })")
        lists = (await page.evaluate("document.getElementById('inventory').innerText")).splitlines()

    assert still
    assert "12 of 12 broken (100 %)" in evidence
    assert "/attributes/Favourite" in evidence
    assert "updateCustomerSessionV2" in evidence
    assert "Request ids" in evidence
    assert any("CustomerSession.Favourite: string" in rows for rows in lists)
    assert "onerror" not in f"{evidence}{lists}"


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
async def test_a_phone_shows_all_of_it_without_scrolling_sideways(browser: Browser, shop: Serve, dark: bool) -> None:
    async with seen(browser, shop, PHONE, dark=dark) as page:
        await page.evaluate("document.querySelectorAll('details').forEach(each => { each.open = true; })")

        assert await page.evaluate(OUTSIDE) == []


async def test_before_the_first_call_and_while_it_is_off_it_says_so(browser: Browser) -> None:
    async with proxy() as quiet, seen(browser, quiet) as page:
        assert await page.evaluate("document.querySelector('#verdict h1').textContent") == "No call has come yet"
    async with proxy(checklist__enabled="false") as off, browser.page(f"http://{off.admin}/checklist", DESK) as page:
        await page.until("document.querySelector('#verdict p').textContent.includes('The checklist is off')")
