import contextlib
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import pytest
from pydantic import ValidationError

from proxy.secret import Secret
from proxy.settings import (
    AccessLog,
    Address,
    AddressKind,
    Origin,
    Problem,
    RouteTemplate,
    SettingsError,
    document,
    load,
    redacted,
    settings_hash,
)
from proxy.settings.keys import TABLE, Key, example, find, flag, nearest, variable
from proxy.settings.keys import Path as KeyPath
from proxy.settings.kinds import print_size
from proxy.settings.times import print_duration
from tests.given import CANARY, ENVIRON, URL, all_problems, loaded, problem, problems, settings

EXPOSED = (
    "0.0.0.0:7410 can be reached from other machines, and whoever reaches it uses your API key;"
    " set clients.tokens, or clients.allow_unauthenticated = true if that is meant"
)
NO_KEY = (
    "is required: set api_key_file (TALON_PROXY_API_KEY_FILE) or api_key,"
    " or applications.<name>.api_key_file for several Applications"
)
NO_URL = (
    f"is required. A sidecar for one Application needs TALON_PROXY_UPSTREAM__URL={URL}"
    " and TALON_PROXY_API_KEY_FILE=/run/secrets/talon-one"
)

# Self-signed, made for this test.
CERTIFICATE = """\
-----BEGIN CERTIFICATE-----
MIIBjjCCATOgAwIBAgIUSrhqzNy0VhC9ZOHhIp+2QiF/21AwCgYIKoZIzj0EAwIw
GzEZMBcGA1UEAwwQdGFsb24tcHJveHkgdGVzdDAgFw0yNjExMjMwMTUzNTdaGA8y
MTI2MTAzMDAxNTM1N1owGzEZMBcGA1UEAwwQdGFsb24tcHJveHkgdGVzdDBZMBMG
ByqGSM49AgEGCCqGSM49AwEHA0IABBG5/BN0k3RD2YapOQfg69hVBURhNVnhjKUH
lrH8A2jdXAkE2OHvJ+0fSsSNV8JSZPPCXDdqr9yIbkGeS9SQ7p+jUzBRMB0GA1Ud
DgQWBBSp20Lk4HcxRNB92xt9uDpqabvqATAfBgNVHSMEGDAWgBSp20Lk4HcxRNB9
2xt9uDpqabvqATAPBgNVHRMBAf8EBTADAQH/MAoGCCqGSM49BAMCA0kAMEYCIQDX
4saihYahN1/V4yerDo1HhW11rMM2pX4iuBTjXnAPHAIhAPgrmNjdl98KiE1YK1Ta
zUGxm1dDuXEc5xgfkAOudqUZ
-----END CERTIFICATE-----
"""


# --- defaults -------------------------------------------------------------------------------------------------


def test_a_url_and_a_key_are_enough() -> None:
    result = loaded()

    assert result.settings.upstream.url == Origin("https", "mycompany.europe-west1.talon.one", 443)
    assert [str(address) for address in result.settings.listen] == ["127.0.0.1:7410", "[::1]:7410"]
    assert result.warnings == ()


def test_the_defaults_are_those_of_the_conventions() -> None:
    shown = {name: value for name, value in redacted(settings()).items() if value}

    assert shown == {
        "listen": "127.0.0.1:7410,[::1]:7410",
        "timeouts.head": "10s",
        "timeouts.body": "10s",
        "timeouts.write": "30s",
        "timeouts.keep_alive": "1h",
        "upstream.url": URL,
        "upstream.protocol": "auto",
        "upstream.allow_cleartext": "false",
        "upstream.allowed_hosts": f"{URL[8:]},mycompany.talon.one,mycompany.*.talon.one",
        "upstream.dns_refresh": "30s",
        "upstream.drain": "10s",
        "upstream.connections.warm": "2",
        "upstream.connections.max": "100",
        "upstream.connections.idle_timeout": "50s",
        "upstream.connections.max_age": "5min",
        "upstream.timeouts.connect": "3s",
        "upstream.timeouts.response": "10s",
        "upstream.timeouts.total": "15s",
        "upstream.timeouts.operations.syncCatalog": "1min",
        "upstream.next.hold": "10s",
        "applications.default.api_key": "***",
        "applications.default.environment": "default",
        "applications.default.kind": "live",
        "clients.allow_unauthenticated": "false",
        "clients.allow_browsers": "false",
        "clients.inject": "always",
        "management.rate": "3/s",
        "lanes.enabled": "true",
        "lanes.depth": "32",
        "lanes.hold": "5s",
        "lanes.quarantine": "1s",
        "lanes.abandoned": "auto",
        "lanes.dry_width": "2",
        "lanes.memory": "100000",
        "lanes.shared_after": "8",
        "coalescing.enabled": "true",
        "coalescing.max_callers": "256",
        "retries.connection": "2",
        "retries.budget": "10 %",
        "retries.generate_idempotency_keys": "false",
        "retries.conflict.tries": "8",
        "retries.conflict.base": "50ms",
        "retries.conflict.cap": "1s",
        "limits.head": "64KiB",
        "limits.fields": "128",
        "limits.target": "8KiB",
        "limits.body": "8MiB",
        "limits.inspect": "256KiB",
        "limits.reply": "8MiB",
        "limits.concurrency": "200",
        "limits.connections": "2000",
        "limits.pipeline": "32",
        "limits.buffered": "256MiB",
        "checklist.enabled": "true",
        "checklist.replies": "10 %",
        "admin.listen": "0.0.0.0:7411",
        "log.level": "info",
        "log.format": "auto",
        "log.access": "errors",
        "shutdown.quiet": "2s",
        "shutdown.timeout": "25s",
    }


def test_settings_cannot_be_changed() -> None:
    result = settings()

    with pytest.raises(ValidationError):
        result.base_path = "/x"
    with pytest.raises(ValidationError):
        result.upstream.timeouts.total = 1.0
    with pytest.raises(TypeError):
        result.applications["x"] = result.applications["default"]  # type: ignore[index]
    with pytest.raises(TypeError):
        result.clients.tokens[Secret("x")] = "default"  # type: ignore[index]


# --- sources --------------------------------------------------------------------------------------------------


def test_a_flag_wins_over_the_environment_over_the_file_over_the_default(toml: Callable[[str], str]) -> None:
    file = toml('[timeouts]\nhead = "1s"\nbody = "1s"\nwrite = "1s"\n')
    flags = ["--config", file, "--timeouts.head=3s"]

    result = loaded(flags, timeouts__head="2s", timeouts__body="2s")

    assert result.settings.timeouts.head == 3
    assert result.settings.timeouts.body == 2
    assert result.settings.timeouts.write == 1
    assert result.settings.timeouts.keep_alive == 3600
    assert result.origins["timeouts.head"] == "--timeouts.head"
    assert result.origins["timeouts.body"] == "TALON_PROXY_TIMEOUTS__BODY"
    assert result.origins["timeouts.write"] == f"{file}:4"
    assert result.origins["timeouts.keep_alive"] == "default"


def test_every_shown_setting_has_an_origin() -> None:
    result = loaded(applications__eu__api_key="k")

    assert list(result.origins) == list(redacted(result.settings))


def test_the_environment_names_the_file_and_a_flag_another(toml: Callable[[str], str], tmp_path: Path) -> None:
    file = toml('base_path = "/from-file"')
    other = tmp_path / "other.toml"
    other.write_text('base_path = "/from-other"')

    assert settings(config=file).base_path == "/from-file"
    assert settings([f"--config={other}"], config=file).base_path == "/from-other"
    assert settings(config="").base_path is None


