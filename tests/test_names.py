"""Names: when the resolver is asked, what is used meanwhile, and what becomes of it when it fails."""

import asyncio
import socket
import threading
from collections.abc import Callable, Sequence

import pytest

from proxy.errors import NameNotResolved, NameTimeout
from proxy.wire import names
from proxy.wire.names import KEPT, LONGEST_LOOKUP, MOST, RETRY, SPARED, THREADS, AddrInfo, Name, Resolver
from tests.harness import patiently, until
from tests.upstream_fakes import FakeClock, turns

HOST = "shop.talon.one"
FOREVER = 1e9  # a deadline


def info(address: str) -> AddrInfo:
    if ":" in address:
        return socket.AF_INET6, socket.SOCK_STREAM, 6, "", (address, 443, 0, 0)
    return socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 443)


class Lookups:
    """A resolver whose lookups end as the test says."""

    def __init__(self) -> None:
        self.asked = 0
        self._pending: list[asyncio.Future[Sequence[AddrInfo]]] = []

    async def __call__(self, host: str, port: int) -> Sequence[AddrInfo]:
        assert (host, port) == (HOST, 443)
        self.asked += 1
        self._pending.append(asyncio.get_running_loop().create_future())
        return await self._pending[-1]

    @property
    def running(self) -> int:
        return sum(not lookup.done() for lookup in self._pending)

    async def answer(self, *addresses: str) -> None:
        self._pending[-1].set_result([info(address) for address in addresses])
        await turns()

    async def fail(self) -> None:
        self._pending[-1].set_exception(socket.gaierror(socket.EAI_AGAIN, "temporary failure"))
        await turns()


