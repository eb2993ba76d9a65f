"""What may be on the wire on either side of the proxy, read by a strict reader that shares no code with it.

Requests as Talon.One gets them have one form; answers as callers get them have one too. Whatever was sent to the proxy,
anything else is a defect of it.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

_TOKEN = rb"[!#$%&'*+.^_`|~\w-]+"
# Lines of callers cross byte for byte, with the whitespace that RFC 9112 §5 allows around a value; ours have one form.
_REQUEST = re.compile(
    rb"(?:GET|HEAD|POST|PUT|DELETE|PATCH|OPTIONS) /[!-~]* HTTP/1\.1\r\n"
    rb"Host: [\w.-]+(?::\d+)?\r\n(?:" + _TOKEN + rb":[^\0-\x08\x0a-\x1f\x7f]*\r\n)+\r\n"
)
_ANSWER = re.compile(rb"HTTP/1\.1 [1-5]\d\d [^\0-\x1f\x7f]*\r\n(?:" + _TOKEN + rb":[^\0-\x08\x0a-\x1f\x7f]*\r\n)*\r\n")
_OURS_ONLY = {
    b"content-length": re.compile(rb"Content-Length: (?:0|[1-9]\d*)"),
    b"authorization": re.compile(rb"Authorization: (?:ApiKey|ManagementKey)-v1 [!-~]+"),
}
_MOST = {b"host": 1, b"authorization": 1, b"content-length": 1, b"transfer-encoding": 0}
_OF_A_HOP = {b"connection", b"upgrade", b"te", b"trailer", b"expect", b"proxy-authorization", b"keep-alive"}


def smuggled(request: bytes) -> str:
    """Say what is wrong with a request as Talon.One got it, or nothing."""
    head = request.partition(b"\r\n\r\n")[0] + b"\r\n\r\n"
    lines = head.split(b"\r\n")[1:-2]
    # As a lax server might read them.
    names = [line.partition(b":")[0].lower().replace(b"_", b"-") for line in lines]
    if not _REQUEST.fullmatch(head) or b"#" in head.split(b" ")[1]:
        return f"not canonical: {head!r}"
    for name, most in _MOST.items():
        if names.count(name) > most:
            return f"{names.count(name)} of {name!r}"
    for line in lines:
        ours = _OURS_ONLY.get(line.partition(b":")[0].lower())
        if ours is not None and not ours.fullmatch(line):
            return f"not canonical: {line!r}"
    hop = _OF_A_HOP & set(names)
    return f"crossed: {hop}" if hop else ""


@dataclass(frozen=True, slots=True)
class Request:
    """One request as Talon.One got it."""

    head: bytes
    body: bytes

    @property
    def method(self) -> bytes:
        """Of the request line."""
        return self.head.split(b" ", 1)[0]

    @property
    def target(self) -> bytes:
        """Of the request line."""
        return self.head.split(b" ", 2)[1]

    def field(self, name: bytes) -> bytes | None:
        """The value of a field; None where there is none."""
        found = re.search(rb"(?i)\r\n%b:[ \t]*(.*?)[ \t]*\r\n" % re.escape(name), self.head)
        return found[1] if found else None


def read_request(data: bytes) -> tuple[Request | None, bytes]:
    """Read one request off the front; gives it, or None where it is not whole yet, and what is left."""
    head, end, rest = data.partition(b"\r\n\r\n")
    if not end:
        return None, data
    wrong = smuggled(head + end)
    assert not wrong, wrong
    request = Request(head + end, b"")
    length = int(request.field(b"content-length") or 0)
    return (None, data) if len(rest) < length else (Request(request.head, rest[:length]), rest[length:])


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer as a caller got it."""

    status: int
    head: bytes
    body: bytes

    def field(self, name: bytes) -> bytes | None:
        """The value of a field; None where there is none."""
        found = re.search(rb"(?i)\r\n%b:[ \t]*(.*?)[ \t]*\r\n" % re.escape(name), self.head)
        return found[1] if found else None

    @property
    def interim(self) -> bool:
        """1xx: the answer is still to come."""
        return self.status < 200


def read_answers(data: bytes, has_body: Callable[[int], bool]) -> list[Answer]:
    """Read whole answers, each with a length or chunked as we write it. `has_body`: of the so manieth final one."""
    answers: list[Answer] = []
    final = 0
    while data:
        head, end, data = data.partition(b"\r\n\r\n")
        head += end
        assert _ANSWER.fullmatch(head), head
        status = int(head[9:12])
        body = b""
        lengths = re.findall(rb"(?im)^content-length:(.*)\r$", head)
        codings = re.findall(rb"(?im)^transfer-encoding:(.*)\r$", head)
        assert len(lengths) + len(codings) <= 1, head
        assert not (lengths or codings) or (status >= 200 and status != 204), head
        if status >= 200:
            if has_body(final) and status not in (204, 304):
                assert lengths or codings, head
                body, data = _chunked(data) if codings else (data[: int(lengths[0])], data[int(lengths[0]) :])
                assert codings or len(body) == int(lengths[0]), "cut short"
            final += 1
        answers.append(Answer(status, head, body))
    return answers


def _chunked(data: bytes) -> tuple[bytes, bytes]:
    body = b""
    while True:
        line, end, data = data.partition(b"\r\n")
        assert end, "cut short"
        assert re.fullmatch(rb"0|[1-9a-f][0-9a-f]*", line), line
        size = int(line, 16)
        body += data[:size]
        assert data[size : size + 2] == b"\r\n", "cut short"
        data = data[size + 2 :]
        if not size:
            return body, data