def test_one_map_entry_may_come_from_several_sources(toml: Callable[[str], str]) -> None:
    file = toml('[applications.eu]\nenvironment = "europe"\n')

    result = settings(["--config", file, "--applications.eu.kind", "testing"], applications__eu__api_key="abc")

    application = result.applications["eu"]
    assert (application.name, application.environment, application.kind) == ("eu", "europe", "testing")
    assert application.api_key == Secret("abc")


@pytest.mark.parametrize("path", [path for path, key in TABLE.items() if not key.kind.secret])
def test_every_setting_but_secrets_is_known_as_variable_and_as_flag(path: KeyPath) -> None:
    key = TABLE[path]
    text = key.kind.show(key.default) if key.default is not None else key.example
    path = example(path)

    for flags, environ in (([f"{flag(path)}={text}"], {}), ([], {variable(path): str(text)})):
        found = _maybe_problems(flags, {**ENVIRON, **environ})
        assert not [problem for problem in found if "unknown" in problem]


def _maybe_problems(flags: Sequence[str], environ: Mapping[str, str]) -> list[str]:
    try:
        load(flags, environ)
    except SettingsError as error:
        return [str(problem) for problem in error.problems]
    return []


def test_names_of_variables_may_be_in_lower_case() -> None:
    environ = {"talon_proxy_upstream__url": URL, "Talon_Proxy_Api_Key": "abc"}

    assert str(load([], environ).settings.upstream.url) == URL
    assert all_problems([], {**environ, "TALON_PROXY_UPSTREAM__URL": URL}) == [
        "TALON_PROXY_UPSTREAM__URL [upstream.url]: says the same as talon_proxy_upstream__url"
    ]


def test_variables_that_kubernetes_adds_are_ignored() -> None:
    settings(
        service_host="10.0.0.1",
        service_port_http="7410",
        port="tcp://10.0.0.1:7410",
        port_7410_tcp_addr="10.0.0.1",
    )


def test_other_programs_variables_are_not_looked_at() -> None:
    load([], {**ENVIRON, "UPSTREAM__URL": "x", "TALON_URL": "y", "PATH": "/bin"})


def test_the_environment_of_the_process_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TALON_PROXY_TIMEOUTS__HEAD", "1s")
    monkeypatch.setenv("TALON_PROXY_NONSENSE", "1")

    assert settings().timeouts.head == 10


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (["--clients.allow_unauthenticated"], True),
        (["--clients.allow_unauthenticated", "--log.level", "debug"], True),
        (["--clients.allow_unauthenticated", "false"], False),
        (["--clients.allow_unauthenticated=true"], True),
    ],
)
def test_a_flag_that_is_true_or_false_needs_no_value(flags: list[str], expected: bool) -> None:
    assert settings(flags).clients.allow_unauthenticated is expected


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (["--upstream.urll", "x"], "--upstream.urll: unknown flag; did you mean --upstream.url?"),
        (["--limits-body=1"], "--limits-body: unknown flag; did you mean --limits.body?"),
        (["--log.levle", "info"], "--log.levle: unknown flag; did you mean --log.level?"),
        (["--zzz"], "--zzz: unknown flag"),
        (["--log.level"], "--log.level: needs a value"),
        (["--log.level", "--base_path=/x"], "--log.level: needs a value"),
        (["--log.level=info", "--log.level=info"], "--log.level: is given twice; write lists with commas"),
        (["--config"], "--config: needs the path of a file"),
        (["--config="], "--config: needs the path of a file"),
        (["serve"], "argument 1 is neither a flag nor the value of one"),
        (["--", "x"], None),
    ],
)
def test_flags_that_are_not_understood(flags: list[str], expected: str | None) -> None:
    found = problems(flags)

    assert expected is None or found == [expected]


@pytest.mark.parametrize(
    ("name", "instead"),
    [
        ("api_key", "use --api_key_file or TALON_PROXY_API_KEY"),
        ("applications.eu.api_key", "use --applications.eu.api_key_file or TALON_PROXY_APPLICATIONS__EU__API_KEY"),
        ("management.api_key", "use --management.api_key_file or TALON_PROXY_MANAGEMENT__API_KEY"),
        ("admin.token", "use --admin.token_file or TALON_PROXY_ADMIN__TOKEN"),
        ("upstream.proxy", "use --upstream.proxy_file or TALON_PROXY_UPSTREAM__PROXY"),
        ("clients.tokens", "use --clients.tokens_file or TALON_PROXY_CLIENTS__TOKENS"),
    ],
)
@pytest.mark.parametrize("form", ["--{}={}", "--{} {}"])
def test_secrets_have_no_flag(name: str, instead: str, form: str) -> None:
    found = problem(form.format(name, CANARY).split(" "))

    assert instead in found
    assert CANARY not in found


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("UPSTREAM_URL", "TALON_PROXY_UPSTREAM__URL"),
        ("UPSTREAM__TIMEOUT__TOTAL", "TALON_PROXY_UPSTREAM__TIMEOUTS__TOTAL"),
        ("UPSTREAM_TIMEOUTS_TOTAL", "TALON_PROXY_UPSTREAM__TIMEOUTS__TOTAL"),
        ("UPSTREAM__TLS_CA_FILE", "TALON_PROXY_UPSTREAM__TLS__CA_FILE"),
        ("APIKEY", "TALON_PROXY_API_KEY"),
        ("API__KEY", "TALON_PROXY_API_KEY"),
        ("APPLICATIONS_EU_API_KEY", "TALON_PROXY_APPLICATIONS__EU__API_KEY"),
        ("APPLICATIONS__EU__APIKEY", "TALON_PROXY_APPLICATIONS__EU__API_KEY"),
        ("APPLICATIONS_EU_WEST_API_KEY_FILE", "TALON_PROXY_APPLICATIONS__EU_WEST__API_KEY_FILE"),
        ("CLIENTS_ALLOW_BROWSERS", "TALON_PROXY_CLIENTS__ALLOW_BROWSERS"),
        ("URL", "TALON_PROXY_UPSTREAM__URL"),
        ("LOG_LEVEL", "TALON_PROXY_LOG__LEVEL"),
    ],
)
def test_an_unknown_variable_is_an_error_that_names_the_one_that_was_meant(name: str, expected: str) -> None:
    assert problem(**{name: CANARY}) == f"TALON_PROXY_{name}: unknown variable; did you mean {expected}?"


@pytest.mark.parametrize("name", ["ZEBRA", "SHADOW__TRAFFIC", "SERVICES", "PORTS", ""])
def test_an_unknown_variable_near_to_nothing_is_an_error_too(name: str) -> None:
    assert problem(**{name: "x"}).startswith(f"TALON_PROXY_{name}: unknown variable")


