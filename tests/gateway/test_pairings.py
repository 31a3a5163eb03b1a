"""Every feature through the gateway, for clients and upstreams of either era, in this process and over HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from stage import until

from erlmcp import CallTimeoutError, McpError, ResourceNotFoundError, ToolError

Through = Callable[..., Any]
ERAS = ("legacy", "modern")
PAIRS = [
    (down, up, way, over) for down in ERAS for up in ERAS for way, over in (("memory", "memory"), ("http", "http"))
]
PAIRS += [("legacy", "legacy", "http", "memory"), ("modern", "legacy", "memory", "http")]


@pytest.fixture(params=PAIRS, ids="-".join)
def pair(request: pytest.FixtureRequest) -> tuple[str, ...]:
    pair: tuple[str, ...] = request.param
    return pair


async def test_tools_are_listed_and_called_under_the_names_of_the_gateway(through: Through, pair: Any) -> None:
    async with through(*pair) as setting:
        client = setting.client
        names = [tool.name for tool in await client.list_tools()]
        assert names == [f"shop_{name}" for name in setting.server.tools]
        assert (await client.call_tool("shop_echo", {"text": "é\n"})).data == "é\n"
        weather = await client.call_tool("shop_weather", {"city": "Oslo"})
        assert weather.structured_content == {"city": "Oslo", "celsius": 21.5}
        with pytest.raises(ToolError, match="so sad"):
            await client.call_tool("shop_fail", {"text": "so sad"})
        with pytest.raises(McpError) as refused:
            await client.call_tool("shop_refuse")
        assert (refused.value.code, refused.value.message, refused.value.data) == (
            -31000,
            "not today",
            {"why": "closed"},
        )
        with pytest.raises(McpError, match="Unknown tool: echo") as unknown:
            await client.call_tool("echo", {"text": "x"})
        assert unknown.value.code == -32602


async def test_arguments_that_do_not_fit_are_told_by_the_upstream(through: Through, pair: Any) -> None:
    async with through(*pair) as setting:
        result = await setting.client.call_tool("shop_add", {"a": "x"}, raise_on_error=False)
        assert result.is_error
        assert "a" in result.text


async def test_progress_and_logs_reach_the_one_who_called(through: Through, pair: Any) -> None:
    steps: list[Any] = []
    logs: list[Any] = []
    async with through(*pair, on_log=logs.append, log_level="info") as setting:
        result = await setting.client.call_tool(
            "shop_steps", {"count": 3}, on_progress=lambda done, total, text: steps.append((done, total, text))
        )
        assert result.data == "done"
        await until(lambda: len(logs) == 1 and len(steps) == 3)
        assert steps == [(1, 3, "step 1"), (2, 3, "step 2"), (3, 3, "step 3")]
        assert logs[0]["data"] == {"steps": 3}
        assert (logs[0]["level"], logs[0]["logger"]) == ("info", "shop")


async def test_without_a_level_no_logs_come_in_the_modern_era(through: Through) -> None:
    for up in ERAS:
        heard: list[Any] = []
        async with through("modern", up, on_notification=lambda *each: heard.append(each)) as setting:  # noqa: B023
            assert (await setting.client.call_tool("shop_steps", {"count": 1})).data == "done"
            assert heard == []


async def test_the_upstream_asks_the_user_the_model_and_for_roots(through: Through, pair: Any) -> None:
    asked: list[Any] = []

    def elicit(params: dict[str, Any]) -> dict[str, Any]:
        asked.append(params)
        return {"count": 3}

    handlers: dict[str, Any] = {
        "elicitation": elicit,
        "sampling": lambda params: f"thought of {params['messages'][0]['content']['text']}",
        "roots": ["file:///home"],
    }
    async with through(*pair, **handlers) as setting:
        client = setting.client
        assert (await client.call_tool("shop_order", {"item": "pears"})).data == "3 pears"
        assert asked[0]["message"] == "How many of pears?"
        assert asked[0]["requestedSchema"]["properties"] == {"count": {"type": "integer"}}
        assert (await client.call_tool("shop_think", {"prompt": "rain"})).data == "thought of rain"
        assert (await client.call_tool("shop_places")).data == ["file:///home"]
        assert (await client.call_tool("shop_echo", {"text": "after"})).data == "after"


async def test_two_questions_one_after_the_other_are_two_rounds(through: Through, pair: Any) -> None:
    answers = iter([{"x": 1}, {"x": 2}])
    async with through(*pair, elicitation=lambda params: next(answers)) as setting:
        assert (await setting.client.call_tool("shop_twice")).data == "{'x': 1} {'x': 2}"


async def test_a_client_that_declines_is_heard(through: Through, pair: Any) -> None:
    async with through(*pair, elicitation=lambda params: None) as setting:
        assert (await setting.client.call_tool("shop_order", {"item": "figs"})).data == "decline"


async def test_a_client_that_answers_nothing_is_not_asked(through: Through, pair: Any) -> None:
    async with through(*pair) as setting:
        with pytest.raises((McpError, ToolError)):
            await setting.client.call_tool("shop_order", {"item": "pears"})


async def test_resources_and_templates_are_read(through: Through, pair: Any) -> None:
    async with through(*pair) as setting:
        client = setting.client
        assert [str(each.uri) for each in await client.list_resources()] == ["shop://opening"]
        assert [each.uri_template for each in await client.list_resource_templates()] == ["shop://stock/{item}"]
        assert (await client.read_resource("shop://opening")).contents[0].text == "9 to 5"
        assert '"count":7' in (await client.read_resource("shop://stock/fig")).contents[0].text.replace(" ", "")
        with pytest.raises(ResourceNotFoundError) as missing:
            await client.read_resource("shop://nothing/at/all")
        assert missing.value.uri == "shop://nothing/at/all"


async def test_prompts_are_given_and_completed(through: Through, pair: Any) -> None:
    async with through(*pair) as setting:
        client = setting.client
        assert [prompt.name for prompt in await client.list_prompts()] == ["shop_greet"]
        prompt = await client.get_prompt("shop_greet", {"name": "Ada"})
        assert prompt.messages[0].content.text == "Say hello to Ada."
        assert (await client.complete("name", "A", prompt="shop_greet")).values == ["Ada", "Alan"]
        assert (await client.complete("item", "x", resource="shop://stock/{item}")).values == []
        with pytest.raises(McpError, match="Unknown prompt: greet"):
            await client.complete("name", "A", prompt="greet")


async def test_a_call_that_is_given_up_ends_upstream(through: Through, pair: Any) -> None:
    async with through(*pair) as setting:
        call = asyncio.create_task(setting.client.call_tool("shop_wait"))
        await until(lambda: bool(setting.server.executor.running))
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await until(lambda: setting.server.cancelled == 1)
        assert (await setting.client.call_tool("shop_echo", {"text": "on"})).data == "on"


async def test_a_call_that_takes_too_long_ends_with_the_limits_name(through: Through, pair: Any) -> None:
    async with through(*pair, upstream={"timeout_s": 0.05}) as setting:
        with pytest.raises((McpError, CallTimeoutError), match=r"timeout_s=0\.05") as late:
            await setting.client.call_tool("shop_wait")
        assert getattr(late.value, "code", -32001) == -32001
        await until(lambda: setting.server.cancelled == 1)


async def test_changes_of_lists_and_resources_are_told(through: Through, pair: Any) -> None:
    async with through(*pair) as setting:
        client = setting.client
        async with client.listen(tools=True, uris=["shop://stock/pear"]) as events:
            assert (await client.call_tool("shop_grow")).data == "grown"
            heard = set()
            async with asyncio.timeout(10):
                async for event in events:
                    heard.add((event.method, event.uri))
                    if len(heard) == 2:
                        break
        assert heard == {
            ("notifications/tools/list_changed", None),
            ("notifications/resources/updated", "shop://stock/pear"),
        }
        assert (await client.call_tool("shop_newcomer")).data == "new"
        assert "shop_newcomer" in [tool.name for tool in await client.list_tools()]


async def test_the_client_is_introduced_to_the_upstream_as_it_is(through: Through, pair: Any) -> None:
    async with through(*pair, sampling=lambda params: "x", client_info={"name": "me", "version": "7"}) as setting:
        assert "sampling" in (await setting.client.call_tool("shop_level")).data


async def test_a_ping_is_answered_and_the_instructions_are_the_upstreams(through: Through, pair: Any) -> None:
    async with through(*pair) as setting:
        await setting.client.ping()
        assert setting.client.instructions == "Ask before you buy."
        assert setting.client.server_info["name"] == "gateway"


async def test_a_client_that_wants_logs_can_be_asked_as_well(through: Through, pair: Any) -> None:
    logs: list[Any] = []
    async with through(*pair, on_log=logs.append, elicitation=lambda params: {"count": 3}) as setting:
        assert (await setting.client.call_tool("shop_order", {"item": "pears"})).data == "3 pears"
        assert (await setting.client.call_tool("shop_steps", {"count": 1})).data == "done"
        await until(lambda: len(logs) == 1)
