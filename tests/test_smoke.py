"""One call from end to end."""

from tests.harness import KEY, running


async def test_a_call_reaches_talon_one_signed_and_comes_back() -> None:
    async with running() as (upstream, proxy):
        answer = await proxy.ask(b"GET /v2/customer_sessions/a%2Fb HTTP/1.1\r\nHost: localhost\r\n\r\n")

        assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
        assert answer.endswith(b"\r\n\r\nOK")
        assert upstream.requests[0].startswith(b"GET /v2/customer_sessions/a%2Fb HTTP/1.1\r\nHost: 127.0.0.1:")
        assert b"\r\nAuthorization: ApiKey-v1 %b\r\n" % KEY.encode() in upstream.requests[0]
