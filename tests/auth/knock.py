"""A client that says exactly what it is told to, over HTTP/1.1 to a port of this machine."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from typing import Any

META = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientCapabilities": {},
}
WAIT_S = 30.0


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def challenge(self) -> dict[str, str]:
        """The parts of WWW-Authenticate."""
        text = self.headers["www-authenticate"].removeprefix("Bearer ")
        return {name: value.strip('"') for name, _, value in (part.partition("=") for part in text.split(", "))}

    @property
    def text(self) -> str:
        """Of the result of a tool."""
        return str(json.loads(self.body)["result"]["content"][0]["text"])


class Knock:
    """One connection; ``async with Knock(port) as knock``."""

    def __init__(self, port: int, host: str = "") -> None:
        self.port = port
        self.host = host or f"127.0.0.1:{port}"

    async def __aenter__(self) -> Knock:
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self.port)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._writer.close()
        await self._writer.wait_closed()

    async def send(self, verb: str, target: str, body: bytes = b"", headers: dict[str, str] | None = None) -> None:
        lines = [f"{verb} {target} HTTP/1.1", f"Host: {self.host}"]
        lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
        if body:
            lines.append(f"Content-Length: {len(body)}")
        self._writer.write("\r\n".join([*lines, "", ""]).encode("latin-1") + body)
        await self._writer.drain()

    async def hear(self, *, has_body: bool = True) -> Answer:
        async with asyncio.timeout(WAIT_S):
            first, *lines = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1").strip().split("\r\n")
            headers = {line.partition(":")[0].lower(): line.partition(":")[2].strip() for line in lines}
            body = await self._reader.readexactly(int(headers.get("content-length", "0"))) if has_body else b""
        return Answer(int(first.split(" ")[1]), headers, body)

    async def until_closed(self) -> bytes:
        """What comes on a stream until its end."""
        async with asyncio.timeout(WAIT_S):
            return await self._reader.readuntil(b"0\r\n\r\n")

    async def ask(self, verb: str, target: str, body: bytes = b"", **headers: str) -> Answer:
        await self.send(verb, target, body, {name.replace("_", "-"): value for name, value in headers.items()})
        return await self.hear(has_body=verb != "HEAD")

    async def call(
        self, tool: str, arguments: Any = None, token: str = "", path: str = "/mcp", **headers: str
    ) -> Answer:
        """A tool call of 2026-07-28."""
        return await self.request(
            "tools/call", tool, {"name": tool, "arguments": arguments or {}}, token, path, **headers
        )

    async def request(
        self, method: str, name: str, params: dict[str, Any], token: str = "", path: str = "/mcp", **headers: str
    ) -> Answer:
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": {"_meta": META, **params}}).encode()
        own = {
            "Content-Type": "application/json", "Accept": "application/json", "MCP-Protocol-Version": "2026-07-28",
            "Mcp-Method": method, **({"Mcp-Name": name} if name else {}),
        }  # fmt: skip
        if token:
            own["Authorization"] = f"Bearer {token}"
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        await self.send("POST", path, body, {**own, **given})
        return await self.hear()
