"""What Talon.One may say in HTTP/2 → what three exchanges are told, and what is written back.

Bytes are either what the peer sends, or (first byte odd) a list of frames whose heads are put right, so that the
fuzzer gets behind them. No exchange is told twice; with the connection closed none is left without an end. What we
write are whole frames of a client. How the bytes were cut changes nothing.
"""

from dataclasses import dataclass

from proxy.errors import UpstreamError
from proxy.fields import reply_table
from proxy.wire import h2frames
from proxy.wire.buffers import Buffers
from proxy.wire.h2fields import ReplyHeads, RequestBlocks
from proxy.wire.h2frames import HEAD, LEAST_FRAME, PREFACE
from proxy.wire.hpack import string
from proxy.wire.http2 import Connection, State
from proxy.wire.rendering import DateLine, has_body, render_head
from tests.canonical import read_answers
from tests.fuzz.target import LOOP, Target, pieces
from tests.upstream_fakes import Asked, FakeClock, FakeTransport

LIMIT = 256  # bytes of a reply that is held
CALLS = ((b"GET", b""), (b"HEAD", b""), (b"PUT", b"x" * 70_000))
SETTINGS = h2frames.render(h2frames.SETTINGS, 0, 0)
_DATE = DateLine(lambda: 0.0)
_STREAMS = (0, 1, 3, 5, 7, 2, 1 << 30)


@dataclass(frozen=True)
class Told:
    """What the exchanges were told, what was written, and what became of the connection."""

    answers: list[tuple[bytes, str]]
    written: bytes
    state: State


def check(data: bytes) -> None:
    """See `target.Target`."""
    said = _frames(data[1:]) if data and data[0] & 1 else data[1:]
    LOOP.run(_check(SETTINGS + said))


def _frames(data: bytes) -> bytes:
    """Read `kind, flags, stream, size, payload…` as frames."""
    frames = []
    while len(data) >= 4:
        kind, flags, stream, size = data[:4]
        payload, data = data[4 : 4 + size], data[4 + size :]
        frames.append(h2frames.render(kind % 12, flags, _STREAMS[stream % len(_STREAMS)], payload))
    return b"".join(frames)


async def _check(said: bytes) -> None:
    whole = await _play([said])
    assert await _play(pieces(said)) == whole, "the same bytes, in pieces"


async def _play(parts: list[bytes]) -> Told:
    lost: list[object] = []
    transport = FakeTransport()
    connection = Connection(
        FakeClock().wheel(),
        reply_limit=LIMIT,
        buffers=Buffers(1 << 30),
        blocks=RequestBlocks(b"https"),
        heads=ReplyHeads(reply_table(allow_browsers=False)),
        freed=lambda _: None,
        changed=lambda _: None,
        lost=lost.append,
    )
    connection.connection_made(transport)
    asked: list[Asked] = []
    for part in (SETTINGS, *_behind(parts)):
        if connection.state is not State.CLOSED:
            connection.data_received(part)
            assert len(connection._frames._data) - connection._frames._position < LEAST_FRAME + HEAD
        if not asked and connection.state is State.SERVING:
            asked = [Asked(method, body).send_on(connection) for method, body in CALLS]
    state = connection.state
    assert len(lost) == (state is State.CLOSED)
    assert state is not State.CLOSED or all(one.done for one in asked)
    _judge_written(transport.written)
    answers = [_told(one) for one in asked]
    connection.close(connection.closing or connection._leaving_for)
    return Told(answers, transport.written, state)


def _behind(parts: list[bytes]) -> list[bytes]:
    """What comes behind the peer's settings, which were taken by themselves so that calls could begin."""
    skipped = len(SETTINGS)
    rest = []
    for part in parts:
        rest.append(part[skipped:])
        skipped = max(skipped - len(part), 0)
    return [part for part in rest if part]


def _told(asked: Asked) -> tuple[bytes, str]:
    if not asked.done:
        return b"", ""
    if asked._error is not None:
        assert isinstance(asked._error, UpstreamError)
        return b"", f"{type(asked._error).__name__} {asked._error.sent}"
    reply = asked.reply
    wire = render_head(reply, b"", _DATE, persistence=b"")
    if reply.stream is not None:
        reply.stream.abandon()
        return wire, "stream"
    wire += reply.body if has_body(reply, asked.method) else b""
    (answer,) = read_answers(wire, lambda _: asked.method != b"HEAD")
    assert answer.status >= 200
    return wire, ""


