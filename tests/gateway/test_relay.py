"""What goes through as it is: bytes, ids, tokens, states; and what never does: the caller's credentials."""

from __future__ import annotations

import asyncio
import http.client
import json
from collections.abc import Callable
from typing import Any

import pytest
from stage import Scripted, error, result, scripted_gateway, until

from erlmcp import ConnectionClosedError, Context, Server
from erlmcp.gateway.app import Gateway
from erlmcp.gateway.config import GatewayConfig, UpstreamConfig
from erlmcp.gateway.serve import http as gateway_http
from erlmcp.server.serve import http as server_http

Talk = Callable[..., Any]
META = '{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{},'
META += '"traceparent":"00-1-2-01","org.example/x":[1e2]}'
ODD = (
    b'{"resultType":"complete","zz":1.50,"content":[ ],"_meta":{"a/b":1e400},"structuredContent":[1,{"b":2.0,"a":1E2}]}'
)
HANDSHAKE = '{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-11-25",'
HANDSHAKE += '"capabilities":{},"clientInfo":{"name":"c","version":"1"}}}'


async def exchange(wire: Any, line: str) -> bytes:
    wire.send(line.encode() + b"\n")
    found: bytes = await wire.receive()
    return found


async def test_a_modern_call_and_its_answer_are_the_same_bytes_but_for_name_and_id(talk: Talk) -> None:
    upstream, other = Scripted("echo"), Scripted("echo")
    upstream.answers["tools/call"] = ODD
    gateway = scripted_gateway(upstream, other)
    async with gateway.memory() as wire:
        params = '{ "arguments":{"x":1.0, "y":"\\u00e9"}, "name":"%s","new":{"z":[]}, "_meta":' + META + "}"
        text = '{"id":"q-1","jsonrpc":"2.0","params":' + params % "a_echo" + ',"method":"tools/call"}'
        answer = await exchange(wire, text)
        assert answer == b'{"jsonrpc":"2.0","id":"q-1","result":' + ODD + b"}"
        (line,) = [line for line in upstream.seen if b"tools/call" in line]
        assert (params % "echo").encode() in line
        assert json.loads(line)["id"] != "q-1"
        assert not other.of("tools/call")


async def test_a_handshake_call_goes_to_a_handshake_upstream_as_it_is() -> None:
    upstream = Scripted("echo", modern=False)
    upstream.answers["tools/call"] = b'{"content":[],"own":{"n":1.00}}'
    async with scripted_gateway(upstream).memory() as wire:
        await exchange(wire, HANDSHAKE)
        params = '{"name":"echo","arguments":{"a":1e3},"_meta":{"x":{"y":1.0}}}'
        answer = await exchange(wire, '{"jsonrpc":"2.0","id":7,"method":"tools/call","params":' + params + "}")
        assert answer == b'{"jsonrpc":"2.0","id":7,"result":{"content":[],"own":{"n":1.00}}}'
        assert any(params.encode() in line for line in upstream.seen)


async def test_an_error_goes_through_with_what_else_it_holds() -> None:
    upstream = Scripted("echo")
    upstream.answers["tools/call"] = lambda request: (
        b'{"jsonrpc":"2.0","id":%d,"error":{"code":-31234,"message":"no","data":{"d":1.0},"more":[1]},"x":0}'
        % request["id"]
    )
    async with scripted_gateway(upstream).memory() as wire:
        text = '{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo","_meta":' + META + "}}"
        answer = await exchange(wire, text)
    assert (
        answer == b'{"jsonrpc":"2.0","id":1,"error":{"code":-31234,"message":"no","data":{"d":1.0},"more":[1]},"x":0}'
    )


