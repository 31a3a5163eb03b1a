"""Asking the client in the middle of a call: by rounds in 2026-07-28, by requests to it before that."""

from __future__ import annotations

import asyncio
import base64
import datetime
import json
from dataclasses import dataclass
from typing import Any

import pytest

from erlmcp import Context, Elicit, Limits, ListRoots, McpError, Sample, Server

MODERN, LEGACY = "2026-07-28", "2025-11-25"
ACCEPT = {"action": "accept", "content": {"value": "Ann"}}
SAID = {"role": "assistant", "content": {"type": "text", "text": "Hello"}, "model": "m", "stopReason": "endTurn"}
ROOTS = {"roots": [{"uri": "file:///a", "name": "a"}]}


def make_server(**options: Any) -> Server:
    server = Server("s", state_secret=b"k" * 32, **options)

    @server.tool
    async def name(ctx: Context, greeting: str = "Hello") -> str:
        found = await ctx.elicit("Your name?", str)
        return f"{greeting}, {found.data}!" if found.accepted else found.action

    @server.tool
    async def everything(ctx: Context) -> dict[str, Any]:
        found = await ctx.ask({"who": Elicit("Who?", str), "what": Sample("Say"), "where": ListRoots()})
        return {"who": found["who"].data, "what": found["what"].text, "where": found["where"]}

    @server.tool
    async def side_by_side(ctx: Context) -> list[Any]:
        who, what, where = await asyncio.gather(ctx.elicit("Who?", str), ctx.sample("Say"), ctx.list_roots())
        return [who.data, what.text, where]

    @server.tool
    async def grouped(ctx: Context) -> list[Any]:
        async with asyncio.TaskGroup() as group:
            who = group.create_task(ctx.elicit("Who?", str, key="who"))
            what = group.create_task(ctx.sample("Say", key="what"))
        return [who.result().data, what.result().text]

    @server.tool
    async def one_by_one(ctx: Context) -> list[Any]:
        ctx.state["runs"] = ctx.state.get("runs", 0) + 1
        first = await ctx.elicit("First?", str)
        second = await ctx.elicit("Second?", int)
        return [first.data, second.data, ctx.state["runs"]]

    @server.prompt
    async def ask_prompt(ctx: Context) -> str:
        return f"About {(await ctx.elicit('Topic?', str, key='topic')).data}"

    @server.resource("data://asked")
    async def asked(ctx: Context) -> str:
        return f"Seen by {(await ctx.elicit('Reader?', str, key='reader')).data}"

    return server


def retry(client: Any, first: dict[str, Any], params: dict[str, Any], answers: dict[str, Any]) -> dict[str, Any]:
    """The params of the next round."""
    return {**params, "inputResponses": answers, "requestState": first["requestState"]}


class Answering:
    """A handshake client that answers what the server asks, by method."""

    def __init__(self, client: Any, answers: dict[str, Any]) -> None:
        self.client = client
        self.answers = answers
        self.asked: list[dict[str, Any]] = []

    async def call(self, tool: str, **arguments: Any) -> dict[str, Any]:
        id = self.client.post("tools/call", {"name": tool, "arguments": arguments})
        return await self.until(id)

    async def until(self, id: Any) -> dict[str, Any]:
        while True:
            found = await self.client.receive()
            if "method" not in found:
                assert found["id"] == id
                return found
            self.asked.append(found)
            if "id" in found:
                answer = self.answers[found["method"]]
                key = "error" if "code" in answer else "result"
                self.client.send({"jsonrpc": "2.0", "id": found["id"], key: answer})


# -- by rounds ----------------------------------------------------------------------------------------------------


async def test_a_question_ends_the_round_and_its_answer_begins_the_next(talk: Any, everything: Any) -> None:
    async with talk(make_server(), MODERN, everything) as client:
        params = {"name": "name", "arguments": {"greeting": "Hi"}}
        first = await client.result("tools/call", params)
        assert first["resultType"] == "input_required"
        assert first["_meta"]
        assert not {"content", "isError", "ttlMs", "cacheScope"} & set(first)
        ((key, request),) = first["inputRequests"].items()
        assert request["method"] == "elicitation/create"
        assert request["params"]["message"] == "Your name?"
        assert request["params"]["requestedSchema"]["properties"] == {"value": {"type": "string"}}
        assert not {"id", "jsonrpc"} & set(request)
        last = await client.result("tools/call", retry(client, first, params, {key: ACCEPT}))
        assert (last["resultType"], last["content"][0]["text"]) == ("complete", "Hi, Ann!")


