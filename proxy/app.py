"""The App builds every object once, starts them in order and stops them in order.

Start: 1. upstream, its warm connections on their way · 2. admin · 3. traffic · 4. ready.

A reload or a switch builds first, then replaces (`reloading`, `switching`); nothing in here is changed piece by piece.

Stop: 1. no reload, no switch; not ready, answers say `Connection: close`, callers are still taken · 2. when no call has
come for `shutdown.quiet`, the listeners close · 3. flights land; what was not sent when time runs short gets 503 ·
4. downstream connections close · 5. upstream · 6. admin. All within `shutdown.timeout`; a second signal ends it
at once.
"""

import asyncio
import gc
import logging
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from enum import Enum, auto
from typing import TYPE_CHECKING

from proxy import __version__
from proxy.assembly import (
    callers_of,
    credentials_of,
    downstream_rules,
    generation_of,
    pipeline_rules,
    routes_of,
    traffic_rules,
)
from proxy.bulletin import Bulletin
from proxy.checking import Checking
from proxy.fields import request_table
from proxy.keyset import Ledger
from proxy.messages import Reply
from proxy.observe.access import AccessLog
from proxy.observe.admin import Admin, Controls, Declined, Probes
from proxy.observe.hashes import Hashes
from proxy.observe.incidents import Incidents
from proxy.observe.logs import Logs
from proxy.observe.metrics import LoopLag, Metrics, Pulled
from proxy.observe.observers import Observers
from proxy.observe.watchdog import Watchdog
from proxy.overview import Overview
from proxy.pipeline import Pipeline
from proxy.planned import Plan
from proxy.reloading import Reloader, ReloadFailed
from proxy.report import Report
from proxy.secret import Redactor
from proxy.settings import Loaded, Origin, Settings, secrets
from proxy.switching import NotAllowed, Switcher
from proxy.talon import failures
from proxy.talon.operations import OPERATIONS
from proxy.target import Target, configured, target
from proxy.traffic.sharing import Profile
from proxy.traffic.signs import Suspicion
from proxy.traffic.traffic import Traffic
from proxy.upstream import Generation, Upstream
from proxy.verification import Unverified
from proxy.wire.buffers import Buffers
from proxy.wire.downstream import House
from proxy.wire.listener import CannotListen, Listener
from proxy.wire.wheel import Wheel

if TYPE_CHECKING:
    from proxy.observe.tracing import Tracing

__all__ = ["App", "CannotListen", "Stage"]

_LOG = logging.getLogger(__name__)
STARTUP_GRACE = 5.0  # seconds after which a start without warm connections counts as started


class Stage(Enum):
    """STARTING ⇒ SERVING ⇒ DRAINING ⇒ STOPPED."""

    STARTING = auto()
    SERVING = auto()
    DRAINING = auto()
    STOPPED = auto()


