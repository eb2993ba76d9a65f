"""Keys say who calls: an API key opens one Application, and perhaps a world of its own.

A key `K` opens the main world; `K-NAME` opens the same Application in the world NAME, which nobody else meets and
which exists from its first call. So parallel jobs need no agreement but a name: `simulator-job-17`.
"""

import enum
import re
from collections.abc import Iterable
from dataclasses import dataclass

from proxy.simulator.world import Application

MAIN = "main"
DEFAULT_KEY = "simulator"
_WORLD = re.compile(r"[A-Za-z0-9._-]{1,100}", re.ASCII)


class Kind(enum.StrEnum):
    """What a key is for. With a testing key every call is dry."""

    LIVE = "live"
    TESTING = "testing"


@dataclass(frozen=True, slots=True)
class Grant:
    """One key of the Integration API and the Application that it opens."""

    key: str
    application: Application
    kind: Kind = Kind.LIVE


@dataclass(frozen=True, slots=True)
class Access:
    """What a caller's key opens. No `application`: the Management API."""

    world: str
    application: Application | None = None
    testing: bool = False


def default_grants() -> tuple[Grant, ...]:
    """One Application `default`, opened by `simulator`."""
    return (Grant(DEFAULT_KEY, Application()),)


class Keyring:
    """All keys. Unknown ones open nothing."""

    def __init__(self, grants: Iterable[Grant], *, management: str = DEFAULT_KEY) -> None:
        self.grants = tuple(grants)
        self._integration = {
            grant.key: Access(MAIN, grant.application, grant.kind is Kind.TESTING) for grant in self.grants
        }
        self._management = {management: Access(MAIN)}

    def __repr__(self) -> str:
        return f"<Keyring of {len(self._integration)} keys>"

    @property
    def applications(self) -> tuple[Application, ...]:
        """All Applications, in order of their numbers."""
        return tuple(dict.fromkeys(grant.application for grant in self.grants))

    def open(self, authorization: str) -> Access | None:
        """What an Authorization header opens; None: the 401."""
        scheme, _, key = authorization.partition(" ")
        match scheme:
            case "ApiKey-v1":
                known = self._integration
            case "ManagementKey-v1":
                known = self._management
            case _:
                return None
        return known.get(key) or _in_a_world_of_its_own(known, key)


def _in_a_world_of_its_own(known: dict[str, Access], key: str) -> Access | None:
    stem = max((stem for stem in known if key.startswith(f"{stem}-")), key=len, default=None)
    if stem is None:
        return None
    world = key[len(stem) + 1 :]
    if world == MAIN or not is_world(world):
        return None
    return Access(world, known[stem].application, known[stem].testing)


def is_world(name: str) -> bool:
    """Whether a world may have this name; the main one has its own."""
    return _WORLD.fullmatch(name) is not None


def made_dry(target: str) -> str:
    """The target of a call with a testing key. The first `dry` counts, so one that the caller wrote is overruled."""
    path, _, query = target.partition("?")
    return f"{path}?dry=true&{query}" if query else f"{path}?dry=true"
