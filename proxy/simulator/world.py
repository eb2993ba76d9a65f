"""The world is what a Talon.One deployment remembers: the sessions of its Applications, and their customers.

Sessions belong to one Application; profiles are shared by all Applications of an environment. A session PUT
is merged into what is stored, property by property; a dry one sees only what was sent and leaves no trace.
Closing a session redeems its coupons and credits its points, cancelling a closed one takes both back.

Every operation is one synchronous step. Clock and ids are handed in.
"""

import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from proxy.simulator import rules
from proxy.simulator.payload import ProfileUpdate, SessionUpdate, TrackedEvent
from proxy.simulator.problems import Problem, invalid, not_found
from proxy.simulator.rules import Cart, Coupon, Effect

# Where a PUT may lead from each state; None is a session that does not exist yet. Everything else is refused:
# `closed` to `open` or `partially_returned` has endpoints of its own, and `cancelled` is the end.
_TRANSITIONS: dict[str | None, frozenset[str]] = {
    None: frozenset({"open", "closed"}),
    "open": frozenset({"open", "closed", "cancelled"}),
    "closed": frozenset({"cancelled"}),
    "partially_returned": frozenset({"cancelled"}),
    "cancelled": frozenset(),
}


@dataclass(frozen=True, slots=True)
class Application:
    """What an API key opens."""

    name: str = "default"
    id: int = 1
    environment: str = "default"


@dataclass(slots=True)
class Profile:
    """A customer. `redeemed` counts by Application and coupon code; `sessions` those ever linked to it."""

    id: int
    integration_id: str
    created: datetime
    last_activity: datetime
    attributes: dict[str, Any] = field(default_factory=dict)
    sessions: int = 0
    closed_sessions: int = 0
    total_sales: float = 0.0
    points: float = 0.0
    redeemed: Counter[tuple[str, str]] = field(default_factory=Counter)

    def redeemed_in(self, application: Application) -> dict[str, int]:
        """How often each coupon of an Application was redeemed."""
        return {code: count for (name, code), count in self.redeemed.items() if name == application.name}


@dataclass(slots=True)
class Session:
    """A cart and its fate. `content` is what the shop sets and PUTs merge; no `profile` is anonymous."""

    id: int
    application: Application
    integration_id: str
    created: datetime
    updated: datetime
    state: str = "open"
    profile: str = ""
    content: dict[str, Any] = field(default_factory=dict)
    effects: tuple[Effect, ...] = ()
    first_session: bool = True
    update_count: int = 0

    @property
    def cart(self) -> Cart:
        """What the rules see of it."""
        transaction = f"{self.application.name}/{self.integration_id}"
        return Cart.of(self.content, profile=self.profile, transaction=transaction)


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened, as rules are told of it."""

    id: int
    created: datetime
    application: Application
    type: str
    profile: str
    session: str
    attributes: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class CouponUse:
    """A coupon of a session, and how often it was redeemed so far."""

    coupon: Coupon
    count: int
    count_of_profile: int


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What came of a call; answers are rendered from it."""

    application: Application
    effects: tuple[Effect, ...] = ()
    session: Session | None = None
    profile: Profile | None = None
    event: Event | None = None
    coupons: tuple[CouponUse, ...] = ()


def now() -> datetime:
    """The time of day, the default clock of a world."""
    return datetime.now(UTC)


