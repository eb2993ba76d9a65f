"""Debian's Prometheus in front of the proxies, as `deploy/prometheus/prometheus.yml` sets it up but for addresses.

async with watching([proxy.admin], every="1s") as prometheus:
    samples = await prometheus.ask("sum(talon_proxy_lanes)")
"""

import asyncio
import math
import re
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import aiohttp
import yaml

from tests.process import ROOT, Process

SHIPPED = ROOT / "deploy" / "prometheus" / "prometheus.yml"
RULES = ("recording.yml", "alerts.yml")
KEPT = ("--storage.tsdb.retention.time=1d", "--storage.tsdb.min-block-duration=2h")


@dataclass(frozen=True)
class Series:
    """A series that answers a question; `values` are those that are numbers."""

    labels: Mapping[str, str]
    values: Sequence[float]


class Prometheus:
    """A running Prometheus. Raises aiohttp.ClientResponseError where it does not understand."""

    def __init__(self, url: str, client: aiohttp.ClientSession) -> None:
        self.url = url
        self._client = client

    async def get(self, path: str, **query: str) -> Any:
        """Give `data` of an answer of its API."""
        async with self._client.get(f"{self.url}/api/v1/{path}", params=query) as answer:
            document = await answer.json()
            assert document["status"] == "success", f"{query}: {document['error']}"
            return document["data"]

    async def ask(self, expression: str) -> Sequence[Series]:
        """Evaluate now."""
        data = await self.get("query", query=expression)
        assert data["resultType"] == "vector", expression
        return [Series(series["metric"], _numbers([series["value"]])) for series in data["result"]]

    async def ask_range(self, expression: str, *, seconds: float, step: float) -> Sequence[Series]:
        """Evaluate for each `step` of the last `seconds`."""
        now = float((await self.ask("vector(time())"))[0].values[0])
        data = await self.get("query_range", query=expression, start=str(now - seconds), end=str(now), step=str(step))
        return [Series(series["metric"], _numbers(series["values"])) for series in data["result"]]

    async def pages(self) -> str:
        """Give the URL below which pages for people are: Debian's build has the older ones only."""
        async with self._client.get(f"{self.url}/", allow_redirects=False) as answer:
            first = answer.headers.get("Location", "/graph")
        return self.url + first.rpartition("/")[0]

    async def until_scraped(self, count: int) -> None:
        """Wait until it has got so many proxies' numbers."""
        while await self._scraped() < count:  # noqa: ASYNC110 - it tells nobody when it has
            await asyncio.sleep(0.1)

    async def _scraped(self) -> int:
        return sum(target["health"] == "up" for target in (await self.get("targets"))["activeTargets"])


def _numbers(samples: Iterable[tuple[float, str]]) -> Sequence[float]:
    return [float(value) for _, value in samples if math.isfinite(float(value))]


def configuration(targets: Sequence[str], *, every: str, folder: Path) -> str:
    """Give the shipped configuration, for these proxies and this interval; rules are found from any folder."""
    document = yaml.safe_load(SHIPPED.read_text())
    document["global"] = dict.fromkeys(document["global"], every)
    assert document["rule_files"] == list(RULES)
    document["rule_files"] = [str(folder / name) for name in RULES]
    [job] = document["scrape_configs"]
    job["static_configs"] = [{"targets": list(targets)}]
    return str(yaml.safe_dump(document))


@asynccontextmanager
async def watching(targets: Sequence[str], *, every: str, port: int = 0) -> AsyncIterator[Prometheus]:
    """Give a Prometheus that scrapes these addresses; it is stopped, and what it kept is removed."""
    with TemporaryDirectory() as folder:
        file = Path(folder, "prometheus.yml")
        file.write_text(configuration(targets, every=every, folder=SHIPPED.parent))  # noqa: ASYNC240 - small
        command = ("prometheus", f"--config.file={file}", f"--storage.tsdb.path={folder}/data", *KEPT)
        # It tells its address in its log, which goes to standard error.
        process = await Process.start(
            "sh", "-c", 'exec "$@" 2>&1', "sh", *command, f"--web.listen-address=127.0.0.1:{port}"
        )
        try:
            address = re.search(r"address=(\S+)", await process.line('msg="Listening on"'))
            assert address is not None
            await process.line("ready to receive web requests")
            async with aiohttp.ClientSession() as client:
                yield Prometheus(f"http://{address[1]}", client)
            ended = await process.stop()
            assert ended.code == 0, ended
        finally:
            await process.kill()
