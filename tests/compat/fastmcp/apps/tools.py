"""Tools: schemas, arguments, results and errors."""

import datetime as dt
import enum
import functools
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field
from typing_extensions import TypedDict

from erlmcp.compat.fastmcp import FastMCP
from erlmcp.compat.fastmcp.exceptions import ToolError
from erlmcp.compat.fastmcp.tools import Tool, ToolResult
from erlmcp.compat.fastmcp.tools import tool as marked
from erlmcp.compat.fastmcp.utilities.types import Audio, File, Image

mcp = FastMCP("tools", instructions="Ask for sums.", version="1.2")


class Person(TypedDict):
    name: str
    age: int


@dataclass
class Point:
    x: int
    y: float = 1.0
    tags: list[str] = field(default_factory=list)


class Order(BaseModel):
    """An order."""

    number: int
    items: list[str] = Field(default_factory=list, description="what was ordered")
    where: Point | None = None


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


@mcp.tool
def add(a: int, b: int = 2) -> int:
    """Add two numbers.

    Args:
        a: the first one
        b: the second one
    """
    return a + b


@mcp.tool("echo_text", tags={"b", "a"}, meta={"k": 1}, annotations={"readOnlyHint": True, "title": "Echo"})
async def echo(text: str) -> str:
    return text


@mcp.tool(name="shaped", description="By description.", title="Shaped")
def shape(point: Point, order: Order, letter: Literal["a", "b"] = "a", note: str | None = None) -> Point:
    return point


@mcp.tool()
def bounded(
    page: Annotated[int, Field(ge=1, le=10, description="from one to ten", title="The Page")],
    words: Annotated[str, "in plain text"],
    ratio: float = 0.5,
) -> Order:
    return Order(number=page, items=[words])


@mcp.tool
def coloured(colour: Colour, when: dt.date) -> dict[str, str]:
    return {"colour": colour.value, "when": when.isoformat()}


@mcp.tool
def numbers() -> list[int]:
    return [1, 2]


@mcp.tool
def people() -> list[Person]:
    return [{"name": "Ada", "age": 36}]


@mcp.tool
def person() -> Person:
    return {"name": "Ada", "age": 36}


@mcp.tool
def anything() -> dict[str, Any]:
    return {"a": [1, {"b": None}]}


@mcp.tool
def bare_list() -> list:
    return [{"a": 1}, "x", 3]


@mcp.tool
def without_types(x):
    return x


@mcp.tool
def nothing() -> None:
    return None


@mcp.tool
def perhaps(is_there: bool) -> str | None:
    return "here" if is_there else None


@mcp.tool
def half() -> float:
    return 0.5


@mcp.tool
def truth() -> bool:
    return True


@mcp.tool
def picture() -> Image:
    return Image(data=b"abc", format="png")


@mcp.tool
def sound() -> Audio:
    return Audio(data=b"abc", format="wav")


@mcp.tool
def paper() -> File:
    return File(data=b"abc", name="a", format="txt")


@mcp.tool
def mixed() -> list:
    return ["a", Image(data=b"abc", format="png"), {"k": 1}]


@mcp.tool
def raw_bytes() -> bytes:
    return b"abc"


@mcp.tool
def whole() -> ToolResult:
    return ToolResult(content="hello", structured_content={"a": 1}, meta={"m": 1})


@mcp.tool
def only_structured() -> ToolResult:
    return ToolResult(structured_content={"a": 1})


@mcp.tool
def said_no() -> ToolResult:
    return ToolResult(content="no", is_error=True)


@mcp.tool(output_schema=None)
def no_schema() -> dict[str, int]:
    return {"a": 1}


@mcp.tool(output_schema={"type": "object", "properties": {"a": {"type": "integer"}}})
def own_schema() -> dict:
    return {"a": 1}


@mcp.tool
def counted(count: int) -> Iterator[int]:
    yield from range(count)


@mcp.tool
async def counted_later(count: int) -> AsyncIterator[int]:
    for number in range(count):
        yield number


@mcp.tool
def breaks() -> str:
    raise ValueError("the details")


@mcp.tool
def tells() -> str:
    raise ToolError("told so")


@mcp.tool
def odd_name_() -> int:
    """Odd.

    Returns:
        A number.
    """
    return 1


class Adder:
    """Adds what it was made with."""

    def __init__(self, base: int) -> None:
        self.base = base

    def plus(self, other: int) -> int:
        """Plus another."""
        return self.base + other


@marked(name="marked_outside", tags={"m"})
def outside(x: int) -> int:
    return x


def scaled(factor: int, x: int) -> int:
    """Scale."""
    return factor * x


mcp.add_tool(Adder(10).plus)
mcp.add_tool(outside)
mcp.add_tool(Tool.from_function(lambda x: x, name="identity", description="Gives back."))
mcp.add_tool(Tool.from_function(functools.partial(scaled, 3), name="tripled"))


def call(name: str, /, **arguments: Any) -> tuple[str, dict[str, Any]]:
    return "tools/call", {"name": name, "arguments": arguments}


REQUESTS = [
    ("tools/list", {}),
    call("add", a=1),
    call("add", a="3", b=4),
    call("add", a=1.0),
    call("add", a=True),
    call("add", a="x"),
    call("add", a=None),
    call("add", a=1.5),
    call("add"),
    call("add", a=1, zz=1),
    ("tools/call", {"name": "add"}),
    call("echo_text", text="hé \U0001f600"),
    call("echo_text", text=5),
    call("shaped", point={"x": 1}, order={"number": 1}),
    call("shaped", point={"x": 1, "y": 2, "tags": ["t"]}, order={"number": 1, "where": {"x": 3}}, letter="b", note="n"),
    call("shaped", point={"x": "z"}, order={}),
    call("shaped", point={"x": 1}, order={"number": 1}, letter="c"),
    call("bounded", page=3, words="k"),
    call("bounded", page=30, words="k"),
    call("bounded", page=3, words="k", ratio=2),
    call("coloured", colour="red", when="2026-07-28"),
    call("coloured", colour="green", when="2026-07-28"),
    call("numbers"),
    call("people"),
    call("person"),
    call("anything"),
    call("bare_list"),
    call("without_types", x="s"),
    call("without_types", x=[1, "a"]),
    call("without_types", x={"k": 1}),
    call("without_types", x=3),
    call("without_types", x=None),
    call("nothing"),
    call("perhaps", is_there=True),
    call("perhaps", is_there=False),
    call("perhaps", is_there="yes"),
    call("half"),
    call("truth"),
    call("picture"),
    call("sound"),
    call("paper"),
    call("mixed"),
    call("raw_bytes"),
    call("whole"),
    call("only_structured"),
    call("said_no"),
    call("no_schema"),
    call("own_schema"),
    call("counted", count=3),
    call("counted_later", count=3),
    call("breaks"),
    call("tells"),
    call("odd_name_"),
    call("plus", other=5),
    call("marked_outside", x=2),
    call("identity", x=[1]),
    call("tripled", x=4),
    call("absent"),
]

if __name__ == "__main__":
    mcp.run(show_banner=False)
