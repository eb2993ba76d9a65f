import errno
import logging
import os
import threading
from collections.abc import Iterator

import orjson
import pytest

from proxy.observe.bursts import BURST, RATE, TEXTS, Bursts
from proxy.observe.entries import LONGEST_LIST, LONGEST_VALUE, Entries
from proxy.observe.logs import Logs
from tests.logged import CANARY, MOMENT, PATIENCE, Output, redact


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
        output.logs.write("info", "call", {"number": number}, every=True)
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
        output.logs.write("info", "call", {}, every=True)

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
        output.logs.write("info", "call", {"number": number}, every=True)

    assert [entry["number"] for entry in output.entries()] == list(range(1_000))
    assert output.logs.dropped == 0
    output.close()


def test_an_output_that_does_not_block_is_waited_for() -> None:
    output = Output()
    output.shrink()
    os.set_blocking(output._writing, False)
    output.logs.start()

    for _ in range(1_000):
        output.logs.write("info", "call", {}, every=True)

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


def test_half_a_line_of_a_full_disk_is_ended_before_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    written = b""
    room = [5, 0, 0, 10_000, 10_000]  # of each write; none left: the disk is full

    def write(_: int, text: bytes) -> int:
        nonlocal written
        most = room.pop(0)
        if not most:
            raise OSError(errno.ENOSPC, "full")
        written += bytes(text[:most])
        return min(most, len(text))

    monkeypatch.setattr("proxy.observe.logs.os.write", write)
    monkeypatch.setattr("proxy.observe.logs.AT_ONCE", 0)  # each line by itself
    logs = Logs(level="info", format="json", redact=str, fd=99)
    logs.start()
    for text in ("one", "two", "three", "four"):
        logs.write("info", text, {})
    logs.stop(PATIENCE)

    half, *whole = written.split(b"\n")
    assert len(half) == 5
    assert [orjson.loads(line)["msg"] for line in whole if line] == ["three", "four"]
    assert logs.dropped == 2


def test_of_lines_that_go_together_those_that_still_went_are_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    first = True

    def write(_: int, text: bytes) -> int:
        nonlocal first
        if not first:
            raise OSError(errno.ENOSPC, "full")
        first = False
        return bytes(text).index(b"\n") + 1  # one line

    monkeypatch.setattr("proxy.observe.logs.os.write", write)
    logs = Logs(level="info", format="json", redact=str, fd=99)
    for text in ("one", "two", "three"):
        logs.write("info", text, {})
    logs.start()
    logs.stop(PATIENCE)

    assert logs.dropped == 2


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
    log.warning("bad request %d", -2)

    entries = output.entries()

    assert len(entries) == BURST + 3
    assert [(entry["msg"], entry.get("left_out")) for entry in entries[-3:]] == [
        ("something else", None),
        ("bad request -1", 50),
        ("bad request -2", None),
    ]
    assert output.logs.dropped == 50


def test_a_flood_of_different_messages_is_a_flood_too(output: Output) -> None:
    output.logs.start()
    for number in range(TEXTS + BURST + 50):
        log.warning(f"bad request {number}")

    assert len(output.entries()) == TEXTS + BURST
    assert output.logs.dropped == 50


def test_an_hour_of_a_flood_does_not_fill_a_disk(output: Output) -> None:
    """A message with every call, a hundred calls a second."""
    output.logs.start()
    written = 0
    for _ in range(3_600 * 100):
        output.time += 0.01
        written += output.logs._bursts.take("warning it fails") is not None

    assert written <= BURST + 3_600 * RATE


def test_what_was_once_too_much_is_told_apart_again_when_it_is_quiet(output: Output) -> None:
    bursts = Bursts(lambda: output.time)
    for number in range(TEXTS + 1):
        assert bursts.take(f"text {number}") == 0
    output.time += BURST / RATE

    for _ in range(BURST):
        assert bursts.take("another") == 0
    assert bursts.take("another") is None
    assert bursts.take("and one more") == 0
    assert len(bursts._buckets) < TEXTS
