"""The HTTP/2 connection under random use, against the h2 library as the server: that one raises where we break a rule.

Bytes travel when a rule says so, in pieces of any size: every order of what the two sides do is possible.
"""

from collections.abc import Callable
from typing import Any

import h2.config
import h2.connection
import h2.events
import h2.exceptions
import h2.settings
from h2.errors import ErrorCodes
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from proxy.errors import ProxyError, ResponseTimeout
from proxy.fields import reply_table
from proxy.messages import Reply, Sent
from proxy.wire import connection
from proxy.wire.buffers import Buffers
from proxy.wire.connection import Closing
from proxy.wire.h2fields import ReplyHeads, RequestBlocks
from proxy.wire.http2 import SILENCE, Connection, State
from tests.upstream_fakes import Asked, FakeClock, FakeTransport

PICK = st.integers(0, 1_000_000)
LIMIT = 2000  # bytes of a reply that is held
TIMEOUT = 8.0
KINDS = ["interim", "head", "data", "data", "end", "end", "trailers", "reset", "refuse"]


class Call(Asked):
    """An exchange, and what became of it at the server."""

    def __init__(self, body: bytes, peer_is_silent: Callable[[], bool]) -> None:
        super().__init__(b"PUT", body, timeout=TIMEOUT)
        self._peer_is_silent = peer_is_silent
        self.stream = 0
        self.received = b""  # by the server, of the request
        self.headed = False
        self.said = b""  # by the server, of the answer
        self.ended = False
        self.taken = True  # False: the server said that it was not
        self.broken = False  # the server broke it off

    def answered(self, reply: Reply) -> None:
        super().answered(reply)
        assert self.headed
        if reply.stream is None:
            assert self.ended
            assert reply.body == self.said
            assert len(reply.body) <= LIMIT

    def failed(self, error: ProxyError) -> None:
        super().failed(error)
        if error.sent is Sent.NO:
            assert not self.taken, "the server may have processed it"
        elif not isinstance(error, ResponseTimeout):
            assert self.broken or self._peer_is_silent()


