"""A gateway's lines and what is held on them: made-up clients, ends in the midst, files that cannot be opened."""

from __future__ import annotations

import asyncio
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from stage import Scripted, build_shop, result, scripted_gateway, until

from erlmcp import Client
from erlmcp.gateway.app import Gateway
from erlmcp.gateway.audit import Audit
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


async def test_a_call_whose_line_opens_while_the_configuration_is_reloaded_is_answered_and_leaves_no_line() -> None:
    upstream = Scripted("echo", modern=False)
    upstream.answers["tools/call"] = DONE
    gateway = scripted_gateway(upstream)

    async def elicit(*_: Any) -> Any:
        return {"action": "decline"}

    async with Client(gateway, mode="2026-07-28", elicitation=elicit) as client:
        await client.list_tools()
        held = upstream.answers.pop("initialize")
        upstream.waiting.clear()
        call = asyncio.create_task(client.call_tool("echo", {}))
        await until(lambda: any(each["method"] == "initialize" for each in upstream.waiting))
        upstream.answers["initialize"] = held
        (changed,) = gateway.config.upstreams
        gateway.reload(replace(gateway.config, upstreams=(replace(changed, timeout_s=59.0),)))
        await until(lambda: gateway.upstreams["a"].state == "up")
        (waiting,) = upstream.waiting
        waiting["link"].say(result(waiting, held))
        await call
    assert all(link.closed for link in upstream.links)


def test_an_audit_log_that_cannot_be_opened_anew_goes_on_where_it_was(tmp_path: Path) -> None:
    folder = tmp_path / "logs"
    folder.mkdir()
    audit = Audit(str(folder / "audit"))
    folder.rename(tmp_path / "moved")
    with pytest.raises(OSError, match="No such file"):
        audit.reopen()
    audit._lines.append(b"{}\n")
    others = [os.open(os.devnull, os.O_RDWR) for _ in range(3)]
    audit.close()
    for each in others:
        os.close(each)
    assert json.loads((tmp_path / "moved/audit").read_text()) == {}
