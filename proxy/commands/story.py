"""The story that `talon-proxy demo` tells: a shop's calls, made directly and through the proxy, and what came of them.

Every number is measured while it is told: by the shop, which makes the calls, by the journal of the simulated
Talon.One, and by the proxy's own status. Nothing is known beforehand.
"""

import http.client
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from statistics import median
from typing import Any, NamedTuple

from proxy.commands.checklist_report import headline, often
from proxy.talon.checklist.table import table
from proxy.talon.checklist.verdicts import judged

CART = {
    "customerSession": {
        "profileId": "jane",
        "couponCodes": ["WELCOME10"],
        "cartItems": [{"name": "Shoe", "sku": "shoe", "quantity": 2, "price": 60}],
    }
}
Status = Mapping[str, Any]
IDENTICAL = 10  # calls
UPDATES = 5
RECONNECTS = 20
_TIMEOUT = 10.0  # seconds a call may take
_NAMES = 28  # columns of the first column of a table


class Answer(NamedTuple):
    """What the shop got, and in how much time, connecting included. `timing`: whose milliseconds (`Server-Timing`)."""

    status: int
    content: Mapping[str, Any]
    seconds: float
    timing: Mapping[str, float]


class Call(NamedTuple):
    """What the shop asks."""

    method: str
    path: str
    body: Mapping[str, Any] | None = None

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


@dataclass(frozen=True, slots=True)
class Way:
    """A way to Talon.One: directly with a key, or through the proxy without."""

    name: str
    address: str
    key: str | None

    def ask(self, call: Call) -> Answer:
        """Make one call on a connection of its own. Raises OSError or HTTPException."""
        began = time.perf_counter()
        line = http.client.HTTPConnection(self.address, timeout=_TIMEOUT)
        try:
            body = None if call.body is None else json.dumps(call.body)
            fields = {} if body is None else {"Content-Type": "application/json"}
            if self.key is not None:
                fields["Authorization"] = f"ApiKey-v1 {self.key}"
            line.request(call.method, call.path, body, fields)
            reply = line.getresponse()
            content = reply.read()
            seconds = time.perf_counter() - began
            return Answer(
                reply.status, json.loads(content) if content else {}, seconds, _timing(reply.getheader("Server-Timing"))
            )
        finally:
            line.close()

    def ask_at_once(self, calls: Sequence[Call]) -> Sequence[Answer]:
        """Make calls in parallel."""
        with ThreadPoolExecutor(len(calls)) as threads:
            return list(threads.map(self.ask, calls))


@dataclass(frozen=True, slots=True)
class Tally:
    """What became of some calls on one way. `arrived`: how many Talon.One saw."""

    way: str
    answers: Sequence[Answer]
    arrived: int

    def count(self, status: int) -> int:
        """How many got this status."""
        return sum(answer.status == status for answer in self.answers)

    @property
    def last(self) -> float:
        """Seconds until the last had its answer."""
        return max(answer.seconds for answer in self.answers)


class Scene:
    """The two ways, and those who know what happened. `status`: what the proxy tells of itself."""

    def __init__(self, *, talon_one: str, proxy: str, key: str, status: Callable[[], Status]) -> None:
        self.direct = Way("directly", talon_one, key)
        self.stranger = Way("directly, without a key", talon_one, None)
        self.proxied = Way("through the proxy", proxy, None)
        self._status = status

    @property
    def opened(self) -> int:
        """How many connections to Talon.One the proxy has opened."""
        return int(self._status()["upstream"]["connections"]["opened"])

    def arrived(self, session: str) -> int:
        """How many calls for a session Talon.One has seen."""
        journal = Way("journal", self.direct.address, None).ask(Call("GET", f"/-/journal?session={session}"))
        return len(journal.content)

    def tally(self, way: Way, session: str, calls: Sequence[Call]) -> Tally:
        """Make calls for a session that nobody else uses, at once, and count."""
        return Tally(way.name, way.ask_at_once(calls), self.arrived(session))


class Step(NamedTuple):
    """One step of the story: what it is about, and what tells it."""

    title: str
    play: Callable[[Scene], Iterator[str]]


def _no_key(scene: Scene) -> Iterator[str]:
    call = Call("PUT", "/v2/customer_sessions/demo", CART)
    refused, answer = scene.stranger.ask(call), scene.proxied.ask(call)
    yield f"{call}, a cart with the coupon WELCOME10"
    yield f"  {scene.stranger.name:{_NAMES}}{refused.status} {_told(refused)}"
    yield f"  {scene.proxied.name:{_NAMES}}{answer.status} {_told(answer)}"
    yield f"  {'':{_NAMES}}in {answer.seconds * 1000:.1f} ms{_parts(answer)}"


def _identical(scene: Scene) -> Iterator[str]:
    def calls(session: str) -> Sequence[Call]:
        return [Call("PUT", f"/v2/customer_sessions/{session}", _cart(session, 1))] * IDENTICAL

    yield f"An impatient customer: {IDENTICAL} times the same update of a cart at once"
    yield from _side_by_side(scene, "twice", calls)


