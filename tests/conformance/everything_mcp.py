"""Every feature that the official conformance suite asks for, on the official Python SDK's MCPServer.

erlmcp serve tests/conformance/everything_mcp.py --port 3001    accelerated
ERLMCP_ACCEL=off erlmcp serve ...                               by the SDK's own server
"""

# mypy: ignore-errors
from __future__ import annotations

import base64
import json
import warnings
from typing import Annotated, Any

import anyio
from mcp.server.mcpserver import Audio, Context, Image, MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp.server.mcpserver.prompts.base import UserMessage
from mcp.shared.exceptions import MCPDeprecationWarning, MCPError
from mcp_types import (
    MISSING_REQUIRED_CLIENT_CAPABILITY,
    Completion,
    CreateMessageRequest,
    CreateMessageRequestParams,
    ElicitRequest,
    ElicitRequestFormParams,
    EmbeddedResource,
    EmptyResult,
    ImageContent,
    InputRequiredResult,
    ListRootsRequest,
    SamplingMessage,
    SetLevelRequestParams,
    SubscribeRequestParams,
    TextContent,
    TextResourceContents,
    UnsubscribeRequestParams,
)
from pydantic import BaseModel, Field

warnings.simplefilter("ignore", MCPDeprecationWarning)
RED_PIXEL_PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8DwHwAFBQIAX8jx0gAAAABJRU5ErkJggg=="
)
SILENCE_WAV = base64.b64decode("UklGRiQAAABXQVZFZm10IBAAAAABAAEAQB8AAEAfAAABAAgAZGF0YQAAAAA=")
server = MCPServer("everything-mcp", title="Everything", version="1.0.0", log_level="ERROR")


def embedded(uri: str, text: str, kind: str = "text/plain") -> EmbeddedResource:
    return EmbeddedResource(type="resource", resource=TextResourceContents(uri=uri, mime_type=kind, text=text))


def form(*required: str, **properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(required)}


TEXT = {"type": "string"}
NAME_FORM = form("name", name=TEXT)


def told(answer: Any) -> str:
    return f"action={answer.action}, content={json.dumps(answer.content)}"


# ---- tools: what they give -------------------------------------------------------------------------------------------


@server.tool()
def test_simple_text() -> str:
    """Return one line of text."""
    return "This is a simple text response for testing."


@server.tool()
def test_image_content() -> Image:
    """Return an image."""
    return Image(data=RED_PIXEL_PNG, format="png")


@server.tool()
def test_audio_content() -> Audio:
    """Return a sound."""
    return Audio(data=SILENCE_WAV, format="wav")


@server.tool()
def test_embedded_resource() -> EmbeddedResource:
    """Return a resource within the result."""
    return embedded("test://embedded-resource", "This is an embedded resource content.")


@server.tool()
def test_multiple_content_types() -> list[TextContent | ImageContent | EmbeddedResource]:
    """Return text, an image and a resource together."""
    picture = ImageContent(type="image", data=base64.b64encode(RED_PIXEL_PNG).decode(), mime_type="image/png")
    data = json.dumps({"test": "data", "value": 123})
    return [
        TextContent(type="text", text="Multiple content types test:"),
        picture,
        embedded("test://mixed-content-resource", data, "application/json"),
    ]


async def _log_thrice(ctx: Context) -> str:
    for number, text in enumerate(["Tool execution started", "Tool processing data", "Tool execution completed"]):
        if number:
            await anyio.sleep(0.05)
        await ctx.info(text)
    return "Tool with logging executed"


@server.tool()
async def test_tool_with_logging(ctx: Context) -> str:
    """Send three log messages while it runs."""
    return await _log_thrice(ctx)


@server.tool()
async def test_logging_tool(ctx: Context) -> str:
    """Send three log messages while it runs."""
    return await _log_thrice(ctx)


@server.tool()
async def test_tool_with_progress(ctx: Context) -> str:
    """Report progress three times."""
    for value in (0, 50, 100):
        await ctx.report_progress(value, 100, f"Completed step {value} of 100")
        await anyio.sleep(0.05)
    return "Tool with progress executed"


@server.tool()
def test_error_handling() -> str:
    """Fail on purpose."""
    raise ToolError("This tool intentionally returns an error for testing")


@server.tool()
def test_x_mcp_header(
    region: Annotated[
        str, Field(description="Also sent as Mcp-Param-Region", json_schema_extra={"x-mcp-header": "Region"})
    ],
) -> str:
    """Take an argument that clients mirror into an HTTP header."""
    return f"Region: {region}"


@server.tool()
async def test_reconnection(ctx: Context) -> str:
    """Close the response stream while it works; the client comes back for the result."""
    await ctx.close_sse_stream()
    await anyio.sleep(0.1)
    return "Reconnection test completed"


# ---- tools: what they ask, in the handshake eras ---------------------------------------------------------------------


