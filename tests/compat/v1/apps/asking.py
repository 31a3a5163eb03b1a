"""What a handler of the first line does with its context and its session."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from mcp.server.fastmcp import Context, FastMCP
from mcp.types import Completion, PromptReference, SamplingMessage, TextContent
from pydantic import BaseModel, Field


@dataclass
class State:
    greeting: str


@asynccontextmanager
async def lifespan(server: FastMCP) -> AsyncIterator[State]:
    yield State(f"hello from {server.name}")


mcp = FastMCP("asking", lifespan=lifespan)


class Booking(BaseModel):
    day: str = Field(description="Which day")
    people: int = 2


@mcp.tool()
async def tells(ctx: Context) -> str:
    await ctx.debug("a debug message")
    await ctx.info("told", logger_name="shop")
    await ctx.warning("careful")
    await ctx.error("broken")
    await ctx.session.send_log_message(level="notice", data={"a": 1})
    return ctx.request_context.lifespan_context.greeting


@mcp.tool()
async def book(ctx: Context) -> str:
    found = await ctx.elicit(message="When?", schema=Booking)
    if found.action == "accept" and found.data:
        return f"{found.data.day} {found.data.people}"
    return found.action


@mcp.tool()
async def poem(topic: str, ctx: Context) -> str:
    asked = SamplingMessage(role="user", content=TextContent(type="text", text=f"A poem on {topic}"))
    found = await ctx.session.create_message(messages=[asked], max_tokens=100)
    return found.content.text if found.content.type == "text" else "no text"


@mcp.tool()
async def roots(ctx: Context) -> list[str]:
    return [str(each.uri) for each in (await ctx.session.list_roots()).roots]


@mcp.tool()
async def knows(ctx: Context) -> str:
    token = ctx.request_context.meta.progressToken if ctx.request_context.meta else None
    return f"{token} {ctx.client_id} {ctx.session.client_params.clientInfo.name}"


@mcp.prompt()
def greet(name: str, style: str = "short") -> str:
    return name


@mcp.completion()
async def complete(ref, argument, context):
    if isinstance(ref, PromptReference) and argument.name == "style":
        return Completion(values=[x for x in ("short", "shy") if x.startswith(argument.value)], hasMore=False)
    return None


ANSWERS = {
    "elicitation/create": {"action": "accept", "content": {"day": "Monday"}},
    "sampling/createMessage": {"role": "assistant", "content": {"type": "text", "text": "Roses"}, "model": "m1"},
    "roots/list": {"roots": [{"uri": "file:///a", "name": "a"}]},
}
STYLE = {"ref": {"type": "ref/prompt", "name": "greet"}, "argument": {"name": "style", "value": "sh"}}
NAME = {"ref": {"type": "ref/prompt", "name": "greet"}, "argument": {"name": "name", "value": "sh"}}
TALK = [
    ("tools/call", {"name": "tells", "arguments": {}}),
    ("tools/call", {"name": "book", "arguments": {}}),
    ("tools/call", {"name": "poem", "arguments": {"topic": "tea"}}),
    ("tools/call", {"name": "roots", "arguments": {}}),
    ("tools/call", {"name": "knows", "arguments": {}}),
    ("tools/call", {"name": "knows", "arguments": {}, "_meta": {"progressToken": 5, "client_id": "me"}}),
    ("completion/complete", STYLE),
    ("completion/complete", NAME),
]

if __name__ == "__main__":
    mcp.run()
