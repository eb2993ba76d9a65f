"""Open reads: who may be joined, and what seals them."""

from collections.abc import Callable
from typing import cast

import pytest

from proxy.credentials import Application, Grant
from proxy.errors import ConnectionLost
from proxy.messages import Call, Fields, Sent, Timeline
from proxy.talon.keys import NOTHING, Names, Unkeyed
from proxy.talon.routes import Routes, Surface
from proxy.traffic.flights import Crew, Flight, State, Tower
from proxy.traffic.gates import Key
from proxy.traffic.reads import Reads
from tests.traffic_rig import APPLICATIONS, Shop, Shopper, application, ended, open_shop, post, put
from tests.upstream_fakes import FakeClock

LIVE, SANDBOX = Application("default", "live"), Application("other", "sandbox")
SESSION: Key = ("session", "default", "s")
JANE: Key = ("profile", "live", "jane")
BOB: Key = ("profile", "live", "bob")
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
    reads.close(newer)

    assert not reads._by_key


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
    open_ones = opened(reads, read("a", SESSION, JANE), read("b", SESSION, BOB), read("c", JANE))
    reads.seal("live", [key])

    assert open_ones() == [False, key is not SESSION, key is not JANE]


def test_a_write_on_other_keys_does_not(reads: Reads) -> None:
    open_ones = opened(reads, read("a", SESSION, JANE))
    others: list[Key] = [("session", "other", "s"), ("session", "default", "t"), ("profile", "sandbox", "jane")]
    for key in others:
        reads.seal("live", [key])

    assert open_ones() == [True]


def test_a_read_that_names_nobody_is_sealed_by_any_write_of_its_environment(reads: Reads) -> None:
    open_ones = opened(reads, read("a"), read("b", application=SANDBOX))
    reads.seal("live", [("session", "default", "unheard of")])

    assert open_ones() == [False, True]


def test_a_read_whose_body_could_not_be_read_is_sealed_by_any_write_of_its_environment(reads: Reads) -> None:
    """A dry call may name a profile there that nobody saw."""
    open_ones = opened(reads, read("a", SESSION, BOB, unkeyed=Unkeyed.COMPRESSED), read("b", SESSION, BOB))
    reads.seal("live", [JANE])

    assert open_ones() == [False, True]


def test_a_read_of_a_session_of_unknown_profile_is_sealed_by_any_write_of_its_environment(reads: Reads) -> None:
    open_ones = opened(reads, read("a", SESSION), read("b", SESSION, application=SANDBOX))
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
    seals: list[Callable[[], None]] = [
        lambda: reads.seal("live", [SESSION]),
        lambda: reads.seal("sandbox", [SESSION]),
        lambda: reads.seal_all("live"),
        reads.seal_all,
    ]
    for seal in seals:
        open_ones = opened(reads, management())
        seal()
        told.append(open_ones())

    assert told == [[False]] * 4


def test_a_write_of_the_management_api_seals_everything(reads: Reads) -> None:
    open_ones = opened(reads, read("a", SESSION), read("b", application=SANDBOX), read("c"))
    reads.seal_all()

    assert open_ones() == [False, False, False]
    assert not len(reads)


TARGET = b"/v2/customer_sessions/s"


# --- as a shop sees it ---


@pytest.mark.parametrize(
    ("method", "target", "body"),
    [
        (b"GET", TARGET, b""),
        (b"HEAD", TARGET, b""),
        (b"GET", b"/v1/customer_profiles/p/inventory", b""),
        (b"GET", b"/v1/integration/campaigns", b""),
        (b"POST", b"/v1/best_prior_price", b"{}"),
        (b"PUT", TARGET + b"?dry=true", b"{}"),
        (b"POST", b"/v2/events?dry=true", b'{"profileId":"p"}'),
        (b"GET", b"/v2/something/new", b""),
        (b"GET", b"/v1/applications", b""),
    ],
)
def test_reads_join(method: bytes, target: bytes, body: bytes) -> None:
    """A29."""
    with ended(open_shop(management=True)) as shop:
        shoppers = [shop.submit(method, target, body) for _ in range(10)]
        shop.reply_to(shoppers[0])

        assert [shopper.joined for shopper in shoppers] == [False] + [True] * 9
        assert len(shop.sent) == 1
        assert not shop.submit(method, target, body).joined  # A28: nothing is kept


