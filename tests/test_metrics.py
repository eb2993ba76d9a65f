import asyncio
import dataclasses
import itertools
import random
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text
from prometheus_client.samples import Sample

from proxy.errors import (
    BadMessage,
    CallTimeout,
    Category,
    CircuitOpen,
    Draining,
    NameNotResolved,
    NotFound,
    PoolTimeout,
    ProxyError,
    Unavailable,
    to_reply,
)
from proxy.messages import Call, Fields, Reply, Sent, Source, Timeline, Trace
from proxy.observe import exposition
from proxy.observe import families as declared
from proxy.observe.exposition import BATCH, Distribution, Exposition, Family, Histogram
from proxy.observe.metrics import (
    CLOSINGS,
    FELT,
    FOLD_EVERY,
    MOST_ROWS,
    PHASES,
    REFUSALS,
    Checked,
    Connections,
    LoopLag,
    Metrics,
    Pulled,
    Traffic,
)
from proxy.observe.observers import Observers
from proxy.talon.failures import Failure
from proxy.talon.keys import Unkeyed
from proxy.talon.operations import OPERATIONS as OPERATIONS_OF_TALON_ONE
from proxy.traffic.retries import Reason
from proxy.wire.connection import Closing

OPERATIONS = ("updateCustomerSessionV2", "getCustomerSession", "other", "management")
KEYS = ("primary", "next")
NOW = 1_800_000_000.0  # Unix time at which the clock below shows 1000.0
TRAFFIC = Traffic(
    lanes=11,
    waiting=12,
    oldest_wait=1.5,
    shared_profiles=13,
    conflicts_avoided=14,
    unkeyed={"too_large": 0, "not_json": 16},
    conflicts={("session", "resolved"): 17, ("session", "returned"): 0},
    retries={"connection": 4, "lost": 0},
    exhausted={"connection": 18, "lost": 0},
)
PULLED = Pulled(
    in_flight=lambda: 3,
    traffic=lambda: TRAFFIC,
    connections=lambda: [
        Connections("http/1.1", "current", opening=1, active=2, idle=3),
        Connections("http/1.1", "draining", opening=0, active=4, idle=0),
        Connections("http/1.1", "draining", opening=0, active=5, idle=0),
    ],
    opened=lambda: 15,
    closed=lambda: {"idle": 6, "peer": 7},
    circuit=lambda: 1,
    generation=lambda: 2,
    override=lambda: True,
    credentials=lambda: {("default", "primary", "accepted"): 2, ("default", "next", "rejected"): 1},
    expiries=lambda: {"eu": 1_800_000_000.0},
    reloaded=lambda: (False, 1_700_000_000.0),
    upstream=lambda: ("mycompany.europe-west1.talon.one", "http/1.1"),
    config_hash=lambda: "0123456789ab",
    log_dropped=lambda: 8,
    checklist=lambda: Checked(
        {"session.never-closed": 3}, {"session.never-closed": 1}, ["session.same-cart"], {"setDiscount": 5}, {"full": 2}
    ),
)


def judge(reply: Reply) -> str:
    return "upstream_5xx" if reply.status >= 500 else "other"


def make(pulled: Pulled = PULLED) -> Metrics:
    return Metrics(
        pulled,
        operations=OPERATIONS,
        applications=["default", "eu"],
        version="0.1.0",
        judge=judge,
        clock=lambda: 1000.0,
        now=lambda: NOW,
    )


def call(operation: str = "updateCustomerSessionV2", application: str = "default") -> Call:
    """A call that went its whole way, in round steps."""
    timeline = Timeline(100.0, 100.002)
    timeline.tries = 1
    timeline.sent = 100.003
    timeline.first_byte = 100.043
    timeline.answered = 100.050
    timeline.upstream = 0.047
    timeline.ready = 100.051
    timeline.written = 100.057
    made = Call(b"PUT", b"/v2/customer_sessions/secret-id", Fields(b"", []), b"{}", timeline)
    made.operation = operation
    made.application = application
    return made


def unsent() -> Call:
    """A call that was answered on arrival."""
    made = call()
    made.timeline = Timeline(100.0, 100.002)
    made.timeline.ready = made.timeline.written = 100.003
    return made


def reply(status: int = 200) -> Reply:
    return Reply(status, b"", b"", source=Source.UPSTREAM, length=0)


def fail(metrics: Metrics, failed: Call, error: ProxyError) -> None:
    failed.error = error.category.value
    metrics.finished(failed, to_reply(error), whole=True)


