"""The messages that the benchmarks send: JSON-RPC bodies of both eras, and whole HTTP requests around them."""

from __future__ import annotations

import json
import os

from erlmcp.bench.load import ID_SLOT

MODERN = "2026-07-28"
LEGACY = "2025-11-25"
CLIENT = {"name": "erlmcp-bench", "version": "1"}
META = {
    "io.modelcontextprotocol/protocolVersion": MODERN,
    "io.modelcontextprotocol/clientInfo": CLIENT,
    "io.modelcontextprotocol/clientCapabilities": {},
}
TEXT = "the quick brown fox"
EXPECT = b'"text":"%s"' % TEXT.encode()


def request(method: str, params: dict[str, object], *, era: str = MODERN) -> bytes:
    """A request whose id is the load generator's slot."""
    if era == MODERN:
        params = {**params, "_meta": META}
    message = {"jsonrpc": "2.0", "id": int(ID_SLOT), "method": method, "params": params}
    return json.dumps(message, separators=(",", ":")).encode()


def call(name: str, arguments: dict[str, object], *, era: str = MODERN) -> bytes:
    return request("tools/call", {"name": name, "arguments": arguments}, era=era)


def initialize() -> bytes:
    return request("initialize", {"protocolVersion": LEGACY, "capabilities": {}, "clientInfo": CLIENT}, era=LEGACY)


INITIALIZED = b'{"jsonrpc":"2.0","method":"notifications/initialized"}'


def headers(port: int, body: bytes, *, era: str = MODERN, session: str | None = None) -> dict[str, str]:
    """The header fields that the Streamable HTTP transport asks of a client for this body (but for Content-Length),
    and the token of a benchmark with auth."""
    fields = {
        "Host": f"127.0.0.1:{port}",
        "Content-Type": "application/json",
        "Accept": "application/json, text/event-stream",
    }
    if token := os.environ.get("BENCH_TOKEN"):
        fields["Authorization"] = f"Bearer {token}"
    message = json.loads(body)
    if message["method"] != "initialize":
        fields["MCP-Protocol-Version"] = era
    if era == MODERN:
        fields["Mcp-Method"] = message["method"]
        if "name" in message.get("params", {}):
            fields["Mcp-Name"] = message["params"]["name"]
    if session is not None:
        fields["Mcp-Session-Id"] = session
    return fields


def http(port: int, body: bytes, *, era: str = MODERN, session: str | None = None) -> bytes:
    """The whole request: head and body."""
    fields = {**headers(port, body, era=era, session=session), "Content-Length": str(len(body))}
    lines = [f"{name}: {value}" for name, value in fields.items()]
    return ("POST /mcp HTTP/1.1\r\n" + "\r\n".join(lines) + "\r\n\r\n").encode() + body
