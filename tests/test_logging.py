"""The log of a proxy that serves: what a reload changes of it, and what it says of calls that took long."""

import asyncio
import json
import signal
from pathlib import Path
from typing import Any

from tests.harness import OK, PATIENCE, Upstream
from tests.process import Serve, serving

KEY = "0123456789abcdef0123456789abcdef"
TRACE = "0af7651916cd43dd8448eb211c80319c"
CALL = '"msg":"call"'


def lines(proxy: Serve, msg: str) -> list[dict[str, Any]]:
    return [entry for entry in map(json.loads, proxy.out.splitlines()) if entry["msg"] == msg]


async def test_a_reload_changes_which_calls_and_which_events_are_written(upstream: Upstream, tmp_path: Path) -> None:
    text = f'api_key = "{KEY}"\n[upstream]\nurl = "{upstream.url}"\n[log]\n'
    file = tmp_path / "talon-proxy.toml"
    file.write_text(text + 'access = "off"\n')
    file.chmod(0o600)

    async with serving(None, config=str(file)) as proxy:

        async def follow(log: str) -> None:
            before = (await proxy.status())["settings"]
            file.write_text(text + log)
            proxy.send(signal.SIGHUP)
            async with asyncio.timeout(PATIENCE):
                while (await proxy.status())["settings"] == before:  # noqa: ASYNC110 - the log may say nothing of it
                    await asyncio.sleep(0.01)

        async def call(name: str, target: str = "/v2/customer_sessions/s") -> None:
            await proxy.ask("GET", target, X_Request_Id=name)

        await call("off")
        await call("off, failed", "/nothing")
        await follow('access = "all"\n')
        await call("all")
        await follow('access = "errors"\nlevel = "error"\n')
        await call("errors")
        await call("errors, failed", "/nothing")
        await follow('access = "sample:1"\nlevel = "error"\n')
        await call("sampled")
        await follow('access = "slow"\nlevel = "info"\n')
        await call("slow")
        await proxy.line('["log.level","log.access"]')

        assert [entry["request_id"] for entry in lines(proxy, "call")] == ["all", "errors, failed", "sampled"]
        # What calls leave is the business of log.access alone; what happens, of log.level. The file is watched too: a
        # reload that found nothing new may be told besides.
        assert [entry["changed"] for entry in lines(proxy, "settings reloaded") if entry["changed"]] == [
            ["log.access"],
            ["log.level", "log.access"],
        ]


async def test_a_line_has_every_field_that_is_known(upstream: Upstream) -> None:
    async with serving(upstream.url, log__access="all") as proxy:
        trace = f"00-{TRACE}-b7ad6b7169203331-00"
        await proxy.ask("PUT", "/v2/customer_sessions/s?dry=true", b"{}", X_Request_Id="r", traceparent=trace)

        entry = json.loads(await proxy.line(CALL))

    numbers = {name: entry.pop(name) for name in ("ts", "duration_ms", "upstream_ms", "overhead_ms", "reused")}
    assert numbers["duration_ms"] >= numbers["upstream_ms"] > 0
    assert entry == {
        "level": "info",
        "msg": "call",
        "request_id": "r",
        "trace_id": TRACE,
        "method": "PUT",
        "operation": "updateCustomerSessionV2",
        "status": 200,
        "admission": 1,
        "coalesced": False,
        "retries": 0,
        "protocol": "http/1.1",
        "bytes_in": 2,
        "bytes_out": 2,
        "application": "default",
    }


async def test_who_shares_an_answer_names_the_call_that_was_made_for_it(upstream: Upstream) -> None:
    upstream.answer = None
    async with serving(upstream.url, log__access="all") as proxy:
        first = asyncio.create_task(proxy.ask("PUT", "/v2/customer_sessions/s", b"{}", X_Request_Id="first"))
        line, _ = await upstream.received()
        second = asyncio.create_task(proxy.ask("PUT", "/v2/customer_sessions/s", b"{}", X_Request_Id="second"))
        async with asyncio.timeout(PATIENCE):
            while (await proxy.status())["downstream"]["in_flight"] < 2:  # noqa: ASYNC110
                await asyncio.sleep(0.005)
        await line.send(OK)
        await asyncio.gather(first, second)
        told = [json.loads(await proxy.line(f'"request_id":"{name}"')) for name in ("first", "second")]

    assert [(entry["coalesced"], entry.get("leader")) for entry in told] == [(False, None), (True, "first")]


async def test_a_call_that_took_long_says_what_it_waited_for(upstream: Upstream) -> None:
    """One waits for an answer that does not come, the next one in line behind it."""
    upstream.answer = None
    async with serving(upstream.url) as proxy:

        async def call(name: str, items: bytes) -> int:
            answer = await proxy.ask(
                "PUT", "/v2/customer_sessions/s", items, X_Request_Id=name, Talon_Proxy_Timeout_Ms="1000"
            )
            return answer.status

        first = asyncio.create_task(call("first", b'{"customerSession": {"state": "open"}}'))
        await upstream.received()
        second = asyncio.create_task(call("second", b'{"customerSession": {"state": "closed"}}'))
        assert [await first, await second] == [504, 504]
        told = {
            name: json.loads(await proxy.line(f'"{name}"')) for name in ("first", "second")
        }  # written in no certain order

        assert {name: (entry["msg"], entry["dominated"]) for name, entry in told.items()} == {
            "first": ("slow call", "ttfb"),
            "second": ("slow call", "lane"),
        }
        assert told["first"]["why"].endswith("ms: Talon.One, until the first byte of its answer")
        assert told["second"]["why"].endswith("ms: waiting for earlier writes of the same session or profile")
        assert told["second"]["spent_lane_ms"] >= 900.0
        assert b"talon_proxy_lane_wait_seconds_count 1.0" in (await proxy.ask_admin("/metrics")).body
