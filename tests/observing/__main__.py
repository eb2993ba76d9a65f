"""`make observe`: a shop, two proxies, a simulated Talon.One and a real Prometheus, to look at until Ctrl-C."""

import asyncio
import itertools
import re
import shutil
import signal
import sys
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from urllib.parse import urlencode

import uvloop

from tests.observing.dashboard import LABEL, load, panels, substituted
from tests.observing.scene import Scene, staged

EVERY = 5.0  # seconds between scrapes
SHOWN = 300.0  # seconds that a link shows
CHOSEN = {"job": ".*", "instance": ".*"}
ALL = re.compile(r"(\{|, )job=~\"\.\*\", instance=~\"\.\*\"\}")  # chooses nothing
CUSTOMERS = 6  # of each shop
BETWEEN = 10.0  # seconds from one incident to the next
# Panels of Grafana's dashboard that are worth a first look.
LINKED = ("Slowest of 100 calls", "By status", "Waiting in line", "Conflicts", "Talon.One by operation, p95")


async def main() -> int:
    """Run the scene until a signal comes."""
    over = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, over.set)
    if shutil.which("prometheus") is None:
        print("observe: the prometheus program is not there", file=sys.stderr)
        return 1
    print("starting; about five seconds", flush=True)
    async with staged(every=f"{EVERY:g}s", cut_off=False) as scene, open_shops(scene):
        print("\n".join(told(scene, await scene.prometheus.pages())), flush=True)
        await over.wait()
        print("\nstopping", flush=True)
    return 0


@asynccontextmanager
async def open_shops(scene: Scene) -> AsyncIterator[None]:
    """Let customers call, and things go wrong at the first proxy, one every now and then."""
    tasks = [asyncio.create_task(shop.customer(name)) for shop in scene.shops for name in range(CUSTOMERS)]
    tasks.append(asyncio.create_task(_go_wrong(scene)))
    try:
        yield
        for task in tasks:
            assert not task.done(), task
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _go_wrong(scene: Scene) -> None:
    for incident in itertools.cycle(scene.shops[0].all_incidents):
        await asyncio.sleep(BETWEEN)
        await incident()


def told(scene: Scene, prometheus: str) -> Iterator[str]:
    """Say where to look; `prometheus` is where its pages are."""
    first, second = scene.proxies
    yield f"""\

Talon.One, simulated    {scene.talon_one}      what arrived: {scene.talon_one}/-/journal
talon-proxy, the first  {first.url}      status: http://{first.admin}/      metrics: http://{first.admin}/metrics
           , the second {second.url}      status: http://{second.admin}/      metrics: http://{second.admin}/metrics
Prometheus              {prometheus}/graph      rules: {prometheus}/rules      alerts: {prometheus}/alerts

Both shops are calling. Every {BETWEEN:.0f} s something goes wrong at the first proxy: parallel updates, a lost
connection, a refused key, another system's updates … The charts fill within a minute:
"""
    for title, link in links(prometheus):
        yield f"  {title}\n    {link}"
    yield f"\nOn the terminal: {sys.executable} -m proxy status --watch --admin.listen {first.admin}"
    yield "\nCtrl-C ends it."


def links(prometheus: str) -> Iterator[tuple[str, str]]:
    """Give charts of Prometheus' own, as the dashboard has them."""
    for panel in panels(load()):
        if panel["title"] in LINKED:
            query = {"g0.expr": charted(panel["targets"]), "g0.tab": "0", "g0.range_input": f"{SHOWN:.0f}s"}
            yield panel["title"], f"{prometheus}/graph?{urlencode(query)}"


def charted(targets: Sequence[Mapping[str, str]]) -> str:
    """Give one expression for all of a panel's; where there are several, each says which it is."""
    expressions = [
        ALL.sub(_without, substituted(target["expr"], scraped_every=EVERY, shown=SHOWN, chosen=CHOSEN))
        for target in targets
    ]
    if len(expressions) == 1:
        return expressions[0]
    names = [LABEL.sub("", target["legendFormat"]).strip() for target in targets]
    named = zip(expressions, names, strict=True)
    return "\nor ".join(f'label_replace({one}, "of", "{name}", "", "")' for one, name in named)


def _without(found: re.Match[str]) -> str:
    return "" if found[1] == "{" else "}"


if __name__ == "__main__":
    sys.exit(uvloop.run(main()))
