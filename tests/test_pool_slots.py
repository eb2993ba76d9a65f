"""The pool with connections that carry many exchanges: how few it needs, and who gets which slot."""

import asyncio
from dataclasses import replace

import pytest

from proxy.errors import ConnectionLost, ConnectionRefused
from proxy.fields import reply_table
from proxy.wire.connection import HTTP2, Closing
from proxy.wire.http2 import MOST_STREAMS, Connection, State
from proxy.wire.pool import AGE_SPREAD, Census, Pool, PoolLimits
from tests.h2_peer import Peer
from tests.upstream_fakes import Asked, FakeClock, FakeDialer, FakeWaiter, turns

pytestmark = pytest.mark.usefixtures("silence")

LIMITS = PoolLimits(warm=0, max=3, idle_timeout=50.0, max_age=300.0, reply=1024)
HEAD = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"


class Rig:
    """A pool whose peers speak HTTP/2 and take so many streams at a time."""

    def __init__(self, limits: PoolLimits = LIMITS, *, slots: int = 2) -> None:
        self.clock = FakeClock()
        self.dialer = FakeDialer(HTTP2)
        self.dialer.expected = HTTP2
        self.served: list[int] = []
        self.settings = Peer.settings(max_concurrent_streams=slots)
        self.peers: dict[Connection, Peer] = {}
        table = reply_table(allow_browsers=False)
        self.pool = Pool(self.dialer, self.clock.wheel(), limits, table=table, ended=self.served.append)  # type: ignore[arg-type]

    async def open(self) -> None:
        """Let every opening that has begun succeed."""
        await turns()
        while pending := self.dialer.pending:
            for dial in pending:
                dial.succeed()
                dial.connection.data_received(self.settings + Peer.acknowledged())
                self.peers[dial.connection] = Peer()
            await turns()

    def call(self) -> "Calling":
        """Ask for a connection as a call does it: now, or in the queue."""
        calling = Calling()
        connection = self.pool.take()
        if connection is None:
            self.pool.wait(calling)
        else:
            calling.granted(connection, None)
        return calling

    async def calls(self, count: int) -> list["Calling"]:
        """So many calls at once, all under way."""
        calls = [self.call() for _ in range(count)]
        await self.open()
        return calls

    def answer(self, call: "Calling") -> None:
        """Let the peer answer."""
        connection = call.on
        stream = next(number for number, stream in connection._streams.items() if stream.exchange is call.asked)
        connection.data_received(self.peers[connection].answer(stream))


class Calling(FakeWaiter):
    """One call: it waits for a slot and uses it at once."""

    def __init__(self) -> None:
        super().__init__(self.begin)
        self.asked = Asked()

    def begin(self, connection: Connection) -> None:
        connection.send(self.asked, HEAD, b"", timeout=10.0)

    @property
    def on(self) -> Connection:
        assert isinstance(self.given, Connection)
        return self.given


def served(*calls: Calling) -> list[bool]:
    """Tell which have a slot."""
    return [call.done for call in calls]


async def test_calls_share_a_connection_as_far_as_its_slots_go() -> None:
    rig = Rig(slots=5)
    first = await rig.calls(1)

    more = [rig.call() for _ in range(4)]

    assert {call.on for call in [*first, *more]} == {first[0].on}
    assert rig.pool.take() is None
    assert (rig.pool.active, rig.pool.idle, rig.pool.opening) == (1, 0, 0)
    assert rig.pool.census() == [Census("http/1.1", 0, 0, 0, 0), Census("h2", 0, 1, 0, 0)]


async def test_a_burst_opens_as_few_as_it_needs() -> None:
    rig = Rig(slots=MOST_STREAMS)
    for _ in range(MOST_STREAMS + 1):
        rig.call()
    await turns()

    assert rig.pool.opening == 2
    await rig.open()
    assert repr(rig.pool) == "<Pool idle=0 active=2 opening=0 waiting=0>"


async def test_what_a_peer_takes_is_learnt_from_it_and_never_more_than_the_maximum_opened() -> None:
    rig = Rig(slots=2)
    calls = await rig.calls(1)
    calls += [rig.call() for _ in range(20)]
    await turns()

    assert rig.pool.opening == 2  # and one is there
    await rig.open()
    assert repr(rig.pool) == "<Pool idle=0 active=3 opening=0 waiting=15>"
    # Slots go to who waits longest.
    assert [call.done for call in calls] == [True] * 6 + [False] * 15


async def test_a_freed_slot_goes_to_who_waits_longest_and_a_newcomer_queues() -> None:
    rig = Rig(replace(LIMITS, max=1), slots=2)
    one, two, three, four = await rig.calls(4)

    rig.answer(two)

    assert served(three, four) == [True, False]
    five = rig.call()
    rig.answer(one)
    assert served(four, five) == [True, False]


async def test_a_connection_in_use_is_taken_before_an_idle_one() -> None:
    rig = Rig(slots=2)
    one, two, three = await rig.calls(3)
    assert one.on is two.on is not three.on
    rig.answer(three)
    rig.answer(two)
    assert (rig.pool.active, rig.pool.idle) == (1, 1)

    assert rig.call().on is one.on


async def test_fewer_streams_are_heeded_and_more_serve_who_waits() -> None:
    rig = Rig(replace(LIMITS, max=1), slots=2)
    one, two, three, four = await rig.calls(4)
    connection = one.on

    connection.data_received(Peer.settings(max_concurrent_streams=1))
    rig.answer(one)
    assert served(three, four) == [False, False]
    rig.answer(two)
    assert served(three, four) == [True, False]
    connection.data_received(Peer.settings(max_concurrent_streams=10))

    assert served(three, four) == [True, True]
    assert [rig.pool.take() for _ in range(9)] == [connection] * 8 + [None]