def samples(metrics: Metrics) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    text, _ = metrics.render(None)
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in parse_text(text.decode())
        for sample in family.samples
    }


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return samples(metrics).get((f"talon_proxy_{name}", tuple(sorted(labels.items()))))


# --- calls ----------------------------------------------------------------------------------------------------


def test_an_answer_of_talon_one_is_counted_with_all_its_labels() -> None:
    metrics = make()

    metrics.finished(call(), reply(200), whole=True)
    metrics.finished(call(), reply(200), whole=True)
    metrics.finished(call(application="eu"), reply(409), whole=True)

    labels = {"operation": "updateCustomerSessionV2", "source": "upstream"}
    assert value(metrics, "requests_total", **labels, status="200", application="default") == 2
    assert value(metrics, "requests_total", **labels, status="409", application="eu") == 1
    assert value(metrics, "request_duration_seconds_count", **labels) == 3


def test_totals_are_sums_over_all_operations() -> None:
    metrics = make()
    waiting = call("trackEventV2")
    waiting.timeline.lane, waiting.timeline.gate, waiting.timeline.pool = 0.003, 0.002, 0.0005
    joined = call()
    joined.timeline.joined = True

    metrics.finished(call(), reply(200), whole=True)
    metrics.finished(waiting, reply(500).doubted(), whole=True)
    metrics.finished(joined, reply(200), whole=True)
    fail(metrics, unsent(), CircuitOpen("Not now", sent=Sent.NO))

    totals = metrics.totals()
    assert (totals["answered"], totals["by_proxy"], totals["failed"]) == (4, 1, 2)
    assert (totals["exchanges"], totals["coalesced"], totals["unknown"]) == (2, 1, 1)
    assert totals["upstream_seconds"] == pytest.approx(2 * 0.047)
    assert (totals["lane_seconds"], totals["pool_seconds"]) == (0.005, 0.0005)


def test_times_with_talon_one_are_told_by_bucket() -> None:
    metrics = make()

    for seconds in (0.001, 0.04, 0.04, 60.0):
        made = call()
        made.timeline.upstream = seconds
        metrics.finished(made, reply(), whole=True)

    times = metrics.upstream_times()
    assert len(times) == len(declared.DURATIONS) + 1
    assert (times[0], times[declared.DURATIONS.index(0.05)], times[-1], sum(times)) == (1, 2, 1, 4)


def test_the_last_answer_below_500_is_so_long_ago() -> None:
    metrics = make()
    assert metrics.since_success is None

    metrics.finished(call(), reply(503), whole=True)
    assert metrics.since_success is None

    metrics.finished(call(), reply(404), whole=True)
    assert metrics.since_success == pytest.approx(1000.0 - 100.050)


def test_durations_run_from_the_first_byte_that_came_to_the_last_that_was_written() -> None:
    metrics = make()

    metrics.finished(call(), reply(), whole=True)

    labels = {"operation": "updateCustomerSessionV2", "source": "upstream"}
    assert value(metrics, "request_duration_seconds_sum", **labels) == pytest.approx(0.057)
    assert value(metrics, "request_duration_seconds_bucket", **labels, le="0.05") == 0
    assert value(metrics, "request_duration_seconds_bucket", **labels, le="0.075") == 1
    assert value(metrics, "request_duration_seconds_bucket", **labels, le="+Inf") == 1
    upstream = value(metrics, "upstream_request_duration_seconds_sum", operation="updateCustomerSessionV2")
    assert upstream == pytest.approx(0.047)


def test_overhead_is_what_lies_between_request_and_answer_but_not_with_talon_one() -> None:
    metrics = make()

    metrics.finished(call(), reply(), whole=True)

    assert value(metrics, "overhead_seconds_count") == 1
    assert value(metrics, "overhead_seconds_sum") == pytest.approx(0.002)


def test_overhead_never_falls_below_nothing() -> None:
    metrics = make()
    rounded = call()
    rounded.timeline.upstream = 10.0

    metrics.finished(rounded, reply(), whole=True)

    assert value(metrics, "overhead_seconds_sum") == 0.0


