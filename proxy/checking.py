"""Checking: Talon.One's checklist asked of the calls that pass, where rules and counts meet.

`talon.checklist` knows the rules, `observe.checklist` counts. Here is what `/checklist.json`, metrics and the log tell.
"""

import logging
import re
import socket
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from proxy.credentials import Credentials
from proxy.observe.checklist import EXAMPLES, GROUPS, Checklist, Handle, Tally
from proxy.observe.hashes import Hashes
from proxy.observe.metrics import Checked
from proxy.observe.observers import Observer
from proxy.settings import Settings
from proxy.talon.checklist import verdicts
from proxy.talon.checklist.answers import EFFECT_TYPES, OTHER
from proxy.talon.checklist.examiner import Examiner
from proxy.talon.checklist.names import request_id
from proxy.talon.checklist.past import Session
from proxy.talon.checklist.records import FORMAT
from proxy.talon.checklist.rule import Verdict
from proxy.talon.checklist.table import table
from proxy.talon.routes import Routes

_LOG = logging.getLogger(__name__)
_HOST = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]{0,62}")


class Checking:
    """The checklist of one proxy. `credentials` tell a client's token from a key; `redact` takes secrets out."""

    def __init__(
        self,
        settings: Settings,
        routes: Routes,
        credentials: Credentials,
        hashes: Hashes,
        *,
        version: str,
        redact: Callable[[str], str],
        conflicts_avoided: Callable[[], int],
        call_later: Callable[[float, Callable[[], None]], Handle],
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._version = version
        self._redact = redact
        self._conflicts_avoided = conflicts_avoided
        self._now = now
        self._clock = clock
        self._began = clock()
        self._calibration = hashes.hash("")  # proxies that hash alike have it in common
        self._settings = settings
        self._rules = table(settings.checklist.effects_handled)
        self._examiner = Examiner(
            self._rules,
            routes,
            digest=hashes.digest,
            excused=_excused(settings, credentials),
            testing=_testing(settings),
        )
        self.counts = Checklist(
            self._examiner,
            replies=settings.checklist.replies,
            tell=self._tell,
            clock=clock,
            now=now,
            call_later=call_later,
        )

    def __repr__(self) -> str:
        return f"<Checking {self.counts!r}>"

    def follow(self, settings: Settings, routes: Routes, credentials: Credentials) -> None:
        """Go on with these settings. What was counted stays."""
        if settings.checklist.enabled != self._settings.checklist.enabled:
            self.counts.miss()
        self._settings = settings
        self._rules = table(settings.checklist.effects_handled)
        self._examiner.follow(self._rules, routes, excused=_excused(settings, credentials), testing=_testing(settings))
        self.counts.replies = settings.checklist.replies

    @property
    def observers(self) -> Sequence[Observer]:
        """Give who wants to be told how calls end: nobody while it is off."""
        return (self.counts,) if self._settings.checklist.enabled else ()

    def stop(self) -> None:
        """Look no more."""
        self.counts.stop()

    # --- what is told ---

    def record(self) -> Mapping[str, Any]:
        """Give what was counted, so that it can be added to what others did."""
        tallies = {name: self._shown(tally) for name, tally in self.counts.tallies.items()}
        for name, passed, broken in self._examiner.living():
            verdicts.add(tallies.setdefault(name, verdicts.empty_tally()), self._standing(passed, broken))
        return {
            **self._evidence(tallies),
            "hashes": self._calibration,
            "replies": self.counts.replies,
            "inventory": dict(self.counts.rows()),
        }

    def _standing(self, passed: int, broken: Sequence[Session]) -> dict[str, Any]:
        """Count sessions that are not over; there may be thousands."""
        tally = Tally()
        tally.checked, tally.broken = passed + len(broken), len(broken)
        tally.groups = dict(Counter(session.who for session in broken).most_common(GROUPS))
        if broken:
            ahead = self._now() - self._clock()  # of the clock
            tally.first, tally.last = ahead + broken[0].last, ahead + broken[-1].last
            tally.examples.extend(filter(None, (request_id(session.request_id) for session in broken[-EXAMPLES:])))
        return self._shown(tally)

    def _shown(self, tally: Tally) -> dict[str, Any]:
        told = tally.as_json()
        # A caller's own id is kept, whatever it holds.
        return {**told, "examples": [self._redact(example) for example in told["examples"]]}

    def _evidence(self, tallies: dict[str, Any]) -> Mapping[str, Any]:
        """Give what verdicts rest on."""
        return {
            "format": FORMAT,
            "taken": self._now(),
            "proxies": [self._proxy()],
            "tallies": tallies,
            "counts": self._examiner.counts(),
            "acknowledged": dict(self._settings.checklist.acknowledged),
            "effects_handled": list(self._settings.checklist.effects_handled),
        }

    def _proxy(self) -> Mapping[str, Any]:
        counts = self.counts
        away = counts.tally("connections.allowlist")
        return {
            "name": _host_name(),
            "version": self._version,
            "since": counts.since,
            "seconds": round(self._clock() - self._began, 3),  # that clocks set anew do not change
            "looked_at": counts.looked,
            "waiting": counts.waiting,
            "thinned": counts.thinned,
            "dropped": counts.dropped,
            "sessions": self._examiner.sessions,
            "sent": away.checked,
            "turned_away": away.broken,
            "conflicts_avoided": self._conflicts_avoided(),
            "hindrances": hindrances(self._settings),
        }

    def told(self) -> Mapping[str, Any] | None:
        """Give what `/checklist.json` tells: the record, and what it means; none while it is off."""
        if not self._settings.checklist.enabled:
            return None
        self.counts.catch_up()
        return verdicts.judged(self.record(), self._rules)

    def checked(self) -> Checked | None:
        """Give what metrics tell; none while it is off."""
        if not self._settings.checklist.enabled:
            return None
        tallies: dict[str, Any] = {
            rule.id: {"checked": 0, "broken": 0}
            for rule in self._rules
            if rule.look is not None or rule.ended is not None
        }
        for name, tally in self.counts.tallies.items():
            tallies[name] = {"checked": tally.checked, "broken": tally.broken}
        effects = dict.fromkeys((*sorted(EFFECT_TYPES), OTHER), 0)
        for name, row in self.counts.inventory.get("effects", {}).items():
            effects[name if name in EFFECT_TYPES else OTHER] += int(row[0])
        return Checked(
            {name: tally["checked"] for name, tally in tallies.items()},
            {name: tally["broken"] for name, tally in tallies.items()},
            sorted(self._settings.checklist.acknowledged),
            effects,
            {"full": self.counts.dropped, "thinned": self.counts.thinned},
        )

    def _tell(self, name: str) -> bool:
        """Log that a rule is broken, where that deserves more than advice."""
        rules = [rule for rule in self._rules if rule.id == name]
        found = verdicts.judged(self._evidence({name: self._shown(self.counts.tally(name))}), rules)["rules"][0]
        if Verdict(found["verdict"]).severity < 2:
            return False
        told = ("verdict", "checked", "broken", "share", "text", "remedy")
        _LOG.warning("checklist", extra={"fields": {"rule": name, **{field: found[field] for field in told}}})
        return True


def hindrances(settings: Settings) -> Sequence[str]:
    """Give why this proxy could not follow a deployment to another URL at once."""
    found: list[str] = []
    if settings.admin.token is None:
        found.append("admin.token is not set, so that `talon-proxy switch` cannot ask for it")
    if settings.clients.inject != "always":
        found.append("callers bring their own keys (clients.inject), and the new URL may want others")
    hosts = settings.upstream.allowed_hosts
    if len(hosts) == 1 and hosts[0].text == settings.upstream.url.host:
        found.append("upstream.allowed_hosts has this one host alone")
    return found


def _excused(settings: Settings, credentials: Credentials) -> Callable[[Sequence[bytes]], bool]:
    """Callers may bring a token of the settings, and where they must bring their own keys, those."""
    if settings.clients.inject != "always":
        return lambda _: True
    return lambda values: credentials.recognises(list(values))


def _testing(settings: Settings) -> Sequence[str]:
    return [name for name, application in settings.applications.items() if application.kind == "testing"]


def _host_name() -> str:
    name = socket.gethostname()
    return name if _HOST.fullmatch(name) else "proxy"
