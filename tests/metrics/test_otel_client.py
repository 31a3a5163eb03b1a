"""CLIENT spans by the conventions: of a client's requests, and of what a server asks its client."""

from __future__ import annotations

from typing import Any

import pytest
from mcp_types import ElicitResult

from erlmcp import Client, Context, McpError, Server, ToolError, sync
from erlmcp.metrics import family as f
from erlmcp.server.serve import http

pytest.importorskip("opentelemetry.sdk")
from opentelemetry import trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from erlmcp.metrics.opentelemetry import instrument


class Seen:
    """What servers and clients export."""

    def __init__(self) -> None:
        self.exporter = InMemorySpanExporter()
        self.tracers = TracerProvider()
        self.tracers.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.reader = InMemoryMetricReader()
        self.meters = MeterProvider([self.reader])

    def instrument(self, target: Any, **options: Any) -> Any:
        instrument(target, tracer_provider=self.tracers, meter_provider=self.meters, **options)
        return target

    def spans(self, kind: SpanKind = SpanKind.CLIENT) -> dict[str, ReadableSpan]:
        return {span.name: span for span in self.exporter.get_finished_spans() if span.kind is kind}

    def points(self, name: str) -> list[Any]:
        data = self.reader.get_metrics_data()
        metrics = [
            each for resource in data.resource_metrics for scope in resource.scope_metrics for each in scope.metrics
        ]
        return [point for metric in metrics if metric.name == name for point in metric.data.data_points]


def make_server() -> Server:
    server = Server("x")

    @server.tool
    async def add(a: int, b: int) -> int:
        return a + b

    @server.tool
    async def fails() -> str:
        raise ToolError("no")

    @server.tool
    async def meta(context: Context) -> str:
        return str(context.meta.get("traceparent"))

    @server.tool
    async def asks(context: Context) -> str:
        return str((await context.elicit("name?", {"type": "object", "properties": {}})).action)

    @server.resource("x://{name}")
    async def read(name: str) -> str:
        return name

    return server


@pytest.fixture
def seen() -> Seen:
    return Seen()


async def test_a_call_is_a_span_with_every_attribute(seen: Seen) -> None:
    async with http(make_server()) as listener:
        url, port = f"http://127.0.0.1:{listener.port}/mcp", listener.port
        async with seen.instrument(Client(url), capture_arguments=True, capture_results=True) as client:
            await client.call_tool("add", {"a": 1, "b": 2})
            await client.read_resource("x://one")
    span = seen.spans()["tools/call add"]
    result = span.attributes[f.RESULT]  # type: ignore[index]
    assert dict(span.attributes or {}) == {
        "mcp.method.name": "tools/call",
        "mcp.protocol.version": "2026-07-28",
        "gen_ai.tool.name": "add",
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.tool.call.arguments": '{"a": 1, "b": 2}',
        "gen_ai.tool.call.result": result,
        "network.transport": "tcp",
        "network.protocol.name": "http",
        "network.protocol.version": "1.1",
        "server.address": "127.0.0.1",
        "server.port": port,
    }
    assert '"3"' in str(result)
    assert span.status.status_code is StatusCode.UNSET
    assert seen.spans()["resources/read"].attributes["mcp.resource.uri"] == "x://one"  # type: ignore[index]
    assert "server/discover" in seen.spans()


async def test_nothing_of_arguments_and_results_is_kept_unless_it_was_asked_for(seen: Seen) -> None:
    async with seen.instrument(Client(make_server())) as client:
        await client.call_tool("add", {"a": 1, "b": 2})
    assert not {f.ARGUMENTS, f.RESULT} & set(seen.spans()["tools/call add"].attributes or {})


