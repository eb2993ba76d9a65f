"""What becomes of a call that was sent: answered, repeated, left to rest (design.md §6, row by row).

The place in line is kept all the while, and nothing is sent without a caller who has time.
"""

import gzip
import random
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from proxy.errors import BadReply, ConnectionLost, ConnectionRefused, IncompleteReply, ReplyTooLarge, ResponseTimeout
from proxy.messages import Sent
from proxy.talon.conflicts import Kind
from proxy.traffic import circuit
from proxy.traffic.attempts import Rules as AttemptRules
from proxy.traffic.flights import State
from proxy.traffic.retries import Reason
from proxy.traffic.retries import Rules as RetryRules
from tests.traffic_rig import PARALLEL_PROFILE, PARALLEL_SESSION, Shop, Shopper, ended, fields_of
from tests.upstream_fakes import FakeStream, FakeUpstream

# --- what was sent, and had no complete answer ---


@pytest.fixture
def shop() -> Iterator[Shop]:
    with ended(open_shop()) as shop:
        yield shop


def open_shop(**rules: Any) -> Shop:
    """Make a shop whose upstream has a connection for everybody. `rules`: of attempts, or of `retries`."""
    retries = {name: rules.pop(name) for name in list(rules) if name in RetryRules.__dataclass_fields__}
    shop = Shop(attempts=AttemptRules(response_timeout=10.0, retries=RetryRules(**retries), **rules), management=True)
    shop.upstream.ready = True
    return shop


def lose(shop: Shop, shopper: Shopper, *, reused: bool = True, after: float = 0.0, first_byte: bool = False) -> None:
    """Lose the connection on which this call was sent."""
    timeline = shop.asked(shopper).exchange.timeline
    timeline.reused = reused
    shop.clock.advance(after)
    if first_byte:
        timeline.first_byte = shop.clock.now
    error = IncompleteReply if first_byte else ConnectionLost
    shop.lose(shopper, error("x", sent=Sent.MAYBE))


IDEMPOTENT = (b"Idempotency-Key", b"k")
REPEATED: list[tuple[str, tuple[Any, ...]]] = [
    ("read", (b"GET", b"/v2/customer_sessions/s")),
    ("dry", (b"PUT", b"/v2/customer_sessions/s?dry=true", b"{}")),
    ("best prior price", (b"POST", b"/v1/best_prior_price", b"{}")),
    ("close with a key", (b"PUT", b"/v2/customer_sessions/s", b'{"customerSession":{"state":"closed"}}', IDEMPOTENT)),
    ("event with a key", (b"POST", b"/v2/events", b"{}", IDEMPOTENT)),
    ("return with a key", (b"POST", b"/v2/customer_sessions/s/returns", b"{}", IDEMPOTENT)),
    ("management read", (b"GET", b"/v1/applications")),
]
ONCE: list[tuple[str, tuple[Any, ...]]] = [
    ("event", (b"POST", b"/v2/events", b"{}")),
    ("close", (b"PUT", b"/v2/customer_sessions/s", b'{"customerSession":{"state":"closed"}}')),
    ("audiences", (b"PUT", b"/v2/customer_profiles/p", b'{"audiencesChanges":{}}')),
    ("unreadable", (b"PUT", b"/v2/customer_sessions/s", b"{")),
    ("delete", (b"DELETE", b"/v1/customer_data/p")),
    ("v3 event with a key", (b"POST", b"/v3/events", b"{}", IDEMPOTENT)),
    ("referral with a key", (b"POST", b"/v1/referrals", b"{}", IDEMPOTENT)),
    ("management write with a key", (b"POST", b"/v1/campaigns", b"{}", IDEMPOTENT)),
    ("old session", (b"PUT", b"/v1/customer_sessions/s", b"{}")),
]
MERGED: list[tuple[str, tuple[Any, ...]]] = [
    ("session", (b"PUT", b"/v2/customer_sessions/s", b'{"customerSession":{}}')),
    ("open session", (b"PUT", b"/v2/customer_sessions/s", b'{"customerSession":{"state":"open"}}')),
    ("profile", (b"PUT", b"/v2/customer_profiles/p", b'{"attributes":{}}')),
]


def cases(*lists: list[tuple[str, tuple[Any, ...]]]) -> pytest.MarkDecorator:
    found = [case for cases in lists for case in cases]
    return pytest.mark.parametrize("call", [call for _, call in found], ids=[name for name, _ in found])


