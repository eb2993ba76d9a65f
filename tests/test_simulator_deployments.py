from datetime import UTC, datetime

import pytest

from proxy.simulator import lifecycle
from proxy.simulator.deployments import Beginning, Deployments
from proxy.simulator.faults import parse
from proxy.simulator.operations import Call, find
from proxy.simulator.problems import Problem
from proxy.simulator.world import RESERVED, Application
from tests.clock import Time

MOMENT = datetime(2026, 1, 1, tzinfo=UTC)


def deployments(limit: int = 2, **beginning: object) -> Deployments:
    return Deployments(Beginning(**beginning), Time(), limit=limit)  # type: ignore[arg-type]


def test_worlds_begin_when_they_are_asked_for_and_do_not_meet() -> None:
    worlds = deployments()
    body = b'{"customerSession": {}}'
    find(Call("PUT", "/v2/customer_sessions/cart", body, Application()), worlds.of("a").world).perform()

    assert lifecycle.get(worlds.of("a").world.at(Application()), "cart").integration_id == "cart"
    with pytest.raises(Problem) as refused:
        lifecycle.get(worlds.of("b").world.at(Application()), "cart")
    assert refused.value.status == 404
    assert worlds.names == ("main", "a", "b")
    assert repr(worlds) == "<Deployments main, a, b>"


def test_the_world_longest_unused_is_forgotten_and_the_main_one_never() -> None:
    worlds = deployments(limit=2)
    main, kept = worlds.main, worlds.of("a")
    worlds.of("b")

    worlds.of("a")
    worlds.of("c")

    assert worlds.names == ("main", "a", "c")
    assert worlds.forgotten == 1
    assert worlds.of("a") is kept
    assert worlds.of("main") is main


def test_resetting_one_world_leaves_the_others() -> None:
    worlds = deployments()
    main, kept, other = worlds.main, worlds.of("a"), worlds.of("b")

    worlds.reset("b")
    assert worlds.of("b") is not other
    worlds.reset("main")

    assert worlds.main is not main
    assert worlds.of("a") is kept


def test_a_reset_of_all_leaves_only_a_new_main_world() -> None:
    worlds = deployments()
    main = worlds.main
    worlds.of("a")

    worlds.reset()

    assert worlds.names == ("main",)
    assert worlds.main is not main


def test_every_world_begins_with_the_same_clock_faults_and_ids() -> None:
    worlds = deployments(clock=MOMENT, faults=(parse("503,times=1"),))
    for name in ("main", "a"):
        deployment = worlds.of(name)

        assert deployment.clock() == MOMENT
        assert deployment.faults.draw("/v2/events") is not None
        assert deployment.faults.draw("/v2/events") is None
        call = Call("PUT", "/v2/customer_sessions/cart", b'{"customerSession": {"profileId": "jane"}}', Application())
        find(call, deployment.world).perform()
        session = lifecycle.get(deployment.world.at(Application()), "cart")
        assert (session.id, session.created) == (RESERVED + 1, MOMENT)


def test_chance_is_repeatable_in_each_world_whatever_happens_in_others() -> None:
    first, second, other = deployments(seed=3), deployments(seed=3), deployments(seed=4)
    second.of("b").random.random()

    drawn = first.of("a").random.random()

    assert drawn == second.of("a").random.random()
    assert drawn != first.of("b").random.random()
    assert drawn != other.of("a").random.random()
