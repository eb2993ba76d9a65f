"""Where values come from: lines of the file, whole maps in one variable, names below a map, and what loses."""

import json
from collections.abc import Callable

import pytest

from proxy.settings import SettingsError, load
from proxy.settings.keys import MAPS, TABLE, TABLES, example, flag, variable
from tests.given import CANARY, ENVIRON, NOW, URL, all_problems, loaded, problem, problems, settings

# --- lines of the file ----------------------------------------------------------------------------------------

LINES = """\
# A comment, then a key that is also in a table further down.
base_path = "/x"
"listen" = [
  "127.0.0.1:1",
  "127.0.0.1:2", # head = "of a list"
]
log.level = "debug"

[timeouts] # [limits]
head = "1s"
  body="2s"
[ upstream . "timeouts" ]
total = "20s"
operations.trackEventV2 = "2s"
operations.synccatalog = "3s"

[clients]
tokens = { a = "eu", "b.c" = "eu" }
[applications.eu]
kind = "live"
"""


@pytest.mark.parametrize(
    ("key", "line"),
    [
        ("base_path", 2),
        ("listen", 3),
        ("log.level", 7),
        ("timeouts.head", 10),
        ("timeouts.body", 11),
        ("upstream.timeouts.total", 13),
        ("upstream.timeouts.operations.trackEventV2", 14),
        ("upstream.timeouts.operations.syncCatalog", 15),
        ("clients.tokens", 18),
        ("applications.eu.kind", 20),
    ],
)
def test_a_value_of_the_file_knows_its_line(toml: Callable[[str], str], key: str, line: int) -> None:
    file = toml(LINES)

    origins = loaded(["--config", file], applications__eu__api_key="k").origins

    assert origins[key] == f"{file}:{line}"


def test_a_text_over_several_lines_hides_no_key(toml: Callable[[str], str]) -> None:
    file = toml("base_path = '''\nlisten = 1\n'''\n[timeouts]\nhead = 1\nlisten = '''\n'''\n")

    assert [found.split(" ")[0] for found in problems(["--config", file])] == [f"{file}:6", f"{file}:1", f"{file}:5"]


def test_what_stands_in_an_inline_table_has_the_line_of_that_table(toml: Callable[[str], str]) -> None:
    file = toml('\nupstream = { timeouts = { total = "20s" } }\n')

    assert loaded(["--config", file]).origins["upstream.timeouts.total"] == f"{file}:2"


def test_a_name_in_quotes_is_found_too(toml: Callable[[str], str]) -> None:
    file = toml('["upstream"."tim\\u0065outs"]\n\'total\' = "1"\n')

    assert problem(["--config", file]).startswith(f"{file}:2 [upstream.timeouts.total]: ")


def test_two_spellings_of_one_name_are_not_taken_for_each_other(toml: Callable[[str], str]) -> None:
    file = toml('[upstream.timeouts.operations]\nsyncCatalog = "1s"\nSYNCCATALOG = "2s"\n')

    assert problem(["--config", file]) == (
        f"{file}:3 [upstream.timeouts.operations.syncCatalog]: says the same as {file}:2"
    )


# --- whole maps in one text -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "trackEventV2=2s, synccatalog=90s",
        '{"trackEventV2": "2s", "SYNCCATALOG": "90s"}',
        " trackeventv2=2s,syncCatalog=90s",
    ],
)
def test_a_map_of_values_is_given_as_pairs_or_json(text: str) -> None:
    for result in (
        settings(upstream__timeouts__operations=text),
        settings([f"--upstream.timeouts.operations={text}"]),
    ):
        assert dict(result.upstream.timeouts.operations) == {"trackEventV2": 2, "syncCatalog": 90}


def test_a_map_of_sections_is_given_as_json() -> None:
    text = f'{{"eu": {{"api_key": "{CANARY}", "environment": "europe"}}}}'

    result = loaded(applications=text)

    assert result.settings.applications["eu"].environment == "europe"
    assert result.origins["applications.eu.api_key"] == "TALON_PROXY_APPLICATIONS"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{", "TALON_PROXY_APPLICATIONS [applications]: is not valid JSON"),
        ('{"eu": {"api_key": "a"}, "eu": {"api_key": "b"}}', "[applications]: names an entry twice"),
        ('{"eu": {"apikey": "a"}}', "[applications.eu.apikey]: unknown key; did you mean applications.eu.api_key?"),
        ('{"eu": "a"}', "[applications.eu]: is a section, not a value"),
        ('{"EU": {"api_key": "a"}}', "is not a usable name"),
    ],
)
def test_a_map_in_one_text_is_checked_like_a_table(text: str, expected: str) -> None:
    assert expected in problem(applications=text)


@pytest.mark.parametrize("text", ["trackEventV2", "=2s", "trackEventV2=2s,", ",", "trackEventV2:2s"])
def test_a_pair_has_a_name_and_a_value(text: str) -> None:
    assert "needs the form name=value" in problem(upstream__timeouts__operations=text)


def test_an_empty_map_is_empty() -> None:
    assert dict(settings(upstream__timeouts__operations="").upstream.timeouts.operations) == {"syncCatalog": 60}


def test_one_value_is_not_given_in_two_variables() -> None:
    found = problem(upstream__timeouts__operations="trackEventV2=2s", upstream__timeouts__operations__trackeventv2="3s")

    assert "says the same as TALON_PROXY_UPSTREAM__TIMEOUTS__OPERATIONS" in found


