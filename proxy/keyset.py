"""The keys of one generation: what signs the calls that go to its host, and nothing that goes elsewhere.

An Application may have two keys there, for changing them without a pause: `api_key` leads until Talon.One refuses it
and takes `next_api_key` (`traffic.trials`). A key set is made with its generation and goes with it; only which key
leads changes. What was signed is counted across all of them (`Ledger`).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum

from proxy.credentials import Grant
from proxy.messages import Reply
from proxy.secret import Secret
from proxy.talon.routes import Surface


class Role(Enum):
    """Which of an Application's keys it is, as metrics name it."""

    PRIMARY = "primary"  # api_key
    NEXT = "next"  # next_api_key


@dataclass(frozen=True, slots=True)
class KeyPair:
    """The keys of an Application at one host, as settings give them."""

    primary: Secret | None
    following: Secret | None = None


class Uses:
    """How often Talon.One answered calls that were signed with keys of one role."""

    __slots__ = ("accepted", "rejected")

    def __init__(self) -> None:
        self.accepted = 0
        self.rejected = 0  # answered with 401


class Ledger:
    """Counts of all key sets there ever were, by Application and role: they never fall."""

    def __init__(self) -> None:
        self._uses: dict[tuple[str, Role], Uses] = {}

    def __repr__(self) -> str:
        return f"<Ledger {len(self._uses)}>"

    def of(self, application: str, role: Role) -> Uses:
        """Give the counts that a key adds to."""
        return self._uses.setdefault((application, role), Uses())

    def counts(self) -> Mapping[tuple[str, str, str], int]:
        """Give them by Application, role and result, as metrics name them."""
        return {
            (application, role.value, result): count
            for (application, role), uses in self._uses.items()
            for result, count in (("accepted", uses.accepted), ("rejected", uses.rejected))
        }


class ApiKey:
    """One key: the `Authorization` line it makes."""

    __slots__ = ("hint", "line", "role", "text", "uses")

    def __init__(self, scheme: bytes, secret: Secret, role: Role, uses: Uses) -> None:
        self.text = secret.reveal().encode()
        self.line = b"Authorization: %b %b\r\n" % (scheme, self.text)
        self.hint = secret.hint
        self.role = role
        self.uses = uses

    def __repr__(self) -> str:
        return f"<ApiKey {self.role.value}>"


class Ring:
    """The keys of one Application in a key set. `leading` signs; `other` stands by, where there are two."""

    __slots__ = ("application", "leading", "other", "tried")

    def __init__(self, application: str, leading: ApiKey, other: ApiKey | None) -> None:
        self.application = application
        self.leading = leading
        self.other = other
        self.tried: float | None = None  # moment at which the other was refused too

    def __repr__(self) -> str:
        return f"<Ring {self.application} {self.leading!r} {self.other!r}>"

    def swap(self) -> None:
        """Let the other key lead."""
        if self.other is not None:
            self.leading, self.other = self.other, self.leading

    @property
    def keys(self) -> tuple[ApiKey, ...]:
        """Give both."""
        return (self.leading,) if self.other is None else (self.leading, self.other)


class KeySet:
    """The keys of one generation, by Application, and the Management key."""

    def __init__(self, pairs: Mapping[str, KeyPair], management: Secret | None, ledger: Ledger) -> None:
        self.rings: dict[str, Ring] = {}
        for name, pair in pairs.items():
            keys = [
                ApiKey(b"ApiKey-v1", secret, role, ledger.of(name, role))
                for secret, role in ((pair.primary, Role.PRIMARY), (pair.following, Role.NEXT))
                if secret is not None
            ]
            if keys:
                self.rings[name] = Ring(name, keys[0], keys[1] if len(keys) > 1 else None)
        # The Management API belongs to no Application: what it is used for is not counted by one.
        self._management = ApiKey(b"ManagementKey-v1", management, Role.PRIMARY, Uses()) if management else None

    def __repr__(self) -> str:
        return f"<ApiKeySet {list(self.rings.values())}>"

    def ring(self, grant: Grant) -> Ring | None:
        """Give the keys of the Application that a call is for; None: it has none here, or the call needs none."""
        if grant.passed is not None or grant.surface is Surface.MANAGEMENT:
            return None
        return self.rings.get(grant.application.name)

    def leading(self, grant: Grant) -> ApiKey | None:
        """Give the key that signs a call which brings no `Authorization` of its own; None: there is none any more."""
        if grant.surface is Surface.MANAGEMENT:
            return self._management
        ring = self.rings.get(grant.application.name)
        return None if ring is None else ring.leading

    def hints(self) -> dict[str, list[str]]:
        """Give the ends of each Application's keys, the leading one first: enough to recognise them."""
        return {name: [key.hint for key in ring.keys] for name, ring in self.rings.items()}

    def mask(self, grant: Grant, reply: Reply) -> Reply:
        """Hide our keys in an error or redirect that repeats the request's fields; length and framing stay."""
        if grant.passed is not None or reply.status < 300:
            return reply
        for key in self._used_for(grant):
            reply = _without(reply, key.text)
        return reply

    def _used_for(self, grant: Grant) -> Iterator[ApiKey]:
        ring = self.ring(grant)
        if ring is not None:
            yield from ring.keys
        elif grant.surface is Surface.MANAGEMENT and self._management is not None:
            yield self._management


def _without(reply: Reply, key: bytes) -> Reply:
    if key not in reply.body and key not in reply.block:
        return reply
    stars = b"*" * len(key)
    return Reply(
        reply.status,
        reply.block.replace(key, stars),
        reply.body.replace(key, stars),
        source=reply.source,
        length=reply.length,
        dated=reply.dated,
        stream=reply.stream,
        share=reply.share,
    )