@cases(REPEATED)
@pytest.mark.parametrize("first_byte", [True, False])
def test_what_may_be_repeated_is_sent_once_more(shop: Shop, call: tuple[Any, ...], first_byte: bool) -> None:
    """Reads, dry calls, and what Talon.One heeds the Idempotency-Key of: the same bytes."""
    shopper = shop.submit(*call)
    lose(shop, shopper, reused=False, after=5, first_byte=first_byte)
    shop.reply_to(shopper)

    assert shopper.reply.status == 200
    assert shop.attempts.retried[Reason.LOST] == 1
    assert shop.sent[0].head == shop.sent[1].head
    assert shop.sent[0].body == shop.sent[1].body


@cases(REPEATED, MERGED)
def test_and_not_twice(shop: Shop, call: tuple[Any, ...]) -> None:
    shopper = shop.submit(*call)
    lose(shop, shopper)
    lose(shop, shopper)

    assert shopper.failure == (502, b"connection_terminated", b"unknown")
    assert len(shop.sent) == 2


@cases(ONCE)
def test_anything_else_is_sent_once_and_its_outcome_is_unknown(shop: Shop, call: tuple[Any, ...]) -> None:
    shopper = shop.submit(*call)
    lose(shop, shopper)

    assert shopper.failure == (502, b"connection_terminated", b"unknown")
    assert len(shop.sent) == 1


@cases(MERGED)
def test_an_update_that_is_merged_is_sent_again_where_an_idle_connection_was_being_closed(
    shop: Shop, call: tuple[Any, ...]
) -> None:
    shopper = shop.submit(*call)
    lose(shop, shopper, after=0.2)
    shop.reply_to(shopper)

    assert shopper.reply.status == 200
    assert shop.attempts.retried[Reason.IDLE_CLOSE] == 1


@cases(MERGED)
@pytest.mark.parametrize(
    "how", [{"reused": False}, {"after": 0.3}, {"first_byte": True}], ids=["fresh", "later", "within the answer"]
)
def test_and_not_where_anything_else_may_have_happened(shop: Shop, call: tuple[Any, ...], how: dict[str, Any]) -> None:
    shopper = shop.submit(*call)
    lose(shop, shopper, **how)

    assert shopper.failure[2] == b"unknown"
    assert len(shop.sent) == 1


def test_what_is_repeated_keeps_its_place(shop: Shop) -> None:
    """B10: and those behind it wait."""
    first, second = shop.session("s", number=1), shop.session("s", number=2)
    lose(shop, first)
    assert not shop.was_sent(second)
    shop.reply_to(first)

    assert shop.was_sent(second)


def test_what_may_have_been_executed_is_repeated_nowhere_else(shop: Shop) -> None:
    """After a switch the other cluster knows nothing of the first attempt."""
    shopper = shop.submit(b"POST", b"/v2/events", b"{}", IDEMPOTENT)
    new = FakeUpstream(shop.clock, b"new.example")
    new.ready = True
    shop.upstream.current = new
    lose(shop, shopper)
    shop.reply_to(shopper)

    assert len(shop.sent) == 2
    assert not new.connection.sent


def test_where_the_old_upstream_is_gone_the_outcome_stays_unknown(shop: Shop) -> None:
    shopper = shop.submit(b"POST", b"/v2/events", b"{}", IDEMPOTENT)
    shop.upstream.ready = False
    lose(shop, shopper)
    for _ in range(3):
        shop.upstream.fail(ConnectionLost("x", sent=Sent.NO))

    assert shopper.failure == (502, b"connection_terminated", b"unknown")


@pytest.mark.parametrize("end", ["leave", "deadline", "stop"])
def test_who_gives_up_between_two_attempts_knows_as_little(shop: Shop, end: str) -> None:
    shopper = shop.submit(b"POST", b"/v2/events", b"{}", IDEMPOTENT)
    shop.upstream.ready = False
    lose(shop, shopper)
    assert shopper.flight.state is State.QUEUED
    if end == "leave":
        shopper.waiter.leave()
        assert shop.witness.left == [(shopper.call, Sent.MAYBE)]
    elif end == "deadline":
        shop.clock.advance(15.1)
        assert shopper.failure == (504, b"http_response_timeout", b"unknown")
    else:
        shop.pipeline.refuse_unsent()
        assert shopper.failure == (503, b"http_request_denied", b"unknown")
    assert not shop.upstream.waiting


