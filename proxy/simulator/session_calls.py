"""Calls about sessions."""

from proxy.simulator import answers, attributes, lifecycle, payload
from proxy.simulator.calls import Answer, Kind, Operation, Request, Table, json
from proxy.simulator.payload import SessionUpdate
from proxy.simulator.problems import invalid_parameter


def _update(request: Request) -> Operation:
    site, (session,) = request.site, request.ids
    update = payload.session_update(request.body)
    attributes.check_session(site.book.declared, update.content)
    at = request.moment("now")
    if at is not None and (not request.dry or at <= site.now()):
        raise invalid_parameter("Invalid value", "must be in the future, and needs dry=true", parameter="now")
    if request.dry:
        return request.operation(
            Kind.DRY,
            lambda: json(answers.state(site, lifecycle.attempt(site, session, update, at=at), update.wanted)),
            session=session,
            profile=update.profile or "",
            counts=True,
        )
    return request.write(
        lambda: answers.state(site, lifecycle.update(site, session, update), update.wanted),
        session=session,
        profile=_profile_of(request, session, update),
        counts=True,
    )


def _get(request: Request) -> Operation:
    site, (session,) = request.site, request.ids
    return request.read(
        lambda: answers.session_state(site, lifecycle.get(site, session)),
        session=session,
        profile=site.linked_profile(session),
    )


def _return(request: Request) -> Operation:
    site, (session,) = request.site, request.ids
    wanted = payload.returned_items(request.body)
    run_rules, dry = request.flag("runRuleEngine"), request.dry

    def perform() -> Answer:
        evaluation = lifecycle.give_back(site, session, wanted.items, run_rules=run_rules, dry=dry)
        return json(answers.state(site, evaluation, wanted.wanted))

    return request.operation(
        Kind.DRY if dry else Kind.APPLIED,
        perform,
        session=session,
        profile=site.linked_profile(session),
        counts=site.book.unknowns.returns_count,
    )


def _reopen(request: Request) -> Operation:
    site, (session,) = request.site, request.ids
    return request.write(
        lambda: {"effects": answers.effects(lifecycle.reopen(site, session).effects)},
        session=session,
        profile=site.linked_profile(session),
        counts=site.book.unknowns.returns_count,
    )


def _legacy_update(request: Request) -> Operation:
    site, (session,) = request.site, request.ids
    update = payload.legacy_session_update(request.body)
    attributes.check_session(site.book.declared, update.content)
    counts = site.book.unknowns.legacy_counts
    if site.book.unknowns.legacy_dry and request.dry:
        return request.operation(
            Kind.DRY,
            lambda: json(answers.legacy_state(site, lifecycle.attempt(site, session, update))),
            session=session,
            profile=update.profile or "",
            counts=counts,
        )
    return request.write(
        lambda: answers.legacy_state(site, lifecycle.update(site, session, update)),
        session=session,
        profile=_profile_of(request, session, update),
        counts=counts,
    )


def _profile_of(request: Request, session: str, update: SessionUpdate) -> str:
    """The named profile, or the linked one: the link may change while the call waits; what counts is what is known
    when it arrives."""
    return request.site.linked_profile(session) if update.profile is None else update.profile


TABLE: Table = {
    "updateCustomerSessionV2": ("PUT /v2/customer_sessions/{}", _update),
    "getCustomerSession": ("GET /v2/customer_sessions/{}", _get),
    "returnCartItems": ("POST /v2/customer_sessions/{}/returns", _return),
    "reopenCustomerSession": ("PUT /v2/customer_sessions/{}/reopen", _reopen),
    "updateCustomerSession": ("PUT /v1/customer_sessions/{}", _legacy_update),
}
