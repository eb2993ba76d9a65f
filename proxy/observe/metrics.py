"""The counting; `families` declares what is counted.

The end of a call costs a few additions to integers; prometheus_client has its turn only when somebody scrapes. What
other objects know already is asked of them then (`Pulled`), so that no number is kept twice.

Labels come from closed sets: operations and Applications are those given at the start, everything else is told
below. What is not in a set is counted as `other`, or as no Application; it never makes a series. Where many
Applications and a Talon.One that answers with every status there is would make too many, the newest are added up.
"""

import itertools
import platform
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from proxy.errors import Category, ProxyError, Unavailable
from proxy.messages import Call, Reply, Sent, Source, Timeline, Trace
from proxy.observe import families
from proxy.observe.exposition import Exposition, Labels, Shown

OTHER = "other"
FOLDED = "management"  # an operation that is no operation of its own here
STATUSES: Final = range(100, 600)
ODD_STATUS: Final = 0  # stands for every status that HTTP does not know
PHASES = ("read", "lane", "gate", "pool", "connect", "tls", "ttfb", "body", "write")
REFUSALS = tuple(
    category.value
    for category in (
        Category.DEPTH,
        Category.CONCURRENCY,
        Category.BUFFER,
        Category.CIRCUIT,
        Category.PACING,
        Category.DRAINING,
    )
)
CONNECTION_STATES = ("opening", "active", "idle", "held")
PROTOCOLS = ("http/1.1", "h2")
GENERATIONS = ("current", "draining")
CLOSINGS = ("idle", "age", "error", "goaway", "switch", "peer")
# Of calls by operation, status, source and Application: eight operations with six statuses make 50, and the histograms
# of all operations are 2,500 series more. Above it the next ones are counted with status `other`, as of no Application.
MOST_ROWS: Final = 5_000
# Errors that tell something of Talon.One, or of the way to it.
FELT: Final = frozenset(
    category.value
    for category in (
        Category.DNS,
        Category.CONNECT,
        Category.TLS,
        Category.TIMEOUT,
        Category.LOST,
        Category.PROTOCOL,
        Category.TOO_LARGE,
    )
)
FOLD_EVERY: Final = 256  # calls; folding them takes 0.3 ms
SAMPLE_EVERY = 0.5  # seconds between two looks at the lag of the loop


class Handle(Protocol):
    """A timer of the loop."""

    def cancel(self) -> None:
        """Do not fire."""
        ...


@dataclass(frozen=True, slots=True)
class Connections:
    """The connections of one generation at the moment of a scrape."""

    protocol: str
    generation: str  # current or draining
    opening: int
    active: int
    idle: int
    held: int = 0


@dataclass(frozen=True, slots=True)
class Traffic:
    """What the traffic room counts itself. Keys are closed sets, all of them there from the start."""

    lanes: int
    waiting: int
    oldest_wait: float  # seconds
    shared_profiles: int
    conflicts_avoided: int
    unkeyed: Mapping[str, int]  # by reason
    conflicts: Mapping[tuple[str, str], int]  # by kind and outcome
    retries: Mapping[str, int]  # by reason
    exhausted: Mapping[str, int]  # by reason of the attempt that was not made


@dataclass(frozen=True, slots=True)
class Checked:
    """What the checklist has counted. Keys are closed sets."""

    checked: Mapping[str, int]  # by rule
    broken: Mapping[str, int]  # by rule
    acknowledged: Sequence[str]  # rules
    effects: Mapping[str, int]  # by type
    skipped: Mapping[str, int]  # calls, by reason


@dataclass(frozen=True, slots=True)
class Pulled:
    """What is asked of other objects when somebody scrapes. Totals must never fall."""

    in_flight: Callable[[], int]
    traffic: Callable[[], Traffic]
    connections: Callable[[], Iterable[Connections]]
    opened: Callable[[], int]  # connections, of all generations ever
    closed: Callable[[], Mapping[str, int]]  # the same, by reason
    circuit: Callable[[], int]
    generation: Callable[[], int]
    override: Callable[[], bool]
    upstream: Callable[[], tuple[str, str]]  # host and protocol
    credentials: Callable[[], Mapping[tuple[str, str, str], int]]  # exchanges by application, key and result
    expiries: Callable[[], Mapping[str, float]]  # Unix time, by application
    reloaded: Callable[[], tuple[bool, float]]  # the last reload succeeded; Unix time of the last that did
    config_hash: Callable[[], str]
    log_dropped: Callable[[], int]
    checklist: Callable[[], Checked | None]  # none while it is off