def _parallel(scene: Scene) -> Iterator[str]:
    def calls(session: str) -> Sequence[Call]:
        path = f"/v2/customer_sessions/{session}"
        return [Call("PUT", path, _cart(session, quantity)) for quantity in range(1, UPDATES + 1)]

    yield f"A hurried shop: {UPDATES} different updates of one cart at once (Talon.One runs one, and lets two wait)"
    yield from _side_by_side(scene, "hurried", calls)


def _side_by_side(scene: Scene, name: str, calls: Callable[[str], Sequence[Call]]) -> Iterator[str]:
    tallies = [
        scene.tally(way, session, calls(session))
        for way, session in ((scene.direct, f"{name}-direct"), (scene.proxied, f"{name}-proxied"))
    ]
    yield f"  {'':{_NAMES}}{'200':>5}{'409':>6}{'other':>7}{'seen by Talon.One':>19}{'last answer':>13}"
    for tally in tallies:
        good, conflicts = tally.count(200), tally.count(409)
        others = len(tally.answers) - good - conflicts
        numbers = f"{good:>5}{conflicts:>6}{others:>7}{tally.arrived:>19}{tally.last * 1000:>10.0f} ms"
        yield f"  {tally.way:{_NAMES}}{numbers}"


def _reconnects(scene: Scene) -> Iterator[str]:
    calls = [Call("GET", "/v2/customer_sessions/demo")] * RECONNECTS
    yield f"A shop that keeps no connections (PHP, functions): {RECONNECTS} calls, each on a new one"
    yield f"  {'':{_NAMES}}{'new at Talon.One':>18}{'median call':>13}"
    before = scene.opened
    for way in (scene.direct, scene.proxied):
        took = median(way.ask(call).seconds for call in calls)
        # Directly, the shop's own are those that Talon.One sees.
        opened = RECONNECTS if way is scene.direct else scene.opened - before
        yield f"  {way.name:{_NAMES}}{opened:>18}{took * 1000:>10.1f} ms"
    yield "  Both are on this machine and without TLS. Over the internet each new connection costs two or three"
    yield "  round trips and a TLS handshake more; that is not measured here."


def _refused(scene: Scene) -> Iterator[str]:
    for call in (
        Call("PUT", "/v2/customer_sessions/demo", {"customerSession": {"state": "closed"}}),
        Call("GET", "/v1/applications"),
    ):
        answer = scene.proxied.ask(call)
        yield f"{call} → {answer.status} {_told(answer)}"


STEPS = (
    Step("The key stays here", _no_key),
    Step("The same, again and again", _identical),
    Step("All at once", _parallel),
    Step("Connections", _reconnects),
    Step("Paying, and a call that is not for shops", _refused),
)


def closing(status: Status) -> Iterator[str]:
    """Tell what it cost, by the proxy's own status."""
    calls, connections = status["calls"], status["upstream"]["connections"]
    yield f"The proxy answered {calls['answered']} calls, {calls['by_proxy']} of them itself, {calls['failed']} with"
    yield f"a 5xx, and opened {connections['opened']} connections to Talon.One."
    if calls["exchanges"]:
        talon_one, proxy = (calls[f"{part}_seconds"] / calls["exchanges"] * 1000 for part in ("upstream", "overhead"))
        yield f"A call took Talon.One {talon_one:.1f} ms and the proxy {proxy:.2f} ms on average."


def findings(told: Status | None) -> Iterator[str]:
    """Tell what the checklist finds in the shop's calls; it judges by few of them here."""
    if told is None:
        return
    found = judged(told, table(told["effects_handled"]), least=1)
    rules = {rule["id"]: rule for rule in found["rules"]}
    yield f"{headline(found)}. The most valuable fixes:"
    for name in found["fixes"]:
        rule = rules[name]
        yield f"  {rule['title']}: {rule['verdict']}, {often(rule)}"
        yield f"    {rule['remedy']}"
    yield "It waits for more calls in earnest. The page of it is /checklist; talon-proxy demo --stay keeps it."


def _cart(session: str, quantity: int) -> Mapping[str, Any]:
    items = [{"name": "Shoe", "sku": "shoe", "quantity": quantity, "price": 60}]
    return {"customerSession": {"profileId": f"customer-of-{session}", "cartItems": items}}


def _told(answer: Answer) -> str:
    """Tell an answer in a few words: its effects, or what was wrong."""
    effects = answer.content.get("effects")
    if isinstance(effects, list):
        return f"with the effects {', '.join(str(effect.get('effectType')) for effect in effects) or 'none'}"
    details = [error.get("details") for error in answer.content.get("errors") or ()]
    return str(next(filter(None, details), answer.content.get("message", "")))


def _parts(answer: Answer) -> str:
    told = {"upstream": "Talon.One", "proxy": "the proxy"}
    return "".join(f", {answer.timing[part]:.1f} of them {who}" for part, who in told.items() if part in answer.timing)


def _timing(value: str | None) -> Mapping[str, float]:
    """Read `Server-Timing: proxy;dur=0.3, upstream;dur=25.1`."""
    parts = (part.strip().partition(";dur=") for part in (value or "").split(","))
    return {name: float(duration) for name, found, duration in parts if found}
