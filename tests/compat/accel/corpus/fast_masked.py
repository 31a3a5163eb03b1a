"""A FastMCP without anything in the way, whose errors are masked, whose input is strict, and which hides by tag."""

# mypy: ignore-errors
from __future__ import annotations

from fastmcp import FastMCP
from fastmcp.exceptions import ToolError
from fastmcp.server.middleware import Middleware


class ListOnly(Middleware):
    """Sees lists, not calls: it is in no call's way."""

    async def on_list_tools(self, context, call_next):
        return list(reversed(list(await call_next(context))))


app = FastMCP(
    "masked", version="1", mask_error_details=True, strict_input_validation=True, middleware=[ListOnly()], cache_ttl=9
)


@app.tool(tags={"public"})
async def add(a: int, b: float = 1.5) -> float:
    return a + b


@app.tool(tags={"private"})
async def secret(text: str) -> str:
    return text


@app.tool(tags={"public"})
async def broken(kind: str) -> str:
    if kind == "tool":
        raise ToolError("said")
    raise ValueError("a secret")


app.disable(tags={"private"})
REQUESTS = [
    ("tools/list", None),
    ("tools/call", {"name": "add", "arguments": {"a": 1}}),
    ("tools/call", {"name": "add", "arguments": {"a": "1"}}),
    ("tools/call", {"name": "add", "arguments": {"a": 1, "b": 2}}),
    ("tools/call", {"name": "secret", "arguments": {"text": "t"}}),
    ("tools/call", {"name": "broken", "arguments": {"kind": "tool"}}),
    ("tools/call", {"name": "broken", "arguments": {"kind": "value"}}),
    ("server/discover", None),
]
PLAIN = {"add", "broken"}
KERNEL = {"secret"}
