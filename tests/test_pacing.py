"""Pacing of the Management API: three calls a second of each endpoint."""

import pytest

from proxy.traffic.attempts import Rules as AttemptRules
from proxy.traffic.pacing import ENDPOINTS, Pacing
from tests.clock import Time
from tests.traffic_rig import Shop, ended


def test_calls_of_an_endpoint_keep_their_distance_whatever_ids_they_name() -> None:
    pacing = Pacing(4.0, Time())
    targets = [b"/v1/applications/1/campaigns", b"/v1/applications/22/campaigns?x=1", b"/v1/applications/3a/campaigns"]

    assert [pacing.wait(b"GET", target) for target in targets] == [0.0, 0.25, 0.5]
    assert pacing.wait(b"PUT", targets[0]) == 0.0
    assert pacing.wait(b"GET", b"/v1/applications/1") == 0.0


def test_another_rate_holds_from_the_next_call_on() -> None:
    time = Time()
    pacing = Pacing(4.0, time)
    waits = [pacing.wait(b"GET", b"/v1/roles") for _ in range(2)]
    pacing.follow(1.0)
    waits += [pacing.wait(b"GET", b"/v1/roles") for _ in range(2)]
    pacing.follow(0.0)

    assert waits == [0.0, 0.25, 0.5, 1.5]
    assert pacing.wait(b"GET", b"/v1/roles") == 0.0


def test_as_many_may_wait_as_go_in_ten_seconds() -> None:
    time = Time()
    pacing = Pacing(4.0, time)
    waits = [pacing.wait(b"GET", b"/v1/roles") for _ in range(45)]

    assert waits[:41] == [number / 4 for number in range(41)]
    assert waits[41:] == [None] * 4
    time.pass_by(1.0)
    assert pacing.wait(b"GET", b"/v1/roles") is not None


def test_endpoints_that_are_not_used_are_forgotten() -> None:
    pacing = Pacing(3.0, Time())
    for number in range(ENDPOINTS * 2):
        pacing.wait(b"GET", b"/v1/x" + bytes([97 + number % 26, 97 + number // 26]))

    assert len(pacing._next) <= ENDPOINTS


async def test_management_calls_wait_their_turn_and_too_many_are_refused() -> None:
    with ended(Shop(management=True, attempts=AttemptRules(response_timeout=10.0))) as shop:
        shop.upstream.ready = True
        shoppers = [shop.submit(b"POST", b"/v1/applications/1/x", b"{}") for _ in range(40)]

        assert len(shop.sent) == 1
        assert shoppers[-1].failure == (503, b"http_request_denied", b"not-sent")
        assert shoppers[-1].call.error == "pacing"
        shop.clock.advance(0.4)
        assert len(shop.sent) == 2
        assert shoppers[1].call.timeline.backoff == pytest.approx(1 / 3, abs=0.05)
