"""Rules of performance: calls that need not be made, parameters that do nothing; events; parallel updates."""

from collections.abc import Mapping, Sequence

from proxy.talon.checklist.facts import Facts
from proxy.talon.checklist.past import BURST, EVENT_POSTS, PROFILE_PUT, REOPEN, RETURNS, SESSION_PUTS, SOON, Past
from proxy.talon.checklist.rule import (
    BROKEN,
    CONTENT,
    DRY,
    EVENTS,
    PARALLEL,
    PASSED,
    Finding,
    Outcome,
    Point,
    Rule,
    Severity,
)

PREVIEWS, PREVIEWED_CARTS = 10, 5  # updates of one session, and different carts in them, within `BURST`
EQUAL_WITHIN = 2.0  # seconds
_SESSION_PUT, _EVENT, _EVENT_V3 = "updateCustomerSessionV2", "trackEventV2", "trackEventV3"
# What an update answers if `responseContent` asks for it (facts §12), and which reads that saves.
CONTENT_OF: Mapping[str, frozenset[str]] = {
    "customerSession": frozenset({_SESSION_PUT, RETURNS}),
    "customerProfile": frozenset({_SESSION_PUT, RETURNS, PROFILE_PUT, _EVENT, _EVENT_V3}),
    "loyalty": frozenset({_SESSION_PUT, RETURNS, PROFILE_PUT, _EVENT, _EVENT_V3}),
    "coupons": frozenset({_SESSION_PUT, RETURNS}),
    "referral": frozenset({_SESSION_PUT, RETURNS}),
    "awardedGiveaways": frozenset({_SESSION_PUT, PROFILE_PUT, _EVENT, _EVENT_V3}),
    "achievements": frozenset({_SESSION_PUT, PROFILE_PUT, _EVENT}),
}
AVOIDABLE: Mapping[str, str] = {
    "getCustomerSession": "customerSession",
    "getLoyaltyBalances": "loyalty",
    "getCustomerAchievements": "achievements",
}
INVENTORY = "getCustomerInventory"
_OF_INVENTORY: Mapping[str, str] = {
    "profile": "customerProfile",
    "loyalty": "loyalty",
    "coupons": "coupons",
    "referrals": "referral",
    "giveaways": "awardedGiveaways",
    "achievements": "achievements",
}
_PROFILE_PUT = frozenset({PROFILE_PUT})
_ORDERED = SESSION_PUTS | EVENT_POSTS | _PROFILE_PUT | {RETURNS, REOPEN}


def _avoidable(facts: Facts, past: Past) -> Outcome:
    if not facts.succeeded:
        return None
    known = past.session(facts) if facts.operation == "getCustomerSession" else past.profile(facts)
    if known is None:
        return None
    # Not one that began while the write was under way: that is somebody else's.
    if not 0.0 <= facts.started - known.evaluated <= SOON:
        return PASSED
    wanted = _read(facts)
    if not wanted or any(known.bearings not in CONTENT_OF[content] for content in wanted):
        return None  # the update could not have answered it
    return Finding(", ".join(wanted), facts.ended - facts.started)


def _read(facts: Facts) -> Sequence[str]:
    """Give what a read brings, as `responseContent` calls it."""
    if facts.operation == INVENTORY:
        return [content for flag, content in _OF_INVENTORY.items() if facts.query.get(flag)]
    return [AVOIDABLE[facts.operation]]


def _previews(facts: Facts, past: Past) -> Outcome:
    session = past.session(facts)
    if facts.dry or facts.state != "open" or not facts.succeeded or session is None:
        return None
    if facts.started - session.window > BURST:
        return PASSED
    carts = {*session.carts, facts.cart}
    return BROKEN if session.count >= PREVIEWS - 1 and len(carts) >= PREVIEWED_CARTS else PASSED


def _dry_without_cart(facts: Facts, _: Past) -> Outcome:
    if not facts.dry or facts.unread:
        return None
    # An empty cart is one too, if it is sent.
    return PASSED if isinstance(facts.content.get("cartItems"), list) else BROKEN


def _profile_dry(facts: Facts, _: Past) -> Outcome:
    if facts.testing or not facts.query.get("dry"):
        return None
    return PASSED if facts.query.get("runRuleEngine") else BROKEN


def _useless_parameter(facts: Facts, _: Past) -> Outcome:
    return BROKEN if "runRuleEngine" in facts.query else PASSED


def _failure_reasons(facts: Facts, _: Past) -> Outcome:
    if facts.testing or facts.dry or facts.unread:
        return None
    return BROKEN if "ruleFailureReasons" in facts.wanted else PASSED


