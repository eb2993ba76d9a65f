"""One downstream connection, with its transport, its time and its handler in the hands of the test."""

import asyncio
import contextlib
import itertools
import re
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, cast

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from proxy.errors import IncompleteReply, ProxyError
from proxy.fields import request_table
from proxy.messages import Answer, Call, Reply, Sent, Source
from proxy.wire.buffers import Buffers
from proxy.wire.downstream import LINGER, LINGER_BYTES, Connection, House, Limits, Phase, Timeouts
from proxy.wire.heads import RequestLimits
from proxy.wire.rendering import DateLine
from proxy.wire.wheel import STALL, TICK, Wheel
from tests.clock import Time

GET = b"GET /%d HTTP/1.1\r\nHost: localhost\r\n\r\n"
LATE = TICK + 1e-6


class FakeSocket:
    """What is asked of a socket; a real pair once its readiness is."""

    def __init__(self) -> None:
        self.resets = False
        self._pair: tuple[socket.socket, socket.socket] | None = None

    @property
    def pair(self) -> tuple[socket.socket, socket.socket]:
        """Ours and theirs."""
        if self._pair is None:
            self._pair = socket.socketpair()
        return self._pair

    def fileno(self) -> int:
        return self.pair[0].fileno()

    def setsockopt(self, level: int, option: int, value: bytes) -> None:
        assert (level, option) == (socket.SOL_SOCKET, socket.SO_LINGER)
        self.resets = True

    def close(self) -> None:
        for end in self._pair or ():
            end.close()


class FakeTransport:
    """A transport whose other side is the test; `held` stands for bytes that the caller has not taken."""

    def __init__(self) -> None:
        self.out = bytearray()
        self.reading = True
        self.eof = False
        self.closed = False
        self.aborted = False
        self.held = 0
        self.socket = FakeSocket()

    def get_extra_info(self, name: str) -> FakeSocket:
        assert name == "socket"
        return self.socket

    def write(self, data: bytes) -> None:
        assert not self.eof, "a write after the end"
        if not self.is_closing():
            self.out += data

    def writelines(self, pieces: tuple[bytes, ...]) -> None:
        self.write(b"".join(pieces))

    def write_eof(self) -> None:
        assert not self.eof
        self.eof = True

    def get_write_buffer_size(self) -> int:
        return self.held

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def is_closing(self) -> bool:
        return self.closed or self.aborted

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.aborted = True


@dataclass
class Taken:
    """A call that the handler holds."""

    call: Call
    answer: Answer
    sent: bool = True
    left: int = 0
    at_leave: Callable[[], None] = lambda: None

    def leave(self) -> bool:
        self.left += 1
        self.at_leave()
        return not self.sent

    def reply(self, body: bytes = b"", status: int = 200, **options: Any) -> None:
        options.setdefault("length", len(body))
        self.answer(Reply(status, b"", body, source=Source.UPSTREAM, **options), b"X-Own: 1\r\n")


