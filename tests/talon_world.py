"""A simulated Talon.One without sockets, for tests: calls in, JSON out, and a clock that stands still."""

from datetime import UTC, datetime, timedelta
from typing import Any

import orjson

from proxy.simulator import rulebook_file
from proxy.simulator.calls import Answer, Call
from proxy.simulator.operations import answer_problem, find
from proxy.simulator.problems import Problem
from proxy.simulator.unknowns import Unknowns
from proxy.simulator.world import Application, World

START = datetime(2026, 5, 1, 12, tzinfo=UTC)
SHOP = Application("shop", 1)


class Talon:
    """A world with one rule book: the built-in one, or `toml`. Calls are for `SHOP` unless told otherwise."""

    def __init__(self, toml: str | None = None, **unknowns: Any) -> None:
        book = rulebook_file.default() if toml is None else rulebook_file.parse(toml)
        if unknowns:
            book = book.model_copy(update={"unknowns": Unknowns.model_validate(unknowns)})
        self.moment = START
        self.world = World(clock=lambda: self.moment, book=book)

    def answer(self, method: str, target: str, body: object = None, *, at: Application = SHOP) -> Answer:
        """What the server would answer."""
        encoded = body if isinstance(body, bytes) else b"" if body is None else orjson.dumps(body)
        try:
            return find(Call(method, target, encoded, at), self.world).perform()
        except Problem as problem:
            return answer_problem(problem, target)

    def call(self, method: str, target: str, body: object = None, *, expect: int = 200, at: Application = SHOP) -> Any:
        """The JSON of an answer with the expected status; None for an empty one."""
        answer = self.answer(method, target, body, at=at)
        assert answer.status == expect, answer.body
        return orjson.loads(answer.body) if answer.body else None

    def put(
        self, session: str = "cart", *, expect: int = 200, at: Application = SHOP, query: str = "", **sent: Any
    ) -> Any:
        """Update a session. Gives all entities that an answer may have."""
        wanted = ["customerSession", "customerProfile", "event", "coupons", "referral", "loyalty", "awardedGiveaways"]
        body = {"customerSession": sent, "responseContent": [*wanted, "achievements", "previousReturns"]}
        return self.call("PUT", f"/v2/customer_sessions/{session}{query}", body, expect=expect, at=at)

    def session(self, session: str = "cart", *, at: Application = SHOP) -> Any:
        """A stored session."""
        return self.call("GET", f"/v2/customer_sessions/{session}", at=at)["customerSession"]

    def inventory(self, profile: str, *, at: Application = SHOP) -> Any:
        """All there is of a customer."""
        names = ("profile", "referrals", "coupons", "loyalty", "giveaways", "achievements")
        query = "&".join(f"{name}=true" for name in names)
        return self.call("GET", f"/v1/customer_profiles/{profile}/inventory?{query}", at=at)

    def points(self, profile: str = "jane", program: int = 1) -> Any:
        """The main balance of a customer."""
        return self.call("GET", f"/v1/loyalty_programs/{program}/profile/{profile}/balances")["balance"]

    def pass_by(self, **time: float) -> None:
        """Let time go on."""
        self.moment += timedelta(**time)


def effects(answer: Any) -> list[tuple[str, Any]]:
    """Type and what matters most of every effect."""
    names = ("rejectionReason", "value", "decreaseProgressBy", "sku", "code", "title", "audienceName", "poolName")
    return [
        (effect["effectType"], next((effect["props"][name] for name in names if name in effect["props"]), None))
        for effect in answer["effects"]
    ]


def of_type(answer: Any, *types: str) -> list[tuple[str, Any]]:
    """The same of some types."""
    return [(kind, value) for kind, value in effects(answer) if kind in types]
