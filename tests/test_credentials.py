"""Which Application a call is for, with which key it leaves, and where no key ever shows."""

import itertools
from collections.abc import Iterable

import pytest

from proxy.credentials import Application, Credentials, Grant
from proxy.errors import DownstreamError, ProxyError, RefusedError, Unauthorized, to_reply
from proxy.keyset import KeyPair, KeySet, Ledger
from proxy.messages import Reply, Source, joined
from proxy.secret import Secret
from proxy.talon.routes import Surface
from tests.harness import KEY, running

EU, US = "eu" + "0" * 62, "us" + "1" * 62
MANAGEMENT = "f" * 64
INTEGRATION = Surface.INTEGRATION


class Room(Credentials):
    """Credentials, and the keys of the one generation there is."""

    keys: KeySet


def credentials(
    *names: str,
    tokens: dict[str, str] | None = None,
    inject: str = "always",
    management: bool = False,
    keyless: Iterable[str] = (),
) -> Room:
    keys = {"eu": EU, "us": US, "default": KEY}
    room = Room(
        [Application(name) for name in (*names, *keyless)],
        names,
        tokens={Secret(token): name for token, name in (tokens or {}).items()},
        inject=inject,
    )
    pairs = {name: KeyPair(Secret(keys[name])) for name in names}
    room.keys = KeySet(pairs, Secret(MANAGEMENT) if management else None, Ledger())
    return room


def choose(
    room: Credentials,
    *authorization: bytes,
    header: bytes | None = None,
    prefix: str | None = None,
    surface: Surface = INTEGRATION,
) -> str:
    return room.authorise(list(authorization), header, prefix, surface).application.name


def line(room: Room, *authorization: bytes, surface: Surface = INTEGRATION, header: bytes | None = None) -> bytes:
    grant = room.authorise(list(authorization), header, None, surface)
    if grant.passed is not None:
        return grant.own_line
    key = room.keys.leading(grant)
    assert key is not None
    return key.line


def ours(key: str) -> bytes:
    return b"Authorization: ApiKey-v1 %b\r\n" % key.encode()


# --- choosing ---


def test_the_only_application_is_chosen_without_a_word() -> None:
    assert choose(credentials("eu")) == "eu"


def test_of_several_the_default_is_chosen_without_a_word() -> None:
    assert choose(credentials("eu", "default", "us")) == "default"


def test_of_several_without_a_default_one_must_be_named() -> None:
    with pytest.raises(DownstreamError):
        choose(credentials("eu", "us"))


@pytest.mark.parametrize(
    ("header", "prefix"), [(b"us", None), (None, "us"), (b"us", "us"), (b"US", None), (b"Us", "us")]
)
def test_header_or_prefix_name_one(header: bytes | None, prefix: str | None) -> None:
    assert choose(credentials("eu", "us", "default"), header=header, prefix=prefix) == "us"


@pytest.mark.parametrize(
    ("header", "prefix"), [(b"us", "eu"), (b"xx", None), (None, "xx"), (b"", None), (b"us ", None), (b"\xff", None)]
)
def test_a_name_that_is_wrong_or_contradicted_is_refused(header: bytes | None, prefix: str | None) -> None:
    with pytest.raises(DownstreamError) as caught:
        choose(credentials("eu", "us"), header=header, prefix=prefix)
    assert caught.value.status == 400


@pytest.mark.parametrize(
    "said",
    [
        b"ApiKey-v1 t-us",
        b"apikey-V1 t-us",
        b"Bearer t-us",
        b"bearer   t-us",
        b"ApiKey-v1 t-us ",
        b"ManagementKey-v1 t-us",
        b"managementkey-V1 t-us",
    ],
)
def test_a_token_chooses_its_application(said: bytes) -> None:
    room = credentials("eu", "us", tokens={"t-eu": "eu", "t-us": "us"})

    assert choose(room, said) == "us"
    assert line(room, said) == ours(US)


@pytest.mark.parametrize("named", [{"header": b"us"}, {"prefix": "us"}])
def test_a_token_and_its_own_name_agree(named: dict[str, str]) -> None:
    assert choose(credentials("eu", "us", tokens={"t": "us"}), b"Bearer t", **named) == "us"  # type: ignore[arg-type]


@pytest.mark.parametrize("named", [{"header": b"eu"}, {"prefix": "eu"}])
@pytest.mark.parametrize("inject", ["always", "when_missing", "off"])
def test_a_token_for_another_application_is_refused(named: dict[str, str], inject: str) -> None:
    with pytest.raises(RefusedError) as caught:
        choose(credentials("eu", "us", tokens={"t": "us"}, inject=inject), b"Bearer t", **named)  # type: ignore[arg-type]
    assert caught.value.status == 403


