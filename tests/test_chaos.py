"""The short form of `python -m tests.chaos`, and what it would find."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from proxy.traffic.lanes import Rules as LaneRules
from tests.chaos.found import Answer, Found
from tests.chaos.storm import storm
from tests.chaos.writes import Kind, Write, writes


async def test_whatever_talon_one_does_each_write_has_its_own_answer_its_place_and_its_truth() -> None:
    found = await storm(1500, profiles=60, callers=32, seed=4711, quarantine=0.2)

    assert not any(found.wrong().values()), found.summary()
    # All of it happened.
    assert {"truncated", "reset", "hung up", "unasked with the answer", "unasked while idle"} <= found.wrongs.keys()
    assert {Answer.DONE, Answer.UNKNOWN, Answer.LEFT} <= set(found.answers.values())
    assert sum(answer is Answer.DONE for answer in found.answers.values()) > 1350


async def test_without_lanes_the_same_writes_run_into_each_other() -> None:
    found = await storm(500, profiles=5, callers=32, seed=4711, quarantine=0.2, lanes=LaneRules(enabled=False))

    assert found.collisions > 10


def test_writes_are_of_every_kind_and_all_different() -> None:
    planned = list(writes(2000, profiles=50, seed=1))

    assert {write.kind for write in planned} == set(Kind)
    assert len({write.request for write in planned}) == len(planned)


EVENT = Write("event", Kind.EVENT, b"", None, "p")
UPDATE = Write("update", Kind.UPDATE, b"", "s", "p")
KEYS = {"event": (("profile", "p"),), "update": (("session", "s"), ("profile", "p"))}
GOOD = Found(
    answers={"event": Answer.DONE, "update": Answer.DONE, **{f"n{number}": Answer.NOT_SENT for number in range(18)}},
    arrived=[(EVENT, KEYS["event"]), (UPDATE, KEYS["update"])],
    collisions=0,
    admitted={"event": 1, "update": 2},
    repeated=0,
    left_over={"lanes": 0},
    wrongs={},
    seconds=1.0,
)


def arriving(*found: Write) -> list[Any]:
    return [(write, KEYS[write.nonce]) for write in found]


def told(**answers: Answer) -> Mapping[str, Answer]:
    return {**GOOD.answers, **answers}


@pytest.mark.parametrize(
    ("found", "wrong"),
    [
        (GOOD, {}),
        (replace(GOOD, answers=told(update=Answer.UNKNOWN)), {}),
        (replace(GOOD, answers=told(update=Answer.LEFT)), {}),
        (replace(GOOD, arrived=arriving(EVENT, UPDATE, UPDATE), repeated=1), {}),
        (replace(GOOD, arrived=arriving(EVENT, UPDATE, UPDATE)), {"repeats that the proxy did not count": 1}),
        (
            replace(GOOD, arrived=arriving(EVENT, UPDATE, UPDATE, UPDATE), repeated=2),
            {"writes executed more than twice": 1},
        ),
        (
            replace(GOOD, arrived=arriving(EVENT, EVENT, UPDATE), repeated=1),
            {"writes executed twice that must not be": 1},
        ),
        (replace(GOOD, arrived=arriving(UPDATE, EVENT)), {"writes out of order": 1}),
        (replace(GOOD, arrived=arriving(UPDATE)), {"writes told as done and not executed": 1}),
        (replace(GOOD, answers=told(event=Answer.NOT_SENT)), {"writes told as not sent and executed": 1}),
        (replace(GOOD, answers=told(event=Answer.FOREIGN)), {"answers of another call": 1}),
        (replace(GOOD, answers=told(event=Answer.NONE)), {"calls without an answer": 1}),
        (replace(GOOD, answers=told(event=Answer.MUTE)), {"errors that do not say what became of the call": 1}),
        (replace(GOOD, collisions=3), {"writes executed beside another of their key": 3}),
        (replace(GOOD, left_over={"lanes": 2}), {"lanes left over": 2}),
        (
            replace(
                GOOD,
                answers={"event": Answer.DONE, "update": Answer.DONE},
                arrived=arriving(EVENT, UPDATE, UPDATE),
                repeated=1,
            ),
            {"attempts beyond 1.1 a call": 1},
        ),
    ],
)
def test_what_must_not_be_is_found(found: Found, wrong: dict[str, int]) -> None:
    assert {what: count for what, count in found.wrong().items() if count} == wrong
