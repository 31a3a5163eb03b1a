"""The messages that the benchmarks of several rooms read and write."""

from __future__ import annotations

import json

META = (
    b'{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientInfo":'
    b'{"name":"bench","version":"1"},"io.modelcontextprotocol/clientCapabilities":{}}'
)
CALL = (
    b'{"jsonrpc":"2.0","id":42,"method":"tools/call","params":{"name":"echo","arguments":'
    b'{"text":"the quick brown fox"},"_meta":' + META + b"}}"
)
PING = b'{"jsonrpc":"2.0","id":42,"method":"ping"}'
RESULT = {
    "content": [{"type": "text", "text": "the quick brown fox"}],
    "structuredContent": {"result": "the quick brown fox"},
    "isError": False,
    "resultType": "complete",
}
ANSWER = json.dumps({"jsonrpc": "2.0", "id": 42, "result": RESULT}, separators=(",", ":")).encode()
TOOL = {
    "description": "Give the text back, as often as it is asked for.",
    "inputSchema": {
        "type": "object",
        "properties": {"text": {"type": "string"}, "count": {"type": "integer", "default": 1}},
        "required": ["text"],
    },
}
TOOLS = {"tools": [{"name": f"tool_{i:04}", **TOOL} for i in range(50)], "ttlMs": 0, "cacheScope": "private"}
TOOLS_TEXT = json.dumps(TOOLS, separators=(",", ":")).encode()
HEAD = (
    b"POST /mcp HTTP/1.1\r\nHost: 127.0.0.1:8000\r\nContent-Type: application/json\r\n"
    b"Accept: application/json, text/event-stream\r\nMCP-Protocol-Version: 2026-07-28\r\n"
    b"Mcp-Method: tools/call\r\nMcp-Name: echo\r\nContent-Length: %d\r\n\r\n" % len(CALL)
)
HTTP_CALL = HEAD + CALL
HTTP_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(ANSWER) + ANSWER
