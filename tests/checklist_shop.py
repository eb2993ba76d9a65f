"""A shop whose calls are answered by the simulator and looked at by the checklist, in one process and without sockets.

Heads go through the proxy's own parser and reception, so that a call is refused here if it would be refused there. Time
is what the script says: `wait`.
"""

from collections.abc import Callable, Mapping
from typing import Any

import orjson

from proxy.assembly import credentials_of, routes_of
from proxy.callers import Callers
from proxy.checking import Checking
from proxy.errors import ProxyError, to_reply
from proxy.fields import request_table
from proxy.messages import Call, Reply, Sent, Source, Timeline
from proxy.observe.hashes import Hashes
from proxy.reception import Reception
from proxy.settings import Settings
from proxy.simulator import operations, rulebook_file
from proxy.simulator.operations import Answer
from proxy.simulator.problems import Problem
from proxy.simulator.world import Application, World
from proxy.wire.heads import RequestLimits, RequestParser
from tests.given import settings

LIMITS = RequestLimits(head=65536, fields=128, target=8192, body=8 << 20)
SDK = {"User-Agent": "OpenAPI-Generator/26.13/python"}
TOOK = 0.03  # seconds
BEGAN = 1_750_000_000.0
DAY = 86_400.0
TWO = [{"sku": "shoe", "quantity": 2, "price": 60}]
HANDLED = (
    "acceptCoupon,rejectCoupon,setDiscount,setDiscountPerItem,addLoyaltyPoints,rollbackDiscount,rollbackCoupon,"
    "rollbackAddedLoyaltyPoints,couponCreated,showNotification,addFreeItem"
)

Edit = Callable[[dict[str, Any]], None]


class Deployment:
    """A Talon.One that several proxies may call."""

    def __init__(self, rules: str = "", *, bare: bool = False) -> None:
        """`rules`: more than those of the simulator's shop; `bare`: instead of them."""
        self._world = World(book=rulebook_file.parse(rules if bare else rulebook_file.default_text() + rules))

    def answer(self, method: str, target: str, body: bytes) -> Answer:
        """Answer as the simulator does."""
        try:
            call = operations.Call(method, target, body, Application())
            return operations.find(call, self._world).perform()
        except Problem as problem:
            return operations.answer_problem(problem, target)


