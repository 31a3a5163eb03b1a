"""What the official conformance suite asks of a server, written for ``MCPServer`` of mcp 2.

``sdk_server.py`` serves it by the SDK itself, or by the façade, for which the name of the package is replaced.
"""

from __future__ import annotations

import asyncio
import base64
import json
import warnings
from typing import Annotated, Any

from mcp.server.mcpserver import Audio, Context, Image, MCPServer, UserMessage
from mcp.server.mcpserver.exceptions import ToolError
from mcp.shared.exceptions import MCPError
from mcp_types import (
    Completion,
    CreateMessageRequest,
    CreateMessageRequestParams,
    ElicitRequest,
    ElicitRequestFormParams,
    EmbeddedResource,
    InputRequiredResult,
    ListRootsRequest,
    SamplingMessage,
    TextContent,
    TextResourceContents,
)
from pydantic import Field

RED_PIXEL_PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8DwHwAFBQIAX8jx0gAAAABJRU5ErkJggg=="
)
SILENCE_WAV = base64.b64decode("UklGRiQAAABXQVZFZm10IBAAAAABAAEAQB8AAEAfAAABAAgAZGF0YQAAAAA=")
TEXT = {"type": "string"}
mcp = MCPServer("everything of mcp 2", version="1.0.0")


def form(*required: str, **properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(required)}


NAME_FORM = form("name", name=TEXT)


def embedded(uri: str, text: str, mime_type: str) -> EmbeddedResource:
    contents = TextResourceContents(uri=uri, mime_type=mime_type, text=text)
    return EmbeddedResource(type="resource", resource=contents)


def sampling(text: str) -> list[SamplingMessage]:
    return [SamplingMessage(role="user", content=TextContent(type="text", text=text))]


# ---- content --------------------------------------------------------------------------------------------------------


@mcp.tool()
def test_simple_text() -> str:
    """Return one line of text."""
    return "This is a simple text response for testing."


@mcp.tool()
def test_image_content() -> Image:
    """Return an image."""
    return Image(data=RED_PIXEL_PNG, format="png")


@mcp.tool()
def test_audio_content() -> Audio:
    """Return a sound."""
    return Audio(data=SILENCE_WAV, format="wav")


@mcp.tool()
def test_embedded_resource() -> EmbeddedResource:
    """Return a resource within the result."""
    return embedded("test://embedded-resource", "This is an embedded resource content.", "text/plain")


@mcp.tool()
def test_multiple_content_types() -> list[str | Image | EmbeddedResource]:
    """Return text, an image and a resource together."""
    data = embedded("test://mixed-content-resource", json.dumps({"test": "data", "value": 123}), "application/json")
    return ["Multiple content types test:", Image(data=RED_PIXEL_PNG, format="png"), data]


@mcp.tool()
def test_error_handling() -> str:
    """Fail on purpose."""
    raise ToolError("This tool intentionally returns an error for testing")


@mcp.tool()
def test_x_mcp_header(region: Annotated[str, Field(json_schema_extra={"x-mcp-header": "Region"})]) -> str:
    """Take an argument that clients mirror into an HTTP header."""
    return f"Region: {region}"


# ---- telling and asking ---------------------------------------------------------------------------------------------


async def log_three_times(ctx: Context) -> str:
    """Send three log messages while it runs."""
    for number, text in enumerate(["Tool execution started", "Tool processing data", "Tool execution completed"]):
        if number:
            await asyncio.sleep(0.05)
        await ctx.info(text)
    return "Tool with logging executed"


mcp.add_tool(log_three_times, name="test_tool_with_logging")
mcp.add_tool(log_three_times, name="test_logging_tool")


@mcp.tool()
async def test_tool_with_progress(ctx: Context) -> str:
    """Report progress three times."""
    for value in (0, 50, 100):
        await ctx.report_progress(value, 100, f"Completed step {value} of 100")
        await asyncio.sleep(0.05)
    return "Tool with progress executed"


@mcp.tool()
async def test_sampling(prompt: str, ctx: Context) -> str:
    """Ask the client's model."""
    answer = await ctx.session.create_message(sampling(prompt), max_tokens=100)
    return f"LLM response: {answer.content.text}"


async def elicit(ctx: Context, message: str, schema: dict[str, Any]) -> str:
    answer = await ctx.session.elicit_form(message, schema, ctx.request_id)
    return f"action={answer.action}, content={json.dumps(answer.content)}"


@mcp.tool()
async def test_elicitation(message: str, ctx: Context) -> str:
    """Ask the user with a message of the caller's."""
    schema = form("username", "email", username=TEXT, email={"type": "string", "format": "email"})
    return "User response: " + await elicit(ctx, message, schema)


