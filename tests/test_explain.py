"""`talon-proxy explain` says what the proxy does: asked of one that runs, and shown to people and programs."""

import io
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from proxy.commands.explain import main, tell
from proxy.commands.explanation import Forwarding, Request, Verdict, explain
from proxy.settings import Settings, load
from tests.harness import KEY, running
from tests.process import Answer, talon_proxy

CART = b'{"customerSession": {"profileId": "j@x.de", "state": "open"}}'
NOBODY = "http://127.0.0.1:9"
APPLICATIONS = {"applications__eu__api_key": "eu-key-0000005555", "applications__us__api_key": "us-key-0000006666"}


def settings(url: str = NOBODY, **given: str) -> Settings:
    if not any(name.startswith("applications") for name in given):
        given["api_key"] = KEY
    variables = {f"TALON_PROXY_{name.upper()}": value for name, value in given.items()}
    return load([], variables | {"TALON_PROXY_UPSTREAM__URL": url}).settings


def forwarding(request: Request, **given: str) -> Forwarding:
    explanation = explain(settings(**given), request)
    assert explanation.verdict is Verdict.FORWARDED, explanation
    assert explanation.forwarding is not None
    return explanation.forwarding


def refusal(request: Request, **given: str) -> tuple[int | None, str]:
    explanation = explain(settings(**given), request)
    assert explanation.verdict is Verdict.REFUSED
    assert explanation.refusal is not None
    return explanation.status, explanation.refusal.details


# --- it says what the proxy does ----------------------------------------------------------------------------------

REQUESTS = [
    Request("PUT", "/v2/customer_sessions/s1", ["Content-Type: application/json"], CART),
    Request("PUT", "/v2/customer_sessions/s%2F1?dry=true&x=%20", ["Talon-Proxy-Timeout-Ms: 800"], CART),
    Request("GET", "/v2/customer_sessions/s1", ["X-Request-Id: mine", "X-Forwarded-For: 10.0.0.1", "TE: trailers"]),
    Request("HEAD", "/v2/customer_sessions/s1", ["Connection: close, X-Own", "X-Own: 1"]),
    Request("POST", "/v2/events", ["Idempotency-Key: 1", "Via: 1.1 shop"], b"{}"),
    Request("DELETE", "/v1/customer_data/j%40x.de", ["Authorization: ApiKey-v1 the-caller's"]),
    Request("GET", "/v2/never_heard_of", ["Host: 127.0.0.1:1"]),
    Request("GET", "http://localhost/v2/customer_sessions/s1"),
    Request("PUT", "/app/default/v2/customer_sessions/s1", [], CART),
    Request("GET", "/v2/customer_sessions/s1", ["Talon-Proxy-Application: default", "Upgrade: h2c"]),
    Request("GET", "/.health"),
    Request("POST", "/.health"),
    Request("OPTIONS", "*"),
    Request("OPTIONS", "/v2/customer_sessions/s1"),
    Request("OPTIONS", "/v2/customer_sessions/s1", ["Access-Control-Request-Method: PUT"]),
    Request("GET", "/v1/applications"),
    Request("GET", "/"),
    Request("GET", "/v2/customer_sessions/"),
    Request("PATCH", "/v2/customer_sessions/s1"),
    Request("BREW", "/v2/customer_sessions/s1"),
    Request("GET", "/v2/customer_sessions/a/../b"),
    Request("GET", "/v2/customer_sessions/a b"),
    Request("GET", "/v2/customer_sessions/ä"),
    Request("GET", "/v2/customer_sessions/" + "a" * 9000),
    Request("GET", "/v2/customer_sessions/s1", ["X-Long: " + "a" * 9000]),
    Request("GET", "/v2/customer_sessions/s1", ["no colon"]),
    Request("GET", "/v2/customer_sessions/s1", ["Origin: https://shop.example"]),
    Request("GET", "/v2/customer_sessions/s1", ["Sec-Fetch-Site: cross-site"]),
    Request("GET", "/v2/customer_sessions/s1", ["Host: shop.example"]),
    Request("GET", "/v2/customer_sessions/s1", ["Talon-Proxy-Application: other"]),
    Request("GET", "/v2/customer_sessions/s1", ["Talon-Proxy-Timeout-Ms: soon"]),
    Request("GET", "/v2/customer_sessions/s1", ["Talon-Proxy-Unknown: 1"]),
    Request("GET", "/v2/customer_sessions/s1", ["Via: 1.1 talon-proxy"]),
    Request("GET", "/v2/customer_sessions/s1", ["Expect: a miracle"]),
    Request("PUT", "/v2/customer_sessions/s1", ["Content-Length: 99999999999"]),
    Request("PUT", "/v2/customer_sessions/s1", ["Idempotency-Key: "], CART),
]


