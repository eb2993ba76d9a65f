"""What a fault is for, and whom it strikes. What it does on a connection: test_simulator_delivery.py."""

from random import Random

import pytest

from proxy.simulator.faults import STATUSES, Fault, FaultError, Faults, Kind, parse, session_of

CART = "/v2/customer_sessions/ci-1"


def armed(*texts: str, seed: int = 1) -> Faults:
    return Faults(Random(seed), [parse(text) for text in texts])


def struck(faults: Faults, path: str = CART, calls: int = 1) -> list[str]:
    drawn = (faults.draw(path) for _ in range(calls))
    return [fault.text for fault in drawn if fault is not None]


@pytest.mark.parametrize("kind", [kind for kind in Kind if kind is not Kind.STATUS])
def test_every_kind_is_written_by_its_name(kind: Kind) -> None:
    assert parse(kind.value).kind is kind


@pytest.mark.parametrize("status", sorted(STATUSES))
def test_a_status_is_written_as_its_number_and_keeps_the_call_from_being_carried_out(status: int) -> None:
    fault = parse(str(status))

    assert (fault.kind, fault.status, fault.executed) == (Kind.STATUS, status, False)


def test_options_follow_in_any_order_and_with_spaces() -> None:
    fault = parse("503, retry_after=2, rate=0.25,times=3 ,session=ci-,path=/v2/,executed=yes")

    assert fault == Fault(
        "503, retry_after=2, rate=0.25,times=3 ,session=ci-,path=/v2/,executed=yes",
        Kind.STATUS,
        503,
        rate=0.25,
        times=3,
        session="ci-",
        path="/v2/",
        executed=True,
        retry_after=2,
    )


def test_what_may_go_either_way_is_carried_out_unless_told_otherwise() -> None:
    assert parse("reset-after-read").executed
    assert not parse("reset-after-read,executed=no").executed
    assert not parse("reset-before-read").executed


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "no fault"),
        ("earthquake", "there are reset-before-read, "),
        ("status", "no fault"),
        ("418", "no fault"),
        ("٥٠٣", "no fault"),
        ("stall,", "no option"),
        ("stall,seconds", "no option"),
        ("stall,colour=red", "no option"),
        ("stall,seconds=-1", "no value for seconds"),
        ("stall,seconds=nan", "no value for seconds"),
        ("stall,rate=2", "no value for rate"),
        ("stall,times=0", "no value for times"),
        ("503,executed=perhaps", "no value for executed"),
        ("slow-body,executed=no", "makes no sense"),
        ("503,seconds=1", "makes no sense"),
        ("stall,retry_after=1", "makes no sense"),
        ("stall,requests=2", "makes no sense"),
    ],
)
def test_what_is_no_fault_is_refused_with_the_reason(text: str, complaint: str) -> None:
    with pytest.raises(FaultError, match=complaint):
        parse(text)


def test_a_fault_without_conditions_strikes_every_call() -> None:
    assert struck(armed("stall"), calls=3) == ["stall"] * 3


def test_a_fault_is_spent_after_its_times() -> None:
    faults = armed("503,times=2")

    assert len(struck(faults, calls=5)) == 2
    assert (faults.armed[0].struck, faults.armed[0].left) == (2, 0)


def test_a_session_prefix_spares_other_sessions_and_calls_without_one() -> None:
    faults = armed("stall,session=ci-")

    assert struck(faults, "/v2/customer_sessions/ci-2/returns")
    assert struck(faults, "/v2/customer_sessions/%63i-2")
    assert not struck(faults, "/v2/customer_sessions/shop-1")
    assert not struck(faults, "/v2/events")


def test_a_path_prefix_spares_other_paths() -> None:
    faults = armed("stall,path=/v2/events")

    assert struck(faults, "/v2/events")
    assert not struck(faults)


def test_the_first_fault_that_concerns_a_call_strikes_it() -> None:
    faults = armed("503,session=other", "stall,times=1", "502")

    assert struck(faults, calls=3) == ["stall,times=1", "502", "502"]


def test_the_same_seed_gives_the_same_strikes() -> None:
    first, second = armed("503,rate=0.3", seed=7), armed("503,rate=0.3", seed=7)

    pattern = [first.draw(CART) is not None for _ in range(200)]

    assert pattern == [second.draw(CART) is not None for _ in range(200)]
    assert 30 < sum(pattern) < 90


@pytest.mark.parametrize(("rate", "strikes"), [("0", 0), ("1", 100)])
def test_a_rate_of_none_or_all_is_meant(rate: str, strikes: int) -> None:
    assert len(struck(armed(f"503,rate={rate}"), calls=100)) == strikes


def test_switching_faults_on_switches_others_off() -> None:
    faults = armed("503", "stall")
    assert repr(faults) == "<Faults 503, stall>"

    faults.set([parse("502")])

    assert struck(faults) == ["502"]
    faults.set([])
    assert repr(faults) == "<Faults none>"


@pytest.mark.parametrize(
    ("path", "session"),
    [
        ("/v2/customer_sessions/a%2Fb", "a/b"),
        ("/v2/customer_sessions/a/returns", "a"),
        ("/v1/customer_sessions/a", "a"),
        ("/v2/customer_profiles/a", ""),
        ("/v2/customer_sessions/", ""),
    ],
)
def test_the_session_of_a_path(path: str, session: str) -> None:
    assert session_of(path) == session
