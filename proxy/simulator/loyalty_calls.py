"""Calls about loyalty programs and cards."""

from collections.abc import Sequence
from datetime import datetime

from proxy.simulator import answers_loyalty, loyalty, payload_loyalty
from proxy.simulator.calls import Operation, Request, Table
from proxy.simulator.ledger import Ledger, Status, Transaction
from proxy.simulator.problems import invalid_parameter

_PROFILE = "/v1/loyalty_programs/{}/profile/{}"
_CARD = "/v1/loyalty_programs/{}/cards/{}"
_CARD_V2 = "/v2/loyalty_programs/{}/cards/{}"


def _profile_balances(request: Request) -> Operation:
    site, number, profile = request.site, request.numbered(0), request.ids[1]
    end, wanted = request.moment("endDate"), request.many("subledgerId")
    tiers, projected = request.flag("includeTiers"), request.flag("includeProjectedTier")

    def render() -> object:
        ledger, program = loyalty.of_profile(site, number, profile), loyalty.program(site, number)
        moment = end or site.now()
        content = answers_loyalty.balances(ledger, program, moment, wanted, tiers=tiers)
        if projected and "balance" in content:
            content["balance"] |= answers_loyalty.projected_tier(ledger, program, moment)
        return content

    return request.read(render, profile=profile)


def _card_balances(request: Request) -> Operation:
    site, number, identifier = request.site, request.numbered(0), request.ids[1]
    end, wanted = request.moment("endDate"), request.many("subledgerId")

    def render() -> object:
        card = loyalty.of_card(site, number, identifier)
        moment = end or site.now()
        content = answers_loyalty.balances(card.ledger, card.program, moment, wanted, tiers=False)
        return {**content, "profiles": answers_loyalty.holders(card)}

    return request.read(render)


def _profile_transactions(request: Request) -> Operation:
    site, number, profile = request.site, request.numbered(0), request.ids[1]
    pick, window = _Picker(request), request.window(default=50)

    def render() -> object:
        ledger, program = loyalty.of_profile(site, number, profile), loyalty.program(site, number)
        rows = pick.log(ledger, site.now())
        return window.page(rows, lambda row: answers_loyalty.transaction(row, program))

    return request.read(render, profile=profile)


def _card_transactions(request: Request) -> Operation:
    site, number, identifier = request.site, request.numbered(0), request.ids[1]
    pick, window = _Picker(request), request.window(default=50)

    def render() -> object:
        card = loyalty.of_card(site, number, identifier)
        rows = pick.log(card.ledger, site.now())
        return window.page(rows, lambda row: answers_loyalty.transaction(row, card.program, card.identifier))

    return request.read(render)


def _profile_points(request: Request) -> Operation:
    site, number, profile = request.site, request.numbered(0), request.ids[1]
    pick, window = _Picker(request), request.window(default=50)

    def render() -> object:
        ledger, program = loyalty.of_profile(site, number, profile), loyalty.program(site, number)
        rows = pick.points(ledger, site.now())
        return window.page(rows, lambda row: answers_loyalty.points(row, program))

    return request.read(render, profile=profile)


def _card_points(request: Request) -> Operation:
    site, number, identifier = request.site, request.numbered(0), request.ids[1]
    pick, window = _Picker(request), request.window(default=50)

    def render() -> object:
        card = loyalty.of_card(site, number, identifier)
        rows = pick.points(card.ledger, site.now())
        holder = next(iter(card.holders), "")
        return window.page(rows, lambda row: answers_loyalty.points(row, card.program, holder))

    return request.read(render)


def _delete(request: Request) -> Operation:
    site, number, profile = request.site, request.numbered(0), request.ids[1]
    subledgers = payload_loyalty.deletion(request.body)
    return request.write(
        lambda: loyalty.of_profile(site, number, profile).delete(subledgers), status=204, profile=profile
    )


def _join(request: Request) -> Operation:
    site, number, profile = request.site, request.numbered(0), request.ids[1]
    return request.write(lambda: loyalty.join(site, number, profile), profile=profile)


def _activate(request: Request) -> Operation:
    site, number = request.site, request.numbered(0)
    wanted = payload_loyalty.activation(request.body)

    def work() -> object:
        program = loyalty.program(site, number)
        entries = loyalty.activate(site, number, session=wanted.session, uuids=wanted.transactions)
        return {
            "ledgerEntries": [
                answers_loyalty.activated(entry, program, profile, card) for profile, card, entry in entries
            ]
        }

    return request.write(work, session=wanted.session)


