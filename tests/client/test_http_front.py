"""What a client does differently over HTTP, with a channel that only pretends: eras by status, headers, sessions."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Callable
from typing import Any

import pytest
from ways import MODERN_RESULT, connected

from erlmcp import CallTimeoutError, Client, McpError, core
from erlmcp.client.bound import ClientLimits
from erlmcp.errors import CallTimeoutError as Timeout
from erlmcp.errors import ConnectionClosedError, HttpStatusError

DISCOVERED = {"supportedVersions": ["2026-07-28"], "capabilities": {}, "ttlMs": 0, "cacheScope": "private"}
Reply = Callable[[Any], Any]


class Pretended:
    """A channel whose answers come from ``replies``: method -> function of the request, which gives a result, an
    McpError for an error answer, any other exception to fail with, or None for silence."""

    is_http = True
    address = "http://pretended"

    def __init__(self, **replies: Reply) -> None:
        self.replies = {
            "server/discover": lambda request: {**MODERN_RESULT, **DISCOVERED},
            **{name.replace("__", "/"): reply for name, reply in replies.items()},
        }
        self.sent: list[Any] = []
        self.eras: list[tuple[str, str]] = []
        self.opened_count = 0
        self._ids = itertools.count(1)
        self._front: Any = None

    async def open(self, front: Any) -> None:
        self.opened_count += 1
        self._front = front

    def send(self, request: Any) -> None:
        request.id = next(self._ids)
        request.is_sent = True
        self.sent.append(request)
        found = self.replies[request.method](request)
        if found is None:
            asyncio.get_running_loop().call_soon(request.fail, Timeout("timeout_s", request.timeout_s, request.method))
        elif isinstance(found, McpError):
            error = {"code": found.code, "message": found.message, "data": found.data}
            request.settle(call_of({"id": request.id, "error": error}))
        elif isinstance(found, ConnectionClosedError) and str(found) == "session":
            request.is_sent = False
            request.fail(found)
            self._front.lost(found)
        elif isinstance(found, Exception):
            request.fail(found)
        else:
            request.settle(call_of({"id": request.id, "result": found}))

    def notify(self, method: str, params: Any) -> None: ...
    def answer(self, id_raw: bytes, result: object, error: Any = None) -> None: ...
    def cancel(self, request: Any, reason: str) -> None: ...
    def negotiated(self, era: str, version: str) -> None:
        self.eras.append((era, version))

    async def aclose(self) -> None:
        self._front = None


def call_of(message: dict[str, Any]) -> Any:
    found = core.Inbound(None, None).feed(json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n")
    return found[0]


def welcome(request: Any) -> dict[str, Any]:
    info = {"name": "old", "version": "1"}
    return {"protocolVersion": request.params["protocolVersion"], "capabilities": {}, "serverInfo": info}


def text(value: str) -> dict[str, Any]:
    return {**MODERN_RESULT, "content": [{"type": "text", "text": value}]}


@pytest.mark.parametrize("status", [400, 404, 405])
async def test_a_refusal_without_a_modern_error_is_a_server_of_the_handshake_era(status: int) -> None:
    channel = Pretended(server__discover=lambda request: HttpStatusError(status, "no", "x"), initialize=welcome)
    async with connected(channel) as client:
        assert client.era == "legacy"
    assert channel.eras == [("modern", "2026-07-28"), ("legacy", ""), ("legacy", "2025-11-25")]


@pytest.mark.parametrize("status", [401, 403, 500, 503])
async def test_any_other_status_says_nothing_of_the_era(status: int) -> None:
    channel = Pretended(server__discover=lambda request: HttpStatusError(status, "no", "x"), initialize=welcome)
    with pytest.raises(HttpStatusError) as raised:
        await Client(channel).connect()
    assert raised.value.status == status
    assert [request.method for request in channel.sent] == ["server/discover"]


async def test_silence_is_an_outage_over_http() -> None:
    channel = Pretended(server__discover=lambda request: None, initialize=welcome)
    with pytest.raises(CallTimeoutError, match="server/discover"):
        await Client(channel, limits=ClientLimits(probe_timeout_s=0.01)).connect()
    assert channel.sent[0].timeout_s == 30


def listed(request: Any) -> dict[str, Any]:
    region = {"type": "string", "x-mcp-header": "Region"}
    tools = [
        {
            "name": "near",
            "inputSchema": {"type": "object", "properties": {"region": region, "size": {"type": "integer"}}},
        },
        {"name": "bad", "inputSchema": {"type": "object", "properties": {"a": {**region, "x-mcp-header": "no good"}}}},
        {"name": "plain", "inputSchema": {"type": "object"}},
    ]
    return {**MODERN_RESULT, "tools": tools, "ttlMs": 60_000, "cacheScope": "public"}


async def test_marked_arguments_travel_as_headers_and_bad_tools_are_left_out(
    caplog: pytest.LogCaptureFixture,
) -> None:
    channel = Pretended(tools__list=listed, tools__call=lambda request: text("ok"))
    async with connected(channel) as client:
        assert [tool.name for tool in await client.list_tools()] == ["near", "plain"]
        await client.call_tool("near", {"region": "eu", "size": 3})
        assert (channel.sent[-1].headers, channel.sent[-1].name) == ({"Mcp-Param-Region": "eu"}, "near")
        await client.call_tool("plain")
        assert channel.sent[-1].headers is None
    assert "tool bad is left out" in caplog.text


async def test_a_mismatch_of_headers_is_mended_once_by_listing_the_tools() -> None:
    def called(request: Any) -> Any:
        return text("ok") if request.headers == {"Mcp-Param-Region": "eu"} else McpError(-32020, "Header mismatch")

    channel = Pretended(tools__list=listed, tools__call=called)
    async with connected(channel) as client:
        assert (await client.call_tool("near", {"region": "eu"})).data == "ok"
        assert [each.method for each in channel.sent[1:]] == ["tools/call", "tools/list", "tools/call"]
        with pytest.raises(McpError, match="Header mismatch"):
            await client.call_tool("plain")


async def test_a_session_that_is_lost_is_begun_anew_and_what_was_not_taken_is_sent_again() -> None:
    count = itertools.count()

    def called(request: Any) -> Any:
        return ConnectionClosedError("session") if next(count) == 0 else text("ok")

    channel = Pretended(
        server__discover=lambda request: HttpStatusError(400, "no", "x"), initialize=welcome, tools__call=called
    )
    async with connected(channel) as client:
        assert (await client.call_tool("a")).data == "ok"
        assert channel.opened_count == 2


async def test_one_connection_of_many_that_breaks_is_not_the_end_of_the_conversation() -> None:
    count = itertools.count()

    def called(request: Any) -> Any:
        return ConnectionClosedError("reset") if next(count) % 2 == 0 else {**listed(request), "ttlMs": 0}

    channel = Pretended(tools__list=called, tools__call=lambda request: ConnectionClosedError("reset"))
    async with connected(channel) as client:
        assert len(await client.list_tools()) == 2  # asked again, as it may be
        with pytest.raises(ConnectionClosedError, match="reset"):
            await client.call_tool("a")
        assert channel.opened_count == 1