@cases(REPEATED, ONCE, MERGED)
def test_no_answer_in_time_is_not_tried_again(shop: Shop, call: tuple[Any, ...]) -> None:
    shopper = shop.submit(*call)
    shop.upstream.time_out(shop.asked(shopper))

    assert shopper.failure == (504, b"connection_read_timeout", b"unknown")
    assert len(shop.sent) == 1


# --- what a gateway answered for Talon.One ---


@cases(REPEATED)
@pytest.mark.parametrize("status", [502, 503, 504])
def test_what_may_be_repeated_is_sent_again_after_a_moment(shop: Shop, call: tuple[Any, ...], status: int) -> None:
    shopper = shop.submit(*call)
    shop.reply_to(shopper, status)
    assert len(shop.sent) == 1
    shop.clock.advance(0.35)
    shop.reply_to(shopper, status, b"again")

    assert (shopper.reply.status, shopper.reply.body) == (status, b"again")
    assert len(shop.sent) == 2
    assert shop.attempts.retried[Reason.STATUS] == 1
    assert 0.1 <= shopper.call.timeline.backoff <= 0.35


@cases(ONCE, MERGED)
@pytest.mark.parametrize(("status", "outcome"), [(502, b"unknown"), (503, None), (504, b"unknown"), (500, None)])
def test_a_write_is_passed_on_with_what_is_known_of_its_outcome(
    shop: Shop, call: tuple[Any, ...], status: int, outcome: bytes | None
) -> None:
    shopper = shop.submit(*call)
    shop.reply_to(shopper, status, b"theirs", block=b"X: y\r\n")
    fields = fields_of(shopper.reply.block)

    assert (shopper.reply.status, shopper.reply.body, fields[b"X"]) == (status, b"theirs", b"y")
    assert fields.get(b"Talon-Proxy-Outcome") == outcome
    assert len(shop.sent) == 1


@cases(REPEATED)
def test_a_read_that_a_gateway_could_not_answer_has_no_outcome(shop: Shop, call: tuple[Any, ...]) -> None:
    shopper = shop.submit(*call)
    for _ in range(2):
        shop.reply_to(shopper, 502)
        shop.clock.advance(0.35)
    fields = fields_of(shopper.reply.block)

    assert (fields.get(b"Talon-Proxy-Outcome") is None) is shopper.flight.route.reads


@pytest.mark.parametrize("status", [502, 504])
@pytest.mark.parametrize("then", ["unsent", "503", "deadline", "leave"])
def test_what_a_gateway_left_open_stays_open_whatever_becomes_of_the_next_attempt(
    shop: Shop, status: int, then: str
) -> None:
    shopper = shop.submit(b"POST", b"/v2/events", b"{}", IDEMPOTENT, (b"Talon-Proxy-Timeout-Ms", b"2000"))
    shop.reply_to(shopper, status)
    if then == "leave":
        shopper.waiter.leave()
        assert shop.witness.left == [(shopper.call, Sent.MAYBE)]
        return
    shop.upstream.ready = False
    shop.clock.advance(0.35)
    if then == "deadline":
        shop.clock.advance(2)
    elif then == "503":
        shop.upstream.admit()
        shop.upstream.answer(503)
    else:
        for _ in range(3):
            shop.upstream.fail(ConnectionRefused("x"))

    assert fields_of(shopper.reply.block)[b"Talon-Proxy-Outcome"] == b"unknown"


def test_what_a_gateway_left_open_is_repeated_nowhere_else(shop: Shop) -> None:
    shopper = shop.submit(b"POST", b"/v2/events", b"{}", IDEMPOTENT)
    new = FakeUpstream(shop.clock, b"new.example")
    new.ready = True
    shop.upstream.current = new
    shop.reply_to(shopper, 502)
    shop.clock.advance(0.35)

    assert len(shop.sent) == 2
    assert not new.connection.sent


@pytest.mark.parametrize(
    ("call", "again"),
    [
        ((b"GET", b"/v1/applications"), True),
        ((b"POST", b"/v1/campaigns", b"{}"), False),
        ((b"GET", b"/v2/customer_sessions/s"), False),
    ],
)
def test_only_a_read_of_the_management_api_waits_where_it_was_too_quick(
    shop: Shop, call: tuple[Any, ...], again: bool
) -> None:
    shopper = shop.submit(*call)
    shop.reply_to(shopper, 429)
    shop.clock.advance(1.1)

    assert len(shop.sent) == 1 + again
    assert shop.attempts.retried[Reason.THROTTLED] == again