@pytest.mark.parametrize("request_", REQUESTS, ids=lambda request: f"{request.method} {request.target[:40]}")
async def test_it_says_what_a_running_proxy_does(request_: Request) -> None:
    async with running() as (upstream, proxy):
        url = str(proxy.generation.origin)
        raw = request_.head(f"localhost:{proxy.port}") + (request_.body or b"")
        line = await proxy.client()
        await line.send(raw)
        head = await (line.head() if request_.method == "HEAD" else line.message())
        await line.close()
    answer = Answer(head.decode("latin-1"), b"") if isinstance(head, bytes) else Answer(head[0].decode(), head[1])

    said = explain(settings(url), request_)

    if said.forwarding is not None:
        assert upstream_lines(upstream.requests[0]) == expected_lines(said.forwarding)
    else:
        assert upstream.requests == []
        assert answer.status == said.status
    if said.refusal is not None:
        error = answer.json["errors"][0]
        assert (answer.json["message"], error["details"]) == (said.refusal.message, said.refusal.details)
        assert error["source"].get("parameter") == said.refusal.parameter


def upstream_lines(request: bytes) -> list[str]:
    lines = request.partition(b"\r\n\r\n")[0].decode("latin-1").split("\r\n")
    own = [line for line in lines if line.startswith("X-Request-Id: ") and line != "X-Request-Id: mine"]
    assert f"Authorization: ApiKey-v1 {KEY}" in lines
    return sorted(line for line in lines if line not in own and not line.startswith("Authorization: "))


def expected_lines(said: Forwarding) -> list[str]:
    made = "X-Request-Id: (made for each call)"
    assert f"Authorization: ApiKey-v1 …{KEY[-4:]}" in said.lines
    return sorted(line for line in said.lines if line != made and not line.startswith("Authorization: "))


# --- what it tells ------------------------------------------------------------------------------------------------


def test_it_names_the_operation_and_what_it_does() -> None:
    write = forwarding(Request("PUT", "/v2/customer_sessions/s1", [], CART))
    dry = forwarding(Request("PUT", "/v2/customer_sessions/s1?dry=true", [], CART))
    management = forwarding(Request("GET", "/v1/applications"), management__api_key="management-key-77")

    assert (write.operation, write.kind, write.dry, write.reads) == (
        "updateCustomerSessionV2",
        "evaluate",
        False,
        False,
    )
    assert (dry.dry, dry.reads) == (True, True)
    assert (management.operation, management.api) == ("management", "management")
    assert management.application.authorization == "ManagementKey-v1 …"


def test_ids_are_decoded_and_told_with_their_place() -> None:
    names = forwarding(Request("PUT", "/v2/customer_sessions/s%2F1", [], CART)).names

    assert names.sessions == [("s/1", "path")]
    assert names.profiles == [("j@x.de", "body")]
    assert names.why is None


