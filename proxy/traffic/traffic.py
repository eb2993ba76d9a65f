"""The traffic room: everything that decides when a call may go, built once and handed to the pipeline."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from proxy.traffic.attempts import Attempts
from proxy.traffic.attempts import Rules as AttemptRules
from proxy.traffic.gates import Gates
from proxy.traffic.lanes import Lanes
from proxy.traffic.lanes import Rules as LaneRules
from proxy.traffic.limit import Limit
from proxy.traffic.memory import Memory
from proxy.traffic.reads import Reads
from proxy.traffic.sharing import Profile, Sharing
from proxy.traffic.signs import Suspicion
from proxy.traffic.traced import TracedAttempts, Tracer
from proxy.upstream import Upstream

PROFILES: Final = 2_000  # watched for being shared; one that matters is named far more often than so many others


@dataclass(frozen=True, slots=True)
class Rules:
    """Settings of the room. `memory`: sessions remembered; `shared_profiles`: ids of those known to be shared."""

    attempts: AttemptRules
    lanes: LaneRules = field(default_factory=LaneRules)
    memory: int = 100_000
    shared_profiles: tuple[str, ...] = ()
    shared_after: int = 8
    concurrency: int = 200


class Traffic:
    """Lanes, gates, reads, memory, and the attempts of flights.

    `shared` is told of each profile found to be shared; `suspected`, `rekeyed` and `refused` as by `Attempts`. `tracer`
    is told of attempts, if there is one.
    """

    def __init__(
        self,
        upstream: Upstream,
        rules: Rules,
        *,
        clock: Callable[[], float],
        shared: Callable[[Profile], None] = lambda _: None,
        suspected: Callable[[Suspicion | None], None] = lambda _: None,
        rekeyed: Callable[[str, str], None] = lambda _, __: None,
        refused: Callable[[str], None] = lambda _: None,
        tracer: Tracer | None = None,
    ) -> None:
        self.lanes = make_lanes(rules, clock=clock, shared=shared)
        self.memory, self.sharing = self.lanes.memory, self.lanes.sharing
        self.gates, self.reads = self.lanes.gates, self.lanes.reads
        make = Attempts if tracer is None else TracedAttempts
        self.attempts = make(
            upstream,
            self.lanes,
            self.gates,
            rules.attempts,
            clock=clock,
            suspected=suspected,
            rekeyed=rekeyed,
            refused=refused,
        )
        if isinstance(self.attempts, TracedAttempts):
            assert tracer is not None
            self.attempts.tracer = tracer

    def follow(self, rules: Rules) -> None:
        """Go on by other rules; what is under way keeps the place it has."""
        self.attempts.follow(rules.attempts)
        self.lanes.follow(rules.lanes)
        self.lanes.limit.follow(rules.concurrency)
        self.memory.size = rules.memory
        self.sharing.follow(listed=rules.shared_profiles, after=rules.shared_after, size=rules.memory)

    def __repr__(self) -> str:
        return f"<Traffic {self.lanes!r} {self.gates!r} {self.reads!r} {self.memory!r}>"


def make_lanes(
    rules: Rules, *, clock: Callable[[], float], shared: Callable[[Profile], None] = lambda _: None
) -> Lanes:
    """Build the lanes with all they need."""
    return Lanes(
        rules.lanes,
        memory=Memory(rules.memory, clock),
        sharing=Sharing(clock, listed=rules.shared_profiles, after=rules.shared_after, size=rules.memory, began=shared),
        gates=Gates(),
        reads=Reads(),
        limit=Limit(rules.concurrency),
        clock=clock,
    )
