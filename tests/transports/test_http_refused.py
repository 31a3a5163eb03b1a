"""A call that is refused says over HTTP, too, when to come back."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from rawpeer import LATEST, ask_once, initialize, legacy, modern, modern_post, post, tool

from erlmcp import Context, Guards, RateRule, Server
from erlmcp.runtime.reply import retry_after
from erlmcp.server.guarding import caller_at, caller_behind, caller_of
from erlmcp.server.serve import http
from erlmcp.wire.header import Verdict


@pytest.mark.parametrize(
    ("data", "line"),
    [
        ({"retryAfterMs": 1}, b"Retry-After: 1\r\n"),
        ({"retryAfterMs": 2000}, b"Retry-After: 2\r\n"),
        ({"retryAfterMs": 2001, "reason": "busy"}, b"Retry-After: 3\r\n"),
        ({"retryAfterMs": True}, b""),
        ({"retryAfterMs": -1}, b""),
        ({"retryAfterMs": "5\r\nEvil: 1"}, b""),
        ({}, b""),
        (None, b""),
        ([], b""),
    ],
    ids=str,
)
def test_the_header_is_in_whole_seconds_and_never_too_soon(data: Any, line: bytes) -> None:
    assert retry_after(data) == line


async def test_a_refused_call_has_the_header() -> None:
    server = Server("house", guards=Guards(rate_limit=RateRule(0.001, burst=1)))

    @server.tool
    async def echo(text: str) -> str:
        return text

    async with http(server) as listener:
        opened = await ask_once(listener.port, post(initialize(LATEST)))
        session = {"Mcp-Session-Id": opened.headers["mcp-session-id"], "MCP-Protocol-Version": LATEST}
        first = await ask_once(listener.port, modern_post(modern(1, "tools/call", tool("echo", text="a")), {}))
        second = await ask_once(listener.port, modern_post(modern(2, "tools/call", tool("echo", text="b")), {}))
        third = await ask_once(listener.port, post(legacy(3, "tools/call", tool("echo", text="c")), session))
    assert "retry-after" not in first.headers
    assert second.json["error"]["data"]["reason"] == "rate_limited"
    assert second.headers["retry-after"] == third.headers["retry-after"] == "1000"


async def test_each_credential_has_a_rate_of_its_own_whatever_the_way_and_the_connection() -> None:
    server = Server("house", guards=Guards(rate_limit=RateRule(0.001, burst=2, per="caller")))

    @server.tool
    async def echo(text: str) -> str:
        return text

    @server.tool
    async def general(text: str, ctx: Context) -> str:
        return text

    async def refused(name: str, credential: str | None) -> bool:
        headers = {} if credential is None else {"Authorization": credential}
        message = modern(1, "tools/call", tool(name, text="a"))
        return "error" in (await ask_once(listener.port, modern_post(message, headers))).json

    async with http(server) as listener:
        for name in ("echo", "general"):
            for credential in ("Bearer ann", "Bearer bob", "Bearer \xe9" + "x" * 400, None):
                assert [await refused(name, credential) for _ in range(3)] == [False, False, True]


async def test_the_caller_is_the_same_by_the_short_way_and_by_the_general_one() -> None:
    verdict = Verdict(headers={"authorization": "Bearer ann"})
    session: Any = SimpleNamespace(id=None, serial=7)
    exchange: Any = SimpleNamespace(headers={"authorization": "Bearer ann"}, session=session)
    assert caller_behind(verdict) == caller_of(exchange) == verdict.caller
    assert "ann" not in verdict.caller
    nobody: Any = SimpleNamespace(headers={"host": "house"}, session=session)
    assert caller_behind(Verdict(headers={"host": "house"})) == caller_of(nobody)
    link: Any = SimpleNamespace(headers=None, session=session)
    assert caller_of(link) == caller_at(session) != caller_of(nobody)
    legacy: Any = SimpleNamespace(headers={"host": "house"}, session=SimpleNamespace(id="session"))
    assert caller_of(legacy) == "session"
