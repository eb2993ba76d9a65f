"""The past: what is remembered of sessions, profiles and calls, so that rules can see what only several calls show.

Everything is bounded, and what was unused longest goes first; ids and bodies are there as keyed hashes alone. Rules
read it; `learn` is told of a call after all rules have looked at it.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import TypeVar

from proxy.talon.checklist.facts import Facts

SESSIONS = 3_000
PROFILES = 1_500
FINGERPRINTS = 512
IDLE = 1_800.0  # seconds without a call after which a session is over
SHARED_AFTER, SHARED_WITHIN = 8, 600.0  # sessions and seconds, as `lanes.shared_after`
BURST = 4.0  # seconds
SOON = 2.0  # seconds within which a read follows a write
AGAIN = 5.0  # seconds within which the same bytes after an error are the same attempt
CUT = 60.0  # seconds after a call whose caller left within which the same bytes are that call again
SAME_CART = 600.0  # seconds
LONGEST_ID = 64  # bytes of a request id, as names.request_id shows them

SESSION_PUTS = frozenset({"updateCustomerSessionV2", "updateCustomerSession"})
EVENT_POSTS = frozenset({"trackEventV2", "trackEventV3", "trackEvent"})
RETURNS, REOPEN, PROFILE_PUT = "returnCartItems", "reopenCustomerSession", "updateCustomerProfileV2"
SESSION_WRITES = SESSION_PUTS | {RETURNS, REOPEN}
# Effects that nothing takes back (facts §6), and that are more than something to show.
LASTING = frozenset({"couponCreated", "referralCreated", "updateAttribute", "reserveCoupon"})
_MOST_COUPONS, _MOST_EVENTS, _MOST_CARTS, _MOST_IDS = 8, 4, 8, 4
K = TypeVar("K")
V = TypeVar("V")


class Session:
    """What is remembered of one."""

    __slots__ = (
        "accepted",
        "base",
        "bearings",
        "blind",
        "born",
        "carts",
        "changes",
        "closed",
        "count",
        "doubts",
        "effects",
        "evaluated",
        "identified",
        "last",
        "profile",
        "profile_before",
        "referred",
        "request_id",
        "state",
        "who",
        "window",
        "writes",
    )

    def __init__(self, moment: float, state: str) -> None:
        self.born = state  # the state it was first seen in
        self.state = state
        self.closed = state == "closed"  # ever
        self.last = moment
        self.who = ("", "", "")  # of its last update: Application, operation, caller
        self.request_id = b""  # of that
        self.profile = ""
        self.profile_before = ""
        self.changes = 0  # of its profile, to another known one
        self.accepted: frozenset[str] = frozenset()  # coupons, while open
        self.referred = False  # by an accepted referral, while open
        self.identified = False  # has identifiers
        self.effects: frozenset[str] = frozenset()  # lasting ones
        self.blind = False  # an update of it could not be read
        self.evaluated = -CUT  # when its last update ended
        self.bearings = ""  # the operation of that, where its answer can bring what is asked for
        self.window = moment  # when its burst of updates began
        self.count = 0  # of that
        self.carts: tuple[str, ...] = ()  # different ones, of that
        # How often it was updated: before its first known answer, by us since, and as last told.
        self.base = -1
        self.writes = 0
        self.doubts = 0


class Profile:
    """What is remembered of one."""

    __slots__ = ("bearings", "carts", "evaluated", "events", "last", "sessions")

    def __init__(self, moment: float) -> None:
        self.last = moment
        self.sessions: dict[str, float] = {}  # the last ones, and when each was last named
        self.carts: dict[str, tuple[tuple[str, ...], float]] = {}  # sessions by cart, and since when
        self.events: dict[str, tuple[float, str, bool]] = {}  # by type: end, fingerprint, and whether its caller stayed
        self.evaluated = -CUT  # as of a session
        self.bearings = ""

    def shares(self, session: str) -> bool:
        """Whether so many other sessions named it lately that it is nobody's."""
        return len(self.sessions) - (session in self.sessions) >= SHARED_AFTER


class Count:
    """How often something was told, as the `updateCount` of one session by all who look."""

    __slots__ = ("base", "doubts", "last", "writes")

    def __init__(self, base: int, last: int, writes: int, doubts: int) -> None:
        self.base = base
        self.last = last
        self.writes = writes
        self.doubts = doubts


