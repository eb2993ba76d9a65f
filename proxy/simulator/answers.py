"""Answers are the world in the JSON of the Integration API: sessions, customers, events, and what a call asked for.

The entities of `responseContent` are given where they exist; `effects`, `createdCoupons` and `createdReferrals` are
always there.
"""

from collections.abc import Callable, Sequence
from typing import Any

from proxy.simulator import answers_codes, answers_loyalty, answers_setup
from proxy.simulator.answers_setup import ACCOUNT_ID, Json
from proxy.simulator.cart import Cart
from proxy.simulator.effects import Effect
from proxy.simulator.evaluation import Evaluation, Event
from proxy.simulator.lifecycle import cart_of
from proxy.simulator.profiles import Profile
from proxy.simulator.rules import Outcome
from proxy.simulator.sessions import Return, Session, State
from proxy.simulator.world import Site


def state(site: Site, evaluation: Evaluation, wanted: Sequence[str] = ()) -> Json:
    """The answer of a call that runs the rules (IntegrationStateV2 and its smaller relatives)."""
    content: Json = {}
    for name in wanted:
        entity = _ENTITIES[name](site, evaluation)
        if entity is not None:
            content[name] = entity
    if evaluation.returned is not None and evaluation.session is not None:
        content["return"] = _return(evaluation.returned, evaluation.session, evaluation.profile)
    content["effects"] = effects(evaluation.effects)
    content["createdCoupons"] = [answers_codes.coupon(one) for one in evaluation.created.coupons]
    content["createdReferrals"] = [answers_codes.referral(one) for one in evaluation.created.referrals]
    return content


def legacy_state(site: Site, evaluation: Evaluation) -> Json:
    """The answer of the v1 routes, as old SDKs expect it: all there is, under other names."""
    content = state(site, evaluation, ("loyalty", "triggeredCampaigns", "ruleFailureReasons", "awardedGiveaways"))
    if evaluation.session is not None:
        session = customer_session(site, evaluation.session)
        codes = session["couponCodes"]
        content["session"] = {
            **session,
            "coupon": codes[0] if codes else "",
            "referral": session["referralCode"],
            "discounts": {
                effect.props["name"]: effect.props["value"]
                for effect in evaluation.effects
                if effect.type == "setDiscount"
            },
        }
    content["profile"] = customer_profile(site, evaluation.profile) if evaluation.profile else None
    content["event"] = event(site, evaluation.event) if evaluation.event else None
    return content


def session_state(site: Site, session: Session) -> Json:
    """The answer of GET /v2/customer_sessions/{id}."""
    return {"customerSession": customer_session(site, session), "effects": effects(session.effects)}


def inventory(site: Site, profile: Profile, wanted: Sequence[str]) -> Json:
    """What there is of a customer."""
    return {name: _INVENTORY[name](site, profile) for name in wanted}


def effects(given: Sequence[Effect]) -> list[Json]:
    """Effects in the order the rules gave them."""
    return [_effect(effect) for effect in given]


def customer_session(site: Site, session: Session) -> Json:
    """A session, with empty values for what the shop never set."""
    # Totals are those of the whole cart, also after a return.
    cart = Cart.of(session.content, site.environment.price_of) if session.returns else cart_of(site, session)
    return {
        "id": session.id,
        "created": session.created,
        "updated": session.updated,
        "integrationId": session.integration_id,
        "applicationId": session.application_id,
        "profileId": session.profile,
        "state": session.state,
        "couponCodes": [],
        "referralCode": "",
        "loyaltyCards": [],
        "additionalCosts": {},
        "identifiers": [],
        "attributes": {},
        **session.content,
        "cartItems": _cart_items(site, session),
        "firstSession": session.first_session,
        "updateCount": session.update_count,
        "total": cart.total,
        "cartItemTotal": cart.items_total,
        "additionalCostTotal": cart.costs_total,
        "cartItemAdditionalCostTotal": cart.item_costs_total,
    }


