"""Keys: which session and which profiles a call names, in its path and in its body, and nowhere else."""

from typing import Any

import orjson
import pytest

from proxy.talon import keys
from proxy.talon.keys import Unkeyed
from proxy.talon.routes import Route, Routes

ROUTES = Routes(management=True)
LIMIT = 256 * 1024
SESSION = "PUT /v2/customer_sessions/s"
PROFILE = "PUT /v2/customer_profiles/p"
RESERVE = "POST /v1/coupon_reservations/c"
REFER = "POST /v1/referrals"
LEGACY = "PUT /v1/customer_sessions/s"


def route(line: str) -> Route:
    method, target = line.encode().split(b" ", 1)
    return ROUTES.classify(method, target)


def as_body(body: object) -> bytes:
    return body if isinstance(body, bytes) else orjson.dumps(body)


def named(line: str, body: object = b"") -> tuple[str | None, tuple[str, ...]]:
    """Read what a call names; it must be readable."""
    names = keys.names(route(line), as_body(body), encoded=False, limit=LIMIT)
    assert names.unkeyed is None
    return names.session, names.profiles


def unread(line: str, body: object, *, encoded: bool = False, limit: int = LIMIT) -> tuple[Any, ...]:
    names = keys.names(route(line), as_body(body), encoded=encoded, limit=limit)
    return names.session, names.profiles, names.unkeyed


# --- where ids stand ---


@pytest.mark.parametrize(
    ("line", "body", "session", "profiles"),
    [
        (SESSION, {"customerSession": {"profileId": "p"}}, "s", ("p",)),
        (SESSION + "?dry=true", {"customerSession": {"profileId": "p"}}, "s", ("p",)),
        (SESSION, {"customerSession": {"profileId": ""}}, "s", ()),
        (SESSION, {"customerSession": {"profileId": None}}, "s", ()),
        (SESSION, {"customerSession": {}}, "s", ()),
        (SESSION, {"customerSession": None}, "s", ()),
        (SESSION, {}, "s", ()),
        (SESSION, b"null", "s", ()),
        ("GET /v2/customer_sessions/s", b"", "s", ()),
        ("POST /v2/customer_sessions/s/returns", b"{}", "s", ()),
        ("PUT /v2/customer_sessions/s/reopen", b"", "s", ()),
        (PROFILE, b"{}", None, ("p",)),
        (PROFILE, b"not looked at", None, ("p",)),
        ("POST /v2/events", {"profileId": "p", "type": "t"}, None, ("p",)),
        ("POST /v3/events", {"profileId": "p", "connectedSessionId": "s", "integrationId": "e"}, "s", ("p",)),
        ("POST /v3/events", {"profileId": "p", "connectedSessionId": ""}, None, ("p",)),
        ("GET /v3/events/e", b"", None, ()),
        (REFER, {"advocateProfileIntegrationId": "a", "friendProfileIntegrationId": "f"}, None, ("a", "f")),
        (REFER, {"advocateProfileIntegrationId": "a", "friendProfileIntegrationId": "a"}, None, ("a",)),
        ("POST /v1/referrals_for_multiple_advocates", {"advocateProfileIntegrationIds": [*"aba"]}, None, ("a", "b")),
        ("DELETE /v1/customer_data/p", b"", None, ("p",)),
        (RESERVE, {"integrationIDs": ["a", "", "b"]}, None, ("a", "b")),
        ("DELETE /v1/coupon_reservations/c", {"integrationIDs": ["a"]}, None, ("a",)),
        ("GET /v1/customer_profiles/p/inventory", b"", None, ("p",)),
        ("GET /v1/loyalty_programs/1/profile/p/balances", b"", None, ("p",)),
        ("POST /v1/loyalty_programs/1/profile/p/join", b"", None, ("p",)),
        ("POST /v1/loyalty_programs/1/activate_points", {"sessionId": "s"}, "s", ()),
        ("POST /v1/loyalty_programs/1/activate_points", {"transactionUUIDs": ["x"]}, None, ()),
        ("POST /v1/loyalty_programs/1/cards", {"customerProfileIds": ["a", "b"]}, None, ("a", "b")),
        (LEGACY, {"profileId": "p"}, "s", ("p",)),
        (LEGACY, {"customerSession": {"profileId": "p"}}, "s", ()),
        ("POST /v1/events", {"profileId": "p", "sessionId": "s"}, "s", ("p",)),
    ],
)  # fmt: skip
def test_a_call_names(line: str, body: object, session: str | None, profiles: tuple[str, ...]) -> None:
    assert named(line, body) == (session, profiles)