class Past:
    """The memory. `forgotten` is told of each session that is over."""

    def __init__(self, forgotten: Callable[[Session], None]) -> None:
        self._forgotten = forgotten
        self._sessions: OrderedDict[str, Session] = OrderedDict()
        self._profiles: OrderedDict[str, Profile] = OrderedDict()
        # By fingerprint: how often in a row, and when the first refusal of the last time came.
        self.refused: OrderedDict[str, tuple[int, float]] = OrderedDict()
        self.cut: OrderedDict[str, float] = OrderedDict()  # by fingerprint: when the caller left
        self.counts: OrderedDict[str, Count] = OrderedDict()  # by session
        self.imports: tuple[float, int] = (0.0, 0)  # closed sessions in a row: since when, how many
        self.singles: tuple[float, int] = (0.0, 0)  # profiles, likewise
        self.seen = 0  # sessions ever

    def __len__(self) -> int:
        return len(self._sessions)

    def __repr__(self) -> str:
        return f"<Past sessions={len(self._sessions)} profiles={len(self._profiles)}>"

    def session(self, facts: Facts) -> Session | None:
        """Give what is known of a call's session; none for one that is seen first."""
        return self._sessions.get(facts.session) if facts.session else None

    def profile(self, facts: Facts) -> Profile | None:
        """Give what is known of a call's profile, or of its session's."""
        known = facts.profile
        if not known and (session := self.session(facts)) is not None:
            known = session.profile
        return self._profiles.get(known) if known else None

    def living(self) -> Iterator[Session]:
        """Give the sessions that are not over."""
        return iter(self._sessions.values())

    def forget(self) -> None:
        """Begin anew with sessions and profiles, as if they had not been seen: none of them is over."""
        self._sessions.clear()
        self._profiles.clear()
        self.counts.clear()

    # --- learning ---

    def learn(self, facts: Facts) -> None:
        """Remember a call that every rule has looked at."""
        if not facts.whole:
            self.cut[facts.fingerprint()] = facts.ended
            _bound(self.cut, FINGERPRINTS)
        if facts.status in (400, 404) and facts.upstream:
            self._learn_refusal(facts)
        if facts.dry:
            return
        if facts.succeeded and facts.unread:
            self._learn_blindly(facts)
        elif facts.succeeded:
            self._learn_session(facts)
            self._learn_profile(facts)
            self._learn_imports(facts)
            if facts.operation in EVENT_POSTS:
                self._learn_event(facts)
        elif facts.status >= 500 and facts.sent and (session := self.session(facts)) is not None:
            session.doubts += facts.timeline.tries  # each may have been carried out, whoever made the answer
        self._forget(facts.ended)

    def _learn_refusal(self, facts: Facts) -> None:
        fingerprint = facts.fingerprint()
        count, since = self.refused.pop(fingerprint, (0, 0.0))
        if facts.started >= since:
            # It knew of the refusal before it. Those that were sent at the same time count as one.
            count, since = count + 1 if facts.started - since <= AGAIN else 1, facts.ended
        self.refused[fingerprint] = (count, since)
        _bound(self.refused, FINGERPRINTS)

    def _learn_session(self, facts: Facts) -> None:
        if not facts.session or facts.operation not in SESSION_WRITES:
            self._learn_count(facts, self.session(facts), written=0)
            return
        session = self.session(facts)
        if session is None:
            session = self._begin(facts)
        self._sessions.move_to_end(facts.session)
        session.last = facts.ended
        session.who = (facts.application, facts.operation, facts.caller.family)
        given = facts.call.request_id
        session.request_id = given if len(given) <= LONGEST_ID else b""
        session.evaluated, session.bearings = facts.ended, _bearings(facts)
        session.state = _state_after(facts, session.state)
        session.closed |= session.state == "closed"
        if facts.profile and facts.profile != session.profile:
            session.changes += bool(session.profile)
            session.profile_before, session.profile = session.profile, facts.profile
        if "identifiers" in facts.content:
            session.identified = bool(facts.content["identifiers"])
        self._learn_burst(facts, session)
        self._learn_effects(facts, session)
        self._learn_count(facts, session, written=int(facts.sent))

    def _learn_blindly(self, facts: Facts) -> None:
        session = self.session(facts)
        if session is not None and facts.operation in SESSION_WRITES:
            session.blind, session.last, session.state = True, facts.ended, ""
            self._learn_count(facts, session, written=int(facts.sent))

    def _begin(self, facts: Facts) -> Session:
        self.seen += 1
        born = facts.state if facts.state in _SET else _state_after(facts, "open")
        session = self._sessions[facts.session] = Session(facts.ended, born)
        if len(self._sessions) > SESSIONS:
            self._forgotten(self._sessions.popitem(last=False)[1])
        return session

    def _learn_burst(self, facts: Facts, session: Session) -> None:
        if facts.started - session.window > BURST:
            session.window, session.count, session.carts = facts.started, 0, ()
        session.count += facts.sent
        if facts.cart and facts.cart not in session.carts:
            session.carts = (*session.carts, facts.cart)[-_MOST_CARTS:]

    def _learn_effects(self, facts: Facts, session: Session) -> None:
        if facts.reply is None:
            return
        if session.state == "open" and len(accepted := facts.coupons_of("acceptCoupon")) <= _MOST_COUPONS:
            session.accepted = accepted
            session.referred = "acceptReferral" in facts.effect_types
        session.effects |= facts.effect_types & LASTING

    def _learn_count(self, facts: Facts, session: Session | None, *, written: int) -> None:
        if session is None:
            return
        count = facts.update_count
        if session.base >= 0:
            session.writes += written
            session.doubts += max(facts.timeline.tries - 1, 0)
        elif count is not None:
            session.base, session.writes = count - written, written
        if count is None or session.base < 0:
            return
        known = self.counts.get(facts.session)
        last = count if known is None else max(known.last, count)
        self.counts[facts.session] = Count(session.base, last, session.writes, session.doubts)
        _bound(self.counts, FINGERPRINTS)

    def _learn_profile(self, facts: Facts) -> None:
        session = self.session(facts)
        known = facts.profile or (session.profile if session is not None else "")
        if not known:
            return
        profile = self._profiles.get(known)
        if profile is None:
            profile = self._profiles[known] = Profile(facts.ended)
            _bound(self._profiles, PROFILES)
        self._profiles.move_to_end(known)
        profile.last = facts.ended
        if facts.operation in _EVALUATING:
            profile.evaluated, profile.bearings = facts.ended, _bearings(facts)
        if facts.session and session is not None:
            _learn_share(profile, facts)
            _learn_cart(profile, facts, session)

    def _learn_event(self, facts: Facts) -> None:
        profile = self.profile(facts)
        if profile is None or not facts.event:
            return
        kind = facts.digest(facts.event.encode())
        profile.events[kind] = (facts.ended, facts.fingerprint(), facts.whole)
        while len(profile.events) > _MOST_EVENTS:
            del profile.events[next(iter(profile.events))]

    def _learn_imports(self, facts: Facts) -> None:
        session = self.session(facts)
        if (
            session is not None
            and facts.operation in SESSION_PUTS
            and session.born == "closed"
            and session.count == 1
            and facts.cart
        ):
            self.imports = _counted(self.imports, facts.ended)
        if facts.operation == PROFILE_PUT:
            self.singles = _counted(self.singles, facts.ended)

    def _forget(self, now: float) -> None:
        """Let go one or two that are over: there is no sweep."""
        for _ in range(2):
            key = next(iter(self._sessions), None)
            if key is None or self._sessions[key].last > now - IDLE:
                return
            self._forgotten(self._sessions.pop(key))


