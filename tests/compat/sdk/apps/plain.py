"""Arguments and results of plain tools."""

import dataclasses
import datetime
import enum
from typing import Annotated, Any, Literal

from mcp.server.mcpserver import MCPServer
from pydantic import BaseModel, Field
from typing_extensions import TypedDict

mcp = MCPServer("plain", instructions="Try them.", version="1.2")


class Color(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Point(BaseModel):
    """Where it is."""

    x: int
    y: float = 0.5
    label: str | None = None


class Shape(TypedDict):
    name: str
    corners: list[Point]


@dataclasses.dataclass
class Box:
    width: int
    height: int = 3
    tags: list[str] = dataclasses.field(default_factory=list)


class Loose:
    size: int
    note: str | None

    def __init__(self, size: int, note: str | None = None) -> None:
        self.size = size
        self.note = note
        self.hidden = "no"

    def __str__(self) -> str:
        return f"size {self.size}"


@mcp.tool()
def add(a: int, b: int = 2) -> int:
    """Add two numbers.

    Args:
        a: the first
    """
    return a + b


@mcp.tool(title="Half", description="Half of it", structured_output=True)
async def half(value: float) -> float:
    return value / 2


@mcp.tool()
def join(words: list[str], separator: str = ", ", upper: bool = False) -> str:
    text = separator.join(words)
    return text.upper() if upper else text


@mcp.tool()
def flags(on: bool, level: Literal["low", "high"] = "low", color: Color = Color.RED) -> list[str]:
    """Flags."""
    return [str(on), level, color.value]


@mcp.tool()
def described(
    city: Annotated[str, Field(description="A town", min_length=2)],
    days: Annotated[int, Field(ge=1, le=7)] = 3,
    unit: str = Field(default="C", description="The unit"),
) -> dict[str, Any]:
    return {"city": city, "days": days, "unit": unit}


@mcp.tool()
def counts(text: str) -> dict[str, int]:
    return {letter: text.count(letter) for letter in sorted(set(text))}


@mcp.tool()
def by_number() -> dict[int, str]:
    return {1: "one", 2: "two"}


@mcp.tool()
def move(point: Point, by: Point | None = None) -> Point:
    """Move a point."""
    return Point(x=point.x + (by.x if by else 1), y=point.y)


@mcp.tool()
def shape(name: str) -> Shape:
    return {"name": name, "corners": [Point(x=1)]}


@mcp.tool()
def box(width: int) -> Box:
    return Box(width)


@mcp.tool()
def loose(size: int) -> Loose:
    return Loose(size)


@mcp.tool()
def points(count: int) -> list[Point]:
    return [Point(x=each) for each in range(count)]


@mcp.tool()
def pair() -> tuple[int, str]:
    return 1, "two"


@mcp.tool()
def maybe(yes: bool) -> str | None:
    return "yes" if yes else None


@mcp.tool()
def either(number: bool) -> int | str:
    return 1 if number else "one"


@mcp.tool()
def nothing() -> None:
    """Nothing comes back."""


@mcp.tool()
def anything(value: Any) -> Any:
    return value


@mcp.tool()
def untyped(value, other=3):
    return {"value": value, "other": other}


@mcp.tool(structured_output=False)
def as_text(value: int) -> dict[str, int]:
    return {"value": value}


@mcp.tool()
def when(day: datetime.date, at: datetime.datetime | None = None) -> str:
    return f"{day.isoformat()} {at.isoformat() if at else '-'}"


@mcp.tool()
def nested(rows: list[dict[str, list[int]]], extra: dict[str, Point] | None = None) -> int:
    return sum(sum(values) for row in rows for values in row.values()) + len(extra or {})


@mcp.tool()
def umlauts() -> dict[str, str]:
    return {"größe": 'ä\n"ö"', "emoji": "🎈"}


@mcp.tool()
def loosely_none(name: str = None, count: int = None) -> str:  # noqa: RUF013
    return f"{name} {count}"


TALK = [
    ("tools/list", {}),
    ("tools/call", {"name": "add", "arguments": {"a": 1}}),
    ("tools/call", {"name": "add", "arguments": {"a": "4", "b": 5.0}}),
    ("tools/call", {"name": "half", "arguments": {"value": 3}}),
    ("tools/call", {"name": "half", "arguments": {"value": 4}}),
    ("tools/call", {"name": "join", "arguments": {"words": ["a", "b"]}}),
    ("tools/call", {"name": "join", "arguments": {"words": '["a", "b"]', "upper": "true"}}),
    ("tools/call", {"name": "flags", "arguments": {"on": True}}),
    ("tools/call", {"name": "flags", "arguments": {"on": False, "level": "high", "color": "blue"}}),
    ("tools/call", {"name": "described", "arguments": {"city": "Lund"}}),
    ("tools/call", {"name": "counts", "arguments": {"text": "hello"}}),
    ("tools/call", {"name": "by_number"}),
    ("tools/call", {"name": "move", "arguments": {"point": {"x": 1}}}),
    ("tools/call", {"name": "move", "arguments": {"point": '{"x": 1, "y": 2}', "by": {"x": 4}}}),
    ("tools/call", {"name": "shape", "arguments": {"name": "dot"}}),
    ("tools/call", {"name": "box", "arguments": {"width": 4}}),
    ("tools/call", {"name": "loose", "arguments": {"size": 4}}),
    ("tools/call", {"name": "points", "arguments": {"count": 2}}),
    ("tools/call", {"name": "points", "arguments": {"count": 0}}),
    ("tools/call", {"name": "pair", "arguments": {}}),
    ("tools/call", {"name": "maybe", "arguments": {"yes": True}}),
    ("tools/call", {"name": "maybe", "arguments": {"yes": False}}),
    ("tools/call", {"name": "either", "arguments": {"number": True}}),
    ("tools/call", {"name": "either", "arguments": {"number": False}}),
    ("tools/call", {"name": "nothing"}),
    ("tools/call", {"name": "anything", "arguments": {"value": [1, {"a": None}]}}),
    ("tools/call", {"name": "anything", "arguments": {"value": "text"}}),
    ("tools/call", {"name": "untyped", "arguments": {"value": "x"}}),
    ("tools/call", {"name": "as_text", "arguments": {"value": 1}}),
    ("tools/call", {"name": "when", "arguments": {"day": "2026-01-02"}}),
    ("tools/call", {"name": "when", "arguments": {"day": "2026-01-02", "at": "2026-01-02T03:04:05"}}),
    ("tools/call", {"name": "nested", "arguments": {"rows": [{"a": [1, 2]}], "extra": {"p": {"x": 1}}}}),
    ("tools/call", {"name": "umlauts"}),
    ("tools/call", {"name": "loosely_none", "arguments": {"name": "n"}}),
]
