"""Our client against the reference servers in TypeScript: everything (stdio, Streamable HTTP, SSE), filesystem, memory.

They need node and their packages: ``ERLMCP_NODE_MODULES`` names a folder whose ``node_modules`` has them.
"""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from erlmcp import Client, NegotiationError, ToolError
from erlmcp.errors import HttpStatusError

pytestmark = pytest.mark.interop

LATEST = "2025-11-25"
PATHS = {"streamableHttp": "/mcp", "sse": "/sse"}
FindNode = Callable[..., tuple[str, Path]]


def start_line(found: tuple[str, Path], name: str, *words: str) -> list[str]:
    node, modules = found
    return [node, str(modules / "@modelcontextprotocol" / f"server-{name}" / "dist/index.js"), *words]


@pytest.fixture(scope="module", params=["stdio", *PATHS])
def everything(request: pytest.FixtureRequest, find_node: FindNode) -> Iterator[Any]:
    """What leads to server-everything, by each of its transports."""
    line = start_line(find_node("server-everything"), "everything", request.param)
    if request.param == "stdio":
        yield line
        return
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {**os.environ, "PORT": str(port)}
    with subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=environment) as server:
        assert server.stderr is not None
        guard = threading.Timer(60, server.kill)
        guard.start()
        for text in server.stderr:
            if str(port) in text.decode():
                break
        guard.cancel()  # it is of the start alone
        reader = threading.Thread(target=server.stderr.read, daemon=True)
        reader.start()
        yield f"http://127.0.0.1:{port}{PATHS[request.param]}"
        server.kill()
        reader.join()


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_tools_resources_and_prompts_of_everything_are_reached(
    everything: Any, mode: str, loop_kind: str
) -> None:
    steps: list[Any] = []
    async with asyncio.timeout(30), Client(everything, mode=mode) as client:
        assert client.protocol_version == LATEST
        assert client.server_info["name"] == "mcp-servers/everything"
        names = {tool.name for tool in await client.list_tools()}
        assert names >= {"echo", "get-sum", "trigger-long-running-operation"}
        assert "trigger-elicitation-request" not in names, "offered to a client that cannot answer"
        assert (await client.call_tool("echo", {"message": "grüß"})).text == "Echo: grüß"
        weather = await client.call_tool("get-structured-content", {"location": "Chicago"})
        assert weather.data.keys() == {"temperature", "conditions", "humidity"}
        with pytest.raises(ToolError, match="not found"):
            await client.call_tool("nothing")
        given = {"duration": 0.03, "steps": 3}
        await client.call_tool(
            "trigger-long-running-operation", given, on_progress=lambda done, total, text: steps.append((done, total))
        )
        assert steps == [(1, 3), (2, 3), (3, 3)]
        found = await client.call_many([("get-sum", {"a": number, "b": number}) for number in range(50)])
        assert [result.text for result in found] == [f"The sum of {n} and {n} is {2 * n}." for n in range(50)]
        content: Any = (await client.read_resource("demo://resource/dynamic/text/1")).contents[0]
        assert content.text.startswith("Resource 1: ")
        message: Any = (await client.get_prompt("args-prompt", {"city": "Lund"})).messages[0].content
        assert message.text == "What's weather in Lund?"
        assert (await client.complete("department", "E", prompt="completable-prompt")).values == ["Engineering"]
        assert await client.list_resources()
        assert len(await client.list_resource_templates()) == 2
        await client.ping()


async def test_everything_asks_the_client_and_is_answered(everything: Any) -> None:
    asked: list[str] = []

    def fill(params: dict[str, Any]) -> dict[str, Any]:
        asked.append("elicitation")
        return {"name": "Ada"}

    def sample(params: dict[str, Any]) -> str:
        asked.append("sampling")
        return "a poem"

    handlers: dict[str, Any] = {"elicitation": fill, "sampling": sample, "roots": ["file:///tmp/roots"]}
    async with asyncio.timeout(30), Client(everything, **handlers) as client:
        given = {"prompt": "write", "maxTokens": 10}
        assert "a poem" in (await client.call_tool("trigger-sampling-request", given)).text
        form = (await client.call_tool("trigger-elicitation-request")).text
        assert "Ada" in form
        assert "42" in form, "the form's default"
        assert "file:///tmp/roots" in (await client.call_tool("get-roots-list")).text
    assert asked == ["sampling", "elicitation"]


async def test_a_revision_that_everything_does_not_speak_is_refused(everything: Any) -> None:
    """By its words; the endpoint of the old pair takes no POST at all."""
    client = Client(everything, mode="2026-07-28")
    async with asyncio.timeout(30):
        with pytest.raises((NegotiationError, HttpStatusError)):
            await client.connect()


async def test_files_are_listed_written_and_read(find_node: FindNode, tmp_path: Path) -> None:
    line = start_line(find_node("server-filesystem"), "filesystem", str(tmp_path))
    (tmp_path / "a.txt").write_text("first\nsecond\n")
    async with asyncio.timeout(30), Client(line) as client:
        assert len(await client.list_tools()) >= 10
        assert "a.txt" in (await client.call_tool("list_directory", {"path": str(tmp_path)})).text
        assert (await client.call_tool("read_text_file", {"path": f"{tmp_path}/a.txt", "head": 1})).text == "first"
        await client.call_tool("write_file", {"path": f"{tmp_path}/b.txt", "content": "grüß\n"})
        with pytest.raises(ToolError, match="Access denied"):
            await client.call_tool("read_text_file", {"path": "/etc/hostname"})
    assert (tmp_path / "b.txt").read_text() == "grüß\n"


async def test_the_roots_decide_what_the_filesystem_server_may_reach(find_node: FindNode, tmp_path: Path) -> None:
    """It asks for them once the handshake is over, and without them has nothing to serve."""
    line = start_line(find_node("server-filesystem"), "filesystem")
    async with asyncio.timeout(30), Client(line, roots=[tmp_path.as_uri()]) as client:
        while str(tmp_path) not in (await client.call_tool("list_allowed_directories")).text:
            await asyncio.sleep(0.01)


async def test_a_graph_is_remembered_by_the_next_process(find_node: FindNode, tmp_path: Path) -> None:
    [command, *arguments] = start_line(find_node("server-memory"), "memory")
    entry = {"command": command, "args": arguments, "env": {"MEMORY_FILE_PATH": str(tmp_path / "memory.json")}}
    async with asyncio.timeout(30):
        async with Client(entry) as client:
            ada = {"name": "Ada", "entityType": "person", "observations": ["counts"]}
            await client.call_tool("create_entities", {"entities": [ada]})
        async with Client(entry) as client:
            graph = (await client.call_tool("read_graph")).data
    assert [entity["name"] for entity in graph["entities"]] == ["Ada"]
