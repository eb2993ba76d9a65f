"""`talon-proxy status`: a page that outlives what it does not know, and a view that is drawn over in place."""

import asyncio
import io
import json
import re
import shlex
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from proxy.commands.listener import NoAnswer
from proxy.commands.status import Lines, Terminal, watch
from proxy.commands.statuspage import Json, Pace, fitting, laid_out, line, page
from tests.harness import Upstream
from tests.process import PROXY, Process, Serve, serving, talon_proxy

STATUS: dict[str, Any] = {
    "version": "1.2.3",
    "stage": "serving",
    "uptime_seconds": 100.0,
    "settings": "cafe01",
    "upstream": {
        "url": "https://shop.example",
        "generation": 3,
        "state": "serving",
        "protocol": "http/1.1",
        "connections": {
            "opening": 0,
            "active": 1,
            "idle": 2,
            "opened": 5,
            "closed": {"idle": 2, "age": 0},
            "idle_limit_seconds": 50.0,
        },
    },
    "downstream": {"listen": ["127.0.0.1:7410", "[::1]:7410"], "connections": 4, "in_flight": 1},
    "calls": {
        "answered": 12_000,
        "by_proxy": 20,
        "failed": 3,
        "exchanges": 10_000,
        "upstream_seconds": 250.0,
        "overhead_seconds": 2.0,
    },
    "failures": [
        {"category": "timeout", "meaning": "too slow", "count": 3, "last_seconds": 75.0},
        {"category": "auth", "meaning": "401: Talon.One refused the API key", "count": 1, "last_seconds": 90.0},
    ],
    "keys": {"eu": "…9999", "us": "…1111"},
    "keys_used": [{"application": "eu", "key": "primary", "result": "accepted", "answers": 9}],
    "expiries": {"us": "2027-03-31T00:00:00+00:00"},
    "last_minute": {"answered": 7},
    "summary": {"level": "attention", "headline": "Some calls fail", "reasons": ["Look below"], "keys": "None"},
}


def told(status: Json, earlier: Json | None = None, width: int = 100) -> str:
    return "\n".join(laid_out(page(status, Pace.between(earlier, status)), width))


def later(**calls: float) -> dict[str, Any]:
    """Two seconds on."""
    grown = {name: value + calls.get(name, 0) for name, value in STATUS["calls"].items()}
    return {**STATUS, "uptime_seconds": 102.0, "calls": grown}


# --- the page -----------------------------------------------------------------------------------------------------


def test_a_page_tells_all_that_matters() -> None:
    assert told(STATUS) == (
        "talon-proxy   1.2.3, serving, up 1 min 40 s, settings cafe01\n"
        "in short      Some calls fail. Look below\n"
        "calls         120.0/s, 12,000 answered, 20 of them by the proxy itself, 3 failed (5xx)\n"
        "time per call Talon.One 25.0 ms, the proxy 0.20 ms\n"
        "Talon.One     https://shop.example, http/1.1, serving, generation 3\n"
        "connections   1 active, 2 idle, 0 opening, 5 opened, closed: 2 idle, idle at most 50.0 s\n"
        "callers       4 connections, 1 calls in flight, on 127.0.0.1:7410 and [::1]:7410\n"
        "Applications  eu, key …9999\n"
        "              us, key …1111, expires 2027-03-31\n"
        "failures      3 timeout, too slow, last 1 min 15 s ago\n"
        "              1 auth, 401: Talon.One refused the API key, last 1 min 30 s ago"
    )


def test_a_second_look_tells_what_happened_since_the_first() -> None:
    pace = Pace.between(
        STATUS, later(answered=50, failed=2, exchanges=10, upstream_seconds=0.4, overhead_seconds=0.005)
    )

    assert pace.per_second == 25.0
    assert pace.failed == 2
    assert pace.upstream_ms == pytest.approx(40.0)
    assert pace.overhead_ms == pytest.approx(0.5)


def test_without_calls_since_there_is_no_mean() -> None:
    assert "none was sent to Talon.One meanwhile" in told(later(), STATUS)
    assert "0.0/s" in told(later(), STATUS)