@pytest.mark.parametrize(
    "answer", [{"action": "decline"}, {"action": "cancel"}, {"action": "decline", "content": None}]
)
async def test_a_user_may_decline(talk: Any, everything: Any, answer: Any) -> None:
    async with talk(make_server(), MODERN, everything) as client:
        params = {"name": "name"}
        first = await client.result("tools/call", params)
        last = await client.result("tools/call", retry(client, first, params, {"elicit-1": answer}))
        assert last["content"][0]["text"] == answer["action"]


@pytest.mark.parametrize("tool", ["everything", "side_by_side", "grouped"])
async def test_questions_asked_together_are_one_round(talk: Any, everything: Any, tool: str) -> None:
    async with talk(make_server(), MODERN, everything) as client:
        params = {"name": tool, "arguments": {}}
        first = await client.result("tools/call", params)
        by_method = {request["method"]: key for key, request in first["inputRequests"].items()}
        assert len(by_method) == (2 if tool == "grouped" else 3)
        answers = {"elicitation/create": ACCEPT, "sampling/createMessage": SAID, "roots/list": ROOTS}
        given = {key: answers[method] for method, key in by_method.items()}
        last = await client.result("tools/call", retry(client, first, params, given))
        values = last["structuredContent"]
        values = list(values.values()) if tool == "everything" else values["result"]
        assert values == ["Ann", "Hello", ROOTS["roots"]][: len(by_method)]


async def test_rounds_carry_answers_and_state_until_the_end(talk: Any, everything: Any) -> None:
    async with talk(make_server(), MODERN, everything) as client:
        params = {"name": "one_by_one", "arguments": {}}
        first = await client.result("tools/call", params)
        assert list(first["inputRequests"]) == ["elicit-1"]
        second = await client.result("tools/call", retry(client, first, params, {"elicit-1": ACCEPT}))
        assert list(second["inputRequests"]) == ["elicit-2"]
        assert second["requestState"] != first["requestState"]
        answer = {"elicit-2": {"action": "accept", "content": {"value": 7}}}
        last = await client.result("tools/call", retry(client, second, params, answer))
        assert last["structuredContent"] == {"result": ["Ann", 7, 3]}


async def test_rounds_work_within_middleware(talk: Any, everything: Any) -> None:
    server = make_server()
    seen = []

    async def watch(ctx: Context, call_next: Any) -> Any:
        found = await call_next(ctx)
        seen.append(found["resultType"])
        return found

    server.add_middleware(watch)
    async with talk(server, MODERN, everything) as client:
        params = {"name": "name", "arguments": {}}
        first = await client.result("tools/call", params)
        await client.result("tools/call", retry(client, first, params, {"elicit-1": ACCEPT}))
        params = {"name": "grouped", "arguments": {}}
        assert (await client.result("tools/call", params))["resultType"] == "input_required"
    assert seen[:2] == ["input_required", "complete"]


async def test_prompts_and_resources_may_ask_too(talk: Any, everything: Any) -> None:
    async with talk(make_server(), MODERN, everything) as client:
        for method, params, key in [
            ("prompts/get", {"name": "ask_prompt"}, "topic"),
            ("resources/read", {"uri": "data://asked"}, "reader"),
        ]:
            first = await client.result(method, params)
            assert first["resultType"] == "input_required"
            assert "ttlMs" not in first
            last = await client.result(method, retry(client, first, params, {key: ACCEPT}))
            assert last["resultType"] == "complete"
            assert "Ann" in json.dumps(last)


async def test_a_list_cannot_ask(talk: Any, everything: Any, quiet: None) -> None:
    server = make_server()

    async def curious(ctx: Context, call_next: Any) -> Any:
        if ctx.method == "tools/list":
            await ctx.elicit("Why?", str)
        return await call_next(ctx)

    server.add_middleware(curious)
    async with talk(server, MODERN, everything) as client:
        assert (await client.error("tools/list"))["code"] == -32603


# -- states that do not belong ------------------------------------------------------------------------------------


