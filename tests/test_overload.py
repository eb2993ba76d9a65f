"""The short form of `make overload`: what is refused, crowds that take nothing from others, and the judging of it."""

from collections import Counter
from dataclasses import replace

import pytest

from proxy.wire.downstream import Timeouts
from tests.harness import OK, running, until
from tests.load import Origin
from tests.overload.crowd import Crowd
from tests.overload.figures import Crowded, Overload, row
from tests.overload.open_loop import OpenLoop, Turn
from tests.process import ask, request, serving

ROOM = 5


async def test_as_many_wait_as_may_go_the_next_is_refused_at_once_and_when_there_is_room_again_it_is_taken() -> None:
    """A wait is then as long as an exchange, and who must be refused is not refused late."""
    async with running(concurrency=ROOM) as (upstream, proxy):
        upstream.answer = None
        callers = [await proxy.client() for _ in range(2 * ROOM)]
        for number, caller in enumerate(callers):
            await caller.send(request("PUT", f"/v2/customer_sessions/{number}", b"{}"))
            await until(lambda: proxy.pipeline.in_flight == number + 1)  # noqa: B023 - waited for at once
        lines = [(await upstream.received())[0] for _ in range(ROOM)]

        refused = await proxy.client()
        answer = await ask(refused, "PUT", "/v2/customer_sessions/x", b"{}")
        assert (answer.status, answer.field("talon-proxy-outcome"), answer.field("retry-after")) == (
            503,
            "not-sent",
            "",
        )
        assert answer.field("proxy-status") == "talon-proxy; error=connection_limit_reached"
        assert answer.field("connection") == "keep-alive"
        assert len(upstream.requests) == ROOM

        upstream.answer = lambda _: OK
        for line in lines:
            await line.send(OK)
        for caller in callers:
            assert (await caller.message())[1] == b"OK"
        assert (await ask(refused, "PUT", "/v2/customer_sessions/x", b"{}")).status == 200
        for caller in (*callers, refused):
            await caller.close()


async def test_the_short_form_of_overload_loses_nothing_and_is_over_at_once() -> None:
    origin = Origin(0.02)
    await origin.start()
    try:
        settings = {"limits__concurrency": str(ROOM), "upstream__connections__max": str(ROOM)}
        async with serving(f"http://127.0.0.1:{origin.port}", **settings) as proxy:
            load = OpenLoop(proxy.address, 6 * ROOM)
            await load.connect()
            peak = await load.saturate(2 * ROOM, 0.5)
            twice = await load.play(3 * ROOM / 0.02, 1.0)
            after = await load.saturate(ROOM, 0.2)
            load.close()
    finally:
        await origin.stop()

    assert (peak.failures, twice.failures, after.failures) == (Counter(), Counter(), Counter())
    assert len(twice.done) + len(twice.refused) + twice.starved == twice.offered
    assert peak.done
    assert twice.done
    assert twice.refused
    assert after.refused == peak.refused == []  # as many callers as may go and wait
    assert origin.most == ROOM


@pytest.mark.parametrize("slow", [True, False])
async def test_the_short_form_of_a_crowd_takes_nothing_from_others_and_is_closed_when_due(slow: bool) -> None:
    async with running(timeouts=Timeouts(0.5, 0.5, 30.0, 1.0)) as (_, proxy):
        crowd = Crowd(100, slow=slow)
        await crowd.gather(("127.0.0.1", proxy.port))
        caller = await proxy.client()
        while not crowd.gone.is_set():
            assert (await ask(caller, "PUT", "/v2/customer_sessions/s", b"{}")).status == 200
        await crowd.disperse()

        assert len(crowd.stayed) == 100
        assert proxy.pipeline.in_flight == 0
        assert len(proxy.witness.refused) == (100 if slow else 0)
        await caller.close()


GOOD = Overload(
    concurrency=10,
    callers=50,
    sessions=100,
    peak=Turn(1.0, done=[0.2] * 100),
    once=Turn(1.0, 100, done=[0.1] * 100),
    twice=Turn(1.0, 200, done=[0.2] * 95, refused=[0.01] * 105),
    after=Turn(1.0, 50, done=[0.1] * 50),
    rss_before=60_000_000,
    rss_most=65_000_000,
)


@pytest.mark.parametrize(
    ("found", "wrong"),
    [
        (GOOD, None),
        (replace(GOOD, twice=Turn(1.0, 200, done=[0.2] * 89, refused=[0.01])), "goodput 89% of the peak"),
        (replace(GOOD, twice=Turn(1.0, 200, done=[0.2] * 100)), "nothing was refused: this was no overload"),
        (replace(GOOD, twice=Turn(1.0, 200, done=[0.2] * 95, refused=[0.06])), "refused in 60 ms"),
        (replace(GOOD, after=Turn(1.0, 50, done=[0.1], refused=[0.01])), "refused after it was over: 1"),
        (replace(GOOD, once=Turn(1.0, failures=Counter({"502": 2}))), "other answers: {'502': 2}"),
        (replace(GOOD, rss_most=80_000_000), "memory 80 MB, bound 70 MB"),
    ],
)
def test_what_must_not_be_is_found(found: Overload, wrong: str | None) -> None:
    assert list(found.wrong()) == ([] if wrong is None else [wrong])


@pytest.mark.parametrize(
    ("without", "beside", "failures", "count"),
    [
        ([0.010, 0.030, 0.010], [0.0119, 0.010, 0.500], 0, 0),
        ([0.010], [0.0121], 0, 1),
        ([0.100], [0.1099], 0, 0),
        ([0.100], [0.1101], 0, 1),
        ([0.010], [0.010], 1, 1),
    ],
)
def test_a_crowd_is_judged_by_what_it_costs_others(
    without: list[float], beside: list[float], failures: int, count: int
) -> None:
    assert len(Crowded("idle", without, beside, failures).wrong()) == count


def test_a_turn_is_a_row_of_the_table() -> None:
    turn = Turn(2.0, 400, [0.1] * 200, [0.002] * 180, Counter({"502": 1}), [0.001], starved=2)

    assert row("twice", turn).split() == ["twice", "200", "100", "100.0", "90", "2.0", "3", "1.0"]