class Rig:
    """A name, followed or not."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.lookups = Lookups()
        self.name = Name(HOST, 443, wheel=self.clock.wheel(), refresh=30.0, resolve=self.lookups)

    async def get(self) -> list[str]:
        """Give the addresses that are known, without waiting for a lookup."""
        return [entry[4][0] for entry in await self.name.addresses(self.clock.now)]

    async def asking(self, deadline: float = FOREVER) -> "asyncio.Task[Sequence[AddrInfo]]":
        task = asyncio.get_running_loop().create_task(self.name.addresses(deadline), name="asking")
        await turns()
        return task

    async def known(self, *addresses: str) -> None:
        """Follow the name, and know these."""
        self.name.start()
        await turns()
        await self.lookups.answer(*addresses)

    async def pass_by(self, seconds: float) -> None:
        self.clock.advance(seconds)
        await turns()


@pytest.fixture
def rig() -> Rig:
    return Rig()


async def test_the_first_waits_for_the_resolver_and_all_who_wait_share_one_lookup(rig: Rig) -> None:
    asking = [await rig.asking() for _ in range(5)]
    assert rig.lookups.asked == 1

    await rig.lookups.answer("192.0.2.1", "2001:db8::1")

    for task in asking:
        assert [entry[4][0] for entry in await task] == ["192.0.2.1", "2001:db8::1"]
    assert rig.lookups.asked == 1
    assert rig.name.age == 0


async def test_what_is_known_is_given_at_once_while_it_is_looked_up_again(rig: Rig) -> None:
    await rig.known("192.0.2.1")

    await rig.pass_by(30.1)

    assert rig.lookups.running == 1
    assert await rig.get() == ["192.0.2.1"]
    await rig.lookups.answer("192.0.2.2")
    assert await rig.get() == ["192.0.2.2"]


async def test_a_name_is_looked_up_again_and_again_without_being_asked(rig: Rig) -> None:
    await rig.known("192.0.2.1")

    for count in range(2, 6):
        await rig.pass_by(30.1)
        assert rig.lookups.asked == count
        await rig.lookups.answer("192.0.2.1")


async def test_a_name_that_nobody_follows_is_looked_up_again_for_the_next(rig: Rig) -> None:
    await rig.asking()
    await rig.lookups.answer("192.0.2.1")
    await rig.pass_by(31)
    assert rig.lookups.asked == 1

    assert await rig.get() == ["192.0.2.1"]
    await turns()

    assert rig.lookups.asked == 2
    rig.name.stop()


async def test_a_stopped_name_is_looked_up_no_more(rig: Rig) -> None:
    await rig.known("192.0.2.1")
    await rig.pass_by(30.1)

    rig.name.stop()
    await turns()
    await rig.pass_by(600)

    assert rig.lookups.running == 0
    assert rig.lookups.asked == 2


async def test_u2_addresses_that_change_are_told_once(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    await rig.known("192.0.2.1", "192.0.2.2")

    for addresses in (("192.0.2.2", "192.0.2.1"), ("192.0.2.3",), ("192.0.2.3",)):
        await rig.pass_by(30.1)
        await rig.lookups.answer(*addresses)

    assert [record.message for record in caplog.records] == ["the name has other addresses"]


# --- when the resolver fails ---


async def test_u2_the_last_good_addresses_are_used_for_an_hour_and_then_no_more(rig: Rig) -> None:
    await rig.known("192.0.2.1")

    await rig.pass_by(30.1)
    while rig.name.age < KEPT:
        assert await rig.get() == ["192.0.2.1"]
        await rig.lookups.fail()
        await rig.pass_by(RETRY + 0.1)
    asking = await rig.asking()
    await rig.lookups.fail()

    with pytest.raises(NameNotResolved):
        await asking


async def test_u2_a_failure_is_told_once_and_its_end_too(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    await rig.known("192.0.2.1")

    await rig.pass_by(30.1)
    await rig.lookups.fail()
    for _ in range(4):
        await rig.pass_by(RETRY + 0.1)
        await rig.lookups.fail()
    told = [rig.name.failing]
    await rig.pass_by(RETRY + 0.1)
    await rig.lookups.answer("192.0.2.1")
    told.append(rig.name.failing)

    assert told == [True, False]
    assert [record.message for record in caplog.records] == ["the name is not resolved", "the name is resolved again"]


async def test_u2_a_resolver_that_comes_back_is_noticed_soon(rig: Rig) -> None:
    await rig.known("192.0.2.1")
    await rig.pass_by(30.1)
    await rig.lookups.fail()

    await rig.pass_by(RETRY + 0.1)

    assert rig.lookups.running == 1


async def test_u2_a_name_without_addresses_is_not_looked_up_for_every_call(rig: Rig) -> None:
    first = await rig.asking()
    await rig.lookups.fail()
    for _ in range(100):
        with pytest.raises(NameNotResolved):
            await rig.get()
    with pytest.raises(NameNotResolved):
        await first
    assert rig.lookups.asked == 1

    rig.clock.now += SPARED
    again = await rig.asking()
    await rig.lookups.answer("192.0.2.1")

    assert len(await again) == 1


async def test_u2_addresses_that_cannot_be_renewed_are_not_looked_up_for_every_call(rig: Rig) -> None:
    await rig.known("192.0.2.1")
    await rig.pass_by(30.1)
    await rig.lookups.fail()

    for _ in range(100):
        assert await rig.get() == ["192.0.2.1"]
        await turns()

    assert rig.lookups.asked == 2


async def test_u2_an_answer_without_addresses_is_a_failure(rig: Rig) -> None:
    asking = await rig.asking()
    await rig.lookups.answer()

    with pytest.raises(NameNotResolved):
        await asking


async def test_u2_who_has_waited_long_enough_leaves_and_the_lookup_goes_on(rig: Rig) -> None:
    with pytest.raises(NameTimeout):
        await rig.get()
    asking = await rig.asking()
    assert rig.lookups.asked == 1

    await rig.lookups.answer("192.0.2.1")

    assert len(await asking) == 1


async def test_u2_a_lookup_that_never_ends_is_given_up(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(names, "LONGEST_LOOKUP", 0.01)
    assert LONGEST_LOOKUP > 3

    with pytest.raises(NameTimeout):
        await patiently(rig.name.addresses(FOREVER))

    assert rig.name.failing
    assert rig.lookups.running == 0


async def test_a_name_that_is_stopped_while_somebody_waits_lets_go_of_them(rig: Rig) -> None:
    asking = await rig.asking()

    rig.name.stop()

    with pytest.raises(NameNotResolved):
        await patiently(asking)


# --- order ---


async def test_the_address_that_took_a_connection_comes_first_as_long_as_it_is_there(rig: Rig) -> None:
    await rig.known("192.0.2.1", "192.0.2.2", "192.0.2.3")

    rig.name.prefer(("192.0.2.2", 443))
    assert await rig.get() == ["192.0.2.2", "192.0.2.1", "192.0.2.3"]
    await rig.pass_by(30.1)
    await rig.lookups.answer("192.0.2.3", "192.0.2.2")
    assert await rig.get() == ["192.0.2.2", "192.0.2.3"]
    await rig.pass_by(30.1)
    await rig.lookups.answer("192.0.2.4", "192.0.2.3")
    assert await rig.get() == ["192.0.2.4", "192.0.2.3"]


async def test_addresses_of_which_none_took_a_connection_are_looked_up_soon(rig: Rig) -> None:
    await rig.known("192.0.2.1")
    rig.name.doubt()
    await turns()
    assert rig.lookups.running == 0  # they are brand-new

    await rig.pass_by(SPARED)
    for _ in range(5):
        rig.name.doubt()
    await turns()

    assert rig.lookups.running == 1
    await rig.lookups.answer("192.0.2.9")
    assert await rig.get() == ["192.0.2.9"]


async def test_no_more_addresses_are_kept_than_a_few(rig: Rig) -> None:
    await rig.known(*(f"192.0.2.{number}" for number in range(200)))

    assert len(await rig.get()) == MOST


@pytest.mark.parametrize("host", ["192.0.2.7", "2001:db8::7"])
async def test_an_ip_address_is_never_looked_up(host: str) -> None:
    lookups, clock = Lookups(), FakeClock()
    name = Name(host, 443, wheel=clock.wheel(), refresh=30.0, resolve=lookups)

    name.start()
    name.doubt()
    clock.advance(2 * KEPT)

    assert [entry[4][:2] for entry in await name.addresses(0.0)] == [(host, 443)]
    assert lookups.asked == 0
    name.stop()


# --- the system's resolver ---


async def test_the_systems_resolver_gives_both_families_off_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    threads: list[threading.Thread] = []

    def getaddrinfo(*_: object, **__: object) -> list[AddrInfo]:
        threads.append(threading.current_thread())
        return [info("192.0.2.1"), info("2001:db8::1")]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)

    assert len(await patiently(Resolver()(HOST, 443))) == 2
    assert threads[0] is not threading.main_thread()
    assert threads[0].daemon  # the end of the process does not wait for it


@pytest.mark.parametrize("error", [socket.gaierror(socket.EAI_NONAME, "no"), UnicodeError("label too long")])
async def test_a_failure_of_the_systems_resolver_is_a_name_without_an_address(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def getaddrinfo(*_: object, **__: object) -> list[AddrInfo]:
        raise error

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    name = Name(HOST, 443, wheel=FakeClock().wheel(), refresh=30.0)

    with pytest.raises(NameNotResolved):
        await patiently(name.addresses(FOREVER))


async def test_u2_lookups_that_hang_take_no_more_than_a_few_threads_and_the_loop_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    free = threading.Event()
    begun: list[Callable[[], object]] = []

    def getaddrinfo(*_: object, **__: object) -> list[AddrInfo]:
        begun.append(free.wait)
        free.wait()
        return [info("192.0.2.1")]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    resolver = Resolver()
    tasks = [asyncio.get_running_loop().create_task(resolver(HOST, 443)) for _ in range(THREADS)]
    await until(lambda: len(begun) == THREADS)
    for task in tasks:
        task.cancel()  # given up; their threads are still there
    await asyncio.gather(*tasks, return_exceptions=True)

    with pytest.raises(OSError, match="still running"):
        await resolver(HOST, 443)
    free.set()
    async with asyncio.timeout(10):
        while True:
            try:
                assert await resolver(HOST, 443)
                break
            except OSError:
                await asyncio.sleep(0.01)
    assert len(begun) == THREADS + 1
