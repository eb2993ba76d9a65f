"""Lanes, flights, gates, reads, memory, attempts and pipeline under random use: what design.md §7 promises holds after
every step.

The rules only let things happen: calls arrive, connections open or do not, Talon.One answers or does not, callers
leave, time passes, the upstream is switched. `traffic_ledger` judges.

`make machine` runs it for longer, at random (EXAMPLES, STEPS, SEED).
"""

import os
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from proxy.credentials import Application
from proxy.errors import BadReply, CertificateError, ConnectionLost, ConnectionRefused, ConnectTimeout, ProxyError
from proxy.keyset import KeyPair, KeySet
from proxy.messages import Sent
from proxy.pipeline import Rules as PipelineRules
from proxy.secret import Secret
from proxy.traffic import circuit
from proxy.traffic.attempts import Abandoned
from proxy.traffic.attempts import Rules as AttemptRules
from proxy.traffic.flights import Caller, Flight, Permit
from proxy.traffic.lanes import Rules as LaneRules
from proxy.traffic.retries import Rules as RetryRules
from proxy.wire.wheel import Deadline
from tests import traffic_calls
from tests.generation_fakes import FakeGeneration, Request
from tests.harness import KEY
from tests.traffic_calls import APPLICATIONS, GUEST, MANNERS, SHAPES, Manner, Shape
from tests.traffic_ledger import CallRecord, Ledger, Rules
from tests.traffic_rig import Shop

RESPONSE, HOLD, QUARANTINE, TOTAL = 4.0, 2.0, 1.0, 9.0  # seconds
DEPTH, DRY_WIDTH, MOST_CALLERS, TRIES, SHARED_AFTER = 4, 2, 4, 3, 2
PICK = st.integers(0, 1_000_000)
SHAPE = st.sampled_from(list(SHAPES))
# Most calls are plain ones: they meet.
MANNER = st.sampled_from(["plain"] * 12 + list(MANNERS))
SECONDS = st.sampled_from([0.06, 0.2, 0.5, 1.0, 1.2, 2.5, 4.1, 10.0])

ANSWERS: dict[str, tuple[int, bytes]] = {
    "ok": (200, b""),
    "session full": (409, b"Too many requests are updating this session at the same time"),
    "profile full": (409, b"Too many requests are updating this profile at the same time"),
    "exists": (409, b"already exists"),
    "created": (201, b""),
    "refused": (400, b""),
    "failed": (500, b""),
    "throttled": (429, b""),
    "bad gateway": (502, b""),
    "unavailable": (503, b""),
    "gateway timeout": (504, b""),
}
UNOPENED: dict[str, Callable[[], ProxyError]] = {
    "refused": lambda: ConnectionRefused("x"),
    "timeout": lambda: ConnectTimeout("x"),
    "certificate": lambda: CertificateError("x"),
    "closed": lambda: ConnectionLost("x", sent=Sent.NO),
}


