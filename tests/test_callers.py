"""Who may call: by the host they name, and whether they are a browser."""

import pytest

from proxy.callers import Callers
from proxy.errors import Misdirected, RefusedError
from tests.harness import running


@pytest.mark.parametrize(
    "host",
    [
        *(b"localhost", b"LOCALHOST:7410", b"localhost.", b"127.0.0.1", b"127.0.0.1:7410", b"[::1]", b"[::1]:7410"),
        *(b"10.1.2.3", b"sidecar.shop", b"Sidecar.Shop:80", b""),
    ],
)
def test_addresses_localhost_and_listed_names_pass(host: bytes) -> None:
    callers = Callers(hosts=["Sidecar.shop"])

    callers.check_host(host)
    callers.check_host(host)


@pytest.mark.parametrize(
    "host",
    [
        *(b"evil.example", b"localhost.evil.example", b"127.0.0.1.evil.example", b"evil.example:7410", b"127.1"),
        *(b"2130706433", b"0x7f.0.0.1", b"xlocalhost", b"sidecar.shop.evil", b"[evil]", b"\xff"),
    ],
)
def test_any_other_name_is_misdirected_each_time(host: bytes) -> None:
    """T14."""
    callers = Callers(hosts=["sidecar.shop"])

    for _ in range(2):
        with pytest.raises(Misdirected) as caught:
            callers.check_host(host)
        assert caught.value.status == 421


def test_what_is_remembered_is_bounded_and_what_is_not_remembered_passes_too() -> None:
    callers = Callers()

    for number in range(200):
        callers.check_host(b"10.0.0.%d" % number)
    assert len(callers._known) == 64


@pytest.mark.parametrize(
    ("origin", "fetch_site", "preflight", "passes"),
    [
        (False, None, False, True),
        (False, b"none", False, True),
        (False, b"None", False, True),
        (True, None, False, False),
        (False, b"cross-site", False, False),
        (False, b"same-origin", False, False),
        (False, b"", False, False),
        (False, None, True, False),
    ],
)
def test_web_pages_are_refused(origin: bool, fetch_site: bytes | None, preflight: bool, passes: bool) -> None:
    """T15."""
    if passes:
        Callers().check_browser(origin=origin, fetch_site=fetch_site, preflight=preflight)
    else:
        with pytest.raises(RefusedError):
            Callers().check_browser(origin=origin, fetch_site=fetch_site, preflight=preflight)
    Callers(allow_browsers=True).check_browser(origin=origin, fetch_site=fetch_site, preflight=preflight)


async def test_a_preflight_is_refused_also_after_another_call_with_the_same_fields() -> None:
    """T15: what is remembered of fields must not depend on the method they first came with."""
    head = b"%b /v2/customer_sessions/x HTTP/1.1\r\nHost: localhost\r\nAccess-Control-Request-Method: PUT\r\n\r\n"

    async with running() as (upstream, proxy):
        line = await proxy.client()
        answers = []
        for method in (b"OPTIONS", b"GET", b"OPTIONS", b"GET"):
            await line.send(head % method)
            answers.append((await line.message())[0])
        await line.close()

    assert [answer[9:12] for answer in answers] == [b"403", b"200", b"403", b"200"]
    assert len(upstream.requests) == 2
