"""Rules of planning: who calls, with what, which API; campaigns, attributes and imports."""

import re

from proxy.talon.checklist.facts import Facts
from proxy.talon.checklist.past import CUT, SESSION_PUTS, Past
from proxy.talon.checklist.rule import (
    ATTRIBUTES,
    BROKEN,
    KEYS,
    PASSED,
    SESSIONS,
    Finding,
    Outcome,
    Point,
    Rule,
    Severity,
)

_LEGACY = frozenset({"updateCustomerSession", "updateCustomerProfile", "trackEvent"})
_BULK = frozenset({"updateCustomerProfilesV2", "updateCustomerProfileAudiences"})
# Paths of the Management API that a shop may take for a way to read; refused without `management.api_key`.
_MANAGEMENT = tuple(
    b"/v1/" + name
    for name in (
        b"applications",
        b"attributes",
        b"campaigns",
        b"coupons",
        b"exports",
        b"sessions",
        b"users",
        b"webhooks",
    )
)
_POINTS = re.compile(rb"/v1/loyalty_programs/[^/?]+/(?:profile|cards)/[^/?]+/(?:add|deduct)_points(?:\Z|\?)")
_WITH_ATTRIBUTES = frozenset(
    {"updateCustomerSessionV2", "updateCustomerSession", "updateCustomerProfileV2", "trackEventV2", "trackEventV3"}
)
_WRONG_ATTRIBUTE = frozenset({"Unknown", "Invalid type"})
IMPORT_AFTER = 30  # in a row, within ten seconds


def _browser(facts: Facts, _: Past) -> Outcome:
    return BROKEN if facts.caller.page else PASSED


def _copied(facts: Facts, _: Past) -> Outcome:
    return Finding(facts.caller.family) if facts.caller.copied else PASSED


def _key(facts: Facts, _: Past) -> Outcome:
    return Finding(facts.caller.family) if facts.caller.key else PASSED


def _legacy(facts: Facts, _: Past) -> Outcome:
    if facts.operation in _LEGACY:
        return Finding(facts.operation)
    return Finding(facts.caller.family) if facts.caller.legacy else PASSED


def _resend(facts: Facts, past: Past) -> Outcome:
    if not facts.whole or facts.call.method not in (b"PUT", b"POST", b"DELETE"):
        return None
    if not past.cut:
        return PASSED
    left = past.cut.get(facts.fingerprint())
    return Finding(facts.caller.family) if left is not None and facts.started - left <= CUT else PASSED


def _management(facts: Facts, _: Past) -> Outcome:
    target = facts.call.target
    if facts.operation == "management" or (
        facts.operation == "other" and (target.startswith(_MANAGEMENT) or _POINTS.match(target))
    ):
        return Finding("path")
    return Finding("key") if facts.caller.management else PASSED


def _no_effects(facts: Facts, _: Past) -> Outcome:
    if facts.reply is None or not facts.succeeded or "effects" not in facts.reply:
        return None
    return PASSED if facts.effects else BROKEN


def _undefined(facts: Facts, _: Past) -> Outcome:
    for title, place in facts.errors:
        if title in _WRONG_ATTRIBUTE and "/attributes/" in place:
            return Finding(place)
    return PASSED if facts.succeeded and _sends_attributes(facts) else None


def _sends_attributes(facts: Facts) -> bool:
    items = facts.content.get("cartItems")
    return bool(facts.content.get("attributes")) or (
        isinstance(items, list) and any(isinstance(item, dict) and item.get("attributes") for item in items)
    )


def _bulk(facts: Facts, past: Past) -> Outcome:
    if facts.operation in _BULK:
        return PASSED if facts.succeeded else None
    return Finding(facts.caller.family) if past.singles[1] >= IMPORT_AFTER else None


def _closed_import(facts: Facts, past: Past) -> Outcome:
    # Without a cart it is the end of one that another proxy has seen.
    if facts.state != "closed" or not facts.cart or not facts.succeeded or facts.dry or past.session(facts) is not None:
        return None
    return Finding(facts.caller.family) if past.imports[1] >= IMPORT_AFTER else PASSED