class App:
    """The whole proxy, in the running loop. Raises OSError or ValueError for a file of `upstream.tls` it cannot use."""

    def __init__(
        self,
        loaded: Loaded,
        logs: Logs,
        *,
        redactor: Redactor,
        load: Callable[[], Loaded] | None = None,
        tracing: "Tracing | None" = None,
    ) -> None:
        """`redactor` is what `logs` redacts by. `load` reads the settings anew; None: they are never reloaded.

        `tracing`: who makes spans of calls, if somebody shall.
        """
        loop = asyncio.get_running_loop()
        settings = loaded.settings
        self._started_at = time.monotonic()
        self.stage = Stage.STARTING
        self._started = False  # as `/startupz` tells it
        self.addresses: Sequence[str] = ()
        self.admin_addresses: Sequence[str] = ()
        self._wheel = Wheel(time.monotonic, loop.call_later)
        self._logs = logs
        self._ledger = Ledger()
        self._buffers = Buffers(settings.limits.buffered)
        self._metrics = Metrics(
            self._pulled(),
            operations=[operation.name for operation in OPERATIONS],
            applications=credentials_of(settings).applications,
            version=__version__,
            judge=_judge,
            clock=time.monotonic,
            now=time.time,
        )
        self._incidents = Incidents(time.monotonic)
        self._watchdog = Watchdog(logs.write, clock=time.monotonic)
        self._lag = LoopLag(self._came_round, clock=time.monotonic, call_later=loop.call_later)
        start = target(settings, configured(settings, _now()))
        self._upstream = Upstream(self._generation(settings, start))
        self._traffic = Traffic(
            self._upstream,
            traffic_rules(settings),
            clock=time.monotonic,
            shared=self._shared,
            suspected=_suspected,
            rekeyed=_rekeyed,
            refused=_refused,
            tracer=tracing,
        )
        self._callers = callers_of(settings)
        key = settings.log.hash_key
        hashes = Hashes(key.reveal() if key else None)
        self.checking = Checking(
            settings,
            routes_of(settings),
            credentials_of(settings),
            hashes,
            version=__version__,
            redact=redactor.redact,
            conflicts_avoided=lambda: self._traffic.lanes.conflicts_avoided,
            call_later=loop.call_later,
        )
        # In this order: the others tell the trace that a span began.
        counting = (self._metrics, self._incidents)
        self._observing = counting if tracing is None else (tracing, *counting)
        self._observers = Observers(*self._observing, self._access_log(settings), *self.checking.observers)
        self._pipeline = Pipeline(
            routes_of(settings),
            self._callers,
            credentials_of(settings),
            self._traffic,
            self._observers,
            self._wheel,
            rules=pipeline_rules(settings),
            tracer=tracing,
        )
        self._report = Report(self._traffic, lambda: self._pipeline.flights, hashes, clock=time.monotonic)
        self._listener = Listener(
            House(self._pipeline, self._wheel, request_table(), self._buffers, *downstream_rules(settings))
        )
        self._switcher = Switcher(
            settings,
            self._upstream,
            start,
            make=self._generation,
            swapped=self._traffic.attempts.signs.forget,
            now=_now,
        )
        self._plan: Plan | None = None
        self._reloader = Reloader(
            loaded,
            load,
            self._switcher,
            build=self._build,
            learn=lambda settings: redactor.know(secrets(settings)),
            settled=self._make_plan,
            clock=time.monotonic,
            now=time.time,
        )
        self._overview = Overview(
            self._upstream,
            self._switcher,
            self._reloader,
            self._traffic.attempts.signs,
            self._ledger,
            plan=lambda: self._plan,
            now=_now,
        )
        self.bulletin = Bulletin(
            self._overview,
            self._report,
            self._metrics,
            self._incidents,
            self._pipeline,
            self._listener,
            stage=lambda: self.stage.name.lower(),
            clock=time.monotonic,
            now=_now,
            call_later=loop.call_later,
        )
        self._admin = Admin(
            probes=Probes(live=tuple, ready=self._not_ready, started=self._not_started),
            metrics=self._metrics.scrape,
            status=self.bulletin.status,
            checklist=self.checking.told,
            history=self.bulletin.history.columns,
            controls=Controls(self._overview.config, self._reload, self._switch, self.drain),
            token=settings.admin.token.reveal() if settings.admin.token else None,
            hosts=settings.admin.hosts,
        )

    def __repr__(self) -> str:
        return f"<App {self.stage.name} {self._upstream.current!r}>"

    @property
    def _settings(self) -> Settings:
        return self._reloader.settings

    # --- life ---

    async def start(self, *, ipv6_optional: bool = False) -> None:
        """STARTING ⇒ SERVING. Raises CannotListen where an address cannot be had; nothing is left running then.

        `ipv6_optional`: see `Listener.start`.
        """
        self._upstream.current.open()
        try:
            self.admin_addresses = await self._start_admin()
            self.addresses = await self._listener.start(self._settings.listen, ipv6_optional=ipv6_optional)
        except BaseException:
            await self._end()
            raise
        self._lag.start()
        self.bulletin.history.start()
        self._watchdog.start()
        self._reloader.start()
        await self._make_plan()
        _calm_collector()
        self.stage = Stage.SERVING
        _LOG.info("serving", extra={"fields": self._told()})

    async def _start_admin(self) -> Sequence[str]:
        addresses = self._settings.admin.listen
        try:
            return await self._admin.start(addresses)
        except OSError as error:
            # Which of several it was, the error does not tell.
            port = addresses[0].port if len(addresses) == 1 else 0
            raise CannotListen(" or ".join(map(str, addresses)), port, error) from error

    def _told(self) -> Mapping[str, object]:
        return {
            "listen": list(self.addresses),
            "admin": list(self.admin_addresses),
            "upstream": str(self._switcher.origin),
        }

    async def stop(self) -> int:
        """SERVING ⇒ DRAINING ⇒ STOPPED. Returns how many calls were cut off."""
        shutdown = self._settings.shutdown
        started = self._wheel.clock()
        deadline = started + shutdown.timeout
        self.drain()
        # A planned switch whose moment comes meanwhile is made: what it holds must not go to the old URL.
        await self._reloader.stop()
        await self._quiet(shutdown.quiet, started, deadline)
        await self._listener.close()
        cut_off = await self._land(deadline)
        await self._end()
        _LOG.info("stopped", extra={"fields": {"cut_off": cut_off, "seconds": round(self._wheel.clock() - started, 3)}})
        return cut_off

    def drain(self) -> Mapping[str, object]:
        """SERVING ⇒ DRAINING: callers are sent elsewhere, and served while they come. The end is the signal's."""
        if self.stage is Stage.SERVING:
            self.stage = Stage.DRAINING
            self._listener.drain()
            _LOG.info("draining", extra={"fields": {"in_flight": self._pipeline.in_flight}})
        return {"stage": self.stage.name.lower(), "in_flight": self._pipeline.in_flight}

    async def _quiet(self, quiet: float, started: float, deadline: float) -> None:
        """Wait until no call has arrived for `quiet` seconds, leaving the last ones time to land."""
        latest = max(deadline - self._settings.upstream.timeouts.response - 1.0, started + quiet)
        while True:
            wait = min(self._pipeline.last_arrival + quiet, latest) - self._wheel.clock()
            if wait <= 0:
                return
            await asyncio.sleep(wait)

    async def _land(self, deadline: float) -> int:
        """Wait for flights and for their answers to be read; cut off what is left at the deadline."""
        try:
            # The last moments are for telling those whose call was never sent.
            async with asyncio.timeout(max(deadline - 1.0 - self._wheel.clock(), 0.0)):
                await self._pipeline.drained()
                await self._listener.closed()
        except TimeoutError:
            pass
        self._pipeline.refuse_unsent()
        cut_off = self._pipeline.in_flight + self._listener.unwritten
        # What was sent lands as lost, with an unknown outcome: its callers are told that rather than nothing.
        self._upstream.abort()
        try:
            async with asyncio.timeout(max(deadline - self._wheel.clock(), 0.0)):
                await self._pipeline.drained()
                await self._listener.closed()
        except TimeoutError:
            self._listener.abort()
            await self._listener.closed()
        return cut_off

    async def _end(self) -> None:
        self._watchdog.stop()
        self._lag.stop()
        self.checking.stop()
        self.bulletin.history.stop()
        await self._reloader.stop()
        await self._drop_plan()
        await self._upstream.close()
        await self._admin.stop()
        self._wheel.stop()
        self.stage = Stage.STOPPED

    async def run(self, *, ipv6_optional: bool = False) -> int:
        """Serve until SIGTERM or SIGINT; gives the exit code. Raises CannotListen as `start` does."""
        signals: asyncio.Queue[None] = asyncio.Queue()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, signals.put_nowait, None)
        loop.add_signal_handler(signal.SIGHUP, self._reloader.ask, "SIGHUP")
        # Those that came while the process started have waited for this (`cli`).
        signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGTERM, signal.SIGINT, signal.SIGHUP))
        await self.start(ipv6_optional=ipv6_optional)
        await signals.get()
        stopping = loop.create_task(self.stop(), name="stop")
        again = loop.create_task(signals.get(), name="second signal")
        await asyncio.wait((stopping, again), return_when=asyncio.FIRST_COMPLETED)
        again.cancel()
        if stopping.done():
            return 1 if stopping.result() else 0
        _LOG.warning("second signal: ending at once", extra={"fields": {"in_flight": self._pipeline.in_flight}})
        stopping.cancel()
        self._listener.remove_sockets()
        return 1 if self._pipeline.in_flight else 0

    # --- what changes while it runs ---

    def _build(self, settings: Settings) -> Callable[[], None]:
        """Make all that follows from settings, and give what puts it into effect."""
        credentials, routes, access_log = credentials_of(settings), routes_of(settings), self._access_log(settings)
        for_pipeline, for_traffic, downstream = (
            pipeline_rules(settings),
            traffic_rules(settings),
            downstream_rules(settings),
        )
        token = settings.admin.token.reveal() if settings.admin.token else None

        def put_into_effect() -> None:
            self._metrics.know(credentials.applications)
            self._pipeline.follow(routes, self._callers, credentials, for_pipeline)
            self._traffic.follow(for_traffic)
            self._listener.house.follow(*downstream)
            self._buffers.most = settings.limits.buffered
            self.checking.follow(settings, routes, credentials)
            self._observers.follow(*self._observing, access_log, *self.checking.observers)
            self._logs.level = settings.log.level
            self._admin.token = token

        return put_into_effect

    async def _make_plan(self) -> None:
        """Plan the switch that the settings ask for, unless it is planned already, or was made."""
        planned, before = self._settings.upstream.next, self._plan
        if before is not None and before.serves(planned):
            return
        await self._drop_plan()
        if planned.url is None or planned.at is None:
            return
        missed = before is not None and not before.done
        if planned.at <= _now() and not missed:
            return  # it began there, or was pointed elsewhere since on purpose
        self._plan = Plan(
            planned,
            self._switcher,
            hold=self._traffic.attempts.hold,
            unhold=self._traffic.attempts.unhold,
            writing=self._pipeline.writing,
            clock=time.monotonic,
            now=_now,
            sleep=asyncio.sleep,
        )
        self._plan.start()

    async def _drop_plan(self) -> None:
        plan, self._plan = self._plan, None
        if plan is not None:
            await plan.stop()

    async def _reload(self) -> Mapping[str, object]:
        """See `observe.admin.Controls`."""
        if self.stage is not Stage.SERVING:
            raise Declined("the proxy is draining")
        try:
            done = await self._reloader.reload("POST /-/reload")
        except ReloadFailed as error:
            raise Declined(str(error)) from error
        return {
            "changed": done.changed,
            "restart_needed": done.restart,
            "warnings": done.warnings,
            "generation": self._upstream.current.number,
            "url": str(self._switcher.origin),
            "override": self._switcher.override is not None,
            "settings": self._overview.settings_hash,
        }

    async def _switch(self, url: str, force: bool) -> Mapping[str, object]:
        """See `observe.admin.Controls`."""
        if self.stage is not Stage.SERVING:
            raise Declined("the proxy is draining")
        try:
            generation = await self._switcher.switch(Origin.parse(url), force=force)
        except (NotAllowed, Unverified, OSError) as error:
            raise Declined(str(error)) from error
        except ValueError as error:
            raise Declined(f"url {error}") from error
        return {
            "generation": generation.number,
            "url": str(generation.origin),
            "override": self._switcher.override is not None,
        }

    # --- what probes, metrics and operators are told ---

    def _shared(self, profile: Profile) -> None:
        _LOG.warning("a profile is shared", extra={"fields": self._report.profile(profile)})

    def _came_round(self, late: float) -> None:
        self._watchdog.show()
        self._metrics.loop_lagged(late)

    def _not_ready(self) -> Sequence[str]:
        return () if self.stage is Stage.SERVING else (self.stage.name.lower(),)

    def _not_started(self) -> Sequence[str]:
        if self.stage is Stage.STARTING:
            return ("not listening yet",)
        # Once started, always started: connections that drop later are not a start gone wrong.
        self._started |= self._upstream.current.pool.warm or time.monotonic() - self._started_at > STARTUP_GRACE
        return () if self._started else ("warm connections are not up yet",)

    def _pulled(self) -> Pulled:
        return Pulled(
            in_flight=lambda: self._pipeline.in_flight,
            traffic=lambda: self._report.numbers(),
            connections=lambda: self._overview.connections(),
            opened=lambda: self._upstream.opened,
            closed=lambda: self._overview.closed(),
            circuit=lambda: self._traffic.attempts.circuit.state.value,
            generation=lambda: self._upstream.current.number,
            override=lambda: self._switcher.override is not None,
            upstream=lambda: (self._upstream.current.origin.host, self._upstream.current.pool.protocol),
            credentials=self._ledger.counts,
            expiries=lambda: self._overview.expiries(),
            reloaded=lambda: (self._reloader.failure is None, self._reloader.reloaded),
            config_hash=lambda: self._overview.settings_hash,
            log_dropped=lambda: self._logs.dropped,
            checklist=lambda: self.checking.checked(),
        )

    # --- parts ---

    def _access_log(self, settings: Settings) -> AccessLog:
        return AccessLog(self._logs, settings.log.access.mode, settings.log.access.rate)

    def _generation(self, settings: Settings, wanted: Target) -> Generation:
        return generation_of(
            settings, wanted, self._wheel, self._ledger, self._buffers, ended=self._metrics.connection_closed
        )


def _now() -> datetime:
    return datetime.now(UTC)


def _judge(reply: Reply) -> str:
    return failures.classify(reply.status, reply.block, reply.body).value


def _suspected(suspicion: Suspicion | None) -> None:
    if suspicion is None:
        _LOG.info("Talon.One answers as an API again")
    else:
        fields = {"sign": suspicion.sign.value, "advice": suspicion.advice}
        _LOG.warning("Talon.One may have moved", extra={"fields": fields})


def _rekeyed(application: str, role: str) -> None:
    _LOG.warning("another API key leads", extra={"fields": {"application": application, "key": role}})


def _refused(application: str) -> None:
    _LOG.warning("Talon.One refuses the API key (401)", extra={"fields": {"application": application}})


def _calm_collector() -> None:
    """Look for reference cycles less often: calls leave none behind, and looking cost 5 % of the CPU per call."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)
    gc.enable()
