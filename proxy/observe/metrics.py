"""What is counted, and the counting.

Every metric is declared here, with a text for a stranger. The end of a call costs a few additions to integers;
prometheus_client has its turn only when somebody scrapes. What other objects know already is asked of them then
(`Pulled`), so that no number is kept twice.

Labels come from closed sets: operations and Applications are those given at the start, everything else is told
below. What is not in a set is counted as `other`, or as no Application; it never makes a series.
"""

import itertools
import platform
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Protocol

from prometheus_client import Metric

from proxy.errors import Category, Draining, ProxyError, Unavailable
from proxy.messages import Call, Reply, Sent, Source, Timeline
from proxy.observe.exposition import Exposition, Family, Histogram, Labels

# As OpenTelemetry's HTTP conventions advise (http.server.request.duration).
DURATIONS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
OVERHEADS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1)
SERVED = (1, 3, 10, 30, 100, 300, 1_000, 3_000, 10_000, 30_000)

REQUESTS = Family(
    "talon_proxy_requests_total",
    "Calls that were answered, or whose answer found its caller gone; source: who made the answer, Talon.One"
    " (upstream) or this proxy",
    ("operation", "status", "source", "application"),
)
REQUEST_DURATION = Histogram(
    "talon_proxy_request_duration_seconds",
    "Time from the first byte of a call to the last byte of its answer, as its caller had it",
    DURATIONS,
    ("operation", "source"),
)
UPSTREAM_DURATION = Histogram(
    "talon_proxy_upstream_request_duration_seconds",
    "Time a call spent with Talon.One, all attempts together, from sending to the whole answer or its failure",
    DURATIONS,
    ("operation",),
)
OVERHEAD = Histogram(
    "talon_proxy_overhead_seconds",
    "Time this proxy added to a call: from the complete request to the ready answer, without Talon.One's part, and"
    " without waiting for earlier calls, for another call's answer or for the next attempt",
    OVERHEADS,
)
PHASE = Histogram(
    "talon_proxy_phase_seconds",
    "Time of a call by phase: read (request arriving), lane (waiting for earlier writes of its session or profile),"
    " gate (waiting where a limited number may go at a time), pool (waiting for a connection, opening included),"
    " connect and tls (of that), ttfb (first byte of the answer), body (rest of it), write (answer to the caller)",
    DURATIONS,
    ("phase",),
)
IN_FLIGHT = Family(
    "talon_proxy_requests_in_flight",
    "Calls not answered yet, or sent to Talon.One and given up by their callers",
)
COALESCED = Family(
    "talon_proxy_coalesced_requests_total",
    "Calls that shared the answer of an identical call, and so were not sent to Talon.One",
    ("operation",),
)
LANES = Family(
    "talon_proxy_lanes",
    "Sessions and profiles that have a write waiting or under way",
)
LANE_WAITING = Family(
    "talon_proxy_lane_waiting",
    "Writes that wait for earlier ones of the same session or profile",
)
LANE_OLDEST_WAIT = Family(
    "talon_proxy_lane_oldest_wait_seconds",
    "How long the oldest of those has waited",
)
LANE_WAIT = Histogram(
    "talon_proxy_lane_wait_seconds",
    "Time that a write waited for earlier ones of the same session or profile, where it had to",
    DURATIONS,
)
SHARED_PROFILES = Family(
    "talon_proxy_shared_profiles",
    "Profiles found to be used by many sessions, as for guests: their writes are limited, and not ordered; better give"
    " each guest a profile of its own, or none",
)
UNKEYED = Family(
    "talon_proxy_unkeyed_requests_total",
    "Calls that were not ordered by all they name; reason: the body was too_large to look into, compressed, not_json,"
    " of another shape than documented, or named too_many profiles",
    ("reason",),
)
CONFLICTS_AVOIDED = Family(
    "talon_proxy_conflicts_avoided_total",
    "Writes that came while three or more of the same session or profile were unfinished: at most so many answers of"
    " 409 were avoided by ordering them",
)
UPSTREAM_CONFLICTS = Family(
    "talon_proxy_upstream_conflicts_total",
    "Calls that Talon.One answered with 409; kind: too many parallel updates of the session or profile, something that"
    " exists already, or another reason; outcome: resolved by trying again, or returned to the caller",
    ("kind", "outcome"),
)
ABANDONED = Family(
    "talon_proxy_abandoned_requests_total",
    "Calls whose caller left before the answer; state: not yet sent to Talon.One (queued), or sent",
    ("state",),
)
UNKNOWN_OUTCOMES = Family(
    "talon_proxy_unknown_outcomes_total",
    "Calls of which nobody knows whether Talon.One processed them: lost, timed out, or answered with 502 or 504",
    ("operation",),
)
REFUSED = Family(
    "talon_proxy_refused_total",
    "Calls and connections that this proxy did not take; reason: depth (too many writes of one session or profile"
    " wait), concurrency (too many calls or connections), circuit (Talon.One could not be reached lately), pacing (too"
    " many calls of one endpoint of the Management API wait), draining (shutting down)",
    ("reason",),
)
UPSTREAM_RETRIES = Family(
    "talon_proxy_upstream_retries_total",
    "Attempts repeated; reason: connection (the one before failed before anything was sent), lost (its connection was"
    " lost, and the call may be repeated), idle_close (Talon.One closed the idle connection as the call came), status"
    " (a read was answered with 502, 503 or 504), throttled (with 429), conflict (another update was in the way), key"
    " (its key was refused, and there is another)",
    ("reason",),
)
BUDGET_EXHAUSTED = Family(
    "talon_proxy_retry_budget_exhausted_total",
    "Attempts not repeated, because retries.budget was used up",
    ("reason",),
)
CONNECTIONS = Family(
    "talon_proxy_upstream_connections",
    "Connections to Talon.One; state: being opened, active, idle, or held back; generation: of the current URL, or"
    " of one that is being left (draining)",
    ("state", "protocol", "generation"),
)
OPENED = Family(
    "talon_proxy_upstream_connections_opened_total",
    "Connections to Talon.One that were opened",
)
CLOSED = Family(
    "talon_proxy_upstream_connections_closed_total",
    "Connections to Talon.One that were closed; reason: unused for long (idle), renewed (age), after an error,"
    " told to by Talon.One (goaway), left with their URL or at the end (switch), closed by Talon.One (peer)",
    ("reason",),
)
REQUESTS_PER_CONNECTION = Histogram(
    "talon_proxy_upstream_requests_per_connection",
    "Calls that a connection to Talon.One had carried when it closed; low numbers mean many handshakes",
    SERVED,
)
LAST_SUCCESS = Family(
    "talon_proxy_upstream_last_success_timestamp_seconds",
    "When Talon.One last answered with a status below 500, as Unix time; 0 until it has",
)
CIRCUIT_STATE = Family(
    "talon_proxy_circuit_state",
    "0: calls go to Talon.One; 2: it could not be reached lately, and calls are refused at once; 1: one is on its way,"
    " to see whether that is over",
)
GENERATION = Family(
    "talon_proxy_upstream_generation",
    "Number of the current URL of Talon.One; it grows with every switch",
)
OVERRIDE = Family(
    "talon_proxy_upstream_override",
    "1 while the URL of Talon.One is one that was set at run time, and not the configured one; it lasts until restart",
)
UPSTREAM_INFO = Family(
    "talon_proxy_upstream_info",
    "Always 1; tells the current host of Talon.One and the protocol spoken to it",
    ("host", "protocol"),
)
BUILD_INFO = Family(
    "talon_proxy_build_info",
    "Always 1; tells the versions of this proxy and of Python",
    ("version", "python"),
)
CONFIG_INFO = Family(
    "talon_proxy_config_info",
    "Always 1; tells the hash of the settings in use (secrets left out), equal where settings are",
    ("hash",),
)
CREDENTIALS_USED = Family(
    "talon_proxy_credentials_used_total",
    "Answers of Talon.One by the Application whose key signed the exchange; key: its api_key (primary) or next_api_key"
    " (next); rejected: status 401",
    ("application", "key", "result"),
)
CREDENTIAL_EXPIRY = Family(
    "talon_proxy_credential_expiry_timestamp_seconds",
    "When the key of an Application expires, as the settings have it (applications.<name>.expires), as Unix time",
    ("application",),
)
RELOAD_SUCCESSFUL = Family(
    "talon_proxy_config_last_reload_successful",
    "1 if the settings were taken over when they were last read, 0 if they could not be used and the old ones stayed",
)
RELOADED = Family(
    "talon_proxy_config_last_reload_timestamp_seconds",
    "When settings were last taken over, as Unix time",
)
LOOP_LAG = Histogram(
    "talon_proxy_event_loop_lag_seconds",
    "How late a timer fired that is due twice a second: how long other work held this process up",
    DURATIONS,
)
LOG_DROPPED = Family(
    "talon_proxy_log_dropped_total",
    "Log lines not written: the reader of standard output was too slow, or one message came too often",
)