RULES = (
    Rule(
        "callers.browser",
        Point.BACKEND,
        Severity.PROBLEM,
        1,
        "A web page calls this proxy: whoever opens it can call Talon.One in the shop's name.",
        "Call from the shop's backend alone, and keep `clients.allow_browsers = false`.",
        look=_browser,
        title="No calls from browsers",
    ),
    Rule(
        "callers.copied-headers",
        Point.BACKEND,
        Severity.ADVICE,
        1,
        "A backend passes on header fields of its visitors' browsers, which is how a web page would call.",
        "Send a header of your own: no `Origin`, `Sec-Fetch-*`, `Cookie`, and no browser's `User-Agent`.",
        tolerated=0.01,
        look=_copied,
        title="Backends send their own headers",
    ),
    Rule(
        "callers.key",
        Point.BACKEND,
        Severity.WARNING,
        1,
        "A caller still holds what looks like an API key, though the proxy adds its own.",
        "Take the key out of the caller's settings: `Authorization: ApiKey-v1 none`, or none at all.",
        KEYS,
        look=_key,
        title="No caller holds an API key",
    ),
    Rule(
        "sdk.legacy",
        Point.SDK,
        Severity.WARNING,
        20,
        "A legacy SDK or a v1 route is used; Talon.One keeps them until 2027-03-31.",
        "Move to the current SDK of your language: `PUT /v2/customer_sessions/{id}`, `POST /v2/events`.",
        tolerated=0.001,
        look=_legacy,
        title="Current SDK and routes",
    ),
    Rule(
        "sdk.resend",
        Point.SDK,
        Severity.WARNING,
        20,
        "A caller leaves before its answer and sends the same bytes again, while the first may still be carried out.",
        "Give the client more time than `upstream.timeouts.total`, and switch its own retries off: `retries=False`.",
        tolerated=0.01,
        times=3,
        look=_resend,
        title="No blind repeats after a time-out",
    ),
    Rule(
        "apis.management",
        Point.APIS,
        Severity.WARNING,
        20,
        "The Management API is called among a shop's calls; it takes 3 calls a second for each endpoint.",
        "Read with the Integration API (`GET /v1/integration/campaigns`), or once, in a job of its own.",
        tolerated=0.01,
        look=_management,
        title="Integration API on the hot path",
    ),
    Rule(
        "campaigns.no-effects",
        Point.CAMPAIGNS,
        Severity.ADVICE,
        200,
        "No answer ever had an effect: no rule applied. Out of season that may be right.",
        "Run a campaign without an end date, and see one effect: `talon-proxy checklist effects`.",
        tolerated=0.999999,
        replies=True,
        operations=SESSION_PUTS | {"trackEventV2", "trackEventV3"},
        look=_no_effects,
        title="Campaigns give effects",
    ),
    Rule(
        "attributes.undefined",
        Point.ATTRIBUTES,
        Severity.PROBLEM,
        5,
        "Calls are refused because of attributes that Talon.One does not know, or knows with another type.",
        "Create them in the Campaign Manager first: `talon-proxy checklist attributes` lists what is sent.",
        ATTRIBUTES,
        operations=_WITH_ATTRIBUTES,
        look=_undefined,
        title="Attributes exist before they are sent",
    ),
    Rule(
        "import.bulk",
        Point.IMPORT,
        Severity.ADVICE,
        1,
        "Profiles come one by one, and more than three a second: an import, or a large shop, where it is right.",
        "Send a thousand at a time: `PUT /v2/customer_profiles`.",
        operations=_BULK | {"updateCustomerProfileV2"},
        look=_bulk,
        title="Profiles are imported in bulk",
    ),
    Rule(
        "import.closed-sessions",
        Point.IMPORT,
        Severity.ADVICE,
        20,
        "Sessions come closed, and more than three a second: an import beside the shop's calls, or many points of sale,"
        " where it is right.",
        "Import at night and slowly, through a proxy of its own: `limits.concurrency = 10`.",
        SESSIONS,
        tolerated=0.02,
        operations=SESSION_PUTS,
        look=_closed_import,
        title="Orders are imported apart",
    ),
)
