"""Every feature of MCP in one server; also the fixture of the official conformance suite (the names with ``test_``).

erlmcp serve examples/everything.py --port 3001
erlmcp call examples/everything.py weather city=Lund
"""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypedDict

from mcp_types import ResourceLink
from pydantic import BaseModel, Field

from erlmcp import (
    AssistantMessage,
    Audio,
    Context,
    Depends,
    Elicit,
    File,
    Image,
    ListRoots,
    Param,
    ResourceNotFoundError,
    Sample,
    Server,
    ToolError,
    ToolResult,
    UserMessage,
)

log = logging.getLogger("everything")
RED_PIXEL_PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8DwHwAFBQIAX8jx0gAAAABJRU5ErkJggg=="
)
SILENCE_WAV = base64.b64decode("UklGRiQAAABXQVZFZm10IBAAAAABAAEAQB8AAEAfAAABAAgAZGF0YQAAAAA=")


# ---- lifespan, middleware, dependencies -----------------------------------------------------------------------------
Stock = dict[str, int]


@asynccontextmanager
async def lifespan(server: Server) -> AsyncIterator[Stock]:
    """Opens once what every call may use; its value is ``ctx.lifespan``."""
    yield {"apple": 3, "pear": 0}


async def timing(ctx: Context, call_next: Any) -> Any:
    """Middleware: runs around every request."""
    started = time.perf_counter()
    try:
        return await call_next(ctx)
    finally:
        log.debug("request %s took %.1f ms", ctx.request_id, (time.perf_counter() - started) * 1e3)


def stock_of(ctx: Context) -> Stock:
    """A dependency: anything callable, with or without a Context."""
    stock: Stock = ctx.lifespan
    return stock


Shelf = Annotated[Stock, Depends(stock_of)]
server = Server(
    "everything",
    version="1.0.0",
    title="Everything",
    instructions="Try `weather`, `book_trip` or `slow`. The tools that start with test_ serve the conformance suite.",
    website_url="https://modelcontextprotocol.io",
    lifespan=lifespan,
    middleware=[timing],
    cache_ttl_ms=1000,
)


# ---- tools: what goes in and what comes out ------------------------------------------------------------------------


@server.tool(run_in_thread=False)
def test_simple_text() -> str:
    """Return one line of text."""
    return "This is a simple text response for testing."


@server.tool(annotations={"readOnlyHint": True, "idempotentHint": True}, tags={"maths"})
def add(a: int, b: int = 1) -> int:
    """Add two integers.

    Args:
        a: the first
        b: the second, 1 where it is left out
    """
    return a + b


@dataclass
class Weather:
    city: str
    celsius: float
    sky: Literal["clear", "cloudy", "rain"]


@server.tool(title="Weather report", meta={"example.com/source": "invented"})
async def weather(city: Annotated[str, Field(min_length=1, description="A town, in any language")]) -> Weather:
    """Tell the weather of a town (structured output from a dataclass)."""
    return Weather(city, 20.0 + len(city) % 10, "clear")


class Bill(TypedDict):
    customer: str
    total: float


class Order(BaseModel):
    """Read and checked by pydantic, because its type asks for it."""

    customer: str = Field(min_length=2)
    items: dict[str, int]
    note: str | None = None


@server.tool
def price_order(order: Order, shelf: Shelf) -> Bill:
    """Price an order: a pydantic model in, a TypedDict out. It is not async, so it runs in a thread and may block."""
    for item, count in order.items.items():
        if shelf.get(item, 0) < count:
            raise ToolError(f"Not enough in stock: {item}")
    return {"customer": order.customer, "total": 0.5 * sum(order.items.values())}


@server.tool(timeout=30)
async def slow(ctx: Context, seconds: float = 1.0, steps: int = 10) -> str:
    """Work for a while, tell how far it is, and stop at once when it is cancelled."""
    for step in range(steps):
        await ctx.progress(step, steps, f"step {step} of {steps}")
        await asyncio.sleep(seconds / steps)
    return f"Done after {seconds} s"


@server.tool
async def whoami(ctx: Context) -> dict[str, Any]:
    """Tell what the server knows about this call."""
    ctx.session["calls"] = ctx.session.get("calls", 0) + 1
    about = {"era": ctx.era, "protocol": ctx.protocol_version, "calls_in_session": ctx.session["calls"]}
    return {**about, "client": ctx.client_info, "capabilities": ctx.client_capabilities}


