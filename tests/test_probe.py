"""Probes: where they ask, what they say, and how little they load."""

import asyncio
import json
import socket
import sys
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from proxy.commands import probe
from proxy.commands.listener import NoAnswer, NotFound, Place, Sources, ask
from proxy.commands.probe import UsageError, duration, main, read_flags, until_well
from proxy.settings import load
from tests.harness import Upstream
from tests.process import PROXY, Ended, Process, Serve, run, serving, talon_proxy, variables

COSTLY = {"argparse", "asyncio", "dataclasses", "email", "http", "inspect", "ipaddress", "json", "logging", "pathlib"}
COSTLY |= {"ssl", "subprocess", "tomllib", "urllib"}
NEEDED = {"TALON_PROXY_UPSTREAM__URL": "http://127.0.0.1:9", "TALON_PROXY_API_KEY": "k"}


@pytest.fixture
async def proxy(upstream: Upstream) -> AsyncIterator[Serve]:
    async with serving(upstream.url) as proxy:
        yield proxy


# --- where --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flag", "variable", "file"),
    [
        (None, None, None),
        (None, None, 'admin.listen = "127.0.0.1:1"'),
        (None, None, '[admin]\nlisten = ["127.0.0.1:1", "127.0.0.1:2"]'),
        (None, "127.0.0.1:3", '[admin]\nlisten = "127.0.0.1:1"'),
        ("127.0.0.1:4", "127.0.0.1:3", '[admin]\nlisten = "127.0.0.1:1"'),
        (None, "[::1]:3, 127.0.0.1:4", None),
        (None, '["127.0.0.1:5", "[::1]:3"]', None),
        (None, ' [ "127.0.0.1:5" ]', None),
        (None, "unix:/run/a b.sock,127.0.0.1:1", None),
        ("localhost:4", None, None),
        (None, None, "[log]\nlevel = 'info'"),
    ],
)
def test_the_address_is_the_first_that_serve_would_listen_on(
    flag: str | None, variable: str | None, file: str | None, tmp_path: Path
) -> None:
    flags = {} if flag is None else {"admin.listen": flag}
    environ = {} if variable is None else {"talon_proxy_ADMIN__LISTEN": variable}
    if file is not None:
        (tmp_path / "settings.toml").write_text(file)
        environ["TALON_PROXY_CONFIG"] = str(tmp_path / "settings.toml")

    place = Sources(flags, environ).admin

    served = load([f"--{name}={value}" for name, value in flags.items()], NEEDED | environ).settings.admin.listen[0]
    assert str(place) == str(served).replace("0.0.0.0", "127.0.0.1")


def test_the_file_may_be_named_by_a_flag_which_wins(tmp_path: Path) -> None:
    for number in (1, 2):
        (tmp_path / f"{number}.toml").write_text(f'admin.listen = "127.0.0.1:{number}"')

    sources = Sources({"config": str(tmp_path / "1.toml")}, {"TALON_PROXY_CONFIG": str(tmp_path / "2.toml")})

    assert str(sources.admin) == "127.0.0.1:1"


@pytest.mark.parametrize(
    ("listen", "asked"), [("0.0.0.0:1", "127.0.0.1:1"), ("[::]:1", "[::1]:1"), ("10.0.0.1:1", "10.0.0.1:1")]
)
def test_every_interface_is_asked_on_loopback(listen: str, asked: str) -> None:
    assert str(Place.parse(listen)) == asked


@pytest.mark.parametrize(
    ("listen", "why"),
    [
        ("", "there is no admin listener"),
        ("[]", "there is no admin listener"),
        ("127.0.0.1:0", "leaves the port to the system"),
        ("7411", "is not an address"),
        ("unix:relative", "is not an address"),
        ("127.0.0.1:x", "is not an address"),
        ('["127.0.0.1:1"', "is not valid JSON"),
    ],
)
def test_an_address_that_cannot_be_asked_is_told(listen: str, why: str) -> None:
    with pytest.raises(NotFound, match=why):
        _ = Sources({}, {"TALON_PROXY_ADMIN__LISTEN": listen}).admin


def test_a_file_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    (tmp_path / "wrong.toml").write_text("= 1")
    for name, why in (("none.toml", "No such file"), ("wrong.toml", "is not valid TOML")):
        with pytest.raises(NotFound, match=why):
            Sources({"config": str(tmp_path / name)}, {})


