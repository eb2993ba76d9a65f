"""A small sample of the Management API: what a script reads first, three times a second at most.

The limit is documented: three requests a second for each endpoint. How a second is counted is not; here it is any
second, not one of the clock.
"""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from proxy.simulator import answers_setup
from proxy.simulator.answers_setup import Json
from proxy.simulator.calls import Kind, Operation, found, json
from proxy.simulator.problems import Problem, not_found
from proxy.simulator.world import BEGINNING, Application, Site, World

RATE = 3  # calls of one endpoint in one second
OWN = "/v1/applications"


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

    def find(self, method: str, path: str, world: World, pace: Pace) -> Operation:
        """Understand a call, or raise Problem: 401 outside, 404 for what is not simulated, 429 for one too many."""
        if not owns(path):
            raise Problem(401, "Invalid API key")
        endpoint, content = self._endpoint(method, path.split("/")[1:], world)
        pace.admit(endpoint)
        return Operation(Kind.READ, lambda: json(content()), name=endpoint)

    def _endpoint(self, method: str, segments: Sequence[str], world: World) -> tuple[str, Callable[[], Json]]:
        match method, segments:
            case "GET", ["v1", "applications"]:
                return "getApplications", lambda: _list([_application(one) for one in self.applications])
            case "GET", ["v1", "applications", number]:
                return "getApplication", lambda: _application(self._known(number))
            case "GET", ["v1", "applications", number, "campaigns"]:
                return "getCampaigns", lambda: _list(_campaigns(world.at(self._known(number))))
            case "GET", ["v1", "applications", number, "campaigns", campaign]:
                return "getCampaign", lambda: _one(campaign, _campaigns(world.at(self._known(number))), "Campaign")
        raise not_found("This endpoint of the Management API is not simulated")

    def _known(self, number: str) -> Application:
        for application in self.applications:
            if str(application.id) == number:
                return application
        raise not_found("Application not found")


def _one(number: str, entries: Sequence[Json], what: str) -> Json:
    entry: Json = found(next((entry for entry in entries if str(entry["id"]) == number), None), what)
    return entry


def _list(entries: Sequence[Json]) -> Json:
    return {"totalResultSize": len(entries), "data": entries}


def _application(application: Application) -> Json:
    return {
        "id": application.id,
        "created": BEGINNING,
        "modified": BEGINNING,
        "accountId": answers_setup.ACCOUNT_ID,
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


def _campaigns(site: Site) -> list[Json]:
    campaigns = site.book.campaigns_of(site.application.name)
    return [answers_setup.campaign(site.application, one, site.now()) for one in campaigns]
