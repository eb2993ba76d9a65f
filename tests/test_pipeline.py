"""The straight line with a fake upstream: every call is answered once, whatever happens to it on its way."""

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest

from proxy.errors import CertificateError, ConnectionLost, ConnectionRefused
from proxy.fields import reply_table
from proxy.messages import Sent
from proxy.traffic import circuit
from proxy.traffic.attempts import Rules as AttemptRules
from proxy.traffic.flights import Caller, Flight, State
from proxy.traffic.retries import Rules as RetryRules
from proxy.wire.pool import Pool, PoolLimits
from tests.traffic_rig import PARALLEL_PROFILE, Shop, Shopper, ended, open_shop
from tests.upstream_fakes import FakeDial, FakeDialer, FakeStream, Silence, turns


class Rig(Shop):
    """Each call is about a session of its own, unless told otherwise."""

    def submit(self, method: bytes = b"PUT", target: bytes = b"", *fields: Any) -> Shopper:
        self.count += 1
        return super().submit(method, target or b"/v2/customer_sessions/s%d" % self.count, b"{}", *fields)

    count = 0


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    rig = Rig()
    async with Silence.kept():
        yield rig
        rig.pipeline.refuse_unsent()
        for asked in rig.upstream.connection.sent:
            if not asked.ended:
                asked.exchange.failed(ConnectionLost("the end of the test", sent=Sent.MAYBE))
        await rig.pipeline.drained()
    assert rig.pipeline.in_flight == 0


async def test_a_call_is_answered_with_its_reply(rig: Rig) -> None:
    caller = rig.submit()
    assert isinstance(caller.waiter, Caller)
    assert repr(rig.pipeline) == "<Pipeline flights=1>"
    rig.upstream.admit()
    rig.upstream.answer(201, b"made")

    assert (caller.reply.status, caller.reply.body) == (201, b"made")
    assert caller.lines.startswith(b"X-Request-Id: ")
    assert caller.call.error is None
    assert rig.pipeline.in_flight == 0


async def test_its_place_is_taken_before_any_other_turn_of_the_loop(rig: Rig) -> None:
    callers = [rig.submit() for _ in range(3)]
    assert rig.pipeline.in_flight == 3
    for number, _ in enumerate(callers):
        asked = rig.upstream.admit()
        assert asked.exchange.timeline is callers[number].call.timeline
        rig.upstream.answer()


async def test_what_is_refused_never_becomes_a_flight(rig: Rig) -> None:
    for target in (b"/v9/x", b"/", b"/v2/%2e%2e/x", b"/v1/applications"):
        caller = rig.submit(b"GET", target)
        assert caller.waiter is None
        assert caller.reply.status in (400, 403, 404)
        assert caller.call.error is not None
    assert rig.pipeline.in_flight == 0


# --- time ---


async def test_a_queued_call_whose_time_is_over_was_not_sent(rig: Rig) -> None:
    caller = rig.submit()
    rig.clock.advance(15.1)

    assert caller.failure == (504, b"connection_limit_reached", b"not-sent")
    assert caller.call.error == "timeout"
    assert caller.call.timeline.pool == pytest.approx(15, abs=0.1)
    assert not rig.upstream.waiting
    assert not rig.upstream.connection.sent
    assert rig.pipeline.in_flight == 0


async def test_a_sent_call_whose_time_is_over_lands_without_its_caller(rig: Rig) -> None:
    caller = rig.submit()
    rig.upstream.admit()
    rig.clock.advance(15.1)
    assert caller.failure == (504, b"http_response_timeout", b"unknown")
    assert rig.pipeline.in_flight == 1
    assert repr(caller.flight).startswith("<Flight SENT ")

    rig.upstream.answer()

    assert len(caller.answers) == 1
    assert caller.call.error == "timeout"
    assert caller.flight.state is State.DONE
    assert rig.pipeline.in_flight == 0


async def test_a_stream_that_comes_too_late_is_abandoned(rig: Rig) -> None:
    caller = rig.submit()
    rig.upstream.admit()
    rig.clock.advance(15.1)
    stream = FakeStream()
    rig.upstream.answer(stream=stream)

    assert len(caller.answers) == 1
    assert stream.abandoned == 1


