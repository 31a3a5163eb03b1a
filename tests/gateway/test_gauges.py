"""What a gateway's metrics and dashboard tell of its upstreams."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from stage import Scripted, error, scripted_gateway, until

from erlmcp import BreakerRule, Client, Guards, McpError
from erlmcp.dashboard.feed import Feed
from erlmcp.gateway.app import Gateway
from erlmcp.gateway.config import GatewayConfig, UpstreamConfig
from erlmcp.metrics.prometheus import expose

parser = pytest.importorskip("prometheus_client.parser")


def samples(gateway: Any, name: str) -> dict[tuple[str, ...], float]:
    """The values of a metric by the values of its labels, in the order of their names."""
    return {
        tuple(value for _, value in sorted(sample.labels.items())): sample.value
        for family in parser.text_string_to_metric_families(expose(gateway.metrics).decode())
        for sample in family.samples
        if sample.name == name
    }


def upstream_rows(gateway: Any) -> list[dict[str, Any]]:
    gateway.metrics.tick()
    return next(each["rows"] for each in Feed(gateway.board).first()["sections"] if each["id"] == "upstreams")


def answer(text: bytes) -> Any:
    return lambda request: b'{"jsonrpc":"2.0","id":%d,"result":%b}' % (request["id"], text)


FINE = b'{"content":[]}'
WRONG = b'{"content":[{"type":"text","text":"no"}],"isError":true}'


async def test_each_upstream_is_timed_by_method_and_outcome() -> None:
    one, two = Scripted("good", "bad", "odd"), Scripted("good")
    outcomes = {
        "good": answer(FINE),
        "bad": answer(WRONG),
        "odd": lambda request: error(request, 4711, "no"),
    }
    one.answers["tools/call"] = lambda request: outcomes[request["params"]["name"]](request)
    two.answers["tools/call"] = lambda request: error(request, -32603, "no")
    gateway = scripted_gateway(one, two)
    async with Client(gateway) as client:
        await client.call_tool("a_good")
        await client.call_tool("a_good")
        await client.call_tool("a_bad", raise_on_error=False)
        for name in ("a_odd", "b_good"):
            with pytest.raises(McpError):
                await client.call_tool(name)
        assert samples(gateway, "erlmcp_upstream_duration_microseconds_count") == {
            ("tools/call", "a"): 2,
            ("tool_error", "tools/call", "a"): 1,
            ("_OTHER", "tools/call", "a"): 1,
            ("-32603", "tools/call", "b"): 1,
        }
        found = samples(gateway, "mcp_server_operation_duration_seconds_count")
        assert found["tool_error", "a_bad", "tools/call", "2026-07-28"] == 1
        assert found["4711", "a_odd", "tools/call", "2026-07-28", "4711"] == 1
        rows = {row["name"]: row for row in upstream_rows(gateway)}
        assert [(rows[name]["calls"], rows[name]["errors"]) for name in "ab"] == [(4, 2), (1, 1)]
        assert rows["a"]["p99"] > 0
        assert {"a_good", "a_bad", "a_odd", "b_good"} == set(gateway.board.tools())


async def test_the_state_of_an_upstream_its_lines_and_its_calls_in_flight_are_told() -> None:
    server = Scripted("slow")
    gateway = scripted_gateway(server, restart_s=0.01)
    async with Client(gateway) as client:
        call = asyncio.ensure_future(client.call_tool("slow"))
        await until(lambda: bool(server.waiting))
        states = samples(gateway, "erlmcp_upstream_state")
        assert {state for (state, _), value in states.items() if value} == {"up"}
        assert samples(gateway, "erlmcp_upstream_inflight") == {("a",): 1}
        assert samples(gateway, "erlmcp_upstream_lines")["shared", "a"] == 1
        assert samples(gateway, "erlmcp_upstream_restarts_total") == {("a",): 0}
        (row,) = upstream_rows(gateway)
        assert (row["state"], row["inflight"], row["lines"]) == ("up", 1, 1)
        request = server.waiting.pop()
        request["link"].say(answer(FINE)(request))
        await call
        server.answers["tools/call"] = FINE
        await gateway.upstreams["a"].shared_lines[0].aclose()
        await until(lambda: gateway.upstreams["a"].start_count == 2)
        assert samples(gateway, "erlmcp_upstream_restarts_total") == {("a",): 1}


async def test_what_guards_before_an_upstream_refuse_is_told(quiet: None) -> None:
    server = Scripted("breaks")
    server.answers["tools/call"] = lambda request: error(request, -32603, "no")
    guards = Guards(breaker=BreakerRule(failures_in_row=2), bulkhead=3)
    gateway = scripted_gateway(server, guards=guards)
    async with Client(gateway) as client:
        for _ in range(4):
            with pytest.raises(McpError):
                await client.call_tool("breaks")
        assert samples(gateway, "erlmcp_upstream_breaker_state")["open", "a"] == 1
        assert samples(gateway, "erlmcp_upstream_refusals_total") == {("breaker", "a"): 2, ("bulkhead", "a"): 0}
        assert samples(gateway, "erlmcp_upstream_running") == {("a",): 0}
        (row,) = upstream_rows(gateway)
        assert (row["breaker"], row["refused"]) == ("open", 2)


async def test_how_often_a_kept_answer_was_enough_is_told() -> None:
    server = Scripted()
    kept = {"contents": [{"uri": "x://y", "text": "t"}], "resultType": "complete", "ttlMs": 60000}
    server.answers["resources/read"] = json.dumps({**kept, "cacheScope": "public"}).encode()
    gateway = scripted_gateway(server)
    async with Client(gateway, cache=False) as client:
        for _ in range(4):
            await client.read_resource("x://y")
        assert samples(gateway, "erlmcp_upstream_cache_hits_total") == {("a",): 3}
        assert samples(gateway, "erlmcp_upstream_cache_misses_total") == {("a",): 1}
        assert samples(gateway, "erlmcp_gateway_cache_entries") == {(): 1}
        assert upstream_rows(gateway)[0]["cache"] == 0.75


async def test_a_gateway_without_metrics_records_nothing_of_its_upstreams() -> None:
    server = Scripted("good")
    server.answers["tools/call"] = FINE
    gateway = Gateway(GatewayConfig((UpstreamConfig("a", "server", target=server, prefix=""),)), metrics=False)
    async with Client(gateway) as client:
        await client.call_tool("good")
    assert not samples(gateway, "erlmcp_upstream_duration_microseconds_count")
