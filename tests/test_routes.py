"""Every operation is recognised, ids keep their bytes, and nothing that is not meant passes (threats T2, T5, T6)."""

import re
from urllib.parse import quote

import orjson
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from proxy.errors import DownstreamError, MethodNotAllowed, NotFound, ProxyError, RefusedError
from proxy.talon.keys import names
from proxy.talon.operations import LISTED, MANAGEMENT, OPERATIONS, OTHER, Conflict, Kind
from proxy.talon.routes import Route, Routes, Surface, cut_base, split_application

READ, WRITE, EVALUATE = Kind.READ, Kind.WRITE, Kind.EVALUATE
CARD = "/v1/loyalty_programs/7/cards/c-1"
LOYALTY = "/v1/loyalty_programs/7/profile/p-1"

# call, operation, kind, session id in the path, profile id in the path, where the body has them
CALLS = [
    ("PUT /v2/customer_sessions/s-1", "updateCustomerSessionV2", EVALUATE, "s-1", None),
    ("GET /v2/customer_sessions/s-1", "getCustomerSession", READ, "s-1", None),
    ("POST /v2/customer_sessions/s-1/returns", "returnCartItems", EVALUATE, "s-1", None),
    ("PUT /v2/customer_sessions/s-1/reopen", "reopenCustomerSession", WRITE, "s-1", None),
    ("PUT /v2/customer_profiles/p-1", "updateCustomerProfileV2", WRITE, None, "p-1"),
    ("PUT /v2/customer_profiles", "updateCustomerProfilesV2", WRITE, None, None),
    ("POST /v2/audiences", "createAudienceV2", WRITE, None, None),
    ("PUT /v2/audiences/7", "updateAudienceV2", WRITE, None, None),
    ("DELETE /v2/audiences/7", "deleteAudienceV2", WRITE, None, None),
    ("DELETE /v2/audiences/7/memberships", "deleteAudienceMembershipsV2", WRITE, None, None),
    ("POST /v2/customer_audiences", "updateCustomerProfileAudiences", WRITE, None, None),
    ("PUT /v2/audience_customers/7/attributes", "updateAudienceCustomersAttributes", WRITE, None, None),
    ("POST /v2/loyalty_programs/7/cards/c-1/link_profile", "linkLoyaltyCardToProfile", WRITE, None, None),
    (
        "POST /v2/loyalty_programs/7/cards/c-1/unlink_profile",
        "unlinkLoyaltyCardFromProfile",
        WRITE,
        None,
        None,
    ),
    ("GET /v1/integration/campaigns", "integrationGetAllCampaigns", READ, None, None),
    ("POST /v2/events", "trackEventV2", EVALUATE, None, None),
    ("POST /v1/referrals", "createReferral", WRITE, None, None),
    ("POST /v1/referrals_for_multiple_advocates", "createReferralsForMultipleAdvocates", WRITE, None, None),
    ("DELETE /v1/customer_data/p-1", "deleteCustomerData", WRITE, None, "p-1"),
    ("POST /v1/coupon_reservations/SUMMER", "createCouponReservation", WRITE, None, None),
    ("DELETE /v1/coupon_reservations/SUMMER", "deleteCouponReservation", WRITE, None, None),
    ("GET /v1/coupon_reservations/customerprofiles/SUMMER", "getReservedCustomers", READ, None, None),
    ("GET /v1/customer_profiles/p-1/inventory", "getCustomerInventory", READ, None, "p-1"),
    ("GET /v1/customer_profiles/p-1/achievements", "getCustomerAchievements", READ, None, "p-1"),
    ("GET /v1/customer_profiles/p-1/achievements/7", "getCustomerAchievementHistory", READ, None, "p-1"),
    (f"GET {CARD}/balances", "getLoyaltyCardBalances", READ, None, None),
    (f"GET {CARD}/transactions", "getLoyaltyCardTransactions", READ, None, None),
    (f"GET {CARD}/points", "getLoyaltyCardPoints", READ, None, None),
    (f"GET {LOYALTY}/balances", "getLoyaltyBalances", READ, None, "p-1"),
    (f"GET {LOYALTY}/transactions", "getLoyaltyProgramProfileTransactions", READ, None, "p-1"),
    (f"GET {LOYALTY}/points", "getLoyaltyProgramProfilePoints", READ, None, "p-1"),
    (f"POST {LOYALTY}/delete_transactions", "deleteLoyaltyTransactionsFromLedgers", WRITE, None, "p-1"),
    (f"POST {LOYALTY}/join", "joinLoyaltyProgram", WRITE, None, "p-1"),
    ("POST /v1/loyalty_programs/7/activate_points", "activateLoyaltyPoints", WRITE, None, None),
    ("POST /v1/loyalty_programs/7/cards", "generateLoyaltyCard", WRITE, None, None),
    ("POST /v1/best_prior_price", "bestPriorPrice", READ, None, None),
    ("PUT /v1/catalogs/7/sync", "syncCatalog", WRITE, None, None),
    ("POST /v3/events", "trackEventV3", EVALUATE, None, None),
    ("GET /v3/events/e-1", "getEventV3", READ, None, None),
    ("PUT /v1/customer_sessions/s-1", "updateCustomerSession", EVALUATE, "s-1", None),
    ("PUT /v1/customer_profiles/p-1", "updateCustomerProfile", EVALUATE, None, "p-1"),
    ("POST /v1/events", "trackEvent", EVALUATE, None, None),
]
SESSIONS_IN_BODY = {
    "activateLoyaltyPoints": "/sessionId",
    "trackEventV3": "/connectedSessionID /connectedSessionId",
    "trackEvent": "/sessionId",
}
PROFILES_IN_BODY = {
    "updateCustomerSessionV2": "/customerSession/profileId",
    "updateCustomerProfilesV2": "/customerProfiles/*/integrationId",
    "updateCustomerProfileAudiences": "/data/*/profileIntegrationId",
    "linkLoyaltyCardToProfile": "/integrationId",
    "unlinkLoyaltyCardFromProfile": "/integrationId",
    "trackEventV2": "/profileId",
    "createReferral": "/advocateProfileIntegrationId /friendProfileIntegrationId",
    "createReferralsForMultipleAdvocates": "/advocateProfileIntegrationIds/*",
    "createCouponReservation": "/integrationIDs/*",
    "deleteCouponReservation": "/integrationIDs/*",
    "generateLoyaltyCard": "/customerProfileIds/*",
    "trackEventV3": "/profileId",
    "updateCustomerSession": "/profileId",
    "trackEvent": "/profileId",
}
DRY = {
    "updateCustomerSessionV2": "dry=true",
    "returnCartItems": "dry=true",
    "updateCustomerProfileV2": "dry=true&runRuleEngine=true",
    "trackEventV2": "dry=true",
    "trackEventV3": "dry=true",
}
BY_NAME = {operation.name: operation for operation in OPERATIONS}


