"""Traces by OpenTelemetry: a server span for each call, a client span for each attempt to have it answered.

Imported only where an `OTEL_` variable asks for it (`otel`). Names are those of OpenTelemetry's conventions for HTTP. A
span has no id of a customer or session, no query and no key: where the conventions want a URL, the operation's template
stands in it.

A call whose `traceparent` is valid belongs to its caller's trace, any other begins one. Talon.One is told the client
span as parent where the trace is sampled; else `traceparent` crosses as it came.
"""

import re
import threading
import time
from collections.abc import Callable, Mapping
from typing import Protocol

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.semconv.attributes import (
    error_attributes,
    http_attributes,
    network_attributes,
    server_attributes,
    service_attributes,
    url_attributes,
)
from opentelemetry.trace import (
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    StatusCode,
    TraceFlags,
    set_span_in_context,
)

from proxy.errors import ProxyError
from proxy.messages import Call, Reply, Sent, Trace
from proxy.observe import breakdown

CALLER_LEFT = "caller_left"  # the type of the error of a call whose caller did not wait for its answer
URL_TEMPLATE = "url.template"  # a convention that is still in development
_HIDDEN = "/REDACTED"  # in place of a path that is in no table
_VERSIONS = {"http/1.1": "1.1", "h2": "2"}  # by what ALPN calls them
_TRACEPARENT = re.compile(rb"^traceparent:[^\r\n]*\r\n", re.IGNORECASE | re.MULTILINE)
_TRACESTATE = re.compile(rb"^tracestate:[^\r\n]*\r\n", re.IGNORECASE | re.MULTILINE)


class Origin(Protocol):
    """Where Talon.One is; as text, its URL."""

    @property
    def host(self) -> str:
        """Name or IP address."""
        ...

    @property
    def port(self) -> int:
        """Of it."""
        ...


class _Traced:
    """What is known of one call: its span, and of its attempts the one under way and the latest."""

    __slots__ = ("attempt", "began", "continues", "latest", "leader", "span")

    def __init__(self, span: Span, *, continues: bool) -> None:
        self.span = span
        self.continues = continues  # the caller's trace
        self.attempt: Span | None = None
        self.began = 0  # that attempt, in nanoseconds of Unix time
        self.latest: SpanContext | None = None
        self.leader: _Traced | None = None  # whose answer it shares


