"""A real Chromium without a window, driven by the DevTools protocol: what a person would see of a page, and whether the
browser complains.

    async with Browser.running() as browser, browser.page("http://127.0.0.1:7411/") as page:
        await page.until("document.title.includes('All is well')")
        assert page.problems == []

Names do not resolve in it but for loopback, so that no page can reach the outside. Waits happen in the page, are for
something, and are bounded by `PATIENCE`.
"""

import asyncio
import base64
import contextlib
import itertools
import json
import os
import shutil
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from tempfile import TemporaryDirectory
from typing import Any

import aiohttp

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
PATIENCE = 30.0  # seconds; a browser on a busy machine takes some to start
PHONE = (390, 844)
DESK = (1280, 1000)
_FLAGS = (
    "--headless=new",
    "--remote-debugging-port=0",
    "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1",
    "--no-first-run",
    "--no-default-browser-check",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-extensions",
    "--disable-sync",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--hide-scrollbars",
    "--mute-audio",
)


class Page:
    """A tab. `requests` are the URLs it asked for, `problems` what the browser complained of."""

    def __init__(self, browser: "Browser", session: str) -> None:
        self._browser = browser
        self._session = session
        self.requests: list[str] = []
        self.problems: list[str] = []
        self.loaded = asyncio.Event()

    async def command(self, method: str, **given: Any) -> Any:
        """Give a command of the DevTools protocol to this tab."""
        return await self._browser.command(method, given, self._session)

    def happened(self, method: str, told: Mapping[str, Any]) -> None:
        """An event of this tab."""
        match method:
            case "Page.loadEventFired":
                self.loaded.set()
            case "Network.requestWillBeSent":
                self.requests.append(told["request"]["url"])
            case "Runtime.exceptionThrown":
                details = told["exceptionDetails"]
                self.problems.append(details.get("exception", {}).get("description") or details["text"])
            case "Runtime.consoleAPICalled" if told["type"] in ("error", "warning", "assert"):
                self.problems.append(" ".join(str(part.get("value")) for part in told["args"]))
            case "Log.entryAdded" if told["entry"]["level"] in ("error", "warning"):
                self.problems.append(f"{told['entry']['text']} {told['entry'].get('url', '')}")
            case "Audits.issueAdded" if told["issue"]["code"] != "PerformanceIssue":
                self.problems.append(json.dumps(told["issue"]))

    async def evaluate(self, expression: str) -> Any:
        """Give the value of an expression, of a promise what it comes to."""
        told = await self.command(
            "Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True, userGesture=True
        )
        assert "exceptionDetails" not in told, told["exceptionDetails"]
        return told["result"].get("value")

    async def until(self, condition: str) -> None:
        """Wait for a condition of the page."""
        try:
            async with asyncio.timeout(PATIENCE):
                await self.evaluate(
                    "new Promise(done => { const look = () => "
                    f"{{ if ({condition}) {{ done(true); }} else {{ setTimeout(look, 30); }} }}; look(); }})"
                )
        except TimeoutError:
            text = await self.text()
            raise AssertionError(f"never: {condition}\n{self.problems}\n{text}") from None

    async def text(self) -> str:
        """Give what the page says, as a person would copy it."""
        return str(await self.evaluate("document.body.innerText"))

    async def look(self, width: int, height: int, *, dark: bool = False) -> None:
        """Be a screen of this size, with or without a wish for darkness."""
        await self.command(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        await self.command("Emulation.setEmulatedMedia", features=[scheme])

    async def picture(self) -> bytes:
        """Give what it looks like, from top to end, as PNG."""
        told = await self.command("Page.captureScreenshot", format="png", captureBeyondViewport=True)
        return base64.b64decode(told["data"])


class Browser:
    """One Chromium; every page is in a context of its own, as if nobody had used it before."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._numbers = itertools.count(1)
        self._asked: dict[int, asyncio.Future[Any]] = {}
        self._pages: dict[str, Page] = {}

    @classmethod
    @asynccontextmanager
    async def running(cls) -> AsyncIterator["Browser"]:
        """Give a browser that runs, and end it."""
        assert CHROMIUM is not None
        # What it leaves running for a moment may still write there.
        with TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            # Chromium's sandbox does not work for root.
            flags = [*_FLAGS, *(["--no-sandbox"] if os.geteuid() == 0 else []), f"--user-data-dir={folder}"]
            process = await asyncio.create_subprocess_exec(
                CHROMIUM,
                *flags,
                "about:blank",
                env={"PATH": os.environ.get("PATH", ""), "HOME": folder},
                stdout=DEVNULL,
                stderr=PIPE,
                start_new_session=True,
            )
            draining: asyncio.Task[None] | None = None
            try:
                url = await _endpoint(process)
                draining = asyncio.create_task(_drain(process), name="chromium's messages")
                async with aiohttp.ClientSession() as client, client.ws_connect(url, max_msg_size=0) as socket:
                    browser = cls(socket)
                    reading = asyncio.create_task(browser._read(), name="chromium")
                    yield browser
                    with contextlib.suppress(ConnectionError):
                        await browser.command("Browser.close", {}, None)
                    await reading
            finally:
                if process.returncode is None:
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(5.0):
                            await process.wait()
                if process.returncode is None:
                    process.kill()
                    await process.wait()
                if draining is not None:
                    await draining

    @asynccontextmanager
    async def page(self, url: str, size: tuple[int, int] = DESK, *, dark: bool = False) -> AsyncIterator[Page]:
        """Open a page, and close it."""
        context = (await self.command("Target.createBrowserContext", {}, None))["browserContextId"]
        made = await self.command("Target.createTarget", {"url": "about:blank", "browserContextId": context}, None)
        target = {"targetId": made["targetId"], "flatten": True}
        session = (await self.command("Target.attachToTarget", target, None))["sessionId"]
        page = self._pages[session] = Page(self, session)
        for room in ("Network", "Runtime", "Log", "Audits", "Page"):
            await page.command(f"{room}.enable")
        await page.look(*size, dark=dark)
        await page.command("Page.navigate", url=url)
        try:
            async with asyncio.timeout(PATIENCE):
                await page.loaded.wait()
            yield page
        finally:
            await self.command("Target.disposeBrowserContext", {"browserContextId": context}, None)

    async def command(self, method: str, given: Mapping[str, Any], session: str | None) -> Any:
        """Give a command, to one tab or (None) to the browser, and wait for what it says."""
        number = next(self._numbers)
        answer = self._asked[number] = asyncio.get_running_loop().create_future()
        message = {"id": number, "method": method, "params": given} | ({"sessionId": session} if session else {})
        await self._socket.send_json(message)
        async with asyncio.timeout(PATIENCE):
            return await answer

    async def _read(self) -> None:
        async for message in self._socket:
            told = message.json()
            if "id" in told:
                self._answered(self._asked.pop(told["id"]), told)
            elif (page := self._pages.get(told.get("sessionId", ""))) is not None:
                page.happened(told["method"], told["params"])
        for answer in self._asked.values():
            if not answer.done():
                answer.set_exception(ConnectionError("the browser has ended"))

    def _answered(self, answer: "asyncio.Future[Any]", told: Mapping[str, Any]) -> None:
        if answer.cancelled():
            return
        if "error" in told:
            answer.set_exception(AssertionError(told["error"]["message"]))
        else:
            answer.set_result(told["result"])


async def _endpoint(process: asyncio.subprocess.Process) -> str:
    """Wait until it says where it listens."""
    assert process.stderr is not None
    said = []
    async with asyncio.timeout(PATIENCE):
        async for line in process.stderr:
            said.append(line.decode(errors="replace"))
            _, found, url = said[-1].partition("DevTools listening on ")
            if found:
                return url.strip()
    raise AssertionError(f"Chromium did not start:\n{''.join(said)}")


async def _drain(process: asyncio.subprocess.Process) -> None:
    assert process.stderr is not None
    while await process.stderr.read(1 << 16):
        pass