def classify(line: str, *, extra: tuple[str, ...] = (), management: bool = False) -> Route:
    method, target = line.encode("latin-1").split(b" ", 1)
    return Routes(extra=extra, management=management).classify(method, target)


# --- the table ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("line", "name", "kind", "session", "profile"), CALLS, ids=[row[1] for row in CALLS])
def test_an_operation_is_recognised(line: str, name: str, kind: Kind, session: str | None, profile: str | None) -> None:
    route = classify(line + "?pageSize=3")

    assert route.operation.name == name
    assert (route.kind, route.operation.kind) == (kind, kind)
    assert (route.session, route.profile) == (session, profile)
    assert route.surface is Surface.INTEGRATION
    assert not route.dry
    assert route.reads is (kind is READ)
    assert [f"/{'/'.join(pointer)}" for pointer in route.operation.session.pointers] == (
        SESSIONS_IN_BODY.get(name, "").split()
    )
    assert [f"/{'/'.join(pointer)}" for pointer in route.operation.profile.pointers] == (
        PROFILES_IN_BODY.get(name, "").split()
    )


def test_every_row_of_the_table_has_a_call_above() -> None:
    assert [operation.name for operation in LISTED] == [name for _, name, *_ in CALLS]
    assert len(LISTED) == 39 + 3


def test_indexes_are_dense_and_the_stand_ins_come_last() -> None:
    assert [operation.index for operation in OPERATIONS] == list(range(len(OPERATIONS)))
    assert OPERATIONS[-2:] == (OTHER, MANAGEMENT)
    assert len(BY_NAME) == len(OPERATIONS)


