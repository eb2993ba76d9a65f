"""Traces: what spans a call leaves, how they hang together, and what is in none of them."""

import asyncio
import json
import socket
import struct
import sys
from collections.abc import AsyncIterator, Mapping

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, ParentBased, Sampler
from opentelemetry.trace import SpanKind, StatusCode

from proxy.observe import otel
from proxy.observe.tracing import Tracing
from proxy.simulator.server import DEFAULT_KEY
from proxy.talon.operations import OPERATIONS
from proxy.traffic.lanes import Rules as LaneRules
from tests.h2_upstream import Http2Upstream
from tests.harness import KEY, OK, Proxy, Upstream, patiently, running, until
from tests.process import Answer, ask, request, run, serving, variables

TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = "b7ad6b7169203331"
SAMPLED = f"00-{TRACE}-{PARENT}-01"
UNSAMPLED = f"00-{TRACE}-{PARENT}-00"
SESSION = "/v2/customer_sessions/very-secret-id?secret=query"
TEMPLATE = "/v2/customer_sessions/{customerSessionId}"


class Spans:
    """What was exported."""

    def __init__(self, sampler: Sampler = ALWAYS_ON) -> None:
        self.exporter = InMemorySpanExporter()
        provider = TracerProvider(sampler=ParentBased(sampler), shutdown_on_exit=False)
        provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        templates = {operation.name: operation.template for operation in OPERATIONS}
        self.tracing = Tracing(provider, version="0.1.0", templates=templates)

    def of(self, kind: SpanKind) -> list[ReadableSpan]:
        return [span for span in self.exporter.get_finished_spans() if span.kind is kind]

    async def ended(self, servers: int, clients: int) -> tuple[list[ReadableSpan], list[ReadableSpan]]:
        """Wait for so many; give them in the order of their end."""
        await until(lambda: len(self.of(SpanKind.SERVER)) >= servers and len(self.of(SpanKind.CLIENT)) >= clients)
        found = self.of(SpanKind.SERVER), self.of(SpanKind.CLIENT)
        assert (len(found[0]), len(found[1])) == (servers, clients)
        return found


@pytest.fixture
def spans() -> Spans:
    return Spans()


async def call(proxy: Proxy, method: str = "PUT", target: str = SESSION, **fields: str) -> Answer:
    line = await proxy.client()
    answer = await ask(line, method, target, b"{}" if method == "PUT" else b"", **fields)
    await line.close()
    return answer


def sent(upstream: Upstream, name: str) -> list[str]:
    """Give the values that a header had in the last request that came."""
    lines = upstream.requests[-1].decode("latin-1").split("\r\n")
    return [line.partition(":")[2].strip() for line in lines if line.lower().startswith(name + ":")]


def parent(span: ReadableSpan) -> str | None:
    return None if span.parent is None else f"{span.parent.span_id:016x}"


def own(span: ReadableSpan) -> str:
    return f"{span.context.span_id:016x}"


def told(span: ReadableSpan) -> dict[str, object]:
    return {name: value for name, value in (span.attributes or {}).items() if not name.startswith("talon_proxy.spent.")}


# --- passed on ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [SAMPLED, UNSAMPLED, "no trace at all"])
async def test_where_nobody_traces_trace_context_passes_unchanged(value: str) -> None:
    async with running() as (upstream, proxy):
        await call(proxy, TraceParent=value, tracestate="congo=t61rcWkgMzE, rojo=00f067aa0ba902b7")

        received = upstream.requests[-1]
        assert f"\r\nTraceParent: {value}\r\n".encode() in received
        assert b"\r\ntracestate: congo=t61rcWkgMzE, rojo=00f067aa0ba902b7\r\n" in received


async def test_where_nobody_traces_and_there_is_no_trace_none_is_made_up() -> None:
    async with running() as (upstream, proxy):
        await call(proxy)

        assert not sent(upstream, "traceparent")


