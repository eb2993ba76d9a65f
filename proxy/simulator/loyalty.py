"""What calls do to loyalty programs: joining, activating, cards; and who owns which ledger."""

from collections.abc import Iterator, Sequence

from proxy.simulator import codes, customers
from proxy.simulator.cards import Card
from proxy.simulator.ledger import Ledger, Status, Transaction
from proxy.simulator.payload_loyalty import NewCard
from proxy.simulator.problems import invalid, not_found
from proxy.simulator.rulebook import Program
from proxy.simulator.world import Site

PATTERN = "/loyaltyProgramId"


def program(site: Site, program_id: int, *, cards: bool | None = None) -> Program:
    """A program, or a 404; a 400 where it is of the wrong sort (`cards`)."""
    found = site.book.program_by_id.get(program_id)
    if found is None:
        raise not_found("Loyalty program not found")
    if cards is not None and found.cards is not cards:
        wanted = "card-based" if cards else "profile-based"
        raise invalid("Invalid value", f"this works with {wanted} loyalty programs only", pointer=PATTERN)
    return found


def of_profile(site: Site, program_id: int, profile_id: str) -> Ledger:
    """The ledger of a customer, empty where there was none; 404 for an unknown program or customer."""
    found = program(site, program_id, cards=False)
    return customers.get(site, profile_id).ledgers.get(found.id) or Ledger()


def of_card(site: Site, program_id: int, identifier: str) -> Card:
    """A card, or a 404."""
    return site.environment.cards.get(program(site, program_id, cards=True), identifier)


def join(site: Site, program_id: int, profile_id: str) -> None:
    """Join a customer, who is created where needed, to a program; 400 for one who has joined."""
    found = program(site, program_id, cards=False)
    ledger = site.profile(profile_id).ledger(found.id)
    if ledger.joined is not None:
        raise invalid("Invalid value", "the customer has joined the loyalty program", pointer="/integrationId")
    ledger.joined = site.now()


def activate(
    site: Site, program_id: int, *, session: str = "", uuids: Sequence[str] = ()
) -> list[tuple[str, Card | None, Transaction]]:
    """Activate points that wait: those of a session, or of transactions. Gives each with its customer or card.

    404 where a transaction is unknown or waits no more; then nothing is activated.
    """
    found = program(site, program_id)
    moment = site.now()
    waiting = [
        (profile, card, entry)
        for profile, card, ledger in _ledgers(site, found)
        for entry in ledger.points(Status.PENDING, moment)
        if (entry.cause.session == session if session else entry.uuid in uuids)
    ]
    if not session and len(waiting) < len(uuids):
        raise not_found("Pending transaction not found")
    for _, _, entry in waiting:
        entry.activate(moment)
        if entry.expiry is None and found.expiry is not None:
            entry.expiry = moment + found.expiry
    return waiting


def generate_card(site: Site, program_id: int, wanted: NewCard) -> Card:
    """A new card, linked to customers, who are created where needed."""
    found = program(site, program_id, cards=True)
    if 0 < found.users_per_card < len(wanted.profiles):
        raise invalid("limit", "the loyalty program allows fewer profiles on a card", pointer="/customerProfileIds")
    number, moment, cards = site.next_id(), site.now(), site.environment.cards
    identifier = wanted.identifier or codes.fill(found.card_pattern, f"card/{number}", cards.find)
    card = Card(number, moment, found, identifier, wanted.status, moment)
    cards.add(card)
    for profile_id in dict.fromkeys(wanted.profiles):
        card.link(site.profile(profile_id).integration_id, moment)
    return card


def _ledgers(site: Site, found: Program) -> Iterator[tuple[str, Card | None, Ledger]]:
    if found.cards:
        yield from (("", card, card.ledger) for card in site.environment.cards if card.program is found)
        return
    for profile in site.environment.profiles:
        if ledger := profile.ledgers.get(found.id):
            yield profile.integration_id, None, ledger
