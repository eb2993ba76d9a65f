"""The App builds every object once, starts them in order and stops them in order.

Start: 1. upstream, its warm connections on their way · 2. admin · 3. traffic · 4. ready.

Stop: 1. not ready, answers say `Connection: close`, callers are still taken · 2. when no call has come for
`shutdown.quiet`, the listeners close · 3. flights land; what was not sent when time runs short gets 503 ·
4. downstream connections close · 5. upstream · 6. admin. All within `shutdown.timeout`; a second signal ends it
at once.
"""

import asyncio
import base64
import gc
import logging
import signal
import ssl
import time
from collections.abc import Mapping, Sequence
from enum import Enum, auto
from typing import Any

from proxy import __version__
from proxy.callers import Callers
from proxy.credentials import Application, Credentials
from proxy.fields import reply_table, request_table
from proxy.observe.admin import Admin, Probes
from proxy.observe.hashes import Hashes
from proxy.observe.logs import AccessLog, Logs
from proxy.observe.metrics import Connections, LoopLag, Metrics, Pulled
from proxy.observe.observers import Observers
from proxy.pipeline import Pipeline
from proxy.pipeline import Rules as PipelineRules
from proxy.report import Report
from proxy.settings import Settings, settings_hash
from proxy.talon.operations import OPERATIONS
from proxy.talon.routes import Routes
from proxy.traffic.attempts import Abandoned
from proxy.traffic.attempts import Rules as AttemptRules
from proxy.traffic.lanes import Rules as LaneRules
from proxy.traffic.retries import Rules as RetryRules
from proxy.traffic.sharing import Profile
from proxy.traffic.traffic import Rules as TrafficRules
from proxy.traffic.traffic import Traffic
from proxy.upstream import Generation, Upstream
from proxy.wire.dialing import tls_context
from proxy.wire.downstream import Limits, Timeouts
from proxy.wire.egress import EgressRules, Via
from proxy.wire.heads import RequestLimits
from proxy.wire.listener import CannotListen, Listener
from proxy.wire.pool import PoolLimits
from proxy.wire.wheel import Wheel

__all__ = [
    "App",
    "CannotListen",
    "Stage",
    "callers_of",
    "credentials_of",
    "egress_rules",
    "request_limits",
    "routes_of",
    "tls_of",
]

_LOG = logging.getLogger(__name__)
STARTUP_GRACE = 5.0  # seconds after which a start without warm connections counts as started
PROTOCOL = "http/1.1"


class Stage(Enum):
    """STARTING ⇒ SERVING ⇒ DRAINING ⇒ STOPPED."""

    STARTING = auto()
    SERVING = auto()
    DRAINING = auto()
    STOPPED = auto()


def credentials_of(settings: Settings) -> Credentials:
    """Build the credentials that settings describe."""
    applications = settings.applications.values()
    return Credentials(
        [
            Application(application.name, application.environment, testing=application.kind == "testing")
            for application in applications
        ],
        {application.name: application.api_key for application in applications if application.api_key is not None},
        tokens=settings.clients.tokens,
        management=settings.management.api_key,
        inject=settings.clients.inject,
    )


def routes_of(settings: Settings) -> Routes:
    """Build the table of what is forwarded."""
    return Routes(
        extra=[str(template) for template in settings.routes.extra],
        management=settings.management.api_key is not None,
    )


def callers_of(settings: Settings) -> Callers:
    """Build the check of who may call."""
    return Callers(hosts=settings.clients.hosts, allow_browsers=settings.clients.allow_browsers)


def request_limits(settings: Settings) -> RequestLimits:
    """Build the bounds of one request."""
    limits = settings.limits
    return RequestLimits(head=limits.head, fields=limits.fields, target=limits.target, body=limits.body)


def tls_of(settings: Settings) -> ssl.SSLContext:
    """Build the context of TLS with Talon.One. Raises OSError or ValueError where a file cannot be used."""
    tls = settings.upstream.tls
    return tls_context(tls.ca_file, certificate=tls.client_cert_file, key=tls.client_key_file)


def egress_rules(settings: Settings) -> EgressRules:
    """Build the rules of the way out to Talon.One."""
    upstream = settings.upstream
    via = None
    if upstream.proxy is not None:
        origin, credentials = upstream.proxy.origin, upstream.proxy.credentials
        encoded = base64.b64encode(credentials.reveal().encode()) if credentials else None
        via = Via(origin.host, origin.port, b"Basic " + encoded if encoded else None)
    return EgressRules(via, upstream.bind, upstream.dns_refresh)


