"""What is recorded of a client's requests, and what goes with them."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from mcp_types import ElicitResult

from erlmcp import CallTimeoutError, Client, ConnectionClosedError, Context, McpError, Server, ToolError
from erlmcp.metrics import Recorder
from erlmcp.metrics.prometheus import expose
from erlmcp.server.serve import http, tcp

parser = pytest.importorskip("prometheus_client.parser")
COUNT = "mcp_client_operation_duration_seconds_count"


def samples(recorder: Recorder, name: str) -> list[tuple[dict[str, str], float]]:
    return [
        (sample.labels, sample.value)
        for family in parser.text_string_to_metric_families(expose(recorder).decode())
        for sample in family.samples
        if sample.name == name
    ]


def counts(recorder: Recorder) -> dict[tuple[str, str, str], float]:
    """(method, tool, error) -> how many."""
    found = samples(recorder, COUNT)
    names = ("mcp_method_name", "gen_ai_tool_name", "error_type")
    return {tuple(labels.get(name, "") for name in names): value for labels, value in found}  # type: ignore[misc]


def make_server() -> Server:
    server = Server("x")

    @server.tool
    async def add(a: int, b: int) -> int:
        return a + b

    @server.tool
    async def fails() -> str:
        raise ToolError("no")

    @server.tool
    async def waits() -> str:
        await asyncio.sleep(1000)
        return "x"

    return server


async def test_each_request_is_counted_by_its_outcome() -> None:
    recorder = Recorder()
    async with Client(make_server(), metrics=recorder) as client:
        for _ in range(3):
            assert (await client.call_tool("add", {"a": 1, "b": 2})).data == 3
        with pytest.raises(ToolError):
            await client.call_tool("fails")
        with pytest.raises(McpError):
            await client.call_tool("made up")
        with pytest.raises(CallTimeoutError):
            await client.call_tool("waits", timeout_s=0.01)
        task = asyncio.ensure_future(client.call_tool("waits"))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        await client.list_tools()
    assert counts(recorder) == {
        ("server/discover", "", ""): 1,
        ("tools/list", "", ""): 1,
        ("tools/call", "add", ""): 3,
        ("tools/call", "fails", "tool_error"): 1,
        ("tools/call", "_unknown", "-32602"): 1,
        ("tools/call", "waits", "timeout"): 1,
        ("tools/call", "waits", "cancelled"): 1,
    }
    assert all(labels["mcp_protocol_version"] == "2026-07-28" for labels, _ in samples(recorder, COUNT)[1:])
    (point,) = samples(recorder, "erlmcp_point_duration_microseconds_count")
    assert point == ({"point": "upstream"}, 9)


async def test_over_http_the_server_is_named_and_waiting_for_a_connection_is_a_point() -> None:
    recorder = Recorder()
    async with http(make_server()) as listener:
        port = listener.port
        url = f"http://127.0.0.1:{port}/mcp"
        async with Client(url, metrics=recorder) as client:
            await asyncio.gather(*(client.call_tool("add", {"a": 1, "b": 2}) for _ in range(20)))
            assert [labels["pool"] for labels, _ in samples(recorder, "erlmcp_pool_members")] == [
                f"connections:127.0.0.1:{port}"
            ]
        labels = samples(recorder, COUNT)[-1][0]
    assert (labels["server_address"], labels["server_port"]) == ("127.0.0.1", str(port))
    assert (labels["network_transport"], labels["network_protocol_name"]) == ("tcp", "http")
    points = {each["point"]: value for each, value in samples(recorder, "erlmcp_point_duration_microseconds_count")}
    assert points["upstream"] == 21
    assert points["pool"] >= 19
    assert not samples(recorder, "erlmcp_pool_members")


async def test_a_session_of_a_handshake_era_is_timed() -> None:
    recorder = Recorder()
    async with tcp(make_server()) as listener:
        port = listener.port
        async with Client(f"tcp://127.0.0.1:{port}", mode="legacy", metrics=recorder) as client:
            assert not samples(recorder, "mcp_client_session_duration_seconds_count")
            await client.ping()
    ((labels, count),) = samples(recorder, "mcp_client_session_duration_seconds_count")
    assert (labels["mcp_protocol_version"], labels["server_port"], count) == ("2025-11-25", str(port), 1)
    assert counts(recorder)["initialize", "", ""] == counts(recorder)["ping", "", ""] == 1


async def test_a_server_that_is_gone_is_an_error_by_its_kind() -> None:
    recorder = Recorder()
    async with http(make_server()) as listener:
        client = await Client(f"http://127.0.0.1:{listener.port}/mcp", metrics=recorder).connect()
    with pytest.raises(ConnectionClosedError):
        await client.call_tool("add", {"a": 1, "b": 2})
    await client.aclose()
    assert counts(recorder)["tools/call", "add", "ConnectionClosedError"] == 1


async def test_a_recorder_ticks_while_a_client_of_it_is_open() -> None:
    recorder = Recorder()
    async with Client(make_server(), metrics=recorder) as client:
        assert recorder.is_ticking
        async with Client(make_server(), metrics=recorder):
            pass
        assert recorder.is_ticking
        await client.ping()
    assert not recorder.is_ticking


async def test_names_that_nobody_has_are_one_series() -> None:
    recorder = Recorder()
    async with Client(make_server(), metrics=recorder) as client:
        for number in range(300):
            with pytest.raises(McpError):
                await client.call_tool(f"made-up-{number}")
    assert counts(recorder)["tools/call", "_unknown", "-32602"] == 300


async def test_a_server_counts_what_it_asks_its_client() -> None:
    server = make_server()

    @server.tool
    async def asks(context: Context) -> str:
        return str((await context.elicit("name?", {"type": "object", "properties": {}})).action)

    async def answer(params: Any) -> ElicitResult:
        return ElicitResult(action="decline")

    async with Client(server, mode="legacy", elicitation=answer) as client:
        await client.call_tool("asks")
    assert counts(server.metrics) == {("elicitation/create", "", ""): 1}
    assert client.watching is None


async def test_a_client_that_nobody_watches_takes_the_short_way() -> None:
    server = make_server()
    async with Client(server) as plain, Client(server, metrics=Recorder()) as watched:
        assert plain._direct is not None or plain._short is not None
        assert (watched._direct, watched._short) == (None, None)
