"""Every metric, with a text for a stranger. `deploy/METRICS.md` is made of this (`make docs`); `metrics` counts."""

from proxy.observe.exposition import Family, Histogram

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
    " wait), concurrency (too many calls or connections), buffer (bodies take as much memory as they may), circuit"
    " (Talon.One could not be reached lately), pacing (too many calls of one endpoint of the Management API wait),"
    " draining (shutting down)",
    ("reason",),
)
UPSTREAM_ERRORS = Family(
    "talon_proxy_upstream_errors_total",
    "Calls that Talon.One answered with an error, or that got no answer of it; category: what Talon.One finds wrong"
    " with the call (validation_unknown_attribute, validation_type, validation_enum, validation_other, not_found,"
    " other) or with its key (auth, auth_legacy); a 409 (conflict_parallel, conflict_exists, conflict_other); too many"
    " calls (throttled); a failure of its own (upstream_5xx); or why there was no answer: dns, connect, tls, timeout,"
    " lost (the connection), protocol (not HTTP), too_large (over limits.reply)",
    ("operation", "category"),
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
CHECKLIST_CHECKED = Family(
    "talon_proxy_checklist_checked_total",
    "Calls, or sessions that ended, that a rule of Talon.One's integration checklist was asked about (/checklist)",
    ("rule",),
)
CHECKLIST_BROKEN = Family(
    "talon_proxy_checklist_broken_total",
    "Those of them that broke the rule; what it means and what to do: talon-proxy checklist",
    ("rule",),
)
CHECKLIST_ACKNOWLEDGED = Family(
    "talon_proxy_checklist_acknowledged",
    "1 for a rule that is broken on purpose (checklist.acknowledged)",
    ("rule",),
)
CHECKLIST_SKIPPED = Family(
    "talon_proxy_checklist_skipped_total",
    "Calls that the checklist did not look at; reason: too many at once (full), or left out with their session, so that"
    " looking takes no more than its share of the CPU (thinned)",
    ("reason",),
)
EFFECTS = Family(
    "talon_proxy_effects_total",
    "Effects of Talon.One's answers by type, of the answers that were read (checklist.replies); other: a type that is"
    " not documented",
    ("effect_type",),
)
LOG_DROPPED = Family(
    "talon_proxy_log_dropped_total",
    "Log lines not written: the reader of standard output was too slow, or one message came too often",
)
