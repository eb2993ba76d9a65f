"""The pages of the admin port in a real Chromium: what a person reads, and that the browser has nothing to complain of.

One browser for the module; each look is a tab of its own. Whatever a test looks at, the tab must have asked nobody but
the proxy, and the browser must have found no fault: no error in the console, nothing that the Content-Security-Policy
refused. The last tests need no browser.
"""

import asyncio
import base64
import hashlib
import json
import re
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from proxy.observe import admin
from proxy.observe.admin import Admin, Controls, Probes
from proxy.observe.pages import FILES, NAMES, pages
from proxy.settings import Address
from proxy.simulator.server import Simulator
from tests.browser import CHROMIUM, DESK, PHONE, Browser, Page
from tests.process import Serve, serving

TOKEN = "token-of-the-operators-0123456789"
KEY = "cafe0123456789abcdef0123456789abcdef0123456789abcdef0123456789ab"
SHOWN = "!document.getElementById('told').hidden"
PORT = "127.0.0.1:0"  # a browser knows no Unix sockets
NOWHERE = "http://127.0.0.1:1"  # nobody listens there
# What the browser logs of an answer it did not want, or did not get; where a test expects it.
FAILED_FETCH = "Failed to load resource"

pytestmark = pytest.mark.asyncio(loop_scope="module")
in_a_browser = pytest.mark.skipif(CHROMIUM is None, reason="needs chromium")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser() -> AsyncIterator[Browser]:
    async with Browser.running() as browser:
        yield browser


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shop() -> AsyncIterator[Serve]:
    """A proxy that has served some traffic, also calls at the same time; its key expires in five days."""
    simulator = Simulator(latency=0.02)
    url = f"http://127.0.0.1:{await simulator.start('127.0.0.1', 0)}"
    soon = f"{datetime.now(UTC) + timedelta(days=6):%F}"
    try:
        async with serving(url, admin__listen=PORT, applications__default__expires=soon) as proxy:
            await _traffic(proxy)
            yield proxy
    finally:
        await simulator.stop()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def status(shop: Serve) -> Mapping[str, Any]:
    """What such a proxy tells."""
    answer = await shop.ask_admin("/status?history")
    told: Mapping[str, Any] = answer.json
    return told


async def _traffic(proxy: Serve) -> None:
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as client:

        async def call(method: str, path: str, body: object = None) -> int:
            async with client.request(method, proxy.url + path, json=body) as reply:
                await reply.read()
                return reply.status

        for turn in range(3):
            path = f"/v2/customer_sessions/s{turn}"
            carts = [{"customerSession": {"profileId": "jane", "attributes": {"n": n}}} for n in range(6)]
            assert {200, 400} >= set(await asyncio.gather(*(call("PUT", path, cart) for cart in carts)))
            await asyncio.gather(*(call("GET", path) for _ in range(5)))
        assert await call("GET", "/v1/applications") == 403


@asynccontextmanager
async def seen(
    browser: Browser, url: str, size: tuple[int, int] = DESK, *, dark: bool = False, expected: str | None = None
) -> AsyncIterator[Page]:
    """Open a page, and look at the end whether the browser found fault with it, but for what is `expected`."""
    async with browser.page(f"{url}/", size, dark=dark) as page:
        yield page
        assert [problem for problem in page.problems if expected is None or expected not in problem] == []
        assert {asked.startswith((f"{url}/", "data:")) for asked in page.requests} == {True}, page.requests


def url_of(proxy: Serve) -> str:
    """Give where a browser finds its pages."""
    return f"http://{proxy.admin}"


async def look_again(page: Page) -> None:
    """Let the page ask now, and not when it is time again."""
    await page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")


async def told(page: Page, *ids: str) -> list[str]:
    """Give what these parts of a page say."""
    return [str(await page.evaluate(f"document.getElementById({id_!r}).innerText")) for id_ in ids]


# --- what a person reads ------------------------------------------------------------------------------------------