def customer_profile(site: Site, profile: Profile) -> Json:
    """A profile."""
    return {
        "id": profile.id,
        "created": profile.created,
        "integrationId": profile.integration_id,
        "attributes": profile.attributes,
        "accountId": ACCOUNT_ID,
        "closedSessions": profile.closed_sessions,
        "totalSales": profile.total_sales,
        "loyaltyMemberships": None,
        "audienceMemberships": [
            {"id": audience.id, "name": audience.name}
            for audience in site.environment.audiences.of(profile.integration_id)
        ],
        "lastActivity": profile.last_activity,
        "sandbox": is_sandbox(site),
    }


def event(site: Site, one: Event) -> Json:
    """An event of a call."""
    return {
        "id": one.id,
        "created": one.created,
        "applicationId": site.application.id,
        "profileId": one.profile,
        "type": one.type,
        "attributes": one.attributes,
        "effects": effects(one.effects),
        "ledgerEntries": [],
        **({"sessionId": one.session} if one.session else {}),
    }


def advanced_event(site: Site, one: Event) -> Json:
    """An advanced event. SDKs of early 2026 want the capital D."""
    connected = {"connectedSessionId": one.connected_session, "connectedSessionID": one.connected_session}
    return {
        **event(site, one),
        "integrationId": one.integration_id,
        **(connected if one.connected_session else {}),
    }


def is_sandbox(site: Site) -> bool:
    """Whether the environment is one for trying things: it is called so."""
    return site.application.environment == "sandbox"


def _effect(effect: Effect) -> Json:
    content: Json = {
        "campaignId": effect.campaign.id,
        "rulesetId": effect.campaign.id,
        "ruleIndex": effect.rule,
        "ruleName": effect.rule_name,
        "effectType": effect.type,
        "props": effect.props,
    }
    if effect.coupon is not None:
        content["triggeredByCoupon"] = effect.coupon
    return content


def _cart_items(site: Site, session: Session) -> list[Json]:
    items: Sequence[Json] = session.content.get("cartItems", ())
    returned = session.returned
    return [_cart_item(site, position, item, returned.get(position, 0)) for position, item in enumerate(items)]


def _cart_item(site: Site, position: int, item: Json, returned: int) -> Json:
    content = {
        **item,
        "position": position,
        "returnedQuantity": returned,
        "remainingQuantity": item["quantity"] - returned,
    }
    if (known := site.environment.item(item["sku"])) is not None:
        content["catalogItemID"] = known.id
        if item.get("price") is None and known.price is not None:
            content["price"] = known.price
    return content


def _return(one: Return, session: Session, profile: Profile | None) -> Json:
    items: Sequence[Json] = session.content.get("cartItems", ())
    customer = {"profileId": profile.id, "profileIntegrationId": profile.integration_id} if profile else {}
    return {
        "id": one.id,
        "created": one.created,
        "applicationId": session.application_id,
        "accountId": ACCOUNT_ID,
        "returnedCartItems": [
            {"position": position, "quantity": quantity, "sku": items[position]["sku"]}
            for position, quantity in one.units.items()
        ],
        "eventId": one.event,
        "sessionId": session.id,
        "sessionIntegrationId": session.integration_id,
        **customer,
    }


def _session(site: Site, given: Evaluation) -> Json | None:
    return customer_session(site, given.session) if given.session else None


def _profile(site: Site, given: Evaluation) -> Json | None:
    return customer_profile(site, given.profile) if given.profile else None


def _event(site: Site, given: Evaluation) -> Json | None:
    return event(site, given.event) if given.event else None


def _advanced_event(site: Site, given: Evaluation) -> Json | None:
    return advanced_event(site, given.event) if given.event else None


def _loyalty(site: Site, given: Evaluation) -> Json:
    session = given.session
    pending = given.effects if session is not None and (session.state is State.OPEN or given.dry) else ()
    sums = answers_loyalty.tentative(pending)
    # Card details are given for the card that the call names.
    cards = [given.card] if given.card else []
    return answers_loyalty.loyalty(site.book.loyalty_programs, given.profile, cards, sums, given.moment)


def _coupons(site: Site, given: Evaluation) -> list[Json]:
    codes = dict.fromkeys(given.session.content.get("couponCodes", ())) if given.session else {}
    known = [coupon for code in codes if (coupon := site.coupons.find(code))]
    return [answers_codes.coupon_of_session(coupon, _redemptions(site, given.profile, coupon.code)) for coupon in known]


