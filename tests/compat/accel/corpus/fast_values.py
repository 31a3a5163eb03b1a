"""Tools of a FastMCP: every kind of argument and of result that its documents name."""

# mypy: ignore-errors
from __future__ import annotations

import datetime
import enum
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from fastmcp import FastMCP
from fastmcp.exceptions import ToolError, ValidationError
from fastmcp.tools import Tool
from fastmcp.tools.base import ToolResult
from fastmcp.utilities.types import Audio, File, Image
from mcp.shared.exceptions import MCPError
from mcp_types import CallToolResult, Icon, TextContent, ToolAnnotations
from pydantic import BaseModel, Field
from typing_extensions import TypedDict

app = FastMCP(
    "values",
    version="3.1",
    instructions="Try each.",
    website_url="https://example.org/values",
    icons=[Icon(src="https://example.org/i.png", mime_type="image/png")],
)


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Point(BaseModel):
    x: int
    y: float = 0.5
    label: str | None = None


class Weather(TypedDict):
    city: str
    degrees: float


@dataclass
class Box:
    width: int
    tags: list[str]


@app.tool
async def add(a: int, b: int = 2) -> int:
    """Add two numbers."""
    return a + b


@app.tool()
def shout(text: str, times: int = 1, loud: bool = True) -> str:
    """Say it loudly."""
    return " ".join([text.upper() if loud else text] * times)


@app.tool("halved")
async def half(value: float) -> float:
    return value / 2


@app.tool
async def flip(flag: bool) -> bool:
    return not flag


@app.tool
async def nothing() -> None:
    """Give nothing."""


@app.tool
async def untyped(value):
    return value


@app.tool
async def anything(value: Any = None) -> Any:
    return value


@app.tool(output_schema=None)
async def as_text(count: int) -> dict[str, int]:
    return {"count": count}


@app.tool(output_schema={"type": "object", "properties": {"n": {"type": "integer"}}})
async def own_schema(n: int) -> dict:
    return {"n": n}


@app.tool
async def names(names: list[str]) -> list[str]:
    return sorted(names)


@app.tool
async def pick(colour: Colour, size: Literal["s", "m"] = "s") -> Colour:
    return colour


@app.tool
async def move(point: Point, by: int = 1) -> Point:
    return Point(x=point.x + by, y=point.y, label=point.label)


@app.tool
async def between(value: Annotated[int, Field(ge=1, le=10, description="one to ten")]) -> int:
    return value


@app.tool
async def described(value: Annotated[str, "what it is"] = "d") -> str:
    return value


@app.tool
async def maybe(value: int | None = None, text: str | None = None) -> str:
    return f"{value!r} {text!r}"


@app.tool
async def weather(city: str) -> Weather:
    return {"city": city, "degrees": 21.5}


@app.tool
def box(width: int) -> Box:
    return Box(width, ["a", "b"])


@app.tool
async def scores() -> dict[str, int]:
    return {"ann": 3, "bob": 4}


@app.tool
async def when(at: datetime.datetime) -> datetime.datetime:
    return at + datetime.timedelta(days=1)


@app.tool
async def raw(size: int) -> bytes:
    return b"x" * size


@app.tool
async def odd_float(which: str) -> float:
    return {"nan": float("nan"), "inf": float("inf"), "tiny": 1e-7, "huge": 1e22, "one": 1.0}[which]


@app.tool
async def liar(what: str) -> int:
    return {"text": "not a number", "digits": "12", "none": None, "big": 1 << 70, "yes": True}[what]


@app.tool
async def text_liar(what: str) -> str:
    return {"number": 3, "none": None, "list": ["a"]}[what]


@app.tool
async def picture() -> Image:
    return Image(data=b"\x89PNG", format="png")


@app.tool
async def sound() -> Audio:
    return Audio(data=b"RIFF", format="wav")


@app.tool
async def paper() -> File:
    return File(data=b"%PDF", format="pdf", name="paper")


@app.tool
async def several() -> list[Any]:
    return ["one", 2, {"three": 3}, None, [4.5], TextContent(type="text", text="block")]


@app.tool
async def whole() -> ToolResult:
    return ToolResult(content="seen", structured_content={"k": 1}, meta={"m": 2})


@app.tool
async def refused_whole() -> ToolResult:
    return ToolResult(content="no", is_error=True)


@app.tool
async def protocol_whole() -> CallToolResult:
    return CallToolResult(content=[TextContent(type="text", text="w")], structured_content={"k": 1}, _meta={"m": 2})


@app.tool
async def fail(how: str) -> str:
    """Fail in each way."""
    if how == "tool":
        raise ToolError("not today")
    if how == "protocol":
        raise MCPError(code=-32050, message="a protocol error", data={"why": how})
    if how == "capability":
        raise MCPError(code=-32021, message="needs sampling", data={"requiredCapabilities": {"sampling": {}}})
    if how == "value":
        raise ValueError("what is wrong")
    if how == "timeout":
        raise TimeoutError("too long")
    if how == "validation":
        raise ValidationError("not valid")
    if how == "model":
        Point(x="no")
    raise KeyError(how)


@app.tool
def fail_in_thread(how: str) -> str:
    if how == "tool":
        raise ToolError("not in a thread")
    if how == "model":
        Point(x="no")
    raise RuntimeError(how)


@app.tool(run_in_thread=False)
def inline(text: str) -> str:
    return text


