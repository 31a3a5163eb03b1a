"""Questions to the client, of the handshake revisions."""

import enum
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel, Field

from erlmcp.compat.fastmcp import Context, FastMCP
from erlmcp.compat.fastmcp.server.elicitation import (
    AcceptedElicitation,
    CancelledElicitation,
    DeclinedElicitation,
)

mcp = FastMCP("asking", version="1")


@dataclass
class Person:
    name: str
    age: int


class Trip(BaseModel):
    city: str = Field(description="where to")
    nights: int = 2


class Size(enum.Enum):
    SMALL = "small"
    LARGE = "large"


def shown(found: Any) -> str:
    if isinstance(found, AcceptedElicitation):
        return f"accepted {found.data!r}"
    if isinstance(found, DeclinedElicitation):
        return "declined"
    return "cancelled" if isinstance(found, CancelledElicitation) else "?"


@mcp.tool
async def ask_name(ctx: Context) -> str:
    return shown(await ctx.elicit("your name?", response_type=str))


@mcp.tool
async def ask_person(ctx: Context) -> str:
    return shown(await ctx.elicit("who?", response_type=Person))


@mcp.tool
async def ask_trip(ctx: Context) -> str:
    return shown(await ctx.elicit("where?", response_type=Trip))


@mcp.tool
async def ask_choice(ctx: Context) -> str:
    return shown(await ctx.elicit("which?", response_type=["red", "blue"]))


@mcp.tool
async def ask_literal(ctx: Context) -> str:
    return shown(await ctx.elicit("which?", response_type=Literal["a", "b"]))


@mcp.tool
async def ask_titled(ctx: Context) -> str:
    return shown(await ctx.elicit("how?", response_type={"low": {"title": "Low"}, "high": {"title": "High"}}))


@mcp.tool
async def ask_several(ctx: Context) -> str:
    return shown(await ctx.elicit("which?", response_type=[["red", "blue"]]))


@mcp.tool
async def ask_sure(ctx: Context) -> str:
    return shown(await ctx.elicit("sure?", response_type=bool, response_title="Sure", response_description="yes or no"))


@mcp.tool
async def ask_enum(ctx: Context) -> str:
    return shown(await ctx.elicit("size?", response_type=Size))


def call(name: str, answer: dict[str, Any]) -> tuple[str, dict[str, Any], dict[str, Any]]:
    return "tools/call", {"name": name, "arguments": {}}, answer


def accept(**content: Any) -> dict[str, Any]:
    return {"action": "accept", "content": content}


ERAS = ("legacy",)
CAPABILITIES = {"elicitation": {}}
REQUESTS = [
    call("ask_name", accept(value="Ada")),
    call("ask_name", {"action": "decline"}),
    call("ask_name", {"action": "cancel"}),
    call("ask_person", accept(name="Ada", age=36)),
    call("ask_trip", accept(city="Oslo")),
    call("ask_choice", accept(value="red")),
    call("ask_literal", accept(value="b")),
    call("ask_titled", accept(value="high")),
    call("ask_several", accept(value=["red"])),
    call("ask_sure", accept(value=True)),
    call("ask_enum", accept(value="small")),
]

if __name__ == "__main__":
    mcp.run(show_banner=False)
