"""Tools of an MCPServer: every kind of argument and of result that its documents name."""

# mypy: ignore-errors
from __future__ import annotations

import base64
import datetime
import enum
import functools
from dataclasses import dataclass
from typing import Annotated, Any, Literal, NamedTuple

from mcp.server.mcpserver import Audio, Image, MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp.shared.exceptions import MCPError
from mcp_types import CallToolResult, Icon, ResourceLink, TextContent, ToolAnnotations
from pydantic import BaseModel, Field, field_validator
from typing_extensions import TypedDict

app = MCPServer(
    "values",
    title="Values",
    description="Kinds of values",
    instructions="Try each.",
    website_url="https://example.org/values",
    icons=[Icon(src="https://example.org/i.png", mime_type="image/png", sizes=["48x48"])],
    version="3.1",
    log_level="ERROR",
)


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Point(BaseModel):
    x: int
    y: float = 0.5
    label: str | None = None


class Tree(BaseModel):
    name: str
    children: list[Tree] = []


class Strict(BaseModel):
    even: int

    @field_validator("even")
    @classmethod
    def is_even(cls, value: int) -> int:
        if value % 2:
            raise ValueError("odd")
        return value


class Weather(TypedDict):
    city: str
    degrees: float


@dataclass
class Box:
    width: int
    tags: list[str]


class Pair(NamedTuple):
    left: int
    right: str


class Plain:
    kind: str
    size: int

    def __init__(self, kind: str, size: int) -> None:
        self.kind, self.size = kind, size


@app.tool()
async def add(a: int, b: int = 2) -> int:
    """Add two numbers."""
    return a + b


@app.tool()
def shout(text: str, times: int = 1, loud: bool = True) -> str:
    """Say it loudly."""
    return " ".join([text.upper() if loud else text] * times)


@app.tool()
async def half(value: float) -> float:
    return value / 2


@app.tool()
async def flip(flag: bool) -> bool:
    return not flag


@app.tool()
async def nothing() -> None:
    """Give nothing."""


@app.tool()
async def untyped(value):
    return value


@app.tool()
async def anything(value: Any = None) -> Any:
    return value


@app.tool(structured_output=False)
async def as_text(count: int) -> dict[str, int]:
    return {"count": count}


@app.tool(structured_output=True)
async def as_data(names: list[str]) -> list[str]:
    return sorted(names)


@app.tool()
async def pick(colour: Colour, size: Literal["s", "m"] = "s") -> Colour:
    return colour


@app.tool()
async def move(point: Point, by: int = 1) -> Point:
    return Point(x=point.x + by, y=point.y, label=point.label)


@app.tool()
async def grow(tree: Tree) -> Tree:
    return Tree(name=tree.name + "!", children=[tree])


@app.tool()
async def check(value: Strict) -> int:
    return value.even


@app.tool()
async def between(value: Annotated[int, Field(ge=1, le=10, description="one to ten")]) -> int:
    return value


@app.tool()
async def maybe(value: int | None = None, text: str | None = None) -> str:
    return f"{value!r} {text!r}"


@app.tool()
async def mixed(value: int | str | list[int]) -> int | str | list[int]:
    return value


@app.tool()
async def weather(city: str) -> Weather:
    return {"city": city, "degrees": 21.5}


@app.tool()
async def box(width: int) -> Box:
    return Box(width, ["a", "b"])


@app.tool()
async def pair(left: int) -> Pair:
    return Pair(left, "r")


@app.tool()
async def plain(kind: str) -> Plain:
    return Plain(kind, 3)


@app.tool()
async def scores() -> dict[str, int]:
    return {"ann": 3, "bob": 4}


@app.tool()
async def numbers() -> dict[int, str]:
    return {1: "one"}


@app.tool()
async def when(at: datetime.datetime) -> datetime.datetime:
    return at + datetime.timedelta(days=1)


@app.tool()
async def raw(size: int) -> bytes:
    return b"x" * size


@app.tool()
async def odd_float(which: str) -> float:
    return {"nan": float("nan"), "inf": float("inf"), "tiny": 1e-7, "huge": 1e22, "one": 1.0}[which]


@app.tool()
async def liar(what: str) -> int:
    return {"text": "not a number", "digits": "12", "none": None, "big": 1 << 70, "yes": True}[what]


