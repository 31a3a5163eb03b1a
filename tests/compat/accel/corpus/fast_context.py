"""A FastMCP whose handlers talk to the client, and look for the request at hand."""

# mypy: ignore-errors
from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from fastmcp import Context, FastMCP
from fastmcp.dependencies import CurrentContext, Depends
from fastmcp.exceptions import PromptError, ResourceError
from fastmcp.prompts import Message
from fastmcp.server.dependencies import get_context, get_http_headers


@asynccontextmanager
async def life(_: FastMCP) -> AsyncIterator[dict]:
    yield {"opened": "once"}


app = FastMCP("context", version="1", lifespan=life)


@dataclass
class Choice:
    size: int


def connection() -> str:
    return "connected"


@app.tool
async def work(steps: int, ctx: Context) -> str:
    for step in range(steps):
        await ctx.report_progress(step, steps, f"step {step}")
    return "done"


@app.tool
async def says(text: str, ctx: Context) -> str:
    await ctx.debug(text)
    await ctx.info(text, logger_name="mine")
    await ctx.warning(text, extra={"k": 1})
    await ctx.error(text)
    return text


@app.tool
async def knows(ctx: Context) -> str:
    return f"{ctx.fastmcp.name} {ctx.client_id} {ctx.lifespan_context} {ctx.transport}"


@app.tool
async def asks(ctx: Context) -> str:
    found = await ctx.elicit("Which size?", response_type=Choice)
    return f"{found.action} {found.data.size}"


@app.tool
async def samples(ctx: Context) -> str:
    return (await ctx.sample("say")).text


@app.tool
async def roots(ctx: Context) -> str:
    return ",".join(str(root.uri) for root in await ctx.list_roots())


@app.tool
async def reads(uri: str, ctx: Context) -> str:
    return "|".join(str(each.content) for each in (await ctx.read_resource(uri)).contents)


@app.tool
async def remembers(key: str, ctx: Context) -> str:
    before = await ctx.get_state(key)
    await ctx.set_state(key, "kept")
    return f"{before} {await ctx.get_state(key)}"


@app.tool
async def ambient() -> str:
    return get_context().fastmcp.name


def deeper() -> dict:
    return get_http_headers()


@app.tool
async def hidden() -> str:
    return str(deeper())


@app.tool
async def injected(text: str, link: str = Depends(connection), ctx: Context = CurrentContext()) -> str:  # noqa: B008
    return f"{text} {link} {ctx.fastmcp.name}"


@app.tool
async def grows(name: str) -> str:
    def fresh(text: str) -> str:
        return name + text

    app.tool(fresh, name=name)
    return "grown"


@app.tool
async def shrinks(name: str) -> str:
    app.local_provider.remove_tool(name)
    return "shrunk"


@app.tool
async def hides(name: str) -> str:
    app.disable(names={name})
    return "hidden"


@app.tool
async def shows(name: str) -> str:
    app.enable(names={name})
    return "shown"


@app.tool
async def plain(text: str) -> str:
    return text


@app.resource("data://one", name="one", title="One", mime_type="text/x-one", tags={"t"})
def one() -> str:
    return "first"


@app.resource("data://bytes", mime_type="application/x-b")
def some_bytes() -> bytes:
    return b"\x00\x01"


@app.resource("data://broken")
def broken() -> str:
    raise ValueError("what is wrong")


@app.resource("data://refused")
def refused() -> str:
    raise ResourceError("not for you")


@app.resource("city://{city}/weather{?unit}")
async def city_weather(city: str, unit: str = "C") -> str:
    return f"{city} 21 {unit}"


@app.resource("path://{rest*}")
async def path(rest: str, ctx: Context) -> str:
    return f"{rest} {ctx.fastmcp.name}"


@app.prompt(title="Greeting", tags={"p"})
def greet(name: str, times: int = 1) -> str:
    """Greet somebody."""
    return f"Greet {name} {times} times"


@app.prompt
async def talk(topic: str, ctx: Context) -> list[Message]:
    await ctx.info("talking")
    return [Message(topic), Message("well", role="assistant")]


@app.prompt
def fails() -> str:
    raise PromptError("no prompt")


@app.completion
async def complete(ref, argument, context):
    return [each for each in ("kind", "keen") if each.startswith(argument.value)]


def call(name: str, /, **arguments: object) -> tuple[str, dict]:
    return "tools/call", {"name": name, "arguments": arguments}


def complete_of(value: str) -> tuple[str, dict]:
    return (
        "completion/complete",
        {"ref": {"type": "ref/prompt", "name": "greet"}, "argument": {"name": "name", "value": value}},
    )


REQUESTS = [
    ("tools/call", {"name": "work", "arguments": {"steps": 2}, "_meta": {"progressToken": "p1"}}),
    call("says", text="hear"),
    ("tools/call", {"name": "says", "arguments": {"text": "a"}, "_meta": {"io.modelcontextprotocol/logLevel": "info"}}),
    ("logging/setLevel", {"level": "error"}),
    call("says", text="less"),
    *[call(name) for name in ("knows", "asks", "samples", "roots", "ambient", "hidden")],
    call("reads", uri="data://one"),
    call("reads", uri="data://none"),
    call("remembers", key="k"),
    call("remembers", key="k"),
    call("injected", text="t"),
    call("injected", text="t", link="given"),
    call("plain", text="a"),
    call("grows", name="fresh"),
    ("tools/list", None),
    call("fresh", text="!"),
    call("hides", name="fresh"),
    call("fresh", text="!"),
    ("tools/list", None),
    call("shows", name="fresh"),
    call("fresh", text="!"),
    call("shrinks", name="fresh"),
    call("fresh", text="!"),
    call("plain", text="a"),
    ("resources/list", None),
    ("resources/templates/list", None),
    *[
        ("resources/read", {"uri": uri})
        for uri in (
            "data://one",
            "data://bytes",
            "data://broken",
            "data://refused",
            "data://none",
            "city://lund/weather",
            "city://lund/weather?unit=F",
            "path://a/b/c",
        )
    ],
    ("prompts/list", None),
    ("prompts/get", {"name": "greet", "arguments": {"name": "Ann"}}),
    ("prompts/get", {"name": "greet", "arguments": {"name": "Ann", "times": "3"}}),
    ("prompts/get", {"name": "greet", "arguments": {"name": "Ann", "times": "x"}}),
    ("prompts/get", {"name": "greet", "arguments": {}}),
    ("prompts/get", {"name": "talk", "arguments": {"topic": "rain"}}),
    ("prompts/get", {"name": "fails"}),
    ("prompts/get", {"name": "none"}),
    complete_of("ki"),
    ("server/discover", None),
]
PLAIN = {"plain", "shrinks", "hides", "grows", "work", "says", "asks", "samples", "ambient", "hidden", "remembers"}
KERNEL = {"injected"}