class Tracing:
    """Makes spans; an observer, and the `traffic.traced.Tracer`."""

    only_failed = False

    def __init__(
        self,
        provider: TracerProvider,
        *,
        version: str,
        templates: Mapping[str, str],
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], int] = time.time_ns,
    ) -> None:
        """`templates`: of each operation's path, empty where it has none. `clock`: the one timelines are stamped by."""
        self._provider = provider
        self._tracer = provider.get_tracer("talon-proxy", version)
        self._templates = {name: template for name, template in templates.items() if template}
        self._clock = clock
        self._now = now

    def __repr__(self) -> str:
        return f"<Tracing to {self._provider!r}>"

    def close(self, timeout: float) -> None:
        """Send what there is, for at most so many seconds."""
        # The SDK would wait for as long as its exporter likes.
        closing = threading.Thread(target=self._provider.shutdown, name="last traces", daemon=True)
        closing.start()
        closing.join(timeout)

    # --- the tracer of attempts ---

    def joined(self, call: Call, leader: Call) -> None:
        """See `traffic.traced.Tracer`."""
        self._of(call).leader = self._of(leader)

    def trying(self, call: Call) -> None:
        """See `traffic.traced.Tracer`."""
        self._of(call).began = self._now()

    def sending(self, call: Call, origin: Origin, lines: bytes) -> bytes:
        """See `traffic.traced.Tracer`."""
        traced = self._of(call)
        self._begin(call, traced, self._now(), origin)
        context = traced.latest
        if context is None or not context.trace_flags.sampled:
            return lines
        if not traced.continues:
            # It belongs to what stood in traceparent, and that was no trace (W3C Trace Context §3.3.1.1).
            lines = _TRACESTATE.sub(b"", lines)
        told = f"traceparent: 00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}\r\n"
        return _TRACEPARENT.sub(b"", lines) + told.encode()

    def ended(self, call: Call, *, status: int = 0, error: str | None = None) -> None:
        """See `traffic.traced.Tracer`."""
        traced = self._of(call)
        if traced.attempt is None:
            # It failed before it had a connection.
            self._begin(call, traced, traced.began, None)
        span, traced.attempt = traced.attempt, None
        if span is None:
            return
        if status:
            span.set_attribute(http_attributes.HTTP_RESPONSE_STATUS_CODE, status)
            span.set_attribute(network_attributes.NETWORK_PROTOCOL_VERSION, _VERSIONS[call.timeline.protocol])
        if status >= 400:
            error = str(status)
        if error is not None:
            span.set_attribute(error_attributes.ERROR_TYPE, error)
            span.set_status(StatusCode.ERROR)
        span.end(self._now())

    def _begin(self, call: Call, traced: _Traced, began: int, origin: Origin | None) -> None:
        if not traced.span.get_span_context().trace_flags.sampled:
            return  # nor would this one be
        template = self._templates.get(call.operation)
        method = call.method.decode()
        attributes: dict[str, str | int] = {http_attributes.HTTP_REQUEST_METHOD: method}
        if origin is not None:
            attributes[server_attributes.SERVER_ADDRESS] = origin.host
            attributes[server_attributes.SERVER_PORT] = origin.port
            attributes[url_attributes.URL_FULL] = f"{origin}{template or _HIDDEN}"
        if template is not None:
            attributes[URL_TEMPLATE] = template
        if call.timeline.tries > 1:
            attributes[http_attributes.HTTP_REQUEST_RESEND_COUNT] = call.timeline.tries - 1
        traced.attempt = self._tracer.start_span(
            _name(method, template),
            set_span_in_context(traced.span, Context()),
            SpanKind.CLIENT,
            attributes,
            start_time=began,
        )
        traced.latest = traced.attempt.get_span_context()

    # --- an observer ---

    def finished(self, call: Call, reply: Reply, *, whole: bool) -> None:
        """See `observers.Observer`."""
        timeline, failed = call.timeline, reply.status >= 500
        error = (call.error or str(reply.status)) if failed else None
        attributes: dict[str, str | int] = {
            http_attributes.HTTP_RESPONSE_STATUS_CODE: reply.status,
            "talon_proxy.answered_by": reply.source.value,
        }
        end = timeline.written or timeline.ready
        self._end(call, end, attributes, error if whole else CALLER_LEFT, failed=failed)

    def rejected(self, reply: Reply, error: ProxyError) -> None:
        """See `observers.Observer`: what never became a call has no span."""

    def abandoned(self, call: Call, sent: Sent) -> None:
        """See `observers.Observer`."""
        if sent is Sent.NO:
            self._end(call, self._clock(), {}, CALLER_LEFT, failed=False)

    def _end(
        self, call: Call, moment: float, attributes: Mapping[str, str | int], error: str | None, *, failed: bool
    ) -> None:
        traced = self._of(call)
        span = traced.span
        if span.is_recording():
            span.set_attributes({**attributes, **self._told(call, moment)})
            if error is not None:
                span.set_attribute(error_attributes.ERROR_TYPE, error)
            if failed:
                span.set_status(StatusCode.ERROR)
            if traced.leader is not None:
                span.add_link(traced.leader.latest or traced.leader.span.get_span_context())
        span.end(self._unix(moment))

    def _told(self, call: Call, moment: float) -> dict[str, str | int | float]:
        """Give what the conventions have no name for."""
        timeline = call.timeline
        told: dict[str, str | int | float] = {
            "talon_proxy.operation": call.operation,
            "talon_proxy.application": call.application,
            "talon_proxy.coalesced": timeline.joined,
        }
        if timeline.conflicts:
            told["talon_proxy.conflicts"] = timeline.conflicts
        return told | {
            f"talon_proxy.spent.{name}": round(seconds, 6)
            for name, seconds in breakdown.parts(timeline, moment).items()
        }

    # --- of one call ---

    def _of(self, call: Call) -> _Traced:
        """Give what is known of a call; its span begins with its first byte."""
        trace = call.trace
        if trace is not None and isinstance(trace.span, _Traced):
            return trace.span
        template = self._templates.get(call.operation)
        method = call.method.decode()
        attributes = {
            http_attributes.HTTP_REQUEST_METHOD: method,
            url_attributes.URL_SCHEME: "http",
            url_attributes.URL_PATH: template or _HIDDEN,
        }
        if template is not None:
            attributes[http_attributes.HTTP_ROUTE] = template
        span = self._tracer.start_span(
            _name(method, template),
            _remote(trace),
            SpanKind.SERVER,
            attributes,
            start_time=self._unix(call.timeline.arrived),
        )
        context = span.get_span_context()
        traced = _Traced(span, continues=trace is not None)
        # One of its own: calls that have the same fields share what was read of them.
        call.trace = Trace(f"{context.trace_id:032x}", f"{context.span_id:016x}", sampled=context.trace_flags.sampled)
        call.trace.span = traced
        return traced

    def _unix(self, moment: float) -> int:
        return self._now() - int((self._clock() - moment) * 1e9)


def _remote(trace: Trace | None) -> Context:
    """Give the context in which a call came."""
    if trace is None:
        return Context()
    flags = TraceFlags(TraceFlags.SAMPLED if trace.sampled else TraceFlags.DEFAULT)
    context = SpanContext(int(trace.id, 16), int(trace.parent, 16), is_remote=True, trace_flags=flags)
    return set_span_in_context(NonRecordingSpan(context), Context())


def _name(method: str, template: str | None) -> str:
    return method if template is None else f"{method} {template}"


def exporting(*, version: str, templates: Mapping[str, str]) -> Tracing:
    """Trace to where the `OTEL_` variables say, by OTLP over HTTP; the SDK reads them."""
    resource = {service_attributes.SERVICE_NAME: "talon-proxy", service_attributes.SERVICE_VERSION: version}
    provider = TracerProvider(
        # What the variables say is stronger.
        resource=Resource.create({**resource, **OTELResourceDetector().detect().attributes}),
        shutdown_on_exit=False,
    )
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return Tracing(provider, version=version, templates=templates)