class Pieces:
    """A stream that the test feeds."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue[bytes | ProxyError | None] = asyncio.Queue()
        self.abandoned = False

    def put(self, *pieces: bytes | ProxyError | None) -> None:
        for piece in pieces:
            self.queue.put_nowait(piece)

    def abandon(self) -> None:
        self.abandoned = True

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while (piece := await self.queue.get()) is not None:
            if isinstance(piece, ProxyError):
                raise piece
            yield piece


@dataclass
class Answered:
    """One answer on the wire."""

    status: int
    head: bytes
    body: bytes


def split_answers(out: bytes) -> list[Answered]:
    """Read answers with a Content-Length, chunked ones and interim ones."""
    found = []
    while out:
        head, end, out = out.partition(b"\r\n\r\n")
        assert end, out
        status = int(head[9:12])
        body = b""
        if length := re.search(rb"\r\nContent-Length: (\d+)", head):
            body, out = out[: int(length[1])], out[int(length[1]) :]
            assert len(body) == int(length[1])
        elif b"\r\nTransfer-Encoding: chunked" in head:
            while size := int(out[: out.index(b"\r\n")], 16):
                start = out.index(b"\r\n") + 2
                body += out[start : start + size]
                out = out[start + size + 2 :]
            assert out.startswith(b"0\r\n\r\n")
            out = out[5:]
        found.append(Answered(status, head + end, body))
    return found


@dataclass
class Bench:
    """A connection and all that is around it; also the Handler of it."""

    timeouts: Timeouts = field(default_factory=lambda: Timeouts(10.0, 12.0, 30.0, 3600.0))
    pipeline: int = 32
    connections: int = 10
    at_once: bool = False  # answer each call before `submit` returns
    taken: list[Taken] = field(default_factory=list)
    ended: list[tuple[bytes, bool]] = field(default_factory=list)
    refused: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.time = Time()
        self.wheel = Wheel(self.time, self.time.call_later)
        request = RequestLimits(head=4096, fields=20, target=1024, body=10_000)
        limits = Limits(request, self.pipeline, self.connections)
        date = DateLine(lambda: 0.0)
        self.house = House(self, self.wheel, request_table(), Buffers(1 << 30), limits, self.timeouts, date=date)
        self.transport = FakeTransport()
        self.connection = Connection(self.house)
        self.connection.connection_made(cast("asyncio.Transport", self.transport))

    # --- the Handler ---

    def submit(self, call: Call, answer: Answer) -> Taken | None:
        taken = Taken(call, answer)
        self.taken.append(taken)
        if self.at_once:
            taken.reply(call.target)
            return None
        return taken

    def own_lines(self, request_id: bytes | None) -> bytes:
        return b"X-Request-Id: %b\r\n" % (request_id or b"ours")

    def finished(self, call: Call, reply: Reply, *, whole: bool) -> None:
        self.ended.append((call.target, whole))

    def rejected(self, reply: Reply, error: ProxyError) -> None:
        self.refused.append(reply.status)

    # --- the test's hands ---

    def feed(self, data: bytes) -> None:
        self.connection.data_received(data)

    def lose(self, error: Exception | None = None) -> None:
        self.connection.connection_lost(error)

    @property
    def answers(self) -> list[Answered]:
        return split_answers(bytes(self.transport.out))

    @property
    def statuses(self) -> list[int]:
        return [answer.status for answer in self.answers]

    @property
    def targets(self) -> list[bytes]:
        return [taken.call.target for taken in self.taken]

    @property
    def fate(self) -> str:
        if self.transport.aborted:
            return "aborted"
        return "closed" if self.transport.closed else "open"

    @property
    def lingers(self) -> bool:
        return self.transport.eof and self.connection.phase is Phase.LINGER


@pytest.fixture
def bench() -> Iterator[Bench]:
    bench = Bench()
    yield bench
    bench.transport.socket.close()


@contextlib.contextmanager
def another(**options: Any) -> Iterator[Bench]:
    bench = Bench(**options)
    yield bench
    bench.transport.socket.close()


async def turns(count: int = 10) -> None:
    """Let everything run that can."""
    for _ in range(count):
        await asyncio.sleep(0)


# --- order, bounds, fairness ---


async def test_answers_leave_in_the_order_of_their_calls(bench: Bench) -> None:
    """C54."""
    bench.feed(b"".join(GET % number for number in range(3)))
    for number in (2, 0, 1):
        bench.taken[number].reply(b"answer %d" % number)

    assert [answer.body for answer in bench.answers] == [b"answer 0", b"answer 1", b"answer 2"]
    assert bench.ended == [(b"/0", True), (b"/1", True), (b"/2", True)]
    assert b"X-Own: 1\r\nConnection: keep-alive\r\n" in bench.answers[0].head


async def test_a_thousand_calls_in_one_segment_are_answered_in_order_with_few_ahead(bench: Bench) -> None:
    """K11, C54."""
    bench.feed(b"".join(GET % number for number in range(1000)))
    answered = 0

    while answered < 1000:
        assert len(bench.taken) - answered <= 32
        assert bench.transport.reading == (len(bench.taken) == 1000 and answered > 1000 - 32)
        for taken in reversed(bench.taken[answered:]):
            taken.reply(taken.call.target)
        answered = len(bench.taken)
        await turns(2)

    assert [answer.body for answer in bench.answers] == [b"/%d" % number for number in range(1000)]
    assert bench.transport.reading


@pytest.mark.parametrize("at_once", [True, False])
async def test_a_caller_with_a_thousand_calls_takes_turns_with_the_others(at_once: bool) -> None:
    """K11: also where every answer is made at once."""
    with another(at_once=at_once) as bench:
        begun = [0]
        bench.feed(b"".join(GET % number for number in range(1000)))

        while len(bench.taken) < 1000:
            begun.append(len(bench.taken))
            for taken in [] if at_once else bench.taken[-32:]:
                taken.reply()
            await asyncio.sleep(0)

        begun.append(len(bench.taken))
        assert all(after - before <= 32 for before, after in itertools.pairwise(begun))


async def test_nothing_more_is_read_while_read_bytes_wait(bench: Bench) -> None:
    """Invariant 9: what a connection holds unparsed does not grow with each answer."""
    bench.feed(b"".join(GET % number for number in range(100)))
    for taken in list(bench.taken[:10]):
        taken.reply()
        assert not bench.transport.reading
    await turns()

    assert len(bench.taken) == 42
    assert not bench.transport.reading


async def test_bytes_that_come_while_others_wait_are_kept_in_order(bench: Bench) -> None:
    bench.feed(b"".join(GET % number for number in range(40)) + b"GET /part")
    bench.feed(b"ial HTTP/1.1\r\nHost: localhost\r\n\r\n")
    for _ in range(2):
        for taken in list(bench.taken[len(bench.answers) :]):
            taken.reply()
        await turns()

    assert bench.targets == [b"/%d" % number for number in range(40)] + [b"/partial"]


# --- back-pressure ---


async def test_a_caller_that_does_not_read_is_not_read(bench: Bench) -> None:
    """K8."""
    bench.feed(GET % 0)
    bench.connection.pause_writing()
    bench.taken[0].reply(b"large")
    bench.feed(GET % 1 + GET % 2)

    while_blocked = bench.transport.reading
    assert bench.targets == [b"/0"]
    bench.connection.resume_writing()
    await turns()

    assert (while_blocked, bench.transport.reading) == (False, True)
    assert bench.targets == [b"/0", b"/1", b"/2"]


async def test_a_caller_that_does_not_read_for_too_long_is_dropped(bench: Bench) -> None:
    """K8."""
    bench.feed(GET % 0)
    bench.taken[0].reply()
    bench.connection.pause_writing()

    bench.time.pass_by(29.9)
    assert bench.fate != "aborted"
    bench.time.pass_by(0.1 + LATE)
    assert bench.fate == "aborted"


async def test_a_caller_that_reads_in_time_is_kept(bench: Bench) -> None:
    bench.feed(GET % 0)
    for _ in range(5):
        bench.connection.pause_writing()
        bench.time.pass_by(29)
        bench.connection.resume_writing()
    bench.time.pass_by(100)

    assert not bench.transport.is_closing()


# --- deadlines ---


async def test_a_slow_head_is_refused_when_due(bench: Bench) -> None:
    """K6."""
    bench.time.pass_by(5)
    bench.feed(b"GET / HTT")
    bench.time.pass_by(9.9)
    bench.feed(b"P/1.1\r\n")
    assert not bench.transport.out
    bench.time.pass_by(0.1 + LATE)

    assert bench.statuses == [408]
    assert bench.lingers
    assert bench.refused == [408]


async def test_a_slow_body_is_refused_when_due(bench: Bench) -> None:
    """K7."""
    bench.feed(b"PUT / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n\r\n")
    bench.time.pass_by(6)
    bench.feed(b"a")
    bench.time.pass_by(5.9)
    bench.feed(b"b")
    assert not bench.transport.out
    bench.time.pass_by(0.1 + LATE)

    assert bench.statuses == [408]
    assert not bench.taken


async def test_a_connection_that_never_says_anything_ends_silently_with_the_heads_deadline(bench: Bench) -> None:
    bench.time.pass_by(9.9)
    assert bench.fate == "open"
    bench.time.pass_by(0.1 + LATE)

    assert bench.fate == "closed"
    assert not bench.transport.out


async def test_an_idle_connection_ends_silently_when_due(bench: Bench) -> None:
    bench.feed(GET % 0)
    bench.taken[0].reply()
    size = len(bench.transport.out)
    bench.time.pass_by(3599.9)
    assert bench.fate == "open"
    bench.time.pass_by(0.1 + LATE)

    assert bench.fate == "closed"
    assert len(bench.transport.out) == size


@pytest.mark.parametrize("answered", [False, True])
async def test_an_old_connection_that_closes_leaves_no_place_on_the_wheel_for_an_hour(answered: bool) -> None:
    """A place takes 280 bytes: with some new callers a second, megabytes."""
    with another() as bench:
        bench.feed(GET % 0)
        if answered:
            bench.taken[0].reply()
        bench.time.pass_by(300)
        bench.lose()
        bench.time.pass_by(60 + LATE)

        assert bench.time.pending == []


async def test_an_unanswered_call_keeps_its_connection(bench: Bench) -> None:
    bench.feed(GET % 0)
    bench.time.pass_by(3 * 3600)
    assert bench.fate == "open"

    bench.taken[0].reply()
    assert bench.statuses == [200]


async def test_a_stalled_loop_reads_before_it_refuses(bench: Bench) -> None:
    """B26."""
    bench.feed(b"GET / HTTP/1.1\r\n")
    bench.time.stall(10 + STALL + 5)
    bench.time.run_due()
    assert not bench.transport.out

    bench.feed(b"Host: localhost\r\n\r\n")
    bench.time.pass_by(60)

    assert bench.targets == [b"/"]
    assert not bench.refused


# --- 100-continue ---

EXPECT = b"PUT /%b HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n"


async def test_100_is_sent_once_the_head_is_checked(bench: Bench) -> None:
    """C39."""
    bench.feed(EXPECT % b"a")
    assert not bench.transport.out
    await turns()
    assert bytes(bench.transport.out) == b"HTTP/1.1 100 Continue\r\n\r\n"

    bench.feed(b"ok")
    bench.taken[0].reply()
    await turns()

    assert bench.statuses == [100, 200]
    assert bench.taken[0].call.body == b"ok"


@pytest.mark.parametrize("cut", [1, 2])
async def test_no_100_where_the_body_came_along(bench: Bench, cut: int) -> None:
    bench.feed(EXPECT % b"a" + b"ok"[:cut])
    await turns()
    bench.feed(b"ok"[cut:])
    bench.taken[0].reply()
    await turns()

    assert bench.statuses == [200]


@pytest.mark.parametrize(
    ("line", "expected"),
    [(b"Content-Length: 10001", 413), (b"X : y", 400), (b"Expect: other", 417), (b"Transfer-Encoding: gzip", 400)],
)
async def test_no_100_but_the_refusal_where_the_head_is_wrong(bench: Bench, line: bytes, expected: int) -> None:
    bench.feed(b"PUT / HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\n" + line + b"\r\n\r\n")
    await turns()

    assert bench.statuses == [expected]
    assert bench.lingers


async def test_100_comes_after_the_answers_before_it(bench: Bench) -> None:
    bench.feed(GET % 0 + EXPECT % b"a")
    await turns()
    assert not bench.transport.out

    bench.taken[0].reply()
    assert bench.statuses == [200, 100]


async def test_the_time_for_a_body_begins_with_its_100(bench: Bench) -> None:
    bench.feed(GET % 0 + EXPECT % b"a")
    await turns()
    bench.time.pass_by(100)
    bench.taken[0].reply()
    bench.time.pass_by(11.9)
    assert bench.statuses == [200, 100]

    bench.time.pass_by(0.1 + LATE)
    assert bench.statuses == [200, 100, 408]


async def test_no_100_to_http_1_0(bench: Bench) -> None:
    """C12."""
    bench.feed((EXPECT % b"a").replace(b"HTTP/1.1", b"HTTP/1.0"))
    await turns()
    assert not bench.transport.out

    bench.feed(b"ok")
    bench.taken[0].reply()
    assert bench.statuses == [200]


# --- Upgrade ---


@pytest.mark.parametrize(
    ("framing", "body"),
    [
        (b"", b""),
        (b"Content-Length: 4\r\n", b"GET "),
        (b"Transfer-Encoding: chunked\r\n", b"4\r\nGET \r\n0\r\nHost: trailer\r\n\r\n"),
    ],
    ids=["none", "length", "chunked"],
)
async def test_an_offer_of_h2c_is_ignored_and_the_next_request_begins_at_the_right_byte(
    framing: bytes, body: bytes
) -> None:
    """C40."""
    first = (
        b"POST /first HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"
        b"HTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA\r\n" + framing + b"\r\n" + body
    )
    data = first + GET % 2

    for cut in range(len(data) + 1):
        with another() as bench:
            bench.feed(data[:cut])
            if cut < len(data):
                bench.feed(data[cut:])

            assert bench.targets == [b"/first", b"/2"], cut
            assert bench.taken[0].call.body == (b"GET " if body else b"")
            assert (bench.taken[0].call.fields.block, bench.taken[0].call.fields.noted) == (b"", [])
            for taken in bench.taken:
                taken.reply()
            assert b"keep-alive" in bench.answers[1].head


@pytest.mark.parametrize(
    "line", [b"content-length: %d", b"Content-Length:%d", b"Content-Length:  %d ", b"CONTENT-LENGTH: %d"]
)
async def test_a_body_stays_one_however_its_length_is_spelled_and_however_often(bench: Bench, line: bytes) -> None:
    """C29: a head that was seen is not one without a body; here the body would then be a call."""
    body = GET % 7
    for number in range(4):
        bench.feed(b"PUT /%d HTTP/1.1\r\nHost: localhost\r\n%b\r\n\r\n" % (number, line % len(body)) + body)
        bench.taken[-1].reply()

    assert bench.targets == [b"/%d" % number for number in range(4)]
    assert {taken.call.body for taken in bench.taken} == {body}


async def test_any_other_upgrade_is_the_last_request(bench: Bench) -> None:
    """C40."""
    bench.feed(
        b"PUT / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nContent-Length: 2\r\n\r\nokGET / HTTP/1.1\r\n"
    )
    bench.taken[0].reply()

    assert bench.targets == [b"/"]
    assert b"\r\nConnection: close\r\n" in bench.answers[0].head
    assert bench.lingers


# --- the end of a connection ---


@pytest.mark.parametrize("request_line", [b"GET /0 HTTP/1.0", b"GET /0 HTTP/1.1\r\nConnection: close"])
async def test_after_the_last_request_nothing_is_read(bench: Bench, request_line: bytes) -> None:
    """C12."""
    bench.feed(request_line + b"\r\nHost: localhost\r\n\r\n" + GET % 1)
    bench.feed(GET % 2)
    bench.taken[0].reply()
    bench.feed(GET % 3)

    assert bench.targets == [b"/0"]
    assert b"\r\nConnection: close\r\n" in bench.answers[0].head
    assert bench.lingers


async def test_a_lingering_connection_ends_with_its_time(bench: Bench) -> None:
    """C57."""
    bench.feed(b"nonsense\r\n\r\n")
    bench.time.pass_by(LINGER - 0.1)
    assert bench.statuses == [400]
    assert bench.fate != "aborted"
    bench.time.pass_by(0.1 + LATE)

    assert bench.fate == "aborted"


async def test_a_lingering_connection_takes_a_bounded_rest(bench: Bench) -> None:
    """C57, K10."""
    bench.feed(b"nonsense\r\n\r\n")
    piece = bytes(LINGER_BYTES // 64)
    for _ in range(64):
        bench.feed(piece)
    assert bench.fate != "aborted"
    bench.feed(b"x")

    assert bench.fate == "aborted"
    assert not bench.taken


async def test_lingering_does_not_cut_off_an_answer_that_is_still_being_taken(bench: Bench) -> None:
    bench.feed(b"GET / HTTP/1.0\r\n\r\n")
    bench.transport.held = 5000
    bench.taken[0].reply(b"a" * 5000)
    bench.time.pass_by(5 * LINGER)
    assert bench.fate != "aborted"

    bench.transport.held = 0
    bench.time.pass_by(LINGER + LATE)
    assert bench.fate == "aborted"
    assert not bench.transport.socket.resets


@pytest.mark.parametrize("blocked", [True, False])
async def test_an_answer_that_is_never_taken_holds_its_connection_no_longer_than_may_be(
    bench: Bench, blocked: bool
) -> None:
    """K8: also below the mark from which a transport complains."""
    bench.feed(b"GET / HTTP/1.0\r\n\r\n")
    bench.transport.held = 5000
    if blocked:
        bench.connection.pause_writing()
    bench.taken[0].reply(b"a" * 5000)
    bench.connection.resume_writing()
    bench.time.pass_by(29.9)
    assert bench.fate != "aborted"
    bench.time.pass_by(0.1 + LATE)

    assert bench.fate == "aborted"
    assert bench.transport.socket.resets


async def test_a_caller_that_has_left_with_bytes_to_take_is_dropped_in_time(bench: Bench) -> None:
    bench.feed(GET % 0)
    bench.taken[0].reply()
    bench.transport.held = 100
    assert not bench.connection.eof_received()
    assert bench.fate == "closed"
    bench.time.pass_by(30 + LATE)

    assert bench.fate == "aborted"


async def test_a_refusal_waits_for_the_answers_before_it(bench: Bench) -> None:
    """C57."""
    bench.feed(GET % 0 + GET % 1 + b"nonsense\r\n\r\n" + GET % 2)
    assert not bench.transport.out
    bench.taken[1].reply(b"second")
    bench.taken[0].reply(b"first")

    assert bench.statuses == [200, 200, 400]
    assert [b"Connection: close" in answer.head for answer in bench.answers] == [False, False, True]
    assert bench.targets == [b"/0", b"/1"]
    assert bench.lingers


async def test_too_many_connections_are_told_so() -> None:
    with another(connections=0) as bench:
        bench.feed(GET % 0)

        assert bench.statuses == [503]
        assert not bench.taken
        assert bench.lingers
        assert b"Retry-After" not in bench.transport.out
        bench.lose()
        assert not bench.house.connections


@pytest.mark.parametrize(
    "ended", [b"", b"GET / HT", b"PUT / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n\r\nab"]
)
async def test_what_is_not_complete_at_the_end_is_nothing(bench: Bench, ended: bytes) -> None:
    """C34."""
    bench.feed(ended or b"\r\n")

    assert not bench.connection.eof_received()
    assert not bench.taken
    assert not bench.transport.out


# --- the caller leaves ---


async def test_a_call_that_was_sent_is_still_answered_after_a_half_close(bench: Bench) -> None:
    """K12."""
    bench.feed(GET % 0)

    assert bench.connection.eof_received()
    assert bench.taken[0].left == 1
    bench.taken[0].reply(b"late")
    assert bench.answers[0].body == b"late"
    assert bench.fate == "closed"
    bench.lose()
    assert bench.taken[0].left == 1


@pytest.mark.parametrize("calls", [1, 3])
async def test_a_call_may_be_answered_in_the_step_in_which_its_caller_leaves(bench: Bench, calls: int) -> None:
    """K12: as one is whose time is over when it is looked at again."""
    bench.feed(b"".join(GET % number for number in range(calls)))
    for taken in bench.taken:
        taken.at_leave = taken.reply

    assert not bench.connection.eof_received()
    assert bench.statuses == [200] * calls
    assert bench.fate == "closed"


async def test_a_call_that_was_not_sent_ends_with_its_caller(bench: Bench) -> None:
    """K3, K12."""
    bench.feed(GET % 0)
    bench.taken[0].sent = False

    assert not bench.connection.eof_received()
    bench.lose()
    assert bench.taken[0].left == 1
    assert bench.ended == []


async def test_answers_go_out_up_to_the_first_that_will_not_come(bench: Bench) -> None:
    """K12."""
    bench.feed(b"".join(GET % number for number in range(3)))
    bench.taken[1].sent = False

    assert bench.connection.eof_received()
    bench.taken[2].reply(b"third")
    assert not bench.transport.out
    bench.taken[0].reply(b"first")

    assert [answer.body for answer in bench.answers] == [b"first"]
    assert bench.fate == "closed"
    bench.lose()
    assert bench.ended == [(b"/0", True), (b"/2", False)]


async def test_a_caller_who_left_is_told_of_once(bench: Bench) -> None:
    bench.feed(GET % 0 + GET % 1)
    bench.connection.eof_received()
    bench.taken[0].reply()
    bench.lose(ConnectionResetError())

    assert [taken.left for taken in bench.taken] == [1, 1]


async def test_an_answer_after_the_caller_left_goes_nowhere(bench: Bench) -> None:
    """K4."""
    bench.feed(GET % 0 + GET % 1)
    bench.taken[1].reply()
    bench.lose(ConnectionResetError())
    bench.taken[0].reply()

    assert not bench.transport.out
    assert sorted(bench.ended) == [(b"/0", False), (b"/1", False)]
    assert [taken.left for taken in bench.taken] == [1, 0]
    assert not bench.house.connections
    assert repr(bench.connection) == "<Connection CLOSED unanswered=0>"


async def test_a_lost_connection_leaves_no_alarm(bench: Bench) -> None:
    bench.feed(b"GET ")
    bench.connection.pause_writing()
    bench.lose()
    bench.time.pass_by(4000)

    assert not bench.transport.is_closing()


# --- streams ---


async def test_a_stream_of_known_length_goes_out_piece_by_piece(bench: Bench) -> None:
    bench.feed(GET % 0 + GET % 1)
    stream = Pieces()
    bench.taken[1].reply(b"next")
    bench.taken[0].reply(stream=stream, length=6)
    stream.put(b"abc")
    await turns()
    assert bench.transport.out.endswith(b"\r\n\r\nabc")

    stream.put(b"def", None)
    await turns()

    assert [answer.body for answer in bench.answers] == [b"abcdef", b"next"]
    assert bench.ended == [(b"/0", True), (b"/1", True)]
    assert not bench.lingers


async def test_a_stream_of_unknown_length_is_chunked(bench: Bench) -> None:
    """C48."""
    bench.feed(GET % 0)
    stream = Pieces()
    bench.taken[0].reply(stream=stream, length=None)
    stream.put(b"abc", b"def", None)
    await turns()

    assert bench.transport.out.endswith(b"\r\n\r\n3\r\nabc\r\n3\r\ndef\r\n0\r\n\r\n")
    assert bench.answers[0].body == b"abcdef"


async def test_a_stream_of_unknown_length_to_http_1_0_ends_with_the_connection(bench: Bench) -> None:
    """C12, C48."""
    bench.feed(b"GET / HTTP/1.0\r\n\r\n")
    stream = Pieces()
    bench.taken[0].reply(stream=stream, length=None)
    stream.put(b"abc", None)
    await turns()

    assert b"chunked" not in bench.transport.out
    assert bench.transport.out.endswith(b"Connection: close\r\n\r\nabc")
    assert bench.lingers


@pytest.mark.parametrize("length", [None, 6])
@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
async def test_a_broken_stream_never_looks_whole(bench: Bench, version: bytes, length: int | None) -> None:
    """C47: a reset, since an orderly end would complete a body without a length."""
    bench.feed(b"GET / HTTP/%b\r\nHost: localhost\r\n\r\n" % version)
    stream = Pieces()
    bench.taken[0].reply(stream=stream, length=length)
    stream.put(b"abc", IncompleteReply("cut", sent=Sent.MAYBE))
    await turns()

    assert bench.fate == "aborted"
    assert bench.transport.socket.resets
    assert not bench.transport.eof
    assert not bench.transport.out.endswith(b"0\r\n\r\n")
    assert bench.ended == [(b"/", False)]
    assert stream.abandoned


async def test_a_stream_waits_for_its_reader(bench: Bench) -> None:
    """K8, A31."""
    bench.feed(GET % 0)
    stream = Pieces()
    bench.taken[0].reply(stream=stream, length=None)
    await turns()
    bench.connection.pause_writing()
    stream.put(b"a", b"b", None)
    await turns()
    assert bench.transport.out.endswith(b"1\r\na\r\n")

    bench.connection.resume_writing()
    await turns()
    assert bench.answers[0].body == b"ab"


async def test_a_reader_that_stops_reading_ends_its_stream(bench: Bench) -> None:
    bench.feed(b"GET / HTTP/1.0\r\n\r\n")
    stream = Pieces()
    bench.taken[0].reply(stream=stream, length=None)
    stream.put(b"a", b"b")
    bench.connection.pause_writing()
    await turns()
    bench.time.pass_by(30 + LATE)
    assert bench.fate == "aborted"
    assert bench.transport.socket.resets
    bench.lose()
    await turns()

    assert stream.abandoned
    assert bench.ended == [(b"/", False)]


@pytest.mark.parametrize("begun", [True, False])
async def test_a_stream_ends_with_its_caller(bench: Bench, begun: bool) -> None:
    bench.feed(GET % 0)
    stream = Pieces()
    bench.taken[0].reply(stream=stream, length=5)
    if begun:
        await turns()
    bench.lose()
    await turns()

    assert stream.abandoned
    assert bench.ended == [(b"/0", False)]


async def test_nothing_is_streamed_behind_an_unanswered_call(bench: Bench) -> None:
    """Design, Large replies."""
    bench.feed(GET % 0 + GET % 1)
    stream = Pieces()
    bench.taken[1].reply(stream=stream, length=5)
    assert stream.abandoned
    bench.taken[0].reply()

    assert bench.statuses == [200, 502]


async def test_a_stream_after_the_caller_left_is_given_up(bench: Bench) -> None:
    bench.feed(GET % 0)
    bench.lose()
    stream = Pieces()
    bench.taken[0].reply(stream=stream, length=5)

    assert stream.abandoned


async def test_what_comes_during_a_stream_waits_its_turn(bench: Bench) -> None:
    bench.feed(GET % 0)
    stream = Pieces()
    bench.taken[0].reply(stream=stream, length=1)
    await turns()
    bench.feed(GET % 1)
    bench.taken[1].reply(b"next")
    stream.put(b"a", None)
    await turns()

    assert [answer.body for answer in bench.answers] == [b"a", b"next"]


# --- draining ---


async def test_a_draining_connection_closes_with_the_last_of_the_calls_it_took(bench: Bench) -> None:
    bench.feed(GET % 0 + GET % 1)
    bench.house.draining = True
    bench.taken[0].reply()
    bench.taken[1].reply()

    assert [b"Connection: close" in answer.head for answer in bench.answers] == [False, True]
    assert bench.lingers


async def test_a_call_whose_body_is_coming_is_taken_while_draining(bench: Bench) -> None:
    bench.feed(GET % 0 + b"PUT /1 HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n")
    bench.house.draining = True
    bench.taken[0].reply()
    bench.feed(b"ok")
    bench.taken[1].reply()

    assert bench.statuses == [200, 200]
    assert bench.lingers


async def test_only_an_idle_connection_is_closed_on_request(bench: Bench) -> None:
    bench.feed(b"".join(GET % number for number in range(33)))
    bench.connection.close_if_idle()
    assert bench.fate == "open"
    for taken in list(bench.taken):
        taken.reply()
    # All are answered but the one that was read and not parsed yet.
    bench.connection.close_if_idle()
    assert bench.fate == "open"
    await turns()
    bench.taken[32].reply()
    bench.transport.socket.pair[1].send(b"G")
    bench.connection.close_if_idle()
    assert bench.fate == "open"

    bench.transport.socket.pair[0].recv(1)
    bench.connection.close_if_idle()
    assert bench.fate == "closed"


# --- what is answered here, and small things ---


async def test_options_for_this_hop_is_answered_here(bench: Bench) -> None:
    """C7, C25."""
    bench.feed(b"OPTIONS * HTTP/1.1\r\nHost: localhost\r\nX-Request-Id: theirs\r\n\r\n" + GET % 1)

    assert bench.targets == [b"/1"]
    assert bench.statuses == [200]
    assert b"\r\nAllow: DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT\r\n" in bench.answers[0].head
    assert b"\r\nX-Request-Id: theirs\r\n" in bench.answers[0].head


@pytest.mark.parametrize("lines", [0, 1, 2])
async def test_one_or_two_empty_lines_before_a_request_are_ignored(lines: int) -> None:
    """C41."""
    data = b"\r\n" * lines + GET % 0 + b"\r\n" * lines + GET % 1

    for cut in range(len(data) + 1):
        with another() as bench:
            for part in (data[:cut], data[cut:]):
                if part:
                    bench.feed(part)
            assert bench.targets == [b"/0", b"/1"]


@pytest.mark.parametrize("begin", [b"\r\n\r\n\r\n", b"\rG", b"\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", b"\r\n\nG / \r\n"])
async def test_other_things_before_a_request_are_refused_however_they_come(begin: bytes) -> None:
    """C17, C41."""
    for cut in range(len(begin) + 1):
        with another() as bench:
            for part in (begin[:cut], begin[cut:]):
                if part:
                    bench.feed(part)
            assert bench.statuses == [400], cut


@pytest.mark.parametrize(
    "line_end", [b"GET / HTTP/1.1\nHost: localhost\r\n\r\n", b"GET / HTTP/1.1\r\nHost: localhost\n\n"]
)
async def test_a_bare_line_feed_is_400_however_it_comes(line_end: bytes) -> None:
    """C17."""
    for cut in range(1, len(line_end)):
        with another() as bench:
            bench.feed(line_end[:cut])
            bench.feed(line_end[cut:])
            assert bench.statuses == [400], cut


async def test_head_has_no_body_and_keeps_its_length(bench: Bench) -> None:
    """C44."""
    bench.feed(b"HEAD / HTTP/1.1\r\nHost: localhost\r\n\r\n")
    bench.taken[0].reply(b"", length=5)

    assert b"\r\nContent-Length: 5\r\n" in bench.transport.out
    assert bench.transport.out.endswith(b"\r\n\r\n")


async def test_a_large_body_is_refused_as_soon_as_it_is_announced(bench: Bench) -> None:
    """C38."""
    bench.feed(b"PUT / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n2710\r\n")
    assert not bench.transport.out
    bench.feed(b"a" * 10_000 + b"\r\n1\r\n")

    assert bench.statuses == [413]
    assert bench.lingers


async def test_a_body_of_tiny_chunks_is_not_held_in_tiny_pieces(bench: Bench) -> None:
    """Invariant 9."""
    bench.feed(b"PUT / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n")
    for _ in range(10):
        bench.feed(b"1\r\na\r\n" * 900)
    assert len(bench.connection._pieces) == 10
    bench.feed(b"0\r\n\r\n")

    assert bench.taken[0].call.body == b"a" * 9000


async def test_the_moments_of_a_call_are_stamped(bench: Bench) -> None:
    bench.feed(b"PUT / HTTP/1.1\r\nHost: localhost\r\n")
    bench.time.pass_by(1)
    bench.feed(b"Content-Length: 1\r\n\r\n")
    bench.time.pass_by(2)
    bench.feed(b"x")
    bench.time.pass_by(3)
    bench.taken[0].reply()

    timeline = bench.taken[0].call.timeline
    assert (timeline.arrived, timeline.complete, timeline.written) == (1000.0, 1003.0, 1006.0)


# --- any order of events ---

REQUESTS = st.tuples(
    st.sampled_from([b"none", b"length", b"lower length", b"padded length", b"chunked", b"h2c", b"blank"]),
    st.binary(max_size=12),
)


class AnyOrder(RuleBasedStateMachine):
    """Valid pipelined requests in random segments, answered in random order, by a caller who reads or does not."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.bench = self.run(self.build())
        self.wire = b""  # written by the caller, not received yet
        self.sent: list[tuple[bytes, bytes]] = []  # target and body of each request
        self.replied: set[int] = set()
        self.last: int | None = None  # the number of the request that asks for the end
        self.blocked = False

    async def build(self) -> Bench:
        return Bench(pipeline=3)

    def run(self, work: Any) -> Any:
        return self.loop.run_until_complete(work)

    @rule(kind=REQUESTS, close=st.integers(0, 15))
    def write(self, kind: tuple[bytes, bytes], close: int) -> None:
        framing, body = kind
        target = b"/%d" % len(self.sent)
        lines = b"Connection: close\r\n" if not close else b""
        if framing == b"length":
            lines, wire = lines + b"Content-Length: %d\r\n" % len(body), body
        elif framing == b"lower length":
            lines, wire = lines + b"content-length: %d\r\n" % len(body), body
        elif framing == b"padded length":
            lines, wire = lines + b"Content-Length:  %d\r\n" % len(body), body
        elif framing == b"chunked":
            lines += b"Transfer-Encoding: chunked\r\n"
            wire = b"".join(b"1;x\r\n%c\r\n" % byte for byte in body) + b"0\r\nT: v\r\n\r\n"
        else:
            body = wire = b""
            lines += b"Connection: Upgrade\r\nUpgrade: h2c\r\n" if framing == b"h2c" else b""
        self.wire += b"\r\n" if framing == b"blank" else b""
        self.wire += b"POST " + target + b" HTTP/1.1\r\nHost: localhost\r\n" + lines + b"\r\n" + wire
        self.sent.append((target, body))
        if not close and self.last is None:
            self.last = len(self.sent) - 1

    @precondition(lambda self: self.wire and self.bench.transport.reading)
    @rule(size=st.integers(1, 200))
    def receive(self, size: int) -> None:
        data, self.wire = self.wire[:size], self.wire[size:]

        async def feed() -> None:
            self.bench.feed(data)

        self.run(feed())

    @precondition(lambda self: len(self.replied) < len(self.bench.taken))
    @rule(data=st.data())
    def answer(self, data: st.DataObject) -> None:
        number = data.draw(st.sampled_from(sorted(set(range(len(self.bench.taken))) - self.replied)))
        self.give(number)

    def give(self, number: int) -> None:
        """Answer a call."""

        async def answer() -> None:
            self.bench.taken[number].reply(b"answer %d" % number)

        self.replied.add(number)
        self.run(answer())

    @precondition(lambda self: not self.blocked)
    @rule()
    def pause(self) -> None:
        self.blocked = True
        self.bench.connection.pause_writing()

    @precondition(lambda self: self.blocked)
    @rule()
    def resume(self) -> None:
        async def resume() -> None:
            self.bench.connection.resume_writing()

        self.blocked = False
        self.run(resume())

    @rule()
    def turn(self) -> None:
        self.run(turns(2))

    @invariant()
    def calls_are_the_requests_in_order(self) -> None:
        taken = [(one.call.target, one.call.body) for one in self.bench.taken]
        assert taken == self.sent[: len(taken)]
        assert self.last is None or len(taken) <= self.last + 1

    @invariant()
    def answers_are_in_order_and_each_only_once(self) -> None:
        ready = 0
        while ready in self.replied:
            ready += 1
        assert [answer.body for answer in self.bench.answers] == [b"answer %d" % number for number in range(ready)]

    @invariant()
    def few_are_unanswered(self) -> None:
        assert len(self.bench.taken) - len(self.bench.answers) <= 3

    @invariant()
    def nothing_was_refused_or_dropped(self) -> None:
        assert not self.bench.refused
        assert not self.bench.transport.is_closing()

    def teardown(self) -> None:
        """In the end all are answered: nothing got stuck."""
        if self.blocked:
            self.resume()
        for _ in range(2 * len(self.sent) + 2):
            if self.wire and self.bench.transport.reading:
                self.receive(len(self.wire))
            for number in sorted(set(range(len(self.bench.taken))) - self.replied):
                self.give(number)
            self.turn()
        expected = len(self.sent) if self.last is None else self.last + 1
        self.answers_are_in_order_and_each_only_once()
        assert len(self.bench.answers) == expected
        assert self.bench.lingers == (self.last is not None)
        self.bench.transport.socket.close()
        self.loop.close()


TestAnyOrder = AnyOrder.TestCase
TestAnyOrder.settings = settings(deadline=None, max_examples=60, stateful_step_count=40)