OTHER = "other"
FOLDED = "management"  # an operation that is no operation of its own here
STATUSES = range(100, 600)
ODD_STATUS = 0  # stands for every status that HTTP does not know
PHASES = ("read", "lane", "gate", "pool", "connect", "tls", "ttfb", "body", "write")
REFUSALS = tuple(
    category.value
    for category in (Category.DEPTH, Category.CONCURRENCY, Category.CIRCUIT, Category.PACING, Category.DRAINING)
)
CONNECTION_STATES = ("opening", "active", "idle", "held")
PROTOCOLS = ("http/1.1", "h2")
GENERATIONS = ("current", "draining")
CLOSINGS = ("idle", "age", "error", "goaway", "switch", "peer")
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


class _Answers:
    """Of one operation, the answers of one source."""

    __slots__ = ("by_status", "durations")

    def __init__(self) -> None:
        self.by_status: dict[tuple[int, str], int] = {}
        self.durations = REQUEST_DURATION.empty()


class _Tally:
    """Of one operation."""

    __slots__ = ("coalesced", "exchanges", "from_proxy", "from_upstream", "unknown_outcomes")

    def __init__(self) -> None:
        self.from_upstream = _Answers()
        self.from_proxy = _Answers()
        self.exchanges = UPSTREAM_DURATION.empty()
        self.unknown_outcomes = 0
        self.coalesced = 0


