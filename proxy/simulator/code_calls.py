"""Calls about campaigns, their coupons and referrals, and catalogs."""

from datetime import timedelta

from proxy.simulator import answers, answers_codes, answers_setup, catalogs, codes, payload_loyalty
from proxy.simulator.calls import Operation, Request, Table, found
from proxy.simulator.coupons import Coupon
from proxy.simulator.payload_loyalty import NewReferrals
from proxy.simulator.problems import invalid
from proxy.simulator.referrals import Referral
from proxy.simulator.rulebook import Campaign, ReferralTerms
from proxy.simulator.world import Site


def _campaigns(request: Request) -> Operation:
    site, ids = request.site, request.listed("campaignIds")
    names = ("startAfter", "startBefore", "endAfter", "endBefore")
    start_after, start_before, end_after, end_before = (request.moment(name) for name in names)
    window = request.window(default=50)
    # Nothing is linked to stores or audiences here.
    linked = bool(request.first("storeId") or request.first("audienceId"))

    def wanted(one: Campaign) -> bool:
        return (
            (not ids or str(one.id) in ids)
            and (start_after is None or (one.start is not None and one.start >= start_after))
            and (start_before is None or (one.start is not None and one.start <= start_before))
            and (end_after is None or (one.end is not None and one.end >= end_after))
            and (end_before is None or (one.end is not None and one.end <= end_before))
        )

    def render() -> object:
        moment = site.now()
        campaigns = site.book.campaigns_of(site.application.name)
        rows = [one for one in campaigns if one.running(moment) and wanted(one) and not linked]
        return window.page(rows, lambda one: answers_setup.integration_campaign(site.application, one))

    return request.read(render)


def _reserve(request: Request) -> Operation:
    site, (code,) = request.site, request.ids
    customers = payload_loyalty.reservation(request.body)

    def work() -> object:
        coupon = _coupon(site, code)
        coupon.reservations |= {site.profile(customer).integration_id: None for customer in customers}
        return answers_codes.coupon(coupon)

    return request.write(work, status=201, profile=customers[0] if len(customers) == 1 else "")


def _release(request: Request) -> Operation:
    site, (code,) = request.site, request.ids
    customers = payload_loyalty.reservation(request.body)

    def work() -> None:
        coupon = _coupon(site, code)
        for customer in customers:
            coupon.reservations.pop(customer, None)

    return request.write(work, status=204, profile=customers[0] if len(customers) == 1 else "")


def _reserved(request: Request) -> Operation:
    site, (code,) = request.site, request.ids

    def render() -> object:
        customers = [site.profile(customer) for customer in _coupon(site, code).reservations]
        rows = [answers.customer_profile(site, customer) for customer in customers]
        return {"totalResultSize": len(rows), "data": rows}

    return request.read(render)


def _refer(request: Request) -> Operation:
    site, new = request.site, payload_loyalty.new_referral(request.body)
    return request.write(
        lambda: answers_codes.referral(_referral(site, new, new.advocates[0])), status=201, profile=new.advocates[0]
    )


def _refer_many(request: Request) -> Operation:
    site, silent, new = request.site, request.silent, payload_loyalty.new_referrals(request.body)

    def work() -> object:
        made = [answers_codes.referral(_referral(site, new, advocate)) for advocate in new.advocates]
        return None if silent else {"totalResultSize": len(made), "data": made}

    return request.write(work, status=204 if silent else 201)


def _best_price(request: Request) -> Operation:
    environment = request.site.environment
    question = payload_loyalty.price_question(request.body)

    def render() -> object:
        rows = []
        for sku in question.skus:
            item = environment.item(sku)
            if item is None:
                continue
            end = catalogs.window_end(item.prices, question.kind, question.end)
            start = end - timedelta(days=question.days)
            # Only a strict end belongs to the time itself: else it is where the present price began.
            prices = [price for price in item.prices if question.kind == "strict" or price.observed < end]
            price = catalogs.lowest(prices, start, end)
            if price is not None:
                rows.append(answers_setup.best_price(item, price))
        return rows

    return request.read(render)


def _sync(request: Request) -> Operation:
    site, number = request.site, request.numbered(0)
    actions, version = payload_loyalty.catalog_sync(request.body)

    def work() -> object:
        catalog = found(site.environment.catalogs.get(number), "Catalog")
        catalog.sync(actions, version, site.now(), site.ids)
        return answers_setup.catalog(catalog, [one.application for one in site.environment.sites])

    return request.write(work)


def _coupon(site: Site, code: str) -> Coupon:
    coupon: Coupon = found(site.coupons.find(code), "Coupon")
    return coupon


def _referral(site: Site, new: NewReferrals, advocate: str) -> Referral:
    campaign = next((one for one in site.book.campaigns_of(site.application.name) if one.id == new.campaign), None)
    if campaign is None:
        raise invalid("Invalid value", "there is no such campaign", pointer="/campaignId")
    number = site.next_id()
    token = f"{site.application.name}/referral/{number}"
    code = codes.fill(new.pattern, token, site.referrals.find, new.letters)
    terms = ReferralTerms(
        code=code,
        advocate=site.profile(advocate).integration_id,
        friend=new.friend,
        usage_limit=new.usage_limit,
        start=new.start,
        expiry=new.expiry,
    )
    referral = Referral(number, site.now(), campaign, terms, dict(new.attributes))
    site.referrals.create(referral)
    return referral


TABLE: Table = {
    "integrationGetAllCampaigns": ("GET /v1/integration/campaigns", _campaigns),
    "createCouponReservation": ("POST /v1/coupon_reservations/{}", _reserve),
    "deleteCouponReservation": ("DELETE /v1/coupon_reservations/{}", _release),
    "getReservedCustomers": ("GET /v1/coupon_reservations/customerprofiles/{}", _reserved),
    "createReferral": ("POST /v1/referrals", _refer),
    "createReferralsForMultipleAdvocates": ("POST /v1/referrals_for_multiple_advocates", _refer_many),
    "bestPriorPrice": ("POST /v1/best_prior_price", _best_price),
    "syncCatalog": ("PUT /v1/catalogs/{}/sync", _sync),
}
