"""What is the first line's own: its settings, its in-process answers, its ways to serve."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from erlmcp import Client, ConfigurationError
from erlmcp.compat.sdk.resources import TextResource
from erlmcp.compat.v1 import Context, FastMCP, Image
from erlmcp.compat.v1.exceptions import McpError, ResourceError, ToolError, UrlElicitationRequiredError
from erlmcp.compat.v1.prompts import base
from erlmcp.compat.v1.types import CallToolResult, ErrorData, TextContent


def make(**settings: Any) -> FastMCP:
    mcp = FastMCP("first", **settings)

    @mcp.tool()
    def add(a: int, b: int) -> int:
        return a + b

    @mcp.tool()
    def free(value: Any) -> Any:
        return [value, Image(data=b"x", format="png")]

    return mcp


# -- settings ---------------------------------------------------------------------------------------------------------


def test_settings_are_the_constructors_then_the_environments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FASTMCP_PORT", "9001")
    monkeypatch.setenv("FASTMCP_STATELESS_HTTP", "true")
    monkeypatch.setenv("FASTMCP_LOG_LEVEL", "ERROR")
    mcp = FastMCP(port=9002, host="0.0.0.0", dependencies=("a",))
    found = mcp.settings
    assert (found.port, found.host, found.stateless_http, found.log_level) == (9002, "0.0.0.0", True, "ERROR")
    assert (mcp.name, mcp.dependencies) == ("FastMCP", ["a"])
    assert FastMCP().settings.port == 9001
    monkeypatch.setenv("FASTMCP_DEBUG", "perhaps")
    with pytest.raises(ValueError, match="FASTMCP_DEBUG='perhaps' is no boolean"):
        FastMCP()


def test_settings_may_be_changed_until_it_serves() -> None:
    mcp = make()
    mcp.settings.streamable_http_path = "/other"
    mcp.settings.max_sessions = 5
    assert mcp._http_setting().gate.path == "/other"
    assert mcp.kernel.limits.session_count_max == 5
    assert mcp._sse_setting("/github").mount_path == "/github"


@pytest.mark.parametrize(
    ("options", "reason"),
    [({"event_store": object()}, "keeps the events"), ({"retry_interval": 5}, "come back after")],
)
def test_what_is_not_served_is_refused_with_a_reason(options: dict[str, Any], reason: str) -> None:
    with pytest.raises(ConfigurationError, match=reason):
        FastMCP("x", **options)
    with pytest.raises(TypeError, match="unexpected keyword argument 'prot'"):
        FastMCP("x", prot=1)


# -- within the process -----------------------------------------------------------------------------------------------


async def test_a_tool_with_a_schema_gives_blocks_and_data_and_one_without_its_blocks() -> None:
    mcp = make()
    blocks, data = await mcp.call_tool("add", {"a": 1, "b": 2})
    assert (blocks[0].text, data) == ("3", {"result": 3})
    blocks = await mcp.call_tool("free", {"value": "x"})
    assert [each.type for each in blocks] == ["text", "image"]
    assert (blocks[0].text, blocks[1].mimeType) == ("x", "image/png")

    @mcp.tool()
    def whole() -> CallToolResult:
        return CallToolResult(content=[TextContent(type="text", text="a")], isError=True)

    assert (await mcp.call_tool("whole", {})).isError is True


async def test_failures_within_the_process_say_what_was_raised() -> None:
    mcp = make()

    @mcp.tool()
    def crash() -> str:
        raise KeyError("why")

    @mcp.tool()
    def needs_url() -> str:
        raise UrlElicitationRequiredError([{"mode": "url", "message": "m", "url": "https://a", "elicitationId": "e"}])

    @mcp.tool()
    def protocol() -> str:
        raise McpError(ErrorData(code=-1, message="no error of the protocol here"))

    with pytest.raises(ToolError, match="Error executing tool crash: 'why'"):
        await mcp.call_tool("crash", {})
    with pytest.raises(UrlElicitationRequiredError):
        await mcp.call_tool("needs_url", {})
    with pytest.raises(ToolError, match="no error of the protocol here"):
        await mcp.call_tool("protocol", {})
    with pytest.raises(ResourceError, match="Unknown resource: a://b"):
        await mcp.read_resource("a://b")


async def test_prompts_and_resources_are_given_by_the_wires_names() -> None:
    mcp = make()

    @mcp.prompt()
    def ask(name: str) -> list[base.Message]:
        return [base.UserMessage(f"Hello {name}")]

    @mcp.resource("users://{name}", mime_type="text/x-own")
    async def user(name: str) -> str:
        return name

    mcp.add_resource(TextResource(uri="text://a", text="t"))
    assert (await mcp.get_prompt("ask", {"name": "Ada"})).messages[0].content.text == "Hello Ada"
    assert (await mcp.list_resource_templates())[0].uriTemplate == "users://{name}"
    assert (await mcp.list_resources())[0].mimeType == "text/plain"
    assert (await mcp.list_tools())[0].inputSchema["title"] == "addArguments"
    assert (await mcp.list_prompts())[0].arguments[0].required is True
    (found,) = await mcp.read_resource("users://a%20b")
    assert (found.content, found.mime_type) == ("a%20b", "text/x-own")


def test_a_context_without_a_request_knows_its_server() -> None:
    mcp = make()
    assert mcp.get_context().fastmcp is mcp
    with pytest.raises(ValueError, match="outside of a request"):
        _ = Context().fastmcp


async def test_ordinary_functions_run_on_the_loop_as_the_first_line_has_it() -> None:
    mcp = make()

    @mcp.tool()
    def where() -> bool:
        asyncio.get_running_loop()
        return threading.current_thread() is threading.main_thread()

    @mcp.resource("config://context")
    def with_context(ctx: Context) -> str:
        return str(ctx.fastmcp.name)

    async with Client(mcp.kernel) as client:
        assert (await client.call_tool("where")).data is True
        assert (await client.read_resource("config://context")).contents[0].text == "first"


# -- ways to serve ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stateless", [False, True])
async def test_it_serves_http_where_its_settings_say(stateless: bool) -> None:
    mcp = make(stateless_http=stateless, streamable_http_path="/own")
    setting = mcp._http_setting()
    async with (
        mcp._opening(setting, "127.0.0.1", 0) as listener,
        Client(f"http://127.0.0.1:{listener.port}/own") as client,
    ):
        assert (await client.call_tool("add", {"a": 1, "b": 2})).data == 3


async def test_the_old_transport_tells_clients_to_post_below_where_it_is_mounted() -> None:
    mcp = make()
    async with mcp._opening(mcp._sse_setting("/github"), "127.0.0.1", 0) as listener:
        reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
        writer.write(b"GET /sse HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n")
        async with asyncio.timeout(10):
            assert b"data: /github/messages?session_id=" in await reader.readuntil(b"session_id=")
        writer.close()


def test_its_applications_are_starlettes() -> None:
    starlette = pytest.importorskip("starlette.applications").Starlette
    mcp = make()
    assert isinstance(mcp.sse_app("/github"), starlette)
    assert isinstance(mcp.streamable_http_app(), starlette)
    assert mcp.session_manager is not None


async def test_an_unknown_transport_and_a_loop_that_runs_are_refused() -> None:
    with pytest.raises(ValueError, match="Unknown transport"):
        make().run("http")
    with pytest.raises(RuntimeError, match="await run_"):
        make().run("streamable-http")