def test_phases_are_observed_where_a_call_went_through_them() -> None:
    metrics = make()
    waited = call()
    waited.timeline.pool, waited.timeline.connect, waited.timeline.tls = 0.030, 0.010, 0.020

    metrics.finished(call(), reply(), whole=True)
    metrics.finished(waited, reply(), whole=True)

    def count(phase: str) -> float | None:
        return value(metrics, "phase_seconds_count", phase=phase)

    def total(phase: str) -> float | None:
        return value(metrics, "phase_seconds_sum", phase=phase)

    assert [count(phase) for phase in ("read", "ttfb", "body", "write")] == [2, 2, 2, 2]
    assert [count(phase) for phase in ("pool", "connect", "tls")] == [1, 1, 1]
    assert [total(phase) for phase in ("pool", "connect", "tls")] == [0.030, 0.010, 0.020]
    assert total("read") == pytest.approx(2 * 0.002)
    assert total("ttfb") == pytest.approx(2 * 0.040)
    assert total("body") == pytest.approx(2 * 0.007)
    assert total("write") == pytest.approx(2 * 0.006)


def test_a_call_that_was_never_sent_has_no_upstream_time_and_no_overhead() -> None:
    metrics = make()

    fail(metrics, unsent(), NotFound("No such path"))

    assert value(metrics, "request_duration_seconds_count", operation="updateCustomerSessionV2", source="proxy") == 1
    assert value(metrics, "upstream_request_duration_seconds_count", operation="updateCustomerSessionV2") is None
    assert value(metrics, "overhead_seconds_count") == 0
    assert value(metrics, "phase_seconds_count", phase="ttfb") == 0


def test_a_call_whose_time_was_over_while_its_exchange_goes_on_leaves_overhead_alone() -> None:
    metrics = make()
    overdue = call()
    overdue.timeline.first_byte = overdue.timeline.answered = overdue.timeline.upstream = 0.0
    overdue.timeline.ready = 115.0

    fail(metrics, overdue, CallTimeout("Too late", sent=Sent.MAYBE))

    assert value(metrics, "overhead_seconds_count") == 0
    assert value(metrics, "upstream_request_duration_seconds_count", operation="updateCustomerSessionV2") is None


def test_an_answer_that_found_its_caller_gone_counts_until_it_was_ready() -> None:
    metrics = make()
    gone = call()
    gone.timeline.written = 0.0

    metrics.finished(gone, reply(), whole=False)

    labels = {"operation": "updateCustomerSessionV2", "source": "upstream"}
    assert value(metrics, "request_duration_seconds_sum", **labels) == pytest.approx(0.051)
    assert value(metrics, "phase_seconds_count", phase="write") == 0


def test_an_answer_made_by_the_listener_alone_has_no_write_phase() -> None:
    # OPTIONS * never passes the pipeline, so that nobody stamped it ready.
    metrics = make()
    asked = unsent()
    asked.timeline.ready = 0.0

    metrics.finished(asked, Reply(200, b"", b"", source=Source.PROXY, length=0), whole=True)

    assert value(metrics, "phase_seconds_count", phase="write") == 0


def test_a_message_that_never_became_a_call_counts_as_other() -> None:
    metrics = make()
    error = BadMessage("Not HTTP")

    metrics.rejected(to_reply(error), error)

    labels = {"operation": "other", "status": "400", "source": "proxy", "application": ""}
    assert value(metrics, "requests_total", **labels) == 1
    assert value(metrics, "request_duration_seconds_count", operation="other", source="proxy") is None


def test_callers_who_left_are_counted_by_what_had_become_of_their_calls() -> None:
    metrics = make()

    metrics.abandoned(unsent(), Sent.NO)
    metrics.abandoned(call(), Sent.MAYBE)
    metrics.abandoned(call(), Sent.MAYBE)

    assert value(metrics, "abandoned_requests_total", state="queued") == 1
    assert value(metrics, "abandoned_requests_total", state="sent") == 2


def test_only_errors_of_ours_after_sending_are_unknown_outcomes() -> None:
    metrics = make()

    fail(metrics, call(), CallTimeout("Too late", sent=Sent.MAYBE))
    fail(metrics, unsent(), CallTimeout("Too late", sent=Sent.NO))
    fail(metrics, unsent(), NotFound("No such path"))
    metrics.finished(call(), reply(500), whole=True)

    assert value(metrics, "unknown_outcomes_total", operation="updateCustomerSessionV2") == 1


def test_errors_of_talon_one_are_counted_by_what_they_say() -> None:
    metrics = make()

    for status in (200, 404, 409, 503):
        metrics.finished(call(), reply(status), whole=True)

    operation = "updateCustomerSessionV2"
    assert value(metrics, "upstream_errors_total", operation=operation, category="other") == 2
    assert value(metrics, "upstream_errors_total", operation=operation, category="upstream_5xx") == 1