@pytest.mark.parametrize(
    ("name", "example"),
    [
        ("UPSTREAM", "TALON_PROXY_UPSTREAM__URL"),
        ("UPSTREAM__TIMEOUTS", "TALON_PROXY_UPSTREAM__TIMEOUTS__CONNECT"),
        ("APPLICATIONS__EU", "TALON_PROXY_APPLICATIONS__EU__API_KEY"),
    ],
)
def test_a_whole_section_is_not_given_in_one_variable(name: str, example: str) -> None:
    assert problem(**{name: CANARY}) == f"TALON_PROXY_{name}: is a section; set its keys, such as {example}"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('[upstrem]\nurl = "x"', "upstrem]: unknown key; did you mean upstream?"),
        ('[upstream.timeout]\ntotal = "1s"', "upstream.timeout]: unknown key; did you mean upstream.timeouts?"),
        ('[upstream]\nurll = "x"', "upstream.urll]: unknown key; did you mean upstream.url?"),
        ('[client.tokens]\n"secret" = "eu"', "client]: unknown key; did you mean clients?"),
        ('"upstream.url" = "x"', '"upstream.url"]: unknown key; did you mean upstream.url?'),
        ("[shadow]\nenabled = true", "shadow]: unknown key"),
        ("upstream = 1", "upstream]: is a section, not a value"),
        ("applications = []", "applications]: is a section, not a value"),
        ('[applications]\neu = "x"', "applications.eu]: is a section, not a value"),
        ('[applications.eu]\nkinds = "x"', "applications.eu.kinds]: unknown key; did you mean applications.eu.kind?"),
        ('[applications.eu]\nname = "x"', "applications.eu.name]: unknown key"),
    ],
)
def test_an_unknown_key_of_the_file_is_an_error(toml: Callable[[str], str], text: str, expected: str) -> None:
    file = toml(text)

    found = problem(["--config", file])

    line = 2 if text.startswith("[applications") or text.endswith('urll = "x"') else 1
    assert found.startswith(f"{file}:{line} [{expected}")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"listen = [", "is not valid TOML: "),
        (b"api_key = %s" % CANARY.encode(), "is not valid TOML: "),
        (b'api_key = "%s' % CANARY.encode(), "is not valid TOML: "),
        (b'api_key = "%s"\napi_key = "x"' % CANARY.encode(), "is not valid TOML: "),
        (b'base_path = "\xff"', "is not UTF-8"),
    ],
)
def test_a_file_that_is_no_toml_is_one_problem(tmp_path: Path, content: bytes, expected: str) -> None:
    file = tmp_path / "bad.toml"
    file.write_bytes(content)

    found = problem(["--config", str(file)])

    assert found.startswith(f"{file}: {expected}")
    assert CANARY not in found


def test_a_file_that_cannot_be_read_is_named_with_the_reason(tmp_path: Path) -> None:
    missing = str(tmp_path / "missing.toml")

    assert problem(["--config", missing]) == f"{missing}: cannot be read: No such file or directory"
    assert problem(config=str(tmp_path)) == f"{tmp_path}: cannot be read: Is a directory"


@pytest.mark.parametrize("content", [None, b"url = ", b"\xff", b"a = " + b"[" * 5000, b"#" * (5 << 20)])
def test_of_a_file_that_cannot_be_read_nothing_else_is_said(content: bytes | None, tmp_path: Path) -> None:
    file = tmp_path / "settings.toml"
    if content is not None:
        file.write_bytes(content)

    (said,) = all_problems(["--config", str(file)], {})

    assert said.startswith(f"{file}: ")


def test_a_mark_at_the_beginning_of_a_file_is_no_setting(tmp_path: Path) -> None:
    file = tmp_path / "settings.toml"
    file.write_bytes(b"\xef\xbb\xbflanes.depth = 7\n")

    assert settings(["--config", str(file)]).lanes.depth == 7


def test_an_empty_file_is_a_file_without_settings(toml: Callable[[str], str]) -> None:
    assert settings(["--config", toml("")]) == settings()


# --- all problems at once -------------------------------------------------------------------------------------


def test_all_problems_are_reported_at_once_each_with_its_source_and_key(toml: Callable[[str], str]) -> None:
    file = toml('[limits]\npipeline = 0\n[shutdwn]\nquiet = "1s"\n')
    environ = {
        "TALON_PROXY_UPSTREAM_URL": URL,
        "TALON_PROXY_TIMEOUTS__HEAD": "10",
        "TALON_PROXY_CONFIG": file,
        "TALON_PROXY_LISTEN": "0.0.0.0:7410",
    }

    assert all_problems(["--log.level=INFO", "--nope"], environ) == [
        "--nope: unknown flag",
        "TALON_PROXY_UPSTREAM_URL: unknown variable; did you mean TALON_PROXY_UPSTREAM__URL?",
        f"{file}:3 [shutdwn]: unknown key; did you mean shutdown?",
        f"upstream.url: {NO_URL}",
        'TALON_PROXY_TIMEOUTS__HEAD [timeouts.head]: needs a number with a unit: "250ms", "10s", "5min" or "1h"',
        f"{file}:2 [limits.pipeline]: must be at least 1",
        "--log.level [log.level]: must be one of debug, info, warning, error; did you mean info?",
        f"TALON_PROXY_LISTEN [listen]: {EXPOSED}",
        f"api_key: {NO_KEY}",
    ]


def test_the_text_of_the_error_lists_every_problem() -> None:
    error = SettingsError([Problem("is wrong", key="a.b", source="file"), Problem("is missing", key="c")])

    assert str(error) == "2 problems in the settings:\n  file [a.b]: is wrong\n  c: is missing"
    assert str(SettingsError([Problem("x")])).startswith("1 problem in the settings:\n")


def test_a_problem_is_one_line_without_control_characters() -> None:
    found = problem(["--a\x1b[2J\nb=1"])

    assert found.isprintable()


def test_nothing_is_asked_for_twice() -> None:
    assert all_problems([], {"TALON_PROXY_UPSTREAM__URL": "ftp://x", "TALON_PROXY_API_KEY": ""}) == [
        "TALON_PROXY_UPSTREAM__URL [upstream.url]: needs the form https://host or https://host:port",
        "TALON_PROXY_API_KEY [api_key]: is empty",
    ]


# --- values ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("250ms", 0.25), ("10s", 10), ("1.5s", 1.5), ("5min", 300), ("1h", 3600), ("0.5ms", 0.0005)],
)
def test_a_duration_has_a_unit(text: str, seconds: float) -> None:
    assert settings(timeouts__head=text).timeouts.head == seconds


@pytest.mark.parametrize("text", ["10", "", "s", "10 s", "10m", "1h30min", "-1s", "1e3s", "inf", "nans", "١s"])
def test_other_durations_are_refused(text: str) -> None:
    assert "needs a number with a unit" in problem(timeouts__head=text)


@pytest.mark.parametrize("value", ["10", "1.5", "true", "[]"])
def test_a_duration_in_the_file_is_text_with_a_unit(toml: Callable[[str], str], value: str) -> None:
    assert "needs a number with a unit" in problem(["--config", toml(f"[timeouts]\nhead = {value}")])


def test_zero_is_a_duration_only_where_it_makes_sense() -> None:
    assert settings(shutdown__quiet="0s").shutdown.quiet == 0
    assert problem(timeouts__head="0s").endswith("must be longer than zero")
    assert problem(upstream__timeouts__total="0ms").endswith("must be longer than zero")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(3600.0, "1h"), (5400.0, "90min"), (90.0, "90s"), (0.25, "250ms"), (0.0005, "0.5ms"), (0.0, "0s")],
)
def test_a_duration_is_printed_in_its_largest_unit(seconds: float, text: str) -> None:
    assert print_duration(seconds) == text
    assert settings(shutdown__quiet=text, shutdown__timeout="9h").shutdown.quiet == seconds


@pytest.mark.parametrize(
    ("text", "size"),
    [("65536", 65536), ("10B", 10), ("64KiB", 65536), ("4MiB", 4 << 20), ("1GiB", 1 << 30)],
)
def test_a_size_is_in_bytes_or_has_a_unit(text: str, size: int) -> None:
    assert settings(limits__body=text, limits__buffered="1GiB").limits.body == size


