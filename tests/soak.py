"""Very many calls through the real process: `python -m tests.soak --calls 100000`.

Prints calls, errors, the connections that were opened to the upstream, how many calls found one that had served
before, and the memory of the proxy after the first tenth of the calls and at the end. Exit code 1 where a call failed.
"""

import argparse
import ssl
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import uvloop

from tests.bench.accounting import cpu_seconds, read_cpu, read_rss
from tests.certificates import Authority
from tests.load import Load, Origin
from tests.process import Serve, serving

WARM = 2  # upstream.connections.warm


@dataclass(frozen=True, slots=True)
class Soaked:
    """What was found."""

    calls: int
    errors: Counter[str]
    opened: int  # connections to the upstream, as the proxy counts
    accepted: int  # the same, as the upstream counts
    renewed: int  # of those: because another had become too old
    seconds: float
    cpu: float  # seconds of the proxy's
    rss_before: int
    rss_after: int

    @property
    def reuse(self) -> float:
        """Share of the calls that found a connection which had been opened before."""
        return 1 - self.opened / self.calls


async def soak(calls: int, connections: int, *, tls: bool) -> Soaked:
    """Make that many calls."""
    origin = Origin()
    with TemporaryDirectory() as folder:
        settings, context = _secured(Path(folder)) if tls else ({}, None)
        await origin.start(context)
        url = f"{'https' if tls else 'http'}://127.0.0.1:{origin.port}"
        try:
            async with serving(url, **settings) as proxy:
                return await _measured(proxy, origin, calls, connections)
        finally:
            await origin.stop()


def _secured(folder: Path) -> tuple[dict[str, str], ssl.SSLContext]:
    authority = Authority(folder)
    return {"upstream__tls__ca_file": str(authority.file)}, authority.sign("127.0.0.1").server()


async def _measured(proxy: Serve, origin: Origin, calls: int, connections: int) -> Soaked:
    first = Load(calls // 10, connections)
    rest = Load(calls - calls // 10, connections)
    cpu = read_cpu([proxy.pid])
    began = time.perf_counter()
    await first.run(*proxy.address)
    before = read_rss([proxy.pid])
    await rest.run(*proxy.address)
    seconds = time.perf_counter() - began
    pool = (await proxy.status())["upstream"]["connections"]
    return Soaked(
        calls=first.answered + rest.answered,
        errors=first.errors + rest.errors,
        opened=pool["opened"],
        accepted=origin.accepted,
        renewed=pool["closed"].get("age", 0),
        seconds=seconds,
        cpu=cpu_seconds(cpu, read_cpu([proxy.pid])),
        rss_before=before,
        rss_after=read_rss([proxy.pid]),
    )


def main() -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description="Very many calls through the proxy.")
    parser.add_argument("--calls", type=int, default=100_000)
    parser.add_argument("--connections", type=int, default=64, help="of callers; default: %(default)s")
    parser.add_argument("--cleartext", action="store_true", help="no TLS to the upstream")
    options = parser.parse_args()
    found = uvloop.run(soak(options.calls, options.connections, tls=not options.cleartext))
    print(f"calls               {found.calls} in {found.seconds:.1f} s, {found.calls / found.seconds:.0f} a second")
    print(f"errors              {found.errors.total()}{''.join(f', {what}' for what in found.errors)}")
    print(f"connections opened  {found.opened} for {options.connections} callers, {found.renewed} of them renewals")
    print(f"reuse               {found.reuse:.3%}")
    print(f"memory (RSS)        {found.rss_before / 1e6:.1f} MB ⇒ {found.rss_after / 1e6:.1f} MB")
    print(f"CPU of the proxy    {found.cpu / found.calls * 1e6:.0f} µs a call")
    return 0 if not found.errors and found.calls == options.calls else 1


if __name__ == "__main__":
    sys.exit(main())
