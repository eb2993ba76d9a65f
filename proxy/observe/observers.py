"""Several who are told how calls end, as one."""

from typing import Protocol

from proxy.errors import ProxyError
from proxy.messages import Call, Reply, Sent


class Observer(Protocol):
    """Who is told how calls end."""

    @property
    def only_failed(self) -> bool:
        """Nothing is to be told but of calls that failed: to tell of none costs nothing."""
        ...

    def finished(self, call: Call, reply: Reply, *, whole: bool) -> None:
        """The answer was handed to the socket; not `whole`: it broke off, or its caller had left."""
        ...

    def rejected(self, reply: Reply, error: ProxyError) -> None:
        """A message that never became a Call was answered."""
        ...

    def abandoned(self, call: Call, sent: Sent) -> None:
        """A caller left before its answer; `finished` follows only where the call had been sent."""
        ...


class Observers:
    """Tells each in turn. An observer must not raise: nobody behind it would be told."""

    __slots__ = ("_observers", "_of_all")

    def __init__(self, *observers: Observer) -> None:
        self.follow(*observers)

    def follow(self, *observers: Observer) -> None:
        """Tell these from now on."""
        self._observers = observers
        self._of_all = tuple([observer for observer in observers if not observer.only_failed])

    def finished(self, call: Call, reply: Reply, *, whole: bool) -> None:
        """See `Observer`."""
        failed = reply.status >= 400 or call.error is not None or not whole
        for observer in self._observers if failed else self._of_all:
            observer.finished(call, reply, whole=whole)

    def rejected(self, reply: Reply, error: ProxyError) -> None:
        """See `Observer`."""
        for observer in self._observers:
            observer.rejected(reply, error)

    def abandoned(self, call: Call, sent: Sent) -> None:
        """See `Observer`."""
        for observer in self._observers:
            observer.abandoned(call, sent)
