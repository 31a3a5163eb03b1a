"""The numbers of now: what a running server gives, and the state of what protects it and of what is rolled out."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from erlmcp import BreakerRule, Flags, Guards, McpError, RateRule, Server
from erlmcp.metrics.prometheus import expose
from erlmcp.server.observe import masked, resident_bytes

parser = pytest.importorskip("prometheus_client.parser")


def samples(server: Server, name: str) -> dict[tuple[str, ...], float]:
    """The values of a metric by the values of its labels, in the order of their names."""
    return {
        tuple(value for _, value in sorted(sample.labels.items())): sample.value
        for family in parser.text_string_to_metric_families(expose(server.metrics).decode())
        for sample in family.samples
        if sample.name == name
    }


async def test_breakers_limits_and_bulkheads_of_tools_are_told(talk: Any, quiet: None) -> None:
    server = Server("x")

    @server.tool(guards=Guards(breaker=BreakerRule(failures_in_row=2), rate_limit=RateRule(100, burst=50), bulkhead=3))
    async def breaks() -> str:
        raise ValueError("x")

    @server.tool
    async def plain() -> str:
        return "x"

    async with talk(server) as client:
        assert samples(server, "erlmcp_breaker_state") == {
            ("closed", "breaks"): 1,
            ("open", "breaks"): 0,
            ("half-open", "breaks"): 0,
        }
        for _ in range(4):
            await client.ask("tools/call", {"name": "breaks", "arguments": {}})
        assert samples(server, "erlmcp_breaker_state")["open", "breaks"] == 1
        assert samples(server, "erlmcp_guard_refusals_total") == {
            ("breaker", "breaks"): 2,
            ("rate", "breaks"): 0,
            ("bulkhead", "breaks"): 0,
        }
        assert samples(server, "erlmcp_guard_running") == {("breaks",): 0}
    assert samples(server, "mcp_server_operation_duration_seconds_count") == {
        ("tool_error", "breaks", "tools/call", "2026-07-28"): 2,
        ("-32000", "breaks", "tools/call", "2026-07-28", "-32000"): 2,
    }


async def test_a_roll_out_tells_its_share_and_its_errors(talk: Any) -> None:
    server = Server("x")

    @server.tool
    async def plain() -> str:
        return "x"

    assert not samples(server, "erlmcp_rollout_share")
    server.rollout("flags", new=Flags(batching=False))
    ((labels, share),) = samples(server, "erlmcp_rollout_share").items()
    assert labels[0] == "flags"
    assert 0 <= share <= 1
    assert samples(server, "erlmcp_rollout_errors_total") == {("flags", "old"): 0, ("flags", "new"): 0}


async def test_what_waits_and_what_runs_in_threads_is_told(talk: Any) -> None:
    server = Server("x", flags=Flags(caching=False))
    release = asyncio.Event()

    @server.tool
    async def waits() -> str:
        await release.wait()
        return "x"

    async with talk(server) as client:
        ids = [client.post("tools/call", {"name": "waits", "arguments": {}}) for _ in range(3)]
        await client.settle()
        assert samples(server, "erlmcp_inflight_requests") == {(): 3}
        assert samples(server, "erlmcp_flag")["caching",] == 0
        assert samples(server, "erlmcp_tools") == {(): 1}
        release.set()
        for id in ids:
            await client.answer(id)
    assert not samples(server, "erlmcp_inflight_requests")  # not running: there is nobody to ask


async def test_in_flight_requests_that_are_cancelled_are_told_as_such(talk: Any) -> None:
    server = Server("x")

    @server.tool
    async def waits() -> str:
        await asyncio.sleep(1000)
        return "x"

    async with talk(server, "2025-11-25") as client:
        id = client.post("tools/call", {"name": "waits", "arguments": {}})
        await client.settle()
        client.notify("notifications/cancelled", {"requestId": id})
        await client.settle()
    found = samples(server, "mcp_server_operation_duration_seconds_count")
    assert found["cancelled", "waits", "tools/call", "2025-11-25"] == 1


def test_memory_is_that_of_the_process_and_a_session_is_told_by_a_digest() -> None:
    assert 5e6 < resident_bytes() < 5e9
    assert masked("secret-id") != masked("secret-ie")
    assert len(masked("secret-id")) == 12


async def test_a_refusal_of_the_author_is_counted_by_its_code(talk: Any) -> None:
    server = Server("x")

    @server.tool
    async def refuses() -> str:
        raise McpError(4711, "no")

    async with talk(server) as client:
        await client.error("tools/call", {"name": "refuses"})
        await client.error("no/such/method")
    found = samples(server, "mcp_server_operation_duration_seconds_count")
    assert found == {
        ("4711", "refuses", "tools/call", "2026-07-28", "4711"): 1,
        ("_other", "2026-07-28", "-32601"): 1,
    }
