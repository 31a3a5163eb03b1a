"""FastMCP's client: ``call_fastmcp.py http URL | stdio COMMAND...``."""

# mypy: ignore-errors
from __future__ import annotations

import sys

from fastmcp import Client
from fastmcp.client.transports import StdioTransport
from turn import TEXT, check, run, serve


async def main(kind, *words):
    target = words[0] if kind == "http" else StdioTransport(words[0], list(words[1:]))
    async with Client(target) as client:

        async def call():
            check((await client.call_tool("echo", {"text": TEXT})).structured_content)

        await serve(call)


if __name__ == "__main__":
    run(main(*sys.argv[1:]))
