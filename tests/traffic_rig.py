"""The traffic room and the pipeline before a fake upstream: the test admits, answers and lets time pass."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import orjson

from proxy.callers import Callers
from proxy.credentials import Application, Credentials
from proxy.errors import ProxyError
from proxy.fields import request_table
from proxy.keyset import KeyPair, KeySet, Ledger
from proxy.messages import Call, Fields, Reply, Timeline, joined
from proxy.pipeline import Pipeline
from proxy.pipeline import Rules as PipelineRules
from proxy.secret import Secret
from proxy.talon.routes import Routes
from proxy.traffic.attempts import Rules as AttemptRules
from proxy.traffic.flights import Flight
from proxy.traffic.lanes import Rules as LaneRules
from proxy.traffic.traffic import Rules as TrafficRules
from proxy.traffic.traffic import Traffic
from proxy.upstream import State as Serving
from tests.harness import KEY, Witness
from tests.upstream_fakes import FakeClock, FakeUpstream, SentRequest

APPLICATIONS = (Application("default"), Application("other"), Application("sandbox", environment="sandbox"))
_MANAGEMENT = Secret("m" * 64)
SECOND = "5ec0" * 16


class Shopper:
    """One call and the answers it got."""

    def __init__(self, call: Call) -> None:
        self.call = call
        self.answers: list[Reply] = []
        self.lines = b""
        self.waiter: Any = None
        self.on_answer: Callable[[], object] = lambda: None

    def answer(self, reply: Reply, lines: bytes) -> None:
        self.answers.append(reply)
        self.lines = lines
        self.on_answer()

    @property
    def flight(self) -> Flight:
        flight = self.waiter.flight
        assert isinstance(flight, Flight)
        return flight

    @property
    def reply(self) -> Reply:
        (reply,) = self.answers
        return reply

    @property
    def failure(self) -> tuple[int, bytes | None, bytes | None]:
        fields = dict(line.split(b": ", 1) for line in self.reply.block.split(b"\r\n") if line)
        token = fields.get(b"Proxy-Status", b"").removeprefix(b"talon-proxy; error=")
        return self.reply.status, token, fields.get(b"Talon-Proxy-Outcome")

    @property
    def joined(self) -> bool:
        return self.call.timeline.joined


class Shop:
    """Every room between the listener and the wire, on a clock that moves when told."""

    def __init__(
        self,
        *,
        lanes: LaneRules | None = None,
        attempts: AttemptRules | None = None,
        pipeline: PipelineRules | None = None,
        applications: tuple[Application, ...] = APPLICATIONS[:1],
        inject: str = "always",
        management: bool = False,
        second_keys: bool = False,
        memory: int = 1000,
        shared: tuple[str, ...] = (),
        shared_after: int = 8,
        concurrency: int = 1000,
    ) -> None:
        self.clock = FakeClock()
        self.upstream = FakeUpstream(self.clock)
        self.witness = Witness()
        self.wheel = self.clock.wheel()
        keys = {application.name: Secret(KEY + application.name) for application in applications}
        if len(applications) == 1:
            keys = {applications[0].name: Secret(KEY)}
        self.ledger = Ledger()
        following = Secret(SECOND) if second_keys else None
        self.upstream.keys = KeySet(
            {name: KeyPair(key, following) for name, key in keys.items()},
            _MANAGEMENT if management else None,
            self.ledger,
        )
        self.credentials = Credentials(applications, keys, inject=inject)
        self.told: list[object] = []  # suspicions, and keys that lead
        self.newly_shared: list[tuple[str, str]] = []
        rules = TrafficRules(
            attempts or AttemptRules(response_timeout=10.0, management_rate=0.0),
            lanes=lanes or LaneRules(),
            memory=memory,
            shared_profiles=shared,
            shared_after=shared_after,
            concurrency=concurrency,
        )
        self.traffic = Traffic(
            self.upstream,  # type: ignore[arg-type]
            rules,
            clock=self.clock,
            shared=self.newly_shared.append,
            suspected=self.told.append,
            refused=self.told.append,
            rekeyed=lambda application, role: self.told.append((application, role)),
        )
        self.lanes, self.attempts = self.traffic.lanes, self.traffic.attempts
        self.gates, self.reads, self.memory = self.traffic.gates, self.traffic.reads, self.traffic.memory
        self.pipeline = Pipeline(
            Routes(management=management),
            Callers(),
            self.credentials,
            self.traffic,
            self.witness,
            self.wheel,
            rules=pipeline or PipelineRules(total_timeout=15.0),
        )

    def profiles(self, session: tuple[str, str]) -> tuple[str, ...]:
        """Give the profiles that the memory has of a session."""
        links = self.memory.find(session)
        return () if links is None else links.profiles

    def submit(self, method: bytes, target: bytes, body: object = b"", *fields: tuple[bytes, bytes]) -> Shopper:
        """Give a complete call to the pipeline. `body`: bytes, or what becomes JSON."""
        crossing, noted, _ = request_table().sort([name + b": " + value for name, value in fields])
        found = Fields(joined(crossing), noted)
        found.host = b"localhost"
        content = body if isinstance(body, bytes) else orjson.dumps(body)
        shopper = Shopper(Call(method, target, found, content, Timeline(self.clock.now, self.clock.now)))
        shopper.waiter = self.pipeline.submit(shopper.call, shopper.answer)
        return shopper

    def session(
        self, session: str, profile: str | None = None, *fields: tuple[bytes, bytes], **values: object
    ) -> Shopper:
        """Update a session."""
        document: dict[str, object] = {**values}
        if profile is not None:
            document["profileId"] = profile
        return self.submit(
            b"PUT", b"/v2/customer_sessions/%b" % session.encode(), {"customerSession": document}, *fields
        )

    def profile(self, profile: str, *fields: tuple[bytes, bytes], **attributes: object) -> Shopper:
        """Update a profile."""
        target = b"/v2/customer_profiles/%b" % profile.encode()
        return self.submit(b"PUT", target, {"attributes": attributes}, *fields)

    def event(self, profile: str, *fields: tuple[bytes, bytes], **values: object) -> Shopper:
        return self.submit(b"POST", b"/v2/events", {"profileId": profile, "type": "seen", **values}, *fields)

    def read(self, target: bytes = b"/v2/customer_sessions/s", *fields: tuple[bytes, bytes]) -> Shopper:
        return self.submit(b"GET", target, b"", *fields)

    # --- the upstream ---

    @property
    def sent(self) -> list[SentRequest]:
        """Everything that was ever sent, in its order."""
        return self.upstream.connection.sent

    def under_way(self) -> list[SentRequest]:
        """Give what was sent and has no end yet."""
        return [asked for asked in self.sent if not asked.ended]

    def asked(self, shopper: Shopper) -> SentRequest:
        """Give the latest request that was sent for this call."""
        return [asked for asked in self.sent if asked.exchange.timeline is shopper.call.timeline][-1]

    def was_sent(self, shopper: Shopper) -> bool:
        return any(asked.exchange.timeline is shopper.call.timeline for asked in self.sent)

    def reply_to(self, shopper: Shopper, status: int = 200, body: bytes = b"OK", **options: Any) -> None:
        """Answer what was sent last for this call."""
        self.upstream.end(self.asked(shopper), status, body, **options)

    def lose(self, shopper: Shopper, error: ProxyError) -> None:
        self.upstream.break_off_of(self.asked(shopper), error)

    # --- what must be so when nothing is under way ---

    def assert_idle(self) -> None:
        """Nothing is left of calls that are over (invariant 9)."""
        assert self.pipeline.in_flight == 0
        assert not self.pipeline.flights
        assert len(self.lanes) == 0
        assert len(self.gates) == 0
        assert len(self.reads) == 0
        assert self.lanes.waiting == 0
        assert (self.lanes.limit.inside, self.lanes.limit.waiting) == (0, 0)
        assert not self.upstream.waiting


def open_shop(**options: Any) -> Shop:
    """Make a shop whose upstream has a connection for everybody."""
    shop = Shop(**options)
    shop.upstream.ready = True
    return shop


def went(shop: Shop, *shoppers: Shopper) -> list[bool]:
    """Tell whose call was sent."""
    return [shop.was_sent(shopper) for shopper in shoppers]


def in_turn(shop: Shop, *shoppers: Shopper) -> list[int]:
    """Answer everything that is under way, and what that lets go, until all is over; gives who was sent when."""
    while shop.under_way():
        shop.upstream.end(shop.under_way()[0])
    timelines = [asked.exchange.timeline for asked in shop.sent]
    return [timelines.index(shopper.call.timeline) for shopper in shoppers]


def put(target: bytes, body: object = b"{}", *fields: tuple[bytes, bytes]) -> Callable[[Shop], Shopper]:
    return lambda shop: shop.submit(b"PUT", target, body, *fields)


def post(target: bytes, body: object = b"{}", *fields: tuple[bytes, bytes]) -> Callable[[Shop], Shopper]:
    return lambda shop: shop.submit(b"POST", target, body, *fields)


def application(name: bytes) -> tuple[bytes, bytes]:
    return b"Talon-Proxy-Application", name


def dry_calls(shop: Shop, *ids: tuple[str, str | None]) -> list[Shopper]:
    calls = []
    for number, (session, profile) in enumerate(ids):
        body = {"customerSession": {"profileId": profile, "attributes": {"number": number}}}
        calls.append(shop.submit(b"PUT", b"/v2/customer_sessions/%b?dry=true" % session.encode(), body))
    return calls


def switch(shop: Shop) -> FakeUpstream:
    """Point the shop at another upstream; what is under way ends on the old one."""
    new = FakeUpstream(shop.clock, b"new.example")
    new.ready = True
    shop.upstream.current = new
    shop.upstream.state = Serving.DRAINING
    return new


PARALLEL_SESSION = orjson.dumps(
    {"message": "Too many requests are updating this session at the same time", "StatusCode": 409}
)
PARALLEL_PROFILE = orjson.dumps(
    {"message": "Too many requests are updating this profile at the same time", "StatusCode": 409}
)


def fields_of(block: bytes) -> Mapping[bytes, bytes]:
    return dict(line.split(b": ", 1) for line in block.split(b"\r\n") if line)


@contextmanager
def ended(shop: Shop) -> Iterator[Shop]:
    """Let everything end at the end of a test."""
    yield shop
    shop.attempts.hurry(shop.pipeline.flights)
    shop.pipeline.refuse_unsent()
    for asked in shop.under_way():
        shop.upstream.end(asked)
    shop.attempts.hurry(shop.pipeline.flights)
    shop.assert_idle()
