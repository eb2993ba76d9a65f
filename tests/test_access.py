"""The access log: which calls get a line, what it says, and where the time of a slow one went."""

from collections.abc import Iterator

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.errors import BadMessage, to_reply
from proxy.messages import Call, Fields, Reply, Sent, Source, Timeline, Trace
from proxy.observe import breakdown
from proxy.observe.access import CLIENT_GONE, FIELDS, AccessLog
from proxy.observe.bursts import BURST
from tests.logged import CANARY, Output


@pytest.fixture
def output() -> Iterator[Output]:
    made = Output()
    yield made
    made.close()


def call() -> Call:
    timeline = Timeline(100.0, 100.002)
    timeline.tries = 2
    timeline.reused = True
    timeline.protocol = "h2"
    timeline.sent = 100.003
    timeline.upstream = 0.047
    timeline.ready = 100.051
    timeline.written = 100.057
    target = f"/v2/customer_sessions/{CANARY}?profile={CANARY}".encode()
    fields = Fields(f"X: {CANARY}\r\n".encode(), [(b"x", CANARY.encode())])
    fields.host = CANARY.encode()
    made = Call(b"PUT", target, fields, b"body", timeline)
    made.request_id = b"abc-1"
    made.operation = "updateCustomerSessionV2"
    made.application = "default"
    return made


def reply(status: int = 200) -> Reply:
    return Reply(status, b"", b"{}", source=Source.UPSTREAM, length=2)


def slow() -> Call:
    made = call()
    made.timeline.written = 101.0
    return made


def gone() -> Call:
    made = call()
    made.timeline.written = 0.0
    return made


def waiting() -> Call:
    made = call()
    made.timeline = Timeline(100.0, 100.002)
    return made


def failed() -> Call:
    made = call()
    made.error = "timeout"
    return made


def test_a_line_says_how_a_call_went_and_nothing_of_whom_it_is_about(output: Output) -> None:
    output.logs.start()
    access = AccessLog(output.logs, "all")

    access.finished(call(), reply(), whole=True)

    (line,) = output.lines()
    assert CANARY not in line
    assert "***" not in line
    assert orjson.loads(line) == {
        "ts": "2027-01-15T08:00:00.500Z",
        "level": "info",
        "msg": "call",
        "request_id": "abc-1",
        "method": "PUT",
        "operation": "updateCustomerSessionV2",
        "status": 200,
        "duration_ms": 57.0,
        "upstream_ms": 47.0,
        "overhead_ms": 2.0,
        "retries": 1,
        "reused": True,
        "protocol": "h2",
        "bytes_in": 4,
        "bytes_out": 2,
        "application": "default",
    }


def test_a_call_that_was_not_sent_has_no_upstream_part(output: Output) -> None:
    output.logs.start()
    access = AccessLog(output.logs, "all")
    refused = waiting()
    refused.error = "refused"
    refused.timeline.ready = refused.timeline.written = 100.003

    access.finished(refused, reply(403), whole=True)

    (entry,) = output.entries()
    assert entry["error"] == "refused"
    assert entry["status"] == 403
    assert not entry.keys() & {"upstream_ms", "overhead_ms", "retries", "reused"}


def test_who_left_before_the_answer_has_status_499(output: Output) -> None:
    output.logs.start()
    access = AccessLog(output.logs, "errors", clock=lambda: 100.5)

    access.abandoned(waiting(), Sent.NO)
    access.abandoned(waiting(), Sent.MAYBE)
    access.finished(gone(), reply(), whole=False)

    queued, landed = output.entries()
    assert (queued["status"], queued["duration_ms"]) == (CLIENT_GONE, 500.0)
    assert (landed["status"], landed["upstream_ms"]) == (CLIENT_GONE, 47.0)


def test_an_answer_that_broke_off_keeps_the_status_that_was_told(output: Output) -> None:
    output.logs.start()
    access = AccessLog(output.logs, "errors")

    access.finished(call(), reply(), whole=False)

    (entry,) = output.entries()
    assert entry["status"] == 200
    assert "bytes_out" not in entry


