"""A call that is refused says over HTTP, too, when to come back."""

from __future__ import annotations

from typing import Any

import pytest
from rawpeer import ask_once, modern, modern_post, tool

from erlmcp import Guards, RateRule, Server
from erlmcp.runtime.reply import retry_after
from erlmcp.server.serve import http


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
        first = await ask_once(listener.port, modern_post(modern(1, "tools/call", tool("echo", text="a")), {}))
        second = await ask_once(listener.port, modern_post(modern(2, "tools/call", tool("echo", text="b")), {}))
    assert "retry-after" not in first.headers
    assert second.json["error"]["data"]["reason"] == "rate_limited"
    assert second.headers["retry-after"] == "1000"
