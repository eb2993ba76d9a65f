"""How shares, rates, moments, host patterns, operations and ids are written, and how they are printed back."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from proxy.settings import Origin, redacted
from proxy.settings.hosts import HostPattern, same_customer
from proxy.settings.kinds import print_rate
from proxy.settings.redaction import recognisable
from tests.given import URL, loaded, problem, settings


@pytest.mark.parametrize(
    ("text", "share"), [("10 %", 0.1), ("10%", 0.1), ("0.1", 0.1), ("2.5 %", 0.025), ("0", 0), ("1", 1), ("100%", 1)]
)
def test_a_share_is_per_cent_or_a_fraction(text: str, share: float) -> None:
    assert settings(retries__budget=text).retries.budget == pytest.approx(share)


@pytest.mark.parametrize(("value", "shown"), [("0.1", "10 %"), ("1", "100 %"), ('"2.5 %"', "2.5 %"), ("0.0", "0 %")])
def test_a_share_in_the_file_may_be_a_number(toml: Callable[[str], str], value: str, shown: str) -> None:
    file = toml(f"[retries]\nbudget = {value}")

    assert redacted(settings(["--config", file]))["retries.budget"] == shown


@pytest.mark.parametrize("text", ["10 percent", "", "%", "10  %", "-1", "1e-1", ".1", "١ %"])
def test_other_shares_are_refused(text: str) -> None:
    assert "needs a share" in problem(retries__budget=text)


@pytest.mark.parametrize("value", ["1.01", "-0.1", "nan", "inf", '"101 %"', "10"])
def test_a_share_is_of_a_whole(toml: Callable[[str], str], value: str) -> None:
    assert "must be between 0 % and 100 %" in problem(["--config", toml(f"[retries]\nbudget = {value}")])


def test_true_is_no_share(toml: Callable[[str], str]) -> None:
    assert "needs a share" in problem(["--config", toml("[retries]\nbudget = true")])


@pytest.mark.parametrize(("text", "rate"), [("3/s", 3.0), ("30/min", 0.5), ("0.5/s", 0.5), ("90/min", 1.5)])
def test_a_rate_is_a_number_of_calls_per_time(text: str, rate: float) -> None:
    assert settings(management__rate=text).management.rate == rate


@pytest.mark.parametrize("text", ["3", "3/h", "3 /s", "-3/s", "/s", ""])
def test_other_rates_are_refused(text: str) -> None:
    assert "needs a number of calls per time" in problem(management__rate=text)
    assert "must be more than zero" in problem(management__rate="0/s")


@pytest.mark.parametrize("text", ["3/s", "1.5/s", "30/min", "1/min", "0.3/s"])
def test_a_rate_is_printed_so_that_it_can_be_given_again(text: str) -> None:
    rate = settings(management__rate=text).management.rate

    assert settings(management__rate=print_rate(rate)).management.rate == rate


@pytest.mark.parametrize(
    ("text", "address"), [("10.0.0.7", "10.0.0.7"), ("2001:DB8::7", "2001:db8::7"), ("127.0.0.1", "127.0.0.1")]
)
def test_connections_come_from_an_address(text: str, address: str) -> None:
    assert settings(upstream__bind=text).upstream.bind == address


@pytest.mark.parametrize("text", ["eth0", "10.0.0.7:80", "0.0.0.0", "::", "224.0.0.1", "127.1", ""])
def test_other_addresses_to_come_from_are_refused(text: str) -> None:
    assert "[upstream.bind]: " in problem(upstream__bind=text)


def test_a_proxy_on_the_way_is_spoken_to_in_clear() -> None:
    assert str(settings(upstream__proxy="http://egress:3128").upstream.proxy) == "http://egress:3128"
    assert "needs the form http://host:port" in problem(upstream__proxy="https://egress:3128")


def test_the_credentials_of_a_proxy_are_decoded_and_shown_to_nobody() -> None:
    given = loaded(upstream__proxy="http://me:s%40cret%3Aword@egress:3128").settings

    proxy = given.upstream.proxy
    assert proxy is not None
    assert proxy.origin == Origin("http", "egress", 3128)
    assert proxy.credentials is not None
    assert proxy.credentials.reveal() == "me:s@cret:word"
    shown = f"{proxy} {proxy!r} {given!r} {redacted(given)} {recognisable(given)} {given.model_dump_json()}"
    assert "http://***@egress:3128" in shown
    assert "cret" not in shown.replace("secret", "")


@pytest.mark.parametrize(
    "text",
    ["http://me@egress", "http://:word@egress", "http://me:a%0d%0ab@egress", "http://me:c0ffee@", "me:c0ffee@egress"],
)
def test_other_urls_of_a_proxy_are_refused_without_being_repeated(text: str) -> None:
    found = problem(upstream__proxy=text)

    assert "[upstream.proxy]: " in found
    assert "c0ffee" not in found


def test_the_url_of_a_proxy_may_stand_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "egress").write_text("http://me:word@egress:3128\n")

    proxy = settings(upstream__proxy_file=str(tmp_path / "egress")).upstream.proxy

    assert proxy is not None
    assert proxy.credentials is not None
    assert (proxy.origin.host, proxy.credentials.reveal()) == ("egress", "me:word")


# --- moments --------------------------------------------------------------------------------------------------

PLANNED = {"upstream__next__url": "https://mycompany.us-east4.talon.one"}
MOMENT = datetime(2027, 3, 31, 3, tzinfo=UTC)


@pytest.mark.parametrize(
    "text", ["2027-03-31T03:00:00Z", "2027-03-31T05:00:00+02:00", "2027-03-31 03:00:00Z", "2027-03-31T03:00:00.000Z"]
)
def test_a_moment_is_the_same_on_every_machine(toml: Callable[[str], str], text: str) -> None:
    file = toml(f'[upstream.next]\nurl = "{PLANNED["upstream__next__url"]}"\nat = {text}')

    assert settings(**PLANNED, upstream__next__at=text).upstream.next.at == MOMENT
    shown = settings(["--config", file])
    assert shown.upstream.next.at == MOMENT
    assert redacted(shown)["upstream.next.at"] == "2027-03-31T03:00:00Z"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2027-03-31T03:00:00", "needs a moment with its offset"),
        ("2027-03-31", "needs a moment with its offset"),
        ("tomorrow", "needs a moment with its offset"),
        ("2027-02-31T03:00:00Z", "is not a moment of any calendar"),
        ("0001-01-01T00:00:00+10:00", "is not a moment of any calendar"),
    ],
)
def test_other_moments_are_refused(text: str, expected: str) -> None:
    assert expected in problem(**PLANNED, upstream__next__at=text)


@pytest.mark.parametrize("value", ["2027-03-31T03:00:00", "2027-03-31", "03:00:00", "1"])
def test_a_moment_in_the_file_has_an_offset(toml: Callable[[str], str], value: str) -> None:
    file = toml(f'[upstream.next]\nurl = "{PLANNED["upstream__next__url"]}"\nat = {value}')

    assert "needs a moment with its offset" in problem(["--config", file])


@pytest.mark.parametrize(
    ("text", "moment", "shown"),
    [
        ("2027-03-31", datetime(2027, 3, 31, tzinfo=UTC), "2027-03-31"),
        ("2027-03-31T03:00:00Z", MOMENT, "2027-03-31T03:00:00Z"),
    ],
)
def test_a_key_expires_on_a_day_or_at_a_moment(
    toml: Callable[[str], str], text: str, moment: datetime, shown: str
) -> None:
    for value in (text, f'"{text}"'):
        result = settings(["--config", toml(f"[applications.default]\nexpires = {value}")])

        assert result.applications["default"].expires == moment
        assert redacted(result)["applications.default.expires"] == shown


@pytest.mark.parametrize("text", ["2027-02-31", "31.03.2027", "2027-3-1", "", "2027-03-31T03:00:00"])
def test_other_days_are_refused(text: str) -> None:
    assert "[applications.default.expires]: " in problem(applications__default__expires=text)


# --- hosts of a switch ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "allowed", "refused"),
    [
        (
            "shop.europe-west1.talon.one",
            ["shop.europe-west1.talon.one", "shop.talon.one", "shop.us-east4.talon.one"],
            ["other.europe-west1.talon.one", "talon.one", "x.shop.talon.one", "shop.x.us-east4.talon.one"],
        ),
        ("shop.talon.one", ["shop.talon.one", "shop.us-east4.talon.one"], ["other.talon.one", "evil.shop.talon.one"]),
        # A secondary deployment: its name alone would allow whoever else is called so.
        (
            "test.shop.europe-west1.talon.one",
            ["test.shop.us-east4.talon.one", "test.shop.talon.one"],
            ["test.europe-west1.talon.one", "test.other.us-east4.talon.one", "shop.us-east4.talon.one"],
        ),
        ("talon.internal", ["talon.internal"], ["other.internal", "talon.internal.evil.example"]),
        ("eviltalon.one", ["eviltalon.one"], ["evil.talon.one"]),
        ("127.0.0.1", ["127.0.0.1"], ["127.0.0.2"]),
        ("::1", ["::1"], ["::2"]),
    ],
)
def test_a_switch_may_point_to_the_same_customer_only(host: str, allowed: list[str], refused: list[str]) -> None:
    patterns = same_customer(host)

    assert [name for name in allowed if not any(pattern.matches(name) for pattern in patterns)] == []
    assert [name for name in refused if any(pattern.matches(name) for pattern in patterns)] == []


def test_where_a_switch_may_point_follows_from_the_url_unless_it_is_set() -> None:
    assert settings().upstream.allows("mycompany.us-east4.talon.one")
    assert not settings().upstream.allows("other.us-east4.talon.one")

    own = settings(upstream__allowed_hosts="mycompany.europe-west1.talon.one,talon.internal")
    assert own.upstream.allows("talon.internal")
    assert not own.upstream.allows("mycompany.us-east4.talon.one")


@pytest.mark.parametrize(
    "text",
    ["*", "*.talon.one", "*.*.talon.one", "*.europe-west1.talon.one", "shop.*", "shop.*.one", "shop.talon.*", "*.com"],
)
def test_a_pattern_never_stands_for_another_customer(text: str) -> None:
    with pytest.raises(ValueError, match="other customers"):
        HostPattern.parse(text)


@pytest.mark.parametrize("text", ["", "a..b.c", "sh*p.x.talon.one", "shop.**.talon.one", "https://x.y", "x:443"])
def test_other_patterns_are_refused(text: str) -> None:
    assert "[upstream.allowed_hosts]: entry 2 " in problem(upstream__allowed_hosts=f"{URL[8:]},{text}")


def test_a_pattern_has_one_spelling() -> None:
    assert str(HostPattern.parse("Shop.*.Talon.One")) == "shop.*.talon.one"
    assert HostPattern.parse("0:0::1") == HostPattern("::1")


# --- operations and ids ---------------------------------------------------------------------------------------


def test_operations_are_those_of_talon_one_in_any_case() -> None:
    assert settings(coalescing__off="getcustomersession, trackEventV2").coalescing.off == (
        "getCustomerSession",
        "trackEventV2",
    )
    assert problem(coalescing__off="getCustomerSession,trackEvntV2").endswith(
        "entry 2 is not an operation of Talon.One that the proxy knows; did you mean trackEventV2?"
    )


def test_ids_are_taken_as_they_are(toml: Callable[[str], str]) -> None:
    file = toml('[lanes]\nshared_profiles = ["guest, anonymous", "jäne"]')

    assert settings(["--config", file]).lanes.shared_profiles == ("guest, anonymous", "jäne")
    assert settings(lanes__shared_profiles='["a,b"]').lanes.shared_profiles == ("a,b",)
    assert problem(lanes__shared_profiles="guest,").endswith("entry 2 is empty")


@pytest.mark.parametrize(
    ("operation", "response", "total"),
    [
        ("syncCatalog", 60, 60),
        ("updateCustomerSessionV2", 2, 15),
        ("trackEventV2", 10, 15),
    ],
)
def test_an_operation_has_its_own_time(operation: str, response: float, total: float) -> None:
    timeouts = settings(upstream__timeouts__operations__updatecustomersessionv2="2s").upstream.timeouts

    assert (timeouts.response_of(operation), timeouts.total_of(operation)) == (response, total)


def test_the_time_of_a_slow_operation_can_be_changed() -> None:
    timeouts = settings(["--upstream.timeouts.operations.syncCatalog=90s"]).upstream.timeouts

    assert dict(timeouts.operations) == {"syncCatalog": 90}


# --- the checklist ------------------------------------------------------------------------------------------------

REASON = "orders are closed by the point of sale, at night"
ACKNOWLEDGED = {"session.never-closed": REASON, "callers.key": "until March"}


@pytest.mark.parametrize(
    "text",
    [
        f"session.never-closed={REASON}; callers.key=until March",
        f" session.never-closed = {REASON} \ncallers.key=until March",
        f'{{"session.never-closed": "{REASON}", "callers.key": "until March"}}',
    ],
)
def test_rules_are_acknowledged_with_their_reasons(text: str) -> None:
    assert settings(checklist__acknowledged=text).checklist.acknowledged == ACKNOWLEDGED


def test_acknowledged_rules_are_a_table_in_the_file_and_can_be_given_again(toml: Callable[[str], str]) -> None:
    file = toml(f'[checklist]\nacknowledged = {{ "session.never-closed" = "{REASON}", "callers.key" = "until March" }}')
    read = settings(["--config", file])

    assert read.checklist.acknowledged == ACKNOWLEDGED
    assert settings(checklist__acknowledged=redacted(read)["checklist.acknowledged"]).checklist == read.checklist


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("session.never-close=x", "entry 1 is no rule; did you mean session.never-closed?"),
        ("callers.key=", "the reason of entry 1 must be 1 to 200 printable characters"),
        ("callers.key=" + "x" * 201, "the reason of entry 1 must be"),
        ("callers.key", "the reason of entry 1 must be"),
        ("{broken", "is not valid JSON"),
    ],
)
def test_what_acknowledges_nothing_is_refused(text: str, said: str) -> None:
    assert said in problem(checklist__acknowledged=text)


def test_effects_that_are_handled_are_types() -> None:
    assert settings(checklist__effects_handled="setDiscount,useReward").checklist.effects_handled == (
        "setDiscount",
        "useReward",
    )
    assert "is not the type of an effect" in problem(checklist__effects_handled="set discount")
