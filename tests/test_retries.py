"""Retries: what may be tried again, after how long, and how much of that there is (design.md §6)."""

import random

import pytest

from proxy.errors import (
    BadReply,
    CertificateError,
    ConnectionLost,
    ConnectionRefused,
    ConnectTimeout,
    Draining,
    IncompleteReply,
    InternalError,
    NameNotResolved,
    NameTimeout,
    PoolTimeout,
    ProxyError,
    ReplyTooLarge,
    ResponseTimeout,
    TlsError,
)
from proxy.messages import Sent, Timeline
from proxy.traffic import retries
from proxy.traffic.retries import Budget, Reason, Rules
from tests.clock import Time

# --- nothing was sent ---


@pytest.mark.parametrize("error", [ConnectionRefused("x"), NameNotResolved("x"), TlsError("x"), PoolTimeout("x")])
def test_what_was_not_sent_is_tried_again_twice(error: ProxyError) -> None:
    assert [retries.after_unsent(error, failures, Rules()) for failures in (1, 2, 3)] == [True, True, False]


@pytest.mark.parametrize("error", [ConnectTimeout("x"), NameTimeout("x")])
def test_a_black_hole_is_tried_again_once(error: ProxyError) -> None:
    """U4."""
    assert [retries.after_unsent(error, failures, Rules()) for failures in (1, 2)] == [True, False]
    assert not retries.after_unsent(error, 1, Rules(connection=0))


@pytest.mark.parametrize("error", [CertificateError("x"), Draining("x"), InternalError(sent=Sent.NO)])
def test_what_would_fail_again_is_not_tried_again(error: ProxyError) -> None:
    assert not retries.after_unsent(error, 1, Rules())


# --- it was sent, and no answer came ---


def lost(*, reused: bool = True, first_byte: bool = False, after: float = 0.1) -> Timeline:
    timeline = Timeline(0.0, 0.0)
    timeline.reused, timeline.sent, timeline.answered = reused, 100.0, 100.0 + after
    timeline.first_byte = 100.0 if first_byte else 0.0
    return timeline


LOSSES = [ConnectionLost("x", sent=Sent.MAYBE), IncompleteReply("x", sent=Sent.MAYBE)]


@pytest.mark.parametrize("error", LOSSES)
@pytest.mark.parametrize("timeline", [lost(), lost(reused=False), lost(first_byte=True), lost(after=9)])
def test_what_may_be_repeated_is_tried_again_however_it_was_lost(error: ProxyError, timeline: Timeline) -> None:
    assert retries.after_loss(error, timeline, repeatable=True, harmless=lambda: False) is Reason.LOST


@pytest.mark.parametrize("error", LOSSES)
@pytest.mark.parametrize(
    ("timeline", "again"),
    [
        (lost(), True),
        (lost(after=0.25), True),
        (lost(after=0.26), False),
        (lost(reused=False), False),
        (lost(first_byte=True), False),
    ],
    ids=["at once", "just in time", "later", "a fresh connection", "within the answer"],
)
def test_a_harmless_write_is_tried_again_only_where_an_idle_connection_was_being_closed(
    error: ProxyError, timeline: Timeline, again: bool
) -> None:
    reason = retries.after_loss(error, timeline, repeatable=False, harmless=lambda: True)

    assert reason is (Reason.IDLE_CLOSE if again else None)


def test_a_write_that_does_harm_is_never_tried_again() -> None:
    assert retries.after_loss(LOSSES[0], lost(), repeatable=False, harmless=lambda: False) is None


def test_whether_it_does_harm_is_only_asked_where_that_decides() -> None:
    """It costs parsing the body."""

    def ask() -> bool:
        raise AssertionError

    assert retries.after_loss(LOSSES[0], lost(reused=False), repeatable=False, harmless=ask) is None
    assert retries.after_loss(LOSSES[0], lost(), repeatable=True, harmless=ask) is Reason.LOST


@pytest.mark.parametrize(
    "error", [ResponseTimeout("x", sent=Sent.MAYBE), BadReply("x", sent=Sent.MAYBE), ReplyTooLarge("x")]
)
def test_what_took_too_long_or_was_nonsense_is_not_tried_again(error: ProxyError) -> None:
    assert retries.after_loss(error, lost(), repeatable=True, harmless=lambda: True) is None


# --- it was answered ---