@pytest.mark.parametrize(
    "said",
    [
        [],
        [b""],
        [b"Bearer "],
        [b"ApiKey-v1"],
        [b"Bearer wrong"],
        [b"Bearer t-u"],
        [b"Bearer t-us1"],
        [b"t-us"],
        [b"ManagementKey-v1"],
        [b"ManagementKey-v1 wrong"],
        [b"ManagementKey-v2 t-us"],
        [b"Basic t-us"],
    ],
)
def test_without_a_right_token_nobody_gets_in(said: list[bytes]) -> None:
    room = credentials("us", tokens={"t-us": "us"})

    for surface, header in itertools.product(Surface, (None, b"us")):
        with pytest.raises(Unauthorized) as caught:
            choose(room, *said, surface=surface, header=header)
        assert caught.value.status == 401


def test_of_two_authorization_lines_none_is_the_token() -> None:
    with pytest.raises(DownstreamError):
        choose(credentials("us", tokens={"t": "us"}), b"Bearer t", b"Bearer t")


def test_an_application_without_a_key_is_refused_before_anything_is_sent() -> None:
    for room in (credentials(keyless=["eu"]), Credentials([], ()), credentials("us", keyless=["default"])):
        with pytest.raises(Unauthorized):
            choose(room)


# --- inject ---

CALLERS_OWN = [b"ApiKey-v1 theirs", b"Bearer theirs", b"ManagementKey-v1 theirs", b"Basic dTpw"]
EMPTY = [[], [b"ApiKey-v1 "], [b"ApiKey-v1"], [b""], [b"Bearer "], [b"ManagementKey-v1 "], [b"ManagementKey-v1"]]


@pytest.mark.parametrize("said", [*[[own] for own in CALLERS_OWN], *EMPTY, [b"Bearer a", b"Bearer b"]])
def test_always_ours(said: list[bytes]) -> None:
    assert line(credentials("eu"), *said) == ours(EU)


@pytest.mark.parametrize("said", CALLERS_OWN)
def test_when_missing_the_callers_own_passes(said: bytes) -> None:
    assert line(credentials("eu", inject="when_missing"), said) == b"Authorization: %b\r\n" % said


@pytest.mark.parametrize("said", EMPTY)
def test_when_missing_a_scheme_with_nothing_behind_is_missing(said: list[bytes]) -> None:
    assert line(credentials("eu", inject="when_missing"), *said) == ours(EU)


@pytest.mark.parametrize("said", CALLERS_OWN)
def test_off_passes_what_there_is_and_adds_nothing(said: bytes) -> None:
    room = credentials("eu", inject="off")

    assert line(room, said) == b"Authorization: %b\r\n" % said
    assert line(room) == b""


@pytest.mark.parametrize("inject", ["when_missing", "off"])
def test_two_lines_of_which_one_would_pass_are_refused(inject: str) -> None:
    with pytest.raises(DownstreamError):
        line(credentials("eu", inject=inject), b"Bearer a", b"Bearer b")


@pytest.mark.parametrize("scheme", [b"ApiKey-v1", b"Bearer", b"ManagementKey-v1"])
def test_a_token_never_crosses(scheme: bytes) -> None:
    for inject in ("always", "when_missing", "off"):
        signed = line(credentials("eu", inject=inject, tokens={"token": "eu"}), scheme + b" token")
        assert b"token" not in signed
        assert signed == (b"" if inject == "off" else ours(EU))


@pytest.mark.parametrize("scheme", [b"ApiKey-v1", b"Bearer", b"ManagementKey-v1"])
def test_the_scheme_of_a_token_does_not_choose_the_key(scheme: bytes) -> None:
    """It is ours, for the surface of the path: a token in the Management scheme brings no Management key."""
    room = credentials("eu", management=True, tokens={"token": "eu"})

    assert line(room, scheme + b" token") == ours(EU)


@pytest.mark.parametrize("scheme", [b"ApiKey-v1", b"Bearer", b"ManagementKey-v1"])
def test_a_token_of_an_application_never_acts_for_the_account(scheme: bytes) -> None:
    room = credentials("eu", management=True, tokens={"token": "eu"})

    with pytest.raises(RefusedError):
        line(room, scheme + b" token", surface=Surface.MANAGEMENT)


# --- the Management key ---


def test_the_management_key_is_for_the_management_surface_only() -> None:
    room = credentials("eu", management=True)

    assert line(room, surface=Surface.MANAGEMENT) == b"Authorization: ManagementKey-v1 %b\r\n" % MANAGEMENT.encode()
    assert line(room, surface=INTEGRATION) == ours(EU)


