"""Tools, resources and prompts of the first line."""

import dataclasses
from typing import Annotated, Any, Literal

from mcp.server.fastmcp import Context, FastMCP, Image
from mcp.server.fastmcp.prompts import base
from mcp.types import CallToolResult, TextContent, ToolAnnotations
from pydantic import BaseModel, Field
from typing_extensions import TypedDict

mcp = FastMCP("plain", instructions="Try them.")


class Point(BaseModel):
    """Where it is."""

    x: int
    y: float = 0.5


class Shape(TypedDict):
    name: str
    corners: int


@dataclasses.dataclass
class Box:
    width: int
    height: int = 3


@mcp.tool()
def add(a: int, b: int = 2) -> int:
    """Add two numbers."""
    return a + b


@mcp.tool(title="Joined", annotations=ToolAnnotations(readOnlyHint=True))
def join(words: list[str], separator: str = ", ") -> str:
    return separator.join(words)


@mcp.tool()
def described(city: Annotated[str, Field(description="A town", min_length=2)], unit: Literal["C", "F"] = "C") -> str:
    return f"{city} {unit}"


@mcp.tool()
async def move(point: Point) -> Point:
    return Point(x=point.x + 1, y=point.y)


@mcp.tool()
def shape(name: str) -> Shape:
    return {"name": name, "corners": 3}


@mcp.tool()
def box(width: int) -> Box:
    return Box(width)


@mcp.tool()
def counts(text: str) -> dict[str, int]:
    return {letter: text.count(letter) for letter in sorted(set(text))}


@mcp.tool()
def listed(count: int) -> list[int]:
    return list(range(count))


@mcp.tool()
def maybe(yes: bool) -> str | None:
    return "yes" if yes else None


@mcp.tool()
def untyped(value, other=3):
    return {"value": value, "other": other}


@mcp.tool(structured_output=False)
def as_text(value: int) -> dict[str, int]:
    return {"value": value}


@mcp.tool()
def picture() -> Image:
    return Image(data=b"png", format="png")


@mcp.tool()
def mixed() -> list[Any]:
    return ["text", {"a": 1}]


@mcp.tool()
def whole() -> CallToolResult:
    return CallToolResult(content=[TextContent(type="text", text="text")], structuredContent={"a": 1}, isError=False)


@mcp.tool()
def crash() -> str:
    raise ValueError("the reason")


@mcp.tool()
async def context(ctx: Context) -> str:
    await ctx.report_progress(1, 2)
    return f"{ctx.fastmcp.name} {bool(ctx.request_id)} {ctx.request_context.lifespan_context}"


@mcp.tool()
async def reads(ctx: Context) -> str:
    return "".join(str(each.content) for each in await ctx.read_resource("config://app"))


@mcp.resource("config://app", mime_type="application/json")
def config() -> str:
    """The configuration."""
    return '{"theme": "dark"}'


@mcp.resource("users://{user_id}/profile")
def profile(user_id: str) -> str:
    """A profile."""
    return f"profile of {user_id}"


@mcp.resource("data://dict")
def as_dict() -> dict[str, int]:
    return {"a": 1}


@mcp.resource("data://broken")
def broken() -> str:
    raise ValueError("the reason")


@mcp.prompt(title="Review")
def review(code: str) -> str:
    """Review code."""
    return f"Review:\n{code}"


@mcp.prompt()
def debug(error: str) -> list[base.Message]:
    return [base.UserMessage("I see:"), base.UserMessage(error), base.AssistantMessage("Tell me more.")]


@mcp.prompt()
def broken_prompt() -> str:
    raise ValueError("the reason")


CALLS = {
    "add": [{"a": 1}, {"a": "2", "b": 3}, {"a": "x"}, {}],
    "join": [{"words": ["a", "b"]}, {"words": '["a"]'}],
    "described": [{"city": "Lund"}, {"city": "L"}],
    "move": [{"point": {"x": 1}}],
    "shape": [{"name": "dot"}],
    "box": [{"width": 1}],
    "counts": [{"text": "hello"}],
    "listed": [{"count": 2}, {"count": 0}],
    "maybe": [{"yes": True}, {"yes": False}],
    "untyped": [{"value": 1}],
    "as_text": [{"value": 1}],
    "picture": [{}],
    "mixed": [{}],
    "whole": [{}],
    "crash": [{}],
    "context": [{}],
    "reads": [{}],
    "absent": [{}],
}
TALK = [
    ("tools/list", {}),
    ("resources/list", {}),
    ("resources/templates/list", {}),
    ("prompts/list", {}),
    *[("tools/call", {"name": name, "arguments": each}) for name, all_of in CALLS.items() for each in all_of],
    ("tools/call", {"name": "context", "arguments": {}, "_meta": {"progressToken": "p"}}),
    *[
        ("resources/read", {"uri": uri})
        for uri in ("config://app", "users://7/profile", "data://dict", "data://broken", "data://absent")
    ],
    ("prompts/get", {"name": "review", "arguments": {"code": "x"}}),
    ("prompts/get", {"name": "debug", "arguments": {"error": "x"}}),
    ("prompts/get", {"name": "broken_prompt"}),
    ("prompts/get", {"name": "review"}),
    ("prompts/get", {"name": "absent"}),
]

if __name__ == "__main__":
    mcp.run()
