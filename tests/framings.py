"""Framings of a request, thousands of them, and what each must become: known by how it was made, not by reading it.

A framing is the lines that say where the body ends, in spellings that have made servers disagree, and a body. Each part
carries its meaning, so that the right outcome follows from RFC 9112 §6.3 in a few lines (`Framing.outcome`) that share
nothing with the parser they judge.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum, auto

HOST = b"Host: localhost\r\n"
BEFORE = b"GET /v2/customer_sessions/before HTTP/1.1\r\n" + HOST + b"\r\n"
BEHIND = b"GET /v2/customer_sessions/behind HTTP/1.1\r\n" + HOST + b"\r\n"
TARGET = b"/v2/customer_sessions/framed"
TOO_LARGE = 1 << 62


class Says(Enum):
    """What a line says of the body."""

    NOTHING = auto()
    LENGTH = auto()
    CHUNKED = auto()
    BAD = auto()  # no server may take it


@dataclass(frozen=True, slots=True)
class Line:
    """A header line with its end. `length`: of a LENGTH."""

    text: bytes
    says: Says
    length: int = 0


@dataclass(frozen=True, slots=True)
class Body:
    """Bytes behind the head; `decoded`: read as chunks, None where they are none."""

    wire: bytes
    decoded: bytes | None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What reaches Talon.One of a framed request, and whether one behind it does."""

    body: bytes | None  # None: nothing
    behind: bool


@dataclass(frozen=True, slots=True)
class Framing:
    """One framed request."""

    lines: tuple[Line, ...]
    body: Body
    method: bytes
    old: bool  # HTTP/1.0

    @property
    def request(self) -> bytes:
        """Its bytes."""
        start = b"%b %b HTTP/1.%d\r\n" % (self.method, TARGET, not self.old)
        return start + HOST + b"".join(line.text for line in self.lines) + b"\r\n" + self.body.wire

    @property
    def outcome(self) -> Outcome:
        """RFC 9112 §6.3, where whatever is in doubt is refused; with BEHIND following."""
        said = [line.says for line in self.lines]
        lengths = [line.length for line in self.lines if line.says is Says.LENGTH]
        coded = said.count(Says.CHUNKED)
        refused = Outcome(None, behind=False)
        if Says.BAD in said or coded > 1 or len(lengths) > 1 or (coded and (lengths or self.old)):
            return refused
        if coded:
            return refused if self.body.decoded is None else self._taken(self.body.decoded, b"")
        stream = self.body.wire + BEHIND
        size = lengths[0] if lengths else 0
        return refused if size > len(stream) else self._taken(stream[:size], stream[size : -len(BEHIND)])

    def _taken(self, body: bytes, rest: bytes) -> Outcome:
        # What is left before BEHIND is no request, and what is left of BEHIND neither: nothing comes of either.
        exactly = not rest and (bool(self._coded) or len(body) == len(self.body.wire))
        return Outcome(body, behind=exactly and not self.old)

    @property
    def _coded(self) -> int:
        return sum(line.says is Says.CHUNKED for line in self.lines)


# --- parts ---

