"""The demonstration tells what it measured: of whatever answers, and nothing that is known beforehand."""

import io
import json
import re
import signal
import threading
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from proxy.commands.demo import Teller, tell
from proxy.commands.story import IDENTICAL, RECONNECTS, STEPS, UPDATES, Scene, closing
from tests.process import PROXY, Process, talon_proxy


class Shop(BaseHTTPRequestHandler):
    """Answers as the test says, in place of the proxy or of Talon.One."""

    protocol_version = "HTTP/1.1"
    wbufsize = 65536  # head and body in one segment: else each answer waits 40 ms for an acknowledgement

    def answer(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        server = self.server
        assert isinstance(server, Server)
        status, content = server.journal() if self.path.startswith("/-/journal") else server.reply
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        if server.timing:
            self.send_header("Server-Timing", server.timing)
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_PUT = answer  # noqa: N815 - as the base class wants them

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


class Server(ThreadingHTTPServer):
    reply: tuple[int, Any] = (200, {})
    arrivals = 0
    timing = ""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Shop)

    def journal(self) -> tuple[int, Any]:
        return 200, [{}] * self.arrivals

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.server_address[1]}"


@pytest.fixture
def servers() -> Iterator[tuple[Server, Server]]:
    talon_one, proxy = Server(), Server()
    threads = [threading.Thread(target=server.serve_forever, args=(0.01,)) for server in (talon_one, proxy)]
    for thread in threads:
        thread.start()
    yield talon_one, proxy
    for server in (talon_one, proxy):
        server.shutdown()
        server.server_close()
    for thread in threads:
        thread.join()


def status(opened: int = 0) -> Mapping[str, Any]:
    return {"upstream": {"connections": {"opened": opened}}}


def played(talon_one: Server, proxy: Server) -> str:
    scene = Scene(talon_one=talon_one.address, proxy=proxy.address, key="k", status=status)
    out = io.StringIO()
    tell(scene, Teller(out))
    return out.getvalue()


def rows(text: str, way: str) -> list[list[str]]:
    return [line.split(way)[1].split() for line in text.splitlines() if line.strip().startswith(f"{way} ")]


def test_conflicts_are_told_where_there_were_any(servers: tuple[Server, Server]) -> None:
    talon_one, proxy = servers
    talon_one.reply, proxy.reply, talon_one.arrivals = (409, {}), (200, {}), 4

    text = played(talon_one, proxy)

    # 200, 409, other, seen by Talon.One
    assert [row[:4] for row in rows(text, "directly")[:2]] == [
        ["0", str(IDENTICAL), "0", "4"],
        ["0", str(UPDATES), "0", "4"],
    ]
    assert [row[:4] for row in rows(text, "through the proxy")[1:3]] == [
        [str(IDENTICAL), "0", "0", "4"],
        [str(UPDATES), "0", "0", "4"],
    ]


def test_a_proxy_that_does_no_good_is_told_as_well(servers: tuple[Server, Server]) -> None:
    talon_one, proxy = servers
    talon_one.reply, proxy.reply = (200, {}), (503, {"message": "Out of order"})

    text = played(talon_one, proxy)

    assert [row[:3] for row in rows(text, "through the proxy")[1:3]] == [
        ["0", "0", str(IDENTICAL)],
        ["0", "0", str(UPDATES)],
    ]
    assert "503 Out of order" in text


def test_time_is_told_as_the_answers_tell_it(servers: tuple[Server, Server]) -> None:
    talon_one, proxy = servers
    proxy.reply, proxy.timing = (200, {"effects": [{"effectType": "setDiscount"}]}), "proxy;dur=1.5, upstream;dur=70.25"

    text = played(talon_one, proxy)

    assert "200 with the effects setDiscount" in text
    assert "70.2 of them Talon.One, 1.5 of them the proxy" in text


def test_connections_are_those_that_were_opened(servers: tuple[Server, Server]) -> None:
    talon_one, proxy = servers
    opened = iter([3, 8])
    scene = Scene(talon_one=talon_one.address, proxy=proxy.address, key="k", status=lambda: status(opened=next(opened)))

    text = "\n".join(next(step for step in STEPS if step.title == "Connections").play(scene))

    assert rows(text, "directly")[0][0] == str(RECONNECTS)
    assert rows(text, "through the proxy")[0][0] == "5"


def test_the_close_tells_the_proxys_own_figures() -> None:
    calls = {
        "answered": 7,
        "by_proxy": 2,
        "failed": 1,
        "exchanges": 4,
        "upstream_seconds": 0.1,
        "overhead_seconds": 0.002,
    }

    text = " ".join(closing({"calls": calls, **status(opened=3)}))

    assert "answered 7 calls, 2 of them itself, 1 with a 5xx" in text
    assert "opened 3 connections" in text
    assert "Talon.One 25.0 ms and the proxy 0.50 ms" in text


# --- how it looks -------------------------------------------------------------------------------------------------


class Tty(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_shows_what_is_going_on_and_gives_time_to_read() -> None:
    out, slept = Tty(), list[float]()
    teller = Teller(out, sleep=slept.append)

    teller.working("1/2 A step")
    teller.say("1/2 A step", ["a line"])
    teller.pause()

    assert out.getvalue() == "1/2 A step …\r\x1b[K1/2 A step\n  a line\n\n"
    assert sum(slept) * len(STEPS) < 10


def test_a_pipe_gets_plain_text_at_once() -> None:
    out, slept = io.StringIO(), list[float]()
    teller = Teller(out, sleep=slept.append)

    teller.working("1/2 A step")
    teller.say("1/2 A step", ["a line"])
    teller.pause()

    assert out.getvalue() == "1/2 A step\n  a line\n\n"
    assert slept == []


# --- the real process ---------------------------------------------------------------------------------------------


async def test_the_demonstration_measures_the_proxy() -> None:
    # What is configured for a real deployment does not get into it.
    elsewhere = {"api_key_file": "/nowhere", "clients__tokens": "t=default", "upstream__url": "https://shop.example"}

    ended = await talon_proxy("demo", **elsewhere)

    assert (ended.code, ended.err) == (0, "")
    assert "\x1b" not in ended.out
    assert not re.search(r"\dZ warning ", ended.out)  # no line of the log behind the end of the story
    assert "directly, without a key     401" in ended.out
    assert re.search(r"through the proxy +200 with the effects .*setDiscount", ended.out)
    assert "GET /v1/applications → 403" in ended.out
    for tally in rows(ended.out, "directly")[:2]:
        # As Talon.One is simulated: one runs, two wait. A busy machine may send them less close together.
        good, conflicts, others, seen = map(int, tally[:4])
        assert good >= 3
        assert others == 0
        assert seen == good + conflicts


async def test_it_stays_where_it_is_told_to_and_says_what_to_try() -> None:
    demo = await Process.start(
        *PROXY,
        "demo",
        "--stay",
        env={"TALON_PROXY_LISTEN": "127.0.0.1:0", "TALON_PROXY_ADMIN__LISTEN": "127.0.0.1:0"},
    )
    try:
        listens = await demo.line("talon-proxy listens on")
        watch = await demo.line("status --watch")
        assert (await talon_proxy("ready", *watch.split()[-2:])).code == 0
        assert re.search(r"http://127\.0\.0\.1:\d+, in front of a simulated Talon\.One", listens)
        demo.send(signal.SIGTERM)
        assert (await demo.ended()).code == 0
    finally:
        await demo.kill()
