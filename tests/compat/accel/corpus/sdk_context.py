"""An MCPServer whose handlers talk to the client: progress, logs, questions, dependencies, state, changes."""

# mypy: ignore-errors
from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

from mcp.server.context import ServerRequestContext
from mcp.server.mcpserver import Context, Elicit, MCPServer, Resolve
from mcp.server.mcpserver.exceptions import ResourceError, ResourceNotFoundError
from mcp_types import (
    Completion,
    ElicitRequest,
    ElicitRequestFormParams,
    InputRequiredResult,
    PromptReference,
    SamplingMessage,
    TextContent,
)
from pydantic import BaseModel


@asynccontextmanager
async def life(_: MCPServer) -> AsyncIterator[dict]:
    yield {"opened": "once"}


app = MCPServer("context", lifespan=life, log_level="ERROR")


class Choice(BaseModel):
    size: int
    why: str = "no reason"


@app.tool()
async def work(steps: int, ctx: Context) -> str:
    for step in range(steps):
        await ctx.report_progress(step, steps, f"step {step}")
    return "done"


@app.tool()
async def says(text: str, ctx: Context) -> str:
    await ctx.debug(text)
    await ctx.info(text, logger_name="mine")
    await ctx.warning(text)
    await ctx.error(text)
    return text


@app.tool()
async def knows(ctx: Context) -> str:
    lifespan = ctx.request_context.lifespan_context
    return f"{type(ctx.request_id).__name__} {ctx.client_id} {lifespan} {ctx.mcp_server.name}"


@app.tool()
async def asks(ctx: Context) -> str:
    found = await ctx.elicit("Which size?", schema=Choice)
    return f"{found.action} {getattr(found, 'data', None)}"


@app.tool()
async def samples(ctx: Context) -> str:
    found = await ctx.session.create_message(
        messages=[SamplingMessage(role="user", content=TextContent(type="text", text="say"))], max_tokens=10
    )
    return found.content.text


@app.tool()
async def roots(ctx: Context) -> str:
    found = await ctx.session.list_roots()
    return ",".join(str(root.uri) for root in found.roots)


@app.tool()
async def reads(uri: str, ctx: Context) -> str:
    return "|".join([str(each.content) for each in await ctx.read_resource(uri)])


@app.tool()
async def grows(name: str, ctx: Context) -> str:
    def fresh(text: str) -> str:
        return name + text

    app.add_tool(fresh, name=name)
    await ctx.session.send_tool_list_changed()
    return "grown"


@app.tool()
async def shrinks(name: str) -> str:
    app.remove_tool(name)
    return "shrunk"


@app.tool()
async def changes(ctx: Context) -> str:
    await ctx.session.send_resource_list_changed()
    await ctx.session.send_prompt_list_changed()
    await ctx.session.send_resource_updated("data://one")
    return "told"


async def wanted(ctx: Context) -> Elicit[Choice]:
    return Elicit("How many?", Choice)


@app.tool()
async def resolved(name: str, choice: Annotated[Choice, Resolve(wanted)]) -> str:
    return f"{name} {choice.size}"


@app.tool()
async def rounds(ctx: Context) -> str | InputRequiredResult:
    if not ctx.input_responses:
        question = ElicitRequestFormParams(
            message="Size?", requested_schema={"type": "object", "properties": {"size": {"type": "integer"}}}
        )
        return InputRequiredResult(input_requests={"size": ElicitRequest(params=question)}, request_state="asked")
    return f"{ctx.request_state} {sorted(ctx.input_responses)}"


@app.resource("data://one", name="one", title="One", description="The first", mime_type="text/x-one")
def one() -> str:
    return "first"


@app.resource("data://bytes")
def some_bytes() -> bytes:
    return b"\x00\x01"


@app.resource("data://table", meta={"k": 1})
async def table() -> dict:
    return {"a": [1, 2]}


@app.resource("data://broken")
def broken() -> str:
    raise ValueError("a secret")


@app.resource("data://refused")
def refused() -> str:
    raise ResourceError("not for you")


