import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from proxy.simulator.clock import Clock
from proxy.simulator.idempotency import LIFE, LIMIT, LONGEST, Idempotency, knows_keys
from proxy.simulator.operations import OPERATIONS
from proxy.simulator.problems import Problem
from proxy.simulator.turns import CrowdedError, Key
from proxy.simulator.unknowns import Unknowns


class Work:
    """What a call does: counts its runs, and can be held or made to fail."""

    def __init__(self, *, held: bool = False, error: Exception | None = None) -> None:
        self.runs = 0
        self.error = error
        self.gate = asyncio.Event()
        if not held:
            self.gate.set()

    async def __call__(self) -> str:
        self.runs += 1
        number = self.runs
        await self.gate.wait()
        if self.error is not None:
            raise self.error
        return f"answer {number}"


@pytest.fixture
def clock() -> Clock:
    return Clock(datetime(2026, 1, 1, tzinfo=UTC))


def stored(clock: Clock, **unknowns: str) -> Idempotency[str]:
    return Idempotency(clock, Unknowns.model_validate({f"idempotency_{name}": said for name, said in unknowns.items()}))


async def test_a_key_that_comes_again_is_given_the_stored_answer(clock: Clock) -> None:
    answers, work = stored(clock), Work()

    assert await answers.once("shop", "k", "call", work) == ("answer 1", False)
    assert await answers.once("shop", "k", "call", work) == ("answer 1", True)
    assert work.runs == 1


async def test_keys_belong_to_an_application(clock: Clock) -> None:
    answers, work = stored(clock), Work()

    await answers.once("shop", "k", "call", work)

    assert await answers.once("outlet", "k", "call", work) == ("answer 2", False)


async def test_an_answer_is_forgotten_after_24_hours(clock: Clock) -> None:
    answers, work = stored(clock), Work()
    await answers.once("shop", "k", "call", work)

    clock.advance(LIFE - timedelta(seconds=1))
    assert (await answers.once("shop", "k", "call", work))[1]
    clock.advance(timedelta(seconds=1))

    assert await answers.once("shop", "k", "call", work) == ("answer 2", False)


async def test_the_key_of_another_call_is_refused(clock: Clock) -> None:
    answers, work = stored(clock), Work()
    await answers.once("shop", "k", "call", work)

    with pytest.raises(Problem) as refused:
        await answers.once("shop", "k", "other call", work)

    assert refused.value.status == 400
    assert work.runs == 1


@pytest.mark.parametrize(("reuse", "given"), [("replay", ("answer 1", True)), ("run", ("answer 2", False))])
async def test_the_key_of_another_call_can_be_replayed_or_run(
    clock: Clock, reuse: str, given: tuple[str, bool]
) -> None:
    answers, work = stored(clock, reuse=reuse), Work()
    await answers.once("shop", "k", "call", work)

    assert await answers.once("shop", "k", "other call", work) == given
    assert await answers.once("shop", "k", "call", work) == ("answer 1", True)


async def test_a_second_call_waits_for_the_first_and_is_given_its_answer(clock: Clock) -> None:
    answers, work = stored(clock), Work(held=True)
    calls = [asyncio.create_task(answers.once("shop", "k", "call", work)) for _ in range(3)]
    await asyncio.sleep(0)

    work.gate.set()

    assert await asyncio.gather(*calls) == [("answer 1", False), ("answer 1", True), ("answer 1", True)]


async def test_a_waiting_caller_who_leaves_takes_nobody_along(clock: Clock) -> None:
    answers, work = stored(clock), Work(held=True)
    first, leaving, staying = (asyncio.create_task(answers.once("shop", "k", "call", work)) for _ in range(3))
    await asyncio.sleep(0)

    leaving.cancel()
    await asyncio.wait([leaving])
    work.gate.set()

    assert await first == ("answer 1", False)
    assert await staying == ("answer 1", True)


async def test_a_second_call_can_be_refused_while_the_first_runs(clock: Clock) -> None:
    answers, work = stored(clock, in_flight="refuse"), Work(held=True)
    first = asyncio.create_task(answers.once("shop", "k", "call", work))
    await asyncio.sleep(0)

    with pytest.raises(Problem) as refused:
        await answers.once("shop", "k", "call", work)

    assert refused.value.status == 409
    work.gate.set()
    assert await first == ("answer 1", False)


CROWDED = CrowdedError(Key("session", "shop", "cart"))


@pytest.mark.parametrize("error", [Problem(400, "no"), CROWDED])
async def test_errors_are_not_stored(clock: Clock, error: Exception) -> None:
    answers, work = stored(clock), Work(error=error)
    with pytest.raises(type(error)):
        await answers.once("shop", "k", "call", work)

    work.error = None

    assert await answers.once("shop", "k", "call", work) == ("answer 2", False)


@pytest.mark.parametrize("error", [Problem(400, "no"), CROWDED])
async def test_errors_can_be_stored_too(clock: Clock, error: Exception) -> None:
    answers, work = stored(clock, stores="all"), Work(error=error)

    for _ in range(2):
        with pytest.raises(type(error)):
            await answers.once("shop", "k", "call", work)

    assert work.runs == 1


async def test_what_fails_by_itself_is_never_stored(clock: Clock) -> None:
    answers, work = stored(clock, stores="all"), Work(error=RuntimeError())

    with pytest.raises(RuntimeError):
        await answers.once("shop", "k", "call", work)

    assert len(answers) == 0


async def test_one_of_those_who_wait_runs_after_a_first_call_that_was_not_stored(clock: Clock) -> None:
    answers, failing, work = stored(clock), Work(held=True, error=Problem(400, "no")), Work()
    first = asyncio.create_task(answers.once("shop", "k", "call", failing))
    await asyncio.sleep(0)
    others = [asyncio.create_task(answers.once("shop", "k", "call", work)) for _ in range(2)]
    await asyncio.sleep(0)

    failing.gate.set()

    with pytest.raises(Problem):
        await first
    assert sorted(await asyncio.gather(*others)) == [("answer 1", False), ("answer 1", True)]


@pytest.mark.parametrize("key", ["", "k" * (LONGEST + 1)])
async def test_keys_have_a_length(clock: Clock, key: str) -> None:
    with pytest.raises(Problem) as refused:
        await stored(clock).once("shop", key, "call", Work())

    assert refused.value.status == 400


async def test_the_oldest_keys_are_forgotten(clock: Clock) -> None:
    answers, work = stored(clock), Work()

    for number in range(LIMIT + 1):
        await answers.once("shop", str(number), "call", work)

    assert len(answers) == LIMIT
    assert not (await answers.once("shop", "0", "call", work))[1]
    assert repr(answers) == f"<Idempotency of {LIMIT} keys>"


def test_the_operations_that_know_keys_exist() -> None:
    assert {name for name in OPERATIONS if knows_keys(name)} == {
        "updateCustomerSessionV2",
        "returnCartItems",
        "reopenCustomerSession",
        "updateCustomerProfileV2",
        "updateCustomerProfilesV2",
        "trackEventV2",
    }
