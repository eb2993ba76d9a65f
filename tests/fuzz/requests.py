"""What a caller may send → what reaches Talon.One, and what comes back.

Talon.One gets canonical requests only, each with our key and nothing of the caller's (`through`, `canonical`). Every
answer is of the call whose turn it is. How the bytes were cut, and whether their head was seen before, changes nothing.
A call behind, where the connection stays, is read from the right byte on.
"""

import re
from dataclasses import dataclass

from proxy.wire.downstream import Phase
from proxy.wire.heads import RequestLimits
from tests.canonical import Answer, Request
from tests.fuzz.target import LOOP, Target, pieces
from tests.through import Through

S = b"/v2/customer_sessions/s"
HOST = b"Host: localhost\r\n"
BEHIND = b"GET /v2/customer_sessions/behind HTTP/1.1\r\n" + HOST + b"\r\n"
# Small, so that their bounds are met.
LIMITS = RequestLimits(head=2048, fields=16, target=256, body=512)
_OUR_ID = re.compile(rb"\r\nX-Request-Id: [0-9a-f]{12}-[0-9a-f]+(?=\r\n)")


@dataclass(frozen=True)
class Seen:
    """What one way of sending led to."""

    requests: list[tuple[bytes, bytes]]
    served: list[bool]  # of each final answer: not a refusal
    closed: bool


def check(data: bytes) -> None:
    """See `target.Target`."""
    LOOP.run(_check(data))


async def _check(data: bytes) -> None:
    through = Through(limits=LIMITS, pipeline=4)
    whole = await _play(through, [data])
    assert await _play(through, [data]) == whole, "the same bytes, seen before"
    assert await _play(through, pieces(data)) == whole, "the same bytes, in pieces"


async def _play(through: Through, parts: list[bytes]) -> Seen:
    before = len(through.requests)
    caller = through.caller()
    await caller.send(*parts)
    resting = caller.connection.phase is Phase.IDLE and not caller.connection._blank_lines and not caller.closed
    if resting:
        await caller.send(BEHIND)
    await caller.leave()
    requests = through.requests[before:]
    answers = [answer for answer in caller.answers() if not answer.interim]
    _judge(answers, requests, before)
    if resting:
        # Of the last call only it is; answers and request of what went before stay.
        assert requests[-1].target == b"/v2/customer_sessions/behind"
        assert answers[-1].status == 200
        assert answers[-1].field(b"x-number") == b"%d" % (before + len(requests) - 1)
    return Seen(
        [(_OUR_ID.sub(b"", request.head), request.body) for request in requests],
        [answer.field(b"x-number") is not None for answer in answers],
        caller.closed,
    )


def _judge(answers: list[Answer], requests: list[Request], before: int) -> None:
    """Each request was answered once, in order, to who sent it; what else was answered is a refusal of ours."""
    numbers = [int(number) for answer in answers if (number := answer.field(b"x-number")) is not None]
    assert numbers == list(range(before, before + len(requests)))
    for answer in answers:
        if answer.field(b"x-number") is None:
            # `OPTIONS *` and `/.health` are answered here.
            assert answer.status == 200 or 400 <= answer.status <= 431 or answer.status in (501, 505, 508)
        closing = answer.field(b"connection") == b"close"
        assert not closing or answer is answers[-1]


def _request(*lines: bytes, method: bytes = b"GET", target: bytes = S, body: bytes = b"") -> bytes:
    head = b"%b %b HTTP/1.1\r\n" % (method, target) + HOST
    return head + b"".join(line + b"\r\n" for line in lines) + b"\r\n" + body


TARGET = Target(
    check,
    seeds=[
        _request(),
        _request(method=b"HEAD") + _request(b"Connection: close"),
        _request(b"Content-Length: 2", method=b"PUT", body=b"{}") + _request(),
        _request(
            b"Transfer-Encoding: chunked",
            b"Trailer: X",
            method=b"PUT",
            body=b"1\r\n{\r\n1;a=b\r\n}\r\n0\r\nX: y\r\n\r\n",
        )
        + _request(),
        _request(b"Expect: 100-continue", b"Content-Length: 3", method=b"PUT", body=b"{ }"),
        _request(b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABk"),
        _request(b"Authorization: ApiKey-v1 x", b"X_Forwarded-For: a", b"Via: 1.1 a", b"Connection: x, y", b"X: 1"),
        b"\r\n" + _request(target=b"http://localhost" + S + b"?a=%20") + b"\r\n\r\n" + _request(),
        b"OPTIONS * HTTP/1.1\r\n" + HOST + b"Max-Forwards: 0\r\n\r\n" + _request(target=b"/.health"),
        b"GET " + S + b" HTTP/1.0\r\n\r\n",
        _request(
            b"Accept-Encoding: gzip;q=0, br",
            b"Idempotency-Key: k",
            b"Content-Type: application/json",
            b"Content-Length: 00",
            method=b"POST",
            target=b"/v2/events?dry=true",
        ),
        _request(b"Talon-Proxy-Timeout-Ms: 5", b"Talon-Proxy-Coalesce: no", b"Origin: x", target=b"/app/default" + S),
    ],
    tokens=[
        *(b"\r\n", b"\r\n\r\n", b"\n", b"\r", b"\0", b" ", b"\t", b"\x0b", b":", b",", b";", b"\xff", b"0\r\n\r\n"),
        *(b"GET ", b"HEAD ", b"PUT ", b"POST ", b"OPTIONS ", b"CONNECT ", b" HTTP/1.1\r\n", b" HTTP/1.0\r\n"),
        *(b"Content-Length: ", b"Content-Length: 5\r\n", b"content_length: 1\r\n", b"Transfer-Encoding: chunked\r\n"),
        *(b"Transfer-Encoding: ", b"transfer_encoding: chunked\r\n", b"chunked", b"identity", b"gzip, chunked"),
        *(b"Host: localhost\r\n", b"Host: evil.example\r\n", b"Connection: close\r\n", b"Connection: keep-alive\r\n"),
        *(b"Connection: content-length\r\n", b"Upgrade: h2c\r\n", b"Expect: 100-continue\r\n", b"Via: 1.1 talon-proxy"),
        *(
            b"Authorization: ",
            b"X-Request-Id: ",
            b"Max-Forwards: 0\r\n",
            b"Keep-Alive: ",
            b"Trailer: ",
            b"TE: trailers",
        ),
        *(b"http://localhost/", b"https://evil.example/", b"//", b"/../", b"%2e%2e", b"%2f", b"\\", b"#", b"*", S),
    ],
    longest=2048,
)
