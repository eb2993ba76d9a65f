from pathlib import Path

import pytest

from proxy.simulator.applications import ApplicationsError, Entry, entry, grants, load
from proxy.simulator.keys import MAIN, Access, Grant, Keyring, Kind, default_grants, is_world, made_dry
from proxy.simulator.world import Application

SHOP = Application("shop", 1)
OUTLET = Application("outlet", 2)


def opened(keyring: Keyring, key: str, scheme: str = "ApiKey-v1") -> Access | None:
    return keyring.open(f"{scheme} {key}")


def test_the_default_key_opens_the_default_application_in_the_main_world() -> None:
    assert opened(Keyring(default_grants()), "simulator") == Access(MAIN, Application())


def test_a_suffix_opens_a_world_of_its_own() -> None:
    keyring = Keyring(default_grants())

    assert opened(keyring, "simulator-job-17") == Access("job-17", Application())
    assert opened(keyring, "simulator-job.17_b") == Access("job.17_b", Application())


@pytest.mark.parametrize(
    "key", ["", "simulator-", "simulator-main", "simulator-a/b", "simulator-ü", "simulatorx", "other", "-a"]
)
def test_other_keys_open_nothing(key: str) -> None:
    assert opened(Keyring(default_grants()), key) is None


def test_all_applications_of_a_world_are_opened_by_the_same_suffix() -> None:
    keyring = Keyring([Grant("one", SHOP), Grant("two", OUTLET)])

    assert opened(keyring, "one-job") == Access("job", SHOP)
    assert opened(keyring, "two-job") == Access("job", OUTLET)


def test_the_longest_key_counts_where_one_begins_with_another() -> None:
    keyring = Keyring([Grant("key", SHOP), Grant("key-2", OUTLET)])

    assert opened(keyring, "key-2") == Access(MAIN, OUTLET)
    assert opened(keyring, "key-2-job") == Access("job", OUTLET)
    assert opened(keyring, "key-3") == Access("3", SHOP)


def test_a_testing_key_stays_one_in_other_worlds() -> None:
    keyring = Keyring([Grant("try", SHOP, Kind.TESTING)])

    assert opened(keyring, "try-job") == Access("job", SHOP, testing=True)


def test_the_two_apis_have_keys_of_their_own() -> None:
    keyring = Keyring([Grant("one", SHOP)], management="boss")

    assert opened(keyring, "boss", "ManagementKey-v1") == Access(MAIN)
    assert opened(keyring, "boss-job", "ManagementKey-v1") == Access("job")
    assert opened(keyring, "boss") is None
    assert opened(keyring, "one", "ManagementKey-v1") is None
    assert opened(keyring, "one", "Bearer") is None


def test_world_names_are_short_and_plain() -> None:
    assert is_world("main")
    assert is_world("a" * 100)
    assert not is_world("a" * 101)
    assert not is_world("a b")


def test_a_dry_call_is_one_whatever_its_query_says() -> None:
    assert made_dry("/v2/events") == "/v2/events?dry=true"
    assert made_dry("/v2/events?dry=false&silent=no") == "/v2/events?dry=true&dry=false&silent=no"


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("shop=key", Entry("shop", "key")),
        ("shop=a=b", Entry("shop", "a=b")),
        ("shop=key@live", Entry("shop", "key", "live")),
        ("shop=key:testing", Entry("shop", "key", None, Kind.TESTING)),
        ("shop=key@eu-live:testing", Entry("shop", "key", "eu-live", Kind.TESTING)),
        ("shop=key:test", Entry("shop", "key:test")),
        ("shop=key@", Entry("shop", "key@")),
    ],
)
def test_entries_are_read(text: str, read: Entry) -> None:
    assert entry(text) == read


@pytest.mark.parametrize("text", ["shop", "shop=", "=key", "shop=a b", "shop=ü", ""])
def test_bad_entries_are_refused(text: str) -> None:
    with pytest.raises(ApplicationsError):
        entry(text)


def test_applications_are_numbered_in_order_and_keep_their_environment() -> None:
    given = grants([Entry("shop", "a"), Entry("outlet", "b", "live"), Entry("shop", "c", "live")])

    shop, outlet = Application("shop", 1, "live"), Application("outlet", 2, "live")
    assert given == (Grant("a", shop), Grant("b", outlet), Grant("c", shop))


@pytest.mark.parametrize(
    "entries",
    [
        [Entry("shop", "k"), Entry("outlet", "k")],
        [Entry("shop", "k", "live"), Entry("shop", "l", "sandbox")],
        [Entry("shop", "k"), Entry("shop", "k", None, Kind.TESTING)],
    ],
)
def test_contradictions_are_refused(entries: list[Entry]) -> None:
    with pytest.raises(ApplicationsError):
        grants(entries)


def test_a_file_holds_the_same_as_tables(tmp_path: Path) -> None:
    file = tmp_path / "applications.toml"
    file.write_text('[applications.shop]\nkeys = ["a", "b"]\ntesting_key = "t"\nenvironment = "live"\n')

    assert load(file) == [
        Entry("shop", "a", "live"),
        Entry("shop", "b", "live"),
        Entry("shop", "t", "live", Kind.TESTING),
    ]


def test_all_that_is_wrong_with_a_file_is_said_at_once_and_no_key_with_it(tmp_path: Path) -> None:
    file = tmp_path / "applications.toml"
    file.write_text('[applications.shop]\nkeys = ["sec ret"]\ncolour = "red"\n[applications.outlet]\n')

    with pytest.raises(ApplicationsError) as refused:
        load(file)

    complaint = str(refused.value)
    for place in ("applications.shop.keys.0", "applications.shop.colour", "applications.outlet.keys"):
        assert place in complaint
    assert "sec ret" not in complaint


@pytest.mark.parametrize("content", [b"[applications", b"\xff", b""])
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "applications.toml"
    file.write_bytes(content)

    for path in (file, tmp_path / "nowhere"):
        with pytest.raises(ApplicationsError) as refused:
            load(path)
        assert str(path) in str(refused.value)