def test_a_large_answer_that_is_not_the_last_is_given_up(shop: Shop) -> None:
    shopper, stream = shop.read(), FakeStream()
    shop.reply_to(shopper, 503, stream=stream)

    assert stream.abandoned == 1
    shop.clock.advance(0.35)
    assert len(shop.sent) == 2


# --- conflicts ---


@pytest.fixture
def no_jitter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(random, "uniform", lambda low, high: high)


PARALLEL = pytest.mark.parametrize("body", [PARALLEL_SESSION, PARALLEL_PROFILE], ids=["session", "profile"])


@PARALLEL
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.usefixtures("no_jitter")
def test_a_full_queue_is_no_answer(shop: Shop, body: bytes, packed: bool) -> None:
    """It was not executed: it is sent again, and its caller sees nothing of it."""
    shopper = shop.event("p")
    block = b"Content-Encoding: gzip\r\n" if packed else b""
    shop.reply_to(shopper, 409, gzip.compress(body) if packed else body, block=block)
    told = [len(shop.sent)]
    shop.clock.advance(0.08)
    told.append(len(shop.sent))
    shop.reply_to(shopper, 201)

    assert told == [1, 2]
    assert shopper.reply.status == 201
    assert shopper.call.timeline.conflicts == 1
    kind = Kind.SESSION if body is PARALLEL_SESSION else Kind.PROFILE
    assert {key: count for key, count in shop.attempts.conflicts.items() if count} == {(kind, False): 1}


@pytest.mark.usefixtures("no_jitter")
def test_its_place_is_kept_while_it_waits(shop: Shop) -> None:
    """B10: nobody behind it overtakes it."""
    first, second = shop.session("s", number=1), shop.session("s", number=2)
    shop.reply_to(first, 409, PARALLEL_SESSION)
    assert first.flight.state is State.QUEUED
    assert not shop.was_sent(second)
    shop.clock.advance(0.08)
    assert not shop.was_sent(second)
    shop.reply_to(first)

    assert shop.was_sent(second)


@pytest.mark.usefixtures("no_jitter")
def test_who_stands_inside_a_gate_stays_there_while_it_waits() -> None:
    shop = Shop(shared=("guest",))
    shop.upstream.ready = True
    with ended(shop):
        shoppers = [shop.session(f"s{number}", "guest") for number in range(4)]
        shop.reply_to(shoppers[0], 409, PARALLEL_PROFILE)
        assert not shop.was_sent(shoppers[3])
        shop.clock.advance(0.08)

        assert len(shop.under_way()) == 3
        assert not shop.was_sent(shoppers[3])


@pytest.mark.usefixtures("no_jitter")
def test_after_eight_more_attempts_the_refusal_is_the_answer(shop: Shop) -> None:
    """Talon.One's own, unchanged. The waits double up to a second, and are not counted against the budget."""
    shopper = shop.submit(b"POST", b"/v2/events", b"{}")
    waits = []
    while not shopper.answers:
        sent, before = len(shop.sent), shop.clock.now
        shop.reply_to(shopper, 409, PARALLEL_PROFILE, block=b"X: y\r\n")
        while len(shop.sent) == sent and not shopper.answers:
            shop.clock.advance(0.01)
        waits.append(shop.clock.now - before)

    assert waits == pytest.approx([0.05, 0.1, 0.2, 0.4, 0.8, 1.0, 1.0, 1.0, 0.0], abs=0.04)
    assert (shopper.reply.status, shopper.reply.body) == (409, PARALLEL_PROFILE)
    assert shopper.reply.block == b"X: y\r\n"
    assert len(shop.sent) == 9
    assert shop.attempts.conflicts[Kind.PROFILE, True] == 1
    assert shop.attempts.conflicts[Kind.PROFILE, False] == 0


@pytest.mark.parametrize("tries", [0, 1, 3])
def test_how_often_is_a_setting(tries: int) -> None:
    with ended(open_shop(conflict_tries=tries)) as shop:
        shopper = shop.event("p")
        while not shopper.answers:
            shop.reply_to(shopper, 409, PARALLEL_PROFILE)
            shop.clock.advance(1.1)

        assert len(shop.sent) == tries + 1


