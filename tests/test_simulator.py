"""What the simulator answers over real sockets."""

import asyncio
import gzip
from collections.abc import AsyncIterator

import orjson
import pytest

from proxy.simulator.keys import Grant
from proxy.simulator.server import MAX_BODY, Simulator
from proxy.simulator.world import Application
from tests.simulated import KEY, Gate, Talon, running, session

SHOP = {"Authorization": "ApiKey-v1 shop-key"}
OUTLET = {"Authorization": "ApiKey-v1 outlet-key"}


@pytest.fixture
async def talon() -> AsyncIterator[Talon]:
    async with running(Simulator()) as talon:
        yield talon


@pytest.fixture
def gate() -> Gate:
    return Gate()


@pytest.fixture
async def held(gate: Gate) -> AsyncIterator[Talon]:
    async with running(Simulator(work=gate)) as talon:
        yield talon
        gate.open()


async def test_a_session_is_stored_and_read(talon: Talon) -> None:
    status, answer = await talon.call("PUT", "/v2/customer_sessions/s%2F1", session(couponCodes=["WELCOME10"]))
    assert (status, [effect["effectType"] for effect in answer["effects"]]) == (200, ["acceptCoupon"])

    status, answer = await talon.call("GET", "/v2/customer_sessions/s%2F1")

    assert (status, answer["customerSession"]["integrationId"]) == (200, "s/1")


async def test_a_silent_event_has_no_body(talon: Talon) -> None:
    assert await talon.call("POST", "/v2/events", {"type": "viewed", "profileId": "jane"}) == (204, None)


@pytest.mark.parametrize(
    "authorization",
    [None, "", "simulator", "ApiKey-v1", "ApiKey-v1 other", "Bearer simulator", "ManagementKey-v1 simulator"],
)
async def test_no_other_key_opens_it(talon: Talon, authorization: str | None) -> None:
    headers = {"X-Request-Id": "1"} if authorization is None else {"Authorization": authorization}

    status, answer = await talon.call("GET", "/v1/integration/campaigns", headers=headers)

    assert (status, answer) == (401, {"message": "Invalid API key", "errors": None, "StatusCode": 401})


async def test_the_key_chooses_the_application() -> None:
    grants = (Grant("shop-key", Application("shop", 1)), Grant("outlet-key", Application("outlet", 2)))
    async with running(Simulator(grants=grants)) as talon:
        await talon.call("PUT", "/v2/customer_sessions/cart", session(), headers=SHOP)

        assert (await talon.call("GET", "/v2/customer_sessions/cart", headers=SHOP))[0] == 200
        assert (await talon.call("GET", "/v2/customer_sessions/cart", headers=OUTLET))[0] == 404


async def test_errors_have_the_shape_of_talon_one(talon: Talon) -> None:
    status, answer = await talon.call("PUT", "/v2/customer_sessions/cart", session(state="paid"))
    assert (status, answer["errors"][0]["title"]) == (400, "enum")
    assert "StatusCode" not in answer

    status, answer = await talon.call("PUT", "/v2/customer_profiles/jane", b"{")
    assert (status, answer["StatusCode"]) == (400, 400)

    status, answer = await talon.call("POST", "/v1/integration/campaigns", {})
    assert (status, answer["StatusCode"]) == (404, 404)
    assert "no operation of the Integration API" in answer["message"]


async def test_a_closed_session_takes_no_further_update(talon: Talon) -> None:
    await talon.call("PUT", "/v2/customer_sessions/cart", session(state="closed"))

    status, answer = await talon.call("PUT", "/v2/customer_sessions/cart", session(state="open"))

    assert (status, answer["errors"][0]["source"]["pointer"]) == (400, "/state")


@pytest.mark.parametrize(
    ("target", "body", "message"),
    [
        ("/v2/customer_sessions/cart", session(), "Too many requests are updating this session at the same time"),
        ("/v2/customer_profiles/jane", {}, "Too many requests are updating this profile at the same time"),
    ],
)
async def test_the_fourth_parallel_call_is_refused_at_once(
    held: Talon, gate: Gate, target: str, body: object, message: str
) -> None:
    calls = []
    for number in range(1, 4):
        calls.append(held.begin("PUT", target, body))
        await held.arrived(number)

    status, answer = await held.call("PUT", target, body)

    assert (status, answer) == (409, {"message": message, "errors": None, "StatusCode": 409})
    gate.open()
    assert [(await call)[0] for call in calls] == [200, 200, 200]
    assert [entry["outcome"] for entry in await held.journal()] == ["applied"] * 3 + ["refused"]
    assert len(held.simulator.turns) == 0