def test_calls_that_talon_one_did_not_answer_are_counted_by_the_reason() -> None:
    metrics = make()
    shared = call()
    shared.timeline.tries, shared.timeline.joined = 0, True

    fail(metrics, call(), CallTimeout("Too late", sent=Sent.MAYBE))
    fail(metrics, shared, CallTimeout("Too late", sent=Sent.MAYBE))
    fail(metrics, call(), NameNotResolved("No address"))
    fail(metrics, unsent(), CallTimeout("Waited for others too long", sent=Sent.NO))

    operation = "updateCustomerSessionV2"
    assert value(metrics, "upstream_errors_total", operation=operation, category="timeout") == 2
    assert value(metrics, "upstream_errors_total", operation=operation, category="dns") == 1


def test_refusals_are_counted_by_reason() -> None:
    metrics = make()
    too_many = Unavailable("Too many connections")

    fail(metrics, unsent(), Draining("Shutting down", sent=Sent.NO))
    fail(metrics, unsent(), Unavailable("Too many calls"))
    metrics.rejected(to_reply(too_many), too_many)

    assert value(metrics, "refused_total", reason="draining") == 1
    assert value(metrics, "refused_total", reason="concurrency") == 2


def test_other_errors_are_no_refusals() -> None:
    metrics = make()

    fail(metrics, unsent(), NotFound("No such path"))
    fail(metrics, unsent(), PoolTimeout("All in use"))

    assert value(metrics, "refused_total", reason="draining") == 0
    assert value(metrics, "refused_total", reason="concurrency") == 0


def test_exchanges_are_told_by_the_key_that_signed_them() -> None:
    metrics = make()

    assert value(metrics, "credentials_used_total", application="default", key="primary", result="accepted") == 2
    assert value(metrics, "credentials_used_total", application="default", key="next", result="rejected") == 1
    assert value(metrics, "credential_expiry_timestamp_seconds", application="eu") == 1_800_000_000


def test_what_was_done_at_run_time_is_told() -> None:
    metrics = make()

    assert value(metrics, "upstream_override") == 1
    assert value(metrics, "config_last_reload_successful") == 0
    assert value(metrics, "config_last_reload_timestamp_seconds") == 1_700_000_000


def test_an_application_that_a_reload_brought_is_counted_by_its_name() -> None:
    metrics = make()
    newcomer = call()
    newcomer.application = "us"

    metrics.finished(newcomer, reply(200), whole=True)
    metrics.know(["us"])
    metrics.finished(newcomer, reply(200), whole=True)

    assert (
        value(
            metrics, "requests_total", status="200", source="upstream", application="us", operation=newcomer.operation
        )
        == 1
    )


def test_the_last_success_is_told_in_unix_time_and_is_no_server_error() -> None:
    metrics = make()
    assert value(metrics, "upstream_last_success_timestamp_seconds") == 0

    metrics.finished(call(), reply(404), whole=True)
    later = call()
    later.timeline.answered = 500.0
    metrics.finished(later, reply(503), whole=True)

    told = value(metrics, "upstream_last_success_timestamp_seconds")
    assert told == pytest.approx(NOW - (1000.0 - 100.050), abs=0.001)


# --- closed sets ----------------------------------------------------------------------------------------------


def test_what_is_in_no_closed_set_makes_no_series() -> None:
    metrics = make()
    metrics.finished(call("other", ""), reply(200), whole=True)
    metrics.finished(call("other", ""), reply(999), whole=True)
    before = samples(metrics).keys()
    source = random.Random(7)

    for _ in range(10_000):
        odd = call(operation=f"/v1/{source.random()}", application=str(source.random()))
        metrics.finished(odd, reply(source.choice((200, 0, 99, 600, 999, 10**6))), whole=True)

    after = samples(metrics)
    assert after.keys() == before
    folded = sum(count for (name, labels), count in after.items() if name == "talon_proxy_requests_total")
    assert folded == 10_002


def test_management_is_counted_as_other() -> None:
    metrics = make()

    metrics.finished(call("management"), reply(), whole=True)

    text, _ = metrics.render(None)
    assert b"management" not in text
    assert value(metrics, "upstream_request_duration_seconds_count", operation="other") == 1


def test_a_status_that_http_does_not_know_has_no_number() -> None:
    metrics = make()

    metrics.finished(call(), reply(600), whole=True)
    metrics.finished(call(), reply(599), whole=True)

    labels = {"operation": "updateCustomerSessionV2", "source": "upstream", "application": "default"}
    assert value(metrics, "requests_total", **labels, status="other") == 1
    assert value(metrics, "requests_total", **labels, status="599") == 1


