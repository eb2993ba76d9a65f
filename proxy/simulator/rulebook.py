"""The rule book is what somebody set up in the Campaign Manager: campaigns, coupons, loyalty programs, attributes.

It is read from TOML (`rulebook_file`) and never changes while the simulator runs; what changes lives in the world.
Names follow Talon.One: an effect rule has the `type` of the effect it gives. Ids that are left out are positions,
counted from 1. Amounts are exact decimals.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from functools import cached_property
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from proxy.simulator.rulebook_effects import EffectRule
from proxy.simulator.unknowns import Unknowns

EVENT_NAMES = 1000  # whose rules are remembered; callers make up names
UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "D": "days", "W": "weeks"}


class Part(BaseModel):
    """A part of the book: unknown keys are mistakes, and nothing changes afterwards."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def _aware(moment: datetime) -> datetime:
    if moment.tzinfo is None:
        raise ValueError("needs a time zone, such as 2026-01-01T00:00:00Z")
    return moment


def _duration(value: object) -> object:
    """`30s`, `10m`, `1h`, `5D`, `7W`, as Talon.One writes them."""
    if not isinstance(value, str):
        return value
    number, unit = value[:-1], value[-1:]
    if unit not in UNITS or not (number.isascii() and number.isdigit()):
        raise ValueError("write a whole number and one of the units s, m, h, D, W, such as 30D")
    return timedelta(**{UNITS[unit]: int(number)})


def _some(effects: tuple[EffectRule, ...]) -> tuple[EffectRule, ...]:
    # `min_length` would count effects that are wrong as none, and tell of that too.
    if not effects:
        raise ValueError("a rule gives at least one effect")
    return effects


Moment = Annotated[datetime, AfterValidator(_aware)]
Duration = Annotated[timedelta, BeforeValidator(_duration)]
Id = Annotated[int, Field(ge=1)]
Name = Annotated[str, Field(min_length=1)]
Entity = Literal["CustomerProfile", "CustomerSession", "CartItem", "Event", "Referral"]
Kind = Literal["string", "number", "boolean", "time", "location", "(list string)", "(list number)", "(list time)"]
RejectionReason = Literal[
    "CampaignLimitReached",
    "CouponExpired",
    "CouponLimitReached",
    "CouponNotFound",
    "CouponPartOfNotRunningCampaign",
    "CouponPartOfNotTriggeredCampaign",
    "CouponRecipientDoesNotMatch",
    "CouponRejectedByCondition",
    "CouponReservationRequired",
    "CouponStartDateInFuture",
    "EffectCouldNotBeApplied",
    "ProfileLimitReached",
    "ProfileRequired",
]


class Attribute(Part):
    """A declared attribute of one sort of entity."""

    entity: Entity
    name: Name
    type: Kind


class CouponTerms(Part):
    """A coupon code. Limits of 0 are none; `reject` refuses it always, for that reason."""

    code: Name
    usage_limit: int = Field(default=0, ge=0)
    per_profile: int = Field(default=0, ge=0)
    recipient: str = ""
    start: Moment | None = None
    expiry: Moment | None = None
    reservation_mandatory: bool = False
    visible: bool = False
    reject: RejectionReason | None = None
    attributes: dict[str, Any] = {}


class ReferralTerms(Part):
    """A referral code that exists from the start."""

    code: str = Field(min_length=4)
    advocate: Name
    friend: str = ""
    usage_limit: int = Field(default=0, ge=0)
    start: Moment | None = None
    expiry: Moment | None = None


class When(Part):
    """What must hold for a rule. What is left out does not matter; all that is said must hold.

    Without `event` a rule is for sessions; with it, only for events of that name, built-in ones included.
    `coupon` is true for any coupon of the campaign, or a list of codes. Keys of `attributes` are
    `CustomerProfile.Language` and the like.
    """

    event: str | None = None
    coupon: bool | tuple[str, ...] = False
    referral: bool = False
    total_from: Decimal | None = None
    total_below: Decimal | None = None
    skus: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    profile: bool = False
    first_session: bool | None = None
    card: bool = False
    audience: str | None = None
    attributes: dict[str, Any] = {}


