"""Audiences are lists of customers, by environment."""

from dataclasses import dataclass, field
from datetime import datetime

from proxy.simulator.bounded import Bounded
from proxy.simulator.problems import Problem, not_found

LIMIT = 10_000


@dataclass(slots=True, eq=False)
class Audience:
    """A list. `integration` and `integration_id` name it where it came from; `members` are profile ids in order."""

    id: int
    created: datetime
    name: str
    description: str = ""
    integration: str = ""
    integration_id: str = ""
    third_party: bool = False
    last_update: datetime | None = None
    members: dict[str, None] = field(default_factory=dict)


class Audiences:
    """All lists of an environment."""

    def __init__(self) -> None:
        self._audiences: Bounded[int, Audience] = Bounded(LIMIT)

    def add(self, audience: Audience) -> None:
        """Add a list; 409 where its integration has given the id before."""
        if audience.integration_id and any(
            (known.integration, known.integration_id) == (audience.integration, audience.integration_id)
            for known in self._audiences
        ):
            raise Problem(409, "An Audience with this ID already exists for this integration.")
        self._audiences[audience.id] = audience

    def get(self, audience_id: int) -> Audience:
        """A list, or a 404."""
        audience = self._audiences.get(audience_id)
        if audience is None:
            raise not_found("Audience not found")
        return audience

    def named(self, name: str) -> Audience | None:
        """A list by its name, unless somebody has deleted or renamed it."""
        return next((audience for audience in self._audiences if audience.name == name), None)

    def remove(self, audience_id: int) -> None:
        """Delete a list, or a 404."""
        self.get(audience_id)
        self._audiences.pop(audience_id)

    def of(self, profile: str) -> list[Audience]:
        """The lists a customer is on, by id."""
        return sorted((one for one in self._audiences if profile in one.members), key=lambda one: one.id)

    def forget(self, profile: str) -> None:
        """Take a customer off all lists."""
        for audience in self._audiences:
            audience.members.pop(profile, None)
