"""What a server asks in the middle of a call, in both eras: a form, a sample, the roots."""

from __future__ import annotations

import asyncio
from typing import Any

import mcp_types as types
import pytest
from ways import MODERN_RESULT, connected

from erlmcp import McpError
from erlmcp.client.bound import ClientLimits
from erlmcp.client.question import Questions
from erlmcp.errors import InvalidAnswerError, JsonError, LimitError


async def test_a_form_a_sample_and_the_roots_are_answered(way: Any, mode: str, loop_kind: str) -> None:
    asked: list[Any] = []

    async def elicitation(params: dict[str, Any]) -> dict[str, Any]:
        asked.append(params["message"])
        return {"count": 3}

    def sampling(params: dict[str, Any]) -> str:
        return f"I think: {params['messages'][0]['content']['text']}"

    options = {"elicitation": elicitation, "sampling": sampling, "roots": ["file:///home/ada"]}
    async with way() as found, connected(found.target, mode=mode, **options) as client:
        assert (await client.call_tool("order", {"item": "pears"})).data == "3 pears"
        assert asked == ["How many of pears?"]
        assert (await client.call_tool("think", {"prompt": "why?"})).data == "I think: why?"
        assert (await client.call_tool("places")).data == ["file:///home/ada"]


async def test_several_rounds_are_driven_to_their_end(way: Any, mode: str) -> None:
    count = 0

    def elicitation(params: dict[str, Any]) -> dict[str, Any]:
        nonlocal count
        count += 1
        return {"x": count}

    async with way() as found, connected(found.target, mode=mode, elicitation=elicitation) as client:
        assert (await client.call_tool("twice")).data == "{'x': 1} {'x': 2}"


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (None, "decline"),
        (False, "decline"),
        ({"action": "cancel"}, "cancel"),
        ({"action": "accept", "content": {"count": 2}}, "2 figs"),
        (types.ElicitResult(action="accept", content={"count": 4}), "4 figs"),
    ],
)
async def test_a_form_may_be_declined_or_answered_with_a_whole_result(
    memory: Any, mode: str, answer: Any, told: str
) -> None:
    async with memory() as found, connected(found.target, mode=mode, elicitation=lambda params: answer) as client:
        assert (await client.call_tool("order", {"item": "figs"})).data == told


async def test_a_client_without_handlers_declares_none_and_is_not_asked(memory: Any, mode: str) -> None:
    async with memory() as found, connected(found.target, mode=mode) as client:
        assert (await client.call_tool("level")).data == "{}"
        with pytest.raises(McpError) as raised:
            await client.call_tool("order", {"item": "figs"})
        assert raised.value.code in (-32021, -32601)


def test_capabilities_are_those_of_the_handlers_in_the_words_of_the_revision() -> None:
    everything = Questions(lambda params: None, lambda params: "", ["file:///a"])
    assert everything.capabilities("2024-11-05") == {"roots": {"listChanged": True}, "sampling": {}}
    assert everything.capabilities("2025-06-18")["elicitation"] == {}
    assert everything.capabilities("2025-11-25")["elicitation"] == {"form": {}, "url": {}}
    assert everything.capabilities("2026-07-28")["roots"] == {}
    assert Questions(roots=[]).capabilities("2026-07-28") == {"roots": {}}


async def test_what_a_user_leaves_as_it_is_has_the_forms_defaults() -> None:
    schema = {"type": "object", "properties": {"a": {"default": 1}, "b": {"default": 2}, "c": {"type": "string"}}}
    questions = Questions(lambda params: {"b": 5})
    answer = await questions.answer("elicitation/create", {"message": "?", "requestedSchema": schema})
    assert answer == {"action": "accept", "content": {"a": 1, "b": 5}}
    url = await Questions(lambda params: True).answer("elicitation/create", {"mode": "url", "url": "https://x"})
    assert url == {"action": "accept"}


