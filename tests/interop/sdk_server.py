"""A server of the official Python SDK (mcp 2.3.0) over stdio, for our client."""

from __future__ import annotations

from typing import Annotated

from mcp.server.mcpserver import AcceptedElicitation, Context, Elicit, ElicitationResult, MCPServer, Resolve
from sdk_tools import Count, register

server = MCPServer("sdk", instructions="Be gentle.")
register(server)


@server.tool()
async def steps(ctx: Context) -> str:
    for step in range(3):
        await ctx.report_progress(step + 1, 3, f"step {step + 1}")
    return "done"


def how_many() -> Elicit[Count]:
    return Elicit("How many?", Count)


@server.tool()
async def order(item: str, answer: Annotated[ElicitationResult[Count], Resolve(how_many)]) -> str:
    return f"{answer.data.count} {item}" if isinstance(answer, AcceptedElicitation) else answer.action


@server.tool()
async def grow(ctx: Context) -> str:
    await ctx.notify_tools_changed()
    await ctx.notify_resource_updated("sdk://hello")
    return "grown"


@server.resource("sdk://hello", mime_type="text/plain")
def hello() -> str:
    return "hello"


@server.prompt()
def greet(name: str) -> str:
    return f"Say hello to {name}."


if __name__ == "__main__":
    server.run("stdio")