@pytest.mark.parametrize(("said", "seconds"), [(b"500", 0.5), (b"60000", 15.0)])
async def test_a_caller_may_have_less_time_but_not_more(rig: Rig, said: bytes, seconds: float) -> None:
    caller = rig.submit(b"PUT", b"", (b"Talon-Proxy-Timeout-Ms", said))
    rig.clock.advance(seconds - 0.05)
    assert not caller.answers
    rig.clock.advance(0.1)

    assert caller.failure == (504, b"connection_limit_reached", b"not-sent")


@pytest.mark.parametrize("first", ["answer", "deadline"])
async def test_an_answer_and_the_deadline_in_the_same_turn_make_one_answer(rig: Rig, first: str) -> None:
    caller = rig.submit()
    rig.upstream.admit()
    if first == "deadline":
        rig.clock.advance(15.1)
    rig.upstream.break_off(ConnectionLost("x", sent=Sent.MAYBE))
    rig.clock.advance(15.1)

    token = b"http_response_timeout" if first == "deadline" else b"connection_terminated"
    assert caller.failure == (504 if first == "deadline" else 502, token, b"unknown")
    assert caller.call.error == ("timeout" if first == "deadline" else "lost")


async def test_a_deadline_in_the_midst_of_attempts_is_kept(rig: Rig) -> None:
    caller = rig.submit()
    rig.upstream.fail(ConnectionRefused("x"))
    rig.clock.advance(15.1)

    assert caller.failure == (504, b"connection_limit_reached", b"not-sent")
    assert not rig.upstream.waiting


async def test_a_deadline_between_two_attempts_is_kept_even_if_no_alarm_has_rung(rig: Rig) -> None:
    caller = rig.submit()
    rig.clock.now += 15.1
    rig.upstream.fail(ConnectionRefused("x"))

    assert caller.failure == (504, b"http_response_timeout", b"not-sent")
    assert not rig.upstream.waiting
    rig.clock.advance(100)
    assert len(caller.answers) == 1


# --- callers who leave ---


async def test_a_caller_who_leaves_while_queued_takes_its_call_along(rig: Rig) -> None:
    caller = rig.submit()
    await turns()

    assert caller.waiter.leave()
    await turns()

    assert not caller.answers
    assert not rig.upstream.waiting
    assert rig.pipeline.in_flight == 0
    assert rig.witness.left == [(caller.call, Sent.NO)]


async def test_a_caller_who_leaves_before_a_connection_is_free_leaves_it_to_the_next(rig: Rig) -> None:
    first, second = rig.submit(), rig.submit()

    assert first.waiter.leave()
    asked = rig.upstream.admit()
    rig.clock.advance(0.1)

    assert asked.exchange is second.flight
    assert len(rig.upstream.connection.sent) == 1


async def test_a_caller_who_left_while_queued_is_not_answered_at_its_deadline(rig: Rig) -> None:
    caller = rig.submit()
    assert caller.waiter.leave()

    rig.clock.advance(100)

    assert not caller.answers


async def test_a_caller_who_leaves_after_it_was_sent_leaves_its_call_behind(rig: Rig) -> None:
    caller = rig.submit()
    rig.upstream.admit()

    assert not caller.waiter.leave()
    assert rig.witness.left == [(caller.call, Sent.MAYBE)]
    assert rig.pipeline.in_flight == 1
    rig.upstream.answer()

    assert len(caller.answers) == 1  # the listener drops it
    assert rig.pipeline.in_flight == 0


# --- failures ---


async def test_attempts_that_all_failed_unsent_are_told_as_such(rig: Rig) -> None:
    caller = rig.submit()
    for _ in range(3):
        rig.upstream.fail(ConnectionRefused("x"))

    assert caller.failure == (502, b"connection_refused", b"not-sent")
    assert caller.call.error == "connect"


async def test_a_wrong_certificate_is_told_after_one_attempt(rig: Rig) -> None:
    caller = rig.submit()
    rig.upstream.fail(CertificateError("x"))

    assert caller.failure == (502, b"tls_certificate_error", b"not-sent")


def crash(*_: object, **__: object) -> Any:
    raise RuntimeError("a secret detail")