_EVALUATING = SESSION_WRITES | EVENT_POSTS | {PROFILE_PUT}


def _state_after(facts: Facts, before: str) -> str:
    """Give the state of a session after Talon.One took a call."""
    if facts.operation == RETURNS:
        return "partially_returned"
    if facts.operation == REOPEN:
        return "open"
    told = facts.state_told
    if told in STATES:
        return told
    # SDKs send `open` unasked, and a session that is closed would have refused it: it was reopened elsewhere.
    return facts.state if facts.state in _SET else before


_SET = ("open", "closed", "cancelled")  # by an update
STATES = (*_SET, "partially_returned")


def _bearings(facts: Facts) -> str:
    """Give the operation of an update, where `responseContent` is good for something: not in an answer without body."""
    silent = facts.status == 204 or (facts.operation == PROFILE_PUT and not facts.query.get("runRuleEngine"))
    return "" if silent else facts.operation


def _learn_share(profile: Profile, facts: Facts) -> None:
    profile.sessions.pop(facts.session, None)
    profile.sessions[facts.session] = facts.ended
    oldest = next(iter(profile.sessions))
    while len(profile.sessions) > SHARED_AFTER + 1 or profile.sessions[oldest] < facts.ended - SHARED_WITHIN:
        del profile.sessions[oldest]
        oldest = next(iter(profile.sessions))


def _learn_cart(profile: Profile, facts: Facts, session: Session) -> None:
    if session.state != "open":
        # Bought, or given up: the same cart once more is another order.
        profile.carts.clear()
        return
    if not facts.cart:
        return
    ids, since = profile.carts.pop(facts.cart, ((), facts.ended))
    if facts.ended - since > SAME_CART:
        ids, since = (), facts.ended
    if facts.session not in ids:
        ids = (*ids, facts.session)[-_MOST_IDS:]
    profile.carts[facts.cart] = (ids, since)
    while len(profile.carts) > _MOST_CARTS:
        del profile.carts[next(iter(profile.carts))]


def _counted(row: tuple[float, int], moment: float) -> tuple[float, int]:
    """Count what comes one after another; after ten seconds it begins anew."""
    since, count = row
    return (since, count + 1) if moment - since <= 10.0 else (moment, 1)


def _bound(known: "OrderedDict[K, V]", most: int) -> None:
    while len(known) > most:
        known.popitem(last=False)
