"""The bulletin: how the whole proxy stands, as `/status` tells it and as its history looks at it."""

import asyncio
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from proxy import __version__
from proxy.observe.families import DURATIONS
from proxy.observe.history import Handle, History, Look
from proxy.observe.incidents import Incidents
from proxy.observe.metrics import Metrics
from proxy.observe.summary import summary
from proxy.overview import Overview
from proxy.pipeline import Pipeline
from proxy.report import Report
from proxy.wire.listener import Listener


class Bulletin:
    """Puts together what the parts tell. `stage`: of the life of the proxy."""

    def __init__(
        self,
        overview: Overview,
        report: Report,
        metrics: Metrics,
        incidents: Incidents,
        pipeline: Pipeline,
        listener: Listener,
        *,
        stage: Callable[[], str],
        clock: Callable[[], float],
        now: Callable[[], datetime],
        call_later: Callable[[float, Callable[[], None]], Handle],
    ) -> None:
        self.history = History(self._look, bounds=DURATIONS, clock=clock, call_later=call_later)
        self._overview = overview
        self._report = report
        self._metrics = metrics
        self._incidents = incidents
        self._pipeline = pipeline
        self._listener = listener
        self._stage = stage
        self._clock = clock
        self._now = now
        self._began = clock()

    def __repr__(self) -> str:
        return f"<Bulletin {self.history!r}>"

    def status(self) -> Mapping[str, Any]:
        """Give what `/status` shows. No ids, no keys."""
        status = self._status()
        return {**status, "summary": summary(status, self._now())}

    def _status(self) -> Mapping[str, Any]:
        since_success = self._metrics.since_success
        return {
            "version": __version__,
            "stage": self._stage(),
            "uptime_seconds": round(self._clock() - self._began, 3),
            "settings": self._overview.settings_hash,
            "tasks": len(asyncio.all_tasks()),
            "reload": self._overview.reload(),
            "upstream": {
                **self._overview.upstream(),
                "last_answer_seconds": None if since_success is None else round(since_success, 1),
            },
            "downstream": {
                "listen": list(self._listener.addresses),
                "connections": self._listener.connections,
                "in_flight": self._pipeline.in_flight,
                "buffered_bytes": self._listener.house.buffers.held,
            },
            "calls": self._metrics.totals(),
            "last_minute": self.history.recent(),
            "traffic": self._report.status(),
            "failures": self._incidents.status(),
            "keys": self._overview.keys(),
            "keys_used": self._overview.keys_used(),
            "expiries": self._overview.expiring(),
        }

    def _look(self, moment: float) -> Look:
        """See `History`."""
        return Look(
            moment,
            {
                **self._metrics.totals(),
                **self._report.totals(),
                **self._overview.totals(),
                "unauthorised": self._incidents.unauthorised,
            },
            {"in_flight": self._pipeline.in_flight, **self._overview.levels()},
            self._metrics.upstream_times(),
        )
