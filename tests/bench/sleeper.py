"""An upstream that takes its time: `python -m tests.bench.sleeper PORT` answers every call after 25 ms.

On `select(2)`, because that sleeps to the microsecond; the timers of epoll and uvloop keep to the millisecond.
"""

import asyncio
import selectors
import sys

from tests.bench.workload import SMALL_REPLY, answer
from tests.load import Wire

DELAY = 0.025  # seconds
_BODY = answer(SMALL_REPLY).encode()
_REPLY = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (len(_BODY), _BODY)


class Sleeper(Wire):
    """One connection."""

    def take(self, message: bytes) -> None:
        """Answer later."""
        asyncio.get_running_loop().call_later(DELAY, self.transport.write, _REPLY)


async def _serve(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(Sleeper, "127.0.0.1", port, backlog=1024)
    await server.serve_forever()


def precise_loop() -> asyncio.AbstractEventLoop:
    """A loop that wakes up to the microsecond; for up to a thousand connections."""
    return asyncio.SelectorEventLoop(selectors.SelectSelector())


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=precise_loop) as runner:
        runner.run(_serve(int(sys.argv[1])))
