"""Signs that Talon.One is no longer where we look for it: what an API would not say, on every call.

A redirect, a web page in place of JSON, a certificate for other names: one of them alone says nothing, and the answer
goes to its caller as it came. When nothing else is heard for several calls of different operations (or for many of
one), the cluster has most likely moved; operators are told, once, and nothing is done about it. A key goes only where
settings say.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from proxy.errors import CertificateError, ProxyError
from proxy.messages import Reply

# Of the fields of a web page. By these and not by the body, which may be compressed.
PAGE: Final = b"text/html"
ENOUGH: Final = 5  # in a row, of different operations
ENOUGH_ALIKE: Final = 20  # in a row, of one operation


class Sign(Enum):
    """What was heard."""

    REDIRECT = "redirect"
    WEB_PAGE = "web_page"
    CERTIFICATE = "certificate"


ADVICE: Final = {
    Sign.REDIRECT: "every call is answered with a redirect, which is never followed",
    Sign.WEB_PAGE: "every call is answered with a web page",
    Sign.CERTIFICATE: "the certificate there is for other names, or not trusted",
}
WHAT_TO_DO: Final = "; has the cluster moved? `talon-proxy switch URL` points the proxy at the new URL"


@dataclass(slots=True)
class Suspicion:
    """What speaks for a move. `since` by the clock; `told`: operators know."""

    sign: Sign
    since: float
    count: int = 0
    operations: set[str] = field(default_factory=set)
    told: bool = False

    @property
    def advice(self) -> str:
        """Give a sentence for operators."""
        return ADVICE[self.sign] + WHAT_TO_DO


class Signs:
    """Listens to the answers of one upstream. `tell` is called when a suspicion is strong, and when it is over."""

    def __init__(self, clock: Callable[[], float], tell: Callable[[Suspicion | None], None]) -> None:
        self._clock = clock
        self._tell = tell
        self.suspicion: Suspicion | None = None  # the last that was heard was a sign

    def __repr__(self) -> str:
        return f"<Signs {self.suspicion}>"

    @property
    def moved(self) -> Suspicion | None:
        """Give the suspicion, if it is strong."""
        return self.suspicion if self.suspicion is not None and self.suspicion.told else None

    def answered(self, operation: str, reply: Reply) -> None:
        """Look at an answer that is not an ordinary 2xx, or at any while there is a suspicion."""
        if reply.status >= 500:
            return  # a gateway's page says that Talon.One is down, not where it is
        if 300 <= reply.status < 400 and reply.status != 304:
            self._heard(Sign.REDIRECT, operation)
        elif PAGE in reply.block:
            self._heard(Sign.WEB_PAGE, operation)
        else:
            self.forget()

    def failed(self, operation: str, error: ProxyError) -> None:
        """Look at a failure. Another than a certificate's says nothing about where Talon.One is."""
        if isinstance(error, CertificateError):
            self._heard(Sign.CERTIFICATE, operation)

    def forget(self) -> None:
        """It answers as an API does, or it is another one."""
        suspicion, self.suspicion = self.suspicion, None
        if suspicion is not None and suspicion.told:
            self._tell(None)

    def _heard(self, sign: Sign, operation: str) -> None:
        suspicion = self.suspicion
        if suspicion is None or suspicion.sign is not sign:
            suspicion = self.suspicion = Suspicion(sign, self._clock())
        suspicion.count += 1
        suspicion.operations.add(operation)  # of a closed set
        enough = ENOUGH if len(suspicion.operations) > 1 else ENOUGH_ALIKE
        if suspicion.count >= enough and not suspicion.told:
            suspicion.told = True
            self._tell(suspicion)
