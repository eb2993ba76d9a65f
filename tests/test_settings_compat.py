"""`--compat talon-access-proxy`: the settings of the archived proxy are taken over, or it is said why not."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from proxy.settings import Loaded, SettingsError, load, redacted
from tests.given import CANARY, NOW

FLAGS = ("--compat", "talon-access-proxy")

UNSIGNED = "is not used: it signed calls, and API keys have replaced signatures"
# As its users write it: comments, no commas, keys with and without quotes.
TWO = """\
[
    {
        // Address to listen on
        "Address": "127.0.0.1:8000"
        "Root": "/"
        "TalonAPI": "https://demo.talon.one"
        # its own resolver
        "DNSServer": "8.8.8.8:53"
        maxconnections: 20
        Application: {
            "1": {
                "CalculateHMAC": false
                ApplicationKey: "c0ffee5ec2e7c0ffee5ec2e7"
            }
        }
    },
    { Address: "127.0.0.1:8001", TalonAPI: "https://demo.talon.one" },
]
"""


@pytest.fixture
def config(tmp_path: Path) -> Callable[[str], str]:
    def write(text: str) -> str:
        path = tmp_path / "config.json"
        path.write_text(text)
        return str(path)

    return write


def taken(flags: tuple[str, ...] = FLAGS, /, **environ: str) -> Loaded:
    return load(flags, environ, now=NOW)


def said(**environ: str) -> list[str]:
    """Give what is wrong, or warned of where nothing is."""
    try:
        return list(taken(**environ).warnings)
    except SettingsError as error:
        return [str(problem) for problem in error.problems]


def test_a_file_of_it_becomes_settings(config: Callable[[str], str]) -> None:
    file = config(TWO)

    loaded = taken(APP_CONFIG=file)

    shown = redacted(loaded.settings)
    assert {name: shown[name] for name, origin in loaded.origins.items() if origin != "default"} == {
        "listen": "127.0.0.1:8000,127.0.0.1:8001",
        "base_path": "",
        "upstream.url": "https://demo.talon.one",
        "upstream.connections.max": "20",
        "clients.inject": "when_missing",
    }
    assert loaded.origins["upstream.url"] == f"{file} entry 1 (TalonAPI)"
    assert loaded.warnings == (
        f"{file} entry 1 (DNSServer): is not used: names are looked up as this machine does",
        f"{file} entry 1 (Application.1.ApplicationKey): {UNSIGNED}",
    )


def test_nothing_of_it_is_read_without_the_flag(
    config: Callable[[str], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    config(TWO)
    environ = {"PORT": "1", "ADDRESS": ":2", "APP_ROOT": "/x", "DEBUG": "1", "APP_CONFIG": "config.json"}
    ours = {"TALON_PROXY_UPSTREAM__URL": "https://shop.talon.one", "TALON_PROXY_API_KEY": "k"}

    assert load([], {**environ, **ours}, now=NOW).settings == load([], ours, now=NOW).settings


def test_ours_is_stronger(config: Callable[[str], str]) -> None:
    loaded = taken(
        (*FLAGS, "--listen=127.0.0.1:9"),
        APP_CONFIG=config(TWO),
        TALON_PROXY_API_KEY="k",
        TALON_PROXY_CLIENTS__INJECT="always",
    )

    assert [str(address) for address in loaded.settings.listen] == ["127.0.0.1:9"]
    assert loaded.settings.clients.inject == "always"


def test_the_file_beside_it_is_read_where_none_is_named(
    config: Callable[[str], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert [line.split(":")[0] for line in said(PORT="8000")][:1] == ["upstream.url"]

    config("{ TalonAPI: https://demo.talon.one\n }")
    loaded = taken()
    assert str(loaded.settings.upstream.url) == "https://demo.talon.one"
    assert loaded.origins["listen"] == "default"


@pytest.mark.parametrize(
    ("environ", "listen"),
    [
        ({"ADDRESS": "127.0.0.1:1", "PORT": "2"}, "127.0.0.1:1"),
        ({"APP_ADDRESS": "[::1]:1"}, "[::1]:1"),
        ({"ADDRESS": "", "APP_ADDRESS": "127.0.0.1:3"}, "127.0.0.1:3"),
        ({"PORT": "8000"}, "0.0.0.0:8000"),
        ({"APP_PORT": "8001", "ASPNETCORE_PORT": "8002"}, "0.0.0.0:8001"),
        ({"HTTP_PLATFORM_PORT": "8003"}, "0.0.0.0:8003"),
        ({"ADDRESS": ":8004"}, "0.0.0.0:8004"),
    ],
)
def test_variables_say_where_to_listen(config: Callable[[str], str], environ: dict[str, str], listen: str) -> None:
    file = config('{ "TalonAPI": "https://demo.talon.one" }')

    assert redacted(taken(APP_CONFIG=file, **environ).settings)["listen"] == listen


def test_an_address_of_the_file_stands_between_a_port_and_an_address(
    config: Callable[[str], str],
) -> None:
    file = config('{ "TalonAPI": "https://demo.talon.one", "Address": "127.0.0.1:8000" }')

    assert redacted(taken(APP_CONFIG=file, PORT="1").settings)["listen"] == "127.0.0.1:8000"
    assert redacted(taken(APP_CONFIG=file, ADDRESS="127.0.0.1:1").settings)["listen"] == "127.0.0.1:1"


def test_root_and_debug_are_taken_over(config: Callable[[str], str]) -> None:
    file = config('{ "TalonAPI": "https://demo.talon.one", "Root": "talon/" }')

    assert taken(APP_CONFIG=file).settings.base_path == "/talon"
    assert taken(APP_CONFIG=file, APP_ROOT="/other/").settings.base_path == "/other"
    assert taken(APP_CONFIG=file, DEBUG="1").settings.log.level == "debug"
    assert taken(APP_CONFIG=file, DEBUG="app:*").settings.log.level == "info"
    assert taken(APP_CONFIG=file, DEBUG="0").settings.log.level == "info"


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        (
            '"Application": {"1": {"CalculateHMAC": true, "ApplicationKey": "%s"}}',
            "(Application.1.CalculateHMAC): is of",
        ),
        ('"Application": {"1": {"ApplicationToken": "%s"}}', "(Application.1.ApplicationToken): is of a kind that"),
        ('"Application": ["%s"]', "(Application): must be an object of objects"),
        ('"Application": {"1": "%s"}', "(Application): must be an object of objects"),
        ('"Address": "%s"', "(Address) [listen]: entry 1 needs a host and a port"),
        ('"Address": 8000, "x": "%s"', "(Address) [listen]: entry 1 must be text in quotes"),
        ('"Root": "/%s?"', "(Root) [base_path]: must be a path such as /talon"),
        ('"MaxConnections": "%s"', "(MaxConnections) [upstream.connections.max]: must be a whole number"),
        ('"MaxConnections": 0, "x": "%s"', "(MaxConnections): set no limit"),
        ('"Tokens": "%s"', "(Tokens): is an unknown key"),
    ],
)
def test_what_cannot_be_taken_over_is_told_and_not_repeated(
    config: Callable[[str], str], more: str, expected: str
) -> None:
    file = config(f'{{ "TalonAPI": "https://demo.talon.one", {more.replace("%s", CANARY)} }}')

    found = said(APP_CONFIG=file)

    assert f"{file} {expected}" in "\n".join(found)
    assert CANARY not in "\n".join(found)


@pytest.mark.parametrize("name", ["TalonAPI", "Root", "MaxConnections"])
def test_two_targets_are_two_proxies(config: Callable[[str], str], name: str) -> None:
    entry = '{ "Address": "127.0.0.1:%d", "TalonAPI": "https://%s.talon.one", "Root": "/%s", "MaxConnections": %d }'
    values = {"TalonAPI": ("b", "a", 7), "Root": ("a", "b", 7), "MaxConnections": ("a", "a", 8)}[name]
    file = config(f"[{entry % (1, 'a', 'a', 7)}, {entry % (2, *values)}]")

    (found,) = said(APP_CONFIG=file)

    assert found == f"{file} entry 2 ({name}): is not the same for all entries: run one talon-proxy for each"


def test_the_path_of_the_url_is_left_out_as_it_was(config: Callable[[str], str]) -> None:
    file = config('{ "TalonAPI": "https://demo.talon.one/v1/" }')

    loaded = taken(APP_CONFIG=file)

    assert str(loaded.settings.upstream.url) == "https://demo.talon.one"
    assert loaded.warnings == (f"{file} (TalonAPI): has a path, which was never used and is left out",)


@pytest.mark.parametrize("url", ["demo.talon.one", f"https://user:{CANARY}@demo.talon.one", "https://demo.talon.one?x"])
def test_a_url_that_is_none_is_a_problem_and_not_repeated(config: Callable[[str], str], url: str) -> None:
    (found,) = said(APP_CONFIG=config(f'{{ "TalonAPI": "{url}" }}'))

    assert "(TalonAPI) [upstream.url]: " in found
    assert CANARY not in found


def test_a_single_connection_is_not_one_too_few(config: Callable[[str], str]) -> None:
    connections = taken(
        APP_CONFIG=config('{ "TalonAPI": "https://demo.talon.one", "MaxConnections": 1 }')
    ).settings.upstream.connections

    assert (connections.warm, connections.max) == (1, 1)


def test_an_open_address_needs_a_word_once_there_is_a_key(config: Callable[[str], str]) -> None:
    file = config('{ "TalonAPI": "https://demo.talon.one" }')

    assert said(APP_CONFIG=file, PORT="8000") == []
    (found,) = said(APP_CONFIG=file, PORT="8000", TALON_PROXY_API_KEY="k")
    assert re.search(r"^PORT \[listen\]: 0.0.0.0:8000 can be reached from other machines", found)


def test_a_proxy_on_the_way_is_not_taken_from_the_environment(config: Callable[[str], str]) -> None:
    file = config('{ "TalonAPI": "https://demo.talon.one" }')

    assert said(APP_CONFIG=file, HTTPS_PROXY=f"http://me:{CANARY}@egress:3128") == [
        "HTTPS_PROXY: is not read: set upstream.proxy to go through it"
    ]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("{", ": is not valid Hjson (line 1)"),
        ('{\n  "Address": "127.0.0.1:8000\n}', ": is not valid Hjson (line 3)"),
        ("[" * 100_000, ": is not Hjson in UTF-8"),
        ("[1]", ": must be an object or a list of objects"),
        ("true", ": must be an object or a list of objects"),
    ],
)
def test_a_file_that_is_none_is_a_problem(config: Callable[[str], str], content: str, expected: str) -> None:
    file = config(content)

    assert said(APP_CONFIG=file)[0] == f"{file}{expected}"


def test_a_file_that_is_named_must_be_there(tmp_path: Path) -> None:
    missing = str(tmp_path / "missing")

    assert said(APP_CONFIG=missing)[0] == f"{missing}: cannot be read: No such file or directory"


def test_no_other_program_is_known() -> None:
    with pytest.raises(SettingsError, match="--compat: knows only talon-access-proxy"):
        load(["--compat=nginx"], {})
    with pytest.raises(SettingsError, match="--compat: needs the name of a program"):
        load(["--compat"], {})