READ_SESSION = b"/v2/customer_sessions/s"
READ_PROFILE = b"/v1/customer_profiles/p/inventory"
DRY = b"/v2/customer_sessions/s?dry=true"
SEALING: list[tuple[str, Callable[[Shop], Shopper], bool]] = [
    ("session", lambda shop: shop.session("s"), True),
    ("another session of the profile", lambda shop: shop.session("t", "p"), False),
    ("another session", lambda shop: shop.session("t", "q"), False),
    ("return", lambda shop: shop.submit(b"POST", TARGET + b"/returns", b"{}"), True),
]


@pytest.mark.parametrize(("write", "seals"), [case[1:] for case in SEALING], ids=[case[0] for case in SEALING])
def test_a_write_seals_the_reads_of_its_keys(shop: Shop, write: Callable[[Shop], Shopper], seals: bool) -> None:
    """A27: in the moment in which it is admitted."""
    for session, profile in (("s", "x"), ("t", "p")):
        shop.reply_to(shop.session(session, profile))
    first = shop.read(READ_SESSION)
    write(shop)
    second, third = shop.read(READ_SESSION), shop.read(READ_SESSION)

    assert [second.joined, third.joined] == [not seals, True]
    for shopper in (first, second):
        if shop.was_sent(shopper):
            shop.reply_to(shopper)
    assert [len(shopper.answers) for shopper in (first, second, third)] == [1, 1, 1]


@pytest.mark.parametrize("target", [READ_SESSION, READ_PROFILE])
def test_a_write_that_was_there_before_seals_when_it_lands(shop: Shop, target: bytes) -> None:
    """A27: the read began before, and may have been answered from before."""
    write = shop.session("s", "p")
    shop.read(target)
    assert shop.read(target).joined
    shop.reply_to(write)

    assert not shop.read(target).joined


def test_a_write_seals_before_its_caller_has_the_answer(shop: Shop) -> None:
    reads: list[Shopper] = []
    write = shop.session("s", "p")
    shop.read()
    write.on_answer = lambda: reads.append(shop.read())
    shop.reply_to(write)

    assert [read.joined for read in reads] == [False]


@pytest.mark.parametrize("seen", [True, False])
def test_a_write_of_which_nothing_is_known_seals_again_when_its_lane_goes_on(shop: Shop, seen: bool) -> None:
    """A27: it may have been executed at any moment until then."""
    write = shop.session("s", "p")
    assert shop.upstream.time_out(shop.asked(write))
    shop.read()
    assert shop.read().joined
    if seen:
        shop.reply_to(write)
    else:
        shop.lose(write, ConnectionLost("x", sent=Sent.MAYBE))
        assert shop.read().joined
        shop.clock.advance(1.1)

    assert write.flight.state is State.DONE
    assert not shop.read().joined


def test_a_lane_that_vanished_and_came_back_has_sealed(shop: Shop) -> None:
    """A27: the seal is on the read."""
    shop.read()
    for _ in range(2):
        shop.reply_to(shop.session("s"))
        assert len(shop.lanes) == 0

    assert not shop.read().joined


def test_a_read_of_a_session_is_sealed_by_a_write_of_its_profile(shop: Shop) -> None:
    shop.reply_to(shop.session("s", "p"))
    shop.read()
    shop.event("p")

    assert not shop.read().joined


