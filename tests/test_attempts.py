"""The attempts of one call: repeated only where nothing was sent, and signed at the last moment."""

from collections.abc import AsyncIterator, Callable

import pytest

from proxy.credentials import Application, Credentials, Grant
from proxy.errors import (
    BadReply,
    CallTimeout,
    CertificateError,
    ConnectionLost,
    ConnectionRefused,
    ConnectTimeout,
    IncompleteReply,
    NameNotResolved,
    NameTimeout,
    PoolTimeout,
    ProxyError,
    ReplyTooLarge,
    ResponseTimeout,
    TlsError,
    UpstreamError,
)
from proxy.messages import Call, Fields, Reply, Sent, Timeline
from proxy.secret import Secret
from proxy.talon.routes import Surface
from proxy.traffic.attempts import Attempts
from proxy.traffic.flights import Flight, State
from tests.harness import KEY
from tests.upstream_fakes import FakeClock, FakeStream, FakeUpstream, Silence

GRANT = Grant(Application("default"), Surface.INTEGRATION)


class Rig:
    """Attempts before a fake upstream, and one flight, whose tower it is."""

    def __init__(self, retries: int = 2, deadline: float = 15.0) -> None:
        self.clock = FakeClock()
        self.upstream = FakeUpstream(self.clock)
        self.credentials = Credentials([Application("default")], {"default": Secret(KEY)})
        self.landings: list[tuple[Reply, ProxyError | None]] = []
        self.crashes: list[Flight] = []
        self.attempts = Attempts(
            self.upstream,  # type: ignore[arg-type]
            self.credentials,
            self.landed,
            response_timeout=10.0,
            retries=retries,
        )
        timeline = Timeline(self.clock.now, self.clock.now)
        self.call = Call(b"PUT", b"/v2/x?y", Fields(b"", []), b"{}", timeline)
        self.flight = Flight(
            self.call, GRANT, b"X: y\r\n", lambda *_: None, crew=self.attempts, tower=self, wheel=self.clock.wheel()
        )
        self.flight.set(self.clock.now + deadline)

    def landed(self, flight: Flight, reply: Reply, error: ProxyError | None) -> None:
        assert flight is self.flight
        assert flight.state is State.DONE
        self.landings.append((reply, error))

    @property
    def reply(self) -> Reply:
        ((reply, error),) = self.landings
        assert error is None
        return reply

    @property
    def error(self) -> ProxyError:
        ((reply, error),) = self.landings
        assert error is not None
        assert reply.status == error.status
        assert reply.outcome is error.sent
        return error

    # --- the tower ---

    def overdue(self, flight: Flight) -> None:
        pass

    def left(self, flight: Flight) -> bool:
        return False

    def crashed(self, flight: Flight) -> None:
        self.crashes.append(flight)
        flight.land()


@pytest.fixture
def rig() -> Rig:
    return Rig()


@pytest.fixture(autouse=True)
async def silence() -> AsyncIterator[None]:
    async with Silence.kept():
        yield


async def test_a_call_is_written_with_host_fields_and_key(rig: Rig) -> None:
    rig.flight.begin()
    asked = rig.upstream.admit()
    assert rig.flight.state is State.SENT
    rig.upstream.answer(201)

    assert rig.reply.status == 201
    assert asked.head == (
        b"PUT /v2/x?y HTTP/1.1\r\nHost: upstream.example\r\nX: y\r\nAuthorization: ApiKey-v1 %b\r\n\r\n" % KEY.encode()
    )
    assert (asked.exchange.method, asked.body, asked.timeout, asked.exchange.may_stream) == (b"PUT", b"{}", 10.0, True)
    assert asked.exchange.timeline is rig.call.timeline
    assert rig.call.timeline.tries == 1


async def test_an_idle_connection_is_used_without_waiting(rig: Rig) -> None:
    rig.upstream.ready = True
    rig.flight.begin()
    assert rig.flight.state is State.SENT
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
    rig.flight.begin()
    rig.upstream.fail(fail())
    rig.upstream.fail(fail())
    rig.upstream.admit()
    rig.upstream.answer()

    assert rig.reply.status == 200
    assert rig.call.timeline.tries == 3
    assert rig.attempts.retried == 2
    assert len(rig.upstream.connection.sent) == 1


@pytest.mark.parametrize("fail", [ConnectTimeout, NameTimeout])
async def test_a_black_hole_is_tried_once_more_only(rig: Rig, fail: type[UpstreamError]) -> None:
    """U4: each attempt costs a whole time-out."""
    rig.flight.begin()
    rig.upstream.fail(fail("x"))
    rig.upstream.fail(fail("x"))

    assert type(rig.error) is fail
    assert rig.call.timeline.tries == 2

    assert type(rig.error) is fail
    assert rig.call.timeline.tries == 2


@pytest.mark.parametrize("retries", [0, 1, 2, 5])
async def test_it_is_tried_again_so_many_times_and_no_more(retries: int) -> None:
    rig = Rig(retries)
    rig.flight.begin()
    failures = [ConnectionRefused(f"{number}") for number in range(retries + 1)]
    for failure in failures:
        assert not rig.landings
        rig.upstream.fail(failure)

    assert rig.error is failures[-1]
    assert rig.call.timeline.tries == retries + 1
    assert not rig.upstream.connection.sent
    assert not rig.upstream.waiting


