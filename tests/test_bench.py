import json

import pytest

from tests.bench import bursts
from tests.bench.accounting import ProcessTime, cpu_seconds
from tests.bench.bursts import Burst
from tests.bench.machine import Cores
from tests.bench.report import Invalid, Round, Row, as_json, summarise, table, verdict
from tests.bench.servers import BenchError
from tests.bench.stacks import (
    functions,
    innermost_file,
    innermost_function,
    innermost_line,
    parse_stacks,
    share_table,
    shares,
)
from tests.bench.workload import ID_MARK, lua_script, parse_wrk, reply_body, request_body

WRK_OUTPUT = """\
Running 4s test @ http://127.0.0.1:40001
  1 threads and 32 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency   671.80us  123.45us   4.05ms   89.03%
    Req/Sec    47.82k     1.20k   49.35k    82.93%
  194891 requests in 4.10s, 681.33MB read
Requests/sec:  47534.39
Transfer/sec:    166.18MB
bench: calls=194891 microseconds=4099999 status={status} connect=0 read={read} write=0 timeout=0
"""


def turn(contender: str, number: int, *, cpu: float, calls: int = 1000, problem: str = "") -> Round:
    return Round(
        contender=contender,
        number=number,
        calls=calls,
        seconds=1.0,
        cpu_seconds=cpu,
        upstream_connections=32,
        rss=20_000_000,
        problem=problem,
    )


def row(rows: list[Row | Invalid], contender: str) -> Row:
    [found] = [found for found in rows if found.contender == contender]
    assert isinstance(found, Row)
    return found


def test_wrk_output_gives_calls_and_seconds() -> None:
    load = parse_wrk(WRK_OUTPUT.format(status=0, read=0))

    assert load.calls == 194891
    assert load.seconds == pytest.approx(4.099999)
    assert load.problem == ""


def test_a_run_with_errors_says_which() -> None:
    load = parse_wrk(WRK_OUTPUT.format(status=7, read=2))

    assert load.problem == "7 non-2xx, 2 read errors"


def test_a_run_without_calls_does_not_count() -> None:
    output = "bench: calls=0 microseconds=4000000 status=0 connect=32 read=0 write=0 timeout=0"

    assert parse_wrk(output).problem == "no calls, 32 connect errors"


def test_wrk_without_a_result_is_an_error_with_its_output() -> None:
    with pytest.raises(BenchError, match="unable to connect"):
        parse_wrk("unable to connect to 127.0.0.1:40001 Connection refused")


def test_bodies_have_the_promised_sizes_and_are_json() -> None:
    assert len(request_body()) == 1500
    assert len(reply_body()) == 3500
    assert json.loads(request_body())["customerSession"]["profileId"] == f"customer-{ID_MARK}"
    assert json.loads(reply_body())["effects"]


def test_bodies_survive_the_quotes_of_their_carriers() -> None:
    # nginx takes the reply in single quotes and expands variables; Lua takes the request in a long string.
    assert not set(reply_body()) & set("'$\\")
    assert "]==]" not in request_body()
    assert f"[==[{request_body()}]==]" in lua_script()


def test_the_id_mark_is_as_wide_as_an_id() -> None:
    assert len(ID_MARK) == len(f"{4096:04d}")


def test_cpu_time_is_the_difference_over_all_threads_and_processes() -> None:
    before = {1: ProcessTime(0, {1: 1_000, 2: 500}), 2: ProcessTime(0, {2: 0})}
    after = {
        1: ProcessTime(0, {1: 3_000, 2: 500, 3: 100}),
        2: ProcessTime(0, {2: 7_000}),
        3: ProcessTime(0, {3: 1}),
    }

    assert cpu_seconds(before, after) == pytest.approx(9_101e-9)


def test_cpu_time_falls_back_to_the_process_total_when_a_thread_has_ended() -> None:
    before = {1: ProcessTime(10_000_000, {1: 1_000, 2: 9_000_000})}
    after = {1: ProcessTime(40_000_000, {1: 21_000_000})}

    assert cpu_seconds(before, after) == pytest.approx(0.030)


def test_cpu_time_falls_back_to_the_process_total_without_schedstat() -> None:
    assert cpu_seconds({1: ProcessTime(10_000_000, {})}, {1: ProcessTime(30_000_000, {})}) == pytest.approx(0.020)


def test_ratios_are_taken_round_by_round() -> None:
    # The machine was three times slower in round 2; the ratio does not notice.
    rounds = [
        *(turn("nginx", number, cpu=cpu) for number, cpu in ((1, 0.020), (2, 0.060), (3, 0.020))),
        *(turn("proxy", number, cpu=cpu) for number, cpu in ((1, 0.030), (2, 0.090), (3, 0.032))),
    ]

    rows = summarise(rounds)

    ratio = row(rows, "proxy").ratio
    assert ratio is not None
    assert (ratio.median, ratio.low, ratio.high) == pytest.approx((1.5, 1.5, 1.6))
    spread = row(rows, "proxy").cpu_per_call
    assert (spread.median, spread.low, spread.high) == pytest.approx((32.0, 30.0, 90.0))


def test_ratios_may_be_to_any_contender_and_any_may_be_judged() -> None:
    rounds = [turn("haproxy-h2", 1, cpu=0.020), turn("proxy-h2", 1, cpu=0.050)]

    rows = summarise(rounds, "haproxy-h2")

    assert "× haproxy-h2" in table(rows, "haproxy-h2")
    assert verdict(rows, 3.0, judged="proxy-h2", reference="haproxy-h2") == []
    assert verdict(rows, 2.0, judged="proxy-h2", reference="haproxy-h2") == [
        "proxy-h2 takes 2.50 × haproxy-h2, the budget is 2.00 ×"
    ]


