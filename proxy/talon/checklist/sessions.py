"""Rules of sessions: their ids, their states, and what becomes of an order; and of the profiles they name."""

from proxy.talon.checklist.facts import Facts
from proxy.talon.checklist.past import LASTING, RETURNS, SESSION_PUTS, Past, Session
from proxy.talon.checklist.rule import BROKEN, PARALLEL, PASSED, SESSIONS, Finding, Outcome, Point, Rule, Severity

SAME_CART_IDS = 4  # of open sessions with one cart, above which they are one cart
_OVER = ("closed", "cancelled")
_SENT = ("open", "closed")
FLIPS = 3  # changes of profile: a login is one, a logout after it another


def _id_is_profile(facts: Facts, _: Past) -> Outcome:
    if not facts.session or not facts.profile_named:
        return None
    return BROKEN if facts.session_is_profile else PASSED


def _id_is_email(facts: Facts, _: Past) -> Outcome:
    if not facts.session:
        return None
    return BROKEN if facts.session_is_email else PASSED


def _same_cart(facts: Facts, past: Past) -> Outcome:
    profile = past.profile(facts)
    if profile is None or not facts.cart or facts.dry or facts.state != "open" or not facts.succeeded:
        return None
    if profile.shares(facts.session):
        return None  # guests, who buy what others buy
    ids, _ = profile.carts.get(facts.cart, ((), 0.0))
    return BROKEN if facts.session not in ids and len(ids) >= SAME_CART_IDS - 1 else PASSED


def _never_closed(session: Session) -> Outcome:
    return PASSED if session.closed else None if session.blind else BROKEN


def _write_after_close(facts: Facts, past: Past) -> Outcome:
    session = past.session(facts)
    if facts.dry or not facts.upstream or session is None or not facts.state:
        return None
    if session.state not in _OVER:
        return None if facts.state in _OVER else PASSED
    if facts.state in (session.state, "cancelled"):
        return None  # said twice, or taken back
    refused = facts.status == 400 or (facts.succeeded and facts.state_told == session.state)
    # Taken: somebody reopened it on another way.
    sent = (
        facts.state
        if facts.content.get("state") in _SENT
        else "another state"
        if "state" in facts.content
        else "no state"
    )
    return Finding(f"{sent} sent after {session.state}") if refused else None


def _returned_by_put(facts: Facts, _: Past) -> Outcome:
    if not facts.state:
        return None
    return BROKEN if facts.state == "partially_returned" else PASSED


def _return_without_key(facts: Facts, _: Past) -> Outcome:
    if facts.dry or not facts.upstream:
        return None
    return PASSED if facts.caller.idempotent else BROKEN


def _price_changed(facts: Facts, past: Past) -> Outcome:
    session = past.session(facts)
    if facts.state != "closed" or facts.dry or facts.reply is None or session is None or not session.accepted:
        return None
    return BROKEN if session.accepted & facts.coupons_of("rejectCoupon") else PASSED


def _closed_without(facts: Facts, past: Past) -> Outcome:
    session = past.session(facts)
    if facts.state != "closed" or facts.dry or not facts.succeeded or session is None or session.state != "open":
        return None
    had = {
        "couponCodes": bool(session.accepted),
        "referralCode": session.referred,
        "identifiers": session.identified,
    }
    if not any(had.values()):
        return None
    # What an update leaves out is kept; what it sends empty is discarded (facts §5).
    lost = [name for name, it_had in had.items() if it_had and facts.content.get(name) in ([], "")]
    return Finding(lost[0]) if lost else PASSED


def _lasting(facts: Facts, past: Past) -> Outcome:
    session = past.session(facts)
    if facts.state != "cancelled" or facts.dry or not facts.succeeded or session is None:
        return None
    lasting = sorted(session.effects & LASTING)
    return Finding(lasting[0]) if lasting else PASSED


def _without_profile(session: Session) -> Outcome:
    return PASSED if session.profile else None if session.blind else BROKEN


def _shared(facts: Facts, past: Past) -> Outcome:
    profile = past.profile(facts)
    if not facts.session or facts.dry or profile is None:
        return None
    return BROKEN if profile.shares(facts.session) else PASSED


def _flip_flop(facts: Facts, past: Past) -> Outcome:
    session = past.session(facts)
    if facts.dry or not facts.profile or not facts.succeeded or session is None or not session.profile:
        return None
    back = facts.profile not in ("", session.profile) and facts.profile == session.profile_before
    return BROKEN if back and session.changes >= FLIPS - 1 else PASSED