async def test_a_modern_result_is_one_of_a_handshake_revision_without_its_own_words(talk: Talk) -> None:
    upstream = Scripted("echo")
    meta = b'{"io.modelcontextprotocol/serverInfo":{"name":"s","version":"1"},"mine":1}'
    upstream.answers["tools/call"] = (
        b'{"resultType":"complete","ttlMs":5,"cacheScope":"public","content":[],"structuredContent":[1],"_meta":%b}'
        % meta
    )
    async with talk(scripted_gateway(upstream), "2025-11-25") as client:
        found = await client.call("echo")
        assert found == {"content": [], "structuredContent": {"result": [1]}, "_meta": {"mine": 1}}
        (request,) = upstream.of("tools/call")
        sent = request["params"]["_meta"]
        assert sent["io.modelcontextprotocol/clientInfo"] == {"name": "test", "version": "1"}
        assert sent["io.modelcontextprotocol/protocolVersion"] == "2026-07-28"
        assert sent["io.modelcontextprotocol/clientCapabilities"] == {}


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        (b'{"content":[]}', {"resultType": "complete", "content": []}),
        (b"{ }", {"resultType": "complete"}),
        (b'{"resultType":"odd","content":[],"ttlMs":"x"}', {"resultType": "complete", "content": []}),
    ],
)
async def test_a_handshake_result_is_one_of_the_modern_revision(talk: Talk, text: bytes, wanted: Any) -> None:
    upstream = Scripted("echo", modern=False)
    upstream.answers["tools/call"] = text
    async with talk(scripted_gateway(upstream)) as client:
        assert await client.call("echo", meta={"traceparent": "t", "x/y": 1}) == wanted
        (request,) = upstream.of("tools/call")
        assert request["params"]["_meta"] == {"traceparent": "t", "x/y": 1}


async def test_a_resource_that_is_read_says_how_long_it_may_be_kept(talk: Talk) -> None:
    upstream = Scripted(modern=False)
    upstream.answers["resources/read"] = b'{"contents":[]}'
    async with talk(scripted_gateway(upstream)) as client:
        found = await client.result("resources/read", {"uri": "x://y"})
    assert found == {"resultType": "complete", "ttlMs": 0, "cacheScope": "private", "contents": []}


@pytest.mark.parametrize("modern", [True, False], ids=["modern", "legacy"])
async def test_a_resource_that_is_not_there_is_told_in_the_words_of_the_clients_era(talk: Talk, modern: bool) -> None:
    upstream = Scripted(modern=not modern)
    code = -32002 if modern else -32602
    upstream.answers["resources/read"] = lambda request: json.dumps(
        {"jsonrpc": "2.0", "id": request["id"], "error": {"code": code, "message": "gone", "data": {"uri": "x://y"}}}
    ).encode()
    async with talk(scripted_gateway(upstream), "2026-07-28" if modern else "2025-11-25") as client:
        found = await client.error("resources/read", {"uri": "x://y"})
    assert found == {"code": -32602 if modern else -32002, "message": "gone", "data": {"uri": "x://y"}}


async def test_progress_tokens_of_different_clients_do_not_meet(talk: Talk) -> None:
    upstream = Scripted("echo")
    gateway = scripted_gateway(upstream)
    async with gateway.running(), talk(gateway) as one, talk(gateway) as two:
        first = one.post("tools/call", {"name": "echo"}, meta={"progressToken": 1})
        second = two.post("tools/call", {"name": "echo"}, meta={"progressToken": 1})
        await until(lambda: len(upstream.waiting) == 2)
        tokens = [request["params"]["_meta"]["progressToken"] for request in upstream.waiting]
        assert len(set(tokens)) == 2
        link = upstream.links[0]
        for token, value in zip(tokens, (11, 22), strict=True):
            note = {"progressToken": token, "progress": value, "extra": "kept"}
            link.say(json.dumps({"jsonrpc": "2.0", "method": "notifications/progress", "params": note}).encode())
        for request in upstream.waiting:
            link.say(result(request, b'{"resultType":"complete","content":[]}'))
        await one.answer(first)
        await two.answer(second)
        for client, value in ((one, 11), (two, 22)):
            assert [note["params"] for note in client.notes] == [
                {"progressToken": 1, "progress": value, "extra": "kept"}
            ]


async def test_state_and_answers_of_a_round_go_through_untouched(talk: Talk) -> None:
    upstream = Scripted("ask")
    first = (
        b'{"resultType":"input_required","inputRequests":{"k":{"method":"roots/list"}},"requestState":"s\\u0041.\\/"}'
    )
    upstream.answers["tools/call"] = first
    async with scripted_gateway(upstream).memory() as wire:
        text = '{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"ask","_meta":' + META + "%s}}"
        assert first in await exchange(wire, text % "")
        rest = ',"inputResponses":{"k":{"roots":[ ]}},"requestState":"s\\u0041.\\/"'
        await exchange(wire, text % rest)
        assert rest.encode() in upstream.seen[-1]