_CODING_NAMES = [
    *((name, Says.CHUNKED) for name in (b"Transfer-Encoding", b"transfer-encoding", b"TRANSFER-ENCODING")),
    *((name, Says.NOTHING) for name in (b"Transfer_Encoding", b"X-Transfer-Encoding", b"TransferEncoding", b"TE")),
    *(
        (name, Says.BAD)
        for name in (b"Transfer-Encoding ", b"Transfer-Encoding\t", b"Transfer-Encoding\0", b"Transfer\xad")
    ),
    *(
        (name, Says.BAD)
        for name in (b"Transfer Encoding", b"Transfer-Encoding\x0b", b"(Transfer-Encoding)", b"\rTransfer-Encoding")
    ),
]
_CODINGS = [
    *((value, Says.CHUNKED) for value in (b" chunked", b"chunked", b"\tchunked", b" Chunked ", b" CHUNKED")),
    *(
        (value, Says.BAD)
        for value in (
            *(b"", b" ", b" chunked,", b" , chunked", b" chunked, chunked", b" gzip, chunked", b" chunked, gzip"),
            *(b" identity", b" xchunked", b" chunkedx", b' "chunked"', b" chunked;q=1", b" chunked; a", b" chun ked"),
            *(
                b" \x0bchunked",
                b" chunked\x0c",
                b" chunked\0",
                b" \0chunked",
                b" chunk\xe9d",
                b" chunked\r x",
                b" gzip",
            ),
            b" chunked\t",  # RFC 9112 §5 allows it; llhttp does not, and nobody needs it
            *(b" chunked\r\n x", b" chunked\n", b" chunked\r", b" chunked\x7f", b" \xa0chunked", b" identity, chunked"),
        )
    ),
]
_LENGTH_NAMES = [
    *((name, Says.LENGTH) for name in (b"Content-Length", b"content-length", b"CONTENT-LENGTH", b"Content-length")),
    *((name, Says.NOTHING) for name in (b"Content_Length", b"X-Content-Length", b"ContentLength")),
    *((name, Says.BAD) for name in (b"Content-Length ", b"Content-Length\t", b"Content-Length\0", b"Content Length")),
    *((name, Says.BAD) for name in (b"\nContent-Length", b"Content-Length\x0b", b"Content-Length\xa0")),
]
# How a number may be written, and how not.
_LENGTHS = [
    *((form, Says.LENGTH) for form in (b" %d", b"%d", b"\t%d ", b" 0%d", b" 00000000%d", b" %d\t")),
    *(
        (form, Says.BAD)
        for form in (
            *(
                b" +%d",
                b" -%d",
                b" 0x%d",
                b" %d.0",
                b" %de0",
                b" %d, %d",
                b" %d,%d",
                b" %d,",
                b" ,%d",
                b" %d %d",
                b" %d;",
            ),
            *(
                b" _%d",
                b" %d_",
                b" '%d'",
                b' "%d"',
                b" %d\0",
                b" \0%d",
                b" %d\x0b",
                b" \x0c%d",
                b" \xb2%d",
                b" %d\r\n %d",
            ),
            *(b" %d\n", b" %d\r", b" %dL", b" 0b%d", b" 0o%d", b" %d\xa0", b"", b" "),
        )
    ),
    *((form, Says.BAD) for form in (b" 9999999999999999999", b" 18446744073709551617", b" 4611686018427387904")),
]
_OTHERS = [
    b"X: 1\r\n",
    b"Expect: 100-continue\r\n",
    b"Connection: content-length\r\n",
    b"Trailer: X\r\n",
    b"TE: trailers\r\n",
]
_ENDS = [*[(b"\r\n", False)] * 20, (b"\n", True), (b"\r", True), (b"\r\r\n", True)]

