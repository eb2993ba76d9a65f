"""What calls do to customers: their attributes and audiences, events that happen to them, and forgetting them."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from proxy.simulator.booking import Booker
from proxy.simulator.evaluation import Created, Evaluation, Event
from proxy.simulator.payload import AudienceChange, ProfileUpdate, TrackedEvent
from proxy.simulator.problems import Problem, invalid, not_found
from proxy.simulator.profiles import Profile
from proxy.simulator.rules import Outcome, evaluate
from proxy.simulator.scene import Scene
from proxy.simulator.sessions import State
from proxy.simulator.world import Site

PROFILE_UPDATED = "talon_profile_updated"


def get(site: Site, profile_id: str) -> Profile:
    """A stored profile, or a 404."""
    profile = site.known_profile(profile_id)
    if profile is None:
        raise not_found("Customer profile not found")
    return profile


def update(site: Site, profile_id: str, sent: ProfileUpdate, *, run_rules: bool, dry: bool = False) -> Evaluation:
    """Merge a PUT into the profile, creating it where needed; a dry one stores nothing."""
    moment = site.now()
    _check_audiences(site, sent)
    if dry:
        known = site.known_profile(profile_id) or Profile(0, profile_id, moment, moment)
        profile = replace(known, attributes=_merged(site, known.attributes, sent.attributes))
    else:
        profile = site.profile(profile_id)
        profile.attributes = _merged(site, profile.attributes, sent.attributes)
        _change_audiences(site, profile_id, sent, moment)
    if not run_rules:
        return Evaluation(moment, profile=profile)
    return _happen(site, profile, Event(0, moment, PROFILE_UPDATED, profile_id), moment, sent.campaigns, dry=dry)


def update_many(site: Site, updates: Sequence[tuple[str, Mapping[str, Any]]]) -> list[Profile]:
    """Merge many PUTs, without rules."""
    profiles = []
    for profile_id, attributes in updates:
        profile = site.profile(profile_id)
        profile.attributes = _merged(site, profile.attributes, attributes)
        profiles.append(profile)
    return profiles


def track(site: Site, tracked: TrackedEvent, *, dry: bool = False) -> Evaluation:
    """Note that something happened to a customer, who is created where needed. A dry event leaves no trace."""
    moment = site.now()
    profile = None
    if tracked.profile:
        known = site.known_profile(tracked.profile) if dry else site.profile(tracked.profile)
        profile = known or Profile(0, tracked.profile, moment, moment)
    event = Event(0, moment, tracked.type, tracked.profile, tracked.session, tracked.attributes)
    return _happen(site, profile, event, moment, tracked.campaigns, card=tracked.card, dry=dry)


def track_advanced(site: Site, tracked: TrackedEvent, *, dry: bool = False) -> Evaluation:
    """The same for an event with an id of its own: the second of an id is refused, as is one of an open session."""
    if tracked.integration_id in site.events:
        raise Problem(409, site.book.unknowns.duplicate_event_message)
    if tracked.session:
        session = site.sessions.get(tracked.session)
        if session is None or session.state is not State.CLOSED:
            raise invalid("Invalid value", "the session is not closed", pointer="/connectedSessionId")
    evaluation = track(site, tracked, dry=dry)
    assert evaluation.event is not None
    event = replace(
        evaluation.event, integration_id=tracked.integration_id, connected_session=tracked.session, session=""
    )
    if not dry:
        site.events[tracked.integration_id] = event
    return replace(evaluation, event=event)


def advanced_event(site: Site, integration_id: str) -> Event:
    """A stored advanced event, or a 404."""
    event = site.events.get(integration_id)
    if event is None:
        raise not_found("Event not found")
    return event


def change_audiences(site: Site, changes: Sequence[AudienceChange]) -> None:
    """Add customers to audiences, or remove them; 404 for an unknown audience, and then nothing is changed."""
    audiences = [site.environment.audiences.get(change.audience) for change in changes]
    moment = site.now()
    for change, audience in zip(changes, audiences, strict=True):
        if change.adds:
            audience.members[site.profile(change.profile).integration_id] = None
        else:
            audience.members.pop(change.profile, None)
        audience.last_update = moment


def set_attributes(site: Site, audience_id: int, attributes: Mapping[str, Any]) -> None:
    """Set attributes of everybody in an audience; 404 for an unknown one."""
    for profile_id in tuple(site.environment.audiences.get(audience_id).members):
        site.profile(profile_id).attributes |= attributes


def forget(site: Site, profile_id: str) -> None:
    """Delete the personal data of a customer: attributes, and those of sessions and events in all Applications."""
    get(site, profile_id).attributes = {}
    site.environment.audiences.forget(profile_id)
    for one in site.environment.sites:
        for session in one.sessions:
            if session.profile == profile_id:
                session.content.pop("attributes", None)
        for event in [event for event in one.events if event.profile == profile_id]:
            one.events[event.integration_id] = replace(event, attributes={})


def _happen(
    site: Site,
    profile: Profile | None,
    event: Event,
    moment: datetime,
    campaigns: frozenset[int] | None,
    *,
    card: str = "",
    dry: bool,
) -> Evaluation:
    """Run the rules for an event, and book what it earns at once."""
    held = site.environment.cards.find(card) if card else None
    number = 0 if dry else site.next_id()
    token = f"{site.application.name}/event/{number}"
    scene = Scene(
        moment,
        token,
        event=event.type,
        event_attributes=event.attributes,
        profile=profile,
        card=held,
        only=campaigns if dry else None,
    )
    outcome: Outcome = evaluate(site.place, scene)
    created = Created()
    if not dry:
        booker = Booker(site, moment, profile, event=number)
        created = booker.lasting(outcome.effects)
        booker.settle(outcome.effects)
        if profile is not None:
            profile.last_activity = moment
    event = replace(event, id=number, effects=outcome.effects)
    return Evaluation(moment, outcome.effects, outcome, None, profile, held, event, created, dry=dry)


def _merged(site: Site, stored: Mapping[str, Any], sent: Mapping[str, Any]) -> dict[str, Any]:
    if not site.book.unknowns.attributes_merge and sent:
        return dict(sent)
    return {**stored, **sent}


def _check_audiences(site: Site, sent: ProfileUpdate) -> None:
    for name, ids in (("adds", sent.joins), ("deletes", sent.leaves)):
        for index, audience_id in enumerate(ids):
            try:
                site.environment.audiences.get(audience_id)
            except Problem as error:
                pointer = f"/audiencesChanges/{name}/{index}"
                raise invalid("Invalid value", "there is no such audience", pointer=pointer) from error


def _change_audiences(site: Site, profile_id: str, sent: ProfileUpdate, moment: datetime) -> None:
    for audience_id in sent.joins:
        site.environment.audiences.get(audience_id).members[profile_id] = None
    for audience_id in sent.leaves:
        site.environment.audiences.get(audience_id).members.pop(profile_id, None)
    for audience_id in (*sent.joins, *sent.leaves):
        site.environment.audiences.get(audience_id).last_update = moment
