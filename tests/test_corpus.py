"""Requests that have broken other servers, played at the proxy and judged on both sides.

`data/requests.jsonl` is ours and always runs. The two larger collections are not part of the repository; they run
where a directory `shared/corpus` lies beside it: a part of them each time, all and in all ways with `make corpus`.
"""

import asyncio
import functools
import json
import os
import re
from pathlib import Path
from typing import Any

import pytest

from proxy.wire.downstream import Timeouts
from tests.canonical import smuggled
from tests.harness import Line, running

OURS = Path(__file__).parent / "data" / "requests.jsonl"
CORPUS = Path(__file__).parents[2] / "shared" / "corpus"
TARGET = "/v2/customer_sessions/x"
CANARY = b"GET /v2/customer_sessions/canary HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
FULL = os.environ.get("CORPUS") == "full"
A_PART = 5  # one of so many
PIECES = 400  # at most; with each the proxy has its turn
AT_ONCE = 50
# Silence ends by the proxy's deadlines; no case has to guess how long to wait.
SHORT = Timeouts(head=0.5, body=0.5, write=5.0, keep_alive=1.0)
FINAL = re.compile(rb"HTTP/1\.1 ([2-5]\d\d) ")


def load(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def encoded(step: str) -> bytes:
    """Give the bytes of a step: each character a byte, unless it is text beyond that."""
    try:
        return step.encode("latin-1")
    except UnicodeEncodeError:
        return step.encode("utf-8", "surrogateescape")


async def send(line: Line, step: bytes, *, cut: bool) -> None:
    """Send a step, at once or `cut` into single bytes, or as small as many pieces can be."""
    size = max(len(step) // PIECES, 1) if cut else len(step) or 1
    for start in range(0, len(step), size):
        await line.send(step[start : start + size])
        await asyncio.sleep(0)


async def answers(line: Line, steps: list[bytes], *, cut: bool) -> list[int]:
    """Send the steps, each after the answer to the one before, if one comes, and read to the end."""
    got = b""
    for number, step in enumerate(steps):
        try:
            await send(line, step, cut=cut)
            if number < len(steps) - 1:
                head, _ = await line.message()
                got += head
        except (ConnectionError, asyncio.IncompleteReadError) as error:
            got += getattr(error, "partial", b"")
            break
    got += await line.to_end()
    return [int(status) for status in FINAL.findall(got)]


async def judge(case: dict[str, Any], *, cut: bool = False) -> str:
    """Play a case of a collection; say what is wrong, or nothing."""
    steps = [encoded(step.replace(" / HTTP/", f" {TARGET} HTTP/")) for step in case["steps"]]
    async with running(timeouts=SHORT) as (upstream, proxy):
        line = await proxy.client()
        statuses = await answers(line, steps, cut=cut)
        await line.close()
        seen = upstream.requests

    if wrong := next(filter(None, map(smuggled, seen)), ""):
        return wrong
    if len(seen) > len(steps) or len(statuses) > len(steps):
        return f"{len(seen)} requests sent, {len(statuses)} answers, of {len(steps)}"
    # Of these, only what the proxy does not speak, or a loop, is the caller's fault.
    if any(status >= 500 and status not in (501, 505, 508) for status in statuses):
        return f"{statuses}: a fault of ours"
    expected = case["expect"]
    if expected == "reject" and any(status < 300 for status in statuses):
        return f"{statuses}: taken"
    if expected == "StatusCodeRange.Exact(400)" and statuses and not 400 <= statuses[0] < 500:
        return f"{statuses}: not refused"
    # Our path takes no POST, which is not what these cases are about.
    if expected == "StatusCodeRange.Range2xx" and not (statuses and (statuses[0] < 300 or statuses[0] == 405)):
        return f"{statuses}: refused"
    return ""


async def judge_ours(case: dict[str, Any]) -> str:
    """Play a case of ours with another request behind it; say what is wrong, or nothing."""
    async with running() as (upstream, proxy):
        line = await proxy.client()
        for step in case["steps"]:
            await line.send(encoded(step))
            await asyncio.sleep(0)
        if case.get("ends"):
            line.half_close()
        else:
            await line.send(CANARY)
        statuses = [int(status) for status in FINAL.findall(await line.to_end())]
        await line.close()
        seen = upstream.requests

    if wrong := next(filter(None, map(smuggled, seen)), ""):
        return wrong
    requests = max(case["sent"], 1) if case["status"] else 0
    if len(statuses) != requests + (not case["closes"]):
        return f"{statuses}: not {requests} answers, closed: {case['closes']}"
    if any(status not in case["status"] for status in statuses[:requests]):
        return f"{statuses}, not {case['status']}"
    if len(seen) != case["sent"] + (not case["closes"]):
        return f"{len(seen)} requests reached Talon.One"
    return ""


async def play(cases: list[dict[str, Any]], judged: Any) -> dict[str, str]:
    """Play cases side by side, each with a proxy and an upstream of its own; give those that failed."""
    places = asyncio.Semaphore(AT_ONCE)

    async def one(case: dict[str, Any]) -> tuple[str, str]:
        async with places:
            return case["id"], await judged(case)

    return {name: wrong for name, wrong in await asyncio.gather(*map(one, cases)) if wrong}


async def test_cases_of_our_own() -> None:
    cases = load(OURS)

    assert len({case["id"] for case in cases}) == len(cases) >= 80
    assert await play(cases, judge_ours) == {}


@pytest.mark.skipif(not CORPUS.is_dir(), reason="the collections are not beside the repository (../shared/corpus)")
@pytest.mark.parametrize("name", ["http11probe", "gunicorn"])
async def test_cases_of_others(name: str) -> None:
    cases = [case for case in load(CORPUS / f"{name}.jsonl") if case.get("side", "request") == "request"]

    assert len(cases) > 100
    assert await play(cases if FULL else cases[::A_PART], judge) == {}
    if FULL:
        assert await play(cases, functools.partial(judge, cut=True)) == {}