async def test_roots_and_samples_may_be_models_or_whole_results() -> None:
    questions = Questions(
        sampling=lambda params: types.CreateMessageResult(
            role="assistant", content=types.TextContent(text="hm"), model="m1"
        ),
        roots=lambda params: [types.Root(uri="file:///a", name="a"), "file:///b"],
    )
    sampled = await questions.answer("sampling/createMessage", {})
    assert (sampled["model"], sampled["content"]["text"]) == ("m1", "hm")
    roots = await questions.answer("roots/list", None)
    assert roots == {"roots": [{"uri": "file:///a", "name": "a"}, {"uri": "file:///b"}]}


async def test_a_handler_that_fails_tells_the_server_nothing_of_it(
    memory: Any, mode: str, caplog: pytest.LogCaptureFixture
) -> None:
    def elicitation(params: dict[str, Any]) -> Any:
        raise ValueError("a secret")

    async with memory() as found, connected(found.target, mode=mode, elicitation=elicitation) as client:
        with pytest.raises(McpError, match="the client's handler of elicitation/create failed") as raised:
            await client.call_tool("order", {"item": "figs"})
        assert "a secret" not in str(raised.value)
    assert "a secret" in caplog.text


async def test_an_answer_that_json_cannot_hold_is_a_handlers_failure(memory: Any, mode: str) -> None:
    options = {"mode": mode, "elicitation": lambda params: {"count": {1}}}
    async with memory() as found, connected(found.target, **options) as client:
        with pytest.raises((McpError, JsonError), match=r"failed|set"):
            await client.call_tool("order", {"item": "figs"})
        assert (await client.call_tool("echo", {"text": "on"})).data == "on"


@pytest.mark.parametrize("wrong", [7, {"no": "content"}])
async def test_a_handler_that_gives_something_else_has_failed(wrong: Any) -> None:
    with pytest.raises(McpError, match="failed"):
        await Questions(sampling=lambda params: wrong).answer("sampling/createMessage", {})
    if wrong == 7:
        with pytest.raises(McpError, match="failed"):
            await Questions(lambda params: wrong).answer("elicitation/create", {})


async def test_a_handshake_server_is_told_what_is_not_answered_here(peer: Any) -> None:
    answers: list[Any] = []
    told = asyncio.Event()

    async def script(server: Any) -> None:
        server.refuse(await server.expect("server/discover"), -32601)
        await server.initialize()
        await server.expect("notifications/initialized")
        for id, method in enumerate(("ping", "roots/list", "no/such")):
            server.send({"jsonrpc": "2.0", "id": f"s{id}", "method": method})
            answers.append(await server.reply(f"s{id}"))
        told.set()
        server.answer(await server.expect("resources/list"), {"resources": []})

    async with peer(script) as target, connected(target) as client:
        await told.wait()
        assert await client.list_resources() == []
    assert answers[0] == {"jsonrpc": "2.0", "id": "s0", "result": {}}
    assert [answer["error"]["code"] for answer in answers[1:]] == [-32601, -32601]


