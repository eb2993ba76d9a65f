"""What the machine does to the process, from outside: signals, full pipes and disks, nothing to write to.

P1        test_process_faults: p1_sigterm, p1_a_file_that_never_ends; test_stop; test_serve:
          a_signal_while_it_starts
P2        test_process_faults: p2_after_sigkill; test_serve: a_unix_socket_is_for_owner (a stale socket is replaced)
P3        test_switches: p3_broken_reloads; test_reloading: problems_of_the_settings
P4        test_switches: p4_switching_back_and_forth, a_fleet_switches
P5        test_switches: p5_rotating_keys; test_trials: a_refused_call_is_sent
P6        for later: proxies share nothing, so there is no store that could be down
P7        test_process_faults: p7_a_call_whose_time_ended; of locks in a store: for later
P8        test_process_faults: p8_a_wall_clock; test_planned: a_wall_clock; test_shape (who may look at it)
P9        test_descriptors: p9_callers_leave, p9_with_no_descriptor_left, p9_with_no_descriptor_for, p9_a_crowd;
          test_admin: whoever_holds_connections
P10       test_buffers: p10_when_bodies_hold, p10_a_sent_call, p10_who_leaves, p10_an_answer_for_which,
          p10_an_answer_that
P11       test_process_faults: p11_a_blocked_log, p11_a_blocked_loop; test_watchdog: a_blocked_loop; test_logs:
          a_blocked_pipe; test_metrics: the_lag_of_the_loop
P12       test_process_faults: p12_a_full_disk, p12_without_standard_streams, p12_it_writes_no_file,
          p12_it_runs_as_process_1; test_logs: half_a_line_of_a_full_disk
P13       test_process_faults: p13_a_scraper_that_does_not_read, p13_ids_make_no_series; test_metrics:
          a_scrape_in_turns, the_worst_shop_stays, what_is_in_no_closed_set
P14       test_outage: p14_an_outage, p14_one_poisonous
"""

import asyncio
import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from email.utils import parsedate_to_datetime
from pathlib import Path

import pytest

from proxy.simulator.server import DEFAULT_KEY
from tests import table
from tests.bench.accounting import descendants
from tests.harness import OK, Line, Upstream, patiently
from tests.process import PATIENCE, PROXY, PROXY_AT, ROOT, Answer, Serve, ask, request, serving, variables

MANY = 200
TARGET = "/v2/customer_sessions/s"


async def calls_under_way(proxy: Serve, count: int) -> None:
    async with asyncio.timeout(PATIENCE):
        while (await proxy.status())["downstream"]["in_flight"] != count:  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.02)


async def answered(caller: Line) -> Answer:
    head, body = await caller.message()
    return Answer(head.decode("latin-1"), body)


# --- signals ---


async def test_p1_sigterm_with_calls_in_flight_and_calls_in_line_fails_none_of_them(upstream: Upstream) -> None:
    upstream.answer = None
    settings = {"upstream__connections__max": str(MANY), "limits__concurrency": str(MANY)}
    async with serving(upstream.url, **settings) as proxy:
        callers = [await proxy.client() for _ in range(2 * MANY)]
        for number, caller in enumerate(callers):
            body = b'{"customerSession": {"attributes": {"number": %d}}}' % number
            await caller.send(request("PUT", f"/v2/customer_sessions/s{number % MANY}", body))
        sent = [await upstream.received() for _ in range(MANY)]
        await calls_under_way(proxy, 2 * MANY)
        assert len(upstream.requests) == MANY  # the others stand behind them

        proxy.send(signal.SIGTERM)
        await proxy.line('"draining"')
        assert await proxy.probe("readyz") == 503
        upstream.answer = lambda _: OK
        for line, _ in sent:
            await line.send(OK)
        answers = [await answered(caller) for caller in callers]
        ended = await proxy.ended()

    assert {answer.status for answer in answers} == {200}
    assert all(answer.field("connection") == "close" for answer in answers)
    assert len(upstream.requests) == 2 * MANY
    assert (ended.code, ended.err) == (0, "")
    assert json.loads(ended.out.splitlines()[-1])["cut_off"] == 0