def test_the_operations_that_know_idempotency_keys() -> None:
    assert {operation.name for operation in OPERATIONS if operation.idempotency_key} == {
        "updateCustomerSessionV2",
        "returnCartItems",
        "reopenCustomerSession",
        "updateCustomerProfileV2",
        "updateCustomerProfilesV2",
        "trackEventV2",
    }


def test_what_a_409_of_an_operation_may_mean() -> None:
    assert {operation.name: operation.conflicts for operation in OPERATIONS if operation.conflicts} == {
        "updateCustomerSessionV2": {Conflict.SESSION},
        "updateCustomerProfileV2": {Conflict.PROFILE},
        "createAudienceV2": {Conflict.EXISTS},
        "trackEventV2": {Conflict.PROFILE},
        "trackEventV3": {Conflict.PROFILE, Conflict.EXISTS},
        "trackEvent": {Conflict.PROFILE},
    }


def test_the_bulk_operations() -> None:
    assert {operation.name for operation in OPERATIONS if operation.bulk} == {
        "updateCustomerProfilesV2",
        "updateCustomerProfileAudiences",
        "updateAudienceCustomersAttributes",
        "syncCatalog",
    }


def test_a_repr_shows_no_id() -> None:
    assert repr(classify("PUT /v2/customer_sessions/s-1?dry=1")) == "<Route updateCustomerSessionV2 dry>"
    assert repr(OTHER) == "<Operation other>"


# --- methods --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("line", [row[0] for row in CALLS if row[0].startswith("GET")])
def test_head_is_the_operation_of_get(line: str) -> None:
    assert classify("HEAD" + line[3:]).operation is classify(line).operation


@pytest.mark.parametrize(
    ("line", "allow"),
    [
        ("DELETE /v2/customer_sessions/s-1", "GET, HEAD, PUT"),
        ("PATCH /v2/customer_sessions/s-1", "GET, HEAD, PUT"),
        ("GET /v2/customer_sessions/s-1/returns", "POST"),
        ("GET /v1/customer_profiles/p-1", "PUT"),
        ("HEAD /v1/best_prior_price", "POST"),
        ("GET /v1/coupon_reservations/SUMMER", "POST, DELETE"),
        ("OPTIONS /v2/events", "POST"),
        ("put /v2/customer_sessions/s-1", "GET, HEAD, PUT"),
        ("OPTIONS /v2/new_things", "GET, HEAD, POST, PUT, DELETE, PATCH"),
        ("OPTIONS *", "GET, HEAD, POST, PUT, DELETE, PATCH"),
        ("TRACE /v1/applications", "GET, HEAD, POST, PUT, DELETE, PATCH"),
        ("CONNECT shop.example:443", "GET, HEAD, POST, PUT, DELETE, PATCH"),
        ("get /v2/new_things", "GET, HEAD, POST, PUT, DELETE, PATCH"),
    ],
)
def test_another_method_is_refused_with_the_ones_that_are_allowed(line: str, allow: str) -> None:
    with pytest.raises(MethodNotAllowed) as refused:
        classify(line)

    assert refused.value.allow == allow


# --- dry ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("line", [row[0] for row in CALLS], ids=[row[1] for row in CALLS])
def test_dry_counts_only_where_talon_one_heeds_it(line: str) -> None:
    name = classify(line).operation.name

    route = classify(f"{line}?{DRY.get(name, 'dry=true&runRuleEngine=true')}")

    assert route.dry is (name in DRY)
    assert route.reads is (route.kind is READ or name in DRY)


@pytest.mark.parametrize(
    ("query", "dry"),
    [
        *((f"dry={value}", True) for value in ("1", "t", "T", "TRUE", "true", "True", "tr%75e")),
        *((f"dry={value}", False) for value in ("", "0", "f", "false", "tRUE", "yes", "on", "+true", "2")),
        ("now=2030-01-01T00%3A00%3A00Z&dry=true", True),
        ("dry=true&dry=true", False),
        ("dry=true&dry=false", False),
        ("%64ry=false&dry=true", False),
        ("%64ry=true", False),
        ("Dry=true", False),
        ("dry", False),
        ("dry=true;x=1", False),
        ("x;dry=true", False),
        ("note=dry", False),
        ("laundry=true", False),
        ("dry=true?", False),
        ("dry=true&x=\xff", True),
        ("dry=\xff", False),
        ("dry=%ff", False),
        ("&&dry=true&", True),
    ],
)
def test_a_call_is_dry_only_beyond_doubt(query: str, dry: bool) -> None:
    assert classify(f"PUT /v2/customer_sessions/s-1?{query}").dry is dry


