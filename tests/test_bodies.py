"""Bodies: what is read at known places is what a parser of everything would find there."""

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.talon import bodies
from proxy.talon.operations import OPERATIONS, Pointer

POINTERS = sorted(
    {pointer for operation in OPERATIONS for pointer in operation.session.pointers + operation.profile.pointers}
)
NAMES = sorted({token for pointer in POINTERS for token in pointer if token != "*"})
_NUMBERS = st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False)
JSON = st.recursive(
    st.none() | st.booleans() | _NUMBERS | st.text(),
    lambda below: st.lists(below, max_size=4) | st.dictionaries(st.sampled_from(NAMES) | st.text(), below, max_size=4),
    max_leaves=20,
)  # fmt: skip


def pruned(value: Any, pointers: list[Pointer]) -> Any:
    """Do by hand, on everything, what a reader does."""
    if () in pointers or value is None:
        return value
    if ("*",) in [pointer[:1] for pointer in pointers]:
        if not isinstance(value, list):
            raise TypeError
        return [pruned(item, [pointer[1:] for pointer in pointers]) for item in value]
    if not isinstance(value, dict):
        raise TypeError
    return {
        name: pruned(value[name], [pointer[1:] for pointer in pointers if pointer[0] == name])
        for name in {pointer[0] for pointer in pointers} & value.keys()
    }


@given(st.sampled_from(POINTERS), JSON)
def test_what_a_reader_keeps_is_what_stands_there(pointer: Pointer, document: Any) -> None:
    try:
        expected = pruned(document, [pointer])
    except TypeError:
        with pytest.raises(bodies.UNREADABLE):
            bodies.reader([pointer])(orjson.dumps(document))
    else:
        assert bodies.reader([pointer])(orjson.dumps(document)) == expected


@pytest.mark.parametrize(
    ("body", "kept"),
    [
        (b'{"a":{"b":1,"c":2},"d":3}', {"a": {"b": 1}, "d": 3}),
        (b'{"a":{"b":1,"b":2}}', {"a": {"b": 2}}),
        (b'{"a":{"b":1},"a":{}}', {"a": {}}),
        (rb'{"\u0061":{"b":"\u00fc"}}', {"a": {"b": "ü"}}),
        (b'{"x":{"a":{"b":1}}}', {}),
        (b'{"a":{"B":1}}', {"a": {}}),
        (b"null", None),
        (b' \n{"d" : [ {"x": 1} ] }\n', {"d": [{"x": 1}]}),
        (b'{"x":"\xff","d":1}', {"d": 1}),  # what is passed over is Talon.One's to judge
    ],
)
def test_a_reader_of_two_places_keeps_these(body: bytes, kept: object) -> None:
    assert bodies.reader([("a", "b"), ("d",)])(body) == kept


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b'{"x":tru}',
        b'{"x":[1,2}',
        b'{"x":1}2',
        b'{"x":01}',
        b'{"x":"\x01"}',
        b"[]",
        b'{"a":[]}',
        b'{"a":"b"}',
        b'{"d":"\xff"}',
        b'{"d":"\xed\xa0\x80"}',
        b'{"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"d":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    ],
    ids=lambda body: body[:12].decode("latin-1"),
)
def test_what_is_not_json_or_not_of_that_shape_cannot_be_read(body: bytes) -> None:
    with pytest.raises(bodies.UNREADABLE):
        bodies.reader([("a", "b"), ("d",)])(body)