class Metrics:
    """Counts how calls end, and tells it to Prometheus."""

    def __init__(
        self,
        pulled: Pulled,
        *,
        operations: Iterable[str],
        applications: Iterable[str],
        version: str,
        clock: Callable[[], float],
        now: Callable[[], float],
    ) -> None:
        """`clock` is the one that timelines are stamped by; `now` gives Unix time."""
        self._pulled = pulled
        self._version = version
        self._clock = clock
        self._now = now
        self._applications = frozenset(applications)
        self._other = _Tally()
        self._tallies = {name: _Tally() for name in operations if name != FOLDED} | {OTHER: self._other}
        self._overhead = OVERHEAD.empty()
        self._phases = {name: PHASE.empty() for name in PHASES}
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
        self._lane_wait = LANE_WAIT.empty()
        self._abandoned = dict.fromkeys(Sent, 0)
        self._refused = dict.fromkeys(REFUSALS, 0)
        self._served = REQUESTS_PER_CONNECTION.empty()
        self._lag = LOOP_LAG.empty()
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
        else:
            answers = tally.from_proxy
            self._failed(call, reply)
        if reply.outcome is Sent.MAYBE:
            tally.unknown_outcomes += 1
        try:
            answers.by_status[status, call.application] += 1
        except KeyError:
            self._count_first(answers, status, call.application)
        # Of a caller who left, the time until there was an answer for it.
        answers.durations.observe((timeline.written or timeline.ready) - timeline.arrived)
        # 0.0 also while an exchange goes on without its caller, whose time was over.
        if timeline.upstream:
            if timeline.joined:
                tally.coalesced += 1
            else:
                tally.exchanges.observe(timeline.upstream)
            # Rounding must not make a sum fall.
            self._overhead.observe(max(timeline.ready - timeline.complete - timeline.upstream - timeline.waited, 0.0))
        self._observe_phases(timeline)
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
            self._refused["draining" if isinstance(error, Draining) else "concurrency"] += 1

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
        answers.by_status[key] = answers.by_status.get(key, 0) + 1

    def _failed(self, call: Call, reply: Reply) -> None:
        """The answer is ours: was the call refused."""
        if call.error in self._refused:
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
            "coalesced": sum(tally.coalesced for tally in self._tallies.values()),
            "exchanges": sum(tally.exchanges.count for tally in self._tallies.values()),
            "upstream_seconds": round(sum(tally.exchanges.sum for tally in self._tallies.values()), 6),
            "overhead_seconds": round(self._overhead.sum, 6),
        }

    def _collect(self) -> Iterator[Metric]:
        yield from self._collect_calls()
        yield from self._collect_traffic()
        yield from self._collect_upstream()
        yield LOOP_LAG.single(self._lag)
        yield LOG_DROPPED.single(self._pulled.log_dropped())
        yield BUILD_INFO.metric([((self._version, platform.python_version()), 1)])
        yield from self._collect_settings()

    def _collect_settings(self) -> Iterator[Metric]:
        pulled = self._pulled
        successful, moment = pulled.reloaded()
        yield CONFIG_INFO.metric([((pulled.config_hash(),), 1)])
        yield RELOAD_SUCCESSFUL.single(int(successful))
        yield RELOADED.single(moment)
        yield CREDENTIALS_USED.metric(sorted(pulled.credentials().items()))
        yield CREDENTIAL_EXPIRY.metric(((name,), moment) for name, moment in sorted(pulled.expiries().items()))

    def _collect_calls(self) -> Iterator[Metric]:
        answers = [
            (name, source.value, of_source)
            for name, tally in self._tallies.items()
            for source, of_source in ((Source.UPSTREAM, tally.from_upstream), (Source.PROXY, tally.from_proxy))
        ]
        yield REQUESTS.metric(
            ((name, str(status) if status != ODD_STATUS else OTHER, source, application), count)
            for name, source, of_source in answers
            for (status, application), count in of_source.by_status.items()
        )
        yield REQUEST_DURATION.metric(
            ((name, source), of_source.durations) for name, source, of_source in answers if of_source.durations.count
        )
        yield UPSTREAM_DURATION.metric(
            ((name,), tally.exchanges) for name, tally in self._tallies.items() if tally.exchanges.count
        )
        yield OVERHEAD.single(self._overhead)
        yield PHASE.metric(((name,), distribution) for name, distribution in self._phases.items())
        yield IN_FLIGHT.single(self._pulled.in_flight())
        yield COALESCED.metric(((name,), tally.coalesced) for name, tally in self._tallies.items() if tally.coalesced)
        yield ABANDONED.metric(
            ((state,), self._abandoned[sent]) for state, sent in (("queued", Sent.NO), ("sent", Sent.MAYBE))
        )
        yield UNKNOWN_OUTCOMES.metric(
            ((name,), tally.unknown_outcomes) for name, tally in self._tallies.items() if tally.unknown_outcomes
        )
        yield REFUSED.metric(((reason,), count) for reason, count in self._refused.items())

    def _collect_traffic(self) -> Iterator[Metric]:
        traffic = self._pulled.traffic()
        yield LANES.single(traffic.lanes)
        yield LANE_WAITING.single(traffic.waiting)
        yield LANE_OLDEST_WAIT.single(traffic.oldest_wait)
        yield LANE_WAIT.single(self._lane_wait)
        yield SHARED_PROFILES.single(traffic.shared_profiles)
        yield UNKEYED.metric(((reason,), count) for reason, count in traffic.unkeyed.items())
        yield CONFLICTS_AVOIDED.single(traffic.conflicts_avoided)
        yield UPSTREAM_CONFLICTS.metric(traffic.conflicts.items())
        yield UPSTREAM_RETRIES.metric(((reason,), count) for reason, count in traffic.retries.items())
        yield BUDGET_EXHAUSTED.metric(((reason,), count) for reason, count in traffic.exhausted.items())

    def _collect_upstream(self) -> Iterator[Metric]:
        pulled = self._pulled
        yield CONNECTIONS.metric(self._connections())
        yield OPENED.single(pulled.opened())
        closed = pulled.closed()
        yield CLOSED.metric(((reason,), closed.get(reason, 0)) for reason in CLOSINGS)
        yield REQUESTS_PER_CONNECTION.single(self._served)
        yield LAST_SUCCESS.single(0 if self._last_success is None else self._unix_time(self._last_success))
        yield CIRCUIT_STATE.single(pulled.circuit())
        yield GENERATION.single(pulled.generation())
        yield OVERRIDE.single(int(pulled.override()))
        yield UPSTREAM_INFO.metric([(pulled.upstream(), 1)])

    def _connections(self) -> Iterator[tuple[Labels, float]]:
        rows = dict.fromkeys(itertools.product(CONNECTION_STATES, PROTOCOLS, GENERATIONS), 0)
        for some in self._pulled.connections():
            for state, count in zip(CONNECTION_STATES, (some.opening, some.active, some.idle, some.held), strict=True):
                # Several generations may drain at a time.
                rows[state, some.protocol, some.generation] += count
        return iter(rows.items())

    def _unix_time(self, moment: float) -> float:
        return self._now() - (self._clock() - moment)


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