async def test_a_modern_upstream_that_asks_without_an_end_is_stopped(talk: Talk, everything: dict[str, Any]) -> None:
    upstream = Scripted("ask")
    upstream.answers["tools/call"] = b'{"resultType":"input_required","inputRequests":{"k":{"method":"roots/list"}}}'
    gateway = scripted_gateway(upstream, config={"limits": {"input_round_max": 3}})
    async with talk(gateway, "2025-11-25", everything) as client:
        id = client.post("tools/call", {"name": "ask"})
        for _ in range(3):
            question = await client.receive()
            assert question["method"] == "roots/list"
            client.send({"jsonrpc": "2.0", "id": question["id"], "result": {"roots": []}})
        assert "input_round_max=3" in (await client.answer(id))["error"]["message"]


async def test_the_error_of_a_client_that_is_asked_ends_the_call(talk: Talk, everything: dict[str, Any]) -> None:
    upstream = Scripted("ask")
    upstream.answers["tools/call"] = b'{"resultType":"input_required","inputRequests":{"k":{"method":"roots/list"}}}'
    async with talk(scripted_gateway(upstream), "2025-11-25", everything) as client:
        id = client.post("tools/call", {"name": "ask"})
        question = await client.receive()
        refusal = {"code": -1, "message": "user said no"}
        client.send({"jsonrpc": "2.0", "id": question["id"], "error": refusal})
        assert (await client.answer(id))["error"]["message"] == "user said no"


@pytest.mark.parametrize("broken", ["tampered", "other arguments", "used twice", "foreign"])
async def test_a_state_that_is_not_of_this_request_is_refused(
    talk: Talk, everything: dict[str, Any], broken: str
) -> None:
    upstream = Scripted("ask", modern=False)
    async with talk(scripted_gateway(upstream), capabilities=everything) as client:
        id = client.post("tools/call", {"name": "ask", "arguments": {"a": 1}})
        await until(lambda: len(upstream.waiting) == 1)
        (request,) = upstream.waiting
        question = {"jsonrpc": "2.0", "id": "u1", "method": "elicitation/create", "params": {"message": "?"}}
        request["link"].say(json.dumps(question).encode())
        asked = (await client.answer(id))["result"]
        (name,) = asked["inputRequests"]
        assert asked["inputRequests"][name] == {"method": "elicitation/create", "params": {"message": "?"}}
        state = asked["requestState"]
        more = {"inputResponses": {name: {"action": "accept", "content": {}}}, "requestState": state}
        arguments = {"a": 1}
        if broken == "tampered":
            more["requestState"] = state + "x"
        elif broken == "foreign":
            more["requestState"] = "v1.other"
        elif broken == "other arguments":
            arguments = {"a": 2}
        else:
            again = client.post("tools/call", {"name": "ask", "arguments": {"a": 1}, **more})
            await until(lambda: b"u1" in upstream.seen[-1])
            request["link"].say(result(request, b'{"content":[]}'))
            assert (await client.answer(again))["result"]["resultType"] == "complete"
        found = await client.error("tools/call", {"name": "ask", "arguments": arguments, **more})
        assert found["code"] == -32602
        assert "requestState" in found["message"]


async def test_a_round_without_the_answer_is_asked_again(talk: Talk, everything: dict[str, Any]) -> None:
    upstream = Scripted("ask", modern=False)
    async with talk(scripted_gateway(upstream), capabilities=everything) as client:
        id = client.post("tools/call", {"name": "ask"})
        await until(lambda: len(upstream.waiting) == 1)
        (request,) = upstream.waiting
        for number in (1, 2):
            question = {"jsonrpc": "2.0", "id": number, "method": "roots/list"}
            request["link"].say(json.dumps(question).encode())
        asked = (await client.answer(id))["result"]
        assert len(asked["inputRequests"]) == 2
        first, second = asked["inputRequests"]
        more = {"inputResponses": {first: {"roots": []}}, "requestState": asked["requestState"]}
        again = await client.result("tools/call", {"name": "ask", **more})
        assert list(again["inputRequests"]) == [second]
        assert again["requestState"] != asked["requestState"]
        more = {"inputResponses": {second: {"roots": []}}, "requestState": again["requestState"]}
        last = client.post("tools/call", {"name": "ask", **more})
        await until(lambda: json.loads(upstream.seen[-1]).get("id") == 2)
        request["link"].say(result(request, b'{"content":[]}'))
        assert (await client.answer(last))["result"]["content"] == []


