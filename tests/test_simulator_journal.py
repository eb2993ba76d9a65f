import itertools

from proxy.simulator.journal import Entry, Journal


def journal(length: int = 10) -> Journal:
    ticks = itertools.count()
    return Journal(lambda: float(next(ticks)), length=length)


def arrive(journal: Journal, session: str) -> Entry:
    entry = journal.arrive("PUT", f"/v2/customer_sessions/{session}", b"{}", None)
    entry.session = session
    return entry


def test_calls_are_listed_in_order_of_arrival_whatever_order_they_end_in() -> None:
    calls = journal()
    first, second = arrive(calls, "a"), arrive(calls, "b")
    calls.start(second)
    calls.start(first)
    calls.end(second, 200, "applied")
    calls.end(first, 200, "applied")

    assert [entry.sequence for entry in calls.entries()] == [1, 2]
    assert (second.start_order, first.start_order, second.end_order, first.end_order) == (1, 2, 3, 4)
    assert (first.arrived, first.started, first.ended) == (0, 3, 5)


def test_entries_can_be_filtered_by_session_and_by_number() -> None:
    calls = journal()
    for session in ("a", "b", "a"):
        arrive(calls, session)

    assert [entry.sequence for entry in calls.entries(session="a")] == [1, 3]
    assert [entry.sequence for entry in calls.entries(since=1)] == [2, 3]
    assert [entry.sequence for entry in calls.entries(session="a", since=1)] == [3]


def test_the_oldest_calls_are_forgotten() -> None:
    calls = journal(length=2)
    for session in ("a", "b", "c"):
        arrive(calls, session)

    assert [entry.session for entry in calls.entries()] == ["b", "c"]
    assert repr(calls) == "<Journal of 2 calls>"


def test_numbers_go_on_after_clearing() -> None:
    calls = journal()
    arrive(calls, "a")

    calls.clear()
    arrive(calls, "b")

    assert [entry.sequence for entry in calls.entries()] == [2]


def test_a_body_is_remembered_by_length_and_digest() -> None:
    entry = arrive(journal(), "a")

    assert entry.body_bytes == 2
    assert entry.body_sha256.startswith("44136fa3")