@pytest.mark.parametrize(
    ("line", "body"),
    [
        ("PUT /v2/customer_profiles", {"customerProfiles": [{"integrationId": "a"}, {"integrationId": "b"}]}),
        ("POST /v2/customer_audiences", {"data": [{"profileIntegrationId": "a"}]}),
        ("PUT /v2/audience_customers/1/attributes", {}),
        ("PUT /v1/catalogs/1/sync", {"actions": []}),
        ("POST /v2/audiences", {"profileId": "p"}),
        ("POST /v1/best_prior_price", {"profileId": "p"}),
        ("PUT /v2/something/new", {"profileId": "p"}),
        ("PUT /v1/applications/1", {"profileId": "p"}),
    ],
)
def test_bulk_and_unknown_calls_stand_in_no_line(line: str, body: object) -> None:
    """B20: they name too many, or nobody knows whom."""
    assert named(line, body) == (None, ())


# --- which ids are the same ---


@pytest.mark.parametrize(
    ("segment", "decoded"),
    [
        ("j%40x.de", "j@x.de"),
        ("j@x.de", "j@x.de"),
        ("a%2Fb", "a/b"),
        ("a%252Fb", "a%2Fb"),
        ("J", "J"),
        ("%C3%BC", "ü"),
        ("a+b", "a+b"),
    ],
)
def test_an_id_is_the_same_in_the_path_and_in_a_body(segment: str, decoded: str) -> None:
    """Decoded once, and only by percent signs."""
    assert named(f"PUT /v2/customer_profiles/{segment}") == (None, (decoded,))
    assert named(f"PUT /v2/customer_sessions/{segment}/reopen") == (decoded, ())
    assert named("POST /v2/events", {"profileId": decoded}) == (None, (decoded,))


def test_ids_that_differ_in_spelling_are_two() -> None:
    ids = ["a", "A", "a ", "ä", "a\u0308", "%61", "1", "01"]
    assert {named("POST /v2/events", {"profileId": name})[1] for name in ids} == {(name,) for name in ids}
    assert named("PUT /v2/customer_profiles/%ff") != named("PUT /v2/customer_profiles/%fe")


def test_only_the_place_where_talon_one_looks_counts() -> None:
    """No search by bytes would tell these apart: nested, quoted, repeated, escaped keys."""
    body = rb"""{"profileId": "no", "customerSession": {
        "attributes": {"profileId": "no", "x": "\"profileId\":\"no\""}, "profileId": "first", "pro\u0066ileId": "last"},
        "x": {"customerSession": {"profileId": "no"}}}"""

    assert named(SESSION, body) == ("s", ("last",))


def test_a_thousand_ids_are_read_in_their_order() -> None:
    ids = [f"p{number % 900}" for number in range(1000)]

    assert named(RESERVE, {"integrationIDs": ids}) == (None, tuple(ids[:900]))


# --- what cannot be read ---


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", Unkeyed.NOT_JSON),
        (b"{", Unkeyed.NOT_JSON),
        (b'{"customerSession": {"profileId": "\\ud800"}}', Unkeyed.NOT_JSON),
        (b"\xff", Unkeyed.NOT_JSON),
        (b'{"customerSession": {"profileId": "\xff"}}', Unkeyed.NOT_JSON),
        (b"[]", Unkeyed.SHAPE),
        (b'"x"', Unkeyed.SHAPE),
        ({"customerSession": []}, Unkeyed.SHAPE),
        ({"customerSession": {"profileId": 5}}, Unkeyed.SHAPE),
        ({"customerSession": {"profileId": ["p"]}}, Unkeyed.SHAPE),
        ({"customerSession": {"profileId": {"p": 1}}}, Unkeyed.SHAPE),
    ],
)
def test_a_body_that_is_not_what_it_should_be_leaves_the_session_of_the_path(body: object, reason: Unkeyed) -> None:
    """B17: Talon.One answers it, not we."""
    assert unread(SESSION, body) == ("s", (), reason)


def test_a_body_over_the_limit_is_not_parsed_and_one_at_the_limit_is() -> None:
    """B18."""
    body = orjson.dumps({"customerSession": {"profileId": "p"}})

    assert unread(SESSION, body, limit=len(body)) == ("s", ("p",), None)
    assert unread(SESSION, body, limit=len(body) - 1) == ("s", (), Unkeyed.TOO_LARGE)


def test_a_compressed_body_is_not_parsed() -> None:
    """B17."""
    assert unread(SESSION, b"{}", encoded=True) == ("s", (), Unkeyed.COMPRESSED)


def test_what_could_be_read_before_what_could_not_counts() -> None:
    body = {"advocateProfileIntegrationId": "a", "friendProfileIntegrationId": 5}

    assert unread(REFER, body) == (None, ("a",), Unkeyed.SHAPE)


@pytest.mark.parametrize(
    "body", [{"integrationIDs": "p"}, {"integrationIDs": ["p", 1]}, {"integrationIDs": {"0": "p"}}]
)
def test_ids_that_are_no_list_of_ids_are_not_known(body: object) -> None:
    assert unread(RESERVE, body) == (None, (), Unkeyed.SHAPE)


