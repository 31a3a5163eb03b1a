"""Middleware: around every request, outermost first, and able to see, change, refuse and replace."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from erlmcp import Context, Limits, McpError, Server, ToolError

MODERN = "2026-07-28"


def add_tools(server: Server) -> Server:
    @server.tool
    async def echo(text: str) -> str:
        return text

    @server.tool
    async def fail(how: str) -> str:
        raise {"tool": ToolError("told"), "mcp": McpError(-5, "kept"), "other": KeyError("hidden")}[how]

    return server


async def test_the_first_middleware_is_the_outermost(talk: Any) -> None:
    seen: list[str] = []

    def make(name: str) -> Any:
        async def middleware(ctx: Context, call_next: Any) -> Any:
            seen.append(f"{name} in")
            try:
                return await call_next(ctx)
            finally:
                seen.append(f"{name} out")

        return middleware

    server = add_tools(Server("s", middleware=[make("a"), make("b")]))
    server.add_middleware(make("c"))
    async with talk(server) as client:
        assert await client.text("echo", {"text": "x"}) == "x"
    assert seen == ["a in", "b in", "c in", "c out", "b out", "a out"]


@pytest.mark.parametrize("version", ["2025-06-18", MODERN])
async def test_it_is_around_every_request_of_a_feature(talk: Any, version: str) -> None:
    seen: list[tuple[str, str | None]] = []

    async def watch(ctx: Context, call_next: Any) -> Any:
        seen.append((ctx.method, ctx.name))
        return await call_next(ctx)

    server = add_tools(Server("s", middleware=[watch]))
    server.add_prompt(lambda: "x", name="p")
    server.add_resource(lambda: "x", "data://r", name="r")
    async with talk(server, version) as client:
        requests: list[tuple[str, dict[str, Any]]] = [
            ("tools/list", {}),
            ("tools/call", {"name": "echo", "arguments": {"text": "x"}}),
            ("prompts/list", {}),
            ("prompts/get", {"name": "p"}),
            ("resources/list", {}),
            ("resources/templates/list", {}),
            ("resources/read", {"uri": "data://r"}),
            (
                "completion/complete",
                {"ref": {"type": "ref/prompt", "name": "p"}, "argument": {"name": "a", "value": ""}},
            ),
            *(
                [("server/discover", {})]
                if version == MODERN
                else [("logging/setLevel", {"level": "info"}), ("resources/subscribe", {"uri": "a://b"})]
            ),
        ]
        for method, params in requests:
            await client.result(method, params)
    names = {"tools/call": "echo", "prompts/get": "p", "resources/read": "data://r"}
    assert seen == [(method, names.get(method)) for method, _ in requests]


async def test_it_may_change_the_result_and_answer_by_itself(talk: Any) -> None:
    async def changing(ctx: Context, call_next: Any) -> Any:
        if ctx.name == "echo" and ctx.params["arguments"].get("text") == "stop":
            return {"content": [], "isError": False}
        found = await call_next(ctx)
        return {**found, "_meta": {**found.get("_meta", {}), "example.org/x": 1}}

    async with talk(add_tools(Server("s", middleware=[changing])), "2025-11-25") as client:
        assert (await client.call("echo", {"text": "go"}))["_meta"] == {"example.org/x": 1}
        assert await client.call("echo", {"text": "stop"}) == {"content": [], "isError": False}


async def test_it_may_refuse_and_its_accidents_are_masked(talk: Any, quiet: None) -> None:
    async def guard(ctx: Context, call_next: Any) -> Any:
        if ctx.name == "fail":
            raise McpError(-32099 + 50000, "forbidden", {"tool": ctx.name})
        if ctx.method == "tools/list":
            raise RuntimeError("secret")
        return await call_next(ctx)

    async with talk(add_tools(Server("s", middleware=[guard]))) as client:
        error = await client.error("tools/call", {"name": "fail", "arguments": {"how": "tool"}})
        assert error == {"code": 17901, "message": "forbidden", "data": {"tool": "fail"}}
        error = await client.error("tools/list")
        assert error == {"code": -32603, "message": "Internal error"}
        assert await client.text("echo", {"text": "x"}) == "x"


async def test_it_sees_error_results_as_results_and_protocol_errors_as_exceptions(talk: Any, quiet: None) -> None:
    seen: list[Any] = []

    async def watch(ctx: Context, call_next: Any) -> Any:
        try:
            found = await call_next(ctx)
        except McpError as error:
            seen.append(error.code)
            raise
        seen.append(found.get("isError"))
        return found

    async with talk(add_tools(Server("s", middleware=[watch]))) as client:
        for how in ("tool", "other"):
            assert (await client.call("fail", {"how": how}))["isError"] is True
        assert (await client.error("tools/call", {"name": "fail", "arguments": {"how": "mcp"}}))["code"] == -5
        assert (await client.error("tools/call", {"name": "nobody"}))["code"] == -32602
        assert (await client.error("resources/read", {"uri": "a://b"}))["code"] == -32602
        assert await client.text("echo", {"text": "x"}) == "x"
    assert seen == [True, True, -5, -32602, -32602, False]


async def test_a_call_cancelled_within_it_is_not_answered(talk: Any) -> None:
    ends: list[str] = []

    async def slow(ctx: Context, call_next: Any) -> Any:
        try:
            await asyncio.Event().wait()
        finally:
            ends.append("cleaned up")

    async with talk(add_tools(Server("s", middleware=[slow]))) as client:
        client.post("tools/list", id=1)
        client.notify("notifications/cancelled", {"requestId": 1})
        assert await client.settle() == []
    assert ends == ["cleaned up"]


async def test_a_middleware_that_hangs_is_timed_out(talk: Any) -> None:
    async def hang(ctx: Context, call_next: Any) -> Any:
        await asyncio.Event().wait()

    server = add_tools(Server("s", middleware=[hang], limits=Limits(request_timeout_s=0.02)))
    async with talk(server) as client:
        assert (await client.error("tools/list"))["code"] == -32001
        assert (await client.error("tools/call", {"name": "nobody"}))["code"] == -32001


async def test_results_that_json_cannot_hold_are_an_internal_error(talk: Any, quiet: None) -> None:
    async def odd(ctx: Context, call_next: Any) -> Any:
        return {"content": object()}

    async with talk(add_tools(Server("s", middleware=[odd]))) as client:
        assert (await client.error("tools/call", {"name": "echo", "arguments": {"text": "x"}}))["code"] == -32603
