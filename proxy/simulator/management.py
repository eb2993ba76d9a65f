"""A small sample of the Management API: what a script reads first, three times a second at most.

The limit is documented: three requests a second for each endpoint. How a second is counted is not; here it is any
second, not one of the clock.
"""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import orjson

from proxy.simulator import answers
from proxy.simulator.operations import Answer, Kind, Operation
from proxy.simulator.problems import Problem, not_found
from proxy.simulator.world import Application

RATE = 3  # calls of one endpoint in one second
SET_UP = datetime(2026, 1, 1, tzinfo=UTC)  # when the account was
OWN = "/v1/applications"
Json = dict[str, Any]


def owns(path: str) -> bool:
    """Whether a path belongs to this API, so that a key of the other one does not open it."""
    return path == OWN or path.startswith(f"{OWN}/")


class Pace:
    """Refuses what comes faster than RATE, endpoint by endpoint."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._calls: dict[str, deque[float]] = {}

    def admit(self, endpoint: str) -> None:
        """Count a call of a known endpoint, or raise the 429."""
        now = self._monotonic()
        calls = self._calls.setdefault(endpoint, deque(maxlen=RATE))
        if len(calls) == RATE and now - calls[0] < 1:
            raise Problem(429, "Too many requests")
        calls.append(now)


@dataclass(frozen=True, slots=True)
class Management:
    """The endpoints, over the Applications of an account."""

    applications: Sequence[Application]

    def find(self, method: str, path: str, pace: Pace) -> Operation:
        """Understand a call, or raise Problem: 401 outside, 404 for what is not simulated, 429 for one too many."""
        if not owns(path):
            raise Problem(401, "Invalid API key")
        endpoint, content = self._endpoint(method, path.split("/")[1:])
        pace.admit(endpoint)
        return Operation(Kind.READ, lambda: Answer(200, orjson.dumps(content(), option=orjson.OPT_UTC_Z)))

    def _endpoint(self, method: str, segments: Sequence[str]) -> tuple[str, Callable[[], Mapping[str, Any]]]:
        match method, segments:
            case "GET", ["v1", "applications"]:
                return "getApplications", lambda: _list([_application(one) for one in self.applications])
            case "GET", ["v1", "applications", number]:
                return "getApplication", lambda: _application(self._known(number))
            case "GET", ["v1", "applications", number, "campaigns"]:
                return "getCampaigns", lambda: _list(_campaigns(self._known(number)))
            case "GET", ["v1", "applications", number, "campaigns", campaign]:
                return "getCampaign", lambda: _one(campaign, _campaigns(self._known(number)), "Campaign not found")
        raise not_found("This endpoint of the Management API is not simulated")

    def _known(self, number: str) -> Application:
        for application in self.applications:
            if str(application.id) == number:
                return application
        raise not_found("Application not found")


def _one(number: str, entries: Sequence[Json], otherwise: str) -> Json:
    for entry in entries:
        if str(entry["id"]) == number:
            return entry
    raise not_found(otherwise)


def _list(entries: Sequence[Json]) -> Json:
    return {"totalResultSize": len(entries), "data": entries}


def _application(application: Application) -> Json:
    return {
        "id": application.id,
        "created": SET_UP,
        "modified": SET_UP,
        "accountId": answers.ACCOUNT_ID,
        "name": application.name,
        "description": "",
        "timezone": "UTC",
        "currency": "EUR",
        "caseSensitivity": "sensitive",
        "attributes": {},
        "limits": [],
        "sandbox": False,
        "loyaltyPrograms": [],
    }


def _campaigns(application: Application) -> list[Json]:
    """What the Integration API tells of campaigns, and what only this one tells."""
    known = answers.campaigns(application, skip=0, page_size=1000)["data"]
    managed = {"created": SET_UP, "userId": answers.USER_ID, "limits": [], "type": "advanced"}
    return [{**managed, "frontendState": "running", "storesImported": False, **campaign} for campaign in known]