class App:
    """The whole proxy, in the running loop. Raises OSError or ValueError for a file of `upstream.tls` it cannot use."""

    def __init__(self, settings: Settings, logs: Logs, *, credentials: Credentials) -> None:
        loop = asyncio.get_running_loop()
        self._settings = settings
        self._settings_hash = settings_hash(settings)
        self._started_at = time.monotonic()
        self.stage = Stage.STARTING
        self._started = False  # as `/startupz` tells it
        self.addresses: Sequence[str] = ()
        self.admin_addresses: Sequence[str] = ()
        self._wheel = Wheel(time.monotonic, loop.call_later)
        self._logs = logs
        self._credentials = credentials
        self._metrics = Metrics(
            self._pulled(),
            operations=[operation.name for operation in OPERATIONS],
            applications=credentials.applications,
            version=__version__,
            clock=time.monotonic,
            now=time.time,
        )
        self._lag = LoopLag(self._metrics.loop_lagged, clock=time.monotonic, call_later=loop.call_later)
        self._upstream = Upstream(self._generation())
        self._traffic = Traffic(
            self._upstream, credentials, traffic_rules(settings), clock=time.monotonic, shared=self._shared
        )
        self._pipeline = Pipeline(
            routes_of(settings),
            callers_of(settings),
            credentials,
            self._traffic,
            Observers(self._metrics, AccessLog(logs, settings.log.access.mode, settings.log.access.rate)),
            self._wheel,
            rules=pipeline_rules(settings),
        )
        key = settings.log.hash_key
        self._report = Report(self._traffic, lambda: self._pipeline.flights, Hashes(key.reveal() if key else None))
        self._listener = Listener(self._pipeline, self._wheel, request_table(), *_downstream(settings))
        self._admin = Admin(
            probes=Probes(live=tuple, ready=self._not_ready, started=self._not_started),
            metrics=self._metrics.scrape,
            status=self.status,
            token=settings.admin.token.reveal() if settings.admin.token else None,
            hosts=settings.admin.hosts,
        )

    def __repr__(self) -> str:
        return f"<App {self.stage.name} {self._upstream.current!r}>"

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
        return {"listen": list(self.addresses), "admin": list(self.admin_addresses), "upstream": self._origin}

    async def stop(self) -> int:
        """SERVING ⇒ DRAINING ⇒ STOPPED. Returns how many calls were cut off."""
        shutdown = self._settings.shutdown
        started = self._wheel.clock()
        deadline = started + shutdown.timeout
        self.stage = Stage.DRAINING
        self._listener.draining = True
        _LOG.info("draining", extra={"fields": {"in_flight": self._pipeline.in_flight}})
        await self._quiet(shutdown.quiet, started, deadline)
        await self._listener.close()
        cut_off = await self._land(deadline)
        await self._end()
        _LOG.info("stopped", extra={"fields": {"cut_off": cut_off, "seconds": round(self._wheel.clock() - started, 3)}})
        return cut_off

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
        self._upstream.current.abort()
        try:
            async with asyncio.timeout(max(deadline - self._wheel.clock(), 0.0)):
                await self._pipeline.drained()
                await self._listener.closed()
        except TimeoutError:
            self._listener.abort()
            await self._listener.closed()
        return cut_off

    async def _end(self) -> None:
        self._lag.stop()
        await self._upstream.current.drain()
        await self._admin.stop()
        self._wheel.stop()
        self.stage = Stage.STOPPED

    async def run(self, *, ipv6_optional: bool = False) -> int:
        """Serve until SIGTERM or SIGINT; gives the exit code. Raises CannotListen as `start` does."""
        signals: asyncio.Queue[None] = asyncio.Queue()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, signals.put_nowait, None)
        # Unhandled it would end the process, and the calls in flight with it.
        loop.add_signal_handler(
            signal.SIGHUP, _LOG.warning, "SIGHUP ignored: settings cannot be reloaded yet; restart to apply them"
        )
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

    # --- what probes, metrics and operators are told ---

    def _shared(self, profile: Profile) -> None:
        _LOG.warning("a profile is shared", extra={"fields": self._report.profile(profile)})

    def _not_ready(self) -> Sequence[str]:
        return () if self.stage is Stage.SERVING else (self.stage.name.lower(),)

    def _not_started(self) -> Sequence[str]:
        if self.stage is Stage.STARTING:
            return ("not listening yet",)
        # Once started, always started: connections that drop later are not a start gone wrong.
        self._started |= self._upstream.current.pool.warm or time.monotonic() - self._started_at > STARTUP_GRACE
        return () if self._started else ("warm connections are not up yet",)

    def status(self) -> Mapping[str, Any]:
        """Give what `/status` shows. No ids, no keys."""
        generation = self._upstream.current
        pool = generation.pool
        return {
            "version": __version__,
            "stage": self.stage.name.lower(),
            "uptime_seconds": round(time.monotonic() - self._started_at, 3),
            "settings": self._settings_hash,
            "upstream": {
                "url": self._origin,
                "generation": generation.number,
                "state": generation.state.name.lower(),
                "protocol": PROTOCOL,
                "name": {
                    "host": generation.egress.name.host,
                    "addresses": list(generation.egress.name.known),
                    "failing": generation.egress.name.failing,
                },
                "connections": {
                    "opening": pool.opening,
                    "active": pool.active - pool.held,
                    "held": pool.held,
                    "idle": pool.idle,
                    "opened": pool.opened,
                    "closed": self._closed(),
                    "idle_limit_seconds": round(pool.idle_limit, 1),
                },
            },
            "downstream": {
                "listen": list(self.addresses),
                "connections": self._listener.connections,
                "in_flight": self._pipeline.in_flight,
            },
            "calls": self._metrics.totals(),
            "traffic": self._report.status(),
            "keys": self._credentials.hints(),
        }

    def _pulled(self) -> Pulled:
        return Pulled(
            in_flight=lambda: self._pipeline.in_flight,
            traffic=lambda: self._report.numbers(),
            connections=self._connections,
            opened=lambda: self._upstream.current.pool.opened,
            closed=self._closed,
            generation=lambda: self._upstream.current.number,
            upstream=lambda: (self._settings.upstream.url.host, PROTOCOL),
            config_hash=lambda: self._settings_hash,
            log_dropped=lambda: self._logs.dropped,
        )

    def _closed(self) -> dict[str, int]:
        return {reason.value: count for reason, count in self._upstream.current.pool.closed.items()}

    def _connections(self) -> list[Connections]:
        pool = self._upstream.current.pool
        held = pool.held
        return [Connections(PROTOCOL, "current", pool.opening, active=pool.active - held, idle=pool.idle, held=held)]

    # --- parts ---

    @property
    def _origin(self) -> str:
        return str(self._settings.upstream.url)

    def _generation(self) -> Generation:
        settings = self._settings
        upstream = settings.upstream
        connections = upstream.connections
        return Generation(
            upstream.url,
            tls_of(settings) if upstream.url.secure else None,
            self._wheel,
            PoolLimits(
                connections.warm,
                connections.max,
                connections.idle_timeout,
                connections.max_age,
                settings.limits.reply,
            ),
            table=reply_table(allow_browsers=settings.clients.allow_browsers),
            connect_timeout=upstream.timeouts.connect,
            egress=egress_rules(settings),
            ended=self._metrics.connection_closed,
        )