@mcp.tool()
async def test_elicitation_sep1034_defaults(ctx: Context) -> str:
    """Ask with a default for each primitive type."""
    schema = form(
        name={"type": "string", "default": "John Doe"},
        age={"type": "integer", "default": 30},
        score={"type": "number", "default": 95.5},
        status={"type": "string", "enum": ["active", "inactive", "pending"], "default": "active"},
        verified={"type": "boolean", "default": True},
    )
    return "Elicitation completed: " + await elicit(ctx, "Check these values", schema)


@mcp.tool()
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
    return "Elicitation completed: " + await elicit(ctx, "Choose", schema)


@mcp.tool()
async def test_reconnection(ctx: Context) -> str:
    """Close the response stream while it works; the client comes back for the result."""
    await ctx.close_sse_stream()
    await asyncio.sleep(0.1)
    return "Reconnection test completed"


# ---- changes --------------------------------------------------------------------------------------------------------


@mcp.tool()
async def test_trigger_tool_change(ctx: Context) -> str:
    """Add a tool, or take it away again; subscribers are told."""
    names = {tool.name for tool in await mcp.list_tools()}
    mcp.remove_tool("hello") if "hello" in names else mcp.add_tool(test_simple_text, name="hello")
    await ctx.notify_tools_changed()
    return "The list of tools has changed"


@mcp.tool()
async def test_trigger_prompt_change(ctx: Context) -> str:
    """Tell subscribers that the list of prompts has changed."""
    await ctx.notify_prompts_changed()
    return "The list of prompts has changed"


# ---- questions in several rounds ------------------------------------------------------------------------------------


def elicitation(message: str, schema: dict[str, Any]) -> ElicitRequest:
    return ElicitRequest(params=ElicitRequestFormParams(message=message, requested_schema=schema))


def sample(text: str, max_tokens: int) -> CreateMessageRequest:
    return CreateMessageRequest(params=CreateMessageRequestParams(messages=sampling(text), max_tokens=max_tokens))


def ask(state: str | None = None, **requests: Any) -> InputRequiredResult:
    return InputRequiredResult(input_requests=requests, request_state=state)


def answer_of(ctx: Context, key: str) -> Any:
    """The client's answer, where it is one that says something."""
    return (ctx.input_responses or {}).get(key)


@mcp.tool()
async def test_input_required_result_elicitation(ctx: Context) -> str | InputRequiredResult:
    """Ask for a name."""
    answer = answer_of(ctx, "user_name")
    if answer is None:
        return ask(user_name=elicitation("What is your name?", NAME_FORM))
    return f"Hello, {answer.content['name']}!" if answer.action == "accept" else "Hello!"


@mcp.tool()
async def test_input_required_result_sampling(ctx: Context) -> str | InputRequiredResult:
    """Ask the client's model a question."""
    answer = answer_of(ctx, "capital_question")
    if answer is None:
        return ask(capital_question=sample("What is the capital of France?", 100))
    return str(answer.content.text)


@mcp.tool()
async def test_missing_capability(ctx: Context) -> str | InputRequiredResult:
    """Need sampling, whether the client has it or not."""
    if ctx.client_capabilities is None or ctx.client_capabilities.sampling is None:
        raise MCPError(-32021, "sampling is needed", {"requiredCapabilities": {"sampling": {}}})
    return await test_input_required_result_sampling(ctx)


@mcp.tool()
async def test_input_required_result_list_roots(ctx: Context) -> str | InputRequiredResult:
    """Ask for the client's roots."""
    answer = answer_of(ctx, "client_roots")
    if answer is None:
        return ask(client_roots=ListRootsRequest())
    return "Roots: " + ", ".join(str(root.uri) for root in answer.roots)


async def carry_state(ctx: Context) -> str | InputRequiredResult:
    """Carry state through the client and check that it came back."""
    if answer_of(ctx, "confirm") is None:
        return ask("asked once", confirm=elicitation("Please confirm", form("ok", ok={"type": "boolean"})))
    return "state-ok" if ctx.request_state == "asked once" else "the state was lost"


mcp.add_tool(carry_state, name="test_input_required_result_request_state")
mcp.add_tool(carry_state, name="test_input_required_result_tampered_state")


@mcp.tool()
async def test_input_required_result_multiple_inputs(ctx: Context) -> str | InputRequiredResult:
    """Ask three things in one round."""
    answers = [answer_of(ctx, key) for key in ("user_name", "greeting", "client_roots")]
    if None in answers:
        return ask(
            "asked",
            user_name=elicitation("What is your name?", NAME_FORM),
            greeting=sample("Generate a greeting", 50),
            client_roots=ListRootsRequest(),
        )
    name, greeting, roots = answers
    return f"{greeting.content.text} {name.content['name']}, {len(roots.roots)} roots"