async def test_a_peer_that_takes_no_stream_is_not_lent_and_not_forgotten() -> None:
    rig = Rig(replace(LIMITS, max=1), slots=0)
    (waiting,) = await rig.calls(1)
    assert not waiting.done
    assert rig.pool.take() is None
    assert (rig.pool.idle, rig.pool.opening) == (1, 0)

    (connection,) = rig.peers
    connection.data_received(Peer.settings(max_concurrent_streams=1))

    assert waiting.on is connection


async def test_after_goaway_calls_go_elsewhere_and_the_connection_ends_with_its_last() -> None:
    rig = Rig(slots=5)
    (first,) = await rig.calls(1)
    first.on.data_received(Peer.goaway(1))

    (second,) = await rig.calls(1)

    assert second.on is not first.on
    assert repr(first.on) == "<http2.Connection LEAVING streams=1/0 served=1>"
    rig.answer(first)
    assert repr(first.on) == "<http2.Connection CLOSED streams=0/0 served=1>"
    assert rig.pool.closed == {Closing.GOAWAY: 1}
    assert rig.served == [1]


async def test_connections_that_leave_count_for_the_maximum() -> None:
    rig = Rig(replace(LIMITS, max=2), slots=5)
    for _ in range(2):
        (call,) = await rig.calls(1)
        call.on.data_received(Peer.goaway(1))
    (waiting,) = await rig.calls(1)
    assert len(rig.dialer.dials) == 2
    assert served(waiting) == [False]

    rig.answer(call)
    await rig.open()

    assert len(rig.dialer.dials) == 3
    assert served(waiting) == [True]


async def test_a_failed_opening_fails_as_many_as_the_others_have_no_slots_for() -> None:
    rig = Rig()
    rig.dialer.expected = HTTP2
    calls = [rig.call() for _ in range(MOST_STREAMS + 50)]
    await turns()
    assert rig.pool.opening == 2

    rig.dialer.dials[0].fail(ConnectionRefused("no"))
    await turns()

    assert [call.done for call in calls] == [True] * 50 + [False] * MOST_STREAMS
    assert rig.pool.opening == 1
    rig.pool.abort()
    await turns()


async def test_an_aged_connection_begins_nothing_and_finishes_what_it_has() -> None:
    rig = Rig(slots=5)
    old, other = await rig.calls(2)
    rig.clock.advance(9)
    rig.answer(other)
    old.on.renew_at = rig.clock.now

    (new,) = await rig.calls(1)

    assert new.on is not old.on
    assert not old.asked.done
    rig.answer(old)
    assert old.asked.reply.body == b"OK"
    assert rig.pool.closed == {Closing.AGE: 1}


async def test_an_idle_connection_is_given_up_in_time() -> None:
    rig = Rig(slots=5)
    calls = await rig.calls(2)
    for call in calls:
        rig.answer(call)
    assert rig.pool.idle == 1

    rig.clock.advance(49)
    assert rig.pool.idle == 1
    rig.clock.advance(2)

    assert rig.pool.idle == 0
    assert rig.pool.closed == {Closing.IDLE: 1}


async def test_one_that_is_never_idle_is_renewed_all_the_same() -> None:
    rig = Rig(slots=5)
    (call,) = await rig.calls(1)
    connection = call.on
    for _ in range(int(300 * (1 + AGE_SPREAD))):
        rig.clock.advance(1)
        more = rig.call()
        if not more.done:
            break
        rig.answer(call)
        call = more

    assert connection.state is State.LEAVING
    rig.answer(call)
    assert rig.pool.closed == {Closing.AGE: 1}
    rig.pool.abort()


async def test_a_slot_that_is_not_used_is_passed_on() -> None:
    rig = Rig(replace(LIMITS, max=1), slots=1)
    (call,) = await rig.calls(1)
    rig.answer(call)
    connection = rig.pool.take()
    assert connection is call.on
    waiting = rig.call()

    rig.pool.release(connection)
    await turns()

    assert waiting.on is connection


async def test_draining_lets_every_stream_finish() -> None:
    rig = Rig(slots=5)
    calls = await rig.calls(3)
    closing = asyncio.ensure_future(rig.pool.close())
    await turns()

    for call in calls:
        assert not closing.done()
        rig.answer(call)
        await turns()

    assert closing.done()
    assert rig.pool.closed == {Closing.SWITCH: 1}
    assert rig.served == [3]


async def test_what_drains_lends_no_further_slot_of_a_connection_in_use() -> None:
    """A call that must stay with its upstream may ask for one later."""
    rig = Rig(slots=5)
    call = (await rig.calls(1))[0]
    rig.pool.leave()

    assert rig.pool.take() is None
    assert isinstance(rig.call().error, ConnectionLost)
    rig.answer(call)
    assert rig.pool.closed == {Closing.SWITCH: 1}


async def test_giving_up_ends_every_stream() -> None:
    rig = Rig(slots=2)
    calls = await rig.calls(3)

    rig.pool.abort()

    assert all(call.asked.done for call in calls)
    assert rig.pool.closed == {Closing.ERROR: 2}
    assert repr(rig.pool) == "<Pool idle=0 active=0 opening=0 waiting=0>"


async def test_a_lost_connection_is_gone_before_its_calls_begin_again() -> None:
    rig = Rig(slots=5)
    (call,) = await rig.calls(1)
    seen: list[object] = []
    second = Asked(on_end=lambda: seen.append(rig.pool.take()))
    connection = rig.pool.take()
    assert connection is call.on
    connection.send(second, HEAD, b"", timeout=10.0)

    connection.connection_lost(None)

    assert seen == [None]