class TrafficMachine(RuleBasedStateMachine):
    """The rooms between listener and wire; as the ledger's `Scene`, what it may look at."""

    ledger: Ledger

    @initialize(
        abandoned=st.sampled_from([Abandoned.AUTO] * 3 + [Abandoned.SEND, Abandoned.DROP]),
        generate_keys=st.sampled_from([False, False, True]),
        free=st.integers(0, 3),
    )
    def begin(self, abandoned: Abandoned = Abandoned.AUTO, generate_keys: bool = False, free: int = 0) -> None:
        self.patch = pytest.MonkeyPatch()
        _number_alarms(self.patch)
        # The circuit has tests of its own; here it would hide what comes after a few failures.
        self.patch.setattr(circuit, "IN_A_ROW", 1_000_000)
        self.patch.setattr(circuit, "LEAST_CALLS", 1_000_000)
        self.shop = Shop(
            lanes=LaneRules(depth=DEPTH, dry_width=DRY_WIDTH, max_callers=MOST_CALLERS),
            attempts=AttemptRules(
                RESPONSE,
                hold=HOLD,
                quarantine=QUARANTINE,
                abandoned=abandoned,
                generate_keys=generate_keys,
                management_rate=0.0,
                retries=RetryRules(conflict_tries=TRIES),
            ),
            pipeline=PipelineRules(total_timeout=TOTAL),
            applications=APPLICATIONS,
            management=True,
            shared=(GUEST,),
            shared_after=SHARED_AFTER,
        )
        self.keys = {application.name: KEY + application.name for application in APPLICATIONS}
        self.numbers = iter(range(1_000_000))
        self.generations: list[FakeGeneration] = []
        rules = Rules(
            depth=DEPTH,
            max_callers=MOST_CALLERS,
            dry_width=DRY_WIDTH,
            quarantine=QUARANTINE,
            conflict_tries=TRIES,
            abandoned=abandoned,
            generate_keys=generate_keys,
            shared=frozenset({GUEST}),
            shared_after=SHARED_AFTER,
            total=TOTAL,
        )
        self.ledger = Ledger(rules, self)
        self.switch()
        for _ in range(free):
            self.current.open()

    # --- what the ledger may look at ---

    @property
    def now(self) -> float:
        return self.shop.clock.now

    @property
    def current(self) -> FakeGeneration:
        return self.generations[-1]

    @property
    def places(self) -> set[Flight]:
        return set(self.shop.pipeline.flights)

    def queues(self, flight: Flight) -> bool:
        return any(flight in generation.waiting for generation in self.generations)

    def authorization(self, application: str) -> bytes:
        return b"ApiKey-v1 " + self.keys[application].encode()

    # --- calls ---

    def arrive(self, shape: Shape, manner: Manner, then: Callable[[], None] = lambda: None) -> CallRecord:
        call = traffic_calls.call(shape, manner, self.now)

        def submit(record: CallRecord) -> Caller | None:
            record.then = then
            return self.shop.pipeline.submit(call, record.answer)

        return self.ledger.arrive(shape, manner, call, submit)

    @rule(shape=SHAPE, manner=MANNER)
    def ask(self, shape: str, manner: str = "plain") -> None:
        self.arrive(SHAPES[shape], MANNERS[manner])

    @rule(shape=SHAPE, manner=MANNER, count=st.integers(2, 5))
    def ask_often(self, shape: str, manner: str = "plain", count: int = 2) -> None:
        for _ in range(count):
            self.ask(shape, manner)

    @rule(first=SHAPE, second=SHAPE, manner=MANNER)
    def ask_in_turn(self, first: str, second: str, manner: str = "plain") -> None:
        """The next call of a connection comes in the very step in which the one before is answered."""
        self.arrive(SHAPES[first], MANNERS[manner], lambda: self.ledger.told(lambda: self.ask(second, manner)))

    @precondition(lambda self: self.ledger.calls)
    @rule(pick=PICK)
    def ask_again(self, pick: int = 0) -> None:
        """Counted from the latest."""
        earlier = self.ledger.calls[-1 - pick % len(self.ledger.calls)]
        self.arrive(earlier.shape, earlier.manner)

    @property
    def waiting(self) -> list[CallRecord]:
        return [call for flight in self.ledger.live for call in flight.calls if call.waiting]

    @precondition(lambda self: self.waiting)
    @rule(pick=PICK)
    def leave(self, pick: int = 0) -> None:
        waiting = self.waiting
        self.ledger.leave(waiting[pick % len(waiting)])

    # --- the upstream ---

    @rule(count=st.integers(1, 6))
    def open(self, count: int = 1) -> None:
        """Connections are open, for those who wait or for later."""
        for _ in range(count):
            if len(self.current.idle) < 4:
                self.current.open()

    @precondition(lambda self: self.current.waiting)
    @rule(how=st.sampled_from(sorted(UNOPENED)))
    def fail_to_open(self, how: str = "refused") -> None:
        self.current.refuse(UNOPENED[how]())

    @property
    def requests(self) -> list[Request]:
        return [request for generation in self.generations for request in generation.requests]

    @precondition(lambda self: self.requests)
    @rule(pick=PICK, how=st.sampled_from(["ok"] * 6 + ["session full"] * 4 + list(ANSWERS)))
    def answer(self, pick: int = 0, how: str = "ok") -> None:
        requests = self.requests
        request = requests[pick % len(requests)]
        status, text = ANSWERS[how]
        request.connection.answer(status, b'{"message":"%b","number":%d}' % (text, request.number))

    @precondition(lambda self: self.requests)
    @rule(pick=PICK)
    def answer_at_length(self, pick: int = 0) -> None:
        """The answer is too large to hold."""
        requests = self.requests
        requests[pick % len(requests)].connection.answer(200, b"", stream=True)

    @precondition(lambda self: self.requests)
    @rule(pick=PICK, how=st.sampled_from(["silent", "begun", "garbage"]))
    def lose(self, pick: int = 0, how: str = "silent") -> None:
        requests = self.requests
        connection = requests[pick % len(requests)].connection
        if how == "garbage":
            connection.fail(BadReply("x", sent=Sent.MAYBE))
        else:
            connection.lose(begun=how == "begun")

    @rule()
    def hold_or_not(self) -> None:
        """Connections may be held, or too many are."""
        self.current.holds = not self.current.holds

    @rule()
    def switch(self) -> None:
        """A new generation serves; those who wait at the old one are sent there."""
        number = len(self.generations)
        self.generations.append(FakeGeneration(number, self.shop.wheel, self.ledger, self.numbers))
        self.current.keys = self.key_set()
        self.shop.upstream.current = self.current  # type: ignore[assignment]
        if number:
            self.generations[-2].drain()

    @precondition(lambda self: any(generation.requests for generation in self.generations[:-1]))
    @rule()
    def end_drain(self) -> None:
        """What is still under way at former generations is given up."""
        for generation in self.generations[:-1]:
            generation.abort()

    @rule(application=st.sampled_from(APPLICATIONS))
    def rotate(self, application: Application = APPLICATIONS[0]) -> None:
        self.keys[application.name] = f"{KEY}{next(self.numbers)}"
        self.current.keys = self.key_set()

    def key_set(self) -> KeySet:
        pairs = {name: KeyPair(Secret(key)) for name, key in self.keys.items()}
        return KeySet(pairs, Secret("m" * 64), self.shop.ledger)

    # --- time ---

    @rule(seconds=SECONDS)
    def pass_time(self, seconds: float) -> None:
        self.shop.clock.advance(seconds)
        self.ledger.rung = self.now - 0.05

    @rule(seconds=SECONDS)
    def stall(self, seconds: float) -> None:
        """The loop is blocked: time passes, and no alarm rings."""
        self.shop.clock.now += seconds

    # --- the end ---

    @precondition(lambda self: len(self.ledger.calls) > 20 and not self.ledger.hurried)
    @rule()
    def hurry(self) -> None:
        """Shutting down: nothing is held any longer for what is not known."""
        self.ledger.hurried = True
        self.shop.attempts.hurry(self.shop.pipeline.flights)

    @precondition(lambda self: len(self.ledger.calls) > 30 and self.ledger.hurried and not self.ledger.stopping)
    @rule()
    def stop(self) -> None:
        """Shutting down: nothing more is sent."""
        self.ledger.stopping = self.ledger.hurried = True
        self.ledger.before_stop = len(self.ledger.calls)
        self.shop.pipeline.refuse_unsent()

    # --- what must hold ---

    @invariant()
    def everything_is_in_order(self) -> None:
        for generation in self.generations:
            generation.turn()
        self.ledger.audit()
        shop = self.shop
        assert (len(shop.lanes), len(shop.gates), shop.lanes.waiting) == self.ledger.counts()
        held = [flight.permit for flight in shop.pipeline.flights].count(Permit.HELD)
        assert shop.lanes.limit.inside == held
        assert len(shop.reads) <= sum(flight.shape.reads for flight in self.ledger.live)
        assert len(shop.memory) <= len({shape.session for shape in SHAPES.values()}) * len(APPLICATIONS)

    def teardown(self) -> None:
        """Everything comes to its end, and nothing is left of it."""
        if not hasattr(self, "ledger"):
            return
        try:
            if not self.ledger.problems:
                self.finish()
        finally:
            self.patch.undo()

    def finish(self) -> None:
        for _ in range(300):
            if not self.places:
                break
            self.open(6)
            self.everything_is_in_order()
            for request in self.requests:
                if request.ended is None:
                    request.connection.answer(200, b'{"number":%d}' % request.number)
            self.everything_is_in_order()
            self.pass_time(0.2)
            self.everything_is_in_order()
        self.shop.assert_idle()
        self.ledger.close()