async def test_p2_after_sigkill_another_takes_its_place_at_once(upstream: Upstream) -> None:
    """Nothing is kept on disk that could be half written; a keyed call is safe to make again, by the key it has."""
    upstream.answer = None
    keyed = request("POST", "/v2/events", b'{"type": "paid"}', Idempotency_Key="k")
    async with serving(upstream.url) as first:
        caller = await first.client()
        await caller.send(keyed)
        await upstream.received()
        address = first.addresses[0]
        first.send(signal.SIGKILL)
        assert await caller.to_end() == b""
        assert (await first.ended()).code == -signal.SIGKILL

    upstream.answer = lambda _: OK
    async with serving(upstream.url, listen=address) as second:
        caller = await second.client()
        await caller.send(keyed)
        assert (await answered(caller)).status == 200

    both = [found for found in upstream.requests if found.startswith(b"POST /v2/events ")]
    assert len(both) == 2
    assert all(b"\r\nIdempotency-Key: k\r\n" in found for found in both)


async def test_p7_a_call_whose_time_ended_while_the_process_was_stopped_is_not_sent(upstream: Upstream) -> None:
    upstream.answer = None
    async with serving(upstream.url) as proxy:
        sent, waiting = await proxy.client(), await proxy.client()
        await sent.send(request("PUT", TARGET, b'{"customerSession": {"attributes": {"number": 1}}}'))
        line, _ = await upstream.received()
        await waiting.send(request("PUT", TARGET, b'{"customerSession": {}}', Talon_Proxy_Timeout_Ms="2500"))
        await calls_under_way(proxy, 2)  # so its time has begun

        proxy.send(signal.SIGSTOP)
        await line.send(OK)  # its turn would come as soon as this is read
        await asyncio.sleep(2.6)  # what is tested is that its time passes
        proxy.send(signal.SIGCONT)
        first, second = await answered(sent), await answered(waiting)

        assert first.status == 200
        assert (second.status, second.field("talon-proxy-outcome")) == (504, "not-sent")
        assert len(upstream.requests) == 1
        upstream.answer = lambda _: OK
        assert (await proxy.ask("PUT", TARGET, b"{}")).status == 200  # its lane goes on

    assert "blocked" not in proxy.out  # it was stopped


async def test_p1_a_file_that_never_ends_does_not_hold_up_the_end(upstream: Upstream, tmp_path: Path) -> None:
    file = tmp_path / "settings.toml"
    file.write_text(f'api_key = "{DEFAULT_KEY}"\nupstream.url = "{upstream.url}"\n')
    file.chmod(0o600)
    async with serving(None, config=str(file)) as proxy:
        file.unlink()
        os.mkfifo(file)
        proxy.send(signal.SIGHUP)
        async with asyncio.timeout(PATIENCE):
            while (writing := opened_to_write(file)) is None:  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0.02)
        try:
            assert (await proxy.ask("PUT", TARGET, b"{}")).status == 200
            ended = await proxy.stop()
        finally:
            os.close(writing)

    assert (ended.code, ended.err) == (0, "")


def opened_to_write(pipe: Path) -> int | None:
    """Open it, once somebody reads it."""
    try:
        return os.open(pipe, os.O_WRONLY | os.O_NONBLOCK)
    except OSError:
        return None


# A wall clock that somebody sets: SIGUSR1 a day on, SIGUSR2 two days back.
CLOCK = """
import signal, sys, time
from datetime import datetime as real
true, shift = time.time, 0.0
def set_by(seconds):
    global shift
    shift += seconds
class datetime(real):
    @classmethod
    def now(cls, tz=None):
        return real.fromtimestamp(time.time(), tz)
time.time = lambda: true() + shift
signal.signal(signal.SIGUSR1, lambda *_: set_by(86_400))
signal.signal(signal.SIGUSR2, lambda *_: set_by(-172_800))
from proxy import app, cli
app.datetime = datetime
sys.exit(cli.main())
"""


