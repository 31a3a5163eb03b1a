"""What a handler does with its context: telling, reading, asking."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from mcp.server.mcpserver import Context, MCPServer
from mcp_types import ClientCapabilities, RootsCapability
from pydantic import BaseModel, Field


@dataclass
class State:
    greeting: str


@asynccontextmanager
async def lifespan(server: MCPServer) -> AsyncIterator[State]:
    yield State(f"hello from {server.name}")


class Booking(BaseModel):
    """A booking."""

    day: str = Field(description="Which day")
    people: int = Field(default=2, ge=1)
    quiet: bool = False
    note: str | None = None


mcp = MCPServer("asking", lifespan=lifespan)


@mcp.resource("data://{name}")
def data(name: str) -> str:
    return f"data of {name}"


@mcp.tool()
async def tells(ctx: Context[State]) -> str:
    await ctx.debug("a debug message")
    await ctx.info({"structured": True}, logger_name="shop")
    await ctx.warning("careful")
    await ctx.error("broken")
    await ctx.log("critical", "very")
    await ctx.report_progress(1, 2, "half")
    await ctx.report_progress(2)
    return ctx.request_context.lifespan_context.greeting


@mcp.tool()
async def reads(ctx: Context) -> list[str]:
    found = []
    for each in await ctx.read_resource("data://apple"):
        found += [str(each.content), str(each.mime_type)]
    return found


@mcp.tool()
async def knows(ctx: Context) -> dict[str, str | bool | None]:
    meta = ctx.request_context.meta
    return {
        "server": ctx.mcp_server.name,
        "has_id": bool(ctx.request_id),
        "version": ctx.protocol_version,
        "headers": None if ctx.headers is None else "some",
        "client": ctx.session.client_params.client_info.name,
        "method": ctx.request_context.method,
        "roots": ctx.session.check_client_capability(ClientCapabilities(roots=RootsCapability())),
        "elicits": ctx.client_capabilities.elicitation is not None,
        "extra": None if meta is None else str(meta.get("example.com/x")),
    }


@mcp.tool()
def plain_with_context(value: int, context: Context) -> str:
    return f"{value} {context.mcp_server.name}"


TALK = [
    ("tools/call", {"name": "tells", "arguments": {}}),
    (
        "tools/call",
        {
            "name": "tells",
            "arguments": {},
            "_meta": {"progressToken": "p1", "io.modelcontextprotocol/logLevel": "warning"},
        },
    ),
    ("tools/call", {"name": "reads", "arguments": {}}),
    ("tools/call", {"name": "knows", "arguments": {}}),
    ("tools/call", {"name": "knows", "arguments": {}, "_meta": {"example.com/x": "y"}}),
    ("tools/call", {"name": "plain_with_context", "arguments": {"value": 1}}),
    ("tools/list", {}),
]
