"""Middleware, extensions, caching hints, and lists that change."""

from dataclasses import replace

from mcp.server.caching import CacheHint
from mcp.server.mcpserver import Extension, MCPServer, ResourceBinding, ToolBinding, require_client_extension
from mcp.server.mcpserver.resources import TextResource
from mcp_types import CallToolResult, TextContent

seen = []


def shout(text: str) -> str:
    return text.upper()


class Loud(Extension):
    identifier = "com.example/loud"

    def settings(self):
        return {"volume": 11}

    def tools(self):
        return [ToolBinding(fn=shout, meta={"loud": True}, kwargs={"title": "Shout"})]

    def resources(self):
        return [ResourceBinding(resource=TextResource(uri="loud://text", name="loud", text="LOUD"))]

    async def intercept_tool_call(self, params, ctx, call_next):
        if params.name == "stopped":
            return CallToolResult(content=[TextContent(type="text", text="stopped before")])
        result = await call_next(ctx)
        if params.name == "marked":
            result.content.append(TextContent(type="text", text=f"marked: {result.is_error}"))
        return result


async def watch(ctx, call_next):
    seen.append(ctx.method)
    return await call_next(ctx)


async def rewrite(ctx, call_next):
    if ctx.method == "tools/call" and ctx.params["name"] == "alias":
        return await call_next(replace(ctx, params={**ctx.params, "name": "add"}))
    return await call_next(ctx)


mcp = MCPServer(
    "around",
    extensions=[Loud()],
    middleware=[watch, rewrite],
    cache_hints={"tools/list": CacheHint(ttl_ms=5000, scope="public"), "resources/read": CacheHint(ttl_ms=1)},
)


@mcp.tool()
def add(a: int, b: int) -> int:
    return a + b


@mcp.tool()
def marked(fails: bool) -> str:
    if fails:
        raise ValueError("a secret")
    return "fine"


@mcp.tool()
def stopped() -> str:
    return "never"


@mcp.tool()
async def methods() -> list[str]:
    return [each for each in seen if each not in ("initialize", "server/discover", "notifications/initialized")]


@mcp.tool()
def short_lived() -> str:
    mcp.remove_tool("short_lived")
    return "gone"


def later() -> str:
    """Added later."""
    return "here"


@mcp.tool()
def grow() -> str:
    mcp.add_tool(later, name="later")
    return "grown"


TALK = [
    ("tools/list", {}),
    ("tools/call", {"name": "shout", "arguments": {"text": "a"}}),
    ("tools/call", {"name": "alias", "arguments": {"a": 1, "b": 2}}),
    ("tools/call", {"name": "stopped", "arguments": {}}),
    ("tools/call", {"name": "marked", "arguments": {"fails": False}}),
    ("tools/call", {"name": "marked", "arguments": {"fails": True}}),
    ("resources/read", {"uri": "loud://text"}),
    ("tools/call", {"name": "short_lived", "arguments": {}}),
    ("tools/call", {"name": "short_lived", "arguments": {}}),
    ("tools/call", {"name": "grow", "arguments": {}}),
    ("tools/call", {"name": "later", "arguments": {}}),
    ("tools/list", {}),
    ("tools/call", {"name": "methods", "arguments": {}}),
]
__all__ = ["require_client_extension"]
