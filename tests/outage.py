"""`make outage`: Talon.One is down for a minute under load, and comes back; on a real process and real sockets.

    python -m tests.outage [--seconds 60] [--rate 100]

Down in three ways: nobody listens, nobody answers, a gateway answers 503. Told of each: how many attempts there were
for the calls made meanwhile, how quickly those failed in its second half, and how long after its end a call still
failed. `tests/test_outage.py` runs the same for seconds, and judges no times.
"""

import argparse
import asyncio
import itertools
import re
import sys
import time
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Self

from tests.fleet import message
from tests.harness import Line
from tests.load import Wire
from tests.process import Answer, Serve, request, serving

WAYS = ("refused", "silent", "503")
RATIO, RECOVERY = 1.2, 2.0  # attempts per call; seconds
POISON = "/v2/customer_sessions/poison"
OK, UNAVAILABLE, FAILED = (message(status, b'{"message": "x"}') for status in (200, 503, 500))


class Host:
    """A Talon.One that is well, or not: then it is down in one of these ways."""

    def __init__(self) -> None:
        self.down = ""
        self.port = 0
        self.asked = 0  # calls that arrived while it was down
        self._wires: set[_HostWire] = set()
        self._server: asyncio.Server

    async def start(self) -> Self:
        """Listen, where it listened before."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _HostWire(self), "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    def stop(self) -> None:
        """Listen no more, and drop whoever is connected."""
        self._server.close()
        for wire in self._wires:
            wire.transport.abort()
        self._wires.clear()

    def fall(self, way: str) -> None:
        """Be down from now on."""
        self.down = way
        if way == "refused":
            self.stop()

    async def rise(self) -> None:
        """Be well again."""
        if self.down == "refused":
            await self.start()
        self.down = ""

    def connected(self, wire: "_HostWire") -> None:
        self._wires.add(wire)

    def answer(self, request: bytes) -> bytes:
        """Answer one call; nothing: not at all."""
        if self.down:
            self.asked += 1
            return UNAVAILABLE if self.down == "503" else b""
        return FAILED if POISON.encode() in request else OK


class _HostWire(Wire):
    def __init__(self, host: Host) -> None:
        super().__init__()
        self._host = host

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._host.connected(self)

    def take(self, message: bytes) -> None:
        self.transport.write(self._host.answer(message))


@dataclass(frozen=True)
class Made:
    """One call of the shop; moments in seconds."""

    started: float
    ended: float
    status: int
    fine: bool  # an answer of Talon.One's, or in its shape


class Shop:
    """Calls at a steady rate, whatever becomes of them; each about a session of its own."""

    def __init__(self, proxy: Serve, rate: float) -> None:
        self.made: list[Made] = []
        self._proxy = proxy
        self._every = 1 / rate
        self._idle: list[Line] = []
        self._numbers = itertools.count()
        self._calls: set[asyncio.Task[None]] = set()
        self._calling: asyncio.Task[None]

    def open(self) -> None:
        """Begin."""
        self._calling = asyncio.create_task(self._keep_calling(), name="shop")

    async def close(self) -> None:
        """Call no more, and wait for the answers to come."""
        self._calling.cancel()
        await asyncio.wait((self._calling, *self._calls))

    async def _keep_calling(self) -> None:
        due = time.monotonic()
        while True:
            task = asyncio.create_task(self._call(), name="call")
            self._calls.add(task)
            task.add_done_callback(self._calls.discard)
            due += self._every
            await asyncio.sleep(max(due - time.monotonic(), 0))

    async def _call(self) -> None:
        line = self._idle.pop() if self._idle else await self._proxy.client()
        started = time.monotonic()
        line.writer.write(request("PUT", f"/v2/customer_sessions/{next(self._numbers)}", b"{}"))
        head = (await line.reader.readuntil(b"\r\n\r\n")).decode()  # it may well take longer than tests are patient
        answer = Answer(head, await line.exactly(int(Answer(head, b"").field("Content-Length"))))
        shape = {"message", "errors", "StatusCode"} if answer.field("Proxy-Status") else {"message"}
        fine = shape <= set(answer.json)
        self.made.append(Made(started, time.monotonic(), answer.status, fine))
        self._idle.append(line)


@dataclass(frozen=True)
class Figures:
    """What an outage looked like. Times in seconds."""

    way: str
    calls: int  # while it was down
    attempts: int
    out_of_shape: int
    fast: float  # p99 of the failures of the last half of it
    recovery: float  # until the last call was made that failed
    after: int  # calls made later than that, all of which succeeded

    def __str__(self) -> str:
        ratio = self.attempts / self.calls
        return (
            f"down ({self.way}): {self.calls} calls, {ratio:.2f} attempts per call, {self.out_of_shape} out of shape,"
            f" p99 of a failure {self.fast * 1000:.1f} ms, recovered after {self.recovery:.2f} s,"
            f" then {self.after} calls without a failure"
        )

    @property
    def bad(self) -> bool:
        """Something is not as it should be, but for times."""
        return self.attempts > RATIO * self.calls or self.out_of_shape > 0 or not self.after


async def outage(way: str, seconds: float, rate: float, settings: Mapping[str, str]) -> Figures:
    """Let a host be down for so long while a shop calls."""
    async with AsyncExitStack() as stack:
        host = await Host().start()
        stack.callback(host.stop)
        proxy = await stack.enter_async_context(serving(f"http://127.0.0.1:{host.port}", log__access="off", **settings))
        shop = Shop(proxy, rate)
        shop.open()
        stack.push_async_callback(shop.close)
        await asyncio.sleep(1.0)
        before = await tries(proxy)
        began = time.monotonic()
        host.fall(way)
        await asyncio.sleep(seconds)
        await host.rise()
        back = time.monotonic()
        attempts = await tries(proxy) - before
        await asyncio.sleep(2 * RECOVERY)
        await shop.close()
        meanwhile = [made for made in shop.made if began <= made.started < back]
        late = [made for made in meanwhile if made.started > (began + back) / 2]
        later = [made for made in shop.made if made.started >= back]
        last = max((made.started for made in later if made.status != 200), default=back)
        return Figures(
            way,
            len(meanwhile),
            max(attempts, host.asked),
            sum(not made.fine for made in shop.made),
            percentile([made.ended - made.started for made in late if made.status != 200]),
            last - back,
            sum(made.started > last for made in later),
        )


async def tries(proxy: Serve) -> int:
    """Give how many attempts there were so far: of every call that was not refused one, and those made again."""
    text = (await proxy.ask_admin("/metrics")).body.decode()

    def total(name: str) -> float:
        return sum(float(found) for found in re.findall(rf"(?m)^talon_proxy_{name}(?:{{.*}})? (\S+)$", text))

    return int(total("requests_total") - total("refused_total") + total("upstream_retries_total"))


def percentile(times: list[float], share: float = 0.99) -> float:
    return sorted(times)[int(share * (len(times) - 1))] if times else 0.0


async def poisoned(rate: float) -> tuple[int, int]:
    """Let one cart be answered with 500 again and again. Gives how many others called, and how many of them failed."""
    async with AsyncExitStack() as stack:
        host = await Host().start()
        stack.callback(host.stop)
        proxy = await stack.enter_async_context(serving(f"http://127.0.0.1:{host.port}", log__access="off"))
        shop = Shop(proxy, rate)
        shop.open()
        stack.push_async_callback(shop.close)
        statuses = [(await proxy.ask("PUT", POISON, b"{}")).status for _ in range(30)]
        assert statuses == [500] * 30, statuses
        await shop.close()
        return len(shop.made), sum(made.status != 200 for made in shop.made)


async def _main(options: argparse.Namespace) -> int:
    wrong = 0
    for way in WAYS:
        found = await outage(way, options.seconds, options.rate, {})
        print(found, flush=True)
        wrong += found.bad or found.recovery > RECOVERY
    others, failed = await poisoned(options.rate)
    print(f"30 answers 500 for one cart: {failed} of {others} calls about others failed")
    return 1 if wrong or failed else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.outage")
    parser.add_argument("--seconds", type=float, default=60.0, help="for which it is down")
    parser.add_argument("--rate", type=float, default=100.0, help="calls a second")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(asyncio.run(_main(_options())))
