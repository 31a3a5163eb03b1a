"""Spans and metrics by the conventions: every attribute, the rules for errors, and where the context comes from."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from erlmcp import Context, McpError, Server, ToolError
from erlmcp.metrics import family as f
from erlmcp.server.serve import http

pytest.importorskip("opentelemetry.sdk")
from opentelemetry import baggage, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from erlmcp.metrics.opentelemetry import instrument

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
META = {"traceparent": f"00-{TRACE}-{SPAN}-01", "tracestate": "rojo=1", "baggage": "user=alice"}


class Seen:
    """An instrumented server, and what it exported."""

    def __init__(self, **options: Any) -> None:
        self.exporter = InMemorySpanExporter()
        self.provider = TracerProvider()
        self.provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.reader = InMemoryMetricReader()
        self.meters = MeterProvider([self.reader])
        self.server = make_server(self)
        self.inner: list[tuple[str, str, object]] = []
        instrument(self.server, tracer_provider=self.provider, meter_provider=self.meters, **options)

    @property
    def spans(self) -> list[ReadableSpan]:
        return list(self.exporter.get_finished_spans())

    def span(self, name: str) -> ReadableSpan:
        (found,) = [span for span in self.spans if span.name == name]
        return found

    def points(self, name: str) -> list[Any]:
        data = self.reader.get_metrics_data()
        return [
            point
            for resource in (data.resource_metrics if data else ())
            for scope in resource.scope_metrics
            for metric in scope.metrics
            if metric.name == name
            for point in metric.data.data_points
        ]


def make_server(seen: Seen) -> Server:
    server = Server("seen", version="1")

    @server.tool
    async def add(a: int, b: int) -> int:
        current = trace.get_current_span().get_span_context()
        seen.inner.append((f"{current.trace_id:032x}", f"{current.span_id:016x}", baggage.get_baggage("user")))
        return a + b

    @server.tool
    async def later(ctx: Context) -> str:
        before = trace.get_current_span().get_span_context().span_id
        await asyncio.sleep(0)
        seen.inner.append(("", f"{trace.get_current_span().get_span_context().span_id:016x}", before))
        return "ok"

    @server.tool
    def in_thread() -> str:
        seen.inner.append(("", f"{trace.get_current_span().get_span_context().span_id:016x}", None))
        return "ok"

    @server.tool
    async def fails() -> str:
        raise ToolError("no such order")

    @server.tool
    async def refuses(code: int) -> str:
        raise McpError(code, "not now")

    @server.tool
    async def breaks() -> str:
        raise ValueError("secret")

    @server.prompt
    async def greet(name: str) -> str:
        return f"hello {name}"

    @server.resource("memo://one")
    async def one() -> str:
        return "one"

    return server


@pytest.fixture
def seen() -> Iterator[Seen]:
    made = Seen()
    yield made
    made.meters.shutdown()


async def test_a_tool_call_is_a_server_span_with_the_attributes_of_the_conventions(seen: Seen, talk: Any) -> None:
    async with talk(seen.server) as client:
        await client.call("add", {"a": 1, "b": 2}, id=77)
    span = seen.span("tools/call add")
    assert span.kind is SpanKind.SERVER
    assert span.status.status_code is StatusCode.UNSET
    assert dict(span.attributes or {}) == {
        "mcp.method.name": "tools/call",
        "gen_ai.tool.name": "add",
        "gen_ai.operation.name": "execute_tool",
        "jsonrpc.request.id": "77",
        "mcp.protocol.version": "2026-07-28",
    }
    assert span.parent is None
    assert seen.inner[0][:2] == (f"{span.context.trace_id:032x}", f"{span.context.span_id:016x}")


@pytest.mark.parametrize("kind", ["stdio", "tcp", "unix"])
def test_the_transport_is_told_as_the_conventions_have_it(seen: Seen, run: Any, kind: str) -> None:
    said: list[bytes] = []

    async def main() -> None:
        async with seen.server.running():
            link = seen.server.link(said.append, kind=kind)
            message = {
                "jsonrpc": "2.0",
                "id": "a",
                "method": "initialize",
                "params": {
                    "protocolVersion": "2025-06-18",
                    "capabilities": {},
                    "clientInfo": {"name": "t", "version": "1"},
                },
            }
            link.feed(json.dumps(message).encode() + b"\n")
            link.feed(b'{"jsonrpc":"2.0","method":"notifications/initialized"}\n')
            link.feed(b'{"jsonrpc":"2.0","id":2,"method":"ping"}\n')
            link.close()

    run(main)
    transport = {"stdio": "pipe"}.get(kind, kind)
    for name in ("initialize", "notifications/initialized", "ping"):
        attributes = dict(seen.span(name).attributes or {})
        assert attributes["network.transport"] == transport
        assert "network.protocol.name" not in attributes
    assert dict(seen.span("ping").attributes or {})["mcp.protocol.version"] == "2025-06-18"
    assert dict(seen.span("initialize").attributes or {})["jsonrpc.request.id"] == "a"
    (session,) = seen.points("mcp.server.session.duration")
    assert dict(session.attributes) == {"network.transport": transport, "mcp.protocol.version": "2025-06-18"}
    assert tuple(session.explicit_bounds) == f.SECONDS_BOUNDS
    assert session.count == 1


def test_over_http_the_client_and_the_session_are_named(seen: Seen, run: Any) -> None:
    async def main() -> tuple[int, str]:
        async with http(seen.server) as listener:
            reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
            params = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}
            session = ""
            for number, method in enumerate(("initialize", "ping")):
                body = json.dumps({"jsonrpc": "2.0", "id": number, "method": method, "params": params}).encode()
                head = f"POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n{session}"
                writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
                answer = await reader.readuntil(b"\r\n\r\n")
                lines = dict(line.split(": ", 1) for line in answer.decode().splitlines()[1:] if line)
                await reader.readexactly(int(lines["Content-Length"]))
                session = session or f"Mcp-Session-Id: {lines['Mcp-Session-Id']}\r\n"
            port = writer.get_extra_info("sockname")[1]
            writer.close()
            return port, session.split()[1]

    port, session = run(main)
    attributes = dict(seen.span("ping").attributes or {})
    assert attributes == {
        "mcp.method.name": "ping",
        "jsonrpc.request.id": "1",
        "mcp.session.id": session,
        "mcp.protocol.version": "2025-11-25",
        "network.transport": "tcp",
        "network.protocol.name": "http",
        "network.protocol.version": "1.1",
        "client.address": "127.0.0.1",
        "client.port": port,
    }
    for point in seen.points("mcp.server.operation.duration"):
        assert not {"mcp.session.id", "client.address", "client.port", "jsonrpc.request.id"} & set(point.attributes)


async def test_the_context_of_meta_is_the_parent_and_what_is_around_is_linked(seen: Seen, talk: Any) -> None:
    async with talk(seen.server) as client:
        with seen.provider.get_tracer("http").start_as_current_span("POST") as around:
            await client.call("add", {"a": 1, "b": 2}, meta=META)
    span = seen.span("tools/call add")
    assert span.parent is not None
    assert (f"{span.parent.trace_id:032x}", f"{span.parent.span_id:016x}") == (TRACE, SPAN)
    assert span.parent.trace_state.get("rojo") == "1"
    assert [link.context.span_id for link in span.links] == [around.get_span_context().span_id]
    assert seen.inner[0] == (TRACE, f"{span.context.span_id:016x}", "alice")


async def test_without_a_context_in_meta_what_is_around_is_the_parent(seen: Seen, talk: Any) -> None:
    async with talk(seen.server) as client:
        with seen.provider.get_tracer("http").start_as_current_span("POST") as around:
            await client.call("add", {"a": 1, "b": 2}, meta={"traceparent": "nonsense", "baggage": 5})
    span = seen.span("tools/call add")
    assert span.parent is not None
    assert span.parent.span_id == around.get_span_context().span_id
    assert not span.links


async def test_the_span_stays_current_in_handlers_that_wait_and_in_threads(seen: Seen, talk: Any) -> None:
    async with talk(seen.server) as client:
        await client.call("later")
        await client.call("in_thread")
    ids = [f"{seen.span(f'tools/call {name}').context.span_id:016x}" for name in ("later", "in_thread")]
    assert [inner[1] for inner in seen.inner] == ids
    assert f"{seen.inner[0][2]:016x}" == ids[0]
    assert trace.get_current_span().get_span_context().span_id == 0


async def test_a_result_that_is_an_error_is_a_tool_error(seen: Seen, talk: Any) -> None:
    async with talk(seen.server) as client:
        await client.call("fails")
    span = seen.span("tools/call fails")
    assert (span.attributes or {})["error.type"] == "tool_error"
    assert "rpc.response.status_code" not in (span.attributes or {})
    assert span.status.status_code is StatusCode.ERROR
    (point,) = seen.points("mcp.server.operation.duration")
    assert point.attributes["error.type"] == "tool_error"


@pytest.mark.parametrize(
    ("code", "is_error"), [(-32000, True), (-32603, True), (17, True), (-32602, False), (-32002, False)]
)
async def test_a_code_that_is_the_callers_fault_is_no_error_of_the_server(
    seen: Seen, talk: Any, code: int, is_error: bool
) -> None:
    async with talk(seen.server) as client:
        await client.error("tools/call", {"name": "refuses", "arguments": {"code": code}})
    span = seen.span("tools/call refuses")
    attributes = span.attributes or {}
    assert attributes["rpc.response.status_code"] == str(code)
    assert attributes.get("error.type") == (str(code) if is_error else None)
    assert span.status.status_code is (StatusCode.ERROR if is_error else StatusCode.UNSET)
    assert span.status.description == ("not now" if is_error else None)
    (point,) = seen.points("mcp.server.operation.duration")
    assert point.attributes.get("error.type") == (str(code) if is_error else None)


async def test_a_broken_tool_tells_no_secret(seen: Seen, talk: Any, quiet: None) -> None:
    async with talk(seen.server) as client:
        await client.call("breaks")
    assert "secret" not in seen.span("tools/call breaks").to_json()


async def test_what_nobody_registered_is_in_no_name_and_in_no_metric(seen: Seen, talk: Any) -> None:
    async with talk(seen.server) as client:
        for number in range(3):
            await client.error("tools/call", {"name": f"made-up-{number}"})
            await client.error(f"made/up-{number}")
    assert sorted({span.name for span in seen.spans}) == ["_other", "tools/call"]
    names = [(span.attributes or {}).get("gen_ai.tool.name") for span in seen.spans if span.name == "tools/call"]
    assert names == ["made-up-0", "made-up-1", "made-up-2"]
    points = seen.points("mcp.server.operation.duration")
    assert {point.attributes.get("gen_ai.tool.name") for point in points} == {"_unknown", None}
    assert sum(point.count for point in points) == 6


async def test_prompts_and_resources_are_named_in_their_own_attributes(seen: Seen, talk: Any) -> None:
    async with talk(seen.server) as client:
        await client.result("prompts/get", {"name": "greet", "arguments": {"name": "a"}})
        await client.result("resources/read", {"uri": "memo://one"})
    prompt = dict(seen.span("prompts/get greet").attributes or {})
    assert prompt["gen_ai.prompt.name"] == "greet"
    assert "gen_ai.operation.name" not in prompt
    resource = dict(seen.span("resources/read").attributes or {})
    assert resource["mcp.resource.uri"] == "memo://one"
    points = seen.points("mcp.server.operation.duration")
    assert not any("mcp.resource.uri" in point.attributes for point in points)
    assert {point.attributes.get("gen_ai.prompt.name") for point in points} == {"greet", None}


async def test_a_subscription_names_its_uri(seen: Seen, talk: Any) -> None:
    async with talk(seen.server, "2025-11-25") as client:
        await client.result("resources/subscribe", {"uri": "memo://one"})
    assert (seen.span("resources/subscribe").attributes or {})["mcp.resource.uri"] == "memo://one"


async def test_arguments_and_results_are_told_where_asked_for(talk: Any) -> None:
    plain, open_ = Seen(), Seen(capture_arguments=True, capture_results=True)
    for seen in (plain, open_):
        async with talk(seen.server) as client:
            await client.call("add", {"a": 1, "b": 2})
        seen.meters.shutdown()
    assert not {f.ARGUMENTS, f.RESULT} & set(plain.span("tools/call add").attributes or {})
    attributes = open_.span("tools/call add").attributes or {}
    assert json.loads(str(attributes["gen_ai.tool.call.arguments"])) == {"a": 1, "b": 2}
    assert json.loads(str(attributes["gen_ai.tool.call.result"]))["structuredContent"] == {"result": 3}


async def test_the_histogram_has_the_name_the_unit_and_the_buckets_of_the_conventions(seen: Seen, talk: Any) -> None:
    async with talk(seen.server) as client:
        await client.call("add", {"a": 1, "b": 2})
    data = seen.reader.get_metrics_data()
    assert data is not None
    (metric,) = data.resource_metrics[0].scope_metrics[0].metrics
    assert (metric.name, metric.unit) == ("mcp.server.operation.duration", "s")
    (point,) = metric.data.data_points
    assert tuple(point.explicit_bounds) == f.SECONDS_BOUNDS
    assert dict(point.attributes) == {
        "mcp.method.name": "tools/call",
        "gen_ai.tool.name": "add",
        "gen_ai.operation.name": "execute_tool",
        "mcp.protocol.version": "2026-07-28",
    }


def test_nothing_of_it_is_imported_without_being_asked_for() -> None:
    code = (
        "import sys\nfrom erlmcp import Server\nserver = Server('x')\n"
        "import erlmcp.server.serve, erlmcp.metrics.desk, erlmcp.dashboard.page\n"
        "assert not [name for name in sys.modules if name.startswith('opentelemetry')]\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
