"""Eras, the handshake and ids: what may be said on one conversation, and when (2026-07-28 and before)."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from erlmcp import Limits, Server

LEGACY = ("2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25")
MODERN = "2026-07-28"
EVERY = (*LEGACY, MODERN)


def make_server(**options: Any) -> Server:
    server = Server("s", version="7", title="S", description="d", website_url="https://example.org", **options)

    @server.tool
    async def echo(text: str) -> str:
        return text

    @server.tool
    async def hang() -> str:
        await asyncio.Event().wait()
        return "never"

    return server


# -- the handshake ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", LEGACY)
async def test_initialize_is_answered_with_the_version_that_was_asked_for(talk: Any, version: str) -> None:
    async with talk(make_server(instructions="be kind"), version) as client:
        assert client.hello["protocolVersion"] == version
        assert client.hello["instructions"] == "be kind"
        assert client.hello["serverInfo"]["name"] == "s"
        assert client.hello["serverInfo"]["version"] == "7"
        assert client.hello["capabilities"]["tools"] == {"listChanged": True}


@pytest.mark.parametrize("asked", ["2024-10-07", "1.0", "2026-07-28", "2099-01-01", ""])
async def test_initialize_with_another_version_is_offered_the_newest_handshake_version(talk: Any, asked: str) -> None:
    async with talk(make_server(), "2025-11-25", handshake=False) as client:
        client.version = asked or "none"
        params = {"protocolVersion": asked, "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}
        client.send({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params})
        assert (await client.answer(1))["result"]["protocolVersion"] == "2025-11-25"


@pytest.mark.parametrize(
    ("version", "known"),
    [
        ("2024-11-05", {"name", "version"}),
        ("2025-03-26", {"name", "version"}),
        ("2025-06-18", {"name", "version", "title"}),
        ("2025-11-25", {"name", "version", "title", "description", "websiteUrl"}),
    ],
)
async def test_server_info_has_the_fields_of_the_revision(talk: Any, version: str, known: set[str]) -> None:
    async with talk(make_server(), version) as client:
        assert set(client.hello["serverInfo"]) == known


@pytest.mark.parametrize(
    "params",
    [
        None,
        {},
        {"protocolVersion": 3, "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}},
        {"protocolVersion": "2025-11-25", "capabilities": [], "clientInfo": {"name": "t", "version": "1"}},
        {"protocolVersion": "2025-11-25", "capabilities": {}},
        {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t"}},
        {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": 1, "version": "1"}},
    ],
)
async def test_a_malformed_initialize_is_refused_and_may_be_tried_again(talk: Any, params: Any) -> None:
    async with talk(make_server(), "2025-11-25", handshake=False) as client:
        client.send(
            {"jsonrpc": "2.0", "id": 1, "method": "initialize", **({} if params is None else {"params": params})}
        )
        assert (await client.answer(1))["error"]["code"] == -32602
        client._next = 1
        await client.handshake()
        assert client.hello["protocolVersion"] == "2025-11-25"


async def test_a_second_initialize_is_refused(talk: Any) -> None:
    async with talk(make_server(), "2025-06-18") as client:
        params = {"protocolVersion": "2025-03-26", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}
        assert (await client.error("initialize", params))["code"] == -32600
        assert (await client.text("echo", {"text": "still 2025-06-18"})) == "still 2025-06-18"


async def test_before_initialize_only_ping_is_answered(talk: Any) -> None:
    async with talk(make_server(), "2025-11-25", handshake=False) as client:
        assert (await client.error("tools/list"))["code"] == -32602
        assert (await client.error("tools/call", {"name": "echo", "arguments": {"text": "x"}}))["code"] == -32602
        assert (await client.error("no/such"))["code"] == -32601
        assert await client.result("ping") == {}
        await client.handshake()
        assert await client.result("tools/list")


async def test_unknown_methods_are_refused_in_both_eras(talk: Any) -> None:
    for version in EVERY:
        async with talk(make_server(), version) as client:
            assert (await client.error("tools/destroy"))["code"] == -32601
            assert (await client.error("notifications/initialized"))["code"] == -32601


@pytest.mark.parametrize(
    "method", ["initialize", "ping", "resources/subscribe", "resources/unsubscribe", "logging/setLevel", "tasks/get"]
)
async def test_methods_that_were_removed_do_not_exist_in_the_modern_era(talk: Any, method: str) -> None:
    async with talk(make_server()) as client:
        assert (await client.error(method, {"uri": "a://b", "level": "info"}))["code"] == -32601


@pytest.mark.parametrize("method", ["server/discover", "subscriptions/listen"])
async def test_modern_methods_do_not_exist_in_the_handshake_eras(talk: Any, method: str) -> None:
    for version in LEGACY:
        async with talk(make_server(), version) as client:
            assert (await client.error(method, {"notifications": {}}))["code"] == -32601


# -- which era ----------------------------------------------------------------------------------------------------


async def test_initialize_after_a_modern_request_names_the_versions_that_are_spoken(talk: Any) -> None:
    async with talk(make_server()) as client:
        await client.result("server/discover")
        client.version = "2025-11-25"
        params = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}
        error = await client.error("initialize", params)
        assert error["code"] == -32022
        assert error["data"] == {"supported": [MODERN], "requested": "2025-11-25"}


async def test_a_request_without_an_envelope_is_refused_on_a_modern_connection(talk: Any) -> None:
    async with talk(make_server()) as client:
        await client.result("server/discover")
        client.version = "2025-11-25"
        assert (await client.error("tools/list"))["code"] == -32602
        assert (await client.error("tools/call", {"name": "echo", "arguments": {"text": "x"}}))["code"] == -32602
        client.version = MODERN
        assert await client.text("echo", {"text": "x"}) == "x"


async def test_an_enveloped_request_is_refused_on_a_handshake_connection(talk: Any) -> None:
    async with talk(make_server(), "2025-11-25") as client:
        client.version = MODERN
        assert (await client.error("tools/list"))["code"] == -32600
        assert (await client.error("tools/call", {"name": "echo", "arguments": {"text": "x"}}))["code"] == -32600
        client.version = "2025-11-25"
        assert await client.text("echo", {"text": "x"}) == "x"


async def test_a_ping_pins_the_handshake_era(talk: Any) -> None:
    async with talk(make_server(), "2025-11-25", handshake=False) as client:
        assert await client.result("ping") == {}
        client.version = MODERN
        assert (await client.error("server/discover"))["code"] == -32600


async def test_a_refused_modern_request_does_not_pin_the_era(talk: Any) -> None:
    async with talk(make_server()) as client:
        error = await client.error("server/discover", meta={"io.modelcontextprotocol/protocolVersion": "2099-01-01"})
        assert error["code"] == -32022
        assert error["data"] == {"supported": [MODERN], "requested": "2099-01-01"}
        client.version = "2025-11-25"
        await client.handshake()
        assert client.hello["protocolVersion"] == "2025-11-25"


async def test_a_handshake_connection_refuses_an_envelope_before_it_looks_into_it(talk: Any) -> None:
    async with talk(make_server(), "2025-11-25") as client:
        meta = {"io.modelcontextprotocol/protocolVersion": "2099-01-01"}
        assert (await client.error("tools/list", meta=meta))["code"] == -32600


@pytest.mark.parametrize(
    "broken",
    [
        {"io.modelcontextprotocol/protocolVersion": 20260728},
        {"io.modelcontextprotocol/clientCapabilities": None},
        {"io.modelcontextprotocol/clientCapabilities": []},
        {"io.modelcontextprotocol/clientInfo": {"name": "x"}},
        {"io.modelcontextprotocol/clientInfo": "x"},
        {"io.modelcontextprotocol/logLevel": "loud"},
        {"io.modelcontextprotocol/logLevel": ["info"]},
        {"io.modelcontextprotocol/logLevel": {}},
        {"io.modelcontextprotocol/logLevel": 1},
        {"progressToken": 1.5},
        {"progressToken": True},
    ],
)
async def test_an_ill_typed_envelope_is_an_invalid_params_error(talk: Any, broken: dict[str, Any]) -> None:
    async with talk(make_server()) as client:
        assert (await client.error("tools/list", meta=broken))["code"] == -32602
        assert await client.result("tools/list")


async def test_missing_envelope_keys_are_an_invalid_params_error(talk: Any) -> None:
    async with talk(make_server()) as client:
        await client.result("server/discover")
        for meta in ({}, {"io.modelcontextprotocol/protocolVersion": MODERN}):
            client.send({"jsonrpc": "2.0", "id": "m", "method": "tools/list", "params": {"_meta": meta}})
            assert (await client.answer("m"))["error"]["code"] == -32602
        client.send({"jsonrpc": "2.0", "id": "m", "method": "tools/list"})
        assert (await client.answer("m"))["error"]["code"] == -32602


async def test_client_info_is_optional_in_the_envelope_and_reaches_the_handler(talk: Any) -> None:
    server = make_server()
    seen = []

    async def look(ctx: Any, call_next: Any) -> Any:
        seen.append(ctx.client_info)
        return await call_next(ctx)

    server.add_middleware(look)
    async with talk(server) as client:
        await client.result("tools/list")
        await client.result(
            "tools/list", meta={"io.modelcontextprotocol/clientInfo": {"name": "c", "version": "2", "extra": 1}}
        )
    assert seen == [None, {"name": "c", "version": "2", "extra": 1}]


# -- ids ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("id", [0, 1, -1, 2**53, 10**30, "1", "", 'ü"\\\n', "x" * 1000])
async def test_ids_come_back_as_they_were_sent(talk: Any, id: Any) -> None:
    for version in ("2025-11-25", MODERN):
        async with talk(make_server(), version) as client:
            client.post("tools/list", id=id)
            answer = await client.receive()
            assert answer["id"] == id
            assert type(answer["id"]) is type(id)


@pytest.mark.parametrize("id", [None, 1.5, True, [], {}])
async def test_what_is_no_id_is_refused_with_a_null_id(talk: Any, id: Any) -> None:
    async with talk(make_server()) as client:
        message = client.message("tools/list")
        client.send({**message, "id": id})
        answer = await client.receive()
        assert answer["id"] is None
        assert answer["error"]["code"] == -32600


@pytest.mark.parametrize("version", ["2025-11-25", MODERN])
async def test_an_id_in_use_is_refused_and_its_string_twin_is_not(talk: Any, version: str) -> None:
    async with talk(make_server(), version) as client:
        client.post("tools/call", {"name": "hang"}, id=41)
        assert (await client.error("tools/list", id=41))["code"] == -32600
        assert (await client.error("tools/call", {"name": "echo", "arguments": {"text": "x"}}, id=41))["code"] == -32600
        assert await client.text("echo", {"text": "x"}, id="41") == "x"
        client.notify("notifications/cancelled", {"requestId": 41})
        await client.settle()
        assert await client.text("echo", {"text": "again"}, id=41) == "again"


async def test_more_requests_than_inflight_count_max_are_told_that_the_server_is_busy(talk: Any) -> None:
    server = make_server(limits=Limits(inflight_count_max=2))
    async with talk(server) as client:
        first, second = client.post("tools/call", {"name": "hang"}), client.post("tools/call", {"name": "hang"})
        error = await client.error("tools/call", {"name": "echo", "arguments": {"text": "x"}})
        assert error["code"] == -32000
        assert "inflight_count_max=2" in error["message"]
        client.notify("notifications/cancelled", {"requestId": first})
        await client.settle()
        assert await client.text("echo", {"text": "x"}) == "x"
        client.notify("notifications/cancelled", {"requestId": second})


# -- broken input -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "code"),
    [
        (b"{", -32700),
        (b"nonsense", -32700),
        (b'{"jsonrpc":"2.0","id":1,"method":"ping"', -32700),
        (b"[]", -32600),
        (b"1", -32600),
        (b"null", -32600),
        (b'{"jsonrpc":"1.0","id":1,"method":"ping"}', -32600),
        (b'{"jsonrpc":"2.0","id":1,"method":7}', -32600),
        (b'{"jsonrpc":"2.0","id":1}', -32600),
        (b'{"jsonrpc":"2.0","id":1,"method":"ping","params":3}', -32600),
    ],
)
async def test_a_bad_line_is_answered_and_the_next_one_is_served(talk: Any, line: bytes, code: int) -> None:
    async with talk(make_server(), "2025-11-25") as client:
        client.send(line)
        assert (await client.receive())["error"]["code"] == code
        assert await client.result("ping") == {}


@pytest.mark.parametrize(
    "message",
    [
        {"jsonrpc": "2.0", "id": 5, "result": {}},
        {"jsonrpc": "2.0", "id": "nobody", "error": {"code": 1, "message": "x"}},
        {"jsonrpc": "2.0", "id": 5, "result": {}, "error": {"code": 1, "message": "x"}},
        {"jsonrpc": "2.0", "result": {}},
        {"jsonrpc": "2.0", "id": None, "error": {"code": 1, "message": "x"}},
    ],
)
async def test_what_looks_like_an_answer_is_never_answered(talk: Any, message: Any) -> None:
    async with talk(make_server(), "2025-11-25") as client:
        client.send(message)
        assert await client.settle() == []
        assert await client.result("ping") == {}


@pytest.mark.parametrize(
    "method", ["tools/call", "tools/list", "ping", "initialize", "subscriptions/listen", "notifications/unknown", "x"]
)
async def test_notifications_are_never_answered_whatever_their_method(talk: Any, method: str, caplog: Any) -> None:
    for version in ("2025-11-25", MODERN):
        async with talk(make_server(), version) as client:
            client.notify(method, {"name": "echo", "arguments": {"text": "x"}})
            client.notify("notifications/cancelled", {"requestId": [1]})
            client.notify("notifications/cancelled")
            client.notify("notifications/progress", {"progressToken": 1, "progress": 1})
            client.notify("notifications/roots/list_changed")
            assert await client.settle() == []
            assert await client.result("tools/list")
    assert not [record for record in caplog.records if record.levelname == "ERROR"], caplog.records


async def test_a_message_may_come_in_any_cut_and_many_in_one(talk: Any) -> None:
    import json

    async with talk(make_server()) as client:
        lines = [
            json.dumps(client.message("tools/call", {"name": "echo", "arguments": {"text": str(n)}})) for n in range(9)
        ]
        data = ("\n".join(lines) + "\r\n\n").encode()
        for start in range(0, len(data), 7):
            client.wire.send(data[start : start + 7])
        for n in range(9):
            assert (await client.answer(n + 1))["result"]["content"][0]["text"] == str(n)
