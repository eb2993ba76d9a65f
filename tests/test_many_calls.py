"""The short form of `tests.soak`: many calls, few connections, nothing lost, nothing kept."""

import pytest

from tests.load import whole
from tests.soak import WARM, soak

CALLS = 10_000
CONNECTIONS = 64
MEGABYTE = 1_000_000


async def test_ten_thousand_calls_need_no_more_connections_than_there_are_callers() -> None:
    found = await soak(CALLS, CONNECTIONS, tls=True)

    assert (found.calls, dict(found.errors)) == (CALLS, {})
    assert found.opened == found.accepted
    assert found.opened <= CONNECTIONS + WARM + found.renewed
    # Of the calls after each caller's first, which may need a connection of its own.
    assert 1 - max(found.opened - CONNECTIONS - WARM, 0) / (CALLS - CONNECTIONS) >= 0.999
    # One call's request and answer are 3 kB: 9,000 of them kept would be 27 MB. A session and a profile that are
    # remembered take 0.8 kB.
    assert found.rss_after - found.rss_before < 12 * MEGABYTE


@pytest.mark.parametrize(
    ("buffer", "size"),
    [
        (b"", 0),
        (b"GET / HTTP/1.1\r\n", 0),
        (b"GET / HTTP/1.1\r\n\r\nGET", 18),
        (b"PUT / HTTP/1.1\r\nContent-Length: 3\r\n\r\nab", 0),
        (b"PUT / HTTP/1.1\r\ncontent-length: 3\r\n\r\nabcd", 40),
    ],
)
def test_messages_are_told_apart(buffer: bytes, size: int) -> None:
    assert whole(buffer) == size
