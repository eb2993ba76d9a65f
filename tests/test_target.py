"""Where calls shall go: by settings and moment; two targets are equal where nothing needs to be switched."""

from pathlib import Path

import pytest

from proxy.keyset import KeyPair
from proxy.secret import Secret
from proxy.settings import Origin, Settings, changed, need_restart
from proxy.target import configured, target
from tests.certificates import Authority
from tests.given import NOW, URL, settings

NEXT = "https://mycompany.us-east4.talon.one"
PLANNED = {"upstream__next__url": NEXT, "upstream__next__at": "2026-11-24T12:00:00Z"}


def here(given: Settings) -> Origin:
    return given.upstream.url


@pytest.mark.parametrize(
    ("at", "url"),
    [("2026-11-24T12:00:01Z", URL), ("2026-11-24T12:00:00Z", NEXT), ("2026-11-24T13:59:59+02:00", NEXT)],
)
def test_the_configured_url_is_the_next_one_from_its_moment_on(at: str, url: str) -> None:
    assert configured(settings(upstream__next__url=NEXT, upstream__next__at=at), NOW) == Origin.parse(url)


def test_keys_are_those_that_an_application_has_at_that_url() -> None:
    given = settings(
        applications__eu__api_key="eu-here",
        applications__eu__next_api_key="eu-following",
        upstream__next__applications__eu__api_key="eu-there",
        **PLANNED,
    )

    assert target(given, Origin.parse(URL)).pairs["eu"] == KeyPair(Secret("eu-here"), Secret("eu-following"))
    assert target(given, Origin.parse(NEXT)).pairs["eu"] == KeyPair(Secret("eu-there"))
    # One without a key of its own there keeps the one it has.
    assert target(given, Origin.parse(NEXT)).pairs["default"] == KeyPair(Secret("0123456789abcdef"))


def test_keys_of_the_next_url_are_not_those_of_the_same_url() -> None:
    given = settings(upstream__next__applications__default__api_key="other", **{**PLANNED, "upstream__next__url": URL})

    assert target(given, here(given)).pairs["default"] == KeyPair(Secret("0123456789abcdef"))


@pytest.mark.parametrize(
    "change",
    [
        {"api_key": "another"},
        {"next_api_key": "another"},
        {"management__api_key": "another"},
        {"upstream__connections__max": "7"},
        {"upstream__timeouts__connect": "1s"},
        {"upstream__bind": "127.0.0.1"},
        {"upstream__proxy": "http://egress.shop.internal:3128"},
        {"limits__reply": "1MiB"},
    ],
)
def test_what_a_generation_is_made_of_makes_another_target(change: dict[str, str]) -> None:
    before, after = settings(), settings(**change)

    assert target(before, here(before)) != target(after, here(after))


@pytest.mark.parametrize(
    "change",
    [
        {"upstream__timeouts__total": "20s"},
        {"upstream__timeouts__response": "5s"},
        {"upstream__allowed_hosts": "mycompany.europe-west1.talon.one"},
        {"upstream__drain": "1s"},
        {"log__level": "debug"},
        {"clients__tokens": "token=default"},
        {"applications__default__expires": "2027-01-01"},
        PLANNED,
    ],
)
def test_what_it_is_not_made_of_does_not(change: dict[str, str]) -> None:
    before, after = settings(), settings(**change)

    assert target(before, here(before)) == target(after, here(after))


def test_a_certificate_renewed_in_its_file_is_another_way(tmp_path: Path) -> None:
    given = settings(upstream__tls__ca_file=str(Authority(tmp_path).file))
    before = target(given, here(given))
    Authority(tmp_path)

    assert target(given, here(given)) != before


def test_a_target_shows_no_key() -> None:
    given = settings(next_api_key="fedcba9876543210")

    assert "0123456789abcdef" not in repr(target(given, here(given)))
    assert "fedcba9876543210" not in repr(target(given, here(given)))


# --- what has changed -----------------------------------------------------------------------------------------


def test_changes_are_told_by_key_secrets_included() -> None:
    before = settings(applications__eu__api_key="one", clients__tokens="a=eu")
    after = settings(applications__us__api_key="one", clients__tokens="b=us", log__level="debug", listen="127.0.0.1:1")

    keys = changed(before, after)

    assert {"clients.tokens", "log.level", "listen", "applications.eu.api_key", "applications.us.api_key"} <= set(keys)
    assert not any(key.startswith(("upstream.", "applications.default.")) for key in keys)
    assert need_restart(keys) == ["listen"]
    assert changed(before, before) == []
