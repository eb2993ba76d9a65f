"""Verification: is a generation that does not serve yet the Talon.One that we mean, and are our keys good there?

Its warm connections are opened, with all that TLS checks. Then each Application's key is used for one call:
`GET /v1/integration/campaigns?pageSize=1`. It is documented (talon-one-facts.md §1, #15), names no session and no
profile, runs no rule, changes nothing, is answered from one row, and needs a valid key: of a wrong one it is a 401.
"""

import asyncio
from collections.abc import Callable

from proxy.errors import ProxyError
from proxy.keyset import ApiKey, Ring
from proxy.messages import Reply
from proxy.settings import Origin
from proxy.upstream import Generation
from proxy.wire.connection import Connection
from proxy.wire.dialing import Opened
from proxy.wire.question import Question

TARGET = b"/v1/integration/campaigns?pageSize=1"
_LINES = b"Accept: application/json\r\nAccept-Encoding: identity\r\nUser-Agent: talon-proxy\r\nVia: 1.1 talon-proxy\r\n"


class Unverified(Exception):
    """The generation must not serve; the text says why. No key and no text of the other side is in it."""


# Told what happens next.
Progress = Callable[[str], None]


async def verify(generation: Generation, *, warm: int, timeout: float, progress: Progress) -> None:
    """Open `warm` connections (at least one) and use each Application's key. Raises Unverified.

    Where only an Application's second key is good, that one leads. `timeout`: seconds for each call.
    """
    progress("connecting")
    error = await _warm(generation, max(warm, 1))
    if error is not None:
        raise Unverified(f"{generation.origin}: {error.message}: {error.details}")
    progress("verifying keys")
    for ring in generation.keys.rings.values():
        await _verify_keys(generation, ring, timeout)


async def _warm(generation: Generation, count: int) -> ProxyError | None:
    """Have so many connections open at once; they go back to the pool. Gives what went wrong.

    Gives, and does not raise: an error that frames hold, and that holds them, would keep the generation.
    """
    borrowers = [_Borrower() for _ in range(count)]
    for borrower in borrowers:
        generation.pool.wait(borrower)
    try:
        results = await asyncio.gather(*(borrower.result for borrower in borrowers))
    finally:
        for borrower in borrowers:
            borrower.give_back(generation)
    await asyncio.sleep(0)  # the pool takes them back in a turn of its own
    return next((result for result in results if isinstance(result, ProxyError)), None)


class _Borrower:
    """Waits for a connection; see `wire.pool.Waiter`."""

    def __init__(self) -> None:
        self.result: asyncio.Future[Connection | ProxyError] = asyncio.get_running_loop().create_future()
        self._granted: Connection | None = None

    def granted(self, connection: Connection, opened: Opened | None) -> None:
        self._granted = connection
        if not self.result.done():
            self.result.set_result(connection)

    def refused(self, error: ProxyError) -> None:
        if not self.result.done():
            self.result.set_result(error)

    def give_back(self, generation: Generation) -> None:
        generation.pool.withdraw(self)
        if self._granted is not None:
            generation.pool.release(self._granted)


async def _verify_keys(generation: Generation, ring: Ring, timeout: float) -> None:
    reason = await _try(generation, ring.leading, timeout)
    if reason == _REFUSED and ring.other is not None:
        reason = await _try(generation, ring.other, timeout)
        if reason is None:
            ring.swap()
        elif reason == _REFUSED:
            reason = "both keys are refused (401)"
    if reason is not None:
        raise Unverified(f"{generation.origin}, Application {ring.application}: {reason}")


_REFUSED = "the key is refused (401)"


async def _try(generation: Generation, key: ApiKey, timeout: float) -> str | None:
    """Make the call with a key; None: it is good, else what is wrong."""
    head = b"GET %b HTTP/1.1\r\n%b%b%b\r\n" % (TARGET, generation.host_line, _LINES, key.line)
    try:
        reply = await Question(head, timeout).ask(generation.pool)
    except ProxyError as error:
        error.__traceback__ = None  # the frames there hold it, and the generation
        return f"{error.message}: {error.details}"
    if reply.status == 401:
        key.uses.rejected += 1
    else:
        key.uses.accepted += 1
    return judged(reply)


def judged(reply: Reply) -> str | None:
    """Say what is wrong with an answer to the call; None: nothing."""
    if 200 <= reply.status < 300:
        return "the answer is a web page, and not Talon.One's API" if b"text/html" in reply.block else None
    if reply.status == 401:
        return _REFUSED
    if reply.status == 403:
        return "forbidden (403); is the address of this proxy on Talon.One's allowlist?"
    if 300 <= reply.status < 400:
        return f"it redirects ({reply.status}){_to(reply)}, and redirects are never followed"
    return f"the answer has status {reply.status}"


def _to(reply: Reply) -> str:
    """Name the host that a redirect points to."""
    for line in reply.block.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"location":
            place = b"/".join(value.strip().split(b"/")[:3])
            try:
                return f" to {Origin.parse(place.decode('ascii'))}"
            except ValueError:
                break
    return ""
