"""The pool, with a fake dialer and a fake clock: who gets which connection, and how many there are."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace

import pytest

from proxy.errors import ConnectionLost, ConnectionRefused, InternalError, ProxyError
from proxy.fields import reply_table
from proxy.messages import Sent
from proxy.wire import connection as connections
from proxy.wire.connection import Closing
from proxy.wire.http1 import Connection, State
from proxy.wire.pool import AGE_SPREAD, AHEAD, BOLDNESS, CAUTION, HERD, REOPEN_FIRST, REOPEN_LONGEST, Pool, PoolLimits
from tests.upstream_fakes import Asked, FakeClock, FakeDialer, FakeTransport, FakeWaiter, Silence, turns

LIMITS = PoolLimits(warm=0, max=3, idle_timeout=50.0, max_age=300.0, reply=1024)
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nOK"


RIGS: list["Rig"] = []  # of the running test


class Rig:
    """A pool whose connections open and end as the test says."""

    def __init__(self, limits: PoolLimits = LIMITS) -> None:
        self.clock = FakeClock()
        self.dialer = FakeDialer()
        self.served: list[int] = []
        table = reply_table(allow_browsers=False)
        self.pool = Pool(self.dialer, self.clock.wheel(), limits, table=table, ended=self.served.append)  # type: ignore[arg-type]
        self.waits: list[FakeWaiter] = []
        self.withdrawn: list[FakeWaiter] = []
        RIGS.append(self)

    async def wait(self, use: Callable[[Connection], object] = lambda _: None) -> FakeWaiter:
        """Queue for a connection; give an opening the time to begin."""
        waiter = FakeWaiter(use)
        self.waits.append(waiter)
        self.pool.wait(waiter)
        await turns()
        return waiter

    def withdraw(self, waiter: FakeWaiter) -> None:
        self.withdrawn.append(waiter)
        self.pool.withdraw(waiter)

    async def open(self, count: int = 1) -> list[Connection]:
        """Get so many connections, all new and active."""
        waiters = [await self.wait() for _ in range(count)]
        while self.dialer.pending:
            for dial in self.dialer.pending:
                dial.succeed()
            await turns()
        return [waiter.connection for waiter in waiters]

    def serve(self, connection: connections.Connection, said: bytes = OK) -> None:
        """One exchange from begin to end."""
        Asked().send_on(connection)
        connection.data_received(said)

    async def idle(self, count: int) -> list[Connection]:
        """Get so many connections, all idle."""
        connections = await self.open(count)
        for connection in connections:
            self.serve(connection)
        return connections


@pytest.fixture
def rig() -> Rig:
    return Rig()


@pytest.fixture(autouse=True)
async def silence() -> AsyncIterator[None]:
    async with Silence.kept():
        yield
        for rig in RIGS:
            rig.pool.abort()
            await turns()
            assert all(waiter.done for waiter in rig.waits if waiter not in rig.withdrawn)
        RIGS.clear()


def transport(connection: Connection) -> FakeTransport:
    assert isinstance(connection._transport, FakeTransport)
    return connection._transport


# --- handing out ---


async def test_without_connections_there_is_nothing_to_take_and_waiting_opens_one(rig: Rig) -> None:
    assert rig.pool.take() is None

    waiting = await rig.wait()
    assert repr(rig.pool) == "<Pool idle=0 active=0 opening=1 waiting=1>"
    rig.dialer.dials[0].succeed()
    await turns()

    assert repr(rig.pool) == "<Pool idle=0 active=1 opening=0 waiting=0>"
    assert waiting.connection.state is State.IDLE
    assert waiting.opened is not None
    assert (waiting.opened.connect, waiting.opened.tls) == (0.25, 0.5)
    assert rig.pool.opened == 1


async def test_the_most_recently_used_is_taken_first(rig: Rig) -> None:
    first, second, third = await rig.open(3)
    for connection in (second, third, first):
        rig.serve(connection)

    assert [rig.pool.take() for _ in range(4)] == [first, third, second, None]


async def test_never_more_than_the_maximum_are_opened(rig: Rig) -> None:
    for _ in range(10):
        await rig.wait()

    assert rig.pool.opening == 3


async def test_a_freed_connection_goes_to_who_waits_longest_and_a_newcomer_queues(rig: Rig) -> None:
    (connection, *_) = await rig.open(3)
    first, second = await rig.wait(), await rig.wait()

    rig.serve(connection)
    assert first.connection is connection  # in the very step in which it was freed
    assert first.opened is None
    assert rig.pool.take() is None
    third = await rig.wait()

    for expected in (second, third):
        assert not expected.done
        rig.serve(connection)
        assert expected.connection is connection


async def test_a_connection_opened_for_one_serves_who_waits_longest(rig: Rig) -> None:
    first, second = await rig.wait(), await rig.wait()

    rig.dialer.dials[1].succeed()
    await turns()

    assert first.done
    assert not second.done


async def test_an_opening_that_nobody_needs_any_more_is_kept_idle(rig: Rig) -> None:
    (connection,) = await rig.open(1)
    waiting = await rig.wait()
    rig.serve(connection)
    assert waiting.connection is connection

    rig.dialer.dials[1].succeed()
    await turns()

    assert (rig.pool.active, rig.pool.idle) == (1, 1)


async def test_one_that_withdraws_waits_no_more(rig: Rig) -> None:
    waiting = await rig.wait()

    rig.withdraw(waiting)
    rig.withdraw(waiting)
    assert "waiting=0" in repr(rig.pool)
    rig.dialer.dials[0].succeed()
    await turns()

    assert not waiting.done
    assert rig.pool.idle == 1


async def test_one_that_was_granted_has_nothing_to_withdraw(rig: Rig) -> None:
    connections = await rig.open(3)
    first, second = await rig.wait(), await rig.wait()

    rig.serve(connections[0])
    rig.pool.withdraw(first)

    assert first.connection is connections[0]
    assert not second.done
    assert (rig.pool.active, rig.pool.idle) == (3, 0)


async def test_a_connection_is_used_in_the_step_in_which_it_is_granted(rig: Rig) -> None:
    connections = await rig.open(3)
    asked = Asked()
    waiting = await rig.wait(asked.send_on)

    rig.serve(connections[0])

    assert waiting.connection is connections[0]
    assert connections[0].state is State.ACTIVE
    assert not asked.done
    connections[0].data_received(OK)
    assert asked.reply.body == b"OK"
    assert rig.pool.idle == 1


async def test_a_new_connection_is_used_in_the_step_in_which_it_is_granted(rig: Rig) -> None:
    asked = Asked()
    waiting = await rig.wait(asked.send_on)
    rig.dialer.dials[0].succeed()
    await turns()

    assert waiting.connection.state is State.ACTIVE
    assert not asked.timeline.reused
    waiting.connection.data_received(OK)
    assert asked.reply.body == b"OK"


async def test_a_connection_lost_after_it_was_granted_is_forgotten(rig: Rig) -> None:
    connections = await rig.open(3)
    waiting = await rig.wait()

    rig.serve(connections[0])
    connections[0].data_received(b"HTTP/1.1 408 Request Timeout\r\n\r\n")

    assert waiting.connection.state is State.CLOSED
    assert (rig.pool.idle, rig.pool.active) == (0, 2)


async def test_one_that_withdraws_keeps_the_order_of_the_others(rig: Rig) -> None:
    connections = await rig.open(3)
    first, second, third = await rig.wait(), await rig.wait(), await rig.wait()
    rig.withdraw(second)

    for connection in connections[:2]:
        rig.serve(connection)

    assert first.connection is connections[0]
    assert third.connection is connections[1]
    assert not second.done


async def test_a_connection_that_was_granted_and_not_used_is_passed_on(rig: Rig) -> None:
    connections = await rig.open(3)
    await rig.wait(rig.pool.release)
    second = await rig.wait()

    rig.serve(connections[0])
    await turns()

    assert second.connection is connections[0]
    assert connections[0].state is State.IDLE


async def test_a_connection_that_nobody_of_many_uses_ends_up_idle() -> None:
    rig = Rig(replace(LIMITS, max=1))
    (connection,) = await rig.open(1)
    waiting = [await rig.wait(rig.pool.release) for _ in range(300)]

    rig.serve(connection)
    await turns(400)

    assert all(waiter.connection is connection for waiter in waiting)
    assert rig.pool.take() is connection


@pytest.mark.parametrize("end", ["lost", "aborted", "draining"])
async def test_a_connection_that_ends_between_its_release_and_the_next_turn_stays_ended(rig: Rig, end: str) -> None:
    (connection,) = await rig.idle(1)
    assert rig.pool.take() is connection
    rig.pool.release(connection)
    if end == "lost":
        connection.eof_received()
    elif end == "aborted":
        rig.pool.abort()
    else:
        await rig.pool.close()
    await turns()

    assert connection.state is State.CLOSED
    assert repr(rig.pool) == "<Pool idle=0 active=0 opening=0 waiting=0>"


async def test_a_connection_taken_and_not_used_goes_to_who_waits(rig: Rig) -> None:
    (connection, *_) = await rig.idle(3)
    taken = [rig.pool.take() for _ in range(3)]
    assert connection in taken
    waiting = await rig.wait()

    rig.pool.release(connection)
    await turns()

    assert waiting.connection is connection


async def test_a_failed_opening_fails_exactly_one_and_the_others_get_another(rig: Rig) -> None:
    first, second, third = await rig.wait(), await rig.wait(), await rig.wait()
    failure = ConnectionRefused("no")

    rig.dialer.dials[1].fail(failure)
    await turns()

    assert first.error is failure
    assert not second.done
    assert not third.done
    for dial in rig.dialer.pending:
        dial.succeed()
    await turns()
    assert second.connection is not third.connection


async def test_a_failed_opening_leaves_room_for_who_waits_without_one() -> None:
    rig = Rig(replace(LIMITS, max=1))
    first, second = await rig.wait(), await rig.wait()
    rig.dialer.dials[0].fail(ConnectionRefused("no"))
    await turns()
    assert isinstance(first.error, ConnectionRefused)

    assert len(rig.dialer.dials) == 2
    rig.dialer.dials[1].succeed()
    await turns()
    assert second.connection.state is State.IDLE


class Stubborn(FakeWaiter):
    """Waits again in the very step in which it is refused, so often."""

    def __init__(self, pool: Pool, again: int) -> None:
        super().__init__()
        self._pool = pool
        self.again = again

    def refused(self, error: ProxyError) -> None:
        if self.again:
            self.again -= 1
            self._pool.wait(self)
        else:
            super().refused(error)


async def test_many_who_wait_again_as_soon_as_they_are_refused_are_each_served_or_refused_in_the_end(rig: Rig) -> None:
    waiting = [Stubborn(rig.pool, again=2) for _ in range(200)]
    for waiter in waiting:
        rig.pool.wait(waiter)
    for _ in range(400):
        await turns()
        for dial in rig.dialer.pending:
            dial.fail(ConnectionRefused("no"))
        if all(waiter.done for waiter in waiting):
            break

    assert all(isinstance(waiter.error, ConnectionRefused) for waiter in waiting)
    assert len(rig.dialer.dials) >= 600
    assert rig.pool.opening <= LIMITS.max


async def test_who_waits_again_queues_behind_the_others(rig: Rig) -> None:
    first = Stubborn(rig.pool, again=1)
    rig.pool.wait(first)
    second = await rig.wait()

    rig.dialer.dials[0].fail(ConnectionRefused("no"))
    await turns()
    rig.dialer.pending[0].succeed()
    await turns()

    assert second.done
    assert not first.done
    rig.dialer.pending[0].succeed()
    await turns()
    assert first.connection is not second.connection


async def test_an_opening_that_crashes_is_a_defect_of_ours_and_nothing_was_sent(
    rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    waiting = await rig.wait()
    rig.dialer.dials[0].fail(RuntimeError("a secret detail"))
    await turns()

    assert isinstance(waiting.error, InternalError)
    assert waiting.error.sent is Sent.NO
    assert "a secret detail" in caplog.text


async def test_an_opening_that_fails_for_nobody_is_silent(rig: Rig) -> None:
    waiting = await rig.wait()
    rig.withdraw(waiting)

    rig.dialer.dials[0].fail(ConnectionRefused("no"))
    await turns()

    assert repr(rig.pool) == "<Pool idle=0 active=0 opening=0 waiting=0>"


async def test_why_none_could_be_opened_is_known_until_one_is(rig: Rig) -> None:
    known = [rig.pool.trouble]

    await rig.wait()
    rig.dialer.dials[0].fail(ConnectionRefused("no address took it"))
    await turns()
    known.append(rig.pool.trouble)
    await rig.open(1)
    known.append(rig.pool.trouble)

    assert known == [None, "Talon.One could not be reached: no address took it", None]


async def test_a_connection_that_ends_as_soon_as_it_is_open_counts_as_not_opened(rig: Rig) -> None:
    waiting = await rig.wait()
    dial = rig.dialer.dials[0]
    dial.succeed()
    dial.connection.eof_received()
    await turns()

    assert isinstance(waiting.error, ConnectionLost)
    assert waiting.error.sent is Sent.NO
    assert rig.pool.opened == 0


async def test_a_lost_connection_makes_room_for_who_waits(rig: Rig) -> None:
    connections = await rig.open(3)
    waiting = await rig.wait()
    assert rig.pool.opening == 0

    connections[1].connection_lost(ConnectionResetError())
    await turns()

    assert rig.pool.opening == 1
    rig.dialer.pending[0].succeed()
    await turns()
    assert waiting.connection.state is State.IDLE


# --- before use ---


async def test_a_connection_whose_peer_hung_up_is_not_handed_out(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    good, bad = await rig.idle(2)
    monkeypatch.setattr(Connection, "hung_up", lambda connection, now: connection is bad)

    assert rig.pool.take() is good
    assert bad.state is State.CLOSED
    assert rig.pool.closed == {Closing.PEER: 1}


async def test_a_connection_past_its_idle_limit_is_not_handed_out_even_if_no_alarm_has_rung(rig: Rig) -> None:
    (connection,) = await rig.idle(1)
    rig.clock.now += 51  # the loop was blocked, or the machine slept

    assert rig.pool.take() is None
    assert rig.pool.closed == {Closing.IDLE: 1}
    assert connection.state is State.CLOSED


async def test_a_connection_past_its_age_is_not_handed_out(rig: Rig) -> None:
    (connection,) = await rig.idle(1)
    connection.idle_since = rig.clock.now = connection.renew_at

    assert rig.pool.take() is None
    assert rig.pool.closed == {Closing.AGE: 1}


# --- keeping ---


async def test_the_warm_minimum_is_opened_at_the_start() -> None:
    rig = Rig(replace(LIMITS, warm=2))
    rig.pool.start()
    await turns()
    told = [rig.pool.warm]

    for dial in rig.dialer.pending:
        dial.succeed()
    await turns()
    told.append(rig.pool.warm)

    assert told == [False, True]
    assert rig.pool.idle == 2


async def test_warm_connections_are_never_more_than_the_maximum() -> None:
    rig = Rig(replace(LIMITS, warm=5, max=2))
    rig.pool.start()
    await turns()
    for dial in rig.dialer.pending:
        dial.succeed()
    await turns()

    assert len(rig.dialer.dials) == 2
    assert rig.pool.warm


async def test_a_lost_warm_connection_is_replaced() -> None:
    rig = Rig(replace(LIMITS, warm=1))
    rig.dialer.at_once = True
    rig.pool.start()
    await turns()

    rig.dialer.dials[0].connection.eof_received()
    rig.clock.advance(0.1)
    await turns()

    assert rig.pool.idle == 1
    assert rig.pool.opened == 2


async def test_the_warm_minimum_is_restored_with_a_growing_delay() -> None:
    rig = Rig(replace(LIMITS, warm=1))
    rig.pool.start()
    await turns()
    delay = REOPEN_FIRST

    for _ in range(8):
        count = len(rig.dialer.dials)
        rig.dialer.pending[0].fail(ConnectionRefused("no"))
        await turns()
        rig.clock.advance(delay - 0.05)
        await turns()
        assert len(rig.dialer.dials) == count
        rig.clock.advance(0.1)
        await turns()
        assert len(rig.dialer.dials) == count + 1
        delay = min(delay * 2, REOPEN_LONGEST)

    rig.dialer.pending[0].succeed()
    await turns()
    rig.dialer.dials[-1].connection.eof_received()
    rig.clock.advance(0.1)
    await turns()
    assert len(rig.dialer.pending) == 1  # at once again


async def test_nothing_wakes_up_while_a_warm_connection_is_being_opened() -> None:
    rig = Rig(replace(LIMITS, warm=2))
    rig.pool.start()
    await turns()
    rig.dialer.dials[0].succeed()
    await turns()
    rig.clock.advance(0.1)
    before = rig.clock.waking

    rig.clock.advance(2.5)  # the other one takes its time

    assert rig.clock.waking - before <= 1


async def test_a_connection_is_closed_when_it_was_idle_for_its_time(rig: Rig) -> None:
    (connection,) = await rig.idle(1)

    rig.clock.advance(49.9)
    assert connection.state is State.IDLE
    rig.clock.advance(0.2)

    assert connection.closing is Closing.IDLE
    assert transport(connection).ended == "close"
    assert rig.served == [1]


async def test_use_renews_the_idle_time(rig: Rig) -> None:
    (connection,) = await rig.idle(1)
    rig.clock.advance(40)
    assert rig.pool.take() is connection
    rig.clock.advance(40)
    rig.serve(connection)
    rig.clock.advance(40)

    assert connection.state is State.IDLE


async def test_only_the_unused_ones_of_many_age_out(rig: Rig) -> None:
    await rig.idle(3)
    for _ in range(10):
        rig.clock.advance(10)
        connection = rig.pool.take()
        assert isinstance(connection, Connection)
        rig.serve(connection)

    assert rig.pool.idle == 1


@pytest.mark.parametrize(("said", "limit"), [(5, 4.0), (2, 1.0), (1, 0.5), (0, 0.0), (100, 50.0)])
async def test_the_peers_keep_alive_shortens_the_idle_time(rig: Rig, said: int, limit: float) -> None:
    (connection,) = await rig.open(1)
    rig.serve(connection, b"HTTP/1.1 200 OK\r\nKeep-Alive: timeout=%d\r\nContent-Length: 0\r\n\r\n" % said)

    if limit:
        rig.clock.advance(limit - 0.05)
        assert connection.state is State.IDLE
    rig.clock.advance(0.1)

    assert connection.closing is Closing.IDLE


async def test_a_peer_that_closes_earlier_is_believed(rig: Rig) -> None:
    (connection,) = await rig.idle(1)
    rig.clock.advance(20)
    connection.eof_received()
    assert rig.pool.idle_limit == pytest.approx(20 * CAUTION)

    (connection,) = await rig.idle(1)
    rig.clock.advance(16.1)

    assert connection.closing is Closing.IDLE


@pytest.mark.parametrize("idle", [0.01, 0.9])
async def test_a_close_right_after_an_answer_says_nothing_about_idle_limits(rig: Rig, idle: float) -> None:
    (connection,) = await rig.idle(1)
    rig.clock.advance(idle)
    connection.eof_received()

    assert rig.pool.idle_limit == 50


async def test_a_connection_lost_in_use_says_nothing_about_idle_limits(rig: Rig) -> None:
    (connection,) = await rig.open(1)
    asked = Asked().send_on(connection)
    rig.clock.advance(5)
    connection.eof_received()

    assert isinstance(asked.error, ConnectionLost)
    assert rig.pool.idle_limit == 50


async def test_the_learned_limit_grows_back_slowly_once_for_all_that_stood_it() -> None:
    rig = Rig(replace(LIMITS, max=30))
    (connection,) = await rig.idle(1)
    rig.clock.advance(20)
    connection.eof_received()
    learned = rig.pool.idle_limit

    await rig.idle(20)
    rig.clock.advance(learned + 0.1)
    assert rig.pool.idle == 0
    assert rig.pool.idle_limit == pytest.approx(learned * BOLDNESS)

    for _ in range(40):
        await rig.idle(1)
        rig.clock.advance(rig.pool.idle_limit + 0.1)
    assert rig.pool.idle_limit == 50


async def test_a_connection_is_renewed_at_an_age_that_differs_by_a_fifth() -> None:
    rig = Rig(replace(LIMITS, max=200, idle_timeout=10_000.0))
    connections = await rig.idle(200)

    ages = sorted(connection.renew_at - rig.clock.now for connection in connections)
    assert ages[0] >= 300 * (1 - AGE_SPREAD)
    assert ages[-1] <= 300 * (1 + AGE_SPREAD)
    assert ages[-1] - ages[0] > 60

    rig.clock.advance(ages[100] + 0.1)
    assert 90 < rig.pool.closed[Closing.AGE] < 110
    rig.clock.advance(120)
    assert rig.pool.closed == {Closing.AGE: 200}


async def test_a_connection_due_before_the_one_that_was_idle_first_is_closed_at_its_own_time(rig: Rig) -> None:
    first, second = await rig.open(2)
    rig.serve(first)
    second.renew_at = rig.clock.now + 20
    rig.serve(second)

    rig.clock.advance(20.1)

    assert second.closing is Closing.AGE
    assert first.state is State.IDLE


async def test_an_idle_limit_learned_while_none_was_idle_holds_for_the_next(rig: Rig) -> None:
    first, second = await rig.open(2)
    rig.serve(first)
    rig.clock.advance(20)
    first.eof_received()
    rig.serve(second)

    rig.clock.advance(20 * CAUTION + 0.1)

    assert second.closing is Closing.IDLE


async def test_a_connection_past_its_age_ends_with_its_exchange(rig: Rig) -> None:
    (connection,) = await rig.open(1)
    asked = Asked(timeout=1000.0).send_on(connection)
    rig.clock.advance(400)
    assert connection.state is State.ACTIVE

    connection.data_received(OK)

    assert asked.reply.body == b"OK"
    assert connection.closing is Closing.AGE


# --- closing ---


async def test_draining_closes_idle_ones_and_lets_exchanges_end(rig: Rig) -> None:
    idle, active = await rig.idle(2)
    assert rig.pool.take() is active
    asked = Asked().send_on(active)

    closing = asyncio.get_running_loop().create_task(rig.pool.close(), name="closing")
    await turns()
    assert idle.closing is Closing.SWITCH
    assert not closing.done()
    active.data_received(OK)
    await closing

    assert asked.reply.body == b"OK"
    assert active.closing is Closing.SWITCH
    assert rig.pool.take() is None


async def test_draining_sends_those_who_wait_elsewhere_with_nothing_sent(rig: Rig) -> None:
    active, *_ = await rig.open(3)
    waiting = await rig.wait()

    closing = asyncio.get_running_loop().create_task(rig.pool.close(), name="closing")
    await turns()

    for waiter in (waiting, await rig.wait()):
        assert isinstance(waiter.error, ConnectionLost)
        assert waiter.error.sent is Sent.NO
    rig.pool.abort()
    await closing
    assert active.state is State.CLOSED


async def test_draining_gives_up_what_is_being_opened(rig: Rig) -> None:
    waiting = await rig.wait()

    await rig.pool.close()
    await turns()

    assert isinstance(waiting.error, ConnectionLost)
    assert rig.pool.opening == 0


async def test_draining_hands_out_no_idle_connection_while_an_opening_is_being_given_up(rig: Rig) -> None:
    (connection,) = await rig.idle(1)
    assert rig.pool.take() is connection
    waiting = await rig.wait()
    rig.withdraw(waiting)
    rig.serve(connection)
    assert (rig.pool.idle, rig.pool.opening) == (1, 1)

    closing = asyncio.get_running_loop().create_task(rig.pool.close(), name="closing")
    await asyncio.sleep(0)
    assert rig.pool.take() is None
    await closing

    assert connection.closing is Closing.SWITCH


async def test_who_withdraws_while_the_others_are_sent_elsewhere_is_told_nothing(rig: Rig) -> None:
    await rig.open(3)
    last = FakeWaiter()

    class Leaving(FakeWaiter):
        def refused(self, error: ProxyError) -> None:
            super().refused(error)
            rig.withdraw(last)

    first = Leaving()
    rig.pool.wait(first)
    rig.pool.wait(last)

    rig.pool.abort()

    assert isinstance(first.error, ConnectionLost)
    assert not last.done


async def test_an_opening_that_succeeds_as_the_pool_closes_is_closed(rig: Rig) -> None:
    waiting = await rig.wait()
    dial = rig.dialer.dials[0]
    dial.succeed()

    await rig.pool.close()
    await turns()

    assert isinstance(waiting.error, ConnectionLost)
    assert dial.connection.state is State.CLOSED


async def test_draining_an_empty_pool_ends_at_once(rig: Rig) -> None:
    await rig.pool.close()


async def test_aborting_ends_everything_now() -> None:
    rig = Rig(replace(LIMITS, warm=2))
    connections = await rig.idle(2)
    assert rig.pool.take() is connections[1]
    asked = Asked().send_on(connections[1])
    for _ in range(2):
        await rig.wait()
    assert rig.pool.opening == 1

    rig.pool.abort()
    await turns()

    assert isinstance(asked.error, ConnectionLost)
    assert all(isinstance(waiter.error, ConnectionLost) for waiter in rig.waits[2:])
    assert [transport(connection).ended for connection in connections] == ["abort", "abort"]
    assert repr(rig.pool) == "<Pool idle=0 active=0 opening=0 waiting=0>"


async def test_an_aborted_pool_does_not_restore_its_warm_connections() -> None:
    rig = Rig(replace(LIMITS, warm=2))
    rig.dialer.at_once = True
    rig.pool.start()
    await turns()

    rig.pool.abort()
    rig.clock.advance(600)
    await turns()

    assert len(rig.dialer.dials) == 2
    assert rig.pool.opening == 0


async def test_a_closed_connection_tells_how_much_it_has_served(rig: Rig) -> None:
    (connection,) = await rig.open(1)
    for _ in range(3):
        rig.serve(connection)
        assert rig.pool.take() is connection
    connection.close(Closing.ERROR)

    assert rig.served == [3]


# --- connections that are held ---


@pytest.mark.parametrize(("most", "share"), [(1, 0), (3, 0), (4, 1), (8, 2), (11, 2), (100, 25)])
async def test_a_quarter_of_the_connections_may_be_held(most: int, share: int) -> None:
    rig = Rig(replace(LIMITS, max=most))
    connections = await rig.open(min(most, share + 1))
    held = 0
    while rig.pool.may_hold():
        await hold(rig, connections[held])
        held += 1
        assert rig.pool.held == held

    assert held == share


async def hold(rig: Rig, connection: Connection) -> Asked:
    """Let the answer on this connection be overdue, and its end be waited for."""
    asked = Asked(b"PUT", timeout=0.1)
    asked.hold = 30.0
    asked.send_on(connection)
    rig.clock.advance(0.2)
    assert connection.state is State.HELD
    return asked


async def test_a_connection_that_is_held_counts_and_is_given_to_nobody() -> None:
    rig = Rig(replace(LIMITS, max=4))
    (first,) = await rig.open()
    await hold(rig, first)

    assert rig.pool.take() is None
    assert (rig.pool.idle, rig.pool.active, rig.pool.held) == (0, 1, 1)
    first.data_received(OK)
    assert repr(rig.pool) == "<Pool idle=0 active=0 opening=0 waiting=0>"
    assert rig.pool.may_hold()


async def at_rest(rig: Rig, seconds: float = 1.0) -> None:
    """Let time pass in small steps; every opening succeeds."""
    rig.dialer.at_once = True
    end = rig.clock.now + seconds
    while rig.clock.now < end:
        rig.clock.advance(min(seconds / 20, 0.5))
        await turns()


async def burst(rig: Rig, size: int) -> int:
    """So many calls at once, from begin to end; gives how many of them found no connection."""
    taken = [connection for connection in (rig.pool.take() for _ in range(size)) if connection is not None]
    waiters = [await rig.wait() for _ in range(size - len(taken))]
    rig.dialer.at_once = True
    for dial in rig.dialer.pending:
        dial.succeed()
    await turns()
    for connection in (*taken, *(waiter.connection for waiter in waiters)):
        rig.serve(connection)
    return len(waiters)


AHEAD_LIMITS = replace(LIMITS, warm=2, max=100)


async def test_those_who_wait_get_connections_opened_some_at_a_time_and_each_gets_one() -> None:
    rig = Rig(replace(LIMITS, max=100))
    waiting = [await rig.wait() for _ in range(64)]
    assert rig.pool.opening == HERD

    for count in range(1, 65):
        rig.dialer.pending[0].succeed()
        await turns()
        assert rig.pool.opening == min(HERD, 64 - count)

    assert len({waiter.connection for waiter in waiting}) == 64


async def test_those_who_wait_are_served_by_connections_that_come_free_and_no_more_are_opened_for_them() -> None:
    rig = Rig(replace(LIMITS, max=100))
    (connection,) = await rig.open(1)
    waiting = [await rig.wait() for _ in range(64)]

    while not all(waiter.done for waiter in waiting):
        rig.serve(connection)
    for dial in rig.dialer.pending:
        dial.succeed()
    await turns()

    assert len(rig.dialer.dials) == 1 + HERD


async def test_one_call_more_than_there_ever_were_finds_a_connection() -> None:
    rig = Rig(AHEAD_LIMITS)
    rig.pool.start()
    await at_rest(rig)
    held = []

    for _ in range(30):
        connection = rig.pool.take()
        assert connection is not None
        held.append(connection)
        await at_rest(rig)

    assert rig.pool.idle == 2
    assert rig.pool.opened == 32


async def test_a_burst_after_idleness_finds_the_connections_of_the_one_before() -> None:
    rig = Rig(AHEAD_LIMITS)
    rig.pool.start()
    await at_rest(rig)
    assert await burst(rig, 64) == 62

    await at_rest(rig, 100)  # twice the idle time

    assert await burst(rig, 64) == 0


async def test_the_connections_of_a_burst_that_does_not_come_again_are_let_go_by_and_by() -> None:
    rig = Rig(AHEAD_LIMITS)
    rig.pool.start()
    await at_rest(rig)
    await burst(rig, 64)

    seen = []
    for _ in range(12):
        await at_rest(rig, 60)
        seen.append(rig.pool.idle)

    assert seen == sorted(seen, reverse=True)
    assert seen[0] > 60
    assert seen[-1] == 2


async def test_connections_are_opened_ahead_a_few_at_a_time_and_never_more_than_the_maximum() -> None:
    rig = Rig(replace(LIMITS, warm=20, max=30))
    rig.pool.start(expecting=100)
    await turns()
    assert len(rig.dialer.dials) == AHEAD

    opened = 0
    while rig.dialer.pending:
        rig.dialer.pending[0].succeed()
        await turns()
        rig.clock.advance(0.05)
        await turns()
        opened += 1
        assert rig.pool.opening <= AHEAD

    assert opened == rig.pool.idle == 30


async def test_a_new_pool_is_as_warm_as_calls_will_need() -> None:
    before, after = Rig(AHEAD_LIMITS), Rig(AHEAD_LIMITS)
    before.pool.start()
    await burst(before, 12)

    after.pool.start(expecting=before.pool.expected)
    await at_rest(after)

    assert after.pool.idle == 14


async def test_a_warm_connection_is_replaced_before_it_is_idle_too_long() -> None:
    rig = Rig(AHEAD_LIMITS)
    rig.pool.start()
    await at_rest(rig)

    for _ in range(2000):
        rig.clock.advance(0.1)
        assert rig.pool.idle >= 2
        await turns()

    assert 6 <= rig.pool.opened <= 12  # three or four generations of two
    assert rig.pool.idle <= 4


@pytest.mark.parametrize("said", [0, 1, 2])
async def test_a_short_idle_time_of_the_peer_does_not_make_the_pool_open_more_and_more(said: int) -> None:
    rig = Rig(AHEAD_LIMITS)
    rig.pool.start()
    await at_rest(rig)
    connections = [rig.pool.take() for _ in range(2)]
    for connection in connections:
        assert connection is not None
        rig.serve(connection, b"HTTP/1.1 200 OK\r\nKeep-Alive: timeout=%d\r\nContent-Length: 0\r\n\r\n" % said)

    await at_rest(rig, 10)

    assert rig.pool.idle <= 6
    assert rig.pool.opened <= 8


async def test_a_short_idle_time_of_our_own_does_not_either() -> None:
    rig = Rig(replace(AHEAD_LIMITS, idle_timeout=1.0))
    rig.pool.start()

    await at_rest(rig, 10)

    assert rig.pool.idle <= 4
    assert rig.pool.opened <= 40


async def test_an_opening_ahead_that_fails_is_told_to_no_call_that_has_one_of_its_own() -> None:
    rig = Rig(replace(AHEAD_LIMITS, max=3))
    rig.pool.start()
    await turns()


async def test_its_place_is_free_for_who_waits_when_it_ends() -> None:
    rig = Rig(replace(LIMITS, max=4))
    connections = await rig.open(4)
    await hold(rig, connections[0])
    waiting = await rig.wait()
    assert rig.pool.opening == 0
    connections[0].data_received(OK)
    await turns()
    rig.dialer.dials[-1].succeed()
    await turns()

    assert waiting.connection not in connections


async def test_a_pool_that_is_given_up_gives_up_what_it_holds() -> None:
    """Shutting down waits for no end that nobody wants to know."""
    rig = Rig(replace(LIMITS, max=4))
    (connection,) = await rig.open()
    asked = await hold(rig, connection)
    rig.pool.abort()

    assert isinstance(asked.error, ConnectionLost)
    assert rig.pool.held == 0