async def test_an_event_and_sessions_of_one_customer_share_the_profile_queue(held: Talon, gate: Gate) -> None:
    calls = [held.begin("PUT", "/v2/customer_sessions/one", session(profileId="jane"))]
    await held.arrived(1)
    calls.append(held.begin("PUT", "/v2/customer_sessions/two", session(profileId="jane")))
    await held.arrived(2)
    calls.append(held.begin("POST", "/v2/events", {"type": "viewed", "profileId": "jane"}))
    await held.arrived(3)

    status, answer = await held.call("PUT", "/v2/customer_sessions/three", session(profileId="jane"))

    assert (status, answer["message"]) == (409, "Too many requests are updating this profile at the same time")
    gate.open()
    assert [(await call)[0] for call in calls] == [200, 200, 204]


async def test_calls_of_one_key_run_one_after_another_in_order_of_arrival(held: Talon, gate: Gate) -> None:
    calls = []
    for number in range(1, 4):
        calls.append(
            held.begin("PUT", "/v2/customer_sessions/cart", session(attributes={"PaymentMethod": str(number)}))
        )
        await held.arrived(number)
    for _ in calls:
        (await gate.next()).set_result(None)
    await asyncio.gather(*calls)

    entries = await held.journal()

    orders = [order for entry in entries for order in (entry["start_order"], entry["end_order"])]
    assert orders == sorted(orders)
    gate.open()
    _, answer = await held.call("GET", "/v2/customer_sessions/cart")
    assert answer["customerSession"]["attributes"] == {"PaymentMethod": "3"}


async def test_reads_and_dry_calls_do_not_count(held: Talon, gate: Gate) -> None:
    calls = []
    for number in range(1, 4):
        calls.append(held.begin("PUT", "/v2/customer_sessions/cart", session()))
        await held.arrived(number)

    calls.append(held.begin("PUT", "/v2/customer_sessions/cart?dry=true", session()))
    calls.append(held.begin("GET", "/v1/integration/campaigns"))
    await held.arrived(5)

    gate.open()
    assert [(await call)[0] for call in calls] == [200] * 5
    assert sorted(entry["outcome"] for entry in await held.journal()) == ["applied"] * 3 + ["dry", "read"]


async def test_a_waiting_call_whose_caller_leaves_gives_up_its_place(held: Talon, gate: Gate) -> None:
    running_call = held.begin("PUT", "/v2/customer_sessions/cart", session())
    await held.arrived(1)
    waiting_call = held.begin("PUT", "/v2/customer_sessions/cart", session())
    await held.arrived(2)

    waiting_call.cancel()
    while (await held.journal())[1]["status"] is None:
        pass

    entry = (await held.journal())[1]
    assert (entry["status"], entry["outcome"], entry["started"]) == (499, "error", None)
    gate.open()
    assert (await running_call)[0] == 200
    _, answer = await held.call("GET", "/v2/customer_sessions/cart")
    assert answer["customerSession"]["updateCount"] == 1


async def test_a_running_call_whose_caller_leaves_runs_to_its_end(held: Talon, gate: Gate) -> None:
    call = held.begin("PUT", "/v2/customer_sessions/cart", session())
    held_call = await gate.next()

    call.cancel()
    await asyncio.gather(call, return_exceptions=True)
    assert (await held.journal())[0]["ended"] is None
    held_call.set_result(None)
    gate.open()

    status, answer = await held.call("GET", "/v2/customer_sessions/cart")
    assert (status, answer["customerSession"]["updateCount"]) == (200, 1)
    assert (await held.journal())[0]["outcome"] == "applied"


async def test_stopping_ends_a_call_that_hangs_without_its_caller(gate: Gate) -> None:
    simulator = Simulator(work=gate)
    async with running(simulator) as talon:
        call = talon.begin("PUT", "/v2/customer_sessions/cart", session())
        await gate.next()
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)

    assert len(simulator.turns) == 0


async def test_the_journal_tells_what_arrived(talon: Talon) -> None:
    headers = {**KEY, "X-Request-Id": "abc"}
    await talon.call("PUT", "/v2/customer_sessions/s%2F1?x=%20", session(profileId="jane"), headers=headers)
    await talon.call("GET", "/v2/customer_sessions/other")

    entries = await talon.journal()
    assert [entry["outcome"] for entry in entries] == ["applied", "error"]
    first = entries[0]
    assert first["target"] == "/v2/customer_sessions/s%2F1?x=%20"
    assert (first["request_id"], first["application"]) == ("abc", "default")
    assert (first["session"], first["profile"]) == ("s/1", "jane")
    assert first["arrived"] <= first["started"] <= first["ended"]
    assert await talon.journal("?session=s%2F1") == [first]
    assert [entry["sequence"] for entry in await talon.journal("?since=1")] == [2]

    assert await talon.call("DELETE", "/-/journal") == (204, None)
    assert await talon.journal() == []