@app.resource("city://{city}/weather{?unit}")
def city_weather(city: str, unit: str = "C") -> str:
    if city == "nowhere":
        raise ResourceNotFoundError("no such city")
    return f"{city} 21 {unit}"


@app.resource("who://{name}")
async def who(name: str, ctx: Context) -> str:
    return f"{name} {ctx.mcp_server.name}"


@app.prompt(title="Greeting")
def greet(name: str, style: str = "kind") -> str:
    """Greet somebody."""
    return f"Greet {name} in a {style} way"


@app.prompt()
async def talk(topic: str, ctx: Context) -> list:
    await ctx.info("talking")
    return [{"role": "user", "content": topic}, {"role": "assistant", "content": {"type": "text", "text": "well"}}]


@app.prompt()
def fails() -> str:
    raise ValueError("a secret")


@app.completion()
async def complete(ref, argument, context):
    if isinstance(ref, PromptReference) and argument.name == "style":
        return Completion(values=[each for each in ("kind", "keen") if each.startswith(argument.value)], total=2)
    if argument.name == "boom":
        raise ValueError("a secret")
    return None


@app.tool()
async def plain(text: str) -> str:
    return text


def call(name: str, /, **arguments: object) -> tuple[str, dict]:
    return "tools/call", {"name": name, "arguments": arguments}


def complete_of(kind: str, name: str, argument: str, value: str) -> tuple[str, dict]:
    key = "name" if kind == "ref/prompt" else "uri"
    return "completion/complete", {"ref": {"type": kind, key: name}, "argument": {"name": argument, "value": value}}


REQUESTS = [
    ("tools/call", {"name": "work", "arguments": {"steps": 2}, "_meta": {"progressToken": "p1"}}),
    call("work", steps=1),
    call("says", text="hear"),
    ("tools/call", {"name": "says", "arguments": {"text": "a"}, "_meta": {"io.modelcontextprotocol/logLevel": "info"}}),
    call("knows"),
    call("asks"),
    call("samples"),
    call("roots"),
    call("reads", uri="data://one"),
    call("reads", uri="data://none"),
    call("plain", text="a"),
    call("grows", name="fresh"),
    ("tools/list", None),
    call("fresh", text="!"),
    call("shrinks", name="fresh"),
    call("fresh", text="!"),
    call("shrinks", name="plain"),
    call("plain", text="a"),
    ("tools/list", None),
    call("changes"),
    call("resolved", name="n"),
    call("rounds"),
    ("tools/call", {"name": "rounds", "arguments": {}, "requestState": "forged", "inputResponses": {}}),
    ("resources/list", None),
    ("resources/templates/list", None),
    *[
        ("resources/read", {"uri": uri})
        for uri in (
            "data://one",
            "data://bytes",
            "data://table",
            "data://broken",
            "data://refused",
            "data://none",
            "city://lund/weather",
            "city://lund/weather?unit=F",
            "city://nowhere/weather",
            "city://../weather",
            "who://ann",
        )
    ],
    ("resources/read", {}),
    ("resources/subscribe", {"uri": "data://one"}),
    ("prompts/list", None),
    ("prompts/get", {"name": "greet", "arguments": {"name": "Ann"}}),
    ("prompts/get", {"name": "greet", "arguments": {"name": "Ann", "style": "dry"}}),
    ("prompts/get", {"name": "greet", "arguments": {}}),
    ("prompts/get", {"name": "talk", "arguments": {"topic": "rain"}}),
    ("prompts/get", {"name": "fails"}),
    ("prompts/get", {"name": "none"}),
    complete_of("ref/prompt", "greet", "style", "ki"),
    complete_of("ref/resource", "city://{city}/weather{?unit}", "city", "l"),
    complete_of("ref/prompt", "greet", "boom", ""),
    ("server/discover", None),
]
PLAIN = {"shrinks", "plain", "work", "says", "asks", "grows", "knows", "changes"}
KERNEL = {"resolved", "rounds"}
_ = ServerRequestContext
