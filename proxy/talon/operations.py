"""The operations of Talon.One's Integration API, as data.

One row per operation: how it is called, what it does, where the ids stand that decide its place in line. The rows
are `talon-one-facts.md` §1 in its order, then the v1 routes that old SDKs still call, then two stand-ins for calls
that are forwarded without being in the table. Nothing here looks at a call; `routes` does.
"""

import re
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Final

# A JSON pointer (RFC 6901) split into its tokens; `*` stands for every item of an array.
Pointer = tuple[str, ...]


class Kind(Enum):
    """What a call does at Talon.One when it is not dry."""

    READ = "read"
    WRITE = "write"  # stores, runs no rules
    EVALUATE = "evaluate"  # runs the Rule Engine and stores


class Conflict(Enum):
    """What a 409 of an operation may mean."""

    SESSION = "session"  # its queue is full
    PROFILE = "profile"  # its queue is full
    EXISTS = "exists"  # the thing to be made is there already


@dataclass(frozen=True, slots=True)
class Ids:
    """Where the ids of one sort stand: at one position of `Route.parameters`, and in the JSON body."""

    parameter: int | None = None
    pointers: tuple[Pointer, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Operation:
    """One operation. It equals only itself, so that it is a cheap key of a dict.

    `index` is its position in `OPERATIONS`. `dry` names the query flags that must all be true for the call to
    store nothing; none: it has no dry form. `bulk` calls name too many customers to stand in line for each.
    """

    name: str
    method: bytes
    template: str
    kind: Kind
    session: Ids = Ids()
    profile: Ids = Ids()
    conflicts: frozenset[Conflict] = frozenset()
    idempotency_key: bool = False
    dry: tuple[str, ...] = ()
    bulk: bool = False
    index: int = field(default=-1, kw_only=True)

    def __repr__(self) -> str:
        return f"<Operation {self.name}>"


def _operation(
    name: str,
    line: str,
    kind: Kind,
    *,
    session: str = "",
    profile: str = "",
    conflicts: frozenset[Conflict] = frozenset(),
    idempotency_key: bool = False,
    dry: str = "",
    bulk: bool = False,
) -> Operation:
    """Read one row. `session` and `profile` list places: `{parameter}` of the path or `/pointer` into the body."""
    method, template = line.split(" ")
    return Operation(
        name,
        method.encode(),
        template,
        kind,
        session=_ids(session, template),
        profile=_ids(profile, template),
        conflicts=conflicts,
        idempotency_key=idempotency_key,
        dry=tuple(dry.split()),
        bulk=bulk,
    )


def _ids(places: str, template: str) -> Ids:
    parameters = re.findall(r"{\w+}", template)
    positions = [parameters.index(place) for place in places.split() if place.startswith("{")]
    pointers = [tuple(place.split("/")[1:]) for place in places.split() if place.startswith("/")]
    return Ids(positions[0] if positions else None, tuple(pointers))


_SESSION: Final = frozenset({Conflict.SESSION})
_PROFILE: Final = frozenset({Conflict.PROFILE})
_EXISTS: Final = frozenset({Conflict.EXISTS})

_CARD: Final = "/v1/loyalty_programs/{loyaltyProgramId}/cards/{loyaltyCardId}"
_CARD_V2: Final = "/v2/loyalty_programs/{loyaltyProgramId}/cards/{loyaltyCardId}"
_LOYALTY: Final = "/v1/loyalty_programs/{loyaltyProgramId}/profile/{integrationId}"

_INTEGRATION: Final = (
    _operation(
        "updateCustomerSessionV2",
        "PUT /v2/customer_sessions/{customerSessionId}",
        Kind.EVALUATE,
        session="{customerSessionId}",
        profile="/customerSession/profileId",
        conflicts=_SESSION,
        idempotency_key=True,
        dry="dry",
    ),
    _operation(
        "getCustomerSession",
        "GET /v2/customer_sessions/{customerSessionId}",
        Kind.READ,
        session="{customerSessionId}",
    ),
    _operation(
        "returnCartItems",
        "POST /v2/customer_sessions/{customerSessionId}/returns",
        Kind.EVALUATE,
        session="{customerSessionId}",
        idempotency_key=True,
        dry="dry",
    ),
    _operation(
        "reopenCustomerSession",
        "PUT /v2/customer_sessions/{customerSessionId}/reopen",
        Kind.WRITE,
        session="{customerSessionId}",
        idempotency_key=True,
    ),
    # Runs rules only with `runRuleEngine=true`, and only then heeds `dry`: without it a "dry" call stores.
    _operation(
        "updateCustomerProfileV2",
        "PUT /v2/customer_profiles/{integrationId}",
        Kind.WRITE,
        profile="{integrationId}",
        conflicts=_PROFILE,
        idempotency_key=True,
        dry="dry runRuleEngine",
    ),
    _operation(
        "updateCustomerProfilesV2",
        "PUT /v2/customer_profiles",
        Kind.WRITE,
        profile="/customerProfiles/*/integrationId",
        idempotency_key=True,
        bulk=True,
    ),
    _operation("createAudienceV2", "POST /v2/audiences", Kind.WRITE, conflicts=_EXISTS),
    _operation("updateAudienceV2", "PUT /v2/audiences/{audienceId}", Kind.WRITE),
    _operation("deleteAudienceV2", "DELETE /v2/audiences/{audienceId}", Kind.WRITE),
    _operation("deleteAudienceMembershipsV2", "DELETE /v2/audiences/{audienceId}/memberships", Kind.WRITE),
    _operation(
        "updateCustomerProfileAudiences",
        "POST /v2/customer_audiences",
        Kind.WRITE,
        profile="/data/*/profileIntegrationId",
        bulk=True,
    ),
    # Writes to every member of the audience and names none of them.
    _operation(
        "updateAudienceCustomersAttributes",
        "PUT /v2/audience_customers/{audienceId}/attributes",
        Kind.WRITE,
        bulk=True,
    ),
    _operation(
        "linkLoyaltyCardToProfile",
        f"POST {_CARD_V2}/link_profile",
        Kind.WRITE,
        profile="/integrationId",
    ),
    _operation(
        "unlinkLoyaltyCardFromProfile",
        f"POST {_CARD_V2}/unlink_profile",
        Kind.WRITE,
        profile="/integrationId",
    ),
    _operation("integrationGetAllCampaigns", "GET /v1/integration/campaigns", Kind.READ),
    _operation(
        "trackEventV2",
        "POST /v2/events",
        Kind.EVALUATE,
        profile="/profileId",
        conflicts=_PROFILE,
        idempotency_key=True,
        dry="dry",
    ),
    _operation(
        "createReferral",
        "POST /v1/referrals",
        Kind.WRITE,
        profile="/advocateProfileIntegrationId /friendProfileIntegrationId",
    ),
    _operation(
        "createReferralsForMultipleAdvocates",
        "POST /v1/referrals_for_multiple_advocates",
        Kind.WRITE,
        profile="/advocateProfileIntegrationIds/*",
    ),
    _operation(
        "deleteCustomerData",
        "DELETE /v1/customer_data/{integrationId}",
        Kind.WRITE,
        profile="{integrationId}",
    ),
    _operation(
        "createCouponReservation",
        "POST /v1/coupon_reservations/{couponValue}",
        Kind.WRITE,
        profile="/integrationIDs/*",
    ),
    _operation(
        "deleteCouponReservation",
        "DELETE /v1/coupon_reservations/{couponValue}",
        Kind.WRITE,
        profile="/integrationIDs/*",
    ),
    _operation(
        "getReservedCustomers",
        "GET /v1/coupon_reservations/customerprofiles/{couponValue}",
        Kind.READ,
    ),
    _operation(
        "getCustomerInventory",
        "GET /v1/customer_profiles/{integrationId}/inventory",
        Kind.READ,
        profile="{integrationId}",
    ),
    _operation(
        "getCustomerAchievements",
        "GET /v1/customer_profiles/{integrationId}/achievements",
        Kind.READ,
        profile="{integrationId}",
    ),
    _operation(
        "getCustomerAchievementHistory",
        "GET /v1/customer_profiles/{integrationId}/achievements/{achievementId}",
        Kind.READ,
        profile="{integrationId}",
    ),
    _operation("getLoyaltyCardBalances", f"GET {_CARD}/balances", Kind.READ),
    _operation("getLoyaltyCardTransactions", f"GET {_CARD}/transactions", Kind.READ),
    _operation("getLoyaltyCardPoints", f"GET {_CARD}/points", Kind.READ),
    _operation("getLoyaltyBalances", f"GET {_LOYALTY}/balances", Kind.READ, profile="{integrationId}"),
    _operation(
        "getLoyaltyProgramProfileTransactions",
        f"GET {_LOYALTY}/transactions",
        Kind.READ,
        profile="{integrationId}",
    ),
    _operation(
        "getLoyaltyProgramProfilePoints",
        f"GET {_LOYALTY}/points",
        Kind.READ,
        profile="{integrationId}",
    ),
    _operation(
        "deleteLoyaltyTransactionsFromLedgers",
        f"POST {_LOYALTY}/delete_transactions",
        Kind.WRITE,
        profile="{integrationId}",
    ),
    _operation("joinLoyaltyProgram", f"POST {_LOYALTY}/join", Kind.WRITE, profile="{integrationId}"),
    _operation(
        "activateLoyaltyPoints",
        "POST /v1/loyalty_programs/{loyaltyProgramId}/activate_points",
        Kind.WRITE,
        session="/sessionId",
    ),
    _operation(
        "generateLoyaltyCard",
        "POST /v1/loyalty_programs/{loyaltyProgramId}/cards",
        Kind.WRITE,
        profile="/customerProfileIds/*",
    ),
    _operation("bestPriorPrice", "POST /v1/best_prior_price", Kind.READ),
    _operation("syncCatalog", "PUT /v1/catalogs/{catalogId}/sync", Kind.WRITE, bulk=True),
    _operation(
        "trackEventV3",
        "POST /v3/events",
        Kind.EVALUATE,
        # Of two the last counts. SDKs of early 2026 write `ID`.
        session="/connectedSessionID /connectedSessionId",
        profile="/profileId",
        conflicts=_PROFILE | _EXISTS,
        dry="dry",
    ),
    # This `integrationId` is the id of an event.
    _operation("getEventV3", "GET /v3/events/{integrationId}", Kind.READ),
)

# No longer documented: whether their `dry` works is not known, so that they always count as writes.
_LEGACY: Final = (
    _operation(
        "updateCustomerSession",
        "PUT /v1/customer_sessions/{customerSessionId}",
        Kind.EVALUATE,
        session="{customerSessionId}",
        profile="/profileId",
    ),
    _operation(
        "updateCustomerProfile",
        "PUT /v1/customer_profiles/{integrationId}",
        Kind.EVALUATE,
        profile="{integrationId}",
    ),
    _operation(
        "trackEvent",
        "POST /v1/events",
        Kind.EVALUATE,
        session="/sessionId",
        profile="/profileId",
        conflicts=_PROFILE,
    ),
)

# Forwarded without being known: their method says what they do (`Route.kind`).
_STAND_INS: Final = (
    Operation("other", b"*", "", Kind.WRITE),
    Operation("management", b"*", "", Kind.WRITE),
)

# Dense, so that arrays may be indexed by `Operation.index`.
OPERATIONS: Final[tuple[Operation, ...]] = tuple(
    replace(operation, index=index) for index, operation in enumerate(_INTEGRATION + _LEGACY + _STAND_INS)
)
LISTED: Final[tuple[Operation, ...]] = OPERATIONS[: -len(_STAND_INS)]
OTHER: Final[Operation] = OPERATIONS[-2]
MANAGEMENT: Final[Operation] = OPERATIONS[-1]