_DATA = b'{"a":1}'
_BODIES = [
    Body(b"", None),
    Body(b"", None),
    Body(_DATA, None),
    Body(b"0\r\n\r\n", b""),
    Body(b"000\r\n\r\n", b""),
    Body(b"7\r\n" + _DATA + b"\r\n0\r\n\r\n", _DATA),
    Body(b"7;a=b;c\r\n" + _DATA + b"\r\n0;d\r\n\r\n", _DATA),
    Body(b'7;a="b"\r\n' + _DATA + b"\r\n0\r\n\r\n", _DATA),
    Body(b"0000000000000007\r\n" + _DATA + b"\r\n0\r\n\r\n", _DATA),
    Body(b"3\r\n" + _DATA[:3] + b"\r\n4\r\n" + _DATA[3:] + b"\r\n0\r\nX: y\r\nZ:\r\n\r\n", _DATA),
    Body(b"A\r\n0\r\n\r\nGET /\r\n0\r\n\r\n", b"0\r\n\r\nGET /"),
    *(
        Body(wire, None)
        for wire in (
            *(
                b"7\r\n" + _DATA + b"\r\n0\r\n",
                b"7\r\n" + _DATA + b"\r\n",
                b"7\r\n" + _DATA,
                b"7",
                b"0",
                b"\r\n0\r\n\r\n",
            ),
            *(b"7\n" + _DATA + b"\n0\n\n", b"7\r\n" + _DATA + b"\n0\r\n\r\n", b"7\r" + _DATA + b"\r\n0\r\n\r\n"),
            *(
                b"+7\r\n" + _DATA + b"\r\n0\r\n\r\n",
                b"-7\r\n" + _DATA + b"\r\n0\r\n\r\n",
                b"0x7\r\n" + _DATA + b"\r\n0\r\n\r\n",
            ),
            *(
                b" 7\r\n" + _DATA + b"\r\n0\r\n\r\n",
                b"7 \r\n" + _DATA + b"\r\n0\r\n\r\n",
                b"7_\r\n" + _DATA + b"\r\n0\r\n\r\n",
            ),
            *(
                b"6\r\n" + _DATA + b"\r\n0\r\n\r\n",
                b"8\r\n" + _DATA + b"\r\n0\r\n\r\n",
                b"7;\n" + _DATA + b"\r\n0\r\n\r\n",
            ),
            *(
                b"00000000000000007\r\n" + _DATA + b"\r\n0\r\n\r\n",
                b"ffffffffffffffff\r\n" + _DATA,
                b"7;a\0\r\n" + _DATA,
            ),
            *(
                b"0\r\nX y\r\n\r\n",
                b"0\r\n X: y\r\n\r\n",
                b"0\r\n: y\r\n\r\n",
                b"0\r\nX: \0\r\n\r\n",
                b"0\r\nX: y\n\r\n",
                b"g\r\n",
            ),
            *(
                b"0\n\r\n",
                b"0\r\n\n",
                b"0\r\r\n\r\n",
                b"\xb27\r\n",
                b"7\x0b\r\n" + _DATA + b"\r\n0\r\n\r\n",
                b"7\r\n\r\n" + _DATA,
            ),
        )
    ),
]


def framings(count: int, seed: int) -> Iterator[Framing]:
    """Give so many framings, the same for the same seed."""
    chance = random.Random(seed)
    for _ in range(count):
        body = chance.choice(_BODIES)
        lines = [_coding(chance) for _ in range(chance.choice((0, 0, 1, 1, 1, 2)))]
        lines += [_length(chance, len(body.wire)) for _ in range(chance.choice((0, 0, 1, 1, 1, 2)))]
        lines += [Line(chance.choice(_OTHERS), Says.NOTHING)] * chance.choice((0, 0, 1))
        chance.shuffle(lines)
        yield Framing(tuple(lines), body, chance.choice((b"PUT", b"GET")), chance.random() < 0.05)


def _coding(chance: random.Random) -> Line:
    name, named = _choose(chance, _CODING_NAMES, Says.CHUNKED)
    value, valued = _choose(chance, _CODINGS, Says.CHUNKED)
    return _line(chance, name, named, value, valued, 0)


def _length(chance: random.Random, size: int) -> Line:
    name, named = _choose(chance, _LENGTH_NAMES, Says.LENGTH)
    form, valued = _choose(chance, _LENGTHS, Says.LENGTH)
    length = max(size + chance.choice((0, 0, 0, 0, 1, -1, 40)), 0)
    return _line(chance, name, named, form.replace(b"%d", b"%d" % length), valued, length)


def _choose(chance: random.Random, parts: list[tuple[bytes, Says]], plain: Says) -> tuple[bytes, Says]:
    """Every other time a part that is as it should be, or two odd ones would hide each other."""
    if chance.random() < 0.7:
        parts = [part for part in parts if part[1] is plain]
    return chance.choice(parts)


def _line(chance: random.Random, name: bytes, named: Says, value: bytes, valued: Says, length: int) -> Line:
    # A CR or LF of the value must not make a right end of a wrong one.
    end, broken = (b"\r\n", False) if value.endswith((b"\r", b"\n")) else chance.choice(_ENDS)
    says = named
    if named in (Says.LENGTH, Says.CHUNKED):
        says = valued
    elif named is Says.NOTHING and _ill_formed(value):
        says = Says.BAD  # no field may have such a value, whatever it is called
    return Line(name + b":" + value + end, Says.BAD if broken else says, length)


def _ill_formed(value: bytes) -> bool:
    return any((byte < 0x20 and byte != 0x09) or byte == 0x7F for byte in value)