@mcp.tool()
async def test_input_required_result_multi_round(ctx: Context) -> str | InputRequiredResult:
    """Ask one thing after the other."""
    first, second = answer_of(ctx, "step1"), answer_of(ctx, "step2")
    if second is not None:
        return f"{ctx.request_state} likes {second.content['color']}"
    if first is not None:
        question = elicitation("Step 2: What is your favorite color?", form("color", color=TEXT))
        return ask(first.content["name"], step2=question)
    return ask("begun", step1=elicitation("Step 1: What is your name?", NAME_FORM))


@mcp.tool()
async def test_input_required_result_capabilities(ctx: Context) -> str | InputRequiredResult:
    """Ask only in the ways that the client declared."""
    if ctx.input_responses:
        return f"{len(ctx.input_responses)} answers"
    found = ctx.client_capabilities
    questions: dict[str, Any] = {}
    if found is not None and found.sampling is not None:
        questions["sampling"] = sample("Say hello", 20)
    if found is not None and found.elicitation is not None:
        questions["elicitation"] = elicitation("What is your name?", NAME_FORM)
    return ask(**questions) if questions else "Nothing can be asked"


@mcp.tool()
async def test_streaming_elicitation(ctx: Context) -> str | InputRequiredResult:
    """Ask the user after some progress, so that the answer is streamed."""
    await ctx.report_progress(1, 2)
    if answer_of(ctx, "go_on") is None:
        return ask(go_on=elicitation("Go on?", form(ok={"type": "boolean"})))
    return "gone on"


# ---- resources ------------------------------------------------------------------------------------------------------


@mcp.resource("test://static-text", name="static-text", mime_type="text/plain")
def static_text() -> str:
    """A text that never changes."""
    return "This is the content of the static text resource."


@mcp.resource("test://static-binary", name="static-binary", mime_type="image/png")
def static_binary() -> bytes:
    """An image that never changes."""
    return RED_PIXEL_PNG


@mcp.resource("test://watched-resource", name="watched-resource", mime_type="text/plain")
def watched_resource() -> str:
    """A text that clients may subscribe to."""
    return "Watch me"


@mcp.resource("test://template/{id}/data", name="template-data", mime_type="application/json")
def template_data(id: str) -> str:
    """Data by its id."""
    return json.dumps({"id": id, "templateTest": True, "data": f"Data for ID: {id}"})


# ---- prompts and completions ----------------------------------------------------------------------------------------


@mcp.prompt()
def test_simple_prompt() -> str:
    """A prompt without arguments."""
    return "This is a simple prompt for testing."


@mcp.prompt()
def test_prompt_with_arguments(arg1: str, arg2: str) -> str:
    """A prompt with two arguments."""
    return f"Prompt with arguments: arg1='{arg1}', arg2='{arg2}'"


@mcp.prompt()
def test_prompt_with_embedded_resource(resourceUri: str) -> list[UserMessage]:
    """A prompt that carries a resource."""
    resource = embedded(resourceUri, "Embedded resource content for testing.", "text/plain")
    return [UserMessage(resource), UserMessage("Please process the embedded resource above.")]


@mcp.prompt()
def test_prompt_with_image() -> list[UserMessage]:
    """A prompt that carries an image."""
    return [UserMessage(Image(data=RED_PIXEL_PNG, format="png")), UserMessage("Please analyze the image above.")]


@mcp.prompt()
async def test_input_required_result_prompt(ctx: Context) -> str | InputRequiredResult:
    """A prompt that asks the user first."""
    answer = answer_of(ctx, "user_context")
    if answer is None:
        question = elicitation("What context should the prompt use?", form("context", context=TEXT))
        return ask(user_context=question)
    return f"Use this context: {answer.content['context']}" if answer.action == "accept" else "Use no context."


@mcp.completion()
async def complete(_ref: Any, argument: Any, _context: Any) -> Completion:
    """Complete whatever is asked for."""
    return Completion(values=[word for word in ("paris", "park", "party") if word.startswith(argument.value)])


# ---- what MCPServer leaves to the server beneath it, and the façade does by itself -----------------------------------

if hasattr(mcp, "_lowlevel_server"):
    from mcp.shared.exceptions import MCPDeprecationWarning
    from mcp_types import EmptyResult, SetLevelRequestParams, SubscribeRequestParams, UnsubscribeRequestParams

    warnings.simplefilter("ignore", MCPDeprecationWarning)

    async def accept(_ctx: Any, _params: Any) -> EmptyResult:
        """Nothing changes here, and all logs are sent."""
        return EmptyResult()

    mcp._lowlevel_server.add_request_handler("resources/subscribe", SubscribeRequestParams, accept)
    mcp._lowlevel_server.add_request_handler("resources/unsubscribe", UnsubscribeRequestParams, accept)
    mcp._lowlevel_server.add_request_handler("logging/setLevel", SetLevelRequestParams, accept)
