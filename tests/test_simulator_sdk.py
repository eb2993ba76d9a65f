"""Every answer of the simulator satisfies the models of Talon.One's own Python SDK, driven by that SDK.

The SDK's transport is replaced: its requests go to the simulated Talon.One without a socket. Every answer is read
twice: by the SDK as it does, and again from the raw JSON by the model that the SDK names for that status, which
knows required properties, strict types, patterns and lists of words.
"""

import inspect
import json
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

import pydantic
import pytest
import talon_one
from talon_one import rest
from talon_one.api.integration_api import IntegrationApi

from tests.sdk_calls import AUDIENCE, BONUS, DRIVES, JANE, OF_RULES, PARAMETERS, Drive, furnished, made, session_request
from tests.talon_world import Talon


class Answer:
    """What the SDK sees of an HTTP answer."""

    def __init__(self, status: int, body: bytes) -> None:
        self.status = status
        self.reason = HTTPStatus(status).phrase
        self.data = body
        self.headers = {"content-type": "application/json"} if body else {}


class Transport(rest.RESTClientObject):
    """Takes the place of the SDK's connection pool."""

    def __init__(self, talon: Talon) -> None:
        # The parent would open a pool.
        self.talon = talon

    def request(
        self,
        method: str,
        url: str,
        headers: Any = None,
        body: Any = None,
        post_params: Any = None,
        _request_timeout: Any = None,
    ) -> rest.RESTResponse:
        target = urlsplit(url)
        answer = self.talon.answer(method, target.path + (f"?{target.query}" if target.query else ""), body)
        return rest.RESTResponse(Answer(answer.status, answer.body))


class Client(talon_one.ApiClient):
    """The SDK's client, which also holds every answer against the model that the SDK names for it."""

    def __init__(self, talon: Talon) -> None:
        super().__init__(talon_one.Configuration(host="http://talon.invalid"))
        self.rest_client = Transport(talon)
        self.answers: list[tuple[int, str | None]] = []

    def response_deserialize(self, response_data: Any, response_types_map: Any = None) -> Any:
        status = str(response_data.status)
        # A 204 is documented where a call can be silent; SDK 26.2 does not list it everywhere, and takes it.
        assert status in response_types_map or status == "204", f"the SDK knows no {status}: {response_data.data!r}"
        named = response_types_map.get(status)
        self.answers.append((response_data.status, named))
        if named is None:
            assert response_data.data == b""
        else:
            pydantic.TypeAdapter(_model(named)).validate_json(response_data.data)
        return super().response_deserialize(response_data, response_types_map)


def _model(named: str) -> Any:
    if named.startswith("List["):
        return list[_model(named[5:-1])]  # type: ignore[misc]
    return getattr(talon_one, named)


@pytest.fixture
def talon() -> Talon:
    return furnished()


@pytest.fixture
def client(talon: Talon) -> Client:
    return Client(talon)


def test_every_operation_that_the_sdk_has_is_driven() -> None:
    variants = ("_with_http_info", "_without_preload_content")
    known = {
        name
        for name, _ in inspect.getmembers(IntegrationApi, inspect.isfunction)
        if not name.startswith("_") and not name.endswith(variants)
    }

    assert set(DRIVES) == known


@pytest.mark.parametrize("drive", PARAMETERS)
def test_an_answer_satisfies_the_models_of_the_sdk(client: Client, drive: Drive) -> None:
    drive(IntegrationApi(client))

    (answer,) = client.answers
    assert 200 <= answer[0] <= 204


@pytest.mark.parametrize(
    ("drive", "error", "title"),
    [
        (
            lambda api: api.update_customer_session_v2("cart", session_request(attributes={"Unheard": 1})),
            talon_one.exceptions.BadRequestException,
            "Unknown",
        ),
        (
            lambda api: api.update_customer_profile_v2(
                JANE, made("CustomerProfileIntegrationRequestV2", attributes={"Name": 1})
            ),
            talon_one.exceptions.BadRequestException,
            "Invalid type",
        ),
        (lambda api: api.reopen_customer_session("friend-of-nobody"), talon_one.exceptions.NotFoundException, None),
        (lambda api: api.get_customer_inventory("nobody"), talon_one.exceptions.NotFoundException, None),
        (
            lambda api: [api.create_audience_v2(made("NewAudience", **AUDIENCE)) for _ in range(2)],
            talon_one.exceptions.ConflictException,
            None,
        ),
    ],
    ids=["unknown attribute", "mistyped attribute", "unknown session", "unknown customer", "audience exists"],
)
def test_an_error_raises_the_exception_of_the_sdk(
    talon: Talon, drive: Drive, error: type[talon_one.ApiException], title: str | None
) -> None:
    class Lenient(Client):
        def response_deserialize(self, response_data: Any, response_types_map: Any = None) -> Any:
            # Of an unknown session the SDK knows no 404.
            return super().response_deserialize(response_data, {"404": "ErrorResponseWithStatus", **response_types_map})

    with pytest.raises(error) as raised:
        drive(IntegrationApi(Lenient(talon)))

    envelope = json.loads(raised.value.body or "")
    assert envelope["message"]
    assert title is None or envelope["errors"][0]["title"] == title


# What SDK 26.2 lacks is held against the shapes of the published description of the API.


def test_an_advanced_event_has_the_published_shape(talon: Talon) -> None:
    wanted = ["advancedEvent", "customerProfile", "loyalty", "triggeredCampaigns", *OF_RULES]
    sent = {"type": "review", "profileId": JANE, "integrationId": "e-1", "connectedSessionId": "closed"}

    answer = talon.call("POST", "/v3/events?silent=no", {**sent, "responseContent": wanted})

    event = answer["advancedEvent"]
    assert {**sent, "applicationId": 1} == {name: event[name] for name in (*sent, "applicationId")}
    assert {"id", "created", "attributes", "effects"} <= set(event)
    assert talon.call("GET", "/v3/events/e-1") == event
    talon_one.TrackEventV2Response.model_validate_json(json.dumps(answer))


def test_joining_a_loyalty_program_answers_with_nothing_and_works_once(talon: Talon) -> None:
    target = f"/v1/loyalty_programs/{BONUS}/profile/new/join"

    assert talon.call("POST", target) is None
    assert talon.call("POST", target, expect=400)["StatusCode"] == 400


def test_the_list_of_campaigns_has_the_published_shape(talon: Talon) -> None:
    page = talon.call("GET", "/v1/integration/campaigns?pageSize=2")

    assert page["hasMore"] is True
    for campaign in page["data"]:
        assert {"id", "applicationId", "name", "state", "tags", "features", "rules"} <= set(campaign)
        assert campaign["state"] == "enabled"
        assert all(rule["title"] for rule in campaign["rules"])
