"""Talon.One's own Python SDK, unchanged, calls the real proxy process with a key that opens nothing.

A relay in front of the proxy keeps what the SDK sent, the journal of the simulated Talon.One tells what arrived. SDK
calls block, so that they run in threads; a gate holds calls at Talon.One where a test wants to see them wait.
"""

import asyncio
import itertools
import json
import signal
import socket
from collections.abc import AsyncIterator, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from hashlib import sha256
from typing import Any, NamedTuple

import pytest
import pytest_asyncio
import talon_one
from talon_one.api.integration_api import IntegrationApi
from talon_one.api.management_api import ManagementApi

from proxy.simulator.journal import Entry
from proxy.simulator.keys import DEFAULT_KEY, Grant
from proxy.simulator.server import Simulator
from tests.process import PATIENCE, Serve, serving
from tests.relay import Relay
from tests.sdk_calls import PARAMETERS, POINTS, Drive, furnished, made, session_request
from tests.simulated import Gate
from tests.talon_world import SHOP

THREADS = 8
DUMMY = "dummy-key-of-the-shop"

pytestmark = pytest.mark.asyncio(loop_scope="module")


@contextmanager
def sdk(url: str, key: str = DUMMY) -> Iterator[talon_one.ApiClient]:
    """The SDK as a shop sets it up; `url` is all that differs."""
    configuration = talon_one.Configuration(
        host=url, api_key={"api_key_v1": key}, api_key_prefix={"api_key_v1": "ApiKey-v1"}
    )
    client = talon_one.ApiClient(configuration)
    try:
        yield client
    finally:
        client.rest_client.pool_manager.clear()


class Shop:
    """A simulated Talon.One, the proxy, a relay in front of it, and threads in which the SDK is called."""

    def __init__(self) -> None:
        self.simulator = Simulator(grants=[Grant(DEFAULT_KEY, SHOP)], work=self._work)
        self.gate = Gate()
        self.proxy: Serve
        self.relay: Relay
        self.url = ""  # of the relay
        self.direct = ""  # past the proxy
        self.threads = ThreadPoolExecutor(THREADS + 1, thread_name_prefix="shop")

    async def _work(self) -> None:
        await self.gate()

    def begin_anew(self) -> None:
        """An empty journal, and the furnished shop."""
        self.gate = Gate()
        self.gate.open()
        self.simulator.deployments.reset()
        self.simulator.deployments.main.world = furnished().world
        self.relay.clear()

    def hold(self) -> None:
        """From here on Talon.One does not come to an end with any call, until the gate is opened."""
        self.gate = Gate()

    def begin(self, drive: Drive, *, url: str | None = None, key: str = DUMMY) -> "asyncio.Future[Any]":
        """Make one call in a thread; `url`: another one than the relay's."""

        def call() -> Any:
            with sdk(self.url if url is None else url, key) as client:
                return drive(IntegrationApi(client))

        return asyncio.get_running_loop().run_in_executor(self.threads, call)

    async def call(self, drive: Drive, *, url: str | None = None) -> Any:
        """Make one call, and wait for what comes of it."""
        return await self.begin(drive, url=url)

    def arrived(self) -> list[Entry]:
        """What Talon.One was asked."""
        return self.simulator.journal.entries()

    def assert_that_what_was_sent_arrived(self) -> None:
        """All of it, in order, byte for byte, and under the proxy's key."""
        sent = self.relay.requests()
        assert [(one.method, one.target, one.body_sha256) for one in self.arrived()] == [
            (one.method, one.target, sha256(one.body).hexdigest()) for one in sent
        ]
        assert all(f"ApiKey-v1 {DUMMY}".encode() in one.head for one in sent)
        assert {one.application for one in self.arrived()} == {SHOP.name}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running_shop(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Shop]:
    shop = Shop()
    shop.direct = f"http://127.0.0.1:{await shop.simulator.start()}"
    settings = {"applications__stale__api_key": "0123456789abcdef", "lanes__depth": str(THREADS)}
    async with serving(shop.direct, **settings) as proxy:
        shop.proxy, shop.relay = proxy, Relay(proxy)
        shop.url = (await shop.relay.start(tmp_path_factory.mktemp("relay")))["url"]
        yield shop
        shop.gate.open()
        await asyncio.to_thread(shop.threads.shutdown)  # they need the loop to come to an end
        await shop.relay.stop()
    await shop.simulator.stop()


