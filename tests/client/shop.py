"""The server that the client's tests talk to; started as a program it serves over stdio."""

from __future__ import annotations

import asyncio
from typing import Any

from erlmcp import Context, Limits, McpError, Server, ToolError


def build() -> Server:
    limits = Limits.load(queue_delay_max_s=600)  # a busy machine is no reason to refuse a call
    server = Server(
        "shop", version="3.1", instructions="Ask before you buy.", cache_ttl_ms=60_000, page_size=4, limits=limits
    )
    server.cancelled = 0  # type: ignore[attr-defined]
    add_tools(server)
    add_questions(server)
    add_changes(server)
    add_the_rest(server)
    return server


def add_tools(server: Server) -> None:
    @server.tool(annotations={"readOnlyHint": True})
    async def echo(text: str) -> str:
        """Say it again."""
        return text

    @server.tool
    def add(a: int, b: int = 1) -> int:
        return a + b

    @server.tool
    async def weather(city: str) -> dict[str, Any]:
        return {"city": city, "celsius": 21.5}

    @server.tool
    async def fail(text: str) -> str:
        raise ToolError(text)

    @server.tool
    async def refuse() -> str:
        raise McpError(-31000, "not today", {"why": "closed"})

    @server.tool
    async def wait() -> str:
        """Until it is cancelled."""
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            server.cancelled += 1  # type: ignore[attr-defined]

    @server.tool
    async def turns(count: int) -> int:
        """An answer some turns of the loop later."""
        for _ in range(count):
            await asyncio.sleep(0)
        return count

    @server.tool
    async def steps(ctx: Context, count: int) -> str:
        for step in range(count):
            await ctx.progress(step + 1, count, f"step {step + 1}")
        await ctx.info({"steps": count}, "shop")
        await ctx.debug("not so important")
        return "done"


def add_questions(server: Server) -> None:
    @server.tool
    async def order(ctx: Context, item: str) -> str:
        found = await ctx.elicit(
            f"How many of {item}?", {"type": "object", "properties": {"count": {"type": "integer"}}}
        )
        return f"{found.content['count']} {item}" if found.accepted and found.content else found.action

    @server.tool
    async def think(ctx: Context, prompt: str) -> str:
        return (await ctx.sample(prompt)).text

    @server.tool
    async def places(ctx: Context) -> list[str]:
        return [root["uri"] for root in await ctx.list_roots()]

    @server.tool
    async def twice(ctx: Context) -> str:
        first = await ctx.elicit("First?", {"type": "object", "properties": {"x": {"type": "integer"}}})
        second = await ctx.elicit("Second?", {"type": "object", "properties": {"x": {"type": "integer"}}})
        return f"{first.content} {second.content}"


def add_changes(server: Server) -> None:
    @server.tool
    async def grow(ctx: Context) -> str:
        """Add a tool, and say so; a resource changed as well."""

        async def newcomer() -> str:
            return "new"

        if "newcomer" not in server.tools:
            server.add_tool(newcomer)
        await ctx.resource_updated("shop://stock/pear")
        return "grown"

    @server.tool
    async def level(ctx: Context) -> str:
        await ctx.warning("from level")
        return str(ctx.client_capabilities)


def add_the_rest(server: Server) -> None:
    @server.resource("shop://opening", mime_type="text/plain")
    def opening() -> str:
        return "9 to 5"

    @server.resource("shop://stock/{item}")
    def stock(item: str) -> dict[str, Any]:
        return {"item": item, "count": 7}

    @server.prompt
    def greet(name: str) -> str:
        return f"Say hello to {name}."

    @server.completion(prompt="greet", argument="name")
    def names(value: str, context_arguments: dict[str, str] | None = None) -> list[str]:
        return [name for name in ("Ada", "Alan", "Grace") if name.startswith(value)]


server = build()
