"""U14: what a misbehaving upstream may say, and what a caller gets then: `data/responses.jsonl`, played on sockets."""

import asyncio
import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.harness import KEY, OK, Proxy, running

CASES = [json.loads(line) for line in (Path(__file__).parent / "data" / "responses.jsonl").read_text().splitlines()]
REQUEST = b"PUT /v2/customer_sessions/s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}"
# Here the peer closes after its last byte; everywhere else it leaves the connection open.
CLOSING = {"UP-17-chunk-truncated", "UP-18-cl-truncated", "UP-41-eof-delimited", "UP-45-no-response-close"}


async def ask(proxy: Proxy) -> bytes:
    line = await proxy.client()
    await line.send(REQUEST)
    answer = await line.to_end()
    await line.close()
    return answer


def allowed(expect: str) -> list[tuple[str, str | None]]:
    """Read `502|200:A (remark)`: statuses, each with the body it must have."""
    return [(match[1], match[2]) for part in expect.split("|") if (match := re.match(r"(\d{3})(?::([A-Z]+))?", part))]


def check_remark(name: str, answer: bytes, second: bytes) -> None:
    """Hold what the remarks of some cases say beyond status and body."""
    head, _, _ = answer.partition(b"\r\n\r\n")
    assert KEY.encode() not in answer
    assert b"STOLEN" not in answer
    assert b"\r\nCookie:" not in second
    assert second.count(b"\r\nAuthorization: ") == 1
    if name == "UP-20-trailers":
        assert b"Set-Cookie" not in head
    elif name == "UP-27-latin1-value":
        assert b"\r\nX: caf\xe9\r\n" in head
    elif name == "UP-42-redirect-foreign":
        assert b"\r\nLocation: http://127.0.0.1:1/x\r\n" in head
    elif name == "UP-43-set-cookie":
        assert b"\r\nSet-Cookie: sid=SECRET\r\n" in head
    elif name == "UP-44-auth-echo":
        assert b"\r\nX-Echo: " + b"*" * len(KEY) in head


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["id"])
async def test_a_reply_is_treated_as_recorded(case: dict[str, Any]) -> None:
    async with running() as (upstream, proxy):
        upstream.answer = None
        said = [step.encode("latin-1").replace(b"__KEY__", KEY.encode()) for step in case["steps"]]
        said = [step.replace(b"Content-Length: 7", b"Content-Length: %d" % len(KEY)) for step in said]

        asking = asyncio.get_running_loop().create_task(ask(proxy), name="caller")
        first, _ = await upstream.received()
        for step in said:
            await first.send(step)
        if case["id"] in CLOSING:
            await first.close()
        answer = await asking

        asking = asyncio.get_running_loop().create_task(ask(proxy), name="caller")
        other, second = await upstream.received()
        await other.send(OK)
        assert (await asking).startswith(b"HTTP/1.1 200 ")

        head, _, body = answer.partition(b"\r\n\r\n")
        status = head[9:12].decode()
        bodies = [body for name, body in allowed(case["expect"]) if name == status]
        assert bodies, (case["expect"], answer)
        assert status == "502" or any(expected in (None, body.decode("latin-1")) for expected in bodies)
        if status in ("204", "304"):
            assert body == b""
        if status == "502":
            assert b"\r\nTalon-Proxy-Outcome: unknown\r\n" in head
            assert b"\r\nProxy-Status: talon-proxy; error=" in head
        assert (other is first) is (case["conn_reusable"] and status != "502")
        assert len(upstream.requests) == 2  # none was repeated
        check_remark(case["id"], answer, second)