@pytest.mark.parametrize(
    ("request_", "why"),
    [
        (Request("PUT", "/v2/customer_sessions/s1"), "there is no body"),
        (Request("PUT", "/v2/customer_sessions/s1", [], b"{"), "the body is not JSON"),
        (Request("PUT", "/v2/customer_sessions/s1", [], b"\xff"), "the body is not JSON"),
        (Request("PUT", "/v2/customer_profiles", [], b'{"customerProfiles": [{"integrationId": "a"}]}'), "a bulk call"),
        (Request("GET", "/v1/integration/campaigns"), "this operation names none"),
    ],
)
def test_why_there_may_be_no_ids_is_told(request_: Request, why: str) -> None:
    names = forwarding(request_).names

    assert names.why is not None
    assert why in names.why


def test_ids_in_lists_are_found() -> None:
    body = b'{"integrationIDs": ["a", null, "", "b"]}'

    names = forwarding(Request("POST", "/v1/coupon_reservations/X", [], body)).names

    assert [id_ for id_, _ in names.profiles] == ["a", "b"]
    assert names.why is None


def test_where_something_else_stands_than_an_id_that_is_told() -> None:
    body = b'{"integrationIDs": ["a", {"a": 1}, "b"]}'

    names = forwarding(Request("POST", "/v1/coupon_reservations/X", [], body)).names

    assert names.why is not None
    assert "not as documented" in names.why


@pytest.mark.parametrize(
    ("target", "lines", "name", "by"),
    [
        ("/v2/events", ["Talon-Proxy-Application: us"], "us", "the header Talon-Proxy-Application"),
        ("/app/us/v2/events", [], "us", "the path"),
        ("/v2/events", ["Authorization: ApiKey-v1 a-token-of-eu"], "eu", "the client token"),
    ],
)
def test_it_tells_what_chose_the_application(target: str, lines: Sequence[str], name: str, by: str) -> None:
    tokens = {"clients__tokens": "a-token-of-eu=eu"} if "token" in by else {}

    application = forwarding(Request("POST", target, lines, b"{}"), **APPLICATIONS, **tokens).application

    assert (application.name, application.chosen_by) == (name, by)


def test_without_a_choice_it_is_the_only_one_or_default() -> None:
    request = Request("GET", "/v2/customer_sessions/s1")

    assert forwarding(request).application.chosen_by == "being the only one"
    both = {**APPLICATIONS, "applications__default__api_key": "default-key-4444"}
    assert forwarding(request, **both).application.chosen_by == "the name default"
    assert refusal(request, **APPLICATIONS) == (400, "Several Applications are configured: name one")


def test_a_testing_application_and_its_environment_are_told() -> None:
    kind = {"applications__eu__kind": "testing", "applications__eu__environment": "sandbox"}

    application = forwarding(
        Request("GET", "/v2/customer_sessions/s1"), applications__eu__api_key="eu-key-0000005555", **kind
    ).application

    assert (application.testing, application.environment) == (True, "sandbox")
    assert application.authorization == "ApiKey-v1 …5555"


def test_what_the_caller_brings_is_said_to_pass_where_it_does() -> None:
    request = Request("GET", "/v2/customer_sessions/s1", ["Authorization: ApiKey-v1 the-callers-own"])

    said = forwarding(request, clients__inject="off")

    assert said.application.authorization == "(as the caller sent it)"
    assert "the-callers-own" not in repr(said)


def test_time_outs_are_those_of_the_call() -> None:
    lines = ["Talon-Proxy-Timeout-Ms: 800"]
    given = {"upstream__timeouts__total": "20s", "upstream__timeouts__response": "4s"}

    usual = forwarding(Request("GET", "/v2/customer_sessions/s1"), **given).timeouts
    hurried = forwarding(Request("GET", "/v2/customer_sessions/s1", lines), **given).timeouts

    assert (usual.total, usual.response, usual.connect) == (20.0, 4.0, 3.0)
    assert hurried.total == 0.8