@pytest.mark.usefixtures("no_jitter")
def test_a_wait_counts_against_the_callers_time(shop: Shop) -> None:
    """B10: where there is no time for another attempt the refusal is the answer."""
    shopper = shop.session("s", None, (b"Talon-Proxy-Timeout-Ms", b"120"))
    shop.reply_to(shopper, 409, PARALLEL_SESSION)
    shop.clock.advance(0.08)
    shop.reply_to(shopper, 409, PARALLEL_SESSION)

    assert (shopper.reply.status, shopper.reply.body) == (409, PARALLEL_SESSION)
    assert shop.attempts.conflicts[Kind.SESSION, True] == 1


@pytest.mark.usefixtures("no_jitter")
def test_its_last_caller_who_leaves_ends_the_waiting(shop: Shop) -> None:
    """It was never executed, and is not sent for nobody."""
    shopper, behind = shop.session("s", number=1), shop.session("s", number=2)
    shop.reply_to(shopper, 409, PARALLEL_SESSION)
    assert shopper.waiter.leave()

    assert shop.witness.left == [(shopper.call, Sent.NO)]
    assert shop.was_sent(behind)
    shop.clock.advance(1)
    assert len(shop.sent) == 2


@pytest.mark.usefixtures("no_jitter")
def test_a_conflict_that_ended_in_a_failure_of_ours_was_not_resolved(shop: Shop) -> None:
    shopper = shop.session("s")
    shop.reply_to(shopper, 409, PARALLEL_SESSION)
    shop.upstream.ready = False  # there is no connection for the next attempt
    shop.clock.advance(15.1)

    assert shopper.failure == (504, b"connection_limit_reached", b"not-sent")
    assert not any(shop.attempts.conflicts.values())


@pytest.mark.usefixtures("no_jitter")
def test_what_decides_the_fate_of_an_order_is_tried_again_though_its_caller_left(shop: Shop) -> None:
    shopper = shop.session("s", state="closed")
    shopper.waiter.leave()
    shop.reply_to(shopper, 409, PARALLEL_SESSION)
    shop.clock.advance(0.08)

    assert len(shop.under_way()) == 1


@pytest.mark.parametrize(
    "body", [b'{"message":"An advanced event already exists"}', b'{"message":"limit reached"}', b"", b"\xff"]
)
def test_any_other_conflict_is_the_answer(shop: Shop, body: bytes) -> None:
    shopper = shop.event("p")
    shop.reply_to(shopper, 409, body)

    assert (shopper.reply.status, shopper.reply.body) == (409, body)
    assert len(shop.sent) == 1
    kind = Kind.EXISTS if b"exists" in body else Kind.OTHER
    assert {key: count for key, count in shop.attempts.conflicts.items() if count} == {(kind, True): 1}


@pytest.mark.usefixtures("no_jitter")
def test_a_conflict_of_another_kind_ends_the_trying(shop: Shop) -> None:
    shopper = shop.submit(b"POST", b"/v3/events", {"profileId": "p", "integrationId": "e"})
    shop.reply_to(shopper, 409, PARALLEL_PROFILE)
    shop.clock.advance(0.08)
    shop.reply_to(shopper, 409, b"already exists")

    assert shopper.reply.body == b"already exists"
    assert {key: count for key, count in shop.attempts.conflicts.items() if count} == {(Kind.EXISTS, True): 1}


@pytest.mark.usefixtures("no_jitter")
def test_those_who_share_see_nothing_of_the_conflict_either(shop: Shop) -> None:
    first = shop.session("s")
    shop.reply_to(first, 409, PARALLEL_SESSION)
    second = shop.session("s")
    assert second.joined  # it is not sent: joined it goes with the next attempt
    shop.clock.advance(0.08)
    shop.reply_to(first)

    assert [shopper.reply.status for shopper in (first, second)] == [200, 200]


@pytest.mark.usefixtures("no_jitter")
def test_the_time_of_who_joined_last_is_the_time_for_another_attempt(shop: Shop) -> None:
    first = shop.session("s", None, (b"Talon-Proxy-Timeout-Ms", b"30"))
    second = shop.session("s")
    shop.reply_to(first, 409, PARALLEL_SESSION)
    shop.clock.advance(0.08)
    shop.reply_to(first)

    assert [shopper.reply.status for shopper in (first, second)] == [504, 200]


