"""Answers as bytes: fields as they are, framing and dates ours."""

import pytest

from proxy.fields import reply_table
from proxy.messages import Reply, Source, joined
from proxy.wire.rendering import DateLine, chunk, has_body, render_head

DATE = b"Date: Thu, 01 Jan 1970 00:00:01 GMT\r\n"
KEPT = b"Connection: keep-alive\r\n"


def reply(status: int, *lines: bytes, length: int | None = 0) -> Reply:
    crossing, noted, _ = reply_table(allow_browsers=False).sort(list(lines))
    return Reply(status, joined(crossing), b"", source=Source.UPSTREAM, length=length, dated=bool(noted))


def render(answer: Reply, own: bytes = b"") -> bytes:
    return render_head(answer, own, DateLine(lambda: 1.0), persistence=KEPT)


def test_an_answer_has_its_fields_ours_a_date_and_a_length() -> None:
    answer = reply(200, b"X-A: 1", b"x-b:2 ", length=5)

    assert render(answer, b"X-Request-Id: r\r\n") == (
        b"HTTP/1.1 200 OK\r\nX-A: 1\r\nx-b:2 \r\n" + DATE + b"Content-Length: 5\r\nX-Request-Id: r\r\n" + KEPT + b"\r\n"
    )


def test_cookies_stay_lines_of_their_own_in_their_order() -> None:
    """C22."""
    answer = reply(200, b"Set-Cookie: a=1", b"X: y", b"Set-Cookie: b=2")

    assert b"\r\nSet-Cookie: a=1\r\nX: y\r\nSet-Cookie: b=2\r\n" in render(answer)


def test_a_date_of_talon_one_is_kept() -> None:
    """C26."""
    head = render(reply(200, b"dAte: Tue, 15 Nov 1994 08:12:31 GMT"))

    assert head.lower().count(b"\r\ndate:") == 1
    assert b"\r\ndAte: Tue, 15 Nov 1994 08:12:31 GMT\r\n" in head


def test_an_unknown_length_is_not_told() -> None:
    assert b"content-length" not in render(reply(200, length=None)).lower()


@pytest.mark.parametrize(("status", "line"), [(409, b"409 Conflict"), (299, b"299 "), (599, b"599 ")])
def test_the_status_line_is_ours(status: int, line: bytes) -> None:
    """C42."""
    assert render(reply(status)).startswith(b"HTTP/1.1 " + line + b"\r\n")


@pytest.mark.parametrize(
    ("method", "status", "expected"),
    [(b"GET", 200, True), (b"HEAD", 200, False), (b"GET", 204, False), (b"GET", 304, False), (b"PUT", 409, True)],
)
def test_which_answers_have_a_body(method: bytes, status: int, expected: bool) -> None:
    """C44."""
    assert has_body(reply(status), method) is expected


def test_the_date_is_made_once_a_second() -> None:
    now = 1.0
    date = DateLine(lambda: now)

    first = date()
    now = 1.9
    assert date() is first
    now = 2.0
    assert date() == b"Date: Thu, 01 Jan 1970 00:00:02 GMT\r\n"


def test_a_chunk_has_its_size_in_hex() -> None:
    assert chunk(b"a" * 26) == b"1a\r\n" + b"a" * 26 + b"\r\n"