def test_a_size_in_the_file_may_be_a_number(toml: Callable[[str], str]) -> None:
    assert settings(["--config", toml("[limits]\nbody = 4096")]).limits.body == 4096


@pytest.mark.parametrize("text", ["4MB", "4 MiB", "4mib", "1.5MiB", "-1", "", "MiB"])
def test_other_sizes_are_refused(text: str) -> None:
    assert "needs a number of bytes or a unit" in problem(limits__body=text)


@pytest.mark.parametrize("value", ["true", "1.5", "-1"])
def test_other_sizes_in_the_file_are_refused(toml: Callable[[str], str], value: str) -> None:
    assert "needs a number of bytes or a unit" in problem(["--config", toml(f"[limits]\nbody = {value}")])


def test_a_size_is_not_zero() -> None:
    assert problem(limits__body="0").endswith("must be larger than zero")


@pytest.mark.parametrize(("size", "text"), [(65536, "64KiB"), (1000, "1000"), (8 << 20, "8MiB"), (3 << 30, "3GiB")])
def test_a_size_is_printed_in_its_largest_unit(size: int, text: str) -> None:
    assert print_size(size) == text


@pytest.mark.parametrize("text", ["", "1.0", "x", "1e3", "0x10", "true", " 1", "1_000"])
def test_a_number_is_a_whole_number(text: str) -> None:
    assert problem(limits__fields=text).endswith("must be a whole number")


def test_a_number_has_a_least_value(toml: Callable[[str], str]) -> None:
    assert problem(limits__pipeline="0").endswith("must be at least 1")
    assert problem(retries__connection="-1").endswith("must be at least 0")
    assert settings(retries__connection="0", upstream__connections__warm="0").retries.connection == 0
    assert problem(["--config", toml("[limits]\nfields = true")]).endswith("must be a whole number")


@pytest.mark.parametrize("text", ["1", "yes", "True", "on", ""])
def test_true_and_false_are_the_only_words_for_it(text: str) -> None:
    assert problem(clients__allow_browsers=text).endswith("must be true or false")


def test_a_text_in_the_file_is_in_quotes(toml: Callable[[str], str]) -> None:
    assert problem(["--config", toml("base_path = 1")]).endswith("must be text in quotes")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("INFO", "; did you mean info?"),
        ("warn", "; did you mean warning?"),
        ("x", "must be one of debug, info, warning, error"),
    ],
)
def test_a_choice_lists_what_can_be_chosen(text: str, expected: str) -> None:
    assert problem(log__level=text).endswith(expected)


def test_the_protocol_is_one_of_three() -> None:
    assert [settings(upstream__protocol=text).upstream.protocol for text in ("auto", "http/1.1", "h2")] == [
        "auto",
        "http/1.1",
        "h2",
    ]
    assert problem(upstream__protocol="http/2").startswith(
        "TALON_PROXY_UPSTREAM__PROTOCOL [upstream.protocol]: must be one of auto, http/1.1, h2"
    )


@pytest.mark.parametrize(
    ("text", "path"),
    [("/talon", "/talon"), ("/talon/", "/talon"), ("/a/b.c_d~e-f", "/a/b.c_d~e-f"), ("/", None), ("", None)],
)
def test_a_base_path_has_no_slash_at_its_end(text: str, path: str | None) -> None:
    assert settings(base_path=text).base_path == path


@pytest.mark.parametrize(
    "text", ["talon", "//", "/a//b", "/a/../b", "/./a", "/a?b", "/a#b", "/ä", "/a b", "/%2e", "/a\n"]
)
def test_other_base_paths_are_refused(text: str) -> None:
    assert "[base_path]: must be a path such as /talon" in problem(base_path=text)


@pytest.mark.parametrize(
    ("text", "access"),
    [
        ("all", AccessLog("all")),
        ("slow", AccessLog("slow")),
        ("off", AccessLog("off")),
        ("sample:0.01", AccessLog("sample", 0.01)),
        ("sample:1", AccessLog("sample", 1.0)),
    ],
)
def test_the_access_log_is_a_mode_or_a_sample(text: str, access: AccessLog) -> None:
    result = settings(log__access=text)

    assert result.log.access == access
    assert redacted(result)["log.access"] == text


@pytest.mark.parametrize("text", ["", "some", "sample", "sample:", "sample:0", "sample:1.1", "sample:-1", "sample:nan"])
def test_other_access_logs_are_refused(text: str) -> None:
    assert "[log.access]" in problem(log__access=text)


@pytest.mark.parametrize(
    "text",
    [
        "GET /v1/coupons/{couponId},POST /v2/x",
        '["GET /v1/coupons/{couponId}", "POST /v2/x"]',
        " GET /v1/coupons/{couponId} , POST /v2/x ",
    ],
)
def test_lists_are_separated_by_commas_or_json(text: str) -> None:
    assert settings(routes__extra=text).routes.extra == (
        RouteTemplate("GET", "/v1/coupons/{couponId}"),
        RouteTemplate("POST", "/v2/x"),
    )


@pytest.mark.parametrize(
    "line",
    [
        "/v1/x",
        "GET",
        "get /v1/x",
        "CONNECT /v1/x",
        "GET v1/x",
        "GET  /v1/x",
        "GET /x",
        "GET /v4/x",
        "GET /v1",
        "GET /v1/",
        "GET /v1/x/",
        "GET /v1//x",
        "GET /v1/../x",
        "GET /v1/{}",
        "GET /v1/{a",
        "GET /v1/{a}b",
        "GET /v1/x?y",
        "GET /v1/%2e",
        "GET /v1/*",
        "GET https://evil/v1/x",
    ],
)
def test_routes_of_another_shape_are_refused(line: str) -> None:
    assert "[routes.extra]: entry 2 " in problem(routes__extra=f"GET /v1/x,{line}")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('["', "is not valid JSON"),
        ('["a",' + "[" * 100_000, "is not valid JSON"),
        ('["a", 1]', "entry 2 must be text in quotes"),
        ("[", "entry 1 is not a host name or IP address"),
        ("a,b,a", "entry 3 repeats an earlier one"),
        ("a,,b", "entry 2 is not a host name or IP address"),
        ("*.example.com", "entry 1 is not a host name or IP address"),
        ("example.com:80", "entry 1 is not a host name or IP address"),
    ],
)
def test_a_bad_entry_of_a_list_is_named_by_its_place(text: str, expected: str) -> None:
    assert problem(clients__hosts=text).endswith(f"[clients.hosts]: {expected}")


def test_a_list_in_the_file_is_a_list(toml: Callable[[str], str]) -> None:
    assert settings(["--config", toml('[admin]\nhosts = ["A.example", "b.example"]')]).admin.hosts == (
        "a.example",
        "b.example",
    )
    assert problem(["--config", toml("[admin]\nhosts = 1")]).endswith("must be a list")
    assert problem(["--config", toml("[admin]\nhosts = {}")]).endswith("must be a list")