def test_after_a_conflict_an_attempt_goes_to_the_upstream_of_its_moment(shop: Shop) -> None:
    shopper = shop.event("p")
    new = FakeUpstream(shop.clock, b"new.example")
    new.ready = True
    shop.upstream.current = new
    shop.reply_to(shopper, 409, PARALLEL_PROFILE)
    shop.clock.advance(0.1)
    new.answer()

    assert shopper.reply.status == 200


# --- how often ---


def test_repeats_are_bounded_by_the_budget(shop: Shop) -> None:
    """Thirty in ten seconds, or a tenth of the calls; then the failure is the answer."""
    shoppers = [shop.event(f"p{number}", IDEMPOTENT) for number in range(40)]
    for shopper in shoppers:
        lose(shop, shopper)

    assert shop.attempts.retried[Reason.LOST] == 30
    assert shop.attempts.unaffordable[Reason.LOST] == 10
    assert [len(shopper.answers) for shopper in shoppers] == [0] * 30 + [1] * 10
    assert shoppers[-1].failure == (502, b"connection_terminated", b"unknown")


def test_attempts_of_which_nothing_was_sent_are_bounded_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(circuit, "IN_A_ROW", 1000)
    monkeypatch.setattr(circuit, "LEAST_CALLS", 1000)
    shop = Shop()
    shoppers = [shop.event(f"p{number}") for number in range(40)]
    for _ in shoppers:
        shop.upstream.fail(ConnectionRefused("x"))

    assert shop.attempts.retried[Reason.CONNECTION] == 30
    assert shoppers[-1].failure == (502, b"connection_refused", b"not-sent")
    shop.pipeline.refuse_unsent()


@pytest.mark.usefixtures("no_jitter")
def test_conflicts_are_not(shop: Shop) -> None:
    shoppers = [shop.event(f"p{number}") for number in range(40)]
    for shopper in shoppers:
        shop.reply_to(shopper, 409, PARALLEL_PROFILE)
    shop.clock.advance(0.08)

    assert len(shop.under_way()) == 40


def test_nothing_is_tried_again_while_the_proxy_shuts_down(shop: Shop) -> None:
    shoppers = [shop.read(), shop.event("p"), shop.event("q", IDEMPOTENT)]
    shop.pipeline.refuse_unsent()
    shop.reply_to(shoppers[0], 503)
    shop.reply_to(shoppers[1], 409, PARALLEL_PROFILE)
    lose(shop, shoppers[2])

    assert [shopper.reply.status for shopper in shoppers] == [503, 409, 502]


# --- keys of our own ---


def key_of(shop: Shop, number: int) -> bytes | None:
    return fields_of(shop.sent[number].head.partition(b"\r\n")[2]).get(b"Idempotency-Key")


@pytest.fixture
def keyed() -> Iterator[Shop]:
    with ended(open_shop(generate_keys=True)) as shop:
        yield shop


def test_no_key_is_made_unless_told(shop: Shop) -> None:
    shop.event("p")

    assert key_of(shop, 0) is None


@pytest.mark.parametrize(
    ("call", "made"),
    [
        ((b"POST", b"/v2/events", b"{}"), True),
        ((b"PUT", b"/v2/customer_sessions/s", b"{}"), True),
        ((b"PUT", b"/v2/customer_profiles", b"{}"), True),
        ((b"POST", b"/v3/events", b"{}"), False),
        ((b"GET", b"/v2/customer_sessions/s"), False),
        ((b"PUT", b"/v2/customer_sessions/s?dry=true", b"{}"), False),
        ((b"POST", b"/v1/campaigns", b"{}"), False),
    ],
)
def test_a_key_is_made_where_talon_one_heeds_it_and_something_is_stored(
    keyed: Shop, call: tuple[Any, ...], made: bool
) -> None:
    keyed.submit(*call)

    assert (key_of(keyed, 0) is not None) is made


def test_the_callers_own_key_is_left_alone(keyed: Shop) -> None:
    shopper = keyed.event("p", IDEMPOTENT)
    keyed.reply_to(shopper, 409, PARALLEL_PROFILE)
    keyed.clock.advance(0.1)

    assert [key_of(keyed, number) for number in range(2)] == [b"k", b"k"]


