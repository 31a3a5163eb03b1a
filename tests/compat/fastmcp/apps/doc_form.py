"""As the documents ask the user: a booking in several questions, and one that is called off."""

from dataclasses import dataclass
from typing import Any, Literal

from erlmcp.compat.fastmcp import Context, FastMCP

mcp = FastMCP("Form", version="1")


@dataclass
class Booking:
    name: str
    guests: int
    window: bool = False


@mcp.tool
async def book(ctx: Context) -> str:
    """Book a table."""
    day = await ctx.elicit("Which day?", response_type=Literal["monday", "friday"])
    if day.action != "accept":
        return "no day, no table"
    details = await ctx.elicit("For whom?", response_type=Booking)
    match details.action:
        case "accept":
            booked = details.data
            seat = " at the window" if booked.window else ""
            return f"{booked.name}, {booked.guests} on {day.data}{seat}"
        case "decline":
            return "no name, no table"
        case _:
            return "called off"


def call(answer: dict[str, Any]) -> tuple[str, dict[str, Any], dict[str, Any]]:
    return "tools/call", {"name": "book", "arguments": {}}, answer


ERAS = ("legacy",)
CAPABILITIES = {"elicitation": {}}
REQUESTS = [
    call({"action": "decline"}),
    call({"action": "accept", "content": {"value": "friday", "name": "Ada", "guests": 2, "window": True}}),
    call({"action": "cancel"}),
]

if __name__ == "__main__":
    mcp.run(show_banner=False)
