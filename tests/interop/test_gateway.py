"""The gateway in front of servers of other makers: server-everything, server-filesystem, server-memory (npm), FastMCP
and the official Python SDK, all at once; and each of them killed while the others are called.

Those in TypeScript need node and their packages (``ERLMCP_NODE_MODULES``), FastMCP needs its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from erlmcp import Client
from erlmcp.errors import ErlmcpError
from erlmcp.gateway.app import Gateway
from erlmcp.gateway.config import GatewayConfig, UpstreamConfig
from erlmcp.gateway.serve import http as gateway_http

pytestmark = pytest.mark.interop

HERE = Path(__file__).resolve().parent
SERVERS = HERE.parents[1] / "erlmcp/bench/servers"
MODES = ["legacy", "2026-07-28"]
WAIT_S = 60.0
# One call of each upstream that says that it is there.
CALLS: dict[str, tuple[str, dict[str, Any], str]] = {
    "everything": ("everything_echo", {"message": "hello"}, "hello"),
    "files": ("files_list_allowed_directories", {}, "/"),
    "memory": ("memory_read_graph", {}, "entities"),
    "fast": ("fast_echo", {"text": "hello"}, "hello"),
    "sdk": ("sdk_add", {"a": 1, "b": 2}, "3"),
}


@pytest.fixture
def upstreams(find_node: Callable[..., tuple[str, Path]], tmp_path: Path) -> tuple[UpstreamConfig, ...]:
    if find_spec("fastmcp") is None:
        pytest.skip("fastmcp is not installed")
    node, modules = find_node("server-everything", "server-filesystem", "server-memory")
    (tmp_path / "note.txt").write_text("a note")
    (tmp_path / "kept.json").touch()

    def of(name: str, *words: str, **env: str) -> UpstreamConfig:
        return UpstreamConfig(name, "stdio", command=words, env=env, prefix=f"{name}_", restart_s=0.05)

    def script(name: str) -> str:
        return str(modules / "@modelcontextprotocol" / f"server-{name}" / "dist/index.js")

    return (
        of("everything", node, script("everything"), "stdio"),
        of("files", node, script("filesystem"), str(tmp_path)),
        of("memory", node, script("memory"), MEMORY_FILE_PATH=str(tmp_path / "memory.json")),
        of("fast", sys.executable, str(SERVERS / "echo_fastmcp.py"), "stdio"),
        of("sdk", sys.executable, str(HERE / "sdk_server.py")),
    )


@contextlib.asynccontextmanager
async def in_front(upstreams: tuple[UpstreamConfig, ...], mode: str) -> AsyncIterator[tuple[Gateway, Client]]:
    gateway = Gateway(GatewayConfig(upstreams, start_timeout_s=WAIT_S))
    async with gateway_http(gateway, port=0) as front:
        url = f"http://127.0.0.1:{front.port}/mcp"
        async with Client(url, mode=mode, elicitation=lambda params: {"count": 4}) as client:
            yield gateway, client


async def answers(client: Client, name: str) -> None:
    tool, arguments, wanted = CALLS[name]
    result = await client.call_tool(tool, arguments)
    assert wanted in result.text, (name, result.text)


@pytest.mark.parametrize("mode", MODES)
async def test_each_is_listed_called_read_prompted_and_completed(upstreams: Any, mode: str) -> None:
    async with in_front(upstreams, mode) as (gateway, client):
        assert [each["state"] for each in gateway.status()] == ["up"] * 5
        listed = {tool.name.partition("_")[0] for tool in await client.list_tools()}
        assert listed == set(CALLS)
        for name in CALLS:
            await answers(client, name)
        assert (await client.call_tool("sdk_order", {"item": "pears"})).text == "4 pears"
        steps: list[Any] = []
        await client.call_tool("sdk_steps", on_progress=lambda *each: steps.append(each))
        assert [each[0] for each in steps] == [1, 2, 3]
        resources = [str(each.uri) for each in await client.list_resources()]
        assert "sdk://hello" in resources
        assert (await client.read_resource("sdk://hello")).contents[0].text == "hello"
        own = next(uri for uri in resources if uri.startswith("demo://"))
        assert (await client.read_resource(own)).contents
        prompts = {prompt.name: prompt for prompt in await client.list_prompts()}
        bare = next(name for name, each in prompts.items() if name.startswith("everything_") and not each.arguments)
        assert (await client.get_prompt(bare)).messages
        completed = next(name for name, each in prompts.items() if name.startswith("everything_comple"))
        argument = prompts[completed].arguments[0].name
        assert (await client.complete(argument, "", prompt=completed)).values


@pytest.mark.parametrize("mode", MODES)
async def test_each_is_killed_and_comes_back_and_the_others_never_notice(upstreams: Any, mode: str) -> None:
    async with in_front(upstreams, mode) as (gateway, client):
        for victim in CALLS:
            upstream: Any = gateway.upstreams[victim]
            line = upstream.quick()
            os.kill(line.conversation.channel.pid, signal.SIGKILL)
            calls = 0
            async with asyncio.timeout(WAIT_S):
                while upstream.quick() in (None, line):
                    await asyncio.gather(*(answers(client, name) for name in CALLS if name != victim))
                    calls += 1
            assert calls
            assert upstream.start_count == 2
            with contextlib.suppress(ErlmcpError):  # A session's own line may have died with it.
                await answers(client, victim)
            await answers(client, victim)
