"""The limit on exchanges: first come, first served, and as many wait as may go."""

from proxy.traffic.attempts import Rules as AttemptRules
from proxy.traffic.limit import Limit
from proxy.traffic.traffic import Rules as TrafficRules
from tests.traffic_rig import Shop, ended, went


class Passenger:
    def __init__(self, limit: Limit, name: str, told: list[str], *, leaves: bool = False) -> None:
        self.limit, self.name, self.told, self.leaves = limit, name, told, leaves

    def admitted(self) -> None:
        self.told.append(self.name)
        if self.leaves:
            self.limit.leave()


def test_as_many_go_in_as_may_and_the_others_in_their_order() -> None:
    limit, told = Limit(2), list[str]()
    entered = [limit.enter(Passenger(limit, name, told)) for name in "abcd"]

    assert (entered, limit.inside, limit.waiting, limit.full) == ([True, True, False, False], 2, 2, True)
    limit.leave()
    assert (told, limit.full) == (["c"], False)
    limit.leave()
    limit.leave()
    limit.leave()
    assert (told, limit.inside, limit.waiting) == (["c", "d"], 0, 0)


def test_a_higher_limit_lets_in_who_waits_and_a_lower_one_waits_for_room() -> None:
    limit, told = Limit(1), list[str]()
    for name in "abcd":
        limit.enter(Passenger(limit, name, told))
    limit.follow(3)
    assert (told, limit.inside) == (["b", "c"], 3)
    limit.follow(1)
    limit.leave()
    limit.leave()
    assert told == ["b", "c"]
    limit.leave()

    assert (told, limit.inside) == (["b", "c", "d"], 1)


def test_who_comes_while_others_wait_does_not_go_first() -> None:
    limit, told = Limit(1), list[str]()
    assert limit.enter(Passenger(limit, "a", told))
    waiting = Passenger(limit, "b", told)
    limit.enter(waiting)

    limit.withdraw(waiting)
    limit.enter(Passenger(limit, "c", told))
    limit.leave()

    assert told == ["c"]


def test_ever_so_many_who_leave_as_soon_as_they_are_in_need_no_depth() -> None:
    limit, told = Limit(5000), list[str]()
    for _ in range(5000):
        limit.enter(Passenger(limit, "inside", told))
    for number in range(5000):
        limit.enter(Passenger(limit, str(number), told, leaves=True))

    limit.leave()

    assert told == [str(number) for number in range(5000)]
    assert (limit.inside, limit.waiting) == (4999, 0)


def test_a_reload_changes_it_and_the_pace_of_the_management_api() -> None:
    with ended(Shop(management=True, concurrency=1)) as shop:
        shop.upstream.ready = True
        first, second = shop.event("jane"), shop.event("joe")
        assert not shop.was_sent(second)
        shop.traffic.follow(TrafficRules(AttemptRules(10.0, management_rate=1.0), concurrency=5))

        assert shop.was_sent(second)
        paced = [shop.submit(b"POST", b"/v1/campaigns", b"{}") for _ in range(2)]
        assert went(shop, *paced) == [True, False]
        assert first.answers == []