@pytest.mark.parametrize("status", [502, 503, 504])
def test_what_a_gateway_could_not_answer_is_tried_again_where_it_may_be_repeated(status: int) -> None:
    told = [
        retries.after_status(status, reads=reads, repeatable=repeatable, management=False)
        for reads, repeatable in ((True, True), (False, True), (False, False))
    ]

    assert told == [Reason.STATUS, Reason.STATUS, None]


@pytest.mark.parametrize("status", [200, 204, 301, 400, 401, 403, 404, 409, 500, 501, 505])
def test_any_other_answer_is_the_answer(status: int) -> None:
    assert retries.after_status(status, reads=True, repeatable=True, management=True) is None


def test_too_many_requests_are_slowed_down_for_reads_of_the_management_api_only() -> None:
    told = [
        retries.after_status(429, reads=reads, repeatable=True, management=management)
        for reads, management in ((True, True), (False, True), (True, False))
    ]

    assert told == [Reason.THROTTLED, None, None]


# --- how long ---


@pytest.mark.parametrize("reason", [Reason.CONNECTION, Reason.LOST, Reason.IDLE_CLOSE])
def test_a_lost_connection_is_no_reason_to_wait(reason: Reason) -> None:
    assert retries.back_off(reason, 0, Rules()) == 0.0


@pytest.mark.parametrize("spread", [0.0, 0.5, 1.0])
def test_after_a_conflict_the_wait_doubles_up_to_a_second_and_is_spread_over_all_of_it(
    spread: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(random, "uniform", lambda low, high: low + (high - low) * spread)

    waits = [retries.back_off(Reason.CONFLICT, conflicts, Rules()) for conflicts in range(1, 9)]

    assert waits == [spread * most for most in (0.05, 0.1, 0.2, 0.4, 0.8, 1.0, 1.0, 1.0)]


@pytest.mark.parametrize(("reason", "least", "most"), [(Reason.STATUS, 0.1, 0.3), (Reason.THROTTLED, 0.4, 1.0)])
def test_what_is_out_of_order_is_given_time(reason: Reason, least: float, most: float) -> None:
    for _ in range(50):
        assert least <= retries.back_off(reason, 0, Rules()) <= most


# --- how often ---


@pytest.fixture
def time() -> Time:
    return Time(1000.0)


@pytest.fixture
def budget(time: Time) -> Budget:
    return Budget(0.1, time)


def spend_all(budget: Budget) -> int:
    spent = 0
    while budget.spend():
        spent += 1
        assert spent < 100_000
    return spent


def test_three_a_second_may_always_be_repeated(budget: Budget) -> None:
    assert spend_all(budget) == 30


@pytest.mark.parametrize(("calls", "extra"), [(100, 30), (300, 30), (310, 31), (1000, 100)])
def test_a_tenth_of_the_calls_may_be_repeated(budget: Budget, calls: int, extra: int) -> None:
    for _ in range(calls):
        budget.call(1000.0)

    assert spend_all(budget) == extra


def test_calls_and_repeats_count_for_ten_seconds(budget: Budget, time: Time) -> None:
    for _ in range(1000):
        budget.call(1000.0)
    assert spend_all(budget) == 100
    told = []
    for now in (1009.9, 1010.0):
        time.now = now
        told.append(spend_all(budget))

    assert told == [0, 30]


def test_seconds_are_counted_one_by_one(budget: Budget, time: Time) -> None:
    told = []
    for second in range(12):
        time.now = 1000.5 + second
        told.append([budget.spend() for _ in range(5)].count(True))

    assert told == [5] * 6 + [0] * 4 + [5, 5]


def test_after_a_long_rest_nothing_is_left_of_what_was(budget: Budget, time: Time) -> None:
    spend_all(budget)
    time.now += 1e6

    assert spend_all(budget) == 30


def test_a_call_that_came_a_moment_before_the_latest_repeat_brings_no_repeat_back(budget: Budget, time: Time) -> None:
    """A call is counted with the moment at which it was complete, which may lie in the second before."""
    time.now = 1001.0
    assert spend_all(budget) == 30
    budget.call(1000.9)

    assert not budget.spend()


def test_no_share_leaves_the_floor(time: Time) -> None:
    budget = Budget(0.0, time)
    for _ in range(1000):
        budget.call(1000.0)

    assert spend_all(budget) == 30
    assert repr(budget) == "<Budget 30 extra of 1000 calls>"
