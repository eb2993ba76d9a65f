"""What must hold between settings that are right by themselves."""

from collections.abc import Callable
from pathlib import Path

import pytest

from proxy.settings import load
from tests.certificates import Authority
from tests.given import CANARY, NOW, URL, all_problems, loaded, prefixed, problem, problems, settings

NEXT = "https://mycompany.us-east4.talon.one"
AT = "2027-03-31T03:00:00Z"


def warnings(**environ: str) -> list[str]:
    return list(loaded(**environ).warnings)


# --- the planned switch ---------------------------------------------------------------------------------------


def test_a_switch_is_planned_with_a_url_a_moment_and_keys() -> None:
    planned = settings(
        upstream__next__url=NEXT, upstream__next__at=AT, upstream__next__applications__default__api_key=CANARY
    ).upstream.next

    assert str(planned.url) == NEXT
    key = planned.applications["default"].api_key
    assert key is not None
    assert key.reveal() == CANARY


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"url": NEXT}, "[upstream.next.url]: needs upstream.next.at too"),
        ({"at": AT}, "[upstream.next.at]: needs upstream.next.url too"),
        (
            {"applications__default__api_key": CANARY},
            "[upstream.next.applications.default.api_key]: needs upstream.next.url too",
        ),
        ({"url": "http://mycompany.us-east4.talon.one", "at": AT}, "[upstream.next.url]: must be https"),
        ({"url": "https://other.us-east4.talon.one", "at": AT}, "[upstream.next.url]: is not among upstream.allowed"),
        ({"url": "https://talon.one", "at": AT}, "[upstream.next.url]: is not among upstream.allowed_hosts"),
        (
            {"url": NEXT, "at": AT, "applications__defualt__api_key": CANARY},
            "is for an Application that is not configured; did you mean default?",
        ),
    ],
)
def test_half_a_plan_is_none(environ: dict[str, str], expected: str) -> None:
    found = problem(**{f"upstream__next__{name}": value for name, value in environ.items()})

    assert expected in found
    assert CANARY not in found


def test_a_plan_that_is_over_is_a_warning() -> None:
    assert warnings(upstream__next__url=URL, upstream__next__at=AT) == [
        "TALON_PROXY_UPSTREAM__NEXT__URL [upstream.next.url]: is upstream.url already; the switch is over"
    ]


def test_a_plan_is_not_judged_by_a_url_that_is_wrong() -> None:
    assert len(problems(upstream__url="nonsense", upstream__next__url=NEXT, upstream__next__at=AT)) == 1


def test_there_is_a_way_back_to_the_url() -> None:
    assert "[upstream.allowed_hosts]: must have the host of upstream.url too" in problem(
        upstream__allowed_hosts="mycompany.us-east4.talon.one"
    )


@pytest.mark.parametrize("url", ["http://127.0.0.1:7410", "http://localhost:7410", "http://[::1]:7410"])
def test_the_proxy_does_not_call_itself(url: str) -> None:
    assert "[upstream.url]: is where this proxy listens itself" in problem(upstream__url=url)
    assert settings(upstream__url=url, listen="127.0.0.1:7400").upstream.url.port == 7410


# --- who may use a key ----------------------------------------------------------------------------------------


def test_an_open_address_is_a_problem_where_there_is_a_key_to_use() -> None:
    open_to_all = prefixed({"upstream__url": URL, "listen": "0.0.0.0:7410", "clients__inject": "when_missing"})

    assert load([], open_to_all, now=NOW).settings.applications == {}
    (found,) = all_problems([], {**open_to_all, "TALON_PROXY_API_KEY": CANARY})
    assert "can be reached from other machines" in found


def test_an_open_address_is_no_problem_where_no_key_is_added() -> None:
    assert settings(clients__inject="off", listen="0.0.0.0:7410").listen


def test_a_management_key_is_another_than_an_applications() -> None:
    found = problem(management__api_key=CANARY, applications__eu__api_key=CANARY)

    assert "[management.api_key]: is the key of the Application eu" in found
    assert CANARY not in found


def test_a_management_key_that_nobody_can_use_is_a_warning() -> None:
    (warning,) = warnings(management__api_key=CANARY, clients__tokens="t=default")

    assert "[management.api_key]: can be used by nobody" in warning
    assert warnings(management__api_key=CANARY) == []


def test_a_rate_without_a_management_key_is_a_warning() -> None:
    (warning,) = warnings(management__rate="1/s")

    assert warning.endswith("[management.rate]: has no effect without a management.api_key")


def test_a_testing_key_is_a_warning() -> None:
    (warning,) = warnings(applications__default__kind="testing")

    assert warning.endswith("[applications.default.kind]: is testing: no call has an effect at Talon.One")


