"""The shop that is looked at: customers who buy in peace, and, one after the other, everything that can go wrong.

    async with aiohttp.ClientSession() as client:
        shop = Shop(client, proxy.url, talon_one)
        await asyncio.gather(*(shop.customer(number) for number in range(4)), shop.incidents())

Answers are not judged here: what matters is what the proxy counts.
"""

import asyncio
import itertools
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

import aiohttp

from proxy.simulator.server import DEFAULT_KEY

Fields = Mapping[str, str]
GUESTS = 10  # more sessions than may share a profile unnoticed (lanes.shared_after)
PAUSE = 0.1  # seconds between two calls of a customer
RIVALS = 6  # twice as many as Talon.One takes of a customer at a time


class Shop:
    """Calls one proxy, and, as its rival, Talon.One past it."""

    def __init__(self, client: aiohttp.ClientSession, proxy: str, talon_one: str) -> None:
        self._client = client
        self._proxy = proxy
        self._talon_one = talon_one
        self._numbers = itertools.count()

    # --- in peace ---

    async def customer(self, name: object) -> None:
        """Buy for ever: look, fill the cart, press every button twice, pay."""
        while True:
            session = f"cart-{name}-{next(self._numbers)}"
            await self._get(f"/v1/customer_profiles/{name}/inventory")
            for quantity in range(1, 4):
                await self._update(session, f"customer-{name}", quantity)
                await asyncio.sleep(PAUSE)
            event = {"profileId": f"customer-{name}", "sessionId": session, "type": "seen", "attributes": {}}
            await self._send("POST", "/v2/events", event)
            pressed = [self._update(session, f"customer-{name}", 3, state="closed") for _ in range(2)]
            await asyncio.gather(*pressed)
            await asyncio.sleep(PAUSE)

    async def rush(self) -> None:
        """Update one customer from many pages at once, each otherwise."""
        await asyncio.gather(*(self._update("rush", "jane", quantity) for quantity in range(1, 9)))

    async def guests(self) -> None:
        """Let guests share one profile."""
        await asyncio.gather(*(self._update(f"guest-{number}", "guest", 1) for number in range(GUESTS)))

    # --- what goes wrong ---

    async def incidents(self) -> None:
        """Let everything go wrong once."""
        for incident in self.all_incidents:
            await incident()

    @property
    def all_incidents(self) -> tuple[Callable[[], Coroutine[Any, Any, None]], ...]:
        """Each of them, in the order of their harm."""
        return (
            self.rush,
            self.guests,
            self.unreadable,
            self.impatient,
            self.unavailable,
            self.refused_key,
            self.lost,
            self.rival,
        )

    async def unreadable(self) -> None:
        """Send what is not JSON."""
        await self._send("PUT", "/v2/customer_sessions/unreadable", b"this is no JSON")

    async def impatient(self) -> None:
        """Leave before the answer, and have no time for another one."""
        slow = {"Simulator-Fault": "stall,seconds=0.5"}
        leaving = asyncio.create_task(self._get("/v2/customer_sessions/left", slow))
        await asyncio.sleep(0.1)
        leaving.cancel()
        await asyncio.gather(leaving, return_exceptions=True)
        await self._get("/v2/customer_sessions/short", {**slow, "Talon-Proxy-Timeout-Ms": "200"})

    async def unavailable(self) -> None:
        """Read while Talon.One is down, more often than the budget lets it be tried again."""
        down = {"Simulator-Fault": "503"}
        await asyncio.gather(*(self._get(f"/v2/customer_sessions/down-{number}", down) for number in range(20)))

    async def refused_key(self) -> None:
        """Have the key refused."""
        await self._get("/v2/customer_sessions/refused", {"Simulator-Fault": "401"})

    async def lost(self) -> None:
        """Pay, and hear nothing."""
        await self._update("lost", "joe", 1, {"Simulator-Fault": "reset-after-read"}, state="closed")

    async def rival(self) -> None:
        """Update a customer whom another system keeps busy, until one update finds no place however often it tries."""
        busy = [asyncio.create_task(self._keep_busy("wanted", number)) for number in range(RIVALS)]
        try:
            for number in range(50):
                if await self._update(f"ours-{number}", "wanted", 1) == 409:
                    break
        finally:
            for task in busy:
                task.cancel()
            await asyncio.gather(*busy, return_exceptions=True)

    async def in_vain(self) -> None:
        """Call for ever where Talon.One cannot be reached."""
        for number in itertools.count():
            await self._get(f"/v2/customer_sessions/vain-{number}")
            await asyncio.sleep(PAUSE)

    async def _keep_busy(self, profile: str, number: int) -> None:
        """Take one of the three places that Talon.One has for a profile, again and again, past the proxy."""
        fields = {"Authorization": f"ApiKey-v1 {DEFAULT_KEY}"}
        while True:
            path = f"/v2/customer_sessions/theirs-{number}"
            await self._send("PUT", path, _cart(profile, 1), fields, self._talon_one)
            await asyncio.sleep(0.003)  # a refused one comes back at once

    # --- calls ---

    async def _update(
        self, session: str, profile: str, quantity: int, fields: Fields | None = None, state: str = "open"
    ) -> int:
        return await self._send("PUT", f"/v2/customer_sessions/{session}", _cart(profile, quantity, state), fields)

    async def _get(self, path: str, fields: Fields | None = None) -> int:
        return await self._send("GET", path, None, fields)

    async def _send(
        self,
        method: str,
        path: str,
        body: bytes | Mapping[str, Any] | None,
        fields: Fields | None = None,
        to: str | None = None,
    ) -> int:
        """Make a call; gives its status, or 0 where there is no answer."""
        sent: dict[str, Any] = {"data": body} if isinstance(body, bytes) else {"json": body} if body else {}
        try:
            async with self._client.request(method, f"{to or self._proxy}{path}", headers=fields, **sent) as answer:
                await answer.read()
                return answer.status
        except aiohttp.ClientError:
            return 0


def _cart(profile: str, quantity: int, state: str = "open") -> Mapping[str, Any]:
    item = {"name": "Shoe", "sku": "shoe", "quantity": quantity, "price": 60}
    return {"customerSession": {"profileId": profile, "state": state, "cartItems": [item]}}
