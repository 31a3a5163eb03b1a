"""The parts of the façade by themselves: conversions to the protocol's types, forms, typed values, what a context may
do besides, and transforms of one's own."""

from __future__ import annotations

import datetime as dt
import enum
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypedDict

import mcp_types as types
import pytest

from erlmcp import Client
from erlmcp.compat.fastmcp import Context, FastMCP
from erlmcp.compat.fastmcp.client.logging import LogMessage
from erlmcp.compat.fastmcp.client.typed import typed_value
from erlmcp.compat.fastmcp.dependencies import CurrentRequest
from erlmcp.compat.fastmcp.described import description_of
from erlmcp.compat.fastmcp.exceptions import NotFoundError, ToolError
from erlmcp.compat.fastmcp.prompts import Message, Prompt, PromptResult
from erlmcp.compat.fastmcp.resources import Resource, ResourceContent, ResourceResult, TextResource
from erlmcp.compat.fastmcp.schema import dereferenced, without_titles
from erlmcp.compat.fastmcp.server.completion import completion_of, given_of
from erlmcp.compat.fastmcp.server.context import set_context
from erlmcp.compat.fastmcp.server.elicitation import AcceptedElicitation, answer_of, form_of
from erlmcp.compat.fastmcp.server.middleware.logging import LoggingMiddleware
from erlmcp.compat.fastmcp.server.middleware.middleware import MiddlewareContext, Params
from erlmcp.compat.fastmcp.server.transforms import Transform
from erlmcp.compat.fastmcp.tools import Tool, ToolResult
from erlmcp.compat.fastmcp.types import Textarea
from erlmcp.compat.fastmcp.utilities.logging import get_logger
from erlmcp.compat.fastmcp.utilities.types import Audio, File, Image
from erlmcp.errors import InvalidParamsError
from erlmcp.errors import ToolError as FailedError
from erlmcp.server.serve import http

MODES = ("2026-07-28", "2025-11-25")


def test_results_become_the_types_of_the_protocol_and_back() -> None:
    found = ToolResult(content=[Image(data=b"x"), "text"], structured_content={"a": 1}, meta={"m": 2}, is_error=True)
    whole = found.to_mcp_result()
    assert isinstance(whole, types.CallToolResult)
    assert [block.type for block in whole.content] == ["image", "text"]
    again = ToolResult.from_mcp_result(whole)
    assert again.to_wire() == found.to_wire()
    again.content[1].text = "changed"
    assert again.blocks[1] == {"type": "text", "text": "changed"}
    again.content = "other"
    assert again.blocks == [{"type": "text", "text": "other"}]
    assert "other" in repr(again)
    resource = ResourceResult([ResourceContent("a"), ResourceContent(b"b", meta={"n": 1})], meta={"m": 1})
    read = resource.to_mcp_result("data://x")
    assert [type(each) for each in read.contents] == [types.TextResourceContents, types.BlobResourceContents]
    assert isinstance(resource.contents[1].to_mcp_resource_contents("data://x"), types.BlobResourceContents)
    prompt = PromptResult([Message(types.TextContent(type="text", text="a")), Message(["b"])], meta={"m": 1})
    said = prompt.to_mcp_prompt_result()
    assert [each.content.text for each in said.messages] == ["a", '["b"]']
    assert isinstance(prompt.messages[0].to_mcp_prompt_message(), types.PromptMessage)


def test_components_become_the_types_of_the_protocol() -> None:
    tool = Tool.from_function(lambda x: x, name="a_tool", annotations=types.ToolAnnotations(title="T"), icons=[])
    assert tool.to_mcp_tool(name="other").name == "other"
    assert tool.to_mcp_tool().title == "T"
    resource = TextResource(uri="data://x", text="t", name="x", tags={"a"})
    assert resource.to_mcp_resource().meta == {"fastmcp": {"tags": ["a"]}}
    prompt = Prompt.from_function(lambda who: who, name="p")
    assert prompt.to_mcp_prompt().arguments[0].name == "who"
    assert repr(prompt) == "FunctionPrompt('p')"
    assert resource.copy().key == "resource:data://x@"
    with pytest.raises(TypeError, match="is an object"):
        Tool(name="x", meta={"fastmcp": 1}).descriptor()


