"""Rules of answers and of operation: effects, errors, connections."""

from proxy.talon.checklist import names
from proxy.talon.checklist.facts import Facts, props
from proxy.talon.checklist.past import AGAIN, EVENT_POSTS, REOPEN, RETURNS, SESSION_PUTS, Past
from proxy.talon.checklist.rule import (
    BROKEN,
    CHECKLIST,
    EFFECTS,
    PASSED,
    Finding,
    Outcome,
    Point,
    Rule,
    Severity,
)

# As documented (facts §12).
EFFECT_TYPES = frozenset(
    {"acceptCoupon", "rejectCoupon", "couponCreated", "reserveCoupon", "rollbackCoupon"}
    | {"acceptReferral", "rejectReferral", "referralCreated", "rollbackReferral", "redeemReferral"}
    | {"setDiscount", "setDiscountPerItem", "setDiscountPerAdditionalCost", "setDiscountPerAdditionalCostPerItem"}
    | {"rollbackDiscount", "addLoyaltyPoints", "deductLoyaltyPoints", "rollbackAddedLoyaltyPoints"}
    | {"rollbackDeductedLoyaltyPoints", "changeLoyaltyTierLevel", "extendLoyaltyPointsExpiryDate"}
    | {"setLoyaltyPointsExpiryDate", "addFreeItem", "awardGiveaway", "willAwardGiveaway", "showNotification"}
    | {"showBundleMetadata", "updateAttribute", "triggerWebhook", "customEffect", "error"}
    | {"addToAudience", "removeFromAudience", "startAchievementProgress", "increaseAchievementProgress"}
    | {"rollbackIncreasedAchievementProgress"}
)
OTHER = "other"
_DEPRECATED = frozenset({"redeemReferral", "showBundleMetadata"})
# Talon.One has done it: a shop has nothing to do but what it likes.
_NEEDS_NOTHING = frozenset(
    {"updateAttribute", "triggerWebhook", "addToAudience", "removeFromAudience", "startAchievementProgress"}
    | {"increaseAchievementProgress", "rollbackIncreasedAchievementProgress"}
)
# The shop could have sent what was missing; all other reasons are about the coupon, or the customer.
_SHOPS_FAULT = frozenset({"ProfileRequired"})
_EVALUATING = SESSION_PUTS | EVENT_POSTS | {RETURNS, REOPEN, "updateCustomerProfileV2"}
_LOST = frozenset({"connect", "lost", "tls"})
REPEATED = 3  # times the same bytes, of which all but the last were refused


def _deprecated(facts: Facts, _: Past) -> Outcome:
    found = sorted(facts.effect_types & _DEPRECATED)
    return Finding(found[0]) if found else PASSED if facts.effects else None


def _unknown(facts: Facts, _: Past) -> Outcome:
    found = sorted(facts.effect_types - EFFECT_TYPES)
    return Finding(names.name(found[0])) if found else PASSED if facts.effects else None


def _error(facts: Facts, _: Past) -> Outcome:
    if not facts.effects:
        return None
    return BROKEN if "error" in facts.effect_types else PASSED


def _profile_required(facts: Facts, _: Past) -> Outcome:
    reasons = rejections(facts)
    found = sorted(_SHOPS_FAULT & set(reasons))
    if found:
        return Finding(found[0])
    return PASSED if reasons or "acceptCoupon" in facts.effect_types else None


def rejections(facts: Facts) -> list[str]:
    """Give why coupons and referrals were rejected."""
    kinds = ("rejectCoupon", "rejectReferral")
    if facts.effect_types.isdisjoint(kinds):
        return []
    return [
        names.name(props(effect).get("rejectionReason"))
        for effect in facts.effects
        if effect.get("effectType") in kinds
    ]


def unhandled(handled: frozenset[str]) -> Rule:
    """Make the rule of `checklist.effects_handled`."""

    def look(facts: Facts, _: Past) -> Outcome:
        if not handled or not facts.effects:
            return None
        found = sorted(facts.effect_types - handled - _NEEDS_NOTHING)
        return Finding(names.name(found[0])) if found else PASSED

    return Rule(
        "effects.unhandled",
        Point.EFFECTS,
        Severity.PROBLEM,
        10,
        "Effects come that the shop does not handle, by `checklist.effects_handled`: a promotion is promised and not"
        " given.",
        "Handle them, and add them to `checklist.effects_handled`; `talon-proxy checklist effects` lists what comes.",
        EFFECTS,
        operations=_EVALUATING,
        look=look,
        replies=True,
        title="Every effect is handled",
    )


def _repeated(facts: Facts, past: Past) -> Outcome:
    if facts.status not in (400, 404) or not facts.upstream:
        return None
    count, since = past.refused.get(facts.fingerprint(), (0, 0.0))
    # Calls that began before the refusal did not know of it.
    return BROKEN if count >= REPEATED - 1 and 0.0 <= facts.started - since <= AGAIN else PASSED


def _refused(facts: Facts, _: Past) -> Outcome:
    if not facts.upstream:
        return None
    if facts.status in (400, 401, 403, 405, 413, 422, 429):
        return Finding(error_name(facts))
    return PASSED


def error_name(facts: Facts) -> str:
    """Give status, title and normalised pointer of an error."""
    return " ".join(filter(None, (str(facts.status), *next(iter(facts.errors), ()))))


def _turned_away(facts: Facts, _: Past) -> Outcome:
    if facts.timeline.joined:
        return None
    if facts.upstream:
        return Finding("403") if facts.status == 403 else PASSED
    return Finding("no connection") if facts.call.error in _LOST else None


