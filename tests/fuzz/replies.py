"""What Talon.One may answer → what the caller gets.

The first byte says what was asked. An exchange ends at most once, with an answer that is right on the caller's wire,
or with an error. How the bytes were cut, and whether the head was seen before, changes nothing. A connection serves
again only after one whole answer and nothing else.
"""

from dataclasses import dataclass

from proxy.errors import UpstreamError
from proxy.fields import reply_table
from proxy.messages import Reply
from proxy.wire.buffers import Buffers
from proxy.wire.heads import ReplyParser
from proxy.wire.http1 import Connection, State
from proxy.wire.rendering import LAST_CHUNK, DateLine, chunk, has_body, render_head
from tests.canonical import read_answers
from tests.fuzz.target import LOOP, Target, pieces
from tests.upstream_fakes import Asked, FakeClock, FakeTransport

METHODS = (b"GET", b"HEAD", b"PUT")
LIMIT = 256  # bytes of a reply that is held
OK = b"HTTP/1.1 200 OK\r\n"
_DATE = DateLine(lambda: 0.0)
_OF_HOP = {b"trailer", b"te", b"upgrade", b"proxy-authenticate", b"keep-alive", b"proxy-connection"}


@dataclass(frozen=True)
class Told:
    """What an exchange was told, as bytes on the caller's wire or as an error, and what became of its connection."""

    wire: bytes
    error: str
    state: State


def check(data: bytes) -> None:
    """See `target.Target`."""
    LOOP.run(_check(data))


async def _check(data: bytes) -> None:
    method, said = METHODS[data[0] % len(METHODS)] if data else b"GET", data[1:]
    parser = ReplyParser(reply_table(allow_browsers=False))
    for ends in (False, True):
        whole = await _play(parser, method, [said], ends=ends)
        assert await _play(parser, method, [said], ends=ends) == whole, "the same bytes, seen before"
        assert await _play(parser, method, pieces(said), ends=ends) == whole, "the same bytes, in pieces"


async def _play(parser: ReplyParser, method: bytes, parts: list[bytes], *, ends: bool) -> Told:
    freed: list[object] = []
    lost: list[object] = []
    connection = Connection(
        FakeClock().wheel(),
        reply_limit=LIMIT,
        buffers=Buffers(1 << 30),
        parser=parser,
        freed=freed.append,
        lost=lost.append,
    )
    connection.connection_made(FakeTransport())
    asked = Asked(method).send_on(connection)
    for part in parts:
        if part and connection.state is not State.CLOSED:
            connection.data_received(part)
    if ends and connection.state is not State.CLOSED:
        connection.eof_received()
        connection.connection_lost(None)
    state = connection.state
    assert len(lost) == (state is State.CLOSED)
    # In pieces, it may have been free for a moment before more came.
    assert len(freed) <= 1
    assert state is not State.IDLE or freed
    assert asked.done or state is State.ACTIVE
    wire, error = await _told(asked, method, unfinished=state is State.ACTIVE)
    return Told(wire, error, state)


async def _told(asked: Asked, method: bytes, *, unfinished: bool) -> tuple[bytes, str]:
    if not asked.done:
        return b"", ""
    if asked._error is not None:
        assert isinstance(asked._error, UpstreamError)
        return b"", type(asked._error).__name__
    reply = asked.reply
    chunked = reply.stream is not None and reply.length is None
    lines = b"X-Own: 1\r\n" + (b"Transfer-Encoding: chunked\r\n" if chunked else b"")
    wire = render_head(reply, lines, _DATE, persistence=b"Connection: keep-alive\r\n")
    if reply.stream is not None and unfinished:
        reply.stream.abandon()
        return wire, "unfinished"
    if reply.stream is None:
        wire += reply.body if has_body(reply, method) else b""
    else:
        try:
            wire += await _rest(reply, chunked=chunked)
        except UpstreamError as error:
            # How far a broken one came depends on how it was cut; that it is broken does not.
            return b"", type(error).__name__
    _judge(wire, method)
    return wire, ""


async def _rest(reply: Reply, *, chunked: bool) -> bytes:
    assert reply.stream is not None
    rest = b"".join([piece async for piece in reply.stream])
    return chunk(rest) + LAST_CHUNK if chunked else rest


def _judge(wire: bytes, method: bytes) -> None:
    """One answer, and nothing in it that is of another hop."""
    (answer,) = read_answers(wire, lambda _: method != b"HEAD")
    names = [line.partition(b":")[0].lower() for line in answer.head.split(b"\r\n")[1:-2]]
    assert answer.status >= 200
    assert not _OF_HOP & set(names)
    assert names.count(b"connection") == 1
    assert names.count(b"date") >= 1
    assert not [name for name in names if name.startswith(b"access-control-")]


def _reply(*lines: bytes, start: bytes = OK, body: bytes = b"", asked: int = 0) -> bytes:
    return bytes((asked,)) + start + b"".join(line + b"\r\n" for line in lines) + b"\r\n" + body


TARGET = Target(
    check,
    seeds=[
        _reply(b"Content-Length: 2", b"Date: x", b"Content-Type: application/json", body=b"{}"),
        _reply(b"Content-Length: 2", body=b"", asked=1),
        _reply(b"Transfer-Encoding: chunked", b"Trailer: X", body=b"1\r\n{\r\n1;a=b\r\n}\r\n0\r\nX: y\r\n\r\n"),
        _reply(b"Content-Length: 300", b"Set-Cookie: a", b"Set-Cookie: b", body=b"x" * 300),
        _reply(b"Transfer-Encoding: chunked", body=b"12c\r\n" + b"y" * 300 + b"\r\n0\r\n\r\n"),
        _reply(body=b"until the end"),
        _reply(b"Connection: close, x", b"X: 1", b"Content-Length: 0"),
        _reply(b"Link: a", start=b"HTTP/1.1 103 Early Hints\r\n") + _reply(b"Content-Length: 0")[1:],
        _reply(start=b"HTTP/1.1 204 No Content\r\n") + b"more",
        _reply(b"Content-Length: 9", b"ETag: x", start=b"HTTP/1.1 304 Not Modified\r\n"),
        _reply(b"Upgrade: h2c", start=b"HTTP/1.1 101 Switching Protocols\r\n"),
        _reply(b"Content-Length: 0", start=b"HTTP/1.0 200 OK\r\n"),
        _reply(b"Keep-Alive: timeout=5, max=9", b"Content-Length: 000", b"Access-Control-Allow-Origin: *", asked=2),
    ],
    tokens=[
        *(b"\r\n", b"\r\n\r\n", b"\n", b"\r", b"\0", b" ", b"\t", b":", b",", b";", b"\xff", b"0\r\n\r\n", b"0\r\n"),
        *(
            OK,
            b"HTTP/1.0 200 OK\r\n",
            b"HTTP/1.1 100 Continue\r\n\r\n",
            b"HTTP/1.1 101 ",
            b"HTTP/1.1 204 ",
            b"HTTP/2.0",
        ),
        *(b"Content-Length: ", b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n", b"Transfer-Encoding: "),
        *(b"Connection: close\r\n", b"Connection: date\r\n", b"Trailer: ", b"Date: ", b"Keep-Alive: timeout=1"),
        *(
            b"chunked",
            b"gzip, chunked",
            b"ffffffffffffffff",
            b"X-Request-Id: 1\r\n",
            b"Talon-Proxy-Outcome: unknown\r\n",
        ),
    ],
    longest=2048,
)
