"""An evaluation is what came of a call that ran the rules; answers are rendered from it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from proxy.simulator.cards import Card
from proxy.simulator.coupons import Coupon
from proxy.simulator.effects import Effect
from proxy.simulator.profiles import Profile
from proxy.simulator.referrals import Referral
from proxy.simulator.rules import Outcome
from proxy.simulator.sessions import Return, Session


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened. `integration_id` and `connected_session` are those of an advanced event."""

    id: int
    created: datetime
    type: str
    profile: str = ""
    session: str = ""
    attributes: Mapping[str, Any] = field(default_factory=dict)
    effects: tuple[Effect, ...] = ()
    integration_id: str = ""
    connected_session: str = ""


@dataclass(frozen=True, slots=True)
class Created:
    """What rules created."""

    coupons: tuple[Coupon, ...] = ()
    referrals: tuple[Referral, ...] = ()


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What came of a call. `outcome` is None where no rule ran; `dry` calls stored nothing."""

    moment: datetime
    effects: tuple[Effect, ...] = ()
    outcome: Outcome | None = None
    session: Session | None = None
    profile: Profile | None = None
    card: Card | None = None
    event: Event | None = None
    created: Created = Created()
    returned: Return | None = None
    dry: bool = False
