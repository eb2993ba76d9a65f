"""`talon-proxy config`: whether the settings are right, what they are, and the files made from the model."""

import json
import re
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from proxy.settings import document
from proxy.settings.command import main
from proxy.settings.keys import TABLE, example
from proxy.settings.schema import schema
from tests.given import CANARY, ENVIRON, URL
from tests.process import talon_proxy

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def config(capsys: pytest.CaptureFixture[str]) -> Run:
    """Run the command; gives exit code, standard output and standard error."""

    def run(*arguments: str, **environ: str) -> tuple[int, str, str]:
        given = {f"TALON_PROXY_{name.upper()}": value for name, value in environ.items()}
        code = main(arguments, {**ENVIRON, **given})
        out, err = capsys.readouterr()
        return code, out, err

    return run


# --- check ----------------------------------------------------------------------------------------------------


def test_right_settings_are_right(config: Run) -> None:
    code, out, err = config("check", "--log.level=debug")

    assert (code, err) == (0, "")
    assert re.fullmatch(r"The settings are right: 3 given, \d\d by default.\n", out)


def test_every_problem_and_every_warning_is_told(config: Run, toml: Callable[[str], str]) -> None:
    file = toml('base_path = "/x"\n[limits]\nhaed = 1\n')

    code, out, err = config("check", "--config", file, base_path="/y", limits__concurrency="many")

    assert (code, out) == (2, "")
    assert err.splitlines() == [
        f"warning: {file}:1 [base_path]: has no effect: TALON_PROXY_BASE_PATH is stronger",
        "2 problems in the settings:",
        f"  {file}:3 [limits.haed]: unknown key; did you mean limits.head?",
        "  TALON_PROXY_LIMITS__CONCURRENCY [limits.concurrency]: must be a whole number",
    ]


def test_a_warning_is_no_problem(config: Run) -> None:
    code, _, err = config("check", management__rate="1/s")

    assert (code, err) == (
        0,
        "warning: TALON_PROXY_MANAGEMENT__RATE [management.rate]: has no effect without a management.api_key\n",
    )


async def test_the_command_ends_as_its_problems_say() -> None:
    right = await talon_proxy("config", "check", upstream__url=URL, api_key="k")
    wrong = await talon_proxy("config", "check", upstream_url=URL)
    taken_over = await talon_proxy("config", "show", "--compat", "talon-access-proxy", upstream__url=URL)

    assert (right.code, right.err) == (0, "")
    assert (wrong.code, wrong.out) == (2, "")
    assert "did you mean TALON_PROXY_UPSTREAM__URL?" in wrong.err
    assert (taken_over.code, taken_over.err) == (0, "")
    assert "--compat talon-access-proxy\n" in taken_over.out


@pytest.mark.parametrize("arguments", [(), ("shwo",), ("schema", "x")])
def test_wrong_usage_is_told(config: Run, arguments: tuple[str, ...]) -> None:
    code, out, err = config(*arguments)

    assert (code, out) == (2, "")
    assert err.startswith("usage: talon-proxy config check")
    assert config("--help") == (0, err, "")


# --- show -----------------------------------------------------------------------------------------------------


def shown(out: str) -> dict[str, tuple[str, str]]:
    """Give value and origin by key."""
    lines = [line.split(maxsplit=1) for line in out.splitlines()]
    return {key: (rest.split("  ")[0], rest.rpartition("  ")[2]) for key, rest in lines}


def test_each_setting_is_shown_with_its_origin(config: Run, toml: Callable[[str], str]) -> None:
    file = toml(f'[management]\napi_key = "{CANARY}9999"\n')

    code, out, _ = config(
        "show", "--config", file, "--log.level", "debug", clients__tokens=f"{CANARY}=default", limits__concurrency="9"
    )

    lines = shown(out)
    assert code == 0
    assert lines["upstream.url"] == (URL, "TALON_PROXY_UPSTREAM__URL")
    assert lines["log.level"] == ("debug", "--log.level")
    assert lines["management.api_key"] == ("…9999", f"{file}:2")
    assert lines["applications.default.api_key"] == ("…cdef", "TALON_PROXY_API_KEY")
    assert lines["clients.tokens"] == ("***=default", "TALON_PROXY_CLIENTS__TOKENS")
    assert lines["limits.concurrency"] == ("9", "TALON_PROXY_LIMITS__CONCURRENCY")
    assert lines["lanes.hold"] == ("5s", "default")
    assert lines["base_path"] == ("–", "default")
    assert CANARY not in out


def test_what_belongs_to_one_application_stands_together(config: Run) -> None:
    _, out, _ = config("show", applications__eu__api_key="a", applications__us__api_key="b")

    names = [key.split(".")[1] for key in shown(out) if key.startswith("applications.")]
    assert names == sorted(names, key=["eu", "us", "default"].index)