class _Answers:
    """Of one operation, the answers of one source."""

    __slots__ = ("by_status", "durations")

    def __init__(self) -> None:
        self.by_status: dict[tuple[int, str], int] = {}
        self.durations = families.REQUEST_DURATION.empty()


class _Tally:
    """Of one operation."""

    __slots__ = ("coalesced", "errors", "exchanges", "from_proxy", "from_upstream", "unknown_outcomes")

    def __init__(self) -> None:
        self.from_upstream = _Answers()
        self.from_proxy = _Answers()
        self.exchanges = families.UPSTREAM_DURATION.empty()
        self.errors: dict[str, int] = {}  # by category
        self.unknown_outcomes = 0
        self.coalesced = 0


class Metrics:
    """Counts how calls end, and tells it to Prometheus."""

    only_failed = False

    def __init__(
        self,
        pulled: Pulled,
        *,
        operations: Iterable[str],
        applications: Iterable[str],
        version: str,
        judge: Callable[[Reply], str],
        clock: Callable[[], float],
        now: Callable[[], float],
    ) -> None:
        """`judge` names, from a closed set, what kind of error an answer of Talon.One's is that has status 400 or more.

        `clock` is the one that timelines are stamped by; `now` gives Unix time.
        """
        self._pulled = pulled
        self._judge = judge
        self._version = version
        self._clock = clock
        self._now = now
        self._applications = frozenset(applications)
        self._other = _Tally()
        self._tallies = {name: _Tally() for name in operations if name != FOLDED} | {OTHER: self._other}
        self._overhead = families.OVERHEAD.empty()
        self._phases = {name: families.PHASE.empty() for name in PHASES}
        (
            self._read,
            self._lane,
            self._gate,
            self._pool,
            self._connect,
            self._tls,
            self._ttfb,
            self._body,
            self._write,
        ) = self._phases.values()
        self._lane_wait = families.LANE_WAIT.empty()
        self._abandoned = dict.fromkeys(Sent, 0)
        self._refused = dict.fromkeys(REFUSALS, 0)
        self._served = families.REQUESTS_PER_CONNECTION.empty()
        self._lag = families.LOOP_LAG.empty()
        self._rows = 0  # of all `by_status`
        self._unfolded = 0  # calls since distributions were folded
        self._last_success: float | None = None
        self._exposition = Exposition(self._collect)

    def __repr__(self) -> str:
        return f"<Metrics operations={len(self._tallies)} applications={len(self._applications)}>"

    def know(self, applications: Iterable[str]) -> None:
        """Count these Applications too: settings have been reloaded. Totals never fall, so none is forgotten."""
        self._applications |= frozenset(applications)

    # --- counting ---

    def finished(self, call: Call, reply: Reply, *, whole: bool) -> None:
        """An answer was written, or found its caller gone."""
        timeline = call.timeline
        tally = self._tallies.get(call.operation, self._other)
        status = reply.status
        if reply.source is Source.UPSTREAM:
            answers = tally.from_upstream
            if status < 500:
                self._last_success = timeline.answered
            if status >= 400:
                _add(tally.errors, self._judge(reply))
        else:
            answers = tally.from_proxy
            self._failed(call, reply, tally)
        if reply.outcome is Sent.MAYBE:
            tally.unknown_outcomes += 1
        try:
            answers.by_status[status, call.application] += 1
        except KeyError:
            self._count_first(answers, status, call.application)
        # Of a caller who left, the time until there was an answer for it.
        duration = (timeline.written or timeline.ready) - timeline.arrived
        answers.durations.observe(duration)
        # 0.0 also while an exchange goes on without its caller, whose time was over.
        if timeline.upstream:
            if timeline.joined:
                tally.coalesced += 1
            else:
                tally.exchanges.observe(timeline.upstream)
            # Rounding must not make a sum fall.
            self._overhead.observe(max(timeline.ready - timeline.complete - timeline.upstream - timeline.waited, 0.0))
        self._observe_phases(timeline)
        if call.trace is not None:
            self._exemplify(call.trace, timeline, duration, answers, tally)
        self._unfolded += 1
        if self._unfolded >= FOLD_EVERY:
            self._fold()

    def _fold(self) -> None:
        self._unfolded = 0
        for tally in self._tallies.values():
            tally.exchanges.fold()
            tally.from_upstream.durations.fold()
            tally.from_proxy.durations.fold()
        self._overhead.fold()
        for phase in self._phases.values():
            phase.fold()
        self._lane_wait.fold()

    def rejected(self, reply: Reply, error: ProxyError) -> None:
        """A message that never became a call was answered."""
        self._count_first(self._other.from_proxy, reply.status, "")
        if isinstance(error, Unavailable):
            # `refused` is of connections, too many of them.
            reason = error.category.value
            self._refused[reason if reason in self._refused else "concurrency"] += 1

    def abandoned(self, call: Call, sent: Sent) -> None:
        """A caller left before its answer; one that had been sent is also `finished` when it lands."""
        self._abandoned[sent] += 1

    def connection_closed(self, served: int) -> None:
        """A connection to Talon.One closed that had carried so many calls."""
        self._served.observe(served)

    def loop_lagged(self, seconds: float) -> None:
        """A timer of the loop fired so late."""
        self._lag.observe(seconds)

    def _count_first(self, answers: _Answers, status: int, application: str) -> None:
        """Count what has no entry yet. What is in no closed set never gets one of its own."""
        key = (status if status in STATUSES else ODD_STATUS, application if application in self._applications else "")
        if key not in answers.by_status:
            if self._rows >= MOST_ROWS:
                key = (ODD_STATUS, "")
            else:
                self._rows += 1
        answers.by_status[key] = answers.by_status.get(key, 0) + 1

    def _exemplify(self, trace: Trace, timeline: Timeline, duration: float, answers: _Answers, tally: _Tally) -> None:
        """Remember the trace of a call, if somebody keeps it."""
        if trace.sampled:
            moment = self._now()
            answers.durations.exemplify(duration, trace.id, moment)
            if timeline.upstream and not timeline.joined:
                tally.exchanges.exemplify(timeline.upstream, trace.id, moment)

    def _failed(self, call: Call, reply: Reply, tally: _Tally) -> None:
        """The answer is ours: was the call refused, or did Talon.One not answer."""
        if call.error is None:
            return
        if call.error in FELT and (call.timeline.tries or call.timeline.joined):
            _add(tally.errors, call.error)
        elif call.error in self._refused:
            self._refused[call.error] += 1
        elif call.error == Category.REFUSED.value and reply.status == Unavailable.status:
            self._refused["concurrency"] += 1

    def _observe_phases(self, timeline: Timeline) -> None:
        """Observe the phases that this call went through; moments that did not happen are 0.0."""
        self._read.observe(timeline.complete - timeline.arrived)
        if timeline.lane:
            self._lane.observe(timeline.lane)
            self._lane_wait.observe(timeline.lane)
        if timeline.gate:
            self._gate.observe(timeline.gate)
        if timeline.pool:
            self._pool.observe(timeline.pool)
            if timeline.connect:
                self._connect.observe(timeline.connect)
            if timeline.tls:
                self._tls.observe(timeline.tls)
        if timeline.first_byte:
            self._ttfb.observe(timeline.first_byte - timeline.sent)
            if timeline.answered:
                self._body.observe(timeline.answered - timeline.first_byte)
        if timeline.written and timeline.ready:
            self._write.observe(timeline.written - timeline.ready)

    # --- telling ---

    def render(self, accept: str | None) -> tuple[bytes, str]:
        """See `Exposition.render`."""
        return self._exposition.render(accept)

    async def scrape(self, accept: str | None) -> tuple[bytes, str]:
        """See `Exposition.scrape`."""
        return await self._exposition.scrape(accept)

    def totals(self) -> Mapping[str, float]:
        """Give sums over all calls since the start, for `/status`; times in seconds, of those sent to Talon.One."""
        answered = by_proxy = failed = 0
        for tally in self._tallies.values():
            for answers in (tally.from_upstream, tally.from_proxy):
                count = sum(answers.by_status.values())
                answered += count
                by_proxy += count if answers is tally.from_proxy else 0
                failed += sum(count for (status, _), count in answers.by_status.items() if status >= 500)
        return {
            "answered": answered,
            "by_proxy": by_proxy,
            "failed": failed,
            "unknown": sum(tally.unknown_outcomes for tally in self._tallies.values()),
            "coalesced": sum(tally.coalesced for tally in self._tallies.values()),
            "exchanges": sum(tally.exchanges.count for tally in self._tallies.values()),
            "upstream_seconds": round(sum(tally.exchanges.sum for tally in self._tallies.values()), 6),
            "overhead_seconds": round(self._overhead.sum, 6),
            "lane_seconds": round(self._lane.sum + self._gate.sum, 6),
            "pool_seconds": round(self._pool.sum, 6),
        }

    def upstream_times(self) -> Sequence[int]:
        """Give how many calls took Talon.One so long, per bucket of DURATIONS; above all bounds last."""
        return [
            sum(column) for column in zip(*(tally.exchanges.counts for tally in self._tallies.values()), strict=True)
        ]

    @property
    def since_success(self) -> float | None:
        """Give how many seconds ago Talon.One last answered with a status below 500; None: it never has."""
        return None if self._last_success is None else self._clock() - self._last_success

    def _collect(self) -> Iterator[Shown]:
        yield from self._collect_calls()
        yield from self._collect_errors()
        yield from self._collect_traffic()
        yield from self._collect_upstream()
        yield from self._collect_checklist()
        yield families.LOOP_LAG.single(self._lag)
        yield families.LOG_DROPPED.single(self._pulled.log_dropped())
        yield families.BUILD_INFO.shown([((self._version, platform.python_version()), 1)])
        yield from self._collect_settings()

    def _collect_settings(self) -> Iterator[Shown]:
        pulled = self._pulled
        successful, moment = pulled.reloaded()
        yield families.CONFIG_INFO.shown([((pulled.config_hash(),), 1)])
        yield families.RELOAD_SUCCESSFUL.single(int(successful))
        yield families.RELOADED.single(moment)
        yield families.CREDENTIALS_USED.shown(sorted(pulled.credentials().items()))
        yield families.CREDENTIAL_EXPIRY.shown(((name,), moment) for name, moment in sorted(pulled.expiries().items()))

    def _collect_calls(self) -> Iterator[Shown]:
        answers = [
            (name, source.value, of_source)
            for name, tally in self._tallies.items()
            for source, of_source in ((Source.UPSTREAM, tally.from_upstream), (Source.PROXY, tally.from_proxy))
        ]
        yield families.REQUESTS.shown(
            ((name, str(status) if status != ODD_STATUS else OTHER, source, application), count)
            for name, source, of_source in answers
            for (status, application), count in of_source.by_status.items()
        )
        yield families.REQUEST_DURATION.shown(
            ((name, source), of_source.durations) for name, source, of_source in answers if of_source.durations.count
        )
        yield families.UPSTREAM_DURATION.shown(
            ((name,), tally.exchanges) for name, tally in self._tallies.items() if tally.exchanges.count
        )
        yield families.OVERHEAD.single(self._overhead)
        yield families.PHASE.shown(((name,), distribution) for name, distribution in self._phases.items())
        yield families.IN_FLIGHT.single(self._pulled.in_flight())
        yield families.COALESCED.shown(
            ((name,), tally.coalesced) for name, tally in self._tallies.items() if tally.coalesced
        )
        yield families.ABANDONED.shown(
            ((state,), self._abandoned[sent]) for state, sent in (("queued", Sent.NO), ("sent", Sent.MAYBE))
        )

    def _collect_errors(self) -> Iterator[Shown]:
        yield families.UPSTREAM_ERRORS.shown(
            ((name, category), count)
            for name, tally in self._tallies.items()
            for category, count in tally.errors.items()
        )
        yield families.UNKNOWN_OUTCOMES.shown(
            ((name,), tally.unknown_outcomes) for name, tally in self._tallies.items() if tally.unknown_outcomes
        )
        yield families.REFUSED.shown(((reason,), count) for reason, count in self._refused.items())

    def _collect_traffic(self) -> Iterator[Shown]:
        traffic = self._pulled.traffic()
        yield families.LANES.single(traffic.lanes)
        yield families.LANE_WAITING.single(traffic.waiting)
        yield families.LANE_OLDEST_WAIT.single(traffic.oldest_wait)
        yield families.LANE_WAIT.single(self._lane_wait)
        yield families.SHARED_PROFILES.single(traffic.shared_profiles)
        yield families.UNKEYED.shown(((reason,), count) for reason, count in traffic.unkeyed.items())
        yield families.CONFLICTS_AVOIDED.single(traffic.conflicts_avoided)
        yield families.UPSTREAM_CONFLICTS.shown(traffic.conflicts.items())
        yield families.UPSTREAM_RETRIES.shown(((reason,), count) for reason, count in traffic.retries.items())
        yield families.BUDGET_EXHAUSTED.shown(((reason,), count) for reason, count in traffic.exhausted.items())

    def _collect_upstream(self) -> Iterator[Shown]:
        pulled = self._pulled
        yield families.CONNECTIONS.shown(self._connections())
        yield families.OPENED.single(pulled.opened())
        closed = pulled.closed()
        yield families.CLOSED.shown(((reason,), closed.get(reason, 0)) for reason in CLOSINGS)
        yield families.REQUESTS_PER_CONNECTION.single(self._served)
        yield families.LAST_SUCCESS.single(0 if self._last_success is None else self._unix_time(self._last_success))
        yield families.CIRCUIT_STATE.single(pulled.circuit())
        yield families.GENERATION.single(pulled.generation())
        yield families.OVERRIDE.single(int(pulled.override()))
        yield families.UPSTREAM_INFO.shown([(pulled.upstream(), 1)])

    def _collect_checklist(self) -> Iterator[Shown]:
        checked = self._pulled.checklist()
        if checked is None:
            return
        yield families.CHECKLIST_CHECKED.shown(((rule,), count) for rule, count in checked.checked.items())
        yield families.CHECKLIST_BROKEN.shown(((rule,), count) for rule, count in checked.broken.items())
        yield families.CHECKLIST_ACKNOWLEDGED.shown(((rule,), 1) for rule in checked.acknowledged)
        yield families.CHECKLIST_SKIPPED.shown(((reason,), count) for reason, count in checked.skipped.items())
        yield families.EFFECTS.shown(((effect,), count) for effect, count in sorted(checked.effects.items()))

    def _connections(self) -> Iterator[tuple[Labels, float]]:
        rows = dict.fromkeys(itertools.product(CONNECTION_STATES, PROTOCOLS, GENERATIONS), 0)
        for some in self._pulled.connections():
            for state, count in zip(CONNECTION_STATES, (some.opening, some.active, some.idle, some.held), strict=True):
                # Several generations may drain at a time.
                rows[state, some.protocol, some.generation] += count
        return iter(rows.items())

    def _unix_time(self, moment: float) -> float:
        return self._now() - (self._clock() - moment)


def _add(counts: dict[str, int], name: str) -> None:
    counts[name] = counts.get(name, 0) + 1


class LoopLag:
    """Looks twice a second how late the loop comes to its timers; the owner starts and stops it."""

    def __init__(
        self,
        observe: Callable[[float], None],
        *,
        clock: Callable[[], float],
        call_later: Callable[[float, Callable[[], None]], Handle],
    ) -> None:
        self._observe = observe
        self._clock = clock
        self._call_later = call_later
        self._due = 0.0
        self._timer: Handle | None = None

    def __repr__(self) -> str:
        return f"<LoopLag {'stopped' if self._timer is None else 'running'}>"

    def start(self) -> None:
        """Begin to look."""
        self._due = self._clock() + SAMPLE_EVERY
        self._timer = self._call_later(SAMPLE_EVERY, self._look)

    def stop(self) -> None:
        """Look no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        self._observe(max(self._clock() - self._due, 0.0))
        self.start()
