"""Parameters that resolvers fill, with and without questions."""

from typing import Annotated

from mcp.server.mcpserver import (
    AcceptedElicitation,
    CancelledElicitation,
    Context,
    DeclinedElicitation,
    Elicit,
    ElicitationResult,
    ListRoots,
    MCPServer,
    Resolve,
    Sample,
)
from mcp_types import CreateMessageResult, ListRootsResult, SamplingMessage, TextContent
from pydantic import BaseModel

mcp = MCPServer("resolving")


class Login(BaseModel):
    name: str


class Confirm(BaseModel):
    sure: bool


class Stock(BaseModel):
    count: int


def login(city: str) -> Login | Elicit[Login]:
    return Login(name="known") if city == "home" else Elicit(f"Who are you in {city}?", Login)


async def confirm(ctx: Context, who: Annotated[Login, Resolve(login)]) -> Elicit[Confirm]:
    return Elicit(f"Are you sure, {who.name}?", Confirm)


def stock(item: str) -> Stock:
    return Stock(count=len(item))


def poem(city: str) -> Sample:
    asked = SamplingMessage(role="user", content=TextContent(type="text", text=f"A poem on {city}"))
    return Sample([asked], max_tokens=10)


def folders() -> ListRoots:
    return ListRoots()


@mcp.tool()
async def order(item: str, left: Annotated[Stock, Resolve(stock)]) -> str:
    """Order something."""
    return f"{item}: {left.count}"


@mcp.tool()
async def travel(city: str, who: Annotated[Login, Resolve(login)], sure: Annotated[Confirm, Resolve(confirm)]) -> str:
    return f"{who.name} to {city}: {sure.sure}"


@mcp.tool()
def outcome(city: str, who: Annotated[ElicitationResult[Login], Resolve(login)]) -> str:
    match who:
        case AcceptedElicitation(data=data):
            return f"accepted {data.name}"
        case DeclinedElicitation():
            return "declined"
        case CancelledElicitation():
            return "cancelled"


@mcp.tool()
def declined(city: str, who: Annotated[Login, Resolve(login)]) -> str:
    return who.name


@mcp.tool()
def written(
    city: str,
    text: Annotated[CreateMessageResult, Resolve(poem)],
    roots: Annotated[ListRootsResult, Resolve(folders)],
) -> str:
    return f"{text.content.text} {len(roots.roots)}"


def _fill(params):
    if "Nowhere" in params["message"]:
        return {"action": "decline"}
    if "Never" in params["message"]:
        return {"action": "cancel"}
    names = params["requestedSchema"]["properties"]
    return {"action": "accept", "content": {"name": "Ada"} if "name" in names else {"sure": True}}


ANSWERS = {
    "elicitation/create": _fill,
    "sampling/createMessage": {"role": "assistant", "content": {"type": "text", "text": "Roses"}, "model": "m1"},
    "roots/list": {"roots": [{"uri": "file:///a", "name": "a"}]},
}
TALK = [
    ("tools/list", {}),
    ("tools/call", {"name": "order", "arguments": {"item": "tea"}}),
    ("tools/call", {"name": "travel", "arguments": {"city": "home"}}),
    ("tools/call", {"name": "travel", "arguments": {"city": "Lund"}}),
    ("tools/call", {"name": "outcome", "arguments": {"city": "Lund"}}),
    ("tools/call", {"name": "outcome", "arguments": {"city": "Nowhere"}}),
    ("tools/call", {"name": "outcome", "arguments": {"city": "Never"}}),
    ("tools/call", {"name": "declined", "arguments": {"city": "Nowhere"}}),
    ("tools/call", {"name": "written", "arguments": {"city": "Lund"}}),
]
