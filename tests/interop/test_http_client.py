"""erlmcp's client over HTTP against the official Python SDK's server (mcp 2.3.0 on uvicorn), stateful and stateless."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("mcp.server.mcpserver", reason="the official SDK is not installed (extra: test)")
pytest.importorskip("uvicorn", reason="the SDK's HTTP server needs uvicorn")

from erlmcp.client.client import Client
from erlmcp.errors import McpError

pytestmark = pytest.mark.interop

MODERN, LATEST = "2026-07-28", "2025-11-25"
PROGRAM = """
import socket, sys
import uvicorn
from mcp.server.mcpserver import Context, MCPServer

server = MCPServer("official", log_level="ERROR")

@server.tool()
async def echo(text: str) -> str:
    return text

@server.tool()
async def count(steps: int, ctx: Context) -> str:
    for step in range(steps):
        await ctx.report_progress(step + 1, steps)
    return f"counted to {steps}"

@server.tool()
async def fail() -> str:
    raise RuntimeError("it broke")

@server.resource("house://door")
async def door() -> str:
    return "open"

kind = sys.argv[1]
if kind == "sse":
    app = server.sse_app()
else:
    is_stateless = kind == "stateless"
    app = server.streamable_http_app(json_response=is_stateless, stateless_http=is_stateless)
listener = socket.socket()
listener.bind(("127.0.0.1", 0))
listener.listen(128)
print(listener.getsockname()[1], flush=True)
uvicorn.Server(uvicorn.Config(app, log_level="error", timeout_keep_alive=1)).run(sockets=[listener])
"""


@pytest.fixture(scope="module", params=["stateful", "stateless", "sse"])
def url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a process that serves the program; "sse" is the pair of endpoints of 2024-11-05."""
    file = Path(tmp_path_factory.mktemp("official")) / "program.py"
    file.write_text(PROGRAM)
    command = [sys.executable, str(file), request.param]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=dict(os.environ)) as server:
        assert server.stdout is not None
        assert server.stderr is not None
        guard = threading.Timer(60, server.kill)
        guard.start()
        port = server.stdout.readline().decode().strip()
        guard.cancel()  # it is of the start alone: on a busy machine the tests may take longer
        assert port, server.stderr.read().decode()
        threading.Thread(target=server.stderr.read, daemon=True).start()
        yield f"http://127.0.0.1:{port}/{'sse' if request.param == 'sse' else 'mcp'}"
        server.kill()
        server.wait(15)


@pytest.mark.parametrize("mode", ["auto", "legacy", MODERN])
async def test_it_is_called_listed_and_read(url: str, mode: str, loop_kind: str) -> None:
    if url.endswith("/sse") and mode == MODERN:
        pytest.skip("the pair of endpoints is older than that")
    steps: list[float] = []
    async with asyncio.timeout(30), Client(url, mode=mode) as client:
        is_modern = mode != "legacy" and not url.endswith("/sse")
        assert client.protocol_version == (MODERN if is_modern else LATEST)
        assert {tool.name for tool in await client.list_tools()} == {"echo", "count", "fail"}
        assert (await client.call_tool("echo", {"text": "grüß"})).text == "grüß"
        found = await client.call_many([("echo", {"text": f"call {number}"}) for number in range(30)])
        assert [result.text for result in found] == [f"call {number}" for number in range(30)]
        assert (await client.call_tool("fail", raise_on_error=False)).is_error
        door: Any = (await client.read_resource("house://door")).contents[0]
        assert door.text == "open"
        with pytest.raises(McpError):
            await client.get_prompt("nothing")
        if "mcp" in url and mode == "legacy":
            await client.ping()
        result = await client.call_tool("count", {"steps": 3}, on_progress=lambda done, total, text: steps.append(done))
        assert result.text == "counted to 3"


async def test_kept_connections_that_the_server_drops_are_no_errors(url: str) -> None:
    """uvicorn closes a connection that was idle for a while; the client notices and uses it no more."""
    if url.endswith("/sse"):
        pytest.skip("uvicorn keeps some connections for longer there")
    async with asyncio.timeout(30), Client(url) as client:
        await client.call_tool("echo", {"text": "one"})
        channel: Any = client.channel
        idle = [*channel.pool._idle]
        assert idle
        while any(connection.is_open for connection in idle):
            await asyncio.sleep(0.01)
        assert (await client.call_tool("echo", {"text": "two"})).text == "two"
