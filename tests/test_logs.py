import fcntl
import logging
import os
import threading
from collections.abc import Iterator

import orjson
import pytest

from proxy.errors import BadMessage, to_reply
from proxy.messages import Call, Fields, Reply, Sent, Source, Timeline
from proxy.observe.entries import LONGEST_LIST, LONGEST_VALUE, Entries
from proxy.observe.logs import BURST, CLIENT_GONE, TEXTS, AccessLog, Logs

CANARY = "c0ffee5ec2e7c0ffee5ec2e7"
MOMENT = 1_800_000_000.5
PATIENCE = 30.0  # seconds in which a thread surely comes to its turn


def redact(text: str) -> str:
    return text.replace(CANARY, "***")


class Output:
    """A pipe with `Logs` at one end. Nobody reads until `lines` is asked for."""

    def __init__(self, **options: object) -> None:
        self._reading, self._writing = os.pipe()
        arguments: dict[str, object] = {"level": "info", "format": "json", "redact": redact, "fd": self._writing}
        self.time = 100.0
        self.logs = Logs(
            **{**arguments, **options},  # type: ignore[arg-type]
            clock=lambda: self.time,
            now=lambda: MOMENT,
        )

    def lines(self) -> list[str]:
        """Everything that was written, once the log has stopped."""
        read = list[bytes]()
        reader = threading.Thread(target=lambda: read.extend(self._read()))
        reader.start()
        self.logs.stop(PATIENCE)
        self._close_writing()
        reader.join(PATIENCE)
        return b"".join(read).decode().splitlines()

    def entries(self) -> list[dict[str, object]]:
        return [orjson.loads(line) for line in self.lines()]

    def _read(self) -> Iterator[bytes]:
        while piece := os.read(self._reading, 65536):
            yield piece

    def shrink(self) -> None:
        fcntl.fcntl(self._writing, fcntl.F_SETPIPE_SZ, 4096)

    def hang_up(self) -> None:
        if self._reading >= 0:
            os.close(self._reading)
            self._reading = -1

    def close(self) -> None:
        # In this order: a writer that is stuck comes free, and has ended before its end of the pipe is closed.
        self.hang_up()
        self.logs.stop(PATIENCE)
        self._close_writing()

    def _close_writing(self) -> None:
        if self._writing >= 0:
            os.close(self._writing)
            self._writing = -1


@pytest.fixture
def output() -> Iterator[Output]:
    made = Output()
    yield made
    made.close()


@pytest.fixture
def text() -> Iterator[Output]:
    made = Output(format="text")
    yield made
    made.close()


log = logging.getLogger("proxy.tests")


# --- entries --------------------------------------------------------------------------------------------------


def test_an_entry_is_a_json_object_on_a_line(output: Output) -> None:
    output.logs.start()
    log.info("serving on %s", "127.0.0.1:7410", extra={"fields": {"warm": 2, "reused": True, "listen": ["a", "b"]}})
    output.logs.write("info", "call", {"duration_ms": 1.5})

    first, second = output.entries()

    assert first.pop("ts")
    assert first == {
        "level": "info",
        "msg": "serving on 127.0.0.1:7410",
        "warm": 2,
        "reused": True,
        "listen": ["a", "b"],
    }
    assert second == {"ts": "2027-01-15T08:00:00.500Z", "level": "info", "msg": "call", "duration_ms": 1.5}


def test_text_has_pairs_and_quotes_what_could_be_taken_for_more(text: Output) -> None:
    text.logs.start()
    text.logs.write("warning", "slow reader", {"seconds": 1.5, "who": "a", "why": 'b "c" d=e', "empty": "", "of": None})

    assert text.lines() == [
        '2027-01-15T08:00:00.500Z warning slow reader seconds=1.5 who=a why="b \\"c\\" d=e" empty="" of=null'
    ]


def test_auto_is_json_where_the_output_is_no_terminal() -> None:
    output = Output(format="auto")
    output.logs.start()

    output.logs.write("info", "hello", {})

    assert output.entries()[0]["msg"] == "hello"
    output.close()


def test_auto_is_text_on_a_terminal() -> None:
    master, slave = os.openpty()
    logs = Logs(level="info", format="auto", redact=redact, fd=slave)
    logs.start()

    logs.write("info", "hello", {"name": "value"})
    logs.stop(PATIENCE)

    assert os.read(master, 1000).decode().endswith("info    hello name=value\r\n")
    os.close(master)
    os.close(slave)