class Rule(Part):
    """Conditions, and the effects they lead to."""

    name: Name
    when: When = When()
    then: Annotated[tuple[EffectRule, ...], AfterValidator(_some)]


class Campaign(Part):
    """Rules that belong together, with their coupons. No `applications`: it runs in all of them."""

    id: Id = 0
    name: Name
    description: str = ""
    state: Literal["enabled", "disabled"] = "enabled"
    start: Moment | None = None
    end: Moment | None = None
    tags: tuple[Annotated[str, Field(min_length=1, max_length=50)], ...] = ()
    attributes: dict[str, Any] = {}
    applications: tuple[str, ...] = ()
    coupon_limit: int = Field(default=0, ge=0)
    referral_limit: int = Field(default=0, ge=0)
    reevaluate_on_return: bool = False
    coupons: tuple[CouponTerms, ...] = ()
    referrals: tuple[ReferralTerms, ...] = ()
    rules: tuple[Rule, ...] = ()

    @cached_property
    def always(self) -> bool:
        """Whether it runs at any moment."""
        return self.state == "enabled" and self.start is None and self.end is None

    def running(self, moment: datetime) -> bool:
        """Whether its rules are looked at."""
        return (
            self.state == "enabled"
            and (self.start is None or self.start <= moment)
            and (self.end is None or moment < self.end)
        )

    def frontend_state(self, moment: datetime) -> str:
        """What the Campaign Manager would show."""
        if self.state == "disabled":
            return "disabled"
        if self.start is not None and moment < self.start:
            return "scheduled"
        return "running" if self.running(moment) else "expired"

    @cached_property
    def features(self) -> tuple[str, ...]:
        """What it uses, in the words of the API."""
        types = {effect.type for rule in self.rules for effect in rule.then}
        used = {
            "coupons": self.coupons or any(rule.when.coupon for rule in self.rules) or "couponCreated" in types,
            "referrals": self.referrals or any(rule.when.referral for rule in self.rules),
            "loyalty": types & {"addLoyaltyPoints", "deductLoyaltyPoints"},
            "giveaways": "awardGiveaway" in types,
            "achievements": "increaseAchievementProgress" in types,
        }
        return tuple(name for name, uses in used.items() if uses)


class Tier(Part):
    """A level of a loyalty program, from so many active points."""

    name: Name
    points_from: Decimal = Field(alias="from", gt=0)


class Program(Part):
    """A loyalty program. `pending`: how long points wait, or `on_action`; `expiry`: how long they live."""

    id: Id = 0
    name: Name
    title: str = ""
    cards: bool = False
    pending: Duration | Literal["on_action"] | None = None
    expiry: Duration | None = None
    subledgers: tuple[str, ...] = ()
    tiers: tuple[Tier, ...] = ()
    users_per_card: int = Field(default=0, ge=0)
    card_pattern: str = Field(default="CARD-######", min_length=4)
    negative_balance: bool = False

    @cached_property
    def ladder(self) -> tuple[tuple[int, Tier], ...]:
        """The tiers from the lowest to the highest, each with its id."""
        return tuple(enumerate(sorted(self.tiers, key=lambda tier: tier.points_from), start=1))


class Achievement(Part):
    """Something to be completed by `target` steps. `period` counts from the first step."""

    id: Id = 0
    name: str = Field(pattern=r"^[a-zA-Z]\w+$")
    title: Name
    description: str = ""
    campaign: str
    target: Decimal = Field(gt=0)
    recurrence: Literal["no_recurrence", "on_expiration", "on_completion"] = "no_recurrence"
    period: Duration | None = None
    start: Moment | None = None
    end: Moment | None = None
    rollback_after_completion: bool = False


class Pool(Part):
    """Giveaway codes, given out in order."""

    id: Id = 0
    name: Name
    codes: tuple[Name, ...] = ()


class Audience(Part):
    """A list of customers that exists from the start."""

    id: Id = 0
    name: Name


class Item(Part):
    """An item of a catalog."""

    sku: Name
    price: Decimal | None = None
    attributes: dict[str, Any] = {}


class Catalog(Part):
    """Items whose price a cart need not name."""

    id: Id = 0
    name: Name
    description: str = ""
    items: tuple[Item, ...] = ()


