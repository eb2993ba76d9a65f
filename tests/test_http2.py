"""One HTTP/2 connection, without sockets or time: what it does with its exchanges, and what it does not put up with."""

import asyncio
import gc
import weakref
from collections.abc import Callable

import pytest

from proxy.errors import BadReply, ConnectionLost, IncompleteReply, ReplyTooLarge, ResponseTimeout, UpstreamError
from proxy.fields import reply_table
from proxy.messages import Reply, Sent
from proxy.wire import connection, h2frames
from proxy.wire.buffers import Buffers
from proxy.wire.connection import Closing
from proxy.wire.h2fields import ReplyHeads, RequestBlocks
from proxy.wire.h2frames import (
    ACK,
    CONTINUATION,
    DATA,
    END_STREAM,
    GOAWAY,
    HEADERS,
    LEAST_FRAME,
    MOST_WINDOW,
    PING,
    PRIORITY,
    PUSH_PROMISE,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    Code,
    Frame,
    render,
    window_update,
)
from proxy.wire.h2stream import WINDOW
from proxy.wire.heads import MAX_INTERIM
from proxy.wire.http2 import (
    CONNECTION_WINDOW,
    FIRST_WINDOW,
    MOST_IDLE_FRAMES,
    MOST_STREAMS,
    PING_WAIT,
    SETTINGS_WAIT,
    SILENCE,
    Connection,
    State,
)
from proxy.wire.replystream import STREAM_AHEAD
from tests.h2_peer import HELLO, OK, Peer
from tests.upstream_fakes import Asked, FakeClock, FakeSocket, FakeTransport

LIMIT = 64  # bytes of a reply that is held
HEAD = b"%b /v2/events HTTP/1.1\r\nHost: shop.talon.one\r\nX-Request-Id: r\r\nAuthorization: ApiKey-v1 key\r\n\r\n"


class Request(Asked):
    """An exchange with a head that HTTP/2 can spell."""

    def send_on(self, connection: connection.Connection) -> "Request":
        connection.send(self, HEAD % self.method, self.body, timeout=self.timeout)
        return self


class Rig:
    """A connection on a fake transport, and the peer that speaks to it."""

    def __init__(self, limit: int = LIMIT, *, greeted: bool = True) -> None:
        self.clock = FakeClock()
        self.freed: list[connection.Connection] = []
        self.lost: list[connection.Connection] = []
        self.slots: list[int] = []  # as they changed
        self.socket: FakeSocket | None = None
        self.transport = FakeTransport()
        self.peer = Peer()
        self.connection = Connection(
            self.clock.wheel(),
            reply_limit=limit,
            buffers=Buffers(1 << 30),
            blocks=RequestBlocks(b"https"),
            heads=ReplyHeads(reply_table(allow_browsers=False)),
            freed=self.freed.append,
            changed=lambda changed: self.slots.append(changed.slots),
            lost=self.lost.append,
        )
        assert self.connection.state is State.OPENING
        self.connection.connection_made(self.transport)
        if greeted:
            self.hear(HELLO, Peer.acknowledged())
            self.written()

    def ask(
        self, method: bytes = b"GET", body: bytes = b"", *, timeout: float = 10.0, may_stream: bool = True
    ) -> Request:
        return Request(method, body, timeout=timeout, may_stream=may_stream).send_on(self.connection)

    def hear(self, *pieces: bytes) -> None:
        for piece in pieces:
            self.connection.data_received(piece)

    def written(self) -> list[Frame]:
        """Give what was written since the last look."""
        written, self.transport.written = self.transport.written, b""
        return self.peer.hears(written)

    def told(self) -> list[tuple[int, int, bytes]]:
        """The same, as values."""
        return [(frame.kind, frame.stream, frame.payload) for frame in self.written()]

    @property
    def closed(self) -> bool:
        return (
            self.connection.state is State.CLOSED
            and self.lost == [self.connection]
            and self.transport.ended is not None
            and not self.connection.slots
        )


@pytest.fixture
def rig() -> Rig:
    return Rig()


def error_of(asked: Asked) -> UpstreamError:
    assert isinstance(asked.error, UpstreamError)
    return asked.error


def reset(stream: int, code: Code) -> tuple[int, int, bytes]:
    return (RST_STREAM, stream, code.to_bytes(4, "big"))


async def read(reply: Reply) -> bytes:
    assert reply.stream is not None
    return b"".join([piece async for piece in reply.stream])


# --- opening ---


async def test_it_speaks_first_and_serves_when_the_peer_has_told_its_settings() -> None:
    rig = Rig(greeted=False)
    assert rig.transport.written.startswith(h2frames.PREFACE)
    hello, update = rig.written()
    assert dict(h2frames.read_settings(hello.payload)) == {
        h2frames.Setting.ENABLE_PUSH: 0,
        h2frames.Setting.INITIAL_WINDOW_SIZE: WINDOW,
        h2frames.Setting.MAX_HEADER_LIST_SIZE: 65536,
    }
    assert (update.kind, update.stream, update.number) == (WINDOW_UPDATE, 0, CONNECTION_WINDOW - FIRST_WINDOW)
    ready = asyncio.ensure_future(rig.connection.ready())
    await asyncio.sleep(0)
    assert not ready.done()

    rig.hear(Peer.settings(max_concurrent_streams=7))

    await ready
    assert repr(rig.connection) == "<http2.Connection SERVING streams=0/7 served=0>"
    assert [(frame.kind, frame.flags) for frame in rig.written()] == [(SETTINGS, ACK)]