RULES = (
    Rule(
        "session.id-is-profile",
        Point.SESSIONS,
        Severity.PROBLEM,
        10,
        "Sessions have the id of their customer: the second order of a customer meets a session that is closed.",
        "Give each cart an id of its own: `sessionId = cart.id`.",
        SESSIONS,
        operations=SESSION_PUTS,
        look=_id_is_profile,
        tolerated=0.001,
        title="A session has an id of its own",
    ),
    Rule(
        "session.id-is-email",
        Point.SESSIONS,
        Severity.WARNING,
        10,
        "Session ids are mail addresses: they change, they are personal data, and they stand in URLs and logs.",
        "Take the cart's own id: `sessionId = cart.id`.",
        SESSIONS,
        operations=SESSION_PUTS,
        look=_id_is_email,
        tolerated=0.001,
        title="Session ids are not mail addresses",
    ),
    Rule(
        "session.same-cart",
        Point.SESSIONS,
        Severity.WARNING,
        20,
        "The same cart of one customer comes under ever new session ids, and none of them is closed.",
        "Keep the id with the cart until the order is placed: `sessionId = cart.id`, not `uuid()` for each call.",
        SESSIONS,
        operations=SESSION_PUTS,
        look=_same_cart,
        tolerated=0.01,
        times=3,
        title="One cart, one session id",
    ),
    Rule(
        "session.never-closed",
        Point.SESSIONS,
        Severity.PROBLEM,
        100,
        "No session was ever closed: no order counts, no coupon is used up, no point is given.",
        'When the order is placed: `PUT /v2/customer_sessions/{id}` with `"state": "closed"`.',
        SESSIONS,
        ended=_never_closed,
        tolerated=0.999999,
        absence=True,
        title="Orders close their session",
    ),
    Rule(
        "session.write-after-close",
        Point.SESSIONS,
        Severity.WARNING,
        20,
        "Sessions that are closed or cancelled are updated, and Talon.One refuses it. Some SDKs send `open` unasked.",
        "Give the next cart a new id, and stop updating one that is closed, or reopen it:"
        " `PUT /v2/customer_sessions/{id}/reopen`.",
        SESSIONS,
        operations=SESSION_PUTS,
        look=_write_after_close,
        tolerated=0.01,
        times=3,
        title="Nothing after closing",
    ),
    Rule(
        "session.returned-by-put",
        Point.SESSIONS,
        Severity.PROBLEM,
        1,
        "`partially_returned` is sent as a state, which only a return may set.",
        "Send what came back: `POST /v2/customer_sessions/{id}/returns`.",
        SESSIONS,
        operations=SESSION_PUTS,
        look=_returned_by_put,
        title="Returns are returned, not set",
    ),
    Rule(
        "session.returns-without-key",
        Point.SESSIONS,
        Severity.WARNING,
        3,
        "Returns are sent without an Idempotency-Key: one that is sent twice is returned twice.",
        "`Idempotency-Key: <id of the return>`.",
        SESSIONS,
        operations=frozenset({RETURNS}),
        look=_return_without_key,
        title="Returns have an Idempotency-Key",
    ),
    Rule(
        "session.price-changed",
        Point.SESSIONS,
        Severity.WARNING,
        5,
        "A coupon was accepted while the session was open, and rejected when it closed: the customer paid another price"
        " than was shown.",
        "Read the effects of the closing call before you charge: `rejectCoupon` means the total has changed.",
        SESSIONS,
        operations=SESSION_PUTS,
        look=_price_changed,
        tolerated=0.001,
        replies=True,
        title="The price shown is the price paid",
    ),
    Rule(
        "session.closed-without",
        Point.SESSIONS,
        Severity.WARNING,
        20,
        "The closing update takes out the coupon, the referral or the identifier that the session had: no budget counts"
        " it, and the customer pays another price than was shown.",
        "Leave `couponCodes`, `referralCode` and `identifiers` out of the closing update, which keeps them, or repeat"
        " them.",
        SESSIONS,
        operations=SESSION_PUTS,
        look=_closed_without,
        tolerated=0.01,
        times=3,
        replies=True,
        title="Orders close with their coupon",
    ),
    Rule(
        "session.lasting-effects",
        Point.SESSIONS,
        Severity.WARNING,
        3,
        "Sessions are cancelled after effects that nothing takes back, such as a created coupon.",
        'Give what lasts only when it is paid: a condition on `Session.State = "closed"` in the rule.',
        SESSIONS,
        operations=SESSION_PUTS,
        look=_lasting,
        replies=True,
        title="What is cancelled leaves nothing behind",
    ),
    Rule(
        "profiles.missing",
        Point.PROFILES,
        Severity.WARNING,
        100,
        "Most sessions never name a customer: no limit per customer, no points, no audience works for them.",
        'Send it with every update: `"customerSession": {"profileId": customer.id}`.',
        ended=_without_profile,
        tolerated=0.5,
        title="Sessions name their customer",
    ),
    Rule(
        "profiles.shared",
        Point.PROFILES,
        Severity.WARNING,
        20,
        "Many sessions share one profile within minutes, as that of all guests, or where each call makes a session of"
        " its own: they wait for one another, and share limits and points.",
        "Give each guest a profile of its own, or none: `profileId = 'guest-' + cart.id`.",
        PARALLEL,
        operations=SESSION_PUTS,
        look=_shared,
        tolerated=0.01,
        title="A profile is one customer",
    ),
    Rule(
        "profiles.flip-flop",
        Point.PROFILES,
        Severity.WARNING,
        20,
        "The customer of a session changes to and fro: two parts of the shop disagree about who it is.",
        "Set the profile at login alone, and send the same one with every update after it.",
        operations=SESSION_PUTS,
        look=_flip_flop,
        tolerated=0.001,
        title="A session stays with its customer",
    ),
)
