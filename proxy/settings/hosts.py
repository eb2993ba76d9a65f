"""Host patterns: which hosts a switch of the upstream may point to, and so which may ever be sent a key.

A `*` stands for exactly one label, in the middle of a name: the region of a deployment may differ, its customer never
(edge-cases T13).
"""

from dataclasses import dataclass
from typing import Self

from proxy.settings.address import host

ANY = "*"
DOMAIN = ".talon.one"


@dataclass(frozen=True, slots=True)
class HostPattern:
    """`mycompany.us-east4.talon.one`, `mycompany.*.talon.one`, or an IP address."""

    text: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a name, an address or a pattern; raises ValueError with what is wrong, without repeating the text."""
        labels = text.split(".")
        if ANY in (labels[0], *labels[-2:]):
            raise ValueError("has a * at its beginning or among its last two labels, which would allow other customers")
        # Whatever stands for a label must leave a host name when a label stands there.
        host(".".join("x" if label == ANY else label for label in labels))
        return cls(text.lower() if ANY in labels else host(text))

    def matches(self, name: str) -> bool:
        """Whether a host, in the one spelling that `address.host` gives, is meant."""
        ours, theirs = self.text.split("."), name.split(".")
        return len(ours) == len(theirs) and all(our in (ANY, their) for our, their in zip(ours, theirs, strict=True))

    def __str__(self) -> str:
        return self.text


def same_customer(name: str) -> tuple[HostPattern, ...]:
    """Give the host itself and, of a deployment of Talon.One, the same customer's in every other region.

    Names are `<customer>.talon.one`, `<customer>.<region>.talon.one` and, of secondary deployments,
    `<deployment>.<customer>.<region>.talon.one` (facts, section 10): all in front of the region says who it is.
    """
    names = [name]
    front = name.removesuffix(DOMAIN).split(".")
    if name.endswith(DOMAIN):
        who = ".".join(front[:-1] or front)
        names += [f"{who}{DOMAIN}", f"{who}.{ANY}{DOMAIN}"]
    return tuple(HostPattern(text) for text in dict.fromkeys(names))
