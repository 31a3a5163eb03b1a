"""What the constructor says: masks, strict arguments, pages, timeouts, versions, rules of a conversation."""

import asyncio
from typing import Any

from erlmcp.compat.fastmcp import Context, FastMCP
from erlmcp.compat.fastmcp.exceptions import ResourceError, ToolError

mcp = FastMCP(
    "strict",
    instructions="Be strict.",
    version="7",
    website_url="https://example.com",
    icons=[],
    mask_error_details=True,
    strict_input_validation=True,
    list_page_size=3,
    on_duplicate="replace",
    cache_ttl=5000,
    cache_scope="public",
)


@mcp.tool
def add(a: int, b: float = 1.0) -> float:
    return a + b


@mcp.tool(timeout=0.05)
async def slow() -> str:
    await asyncio.sleep(5)
    return "never"


@mcp.tool(timeout=5)
def quick() -> str:
    return "in time"


@mcp.tool
def replaced() -> str:
    return "first"


@mcp.tool(name="replaced")
def replacing() -> str:
    return "second"


@mcp.tool
def breaks() -> str:
    raise ValueError("the details")


@mcp.tool
def tells() -> str:
    raise ToolError("told so")


@mcp.resource("data://breaks")
def resource_breaks() -> str:
    raise ValueError("the details")


@mcp.resource("data://tells")
def resource_tells() -> str:
    raise ResourceError("told so")


@mcp.prompt
def prompt_breaks() -> str:
    raise ValueError("the details")


@mcp.tool(version="1.0")
def versioned() -> str:
    return "one"


@mcp.tool(name="versioned", version="2.0")
def versioned_again() -> str:
    return "two"


@mcp.tool(tags={"secret"})
def secret() -> str:
    return "secret"


@mcp.tool
async def unlock(ctx: Context) -> str:
    await ctx.enable_components(tags={"secret"})
    return "unlocked"


@mcp.tool
async def lock(ctx: Context) -> str:
    await ctx.reset_visibility()
    return "locked"


mcp.disable(tags={"secret"})


def call(name: str, meta: dict[str, Any] | None = None, **arguments: Any) -> tuple[str, dict[str, Any]]:
    return "tools/call", {"name": name, "arguments": arguments, **({} if meta is None else {"_meta": meta})}


REQUESTS = [
    ("server/discover", {}),
    ("tools/list", {}),
    call("add", a=1),
    call("add", a="1"),
    call("add", a=1, b=2),
    call("slow"),
    call("quick"),
    call("replaced"),
    call("breaks"),
    call("tells"),
    ("resources/read", {"uri": "data://breaks"}),
    ("resources/read", {"uri": "data://tells"}),
    ("prompts/get", {"name": "prompt_breaks"}),
    call("versioned"),
    call("versioned", {"fastmcp": {"version": "1.0"}}),
    call("versioned", {"fastmcp": {"version": "9"}}),
    call("secret"),
    call("unlock"),
    call("secret"),
    call("lock"),
    call("secret"),
]

if __name__ == "__main__":
    mcp.run(show_banner=False)
