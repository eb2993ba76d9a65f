"""What faults do to a connection, seen from its other end."""

import asyncio
import time
from collections.abc import AsyncIterator

import orjson
import pytest

from proxy.simulator.delivery import GARBAGE
from proxy.simulator.server import Simulator
from tests.harness import Line, patiently
from tests.simulated import Gate, Talon, running, session

CART = "/v2/customer_sessions/cart"


@pytest.fixture
async def talon() -> AsyncIterator[Talon]:
    async with running(Simulator()) as talon:
        yield talon


def put(fault: str | None = None, *, body: bytes = orjson.dumps(session()), length: int | None = None) -> bytes:
    """A PUT of the cart as bytes; its body may be shorter than it says."""
    asked = f"Simulator-Fault: {fault}\r\n" if fault else ""
    head = (
        f"PUT {CART} HTTP/1.1\r\nHost: t\r\nAuthorization: ApiKey-v1 simulator\r\n{asked}"
        f"Content-Length: {len(body) if length is None else length}\r\n\r\n"
    )
    return head.encode() + body


async def reset(line: Line) -> bool:
    """Read to the end; whether that was an RST, and nothing came before it."""
    try:
        rest = await patiently(line.reader.read())
    except ConnectionResetError:
        return True
    assert rest == b""
    return False


async def updates(talon: Talon) -> int:
    """How often the cart was really updated."""
    status, answer = await talon.call("GET", CART)
    return int(answer["customerSession"]["updateCount"]) if status == 200 else 0


async def test_a_reset_before_the_call_was_read_leaves_no_trace_of_it(talon: Talon) -> None:
    line = await talon.line()

    await line.send(put("reset-before-read", body=b"", length=99))

    assert await reset(line)
    assert await talon.journal() == []
    assert (await talon.stats())["faults"] == {"reset-before-read": 1}
    assert await updates(talon) == 0


@pytest.mark.parametrize(
    ("fault", "carried_out", "outcome"),
    [("reset-after-read", 1, "applied"), ("reset-after-read,executed=no", 0, "faulted")],
)
async def test_a_reset_after_the_call_was_read(talon: Talon, fault: str, carried_out: int, outcome: str) -> None:
    line = await talon.line()

    await line.send(put(fault))

    assert await reset(line)
    entry = (await talon.journal())[0]
    assert (entry["fault"], entry["outcome"]) == (fault, outcome)
    assert await updates(talon) == carried_out


async def test_a_stalled_answer_comes_after_its_time(talon: Talon) -> None:
    began = time.monotonic()

    status, _ = await talon.call("PUT", CART, session(), headers=talon.key | {"Simulator-Fault": "stall,seconds=0.05"})

    assert status == 200
    assert time.monotonic() - began >= 0.049


async def test_a_stalled_call_holds_no_place_and_ends_with_its_caller(talon: Talon) -> None:
    line = await talon.line()
    await line.send(put("stall"))
    await talon.arrived(1)

    assert (await talon.call("PUT", CART, session()))[0] == 200
    assert len(talon.simulator.turns) == 0

    line.reset()
    while (await talon.stats())["connections"]["open"] > 1:
        pass
    assert await updates(talon) == 2


async def test_a_stall_without_execution_ends_in_nothing(talon: Talon) -> None:
    line = await talon.line()

    await line.send(put("stall,executed=no,seconds=0.01"))

    assert await line.to_end() == b""
    assert await updates(talon) == 0


async def test_stopping_does_not_wait_for_a_stalled_call() -> None:
    async with running(Simulator()) as talon:
        line = await talon.line()
        await line.send(put("stall"))
        await talon.arrived(1)

        await talon.simulator.stop(grace=0.01)

        assert b"200 OK" not in await line.to_end()


async def test_a_slow_body_comes_in_pieces_and_whole(talon: Talon) -> None:
    line = await talon.line()
    await line.send(put("slow-body,seconds=0.05"))

    head, body = await line.message()

    assert b"Server: talon-proxy-simulator\r\n" in head
    assert orjson.loads(body)["effects"] == []
    await line.send(put())
    assert (await line.head()).startswith(b"HTTP/1.1 200 OK\r\n"), "the connection can still be used"