def _referral(site: Site, given: Evaluation) -> Json | None:
    code = given.session.content.get("referralCode") if given.session else None
    referral = site.referrals.find(code) if code else None
    return answers_codes.referral_of_inventory(referral) if referral else None


def _triggered_campaigns(site: Site, given: Evaluation) -> list[Json]:
    triggered = {
        effect.campaign.id: effect.campaign for effect in given.effects if not effect.type.startswith("reject")
    }
    return [answers_setup.campaign(site.application, one, given.moment) for one in triggered.values()]


def _awarded_giveaways(_site: Site, given: Evaluation) -> list[Json]:
    codes = {effect.props["code"] for effect in given.effects if effect.type == "awardGiveaway"}
    profile = given.profile
    awarded = [one for one in profile.giveaways if one.code in codes] if profile else []
    return [answers_codes.giveaway(one, profile) for one in awarded if profile]


def _achievements(site: Site, given: Evaluation) -> list[Json]:
    profile = given.profile
    if profile is None:
        return []
    return [
        answers_codes.achievement_of_call(one, profile.rounds.get(one.id, []), given.moment)
        for one in site.book.achievements
    ]


def _previous_returns(_site: Site, given: Evaluation) -> list[Json]:
    session = given.session
    if session is None:
        return []
    return [_return(one, session, given.profile) for one in session.returns if one is not given.returned]


def _eligibility(site: Site, given: Evaluation) -> list[Json] | None:
    return answers_setup.eligibility(site.application, given.outcome or Outcome()) if given.dry else None


_ENTITIES: dict[str, Callable[[Site, Evaluation], Any]] = {
    "customerSession": _session,
    "customerProfile": _profile,
    "event": _event,
    "advancedEvent": _advanced_event,
    "loyalty": _loyalty,
    "coupons": _coupons,
    "triggeredCampaigns": _triggered_campaigns,
    "referral": _referral,
    "awardedGiveaways": _awarded_giveaways,
    "achievements": _achievements,
    "previousReturns": _previous_returns,
    "ruleFailureReasons": lambda _, given: answers_setup.failures(given.outcome or Outcome()),
    "campaignEligibility": _eligibility,
}


def _inventory_loyalty(site: Site, profile: Profile) -> Json:
    cards = site.environment.cards.of(profile.integration_id)
    return answers_loyalty.loyalty(site.book.loyalty_programs, profile, cards, {}, site.now())


def _inventory_coupons(site: Site, profile: Profile) -> list[Json]:
    """Those that are reserved for a customer, visible to all, or were redeemed by this one."""
    moment, customer = site.now(), profile.integration_id
    return [
        answers_codes.coupon_of_inventory(one, redeemed, moment)
        for one in site.coupons
        if (redeemed := _redemptions(site, profile, one.code))
        or one.terms.visible
        or customer in one.reservations
        or one.terms.recipient == customer
    ]


def _inventory_achievements(site: Site, profile: Profile) -> list[Json]:
    moment = site.now()
    return [
        answers_codes.achievement_of_inventory(
            one, profile.rounds.get(one.id, []), campaign_of(site, one.campaign), moment
        )
        for one in site.book.achievements
    ]


def campaign_of(site: Site, name: str) -> int:
    """The id of a campaign of the rule book."""
    return next(one.id for one in site.book.campaigns if one.name == name)


_INVENTORY: dict[str, Callable[[Site, Profile], Any]] = {
    "profile": customer_profile,
    "loyalty": _inventory_loyalty,
    "referrals": lambda site, profile: [
        answers_codes.referral_of_inventory(one)
        for one in site.referrals
        if one.terms.advocate == profile.integration_id
    ],
    "coupons": _inventory_coupons,
    "giveaways": lambda _, profile: [answers_codes.giveaway(one, profile) for one in profile.giveaways],
    "achievements": _inventory_achievements,
}
INVENTORY = tuple(_INVENTORY)


def _redemptions(site: Site, profile: Profile | None, code: str) -> int:
    # A Counter would make an entry of every question.
    return profile.redeemed.get((site.application.name, code), 0) if profile else 0