def test_a_proxy_that_was_started_anew_is_looked_at_since_then() -> None:
    anew = {**STATUS, "uptime_seconds": 10.0, "calls": {"answered": 50}}

    assert Pace.between(STATUS, anew).per_second == 5.0


def test_what_is_not_known_is_shown_as_it_is() -> None:
    grown = {
        **STATUS,
        "lanes": {"busy": 3, "oldest": [{"id": "c0ffee", "waiting": 2}]},
        "circuit": "closed",
        "upstream": {**STATUS["upstream"], "override": True},
        "calls": {**STATUS["calls"], "joined": 7},
    }

    page = told(grown)

    assert "lanes         busy 3, oldest id c0ffee, waiting 2" in page
    assert "circuit       closed" in page
    assert "override      True" in page
    assert "calls         joined 7" in page


def test_what_is_missing_is_left_out() -> None:
    assert told({"stage": "draining"}) == "talon-proxy   draining"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**6), 10**6) | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


# On a busy machine the first inputs take long to make.
@hypothesis_settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(status=st.fixed_dictionaries({}, optional=dict.fromkeys(STATUS, json_values)), width=st.integers(0, 60))
def test_no_json_breaks_it(status: dict[str, Any], width: int) -> None:
    for earlier in (None, STATUS, status):
        pace = Pace.between(earlier, status)
        for text in (*laid_out(page(status, pace), width), line(status, pace)):
            assert text.isprintable()


@pytest.mark.parametrize("width", [24, 40, 80])
def test_a_narrow_terminal_gets_more_lines_and_no_longer_ones(width: int) -> None:
    lines = told(STATUS, width=width).splitlines()

    assert max(map(len, lines)) <= width
    assert "".join("".join(lines).split()) == "".join(told(STATUS, width=1000).split())


def test_what_would_steer_a_terminal_is_taken_out() -> None:
    assert "\x1b" not in told({**STATUS, "stage": "\x1b[2J", "odd\x1b[2J": "\x07"})


def test_a_page_too_long_for_the_terminal_is_cut_where_it_shows() -> None:
    assert fitting(["a", "b"], 3) == ["a", "b"]
    assert fitting(["a", "b", "c", "d"], 4) == ["a", "b", "…"]


def test_a_line_tells_the_most_important() -> None:
    assert line(STATUS, Pace.between(None, STATUS)) == (
        "serving, 120.0 calls/s, 3 failed, 1 in flight, connections 1 active 2 idle,"
        " Talon.One 25.0 ms, the proxy 0.20 ms"
    )


# --- watching -----------------------------------------------------------------------------------------------------


def looking(looks: Sequence[Json | NoAnswer]) -> tuple[Callable[[], Json], Callable[[float], None]]:
    """Give a look and a sleep that is interrupted after the last."""
    left = list(looks)

    def look() -> Json:
        seen = left.pop(0)
        if isinstance(seen, NoAnswer):
            raise seen
        return seen

    def sleep(seconds: float) -> None:
        assert seconds == 1.0
        if not left:
            raise KeyboardInterrupt

    return look, sleep


def test_a_pipe_gets_a_line_a_look_and_a_gone_proxy_may_come_back() -> None:
    out = io.StringIO()
    look, sleep = looking([STATUS, NoAnswer("cannot reach it"), later(answered=50)])

    assert watch(look, Lines(out, as_json=False, now=lambda: "12:00:00"), sleep=sleep) == 0

    first, gone, again = out.getvalue().splitlines()
    assert first.startswith("12:00:00 serving, 120.0 calls/s")
    assert gone == "12:00:00 cannot reach it"
    assert again.startswith("12:00:00 serving, 25.0 calls/s")


def test_json_is_an_object_a_line() -> None:
    out = io.StringIO()
    look, sleep = looking([STATUS, NoAnswer("gone")])

    watch(look, Lines(out, as_json=True, now=str), sleep=sleep)

    assert [json.loads(text) for text in out.getvalue().splitlines()] == [STATUS, {"error": "gone"}]