def pipeline_rules(settings: Settings) -> PipelineRules:
    """Give what settings mean for the pipeline."""
    return PipelineRules(
        settings.upstream.timeouts.total,
        settings.base_path,
        settings.limits.inspect,
        settings.coalescing.enabled,
        frozenset(settings.coalescing.off),
    )


def traffic_rules(settings: Settings) -> TrafficRules:
    """Give what settings mean for the traffic room."""
    lanes, retries, conflict = settings.lanes, settings.retries, settings.retries.conflict
    return TrafficRules(
        AttemptRules(
            settings.upstream.timeouts.response,
            hold=lanes.hold,
            quarantine=lanes.quarantine,
            abandoned=Abandoned(lanes.abandoned),
            inspect=settings.limits.inspect,
            generate_keys=retries.generate_idempotency_keys,
            retries=RetryRules(retries.connection, conflict.tries, conflict.base, conflict.cap, retries.budget),
        ),
        lanes=LaneRules(lanes.enabled, lanes.depth, lanes.dry_width, settings.coalescing.max_callers),
        memory=lanes.memory,
        shared_profiles=lanes.shared_profiles,
        shared_after=lanes.shared_after,
    )


def _downstream(settings: Settings) -> tuple[Limits, Timeouts]:
    limits, timeouts = settings.limits, settings.timeouts
    return (
        Limits(request_limits(settings), limits.pipeline, limits.connections),
        Timeouts(timeouts.head, timeouts.body, timeouts.write, timeouts.keep_alive),
    )


def _calm_collector() -> None:
    """Look for reference cycles less often: calls leave none behind, and looking cost 5 % of the CPU per call."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)
    gc.enable()
