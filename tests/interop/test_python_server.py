"""Our client against a server of the official Python SDK (mcp 2.3.0) over stdio, in each mode."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("mcp.server.mcpserver", reason="the official SDK is not installed (extra: test)")

from erlmcp import Client, McpError, ToolError

pytestmark = pytest.mark.interop

MODES = {"legacy": "2025-11-25", "auto": "2026-07-28", "2026-07-28": "2026-07-28", "2025-06-18": "2025-06-18"}
SERVER = {
    "command": sys.executable,
    "args": [str(Path(__file__).with_name("sdk_server.py"))],
    "env": {"PYTHONWARNINGS": "ignore", **{key: os.environ[key] for key in ("PYTHONPATH",) if key in os.environ}},
}


@pytest.fixture(params=list(MODES))
def mode(request: pytest.FixtureRequest) -> str:
    found: str = request.param
    return found


async def test_everything_an_sdk_server_offers_is_reached(mode: str) -> None:
    steps: list[Any] = []
    async with asyncio.timeout(60), Client(SERVER, mode=mode, elicitation=lambda params: {"count": 3}) as client:
        assert client.protocol_version == MODES[mode]
        assert client.server_info["name"] == "sdk"
        assert client.instructions == "Be gentle."
        assert {tool.name for tool in await client.list_tools()} >= {"add", "weather", "order"}
        assert (await client.call_tool("add", {"a": 2, "b": 3})).data == 5
        assert (await client.call_tool("weather", {"city": "Åre"})).data == {"city": "Åre", "sky": "clear"}
        with pytest.raises(ToolError, match="Error executing tool fail"):
            await client.call_tool("fail")
        assert (await client.call_tool("steps", on_progress=lambda *args: steps.append(args))).data == "done"
        assert steps == [(1.0, 3.0, "step 1"), (2.0, 3.0, "step 2"), (3.0, 3.0, "step 3")]
        assert (await client.call_tool("order", {"item": "figs"})).data == "3 figs"
        assert (await client.read_resource("sdk://hello")).contents[0].text == "hello"
        assert (await client.get_prompt("greet", {"name": "Ada"})).messages[0].content.text == "Say hello to Ada."
        found = await client.call_many([("add", {"a": n, "b": n}) for n in range(50)])
        assert [each.data for each in found] == [2 * n for n in range(50)]
        with pytest.raises(McpError):
            await client.read_resource("sdk://nothing")
        await client.ping()


async def test_changes_are_heard_from_an_sdk_server() -> None:
    async with asyncio.timeout(60), Client(SERVER) as client:
        async with client.listen(tools=True, uris=["sdk://hello"]) as events:
            await client.call_tool("grow")
            heard = [await anext(events), await anext(events)]
        assert [event.uri for event in heard] == [None, "sdk://hello"]
        assert (await client.call_tool("add", {"a": 1, "b": 1})).data == 2