@server.tool
async def book_trip(ctx: Context, destination: str) -> str:
    """Book a trip: asks the user, whichever era the client speaks. In 2026-07-28 the function is entered again."""
    schema = {"type": "object", "properties": {"days": {"type": "integer", "minimum": 1}}, "required": ["days"]}
    answer = await ctx.elicit(f"How many days in {destination}?", schema, key="days")
    if answer.action != "accept":
        return "Nothing was booked."
    return f"{answer.content['days']} days in {destination} are booked."


@server.tool
async def sign_in(ctx: Context) -> str:
    """Send the user to a web page (URL elicitation)."""
    answer = await ctx.elicit_url("Please sign in", "https://example.com/sign-in", key="sign_in")
    return f"The user chose to {answer.action}."


@server.tool
async def restock(ctx: Context, item: str, count: int, shelf: Shelf) -> ToolResult:
    """Put items on the shelf, tell subscribers, and link to the resource that changed."""
    shelf[item] = shelf.get(item, 0) + count
    uri = f"shop://stock/{item}"
    await ctx.resource_updated(uri)
    link = ResourceLink(uri=uri, name=item, mime_type="application/json")
    return ToolResult(content=["Restocked.", link], structured={"item": item, "count": shelf[item]})


# ---- tools of the conformance suite --------------------------------------------------------------------------------


@server.tool
def test_image_content() -> Image:
    """Return an image."""
    return Image(RED_PIXEL_PNG, mime_type="image/png")


@server.tool
def test_audio_content() -> Audio:
    """Return a sound."""
    return Audio(SILENCE_WAV, mime_type="audio/wav")


@server.tool
def test_embedded_resource() -> File:
    """Return a resource within the result."""
    return File(b"This is an embedded resource content.", uri="test://embedded-resource", mime_type="text/plain")


@server.tool
def test_multiple_content_types() -> ToolResult:
    """Return text, an image and a resource together."""
    data = json.dumps({"test": "data", "value": 123}).encode()
    resource = File(data, uri="test://mixed-content-resource", mime_type="application/json")
    return ToolResult(content=["Multiple content types test:", Image(RED_PIXEL_PNG, mime_type="image/png"), resource])


@server.tool
@server.tool(name="test_logging_tool")
async def test_tool_with_logging(ctx: Context) -> str:
    """Send three log messages while it runs."""
    for number, text in enumerate(["Tool execution started", "Tool processing data", "Tool execution completed"]):
        if number:
            await asyncio.sleep(0.05)
        await ctx.info(text)
    return "Tool with logging executed"


@server.tool
async def test_tool_with_progress(ctx: Context) -> str:
    """Report progress three times."""
    for value in (0, 50, 100):
        await ctx.progress(value, 100, f"Completed step {value} of 100")
        await asyncio.sleep(0.05)
    return "Tool with progress executed"


@server.tool
def test_error_handling() -> str:
    """Fail on purpose."""
    raise ToolError("This tool intentionally returns an error for testing")


@server.tool
async def test_sampling(ctx: Context, prompt: str) -> str:
    """Ask the client's model."""
    answer = await ctx.sample(prompt, max_tokens=100, key="answer")
    return f"LLM response: {answer.text}"


def form(*required: str, **properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(required)}


TEXT = {"type": "string"}
NAME_FORM = form("name", name=TEXT)


def told(answer: Any) -> str:
    return f"action={answer.action}, content={json.dumps(answer.content)}"


@server.tool
async def test_elicitation(ctx: Context, message: str) -> str:
    """Ask the user with a message of the caller's."""
    schema = form("username", "email", username=TEXT, email={"type": "string", "format": "email"})
    return "User response: " + told(await ctx.elicit(message, schema, key="user"))


@server.tool
async def test_streaming_elicitation(ctx: Context) -> str:
    """Ask the user after some progress, so that the answer is streamed."""
    await ctx.progress(1, 2)
    return told(await ctx.elicit("Go on?", form(ok={"type": "boolean"}), key="go_on"))


@server.tool
async def test_elicitation_sep1034_defaults(ctx: Context) -> str:
    """Ask with a default for each primitive type."""
    schema = form(
        name={"type": "string", "default": "John Doe"},
        age={"type": "integer", "default": 30},
        score={"type": "number", "default": 95.5},
        status={"type": "string", "enum": ["active", "inactive", "pending"], "default": "active"},
        verified={"type": "boolean", "default": True},
    )
    return "Elicitation completed: " + told(await ctx.elicit("Check these values", schema, key="values"))


