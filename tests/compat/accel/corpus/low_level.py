"""A low-level Server: handlers by hand, pages, sets of levels, notifications, methods of its own."""

# mypy: ignore-errors
from __future__ import annotations

import warnings

import mcp_types as types
from mcp.server.lowlevel import Server
from mcp.shared.exceptions import MCPDeprecationWarning, MCPError

seen: list[str] = []
NAMES = [f"tool{number}" for number in range(5)]


async def list_tools(ctx, params):
    start = int(params.cursor) if params and params.cursor else 0
    if start > len(NAMES):
        raise MCPError(code=types.INVALID_PARAMS, message="no such page")
    tools = [types.Tool(name=name, input_schema={"type": "object"}) for name in NAMES[start : start + 2]]
    more = str(start + 2) if start + 2 < len(NAMES) else None
    return types.ListToolsResult(tools=tools, next_cursor=more)


async def call_tool(ctx, params):
    if params.name == "seen":
        return types.CallToolResult(content=[types.TextContent(type="text", text=",".join(seen))])
    if params.name == "wrong":
        return {"content": "no list"}
    if params.name == "crash":
        raise ValueError("a secret")
    if params.name == "asks":
        found = await ctx.session.send_ping()
        return types.CallToolResult(content=[types.TextContent(type="text", text=type(found).__name__)])
    return types.CallToolResult(
        content=[types.TextContent(type="text", text=f"{params.name} {params.arguments}")],
        structured_content={"name": params.name},
    )


async def list_resources(ctx, params):
    return types.ListResourcesResult(resources=[types.Resource(uri="a://b", name="b", size=3)])


async def read_resource(ctx, params):
    return types.ReadResourceResult(
        contents=[
            types.TextResourceContents(uri=params.uri, text="t"),
            types.BlobResourceContents(uri="a://c", blob="AA=="),
        ]
    )


async def subscribe(ctx, params):
    seen.append(f"+{params.uri}")
    return types.EmptyResult()


async def unsubscribe(ctx, params):
    seen.append(f"-{params.uri}")
    return types.EmptyResult()


async def set_level(ctx, params):
    seen.append(params.level)
    return types.EmptyResult()


async def roots_changed(ctx, params):
    seen.append("roots")


with warnings.catch_warnings():
    warnings.simplefilter("ignore", MCPDeprecationWarning)
    app = Server(
        "low",
        version="2",
        instructions="by hand",
        on_list_tools=list_tools,
        on_call_tool=call_tool,
        on_list_resources=list_resources,
        on_read_resource=read_resource,
        on_subscribe_resource=subscribe,
        on_unsubscribe_resource=unsubscribe,
        on_set_logging_level=set_level,
        on_roots_list_changed=roots_changed,
    )


class Note(types.NotificationParams):
    text: str


async def noted(ctx, params):
    seen.append(params.text)


app.add_notification_handler("notifications/org.example/note", Note, noted)
REQUESTS = [
    ("tools/list", None),
    ("tools/list", {"cursor": "2"}),
    ("tools/list", {"cursor": "99"}),
    ("tools/call", {"name": "tool1", "arguments": {"a": 1}}),
    ("tools/call", {"name": "wrong"}),
    ("tools/call", {"name": "crash"}),
    ("tools/call", {"name": "asks"}),
    ("resources/list", None),
    ("resources/read", {"uri": "a://b"}),
    ("resources/subscribe", {"uri": "a://b"}),
    ("resources/unsubscribe", {"uri": "a://b"}),
    ("logging/setLevel", {"level": "warning"}),
    ("logging/setLevel", {"level": "loud"}),
    ("notifications/roots/list_changed", None),
    ("notifications/org.example/note", {"text": "noted"}),
    ("notifications/org.example/note", {}),
    ("notifications/unknown", {}),
    ("tools/call", {"name": "seen"}),
    ("prompts/list", None),
    ("server/discover", None),
]
PLAIN: set[str] = set()
KERNEL = set(NAMES)