# --- addresses ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "kind", "loopback"),
    [
        ("127.0.0.1:7410", AddressKind.TCP, True),
        ("127.9.9.9:0", AddressKind.TCP, True),
        ("[::1]:7410", AddressKind.TCP, True),
        ("localhost:65535", AddressKind.TCP, True),
        ("0.0.0.0:7411", AddressKind.TCP, False),
        ("[::]:7411", AddressKind.TCP, False),
        ("10.1.2.3:80", AddressKind.TCP, False),
        ("talon-proxy:7410", AddressKind.TCP, False),
        ("localhost.example.com:80", AddressKind.TCP, False),
        ("unix:/run/talon-proxy.sock", AddressKind.UNIX, True),
    ],
)
def test_an_address_prints_as_it_was_written(text: str, kind: AddressKind, loopback: bool) -> None:
    address = Address.parse(text)

    assert str(address) == text
    assert address.kind is kind
    assert address.loopback is loopback


def test_an_address_has_one_spelling() -> None:
    assert Address.parse("[0:0:0:0:0:0:0:1]:80") == Address.parse("[::1]:80")
    assert Address.parse("LocalHost:80") == Address.parse("localhost:80")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "7410",
        ":7410",
        "127.0.0.1",
        "127.0.0.1:",
        "127.0.0.1:65536",
        "127.0.0.1:-1",
        "127.0.0.1:٣",
        "127.0.0.1:80 ",
        "::1:7410",
        "[::1]",
        "[127.0.0.1]:80",
        "[x]:80",
        "127.1:80",
        "1.2.3.256:80",
        "a b:80",
        "-a:80",
        "*:80",
        "http://localhost:80",
        "unix:",
        "unix:relative",
        "unix:/a\0b",
        "unix:/" + "x" * 107,
    ],
)
def test_other_addresses_are_refused(text: str) -> None:
    with pytest.raises(ValueError) as caught:
        Address.parse(text)

    assert "://" not in str(caught.value)


@pytest.mark.parametrize(
    ("environ", "key"),
    [
        ({"listen": "127.0.0.1:80,127.0.0.1:80"}, "listen"),
        ({"listen": "[::1]:80,[0::1]:80"}, "listen"),
        ({"listen": "127.0.0.1:80", "admin__listen": "127.0.0.1:80"}, "admin.listen"),
        ({"listen": "unix:/run/a", "admin__listen": "unix:/run/a"}, "admin.listen"),
    ],
)
def test_no_address_is_used_twice(environ: dict[str, str], key: str) -> None:
    assert f"[{key}]: " in problem(**environ)


def test_port_0_may_be_asked_for_more_than_once() -> None:
    assert len(settings(listen="127.0.0.1:0,[::1]:0", admin__listen="127.0.0.1:0").listen) == 2


def test_there_is_an_address_to_listen_on_but_not_necessarily_an_admin_port() -> None:
    assert problem(listen="").endswith("[listen]: needs at least one address")
    assert settings(admin__listen="").admin.listen == ()


@pytest.mark.parametrize("listen", ["0.0.0.0:7410", "[::]:7410", "10.0.0.1:7410", "127.0.0.1:1,pod:7410"])
def test_an_address_that_others_reach_needs_tokens_or_a_word(listen: str) -> None:
    found = problem(listen=listen)

    assert "clients.tokens" in found
    assert "clients.allow_unauthenticated" in found
    assert settings(listen=listen, clients__tokens="t=default").listen
    assert settings(listen=listen, clients__allow_unauthenticated="true").listen


def test_a_unix_socket_is_local() -> None:
    assert settings(listen="unix:/run/talon-proxy.sock").listen == (Address.unix("/run/talon-proxy.sock"),)


# --- the upstream ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "printed", "authority"),
    [
        (URL, URL, "mycompany.europe-west1.talon.one"),
        (f"{URL}/", URL, "mycompany.europe-west1.talon.one"),
        ("HTTPS://Shop.Talon.One:443", "https://shop.talon.one", "shop.talon.one"),
        ("https://shop.talon.one:8443", "https://shop.talon.one:8443", "shop.talon.one:8443"),
        ("https://[2001:db8::1]", "https://[2001:db8::1]", "[2001:db8::1]"),
        ("http://127.0.0.1:9900", "http://127.0.0.1:9900", "127.0.0.1:9900"),
        ("http://localhost:80", "http://localhost", "localhost"),
        ("http://[::1]:9900", "http://[::1]:9900", "[::1]:9900"),
    ],
)
def test_a_url_is_scheme_host_and_port(text: str, printed: str, authority: str) -> None:
    origin = settings(upstream__url=text).upstream.url

    assert str(origin) == printed
    assert origin.authority == authority


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "needs the form"),
        ("mycompany.talon.one", "needs the form"),
        ("ftp://x", "needs the form"),
        ("//x", "needs the form"),
        ("https:///x", "needs the form"),
        ("https:x", "needs the form"),
        (f"https://user:{CANARY}@x", "user name or password"),
        (f"https://{CANARY}@x", "user name or password"),
        ("https://@x", "user name or password"),
        (f"https://x?key={CANARY}", "query or a fragment"),
        ("https://x?", "query or a fragment"),
        ("https://x#", "query or a fragment"),
        ("https://x/v1", "must not hold a path: only scheme, host and port are used"),
        ("https://x//", "must not hold a path"),
        ("https://x:0", "port"),
        ("https://x:", "port"),
        ("https://x:65536", "is not a URL"),
        ("https://x:a", "is not a URL"),
        ("https://[::1", "is not a URL"),
        ("https://x\\@evil", "backslash"),
        ("https://x\n", "control character"),
        ("https://x y", "blank"),
        ("https://münchen.example", "non-ASCII"),
        ("https://127.1", "is not a host name"),
        ("https://x..y", "is not a host name"),
        ("https://x%2ey", "is not a host name"),
    ],
)
def test_other_urls_are_refused_and_not_repeated(text: str, expected: str) -> None:
    found = problem(upstream__url=text)

    assert "[upstream.url]" in found
    assert expected in found
    assert CANARY not in found


@pytest.mark.parametrize(
    "url", ["http://mycompany.talon.one", "http://10.0.0.1", "http://0.0.0.0", "http://localhost.evil"]
)
def test_http_is_for_this_machine_unless_it_is_allowed(url: str) -> None:
    assert "[upstream.url]: must be https" in problem(upstream__url=url)

    result = loaded(upstream__url=url, upstream__allow_cleartext="true")
    assert result.settings.upstream.url.secure is False
    assert len(result.warnings) == 1


def test_no_more_warm_connections_than_there_may_be() -> None:
    found = problem(upstream__connections__warm="3", upstream__connections__max="2")

    assert found.endswith("[upstream.connections.warm]: must not exceed upstream.connections.max")


def test_a_rule_about_a_wrong_value_is_not_heard() -> None:
    found = problems(upstream__connections__warm="300", upstream__connections__max="zero")

    assert found == ["TALON_PROXY_UPSTREAM__CONNECTIONS__MAX [upstream.connections.max]: must be a whole number"]


@pytest.mark.parametrize("name", ["connect", "response"])
def test_a_time_that_is_longer_than_the_total_is_a_warning(name: str) -> None:
    result = loaded([f"--upstream.timeouts.{name}=20s"])

    (warning,) = result.warnings
    assert warning.startswith(f"--upstream.timeouts.{name} [upstream.timeouts.{name}]: is longer than")


def test_parts_are_not_larger_than_the_whole() -> None:
    assert problem(limits__target="65KiB").endswith("must not exceed limits.head, which it is part of")
    assert problem(shutdown__quiet="25s").endswith("must be shorter than shutdown.timeout")


def test_a_ca_file_holds_a_certificate(keyfile: Callable[..., str]) -> None:
    file = keyfile(CERTIFICATE, "ca.pem")

    assert settings(upstream__tls__ca_file=file).upstream.tls.ca_file == Path(file)


