"""Metrics on an address of their own, of servers that do not speak HTTP, or not with everybody."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from erlmcp import Client, ConfigurationError, Server
from erlmcp.server.serve import http, tcp

WAIT_S = 30


async def get(port: int, path: str, **headers: str) -> tuple[int, str]:
    """The status and the body of an answer."""

    def fetch() -> tuple[int, str]:
        request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=WAIT_S) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    return await asyncio.to_thread(fetch)


def make_server(**options: Any) -> Server:
    server = Server("x", **options)

    @server.tool
    async def add(a: int, b: int) -> int:
        return a + b

    server.metrics_address = "127.0.0.1", 0
    return server


async def test_a_server_on_tcp_shows_its_metrics_elsewhere() -> None:
    server = make_server()
    async with tcp(server) as listener, Client(f"tcp://127.0.0.1:{listener.port}") as client:
        for _ in range(3):
            await client.call_tool("add", {"a": 1, "b": 2})
        port = server.board.port
        status, text = await get(port, "/metrics")
        assert status == 200
        (line,) = re.findall(r"^mcp_server_operation_duration_seconds_count\{.*\"add\".*", text, re.MULTILINE)
        assert line.endswith(" 3")
        assert 'network_transport="tcp"' in line
        assert (await get(port, "/metrics/dashboard"))[0] == 200
        assert await get(port, "/health/ready") == (200, '{"status":"ready"}')
        assert (await get(port, "/mcp"))[0] == 404
        assert (await get(port, "/metrics", Host="evil.example"))[0] == 421
    with pytest.raises(urllib.error.URLError):
        await get(port, "/metrics")


async def test_what_is_not_there_is_404_also_for_a_message_of_mcp() -> None:
    server = make_server()
    async with server.running():
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/list"}).encode()
        request = urllib.request.Request(
            f"http://127.0.0.1:{server.board.port}/mcp", body, {"Content-Type": "application/json"}
        )
        with pytest.raises(urllib.error.HTTPError) as caught:
            await asyncio.to_thread(urllib.request.urlopen, request, timeout=WAIT_S)
        assert caught.value.code == 404
        caught.value.close()


async def test_with_a_token_nobody_sees_them_without_it() -> None:
    server = make_server(metrics_token="a-long-enough-token")
    async with server.running():
        port = server.board.port
        assert (await get(port, "/metrics"))[0] == 401
        assert (await get(port, "/metrics", Authorization="Bearer a-long-enough-token"))[0] == 200
        assert (await get(port, "/health/live"))[0] == 200


async def test_an_address_that_is_in_use_is_told_with_the_option() -> None:
    server = make_server()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        server.metrics_address = "127.0.0.1", taken.getsockname()[1]
        with pytest.raises(ConfigurationError, match=r"in use; .*--metrics-port"):
            await server.start()


async def test_while_the_endpoint_drains_the_other_address_says_so() -> None:
    server = make_server()
    begun, release = asyncio.Event(), asyncio.Event()

    @server.tool
    async def waits() -> str:
        begun.set()
        await release.wait()
        return "x"

    async with server.running():
        opening = http(server)
        listener = await opening.__aenter__()
        async with Client(f"http://127.0.0.1:{listener.port}/mcp") as client:
            call = asyncio.ensure_future(client.call_tool("waits"))
            await begun.wait()
            closing = asyncio.ensure_future(opening.__aexit__(None, None, None))
            await asyncio.sleep(0)
            assert await get(server.board.port, "/health/ready") == (503, '{"status":"draining"}')
            release.set()
            assert (await call).data == "x"
            await closing
        assert (await get(server.board.port, "/health/ready"))[0] == 200


@pytest.mark.parametrize("how", ["run", "serve"])
def test_the_command_line_gives_a_server_such_an_address(tmp_path: Path, how: str) -> None:
    file = tmp_path / "server.py"
    file.write_text("from erlmcp import Server\nserver = Server('x')\n", encoding="utf-8")
    words = [str(file), "--metrics-port", "0", "--log-level", "info"]
    words += ["--tcp", "127.0.0.1:0"] if how == "serve" else []
    process = subprocess.Popen(
        [sys.executable, "-m", "erlmcp", how, *words], stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stderr is not None
        found = None
        for line in process.stderr:
            found = re.search(r"metrics at http://127\.0\.0\.1:(\d+)/metrics/dashboard", line)
            if found is not None:
                break
        assert found is not None
        with urllib.request.urlopen(f"http://127.0.0.1:{found[1]}/health/live", timeout=WAIT_S) as answer:
            assert json.load(answer) == {"status": "alive"}
        if how == "serve":
            assert any("serving tcp" in line for line in process.stderr)  # and hears signals
    finally:
        process.terminate()
        process.communicate(timeout=WAIT_S)
    assert process.returncode == 0


async def test_a_server_and_its_client_tick_one_recorder_until_both_ended() -> None:
    server, other = make_server(), make_server()
    is_ticking: Callable[[], bool] = lambda: server.metrics.is_ticking  # noqa: E731
    async with Client(other, metrics=server.metrics) as client:
        assert is_ticking()
        async with server.running():
            await client.ping()
        assert is_ticking()
    assert not is_ticking()