async def test_the_head_of_a_slow_body_comes_at_once(talon: Talon) -> None:
    line = await talon.line()

    await line.send(put("slow-body,seconds=3600"))

    assert b"Content-Length: " in await line.head()
    await line.close()


async def test_a_truncated_body_is_cut_off_in_the_middle(talon: Talon) -> None:
    line = await talon.line()
    await line.send(put("truncated-body"))

    head, _, body = (await line.to_end()).partition(b"\r\n\r\n")

    whole = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
    assert len(body) == whole // 2 > 0
    assert await updates(talon) == 1


@pytest.mark.parametrize("status", [500, 502, 503, 504, 429, 401])
async def test_a_status_replaces_what_would_be_carried_out(talon: Talon, status: int) -> None:
    answer = await talon.call("PUT", CART, session(), headers=talon.key | {"Simulator-Fault": str(status)})

    assert answer == (status, {"message": f"A simulated fault: {status}", "errors": None, "StatusCode": status})
    assert await updates(talon) == 0


async def test_a_status_can_hide_that_the_call_was_carried_out(talon: Talon) -> None:
    answer = await talon.call("PUT", CART, session(), headers=talon.key | {"Simulator-Fault": "502,executed=yes"})

    assert answer[0] == 502
    assert (await talon.journal())[0]["status"] == 200
    assert await updates(talon) == 1


async def test_a_status_can_say_when_to_come_again(talon: Talon) -> None:
    line = await talon.line()

    await line.send(put("503,retry_after=7"))

    assert b"\r\nRetry-After: 7\r\n" in await line.head()


async def test_an_idle_connection_brings_an_answer_that_nobody_asked_for(talon: Talon) -> None:
    line = await talon.line()
    await line.send(put("garbage-when-idle,seconds=0.01"))

    await line.message()

    assert await line.exactly(len(GARBAGE)) == GARBAGE


async def test_garbage_never_falls_into_an_answer() -> None:
    gate = Gate()
    async with running(Simulator(work=gate)) as talon:
        line = await talon.line()
        await line.send(put("garbage-when-idle,seconds=0.01") + put())  # in the air before the garbage
        (await gate.next()).set_result(None)
        held = await gate.next()
        await asyncio.sleep(0.05)  # its moment passes while the call runs
        held.set_result(None)

        for _ in range(2):
            head, _ = await line.message()
            assert b"\r\nServer: talon-proxy-simulator\r\n" in head
        gate.open()


async def test_a_connection_ends_without_a_word_after_so_many_calls(talon: Talon) -> None:
    line = await talon.line()
    for _ in range(2):
        await line.send(put("close-after,requests=3"))
        await line.message()

    await line.send(put("close-after,requests=3"))
    head, _ = await line.message()

    assert b"connection:" not in head.lower()
    assert await line.to_end() == b""
    assert await updates(talon) == 3


async def test_a_connection_can_end_as_it_should(talon: Talon) -> None:
    line = await talon.line()

    await line.send(put("connection-close"))
    head, _ = await line.message()

    assert b"\r\nConnection: close\r\n" in head
    assert await line.to_end() == b""


async def test_a_fault_that_is_none_is_a_400(talon: Talon) -> None:
    status, answer = await talon.call("PUT", CART, session(), headers=talon.key | {"Simulator-Fault": "earthquake"})

    assert status == 400
    assert "earthquake" in answer["message"]


async def test_what_is_no_http_is_answered_in_the_usual_shape(talon: Talon) -> None:
    line = await talon.line()

    await line.send(b"NONSENSE\r\n\r\n")
    head, body = await line.message()

    assert b" 400 Bad Request\r\n" in head
    assert b"Server: talon-proxy-simulator\r\n" in head
    assert orjson.loads(body)["StatusCode"] == 400
    assert await line.to_end() == b""