@pytest.mark.parametrize("step", ["begin", "sign", "send", "failed", "mask"])
async def test_a_defect_of_ours_is_answered_without_its_text(
    rig: Rig, step: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = step in ("mask", "send")
    with caplog.at_level(logging.ERROR):
        if step == "begin":
            monkeypatch.setattr(rig.upstream, "take", crash)
            caller = rig.submit()
        else:
            caller = rig.submit()
        if step == "sign":
            monkeypatch.setattr(rig.upstream.keys, "leading", crash)
            rig.upstream.grant()
        elif step == "send":

            def send(flight: Flight, *_: object, **__: object) -> None:
                flight.sent()
                crash()

            monkeypatch.setattr(rig.upstream.connection, "send", send)
            rig.upstream.grant()
        elif step == "failed":
            monkeypatch.setattr(rig.attempts, "_again", crash)
            rig.upstream.fail(ConnectionRefused("x"))
        elif step == "mask":
            monkeypatch.setattr(rig.upstream.keys, "mask", crash)
            rig.upstream.admit()
            rig.upstream.answer(404)

    assert caller.failure == (500, b"proxy_internal_error", b"unknown" if sent else b"not-sent")
    assert caller.call.error == "internal"
    body = orjson.loads(caller.reply.body)
    assert body["StatusCode"] == 500
    assert b"secret" not in caller.reply.body
    assert "a secret detail" in caplog.text
    assert rig.pipeline.in_flight == 0
    assert rig.upstream.released == (step == "sign")
    assert not rig.upstream.waiting
    rig.clock.advance(100)
    assert len(caller.answers) == 1


async def test_a_defect_that_shows_before_there_is_a_flight_is_answered_too(
    rig: Rig, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else it takes the caller's connection along, with all calls on it."""
    monkeypatch.setattr("proxy.pipeline.keys.names", crash)
    caller = rig.submit()

    assert caller.waiter is None
    assert caller.failure == (500, b"proxy_internal_error", b"not-sent")
    assert caller.call.error == "internal"
    assert "a secret detail" in caplog.text
    assert rig.pipeline.in_flight == 0


async def test_an_answer_that_comes_after_a_defect_is_dropped(
    rig: Rig, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was written before it crashed: what then becomes of it is nobody's."""
    send = rig.upstream.connection.send

    def crash_behind(*args: Any, **options: Any) -> None:
        send(*args, **options)
        crash()

    monkeypatch.setattr(rig.upstream.connection, "send", crash_behind)
    caller = rig.submit()
    rig.upstream.grant()
    assert caller.failure == (500, b"proxy_internal_error", b"unknown")
    stream = FakeStream()
    rig.upstream.answer(stream=stream)

    assert len(caller.answers) == 1
    assert caller.call.error == "internal"
    assert stream.abandoned == 1
    assert rig.pipeline.in_flight == 0


@pytest.mark.parametrize("how", ["answer", "failure", "deadline"])
async def test_a_caller_who_crashes_at_its_answer_harms_nobody_and_is_not_answered_again(
    rig: Rig, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    caller, other = rig.submit(), rig.submit()
    caller.on_answer = crash
    if how == "failure":
        for _ in range(3):
            rig.upstream.waiting.remove(caller.flight)
            caller.flight.refused(ConnectionRefused("x"))
    elif how == "answer":
        rig.upstream.admit()
        rig.upstream.answer()
    else:
        rig.clock.advance(15.1)
        assert other.failure == (504, b"connection_limit_reached", b"not-sent")

    assert len(caller.answers) == 1
    assert "a secret detail" in caplog.text
    assert rig.pipeline.in_flight == (how != "deadline")


async def test_what_an_answer_sets_off_is_another_call_in_the_same_step(rig: Rig) -> None:
    next_callers: list[Shopper] = []
    caller = rig.submit()
    caller.on_answer = lambda: next_callers.append(rig.submit())
    rig.upstream.admit()
    rig.upstream.ready = True

    rig.upstream.answer()

    assert len(rig.upstream.connection.sent) == 2
    assert rig.upstream.connection.sent[-1].exchange is next_callers[0].flight
    assert rig.pipeline.in_flight == 1


# --- on a connection that is one ---


class Real:
    """A pipeline before a real pool on a fake transport."""

    def __init__(self, rig: Rig, limit: int = 1) -> None:
        self.dialer = FakeDialer()
        limits = PoolLimits(warm=0, max=limit, idle_timeout=50.0, max_age=300.0, reply=64)
        table = reply_table(allow_browsers=False)
        self.pool = Pool(self.dialer, rig.pipeline._wheel, limits, table=table)  # type: ignore[arg-type]
        rig.upstream.pool = self.pool  # type: ignore[assignment]

    async def open(self) -> FakeDial:
        """Let the one opening that is under way succeed."""
        (dial,) = await self.opening()
        dial.succeed()
        await turns()
        return dial

    async def opening(self) -> list[FakeDial]:
        await turns()
        return self.dialer.pending


@pytest.fixture
def real(rig: Rig) -> Real:
    return Real(rig)


async def test_a_request_that_cannot_be_signed_leaves_its_connection_to_the_next(
    rig: Rig, real: Real, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many there are: each gives it back, and nobody is left waiting."""
    callers = [rig.submit() for _ in range(300)]
    with monkeypatch.context() as broken:
        broken.setattr(rig.upstream.keys, "leading", crash)
        dial = await real.open()
        await turns(400)

    for caller in callers:
        assert caller.failure == (500, b"proxy_internal_error", b"not-sent")
    assert repr(real.pool) == "<Pool idle=1 active=0 opening=0 waiting=0>"
    assert dial.transport.written == b""
    assert rig.pipeline.in_flight == 0

    last = rig.submit()
    dial.connection.data_received(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nOK")
    assert last.reply.status == 200


async def test_a_crash_of_one_call_is_not_felt_by_the_connection_that_another_gave_back(
    rig: Rig, real: Real, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second, third = rig.submit(), rig.submit(), rig.submit()
    dial = await real.open()
    sign, calls = rig.upstream.keys.leading, iter([crash])
    monkeypatch.setattr(rig.upstream.keys, "leading", lambda grant: next(calls, sign)(grant))

    dial.connection.data_received(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nOK")
    assert first.reply.status == 200
    assert second.failure == (500, b"proxy_internal_error", b"not-sent")
    await turns()
    dial.connection.data_received(b"HTTP/1.1 201 Created\r\nContent-Length: 2\r\n\r\nOK")

    assert third.reply.status == 201
    assert dial.transport.ended is None
    assert repr(real.pool) == "<Pool idle=1 active=0 opening=0 waiting=0>"


async def test_an_answer_that_sets_off_the_next_call_finds_the_connection_free(rig: Rig, real: Real) -> None:
    answered: list[Shopper] = []

    def again() -> None:
        if len(answered) < 5:
            answered.append(rig.submit())
            answered[-1].on_answer = again

    again()
    dial = await real.open()
    for _ in range(5):
        assert repr(real.pool) == "<Pool idle=0 active=1 opening=0 waiting=0>"
        dial.connection.data_received(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nOK")

    assert [caller.reply.status for caller in answered] == [200] * 5
    assert dial.transport.written.count(b"PUT ") == 5
    assert [caller.call.timeline.pool for caller in answered[1:]] == [0.0] * 4
    assert repr(real.pool) == "<Pool idle=1 active=0 opening=0 waiting=0>"


async def test_a_call_that_is_overdue_in_the_queue_withdraws_and_the_one_behind_it_is_served(
    rig: Rig, real: Real
) -> None:
    first = rig.submit()
    dial = await real.open()
    short = rig.submit(b"PUT", b"", (b"Talon-Proxy-Timeout-Ms", b"500"))
    behind = rig.submit()

    rig.clock.advance(0.6)
    assert short.failure == (504, b"connection_limit_reached", b"not-sent")
    assert repr(real.pool) == "<Pool idle=0 active=1 opening=0 waiting=1>"
    for _ in range(2):
        dial.connection.data_received(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nOK")

    assert [first.reply.status, behind.reply.status] == [200, 200]
    assert len(short.answers) == 1
    assert dial.transport.written.count(b"PUT ") == 2


@pytest.mark.parametrize(
    "framing", [b"Content-Length: 999\r\n\r\n" + b"x" * 70, b"Transfer-Encoding: chunked\r\n\r\n50\r\n" + b"x" * 80]
)
async def test_a_stream_that_comes_after_the_deadline_is_abandoned_with_its_connection(
    rig: Rig, real: Real, framing: bytes
) -> None:
    caller = rig.submit(b"PUT", b"", (b"Talon-Proxy-Timeout-Ms", b"500"))
    dial = await real.open()
    rig.clock.advance(0.6)
    assert caller.failure == (504, b"http_response_timeout", b"unknown")
    assert rig.pipeline.in_flight == 1

    dial.connection.data_received(b"HTTP/1.1 200 OK\r\n" + framing)

    assert len(caller.answers) == 1
    assert rig.pipeline.in_flight == 0
    assert dial.transport.ended == "abort"
    assert repr(real.pool) == "<Pool idle=0 active=0 opening=0 waiting=0>"


async def test_many_refused_calls_try_again_at_once_each_as_often_as_it_may(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(circuit, "IN_A_ROW", 10_000)
    monkeypatch.setattr(circuit, "LEAST_CALLS", 10_000)
    rig = Rig(attempts=AttemptRules(response_timeout=10.0, retries=RetryRules(budget=10.0)))
    real = Real(rig, limit=10)
    callers = [rig.submit() for _ in range(200)]
    for _ in range(200):
        for dial in await real.opening():
            dial.fail(ConnectionRefused("x"))
        if not rig.pipeline.in_flight:
            break

    assert [caller.failure for caller in callers] == [(502, b"connection_refused", b"not-sent")] * 200
    assert {caller.call.timeline.tries for caller in callers} == {3}
    assert len(real.dialer.dials) >= 600
    await turns()
    for dial in real.dialer.pending:
        dial.fail(ConnectionRefused("x"))
    await turns()
    assert repr(real.pool) == "<Pool idle=0 active=0 opening=0 waiting=0>"


@pytest.mark.parametrize("end", ["close", "abort"])
async def test_a_pool_that_closes_refuses_all_who_wait_in_that_step(rig: Rig, end: str) -> None:
    real = Real(rig)
    callers = [rig.submit() for _ in range(200)]
    # The first to be told takes the last along: as when both came on one connection, which is then closed.
    callers[0].on_answer = lambda: callers[-1].waiter.leave()

    if end == "close":
        await real.pool.close()
    else:
        real.pool.abort()
        await turns()

    for caller in callers[:-1]:
        assert caller.failure == (502, b"connection_terminated", b"not-sent")
    assert not callers[-1].answers
    assert callers[-1].call.timeline.tries == 1
    assert rig.pipeline.in_flight == 0
    assert repr(real.pool) == "<Pool idle=0 active=0 opening=0 waiting=0>"


# --- shutting down ---


async def test_shutting_down_refuses_what_was_not_sent_and_lets_the_rest_land(rig: Rig) -> None:
    sent = rig.submit()
    rig.upstream.admit()
    queued = rig.submit()
    await turns()

    rig.pipeline.refuse_unsent()

    assert queued.failure == (503, b"http_request_denied", b"not-sent")
    assert queued.call.error == "draining"
    assert b"retry-after" not in queued.reply.block.lower()
    assert not sent.answers
    draining = asyncio.get_running_loop().create_task(rig.pipeline.drained(), name="draining")
    await turns()
    assert not draining.done()
    rig.upstream.answer()
    await draining
    assert sent.reply.status == 200
    assert len(rig.upstream.connection.sent) == 1


async def test_all_who_wait_for_the_last_flight_are_woken_when_it_has_landed(rig: Rig) -> None:
    loop = asyncio.get_running_loop()
    caller = rig.submit()
    rig.upstream.admit()
    waiting = [loop.create_task(rig.pipeline.drained(), name="draining") for _ in range(3)]
    await turns()
    waiting[0].cancel()
    await turns()
    assert [task.done() for task in waiting] == [True, False, False]

    rig.upstream.answer()
    await turns()

    assert all(task.done() for task in waiting)
    assert caller.reply.status == 200


@pytest.mark.parametrize("how", ["leave", "deadline", "refuse", "crash"])
async def test_whatever_ends_the_last_flight_wakes_who_waits_for_it(
    rig: Rig, how: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caller = rig.submit()
    draining = asyncio.get_running_loop().create_task(rig.pipeline.drained(), name="draining")
    await turns()
    if how == "leave":
        caller.waiter.leave()
    elif how == "deadline":
        rig.clock.advance(15.1)
    elif how == "refuse":
        rig.pipeline.refuse_unsent()
    else:
        monkeypatch.setattr(rig.upstream.keys, "leading", crash)
        rig.upstream.grant()
    await turns()

    assert draining.done()
    await rig.pipeline.drained()


async def test_a_flight_that_begins_as_the_last_one_lands_is_waited_for(rig: Rig) -> None:
    caller = rig.submit()
    draining = asyncio.get_running_loop().create_task(rig.pipeline.drained(), name="draining")
    await turns()
    rig.upstream.admit()
    rig.upstream.answer()
    second = rig.submit()
    await turns()
    assert not draining.done()

    rig.upstream.admit()
    rig.upstream.answer()
    await turns()

    assert draining.done()
    assert caller.reply.status == second.reply.status == 200


async def test_shutting_down_refuses_what_stands_in_line(rig: Rig) -> None:
    """B25: what was sent lands; what waits is told at once that nothing was sent, and is not sent afterwards."""
    target = b"/v2/customer_sessions/s"
    rig.upstream.ready = True
    sent, *queued = [rig.submit(b"PUT", target, (b"Cookie", b"%d" % number)) for number in range(4)]
    rig.pipeline.refuse_unsent()

    assert [caller.failure for caller in queued] == [(503, b"http_request_denied", b"not-sent")] * 3
    assert not sent.answers
    rig.upstream.answer()
    assert sent.reply.status == 200
    assert len(rig.sent) == 1
    assert not rig.pipeline.flights


async def test_shutting_down_does_not_send_what_nobody_waits_for(rig: Rig) -> None:
    rig.upstream.ready = True
    ahead = rig.submit(b"PUT", b"/v2/customer_sessions/s/reopen")
    left = rig.submit(b"POST", b"/v2/customer_sessions/s/returns")
    left.waiter.leave()
    rig.pipeline.refuse_unsent()
    rig.upstream.end(rig.asked(ahead))

    assert len(rig.sent) == 1
    assert not rig.pipeline.flights


async def test_a_call_that_comes_when_nothing_is_sent_any_more_is_refused(rig: Rig) -> None:
    rig.upstream.ready = True
    rig.pipeline.refuse_unsent()

    assert [rig.submit().failure, rig.submit(b"GET", b"/v2/customer_sessions/s").failure] == [
        (503, b"http_request_denied", b"not-sent")
    ] * 2


async def test_the_end_of_the_last_flight_waits_for_no_lane_that_is_held(rig: Rig) -> None:
    rig.upstream.ready = True
    target = b"/v2/customer_sessions/s"
    first, second = [rig.submit(b"PUT", target, (b"Cookie", value)) for value in (b"1", b"2")]
    assert rig.upstream.time_out(rig.asked(first))
    draining = asyncio.get_running_loop().create_task(rig.pipeline.drained(), name="draining")
    await turns()
    assert rig.was_sent(second)
    rig.upstream.end(rig.asked(second))
    await turns()

    assert draining.done()
    rig.upstream.end(rig.asked(first))


async def test_one_caller_who_cannot_be_told_of_the_end_keeps_it_from_nobody(
    rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    callers = [rig.submit() for _ in range(3)]
    callers[0].on_answer = crash
    rig.pipeline.refuse_unsent()

    assert [caller.failure[0] for caller in callers] == [503] * 3
    assert "a secret detail" in caplog.text
    assert rig.pipeline.in_flight == 0


# --- answers too large to hold ---

READ, WRITE = (b"GET", b"/v2/customer_sessions/s"), (b"PUT", b"/v2/customer_sessions/s")


@pytest.mark.parametrize("call", [READ, WRITE])
async def test_an_answer_too_large_to_hold_is_read_by_its_only_caller(rig: Rig, call: tuple[bytes, bytes]) -> None:
    rig.upstream.ready = True
    caller, stream = rig.submit(*call), FakeStream()
    rig.upstream.answer(stream=stream)

    assert caller.reply.stream is stream
    assert not stream.abandoned
    assert rig.pipeline.in_flight == 0


async def test_the_lane_goes_on_at_the_head_of_an_answer_too_large_to_hold(rig: Rig) -> None:
    rig.upstream.ready = True
    rig.submit(*WRITE)
    behind = rig.submit(*WRITE, (b"Cookie", b"x"))
    rig.upstream.answer(stream=FakeStream())

    assert rig.was_sent(behind)


async def test_those_who_share_a_read_too_large_to_hold_share_another(rig: Rig) -> None:
    """A22, A23."""
    rig.upstream.ready = True
    callers, stream = [rig.submit(*READ) for _ in range(4)], FakeStream()
    rig.upstream.answer(stream=stream)

    assert callers[0].reply.stream is stream
    assert len(rig.sent) == 2
    assert not any(caller.answers for caller in callers[1:])
    rig.upstream.answer(200, b"small")
    assert [caller.reply.body for caller in callers[1:]] == [b"small"] * 3
    assert [caller.joined for caller in callers] == [False, False, True, True]
    rig.assert_idle()


async def test_where_there_is_no_room_for_another_read_those_who_share_are_told_and_the_first_has_the_answer() -> None:
    with ended(open_shop(concurrency=1)) as shop:
        refused, stream = shop.event("jane"), FakeStream()
        readers = [shop.read() for _ in range(3)]
        shop.reply_to(refused, 409, PARALLEL_PROFILE)  # rests, and a reader's turn has come
        shop.event("joe")
        shop.clock.advance(1.0)  # it is back, and waits though as many wait as may
        shop.reply_to(readers[0], stream=stream)

        assert readers[0].reply.stream is stream
        assert [reader.failure for reader in readers[1:]] == [(503, b"connection_limit_reached", b"not-sent")] * 2
        assert len(shop.pipeline.flights) == 2


async def test_the_new_read_is_joined_by_nobody_else(rig: Rig) -> None:
    """What comes later gets an exchange of its own, and may be joined."""
    rig.upstream.ready = True
    for _ in range(2):
        rig.submit(*READ)
    rig.upstream.answer(stream=FakeStream())

    assert [rig.submit(*READ).joined for _ in range(2)] == [False, True]


async def test_those_who_share_a_write_too_large_to_hold_are_told_and_it_is_sent_once(rig: Rig) -> None:
    """A22: its outcome is known, and it is never executed twice for this."""
    rig.upstream.ready = True
    callers, stream = [rig.submit(*WRITE) for _ in range(3)], FakeStream()
    rig.upstream.answer(stream=stream)

    assert callers[0].reply.stream is stream
    assert [caller.failure for caller in callers[1:]] == [(502, b"http_response_body_size", None)] * 2
    assert len(rig.sent) == 1
    rig.assert_idle()


@pytest.mark.parametrize("call", [READ, WRITE])
async def test_who_has_left_reads_no_answer_too_large_to_hold(rig: Rig, call: tuple[bytes, bytes]) -> None:
    rig.upstream.ready = True
    callers, stream = [rig.submit(*call) for _ in range(2)], FakeStream()
    callers[0].waiter.leave()
    rig.upstream.answer(stream=stream)

    assert callers[1].reply.stream is stream
    assert len(rig.sent) == 1


@pytest.mark.parametrize("count", [2, 3])
async def test_an_answer_too_large_to_hold_that_nobody_waits_for_is_given_up(rig: Rig, count: int) -> None:
    rig.upstream.ready = True
    callers, stream = [rig.submit(*READ) for _ in range(count)], FakeStream()
    for caller in callers:
        caller.waiter.leave()
    rig.upstream.answer(stream=stream)

    assert stream.abandoned == 1
    assert len(rig.sent) == 1


async def test_who_cannot_be_given_an_answer_too_large_to_hold_gives_it_up(
    rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    rig.upstream.ready = True
    caller, stream = rig.submit(*READ), FakeStream()
    caller.on_answer = crash
    rig.upstream.answer(stream=stream)

    assert stream.abandoned == 1
    assert rig.pipeline.in_flight == 0


# --- what is admitted ---


async def test_calls_are_numbered_in_the_order_of_admission(rig: Rig) -> None:
    """Whoever joins has a number too; what is refused has none."""
    callers = [rig.submit(*call) for call in (WRITE, WRITE, READ, (b"GET", b"/v9/x"), WRITE)]

    assert [caller.call.admission for caller in callers] == [1, 2, 3, 0, 4]


async def test_who_joins_waits_for_the_answer_and_for_nothing_else(rig: Rig) -> None:
    """A33: the time it shares counts as Talon.One's."""
    rig.upstream.ready = True
    first = rig.submit(*READ)
    rig.clock.advance(2)
    second = rig.submit(*READ)
    rig.clock.advance(1)
    rig.upstream.answer()

    assert [caller.call.timeline.upstream for caller in (first, second)] == [3.0, 1.0]
    assert [caller.joined for caller in (first, second)] == [False, True]
