"""What a body may hold → what it is ordered on.

The first byte chooses the operation, the second whether it comes compressed. Nothing but names or a reason comes of
it, and where names are found they are those that a plain reading of the whole body finds.
"""

import json

import orjson

from proxy.talon import conflicts, keys
from proxy.talon.keys import Unkeyed
from proxy.talon.operations import LISTED, Kind, Operation
from proxy.talon.routes import Route, Surface
from tests.fuzz.target import Target

LIMIT = 2048  # bytes of a body that is read
WITH_BODY = [operation for operation in LISTED if operation.session.pointers or operation.profile.pointers]


def check(data: bytes) -> None:
    """See `target.Target`."""
    choice, body = data[:2].ljust(2, b"\0"), data[2:]
    operation = WITH_BODY[choice[0] % len(WITH_BODY)]
    route = Route(operation, Surface.INTEGRATION, Kind.WRITE, False, (b"s",) * 4)
    encoded = choice[1] % 8 == 1
    names = keys.names(route, body, encoded=encoded, limit=LIMIT)
    keys.decides_fate(route, body, encoded=encoded, limit=LIMIT)
    keys.is_harmless_twice(route, body, encoded=encoded, limit=LIMIT)
    _classify(body)
    if operation.bulk:
        assert names is keys.NOTHING
    elif encoded or len(body) > LIMIT:
        assert names.unkeyed in (Unkeyed.COMPRESSED, Unkeyed.TOO_LARGE)
    else:
        _compare(operation, route, body, names)


def _classify(body: bytes) -> None:
    for block in (b"", b"Content-Encoding: gzip\r\n", b"content-encoding:deflate\r\n", b"Content-Encoding: br\r\n"):
        kind = conflicts.classify(block, body)
        assert isinstance(kind, conflicts.Kind)


def _compare(operation: Operation, route: Route, body: bytes, names: keys.Names) -> None:
    try:
        document = json.loads(body, parse_constant=_no_constant)
        orjson.loads(body)
    except (ValueError, RecursionError):
        return  # one of the readers refuses it; whatever was read of it, the others do not judge
    if names.unkeyed is not None:
        assert names.unkeyed is Unkeyed.SHAPE
        return
    profiles = [route.profile] if route.profile else []
    profiles += [found for pointer in operation.profile.pointers for found in _find(document, pointer) if found]
    sessions = [found for pointer in operation.session.pointers for found in _find(document, pointer) if found]
    assert list(names.profiles) == list(dict.fromkeys(profiles))
    assert names.session == (sessions[-1] if sessions else route.session)


def _no_constant(_: str) -> float:
    raise ValueError("not JSON")


def _find(value: object, pointer: tuple[str, ...]) -> list[str]:
    """Find ids in a plain reading."""
    if not pointer:
        return [value] if isinstance(value, str) else []
    if isinstance(value, list) and pointer[0] == "*":
        return [found for item in value for found in _find(item, pointer[1:])]
    return _find(value.get(pointer[0]), pointer[1:]) if isinstance(value, dict) else []


def _seed(number: int, body: object) -> bytes:
    return bytes((number, 0)) + orjson.dumps(body)


def _example(pointer: tuple[str, ...]) -> object:
    value: object = "p1"
    for name in reversed(pointer):
        value = [value, None] if name == "*" else {name: value, "state": "open"}
    return value


TARGET = Target(
    check,
    seeds=[
        *(
            _seed(number, _example(pointer))
            for number, operation in enumerate(WITH_BODY)
            for pointer in operation.session.pointers + operation.profile.pointers
        ),
        b"\0\0" + b'{"customerSession":{"profileId":"a","profileId":"b","cartItems":[{"x":1e5}]}}',
        b"\0\0" + b"[" * 600,
        b"\0\1" + b"\x1f\x8b\x08",
        b"\0\0" + b'"Too many requests are updating this session at the same time"',
    ],
    tokens=[
        *(b'"profileId":', b'"integrationId":', b'"customerSession":', b'"state":"closed"', b"null", b"\\ud800", b"{}"),
        *(b"[", b"]", b"{", b"}", b",", b'""', b"1e999", b"-0", b"NaN", b"\xff", b"\0", b'"audiencesChanges":{}'),
    ],
)
