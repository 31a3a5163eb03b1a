"""Calls in the shadow: what may be copied, how many, how answers are compared, and that nobody else is touched."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from erlmcp import Context, InvalidParamsError, Limits, Server, ToolError, core
from erlmcp.errors import NoBackChannelError
from erlmcp.policy.rollout import BACK, RUNNING, SHADOW, Rules
from erlmcp.server.shadow import INFLIGHT_MAX, Caught, Shadow, difference, may_be_copied

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


@pytest.mark.parametrize("is_right", [True, False])
async def test_within_middleware_copies_are_made_and_compared_without_it(talk: Any, is_right: bool) -> None:
    server = build()
    seen: list[str] = []

    async def dress(ctx: Context, call_next: Any) -> Any:
        seen.append(ctx.method)
        found = await call_next(ctx)
        found["content"][0]["text"] += "!"
        return found

    async def other(a: int, b: int) -> int:
        return a + b if is_right else a - b

    server.add_middleware(dress)
    trial = server.candidate("add", other, rules=ALL)
    async with talk(server) as client:
        assert [await client.text("add", {"a": n, "b": 1}) for n in range(3)] == ["1!", "2!", "3!"]
        await settled()
    assert seen == ["tools/call"] * 3
    assert trial.policy.state == (SHADOW if is_right else BACK)
    assert trial.policy.compared_count == (3 if is_right else 1)


async def test_a_candidate_that_refuses_where_the_tool_answers_is_wrong(talk: Any) -> None:
    server = build()

    async def refuses(a: int, b: int) -> int:
        raise InvalidParamsError("not these")

    trial = server.candidate("add", refuses, rules=ALL)
    async with talk(server) as client:
        assert await client.text("add", {"a": 1, "b": 1}) == "2"
        await settled()
    assert trial.policy.state == BACK
    assert "not these" in trial.policy.events[-1]["why"]


async def test_copies_that_find_no_room_in_the_threads_are_not_made_and_no_evidence(talk: Any) -> None:
    server = build()
    server.limits = Limits(thread_count_max=1, thread_queue_max=1)
    gate = threading.Event()

    def other(a: int, b: int) -> int:
        gate.wait(10)
        return a + b

    trial = server.candidate("add", other, rules=ALL)
    async with talk(server) as client:
        for number in range(5):
            assert await client.text("add", {"a": number, "b": 0}) == str(number)
            await settled()
        assert trial.shadow.refused_count == 3
        gate.set()
        async with asyncio.timeout(10):
            while trial.policy.compared_count < 2:
                await asyncio.sleep(0)
    assert (trial.policy.state, trial.policy.wrong_count) == (SHADOW, 0)


async def test_a_copy_that_is_cancelled_as_the_server_stops_is_no_evidence(talk: Any) -> None:
    server = build()

    async def never(a: int, b: int) -> int:
        await asyncio.Event().wait()
        return a + b

    trial = server.candidate("add", never, rules=ALL)
    async with talk(server) as client:
        assert await client.text("add", {"a": 1, "b": 1}) == "2"
        await settled()
        assert trial.shadow.inflight_count == 1
        (copy,) = trial.shadow._shade.inflight
        copy.cancel()
        await settled()
    assert trial.shadow.inflight_count == 0
    assert trial.policy.compared_count == 0


async def test_a_copy_has_nobody_to_talk_to() -> None:
    answers: list[bytes | None] = []
    caught = Caught(core.stack(), answers.append)
    caught.notify("notifications/progress", {})
    caught.detach()
    with pytest.raises(NoBackChannelError, match="nobody waits"):
        caught.ask(1, "roots/list", None)
    assert answers == []
    caught.drop()
    assert answers == [None]


def test_the_first_difference_is_told_by_its_place() -> None:
    assert difference({"a": [1, {"b": 2}]}, {"a": [1, {"b": 3}]}) == "a[1].b: 3 instead of 2"
    assert difference({"a": 1}, {"a": 1, "b": 2}) == "b: 2 instead of nothing"
    assert difference([1], [1, 2]) == "[1,2] instead of [1]"
    assert difference(1, "x" * 500).endswith("... instead of 1")
    assert len(difference({"k" * 500: 1}, {"k" * 500: 2})) < 200


async def test_an_answer_that_cannot_be_written_is_not_copied_and_what_is_removed_meanwhile_harms_nobody(
    talk: Any, quiet: None
) -> None:
    server = Server("shadow")

    @server.tool(annotations={"readOnlyHint": True}, structured_output=False)
    async def odd(kind: str) -> str:
        if kind == "removed":
            server.remove_tool("odd")
        return "\ud800" if kind == "broken" else kind

    async def pass_on(ctx: Context, call_next: Any) -> Any:
        return await call_next(ctx)

    server.add_middleware(pass_on)
    trial = server.rollout("sides", new=server.baseline(), tools=["odd"], rules=ALL)
    async with talk(server) as client:
        assert await client.text("odd", {"kind": "right"}) == "right"
        await settled()
        found = await client.ask("tools/call", {"name": "odd", "arguments": {"kind": "broken"}})
        assert "error" in found or found["result"]["isError"]
        assert await client.text("odd", {"kind": "removed"}) == "removed"
        await settled()
    assert (trial.policy.compared_count, trial.policy.wrong_count, trial.shadow.refused_count) == (1, 0, 1)