@app.tool(timeout=5)
async def hasty(text: str) -> str:
    return text


@app.tool
async def stream(count: int):
    for number in range(count):
        yield number


@app.tool
def generated(count: int):
    yield from range(count)


@app.tool(
    name="named.tool-1",
    title="A title",
    description="A description",
    tags={"b", "a"},
    annotations=ToolAnnotations(title="Annotated", read_only_hint=True),
    icons=[Icon(src="https://example.org/t.svg")],
    meta={"example.org/key": [1, 2]},
)
async def named(schema: str, model_dump: int = 3) -> str:
    return f"{schema} {model_dump}"


@app.tool(version="2")
async def versioned(text: str) -> str:
    return text


@app.tool
async def many(*, first: int, second: str = "s") -> str:
    return f"{first}{second}"


@app.tool
async def shapes(items: list, table: dict) -> str:
    return f"{items}{table}"


class Bench:
    def __init__(self, name: str) -> None:
        self.name = name

    async def method(self, text: str) -> str:
        """A method."""
        return self.name + text


app.tool(Bench("m").method)
app.add_tool(Tool.from_function(lambda text: text, name="lambda"))

CALLS = [
    ("add", {"a": 1}),
    ("add", {"a": 1, "b": 5}),
    ("add", {"a": "7"}),
    ("add", {"a": 1.0}),
    ("add", {"a": 1.5}),
    ("add", {"a": True}),
    ("add", {"a": None}),
    ("add", {}),
    ("add", None),
    ("add", {"a": 1, "more": 2}),
    ("add", {"a": 1 << 70}),
    ("shout", {"text": "hi"}),
    ("shout", {"text": "hi", "times": 2, "loud": False}),
    ("shout", {"text": 3}),
    ("shout", {"text": 'ü \u2028 \U0001f600 "q" \\ \n \x00'}),
    ("shout", {"text": "x", "more": 1}),
    ("halved", {"value": 3.0}),
    ("halved", {"value": 3}),
    ("halved", {"value": 1e-7}),
    ("flip", {"flag": True}),
    ("flip", {"flag": "false"}),
    ("nothing", {}),
    ("untyped", {"value": "text"}),
    ("untyped", {"value": [1, {"b": None}]}),
    ("untyped", {"value": {"a": 1}}),
    ("untyped", {}),
    ("anything", {"value": {"deep": [1.5]}}),
    ("anything", {"value": 7}),
    ("anything", {"value": "seven"}),
    ("anything", {}),
    ("as_text", {"count": 2}),
    ("own_schema", {"n": 2}),
    ("names", {"names": ["b", "a"]}),
    ("names", {"names": "no list"}),
    ("pick", {"colour": "red"}),
    ("pick", {"colour": "green"}),
    ("move", {"point": {"x": 1}}),
    ("move", {"point": {"y": 1}}),
    ("between", {"value": 3}),
    ("between", {"value": 30}),
    ("described", {}),
    ("described", {"value": "v"}),
    ("maybe", {}),
    ("maybe", {"value": 3, "text": "t"}),
    ("maybe", {"value": None, "text": "null"}),
    ("weather", {"city": "Lund"}),
    ("box", {"width": 3}),
    ("scores", {}),
    ("when", {"at": "2026-01-31T10:00:00Z"}),
    ("raw", {"size": 3}),
    *[("odd_float", {"which": which}) for which in ("nan", "inf", "tiny", "huge", "one", "else")],
    *[("liar", {"what": what}) for what in ("text", "digits", "none", "big", "yes")],
    *[("text_liar", {"what": what}) for what in ("number", "none", "list")],
    *[(name, {}) for name in ("picture", "sound", "paper", "several", "whole", "refused_whole", "protocol_whole")],
    *[
        ("fail", {"how": how})
        for how in ("tool", "protocol", "capability", "value", "timeout", "validation", "model", "key")
    ],
    *[("fail_in_thread", {"how": how}) for how in ("tool", "model", "other")],
    ("inline", {"text": "i"}),
    ("hasty", {"text": "h"}),
    ("stream", {"count": 2}),
    ("generated", {"count": 2}),
    ("named.tool-1", {"schema": "s"}),
    ("versioned", {"text": "v"}),
    ("many", {"first": 1}),
    ("shapes", {"items": [1, "a"], "table": {"k": [None]}}),
    ("method", {"text": "!"}),
    ("lambda", {"text": "!"}),
    ("no_such_tool", {"a": 1}),
]
REQUESTS = [
    ("tools/list", None),
    *[("tools/call", {"name": name, **({} if given is None else {"arguments": given})}) for name, given in CALLS],
    ("tools/call", {"name": "add", "arguments": [1]}),
    ("tools/call", {"name": "add", "arguments": {"a": 1}, "_meta": {"progressToken": 5}}),
    ("tools/call", {"name": "versioned", "arguments": {"text": "v"}, "_meta": {"fastmcp": {"version": "1"}}}),
    ("tools/call", {"arguments": {"a": 1}}),
    ("tools/list", {"cursor": "beyond"}),
    ("resources/list", None),
    ("prompts/list", None),
    ("logging/setLevel", {"level": "info"}),
    ("ping", None),
    ("no/such", {}),
]
PLAIN = {"add", "shout", "halved", "flip", "weather", "move", "fail", "untyped", "method", "inline", "many"}
KERNEL = {"hasty", "stream", "generated", "versioned"}
