"""Header blocks (HPACK, RFC 7541): fields → bytes by our own few rules, bytes → fields by a library.

Outbound, every field is a literal that enters no table. That makes a field's bytes the same on every connection, so
that they can be kept; and a key or an id that is in no table cannot be guessed at through the size of what is sent
(RFC 7541 §7.1). It costs 150 bytes per call more than a table would, and 1.3 µs less.

Inbound, jh2's Rust decoder takes 1.1 µs for the eight fields of an answer, `hpack` (pure Python) 15.7 (encoding a
request: 2.9 and 43). It trusts its input: a block that ends too early makes it panic, and neither the number of fields
nor the place of a table update is checked. So a block is walked over first (0.3 µs). Not checked by anybody are the
bits that fill the last octet of a Huffman code: they are no part of the value.
"""

from typing import Final

from jh2._hazmat import Decoder as _Library  # the package's public name is that of its Python twin
from jh2._hazmat import HPACKError, OversizedHeaderListError

from proxy.wire.h2frames import Code, Violation

Field = tuple[bytes, bytes, bool]  # name, value, and whether it must never be indexed

MOST_FIELDS: Final = 129  # of a block: those that an answer may have, and its status
MOST_LIST: Final = 65536  # bytes of all names and values, decompressed
SECRET: Final = 0x10  # set in the first octet of a field that nobody may put into a table
_SIZES: Final = [bytes((size,)) for size in range(127)]


# --- encoding ---


def literal_name(name: bytes, *, secret: bool) -> bytes:
    """Begin a field that enters no table; `secret`: neither does it at whoever hands it on. Its value follows."""
    return bytes((SECRET if secret else 0,)) + string(name)


def indexed_name(index: int, *, secret: bool) -> bytes:
    """Begin a field whose name stands in the static table (RFC 7541, appendix A)."""
    return _integer(index, 4, SECRET if secret else 0)


def string(text: bytes) -> bytes:
    """Give a string, not in a Huffman code."""
    size = len(text)
    return (_SIZES[size] if size < 127 else _integer(size, 7, 0)) + text


def _integer(number: int, bits: int, first: int) -> bytes:
    """RFC 7541 §5.1: an integer behind the bits of `first`."""
    most = (1 << bits) - 1
    if number < most:
        return bytes((first | number,))
    number -= most
    octets = [first | most]
    while number >= 128:
        octets.append(number & 0x7F | 0x80)
        number >>= 7
    octets.append(number)
    return bytes(octets)


# --- decoding ---


class Decoder:
    """Decodes the header blocks of one connection, all of them, in their order."""

    def __init__(self) -> None:
        self._library = _Library(MOST_LIST)

    def decode(self, block: bytes) -> list[Field]:
        """Give the fields. Raises Violation: after that the tables of both sides may differ."""
        walk(block)
        try:
            fields: list[Field] = self._library.decode(block, True)
        except OversizedHeaderListError as error:
            raise Violation(Code.ENHANCE_YOUR_CALM, "A header list is too large") from error
        except HPACKError as error:
            raise Violation(Code.COMPRESSION_ERROR, "A header block cannot be decoded") from error
        except BaseException as error:
            # How a panic in Rust comes out: no Exception, of a class that has no importable name.
            if type(error).__name__ != "PanicException":
                raise
            raise Violation(Code.COMPRESSION_ERROR, "A header block cannot be decoded") from error
        return fields


def walk(block: bytes) -> None:
    """See that a block is whole, that tables are resized at its start only, and how many fields it has."""
    position, end = 0, len(block)
    fields = 0
    while position < end:
        first = block[position]
        if first & 0x80:  # indexed
            position = _skip_integer(block, position, 0x7F)
        elif first & 0xE0 == 0x20:
            if fields:
                raise Violation(Code.COMPRESSION_ERROR, "A table is resized within a header block")
            position = _skip_integer(block, position, 0x1F)
            continue
        else:
            mask = 0x3F if first & 0x40 else 0x0F
            named = first & mask
            position = _skip_integer(block, position, mask)
            if not named:
                position = _skip_string(block, position)
            position = _skip_string(block, position)
        fields += 1
        if fields > MOST_FIELDS:
            raise Violation(Code.ENHANCE_YOUR_CALM, "A header block has too many fields")
    if position > end:
        raise _cut_short()


def _skip_integer(block: bytes, position: int, mask: int) -> int:
    if position >= len(block):
        raise _cut_short()
    if block[position] & mask != mask:
        return position + 1
    return _read_long(block, position, mask)[1]


def _skip_string(block: bytes, position: int) -> int:
    if position >= len(block):
        raise _cut_short()
    size = block[position] & 0x7F
    if size != 0x7F:
        return position + 1 + size
    size, position = _read_long(block, position, 0x7F)
    return position + size


def _read_long(block: bytes, position: int, mask: int) -> tuple[int, int]:
    """Read an integer that goes on behind its first octet; gives it, and where it ends."""
    number, shift = mask, 0
    while True:
        position += 1
        if position >= len(block):
            raise _cut_short()
        octet = block[position]
        number += (octet & 0x7F) << shift
        if not octet & 0x80:
            return number, position + 1
        shift += 7
        if shift > 21:  # no size and no index here is that large
            raise Violation(Code.COMPRESSION_ERROR, "A number in a header block is too large")


def _cut_short() -> Violation:
    return Violation(Code.COMPRESSION_ERROR, "A header block is cut short")