@pytest.mark.parametrize(
    "query", ["dry=true", "dry=true&runRuleEngine=false", "dry=true&runRuleEngine=1&runRuleEngine=1"]
)
def test_a_profile_update_is_not_dry_without_the_rule_engine(query: str) -> None:
    assert not classify(f"PUT /v2/customer_profiles/p-1?{query}").dry


# --- path tricks ----------------------------------------------------------------------------------------------

SESSION = "/v2/customer_sessions/"

REFUSED = [
    # dot segments
    ("/v2/../v1/applications", DownstreamError),
    ("/v2/./events", DownstreamError),
    ("/../v2/events", DownstreamError),
    ("/v2/events/..", DownstreamError),
    ("/v2/events/.", DownstreamError),
    (SESSION + ".", DownstreamError),
    (SESSION + "..", DownstreamError),
    (SESSION + "%2e", DownstreamError),
    (SESSION + "%2E%2e", DownstreamError),
    (SESSION + ".%2E", DownstreamError),
    (SESSION + "%2e./returns", DownstreamError),
    (SESSION + "%2e%2e%2f%2e%2e%2fv1%2fapplications", DownstreamError),
    (SESSION + "..%2f..%2fv1", DownstreamError),
    (SESSION + "x%2f..%2fy", DownstreamError),
    (SESSION + "x%2F.%2Fy", DownstreamError),
    (SESSION + "x%2F..", DownstreamError),
    (SESSION + "%252e%252e", DownstreamError),
    (SESSION + "%252E.%252Fx", DownstreamError),
    (SESSION + "x%252f..%252fy", DownstreamError),
    (SESSION + "x%255c..%255cy", DownstreamError),
    (SESSION + "%25252e%25252e", DownstreamError),
    (SESSION + "%25%32%65%25%32%65", DownstreamError),
    (SESSION + "%2%65%2%65%2f%2e%2e", DownstreamError),
    (SESSION + "..;/x", DownstreamError),
    (SESSION + "..;v=1", DownstreamError),
    (SESSION + "%2e%2e%3bx", DownstreamError),
    (SESSION + "%c0%ae%c0%ae", DownstreamError),
    (SESSION + "x%c0%afy", DownstreamError),
    (SESSION + "x%c1%9cy", DownstreamError),
    ("/%2e%2e/v1/applications", DownstreamError),
    ("/v1/applications/..%2f1", DownstreamError),
    ("/v1/loyalty_programs/%2e%2e/applications", DownstreamError),
    ("/v2/new_things/../x", DownstreamError),
    # bytes
    (SESSION + "x\\y", DownstreamError),
    (SESSION + "x%5cy", DownstreamError),
    (SESSION + "x%5C..%5Cy", DownstreamError),
    ("/v2\\events", DownstreamError),
    (SESSION + "x%00", DownstreamError),
    (SESSION + "x%0d%0aHost:%20y", DownstreamError),
    (SESSION + "x%1F", DownstreamError),
    (SESSION + "x%7f", DownstreamError),
    (SESSION + "x\x00", DownstreamError),
    (SESSION + "x\ty", DownstreamError),
    (SESSION + "x\r\ny", DownstreamError),
    (SESSION + "x y", DownstreamError),
    (SESSION + "x\x7f", DownstreamError),
    (SESSION + "x\xfc", DownstreamError),
    (SESSION + "x#y", DownstreamError),
    # empty segments
    ("//v2/events", NotFound),
    ("///v2/events", NotFound),
    ("//evil.example/v2/events", NotFound),
    ("/v2//events", NotFound),
    ("/v2/events/", NotFound),
    (SESSION, NotFound),
    (SESSION + "/returns", NotFound),
    ("/v2/new_things/", NotFound),
    ("/v2/new_things//x", NotFound),
    ("/v2/", NotFound),
    # other roots
    ("/", NotFound),
    ("", NotFound),
    ("*", NotFound),
    ("/v1", NotFound),
    ("/v2?x=/v2/events", NotFound),
    ("/V2/events", NotFound),
    ("/%762/events", NotFound),
    ("/v2%2fevents", NotFound),
    ("/v4/events", NotFound),
    ("/v2;x/events", NotFound),
    ("/@evil.example/v2/events", NotFound),
    ("/login", NotFound),
    ("/.health", NotFound),
    ("/talon/v2/events", NotFound),
    ("v2/events", NotFound),
    ("http://evil.example/v2/events", NotFound),
    ("evil.example:443", NotFound),
    # odd spellings of the table's literals
    ("/v2/customer%5Fsessions/x", RefusedError),
    ("/v2/%63ustomer_sessions/x", RefusedError),
    ("/v2/customer_sessions%2fx", RefusedError),
    ("/v2/customer_sessions;v=1/x", RefusedError),
    ("/v1/Loyalty_programs/7/cards/c-1/points", RefusedError),
    ("/v1/loyalty%5fprograms/7/cards/c-1/points", RefusedError),
    ("/v1/loyalty_programs;x/7/cards/c-1/points", RefusedError),
    ("/v1/loyalty_programs/7/car%64s/c-1/points", NotFound),
    ("/v1/loyalty_programs/7/Cards/c-1/points", NotFound),
    ("/v1/loyalty_programs/7/cards;x/c-1/points", NotFound),
    ("/v1/loyalty_programs/7/cards/c-1/points%2f", NotFound),
    ("/v1/loyalty_programs/7%2fcards%2fc-1/points", NotFound),
    ("/v2/customer_sessions/x/return%73", NotFound),
    ("/v3/events/e-1/more", NotFound),
]