@pytest.mark.parametrize("content", ["", "nonsense", CERTIFICATE[:200], CERTIFICATE.replace("MII", "AAA")])
def test_a_ca_file_without_a_certificate_is_refused(keyfile: Callable[..., str], content: str | bytes) -> None:
    found = problem(upstream__tls__ca_file=keyfile(content, "ca.pem"))

    assert found.endswith("holds no certificate in PEM form")


def test_a_ca_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    missing = str(tmp_path / "ca.pem")

    assert problem(upstream__tls__ca_file=missing) == (
        f"TALON_PROXY_UPSTREAM__TLS__CA_FILE [upstream.tls.ca_file]: {missing}"
        " cannot be read: No such file or directory"
    )
    assert problem(upstream__tls__ca_file="").endswith("must be the path of a file")


# --- keys -----------------------------------------------------------------------------------------------------


def _key(value: str) -> str:
    found = settings(api_key=value).applications["default"].api_key
    assert found is not None
    return found.reveal()


@pytest.mark.parametrize(
    "value",
    [CANARY, f"{CANARY}\n", f"{CANARY}\r\n", f"ApiKey-v1 {CANARY}", f"apikey-v1 {CANARY}\n"],
)
def test_a_key_is_one_word_less_a_line_end_and_its_scheme(value: str) -> None:
    assert _key(value) == CANARY


@pytest.mark.parametrize(
    "value",
    [
        "",
        "\n",
        "\r\n",
        " ",
        f"{CANARY}\n\n",
        f"{CANARY} ",
        f" {CANARY}",
        f"{CANARY}\r",
        f"{CANARY}\t",
        f"{CANARY[:5]}\0{CANARY}",
        f"{CANARY}\x7f",
        f"{CANARY}é",
        f"{CANARY}\nX-Evil: 1",
        "ApiKey-v1",
        "ApiKey-v1 ",
        f"ApiKey-v1  {CANARY}",
        f"Basic {CANARY}",
    ],
)
def test_other_keys_are_refused_and_not_repeated(value: str) -> None:
    found = problem(api_key=value)

    assert found.startswith("TALON_PROXY_API_KEY [api_key]: ")
    assert CANARY not in found


@pytest.mark.parametrize("scheme", ["ManagementKey-v1", "managementkey-v1", "Bearer", "bearer"])
def test_a_management_key_is_not_taken_for_an_integration_key(scheme: str) -> None:
    for environ in ({"api_key": f"{scheme} {CANARY}"}, {"applications__eu__api_key": f"{scheme} {CANARY}\n"}):
        found = problem(**environ)

        assert "an Integration API key (ApiKey-v1) belongs here" in found
        assert CANARY not in found


def test_an_integration_key_is_not_taken_for_a_management_key() -> None:
    for scheme in ("ApiKey-v1", "Bearer"):
        found = problem(management__api_key=f"{scheme} {CANARY}")
        assert "a Management API key belongs here" in found
        assert CANARY not in found
    assert settings(management__api_key=f"ManagementKey-v1 {CANARY}").management.api_key == Secret(CANARY)


def test_a_key_in_the_file_is_text(toml: Callable[[str], str]) -> None:
    assert problem(["--config", toml("[management]\napi_key = 12345678")]).endswith("must be text in quotes")


def test_the_shorthand_is_the_application_called_default(keyfile: Callable[..., str]) -> None:
    file = keyfile(f"{CANARY}\n")

    result = load(["--api_key_file", file], {"TALON_PROXY_UPSTREAM__URL": URL})

    application = result.settings.applications["default"]
    assert (application.name, application.environment, application.kind) == ("default", "default", "live")
    assert application.api_key == Secret(CANARY)
    assert application.api_key_file == Path(file)
    assert result.settings.api_key is None
    assert result.origins["applications.default.api_key_file"] == "--api_key_file"
    assert result.origins["applications.default.api_key"] == f"--api_key_file ({file})"


@pytest.mark.parametrize("name", ["api_key", "api_key_file"])
def test_the_shorthand_and_what_it_is_short_for_exclude_each_other(keyfile: Callable[..., str], name: str) -> None:
    value = keyfile(CANARY) if name == "api_key_file" else CANARY

    found = problem(**{f"applications__default__{name}": value})

    assert found.startswith("TALON_PROXY_API_KEY [api_key]: is short for applications.default.api_key")
    assert f"TALON_PROXY_APPLICATIONS__DEFAULT__{name.upper()}" in found
    assert CANARY not in found


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("api_key", "api_key"),
        ("applications__eu__api_key", "applications.eu.api_key"),
        ("management__api_key", "management.api_key"),
        ("admin__token", "admin.token"),
    ],
)
def test_a_secret_and_its_file_in_the_same_source_exclude_each_other(
    keyfile: Callable[..., str], name: str, key: str
) -> None:
    found = problem(**{name: CANARY, f"{name}_file": keyfile("other")})

    assert found.endswith(f"[{key}]: is set, and {key}_file too; one of them is enough")
    assert CANARY not in found


def test_the_stronger_source_wins_for_a_secret_and_its_file_together(
    toml: Callable[[str], str], keyfile: Callable[..., str]
) -> None:
    in_file = ["--config", toml('[management]\napi_key = "from-the-file"')]
    by_flag = ["--management.api_key_file", keyfile("from-the-flag")]

    def key(flags: Sequence[str], **environ: str) -> str:
        found = settings(flags, **environ).management
        assert found.api_key is not None
        assert (found.api_key_file is None) == (found.api_key.reveal() == "from-the-file")
        return found.api_key.reveal()

    assert key(in_file) == "from-the-file"
    assert key(in_file, management__api_key_file=keyfile("from-a-variable", "b")) == "from-a-variable"
    assert key([*in_file, *by_flag]) == "from-the-flag"
    assert key(by_flag, management__api_key=CANARY) == "from-the-flag"


def test_a_weaker_key_file_is_not_even_opened(toml: Callable[[str], str], tmp_path: Path) -> None:
    file = toml(f'[management]\napi_key_file = "{tmp_path}/missing"')

    assert settings(["--config", file], management__api_key=CANARY).management.api_key_file is None


def test_a_key_file_that_cannot_be_read_is_named_with_the_reason(tmp_path: Path) -> None:
    missing = str(tmp_path / "missing")

    for path, reason in ((missing, "No such file or directory"), (str(tmp_path), "Is a directory")):
        environ = {"TALON_PROXY_UPSTREAM__URL": URL, "TALON_PROXY_API_KEY_FILE": path}
        assert all_problems([], environ) == [
            f"TALON_PROXY_API_KEY_FILE [api_key_file]: {path} cannot be read: {reason}"
        ]


def test_a_key_file_of_somebody_else_is_named_with_the_reason(keyfile: Callable[..., str]) -> None:
    path = keyfile(CANARY, mode=0o000)

    with unprivileged():
        assert "Permission denied" in problem(management__api_key_file=path)


@contextlib.contextmanager
def unprivileged() -> Iterator[None]:
    """Root may read every file: be nobody for a moment."""
    before = os.geteuid()
    if before == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(before)


@pytest.mark.parametrize("name", ["api_key_file", "management__api_key_file", "applications__eu__api_key_file"])
def test_a_key_file_without_a_name_is_one_problem(name: str) -> None:
    environ = {"TALON_PROXY_UPSTREAM__URL": URL, "TALON_PROXY_APPLICATIONS__US__API_KEY": "x"}
    variable_name = f"TALON_PROXY_{name.upper()}"

    assert all_problems([], {**environ, variable_name: ""}) == [
        f"{variable_name} [{name.replace('__', '.')}]: must be the path of a file"
    ]


