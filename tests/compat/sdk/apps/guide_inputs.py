"""The pages on inputs: models within models, descriptions, and what each part of a form may be."""

from typing import Annotated

from mcp.server.mcpserver import MCPServer
from pydantic import BaseModel, Field, field_validator

mcp = MCPServer("Shrimp Tank")


class ShrimpTank(BaseModel):
    class Shrimp(BaseModel):
        name: Annotated[str, Field(max_length=10)]

    shrimp: list[Shrimp]


class Reservation(BaseModel):
    guests: int = Field(gt=0, description="How many come")
    at: str

    @field_validator("at")
    @classmethod
    def only_hours(cls, value: str) -> str:
        if not value.endswith(":00"):
            raise ValueError("only full hours")
        return value


@mcp.tool()
def name_shrimp(
    tank: ShrimpTank,
    # The pydantic constraint is on the items as well.
    extra_names: Annotated[list[str], Field(max_length=10)],
) -> list[str]:
    """List all shrimp names in the tank"""
    return [shrimp.name for shrimp in tank.shrimp] + extra_names


@mcp.tool()
def greet_user(
    name: str = Field(description="The name of the person to greet"),
    title: str = Field(description="Optional title like Mr/Ms/Dr", default=""),
    times: int = Field(description="Number of times to repeat the greeting", default=1),
) -> str:
    """Greet a user with optional title and repetition"""
    greeting = f"Hello {title + ' ' if title else ''}{name}!"
    return "\n".join([greeting] * times)


@mcp.tool()
def reserve(reservation: Reservation) -> str:
    return f"{reservation.guests} at {reservation.at}"


@mcp.tool(description="🌟 A tool that uses various Unicode characters in its description: á é í ó ú ñ 漢字 🎉")
def hello_unicode(name: str = "世界", greeting: str = "¡Hola") -> str:
    return f"{greeting}, {name}! 👋"


TALK = [
    ("tools/list", {}),
    (
        "tools/call",
        {
            "name": "name_shrimp",
            "arguments": {"tank": {"shrimp": [{"name": "bob"}, {"name": "alice"}]}, "extra_names": ["charlie"]},
        },
    ),
    ("tools/call", {"name": "name_shrimp", "arguments": {"tank": {"shrimp": [{"name": "x" * 11}]}, "extra_names": []}}),
    ("tools/call", {"name": "greet_user", "arguments": {"name": "Ada", "title": "Dr", "times": 2}}),
    ("tools/call", {"name": "greet_user", "arguments": {}}),
    ("tools/call", {"name": "reserve", "arguments": {"reservation": {"guests": 2, "at": "18:00"}}}),
    ("tools/call", {"name": "reserve", "arguments": {"reservation": {"guests": 2, "at": "18:30"}}}),
    ("tools/call", {"name": "reserve", "arguments": {"reservation": {"guests": 0, "at": "18:00"}}}),
    ("tools/call", {"name": "hello_unicode", "arguments": {}}),
]