async def _ask_form(ctx: Context, message: str, schema: dict[str, Any]) -> Any:
    return await ctx.session.elicit_form(message, schema, related_request_id=ctx.request_id)


@server.tool()
async def test_sampling(prompt: str, ctx: Context) -> str:
    """Ask the client's model."""
    asked = [SamplingMessage(role="user", content=TextContent(type="text", text=prompt))]
    answer = await ctx.session.create_message(messages=asked, max_tokens=100, related_request_id=ctx.request_id)
    return f"LLM response: {getattr(answer.content, 'text', '')}"


@server.tool()
async def test_elicitation(message: str, ctx: Context) -> str:
    """Ask the user with a message of the caller's."""
    schema = form("username", "email", username=TEXT, email={"type": "string", "format": "email"})
    return "User response: " + told(await _ask_form(ctx, message, schema))


@server.tool()
async def test_elicitation_sep1034_defaults(ctx: Context) -> str:
    """Ask with a default for each primitive type."""
    schema = form(
        name={"type": "string", "default": "John Doe"},
        age={"type": "integer", "default": 30},
        score={"type": "number", "default": 95.5},
        status={"type": "string", "enum": ["active", "inactive", "pending"], "default": "active"},
        verified={"type": "boolean", "default": True},
    )
    return "Elicitation completed: " + told(await _ask_form(ctx, "Check these values", schema))


@server.tool()
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
    return "Elicitation completed: " + told(await _ask_form(ctx, "Choose", schema))


# ---- tools: what they ask, in 2026-07-28 -----------------------------------------------------------------------------


def elicit(message: str, schema: dict[str, Any]) -> ElicitRequest:
    return ElicitRequest(params=ElicitRequestFormParams(message=message, requested_schema=schema))


def sample(text: str, max_tokens: int = 100) -> CreateMessageRequest:
    asked = [SamplingMessage(role="user", content=TextContent(type="text", text=text))]
    return CreateMessageRequest(params=CreateMessageRequestParams(messages=asked, max_tokens=max_tokens))


def ask(state: str | None = None, /, **questions: Any) -> InputRequiredResult:
    return InputRequiredResult(input_requests=questions, request_state=state)


def answer_of(ctx: Context, key: str) -> Any:
    found = (ctx.input_responses or {}).get(key)
    return found


def needs(ctx: Context, capability: str) -> None:
    """Refuse where the client cannot be asked so."""
    declared = ctx.session.client_capabilities
    if declared is None or getattr(declared, capability) is None:
        raise MCPError(
            code=MISSING_REQUIRED_CLIENT_CAPABILITY,
            message=f"The client did not declare {capability}",
            data={"requiredCapabilities": {capability: {}}},
        )


@server.tool()
async def test_missing_capability(ctx: Context) -> str | InputRequiredResult:
    """Ask a client that cannot be asked."""
    needs(ctx, "sampling")
    return ask(question=sample("What?")) if answer_of(ctx, "question") is None else "asked"


@server.tool()
async def test_input_required_result_elicitation(ctx: Context) -> str | InputRequiredResult:
    """Ask for a name."""
    answer = answer_of(ctx, "user_name")
    if answer is None:
        return ask(user_name=elicit("What is your name?", NAME_FORM))
    return f"Hello, {answer.content['name']}!"


@server.tool()
async def test_input_required_result_sampling(ctx: Context) -> str | InputRequiredResult:
    """Ask the client's model a question."""
    needs(ctx, "sampling")
    answer = answer_of(ctx, "capital_question")
    return ask(capital_question=sample("What is the capital of France?")) if answer is None else answer.content.text


@server.tool()
async def test_input_required_result_list_roots(ctx: Context) -> str | InputRequiredResult:
    """Ask for the client's roots."""
    answer = answer_of(ctx, "client_roots")
    if answer is None:
        return ask(client_roots=ListRootsRequest())
    return "Roots: " + ", ".join(str(root.uri) for root in answer.roots)


async def _carry(ctx: Context) -> str | InputRequiredResult:
    if answer_of(ctx, "confirm") is None:
        return ask("asked", confirm=elicit("Please confirm", form("ok", ok={"type": "boolean"})))
    return "state-ok" if ctx.request_state == "asked" else "the state was lost"


@server.tool()
async def test_input_required_result_request_state(ctx: Context) -> str | InputRequiredResult:
    """Carry state through the client and check that it came back."""
    return await _carry(ctx)


@server.tool()
async def test_input_required_result_tampered_state(ctx: Context) -> str | InputRequiredResult:
    """Carry state through the client and check that it came back."""
    return await _carry(ctx)


@server.tool()
async def test_input_required_result_multiple_inputs(ctx: Context) -> str | InputRequiredResult:
    """Ask three things in one round."""
    answers = [answer_of(ctx, key) for key in ("user_name", "greeting", "client_roots")]
    if None in answers:
        return ask(
            "asked",
            user_name=elicit("What is your name?", NAME_FORM),
            greeting=sample("Generate a greeting", 50),
            client_roots=ListRootsRequest(),
        )
    name, greeting, roots = answers
    return f"{greeting.content.text} {name.content['name']}, {len(roots.roots)} roots"


