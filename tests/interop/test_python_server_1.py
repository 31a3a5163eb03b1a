"""Our client against a server of the first line of the official Python SDK (mcp 1.x), over each transport it has.

That line cannot be installed beside the second: ``ERLMCP_MCP1_PYTHON`` names an interpreter that has it.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from erlmcp import Client, McpError, NegotiationError, ToolError
from erlmcp.errors import HttpStatusError

pytestmark = pytest.mark.interop

SERVER = str(Path(__file__).with_name("sdk1_server.py"))
LATEST = "2025-11-25"
MODES = {"auto": LATEST, "legacy": LATEST, "2025-06-18": "2025-06-18", "2025-03-26": "2025-03-26"}


@pytest.fixture(scope="module")
def python() -> str:
    found = os.environ.get("ERLMCP_MCP1_PYTHON")
    if not found:
        pytest.skip("ERLMCP_MCP1_PYTHON is not set: no interpreter that has mcp 1.x")
    probe = "import importlib.metadata; print(importlib.metadata.version('mcp'))"
    version = subprocess.run([found, "-c", probe], capture_output=True, text=True, check=True).stdout
    assert version.startswith("1."), f"ERLMCP_MCP1_PYTHON has mcp {version}"
    return found


@pytest.fixture(scope="module", params=["stdio", "session", "stateless", "sse"])
def kind(request: pytest.FixtureRequest) -> str:
    found: str = request.param
    return found


@pytest.fixture(scope="module")
def target(kind: str, python: str) -> Iterator[Any]:
    """What leads to the server, by each of its transports."""
    line = [python, "-W", "ignore", SERVER, kind]
    if kind == "stdio":
        yield line
        return
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment) as server:
        assert server.stdout is not None
        assert server.stderr is not None
        guard = threading.Timer(60, server.kill)
        guard.start()
        port = server.stdout.readline().decode().strip()
        guard.cancel()  # it is of the start alone
        assert port, server.stderr.read().decode()
        reader = threading.Thread(target=server.stderr.read, daemon=True)
        reader.start()
        yield f"http://127.0.0.1:{port}/{'sse' if kind == 'sse' else 'mcp'}"
        server.kill()
        reader.join()


@pytest.mark.parametrize("mode", list(MODES))
async def test_what_an_older_server_offers_is_reached(target: Any, mode: str, loop_kind: str) -> None:
    async with asyncio.timeout(60), Client(target, mode=mode) as client:
        assert client.protocol_version == MODES[mode]
        assert (client.server_info["name"], client.instructions) == ("sdk1", "Be gentle.")
        assert {tool.name for tool in await client.list_tools()} >= {"add", "weather", "order"}
        assert (await client.call_tool("add", {"a": 2, "b": 3})).data == 5
        assert (await client.call_tool("weather", {"city": "Åre"})).data == {"city": "Åre", "sky": "clear"}
        with pytest.raises(ToolError, match="broken"):
            await client.call_tool("fail")
        with pytest.raises(ToolError, match="Unknown tool"):
            await client.call_tool("nothing")
        assert [each.uri for each in await client.list_resources()] == ["sdk1://hello"]
        assert [each.uri_template for each in await client.list_resource_templates()] == ["sdk1://square/{side}"]
        square: Any = (await client.read_resource("sdk1://square/7")).contents[0]
        assert square.text == "49"
        with pytest.raises(McpError):
            await client.read_resource("sdk1://nothing")
        message: Any = (await client.get_prompt("greet", {"name": "Ada"})).messages[0].content
        assert message.text == "Say hello to Ada."
        found = await client.call_many([("add", {"a": number, "b": number}) for number in range(50)])
        assert [each.data for each in found] == [2 * number for number in range(50)]
        await client.ping()


async def test_an_older_server_tells_its_progress_and_its_changes(target: Any, kind: str) -> None:
    if kind == "stateless":
        pytest.skip("it answers by JSON alone, and has no stream to tell anything on")
    steps: list[Any] = []
    logged: list[Any] = []
    async with asyncio.timeout(60), Client(target, on_log=logged.append) as client:
        result = await client.call_tool("steps", on_progress=lambda *step: steps.append(step))
        assert result.data == "done"
        assert steps == [(1, 3, "step 1"), (2, 3, "step 2"), (3, 3, "step 3")]
        assert [each["data"] for each in logged] == ["all steps are done"]
        async with client.listen(tools=True) as events:
            await client.call_tool("grow")
            assert (await anext(events)).method == "notifications/tools/list_changed"


async def test_an_older_server_asks_the_client_and_is_answered(target: Any, kind: str) -> None:
    if kind == "stateless":
        pytest.skip("it has no session whose client it could ask")
    handlers: dict[str, Any] = {"elicitation": lambda params: {"count": 3}, "sampling": lambda params: "a poem"}
    async with asyncio.timeout(60), Client(target, **handlers) as client:
        assert (await client.call_tool("order", {"item": "figs"})).data == "3 figs"
        assert (await client.call_tool("poem")).data == "a poem"


async def test_a_revision_that_is_newer_than_the_server_is_refused(target: Any) -> None:
    """By its words; the endpoint of the old pair takes no POST at all."""
    client = Client(target, mode="2026-07-28")
    async with asyncio.timeout(60):
        with pytest.raises((NegotiationError, HttpStatusError)):
            await client.connect()