class Rulebook(Part):
    """Everything that was set up."""

    unknowns: Unknowns = Unknowns()
    attributes: tuple[Attribute, ...] = ()
    campaigns: tuple[Campaign, ...] = ()
    loyalty_programs: tuple[Program, ...] = ()
    achievements: tuple[Achievement, ...] = ()
    giveaway_pools: tuple[Pool, ...] = ()
    audiences: tuple[Audience, ...] = ()
    catalogs: tuple[Catalog, ...] = ()

    @model_validator(mode="before")
    @classmethod
    def _number(cls, given: Any) -> Any:
        """Give ids by position where none is written."""
        if not isinstance(given, dict):
            return given
        return {
            key: _numbered(value) if key in _WITH_IDS and isinstance(value, list) else value
            for key, value in given.items()
        }

    def with_unknowns(self, given: Mapping[str, Any]) -> "Rulebook":
        """The same book with some switches set anew, by name."""
        unknowns = Unknowns.model_validate(self.unknowns.model_dump() | dict(given))
        return self.model_copy(update={"unknowns": unknowns})

    @cached_property
    def declared(self) -> dict[str, dict[str, str]]:
        """Types of attributes, by entity and name. An entity that is not in it takes any attribute."""
        declared: dict[str, dict[str, str]] = {}
        for attribute in self.attributes:
            declared.setdefault(attribute.entity, {})[attribute.name] = attribute.type
        return declared

    @cached_property
    def campaign_by_id(self) -> dict[int, Campaign]:
        """Campaigns by id."""
        return {campaign.id: campaign for campaign in self.campaigns}

    @cached_property
    def program_by_name(self) -> dict[str, Program]:
        """Loyalty programs by name."""
        return {program.name: program for program in self.loyalty_programs}

    @cached_property
    def program_by_id(self) -> dict[int, Program]:
        """Loyalty programs by id."""
        return {program.id: program for program in self.loyalty_programs}

    @cached_property
    def achievement_by_name(self) -> dict[str, Achievement]:
        """Achievements by name."""
        return {achievement.name: achievement for achievement in self.achievements}

    @cached_property
    def pool_by_name(self) -> dict[str, Pool]:
        """Giveaway pools by name."""
        return {pool.name: pool for pool in self.giveaway_pools}

    def campaigns_of(self, application: str) -> Sequence[Campaign]:
        """The campaigns of an Application, in the order of the book."""
        if application not in self._campaigns_of:
            self._campaigns_of[application] = tuple(
                campaign
                for campaign in self.campaigns
                if not campaign.applications or application in campaign.applications
            )
        return self._campaigns_of[application]

    def rules_for(self, application: str, event: str) -> Sequence[tuple[Campaign, int, Rule]]:
        """The rules of an Application that hang on no code: those for an event, or those for sessions (empty)."""
        key = (application, event)
        if key not in self._rules_for and len(self._rules_for) < EVENT_NAMES:
            self._rules_for[key] = tuple(self._rules(application, event))
        return self._rules_for.get(key) or tuple(self._rules(application, event))

    def _rules(self, application: str, event: str) -> Iterator[tuple[Campaign, int, Rule]]:
        for campaign in self.campaigns_of(application):
            for index, rule in enumerate(campaign.rules):
                when = rule.when
                if not when.coupon and not when.referral and (when.event or "") == event:
                    yield campaign, index, rule

    @cached_property
    def _rules_for(self) -> dict[tuple[str, str], Sequence[tuple[Campaign, int, Rule]]]:
        return {}

    @cached_property
    def _campaigns_of(self) -> dict[str, Sequence[Campaign]]:
        return {}


_WITH_IDS = {"campaigns", "loyalty_programs", "achievements", "giveaway_pools", "audiences", "catalogs"}


def _numbered(entries: list[Any]) -> list[Any]:
    taken = {entry["id"] for entry in entries if isinstance(entry, dict) and isinstance(entry.get("id"), int)}
    free = (number for number in range(1, len(entries) + len(taken) + 1) if number not in taken)
    return [
        {"id": next(free), **entry} if isinstance(entry, dict) and "id" not in entry else entry for entry in entries
    ]
