"""What testers ask of the simulator, and worlds of their own, over real sockets."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from proxy.simulator import rulebook_file
from proxy.simulator.control import Ask, Control
from proxy.simulator.deployments import Beginning, Deployments
from proxy.simulator.keys import Grant, Kind
from proxy.simulator.problems import Problem
from proxy.simulator.server import Simulator
from proxy.simulator.world import Application
from tests.simulated import KEY, Gate, Talon, running, session

CART = "/v2/customer_sessions/cart"
JOB = {"Authorization": "ApiKey-v1 simulator-job"}


@pytest.fixture
async def talon() -> AsyncIterator[Talon]:
    async with running(Simulator()) as talon:
        yield talon


async def ok(talon: Talon, method: str, target: str, body: object = None) -> Any:
    """Ask control; the answer, which must not be an error."""
    status, answer = await talon.call(method, target, body)
    assert status in (200, 204), answer
    return answer


async def test_worlds_of_their_own_do_not_meet(talon: Talon) -> None:
    await talon.call("PUT", CART, session(), headers=JOB)

    assert (await talon.call("GET", CART, headers=JOB))[0] == 200
    assert (await talon.call("GET", CART, headers=KEY))[0] == 404
    assert (await talon.call("GET", CART, headers={"Authorization": "ApiKey-v1 simulator-other"}))[0] == 404
    assert [entry["method"] for entry in await talon.journal("?world=job")] == ["PUT", "GET"]
    assert [entry["status"] for entry in await talon.journal()] == [404]


async def test_one_world_is_not_crowded_by_another() -> None:
    gate = Gate()
    async with running(Simulator(work=gate)) as talon:
        calls = []
        for number in range(1, 4):
            calls.append(talon.begin("PUT", CART, session()))
            await talon.arrived(number)

        calls.append(talon.begin("PUT", CART, session(), headers=JOB))
        assert (await talon.call("PUT", CART, session()))[0] == 409

        gate.open()
        assert [(await call)[0] for call in calls] == [200] * 4


async def test_a_reset_of_a_world_leaves_others(talon: Talon) -> None:
    await talon.call("PUT", CART, session(), headers=JOB)
    await talon.call("PUT", CART, session())

    await ok(talon, "POST", "/-/reset?world=job")

    assert (await talon.call("GET", CART, headers=JOB))[0] == 404
    assert (await talon.call("GET", CART))[0] == 200
    assert len(await talon.journal("?world=job")) == 1


async def test_a_reset_of_all_begins_anew(talon: Talon) -> None:
    await talon.call("PUT", CART, session(), headers=JOB)
    await talon.call("PUT", CART, session())
    await ok(talon, "PUT", "/-/faults", ["503"])

    await ok(talon, "POST", "/-/reset")

    stats = await talon.stats()
    assert (stats["worlds"], stats["calls"]) == (["main"], 0)
    status, answer = await talon.call("PUT", CART, session())
    assert (status, answer["effects"]) == (200, [])


async def test_ids_and_times_are_the_same_in_every_run() -> None:
    async def answers() -> list[Any]:
        beginning = Beginning(seed=1)
        async with running(Simulator(beginning=beginning)) as talon:
            await ok(talon, "PUT", "/-/clock", {"now": "2026-01-01T00:00:00Z"})
            wanted = {"responseContent": ["customerSession", "customerProfile", "event"]}
            return [
                await talon.call("PUT", f"{CART}-{number}", session(profileId="jane") | wanted) for number in range(3)
            ]

    first = await answers()

    assert first == await answers()
    assert first[0][1]["customerSession"]["created"] == "2026-01-01T00:00:00Z"


async def test_the_clock_is_set_moved_and_let_go(talon: Talon) -> None:
    assert (await ok(talon, "GET", "/-/clock"))["mode"] == "real"

    assert await ok(talon, "PUT", "/-/clock", {"now": "2026-01-01T01:00:00+01:00"}) == {
        "now": "2026-01-01T00:00:00Z",
        "mode": "standing",
    }
    assert (await ok(talon, "PUT", "/-/clock", {"advance_seconds": 86400}))["now"] == "2026-01-02T00:00:00Z"
    assert (await ok(talon, "GET", "/-/clock?world=job"))["mode"] == "real"
    assert (await ok(talon, "PUT", "/-/clock", {"now": "2026-01-01T00:00:00Z", "runs": True}))["mode"] == "running"

    await ok(talon, "DELETE", "/-/clock")
    assert (await ok(talon, "GET", "/-/clock"))["mode"] == "real"


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        [],
        {},
        {"now": "noon"},
        {"now": 5},
        {"now": "2026-01-01T00:00:00Z", "runs": "yes"},
        {"advance_seconds": "1h"},
        {"advance_seconds": 1e300},
        {"advance_seconds": 1, "now": "2026-01-01T00:00:00Z"},
        {"colour": 1},
    ],
)
async def test_a_clock_that_cannot_be_set_is_a_400(talon: Talon, body: object) -> None:
    assert (await talon.call("PUT", "/-/clock", body))[0] == 400
    assert (await ok(talon, "GET", "/-/clock"))["mode"] == "real"


async def test_a_clock_stays_in_the_years_there_are(talon: Talon) -> None:
    await ok(talon, "PUT", "/-/clock", {"now": "9999-12-31T00:00:00Z"})

    assert (await talon.call("PUT", "/-/clock", {"advance_seconds": 86400}))[0] == 400


async def test_faults_are_switched_while_it_runs(talon: Talon) -> None:
    armed = await ok(talon, "PUT", "/-/faults", ["503,times=2", "stall,session=ci-"])
    assert armed[0] == {"fault": "503,times=2", "struck": 0, "left": 2}

    assert [(await talon.call("PUT", CART, session()))[0] for _ in range(3)] == [503, 503, 200]
    assert (await ok(talon, "GET", "/-/faults"))[0] == {"fault": "503,times=2", "struck": 2, "left": 0}

    await ok(talon, "PUT", "/-/faults", ["502"])
    assert (await talon.call("PUT", CART, session(), headers=JOB))[0] == 200, "other worlds are spared"
    await ok(talon, "DELETE", "/-/faults")
    assert (await talon.call("PUT", CART, session()))[0] == 200


@pytest.mark.parametrize("body", [b"[", {}, "503", [503], ["503", "earthquake"]])
async def test_faults_that_are_none_change_nothing(talon: Talon, body: object) -> None:
    await ok(talon, "PUT", "/-/faults", ["502"])

    assert (await talon.call("PUT", "/-/faults", body))[0] == 400
    assert [armed["fault"] for armed in await ok(talon, "GET", "/-/faults")] == ["502"]


async def test_the_journal_is_asked_by_session_and_by_request_id(talon: Talon) -> None:
    for number in (1, 2):
        await talon.call("PUT", f"{CART}-{number}", session(), headers=KEY | {"X-Request-Id": f"r{number}"})

    assert [entry["session"] for entry in await talon.journal("?request_id=r2")] == ["cart-2"]
    assert [entry["request_id"] for entry in await talon.journal("?session=cart-1")] == ["r1"]
    assert await talon.journal("?session=cart-1&request_id=r2") == []


async def test_the_statistics_tell_what_came_together() -> None:
    gate = Gate()
    async with running(Simulator(work=gate)) as talon:
        calls = []
        for number in range(1, 4):
            calls.append(talon.begin("PUT", CART, session()))
            await talon.arrived(number)
        await talon.call("PUT", CART, session())
        gate.open()
        for call in calls:
            await call

        stats = await talon.stats()

    assert (stats["calls"], stats["in_progress"], stats["refused"]) == (4, 0, 1)
    assert (stats["peak_in_progress"], stats["peak_at_one_key"]) == (4, 3)
    assert stats["statuses"] == {"200": 3, "409": 1}
    assert stats["outcomes"] == {"applied": 3, "refused": 1}
    assert stats["connections"]["opened"] == stats["connections"]["open"] >= 4


def ask(path: str, *, authorization: str = "", loopback: bool = False, token: str | None = "tök") -> int:
    control = Control(Deployments(Beginning(), lambda: 0.0), dict, token=token)
    try:
        return control.answer(Ask("GET", path, authorization=authorization, loopback=loopback)).status
    except Problem as problem:
        return problem.status


def test_control_is_for_this_machine_and_for_holders_of_the_token() -> None:
    assert ask("/-/stats", loopback=True) == 200
    assert ask("/-/stats", authorization="Bearer tök") == 200
    assert ask("/-/stats") == 403
    assert ask("/-/stats", authorization="Bearer other") == 403
    assert ask("/-/stats", authorization="Bearer None", token=None) == 403
    assert ask("/-/nothing") == 403
    assert ask("/-/health") == 204


@pytest.mark.parametrize(
    ("target", "status"),
    [("/-/", 404), ("/-/other", 404), ("/-/stats?world=a%20b", 400), ("/-/journal?since=-1", 400)],
)
def test_what_control_does_not_know_it_says(target: str, status: int) -> None:
    assert ask(target, loopback=True) == status


async def test_a_failure_of_its_own_is_a_500_and_logged(
    talon: Talon, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(control: Control, asked: Ask) -> None:
        raise RuntimeError("broken")

    monkeypatch.setattr(Control, "answer", broken)

    assert await talon.call("GET", "/-/stats") == (
        500,
        {"message": "Internal server error", "errors": None, "StatusCode": 500},
    )
    assert "broken" in caplog.text


async def test_a_stored_answer_is_given_again_and_nothing_is_carried_out(talon: Talon) -> None:
    headers = KEY | {"Idempotency-Key": "k1"}
    first = await talon.call("PUT", CART, session(), headers=headers)

    assert await talon.call("PUT", CART, session(), headers=headers) == first
    assert (await talon.call("PUT", CART, session(state="closed"), headers=headers))[0] == 400
    _, answer = await talon.call("GET", CART, headers=headers)
    assert answer["customerSession"]["updateCount"] == 1
    assert [entry["outcome"] for entry in await talon.journal()] == ["applied", "replayed", "error", "read"]

    await ok(talon, "PUT", "/-/clock", {"advance_seconds": 86400})
    assert (await talon.call("PUT", CART, session(state="closed"), headers=headers))[0] == 200


async def test_a_dry_call_is_not_stored(talon: Talon) -> None:
    headers = KEY | {"Idempotency-Key": "k1"}

    for _ in range(2):
        await talon.call("PUT", f"{CART}?dry=true", session(), headers=headers)

    assert [entry["outcome"] for entry in await talon.journal()] == ["dry", "dry"]


async def test_with_a_testing_key_every_call_is_dry() -> None:
    shop = Application("shop")
    headers = {"Authorization": "ApiKey-v1 try"}
    async with running(Simulator(grants=[Grant("simulator", shop), Grant("try", shop, Kind.TESTING)])) as talon:
        assert (await talon.call("PUT", CART, session(), headers=headers))[0] == 200
        assert (await talon.call("PUT", f"{CART}?dry=false", session(), headers=headers))[0] == 200
        event = {"type": "viewed", "profileId": "jane"}
        assert (await talon.call("POST", "/v2/events", event, headers=headers))[0] == 204
        profile = "/v2/customer_profiles/jane"
        assert (await talon.call("PUT", f"{profile}?runRuleEngine=true", {}, headers=headers))[0] == 200

        assert (await talon.call("PUT", profile, {}, headers=headers))[0] == 400
        assert (await talon.call("GET", CART, headers=headers))[0] == 400
        assert (await talon.call("GET", CART))[0] == 404
        assert [entry["outcome"] for entry in await talon.journal()] == ["dry"] * 4 + ["error"] * 3


@pytest.mark.parametrize(
    ("switches", "statuses"),
    [({}, (200, 200)), ({"dry_counts": True}, (409, 200)), ({"reads_count": True}, (200, 409))],
)
async def test_dry_calls_and_reads_count_where_they_are_told_to(
    switches: dict[str, bool], statuses: tuple[int, int]
) -> None:
    gate, beginning = Gate(), Beginning(book=rulebook_file.default().with_unknowns(switches))
    async with running(Simulator(work=gate, beginning=beginning)) as talon:
        calls = []
        for number in range(1, 4):
            calls.append(talon.begin("PUT", CART, session(profileId="jane")))
            await talon.arrived(number)

        dry = talon.begin("PUT", f"{CART}?dry=true", session())
        await talon.arrived(4)
        read = talon.begin("GET", CART)
        await talon.arrived(5)
        gate.open()

        assert ((await dry)[0], (await read)[0]) == statuses
        assert [(await call)[0] for call in calls] == [200] * 3


async def test_the_management_api_has_a_key_of_its_own(talon: Talon) -> None:
    manager = {"Authorization": "ManagementKey-v1 simulator"}

    status, answer = await talon.call("GET", "/v1/applications", headers=manager)
    assert (status, answer["data"][0]["name"]) == (200, "default")

    assert (await talon.call("GET", "/v1/applications", headers=KEY))[0] == 401
    assert (await talon.call("GET", CART, headers=manager))[0] == 401
    assert [(await talon.call("GET", "/v1/applications", headers=manager))[0] for _ in range(3)][-1] in (200, 429)
    assert [entry["outcome"] for entry in await talon.journal()][:3] == ["read", "error", "error"]