def test_pictures_sounds_and_files_are_blocks(tmp_path: Path) -> None:
    place = tmp_path / "a.png"
    place.write_bytes(b"x")
    assert Image(place).to_image_content().mime_type == "image/png"
    assert Audio(data=b"x", format="mp3").to_audio_content().mime_type == "audio/mp3"
    assert File(place).to_resource_content().resource.blob == "eA=="
    named = File(data=b"{}", format="json", name="n").to_content()
    assert named["resource"] == {"uri": "file:///n.json", "mimeType": "application/json", "text": "{}"}
    with pytest.raises(ValueError, match="Either path or data"):
        Image()
    with pytest.raises(ValueError, match="not both"):
        Image(place, b"x")


class Size(enum.Enum):
    BIG = "big"


class Row(TypedDict):
    a: int


@dataclass
class Deep:
    inner: Row


@pytest.mark.parametrize(
    ("wanted", "content", "data"),
    [
        (str, {"value": "a"}, "a"),
        (Size, {"value": "big"}, Size.BIG),
        (Row, {"a": 1}, {"a": 1}),
        (["x", "y"], {"value": "x"}, "x"),
        ([["x", "y"]], {"value": ["x"]}, ["x"]),
        ([{"x": {"title": "X"}}], {"value": ["x"]}, ["x"]),
        ({"x": {}}, {"value": "x"}, "x"),
        (None, {}, {}),
    ],
)
def test_answers_are_read_as_what_was_asked_for(wanted: Any, content: dict[str, Any], data: Any) -> None:
    assert answer_of(form_of(wanted), "accept", content) == AcceptedElicitation(data)


@pytest.mark.parametrize("wanted", [dict[str, int], Deep, [1, 2], []])
def test_what_is_no_flat_form_is_refused(wanted: Any) -> None:
    with pytest.raises(TypeError, match=r"form|list of choices"):
        form_of(wanted)


def test_answers_that_do_not_fit_are_refused() -> None:
    for wanted, content, words in (
        (str, {}, "'value'"),
        (int, {"value": "x"}, "does not fit"),
        (None, {"a": 1}, "empty"),
    ):
        with pytest.raises(ValueError, match=words):
            answer_of(form_of(wanted), "accept", content)
    with pytest.raises(ValueError, match="Unexpected elicitation action"):
        answer_of(form_of(str), "shrug", None)
    with pytest.raises(TypeError, match="single value"):
        form_of(Row, title="T")


@pytest.mark.parametrize(
    ("schema", "value", "found"),
    [
        ({"type": "number"}, 1, 1.0),
        ({"type": "string", "format": "date"}, "2026-07-28", dt.date(2026, 7, 28)),
        ({"type": "string", "format": "date"}, "no date", "no date"),
        ({"anyOf": [{"type": "string", "format": "date"}, {"type": "null"}]}, "2026-07-28", dt.date(2026, 7, 28)),
        ({"anyOf": [{"type": "array", "items": {"type": "number"}}, {"type": "null"}]}, [1], [1.0]),
        ({"type": "array", "uniqueItems": True, "items": {}}, [{}], [{}]),
        ({"type": "object", "additionalProperties": {"type": "number"}}, {"a": 1}, {"a": 1.0}),
        ({"type": "array"}, [1], [1]),
        ({}, {"a": 1}, {"a": 1}),
    ],
)
def test_values_are_typed_by_their_schema(schema: dict[str, Any], value: Any, found: Any) -> None:
    made = typed_value(schema, value)
    assert made == found
    assert type(made) is type(found)


def test_objects_are_typed_through_references_and_odd_names() -> None:
    schema = {
        "anyOf": [{"$ref": "#/$defs/Node"}, {"type": "null"}],
        "$defs": {
            "Node": {
                "type": "object",
                "properties": {"class": {}, "1st": {"default": 7}, "x": {"$ref": "#/$defs/Node"}},
            }
        },
    }
    found = typed_value(schema, {"class": 1, "x": {"class": 2}, "more": 3})
    assert (found.field_class, found.field_1st, found.x.field_class) == (1, 7, 2)


def test_schemas_lose_titles_and_references_but_no_property() -> None:
    schema = {"title": "A", "properties": {"title": {"title": "Title", "type": "string", "default": {"title": "kept"}}}}
    assert without_titles(schema) == {"properties": {"title": {"type": "string", "default": {"title": "kept"}}}}
    loop = {"$ref": "#/$defs/A", "$defs": {"A": {"properties": {"a": {"$ref": "#/$defs/A"}}}}}
    assert dereferenced(loop) == loop
    flat = {"properties": {"a": {"$ref": "#/$defs/A", "description": "d"}}, "$defs": {"A": {"type": "string"}}}
    assert dereferenced(flat) == {"properties": {"a": {"type": "string", "description": "d"}}}


