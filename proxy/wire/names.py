"""The addresses of one host: looked up off the loop, kept, and looked up again in the background.

Who connects gets the addresses that are known, at once; only the first ever waits for the resolver, and only as long
as it likes: the lookup goes on, so that a slow resolver still serves the next. There is one lookup at a time.

Where the resolver fails, the last good addresses stay in use for an hour (`KEPT`). That is longer than resolvers are
down, and a shop can sell meanwhile. An old address does no harm: TLS verifies who answers there, so at worst the
connection fails, as it would have without an address. It is not for ever, so that a name that was taken away is
missed in the end.
"""

import asyncio
import contextlib
import ipaddress
import logging
import socket
import threading
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from proxy.errors import NameNotResolved, NameTimeout, UpstreamError
from proxy.wire.wheel import Wheel

# One entry of `socket.getaddrinfo`: family, type, protocol, canonical name, socket address.
AddrInfo = tuple[int, int, int, str, tuple[Any, ...]]
# Looks a host and a port up. Raises OSError.
Resolve = Callable[[str, int], Awaitable[Sequence[AddrInfo]]]

_LOG = logging.getLogger(__name__)
KEPT = 3600.0  # seconds for which addresses are used while they cannot be looked up
LONGEST_LOOKUP = 15.0  # seconds; three name servers and their time-outs fit
RETRY = 5.0  # seconds until the next lookup after one that failed, if `refresh` is not sooner
SPARED = 0.5  # seconds for which a failure is not looked up again: a name that is missing must not cost a lookup a call
MOST = 16  # addresses that are kept of an answer
THREADS = 2


class Resolver:
    """The system's resolver, in threads of its own.

    Neither the loop's executor nor one of the library: a resolver that hangs would fill the one, and the other waits
    for its threads when the process ends.
    """

    def __init__(self) -> None:
        self._busy = 0

    async def __call__(self, host: str, port: int) -> Sequence[AddrInfo]:
        """Give all addresses of both families, in the order of RFC 6724. Raises OSError."""
        if self._busy >= THREADS:
            raise OSError("lookups that were given up are still running")
        loop = asyncio.get_running_loop()
        found: asyncio.Future[Sequence[AddrInfo]] = loop.create_future()
        self._busy += 1

        def tell(answer: Sequence[AddrInfo], error: Exception | None) -> None:
            self._busy -= 1
            if found.done():  # given up
                return
            if error is None:
                found.set_result(answer)
            else:
                found.set_exception(error)

        def look_up() -> None:
            answer: Sequence[AddrInfo] = ()
            error: Exception | None = None
            try:
                answer = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            except Exception as exc:  # whatever it is, it must not be lost in a thread
                error = exc
            with contextlib.suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(tell, answer, error)

        threading.Thread(target=look_up, name="resolver", daemon=True).start()
        return await found