def _reused(facts: Facts, _: Past) -> Outcome:
    if not facts.upstream or not facts.sent:
        return None
    return PASSED if facts.timeline.reused or not facts.timeline.connect else Finding(seconds=_opening(facts))


def _opening(facts: Facts) -> float:
    return facts.timeline.connect + facts.timeline.tls


def _kept(facts: Facts, _: Past) -> Outcome:
    if facts.caller.family.startswith(_ONE_CALL_EACH):
        return None  # a process of its own for each visit: one connection each by nature
    return Finding(facts.caller.family) if facts.timeline.opens else PASSED


# PHP-FPM keeps nothing from one visit to the next; so do a shell's programs.
_ONE_CALL_EACH = ("GuzzleHttp", "PHP", "SDK php ", "Symfony", "curl", "Wget")


def _bypassed(facts: Facts, past: Past) -> Outcome:
    session = past.session(facts)
    count = facts.update_count
    if facts.operation not in SESSION_PUTS or not facts.sent or count is None or session is None or session.base < 0:
        return None
    known = past.counts.get(facts.session)
    if known is None:
        return None
    # Since the last answer that told: this write of ours, those whose answers did not tell, and doubtful ones.
    ours = 1 + session.writes - known.writes + session.doubts - known.doubts
    return BROKEN if count > known.last + ours else PASSED


RULES = (
    Rule(
        "effects.deprecated",
        Point.EFFECTS,
        Severity.WARNING,
        10,
        "Effects come that Talon.One has deprecated.",
        "Replace them in the campaign's rules: `acceptReferral` for `redeemReferral`.",
        EFFECTS,
        operations=_EVALUATING,
        look=_deprecated,
        replies=True,
        title="No deprecated effects",
    ),
    Rule(
        "effects.unknown",
        Point.EFFECTS,
        Severity.ADVICE,
        10,
        "Effects come of types that this proxy does not know: they are new, or something else answers.",
        "See that the shop passes over types it does not know: `default: break`.",
        EFFECTS,
        operations=_EVALUATING,
        look=_unknown,
        replies=True,
        title="Known effects",
    ),
    Rule(
        "effects.error",
        Point.EFFECTS,
        Severity.WARNING,
        10,
        "Answers have an `error` effect: a rule failed inside a call that succeeded.",
        "Read its `props.message`, mend the rule, and log such effects: `if effect.effectType == 'error'`.",
        EFFECTS,
        operations=_EVALUATING,
        look=_error,
        tolerated=0.001,
        replies=True,
        title="Rules do not fail",
    ),
    Rule(
        "effects.profile-required",
        Point.EFFECTS,
        Severity.WARNING,
        10,
        "Coupons are rejected because the session names no customer.",
        'Send the customer with the coupon: `"profileId": customer.id`.',
        EFFECTS,
        operations=_EVALUATING,
        look=_profile_required,
        tolerated=0.01,
        replies=True,
        title="Coupons come with their customer",
    ),
    Rule(
        "errors.not-handled",
        Point.ERRORS,
        Severity.WARNING,
        5,
        "What Talon.One refused as wrong is sent again, byte for byte, within seconds.",
        "Do not repeat 400 and 404: `if (status < 500 && status != 409 && status != 429) throw`.",
        look=_repeated,
        tolerated=0.05,
        times=2,
        title="What is wrong is not repeated",
    ),
    Rule(
        "errors.rate",
        Point.ERRORS,
        Severity.WARNING,
        100,
        "Talon.One refuses more than one call in a hundred.",
        "`talon-proxy checklist errors` lists them by title and place; begin with the first.",
        look=_refused,
        tolerated=0.01,
        title="Few calls are refused",
    ),
    Rule(
        "connections.allowlist",
        Point.ALLOWLIST,
        Severity.WARNING,
        20,
        "Talon.One turns this proxy away: its address may not be on the list that was sent to it.",
        "Send the address to Talon.One's support: `talon-proxy doctor` shows it.",
        look=_turned_away,
        tolerated=0.5,
        title="The address is on the list",
    ),
    Rule(
        "connections.reuse",
        Point.CONNECTION,
        Severity.ADVICE,
        100,
        "Calls often wait for a new connection to Talon.One, with its handshakes.",
        "More warm ones (`upstream.connections.warm = 8`); if Talon.One or something on the way closes them, a shorter"
        " `upstream.connections.idle_timeout`.",
        look=_reused,
        tolerated=0.1,
        title="Connections to Talon.One are reused",
    ),
    Rule(
        "connections.callers",
        Point.CONNECTION,
        Severity.ADVICE,
        100,
        "A caller opens a connection to the proxy for nearly every call.",
        "One client for the whole process, with keep-alive: `const agent = new http.Agent({ keepAlive: true })`.",
        look=_kept,
        tolerated=0.5,
        title="Callers keep their connections",
    ),
    Rule(
        "connections.bypass",
        Point.CONNECTION,
        Severity.WARNING,
        20,
        "Sessions were updated more often than this proxy did it: another replica, or somebody who goes past it. Put"
        " the files of all replicas together to know (`talon-proxy checklist --merge`).",
        "Point every caller at the proxy: base URL `http://127.0.0.1:7410`.",
        operations=SESSION_PUTS,
        look=_bypassed,
        replies=True,
        title="Nobody goes past the proxy",
    ),
    Rule(
        "relocation.ready",
        Point.RELOCATION,
        Severity.ADVICE,
        1,
        "The deployment's URL could not be changed at once.",
        "deploy/RELOCATION.md has the steps.",
        CHECKLIST,
        title="Ready for another URL",
    ),
)
