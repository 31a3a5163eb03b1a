"""The measured server: one tool, and what the environment asks for. For ``erlmcp serve`` and ``erlmcp run``."""

from __future__ import annotations

import os

from erlmcp import Server

server = Server("bench")


@server.tool
async def echo(text: str) -> str:
    """Give the text back."""
    return text


if os.environ.get("BENCH_BLOB"):

    @server.tool
    async def blob(size: int) -> str:
        """A text of this many bytes."""
        return "x" * size


def _add(name: str) -> None:
    @server.tool(name=name)
    async def numbered(text: str, count: int = 1) -> str:
        """Give the text back, count times."""
        return text * count


for number in range(int(os.environ.get("BENCH_TOOLS", "0"))):
    _add(f"tool_{number:04}")