@server.tool
async def test_elicitation_sep1330_enums(ctx: Context) -> str:
    """Ask with every kind of choice."""
    options = ["option1", "option2", "option3"]
    choices = [{"const": f"value{n}", "title": f"Choice {n}"} for n in (1, 2, 3)]
    schema = form(
        untitledSingle={"type": "string", "enum": options},
        titledSingle={"type": "string", "oneOf": choices},
        legacyEnum={"type": "string", "enum": ["opt1", "opt2", "opt3"], "enumNames": ["One", "Two", "Three"]},
        untitledMulti={"type": "array", "items": {"type": "string", "enum": options}},
        titledMulti={"type": "array", "items": {"anyOf": choices}},
    )
    return "Elicitation completed: " + told(await ctx.elicit("Choose", schema, key="choices"))


@server.tool
async def test_reconnection(ctx: Context) -> str:
    """Close the response stream while it works; the client comes back for the result."""
    await ctx.close_stream()
    await asyncio.sleep(0.1)
    return "Reconnection test completed"


@server.tool
def test_x_mcp_header(
    region: Annotated[str, Param(header="Region", description="Also sent as Mcp-Param-Region")],
) -> str:
    """Take an argument that clients mirror into an HTTP header."""
    return f"Region: {region}"


JSON_SCHEMA_2020_12 = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "$defs": {"address": {"$anchor": "addressDef", "type": "object", "properties": {"street": TEXT, "city": TEXT}}},
    "properties": {
        "name": TEXT,
        "address": {"$ref": "#/$defs/address"},
        "contactMethod": {"type": "string", "enum": ["phone", "email"]},
        "phone": TEXT,
        "email": TEXT,
    },
    "allOf": [{"anyOf": [{"required": ["phone"]}, {"required": ["email"]}]}],
    "if": {"properties": {"contactMethod": {"const": "phone"}}, "required": ["contactMethod"]},
    "then": {"required": ["phone"]},
    "else": {"required": ["email"]},
    "additionalProperties": False,
}


@server.tool(input_schema=JSON_SCHEMA_2020_12)
def json_schema_2020_12_tool(**arguments: Any) -> str:
    """Take arguments under a JSON Schema written by hand."""
    return json.dumps(arguments)


@server.tool
async def test_trigger_tool_change() -> str:
    """Add a tool, or take it away again; subscribers are told."""
    names = {tool["name"] for tool in server.describe()["tools"]}
    server.remove_tool("hello") if "hello" in names else server.add_tool(test_simple_text, name="hello")
    return "The list of tools has changed"


@server.tool
async def test_trigger_prompt_change(ctx: Context) -> str:
    """Tell subscribers that the list of prompts has changed."""
    await ctx.prompts_changed()
    return "The list of prompts has changed"


@server.tool
async def test_input_required_result_elicitation(ctx: Context) -> str:
    """Ask for a name."""
    answer = await ctx.elicit("What is your name?", NAME_FORM, key="user_name")
    return f"Hello, {answer.content['name']}!" if answer.action == "accept" else "Hello!"


@server.tool
@server.tool(name="test_missing_capability")
async def test_input_required_result_sampling(ctx: Context) -> str:
    """Ask the client's model a question."""
    return (await ctx.sample("What is the capital of France?", max_tokens=100, key="capital_question")).text


@server.tool
async def test_input_required_result_list_roots(ctx: Context) -> str:
    """Ask for the client's roots."""
    roots = await ctx.list_roots(key="client_roots")
    return "Roots: " + ", ".join(str(root["uri"]) for root in roots)


@server.tool
@server.tool(name="test_input_required_result_tampered_state")
async def test_input_required_result_request_state(ctx: Context) -> str:
    """Carry state through the client and check that it came back."""
    ctx.state.setdefault("asked", "once")
    await ctx.elicit("Please confirm", form("ok", ok={"type": "boolean"}), key="confirm")
    return "state-ok" if ctx.state["asked"] == "once" else "the state was lost"


