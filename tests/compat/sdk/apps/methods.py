"""Requests of an extension's own methods."""

from mcp.server.mcpserver import Extension, MCPServer, MethodBinding
from mcp.shared.exceptions import MCPError
from mcp_types import EmptyResult, RequestParams


class SearchParams(RequestParams):
    query: str
    limit: int = 3


async def search(ctx, params: SearchParams):
    if params.query == "none":
        raise MCPError(code=-32061, message="nothing")
    return {"found": [params.query] * params.limit, "lifespan": str(ctx.lifespan_context), "method": ctx.method}


async def touch(ctx, params: RequestParams):
    return EmptyResult()


class Search(Extension):
    identifier = "com.example/search"

    def methods(self):
        return [
            MethodBinding("com.example/search", SearchParams, search),
            MethodBinding("com.example/touch", RequestParams, touch, protocol_versions=frozenset({"2026-07-28"})),
        ]


mcp = MCPServer("methods", extensions=[Search()])
TALK = [
    ("com.example/search", {"query": "a"}),
    ("com.example/search", {"query": "b", "limit": 1}),
    ("com.example/search", {"query": "none"}),
    ("com.example/search", {"limit": 1}),
    ("com.example/touch", {}),
    ("tools/list", {}),
]
