"""One app, asked the same through the SDK's own loop and through ours; all that comes back, message by message."""

# mypy: ignore-errors
from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import itertools
import json
import logging
import re
import sys
from pathlib import Path

import anyio
from mcp.shared.message import SessionMessage
from mcp_types import jsonrpc_message_adapter

from erlmcp.compat.accel.app import accelerate

CORPUS = Path(__file__).with_name("corpus")
MODERN = "2026-07-28"
ROOT = "io.modelcontextprotocol/"
CAPABILITIES = {"elicitation": {"form": {}}, "sampling": {}, "roots": {"listChanged": True}}
CLIENT = {"name": "tester", "version": "0"}
ANSWERS = {
    "elicitation/create": {"action": "accept", "content": {"size": 4}},
    "sampling/createMessage": {"role": "assistant", "content": {"type": "text", "text": "said"}, "model": "m"},
    "roots/list": {"roots": [{"uri": "file:///here", "name": "here"}]},
    "ping": {},
}
TIMEOUT_S = 20
ADDRESS = re.compile(r"0x[0-9a-f]{6,}")


def load(name: str):
    """A corpus module, fresh: the apps of two conversations share nothing."""
    path = CORPUS / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"corpus_{name}", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


class Talk:
    """A client of bytes: it asks one thing after the other, and answers what it is asked."""

    def __init__(self, version: str) -> None:
        self.version = version
        self.inbox: asyncio.Queue = asyncio.Queue()
        self.heard: list[dict] = []
        self.ids = itertools.count(1)

    def take(self, message: dict) -> None:
        self.inbox.put_nowait(message)

    async def send(self, message: dict) -> None:
        raise NotImplementedError

    def enveloped(self, params: dict | None) -> dict | None:
        if self.version != MODERN:
            return params
        meta = {
            ROOT + "protocolVersion": MODERN,
            ROOT + "clientCapabilities": CAPABILITIES,
            ROOT + "clientInfo": CLIENT,
        }
        return {**(params or {}), "_meta": {**meta, **(params or {}).get("_meta", {})}}

    async def open(self) -> list[dict]:
        if self.version == MODERN:
            return await self.ask("server/discover", None)
        found = await self.ask(
            "initialize", {"protocolVersion": self.version, "capabilities": CAPABILITIES, "clientInfo": CLIENT}
        )
        await self.send({"jsonrpc": "2.0", "method": "notifications/initialized"})
        return found

    async def ask(self, method: str, params: dict | None) -> list[dict]:
        """What came until the answer, the answer included; of a notification, what came by the next answer."""
        id = next(self.ids)
        message = {"jsonrpc": "2.0", "id": id, "method": method}
        if method.startswith("notifications/"):
            del message["id"]
        else:
            params = self.enveloped(params)
        if params is not None:
            message["params"] = params
        await self.send(message)
        if "id" not in message:
            return []
        found = []
        async with asyncio.timeout(TIMEOUT_S):
            while True:
                came = await self.inbox.get()
                found.append(came)
                if "method" in came and "id" in came:
                    await self.send({"jsonrpc": "2.0", "id": came["id"], "result": ANSWERS[came["method"]]})
                elif came.get("id") == id:
                    return found


class StockTalk(Talk):
    """Through the SDK's own dual-era loop, as it serves stdio."""

    async def send(self, message: dict) -> None:
        parsed = jsonrpc_message_adapter.validate_python(message, by_name=False)
        await self.to_server.send(SessionMessage(parsed))

    @contextlib.asynccontextmanager
    async def opened(self, app):
        low = getattr(app, "_lowlevel_server", None) or getattr(app, "_mcp_server", None) or app
        self.to_server, reads = anyio.create_memory_object_stream(64)
        writes, from_server = anyio.create_memory_object_stream(64)

        async def listen() -> None:
            async for each in from_server:
                self.take(each.message.model_dump(by_alias=True, mode="json", exclude_unset=True))

        async def serve() -> None:
            if hasattr(app, "_mcp_server"):
                from fastmcp.server.context import set_transport

                set_transport("stdio")  # as FastMCP's own run_stdio_async does
            await low.run(reads, writes, low.create_initialization_options())

        tasks = [asyncio.ensure_future(serve()), asyncio.ensure_future(listen())]
        try:
            yield self
        finally:
            await self.to_server.aclose()
            await asyncio.wait_for(asyncio.gather(*tasks), TIMEOUT_S)
            await from_server.aclose()


class OurTalk(Talk):
    """Through a link of the accelerated app."""

    async def send(self, message: dict) -> None:
        self.link.feed(json.dumps(message).encode() + b"\n")

    @contextlib.asynccontextmanager
    async def opened(self, app, level: str = "auto"):
        self.server = accelerate(app, level)
        async with self.server.running():

            def write(data: bytes) -> None:
                for line in bytes(data).splitlines():
                    self.take(json.loads(line))

            self.link = self.server.link(write)
            try:
                yield self
            finally:
                self.link.close()


def settled(messages: list[dict]) -> list[dict]:
    """Messages without what differs between any two runs: the ids of questions, sealed state, addresses."""

    def plain(value):
        if isinstance(value, dict):
            return {
                key: "sealed" if key == "requestState" and isinstance(found, str) else plain(found)
                for key, found in value.items()
            }
        if isinstance(value, str):
            return ADDRESS.sub("0x", value)
        return [plain(each) for each in value] if isinstance(value, list) else value

    found = []
    for each in messages:
        each = plain(each)
        if "method" in each:
            each.pop("id", None)
        found.append(each)
    return found


async def converse(module, talk: Talk) -> list[tuple[str, list[dict]]]:
    """Everything that a corpus module asks, with what came."""
    logging.disable(logging.CRITICAL)
    try:
        found = [("open", settled(await talk.open()))]
        for number, (method, params) in enumerate(module.REQUESTS):
            found.append((f"{number} {method} {json.dumps(params)[:160]}", settled(await talk.ask(method, params))))
        return found
    finally:
        logging.disable(logging.NOTSET)