async def test_a_wrong_certificate_is_not_tried_again(rig: Rig) -> None:
    rig.flight.begin()
    rig.upstream.fail(CertificateError("x"))

    assert type(rig.error) is CertificateError
    assert rig.call.timeline.tries == 1


@pytest.mark.parametrize("kind", [ConnectionLost, IncompleteReply, BadReply, ResponseTimeout])
async def test_what_may_have_been_sent_is_not_tried_again(rig: Rig, kind: type[UpstreamError]) -> None:
    rig.flight.begin()
    rig.upstream.admit()
    rig.upstream.break_off(kind("x", sent=Sent.MAYBE))

    assert type(rig.error) is kind
    assert rig.call.timeline.tries == 1


async def test_an_answer_that_is_too_large_is_not_tried_again_and_its_outcome_is_known(rig: Rig) -> None:
    rig.flight.begin()
    rig.upstream.admit()
    rig.clock.advance(2)
    rig.upstream.break_off(ReplyTooLarge("x"))

    assert type(rig.error) is ReplyTooLarge
    assert rig.landings[0][0].outcome is None
    assert rig.call.timeline.tries == 1
    assert rig.call.timeline.upstream == 2


@pytest.mark.parametrize("error", [ConnectionRefused("x"), PoolTimeout("x")])
async def test_after_the_deadline_nothing_is_tried_again(error: UpstreamError) -> None:
    rig = Rig(deadline=5.0)
    rig.flight.begin()
    rig.clock.now += 5  # the loop was blocked: no alarm has rung
    rig.upstream.fail(error)

    assert type(rig.error) is CallTimeout
    assert rig.error.sent is Sent.NO
    assert rig.call.timeline.tries == 1
    assert rig.attempts.retried == 0


async def test_after_the_deadline_a_failure_that_would_not_be_repeated_is_told_as_it_is() -> None:
    rig = Rig(deadline=5.0)
    rig.flight.begin()
    rig.clock.now += 5
    rig.upstream.fail(CertificateError("x"))

    assert type(rig.error) is CertificateError


async def test_a_call_leaves_with_the_key_of_the_moment(rig: Rig) -> None:
    rig.flight.begin()
    rig.credentials._lines["default"] = b"Authorization: ApiKey-v1 rotated\r\n"
    asked = rig.upstream.admit()
    rig.upstream.answer()

    assert b"\r\nAuthorization: ApiKey-v1 rotated\r\n" in asked.head


async def test_another_attempt_goes_to_the_upstream_of_its_moment(rig: Rig) -> None:
    rig.flight.begin()
    new = FakeUpstream(rig.clock, b"new.example")
    rig.upstream.current = new
    rig.upstream.fail(ConnectionLost("x", sent=Sent.NO))
    asked = new.admit()
    new.answer()

    assert b"\r\nHost: new.example\r\n" in asked.head
    assert rig.reply.status == 200


async def test_landed_while_it_waits_it_has_sent_nothing_and_waits_no_more(rig: Rig) -> None:
    rig.flight.begin()
    rig.flight.land()

    assert not rig.upstream.connection.sent
    assert not rig.upstream.waiting
    assert not rig.landings


async def test_the_time_with_talon_one_is_counted(rig: Rig) -> None:
    rig.flight.begin()
    rig.clock.advance(3)
    rig.upstream.admit()
    rig.clock.advance(2)
    rig.upstream.answer()

    assert rig.call.timeline.upstream == 2
    assert rig.call.timeline.pool == 3


async def test_time_with_talon_one_that_led_to_nothing_is_counted_too(rig: Rig) -> None:
    rig.flight.begin()
    rig.upstream.admit()
    rig.clock.advance(2)
    rig.upstream.break_off(ConnectionLost("x", sent=Sent.MAYBE))

    assert rig.call.timeline.upstream == 2


async def test_an_error_answer_that_repeats_the_key_is_masked(rig: Rig) -> None:
    rig.flight.begin()
    rig.upstream.admit()
    rig.upstream.answer(401, KEY.encode())

    assert rig.reply.body == b"*" * len(KEY)


# --- defects ---


def crash(*_: object) -> bytes:
    raise RuntimeError("a defect")


@pytest.mark.parametrize("ready", [False, True])
async def test_a_request_that_cannot_be_signed_gives_its_connection_back(
    rig: Rig, ready: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig.upstream.ready = ready
    monkeypatch.setattr(rig.credentials, "sign", crash)
    rig.flight.begin()
    if not ready:
        rig.upstream.grant()

    assert rig.upstream.released == 1
    assert not rig.upstream.connection.sent
    assert rig.crashes == [rig.flight]
    assert not rig.upstream.waiting


async def test_an_answer_that_cannot_be_masked_gives_its_stream_up(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rig.credentials, "mask", crash)
    rig.flight.begin()
    rig.upstream.admit()
    stream = FakeStream()
    rig.upstream.answer(stream=stream)

    assert rig.crashes == [rig.flight]
    assert stream.abandoned == 1
    assert rig.upstream.released == 0  # it was used; the connection itself gives it back
