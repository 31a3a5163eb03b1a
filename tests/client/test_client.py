"""What a client does with a server that behaves: each kind of connection, both eras."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from ways import MODES, connected

from erlmcp import CallResult, Client, ConfigurationError, McpError, ResourceNotFoundError, ToolError
from erlmcp.client.bound import ClientLimits
from erlmcp.errors import ConnectionClosedError, LimitError


async def test_it_learns_who_the_server_is(way: Any, mode: str, loop_kind: str) -> None:
    async with way() as found, connected(found.target, mode=mode) as client:
        assert (client.protocol_version, client.era) == (MODES[mode], "modern" if mode == "auto" else "legacy")
        assert (client.server_info["name"], client.server_info["version"]) == ("shop", "3.1")
        assert client.instructions == "Ask before you buy."
        assert client.server_capabilities["tools"] == {"listChanged": True}
    assert not client.is_connected


@pytest.mark.parametrize("version", ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25", "2026-07-28"])
async def test_a_pinned_revision_is_the_one_that_is_spoken(memory: Any, version: str) -> None:
    async with memory() as found, connected(found.target, mode=version) as client:
        assert client.protocol_version == version
        result = await client.call_tool("add", {"a": 2, "b": 3})
        assert result.text == "5"
        assert result.structured_content == (None if version < "2025-06-18" else {"result": 5})


async def test_a_call_gives_data_content_and_structure(way: Any, mode: str, loop_kind: str) -> None:
    async with way() as found, connected(found.target, mode=mode) as client:
        assert (await client.call_tool("echo", {"text": "häj"})).data == "häj"
        result = await client.call_tool("weather", {"city": "Åre"})
        assert result.data == result.structured_content == {"city": "Åre", "celsius": 21.5}
        assert [block.type for block in result.content] == ["text"]
        assert not result.is_error
        assert isinstance(result, CallResult)


async def test_a_failure_of_the_tool_is_raised_or_given_as_one_likes(way: Any, mode: str) -> None:
    async with way() as found, connected(found.target, mode=mode) as client:
        with pytest.raises(ToolError, match="no pears") as raised:
            await client.call_tool("fail", {"text": "no pears"})
        assert raised.value.result.is_error  # type: ignore[attr-defined]
        result = await client.call_tool("fail", {"text": "no pears"}, raise_on_error=False)
        assert (result.is_error, result.data) == (True, "no pears")


async def test_a_refusal_is_an_error_with_its_code(way: Any, mode: str) -> None:
    async with way() as found, connected(found.target, mode=mode) as client:
        with pytest.raises(McpError, match="not today") as raised:
            await client.call_tool("refuse")
        assert (raised.value.code, raised.value.data) == (-31000, {"why": "closed"})
        with pytest.raises(McpError, match="Unknown tool"):
            await client.call_tool("nobody")


async def test_lists_come_with_all_their_pages(way: Any, mode: str) -> None:
    async with way() as found, connected(found.target, mode=mode) as client:
        tools = await client.list_tools()
        assert [tool.name for tool in tools][:3] == ["echo", "add", "weather"]
        assert len(tools) == 14
        assert tools[0].annotations is not None
        assert [item.uri for item in await client.list_resources()] == ["shop://opening"]
        assert [item.uri_template for item in await client.list_resource_templates()] == ["shop://stock/{item}"]
        assert [item.name for item in await client.list_prompts()] == ["greet"]


async def test_a_list_without_an_end_is_cut_off(memory: Any) -> None:
    async with memory() as found, connected(found.target, limits=ClientLimits(page_count_max=2)) as client:
        with pytest.raises(LimitError, match="page_count_max=2"):
            await client.list_tools()


async def test_resources_prompts_and_completions(way: Any, mode: str) -> None:
    async with way() as found, connected(found.target, mode=mode) as client:
        read = await client.read_resource("shop://opening")
        assert read.contents[0].text == "9 to 5"
        assert '"count":7' in (await client.read_resource("shop://stock/pear")).contents[0].text.replace(" ", "")
        with pytest.raises(ResourceNotFoundError):
            await client.read_resource("shop://nothing/at/all")
        prompt = await client.get_prompt("greet", {"name": "Ada"})
        assert prompt.messages[0].content.text == "Say hello to Ada."
        completion = await client.complete("name", "A", prompt="greet")
        assert completion.values == ["Ada", "Alan"]
        with pytest.raises(ConfigurationError, match="either prompt"):
            await client.complete("name", "A")
        await client.ping()


async def test_many_calls_come_back_in_their_order(way: Any, mode: str) -> None:
    async with way() as found, connected(found.target, mode=mode) as client:
        calls: list[Any] = [("turns", {"count": 20 - index}) for index in range(20)]
        assert [result.data for result in await client.call_many(calls)] == list(range(20, 0, -1))
        mixed = await client.call_many([("echo", {"text": "a"}), ("refuse", None)], raise_on_error=False)
        assert mixed[0].data == "a"
        assert isinstance(mixed[1], McpError)
        with pytest.raises(ToolError):
            await client.call_many([("fail", {"text": "x"}), ("wait", None)])


async def test_calls_of_one_turn_leave_in_one_write(tmp_path: Any, peer: Any) -> None:
    async def script(server: Any) -> None:
        await server.discover()
        for request in [await server.expect("tools/call") for _ in range(50)]:
            server.text(request, request["params"]["arguments"]["n"])

    async with peer(script) as target, connected(target) as client:
        before = client.channel.write_count  # type: ignore[union-attr]
        found = await client.call_many([("t", {"n": str(n)}) for n in range(50)])
        assert [result.data for result in found] == [str(n) for n in range(50)]
        assert client.channel.write_count - before == 1  # type: ignore[union-attr]


async def test_any_request_can_be_sent_raw(memory: Any) -> None:
    async with memory() as found, connected(found.target) as client:
        page = await client.request("tools/list")
        assert page["resultType"] == "complete"
        assert len(page["tools"]) == 4
        with pytest.raises(McpError, match="Method not found"):
            await client.request("no/such")
        await client.notify("notifications/whatever", {"a": 1})


async def test_progress_and_logs_reach_their_callbacks(way: Any, mode: str) -> None:
    logs: list[Any] = []
    async with way() as found, connected(found.target, mode=mode, on_log=logs.append) as client:
        heard: list[Any] = []
        await client.call_tool("steps", {"count": 3}, on_progress=lambda *args: heard.append(args))
        assert heard == [(1, 3, "step 1"), (2, 3, "step 2"), (3, 3, "step 3")]
        assert [(item["level"], item["data"], item["logger"]) for item in logs] == [("info", {"steps": 3}, "shop")]
        await client.set_log_level("debug")
        await client.call_tool("steps", {"count": 1})
        assert [item["level"] for item in logs] == ["info", "info", "debug"]
        await client.set_log_level("error")
        await client.call_tool("level")
        assert len(logs) == 3


async def test_callbacks_may_be_coroutines_and_may_fail(memory: Any, caplog: pytest.LogCaptureFixture) -> None:
    heard = asyncio.Event()

    async def on_log(params: dict[str, Any]) -> None:
        heard.set()
        raise ValueError("in the callback")

    def on_progress(*args: Any) -> None:
        raise ValueError("in the callback")

    async with memory() as found, connected(found.target, on_log=on_log, on_progress=on_progress) as client:
        assert (await client.call_tool("steps", {"count": 1})).data == "done"
        await heard.wait()
    assert "a callback failed" in caplog.text


async def test_a_client_that_is_not_connected_says_so(memory: Any) -> None:
    async with memory() as found:
        client = Client(found.target)
        with pytest.raises(ConnectionClosedError, match="not connected"):
            await client.ping()
        await client.connect()
        await client.connect()
        await client.ping()
        await client.aclose()
        await client.aclose()
        with pytest.raises(ConnectionClosedError, match="not connected"):
            await client.ping()
        await client.connect()
        await client.ping()
        await client.aclose()


async def test_it_may_be_opened_by_one_task_and_closed_by_another(way: Any) -> None:
    async with way() as found:
        client = Client(found.target)
        async with asyncio.TaskGroup() as group:
            for _ in range(3):
                group.create_task(client.connect())
        waiting = asyncio.create_task(client.call_tool("wait"))
        await client.ping()
        async with asyncio.TaskGroup() as group:
            for _ in range(3):
                group.create_task(client.aclose())
        with pytest.raises(ConnectionClosedError, match="the client closed"):
            await waiting


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("no-such-program-anywhere", "nothing a client can connect to"),
        ("tcp://127.0.0.1", "tcp://host:port"),
        ("unix:", "needs a path"),
        ({"args": []}, "'command' or 'url'"),
        ({"mcpServers": {"a": {"command": "x"}, "b": {"command": "y"}}}, "give one of them: a, b"),
        (7, "nothing a client can connect to"),
        ([], "nothing a client can connect to"),
    ],
)
def test_a_target_that_cannot_be_is_refused_at_once(target: Any, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        Client(target)


@pytest.mark.parametrize("options", [{"headers": {"a": "b"}}, {"tls": object()}, {"http2": False}])
def test_words_for_http_are_refused_where_the_target_is_no_url(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match="are for a URL"):
        Client(["python"], **options)
    Client("http://127.0.0.1:1/mcp", **dict.fromkeys(options))


def test_a_mode_or_level_that_is_unknown_is_refused_at_once(tmp_path: Any) -> None:
    with pytest.raises(ConfigurationError, match="2026-01-01"):
        Client(["x"], mode="2026-01-01")
    with pytest.raises(ConfigurationError, match="loud"):
        Client(["x"], log_level="loud")
    with pytest.raises(ConfigurationError, match="no socket"):
        Client(tmp_path)
    with pytest.raises(ConfigurationError, match="inflight_count_max"):
        ClientLimits(inflight_count_max=0)


async def test_what_json_cannot_hold_is_refused_and_harms_nobody(way: Any) -> None:
    async with way() as found, connected(found.target) as client:
        with pytest.raises(ValueError, match="set"):
            await client.call_tool("echo", {"text": {1, 2}})
        assert (await client.call_tool("echo", {"text": "still here"})).data == "still here"
        assert client.channel.inflight_count == 0  # type: ignore[union-attr]
