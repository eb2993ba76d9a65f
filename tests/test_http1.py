"""One connection, without sockets or time: what it does with an exchange, and when it may serve again."""

import asyncio
import gc
import weakref
from collections.abc import Callable, Iterator

import pytest

from proxy.errors import BadReply, ConnectionLost, IncompleteReply, ReplyTooLarge, ResponseTimeout, UpstreamError
from proxy.fields import reply_table
from proxy.messages import Reply, Sent
from proxy.wire import connection
from proxy.wire.buffers import Buffers
from proxy.wire.connection import Closing
from proxy.wire.heads import MAX_INTERIM, ReplyParser
from proxy.wire.http1 import JOIN_BELOW, Connection, State
from proxy.wire.replystream import STREAM_AHEAD
from tests.upstream_fakes import Asked, FakeClock, FakeSocket, FakeTransport, turns

pytestmark = pytest.mark.usefixtures("silence")

LIMIT = 64  # bytes of a reply that is held
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nOK"
LARGE = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n"


class Rig:
    """A connection that is open and idle, on a fake transport."""

    def __init__(self, limit: int = LIMIT) -> None:
        self.clock = FakeClock()
        self.freed: list[connection.Connection] = []
        self.lost: list[connection.Connection] = []
        self.socket = FakeSocket()
        self.transport = FakeTransport(self.socket)
        self.connection = Connection(
            self.clock.wheel(),
            reply_limit=limit,
            buffers=Buffers(1 << 30),
            parser=ReplyParser(reply_table(allow_browsers=False)),
            freed=self.freed.append,
            lost=self.lost.append,
        )
        assert self.connection.state is State.OPENING
        self.connection.connection_made(self.transport)

    def ask(
        self, method: bytes = b"GET", body: bytes = b"", *, timeout: float = 10.0, may_stream: bool = True
    ) -> Asked:
        return Asked(method, body, timeout=timeout, may_stream=may_stream).send_on(self.connection)

    def hear(self, *pieces: bytes) -> None:
        for piece in pieces:
            self.connection.data_received(piece)

    def end(self, exc: Exception | None = None) -> None:
        """Let the peer close: an end of file first, where it is not a reset."""
        if exc is None:
            self.connection.eof_received()
        self.connection.connection_lost(exc)

    @property
    def reusable(self) -> bool:
        return self.connection.state is State.IDLE and self.freed == [self.connection] and not self.lost

    @property
    def closed(self) -> bool:
        return (
            self.connection.state is State.CLOSED
            and self.lost == [self.connection]
            and self.transport.ended is not None
        )


@pytest.fixture
def rig() -> Iterator[Rig]:
    rig = Rig()
    yield rig
    rig.socket.close()


def reply_of(asked: Asked) -> Reply:
    return asked.reply


def error_of(asked: Asked) -> UpstreamError:
    assert isinstance(asked.error, UpstreamError)
    return asked.error


async def read(reply: Reply) -> bytes:
    assert reply.stream is not None
    return b"".join([piece async for piece in reply.stream])


# --- states ---


async def test_it_goes_from_opening_to_idle_to_active_and_back(rig: Rig) -> None:
    assert repr(rig.connection) == "<http1.Connection IDLE served=0>"

    asked = rig.ask(body=b"{}")

    assert repr(rig.connection) == "<http1.Connection ACTIVE served=1>"
    assert rig.transport.written == b"GET / HTTP/1.1\r\n\r\n{}"
    assert not asked.done

    rig.hear(OK)

    assert rig.reusable
    assert reply_of(asked).body == b"OK"


async def test_the_first_byte_is_told_of_before_it_is_written(rig: Rig) -> None:
    seen: list[bytes] = []
    Asked(on_sent=lambda: seen.append(rig.transport.written)).send_on(rig.connection)

    assert seen == [b""]
    assert rig.transport.written


async def test_a_large_body_is_written_without_being_copied_to_its_head(rig: Rig) -> None:
    body = b"x" * JOIN_BELOW

    rig.ask(b"PUT", body)

    assert rig.transport.written == b"PUT / HTTP/1.1\r\n\r\n" + body


async def test_it_serves_one_exchange_after_another_and_mixes_none(rig: Rig) -> None:
    for number in range(3):
        rig.clock.advance(1)
        asked = rig.ask()
        rig.hear(b"HTTP/1.1 20%d OK\r\nX-N: %d\r\nContent-Length: 1\r\n\r\n%d" % (number, number, number))
        reply = reply_of(asked)
        assert (reply.status, reply.body) == (200 + number, b"%d" % number)
        assert reply.block == b"X-N: %d\r\n" % number
        assert asked.timeline.reused is (number > 0)


