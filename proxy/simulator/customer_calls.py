"""Calls about customers: profiles, audiences, events, achievements, and what there is of each."""

from proxy.simulator import answers, answers_codes, answers_setup, attributes, customers, payload, payload_loyalty
from proxy.simulator.audiences import Audience
from proxy.simulator.calls import Answer, Kind, Operation, Request, Table, found, json
from proxy.simulator.payload import TrackedEvent
from proxy.simulator.problems import invalid_parameter


def _update_profile(request: Request) -> Operation:
    site, (profile,) = request.site, request.ids
    update = payload.profile_update(request.body)
    attributes.check(site.book.declared, ("CustomerProfile", update.attributes, "/attributes"))
    run_rules = request.flag("runRuleEngine")
    # Without the Rule Engine there is nothing to try and nothing to add: `dry` and `responseContent` need it.
    wanted = update.wanted if run_rules else ()
    dry = run_rules and request.dry

    def perform() -> Answer:
        evaluation = customers.update(site, profile, update, run_rules=run_rules, dry=dry)
        return json(answers.state(site, evaluation, wanted))

    return request.operation(Kind.DRY if dry else Kind.APPLIED, perform, profile=profile, counts=True)


def _update_profiles(request: Request) -> Operation:
    site, silent = request.site, request.silent
    updates = payload.profile_updates(request.body)
    attributes.check(
        site.book.declared,
        *(
            ("CustomerProfile", values, f"/customerProfiles/{index}/attributes")
            for index, (_, values) in enumerate(updates)
        ),
    )

    def work() -> object:
        profiles = customers.update_many(site, updates)
        states = [{"customerProfile": answers.customer_profile(site, profile)} for profile in profiles]
        return None if silent else {"integrationStates": states}

    return request.write(work, status=204 if silent else 200)


def _legacy_profile(request: Request) -> Operation:
    site, (profile,) = request.site, request.ids
    update = payload.profile_update(request.body)
    attributes.check(site.book.declared, ("CustomerProfile", update.attributes, "/attributes"))
    dry = site.book.unknowns.legacy_dry and request.dry

    def perform() -> Answer:
        return json(answers.legacy_state(site, customers.update(site, profile, update, run_rules=True, dry=dry)))

    counts = site.book.unknowns.legacy_counts
    return request.operation(Kind.DRY if dry else Kind.APPLIED, perform, profile=profile, counts=counts)


def _inventory(request: Request) -> Operation:
    site, (profile,) = request.site, request.ids
    wanted = [name for name in answers.INVENTORY if request.flag(name)]
    return request.read(lambda: answers.inventory(site, customers.get(site, profile), wanted), profile=profile)


def _achievements(request: Request) -> Operation:
    site, (profile,) = request.site, request.ids
    campaigns, ids = request.listed("campaignIds"), request.listed("achievementIds")
    wanted_status = request.listed("achievementStatus", ("active", "scheduled")) or ("active",)
    wanted_progress = request.listed("currentProgressStatus", ("inprogress", "completed", "not_started"))
    window = request.window(default=1000)

    def render() -> object:
        customer, moment = customers.get(site, profile), site.now()
        all_of_them = [
            answers_codes.achievement(
                one, customer.rounds.get(one.id, []), answers.campaign_of(site, one.campaign), moment
            )
            for one in site.book.achievements
        ]
        rows = [
            row
            for row in all_of_them
            if (not campaigns or str(row["campaignId"]) in campaigns)
            and (not ids or str(row["id"]) in ids)
            and row["status"] in wanted_status
            and (not wanted_progress or row["currentProgress"]["status"] in wanted_progress)
        ]
        return window.total_page(rows)

    return request.read(render, profile=profile)


def _achievement_history(request: Request) -> Operation:
    site, (profile, _) = request.site, request.ids
    number = request.numbered(1)
    start, end = request.moment("startDate"), request.moment("endDate")
    wanted = request.listed("progressStatus", ("inprogress", "completed", "expired"))
    window = request.window(default=1000)

    def render() -> object:
        customer, moment = customers.get(site, profile), site.now()
        found(next((one for one in site.book.achievements if one.id == number), None), "Achievement")
        rows = [
            answers_codes.progress(one, moment)
            for one in customer.rounds.get(number, [])
            if (start is None or one.start >= start)
            and (end is None or one.start <= end)
            and (not wanted or one.status(moment) in wanted)
        ]
        return window.total_page(rows)

    return request.read(render, profile=profile)


def _forget(request: Request) -> Operation:
    site, (profile,) = request.site, request.ids
    return request.write(lambda: customers.forget(site, profile), status=204, profile=profile)


def _track(request: Request) -> Operation:
    site, dry, silent = request.site, request.dry, request.silent
    tracked = payload.tracked_event(request.body)
    _check_event(request, tracked)

    def perform() -> Answer:
        evaluation = customers.track(site, tracked, dry=dry)
        return Answer(204) if silent else json(answers.state(site, evaluation, tracked.wanted))

    kind = Kind.DRY if dry else Kind.APPLIED
    return request.operation(kind, perform, profile=tracked.profile, counts=True)