async def test_a_question_that_the_server_takes_back_is_not_answered(peer: Any) -> None:
    begun, ended = asyncio.Event(), asyncio.Event()

    async def elicitation(params: dict[str, Any]) -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async def script(server: Any) -> None:
        server.refuse(await server.expect("server/discover"), -32601)
        await server.initialize()
        await server.expect("notifications/initialized")
        server.send({"jsonrpc": "2.0", "id": "q", "method": "elicitation/create", "params": {"message": "?"}})
        await begun.wait()
        server.send({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": "q"}})
        await ended.wait()
        server.answer(await server.expect("ping"), {})

    async with peer(script) as target, connected(target, elicitation=elicitation) as client:
        await ended.wait()
        await client.ping()


def asks(key: str = "k", **more: Any) -> dict[str, Any]:
    question = {"method": "elicitation/create", "params": {"message": "?"}}
    return {"resultType": "input_required", "inputRequests": {key: question}, **more}


async def test_a_round_repeats_the_request_with_the_answers_and_the_state_as_it_was(peer: Any) -> None:
    async def script(server: Any) -> None:
        await server.discover()
        first = await server.expect("tools/call")
        server.answer(first, asks("one", requestState="äé opaque=="))
        second = await server.expect("tools/call")
        assert second["id"] != first["id"]
        assert second["params"]["arguments"] == first["params"]["arguments"] == {"a": 1}
        assert second["params"]["inputResponses"] == {"one": {"action": "accept", "content": {"x": 1}}}
        assert second["params"]["requestState"] == "äé opaque=="
        server.answer(second, asks("two"))
        third = await server.expect("tools/call")
        assert "requestState" not in third["params"]
        assert list(third["params"]["inputResponses"]) == ["two"]
        server.answer(third, {"resultType": "input_required", "requestState": "only"})
        fourth = await server.expect("tools/call")
        assert fourth["params"]["requestState"] == "only"
        assert "inputResponses" not in fourth["params"]
        server.text(fourth, "at last")
        plain = await server.expect("tools/call")
        assert not plain["params"].keys() & {"inputResponses", "requestState"}
        server.text(plain, "unrelated")

    async with peer(script) as target, connected(target, elicitation=lambda params: {"x": 1}) as client:
        assert (await client.call_tool("t", {"a": 1})).data == "at last"
        assert (await client.call_tool("t", {"a": 1})).data == "unrelated"


async def test_a_server_that_never_stops_asking_is_cut_off(peer: Any) -> None:
    async def script(server: Any) -> None:
        await server.discover()
        while True:
            server.answer(await server.expect("tools/call"), asks())

    limits = ClientLimits(input_round_max=3)
    async with peer(script) as target, connected(target, elicitation=lambda params: {}, limits=limits) as client:
        with pytest.raises(LimitError, match="input_round_max=3"):
            await client.call_tool("t")


@pytest.mark.parametrize(
    "result",
    [
        {"resultType": "input_required"},
        {"resultType": "something_else"},
        {"resultType": "input_required", "inputRequests": {"a": {"params": {}}}},
        {"resultType": 7},
    ],
)
async def test_a_result_that_nobody_knows_is_an_invalid_answer(peer: Any, result: dict[str, Any]) -> None:
    async def script(server: Any) -> None:
        await server.discover()
        server.answer(await server.expect("tools/call"), result)
        server.text(await server.expect("tools/call"), "fine")

    async with peer(script) as target, connected(target) as client:
        with pytest.raises(InvalidAnswerError):
            await client.call_tool("t")
        assert (await client.call_tool("t")).data == "fine"


async def test_a_list_is_never_answered_with_a_question(peer: Any) -> None:
    async def script(server: Any) -> None:
        await server.discover()
        server.answer(await server.expect("tools/list"), asks())
        server.answer(await server.expect("tools/list"), {**MODERN_RESULT, "tools": "none"})

    async with peer(script) as target, connected(target, elicitation=lambda params: {}) as client:
        with pytest.raises(InvalidAnswerError, match="input_required"):
            await client.list_tools()
        with pytest.raises(InvalidAnswerError, match="no list of tools"):
            await client.list_tools()


async def test_a_server_that_asks_too_much_at_once_is_told_so(peer: Any, caplog: pytest.LogCaptureFixture) -> None:
    gate, told = asyncio.Event(), asyncio.Event()
    answers: list[Any] = []

    async def slow(*args: Any) -> None:
        await gate.wait()

    async def script(server: Any) -> None:
        server.refuse(await server.expect("server/discover"), -32601)
        await server.initialize()
        await server.expect("notifications/initialized")
        for id in range(3):
            server.send({"jsonrpc": "2.0", "id": id, "method": "elicitation/create", "params": {"message": "?"}})
        answers.append(await server.reply(2))
        server.send({"jsonrpc": "2.0", "method": "notifications/message", "params": {"level": "info"}})
        server.send({"jsonrpc": "2.0", "id": "p", "method": "ping"})
        await server.reply("p")
        gate.set()
        answers.extend([await server.reply(0), await server.reply(1)])
        told.set()

    options = {"elicitation": slow, "on_log": slow, "limits": ClientLimits(task_count_max=2)}
    async with peer(script) as target, connected(target, **options):
        await told.wait()
    assert answers[0]["error"]["code"] == -32000
    assert [answer["result"] for answer in answers[1:]] == [{"action": "decline"}] * 2
    assert "a callback was not awaited: task_count_max=2" in caplog.text