async def test_an_upstream_that_ends_between_two_rounds_is_told_with_the_next(
    talk: Talk, everything: dict[str, Any]
) -> None:
    upstream = Scripted("ask", modern=False)
    async with talk(scripted_gateway(upstream), capabilities=everything) as client:
        id = client.post("tools/call", {"name": "ask"})
        await until(lambda: len(upstream.waiting) == 1)
        (request,) = upstream.waiting
        request["link"].say(b'{"jsonrpc":"2.0","id":1,"method":"roots/list"}')
        asked = (await client.answer(id))["result"]
        request["link"].say(error(request, -1, "too late"))
        more = {"inputResponses": {}, "requestState": asked["requestState"]}
        assert (await client.error("tools/call", {"name": "ask", **more}))["message"] == "too late"


async def test_a_question_that_the_upstream_withdraws_is_withdrawn_downstream(
    talk: Talk, everything: dict[str, Any]
) -> None:
    upstream = Scripted("ask", modern=False)
    async with talk(scripted_gateway(upstream), "2025-11-25", everything) as client:
        id = client.post("tools/call", {"name": "ask"})
        await until(lambda: len(upstream.waiting) == 1)
        (request,) = upstream.waiting
        request["link"].say(b'{"jsonrpc":"2.0","id":77,"method":"roots/list"}')
        question = await client.receive()
        gone = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 77}}
        request["link"].say(json.dumps(gone).encode())
        note = await client.receive()
        assert (note["method"], note["params"]["requestId"]) == ("notifications/cancelled", question["id"])
        request["link"].say(result(request, b'{"content":[]}'))
        assert (await client.answer(id))["result"] == {"content": []}


async def test_the_calls_of_a_batch_are_answered_in_one(talk: Talk) -> None:
    upstream = Scripted("echo", modern=False)
    async with talk(scripted_gateway(upstream), "2025-03-26") as client:
        batch = [client.message("tools/call", {"name": name}) for name in ("echo", "none", "echo")]
        client.send(batch)
        await until(lambda: len(upstream.waiting) == 2)
        for request in reversed(upstream.waiting):
            request["link"].say(result(request, b'{"content":[],"n":1.0}'))
        answers = {each["id"]: each for each in await client.receive()}
        assert [("result" in answers[each["id"]]) for each in batch] == [True, False, True]


async def held_call(client: Any, upstream: Scripted, *ids: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """A call whose upstream asked for roots under these ids: (the upstream's request, what the client got)."""
    id = client.post("tools/call", {"name": "ask"})
    await until(lambda: len(upstream.waiting) == 1)
    (request,) = upstream.waiting
    for each in ids:
        request["link"].say(json.dumps({"jsonrpc": "2.0", "id": each, "method": "roots/list"}).encode())
    return request, (await client.answer(id))["result"]


async def test_a_question_that_was_withdrawn_between_two_rounds_is_not_asked_again(
    talk: Talk, everything: dict[str, Any]
) -> None:
    upstream = Scripted("ask", modern=False)
    async with talk(scripted_gateway(upstream), capabilities=everything) as client:
        request, asked = await held_call(client, upstream, "x", 2)
        gone = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": "x"}}
        request["link"].say(json.dumps(gone).encode())
        again = await client.result("tools/call", {"name": "ask", "requestState": asked["requestState"]})
        assert list(again["inputRequests"]) == list(asked["inputRequests"])[1:]


async def test_a_call_whose_client_does_not_come_back_is_given_up_upstream(
    talk: Talk, everything: dict[str, Any]
) -> None:
    upstream = Scripted("ask", modern=False)
    gateway = scripted_gateway(upstream, config={"limits": {"request_timeout_s": 0.02}})
    async with talk(gateway, capabilities=everything) as client:
        _, asked = await held_call(client, upstream, 1)
        await until(lambda: b"notifications/cancelled" in upstream.seen[-1])
        late = await client.error("tools/call", {"name": "ask", "requestState": asked["requestState"]})
        assert "has expired" in late["message"]


async def test_the_end_of_an_upstream_ends_the_calls_that_wait_for_their_clients(
    talk: Talk, everything: dict[str, Any]
) -> None:
    upstream = Scripted("ask", modern=False)
    async with talk(scripted_gateway(upstream), capabilities=everything) as client:
        request, asked = await held_call(client, upstream, 1)
        request["link"].closed = True
        more = {"requestState": asked["requestState"]}
        name = next(iter(asked["inputRequests"]))
        found = await client.error("tools/call", {"name": "ask", "inputResponses": {name: {"roots": []}}, **more})
        assert (found["code"], "closed" in found["message"]) == (-32000, True)


async def test_a_round_that_has_a_state_alone_is_sent_again_by_itself(talk: Talk, everything: dict[str, Any]) -> None:
    upstream = Scripted("ask")
    left = [b'{"resultType":"input_required","requestState":"later"}', b'{"resultType":"complete","content":[]}']
    upstream.answers["tools/call"] = lambda request: result(request, left.pop(0))
    async with talk(scripted_gateway(upstream), "2025-11-25", everything) as client:
        assert await client.call("ask", meta={"progressToken": "p"}) == {"content": []}
        first, second = upstream.of("tools/call")
        assert (second["params"]["requestState"], second["id"] != first["id"]) == ("later", True)
        assert second["params"]["_meta"]["progressToken"] != first["params"]["_meta"]["progressToken"]


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        (b'{"resultType":"input_required"}', "neither which nor a state"),
        (b'{"resultType":"input_required","inputRequests":{"a":{"method":"x/y"}}}', "names no method"),
        (b'{"resultType":"later"}', "unknown resultType"),
        (b"[]", "not an object"),
    ],
)
async def test_a_result_that_is_none_is_told_as_the_upstreams(talk: Talk, text: bytes, wrong: str) -> None:
    upstream = Scripted("ask")
    upstream.answers["tools/call"] = text
    async with talk(scripted_gateway(upstream), "2025-11-25") as client:
        found = await client.error("tools/call", {"name": "ask"})
        assert (found["code"], wrong in found["message"]) == (-32000, True)