async def test_p8_a_wall_clock_that_is_set_changes_stamps_and_nothing_else(upstream: Upstream, tmp_path: Path) -> None:
    given = {
        "listen": "127.0.0.1:0",
        "admin__listen": f"unix:{tmp_path}/admin",
        "upstream__url": upstream.url,
        "api_key": DEFAULT_KEY,
        "log__access": "all",
        "shutdown__quiet": "0ms",
    }
    proxy = await Serve.start(sys.executable, "-P", "-c", CLOCK, "serve", env=variables(given))
    try:
        await proxy.listening()
        moments: list[float] = []
        for number in (None, signal.SIGUSR1, signal.SIGUSR2, signal.SIGUSR1):
            upstream.answer = None
            sent, waiting = await proxy.client(), await proxy.client()
            await sent.send(request("PUT", TARGET, b'{"customerSession": {"attributes": {"number": 1}}}'))
            line, _ = await upstream.received()
            await waiting.send(request("PUT", TARGET, b'{"customerSession": {}}'))
            await calls_under_way(proxy, 2)
            if number is not None:
                proxy.send(number)
            upstream.answer = lambda _: OK
            await line.send(OK)
            first, second = await answered(sent), await answered(waiting)
            await upstream.received()  # the second

            assert (first.status, second.status) == (200, 200)
            moment = parsedate_to_datetime(second.field("date"))
            moments.append(moment.timestamp())
            await proxy.line(f'"ts":"{moment:%Y-%m-%dT%H:}')
        told = await proxy.status()
        ended = await proxy.stop()
    finally:
        await proxy.kill()

    assert [round((moment - moments[0]) / 86_400, 1) for moment in moments] == [0, 1, -1, 0]
    assert told["upstream"]["connections"]["closed"] == {}
    assert told["traffic"]["circuit"]["state"] == "closed"
    assert (ended.code, ended.err) == (0, "")


# --- the log ---


@asynccontextmanager
async def writing_to(output: int, upstream: Upstream, folder: Path, **settings: str) -> AsyncIterator[Serve]:
    """Give a proxy whose standard output is this descriptor: nobody but the test reads it."""
    given = {
        "listen": f"unix:{folder}/traffic",
        "upstream__url": upstream.url,
        "api_key": DEFAULT_KEY,
        "admin__listen": f"unix:{folder}/admin",
        "shutdown__quiet": "0ms",
    }
    process = await asyncio.create_subprocess_exec(
        *PROXY,
        "serve",
        cwd=ROOT,
        env={"PATH": os.environ.get("PATH", ""), "PYTHONPATH": PROXY_AT, **variables(given | settings)},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=output,
        stderr=PIPE,
    )
    assert process.stderr is not None
    process.stdout = asyncio.StreamReader()  # there is none to be read
    process.stdout.feed_eof()
    proxy = Serve(process)
    proxy.admin = f"{folder}/admin"
    try:
        async with asyncio.timeout(PATIENCE):
            while not await _ready(proxy):  # noqa: ASYNC110 - there is no log to wait for
                await asyncio.sleep(0.02)
        yield proxy
        ended = await proxy.stop()
        assert (ended.code, ended.err) == (0, "")
    finally:
        await proxy.kill()


async def _ready(proxy: Serve) -> bool:
    try:
        return await proxy.probe("readyz") == 200
    except (FileNotFoundError, ConnectionError):
        assert proxy.running
        return False


async def dropped(proxy: Serve) -> float:
    found = re.search(r"^talon_proxy_log_dropped_total (\S+)$", await metrics(proxy), re.MULTILINE)
    assert found is not None
    return float(found[1])


async def metrics(proxy: Serve) -> str:
    return (await proxy.ask_admin("/metrics")).body.decode()