async def test_of_very_many_streams_it_uses_a_good_number() -> None:
    rig = Rig(greeted=False)
    rig.hear(Peer.settings(max_concurrent_streams=1 << 31))

    assert rig.connection.slots == MOST_STREAMS


@pytest.mark.parametrize("how", ["eof", "reset", "garbage"])
async def test_one_that_ends_before_it_could_serve_was_never_used(how: str) -> None:
    rig = Rig(greeted=False)
    ready = asyncio.ensure_future(rig.connection.ready())
    await asyncio.sleep(0)
    if how == "eof":
        rig.connection.eof_received()
    elif how == "reset":
        rig.connection.connection_lost(ConnectionResetError())
    else:
        rig.hear(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    with pytest.raises(ConnectionLost) as caught:
        await ready
    assert caught.value.sent is Sent.NO


async def test_settings_that_are_not_acknowledged_end_it() -> None:
    rig = Rig(greeted=False)
    rig.hear(HELLO)
    rig.written()

    rig.clock.advance(SETTINGS_WAIT + 0.1)

    assert rig.closed
    assert [frame.code for frame in rig.written()] == [Code.SETTINGS_TIMEOUT]


# --- an exchange ---


async def test_a_call_is_a_head_and_an_answer_comes_whole(rig: Rig) -> None:
    asked = rig.ask()

    [frame] = rig.written()
    assert (frame.stream, frame.ends_stream) == (1, True)
    assert rig.peer.request(frame) == [
        (b":method", b"GET"),
        (b":scheme", b"https"),
        (b":path", b"/v2/events"),
        (b":authority", b"shop.talon.one"),
        (b"x-request-id", b"r"),
        (b"authorization", b"ApiKey-v1 key"),
    ]
    assert repr(rig.connection) == "<http2.Connection SERVING streams=1/100 served=1>"
    assert not rig.freed

    rig.hear(rig.peer.answer(1))

    assert (asked.reply.status, asked.reply.body, asked.reply.length) == (200, b"OK", 2)
    assert asked.reply.block == b"content-type: text/plain\r\n"
    assert rig.freed == [rig.connection]
    assert repr(rig.connection) == "<http2.Connection SERVING streams=0/100 served=1>"


async def test_a_body_follows_its_head_in_the_same_step(rig: Rig) -> None:
    rig.ask(b"PUT", b"{}")

    head, data = rig.written()
    assert (head.kind, head.ends_stream) == (HEADERS, False)
    assert (data.kind, data.stream, data.payload, data.ends_stream) == (DATA, 1, b"{}", True)


async def test_the_first_byte_is_told_of_before_it_is_written(rig: Rig) -> None:
    seen: list[bytes] = []
    Request(on_sent=lambda: seen.append(rig.transport.written)).send_on(rig.connection)

    assert seen == [b""]
    assert rig.transport.written


async def test_many_exchanges_are_answered_in_any_order_each_with_its_own(rig: Rig) -> None:
    asked = [rig.ask() for _ in range(5)]
    assert [frame.stream for frame in rig.written()] == [1, 3, 5, 7, 9]

    for stream in (7, 1, 9, 3, 5):
        rig.hear(rig.peer.answer(stream, b"for %d" % stream))

    assert [one.reply.body for one in asked] == [b"for 1", b"for 3", b"for 5", b"for 7", b"for 9"]
    assert len(rig.freed) == 5


async def test_moments_are_stamped(rig: Rig) -> None:
    first = rig.ask()
    rig.clock.advance(1)
    rig.hear(rig.peer.head(1))
    rig.clock.advance(2)
    rig.hear(rig.peer.data(1, b"x", last=True))
    second = rig.ask()

    timeline = first.timeline
    assert (timeline.first_byte - timeline.sent, timeline.answered - timeline.sent) == (1, 3)
    assert (timeline.reused, second.timeline.reused) == (False, True)


async def test_an_answer_may_come_in_any_pieces(rig: Rig) -> None:
    asked = rig.ask()
    said = rig.peer.head(1) + rig.peer.data(1, b"one ") + rig.peer.data(1, b"") + rig.peer.data(1, b"two", last=True)

    for at in range(len(said)):
        rig.hear(said[at : at + 1])

    assert asked.reply.body == b"one two"


@pytest.mark.parametrize(
    ("method", "status", "length", "expected"),
    [
        (b"HEAD", b"200", b"1000", 1000),
        (b"HEAD", b"200", None, None),
        (b"GET", b"304", b"1000", 1000),
        (b"GET", b"304", None, None),
        (b"GET", b"204", None, None),
        (b"GET", b"204", b"0", None),
        (b"GET", b"200", b"0", 0),
        (b"GET", b"200", None, 0),
    ],
)
@pytest.mark.parametrize("empty_data", [False, True])
async def test_answers_without_a_body(
    rig: Rig, method: bytes, status: bytes, length: bytes | None, expected: int | None, empty_data: bool
) -> None:
    asked = rig.ask(method)
    fields = [(b":status", status), *([(b"content-length", length)] if length is not None else [])]

    rig.hear(rig.peer.head(1, fields, last=not empty_data))
    if empty_data:
        rig.hear(rig.peer.data(1, b"", last=True))

    assert (asked.reply.body, asked.reply.length) == (b"", expected)


async def test_interim_answers_are_passed_over(rig: Rig) -> None:
    asked = rig.ask()

    rig.hear(*[rig.peer.head(1, [(b":status", b"103")]) for _ in range(MAX_INTERIM)], rig.peer.answer(1))

    assert asked.reply.status == 200


async def test_trailers_are_dropped(rig: Rig) -> None:
    asked = rig.ask()

    rig.hear(rig.peer.head(1), rig.peer.data(1, b"OK"), rig.peer.head(1, [(b"x-sum", b"1")], last=True))

    assert (asked.reply.body, asked.reply.block) == (b"OK", b"content-type: text/plain\r\n")


async def test_what_an_answer_sets_off_finds_the_slot_free() -> None:
    rig = Rig()
    seen: list[int] = []
    Request(on_end=lambda: seen.append(len(rig.freed))).send_on(rig.connection)

    rig.hear(rig.peer.answer(1))

    assert seen == [1]


# --- one answer is wrong: its stream ends, the others and the connection go on ---

WRONG: dict[str, Callable[[Peer], bytes]] = {
    "no status": lambda peer: peer.head(1, [(b"server", b"s")]),
    "HTTP/1.1's fields": lambda peer: peer.head(1, [(b":status", b"200"), (b"connection", b"close")]),
    "101": lambda peer: peer.head(1, [(b":status", b"101")]),
    "a body before its head": lambda peer: peer.data(1, b"x"),
    "a body after an interim answer": lambda peer: peer.head(1, [(b":status", b"100")]) + peer.data(1, b"x"),
    "an interim answer as the last": lambda peer: peer.head(1, [(b":status", b"100")], last=True),
    "too many interim answers": lambda peer: peer.head(1, [(b":status", b"100")]) * (MAX_INTERIM + 1),
    "nothing": lambda peer: peer.data(1, b"", last=True),
    "a second head": lambda peer: peer.head(1) + peer.head(1),
    "trailers with a status": lambda peer: peer.head(1) + peer.head(1, last=True),
    "more than was said": lambda peer: peer.head(1, [*OK, (b"content-length", b"1")]) + peer.data(1, b"xx"),
    "less than was said": lambda peer: peer.head(1, [*OK, (b"content-length", b"3")]) + peer.data(1, b"xx", last=True),
    "less, and trailers": lambda peer: (
        peer.head(1, [*OK, (b"content-length", b"3")]) + peer.head(1, [(b"x", b"y")], last=True)
    ),
    "nothing of what was said": lambda peer: peer.head(1, [*OK, (b"content-length", b"3")], last=True),
    "a body of a 204": lambda peer: peer.head(1, [(b":status", b"204")]) + peer.data(1, b"x"),
    "a body of a 304": lambda peer: peer.head(1, [(b":status", b"304")]) + peer.data(1, b"x"),
    "a window opened by nothing": lambda peer: window_update(1, 0),
    "a window larger than any": lambda peer: window_update(1, MOST_WINDOW),
}


@pytest.mark.parametrize("wrong", WRONG)
async def test_a_malformed_answer_ends_its_exchange_alone(rig: Rig, wrong: str) -> None:
    bad, good = rig.ask(), rig.ask()
    rig.written()

    rig.hear(WRONG[wrong](rig.peer))

    error = error_of(bad)
    assert isinstance(error, BadReply)
    assert error.sent is Sent.MAYBE
    for frame in rig.written():  # none where both sides had ended it
        assert (frame.kind, frame.stream) == (RST_STREAM, 1)
        assert frame.code in (Code.PROTOCOL_ERROR, Code.FLOW_CONTROL_ERROR)
    rig.hear(rig.peer.answer(3))
    assert good.reply.body == b"OK"
    assert len(rig.freed) == 2


async def test_a_body_for_head_is_refused(rig: Rig) -> None:
    asked = rig.ask(b"HEAD")
    rig.hear(rig.peer.head(1), rig.peer.data(1, b"x"))

    assert isinstance(error_of(asked), BadReply)


async def test_what_still_comes_for_a_stream_that_we_have_cancelled_is_passed_over(rig: Rig) -> None:
    cancelled = rig.ask(timeout=1)
    rig.clock.advance(1.1)
    assert isinstance(error_of(cancelled), ResponseTimeout)

    rig.hear(
        # The table is shared: what this head puts into it, the next one names.
        rig.peer.head(1, [(b":status", b"200"), (b"x-cell", b"one")]),
        rig.peer.data(1, b"late"),
        window_update(1, 5),
        Peer.reset(1, Code.NO_ERROR),
    )
    other = rig.ask()
    rig.hear(rig.peer.answer(3, fields=[(b":status", b"200"), (b"x-cell", b"one")]))

    assert other.reply.block == b"x-cell: one\r\n"


# --- the connection is wrong: all end ---

VIOLATIONS: dict[str, tuple[Callable[[Peer], bytes], Code]] = {
    "a push": (lambda peer: render(PUSH_PROMISE, 4, 1, bytes(4)), Code.PROTOCOL_ERROR),
    "a head for a stream nobody began": (lambda peer: peer.head(5), Code.PROTOCOL_ERROR),
    "a body for a stream nobody began": (lambda peer: peer.data(5, b"x"), Code.PROTOCOL_ERROR),
    "a reset of a stream nobody began": (lambda peer: peer.reset(5, 8), Code.PROTOCOL_ERROR),
    "a window of a stream nobody began": (lambda peer: window_update(5, 1), Code.PROTOCOL_ERROR),
    "a stream of the server's": (lambda peer: peer.head(2), Code.PROTOCOL_ERROR),
    "a head for a stream that had ended": (lambda peer: peer.answer(1) + peer.head(1), Code.STREAM_CLOSED),
    "a body for a stream that had ended": (lambda peer: peer.answer(1) + peer.data(1, b"x"), Code.STREAM_CLOSED),
    "a head that cannot be decoded": (lambda peer: render(HEADERS, 4, 1, b"\x80"), Code.COMPRESSION_ERROR),
    "a bomb": (lambda peer: render(HEADERS, 4, 1, b"\x88" * 1000), Code.ENHANCE_YOUR_CALM),
    "a frame within a head": (lambda peer: render(HEADERS, 0, 1, b"\x88") + peer.ping(), Code.PROTOCOL_ERROR),
    "a continuation of nothing": (lambda peer: render(CONTINUATION, 4, 1, b""), Code.PROTOCOL_ERROR),
    "endless continuations": (
        lambda peer: render(HEADERS, 0, 1, b"\x88") + render(CONTINUATION, 0, 1, b"") * 100,
        Code.ENHANCE_YOUR_CALM,
    ),
    "a large frame": (lambda peer: peer.data(1, bytes(LEAST_FRAME + 1)), Code.FRAME_SIZE_ERROR),
    "the connection's window opened by nothing": (lambda peer: window_update(0, 0), Code.PROTOCOL_ERROR),
    "the connection's window larger than any": (lambda peer: window_update(0, MOST_WINDOW), Code.FLOW_CONTROL_ERROR),
    "pushes allowed": (lambda peer: peer.settings(enable_push=1), Code.PROTOCOL_ERROR),
    "a window that none may have": (lambda peer: peer.settings(initial_window_size=1 << 31), Code.FLOW_CONTROL_ERROR),
    "windows that grow too large": (
        lambda peer: window_update(3, 100) + peer.settings(initial_window_size=MOST_WINDOW),
        Code.FLOW_CONTROL_ERROR,
    ),
    "frames smaller than may be": (lambda peer: peer.settings(max_frame_size=16383), Code.PROTOCOL_ERROR),
    "frames larger than may be": (lambda peer: peer.settings(max_frame_size=1 << 24), Code.PROTOCOL_ERROR),
    "very many pings": (lambda peer: peer.ping() * (MOST_IDLE_FRAMES + 1), Code.ENHANCE_YOUR_CALM),
    "very many settings": (lambda peer: HELLO * (MOST_IDLE_FRAMES + 1), Code.ENHANCE_YOUR_CALM),
    "very many empty frames": (
        lambda peer: peer.head(1) + peer.data(1, b"") * (MOST_IDLE_FRAMES + 1),
        Code.ENHANCE_YOUR_CALM,
    ),
    "very many priorities": (
        lambda peer: render(PRIORITY, 0, 1, bytes(5)) * (MOST_IDLE_FRAMES + 1),
        Code.ENHANCE_YOUR_CALM,
    ),
    "very many windows": (lambda peer: window_update(3, 1) * (MOST_IDLE_FRAMES + 1), Code.ENHANCE_YOUR_CALM),
    "very many resets": (lambda peer: peer.reset(1, 8) * (MOST_IDLE_FRAMES + 1), Code.ENHANCE_YOUR_CALM),
    "very many unknown frames": (lambda peer: render(0xFA, 0, 0) * (MOST_IDLE_FRAMES + 1), Code.ENHANCE_YOUR_CALM),
}


@pytest.mark.parametrize("name", VIOLATIONS)
async def test_u29_a_violation_ends_the_connection_and_the_peer_is_told_which(rig: Rig, name: str) -> None:
    violate, code = VIOLATIONS[name]
    answered = "had ended" in name
    first, second = rig.ask(), rig.ask()
    rig.written()

    rig.hear(violate(rig.peer))

    assert rig.closed
    assert rig.connection.closing is Closing.ERROR
    assert rig.transport.ended == "close"  # so that the last frame gets out
    goaway = rig.written()[-1]
    assert (goaway.kind, goaway.code, goaway.number) == (GOAWAY, code, 0)
    if "resets" in name:
        assert isinstance(error_of(first), ConnectionLost)
        answered = True
    for asked in [second] if answered else [first, second]:
        assert isinstance(error_of(asked), BadReply)
        assert error_of(asked).sent is Sent.MAYBE
    rig.hear(rig.peer.ping())  # nobody listens any more
    assert not rig.transport.written


async def test_more_than_a_stream_may_send_ends_the_connection() -> None:
    rig = Rig(limit=64 << 20)
    asked = rig.ask()
    assert asked.done is False
    rig.connection._streams[1].credit = 10

    rig.hear(rig.peer.head(1), rig.peer.data(1, bytes(11)))

    assert rig.closed
    assert rig.written()[-1].code == Code.FLOW_CONTROL_ERROR


async def test_more_than_the_connection_may_send_ends_it(rig: Rig) -> None:
    rig.ask()
    rig.connection._credit = 10

    rig.hear(rig.peer.head(1), rig.peer.data(1, bytes(11)))

    assert rig.closed
    assert rig.written()[-1].code == Code.FLOW_CONTROL_ERROR


async def test_frames_that_bring_nothing_are_counted_from_answer_to_answer(rig: Rig) -> None:
    for number in range(2):
        rig.ask()
        rig.hear(rig.peer.ping() * (MOST_IDLE_FRAMES - 1), rig.peer.answer(2 * number + 1))

    assert rig.connection.state is State.SERVING


async def test_pings_are_answered_and_frames_of_no_meaning_to_us_passed_over(rig: Rig) -> None:
    rig.hear(
        rig.peer.ping(b"abcdefgh"),
        render(PRIORITY, 0, 1, bytes(5)),
        render(0xFA, 0xFF, 9, b"?"),
        rig.peer.ping(ack=True),
    )

    assert [(frame.kind, frame.flags, frame.payload) for frame in rig.written()] == [(PING, ACK, b"abcdefgh")]


# --- RST_STREAM and GOAWAY ---


async def test_u27_what_the_peer_refused_was_never_sent(rig: Rig) -> None:
    asked = rig.ask(b"PUT", b"{}")

    rig.hear(Peer.reset(1, Code.REFUSED_STREAM))

    assert isinstance(error_of(asked), ConnectionLost)
    assert error_of(asked).sent is Sent.NO
    assert len(rig.freed) == 1
    assert rig.connection.state is State.SERVING


@pytest.mark.parametrize("code", [Code.CANCEL, Code.INTERNAL_ERROR, Code.NO_ERROR, Code.HTTP_1_1_REQUIRED, 0xFFFF])
async def test_u27_of_what_the_peer_broke_off_nobody_knows(rig: Rig, code: int) -> None:
    silent, begun = rig.ask(), rig.ask()

    rig.hear(rig.peer.head(3), Peer.reset(1, code), Peer.reset(3, code))

    assert isinstance(error_of(silent), ConnectionLost)
    assert isinstance(error_of(begun), IncompleteReply)
    assert error_of(silent).sent is error_of(begun).sent is Sent.MAYBE
    assert rig.connection.state is State.SERVING


async def test_u27_a_refusal_after_the_answer_began_is_not_believed(rig: Rig) -> None:
    asked = rig.ask()

    rig.hear(rig.peer.head(1), Peer.reset(1, Code.REFUSED_STREAM))

    assert error_of(asked).sent is Sent.MAYBE


async def test_u27_a_peer_that_asks_for_calm_gets_less_at_a_time(rig: Rig) -> None:
    for _ in range(2):
        rig.ask()
    for stream in (1, 3):
        rig.hear(Peer.reset(stream, Code.ENHANCE_YOUR_CALM))

    assert rig.slots == [MOST_STREAMS // 2, MOST_STREAMS // 4]
    rig.hear(HELLO)
    assert rig.connection.slots == MOST_STREAMS // 4


async def test_u26_after_goaway_what_was_taken_finishes_and_the_rest_was_never_sent(rig: Rig) -> None:
    taken, untaken = rig.ask(), rig.ask(b"PUT", b"{}")

    rig.hear(Peer.goaway(1))

    assert rig.connection.state is State.LEAVING
    assert rig.slots == [0]
    assert isinstance(error_of(untaken), ConnectionLost)
    assert error_of(untaken).sent is Sent.NO
    assert not taken.done
    assert not rig.lost
    rig.hear(rig.peer.answer(1))
    assert taken.reply.body == b"OK"
    assert rig.closed
    assert rig.connection.closing is Closing.GOAWAY
    assert rig.transport.ended == "close"


async def test_u26_a_goaway_in_two_steps_takes_back_what_came_between(rig: Rig) -> None:
    first, second = rig.ask(), rig.ask()

    rig.hear(Peer.goaway(MOST_WINDOW))
    assert not second.done
    rig.hear(Peer.goaway(1))

    assert error_of(second).sent is Sent.NO
    assert not first.done


async def test_u26_who_begins_again_after_a_goaway_finds_the_slots_gone_first() -> None:
    rig = Rig()
    seen: list[int] = []
    Request(on_end=lambda: seen.append(rig.connection.slots)).send_on(rig.connection)

    rig.hear(Peer.goaway(0))

    assert seen == [0]


async def test_an_idle_connection_closes_at_a_goaway(rig: Rig) -> None:
    rig.hear(Peer.goaway(0))

    assert rig.closed
    assert rig.connection.closing is Closing.GOAWAY


@pytest.mark.parametrize("how", ["eof", "reset"])
async def test_what_a_leaving_peer_did_not_finish_is_lost_and_the_reason_is_its_goaway(rig: Rig, how: str) -> None:
    asked = rig.ask()
    rig.hear(Peer.goaway(1))
    if how == "eof":
        rig.connection.eof_received()
    else:
        rig.connection.connection_lost(ConnectionResetError())

    assert error_of(asked).sent is Sent.MAYBE
    assert rig.connection.closing is Closing.GOAWAY
    assert rig.lost == [rig.connection]


@pytest.mark.parametrize("how", ["eof", "reset"])
async def test_a_lost_connection_ends_every_exchange_and_says_how_far_it_was(rig: Rig, how: str) -> None:
    silent, begun = rig.ask(), rig.ask()
    rig.hear(rig.peer.head(3))
    if how == "eof":
        rig.connection.eof_received()
    rig.connection.connection_lost(None if how == "eof" else ConnectionResetError())

    assert isinstance(error_of(silent), ConnectionLost)
    assert isinstance(error_of(begun), IncompleteReply)
    assert rig.lost == [rig.connection]
    assert rig.connection.closing is Closing.ERROR


async def test_an_idle_connection_that_the_peer_closes_has_done_no_wrong(rig: Rig) -> None:
    rig.connection.eof_received()

    assert rig.closed
    assert rig.connection.closing is Closing.PEER


async def test_the_pool_is_told_of_the_end_before_those_who_may_begin_again() -> None:
    rig = Rig()
    seen: list[int] = []
    Request(on_end=lambda: seen.append(len(rig.lost))).send_on(rig.connection)

    rig.connection.connection_lost(None)

    assert seen == [1]


# --- the pool's wishes ---


async def test_a_retired_connection_finishes_what_it_has(rig: Rig) -> None:
    asked = rig.ask()
    rig.written()

    rig.connection.retire(Closing.AGE)

    assert rig.connection.slots == 0
    assert not rig.lost
    rig.hear(rig.peer.answer(1))
    assert asked.reply.body == b"OK"
    assert rig.closed
    assert rig.connection.closing is Closing.AGE
    assert [(frame.kind, frame.code) for frame in rig.written()] == [(GOAWAY, Code.NO_ERROR)]


async def test_an_idle_connection_that_retires_says_goodbye(rig: Rig) -> None:
    rig.connection.retire(Closing.IDLE)

    assert rig.closed
    assert rig.transport.ended == "close"
    assert [frame.kind for frame in rig.written()] == [GOAWAY]


async def test_a_connection_that_is_closed_loses_its_exchanges(rig: Rig) -> None:
    asked = rig.ask()

    rig.connection.close(Closing.ERROR)
    rig.connection.close(Closing.SWITCH)

    assert error_of(asked).sent is Sent.MAYBE
    assert rig.closed
    assert rig.connection.closing is Closing.ERROR
    assert rig.transport.ended == "abort"


async def test_a_change_of_the_streams_that_may_be_is_told(rig: Rig) -> None:
    rig.hear(Peer.settings(max_concurrent_streams=3), Peer.settings(max_concurrent_streams=3), HELLO)
    rig.hear(Peer.settings(max_concurrent_streams=0))

    assert rig.slots == [3, 0]


async def test_when_numbers_run_out_it_leaves(rig: Rig) -> None:
    rig.connection._last = h2frames.MOST_STREAM - 4
    asked = rig.ask()

    assert rig.slots == [0]
    rig.hear(rig.peer.answer(h2frames.MOST_STREAM - 2))
    assert asked.reply.body == b"OK"
    assert rig.closed


# --- time ---


async def test_u28_an_exchange_that_takes_too_long_is_cancelled_alone(rig: Rig) -> None:
    slow, other = rig.ask(timeout=2), rig.ask(timeout=3)
    rig.written()

    rig.clock.advance(2.1)

    assert isinstance(error_of(slow), ResponseTimeout)
    assert error_of(slow).sent is Sent.MAYBE
    assert rig.told() == [reset(1, Code.CANCEL)]
    rig.hear(rig.peer.answer(3))
    assert other.reply.body == b"OK"


async def test_each_exchange_has_its_own_time(rig: Rig) -> None:
    asked = [rig.ask(timeout=timeout) for timeout in (3, 1, 2)]

    for expected in ([1], [1, 2], [0, 1, 2]):
        rig.clock.advance(1.03)
        assert [number for number, one in enumerate(asked) if one.done] == expected


async def test_an_answer_in_time_is_not_ended_by_the_clock_of_another(rig: Rig) -> None:
    rig.ask(timeout=1)
    rig.hear(rig.peer.answer(1))
    rig.clock.advance(0.9)
    asked = rig.ask(timeout=1)

    rig.clock.advance(0.9)
    assert not asked.done
    rig.clock.advance(0.2)
    assert isinstance(error_of(asked), ResponseTimeout)


async def test_u28_a_silent_peer_is_asked_whether_it_lives_and_given_up_if_not(rig: Rig) -> None:
    asked = rig.ask(timeout=100)
    rig.written()

    rig.clock.advance(SILENCE + 0.1)
    assert rig.told() == [(PING, 0, bytes(8))]
    rig.clock.advance(PING_WAIT + 0.1)

    assert isinstance(error_of(asked), ConnectionLost)
    assert rig.closed
    assert rig.transport.ended == "abort"
    assert rig.connection.closing is Closing.ERROR


async def test_a_peer_that_lives_is_waited_for_and_asked_now_and_then(rig: Rig) -> None:
    asked = rig.ask(timeout=100)
    rig.written()

    for _ in range(5):
        rig.clock.advance(SILENCE + 0.1)
        assert [frame.kind for frame in rig.written()] == [PING]
        rig.hear(rig.peer.ping(bytes(8), ack=True))

    assert not asked.done


async def test_a_peer_that_speaks_is_not_asked(rig: Rig) -> None:
    rig.ask(timeout=100)
    rig.hear(rig.peer.head(1))
    rig.written()

    for _ in range(10):
        rig.clock.advance(SILENCE - 0.1)
        rig.hear(rig.peer.data(1, b"x"))

    assert not rig.written()


async def test_an_idle_connection_asks_nothing_and_wakes_nobody(rig: Rig) -> None:
    rig.ask()
    rig.hear(rig.peer.answer(1))
    rig.written()
    rig.clock.advance(20)
    woken = rig.clock.waking

    rig.clock.advance(1000)

    assert rig.clock.waking == woken
    assert not rig.written()
    assert rig.connection.state is State.SERVING


async def test_after_a_long_rest_a_dead_peer_is_found_in_the_same_time(rig: Rig) -> None:
    rig.clock.advance(100)
    asked = rig.ask(timeout=100)

    rig.clock.advance(SILENCE + PING_WAIT + 0.2)

    assert asked.done
    assert rig.closed


# --- what the peer takes of a body ---


def bodies(frames: list[Frame]) -> list[tuple[int, int]]:
    return [(frame.stream, len(frame.payload)) for frame in frames if frame.kind == DATA]


async def test_a_large_body_is_written_in_frames_as_far_as_the_windows_go(rig: Rig) -> None:
    rig.ask(b"PUT", bytes(100_000))
    assert bodies(rig.written()) == [(1, LEAST_FRAME)] * 3 + [(1, FIRST_WINDOW - 3 * LEAST_FRAME)]

    rig.hear(window_update(0, 1 << 20))
    assert not rig.written()
    rig.hear(window_update(1, 10))
    assert bodies(rig.written()) == [(1, 10)]
    rig.hear(window_update(1, 1 << 20))

    last = rig.written()
    assert sum(size for _, size in bodies(last)) == 100_000 - FIRST_WINDOW - 10
    assert last[-1].flags & END_STREAM
    assert not any(frame.flags & END_STREAM for frame in last[:-1])


async def test_a_body_arrives_as_it_was(rig: Rig) -> None:
    body = bytes(range(256)) * 500
    rig.hear(Peer.settings(initial_window_size=1 << 20), window_update(0, 1 << 20))
    rig.written()

    rig.ask(b"PUT", body)

    assert b"".join(frame.payload for frame in rig.written() if frame.kind == DATA) == body


async def test_large_bodies_take_turns_and_a_small_one_does_not_wait_for_them(rig: Rig) -> None:
    rig.hear(Peer.settings(initial_window_size=1 << 20))
    for _ in range(2):
        rig.ask(b"PUT", bytes(1 << 20))
    rig.written()
    rig.ask(b"PUT", b"small")
    assert bodies(rig.written()) == []  # the connection's window is used up

    rig.hear(window_update(0, 3 * LEAST_FRAME))

    assert sorted(bodies(rig.written())[:3]) == [(1, LEAST_FRAME), (3, LEAST_FRAME), (5, 5)]


async def test_u28_a_stream_whose_window_is_closed_holds_up_nobody(rig: Rig) -> None:
    rig.hear(window_update(0, 1 << 20))
    stuck = rig.ask(b"PUT", bytes(100_000))
    rig.written()

    other = rig.ask(b"PUT", b"{}")
    assert bodies(rig.written()) == [(3, 2)]
    rig.hear(rig.peer.answer(3))

    assert other.reply.body == b"OK"
    assert not stuck.done


async def test_a_window_may_become_negative(rig: Rig) -> None:
    rig.hear(window_update(0, 1 << 20))
    rig.ask(b"PUT", bytes(70_000))
    rig.written()

    rig.hear(Peer.settings(initial_window_size=10))
    rig.hear(window_update(1, FIRST_WINDOW - 10))
    assert bodies(rig.written()) == []
    rig.hear(window_update(1, 1))

    assert bodies(rig.written()) == [(1, 1)]


async def test_larger_frames_are_written_where_the_peer_takes_them(rig: Rig) -> None:
    rig.hear(Peer.settings(initial_window_size=1 << 20, max_frame_size=1 << 20), window_update(0, 1 << 20))
    rig.written()

    rig.ask(b"PUT", bytes(100_000))

    assert bodies(rig.written()) == [(1, 100_000)]


async def test_bodies_wait_while_the_transport_has_enough_and_heads_do_not(rig: Rig) -> None:
    rig.connection.pause_writing()
    rig.ask(b"PUT", b"{}")
    rig.ask()
    assert [frame.kind for frame in rig.written()] == [HEADERS, HEADERS]

    rig.connection.resume_writing()

    assert bodies(rig.written()) == [(1, 2)]


async def test_u18_an_answer_before_the_body_was_taken_counts_and_the_rest_is_not_sent(rig: Rig) -> None:
    asked = rig.ask(b"PUT", bytes(100_000))
    rig.written()

    rig.hear(rig.peer.answer(1, b"big"))

    assert asked.reply.body == b"big"
    assert rig.told() == [reset(1, Code.CANCEL)]
    rig.hear(Peer.reset(1, Code.NO_ERROR), window_update(0, 1 << 20), window_update(1, 1 << 20))
    assert not rig.written()
    assert rig.connection.state is State.SERVING


async def test_a_head_larger_than_a_frame_goes_on_in_continuations(rig: Rig) -> None:
    asked = Asked()
    head = b"GET / HTTP/1.1\r\nHost: h\r\n%b\r\n" % (b"X-Long: %b\r\n" % (b"y" * 8000) * 5)
    rig.connection.send(asked, head, b"", timeout=10.0)

    [frame] = rig.written()
    assert len(rig.peer.request(frame)) == 9


# --- large answers, and who reads them ---


async def test_the_windows_are_renewed_as_a_held_answer_comes() -> None:
    rig = Rig(limit=64 << 20)
    asked = rig.ask()
    rig.written()
    rig.hear(rig.peer.head(1))
    size = CONNECTION_WINDOW + WINDOW

    sent = 0
    while sent < size:
        assert rig.connection._streams[1].credit >= LEAST_FRAME
        assert rig.connection._credit >= LEAST_FRAME
        rig.hear(rig.peer.data(1, bytes(LEAST_FRAME)))
        sent += LEAST_FRAME
    rig.hear(rig.peer.data(1, b"", last=True))

    assert len(asked.reply.body) == size
    updates = rig.written()
    assert {frame.kind for frame in updates} == {WINDOW_UPDATE}
    # Not one per frame: half a window at a time.
    assert len(updates) < 2 * size // (WINDOW // 2)


async def test_a_reply_too_large_to_hold_is_streamed(rig: Rig) -> None:
    asked = rig.ask()
    rig.hear(rig.peer.head(1, [*OK, (b"content-length", b"100")]), rig.peer.data(1, b"x" * 60))
    assert asked.reply.stream is not None
    assert asked.reply.length == 100
    assert not rig.freed

    rig.hear(rig.peer.data(1, b"y" * 40, last=True))

    assert rig.freed == [rig.connection]
    assert await read(asked.reply) == b"x" * 60 + b"y" * 40


async def test_a_reply_of_unknown_length_is_streamed_from_its_beginning(rig: Rig) -> None:
    asked = rig.ask()
    rig.hear(
        rig.peer.head(1), rig.peer.data(1, b"x" * 60), rig.peer.data(1, b"y" * 60), rig.peer.data(1, b"", last=True)
    )

    assert asked.reply.length is None
    assert await read(asked.reply) == b"x" * 60 + b"y" * 60


async def test_a_reply_too_large_that_may_not_be_streamed_ends_its_stream(rig: Rig) -> None:
    asked = rig.ask(may_stream=False)
    rig.written()

    rig.hear(rig.peer.head(1, [*OK, (b"content-length", b"100")]))

    assert isinstance(error_of(asked), ReplyTooLarge)
    assert [(frame.kind, frame.stream) for frame in rig.written()] == [(RST_STREAM, 1)]
    assert rig.connection.state is State.SERVING


async def test_a_stalled_reader_stops_its_stream_and_nobody_else(rig: Rig) -> None:
    slow, quick = rig.ask(timeout=2), rig.ask(timeout=1000)
    rig.hear(rig.peer.head(1))
    rig.written()
    sent = 0
    while rig.connection._streams[1].credit >= LEAST_FRAME:
        rig.hear(rig.peer.data(1, bytes(LEAST_FRAME)))
        sent += LEAST_FRAME
    assert sent < STREAM_AHEAD + WINDOW
    assert all(frame.stream == 0 or sent < WINDOW * 2 for frame in rig.written())

    rig.hear(rig.peer.answer(3))
    assert quick.reply.body == b"OK"
    rig.clock.advance(SILENCE - 1)  # nor does its time pass
    assert slow.reply.stream is not None
    reader = aiter(slow.reply.stream)
    got = 0
    while got < sent:
        got += len(await anext(reader))

    assert [frame.number for frame in rig.written() if frame.stream == 1]
    rig.hear(rig.peer.data(1, b"end", last=True))
    assert [piece async for piece in reader] == [b"end"]


async def test_each_piece_of_a_stream_has_the_time_of_an_answer(rig: Rig) -> None:
    asked = rig.ask(timeout=2)
    rig.hear(rig.peer.head(1), rig.peer.data(1, bytes(100)))
    for _ in range(3):
        rig.clock.advance(1.9)
        rig.hear(rig.peer.data(1, b"x"))
    rig.written()
    rig.clock.advance(2.1)

    with pytest.raises(ResponseTimeout):
        await read(asked.reply)
    assert rig.told() == [reset(1, Code.CANCEL)]
    assert rig.connection.state is State.SERVING


@pytest.mark.parametrize("how", ["reset", "lost"])
async def test_a_stream_that_breaks_off_tells_its_reader(rig: Rig, how: str) -> None:
    asked = rig.ask()
    rig.hear(rig.peer.head(1), rig.peer.data(1, bytes(100)))
    if how == "reset":
        rig.hear(Peer.reset(1, Code.INTERNAL_ERROR))
    else:
        rig.connection.connection_lost(None)

    with pytest.raises(IncompleteReply):
        await read(asked.reply)


async def test_a_stream_that_nobody_reads_is_cancelled_alone(rig: Rig) -> None:
    asked, other = rig.ask(), rig.ask()
    rig.hear(rig.peer.head(1), rig.peer.data(1, bytes(100)))
    rig.written()
    assert asked.reply.stream is not None

    asked.reply.stream.abandon()

    assert rig.told() == [reset(1, Code.CANCEL)]
    assert len(rig.freed) == 1
    rig.hear(rig.peer.data(1, bytes(100), last=True), rig.peer.answer(3))
    assert other.reply.body == b"OK"


@pytest.mark.parametrize("last", [False, True])
async def test_a_stream_given_up_in_the_step_in_which_it_is_handed_over_is_cancelled(last: bool) -> None:
    rig = Rig()

    def abandon() -> None:
        assert asked.reply.stream is not None
        asked.reply.stream.abandon()

    asked = Request(on_end=abandon).send_on(rig.connection)
    rig.written()

    rig.hear(rig.peer.head(1) + rig.peer.data(1, bytes(100), last=last))

    assert rig.told() == [reset(1, Code.CANCEL)]
    assert len(rig.freed) == 1


# --- hung up? ---


async def test_u10_whether_the_peer_has_closed_is_asked_after_a_rest_only(rig: Rig) -> None:
    socket = FakeSocket()
    rig.transport._socket = socket
    now = rig.clock.now
    assert not rig.connection.hung_up(now)

    assert not rig.connection.hung_up(now + 1)
    socket.say()  # a PING, say
    assert not rig.connection.hung_up(now + 1)
    rig.transport.abort()
    assert rig.connection.hung_up(now)
    socket.close()


def test_a_closed_connection_waits_for_no_collector_of_cycles() -> None:
    rig = Rig()
    rig.ask()
    rig.connection.close(Closing.IDLE)
    rig.lost.clear()
    left = weakref.ref(rig.connection)
    gc.disable()
    try:
        del rig.connection
        assert left() is None
    finally:
        gc.enable()