def test_the_base_path_is_asked_for_and_cut_off() -> None:
    assert refusal(Request("GET", "/v2/customer_sessions/s1"), base_path="/talon")[0] == 404
    said = forwarding(Request("GET", "/talon/v2/customer_sessions/s1"), base_path="/talon")
    assert said.lines[0] == "GET /v2/customer_sessions/s1 HTTP/1.1"


def test_no_key_is_in_what_it_tells() -> None:
    said = explain(settings(), Request("PUT", "/v2/customer_sessions/s1", [], CART))

    assert KEY not in repr(said) + "\n".join(tell(said))


def test_what_an_id_holds_does_not_steer_the_terminal() -> None:
    body = b'{"customerSession": {"profileId": "\\u001b[2J"}}'

    text = "".join(tell(explain(settings(), Request("PUT", "/v2/customer_sessions/s1", [], body))))

    assert text.isprintable()


# --- the command --------------------------------------------------------------------------------------------------


def ask(capsys: pytest.CaptureFixture[str], *arguments: str, **environ: str) -> tuple[int, str, str]:
    code = main(arguments, environ)
    said = capsys.readouterr()
    return code, said.out, said.err


def test_people_get_a_page(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "cart.json").write_bytes(CART)
    environ = {"TALON_PROXY_UPSTREAM__URL": "https://shop.example", "TALON_PROXY_API_KEY": KEY}

    code, out, err = ask(
        capsys, "PUT", "/v2/customer_sessions/s1?dry=true", "--body", str(tmp_path / "cart.json"), **environ
    )

    assert (code, err) == (0, "")
    assert out.startswith("PUT /v2/customer_sessions/s1?dry=true\nis forwarded to https://shop.example.\n")
    for part in ("updateCustomerSessionV2", "it is dry", 'session "s1" (path)', 'profile "j@x.de"', "15 s in all"):
        assert part in out
    assert "assumed" not in out


def test_programs_get_json(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = ask(capsys, "GET", "/v1/applications", "--json")

    said: Mapping[str, Any] = json.loads(out)
    assert (code, said["verdict"], said["status"], said["forwarding"]) == (0, "refused", 403, None)
    assert "management.api_key" in said["refusal"]["details"]


def test_where_nothing_is_configured_it_says_what_it_assumed(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = ask(capsys, "GET", "/v2/customer_sessions/s1")

    assert code == 0
    assert "assumed         upstream.url and api_key" in out


def test_settings_are_read_as_by_serve(capsys: pytest.CaptureFixture[str]) -> None:
    _, opened, _ = ask(capsys, "GET", "/v1/coupons/1", "--routes.extra", "GET /v1/coupons/{id}")
    assert "is forwarded" in opened

    code, out, err = ask(capsys, "GET", "/v1/coupons/1", "--routes.exta", "GET /v1/coupons/{id}")
    assert (code, out) == (2, "")
    assert "did you mean --routes.extra?" in err
    assert "upstream.url" not in err


def test_the_body_may_come_from_standard_input(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(CART)))

    _, out, _ = ask(capsys, "PUT", "/v2/customer_sessions/s1", "--body", "-")

    assert 'profile "j@x.de"' in out


def test_a_body_that_cannot_be_read_is_told(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    code, out, err = ask(capsys, "PUT", "/v2/customer_sessions/s1", "--body", str(tmp_path / "none"))

    assert (code, out) == (1, "")
    assert "No such file" in err


def test_a_line_end_cannot_be_smuggled_in(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["GET", "/v2/customer_sessions/s1", "-H", "X: 1\r\nHost: other"], {})

    assert ended.value.code == 2
    assert "is one line" in capsys.readouterr().err


async def test_it_sends_nothing_and_needs_nobody() -> None:
    ended = await talon_proxy("explain", "GET", "/.health")

    assert (ended.code, ended.err) == (0, "")
    assert "is answered by the proxy itself, with 200" in ended.out