@pytest.mark.parametrize(("target", "error"), REFUSED)
@pytest.mark.parametrize("management", [False, True])
def test_a_path_that_another_server_might_read_differently_is_refused(
    target: str, error: type[ProxyError], management: bool
) -> None:
    with pytest.raises(ProxyError) as refused:
        classify(f"GET {target}", management=management)

    assert type(refused.value) is error
    assert refused.value.parameter == ("target" if error is DownstreamError else None)


def test_an_empty_segment_is_explained() -> None:
    with pytest.raises(NotFound, match="without a trailing slash"):
        classify("PUT //v2/customer_sessions/s-1")


@pytest.mark.parametrize(
    ("segment", "session"),
    [
        ("a%2Fb", "a/b"),
        ("a%2fb", "a/b"),
        ("%2F", "/"),
        ("a%2F%2Fb%2F", "a//b/"),
        ("s%2F1%20%C3%BC", "s/1 ü"),
        ("100%25", "100%"),
        ("%252F", "%2F"),
        ("a+b", "a+b"),
        ("a%2Bb", "a+b"),
        ("j%40x.de", "j@x.de"),
        ("j@x.de", "j@x.de"),
        ("a;v=1", "a;v=1"),
        ("a%3Fb%23c", "a?b#c"),
        ("...", "..."),
        (".hidden", ".hidden"),
        ("..x", "..x"),
        ("x..", "x.."),
        ("a..b", "a..b"),
        ("1.2.3", "1.2.3"),
        ("a%2F...%2Fb", "a/.../b"),
        ("a%2F.b", "a/.b"),
        ("%2Eb", ".b"),
        ("{x}|~'\"<>^`", "{x}|~'\"<>^`"),
        ("returns", "returns"),
        ("%FF", "\udcff"),
        ("%zz", "%zz"),
        ("%", "%"),
        ("%C3", "\udcc3"),
        ("x%C2%85", "x\x85"),
        ("%F0%9F%98%80", "😀"),
        ("a" * 4000, "a" * 4000),
    ],
)
def test_an_id_keeps_its_bytes_and_is_decoded_once(segment: str, session: str) -> None:
    route = classify(f"PUT {SESSION}{segment}?dry=false")

    assert route.operation.name == "updateCustomerSessionV2"
    assert route.parameters == (segment.encode(),)
    assert route.session == session


def test_two_ids_that_are_not_utf_8_stay_two() -> None:
    assert classify(f"PUT {SESSION}%FE").session != classify(f"PUT {SESSION}%FF").session


def test_every_parameter_is_kept_in_order() -> None:
    route = classify("GET /v1/loyalty_programs/7/profile/j%40x.de/points")

    assert route.parameters == (b"7", b"j%40x.de")
    assert route.profile == "j@x.de"


