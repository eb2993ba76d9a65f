"""The overview: what `/status`, `/-/config` and metrics tell of the upstream and of the settings in effect."""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from proxy.keyset import Ledger
from proxy.observe.metrics import Connections
from proxy.planned import Plan
from proxy.reloading import Reloader
from proxy.settings import as_json, settings_hash
from proxy.switching import Switcher
from proxy.target import configured
from proxy.traffic.signs import Signs
from proxy.upstream import Generation, Upstream


class Overview:
    """Tells where calls go, where they went, and where they will. `plan`: the planned switch, if there is one."""

    def __init__(
        self,
        upstream: Upstream,
        switcher: Switcher,
        reloader: Reloader,
        signs: Signs,
        ledger: Ledger,
        *,
        plan: Callable[[], Plan | None],
        now: Callable[[], datetime],
    ) -> None:
        self._upstream = upstream
        self._switcher = switcher
        self._reloader = reloader
        self._signs = signs
        self._ledger = ledger
        self._plan = plan
        self._now = now

    def __repr__(self) -> str:
        return f"<Overview {self._upstream!r}>"

    # --- for operators ---

    def upstream(self) -> Mapping[str, Any]:
        """Give what `/status` shows of the upstream."""
        generation = self._upstream.current
        return {
            "url": str(generation.origin),
            "generation": generation.number,
            "state": generation.state.name.lower(),
            "protocol": generation.pool.protocol,
            "name": {
                "host": generation.egress.name.host,
                "addresses": list(generation.egress.name.known),
                "failing": generation.egress.name.failing,
            },
            "connections": self._of_pool(generation),
            **self._unusual(),
        }

    def _of_pool(self, generation: Generation) -> Mapping[str, Any]:
        pool = generation.pool
        return {
            "opening": pool.opening,
            "active": pool.active - pool.held,
            "held": pool.held,
            "idle": pool.idle,
            "opened": self._upstream.opened,
            "closed": self.closed(),
            "idle_limit_seconds": round(pool.idle_limit, 1),
        }

    def _unusual(self) -> Mapping[str, Any]:
        """Give what is there only while something goes on."""
        told: dict[str, Any] = {}
        if (trouble := self._upstream.current.pool.trouble) is not None:
            told["unreachable"] = trouble
        if self._switcher.override is not None:
            settled = configured(self._reloader.settings, self._now())
            told["override"] = f"set at run time, until restart; configured is {settled}"
        if (move := self._switcher.move) is not None:
            told["switching"] = {"url": move.url, "phase": move.phase}
        if left := self._upstream.draining:
            told["leaving"] = [
                {"url": str(old.origin), "generation": old.number, "active": old.pool.active} for old in left
            ]
        if (plan := self._plan()) is not None:
            told["planned"] = {"url": str(plan.url), "at": plan.at.isoformat(), "state": plan.state.name.lower()}
            if plan.reason is not None:
                told["planned"]["reason"] = plan.reason
        if (suspicion := self._signs.moved) is not None:
            told["moved"] = {"sign": suspicion.sign.value, "answers": suspicion.count, "advice": suspicion.advice}
        return told

    def reload(self) -> Mapping[str, Any]:
        """Give what `/status` shows of the last reload."""
        reloader = self._reloader
        told: dict[str, Any] = {"successful": reloader.failure is None}
        if reloader.failure is not None:
            told["reason"] = reloader.failure
        if restart := reloader.restart:
            told["restart_needed"] = restart
        return told

    def keys(self) -> Mapping[str, str]:
        """Give the ends of each Application's keys, the leading one first."""
        return {name: " ".join(hints) for name, hints in self._upstream.current.keys.hints().items()}

    def keys_used(self) -> Sequence[Mapping[str, object]]:
        """Give how often Talon.One took or refused each key."""
        return [
            {"application": application, "key": key, "result": result, "answers": count}
            for (application, key, result), count in self._ledger.counts().items()
        ]

    def expiring(self) -> Mapping[str, str]:
        """Give when keys expire, as far as the settings say it, by Application."""
        moments = self.expiries().items()
        return {name: datetime.fromtimestamp(moment, UTC).isoformat() for name, moment in moments}

    def config(self) -> Mapping[str, object]:
        """Give the settings in effect, and what of the configured ones is not."""
        override = self._switcher.override
        return {
            **as_json(self._reloader.loaded),
            "override": {"upstream.url": str(override)} if override is not None else {},
            "restart_needed": self._reloader.restart,
        }

    @property
    def settings_hash(self) -> str:
        """Tells the settings in effect from others."""
        return settings_hash(self._reloader.settings)

    # --- for the history ---

    def totals(self) -> Mapping[str, float]:
        """Give what never falls."""
        return {"connections_opened": self._upstream.opened}

    def levels(self) -> Mapping[str, float]:
        """Give how the connections stand."""
        pool = self._upstream.current.pool
        return {"active": pool.active, "idle": pool.idle, "opening": pool.opening}

    # --- for metrics ---

    def closed(self) -> Mapping[str, int]:
        """Give how many connections were closed, by reason."""
        return {reason.value: count for reason, count in self._upstream.closed.items()}

    def connections(self) -> Sequence[Connections]:
        """Give the connections of every generation."""
        generations = [("current", self._upstream.current), *(("draining", old) for old in self._upstream.draining)]
        return [
            Connections(some.protocol, state, some.opening, active=some.active, idle=some.idle, held=some.held)
            for state, generation in generations
            for some in generation.pool.census()
        ]

    def expiries(self) -> Mapping[str, float]:
        """Give when keys expire, by Application, as Unix time."""
        applications = self._reloader.settings.applications.items()
        return {name: found.expires.timestamp() for name, found in applications if found.expires is not None}