@in_a_browser
async def test_within_a_minute_one_knows_who_is_slow_which_key_expires_and_what_was_avoided(
    browser: Browser, shop: Serve
) -> None:
    async with seen(browser, url_of(shop)) as page:
        await page.until(SHOWN)

        reasons, time, keys, key, conflicts, calls = await told(
            page, "reasons", "time-more", "keys-short", "keys", "conflicts-short", "calls"
        )
        drawn = await page.evaluate(
            "[...document.querySelectorAll('.chart')].map(each => !!each.querySelector('path'))"
        )

    assert "The key of default expires in 5 days" in reasons
    assert re.search(r"Talon\.One \d+(\.\d+)? ms, .*the proxy itself \d+(\.\d+)? ms", time)
    assert keys == "Yes: that of default in 5 days"
    assert "in 5 days" in key
    assert "…" in key
    avoided = re.fullmatch(r"At most (\d+), since the start .* ago", conflicts)
    assert avoided is not None
    assert int(avoided[1]) > 0
    assert re.search(r"Calls saved\n(?!0 )\d+", calls)
    assert drawn == [True] * 4, "charts know something already"


@in_a_browser
async def test_before_the_first_call_it_says_where_to_call(browser: Browser) -> None:
    simulator = Simulator()
    url = f"http://127.0.0.1:{await simulator.start('127.0.0.1', 0)}"
    async with (
        serving(url, admin__listen=PORT, admin__token=TOKEN) as proxy,
        seen(browser, url_of(proxy), PHONE, dark=True, expected=FAILED_FETCH) as page,
    ):
        await page.until(SHOWN)
        assert await told(page, "headline", "failures") == ["No call has come yet", "Nothing, since the start."]
        assert f"at {proxy.url}." in (await told(page, "reasons"))[0]

        await proxy.change("POST", "/-/drain", Authorization=f"Bearer {TOKEN}")
        await look_again(page)
        await page.until("document.title.includes('shutting down')")
        assert await told(page, "stage") == ["draining"]

        await proxy.stop()
        await look_again(page)
        await page.until("document.title.includes('does not answer')")
        assert await page.evaluate("document.body.classList.contains('stale')")
        assert "what is below is from then" in (await told(page, "reasons"))[0]
    await simulator.stop()


@in_a_browser
async def test_a_broken_upstream_is_the_first_thing_one_reads(browser: Browser) -> None:
    async with serving(NOWHERE, admin__listen=PORT) as proxy, seen(browser, url_of(proxy)) as page:
        await page.until("document.title.includes('Talon.One cannot be reached')")
        assert "No address of upstream.url took the connection" in (await told(page, "reasons"))[0]

        for _ in range(8):
            await proxy.ask("GET", "/v2/customer_sessions/s")
        await look_again(page)
        await page.until("document.getElementById('upstream').innerText.includes('calls are refused at once')")

        level = await page.evaluate("document.getElementById('verdict').dataset.level")
        failures = (await told(page, "failures"))[0]

    assert level == "broken"
    assert "no connection to Talon.One could be opened" in failures
    assert "refused at once, because Talon.One could not be reached lately" in failures


@in_a_browser
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
async def test_a_phone_shows_all_of_it_without_scrolling_sideways(browser: Browser, shop: Serve, dark: bool) -> None:
    async with seen(browser, url_of(shop), PHONE, dark=dark) as page:
        await page.until(SHOWN)
        await page.evaluate("document.querySelectorAll('details').forEach(each => { each.open = true; })")
        await page.until("document.querySelectorAll('#settings tbody tr').length > 2")

        wide = await page.evaluate(
            "[...document.querySelectorAll('body *')].filter(each => !each.closest('.unseen, thead'))"
            ".filter(each => each.getBoundingClientRect().right > innerWidth + 1)"
            ".map(each => each.outerHTML.slice(0, 80))"
        )
        ground = await page.evaluate("getComputedStyle(document.body).backgroundColor")

    assert wide == []
    assert (sum(map(int, re.findall(r"\d+", ground))) < 384) is dark