def test_the_query_is_cut_at_the_first_question_mark() -> None:
    route = classify("GET /v3/events/e-1?x=?&y=/../%00\\")

    assert route.operation.name == "getEventV3"
    assert route.parameters == (b"e-1",)


def test_a_parameter_may_be_spelled_like_a_literal_beside_it() -> None:
    route = classify("POST /v1/coupon_reservations/customerprofiles")

    assert route.operation.name == "createCouponReservation"
    assert route.parameters == (b"customerprofiles",)


# --- Management API -------------------------------------------------------------------------------------------

MANAGEMENT_CALLS = [
    "GET /v1/applications",
    "GET /v1/applications/1",
    "POST /v1/applications/1/campaigns",
    "DELETE /v1/applications/1/campaigns/2",
    "GET /v1/applications/1/sessions",
    "GET /v1/applications/1/events",
    "GET /v1/applications/1/access_logs/no_total",
    "GET /v1/applications/1/customers/2",
    "POST /v1/sessions",
    "DELETE /v1/sessions",
    "POST /v1/refresh_session",
    "GET /v1/accounts/1",
    "GET /v1/users",
    "PATCH /v1/users/1",
    "GET /v1/attributes",
    "GET /v1/webhooks",
    "GET /v1/exports",
    "GET /v1/changes",
    "GET /v1/giveaways/pools/1/export",
    "GET /v1/customers/no_total",
    "GET /v1/audiences/analytics",
    "PUT /v1/provisioning/scim/Users/1",
    "GET /v1/mcp/entrypoint",
    "POST /v1/password_reset",
]
MANAGEMENT_BELOW_THE_TABLE = [
    "PUT /v1/loyalty_programs/1/profile/x/add_points",
    "PUT /v1/loyalty_programs/1/profile/x/deduct_points",
    "PUT /v1/loyalty_programs/1/cards/c-1/add_points",
    "GET /v1/loyalty_programs",
    "GET /v1/loyalty_programs/1",
    "GET /v1/loyalty_programs/1/statistics",
    "GET /v1/loyalty_programs/1/cards/export",
    "GET /v1/loyalty_programs/1/cards/c-1",
    "DELETE /v1/loyalty_programs/1/cards/c-1",
    "POST /v1/loyalty_programs/1/cards/batch",
    "GET /v1/loyalty_programs/1/export_customer_balances",
    "GET /v1/catalogs/1/items",
    "GET /v1/customer_profiles",
    "GET /v1/integration/other",
]


@pytest.mark.parametrize("line", MANAGEMENT_CALLS)
def test_the_management_api_is_refused_by_default(line: str) -> None:
    with pytest.raises(RefusedError) as refused:
        classify(line)

    assert refused.value.status == 403


@pytest.mark.parametrize("line", MANAGEMENT_CALLS)
def test_the_management_api_opens_with_its_own_key(line: str) -> None:
    route = classify(line, management=True)

    assert route.operation is MANAGEMENT
    assert route.surface is Surface.MANAGEMENT
    assert route.kind is (READ if line.startswith("GET") else WRITE)
    assert (route.session, route.profile) == (None, None)


@pytest.mark.parametrize("line", MANAGEMENT_BELOW_THE_TABLE)
@pytest.mark.parametrize("management", [False, True])
def test_beside_the_table_nothing_passes_below_its_first_segments(line: str, management: bool) -> None:
    with pytest.raises((NotFound, MethodNotAllowed)):
        classify(line, management=management)


@pytest.mark.parametrize(
    "path",
    [
        "/v1/Applications",
        "/v1/APPLICATIONS/1",
        "/v1/%61pplications",
        "/v1/applications%2F1",
        "/v1/applications;x=1/2",
        "/v1/applications.",
        "/v1/loyalty%5Fprograms/1/profile/x/add_points",
        "/v1/LOYALTY_programs/1/profile/x/add_points",
    ],
)
@pytest.mark.parametrize("management", [False, True])
def test_an_odd_spelling_never_reaches_the_management_api(path: str, management: bool) -> None:
    with pytest.raises(RefusedError) as refused:
        classify(f"PUT {path}", management=management)

    assert refused.value.status == 403