class Name:
    """One host with a port, and its addresses."""

    def __init__(self, host: str, port: int, *, wheel: Wheel, refresh: float, resolve: Resolve | None = None) -> None:
        self.host = host
        self.port = port
        self._clock = wheel.clock
        self._refresh = refresh
        self._resolve = resolve or Resolver()
        self._alarm = wheel.alarm(self._look_up_again)
        self._started = False
        self._lookup: asyncio.Task[None] | None = None
        self._known: tuple[AddrInfo, ...] = ()
        self._known_at = float("-inf")  # the last lookup that succeeded
        self._preferred: tuple[Any, ...] | None = None
        self._failure: UpstreamError | None = None  # of the last lookup
        self._failed_at = 0.0
        self._fixed = _is_address(host)
        if self._fixed:
            numeric = socket.AI_NUMERICHOST  # needs no resolver, so that it does not block
            self._known = tuple(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=numeric))

    def __repr__(self) -> str:
        return f"<Name {self.host} addresses={len(self._known)}{' failing' if self.failing else ''}>"

    @property
    def known(self) -> Sequence[str]:
        """The addresses, as text."""
        return [str(info[4][0]) for info in self._known]

    @property
    def age(self) -> float:
        """Seconds since they were looked up; endless, if they never were."""
        return 0.0 if self._fixed else self._clock() - self._known_at

    @property
    def failing(self) -> bool:
        """The last lookup failed."""
        return self._failure is not None

    def start(self) -> None:
        """Look up now, and from now on every `refresh` seconds."""
        if not self._fixed:
            self._started = True
            self._look_up_again()

    def stop(self) -> None:
        """Look up no more."""
        self._started = False
        self._alarm.end()
        if self._lookup is not None:
            self._lookup.cancel()

    async def addresses(self, deadline: float) -> Sequence[AddrInfo]:
        """Give the addresses, best first; without any, wait for a lookup. Raises NameNotResolved or NameTimeout."""
        now = self._clock()
        spared = self._failure is not None and now < self._failed_at + SPARED
        if self._fixed or self.age < KEPT:
            if self.age >= self._refresh and not spared:
                self._begin()  # for the next
            return self._known
        if not spared:
            lookup = self._begin()
            # Waited for and not awaited: it is everybody's.
            await asyncio.wait((lookup,), timeout=max(deadline - now, 0.0))
            if not lookup.done():
                raise NameTimeout("The name of the host was not resolved in time")
        if self._failure is not None:
            raise type(self._failure)(self._failure.details)
        if not self._known:
            raise NameNotResolved("The name of the host is looked up no more")
        return self._known

    def prefer(self, address: tuple[Any, ...]) -> None:
        """Put the address first that took a connection.

        It is not the first already where that one refused or took long, and the next would wait for it again.
        """
        if self._known and self._known[0][4] != address:
            self._preferred = address
            self._order(self._known)

    def doubt(self) -> None:
        """None of the addresses took a connection: perhaps there are new ones."""
        if not self._fixed and self.age >= SPARED:
            self._begin()

    # --- looking up ---

    def _begin(self) -> "asyncio.Task[None]":
        if self._lookup is None:
            self._lookup = asyncio.get_running_loop().create_task(self._look_up(), name=f"lookup of {self.host}")
            self._lookup.add_done_callback(self._ended)
        return self._lookup

    def _look_up_again(self) -> None:
        self._alarm.set(self._clock() + self._refresh)
        self._begin()

    async def _look_up(self) -> None:
        try:
            async with asyncio.timeout(LONGEST_LOOKUP):
                found = await self._resolve(self.host, self.port)
        except TimeoutError:
            self._fail(NameTimeout("The resolver did not answer"))
        except (OSError, UnicodeError) as error:  # of a label that is none
            error.__traceback__ = None  # the frames there hold it
            self._fail(NameNotResolved("The name of the host has no address"))
        else:
            if found:
                self._learn(tuple(found[:MOST]))
            else:
                self._fail(NameNotResolved("The name of the host has no address"))

    def _ended(self, lookup: "asyncio.Task[None]") -> None:
        self._lookup = None

    def _learn(self, found: tuple[AddrInfo, ...]) -> None:
        before = set(self._known)
        self._order(found)
        if self._failure is not None:
            _LOG.info("the name is resolved again", extra={"fields": {"host": self.host}})
        elif before and before != set(found):
            _LOG.info("the name has other addresses", extra={"fields": {"host": self.host, "addresses": self.known}})
        self._known_at = self._clock()
        self._failure = None

    def _order(self, found: tuple[AddrInfo, ...]) -> None:
        self._known = tuple(sorted(found, key=lambda info: info[4] != self._preferred))

    def _fail(self, failure: UpstreamError) -> None:
        if self._failure is None:
            fields = {"host": self.host, "why": failure.details, "known": self.known}
            _LOG.warning("the name is not resolved", extra={"fields": fields})
        self._failure = failure
        self._failed_at = self._clock()
        if self._started and self._alarm.due > self._failed_at + RETRY:
            self._alarm.set(self._failed_at + RETRY)


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
