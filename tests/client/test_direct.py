"""A server in this process: with objects and through bytes, and nobody can tell."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from ways import connected, tasks_left

from erlmcp import CallTimeoutError, Limits, McpError, Server, ToolError, core
from erlmcp.client.direct import DirectResult
from erlmcp.client.memory import MemoryChannel

MARK: contextvars.ContextVar[str] = contextvars.ContextVar("mark", default="clean")
needs_core = pytest.mark.skipif(core.IMPLEMENTATION != "core", reason="the twins have no short way")


def build(**options: Any) -> Server:
    server = Server("near", **options)

    @server.tool
    async def echo(text: str) -> str:
        return text

    @server.tool
    async def half(number: int, by: int = 2) -> float:
        return number / by

    @server.tool
    async def liar() -> int:
        return "seven"  # type: ignore[return-value]

    @server.tool
    async def pair() -> dict[str, int]:
        return {"a": 1}

    @server.tool
    async def fail() -> str:
        raise ToolError("no")

    @server.tool
    async def crash() -> str:
        raise ValueError("a secret")

    @server.tool
    async def refuse() -> str:
        raise McpError(-31000, "not today")

    @server.tool
    async def mark(text: str) -> str:
        before = MARK.get()
        MARK.set(text)
        return before

    @server.tool
    async def later(text: str) -> str:
        task = asyncio.current_task()
        await asyncio.sleep(0)
        assert asyncio.current_task() is task
        return text

    @server.tool
    async def forever() -> str:
        await asyncio.get_running_loop().create_future()
        return ""

    @server.tool
    async def whose() -> bool:
        """Whether the caller's task is the handler's."""
        return asyncio.current_task() is CALLER.get(None)

    return server


CALLER: contextvars.ContextVar[Any] = contextvars.ContextVar("caller")


@asynccontextmanager
async def near(kind: str, server: Server, **options: Any) -> AsyncIterator[Any]:
    async with connected(MemoryChannel(server, objects=kind == "objects"), **options) as client:
        yield client


@pytest.fixture(params=["objects", "bytes"])
def kind(request: pytest.FixtureRequest) -> str:
    found: str = request.param
    return found


@needs_core
async def test_simple_calls_take_the_short_way_and_others_do_not(mode: str) -> None:
    async with near("objects", build(), mode=mode) as client:
        assert isinstance(await client.call_tool("echo", {"text": "x"}), DirectResult)
        assert isinstance(await client.call_tool("later", {"text": "x"}), DirectResult)
        assert not isinstance(await client.call_tool("pair"), DirectResult)
        assert not isinstance(await client.call_tool("echo", {"text": "x"}, meta={"a/b": 1}), DirectResult)
    async with near("bytes", build(), mode=mode) as client:
        assert not isinstance(await client.call_tool("echo", {"text": "x"}), DirectResult)
    async with near("objects", build(), mode="2025-03-26") as client:
        assert not isinstance(await client.call_tool("echo", {"text": "x"}), DirectResult)


async def test_the_results_are_the_same_either_way(loop_kind: str, mode: str) -> None:
    found: dict[str, list[Any]] = {}
    calls = [
        ("echo", {"text": "häj"}),
        ("half", {"number": 7}),
        ("half", {"number": "8", "by": 4}),
        ("half", {"number": "no number"}),
        ("half", {}),
        ("echo", {"text": "x", "more": [1, {"a": None}]}),
        ("liar", None),
        ("pair", None),
        ("fail", None),
        ("crash", None),
        ("later", {"text": "z"}),
    ]
    for kind in ("objects", "bytes"):
        async with near(kind, build(), mode=mode) as client:
            results = [await client.call_tool(name, given, raise_on_error=False) for name, given in calls]
            found[kind] = [(each.data, each.text, each.is_error, each.raw, each.content) for each in results]
    assert found["objects"] == found["bytes"]
    assert "a secret" not in str(found)


async def test_errors_are_the_same_either_way(kind: str) -> None:
    async with near(kind, build()) as client:
        with pytest.raises(ToolError, match="no"):
            await client.call_tool("fail")
        with pytest.raises(McpError, match="not today"):
            await client.call_tool("refuse")
        with pytest.raises(McpError, match="Unknown tool"):
            await client.call_tool("nobody")
        with pytest.raises(ToolError, match="Error executing tool half"):
            await client.call_tool("half", {"number": 1, "by": 0})
        assert (await client.call_tool("echo", {"text": "on"})).data == "on"


async def test_a_handler_has_a_task_and_a_context_of_its_own(kind: str, loop_kind: str) -> None:
    async with near(kind, build()) as client:
        task = asyncio.current_task()
        CALLER.set(task)
        assert (await client.call_tool("whose")).data is False
        assert asyncio.current_task() is task
        MARK.set("mine")
        assert (await client.call_tool("mark", {"text": "theirs"})).data == "clean"
        assert (await client.call_tool("mark", {"text": "again"})).data == "clean"
        assert MARK.get() == "mine"
        async with asyncio.timeout(10):
            await client.call_tool("later", {"text": "x"})


async def test_a_handler_that_waits_is_timed_out_and_cancelled(kind: str, loop_kind: str) -> None:
    server = build()
    async with near(kind, server) as client:
        with pytest.raises(CallTimeoutError, match=r"timeout_s=0.02"):
            await client.call_tool("forever", timeout_s=0.02)
        waiting = asyncio.create_task(client.call_tool("forever"))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        while server.executor.running:
            await asyncio.sleep(0)
    assert [task for task in tasks_left() if "_live" in repr(task.get_coro())] == []


async def test_the_tools_own_time_is_kept_as_well(kind: str) -> None:
    async with near(kind, build(limits=Limits(request_timeout_s=0.02))) as client:
        with pytest.raises(McpError, match=r"timed out after 0\.02 s"):
            await client.call_tool("forever")


async def test_a_server_that_is_changed_is_called_as_it_is_now(kind: str) -> None:
    server = build()
    async with near(kind, server) as client:
        await client.call_tool("echo", {"text": "x"})
        server.remove_tool("echo")
        with pytest.raises(McpError, match="Unknown tool"):
            await client.call_tool("echo", {"text": "x"})
        seen: list[str] = []

        async def watch(context: Any, call_next: Any) -> Any:
            seen.append(context.name)
            return await call_next(context)

        server.add_middleware(watch)
        assert (await client.call_tool("half", {"number": 4})).data == 2.0
        assert seen == ["half"]


async def test_a_tool_may_call_its_own_server_through_the_same_client(kind: str) -> None:
    server = build()
    clients: list[Any] = []

    @server.tool
    async def outer(depth: int) -> str:
        if depth == 0:
            return (await clients[0].call_tool("echo", {"text": "bottom"})).data  # type: ignore[no-any-return]
        return (await clients[0].call_tool("outer", {"depth": depth - 1})).data  # type: ignore[no-any-return]

    async with near(kind, server) as client:
        clients.append(client)
        assert (await client.call_tool("outer", {"depth": 5})).data == "bottom"
        assert (await client.call_many([("outer", {"depth": 2})] * 3))[2].data == "bottom"
