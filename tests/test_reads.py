"""Open reads: who may be joined, and what seals them."""

from collections.abc import Callable
from typing import cast

import pytest

from proxy.credentials import Application, Grant
from proxy.messages import Call, Fields, Timeline
from proxy.talon.keys import NOTHING, Names, Unkeyed
from proxy.talon.routes import Routes, Surface
from proxy.traffic.flights import Crew, Flight, Tower
from proxy.traffic.gates import Key
from proxy.traffic.reads import Reads
from tests.upstream_fakes import FakeClock

LIVE, SANDBOX = Application("default", "live"), Application("other", "sandbox")
SESSION: Key = ("session", "default", "s")
JANE: Key = ("profile", "live", "jane")
ROUTE = Routes().classify(b"GET", b"/v2/customer_sessions/s")
WHEEL = FakeClock().wheel()


def read(
    name: str,
    *keys: Key,
    application: Application = LIVE,
    surface: Surface = Surface.INTEGRATION,
    unkeyed: Unkeyed | None = None,
) -> Flight:
    call = Call(b"GET", b"/v2/x", Fields(b"", []), b"", Timeline(0.0, 0.0))
    names = NOTHING if unkeyed is None else Names("s", (), unkeyed)
    nobody = cast("Crew", None), cast("Tower", None)
    flight = Flight(call, ROUTE, names, Grant(application, surface), b"", crew=nobody[0], tower=nobody[1], wheel=WHEEL)
    flight.fingerprint = (name,)
    flight.keys = keys
    return flight


@pytest.fixture
def reads() -> Reads:
    return Reads()


def opened(reads: Reads, *flights: Flight) -> Callable[[], list[bool]]:
    """Open these; gives what tells which of them still are."""
    for flight in flights:
        reads.open(flight)
    return lambda: [reads.find(flight.fingerprint) is flight for flight in flights]


def test_a_read_is_found_by_its_fingerprint(reads: Reads) -> None:
    open_ones = opened(reads, read("a", SESSION), read("b", SESSION), read("c"))

    assert open_ones() == [True, True, True]
    assert reads.find(("d",)) is None
    assert repr(reads) == "<Reads open=3>"


def test_a_newer_one_takes_the_place_of_an_older_one(reads: Reads) -> None:
    older, newer = read("a", SESSION), read("a", SESSION)
    open_ones = opened(reads, older, newer)
    reads.close(older)

    assert open_ones() == [False, True]


def test_closed_nobody_finds_it_any_more_and_nothing_is_left(reads: Reads) -> None:
    """A12: once more does no harm."""
    flights = read("a", SESSION, JANE), read("b"), read("c", unkeyed=Unkeyed.NOT_JSON)
    open_ones = opened(reads, *flights)
    for flight in flights * 2:
        reads.close(flight)

    assert open_ones() == [False, False, False]
    assert not len(reads)
    assert not reads._by_key
    assert not reads._of_anything


@pytest.mark.parametrize("key", [SESSION, JANE])
def test_a_write_on_any_of_its_keys_seals_it(reads: Reads, key: Key) -> None:
    """A27."""
    open_ones = opened(reads, read("a", SESSION, JANE), read("b", SESSION), read("c", JANE))
    reads.seal("live", [key])

    assert open_ones() == [False, key is not SESSION, key is not JANE]


def test_a_write_on_other_keys_does_not(reads: Reads) -> None:
    open_ones = opened(reads, read("a", SESSION, JANE))
    for key in [("session", "other", "s"), ("session", "default", "t"), ("profile", "sandbox", "jane")]:
        reads.seal("live", [cast("Key", key)])

    assert open_ones() == [True]


def test_a_read_that_names_nobody_is_sealed_by_any_write_of_its_environment(reads: Reads) -> None:
    open_ones = opened(reads, read("a"), read("b", application=SANDBOX))
    reads.seal("live", [("session", "default", "unheard of")])

    assert open_ones() == [False, True]


def test_a_read_whose_body_could_not_be_read_is_sealed_by_any_write_of_its_environment(reads: Reads) -> None:
    """A dry call may name a profile there that nobody saw."""
    open_ones = opened(reads, read("a", SESSION, unkeyed=Unkeyed.COMPRESSED), read("b", SESSION))
    reads.seal("live", [JANE])

    assert open_ones() == [False, True]


def test_a_write_that_may_concern_anything_seals_all_of_its_environment(reads: Reads) -> None:
    open_ones = opened(reads, read("a", SESSION), read("b"), read("c", application=SANDBOX))
    reads.seal_all("live")

    assert open_ones() == [False, False, True]


def test_a_read_of_the_management_api_is_sealed_by_any_write(reads: Reads) -> None:
    def management() -> Flight:
        return read("m", surface=Surface.MANAGEMENT)

    told = []
    for seal in (
        lambda: reads.seal("live", [SESSION]),
        lambda: reads.seal("sandbox", [SESSION]),
        lambda: reads.seal_all("live"),
        reads.seal_all,
    ):
        open_ones = opened(reads, management())
        seal()
        told.append(open_ones())

    assert told == [[False]] * 4


def test_a_write_of_the_management_api_seals_everything(reads: Reads) -> None:
    open_ones = opened(reads, read("a", SESSION), read("b", application=SANDBOX), read("c"))
    reads.seal_all()

    assert open_ones() == [False, False, False]
    assert not len(reads)
