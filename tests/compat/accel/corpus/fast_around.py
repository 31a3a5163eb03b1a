"""A FastMCP with middleware, transforms, mounted servers and masked errors."""

# mypy: ignore-errors
from __future__ import annotations

from fastmcp import FastMCP
from fastmcp.exceptions import ToolError
from fastmcp.server.middleware import Middleware
from fastmcp.server.transforms import Namespace

child = FastMCP("child")


@child.tool
async def inner(text: str) -> str:
    return text


@child.resource("in://{name}")
def within(name: str) -> str:
    return name


@child.prompt
def ask(what: str) -> str:
    return what


class Loud(Middleware):
    async def on_call_tool(self, context, call_next):
        if context.message.name == "forbidden":
            raise ToolError("by the middleware")
        return await call_next(context)

    async def on_list_tools(self, context, call_next):
        return [tool for tool in await call_next(context) if tool.name != "unlisted"]


app = FastMCP("around", version="1", middleware=[Loud()], mask_error_details=True, list_page_size=2)
app.mount(child, namespace="c")
app.add_transform(Namespace("x"))


@app.tool
async def outer(text: str) -> str:
    return text


@app.tool
async def unlisted(text: str) -> str:
    return text


@app.tool
async def broken(text: str) -> str:
    raise ValueError("a secret")


REQUESTS = [
    ("tools/list", None),
    ("tools/list", {"cursor": "nonsense"}),
    *[
        ("tools/call", {"name": name, "arguments": {"text": "t"}})
        for name in ("x_outer", "outer", "x_c_inner", "x_unlisted", "x_broken", "forbidden", "none")
    ],
    ("resources/templates/list", None),
    ("resources/read", {"uri": "in://x/c/name"}),
    ("prompts/list", None),
    ("prompts/get", {"name": "x_c_ask", "arguments": {"what": "w"}}),
    ("server/discover", None),
]
PLAIN: set[str] = set()
KERNEL = {"outer", "broken"}