def test_programs_get_json(config: Run) -> None:
    code, out, _ = config("show", "--json", api_key=CANARY, limits__concurrency="9")

    told = json.loads(out)
    assert code == 0
    assert told["settings"]["limits.concurrency"] == {
        "value": "9",
        "origin": "TALON_PROXY_LIMITS__CONCURRENCY",
    }
    assert told["settings"]["base_path"] == {"value": None, "origin": "default"}
    assert len(told["hash"]) == 12
    assert CANARY not in out


def test_a_short_key_shows_nothing_of_itself(config: Run) -> None:
    assert shown(config("show", api_key="12345")[1])["applications.default.api_key"] == ("***", "TALON_PROXY_API_KEY")


def test_a_terminal_gets_no_control_sequence(config: Run, toml: Callable[[str], str]) -> None:
    file = toml('[lanes]\nshared_profiles = ["a\\u001b[2Jb"]\n')

    assert "\x1b" not in config("show", "--config", file)[1]


def test_wrong_settings_are_not_shown(config: Run) -> None:
    code, out, err = config("show", limits__body="x")

    assert (code, out) == (2, "")
    assert "[limits.body]: needs a number of bytes" in err


# --- schema ---------------------------------------------------------------------------------------------------


def accepted(text: str) -> list[str]:
    """Give what the schema has against a file."""
    validator = jsonschema.Draft7Validator(schema())
    return [error.message for error in validator.iter_errors(tomllib.loads(text))]


def test_the_schema_is_a_schema(config: Run) -> None:
    code, out, err = config("schema")

    assert (code, err) == (0, "")
    jsonschema.Draft7Validator.check_schema(json.loads(out))
    assert document.SCHEMA.read_text() == out, "run make docs"


def test_the_schema_takes_every_default_and_every_example() -> None:
    from proxy.settings.schema import written

    for path, key in TABLE.items():
        nested: Any = written(key)
        for name in reversed(example(path)):
            nested = {name: nested}
        jsonschema.Draft7Validator(schema()).validate(nested)


@pytest.mark.parametrize(
    "text",
    [
        "[upstrem]",
        '[upstream]\nurll = "x"',
        "[limits]\nfields = 0",
        '[limits]\nfields = "many"',
        '[limits]\nbody = "4MB"',
        '[timeouts]\nhead = "10"',
        "[timeouts]\nhead = 10",
        '[log]\nlevel = "INFO"',
        "[retries]\nbudget = 2",
        '[applications.EU]\nkind = "live"',
        '[applications.eu]\nkinds = "live"',
        '[upstream.timeouts.operations]\nsyncCatalogue = "1s"',
        "[clients]\nallow_browsers = 1",
        "listen = 7410",
    ],
)
def test_the_schema_sees_what_loading_would_refuse(text: str) -> None:
    assert accepted(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        'listen = "unix:/run/talon-proxy.sock"',
        "[limits]\nbody = 4096\n[retries]\nbudget = 0.1",
        '[applications.eu]\napi_key_file = "/x"\nexpires = "2027-03-31"',
        '[clients.tokens]\n"a" = "eu"',
        '[upstream.timeouts.operations]\nsyncCatalog = "90s"',
    ],
)
def test_the_schema_takes_what_is_right(text: str) -> None:
    assert accepted(text) == []


def test_every_key_is_in_the_schema_with_its_sentence() -> None:
    text = json.dumps(schema(), ensure_ascii=False)

    for key in TABLE.values():
        assert json.dumps(key.description, ensure_ascii=False) in text


# --- the examples of the guide --------------------------------------------------------------------------------

GUIDE = document.GUIDE.read_text()
FILES = re.findall(r"```toml\n(.*?)```", GUIDE, re.DOTALL)
ENVIRONMENTS = [block for block in re.findall(r"```\n(.*?)```", GUIDE, re.DOTALL) if block.startswith("TALON_PROXY_")]


def with_secrets(text: str, tmp_path: Path) -> str:
    """Put real files in the place of the mounted ones."""

    def write(match: re.Match[str]) -> str:
        file = tmp_path / match[1]
        file.write_text("2f6c1d0e93b7=eu\n8a4e5b7f10c2=us\n" if "tokens" in match[1] else CANARY)
        file.chmod(0o600)
        return str(file)

    return re.sub(r"/run/secrets/([a-z-]+)", write, text)


@pytest.mark.parametrize("number", range(4))
def test_the_files_of_the_guide_are_right(tmp_path: Path, toml: Callable[[str], str], number: int) -> None:
    assert len(FILES) == 4
    file = toml(with_secrets(FILES[number], tmp_path))

    assert main(["check", "--config", file], {}) == 0


@pytest.mark.parametrize("number", range(2))
def test_the_environments_of_the_guide_are_right(tmp_path: Path, number: int) -> None:
    assert len(ENVIRONMENTS) == 2
    lines = with_secrets(ENVIRONMENTS[number], tmp_path).splitlines()

    assert main(["check"], dict(line.split("=", 1) for line in lines)) == 0
