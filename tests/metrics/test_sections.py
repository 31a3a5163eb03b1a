"""The tables that a server gives its dashboard: pools and queues, caches, guards, roll-outs."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from erlmcp import BreakerRule, Client, Flags, Guards, Limits, McpError, RateRule, Server, core
from erlmcp.aio import Cache, Pool
from erlmcp.cli.top import section_table, shown
from erlmcp.dashboard.feed import Feed
from erlmcp.metrics.prometheus import expose
from erlmcp.server.serve import tcp

WAIT_S = 30


def rows_of(server: Server, id: str) -> dict[str, dict[str, Any]]:
    """The rows of a section by their names; {} where it is not shown."""
    found = {each["id"]: each for each in Feed(server.board).first()["sections"]}
    return {row["name"]: row for row in found[id]["rows"]} if id in found else {}


async def test_calls_that_run_and_calls_that_wait_are_told_by_lane(talk: Any) -> None:
    server = Server("x", limits=Limits(thread_count_max=2))
    begun, release = threading.Semaphore(0), threading.Event()

    @server.tool
    def blocks() -> str:
        begun.release()
        release.wait(WAIT_S)
        return "x"

    async with talk(server) as client:
        ids = [client.post("tools/call", {"name": "blocks", "arguments": {}}) for _ in range(5)]
        await client.settle()
        for _ in range(2):
            assert begun.acquire(timeout=WAIT_S)
        rows = rows_of(server, "pools")
        text = expose(server.metrics).decode()
        release.set()
        for _ in ids:
            await client.receive()
    assert (rows["threads"]["used"], rows["threads"]["most"], rows["threads"]["waiting"]) == (2, 2, 3)
    assert rows["threads"]["full"] == 1
    assert rows["threads, normal lane"]["used"] == 3
    assert rows["threads, critical lane"]["used"] == rows["threads, bulk lane"]["used"] == 0
    assert rows["requests in flight"]["used"] == 5
    assert 'erlmcp_thread_queue{lane="normal"} 3\n' in text
    assert "erlmcp_turn_queue 0\n" in text


async def test_a_pool_and_a_cache_of_the_program_are_shown(talk: Any) -> None:
    server = Server("x")

    @server.tool
    async def plain() -> str:
        return "x"

    async def open_one() -> object:
        return object()

    pool, cache, plain_cache = Pool(open_one, count_max=4), Cache(), core.Cache(10)
    server.metrics.holds.watch_pool("database", pool)
    server.metrics.holds.watch_cache("names", cache)
    server.metrics.holds.watch_cache("raw", plain_cache)

    async def load(key: str | bytes) -> int:
        return 1

    for _ in range(4):
        await cache.load("a", load)
    plain_cache.get("nothing")
    async with talk(server), pool.lend():
        row = rows_of(server, "pools")["database"]
        assert (row["used"], row["most"], row["waiting"]) == (1, 1, 0)
        caches = rows_of(server, "caches")
        text = expose(server.metrics).decode()
    assert (caches["names"]["hits"], caches["names"]["misses"], caches["names"]["share"]) == (3, 1, 0.75)
    assert (caches["raw"]["hits"], caches["raw"]["misses"], caches["raw"]["entries"]) == (0, 1, 0)
    assert 'erlmcp_cache_hits_total{cache="names"} 3\n' in text
    assert 'erlmcp_pool_members{pool="database"} 1\n' in text


async def test_guards_and_roll_outs_are_rows_and_sections_without_rows_are_not_sent(talk: Any, quiet: None) -> None:
    server = Server("x")

    @server.tool(guards=Guards(breaker=BreakerRule(failures_in_row=2), rate_limit=RateRule(100, burst=50), bulkhead=3))
    async def breaks() -> str:
        raise ValueError("x")

    async with talk(server) as client:
        assert not rows_of(server, "rollouts")
        assert not rows_of(server, "caches")
        for _ in range(4):
            await client.ask("tools/call", {"name": "breaks", "arguments": {}})
        row = rows_of(server, "guards")["breaks"]
        assert (row["breaker"], row["open"], row["rate"], row["full"], row["running"]) == ("open", 2, 0, 0, 0)
    server.rollout("flags", new=Flags(batching=False))
    row = rows_of(server, "rollouts")["flags"]
    assert 0 <= row["share"] <= 1
    assert (row["old_errors"], row["new_errors"]) == (0, 0)


async def test_what_a_client_asks_is_shown_by_the_server_that_it_asks(talk: Any) -> None:
    server, other = Server("x"), Server("y")

    @other.tool
    async def plain() -> str:
        return "x"

    async with tcp(other) as listener, talk(server):
        async with Client(f"tcp://127.0.0.1:{listener.port}", metrics=server.metrics) as client:
            for _ in range(4):
                await client.call_tool("plain")
            with pytest.raises(McpError):
                await client.call_tool("no")
        server.metrics.tick()
        row = rows_of(server, "asked")[f"127.0.0.1:{listener.port}"]
    assert (row["calls"], row["errors"]) == (6, 1)  # with that of the beginning
    assert row["p99"] > 0


def test_the_terminal_shows_a_section_as_the_page_does() -> None:
    assert [shown(0.756, "share"), shown(1500, "time"), shown(12345, "count"), shown(None, "count")] == [
        "76%",
        "1.50 ms",
        "12,345",
        "",
    ]
    assert shown("a\x1bb", "text") == "a?b"
    columns = [("name", "Upstream", "text"), ("state", "State", "state"), ("rate", "A second", "count")]
    rows = [{"name": "a", "state": "up", "rate": 2.5}, {"name": "b", "state": "down", "rate": 0}]
    table: Any = section_table({"title": "Upstreams", "columns": columns, "rows": rows})
    assert [column.header for column in table.columns] == ["Upstream", "State", "A second"]
    assert [row.style for row in table.rows] == ["", "red"]