@app.tool()
async def text_liar(what: str) -> str:
    return {"number": 3, "none": None, "surrogate": "\ud800", "list": ["a"]}[what]


@app.tool()
async def picture() -> Image:
    return Image(data=b"\x89PNG", format="png")


@app.tool()
async def sound() -> Audio:
    return Audio(data=b"RIFF", format="wav")


@app.tool()
async def blocks() -> list[TextContent | ResourceLink]:
    return [TextContent(type="text", text="see"), ResourceLink(type="resource_link", uri="file:///a", name="a")]


@app.tool()
async def several() -> list[Any]:
    return ["one", 2, {"three": 3}, None, [4.5]]


@app.tool()
async def whole() -> CallToolResult:
    return CallToolResult(content=[TextContent(type="text", text="w")], structured_content={"k": 1}, _meta={"m": 2})


@app.tool()
async def checked_whole(good: bool) -> Annotated[CallToolResult, Weather]:
    structured = {"city": "Lund", "degrees": 1.0} if good else {"city": 3}
    return CallToolResult(content=[TextContent(type="text", text="w")], structured_content=structured)


@app.tool()
async def failed_whole() -> CallToolResult:
    return CallToolResult(content=[TextContent(type="text", text="no")], is_error=True)


@app.tool()
async def fail(how: str) -> str:
    """Fail in each way."""
    if how == "tool":
        raise ToolError("not today")
    if how == "protocol":
        raise MCPError(code=-32050, message="a protocol error", data={"why": how})
    if how == "value":
        raise ValueError("a secret")
    if how == "model":
        Point(x="no")
    raise KeyError(how)


@app.tool()
def fail_in_thread(how: str) -> str:
    if how == "tool":
        raise ToolError("not in a thread")
    raise RuntimeError(how)


@app.tool(
    name="named.tool-1",
    title="A title",
    description="A description",
    annotations=ToolAnnotations(title="Annotated", read_only_hint=True, open_world_hint=False),
    icons=[Icon(src="https://example.org/t.svg")],
    meta={"example.org/key": [1, 2]},
)
async def named(schema: str, model_dump: int = 3) -> str:
    return f"{schema} {model_dump}"


@app.tool()
async def many(*, first: int, second: str = "s", third: Annotated[str, "plain metadata"] = "t") -> str:
    return f"{first}{second}{third}"


@app.tool()
async def defaults(items: list[int] = [1, 2], table: dict[str, int] = {}) -> str:  # noqa: B006
    return f"{items}{table}"


@app.tool()
async def shapes(items: list, table: dict) -> str:
    return f"{items}{table}"


@app.tool()
async def factory(stamp: Annotated[str, Field(default_factory=lambda: "made")]) -> str:
    return stamp


@app.tool()
async def header(region: Annotated[str, Field(json_schema_extra={"x-mcp-header": "Region"})]) -> str:
    return region


def decorated(function):
    @functools.wraps(function)
    async def inner(*args, **kwargs):
        return "<" + await function(*args, **kwargs) + ">"

    return inner


@app.tool()
@decorated
async def wrapped(text: str) -> str:
    return text


class Bench:
    def __init__(self, name: str) -> None:
        self.name = name

    async def method(self, text: str) -> str:
        """A method."""
        return self.name + text


app.add_tool(Bench("m").method)
app.add_tool(lambda text: text, name="lambda")