def test_bursts_are_told_apart_by_what_they_met() -> None:
    found = bursts.table(
        [
            Burst("proxy", [0.001] * 98 + [0.002, 0.5], opened=60, first=True),
            Burst("proxy", [0.001] * 100, opened=0, first=False),
        ]
    )

    assert [line.split() for line in found.splitlines()[1:]] == [
        ["proxy", "first", "1.0", "2.0", "500.0", "60"],
        ["proxy", "later", "1.0", "1.0", "1.0", "0"],
    ]


def test_one_bad_round_makes_the_row_invalid() -> None:
    rounds = [
        turn("nginx", 1, cpu=0.020),
        turn("nginx", 2, cpu=0.020),
        turn("proxy", 1, cpu=0.020),
        turn("proxy", 2, cpu=0.001, problem="12 non-2xx"),
    ]

    rows = summarise(rounds)

    assert rows[1] == Invalid("proxy", "round 2: 12 non-2xx")
    assert "proxy: INVALID, round 2: 12 non-2xx" in table(rows)
    assert verdict(rows, None) == ["proxy is invalid"]


def test_without_a_valid_reference_there_is_no_ratio() -> None:
    rows = summarise([turn("nginx", 1, cpu=0.020, problem="1 time-outs"), turn("proxy", 1, cpu=0.030)])

    assert row(rows, "proxy").ratio is None
    assert verdict(rows, 1.8) == [
        "nginx is invalid",
        "the budget cannot be judged: no ratio of proxy to nginx",
    ]


def test_the_budget_judges_the_median_ratio_of_the_proxy() -> None:
    rows = summarise([turn("nginx", 1, cpu=0.020), turn("haproxy", 1, cpu=0.080), turn("proxy", 1, cpu=0.030)])

    assert verdict(rows, 1.8) == []
    assert verdict(rows, None) == []
    assert verdict(rows, 1.4) == ["proxy takes 1.50 × nginx, the budget is 1.40 ×"]


def test_a_budget_without_the_proxy_is_not_met() -> None:
    rows = summarise([turn("nginx", 1, cpu=0.020)])

    assert verdict(rows, 1.8) == ["the budget cannot be judged: no ratio of proxy to nginx"]


def test_the_table_lines_up() -> None:
    rows = summarise([turn("nginx", 1, cpu=0.0201), turn("haproxy", 1, cpu=0.0251, calls=1234)])

    assert table(rows).splitlines() == [
        "          CPU µs per call           × nginx  calls/s  busy  upstream conns  RSS MB",
        "nginx    20.1 (20.1–20.1)  1.00 (1.00–1.00)    1,000    2%              32    20.0",
        "haproxy  20.3 (20.3–20.3)  1.01 (1.01–1.01)    1,234    3%              32    20.0",
        "nginx had work for 2% of its core only: wrk, the origin or other programs held it up",
        "haproxy had work for 3% of its core only: wrk, the origin or other programs held it up",
    ]


def test_a_saturated_contender_gets_no_remark() -> None:
    assert "held it up" not in table(summarise([turn("nginx", 1, cpu=0.97)]))


def test_the_report_is_json() -> None:
    rounds = [turn("nginx", 1, cpu=0.020)]

    report = json.loads(json.dumps(as_json(rounds, summarise(rounds), {"machine": {"cpu": "x"}})))

    assert report["rows"][0]["cpu_per_call"]["median"] == pytest.approx(20.0)
    assert report["rounds"][0]["calls"] == 1000
    assert report["machine"] == {"cpu": "x"}


@pytest.mark.parametrize(
    ("available", "expected"),
    [
        ([3], Cores(None, None, None)),
        ([0, 1], Cores(0, 1, 1)),
        ([2, 4, 6, 8], Cores(2, 4, 6)),
    ],
)
def test_the_contender_has_a_core_to_itself(available: list[int], expected: Cores) -> None:
    assert Cores.shared_out(available) == expected


RAW_STACKS = """\
<module> (proxy/__main__.py:3);run (asyncio/runners.py:190);data_received (proxy/wire/listener.py:40) 60
<module> (proxy/__main__.py:3);run (asyncio/runners.py:190);data_received (proxy/wire/listener.py:44) 20
<module> (proxy/__main__.py:3);run (asyncio/runners.py:190);data_received (proxy/wire/http1.py:7);SSL_read 20
"""


def test_time_itself_is_that_of_the_innermost_function() -> None:
    found = shares(parse_stacks(RAW_STACKS), by=innermost_function)

    assert found == [("data_received (proxy/wire/listener.py)", 0.8), ("SSL_read", 0.2)]


def test_time_itself_is_told_by_file() -> None:
    native = RAW_STACKS + "run (asyncio/runners.py:190);0x7f (libcrypto.so.3) 100"

    found = shares(parse_stacks(native), by=innermost_file)

    assert found == [("libcrypto.so.3", 0.5), ("proxy/wire/listener.py", 0.4), ("SSL_read", 0.1)]


def test_time_itself_is_told_to_the_line() -> None:
    found = shares(parse_stacks(RAW_STACKS), by=innermost_line)

    assert found[0] == ("data_received (proxy/wire/listener.py:40)", 0.6)


def test_time_below_counts_for_every_caller() -> None:
    found = dict(shares(parse_stacks(RAW_STACKS), by=functions))

    assert found["run (asyncio/runners.py)"] == 1.0
    assert found["data_received (proxy/wire/http1.py)"] == 0.2


def test_shares_are_told_in_microseconds_of_a_call() -> None:
    text = share_table("itself", [("a", 0.75), ("b", 0.25)], per_call=40.0, limit=1)

    assert text.splitlines() == ["itself", " 75.0%  30.00 µs  a"]