def of_google() -> None:
    """What it does.

    More of it: with a colon.

    Raises:
        ValueError: never
    """


def of_numpy() -> None:
    """What it does.

    Returns
    -------
    nothing
    """


def of_sphinx() -> None:
    """What it does.

    :returns: nothing
    """


@pytest.mark.parametrize("fn", [of_google, of_numpy, of_sphinx])
def test_a_description_ends_where_the_sections_begin(fn: Callable[[], None]) -> None:
    assert str(description_of(fn)).startswith("What it does.")
    assert not {"Raises", "Returns", ":returns"} & set(str(description_of(fn)).replace(":", " ").split())


def test_completions_are_lists_or_completions() -> None:
    assert completion_of(None) == {"values": []}
    assert completion_of(types.Completion(values=["a"], total=3)) == {"values": ["a"], "total": 3}
    assert completion_of(range(150))["total"] == 150
    with pytest.raises(TypeError, match="got str"):
        completion_of("abc")
    with pytest.raises(InvalidParamsError, match="objects"):
        given_of({"ref": 1})
    with pytest.raises(InvalidParamsError, match="CompletionArgument"):
        given_of({"ref": {"type": "ref/prompt", "name": "x"}, "argument": {}})


def test_messages_and_loggers_are_what_they_say() -> None:
    said = LogMessage(level="info", data=1)
    assert said == Params(level="info", data=1)
    assert "level='info'" in repr(said)
    assert get_logger("x").name == "fastmcp.x"
    assert get_logger("fastmcp.x").name == "fastmcp.x"
    assert Tool.from_function(wide).parameters["properties"]["text"]["format"] == "textarea"


def wide(text: Textarea, limit: Annotated[int, "how many"]) -> int:
    return limit


# -- the context besides -------------------------------------------------------------------------------------------


def talking() -> FastMCP:
    mcp = FastMCP("talking", client_log_level="warning")

    @mcp.tool
    async def session(ctx: Context) -> list[Any]:
        one = ctx.session
        await one.send_log_message("error", "by the session")
        for tell in (one.send_tool_list_changed, one.send_resource_list_changed, one.send_prompt_list_changed):
            await tell()
        await one.send_resource_updated("data://x")
        await ctx.send_notification(types.ToolListChangedNotification())
        await ctx.send_notification(
            types.ResourceUpdatedNotification(params=types.ResourceUpdatedNotificationParams(uri="data://x"))
        )
        await ctx.close_sse_stream()
        await ctx.info("below the level")
        return [one.protocol_version, one.client_info is not None, isinstance(one.client_capabilities, dict)]

    @mcp.tool
    async def extensions(ctx: Context) -> list[Any]:
        return [ctx.client_supports_extension("io.x"), ctx.client_extension_settings("io.x"), ctx.task_id]

    @mcp.tool
    async def wrong(ctx: Context, what: str) -> Any:
        if what == "level":
            await ctx.log("x", level="loud")
        elif what == "notification":
            await ctx.send_notification(types.CancelledNotification(params=types.CancelledNotificationParams()))
        elif what == "session":
            return ctx.session.create_message
        elif what == "sampling":
            await ctx.sample("x", result_type=int)
        else:
            return await ctx.get_prompt("absent")

    @mcp.tool
    async def same(ctx: Context) -> str:
        return ctx.session_id

    @mcp.tool
    async def hides(ctx: Context) -> int:
        await ctx.disable_components(names={"extensions"})
        return len(await ctx.list_tools())

    return mcp


@pytest.mark.parametrize("mode", MODES)
async def test_a_context_tells_and_knows(mode: str) -> None:
    async with Client(talking(), mode=mode) as client:
        assert json.loads((await client.call_tool("session")).text) == [mode, True, True]
        assert json.loads((await client.call_tool("extensions")).text) == [False, None, None]
        one, two = [(await client.call_tool("same")).data for _ in range(2)]
        assert (one == two) is (mode == MODES[1])
        assert (await client.call_tool("hides")).data == 4


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("level", "unknown log level 'loud'"),
        ("notification", "no change of a list"),
        ("session", "ask by the Context"),
        ("sampling", "sample\\(result_type=\\)"),
        ("prompt", "Unknown prompt: 'absent'"),
    ],
)
async def test_what_a_context_cannot_do_is_told(what: str, words: str) -> None:
    async with Client(talking()) as client:
        with pytest.raises(FailedError, match=words):
            await client.call_tool("wrong", {"what": what})