@pytest.fixture
def shop(running_shop: Shop) -> Iterator[Shop]:
    running_shop.begin_anew()
    yield running_shop
    running_shop.gate.open()


def update(quantity: int, **more: Any) -> Drive:
    """An update of one cart; each quantity another one."""
    request = session_request(cartItems=[{"sku": "shoe", "quantity": quantity, "price": 60}], **more)
    return lambda api: api.update_customer_session_v2("cart", request)


def closing(headers: dict[str, str]) -> Drive:
    return lambda api: api.update_customer_session_v2("cart", session_request("closed"), _headers=headers)


def looking(headers: dict[str, str] | None = None) -> Drive:
    return lambda api: api.get_customer_session("closed", _headers=headers)


async def until(proxy: Serve, *, in_flight: int) -> None:
    """Wait until the proxy has so many calls under way. Each look is a round trip that lets them go on."""
    async with asyncio.timeout(PATIENCE):
        while (await proxy.status())["downstream"]["in_flight"] < in_flight:
            pass


class Raised(NamedTuple):
    """What the SDK raised, and what its body says, read by the SDK's own models. `entry`: the only one of `errors`."""

    error: talon_one.ApiException
    headers: Mapping[str, str]
    told: talon_one.ErrorResponseWithStatus
    entry: talon_one.APIError | None

    @property
    def outcome(self) -> str | None:
        """Whether the call may have been carried out, as the proxy says."""
        return self.headers.get("Talon-Proxy-Outcome")


async def raised(call: "asyncio.Future[Any]", error: type[talon_one.ApiException], status: int) -> Raised:
    """Wait for the exception that must come."""
    with pytest.raises(error) as caught:
        await call
    assert type(caught.value) is error
    assert caught.value.status == status
    assert caught.value.headers is not None
    assert caught.value.headers["X-Request-Id"]
    assert DUMMY not in str(caught.value)
    told = talon_one.ErrorResponseWithStatus.from_json(caught.value.body or "")
    assert told is not None
    assert told.message
    assert len(told.errors or []) <= 1
    return Raised(caught.value, caught.value.headers, told, told.errors[0] if told.errors else None)


def assert_that_it_is_ours(caught: Raised) -> None:
    """The proxy's own errors give their reason, also to code that reads only the models."""
    assert caught.told.status_code == caught.error.status
    assert caught.entry is not None
    assert caught.entry.title == caught.told.message
    assert caught.entry.details
    # SDKs in other languages require it.
    assert "source" in json.loads(caught.error.body or "")["errors"][0]
    # SDKs built on urllib3 repeat writes on it.
    assert "Retry-After" not in caught.headers


# --- calls that land ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("drive", PARAMETERS)
async def test_every_operation_of_the_sdk_lands_as_it_was_sent(shop: Shop, drive: Drive) -> None:
    await shop.call(drive)

    assert len(shop.arrived()) == 1
    assert shop.arrived()[0].status in (200, 201, 204)
    shop.assert_that_what_was_sent_arrived()


def an_order_and_its_return(api: Any) -> None:
    """What a shop does with one customer: each answer is the SDK's model of it."""
    api.update_customer_profile_v2("ann", made("CustomerProfileIntegrationRequestV2", attributes={"Name": "Ann"}))
    cart: dict[str, Any] = {"profileId": "ann", "cartItems": [{"sku": "shoe", "quantity": 2, "price": 60}]}
    opened = api.update_customer_session_v2("a/1 ü", session_request(**cart))
    assert [effect.props["value"] for effect in opened.effects if effect.effect_type == "setDiscount"] == [
        12,
        6,
    ]  # WELCOME10, and 5 % from 100
    assert opened.customer_profile.attributes == {"Name": "Ann"}

    closed = api.update_customer_session_v2("a/1 ü", session_request("closed", **cart))
    assert (closed.customer_session.state, closed.customer_session.total) == ("closed", 120)
    assert api.get_loyalty_balances(POINTS, "ann").balance.active_points == 120
    earned = api.get_loyalty_program_profile_points(POINTS, "ann", status="active")
    assert [points.amount for points in earned.data] == [120]

    api.reopen_customer_session("a/1 ü")
    assert api.get_customer_session("a/1 ü").customer_session.state == "open"
    assert api.get_loyalty_balances(POINTS, "ann").balance.active_points == 0

    api.update_customer_session_v2("a/1 ü", session_request("closed", **cart))
    returned = made("ReturnIntegrationRequest", **{"return": {"returnedCartItems": [{"position": 0, "quantity": 1}]}})
    api.return_cart_items("a/1 ü", returned)
    assert api.get_customer_session("a/1 ü").customer_session.state == "partially_returned"

    event = made("IntegrationEventV2Request", type="newsletter_signup", profileId="ann", responseContent=["event"])
    assert "couponCreated" in [effect.effect_type for effect in api.track_event_v2(event, silent="no").effects]
    inventory = api.get_customer_inventory("ann", profile=True, coupons=True, loyalty=True)
    assert inventory.profile.attributes["Newsletter"] is True
    assert "NEWS-" in [coupon.value[:5] for coupon in inventory.coupons]
    referral = api.create_referral(made("NewReferral", campaignId=5, advocateProfileIntegrationId="ann"))
    assert referral.advocate_profile_integration_id == "ann"