async def test_a_session_with_a_line_of_its_own_subscribes_on_it(talk: Talk, everything: dict[str, Any]) -> None:
    upstream = Scripted("echo", modern=False)
    upstream.answers.update({"resources/subscribe": b"{}", "resources/unsubscribe": b"{}"})
    gateway = scripted_gateway(upstream)
    async with gateway.running(), talk(gateway, "2025-11-25", everything) as one, talk(gateway, "2025-11-25") as two:
        for client in (one, two):
            await client.result("resources/subscribe", {"uri": "x://y"})
            await client.result("resources/subscribe", {"uri": "x://y"})
        assert len(upstream.of("resources/subscribe")) == 2
        changed = b'{"jsonrpc":"2.0","method":"notifications/resources/updated","params":{"uri":"x://y"}}'
        upstream.links[1].say(changed)
        await one.settle()
        await two.settle()
        assert ([len(client.notes) for client in (one, two)]) == [1, 0]
        upstream.links[1].say(
            b'{"jsonrpc":"2.0","method":"notifications/elicitation/complete","params":{"elicitationId":"e"}}'
        )
        await one.settle()
        assert one.notes[-1]["params"] == {"elicitationId": "e"}
        for client in (one, two):
            await client.result("resources/unsubscribe", {"uri": "x://y"})
            await client.result("resources/unsubscribe", {"uri": "x://y"})
        await until(lambda: len(upstream.of("resources/unsubscribe")) == 2)
        missing = await one.error("resources/subscribe", {"uri": 5})
        assert "uri must be a string" in missing["message"]


async def test_a_subscription_holds_over_a_restart_of_its_upstream(talk: Talk) -> None:
    upstream = Scripted("echo", modern=False)
    upstream.answers["resources/subscribe"] = b"{}"
    gateway = scripted_gateway(upstream, restart_s=0.005, restart_max_s=0.01)
    async with talk(gateway, "2025-11-25") as client:
        await client.result("resources/subscribe", {"uri": "x://y"})
        line: Any = gateway.upstreams["a"].quick()
        line.conversation.channel._lose(lambda: ConnectionClosedError("gone"))
        await until(lambda: len(upstream.of("resources/subscribe")) == 2)
        upstream.links[-1].say(b'{"jsonrpc":"2.0","method":"notifications/resources/updated","params":{"uri":"x://y"}}')
        await client.settle()
        assert [note["params"] for note in client.notes if "params" in note] == [{"uri": "x://y"}]