# --- what a scrape reads --------------------------------------------------------------------------------------


def test_series_without_an_operation_are_there_from_the_start() -> None:
    metrics = make()
    before = samples(metrics).keys()

    metrics.finished(call(), reply(), whole=True)
    metrics.abandoned(call(), Sent.MAYBE)
    metrics.connection_closed(5)
    metrics.loop_lagged(0.1)
    fail(metrics, unsent(), Draining("Shutting down", sent=Sent.NO))

    new = samples(metrics).keys() - before
    assert all("operation" in dict(labels) for _, labels in new)
    assert not any("operation" in dict(labels) for _, labels in before)


def test_a_call_that_shared_an_answer_is_no_exchange_of_its_own() -> None:
    metrics = make()
    shared = call()
    shared.timeline.joined = True
    for one in (call(), shared):
        metrics.finished(one, reply(), whole=True)

    assert value(metrics, "request_duration_seconds_count", operation="updateCustomerSessionV2", source="upstream") == 2
    assert value(metrics, "coalesced_requests_total", operation="updateCustomerSessionV2") == 1
    assert value(metrics, "upstream_request_duration_seconds_count", operation="updateCustomerSessionV2") == 1
    assert value(metrics, "overhead_seconds_count") == 2


def test_what_a_call_was_held_back_is_not_overhead() -> None:
    metrics = make()
    held = call()
    held.timeline.ready += 0.6
    held.timeline.lane, held.timeline.gate, held.timeline.backoff = 0.3, 0.2, 0.1
    metrics.finished(held, reply(), whole=True)

    assert value(metrics, "overhead_seconds_sum") == pytest.approx(0.002, abs=1e-6)
    assert value(metrics, "lane_wait_seconds_sum") == pytest.approx(0.3)
    assert value(metrics, "phase_seconds_sum", phase="lane") == pytest.approx(0.3)
    assert value(metrics, "phase_seconds_sum", phase="gate") == pytest.approx(0.2)


def test_what_other_objects_know_is_asked_of_them() -> None:
    metrics = make()
    metrics.connection_closed(1)
    metrics.connection_closed(40)

    assert value(metrics, "requests_in_flight") == 3
    assert value(metrics, "upstream_retries_total", reason="connection") == 4
    assert value(metrics, "upstream_retries_total", reason="lost") == 0
    assert value(metrics, "retry_budget_exhausted_total", reason="connection") == 18
    assert value(metrics, "lanes") == 11
    assert value(metrics, "lane_waiting") == 12
    assert value(metrics, "lane_oldest_wait_seconds") == 1.5
    assert value(metrics, "shared_profiles") == 13
    assert value(metrics, "conflicts_avoided_total") == 14
    assert value(metrics, "unkeyed_requests_total", reason="not_json") == 16
    assert value(metrics, "upstream_conflicts_total", kind="session", outcome="resolved") == 17
    assert value(metrics, "upstream_conflicts_total", kind="session", outcome="returned") == 0
    assert value(metrics, "upstream_connections_opened_total") == 15
    assert value(metrics, "upstream_connections_closed_total", reason="idle") == 6
    assert value(metrics, "upstream_connections_closed_total", reason="peer") == 7
    assert value(metrics, "upstream_connections_closed_total", reason="goaway") == 0
    assert value(metrics, "upstream_requests_per_connection_bucket", le="1.0") == 1
    assert value(metrics, "upstream_requests_per_connection_sum") == 41
    assert value(metrics, "circuit_state") == 1
    assert value(metrics, "upstream_generation") == 2
    assert value(metrics, "upstream_info", host="mycompany.europe-west1.talon.one", protocol="http/1.1") == 1
    assert value(metrics, "config_info", hash="0123456789ab") == 1
    assert value(metrics, "log_dropped_total") == 8


def test_generations_that_drain_are_added_up() -> None:
    metrics = make()

    def count(state: str, generation: str) -> float | None:
        return value(metrics, "upstream_connections", state=state, protocol="http/1.1", generation=generation)

    assert [count(state, "current") for state in ("opening", "active", "idle", "held")] == [1, 2, 3, 0]
    assert [count(state, "draining") for state in ("opening", "active", "idle", "held")] == [0, 9, 0, 0]


