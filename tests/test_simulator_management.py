import json
from typing import Any

import pytest

from proxy.simulator.management import Management, Pace, owns
from proxy.simulator.problems import Problem
from proxy.simulator.world import Application, World
from tests.clock import Time

SHOP, OUTLET = Application("shop", 1), Application("outlet", 2)
# What the published schema requires of each.
OF_APPLICATION = {"id", "created", "modified", "accountId", "name", "timezone", "currency", "loyaltyPrograms"}
OF_CAMPAIGN = {
    *("id", "created", "applicationId", "userId", "name", "state", "tags", "features", "limits"),
    *("frontendState", "storesImported"),
}


def ask(path: str, *, method: str = "GET", pace: Pace | None = None) -> Any:
    operation = Management([SHOP, OUTLET]).find(method, path, World(), pace or Pace(Time()))
    answer = operation.perform()
    assert answer.status == 200
    return json.loads(answer.body)


def test_applications_are_listed() -> None:
    content = ask("/v1/applications")

    assert content["totalResultSize"] == 2
    assert [application["name"] for application in content["data"]] == ["shop", "outlet"]
    assert content["data"][0].keys() >= OF_APPLICATION


def test_an_application_and_its_campaigns_can_be_read() -> None:
    assert ask("/v1/applications/2")["name"] == "outlet"

    campaigns = ask("/v1/applications/2/campaigns")["data"]

    assert all(campaign.keys() >= OF_CAMPAIGN for campaign in campaigns)
    assert ask(f"/v1/applications/2/campaigns/{campaigns[0]['id']}") == campaigns[0]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v1/applications/9", 404),
        ("GET", "/v1/applications/1/campaigns/99", 404),
        ("GET", "/v1/applications/1/coupons", 404),
        ("POST", "/v1/applications", 404),
        ("GET", "/v1/integration/campaigns", 401),
    ],
)
def test_what_is_not_there_is_refused(method: str, path: str, status: int) -> None:
    with pytest.raises(Problem) as refused:
        ask(path, method=method)

    assert refused.value.status == status


def test_an_endpoint_is_called_three_times_a_second_and_others_are_not_held_up() -> None:
    time = Time()
    pace = Pace(time)
    for _ in range(3):
        ask("/v1/applications/1", pace=pace)
        time.now += 0.25

    with pytest.raises(Problem) as refused:
        ask("/v1/applications/2", pace=pace)
    assert refused.value.content() == {"message": "Too many requests", "errors": None, "StatusCode": 429}
    ask("/v1/applications", pace=pace)

    time.now += 0.25  # a second after the first
    ask("/v1/applications/2", pace=pace)
    with pytest.raises(Problem):
        ask("/v1/applications/2", pace=pace)


def test_its_paths_are_its_own() -> None:
    assert owns("/v1/applications")
    assert owns("/v1/applications/1")
    assert not owns("/v1/applicationsx")
    assert not owns("/v1/integration/campaigns")
