"""The life of a session: what updating, returning and reopening do to it, for good or only in a trial.

A PUT is merged into what is stored; a dry one sees only what was sent and leaves no trace. Closing books what the
session has earned; cancelling, reopening and returning undo it.
"""

from collections.abc import Mapping, Sequence, Set
from dataclasses import replace
from datetime import datetime
from decimal import Decimal

from proxy.simulator.amounts import money, whole
from proxy.simulator.booking import Booker, share_of
from proxy.simulator.cards import Card
from proxy.simulator.cart import Cart
from proxy.simulator.effects import Effect
from proxy.simulator.evaluation import Created, Evaluation, Event
from proxy.simulator.payload import ReturnedItem, SessionUpdate
from proxy.simulator.problems import Problem, invalid
from proxy.simulator.profiles import Profile
from proxy.simulator.rules import Outcome, evaluate
from proxy.simulator.scene import Scene
from proxy.simulator.sessions import Return, Session, State, after_put, event_type, impossible, merge
from proxy.simulator.world import Site


def get(site: Site, session_id: str) -> Session:
    """A stored session, or what the API answers for none."""
    session = site.sessions.get(session_id)
    if session is None:
        raise Problem(site.book.unknowns.unknown_session, "Customer session not found")
    return session


def cart_of(site: Site, session: Session) -> Cart:
    """The cart of a session, without what came back."""
    return Cart.of(session.content, site.environment.price_of, session.returned)


def update(site: Site, session_id: str, sent: SessionUpdate) -> Evaluation:
    """Merge a PUT into the session, creating it and its profile where needed, and run the rules."""
    stored = site.sessions.get(session_id)
    before = stored.state if stored else None
    unknowns = site.book.unknowns
    ignores = unknowns.update_of_closed == "ignore" and sent.state is not State.CANCELLED
    if ignores and stored is not None and before is not State.OPEN:
        profile = site.known_profile(stored.profile)
        return Evaluation(site.now(), stored.effects, None, stored, profile, card_of(site, stored))
    after = after_put(before, sent.state)
    moment = site.now()
    session = stored or _new_session(site, session_id, moment)
    if before in (None, State.OPEN):
        _link(site, session, sent.profile)
        session.content = merge(session.content, sent.content, unknowns)
    # Else it is cancelled, which undoes what was booked: nothing but the state may change.
    session.updated = moment
    session.update_count += 1
    profile = site.profile(session.profile) if session.profile else None
    if profile is not None:
        profile.last_activity = moment
    kind = event_type(before, after, unknowns)
    if after is State.CANCELLED:
        effects, outcome, created = _cancel(site, session, profile, moment), Outcome(), Created()
    else:
        session.state = after
        effects, outcome, created = _run(site, session, profile, moment)
    event = Event(site.next_id(), moment, kind, session.profile, session_id, effects=effects)
    return Evaluation(moment, effects, outcome, session, profile, card_of(site, session), event, created)


def attempt(site: Site, session_id: str, sent: SessionUpdate, *, at: datetime | None = None) -> Evaluation:
    """What a PUT of only this would give for a session that did not exist before. Stores nothing."""
    moment = at or site.now()
    state = after_put(None, sent.state)
    session = Session(0, site.application.id, session_id, moment, moment, state, sent.profile or "", update_count=1)
    session.content = dict(sent.content)
    profile = _known_or_transient(site, session.profile, moment)
    session.first_session = profile is None or profile.sessions == 0
    outcome = evaluate(site.place, _scene(site, session, profile, moment, only=sent.campaigns))
    session.effects = outcome.effects
    kind = event_type(None, state, site.book.unknowns)
    event = Event(0, moment, kind, session.profile, session_id, effects=outcome.effects)
    card = card_of(site, session)
    return Evaluation(moment, outcome.effects, outcome, session, profile, card, event, dry=True)