def test_a_key_file_is_named_by_text(toml: Callable[[str], str]) -> None:
    assert problem(["--config", toml("[admin]\ntoken_file = 1")]).endswith("[admin.token_file]: must be text in quotes")


def test_a_pipe_is_no_key_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")

    assert problem(management__api_key_file=str(tmp_path / "pipe")).endswith("is not a regular file")
    assert problem(management__api_key_file="/dev/zero").endswith("is not a regular file")


def test_a_large_file_is_no_key_file(keyfile: Callable[..., str]) -> None:
    assert problem(management__api_key_file=keyfile("x" * 20_000)).endswith("is too large for a key")


@pytest.mark.parametrize("content", [b"", b"\n", b"a\0b", b"a b", b"\xff\xfe", b"a\n\n"])
def test_what_a_key_file_holds_is_checked_like_a_key(keyfile: Callable[..., str], content: str | bytes) -> None:
    file = keyfile(content)

    assert problem(management__api_key_file=file).startswith(
        f"TALON_PROXY_MANAGEMENT__API_KEY_FILE ({file}) [management.api_key]: "
    )


@pytest.mark.parametrize(
    "value",
    [
        CANARY,
        f"ApiKey-v1 {CANARY}",
        f"Bearer {CANARY}",
        f'"{CANARY}"',  # as a line of an env file, quotes and all
        f"{CANARY[:10]}/{CANARY[10:]}+{CANARY}=",
        f"{CANARY[:10]}.{CANARY}.{CANARY}",
        f"{CANARY[:10]}$!{CANARY[:3]}",
        f"{CANARY}\n",
        f'{{"{CANARY}": "eu"}}',
        f"http://user:{CANARY}@egress:3128",
        f"/{CANARY}=",
    ],
)
def test_a_key_where_the_path_of_its_file_belongs_is_not_repeated(value: str) -> None:
    found = problem(management__api_key_file=value)

    assert found.endswith("[management.api_key_file]: must be the path of a file, but looks like the key itself")


@pytest.mark.parametrize(
    "text",
    [
        f'clients.tokens = {{"{CANARY}" = "eu", "{CANARY}" = "us"}}',
        f'[clients.tokens."{CANARY}"]\n[clients.tokens."{CANARY}"]',
        f"""[clients.tokens."{CANARY}'"]\n[clients.tokens."{CANARY}'"]""",
    ],
)
def test_a_token_that_toml_stumbles_over_is_not_repeated(text: str, toml: Callable[[str], str]) -> None:
    found = problem(["--config", toml(text)])

    assert "is not valid TOML" in found
    assert "line" in found
    assert CANARY not in found


def test_a_token_as_part_of_a_name_is_not_repeated() -> None:
    assert problem(**{f"clients__tokens__{CANARY}": "eu"}) == (
        "TALON_PROXY_CLIENTS__TOKENS__…: is not read; set TALON_PROXY_CLIENTS__TOKENS or"
        " TALON_PROXY_CLIENTS__TOKENS_FILE"
    )
    assert problem([f"--clients.tokens.{CANARY}", "eu"]) == (
        "--clients.tokens.…: a secret has no flag, because a command line can be read by others;"
        " use --clients.tokens_file or TALON_PROXY_CLIENTS__TOKENS"
    )


@pytest.mark.parametrize("value", ["talon-one.key", "secrets/eu", "./key", "../a b.key", "/run/secrets/talon-one_next"])
def test_the_path_of_a_key_file_that_is_not_there_is_told(value: str) -> None:
    assert f"{Path(value)} cannot be read" in problem(management__api_key_file=value)


@pytest.mark.parametrize(("mode", "warned"), [(0o600, False), (0o640, False), (0o644, True), (0o604, True)])
def test_a_key_file_that_everybody_can_read_is_a_warning(keyfile: Callable[..., str], mode: int, warned: bool) -> None:
    file = keyfile(CANARY, mode=mode)

    result = loaded(management__api_key_file=file)

    expected = f"TALON_PROXY_MANAGEMENT__API_KEY_FILE [management.api_key_file]: {file} can be read by every user"
    assert result.warnings == ((expected,) if warned else ())


def test_a_configuration_file_with_a_secret_that_everybody_can_read_is_a_warning(toml: Callable[[str], str]) -> None:
    secret = toml(f'[admin]\ntoken = "{CANARY}"')
    Path(secret).chmod(0o644)
    assert loaded(["--config", secret]).warnings == (f"{secret}: holds a secret and every user can read it",)

    plain = toml('base_path = "/x"')
    Path(plain).chmod(0o644)
    assert loaded(["--config", plain]).warnings == ()


# --- applications and clients ---------------------------------------------------------------------------------


@pytest.mark.parametrize("inject", ["off", "when_missing"])
def test_no_key_is_needed_where_callers_have_their_own(inject: str) -> None:
    result = load([f"--clients.inject={inject}"], {"TALON_PROXY_UPSTREAM__URL": URL})

    assert result.settings.applications == {}


def test_every_application_needs_a_key() -> None:
    assert problem(applications__us__kind="testing") == (
        "applications.us.api_key: is required: set it or applications.us.api_key_file"
    )


def test_keys_that_are_not_used_are_a_warning() -> None:
    assert "[clients.inject]: is off" in loaded(clients__inject="off").warnings[0]


@pytest.mark.parametrize("name", ["eu", "0", "eu-west_1", "a" * 63])
def test_applications_have_plain_names(name: str, toml: Callable[[str], str]) -> None:
    file = toml(f'[applications.{name}]\napi_key = "x"')

    assert settings(["--config", file]).applications[name].name == name


@pytest.mark.parametrize("name", ["-eu", "_eu", '"e.u"', '""', '"e u"', '"eü"', "a" * 64, '"../eu"', '"e\\nu"'])
def test_other_names_of_applications_are_refused(name: str, toml: Callable[[str], str]) -> None:
    assert "is not a usable name" in problem(["--config", toml(f'[applications.{name}]\napi_key = "x"')])


def test_a_name_in_capitals_has_a_suggestion(toml: Callable[[str], str]) -> None:
    assert problem(["--config", toml('[applications.EU]\napi_key = "x"')]).endswith("did you mean eu?")


@pytest.mark.parametrize(
    "text",
    [
        "token-one=eu,token-two==default",
        " token-one=eu , token-two==default ",
        '{"token-one": "eu", "token-two=": "default"}',
    ],
)
def test_tokens_are_a_map_to_applications(text: str) -> None:
    tokens = settings(clients__tokens=text, applications__eu__api_key="k").clients.tokens

    assert {token.reveal(): name for token, name in tokens.items()} == {"token-one": "eu", "token-two=": "default"}


def test_tokens_in_the_file_are_a_table(toml: Callable[[str], str]) -> None:
    file = toml(f'[clients.tokens]\n"{CANARY}" = "default"')

    assert settings(["--config", file]).clients.tokens == {Secret(CANARY): "default"}


