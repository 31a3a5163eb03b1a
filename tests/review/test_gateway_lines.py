"""A gateway's lines and what is held on them: made-up clients, ends in the midst, files that cannot be opened."""

from __future__ import annotations

from typing import Any

from stage import Scripted, build_shop, scripted_gateway

from erlmcp.gateway.app import Gateway
from erlmcp.gateway.config import GatewayConfig, UpstreamConfig
from erlmcp.server.serve import http as server_http

DONE = b'{"content":[]}'


async def test_clients_that_make_up_capabilities_take_no_lines_from_others(talk: Any) -> None:
    """Over a pipe: a line for each call, which rests."""
    upstream = Scripted("echo", modern=False)
    upstream.answers["tools/call"] = DONE
    gateway = scripted_gateway(upstream, line_count_max=4)
    async with gateway.running():
        for number in range(10):
            async with talk(gateway, "2026-07-28", {"elicitation": {f"made_up_{number}": {}}}) as client:
                assert await client.call("echo")
    assert sum(not link.closed for link in upstream.links) == 0


async def test_clients_that_make_up_capabilities_take_no_connections_from_others(talk: Any) -> None:
    """Over HTTP: a line for all who declare the same."""
    async with server_http(build_shop()) as listener:
        url = f"http://127.0.0.1:{listener.port}/mcp"
        config = UpstreamConfig("shop", "http", url=url, mode="legacy", line_count_max=4)
        gateway = Gateway(GatewayConfig((config,)))
        async with gateway.running():
            for number in range(10):
                async with talk(gateway, "2026-07-28", {"elicitation": {f"made_up_{number}": {}}}) as client:
                    assert await client.text("echo", {"text": "in"}) == "in"
