"""Calls in the shadow: what may be copied, how many, how answers are compared, and that nobody else is touched."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from erlmcp import Context, Server, ToolError
from erlmcp.policy.rollout import BACK, RUNNING, SHADOW, Rules
from erlmcp.server.shadow import INFLIGHT_MAX, Shadow, may_be_copied

ALL = Rules(shadow_share=1.0, shadow_count=1000)


def build(**hints: Any) -> Server:
    server = Server("shadow")

    @server.tool(annotations=hints or {"readOnlyHint": True})
    async def add(a: int, b: int) -> int:
        return a + b

    return server


async def settled() -> None:
    for _ in range(6):
        await asyncio.sleep(0)


async def test_the_caller_gets_the_old_answer_and_the_new_one_is_compared(talk: Any) -> None:
    server = build()
    seen: list[int] = []

    async def other(a: int, b: int) -> int:
        seen.append(a)
        return b + a

    trial = server.candidate("add", other, rules=ALL)
    async with talk(server) as client:
        for number in range(5):
            assert await client.text("add", {"a": number, "b": 1}) == str(number + 1)
        await settled()
    assert seen == [0, 1, 2, 3, 4]
    assert (trial.policy.state, trial.policy.compared_count, trial.policy.wrong_count) == (SHADOW, 5, 0)
    assert trial.policy.old.count == 5
    assert trial.policy.new.count == 0


@pytest.mark.parametrize("version", ["2025-03-26", "2025-11-25", "2026-07-28"])
@pytest.mark.parametrize("kind", ["value", "raises", "refuses"])
@pytest.mark.usefixtures("quiet")
async def test_a_wrong_answer_is_seen_by_nobody_and_steps_back_at_once(talk: Any, version: str, kind: str) -> None:
    server = build()

    async def wrong(a: int, b: int) -> int:
        if kind == "raises":
            raise RuntimeError("broken")
        if kind == "refuses":
            raise ToolError("not today")
        return a - b

    trial = server.candidate("add", wrong, rules=ALL)
    async with talk(server, version) as client:
        found = [await client.text("add", {"a": number, "b": 1}) for number in range(5)]
        await settled()
    assert found == ["1", "2", "3", "4", "5"]
    assert trial.policy.state == BACK
    assert trial.policy.compared_count == 1
    assert " instead of " in trial.policy.events[-1]["why"]
    assert trial.policy.events[-1]["why"].count("add: ") == 1


async def test_a_copy_begins_after_the_caller_has_its_answer(talk: Any) -> None:
    server = build()
    order: list[str] = []

    async def other(a: int, b: int) -> int:
        order.append("copied")
        return a + b

    server.candidate("add", other, rules=ALL)
    async with talk(server) as client:
        client.post("tools/call", {"name": "add", "arguments": {"a": 1, "b": 1}})
        assert client.wire.pending() == 1
        assert order == []
        await client.receive()
        await settled()
    assert order == ["copied"]


async def test_copies_at_the_same_time_are_bounded_and_the_rest_is_not_made(talk: Any) -> None:
    server = build()
    gate = asyncio.Event()

    async def slow(a: int, b: int) -> int:
        await gate.wait()
        return a + b

    trial = server.candidate("add", slow, rules=ALL)
    async with talk(server) as client:
        for number in range(INFLIGHT_MAX + 10):
            assert await client.text("add", {"a": number, "b": 0}) == str(number)
        await settled()
        assert trial.shadow.inflight_count == INFLIGHT_MAX
        assert trial.shadow.refused_count == 10
        gate.set()
        await settled()
        assert trial.shadow.inflight_count == 0
    assert trial.policy.compared_count == INFLIGHT_MAX


async def test_a_share_of_the_calls_is_copied(talk: Any) -> None:
    server = build()
    seen: list[int] = []

    async def other(a: int, b: int) -> int:
        seen.append(a)
        return a + b

    server.candidate("add", other, rules=Rules(shadow_share=0.25, shadow_count=100))
    async with talk(server) as client:
        for number in range(20):
            await client.call("add", {"a": number, "b": 0})
        await settled()
    assert seen == [3, 7, 11, 15, 19]


async def test_what_a_tool_does_not_say_may_be_called_again_is_not_copied(talk: Any) -> None:
    server = build(destructiveHint=True)
    seen: list[int] = []

    async def other(a: int, b: int) -> int:
        seen.append(a)
        return a + b

    trial = server.candidate("add", other, rules=Rules(shadow_share=1.0, shares=(0.000001, 1.0)))
    assert trial.policy.state == RUNNING
    async with talk(server) as client:
        for number in range(5):
            await client.call("add", {"a": number, "b": 0})
        await settled()
    assert seen == []


def test_only_repeatable_tools_without_a_context_may_be_copied() -> None:
    server = Server("s")
    server.add_tool(lambda a: a, name="plain")
    server.add_tool(lambda a: a, name="reads", annotations={"readOnlyHint": True})
    server.add_tool(lambda a: a, name="again", annotations={"idempotentHint": True})
    server.add_tool(lambda a: a, name="not", annotations={"idempotentHint": False, "readOnlyHint": False})

    async def asks(ctx: Context) -> str:
        return ctx.method

    server.add_tool(asks, annotations={"readOnlyHint": True})
    found = {name for name, tool in server.tools.items() if may_be_copied(tool.plan)}
    assert found == {"reads", "again"}


async def test_a_comparison_of_ones_own_decides_and_one_that_fails_is_a_difference(talk: Any) -> None:
    for compare, state in ((lambda old, new: True, SHADOW), (lambda old, new: new["nothing"], BACK)):
        server = build()

        async def other(a: int, b: int) -> int:
            return a - b

        trial = server.candidate("add", other, rules=ALL, compare=compare)
        async with talk(server) as client:
            await client.call("add", {"a": 1, "b": 2})
            await settled()
        assert trial.policy.state == state


def test_what_only_carries_an_answer_is_no_difference() -> None:
    shadow = Shadow(None)
    old = b'{"jsonrpc":"2.0","id":1,"result":{"content":[],"_meta":{"a":1}}}'
    assert shadow.judge(old, b'{"id":2,"jsonrpc":"2.0","result":{"_meta":{},"content":[]}}') == (True, "")
    is_equal, detail = shadow.judge(old, b'{"jsonrpc":"2.0","id":1,"error":{"code":-1,"message":"%b"}}' % (b"x" * 999))
    assert not is_equal
    assert len(detail) < 300


async def test_a_sync_candidate_is_copied_in_a_thread(talk: Any) -> None:
    server = build()
    done = asyncio.Event()
    loop = asyncio.get_running_loop()

    def other(a: int, b: int) -> int:
        loop.call_soon_threadsafe(done.set)
        return a + b

    trial = server.candidate("add", other, rules=ALL)
    async with talk(server) as client:
        assert await client.text("add", {"a": 1, "b": 1}) == "2"
        async with asyncio.timeout(10):
            await done.wait()
            while not trial.policy.compared_count:
                await asyncio.sleep(0)
    assert trial.policy.wrong_count == 0