class Emulator:
    """A terminal that knows what `Terminal` uses: moving up, the line's begin, clearing below, and the cursor."""

    def __init__(self, written: str) -> None:
        self.lines: list[str] = [""]
        self.row = 0
        self.cursor_shown = True
        for number, command, text in re.findall(r"\x1b\[\??(\d*)([A-Za-z])|([^\x1b]+)", written):
            match command:
                case "A":
                    self.row -= int(number)
                    assert self.row >= 0, "moved above where it began"
                case "J":
                    self.lines = [*self.lines[: self.row], ""]
                case "l" | "h":
                    self.cursor_shown = command == "h"
                case _:
                    self._write(text)

    def _write(self, text: str) -> None:
        for piece in re.split(r"([\n\r])", text):
            if piece == "\n":
                self.row += 1
                self.lines += [""] * (self.row + 1 - len(self.lines))
            elif piece != "\r":
                self.lines[self.row] += piece


@pytest.mark.parametrize("size", [(100, 40), (30, 12), (2, 2)])
def test_a_terminal_shows_the_last_look_alone_and_is_left_as_it_was(size: tuple[int, int]) -> None:
    out = io.StringIO()
    look, sleep = looking([STATUS, NoAnswer("gone"), {"stage": "starting"}, later(answered=50)])

    watch(look, Terminal(out, lambda: size), sleep=sleep)

    terminal = Emulator(out.getvalue())
    width, height = size
    assert len(terminal.lines) <= height
    assert all(len(text) < width for text in terminal.lines)
    assert terminal.cursor_shown
    if size == (100, 40):
        *shown, hint, below = terminal.lines
        assert shown == told(later(answered=50), {"stage": "starting"}).splitlines()
        assert (hint.strip(), below) == ("Ctrl-C ends this", "")


# --- the real process ---------------------------------------------------------------------------------------------


@pytest.fixture
async def proxy(upstream: Upstream) -> AsyncIterator[Serve]:
    async with serving(upstream.url) as proxy:
        yield proxy


async def test_it_tells_of_the_calls_of_a_running_proxy(proxy: Serve) -> None:
    for _ in range(3):
        assert (await proxy.ask("GET", "/v2/customer_sessions/s")).status == 200
    assert (await proxy.ask("GET", "/v1/applications")).status == 403

    people, program = await asyncio.gather(
        talon_proxy("status", admin__listen=f"unix:{proxy.admin}"),
        talon_proxy("status", "--json", "--admin.listen", f"unix:{proxy.admin}"),
    )

    assert (people.code, people.err) == (program.code, program.err) == (0, "")
    assert "4 answered, 1 of them by the proxy itself, 0 failed" in people.out
    assert "Applications  default, key …" in people.out
    calls = json.loads(program.out)["calls"]
    assert (calls["answered"], calls["by_proxy"], calls["exchanges"]) == (4, 1, 3)
    assert calls["upstream_seconds"] > 0


async def test_who_reads_no_further_ends_it_without_a_word(proxy: Serve) -> None:
    command = f"{shlex.join(PROXY)} status --watch --admin.listen unix:{proxy.admin} | head -n 1"

    process = await Process.start("sh", "-c", command)

    try:
        ended = await process.ended()
    finally:
        await process.kill()
    assert (ended.code, ended.err) == (0, "")
    assert "serving" in ended.out


async def test_the_token_for_a_proxy_elsewhere_is_named_by_its_file(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("a-token-0123456789\n")
    asked: list[bytes] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n" + json.dumps(STATUS).encode())
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    ended = await talon_proxy(
        "status", "--admin.listen", f"127.0.0.1:{port}", "--admin.token_file", str(tmp_path / "token")
    )
    server.close()

    assert (ended.code, ended.err) == (0, "")
    assert b"\r\nAuthorization: Bearer a-token-0123456789\r\n" in asked[0]


async def test_without_a_proxy_it_says_where_it_looked() -> None:
    ended = await talon_proxy("status", admin__listen="unix:/nowhere/admin")

    assert (ended.code, ended.out) == (1, "")
    assert ended.err == "talon-proxy status: cannot reach unix:/nowhere/admin: No such file or directory\n"


async def test_another_server_is_not_taken_for_a_proxy() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.0 200 OK\r\n\r\n<html>")
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    try:
        ended = await talon_proxy("status", admin__listen=f"127.0.0.1:{port}")
    finally:
        server.close()
        await server.wait_closed()

    assert (ended.code, ended.out) == (1, "")
    assert "is no talon-proxy" in ended.err