async def test_health_needs_no_key_and_leaves_no_trace(talon: Talon) -> None:
    assert await talon.call("GET", "/-/health", headers={"X-No-Key": "needed"}) == (204, None)
    assert (await talon.call("GET", "/-/other"))[0] == 404
    assert (await talon.call("GET", "/-/journal?since=x"))[0] == 400
    assert await talon.journal() == []


async def test_compressed_bodies_are_read_and_journaled_as_they_came(talon: Talon) -> None:
    body = gzip.compress(orjson.dumps(session(couponCodes=["NOPE"])))
    headers = {**KEY, "Content-Encoding": "gzip"}

    status, answer = await talon.call("PUT", "/v2/customer_sessions/cart", body, headers=headers)
    assert (status, answer["effects"][0]["effectType"]) == (200, "rejectCoupon")
    assert (await talon.journal())[0]["body_bytes"] == len(body)

    assert (await talon.call("PUT", "/v2/customer_sessions/cart", b"no gzip", headers=headers))[0] == 400
    assert (await talon.call("PUT", "/v2/customer_sessions/cart", body[:-9], headers=headers))[0] == 413


async def test_bodies_may_be_large_but_not_endless(talon: Talon) -> None:
    large = session(attributes={"PaymentMethod": "x" * (MAX_BODY - 1000)})

    assert (await talon.call("PUT", "/v2/customer_sessions/cart", large))[0] == 200
    status, answer = await talon.call("PUT", "/v2/customer_sessions/cart", b" " * (MAX_BODY + 1))
    assert (status, answer["StatusCode"]) == (413, 413)


async def test_a_caller_may_ask_before_sending_the_body(talon: Talon) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", talon.port)
    body = orjson.dumps(session())
    head = (
        "PUT /v2/customer_sessions/cart HTTP/1.1\r\nHost: t\r\nAuthorization: ApiKey-v1 simulator\r\n"
        f"Content-Length: {len(body)}\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n"
    )
    writer.write(head.encode())
    assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"

    writer.write(body)

    assert (await reader.read()).startswith(b"HTTP/1.1 200 OK\r\n")
    writer.close()
    await writer.wait_closed()


async def test_a_request_id_that_is_no_text_is_journaled_in_a_readable_form(talon: Talon) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", talon.port)
    writer.write(
        b"GET /v1/other HTTP/1.1\r\nHost: t\r\nAuthorization: ApiKey-v1 simulator\r\n"
        b"X-Request-Id: \xfe\r\nConnection: close\r\n\r\n"
    )

    assert (await reader.read()).startswith(b"HTTP/1.1 404 ")
    writer.close()
    await writer.wait_closed()
    assert [entry["request_id"] for entry in await talon.journal()] == ["\\xfe"]


async def test_a_call_cut_off_before_its_end_never_arrived(talon: Talon) -> None:
    _, writer = await asyncio.open_connection("127.0.0.1", talon.port)
    writer.write(b"PUT /v2/customer_sessions/cart HTTP/1.1\r\nHost: t\r\nContent-Length: 99\r\n\r\n{")
    await writer.drain()
    writer.close()
    await writer.wait_closed()

    assert (await talon.call("GET", "/v2/customer_sessions/cart"))[0] == 404
    assert len(await talon.journal()) == 1


async def test_a_fault_of_its_own_is_a_500(held: Talon, gate: Gate, caplog: pytest.LogCaptureFixture) -> None:
    call = held.begin("PUT", "/v2/customer_sessions/cart", session())

    (await gate.next()).set_exception(RuntimeError("broken"))

    status, answer = await call
    assert (status, answer["message"]) == (500, "Internal server error")
    assert "broken" in caplog.text
    assert len(held.simulator.turns) == 0


async def test_latency_is_spent_while_the_call_runs() -> None:
    async with running(Simulator(latency=0.02, jitter=0.005)) as talon:
        await talon.call("GET", "/v1/integration/campaigns")

        entry = (await talon.journal())[0]

    assert entry["ended"] - entry["started"] >= 0.0149