def test_process_and_python_are_told_and_creation_times_are_not() -> None:
    metrics = make()
    metrics.finished(call(), reply(), whole=True)

    for accept in (None, "application/openmetrics-text;version=1.0.0"):
        text, _ = metrics.render(accept)
        assert b"process_resident_memory_bytes" in text
        assert b"python_info" in text
        assert b"python_gc_collections" in text
        assert b"_created" not in text


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        (None, "text/plain; version=0.0.4; charset=utf-8"),
        ("*/*", "text/plain; version=0.0.4; charset=utf-8"),
        ("application/openmetrics-text;version=1.0.0", "application/openmetrics-text; version=1.0.0"),
        ("application/openmetrics-text;version=never", "text/plain; version=0.0.4; charset=utf-8"),
        ("application/openmetrics-text", "application/openmetrics-text; version=1.0.0"),
    ],
)
def test_the_format_is_negotiated(accept: str | None, content_type: str) -> None:
    metrics = make()
    metrics.finished(call(), reply(), whole=True)

    text, told = metrics.render(accept)

    assert told.startswith(content_type)
    parse = parse_openmetrics if told.startswith("application/openmetrics-text") else parse_text
    names = [family.name for family in parse(text.decode())]
    assert "talon_proxy_request_duration_seconds" in names
    assert len(names) == len(set(names))


async def test_a_scrape_in_turns_reads_the_same_and_lets_others_work() -> None:
    worked = 0

    async def work() -> None:
        nonlocal worked
        while True:
            worked += 1
            await asyncio.sleep(0)

    histogram = Histogram("waits_seconds", "Waits.", tuple(float(bound) for bound in range(10)), ("of",))
    exposition = Exposition(lambda: [histogram.shown(((str(of),), histogram.empty()) for of in range(100))])
    for accept in ("", "application/openmetrics-text"):
        task = asyncio.get_running_loop().create_task(work())
        at_once, _ = exposition.render(accept)

        in_turns, _ = await exposition.scrape(accept)

        task.cancel()
        assert [line for line in in_turns.splitlines() if b"waits" in line] == [
            line for line in at_once.splitlines() if b"waits" in line
        ]
        assert in_turns.count(b"# HELP waits_seconds ") == 1
        assert in_turns.count(b"# EOF") == (1 if accept else 0)
    assert worked > 10


def traced(*, sampled: bool = True) -> Call:
    made = call()
    made.trace = Trace("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331", sampled=sampled)
    return made


def test_openmetrics_names_a_trace_for_each_bucket_of_a_duration() -> None:
    metrics = make()
    slow = traced()
    slow.timeline.written += 1.0
    for one in (call(), traced(), slow, traced(sampled=False)):
        metrics.finished(one, reply(), whole=True)

    text, _ = metrics.render("application/openmetrics-text")

    found = {
        (sample.name, sample.labels["le"]): sample.exemplar
        for family in parse_openmetrics(text.decode())  # type: ignore[no-untyped-call]
        for sample in family.samples
        if sample.exemplar is not None
    }
    assert {name: round(exemplar.value, 3) for name, exemplar in found.items()} == {
        ("talon_proxy_request_duration_seconds_bucket", "0.075"): 0.057,
        ("talon_proxy_request_duration_seconds_bucket", "2.5"): 1.057,
        ("talon_proxy_upstream_request_duration_seconds_bucket", "0.05"): 0.047,
    }
    assert all(exemplar.labels == {"trace_id": traced().trace.id} for exemplar in found.values())  # type: ignore[union-attr]
    assert all(exemplar.timestamp and float(exemplar.timestamp) == NOW for exemplar in found.values())


def test_prometheus_text_has_no_exemplars() -> None:
    metrics = make()
    metrics.finished(traced(), reply(), whole=True)

    text, _ = metrics.render(None)

    assert b"trace_id" not in text


def test_what_nobody_keeps_is_no_exemplar() -> None:
    metrics = make()
    metrics.finished(traced(sampled=False), reply(), whole=True)

    text, _ = metrics.render("application/openmetrics-text")

    assert b"trace_id" not in text