# --- beyond the table -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        ("GET /v2/new_things", READ),
        ("HEAD /v3/new_things/1", READ),
        ("PATCH /v2/new_things/1%2F2", WRITE),
        ("POST /v3/customer_sessions/s-1", WRITE),
        ("DELETE /v2/newThings/1?dry=true", WRITE),
    ],
)
def test_unknown_paths_of_v2_and_v3_are_forwarded_unordered(line: str, kind: Kind) -> None:
    route = classify(line)

    assert route.operation is OTHER
    assert route.surface is Surface.INTEGRATION
    assert route.kind is kind
    assert route.parameters == ()
    assert not route.dry


EXTRA = (
    "GET /v1/mcp/entrypoint",
    "* /v1/applications/{applicationId}/more",
    "PUT /v1/loyalty_programs/{id}/profile/{x}/add_points",
    "PATCH /v2/customer_sessions/{id}",
    "PUT /v2/customer_sessions/{id}",
)


@pytest.mark.parametrize(
    "line",
    [
        "GET /v1/mcp/entrypoint?x=1",
        "HEAD /v1/mcp/entrypoint",
        "PATCH /v1/applications/1/more",
        "DELETE /v1/applications/a%2Fb/more",
        "PUT /v1/loyalty_programs/1/profile/x/add_points",
        "PATCH /v2/customer_sessions/s-1",
    ],
)
@pytest.mark.parametrize("management", [False, True])
def test_extra_templates_are_forwarded_with_the_integration_key(line: str, management: bool) -> None:
    route = classify(line, extra=EXTRA, management=management)

    assert route.operation is OTHER
    assert route.surface is Surface.INTEGRATION


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ("POST /v1/mcp/entrypoint", MethodNotAllowed),
        ("OPTIONS /v1/applications/1/more", MethodNotAllowed),
        ("GET /v1/applications/1/less", RefusedError),
        ("GET /v1/applications/1", RefusedError),
        ("GET /v1/applications//more", NotFound),
        ("GET /v1/applications/../more", DownstreamError),
        ("PUT /v1/loyalty_programs/1/profile/x/deduct_points", NotFound),
    ],
)
def test_extra_templates_open_nothing_else(line: str, error: type[ProxyError]) -> None:
    with pytest.raises(ProxyError) as refused:
        classify(line, extra=EXTRA)

    assert type(refused.value) is error


def test_the_table_wins_over_an_extra_template() -> None:
    assert classify("PUT /v2/customer_sessions/s-1", extra=EXTRA).operation.name == "updateCustomerSessionV2"


def test_allowed_methods_name_those_of_the_table_and_of_the_extra_template() -> None:
    with pytest.raises(MethodNotAllowed) as refused:
        classify("DELETE /v2/customer_sessions/s-1", extra=EXTRA)

    assert refused.value.allow == "GET, HEAD, PUT, PATCH"


@pytest.mark.parametrize(
    "template",
    [
        "",
        "/v1/applications",
        "GET",
        "GET  /v1/applications",
        "get /v1/applications",
        "OPTIONS /v1/applications",
        "GET /v1",
        "GET /v1/",
        "GET /v4/applications",
        "GET /admin",
        "GET /v1/{anything}",
        "GET /v1/Applications",
        "GET /v1/applications/",
        "GET /v1/applications//x",
        "GET /v1/applications/../x",
        "GET /v1/applications/%2e%2e",
        "GET /v1/applications/{x",
        "GET /v1/applications/a{x}",
        "GET /v1/applications?x=1",
        "GET /v1/applications\n",
        "GET /v1/*",
    ],
)
def test_an_extra_template_that_cannot_be_meant_is_an_error(template: str) -> None:
    with pytest.raises(ValueError, match=r"routes\.extra"):
        Routes(extra=[template])


# --- prefixes -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "name", "rest"),
    [
        (b"/app/shop/v2/events?dry=true", "shop", b"/v2/events?dry=true"),
        (b"/app/shop-de_2/v2/a%2Fb", "shop-de_2", b"/v2/a%2Fb"),
        (b"/app/shop//v2/events", "shop", b"//v2/events"),
        (b"/app/shop/", "shop", b"/"),
        (b"/app/" + b"a" * 63 + b"/x", "a" * 63, b"/x"),
        (b"/v2/events", None, b"/v2/events"),
        (b"/application/v2/events", None, b"/application/v2/events"),
        (b"", None, b""),
        *(
            (target, None, target)
            for target in (
                b"/app",
                b"/app/",
                b"/app/shop",
                b"/app/shop?x=/v2/events",
                b"/app//v2/events",
                b"/app/Shop/v2/events",
                b"/app/-shop/v2/events",
                b"/app/sh%6fp/v2/events",
                b"/app/../v2/events",
                b"/app/" + b"a" * 64 + b"/x",
            )
        ),
    ],
)
def test_an_application_is_named_by_a_prefix(target: bytes, name: str | None, rest: bytes) -> None:
    assert split_application(target) == (name, rest)


