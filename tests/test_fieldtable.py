"""What happens to a field, by its name: who reads it, and whether it crosses."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.fields import reply_table, request_table
from proxy.wire import fieldtable
from proxy.wire.fieldtable import Fate, FieldTable, connection_options, without_nominated


def table() -> FieldTable:
    return FieldTable(
        noted=[b"x-noted", b"server"], taken=[b"x-taken", b"ours-"], dropped=[b"x-dropped", b"theirs-", b"vary"]
    )


# --- by name ---


def test_lines_are_sorted_by_name_and_keep_their_bytes_and_order() -> None:
    lines = [
        *(b"X-A: 1", b"x-a:2", b"X-Noted:  three\t ", b"X-Taken: four", b"X-Dropped: five", b"X-NOTED: six"),
        *(b"Ours-Anything:seven", b"Theirs-Anything: eight", b"Connection: nine", b"host: ten", b"X-A:", b"X-A: 1"),
    ]

    crossing, noted, hop = table().sort(lines)

    assert crossing == [b"X-A: 1", b"x-a:2", b"X-Noted:  three\t ", b"X-NOTED: six", b"X-A:", b"X-A: 1"]
    assert noted == [
        *((b"x-noted", b"three"), (b"x-taken", b"four"), (b"x-noted", b"six"), (b"ours-anything", b"seven")),
    ]
    assert hop == [(Fate.CONNECTION, b"nine"), (Fate.HOST, b"ten")]


@pytest.mark.parametrize("spelled", [bytes.lower, bytes.upper, bytes.title])
@pytest.mark.parametrize(
    ("name", "crosses", "noted", "hop"),
    [
        *[(name, True, False, False) for name in (b"x-other", b"accept", b"content-type", b"ours", b"cookie")],
        *[(name, True, True, False) for name in (b"x-noted", b"server")],
        *[(name, False, True, False) for name in (b"x-taken", b"ours-", b"ours-a", b"ours-a-b")],
        *[(name, False, False, False) for name in (b"x-dropped", b"theirs-", b"theirs-a", b"vary")],
        *[(name, False, False, False) for name in (b"te", b"trailer", b"http2-settings", b"proxy-connection")],
        *[(name, False, False, False) for name in (b"proxy-authorization", b"proxy-authenticate")],
        *[(name, False, False, True) for name in (b"connection", b"keep-alive", b"upgrade", b"expect")],
        *[(name, False, False, True) for name in (b"host", b"content-length", b"transfer-encoding")],
    ],
)
def test_a_name_decides_however_it_is_spelled_and_however_often_it_came(
    name: bytes, crosses: bool, noted: bool, hop: bool, spelled: object
) -> None:
    """C18."""
    assert callable(spelled)
    line = spelled(name) + b": v"
    sorting = table()

    for _ in range(3):
        found = sorting.sort([line])
        assert found[0] == [line] * crosses
        assert found[1] == [(name, b"v")] * noted
        assert [value for _, value in found[2]] == [b"v"] * hop


def test_a_hop_field_stays_one_whatever_a_table_says() -> None:
    sorting = FieldTable(noted=[b"content-length"], taken=[b"transfer-encoding"], dropped=[b"connection"])

    crossing, noted, hop = sorting.sort([b"Content-Length: 1", b"Transfer-Encoding: chunked", b"Connection: close"])

    assert (crossing, noted) == ([], [])
    assert hop == [(Fate.LENGTH, b"1"), (Fate.CODING, b"chunked"), (Fate.CONNECTION, b"close")]


@pytest.mark.parametrize(
    "name",
    [
        *(b"Content_Length", b"transfer_encoding", b"Transfer_ENCODING", b"Proxy_Connection", b"keep_alive"),
        *(b"Idempotency_Key", b"X_Request_Id", b"X-Request_Id", b"Content_Type", b"content_encoding"),
        *(b"x_noted", b"X_Taken", b"x_dropped", b"ours_a", b"Theirs_a", b"ours-a_b", b"theirs-a_b"),
    ],
)
def test_an_underscore_does_not_smuggle_a_name(name: bytes) -> None:
    """C20."""
    sorting = table()

    for _ in range(2):
        assert sorting.sort([name + b": v"]) == ([], [], [])


@pytest.mark.parametrize("name", [b"authorization_", b"TRANSFER-ENCODING_", b"other_name", b"_", b"x_y-z"])
def test_any_other_underscore_is_part_of_a_name(name: bytes) -> None:
    assert table().sort([name + b": v"]) == ([name + b": v"], [], [])


@pytest.mark.parametrize("name", [b"x_api_key", b"X_Forwarded_For", b"x-forwarded_host", b"Talon_Proxy_Application"])
def test_what_callers_may_not_say_cannot_be_said_with_an_underscore(name: bytes) -> None:
    """C20, C21."""
    assert request_table().sort([name + b": v"]) == ([], [], [])


# --- Connection ---


def test_connection_takes_away_what_any_of_its_lines_names() -> None:
    """C18: also a name that only all lines together give."""
    options = connection_options([b"X-One , close", b"", b"X-TWO,x-noted"])
    crossing = without_nominated(options, [b"x-one: 1", b"X-Two:2", b"X-Three: 3", b"X-Noted: 4"])

    assert options == {b"x-one", b"close", b"", b"x-two", b"x-noted"}
    assert crossing == [b"X-Three: 3"]


@pytest.mark.parametrize("name", [b"authorization", b"idempotency-key", b"via", b"x-request-id"])
def test_connection_takes_nothing_away_that_says_who_writes_what(name: bytes) -> None:
    """C19."""
    options = connection_options([name.upper() + b", x-a"])

    assert without_nominated(options, [name + b": 1", b"X-A: 2"]) == [name + b": 1"]


@pytest.mark.parametrize("value", [b"", b"close", b"Keep-Alive", b", ,close,"])
def test_connection_without_names_takes_nothing_away(value: bytes) -> None:
    crossing = [b"close: 1", b"Keep: 2"]

    assert without_nominated(connection_options([value]), crossing) == crossing


# --- what is remembered ---

NAMES = st.sampled_from(
    [
        *(b"Accept", b"accept", b"Content-Type", b"content_type", b"Connection", b"Host", b"HOST", b"Server", b"Vary"),
        *(b"User-Agent", b"X-Noted", b"X-Taken", b"ours-x", b"Theirs-x", b"X-A", b"Content-Length", b"Expect", b"Date"),
        *(b"Authorization", b"Cache-Control", b"Via", b"Cookie", b"Transfer-Encoding", b"Upgrade", b"x_noted"),
    ]
)
VALUES = st.sampled_from([b"", b" ", b" a", b"a", b" a ", b" b", b"\ta:b", b" \xff", b" " + b"a" * 300])
LINES = st.lists(st.tuples(NAMES, VALUES).map(b":".join), max_size=8)


@pytest.mark.parametrize("make", [table, request_table, lambda: reply_table(allow_browsers=False)])
@settings(deadline=None)
@given(some=st.lists(LINES, max_size=6))
def test_lines_that_were_seen_are_sorted_as_those_that_were_not(make: object, some: list[list[bytes]]) -> None:
    assert callable(make)
    sorting = make()

    for lines in [*some, *some]:
        assert sorting.sort(lines) == make().sort(lines)


def test_a_steady_line_is_remembered_whole_and_no_other() -> None:
    sorting = table()

    sorting.sort([b"Accept: a", b"Accept: b", b"Host: c", b"Connection: d", b"X-A: e", b"Content-Length: 7"])
    # What is noted of it too; not what is dropped here, though of a steady name.
    sorting.sort([b"Server: f", b"Vary: g"])

    assert set(sorting._lines) == {b"Accept: a", b"Accept: b", b"Host: c", b"Connection: d", b"Server: f"}


def test_a_value_that_may_be_secret_is_not_remembered() -> None:
    canary = b"cafe0123456789abcdef"
    sorting = request_table()

    for name in (b"Authorization", b"Cookie", b"X-Api-Key", b"X-Auth-Token", b"Idempotency-Key", b"X-Other", b"Via"):
        sorting.sort([name + b": " + canary])

    assert canary not in repr(vars(sorting)).encode()


def test_what_is_remembered_is_bounded() -> None:
    """Invariant 9; beyond the bounds all is sorted as before."""
    sorting = table()
    limit = fieldtable._REMEMBERED

    for number in range(limit + 10):
        sorting.sort([b"X-%d: a" % number, b"Accept: %d" % number, b"Ours-%d: a" % number])
    sorting.sort([b"X" * 8000 + b": a", b"Host: " + b"a" * 8000])

    assert len(sorting._names) == limit
    assert len(sorting._lines) == limit
    assert max(map(len, [*sorting._names, *sorting._lines])) <= fieldtable._LONGEST_REMEMBERED
    unseen = [b"Ours-New: 1", b"Theirs-New: 2", b"X-New: 3", b"Accept: new", b"x_noted: 4", b"connectioN: new"]
    for _ in range(2):
        assert sorting.sort(unseen) == (
            [b"X-New: 3", b"Accept: new"],
            [(b"ours-new", b"1")],
            [(Fate.CONNECTION, b"new")],
        )


def test_a_long_name_is_not_remembered() -> None:
    sorting = table()
    line = b"X-" + b"a" * fieldtable._LONGEST_REMEMBERED + b": v"

    for _ in range(2):
        assert sorting.sort([line]) == ([line], [], [])
    assert sorting._names == {}
