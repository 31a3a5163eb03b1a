"""How a tool's call begins and ends: values, errors, time, threads, cancellation, and change while it runs."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from dataclasses import dataclass
from typing import Any

import pytest

from erlmcp import Context, Limits, McpError, Server, ToolError

EVERY = ("2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25", "2026-07-28")
MODERN = "2026-07-28"
mark: contextvars.ContextVar[str] = contextvars.ContextVar("tool_mark", default="none")


async def through(ctx: Context, call_next: Any) -> Any:
    return await call_next(ctx)


def make_server(middleware: bool = False, **options: Any) -> Server:
    return Server("s", middleware=[through] if middleware else [], **options)


both_ways = pytest.mark.parametrize("middleware", [False, True], ids=["direct", "middleware"])


# -- what comes out -----------------------------------------------------------------------------------------------


@both_ways
@pytest.mark.parametrize("version", EVERY)
async def test_async_sync_and_inline_tools_answer_alike(talk: Any, version: str, middleware: bool) -> None:
    server = make_server(middleware)

    async def plain(n: int) -> dict[str, int]:
        return {"n": n}

    async def waits(n: int) -> dict[str, int]:
        await asyncio.sleep(0)
        return {"n": n}

    def sync(n: int) -> dict[str, int]:
        return {"n": n}

    server.add_tool(plain)
    server.add_tool(waits)
    server.add_tool(sync)
    server.add_tool(sync, name="inline", run_in_thread=False)
    async with talk(server, version) as client:
        for name in ("plain", "waits", "sync", "inline"):
            result = await client.call(name, {"n": 3})
            assert result["content"] == [{"type": "text", "text": '{"n":3}'}]
            assert result["isError"] is False
            assert result.get("structuredContent") == ({"n": 3} if version >= "2025-06-18" else None)


@both_ways
async def test_values_of_many_kinds_come_out_as_their_text(talk: Any, middleware: bool) -> None:
    server = make_server(middleware)

    @dataclass
    class Point:
        x: int
        y: float

    def add(name: str, value: Any, hint: Any) -> None:
        async def tool() -> Any:
            return value

        tool.__annotations__["return"] = hint
        server.add_tool(tool, name=name)

    cases = [
        ("str", 'é\n"', str, 'é\n"'),
        ("int", 7, int, "7"),
        ("float", 0.5, float, "0.5"),
        ("list", [1, 2], list[int], "[1,2]"),
        ("point", Point(1, 2.0), Point, '{"x":1,"y":2.0}'),
        ("untyped", {"a": 1}, Any, '{"a":1}'),
        ("true", True, bool, "true"),
    ]
    for name, value, hint, _ in cases:
        add(name, value, hint)
    add("none", None, None)
    async with talk(server) as client:
        for name, _, _, text in cases:
            assert await client.text(name) == text
        assert (await client.call("none"))["content"] == []


@both_ways
async def test_a_value_that_json_cannot_hold_is_an_error_result(talk: Any, quiet: None, middleware: bool) -> None:
    server = make_server(middleware)

    @server.tool
    async def nan() -> float:
        return float("nan")

    @server.tool
    async def liar() -> int:
        return "not an int"  # type: ignore[return-value]

    async with talk(server) as client:
        assert (await client.call("nan"))["isError"] is True
        result = await client.call("liar")
        assert result["isError"] is True
        assert "liar" in result["content"][0]["text"]


async def test_a_result_that_is_too_large_is_an_error_and_harms_nobody(talk: Any, quiet: None) -> None:
    server = make_server(limits=Limits(outbox_bytes_max=4096))

    @server.tool
    async def big(n: int) -> str:
        return "x" * n

    async with talk(server) as client:
        assert (await client.error("tools/call", {"name": "big", "arguments": {"n": 5000}}))["code"] == -32603
        assert await client.text("big", {"n": 5}) == "xxxxx"


# -- what goes wrong ----------------------------------------------------------------------------------------------


@both_ways
@pytest.mark.parametrize(
    "params",
    [{"name": "nobody"}, {"name": 3}, {}, {"name": "add", "arguments": [1]}, {"name": "add", "arguments": "x"}],
)
async def test_an_unknown_tool_and_a_malformed_call_are_protocol_errors(
    talk: Any, params: dict[str, Any], middleware: bool
) -> None:
    server = make_server(middleware)

    @server.tool
    async def add(a: int) -> int:
        return a

    for version in ("2025-11-25", MODERN):
        async with talk(server, version) as client:
            assert (await client.error("tools/call", params))["code"] == -32602


@both_ways
@pytest.mark.parametrize("arguments", [None, {}, {"a": "one"}, {"a": None}])
async def test_arguments_that_do_not_fit_are_an_error_result(talk: Any, arguments: Any, middleware: bool) -> None:
    server = make_server(middleware)

    async def add(a: int) -> int:
        return a

    server.add_tool(add)
    server.add_tool(
        lambda a: a,
        name="sync",
        input_schema={"type": "object", "required": ["a"], "properties": {"a": {"type": "integer"}}},
    )
    async with talk(server) as client:
        for name in ("add", "sync"):
            params = {"name": name} if arguments is None else {"name": name, "arguments": arguments}
            result = await client.result("tools/call", params)
            assert result["isError"] is True
            assert "a" in result["content"][0]["text"]


@both_ways
@pytest.mark.parametrize("kind", ["async", "waits", "thread", "inline"])
@pytest.mark.parametrize("mask", [True, False])
async def test_tool_errors_are_told_protocol_errors_kept_and_other_exceptions_masked(
    talk: Any, quiet: None, kind: str, mask: bool, middleware: bool
) -> None:
    server = make_server(middleware, mask_errors=mask)

    def raise_it(which: str) -> str:
        match which:
            case "tool":
                raise ToolError("the shelf is empty")
            case "mcp":
                raise McpError(-12345, "own code", {"x": 1})
            case "stop":
                raise StopIteration("secret")
            case _:
                raise LookupError("secret")

    async def raise_async(which: str) -> str:
        if kind == "waits":
            await asyncio.sleep(0)
        return raise_it(which)

    server.add_tool(
        raise_it if kind in ("thread", "inline") else raise_async, name="fail", run_in_thread=kind == "thread"
    )
    async with talk(server) as client:
        result = await client.call("fail", {"which": "tool"})
        assert (result["isError"], result["content"][0]["text"]) == (True, "the shelf is empty")
        error = await client.error("tools/call", {"name": "fail", "arguments": {"which": "mcp"}})
        assert error == {"code": -12345, "message": "own code", "data": {"x": 1}}
        for which in ("other", "stop"):
            result = await client.call("fail", {"which": which})
            assert result["isError"] is True
            text = result["content"][0]["text"]
            assert text.startswith("Error executing tool fail")
            assert text == "Error executing tool fail" if mask else text != "Error executing tool fail"
            if which == "other":
                assert ("secret" in text) is not mask


@both_ways
async def test_a_handler_that_raises_cancelled_by_itself_is_answered(talk: Any, quiet: None, middleware: bool) -> None:
    server = make_server(middleware)

    @server.tool
    async def odd(waits: bool) -> str:
        if waits:
            await asyncio.sleep(0)
        raise asyncio.CancelledError

    @server.tool
    async def self_cancel() -> str:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await asyncio.Event().wait()
        return "never"

    async with talk(server) as client:
        for waits in (False, True):
            answer = await client.ask("tools/call", {"name": "odd", "arguments": {"waits": waits}})
            assert answer.get("error") or answer["result"]["isError"]
        answer = await client.ask("tools/call", {"name": "self_cancel"})
        assert answer.get("error") or answer["result"]["isError"]


async def test_a_group_of_exceptions_is_one_error_result(talk: Any, quiet: None) -> None:
    server = make_server()

    @server.tool
    async def group() -> str:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(asyncio.sleep(0))
            raise ValueError("inner")

    async with talk(server) as client:
        assert (await client.call("group"))["isError"] is True


# -- time ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", ["2025-11-25", MODERN])
@pytest.mark.parametrize("kind", ["async", "thread"])
async def test_a_tool_that_passes_its_timeout_is_answered_and_stopped(talk: Any, version: str, kind: str) -> None:
    server = make_server()
    gate, cancelled = threading.Event(), asyncio.Event()

    async def hang() -> str:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise
        return "never"

    def block() -> str:
        gate.wait(10)
        return "too late"

    server.add_tool(hang if kind == "async" else block, name="slow", timeout=0.02)
    async with talk(server, version) as client:
        error = await client.error("tools/call", {"name": "slow"})
        assert error["code"] == -32001
        assert "0.02 s" in error["message"]
        if kind == "async":
            await asyncio.wait_for(cancelled.wait(), 5)
        gate.set()
        await client.settle()
        assert client.notes == []


@both_ways
async def test_the_default_timeout_is_a_limit_and_the_tools_own_goes_before_it(talk: Any, middleware: bool) -> None:
    server = make_server(middleware, limits=Limits(request_timeout_s=0.05))
    release = asyncio.Event()

    async def hang() -> str:
        await release.wait()
        return "in time"

    server.add_tool(hang, name="hurried")
    server.add_tool(hang, name="patient", timeout=30)
    async with talk(server) as client:
        patient = client.post("tools/call", {"name": "patient"})
        error = await client.error("tools/call", {"name": "hurried"})
        assert error["code"] == -32001
        release.set()
        assert (await client.answer(patient))["result"]["content"][0]["text"] == "in time"


async def test_a_timeout_error_of_the_tools_own_is_an_ordinary_error_result(talk: Any, quiet: None) -> None:
    for middleware in (False, True):
        server = make_server(middleware)

        @server.tool(timeout=30)
        async def slow() -> str:
            async with asyncio.timeout(0.001):
                await asyncio.Event().wait()
            return "never"

        async with talk(server) as client:
            assert (await client.call("slow"))["content"][0]["text"] == "Error executing tool slow"


# -- cancellation -------------------------------------------------------------------------------------------------


@both_ways
@pytest.mark.parametrize("version", ["2024-11-05", "2025-11-25", MODERN])
async def test_a_cancelled_call_is_not_answered_and_its_handler_is_told(
    talk: Any, version: str, middleware: bool
) -> None:
    server = make_server(middleware)
    seen: list[Any] = []

    @server.tool
    async def hang(ctx: Context, turns: int) -> str:
        try:
            for _ in range(turns):
                await asyncio.sleep(0)
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            seen.append((turns, ctx.cancelled))
            await ctx.progress(1)
            await ctx.info("too late")
            raise
        return "never"

    async with talk(server, version) as client:
        for turns in range(3):
            client.post(
                "tools/call", {"name": "hang", "arguments": {"turns": turns}}, id=f"c{turns}", meta={"progressToken": 1}
            )
            client.notify("notifications/cancelled", {"requestId": f"c{turns}", "reason": "enough"})
            assert await client.settle() == []
            assert seen[-1:] == [(turns, True)]
            client.post("tools/call", {"name": "hang", "arguments": {"turns": turns}}, id=turns)
            await client.settle()
            client.notify("notifications/cancelled", {"requestId": str(turns)})
            await client.settle()
            assert len(seen) == 2 * turns + 1
            client.notify("notifications/cancelled", {"requestId": turns})
            assert await client.settle() == []
            assert len(seen) == 2 * turns + 2
        assert client.notes == []


async def test_a_handler_that_answers_in_spite_of_its_cancellation_is_not_heard(talk: Any) -> None:
    server = make_server()

    @server.tool
    async def stubborn() -> str:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return "still here"
        return "never"

    async with talk(server) as client:
        client.post("tools/call", {"name": "stubborn"}, id=1)
        client.notify("notifications/cancelled", {"requestId": 1})
        assert await client.settle() == []


async def test_a_cancelled_call_in_a_thread_is_not_answered_and_one_that_waits_for_a_thread_never_runs(
    talk: Any,
) -> None:
    server = make_server(limits=Limits(thread_count_max=1))
    gate, started, ran = threading.Event(), threading.Event(), []

    @server.tool
    def block(name: str) -> str:
        ran.append(name)
        started.set()
        gate.wait(10)
        return name

    async with talk(server) as client:
        client.post("tools/call", {"name": "block", "arguments": {"name": "first"}}, id=1)
        client.post("tools/call", {"name": "block", "arguments": {"name": "second"}}, id=2)
        third = client.post("tools/call", {"name": "block", "arguments": {"name": "third"}}, id=3)
        assert started.wait(10)
        client.notify("notifications/cancelled", {"requestId": 1})
        client.notify("notifications/cancelled", {"requestId": 2})
        gate.set()
        assert (await client.answer(third))["result"]["content"][0]["text"] == "third"
        assert client.notes == []
        assert ran == ["first", "third"]


async def test_cancelling_what_is_unknown_or_answered_does_nothing(talk: Any) -> None:
    server = make_server()

    @server.tool
    async def quick() -> str:
        return "quick"

    async with talk(server) as client:
        assert await client.text("quick", id=5) == "quick"
        for id in (5, 6, "5", None, True, 1.5, {}, []):
            client.notify("notifications/cancelled", {"requestId": id})
        assert await client.settle() == []
        assert await client.text("quick", id=5) == "quick"


async def test_a_connection_that_closes_cancels_what_runs_on_it(talk: Any) -> None:
    server = make_server()
    ends = []

    @server.tool
    async def hang(n: int) -> None:
        try:
            if n % 2:
                await asyncio.sleep(0)
            await asyncio.Event().wait()
        finally:
            ends.append(n)

    async with server.running():
        async with talk(server) as client:
            for n in range(4):
                client.post("tools/call", {"name": "hang", "arguments": {"n": n}})
        assert sorted(ends) == [0, 1, 2, 3]


# -- threads ------------------------------------------------------------------------------------------------------


@both_ways
async def test_a_sync_tool_runs_in_a_thread_unless_it_is_told_not_to(talk: Any, middleware: bool) -> None:
    server = make_server(middleware)

    def where() -> int:
        return threading.get_ident()

    server.add_tool(where)
    server.add_tool(where, name="inline", run_in_thread=False)
    async with talk(server) as client:
        assert await client.text("where") != str(threading.get_ident())
        assert await client.text("inline") == str(threading.get_ident())


@both_ways
async def test_a_full_thread_queue_is_told_as_busy(talk: Any, middleware: bool) -> None:
    server = make_server(middleware, limits=Limits(thread_count_max=1, thread_queue_max=1))
    gate = threading.Event()

    @server.tool
    def block() -> bool:
        return gate.wait(10)

    async with talk(server) as client:
        ids = [client.post("tools/call", {"name": "block"}) for _ in range(2)]
        error = await client.error("tools/call", {"name": "block"})
        assert error["code"] == -32000
        assert "thread_queue_max=1" in error["message"]
        gate.set()
        for id in ids:
            assert (await client.answer(id))["result"]["content"][0]["text"] == "true"


@both_ways
@pytest.mark.parametrize("kind", ["async", "waits", "thread", "inline"])
async def test_context_variables_of_one_call_are_not_seen_by_the_next(talk: Any, kind: str, middleware: bool) -> None:
    server = make_server(middleware)

    def sync(value: str) -> str:
        before = mark.get()
        mark.set(value)
        return before

    async def plain(value: str) -> str:
        before = sync(value)
        if kind == "waits":
            await asyncio.sleep(0)
            assert mark.get() == value
        return before

    server.add_tool(sync if kind in ("thread", "inline") else plain, name="tool", run_in_thread=kind == "thread")
    async with talk(server) as client:
        ids = [client.post("tools/call", {"name": "tool", "arguments": {"value": str(n)}}) for n in range(4)]
        answers = [await client.receive() for _ in ids]  # threads may end in another order
        assert sorted(each["id"] for each in answers) == ids
        assert {each["result"]["content"][0]["text"] for each in answers} == {"none"}
        assert mark.get() == "none"


# -- change -------------------------------------------------------------------------------------------------------


async def test_a_tool_removed_while_a_call_is_in_flight_ends_it_as_it_would_have(talk: Any) -> None:
    server = make_server()
    gate = asyncio.Event()

    @server.tool
    async def slow() -> str:
        await gate.wait()
        return "old"

    async with talk(server) as client:
        first = client.post("tools/call", {"name": "slow"})
        await client.settle()
        server.remove_tool("slow")
        assert (await client.error("tools/call", {"name": "slow"}))["code"] == -32602
        server.add_tool(lambda: "new", name="slow")
        assert await client.text("slow") == "new"
        gate.set()
        assert (await client.answer(first))["result"]["content"][0]["text"] == "old"


async def test_answers_come_as_calls_end_and_not_as_they_came(talk: Any) -> None:
    server = make_server()
    gates = [asyncio.Event() for _ in range(3)]

    @server.tool
    async def wait(n: int) -> int:
        await gates[n].wait()
        return n

    async with talk(server) as client:
        ids = [client.post("tools/call", {"name": "wait", "arguments": {"n": n}}) for n in range(3)]
        await client.settle()
        for n in (2, 0, 1):
            gates[n].set()
            assert (await client.receive())["id"] == ids[n]