def test_a_lost_read_that_waits_to_be_sent_to_the_new_upstream_is_shared() -> None:
    machine = TrafficMachine()
    machine.begin()
    machine.open(1)
    machine.ask("read session s1", "plain")
    machine.switch()
    machine.end_drain()

    machine.ask_again(0)

    machine.everything_is_in_order()
    assert [call.call.timeline.joined for call in machine.ledger.calls] == [False, True]
    machine.teardown()


def _number_alarms(patch: pytest.MonkeyPatch) -> None:
    """Let sets of flights and callers be gone through in the same order in every run, so that a run can be repeated."""
    order: dict[int, tuple[int, Deadline]] = {}

    def number(alarm: Deadline) -> int:
        return order.setdefault(id(alarm), (len(order), alarm))[0]

    patch.setattr(Deadline, "__hash__", number)


EXAMPLES, STEPS = int(os.environ.get("EXAMPLES", "0")), int(os.environ.get("STEPS", "60"))
TrafficMachine.TestCase.settings = settings(
    max_examples=EXAMPLES or 500,
    stateful_step_count=STEPS,
    deadline=None,
    derandomize=not EXAMPLES,
    database=None,
    report_multiple_bugs=False,
    suppress_health_check=[HealthCheck.too_slow],
)
TestTraffic = TrafficMachine.TestCase
