import pytest

from proxy.errors import BodyTooLarge, Category, ConnectTimeout, ProxyError, to_reply
from proxy.messages import Call, Fields, Reply, Sent, Source, Timeline
from proxy.observe.incidents import OWN, THEIRS, Incidents
from tests.clock import Time


def call(operation: str = "getCustomerSession", error: ProxyError | None = None) -> Call:
    made = Call(b"GET", b"/v2/customer_sessions/s", Fields(b"", []), b"", Timeline(0.0, 0.0))
    made.operation = operation
    made.error = error.category.value if error else None
    return made


def answer(status: int) -> Reply:
    return Reply(status, b"", b"", source=Source.UPSTREAM, length=0)


@pytest.fixture
def clock() -> Time:
    return Time()


@pytest.fixture
def incidents(clock: Time) -> Incidents:
    return Incidents(clock)


def test_every_category_has_a_meaning() -> None:
    assert set(OWN) == set(Category)
    assert not {category.value for category in OWN} & set(THEIRS)


def test_what_succeeds_is_no_failure(incidents: Incidents) -> None:
    for status in (200, 201, 204, 304, 399):
        incidents.finished(call(), answer(status), whole=True)
    incidents.abandoned(call(), Sent.NO)

    assert incidents.status() == []


@pytest.mark.parametrize(
    ("status", "sort"),
    [
        (400, "validation"),
        (401, "auth"),
        (404, "not_found"),
        (409, "conflict"),
        (429, "throttled"),
        (403, "upstream_4xx"),
        (499, "upstream_4xx"),
        (500, "upstream_5xx"),
        (503, "upstream_5xx"),
    ],
)
def test_what_talon_one_refuses_is_told_by_its_status(incidents: Incidents, status: int, sort: str) -> None:
    incidents.finished(call(), answer(status), whole=True)

    (told,) = incidents.status()
    assert (told["category"], told["meaning"], told["last_status"]) == (sort, THEIRS[sort], status)


def test_what_the_proxy_answers_is_told_by_its_category(incidents: Incidents) -> None:
    error = ConnectTimeout("No connection")
    incidents.finished(call(error=error), to_reply(error), whole=True)

    (told,) = incidents.status()
    assert (told["category"], told["last_status"]) == ("timeout", 504)


def test_the_last_of_each_sort_is_kept_and_the_latest_sort_comes_first(incidents: Incidents, clock: Time) -> None:
    incidents.finished(call("trackEventV2"), answer(404), whole=True)
    clock.now += 10.0
    incidents.rejected(to_reply(BodyTooLarge("8 MiB")), BodyTooLarge("8 MiB"))
    clock.now += 5.0
    incidents.finished(call("getCustomerInventory"), answer(404), whole=True)
    clock.now += 1.0

    first, second = incidents.status()

    assert (first["category"], first["count"], first["last_seconds"]) == ("not_found", 2, 1.0)
    assert first["last_operation"] == "getCustomerInventory"
    assert (second["category"], second["count"], second["last_seconds"]) == ("too_large", 1, 6.0)
    assert second["last_operation"] == "other"


def test_callers_whose_key_is_no_good_are_counted(incidents: Incidents) -> None:
    assert incidents.unauthorised == 0

    for status in (401, 403, 401):
        incidents.finished(call(), answer(status), whole=True)

    assert incidents.unauthorised == 2
