"""FastMCP's client, over erlmcp's, and proxies."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Any

import pytest

from erlmcp.compat.fastmcp import Client, Context, FastMCP
from erlmcp.compat.fastmcp.client import ElicitResult, PythonStdioTransport, StdioTransport, StreamableHttpTransport
from erlmcp.compat.fastmcp.client.messages import MessageHandler
from erlmcp.compat.fastmcp.client.target import target_of
from erlmcp.compat.fastmcp.exceptions import ToolError
from erlmcp.compat.fastmcp.server import create_proxy
from erlmcp.compat.fastmcp.server.middleware import Middleware
from erlmcp.server.serve import http

MODES = ("2026-07-28", "2025-11-25")


@dataclass
class Place:
    name: str
    founded: dt.date
    tags: set[str]


@dataclass
class Trip:
    to: Place
    nights: int = 2


def trips() -> list[Trip]:
    return [Trip(Place("Oslo", dt.date(1048, 1, 1), set()))]


def shop() -> FastMCP:
    mcp = FastMCP("shop", instructions="Buy.", version="3")

    @mcp.tool
    def add(a: int, b: int) -> int:
        return a + b

    @mcp.tool
    def trip() -> Trip:
        return Trip(Place("Oslo", dt.date(1048, 1, 1), {"cold"}))

    mcp.tool(trips)

    @mcp.tool
    def when() -> dt.datetime:
        return dt.datetime(2026, 7, 28, 12)

    @mcp.tool
    def free() -> dict[str, Any]:
        return {"a": 1}

    @mcp.tool
    def text():
        return "words"

    @mcp.tool
    def breaks() -> int:
        raise ToolError("sold out")

    @mcp.tool
    async def asks(ctx: Context) -> str:
        found = await ctx.elicit("who?", response_type=str)
        return f"{found.action} {getattr(found, 'data', None)}"

    @mcp.tool
    async def samples(ctx: Context) -> str:
        return (await ctx.sample("say hi", system_prompt="briefly", temperature=0.5)).text

    @mcp.tool
    async def tells(ctx: Context) -> str:
        await ctx.info("working", extra={"n": 1})
        await ctx.report_progress(1, 2, "half")
        return str((await ctx.list_roots())[0]["uri"])

    @mcp.tool(version="1")
    def dated() -> str:
        return "old"

    @mcp.tool(name="dated", version="2")
    def dated_again() -> str:
        return "new"

    @mcp.resource("data://words")
    def words() -> str:
        return "words"

    @mcp.resource("data://{name}/bytes", mime_type="image/png")
    def some(name: str) -> bytes:
        return name.encode()

    @mcp.prompt
    def ask(topic: str, numbers: list[int] | None = None) -> str:
        return f"{topic} {numbers}"

    @mcp.completion
    def complete(ref: Any, argument: Any, context: Any) -> list[str]:
        return [f"{argument.name}-{argument.value}"]

    return mcp


@pytest.mark.parametrize("mode", MODES)
async def test_data_is_the_value_as_the_schema_says(mode: str) -> None:
    async with Client(shop(), mode=mode) as client:
        found = await client.call_tool("add", {"a": 1, "b": 2})
        assert (found.data, found.structured_content, found.content[0].text) == (3, {"result": 3}, "3")
        assert found.meta == {"fastmcp": {"wrap_result": True}} or mode == MODES[0]
        trip = (await client.call_tool("trip")).data
        assert (trip.to.name, trip.to.founded, trip.to.tags, trip.nights) == ("Oslo", dt.date(1048, 1, 1), {"cold"}, 2)
        assert (await client.call_tool("trips")).data[0].to.name == "Oslo"
        assert (await client.call_tool("when")).data == dt.datetime(2026, 7, 28, 12)
        assert (await client.call_tool("free")).data == {"a": 1}
        words = await client.call_tool("text")
        assert (words.data, words.content[0].text) == (None, "words")


@pytest.mark.parametrize("mode", MODES)
async def test_a_failure_is_raised_or_given(mode: str) -> None:
    async with Client(shop(), mode=mode) as client:
        with pytest.raises(ToolError, match="sold out"):
            await client.call_tool("breaks")
        found = await client.call_tool("breaks", raise_on_error=False)
        assert (found.is_error, found.data) == (True, None)
        assert (await client.call_tool_mcp("breaks", {})).is_error


@pytest.mark.parametrize("mode", MODES)
async def test_handlers_answer_and_hear(mode: str) -> None:
    heard: list[Any] = []

    async def elicitation(message: str, wanted: Any, params: Any, context: Any) -> Any:
        heard.append((message, [*wanted.__dataclass_fields__]))
        return wanted(value="Ada")

    async def sampling(messages: Any, params: Any, context: Any) -> str:
        return f"{messages[0].content.text} {params.system_prompt} {params.max_tokens}"

    async def log(message: Any) -> None:
        heard.append((message.level, message.data))

    async def progress(done: float, total: float | None, message: str | None) -> None:
        heard.append((done, total, message))

    client = Client(
        shop(),
        mode=mode,
        elicitation_handler=elicitation,
        sampling_handler=sampling,
        log_handler=log,
        progress_handler=progress,
        roots=["file:///here"],
    )
    async with client:
        assert (await client.call_tool("asks")).data == "accept Ada"
        assert (await client.call_tool("samples")).data == "say hi briefly 512"
        assert (await client.call_tool("tells")).data == "file:///here"
    assert ("who?", ["value"]) in heard
    assert ("info", {"msg": "working", "extra": {"n": 1}}) in heard
    assert (1.0, 2.0, "half") in heard


async def test_an_elicitation_handler_may_give_a_bare_value_or_decline() -> None:
    answers: list[Any] = ["Bob", ElicitResult("decline"), ElicitResult("accept", {"value": "Cy"})]

    async def elicitation(*_: Any) -> Any:
        return answers.pop(0)

    async with Client(shop(), mode=MODES[1], elicitation_handler=elicitation) as client:
        found = [(await client.call_tool("asks")).data for _ in range(3)]
    assert found == ["accept Bob", "decline None", "accept Cy"]


@pytest.mark.parametrize("mode", MODES)
async def test_the_rest_of_a_server_is_read(mode: str) -> None:
    async with Client(shop(), mode=mode) as client:
        assert (client.server_info.name, client.server_info.version) == ("shop", "3") or mode == MODES[0]
        assert client.instructions == "Buy."
        assert client.protocol_version == mode
        assert [each.uri for each in await client.list_resources()] == ["data://words"]
        assert [each.uri_template for each in await client.list_resource_templates()] == ["data://{name}/bytes"]
        assert [each.name for each in await client.list_prompts()] == ["ask"]
        assert (await client.read_resource("data://words"))[0].text == "words"
        assert (await client.read_resource("data://x/bytes"))[0].blob == "eA=="
        said = await client.get_prompt("ask", {"topic": "t", "numbers": [1, 2]})
        assert said.messages[0].content.text == "t [1, 2]"
        completion = await client.complete({"type": "ref/prompt", "name": "ask"}, {"name": "topic", "value": "v"})
        assert completion.values == ["topic-v"]
        assert (await client.call_tool("dated")).data == "new"
        assert (await client.call_tool("dated", version="1")).data == "old"


async def test_a_client_is_entered_several_times_and_closes_with_the_last() -> None:
    client = Client(shop())
    with pytest.raises(RuntimeError, match="not connected"):
        await client.list_tools()
    async with client:
        async with client:
            assert await client.ping()
        assert client.is_connected()
        async with client.new() as other:
            assert (await other.call_tool("add", {"a": 1, "b": 1})).data == 2
    assert not client.is_connected()


def test_targets_are_what_fastmcp_takes() -> None:
    assert target_of("https://x/mcp") == ("https://x/mcp", {})
    assert target_of(StreamableHttpTransport("https://x", auth="abc")) == (
        "https://x",
        {"Authorization": "Bearer abc"},
    )
    assert target_of(StdioTransport("node", ["x.js"]))[0] == {"command": "node", "args": ["x.js"]}
    assert target_of("server.py")[0]["args"] == ["server.py"]
    assert target_of(PythonStdioTransport("a.py", ["-v"], env={"A": "1"}))[0]["env"] == {"A": "1"}
    assert target_of({"mcpServers": {"a": {"url": "https://x"}}})[0] == {"mcpServers": {"a": {"url": "https://x"}}}
    with pytest.raises(NotImplementedError, match="bearer token"):
        Client("https://x", auth="oauth")
    with pytest.raises(NotImplementedError, match="Client\\(verify=\\)"):
        Client("https://x", verify=False)


@pytest.mark.parametrize("mode", MODES)
async def test_a_proxy_hands_on_what_is_behind_and_what_is_added(mode: str) -> None:
    behind = shop()
    async with http(behind, "127.0.0.1", 0) as listener:
        proxy = create_proxy(f"http://127.0.0.1:{listener.port}/mcp", mode=mode, name="front")

        @proxy.tool
        def local() -> str:
            return "local"

        async with Client(proxy, mode=mode) as client:
            names = [each.name for each in await client.list_tools()]
            assert {"add", "trip", "local"} <= set(names)
            assert (await client.call_tool("add", {"a": 2, "b": 3})).data == 5
            assert (await client.call_tool("local")).data == "local"
            assert (await client.call_tool("trip")).data.to.name == "Oslo"
            assert "sold out" in (await client.call_tool("breaks", raise_on_error=False)).content[0].text
            assert (await client.read_resource("data://words"))[0].text == "words"
            assert (await client.read_resource("data://x/bytes"))[0].blob == "eA=="
            assert (await client.get_prompt("ask", {"topic": "t"})).messages[0].content.text == "t None"


async def test_a_proxy_of_several_servers_names_them() -> None:
    async with http(shop(), "127.0.0.1", 0) as one, http(shop(), "127.0.0.1", 0) as two:
        entries = {
            "left": {"url": f"http://127.0.0.1:{one.port}/mcp"},
            "right": {"url": f"http://127.0.0.1:{two.port}/mcp"},
        }
        async with Client({"mcpServers": entries}) as client:
            assert (await client.call_tool("left_add", {"a": 1, "b": 1})).data == 2
            assert (await client.call_tool("right_add", {"a": 2, "b": 2})).data == 4
            assert (await client.read_resource("data://left/words"))[0].text == "words"
            assert (await client.read_resource("data://right/x/bytes"))[0].blob == "eA=="


async def test_a_proxy_can_be_mounted() -> None:
    async with http(shop(), "127.0.0.1", 0) as listener:
        whole = FastMCP("whole")
        whole.mount(FastMCP.as_proxy(f"http://127.0.0.1:{listener.port}/mcp"), namespace="shop")
        async with Client(whole) as client:
            assert "shop_add" in [each.name for each in await client.list_tools()]
            assert (await client.call_tool("shop_add", {"a": 1, "b": 4})).data == 5


class Listening(MessageHandler):
    """Notes what it hears."""

    def __init__(self) -> None:
        self.heard: list[str] = []

    async def on_tool_list_changed(self, message: Any) -> None:
        self.heard.append(message.method)


async def test_a_message_handler_hears_of_changes() -> None:
    mcp, listening = shop(), Listening()

    @mcp.tool
    async def grows(ctx: Context) -> int:
        mcp.add_tool(lambda: 1, name="grown")
        return len(await ctx.list_tools())

    async with Client(mcp, mode=MODES[1], message_handler=listening) as client:
        assert (await client.call_tool("grows")).data == 14
        await client.ping()
    assert listening.heard == ["notifications/tools/list_changed"]


@pytest.mark.parametrize("mode", MODES)
async def test_questions_pass_through_middleware(mode: str) -> None:
    seen: list[str] = []

    class Passing(Middleware):
        async def on_call_tool(self, context: Any, call_next: Any) -> Any:
            seen.append(context.message.name)
            return await call_next(context)

    async def elicitation(*_: Any) -> Any:
        return "Ada"

    mcp = shop()
    mcp.add_middleware(Passing())
    whole = FastMCP("whole")
    whole.mount(mcp, "in")
    async with Client(whole, mode=mode, elicitation_handler=elicitation) as client:
        assert (await client.call_tool("in_asks")).data == "accept Ada"
    assert seen == ["asks"] * (2 if mode == MODES[0] else 1)  # the tool runs again with the answer


async def test_a_mounted_server_that_grew_is_served_by_itself_too() -> None:
    child, parent = FastMCP("child"), FastMCP("parent")
    parent.mount(child, "c")
    async with Client(parent) as outer:
        child.add_tool(lambda: "new", name="new")
        assert (await outer.call_tool("c_new")).data is None
        async with Client(child) as client:
            assert (await client.call_tool("new")).content[0].text == "new"