@in_a_browser
async def test_every_control_and_every_picture_has_a_name(browser: Browser, shop: Serve) -> None:
    async with seen(browser, url_of(shop)) as page:
        await page.until(SHOWN)
        await page.evaluate("document.querySelectorAll('details').forEach(each => { each.open = true; })")
        await page.until("document.querySelector('.chart tbody') && document.querySelector('#settings tbody')")

        nodes = (await page.command("Accessibility.getFullAXTree"))["nodes"]

    named = {
        "button",
        "textbox",
        "searchbox",
        "checkbox",
        "link",
        "image",
        "table",
        "region",
        "heading",
        "columnheader",
    }
    roles = [node["role"]["value"] for node in nodes if not node["ignored"]]
    nameless = [
        node
        for node in nodes
        if not node["ignored"] and node["role"]["value"] in named and not node.get("name", {}).get("value")
    ]
    assert nameless == []
    assert {"button", "searchbox", "checkbox", "image", "table", "heading"} <= set(roles)
    assert roles.count("main") == roles.count("navigation") == 1


@in_a_browser
async def test_settings_are_shown_redacted_and_can_be_searched(browser: Browser, shop: Serve) -> None:
    async with seen(browser, url_of(shop)) as page:
        await page.until(SHOWN)
        await page.evaluate("document.querySelector('#settings-box summary').click()")
        await page.until("document.querySelectorAll('#settings tbody tr').length > 2")
        differing = (await told(page, "settings"))[0]

        await page.evaluate("document.getElementById('settings-all').click()")
        await page.evaluate(
            "{ const find = document.getElementById('settings-find'); find.value = 'LANES.depth';"
            " find.dispatchEvent(new Event('input')); }"
        )
        await page.until("document.querySelectorAll('#settings tbody tr').length === 1")
        found = (await told(page, "settings"))[0]

    assert "applications.default.expires" in differing
    assert "simulator" not in differing
    assert "lanes.depth" not in differing
    assert re.search(r"lanes\.depth\s+32\s+default", found)


# --- from elsewhere -----------------------------------------------------------------------------------------------


@asynccontextmanager
async def telling(status: Mapping[str, Any], token: str | None = None) -> AsyncIterator[str]:
    """An admin listener alone, that tells this; gives its URL."""

    async def none() -> Mapping[str, object]:
        return {}

    async def no_switch(url: str, force: bool) -> Mapping[str, object]:
        return {}

    history = status["history"]
    listener = Admin(
        probes=Probes(tuple, tuple, tuple),
        metrics=lambda accept: (b"", "text/plain"),
        status=lambda: {name: value for name, value in status.items() if name != "history"},
        history=lambda: history,
        controls=Controls(lambda: {"settings": {}}, none, no_switch, dict),
        token=token,
    )
    (address,) = await listener.start([Address.parse("127.0.0.1:0")])
    try:
        yield f"http://{address}"
    finally:
        await listener.stop()