def test_after_a_lost_connection_the_same_key_goes_again(keyed: Shop) -> None:
    shopper = keyed.event("p")
    lose(keyed, shopper, reused=False, after=3)
    keyed.reply_to(shopper)

    assert shopper.reply.status == 200
    assert key_of(keyed, 0) == key_of(keyed, 1)


def test_after_a_conflict_another_key_goes(keyed: Shop) -> None:
    """Talon.One may have stored the refusal with the first (talon-one-facts.md §3)."""
    shopper = keyed.event("p")
    keyed.reply_to(shopper, 409, PARALLEL_PROFILE)
    keyed.clock.advance(0.1)

    assert key_of(keyed, 0) != key_of(keyed, 1)


def test_after_a_conflict_the_same_key_goes_where_the_attempt_before_may_have_been_executed(
    keyed: Shop,
) -> None:
    """Under another key it would be executed twice."""
    shopper = keyed.event("p")
    lose(keyed, shopper)
    keyed.reply_to(shopper, 409, PARALLEL_PROFILE)
    keyed.clock.advance(0.1)

    assert key_of(keyed, 0) == key_of(keyed, 1) == key_of(keyed, 2)


def test_two_calls_have_two_keys(keyed: Shop) -> None:
    keyed.event("p")
    keyed.event("q")

    assert key_of(keyed, 0) != key_of(keyed, 1)


# --- what nobody knows the end of: hold and quarantine ---


def unknown(how: str) -> Callable[[Shop, Shopper], None]:
    return {
        "lost": lambda shop, shopper: lose(shop, shopper, reused=False),
        "502": lambda shop, shopper: shop.reply_to(shopper, 502),
        "504": lambda shop, shopper: shop.reply_to(shopper, 504),
        "nonsense": lambda shop, shopper: shop.lose(shopper, BadReply("x", sent=Sent.MAYBE)),
    }[how]


@pytest.mark.parametrize("how", ["lost", "502", "504", "nonsense"])
def test_after_an_unknown_outcome_the_lane_rests(shop: Shop, how: str) -> None:
    """B9: for a second; its caller has its answer at once."""
    first, second, read = shop.session("s", number=1), shop.session("s", number=2), shop.read()
    other = shop.session("t")
    unknown(how)(shop, first)
    told = []
    for seconds in (0, 0.95, 0.1):
        shop.clock.advance(seconds)
        told.append(shop.was_sent(second))

    assert len(first.answers) == 1
    assert told == [False, False, True]
    assert shop.was_sent(read)
    assert shop.was_sent(other)


def test_a_conflict_after_a_lost_attempt_says_that_the_outcome_is_unknown_and_the_lane_rests(shop: Shop) -> None:
    """The first attempt may be what stands in the way of the second."""
    first = shop.submit(b"PUT", b"/v2/customer_sessions/s", b'{"customerSession":{"state":"closed"}}', IDEMPOTENT)
    second = shop.session("s", number=2)
    lose(shop, first, reused=False)
    shop.reply_to(first, 409, b'{"message":"exists already"}')
    told = [shop.was_sent(second)]
    shop.clock.advance(1.1)
    told.append(shop.was_sent(second))

    assert first.reply.status == 409
    assert b"Talon-Proxy-Outcome: unknown\r\n" in first.reply.block
    assert told == [False, True]


@pytest.mark.parametrize("status", [200, 400, 404, 409, 500, 503])
def test_after_any_answer_the_lane_goes_on(shop: Shop, status: int) -> None:
    first, second = shop.session("s", number=1), shop.session("s", number=2)
    shop.reply_to(first, status)

    assert shop.was_sent(second)


def test_after_an_answer_too_large_the_lane_goes_on(shop: Shop) -> None:
    """It was executed: its profile stays known."""
    first, second = shop.session("s", "p"), shop.session("s", number=2)
    shop.lose(first, ReplyTooLarge("x"))

    assert first.failure == (502, b"http_response_body_size", None)
    assert shop.was_sent(second)
    assert shop.profiles(("default", "s")) == ("p",)


@pytest.mark.parametrize("quarantine", [0.0, 3.0])
def test_how_long_it_rests_is_a_setting(quarantine: float) -> None:
    with ended(open_shop(quarantine=quarantine)) as shop:
        first, second = shop.session("s", number=1), shop.session("s", number=2)
        lose(shop, first, reused=False)
        told = [shop.was_sent(second)]
        for seconds in (2.9, 0.2):
            shop.clock.advance(seconds)
            told.append(shop.was_sent(second))

        assert told == ([True] * 3 if not quarantine else [False, False, True])