async def many_calls(folder: Path, count: int) -> None:
    """Make calls that are answered by the proxy itself, with a log line each."""
    caller = Line(*await asyncio.open_unix_connection(f"{folder}/traffic", limit=1 << 24))
    asked = request("GET", "/nowhere", X_Request_Id="i" * 100)
    for _ in range(count // 100):
        await caller.send(asked * 100)
        for _ in range(100):
            assert (await answered(caller)).status == 404
    await caller.close()


async def test_p11_a_blocked_log_stops_no_call_and_what_is_dropped_is_counted(
    upstream: Upstream, tmp_path: Path
) -> None:
    read, write = os.pipe()
    try:
        async with writing_to(write, upstream, tmp_path, log__access="all") as proxy:
            while not await dropped(proxy):
                await many_calls(tmp_path, 2000)
            caller = Line(*await asyncio.open_unix_connection(f"{tmp_path}/traffic"))
            assert (await ask(caller, "PUT", TARGET, b"{}")).status == 200
            await caller.close()
    finally:
        os.close(read)
        os.close(write)


async def test_p12_a_full_disk_behind_the_log_stops_no_call(upstream: Upstream, tmp_path: Path) -> None:
    full = os.open("/dev/full", os.O_WRONLY)
    try:
        async with writing_to(full, upstream, tmp_path, log__access="all") as proxy:
            await many_calls(tmp_path, 100)
            async with asyncio.timeout(PATIENCE):
                while await dropped(proxy) < 100:  # noqa: ASYNC110 - nobody tells
                    await asyncio.sleep(0.02)
    finally:
        os.close(full)


def opened(pid: int, number: int) -> str:
    return str(Path(f"/proc/{pid}/fd/{number}").readlink())


async def test_p12_without_standard_streams_no_socket_takes_their_place(upstream: Upstream, tmp_path: Path) -> None:
    given = {
        "listen": f"unix:{tmp_path}/traffic",
        "admin__listen": f"unix:{tmp_path}/admin",
        "upstream__url": upstream.url,
        "api_key": DEFAULT_KEY,
        "log__access": "all",
        "shutdown__quiet": "0ms",
    }
    closing = ("sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh")
    proxy = await Serve.start(*closing, *PROXY, "serve", env=variables(given))
    proxy.admin = f"{tmp_path}/admin"
    try:
        async with asyncio.timeout(PATIENCE):
            while not (tmp_path / "traffic").exists():  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0.02)
        caller = Line(*await asyncio.open_unix_connection(f"{tmp_path}/traffic"))
        for _ in range(10):
            assert (await ask(caller, "PUT", TARGET, b"{}")).status == 200
        await caller.close()
        assert [opened(proxy.pid, number) for number in range(3)] == [os.devnull] * 3
        ended = await proxy.stop()
    finally:
        await proxy.kill()

    assert ended.code == 0


# A status page that blocks the loop, as a defect would.
BLOCKING = """
import sys, time
from proxy import bulletin, cli
def status(self, seconds=4.0):
    secret = "cafe0123"
    time.sleep(seconds)
    return {}
bulletin.Bulletin.status = status
sys.exit(cli.main())
"""


async def test_p11_a_blocked_loop_is_logged_with_its_stack_while_it_is_blocked(
    upstream: Upstream, tmp_path: Path
) -> None:
    given = {
        "listen": "127.0.0.1:0",
        "upstream__url": upstream.url,
        "api_key": DEFAULT_KEY,
        "admin__listen": f"unix:{tmp_path}/admin",
    }
    proxy = await Serve.start(sys.executable, "-P", "-c", BLOCKING, "serve", env=variables(given))
    proxy.admin = f"{tmp_path}/admin"
    try:
        await proxy.listening()
        asking = asyncio.create_task(proxy.ask_admin("/status"))
        told = json.loads(await proxy.line("the event loop is blocked"))
        assert not asking.done()
        await asking
        await proxy.line("the event loop goes on")
        lags = await metrics(proxy)
        await proxy.stop()
    finally:
        await proxy.kill()

    assert told["level"] == "error"
    assert told["stack"][0] == "__main__:6 status"
    assert any(line.startswith("proxy.observe.admin:") for line in told["stack"])
    assert "cafe0123" not in proxy.out
    at_all = re.search(r'^talon_proxy_event_loop_lag_seconds_bucket{le="\+Inf"} (\S+)$', lags, re.M)
    below = re.search(r'^talon_proxy_event_loop_lag_seconds_bucket{le="1.0"} (\S+)$', lags, re.M)
    assert at_all is not None
    assert below is None or float(below[1]) < float(at_all[1])


# --- nothing to write to ---

# Ends the process where it opens a file to write, or changes the file system otherwise. Sockets are no files.
WATCHING = """
import os, sys
CHANGES = ("os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.truncate", "os.link", "os.symlink", "tempfile.mkstemp")
def hook(event, args):
    writes = event == "open" and args[0] != os.devnull and args[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
    if writes or (event in CHANGES and not str(args[0]).endswith("/admin")):
        os.write(2, f"{event} {args}".encode())
        os._exit(70)
sys.dont_write_bytecode = True
sys.addaudithook(hook)
from proxy import cli
sys.exit(cli.main())
"""


