"""Places and counters come back where a call could not begin, and what was given up teaches nothing."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from stage import Scripted, result, scripted_gateway, until

from erlmcp import Client, Server
from erlmcp.flags import Flags
from erlmcp.limits import Limits
from erlmcp.policy.bulkhead import BulkheadRule
from erlmcp.policy.limiter import RateRule
from erlmcp.policy.protection import Guards
from erlmcp.runtime.lane import ThreadLanes


async def test_a_guarded_call_that_gets_no_thread_gives_its_place_back(
    talk: Any, monkeypatch: pytest.MonkeyPatch, quiet: None
) -> None:
    server = Server("s")

    @server.tool(guards=Guards(bulkhead=1))
    def work() -> str:
        return "done"

    async with talk(server, "2026-07-28", {}) as client:

        def refuse(*_: Any, **__: Any) -> None:
            raise RuntimeError("no thread can be started, and there is none")

        with monkeypatch.context() as patch:
            patch.setattr(ThreadLanes, "submit", refuse)
            await client.error("tools/call", {"name": "work", "arguments": {}})
        assert await client.text("work") == "done"


async def test_a_call_that_the_plain_pool_did_not_take_is_not_counted() -> None:
    host = SimpleNamespace(flags=Flags(work_stealing=False))
    lanes = ThreadLanes(asyncio.get_running_loop(), 1, 1, host)
    lanes.submit(int, (), lambda *_: None).result()
    lanes.close()
    for _ in range(3):
        with pytest.raises(RuntimeError, match="shutdown"):
            lanes.submit(int, (), lambda *_: None)
    assert len(lanes) == 0


async def test_calls_that_their_callers_cancel_at_once_take_no_room_from_others(talk: Any) -> None:
    server = Server("s", limits=Limits.load(total_inflight_count_min=1, total_inflight_count_max=100))
    goes_on = asyncio.Event()

    @server.tool
    async def work() -> str:
        await goes_on.wait()
        return "done"

    async with talk(server, "2026-07-28", {}) as client:
        load, now_ns = server.turn.load, 0
        load._clock_ns = lambda: now_ns
        for number in range(600):
            goes_on.clear()
            id = client.post("tools/call", {"name": "work", "arguments": {}})
            await client.settle()
            if number % 2:
                client.notify("notifications/cancelled", {"requestId": id})
                await client.settle()
            else:
                now_ns += 1_000_000_000
                goes_on.set()
                await client.answer(id)
        assert load.inflight_max == 100


async def test_a_call_that_waits_for_a_place_behind_a_gateway_costs_one_token_of_its_caller() -> None:
    rate = RateRule(rate_per_s=0.001, burst=2, per="caller")
    upstream = Scripted("echo")
    guards = Guards(rate_limit=rate, bulkhead=BulkheadRule(1, queue_max=5, wait_s=30.0))
    gateway = scripted_gateway(upstream, guards=guards)
    async with Client(gateway, mode="2026-07-28") as client:
        calls = [asyncio.create_task(client.call_tool("echo", {})) for _ in range(2)]
        for _ in calls:
            await until(lambda: bool(upstream.waiting))
            request = upstream.waiting.pop()
            request["link"].say(result(request, b'{"resultType":"complete","content":[]}'))
        await asyncio.gather(*calls)


async def test_a_call_that_waits_for_a_place_of_its_tool_costs_one_token_of_its_upstream() -> None:
    upstream = Scripted("echo")
    upstream_guards = Guards(rate_limit=RateRule(rate_per_s=0.001, burst=2))
    tool_guards = Guards(bulkhead=BulkheadRule(1, queue_max=5, wait_s=30.0))
    gateway = scripted_gateway(upstream, guards=upstream_guards, tool_guards=tool_guards)
    async with Client(gateway, mode="2026-07-28") as client:
        calls = [asyncio.create_task(client.call_tool("echo", {})) for _ in range(2)]
        for _ in calls:
            await until(lambda: bool(upstream.waiting))
            request = upstream.waiting.pop()
            request["link"].say(result(request, b'{"resultType":"complete","content":[]}'))
        await asyncio.gather(*calls)