class Shop:
    """One shop behind one proxy. `gap`: seconds between two calls, if the script says nothing else."""

    def __init__(
        self, deployment: Deployment | None = None, *, gap: float = 3.0, hash_key: str = "h" * 32, **environ: str
    ) -> None:
        self.deployment = deployment or Deployment()
        self._given = {"checklist__replies": "1", "admin__token": "t" * 20, "log__hash_key": hash_key}
        self.settings: Settings = settings(**{**self._given, **environ})
        self.now = 0.0
        self.gap = gap
        self.sent = 0
        self.avoided = 0  # conflicts, by the lanes
        credentials, routes = credentials_of(self.settings), routes_of(self.settings)
        callers = Callers(allow_browsers=self.settings.clients.allow_browsers)
        self._reception = Reception(routes, callers, credentials, None)
        self._parser = RequestParser(LIMITS, request_table())
        self.checking = Checking(
            self.settings,
            routes,
            credentials,
            Hashes(hash_key),
            version="0",
            redact=lambda text: text.replace("secret", "***"),
            conflicts_avoided=lambda: self.avoided,
            call_later=lambda *_: NoTimer(),
            clock=lambda: self.now,
            now=lambda: BEGAN + self.now,
        )

    def follow(self, **environ: str) -> None:
        """Go on with other settings."""
        self.settings = settings(**{**self._given, **environ})
        self.checking.follow(self.settings, routes_of(self.settings), credentials_of(self.settings))

    # --- calling ---

    def call(
        self,
        method: str,
        target: str,
        body: object = None,
        *,
        headers: Mapping[str, str] = SDK,
        left: bool = False,
        edit: Edit | None = None,
        answer: Answer | None = None,
        fails: str | None = None,
        **timeline: float | bool,
    ) -> Any:
        """Send a call, and give what Talon.One answers.

        `left`: its caller does not wait for it. `edit` changes the answer, `answer` replaces it; `fails`: there is
        none, for this reason. What `timeline` says is stamped on the call.
        """
        made = self._make(method, target, body, headers)
        for name, value in {"reused": True, **timeline}.items():
            setattr(made.timeline, name, value)
        try:
            fields = self._reception.read(made)
            made.request_id = fields.request_id or made.request_id
            self._reception.understand(made, fields)
        except ProxyError as error:
            made.error = error.category.value
            return self._told(made, to_reply(error))
        if left:
            self.checking.counts.abandoned(made, Sent.MAYBE)
        made.timeline.tries = 1
        if fails is not None:
            made.error = fails
            return self._told(made, Reply(502, b"", b"", source=Source.PROXY, length=0))
        found = answer or self.deployment.answer(method, target.partition("#")[0], made.body)
        content: Any = orjson.loads(found.body) if found.body else None
        if edit is not None:
            edit(content)
        sent = orjson.dumps(content) if content is not None else b""
        self._told(made, Reply(found.status, b"", sent, source=Source.UPSTREAM, length=len(sent)), whole=not left)
        return content

    def _make(self, method: str, target: str, body: object, headers: Mapping[str, str]) -> Call:
        self.sent += 1
        encoded = b"" if body is None else body if isinstance(body, bytes) else orjson.dumps(body)
        lines = {"Host": "127.0.0.1", "Content-Length": str(len(encoded)), **headers}
        head = f"{method} {target} HTTP/1.1\r\n" + "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        request = self._parser.parse(head.encode() + b"\r\n")
        call = Call(request.method, request.target, request.fields, encoded, Timeline(self.now, self.now))
        call.request_id = b"r-%x" % self.sent
        return call

    def _told(self, call: Call, reply: Reply, *, whole: bool = True) -> None:
        timeline = call.timeline
        timeline.ready = timeline.written = timeline.arrived + TOOK
        timeline.upstream = TOOK if reply.source is Source.UPSTREAM else 0.0
        self.checking.counts.finished(call, reply, whole=whole)
        self.checking.counts.catch_up()
        self.now = max(self.now, timeline.written + self.gap)

    # --- words of a shop ---

    def put(
        self, session: str, *, query: str = "", wanted: tuple[str, ...] = (), call: Mapping[str, Any] = {}, **sent: Any
    ) -> Any:
        """Update a session."""
        body = {"customerSession": sent} | ({"responseContent": list(wanted)} if wanted else {})
        return self.call("PUT", f"/v2/customer_sessions/{session}{query}", body, **call)

    def close(self, session: str, **sent: Any) -> Any:
        """Place the order."""
        return self.put(session, state="closed", **sent)

    def event(self, profile: str, kind: str = "viewed", *, call: Mapping[str, Any] = {}, **attributes: Any) -> Any:
        """Tell an event."""
        body = {"profileId": profile, "type": kind, "attributes": attributes}
        return self.call("POST", "/v2/events?silent=no", body, **call)

    def order(self, number: int, **sent: Any) -> str:
        """A customer fills a cart and pays."""
        session = f"cart-{number}"
        self.put(session, profileId=f"customer-{number % 70}", cartItems=TWO, couponCodes=["WELCOME10"], **sent)
        self.close(session)
        return session

    def orders(self, count: int = 120, first: int = 0) -> "Shop":
        """So many orders, and a day."""
        for number in range(first, first + count):
            self.order(number)
        return self.wait(DAY)

    def wait(self, seconds: float) -> "Shop":
        """Let time pass."""
        self.now += seconds
        return self

    # --- what is found ---

    @property
    def told(self) -> Mapping[str, Any]:
        """What `/checklist.json` tells."""
        told = self.checking.told()
        assert told is not None
        return told

    def rule(self, name: str) -> Mapping[str, Any]:
        """What it tells of one rule."""
        return rule_of(self.told, name)


class NoTimer:
    """A timer that never rings: the shop looks itself."""

    def cancel(self) -> None:
        """Nothing to do."""


def rule_of(told: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """Give what is told of a rule."""
    found: Mapping[str, Any] = next(rule for rule in told["rules"] if rule["id"] == name)
    return found


def blamed(told: Mapping[str, Any]) -> dict[str, str]:
    """Give the rules with more than advice."""
    return {rule["id"]: rule["verdict"] for rule in told["rules"] if rule["verdict"] in ("warning", "problem")}
