"""The attempts of one call: repeated only where nothing was sent, and signed at the last moment."""

from collections.abc import Callable

import pytest

from proxy.errors import (
    BadReply,
    CertificateError,
    ConnectionLost,
    ConnectionRefused,
    ConnectTimeout,
    IncompleteReply,
    NameNotResolved,
    NameTimeout,
    PoolTimeout,
    ReplyTooLarge,
    ResponseTimeout,
    TlsError,
    UpstreamError,
)
from proxy.keyset import KeyPair, KeySet, Ledger
from proxy.messages import Reply, Sent, Timeline
from proxy.secret import Secret
from proxy.traffic.attempts import Rules as AttemptRules
from proxy.traffic.flights import State
from proxy.traffic.retries import Reason
from proxy.traffic.retries import Rules as RetryRules
from tests.harness import KEY
from tests.traffic_rig import Shop, Shopper
from tests.upstream_fakes import FakeStream, FakeUpstream

pytestmark = pytest.mark.usefixtures("silence")


class Rig(Shop):
    """A shop with one call, of which nothing may be repeated that was sent."""

    def __init__(self, rules: AttemptRules | None = None, *, deadline: bytes = b"15000") -> None:
        super().__init__(attempts=rules)
        self.shopper: Shopper
        self.deadline = deadline

    def begin(self, method: bytes = b"POST", target: bytes = b"/v2/events?y", body: object = b"{}") -> Shopper:
        self.shopper = self.submit(method, target, body, (b"Talon-Proxy-Timeout-Ms", self.deadline), (b"X", b"y"))
        return self.shopper

    @property
    def timeline(self) -> Timeline:
        return self.shopper.call.timeline

    @property
    def reply(self) -> Reply:
        return self.shopper.reply


@pytest.fixture
def rig() -> Rig:
    return Rig()


async def test_a_call_is_written_with_host_fields_and_key(rig: Rig) -> None:
    rig.begin()
    asked = rig.upstream.admit()
    assert rig.shopper.flight.state is State.SENT
    rig.upstream.answer(201)

    assert rig.reply.status == 201
    assert asked.head.startswith(b"POST /v2/events?y HTTP/1.1\r\nHost: upstream.example\r\nX: y\r\nVia: ")
    assert asked.head.endswith(b"\r\nContent-Length: 2\r\nAuthorization: ApiKey-v1 %b\r\n\r\n" % KEY.encode())
    assert (asked.exchange.method, asked.body, asked.timeout, asked.exchange.may_stream) == (b"POST", b"{}", 10.0, True)
    assert asked.exchange.timeline is rig.timeline
    assert rig.timeline.tries == 1


async def test_an_idle_connection_is_used_without_waiting(rig: Rig) -> None:
    rig.upstream.ready = True
    rig.begin()
    assert rig.shopper.flight.state is State.SENT
    rig.upstream.answer()

    assert rig.reply.status == 200
    assert rig.upstream.waited == 0


UNSENT: list[Callable[[], UpstreamError]] = [
    lambda: ConnectionRefused("x"),
    lambda: NameNotResolved("x"),
    lambda: TlsError("x"),
    lambda: ConnectionLost("x", sent=Sent.NO),
]


@pytest.mark.parametrize("fail", UNSENT)
async def test_what_was_not_sent_is_tried_again(rig: Rig, fail: Callable[[], UpstreamError]) -> None:
    rig.begin()
    rig.upstream.fail(fail())
    rig.upstream.fail(fail())
    rig.upstream.admit()
    rig.upstream.answer()

    assert rig.reply.status == 200
    assert rig.timeline.tries == 3
    assert rig.attempts.retried[Reason.CONNECTION] == 2
    assert len(rig.sent) == 1


@pytest.mark.parametrize("fail", [ConnectTimeout, NameTimeout])
async def test_a_black_hole_is_tried_once_more_only(rig: Rig, fail: type[UpstreamError]) -> None:
    """U4: each attempt costs a whole time-out."""
    rig.begin()
    rig.upstream.fail(fail("x"))
    rig.upstream.fail(fail("x"))

    assert rig.shopper.failure[0] == 504
    assert rig.timeline.tries == 2


@pytest.mark.parametrize("retries", [0, 1, 2, 4])
async def test_it_is_tried_again_so_many_times_and_no_more(retries: int) -> None:
    rig = Rig(AttemptRules(response_timeout=10.0, retries=RetryRules(connection=retries)))
    rig.begin()
    for number in range(retries + 1):
        assert not rig.shopper.answers
        rig.upstream.fail(ConnectionRefused(f"{number}"))

    assert rig.shopper.failure == (502, b"connection_refused", b"not-sent")
    assert rig.timeline.tries == retries + 1
    assert not rig.sent
    rig.assert_idle()


async def test_a_wrong_certificate_is_not_tried_again(rig: Rig) -> None:
    rig.begin()
    rig.upstream.fail(CertificateError("x"))

    assert rig.shopper.failure == (502, b"tls_certificate_error", b"not-sent")
    assert rig.timeline.tries == 1


@pytest.mark.parametrize("kind", [ConnectionLost, IncompleteReply, BadReply, ResponseTimeout])
async def test_what_may_have_been_sent_is_not_tried_again(rig: Rig, kind: type[UpstreamError]) -> None:
    rig.begin()
    rig.upstream.admit()
    rig.upstream.break_off(kind("x", sent=Sent.MAYBE))

    assert rig.shopper.failure == (kind.status, kind.token, b"unknown")
    assert rig.timeline.tries == 1