@server.tool
async def test_input_required_result_multiple_inputs(ctx: Context) -> str:
    """Ask three things in one round."""
    ctx.state["asked"] = True
    who, greeting = Elicit("What is your name?", NAME_FORM), Sample("Generate a greeting", max_tokens=50)
    answers = await ctx.ask({"user_name": who, "greeting": greeting, "client_roots": ListRoots()})
    name, roots = answers["user_name"].content["name"], answers["client_roots"]
    return f"{answers['greeting'].text} {name}, {len(roots)} roots"


@server.tool
async def test_input_required_result_multi_round(ctx: Context) -> str:
    """Ask one thing after the other."""
    first = await ctx.elicit("Step 1: What is your name?", NAME_FORM, key="step1")
    ctx.state["name"] = first.content["name"]
    second = await ctx.elicit("Step 2: What is your favorite color?", form("color", color=TEXT), key="step2")
    return f"{ctx.state['name']} likes {second.content['color']}"


@server.tool
async def test_input_required_result_capabilities(ctx: Context) -> str:
    """Ask only in the ways that the client declared."""
    ways = {"sampling": Sample("Say hello", max_tokens=20), "elicitation": Elicit("What is your name?", NAME_FORM)}
    questions = {way: question for way, question in ways.items() if way in ctx.client_capabilities}
    return f"{len(await ctx.ask(questions))} answers" if questions else "Nothing can be asked"


# ---- resources ------------------------------------------------------------------------------------------------------


@server.resource("test://static-text", name="static-text", mime_type="text/plain")
def static_text() -> str:
    """A text that never changes."""
    return "This is the content of the static text resource."


@server.resource("test://static-binary", name="static-binary", mime_type="image/png")
def static_binary() -> bytes:
    """An image that never changes."""
    return RED_PIXEL_PNG


@server.resource("test://watched-resource", name="watched-resource", mime_type="text/plain")
def watched_resource() -> str:
    """A text that clients may subscribe to."""
    return "Watch me"


@server.resource("test://template/{id}/data", name="template-data", mime_type="application/json")
def template_data(id: str) -> dict[str, Any]:
    """Data by its id."""
    return {"id": id, "templateTest": True, "data": f"Data for ID: {id}"}


@server.resource("shop://stock/{item}", name="stock", mime_type="application/json")
def stock(item: str, shelf: Shelf) -> dict[str, Any]:
    """How many of an item are in stock."""
    if item not in shelf:
        raise ResourceNotFoundError(f"shop://stock/{item}")
    return {"item": item, "count": shelf[item]}


# ---- prompts and completions ----------------------------------------------------------------------------------------


@server.prompt
def test_simple_prompt() -> str:
    """A prompt without arguments."""
    return "This is a simple prompt for testing."


@server.prompt
def test_prompt_with_arguments(arg1: str, arg2: str) -> str:
    """A prompt with two arguments."""
    return f"Prompt with arguments: arg1='{arg1}', arg2='{arg2}'"


@server.completion(prompt="test_prompt_with_arguments", argument="arg1")
def complete_arg1(value: str, context_arguments: dict[str, str] | None = None) -> list[str]:
    return [word for word in ("paris", "park", "party") if word.startswith(value)]


@server.completion(resource="shop://stock/{item}", argument="item")
def complete_item(value: str, context_arguments: dict[str, str] | None = None) -> list[str]:
    return [item for item in ("apple", "pear") if item.startswith(value)]


@server.prompt
def test_prompt_with_embedded_resource(resourceUri: str) -> list[UserMessage]:
    """A prompt that carries a resource."""
    return [
        UserMessage(File(b"Embedded resource content for testing.", uri=resourceUri, mime_type="text/plain")),
        UserMessage("Please process the embedded resource above."),
    ]


@server.prompt
def test_prompt_with_image() -> list[UserMessage]:
    """A prompt that carries an image."""
    return [UserMessage(Image(RED_PIXEL_PNG, mime_type="image/png")), UserMessage("Please analyze the image above.")]


@server.prompt
async def test_input_required_result_prompt(ctx: Context) -> str:
    """A prompt that asks the user first."""
    schema = form("context", context=TEXT)
    answer = await ctx.elicit("What context should the prompt use?", schema, key="user_context")
    return f"Use this context: {answer.content['context']}" if answer.action == "accept" else "Use no context."


@server.prompt(title="Code review")
def review(language: Literal["python", "c"], code: str) -> list[UserMessage | AssistantMessage]:
    """Ask for a review, with the answer begun."""
    return [UserMessage(f"Review this {language} code:\n{code}"), AssistantMessage("The first thing I notice is")]
