"""Loyalty in the JSON of the Integration API: balances, transactions, points, cards.

Where the API writes dates as text, `immediate`, `on_action` and `unlimited` stand for none.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal

from proxy.simulator.amounts import ZERO
from proxy.simulator.answers_setup import Json
from proxy.simulator.cards import Card
from proxy.simulator.effects import Effect
from proxy.simulator.ledger import Ledger, Transaction
from proxy.simulator.profiles import Profile
from proxy.simulator.rewards import tier_of
from proxy.simulator.rulebook import Program

Tentative = dict[tuple[int, str, bool], Decimal]  # by program, subledger and whether the points are pending


def tentative(effects: Sequence[Effect]) -> Tentative:
    """What an open session would add to balances."""
    sums: Tentative = {}
    for effect in effects:
        sign = {"addLoyaltyPoints": 1, "deductLoyaltyPoints": -1}.get(effect.type, 0)
        if sign:
            pending = bool(effect.props.get("awaitsActivation") or effect.props.get("startDate"))
            key = (effect.props["programId"], effect.props["subLedgerId"], pending)
            sums[key] = sums.get(key, ZERO) + sign * effect.props["value"]
    return sums


def loyalty(
    programs: Sequence[Program], profile: Profile | None, cards: Sequence[Card], sums: Tentative, moment: datetime
) -> Json:
    """The programs of a customer, and cards, with what an open session would change."""
    rendered: Json = {}
    for program in programs if profile else ():
        if program.cards or profile is None:
            continue
        ledger = profile.ledgers.get(program.id) or Ledger()
        rendered[str(program.id)] = {
            "id": program.id,
            "title": program.title or program.name,
            "name": program.name,
            "joinDate": ledger.joined or profile.created,
            "ledger": _ledger(ledger, program, "", sums, moment),
            "subLedgers": _subledgers(ledger, program, sums, moment),
        }
    return {"cards": [card(one, moment, sums) for one in cards], "programs": rendered}


def card(one: Card, moment: datetime, sums: Tentative | None = None) -> Json:
    """A loyalty card with its points."""
    program = one.program
    return {
        "id": one.id,
        "created": one.created,
        "programID": program.id,
        "programName": program.name,
        "programTitle": program.title or program.name,
        "status": one.status,
        "identifier": one.identifier,
        "usersPerCardLimit": program.users_per_card,
        "profiles": holders(one),
        "ledger": _ledger(one.ledger, program, "", sums or {}, moment),
        "subledgers": _subledgers(one.ledger, program, sums or {}, moment),
        **({"modified": one.modified} if one.modified else {}),
    }


def holders(one: Card) -> list[Json]:
    """The customers linked to a card."""
    return [{"integrationId": profile, "timestamp": linked} for profile, linked in one.holders.items()]


def balances(ledger: Ledger, program: Program, moment: datetime, wanted: Sequence[str], *, tiers: bool) -> Json:
    """The balances of a ledger and its subledgers; with `wanted` subledgers, of those alone."""
    names = [name for name in _names(ledger, program) if not wanted or name in wanted]
    content: Json = {
        "subledgerBalances": {name: _balance(ledger, program, name, moment, tiers=False) for name in names}
    }
    if not wanted:
        content["balance"] = _balance(ledger, program, "", moment, tiers=tiers)
    return content


def transaction(entry: Transaction, program: Program, card_identifier: str = "") -> Json:
    """A line of the transaction log."""
    return {
        **_points(entry, program),
        "type": "addition" if entry.addition else "subtraction",
        "amount": entry.amount,
        **({"rulesetId": entry.cause.ruleset} if entry.cause.ruleset else {}),
        **({"ruleName": entry.cause.rule} if entry.cause.rule else {}),
        **({"cardIdentifier": card_identifier} if card_identifier else {}),
        **({"flags": {"createsNegativeBalance": True}} if entry.makes_debt else {}),
    }


def points(entry: Transaction, program: Program, customer: str = "") -> Json:
    """Unused points of one addition."""
    return {
        **_points(entry, program),
        "amount": entry.left,
        **({"customerProfileID": customer} if customer else {}),
    }


def activated(entry: Transaction, program: Program, profile: str, one: Card | None) -> Json:
    """A ledger entry after its activation."""
    optional = {
        "customerProfileID": profile,
        "cardID": one.id if one else None,
        "customerSessionID": entry.cause.session,
        "eventID": entry.cause.event,
        "startDate": entry.start,
        "expiryDate": entry.expiry,
    }
    return {
        "created": entry.created,
        "programID": program.id,
        "type": "addition",
        "amount": entry.amount,
        "name": entry.cause.name,
        "subLedgerID": entry.subledger,
        **{name: value for name, value in optional.items() if value},
    }


def _points(entry: Transaction, program: Program) -> Json:
    start = "on_action" if entry.awaits_action else _date(entry.start, "immediate")
    return {
        "id": entry.id,
        "transactionUUID": entry.uuid,
        "created": entry.created,
        "programId": program.id,
        "name": entry.cause.name[:255],
        "startDate": start,
        "expiryDate": _date(entry.expiry, "unlimited"),
        "subledgerId": entry.subledger,
        **({"customerSessionId": entry.cause.session[:255]} if entry.cause.session else {}),
    }


def _date(moment: datetime | None, none: str) -> str:
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z") if moment else none


def _names(ledger: Ledger, program: Program) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*program.subledgers, *ledger.subledgers)))


def _subledgers(ledger: Ledger, program: Program, sums: Tentative, moment: datetime) -> Json:
    return {name: _ledger(ledger, program, name, sums, moment) for name in _names(ledger, program)}


def _ledger(ledger: Ledger, program: Program, name: str, sums: Tentative, moment: datetime) -> Json:
    balance = ledger.balance(moment, name)
    change = sums.get((program.id, name, False), ZERO)
    tier = _tier(program, balance.active) if not name else {}
    return {
        "currentBalance": balance.active,
        "pendingBalance": balance.pending,
        "negativeBalance": balance.negative,
        # The API shows these two as 0 since they are deprecated.
        "expiredBalance": ZERO,
        "spentBalance": ZERO,
        "tentativeCurrentBalance": balance.active + change,
        "tentativePendingBalance": balance.pending + sums.get((program.id, name, True), ZERO),
        "tentativeNegativeBalance": balance.negative,
        **tier,
    }


def _balance(ledger: Ledger, program: Program, name: str, moment: datetime, *, tiers: bool) -> Json:
    balance = ledger.balance(moment, name)
    return {
        "activePoints": balance.active,
        "pendingPoints": balance.pending,
        "spentPoints": balance.spent,
        "expiredPoints": balance.expired,
        "negativePoints": balance.negative,
        **(_tier(program, balance.active) if tiers else {}),
    }


def _tier(program: Program, active: Decimal) -> Json:
    reached = tier_of(program, active)
    above = next((tier for _, tier in program.ladder if tier.points_from > active), None)
    content: Json = {}
    if reached is not None:
        content["currentTier"] = {"id": reached[0], "name": reached[1], "downgradePolicy": "balance_based"}
    if above is not None:
        content |= {"pointsToNextTier": above.points_from - active, "nextTierName": above.name}
    return content


def projected_tier(ledger: Ledger, program: Program, moment: datetime) -> Json:
    """The tier of a customer once the present points count; tiers have no end here."""
    active = ledger.balance(moment).active
    reached = tier_of(program, active)
    name = {"projectedTierName": reached[1]} if reached else {}
    return {"projectedTier": {"projectedActivePoints": active, **name}}