class Http2Machine(RuleBasedStateMachine):
    @initialize(streams=st.sampled_from([1, 3, 8, 8]), window=st.sampled_from([10, 65535, 65535, 1 << 20]))
    def begin(self, streams: int, window: int) -> None:
        self.clock = FakeClock()
        self.transport = FakeTransport()
        self.lost = 0
        self.freed = 0
        self.calls: list[Call] = []
        self.connection = Connection(
            self.clock.wheel(),
            reply_limit=LIMIT,
            buffers=Buffers(1 << 30),
            blocks=RequestBlocks(b"https"),
            heads=ReplyHeads(reply_table(allow_browsers=False)),
            freed=self.was_freed,
            changed=lambda _: None,
            lost=self.was_lost,
        )
        self.server = h2.connection.H2Connection(
            h2.config.H2Configuration(client_side=False, header_encoding=None, validate_outbound_headers=False)
        )
        self.server.local_settings = h2.settings.Settings(
            client=False,
            initial_values={
                h2.settings.SettingCodes.MAX_CONCURRENT_STREAMS: streams,
                h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: window,
            },
        )
        self.server.initiate_connection()
        self.on_the_way = b""
        self.unacknowledged = 1  # settings of the server
        self.gone = False  # the client has said goodbye, after which the library does nothing more
        self.connection.connection_made(self.transport)
        self.travel()

    def was_freed(self, _: connection.Connection) -> None:
        self.freed += 1

    def was_lost(self, _: connection.Connection) -> None:
        self.lost += 1

    def is_silent(self) -> bool:
        return self.clock.now - self.connection._heard >= SILENCE

    # --- the two directions ---

    @rule(size=st.sampled_from([5, 300, 5000, 1 << 20]))
    def to_client(self, size: int) -> None:
        self.on_the_way += self.server.data_to_send()
        piece, self.on_the_way = self.on_the_way[:size], self.on_the_way[size:]
        if piece and self.connection.state is not State.CLOSED:
            self.connection.data_received(piece)

    @rule()
    def to_server(self) -> None:
        written, self.transport.written = self.transport.written, b""
        if not written:
            return
        for event in self.server.receive_data(written):
            self.happened(event)

    def happened(self, event: Any) -> None:
        if isinstance(event, h2.events.RequestReceived):
            call = self.calls[event.stream_id // 2]
            assert dict(event.headers)[b":path"] == b"/%d" % (event.stream_id // 2)
        elif isinstance(event, h2.events.DataReceived):
            self.calls[event.stream_id // 2].received += event.data
            self.server.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, h2.events.StreamEnded):
            call = self.calls[event.stream_id // 2]
            assert call.received == call.body
        elif isinstance(event, h2.events.SettingsAcknowledged):
            self.unacknowledged -= 1
        elif isinstance(event, h2.events.ConnectionTerminated):
            self.gone = True

    def travel(self) -> None:
        """Let everything arrive."""
        for _ in range(20):
            self.to_client(1 << 24)
            self.to_server()

    # --- the client ---

    @precondition(lambda self: self.can_ask)
    @rule(size=st.sampled_from([0, 0, 2, 1500, 70_000]))
    def ask(self, size: int) -> None:
        number = len(self.calls)
        call = Call(bytes([number % 251]) * size, self.is_silent)
        self.calls.append(call)
        call.stream = 2 * number + 1
        head = b"PUT /%d HTTP/1.1\r\nHost: h\r\nX-Number: %d\r\n\r\n" % (number, number)
        self.connection.send(call, head, call.body, timeout=TIMEOUT)

    @property
    def can_ask(self) -> bool:
        return self.connection.state is State.SERVING and len(self.connection._streams) < self.connection.slots

    @rule(seconds=st.sampled_from([0.1, 1.0, 4.0]))
    def pass_time(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @rule(choked=st.booleans())
    def choke(self, choked: bool) -> None:
        if self.connection.state is not State.CLOSED:
            (self.connection.pause_writing if choked else self.connection.resume_writing)()

    @precondition(lambda self: self.streamed)
    @rule(pick=PICK)
    def abandon(self, pick: int) -> None:
        streamed = self.streamed
        call = streamed[pick % len(streamed)]
        assert call.reply.stream is not None
        call.reply.stream.abandon()

    @property
    def streamed(self) -> list[Call]:
        return [call for call in self.calls if call.done and call._reply and call._reply.stream is not None]

    @rule(reason=st.sampled_from([Closing.AGE, Closing.SWITCH]))
    def retire(self, reason: Closing) -> None:
        if len(self.calls) > 8 and self.connection.state is State.SERVING:
            self.connection.retire(reason)

    # --- the server ---

    @property
    def open_here(self) -> list[Call]:
        """What the server can still answer."""
        return [
            call
            for call in self.calls
            if not self.gone
            and call.stream in self.server.streams
            and not call.ended
            and not call.broken
            and call.taken
            and self.server.streams[call.stream].open
        ]

    @precondition(lambda self: self.open_here)
    @rule(pick=PICK, kind=st.sampled_from(KINDS), size=st.integers(0, 1500))
    def answer(self, pick: int, kind: str, size: int) -> None:
        open_here = self.open_here
        call = open_here[pick % len(open_here)]
        server, stream = self.server, call.stream
        if kind == "refuse" and not call.headed:
            call.taken = False
            server.reset_stream(stream, ErrorCodes.REFUSED_STREAM)
        elif kind == "reset":
            call.broken = True
            server.reset_stream(stream, ErrorCodes.INTERNAL_ERROR)
        elif kind == "interim":
            if not call.headed:
                server.send_headers(stream, [(b":status", b"103"), (b"x-stream", b"%d" % stream)])
        else:
            if not call.headed:
                call.headed = True
                # In the tables of both sides from here on, whatever becomes of this stream.
                server.send_headers(stream, [(b":status", b"200"), (b"x-stream", b"%d" % stream)])
            self.go_on(call, kind, size)

    def go_on(self, call: Call, kind: str, size: int) -> None:
        server, stream = self.server, call.stream
        if kind == "data":
            room = min(size, server.local_flow_control_window(stream), server.max_outbound_frame_size)
            piece = bytes([stream % 251]) * room
            call.said += piece
            server.send_data(stream, piece)
        elif kind == "end":
            call.ended = True
            server.end_stream(stream)
        elif kind == "trailers":
            call.ended = True
            server.send_headers(stream, [(b"x-sum", b"1")], end_stream=True)

    # One at a time: the library takes a client's first acknowledgement for that of all.
    @precondition(lambda self: not self.unacknowledged and not self.gone)
    @rule(streams=st.sampled_from([0, 2, 8]), window=st.sampled_from([0, 5, 65535, 1 << 18]))
    def change_settings(self, streams: int, window: int) -> None:
        self.unacknowledged += 1
        self.server.update_settings(
            {
                h2.settings.SettingCodes.MAX_CONCURRENT_STREAMS: streams,
                h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: window,
            }
        )

    @precondition(lambda self: not self.gone)
    @rule()
    def ping(self) -> None:
        self.server.ping(b"12345678")

    # --- what must hold ---

    @invariant()
    def slots_are_given_back_once_for_each_end(self) -> None:
        if self.lost:
            assert self.lost == 1
            assert not self.connection._streams
            assert all(call.done for call in self.calls)
        else:
            assert self.freed == len(self.calls) - len(self.connection._streams)

    @invariant()
    def no_window_is_overdrawn(self) -> None:
        assert self.connection._window >= 0
        assert self.connection._credit >= 0

    @invariant()
    def whoever_is_not_done_is_on_the_connection(self) -> None:
        waiting = {call.stream for call in self.calls if not call.done}
        assert waiting <= set(self.connection._streams)

    @invariant()
    def the_connection_is_well(self) -> None:
        """The server is a right one: nothing it does is a violation."""
        assert self.connection.closing in (None, Closing.AGE, Closing.SWITCH, Closing.ERROR)
        assert self.connection.closing is not Closing.ERROR or self.is_silent()

    def teardown(self) -> None:
        if not hasattr(self, "connection"):
            return
        self.choke(False)
        self.travel()
        if not self.gone and not self.unacknowledged:
            self.change_settings(100, 1 << 20)
        for _ in range(3):
            self.travel()
            for call in self.open_here:
                if not call.headed:
                    self.server.send_headers(call.stream, [(b":status", b"200")])
                    call.headed = True
                call.ended = True
                self.server.end_stream(call.stream)
        assert all(call.done for call in self.calls)
        assert not self.connection._streams


Http2Machine.TestCase.settings = settings(
    max_examples=150,
    stateful_step_count=60,
    deadline=None,
    derandomize=True,
    report_multiple_bugs=False,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
TestHttp2 = Http2Machine.TestCase