async def test_an_order_a_return_and_all_around_it_by_the_sdk(shop: Shop) -> None:
    await shop.call(an_order_and_its_return)

    assert {entry.status for entry in shop.arrived()} == {200, 201}
    shop.assert_that_what_was_sent_arrived()


# --- parallel updates ---------------------------------------------------------------------------------------------


async def test_threads_that_update_one_session_at_once_get_conflicts_from_talon_one_itself(shop: Shop) -> None:
    """That the next test shows something: this is what the proxy is for."""
    shop.hold()
    calls = [shop.begin(update(number), url=shop.direct, key=DEFAULT_KEY) for number in range(1, THREADS + 1)]

    # One runs, two wait.
    for refused in itertools.islice(asyncio.as_completed(calls), THREADS - 3):
        with pytest.raises(talon_one.exceptions.ConflictException):
            await refused

    shop.gate.open()
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    assert sum(isinstance(outcome, talon_one.IntegrationStateV2) for outcome in outcomes) == 3


async def test_through_the_proxy_they_get_none_and_all_updates_are_carried_out_one_after_another(shop: Shop) -> None:
    shop.hold()
    calls = [shop.begin(update(number)) for number in range(1, THREADS + 1)]
    await until(shop.proxy, in_flight=THREADS)
    shop.gate.open()

    states = await asyncio.gather(*calls)

    assert sorted(state.customer_session.cart_items[0].quantity for state in states) == list(range(1, THREADS + 1))
    entries = shop.arrived()
    assert [entry.outcome for entry in entries] == ["applied"] * THREADS
    assert all((before.ended or 0) <= after.arrived for before, after in itertools.pairwise(entries))


# --- errors of Talon.One's ----------------------------------------------------------------------------------------


async def test_a_400_of_talon_one_raises_with_its_model_and_the_place_of_the_mistake(shop: Shop) -> None:
    call = shop.begin(update(1, attributes={"Unheard": 1}))

    caught = await raised(call, talon_one.exceptions.BadRequestException, 400)

    assert isinstance(caught.error.data, talon_one.ErrorResponse)
    assert caught.entry is not None
    assert (caught.entry.title, caught.entry.source and caught.entry.source.pointer) == (
        "Unknown",
        "/attributes/Unheard",
    )
    assert "Proxy-Status" not in caught.headers
    shop.assert_that_what_was_sent_arrived()


async def test_a_401_of_talon_one_raises_with_its_model(shop: Shop) -> None:
    call = shop.begin(looking(), url=f"{shop.url}/app/stale")

    caught = await raised(call, talon_one.exceptions.UnauthorizedException, 401)

    assert isinstance(caught.error.data, talon_one.ErrorResponseWithStatus)
    assert (caught.told.message, caught.told.status_code) == ("Invalid API key", 401)
    assert "Proxy-Status" not in caught.headers
    assert [entry.status for entry in shop.arrived()] == [401]


# --- errors of the proxy's own ------------------------------------------------------------------------------------


def soon(api: IntegrationApi) -> Any:
    return looking({"Talon-Proxy-Timeout-Ms": "soon"})(api)


def from_a_browser(api: IntegrationApi) -> Any:
    return looking({"Origin": "https://shop.example"})(api)


