"""An MCPServer with middleware of its own, an extension with a method and an interceptor, and cache hints."""

# mypy: ignore-errors
from __future__ import annotations

from dataclasses import replace

from mcp.server.caching import CacheHint
from mcp.server.extension import Extension, MethodBinding
from mcp.server.mcpserver import MCPServer
from mcp.shared.exceptions import MCPError
from mcp_types import CallToolResult, RequestParams, TextContent


class EchoParams(RequestParams):
    text: str


class Echo(Extension):
    identifier = "org.example/echo"

    def settings(self):
        return {"loud": True}

    def methods(self):
        async def echo(ctx, params):
            return {"text": params.text, "by": ctx.method}

        return [MethodBinding(method="org.example/echo", params_type=EchoParams, handler=echo)]

    async def intercept_tool_call(self, params, ctx, call_next):
        if params.name == "blocked":
            return CallToolResult(content=[TextContent(type="text", text="intercepted")])
        return await call_next(ctx)


async def counts(ctx, call_next):
    """Refuses a name, rewrites an argument, and lets the rest through."""
    params = ctx.params or {}
    if params.get("name") == "forbidden":
        raise MCPError(code=-32099, message="forbidden here")
    if params.get("name") == "rewritten":
        ctx = replace(ctx, params={**params, "arguments": {"text": "by the middleware"}})
    return await call_next(ctx)


app = MCPServer(
    "around",
    version="1",
    middleware=[counts],
    extensions=[Echo()],
    cache_hints={"tools/list": CacheHint(ttl_ms=5000, scope="public"), "resources/read": CacheHint(ttl_ms=7)},
    log_level="ERROR",
)


@app.tool()
async def rewritten(text: str) -> str:
    return text


@app.tool()
async def blocked(text: str) -> str:
    return text


@app.tool()
async def forbidden(text: str) -> str:
    return text


@app.resource("a://b")
def read() -> str:
    return "r"


REQUESTS = [
    ("tools/list", None),
    *[("tools/call", {"name": name, "arguments": {"text": "t"}}) for name in ("rewritten", "blocked", "forbidden")],
    ("org.example/echo", {"text": "hello"}),
    ("org.example/echo", {}),
    ("resources/read", {"uri": "a://b"}),
    ("server/discover", None),
]
PLAIN: set[str] = set()
KERNEL = {"rewritten", "blocked", "forbidden"}
