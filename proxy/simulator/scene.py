"""The scene is what rules look at: the place they hold, and the cart, customer and event of one call."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from proxy.simulator.audiences import Audiences
from proxy.simulator.cards import Card
from proxy.simulator.cart import Cart
from proxy.simulator.coupons import Coupons
from proxy.simulator.giveaways import Giveaways
from proxy.simulator.profiles import Profile
from proxy.simulator.referrals import Referrals
from proxy.simulator.rulebook import Rulebook


@dataclass(frozen=True, slots=True)
class Place:
    """Where rules are looked at: an Application of an environment."""

    book: Rulebook
    application: str
    coupons: Coupons
    referrals: Referrals
    giveaways: Giveaways
    audiences: Audiences


@dataclass(slots=True, eq=False)  # not frozen, as effects
class Scene:
    """What rules look at. An empty `event` is a session; `only` limits the campaigns, and runs those that are off.

    `token` makes the ids of this evaluation its own. `made` are things that rules created earlier for this session,
    which are not created again.
    """

    moment: datetime
    token: str
    cart: Cart = field(default_factory=Cart)
    event: str = ""
    event_attributes: Mapping[str, Any] = field(default_factory=dict)
    profile: Profile | None = None
    card: Card | None = None
    first_session: bool = True
    closed: bool = False
    only: frozenset[int] | None = None
    made: Mapping[tuple[int, int, int], object] = field(default_factory=dict)

    @property
    def profile_id(self) -> str:
        """The customer; empty for nobody."""
        return self.profile.integration_id if self.profile else ""


class CannotApply(Exception):
    """An effect cannot be given, so that its rule gives nothing."""