async def test_a_trace_that_is_not_sampled_passes_unchanged(spans: Spans) -> None:
    async with running(tracing=spans.tracing) as (upstream, proxy):
        await call(proxy, TraceParent=UNSAMPLED, tracestate="congo=t61rcWkgMzE")

        assert f"\r\nTraceParent: {UNSAMPLED}\r\n".encode() in upstream.requests[-1]
        assert sent(upstream, "tracestate") == ["congo=t61rcWkgMzE"]
        assert not spans.exporter.get_finished_spans()


async def test_where_the_sampler_says_no_nothing_is_added() -> None:
    spans = Spans(ALWAYS_OFF)
    async with running(tracing=spans.tracing) as (upstream, proxy):
        await call(proxy)

        assert not sent(upstream, "traceparent")
        assert not spans.exporter.get_finished_spans()


# --- spans ----------------------------------------------------------------------------------------------------


async def test_a_call_is_a_server_span_in_its_callers_trace_and_its_attempt_a_client_span_below(spans: Spans) -> None:
    async with running(tracing=spans.tracing) as (upstream, proxy):
        await call(proxy, traceparent=SAMPLED, tracestate="congo=t61rcWkgMzE", X_Last="1")
        (server,), (client,) = await spans.ended(1, 1)

        assert {f"{span.context.trace_id:032x}" for span in (server, client)} == {TRACE}
        assert (parent(server), parent(client)) == (PARENT, own(server))
        assert server.start_time <= client.start_time < client.end_time <= server.end_time  # type: ignore[operator]
        assert server.name == client.name == f"PUT {TEMPLATE}"
        assert told(server) == {
            "http.request.method": "PUT",
            "http.response.status_code": 200,
            "http.route": TEMPLATE,
            "url.path": TEMPLATE,
            "url.scheme": "http",
            "talon_proxy.answered_by": "upstream",
            "talon_proxy.application": "default",
            "talon_proxy.coalesced": False,
            "talon_proxy.operation": "updateCustomerSessionV2",
        }
        assert told(client) == {
            "http.request.method": "PUT",
            "http.response.status_code": 200,
            "network.protocol.version": "1.1",
            "server.address": "127.0.0.1",
            "server.port": upstream.port,
            "url.full": f"http://127.0.0.1:{upstream.port}{TEMPLATE}",
            "url.template": TEMPLATE,
        }
        assert server.attributes is not None
        assert {"talon_proxy.spent.ttfb", "talon_proxy.spent.proxy"} <= server.attributes.keys()
        assert (server.status.status_code, client.status.status_code) == (StatusCode.UNSET, StatusCode.UNSET)
        # Talon.One is told the attempt as parent; what else the caller said stays.
        assert sent(upstream, "traceparent") == [f"00-{TRACE}-{own(client)}-01"]
        assert sent(upstream, "tracestate") == ["congo=t61rcWkgMzE"]
        assert sent(upstream, "x-last") == ["1"]


@pytest.mark.parametrize("fields", [{}, {"traceparent": f"ff-{TRACE}-{PARENT}-01", "tracestate": "congo=1"}])
async def test_a_call_without_a_valid_trace_begins_one(spans: Spans, fields: dict[str, str]) -> None:
    async with running(tracing=spans.tracing) as (upstream, proxy):
        await call(proxy, **fields)
        (server,), (client,) = await spans.ended(1, 1)

        assert server.parent is None
        trace = f"{server.context.trace_id:032x}"
        (parent_told,) = sent(upstream, "traceparent")
        assert parent_told[:53] == f"00-{trace}-{own(client)}-"[:53]
        assert int(parent_told[53:], 16) & 1
        assert not sent(upstream, "tracestate")
        # Others, who are told after it, know the trace.
        (ended, _, _) = proxy.witness.ended[-1]
        assert ended.trace is not None
        assert (ended.trace.id, ended.trace.sampled) == (trace, True)


