"""Requests that belong to a trace are the examples of their buckets, and say so where they are shown."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from erlmcp import Server, ToolError
from erlmcp.cli.trace import line_of
from erlmcp.metrics.prometheus import expose
from erlmcp.metrics.recorder import Recorder
from erlmcp.spec.trace import trace_id

openmetrics = pytest.importorskip("prometheus_client.openmetrics.parser")
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
META = {"traceparent": f"00-{TRACE}-00f067aa0ba902b7-01"}


def examples(recorder: Recorder) -> dict[tuple[str, str], tuple[str, float]]:
    """(metric, upper bound) -> (trace id, value) of each example."""
    found = {}
    for family in openmetrics.text_string_to_metric_families(expose(recorder, openmetrics=True).decode()):
        for sample in family.samples:
            if sample.exemplar is not None:
                key = family.name, sample.labels["le"]
                found[key] = sample.exemplar.labels["trace_id"], sample.exemplar.value
    return found


def test_a_bucket_has_the_latest_of_its_requests_as_its_example_in_each_form() -> None:
    recorder = Recorder()
    series = recorder.operation("tools/call", "add", "", "", "http", "2026-07-28")
    for number, ns in ((1, 1_500), (2, 1_700), (3, 30_000_000), (4, 400_000_000_000)):
        series.hot.record(ns)
        series.keep(f"{number:032x}", ns)
    assert examples(recorder) == {
        ("erlmcp_operation_duration_microseconds", "2.0"): (f"{2:032x}", 1.7),
        ("erlmcp_operation_duration_microseconds", "50000.0"): (f"{3:032x}", 30_000),
        ("erlmcp_operation_duration_microseconds", "+Inf"): (f"{4:032x}", 400_000_000),
        ("mcp_server_operation_duration_seconds", "0.01"): (f"{2:032x}", 1.7e-6),
        ("mcp_server_operation_duration_seconds", "0.05"): (f"{3:032x}", 0.03),
        ("mcp_server_operation_duration_seconds", "+Inf"): (f"{4:032x}", 400),
    }
    assert "trace_id" not in expose(recorder).decode()


@pytest.mark.parametrize("version", ["2026-07-28", "2025-11-25"])
async def test_a_failed_call_with_a_traceparent_is_an_example_and_its_trace_is_told(talk: Any, version: str) -> None:
    server = Server("x")

    @server.tool
    async def fails() -> str:
        raise ToolError("no")

    async with talk(server, version) as client:
        await client.ask("tools/call", {"name": "fails", "arguments": {}}, meta=META)
        await client.ask("tools/call", {"name": "fails", "arguments": {}})
    assert {trace for trace, _ in examples(server.metrics).values()} == {TRACE}
    kept = [trace.as_json() for trace in server.metrics.traces.since(0) if trace.error]
    assert [trace["trace"] for trace in kept] == [TRACE, ""]
    assert f"trace {TRACE}" in line_of(kept[0])
    assert "  trace " not in line_of(kept[1])


async def test_a_followed_call_of_the_short_way_is_an_example(talk: Any) -> None:
    server = Server("x")

    @server.tool
    async def add(a: int, b: int) -> int:
        return a + b

    seen: list[Any] = []
    async with talk(server) as client:
        server.metrics.traces.follow(seen.append)
        await client.ask("tools/call", {"name": "add", "arguments": {"a": 1, "b": 2}}, meta=META)
        server.metrics.traces.leave(seen.append)
    assert [trace.trace for trace in seen if trace.name == "add"] == [TRACE]
    assert {trace for trace, _ in examples(server.metrics).values()} == {TRACE}


@pytest.mark.parametrize(
    "text", ["", "00", f"00-{TRACE}", f"00-{TRACE.upper()}-00f067aa0ba902b7-01", f"00-{TRACE}-00f067aa0ba902b7-01\n", 7]
)
def test_what_is_no_traceparent_is_no_trace(text: Any) -> None:
    assert trace_id(SimpleNamespace(values={"traceparent": text})) == ""
    assert trace_id(None) == ""
