"""Bodies: what stands at known places of a JSON body, and the beginning of a body that may be compressed. Pure.

An update of a session has hundreds of values, and one of them is an id. To make Python objects of them all took a
quarter of a call's CPU time. msgspec reads the whole body, checks it, and makes nothing of what nobody asked for.
"""

import zlib
from collections.abc import Callable, Iterable
from typing import Any, Final, TypedDict

import msgspec

from proxy.talon.operations import Pointer

# What a reader raises: not JSON, not UTF-8, nested too deep, or something else than an object or array on the way to a
# place.
UNREADABLE: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
Reader = Callable[[bytes], object]
_ITEMS: Final = "*"
LONGEST: Final = 64 * 1024  # bytes, compressed or not, that are read of an answer


def reader(pointers: Iterable[Pointer]) -> Reader:
    """Make a function that parses a body and gives dicts and lists with no more in them than these places.

    Where a key is repeated the last one counts. Raises `UNREADABLE`.
    """
    read: Reader = msgspec.json.Decoder(_shape(list(pointers))).decode
    return read


def _shape(pointers: list[Pointer]) -> Any:
    """Make the type of what these lead to. Absent and null are allowed everywhere."""
    if () in pointers:
        return Any
    heads = {pointer[0] for pointer in pointers}
    below = {head: _shape([pointer[1:] for pointer in pointers if pointer[0] == head]) for head in heads}
    # Types of which only `operations` knows the parts, so not for the type checker.
    array: Any = list
    typed_dict: Any = TypedDict
    return (array[below[_ITEMS]] if _ITEMS in heads else typed_dict("Object", below, total=False)) | None


def plain(block: bytes, body: bytes) -> bytes:
    """Give the beginning of an answer's body, not compressed any more; nothing where it cannot be read.

    `block` is its header lines.
    """
    for line in block.lower().split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name == b"content-encoding":
            return _unpacked(value.strip(), body[:LONGEST])
    return body[:LONGEST]


def _unpacked(coding: bytes, body: bytes) -> bytes:
    # Some servers send raw deflate where HTTP means zlib's (RFC 9110 §8.4.1.2).
    windows = {b"gzip": (31,), b"x-gzip": (31,), b"deflate": (15, -15), b"identity": ()}.get(coding)
    if windows is None:
        return b""
    for window in windows:
        try:
            return zlib.decompressobj(window).decompress(body, LONGEST)
        except zlib.error:
            continue
    return b"" if windows else body
