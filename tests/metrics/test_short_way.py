"""The compiled short way: every call counts once, under the right tool, transport and revision; crowds are sampled."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from erlmcp import Client, Server, core
from erlmcp.metrics import family as f

pytestmark = pytest.mark.skipif(core.IMPLEMENTATION != "core", reason="the short way is compiled")
META = {"io.modelcontextprotocol/protocolVersion": "2026-07-28", "io.modelcontextprotocol/clientCapabilities": {}}
HELLO = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}


def make_server(**options: Any) -> Server:
    server = Server("short", **options)

    @server.tool
    async def a(n: int = 0) -> int:
        return n

    @server.tool
    async def b() -> str:
        return "x"

    @server.tool
    async def spins() -> str:
        until = time.perf_counter_ns() + 3_000_000
        while time.perf_counter_ns() < until:
            pass
        return "x"

    return server


def line(id: int, method: str, params: Any = None, *, is_modern: bool = True) -> bytes:
    params = {**(params or {}), **({"_meta": META} if is_modern else {})}
    return json.dumps({"jsonrpc": "2.0", "id": id, "method": method, "params": params}).encode() + b"\n"


def calls(*tools: str, is_modern: bool = True) -> bytes:
    return b"".join(
        line(number, "tools/call", {"name": tool, "arguments": {}}, is_modern=is_modern)
        for number, tool in enumerate(tools, 100)
    )


def per_tool(server: Server) -> dict[str, int]:
    names = {series.label(f.TOOL) for series in server.metrics.operations()}
    return {
        name: sum(s.whole().count for s in server.metrics.operations() if s.label(f.TOOL) == name) for name in names
    }


@pytest.mark.parametrize("crowd", [["a"], ["a", "b"], ["a"] * 3 + ["b"], ["a", "b", "b"] * 40, ["b"] * 1000])
async def test_each_call_counts_once_whatever_the_crowd(crowd: list[str]) -> None:
    server = make_server()
    async with server.running():
        link = server.link(lambda data: None, kind="tcp")
        link.feed(calls("a", "b"))  # the first _meta is judged the general way
        for _ in range(5):
            link.feed(calls(*crowd))
        server.metrics.tick()
        assert per_tool(server) == {name: 1 + 5 * crowd.count(name) for name in ("a", "b")}
        link.close()


async def test_what_was_sampled_stands_for_what_was_not() -> None:
    server = make_server()
    async with server.running():
        link = server.link(lambda data: None)
        link.feed(calls("a"))
        for _ in range(20):
            link.feed(calls(*["spins", "a", "a", "a", "a", "a", "a"]))
        slow = next(s for s in server.metrics.operations() if s.label(f.TOOL) == "spins").whole()
        fast = next(s for s in server.metrics.operations() if s.label(f.TOOL) == "a").whole()
        assert (slow.count, fast.count) == (20, 121)
        assert slow.percentile(50) > 2 * fast.percentile(50)
        link.close()


async def test_transport_and_revision_are_those_of_the_conversation() -> None:
    server = make_server()
    async with server.running():
        modern = server.link(lambda data: None, kind="stdio")
        modern.feed(calls("a"))
        modern.feed(calls("a", "a"))
        legacy = server.link(lambda data: None, kind="unix")
        legacy.feed(line(1, "ping", is_modern=False))  # before the handshake: no revision is known
        legacy.feed(line(2, "initialize", HELLO, is_modern=False))
        legacy.feed(b'{"jsonrpc":"2.0","method":"notifications/initialized"}\n')
        legacy.feed(calls("a", is_modern=False) + line(3, "ping", is_modern=False))
        found = {
            (dict(s.labels)[f.TRANSPORT], dict(s.labels)[f.VERSION], s.label(f.METHOD)): s.whole().count
            for s in server.metrics.operations()
        }
        assert found["pipe", "2026-07-28", "tools/call"] == 3
        assert found["unix", "2025-06-18", "tools/call"] == 1
        assert found["unix", "2025-06-18", "ping"] == 1
        modern.close()
        legacy.close()


async def test_ready_answers_count_too() -> None:
    server = make_server()
    async with server.running():
        link = server.link(lambda data: None)
        for number in range(3):
            link.feed(line(number, "tools/list"))
        assert {s.label(f.METHOD): s.whole().count for s in server.metrics.operations()} == {"tools/list": 3}
        link.close()


async def test_a_call_that_takes_long_is_kept_and_one_that_is_followed_is_told() -> None:
    server = make_server()
    server.metrics.traces.slow_ns = server.metrics.traces.floor_ns = 1_000_000
    async with server.running():
        link = server.link(lambda data: None, kind="stdio")
        link.feed(calls("a"))
        link.feed(calls("spins"))
        (kept,) = [trace for trace in server.metrics.traces.since(0) if trace.reason == "slow"]
        assert (kept.name, kept.kind, kept.version, kept.id) == ("spins", "stdio", "2026-07-28", "100")
        assert 3_000_000 <= kept.duration_ns < 3_000_000_000
        told: list[Any] = []
        server.metrics.traces.follow(told.append)
        link.feed(calls("a"))
        assert [(trace.name, trace.reason) for trace in told] == [("a", "followed")]
        server.metrics.traces.leave(told.append)
        link.feed(calls("a"))
        assert len(told) == 1
        link.close()


async def test_the_rooms_are_sampled_and_lie_within_the_read() -> None:
    server = make_server()
    sent: list[bytes] = []
    async with server.running():
        link = server.link(sent.append)
        for _ in range(200):
            link.feed(calls("a"))
        assert len(sent) == 200
        points = {
            s.label("point"): s.whole()
            for family, found in server.metrics.families()
            for s in found
            if family is f.POINT
        }
        assert {
            name: points[name].count for name in ("read", "parse", "dispatch", "handler", "encode", "flush")
        } == dict.fromkeys(("read", "parse", "dispatch", "handler", "encode", "flush"), 3)
        assert points["lookup"].count == 3
        parts = sum(points[name].sum for name in ("parse", "dispatch", "handler", "encode"))
        assert parts <= points["read"].sum
        (sample, *_) = [trace for trace in server.metrics.traces.since(0) if trace.reason == "sample"]
        assert set(sample.rooms) == {"parse", "handler", "encode"}
        link.close()


async def test_the_clock_of_the_short_way_is_that_of_the_general_way() -> None:
    """A call that begins on the one and ends on the other is timed by both."""
    server = make_server()

    @server.tool
    async def converts() -> float:
        return 1  # the template wants a float: the general way takes over

    async with server.running():
        link = server.link(lambda data: None)
        for _ in range(3):
            link.feed(calls("converts"))
        series = next(s for s in server.metrics.operations() if s.label(f.TOOL) == "converts").whole()
        assert series.count == 3
        assert series.max < 5_000_000_000
        assert server.metrics.began_ns == 0
        link.close()


async def test_without_metrics_nothing_is_recorded() -> None:
    server = make_server(metrics=False)
    async with server.running():
        link = server.link(lambda data: None)
        for _ in range(100):
            link.feed(calls("a"))
        assert server.stride is not None
        assert server.stride.watch is None
        assert not server.metrics.families()
        link.close()


async def test_a_call_of_the_same_process_is_no_message_and_not_counted() -> None:
    server = make_server()

    @server.tool
    async def fails() -> str:
        raise ValueError("x")

    async with Client(server) as client:
        for tool in ("a", "fails", "b"):
            await client.call_tool(tool, raise_on_error=False)
        assert "b" not in per_tool(server)
        assert server.metrics.began_ns == 0
