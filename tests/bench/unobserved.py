"""The proxy with nobody told of calls: `python -m tests.bench.unobserved serve`; to measure what telling costs."""

import sys

from proxy import app
from proxy.cli import main
from proxy.errors import ProxyError
from proxy.messages import Call, Reply, Sent


class Nobody:
    """In the place of `proxy.observe.observers.Observers`."""

    def __init__(self, *observers: object) -> None:
        pass

    def follow(self, *observers: object) -> None:
        """Tell these from now on, or not."""

    def finished(self, call: Call, reply: Reply, *, whole: bool) -> None:
        """See `Observer`."""

    def rejected(self, reply: Reply, error: ProxyError) -> None:
        """See `Observer`."""

    def abandoned(self, call: Call, sent: Sent) -> None:
        """See `Observer`."""


if __name__ == "__main__":
    app.Observers = Nobody  # type: ignore[assignment,attr-defined]
    sys.exit(main())