async def test_every_attempt_is_a_span_with_a_context_of_its_own(spans: Spans) -> None:
    answers = iter((b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n", OK))
    async with running(tracing=spans.tracing) as (upstream, proxy):
        upstream.answer = lambda _: next(answers)
        await call(proxy, "GET", traceparent=SAMPLED)
        (server,), (first, second) = await spans.ended(1, 2)

        assert [told(span).get("http.response.status_code") for span in (first, second)] == [503, 200]
        assert [told(span).get("http.request.resend_count") for span in (first, second)] == [None, 1]
        assert [told(span).get("error.type") for span in (first, second)] == ["503", None]
        assert [span.status.status_code for span in (first, second)] == [StatusCode.ERROR, StatusCode.UNSET]
        assert [parent(span) for span in (first, second)] == [own(server)] * 2
        parents = [received.partition(b"traceparent: ")[2].partition(b"\r\n")[0] for received in upstream.requests]
        assert parents == [f"00-{TRACE}-{own(span)}-01".encode() for span in (first, second)]


async def test_who_shares_an_answer_has_no_attempt_and_a_link_to_it(spans: Spans) -> None:
    async with running(tracing=spans.tracing, lanes=LaneRules(), coalescing=True) as (upstream, proxy):
        upstream.answer = None
        first = asyncio.create_task(call(proxy, traceparent=SAMPLED))
        line, _ = await upstream.received()
        others = [asyncio.create_task(call(proxy)) for _ in range(2)]
        await until(lambda: proxy.pipeline.in_flight == 3)
        await line.send(OK)
        await patiently(asyncio.gather(first, *others))
        servers, (client,) = await spans.ended(3, 1)

        (leader,) = [span for span in servers if parent(span) == PARENT]
        joined = [span for span in servers if span is not leader]
        assert not leader.links
        assert [told(span)["talon_proxy.coalesced"] for span in joined] == [True, True]
        assert [[link.context for link in span.links] for span in joined] == [[client.context]] * 2
        assert len({span.context.trace_id for span in servers}) == 3


async def test_a_call_that_is_refused_is_a_span_without_a_path(spans: Spans) -> None:
    async with running(tracing=spans.tracing) as (_, proxy):
        await call(proxy, "GET", "/secret/path")
        (server,), () = await spans.ended(1, 0)

        assert server.name == "GET"
        assert told(server) == {
            "http.request.method": "GET",
            "http.response.status_code": 404,
            "url.path": "/REDACTED",
            "url.scheme": "http",
            "talon_proxy.answered_by": "proxy",
            "talon_proxy.application": "",
            "talon_proxy.coalesced": False,
            "talon_proxy.operation": "other",
        }
        # Of a server's span, a caller's mistake is no error.
        assert server.status.status_code is StatusCode.UNSET


async def test_an_attempt_that_gets_no_connection_is_a_span_that_failed(spans: Spans) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    proxy = await Proxy(f"http://127.0.0.1:{port}", tracing=spans.tracing, retries=1).start()
    try:
        await call(proxy)
        (server,), clients = await spans.ended(1, 2)
    finally:
        await proxy.stop()

    assert [told(span)["error.type"] for span in (*clients, server)] == ["connect"] * 3
    assert [span.status.status_code for span in (*clients, server)] == [StatusCode.ERROR] * 3
    assert all(span.start_time < span.end_time for span in clients)  # type: ignore[operator]


async def test_a_lost_connection_and_an_answer_that_comes_too_late_are_spans_that_failed(spans: Spans) -> None:
    async with running(tracing=spans.tracing, lanes=LaneRules(), quarantine=0.0) as (upstream, proxy):
        upstream.answer = lambda _: None  # and closes
        await call(proxy)
        upstream.answer = None
        held = asyncio.create_task(call(proxy, Talon_Proxy_Timeout_Ms="200"))
        await upstream.received()
        await upstream.received()
        await held
        servers, clients = await spans.ended(2, 2)

        assert [told(span)["error.type"] for span in clients] == ["lost", "timeout"]
        assert [told(span)["error.type"] for span in servers] == ["lost", "timeout"]
        assert [told(span)["http.response.status_code"] for span in servers] == [502, 504]


async def test_who_leaves_before_the_answer_is_told_of_by_its_span(spans: Spans) -> None:
    async with running(tracing=spans.tracing, lanes=LaneRules()) as (upstream, proxy):
        upstream.answer = None
        sent_one, waiting = await proxy.client(), await proxy.client()
        await sent_one.send(request("PUT", SESSION, b"{}"))
        line, _ = await upstream.received()
        await waiting.send(request("PUT", SESSION, b'{"other": 1}'))
        await until(lambda: proxy.pipeline.in_flight == 2)
        waiting.reset()
        (unsent,), () = await spans.ended(1, 0)
        # Really reset: who only closes may still read, and is answered.
        sent_one.writer.get_extra_info("socket").setsockopt(
            socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
        )
        sent_one.reset()
        await until(lambda: len(proxy.witness.left) == 2)
        await line.send(OK)
        (_, landed), _ = await spans.ended(2, 1)

        assert [told(span).get("error.type") for span in (unsent, landed)] == ["caller_left", "caller_left"]
        assert "http.response.status_code" not in told(unsent)


async def test_no_key_no_id_and_no_query_is_in_any_span(spans: Spans) -> None:
    async with running(tracing=spans.tracing) as (upstream, proxy):
        upstream.answer = lambda _: b"HTTP/1.1 404 No\r\nContent-Length: 14\r\n\r\nvery-secret-id"
        for method, target in (
            ("PUT", SESSION),
            ("GET", SESSION),
            ("GET", "/v2/very-secret-id"),
            ("GET", "/very-secret-id"),
        ):
            await call(proxy, method, target, X_Request_Id="very-secret-id", Cookie="very-secret-id")
        servers, clients = await spans.ended(4, 3)

        everything = "".join(span.to_json() for span in (*servers, *clients))
        assert "very-secret-id" not in everything
        assert "query" not in everything
        assert KEY not in everything


async def test_an_attempt_by_http2_takes_its_context_along_too(spans: Spans) -> None:
    upstream = await Http2Upstream().start()
    proxy = await Proxy(f"http://127.0.0.1:{upstream.port}", protocol="h2", tracing=spans.tracing).start()
    try:
        await call(proxy, traceparent=SAMPLED)
        _, (client,) = await spans.ended(1, 1)
    finally:
        await proxy.stop()
        await upstream.stop()

    assert told(client)["network.protocol.version"] == "2"
    assert upstream.calls[0].fields[b"traceparent"] == f"00-{TRACE}-{own(client)}-01".encode()


# --- by variables ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("environ", "wanted"),
    [
        ({}, False),
        ({"OTEL_SERVICE_NAME": "shop"}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318"}, True),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": " "}, False),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://127.0.0.1:4318/v1/traces"}, True),
        ({"OTEL_TRACES_EXPORTER": "otlp"}, True),
        ({"OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318"}, False),
        ({"OTEL_SDK_DISABLED": "True", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318"}, False),
        ({"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"}, True),
        (
            {
                "OTEL_TRACES_EXPORTER": "otlp",
                "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc",
                "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/protobuf",
            },
            True,
        ),
    ],
)
def test_variables_of_opentelemetry_say_whether_to_trace(environ: Mapping[str, str], wanted: bool) -> None:
    assert otel.wanted(environ) is wanted


@pytest.mark.parametrize(
    "environ",
    [
        {"OTEL_TRACES_EXPORTER": "console"},
        {"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4317", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/json"},
    ],
)
def test_what_there_is_not_is_named(environ: Mapping[str, str]) -> None:
    with pytest.raises(otel.Unsupported, match="there are no traces"):
        otel.wanted(environ)


class Collector:
    """Takes OTLP over HTTP."""

    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream
        self.url = upstream.url

    async def batch(self) -> tuple[bytes, ExportTraceServiceRequest]:
        """Wait for the next batch: its head, and what it holds."""
        _, received = await self._upstream.received()
        head, _, body = received.partition(b"\r\n\r\n")
        return head, ExportTraceServiceRequest.FromString(body)


@pytest.fixture
async def collector() -> AsyncIterator[Collector]:
    upstream = await Upstream().start()
    yield Collector(upstream)
    await upstream.stop()


async def test_a_proxy_exports_as_the_variables_of_opentelemetry_say(upstream: Upstream, collector: Collector) -> None:
    environ = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
        "OTEL_EXPORTER_OTLP_HEADERS": "x-tenant=shop",
        "OTEL_RESOURCE_ATTRIBUTES": "deployment.environment.name=test,service.version=mine",
        "OTEL_SERVICE_NAME": "shop-talon-proxy",
        "OTEL_BSP_SCHEDULE_DELAY": "3600000",
    }
    async with serving(upstream.url, **environ, log__access="all") as proxy:
        await proxy.ask("PUT", "/v2/customer_sessions/s", b"{}", traceparent=SAMPLED)
        assert json.loads(await proxy.line('"msg":"call"'))["trace_id"] == TRACE
        openmetrics = await proxy.ask_admin("/metrics", Accept="application/openmetrics-text")
        assert f'# {{trace_id="{TRACE}"}}'.encode() in openmetrics.body
        # What there is, is sent before the end.
        await proxy.stop()
        head, batch = await collector.batch()

    assert head.startswith(b"POST /v1/traces HTTP/1.1\r\n")
    assert b"\r\nx-tenant: shop\r\n" in head
    (exported,) = batch.resource_spans
    resource = {attribute.key: attribute.value.string_value for attribute in exported.resource.attributes}
    assert resource["service.name"] == "shop-talon-proxy"
    assert resource["service.version"] == "mine"
    assert resource["deployment.environment.name"] == "test"
    found = [span for scope in exported.scope_spans for span in scope.spans]
    assert {span.trace_id.hex() for span in found} == {TRACE}
    assert sorted(span.name for span in found) == [f"PUT {TEMPLATE}"] * 2
    assert DEFAULT_KEY.encode() not in batch.SerializeToString()


async def test_a_sampler_is_chosen_by_a_variable(upstream: Upstream, collector: Collector) -> None:
    environ = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, "OTEL_TRACES_SAMPLER": "parentbased_always_off"}
    async with serving(upstream.url, **environ) as proxy:
        await proxy.ask("PUT", "/v2/customer_sessions/not-asked", b"{}")
        await proxy.ask("PUT", "/v2/customer_sessions/asked", b"{}", traceparent=SAMPLED)
        await proxy.stop()
        _, batch = await collector.batch()

    spans = [span for exported in batch.resource_spans for scope in exported.scope_spans for span in scope.spans]
    assert {span.trace_id.hex() for span in spans} == {TRACE}


async def test_a_collector_that_is_not_there_disturbs_no_call_and_no_end(upstream: Upstream) -> None:
    environ = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9", "OTEL_BSP_SCHEDULE_DELAY": "10"}
    async with serving(upstream.url, **environ) as proxy:
        for _ in range(3):
            assert (await proxy.ask("PUT", "/v2/customer_sessions/s", b"{}")).status == 200


async def test_a_wish_that_cannot_be_met_is_a_warning(upstream: Upstream) -> None:
    environ = {"OTEL_TRACES_EXPORTER": "zipkin"}
    async with serving(upstream.url, **environ) as proxy:
        told = json.loads(await proxy.line("OTEL_TRACES_EXPORTER"))

        assert (told["level"], told["msg"]) == (
            "warning",
            "OTEL_TRACES_EXPORTER can only be otlp or none here: there are no traces",
        )
        assert (await proxy.ask("PUT", "/v2/customer_sessions/s", b"{}")).status == 200


async def test_without_the_extra_it_serves_and_says_what_is_missing() -> None:
    program = """
import os, signal, sys
sys.modules["opentelemetry"] = None
from proxy.app import App
start = App.start
async def ready(self, **options):
    await start(self, **options)
    os.kill(os.getpid(), signal.SIGTERM)
App.start = ready
from proxy.cli import main
sys.exit(main(["serve"]))
"""
    settings = {
        "upstream__url": "https://127.0.0.1:9",
        "api_key": DEFAULT_KEY,
        "listen": "127.0.0.1:0",
        "shutdown__quiet": "0ms",
    }
    environ = {**variables({**settings, "admin__listen": ""}), "OTEL_TRACES_EXPORTER": "otlp"}

    ended = await run(sys.executable, "-c", program, env=environ)

    assert (ended.code, ended.err) == (0, "")
    (warning,) = [entry for entry in map(json.loads, ended.out.splitlines()) if entry["level"] == "warning"]
    assert warning["msg"] == otel.MISSING