def test_an_answer_to_head_has_sent_no_body(output: Output) -> None:
    output.logs.start()
    access = AccessLog(output.logs, "all")

    access.finished(call(), Reply(200, b"", b"", source=Source.UPSTREAM, length=3500), whole=True)

    assert output.entries()[0]["bytes_out"] == 0


@pytest.mark.parametrize(
    ("mode", "statuses"),
    [
        ("all", [200, 201, 404, 502, 203, 499, 400, 499]),
        ("errors", [404, 502, 499, 400, 499]),
        ("slow", [203]),
        ("off", []),
    ],
)
def test_the_mode_selects_the_calls(output: Output, mode: str, statuses: list[int]) -> None:
    output.logs.start()
    access = AccessLog(output.logs, mode, clock=lambda: 100.1)
    rejection = BadMessage("Not HTTP")

    access.finished(call(), reply(200), whole=True)
    access.finished(call(), reply(201), whole=True)
    access.finished(call(), reply(404), whole=True)
    access.finished(failed(), reply(502), whole=True)
    access.finished(slow(), reply(203), whole=True)
    access.finished(gone(), reply(200), whole=False)
    access.rejected(to_reply(rejection), rejection)
    access.abandoned(waiting(), Sent.NO)

    assert [entry["status"] for entry in output.entries()] == statuses


def test_a_sample_is_drawn(output: Output) -> None:
    output.logs.start()
    draws = iter((0.009, 0.01, 0.5, 0.0))
    access = AccessLog(output.logs, "sample", 0.01, draw=lambda: next(draws))

    for status in (200, 201, 202, 203):
        access.finished(call(), reply(status), whole=True)

    assert [entry["status"] for entry in output.entries()] == [200, 203]


def test_only_a_crowd_of_errors_is_thinned_out(output: Output) -> None:
    output.logs.start()
    every, errors = AccessLog(output.logs, "all"), AccessLog(output.logs, "errors")

    for _ in range(BURST + 50):
        every.finished(call(), reply(200), whole=True)
        errors.finished(call(), reply(500), whole=True)

    statuses = [entry["status"] for entry in output.entries()]
    assert statuses.count(200) == BURST + 50
    assert statuses.count(500) == BURST


def test_a_line_names_the_trace_of_its_call(output: Output) -> None:
    output.logs.start()
    traced = call()
    traced.trace = Trace("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331", sampled=False)

    AccessLog(output.logs, "all").finished(traced, reply(), whole=True)

    assert output.entries()[0]["trace_id"] == "0af7651916cd43dd8448eb211c80319c"


# --- where the time went --------------------------------------------------------------------------------------


def test_a_slow_call_says_in_words_and_numbers_where_its_time_went(output: Output) -> None:
    output.logs.start()
    waited = call()
    timeline = waited.timeline = Timeline(100.0, 100.002)
    timeline.tries, timeline.lane, timeline.gate, timeline.backoff = 2, 1.1, 0.01, 0.02
    timeline.pool, timeline.connect, timeline.tls = 0.1, 0.03, 0.06
    timeline.sent, timeline.first_byte, timeline.answered = 101.3, 101.5, 101.51
    timeline.upstream, timeline.ready, timeline.written = 0.26, 101.512, 101.6

    AccessLog(output.logs, "slow").finished(waited, reply(), whole=True)

    (entry,) = output.entries()
    assert entry["msg"] == "slow call"
    assert entry.keys() <= {"ts", "level", "msg", *FIELDS}
    assert entry["why"] == (
        "1100 of 1600 ms: waiting for earlier writes of the same session or profile;"
        " 200 ms: Talon.One, until the first byte of its answer"
    )
    assert entry["dominated"] == "lane"
    assert {name: ms for name, ms in entry.items() if name.startswith("spent_")} == {
        "spent_read_ms": 2.0,
        "spent_lane_ms": 1100.0,
        "spent_gate_ms": 10.0,
        "spent_backoff_ms": 20.0,
        "spent_pool_ms": 10.0,
        "spent_connect_ms": 30.0,
        "spent_tls_ms": 60.0,
        "spent_attempts_ms": 50.0,
        "spent_ttfb_ms": 200.0,
        "spent_body_ms": 10.0,
        "spent_proxy_ms": 20.0,
        "spent_write_ms": 88.0,
    }