def test_what_stands_in_no_lane_rests_nowhere(shop: Shop) -> None:
    shopper = shop.submit(b"PUT", b"/v2/something/new", b"{}")
    lose(shop, shopper)

    assert not shop.pipeline.flights


def test_no_answer_in_time_and_the_end_is_still_looked_out_for(shop: Shop) -> None:
    """Its caller is told at once; the lane is held, and goes on when the end is seen."""
    first, second = shop.session("s", number=1), shop.session("s", number=2)
    asked = shop.asked(first)

    assert shop.upstream.time_out(asked) == 5.0
    assert first.failure == (504, b"connection_read_timeout", b"unknown")
    shop.clock.advance(4)
    assert not shop.was_sent(second)
    shop.upstream.end(asked, 200, b"late")
    assert shop.was_sent(second)
    assert len(first.answers) == 1


def test_where_the_end_is_not_seen_the_lane_rests_from_then_on(shop: Shop) -> None:
    first, second = shop.session("s", number=1), shop.session("s", number=2)
    asked = shop.asked(first)
    shop.upstream.time_out(asked)
    shop.clock.advance(5)
    shop.upstream.break_off_of(asked, ResponseTimeout("x", sent=Sent.MAYBE))
    told = []
    for seconds in (0.9, 0.2):
        shop.clock.advance(seconds)
        told.append(shop.was_sent(second))

    assert told == [False, True]
    assert len(first.answers) == 1


def test_a_call_that_nobody_waits_for_any_more_is_held_all_the_same(shop: Shop) -> None:
    first, second = shop.session("s", number=1), shop.session("s", number=2)
    first.waiter.leave()

    assert shop.upstream.time_out(shop.asked(first)) == 5.0
    assert not shop.was_sent(second)


@cases(REPEATED[:3])
def test_the_connection_of_a_read_is_closed_at_once(shop: Shop, call: tuple[Any, ...]) -> None:
    shopper = shop.submit(*call)

    assert shop.upstream.time_out(shop.asked(shopper)) == 0.0
    assert shopper.failure == (504, b"connection_read_timeout", b"unknown")
    assert not shop.pipeline.flights


def test_where_the_pool_can_spare_no_connection_the_lane_only_rests(shop: Shop) -> None:
    shop.upstream.holds = False
    first, second = shop.session("s", number=1), shop.session("s", number=2)

    assert shop.upstream.time_out(shop.asked(first)) == 0.0
    assert not shop.was_sent(second)
    shop.clock.advance(1.1)
    assert shop.was_sent(second)


def test_how_long_the_end_is_looked_out_for_is_a_setting() -> None:
    with ended(open_shop(hold=2.0)) as shop:
        assert shop.upstream.time_out(shop.asked(shop.session("s"))) == 2.0
    with ended(open_shop(hold=0.0)) as shop:
        first, second = shop.session("s", number=1), shop.session("s", number=2)
        assert shop.upstream.time_out(shop.asked(first)) == 0.0
        assert len(first.answers) == 1
        shop.clock.advance(1.1)
        assert shop.was_sent(second)


@pytest.mark.parametrize("how", ["hold", "quarantine"])
def test_shutting_down_holds_no_lane(shop: Shop, how: str) -> None:
    """Neither one that is held already nor one that would be."""
    lanes = [[shop.session(name, number=number) for number in range(2)] for name in "ab"]
    (first, second), (third, fourth) = lanes

    def end(shopper: Shopper) -> None:
        if how == "hold":
            shop.upstream.time_out(shop.asked(shopper))
        else:
            lose(shop, shopper, reused=False)

    end(first)
    assert not shop.was_sent(second)
    shop.attempts.hurry(shop.pipeline.flights)
    assert shop.was_sent(second)
    end(third)
    assert shop.was_sent(fourth)


def test_the_end_of_what_was_held_comes_too_late_for_a_shutdown(shop: Shop) -> None:
    first = shop.session("s")
    asked = shop.asked(first)
    shop.upstream.time_out(asked)
    shop.attempts.hurry(shop.pipeline.flights)
    assert not shop.pipeline.flights
    shop.upstream.end(asked)

    assert len(first.answers) == 1
