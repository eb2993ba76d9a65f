"""Bodies: of a JSON body is kept what stands at known places, and the way there. Pure.

An update of a session has hundreds of values, and one of them is an id. To make Python objects of them all took a
quarter of a call's CPU time. msgspec reads the whole body, checks it, and makes nothing of what nobody asked for.
"""

from collections.abc import Callable, Iterable
from typing import Any, Final, TypedDict

import msgspec

from proxy.talon.operations import Pointer

# What a reader raises: not JSON, not UTF-8, nested too deep, or something else than an object or array on the way to a
# place.
UNREADABLE: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
Reader = Callable[[bytes], object]
_ITEMS: Final = "*"


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