def test_a_call_whose_body_names_nobody_is_never_unkeyed() -> None:
    for line in (PROFILE, "POST /v2/customer_sessions/s/returns", "GET /v2/customer_sessions/s", "PUT /v2/x/y"):
        assert unread(line, b"\xff", encoded=True, limit=0)[2] is None


@pytest.mark.parametrize("depth", [10, 2000])
def test_a_deeply_nested_body_is_no_trap(depth: int) -> None:
    nested = b'{"customerSession":' * depth + b"{}" + b"}" * depth

    assert unread(SESSION, nested)[2] in (None, Unkeyed.NOT_JSON)


def test_no_repr_tells_an_id() -> None:
    names = keys.names(route(SESSION), b'{"customerSession":{"profileId":"jane"}}', encoded=False, limit=LIMIT)

    assert repr(names) == "<Names session=True profiles=1 unkeyed=None>"


# --- what a call does to what is remembered ---


@pytest.mark.parametrize(
    ("line", "linking"),
    [
        (SESSION, True),
        (LEGACY, True),
        (SESSION + "?dry=true", False),
        ("GET /v2/customer_sessions/s", False),
        ("POST /v2/customer_sessions/s/returns", False),
        ("POST /v3/events", False),
        (PROFILE, False),
    ],
)
def test_an_update_of_a_session_makes_a_profile_the_sessions(line: str, linking: bool) -> None:
    assert keys.binds(route(line)) is linking


# --- what decides the fate of an order ---

UNREADABLE: dict[str, dict[str, Any]] = {"not JSON": {}, "compressed": {"encoded": True}, "large": {"limit": 1}}


def fate(line: str, body: object, *, encoded: bool = False, limit: int = LIMIT) -> bool:
    return keys.decides_fate(route(line), as_body(body), encoded=encoded, limit=limit)


def state(value: object) -> dict[str, object]:
    return {"customerSession": {"state": value}}


@pytest.mark.parametrize(
    ("line", "body", "decides"),
    [
        (SESSION, state("closed"), True),
        (SESSION, state("cancelled"), True),
        (SESSION, state("open"), False),
        (SESSION, state(None), False),
        (SESSION, {"customerSession": {}}, False),
        (SESSION, {"state": "closed"}, False),
        (SESSION, b"[]", False),
        (SESSION + "?dry=true", state("closed"), False),
        (LEGACY, {"state": "closed"}, True),
        (LEGACY, state("closed"), False),
        ("POST /v2/customer_sessions/s/returns", {}, True),
        ("POST /v2/customer_sessions/s/returns?dry=true", {}, False),
        ("PUT /v2/customer_sessions/s/reopen", b"", True),
        (PROFILE, {"state": "closed"}, False),
        ("POST /v2/events", {"state": "closed"}, False),
        ("DELETE /v1/customer_data/p", b"", False),
    ],
)
def test_closing_cancelling_returning_and_reopening_decide_the_fate(line: str, body: object, decides: bool) -> None:
    assert fate(line, body) is decides


@pytest.mark.parametrize("why", UNREADABLE)
def test_an_update_that_cannot_be_read_may_decide_the_fate(why: str) -> None:
    body: object = b"{" if why == "not JSON" else state("open")
    assert fate(SESSION, body, **UNREADABLE[why])
    assert not fate(PROFILE, body, **UNREADABLE[why])


# --- what may be sent twice ---


def harmless(line: str, body: object, *, encoded: bool = False, limit: int = LIMIT) -> bool:
    return keys.is_harmless_twice(route(line), as_body(body), encoded=encoded, limit=limit)


@pytest.mark.parametrize(
    ("line", "body", "told"),
    [
        (SESSION, state("open"), True),
        (SESSION, {"customerSession": {"cartItems": []}}, True),
        (SESSION, state("closed"), False),
        (SESSION, state("cancelled"), False),
        (SESSION, state("partially_returned"), False),
        (PROFILE, {"attributes": {}}, True),
        (PROFILE, {"audiencesChanges": {"adds": []}}, False),
        (PROFILE, {"audiencesChanges": None}, False),
        (PROFILE, b"[]", False),
        (LEGACY, {"state": "open"}, False),
        ("PUT /v2/customer_sessions/s/reopen", {}, False),
        ("POST /v2/customer_sessions/s/returns", {}, False),
        ("POST /v2/events", {}, False),
        ("PUT /v2/customer_profiles", {"customerProfiles": []}, False),
        ("DELETE /v1/customer_data/p", b"", False),
    ],
)
def test_only_what_talon_one_merges_may_be_sent_twice(line: str, body: object, told: bool) -> None:
    """design.md §6."""
    assert harmless(line, body) is told


@pytest.mark.parametrize("line", [SESSION, PROFILE])
@pytest.mark.parametrize("why", UNREADABLE)
def test_what_cannot_be_read_is_not_sent_twice(line: str, why: str) -> None:
    assert not harmless(line, b"{" if why == "not JSON" else {}, **UNREADABLE[why])