@pytest.mark.parametrize("accept", ["", "application/openmetrics-text"])
def test_ten_thousand_series_are_made_and_written_in_small_pieces(accept: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a scrape does at a stretch is bounded by structure: samples are made for one piece at a time."""
    made = 0

    def sample(*arguments: Any) -> Sample:
        nonlocal made
        made += 1
        return Sample(*arguments)

    monkeypatch.setattr(exposition, "Sample", sample)
    counter = Family("calls_total", "Calls.", ("of",))
    histogram = Histogram("waits_seconds", "Waits.", declared.DURATIONS, ("of",))
    scrape = Exposition(
        lambda: [
            counter.shown(((str(of),), of) for of in range(5_000)),
            histogram.shown(((str(of),), histogram.empty()) for of in range(300)),
        ]
    )
    encode, _ = exposition._choose(accept)

    pieces = []
    for piece in scrape._pieces(encode):
        assert made <= BATCH
        assert piece.count(b"\n") <= BATCH + 2  # help and type
        made = 0
        pieces.append(piece)

    assert sum(piece.count(b"\n") for piece in pieces) > 10_000


def test_the_samples_of_a_family_are_all_of_one_moment() -> None:
    """Also where calls go on between its pieces."""
    histogram = Histogram("waits_seconds", "Waits.", (1.0,), ("of",))
    rows = {(str(of),): histogram.empty() for of in range(BATCH)}
    shown = histogram.shown(rows.items())

    shown.some(BATCH)
    for row in rows.values():
        row.observe(0.5)
    rows.clear()

    assert [sample.value for sample in shown.some(BATCH).samples] == [0.0] * BATCH


def test_every_family_is_exposed_and_explained() -> None:
    families = [family for family in vars(declared).values() if isinstance(family, Family | Histogram)]
    text, _ = make().render(None)

    assert len(families) > 20
    for family in families:
        assert f"# HELP {family.name} {family.help}".encode() in text
        assert family.name.startswith("talon_proxy_")


def counted(operations: Sequence[str], applications: Sequence[str], statuses: Iterable[int]) -> int:
    """Give the series of a proxy that met all of these, and all that can go wrong."""
    uses = {(name, key, result): 1 for name in applications for key in KEYS for result in ("accepted", "rejected")}
    pulled = dataclasses.replace(PULLED, credentials=lambda: uses, expiries=lambda: dict.fromkeys(applications, 1.0))
    failures = [failure.value for failure in Failure]
    metrics = Metrics(
        pulled,
        operations=[operation.name for operation in OPERATIONS_OF_TALON_ONE],
        applications=applications,
        version="0.1.0",
        judge=lambda reply: failures[reply.status % len(failures)],
        clock=lambda: 1000.0,
        now=lambda: NOW,
    )
    for operation, application in itertools.product(operations, applications):
        for status in statuses:
            metrics.finished(call(operation, application), reply(status), whole=True)
        shared = call(operation, application)
        shared.timeline.joined = True
        metrics.finished(shared, reply(), whole=True)
        for category in FELT:
            failed = call(operation, application)
            failed.error = category
            metrics.finished(failed, to_reply(CallTimeout("", sent=Sent.MAYBE)), whole=True)
    error = BadMessage("Not HTTP")
    metrics.rejected(to_reply(error), error)
    return len(samples(metrics))


def test_a_shop_of_eight_operations_has_less_than_two_thousand_series() -> None:
    eight = [operation.name for operation in OPERATIONS_OF_TALON_ONE[:8]]

    assert counted(eight, ["eu", "us"], (200, 201, 204, 400, 401, 404, 409, 429, 500, 502, 503, 504)) < 2_000


def test_the_worst_shop_has_no_more_than_ten_thousand_series() -> None:
    """Every operation, a hundred Applications, and a Talon.One that answers with a status of its own to each."""
    every = [operation.name for operation in OPERATIONS_OF_TALON_ONE]

    assert 5_000 < counted(every, [f"shop{number}" for number in range(100)], (200, 299, 404, 599)) <= 10_000


def test_where_there_are_too_many_series_every_call_is_counted_all_the_same() -> None:
    metrics = make()
    metrics._rows = MOST_ROWS

    for status in (200, 404, 404):
        metrics.finished(call(), reply(status), whole=True)

    labels = {"operation": "updateCustomerSessionV2", "source": "upstream"}
    assert value(metrics, "requests_total", **labels, status="other", application="") == 3


# --- closed sets that other rooms have, too -------------------------------------------------------------------


def test_closed_sets_are_those_of_whoever_counts() -> None:
    assert set(CLOSINGS) == {reason.value for reason in Closing}
    assert {f"{cause}" for cause in FELT} <= {category.value for category in Category}
    assert not FELT & {failure.value for failure in Failure}, "one name, one meaning"


@pytest.mark.parametrize(
    ("family", "values"),
    [
        (declared.PHASE, PHASES),
        (declared.REFUSED, REFUSALS),
        (declared.CLOSED, CLOSINGS),
        (declared.UNKEYED, [reason.value for reason in Unkeyed]),
        (declared.UPSTREAM_RETRIES, [reason.value for reason in Reason]),
        (declared.UPSTREAM_ERRORS, [*FELT, *(failure.value for failure in Failure)]),
    ],
)
def test_help_explains_every_value_of_a_label(family: Family | Histogram, values: Iterable[str]) -> None:
    words = set(re.findall(r"\w+", family.help))

    assert set(values) - words == set()


# --- parts ----------------------------------------------------------------------------------------------------


def test_a_distribution_counts_a_bound_into_its_own_bucket() -> None:
    distribution = Distribution((1.0, 2.0))

    for observed in (0.5, 1.0, 1.5, 2.0, 2.5):
        distribution.observe(observed)

    assert distribution.counts == [2, 2, 1]
    assert distribution.count == 5
    assert distribution.sum == 7.5


@given(st.lists(st.sampled_from([0.5, 1.0, 1.5, 2.0, 2.5]) | st.none(), max_size=30))
def test_a_distribution_counts_the_same_however_often_it_is_folded(steps: list[float | None]) -> None:
    distribution = Distribution((1.0, 2.0))
    observe = distribution.observe  # a fold must not replace what others hold

    for step in steps:
        if step is None:
            distribution.fold()
        else:
            observe(step)

    values = [step for step in steps if step is not None]
    assert distribution.counts == [
        sum(value <= 1.0 for value in values),
        sum(1.0 < value <= 2.0 for value in values),
        sum(value > 2.0 for value in values),
    ]
    assert distribution.count == len(values)
    assert distribution.sum == pytest.approx(sum(values))


def test_what_was_observed_and_not_counted_is_bounded() -> None:
    metrics = make()

    for _ in range(3 * FOLD_EVERY - 1):
        metrics.finished(call(), reply(), whole=True)

    waiting = [metrics._overhead, *metrics._phases.values()]
    for tally in metrics._tallies.values():
        waiting += [tally.exchanges, tally.from_upstream.durations, tally.from_proxy.durations]
    assert max(len(distribution._values) for distribution in waiting) < FOLD_EVERY
    assert value(metrics, "overhead_seconds_count") == 3 * FOLD_EVERY - 1


class Timers:
    """A clock and the timers set by it."""

    def __init__(self) -> None:
        self.now = 50.0
        self.waiting: list[tuple[float, Callable[[], None]]] = []

    def call_later(self, delay: float, callback: Callable[[], None]) -> "Timers":
        self.waiting.append((self.now + delay, callback))
        return self

    def cancel(self) -> None:
        self.waiting.clear()

    def fire(self, *, late: float) -> None:
        due, callback = self.waiting.pop()
        self.now = due + late
        callback()


def test_the_lag_of_the_loop_is_how_late_a_timer_fires() -> None:
    timers, lags = Timers(), list[float]()
    lag = LoopLag(lags.append, clock=lambda: timers.now, call_later=timers.call_later)

    lag.start()
    timers.fire(late=0.0)
    timers.fire(late=0.25)
    timers.fire(late=-0.001)
    lag.stop()

    assert lags == [0.0, 0.25, 0.0]
    assert not timers.waiting


def test_who_wants_failed_calls_only_is_told_of_no_other() -> None:
    everybody, failures = make(), make()
    failures.only_failed = True
    both = Observers(everybody, failures)
    failed = call()
    failed.error = "timeout"

    both.finished(call(), reply(), whole=True)
    both.finished(call(), reply(status=500), whole=True)
    both.finished(failed, reply(), whole=True)
    both.finished(call(), reply(), whole=False)

    assert [value(metrics, "overhead_seconds_count") for metrics in (everybody, failures)] == [4, 3]


def test_all_observers_are_told() -> None:
    first, second = make(), make()
    both = Observers(first, second)
    error = BadMessage("Not HTTP")

    both.finished(call(), reply(), whole=True)
    both.rejected(to_reply(error), error)
    both.abandoned(call(), Sent.NO)

    for metrics in (first, second):
        assert value(metrics, "overhead_seconds_count") == 1
        assert value(metrics, "abandoned_requests_total", state="queued") == 1
        labels = {"operation": "other", "status": "400", "source": "proxy", "application": ""}
        assert value(metrics, "requests_total", **labels) == 1


def test_a_value_is_asked_for_anew_at_every_scrape() -> None:
    generation = iter((1, 2))
    metrics = make(dataclasses.replace(PULLED, generation=lambda: next(generation)))

    assert value(metrics, "upstream_generation") == 1
    assert value(metrics, "upstream_generation") == 2