async def test_p12_it_writes_no_file(upstream: Upstream, tmp_path: Path) -> None:
    """So that it runs on a read-only root, without /tmp, on a full disk."""
    given = {
        "listen": "127.0.0.1:0",
        "upstream__url": upstream.url,
        "api_key": DEFAULT_KEY,
        "admin__listen": f"unix:{tmp_path}/admin",
        "shutdown__quiet": "0ms",
        "log__access": "all",
    }
    proxy = await Serve.start(sys.executable, "-P", "-c", WATCHING, "serve", env=variables(given))
    proxy.admin = f"{tmp_path}/admin"
    try:
        await proxy.listening()
        assert (await proxy.ask("PUT", TARGET, b"{}")).status == 200
        assert (await proxy.status())["stage"] == "serving"
        assert "talon_proxy_requests_total" in await metrics(proxy)
        proxy.send(signal.SIGHUP)
        await proxy.line("reload")
        ended = await proxy.stop()
    finally:
        await proxy.kill()

    assert (ended.code, ended.err) == (0, "")


def isolated() -> Sequence[str]:
    """Give what runs a command as process 1 on a read-only file system; nothing where that is not allowed."""
    unshare = shutil.which("unshare")
    if unshare is None:
        return ()
    readonly = 'mount -o remount,bind,ro / && exec "$0" "$@"'
    command = (unshare, "--map-root-user", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c", readonly)
    tried = subprocess.run((*command, "true"), capture_output=True, check=False)
    return () if tried.returncode else command


async def test_p12_it_runs_as_process_1_on_a_read_only_root(upstream: Upstream, tmp_path: Path) -> None:
    """Where namespaces are allowed; `p12_it_writes_no_file` holds everywhere.

    SIGTERM has no default for process 1: it must be handled, or `docker stop` takes ten seconds and kills.
    """
    command = isolated()
    if not command:
        pytest.skip("namespaces are not allowed here")
    given = {
        "listen": "127.0.0.1:0",
        "upstream__url": upstream.url,
        "api_key": DEFAULT_KEY,
        "admin__listen": "127.0.0.1:0",
        "shutdown__quiet": "0ms",
    }
    script = "import os, sys; assert os.getpid() == 1; from proxy import cli; sys.exit(cli.main())"
    proxy = await Serve.start(*command, sys.executable, "-P", "-c", script, "serve", env=variables(given))
    try:
        entry = json.loads(await proxy.line('"serving"'))
        proxy.addresses = entry["listen"]
        assert (await proxy.ask("PUT", TARGET, b"{}")).status == 200
        [child] = descendants(proxy.pid)
        os.kill(child, signal.SIGTERM)
        ended = await proxy.ended()
    finally:
        await proxy.kill()

    assert (ended.code, ended.err) == (0, "")
    assert json.loads(ended.out.splitlines()[-1])["msg"] == "stopped"


# --- who watches ---


async def test_p13_a_scraper_that_does_not_read_holds_nobody_up(upstream: Upstream) -> None:
    async with serving(upstream.url) as proxy:
        scraper = Line(*await asyncio.open_unix_connection(proxy.admin, limit=1024))
        scraper.writer.transport.pause_reading()  # type: ignore[attr-defined]
        for _ in range(200):
            scraper.writer.write(request("GET", "/metrics"))
        for _ in range(20):
            assert (await proxy.ask("PUT", TARGET, b"{}")).status == 200
        assert await proxy.probe("livez") == 200
        scraper.reset()
        with contextlib.suppress(ConnectionError):
            await patiently(scraper.writer.wait_closed())


async def test_p13_ids_make_no_series(upstream: Upstream) -> None:
    def series(text: str) -> set[str]:
        return {line.rpartition(" ")[0] for line in text.splitlines() if line.startswith("talon_proxy_")}

    async with serving(upstream.url) as proxy:
        caller = await proxy.client()

        async def visits(begin: int, count: int) -> None:
            for number in range(begin, begin + count):
                for target in (f"s{number}", f"s{number}/returns"):
                    await ask(caller, "GET", f"/v2/customer_sessions/{target}?q={number}")
                await ask(caller, "GET", f"/v{number}/x{number}/y")

        await visits(1, 10)
        before = series(await metrics(proxy))
        await visits(100, 100)
        after = series(await metrics(proxy))

    assert after == before


def test_the_table_names_edge_cases_and_tests_that_exist() -> None:
    assert __doc__ is not None
    assert set(table.numbers(__doc__, "P")) == {f"P{number}" for number in range(1, 15)}
    assert table.wrong(__doc__) == []
