"""Heads between the two spellings: lines as HTTP/1.1 has them, which is how they cross this proxy, and HTTP/2's fields.

RFC 9113 §8.2, §8.3: names in lower case, pseudo-header fields first, nothing that concerns one hop only. Requests have
lost that already (`fieldtable`); in replies it makes the message malformed, which is the end of its stream alone. Pure.
"""

import re
from typing import Final

from proxy.wire.fieldtable import STEADY, FieldTable
from proxy.wire.heads import MAX_REPLY_FIELDS, ReplyFields, ReplyHead, bad_reply, remember
from proxy.wire.hpack import SECRET, Field, indexed_name, literal_name, string

_STATUS: Final = re.compile(rb"[1-5][0-9]{2}")
_NAME: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9a-z]+")
_VALUE: Final = re.compile(rb"(?:[\x21-\x7e\x80-\xff](?:[\t\x20-\x7e\x80-\xff]*[\x21-\x7e\x80-\xff])?)?")
_OF_CONNECTION: Final = frozenset(
    {b"connection", b"keep-alive", b"proxy-connection", b"te", b"transfer-encoding", b"upgrade"}
)

# Indexes of the static table (RFC 7541, appendix A); `Host` becomes `:authority`.
_METHOD: Final = 2
_PATH: Final = indexed_name(4, secret=True)
_WHOLE: Final = {b"GET": b"\x82", b"POST": b"\x83"}  # methods that stand there with their value
_SCHEMES: Final = {b"http": b"\x86", b"https": b"\x87"}
_INDEXES: Final = {b"host": 1, b"authorization": 23, b"content-length": 28, b"content-type": 31, b"cookie": 32}
_KEPT: Final = STEADY | {b"via"}
_REMEMBERED: Final = 2048  # lines, and names
_LONGEST_REMEMBERED: Final = 256  # bytes


class RequestBlocks:
    """Makes header blocks of requests; remembers the lines of which many calls have the same."""

    def __init__(self, scheme: bytes) -> None:
        self._methods: dict[bytes, bytes] = {}
        self._scheme = _SCHEMES[scheme]
        self._lines: dict[bytes, bytes] = {}
        self._names: dict[bytes, bytes] = {}  # how a field of this name begins

    def encode(self, head: bytes) -> bytes:
        """Give the block of a request's head, which is right as HTTP/1.1, has `Host` first and its empty line last."""
        lines = head.split(b"\r\n")
        method, target, _ = lines[0].split(b" ")
        block = [self._method(method) + _PATH + string(target)]
        find = self._lines.get
        block += [find(line) or self._field(line) for line in lines[1:-2]]
        return b"".join(block)

    def _method(self, method: bytes) -> bytes:
        known = self._methods.get(method)
        if known is None:
            # `heads.METHODS` are all there are.
            known = (_WHOLE.get(method) or indexed_name(_METHOD, secret=False) + string(method)) + self._scheme
            self._methods[method] = known
        return known

    def _field(self, line: bytes) -> bytes:
        name = line[: line.index(b":")]
        block = (self._names.get(name) or self._name(name)) + string(line[len(name) + 1 :].strip())
        if not block[0] & SECRET and len(line) <= _LONGEST_REMEMBERED and len(self._lines) < _REMEMBERED:
            self._lines[line] = block
        return block

    def _name(self, name: bytes) -> bytes:
        lower = name.lower()
        # Others differ from call to call, or are nobody's business: not kept, here or in anybody's table.
        secret = lower not in _KEPT
        index = _INDEXES.get(lower)
        start = literal_name(lower, secret=secret) if index is None else indexed_name(index, secret=secret)
        if len(name) <= _LONGEST_REMEMBERED and len(self._names) < _REMEMBERED:
            self._names[name] = start
        return start


class ReplyHeads:
    """Makes heads of replies; remembers those it has seen, which differ in the length of the body, if in anything."""

    def __init__(self, table: FieldTable) -> None:
        """`table` notes `Date` and nothing else."""
        self._table = table
        self._seen: dict[tuple[Field, ...], ReplyHead] = {}

    def read(self, fields: list[Field]) -> ReplyHead:
        """Read a head. Raises BadReply where it is malformed."""
        if not fields or fields[0][0] != b":status":
            raise bad_reply("The head does not begin with a status")
        length: int | None = None
        others: list[Field] = []
        for field in fields:
            if field[0] == b"content-length":
                length = _length(field[1], length)
            else:
                others.append(field)
        key = tuple(others)
        seen = self._seen.get(key)
        if seen is None:
            seen = self._read(others)
            remember(self._seen, key, b"\r\n" + seen.fields.block, seen)
        return seen if length is None else ReplyHead(seen.status, seen.fields, length)

    def _read(self, fields: list[Field]) -> ReplyHead:
        if not _STATUS.fullmatch(fields[0][1]):
            raise bad_reply("The status is not one of HTTP")
        status = int(fields[0][1])
        if status == 101:
            raise bad_reply("HTTP/2 has no 101")  # RFC 9113 §8.6
        if len(fields) > MAX_REPLY_FIELDS:
            raise bad_reply("Too many header fields")
        crossing, noted, _ = self._table.sort([_line(name, value) for name, value, _ in fields[1:]])
        return ReplyHead(status, ReplyFields(crossing, noted, keeps=True), None)


def check_trailers(fields: list[Field]) -> None:
    """Check trailers, which are then dropped (RFC 9110 §6.5.1). Raises BadReply."""
    for name, value, _ in fields:
        _line(name, value)


def _line(name: bytes, value: bytes) -> bytes:
    if not _NAME.fullmatch(name):
        # A second :status, a pseudo-header field of requests, or one behind other fields: RFC 9113 §8.3.
        raise bad_reply("A field's name is not valid in HTTP/2")
    if name in _OF_CONNECTION:
        raise bad_reply("A field of HTTP/1.1 connections has no place in HTTP/2")
    if not _VALUE.fullmatch(value):
        raise bad_reply("A field's value has characters that none may have")
    return b"%b: %b" % (name, value)


def _length(value: bytes, before: int | None) -> int:
    if before is not None or not value.isdigit() or len(value) > 18:
        raise bad_reply("Content-Length is not one decimal number")
    return int(value)