def forge(state: str) -> str:
    """The same payload with another round count, signed by nobody."""
    version, body, mac = state.split(".")
    payload = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
    payload["v"]["n"] = 0
    return f"{version}.{base64.urlsafe_b64encode(json.dumps(payload).encode()).decode().rstrip('=')}.{mac}"


@pytest.mark.parametrize(
    "spoil",
    [
        lambda state: state + "-TAMPERED",
        lambda state: state[:-1] + ("A" if state[-1] != "A" else "B"),
        lambda state: "e2" + state[2:],
        lambda state: state.replace(".", ""),
        lambda state: "",
        lambda state: 7,
        lambda state: {"a": state},
        lambda state: "..",
        lambda state: "é.é.é",
        forge,
    ],
)
async def test_a_tampered_state_is_an_error(talk: Any, everything: Any, spoil: Any) -> None:
    async with talk(make_server(), MODERN, everything) as client:
        params = {"name": "name", "arguments": {}}
        first = await client.result("tools/call", params)
        again = retry(client, {"requestState": spoil(first["requestState"])}, params, {"elicit-1": ACCEPT})
        assert (await client.error("tools/call", again))["code"] == -32602


async def test_the_state_of_another_request_or_server_is_an_error(talk: Any, everything: Any) -> None:
    async with talk(make_server(), MODERN, everything) as client:
        params = {"name": "name", "arguments": {"greeting": "Hi"}}
        first = await client.result("tools/call", params)
        for other in ({"name": "name", "arguments": {"greeting": "Ho"}}, {"name": "one_by_one", "arguments": {}}):
            assert (await client.error("tools/call", retry(client, first, other, {})))["code"] == -32602
    other_server = make_server()
    other_server.state_secret = b"x" * 32
    async with talk(other_server, MODERN, everything) as client:
        assert (await client.error("tools/call", retry(client, first, params, {})))["code"] == -32602


async def test_servers_with_one_secret_go_on_with_each_others_states(talk: Any, everything: Any) -> None:
    params = {"name": "name", "arguments": {}}
    async with talk(make_server(), MODERN, everything) as client:
        first = await client.result("tools/call", params)
    async with talk(make_server(), MODERN, everything) as client:
        last = await client.result("tools/call", retry(client, first, params, {"elicit-1": ACCEPT}))
        assert last["content"][0]["text"] == "Hello, Ann!"


async def test_an_expired_state_is_an_error(talk: Any, everything: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import time

    async with talk(make_server(), MODERN, everything) as client:
        params = {"name": "name", "arguments": {}}
        first = await client.result("tools/call", params)
        later = time.time() + 3601.5
        monkeypatch.setattr("erlmcp.server.input.time.time", lambda: later)
        error = await client.error("tools/call", retry(client, first, params, {"elicit-1": ACCEPT}))
        assert error["code"] == -32602
        assert "expired" in error["message"]


async def test_a_state_holds_no_more_than_it_must(talk: Any, everything: Any) -> None:
    async with talk(make_server(), MODERN, everything) as client:
        params = {"name": "one_by_one", "arguments": {}}
        first = await client.result("tools/call", params)
        given = {"elicit-1": ACCEPT, "stranger": {"action": "accept", "content": {"value": "x" * 1000}}}
        second = await client.result("tools/call", retry(client, first, params, given))
        body = second["requestState"].split(".")[1]
        assert "xxx" not in base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)).decode()


async def test_a_request_may_not_go_through_more_rounds_than_input_round_max(talk: Any, everything: Any) -> None:
    async with talk(make_server(limits=Limits(input_round_max=3)), MODERN, everything) as client:
        params = {"name": "name", "arguments": {}}
        found = await client.result("tools/call", params)
        for _ in range(2):
            found = await client.result("tools/call", retry(client, found, params, {}))
        error = await client.error("tools/call", retry(client, found, params, {}))
        assert error["code"] == -32602
        assert "input_round_max=3" in error["message"]