async def test_only_management_paths_carry_the_management_key() -> None:
    async with running(management=MANAGEMENT) as (upstream, proxy):
        for target, scheme in (
            (b"/v1/applications", b"ManagementKey-v1 " + MANAGEMENT.encode()),
            (b"/v2/customer_sessions/s", b"ApiKey-v1 " + KEY.encode()),
        ):
            await proxy.ask(b"GET %b HTTP/1.1\r\nHost: localhost\r\n\r\n" % target)
            assert authorizations(upstream.requests[-1]) == [scheme]

    async with running() as (upstream, proxy):
        answer = await proxy.ask(b"GET /v1/applications HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 403 ")
        assert not upstream.requests


# --- a caller's tricks (T7) ---


def authorizations(request: bytes) -> list[bytes]:
    """Give the value of every line a server, however lax, could take for the key."""
    head = request.partition(b"\r\n\r\n")[0]
    pairs = [entry.partition(b":") for entry in head.split(b"\r\n")[1:]]
    return [
        value.strip()
        for name, _, value in pairs
        if name.strip().lower().replace(b"_", b"-") in (b"authorization", b"proxy-authorization", b"x-api-key")
    ]


TRICKS = [
    b"Authorization: ApiKey-v1 theirs",
    b"authorization: ApiKey-v1 theirs",
    b"AUTHORIZATION:ApiKey-v1 theirs",
    b"Authorization: ApiKey-v1 ",
    b"Authorization:",
    b"Authorization: Bearer a\r\nAuthorization: Bearer b",
    b"Connection: authorization",
    b"Connection: keep-alive, Authorization\r\nAuthorization: Bearer theirs",
    b"Connection: x\r\nConnection: authorization",
    b"Proxy-Authorization: Basic dTpw",
    b"Proxy_Authorization: Basic dTpw",
    b"X-API-Key: theirs",
    b"X_API_Key: theirs",
    b"Connection: host, content-length, via",
]
REFUSED = [
    b"Authorization : ApiKey-v1 theirs",
    b"X: y\r\n Authorization: ApiKey-v1 theirs",
    b"X: y\nAuthorization: ApiKey-v1 theirs",
    b"X: y\rAuthorization: ApiKey-v1 theirs",
]


@pytest.mark.parametrize("trick", TRICKS)
async def test_exactly_one_key_goes_upstream_and_it_is_ours(trick: bytes) -> None:
    async with running() as (upstream, proxy):
        await proxy.ask(
            b"PUT /v2/customer_sessions/s HTTP/1.1\r\nHost: localhost\r\n%b\r\nContent-Length: 2\r\n\r\n{}" % trick
        )

        (request,) = upstream.requests
        assert authorizations(request) == [b"ApiKey-v1 " + KEY.encode()]
        assert b"theirs" not in request
        assert request.count(b"\r\nHost: ") == request.count(b"\r\nContent-Length: 2\r\n") == 1


async def test_a_trailer_is_no_key() -> None:
    async with running() as (upstream, proxy):
        await proxy.ask(
            b"PUT /v2/customer_sessions/s HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
            b"2\r\n{}\r\n0\r\nAuthorization: ApiKey-v1 theirs\r\n\r\n"
        )

        (request,) = upstream.requests
        assert authorizations(request) == [b"ApiKey-v1 " + KEY.encode()]


@pytest.mark.parametrize("trick", REFUSED)
async def test_a_key_hidden_by_bad_syntax_goes_nowhere(trick: bytes) -> None:
    async with running() as (upstream, proxy):
        answer = await proxy.ask(b"GET /v2/customer_sessions/s HTTP/1.1\r\nHost: localhost\r\n%b\r\n\r\n" % trick)

        assert answer.startswith(b"HTTP/1.1 400 ")
        assert not upstream.requests


async def test_what_a_caller_tells_us_is_not_told_upstream() -> None:
    keys = {"eu": EU, "us": US}
    async with running(keys=keys, tokens={"token-1": "eu", "token-2": "us"}) as (upstream, proxy):
        await proxy.ask(
            b"GET /app/us/v2/customer_sessions/s HTTP/1.1\r\nHost: localhost\r\nAuthorization: ApiKey-v1 token-2\r\n"
            b"Talon-Proxy-Application: us\r\n\r\n"
        )

        (request,) = upstream.requests
        assert request.startswith(b"GET /v2/customer_sessions/s HTTP/1.1\r\n")
        assert authorizations(request) == [b"ApiKey-v1 " + US.encode()]
        assert b"token-2" not in request
        assert b"talon-proxy-application" not in request.lower()


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        (b"", 401),
        (b"Authorization: ApiKey-v1 nope\r\n", 401),
        (b"Authorization: ApiKey-v1 token-2\r\nTalon-Proxy-Application: eu\r\n", 403),
        (b"Authorization: ApiKey-v1 token-2\r\n", 200),
    ],
)
async def test_who_has_no_right_sends_nothing(lines: bytes, status: int) -> None:
    async with running(keys={"eu": EU, "us": US}, tokens={"token-1": "eu", "token-2": "us"}) as (upstream, proxy):
        answer = await proxy.ask(b"GET /v2/customer_sessions/s HTTP/1.1\r\nHost: localhost\r\n%b\r\n" % lines)

        assert int(answer[9:12]) == status
        assert len(upstream.requests) == (status == 200)
        assert b"token-" not in answer
        assert b"nope" not in answer


