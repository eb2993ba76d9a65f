"""What settings mean: the parts and rules of every room, made of them. Pure; `app` puts the parts together."""

import base64
import ssl
from collections.abc import Callable, Mapping

from proxy import descriptors
from proxy.callers import Callers
from proxy.credentials import Application, Credentials
from proxy.fields import reply_table
from proxy.keyset import KeySet, Ledger
from proxy.pipeline import Rules as PipelineRules
from proxy.settings import Settings
from proxy.talon.routes import Routes
from proxy.target import Target
from proxy.traffic.attempts import Abandoned
from proxy.traffic.attempts import Rules as AttemptRules
from proxy.traffic.lanes import Rules as LaneRules
from proxy.traffic.retries import Rules as RetryRules
from proxy.traffic.traffic import Rules as TrafficRules
from proxy.upstream import Generation
from proxy.wire.buffers import Buffers
from proxy.wire.dialing import tls_context
from proxy.wire.downstream import Limits, Timeouts
from proxy.wire.egress import EgressRules, Via
from proxy.wire.heads import RequestLimits
from proxy.wire.pool import PoolLimits
from proxy.wire.wheel import Wheel


def credentials_of(settings: Settings) -> Credentials:
    """Build what decides for which Application a call is."""
    applications = settings.applications.values()
    return Credentials(
        [
            Application(application.name, application.environment, testing=application.kind == "testing")
            for application in applications
        ],
        [application.name for application in applications if application.api_key or application.next_api_key],
        tokens=settings.clients.tokens,
        inject=settings.clients.inject,
    )


def hints_of(settings: Settings) -> Mapping[str, str]:
    """Give the end of each Application's key, enough to recognise it."""
    keys = {
        name: application.api_key or application.next_api_key for name, application in settings.applications.items()
    }
    return {name: key.hint for name, key in keys.items() if key is not None}


def generation_of(
    settings: Settings,
    target: Target,
    wheel: Wheel,
    ledger: Ledger,
    buffers: Buffers,
    *,
    ended: Callable[[int], None] | None = None,
) -> Generation:
    """Build the generation of a target, not open yet. Raises OSError where the CA file cannot be read."""
    upstream = settings.upstream
    connections = upstream.connections
    return Generation(
        target.origin,
        KeySet(target.pairs, target.management, ledger),
        tls_of(settings) if target.origin.secure else None,
        wheel,
        PoolLimits(
            connections.warm,
            connections.max,
            connections.idle_timeout,
            connections.max_age,
            settings.limits.reply,
            buffers,
        ),
        table=reply_table(allow_browsers=settings.clients.allow_browsers),
        protocol=upstream.protocol,
        connect_timeout=upstream.timeouts.connect,
        egress=egress_rules(settings),
        ended=ended,
    )


def tls_of(settings: Settings) -> ssl.SSLContext:
    """Build the context of TLS with Talon.One. Raises OSError or ValueError where a file cannot be used."""
    tls = settings.upstream.tls
    return tls_context(
        tls.ca_file, settings.upstream.protocol, certificate=tls.client_cert_file, key=tls.client_key_file
    )


def egress_rules(settings: Settings) -> EgressRules:
    """Build the rules of the way out to Talon.One."""
    upstream = settings.upstream
    via = None
    if upstream.proxy is not None:
        origin, credentials = upstream.proxy.origin, upstream.proxy.credentials
        encoded = base64.b64encode(credentials.reveal().encode()) if credentials else None
        via = Via(origin.host, origin.port, b"Basic " + encoded if encoded else None)
    return EgressRules(via, upstream.bind, upstream.dns_refresh)


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


def pipeline_rules(settings: Settings) -> PipelineRules:
    """Give what settings mean for the pipeline."""
    timeouts = settings.upstream.timeouts
    return PipelineRules(
        timeouts.total,
        {name: timeouts.total_of(name) for name in timeouts.operations},
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
            settings.upstream.timeouts.operations,
            hold=lanes.hold,
            quarantine=lanes.quarantine,
            abandoned=Abandoned(lanes.abandoned),
            inspect=settings.limits.inspect,
            generate_keys=retries.generate_idempotency_keys,
            management_rate=settings.management.rate,
            retries=RetryRules(retries.connection, conflict.tries, conflict.base, conflict.cap, retries.budget),
        ),
        lanes=LaneRules(lanes.enabled, lanes.depth, lanes.dry_width, settings.coalescing.max_callers),
        memory=lanes.memory,
        shared_profiles=lanes.shared_profiles,
        shared_after=lanes.shared_after,
        concurrency=settings.limits.concurrency,
    )


def downstream_rules(settings: Settings) -> tuple[Limits, Timeouts]:
    """Give what settings mean for connections of callers."""
    limits, timeouts = settings.limits, settings.timeouts
    connections = descriptors.callers(limits.connections, settings.upstream.connections.max)
    return (
        Limits(request_limits(settings), limits.pipeline, connections),
        Timeouts(timeouts.head, timeouts.body, timeouts.write, timeouts.keep_alive),
    )
