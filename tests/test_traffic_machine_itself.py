"""The traffic machine finds what it is there to find: each way in which the room might be broken makes it fail.

Each variant breaks one promise of design.md §7 as a plausible mistake would, and has the shortest story, told to the
machine itself, in which that shows. On the proxy as it is no story finds anything.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from proxy import pipeline
from proxy.errors import CallTimeout, LaneFull
from proxy.messages import Answer, Call, Reply
from proxy.pipeline import Pipeline
from proxy.traffic import lanes, retries
from proxy.traffic.attempts import Attempts
from proxy.traffic.flights import Caller, Flight, State
from proxy.traffic.gates import Gates, Passenger
from proxy.traffic.lanes import Ending, Lane, Lanes
from proxy.traffic.memory import Links
from proxy.traffic.retries import Reason
from tests.test_traffic_machine import TrafficMachine

Patch = pytest.MonkeyPatch
STORIES: list["Story"] = []


@dataclass(frozen=True)
class Story:
    """A broken variant, and what happens to it. A step: a rule of the machine and what it is given."""

    name: str
    finds: str  # what the ledger says of it
    break_it: Callable[[Patch], None]
    steps: tuple[tuple[object, ...], ...]

    def tell(self) -> None:
        """Let it happen; everything is looked at after each step, as the machine does it."""
        machine = TrafficMachine()
        machine.begin()
        machine.everything_is_in_order()
        try:
            for rule, *given in self.steps:
                getattr(machine, str(rule))(*given)
                machine.everything_is_in_order()
        finally:
            machine.teardown()


def broken(finds: str, *steps: tuple[object, ...]) -> Callable[[Callable[[Patch], None]], Callable[[Patch], None]]:
    """Note a variant with its story."""

    def note(break_it: Callable[[Patch], None]) -> Callable[[Patch], None]:
        STORIES.append(Story(break_it.__name__, finds, break_it, steps))
        return break_it

    return note


# --- places ---


@broken("may not share this", ("ask", "update s1"), ("ask", "update s1 p1"), ("ask", "update s1"))
def join_not_at_the_tail(patch: Patch) -> None:
    inner = Lanes._common_tail

    def common(self: Lanes, lanes: list[Lane | None], flight: Flight) -> Flight | None:
        found = inner(self, lanes, flight)
        if found is not None or lanes[0] is None:
            return found
        for older in _flights(self):
            if older.fingerprint == flight.fingerprint and flight.shares and self._takes(older):
                return older
        return None

    _remember_flights(patch)
    patch.setattr(Lanes, "_common_tail", common)


@broken("may not share this", ("ask", "bulk", "plain"), ("ask", "bulk", "plain"))
def join_without_a_lane(patch: Patch) -> None:
    inner = Lanes._admit_write

    def admit(self: Lanes, flight: Flight, links: Links | None) -> Flight:
        for older in _flights(self):
            if flight.fingerprint == older.fingerprint and flight.method == b"PUT" and self._takes(older):
                return older
        return inner(self, flight, links)

    _remember_flights(patch, admit)


@broken("lost its place", ("ask", "update s1"), ("ask", "update s1 p1"), ("open", 1), ("leave", 0), ("open", 1))
def sent_exchange_of_an_abandoned_flight_is_cancelled(patch: Patch) -> None:
    inner = Pipeline._lost

    def lost(self: Pipeline, flight: Flight) -> None:
        inner(self, flight)
        if not flight.wanted and flight.state is State.SENT:
            self._attempts.done(flight)  # its lane is released at once

    patch.setattr(Pipeline, "_lost", lost)


@broken(
    "sent before one ahead was over",
    ("open", 2),
    ("ask", "update s1"),
    ("ask", "update s1 p1"),
    ("ask", "event p1"),
    ("leave", 1),
)
def abandoned_flight_leaves_its_place(patch: Patch) -> None:
    """The classic one: its task is cancelled, and whoever waits for it goes on."""

    def forsaken(self: Attempts, flight: Flight) -> None:
        if flight.ahead:
            for follower in flight.followers:
                follower.ahead -= 1
                if not follower.ahead:
                    self._lanes.waiting -= 1
                    follower.begin()
            flight.followers = []
        elif not self.insists(flight):
            self._end_unsent(flight)

    patch.setattr(Attempts, "forsaken", forsaken)


@broken("lost its place", ("open", 1), ("ask", "update s1"), ("ask", "update s1 p1"), ("lose", 0), ("open", 1))
def no_quarantine(patch: Patch) -> None:
    patch.setattr(Attempts, "_quarantine", Attempts.done)


@broken(
    "sent before one ahead was over",
    ("open", 1),
    ("ask", "update s1"),
    ("ask", "update s1 p1"),
    ("answer", 0, "session full"),
    ("open", 1),
)
def place_lost_in_a_back_off(patch: Patch) -> None:
    inner = Flight.rest

    def rest(self: Flight, seconds: float) -> None:
        inner(self, seconds)
        followers, self.followers = self.followers, []
        for follower in followers:
            follower.ahead = 0
            follower.begin()

    patch.setattr(Flight, "rest", rest)


@broken("too many inside a gate", *[("ask", f"event {profile}") for profile in ["guest"] * 4], ("open", 6))
def gate_is_wide_open(patch: Patch) -> None:
    def enter(self: Gates, passenger: Passenger) -> bool:
        for gate in passenger.gates:
            gate.inside += 1
        return True

    patch.setattr(Gates, "enter", enter)


@broken(
    "sent before one ahead was over",
    ("open", 2),
    ("ask", "update s1 p1"),
    ("ask", "returns s1"),
    ("ask", "event p1"),
    ("answer", 0),
)
def profile_is_remembered_only_when_confirmed(patch: Patch) -> None:
    patch.setattr(Links, "profiles", property(lambda links: links.possible))


# --- callers ---


@broken("lost its place", ("open", 1), ("ask", "update s1"))
def waiter_is_counted_late(patch: Patch) -> None:
    """At its first await, when its flight may have begun without it."""
    inner = Pipeline.submit
    late: list[tuple[Flight, Caller]] = []

    def board(self: Flight, caller: Caller) -> None:
        caller.flight = self
        late.append((self, caller))

    def submit(self: Pipeline, call: Call, answer: Answer) -> Caller | None:
        caller = inner(self, call, answer)
        while late:
            flight, newcomer = late.pop()
            flight.callers.append(newcomer)
        return caller

    patch.setattr(Flight, "board", board)
    patch.setattr(Pipeline, "submit", submit)


@broken("out of time too early", ("ask", "update s1", "hasty"), ("ask", "update s1"), ("pass_time", 2.5), ("open", 1))
def deadline_of_the_leader(patch: Patch) -> None:
    inner = Flight.board
    first: dict[Flight, float] = {}

    def board(self: Flight, caller: Caller) -> None:
        inner(self, caller)
        first.setdefault(self, caller.due)

    patch.setattr(Flight, "board", board)
    patch.setattr(Flight, "deadline", property(lambda self: first[self] if self.callers else 0.0))


@broken("told that it may have been sent", ("ask", "update s1", "hasty"), ("pass_time", 2.5))
def sent_before_there_is_a_connection(patch: Patch) -> None:
    inner = Flight.wait

    def wait(self: Flight) -> None:
        inner(self)
        if self.waits:
            self.state = State.SENT

    patch.setattr(Flight, "wait", wait)


@broken(
    "told that it was not sent",
    *[("ask", "update s1 p1", "hasty"), ("ask", "update s1 p1"), ("pass_time", 2.5), ("open", 1)],
)
def outcome_forgets_the_other_callers(patch: Patch) -> None:
    """Who gives up is told that nothing was sent, though it will be for the others."""

    def overdue(self: Pipeline, caller: Caller) -> None:
        flight = caller.flight
        flight.callers.remove(caller)
        self._end(caller, CallTimeout("x", sent=flight.outcome))
        self._lost(flight)

    patch.setattr(Pipeline, "overdue", overdue)


# --- reads, repeats, answers ---


@broken(
    "may not share this",
    ("open", 2),
    ("ask", "update s1"),
    ("ask", "read session s1"),
    ("answer", 0),
    ("ask", "read session s1"),
)
def read_is_sealed_on_admission_only(patch: Patch) -> None:
    inner = Lanes.seal
    landing: list[Lanes] = []

    def landed(self: Lanes, flight: Flight, ending: Ending) -> None:
        landing.append(self)
        Lanes_landed(self, flight, ending)
        landing.pop()

    def seal(self: Lanes, flight: Flight) -> None:
        if not landing and flight.state is State.QUEUED:
            inner(self, flight)

    Lanes_landed = Lanes.landed  # noqa: N806
    patch.setattr(Lanes, "landed", landed)
    patch.setattr(Lanes, "seal", seal)


@broken("executed twice", ("open", 1), ("ask", "event p1"), ("lose", 0), ("open", 1))
def lost_write_is_repeated(patch: Patch) -> None:
    patch.setattr(retries, "after_loss", lambda *_, **__: Reason.LOST)


@broken("may not share this", ("ask", "update s1"), ("ask", "update s1", "other"))
def applications_are_not_told_apart(patch: Patch) -> None:
    inner = pipeline.make_flight

    def flight(*given: Any, **options: Any) -> Flight:
        made = inner(*given, **options)
        made.fingerprint = made.fingerprint[:3]
        return made

    def keys(flight: Flight, links: Links | None) -> tuple[tuple[str, str, str], ...]:
        return tuple([(sort, "", name) for sort, _, name in inner_keys(flight, links)])

    inner_keys = lanes._keys
    patch.setattr(pipeline, "make_flight", flight)
    patch.setattr(lanes, "_keys", keys)


@broken("answered twice", ("open", 1), ("ask", "update s1"), ("ask", "update s1"), ("answer", 0))
def answered_twice(patch: Patch) -> None:
    def answer(self: Caller, reply: Reply, lines: bytes) -> None:
        self.clear()
        tell = self._answer
        tell(reply, lines)
        tell(reply, lines)

    patch.setattr(Caller, "answer", answer)


@broken("a lane is too deep", *[("ask", "update s1", "alone")] * 5)
def no_depth(patch: Patch) -> None:
    inner = Lanes._check_room

    def check(self: Lanes, *given: object) -> None:
        try:
            inner(self, *given)  # type: ignore[arg-type]
        except LaneFull:
            return

    patch.setattr(Lanes, "_check_room", check)


# --- helpers of variants ---


_AdmitWrite = Callable[[Lanes, Flight, Links | None], Flight]


def _remember_flights(patch: Patch, admit_write: _AdmitWrite = Lanes._admit_write) -> None:
    """Let lanes know every flight that was ever admitted, as `_flights` gives them."""

    def admit(self: Lanes, flight: Flight, links: Links | None) -> Flight:
        place = admit_write(self, flight, links)
        self.__dict__.setdefault("known", []).append(place)
        return place

    patch.setattr(Lanes, "_admit_write", admit)


def _flights(lanes: Lanes) -> Iterator[Flight]:
    known: list[Flight] = lanes.__dict__.get("known", [])
    return reversed(known)


# --- tests ---


@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.name)
def test_a_broken_variant_is_found(story: Story, monkeypatch: Patch) -> None:
    story.break_it(monkeypatch)

    with pytest.raises(AssertionError, match=story.finds):
        story.tell()


@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.name)
def test_the_same_story_finds_nothing_where_nothing_is_broken(story: Story) -> None:
    story.tell()
