"""Scrapes over real HTTP: what Prometheus reads of a proxy that serves, and that callers cannot swell it."""

import asyncio
import random
import shutil
import string
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from prometheus_client import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from proxy.observe import document, families
from proxy.observe.exposition import Family, Histogram
from proxy.observe.metrics import PHASES
from tests.certificates import Authority
from tests.harness import OK, PATIENCE, Upstream
from tests.process import Serve, request, serving

OPENMETRICS = "application/openmetrics-text;version=1.0.0"
TRACE = "0af7651916cd43dd8448eb211c80319c"
CALLS = 10_000
AT_ONCE = 25  # below `limits.pipeline`


@pytest.fixture
async def proxy(upstream: Upstream) -> AsyncIterator[Serve]:
    async with serving(upstream.url, log__access="off") as proxy:
        yield proxy


async def scrape(proxy: Serve, accept: str = "*/*") -> bytes:
    answer = await proxy.ask_admin("/metrics", Accept=accept)
    assert answer.status == 200
    return answer.body


def parsed(text: bytes, accept: str) -> list[Metric]:
    parse = parse_openmetrics if accept == OPENMETRICS else parse_text
    return list(parse(text.decode()))


def series(text: bytes) -> set[str]:
    return {line.rpartition(" ")[0] for line in text.decode().splitlines() if not line.startswith("#")}


def odd_requests() -> Iterator[bytes]:
    """Give random calls: some are sent to Talon.One, some refused, some are not even HTTP as we take it."""
    source = random.Random(7)
    for _ in range(CALLS):
        word = "".join(source.choices(string.ascii_letters + string.digits + "%._~-", k=12)).replace("%", "%25")
        prefix = source.choice(("/", "/v1/", "/v2/", "/v3/", "/v2/customer_sessions/", "/app/", "/v1/coupons/"))
        yield request(source.choice(("GET", "PUT", "DELETE", "OPTIONS")), f"{prefix}{word}?{word}={word}", X_Word=word)


async def test_ten_thousand_random_paths_leave_the_number_of_series_unchanged(proxy: Serve) -> None:
    calls = list(odd_requests())
    client = await proxy.client()

    async def make(some: list[bytes]) -> None:
        await client.send(b"".join(some))
        for _ in some:
            await client.message()

    # What the few paths of the table, the methods and the statuses make is there after some hundred.
    for start in range(0, 1_000, AT_ONCE):
        await make(calls[start : start + AT_ONCE])
    before = series(await scrape(proxy))
    for start in range(1_000, CALLS, AT_ONCE):
        await make(calls[start : start + AT_ONCE])
    after = await scrape(proxy)

    assert series(after) == before
    totals = [family for family in parsed(after, "") if family.name == "talon_proxy_requests"]
    assert sum(sample.value for family in totals for sample in family.samples) == CALLS


@pytest.mark.parametrize("accept", ["*/*", OPENMETRICS])
async def test_both_formats_have_every_declared_metric_and_none_besides(proxy: Serve, accept: str) -> None:
    await proxy.ask("PUT", "/v2/customer_sessions/s", b"{}")

    found = {family.name: family for family in parsed(await scrape(proxy, accept), accept)}

    ours = {name for name in found if name.startswith("talon_proxy_")}
    declared = {
        family.name.removesuffix("_total"): family
        for family in vars(families).values()
        if isinstance(family, Family | Histogram)
    }
    assert ours == set(declared)
    for name, family in declared.items():
        assert (found[name].type, found[name].documentation) == (family.kind, family.help)
        labels = {label for sample in found[name].samples for label in sample.labels} - {"le"}
        assert labels in (set(family.labels), set())
    assert {"process_cpu_seconds", "process_open_fds", "python_info", "python_gc_collections"} <= set(found)
    assert not any(name.endswith("_created") for name in found)


async def test_a_trace_leads_from_a_slow_call_to_openmetrics(proxy: Serve) -> None:
    await proxy.ask("PUT", "/v2/customer_sessions/s", b"{}", traceparent=f"00-{TRACE}-b7ad6b7169203331-01")
    await proxy.ask("PUT", "/v2/customer_sessions/s", b"{}", traceparent=f"00-{'1' * 32}-b7ad6b7169203331-00")

    found = [
        (family.name, sample.exemplar.labels)
        for family in parsed(await scrape(proxy, OPENMETRICS), OPENMETRICS)
        for sample in family.samples
        if sample.exemplar is not None
    ]

    assert sorted(found, key=str) == [
        ("talon_proxy_request_duration_seconds", {"trace_id": TRACE}),
        ("talon_proxy_upstream_request_duration_seconds", {"trace_id": TRACE}),
    ]


async def test_every_phase_that_calls_went_through_is_told(tmp_path: Path) -> None:
    """One opens a connection, one stands in line behind it, one finds no room."""
    authority = Authority(tmp_path)
    upstream = await Upstream().start(authority.sign("localhost").server())
    upstream.answer = None
    settings = {
        "upstream__tls__ca_file": str(authority.file),
        "upstream__connections__warm": "0",
        "upstream__protocol": "http/1.1",
        "limits__concurrency": "1",
    }
    async with serving(f"https://localhost:{upstream.port}", **settings) as proxy:

        async def phases() -> dict[str, float]:
            (found,) = [one for one in parsed(await scrape(proxy), "") if one.name == "talon_proxy_phase_seconds"]
            return {one.labels["phase"]: one.value for one in found.samples if one.name.endswith("_count")}

        assert await phases() == dict.fromkeys(PHASES, 0.0)
        calls = [asyncio.create_task(proxy.ask("PUT", "/v2/customer_sessions/one", b"{}"))]
        line, _ = await upstream.received()
        for session, body in (("one", b'{"another": 1}'), ("two", b"{}")):
            calls.append(asyncio.create_task(proxy.ask("PUT", f"/v2/customer_sessions/{session}", body)))
            await until_in_flight(proxy, len(calls))
        for number in range(3):
            await line.send(OK)
            if number < 2:
                line, _ = await upstream.received()

        assert [call.status for call in await asyncio.gather(*calls)] == [200] * 3
        for phase, count in (await phases()).items():
            assert count >= 1, phase
    await upstream.stop()


async def until_in_flight(proxy: Serve, count: int) -> None:
    async with asyncio.timeout(PATIENCE):
        while (await proxy.status())["downstream"]["in_flight"] < count:  # noqa: ASYNC110
            await asyncio.sleep(0.005)


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
async def test_promtool_finds_nothing_to_say(proxy: Serve) -> None:
    await proxy.ask("PUT", "/v2/customer_sessions/s", b"{}")
    text = await scrape(proxy)
    pipe = asyncio.subprocess.PIPE

    promtool = await asyncio.create_subprocess_exec(
        "promtool", "check", "metrics", stdin=pipe, stdout=pipe, stderr=pipe
    )
    out, err = await promtool.communicate(text)

    assert (promtool.returncode, out, err) == (0, b"", b"")


@pytest.mark.parametrize("guide", [document.METRICS, document.LOGS])
def test_guides_have_the_tables_that_the_declarations_make(guide: Path) -> None:
    text = guide.read_text()

    assert text.count("rendered by make docs") == 1
    assert text == document.filled(text), "run make docs"


def test_a_cell_of_a_table_is_one_cell() -> None:
    for columns, table in ((4, document.metrics()), (2, document.fields())):
        for row in table.splitlines():
            assert row.count("|") == columns + 1