# -- answers that do not fit --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "answers",
    [
        {},
        {"wrong": ACCEPT},
        {"elicit-1": None},
        {"elicit-1": "Ann"},
        {"elicit-1": {"action": "perhaps"}},
        {"elicit-1": {"content": {"value": "Ann"}}},
        {"elicit-1": {"action": "accept", "content": "Ann"}},
        {"elicit-1": []},
        None,
        [],
        "x",
    ],
)
async def test_missing_wrong_and_garbage_answers_are_asked_for_again(talk: Any, everything: Any, answers: Any) -> None:
    async with talk(make_server(), MODERN, everything) as client:
        params = {"name": "name", "arguments": {}}
        first = await client.result("tools/call", params)
        again = await client.result("tools/call", retry(client, first, params, answers))
        assert again["resultType"] == "input_required"
        assert list(again["inputRequests"]) == ["elicit-1"]
        last = await client.result("tools/call", retry(client, again, params, {"elicit-1": ACCEPT}))
        assert last["content"][0]["text"] == "Hello, Ann!"


@pytest.mark.parametrize(
    ("key", "answer"), [("sample-1", {"role": 3}), ("sample-1", {"role": "user"}), ("roots-1", {"roots": {}})]
)
async def test_garbage_answers_to_other_questions_are_asked_for_again(
    talk: Any, everything: Any, key: str, answer: Any
) -> None:
    async with talk(make_server(), MODERN, everything) as client:
        params = {"name": "side_by_side", "arguments": {}}
        first = await client.result("tools/call", params)
        given = {"elicit-1": ACCEPT, "sample-1": SAID, "roots-1": ROOTS, key: answer}
        again = await client.result("tools/call", retry(client, first, params, given))
        assert list(again["inputRequests"]) == [key]
        good = {"sample-1": SAID, "roots-1": ROOTS}[key]
        last = await client.result("tools/call", retry(client, again, params, {key: good}))
        assert last["structuredContent"] == {"result": ["Ann", "Hello", ROOTS["roots"]]}


async def test_extra_keys_are_ignored(talk: Any, everything: Any) -> None:
    async with talk(make_server(), MODERN, everything) as client:
        params = {"name": "name", "arguments": {}}
        first = await client.result("tools/call", params)
        given = {"elicit-1": ACCEPT, "other": 7, "": {}}
        last = await client.result("tools/call", retry(client, first, params, given))
        assert last["content"][0]["text"] == "Hello, Ann!"


async def test_answers_without_a_state_are_taken(talk: Any, everything: Any) -> None:
    async with talk(make_server(), MODERN, everything) as client:
        params = {"name": "name", "arguments": {}, "inputResponses": {"elicit-1": ACCEPT}}
        assert (await client.result("tools/call", params))["content"][0]["text"] == "Hello, Ann!"


async def test_an_accepted_form_that_does_not_fit_its_type_is_an_error_result(talk: Any, everything: Any) -> None:
    async with talk(make_server(), MODERN, everything) as client:
        for content in ({"value": 7}, {}, None):
            params = {"name": "name", "inputResponses": {"elicit-1": {"action": "accept", "content": content}}}
            result = await client.result("tools/call", params)
            assert result["isError"] is True
            assert "form" in result["content"][0]["text"]


async def test_a_state_that_json_cannot_hold_is_an_error_and_not_silence(
    talk: Any, everything: Any, quiet: None
) -> None:
    server = make_server()

    @server.tool
    async def bad_state(ctx: Context, waits: bool) -> str:
        if waits:
            await asyncio.sleep(0)
        ctx.state["when"] = datetime.datetime.now()
        await ctx.elicit("Name?", str)
        return "never"

    @server.prompt
    async def bad_prompt(ctx: Context) -> str:
        ctx.state["odd"] = object()
        return str(await ctx.elicit("Name?", str))

    for middleware in (False, True):
        if middleware:
            server.add_middleware(lambda ctx, call_next: call_next(ctx))
        async with talk(server, MODERN, everything) as client:
            for waits in (False, True):
                answer = await client.ask("tools/call", {"name": "bad_state", "arguments": {"waits": waits}})
                assert answer["result"]["isError"] is True
            assert (await client.error("prompts/get", {"name": "bad_prompt"}))["code"] == -32603