@pytest.mark.parametrize(
    ("expires", "expected"),
    [
        ("2026-11-24T12:00:00Z", "is over: Talon.One refuses the key"),
        ("2020-01-01", "is over: Talon.One refuses the key"),
        ("2026-11-29", "is in 4 days; add a next_api_key"),
        ("2026-12-02", None),
        ("2027-11-24", None),
    ],
)
def test_a_key_that_expires_soon_is_a_warning(expires: str, expected: str | None) -> None:
    found = warnings(applications__default__expires=expires)

    assert [warning.rpartition("]: ")[2] for warning in found] == ([expected] if expected else [])


# --- certificates of our own ----------------------------------------------------------------------------------


def _pair(certificate: Path | str, key: Path | str) -> dict[str, str]:
    return {
        "upstream__tls__client_cert_file": str(certificate),
        "upstream__tls__client_key_file": str(key),
    }


def test_a_certificate_comes_with_its_key(tmp_path: Path) -> None:
    pair = Authority(tmp_path).sign("shop.example")

    assert settings(**_pair(pair.certificate, pair.key)).upstream.tls.client_cert_file == pair.certificate
    assert "needs upstream.tls.client_key_file too" in problem(upstream__tls__client_cert_file=str(pair.certificate))
    assert "needs upstream.tls.client_cert_file too" in problem(upstream__tls__client_key_file=str(pair.key))


def test_a_certificate_that_cannot_be_used_is_refused(tmp_path: Path, keyfile: Callable[..., str]) -> None:
    authority = Authority(tmp_path)
    one, other = authority.sign("one.example"), authority.sign("other.example")
    nonsense = keyfile("nonsense")
    missing = tmp_path / "missing"

    assert problem(**_pair(one.certificate, other.key)).endswith(f"{one.certificate} does not belong to {other.key}")
    assert problem(**_pair(nonsense, one.key)).endswith("is not in PEM form")
    assert problem(**_pair(one.certificate, nonsense)).endswith("is not in PEM form")
    assert problem(**_pair(one.certificate, missing)).endswith(f"{missing} cannot be read: No such file or directory")


def test_a_key_with_a_password_is_refused_and_none_is_asked_for(tmp_path: Path) -> None:
    from cryptography.hazmat.primitives import serialization

    pair = Authority(tmp_path).sign("shop.example")
    plain = serialization.load_pem_private_key(pair.key.read_bytes(), None)
    pair.key.write_bytes(
        plain.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"a password"),
        )
    )

    assert problem(**_pair(pair.certificate, pair.key)).endswith("has a password; use a key without one")


# --- numbers --------------------------------------------------------------------------------------------------


def test_a_buffer_holds_one_of_what_it_is_for() -> None:
    assert "[limits.buffered]: must not be less than limits.body" in problem(limits__body="300MiB")
    assert "[limits.buffered]: must not be less than limits.reply" in problem(limits__reply="300MiB")


def test_the_longest_pause_is_not_shorter_than_the_first() -> None:
    assert "[retries.conflict.cap]: must not be shorter than retries.conflict.base" in problem(
        retries__conflict__base="2s"
    )


def test_a_planned_switch_whose_moment_has_passed_is_a_warning() -> None:
    planned = {
        "upstream__next__url": "https://mycompany.us-east4.talon.one",
        "upstream__next__at": "2026-11-24T11:59:59Z",
    }

    (warning,) = loaded(**planned).warnings

    assert warning == (
        "TALON_PROXY_UPSTREAM__NEXT__AT [upstream.next.at]: is over: calls go to upstream.next.url;"
        " set upstream.url to it, and take upstream.next away"
    )
    assert loaded(**{**planned, "upstream__next__at": "2026-11-24T12:00:01Z"}).warnings == ()


def test_a_hold_that_outlasts_the_calls_it_holds_is_a_warning() -> None:
    planned = {
        "upstream__next__url": "https://mycompany.us-east4.talon.one",
        "upstream__next__at": "2027-01-01T00:00:00Z",
    }

    (warning,) = loaded(**planned, upstream__next__hold="15s").warnings

    assert "upstream.next.hold" in warning
    assert "upstream.timeouts.total" in warning


def test_a_token_or_a_key_of_hashes_that_can_be_guessed_is_a_warning() -> None:
    assert loaded(admin__token="a" * 12, log__hash_key="b" * 12).warnings == ()

    token, hash_key = loaded(admin__token="secret", log__hash_key="salt").warnings
    assert token.startswith("TALON_PROXY_ADMIN__TOKEN [admin.token]: has fewer than 12 characters: whoever guesses it ")
    assert hash_key.startswith("TALON_PROXY_LOG__HASH_KEY [log.hash_key]: has fewer than 12 characters: ")
    assert "secret" not in token