def reopen(site: Site, session_id: str) -> Evaluation:
    """Make a closed session an open one again, and undo what was booked."""
    session = get(site, session_id)
    if session.state is not State.CLOSED:
        raise impossible(session.state, "reopened")
    moment = site.now()
    profile = site.profile(session.profile) if session.profile else None
    session.updated = moment
    session.update_count += 1
    effects = _unbook(site, session, profile, moment)
    session.state = State.OPEN
    event = Event(site.next_id(), moment, "talon_session_reopened", session.profile, session_id, effects=effects)
    return Evaluation(moment, effects, None, session, profile, card_of(site, session), event)


def give_back(site: Site, session_id: str, items: Sequence[ReturnedItem], *, run_rules: bool, dry: bool) -> Evaluation:
    """Return items: undo what they earned. `run_rules` looks again at the campaigns that are set up for it."""
    session = get(site, session_id)
    allowed = {State.CLOSED, State.PARTIALLY_RETURNED} if site.book.unknowns.further_returns else {State.CLOSED}
    if session.state not in allowed:
        raise impossible(session.state, "returned")
    units = _units(session, items)
    moment = site.now()
    profile = _known_or_transient(site, session.profile, moment)
    returned = Return(0 if dry else site.next_id(), moment, 0 if dry else site.next_id(), units)
    value = cart_of(site, session).items_total
    after = replace(session, state=State.PARTIALLY_RETURNED, returns=(*session.returns, returned), updated=moment)
    after.update_count += 1
    value -= cart_of(site, after).items_total
    again = frozenset(
        effect.campaign.id for effect in session.effects if run_rules and effect.campaign.reevaluate_on_return
    )
    gone = [effect for effect in session.effects if _goes(effect, units, session, again)]
    shares = _shares(site, session, set(gone), value)
    booker = Booker(site, moment, profile, after)
    if dry:
        undone = tuple(effect.undoing() for effect in reversed(gone))
        undone += tuple(effect.undoing(value=share) for effect, share in shares.items())
    else:
        undone = booker.undo(gone)
        undone += tuple(one for effect, share in shares.items() if (one := booker.undo_share(effect, share)))
    after.effects = tuple(_less(effect, shares.get(effect)) for effect in session.effects if effect not in set(gone))
    outcome = None
    if run_rules:
        outcome = evaluate(site.place, _scene(site, after, profile, moment, only=again))
        anew = tuple(effect for effect in outcome.effects if effect.undone_by and effect.campaign.id in again)
        after.effects += anew
        undone += anew
        if not dry:
            booker.settle(anew)
    if not dry:
        site.sessions[session_id] = after
        if profile is not None:
            profile.total_sales -= value
            profile.last_activity = moment
    kind = "talon_session_partially_returned"
    event = Event(returned.event, moment, kind, session.profile, session_id, effects=undone)
    card = card_of(site, after)
    return Evaluation(moment, undone, outcome, after, profile, card, event, returned=returned, dry=dry)


def card_of(site: Site, session: Session) -> Card | None:
    """The loyalty card that a session names, if it exists."""
    cards = session.content.get("loyaltyCards")
    return site.environment.cards.find(cards[0]) if cards else None


def _new_session(site: Site, session_id: str, moment: datetime) -> Session:
    session = Session(site.next_id(), site.application.id, session_id, moment, moment)
    site.sessions[session_id] = session
    return session


def _known_or_transient(site: Site, profile_id: str, moment: datetime) -> Profile | None:
    if not profile_id:
        return None
    return site.known_profile(profile_id) or Profile(0, profile_id, moment, moment)


def _link(site: Site, session: Session, named: str | None) -> None:
    """Link another profile, none (empty), or keep the link (None)."""
    if named is None or named == session.profile:
        return
    session.profile = named
    session.first_session = True
    if named:
        profile = site.profile(named)
        session.first_session = profile.sessions == 0
        profile.sessions += 1


