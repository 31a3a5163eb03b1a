"""A gateway's calls that end in other ways than by their answer: nothing is held, and nothing reaches another."""

from __future__ import annotations

from typing import Any

from stage import Scripted, error, result, scripted_gateway

from erlmcp import Client
from erlmcp.errors import SERVER_BUSY
from erlmcp.policy.protection import Guards
from erlmcp.policy.retry import RetryRule

DONE = b'{"content":[],"resultType":"complete"}'
AGAIN = Guards(retry=RetryRule(attempt_max=3, backoff_s=1e-4, backoff_s_max=1e-3, reserve=100))


async def test_a_call_that_was_sent_again_is_counted_as_in_flight_once() -> None:
    upstream = Scripted("echo")
    count = 0

    def answer(request: dict[str, Any]) -> bytes:
        nonlocal count
        count += 1
        return error(request, SERVER_BUSY, "not now") if count % 2 else result(request, DONE)

    upstream.answers["tools/call"] = answer
    gateway = scripted_gateway(upstream, guards=AGAIN)
    async with Client(gateway, mode="2026-07-28") as client:
        for _ in range(3):
            await client.call_tool("echo", {})
        assert count == 6
        assert gateway.turn.load.inflight == 0
