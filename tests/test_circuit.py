"""The circuit: when it opens, what it lets through meanwhile, when it closes."""

import pytest

from proxy.errors import CertificateError, ConnectionLost, ConnectionRefused, ResponseTimeout
from proxy.messages import Sent
from proxy.traffic.circuit import Circuit, State
from proxy.traffic.lanes import Rules as LaneRules
from tests.clock import Time
from tests.traffic_rig import PARALLEL_SESSION, Shop, Shopper, ended, switch


def test_five_failures_in_a_row_to_connect_open_it() -> None:
    changes: list[State] = []
    circuit = Circuit(Time(), changes.append)
    for _ in range(4):
        circuit.failed("s", "connect", connecting=True)
    circuit.succeeded()
    for _ in range(4):
        circuit.failed("s", "connect", connecting=True)
    assert not changes
    circuit.failed("s", "connect", connecting=True)

    assert circuit.state is State.OPEN
    assert changes == [State.OPEN]
    assert not circuit.lets_through()
    assert circuit.last_error == "connect"


@pytest.mark.parametrize(
    ("calls", "failures", "keys", "opens"),
    [(20, 10, 5, True), (20, 9, 5, False), (19, 19, 5, False), (200, 200, 4, False), (40, 20, 20, True)],
)
def test_half_of_many_calls_about_different_carts_open_it(calls: int, failures: int, keys: int, opens: bool) -> None:
    circuit = Circuit(Time())
    for _ in range(calls - failures):
        circuit.succeeded()
    for number in range(failures):
        circuit.failed(number % keys, "503", connecting=False)

    assert (circuit.state is State.OPEN) is opens


def test_what_is_ten_seconds_old_counts_no_more() -> None:
    time = Time()
    circuit = Circuit(time)
    for number in range(19):
        circuit.failed(number, "503", connecting=False)
    time.pass_by(10.0)
    for number in range(19):
        circuit.failed(number, "503", connecting=False)

    assert circuit.state is State.CLOSED


def test_one_call_a_second_shows_whether_it_is_over() -> None:
    time = Time()
    changes: list[State] = []
    circuit = Circuit(time, changes.append)
    for _ in range(5):
        circuit.failed("s", "connect", connecting=True)
    through = []
    for _ in range(30):
        time.pass_by(0.1)
        through.append(circuit.lets_through())
    assert sum(through) == 3

    circuit.failed("s", "connect", connecting=True)
    assert not circuit.lets_through()
    time.pass_by(1.0)
    assert circuit.lets_through()
    circuit.succeeded()

    assert circuit.state is State.CLOSED
    assert changes == [State.OPEN, State.CLOSED]
    assert all(circuit.lets_through() for _ in range(10))


# --- in traffic ---


def down(shop: Shop) -> None:
    """Let five calls in a row find no connection."""
    for number in range(5):
        shop.profile(f"down{number}")
        while shop.upstream.waiting:
            shop.upstream.fail(ConnectionRefused("x"))


async def test_while_it_is_open_calls_fail_at_once_and_nothing_is_tried() -> None:
    with ended(Shop()) as shop:
        down(shop)
        waited = shop.upstream.waited
        refused = [shop.session(f"s{number}") for number in range(10)]

        assert {shopper.failure for shopper in refused} == {(503, b"destination_unavailable", b"not-sent")}
        assert {shopper.call.error for shopper in refused} == {"circuit"}
        assert shop.upstream.waited == waited

        shop.clock.advance(1.1)
        shop.upstream.ready = True
        trial = shop.session("trial")
        assert shop.session("t2").failure[1] == b"destination_unavailable"
        shop.reply_to(trial)
        assert trial.reply.status == 200
        after = shop.session("after")
        shop.reply_to(after)
        assert after.reply.status == 200


async def test_those_who_wait_are_told_when_it_opens() -> None:
    """A19: they would only wait for their time to be over."""
    with ended(Shop()) as shop:
        waiting = [shop.session(f"w{number}") for number in range(20)]
        while shop.upstream.waiting:
            shop.upstream.fail(ConnectionRefused("x"))

        assert [shopper.reply.status for shopper in waiting].count(503) > 10
        assert all(shopper.failure[2] == b"not-sent" for shopper in waiting)
        shop.assert_idle()


async def test_one_poisonous_cart_closes_the_checkout_for_nobody() -> None:
    with ended(Shop(lanes=LaneRules(enabled=False))) as shop:
        shop.upstream.ready = True
        for _ in range(50):
            for status in (500, 504):
                shop.reply_to(shop.session("poison"), status)
            poison = shop.session("poison")
            shop.lose(poison, ResponseTimeout("x", sent=Sent.MAYBE))
        well = shop.session("well")
        shop.reply_to(well)

        assert well.reply.status == 200


async def test_connections_lost_and_answers_of_500_are_not_felt() -> None:
    with ended(Shop()) as shop:
        shop.upstream.ready = True
        for number in range(60):
            shopper = shop.event(f"p{number}")
            if number % 2:
                shop.reply_to(shopper, 500)
            else:
                shop.lose(shopper, ConnectionLost("x", sent=Sent.MAYBE))

        assert shop.attempts.circuit.state is State.CLOSED


async def test_too_many_calls_are_refused_at_once_and_identical_ones_still_share() -> None:
    with ended(Shop(concurrency=2)) as shop:
        shop.upstream.ready = True
        running = [shop.session(f"s{number}") for number in range(4)]
        late = shop.session("late")
        same = shop.session("s0")

        assert len(shop.sent) == 2
        assert late.failure == (503, b"connection_limit_reached", b"not-sent")
        assert late.call.error == "concurrency"
        assert same.joined
        for shopper in running:
            shop.clock.advance(0.01)
            shop.reply_to(shopper)
        assert [shopper.reply.status for shopper in running] == [200] * 4
        assert running[2].call.timeline.gate == pytest.approx(0.01, abs=0.001)


async def test_a_call_in_back_off_takes_nobody_s_place() -> None:
    with ended(Shop(concurrency=1)) as shop:
        shop.upstream.ready = True
        first, second = shop.session("a"), shop.session("b")
        shop.reply_to(first, 409, PARALLEL_SESSION)

        assert shop.was_sent(second)
        shop.reply_to(second)
        shop.clock.advance(1.0)
        shop.reply_to(first)
        assert (first.reply.status, second.reply.status) == (200, 200)


async def test_a_call_on_its_way_to_an_upstream_that_is_left_goes_to_the_next_whatever_the_old_circuit_says() -> None:
    with ended(Shop()) as shop:
        down(shop)
        trials: list[Shopper] = []
        for _ in range(2):  # let through to see, one a second; the first finds that nothing has changed
            shop.clock.advance(1.1)
            trials.append(shop.event(f"p{len(trials)}"))
        shop.upstream.fail(CertificateError("x"))
        assert shop.attempts.circuit.state is State.OPEN
        new = switch(shop)
        shop.upstream.fail(ConnectionLost("x", sent=Sent.NO))

        assert trials[0].failure[1] == b"tls_certificate_error"
        assert len(new.connection.sent) == 1
        new.answer()
