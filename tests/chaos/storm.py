"""The storm: all writes through a proxy, from so many callers at a time, until every call has its answer."""

import asyncio
import itertools
import os
import random
import time
from collections.abc import Iterator
from contextlib import suppress

from proxy.traffic.lanes import Rules as LaneRules
from proxy.traffic.retries import Reason
from tests.chaos.deployment import Deployment
from tests.chaos.found import Answer, Found
from tests.chaos.writes import Write, writes
from tests.harness import Line, Proxy, until

LEAVES = 0.01  # of callers
PAUSES = 0.05  # of calls are followed by a pause, in which connections become idle
PAUSE = 0.08  # seconds
TOTAL = 8.0  # seconds; most of what a call may wait for are quarantines
# After so long there is no answer. The proxy gives what comes late from a loop that stood still its time (B26), and so
# do callers: where the machine stands still for seconds, everything here does.
PATIENCE = 60.0
DEFAULTS = LaneRules()


async def storm(
    count: int, profiles: int, callers: int, *, seed: int, quarantine: float, lanes: LaneRules = DEFAULTS
) -> Found:
    """Let it pass. `quarantine`: seconds, setting `lanes.quarantine`; what was broken off is executed for less."""
    planned = list(writes(count, profiles, seed=seed))
    deployment = Deployment({write.nonce: write for write in planned}, lingers=quarantine * 0.8, seed=seed)
    url = await deployment.start()
    before = _held()
    proxy = await Proxy(
        url,
        lanes=lanes,
        coalescing=True,
        max_connections=callers,
        total_timeout=TOTAL,
        quarantine=quarantine,
    ).start()
    answers: dict[str, Answer] = {}
    began = time.monotonic()
    disturbing = asyncio.create_task(deployment.disturb(proxy.generation.pool), name="disturbing")
    waiting = iter(planned)
    async with asyncio.TaskGroup() as shops:
        for number in range(callers):
            shops.create_task(_shop(proxy, waiting, answers, random.Random(seed + number)))
    seconds = time.monotonic() - began
    disturbing.cancel()
    await _settled(proxy)
    left_over = _left_over(proxy)
    admitted = {
        call.request_id.decode(): call.admission
        for call in itertools.chain(
            (call for call, _, _ in proxy.witness.ended), (call for call, _ in proxy.witness.left)
        )
    }
    retried = proxy.traffic.attempts.retried
    await proxy.stop()
    await deployment.stop()
    with suppress(TimeoutError):
        await until(lambda: all(_held()[what] <= count for what, count in before.items()))
    after = _held()
    return Found(
        answers=answers,
        arrived=deployment.arrived,
        collisions=deployment.collisions,
        admitted=admitted,
        repeated=retried[Reason.LOST] + retried[Reason.IDLE_CLOSE],
        left_over=left_over | {what: max(after[what] - before[what], 0) for what in before},
        wrongs=deployment.wrongs,
        seconds=seconds,
    )


async def _shop(proxy: Proxy, waiting: Iterator[Write], answers: dict[str, Answer], chance: random.Random) -> None:
    """Make one call after the other, and now and then leave."""
    client = await _caller(proxy)
    for write in waiting:
        await client.send(write.request)
        if chance.random() < LEAVES:
            await asyncio.sleep(chance.random() * 0.01)
            client.reset()
            client = await _caller(proxy)
            answers[write.nonce] = Answer.LEFT
            continue
        answers[write.nonce] = answer = await _answer(client, write)
        if answer is Answer.NONE:
            # One that comes yet would be taken for the next call's.
            client.reset()
            client = await _caller(proxy)
        if chance.random() < PAUSES:
            await asyncio.sleep(PAUSE)
    await client.close()


async def _caller(proxy: Proxy) -> Line:
    client = await proxy.client()
    client.patience = PATIENCE
    return client


async def _answer(client: Line, write: Write) -> Answer:
    try:
        head, body = await client.message()
    except (TimeoutError, ConnectionError, asyncio.IncompleteReadError):
        return Answer.NONE
    if head.startswith(b"HTTP/1.1 200 "):
        return Answer.DONE if body == write.nonce.encode() else Answer.FOREIGN
    for answer in (Answer.NOT_SENT, Answer.UNKNOWN):
        if b"\r\nTalon-Proxy-Outcome: %b\r\n" % answer.value.encode() in head:
            return answer
    return Answer.MUTE


async def _settled(proxy: Proxy) -> None:
    """Wait until everything has landed; whoever is not done by then is left over."""
    with suppress(TimeoutError):
        async with asyncio.timeout(PATIENCE):
            while proxy.pipeline.flights or proxy.generation.pool.active:  # noqa: ASYNC110
                await asyncio.sleep(0.01)


def _left_over(proxy: Proxy) -> dict[str, int]:
    traffic = proxy.traffic
    return {
        "flights": len(proxy.pipeline.flights),
        "lanes": len(traffic.lanes),
        "gates": len(traffic.gates),
        "reads": len(traffic.reads),
        "waiting flights": traffic.lanes.waiting,
        "permits": traffic.lanes.limit.inside + traffic.lanes.limit.waiting,
        "active connections": proxy.generation.pool.active,
    }


def _held() -> dict[str, int]:
    """What this process holds."""
    return {"tasks": len(asyncio.all_tasks()), "file descriptors": len(os.listdir("/proc/self/fd"))}  # noqa: PTH208