async def test_what_was_heard_on_a_line_that_is_lost_is_heard_on_the_shared_one(
    talk: Talk, everything: dict[str, Any]
) -> None:
    upstream = Scripted("echo", modern=False)
    upstream.answers.update({"resources/subscribe": b"{}", "resources/unsubscribe": b"{}"})
    gateway = scripted_gateway(upstream)
    async with gateway.running(), talk(gateway, "2025-11-25", everything) as client:
        await client.result("resources/subscribe", {"uri": "x://y"})
        (session,) = gateway.followers._of
        line: Any = gateway.upstreams["a"].line_of(session)  # type: ignore[arg-type]
        line.conversation.channel._lose(lambda: ConnectionClosedError("gone"))
        await until(lambda: len(upstream.of("resources/subscribe")) == 2)
        upstream.links[0].say(b'{"jsonrpc":"2.0","method":"notifications/resources/updated","params":{"uri":"x://y"}}')
        await client.settle()
        assert [note["params"] for note in client.notes if "params" in note] == [{"uri": "x://y"}]
        await client.result("resources/unsubscribe", {"uri": "x://y"})
        await until(lambda: len(upstream.of("resources/unsubscribe")) == 1)


async def test_an_upstream_that_asks_on_a_line_that_is_shared_gets_no_answer(talk: Talk) -> None:
    upstream = Scripted("echo", modern=False)
    async with talk(scripted_gateway(upstream), "2025-11-25") as client:
        id = client.post("tools/call", {"name": "echo"})
        await until(lambda: len(upstream.waiting) == 1)
        (request,) = upstream.waiting
        request["link"].say(b'{"jsonrpc":"2.0","id":1,"method":"roots/list"}')
        await until(lambda: b"-32601" in upstream.seen[-1])
        log = {"jsonrpc": "2.0", "method": "notifications/message", "params": {"level": "error", "data": "whose?"}}
        request["link"].say(json.dumps(log).encode())
        request["link"].say(result(request, b'{"content":[]}'))
        assert (await client.answer(id))["result"] == {"content": []}
        assert client.notes == []


async def test_a_callers_credentials_go_no_further(talk: Talk) -> None:
    seen: list[dict[str, str]] = []
    server = Server("behind")

    async def look(ctx: Context) -> str:
        seen.append(dict(ctx.headers))
        return "seen"

    server.add_tool(look)
    async with server_http(server) as listener:
        url = f"http://127.0.0.1:{listener.port}/mcp"
        config = UpstreamConfig("b", "http", url=url, headers={"X-Own": "ours"})
        gateway = Gateway(GatewayConfig((config,)))
        async with gateway_http(gateway, port=0) as front:
            body = json.dumps(
                {
                    "jsonrpc": "2.0",
                    "id": 1,
                    "method": "tools/call",
                    "params": {"name": "look", "_meta": json.loads(META)},
                }
            )
            sent = {
                "Content-Type": "application/json", "MCP-Protocol-Version": "2026-07-28", "Mcp-Method": "tools/call",
                "Mcp-Name": "look", "Authorization": "Bearer secret-of-the-caller", "X-API-Key": "another",
                "Cookie": "session=1",
            }  # fmt: skip
            status, _ = await asyncio.to_thread(post, front.port, body, sent)
    assert status == 200
    (headers_seen,) = seen
    assert headers_seen["x-own"] == "ours"
    assert not {"authorization", "x-api-key", "cookie"} & headers_seen.keys()


@pytest.mark.parametrize(("code", "status"), [(-32601, 404), (-32021, 400), (-31000, 200), (-32602, 200)])
async def test_an_upstreams_error_has_the_status_that_its_code_must_have(code: int, status: int) -> None:
    upstream = Scripted("echo")
    upstream.answers["tools/call"] = lambda request: error(request, code, "so")
    async with gateway_http(scripted_gateway(upstream), port=0) as front:
        params = {"name": "echo", "_meta": json.loads(META)}
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params})
        sent = {"Content-Type": "application/json", "MCP-Protocol-Version": "2026-07-28", "Mcp-Method": "tools/call"}
        found = await asyncio.to_thread(post, front.port, body, {**sent, "Mcp-Name": "echo"})
        assert found[0] == status
        assert json.loads(found[1])["error"] == {"code": code, "message": "so"}
        wrong = await asyncio.to_thread(post, front.port, body, {**sent, "Mcp-Name": "other"})
        assert (wrong[0], json.loads(wrong[1])["error"]["code"]) == (400, -32020)


def post(port: int, body: str, headers: dict[str, str]) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("POST", "/mcp", body, headers)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()