# -- capabilities -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tool", "declared", "required"),
    [
        ("name", {}, {"elicitation": {}}),
        ("name", {"elicitation": {"url": {}}}, {"elicitation": {}}),
        ("name", {"elicitation": None}, {"elicitation": {}}),
        ("everything", {"elicitation": {}, "roots": {}}, {"sampling": {}}),
        ("everything", {"elicitation": {}, "sampling": {}}, {"roots": {}}),
        ("visit", {"elicitation": {}}, {"elicitation": {"url": {}}}),
        ("with_tools", {"sampling": {}}, {"sampling": {"tools": {}}}),
    ],
)
async def test_a_client_is_asked_only_what_it_declared(talk: Any, tool: str, declared: Any, required: Any) -> None:
    server = make_server()

    @server.tool
    async def visit(ctx: Context) -> str:
        return (await ctx.elicit_url("Sign in", "https://example.org/auth")).action

    @server.tool
    async def with_tools(ctx: Context) -> str:
        return (await ctx.sample("x", tools=[{"name": "t", "inputSchema": {"type": "object"}}])).text

    async with talk(server, MODERN, declared) as client:
        error = await client.error("tools/call", {"name": tool, "arguments": {}})
        assert (error["code"], error["data"]) == (-32021, {"requiredCapabilities": required})
    async with talk(server, LEGACY, declared) as client:
        answer = (
            await client.ask("tools/call", {"name": tool, "arguments": {}})
            if declared != {"elicitation": {"url": {}}}
            else {"error": {}}
        )
        assert "error" in answer


async def test_capabilities_count_for_the_request_that_declares_them(talk: Any) -> None:
    async with talk(make_server()) as client:
        assert (await client.error("tools/call", {"name": "name"}))["code"] == -32021
        client.capabilities = {"elicitation": {"form": {}}}
        assert (await client.result("tools/call", {"name": "name"}))["resultType"] == "input_required"
        client.capabilities = {}
        assert (await client.error("tools/call", {"name": "name"}))["code"] == -32021


@pytest.mark.parametrize("version", ["2024-11-05", "2025-03-26"])
async def test_elicitation_does_not_exist_before_2025_06_18(talk: Any, version: str) -> None:
    async with talk(make_server(), version, {"elicitation": {}, "roots": {}}) as client:
        answer = await client.ask("tools/call", {"name": "name", "arguments": {}})
        assert "error" in answer or answer["result"]["isError"]
        assert client.notes == []


async def test_a_url_question_is_told_without_the_id_that_2026_07_28_dropped(talk: Any) -> None:
    server = make_server()

    @server.tool
    async def visit(ctx: Context) -> str:
        return (await ctx.elicit_url("Sign in", "https://example.org/auth")).action

    declared = {"elicitation": {"url": {}}}
    async with talk(server, MODERN, declared) as client:
        first = await client.result("tools/call", {"name": "visit"})
        (request,) = first["inputRequests"].values()
        assert request["params"] == {"mode": "url", "message": "Sign in", "url": "https://example.org/auth"}
    async with talk(server, LEGACY, declared) as client:
        answering = Answering(client, {"elicitation/create": {"action": "accept"}})
        assert (await answering.call("visit"))["result"]["content"][0]["text"] == "accept"
        (asked,) = answering.asked
        assert set(asked["params"]) == {"mode", "message", "url", "elicitationId"}


# -- by requests --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tool", ["everything", "side_by_side", "grouped", "one_by_one", "name"])
async def test_the_same_handlers_ask_by_requests_before_2026_07_28(talk: Any, everything: Any, tool: str) -> None:
    async with talk(make_server(), LEGACY, everything) as client:
        answering = Answering(
            client, {"elicitation/create": ACCEPT, "sampling/createMessage": SAID, "roots/list": ROOTS}
        )
        if tool == "one_by_one":
            answering.answers["elicitation/create"] = {"action": "accept", "content": {"value": "7"}}
        result = (await answering.call(tool))["result"]
        text = result["content"][0]["text"]
        assert (
            text
            == {
                "everything": '{"who":"Ann","what":"Hello","where":[{"uri":"file:///a","name":"a"}]}',
                "side_by_side": '["Ann","Hello",[{"uri":"file:///a","name":"a"}]]',
                "grouped": '["Ann","Hello"]',
                "one_by_one": '["7",7,1]',
                "name": "Hello, Ann!",
            }[tool]
        )
        ids = [asked["id"] for asked in answering.asked]
        assert len(set(ids)) == len(ids)


