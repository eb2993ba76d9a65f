"""HPACK header blocks of one connection → their fields, as another decoder has them (`hpack`, in Python).

The input is blocks, each with its length before it. A block is refused as a Violation and by nothing else; where both
decoders take it, they agree, and go on agreeing with the tables that it left.
"""

import hpack

from proxy.wire.h2frames import Violation
from proxy.wire.hpack import MOST_FIELDS, MOST_LIST, Decoder, string
from tests.fuzz.target import Target


def check(data: bytes) -> None:
    """See `target.Target`."""
    ours = Decoder()
    theirs = hpack.Decoder(max_header_list_size=MOST_LIST)
    while data:
        size = int.from_bytes(data[:2], "big") % 1024
        block, data = data[2 : 2 + size], data[2 + size :]
        try:
            fields = ours.decode(block)
        except Violation:
            return
        assert len(fields) <= MOST_FIELDS
        assert sum(len(name) + len(value) for name, value, _ in fields) <= MOST_LIST
        try:
            others = theirs.decode(block, raw=True)
        except (hpack.HPACKError, UnicodeDecodeError):
            return
        assert [(name, value) for name, value, _ in fields] == [(bytes(name), bytes(value)) for name, value in others]


def _sized(*blocks: bytes) -> bytes:
    return b"".join(len(block).to_bytes(2, "big") + block for block in blocks)


_NEW = b"\x40" + string(b"x-a") + string(b"1")

TARGET = Target(
    check,
    seeds=[
        _sized(b"\x88", b"\x82\x86\x84"),
        _sized(_NEW, b"\xbe", b"\xbe\xbe"),
        _sized(b"\x3f\xe1\x1f" + _NEW, b"\x20\xbe"),
        _sized(b"\0" + string(b"a") + string(b"b" * 200), b"\x10" + string(b"c") + string(b"")),
        _sized(b"\x0f\x0d\x021", b"\x41\x8c\xf1\xe3\xc2\xe5\xf2\x3a\x6b\xa0\xab\x90\xf4\xff"),
        _sized(_NEW * 40, b"\xff\x00" * 10, b"\x20", b"\x3f\x61"),
    ],
    tokens=[
        b"\x40\x01x\x01y",
        b"\xbe",
        b"\x20",
        b"\x3f\xe1\x1f",
        b"\xff\xff\xff\x0f",
        b"\x84\xff\xff\xff\xff",
        b"\x82",
    ],
    longest=1024,
)