def test_tokens_of_a_stronger_source_replace_those_of_a_weaker(toml: Callable[[str], str]) -> None:
    file = toml(f'[clients.tokens]\n"{CANARY}" = "default"')

    assert settings(["--config", file], clients__tokens="t=default").clients.tokens == {Secret("t"): "default"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"{CANARY}=nobody", "entry 1 names an Application that is not configured (configured: default)"),
        (f"t=default,{CANARY}=defualt", "(configured: default); did you mean default?"),
        (f"default={CANARY}", "entry 1 names an Application that is not configured"),
        (CANARY, "the token of entry 1 is empty"),
        (f"{CANARY}=", "entry 1 names no application"),
        (f"{CANARY}=default,", "the token of entry 2 is empty"),
        (f"{CANARY} x=default", "the token of entry 1 holds a blank"),
        (f"{CANARY}=default,{CANARY}=default", "the token of entry 2 repeats an earlier one"),
        (f'{{"{CANARY}": "default", "{CANARY}": "default"}}', "the token of entry 2 repeats an earlier one"),
        (f'{{"{CANARY}": 1}}', "entry 1 names no application"),
        (f'{{"{CANARY}": {{}}}}', "entry 1 names no application"),
        (f'{{"{CANARY}"', "is not valid JSON"),
    ],
)
def test_other_tokens_are_refused_and_not_repeated(text: str, expected: str) -> None:
    found = problem(clients__tokens=text)

    assert "[clients.tokens]: " in found
    assert expected in found
    assert CANARY not in found


def test_tokens_of_another_sort_are_refused(toml: Callable[[str], str]) -> None:
    assert problem(["--config", toml("[clients]\ntokens = []")]).endswith("must be a map from token to application")
    assert settings(clients__tokens="").clients.tokens == {}


# --- showing --------------------------------------------------------------------------------------------------


def test_no_secret_is_shown_anywhere(keyfile: Callable[..., str]) -> None:
    names = ["first", "second", "third", "fourth"]
    secrets = [f"{CANARY}{name}" for name in names]
    result = loaded(
        applications__eu__api_key=secrets[0],
        management__api_key_file=keyfile(secrets[1]),
        admin__token=secrets[2],
        clients__tokens=f"{secrets[3]}=eu",
    )

    shown = [
        repr(result),
        str(result),
        str(redacted(result.settings)),
        str(result.settings.model_dump()),
        str(result.settings.model_dump(mode="json")),
        result.settings.model_dump_json(),
        str(dict(result.origins)),
    ]

    for text in shown:
        assert CANARY not in text
        assert "***" in text or text == shown[-1]
    assert redacted(result.settings)["clients.tokens"] == "***=eu"


@pytest.mark.parametrize(
    "environ",
    [
        {"api_key": f"{CANARY} x"},
        {"api_key": f"ManagementKey-v1 {CANARY}"},
        {"api__key": CANARY},
        {"apikey": CANARY},
        {"applications": CANARY},
        {"applications__eu": CANARY},
        {"applications__eu__api_key": f"{CANARY}\x00"},
        {"upstream__url": f"https://x:{CANARY}@y"},
        {"admin__token": f"Bearer {CANARY}"},
        {"clients__tokens": f"[{CANARY}"},
        {"listen": CANARY},
        {"log__level": CANARY},
        {"log__access": CANARY},
        {"limits__body": CANARY},
        {"limits__fields": CANARY},
        {"timeouts__head": CANARY},
        {"clients__allow_browsers": CANARY},
        {"clients__hosts": f"[{CANARY}"},
        {"routes__extra": CANARY},
        {"base_path": CANARY},
        {"applications__default__environment": f"{CANARY}\n"},
    ],
)
def test_no_value_is_repeated_in_a_problem(environ: dict[str, str]) -> None:
    with pytest.raises(SettingsError) as caught:
        loaded(**environ)

    assert CANARY not in str(caught.value)
    assert CANARY not in repr(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


def test_the_hash_tells_settings_apart_but_not_secrets() -> None:
    first = settings_hash(settings())

    assert re.fullmatch(r"[0-9a-f]{12}", first)
    assert settings_hash(settings(api_key="another")) == first
    assert settings_hash(settings(timeouts__head="10000ms")) == first
    assert settings_hash(settings(timeouts__head="11s")) != first
    assert settings_hash(settings(applications__eu__api_key="x")) != first


def test_the_hash_does_not_depend_on_the_order_of_applications() -> None:
    one = settings(applications__eu__api_key="x", applications__us__api_key="x")
    other = settings(applications__us__api_key="x", applications__eu__api_key="x")

    assert settings_hash(one) == settings_hash(other)


def test_what_is_shown_can_be_given_again() -> None:
    shown = redacted(settings(routes__extra="GET /v1/x,PUT /v2/{y}", log__access="sample:0.25", base_path="/a"))
    environ = {
        variable(key.path): value
        for name, value in shown.items()
        if value and (key := find(tuple(name.split(".")))) and not key.kind.secret
    }

    again = load([], {**environ, "TALON_PROXY_APPLICATIONS__DEFAULT__API_KEY": "x"}).settings

    assert redacted(again) == shown


# --- documentation --------------------------------------------------------------------------------------------


def test_the_sample_and_the_guide_are_those_of_the_model() -> None:
    assert document.SAMPLE.read_text() == document.sample(), "run make docs"
    assert document.GUIDE.read_text() == document.guide(document.GUIDE.read_text()), "run make docs"


def test_the_sample_changes_nothing() -> None:
    assert settings(["--config", str(document.SAMPLE)]) == settings()


def test_the_sample_without_its_marks_is_toml_with_every_key_and_its_default() -> None:
    text = re.sub(r"^#(?=[A-Za-z_]+ = |\[)", "", document.SAMPLE.read_text(), flags=re.MULTILINE)

    nested = tomllib.loads(text)

    for path, key in TABLE.items():
        value: object = nested
        for name in example(path):
            assert isinstance(value, dict)
            value = value[name]
        if key.path in (("clients", "tokens"), ("upstream", "proxy")):
            key.kind.read(value)
        elif key.kind.secret:
            assert value in ("<key>", "<token>", "<random text>")
        elif key.default in (None, (), {}):
            key.kind.read(value)
        else:
            assert key.kind.read(value) == key.default


@pytest.mark.parametrize("key", TABLE.values(), ids=str)
def test_every_setting_has_a_sentence_and_a_default_or_an_example(key: Key) -> None:
    assert re.fullmatch(r"[A-Z`].*\.", key.description)
    assert "|" not in key.description
    assert key.example if key.required or key.default in (None, (), {}) else key.default is not None
    assert key.kind.name


def test_a_near_miss_is_the_nearest_key() -> None:
    near = nearest("upstream.connection.max_ages", TABLE.values())

    assert near == ("upstream", "connections", "max_age")


def test_importing_costs_neither_aiohttp_nor_uvloop_nor_pydantic_settings() -> None:
    heavy = {"aiohttp", "uvloop", "asyncio", "ssl", "pydantic_settings"}

    assert not heavy & _imported_by("proxy.settings")


def test_loading_costs_nothing_that_only_other_commands_need() -> None:
    program = f"import sys; from proxy.settings import load;load([], {ENVIRON!r});print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    others = {"hjson", "proxy.settings.compat", "proxy.settings.schema", "proxy.settings.document"}
    assert not (others | {"proxy.settings.command", "proxy.settings.certificates"}) & set(done.stdout.split())


def test_a_secret_needs_the_standard_library_only() -> None:
    assert not {"pydantic", "pydantic_core", "orjson", "proxy.settings"} & _imported_by("proxy.secret")


def _imported_by(module: str) -> set[str]:
    program = f"import sys, {module}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return set(done.stdout.split())