async def test_questions_that_are_in_the_air_are_answered_in_any_order(talk: Any, everything: Any) -> None:
    async with talk(make_server(), LEGACY, everything) as client:
        calls = [client.post("tools/call", {"name": "name", "arguments": {"greeting": str(n)}}) for n in range(3)]
        questions = [await client.receive() for _ in calls]
        for n, question in reversed(list(enumerate(questions))):
            client.send(
                {"jsonrpc": "2.0", "id": question["id"], "result": {"action": "accept", "content": {"value": f"a{n}"}}}
            )
        texts = {(await client.receive())["result"]["content"][0]["text"] for _ in calls}
        assert texts == {"0, a0!", "1, a1!", "2, a2!"}


async def test_an_answer_with_the_id_in_another_type_or_twice_is_passed_over(talk: Any, everything: Any) -> None:
    async with talk(make_server(), LEGACY, everything) as client:
        call = client.post("tools/call", {"name": "name", "arguments": {}})
        question = await client.receive()
        client.send({"jsonrpc": "2.0", "id": str(question["id"]), "result": {"action": "cancel"}})
        client.send({"jsonrpc": "2.0", "id": question["id"], "result": ACCEPT})
        client.send({"jsonrpc": "2.0", "id": question["id"], "result": {"action": "cancel"}})
        assert (await client.answer(call))["result"]["content"][0]["text"] == "Hello, Ann!"
        assert await client.settle() == []


@pytest.mark.parametrize(
    "error",
    [{"code": -1, "message": "User rejected", "data": {"x": 1}}, {"code": "odd"}, {"code": 5, "message": 9}, "x"],
)
async def test_an_error_answer_of_the_client_reaches_the_handler(talk: Any, everything: Any, error: Any) -> None:
    server = make_server()
    seen = []

    @server.tool
    async def careful(ctx: Context) -> str:
        try:
            await ctx.elicit("Name?", str)
        except McpError as caught:
            seen.append((caught.code, caught.message, caught.data))
            return "refused"
        return "answered"

    async with talk(server, LEGACY, everything) as client:
        call = client.post("tools/call", {"name": "careful"})
        question = await client.receive()
        client.send({"jsonrpc": "2.0", "id": question["id"], "error": error})
        if error == "x":
            client.send({"jsonrpc": "2.0", "id": question["id"], "error": {"code": 0, "message": "m"}})
        assert (await client.answer(call))["result"]["content"][0]["text"] == "refused"
    if isinstance(error, dict) and error["code"] == -1:
        assert seen == [(-1, "User rejected", {"x": 1})]


@pytest.mark.parametrize("result", [None, 7, "x", [], True])
async def test_an_answer_that_is_no_object_is_an_error_in_the_handler(talk: Any, everything: Any, result: Any) -> None:
    async with talk(make_server(), LEGACY, everything) as client:
        call = client.post("tools/call", {"name": "name", "arguments": {}})
        question = await client.receive()
        client.send({"jsonrpc": "2.0", "id": question["id"], "result": result})
        assert "error" in await client.answer(call)


async def test_a_client_that_does_not_answer_in_time_is_not_waited_for(talk: Any, everything: Any) -> None:
    server = make_server(limits=Limits(request_timeout_s=0.03))
    server.tools["name"].own_timeout_s = 60
    async with talk(server, LEGACY, everything) as client:
        call = client.post("tools/call", {"name": "name", "arguments": {}})
        question = await client.receive()
        error = (await client.answer(call))["error"]
        assert error["code"] == -32001
        assert "0.03 s" in error["message"]
        notes = [*client.notes, *await client.settle()]
        assert [(note["method"], note["params"]["requestId"]) for note in notes] == [
            ("notifications/cancelled", question["id"])
        ]
        client.send({"jsonrpc": "2.0", "id": question["id"], "result": ACCEPT})
        assert await client.settle() == []


async def test_a_question_of_a_cancelled_call_is_withdrawn(talk: Any, everything: Any) -> None:
    async with talk(make_server(), LEGACY, everything) as client:
        client.post("tools/call", {"name": "name", "arguments": {}}, id="c")
        question = await client.receive()
        client.notify("notifications/cancelled", {"requestId": "c"})
        notes = await client.settle()
        assert [(note["method"], note["params"]["requestId"]) for note in notes] == [
            ("notifications/cancelled", question["id"])
        ]