@pytest.mark.parametrize(
    ("name", "error", "status", "target"),
    [("fails", "tool_error", None, "fails"), ("no", "-32602", "-32602", "_unknown")],
)
async def test_failures_follow_the_rules(seen: Seen, name: str, error: str, status: str | None, target: str) -> None:
    async with seen.instrument(Client(make_server())) as client:
        with pytest.raises((ToolError, McpError)):
            await client.call_tool(name)
    span = seen.spans()[f"tools/call {name}"]
    found = span.attributes or {}
    assert (found[f.ERROR], found.get(f.STATUS)) == (error, status)
    assert span.status.status_code is StatusCode.ERROR
    point = next(each for each in seen.points("mcp.client.operation.duration") if f.ERROR in each.attributes)
    assert (point.attributes[f.ERROR], point.attributes[f.TOOL]) == (error, target)


@pytest.mark.parametrize("mode", ["2026-07-28", "legacy"])
async def test_the_context_goes_with_the_request_and_the_server_goes_on_with_it(seen: Seen, mode: str) -> None:
    server = seen.instrument(make_server())
    client = seen.instrument(Client(server, mode=mode))
    async with client:
        with seen.tracers.get_tracer("test").start_as_current_span("work") as work:
            said = (await client.call_tool("meta")).data
    span = seen.spans()["tools/call meta"]
    assert span.parent is not None
    assert span.parent.span_id == work.get_span_context().span_id
    context = span.get_span_context()
    ids = trace.format_trace_id(context.trace_id), trace.format_span_id(context.span_id)
    assert tuple(said.split("-")[1:3]) == ids
    of_server = seen.spans(SpanKind.SERVER)["tools/call meta"]
    assert of_server.parent is not None
    assert of_server.parent.span_id == context.span_id
    method = "initialize" if mode == "legacy" else "server/discover"
    first = seen.spans(SpanKind.SERVER)[method]
    assert first.parent is not None
    assert first.parent.span_id == seen.spans()[method].get_span_context().span_id


async def test_a_meta_of_the_programs_own_is_kept_and_goes_before(seen: Seen) -> None:
    server = make_server()
    async with seen.instrument(Client(server)) as client:
        given = f"00-{'a' * 32}-{'b' * 16}-01"
        assert (await client.call_tool("meta", meta={"traceparent": given})).data == given


async def test_durations_are_recorded_with_the_buckets_of_the_conventions(seen: Seen) -> None:
    async with seen.instrument(Client(make_server(), mode="legacy")) as client:
        await client.call_tool("add", {"a": 1, "b": 2})
    points = seen.points("mcp.client.operation.duration")
    (point,) = [each for each in points if each.attributes.get(f.TOOL) == "add"]
    assert point.count == 1
    assert list(point.explicit_bounds) == list(f.SECONDS_BOUNDS)
    (session,) = seen.points("mcp.client.session.duration")
    assert session.attributes == {"mcp.protocol.version": "2025-11-25"}


def test_a_client_without_an_event_loop_goes_on_with_the_span_of_its_thread(seen: Seen) -> None:
    begin = seen.tracers.get_tracer("test").start_as_current_span
    with seen.instrument(sync.Client(make_server())) as client, begin("work") as work:
        client.call_tool("add", {"a": 1, "b": 2})
    span = seen.spans()["tools/call add"]
    assert span.parent is not None
    assert span.parent.span_id == work.get_span_context().span_id


async def test_what_a_server_asks_its_client_is_a_client_span_within_its_call(seen: Seen) -> None:
    server = seen.instrument(make_server())

    async def answer(params: Any) -> ElicitResult:
        return ElicitResult(action="decline")

    async with Client(server, mode="legacy", elicitation=answer) as client:
        assert (await client.call_tool("asks")).data == "decline"
    span = seen.spans()["elicitation/create"]
    assert span.parent is not None
    assert span.parent.span_id == seen.spans(SpanKind.SERVER)["tools/call asks"].get_span_context().span_id
    assert dict(span.attributes or {}) == {
        "mcp.method.name": "elicitation/create",
        "mcp.protocol.version": "2025-11-25",
    }
    assert [each.attributes[f.METHOD] for each in seen.points("mcp.client.operation.duration")] == [
        "elicitation/create"
    ]