async def test_the_timeline_tells_when_the_answer_began_and_ended(rig: Rig) -> None:
    asked = rig.ask()
    rig.clock.advance(2)
    rig.hear(OK[:10])
    rig.clock.advance(1)
    rig.hear(OK[10:])

    timeline = asked.timeline
    assert (timeline.sent, timeline.first_byte, timeline.answered) == (1000.0, 1002.0, 1003.0)


@pytest.mark.parametrize("reason", list(Closing))
async def test_an_idle_one_is_closed_politely_where_the_peer_did_nothing_wrong(rig: Rig, reason: Closing) -> None:
    rig.connection.close(reason)
    rig.connection.close(Closing.ERROR)
    rig.connection.connection_lost(None)

    assert rig.closed
    assert rig.connection.closing is reason
    assert rig.transport.ended == ("close" if reason in (Closing.IDLE, Closing.AGE, Closing.SWITCH) else "abort")


async def test_closing_an_active_one_ends_its_exchange_as_lost(rig: Rig) -> None:
    asked = rig.ask()

    rig.connection.close(Closing.ERROR)

    assert rig.closed
    assert type(error_of(asked)) is ConnectionLost
    assert error_of(asked).sent is Sent.MAYBE


# --- replies, cut anywhere ---

CASES: list[tuple[str, bytes, bytes, int, bytes, int | None]] = [
    # name, method, bytes of the peer, status, body, length that is told
    ("a length", b"GET", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", 200, b"hello", 5),
    ("a length of nothing", b"GET", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", 200, b"", 0),
    (
        "chunks",
        b"GET",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nhel\r\n2\r\nlo\r\n0\r\nX-T: 1\r\n\r\n",
        200,
        b"hello",
        5,
    ),
    ("HEAD with a length", b"HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", 200, b"", 5),
    ("HEAD of a huge one", b"HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n", 200, b"", 99999999999),
    ("HEAD with chunked", b"HEAD", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", 200, b"", None),
    ("HEAD that says nothing", b"HEAD", b"HTTP/1.1 200 OK\r\n\r\n", 200, b"", None),
    ("204", b"DELETE", b"HTTP/1.1 204 No Content\r\n\r\n", 204, b"", None),
    ("204 with a length", b"DELETE", b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n", 204, b"", None),
    ("304", b"GET", b'HTTP/1.1 304 Not Modified\r\nETag: "x"\r\n\r\n', 304, b"", None),
    ("304 with a length", b"GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 7\r\n\r\n", 304, b"", 7),
    (
        "interim answers first",
        b"POST",
        (
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 102 Processing\r\nX: y\r\n\r\n"
            b"HTTP/1.1 103 Early Hints\r\nLink: <a>\r\n\r\n"
            b"HTTP/1.1 201 Created\r\nContent-Length: 2\r\n\r\nOK"
        ),
        201,
        b"OK",
        2,
    ),
]


@pytest.mark.parametrize(("method", "said", "status", "body", "length"), [case[1:] for case in CASES])
async def test_an_answer_is_the_same_wherever_it_is_cut(
    method: bytes, said: bytes, status: int, body: bytes, length: int | None
) -> None:
    for cut in range(len(said)):
        rig = Rig()
        asked = rig.ask(method)

        rig.hear(*([said[:cut]] if cut else []))
        assert not asked.done
        rig.hear(said[cut:])

        reply = reply_of(asked)
        assert (reply.status, reply.body, reply.length) == (status, body, length), cut
        assert rig.reusable
        rig.socket.close()


@pytest.mark.parametrize(("method", "said", "status", "body", "length"), [case[1:] for case in CASES])
async def test_an_answer_may_come_byte_by_byte(
    rig: Rig, method: bytes, said: bytes, status: int, body: bytes, length: int | None
) -> None:
    asked = rig.ask(method)

    for byte in said:
        assert not asked.done
        rig.hear(bytes([byte]))

    reply = reply_of(asked)
    assert (reply.status, reply.body, reply.length) == (status, body, length)
    assert rig.reusable


@pytest.mark.parametrize(("method", "said"), [case[1:3] for case in CASES])
async def test_an_answer_cut_short_is_never_taken_for_whole(method: bytes, said: bytes) -> None:
    for cut in range(len(said)):
        rig = Rig()
        asked = rig.ask(method)

        rig.hear(*([said[:cut]] if cut else []))
        rig.end()

        error = error_of(asked)
        assert type(error) is (IncompleteReply if cut else ConnectionLost), cut
        assert error.sent is Sent.MAYBE
        assert rig.closed
        rig.socket.close()


async def test_a_body_without_a_length_ends_with_the_connection(rig: Rig) -> None:
    asked = rig.ask()

    rig.hear(b"HTTP/1.1 200 OK\r\n\r\n", b"hel", b"lo")
    assert not asked.done
    rig.end()

    reply = reply_of(asked)
    assert (reply.body, reply.length) == (b"hello", 5)
    assert rig.closed


async def test_a_body_without_a_length_that_ends_in_a_reset_is_cut_short(rig: Rig) -> None:
    asked = rig.ask()

    rig.hear(b"HTTP/1.1 200 OK\r\n\r\nhel")
    rig.end(ConnectionResetError())

    assert type(error_of(asked)) is IncompleteReply


@pytest.mark.parametrize(
    "said",
    [
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nOK",
        b"HTTP/1.1 200 OK\r\nConnection: x, Close\r\nContent-Length: 2\r\n\r\nOK",
        b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nOK",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 9000 + b"\r\nContent-Length: 2\r\n\r\nOK",
        OK + b"extra",
        OK + OK,
        OK + b"\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nOK\r\n0\r\n\r\nextra",
    ],
)
async def test_an_answer_that_says_or_shows_the_end_is_the_last(rig: Rig, said: bytes) -> None:
    asked = rig.ask()

    rig.hear(said)

    assert reply_of(asked).body == b"OK"
    assert rig.closed
    assert not rig.freed


@pytest.mark.parametrize("status", [b"204 No Content", b"304 Not Modified"])
async def test_bytes_behind_an_answer_without_a_body_are_not_delivered(rig: Rig, status: bytes) -> None:
    asked = rig.ask()

    rig.hear(b"HTTP/1.1 %b\r\nContent-Length: 1\r\n\r\nA" % status)

    assert reply_of(asked).body == b""
    assert rig.closed


@pytest.mark.parametrize(
    "said",
    [
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: foo\r\nConnection: upgrade\r\n\r\n",
        b"HTTP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\nContent-Length: 0\n\n",
        b"xx" + OK,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 102 Processing\r\n\r\n" * (MAX_INTERIM + 1),
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 70000,
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 70000 + b"\r\n\r\n",
    ],
)
@pytest.mark.parametrize("size", [1, 7, 1 << 20])
async def test_what_is_not_http_ends_the_exchange_and_the_connection(rig: Rig, said: bytes, size: int) -> None:
    asked = rig.ask()

    for start in range(0, len(said), size):
        rig.hear(said[start : start + size])

    assert type(error_of(asked)) is BadReply
    assert error_of(asked).sent is Sent.MAYBE
    assert rig.closed
    assert rig.transport.ended == "abort"


async def test_sixteen_interim_answers_are_borne(rig: Rig) -> None:
    asked = rig.ask()

    rig.hear(b"HTTP/1.1 102 Processing\r\n\r\n" * MAX_INTERIM + OK)

    assert reply_of(asked).status == 200
    assert rig.reusable


# --- between exchanges ---


@pytest.mark.parametrize("unasked", [OK, b"HTTP/1.1 408 Request Timeout\r\n\r\n", b"\x15\x03\x01", b"\r\n"])
async def test_anything_said_to_an_idle_one_closes_it(rig: Rig, unasked: bytes) -> None:
    rig.hear(unasked)
    rig.hear(unasked)

    assert rig.closed
    assert rig.connection.closing is Closing.PEER


async def test_an_idle_one_whose_peer_closes_is_closed_in_the_same_turn(rig: Rig) -> None:
    rig.connection.eof_received()

    # Not only when connection_lost comes: in between it could be handed out.
    assert rig.closed
    assert rig.connection.closing is Closing.PEER


async def test_a_reset_of_an_idle_one_counts_as_the_peers_close(rig: Rig) -> None:
    rig.end(ConnectionResetError())

    assert rig.connection.state is State.CLOSED
    assert rig.connection.closing is Closing.PEER


async def test_an_end_of_file_ends_an_exchange_whose_request_is_still_on_its_way(rig: Rig) -> None:
    asked = rig.ask(b"PUT", b"x" * 100)
    rig.transport.unsent = 50  # asyncio would wait for these before it says connection_lost

    rig.connection.eof_received()

    assert type(error_of(asked)) is ConnectionLost
    assert rig.closed


async def test_hung_up_asks_the_kernel_once_it_was_idle_for_a_while(rig: Rig) -> None:
    assert not rig.connection.hung_up(rig.clock.now)
    rig.socket.say()
    assert not rig.connection.hung_up(rig.clock.now)  # it was used a moment ago

    rig.clock.advance(0.05)

    assert rig.connection.hung_up(rig.clock.now)


async def test_session_tickets_on_a_new_connection_are_no_reason_to_give_it_up(rig: Rig) -> None:
    """They may wait in the kernel, where the loop is busy; the connection was closed for it, and another opened."""
    rig.transport.tls = True
    rig.socket.say()
    rig.clock.advance(0.05)
    told = [rig.connection.hung_up(rig.clock.now)]
    rig.connection.served = 1
    told.append(rig.connection.hung_up(rig.clock.now))

    assert told == [False, True]


async def test_a_new_connection_that_the_peer_has_closed_has_hung_up(rig: Rig) -> None:
    rig.transport.tls = True
    rig.socket.say()
    rig.socket.finish()
    rig.clock.advance(0.05)

    assert rig.connection.hung_up(rig.clock.now)


async def test_a_socket_that_is_gone_has_hung_up(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    rig.clock.advance(1)
    monkeypatch.setattr(rig.socket, "fileno", lambda: -1)

    assert rig.connection.hung_up(rig.clock.now)


async def test_a_transport_that_is_closing_has_hung_up(rig: Rig) -> None:
    rig.transport.abort()

    assert rig.connection.hung_up(rig.clock.now)


async def test_the_peers_keep_alive_is_noted_and_forgotten(rig: Rig) -> None:
    rig.ask()
    rig.hear(b"HTTP/1.1 200 OK\r\nKeep-Alive: timeout=5, max=100\r\nContent-Length: 0\r\n\r\n")
    assert rig.connection.keep_alive == 5

    rig.ask()
    rig.hear(OK)
    assert rig.connection.keep_alive is None


async def test_an_answer_that_comes_before_the_request_is_out_is_the_last(rig: Rig) -> None:
    asked = rig.ask(b"PUT", b"x" * 100_000)
    rig.transport.unsent = 40_000

    rig.hear(b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\n\r\n")

    assert reply_of(asked).status == 413
    assert rig.closed
    assert not rig.freed


# --- time ---


@pytest.mark.parametrize("said", [b"", b"HTTP/1.1 20", OK[:-1], b"HTTP/1.1 100 Continue\r\n\r\n"])
async def test_an_answer_that_is_not_complete_in_time_is_given_up(rig: Rig, said: bytes) -> None:
    asked = rig.ask(timeout=10)
    rig.clock.advance(9.9)
    if said:
        rig.hear(said)
    assert not asked.done

    rig.clock.advance(0.2)

    assert type(error_of(asked)) is ResponseTimeout
    assert error_of(asked).sent is Sent.MAYBE
    assert rig.closed


async def test_a_dribbling_answer_is_given_up_at_the_same_moment(rig: Rig) -> None:
    asked = rig.ask(timeout=10)

    for byte in OK:
        if asked.done:
            break
        rig.hear(bytes([byte]))
        rig.clock.advance(1)

    assert type(error_of(asked)) is ResponseTimeout
    assert rig.clock.now <= 1011.5


async def test_the_time_of_one_exchange_is_not_that_of_the_next(rig: Rig) -> None:
    rig.ask(timeout=10)
    rig.clock.advance(9)
    rig.hear(OK)
    rig.clock.advance(60)
    assert rig.connection.state is State.IDLE

    second = rig.ask(timeout=10)
    rig.clock.advance(9)
    rig.hear(OK)

    assert reply_of(second).status == 200


@pytest.mark.parametrize("gap", [0.0, 0.01, 1.0])
async def test_an_exchange_that_begins_just_before_a_former_alarm_rings_has_its_whole_time(
    rig: Rig, gap: float
) -> None:
    rig.ask(timeout=10)
    rig.hear(OK)
    rig.clock.advance(10 - gap)
    second = rig.ask(timeout=10)

    rig.clock.advance(9.9)
    assert not second.done
    rig.clock.advance(0.15)

    assert type(error_of(second)) is ResponseTimeout
    assert rig.closed


async def test_an_exchange_with_less_time_than_the_one_before_ends_at_its_own(rig: Rig) -> None:
    rig.ask(timeout=10)
    rig.hear(OK)
    second = rig.ask(timeout=1)

    rig.clock.advance(0.95)
    assert not second.done
    rig.clock.advance(0.1)

    assert type(error_of(second)) is ResponseTimeout


@pytest.mark.parametrize("pause", [0.0, 0.3, 4.0, 11.0])
async def test_many_exchanges_in_a_row_share_an_alarm_that_cuts_none_and_misses_none(rig: Rig, pause: float) -> None:
    before = rig.clock.waking
    for _ in range(100):
        asked = rig.ask(timeout=10)
        rig.clock.advance(1)
        rig.hear(OK)
        assert reply_of(asked).body == b"OK"
        rig.clock.advance(pause)
    assert rig.clock.waking - before <= 100 * (1 + pause) / 10 + 100 * (pause > 10) + 1

    last = rig.ask(timeout=10)
    rig.clock.advance(9.9)
    assert not last.done
    rig.clock.advance(0.15)
    assert type(error_of(last)) is ResponseTimeout


async def test_an_alarm_left_standing_wakes_an_idle_connection_once_and_harms_nobody(rig: Rig) -> None:
    rig.ask(timeout=10)
    rig.hear(OK)
    before = rig.clock.waking

    rig.clock.advance(3600)

    assert rig.clock.waking - before <= 1
    assert rig.reusable


async def test_a_closed_connection_leaves_no_alarm_behind(rig: Rig) -> None:
    rig.ask(timeout=10)
    rig.connection.close(Closing.ERROR)

    assert rig.connection._alarm.slot is None


# --- what an answer sets off ---


@pytest.mark.parametrize("said", [OK, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nOK\r\n0\r\n\r\n"])
async def test_what_an_answer_sets_off_finds_the_connection_free(rig: Rig, said: bytes) -> None:
    second = Asked()
    first = Asked(on_end=lambda: second.send_on(rig.connection)).send_on(rig.connection)

    rig.hear(said)
    assert repr(rig.connection) == "<http1.Connection ACTIVE served=2>"
    rig.hear(b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n")

    assert [reply_of(first).body, reply_of(second).status] == [b"OK", 201]
    assert second.timeline.reused
    assert rig.connection.state is State.IDLE


@pytest.mark.parametrize("said", [OK, LARGE + b"x" * 100])
async def test_who_takes_the_connection_as_it_is_freed_gets_nothing_of_the_answer_before(said: bytes) -> None:
    """The pool grants it to who waits, in the step in which it is given back: before the answer is told."""
    rig = Rig()
    second = Asked(b"HEAD", timeout=10)
    rig.freed = Freed(lambda: second.send_on(rig.connection))
    rig.connection._freed = rig.freed.append
    first = rig.ask(timeout=10)
    rig.clock.advance(9)

    rig.hear(said[:20], said[20:])

    body = reply_of(first).body if reply_of(first).stream is None else await read(reply_of(first))
    assert said.endswith(body)
    assert body
    assert not second.done
    rig.clock.advance(9)
    rig.hear(b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n")
    assert (reply_of(second).length, reply_of(second).body) == (7, b"")
    assert (second.timeline.sent, second.timeline.first_byte) == (1009.0, 1018.0)
    rig.socket.close()


class Freed(list[connection.Connection]):
    """Connections given back; the first is used at once."""

    def __init__(self, use: Callable[[], object]) -> None:
        super().__init__()
        self._use = use

    def append(self, freed: connection.Connection) -> None:
        super().append(freed)
        if len(self) == 1:
            self._use()


@pytest.mark.parametrize("how", ["alarm", "reset", "garbage", "close"])
async def test_what_a_failure_sets_off_finds_the_connection_closed(rig: Rig, how: str) -> None:
    seen: list[State] = []
    asked = Asked(on_end=lambda: seen.append(rig.connection.state)).send_on(rig.connection)

    if how == "alarm":
        rig.clock.advance(11)
    elif how == "reset":
        rig.connection.connection_lost(ConnectionResetError())
    elif how == "garbage":
        rig.hear(b"garbage")
    else:
        rig.connection.close(Closing.ERROR)

    assert asked.done
    assert seen == [State.CLOSED]
    assert rig.lost == [rig.connection]


# --- large replies ---


def chunks(*sizes: int) -> bytes:
    return b"".join(b"%x\r\n%b\r\n" % (size, b"x" * size) for size in sizes)


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


async def test_a_reply_up_to_the_limit_is_held(rig: Rig) -> None:
    asked = rig.ask()

    rig.hear(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % LIMIT, b"x" * LIMIT)

    assert reply_of(asked).stream is None
    assert len(reply_of(asked).body) == LIMIT


@pytest.mark.parametrize("first", [b"", b"a" * 10])
async def test_a_reply_with_a_length_above_it_is_a_stream_from_its_head_on(rig: Rig, first: bytes) -> None:
    asked = rig.ask()

    rig.hear(LARGE + first)
    reply = reply_of(asked)
    assert (reply.length, reply.body) == (100, b"")
    rig.hear(b"b" * (100 - len(first)))

    assert await read(reply) == first + b"b" * (100 - len(first))
    assert rig.reusable


@pytest.mark.parametrize("framing", [CHUNKED, b"HTTP/1.1 200 OK\r\n\r\n"])
async def test_a_reply_without_a_length_becomes_a_stream_when_it_crosses_the_limit(rig: Rig, framing: bytes) -> None:
    wrap: Callable[[int], bytes] = chunks if framing is CHUNKED else lambda size: b"x" * size
    asked = rig.ask()

    rig.hear(framing, wrap(LIMIT))
    assert not asked.done
    rig.hear(wrap(1))
    reply = reply_of(asked)
    assert reply.length is None
    rig.hear(wrap(30))
    if framing is CHUNKED:
        rig.hear(b"0\r\n\r\n")
    else:
        rig.end()

    assert await read(reply) == b"x" * (LIMIT + 31)
    assert rig.reusable is (framing is CHUNKED)


async def test_a_reply_that_may_not_be_streamed_is_refused_with_a_known_outcome(rig: Rig) -> None:
    asked = rig.ask(may_stream=False)

    rig.hear(LARGE)

    assert type(error_of(asked)) is ReplyTooLarge
    assert error_of(asked).sent is None
    assert rig.closed


async def test_a_chunked_reply_that_may_not_be_streamed_is_refused_when_it_crosses_the_limit(rig: Rig) -> None:
    asked = rig.ask(may_stream=False)

    rig.hear(CHUNKED + chunks(LIMIT))
    assert not asked.done
    rig.hear(chunks(1))

    assert type(error_of(asked)) is ReplyTooLarge
    assert error_of(asked).sent is None
    assert rig.closed


async def test_a_stream_pauses_its_connection_while_its_reader_is_slow(rig: Rig) -> None:
    asked = rig.ask()
    rig.hear(CHUNKED + chunks(LIMIT + 1, STREAM_AHEAD - LIMIT - 1))
    paused = [not rig.transport.reading]
    rig.hear(chunks(1))
    paused.append(not rig.transport.reading)
    assert paused == [False, True]

    rig.clock.advance(3600)  # the reader's time, not the peer's
    reader = reply_of(asked).stream
    assert reader is not None
    pieces = reader.__aiter__()
    assert len(await pieces.__anext__()) == LIMIT + 1
    paused = [not rig.transport.reading]
    assert len(await pieces.__anext__()) == STREAM_AHEAD - LIMIT - 1
    paused.append(not rig.transport.reading)

    assert paused == [True, False]
    assert len(await pieces.__anext__()) == 1
    rig.hear(b"0\r\n\r\n")
    assert [piece async for piece in pieces] == []
    assert rig.reusable


async def test_a_paused_stream_has_no_deadline_even_if_more_came_in_the_same_read(rig: Rig) -> None:
    asked = rig.ask()
    rig.hear(CHUNKED + chunks(STREAM_AHEAD, 1, 1, 1))
    assert not rig.transport.reading

    rig.clock.advance(3600)

    assert rig.connection.state is State.ACTIVE
    reply_of(asked).stream.abandon()  # type: ignore[union-attr]
    assert rig.closed


async def test_a_reader_slower_than_its_connection_is_not_felt_by_the_next_exchange(rig: Rig) -> None:
    first = rig.ask()
    rig.hear(CHUNKED + chunks(STREAM_AHEAD, 1) + b"0\r\n\r\n")  # paused by its last bytes
    assert rig.reusable
    assert rig.transport.reading

    second = rig.ask(timeout=10)
    rig.clock.advance(9)
    # Only now the first one's caller reads: it must not renew the second one's time.
    assert len(await read(reply_of(first))) == STREAM_AHEAD + 1
    rig.clock.advance(2)

    assert type(error_of(second)) is ResponseTimeout


@pytest.mark.parametrize("said", [LARGE, LARGE + b"x" * 50])
async def test_each_piece_of_a_stream_has_the_time_of_a_whole_answer(rig: Rig, said: bytes) -> None:
    asked = rig.ask(timeout=10)
    rig.clock.advance(9)
    rig.hear(said)
    rig.clock.advance(9)
    rig.hear(b"x")
    rig.clock.advance(9)
    assert rig.connection.state is State.ACTIVE
    rig.clock.advance(2)

    assert rig.closed
    with pytest.raises(ResponseTimeout):
        await read(reply_of(asked))


async def test_the_time_of_a_streams_pieces_is_not_that_of_the_next_exchange(rig: Rig) -> None:
    first = rig.ask(timeout=10)
    rig.clock.advance(9)
    rig.hear(LARGE, b"x" * 50)
    rig.clock.advance(9)
    rig.hear(b"x" * 50)
    assert len(await read(reply_of(first))) == 100

    second = rig.ask(timeout=2)
    rig.clock.advance(1.9)
    assert not second.done
    rig.clock.advance(0.15)

    assert type(error_of(second)) is ResponseTimeout


async def test_a_stream_that_was_paused_has_its_time_again_when_it_goes_on(rig: Rig) -> None:
    asked = rig.ask(timeout=10)
    rig.hear(CHUNKED + chunks(STREAM_AHEAD, 1))
    rig.clock.advance(3600)
    stream = reply_of(asked).stream
    assert stream is not None
    pieces = stream.__aiter__()
    assert len(await pieces.__anext__()) == STREAM_AHEAD
    assert len(await pieces.__anext__()) == 1

    rig.clock.advance(9.9)
    states = [rig.connection.state]
    rig.clock.advance(0.15)
    states.append(rig.connection.state)

    assert states == [State.ACTIVE, State.CLOSED]
    with pytest.raises(ResponseTimeout):
        await pieces.__anext__()


class Kept:
    """What somebody holds who reads."""


async def test_who_read_a_stream_that_broke_off_is_let_go_of_without_the_collector(rig: Rig) -> None:
    """An error holds the frames it passed, and they the reader's call, whose body counts until it is let go of."""
    asked = rig.ask(timeout=10)
    rig.hear(CHUNKED + chunks(LIMIT + 1))
    stream = reply_of(asked).stream
    assert stream is not None
    rig.clock.advance(11)

    async def reading(_: Kept) -> None:
        try:
            async for _piece in stream:
                pass
        except UpstreamError:
            return
        finally:
            stream.abandon()

    kept = Kept()
    alive = weakref.ref(kept)
    gc.disable()
    try:
        await reading(kept)
        del kept
        assert alive() is None
    finally:
        gc.enable()


INNER = OK * 3  # a body that looks like answers


@pytest.mark.parametrize(
    "said",
    [
        LARGE + b"x" * 100,
        LARGE + INNER,
        LARGE,
        CHUNKED + chunks(LIMIT + 1) + b"0\r\n\r\n",
        CHUNKED + chunks(LIMIT + 1, LIMIT + 1, 5),
        b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * (LIMIT + 1),
    ],
)
@pytest.mark.parametrize("cut", [0, 30, 60])
async def test_a_stream_that_is_abandoned_in_the_step_in_which_it_is_told_ends_there(
    rig: Rig, said: bytes, cut: int
) -> None:
    def abandon() -> None:
        reply_of(asked).stream.abandon()  # type: ignore[union-attr]

    asked = Asked(on_end=abandon).send_on(rig.connection)

    rig.hear(*[piece for piece in (said[:cut], said[cut:]) if piece])
    rig.hear(b"x" * 200)
    rig.clock.advance(60)

    assert reply_of(asked).stream is not None
    assert rig.closed
    assert not rig.freed
    assert rig.connection._alarm.slot is None
    assert not rig.connection._pieces


async def test_a_stream_cut_short_says_so_after_its_pieces(rig: Rig) -> None:
    asked = rig.ask()
    rig.hear(LARGE + b"x" * 99)
    rig.end()
    stream = reply_of(asked).stream
    assert stream is not None
    pieces = stream.__aiter__()

    assert await pieces.__anext__() == b"x" * 99
    with pytest.raises(IncompleteReply):
        await pieces.__anext__()

    assert rig.closed


async def test_a_stream_that_turns_out_malformed_says_so(rig: Rig) -> None:
    asked = rig.ask()
    rig.hear(CHUNKED + chunks(LIMIT + 1), b"ZZ\r\n")

    with pytest.raises(BadReply):
        await read(reply_of(asked))
    assert rig.closed


async def test_an_abandoned_stream_closes_its_connection(rig: Rig) -> None:
    asked = rig.ask()
    rig.hear(LARGE)

    stream = reply_of(asked).stream
    assert stream is not None
    stream.abandon()
    stream.abandon()
    rig.hear(b"x" * 100)

    assert rig.closed
    assert rig.transport.ended == "abort"


async def test_an_abandoned_stream_that_had_ended_leaves_its_connection_alone(rig: Rig) -> None:
    first = rig.ask()
    rig.hear(LARGE + b"x" * 100)
    second = rig.ask()

    reply_of(first).stream.abandon()  # type: ignore[union-attr]
    rig.hear(OK)

    assert reply_of(second).body == b"OK"


async def test_bytes_behind_a_stream_are_not_part_of_it(rig: Rig) -> None:
    asked = rig.ask()
    rig.hear(LARGE + b"x" * 100 + OK)

    assert await read(reply_of(asked)) == b"x" * 100
    assert rig.closed


async def test_a_reader_that_waits_is_woken_by_pieces_and_by_the_end(rig: Rig) -> None:
    asked = rig.ask()
    rig.hear(LARGE)
    reading = asyncio.get_running_loop().create_task(read(reply_of(asked)), name="reader")
    await turns()
    rig.hear(b"a" * 40)
    await turns()
    assert not reading.done()
    rig.hear(b"b" * 60)

    assert await reading == b"a" * 40 + b"b" * 60


# --- an answer that does not come in time, and an end that is looked out for ---


def hold(rig: Rig, seconds: float = 5.0, *, may_stream: bool = True) -> Asked:
    """Let an exchange be overdue whose end is wanted for so many seconds more."""
    asked = Asked(b"PUT", timeout=10, may_stream=may_stream)
    asked.hold = seconds
    asked.send_on(rig.connection)
    rig.clock.advance(10.1)
    return asked


async def test_who_does_not_want_to_know_the_end_is_told_that_there_was_none(rig: Rig) -> None:
    asked = hold(rig, 0.0)

    assert asked.asked_to_hold == 1
    assert isinstance(error_of(asked), ResponseTimeout)
    assert rig.transport.ended == "abort"


async def test_an_end_that_is_wanted_is_waited_for(rig: Rig) -> None:
    asked = hold(rig)
    assert repr(rig.connection) == "<http1.Connection HELD served=1>"
    rig.clock.advance(4.8)
    assert not asked.done
    rig.hear(OK)

    assert reply_of(asked).body == b"OK"
    assert asked.asked_to_hold == 1


@pytest.mark.parametrize("answer", [OK, b"HTTP/1.1 204 No Content\r\n\r\n", b"HTTP/1.1 200 OK\r\n\r\n"])
async def test_a_connection_that_was_held_never_serves_again(rig: Rig, answer: bytes) -> None:
    asked = hold(rig)
    rig.hear(answer)
    if not asked.done:
        rig.end()

    assert asked.done
    assert not rig.freed
    assert rig.closed


async def test_an_end_that_does_not_come_either_is_told_once(rig: Rig) -> None:
    asked = hold(rig)
    rig.clock.advance(5.1)

    error = error_of(asked)
    assert isinstance(error, ResponseTimeout)
    assert error.sent is Sent.MAYBE
    assert asked.asked_to_hold == 1
    assert rig.closed


@pytest.mark.parametrize("how", ["end of file", "reset"])
async def test_a_connection_that_ends_while_it_is_held_has_no_end_to_tell(rig: Rig, how: str) -> None:
    asked = hold(rig)
    rig.end(None if how == "end of file" else ConnectionResetError())

    assert isinstance(error_of(asked), ConnectionLost)
    assert rig.connection.state is State.CLOSED
    rig.clock.advance(100)


async def test_nonsense_on_a_connection_that_is_held_ends_it(rig: Rig) -> None:
    asked = hold(rig)
    rig.hear(b"nonsense\r\n\r\n")

    assert isinstance(error_of(asked), BadReply)
    assert rig.closed


async def test_an_answer_that_has_begun_is_waited_for_too(rig: Rig) -> None:
    asked = Asked(b"PUT", timeout=10)
    asked.hold = 5.0
    asked.send_on(rig.connection)
    rig.hear(OK[:-1])
    rig.clock.advance(10.1)
    assert not asked.done
    rig.hear(OK[-1:])

    assert reply_of(asked).body == b"OK"
    assert rig.closed


async def test_a_large_answer_on_a_connection_that_is_held_is_an_end(rig: Rig) -> None:
    asked = hold(rig)
    rig.hear(LARGE)
    stream = reply_of(asked).stream
    assert stream is not None
    stream.abandon()

    assert rig.closed


async def test_nobody_is_asked_whether_to_hold_a_stream(rig: Rig) -> None:
    """Its head was the answer; each piece has its time, and the reader is told."""
    asked = Asked(b"PUT", timeout=10)
    asked.hold = 5.0
    asked.send_on(rig.connection)
    rig.hear(LARGE)
    rig.clock.advance(10.1)

    assert asked.asked_to_hold == 0
    with pytest.raises(ResponseTimeout):
        await read(reply_of(asked))


async def test_giving_a_connection_up_ends_what_it_was_held_for(rig: Rig) -> None:
    asked = hold(rig)
    rig.connection.close(Closing.ERROR)

    assert isinstance(error_of(asked), ConnectionLost)
    assert rig.closed