def _double_event(facts: Facts, past: Past) -> Outcome:
    profile = past.profile(facts)
    if facts.dry or not facts.event or facts.caller.idempotent:
        return None
    if facts.operation == _EVENT_V3:
        return PASSED  # it has an id, by which Talon.One knows that it comes again
    before = profile.events.get(facts.digest(facts.event.encode())) if profile is not None else None
    if before is None:
        return PASSED
    ended, fingerprint, stayed = before
    if not stayed:
        return None  # sent again by a client that had left: `sdk.resend`
    if facts.started < ended:
        return Finding("at the same time")
    equal = facts.started - ended <= EQUAL_WITHIN and facts.fingerprint() == fingerprint
    return Finding("the same again") if equal else PASSED


def _parallel(facts: Facts, _: Past) -> Outcome:
    if facts.dry or not (facts.session or facts.profile):
        return None
    timeline = facts.timeline
    if timeline.lane or timeline.conflicts:
        return Finding(facts.operation, timeline.lane + timeline.backoff)
    return PASSED


RULES = (
    Rule(
        "performance.avoidable-get",
        Point.PERFORMANCE,
        Severity.WARNING,
        20,
        "What an update could have answered is read right after it, in a call of its own.",
        'Ask for it in the update: `"responseContent": ["customerSession"]`; `talon-proxy checklist avoidable` tells'
        " which.",
        CONTENT,
        operations=frozenset(AVOIDABLE) | {INVENTORY},
        look=_avoidable,
        tolerated=0.05,
        times=5,
        title="Updates answer what is needed next",
    ),
    Rule(
        "performance.previews",
        Point.PERFORMANCE,
        Severity.WARNING,
        20,
        "Carts are tried out by updating the session for good: each counts as an update, and may create coupons.",
        "Preview with `?dry=true` and the whole cart.",
        DRY,
        operations=SESSION_PUTS,
        look=_previews,
        tolerated=0.02,
        times=3,
        title="Previews are dry",
    ),
    Rule(
        "performance.dry-without-cart",
        Point.PERFORMANCE,
        Severity.WARNING,
        10,
        "Dry updates come without a cart. They see only what they are sent, so their effects are those of no cart.",
        "Send the whole cart with every dry call: `cartItems`.",
        DRY,
        operations=frozenset({"updateCustomerSessionV2"}),
        look=_dry_without_cart,
        tolerated=0.02,
        title="Dry updates bring the cart",
    ),
    Rule(
        "performance.profile-dry",
        Point.PERFORMANCE,
        Severity.PROBLEM,
        1,
        "`dry=true` on a profile does nothing without `runRuleEngine=true`: the update is stored.",
        "`PUT /v2/customer_profiles/{id}?runRuleEngine=true&dry=true`.",
        DRY,
        operations=_PROFILE_PUT,
        look=_profile_dry,
        title="Dry profile updates are dry",
    ),
    Rule(
        "performance.useless-parameter",
        Point.PERFORMANCE,
        Severity.ADVICE,
        1,
        "Session updates have `runRuleEngine`, which they do not know: rules always run.",
        "Leave it out; a preview is `?dry=true`.",
        DRY,
        operations=frozenset({"updateCustomerSessionV2"}),
        look=_useless_parameter,
        title="Parameters mean something",
    ),
    Rule(
        "performance.failure-reasons",
        Point.PERFORMANCE,
        Severity.WARNING,
        20,
        "`ruleFailureReasons` is asked for in production, where it makes each evaluation slower.",
        "Ask for it in the sandbox alone, or under a Testing key (`applications.<name>.kind = testing`).",
        CONTENT,
        operations=SESSION_PUTS | EVENT_POSTS | _PROFILE_PUT,
        look=_failure_reasons,
        tolerated=0.01,
        title="No debugging in production",
    ),
    Rule(
        "events.double",
        Point.EVENTS,
        Severity.WARNING,
        10,
        "The same event of one customer comes twice at a time: it counts twice.",
        "Send one for each action, with `Idempotency-Key: <id of the action>`, or use `POST /v3/events` with its id.",
        EVENTS,
        operations=EVENT_POSTS,
        look=_double_event,
        tolerated=0.01,
        times=2,
        title="One event for one action",
    ),
    Rule(
        "updates.parallel",
        Point.EVENTS,
        Severity.ADVICE,
        50,
        "Updates of one session or profile come at the same time. The proxy keeps them in order; without it they would"
        " be refused with 409.",
        "Send them one after another: wait for the answer of each.",
        PARALLEL,
        operations=_ORDERED,
        look=_parallel,
        tolerated=0.05,
        title="One update at a time",
    ),
)