def test_a_slow_call_that_failed_is_explained_where_only_errors_are_told(output: Output) -> None:
    output.logs.start()
    late = failed()
    timeline = late.timeline = Timeline(100.0, 100.0)
    timeline.tries, timeline.sent, timeline.ready, timeline.written = 1, 100.1, 110.1, 110.1

    AccessLog(output.logs, "errors").finished(late, reply(504), whole=True)

    (entry,) = output.entries()
    assert (entry["msg"], entry["dominated"], entry["spent_ttfb_ms"]) == ("slow call", "ttfb", 10_000.0)


def test_a_caller_who_left_the_line_is_told_what_it_waited_for(output: Output) -> None:
    output.logs.start()
    left = waiting()
    left.timeline.lane = 3.0

    AccessLog(output.logs, "errors", clock=lambda: 103.002).abandoned(left, Sent.NO)

    (entry,) = output.entries()
    assert (entry["status"], entry["why"]) == (
        CLIENT_GONE,
        "3000 of 3002 ms: waiting for earlier writes of the same session or profile",
    )


def test_who_shared_an_answer_waited_for_it() -> None:
    timeline = Timeline(100.0, 100.0)
    timeline.joined, timeline.upstream, timeline.ready = True, 2.0, 102.0

    assert breakdown.parts(timeline, 102.0) == {"shared": 2.0}


def test_who_waited_for_a_shared_answer_too_long_waited_for_it() -> None:
    timeline = Timeline(100.0, 100.0)
    timeline.joined, timeline.ready = True, 115.0

    assert breakdown.parts(timeline, 115.0) == {"shared": 15.0}


def test_a_connection_that_was_on_its_way_before_the_call_counts_from_when_it_was_waited_for() -> None:
    timeline = Timeline(100.0, 100.0)
    timeline.pool, timeline.connect, timeline.tls = 0.5, 2.0, 0.4

    found = breakdown.parts(timeline, 100.5)

    assert {name: round(seconds, 6) for name, seconds in found.items()} == {"tls": 0.4, "connect": 0.1}


def test_the_documented_fields_are_all_those_there_are(output: Output) -> None:
    output.logs.start()
    access = AccessLog(output.logs, "errors")
    everything = failed()
    everything.trace = Trace("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331", sampled=False)
    everything.admission, everything.timeline.conflicts, everything.timeline.lane = 1, 1, 0.1
    for _ in range(BURST + 1):
        access.finished(everything, reply(502), whole=True)
    output.time += 1.0
    access.finished(everything, reply(502), whole=True)

    names = output.entries()[-1].keys() - {"ts", "level", "msg"}

    assert names == {name for name in FIELDS if not name.startswith("spent_")} - {"why", "dominated", "leader"}


durations = st.floats(0.0, 20.0)


@given(
    st.lists(durations, min_size=11, max_size=11),
    st.booleans(),
    st.booleans(),
    st.sampled_from(["never sent", "no byte", "in the middle", "answered"]),
)
def test_parts_add_up_to_the_whole(spans: list[float], joined: bool, written: bool, came: str) -> None:
    read, lane, gate, backoff, pool, connect, tls, attempts, ttfb, body, own = spans
    timeline = Timeline(50.0, 50.0 + read)
    now = timeline.complete + lane + gate + backoff + pool + attempts + own
    timeline.lane, timeline.gate, timeline.backoff = lane, gate, backoff
    timeline.pool, timeline.connect, timeline.tls = pool, connect, tls
    timeline.joined, timeline.upstream = joined, attempts
    if came != "never sent":
        timeline.sent = now
        now += ttfb
        if came != "no byte":
            timeline.first_byte = now
            now += body
        if came == "answered":
            timeline.answered = now
            timeline.upstream += now - timeline.sent
    timeline.ready = now
    if written:
        timeline.written = now + 1.0
    end = timeline.written or timeline.ready

    found = breakdown.parts(timeline, end)

    assert sum(found.values()) == pytest.approx(end - timeline.arrived)
    assert list(found) == [name for name in breakdown.WORDS if name in found]
    if found:
        assert breakdown.largest(found) in found
        assert breakdown.WORDS[breakdown.largest(found)] in breakdown.told(found)