@pytest.mark.parametrize("target", [b"/app/shop", b"/app/Shop/v2/events", b"/app/../v2/events"])
def test_a_prefix_that_names_no_application_leads_nowhere(target: bytes) -> None:
    with pytest.raises(ProxyError):
        Routes(management=True).classify(b"POST", split_application(target)[1])


@pytest.mark.parametrize(
    ("target", "base_path", "rest"),
    [
        (b"/talon/v2/events?x=1", b"/talon", b"/v2/events?x=1"),
        (b"/talon/v2/events", b"/talon/", b"/v2/events"),
        (b"/a/b/v2/events", b"/a/b", b"/v2/events"),
        (b"/talon//v2/events", b"/talon", b"//v2/events"),
        (b"/talon/", b"/talon", b"/"),
        (b"/v2/events", b"", b"/v2/events"),
        (b"/v2/events", b"/", b"/v2/events"),
        (b"/v2/events", b"/talon", None),
        (b"/talonx/v2/events", b"/talon", None),
        (b"/Talon/v2/events", b"/talon", None),
        (b"/talon", b"/talon", None),
        (b"/talon?x=/v2/events", b"/talon", None),
        (b"*", b"", None),
    ],
)
def test_a_base_path_is_cut_off(target: bytes, base_path: bytes, rest: bytes | None) -> None:
    assert cut_base(target, base_path) == rest


# --- any input ------------------------------------------------------------------------------------------------

ROUTES = Routes(extra=EXTRA, management=True)
# Ids that read as a path once they are decoded, at most twice more than they should be.
SUSPICIOUS = re.compile(r"[\x00-\x1f\x7f\\]|(?:^|/|%2f|%5c)(?:\.|%2e|%25)", re.IGNORECASE)
IDS = st.text(st.characters(codec="utf-8"), min_size=1, max_size=60) | st.text("a/%2.;?#& +üé", min_size=1)


@given(IDS)
def test_any_id_an_sdk_encodes_comes_back(name: str) -> None:
    assume(not SUSPICIOUS.search(name))

    segment = quote(name, safe="")
    route = ROUTES.classify(b"POST", b"/v2/customer_sessions/%b/returns" % segment.encode())

    assert route.operation.name == "returnCartItems"
    assert route.parameters == (segment.encode(),)
    assert route.session == name


PIECES = [
    *(b"/", b"//", b".", b"..", b"%", b"%2e", b"%2F", b"%25", b"\\", b"%5c", b";", b"?", b"#", b"%00", b"\xff"),
    *(b"v1", b"v2", b"v3", b"customer_sessions", b"customer_profiles", b"events", b"returns", b"dry=true", b"&"),
    *(b"loyalty_programs", b"profile", b"cards", b"points", b"coupon_reservations", b"customerprofiles", b"7"),
]
TARGETS = st.binary() | st.lists(st.sampled_from(PIECES) | st.binary(max_size=3)).map(b"".join)


@given(st.sampled_from([b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"PATCH", b"OPTIONS"]) | st.binary(), TARGETS)
def test_no_target_makes_anything_but_a_route_or_a_refusal(method: bytes, target: bytes) -> None:
    try:
        route = ROUTES.classify(method, b"/" + target)
    except ProxyError:
        return

    assert isinstance(route.session, str | None)
    assert isinstance(route.profile, str | None)
    assert b"" not in route.parameters


@pytest.mark.parametrize("name", ["connectedSessionId", "connectedSessionID"])
def test_an_advanced_event_names_its_session_in_the_spelling_of_today_or_of_early_2026(name: str) -> None:
    body = orjson.dumps({"type": "review", "profileId": "p-1", "integrationId": "e-1", name: "s-1"})

    named = names(classify("POST /v3/events"), body, encoded=False, limit=len(body))

    assert (named.session, named.profiles, named.unkeyed) == ("s-1", ("p-1",), None)
