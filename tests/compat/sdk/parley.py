"""One app, served twice: by the SDK that is installed, and by the façade, with the same conversation.

An app is a file that imports from ``mcp.server.mcpserver``; for the façade that one name is replaced, and nothing else.
It has ``mcp``, the server, ``TALK``, the requests as (method, params), and ``ANSWERS``, what the client answers to the
server's questions.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import sys
import types
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

APPS = Path(__file__).with_name("apps")
STOCK, OURS = "mcp.server.mcpserver", "erlmcp.compat.sdk"
MODERN, LEGACY = "2026-07-28", "2025-11-25"
CAPABILITIES = {"elicitation": {"form": {}, "url": {}}, "sampling": {"tools": {}}, "roots": {"listChanged": True}}
WAIT_S = 20.0
ROUNDS_MAX = 6


def load(path: Path, home: str = STOCK) -> types.ModuleType:
    """The app, with its imports from ``home``."""
    source = path.read_text(encoding="utf-8").replace(STOCK, home)
    module = types.ModuleType(f"app_{path.stem}")
    module.__dict__["__file__"] = str(path)
    sys.modules[module.__name__] = module  # annotations are looked up there
    exec(compile(source, str(path), "exec"), module.__dict__)
    return module


class StockWire:
    """A client's end of the SDK's own server, by its streams in memory."""

    def __init__(self, read: Any, write: Any) -> None:
        self._read, self._write = read, write

    async def send(self, message: dict[str, Any]) -> None:
        import mcp_types
        from mcp.shared.message import SessionMessage

        parsed = mcp_types.jsonrpc_message_adapter.validate_json(json.dumps(message), by_name=False)
        await self._write.send(SessionMessage(parsed))

    async def receive(self) -> dict[str, Any]:
        async with asyncio.timeout(WAIT_S):
            found = await self._read.receive()
        made: dict[str, Any] = found.message.model_dump(mode="json", by_alias=True, exclude_unset=True)
        return made


@contextlib.asynccontextmanager
async def stock_wire(mcp: Any) -> AsyncIterator[StockWire]:
    import anyio

    server = mcp._lowlevel_server
    to_server, server_reads = anyio.create_memory_object_stream[Any](16)
    server_writes, from_server = anyio.create_memory_object_stream[Any](64)
    task = asyncio.ensure_future(server.run(server_reads, server_writes, server.create_initialization_options()))
    try:
        yield StockWire(from_server, to_server)
    finally:
        await to_server.aclose()
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError, Exception):
            await task
        for stream in (server_reads, server_writes, from_server):
            await stream.aclose()


class OurWire:
    """The same of the façade's server."""

    def __init__(self, wire: Any) -> None:
        self._wire = wire

    async def send(self, message: dict[str, Any]) -> None:
        self._wire.send(json.dumps(message).encode() + b"\n")

    async def receive(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(await self._wire.receive(WAIT_S))
        return found


@contextlib.asynccontextmanager
async def our_wire(mcp: Any) -> AsyncIterator[OurWire]:
    async with mcp.kernel.memory() as wire:
        yield OurWire(wire)


class Talk:
    """A conversation, and all that came back."""

    def __init__(self, wire: Any, era: str, answers: dict[str, Any]) -> None:
        self.wire = wire
        self.era = era
        self.answers = answers
        self._id = 0

    async def begin(self) -> dict[str, Any]:
        """The handshake, or what has its place; the server's answer."""
        if self.era == MODERN:
            return (await self.ask("server/discover", {}))[-1]
        params = {"protocolVersion": LEGACY, "capabilities": CAPABILITIES, "clientInfo": {"name": "t", "version": "1"}}
        found = (await self.ask("initialize", params))[-1]
        await self.wire.send({"jsonrpc": "2.0", "method": "notifications/initialized"})
        return found

    async def ask(self, method: str, params: dict[str, Any]) -> list[dict[str, Any]]:
        """All messages that belong to a request, its answer last; its questions are answered."""
        for _round in range(ROUNDS_MAX):
            heard = await self._once(method, params)
            result = heard[-1].get("result", {})
            if result.get("resultType") != "input_required":
                return heard
            responses = {key: self._answer(each) for key, each in (result.get("inputRequests") or {}).items()}
            params = {**params, "inputResponses": responses}
            if "requestState" in result:
                params["requestState"] = result["requestState"]
        raise AssertionError(f"{method} asked without an end")

    def _answer(self, question: dict[str, Any]) -> Any:
        found = self.answers[question["method"]]
        return found(question.get("params")) if callable(found) else found

    async def _once(self, method: str, params: dict[str, Any]) -> list[dict[str, Any]]:
        self._id += 1
        meta = dict(params.get("_meta", {}))
        if self.era == MODERN:
            meta["io.modelcontextprotocol/protocolVersion"] = MODERN
            meta["io.modelcontextprotocol/clientCapabilities"] = CAPABILITIES
            meta["io.modelcontextprotocol/clientInfo"] = {"name": "t", "version": "1"}
        given = {**params, "_meta": meta} if meta else params
        await self.wire.send({"jsonrpc": "2.0", "id": self._id, "method": method, "params": given})
        heard: list[dict[str, Any]] = []
        while True:
            message = await self.wire.receive()
            if "method" in message and "id" in message:
                answer = {"jsonrpc": "2.0", "id": message["id"], "result": self._answer(message)}
                await self.wire.send(answer)
            heard.append(message)
            if message.get("id") == self._id and "method" not in message:
                return heard


async def converse(home: str, path: Path, era: str) -> list[list[dict[str, Any]]]:
    """The whole talk of an app in one era; the first entry is the answer to the handshake."""
    module = load(path, home)
    opening = stock_wire(module.mcp) if home == STOCK else our_wire(module.mcp)
    quiet = {each: each.level for each in (logging.getLogger("mcp"), logging.getLogger("erlmcp"))}
    for each in quiet:
        each.setLevel(logging.CRITICAL)
    try:
        async with opening as wire:
            talk = Talk(wire, era, getattr(module, "ANSWERS", {}))
            heard = [[await talk.begin()]]
            for method, params in module.TALK:
                heard.append(await talk.ask(method, params))
        return heard
    finally:
        for each, level in quiet.items():
            each.setLevel(level)