# --- where keys must not show ---


def reply(status: int, body: bytes = b"", *fields: tuple[bytes, bytes]) -> Reply:
    block = joined(name + b": " + value for name, value in fields)
    return Reply(status, block, body, source=Source.UPSTREAM, length=len(body), dated=True)


@pytest.mark.parametrize("status", [301, 302, 307, 400, 401, 403, 500])
def test_a_key_that_comes_back_is_masked_and_the_length_stays(status: int) -> None:
    room = credentials("eu")
    grant = room.authorise([], None, None, INTEGRATION)
    said = reply(
        status, b"<ApiKey-v1 %b>" % EU.encode(), (b"X-Echo", EU.encode()), (b"Location", b"/?k=" + EU.encode())
    )

    masked = room.keys.mask(grant, said)

    assert masked.body == b"<ApiKey-v1 " + b"*" * 64 + b">"
    assert masked.block == b"X-Echo: %b\r\nLocation: /?k=%b\r\n" % (b"*" * 64, b"*" * 64)
    assert (masked.status, masked.length, masked.source) == (status, len(said.body), Source.UPSTREAM)
    assert masked.dated


def test_other_answers_are_handed_on_as_they_are() -> None:
    room = credentials("eu", "us")
    grant = room.authorise([], b"eu", None, INTEGRATION)

    for said in (reply(200, EU.encode()), reply(404, b"no"), reply(401, US.encode())):
        assert room.keys.mask(grant, said) is said
    own = credentials("eu", inject="off")
    said = reply(401, b"theirs")
    assert own.keys.mask(own.authorise([b"ApiKey-v1 theirs"], None, None, INTEGRATION), said) is said


def test_nothing_shows_a_key() -> None:
    room = credentials("eu", "us", tokens={"the-token": "eu"}, management=True, inject="when_missing")
    grants = [
        room.authorise([b"ApiKey-v1 the-token"], None, None, INTEGRATION),
        room.authorise([b"ApiKey-v1 passed-through"], b"eu", None, INTEGRATION),
    ]
    errors: list[ProxyError] = []
    for said, header in (([b"Bearer x", b"Bearer the-token"], None), ([b"ApiKey-v1 the-token"], b"us")):
        with pytest.raises(ProxyError) as caught:
            room.authorise(said, header, None, INTEGRATION)
        errors.append(caught.value)

    shown = repr(
        [
            room,
            room.keys,
            list(room.keys.rings.values()),
            grants,
            room.applications,
            errors,
            [str(error) for error in errors],
        ]
    )
    shown += repr([to_reply(error).body for error in errors])

    for secret in (EU, US, MANAGEMENT, "the-token", "passed-through"):
        assert secret not in shown
    assert isinstance(grants[1], Grant)
    assert room.keys.hints() == {"eu": ["…0000"], "us": ["…1111"]}


async def test_connection_cannot_take_the_choice_of_an_application_away() -> None:
    """A field that is meant for us was read by us: naming it in `Connection` only keeps it from crossing (C18)."""
    keys = {"default": "a" * 64, "eu": "b" * 64}
    async with running(keys=keys) as (upstream, proxy):
        await proxy.ask(
            b"GET /v2/customer_sessions/s HTTP/1.1\r\nHost: localhost\r\n"
            b"Connection: talon-proxy-application\r\nTalon-Proxy-Application: eu\r\n\r\n"
        )

        assert b"\r\nAuthorization: ApiKey-v1 " + b"b" * 64 in upstream.requests[0]


async def test_the_id_and_the_outcome_in_an_answer_are_ours() -> None:
    async with running() as (upstream, proxy):
        upstream.answer = lambda request: (
            b"HTTP/1.1 200 OK\r\nX-Request-Id: theirs\r\nTalon-Proxy-Outcome: unknown\r\nContent-Length: 0\r\n\r\n"
        )

        answer = await proxy.ask(
            b"GET /v2/customer_sessions/s HTTP/1.1\r\nHost: localhost\r\nX-Request-Id: mine\r\n\r\n"
        )

    assert answer.lower().count(b"x-request-id") == 1
    assert b"X-Request-Id: mine\r\n" in answer
    assert b"outcome" not in answer.lower()
