"""Loyalty cards: a ledger that belongs to whoever holds the card, linked to customers or to none."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime

from proxy.simulator.bounded import Bounded
from proxy.simulator.ledger import Ledger
from proxy.simulator.problems import invalid, not_found
from proxy.simulator.rulebook import Program

LIMIT = 100_000


@dataclass(slots=True, eq=False)
class Card:
    """A card of one program. `holders` are profile ids, each with the moment it was linked."""

    id: int
    created: datetime
    program: Program
    identifier: str
    status: str = "active"
    modified: datetime | None = None
    holders: dict[str, datetime] = field(default_factory=dict)
    ledger: Ledger = field(default_factory=Ledger)

    def link(self, profile: str, moment: datetime) -> None:
        """Link a customer, or a 400 where no further one is allowed."""
        if profile in self.holders:
            raise invalid("Invalid value", "the profile is linked to this card already", pointer="/integrationId")
        if 0 < self.program.users_per_card <= len(self.holders):
            raise invalid("limit", "the card has as many profiles as its program allows", pointer="/integrationId")
        self.holders[profile] = self.modified = moment

    def unlink(self, profile: str, moment: datetime) -> None:
        """Unlink a customer, or a 400 for one who is not linked."""
        if self.holders.pop(profile, None) is None:
            raise invalid("Invalid value", "the profile is not linked to this card", pointer="/integrationId")
        self.modified = moment


class Cards:
    """All cards of an environment."""

    def __init__(self) -> None:
        self._cards: Bounded[tuple[int, str], Card] = Bounded(LIMIT)
        self._programs: dict[int, None] = {}  # that have had a card, in that order

    def __iter__(self) -> Iterator[Card]:
        return iter(self._cards)

    def add(self, card: Card) -> None:
        """Add a card; 400 where its program has the identifier already."""
        key = (card.program.id, card.identifier)
        if key in self._cards:
            raise invalid("Invalid value", "this identifier is taken", pointer="/cardIdentifier")
        self._cards[key] = card
        self._programs[card.program.id] = None

    def get(self, program: Program, identifier: str) -> Card:
        """A card, or a 404."""
        card = self._cards.get((program.id, identifier))
        if card is None:
            raise not_found("Loyalty card not found")
        return card

    def find(self, identifier: str) -> Card | None:
        """A card of any program: of the one that had a card first."""
        return next((card for program in self._programs if (card := self._cards.get((program, identifier)))), None)

    def of(self, profile: str) -> list[Card]:
        """The cards a customer holds, by id."""
        return sorted((card for card in self._cards if profile in card.holders), key=lambda card: card.id)