async def test_a_request_has_headers_and_cookies_and_says_what_it_has_not() -> None:
    mcp = FastMCP("http")

    @mcp.tool
    async def request(found: Any = CurrentRequest()) -> list[Any]:
        try:
            _ = found.url
        except AttributeError as error:
            return [found.method, found.headers["X-Who"], found.cookies, "x-who" in found.headers, str(error)]
        return []

    async with http(mcp, "127.0.0.1", 0) as listener:
        headers = {"X-Who": "me", "Cookie": "a=1; b=2"}
        async with Client(f"http://127.0.0.1:{listener.port}/mcp", headers=headers) as client:
            found = json.loads((await client.call_tool("request")).text)
    assert found[:4] == ["POST", "me", {"a": "1", "b": "2"}, True]
    assert "no 'url'" in found[4]
    async with Client(mcp) as client:
        assert "No active HTTP request" in (await client.call_tool("request", raise_on_error=False)).text


def test_a_context_can_be_set() -> None:
    from erlmcp.compat.fastmcp.current import CONTEXT

    context = Context(FastMCP("x"))
    with set_context(context):
        assert CONTEXT.get() is context
    assert CONTEXT.get() is None


# -- transforms of one's own ---------------------------------------------------------------------------------------


class Secret(Transform):
    """Knows one of each that it does not list."""

    async def list_tools(self, tools: Any) -> Any:
        return []

    async def get_tool(self, name: str, call_next: Any, *, version: Any = None) -> Any:
        return await call_next(name.removeprefix("secret_"), version=version) if name.startswith("secret_") else None


async def test_a_transform_may_know_what_it_does_not_list() -> None:
    mcp = FastMCP("secret", transforms=[Secret()])
    mcp.add_tool(wide)
    mcp.add_resource(TextResource(uri="data://x", text="t"))
    mcp.add_prompt(Prompt.from_function(lambda who: f"hi {who}", name="p"))
    async with Client(mcp) as client:
        assert await client.list_tools() == []
        assert (await client.call_tool("secret_wide", {"text": "x", "limit": 3})).data == 3
        assert "Unknown tool" in (await client.call_tool("wide", raise_on_error=False)).text
        assert (await client.read_resource("data://x")).contents[0].text == "t"
        assert (await client.get_prompt("p", {"who": "you"})).messages[0].content.text == "hi you"
        assert [each.name for each in await client.list_prompts()] == ["p"]
        with pytest.raises(Exception, match="Resource not found"):
            await client.read_resource("data://absent")


async def test_what_is_local_can_be_taken_out() -> None:
    mcp = FastMCP()
    mcp.add_tool(wide)
    mcp.add_resource(Resource.from_function(lambda: "x", uri="data://x", name="x"))
    mcp.resource("data://{text}/{limit}")(wide)
    mcp.add_prompt(Prompt.from_function(wide))
    mcp.remove_tool("wide")
    mcp.remove_resource("data://x")
    mcp.remove_resource("data://{text}/{limit}")
    mcp.remove_prompt("wide")
    for found in (mcp.list_tools(), mcp.list_resources(), mcp.list_resource_templates(), mcp.list_prompts()):
        assert await found == []
    with pytest.raises(KeyError, match="'wide' not found"):
        mcp.remove_tool("wide")
    with pytest.raises(NotFoundError):
        await mcp.call_tool("wide")


async def test_payloads_are_logged_as_far_as_wanted(caplog: pytest.LogCaptureFixture) -> None:
    def fails(message: Any) -> str:
        raise ValueError("no words")

    async def broken(context: Any) -> Any:
        raise ToolError("broken")

    logged = LoggingMiddleware(include_payloads=True, max_payload_length=5, payload_serializer=fails, log_level=20)
    given = MiddlewareContext(message=Params(name="a tool"), method="tools/call")
    with caplog.at_level("INFO"), pytest.raises(ToolError):
        await logged(given, broken)
    text = caplog.text
    assert "no words" in text
    assert 'payload={"nam...' in text
    assert "event=request_error" in text
    silent = LoggingMiddleware(methods=["prompts/get"])
    caplog.clear()
    with pytest.raises(ToolError):
        await silent(given, broken)
    assert "request_start" not in caplog.text