class World:
    """State, and the operations that change or read it."""

    def __init__(self, *, clock: Callable[[], datetime] = now, ids: Iterator[int] | None = None) -> None:
        self._clock = clock
        self._ids = itertools.count(1) if ids is None else ids
        self._sessions: dict[tuple[str, str], Session] = {}
        self._profiles: dict[tuple[str, str], Profile] = {}
        self._redeemed: Counter[tuple[str, str]] = Counter()

    def __repr__(self) -> str:
        return f"<World of {len(self._sessions)} sessions and {len(self._profiles)} profiles>"

    def session(self, application: Application, session_id: str) -> Session:
        """A stored session, or a 404."""
        stored = self._sessions.get((application.name, session_id))
        if stored is None:
            raise not_found("Customer session not found")
        return stored

    def linked_profile(self, application: Application, session_id: str) -> str:
        """The profile a stored session belongs to; empty if anonymous or unknown."""
        stored = self._sessions.get((application.name, session_id))
        return stored.profile if stored else ""

    def profile(self, application: Application, profile_id: str) -> Profile | None:
        """A stored profile."""
        return self._profiles.get((application.environment, profile_id))

    def update_session(self, application: Application, session_id: str, update: SessionUpdate) -> Evaluation:
        """Merge a PUT into the session, creating it and its profile where needed, and run the rules."""
        stored = self._sessions.get((application.name, session_id))
        before = stored.state if stored else None
        after = _transition(before, update.state)
        session = stored or self._new_session(application, session_id)
        if before in (None, "open"):
            self._link(session, update.profile)
            session.content = merge(session.content, update.content)
        # Else it is cancelled, which takes back what was booked: nothing but the state may change.
        profile = self._profile(application, session.profile) if session.profile else None
        session.state = after
        session.updated = self._clock()
        session.update_count += 1
        effects = self._settle(session, profile, before)
        return self._evaluation(session, profile, effects, _event_type(before, after))

    def try_session(self, application: Application, session_id: str, update: SessionUpdate) -> Evaluation:
        """What a PUT of only this would give for a session that did not exist before. Stores nothing."""
        moment = self._clock()
        state = update.state or "open"
        session = Session(0, application, session_id, moment, moment, state, update.profile or "", update_count=1)
        session.content = dict(update.content)
        profile = self._known_or_transient(application, session.profile)
        session.first_session = profile is None or profile.sessions == 0
        session.effects = self._evaluate(session, profile)
        event = Event(0, moment, application, _event_type(None, state), session.profile, session_id, {})
        coupons = self._coupon_uses(session, profile)
        return Evaluation(application, session.effects, session, profile, event, coupons)

    def update_profile(
        self, application: Application, profile_id: str, update: ProfileUpdate, *, run_rules: bool
    ) -> Evaluation:
        """Merge a PUT into the profile, creating it where needed."""
        profile = self._profile(application, profile_id)
        profile.attributes |= update.attributes
        if not run_rules:
            return Evaluation(application, profile=profile)
        profile.last_activity = self._clock()
        event = self._event(application, "talon_profile_updated", profile=profile_id)
        return Evaluation(application, profile=profile, event=event)

    def try_profile(self, application: Application, profile_id: str, update: ProfileUpdate) -> Evaluation:
        """What the profile would be after the PUT. Stores nothing."""
        known = self._known_or_transient(application, profile_id)
        assert known is not None
        tried = Profile(
            known.id,
            profile_id,
            known.created,
            known.last_activity,
            {**known.attributes, **update.attributes},
        )
        tried.closed_sessions, tried.total_sales, tried.points = (
            known.closed_sessions,
            known.total_sales,
            known.points,
        )
        event = Event(0, self._clock(), application, "talon_profile_updated", profile_id, "", {})
        return Evaluation(application, profile=tried, event=event)

    def track_event(self, application: Application, tracked: TrackedEvent) -> Evaluation:
        """Note that something happened to a customer, who is created where needed."""
        profile = self._profile(application, tracked.profile) if tracked.profile else None
        if profile is not None:
            profile.last_activity = self._clock()
        event = self._event(
            application, tracked.type, tracked.profile, session=tracked.session, attributes=tracked.attributes
        )
        return Evaluation(application, profile=profile, event=event)

    def try_event(self, application: Application, tracked: TrackedEvent) -> Evaluation:
        """What the event would give. Stores nothing."""
        profile = self._known_or_transient(application, tracked.profile)
        moment = self._clock()
        event = Event(0, moment, application, tracked.type, tracked.profile, tracked.session, tracked.attributes)
        return Evaluation(application, profile=profile, event=event)

    def _new_session(self, application: Application, session_id: str) -> Session:
        moment = self._clock()
        session = Session(next(self._ids), application, session_id, moment, moment)
        self._sessions[application.name, session_id] = session
        return session

    def _profile(self, application: Application, profile_id: str) -> Profile:
        key = (application.environment, profile_id)
        if key not in self._profiles:
            moment = self._clock()
            self._profiles[key] = Profile(next(self._ids), profile_id, moment, moment)
        return self._profiles[key]

    def _known_or_transient(self, application: Application, profile_id: str) -> Profile | None:
        if not profile_id:
            return None
        moment = self._clock()
        return self.profile(application, profile_id) or Profile(0, profile_id, moment, moment)

    def _link(self, session: Session, named: str | None) -> None:
        """Link another profile, none (empty), or keep the link (None)."""
        if named is None or named == session.profile:
            return
        session.profile = named
        session.first_session = True
        if named:
            profile = self._profile(session.application, named)
            session.first_session = profile.sessions == 0
            profile.sessions += 1

    def _settle(self, session: Session, profile: Profile | None, before: str | None) -> tuple[Effect, ...]:
        """Run the rules; redeem what they grant when the session is closed, take it back when revoked."""
        if profile is not None:
            profile.last_activity = session.updated
        if session.state == "cancelled":
            revoked = rules.roll_back(session.effects) if before == "closed" else ()
            if before == "closed":
                self._count(session, profile, -1)
            session.effects = revoked
            return revoked
        session.effects = self._evaluate(session, profile)
        if session.state == "closed":
            self._count(session, profile, +1)
        return session.effects

    def _evaluate(self, session: Session, profile: Profile | None) -> tuple[Effect, ...]:
        return rules.evaluate(session.cart, profile.redeemed_in(session.application) if profile else {})

    def _count(self, session: Session, profile: Profile | None, sign: int) -> None:
        """Book a closed session (+1), or take it back (-1): coupons, points, sales."""
        for effect in session.effects:
            if effect.type == "acceptCoupon":
                used = (session.application.name, effect.props["value"])
                self._redeemed[used] += sign
                if profile is not None:
                    profile.redeemed[used] += sign
            elif effect.type == "addLoyaltyPoints" and profile is not None:
                profile.points += sign * effect.props["value"]
        if profile is not None:
            profile.closed_sessions += sign
            profile.total_sales = rules.money(profile.total_sales + sign * session.cart.total)

    def _evaluation(
        self, session: Session, profile: Profile | None, effects: tuple[Effect, ...], event_type: str
    ) -> Evaluation:
        event = self._event(session.application, event_type, session.profile, session=session.integration_id)
        coupons = self._coupon_uses(session, profile)
        return Evaluation(session.application, effects, session, profile, event, coupons)

    def _coupon_uses(self, session: Session, profile: Profile | None) -> tuple[CouponUse, ...]:
        codes: Iterable[str] = dict.fromkeys(session.content.get("couponCodes", ()))
        known = (rules.COUPONS[code] for code in codes if code in rules.COUPONS)
        name = session.application.name
        return tuple(
            CouponUse(
                coupon,
                self._redeemed[name, coupon.code],
                profile.redeemed[name, coupon.code] if profile else 0,
            )
            for coupon in known
        )

    def _event(
        self,
        application: Application,
        event_type: str,
        profile: str = "",
        *,
        session: str = "",
        attributes: Mapping[str, Any] | None = None,
    ) -> Event:
        return Event(next(self._ids), self._clock(), application, event_type, profile, session, attributes or {})


def merge(stored: Mapping[str, Any], sent: Mapping[str, Any]) -> dict[str, Any]:
    """Sent properties replace stored ones, absent ones stay; attributes are merged one by one."""
    merged = {**stored, **sent}
    if "attributes" in stored and "attributes" in sent:
        merged["attributes"] = {**stored["attributes"], **sent["attributes"]}
    return merged


def _transition(before: str | None, asked: str | None) -> str:
    """The state after a PUT, or a 400. Naming none means no change, which a finished session refuses."""
    after = asked or before or "open"
    if after not in _TRANSITIONS[before]:
        raise _impossible(before, after)
    return after


def _impossible(before: str | None, after: str) -> Problem:
    details = f"a session that is {before or 'new'} cannot become {after}"
    return invalid("Invalid state transition", details, pointer="/state")


def _event_type(before: str | None, after: str) -> str:
    if before is None:
        return "talon_session_created"
    if after == "open":
        return "talon_session_updated"
    return "talon_session_revoked" if before == "closed" else f"talon_session_{after}"