@pytest.mark.parametrize("as_text", [False, True])
@pytest.mark.parametrize(
    "evil",
    [
        "a\r\n2027-01-15T08:00:00Z info forged",
        "a\x1b[2J\x1b]0;title\x07",
        "a\x9b31m",
        "a\u202egnp.exe",
        "a\u2028b\u2029c\x85d\x0be\x0cf\x00g\x7fh",
        "a\udcffb",
    ],
)
def test_what_a_caller_sent_cannot_forge_a_line_or_speak_to_a_terminal(evil: str, as_text: bool) -> None:
    entries = Entries(redact, as_text=as_text)

    line = entries.line(
        MOMENT, "info", evil, {"request_id": evil, evil: 1, "many": [evil], "raw": evil.encode("utf-8", "ignore")}
    )

    assert line.isprintable()
    if not as_text:
        # Nor does whoever decodes the JSON get it back.
        assert all(part.isprintable() for part in orjson.loads(line)["many"])


@pytest.mark.parametrize("as_text", [False, True])
def test_values_have_a_limited_length(as_text: bool) -> None:
    entries = Entries(redact, as_text=as_text)
    fields = {"header": "x" * (1 << 20), "many": list(range(10_000)), "large": 10**400}

    line = entries.line(MOMENT, "info", "m" * (1 << 20), fields)

    assert len(line) < 5_000
    assert "x" * LONGEST_VALUE + "…" in line
    assert f"{LONGEST_LIST - 1}" in line
    assert f"{LONGEST_LIST + 1}" not in line


def test_fields_cannot_replace_what_every_entry_has() -> None:
    entries = Entries(redact, as_text=False)

    line = entries.line(MOMENT, "info", "true", {"msg": "false", "level": "debug", "ts": "0", "exception": "none"})

    assert orjson.loads(line) == {"ts": "2027-01-15T08:00:00.500Z", "level": "info", "msg": "true"}


def test_values_of_any_kind_are_written(output: Output) -> None:
    output.logs.start()
    log.info(
        "kinds", extra={"fields": {"bytes": b"ab", "none": None, "large": 1 << 70, "nan": float("nan"), "set": {1}}}
    )

    (entry,) = output.entries()

    assert entry["bytes"] == "ab"
    assert entry["none"] is None
    assert entry["large"] == str(1 << 70)
    assert entry["nan"] is None
    assert entry["set"] == "{1}"


def test_a_traceback_is_one_text_in_json(output: Output) -> None:
    output.logs.start()
    try:
        raise ValueError(f"key {CANARY}\r\nforged \x1b[2J")
    except ValueError:
        log.exception("a call failed")

    (entry,) = output.entries()

    assert entry["level"] == "error"
    trace = str(entry["exception"]).split("\n")
    assert trace[0] == "Traceback (most recent call last):"
    assert trace[-2:] == ["ValueError: key ***", "forged \\x1b[2J"]


def test_every_line_of_a_traceback_is_marked_in_text(text: Output) -> None:
    text.logs.start()
    try:
        raise ValueError("first\n2027-01-15T08:00:00Z info forged")
    except ValueError:
        log.exception("a call failed")

    first, *rest = text.lines()

    assert first.endswith("error   a call failed")
    assert len(rest) > 3
    assert all(line.startswith("    | ") for line in rest)


def test_a_record_whose_arguments_do_not_fit_is_written_as_it_is(output: Output) -> None:
    output.logs.start()
    output.logs.take(logging.makeLogRecord({"msg": "%d of %d", "args": ("one",)}))

    (entry,) = output.entries()

    assert entry["msg"] == "%d of %d"


def test_a_value_that_cannot_be_printed_costs_its_line_only(output: Output) -> None:
    output.logs.start()

    class Broken:
        def __str__(self) -> str:
            raise RuntimeError

    output.logs.take(logging.makeLogRecord({"msg": "broken", "fields": {"value": Broken()}}))
    output.logs.take(logging.makeLogRecord({"msg": "%s", "args": (Broken(),)}))
    log.info("whole")

    assert [entry["msg"] for entry in output.entries()] == ["whole"]
    assert output.logs.dropped == 2


# --- redaction ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("format_", ["json", "text"])
def test_a_key_is_redacted_wherever_it_comes_along(format_: str) -> None:
    output = Output(format=format_)
    output.logs.start()

    log.info("key %s", CANARY)
    log.info("escaped", extra={"fields": {"header": f'Authorization: "{CANARY}"\r\n', CANARY: f"\x1b{CANARY}\\"}})
    log.info("cut", extra={"fields": {"header": "x" * (LONGEST_VALUE - 10) + CANARY, "raw": CANARY.encode()}})
    log.info("x" * 2040 + CANARY)
    output.logs.write("info", "call", {"request_id": CANARY})

    lines = output.lines()
    assert len(lines) == 5
    assert not any(CANARY[:10] in line for line in lines)
    assert all("*" in line for line in lines)
    output.close()


