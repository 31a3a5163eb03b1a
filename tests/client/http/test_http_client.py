"""The whole client over HTTP: eras found out, sessions begun anew, questions answered, both protocols."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from rawpeer import make_house
from scripted import LATEST, MODERN, WAIT_S, fault, nothing_left, once, scripted

from erlmcp.client.client import Client
from erlmcp.client.http import HttpChannel
from erlmcp.errors import ConnectionClosedError, HttpStatusError, McpError
from erlmcp.server.serve import http

MODES = ["auto", "legacy", MODERN, "2024-11-05", "2025-03-26"]


def url_of(listener: Any) -> str:
    return f"http://127.0.0.1:{listener.port}/mcp"


@pytest.mark.parametrize("mode", MODES)
async def test_a_client_works_over_http_in_each_era(mode: str, loop_kind: str) -> None:
    house = make_house()
    steps: list[float] = []

    async def name(params: Any) -> dict[str, Any]:
        return {"action": "accept", "content": {"name": "Ada"}}

    async with (
        nothing_left(),
        http(house.server) as listener,
        Client(url_of(listener), mode=mode, elicitation=name) as client,
    ):
        assert client.era == ("modern" if mode in ("auto", MODERN) else "legacy")
        assert (await client.call_tool("echo", {"text": "grüß"})).text == "grüß"
        found = await client.call_tool("count", {"steps": 3}, on_progress=lambda done, total, text: steps.append(done))
        assert found.text == "counted to 3"
        assert steps == [1, 2, 3]
        assert "echo" in {tool.name for tool in await client.list_tools()}
        assert (await client.read_resource("house://door")).contents[0].text == "open"
        if mode not in ("2024-11-05", "2025-03-26"):
            assert (await client.call_tool("name")).text == "Hello, Ada!"
        with pytest.raises(McpError):
            await client.get_prompt("nothing")
        await client.ping()


async def test_many_calls_come_back_in_order(loop_kind: str) -> None:
    async with nothing_left(), http(make_house().server) as listener, Client(url_of(listener)) as client:
        found = await client.call_many([("echo", {"text": f"call {n}"}) for n in range(100)])
        assert [result.text for result in found] == [f"call {n}" for n in range(100)]


async def test_a_call_to_a_server_that_lost_the_session_begins_another_and_is_sent_again(loop_kind: str) -> None:
    house = make_house()
    async with nothing_left(), http(house.server) as listener, Client(url_of(listener), mode="legacy") as client:
        assert (await client.call_tool("echo", {"text": "one"})).text == "one"
        for _id, session in listener.handler.sessions.drain():
            session.close()
        assert (await client.call_tool("echo", {"text": "two"})).text == "two"
        assert house.calls == ["one", "two"]
        assert len(listener.handler.sessions) == 1


async def test_a_client_of_a_ready_channel_connects_again(loop_kind: str) -> None:
    async with nothing_left(), http(make_house().server) as listener:
        client = Client(HttpChannel(url_of(listener)))
        for _ in range(2):
            async with client:
                assert (await client.call_tool("echo", {"text": "one"})).text == "one"


async def test_a_server_that_is_gone_is_an_error_and_one_that_is_back_is_used(loop_kind: str) -> None:
    async with nothing_left():
        async with http(make_house().server) as listener:
            port = listener.port
            client = Client(url_of(listener))
            await client.connect()
            assert (await client.call_tool("echo", {"text": "one"})).text == "one"
        with pytest.raises(ConnectionClosedError, match="cannot reach"):
            await client.call_tool("echo", {"text": "two"})
        async with http(make_house().server, port=port):
            assert (await client.call_tool("echo", {"text": "three"})).text == "three"
            await client.aclose()


async def test_a_refusal_for_want_of_a_token_is_no_verdict_on_the_era() -> None:
    def answer(line: Any, asked: Any) -> None:
        line.answer(401, fault(None, -32000), WWW_Authenticate="Bearer")

    async with nothing_left(), scripted(once(answer)) as peer:
        with pytest.raises(HttpStatusError) as caught:
            await Client(peer.url).connect()
        assert caught.value.headers["www-authenticate"] == "Bearer"
        assert len(peer.requests) == 1


@pytest.mark.parametrize(("status", "body"), [(400, fault(None, -32000)), (404, b""), (405, b"<html>"), (400, b"")])
async def test_a_server_of_the_handshake_era_is_found_out(status: int, body: bytes) -> None:
    def answer(line: Any, asked: Any) -> None:
        message = asked.json if asked.body else {}
        if asked.verb != "POST":
            line.answer(405)
        elif message["method"] == "server/discover":
            line.answer(status, body)
        elif "id" in message:
            line.result(asked, {"protocolVersion": LATEST, "capabilities": {}, "content": []})
        else:
            line.answer(202)

    async with nothing_left(), scripted(once(answer)) as peer, Client(peer.url) as client:
        assert client.protocol_version == LATEST
        await client.call_tool("x")


async def test_http_2_carries_a_hundred_calls_at_a_time() -> None:
    pytest.importorskip("h2")
    from scripted2 import scripted2

    def answer(side: Any, asked: Any) -> None:
        params = asked.json["params"]
        if asked.json["method"] == "server/discover":
            side.result(asked, {"supportedVersions": [MODERN], "capabilities": {}})
        else:
            side.result(asked, {"content": [{"type": "text", "text": params["arguments"]["text"]}]})

    async with nothing_left(), scripted2(answer) as peer:
        async with asyncio.timeout(WAIT_S), Client(HttpChannel(peer.url, http2=True)) as client:
            found = await client.call_many([("echo", {"text": f"call {n}"}) for n in range(100)])
            assert [result.text for result in found] == [f"call {n}" for n in range(100)]
        assert len(peer.sides) == 1


async def test_calls_at_the_same_time_to_a_lost_session_begin_one_other_and_are_each_made_once(loop_kind: str) -> None:
    house = make_house()
    async with nothing_left(), http(house.server) as listener, Client(url_of(listener), mode="legacy") as client:
        await client.call_many([("echo", {"text": "warm"})] * 16)
        house.calls.clear()
        for _id, session in listener.handler.sessions.drain():
            session.close()
        found = await client.call_many([("echo", {"text": f"call {n}"}) for n in range(16)])
        assert [result.text for result in found] == [f"call {n}" for n in range(16)]
        assert sorted(house.calls) == sorted(f"call {n}" for n in range(16))
        assert len(listener.handler.sessions) == 1


async def test_a_connection_that_is_lost_costs_the_calls_on_it_and_no_others(loop_kind: str) -> None:
    """Over HTTP a conversation is no connection: what may be sent again is, and the others go on."""
    held: list[Any] = []

    async def answer(line: Any, asked: Any) -> None:
        message = asked.json
        if message["method"] == "server/discover":
            line.result(asked, {"supportedVersions": [MODERN], "capabilities": {}})
        elif message["method"] == "tools/call":
            held.append((line, asked))
            if len(held) == 1:
                return
        elif len(line.peer.requests) == 3:
            line.abort()
        else:
            line.result(asked, {"tools": []})
            first, call = held[0]
            first.result(call, {"content": [{"type": "text", "text": "still here"}]})

    async with nothing_left(), scripted(once(answer)) as peer, Client(peer.url) as client:
        calling = asyncio.ensure_future(client.call_tool("slow"))
        async with asyncio.timeout(WAIT_S):
            while not held:
                await asyncio.sleep(0)
            assert await client.list_tools() == []
            assert (await calling).text == "still here"
        assert [asked.json["method"] for asked in peer.requests].count("server/discover") == 1