async def test_an_answer_that_is_too_large_is_not_tried_again_and_its_outcome_is_known(rig: Rig) -> None:
    rig.begin()
    rig.upstream.admit()
    rig.clock.advance(2)
    rig.upstream.break_off(ReplyTooLarge("x"))

    assert rig.shopper.failure == (502, b"http_response_body_size", None)
    assert rig.timeline.tries == 1
    assert rig.timeline.upstream == 2


@pytest.mark.parametrize("error", [ConnectionRefused("x"), PoolTimeout("x")])
async def test_after_the_deadline_nothing_is_tried_again(error: UpstreamError) -> None:
    rig = Rig(deadline=b"5000")
    rig.begin()
    rig.clock.now += 5  # the loop was blocked: no alarm has rung
    rig.upstream.fail(error)

    assert rig.shopper.failure == (504, b"http_response_timeout", b"not-sent")
    assert rig.timeline.tries == 1
    assert rig.attempts.retried[Reason.CONNECTION] == 0


async def test_after_the_deadline_a_failure_that_would_not_be_repeated_is_told_as_it_is() -> None:
    rig = Rig(deadline=b"5000")
    rig.begin()
    rig.clock.now += 5
    rig.upstream.fail(CertificateError("x"))

    assert rig.shopper.failure[1] == b"tls_certificate_error"


async def test_a_connection_that_comes_after_the_deadline_is_given_back_unused() -> None:
    rig = Rig(deadline=b"5000")
    rig.begin()
    rig.clock.now += 5
    rig.upstream.grant()

    assert rig.shopper.failure == (504, b"http_response_timeout", b"not-sent")
    assert rig.upstream.released == 1
    assert not rig.sent


async def test_a_call_leaves_with_the_key_of_the_moment(rig: Rig) -> None:
    rig.begin()
    rig.upstream.keys = KeySet({"default": KeyPair(Secret("rotated"))}, None, Ledger())
    asked = rig.upstream.admit()
    rig.upstream.answer()

    assert b"\r\nAuthorization: ApiKey-v1 rotated\r\n" in asked.head


async def test_another_attempt_goes_to_the_upstream_of_its_moment(rig: Rig) -> None:
    rig.begin()
    new = FakeUpstream(rig.clock, b"new.example")
    rig.upstream.current = new
    rig.upstream.fail(ConnectionLost("x", sent=Sent.NO))
    asked = new.admit()
    new.answer()

    assert b"\r\nHost: new.example\r\n" in asked.head
    assert rig.reply.status == 200


async def test_those_who_waited_for_an_upstream_that_was_left_cost_no_budget(rig: Rig) -> None:
    """However many they are: nothing had failed."""
    shoppers = [rig.event(f"p{number}") for number in range(100)]
    new = FakeUpstream(rig.clock, b"new.example")
    new.ready = True
    rig.upstream.current = new
    for _ in shoppers:
        rig.upstream.fail(ConnectionLost("x", sent=Sent.NO))

    assert len(new.connection.sent) == 100


async def test_an_upstream_that_was_left_is_no_failure_of_the_next(rig: Rig) -> None:
    rig.begin()
    new = FakeUpstream(rig.clock, b"new.example")
    rig.upstream.current = new
    rig.upstream.fail(ConnectionLost("x", sent=Sent.NO))
    for _ in range(2):
        new.fail(ConnectionRefused("x"))
    assert not rig.shopper.answers
    new.fail(ConnectionRefused("x"))

    assert rig.shopper.failure == (502, b"connection_refused", b"not-sent")


async def test_the_time_with_talon_one_is_counted(rig: Rig) -> None:
    rig.begin()
    rig.clock.advance(3)
    rig.upstream.admit()
    rig.clock.advance(2)
    rig.upstream.answer()

    assert rig.timeline.upstream == 2
    assert rig.timeline.pool == 3


async def test_time_with_talon_one_that_led_to_nothing_is_counted_too(rig: Rig) -> None:
    rig.begin()
    rig.upstream.admit()
    rig.clock.advance(2)
    rig.upstream.break_off(ConnectionLost("x", sent=Sent.MAYBE))

    assert rig.timeline.upstream == 2


async def test_an_error_answer_that_repeats_the_key_is_masked(rig: Rig) -> None:
    rig.begin()
    rig.upstream.admit()
    rig.upstream.answer(401, KEY.encode())

    assert rig.reply.body == b"*" * len(KEY)


# --- defects ---


def crash(*_: object) -> bytes:
    raise RuntimeError("a defect")


@pytest.mark.parametrize("ready", [False, True])
async def test_a_request_that_cannot_be_signed_gives_its_connection_back(
    rig: Rig, ready: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    rig.upstream.ready = ready
    monkeypatch.setattr(rig.upstream.keys, "leading", crash)
    rig.begin()
    if not ready:
        rig.upstream.grant()

    assert rig.upstream.released == 1
    assert not rig.sent
    assert rig.shopper.failure == (500, b"proxy_internal_error", b"not-sent")
    rig.assert_idle()


async def test_an_answer_that_cannot_be_masked_gives_its_stream_up(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(rig.upstream.keys, "mask", crash)
    rig.begin()
    rig.upstream.admit()
    stream = FakeStream()
    rig.upstream.answer(404, stream=stream)

    assert rig.shopper.failure == (500, b"proxy_internal_error", b"unknown")
    assert stream.abandoned == 1
    assert rig.upstream.released == 0  # it was used; the connection itself gives it back