def managing(api: IntegrationApi) -> Any:
    return ManagementApi(api.api_client).get_applications()


@pytest.mark.parametrize(
    ("path", "drive", "error", "status", "names"),
    [
        ("/shop", looking(), talon_one.exceptions.NotFoundException, 404, None),
        ("/", looking(), talon_one.exceptions.NotFoundException, 404, None),
        ("/app/nobody", looking(), talon_one.exceptions.BadRequestException, 400, "Talon-Proxy-Application"),
        ("", soon, talon_one.exceptions.BadRequestException, 400, "Talon-Proxy-Timeout-Ms"),
        ("", from_a_browser, talon_one.exceptions.ForbiddenException, 403, "Origin"),
        ("", managing, talon_one.exceptions.ForbiddenException, 403, None),
    ],
    ids=["no such path", "a slash too many", "no such Application", "a bad header", "from a browser", "management"],
)
async def test_what_the_proxy_refuses_raises_with_the_reason_and_is_not_sent(
    shop: Shop, path: str, drive: Drive, error: type[talon_one.ApiException], status: int, names: str | None
) -> None:
    caught = await raised(shop.begin(drive, url=shop.url + path), error, status)

    assert_that_it_is_ours(caught)
    assert caught.entry is not None
    assert (caught.entry.source.parameter if caught.entry.source else None) == names
    assert shop.arrived() == []


async def test_a_lane_that_is_full_raises_503_and_the_call_is_made_once(shop: Shop) -> None:
    shop.hold()
    calls = [shop.begin(update(number)) for number in range(1, THREADS + 1)]
    await until(shop.proxy, in_flight=THREADS)

    caught = await raised(shop.begin(update(THREADS + 1)), talon_one.exceptions.ServiceException, 503)
    shop.gate.open()
    await asyncio.gather(*calls)

    assert_that_it_is_ours(caught)
    assert caught.outcome == "not-sent"
    assert len(shop.relay.connections) == THREADS + 1
    assert len(shop.arrived()) == THREADS


async def test_a_call_that_takes_too_long_raises_504_and_says_that_it_may_have_been_carried_out(shop: Shop) -> None:
    shop.hold()
    call = shop.begin(closing({"Talon-Proxy-Timeout-Ms": "50"}))

    caught = await raised(call, talon_one.exceptions.ServiceException, 504)

    assert_that_it_is_ours(caught)
    assert len(shop.relay.requests()) == 1
    assert (caught.outcome, len(shop.arrived())) in {("unknown", 1), ("not-sent", 0)}


async def test_a_line_that_breaks_within_a_call_raises_502_and_an_order_is_not_closed_twice(shop: Shop) -> None:
    call = shop.begin(closing({"Simulator-Fault": "reset-after-read"}))

    caught = await raised(call, talon_one.exceptions.ServiceException, 502)

    assert_that_it_is_ours(caught)
    assert caught.outcome == "unknown"
    assert [entry.outcome for entry in shop.arrived()] == ["applied"]
    shop.assert_that_what_was_sent_arrived()


async def test_an_upstream_that_is_gone_raises_502_and_says_that_nothing_was_sent(shop: Shop) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    async with serving(f"http://127.0.0.1:{port}") as proxy:
        caught = await raised(shop.begin(update(1), url=proxy.url), talon_one.exceptions.ServiceException, 502)

    assert_that_it_is_ours(caught)
    assert caught.outcome == "not-sent"


async def test_a_proxy_that_stops_raises_503_for_what_it_could_not_send(shop: Shop) -> None:
    shop.hold()
    async with serving(shop.direct, shutdown__timeout="1500ms") as proxy:
        stuck = shop.begin(update(1), url=proxy.url)
        await until(proxy, in_flight=1)
        waiting = shop.begin(update(2), url=proxy.url)
        await until(proxy, in_flight=2)

        proxy.send(signal.SIGTERM)
        unsent = await raised(waiting, talon_one.exceptions.ServiceException, 503)
        lost = await raised(stuck, talon_one.exceptions.ServiceException, 502)
        await proxy.ended()

    assert_that_it_is_ours(unsent)
    assert_that_it_is_ours(lost)
    assert (unsent.outcome, lost.outcome) == ("not-sent", "unknown")
    assert len(shop.arrived()) == 1