def _judge_written(written: bytes) -> None:
    """Whole frames of a client, SETTINGS first; of bodies no more than there is."""
    assert written.startswith(PREFACE)
    position, opened, bodies = len(PREFACE), False, 0
    while position < len(written):
        size = int.from_bytes(written[position : position + 3], "big")
        kind = written[position + 3]
        assert kind <= h2frames.CONTINUATION
        assert opened or kind == h2frames.SETTINGS
        opened = True
        bodies += size if kind == h2frames.DATA else 0
        position += HEAD + size
    assert position == len(written)
    assert bodies <= len(CALLS[2][1])


def _entry(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return bytes((kind, flags, stream, len(payload))) + payload


def _block(*fields: tuple[bytes, bytes]) -> bytes:
    return b"".join(b"\0" + string(name) + string(value) for name, value in fields)


_OK = b"\x88" + _block((b"content-length", b"2"), (b"date", b"x"))
_FRAMES = bytes((1,))

TARGET = Target(
    check,
    seeds=[
        _FRAMES + _entry(h2frames.HEADERS, 4, 1, _OK) + _entry(h2frames.DATA, 1, 1, b"{}"),
        _FRAMES + _entry(h2frames.HEADERS, 5, 2, _OK) + _entry(h2frames.HEADERS, 5, 3, b"\x89"),
        _FRAMES
        + _entry(h2frames.HEADERS, 4, 3, b"\x88")
        + _entry(h2frames.DATA, 0, 3, b"y" * 200)
        + _entry(h2frames.DATA, 1, 3, b"y" * 200),
        _FRAMES + _entry(h2frames.HEADERS, 0, 1, _OK[:3]) + _entry(h2frames.CONTINUATION, 4, 1, _OK[3:]),
        _FRAMES
        + _entry(h2frames.HEADERS, 4, 1, b"\x88")
        + _entry(h2frames.DATA, 8, 1, b"\x02{}\0\0")
        + _entry(h2frames.HEADERS, 5, 1, _block((b"x-trailer", b"y"))),
        _FRAMES + _entry(h2frames.SETTINGS, 0, 0, b"\0\4\0\0\xff\xff\0\3\0\0\0\1\0\5\0\0\x40\0"),
        _FRAMES + _entry(h2frames.PING, 0, 0, b"12345678") + _entry(h2frames.WINDOW_UPDATE, 0, 0, b"\0\1\0\0"),
        _FRAMES + _entry(h2frames.WINDOW_UPDATE, 0, 3, b"\0\1\0\0") + _entry(h2frames.RST_STREAM, 0, 3, b"\0\0\0\7"),
        _FRAMES + _entry(h2frames.GOAWAY, 0, 0, b"\0\0\0\1\0\0\0\0") + _entry(h2frames.HEADERS, 5, 1, _OK),
        _FRAMES + _entry(h2frames.HEADERS, 0x24, 1, b"\0\0\0\0\x10" + _block((b":status", b"103"))),
        _FRAMES + _entry(h2frames.PUSH_PROMISE, 4, 1, b"\0\0\0\2") + _entry(h2frames.PRIORITY, 0, 1, b"\0\0\0\0\1"),
        bytes((0,)) + h2frames.headers(1, _OK, ends_stream=False, limit=LEAST_FRAME) + h2frames.goaway(0),
    ],
    tokens=[
        *(_block((b":status", b"200")), _block((b"content-length", b"5")), _block((b"connection", b"close"))),
        *(
            _block((b"transfer-encoding", b"chunked")),
            _block((b"te", b"x")),
            _block((b"x", b"a\r\nb")),
            b"\x88",
            b"\x89",
        ),
        *(b"\x3f\xe1\x1f", b"\x20", b"\xbe", b"\xff\xff\xff\x0f", b"\x40\x01x\x01y", b"\x10\x01X\x00", b"\x82\x86"),
    ],
)
