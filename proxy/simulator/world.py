"""The world is what a Talon.One deployment remembers, by Application and by environment.

Sessions, codes and advanced events belong to one Application; profiles, cards, audiences, giveaways and catalogs are
shared by all Applications of an environment. What calls do to it is told in `lifecycle`, `customers` and `loyalty`;
every one of those is one synchronous step.

The clock is handed in and ids are counted, so that the same calls give the same answers. Memory is bounded: of
everything that callers can make, what was used longest ago is forgotten first (`SESSIONS`, `PROFILES`, `EVENTS`, and
the limits of the other nouns). A session that is forgotten does not exist any more; its profile keeps what was booked.
"""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal

from proxy.simulator import rulebook_file
from proxy.simulator.audiences import Audience, Audiences
from proxy.simulator.bounded import Bounded
from proxy.simulator.cards import Cards
from proxy.simulator.catalogs import Catalog, Item
from proxy.simulator.coupons import Coupons
from proxy.simulator.evaluation import Event
from proxy.simulator.giveaways import Giveaways
from proxy.simulator.profiles import Profile
from proxy.simulator.referrals import Referrals
from proxy.simulator.rulebook import Rulebook
from proxy.simulator.scene import Place
from proxy.simulator.sessions import Session

SESSIONS = 100_000  # of one Application
PROFILES = 100_000  # of one environment
EVENTS = 100_000  # advanced ones, of one Application
RESERVED = 1000  # ids up to here are for what stands in the rule book
BEGINNING = datetime(2026, 1, 1, tzinfo=UTC)  # when what stands in the rule book was set up


@dataclass(frozen=True, slots=True)
class Application:
    """What an API key opens."""

    name: str = "default"
    id: int = 1
    environment: str = "default"


class Environment:
    """What Applications share."""

    def __init__(self, book: Rulebook, ids: Iterator[int]) -> None:
        self.sites: list[Site] = []
        self.profiles: Bounded[str, Profile] = Bounded(PROFILES)
        self.cards = Cards()
        self.audiences = Audiences()
        self.giveaways = Giveaways(book.giveaway_pools, BEGINNING)
        self.catalogs = {terms.id: Catalog(terms, BEGINNING, ids) for terms in book.catalogs}
        for audience in book.audiences:
            self.audiences.add(Audience(audience.id, BEGINNING, audience.name))

    def item(self, sku: str) -> Item | None:
        """The item of the first catalog that has it."""
        return next((catalog.items[sku] for catalog in self.catalogs.values() if sku in catalog.items), None)

    def price_of(self, sku: str) -> Decimal | None:
        """What an item costs that comes without a price."""
        item = self.item(sku)
        return item.price if item else None


class Site:
    """One Application of the world, and the environment it shares. All operations work on one."""

    def __init__(self, world: "World", application: Application, environment: Environment) -> None:
        self.application = application
        self.environment = environment
        self.book = world.book
        self.now = world.now
        self.ids = world.ids
        campaigns = world.book.campaigns_of(application.name)
        self.sessions: Bounded[str, Session] = Bounded(SESSIONS)
        self.events: Bounded[str, Event] = Bounded(EVENTS)
        self.coupons = Coupons(campaigns, BEGINNING)
        self.referrals = Referrals(campaigns, BEGINNING)
        self.place = Place(
            world.book, application.name, self.coupons, self.referrals, environment.giveaways, environment.audiences
        )

    def next_id(self) -> int:
        """An id that nothing has."""
        return next(self.ids)

    def profile(self, profile_id: str) -> Profile:
        """A customer, who is created where nobody knew one."""
        profile = self.environment.profiles.get(profile_id)
        if profile is None:
            moment = self.now()
            profile = self.environment.profiles[profile_id] = Profile(self.next_id(), profile_id, moment, moment)
        return profile

    def known_profile(self, profile_id: str) -> Profile | None:
        """A customer, if known."""
        return self.environment.profiles.get(profile_id) if profile_id else None

    def linked_profile(self, session_id: str) -> str:
        """The profile a stored session belongs to; empty if anonymous or unknown."""
        session = self.sessions.peek(session_id)
        return session.profile if session else ""


def now() -> datetime:
    """The time of day, the default clock of a world."""
    return datetime.now(UTC)


class World:
    """All Applications and environments under one rule book (default: the built-in one)."""

    def __init__(
        self,
        *,
        clock: Callable[[], datetime] = now,
        book: Rulebook | None = None,
    ) -> None:
        self.now = clock
        # What stands in the rule book has small numbers of its own; what is made later is told apart from it.
        self.ids = itertools.count(RESERVED + 1)
        self.book = rulebook_file.default() if book is None else book
        self._sites: dict[str, Site] = {}
        self._environments: dict[str, Environment] = {}

    def __repr__(self) -> str:
        sessions = sum(len(site.sessions) for site in self._sites.values())
        profiles = sum(len(environment.profiles) for environment in self._environments.values())
        return f"<World of {sessions} sessions and {profiles} profiles>"

    def at(self, application: Application) -> Site:
        """The site of an Application; it is set up when it is first asked for."""
        site = self._sites.get(application.name)
        if site is None:
            environment = self._environments.get(application.environment)
            if environment is None:
                # Numbers of their own: what an Application comes with must not shift what callers make.
                environment = self._environments[application.environment] = Environment(self.book, itertools.count(1))
            site = self._sites[application.name] = Site(self, application, environment)
            environment.sites.append(site)
        return site