async def test_a_question_beside_one_that_failed_is_withdrawn(talk: Any, everything: Any) -> None:
    async with talk(make_server(), LEGACY, everything) as client:
        call = client.post("tools/call", {"name": "everything", "arguments": {}})
        questions = [await client.receive() for _ in range(3)]
        client.send({"jsonrpc": "2.0", "id": questions[1]["id"], "error": {"code": -1, "message": "no"}})
        assert (await client.answer(call))["error"]["code"] == -1
        withdrawn = {note["params"]["requestId"] for note in [*client.notes, *await client.settle()]}
        assert withdrawn == {questions[0]["id"], questions[2]["id"]}
        assert len(client.wire._link.session.correlation) == 0


async def test_a_connection_that_closes_fails_the_question_that_waits(talk: Any, everything: Any) -> None:
    server = make_server()
    ends = []

    @server.tool
    async def careful(ctx: Context) -> str:
        try:
            await ctx.elicit("Name?", str)
        except BaseException as error:
            ends.append(type(error).__name__)
            raise
        return "answered"

    async with server.running():
        async with talk(server, LEGACY, everything) as client:
            client.post("tools/call", {"name": "careful"})
            await client.receive()
        for _ in range(5):
            await asyncio.sleep(0)
    assert ends


async def test_a_handler_whose_connection_is_gone_cannot_ask(talk: Any, everything: Any) -> None:
    server = make_server()
    gate, outcome = asyncio.Event(), []

    @server.tool
    async def late(ctx: Context) -> str:
        try:
            await gate.wait()
        except asyncio.CancelledError:
            try:
                await ctx.elicit("Name?", str)
            except Exception as error:
                outcome.append(type(error).__name__)
            raise
        return "never"

    async with server.running(), talk(server, LEGACY, everything) as client:
        client.post("tools/call", {"name": "late"})
        await client.settle()
    assert outcome == ["ConnectionClosedError"]


@dataclass
class Form:
    name: str
    age: int = 30


async def test_a_form_comes_back_as_the_type_that_was_asked_for(talk: Any, everything: Any) -> None:
    server = make_server()

    @server.tool
    async def form(ctx: Context) -> list[Any]:
        found = await ctx.elicit("Fill in", Form)
        assert isinstance(found.data, Form)
        return [found.data.name, found.data.age, found.content]

    for version in (LEGACY, MODERN):
        async with talk(server, version, everything) as client:
            answer = {"action": "accept", "content": {"name": "Ann"}}
            if version == LEGACY:
                result = (await Answering(client, {"elicitation/create": answer}).call("form"))["result"]
            else:
                first = await client.result("tools/call", {"name": "form"})
                schema = first["inputRequests"]["elicit-1"]["params"]["requestedSchema"]
                assert schema["required"] == ["name"]
                result = await client.result("tools/call", {"name": "form", "inputResponses": {"elicit-1": answer}})
            assert json.loads(result["content"][0]["text"]) == ["Ann", 30, {"name": "Ann"}]


async def test_sampling_messages_may_be_given_in_many_ways(talk: Any, everything: Any) -> None:
    from mcp_types import SamplingMessage, TextContent

    from erlmcp import UserMessage

    server = make_server()
    block = {"type": "text", "text": "x"}

    @server.tool
    async def ways(ctx: Context, bad: bool = False) -> str:
        given: list[Any] = [
            "x",
            {"role": "assistant", "content": block},
            SamplingMessage(role="user", content=TextContent(type="text", text="x")),
        ]
        if bad:
            given = [7]
        found = await ctx.sample(given, max_tokens=9, system_prompt="be brief", temperature=0.5)
        return f"{found.role} {found.model} {found.stop_reason} {found.text}"

    assert UserMessage("x").content == "x"
    async with talk(server, LEGACY, everything) as client:
        answering = Answering(
            client, {"sampling/createMessage": {**SAID, "content": [block, {"type": "image"}, block]}}
        )
        assert (await answering.call("ways"))["result"]["content"][0]["text"] == "assistant m endTurn xx"
        params = answering.asked[0]["params"]
        assert [message["role"] for message in params["messages"]] == ["user", "assistant", "user"]
        assert all(message["content"] == block for message in params["messages"])
        assert (params["maxTokens"], params["systemPrompt"], params["temperature"]) == (9, "be brief", 0.5)
        assert (await answering.call("ways", bad=True))["result"]["isError"] is True