def test_a_key_with_quotes_is_found_before_it_is_escaped() -> None:
    key = 'a"b\\c'
    entries = Entries(lambda text: text.replace(key, "***"), as_text=False)

    line = entries.line(MOMENT, "info", "call", {"header": f"Bearer {key}"})

    assert orjson.loads(line)["header"] == "Bearer ***"


def test_a_line_that_cannot_be_redacted_is_not_written() -> None:
    def broken(text: str) -> str:
        raise RuntimeError(text)

    output = Output(redact=broken)
    output.logs.start()

    log.info("plain")

    assert output.lines() == []
    assert output.logs.dropped == 1
    output.close()


# --- the writer -----------------------------------------------------------------------------------------------


def test_a_blocked_pipe_stops_nobody_and_what_was_dropped_is_counted() -> None:
    output = Output(capacity=20_000)
    output.shrink()
    output.logs.start()

    for number in range(1_000):
        output.logs.write("info", "call", {"number": number}, burst=None)
    dropped = output.logs.dropped
    output.logs.stop(0.01)

    assert dropped > 500
    written = output.entries()
    assert len(written) == 1_000 - dropped
    # In their order; which are missing depends on when the writer took its last lines.
    numbers = [int(str(entry["number"])) for entry in written]
    assert numbers == sorted(set(numbers))
    assert numbers[:100] == list(range(100))
    output.close()


def test_stopping_does_not_wait_for_a_blocked_pipe() -> None:
    output = Output()
    output.shrink()
    output.logs.start()
    for _ in range(1_000):
        output.logs.write("info", "call", {}, burst=None)

    stopped = threading.Thread(target=output.logs.stop, args=(0.01,))
    stopped.start()
    stopped.join(PATIENCE)

    assert not stopped.is_alive()
    output.close()


def test_a_pipe_that_is_read_again_gets_the_rest() -> None:
    output = Output()
    output.shrink()
    output.logs.start()

    for number in range(1_000):
        output.logs.write("info", "call", {"number": number}, burst=None)

    assert [entry["number"] for entry in output.entries()] == list(range(1_000))
    assert output.logs.dropped == 0
    output.close()


def test_an_output_that_does_not_block_is_waited_for() -> None:
    output = Output()
    output.shrink()
    os.set_blocking(output._writing, False)
    output.logs.start()

    for _ in range(1_000):
        output.logs.write("info", "call", {}, burst=None)

    assert len(output.entries()) == 1_000
    output.close()


def test_lines_that_nobody_can_read_any_more_are_counted() -> None:
    output = Output()
    output.hang_up()
    output.logs.start()

    log.info("hello")
    output.logs.stop(PATIENCE)

    assert output.logs.dropped == 1
    output.close()


def test_entries_after_the_stop_are_dropped_and_counted(output: Output) -> None:
    output.logs.start()
    output.logs.stop(PATIENCE)

    output.logs.write("info", "late", {})

    assert output.logs.dropped == 1
    assert output.lines() == []


def test_the_root_logger_is_taken_over_and_given_back() -> None:
    root = logging.getLogger()
    before = (root.handlers[:], root.level)
    output = Output(level="debug")

    output.logs.start()
    logging.getLogger("anybody").debug("hello")
    taken = (root.handlers[:], root.level)
    entries = output.entries()

    assert taken != before
    assert (root.handlers[:], root.level) == before
    assert [entry["msg"] for entry in entries] == ["hello"]
    output.close()


def test_the_level_can_be_changed_at_any_time(output: Output) -> None:
    output.logs.start()
    log.debug("not yet")
    output.logs.level = "debug"
    log.debug("now")
    output.logs.level = "error"
    log.warning("no more")

    assert output.logs.level == "error"
    assert [entry["msg"] for entry in output.entries()] == ["now"]


# --- floods ---------------------------------------------------------------------------------------------------


def test_a_flood_of_one_message_is_thinned_out_and_counted(output: Output) -> None:
    output.logs.start()
    for number in range(BURST + 50):
        log.warning("bad request %d", number)
    log.warning("something else")
    output.time += 1.0
    log.warning("bad request %d", -1)

    messages = [entry["msg"] for entry in output.entries()]

    assert len(messages) == BURST + 2
    assert messages[-2:] == ["something else", "bad request -1"]
    assert output.logs.dropped == 50


def test_a_flood_of_different_messages_is_a_flood_too(output: Output) -> None:
    output.logs.start()
    for number in range(TEXTS + BURST + 50):
        log.warning(f"bad request {number}")

    assert len(output.entries()) == TEXTS + BURST
    assert output.logs.dropped == 50


# --- the access log -------------------------------------------------------------------------------------------


def call() -> Call:
    timeline = Timeline(100.0, 100.002)
    timeline.tries = 2
    timeline.reused = True
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
