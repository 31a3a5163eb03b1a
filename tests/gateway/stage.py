"""Gateways with something behind them, and clients in front: what the tests of the gateway share."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(HERE.parent / "client"))

from shop import build as build_shop  # noqa: E402

from erlmcp import Client, Server  # noqa: E402
from erlmcp.gateway.app import Gateway  # noqa: E402
from erlmcp.gateway.config import GatewayConfig, UpstreamConfig  # noqa: E402
from erlmcp.gateway.serve import http as gateway_http  # noqa: E402
from erlmcp.server.serve import http as server_http  # noqa: E402

WAIT_S = 30.0
MODES = {"legacy": "legacy", "modern": "2026-07-28"}


__all__ = ["MODES", "Setting", "behind", "build_shop", "in_front", "nothing_is_left", "stdio_config", "until"]


@dataclass
class Setting:
    """``client`` in front of ``gateway``, with ``server`` behind it (None where that is a process)."""

    client: Client
    gateway: Gateway
    server: Any


def stdio_config(name: str, *words: str, **options: Any) -> UpstreamConfig:
    """A program of this interpreter, with this checkout on its path."""
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    return UpstreamConfig(name, "stdio", command=(sys.executable, *words), env={"PYTHONPATH": path}, **options)


def shop_config(**options: Any) -> UpstreamConfig:
    return stdio_config("shop", "-m", "erlmcp", "run", str(HERE.parent / "client/shop.py"), **options)


@contextlib.asynccontextmanager
async def behind(server: Server, way: str, **options: Any) -> AsyncIterator[UpstreamConfig]:
    """The upstream that a server is, in this process or over HTTP."""
    options = {"prefix": "shop_", "restart_s": 0.01, **options}
    if way == "memory":
        yield UpstreamConfig("shop", "server", target=server, **options)
    elif way == "stdio":
        yield shop_config(**options)
    else:
        async with server_http(server) as listener:
            yield UpstreamConfig("shop", "http", url=f"http://127.0.0.1:{listener.port}/mcp", **options)


@contextlib.asynccontextmanager
async def in_front(gateway: Gateway, over: str, **options: Any) -> AsyncIterator[Client]:
    """A client of the gateway, in this process or over HTTP."""
    if over == "memory":
        async with Client(gateway, **options) as client:
            yield client
    else:
        async with (
            gateway_http(gateway, port=0) as listener,
            Client(f"http://127.0.0.1:{listener.port}/mcp", **options) as client,
        ):
            yield client


async def nothing_is_left(gateway: Gateway) -> None:
    for _ in range(5):
        await asyncio.sleep(0)
    assert not gateway.upstreams
    assert not len(gateway.followers)
    assert not len(gateway.service.rounds)
    assert not gateway.service.teller.asking
    assert not len(gateway.hub)


async def until(holds: Callable[[], bool]) -> None:
    """Wait for what becomes true by itself."""
    async with asyncio.timeout(WAIT_S):
        while not holds():
            await asyncio.sleep(0.005)


async def posted(port: int, method: str, params: dict[str, Any], name: str, headers: dict[str, str]) -> Any:
    """The answer to one request of 2026-07-28, on a connection of its own."""
    meta = {
        "io.modelcontextprotocol/protocolVersion": MODES["modern"],
        "io.modelcontextprotocol/clientCapabilities": {},
    }
    message = {"jsonrpc": "2.0", "id": 1, "method": method, "params": {**params, "_meta": meta}}
    data = json.dumps(message).encode()
    heads = {
        "Host": f"127.0.0.1:{port}",
        "Content-Type": "application/json",
        "Accept": "application/json, text/event-stream",
        "MCP-Protocol-Version": MODES["modern"],
        "Mcp-Method": method,
        "Mcp-Name": name,
        "Content-Length": str(len(data)),
        **headers,
    }
    lines = "".join(f"{key}: {value}\r\n" for key, value in heads.items())
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(f"POST /mcp HTTP/1.1\r\n{lines}\r\n".encode() + data)
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length:")[2].split()[0])
        return json.loads(await reader.readexactly(length))
    finally:
        writer.close()


class Scripted:
    """An upstream whose every byte is the test's: a stand-in for a Server object.

    ``answers`` maps a method to the JSON text of its result, or to a function of the request that gives a whole
    message; a method without one waits in ``waiting`` for ``say``. ``seen`` are the lines that came.
    """

    def __init__(self, *tools: str, modern: bool = True) -> None:
        self.modern = modern
        self.seen: list[bytes] = []
        self.waiting: list[dict[str, Any]] = []
        self.links: list[ScriptedLink] = []
        listed = json.dumps([{"name": name, "inputSchema": {"type": "object"}} for name in tools]).encode()
        offered = b'"capabilities":{"tools":{"listChanged":false},"prompts":{},"resources":{},"logging":{}}'
        self.answers: dict[str, Any] = {
            "server/discover": b'{"resultType":"complete","supportedVersions":["2026-07-28"],%b}' % offered
            if modern
            else lambda request: error(request, -32601, "no such method"),
            "initialize": b'{"protocolVersion":"2025-11-25","serverInfo":{"name":"s","version":"1"},%b}' % offered,
            "tools/list": b'{"tools":%b}' % listed,
            "prompts/list": b'{"prompts":[{"name":"ask"}]}',
            "resources/list": b'{"resources":[{"uri":"x://y","name":"y"}]}',
            "resources/templates/list": b'{"resourceTemplates":[]}',
            "ping": b"{}",
            "logging/setLevel": b"{}",
        }

    async def start(self) -> None:
        """As a Server has it."""

    async def stop(self) -> None:
        """As a Server has it."""

    def link(self, write: Callable[[bytes], None]) -> ScriptedLink:
        link = ScriptedLink(self, write)
        self.links.append(link)
        return link

    def of(self, method: str) -> list[dict[str, Any]]:
        """The requests of one method that came."""
        return [found for found in map(json.loads, self.seen) if found.get("method") == method]


class ScriptedLink:
    def __init__(self, server: Scripted, write: Callable[[bytes], None]) -> None:
        self.server, self.write, self.closed, self.rest = server, write, False, b""

    def feed(self, data: bytes) -> None:
        *lines, self.rest = (self.rest + data).split(b"\n")
        for line in lines:
            self.server.seen.append(line)
            request = json.loads(line)
            if "id" not in request or "method" not in request:
                continue
            answer = self.server.answers.get(request["method"])
            if answer is None:
                self.server.waiting.append({**request, "link": self})
            else:
                self.say(answer(request) if callable(answer) else result(request, answer))

    def say(self, message: bytes) -> None:
        self.write(message + b"\n")

    def close(self, reason: str = "") -> None:
        self.closed = True


def result(request: dict[str, Any], text: bytes) -> bytes:
    return b'{"jsonrpc":"2.0","id":%d,"result":%b}' % (request["id"], text)


def error(request: dict[str, Any], code: int, message: str) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "id": request["id"], "error": {"code": code, "message": message}}).encode()


def scripted_gateway(*servers: Scripted, config: dict[str, Any] | None = None, **options: Any) -> Gateway:
    """A gateway of scripted upstreams, named a, b, c; names as they are where there is one."""
    made = [
        UpstreamConfig(name, "server", target=server, prefix="" if len(servers) == 1 else f"{name}_", **options)
        for name, server in zip("abc", servers, strict=False)
    ]
    return Gateway(GatewayConfig(tuple(made), **(config or {})))