@pytest.mark.parametrize("target", [READ_SESSION, DRY])
def test_a_read_of_a_session_whose_profile_is_not_known_may_be_of_any(shop: Shop, target: bytes) -> None:
    """After a restart nothing is remembered: who was told that the profile is changed must not get what was before."""
    call = (b"PUT", target, b"{}") if target == DRY else (b"GET", target)
    shop.submit(*call)
    shop.reply_to(shop.event("p"))

    assert not shop.submit(*call).joined


def test_a_write_of_a_session_whose_profile_is_not_known_may_be_of_any(shop: Shop) -> None:
    shop.read(READ_PROFILE)
    shop.session("s")

    assert not shop.read(READ_PROFILE).joined


@pytest.mark.parametrize(
    "write",
    [
        put(b"/v2/customer_profiles", {"customerProfiles": []}),
        put(b"/v1/catalogs/1/sync"),
        put(b"/v2/something/new"),
        post(b"/v2/events", b"{"),
        put(b"/v2/customer_sessions/t", b"{"),
        lambda shop: shop.submit(b"DELETE", b"/v2/audiences/1"),
        lambda shop: shop.submit(b"POST", b"/v1/applications/1", b""),
    ],
)
def test_a_write_whose_keys_are_not_known_seals_all_reads(write: Callable[[Shop], Shopper]) -> None:
    with ended(open_shop(management=True)) as shop:
        targets = (READ_SESSION, READ_PROFILE, b"/v1/integration/campaigns", b"/v1/applications")
        for target in targets:
            shop.read(target)
        write(shop)

        assert not any(shop.read(target).joined for target in targets)


def test_a_write_whose_body_cannot_be_read_may_be_of_any_profile_beside_the_one_that_is_known(shop: Shop) -> None:
    shop.reply_to(shop.session("s", "q"))
    shop.read(READ_PROFILE)
    shop.submit(b"PUT", TARGET, b"{")

    assert not shop.read(READ_PROFILE).joined


@pytest.mark.parametrize("target", [b"/v1/integration/campaigns", b"/v1/applications", b"/v2/something/new"])
def test_a_read_that_names_nobody_is_sealed_by_any_write(target: bytes) -> None:
    with ended(open_shop(management=True)) as shop:
        shop.read(target)
        shop.session("s", "p")

        assert not shop.read(target).joined


def test_the_reads_of_another_environment_are_not_sealed(mall: Shop) -> None:
    names = [application(name) for name in (b"default", b"other", b"sandbox")]
    target = b"/v1/integration/campaigns"
    for name in names:
        mall.read(target, name)
    mall.submit(b"PUT", b"/v2/something/new", b"{}", names[0])

    assert [mall.read(target, name).joined for name in names] == [False, False, True]


def test_a_write_of_the_management_api_seals_in_every_environment() -> None:
    with ended(open_shop(applications=APPLICATIONS, management=True)) as shop:
        shop.read(TARGET, application(b"sandbox"))
        shop.submit(b"POST", b"/v1/campaigns", b"{}", application(b"default"))

        assert not shop.read(TARGET, application(b"sandbox")).joined


def test_a_read_without_a_place_and_a_write_without_one_seal_all_the_same(shop: Shop) -> None:
    unordered = (b"Talon-Proxy-Order", b"no")
    shop.read(TARGET, unordered)
    write = shop.session("s", "p", unordered)
    told = [shop.read(TARGET, unordered).joined]
    shop.reply_to(write)
    told.append(shop.read(TARGET, unordered).joined)

    assert told == [False, False]


def test_dry_calls_and_reads_seal_nothing(shop: Shop) -> None:
    shop.read()
    shop.submit(b"PUT", DRY, b"{}")
    shop.submit(b"POST", b"/v1/best_prior_price", b"{}")

    assert shop.read().joined


def test_a_dry_call_whose_body_cannot_be_read_may_be_of_any_profile(shop: Shop) -> None:
    shop.submit(b"PUT", DRY, b"{")
    shop.event("p")

    assert not shop.submit(b"PUT", DRY, b"{").joined
