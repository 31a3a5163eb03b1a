"""The two ways to call a tool: a server object within this process, or a URL."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from erlmcp.cli.fault import CommandError
from erlmcp.client.oneshot import Oneshot, as_error, modern_meta
from erlmcp.spec import key

if TYPE_CHECKING:
    from erlmcp.server.app import Server

Notified = Callable[[dict[str, Any]], None]


class LocalCallee:
    """Calls through the in-memory transport: the same bytes and checks as over a wire."""

    def __init__(self, server: Server, timeout_s: float, notified: Notified) -> None:
        self.server = server
        self.timeout_s = timeout_s
        self.notified = notified

    def call_tool(self, name: str, arguments: dict[str, Any]) -> dict[str, Any]:
        import asyncio

        return asyncio.run(self._call(name, arguments))

    async def _call(self, name: str, arguments: dict[str, Any]) -> dict[str, Any]:
        meta = {**modern_meta(), key.PROGRESS_TOKEN: 1, key.LOG_LEVEL: "info"}
        params = {"name": name, "arguments": arguments, "_meta": meta}
        request = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
        async with self.server.memory() as wire:
            wire.send(json.dumps(request).encode() + b"\n")
            while True:
                message = json.loads(await wire.receive(self.timeout_s))
                if "error" in message:
                    raise as_error(message["error"])
                if "result" in message:
                    result: dict[str, Any] = message["result"]
                    return result
                self.notified(message)

    def tool_names(self) -> list[str]:
        return [tool["name"] for tool in self.server.describe()["tools"]]


class RemoteCallee:
    """Calls over Streamable HTTP."""

    def __init__(self, url: str, timeout_s: float, headers: Sequence[str], notified: Notified) -> None:
        self.client = Oneshot(url, timeout_s=timeout_s, headers=read_headers(headers), notified=notified)

    def call_tool(self, name: str, arguments: dict[str, Any]) -> dict[str, Any]:
        with self.client:
            return self.client.call_tool(name, arguments)

    def tool_names(self) -> list[str]:
        with self.client:
            return [tool["name"] for tool in self.client.list_all("tools/list", "tools")]


def read_headers(pairs: Sequence[str]) -> dict[str, str]:
    """``["Authorization: Bearer x"]`` -> a dict."""
    found = {}
    for pair in pairs:
        name, colon, value = pair.partition(":")
        if not colon or not name.strip():
            raise CommandError(f"--header {pair}: expected NAME:VALUE, for instance 'Authorization: Bearer abc'")
        found[name.strip()] = value.strip()
    return found
