"""Questions in the middle of a call, in the eras that have them."""

from mcp.server.mcpserver import Context, MCPServer
from mcp_types import SamplingMessage, TextContent
from pydantic import BaseModel, Field

ERAS = ["2025-11-25"]  # In the newer one the SDK has no such questions.


class Booking(BaseModel):
    """A booking."""

    day: str = Field(description="Which day")
    people: int = Field(default=2, ge=1)
    quiet: bool = False
    note: str | None = None


mcp = MCPServer("questions")


@mcp.tool()
async def book(ctx: Context) -> str:
    found = await ctx.elicit("When?", Booking)
    if found.action == "accept":
        return f"{found.data.day} {found.data.people} {found.data.note}"
    return found.action


@mcp.tool()
async def pay(ctx: Context) -> str:
    found = await ctx.elicit_url("Pay", "https://example.com/pay", "e-1")
    await ctx.session.send_elicit_complete("e-1")
    return found.action


@mcp.tool()
async def sample(ctx: Context) -> str:
    asked = SamplingMessage(role="user", content=TextContent(type="text", text="Capital of France?"))
    found = await ctx.session.create_message([asked], max_tokens=50, temperature=0.5, system_prompt="Be short")
    return f"{found.model}: {found.content.text}"


@mcp.tool()
async def roots(ctx: Context) -> list[str]:
    return [str(each.uri) for each in (await ctx.session.list_roots()).roots]


@mcp.tool()
async def low_form(ctx: Context) -> str:
    schema = {"type": "object", "properties": {"x": {"type": "integer"}}}
    found = await ctx.session.elicit_form("x?", schema)
    return f"{found.action} {found.content}"


@mcp.tool()
async def refused(ctx: Context) -> str:
    class Deep(BaseModel):
        inner: Booking

    try:
        await ctx.elicit("?", Deep)
    except TypeError:
        return "refused"
    return "not refused"


def _fill(params):
    if params.get("mode") == "url":
        return {"action": "decline"}
    content = {"x": 1} if "x" in params["requestedSchema"]["properties"] else {"day": "Monday", "people": 3}
    return {"action": "accept", "content": content}


ANSWERS = {
    "elicitation/create": _fill,
    "sampling/createMessage": {"role": "assistant", "content": {"type": "text", "text": "Paris"}, "model": "m1"},
    "roots/list": {"roots": [{"uri": "file:///a", "name": "a"}]},
}
TALK = [
    ("tools/call", {"name": name, "arguments": {}})
    for name in ("book", "pay", "sample", "roots", "low_form", "refused")
]
