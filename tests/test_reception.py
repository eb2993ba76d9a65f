"""What is known of a call once it is understood."""

import contextlib

import pytest

from proxy.assembly import callers_of, credentials_of, routes_of
from proxy.errors import ProxyError
from proxy.messages import Call, Fields, Timeline
from proxy.reception import Reception
from tests.given import settings


@pytest.mark.parametrize(
    ("method", "target", "subject"),
    [
        (b"PUT", b"/v2/customer_sessions/s%2F1?dry=true", b"s%2F1"),
        (b"POST", b"/v2/customer_sessions/s%2F1/returns", b"s%2F1"),
        (b"GET", b"/v2/customer_sessions/s%2F1", b"s%2F1"),
        (b"GET", b"/v1/customer_profiles/jane/inventory", b"jane"),
        (b"POST", b"/v2/events?silent=yes", b""),
        (b"GET", b"/nowhere/else/than/here", b""),
    ],
)
def test_all_calls_of_a_session_have_its_id_for_a_subject(method: bytes, target: bytes, subject: bytes) -> None:
    here = settings()
    reception = Reception(routes_of(here), callers_of(here), credentials_of(here), None)
    fields = Fields(b"", [])
    fields.host = b"127.0.0.1"
    call = Call(method, target, fields, b"", Timeline(1.0, 1.0))

    with contextlib.suppress(ProxyError):
        reception.understand(call, reception.read(call))

    assert call.subject == subject