def _generate(request: Request) -> Operation:
    site, number, wanted = request.site, request.numbered(0), payload_loyalty.new_card(request.body)
    return request.write(lambda: answers_loyalty.card(loyalty.generate_card(site, number, wanted), site.now()))


def _link(request: Request) -> Operation:
    site, number, identifier = request.site, request.numbered(0), request.ids[1]
    customer = payload_loyalty.customer(request.body)

    def work() -> object:
        card = loyalty.of_card(site, number, identifier)
        card.link(customer, site.now())
        site.profile(customer)
        return answers_loyalty.card(card, site.now())

    return request.write(work, profile=customer)


def _unlink(request: Request) -> Operation:
    site, number, identifier = request.site, request.numbered(0), request.ids[1]
    customer = payload_loyalty.customer(request.body)

    def work() -> object:
        card = loyalty.of_card(site, number, identifier)
        card.unlink(customer, site.now())
        return answers_loyalty.card(card, site.now())

    return request.write(work, profile=customer)


class _Picker:
    """Which transactions a call asks for."""

    def __init__(self, request: Request) -> None:
        self._subledgers = request.many("subledgerId")
        self._sessions = request.many("customerSessionIDs")
        self._uuids = request.many("transactionUUIDs")
        self._start, self._end = request.moment("startDate"), request.moment("endDate")
        self._kind = request.listed("loyaltyTransactionType", ("manual", "session", "import"))
        self._waiting = request.flag("awaitsActivation")
        if request.first("awaitsActivation") and not self._waiting:
            raise invalid_parameter("Invalid value", "can only be true", parameter="awaitsActivation")
        status = request.listed("status", tuple(Status(one).value for one in Status)) or (Status.ACTIVE.value,)
        self._status = Status(status[0])
        self._sort = request.listed("sort", ("startDate", "-startDate", "expiryDate", "-expiryDate"))

    def log(self, ledger: Ledger, moment: datetime) -> Sequence[Transaction]:
        """The lines of the log, the latest first."""
        rows = [entry for entry in ledger if self._wanted(entry)]
        if self._waiting:
            rows = [entry for entry in rows if entry.awaits_action and entry.status(moment) is not Status.EXPIRED]
        return rows[::-1]

    def points(self, ledger: Ledger, moment: datetime) -> Sequence[Transaction]:
        """The unused points of a status."""
        rows = [entry for entry in ledger.points(self._status, moment) if self._wanted(entry)]
        if self._sort:
            field = self._sort[0].removeprefix("-")
            # Points that are active at once count as from their creation; those without an end come last.
            last = datetime.max.replace(tzinfo=moment.tzinfo)
            rows.sort(
                key=lambda entry: (entry.start or entry.created) if field == "startDate" else (entry.expiry or last),
                reverse=self._sort[0].startswith("-"),
            )
        return rows

    def _wanted(self, entry: Transaction) -> bool:
        # Points of sessions are the only ones there are: events count as manual ones.
        kind = "session" if entry.cause.session else "manual"
        return (
            (not self._subledgers or entry.subledger in self._subledgers)
            and (not self._sessions or entry.cause.session in self._sessions)
            and (not self._uuids or entry.uuid in self._uuids)
            and (self._start is None or entry.created >= self._start)
            and (self._end is None or entry.created <= self._end)
            and (not self._kind or kind in self._kind)
        )


TABLE: Table = {
    "getLoyaltyBalances": (f"GET {_PROFILE}/balances", _profile_balances),
    "getLoyaltyProgramProfileTransactions": (f"GET {_PROFILE}/transactions", _profile_transactions),
    "getLoyaltyProgramProfilePoints": (f"GET {_PROFILE}/points", _profile_points),
    "deleteLoyaltyTransactionsFromLedgers": (f"POST {_PROFILE}/delete_transactions", _delete),
    "joinLoyaltyProgram": (f"POST {_PROFILE}/join", _join),
    "getLoyaltyCardBalances": (f"GET {_CARD}/balances", _card_balances),
    "getLoyaltyCardTransactions": (f"GET {_CARD}/transactions", _card_transactions),
    "getLoyaltyCardPoints": (f"GET {_CARD}/points", _card_points),
    "activateLoyaltyPoints": ("POST /v1/loyalty_programs/{}/activate_points", _activate),
    "generateLoyaltyCard": ("POST /v1/loyalty_programs/{}/cards", _generate),
    "linkLoyaltyCardToProfile": (f"POST {_CARD_V2}/link_profile", _link),
    "unlinkLoyaltyCardFromProfile": (f"POST {_CARD_V2}/unlink_profile", _unlink),
}