def _track_advanced(request: Request) -> Operation:
    site, dry, silent = request.site, request.dry, request.silent
    tracked = payload.advanced_event(request.body)
    _check_event(request, tracked)
    unknowns = site.book.unknowns

    def perform() -> Answer:
        evaluation = customers.track_advanced(site, tracked, dry=dry)
        if silent and unknowns.silent_v3_status == 204:
            return Answer(204)
        return json(answers.state(site, evaluation, () if silent else tracked.wanted))

    kind = Kind.DRY if dry else Kind.APPLIED
    return request.operation(kind, perform, profile=tracked.profile, counts=unknowns.events_v3_count)


def _legacy_event(request: Request) -> Operation:
    site = request.site
    tracked = payload.legacy_event(request.body)
    _check_event(request, tracked)
    dry = site.book.unknowns.legacy_dry and request.dry

    def perform() -> Answer:
        return json(answers.legacy_state(site, customers.track(site, tracked, dry=dry)))

    counts = site.book.unknowns.legacy_counts
    profile = tracked.profile or site.linked_profile(tracked.session)
    return request.operation(Kind.DRY if dry else Kind.APPLIED, perform, profile=profile, counts=counts)


def _get_advanced(request: Request) -> Operation:
    site, (event,) = request.site, request.ids
    return request.read(lambda: answers.advanced_event(site, customers.advanced_event(site, event)))


def _check_event(request: Request, tracked: TrackedEvent) -> None:
    attributes.check(request.site.book.declared, ("Event", tracked.attributes, "/attributes"))
    if request.flag("forceCompleteEvaluation") and not request.dry:
        raise invalid_parameter("Invalid value", "needs dry=true", parameter="forceCompleteEvaluation")


def _create_audience(request: Request) -> Operation:
    site = request.site
    new = payload_loyalty.new_audience(request.body)

    def work() -> object:
        audience = Audience(
            site.next_id(), site.now(), new.name, new.description, new.integration, new.integration_id, new.third_party
        )
        site.environment.audiences.add(audience)
        return answers_setup.audience(audience, sandbox=answers.is_sandbox(site))

    return request.write(work, status=201)


def _rename_audience(request: Request) -> Operation:
    site, number = request.site, request.numbered(0)
    name = payload_loyalty.audience_name(request.body)

    def work() -> object:
        audience = site.environment.audiences.get(number)
        audience.name = name
        return answers_setup.audience(audience, sandbox=answers.is_sandbox(site))

    return request.write(work)


def _delete_audience(request: Request) -> Operation:
    audiences, number = request.site.environment.audiences, request.numbered(0)
    return request.write(lambda: audiences.remove(number), status=204)


def _empty_audience(request: Request) -> Operation:
    audiences, number = request.site.environment.audiences, request.numbered(0)
    return request.write(lambda: audiences.get(number).members.clear(), status=204)


def _change_audiences(request: Request) -> Operation:
    site, changes = request.site, payload.audience_changes(request.body)
    return request.write(lambda: customers.change_audiences(site, changes), status=204)


def _set_attributes(request: Request) -> Operation:
    site, number, values = request.site, request.numbered(0), payload.attributes(request.body)
    attributes.check(site.book.declared, ("CustomerProfile", values, ""))
    return request.write(lambda: customers.set_attributes(site, number, values), status=204)


TABLE: Table = {
    "updateCustomerProfileV2": ("PUT /v2/customer_profiles/{}", _update_profile),
    "updateCustomerProfilesV2": ("PUT /v2/customer_profiles", _update_profiles),
    "updateCustomerProfile": ("PUT /v1/customer_profiles/{}", _legacy_profile),
    "getCustomerInventory": ("GET /v1/customer_profiles/{}/inventory", _inventory),
    "getCustomerAchievements": ("GET /v1/customer_profiles/{}/achievements", _achievements),
    "getCustomerAchievementHistory": ("GET /v1/customer_profiles/{}/achievements/{}", _achievement_history),
    "deleteCustomerData": ("DELETE /v1/customer_data/{}", _forget),
    "trackEventV2": ("POST /v2/events", _track),
    "trackEventV3": ("POST /v3/events", _track_advanced),
    "getEventV3": ("GET /v3/events/{}", _get_advanced),
    "trackEvent": ("POST /v1/events", _legacy_event),
    "createAudienceV2": ("POST /v2/audiences", _create_audience),
    "updateAudienceV2": ("PUT /v2/audiences/{}", _rename_audience),
    "deleteAudienceV2": ("DELETE /v2/audiences/{}", _delete_audience),
    "deleteAudienceMembershipsV2": ("DELETE /v2/audiences/{}/memberships", _empty_audience),
    "updateCustomerProfileAudiences": ("POST /v2/customer_audiences", _change_audiences),
    "updateAudienceCustomersAttributes": ("PUT /v2/audience_customers/{}/attributes", _set_attributes),
}
