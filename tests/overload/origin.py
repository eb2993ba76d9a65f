"""A Talon.One in a process of its own, which takes so long for each call and any number at a time; prints its port."""

import argparse
import asyncio
import contextlib
import re
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import uvloop

from tests.load import Origin
from tests.process import PROXY_AT, ROOT, Process


@asynccontextmanager
async def origin(latency: float) -> AsyncIterator[str]:
    """Give the URL of one."""
    command = (sys.executable, "-P", "-m", "tests.overload.origin", "--latency", str(latency))
    process = await Process.start(*command, env={"PYTHONPATH": f"{PROXY_AT}:{ROOT}"})
    try:
        found = re.search(r"\d+", await process.line("port "))
        assert found is not None
        yield f"http://127.0.0.1:{found[0]}"
    finally:
        await process.kill()


async def _serve(latency: float) -> None:
    origin = Origin(latency)
    await origin.start()
    print("port", origin.port, flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.overload.origin", description=__doc__)
    parser.add_argument("--latency", type=float, default=0.025, help="seconds")
    with contextlib.suppress(KeyboardInterrupt):
        uvloop.run(_serve(parser.parse_args().latency))
