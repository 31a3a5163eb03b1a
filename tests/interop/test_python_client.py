"""The official Python client (mcp 2.3.0) against erlmcp: legacy, auto and pinned to 2026-07-28, over HTTP and stdio."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

pytest.importorskip("mcp.client.client", reason="the official client is not installed (extra: test)")
import mcp_types as types
from mcp.client.client import Client
from mcp.client.stdio import StdioServerParameters
from mcp.shared.exceptions import MCPDeprecationWarning, MCPError

pytestmark = pytest.mark.interop

MODERN = "2026-07-28"
LATEST = "2025-11-25"
MODES = {"legacy": LATEST, "auto": MODERN, MODERN: MODERN}


class Talk:
    """A client of one mode over one transport, and what it was asked and told."""

    def __init__(self, target: Any, mode: str) -> None:
        self.mode = mode
        self.told: list[Any] = []
        self.logged: list[str] = []
        self._target = target

    async def _elicit(self, context: Any, params: Any) -> Any:
        self.told.append(params.message)
        properties = getattr(params, "requested_schema", {}).get("properties", {})
        values = {"days": 3, "name": "Ada", "color": "red", "username": "ada", "email": "ada@example.com", "ok": True}
        return types.ElicitResult(
            action="accept", content={name: values[name] for name in properties if name in values}
        )

    async def _sample(self, context: Any, params: Any) -> Any:
        self.told.append(params.messages[0].content.text)
        return types.CreateMessageResult(role="assistant", content=types.TextContent(text="sampled"), model="none")

    async def _roots(self, context: Any) -> Any:
        return types.ListRootsResult(roots=[types.Root(uri="file:///home/ada")])

    async def _log(self, params: Any) -> None:
        self.logged.append(params.data)

    def run(self, work: Callable[[Any], Awaitable[None]]) -> None:
        async def main() -> None:
            async with (
                asyncio.timeout(30),
                Client(
                    self._target,
                    mode=self.mode,
                    elicitation_callback=self._elicit,
                    sampling_callback=self._sample,
                    list_roots_callback=self._roots,
                    logging_callback=self._log,
                    log_level="info",
                ) as client,
            ):
                assert client.protocol_version == MODES[self.mode]
                await work(client)

        asyncio.run(main())


@pytest.fixture(params=["http", "stdio"])
def target(request: pytest.FixtureRequest, url: str, command: list[str]) -> Any:
    if request.param == "http":
        return url
    return StdioServerParameters(command=command[0], args=command[1:], env=dict(os.environ))


@pytest.fixture(params=list(MODES))
def talk(request: pytest.FixtureRequest, target: Any) -> Talk:
    return Talk(target, request.param)


def text(result: Any) -> str:
    return str(result.content[0].text)


def test_it_lists_and_calls_tools(talk: Talk) -> None:
    async def work(client: Any) -> None:
        if talk.mode != MODERN:  # a pinned client never asks who the server is
            assert client.server_info.name == "everything"
            assert "book_trip" in client.instructions
        tools = {tool.name: tool for tool in (await client.list_tools()).tools}
        assert tools["add"].input_schema["required"] == ["a"]
        assert tools["add"].annotations.read_only_hint is True
        found = await client.call_tool("add", {"a": 40, "b": 2})
        assert (text(found), found.structured_content) == ("42", {"result": 42})
        found = await client.call_tool("weather", {"city": "Åre"})
        assert found.structured_content == {"city": "Åre", "celsius": 23.0, "sky": "clear"}
        found = await client.call_tool("test_error_handling")
        assert found.is_error
        assert (await client.call_tool("add", {"a": "no number"})).is_error
        with pytest.raises(MCPError, match="Unknown tool"):
            await client.call_tool("nobody")
        found = await client.call_tool("test_multiple_content_types")
        assert [block.type for block in found.content] == ["text", "image", "resource"]
        found = await client.call_tool("test_x_mcp_header", {"region": "Malmö"})
        assert text(found) == "Region: Malmö"

    talk.run(work)


def test_it_follows_progress_and_logs(talk: Talk) -> None:
    async def work(client: Any) -> None:
        seen: list[Any] = []

        async def progress(value: float, total: float | None, message: str | None) -> None:
            seen.append((value, total))

        await client.call_tool("test_tool_with_progress", progress_callback=progress)
        assert seen == [(0, 100), (50, 100), (100, 100)]
        if talk.mode == "legacy":
            with pytest.warns(MCPDeprecationWarning):
                await client.set_logging_level("info")
        await client.call_tool("test_tool_with_logging")
        assert len(talk.logged) == 3

    talk.run(work)


def test_it_answers_questions_in_either_era(talk: Talk) -> None:
    async def work(client: Any) -> None:
        found = await client.call_tool("book_trip", {"destination": "Lund"})
        assert text(found) == "3 days in Lund are booked."
        assert text(await client.call_tool("test_sampling", {"prompt": "Say it"})) == "LLM response: sampled"
        assert "file:///home/ada" in text(await client.call_tool("test_input_required_result_list_roots"))
        assert text(await client.call_tool("test_input_required_result_multi_round")) == "Ada likes red"
        assert text(await client.call_tool("test_input_required_result_request_state")) == "state-ok"
        found = await client.call_tool("test_input_required_result_multiple_inputs")
        assert text(found) == "sampled Ada, 1 roots"
        assert talk.told[:2] == ["How many days in Lund?", "Say it"]

    talk.run(work)


def test_it_reads_resources_and_prompts_and_completes(talk: Talk) -> None:
    async def work(client: Any) -> None:
        uris = {str(resource.uri) for resource in (await client.list_resources()).resources}
        assert "test://static-text" in uris
        templates = (await client.list_resource_templates()).resource_templates
        assert "shop://stock/{item}" in {template.uri_template for template in templates}
        found = await client.read_resource("test://static-text")
        assert found.contents[0].text == "This is the content of the static text resource."
        assert (await client.read_resource("test://static-binary")).contents[0].mime_type == "image/png"
        assert '"count": 3' in (await client.read_resource("shop://stock/apple")).contents[0].text.replace(":3", ": 3")
        with pytest.raises(MCPError) as caught:
            await client.read_resource("shop://stock/nothing")
        assert caught.value.error.code == (-32002 if talk.mode == "legacy" else -32602)
        prompts = {prompt.name for prompt in (await client.list_prompts()).prompts}
        assert "test_simple_prompt" in prompts
        found = await client.get_prompt("test_prompt_with_arguments", {"arg1": "a", "arg2": "b"})
        assert found.messages[0].content.text == "Prompt with arguments: arg1='a', arg2='b'"
        reference = types.PromptReference(name="test_prompt_with_arguments")
        found = await client.complete(reference, {"name": "arg1", "value": "par"})
        assert found.completion.values == ["paris", "park", "party"]

    talk.run(work)


def test_it_hears_of_changes(talk: Talk) -> None:
    async def work(client: Any) -> None:
        if talk.mode == "legacy":
            with pytest.warns(MCPDeprecationWarning):
                await client.subscribe_resource("shop://stock/apple")
            with pytest.warns(MCPDeprecationWarning):
                await client.unsubscribe_resource("shop://stock/apple")
            return
        async with client.listen(tools_list_changed=True, resource_subscriptions=["shop://stock/pear"]) as events:
            assert events.honored.tools_list_changed is True
            await client.call_tool("restock", {"item": "pear", "count": 1})
            event = await anext(aiter(events))
            assert (type(event).__name__, event.uri) == ("ResourceUpdated", "shop://stock/pear")
            await client.call_tool("test_trigger_tool_change")
            assert type(await anext(aiter(events))).__name__ == "ToolsListChanged"

    talk.run(work)


def test_it_makes_many_calls_at_once_and_cancels_some(talk: Talk) -> None:
    async def work(client: Any) -> None:
        found = await asyncio.gather(*[client.call_tool("add", {"a": n, "b": n}) for n in range(50)])
        assert [text(result) for result in found] == [str(2 * n) for n in range(50)]
        slow = asyncio.ensure_future(client.call_tool("slow", {"seconds": 20}))
        await asyncio.sleep(0.1)
        slow.cancel()
        with pytest.raises(asyncio.CancelledError):
            await slow
        assert text(await client.call_tool("add", {"a": 1})) == "2"

    talk.run(work)