@app.tool()
async def encoded(size: int) -> str:
    return base64.b64encode(bytes(range(size))).decode()


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
    ("shout", {"text": '["a"]'}),
    ("shout", {"text": 'ü \u2028 \U0001f600 "q" \\ \n \x00'}),
    ("shout", {"text": "x", "loud": "yes"}),
    ("half", {"value": 3.0}),
    ("half", {"value": 3}),
    ("half", {"value": "3"}),
    ("half", {"value": 1e-7}),
    ("flip", {"flag": True}),
    ("flip", {"flag": "false"}),
    ("flip", {"flag": 1}),
    ("nothing", {}),
    ("untyped", {"value": "text"}),
    ("untyped", {"value": '{"a": 1}'}),
    ("untyped", {"value": [1, {"b": None}]}),
    ("untyped", {}),
    ("anything", {"value": {"deep": [1.5]}}),
    ("anything", {"value": "[1, 2]"}),
    ("anything", {"value": 7}),
    ("anything", {}),
    ("as_text", {"count": 2}),
    ("as_data", {"names": ["b", "a"]}),
    ("as_data", {"names": '["d", "c"]'}),
    ("as_data", {"names": "no list"}),
    ("pick", {"colour": "red"}),
    ("pick", {"colour": "green"}),
    ("pick", {"colour": "blue", "size": "xl"}),
    ("move", {"point": {"x": 1}}),
    ("move", {"point": '{"x": 4, "label": "p"}', "by": 2}),
    ("move", {"point": {"y": 1}}),
    ("grow", {"tree": {"name": "a", "children": [{"name": "b"}]}}),
    ("check", {"value": {"even": 4}}),
    ("check", {"value": {"even": 3}}),
    ("between", {"value": 3}),
    ("between", {"value": 30}),
    ("maybe", {}),
    ("maybe", {"value": 3, "text": "t"}),
    ("maybe", {"value": None, "text": "null"}),
    ("maybe", {"text": "[1]"}),
    ("mixed", {"value": 1}),
    ("mixed", {"value": "a"}),
    ("mixed", {"value": [1, 2]}),
    ("mixed", {"value": "[1, 2]"}),
    ("weather", {"city": "Lund"}),
    ("box", {"width": 3}),
    ("pair", {"left": 3}),
    ("plain", {"kind": "k"}),
    ("scores", {}),
    ("numbers", {}),
    ("when", {"at": "2026-01-31T10:00:00Z"}),
    ("when", {"at": "never"}),
    ("raw", {"size": 3}),
    *[("odd_float", {"which": which}) for which in ("nan", "inf", "tiny", "huge", "one", "else")],
    *[("liar", {"what": what}) for what in ("text", "digits", "none", "big", "yes")],
    *[("text_liar", {"what": what}) for what in ("number", "none", "surrogate", "list")],
    ("picture", {}),
    ("sound", {}),
    ("blocks", {}),
    ("several", {}),
    ("whole", {}),
    ("checked_whole", {"good": True}),
    ("checked_whole", {"good": False}),
    ("failed_whole", {}),
    *[("fail", {"how": how}) for how in ("tool", "protocol", "value", "model", "key")],
    ("fail_in_thread", {"how": "tool"}),
    ("fail_in_thread", {"how": "other"}),
    ("named.tool-1", {"schema": "s"}),
    ("named.tool-1", {"schema": "s", "model_dump": 4}),
    ("many", {"first": 1}),
    ("many", {"first": 1, "second": "x", "third": "y"}),
    ("defaults", {}),
    ("defaults", {"items": [3], "table": {"a": 1}}),
    ("shapes", {"items": [1, "a"], "table": {"k": [None]}}),
    ("shapes", {"items": "[1]", "table": '{"a": 2}'}),
    ("factory", {}),
    ("factory", {"stamp": "given"}),
    ("header", {"region": "north"}),
    ("wrapped", {"text": "in"}),
    ("method", {"text": "!"}),
    ("lambda", {"text": "!"}),
    ("encoded", {"size": 20}),
    ("no_such_tool", {"a": 1}),
]
REQUESTS = [
    ("tools/list", None),
    *[("tools/call", {"name": name, **({} if given is None else {"arguments": given})}) for name, given in CALLS],
    ("tools/call", {"name": "add", "arguments": [1]}),
    ("tools/call", {"name": "add", "arguments": {"a": 1}, "_meta": {"progressToken": 5, "mine": True}}),
    ("tools/call", {"arguments": {"a": 1}}),
    ("tools/call", None),
    ("tools/list", {"cursor": "beyond"}),
    ("resources/list", None),
    ("prompts/list", None),
    ("completion/complete", {"ref": {"type": "ref/prompt", "name": "p"}, "argument": {"name": "a", "value": ""}}),
    ("logging/setLevel", {"level": "info"}),
    ("ping", None),
    ("no/such", {}),
]
# Plans there must be: else nothing of level 3 is tested.
PLAIN = {"add", "shout", "half", "flip", "weather", "move", "fail", "untyped", "method", "many"}
KERNEL = {"header"}