def _scene(
    site: Site, session: Session, profile: Profile | None, moment: datetime, *, only: frozenset[int] | None = None
) -> Scene:
    return Scene(
        moment,
        f"{site.application.name}/{session.integration_id}/{session.id}/{session.update_count}",
        cart_of(site, session),
        profile=profile,
        card=card_of(site, session),
        first_session=session.first_session,
        closed=session.booked,
        only=only,
        made=session.made,
    )


def _run(
    site: Site, session: Session, profile: Profile | None, moment: datetime
) -> tuple[tuple[Effect, ...], Outcome, Created]:
    scene = _scene(site, session, profile, moment)
    outcome = evaluate(site.place, scene)
    session.effects = outcome.effects
    booker = Booker(site, moment, profile, session)
    created = booker.lasting(outcome.effects)
    if session.state is State.CLOSED:
        booker.settle(outcome.effects)
        if profile is not None:
            profile.closed_sessions += 1
            profile.total_sales += scene.cart.total
    return outcome.effects, outcome, created


def _cancel(site: Site, session: Session, profile: Profile | None, moment: datetime) -> tuple[Effect, ...]:
    effects: tuple[Effect, ...] = ()
    if session.booked:
        effects = _unbook(site, session, profile, moment)
    else:
        session.effects = ()
    session.state = State.CANCELLED
    return effects


def _unbook(site: Site, session: Session, profile: Profile | None, moment: datetime) -> tuple[Effect, ...]:
    """Undo all that stands of a closed session; what cannot be undone goes on standing."""
    if profile is not None:
        profile.closed_sessions -= 1
        profile.total_sales -= cart_of(site, session).total
    undone = Booker(site, moment, profile, session).undo(session.effects)
    session.effects = tuple(effect for effect in session.effects if not effect.undone_by)
    return undone


def _units(session: Session, items: Sequence[ReturnedItem]) -> Mapping[int, int]:
    """Which units come back, by position; a 400 where there are not so many."""
    lines = session.content.get("cartItems", ())
    left = {position: line["quantity"] - session.returned.get(position, 0) for position, line in enumerate(lines)}
    units: dict[int, int] = {}
    for index, item in enumerate(items):
        wanted = item.quantity
        for position, line in enumerate(lines):
            if position == item.position or (item.position is None and line["sku"] == item.sku):
                taken = min(wanted, left[position])
                if taken:
                    units[position] = units.get(position, 0) + taken
                    left[position] -= taken
                    wanted -= taken
        if wanted:
            details = "the session has not so many of this item left"
            raise invalid("Invalid value", details, pointer=f"/returnedCartItems/{index}")
    return units


def _goes(effect: Effect, units: Mapping[int, int], session: Session, again: frozenset[int]) -> bool:
    """Whether a return undoes an effect: it is for a unit that comes back, or its campaign is looked at again."""
    if not effect.undone_by:
        return False
    if effect.campaign.id in again:
        return True
    position = effect.position
    if position is None or position not in units:
        return False
    # The last units of an item go first.
    left = session.content["cartItems"][position]["quantity"] - session.returned.get(position, 0)
    return bool(left - units[position] <= effect.unit < left)


def _shares(site: Site, session: Session, gone: Set[Effect], value: Decimal) -> dict[Effect, Decimal]:
    """The part of each session-wide discount and point that the returned value stands for, if so switched."""
    if not site.book.unknowns.returns_scale_session_effects:
        return {}
    total = cart_of(site, session).total
    shares = {
        effect: _ROUNDING[effect.type](share_of(effect.props["value"], value, total))
        for effect in reversed(session.effects)
        if effect.type in _ROUNDING and effect.position is None and effect not in gone
    }
    return {effect: share for effect, share in shares.items() if share}


def _less(effect: Effect, share: Decimal | None) -> Effect:
    """What still stands of an effect."""
    return replace(effect, props={**effect.props, "value": effect.props["value"] - share}) if share else effect


_ROUNDING = {"setDiscount": money, "addLoyaltyPoints": whole}