@in_a_browser
async def test_from_another_machine_it_asks_for_the_token_and_keeps_it_in_memory(
    browser: Browser, status: Mapping[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(admin, "_is_local", lambda transport: False)
    form = "document.getElementById('unlock')"

    async def enter(page: Page, token: str) -> None:
        await page.until(f"!{form}.hidden")
        await page.evaluate(f"{form}.elements.token.value = {json.dumps(token)}")
        await page.evaluate(f"{form}.querySelector('button').click()")

    async with telling(status, TOKEN) as url, seen(browser, url, expected=FAILED_FETCH) as page:
        await page.until(f"!{form}.hidden")
        assert await told(page, "headline") == ["This page needs the admin token"]
        assert await page.evaluate(f"document.activeElement === {form}.elements.token")

        await enter(page, "guessed")
        await page.until("document.getElementById('unlock-said').innerText.includes('not accepted')")
        await enter(page, TOKEN)
        await page.until(SHOWN)

        assert await page.evaluate(f"{form}.hidden && {form}.elements.token.value === ''")
        kept = await page.evaluate("JSON.stringify([localStorage, sessionStorage, document.cookie, location.href])")
        assert TOKEN not in kept
        assert not any(TOKEN in asked for asked in page.requests)


@in_a_browser
async def test_what_is_told_never_becomes_markup(browser: Browser, status: Mapping[str, Any]) -> None:
    evil = "<img src=x onerror=alert(1)><script>alert(2)</script>"

    def poisoned(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: poisoned(inner) for name, inner in value.items()}
        if isinstance(value, list):
            return [poisoned(inner) for inner in value]
        # What is a choice of the proxy's own stays; so do moments.
        return evil if isinstance(value, str) and value not in ("closed", "serving") and value[:2] != "20" else value

    async with telling(poisoned(status)) as url, seen(browser, url) as page:
        await page.until(SHOWN)

        text = await page.text()
        added = await page.evaluate("document.querySelectorAll('img, body script:not([type=module])').length")

    assert text.count(evil) > 20
    assert added == 0


# --- what they are made of ----------------------------------------------------------------------------------------


async def test_a_policy_allows_what_the_page_brings_and_nothing_else() -> None:
    for page in pages().values():
        text = page.body.decode()
        inside = {
            base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
            for content in re.findall(r"<(?:style|script)[^>]*>(.*?)</(?:style|script)>", text, re.DOTALL)
        }

        assert inside == set(re.findall(r"'sha256-([^']+)'", page.policy))
        assert "default-src 'none'" in page.policy
        assert "unsafe" not in page.policy
        assert "<!-- " not in text, "every place is filled"


@pytest.mark.parametrize("file", sorted(FILES.iterdir()), ids=lambda file: file.name)
async def test_no_page_reaches_out_or_makes_markup_of_text(file: Any) -> None:
    text = file.read_text()

    assert not re.findall(r"\son\w+=|\sstyle=", text), "an attribute that the policy refuses"
    assert not re.findall(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|localStorage", text)
    assert set(re.findall(r"https?://[^\s\"'>]+", text)) <= {"http://www.w3.org/2000/svg"}


async def test_every_page_is_in_the_navigation() -> None:
    for path, page in pages().items():
        links = re.findall(r'<a href="\./(\w*)"( aria-current=page)?>', page.body.decode())

        assert [link for link, _ in links] == list(NAMES)
        assert [link for link, current in links if current] == [path]


def _colours(css: str) -> Iterable[Mapping[str, str]]:
    light, dark = re.findall(r":root \{(.*?)\}", css, re.DOTALL)
    first = dict(re.findall(r"--([\w-]+): (#\w{6})", light))
    return first, first | dict(re.findall(r"--([\w-]+): (#\w{6})", dark))


def _contrast(one: str, other: str) -> float:
    """As WCAG 2.2 has it."""

    def luminance(colour: str) -> float:
        parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    lighter, darker = sorted((luminance(one), luminance(other)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


TEXTS = [
    *[(text, ground) for text in ("text", "quiet", "link") for ground in ("ground", "surface", "raised")],
    *[(level, f"{level}-ground") for level in ("ok", "idle", "attention", "broken")],
    *[("text", f"{level}-ground") for level in ("ok", "idle", "attention", "broken")],
]
LINES = ["talon-one", "in-line", "connecting", "proxy", "failed", "saved", "focus"]


async def test_colours_can_be_told_from_their_ground() -> None:
    for colours in _colours((FILES / "style.css").read_text()):
        for text, ground in TEXTS:
            assert _contrast(colours[text], colours[ground]) >= 4.5, f"{text} on {ground}"
        for line in LINES:
            assert _contrast(colours[line], colours["surface"]) >= 3, line