@server.tool()
async def test_input_required_result_multi_round(ctx: Context) -> str | InputRequiredResult:
    """Ask one thing after the other."""
    state = ctx.request_state
    if state is None:
        return ask("step1", step1=elicit("Step 1: What is your name?", NAME_FORM))
    if state == "step1":
        first = answer_of(ctx, "step1")
        if first is None:
            return ask("step1", step1=elicit("Step 1: What is your name?", NAME_FORM))
        name = first.content["name"]
        return ask(f"name:{name}", step2=elicit("Step 2: What is your favorite color?", form("color", color=TEXT)))
    second = answer_of(ctx, "step2")
    return f"{state.removeprefix('name:')} likes {second.content['color']}"


@server.tool()
async def test_input_required_result_capabilities(ctx: Context) -> str | InputRequiredResult:
    """Ask only in the ways that the client declared."""
    declared = ctx.session.client_capabilities
    ways = {"sampling": sample("Say hello", 20), "elicitation": elicit("What is your name?", NAME_FORM)}
    questions = {way: question for way, question in ways.items() if getattr(declared, way, None) is not None}
    if not questions:
        return "Nothing can be asked"
    if any(answer_of(ctx, way) is None for way in questions):
        return ask(**questions)
    return f"{len(questions)} answers"


@server.tool()
async def test_trigger_tool_change(ctx: Context) -> str:
    """Add a tool, or take it away again; subscribers are told."""
    names = {tool.name for tool in await server.list_tools()}
    if "hello" in names:
        server.remove_tool("hello")
    else:
        server.add_tool(test_simple_text, name="hello")
    await ctx.notify_tools_changed()
    return "The list of tools has changed"


@server.tool()
async def test_trigger_prompt_change(ctx: Context) -> str:
    """Tell subscribers that the list of prompts has changed."""
    await ctx.notify_prompts_changed()
    return "The list of prompts has changed"


@server.tool()
async def test_streaming_elicitation(ctx: Context) -> str | InputRequiredResult:
    """Ask the user after some progress, so that the answer is streamed."""
    await ctx.report_progress(1, 2)
    answer = answer_of(ctx, "go_on")
    return ask(go_on=elicit("Go on?", form(ok={"type": "boolean"}))) if answer is None else told(answer)


class Address(BaseModel):
    street: str | None = None
    city: str | None = None


@server.tool()
def json_schema_2020_12_tool(name: str = "", address: Address | None = None) -> str:
    """Take arguments under a JSON Schema."""
    return json.dumps({"name": name, "address": None if address is None else address.model_dump()})


# ---- resources, prompts, completions, and what the handshake eras have besides ---------------------------------------


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
def template_data(id: str) -> str:
    """Data by its id."""
    return json.dumps({"id": id, "templateTest": True, "data": f"Data for ID: {id}"})


@server.prompt()
def test_simple_prompt() -> str:
    """A prompt without arguments."""
    return "This is a simple prompt for testing."


@server.prompt()
def test_prompt_with_arguments(arg1: str, arg2: str) -> str:
    """A prompt with two arguments."""
    return f"Prompt with arguments: arg1='{arg1}', arg2='{arg2}'"


@server.prompt()
def test_prompt_with_embedded_resource(resourceUri: str) -> list:
    """A prompt that carries a resource."""
    return [
        UserMessage(content=embedded(resourceUri, "Embedded resource content for testing.")),
        UserMessage("Please process the embedded resource above."),
    ]


@server.prompt()
def test_prompt_with_image() -> list:
    """A prompt that carries an image."""
    picture = ImageContent(type="image", data=base64.b64encode(RED_PIXEL_PNG).decode(), mime_type="image/png")
    return [UserMessage(content=picture), UserMessage("Please analyze the image above.")]


@server.prompt()
async def test_input_required_result_prompt(ctx: Context) -> str | InputRequiredResult:
    """A prompt that asks the user first."""
    answer = answer_of(ctx, "user_context")
    if answer is None:
        return ask(user_context=elicit("What context should the prompt use?", form("context", context=TEXT)))
    return f"Use this context: {answer.content['context']}"


@server.completion()
async def complete(ref: Any, argument: Any, context: Any) -> Completion | None:
    if argument.name == "arg1":
        return Completion(values=[word for word in ("paris", "park", "party") if word.startswith(argument.value)])
    return None


async def _subscribe(ctx: Any, params: Any) -> EmptyResult:
    return EmptyResult()


low = server._lowlevel_server
low.add_request_handler("resources/subscribe", SubscribeRequestParams, _subscribe)
low.add_request_handler("resources/unsubscribe", UnsubscribeRequestParams, _subscribe)
low.add_request_handler("logging/setLevel", SetLevelRequestParams, _subscribe)