def test_a_secret_has_no_flag_within_a_map_either() -> None:
    found = problem(["--applications", f'{{"eu": {{"api_key": "{CANARY}"}}}}'])

    assert "a secret has no flag" in found
    assert CANARY not in found


def test_an_operation_that_talon_one_has_not_is_named_with_the_one_that_was_meant(toml: Callable[[str], str]) -> None:
    file = toml('[upstream.timeouts.operations]\nsyncCatalogue = "60s"\n')
    expected = (
        "[upstream.timeouts.operations.syncCatalogue]: is not an operation of Talon.One that the proxy knows;"
        " did you mean syncCatalog?"
    )

    assert problem(["--config", file]) == f"{file}:2 {expected}"
    assert problem(["--upstream.timeouts.operations.syncCatalogue=60s"]).endswith(expected)
    assert "did you mean syncCatalog?" in problem(upstream__timeouts__operations__sync_catalog="60s")


# --- tokens in a file of their own ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content",
    [
        "token-one=eu\ntoken-two=us\n",
        "token-one=eu,token-two=us",
        '{"token-one": "eu", "token-two": "us"}\n',
    ],
)
def test_tokens_may_be_in_a_file(keyfile: Callable[..., str], content: str) -> None:
    result = settings(
        applications__eu__api_key="a", applications__us__api_key="b", clients__tokens_file=keyfile(content)
    )

    assert {token.reveal(): name for token, name in result.clients.tokens.items()} == {
        "token-one": "eu",
        "token-two": "us",
    }


# --- what loses, and what nothing reads yet -------------------------------------------------------------------


def test_a_value_of_the_file_that_loses_is_told(toml: Callable[[str], str], keyfile: Callable[..., str]) -> None:
    file = toml(f'base_path = "/x"\n[timeouts]\nhead = "1s"\n[management]\napi_key = "{CANARY}"\n')
    flags = ["--config", file, "--timeouts.head=2s", f"--management.api_key_file={keyfile('other')}"]

    assert loaded(flags, base_path="/y").warnings == (
        f"{file}:1 [base_path]: has no effect: TALON_PROXY_BASE_PATH is stronger",
        f"{file}:3 [timeouts.head]: has no effect: --timeouts.head is stronger",
        f"{file}:5 [management.api_key]: has no effect: --management.api_key_file is stronger",
    )


def test_a_variable_that_loses_against_a_flag_is_as_it_should_be() -> None:
    assert loaded(["--timeouts.head=2s"], timeouts__head="1s").warnings == ()


def test_warnings_are_told_beside_problems() -> None:
    with pytest.raises(SettingsError) as caught:
        loaded(management__rate="1/s", limits__pipeline="0")

    assert [str(warning) for warning in caught.value.warnings] == [
        "TALON_PROXY_MANAGEMENT__RATE [management.rate]: has no effect without a management.api_key"
    ]


def test_the_second_key_has_a_shorthand_too(keyfile: Callable[..., str]) -> None:
    result = loaded(next_api_key_file=keyfile(CANARY))

    application = result.settings.applications["default"]
    assert application.next_api_key is not None
    assert application.next_api_key.reveal() == CANARY
    assert result.warnings == ()


def test_without_anything_it_says_which_two_variables_it_needs() -> None:
    first, second = all_problems([], {})

    assert f"TALON_PROXY_UPSTREAM__URL={URL}" in first
    assert "TALON_PROXY_API_KEY_FILE=" in first
    assert "TALON_PROXY_API_KEY_FILE" in second


# --- whatever stands there ------------------------------------------------------------------------------------

NUMBERS = ("-1", "1e999", "9" * 400)
TEXTS = ("", "x" * 300, "{", '["', '{"a": 1}', '{"eu": {"api_key": 1}}', "\0", "a=b,", "\ud800", *NUMBERS)
TABLED = ("[]", "{}", "[[]]", "{ a = { b = 1 } }", '{ "" = "" }')
VALUES = ("1", "nan", "true", "2027-03-31", "03:00:00", "9" * 30, *TABLED)
PLACES = [example(path) for path in (*TABLE, *MAPS, *TABLES)]


def _usable(flags: list[str], environ: dict[str, str]) -> bool:
    try:
        load(flags, environ, now=NOW)
    except SettingsError as error:
        return not error.problems
    return True


@pytest.mark.parametrize("text", TEXTS)
def test_no_text_makes_it_fail_otherwise_than_with_problems(text: str) -> None:
    usable = [
        _usable([], {**ENVIRON, variable(path): text}) + _usable([f"{flag(path)}={text}"], ENVIRON) for path in PLACES
    ]

    assert not all(usable)


@pytest.mark.parametrize("name", ["\udcff", "a\udc80b"])  # as `os.environ` has bytes that are not UTF-8
@pytest.mark.parametrize(
    "environ", [{"applications__{}__api_key": "\udcff"}, {"applications": '{{"{}": {{"api_key": ""}}}}'}]
)
def test_a_name_that_is_no_text_is_a_problem_whatever_its_value(name: str, environ: dict[str, str]) -> None:
    given = {key.format(name): value.format(name) for key, value in environ.items()}

    assert "is not a usable name" in problem(**given)


@pytest.mark.parametrize("value", VALUES)
def test_no_value_of_the_file_makes_it_fail_otherwise_than_with_problems(
    toml: Callable[[str], str], value: str
) -> None:
    usable = [_usable(["--config", toml(f"{'.'.join(map(json.dumps, path))} = {value}\n")], {}) for path in PLACES]

    assert not any(usable)