def test_the_token_comes_from_a_variable_or_a_file(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("from-file\n")

    assert Sources({}, {}).token is None
    assert Sources({}, {"TALON_PROXY_ADMIN__TOKEN": "plain"}).token == "plain"
    assert Sources({}, {"TALON_PROXY_ADMIN__TOKEN_FILE": str(tmp_path / "token")}).token == "from-file"
    with pytest.raises(NotFound, match="No such file"):
        _ = Sources({}, {"TALON_PROXY_ADMIN__TOKEN_FILE": str(tmp_path / "none")}).token


def test_the_strongest_source_decides_whether_the_token_or_its_file_counts(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("from-file\n")
    (tmp_path / "settings.toml").write_text(f'admin.token_file = "{tmp_path}/token"')
    environ = {"TALON_PROXY_CONFIG": str(tmp_path / "settings.toml"), "TALON_PROXY_ADMIN__TOKEN": "of-variable"}

    assert Sources({}, environ).token == "of-variable"
    assert Sources({"admin.token_file": str(tmp_path / "token")}, environ).token == "from-file"
    served = load([], NEEDED | environ).settings.admin.token
    assert served is not None
    assert served.reveal() == "of-variable"


@pytest.mark.parametrize("token", ["with,comma,inside", '["a"]', "trailing\n"])
def test_a_token_is_taken_as_it_is(token: str) -> None:
    assert Sources({}, {"TALON_PROXY_ADMIN__TOKEN": token}).token == token.rstrip("\n")


@pytest.mark.parametrize("file", ["the-token-itself-0123456789", "a\0b", "/etc"])
def test_a_token_where_the_path_of_its_file_belongs_is_not_repeated(file: str) -> None:
    with pytest.raises(NotFound) as caught:
        _ = Sources({}, {"TALON_PROXY_ADMIN__TOKEN_FILE": file}).token

    assert file not in str(caught.value)


# --- asking -------------------------------------------------------------------------------------------------------


async def test_what_is_no_http_is_no_answer() -> None:
    async def babble(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail.example ESMTP\r\n")
        writer.close()

    server = await asyncio.start_server(babble, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    with pytest.raises(NoAnswer, match="does not speak HTTP"):
        await asyncio.to_thread(ask, Place("127.0.0.1", port), "/livez", timeout=10.0)
    server.close()
    await server.wait_closed()


def test_who_never_answers_is_not_waited_for() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        place = Place("127.0.0.1", silent.getsockname()[1])

        with pytest.raises(NoAnswer, match=f"no answer from {place} within"):
            ask(place, "/livez", timeout=0.01)


# --- waiting ------------------------------------------------------------------------------------------------------


class Asked:
    """Answers in place of the admin listener; time passes only in sleeps."""

    def __init__(self, answers: Sequence[tuple[int, bytes] | NoAnswer]) -> None:
        self.answers: Iterator[tuple[int, bytes] | NoAnswer] = iter(answers)
        self.time = 100.0

    def ask(self, place: Place, path: str, *, timeout: float) -> tuple[int, bytes]:
        answer = next(self.answers)
        if isinstance(answer, NoAnswer):
            raise answer
        return answer

    def sleep(self, seconds: float) -> None:
        self.time += seconds


def wait(monkeypatch: pytest.MonkeyPatch, asked: Asked, seconds: float) -> str | None:
    monkeypatch.setattr(probe, "ask", asked.ask)
    return until_well(Place("h", 1), "/readyz", wait=seconds, clock=lambda: asked.time, sleep=asked.sleep)


def test_without_wait_it_asks_once(monkeypatch: pytest.MonkeyPatch) -> None:
    assert wait(monkeypatch, Asked([(200, b"ok\n")]), 0.0) is None
    assert wait(monkeypatch, Asked([(503, b"draining\nmore\n")]), 0.0) == "draining (h:1 answers 503)"
    assert wait(monkeypatch, Asked([NoAnswer("nobody")]), 0.0) == "nobody"


def test_with_wait_it_asks_until_it_is_so(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = Asked([NoAnswer("nobody"), NoAnswer("nobody"), (503, b"starting\n"), (200, b"ok\n")])

    assert wait(monkeypatch, asked, 30.0) is None
    assert asked.time == pytest.approx(100.3)


def test_the_wait_ends_and_tells_the_last_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = Asked([NoAnswer("nobody")] * 3 + [(503, b"starting\n")] * 100)

    assert wait(monkeypatch, asked, 1.05) == "starting (h:1 answers 503)"
    assert asked.time == pytest.approx(101.05)


# --- usage --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "seconds"), [("30s", 30.0), ("500ms", 0.5), ("2min", 120.0), ("1h", 3600.0), ("0s", 0), ("1.5s", 1.5)]
)
def test_durations_are_written_as_in_the_settings(text: str, seconds: float) -> None:
    assert duration(text) == seconds


@pytest.mark.parametrize("text", ["30", "s", "-1s", "1 s", "1.2.3s", "", "٢s"])
def test_other_durations_are_refused(text: str) -> None:
    with pytest.raises(UsageError):
        duration(text)


def test_flags_have_two_spellings() -> None:
    assert read_flags(["--wait", "1s", "--admin.listen=[::1]:1"]) == {"wait": "1s", "admin.listen": "[::1]:1"}


@pytest.mark.parametrize(
    "arguments", [["--wiat", "1s"], ["now"], ["--wait"], ["--wait="], ["--wait", "1"], ["--admin.listen", "7411"]]
)
def test_wrong_usage_is_one_line_and_code_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main("ready", arguments, {}) == 2

    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("talon-proxy ready: ")
    assert said.err.count("\n") == 1


def test_help_tells_the_question(capsys: pytest.CaptureFixture[str]) -> None:
    assert main("health", ["--help"], {}) == 0

    assert "can it answer at all?" in capsys.readouterr().out


# --- the real process ---------------------------------------------------------------------------------------------


async def test_a_running_proxy_is_healthy_and_ready(proxy: Serve) -> None:
    listen = f"unix:{proxy.admin}"

    health, ready = await asyncio.gather(
        talon_proxy("health", admin__listen=listen), talon_proxy("ready", f"--admin.listen={listen}", "--wait", "30s")
    )

    assert health == Ended(0, f"health: ok ({listen})\n", "")
    assert ready == Ended(0, f"ready: ok ({listen})\n", "")


async def test_where_nobody_listens_the_answer_is_no(tmp_path: Path) -> None:
    listen = f"unix:{tmp_path / 'admin'}"

    ended = await talon_proxy("health", admin__listen=listen)

    assert ended == Ended(1, "", f"talon-proxy health: cannot reach {listen}: No such file or directory\n")


async def test_ready_waits_for_a_proxy_that_is_only_starting(tmp_path: Path) -> None:
    settings = variables(
        {
            "admin__listen": f"unix:{tmp_path / 'admin'}",
            "listen": "127.0.0.1:0",
            "upstream__url": "http://127.0.0.1:9",
            "api_key": "k",
            "shutdown__quiet": "0ms",
        }
    )
    waiting = await Process.start(*PROXY, "ready", "--wait", "1h", env=settings)
    serve = await Process.start(*PROXY, "serve", env=settings)
    try:
        assert (await waiting.ended()).code == 0
        assert "serving" in await serve.line("serving")
    finally:
        await waiting.kill()
        await serve.kill()


@pytest.mark.parametrize("command", ["health", "ready"])
async def test_a_probe_loads_next_to_nothing(command: str, tmp_path: Path) -> None:
    """A probe runs every few seconds, in a container with a tenth of a core."""
    loaded = await loads(command, {"TALON_PROXY_ADMIN__LISTEN": f"unix:{tmp_path / 'admin'}"})

    assert {name for name in loaded if name.partition(".")[0] == "proxy"} == {
        "proxy",
        "proxy.cli",
        "proxy.commands",
        "proxy.commands.listener",
        "proxy.commands.probe",
    }
    libraries = {name.partition(".")[0] for name in loaded} - sys.stdlib_module_names - {"proxy", "__main__"}
    # A virtual environment may bring its own at every start of Python.
    assert libraries - {"_distutils_hack", "sitecustomize", "usercustomize"} == set()
    assert not set(loaded) & COSTLY


async def loads(command: str, environ: Mapping[str, str]) -> list[str]:
    """Give the modules that a command has imported when it ends."""
    program = """
import sys
from proxy.cli import main
main([sys.argv[1]])
names = sorted(sys.modules)
import json
print(json.dumps(names))
"""
    ended = await run(sys.executable, "-c", program, command, env=environ)
    names: list[str] = json.loads(ended.out.splitlines()[-1])
    return names
